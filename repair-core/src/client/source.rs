//! Where the fragments of an extent may be read, what was found there, and the proof of what was read.

use super::Outbox;
use crate::id::{DiskId, ExtentKey, RecordHash};
use crate::node::Body;
use crate::pg::CallId;
use crate::time::Millis;
use crate::wire::node::{FragmentKey, Place};
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::{BirthIdentity, ExtentRecord};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{ShardIndex, ShardSet};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A disk that may have a fragment.
#[derive(Clone, Debug)]
struct Source {
    place: Place,
    /// Why it is not asked any more.
    fault: Option<String>,
    /// Asked only if there is no other way.
    slow: bool,
}

/// All disks that may have fragments of one extent, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    slots: BTreeMap<u16, Vec<Source>>,
}

impl Sources {
    pub(crate) fn new(places: impl IntoIterator<Item = (u16, Vec<Place>)>) -> Self {
        let source = |place| Source { place, fault: None, slow: false };
        let slots = places.into_iter().map(|(index, places)| (index, places.into_iter().map(source).collect()));
        Self { slots: slots.collect() }
    }

    /// The disk to ask for fragment `index`: the first without fault, and a slow one only if `even_slow`.
    pub(crate) fn pick(&self, index: u16, even_slow: bool) -> Option<&Place> {
        let mut sound = self.slots.get(&index)?.iter().filter(|source| source.fault.is_none());
        let quick = sound.clone().find(|source| !source.slow);
        quick.or_else(|| if even_slow { sound.next() } else { None }).map(|source| &source.place)
    }

    /// Indexes that some disk can still be asked for.
    pub(crate) fn available(&self, even_slow: bool) -> ShardSet {
        let indexes = self.slots.keys().copied().filter(|index| self.pick(*index, even_slow).is_some());
        indexes.map(ShardIndex::new).collect()
    }

    fn find(&mut self, index: u16, disk: DiskId) -> Option<&mut Source> {
        self.slots.get_mut(&index)?.iter_mut().find(|source| source.place.disk == disk)
    }

    /// Does not ask this disk again. Gives the place the first time.
    pub(crate) fn reject(&mut self, index: u16, disk: DiskId, reason: &str) -> Option<Place> {
        let source = self.find(index, disk).filter(|source| source.fault.is_none())?;
        source.fault = Some(reason.to_owned());
        Some(source.place.clone())
    }

    /// Asks this disk only if there is no other way.
    pub(crate) fn mark_slow(&mut self, index: u16, disk: DiskId) {
        if let Some(source) = self.find(index, disk) {
            source.slow = true;
        }
    }

    /// Every place once, by index; what may answer soonest first.
    pub(crate) fn places(&self) -> Vec<(u16, Place)> {
        let ranked = |rank: usize| {
            let nth = move |(index, sources): (&u16, &Vec<Source>)| {
                sources.get(rank).map(|source| (*index, source.place.clone()))
            };
            self.slots.iter().filter_map(nth)
        };
        let ranks = self.slots.values().map(Vec::len).max().unwrap_or(0);
        (0..ranks).flat_map(ranked).collect()
    }

    /// What is wrong with which disk, for a person.
    pub(crate) fn faults(&self) -> String {
        let mut found = Vec::new();
        for (index, sources) in &self.slots {
            if sources.is_empty() {
                found.push(format!("{index} (no disk)"));
            }
            for source in sources {
                let why = source.fault.as_deref().or(if source.slow { Some("no answer in time") } else { None });
                found.extend(
                    why.map(|why| format!("{index} on {} at {} ({why})", source.place.disk, source.place.address)),
                );
            }
        }
        if found.is_empty() { "no fragment was rejected".into() } else { format!("fragments {}", found.join(", ")) }
    }
}

/// Why a fragment could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// Nothing follows about the fragment: its node could not be asked, or could not say.
    Silent(String),
    /// The fragment is damaged or not there.
    Bad(String),
}

impl ReadFault {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Silent(reason) | Self::Bad(reason) => reason,
        }
    }
}

/// The reading of `range` of a fragment's payload.
pub(crate) fn read_request(extent: ExtentKey, identity: &BirthIdentity, range: &Range<u64>) -> NodeRequest {
    NodeRequest::Read {
        fragment: fragment_key(extent, identity),
        offset: range.start,
        // Ranges are slices at most.
        bytes: u32::try_from(range.end - range.start).unwrap_or(u32::MAX),
    }
}

