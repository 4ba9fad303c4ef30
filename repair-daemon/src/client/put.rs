//! Putting: one stream of bytes and the names in it, visible as one or not at all.

use super::drive::{Bytes, drive};
use super::{Cell, STOP_LOOK_EVERY};
use crate::files::FilesError;
use crate::files::source::ByteSource;
use crate::files::staged::random_u128;
use crate::pack::PackSource;
use crate::transport::{Pool, ToNode};
use ec_core::fragment::Content;
use indicatif::ProgressBar;
use repair_core::client::put::{PutExtent, PutSpec};
use repair_core::client::stream::{PutPlan, PutStream, StreamConfig};
use repair_core::client::{PutFailure, StreamEffect, StreamEvent, StreamFailure};
use repair_core::id::StreamKey;
use repair_core::node::Body;
use repair_core::time::{Millis, Time};
use repair_core::wire::daemon::NameEntry;
use repair_core::wire::{DaemonRequest, Refusal};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;
use tokio::task::JoinSet;

/// Extents in work at the same time: while one waits for its nodes to sync, another is encoded.
const EXTENTS_AT_ONCE: usize = 3;
/// How long a put that failed tries to tell the daemon, which gives it up by itself a little later.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// What was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutSummary {
    /// The stream.
    pub stream: StreamKey,
    /// Its length.
    pub bytes: u64,
    /// Its extents.
    pub extents: u64,
    /// Set where not every fragment was stored yet when it was committed; the daemon makes up for it.
    pub degraded: bool,
}

impl Cell {
    /// Puts one file under a name. A file of that name is replaced.
    ///
    /// # Errors
    /// [`FilesError`]; nothing of it is visible then, but for [`FilesError::Cell`] that says the end is unknown.
    pub fn put_file(
        &self,
        name: &[u8],
        source: &dyn ByteSource,
        progress: &ProgressBar,
    ) -> Result<PutSummary, FilesError> {
        let names = vec![NameEntry { name: name.to_vec(), offset: 0, bytes: source.bytes() }];
        self.put(name, Content::File, names, source, progress)
    }

    /// Puts all files of a pack, each under `folder` and its own name; without a folder where that is empty.
    ///
    /// # Errors
    /// As [`Cell::put_file`].
    pub fn put_pack(&self, folder: &[u8], pack: &PackSource, progress: &ProgressBar) -> Result<PutSummary, FilesError> {
        let full = |name: &[u8]| if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') };
        let files = pack.files().iter().zip(pack.starts());
        let names = files
            .map(|(file, start)| NameEntry { name: full(file.name()), offset: *start, bytes: file.bytes() })
            .collect();
        let content = if pack.end_bytes() == 0 { Content::File } else { Content::Pack };
        self.put(folder, content, names, pack, progress)
    }

    fn put(
        &self,
        name: &[u8],
        content: Content,
        names: Vec<NameEntry>,
        source: &dyn ByteSource,
        progress: &ProgressBar,
    ) -> Result<PutSummary, FilesError> {
        let stream = StreamKey(random_u128()?);
        let plan = PutPlan { stream, name: name.to_vec(), content, bytes: source.bytes(), names };
        let give_up_after = Millis(u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX));
        let machine = PutStream::new(plan.clone(), StreamConfig { give_up_after, parallel: EXTENTS_AT_ONCE });
        let put = Put {
            cell: self,
            plan: &plan,
            source,
            progress,
            cancelled: AtomicBool::new(false),
            source_error: Mutex::default(),
        };
        let ended = std::thread::scope(|scope| {
            let ended = Leader::new(&put, scope).lead(machine);
            put.cancelled.store(true, Ordering::Relaxed);
            ended
        });
        if matches!(ended, Err(FilesError::Interrupted | FilesError::Changed { .. })) {
            put.farewell();
        }
        ended
    }
}

/// One put, as its threads share it.
struct Put<'a> {
    cell: &'a Cell,
    plan: &'a PutPlan,
    source: &'a dyn ByteSource,
    progress: &'a ProgressBar,
    /// Set when the put has ended: transfers still running end too.
    cancelled: AtomicBool,
    /// Why the source could not be read, as it was found.
    source_error: Mutex<Option<FilesError>>,
}

impl Put<'_> {
    /// Tells the daemon that this put will not go on.
    fn farewell(&self) {
        let request = DaemonRequest::AbortPut { stream: self.plan.stream };
        let told = self.cell.daemon.ask(&request, bytes::Bytes::new());
        let _ = self.cell.handle.block_on(async { tokio::time::timeout(FAREWELL_TIME_MAX, told).await });
    }

    /// Stages one extent on its nodes. What is staged lives as long as the connections do.
    fn transfer(&self, spec: PutSpec, nodes: &Pool<ToNode>) -> Result<Body, PutFailure> {
        let seed = random_u128().map_err(|error| PutFailure::Again(error.to_string()))? as u64;
        let mut source = ExtentSource { put: self, first: spec.entry.offset };
        let mut extent = PutExtent::new(spec, seed)?;
        let ended = drive(self.cell, nodes, &mut extent, &mut source, None);
        let stopped = || PutFailure::Again(ended.err().map_or("ended early".into(), |error| error.to_string()));
        extent.outcome().unwrap_or_else(|| Err(stopped()))
    }

    fn failure(&self, failure: StreamFailure) -> FilesError {
        match failure {
            StreamFailure::Source(reason) => {
                let found = self.source_error.lock().unwrap_or_else(PoisonError::into_inner).take();
                found.unwrap_or_else(|| FilesError::Cell(format!("the source cannot be read: {reason}")))
            }
            StreamFailure::Refused(Refusal::Invalid(reason)) => FilesError::Usage(reason),
            StreamFailure::Refused(refusal) => FilesError::Cell(format!("{refusal}; nothing was stored")),
            StreamFailure::GaveUp(reason) => FilesError::Cell(format!("gave up: {reason}; nothing was stored")),
            StreamFailure::Unknown(reason) => FilesError::Cell(format!(
                "it may or may not be stored: {reason}; look with `ninefold ls`, or put it again"
            )),
        }
    }
}

