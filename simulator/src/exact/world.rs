//! All of it: nodes, daemons, clients, catalog and network in one virtual time, one event after the other.

use super::catalog::{CatalogHost, CatalogStep};
use super::client::ClientHost;
use super::counts::Counts;
use super::daemon::DaemonHost;
use super::fault::{Faults, Later};
use super::lease::{Leases, Slot, is_elsewhere};
use super::message::{Answer, Answered, Question, Shown};
use super::mode::Broken;
use super::mutation::Mutation;
use super::net::{Endpoint, Net, Site};
use super::node::NodeHost;
use super::oracle::Oracle;
use super::profile::Profile;
use super::queue::{Instant, Queue};
use super::recount::Recounts;
use super::rollback::Rollback;
use super::run::Phase;
use super::trace::Trace;
use ec_core::Code;
use repair_core::client::AskId;
use repair_core::coordinator::JobId;
use repair_core::invariant::Violation;
use repair_core::node::{Body, OpId, PeerId, RequestId};
use repair_core::pg::CallId;
use repair_core::rng::Dice;
use repair_core::wire::CallError;
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for an answer. One that is no more is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A coordinator.
    Coordinator {
        /// Which daemon.
        daemon: usize,
        /// Names it for the machine.
        call: CallId,
    },
    /// A repair in a daemon.
    Repair {
        /// Which daemon.
        daemon: usize,
        /// Which job.
        job: JobId,
        /// Names it for the machine.
        call: CallId,
    },
    /// A node that asks its daemon.
    Node {
        /// Which.
        node: usize,
        /// Of this life.
        life: u64,
        /// Names it for the machine.
        number: u64,
    },
    /// A node that asks the next hop of a chain.
    Hop {
        /// Which.
        node: usize,
        /// Of this life.
        life: u64,
        /// Names it for the machine.
        op: OpId,
    },
    /// An operation of a client.
    Client {
        /// Which client.
        client: usize,
        /// Which operation of it.
        operation: u64,
        /// Names it for the machine.
        ask: AskId,
    },
    /// A transfer of an operation, that asks a node.
    Transfer {
        /// Which client.
        client: usize,
        /// Which operation of it.
        operation: u64,
        /// Which transfer of it.
        transfer: u64,
        /// Names it for the machine.
        call: CallId,
    },
    /// A transfer of an operation, that asks the daemon.
    TransferAsk {
        /// Which client.
        client: usize,
        /// Which operation of it.
        operation: u64,
        /// Which transfer of it.
        transfer: u64,
        /// Names it for the machine.
        ask: AskId,
    },
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Rpc {
    caller: Caller,
    from: Site,
    to: Site,
    endpoint: Endpoint,
}

/// A request that came in and was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    rpc: u64,
    from: Site,
    to: Site,
}

/// Happens.
#[derive(Debug)]
pub enum Event {
    /// A request comes in.
    Arrive {
        /// From whom.
        from: Site,
        /// Where.
        to: Site,
        /// Its life then.
        life: u64,
        /// On this connection.
        peer: PeerId,
        /// Which request.
        rpc: u64,
        /// What is asked.
        question: Box<Question>,
        /// Its body.
        body: Body,
    },
    /// An answer comes back.
    Answer {
        /// Of which request.
        rpc: u64,
        /// What it is.
        answered: Box<Answered>,
    },
    /// A connection ended, as its other end sees it.
    Gone {
        /// Where it is seen.
        at: Site,
        /// Which.
        peer: PeerId,
    },
    /// A store operation ends.
    Stored {
        /// On which node.
        node: usize,
        /// In this life.
        life: u64,
        /// Which.
        op: OpId,
    },
    /// A node wakes.
    NodeTick {
        /// Which.
        node: usize,
        /// In this life.
        life: u64,
        /// Its wish of this number.
        wake: u64,
    },
    /// A node's process starts.
    NodeStart {
        /// Which.
        node: usize,
    },
    /// A node tries to reach the daemon.
    NodeLink {
        /// Which.
        node: usize,
        /// In this life.
        life: u64,
    },
    /// The catalog does something.
    Catalog(Box<CatalogStep>),
    /// A daemon wakes.
    DaemonTick {
        /// Which.
        daemon: usize,
        /// Its wish of this number.
        wake: u64,
    },
    /// A daemon's process starts.
    DaemonStart {
        /// Where.
        slot: usize,
    },
    /// A repair wakes.
    RepairTick {
        /// Of which daemon.
        daemon: usize,
        /// Which.
        job: JobId,
        /// Its wish of this number.
        wake: u64,
    },
    /// A client begins its next operation.
    ClientNext {
        /// Which.
        client: usize,
    },
    /// An operation of a client wakes.
    ClientTick {
        /// Which client.
        client: usize,
        /// Which operation.
        operation: u64,
        /// Its wish of this number.
        wake: u64,
    },
    /// A transfer of an operation wakes.
    TransferTick {
        /// Which client.
        client: usize,
        /// Which operation.
        operation: u64,
        /// Which transfer.
        transfer: u64,
        /// Its wish of this number.
        wake: u64,
    },
    /// The next fault strikes.
    Fault,
    /// A fault goes on, or ends.
    Later(Later),
    /// Is it over?
    Look,
}

