//! The put of one extent: encode it, stage its fragments on the nodes of a grant, make its record.

use super::effect::{ExtentEffect, ExtentEvent, PutFailure};
use super::encode::Encoder;
use super::{Outbox, slice_bytes};
use crate::id::StreamKey;
use crate::node::Body;
use crate::pg::CallId;
use crate::time::{Millis, Time};
use crate::wire::daemon::{ExtentEntry, Grant};
use crate::wire::node::{Place, StageKey};
use crate::wire::{CallError, NodeReply, NodeRequest};
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, RECORD_BYTES_MAX, StreamExtent};
use ec_core::{Code, CodeSpec, ShardIndex};
use std::collections::{BTreeMap, BTreeSet};

/// Slices of all shards in work at the same time: one is read, one encoded, one sent. Bounds memory.
const SLICES_IN_FLIGHT: usize = 3;
/// How long a node may take for one message.
const CALL_DEADLINE: Millis = Millis(5_000);
/// Fragments of the service are written once. Conversion will write later generations.
const GENERATION: u64 = 1;

/// What to put where.
#[derive(Clone, Debug)]
pub struct PutSpec {
    /// The leave to write.
    pub grant: Grant,
    /// The stream the extent is part of.
    pub stream: StreamKey,
    /// Name of the stream, for the record.
    pub name: Vec<u8>,
    /// What the stream's bytes are.
    pub content: Content,
    /// The extent as part of the stream.
    pub entry: ExtentEntry,
    /// Length of the whole stream.
    pub stream_bytes: u64,
    /// All extents of the stream, where they are known. Left out of the record where they do not fit.
    pub extents: Vec<ExtentEntry>,
}

/// One fragment on its way to its node.
#[derive(Debug)]
struct Output {
    place: Place,
    open: bool,
    /// Pieces of payload not acknowledged yet.
    unacknowledged: usize,
    seal_sent: bool,
    /// The root its node computed.
    root: Option<[u8; 32]>,
}

/// One slice of all shards.
#[derive(Debug, Default)]
struct Slice {
    /// Source bytes of the data shards that have come.
    sources: BTreeMap<usize, Body>,
    /// After encoding: all shards.
    shards: Vec<Body>,
    /// Nodes that did not acknowledge their piece.
    waiting_for: BTreeSet<u16>,
}

#[derive(Debug)]
enum Pending {
    Open(u16),
    Data { slice: u64, index: u16 },
    Seal(u16),
    Source { slice: u64, shard: usize, bytes: usize },
}

/// Puts one extent. Nothing of it is visible, or even named, before its record is committed.
#[derive(Debug)]
pub struct PutExtent {
    spec: PutSpec,
    code: CodeSpec,
    encoder: Option<Encoder>,
    shard_bytes: u64,
    slice_bytes: u64,
    outputs: BTreeMap<u16, Output>,
    slices: BTreeMap<u64, Slice>,
    next_read: u64,
    next_encode: u64,
    hashes: Option<(Hash, Vec<Hash>)>,
    pending: BTreeMap<CallId, Pending>,
    outbox: Outbox,
    sent_bytes: u64,
    outcome: Option<Result<Body, PutFailure>>,
}

