//! A file read and looked at in pieces, by two threads: the device works for one while the other sums, and gets the next wish before it is idle.

use crate::buffers::PooledBuffer;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What is still to be done, for all threads.
struct Pieces<E> {
    bytes: u64,
    piece_bytes: usize,
    next: AtomicU64,
    /// The error nearest to the beginning, and where it was.
    failed: Mutex<Option<(u64, E)>>,
}

impl<E> Pieces<E> {
    /// Where the next piece begins and how long it is.
    fn take(&self) -> Option<(u64, usize)> {
        let step = self.piece_bytes as u64;
        let offset = self.next.fetch_add(step, Ordering::Relaxed);
        let left = self.bytes.checked_sub(offset).filter(|left| *left > 0)?;
        // At most `piece_bytes`.
        Some((offset, left.min(step) as usize))
    }

    fn fail(&self, offset: u64, error: E) {
        // Nobody begins another.
        self.next.store(self.bytes, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.as_ref().is_none_or(|(at, _)| *at > offset) {
            *failed = Some((offset, error));
        }
    }

    fn work(&self, buffer: &mut [u8], look: &(impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync)) {
        while let Some((offset, piece)) = self.take() {
            if let Err(error) = look(offset, &mut buffer[..piece]) {
                return self.fail(offset, error);
            }
        }
    }
}

/// Has every piece of the first `bytes` bytes of something read and looked at once, two at a time and so in no order. `look` gets where a
/// piece begins and memory of its length; `buffer` gives memory for one piece.
///
/// # Errors
/// That of `buffer`, or of the piece nearest to the beginning of those that failed; after one has failed no other is begun.
pub(super) fn each_piece<E: Send>(
    bytes: u64,
    piece_bytes: usize,
    buffer: impl Fn(usize) -> Result<PooledBuffer, E>,
    look: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let piece_bytes = piece_bytes.max(1);
    let pieces = Pieces { bytes, piece_bytes, next: AtomicU64::new(0), failed: Mutex::new(None) };
    let mut mine = buffer(piece_bytes)?;
    let beside = if bytes > piece_bytes as u64 { Some(buffer(piece_bytes)?) } else { None };
    thread::scope(|scope| {
        if let Some(mut buffer) = beside {
            let (pieces, look) = (&pieces, &look);
            let work = move || pieces.work(&mut buffer, look);
            // Where no thread can be had, this one does it all.
            let _ = thread::Builder::new().name("piece".into()).spawn_scoped(scope, work);
        }
        pieces.work(&mut mine, &look);
    });
    let failed = pieces.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::BufferPool;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    const PIECE: usize = 1000;

    fn take(bytes: usize) -> Result<PooledBuffer, String> {
        BufferPool::shared().take(bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn every_piece_is_looked_at_once() {
        for bytes in [0, 1, 999, 1000, 1001, 2000, 5500] {
            let seen = Mutex::new(BTreeSet::new());
            let look = |offset: u64, piece: &mut [u8]| {
                assert!(seen.lock().unwrap().insert((offset, piece.len())), "{offset} twice");
                Ok(())
            };
            each_piece(bytes, PIECE, take, look).unwrap();
            let mut end = 0;
            for (offset, length) in seen.into_inner().unwrap() {
                assert!(offset == end && (1..=PIECE).contains(&length), "{bytes}: {length} at {offset}");
                end += length as u64;
            }
            assert_eq!(end, bytes);
        }
    }

    #[test]
    fn two_pieces_are_looked_at_at_a_time() {
        // Each waits for the other: one after the other this would never end.
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            let both = Barrier::new(2);
            let look = |_, _: &mut [u8]| {
                both.wait();
                Ok(())
            };
            let _ = ended.send(each_piece(2000, PIECE, take, look));
        });
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(Ok(())));
    }

    #[test]
    fn the_first_error_is_given_and_nothing_is_begun_behind_it() {
        let looks = AtomicUsize::new(0);
        let both = Barrier::new(2);
        let look = |offset, _: &mut [u8]| {
            looks.fetch_add(1, Ordering::Relaxed);
            both.wait();
            Err(format!("sector at {offset}"))
        };
        assert_eq!(each_piece(9000, PIECE, take, look), Err("sector at 0".into()));
        assert_eq!(looks.into_inner(), 2);
        let no_memory = |_| Err("no memory".to_owned());
        assert_eq!(each_piece(9000, PIECE, no_memory, |_, _: &mut [u8]| Ok(())), Err("no memory".into()));
    }

    #[test]
    fn a_panic_of_who_looks_ends_it() {
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            let look = |_, _: &mut [u8]| -> Result<(), String> { panic!("who looks fails") };
            let caught = catch_unwind(AssertUnwindSafe(|| each_piece(9000, PIECE, take, look)));
            let _ = ended.send(caught.is_err());
        });
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(true));
    }
}
