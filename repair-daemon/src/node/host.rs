//! The actor: one node machine, what happens to it in order, what it wants begun.

use super::link::{self, Link};
use super::workers::{Job, Workers};
use crate::door::{self, Door};
use crate::files::FilesError;
use crate::files::error::printable;
use crate::files::staged::random_u128;
use crate::process::{Clock, listening, on_end_signals};
use crate::store::{DiskStore, FragmentStore, OpenError, ReadBack, Unlabelled};
use crate::transport::{Handler, OutBody, Pool, Replies, Server, ToNode};
use bytes::Bytes;
use repair_core::node::{Node, NodeConfig, NodeEffect, NodeEvent, OpId, PeerId, RequestId, StoreError};
use repair_core::time::{Millis, Time};
use repair_core::topology::Domain;
use repair_core::wire::node::Place;
use repair_core::wire::{NodeReply, NodeRequest, Refusal};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How often free space is measured.
const ROOM_EVERY: Duration = Duration::from_secs(5);
/// How often it is said that the disk is full.
const SAY_FULL_EVERY: Duration = Duration::from_secs(60);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// What becomes of it where it is no disk yet.
    pub unlabelled: Unlabelled,
    /// Where it listens, as host:port.
    pub listen: String,
    /// Where others find it, if that is not where it listens.
    pub advertise: Option<String>,
    /// Where it stands.
    pub domain: Domain,
    /// The daemon, as host:port.
    pub daemon: String,
    /// Operations on the disk at a time.
    pub disk_threads: usize,
    /// Which fragments are read back from the disk before they get their names.
    pub read_back: ReadBack,
    /// Settings.
    pub config: NodeConfig,
}

/// Runs a node until it is told to end.
///
/// # Errors
/// It cannot begin: an address in use, a folder in use or not its own. It cannot go on: the disk is of another cell.
pub async fn run(options: Options) -> Result<(), FilesError> {
    let unlabelled = options.unlabelled;
    run_with(options, |data| DiskStore::open(data, unlabelled)).await
}

/// Runs a node that keeps its fragments in a store of somebody else's, until it is told to end. Journals and index lie in the data folder.
///
/// # Errors
/// As [`run`].
pub async fn run_over(options: Options, files: Arc<dyn FragmentStore>) -> Result<(), FilesError> {
    let unlabelled = options.unlabelled;
    run_with(options, |data| DiskStore::over(data, files, unlabelled)).await
}

async fn run_with(
    options: Options,
    open: impl FnOnce(&Path) -> Result<DiskStore, OpenError>,
) -> Result<(), FilesError> {
    let server = Server::<ToNode>::bind(&options.listen).await.map_err(|error| listening(&options.listen, error))?;
    let address = match options.advertise {
        Some(address) => address,
        None if server.address().ip().is_unspecified() => {
            return Err(FilesError::Usage(format!(
                "{} is where to listen, not where to be found: say that with --advertise HOST:PORT",
                server.address()
            )));
        }
        None => server.address().to_string(),
    };
    let (sender, inbox) = unbounded_channel();
    let inputs = Inputs(sender);
    let ended = inputs.clone();
    on_end_signals(move |_| ended.send(Input::End))?;
    let store = open(&options.data)
        .map_err(|error| FilesError::io(&options.data, "use this folder")(io::Error::other(error)))?;
    let store = Arc::new(store.with_read_back(options.read_back));
    // Without it clients on this host read as all others do.
    let door = Door::open(&options.data).inspect_err(|error| {
        let _ = writeln!(io::stderr(), "ninefold node: no door for clients on this host: {error}");
    });
    let door = door.ok();
    let boot = NodeEvent::Boot {
        disk: store.disk(),
        cell: store.cell(),
        life: store.life(),
        boot: random_u128()? as u64,
        domain: options.domain.to_string(),
        address,
        door: door.as_ref().map(|door| door.folder().to_owned()),
    };
    let clock = Clock::start();
    let mut node = Node::new(options.config);
    for journal in store.journals().map_err(FilesError::io(&options.data, "read the journals in"))? {
        node.handle(clock.now(), NodeEvent::Journal(journal));
    }
    store.kept().into_iter().for_each(|fragment| node.handle(clock.now(), NodeEvent::Kept(fragment)));
    let (free_bytes, total_bytes) = store.room().map_err(FilesError::io(&options.data, "measure the room for"))?;
    let workers = Workers::start(&store, &inputs, options.disk_threads)?;
    let _ = writeln!(io::stderr(), "ninefold node: disk {} listening on {}", store.disk(), server.address());
    if store.read_back() != options.read_back {
        let why = "this store reads from caches, which proves nothing";
        let _ = writeln!(io::stderr(), "ninefold node: nothing is read back before it gets its name: {why}");
    }
    if let Some(door) = door {
        tokio::spawn(door::serve(door, Arc::downgrade(&store)));
    }
    let reception = Reception { inputs: inputs.clone(), store: Arc::downgrade(&store), replies: server.replies() };
    // From here on only the workers hold it: with the last of them it is closed.
    drop(store);
    let mut actor = Actor {
        node,
        clock,
        data: options.data,
        workers,
        replies: server.replies(),
        link: None,
        peers: Pool::new(),
        inputs: inputs.clone(),
        wake: None,
        refused: None,
        said_full: None,
    };
    // First of all events, before anybody can be heard.
    actor.happened(boot);
    actor.happened(NodeEvent::Room { free_bytes, total_bytes });
    tokio::spawn(server.serve(Arc::new(reception)));
    tokio::spawn(link::keep(options.daemon, inputs));
    let ended = actor.run(inbox).await;
    actor.workers.end();
    ended
}

