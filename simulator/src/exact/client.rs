//! Hosts of clients: each does one operation after the other and remembers what it was told.

use super::content::content;
use super::counts::{OperationKind, Path};
use super::message::{Answer, Answered, Question};
use super::net::{Endpoint, Site};
use super::oracle::{PutState, shown};
use super::queue::Instant;
use super::reader::{GetRun, ListRun, RemoveRun};
use super::run::Phase;
use super::world::{Caller, Event, World};
use ec_core::fragment::Content;
use repair_core::client::{
    AskId, ExtentEffect, ExtentEvent, GetExtent, PutExtent, PutFailure, PutPlan, PutSpec, PutStream, StreamConfig,
    StreamEffect, StreamEvent, StreamFailure,
};
use repair_core::id::StreamKey;
use repair_core::node::Body;
use repair_core::pg::CallId;
use repair_core::rng::Dice;
use repair_core::time::{Millis, Time};
use repair_core::wire::daemon::{ExtentEntry, Grant, NameEntry};
use repair_core::wire::{CallError, DaemonReply, DaemonRequest, NodeRequest};
use std::collections::BTreeMap;

/// How long a client waits for the daemon.
const ASK_DEADLINE_MS: u64 = 5_000;
/// How long a put tries.
const PUT_PATIENCE_MS: u64 = 60_000;
/// Names that one client uses, again and again.
const NAMES_PER_CLIENT: u64 = 14;

/// What an operation does.
pub enum Job {
    /// Puts a stream.
    Put(Box<PutRun>),
    /// Reads a name.
    Get(GetRun),
    /// Lists names.
    List(ListRun),
    /// Removes a name.
    Remove(RemoveRun),
}

/// A put under way.
pub struct PutRun {
    machine: PutStream,
    stream: StreamKey,
    by_ordinal: BTreeMap<u64, u64>,
}

/// The machine of a transfer.
pub enum TransferMachine {
    /// Of a put.
    Put(Box<PutExtent>),
    /// Of a get.
    Get(Box<GetExtent>),
}

impl TransferMachine {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        match self {
            Self::Put(machine) => machine.handle(now, event),
            Self::Get(machine) => machine.handle(now, event),
        }
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        match self {
            Self::Put(machine) => machine.poll_effect(),
            Self::Get(machine) => machine.poll_effect(),
        }
    }
}

/// A transfer under way.
pub struct Transfer {
    /// Its machine.
    pub machine: TransferMachine,
    endpoint: Endpoint,
    wake: u64,
    /// Position of the extent in the stream.
    pub entry: ExtentEntry,
    /// The stream.
    pub stream: StreamKey,
    /// Bytes delivered, of a get.
    pub delivered: u64,
    /// Whether a get asked for parity.
    is_degraded: bool,
    is_told: bool,
}

/// An operation under way.
pub struct Operation {
    /// What it does.
    pub job: Job,
    /// Its connections to daemons.
    pub endpoint: Endpoint,
    wake: u64,
    /// Number of the event in which it began.
    pub from: u64,
    /// When it began.
    pub began: Instant,
    /// Its transfers.
    pub transfers: BTreeMap<u64, Transfer>,
}

/// A client.
pub struct ClientHost {
    /// The operation under way, by its number.
    pub operation: Option<(u64, Operation)>,
    /// Operations still to do.
    pub left: u64,
    /// Operations that ended.
    pub done: u64,
    /// Names to read in the end, with no excuse.
    pub last_reads: Vec<Vec<u8>>,
    /// Operations that ended without an answer or with "not now".
    pub in_vain: u64,
    /// Where it found the daemon in charge last.
    pub trusts: usize,
    dice: Dice,
}

impl ClientHost {
    /// A client with so many operations to do.
    pub fn new(left: u64, dice: Dice) -> Self {
        Self { operation: None, left, done: 0, last_reads: Vec::new(), in_vain: 0, trusts: 0, dice }
    }
}

fn name(client: u64, number: u64) -> Vec<u8> {
    format!("client{client}/file{number:02}").into_bytes()
}

