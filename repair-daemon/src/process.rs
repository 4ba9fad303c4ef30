//! What the long-running processes, daemon and node, have in common: their clock, their addresses, how they end.

use crate::files::FilesError;
use repair_core::time::Time;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The time that the machines of one process are given.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock at its zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now(self) -> Time {
        Time::from_millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// How long from now to that moment. A millisecond more than it says: woken early, a machine would ask again at once.
    pub fn until(self, moment: Time) -> Duration {
        let now = self.now();
        if moment > now { Duration::from_millis(moment.since(now).0 + 1) } else { Duration::ZERO }
    }
}

/// Why an address cannot be listened on: wrong use where it is none, else the system's reason.
pub fn listening(address: &str, error: io::Error) -> FilesError {
    match error.kind() {
        io::ErrorKind::InvalidInput => FilesError::Usage(format!("{address:?} is no address: say HOST:PORT")),
        _ => FilesError::io(Path::new(address), "listen on")(error),
    }
}

/// Calls `end` with the name of each signal that asks the process to end in order. Within a runtime.
///
/// # Errors
/// The system refuses.
pub fn on_end_signals(end: impl Fn(&'static str) + Clone + Send + 'static) -> Result<(), FilesError> {
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut arrivals = signal(kind).map_err(FilesError::io(Path::new("signals"), "be told of"))?;
        let end = end.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                end(name);
            }
        });
    }
    Ok(())
}

/// Asks the kernel to end this process with its parent: with the parent's thread that started it, to be exact. `expected` is the
/// parent's process id, 0 where it is not known.
///
/// # Errors
/// The system refuses, or the parent is gone already.
pub fn die_with_parent(expected: u32) -> Result<(), FilesError> {
    let refused =
        |error: rustix::io::Errno| FilesError::io(Path::new("parent process"), "be told of the end of")(error.into());
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused)?;
    // A parent that ended before that would never be noticed; nor one that ended before this process could look, which is why
    // the parent says who it is.
    let number = |pid: Option<rustix::process::Pid>| pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let as_expected = expected == 0 || number(parent) == expected;
    if as_expected && getppid() == parent { Ok(()) } else { Err(FilesError::Interrupted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::time::Millis;

    #[test]
    fn a_wait_never_ends_before_its_moment() {
        let clock = Clock::start();
        assert_eq!(clock.until(Time::ZERO), Duration::ZERO);
        for span in [1, 5, 20] {
            let moment = clock.now() + Millis(span);
            std::thread::sleep(clock.until(moment));
            assert!(clock.now() >= moment);
        }
    }

    #[test]
    fn what_is_no_address_is_wrong_use_and_one_in_use_is_not() {
        assert_eq!(listening("x", io::ErrorKind::InvalidInput.into()).exit_code(), 2);
        let error = listening("127.0.0.1:1", io::ErrorKind::AddrInUse.into());
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("127.0.0.1:1"));
    }
}
