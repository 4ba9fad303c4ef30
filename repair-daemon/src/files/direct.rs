//! Files read and written past the page cache where the file system allows it.
//!
//! Fragments and decoded files are written once and not read soon. Going through the page cache would copy every byte once more
//! and push out pages that somebody needs.
//! Direct writes are no more durable than others: callers still sync. Reads take what is in the cache and fetch the rest
//! directly: a fragment that is decoded or checked once would only push out what somebody needs. Who wants to know what is on the
//! device asks for that, and gets nothing from the cache.

use ec_core::buffer::AlignedBuffer;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, fcntl_getfl, fcntl_setfl, fdatasync};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

/// Alignment of memory, offset and length that satisfies every device met so far.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// A file open for writing, direct as long as that works.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    bytes: u64,
    direct: AtomicBool,
}

impl DirectFile {
    /// Takes a new, empty file and reserves `bytes` for it, so that a full disk shows before the work and not after.
    ///
    /// # Errors
    /// That of the system, `StorageFull` among them.
    pub fn new(file: File, bytes: u64) -> io::Result<Self> {
        let reserved = Self::cached(file, bytes)?;
        let direct = set_direct(&reserved.file, true).is_ok();
        Ok(Self { direct: AtomicBool::new(direct), ..reserved })
    }

