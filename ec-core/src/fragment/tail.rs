//! The tail: table, record, zeros and footer. The footer is written last and seals the rest.

use super::error::{FormatError, TailError};
use super::header::Header;
use super::identity::Hash;
use super::record::ExtentRecord;
use super::wire::{Fields, checked_body, limit, same};
use super::{FOOTER_BYTES, HEADER_BYTES};

const MAGIC: [u8; 8] = *b"NFFSEAL1";

/// The last bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// BLAKE3 of the header.
    pub header_hash: Hash,
    /// BLAKE3 of the tail without the footer.
    pub tail_hash: Hash,
    /// Root of the fragment.
    pub root: Hash,
    /// Bytes of the payload.
    pub payload_bytes: u64,
}

impl Footer {
    /// The footer as it lies in the file.
    pub fn to_bytes(&self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..40].copy_from_slice(self.header_hash.as_bytes());
        bytes[40..72].copy_from_slice(self.tail_hash.as_bytes());
        bytes[72..104].copy_from_slice(self.root.as_bytes());
        bytes[104..112].copy_from_slice(&self.payload_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..FOOTER_BYTES - 4]);
        bytes[FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a footer.
    ///
    /// # Errors
    /// [`TailError::Absent`] where nothing was written, [`TailError::Footer`] where there is a damaged seal: what does not even begin as one
    /// was written all the same, and a file that was never finished has zeros there.
    pub fn parse(bytes: &[u8]) -> Result<Self, TailError> {
        if bytes.len() != FOOTER_BYTES || bytes.iter().all(|byte| *byte == 0) {
            return Err(TailError::Absent);
        }
        Self::parse_sealed(bytes).map_err(TailError::Footer)
    }

    fn parse_sealed(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::new("footer", checked_body("footer", bytes)?);
        fields.magic(&MAGIC)?;
        let mut hash = || fields.array().map(Hash::new);
        let (header_hash, tail_hash, root) = (hash()?, hash()?, hash()?);
        let payload_bytes = fields.u64()?;
        fields.zeros(12)?;
        Ok(Self { header_hash, tail_hash, root, payload_bytes })
    }
}

/// What the tail of a fragment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The CRC of each block.
    pub table: Vec<u32>,
    /// The extent record.
    pub record: ExtentRecord,
    /// The record verbatim, which is what is hashed, compared and handed on.
    pub record_bytes: Vec<u8>,
    /// The root the footer names.
    pub root: Hash,
}

/// Makes the tail of a finished fragment.
///
/// # Errors
/// Parts that do not belong together. What is written here is what [`parse_tail`] and [`judge`](super::judge) accept.
pub fn build_tail(
    header: &Header,
    header_bytes: &[u8; HEADER_BYTES],
    table: &[u32],
    record: &[u8],
    root: &Hash,
) -> Result<Vec<u8>, FormatError> {
    header.check()?;
    if Header::parse(header_bytes)? != *header {
        return Err(FormatError::Inconsistent { what: "the header bytes are of another header" });
    }
    let layout = header.layout();
    same("table entries", layout.blocks.into(), table.len() as u64)?;
    same("record bytes", layout.record_bytes, record.len() as u64)?;
    let names_it = ExtentRecord::parse(record)?
        .fragments
        .get(header.identity.index.at())
        .is_some_and(|entry| entry.identity == header.identity && entry.root == *root);
    if !names_it {
        return Err(FormatError::Inconsistent { what: "the record does not name this fragment with this root" });
    }
    // The header was checked, so the tail is at most 1 MiB of table and 64 KiB of record.
    let tail_bytes = usize::try_from(layout.tail_bytes).unwrap_or(usize::MAX);
    let mut tail = Vec::with_capacity(tail_bytes);
    tail.extend(table.iter().flat_map(|crc| crc.to_le_bytes()));
    tail.extend_from_slice(record);
    tail.resize(tail_bytes - FOOTER_BYTES, 0);
    let (header_hash, tail_hash) = (Hash::of(header_bytes), Hash::of(&tail));
    let footer = Footer { header_hash, tail_hash, root: *root, payload_bytes: layout.payload_bytes };
    tail.extend_from_slice(&footer.to_bytes());
    Ok(tail)
}

/// Reads the tail that belongs to a header. Nothing in it is believed before the footer's seal and hashes held.
///
/// # Errors
/// [`TailError`], whose variants tell a file that was never sealed from one that was damaged later, and where.
pub fn parse_tail(header: &Header, header_bytes: &[u8], tail: &[u8]) -> Result<Tail, TailError> {
    let layout = header.layout();
    if tail.len() as u64 != layout.tail_bytes {
        return Err(TailError::Length { expected: layout.tail_bytes, found: tail.len() as u64 });
    }
    let Some((sealed, footer)) = tail.split_last_chunk::<FOOTER_BYTES>() else {
        return Err(TailError::Length { expected: layout.tail_bytes, found: tail.len() as u64 });
    };
    let footer = Footer::parse(footer)?;
    if footer.header_hash != Hash::of(header_bytes) {
        return Err(TailError::HeaderHash);
    }
    if footer.tail_hash != Hash::of(sealed) {
        return Err(TailError::TailHash);
    }
    same("payload_bytes", layout.payload_bytes, footer.payload_bytes).map_err(TailError::Footer)?;
    let mut fields = Fields::new("tail", sealed);
    read_sealed(header, &mut fields, footer.root).map_err(TailError::Record)
}

fn read_sealed(header: &Header, fields: &mut Fields<'_>, root: Hash) -> Result<Tail, FormatError> {
    let layout = header.layout();
    limit("record_bytes", layout.record_bytes, 1, super::RECORD_BYTES_MAX as u64)?;
    let mut table = Vec::new();
    for entry in fields.take(usize::try_from(layout.table_bytes).unwrap_or(usize::MAX))?.chunks_exact(4) {
        table.push(Fields::new("table", entry).u32()?);
    }
    let record_bytes = fields.take(header.record_bytes as usize)?.to_vec();
    let record = ExtentRecord::parse(&record_bytes)?;
    if (record.cell, record.extent) != (header.identity.cell, header.identity.extent) {
        return Err(FormatError::Inconsistent { what: "the record is of another extent" });
    }
    fields.zeros_to_end()?;
    Ok(Tail { table, record, record_bytes, root })
}

/// Whether bytes that need not belong to any header end in a sealed footer. Tells a file whose header rotted from one that
/// was never a whole fragment.
pub fn scan_footer(last_128: &[u8]) -> Option<Footer> {
    Footer::parse(last_128).ok()
}