impl PutExtent {
    /// A put of one extent. `seed` draws the check of the encoder's output: a fresh one for each extent.
    ///
    /// # Errors
    /// [`PutFailure::Again`] for a grant that cannot be used, [`PutFailure::Source`] for a stream that no record can name.
    pub fn new(spec: PutSpec, seed: u64) -> Result<Self, PutFailure> {
        let unusable = |error: &dyn std::fmt::Display| PutFailure::Again(format!("unusable grant: {error}"));
        let code = CodeSpec::from_descriptor(&spec.grant.code).map_err(|error| unusable(&error))?;
        let built = Code::new(&code).map_err(|error| unusable(&error))?;
        if spec.grant.places.len() != built.n() || spec.grant.extent != spec.entry.extent {
            return Err(unusable(&"it is for another code or extent"));
        }
        let encoder = Encoder::new(built, spec.entry.bytes, seed);
        let outputs = (0u16..).zip(&spec.grant.places).filter_map(|(index, place)| {
            let place = place.clone()?;
            Some((index, Output { place, open: false, unacknowledged: 0, seal_sent: false, root: None }))
        });
        let mut put = Self {
            outputs: outputs.collect(),
            shard_bytes: encoder.geometry().shard_bytes(),
            slice_bytes: slice_bytes(encoder.code().n()) as u64,
            encoder: Some(encoder),
            code,
            spec,
            slices: BTreeMap::new(),
            next_read: 0,
            next_encode: 0,
            hashes: None,
            pending: BTreeMap::new(),
            outbox: Outbox::default(),
            sent_bytes: 0,
            outcome: None,
        };
        if put.outputs.len() < put.code.k() {
            return Err(PutFailure::Again("the grant has fewer places than the code needs to decode".into()));
        }
        put.check_record()?;
        put.open_stages();
        put.advance()?;
        Ok(put)
    }

    /// Takes what happened.
    pub fn handle(&mut self, _now: Time, event: ExtentEvent) {
        if self.outcome.is_some() {
            return;
        }
        let taken = match event {
            ExtentEvent::Call { call, result } => self.take_answer(call, result),
            ExtentEvent::Source { read, bytes } => self.take_source(read, bytes),
            ExtentEvent::Ask { .. } | ExtentEvent::Tick => Ok(()),
        };
        if let Err(failure) = taken.and_then(|()| self.advance()) {
            self.end(Err(failure));
        }
    }

    /// What it wants done; none once there is nothing more for now.
    pub fn poll_effect(&mut self) -> Option<ExtentEffect> {
        self.outbox.poll()
    }

    /// The record, once every fragment is staged with the root it names; or why there will be none.
    pub fn outcome(&self) -> Option<Result<Body, PutFailure>> {
        self.outcome.clone()
    }

