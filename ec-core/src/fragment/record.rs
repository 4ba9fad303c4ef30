//! The extent record: what an extent is, which fragments it has and which stream it is part of. The same bytes are in all
//! fragments of the extent, so any one of them tells what must exist.

use super::error::FormatError;
use super::identity::{BirthIdentity, CellId, ExtentId, Hash, StreamId};
use super::wire::{Fields, checked_body, limit, same};
use super::{IDENTITY_BYTES, NAME_BYTES_MAX, RECORD_BYTES_MAX};
use crate::code::CodeSpec;
use crate::geometry::{EXTENT_BYTES_MAX, Geometry};

const MAGIC: [u8; 4] = *b"NFXR";
const VERSION: u16 = 1;
/// Bytes before the name.
const FIXED_BYTES: usize = 160;
const FRAGMENT_BYTES: usize = IDENTITY_BYTES + 32;
const STREAM_EXTENT_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// `stream_bytes` of a stream that is still growing.
const STREAM_BYTES_UNKNOWN: u64 = u64::MAX;
/// An extension of such a type changes the meaning of the record.
const EXTENSION_CRITICAL: u16 = 0x8000;

/// A fragment as its extent's record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentEntry {
    /// What it was born as.
    pub identity: BirthIdentity,
    /// Its root.
    pub root: Hash,
}

/// One extent of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamExtent {
    /// The extent.
    pub extent: ExtentId,
    /// Where in the stream its first byte is.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl StreamExtent {
    /// Bytes each listed extent takes in the record.
    pub const ENCODED_BYTES: usize = STREAM_EXTENT_BYTES;
}

/// What the bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// The bytes of one file.
    File,
    /// Many files, as `docs/format/pack.md` says.
    Pack,
}

impl Content {
    fn number(self) -> u16 {
        match self {
            Self::File => 1,
            Self::Pack => 2,
        }
    }
}

/// The record of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentRecord {
    /// Cell of the extent.
    pub cell: CellId,
    /// The extent.
    pub extent: ExtentId,
    /// Revision of this record, from 1.
    pub revision: u64,
    /// The code of the extent.
    pub code: CodeSpec,
    /// Bytes of the extent.
    pub extent_bytes: u64,
    /// BLAKE3 of the extent's bytes, without padding.
    pub extent_hash: Hash,
    /// The stream the extent is part of.
    pub stream: StreamId,
    /// Position of the extent in its stream, from 0.
    pub ordinal: u64,
    /// Where in the stream the extent's first byte is.
    pub offset: u64,
    /// Bytes of the whole stream; `None` while they are not known.
    pub stream_bytes: Option<u64>,
    /// What the stream's bytes are.
    pub content: Content,
    /// Name of the stream. Bytes without NUL, and no path.
    pub name: Vec<u8>,
    /// All fragments by index.
    pub fragments: Vec<FragmentEntry>,
    /// All extents of the stream by ordinal; empty when they are not known or do not fit.
    pub extents: Vec<StreamExtent>,
}

impl ExtentRecord {
    /// The hash of a record as it lies in the file.
    pub fn hash(bytes: &[u8]) -> Hash {
        Hash::of(bytes)
    }

    /// Bytes of the encoded record. Counts `n` fragments whether they are listed yet or not, so that headers and tables can
    /// be laid out before the first root is known.
    pub fn encoded_bytes(&self) -> usize {
        // `n` is at most 256, and a `Vec` of 32-byte elements has fewer than `usize::MAX / 32`: only the name could saturate.
        let lists = FRAGMENT_BYTES * self.code.n() + STREAM_EXTENT_BYTES * self.extents.len();
        self.name.len().saturating_add(FIXED_BYTES + lists + CRC_BYTES)
    }

