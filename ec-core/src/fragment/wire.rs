//! Reading fields in order without believing any length.

use super::error::FormatError;
use crate::code::DESCRIPTOR_BYTES;

/// Bytes not yet read of one part of a fragment.
pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], FormatError> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else { return Err(self.short(bytes)) };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return Err(self.short(N)) };
        self.rest = rest;
        Ok(*taken)
    }

    fn short(&self, bytes: usize) -> FormatError {
        FormatError::Length { what: self.what, expected: bytes as u64, found: self.rest.len() as u64 }
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Ids are big-endian, so that their bytes sort and print as their hex digits do.
    pub(super) fn id(&mut self) -> Result<u128, FormatError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(super) fn code(&mut self) -> Result<crate::CodeSpec, FormatError> {
        Ok(crate::CodeSpec::from_descriptor(&self.array::<DESCRIPTOR_BYTES>()?)?)
    }

    pub(super) fn zeros(&mut self, bytes: usize) -> Result<(), FormatError> {
        if self.take(bytes)?.iter().any(|&byte| byte != 0) {
            return Err(FormatError::NotZero { what: self.what });
        }
        Ok(())
    }

    pub(super) fn magic(&mut self, magic: &[u8]) -> Result<(), FormatError> {
        if self.take(magic.len())? != magic {
            return Err(FormatError::Magic { what: self.what });
        }
        Ok(())
    }

    pub(super) fn zeros_to_end(&mut self) -> Result<(), FormatError> {
        self.zeros(self.rest.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Splits off the last four bytes, which are the CRC of the bytes before.
pub(super) fn checked_body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let Some((body, stored)) = bytes.split_last_chunk::<4>() else {
        return Err(FormatError::Length { what, expected: 4, found: bytes.len() as u64 });
    };
    let (stored, found) = (u32::from_le_bytes(*stored), crc32fast::hash(body));
    if stored != found {
        return Err(FormatError::Checksum { what, stored, found });
    }
    Ok(body)
}

pub(super) fn limit(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), FormatError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(FormatError::Limit { what, value, min, max }) }
}

pub(super) fn same(what: &'static str, expected: u64, found: u64) -> Result<(), FormatError> {
    if expected == found { Ok(()) } else { Err(FormatError::Mismatch { what, expected, found }) }
}
