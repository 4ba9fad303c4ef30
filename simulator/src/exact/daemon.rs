//! Hosts of daemons: the coordinator, and the repairs and audits it orders.

use super::catalog::CatalogCall;
use super::counts::Path;
use super::message::{Answer, Answered, Question};
use super::net::{Endpoint, Site};
use super::node;
use super::queue::Instant;
use super::run::EFFECTS_MAX;
use super::world::{Caller, Event, World};
use repair_core::client::{ExtentEffect, ExtentEvent};
use repair_core::coordinator::{Coordinator, CoordinatorEffect, CoordinatorEvent, JobId, Note, Stopped};
use repair_core::id::{ClaimId, PgId};
use repair_core::invariant::{Invariant, Violation};
use repair_core::node::{Body, PeerId, RequestId};
use repair_core::pg::CallId;
use repair_core::repair::{AuditJob, AuditSpec, AuditVerdict, RepairJob, RepairSpec};
use repair_core::time::{Millis, Time};
use repair_core::wire::node::Place;
use repair_core::wire::{CallError, DaemonRequest, NodeReply, NodeRequest};
use std::collections::BTreeMap;

enum Machine {
    Repair(Box<RepairJob>),
    Audit(Box<AuditJob>),
}

impl Machine {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        match self {
            Self::Repair(job) => job.handle(now, event),
            Self::Audit(job) => job.handle(now, event),
        }
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        match self {
            Self::Repair(job) => job.poll_effect(),
            Self::Audit(job) => job.poll_effect(),
        }
    }
}

/// A repair or an audit.
struct Repair {
    machine: Machine,
    endpoint: Endpoint,
    wake: u64,
    written_bytes: u64,
}

/// One life of a daemon.
pub struct DaemonHost {
    /// Its coordinator; none when it ended.
    pub coordinator: Option<Coordinator>,
    /// Its claim, of this life alone.
    pub claim: ClaimId,
    /// Where it runs.
    pub slot: usize,
    /// Whether it took the cell without waiting for anybody.
    pub usurps: bool,
    /// Whether it was told to hand the cell over.
    pub leaves: bool,
    endpoint: Endpoint,
    wake: u64,
    repairs: BTreeMap<JobId, Repair>,
}

impl DaemonHost {
    /// Whether it runs.
    pub const fn is_running(&self) -> bool {
        self.coordinator.is_some()
    }
}

impl World {
    /// A daemon's process starts at its place, where none runs.
    pub fn start_daemon(&mut self, slot: usize) {
        let runs = self.slots[slot].last.is_some_and(|daemon| self.daemons[daemon].is_running());
        if runs || self.slots[slot].is_gone {
            return;
        }
        let (daemon, endpoint, usurps) = self.new_life(slot);
        let mut dice = self.dice.child("daemon", daemon as u64);
        let claim = ClaimId(dice.wide());
        let now = self.queue.now();
        self.trace.line(now, format_args!("daemon {daemon} starts at d{slot}, claim {claim}, usurps {usurps}"));
        let mut config = self.profile.coordinator();
        (config.lease.daemon, config.lease.exclusive) = (format!("d{slot}"), usurps);
        let coordinator = Some(Coordinator::new(config, claim, dice));
        let repairs = BTreeMap::new();
        self.daemons.push(DaemonHost { coordinator, claim, slot, usurps, leaves: false, endpoint, wake: 0, repairs });
        self.coordinator(daemon, CoordinatorEvent::Boot);
    }

    /// Daemons start wherever none runs.
    pub fn start_daemons(&mut self) {
        (0..self.slots.len()).for_each(|slot| self.start_daemon(slot));
    }

    /// A daemon's process ends at once.
    pub fn stop_daemon(&mut self, daemon: usize) {
        let Some(host) = self.daemons.get_mut(daemon) else { return };
        if host.coordinator.take().is_none() {
            return;
        }
        self.paused.remove(&daemon);
        let now = self.queue.now();
        self.trace.line(now, format_args!("daemon {daemon} stops"));
        let host = &mut self.daemons[daemon];
        let endpoints: Vec<Endpoint> =
            std::mem::take(&mut host.repairs).into_values().map(|repair| repair.endpoint).collect();
        let own = host.endpoint;
        for endpoint in endpoints.into_iter().chain([own]) {
            self.close(endpoint, Site::Daemon(daemon));
        }
        self.silence(Site::Daemon(daemon), true);
    }

    /// Something happens to a coordinator.
    pub fn coordinator(&mut self, daemon: usize, event: CoordinatorEvent) {
        let now = self.queue.now().time();
        let Some(machine) = self.daemons[daemon].coordinator.as_mut() else { return };
        machine.handle(now, event);
        for _ in 0..EFFECTS_MAX {
            let effect = self.daemons[daemon].coordinator.as_mut().and_then(Coordinator::poll_effect);
            let Some(effect) = effect else { return };
            self.coordinate(daemon, effect);
        }
        self.judge(Err(Violation::new(Invariant::Recovers, format!("daemon {daemon} wants things without end"))));
    }

