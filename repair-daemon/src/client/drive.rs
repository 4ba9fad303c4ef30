//! The transfer of one extent, its wishes performed until it ends.

use super::local::{Key, LocalReads, Read, Wanted};
use super::{Cell, Daemon, STOP_LOOK_EVERY};
use crate::door::OpenFragment;
use crate::files::FilesError;
use crate::transport::{Pool, ToNode};
use repair_core::client::get::GetExtent;
use repair_core::client::put::PutExtent;
use repair_core::client::{ExtentEffect, ExtentEvent};
use repair_core::node::Body;
use repair_core::pg::CallId;
use repair_core::time::{Millis, Time};
use repair_core::wire::NodeRequest;
use repair_core::wire::node::Place;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::task::JoinSet;

/// One extent on its way.
pub(super) trait Transfer {
    /// Takes an event.
    fn handle(&mut self, now: Time, event: ExtentEvent);
    /// The next wish.
    fn poll_effect(&mut self) -> Option<ExtentEffect>;
    /// Whether it has ended, one way or the other.
    fn has_ended(&self) -> bool;
}

impl Transfer for PutExtent {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        Self::handle(self, now, event);
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        Self::poll_effect(self)
    }

    fn has_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

impl Transfer for GetExtent {
    fn handle(&mut self, now: Time, event: ExtentEvent) {
        Self::handle(self, now, event);
    }

    fn poll_effect(&mut self) -> Option<ExtentEffect> {
        Self::poll_effect(self)
    }

    fn has_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

/// Where a transfer's bytes come from or go to.
pub(super) trait Bytes {
    /// Bytes of the source, exactly so many. The error is told to the transfer.
    fn read(&mut self, offset: u64, bytes: usize) -> Result<Body, String>;
    /// Takes proven bytes. An error ends the transfer.
    fn take(&mut self, offset: u64, bytes: Body) -> Result<(), FilesError>;
    /// `Err` where the transfer is to end early.
    fn check_stop(&self) -> Result<(), FilesError>;
}

/// What performs the wishes of one transfer. Dropped, it forgets what is still under way.
struct Performer<'a> {
    cell: &'a Cell,
    nodes: &'a Pool<ToNode>,
    tasks: JoinSet<()>,
    done: Sender<Done>,
    events: Receiver<Done>,
    /// Source ranges wanted.
    reads: VecDeque<(CallId, u64, usize)>,
    /// None where reading from files is not worth the asking.
    local: Option<LocalReads>,
    wake_at: Option<Time>,
}

/// Something that was begun has ended.
enum Done {
    Event(ExtentEvent),
    /// A file that was asked for.
    Opened(Key, Option<OpenFragment>),
}

/// Runs a transfer to its end on this thread. It is asked for its outcome then. With `local`, what it reads from nodes is read from
/// files where they give them.
pub(super) fn drive(
    cell: &Cell,
    nodes: &Pool<ToNode>,
    transfer: &mut impl Transfer,
    bytes: &mut impl Bytes,
    local: Option<LocalReads>,
) -> Result<(), FilesError> {
    let (done, events) = channel();
    let (tasks, reads) = (JoinSet::new(), VecDeque::new());
    let mut performer = Performer { cell, nodes, tasks, done, events, reads, local, wake_at: None };
    transfer.handle(cell.now(), ExtentEvent::Tick);
    loop {
        while let Some(effect) = transfer.poll_effect() {
            performer.perform(effect, bytes)?;
        }
        if transfer.has_ended() {
            return Ok(());
        }
        bytes.check_stop()?;
        if let Some(event) = performer.next(bytes) {
            transfer.handle(cell.now(), event);
        }
    }
}

impl Performer<'_> {
    fn perform(&mut self, effect: ExtentEffect, bytes: &mut impl Bytes) -> Result<(), FilesError> {
        match effect {
            ExtentEffect::Call { call, to, request, body, deadline } => match (&mut self.local, request) {
                (Some(local), NodeRequest::Read { fragment, offset, bytes }) => {
                    match local.want(Read { call, to, fragment, offset, bytes, deadline }) {
                        Wanted::Opening(key) => self.open(key),
                        Wanted::Kept => {}
                        Wanted::ByNode(read) => self.ask_node_for(read),
                    }
                }
                (_, request) => self.call(call, to, request, body, deadline),
            },
            ExtentEffect::Ask { ask, request, body } => {
                let (daemon, done): (Daemon, _) = (self.cell.daemon.clone(), self.done.clone());
                self.spawn(async move {
                    let result = daemon.ask(&request, body).await;
                    let _ = done.send(Done::Event(ExtentEvent::Ask { ask, result }));
                });
            }
            ExtentEffect::ReadSource { read, offset, bytes } => self.reads.push_back((read, offset, bytes)),
            ExtentEffect::Deliver { offset, bytes: proven } => bytes.take(offset, proven)?,
            ExtentEffect::WakeAt(time) => self.wake_at = Some(time),
        }
        Ok(())
    }

    fn call(&mut self, call: CallId, to: Place, request: NodeRequest, body: Body, deadline: Millis) {
        let (nodes, done) = (self.nodes.clone(), self.done.clone());
        let within = Duration::from_millis(deadline.0);
        self.spawn(async move {
            let result = nodes.call(&to.address, &request, body, within).await;
            let _ = done.send(Done::Event(ExtentEvent::Call { call, result }));
        });
    }

    fn ask_node_for(&mut self, read: Read) {
        let request = read.request();
        self.call(read.call, read.to, request, Body::new(), read.deadline);
    }

    fn open(&mut self, key: Key) {
        let (doors, nodes, done) = (self.cell.doors.clone(), self.nodes.clone(), self.done.clone());
        self.spawn(async move {
            let file = doors.open(&nodes, &key.0.address, key.1).await;
            let _ = done.send(Done::Opened(key, file));
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        // Those that ended are let go of, or their number would grow with the extent.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn_on(task, &self.cell.handle);
    }

    /// The next event; none where it is time to look at the stop flag. Answers come before reads: they make room for them.
    fn next(&mut self, bytes: &mut impl Bytes) -> Option<ExtentEvent> {
        if let Ok(done) = self.events.try_recv() {
            return self.ended(done);
        }
        match self.local.as_mut().and_then(LocalReads::next) {
            Some(Ok((call, reply, body))) => {
                // Before the proof: where a file gives other bytes, more are read than are got.
                self.cell.local_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                return Some(ExtentEvent::Call { call, result: Ok((reply, body)) });
            }
            Some(Err(read)) => {
                self.ask_node_for(read);
                return None;
            }
            None => {}
        }
        if let Some((read, offset, count)) = self.reads.pop_front() {
            return Some(ExtentEvent::Source { read, bytes: bytes.read(offset, count) });
        }
        let wait = self.wake_at.map_or(STOP_LOOK_EVERY, |at| Duration::from_millis(at.since(self.cell.now()).0));
        match self.events.recv_timeout(wait.min(STOP_LOOK_EVERY)) {
            Ok(done) => self.ended(done),
            // The sender in `self` keeps the channel open.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.wake_at.take_if(|at| *at <= self.cell.now()).map(|_| ExtentEvent::Tick)
            }
        }
    }

    fn ended(&mut self, done: Done) -> Option<ExtentEvent> {
        match done {
            Done::Event(event) => Some(event),
            Done::Opened(key, file) => {
                let by_node = self.local.as_mut().map(|local| local.opened(key, file)).unwrap_or_default();
                by_node.into_iter().for_each(|read| self.ask_node_for(read));
                None
            }
        }
    }
}
