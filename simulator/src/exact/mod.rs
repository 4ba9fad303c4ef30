//! The machines of the service themselves, with real bytes, in virtual time: disks that crash, tear, lose and rot, a network that
//! drops, doubles, delays and parts, a catalog that does not say what it did, daemons beside each other. One seed is one run, and
//! always the same one. After every event the [invariants](repair_core::invariant) it could break are checked.
//!
//! | module | subject |
//! |---|---|
//! | [`world`], [`queue`], [`trace`] | one virtual time, events in order, what happened |
//! | [`node`], [`disk`], [`file`] | nodes on fake disks |
//! | [`daemon`], [`catalog`], [`lease`] | daemons on a fake catalog, one in charge and others that stand by |
//! | [`client`], [`reader`], [`content`] | what users do |
//! | [`net`], [`message`] | what travels |
//! | [`fault`], [`atlas`], [`mutation`] | what goes wrong, what may be hurt, what is wrong on purpose |
//! | [`profile`], [`mode`] | in which kind of cell, and what is asked of it |
//! | [`rollback`] | a catalog put back to an earlier copy |
//! | [`oracle`], [`check`], [`recount`], [`quiet`] | what is true, and whether it is |
//! | [`counts`] | what a run went through |
//! | [`shrink`] | a smaller run that fails too |

pub mod atlas;
pub mod catalog;
pub mod check;
pub mod client;
pub mod content;
pub mod counts;
pub mod daemon;
pub mod disk;
pub mod fault;
pub mod file;
pub mod lease;
pub mod message;
pub mod mode;
pub mod mutation;
pub mod net;
pub mod node;
pub mod oracle;
pub mod profile;
pub mod queue;
pub mod quiet;
pub mod reader;
pub mod recount;
pub mod rollback;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod world;

pub use counts::Counts;
pub use mode::Mode;
pub use mutation::Mutation;
pub use run::{Limits, Options, Run, run};
pub use shrink::shrink;
