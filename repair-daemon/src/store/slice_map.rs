//! The map beside a kept stage: which ranges of its file are there and durable.
//!
//! A head says whose map it is; behind it stand entries of a fixed length, only ever appended. Each has a CRC over itself, its number and
//! the head, so that an entry that is torn, garbled, in another place or of another file is none: what it would have said is not there,
//! and is sent again. An entry is written after what it names was forced to the disk.
//!
//! | at | size | head |
//! |---|---|---|
//! | 0 | 8 | `N9SMAP01` |
//! | 8 | 16 | extent |
//! | 24 | 8 | generation |
//! | 32 | 2 | index |
//! | 34 | 2 | zero |
//! | 36 | 32 | what the file is of: a hash that whoever stages chooses |
//! | 68 | 4 | CRC32 of bytes 0 to 67 |
//!
//! | at | size | entry |
//! |---|---|---|
//! | 0 | 8 | offset in the file |
//! | 8 | 8 | bytes |
//! | 16 | 4 | CRC32 of the CRC of the head, the entry's number from 0 (4 bytes), and bytes 0 to 15 |
//!
//! Integers are little-endian.

use super::folder::Folder;
use repair_core::wire::node::FragmentKey;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"N9SMAP01";
const HEAD_BYTES: usize = 72;
const ENTRY_BYTES: usize = 20;
/// Far more than the checkpoints of one fragment, however often it is cut off. What comes behind is not remembered.
const ENTRIES_MAX: u32 = 4096;

/// Whose map it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) fragment: FragmentKey,
    pub(super) identity: [u8; 32],
}

/// A map that is appended to.
#[derive(Debug)]
pub(super) struct SliceMap {
    file: File,
    head_crc: u32,
    /// Number of the next entry.
    next: u32,
}

impl Owner {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8..24].copy_from_slice(&self.fragment.extent.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.fragment.generation.to_le_bytes());
        head[32..34].copy_from_slice(&self.fragment.index.to_le_bytes());
        head[36..68].copy_from_slice(&self.identity);
        let crc = crc32fast::hash(&head[..68]);
        head[68..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    fn crc(self) -> u32 {
        crc32fast::hash(&self.to_bytes()[..68])
    }

    /// Whose map these bytes begin, where they begin one of this fragment.
    fn parse(bytes: &[u8], fragment: FragmentKey) -> Option<Self> {
        let identity = bytes.get(36..68)?.try_into().ok()?;
        let owner = Self { fragment, identity };
        (bytes.get(..HEAD_BYTES)? == owner.to_bytes()).then_some(owner)
    }
}

fn entry(head_crc: u32, number: u32, range: &Range<u64>) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&range.start.to_le_bytes());
    bytes[8..16].copy_from_slice(&(range.end - range.start).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    [&head_crc.to_le_bytes()[..], &number.to_le_bytes(), &bytes[..16]].into_iter().for_each(|part| crc.update(part));
    bytes[16..].copy_from_slice(&crc.finalize().to_le_bytes());
    bytes
}

/// The range of an entry, if it is one.
fn range_of(bytes: &[u8], head_crc: u32, number: u32) -> Option<Range<u64>> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let start = word(0)?;
    let range = start..start.checked_add(word(8)?)?;
    (bytes == entry(head_crc, number, &range) && !range.is_empty()).then_some(range)
}

