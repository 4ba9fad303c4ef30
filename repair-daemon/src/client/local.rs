//! Reads of one transfer that are answered from files which nodes of this host gave.

use crate::door::OpenFragment;
use repair_core::node::Body;
use repair_core::pg::CallId;
use repair_core::time::Millis;
use repair_core::wire::node::{FragmentKey, Place};
use repair_core::wire::{NodeReply, NodeRequest};
use std::collections::{BTreeMap, VecDeque};

/// A range of payload that the transfer wants of a node.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) call: CallId,
    pub(super) to: Place,
    pub(super) fragment: FragmentKey,
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) deadline: Millis,
}

impl Read {
    /// As the node is asked for it.
    pub(super) fn request(&self) -> NodeRequest {
        NodeRequest::Read { fragment: self.fragment, offset: self.offset, bytes: self.bytes }
    }
}

/// Whose file of which fragment.
pub(super) type Key = (Place, FragmentKey);

/// What becomes of a read.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The file is to be asked for; the read waits for it.
    Opening(Key),
    /// It waits here.
    Kept,
    /// The node is to be asked.
    ByNode(Read),
}

#[derive(Debug)]
enum Source {
    Opening(Vec<Read>),
    Open(OpenFragment),
    NotGiven,
}

/// Files and what is to be read from them.
#[derive(Debug, Default)]
pub(super) struct LocalReads {
    sources: BTreeMap<Key, Source>,
    ready: VecDeque<Read>,
}

impl LocalReads {
    /// Takes a read.
    pub(super) fn want(&mut self, read: Read) -> Wanted {
        let key = (read.to.clone(), read.fragment);
        match self.sources.get_mut(&key) {
            None => {
                self.sources.insert(key.clone(), Source::Opening(vec![read]));
                return Wanted::Opening(key);
            }
            Some(Source::Opening(waiting)) => waiting.push(read),
            Some(Source::Open(_)) => self.ready.push_back(read),
            Some(Source::NotGiven) => return Wanted::ByNode(read),
        }
        Wanted::Kept
    }

    /// The file came, or is not to be had: then the reads that the node is to be asked for.
    pub(super) fn opened(&mut self, key: Key, file: Option<OpenFragment>) -> Vec<Read> {
        let source = file.map_or(Source::NotGiven, Source::Open);
        let is_open = matches!(source, Source::Open(_));
        match self.sources.insert(key, source) {
            Some(Source::Opening(waiting)) if is_open => self.ready.extend(waiting),
            Some(Source::Opening(waiting)) => return waiting,
            _ => {}
        }
        Vec::new()
    }

    /// Performs the next read that has its file: the answer, or the read where the node is to be asked after all. None where there is
    /// nothing to read.
    pub(super) fn next(&mut self) -> Option<Result<(CallId, NodeReply, Body), Read>> {
        let read = self.ready.pop_front()?;
        let answer = match self.sources.get(&(read.to.clone(), read.fragment)) {
            Some(Source::Open(file)) => file.read(read.offset, read.bytes),
            _ => None,
        };
        Some(answer.map(|(reply, body)| (read.call, reply, body)).ok_or(read))
    }
}