/// Everything.
pub struct World {
    /// Time.
    pub queue: Queue<Event>,
    /// What happened.
    pub trace: Trace,
    /// What is true.
    pub oracle: Oracle,
    /// The catalog and its moods.
    pub catalog: CatalogHost,
    /// The network.
    pub net: Net,
    /// The nodes.
    pub nodes: Vec<NodeHost>,
    /// All lives of daemons.
    pub daemons: Vec<DaemonHost>,
    /// Where daemons run.
    pub slots: Vec<Slot>,
    /// Which of them is in charge.
    pub leases: Leases,
    /// The clients.
    pub clients: Vec<ClientHost>,
    /// The faults.
    pub faults: Faults,
    /// What kind of cell it is.
    pub profile: Profile,
    /// What is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Dice, by purpose.
    pub dice: Dice,
    /// How far it is.
    pub phase: Phase,
    /// What it went through.
    pub counts: Counts,
    /// The code, for what can be decoded.
    pub code: Code,
    /// Daemons that stand still, until then.
    pub paused: BTreeMap<usize, Instant>,
    /// Nodes that are broken for ever.
    pub broken: BTreeMap<usize, Broken>,
    /// Nodes that went beyond what the code bears.
    pub gone: Option<Vec<usize>>,
    /// A catalog that goes back.
    pub rollback: Rollback,
    /// What was counted anew.
    pub recounts: Recounts,
    /// What broke.
    pub violation: Option<Violation>,
    rpcs: BTreeMap<u64, Rpc>,
    deliveries: BTreeMap<u64, Delivery>,
    ended: BTreeSet<PeerId>,
    numbers: u64,
}

impl World {
    /// An empty world. Of its faults only these strike, where they are named.
    ///
    /// # Panics
    /// Never: the code of a profile is one.
    pub fn new(
        profile: Profile,
        mutation: Option<Mutation>,
        only_faults: Option<BTreeSet<u64>>,
        trace: Trace,
        dice: Dice,
    ) -> Self {
        let code = Code::new(&profile.code).expect("the code of a profile");
        Self {
            queue: Queue::default(),
            trace,
            oracle: Oracle::default(),
            catalog: CatalogHost::new(dice.child("catalog", 0)),
            net: Net::new(dice.child("net", 0)),
            nodes: Vec::new(),
            daemons: Vec::new(),
            slots: (0..profile.daemons).map(|_| Slot::default()).collect(),
            leases: Leases::default(),
            clients: Vec::new(),
            faults: Faults::new(dice.child("fault", 0), only_faults),
            profile,
            mutation,
            dice,
            phase: Phase::Faults,
            counts: Counts::default(),
            code,
            paused: BTreeMap::new(),
            broken: BTreeMap::new(),
            gone: None,
            rollback: Rollback::default(),
            recounts: Recounts::default(),
            violation: None,
            rpcs: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            ended: BTreeSet::new(),
            numbers: 0,
        }
    }