impl World {
    /// A client begins its next operation.
    pub fn next_operation(&mut self, client: usize) {
        let host = &mut self.clients[client];
        if host.operation.is_some() {
            return;
        }
        let job = if let Some(name) = host.last_reads.pop() {
            Job::Get(GetRun::new(name, None, true))
        } else if host.left > 0 {
            host.left -= 1;
            self.draw(client)
        } else {
            return;
        };
        let (number, endpoint) = (self.number(), Endpoint(self.number()));
        let (from, began) = (self.oracle.event, self.queue.now());
        match &job {
            Job::Remove(run) => self.oracle.begin_remove(&run.name),
            Job::Put(run) => self.oracle.begin_put(run.stream, run.machine.plan().names.clone()),
            _ => (),
        }
        self.trace.line(began, format_args!("client {client} begins {number}: {}", describe(&job)));
        self.counts.operation(kind_of(&job, self.profile.extent_bytes));
        let operation = Operation { job, endpoint, wake: 0, from, began, transfers: BTreeMap::new() };
        self.clients[client].operation = Some((number, operation));
        self.client_wakes(client);
    }

    fn draw(&mut self, client: usize) -> Job {
        let clients = self.clients.len() as u64;
        let extent_bytes = self.profile.extent_bytes;
        let dice = &mut self.clients[client].dice;
        let kind = dice.below(100);
        let own = name(client as u64, dice.below(NAMES_PER_CLIENT));
        let any = name(dice.below(clients), dice.below(NAMES_PER_CLIENT));
        match kind {
            0..45 => Job::Put(Box::new(PutRun::draw(client as u64, extent_bytes, dice))),
            45..62 => Job::Get(GetRun::new(any, None, false)),
            62..78 => Job::Get(GetRun::new(any, Some((dice.bits(), dice.bits())), false)),
            78..86 => Job::List(ListRun::default()),
            _ => Job::Remove(RemoveRun { name: own, is_unsure: false }),
        }
    }

    /// The operation goes on: at its start, or after a wait.
    fn client_wakes(&mut self, client: usize) {
        let now = self.queue.now().time();
        match self.clients[client].operation.as_mut().map(|(_, operation)| &mut operation.job) {
            Some(Job::Put(run)) => {
                run.machine.handle(now, StreamEvent::Tick);
                self.put_effects(client);
            }
            Some(Job::Get(_) | Job::List(_) | Job::Remove(_)) => self.read_on(client),
            None => (),
        }
    }

    /// An operation's wish to wake.
    pub fn client_tick(&mut self, client: usize, number: u64, wake: u64) {
        let current = self.clients[client].operation.as_ref();
        if current.is_some_and(|(current, operation)| *current == number && operation.wake == wake) {
            self.client_wakes(client);
        }
    }

    /// The operation wants to go on then.
    pub fn wake_client(&mut self, client: usize, when: Instant) {
        if let Some((number, operation)) = &mut self.clients[client].operation {
            operation.wake += 1;
            let (operation, wake) = (*number, operation.wake);
            self.queue.at(when, Event::ClientTick { client, operation, wake });
        }
    }

    /// The operation asks the daemon.
    pub fn client_asks(&mut self, client: usize, ask: AskId, request: DaemonRequest, body: Body) {
        let Some((operation, endpoint)) =
            self.clients[client].operation.as_ref().map(|(number, op)| (*number, op.endpoint))
        else {
            return;
        };
        if let DaemonRequest::CommitExtent { stream, end: Some(_), .. } = &request
            && let Some(put) = self.oracle.puts.get_mut(stream)
        {
            put.is_end_sent = true;
        }
        let to = self.daemon_at(self.clients[client].trusts);
        let caller = Caller::Client { client, operation, ask };
        self.ask(caller, (Site::Client(client), endpoint), to, Question::Daemon(request), body, ASK_DEADLINE_MS);
    }

    /// The daemon answered an operation, or did not.
    pub fn client_answer(&mut self, client: usize, number: u64, ask: AskId, answered: Answered) {
        let now = self.queue.now().time();
        let result = of_daemon(answered);
        match &mut self.clients[client].operation {
            Some((current, operation)) if *current == number => match &mut operation.job {
                Job::Put(run) => {
                    run.machine.handle(now, StreamEvent::Ask { ask, result });
                    self.put_effects(client);
                }
                _ => self.read_answer(client, result),
            },
            _ => (),
        }
    }

