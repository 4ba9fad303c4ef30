//! The actor: one coordinator, what happens to it in order, what it wants begun.

use super::events::EventLog;
use super::keeper::{CatalogCall, keep};
use super::{admin, worker};
use crate::catalog::{Catalog, CatalogUrl, RedbCatalog};
use crate::files::FilesError;
use crate::files::staged::random_u128;
use crate::process::{Clock, listening, on_end_signals};
use crate::transport::{Handler, Pool, Replies, Server, ToDaemon, ToNode};
use bytes::Bytes;
use repair_core::coordinator::{Coordinator, CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, Note};
use repair_core::id::ClaimId;
use repair_core::node::{Body, PeerId, RequestId};
use repair_core::ownership::LeaseConfig;
use repair_core::pg::CallId;
use repair_core::rng::Dice;
use repair_core::time::{Millis, Time};
use repair_core::wire::node::Place;
use repair_core::wire::{DaemonReply, DaemonRequest, NodeRequest};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Operators' questions come to the coordinator as if on a connection of this number; the transport counts from 1.
const OPERATORS: PeerId = PeerId(u64::MAX);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The catalog.
    pub catalog: CatalogUrl,
    /// Where nodes and clients find it, as host:port.
    pub listen: String,
    /// Where operators find it, as host:port.
    pub admin: String,
    /// Settings.
    pub config: CoordinatorConfig,
}

/// Runs a daemon until it is told to end.
///
/// # Errors
/// It cannot begin: an address in use, a catalog that is damaged or another daemon's. It cannot go on: the catalog's storage
/// failed or went back in time, or another daemon took over.
pub async fn run(options: Options) -> Result<(), FilesError> {
    let server = Server::<ToDaemon>::bind(&options.listen).await.map_err(|error| listening(&options.listen, error))?;
    let operators = TcpListener::bind(&options.admin).await.map_err(|error| listening(&options.admin, error))?;
    let operators_at = operators.local_addr().map_err(|error| listening(&options.admin, error))?;
    let CatalogUrl::Redb(path) = &options.catalog;
    let catalog = RedbCatalog::open(path).map_err(FilesError::io(path, "open"))?;
    let events_path = path.with_file_name("events.jsonl");
    let log = EventLog::open(&events_path).map_err(FilesError::io(&events_path, "open"))?;

    let (sender, inbox) = unbounded_channel();
    let inputs = Inputs { sender, clock: Clock::start() };
    let keeper = Keeper::start(path, Box::new(catalog), &inputs)?;
    let greeting = format!("clients and nodes at {}, operators at {operators_at}", server.address());
    let replies = server.replies();
    let ending = inputs.clone();
    on_end_signals(move |signal| ending.send(Input::End { signal }))?;
    let mut config = options.config;
    // A file that one process at a time has open: nobody is waited for, and nothing is to be renewed.
    config.lease = LeaseConfig { daemon: server.address().to_string(), exclusive: true, ..config.lease };
    let mut actor = Actor::new(config, path.clone(), log, keeper.calls.clone(), replies, inputs.clone(), greeting)?;
    // First of all events, before anybody can be heard.
    actor.happened(inputs.clock.now(), CoordinatorEvent::Boot);
    tokio::spawn(server.serve(Arc::new(inputs.clone())));
    tokio::spawn(admin::serve(operators, inputs));
    let ended = actor.run(inbox).await;
    drop(actor);
    keeper.end();
    ended
}

/// What comes to the actor.
#[derive(Debug)]
enum Input {
    Happened(CoordinatorEvent),
    /// An operator's question.
    Asked {
        request: DaemonRequest,
        answer: oneshot::Sender<(DaemonReply, Body)>,
    },
    /// The catalog's thread ended.
    CatalogBroken(String),
    /// Somebody wants the process to end.
    End {
        signal: &'static str,
    },
}

/// What came, and when: however late it is read, nobody has been silent since.
#[derive(Debug)]
struct Letter {
    at: Time,
    input: Input,
}

/// The actor's letter box. Not bounded by itself: requests are bounded by the transport, all else by what the actor began.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    sender: UnboundedSender<Letter>,
    clock: Clock,
}

impl Inputs {
    fn send(&self, input: Input) {
        // Without an actor the process is ending.
        let _ = self.sender.send(Letter { at: self.clock.now(), input });
    }

