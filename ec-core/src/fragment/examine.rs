//! What is wrong with a fragment, as a function of its bytes and of the record on file.
//!
//! A caller that reads from a disk goes through the steps in order and stops at the first finding; each needs only the bytes
//! that the step before made trustworthy:
//!
//! 1. [`examine_structure`]: the length of the file, its first 4096 and last 128 bytes.
//! 2. [`examine_tail`]: the tail, whose place the header gave.
//! 3. [`judge`]: the name of the file and the record on file, before any block is read.
//! 4. [`bad_blocks`] on the payload as it streams by, then [`judge_payload`] with the root computed from it.
//!
//! [`examine`] does all of it for a file in memory. The table of classes is in `docs/format/fragment.md`, section 7.
//! Not decided here: what only the place of a file can tell. `unreadable`, `missing`, `surplus` and `foreign` are findings of
//! whoever opened, or could not open, the file.

use super::error::TailError;
use super::header::{Header, Layout};
use super::identity::{BlockSeed, ExtentId, FragmentName, Hash};
use super::record::ExtentRecord;
use super::tail::{Tail, parse_tail, scan_footer};
use super::{FOOTER_BYTES, HEADER_BYTES};
use crate::geometry::BLOCK_BYTES;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// What is the matter with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Verified.
    Healthy,
    /// A block of a sealed payload does not have its CRC.
    RotPayload,
    /// The header is damaged, or is not the one that the sealed footer names.
    RotHeader,
    /// Footer, table or record are damaged.
    RotFooter,
    /// Begins as a fragment and was not written to its end, or has lost its end, or is longer than its header says.
    TornCommitted,
    /// Neither a header nor a seal: never was a whole fragment.
    TornUncommitted,
    /// Whole, and not what its name says.
    Identity,
    /// Whole, of an older generation than the record on file names.
    Stale,
    /// Whole, of a newer generation than the record on file names.
    OrphanNewer,
    /// Every CRC is right and the root is not: tampering, a logic error or a CRC collision.
    Impossible,
    /// Whole, and not the fragment that the record on file names for its index.
    Conflict,
    /// The device gave an error.
    Unreadable,
    /// There is no file.
    Missing,
    /// Whole as far as can be seen, in a format newer than this reader. To be left alone.
    Unsupported,
    /// A further healthy copy of a fragment.
    Surplus,
    /// Not a fragment's file at all.
    Foreign,
}

impl Class {
    /// Every class.
    #[rustfmt::skip]
    pub const ALL: [Self; 16] = [
        Self::Healthy, Self::RotPayload, Self::RotHeader, Self::RotFooter, Self::TornCommitted, Self::TornUncommitted,
        Self::Identity, Self::Stale, Self::OrphanNewer, Self::Impossible, Self::Conflict, Self::Unreadable, Self::Missing,
        Self::Unsupported, Self::Surplus, Self::Foreign,
    ];

    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::RotPayload => "rot.payload",
            Self::RotHeader => "rot.header",
            Self::RotFooter => "rot.footer",
            Self::TornCommitted => "torn.committed",
            Self::TornUncommitted => "torn.uncommitted",
            Self::Identity => "identity",
            Self::Stale => "stale",
            Self::OrphanNewer => "orphan.newer",
            Self::Impossible => "impossible",
            Self::Conflict => "conflict",
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::Unsupported => "unsupported",
            Self::Surplus => "surplus",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Step 1: what length, header and last bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The header is right and the file is as long as it says. The tail may be read.
    Ok(Header, Layout),
    /// The class, and why.
    Damaged(Class, String),
}

