//! A file as a disk keeps it: pages that are durable, and pages that only the operating system has.

use repair_core::rng::Dice;
use std::collections::BTreeMap;
use std::ops::Range;

/// What reaches a disk as one.
pub const PAGE_BYTES: usize = 4096;
/// What a torn page is torn at.
pub const SECTOR_BYTES: usize = 512;

/// A file.
#[derive(Clone, Debug, Default)]
pub struct FakeFile {
    durable: Vec<u8>,
    /// Written and not synced, by page.
    pending: BTreeMap<usize, Vec<u8>>,
}

impl FakeFile {
    /// A file of zeros, its length durable.
    pub fn new(bytes: usize) -> Self {
        Self { durable: vec![0; bytes], pending: BTreeMap::new() }
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.durable.len()
    }

    /// Makes it longer or shorter, durably.
    pub fn resize(&mut self, bytes: usize) {
        self.durable.resize(bytes, 0);
        self.pending.retain(|page, _| page * PAGE_BYTES < bytes);
    }

    fn page_range(&self, page: usize) -> Range<usize> {
        page * PAGE_BYTES..((page + 1) * PAGE_BYTES).min(self.durable.len())
    }

    /// Writes, to memory only. What lies past the end is not written: the caller made the file long enough.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.durable.len());
        let mut at = offset;
        while at < end {
            let (page, range) = (at / PAGE_BYTES, self.page_range(at / PAGE_BYTES));
            let until = end.min(range.end);
            let durable = &self.durable;
            let content = self.pending.entry(page).or_insert_with(|| durable[range.clone()].to_vec());
            content[at - range.start..until - range.start].copy_from_slice(&bytes[at - offset..until - offset]);
            at = until;
        }
    }

    /// Makes all that was written durable; but for what a lying disk does not write: it says how many sectors of a page it writes.
    /// Gives the pages that it did not write whole.
    pub fn sync(&mut self, mut sectors: impl FnMut(usize) -> Option<usize>) -> Vec<Vec<u8>> {
        let mut unwritten = Vec::new();
        for (page, content) in std::mem::take(&mut self.pending) {
            let range = self.page_range(page);
            let written = sectors(page).map_or(content.len(), |sectors| (sectors * SECTOR_BYTES).min(content.len()));
            self.durable[range.start..range.start + written].copy_from_slice(&content[..written]);
            if written < content.len() {
                unwritten.push(content);
            }
        }
        unwritten
    }

    /// A page that was meant for another file comes here. False where it changes nothing.
    pub fn overwrite(&mut self, page: usize, content: &[u8]) -> bool {
        let range = self.page_range(page);
        let bytes = range.len().min(content.len());
        let here = &mut self.durable[range.start..range.start + bytes];
        let changes = here != &content[..bytes];
        here.copy_from_slice(&content[..bytes]);
        changes
    }

    /// As a process sees it.
    pub fn read(&self, range: Range<usize>) -> Vec<u8> {
        let range = range.start.min(self.durable.len())..range.end.min(self.durable.len());
        let mut bytes = self.durable[range.clone()].to_vec();
        for (page, content) in &self.pending {
            let written = self.page_range(*page);
            let (from, until) = (written.start.max(range.start), written.end.min(range.end));
            if from < until {
                bytes[from - range.start..until - range.start]
                    .copy_from_slice(&content[from - written.start..until - written.start]);
            }
        }
        bytes
    }

    /// All of it, as a process sees it.
    pub fn all(&self) -> Vec<u8> {
        self.read(0..self.durable.len())
    }

    /// Whether nothing would be lost now.
    pub fn is_synced(&self) -> bool {
        self.pending.is_empty()
    }

    /// The machine loses power: each page not synced is kept, dropped, or torn.
    pub fn crash(&mut self, dice: &mut Dice) {
        for (page, content) in std::mem::take(&mut self.pending) {
            let range = self.page_range(page);
            let sectors = content.len().div_ceil(SECTOR_BYTES) as u64;
            let kept = match dice.below(3) {
                0 => 0,
                1 => content.len(),
                _ => (dice.below(sectors) as usize * SECTOR_BYTES).min(content.len()),
            };
            self.durable[range.start..range.start + kept].copy_from_slice(&content[..kept]);
        }
    }

    /// Flips one durable bit.
    pub fn rot(&mut self, dice: &mut Dice) {
        let at = dice.below(self.durable.len() as u64) as usize;
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_survives_and_what_is_not_is_kept_dropped_or_torn() {
        let mut outcomes = [0; 3];
        for seed in 0..60 {
            let mut file = FakeFile::new(3 * PAGE_BYTES);
            file.write(0, &[1; PAGE_BYTES]);
            file.sync(|_| None);
            file.write(PAGE_BYTES, &[2; PAGE_BYTES]);
            assert_eq!(file.read(PAGE_BYTES..PAGE_BYTES + 1), [2]);
            file.crash(&mut Dice::new(seed));
            assert!(file.is_synced());
            assert_eq!(file.read(0..PAGE_BYTES), [1; PAGE_BYTES]);
            let kept = file.read(PAGE_BYTES..2 * PAGE_BYTES).iter().filter(|byte| **byte == 2).count();
            outcomes[usize::from(kept > 0) + usize::from(kept == PAGE_BYTES)] += 1;
        }
        assert!(outcomes.iter().all(|count| *count > 3), "{outcomes:?}");
    }

    #[test]
    fn a_lost_write_is_seen_and_a_write_over_page_borders_is_whole() {
        let mut file = FakeFile::new(2 * PAGE_BYTES);
        file.write(PAGE_BYTES - 3, &[7; 6]);
        assert_eq!(file.read(PAGE_BYTES - 4..PAGE_BYTES + 4), [0, 7, 7, 7, 7, 7, 7, 0]);
        assert_eq!(file.sync(|page| (page == 1).then_some(0)).len(), 1);
        assert_eq!(file.read(PAGE_BYTES - 4..PAGE_BYTES + 4), [0, 7, 7, 7, 0, 0, 0, 0]);
        let before = file.all();
        file.rot(&mut Dice::new(5));
        let differ = before.iter().zip(file.all()).filter(|(old, new)| **old != *new).count();
        assert_eq!(differ, 1);
    }

    #[test]
    fn a_torn_page_is_old_behind_its_first_sectors_and_a_page_can_come_from_elsewhere() {
        let mut file = FakeFile::new(2 * PAGE_BYTES);
        file.write(0, &[7; PAGE_BYTES]);
        assert_eq!(file.sync(|_| Some(3)), [vec![7; PAGE_BYTES]]);
        assert_eq!(file.read(3 * SECTOR_BYTES - 1..3 * SECTOR_BYTES + 1), [7, 0]);
        assert!(file.overwrite(1, &[9; PAGE_BYTES]) && !file.overwrite(1, &[9; PAGE_BYTES]));
        assert_eq!(file.read(PAGE_BYTES - 1..PAGE_BYTES + 1), [0, 9]);
    }
}