    /// A number never used before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Keeps the first violation.
    pub fn judge(&mut self, held: Result<(), Violation>) {
        if let Err(violation) = held
            && self.violation.is_none()
        {
            let now = self.queue.now();
            self.trace.line(now, format_args!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    /// One event. False where there is none left, or something broke.
    pub fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some(event) = self.queue.pop() else { return false };
        if let Some(until) = self.paused_until(&event) {
            self.queue.at(until, event);
            return true;
        }
        self.oracle.event += 1;
        match event {
            Event::Arrive { from, to, life, peer, rpc, question, body } => {
                self.arrive((from, to), life, peer, rpc, *question, body);
            }
            Event::Answer { rpc, answered } => self.answered(rpc, *answered),
            Event::Gone { at, peer } => self.gone(at, peer),
            Event::Stored { node, life, op } => self.stored(node, life, op),
            Event::NodeTick { node, life, wake } => self.node_tick(node, life, wake),
            Event::NodeStart { node } => self.start_node(node),
            Event::NodeLink { node, life } => self.link_node(node, life),
            Event::Catalog(step) => self.catalog_step(*step),
            Event::DaemonTick { daemon, wake } => self.daemon_tick(daemon, wake),
            Event::DaemonStart { slot } => self.start_daemon(slot),
            Event::RepairTick { daemon, job, wake } => self.repair_tick(daemon, job, wake),
            Event::ClientNext { client } => self.next_operation(client),
            Event::ClientTick { client, operation, wake } => self.client_tick(client, operation, wake),
            Event::TransferTick { client, operation, transfer, wake } => {
                self.transfer_tick(client, operation, transfer, wake);
            }
            Event::Fault => self.strike(),
            Event::Later(later) => self.goes_on(later),
            Event::Look => self.look(),
        }
        self.recount_now_and_then();
        self.violation.is_none()
    }

    /// Until when the daemon to which this happens stands still.
    fn paused_until(&mut self, event: &Event) -> Option<Instant> {
        if self.paused.is_empty() {
            return None;
        }
        let daemon = match event {
            Event::DaemonTick { daemon, .. } | Event::RepairTick { daemon, .. } => *daemon,
            Event::Arrive { to: Site::Daemon(daemon), .. } | Event::Gone { at: Site::Daemon(daemon), .. } => *daemon,
            Event::Answer { rpc, .. } => match self.rpcs.get(rpc)?.from {
                Site::Daemon(daemon) => daemon,
                _ => return None,
            },
            Event::Catalog(step) => step.hearer()?,
            _ => return None,
        };
        let until = *self.paused.get(&daemon)?;
        if until > self.queue.now() {
            return Some(until);
        }
        self.paused.remove(&daemon);
        None
    }

    fn gone(&mut self, at: Site, peer: PeerId) {
        self.ended.insert(peer);
        match at {
            Site::Node(node) => self.node_peer_gone(node, peer),
            Site::Daemon(daemon) => self.daemon_peer_gone(daemon, peer),
            Site::Client(_) => (),
        }
    }

    fn life_of(&self, site: Site) -> Option<u64> {
        match site {
            Site::Node(node) => self.nodes.get(node)?.life(),
            Site::Daemon(daemon) => self.daemons.get(daemon)?.is_running().then_some(0),
            Site::Client(_) => None,
        }
    }

    /// Sends a request and waits for its answer, at most `deadline_ms`.
    #[allow(clippy::too_many_arguments)] // It is an envelope with its letter.
    pub fn ask(
        &mut self,
        caller: Caller,
        (from, endpoint): (Site, Endpoint),
        to: Site,
        question: Question,
        body: Body,
        deadline_ms: u64,
    ) {
        let rpc = self.number();
        let now = self.queue.now();
        self.trace.line(now, format_args!("{from:?} asks {to:?} {rpc}: {question}"));
        self.rpcs.insert(rpc, Rpc { caller, from, to, endpoint });
        self.queue.at(now.after_ms(deadline_ms), answer(rpc, CallError::Timeout));
        let Some(life) = self.life_of(to) else {
            // A machine that is off does not even say no.
            if self.dice.chance(3, 4) {
                self.queue.after(500, answer(rpc, CallError::Unreachable));
            }
            return;
        };
        let peer = self.net.connection(endpoint, to);
        let copies = if matches!(question, Question::Node(_)) && self.net.is_twice() { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(delay) = self.net.journey(from, to) {
                let (question, body) = (Box::new(question.clone()), body.clone());
                self.queue.after(delay, Event::Arrive { from, to, life, peer, rpc, question, body });
            }
        }
    }

    fn arrive(&mut self, (from, to): (Site, Site), life: u64, peer: PeerId, rpc: u64, question: Question, body: Body) {
        // The end of a connection is the last that is heard on it.
        if self.life_of(to) != Some(life) || self.net.mute.contains(&to) || self.ended.contains(&peer) {
            return;
        }
        let id = self.number();
        self.deliveries.insert(id, Delivery { rpc, from, to });
        let now = self.queue.now();
        self.trace.line(now, format_args!("{to:?} gets {rpc} as {id}"));
        match (to, question) {
            (Site::Node(node), Question::Node(request)) => self.node_request(node, peer, RequestId(id), request, body),
            (Site::Daemon(daemon), Question::Daemon(request)) => {
                self.daemon_request(daemon, peer, RequestId(id), request, body);
            }
            _ => (),
        }
    }

    /// An answer sets out.
    pub fn reply(&mut self, id: RequestId, reply: Answer, body: Body) {
        let Some(Delivery { rpc, from, to }) = self.deliveries.remove(&id.0) else { return };
        let now = self.queue.now();
        let answered: Answered = Ok((reply, body));
        self.trace.line(now, format_args!("{to:?} answers {rpc}: {}", Shown(&answered)));
        if let Some(delay) = self.net.journey(to, from) {
            self.queue.after(delay, Event::Answer { rpc, answered: Box::new(answered) });
        }
    }

    fn answered(&mut self, rpc: u64, answered: Answered) {
        let Some(Rpc { caller, from, to, endpoint }) = self.rpcs.remove(&rpc) else { return };
        if let Err(error) = &answered {
            let now = self.queue.now();
            self.trace.line(now, format_args!("{from:?} hears from {to:?} on {rpc}: {error}"));
            // A caller that waited in vain gives its connection up, and with it what it staged there.
            if *error == CallError::Timeout && !matches!(caller, Caller::Coordinator { .. }) && self.dice.chance(1, 3) {
                self.hang_up(endpoint, from, to);
            }
        }
        let spoke = match &answered {
            Ok((Answer::Daemon(reply), _)) => is_elsewhere(Ok(reply)),
            Ok((Answer::Node(_), _)) => false,
            Err(error) => is_elsewhere(Err(error)),
        };
        if spoke && matches!(to, Site::Daemon(_)) {
            self.turns_elsewhere(caller, to);
        }
        match caller {
            Caller::Coordinator { daemon, call } => self.coordinator_answer(daemon, call, answered),
            Caller::Repair { daemon, job, call } => self.repair_answer(daemon, job, call, answered),
            Caller::Node { node, life, number } => self.node_answer(node, life, number, answered),
            Caller::Hop { node, life, op } => self.hop_answer(node, life, op, answered),
            Caller::Client { client, operation, ask } => self.client_answer(client, operation, ask, answered),
            Caller::Transfer { client, operation, transfer, call } => {
                self.transfer_answer(client, operation, transfer, call, answered);
            }
            Caller::TransferAsk { client, operation, transfer, ask } => {
                self.transfer_asked(client, operation, transfer, ask, answered);
            }
        }
    }

    /// The daemon asked is not in charge, or was not reached.
    fn turns_elsewhere(&mut self, caller: Caller, asked: Site) {
        match caller {
            Caller::Node { node, .. } => self.nodes[node].trusts = self.next_slot(self.nodes[node].trusts, asked),
            Caller::Client { client, .. } | Caller::TransferAsk { client, .. } => {
                self.clients[client].trusts = self.next_slot(self.clients[client].trusts, asked);
            }
            _ => (),
        }
    }

    /// Ends a connection: the other end notices some time, what was asked on it is lost.
    pub fn hang_up(&mut self, endpoint: Endpoint, from: Site, to: Site) {
        if let Some(peer) = self.net.end(endpoint, to) {
            let delay = self.net.journey(from, to).unwrap_or(5_000_000);
            self.queue.after(delay, Event::Gone { at: to, peer });
        }
        let lost = self.rpcs.iter().filter(|(_, rpc)| rpc.endpoint == endpoint && rpc.to == to);
        let lost: Vec<u64> = lost.map(|(rpc, _)| *rpc).collect();
        lost.into_iter().for_each(|rpc| self.queue.after(0, answer(rpc, CallError::Lost)));
    }

    /// An endpoint is no more.
    pub fn close(&mut self, endpoint: Endpoint, from: Site) {
        self.rpcs.retain(|_, rpc| rpc.endpoint != endpoint);
        for (at, peer) in self.net.end_all(endpoint) {
            let delay = self.net.journey(from, at).unwrap_or(5_000_000);
            self.queue.after(delay, Event::Gone { at, peer });
        }
    }

    /// A site stops: whoever waits for it hears so, or only his own clock.
    /// Gives who was connected to it.
    pub fn silence(&mut self, site: Site, resets: bool) -> Vec<PeerId> {
        let peers = self.net.forget(site);
        self.deliveries.retain(|_, delivery| delivery.to != site);
        if resets {
            let lost: Vec<u64> = self.rpcs.iter().filter(|(_, rpc)| rpc.to == site).map(|(rpc, _)| *rpc).collect();
            lost.into_iter().for_each(|rpc| self.queue.after(1_000, answer(rpc, CallError::Lost)));
        }
        peers
    }
}

fn answer(rpc: u64, error: CallError) -> Event {
    Event::Answer { rpc, answered: Box::new(Err(error)) }
}
