//! Effects of a transfer on their way out, and the numbers that name them.

use super::effect::{AskId, ExtentEffect};
use crate::node::Body;
use crate::pg::CallId;
use crate::time::{Millis, Time};
use crate::wire::node::Place;
use crate::wire::{DaemonRequest, NodeRequest};
use std::collections::VecDeque;

/// Effects not polled yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    effects: VecDeque<ExtentEffect>,
    named: u64,
    wake_at: Option<Time>,
}

impl Outbox {
    fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    pub(crate) fn call(&mut self, to: &Place, request: NodeRequest, body: Body, deadline: Millis) -> CallId {
        let call = CallId(self.name());
        self.effects.push_back(ExtentEffect::Call { call, to: to.clone(), request, body, deadline });
        call
    }

    pub(crate) fn ask(&mut self, request: DaemonRequest) -> AskId {
        let ask = AskId(self.name());
        self.effects.push_back(ExtentEffect::Ask { ask, request, body: Body::new() });
        ask
    }

    pub(crate) fn read_source(&mut self, offset: u64, bytes: usize) -> CallId {
        let read = CallId(self.name());
        self.effects.push_back(ExtentEffect::ReadSource { read, offset, bytes });
        read
    }

    pub(crate) fn deliver(&mut self, offset: u64, bytes: Body) {
        self.effects.push_back(ExtentEffect::Deliver { offset, bytes });
    }

    /// Wants a tick at `at`, unless that is what was wanted last.
    pub(crate) fn wake_at(&mut self, at: Time) {
        if self.wake_at != Some(at) {
            self.wake_at = Some(at);
            self.effects.push_back(ExtentEffect::WakeAt(at));
        }
    }

    /// A tick came: the one wanted may be over.
    pub(crate) fn ticked(&mut self, now: Time) {
        self.wake_at = self.wake_at.filter(|at| *at > now);
    }

    pub(crate) fn poll(&mut self) -> Option<ExtentEffect> {
        self.effects.pop_front()
    }
}
