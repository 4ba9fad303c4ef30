//! Getting: ranges of a stream, proven, to wherever the caller wants them.

use super::drive::{Bytes, drive};
use super::local::LocalReads;
use super::{Cell, unexpected};
use crate::files::FilesError;
use indicatif::ProgressBar;
use repair_core::client::GetFailure;
use repair_core::client::get::{GetConfig, GetExtent};
use repair_core::id::StreamKey;
use repair_core::node::Body;
use repair_core::time::Millis;
use repair_core::wire::daemon::ExtentEntry;
use repair_core::wire::{DaemonReply, DaemonRequest, Refusal};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Extents read at the same time.
const EXTENTS_AT_ONCE: usize = 4;
/// An extent of which at least so much is wanted (in quarters) is read whole: then its hash proves every byte.
const WHOLE_FROM_QUARTERS: u64 = 3;
/// Wanted bytes this close are fetched in one go.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// For fewer bytes than this, asking the nodes for files takes longer than asking them for the bytes.
const LOCAL_BYTES_MIN: u64 = 4 << 20;

/// Takes proven bytes: their place in the stream, and them. Called from several threads, for pieces in any order.
pub type Sink<'a> = dyn Fn(u64, &[u8]) -> Result<(), FilesError> + Sync + 'a;

/// A range of one extent to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    entry: ExtentEntry,
    /// In the extent.
    range: Range<u64>,
}

impl Piece {
    fn is_whole(&self) -> bool {
        self.range == (0..self.entry.bytes)
    }
}

impl Cell {
    /// Reads ranges of a stream, in ascending order and not overlapping, and hands every byte of them to `sink` once. Bytes
    /// between them may be handed over too.
    ///
    /// # Errors
    /// [`FilesError::Unavailable`] where too few fragments can be read, [`FilesError::Unrecoverable`] where what was read is
    /// wrong, [`FilesError::Replaced`] where the stream is not on file any more; what the sink took is to be discarded then. The
    /// sink's own error.
    pub fn read(
        &self,
        stream: StreamKey,
        ranges: &[Range<u64>],
        sink: &Sink,
        progress: &ProgressBar,
    ) -> Result<(), FilesError> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
        let extents = self.extents(stream, first.start..last.end)?;
        let pieces = pieces(&extents, ranges).map_err(|at| gone(stream, &format!("byte {at} lies in no extent")))?;
        let next = AtomicUsize::new(0);
        let cancelled = AtomicBool::new(false);
        let failed = Mutex::new(None);
        let work = || {
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut bytes = Taken { cell: self, piece, sink, progress, cancelled: &cancelled, taken: 0 };
                if let Err(error) = self.read_piece(piece, &mut bytes) {
                    cancelled.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..EXTENTS_AT_ONCE.min(pieces.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn read_piece(&self, piece: &Piece, bytes: &mut Taken) -> Result<(), FilesError> {
        let give_up_after = Millis(u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX));
        let config = GetConfig { give_up_after, ..GetConfig::default() };
        let extent = piece.entry.extent;
        let mut get = GetExtent::new(extent, piece.range.clone(), piece.is_whole(), config);
        let is_long = piece.range.end - piece.range.start >= LOCAL_BYTES_MIN;
        drive(self, &self.readers, &mut get, bytes, is_long.then(LocalReads::default))?;
        let name = |reason: String| format!("extent {extent}: {reason}");
        match get.outcome() {
            Some(Ok(())) if bytes.taken == piece.range.end - piece.range.start => Ok(()),
            Some(Ok(())) | None => Err(FilesError::internal(name("a get ended without all its bytes".into()))),
            Some(Err(GetFailure::Unavailable(reason))) => Err(FilesError::Unavailable(name(format!(
                "not available now: {reason}; `ninefold explain extent {extent}` says what is missing"
            )))),
            Some(Err(GetFailure::NotFound)) => Err(FilesError::Replaced(name(
                "not on file any more; was its name removed or replaced meanwhile? Run again".into(),
            ))),
            Some(Err(GetFailure::Wrong(reason))) => Err(FilesError::Unrecoverable(name(reason))),
        }
    }

    /// The extents of a stream that hold `range`.
    fn extents(&self, stream: StreamKey, range: Range<u64>) -> Result<Vec<ExtentEntry>, FilesError> {
        let mut extents: Vec<ExtentEntry> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (page, more) = match self.ask(&DaemonRequest::Extents { stream, offset: at })? {
                (DaemonReply::ExtentsPage { extents, more }, _) => (extents, more),
                (DaemonReply::Refused(Refusal::NotFound), _) => return Err(gone(stream, "it is not on file")),
                (other, _) => return Err(unexpected(&other)),
            };
            extents.extend(page.into_iter().filter(|entry| entry.offset + entry.bytes > at));
            match extents.last().map(|last| last.offset.saturating_add(last.bytes)) {
                Some(end) if end > at && (more || end >= range.end) => at = end,
                _ => return Err(gone(stream, "it is shorter than its names say")),
            }
        }
        Ok(extents)
    }
}

fn gone(stream: StreamKey, reason: &str) -> FilesError {
    FilesError::Replaced(format!("stream {stream}: {reason}; was it removed or replaced while it was read? Run again"))
}

/// Cuts ranges at the borders of extents, and joins what is close. The error is the first byte that lies in none.
fn pieces(extents: &[ExtentEntry], ranges: &[Range<u64>]) -> Result<Vec<Piece>, u64> {
    let mut pieces: Vec<Piece> = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let found = extents.partition_point(|entry| entry.offset.saturating_add(entry.bytes) <= at);
            let entry = extents.get(found).filter(|entry| entry.offset <= at).ok_or(at)?;
            let end = range.end.min(entry.offset + entry.bytes);
            let wanted = at - entry.offset..end - entry.offset;
            match pieces.last_mut() {
                Some(last) if last.entry == *entry && wanted.start <= last.range.end + GAP_BYTES_MAX => {
                    last.range.end = last.range.end.max(wanted.end);
                }
                _ => pieces.push(Piece { entry: *entry, range: wanted }),
            }
            at = end;
        }
    }
    let alone = |at: usize, pieces: &[Piece]| {
        let beside = |other: Option<&Piece>| other.is_some_and(|other| other.entry == pieces[at].entry);
        !beside(at.checked_sub(1).and_then(|before| pieces.get(before))) && !beside(pieces.get(at + 1))
    };
    for at in 0..pieces.len() {
        let piece = &pieces[at];
        let most = (piece.range.end - piece.range.start) * 4 >= piece.entry.bytes * WHOLE_FROM_QUARTERS;
        if most && alone(at, &pieces) {
            pieces[at].range = 0..pieces[at].entry.bytes;
        }
    }
    Ok(pieces)
}