    /// The same, and what is written stays in the cache.
    ///
    /// # Errors
    /// As [`DirectFile::new`].
    pub fn cached(file: File, bytes: u64) -> io::Result<Self> {
        if bytes > 0 {
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                // Not every file system can reserve; it will say later that it is full.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                other => other?,
            }
        }
        Ok(Self { file, bytes, direct: AtomicBool::new(false) })
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes` at `offset`. The piece that ends the file may leave it longer, up to the next block, with zeros:
    /// who writes files that are not whole blocks sets their length at the end.
    ///
    /// # Errors
    /// That of the system.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.direct.load(Ordering::Relaxed) {
            return self.file.write_all_at(bytes, offset);
        }
        let (whole, rest) = bytes.split_at(bytes.len() / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT);
        let ends_file = offset + bytes.len() as u64 == self.bytes;
        let written = if is_aligned(bytes, offset) && (rest.is_empty() || ends_file) {
            self.file.write_all_at(whole, offset).and_then(|()| self.write_end(rest, offset + whole.len() as u64))
        } else {
            Err(Errno::INVAL.into())
        };
        match written {
            // Not aligned, or a device with a coarser alignment than any we know.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                set_direct(&self.file, false)?;
                self.direct.store(false, Ordering::Relaxed);
                self.file.write_all_at(bytes, offset)
            }
            other => other,
        }
    }

    fn write_end(&self, rest: &[u8], offset: u64) -> io::Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        let mut block = AlignedBuffer::zeroed(DIRECT_ALIGNMENT).map_err(io::Error::other)?;
        block[..rest.len()].copy_from_slice(rest);
        self.file.write_all_at(&block, offset)
    }
}

/// A file open for reading: from the cache what is there, directly what is not.
#[derive(Debug)]
pub struct DirectReader {
    file: File,
    /// The same file opened once more for direct reads, once one was wanted; `None` where that is not to be had.
    direct: OnceLock<Option<File>>,
}

impl DirectReader {
    /// Takes a file open for reading.
    pub fn new(file: File) -> Self {
        Self { file, direct: OnceLock::new() }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// That of the system, `UnexpectedEof` where the file ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if !is_aligned(buffer, offset) || !buffer.len().is_multiple_of(DIRECT_ALIGNMENT) {
            return self.file.read_exact_at(buffer, offset);
        }
        let cached = self.read_cached(buffer, offset)?;
        let (rest, at) = (&mut buffer[cached..], offset + cached as u64);
        match self.direct() {
            Some(direct) if !rest.is_empty() => match direct.read_exact_at(rest, at) {
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.file.read_exact_at(rest, at)
                }
                other => other,
            },
            _ => self.file.read_exact_at(rest, at),
        }
    }

    /// Fills `buffer` from `offset` with what is on the device, whatever the cache holds. What was written and is not there yet is brought there
    /// first. Where the file system has no direct reads, the range is dropped from the cache before it is read; that is said once,
    /// since a page that somebody holds is not dropped.
    ///
    /// # Errors
    /// As [`DirectReader::read_exact_at`].
    pub fn read_exact_from_device(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(direct) = self.direct() else { return self.read_exact_uncached(buffer, offset) };
        let read = if is_aligned(buffer, offset) && buffer.len().is_multiple_of(DIRECT_ALIGNMENT) {
            direct.read_exact_at(buffer, offset)
        } else {
            read_exact_around(direct, buffer, offset)
        };
        match read {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.read_exact_uncached(buffer, offset)
            }
            other => other,
        }
    }

    fn read_exact_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let what =
                "no direct reads here: pages are dropped from memory before a check reads them, and one in use stays";
            let _ = writeln!(io::stderr(), "ninefold: {what}");
        });
        // A page that is not written back is not dropped.
        fdatasync(&self.file)?;
        // Whole pages, or the advice leaves out the first and the last.
        let begin = offset / DIRECT_ALIGNMENT as u64 * DIRECT_ALIGNMENT as u64;
        let end = (offset + buffer.len() as u64).next_multiple_of(DIRECT_ALIGNMENT as u64);
        fadvise(&self.file, begin, NonZeroU64::new(end - begin), Advice::DontNeed)?;
        self.file.read_exact_at(buffer, offset)
    }

    /// Reads what is in memory, from the beginning and in whole blocks; gives its length.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut rest = [IoSliceMut::new(&mut buffer[filled..])];
            match preadv2(&self.file, &mut rest, offset + filled as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT)
    }

    fn direct(&self) -> Option<&File> {
        self.direct.get_or_init(|| open_direct(&self.file)).as_ref()
    }
}

/// A file opened once more for direct reads, where that is to be had.
pub(crate) fn open_direct(file: &File) -> Option<File> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    // By its handle and not by its name, which may be another file's by now.
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).custom_flags(flags).open(handle).ok()
}

/// Reads the whole blocks around a range directly, and gives the range.
fn read_exact_around(direct: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let begin = offset / DIRECT_ALIGNMENT as u64 * DIRECT_ALIGNMENT as u64;
    // Below a block: it fits.
    let skipped = (offset - begin) as usize;
    let wanted = skipped + buffer.len();
    let mut blocks = AlignedBuffer::zeroed(wanted.next_multiple_of(DIRECT_ALIGNMENT)).map_err(io::Error::other)?;
    let mut filled = 0;
    while filled < wanted {
        match direct.read_at(&mut blocks[filled..], begin + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.copy_from_slice(&blocks[skipped..wanted]);
    Ok(())
}

fn is_aligned(buffer: &[u8], offset: u64) -> bool {
    buffer.as_ptr().addr().is_multiple_of(DIRECT_ALIGNMENT) && offset.is_multiple_of(DIRECT_ALIGNMENT as u64)
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_comes_from_the_device_as_it_was_written_and_none_past_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let reader = DirectReader::new(File::open(path).unwrap());
        for (offset, length) in [(0, 1), (1, 4095), (4095, 2), (4096, 4096), (5000, 9000), (19_999, 1), (0, 20_000)] {
            let (mut direct, mut uncached) = (vec![0; length], vec![0; length]);
            reader.read_exact_from_device(&mut direct, offset as u64).unwrap();
            reader.read_exact_uncached(&mut uncached, offset as u64).unwrap();
            let expected = &bytes[offset..offset + length];
            assert!(direct == expected && uncached == expected, "{length} at {offset}");
        }
        for (offset, length) in [(0, 20_001), (16_384, 4096), (40_960, 4096)] {
            let past = reader.read_exact_from_device(&mut vec![0; length], offset);
            assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{length} at {offset}");
        }
    }
}
