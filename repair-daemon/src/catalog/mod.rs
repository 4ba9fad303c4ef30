//! The catalog as a store: a trait, redb behind it, and what every implementation must do.
//!
//! What rows and transactions are is `repair_core::catalog`'s; its `MemoryCatalog` is the definition, and [`conformance`] holds an
//! implementation to it. Calls block: the daemon makes them from one thread, one after the other, so that what it asks for
//! first is done first.

pub mod conformance;
mod redb;

pub use self::redb::RedbCatalog;

use repair_core::catalog::memory::MemoryCatalog;
use repair_core::catalog::{Found, Txn, TxnResult};
use std::path::PathBuf;
use std::str::FromStr;

/// A small, strongly consistent store of rows.
pub trait Catalog: Send {
    /// The rows of these keys as they are now, in the order of the keys.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn get(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, CatalogError>;

    /// Up to `limit` rows whose keys begin with `prefix` and lie after `after` (from the start where none), by key, as they are
    /// now.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn range(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, CatalogError>;

    /// Applies a transaction whole and durably, or refuses it.
    ///
    /// # Errors
    /// [`CatalogError`]; whether the transaction was applied is unknown then.
    fn txn(&mut self, txn: &Txn) -> Result<TxnResult, CatalogError>;
}

/// The catalog did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// It cannot be had now; asked again it may answer.
    #[error("the catalog does not answer: {0}")]
    Silent(String),
    /// Its storage failed. Nothing it says afterwards counts before it was opened again.
    #[error("the catalog's storage failed: {0}")]
    Broken(String),
}

impl Catalog for MemoryCatalog {
    fn get(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, CatalogError> {
        Ok(keys.iter().map(|key| Self::get(self, key)).collect())
    }

    fn range(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, CatalogError> {
        Ok(Self::range(self, prefix, after, limit))
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResult, CatalogError> {
        Ok(self.apply(txn))
    }
}

/// Which catalog to use, as a user spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogUrl {
    /// A redb file of this daemon's own.
    Redb(PathBuf),
}

impl FromStr for CatalogUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            Some(("etcd", _)) => {
                Err("etcd: is not built into this version; use redb:PATH, which one daemon owns alone".into())
            }
            _ => Err(format!("{text:?} is no catalog: say redb:PATH")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_conforms_to_itself() {
        conformance::conformance(MemoryCatalog::default(), |catalog| catalog, 1).unwrap();
    }

    /// Each of these breaks one promise; the suite must see it.
    struct Broken {
        inner: MemoryCatalog,
        fault: &'static str,
    }

    impl Catalog for Broken {
        fn get(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, CatalogError> {
            let mut rows = Catalog::get(&mut self.inner, keys)?;
            if self.fault == "reordered" {
                rows.reverse();
            }
            Ok(rows)
        }

        fn range(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, CatalogError> {
            let limit = if self.fault == "limit" { usize::MAX } else { limit };
            let after = if self.fault == "after" { None } else { after };
            Catalog::range(&mut self.inner, prefix, after, limit)
        }

        fn txn(&mut self, txn: &Txn) -> Result<TxnResult, CatalogError> {
            let mut txn = txn.clone();
            match self.fault {
                "compares" => txn.compares.truncate(1),
                "writes" => txn.writes.truncate(2),
                "order" => txn.writes.reverse(),
                _ => {}
            }
            match self.inner.apply(&txn) {
                TxnResult::Done { .. } if self.fault == "revision" => Ok(TxnResult::Done { revision: 7 }),
                result => Ok(result),
            }
        }
    }

    #[test]
    fn the_suite_sees_each_broken_promise() {
        for fault in ["reordered", "limit", "after", "compares", "writes", "order", "revision"] {
            let broken = Broken { inner: MemoryCatalog::default(), fault };
            assert!(conformance::conformance(broken, |catalog| catalog, 1).is_err(), "{fault}");
        }
        let forgetful = |_| MemoryCatalog::default();
        assert!(conformance::conformance(MemoryCatalog::default(), forgetful, 1).is_err());
    }

    #[test]
    fn a_catalog_is_spelled_redb_and_a_path() {
        assert_eq!("redb:/a:b".parse(), Ok(CatalogUrl::Redb("/a:b".into())));
        assert!("etcd:http://h:2379".parse::<CatalogUrl>().unwrap_err().contains("not built"));
        for text in ["redb:", "redb", "", "/a", "sqlite:/a"] {
            assert!(text.parse::<CatalogUrl>().is_err(), "{text:?}");
        }
    }
}