/// Hands what was read to the sink.
struct Taken<'a> {
    cell: &'a Cell,
    piece: &'a Piece,
    sink: &'a Sink<'a>,
    progress: &'a ProgressBar,
    cancelled: &'a AtomicBool,
    taken: u64,
}

impl Bytes for Taken<'_> {
    fn read(&mut self, _: u64, _: usize) -> Result<Body, String> {
        Err("a get has no source".into())
    }

    fn take(&mut self, offset: u64, bytes: Body) -> Result<(), FilesError> {
        (self.sink)(self.piece.entry.offset + offset, &bytes)?;
        self.taken += bytes.len() as u64;
        self.progress.inc(bytes.len() as u64);
        Ok(())
    }

    fn check_stop(&self) -> Result<(), FilesError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(FilesError::Interrupted) } else { self.cell.check_stop() }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges that happens to have one")]
mod tests {
    use super::*;
    use repair_core::id::ExtentKey;

    fn extents(lengths: &[u64]) -> Vec<ExtentEntry> {
        let mut offset = 0;
        let entry = |(ordinal, bytes): (usize, &u64)| {
            let entry =
                ExtentEntry { ordinal: ordinal as u64, extent: ExtentKey(ordinal as u128), offset, bytes: *bytes };
            offset += bytes;
            entry
        };
        lengths.iter().enumerate().map(entry).collect()
    }

    fn cut(lengths: &[u64], ranges: &[Range<u64>]) -> Result<Vec<(u64, Range<u64>)>, u64> {
        let pieces = pieces(&extents(lengths), ranges)?;
        Ok(pieces.into_iter().map(|piece| (piece.entry.ordinal, piece.range)).collect())
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn ranges_are_cut_where_extents_end() {
        let lengths = [10 * MIB, 10 * MIB, 5];
        assert_eq!(cut(&lengths, &[MIB..2 * MIB]), Ok(vec![(0, MIB..2 * MIB)]));
        assert_eq!(cut(&lengths, &[9 * MIB..11 * MIB]), Ok(vec![(0, 9 * MIB..10 * MIB), (1, 0..MIB)]));
        assert_eq!(cut(&lengths, &[20 * MIB..20 * MIB + 5]), Ok(vec![(2, 0..5)]));
        assert_eq!(cut(&lengths, &[20 * MIB..20 * MIB + 6]), Err(20 * MIB + 5));
        assert_eq!(cut(&lengths, &[5..5]), Ok(vec![]));
        assert_eq!(cut(&[], &[0..1]), Err(0));
    }

    #[test]
    fn what_is_close_is_joined_and_what_is_most_of_an_extent_is_read_whole() {
        let lengths = [10 * MIB];
        let small = [0..10, 20..30, MIB..MIB + 5];
        assert_eq!(cut(&lengths, &small), Ok(vec![(0, 0..30), (0, MIB..MIB + 5)]));
        assert_eq!(cut(&lengths, &[0..8 * MIB]), Ok(vec![(0, 0..10 * MIB)]));
        assert_eq!(cut(&lengths, &[0..7 * MIB]), Ok(vec![(0, 0..7 * MIB)]));
        // Read whole beside another piece, bytes would come twice.
        assert_eq!(cut(&lengths, &[0..8 * MIB, 9 * MIB..10 * MIB]), Ok(vec![(0, 0..8 * MIB), (0, 9 * MIB..10 * MIB)]));
    }
}
