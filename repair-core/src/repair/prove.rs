//! Which source lies? Reads sources whole and holds them against their own roots.

use crate::client::Outbox;
use crate::client::source::{proven_payload, read_request};
use crate::id::ExtentKey;
use crate::node::Body;
use crate::pg::CallId;
use crate::time::Millis;
use crate::wire::node::Place;
use crate::wire::{CallError, NodeReply};
use ec_core::fragment::{FragmentEntry, TreeHasher};
use std::collections::BTreeMap;
use std::ops::Range;

/// Slices of one source under way at the same time.
const READS_PER_SOURCE: usize = 2;

/// A source being read.
#[derive(Debug)]
struct Examined {
    place: Place,
    entry: FragmentEntry,
    hasher: Option<TreeHasher>,
    next: u64,
    under_way: usize,
}

/// What became of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its index.
    pub(super) index: u16,
    /// Where.
    pub(super) place: Place,
    /// What is wrong with it; none where its root is the one on record.
    pub(super) fault: Option<String>,
}

/// Reads sources whole.
#[derive(Debug)]
pub(super) struct Prover {
    extent: ExtentKey,
    slice_bytes: u64,
    deadline: Millis,
    examined: Vec<Examined>,
    calls: BTreeMap<CallId, (usize, Range<u64>)>,
    verdicts: Vec<Verdict>,
}

impl Prover {
    pub(super) fn new(
        extent: ExtentKey,
        slice_bytes: u64,
        deadline: Millis,
        sources: impl IntoIterator<Item = (Place, FragmentEntry)>,
    ) -> Self {
        let examined = sources.into_iter().map(|(place, entry)| {
            let hasher = Some(TreeHasher::new(entry.identity.payload_bytes));
            Examined { place, entry, hasher, next: 0, under_way: 0 }
        });
        Self {
            extent,
            slice_bytes,
            deadline,
            examined: examined.collect(),
            calls: BTreeMap::new(),
            verdicts: Vec::new(),
        }
    }

    /// Asks for what comes next, and judges what was read whole. True once all are judged.
    pub(super) fn advance(&mut self, outbox: &mut Outbox) -> bool {
        for (at, source) in self.examined.iter_mut().enumerate() {
            let identity = source.entry.identity;
            while source.hasher.is_some() && source.next < identity.payload_bytes && source.under_way < READS_PER_SOURCE
            {
                let range = source.next..(source.next + self.slice_bytes).min(identity.payload_bytes);
                (source.next, source.under_way) = (range.end, source.under_way + 1);
                let request = read_request(self.extent, &identity, &range);
                let call = outbox.call(&source.place, request, Body::new(), self.deadline);
                self.calls.insert(call, (at, range));
            }
            if source.under_way == 0
                && let Some(hasher) = source.hasher.take()
            {
                let fault = match hasher.finish() {
                    Ok(hash) if identity.root(&hash) == source.entry.root => None,
                    Ok(hash) => Some(format!("every CRC is right, but its root is {}", identity.root(&hash))),
                    Err(error) => Some(error.to_string()),
                };
                self.verdicts.push(Verdict { index: identity.index.get(), place: source.place.clone(), fault });
            }
        }
        self.examined.iter().all(|source| source.hasher.is_none())
    }

    /// Takes an answer; gives the payload bytes it brought. None where it is not to a question of this prover.
    pub(super) fn take(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) -> Option<u64> {
        let (at, range) = self.calls.remove(&call)?;
        let source = self.examined.get_mut(at)?;
        source.under_way = source.under_way.saturating_sub(1);
        let identity = source.entry.identity;
        let bytes = match &result {
            Ok((NodeReply::Data { .. }, body)) => body.len() as u64,
            _ => 0,
        };
        let Some(hasher) = &mut source.hasher else { return Some(bytes) };
        let added = proven_payload(&identity, &range, result)
            .map_err(|fault| fault.reason().to_owned())
            .and_then(|body| hasher.add(range.start, &body).map_err(|error| error.to_string()));
        if let Err(reason) = added {
            source.hasher = None;
            let (index, place) = (identity.index.get(), source.place.clone());
            self.verdicts.push(Verdict { index, place, fault: Some(reason) });
        }
        Some(bytes)
    }

    /// What was found, in no particular order.
    pub(super) fn into_verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }
}
