//! Streams of bytes to folders of fragments and back.
//!
//! The unit of work is a *slice*: the same range of every shard of one extent. Slices are independent of each other, so they
//! are spread over a thread pool, and a file of any size passes through a few buffers: see [`slices`]. Hashes are
//! order-free trees ([`ec_core::fragment::TreeHasher`]), so nothing waits for its turn.
//!
//! Reading trusts nothing: [`scan`] looks at what lies in the folders and settles which record is on file, [`check`] reads
//! payloads against it, [`decode`] and [`repair`] use only fragments whose root was proven and compare what they made with
//! the roots and hash on record before it gets a final name ([`staged`]).

pub mod check;
pub mod decode;
pub mod direct;
pub mod encode;
pub mod error;
pub mod fragment_file;
pub mod rebuild;
pub mod repair;
pub mod scan;
pub mod slices;
pub mod source;
pub mod staged;
mod tidy;
pub mod work;

pub use error::FilesError;
pub use work::Work;