    fn put_effects(&mut self, client: usize) {
        loop {
            let Some((_, operation)) = &mut self.clients[client].operation else { return };
            let Job::Put(run) = &mut operation.job else { return };
            let Some(effect) = run.machine.poll_effect() else { break };
            match effect {
                StreamEffect::Ask { ask, request, body } => self.client_asks(client, ask, request, body),
                StreamEffect::Transfer { entry, grant, stream_bytes, extents } => {
                    self.start_put_transfer(client, entry, grant, stream_bytes, extents);
                }
                StreamEffect::Release { ordinal } => self.release(client, ordinal),
                StreamEffect::WakeAt(time) => self.wake_client(client, Instant::of(time)),
            }
        }
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let Job::Put(run) = &operation.job else { return };
        let (stream, Some(outcome)) = (run.stream, run.machine.outcome()) else { return };
        let now = self.queue.now();
        let state = match &outcome {
            Ok(_) => PutState::Acked,
            Err(StreamFailure::Unknown(_)) => PutState::Unknown,
            Err(_) => PutState::Failed,
        };
        match outcome {
            Ok(summary) => self.trace.line(now, format_args!("client {client} put {stream}: {summary:?}")),
            Err(error) => {
                self.clients[client].in_vain += 1;
                self.trace.line(now, format_args!("client {client} put {stream}: {error}"));
            }
        }
        let held = self.oracle.end_put(stream, state);
        self.judge(held);
        self.end_operation(client);
    }

    fn start_put_transfer(
        &mut self,
        client: usize,
        entry: ExtentEntry,
        grant: Grant,
        stream_bytes: u64,
        extents: Vec<ExtentEntry>,
    ) {
        self.release(client, entry.ordinal);
        let (transfer, endpoint) = (self.number(), Endpoint(self.number()));
        let seed = self.dice.child("transfer", transfer).bits();
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let Job::Put(run) = &mut operation.job else { return };
        let stream = run.stream;
        let (name, kind) = (run.machine.plan().name.clone(), run.machine.plan().content);
        let spec = PutSpec { grant, stream, name, content: kind, entry, stream_bytes, extents };
        match PutExtent::new(spec, seed) {
            Ok(machine) => {
                run.by_ordinal.insert(entry.ordinal, transfer);
                let machine = TransferMachine::Put(Box::new(machine));
                let run = Transfer {
                    machine,
                    endpoint,
                    wake: 0,
                    entry,
                    stream,
                    delivered: 0,
                    is_degraded: false,
                    is_told: false,
                };
                operation.transfers.insert(transfer, run);
                self.transfer_event(client, transfer, ExtentEvent::Tick);
            }
            Err(failure) => self.transferred(client, entry.ordinal, Err(failure)),
        }
    }

    /// Begins to read a range of an extent.
    pub fn start_get_transfer(&mut self, client: usize, stream: StreamKey, entry: ExtentEntry, machine: GetExtent) {
        let (transfer, endpoint) = (self.number(), Endpoint(self.number()));
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let machine = TransferMachine::Get(Box::new(machine));
        let run =
            Transfer { machine, endpoint, wake: 0, entry, stream, delivered: 0, is_degraded: false, is_told: false };
        operation.transfers.insert(transfer, run);
        self.transfer_event(client, transfer, ExtentEvent::Tick);
    }

    fn release(&mut self, client: usize, ordinal: u64) {
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let Job::Put(run) = &mut operation.job else { return };
        let Some(transfer) = run.by_ordinal.remove(&ordinal) else { return };
        if let Some(transfer) = operation.transfers.remove(&transfer) {
            self.close(transfer.endpoint, Site::Client(client));
        }
    }

    fn transferred(&mut self, client: usize, ordinal: u64, result: Result<Body, PutFailure>) {
        let now = self.queue.now();
        if let Err(failure) = &result {
            self.trace.line(now, format_args!("client {client} transfer of #{ordinal} failed: {failure}"));
        }
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let Job::Put(run) = &mut operation.job else { return };
        run.machine.handle(now.time(), StreamEvent::Transferred { ordinal, result });
        self.put_effects(client);
    }

