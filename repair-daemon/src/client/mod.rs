//! The client of a cell: files in, files out, questions.
//!
//! [`Cell`] is a cell as its users see it. It blocks: whoever calls waits for the answer, and is told
//! [`FilesError::Interrupted`] once the stop flag it was opened with is set. The bytes go between here and the nodes; the daemon
//! says where to and commits. The protocol itself is in `repair_core::client`; here its wishes are performed.

mod drive;
mod fetch;
mod folder;
mod get;
mod local;
mod names;
mod put;

pub use fetch::{Fetched, fetch};
pub use folder::{Listing, list_folder};
pub use put::PutSummary;

use crate::door::Doors;
use crate::files::FilesError;
use crate::transport::{Pool, ToDaemon, ToNode};
use bytes::Bytes;
use repair_core::time::{Millis, Time};
use repair_core::wire::daemon::Subject;
use repair_core::wire::node::NodeHealth;
use repair_core::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// Threads that move bytes between sockets and memory; those that compute are others.
const NETWORK_THREADS: usize = 2;
/// How often a thread that waits looks at the stop flag.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(100);
/// An answer from the daemon's memory, or a few catalog writes away.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);
/// A commit waits for all members of a placement group to sync what they were sent.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(120);
/// Between tries to reach the daemon: the first wait, and the longest.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A cell, by the address of its daemon.
#[derive(Debug)]
pub struct Cell {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    daemon: Daemon,
    /// Connections for reading, kept from one call to the next.
    readers: Pool<ToNode>,
    /// Where nodes of this host give out files.
    doors: Doors,
    local_bytes: AtomicU64,
    patience: Duration,
    stop: Arc<AtomicBool>,
    began: Instant,
}

/// The way to the daemon.
#[derive(Clone, Debug)]
struct Daemon {
    address: Arc<str>,
    pool: Pool<ToDaemon>,
    patience: Duration,
}

impl Daemon {
    /// Asks once.
    async fn ask(&self, request: &DaemonRequest, body: Bytes) -> Result<(DaemonReply, Bytes), CallError> {
        let within = match request {
            DaemonRequest::CommitExtent { .. } => COMMIT_TIME_MAX,
            // One that takes connections and never answers is not waited for longer than one that is absent.
            _ => ASK_TIME_MAX.min(self.patience),
        };
        self.pool.call(&self.address, request, body, within).await
    }
}

