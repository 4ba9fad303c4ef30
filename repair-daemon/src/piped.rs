//! Bytes of a file on their way to a socket, as references to the pages they lie in: nothing is copied.
//!
//! A pipe takes the pages (`splice`), the socket takes them from the pipe. Only pages that are in memory are taken: who fills a
//! pipe would wait for the disk page by page.

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a pipe takes at most: as much as anybody may make one hold, unless the system was told otherwise.
pub const PIPED_BYTES_MAX: usize = 1 << 20;
/// Fewer bytes are copied sooner than piped.
pub const PIPED_BYTES_MIN: usize = 64 << 10;
/// Empty pipes kept for later.
const KEPT_MAX: usize = 8;
/// One byte in so many is asked for to see whether all are in memory. A few pages that are not cost time, nothing else.
const PROBE_EVERY: usize = 64 << 10;

static KEPT: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// Bytes in a pipe.
#[derive(Debug)]
pub struct Piped {
    /// None only while it is dropped.
    pipe: Option<Pipe>,
    bytes: usize,
    left: AtomicUsize,
}

fn kept() -> MutexGuard<'static, Vec<Pipe>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    fn take() -> rustix::io::Result<Self> {
        if let Some(pipe) = kept().pop() {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused where this user has many pipes.
        fcntl_setpipe_size(&writer, PIPED_BYTES_MAX)?;
        Ok(Self { reader, writer })
    }
}

impl Piped {
    /// `bytes` bytes of `file` from `offset`, both multiples of the page size. None where that cannot be had this way: not in
    /// memory, no pipe, a file system that cannot. The caller reads.
    pub fn of(file: &File, offset: u64, bytes: usize) -> Option<Self> {
        if !(PIPED_BYTES_MIN..=PIPED_BYTES_MAX).contains(&bytes) || !is_in_memory(file, offset, bytes) {
            return None;
        }
        let piped = Self { pipe: Some(Pipe::take().ok()?), bytes, left: AtomicUsize::new(0) };
        let mut at = offset;
        while piped.left() < bytes {
            let wanted = bytes - piped.left();
            // Dropped half full, the pipe is closed.
            let filled = splice(file, Some(&mut at), &piped.pipe.as_ref()?.writer, None, wanted, SpliceFlags::empty());
            match filled {
                Ok(filled) if filled > 0 => piped.left.fetch_add(filled, Ordering::Relaxed),
                Err(Errno::INTR) => continue,
                Ok(_) | Err(_) => return None,
            };
        }
        Some(piped)
    }

    /// How many they were.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many have not been moved on yet.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// What is in the pipe.
    #[cfg(test)]
    pub fn drain(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.left()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::io::read(&self.pipe.as_ref().unwrap().reader, &mut bytes[filled..]).unwrap();
        }
        self.left.store(0, Ordering::Relaxed);
        bytes
    }

    /// Moves bytes on to a socket, as many as it takes at once.
    ///
    /// # Errors
    /// That of the system; `WouldBlock` where the socket takes nothing now.
    pub fn move_to(&self, socket: impl AsFd) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let moved = splice(&pipe.reader, None, socket, None, self.left(), SpliceFlags::NONBLOCK)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.left.fetch_sub(moved, Ordering::Relaxed);
        Ok(moved)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let mut kept = kept();
        if let Some(pipe) = self.pipe.take().filter(|_| self.left() == 0 && kept.len() < KEPT_MAX) {
            kept.push(pipe);
        }
    }
}

fn is_in_memory(file: &File, offset: u64, bytes: usize) -> bool {
    let is_there = |at: u64| {
        let mut byte = [0];
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) == Ok(1)
    };
    (0..bytes).step_by(PROBE_EVERY).chain([bytes - 1]).all(|at| is_there(offset + at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_comes_out_is_what_the_file_has() {
        let bytes: Vec<u8> = (0..3 * PIPED_BYTES_MAX).map(|at| (at / 7 % 251) as u8).collect();
        let file = file(&bytes);
        for (offset, length) in
            [(0, PIPED_BYTES_MIN), (4096, PIPED_BYTES_MAX), (8192, PIPED_BYTES_MAX - 4096), (0, PIPED_BYTES_MAX)]
        {
            let piped = Piped::of(&file, offset as u64, length).expect("a file just written is in memory");
            let (sender, mut receiver) = UnixStream::pair().unwrap();
            let reading = std::thread::spawn(move || {
                let mut got = Vec::new();
                receiver.read_to_end(&mut got).map(|_| got).unwrap()
            });
            while piped.left() > 0 {
                piped.move_to(&sender).unwrap();
            }
            drop(sender);
            assert!(reading.join().unwrap() == bytes[offset..offset + length]);
            assert_eq!(piped.bytes(), length);
        }
    }

    #[test]
    fn a_pipe_that_was_not_emptied_is_not_used_again() {
        let file = file(&vec![1; PIPED_BYTES_MAX]);
        for _ in 0..3 {
            drop(Piped::of(&file, 0, PIPED_BYTES_MIN).unwrap());
            let piped = Piped::of(&file, 0, PIPED_BYTES_MAX).unwrap();
            assert_eq!(piped.left(), PIPED_BYTES_MAX);
        }
    }

    #[test]
    fn what_is_not_there_or_too_short_or_too_long_is_left_to_the_caller() {
        let file = file(&vec![1; PIPED_BYTES_MAX]);
        assert!(Piped::of(&file, 4096, PIPED_BYTES_MAX).is_none());
        assert!(Piped::of(&file, 0, PIPED_BYTES_MIN - 4096).is_none());
        assert!(Piped::of(&file, 0, PIPED_BYTES_MAX + 4096).is_none());
    }
}
