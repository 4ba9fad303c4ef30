//! The first 4096 bytes of a fragment, and the layout they determine.

use super::error::FormatError;
use super::identity::BirthIdentity;
use super::wire::{Fields, checked_body, limit, same};
use super::{FOOTER_BYTES, HEADER_BYTES, IDENTITY_BYTES, RECORD_BYTES_MAX};
use crate::code::CodeSpec;
use crate::geometry::{BLOCK_BYTES, EXTENT_BYTES_MAX, Geometry};

/// As PNG's: a set top bit, CR LF, SUB and LF show what mail and text transfers do to a file.
const MAGIC: [u8; 8] = *b"\x89NFF\r\n\x1a\n";
/// The version this library writes, and the newest whose `min_reader` it satisfies.
const VERSION: u16 = 1;
const RESERVED_BYTES: usize = 3984;
/// Bytes of one CRC of the table.
const TABLE_ENTRY_BYTES: u64 = 4;

/// What a fragment says about itself before anything else is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the fragment was born as.
    pub identity: BirthIdentity,
    /// The code it was born in.
    pub code: CodeSpec,
    /// Bytes of the extent.
    pub extent_bytes: u64,
    /// Bytes of the extent record in the tail.
    pub record_bytes: u32,
}

impl Header {
    /// The header as it lies in the file.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[24..80].copy_from_slice(&self.identity.to_bytes());
        bytes[80..96].copy_from_slice(&self.code.to_descriptor());
        bytes[96..104].copy_from_slice(&self.extent_bytes.to_le_bytes());
        bytes[104..108].copy_from_slice(&self.record_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Damage, a broken limit, or a newer format, which [`FormatError::is_newer`] tells from the others.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        same("header bytes", HEADER_BYTES as u64, bytes.len() as u64)?;
        Fields::new("header", bytes).magic(&MAGIC)?;
        let mut fields = Fields::new("header", checked_body("header", bytes)?);
        fields.magic(&MAGIC)?;
        let version = read_version(&mut fields)?;
        let _info_flags = fields.u32()?;
        let reserved = fields.u32()?;
        let identity = BirthIdentity::from_bytes(&fields.array::<IDENTITY_BYTES>()?)?;
        let header = Self { identity, code: fields.code()?, extent_bytes: fields.u64()?, record_bytes: fields.u32()? };
        // A later version that version 1 may read is free to use the reserved bytes.
        if version == VERSION {
            same("reserved header bytes", 0, reserved.into())?;
            fields.zeros(RESERVED_BYTES)?;
        }
        header.check()?;
        Ok(header)
    }

    /// Whether the numbers agree with each other and with the limits.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        self.identity.check()?;
        limit("extent_bytes", self.extent_bytes, 0, EXTENT_BYTES_MAX)?;
        limit("record_bytes", self.record_bytes.into(), 1, RECORD_BYTES_MAX as u64)?;
        let last = (self.code.n() as u64).saturating_sub(1);
        limit("shard index", self.identity.index.get().into(), 0, last)?;
        let shard_bytes = Geometry::new(self.extent_bytes, self.code.k()).shard_bytes();
        same("payload_bytes", shard_bytes, self.identity.payload_bytes)
    }

    /// Where everything lies. Exact for every header that [`Header::parse`] takes; saturates instead of overflowing for others.
    pub fn layout(&self) -> Layout {
        let (block, footer) = (BLOCK_BYTES as u64, FOOTER_BYTES as u64);
        let payload_bytes = self.identity.payload_bytes;
        let blocks = u32::try_from(payload_bytes / block).unwrap_or(u32::MAX);
        let (payload_at, table_bytes) = (HEADER_BYTES as u64, TABLE_ENTRY_BYTES * u64::from(blocks));
        let table_at = payload_at.saturating_add(payload_bytes);
        let tail_bytes = (table_bytes + u64::from(self.record_bytes) + footer).div_ceil(block) * block;
        let file_bytes = table_at.saturating_add(tail_bytes);
        Layout {
            payload_at,
            payload_bytes,
            table_at,
            table_bytes,
            record_at: table_at.saturating_add(table_bytes),
            record_bytes: self.record_bytes.into(),
            footer_at: file_bytes.saturating_sub(footer),
            tail_bytes,
            file_bytes,
            blocks,
        }
    }
}

/// Reads version, min_reader and critical flags, whose places no version moves.
fn read_version(fields: &mut Fields<'_>) -> Result<u16, FormatError> {
    let (version, min_reader, critical_flags) = (fields.u16()?, fields.u16()?, fields.u32()?);
    if min_reader > VERSION {
        return Err(FormatError::NewerFormat { what: "header", needed: min_reader, known: VERSION });
    }
    if critical_flags != 0 {
        return Err(FormatError::CriticalFlags { what: "header", bits: critical_flags });
    }
    limit("min_reader", min_reader.into(), 1, version.into())?;
    Ok(version)
}

/// Where the parts of a fragment lie in its file. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where the payload begins.
    pub payload_at: u64,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Where the table begins, and with it the tail.
    pub table_at: u64,
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Where the extent record begins.
    pub record_at: u64,
    /// Bytes of the extent record.
    pub record_bytes: u64,
    /// Where the footer begins.
    pub footer_at: u64,
    /// Bytes of table, record, zeros and footer.
    pub tail_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Blocks of the payload.
    pub blocks: u32,
}

#[cfg(test)]
mod tests {
    use super::super::identity::{CellId, ExtentId};
    use super::*;
    use crate::shard::ShardIndex;

