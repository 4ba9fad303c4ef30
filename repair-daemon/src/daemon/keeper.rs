//! The thread that has the catalog: one operation after the other, in the order they were asked for.

use crate::catalog::{Catalog, CatalogError};
use repair_core::catalog::{Txn, TxnResult};
use repair_core::coordinator::CoordinatorEvent;
use repair_core::pg::CallId;
use std::sync::mpsc::Receiver;

/// An operation wanted.
#[derive(Debug)]
pub(super) enum CatalogCall {
    Get { op: CallId, keys: Vec<Vec<u8>> },
    Range { op: CallId, prefix: Vec<u8>, after: Option<Vec<u8>>, limit: usize },
    Txn { op: CallId, txn: Txn },
}

/// Performs operations until nobody can ask for more, or the storage fails; what failed then is returned.
pub(super) fn keep(
    mut catalog: Box<dyn Catalog>,
    calls: &Receiver<CatalogCall>,
    tell: impl Fn(CoordinatorEvent),
) -> Result<(), String> {
    while let Ok(call) = calls.recv() {
        tell(perform(&mut *catalog, call)?);
    }
    Ok(())
}

fn perform(catalog: &mut dyn Catalog, call: CatalogCall) -> Result<CoordinatorEvent, String> {
    Ok(match call {
        CatalogCall::Get { op, keys } => CoordinatorEvent::Rows { op, rows: silent(catalog.get(&keys))? },
        CatalogCall::Range { op, prefix, after, limit } => {
            CoordinatorEvent::Range { op, rows: silent(catalog.range(&prefix, after.as_deref(), limit))? }
        }
        CatalogCall::Txn { op, txn } => {
            CoordinatorEvent::Txn { op, result: silent(catalog.txn(&txn))?.unwrap_or(TxnResult::Unknown) }
        }
    })
}

/// Silence is an answer to the coordinator; failed storage ends the process.
fn silent<T>(result: Result<T, CatalogError>) -> Result<Result<T, String>, String> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error @ CatalogError::Silent(_)) => Ok(Err(error.to_string())),
        Err(error @ CatalogError::Broken(_)) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::catalog::Found;
    use repair_core::catalog::memory::MemoryCatalog;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    struct Failing(CatalogError);

    impl Catalog for Failing {
        fn get(&mut self, _: &[Vec<u8>]) -> Result<Vec<Option<Found>>, CatalogError> {
            Err(self.0.clone())
        }

        fn range(&mut self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<Found>, CatalogError> {
            Err(self.0.clone())
        }

        fn txn(&mut self, _: &Txn) -> Result<TxnResult, CatalogError> {
            Err(self.0.clone())
        }
    }

    fn run(catalog: impl Catalog + 'static) -> (Result<(), String>, Vec<CoordinatorEvent>) {
        let (calls, receiver) = channel();
        calls.send(CatalogCall::Txn { op: CallId(1), txn: Txn::new().put(b"a".to_vec(), vec![1]) }).unwrap();
        calls.send(CatalogCall::Get { op: CallId(2), keys: vec![b"a".to_vec()] }).unwrap();
        calls.send(CatalogCall::Range { op: CallId(3), prefix: b"a".to_vec(), after: None, limit: 9 }).unwrap();
        drop(calls);
        let told = Mutex::new(Vec::new());
        let end = keep(Box::new(catalog), &receiver, |event| told.lock().unwrap().push(event));
        (end, told.into_inner().unwrap())
    }

    #[test]
    fn operations_come_back_in_order_under_their_names() {
        let (end, told) = run(MemoryCatalog::default());
        assert_eq!(end, Ok(()));
        assert!(matches!(&told[0], CoordinatorEvent::Txn { op: CallId(1), result: TxnResult::Done { revision: 1 } }));
        assert!(matches!(&told[1], CoordinatorEvent::Rows { op: CallId(2), rows: Ok(rows) } if rows[0].is_some()));
        assert!(matches!(&told[2], CoordinatorEvent::Range { op: CallId(3), rows: Ok(rows) } if rows.len() == 1));
    }

    #[test]
    fn silence_is_unknown_and_broken_storage_is_the_end() {
        let (end, told) = run(Failing(CatalogError::Silent("gone".into())));
        assert_eq!(end, Ok(()));
        assert!(matches!(&told[0], CoordinatorEvent::Txn { op: CallId(1), result: TxnResult::Unknown }));
        assert!(matches!(&told[1], CoordinatorEvent::Rows { op: CallId(2), rows: Err(_) }));
        assert!(matches!(&told[2], CoordinatorEvent::Range { op: CallId(3), rows: Err(_) }));
        let (end, told) = run(Failing(CatalogError::Broken("torn".into())));
        assert!(end.unwrap_err().contains("torn") && told.is_empty());
    }
}
