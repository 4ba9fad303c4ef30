//! What a repair is given and what it says in the end. Its events and effects are those of any
//! [transfer](crate::client::effect).

use crate::id::{AttemptId, ExtentKey, RecordHash};
use crate::wire::node::{Authority, Place};
use std::collections::BTreeMap;

/// What to rebuild, from where, to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairSpec {
    /// The extent.
    pub extent: ExtentKey,
    /// Hash of the record on file.
    pub hash: RecordHash,
    /// Names the stages.
    pub attempt: AttemptId,
    /// The owner and its row, for the nodes.
    pub authority: Authority,
    /// Disks that may have a fragment, by index; within an index the likeliest first.
    pub sources: BTreeMap<u16, Vec<Place>>,
    /// Disks that need one, by index.
    pub targets: BTreeMap<u16, Place>,
    /// Whether a single fragment may come through a chain of its sources.
    pub chain: bool,
}

/// A fragment found bad on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its index.
    pub index: u16,
    /// Where.
    pub place: Place,
    /// What was found.
    pub reason: String,
}

/// What became of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairOutcome {
    /// Indexes published.
    pub published: Vec<u16>,
    /// Indexes that were not, and why.
    pub failed: BTreeMap<u16, String>,
    /// Sources that were found bad or gone.
    pub suspects: Vec<Suspect>,
    /// Payload read from sources, also in tries that failed; by the hops of a chain, where it gave its sums.
    pub read_bytes: u64,
    /// Payload that came as the sums of a chain.
    pub chained_bytes: u64,
    /// Why the chain was given up and the rest read from every source; none where there was none or it held.
    pub chain_fault: Option<String>,
    /// The least the code must read for these losses in one joint repair; 0 where nothing was published.
    pub minimum_read_bytes: u64,
    /// Payload that targets had already, kept from an earlier repair that was cut off: neither read for nor sent again. Where there was
    /// some, less than `minimum_read_bytes` may have been read.
    pub resumed_bytes: u64,
    /// Payload sent to targets, also in tries that failed.
    pub written_bytes: u64,
    /// Payload of the fragments published.
    pub rebuilt_bytes: u64,
}