/// What comes to the actor.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
pub(super) enum Input {
    Happened(NodeEvent),
    /// There is a connection to the daemon, or there is none any more.
    Linked(Option<Link>),
    /// Somebody wants the process to end.
    End,
}

/// The actor's letter box. Not bounded by itself: requests are bounded by the transport, all else by what the actor began.
#[derive(Clone, Debug)]
pub(super) struct Inputs(UnboundedSender<Input>);

impl Inputs {
    pub(super) fn send(&self, input: Input) {
        // Without an actor the process is ending.
        let _ = self.0.send(input);
    }

    pub(super) fn happened(&self, event: NodeEvent) {
        self.send(Input::Happened(event));
    }
}

/// Takes requests in. What can be read without waiting is answered here: the machine decides nothing about a read that goes well, and
/// the way to it and to a thread for the disk takes longer than the reading.
struct Reception {
    inputs: Inputs,
    store: Weak<DiskStore>,
    replies: Replies<ToNode>,
}

impl Handler<ToNode> for Reception {
    fn request(&self, peer: PeerId, id: RequestId, request: NodeRequest, body: Bytes) {
        if let NodeRequest::Read { fragment, offset, bytes } = request
            && let Some(end) = offset.checked_add(bytes.into())
            && let Some((payload, crcs)) =
                self.store.upgrade().and_then(|store| store.read_at_once(fragment, offset..end))
        {
            return self.replies.send(peer, id, NodeReply::Data { crcs }, payload);
        }
        self.inputs.happened(NodeEvent::Request { peer, id, request, body });
    }

    fn gone(&self, peer: PeerId) {
        self.inputs.happened(NodeEvent::PeerGone { peer });
    }
}

struct Actor {
    node: Node,
    clock: Clock,
    data: PathBuf,
    workers: Workers,
    replies: Replies<ToNode>,
    link: Option<Link>,
    /// Other nodes: they are asked for sums.
    peers: Pool<ToNode>,
    inputs: Inputs,
    wake: Option<Time>,
    /// What the daemon last refused this node for, once it was said.
    refused: Option<Refusal>,
    /// When it was last said that the disk is full.
    said_full: Option<Instant>,
}

impl Actor {
    fn happened(&mut self, event: NodeEvent) {
        self.node.handle(self.clock.now(), event);
    }

