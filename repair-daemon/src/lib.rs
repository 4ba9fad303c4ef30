//! The `ninefold` command: files stored, repaired and proven over fault domains.
//!
//! The service: [`node`] is a storage node, a machine of `repair_core` over a [`store`]; [`daemon`] is the one process that
//! allocates, commits and repairs, over a [`catalog`]; [`client`] puts and gets; they speak over [`transport`].
//!
//! Without a service, [`files`] moves bytes between files and folders of fragments, verified on both sides, in bounded memory;
//! [`pack`] puts many small files into one stream. [`demo`] runs the main job on real files; [`bench`] measures the codes on this machine; [`cli`] is what a user types.
//! Codes, plans and the fragment format are `ec_core`'s, the protocol is `repair_core`'s.

#![forbid(unsafe_code)]

pub mod bench;
pub mod buffers;
pub mod catalog;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod door;
pub mod files;
pub mod node;
pub mod pack;
pub mod piped;
pub mod process;
pub mod store;
pub mod transport;
