//! Why something was not done: a closed taxonomy. Only [`Refusal::NotFound`] from the one who must know lowers redundancy at
//! once; everything else means "cannot say".

use serde::{Deserialize, Serialize};

/// An answer that is no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It is not there, and the one who says so would have it.
    #[error("not found")]
    NotFound,
    /// It may be there; it cannot be had now.
    #[error("not available: {0}")]
    Unavailable(String),
    /// It is there and damaged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A later owner has been here, or the token is of another claim.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The row sent is older than one heard before: the catalog went back.
    #[error("the row is older than one heard before: {0}")]
    OldRow(String),
    /// The row sent has the number of one heard before and another content.
    #[error("two histories: {0}")]
    Fork(String),
    /// The member's list does not come to the row; it stores nothing until it was caught up.
    #[error("behind: {0}")]
    Behind(String),
    /// No room.
    #[error("no space: {0}")]
    NoSpace(String),
    /// Too much in work; ask again.
    #[error("busy: {0}")]
    Busy(String),
    /// Nothing staged under that key, or not all of it.
    #[error("not staged: {0}")]
    NotStaged(String),
    /// The bytes received do not have the root the record names.
    #[error("root is not the one on record: {0}")]
    RootMismatch(String),
    /// The attempt was aborted; it can never take effect.
    #[error("attempt was aborted")]
    Aborted,
    /// Another cell's disk or daemon.
    #[error("another cell: {0}")]
    WrongCell(String),
    /// Two nodes say they hold one disk.
    #[error("duplicate: {0}")]
    Duplicate(String),
    /// A request that makes no sense, or a value this version does not know.
    #[error("refused: {0}")]
    Invalid(String),
    /// The store failed; what was in work there is discarded.
    #[error("store failed: {0}")]
    Store(String),
    /// Nowhere to put it under the policy.
    #[error("no place: {0}")]
    NoPlace(String),
    /// Not the owner (any more): ask again later or elsewhere.
    #[error("not the owner: {0}")]
    NotOwner(String),
}

/// No answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made: the request was not seen.
    #[error("unreachable")]
    Unreachable,
    /// The connection ended before the answer: the request may have been done.
    #[error("connection lost")]
    Lost,
    /// No answer in time: the request may have been done, or be done later.
    #[error("no answer in time")]
    Timeout,
    /// The answer was no sense.
    #[error("an answer that makes no sense")]
    Nonsense,
}
