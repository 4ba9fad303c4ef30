//! The process of a storage node: it performs what one [`Node`](repair_core::node::Node) wants done.
//!
//! ```text
//! clients, daemon -- transport --\                    /-- workers: threads on the disk store
//!                                  actor: Node machine
//! timer, signals ----------------/                    \-- link: the one connection to the daemon
//! ```
//! The actor is one task and waits for nobody: a slow sync delays the answers that depend on it, and no others. What is kept
//! between two lives is in the data folder; a node that was killed reads its journals and goes on from there.

mod host;
mod link;
mod workers;

pub use host::{Options, run, run_over};