/// Step 1. `header_region` are the first 4096 bytes of the file and `last_128` the last 128, or all there are of them.
pub fn examine_structure(file_bytes: u64, header_region: &[u8], last_128: &[u8]) -> Structure {
    let header = match Header::parse(header_region) {
        Ok(header) => header,
        Err(newer) if newer.is_newer() => return Structure::Damaged(Class::Unsupported, newer.to_string()),
        // Only a file that was whole once ends in a seal.
        Err(error) if scan_footer(last_128).is_some() => {
            return Structure::Damaged(Class::RotHeader, error.to_string());
        }
        Err(error) => return Structure::Damaged(Class::TornUncommitted, format!("{error}, and no seal at the end")),
    };
    let layout = header.layout();
    if file_bytes != layout.file_bytes {
        let reason = format!("file of {file_bytes} bytes where the header makes it {}", layout.file_bytes);
        return Structure::Damaged(Class::TornCommitted, reason);
    }
    Structure::Ok(header, layout)
}

/// Step 2. `tail` are the last [`Layout::tail_bytes`] bytes of the file.
///
/// # Errors
/// The class, and why.
pub fn examine_tail(header: &Header, header_bytes: &[u8], tail: &[u8]) -> Result<Tail, (Class, String)> {
    parse_tail(header, header_bytes, tail).map_err(|error| {
        let class = match &error {
            TailError::Absent | TailError::Length { .. } => Class::TornCommitted,
            TailError::HeaderHash => Class::RotHeader,
            TailError::Record(refused) if refused.is_newer() => Class::Unsupported,
            TailError::Footer(_) | TailError::TailHash | TailError::Record(_) => Class::RotFooter,
        };
        (class, error.to_string())
    })
}

/// Step 3: whether a whole fragment is the one that its name and the record on file say. `name` is `None` where the name of
/// the file says nothing; `root` and `record_bytes` are those of its tail.
///
/// # Errors
/// The class, and why.
pub fn judge(
    name: Option<FragmentName>,
    header: &Header,
    root: &Hash,
    record_bytes: &[u8],
    record_on_file: &ExtentRecord,
    record_on_file_bytes: &[u8],
) -> Result<(), (Class, String)> {
    let identity = &header.identity;
    let own = FragmentName { extent: identity.extent, generation: identity.generation, index: identity.index };
    if let Some(name) = name.filter(|name| *name != own) {
        return Err((Class::Identity, format!("the file is named {name} and holds {own}")));
    }
    let conflict = |reason: &str| Err((Class::Conflict, format!("{own}: {reason}")));
    if (identity.cell, identity.extent) != (record_on_file.cell, record_on_file.extent) {
        return conflict("the record on file is of another extent");
    }
    let Some(entry) = record_on_file.fragments.get(identity.index.at()) else {
        return conflict("the record on file has no such index");
    };
    let (found, named) = (identity.generation, entry.identity.generation);
    if found != named {
        let class = if found < named { Class::Stale } else { Class::OrphanNewer };
        return Err((class, format!("{own}: the record on file names generation {named}")));
    }
    if entry.identity != *identity {
        return conflict("the record on file names another birth identity");
    }
    if *root != entry.root {
        return conflict("its root is not the one in the record on file");
    }
    if record_bytes != record_on_file_bytes {
        return conflict("its record is not the record on file");
    }
    Ok(())
}

/// Step 4, as the payload streams by: which of the whole blocks in `payload` do not have their CRC. `first_block` is the
/// number of the first of them. A block that the table does not know is bad.
pub fn bad_blocks(seed: BlockSeed, table: &[u32], first_block: u32, payload: &[u8]) -> Vec<u32> {
    (first_block..=u32::MAX)
        .zip(payload.chunks(BLOCK_BYTES))
        .filter(|(number, block)| table.get(*number as usize) != Some(&seed.crc(*number, block)))
        .map(|(number, _)| number)
        .collect()
}

/// Step 4, at the end: `computed` is the root from the payload's hash, `sealed` the footer's.
///
/// # Errors
/// The class, and why.
pub fn judge_payload(bad_blocks: u64, computed: &Hash, sealed: &Hash) -> Result<(), (Class, String)> {
    if bad_blocks > 0 {
        return Err((Class::RotPayload, format!("{bad_blocks} blocks do not have their CRC")));
    }
    if computed != sealed {
        return Err((
            Class::Impossible,
            format!("every CRC is right, the root is {computed} and the footer names {sealed}"),
        ));
    }
    Ok(())
}