    fn coordinate(&mut self, daemon: usize, effect: CoordinatorEffect) {
        match effect {
            CoordinatorEffect::Get { op, keys } => self.ask_catalog(daemon, op, CatalogCall::Get(keys)),
            CoordinatorEffect::Range { op, prefix, after, limit } => {
                self.ask_catalog(daemon, op, CatalogCall::Range { prefix, after, limit });
            }
            CoordinatorEffect::Txn { op, txn } => self.ask_catalog(daemon, op, CatalogCall::Txn(txn)),
            CoordinatorEffect::Reply { id, reply, body, .. } => self.reply(id, Answer::Daemon(reply), body),
            CoordinatorEffect::Call { call, to, request, body, deadline } => {
                let caller = Caller::Coordinator { daemon, call };
                let from = (Site::Daemon(daemon), self.daemons[daemon].endpoint);
                self.call_node(caller, from, &to, request, body, deadline);
            }
            CoordinatorEffect::Repair { job, spec } => {
                let held = self.may_begin(daemon);
                self.judge(held);
                self.start_repair(daemon, job, *spec);
            }
            CoordinatorEffect::Audit { job, spec } => {
                let held = self.may_begin(daemon);
                self.judge(held);
                self.start_audit(daemon, job, *spec);
            }
            CoordinatorEffect::Note(note) => self.note(daemon, &note),
            CoordinatorEffect::WakeAt(time) => {
                let host = &mut self.daemons[daemon];
                host.wake += 1;
                let wake = host.wake;
                self.queue.at(Instant::of(time), Event::DaemonTick { daemon, wake });
            }
            CoordinatorEffect::Stop { reason } => self.stopped_itself(daemon, &reason),
        }
    }

