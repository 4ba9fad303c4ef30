//! The small, strongly consistent store: what its rows are and what a transaction means.
//!
//! A catalog maps keys (bytes) to values (bytes), each with the revision of the transaction that wrote it. One transaction
//! compares revisions and, if all hold, writes; its outcome can be *unknown*, and then it may yet have happened or happen. The
//! daemon keeps it in redb, later in etcd; [`memory::MemoryCatalog`] is the definition both answer to.

pub mod key;
pub mod memory;
pub mod row;
pub mod txn;

pub use row::{
    CellRow, DiskRow, DrainRow, Entry, EntryKind, IntentRow, LeaseRow, NameRow, OwnerRow, PauseRow, PgRow, PgState,
    StreamExtentRow, StreamRow,
};
pub use txn::{Compare, Found, Txn, TxnResult, Write};
