//! One repair or audit: its machine on a thread of its own, its calls on the runtime, its connections its own.
//!
//! The connections are not shared with other repairs: what a target has staged belongs to the connection it came by, and so a repair that
//! ends, however it ends, leaves nothing staged but what the next one of the same fragment goes on with.

use crate::process::Clock;
use crate::transport::{Pool, ToNode};
use bytes::Bytes;
use repair_core::client::{ExtentEffect, ExtentEvent};
use repair_core::coordinator::{CoordinatorEvent, JobId};
use repair_core::repair::{AuditJob, AuditOutcome, AuditSpec, AuditVerdict, RepairJob, RepairOutcome, RepairSpec};
use repair_core::time::Time;
use repair_core::wire::CallError;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Between two words on how far a repair is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// A machine hears from its clock at least this often, whatever it asked for.
const TICK_MAX: Duration = Duration::from_secs(1);

/// Where a worker's words go.
pub(super) type Tell = Box<dyn Fn(CoordinatorEvent) + Send>;

/// Starts a repair. `tell` hears its progress, and its end exactly once.
pub(super) fn start_repair(job: JobId, spec: RepairSpec, seed: u64, clock: Clock, runtime: Handle, tell: Tell) {
    let broke_off = "the repair broke off".to_owned();
    let failed: BTreeMap<u16, String> = spec.targets.keys().map(|index| (*index, broke_off.clone())).collect();
    let outcome = RepairOutcome { failed, ..RepairOutcome::default() };
    let end = End { broke_off: CoordinatorEvent::RepairDone { job, outcome }, tell: Some(tell) };
    start(format!("repair-{}", job.0), move || RepairJob::new(spec, seed), job, clock, runtime, end);
}

/// Starts an audit. `tell` hears its end exactly once.
pub(super) fn start_audit(job: JobId, spec: AuditSpec, clock: Clock, runtime: Handle, tell: Tell) {
    let verdict = AuditVerdict::Incomplete { reason: "the audit broke off".into() };
    let outcome = AuditOutcome { verdict, suspects: Vec::new(), read_bytes: 0 };
    let end = End { broke_off: CoordinatorEvent::AuditDone { job, outcome }, tell: Some(tell) };
    start(format!("audit-{}", job.0), move || AuditJob::new(spec), job, clock, runtime, end);
}

fn start<M: Machine>(
    name: String,
    machine: impl FnOnce() -> M + Send + 'static,
    job: JobId,
    clock: Clock,
    runtime: Handle,
    end: End,
) {
    let work = move || Worker::new(machine(), job, clock, runtime, end).run();
    // Where no thread can be had, the closure is dropped, and with it `end`, which says so.
    drop(std::thread::Builder::new().name(name).spawn(work));
}

/// What a worker runs.
trait Machine {
    fn handle(&mut self, now: Time, event: ExtentEvent);
    fn poll_effect(&mut self) -> Option<ExtentEffect>;
    /// How it ended, once it did.
    fn ended(&self, job: JobId) -> Option<CoordinatorEvent>;
    /// How far it is, where anybody wants to know.
    fn progress(&self, job: JobId) -> Option<CoordinatorEvent>;
}

impl Machine for RepairJob {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        Self::handle(self, now, event);
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        Self::poll_effect(self)
    }

    fn ended(&self, job: JobId) -> Option<CoordinatorEvent> {
        self.outcome().map(|outcome| CoordinatorEvent::RepairDone { job, outcome: outcome.clone() })
    }

    fn progress(&self, job: JobId) -> Option<CoordinatorEvent> {
        Some(CoordinatorEvent::RepairProgress { job, written_bytes: self.progress().0 })
    }
}

impl Machine for AuditJob {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        Self::handle(self, now, event);
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        Self::poll_effect(self)
    }

    fn ended(&self, job: JobId) -> Option<CoordinatorEvent> {
        self.outcome().map(|outcome| CoordinatorEvent::AuditDone { job, outcome: outcome.clone() })
    }

    fn progress(&self, _job: JobId) -> Option<CoordinatorEvent> {
        None
    }
}

/// Says how it ended; that it broke off, if nobody else did. The coordinator would wait for ever otherwise.
struct End {
    broke_off: CoordinatorEvent,
    tell: Option<Tell>,
}

impl End {
    fn say(&self, event: CoordinatorEvent) {
        if let Some(tell) = &self.tell {
            tell(event);
        }
    }

    fn done(&mut self, event: CoordinatorEvent) {
        if let Some(tell) = self.tell.take() {
            tell(event);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let broke_off = self.broke_off.clone();
        self.done(broke_off);
    }
}

struct Worker<M> {
    machine: M,
    job: JobId,
    clock: Clock,
    runtime: Handle,
    nodes: Pool<ToNode>,
    events: Receiver<ExtentEvent>,
    answers: Sender<ExtentEvent>,
    wake: Option<Time>,
    end: End,
}

impl<M: Machine> Worker<M> {
    fn new(machine: M, job: JobId, clock: Clock, runtime: Handle, end: End) -> Self {
        let (answers, events) = channel();
        Self { machine, job, clock, runtime, nodes: Pool::new(), events, answers, wake: None, end }
    }

    fn run(mut self) {
        let mut event = ExtentEvent::Tick;
        let mut told = Instant::now();
        loop {
            self.machine.handle(self.clock.now(), event);
            while let Some(effect) = self.machine.poll_effect() {
                self.perform(effect);
            }
            if let Some(ended) = self.machine.ended(self.job) {
                return self.end.done(ended);
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                self.machine.progress(self.job).into_iter().for_each(|event| self.end.say(event));
            }
            event = self.next_event();
        }
    }

    fn next_event(&self) -> ExtentEvent {
        let patience = self.wake.map_or(TICK_MAX, |wake| self.clock.until(wake).min(TICK_MAX));
        match self.events.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => ExtentEvent::Tick,
        }
    }

    fn perform(&mut self, effect: ExtentEffect) {
        match effect {
            ExtentEffect::Call { call, to, request, body, deadline } => {
                let (nodes, answers) = (self.nodes.clone(), self.answers.clone());
                self.runtime.spawn(async move {
                    let result = nodes.call(&to.address, &request, body, Duration::from_millis(deadline.0)).await;
                    // The machine may have ended without waiting for this.
                    let _ = answers.send(ExtentEvent::Call { call, result });
                });
            }
            ExtentEffect::WakeAt(moment) => self.wake = Some(moment),
            // Neither reads a file or asks the daemon. Were one to, it must not wait for ever.
            ExtentEffect::Ask { ask, .. } => {
                let _ = self.answers.send(ExtentEvent::Ask { ask, result: Err(CallError::Unreachable) });
            }
            ExtentEffect::ReadSource { read, .. } => {
                let bytes: Result<Bytes, String> = Err("there is no source file".into());
                let _ = self.answers.send(ExtentEvent::Source { read, bytes });
            }
            ExtentEffect::Deliver { .. } => {}
        }
    }
}
