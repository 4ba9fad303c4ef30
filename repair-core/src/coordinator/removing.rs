//! Removal of a name. Bytes that no name refers to any more are doomed in the same transaction.

use super::ending::forget_names;
use super::names::check_name;
use super::tasks::{Next, Reading, Work, read_row};
use super::{Asker, Coordinator};
use crate::catalog::{Found, NameRow, StreamRow, Txn, TxnResult, key};
use crate::id::{ExtentKey, StreamKey};
use crate::wire::{DaemonReply, Refusal};

/// How often it reads again when its transaction did not hold.
const TRIES: u32 = 16;

/// A removal under way.
#[derive(Debug)]
pub(super) struct Removing {
    pub(super) asker: Asker,
    name: Vec<u8>,
    /// The stream it is removed from, as the client said or the first reading showed: what is put under the name later is not meant.
    stream: Option<StreamKey>,
    /// Whether the stream of the name is known, and its row asked for beside the name's.
    both: bool,
    tries: u32,
    /// A transaction of it may have taken effect.
    unsure: bool,
    pub(super) doomed: Vec<ExtentKey>,
}

impl Removing {
    fn reading(&self, stream: Option<NameRow>) -> Reading {
        let keys: Vec<Vec<u8>> =
            [key::name(&self.name)].into_iter().chain(stream.map(|row| key::stream(row.stream))).collect();
        Reading { locks: keys.clone(), keys }
    }

    fn again(&mut self) -> Result<Next, Refusal> {
        self.tries += 1;
        self.both = false;
        if self.tries > TRIES {
            return Err(Refusal::Busy("others change the same rows, or the catalog does not answer".into()));
        }
        Ok(Next::Read(self.reading(None)))
    }

    pub(super) fn rows(&mut self, rows: Vec<Option<Found>>) -> Result<Next, Refusal> {
        let mut rows = rows.into_iter();
        let found = read_row::<NameRow>(rows.next().flatten())?;
        let meant = |(row, _): &(NameRow, u64)| self.stream.is_none_or(|stream| stream == row.stream);
        let Some((name, revision)) = found.filter(meant) else {
            // The rows were read after the request came: it is not there. If a try of ours may have done it, it did.
            return if self.unsure { Ok(Next::Done) } else { Err(Refusal::NotFound) };
        };
        self.stream = Some(name.stream);
        if !std::mem::replace(&mut self.both, true) {
            return Ok(Next::Read(self.reading(Some(name))));
        }
        let txn = Txn::new().compare(key::name(&self.name), revision).delete(key::name(&self.name));
        let stream = match read_row::<StreamRow>(rows.next().flatten())? {
            Some((row, revision)) if row.stream == name.stream => Some((row, revision)),
            // The name came to another stream between the readings.
            Some(_) => return self.again(),
            None => None,
        };
        let Some((row, revision)) = stream else {
            return if self.tries < TRIES / 2 { self.again() } else { Ok(Next::Write(txn)) };
        };
        let (txn, doomed) = forget_names(txn, name.stream, row, revision, [name])?;
        self.doomed.extend(doomed);
        Ok(Next::Write(txn))
    }

    pub(super) fn written(&mut self, result: TxnResult) -> Result<Next, Refusal> {
        match result {
            TxnResult::Done { .. } => Ok(Next::Done),
            // Also a refused one may have been sent twice and have taken effect the first time.
            TxnResult::Refused | TxnResult::Unknown => {
                self.unsure = true;
                self.again()
            }
        }
    }
}

impl Coordinator {
    pub(super) fn remove(&mut self, asker: Asker, name: Vec<u8>, stream: Option<StreamKey>) {
        if let Err(error) = check_name(&name) {
            return self.refuse(asker, Refusal::Invalid(error.to_string()));
        }
        let remove = Removing { asker, name, stream, both: false, tries: 0, unsure: false, doomed: Vec::new() };
        let reading = remove.reading(None);
        self.begin_task(Work::Remove(remove), reading);
    }

    pub(super) fn remove_ends(&mut self, id: u64, result: Result<(), Refusal>) {
        if let Some(Work::Remove(remove)) = self.tasks.get(&id).map(|task| &task.work) {
            let (asker, unsure) = (remove.asker, remove.unsure);
            match result {
                Ok(()) => self.reply(asker, DaemonReply::Removed),
                Err(refusal) => self.refuse(asker, refusal),
            }
            if unsure {
                self.sweep_later();
            }
        }
        self.end_task(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::StreamExtentRow;
    use crate::node::{PeerId, RequestId};
    use crate::wire::codec::encode_row;

    fn found(key: Vec<u8>, row: &impl serde::Serialize) -> Option<Found> {
        Some(Found { key, value: encode_row(row).unwrap(), revision: 7 })
    }

    fn name_of(stream: u128) -> Option<Found> {
        found(key::name(b"a"), &NameRow { stream: StreamKey(stream), offset: 0, bytes: 1 })
    }

    fn stream(stream: u128) -> Option<Found> {
        let extent = StreamExtentRow { extent: ExtentKey(9), offset: 0, bytes: 1, names: 1 };
        let row = StreamRow { stream: StreamKey(stream), bytes: 1, extents: vec![extent], names: 1 };
        found(key::stream(StreamKey(stream)), &row)
    }

    fn removing(stream: Option<StreamKey>) -> Removing {
        let asker = Asker { peer: PeerId(1), id: RequestId(1) };
        Removing { asker, name: b"a".to_vec(), stream, both: false, tries: 0, unsure: false, doomed: Vec::new() }
    }

    #[test]
    fn a_removal_tried_again_takes_nothing_that_was_put_meanwhile() {
        let mut remove = removing(None);
        assert!(matches!(remove.rows(vec![name_of(1)]), Ok(Next::Read(_))));
        assert!(matches!(remove.rows(vec![name_of(1), stream(1)]), Ok(Next::Write(_))));
        assert!(matches!(remove.written(TxnResult::Unknown), Ok(Next::Read(_))));
        // It had been done, and another daemon let the name be put again.
        assert!(matches!(remove.rows(vec![name_of(2)]), Ok(Next::Done)));
    }

    #[test]
    fn what_is_not_of_the_stream_meant_is_not_there() {
        assert_eq!(removing(Some(StreamKey(1))).rows(vec![name_of(2)]).unwrap_err(), Refusal::NotFound);
        assert!(matches!(removing(Some(StreamKey(1))).rows(vec![name_of(1)]), Ok(Next::Read(_))));
    }
}
