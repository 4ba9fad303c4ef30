//! Threads that wait for the disk, so that nothing else does.

use super::host::Inputs;
use crate::files::FilesError;
use crate::store::DiskStore;
use repair_core::id::CellKey;
use repair_core::lineage::Life;
use repair_core::node::{NodeEvent, OpId, StoreCall, StoreError, StoreOk};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the end waits for operations under way. A disk that hangs for longer loses nothing by it: nobody was answered.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// Something to be done with the disk.
#[derive(Debug)]
pub(super) enum Job {
    /// Ends as [`NodeEvent::Stored`].
    Call { op: OpId, call: StoreCall },
    /// Ends as [`NodeEvent::Stored`].
    SetCell { op: OpId, cell: CellKey, life: Life },
    /// Ends as [`NodeEvent::Room`].
    Room,
}

/// The threads. Jobs begin in the order they were given; the machine wants no two at a time whose order matters.
#[derive(Debug)]
pub(super) struct Workers {
    jobs: Sender<Job>,
    /// Never sends; breaks when the last thread has ended.
    ended: Receiver<()>,
}

impl Workers {
    pub(super) fn start(store: &Arc<DiskStore>, inputs: &Inputs, threads: usize) -> Result<Self, FilesError> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let (alive, ended) = mpsc::channel();
        let broken = Arc::new(AtomicBool::new(false));
        let (said, said_junk) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for number in 0..threads {
            let (store, inputs, queue, alive) = (Arc::clone(store), inputs.clone(), Arc::clone(&queue), alive.clone());
            let (broken, said, said_junk) = (Arc::clone(&broken), Arc::clone(&said), Arc::clone(&said_junk));
            let work = move || {
                while let Some(job) = next(&queue) {
                    let is_look = matches!(job, Job::Room);
                    let done = perform(&store, job);
                    if is_look {
                        say_junk(&store, &said_junk);
                    }
                    if let Some(times) = say_mismatches(&store, &said) {
                        inputs.happened(NodeEvent::Mismatched { times });
                    }
                    // Before the answer that failed by it: whoever tries again should know that it is no use.
                    if let Some(reason) = store.broken()
                        && !broken.swap(true, Ordering::Relaxed)
                    {
                        inputs.happened(NodeEvent::Broken { reason: reason.to_owned() });
                    }
                    done.into_iter().for_each(|event| inputs.happened(event));
                }
                // The store is closed before the end is seen.
                drop(store);
                drop::<Sender<()>>(alive);
            };
            let thread = std::thread::Builder::new().name(format!("disk-{number}")).spawn(work);
            thread.map_err(FilesError::io(Path::new("disk workers"), "start threads for"))?;
        }
        Ok(Self { jobs, ended })
    }

    pub(super) fn begin(&self, job: Job) {
        // The threads end only after this sender.
        let _ = self.jobs.send(job);
    }

    /// Lets what was asked for be done, within reason.
    pub(super) fn end(self) {
        drop(self.jobs);
        // Disconnected is the good end; nothing is ever sent.
        let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(END_TIME_MAX);
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn perform(store: &DiskStore, job: Job) -> Option<NodeEvent> {
    match job {
        Job::Call { op, call } => Some(NodeEvent::Stored { op, result: guarded(|| store.perform(call)) }),
        Job::SetCell { op, cell, life } => {
            let both = || store.set_cell(cell).and_then(|_| store.set_life(life));
            Some(NodeEvent::Stored { op, result: guarded(both) })
        }
        Job::Room => {
            store.flush_index();
            // Not measured is not told: the machine goes by what it knew.
            let (free_bytes, total_bytes) = store.room().ok()?;
            Some(NodeEvent::Room { free_bytes, total_bytes })
        }
    }
}

/// Somebody has to see to a disk that does not keep what it took. Gives how many there are that nobody was told of.
fn say_mismatches(store: &DiskStore, said: &AtomicU64) -> Option<u64> {
    let mismatches = store.mismatches();
    let before = said.fetch_max(mismatches, Ordering::Relaxed);
    let new = mismatches.checked_sub(before).filter(|new| *new > 0)?;
    let what = "were not on the disk as they were written, and were discarded";
    let _ = writeln!(io::stderr(), "ninefold node: fragments read back since the start that {what}: {mismatches}");
    Some(new)
}

/// Once: whoever put it there can look for it.
fn say_junk(store: &DiskStore, said: &AtomicBool) {
    let junk = store.junk();
    if junk > 0 && !said.swap(true, Ordering::Relaxed) {
        let what = "names in the data folder are not ours and were skipped";
        let _ = writeln!(io::stderr(), "ninefold node: {junk} {what}");
    }
}

/// A fault of this program in one operation must neither end its thread nor leave the machine waiting.
fn guarded(job: impl FnOnce() -> Result<StoreOk, StoreError>) -> Result<StoreOk, StoreError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Err(StoreError::Io("an internal fault".into())))
}