    /// Payload sent to nodes so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn key(&self, index: u16) -> StageKey {
        StageKey { attempt: self.spec.grant.attempt, extent: self.spec.grant.extent, index }
    }

    fn call(&mut self, index: u16, request: NodeRequest, body: Body, pending: Pending) {
        if let Some(output) = self.outputs.get(&index) {
            let call = self.outbox.call(&output.place, request, body, CALL_DEADLINE);
            self.pending.insert(call, pending);
        }
    }

    fn open_stages(&mut self) {
        for index in self.outputs.keys().copied().collect::<Vec<_>>() {
            let request = NodeRequest::Stage {
                token: self.spec.grant.token,
                cell: self.spec.grant.cell,
                key: self.key(index),
                generation: GENERATION,
                code: self.spec.grant.code,
                extent_bytes: self.spec.entry.bytes,
            };
            self.call(index, request, Body::new(), Pending::Open(index));
        }
    }

    fn take_answer(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) -> Result<(), PutFailure> {
        let index = match self.pending.get(&call) {
            Some(Pending::Open(index) | Pending::Data { index, .. } | Pending::Seal(index)) => *index,
            Some(Pending::Source { .. }) | None => return Ok(()),
        };
        let (Some(pending), Some(output)) = (self.pending.remove(&call), self.outputs.get_mut(&index)) else {
            return Ok(());
        };
        let lost = |why: &dyn std::fmt::Display| {
            PutFailure::Again(format!("fragment {index} on {} at {}: {why}", output.place.disk, output.place.address))
        };
        match (pending, result.map_err(|error| lost(&error))?.0) {
            (_, NodeReply::Refused(refusal)) => Err(lost(&refusal)),
            (Pending::Open(_), NodeReply::StageOpen) => {
                output.open = true;
                Ok(())
            }
            (Pending::Data { slice, .. }, NodeReply::StageTaken) => {
                output.unacknowledged = output.unacknowledged.saturating_sub(1);
                self.acknowledged(slice, index);
                Ok(())
            }
            (Pending::Seal(_), NodeReply::StageSealed { root }) => {
                output.root = Some(root);
                Ok(())
            }
            _ => Err(lost(&CallError::Nonsense)),
        }
    }

    fn acknowledged(&mut self, number: u64, index: u16) {
        let Some(slice) = self.slices.get_mut(&number) else { return };
        slice.waiting_for.remove(&index);
        if slice.waiting_for.is_empty()
            && let (Some(slice), Some(encoder)) = (self.slices.remove(&number), &mut self.encoder)
        {
            encoder.recycle(slice.shards);
        }
    }

    fn take_source(&mut self, read: CallId, bytes: Result<Body, String>) -> Result<(), PutFailure> {
        let Some(Pending::Source { slice, shard, bytes: expected }) = self.pending.remove(&read) else { return Ok(()) };
        let body = bytes.map_err(PutFailure::Source)?;
        if body.len() != expected {
            return Err(PutFailure::Source(format!("gave {} bytes where {expected} were asked for", body.len())));
        }
        if let Some(slice) = self.slices.get_mut(&slice) {
            slice.sources.insert(shard, body);
        }
        Ok(())
    }

    /// Does all that can be done now.
    fn advance(&mut self) -> Result<(), PutFailure> {
        loop {
            self.read_ahead();
            if !self.encode_next()? {
                break;
            }
        }
        self.seal()?;
        self.conclude()
    }

    fn slices_in_all(&self) -> u64 {
        self.shard_bytes.div_ceil(self.slice_bytes)
    }

    fn read_ahead(&mut self) {
        while self.next_read < self.slices_in_all() && self.slices.len() < SLICES_IN_FLIGHT {
            let number = self.next_read;
            self.next_read += 1;
            self.slices.insert(number, Slice::default());
            self.read_sources(number);
        }
    }

    fn read_sources(&mut self, number: u64) {
        let Some(encoder) = &self.encoder else { return };
        let start = number * self.slice_bytes;
        let range = start..(start + self.slice_bytes).min(self.shard_bytes);
        for shard in 0..encoder.code().k() {
            let wanted = encoder.geometry().extent_range(shard, range.clone());
            // A slice is at most 1 MiB.
            let bytes = usize::try_from(wanted.end - wanted.start).unwrap_or(0);
            if bytes > 0 {
                let read = self.outbox.read_source(wanted.start, bytes);
                self.pending.insert(read, Pending::Source { slice: number, shard, bytes });
            } else if let Some(slice) = self.slices.get_mut(&number) {
                slice.sources.insert(shard, Body::new());
            }
        }
    }

    /// Encodes and sends the next slice, if its bytes have come and every node is ready to take it.
    fn encode_next(&mut self) -> Result<bool, PutFailure> {
        let number = self.next_encode;
        let Some(encoder) = &mut self.encoder else { return Ok(false) };
        let Some(slice) = self.slices.get_mut(&number).filter(|slice| slice.sources.len() == encoder.code().k()) else {
            return Ok(false);
        };
        if !self.outputs.values().all(|output| output.open) {
            return Ok(false);
        }
        self.next_encode += 1;
        let offset = number * self.slice_bytes;
        let range = offset..(offset + self.slice_bytes).min(self.shard_bytes);
        let sources = std::mem::take(&mut slice.sources).into_values().collect();
        let shards = encoder.encode(range, sources)?;
        slice.shards.clone_from(&shards);
        slice.waiting_for = self.outputs.keys().copied().collect();
        for (index, body) in (0u16..).zip(shards) {
            let Some(output) = self.outputs.get_mut(&index) else { continue };
            output.unacknowledged += 1;
            self.sent_bytes += body.len() as u64;
            let request = NodeRequest::StageData { key: self.key(index), offset };
            self.call(index, request, body, Pending::Data { slice: number, index });
        }
        Ok(true)
    }

    /// Asks every node for the root of what it received, once it acknowledged everything.
    fn seal(&mut self) -> Result<(), PutFailure> {
        if self.next_encode < self.slices_in_all() {
            return Ok(());
        }
        if let Some(encoder) = self.encoder.take() {
            self.hashes = Some(encoder.finish()?);
        }
        let ready = |output: &&mut Output| output.open && output.unacknowledged == 0 && !output.seal_sent;
        let mut sealed = Vec::new();
        for (index, output) in self.outputs.iter_mut() {
            if ready(&output) {
                output.seal_sent = true;
                sealed.push(*index);
            }
        }
        for index in sealed {
            self.call(index, NodeRequest::StageSeal { key: self.key(index) }, Body::new(), Pending::Seal(index));
        }
        Ok(())
    }

    /// Once every node has said its root: compares them and makes the record.
    fn conclude(&mut self) -> Result<(), PutFailure> {
        if !self.outputs.values().all(|output| output.root.is_some()) {
            return Ok(());
        }
        let Some((extent_hash, payload_hashes)) = self.hashes.take() else { return Ok(()) };
        let entries: Vec<FragmentEntry> = (0u16..)
            .zip(&payload_hashes)
            .map(|(index, payload_hash)| {
                let identity = self.identity(index);
                FragmentEntry { identity, root: identity.root(payload_hash) }
            })
            .collect();
        for (index, output) in &self.outputs {
            let own = entries.get(usize::from(*index)).map(|entry| *entry.root.as_bytes());
            if output.root != own {
                let place = &output.place;
                let reason =
                    format!("fragment {index} on {} at {} arrived with another root", place.disk, place.address);
                return Err(PutFailure::Again(reason));
            }
        }
        let record = self.record(extent_hash, entries).to_bytes();
        let record = record.map_err(|error| PutFailure::Encoder(format!("internal error: {error}")))?;
        self.end(Ok(record.into()));
        Ok(())
    }

    fn identity(&self, index: u16) -> BirthIdentity {
        BirthIdentity {
            cell: self.spec.grant.cell.id(),
            extent: self.spec.grant.extent.id(),
            generation: GENERATION,
            index: ShardIndex::new(index),
            payload_bytes: self.shard_bytes,
        }
    }

    fn record(&self, extent_hash: Hash, fragments: Vec<FragmentEntry>) -> ExtentRecord {
        let entry = &self.spec.entry;
        let listed =
            |entry: &ExtentEntry| StreamExtent { extent: entry.extent.id(), offset: entry.offset, bytes: entry.bytes };
        let mut record = ExtentRecord {
            cell: self.spec.grant.cell.id(),
            extent: self.spec.grant.extent.id(),
            revision: 1,
            code: self.code,
            extent_bytes: entry.bytes,
            extent_hash,
            stream: self.spec.stream.id(),
            ordinal: entry.ordinal,
            offset: entry.offset,
            stream_bytes: Some(self.spec.stream_bytes),
            content: self.spec.content,
            name: self.spec.name.clone(),
            fragments,
            extents: self.spec.extents.iter().map(listed).collect(),
        };
        if record.encoded_bytes() > RECORD_BYTES_MAX {
            record.extents.clear();
        }
        record
    }

    /// Before a byte is sent: whether there can be a record at all.
    fn check_record(&self) -> Result<(), PutFailure> {
        let none = Hash::new([0; 32]);
        let fragments = (0..self.spec.grant.places.len()).filter_map(|index| u16::try_from(index).ok());
        let fragments = fragments.map(|index| FragmentEntry { identity: self.identity(index), root: none }).collect();
        let record = self.record(none, fragments).to_bytes();
        record.map(|_| ()).map_err(|error| PutFailure::Source(format!("no record can be made: {error}")))
    }

    fn end(&mut self, outcome: Result<Body, PutFailure>) {
        self.pending.clear();
        self.slices.clear();
        self.encoder = None;
        self.outcome = Some(outcome);
    }
}

#[cfg(test)]
#[path = "put_tests.rs"]
mod tests;
