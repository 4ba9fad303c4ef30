//! What happens to the coordinator and what it wants done.

use crate::catalog::{Found, Txn, TxnResult};
use crate::id::PgId;
use crate::node::{Body, PeerId, RequestId};
use crate::pg::{CallId, PgConfig};
use crate::repair::{AuditOutcome, AuditSpec, RepairOutcome, RepairSpec};
use crate::time::{Millis, Time};
use crate::wire::node::Place;
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use ec_core::CodeSpec;

/// A repair or an audit under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Happens to the coordinator.
#[derive(Clone, Debug)]
pub enum CoordinatorEvent {
    /// The process begins. Nothing else comes before it.
    Boot,
    /// Rows asked for by key, in the order of the keys.
    Rows {
        /// Names the effect.
        op: CallId,
        /// None where a key is absent; an error where the catalog did not answer.
        rows: Result<Vec<Option<Found>>, String>,
    },
    /// Rows asked for by range.
    Range {
        /// Names the effect.
        op: CallId,
        /// In order; an error where the catalog did not answer.
        rows: Result<Vec<Found>, String>,
    },
    /// A transaction ended.
    Txn {
        /// Names the effect.
        op: CallId,
        /// How.
        result: TxnResult,
    },
    /// A request came from a node or a client.
    Request {
        /// On this connection.
        peer: PeerId,
        /// With this number.
        id: RequestId,
        /// What is asked.
        request: DaemonRequest,
        /// Its body.
        body: Body,
    },
    /// A connection ended.
    PeerGone {
        /// Which.
        peer: PeerId,
    },
    /// A call ended.
    Call {
        /// Names the effect.
        call: CallId,
        /// How.
        result: Result<(NodeReply, Body), CallError>,
    },
    /// A repair came forward.
    RepairProgress {
        /// Which.
        job: JobId,
        /// Payload sent to targets so far.
        written_bytes: u64,
    },
    /// A repair ended.
    RepairDone {
        /// Which.
        job: JobId,
        /// What became of it.
        outcome: RepairOutcome,
    },
    /// An audit ended.
    AuditDone {
        /// Which.
        job: JobId,
        /// What became of it.
        outcome: AuditOutcome,
    },
    /// Another daemon is to take the cell over: what is under way is ended, then this one stops.
    HandOver,
    /// The moment asked for with [`CoordinatorEffect::WakeAt`] has come.
    Tick,
}