    fn stopped_itself(&mut self, daemon: usize, reason: &Stopped) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("daemon {daemon} stops itself: {reason}"));
        self.counts.stopped(reason);
        let is_for_others = matches!(
            reason,
            Stopped::Deposed { .. } | Stopped::Rival | Stopped::Superseded { .. } | Stopped::HandedOver
        );
        let is_first = self.daemons.len() == self.slots.len() && self.slots.len() == 1;
        if matches!(reason, Stopped::Lease(_)) || (is_first && !is_for_others) {
            let what = format!("daemon {daemon} stopped for good: {reason}");
            self.judge(Err(Violation::new(Invariant::NothingFreezes, what)));
        }
        self.stop_daemon(daemon);
        let slot = self.daemons[daemon].slot;
        self.queue.after(500_000, Event::DaemonStart { slot });
    }

    fn note(&mut self, daemon: usize, note: &Note) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("daemon {daemon} notes {}: {}", note.kind, note.text));
        self.counts.note(note);
        self.check_note(daemon, note);
    }

    /// Asks a node that listens at a place.
    pub fn call_node(
        &mut self,
        caller: Caller,
        from: (Site, Endpoint),
        to: &Place,
        request: NodeRequest,
        body: Body,
        deadline: Millis,
    ) {
        let site = Site::Node(node::at(&to.address).unwrap_or(usize::MAX));
        self.ask(caller, from, site, Question::Node(request), body, deadline.0);
    }

    /// A node answered a coordinator, or did not.
    pub fn coordinator_answer(&mut self, daemon: usize, call: CallId, answered: Answered) {
        self.coordinator(daemon, CoordinatorEvent::Call { call, result: of_node(answered) });
    }

    /// A request came in.
    pub fn daemon_request(&mut self, daemon: usize, peer: PeerId, id: RequestId, request: DaemonRequest, body: Body) {
        self.coordinator(daemon, CoordinatorEvent::Request { peer, id, request, body });
    }

    /// A connection to a daemon ended.
    pub fn daemon_peer_gone(&mut self, daemon: usize, peer: PeerId) {
        if self.daemons.get(daemon).is_some_and(DaemonHost::is_running) {
            self.coordinator(daemon, CoordinatorEvent::PeerGone { peer });
        }
    }

    /// A coordinator's wish to wake.
    pub fn daemon_tick(&mut self, daemon: usize, wake: u64) {
        if self.daemons[daemon].is_running() && self.daemons[daemon].wake == wake {
            self.coordinator(daemon, CoordinatorEvent::Tick);
        }
    }

    fn start_repair(&mut self, daemon: usize, job: JobId, spec: RepairSpec) {
        let now = self.queue.now();
        let targets: Vec<_> = spec.targets.keys().collect();
        let what = super::message::extent(spec.extent);
        self.trace.line(now, format_args!("daemon {daemon} repairs {what} {targets:?} as job {}", job.0));
        let seed = self.dice.child("repair", (daemon as u64) << 32 | job.0).bits();
        self.start_machine(daemon, job, Machine::Repair(Box::new(RepairJob::new(spec, seed))));
    }

    fn start_audit(&mut self, daemon: usize, job: JobId, spec: AuditSpec) {
        let now = self.queue.now();
        let what = super::message::extent(spec.extent);
        self.trace.line(now, format_args!("daemon {daemon} audits {what} as job {}", job.0));
        self.start_machine(daemon, job, Machine::Audit(Box::new(AuditJob::new(spec))));
    }

    fn start_machine(&mut self, daemon: usize, job: JobId, machine: Machine) {
        let endpoint = Endpoint(self.number());
        self.daemons[daemon].repairs.insert(job, Repair { machine, endpoint, wake: 0, written_bytes: 0 });
        self.repair_event(daemon, job, ExtentEvent::Tick);
    }

    fn repair_event(&mut self, daemon: usize, job: JobId, event: ExtentEvent) {
        let now = self.queue.now().time();
        let Some(repair) = self.daemons[daemon].repairs.get_mut(&job) else { return };
        repair.machine.handle(now, event);
        while let Some(repair) = self.daemons[daemon].repairs.get_mut(&job) {
            let (Some(effect), endpoint) = (repair.machine.poll_effect(), repair.endpoint) else { break };
            match effect {
                ExtentEffect::Call { call, to, request, body, deadline } => {
                    let caller = Caller::Repair { daemon, job, call };
                    self.call_node(caller, (Site::Daemon(daemon), endpoint), &to, request, body, deadline);
                }
                ExtentEffect::WakeAt(time) => {
                    repair.wake += 1;
                    let wake = repair.wake;
                    self.queue.at(Instant::of(time), Event::RepairTick { daemon, job, wake });
                }
                ExtentEffect::Ask { .. } | ExtentEffect::ReadSource { .. } | ExtentEffect::Deliver { .. } => (),
            }
        }
        self.repair_outcome(daemon, job);
    }

    fn repair_outcome(&mut self, daemon: usize, job: JobId) {
        let Some(repair) = self.daemons[daemon].repairs.get_mut(&job) else { return };
        let machine = match &repair.machine {
            Machine::Repair(machine) => machine,
            Machine::Audit(_) => return self.audit_outcome(daemon, job),
        };
        let Some(outcome) = machine.outcome().cloned() else {
            let written_bytes = machine.written_bytes();
            if written_bytes != repair.written_bytes {
                repair.written_bytes = written_bytes;
                self.coordinator(daemon, CoordinatorEvent::RepairProgress { job, written_bytes });
            }
            return;
        };
        let endpoint = repair.endpoint;
        self.counts.repair(&outcome);
        self.daemons[daemon].repairs.remove(&job);
        self.close(endpoint, Site::Daemon(daemon));
        let now = self.queue.now();
        self.trace.line(
            now,
            format_args!("job {} ended: published {:?} failed {:?}", job.0, outcome.published, outcome.failed),
        );
        self.coordinator(daemon, CoordinatorEvent::RepairDone { job, outcome });
    }

    fn audit_outcome(&mut self, daemon: usize, job: JobId) {
        let Some(Repair { machine: Machine::Audit(machine), endpoint, .. }) = self.daemons[daemon].repairs.get(&job)
        else {
            return;
        };
        let (Some(outcome), endpoint) = (machine.outcome().cloned(), *endpoint) else { return };
        self.counts.path(match outcome.verdict {
            AuditVerdict::Sound => Path::AuditSound,
            _ => Path::AuditIncomplete,
        });
        self.daemons[daemon].repairs.remove(&job);
        self.close(endpoint, Site::Daemon(daemon));
        let now = self.queue.now();
        self.trace.line(now, format_args!("job {} ended: {:?}", job.0, outcome.verdict));
        self.coordinator(daemon, CoordinatorEvent::AuditDone { job, outcome });
    }

    /// A node answered a repair, or did not.
    pub fn repair_answer(&mut self, daemon: usize, job: JobId, call: CallId, answered: Answered) {
        self.repair_event(daemon, job, ExtentEvent::Call { call, result: of_node(answered) });
    }

    /// A repair's wish to wake.
    pub fn repair_tick(&mut self, daemon: usize, job: JobId, wake: u64) {
        if self.daemons[daemon].repairs.get(&job).is_some_and(|repair| repair.wake == wake) {
            self.repair_event(daemon, job, ExtentEvent::Tick);
        }
    }

    /// Whether the daemon in charge has proven this group.
    pub fn is_ready(&self, pg: PgId) -> bool {
        let coordinator = self.holder().and_then(|daemon| self.daemons[daemon].coordinator.as_ref());
        coordinator.and_then(|coordinator| coordinator.owner(pg)).is_some_and(repair_core::pg::Owner::is_ready)
    }
}

/// The answer of a node.
pub fn of_node(answered: Answered) -> Result<(NodeReply, Body), CallError> {
    answered.and_then(|(answer, body)| match answer {
        Answer::Node(reply) => Ok((reply, body)),
        Answer::Daemon(_) => Err(CallError::Nonsense),
    })
}
