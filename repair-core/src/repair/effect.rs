//! What a repair or an audit is given and what it says in the end. Their events and effects are those of any
//! [transfer](crate::client::effect).

use crate::id::{AttemptId, ExtentKey, RecordHash};
use crate::wire::node::{Authority, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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

/// What to audit, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSpec {
    /// The extent.
    pub extent: ExtentKey,
    /// Hash of the record on file.
    pub hash: RecordHash,
    /// The disk of each fragment, by index.
    pub sources: BTreeMap<u16, Place>,
    /// Payload of all fragments together that may be read in a second; 0 for no limit.
    pub bytes_per_second: u64,
}

/// What became of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOutcome {
    /// What it says.
    pub verdict: AuditVerdict,
    /// Fragments that were damaged or not there. Only where it is incomplete.
    pub suspects: Vec<Suspect>,
    /// Payload read.
    pub read_bytes: u64,
}

/// What an audit says of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every fragment has its root, parity is what the code makes of the data, and the data is what the extent's hash says.
    Sound,
    /// Not everything could be read, or two readings differ: nothing follows.
    Incomplete {
        /// Why.
        reason: String,
    },
    /// Two readings, computed in different ways, found the same to be wrong.
    Wrong(Finding),
}

/// What is wrong with an extent whose fragments could all be read. Stored in the catalog: variants are only appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// Fragments have another root than the one on record, though each of their CRCs is right. What parity and data come to is
    /// not judged then.
    Roots {
        /// Their indexes, ascending.
        fragments: Vec<u16>,
    },
    /// Every fragment has its root and the data is what the extent's hash says, but parity is not what the code makes of it.
    Parity {
        /// Their indexes, ascending.
        fragments: Vec<u16>,
    },
    /// Every fragment has its root, but the data is not what the extent's hash says.
    ExtentHash {
        /// Indexes of parity that is not what the code makes of the data either.
        parity: Vec<u16>,
    },
}

impl Finding {
    /// Parity that is known to be wrong: data rebuilt from it would be.
    pub fn wrong_parity(&self) -> &[u16] {
        match self {
            Self::Parity { fragments } => fragments,
            // Data and parity accuse each other.
            Self::Roots { .. } | Self::ExtentHash { .. } => &[],
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |indexes: &[u16]| indexes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Roots { fragments } => {
                write!(f, "another root than the one on record: {}", listed(fragments))
            }
            Self::Parity { fragments } => write!(f, "data is right, parity {} is not the code's", listed(fragments)),
            Self::ExtentHash { parity } if parity.is_empty() => {
                f.write_str("data and parity agree, but not with the extent's hash on record")
            }
            Self::ExtentHash { parity } => write!(
                f,
                "data is not what the extent's hash on record says, and parity {} is not what the code makes of it",
                listed(parity)
            ),
        }
    }
}