    /// Until the end. An event, then everything that is wanted after it.
    async fn run(&mut self, mut inbox: UnboundedReceiver<Input>) -> Result<(), FilesError> {
        let mut measure = tokio::time::interval(ROOM_EVERY);
        loop {
            while let Some(effect) = self.node.poll_effect() {
                self.perform(effect);
            }
            self.say_refusal()?;
            let wait = self.wake.map_or(Duration::MAX, |wake| self.clock.until(wake));
            let input = tokio::select! {
                input = inbox.recv() => input,
                () = tokio::time::sleep(wait) => {
                    self.wake = None;
                    Some(Input::Happened(NodeEvent::Tick))
                }
                _ = measure.tick() => {
                    self.workers.begin(Job::Room);
                    continue;
                }
            };
            match input {
                Some(Input::Happened(event)) => {
                    self.say_fault(&event);
                    self.happened(event);
                }
                Some(Input::Linked(link)) => {
                    let is_new = link.is_some();
                    self.link = link;
                    if is_new {
                        self.happened(NodeEvent::DaemonReached);
                    }
                }
                // The actor itself holds a sender.
                Some(Input::End) | None => return Ok(()),
            }
        }
    }

    fn perform(&mut self, effect: NodeEffect) {
        match effect {
            NodeEffect::Reply { peer, id, reply, body } => match OutBody::of(body) {
                Some(body) => self.replies.send(peer, id, reply, body),
                None => {
                    let refused = NodeReply::Refused(Refusal::Unavailable("payload of another host".into()));
                    self.replies.send(peer, id, refused, Bytes::new());
                }
            },
            NodeEffect::Store { op, call } => self.workers.begin(Job::Call { op, call }),
            NodeEffect::SetCell { op, cell, life } => self.workers.begin(Job::SetCell { op, cell, life }),
            NodeEffect::Forward { op, to, request, deadline } => self.forward(op, to, request, deadline),
            NodeEffect::AskDaemon { number, request } => match &self.link {
                Some(link) => link.ask(number, request, &self.inputs),
                None => link::unreachable(number, &self.inputs),
            },
            NodeEffect::WakeAt(moment) => self.wake = Some(moment),
            NodeEffect::Say(notice) => {
                let _ = writeln!(io::stderr(), "ninefold node: {}", printable(&notice.to_string()));
            }
        }
    }

    fn forward(&self, op: OpId, to: Place, request: NodeRequest, deadline: Millis) {
        let (peers, inputs) = (self.peers.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let within = Duration::from_millis(deadline.0);
            let result = peers.call(&to.address, &request, Bytes::new(), within).await;
            inputs.happened(NodeEvent::Forwarded { op, result });
        });
    }

    /// What somebody has to see to, though the node goes on: a disk that takes nothing any more, and a full one now and then.
    fn say_fault(&mut self, event: &NodeEvent) {
        let (what, reason) = match event {
            NodeEvent::Broken { reason } => ("nothing is stored here until it is started again", reason),
            NodeEvent::Stored { result: Err(StoreError::NoSpace(reason)), .. } => {
                if self.said_full.is_some_and(|said| said.elapsed() < SAY_FULL_EVERY) {
                    return;
                }
                self.said_full = Some(Instant::now());
                ("the disk is full", reason)
            }
            _ => return,
        };
        let _ = writeln!(io::stderr(), "ninefold node: {what}: {}", printable(reason));
    }

    /// A node that the daemon does not take is of no use until somebody sees to it, so it says why. A disk of another cell never
    /// will be.
    fn say_refusal(&mut self) -> Result<(), FilesError> {
        let refusal = self.node.refusal();
        if refusal == self.refused.as_ref() {
            return Ok(());
        }
        self.refused = refusal.cloned();
        match &self.refused {
            Some(Refusal::WrongCell(reason)) => {
                let reason = format!("the daemon says it is of another cell: {}", printable(reason));
                Err(FilesError::io(&self.data, "serve this folder")(io::Error::other(reason)))
            }
            Some(refusal) => {
                let refusal = printable(&refusal.to_string());
                let _ = writeln!(io::stderr(), "ninefold node: the daemon does not take this node: {refusal}");
                Ok(())
            }
            None => Ok(()),
        }
    }
}
