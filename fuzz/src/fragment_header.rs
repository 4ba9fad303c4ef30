//! Headers, records, footers and tails: as the bytes are, and with every checksum made right first.

use crate::classes::{header_says_newer, record_says_newer};
use crate::extent::{Extent, Plan};
use crate::{Input, bounded, set_crc};
use ec_core::fragment::{
    BirthIdentity, CellId, Class, ExtentId, ExtentRecord, FOOTER_BYTES, Footer, FormatError, FragmentName,
    HEADER_BYTES, Hash, Header, IDENTITY_BYTES, Layout, NAME_BYTES_MAX, RECORD_BYTES_MAX, Structure, TailError,
    examine, examine_structure, parse_tail, scan_footer,
};
use ec_core::geometry::{BLOCK_BYTES, EXTENT_BYTES_MAX};
use ec_core::shard::SHARDS_MAX;
use ec_core::{Code, Geometry, ShardIndex};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Errors hold numbers and fixed texts; the longest quotes the reason a code was refused for.
const MESSAGE_BYTES_MAX: usize = 400;
/// Table (4 bytes for each block), record and footer of the largest fragment, in whole blocks.
const TAIL_BYTES_MAX: u64 = (4 * (EXTENT_BYTES_MAX / BLOCK_BYTES as u64) + (RECORD_BYTES_MAX + FOOTER_BYTES) as u64)
    .div_ceil(BLOCK_BYTES as u64)
    * BLOCK_BYTES as u64;
/// No header makes its file longer: 1 GiB of payload, and 0.1 % of it around.
const FILE_BYTES_MAX: u64 = HEADER_BYTES as u64 + EXTENT_BYTES_MAX + TAIL_BYTES_MAX;
/// Replacements that one input makes in a record or header.
const PATCHES_MAX: usize = 32;
/// Before the name of a record.
const RECORD_FIXED_BYTES: usize = 160;

/// Any bytes as each part of a fragment, then as patches of parts that were right, with the checksums made right again.
pub fn fragment_header(bytes: &[u8]) {
    let bytes = bounded(bytes);
    as_given(bytes);
    header_with_right_crc(bytes);
    record_with_right_crc(bytes);
    footer_with_right_crc(bytes);
    tail_with_right_seal(bytes);

    let base = base();
    let mut header = base.fragments[0].file[..HEADER_BYTES].to_vec();
    patch(&mut header, bytes);
    header_with_right_crc(&header);

    let mut record = base.record_bytes.clone();
    patch_and_splice(&mut record, bytes);
    record_with_right_crc(&record);
}

/// An extent in `rs:4+2@power`, whose fragments and record are patched.
fn base() -> &'static Extent {
    static BASE: OnceLock<Extent> = OnceLock::new();
    BASE.get_or_init(|| {
        let code = Code::new(&"rs:4+2@power".parse().expect("a code")).expect("a small MDS code");
        Extent::encode(Plan { code: &code, extent: ExtentId(9), generation: 1, extent_bytes: 5_000, paint: 1 })
    })
}

/// Replaces up to 8 bytes at each of some places: place (2), count (1), bytes.
fn patch(target: &mut [u8], bytes: &[u8]) {
    let mut input = Input(bytes);
    for _ in 0..PATCHES_MAX {
        if input.is_empty() {
            break;
        }
        let (at, count) = (input.below(target.len()), usize::from(input.byte()) % 9);
        for place in target.iter_mut().skip(at).take(count) {
            *place = input.byte();
        }
    }
}

/// As [`patch`] for a record, after its first bytes said how much is put into it and where.
fn patch_and_splice(record: &mut Vec<u8>, bytes: &[u8]) {
    let mut input = Input(bytes);
    let (kind, at, count) = (input.byte() % 4, input.below(record.len()), usize::from(input.byte()));
    match kind {
        0 => {}
        1 => drop(record.drain(at..(at + count).min(record.len()))),
        2 => drop(record.splice(at..at, (0..count).map(|_| input.byte()).collect::<Vec<_>>())),
        _ => {
            // Extension bytes where they belong, their length with them.
            let body = record.len() - 4;
            record.splice(body..body, (0..count).map(|_| input.byte()).collect::<Vec<_>>());
            record[156..RECORD_FIXED_BYTES].copy_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        }
    }
    patch(record, input.0);
}

