//! What every piece of work shares: threads, buffers, progress, the wish to stop.

use super::FilesError;
use ec_core::buffer::AlignedBuffer;
use indicatif::ProgressBar;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads meant to compute. Every thread holds a buffer of 16 MiB at most, so this bounds the memory of a command on any machine.
const THREADS_COMPUTING_MAX: usize = 4;
/// Threads beyond these: one that waits for a disk leaves its core to another. With 2 the disk idled a fifth of an encode here.
const THREADS_WAITING: usize = 6;

/// Context of a command: a thread pool of its own, reusable buffers, a progress bar, a stop flag.
pub struct Work {
    pool: rayon::ThreadPool,
    buffers: Mutex<Vec<AlignedBuffer>>,
    stop: Arc<AtomicBool>,
    progress: ProgressBar,
}

impl Work {
    /// A context whose work ends early once `stop` is set.
    ///
    /// # Errors
    /// [`FilesError::Io`] where no threads can be had.
    pub fn new(stop: Arc<AtomicBool>, progress: ProgressBar) -> Result<Self, FilesError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_COMPUTING_MAX);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(cores + THREADS_WAITING)
            .build()
            .map_err(|error| FilesError::io(Path::new("thread pool"), "start threads")(io::Error::other(error)))?;
        Ok(Self { pool, buffers: Mutex::default(), stop, progress })
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

    /// A buffer of at least `bytes`, with arbitrary content, given back when the closure ends.
    ///
    /// # Errors
    /// Those of `job`, and [`FilesError::Io`] when there is no memory.
    pub fn with_buffer<R>(
        &self,
        bytes: usize,
        job: impl FnOnce(&mut [u8]) -> Result<R, FilesError>,
    ) -> Result<R, FilesError> {
        let spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = match spare.filter(|spare| spare.len() >= bytes) {
            Some(spare) => spare,
            None => AlignedBuffer::zeroed(bytes)
                .map_err(|error| FilesError::io(Path::new("memory"), "allocate a buffer")(io::Error::other(error)))?,
        };
        let result = job(&mut buffer[..bytes]);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }
}