    /// Asks as an operator; none where the daemon is ending.
    pub(super) async fn ask(&self, request: DaemonRequest) -> Option<(DaemonReply, Body)> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Asked { request, answer });
        answered.await.ok()
    }
}

impl Handler<ToDaemon> for Inputs {
    fn request(&self, peer: PeerId, id: RequestId, request: DaemonRequest, body: Bytes) {
        self.send(Input::Happened(CoordinatorEvent::Request { peer, id, request, body }));
    }

    fn gone(&self, peer: PeerId) {
        self.send(Input::Happened(CoordinatorEvent::PeerGone { peer }));
    }
}

struct Actor {
    coordinator: Coordinator,
    clock: Clock,
    dice: Dice,
    path: PathBuf,
    log: EventLog,
    catalog: mpsc::Sender<CatalogCall>,
    nodes: Pool<ToNode>,
    replies: Replies<ToDaemon>,
    inputs: Inputs,
    /// Operators who wait, by the number of their question.
    asked: HashMap<RequestId, oneshot::Sender<(DaemonReply, Body)>>,
    questions: u64,
    wake: Option<Time>,
    /// What is said once the cell is known.
    greeting: Option<String>,
}

impl Actor {
    fn new(
        config: CoordinatorConfig,
        path: PathBuf,
        log: EventLog,
        catalog: mpsc::Sender<CatalogCall>,
        replies: Replies<ToDaemon>,
        inputs: Inputs,
        greeting: String,
    ) -> Result<Self, FilesError> {
        // The claim must never have been anybody's before, so it and all other dice come from the system.
        let claim = ClaimId(random_u128()?);
        let mut dice = Dice::new(random_u128()? as u64);
        Ok(Self {
            coordinator: Coordinator::new(config, claim, dice.child("coordinator", 0)),
            clock: inputs.clock,
            dice: Dice::new(dice.bits()),
            path,
            log,
            catalog,
            nodes: Pool::new(),
            replies,
            inputs,
            asked: HashMap::new(),
            questions: 0,
            wake: None,
            greeting: Some(greeting),
        })
    }

    fn happened(&mut self, at: Time, event: CoordinatorEvent) {
        self.coordinator.handle(at, event);
    }