    /// The record as it lies in the file.
    ///
    /// # Errors
    /// Whatever [`ExtentRecord::parse`] would refuse.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        limit("record bytes", self.encoded_bytes() as u64, 1, RECORD_BYTES_MAX as u64)?;
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        self.write_fixed(&mut bytes)?;
        bytes.extend_from_slice(&self.name);
        for fragment in &self.fragments {
            bytes.extend_from_slice(&fragment.identity.to_bytes());
            bytes.extend_from_slice(fragment.root.as_bytes());
        }
        for element in &self.extents {
            bytes.extend_from_slice(&element.extent.0.to_be_bytes());
            bytes.extend_from_slice(&element.offset.to_le_bytes());
            bytes.extend_from_slice(&element.bytes.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    fn write_fixed(&self, bytes: &mut Vec<u8>) -> Result<(), FormatError> {
        let over =
            |what, found: usize| FormatError::Limit { what, value: found as u64, min: 0, max: RECORD_BYTES_MAX as u64 };
        let u16_of = |what, value: usize| u16::try_from(value).map_err(|_| over(what, value));
        let u32_of = |what, value: usize| u32::try_from(value).map_err(|_| over(what, value));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.cell.0.to_be_bytes());
        bytes.extend_from_slice(&self.extent.0.to_be_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.code.to_descriptor());
        bytes.extend_from_slice(&self.extent_bytes.to_le_bytes());
        bytes.extend_from_slice(self.extent_hash.as_bytes());
        bytes.extend_from_slice(&self.stream.0.to_be_bytes());
        for number in [self.ordinal, self.offset, self.stream_bytes.unwrap_or(STREAM_BYTES_UNKNOWN)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.content.number().to_le_bytes());
        bytes.extend_from_slice(&u16_of("name bytes", self.name.len())?.to_le_bytes());
        bytes.extend_from_slice(&u16_of("fragments", self.fragments.len())?.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&u32_of("extents", self.extents.len())?.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes()); // extension_bytes: version 1 writes none
        Ok(())
    }

    /// Reads a record. Extensions that are not critical are skipped; who keeps a record keeps its bytes.
    ///
    /// # Errors
    /// Damage, a broken limit, fields that contradict each other, or a newer format ([`FormatError::is_newer`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        limit("record bytes", bytes.len() as u64, 1, RECORD_BYTES_MAX as u64)?;
        Fields::new("record", bytes).magic(&MAGIC)?;
        let mut fields = Fields::new("record", checked_body("record", bytes)?);
        fields.magic(&MAGIC)?;
        read_version(&mut fields)?;
        let (cell, extent) = (CellId(fields.id()?), ExtentId(fields.id()?));
        let (revision, code, extent_bytes) = (fields.u64()?, fields.code()?, fields.u64()?);
        let (extent_hash, stream) = (Hash::new(fields.array()?), StreamId(fields.id()?));
        let (ordinal, offset, stream_bytes) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let stream_bytes = if stream_bytes == STREAM_BYTES_UNKNOWN { None } else { Some(stream_bytes) };
        let content = read_content(fields.u16()?)?;
        let (name_bytes, fragments) = (fields.u16()?, fields.u16()?);
        fields.zeros(2)?;
        let (extents, extension_bytes) = (fields.u32()?, fields.u32()?);
        // All counts are 32 bits at most: no sum of these overflows. When it is right, the bytes at hand bound every loop.
        let expected = (FIXED_BYTES + CRC_BYTES) as u64
            + u64::from(name_bytes)
            + FRAGMENT_BYTES as u64 * u64::from(fragments)
            + STREAM_EXTENT_BYTES as u64 * u64::from(extents)
            + u64::from(extension_bytes);
        same("record bytes", expected, bytes.len() as u64)?;
        let name = fields.take(name_bytes.into())?.to_vec();
        let fragments = (0..fragments).map(|_| read_fragment(&mut fields)).collect::<Result<_, _>>()?;
        let extents = (0..extents).map(|_| read_stream_extent(&mut fields)).collect::<Result<_, _>>()?;
        skip_extensions(&mut fields)?;
        #[rustfmt::skip]
        let record = Self {
            cell, extent, revision, code, extent_bytes, extent_hash, stream, ordinal, offset, stream_bytes, content, name,
            fragments, extents,
        };
        record.check()?;
        Ok(record)
    }

    /// Whether the fields are within their limits and agree with each other.
    fn check(&self) -> Result<(), FormatError> {
        limit("revision", self.revision, 1, u64::MAX)?;
        limit("extent_bytes", self.extent_bytes, 0, EXTENT_BYTES_MAX)?;
        limit("name bytes", self.name.len() as u64, 0, NAME_BYTES_MAX as u64)?;
        if self.name.contains(&0) {
            return Err(FormatError::Inconsistent { what: "the name has a NUL" });
        }
        self.check_fragments()?;
        let stream_bytes_max = self.stream_bytes.unwrap_or(STREAM_BYTES_UNKNOWN - 1);
        limit("stream_bytes", stream_bytes_max, 0, STREAM_BYTES_UNKNOWN - 1)?;
        let Some(end) = self.offset.checked_add(self.extent_bytes) else {
            return Err(FormatError::Limit { what: "offset", value: self.offset, min: 0, max: stream_bytes_max });
        };
        limit("end of the extent in its stream", end, 0, stream_bytes_max)?;
        if self.ordinal == 0 {
            same("offset of ordinal 0", 0, self.offset)?;
        }
        if self.extents.is_empty() { Ok(()) } else { self.check_extents() }
    }