    fn transfer_event(&mut self, client: usize, number: u64, event: ExtentEvent) {
        let now = self.queue.now().time();
        let Some(transfer) = self.transfer(client, number) else { return };
        transfer.machine.handle(now, event);
        while let Some(effect) = self.transfer(client, number).and_then(|transfer| transfer.machine.poll_effect()) {
            self.transfer_effect(client, number, effect);
        }
        self.transfer_outcome(client, number);
    }

    /// A transfer of the client's operation.
    pub fn transfer(&mut self, client: usize, number: u64) -> Option<&mut Transfer> {
        self.clients[client].operation.as_mut()?.1.transfers.get_mut(&number)
    }

    fn transfer_effect(&mut self, client: usize, number: u64, effect: ExtentEffect) {
        let Some(operation) = self.clients[client].operation.as_ref().map(|(operation, _)| *operation) else { return };
        let data = self.profile.code.k();
        let Some(transfer) = self.transfer(client, number) else { return };
        let from = (Site::Client(client), transfer.endpoint);
        let (stream, entry) = (transfer.stream, transfer.entry);
        match effect {
            ExtentEffect::Call { call, to, request, body, deadline } => {
                if let NodeRequest::Read { fragment, .. } = &request {
                    transfer.is_degraded |= usize::from(fragment.index) >= data;
                }
                let caller = Caller::Transfer { client, operation, transfer: number, call };
                self.call_node(caller, from, &to, request, body, deadline);
            }
            ExtentEffect::Ask { ask, request, body } => {
                let to = self.daemon_at(self.clients[client].trusts);
                let caller = Caller::TransferAsk { client, operation, transfer: number, ask };
                self.ask(caller, from, to, Question::Daemon(request), body, ASK_DEADLINE_MS);
            }
            ExtentEffect::ReadSource { read, offset, bytes } => {
                let bytes = Ok(content(stream, entry.offset + offset, bytes).into());
                self.transfer_event(client, number, ExtentEvent::Source { read, bytes });
            }
            ExtentEffect::Deliver { offset, bytes } => self.delivered(client, number, offset, &bytes),
            ExtentEffect::WakeAt(time) => {
                transfer.wake += 1;
                let wake = transfer.wake;
                self.queue.at(Instant::of(time), Event::TransferTick { client, operation, transfer: number, wake });
            }
        }
    }

    fn transfer_outcome(&mut self, client: usize, number: u64) {
        let Some(transfer) = self.transfer(client, number) else { return };
        if transfer.is_told {
            return;
        }
        match &transfer.machine {
            TransferMachine::Put(machine) => {
                let (Some(outcome), ordinal) = (machine.outcome(), transfer.entry.ordinal) else { return };
                transfer.is_told = true;
                self.transferred(client, ordinal, outcome);
            }
            TransferMachine::Get(machine) => {
                let Some(outcome) = machine.outcome() else { return };
                transfer.is_told = true;
                let (endpoint, delivered) = (transfer.endpoint, transfer.delivered);
                let is_degraded = transfer.is_degraded && outcome.is_ok();
                if let Some((_, operation)) = &mut self.clients[client].operation {
                    operation.transfers.remove(&number);
                }
                self.close(endpoint, Site::Client(client));
                if is_degraded {
                    self.counts.path(Path::ReadDegraded);
                }
                self.extent_read(client, delivered, outcome);
            }
        }
    }

    /// A node answered a transfer, or did not.
    pub fn transfer_answer(&mut self, client: usize, operation: u64, transfer: u64, call: CallId, answered: Answered) {
        if self.is_current(client, operation) {
            let result = super::daemon::of_node(answered);
            self.transfer_event(client, transfer, ExtentEvent::Call { call, result });
        }
    }

    /// The daemon answered a transfer, or did not.
    pub fn transfer_asked(&mut self, client: usize, operation: u64, transfer: u64, ask: AskId, answered: Answered) {
        if self.is_current(client, operation) {
            self.transfer_event(client, transfer, ExtentEvent::Ask { ask, result: of_daemon(answered) });
        }
    }

