//! Transactions as values.

/// A transaction holds only while this key has this revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Vec<u8>,
    /// The revision its value was last written at; 0 where the key must be absent.
    pub revision: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// Removes every key that begins so.
    DeletePrefix {
        /// The beginning.
        prefix: Vec<u8>,
    },
}

/// Compare, then write, as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Applied in order if they do.
    pub writes: Vec<Write>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// It was applied, durably; its writes have this revision.
    Done {
        /// Greater than that of any transaction before.
        revision: u64,
    },
    /// A compare did not hold, this time. A library may have sent it twice: whoever must know whether it ever took effect treats
    /// this like [`TxnResult::Unknown`] (`commit.md` line 12).
    Refused,
    /// No answer: applied, not applied, or applied later.
    Unknown,
}

/// One row as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision it was written at.
    pub revision: u64,
}

impl Txn {
    /// A transaction without conditions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a condition.
    #[must_use]
    pub fn compare(mut self, key: Vec<u8>, revision: u64) -> Self {
        self.compares.push(Compare { key, revision });
        self
    }

    /// With a value set.
    #[must_use]
    pub fn put(mut self, key: Vec<u8>, value: Vec<u8>) -> Self {
        self.writes.push(Write::Put { key, value });
        self
    }

    /// With a key removed.
    #[must_use]
    pub fn delete(mut self, key: Vec<u8>) -> Self {
        self.writes.push(Write::Delete { key });
        self
    }
}
