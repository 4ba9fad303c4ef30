//! The fragment format, version 1: what one shard looks like in its file. `docs/format/fragment.md` is the definition.
//!
//! Everything here is a function of bytes: it opens no file and reads no clock. Any bytes may be handed in. A length is
//! believed only after the checksum over it held and its limit was applied, so nothing here panics, overflows or allocates
//! more than the limits below allow.
//!
//! - [`identity`]: ids, file names, the birth identity and what is derived from it (block seed, root).
//! - [`header`]: the first 4096 bytes, and the [`Layout`] of the file they determine.
//! - [`record`]: the [`ExtentRecord`], the same bytes in every fragment of an extent.
//! - [`tail`]: table, record and footer.
//! - [`sums`]: block CRCs and payload hash of one fragment, from pieces in any order.
//! - [`tree`]: the payload's BLAKE3 hash from pieces in any order.
//! - [`mod@examine`]: from bytes to the [`Class`] of a fragment.
//!
//! ```
//! use ec_core::fragment::{BirthIdentity, CellId, ExtentId, FragmentName};
//! use ec_core::ShardIndex;
//!
//! let (cell, extent) = (CellId(0), ExtentId(0xfeed));
//! let identity = BirthIdentity { cell, extent, generation: 1, index: ShardIndex::new(7), payload_bytes: 8192 };
//! assert_eq!(identity.file_name(), "0000000000000000000000000000feed.1.00007.frag");
//! assert_eq!(FragmentName::parse(&identity.file_name()).unwrap().index, identity.index);
//! assert_eq!(BirthIdentity::from_bytes(&identity.to_bytes()), Ok(identity));
//! ```

pub mod error;
pub mod examine;
pub mod header;
pub mod identity;
pub mod record;
pub mod sums;
pub mod tail;
pub mod tree;
mod wire;

pub use error::{FormatError, TailError};
pub use examine::{
    Class, Examination, RecordOnFile, Structure, bad_blocks, examine, examine_structure, examine_tail, judge,
    judge_payload, record_on_file,
};
pub use header::{Header, Layout};
pub use identity::{BirthIdentity, BlockSeed, CellId, ExtentId, FragmentName, Hash, StreamId};
pub use record::{Content, ExtentRecord, FragmentEntry, StreamExtent};
pub use sums::{FragmentSums, SumError};
pub use tail::{Footer, Tail, build_tail, parse_tail, scan_footer};
pub use tree::{Incomplete, TreeError, TreeHasher};

use crate::geometry::BLOCK_BYTES;

/// Bytes of the header: one block, so that the payload begins on a block boundary.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of the footer, the last of the file.
pub const FOOTER_BYTES: usize = 128;
/// Largest extent record.
pub const RECORD_BYTES_MAX: usize = 65_536;
/// Longest name of a stream.
pub const NAME_BYTES_MAX: usize = 4096;
/// Bytes of a birth identity.
pub const IDENTITY_BYTES: usize = 56;

// The payload is block-aligned in the file only while the header is whole blocks.
const _: () = assert!(HEADER_BYTES.is_multiple_of(BLOCK_BYTES));