/// The name of a fragment by its identity.
pub(crate) fn fragment_key(extent: ExtentKey, identity: &BirthIdentity) -> FragmentKey {
    FragmentKey { extent, generation: identity.generation, index: identity.index.get() }
}

/// The payload in an answer to [`read_request`], every block of it proven by its CRC with the identity on record.
pub(crate) fn proven_payload(
    identity: &BirthIdentity,
    range: &Range<u64>,
    result: Result<(NodeReply, Body), CallError>,
) -> Result<Body, ReadFault> {
    let (crcs, body) = match result {
        Err(error) => return Err(ReadFault::Silent(error.to_string())),
        Ok((NodeReply::Data { crcs }, body)) => (crcs, body),
        Ok((NodeReply::Refused(refusal @ (Refusal::NotFound | Refusal::Damaged(_))), _)) => {
            return Err(ReadFault::Bad(refusal.to_string()));
        }
        Ok((NodeReply::Refused(refusal), _)) => return Err(ReadFault::Silent(refusal.to_string())),
        Ok(_) => return Err(ReadFault::Silent(CallError::Nonsense.to_string())),
    };
    let blocks = (range.end - range.start) / BLOCK_BYTES as u64;
    if body.len() as u64 != range.end - range.start || crcs.len() as u64 != blocks {
        return Err(ReadFault::Silent(format!("gave {} bytes and {} CRCs", body.len(), crcs.len())));
    }
    let seed = identity.seed();
    for ((block, crc), number) in body.chunks(BLOCK_BYTES).zip(crcs).zip(range.start / BLOCK_BYTES as u64..) {
        // Extents are at most 1 GiB: 2^18 blocks.
        if seed.crc(u32::try_from(number).unwrap_or(u32::MAX), block) != crc {
            return Err(ReadFault::Bad(format!("block {number} does not have the CRC of its table")));
        }
    }
    Ok(body)
}

/// An answer that does not have the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Useless;

/// The search for the record on file: any copy with the right hash will do.
#[derive(Debug)]
pub(crate) struct RecordSearch {
    extent: ExtentKey,
    hash: RecordHash,
    candidates: Vec<(u16, Place)>,
    next: usize,
    waiting: BTreeSet<CallId>,
    faults: Vec<String>,
}

impl RecordSearch {
    /// Asks `candidates` one after the other.
    pub(crate) fn new(extent: ExtentKey, hash: RecordHash, candidates: Vec<(u16, Place)>) -> Self {
        Self { extent, hash, candidates, next: 0, waiting: BTreeSet::new(), faults: Vec::new() }
    }

    /// Asks the next one. False where there is none.
    pub(crate) fn ask_next(&mut self, outbox: &mut Outbox, deadline: Millis) -> bool {
        let Some((_, place)) = self.candidates.get(self.next) else { return false };
        self.next += 1;
        let request = NodeRequest::Record { extent: self.extent, hash: self.hash };
        self.waiting.insert(outbox.call(place, request, Body::new(), deadline));
        true
    }

    /// Whether an answer may still come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Why nobody gave it.
    pub(crate) fn faults(&self) -> String {
        format!("no record: {}", if self.faults.is_empty() { "nobody to ask".into() } else { self.faults.join(", ") })
    }

    /// The record, if the answer has it; an error where the answer is of no use. None where it is not to a question of this search.
    pub(crate) fn take(
        &mut self,
        call: CallId,
        result: Result<(NodeReply, Body), CallError>,
    ) -> Option<Result<(Body, ExtentRecord), Useless>> {
        if !self.waiting.remove(&call) {
            return None;
        }
        Some(self.judge(result).map_err(|reason| {
            self.faults.push(reason);
            Useless
        }))
    }

    fn judge(&self, result: Result<(NodeReply, Body), CallError>) -> Result<(Body, ExtentRecord), String> {
        let body = match result {
            Ok((NodeReply::Record, body)) => body,
            Ok((NodeReply::Refused(refusal), _)) => return Err(refusal.to_string()),
            Ok(_) => return Err(CallError::Nonsense.to_string()),
            Err(error) => return Err(error.to_string()),
        };
        if RecordHash::of(&body) != self.hash {
            return Err("a record with another hash".into());
        }
        let record = ExtentRecord::parse(&body).map_err(|error| error.to_string())?;
        if record.extent != self.extent.id() {
            return Err("a record of another extent".into());
        }
        Ok((body, record))
    }
}
