//! One repair: its machine on a thread of its own, its calls on the runtime, its connections its own.
//!
//! The connections are not shared with other repairs: what a target has staged belongs to the connection it came by, and so a repair that
//! ends, however it ends, leaves nothing staged but what the next one of the same fragment goes on with.

use crate::process::Clock;
use crate::transport::{Pool, ToNode};
use bytes::Bytes;
use repair_core::client::{ExtentEffect, ExtentEvent};
use repair_core::coordinator::{CoordinatorEvent, JobId};
use repair_core::repair::{RepairJob, RepairOutcome, RepairSpec};
use repair_core::time::Time;
use repair_core::wire::CallError;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Between two words on how far a repair is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// A repair hears from its clock at least this often, whatever it asked for.
const TICK_MAX: Duration = Duration::from_secs(1);

/// Where a worker's words go.
pub(super) type Tell = Box<dyn Fn(CoordinatorEvent) + Send>;

/// Starts a repair. `tell` hears its progress, and its end exactly once.
pub(super) fn start(job: JobId, spec: RepairSpec, seed: u64, clock: Clock, runtime: Handle, tell: Tell) {
    let end = End { job, targets: spec.targets.keys().copied().collect(), tell: Some(tell) };
    let work = move || Worker::new(seed, clock, runtime, spec, end).run();
    // Where no thread can be had, the closure is dropped, and with it `end`, which says so.
    drop(std::thread::Builder::new().name(format!("repair-{}", job.0)).spawn(work));
}

/// Says how the repair ended; that it broke off, if nobody else did. The coordinator would wait for ever otherwise.
struct End {
    job: JobId,
    targets: Vec<u16>,
    tell: Option<Tell>,
}

impl End {
    fn progress(&self, written_bytes: u64) {
        if let Some(tell) = &self.tell {
            tell(CoordinatorEvent::RepairProgress { job: self.job, written_bytes });
        }
    }

    fn done(&mut self, outcome: RepairOutcome) {
        if let Some(tell) = self.tell.take() {
            tell(CoordinatorEvent::RepairDone { job: self.job, outcome });
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let failed: BTreeMap<u16, String> =
            self.targets.iter().map(|index| (*index, "the repair broke off".to_owned())).collect();
        self.done(RepairOutcome { failed, ..RepairOutcome::default() });
    }
}

struct Worker {
    repair: RepairJob,
    clock: Clock,
    runtime: Handle,
    nodes: Pool<ToNode>,
    events: Receiver<ExtentEvent>,
    answers: Sender<ExtentEvent>,
    wake: Option<Time>,
    end: End,
}

impl Worker {
    fn new(seed: u64, clock: Clock, runtime: Handle, spec: RepairSpec, end: End) -> Self {
        let (answers, events) = channel();
        let repair = RepairJob::new(spec, seed);
        Self { repair, clock, runtime, nodes: Pool::new(), events, answers, wake: None, end }
    }

    fn run(mut self) {
        let mut event = ExtentEvent::Tick;
        let mut told = Instant::now();
        loop {
            self.repair.handle(self.clock.now(), event);
            while let Some(effect) = self.repair.poll_effect() {
                self.perform(effect);
            }
            if let Some(outcome) = self.repair.outcome() {
                let outcome = outcome.clone();
                self.end.done(outcome);
                return;
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                self.end.progress(self.repair.progress().0);
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
                    // The repair may have ended without waiting for this.
                    let _ = answers.send(ExtentEvent::Call { call, result });
                });
            }
            ExtentEffect::WakeAt(moment) => self.wake = Some(moment),
            // A repair reads no file and asks no daemon. Were it to, it must not wait for ever.
            ExtentEffect::Ask { ask, .. } => {
                let _ = self.answers.send(ExtentEvent::Ask { ask, result: Err(CallError::Unreachable) });
            }
            ExtentEffect::ReadSource { read, .. } => {
                let bytes: Result<Bytes, String> = Err("a repair has no source file".into());
                let _ = self.answers.send(ExtentEvent::Source { read, bytes });
            }
            ExtentEffect::Deliver { .. } => {}
        }
    }
}
