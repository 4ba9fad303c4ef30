//! Reading a file ahead of who looks at it: the device works while the last piece is summed.

use crate::buffers::PooledBuffer;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

/// One is read into while the other is looked at.
const BUFFERS: usize = 2;

/// A piece of a file: where it begins, and how long it is.
type Piece = (u64, usize);

fn pieces(bytes: u64, piece_bytes: usize) -> impl Iterator<Item = Piece> {
    let step = piece_bytes.max(1) as u64;
    (0..bytes.div_ceil(step)).map(move |number| {
        let offset = number * step;
        // At most `piece_bytes`.
        (offset, (bytes - offset).min(step) as usize)
    })
}

/// Reads the first `bytes` bytes of something in pieces, in order, each of which is looked at while the next is read. `buffer` gives memory
/// for one piece.
///
/// # Errors
/// The first error of `buffer` or `read`; what came before it was looked at.
pub(super) fn read_ahead<E: Send>(
    bytes: u64,
    piece_bytes: usize,
    buffer: impl Fn(usize) -> Result<PooledBuffer, E>,
    read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
    mut look: impl FnMut(u64, &[u8]),
) -> Result<(), E> {
    let alone = bytes <= piece_bytes as u64;
    let mut first = buffer(piece_bytes)?;
    if !alone {
        let second = buffer(piece_bytes)?;
        match beside(bytes, piece_bytes, [first, second], &read, &mut look) {
            Ok(ended) => return ended,
            // No thread can be had: one after the other then.
            Err(_) => first = buffer(piece_bytes)?,
        }
    }
    for (offset, piece) in pieces(bytes, piece_bytes) {
        read(offset, &mut first[..piece])?;
        look(offset, &first[..piece]);
    }
    Ok(())
}

/// An error where no thread can be had; nothing was looked at then.
fn beside<E: Send>(
    bytes: u64,
    piece_bytes: usize,
    buffers: [PooledBuffer; BUFFERS],
    read: &(impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync),
    look: &mut impl FnMut(u64, &[u8]),
) -> io::Result<Result<(), E>> {
    let (give_back, empty) = channel();
    let (send, filled) = sync_channel(BUFFERS);
    for buffer in buffers {
        let _ = give_back.send(buffer);
    }
    thread::scope(|scope| {
        // Ends in here, also by a panic of `look`: the reader is not waited for while it waits for a buffer.
        let give_back = give_back;
        let reader = move || fill_all(bytes, piece_bytes, &empty, &send, read);
        thread::Builder::new().name("read ahead".into()).spawn_scoped(scope, reader)?;
        for piece in filled {
            match piece {
                Ok(((offset, piece), buffer)) => {
                    look(offset, &buffer[..piece]);
                    let _ = give_back.send(buffer);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    })
}

fn fill_all<E>(
    bytes: u64,
    piece_bytes: usize,
    empty: &Receiver<PooledBuffer>,
    filled: &SyncSender<Result<(Piece, PooledBuffer), E>>,
    read: &impl Fn(u64, &mut [u8]) -> Result<(), E>,
) {
    for (offset, piece) in pieces(bytes, piece_bytes) {
        let Ok(mut buffer) = empty.recv() else { return };
        let result = read(offset, &mut buffer[..piece]).map(|()| ((offset, piece), buffer));
        let failed = result.is_err();
        if filled.send(result).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::BufferPool;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const PIECE: usize = 1000;

    fn take(bytes: usize) -> Result<PooledBuffer, String> {
        BufferPool::shared().take(bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn every_byte_is_looked_at_once_and_in_order() {
        let all: Vec<u8> = (0..5500u32).map(|at| (at * 7) as u8).collect();
        for bytes in [0, 1, 999, 1000, 1001, 2000, 5500] {
            let mut seen = Vec::new();
            let read = |offset: u64, buffer: &mut [u8]| {
                buffer.copy_from_slice(&all[offset as usize..][..buffer.len()]);
                Ok::<_, String>(())
            };
            let look = |offset, piece: &[u8]| {
                assert_eq!(offset, seen.len() as u64);
                seen.extend_from_slice(piece);
            };
            read_ahead(bytes, PIECE, take, read, look).unwrap();
            assert!(seen == all[..bytes as usize], "{bytes}");
        }
    }

    #[test]
    fn an_error_ends_it_behind_what_was_read() {
        let (reads, mut looks) = (AtomicUsize::new(0), 0);
        let read = |offset, _: &mut [u8]| {
            reads.fetch_add(1, Ordering::Relaxed);
            if offset == 3000 { Err("sector".to_owned()) } else { Ok(()) }
        };
        assert_eq!(read_ahead(9000, PIECE, take, read, |_, _| looks += 1), Err("sector".into()));
        assert_eq!((reads.into_inner(), looks), (4, 3), "nothing is read behind an error");
        let no_memory = |_| Err("no memory".to_owned());
        assert_eq!(read_ahead(9000, PIECE, no_memory, |_, _| Ok(()), |_, _| ()), Err("no memory".into()));
    }

    #[test]
    fn a_panic_of_who_looks_ends_it() {
        let (ended, end) = channel();
        thread::spawn(move || {
            let read = |_, _: &mut [u8]| Ok::<_, String>(());
            let look = |_, _: &[u8]| panic!("who looks fails");
            let caught = catch_unwind(AssertUnwindSafe(|| read_ahead(9000, PIECE, take, read, look)));
            let _ = ended.send(caught.is_err());
        });
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(true), "the reader waits for a buffer for ever");
    }

    #[test]
    fn the_next_piece_is_read_while_one_is_looked_at() {
        // Whoever looks at the first waits until the second was read: read one after the other this would never end.
        let (read_so_far, wait) = (AtomicUsize::new(0), std::time::Instant::now());
        let read = |_, _: &mut [u8]| {
            read_so_far.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(())
        };
        let look = |offset, _: &[u8]| {
            while offset == 0 && read_so_far.load(Ordering::SeqCst) < 2 {
                assert!(wait.elapsed().as_secs() < 20, "the next piece waits for this one");
                thread::yield_now();
            }
        };
        read_ahead(3000, PIECE, take, read, look).unwrap();
    }
}