/// Wanted by the coordinator.
#[derive(Clone, Debug)]
pub enum CoordinatorEffect {
    /// Read rows as they are now (linearizable); ends as [`CoordinatorEvent::Rows`].
    Get {
        /// Names it.
        op: CallId,
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// Read rows by prefix (linearizable); ends as [`CoordinatorEvent::Range`].
    Range {
        /// Names it.
        op: CallId,
        /// How the keys begin.
        prefix: Vec<u8>,
        /// Only keys after this one.
        after: Option<Vec<u8>>,
        /// At most so many.
        limit: usize,
    },
    /// A transaction; ends as [`CoordinatorEvent::Txn`].
    Txn {
        /// Names it.
        op: CallId,
        /// Which.
        txn: Txn,
    },
    /// Answer a request.
    Reply {
        /// On this connection.
        peer: PeerId,
        /// The request.
        id: RequestId,
        /// The answer.
        reply: DaemonReply,
        /// Its body.
        body: Body,
    },
    /// Ask a node; ends as [`CoordinatorEvent::Call`].
    Call {
        /// Names it.
        call: CallId,
        /// Whom.
        to: Place,
        /// What.
        request: NodeRequest,
        /// Its body.
        body: Body,
        /// After this the answer counts as silence.
        deadline: Millis,
    },
    /// Run a repair; ends as [`CoordinatorEvent::RepairDone`].
    Repair {
        /// Names it.
        job: JobId,
        /// What.
        spec: Box<RepairSpec>,
    },
    /// Run an audit; ends as [`CoordinatorEvent::AuditDone`]. Never two at a time.
    Audit {
        /// Names it.
        job: JobId,
        /// What.
        spec: Box<AuditSpec>,
    },
    /// Something an operator may want to know: to the event log.
    Note(Note),
    /// A [`CoordinatorEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
    /// Go on no longer. The process ends with this message.
    Stop {
        /// Why.
        reason: Stopped,
    },
}

/// Why a daemon goes on no longer, and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// Another daemon is at work on the same catalog.
    #[error("another daemon has claimed placement group {pg}; this one goes on no longer")]
    Deposed {
        /// The group by which it was noticed.
        pg: PgId,
    },
    /// Another daemon makes placement groups.
    #[error("another daemon makes placement groups in this cell")]
    Rival,
    /// The cell's row is another than this daemon began with.
    #[error("the catalog's row of the cell has changed: another catalog was put in its place, or it was restored")]
    OtherCell,
    /// The catalog went back in time or forked: now, or an earlier daemon has written so into the cell's row.
    #[error(
        "the cell is suspended: the catalog went back in time or forked ({reason}). Nothing was changed and no daemon \
         starts on this catalog. Stop all daemons and put its newest copy back, the one the nodes were last changed \
         under; see \"A suspended cell\" in docs/operating.md"
    )]
    Suspended {
        /// What was seen.
        reason: String,
    },
    /// Another daemon has taken the lease.
    #[error("daemon {by} has taken the lease of the cell; this one goes on no longer")]
    Superseded {
        /// Its name.
        by: String,
    },
    /// As it was told.
    #[error("the cell was handed over to the next daemon")]
    HandedOver,
    /// The lease cannot be understood or written.
    #[error("{0}")]
    Lease(crate::ownership::LeaseError),
    /// A row of the catalog cannot be read or written.
    #[error("{0}")]
    Catalog(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// What kind, in snake case: `disk_lost`, `repair_done`.
    pub kind: &'static str,
    /// In words for a person, with the numbers.
    pub text: String,
    /// The same for programs, by key.
    pub fields: Vec<(&'static str, String)>,
}

/// Settings of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// The code of new placement groups; none to choose by the number of fault domains.
    pub code: Option<CodeSpec>,
    /// The level of the domain tree whose loss an extent must survive.
    pub fault_domain: crate::topology::Level,
    /// Length to cut extents to.
    pub extent_bytes: u64,
    /// How often nodes beat.
    pub beat_every: Millis,
    /// Silence after which a disk is suspected.
    pub suspect_after: Millis,
    /// From suspicion to loss.
    pub grace: Millis,
    /// How long a disk that flaps is held after its second flap, twice as long after each more; none for six times
    /// `suspect_after`.
    pub flap_hold: Option<Millis>,
    /// Slots per disk: how many placement groups a disk belongs to, about.
    pub slots_per_disk: u32,
    /// Repairs under way at once.
    pub repairs_max: usize,
    /// Whether the repair of a single fragment goes through a chain of its sources, where the code has one.
    pub repair_chain: bool,
    /// What repairs may move.
    pub budget: crate::budget::BudgetConfig,
    /// By code: what more further losses than that are survived of is put off for a while. At least 1.
    pub lazy_margins: Vec<(CodeSpec, usize)>,
    /// For how long, at most.
    pub lazy_wait: Millis,
    /// How long a put that broke off may come back before it is given up.
    pub put_resume: Millis,
    /// In every period one extent in so many is audited; 0 for none but those asked for.
    pub audit_one_in: u64,
    /// That period.
    pub audit_period: Millis,
    /// Payload of all fragments together that audits may read in a second; 0 for no limit.
    pub audit_bytes_per_second: u64,
    /// Which of several daemons works.
    pub lease: crate::ownership::LeaseConfig,
    /// Settings of the owners.
    pub pg: PgConfig,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            code: None,
            fault_domain: crate::topology::Level::Rack,
            extent_bytes: ec_core::geometry::EXTENT_BYTES_NOMINAL,
            beat_every: Millis(3_000),
            suspect_after: Millis(10_000),
            // GFS and HDFS wait about as long for a crashed node (Ford et al., OSDI 2010).
            grace: Millis(15 * 60 * 1_000),
            flap_hold: None,
            slots_per_disk: 8,
            repairs_max: 4,
            repair_chain: true,
            budget: crate::budget::BudgetConfig::default(),
            lazy_margins: Vec::new(),
            lazy_wait: Millis(24 * 60 * 60 * 1_000),
            put_resume: Millis(30_000),
            // The periods and the rate of the nodes' scrub (`NodeConfig`).
            audit_one_in: 1_000,
            audit_period: Millis(14 * 24 * 60 * 60 * 1_000),
            audit_bytes_per_second: 50_000_000,
            lease: crate::ownership::LeaseConfig::default(),
            pg: PgConfig::default(),
        }
    }
}

impl From<String> for Stopped {
    fn from(reason: String) -> Self {
        Self::Catalog(reason)
    }
}
