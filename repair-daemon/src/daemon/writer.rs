//! A thread that writes what is said to people: a disk or a pipe that hangs stops nobody but it.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Lines that wait to be written; what comes while there are so many is dropped.
const QUEUED_MAX: usize = 1024;
/// How long the end of the process waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(2);

/// The queue before the thread.
#[derive(Debug)]
pub(super) struct Writer<T> {
    queue: Option<SyncSender<T>>,
    /// Ends when the thread does.
    ended: Receiver<()>,
    dropped: u64,
}

impl<T: Send + 'static> Writer<T> {
    /// A thread that calls `write` with each line, one after the other.
    pub(super) fn start(mut write: impl FnMut(T) + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUED_MAX);
        let (alive, ended) = channel();
        let work = move || {
            while let Ok(line) = lines.recv() {
                write(line);
            }
            // First what it held open, then the news of its end.
            drop(write);
            drop(alive);
        };
        std::thread::Builder::new().name("events".into()).spawn(work)?;
        Ok(Self { queue: Some(queue), ended, dropped: 0 })
    }

    /// Has a line written, in time. Never waits.
    pub(super) fn write(&mut self, line: T) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
            self.dropped += 1;
        }
    }

    /// Lines that were dropped because earlier ones were not written yet.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.queue = None;
        let _: Result<(), _> = self.ended.recv_timeout(FAREWELL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    #[test]
    fn a_line_that_cannot_be_written_stops_nobody_and_what_is_dropped_is_counted() {
        let (go_on, gate) = channel::<()>();
        let written = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&written);
        let began = Instant::now();
        let mut writer = Writer::start(move |line: usize| {
            let _ = gate.recv();
            taken.lock().unwrap().push(line);
        })
        .unwrap();
        for line in 0..3 * QUEUED_MAX {
            writer.write(line);
        }
        assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for the pipe");
        // The thread itself may hold one.
        let kept = 3 * QUEUED_MAX - usize::try_from(writer.dropped()).unwrap();
        assert!((QUEUED_MAX..=QUEUED_MAX + 1).contains(&kept), "{kept}");
        drop(go_on);
        drop(writer);
        // The thread may have taken its first one at any moment, which made room for one more line, whichever came then.
        let written = written.lock().unwrap();
        assert_eq!(written.len(), kept, "the rest is written before the end");
        assert!(written.is_sorted_by(|a, b| a < b) && written[QUEUED_MAX - 1] == QUEUED_MAX - 1, "{written:?}");
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (_never, gate) = channel::<()>();
        let mut writer = Writer::start(move |()| {
            let _ = gate.recv();
        })
        .unwrap();
        writer.write(());
        let began = Instant::now();
        drop(writer);
        assert!(began.elapsed() < FAREWELL + Duration::from_secs(3));
    }
}
