//! Open files of fragments, handed from a node to a client on the same host.
//!
//! What a client reads over TCP passes through two sockets and the node's memory. On one host that is work for nothing: a node has a UNIX
//! socket in its data folder, its *door*, and gives whoever may open it the fragment's file, open for reading, and the
//! fragment's table of CRCs. The client reads payload from the page cache into memory of its own, and proves it there exactly as it
//! does bytes from the wire. `docs/design/0005-local-reads.md` says why so; the bytes are in `docs/format/wire.md`, section 5.
//!
//! The door is never needed. It gives what the node's store would read from at that moment and says nothing else: every
//! doubt, error or delay here, and every byte that is not in memory, sends the client to the node's port, where refusals
//! are spoken, damage is noticed and slowness is seen.

mod client;
mod node;

pub use client::{Doors, OpenFragment};
pub use node::{Door, serve};

use repair_core::id::ExtentKey;
use repair_core::wire::node::FragmentKey;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// Name of the socket in a node's data folder. Fixed, so that what a node says of itself leads to no other socket.
pub const SOCKET: &str = "door";

const MAGIC: &[u8; 4] = b"N9D1";
const REQUEST_BYTES: usize = 32;
const ANSWER_BYTES: usize = 16;
/// Blocks of the longest payload, 1 GiB: no table is longer.
const BLOCKS_MAX: u32 = 1 << 18;

/// Which file.
fn request_bytes(fragment: FragmentKey) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..6].copy_from_slice(&fragment.index.to_le_bytes());
    bytes[8..16].copy_from_slice(&fragment.generation.to_le_bytes());
    bytes[16..].copy_from_slice(&fragment.extent.0.to_le_bytes());
    bytes
}

fn parse_request(bytes: &[u8; REQUEST_BYTES]) -> Option<FragmentKey> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk()?;
    let (zeros, rest) = rest.split_first_chunk::<2>()?;
    let (generation, extent) = rest.split_first_chunk()?;
    let fragment = FragmentKey {
        extent: ExtentKey(u128::from_le_bytes(extent.try_into().ok()?)),
        generation: u64::from_le_bytes(*generation),
        index: u16::from_le_bytes(*index),
    };
    (magic == MAGIC && *zeros == [0; 2]).then_some(fragment)
}

/// What comes before the table: where the payload lies in the file, and how many blocks it has. Of a file that is not given, no
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    payload_at: u64,
    blocks: u32,
}

impl Answer {
    const NOT_GIVEN: Self = Self { payload_at: 0, blocks: 0 };

    fn to_bytes(self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[8..].copy_from_slice(&self.payload_at.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; ANSWER_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (blocks, payload_at) = rest.split_first_chunk()?;
        let blocks = u32::from_le_bytes(*blocks);
        let payload_at = u64::from_le_bytes(payload_at.try_into().ok()?);
        (magic == MAGIC && blocks <= BLOCKS_MAX && payload_at <= 1 << 62).then_some(Self { payload_at, blocks })
    }
}

/// A path to the socket of an open folder that is short enough for the system's 108 bytes, however deep the folder lies.
fn socket_path(folder: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests;
