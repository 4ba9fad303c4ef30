//! What every piece of work shares: threads, buffers, progress, the wish to stop.

use super::FilesError;
use ec_core::buffer::AlignedBuffer;
use indicatif::ProgressBar;
use rayon::prelude::*;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Threads meant to compute. Every thread holds a buffer of 16 MiB at most, so this bounds the memory of a command on any machine.
const THREADS_COMPUTING_MAX: usize = 4;
/// Threads beyond these: one that waits for a disk leaves its core to another, and a disk wants several requests at a time.
const THREADS_WAITING: usize = 6;

/// What a thread may take of a limited address space: the C library reserves 64 MiB for each thread's heap, and a buffer, a
/// stack and everything else need their share. Without this, small allocations failed under a limit of 512 MiB.
const ADDRESS_SPACE_PER_THREAD_BYTES: u64 = 128 << 20;

/// Context of a command: a thread pool of its own, reusable buffers, a progress bar, a stop flag.
pub struct Work {
    pool: rayon::ThreadPool,
    buffers: Mutex<Buffers>,
    given_back: Condvar,
    stop: Arc<AtomicBool>,
    progress: ProgressBar,
}

impl Work {
    /// A context whose work ends early once `stop` is set.
    ///
    /// # Errors
    /// [`FilesError::Io`] where no threads can be had.
    pub fn new(stop: Arc<AtomicBool>, progress: ProgressBar) -> Result<Self, FilesError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads(cores, getrlimit(Resource::As).current))
            .build()
            .map_err(|error| FilesError::io(Path::new("thread pool"), "start threads")(io::Error::other(error)))?;
        Ok(Self { pool, buffers: Mutex::default(), given_back: Condvar::new(), stop, progress })
    }

    /// Runs `job` on the pool; parallel iterators inside it spread over the pool's threads.
    pub fn install<R: Send>(&self, job: impl FnOnce() -> R + Send) -> R {
        self.pool.install(job)
    }

    /// `Err` once the user asked to stop. Called between slices.
    ///
    /// # Errors
    /// [`FilesError::Interrupted`].
    pub fn check_stop(&self) -> Result<(), FilesError> {
        if self.stop.load(Ordering::Relaxed) { Err(FilesError::Interrupted) } else { Ok(()) }
    }

    /// The progress bar; hidden where nobody looks.
    pub fn progress(&self) -> &ProgressBar {
        &self.progress
    }

    /// Runs `job` on every extent, a few at a time: each has all its fragments open.
    ///
    /// # Errors
    /// The first error of a job, or [`FilesError::Interrupted`].
    pub fn for_each_extent<T: Sync>(
        &self,
        extents: &[T],
        job: impl Fn(&T) -> Result<(), FilesError> + Sync,
    ) -> Result<(), FilesError> {
        self.install(|| {
            extents.chunks(EXTENTS_AT_ONCE).try_for_each(|few| {
                few.par_iter().try_for_each(|extent| {
                    self.check_stop()?;
                    job(extent)
                })
            })
        })
    }

    /// A buffer of at least `bytes`, with arbitrary content, given back when the closure ends. Where there is no memory for
    /// another one, waits for one that is in use.
    ///
    /// # Errors
    /// Those of `job`, and [`FilesError::Io`] when there is no memory and no buffer to wait for.
    pub fn with_buffer<R>(
        &self,
        bytes: usize,
        job: impl FnOnce(&mut [u8]) -> Result<R, FilesError>,
    ) -> Result<R, FilesError> {
        let mut buffer = self.take_buffer(bytes)?;
        let result = job(&mut buffer[..bytes]);
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.spare.push(buffer);
        buffers.in_use -= 1;
        self.given_back.notify_one();
        result
    }

    fn take_buffer(&self, bytes: usize) -> Result<AlignedBuffer, FilesError> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // One that is too small goes, or its memory would be missing for the right one.
            let spare = buffers.spare.pop().filter(|spare| spare.len() >= bytes);
            match spare.map_or_else(|| AlignedBuffer::zeroed(bytes), Ok) {
                Ok(buffer) => {
                    buffers.in_use += 1;
                    return Ok(buffer);
                }
                Err(error) if buffers.in_use == 0 => {
                    return Err(FilesError::io(Path::new("memory"), "allocate a buffer")(io::Error::other(error)));
                }
                Err(_) => buffers = self.given_back.wait(buffers).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Threads for a machine with so many cores and a process with so much address space; `None` is no limit.
fn threads(cores: usize, address_space_bytes: Option<u64>) -> usize {
    let wanted = cores.min(THREADS_COMPUTING_MAX) + THREADS_WAITING;
    let fit = address_space_bytes.map_or(wanted as u64, |bytes| bytes / ADDRESS_SPACE_PER_THREAD_BYTES);
    usize::try_from(fit).unwrap_or(wanted).clamp(1, wanted)
}

/// Extents in work at the same time: enough that the slices of the next occupy the threads while one is being synced.
const EXTENTS_AT_ONCE: usize = 4;

#[derive(Default)]
struct Buffers {
    spare: Vec<AlignedBuffer>,
    in_use: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_within_memory_and_address_space() {
        assert_eq!((threads(1, None), threads(2, None), threads(256, None)), (7, 8, 10));
        assert_eq!((threads(2, Some(u64::MAX)), threads(256, Some(1 << 40))), (8, 10));
        assert_eq!((threads(2, Some(512 << 20)), threads(256, Some(512 << 20))), (4, 4));
        assert_eq!((threads(2, Some(0)), threads(2, Some(64 << 20))), (1, 1));
    }
}