    fn check_fragments(&self) -> Result<(), FormatError> {
        same("fragments of the record", self.code.n() as u64, self.fragments.len() as u64)?;
        let payload_bytes = Geometry::new(self.extent_bytes, self.code.k()).shard_bytes();
        for (index, FragmentEntry { identity, .. }) in (0u64..).zip(&self.fragments) {
            identity.check()?;
            same("index of a fragment entry", index, identity.index.get().into())?;
            same("payload_bytes of a fragment entry", payload_bytes, identity.payload_bytes)?;
            if (identity.cell, identity.extent) != (self.cell, self.extent) {
                return Err(FormatError::Inconsistent { what: "a fragment entry is of another extent" });
            }
        }
        Ok(())
    }

    fn check_extents(&self) -> Result<(), FormatError> {
        let mut end = 0u64;
        for element in &self.extents {
            limit("bytes of a listed extent", element.bytes, 0, EXTENT_BYTES_MAX)?;
            same("offset of a listed extent", end, element.offset)?;
            let Some(next) = end.checked_add(element.bytes) else {
                return Err(FormatError::Limit { what: "offset", value: end, min: 0, max: STREAM_BYTES_UNKNOWN - 1 });
            };
            end = next;
        }
        if self.stream_bytes != Some(end) {
            return Err(FormatError::Mismatch {
                what: "stream_bytes",
                expected: end,
                found: self.stream_bytes.unwrap_or(STREAM_BYTES_UNKNOWN),
            });
        }
        let own = StreamExtent { extent: self.extent, offset: self.offset, bytes: self.extent_bytes };
        let listed = usize::try_from(self.ordinal).ok().and_then(|ordinal| self.extents.get(ordinal));
        if listed != Some(&own) {
            return Err(FormatError::Inconsistent {
                what: "the list of extents does not have this extent at its ordinal",
            });
        }
        let mut ids: Vec<ExtentId> = self.extents.iter().map(|element| element.extent).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(FormatError::Inconsistent { what: "the list of extents has an extent twice" });
        }
        Ok(())
    }
}

fn read_version(fields: &mut Fields<'_>) -> Result<(), FormatError> {
    let (version, critical_flags) = (fields.u16()?, fields.u16()?);
    if version > VERSION {
        return Err(FormatError::NewerFormat { what: "record", needed: version, known: VERSION });
    }
    limit("record version", version.into(), VERSION.into(), VERSION.into())?;
    if critical_flags != 0 {
        return Err(FormatError::CriticalFlags { what: "record", bits: critical_flags.into() });
    }
    Ok(())
}

fn read_content(number: u16) -> Result<Content, FormatError> {
    [Content::File, Content::Pack]
        .into_iter()
        .find(|content| content.number() == number)
        .ok_or(FormatError::Unknown { field: "content", value: number.into() })
}

fn read_fragment(fields: &mut Fields<'_>) -> Result<FragmentEntry, FormatError> {
    Ok(FragmentEntry { identity: BirthIdentity::from_bytes(&fields.array()?)?, root: Hash::new(fields.array()?) })
}

fn read_stream_extent(fields: &mut Fields<'_>) -> Result<StreamExtent, FormatError> {
    Ok(StreamExtent { extent: ExtentId(fields.id()?), offset: fields.u64()?, bytes: fields.u64()? })
}

/// Version 1 knows no extension.
fn skip_extensions(fields: &mut Fields<'_>) -> Result<(), FormatError> {
    while !fields.is_empty() {
        let (kind, bytes) = (fields.u16()?, fields.u16()?);
        if kind & EXTENSION_CRITICAL != 0 {
            return Err(FormatError::CriticalFlags { what: "record extension", bits: kind.into() });
        }
        fields.take(bytes.into())?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
