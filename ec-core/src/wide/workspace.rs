//! Memory that is used again, and the blocks that shards are worked on in.

use crate::buffer::AlignedBuffer;
use crate::error::DecodeError;
use std::ops::Range;

/// Memory that encoding and rebuilding work in: empty at first, it grows to what the codes it is used with need and is kept between
/// calls, so that a stripe as large as one before costs no allocation (where reed-solomon-simd computes, that library has memory of
/// its own). About 0.5 MiB for most codes; at most 8 MiB for the transform, 4 MiB for the parities of a rebuild and some 250
/// bytes a shard: 28 MiB for the widest. Whoever encodes many stripes keeps one a thread.
#[derive(Debug, Default)]
pub struct WideWorkspace {
    memory: Option<AlignedBuffer>,
    pub(super) lists: Lists,
}

/// Lists of one call. Empty between calls: what is kept is their room.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The shards that are read, by position.
    pub(super) sources: Vec<Option<&'static [u8]>>,
    /// Those that are written.
    pub(super) targets: Vec<&'static mut [u8]>,
    /// Which of them have been given.
    pub(super) given: Vec<bool>,
    pub(super) tile: TileLists,
    pub(super) tail: Tail,
}

/// Lists of one tile.
#[derive(Debug, Default)]
pub(super) struct TileLists {
    pub(super) sources: Vec<&'static [u8]>,
    pub(super) targets: Vec<&'static mut [u8]>,
}

/// What a length leaves over that is no multiple of a block, a block for each shard.
#[derive(Debug, Default)]
pub(super) struct Tail {
    copies: Vec<[u8; BLOCK_BYTES]>,
    results: Vec<[u8; BLOCK_BYTES]>,
    sources: Vec<Option<&'static [u8]>>,
    targets: Vec<&'static mut [u8]>,
}

impl WideWorkspace {
    /// No memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` of it, with anything in them, and the lists.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(&mut [u8], &mut Lists), DecodeError> {
        if self.memory.as_ref().is_none_or(|buffer| buffer.len() < bytes) {
            self.memory = None;
            self.memory = Some(AlignedBuffer::zeroed(bytes)?);
        }
        Ok((self.memory.as_deref_mut().unwrap_or_default(), &mut self.lists))
    }

    /// Bytes it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let Lists { sources, targets, given, tile, tail } = &self.lists;
        let pairs = sources.capacity() + targets.capacity() + tile.sources.capacity() + tile.targets.capacity();
        let of_tail = tail.sources.capacity() + tail.targets.capacity();
        let blocks = tail.copies.capacity() + tail.results.capacity();
        let memory = self.memory.as_ref().map_or(0, |memory| memory.len());
        memory + (pairs + of_tail) * size_of::<&[u8]>() + given.capacity() + blocks * BLOCK_BYTES
    }
}

/// An empty list with the room of `list`, for references that live longer or shorter. Made in place: elements of one size and
/// alignment are collected into the memory they come from, which a test of allocations would notice to be no longer so.
pub(super) fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

/// The same, out of its place.
pub(super) fn taken<T, U>(list: &mut Vec<T>) -> Vec<U> {
    emptied(std::mem::take(list))
}

/// Bytes of a block: 32 low bytes and the 32 high bytes that go with them.
pub(super) const BLOCK_BYTES: usize = 64;

/// Calls `run` with ranges of at most `tile` bytes in whole blocks, which together are the buffers. What is left of a length
/// that is no multiple of a block is half low and half high bytes; it is spread over a block of its own, in copies.
pub(super) fn in_blocks(
    len: usize,
    tile: usize,
    sources: &[Option<&[u8]>],
    targets: &mut [&mut [u8]],
    tail: &mut Tail,
    mut run: impl FnMut(&[Option<&[u8]>], &mut [&mut [u8]], Range<usize>),
) {
    let whole = len - len % BLOCK_BYTES;
    for start in (0..whole).step_by(tile) {
        run(sources, targets, start..whole.min(start + tile));
    }
    if whole == len {
        return;
    }
    let half = (len - whole) / 2;
    let Tail { copies, results, sources: source_room, targets: target_room } = tail;
    copies.clear();
    copies.extend(sources.iter().map(|source| source.map_or([0; BLOCK_BYTES], |it| spread(&it[whole..], half))));
    results.clear();
    results.resize(targets.len(), [0; BLOCK_BYTES]);
    let mut slices: Vec<Option<&[u8]>> = taken(source_room);
    slices.extend(sources.iter().zip(&*copies).map(|(source, copy)| source.map(|_| &copy[..])));
    let mut rows: Vec<&mut [u8]> = taken(target_room);
    rows.extend(results.iter_mut().map(|row| &mut row[..]));
    run(&slices, &mut rows, 0..BLOCK_BYTES);
    (*source_room, *target_room) = (emptied(slices), emptied(rows));
    for (target, result) in targets.iter_mut().zip(results) {
        let (low, high) = target[whole..].split_at_mut(half);
        low.copy_from_slice(&result[..half]);
        high.copy_from_slice(&result[BLOCK_BYTES / 2..][..half]);
    }
}

fn spread(rest: &[u8], half: usize) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let (low, high) = rest.split_at(half);
    block[..half].copy_from_slice(low);
    block[BLOCK_BYTES / 2..][..half].copy_from_slice(high);
    block
}
