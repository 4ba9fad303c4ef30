//! A file whose every page has a checksum in a second file: what redb reads is what redb wrote, or an error.
//!
//! redb believes its pages. A damaged one fails its assertions, at times in a destructor that runs because of another, which ends the
//! process, and again at the next start; or asks for as much memory as the damage says. An error it passes on.
//!
//! The sums are not forced to the disk with the pages: behind a power cut some do not match, and the index is begun anew.

use redb::StorageBackend;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{PoisonError, RwLock};

/// Bytes under one checksum: what redb writes at a time.
const PAGE_BYTES: usize = 4096;
const SUM_BYTES: usize = 4;
/// An index of some ten million records has as many pages. Its sums lie in memory.
const PAGES_MAX: u64 = 1 << 24;

/// A file and its sums, one for each page; 0 also stands for a page that was never written.
#[derive(Debug)]
pub(super) struct CheckedFile {
    pages: File,
    sums: File,
    table: RwLock<Vec<u32>>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Where a page lies enters: pages that changed places are damage too.
fn sum(page: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(&page.to_le_bytes());
    hasher.finalize()
}

fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES as u64)
}

impl CheckedFile {
    /// A file with the sums that belong to it; both may be new and empty.
    ///
    /// # Errors
    /// That of the system; `InvalidData` where there are not as many sums as pages.
    pub(super) fn new(pages: File, sums: File) -> io::Result<Self> {
        let count = pages_of(pages.metadata()?.len());
        if count > PAGES_MAX || sums.metadata()?.len() != count * SUM_BYTES as u64 {
            return Err(damaged("the sums are of another file"));
        }
        let mut bytes = vec![0; count as usize * SUM_BYTES];
        sums.read_exact_at(&mut bytes, 0)?;
        let table = bytes.as_chunks::<SUM_BYTES>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        Ok(Self { pages, sums, table: RwLock::new(table) })
    }

    /// A whole page as it was written. Behind the end of the file it is zeros.
    fn page(&self, table: &[u32], page: u64) -> io::Result<[u8; PAGE_BYTES]> {
        let mut bytes = [0; PAGE_BYTES];
        let mut filled = 0;
        while filled < PAGE_BYTES {
            match self.pages.read_at(&mut bytes[filled..], page * PAGE_BYTES as u64 + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let known = *table.get(page as usize).ok_or_else(|| damaged("a page behind the end"))?;
        let is_new = known == 0 && bytes.iter().all(|byte| *byte == 0);
        if is_new || known == sum(page, &bytes) { Ok(bytes) } else { Err(damaged("a page is not as it was written")) }
    }
}

/// The parts of a range by page: the page, where in it, and where in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset.checked_add(at as u64).filter(|_| at < length)?;
        let inside = (place % PAGE_BYTES as u64) as usize;
        let bytes = (PAGE_BYTES - inside).min(length - at);
        at += bytes;
        Some((place / PAGE_BYTES as u64, inside, at - bytes..at))
    })
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > table.len() as u64 * PAGE_BYTES as u64) {
            return Err(damaged("a page behind the end"));
        }
        for (page, inside, range) in parts(offset, out.len()) {
            let bytes = self.page(&table, page)?;
            let length = range.len();
            out[range].copy_from_slice(&bytes[inside..inside + length]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let count = pages_of(len);
        if count > PAGES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more pages than an index may have"));
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        self.pages.set_len(len)?;
        self.sums.set_len(count * SUM_BYTES as u64)?;
        table.resize(count as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.pages.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for (page, inside, range) in parts(offset, data.len()) {
            let piece = &data[range];
            let sum = if piece.len() == PAGE_BYTES {
                sum(page, piece)
            } else {
                let mut bytes = self.page(&table, page)?;
                bytes[inside..inside + piece.len()].copy_from_slice(piece);
                sum(page, &bytes)
            };
            let known = table.get_mut(page as usize).ok_or_else(|| damaged("a page behind the end"))?;
            self.pages.write_all_at(piece, page * PAGE_BYTES as u64 + inside as u64)?;
            self.sums.write_all_at(&sum.to_le_bytes(), page * SUM_BYTES as u64)?;
            *known = sum;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (File, File) {
        (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap())
    }

    #[test]
    fn what_was_written_in_pieces_is_read_and_what_was_changed_since_is_not() {
        let (pages, sums) = files();
        let again = || (pages.try_clone().unwrap(), sums.try_clone().unwrap());
        let file = CheckedFile::new(pages.try_clone().unwrap(), sums.try_clone().unwrap()).unwrap();
        file.set_len(10_000).unwrap();
        let mut model = vec![0; 10_000];
        for (offset, length) in [(0, 320), (4000, 5000), (64, 1), (4096, 4096), (9_999, 1), (300, 0)] {
            let piece: Vec<u8> = (0..length).map(|at| (at * 7 + offset) as u8 | 1).collect();
            file.write(offset as u64, &piece).unwrap();
            model[offset..offset + length].copy_from_slice(&piece);
        }
        let mut read = vec![0; 10_000];
        file.read(0, &mut read).unwrap();
        assert!(read == model);
        assert!(file.read(12_000, &mut [0; 300]).is_err() && file.read(u64::MAX, &mut [0; 2]).is_err());
        drop(file);
        let (pages, sums) = again();
        let file = CheckedFile::new(pages, sums).unwrap();
        file.read(0, &mut read).unwrap();
        assert!(read == model);
        let (pages, sums) = again();
        pages.write_all_at(&[model[5000] ^ 1], 5000).unwrap();
        assert!(file.read(4096, &mut [0; 1]).is_err() && file.write(4100, &[1]).is_err());
        file.read(0, &mut [0; 4096]).unwrap();
        // Pages in each other's places.
        let (mut one, mut two) = ([0; PAGE_BYTES], [0; PAGE_BYTES]);
        file.write(0, &[7; PAGE_BYTES]).unwrap();
        file.write(4096, &[8; PAGE_BYTES]).unwrap();
        pages.read_exact_at(&mut one, 0).unwrap();
        pages.read_exact_at(&mut two, 4096).unwrap();
        pages.write_all_at(&two, 0).unwrap();
        pages.write_all_at(&one, 4096).unwrap();
        let (mut first, mut second) = ([0; 4], [0; 4]);
        sums.read_exact_at(&mut first, 0).unwrap();
        sums.read_exact_at(&mut second, 4).unwrap();
        sums.write_all_at(&second, 0).unwrap();
        sums.write_all_at(&first, 4).unwrap();
        let (pages, sums) = again();
        let file = CheckedFile::new(pages, sums).unwrap();
        assert!(file.read(0, &mut [0; 1]).is_err() && file.read(4096, &mut [0; 1]).is_err());
    }

    #[test]
    fn sums_of_another_file_are_refused() {
        let (pages, sums) = files();
        pages.set_len(5000).unwrap();
        sums.set_len(4).unwrap();
        assert!(CheckedFile::new(pages.try_clone().unwrap(), sums.try_clone().unwrap()).is_err());
        sums.set_len(8).unwrap();
        let file = CheckedFile::new(pages, sums).unwrap();
        assert!(file.set_len((PAGES_MAX + 1) * PAGE_BYTES as u64).is_err());
        file.set_len(PAGE_BYTES as u64).unwrap();
        assert_eq!(file.sums.metadata().unwrap().len(), 4);
    }
}