impl Cell {
    /// The cell whose daemon listens at `address` (host:port). Nothing is asked yet. `patience` is how long an absent daemon is
    /// waited for; once `stop` is set everything ends with [`FilesError::Interrupted`].
    ///
    /// # Errors
    /// [`FilesError::Io`] where no threads can be had.
    pub fn open(address: &str, patience: Duration, stop: Arc<AtomicBool>) -> Result<Self, FilesError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .enable_all()
            .build()
            .map_err(FilesError::io(std::path::Path::new("network"), "start threads for the"))?;
        let daemon = Daemon { address: address.into(), pool: Pool::new(), patience };
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            daemon,
            readers: Pool::new(),
            doors: Doors::default(),
            local_bytes: AtomicU64::new(0),
            patience,
            stop,
            began: Instant::now(),
        })
    }

    /// Where its daemon listens.
    pub fn address(&self) -> &str {
        &self.daemon.address
    }

    /// Payload read so far from files that nodes of this host gave, and not over the network.
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes.load(Ordering::Relaxed)
    }

    /// The daemon's report on the whole cell, as it is now.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn status(&self) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::Status)
    }

    /// What happened after event number `after`; one page.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn events(&self, after: u64) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::Events { after })
    }

    /// Why something is as it is.
    ///
    /// # Errors
    /// [`FilesError::Unavailable`] where the daemon knows no such thing, [`FilesError::Cell`].
    pub fn explain(&self, subject: Subject) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::Explain { subject })
    }

    /// How the node at this address is, as it says itself; in words why it does not say so.
    ///
    /// # Errors
    /// [`FilesError::Interrupted`].
    pub fn node_health(&self, address: &str) -> Result<Result<NodeHealth, String>, FilesError> {
        let asked = self.readers.call(address, &NodeRequest::Health, Bytes::new(), ASK_TIME_MAX.min(self.patience));
        Ok(match self.handle.block_on(self.unless_stopped(asked))? {
            Ok((NodeReply::Health(health), _)) => Ok(*health),
            Ok((NodeReply::Refused(refusal), _)) => Err(refusal.to_string()),
            Ok(_) => Err(CallError::Nonsense.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Has all nodes check all their fragments now.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn scrub(&self) -> Result<(), FilesError> {
        match self.ask(&DaemonRequest::Scrub)? {
            (DaemonReply::Noted, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Has the daemon audit extents now, one after the other: all, those of a placement group, or one.
    ///
    /// # Errors
    /// [`FilesError::Unavailable`] where the daemon knows no such thing, [`FilesError::Usage`] for a node or disk,
    /// [`FilesError::Cell`].
    pub fn audit(&self, subject: Option<Subject>) -> Result<(), FilesError> {
        match self.ask(&DaemonRequest::Audit { subject })? {
            (DaemonReply::Noted, _) => Ok(()),
            (DaemonReply::Refused(Refusal::NotFound), _) => {
                Err(FilesError::Unavailable("the cell has none such".into()))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Begins to move everything on a node elsewhere; how far that is.
    ///
    /// # Errors
    /// [`FilesError::Unavailable`] where the daemon knows no such node, [`FilesError::Cell`].
    pub fn drain(&self, node: &str, leaves: bool) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::Drain { node: node.to_owned(), leaves })
    }

    /// Drains a node no more, and lets it in again where it has left.
    ///
    /// # Errors
    /// As of [`Cell::drain`].
    pub fn cancel_drain(&self, node: &str) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::CancelDrain { node: node.to_owned() })
    }

    /// Lets a node be away for so long from now on without being taken for lost; none ends that.
    ///
    /// # Errors
    /// As of [`Cell::drain`]; [`FilesError::Usage`] for a span that is too long.
    pub fn maintain(&self, node: &str, span: Option<Duration>) -> Result<serde_json::Value, FilesError> {
        let span = span.map(|span| Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
        self.report(&DaemonRequest::Maintain { node: node.to_owned(), span })
    }

    /// Whether all could be read if these nodes were stopped now, and what stands against it.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where there is no such node, [`FilesError::Cell`].
    pub fn can_stop(&self, nodes: &[String]) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::CanStop { nodes: nodes.to_vec() })
    }

    /// What would be done if these nodes were lost now.
    ///
    /// # Errors
    /// As of [`Cell::can_stop`].
    pub fn drill(&self, nodes: &[String]) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::Drill { nodes: nodes.to_vec() })
    }

    /// What is to be rebuilt now, from where and to where.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn repair_plan(&self) -> Result<serde_json::Value, FilesError> {
        self.report(&DaemonRequest::PlanRepairs)
    }

    /// Lets repairs wait that are not urgent, or go on.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn pause_repairs(&self, paused: bool) -> Result<(), FilesError> {
        match self.ask(&DaemonRequest::PauseRepairs { paused })? {
            (DaemonReply::Noted, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn report(&self, request: &DaemonRequest) -> Result<serde_json::Value, FilesError> {
        match self.ask(request)? {
            (DaemonReply::Report, body) => serde_json::from_slice(&body)
                .map_err(|error| FilesError::Cell(format!("the daemon's report cannot be read: {error}"))),
            (DaemonReply::Refused(Refusal::NotFound), _) => {
                Err(FilesError::Unavailable("the cell has none such".into()))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Asks the daemon, again and again while it is absent or busy and there is patience.
    fn ask(&self, request: &DaemonRequest) -> Result<(DaemonReply, Bytes), FilesError> {
        self.ask_until_answered(request).map(|(reply, body, _)| (reply, body))
    }

    /// The same, and whether an earlier try without an answer may have been done.
    fn ask_until_answered(&self, request: &DaemonRequest) -> Result<(DaemonReply, Bytes, bool), FilesError> {
        let began = Instant::now();
        let mut wait = RETRY_AFTER.0;
        let mut done_perhaps = false;
        loop {
            let why = match self.handle.block_on(self.unless_stopped(self.daemon.ask(request, Bytes::new())))? {
                Ok((DaemonReply::Refused(refusal), _)) if passes(&refusal) => refusal.to_string(),
                Ok((reply, body)) => return Ok((reply, body, done_perhaps)),
                Err(error) => {
                    done_perhaps |= error != CallError::Unreachable;
                    error.to_string()
                }
            };
            if began.elapsed() + wait > self.patience {
                let (address, waited) = (self.address(), self.patience.as_secs());
                return Err(FilesError::Cell(format!(
                    "the daemon at {address} did not answer within {waited} s ({why}); is it running, and is the address right?"
                )));
            }
            self.sleep(wait)?;
            wait = (wait * 2).min(RETRY_AFTER.1);
        }
    }

    /// The answer, or `Err` once it is to stop.
    async fn unless_stopped<T>(&self, answer: impl Future<Output = T>) -> Result<T, FilesError> {
        let mut answer = std::pin::pin!(answer);
        loop {
            match tokio::time::timeout(STOP_LOOK_EVERY, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) => self.check_stop()?,
            }
        }
    }

    /// Waits.
    ///
    /// # Errors
    /// [`FilesError::Interrupted`].
    pub fn sleep(&self, span: Duration) -> Result<(), FilesError> {
        // A timer is made where there is a clock: inside.
        self.handle.block_on(self.unless_stopped(async { tokio::time::sleep(span).await }))
    }

    /// `Err` once the stop flag is set.
    ///
    /// # Errors
    /// [`FilesError::Interrupted`].
    pub fn check_stop(&self) -> Result<(), FilesError> {
        if self.stop.load(Ordering::Relaxed) { Err(FilesError::Interrupted) } else { Ok(()) }
    }

    fn now(&self) -> Time {
        Time::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Drop for Cell {
    /// Waits for nothing: what is still under way is a name that is looked up, or a file system that does not answer.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Refusals that may be another answer a little later.
fn passes(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Unavailable(_) | Refusal::Busy(_) | Refusal::NotOwner(_))
}

/// An answer that is none to what was asked.
fn unexpected(reply: &DaemonReply) -> FilesError {
    match reply {
        DaemonReply::Refused(Refusal::Invalid(reason)) => FilesError::Usage(reason.clone()),
        DaemonReply::Refused(refusal) => FilesError::Cell(refusal.to_string()),
        _ => FilesError::Cell("the daemon gave an answer to another question; are both of one version?".into()),
    }
}

#[cfg(test)]
mod tests;