/// The bytes of one extent.
struct ExtentSource<'a> {
    put: &'a Put<'a>,
    /// First byte of the extent in the stream.
    first: u64,
}

impl Bytes for ExtentSource<'_> {
    fn read(&mut self, offset: u64, bytes: usize) -> Result<Body, String> {
        let mut buffer = vec![0; bytes];
        match self.put.source.read_at(self.first + offset, &mut buffer) {
            Ok(()) => {
                self.put.progress.inc(bytes as u64);
                Ok(buffer.into())
            }
            Err(error) => {
                let reason = error.to_string();
                *self.put.source_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(reason)
            }
        }
    }

    fn take(&mut self, _: u64, _: Body) -> Result<(), FilesError> {
        Err(FilesError::internal("a put delivers nothing"))
    }

    fn check_stop(&self) -> Result<(), FilesError> {
        if self.put.cancelled.load(Ordering::Relaxed) {
            return Err(FilesError::Interrupted);
        }
        self.put.cell.check_stop()
    }
}

/// Performs the wishes of the put as a whole, on the thread that called.
struct Leader<'scope, 'env> {
    put: &'env Put<'env>,
    scope: &'scope Scope<'scope, 'env>,
    asks: JoinSet<()>,
    done: Sender<StreamEvent>,
    events: Receiver<StreamEvent>,
    /// Connections of the extents that are staged or being staged, by ordinal.
    nodes: BTreeMap<u64, Pool<ToNode>>,
    wake_at: Option<Time>,
}

impl<'scope, 'env> Leader<'scope, 'env> {
    fn new(put: &'env Put<'env>, scope: &'scope Scope<'scope, 'env>) -> Self {
        let (done, events) = channel();
        Self { put, scope, asks: JoinSet::new(), done, events, nodes: BTreeMap::new(), wake_at: None }
    }

    fn lead(mut self, mut machine: PutStream) -> Result<PutSummary, FilesError> {
        let cell = self.put.cell;
        machine.handle(cell.now(), StreamEvent::Tick);
        loop {
            while let Some(effect) = machine.poll_effect() {
                self.perform(effect)?;
            }
            if let Some(outcome) = machine.outcome() {
                return self.finish(outcome);
            }
            cell.check_stop()?;
            let wait = self.wake_at.map_or(STOP_LOOK_EVERY, |at| Duration::from_millis(at.since(cell.now()).0));
            let event = match self.events.recv_timeout(wait.min(STOP_LOOK_EVERY)) {
                Ok(event) => Some(event),
                Err(_) => self.wake_at.take_if(|at| *at <= cell.now()).map(|_| StreamEvent::Tick),
            };
            if let Some(event) = event {
                machine.handle(cell.now(), event);
            }
        }
    }

    fn finish(
        &mut self,
        outcome: Result<repair_core::client::stream::PutSummary, StreamFailure>,
    ) -> Result<PutSummary, FilesError> {
        match outcome {
            Ok(done) => Ok(PutSummary {
                stream: self.put.plan.stream,
                bytes: done.bytes,
                extents: done.extents,
                degraded: done.degraded,
            }),
            Err(failure) => {
                // Its last wish is to be given up; that goes out before this process may end.
                let asks = std::mem::take(&mut self.asks);
                let told = async { tokio::time::timeout(FAREWELL_TIME_MAX, asks.join_all()).await };
                let _ = self.put.cell.handle.block_on(told);
                Err(self.put.failure(failure))
            }
        }
    }

    fn perform(&mut self, effect: StreamEffect) -> Result<(), FilesError> {
        match effect {
            StreamEffect::Ask { ask, request, body } => {
                if matches!(request, DaemonRequest::CommitExtent { end: Some(_), .. }) {
                    // All was read; from here on it may become visible.
                    self.put.source.unchanged()?;
                }
                let (daemon, done) = (self.put.cell.daemon.clone(), self.done.clone());
                while self.asks.try_join_next().is_some() {}
                self.asks.spawn_on(
                    async move {
                        let result = daemon.ask(&request, body).await;
                        let _ = done.send(StreamEvent::Ask { ask, result });
                    },
                    &self.put.cell.handle,
                );
            }
            StreamEffect::Transfer { entry, grant, stream_bytes, extents } => {
                let plan = self.put.plan;
                let (stream, name, content) = (plan.stream, plan.name.clone(), plan.content);
                let spec = PutSpec { grant, stream, name, content, entry, stream_bytes, extents };
                let nodes = Pool::new();
                // One that was there is of an earlier try: its connections end with it.
                self.nodes.insert(entry.ordinal, nodes.clone());
                let (put, done) = (self.put, self.done.clone());
                self.scope.spawn(move || {
                    let result = put.transfer(spec, &nodes);
                    let _ = done.send(StreamEvent::Transferred { ordinal: entry.ordinal, result });
                });
            }
            StreamEffect::Release { ordinal } => drop(self.nodes.remove(&ordinal)),
            StreamEffect::WakeAt(time) => self.wake_at = Some(time),
        }
        Ok(())
    }
}