    /// Until the end. An event, then everything that is wanted after it.
    async fn run(&mut self, mut inbox: UnboundedReceiver<Letter>) -> Result<(), FilesError> {
        loop {
            while let Some(effect) = self.coordinator.poll_effect() {
                self.perform(effect)?;
            }
            self.greet();
            let wait = self.wake.map_or(Duration::MAX, |wake| self.clock.until(wake));
            let letter = tokio::select! {
                // Whatever has come is read before time is found to have passed.
                biased;
                letter = inbox.recv() => letter,
                () = tokio::time::sleep(wait) => {
                    Some(Letter { at: self.clock.now(), input: Input::Happened(CoordinatorEvent::Tick) })
                }
            };
            // The actor itself holds a sender.
            let Some(Letter { at, input }) = letter else { return Ok(()) };
            match input {
                Input::Happened(event) => self.take(at, event),
                Input::Asked { request, answer } => self.take_question(at, request, answer),
                Input::CatalogBroken(reason) => return Err(self.stop(reason)),
                Input::End { signal } => {
                    self.note("daemon_stopped", format!("the daemon was told to end ({signal})"));
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, at: Time, event: CoordinatorEvent) {
        match event {
            CoordinatorEvent::Request { peer, id, request: DaemonRequest::Events { after }, .. } => {
                let (reply, body) = self.events(after);
                self.replies.send(peer, id, reply, body);
            }
            CoordinatorEvent::Tick => {
                self.wake = None;
                self.happened(at, CoordinatorEvent::Tick);
            }
            event => self.happened(at, event),
        }
    }

    fn take_question(&mut self, at: Time, request: DaemonRequest, answer: oneshot::Sender<(DaemonReply, Body)>) {
        if let DaemonRequest::Events { after } = request {
            let _ = answer.send(self.events(after));
            return;
        }
        self.asked.retain(|_, waiting| !waiting.is_closed());
        self.questions += 1;
        let id = RequestId(self.questions);
        self.asked.insert(id, answer);
        self.happened(at, CoordinatorEvent::Request { peer: OPERATORS, id, request, body: Bytes::new() });
    }

    fn perform(&mut self, effect: CoordinatorEffect) -> Result<(), FilesError> {
        match effect {
            CoordinatorEffect::Get { op, keys } => self.keep(CatalogCall::Get { op, keys }),
            CoordinatorEffect::Range { op, prefix, after, limit } => {
                self.keep(CatalogCall::Range { op, prefix, after, limit });
            }
            CoordinatorEffect::Txn { op, txn } => self.keep(CatalogCall::Txn { op, txn }),
            CoordinatorEffect::Reply { peer: OPERATORS, id, reply, body } => {
                if let Some(answer) = self.asked.remove(&id) {
                    let _ = answer.send((reply, body));
                }
            }
            CoordinatorEffect::Reply { peer, id, reply, body } => self.replies.send(peer, id, reply, body),
            CoordinatorEffect::Call { call, to, request, body, deadline } => {
                self.call(call, to, request, body, deadline);
            }
            CoordinatorEffect::Repair { job, spec } => {
                let inputs = self.inputs.clone();
                let tell = Box::new(move |event| inputs.send(Input::Happened(event)));
                worker::start_repair(job, *spec, self.dice.bits(), self.clock, tokio::runtime::Handle::current(), tell);
            }
            CoordinatorEffect::Audit { job, spec } => {
                let inputs = self.inputs.clone();
                let tell = Box::new(move |event| inputs.send(Input::Happened(event)));
                worker::start_audit(job, *spec, self.clock, tokio::runtime::Handle::current(), tell);
            }
            CoordinatorEffect::Note(note) => {
                self.log.append(&note);
            }
            CoordinatorEffect::WakeAt(moment) => self.wake = Some(moment),
            CoordinatorEffect::Stop { reason } => return Err(self.stop(reason.to_string())),
        }
        Ok(())
    }

    fn keep(&self, call: CatalogCall) {
        // Where its thread has ended, why is on its way to the inbox.
        let _ = self.catalog.send(call);
    }

    fn call(&self, call: CallId, to: Place, request: NodeRequest, body: Body, deadline: Millis) {
        let (nodes, inputs) = (self.nodes.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let result = nodes.call(&to.address, &request, body, Duration::from_millis(deadline.0)).await;
            inputs.send(Input::Happened(CoordinatorEvent::Call { call, result }));
        });
    }

    fn events(&self, after: u64) -> (DaemonReply, Body) {
        match serde_json::to_vec(&self.log.after(after)) {
            Ok(body) => (DaemonReply::Report, body.into()),
            Err(error) => {
                let refusal = repair_core::wire::Refusal::Unavailable(error.to_string());
                (DaemonReply::Refused(refusal), Bytes::new())
            }
        }
    }

    fn note(&mut self, kind: &'static str, text: String) {
        self.log.append(&Note { kind, text, fields: Vec::new() });
    }

    fn stop(&mut self, reason: String) -> FilesError {
        self.note("daemon_failed", reason.clone());
        FilesError::io(&self.path, "go on with")(io::Error::other(reason))
    }

    /// Says where it is to be found, once it knows which cell it serves.
    fn greet(&mut self) {
        let Some(cell) = self.coordinator.cell().map(|row| row.cell) else { return };
        let Some(greeting) = self.greeting.take() else { return };
        self.note("daemon_started", format!("the daemon of cell {cell} began: {greeting}"));
        self.log.say(format!("ninefold daemon: cell {cell}, {greeting}"));
    }
}

/// The catalog's thread.
struct Keeper {
    calls: mpsc::Sender<CatalogCall>,
    thread: JoinHandle<()>,
}

impl Keeper {
    fn start(path: &Path, catalog: Box<dyn Catalog>, inputs: &Inputs) -> Result<Self, FilesError> {
        let (calls, receiver) = mpsc::channel();
        let inputs = inputs.clone();
        let work = move || {
            let ended = keep(catalog, &receiver, |event| inputs.send(Input::Happened(event)));
            if let Err(reason) = ended {
                inputs.send(Input::CatalogBroken(reason));
            }
        };
        let thread = std::thread::Builder::new().name("catalog".into()).spawn(work);
        Ok(Self { calls, thread: thread.map_err(FilesError::io(path, "start a thread for"))? })
    }

    /// Lets what was asked for be done, and the catalog be closed in order.
    fn end(self) {
        drop(self.calls);
        let _ = self.thread.join();
    }
}
