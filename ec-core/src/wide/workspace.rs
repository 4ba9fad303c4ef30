//! Memory that is used again, and the blocks that shards are worked on in.

use crate::buffer::AlignedBuffer;
use crate::error::DecodeError;
use std::ops::Range;

/// Memory that encoding and rebuilding work in: empty at first, it grows to what the codes it is used with need (about
/// 0.5 MiB for most, up to 8 MiB for the widest) and is kept between calls. Whoever encodes many stripes keeps one a thread.
#[derive(Debug, Default)]
pub struct WideWorkspace(Option<AlignedBuffer>);

impl WideWorkspace {
    /// No memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` of it, with anything in them.
    pub(super) fn take(&mut self, bytes: usize) -> Result<&mut [u8], DecodeError> {
        if self.0.as_ref().is_none_or(|buffer| buffer.len() < bytes) {
            self.0 = None;
            self.0 = Some(AlignedBuffer::zeroed(bytes)?);
        }
        Ok(self.0.as_deref_mut().unwrap_or_default())
    }
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
    let copies = sources.iter().map(|source| source.map(|source| spread(&source[whole..], half))).collect::<Vec<_>>();
    let copies = copies.iter().map(|copy| copy.as_ref().map(<[u8; BLOCK_BYTES]>::as_slice)).collect::<Vec<_>>();
    let mut results = vec![[0; BLOCK_BYTES]; targets.len()];
    let mut slices = results.iter_mut().map(<[u8; BLOCK_BYTES]>::as_mut_slice).collect::<Vec<_>>();
    run(&copies, &mut slices, 0..BLOCK_BYTES);
    for (target, result) in targets.iter_mut().zip(&results) {
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
