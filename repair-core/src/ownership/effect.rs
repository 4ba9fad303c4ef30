//! What happens to the machine of the lease, and what it wants.

use crate::catalog::{Found, Txn, TxnResult};
use crate::limits::{DAEMON_NAME_BYTES_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN};
use crate::time::{Millis, Time};
use crate::wire::codec::CodecError;

/// Names a catalog operation of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseOp(pub u64);

/// Settings of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Name of this daemon, the same over its restarts and no other's of the cell: where others find it. At most 255 bytes.
    pub daemon: String,
    /// Silence after which another daemon takes over, from 100 ms to 10 minutes.
    pub ttl: Millis,
    /// Whether the catalog admits one process at a time, as a locked file does: then whoever can ask it is alone, takes the lease
    /// at once and need not renew it.
    pub exclusive: bool,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        // As long as a disk may be silent before it is suspected.
        Self { daemon: "daemon".into(), ttl: Millis(10_000), exclusive: true }
    }
}

/// Happens to the machine.
#[derive(Clone, Debug)]
pub enum LeaseEvent {
    /// Begin to look.
    Begin,
    /// The lease's row, read after it was asked for.
    Row {
        /// Names the effect.
        op: LeaseOp,
        /// None where there is none; an error where the catalog did not answer.
        row: Result<Option<Found>, String>,
    },
    /// A transaction ended.
    Txn {
        /// Names the effect.
        op: LeaseOp,
        /// How.
        result: TxnResult,
    },
    /// Another daemon is to take over, at once.
    HandOver,
    /// Nothing is under way any more that was begun before the hand-over.
    WorkEnded,
    /// The moment asked for has come.
    Tick,
}

/// Wanted by the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Read the lease's row (linearizable); ends as [`LeaseEvent::Row`].
    Read {
        /// Names it.
        op: LeaseOp,
    },
    /// A transaction on it; ends as [`LeaseEvent::Txn`].
    Write {
        /// Names it.
        op: LeaseOp,
        /// Which.
        txn: Txn,
    },
    /// A [`LeaseEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
    /// Something to be told.
    Outcome(LeaseOutcome),
}

/// By what right a lease was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// There was none.
    Free,
    /// The catalog admits nobody else.
    Alone,
    /// An earlier life of the same daemon held it.
    Own,
    /// Its holder had handed it over.
    Released,
    /// It had not been renewed for longer than its TTL.
    Silent,
}

impl Right {
    /// The name in notes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Alone => "alone",
            Self::Own => "own",
            Self::Released => "released",
            Self::Silent => "silent",
        }
    }
}

/// What becomes of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It is held: work may begin.
    Taken {
        /// By what right.
        right: Right,
        /// Who held it before.
        before: Option<String>,
    },
    /// It could not be renewed in time: nothing new is begun until it is.
    Lapsed,
    /// It was renewed after all.
    Regained,
    /// The machine is at its end.
    Ended(LeaseEnd),
}

/// The end of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Another daemon holds the lease.
    Superseded {
        /// Its name.
        by: String,
    },
    /// It was handed over.
    HandedOver,
    /// The lease cannot be understood or written.
    Broken(LeaseError),
}

/// Why a lease cannot be understood or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Not a row of a lease, or of a later version.
    #[error("the lease's row in the catalog cannot be read: {0}")]
    Row(CodecError),
    /// A TTL that makes no sense.
    #[error("a lease of {} ms; from {} to {} ms are allowed", ttl.0, LEASE_TTL_MIN.0, LEASE_TTL_MAX.0)]
    Ttl {
        /// In the row or the settings.
        ttl: Millis,
    },
    /// A name that makes no sense.
    #[error("a daemon's name of {bytes} bytes; from 1 to {DAEMON_NAME_BYTES_MAX} are allowed")]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The counter is at its end.
    #[error("the lease's counter cannot rise further")]
    Counter,
    /// The row of a lease that is held is gone.
    #[error("the lease's row is gone from the catalog")]
    Vanished,
}
