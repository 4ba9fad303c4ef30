//! Many small files in one stream: `docs/format/pack.md`.
//!
//! A fragment costs a file to create and to sync and at least two blocks around its payload; a file of a few bytes in a stream
//! of its own would cost thousands of times its size. [`PackSource`] makes such a stream out of files as they lie on the
//! disk, without a copy of them; [`PackIndex`] reads the directory back, from bytes it does not trust.

mod index;
mod listed;
mod source;

pub use index::{DIRECTORY_BYTES_MAX, PackEntry, PackError, PackIndex, TRAILER_BYTES};
pub use listed::ListedFile;
pub use source::{PackSource, Part};