fn says_why(error: &impl ToString) {
    let message = error.to_string();
    assert!((1..=MESSAGE_BYTES_MAX).contains(&message.len()), "{} bytes: {message}", message.len());
}

/// The bytes of a part of at most `N` bytes; what is short is filled up with zeros.
fn filled<const N: usize>(bytes: &[u8]) -> [u8; N] {
    Input(bytes).array()
}

fn as_given(bytes: &[u8]) {
    header(bytes);
    let header_region = &bytes[..bytes.len().min(HEADER_BYTES)];
    header(header_region);
    record(bytes);
    let last = &bytes[bytes.len().saturating_sub(FOOTER_BYTES)..];
    footer(last);
    if let Ok(identity) = BirthIdentity::from_bytes(&filled::<IDENTITY_BYTES>(bytes)) {
        assert_eq!(identity.to_bytes(), filled::<IDENTITY_BYTES>(bytes));
        assert_eq!(FragmentName::parse(&identity.file_name()).map(|name| name.generation), Some(identity.generation));
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(name) = FragmentName::parse(&text) {
        assert_eq!(name.to_string(), text, "a fragment has one name");
    }
    for file_bytes in [0, bytes.len() as u64, u64::MAX] {
        structure(file_bytes, header_region, last);
    }
    let examination = examine(bytes);
    assert_eq!(examination.reason.is_empty(), examination.class == Class::Healthy, "{}", examination.reason);
    if examination.class == Class::Healthy {
        assert!(examination.header.is_some() && examination.bad_blocks.is_empty());
        assert_eq!(examination.tail.map(|tail| tail.root), examination.root);
    }
}

fn structure(file_bytes: u64, header_region: &[u8], last: &[u8]) {
    let sealed = scan_footer(last).is_some();
    match (Header::parse(header_region), examine_structure(file_bytes, header_region, last)) {
        (Ok(header), Structure::Ok(found, layout)) => {
            assert_eq!((found, layout, layout.file_bytes), (header, header.layout(), file_bytes));
        }
        (Ok(header), Structure::Damaged(Class::TornCommitted, reason)) => {
            assert_ne!(header.layout().file_bytes, file_bytes, "{reason}");
        }
        (Err(error), Structure::Damaged(class, _)) => {
            let expected = match (header_says_newer(header_region), sealed) {
                (true, _) => Class::Unsupported,
                (false, true) => Class::RotHeader,
                (false, false) => Class::TornUncommitted,
            };
            assert_eq!((class, error.is_newer()), (expected, expected == Class::Unsupported), "{error}");
        }
        (header, found) => panic!("{header:?} was found to be {found:?}"),
    }
}

fn header_with_right_crc(bytes: &[u8]) {
    let mut bytes = filled::<HEADER_BYTES>(bytes);
    bytes[..8].copy_from_slice(b"\x89NFF\r\n\x1a\n");
    set_crc(&mut bytes);
    if let Err(refused) = Header::parse(&bytes) {
        assert!(!matches!(refused, FormatError::Magic { .. } | FormatError::Checksum { .. }), "{refused}");
    }
    header(&bytes);
    structure(2 * BLOCK_BYTES as u64, &bytes, &[]);
    let seal = &base().fragments[0].file;
    structure(2 * BLOCK_BYTES as u64, &bytes, &seal[seal.len() - FOOTER_BYTES..]);
    // Numbers that no header may hold still lay out without overflow.
    let mut input = Input(&bytes[64..]);
    let identity = BirthIdentity {
        cell: CellId(0),
        extent: ExtentId(0),
        generation: u64::from_le_bytes(input.array()),
        index: ShardIndex::new(u16::from_le_bytes(input.array())),
        payload_bytes: u64::from_le_bytes(filled(&bytes[64..])),
    };
    let (extent_bytes, record_bytes) =
        (u64::from_le_bytes(filled(&bytes[96..])), u32::from_le_bytes(filled(&bytes[104..])));
    let hostile = Header { identity, code: "rs:4+2".parse().expect("a code"), extent_bytes, record_bytes };
    let layout = hostile.layout();
    assert!(layout.payload_at <= layout.table_at && layout.table_at <= layout.file_bytes);
}

fn header(bytes: &[u8]) {
    match Header::parse(bytes) {
        Ok(header) => header_accepted(bytes, &header),
        Err(refused) => {
            assert_eq!(refused.is_newer(), header_says_newer(bytes), "{refused}");
            says_why(&refused);
        }
    }
}

fn header_accepted(bytes: &[u8], header: &Header) {
    let written = header.to_bytes();
    assert_eq!(Header::parse(&written).as_ref(), Ok(header));
    // What version 1 ignores: version and info flags, and with a later version the reserved bytes.
    let mut canonical = filled::<HEADER_BYTES>(bytes);
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    canonical[8..12].copy_from_slice(&[1, 0, 1, 0]);
    canonical[16..20].fill(0);
    if version != 1 {
        canonical[20..24].fill(0);
        canonical[108..].fill(0);
    }
    set_crc(&mut canonical);
    assert!(written == canonical, "another header was read than is there: {header:?}");
    assert_eq!(u16::from_le_bytes([bytes[10], bytes[11]]), 1, "min_reader");

    let (identity, code) = (header.identity, header.code);
    assert!(identity.generation >= 1 && header.extent_bytes <= EXTENT_BYTES_MAX);
    assert!(code.k() >= 1 && code.n() <= SHARDS_MAX && identity.index.at() < code.n());
    let capacity = identity.payload_bytes * code.k() as u64;
    assert!(header.extent_bytes <= capacity, "the extent does not fit: {header:?}");
    assert!(capacity - header.extent_bytes < (BLOCK_BYTES * code.k()) as u64, "a block too many: {header:?}");
    layout(header, &header.layout());
    let geometry = Geometry::new(header.extent_bytes, code.k());
    if identity.index.at() < code.k() {
        let range = geometry.extent_range(identity.index.at(), 0..identity.payload_bytes);
        assert!(range.start <= range.end && range.end <= header.extent_bytes);
    }
}

fn layout(header: &Header, layout: &Layout) {
    let block = BLOCK_BYTES as u64;
    assert!(layout.file_bytes <= FILE_BYTES_MAX && layout.tail_bytes <= TAIL_BYTES_MAX, "{layout:?}");
    assert_eq!((layout.payload_at, layout.payload_bytes), (HEADER_BYTES as u64, header.identity.payload_bytes));
    assert_eq!(u64::from(layout.blocks) * block, layout.payload_bytes);
    assert_eq!(layout.table_at, layout.payload_at + layout.payload_bytes);
    assert_eq!(layout.table_bytes, 4 * u64::from(layout.blocks));
    assert_eq!(layout.record_at, layout.table_at + layout.table_bytes);
    assert_eq!(layout.record_bytes, u64::from(header.record_bytes));
    let zeros = layout.footer_at - (layout.record_at + layout.record_bytes);
    assert!(zeros < block, "{layout:?}");
    assert_eq!(layout.file_bytes, layout.footer_at + FOOTER_BYTES as u64);
    assert_eq!(layout.file_bytes, layout.table_at + layout.tail_bytes);
    assert_eq!(layout.file_bytes % block, 0);
}

fn record_with_right_crc(bytes: &[u8]) {
    let mut bytes = bytes[..bytes.len().min(RECORD_BYTES_MAX)].to_vec();
    bytes.resize(bytes.len().max(8), 0);
    bytes[..4].copy_from_slice(b"NFXR");
    set_crc(&mut bytes);
    if let Err(refused) = ExtentRecord::parse(&bytes) {
        assert!(!matches!(refused, FormatError::Magic { .. } | FormatError::Checksum { .. }), "{refused}");
    }
    record(&bytes);
}

fn record(bytes: &[u8]) {
    match ExtentRecord::parse(bytes) {
        Ok(record) => record_accepted(bytes, &record),
        Err(refused) => {
            assert_eq!(refused.is_newer(), record_says_newer(bytes, &refused), "{refused}");
            says_why(&refused);
        }
    }
}

fn record_accepted(bytes: &[u8], record: &ExtentRecord) {
    assert!(bytes.len() <= RECORD_BYTES_MAX);
    let written = record.to_bytes().expect("what is read can be written");
    assert_eq!(record.encoded_bytes(), written.len());
    assert_eq!(ExtentRecord::parse(&written).as_ref(), Ok(record));
    // Version 1 writes no extensions; everything else is written as it was.
    let extension_bytes = usize::try_from(u32::from_le_bytes(filled(&bytes[156..]))).expect("within the record");
    let mut canonical = bytes.to_vec();
    canonical.truncate(bytes.len() - 4 - extension_bytes);
    canonical[156..RECORD_FIXED_BYTES].fill(0);
    canonical.extend([0; 4]);
    set_crc(&mut canonical);
    assert!(written == canonical, "another record was read than is there: {record:?}");

    assert!(record.revision >= 1 && record.extent_bytes <= EXTENT_BYTES_MAX);
    assert!(record.name.len() <= NAME_BYTES_MAX && !record.name.contains(&0));
    assert_eq!(record.fragments.len(), record.code.n());
    let shard_bytes = Geometry::new(record.extent_bytes, record.code.k()).shard_bytes();
    for (index, entry) in record.fragments.iter().enumerate() {
        let identity = entry.identity;
        assert_eq!((identity.cell, identity.extent, identity.index.at()), (record.cell, record.extent, index));
        assert_eq!(identity.payload_bytes, shard_bytes);
    }
    let end = u128::from(record.offset) + u128::from(record.extent_bytes);
    assert!(end <= u128::from(record.stream_bytes.unwrap_or(u64::MAX - 1)), "the extent ends after its stream");
    assert!(record.ordinal > 0 || record.offset == 0);
    record_list(record);
    critical_extensions(&bytes[canonical.len() - 4..bytes.len() - 4]);
}

/// None was accepted: version 1 knows no extension.
fn critical_extensions(mut extensions: &[u8]) {
    while let [kind_low, kind, low, high, rest @ ..] = extensions {
        assert!(kind & 0x80 == 0, "critical extension {kind:02x}{kind_low:02x}");
        extensions = &rest[usize::from(u16::from_le_bytes([*low, *high]))..];
    }
    assert!(extensions.is_empty());
}

/// The list covers the stream without gaps, and this extent is on it.
fn record_list(record: &ExtentRecord) {
    let mut end = 0u128;
    for (ordinal, listed) in (0u64..).zip(&record.extents) {
        assert_eq!(u128::from(listed.offset), end);
        end += u128::from(listed.bytes);
        let own = (listed.extent, listed.offset, listed.bytes) == (record.extent, record.offset, record.extent_bytes);
        assert_eq!(own, ordinal == record.ordinal, "the extent is at its ordinal and nowhere else");
    }
    let ids: BTreeSet<ExtentId> = record.extents.iter().map(|listed| listed.extent).collect();
    assert_eq!(ids.len(), record.extents.len(), "an extent is listed twice");
    if !record.extents.is_empty() {
        assert!(record.ordinal < record.extents.len() as u64);
        assert_eq!(record.stream_bytes.map(u128::from), Some(end));
    }
}

fn footer_with_right_crc(bytes: &[u8]) {
    let mut bytes = filled::<FOOTER_BYTES>(bytes);
    bytes[..8].copy_from_slice(b"NFFSEAL1");
    set_crc(&mut bytes);
    let zeros = bytes[112..124] == [0; 12];
    assert_eq!(scan_footer(&bytes).is_some(), zeros);
    footer(&bytes);
}

fn footer(bytes: &[u8]) {
    match Footer::parse(bytes) {
        Ok(footer) => {
            assert_eq!(footer.to_bytes(), bytes);
            assert_eq!(scan_footer(bytes), Some(footer));
        }
        Err(refused) => {
            assert!(matches!(refused, TailError::Absent | TailError::Footer(_)), "{refused}");
            assert_eq!(scan_footer(bytes), None);
            says_why(&refused);
        }
    }
}

/// The bytes as table, record and zeros of a fragment whose footer seals them. Then only what they mean can be refused.
fn tail_with_right_seal(bytes: &[u8]) {
    let base = base();
    let header_bytes = &base.fragments[0].file[..HEADER_BYTES];
    let mut header = Header::parse(header_bytes).expect("a right header");
    header.record_bytes = u32::from(bytes.first().copied().unwrap_or(0)) * 16 + 1;
    // On even inputs the record that belongs there, patched; on odd ones the bytes themselves.
    let mut sealed = vec![0; 4];
    if bytes.len().is_multiple_of(2) {
        header.record_bytes = u32::try_from(base.record_bytes.len()).expect("small");
        sealed.extend_from_slice(&base.record_bytes);
        patch(&mut sealed, bytes);
        let (at, end) = (4, sealed.len());
        set_crc(&mut sealed[at..end]);
    } else {
        sealed.extend_from_slice(bytes);
    }
    let header_bytes = header.to_bytes();
    let tail_bytes = usize::try_from(header.layout().tail_bytes).expect("small");
    sealed.resize(tail_bytes - FOOTER_BYTES, 0);
    let footer = Footer {
        header_hash: Hash::of(&header_bytes),
        tail_hash: Hash::of(&sealed),
        root: Hash::of(bytes),
        payload_bytes: header.identity.payload_bytes,
    };
    let parse = |footer: Footer| parse_tail(&header, &header_bytes, &[&sealed[..], &footer.to_bytes()].concat());
    let other = Hash::of(b"other");
    assert_eq!(parse(Footer { header_hash: other, ..footer }), Err(TailError::HeaderHash));
    assert_eq!(parse(Footer { tail_hash: other, ..footer }), Err(TailError::TailHash));
    assert!(matches!(parse(Footer { payload_bytes: 0, ..footer }), Err(TailError::Footer(_))));
    match parse(footer) {
        Ok(found) => {
            assert_eq!((found.table.len(), found.root), (1, footer.root));
            assert_eq!((found.record.extent, found.record.cell), (header.identity.extent, header.identity.cell));
            assert_eq!(found.record_bytes, sealed[4..4 + found.record_bytes.len()]);
            assert!(sealed[4 + found.record_bytes.len()..].iter().all(|&byte| byte == 0));
            record(&found.record_bytes);
        }
        Err(refused) => {
            assert!(matches!(refused, TailError::Record(_)), "{refused}");
            says_why(&refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_is_that_of_one_copy_of_the_largest_extent() {
        let payload_bytes = EXTENT_BYTES_MAX;
        let identity = BirthIdentity {
            cell: CellId(0),
            extent: ExtentId(1),
            generation: 1,
            index: ShardIndex::new(0),
            payload_bytes,
        };
        let record_bytes = u32::try_from(RECORD_BYTES_MAX).unwrap();
        let code = "replicate:1".parse().unwrap();
        let largest = Header { identity, code, extent_bytes: EXTENT_BYTES_MAX, record_bytes };
        assert_eq!(Header::parse(&largest.to_bytes()), Ok(largest));
        assert_eq!((largest.layout().file_bytes, FILE_BYTES_MAX), (FILE_BYTES_MAX, 1_074_864_128));
    }

    #[test]
    fn patches_reach_what_is_behind_the_checksums() {
        let mut header = base().fragments[0].file[..HEADER_BYTES].to_vec();
        patch(&mut header, &[72, 0, 1, 3]);
        set_crc(&mut header);
        assert_eq!(Header::parse(&header).unwrap().identity.index.get(), 3);
        let mut record = base().record_bytes.clone();
        patch_and_splice(&mut record, &[3, 0, 0, 4, 1, 0, 0, 0]);
        set_crc(&mut record);
        assert_eq!(ExtentRecord::parse(&record), ExtentRecord::parse(&base().record_bytes));
        record_with_right_crc(&record);
    }
}