/// The same bytes by ranges in order that do not touch.
pub(super) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut().filter(|last| last.end >= range.start) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// Reads what has this name, as far as a map goes.
fn read(file: &File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = vec![0; HEAD_BYTES + ENTRIES_MAX as usize * ENTRY_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl SliceMap {
    /// A new map. Its name, and what is in it, become durable with the first append and a sync of the folder.
    pub(super) fn create(folder: &Folder, name: &str, owner: Owner) -> io::Result<Self> {
        let file = folder.new_file(name)?;
        file.write_all_at(&owner.to_bytes(), 0)?;
        Ok(Self { file, head_crc: owner.crc(), next: 0 })
    }

    /// Whose map has this name, where it is one of this fragment.
    pub(super) fn owner(folder: &Folder, name: &str, fragment: FragmentKey) -> io::Result<Option<Owner>> {
        let file = folder.open_file(name)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(Owner::parse(&head, fragment)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a map and reads it; `None` where it is not this owner's.
    pub(super) fn open(folder: &Folder, name: &str, owner: Owner) -> io::Result<Option<(Self, Vec<Range<u64>>)>> {
        let file = folder.open_or_new_file(name)?;
        let bytes = read(&file)?;
        if Owner::parse(&bytes, owner.fragment) != Some(owner) {
            return Ok(None);
        }
        let head_crc = owner.crc();
        let entries = bytes[HEAD_BYTES..].chunks(ENTRY_BYTES);
        // Behind a torn one the next begins on its own place.
        let next = u32::try_from(entries.len()).unwrap_or(ENTRIES_MAX);
        let ranges = (0..).zip(entries).filter_map(|(number, entry)| range_of(entry, head_crc, number)).collect();
        Ok(Some((Self { file, head_crc, next }, merged(ranges))))
    }

    /// Appends entries, durably. What they name must be durable.
    pub(super) fn append(&mut self, ranges: &[Range<u64>]) -> io::Result<()> {
        let room = (ENTRIES_MAX - self.next.min(ENTRIES_MAX)) as usize;
        let bytes: Vec<u8> = (self.next..)
            .zip(ranges.iter().take(room))
            .flat_map(|(number, range)| entry(self.head_crc, number, range))
            .collect();
        self.file.write_all_at(&bytes, (HEAD_BYTES + self.next as usize * ENTRY_BYTES) as u64)?;
        self.file.sync_all()?;
        self.next += (bytes.len() / ENTRY_BYTES) as u32;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::{CellKey, ExtentKey, PgId};

    fn owner(counter: u64, identity: u8) -> Owner {
        let extent = ExtentKey::compose(CellKey(1 << 100), PgId(3), 1, counter);
        Owner { fragment: FragmentKey { extent, generation: 1, index: 2 }, identity: [identity; 32] }
    }

    fn made(entries: &[Range<u64>]) -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let mut map = SliceMap::create(&folder, "map", owner(1, 7)).unwrap();
        entries.iter().for_each(|range| map.append(std::slice::from_ref(range)).unwrap());
        (temporary, folder)
    }

    fn ranges(folder: &Folder) -> Option<Vec<Range<u64>>> {
        SliceMap::open(folder, "map", owner(1, 7)).unwrap().map(|(_, ranges)| ranges)
    }

    #[test]
    fn what_is_appended_is_read_in_order_and_joined() {
        let (_temporary, folder) = made(&[100..200, 0..50, 200..300, 40..60]);
        assert_eq!(ranges(&folder), Some(vec![0..60, 100..300]));
        let (mut map, _) = SliceMap::open(&folder, "map", owner(1, 7)).unwrap().unwrap();
        map.append(&[60..100, 500..501]).unwrap();
        assert_eq!(ranges(&folder), Some(vec![0..300, 500..501]));
    }

    #[test]
    fn another_owners_map_is_none() {
        let (_temporary, folder) = made(std::slice::from_ref(&(0..50)));
        for other in [owner(1, 8), owner(2, 7)] {
            assert!(SliceMap::open(&folder, "map", other).unwrap().is_none());
        }
        let fragment = owner(1, 7).fragment;
        assert_eq!(SliceMap::owner(&folder, "map", fragment).unwrap(), Some(owner(1, 7)));
        assert_eq!(SliceMap::owner(&folder, "map", FragmentKey { index: 3, ..fragment }).unwrap(), None);
        folder.new_file("empty").unwrap();
        assert_eq!(SliceMap::owner(&folder, "empty", fragment).unwrap(), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_takes_what_it_hits_and_no_more() {
        let entries = [0..4096, 8192..12_288, 16_384..20_480];
        let (temporary, folder) = made(&entries);
        let path = temporary.path().join("map");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let expected = at.checked_sub(HEAD_BYTES).map(|at| at / ENTRY_BYTES).map(|hit| {
                (0..).zip(&entries).filter(|(number, _)| *number != hit).map(|(_, range)| range.clone()).collect()
            });
            assert_eq!(ranges(&folder), expected, "byte {at}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let left = length.checked_sub(HEAD_BYTES).map(|bytes| entries[..bytes / ENTRY_BYTES].to_vec());
            assert_eq!(ranges(&folder), left, "cut to {length}");
            // What is appended behind a torn entry is read.
            if left.is_some() {
                let (mut map, _) = SliceMap::open(&folder, "map", owner(1, 7)).unwrap().unwrap();
                map.append(std::slice::from_ref(&(1 << 20..1 << 21))).unwrap();
                assert_eq!(ranges(&folder).unwrap().last(), Some(&(1 << 20..1 << 21)), "cut to {length}");
            }
        }
    }

    #[test]
    fn an_entry_in_another_ones_place_is_none() {
        let (temporary, folder) = made(&[0..4096, 8192..12_288]);
        let path = temporary.path().join("map");
        let mut bytes = std::fs::read(&path).unwrap();
        let (first, second) = bytes[HEAD_BYTES..].split_at_mut(ENTRY_BYTES);
        first.swap_with_slice(second);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(ranges(&folder), Some(vec![]));
    }

    #[test]
    fn a_map_does_not_grow_without_end() {
        let all: Vec<Range<u64>> = (0..2 * u64::from(ENTRIES_MAX)).map(|at| at * 10..at * 10 + 1).collect();
        let (temporary, folder) = made(&[]);
        let (mut map, _) = SliceMap::open(&folder, "map", owner(1, 7)).unwrap().unwrap();
        map.append(&all).unwrap();
        map.append(&all).unwrap();
        let longest = (HEAD_BYTES + ENTRIES_MAX as usize * ENTRY_BYTES) as u64;
        assert_eq!(std::fs::metadata(temporary.path().join("map")).unwrap().len(), longest);
        assert_eq!(ranges(&folder).unwrap(), all[..ENTRIES_MAX as usize]);
    }
}