    fn header() -> Header {
        let (cell, extent) = (CellId(0), ExtentId(9));
        let identity = BirthIdentity { cell, extent, generation: 1, index: ShardIndex::new(5), payload_bytes: 12_288 };
        Header { identity, code: "rs:4+2@power".parse().unwrap(), extent_bytes: 40_000, record_bytes: 1000 }
    }

    /// The header with some bytes replaced and the CRC made right again.
    fn forged(at: usize, bytes: &[u8]) -> Result<Header, FormatError> {
        let mut header = header().to_bytes();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        Header::parse(&with_right_crc(header))
    }

    fn with_right_crc(mut header: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let crc = crc32fast::hash(&header[..4092]);
        header[4092..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    #[test]
    fn a_header_is_read_back_and_lays_out_the_file() {
        assert_eq!(Header::parse(&header().to_bytes()), Ok(header()));
        let layout = header().layout();
        assert_eq!((layout.table_at, layout.record_at, layout.footer_at), (16_384, 16_396, 20_480 - 128));
        assert_eq!((layout.tail_bytes, layout.file_bytes, layout.blocks), (4096, 20_480, 3));
        let mut other = header();
        other.record_bytes = 4096 - 128 - 12;
        assert_eq!(other.layout().tail_bytes, 4096);
        other.record_bytes += 1;
        assert_eq!(other.layout().tail_bytes, 8192);
    }

    #[test]
    fn the_layout_of_impossible_numbers_does_not_overflow() {
        let mut other = header();
        (other.identity.payload_bytes, other.record_bytes) = (u64::MAX, u32::MAX);
        assert_eq!(other.layout().file_bytes, u64::MAX);
    }

    #[test]
    fn hostile_numbers_with_a_right_crc_are_refused() {
        let hostile: &[(usize, &[u8])] = &[
            (8, &[0, 0]),                       // version below min_reader
            (10, &[0, 0]),                      // min_reader 0
            (20, &[1]),                         // reserved
            (56, &[0; 8]),                      // generation 0
            (64, &[0, 0x40]),                   // payload_bytes of another geometry
            (64, &[0xff; 8]),                   // payload_bytes 2^64-1
            (71, &[0x80]),                      // payload_bytes 2^63 + right
            (72, &[6, 0]),                      // index n
            (72, &[0xff, 0xff]),                // index 65535
            (74, &[13]),                        // block size
            (77, &[1]),                         // reserved in the identity
            (80, &[0]),                         // family 0
            (84, &[0, 0]),                      // k = 0
            (86, &[0xff, 0xff]),                // n = 65535
            (86, &[1, 1]),                      // n = 257
            (86, &[4, 0]),                      // n = k
            (92, &[1]),                         // slot
            (96, &[0xff; 8]),                   // extent_bytes 2^64-1
            (96, &[1, 0, 0, 0x40, 0, 0, 0, 0]), // extent_bytes 2^30 + 1
            (104, &[0; 4]),                     // record_bytes 0
            (104, &[1, 0, 1, 0]),               // record_bytes 65,537
            (104, &[0xff; 4]),                  // record_bytes 2^32-1
            (108, &[1]),                        // zeros
            (4091, &[1]),                       // last of the zeros
        ];
        for (at, bytes) in hostile {
            assert!(forged(*at, bytes).is_err(), "{bytes:?} at {at}");
        }
        assert!(Header::parse(&header().to_bytes()[1..]).is_err() && Header::parse(&[]).is_err());
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        assert_eq!(forged(8, &[2, 0, 2, 0]), Err(FormatError::NewerFormat { what: "header", needed: 2, known: 1 }));
        for (at, bytes) in [(10, &[2][..]), (10, &[0xff, 0xff]), (12, &[1]), (15, &[0x80])] {
            assert!(forged(at, bytes).unwrap_err().is_newer(), "{bytes:?} at {at}");
        }
        for (at, bytes) in [(0, &[0][..]), (20, &[1]), (64, &[0; 8]), (104, &[0; 4]), (108, &[1])] {
            assert!(!forged(at, bytes).unwrap_err().is_newer(), "{bytes:?} at {at}");
        }
        // Unknown values: block size, algorithms, family, field, matrix, and codes with k = 0, n = 65535 or a slot. By
        // themselves damage, in this version and in a later one that still allows reader 1; not where the header says more.
        let unknown: [(usize, &[u8]); 9] = [
            (74, &[16]),
            (75, &[2]),
            (76, &[2]),
            (80, &[9]),
            (81, &[2]),
            (82, &[9]),
            (84, &[0, 0]),
            (86, &[0xff; 2]),
            (92, &[1]),
        ];
        for (at, bytes) in unknown {
            for (start, newer) in [
                ([1, 0, 1, 0, 0, 0, 0, 0], false),
                ([2, 0, 1, 0, 0, 0, 0, 0], false),
                ([2, 0, 2, 0, 0, 0, 0, 0], true),
                ([1, 0, 1, 0, 0, 0, 1, 0], true),
            ] {
                let mut header = header().to_bytes();
                header[8..16].copy_from_slice(&start);
                header[at..at + bytes.len()].copy_from_slice(bytes);
                let refused = Header::parse(&with_right_crc(header)).unwrap_err();
                assert_eq!(refused.is_newer(), newer, "{bytes:?} at {at}, {start:?}: {refused}");
            }
        }
        // Info flags, and reserved bytes of a later version that still allows reader 1, mean nothing to it.
        for (at, bytes) in [(16, &[0xff; 4][..]), (8, &[2, 0])] {
            assert_eq!(forged(at, bytes), Ok(header()), "{bytes:?} at {at}");
        }
        let mut later = header().to_bytes();
        (later[8], later[200]) = (2, 7);
        assert_eq!(Header::parse(&with_right_crc(later)), Ok(header()));
    }
}