    /// A transfer's wish to wake.
    pub fn transfer_tick(&mut self, client: usize, operation: u64, number: u64, wake: u64) {
        if self.is_current(client, operation) && self.transfer(client, number).is_some_and(|run| run.wake == wake) {
            self.transfer_event(client, number, ExtentEvent::Tick);
        }
    }

    fn is_current(&self, client: usize, number: u64) -> bool {
        self.clients[client].operation.as_ref().is_some_and(|(current, _)| *current == number)
    }

    /// The operation is over; the next one begins after a while.
    pub fn end_operation(&mut self, client: usize) {
        let Some((_, operation)) = self.clients[client].operation.take() else { return };
        self.close(operation.endpoint, Site::Client(client));
        for transfer in operation.transfers.into_values() {
            self.close(transfer.endpoint, Site::Client(client));
        }
        self.clients[client].done += 1;
        let usual = if self.phase == Phase::Faults { 2_000 * self.profile.pause_ms } else { 400_000 };
        let pause = self.clients[client].dice.below(usual);
        self.queue.after(pause, Event::ClientNext { client });
    }

    /// The client dies in its operation. Another takes its place.
    pub fn kill_client(&mut self, client: usize) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("client {client} is killed"));
        if let Some((_, Operation { job: Job::Put(run), .. })) = &self.clients[client].operation {
            let held = self.oracle.end_put(run.stream, PutState::Unknown);
            self.judge(held);
        }
        self.clients[client].in_vain += 1;
        self.end_operation(client);
    }
}

impl PutRun {
    fn draw(client: u64, extent_bytes: u64, dice: &mut Dice) -> Self {
        let stream = StreamKey(dice.wide());
        let bytes = match dice.below(12) {
            0 => 0,
            1..7 => 1 + dice.below(extent_bytes / 2),
            _ => 1 + dice.below(3 * extent_bytes),
        };
        let count = 1 + dice.below(4).min(dice.below(4));
        let mut numbers: Vec<u64> = (0..NAMES_PER_CLIENT).collect();
        dice.shuffle(&mut numbers);
        let mut cuts: Vec<u64> = (1..count).map(|_| dice.below(bytes + 1)).collect();
        cuts.sort_unstable();
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([bytes]);
        let names: Vec<NameEntry> = starts
            .zip(ends)
            .zip(numbers)
            .map(|((offset, end), number)| NameEntry { name: name(client, number), offset, bytes: end - offset })
            .collect();
        let content = if count == 1 { Content::File } else { Content::Pack };
        let plan = PutPlan { stream, name: names[0].name.clone(), content, bytes, names };
        let config = StreamConfig { give_up_after: Millis(PUT_PATIENCE_MS), parallel: 1 + dice.below(3) as usize };
        Self { machine: PutStream::new(plan, config), stream, by_ordinal: BTreeMap::new() }
    }
}

fn kind_of(job: &Job, extent_bytes: u64) -> OperationKind {
    match job {
        Job::Put(run) if run.machine.plan().bytes > extent_bytes / 2 => OperationKind::PutLarge,
        Job::Put(_) => OperationKind::PutSmall,
        Job::Get(run) if run.is_ranged() => OperationKind::GetRange,
        Job::Get(_) => OperationKind::GetWhole,
        Job::List(_) => OperationKind::List,
        Job::Remove(_) => OperationKind::Remove,
    }
}

fn describe(job: &Job) -> String {
    match job {
        Job::Put(run) => {
            let plan = run.machine.plan();
            let names: Vec<_> = plan.names.iter().map(|entry| shown(&entry.name)).collect();
            format!("put {} {} bytes as {}", run.stream, plan.bytes, names.join(" "))
        }
        Job::Get(run) => format!("get {}", shown(&run.name)),
        Job::List(_) => "ls".into(),
        Job::Remove(run) => format!("rm {}", shown(&run.name)),
    }
}

/// The answer of a daemon.
fn of_daemon(answered: Answered) -> Result<(DaemonReply, Body), CallError> {
    answered.and_then(|(answer, body)| match answer {
        Answer::Daemon(reply) => Ok((reply, body)),
        Answer::Node(_) => Err(CallError::Nonsense),
    })
}