/// Everything about one file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The first finding in the order of the steps.
    pub class: Class,
    /// Why; empty when healthy.
    pub reason: String,
    /// The header, once it is right and the file has its length.
    pub header: Option<Header>,
    /// The tail, once it is right.
    pub tail: Option<Tail>,
    /// Blocks without their CRC.
    pub bad_blocks: Vec<u32>,
    /// The root of the payload that is there, once the tail is right.
    pub root: Option<Hash>,
}

/// Goes through all steps for a file in memory, with its own record as the record on file and no name. Whether other
/// fragments carry the same record is not looked at.
pub fn examine(bytes: &[u8]) -> Examination {
    let mut found = Examination {
        class: Class::Healthy,
        reason: String::new(),
        header: None,
        tail: None,
        bad_blocks: Vec::new(),
        root: None,
    };
    if let Err((class, reason)) = examine_into(&mut found, bytes) {
        (found.class, found.reason) = (class, reason);
    }
    found
}

fn examine_into(found: &mut Examination, bytes: &[u8]) -> Result<(), (Class, String)> {
    let header_bytes = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
    let last = bytes.last_chunk::<FOOTER_BYTES>().map_or(bytes, |last| last);
    let (header, layout) = match examine_structure(bytes.len() as u64, header_bytes, last) {
        Structure::Ok(header, layout) => (header, layout),
        Structure::Damaged(class, reason) => return Err((class, reason)),
    };
    found.header = Some(header);
    // The file has the length of the layout and lies in memory, so both conversions fit and the split is inside.
    let payload_bytes = usize::try_from(layout.payload_bytes).unwrap_or(0);
    let (payload, tail) = bytes.get(HEADER_BYTES..).unwrap_or(&[]).split_at(payload_bytes);
    let tail = examine_tail(&header, header_bytes, tail)?;
    found.bad_blocks = bad_blocks(header.identity.seed(), &tail.table, 0, payload);
    let (root, sealed) = (header.identity.root(&Hash::of(payload)), tail.root);
    found.root = Some(root);
    let judged = judge(None, &header, &tail.root, &tail.record_bytes, &tail.record, &tail.record_bytes);
    found.tail = Some(tail);
    judged?;
    judge_payload(found.bad_blocks.len() as u64, &root, &sealed)
}

/// The record that stands for an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOnFile {
    /// The record.
    pub record: ExtentRecord,
    /// The record verbatim.
    pub bytes: Vec<u8>,
    /// How many of the candidates carry it.
    pub carriers: usize,
}

/// The record on file of each extent: the one that most of its fragments carry. Equal numbers go to the highest revision, then
/// to the smallest hash, so that the order of the candidates never matters. A candidate is the extent a fragment's header names
/// and the record in its tail; records that cannot be read, or are of another extent, do not count.
pub fn record_on_file<'a>(candidates: impl Iterator<Item = (ExtentId, &'a [u8])>) -> BTreeMap<ExtentId, RecordOnFile> {
    let mut carriers: BTreeMap<(ExtentId, &[u8]), usize> = BTreeMap::new();
    for candidate in candidates {
        *carriers.entry(candidate).or_default() += 1;
    }
    let rank =
        |found: &RecordOnFile| (found.carriers, found.record.revision, Reverse(ExtentRecord::hash(&found.bytes)));
    let mut on_file: BTreeMap<ExtentId, RecordOnFile> = BTreeMap::new();
    for ((extent, bytes), carriers) in carriers {
        let Some(record) = ExtentRecord::parse(bytes).ok().filter(|record| record.extent == extent) else { continue };
        let found = RecordOnFile { record, bytes: bytes.to_vec(), carriers };
        if on_file.get(&extent).is_none_or(|best| rank(&found) > rank(best)) {
            on_file.insert(extent, found);
        }
    }
    on_file
}
