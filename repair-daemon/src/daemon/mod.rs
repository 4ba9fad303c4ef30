//! The daemon's process: it performs what one [`Coordinator`](repair_core::coordinator::Coordinator) wants done.
//!
//! ```text
//! nodes, clients -- transport --\                      /-- catalog thread (redb)
//!                                 actor: Coordinator --+-- calls to nodes
//! operators ------ admin HTTP --/                      \-- repair workers, one thread each
//! ```
//! The actor is one task; everything else sends it events and takes its effects. It waits for nobody, so a slow node or a slow
//! disk never delays a beat. What is kept between two lives is the catalog and the event log; a daemon that was killed
//! claims every placement group anew and goes on from there.

mod admin;
pub mod events;
mod host;
mod keeper;
mod worker;
mod writer;

pub use host::{Options, run};
