//! What an earlier life left in the staging folder, removed: a little before the start goes on, the rest beside the work. However many names there are,
//! they pass by one at a time, and nobody waits for them. What is kept stays ([`super::kept`]).

use super::folder::Folder;
use super::kept::{KeptNames, fragment_of};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Ends the name of a stage that needs one.
pub(super) const SUFFIX: &str = ".part";
/// Names looked at before the start goes on: more than the stages of a life that was killed.
pub(super) const AT_START: usize = 4096;

/// The removal; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sweep {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Work {
    staging: Folder,
    /// Begins the names of this life's own stages.
    ours: String,
    kept: KeptNames,
    is_over: AtomicBool,
    /// Names that are no stages, or cannot be removed.
    junk: AtomicU64,
}

impl Sweep {
    /// Begins to remove the stages in this folder whose names do not begin with `ours` and that are not among `kept`.
    ///
    /// # Errors
    /// That of the system, where the folder cannot be listed.
    pub(super) fn begin(staging: Folder, ours: String, kept: KeptNames) -> io::Result<Self> {
        let work = Arc::new(Work { staging, ours, kept, is_over: AtomicBool::new(false), junk: AtomicU64::new(0) });
        let mut looked = 0;
        let is_done = work.run(|| {
            looked += 1;
            looked <= AT_START
        })?;
        let thread = if is_done { None } else { go_on(&work) };
        Ok(Self { work, thread })
    }

    /// Names that stay and are not ours, once all were looked at.
    pub(super) fn junk(&self) -> u64 {
        self.work.junk.load(Ordering::Relaxed)
    }
}

/// What cannot be gone on with waits for the next start: it costs its room and nothing else.
fn go_on(work: &Arc<Work>) -> Option<JoinHandle<()>> {
    let work = Arc::clone(work);
    let sweep = move || drop(work.run(|| !work.is_over.load(Ordering::Relaxed)));
    std::thread::Builder::new().name("staging-sweep".into()).spawn(sweep).ok()
}

impl Work {
    /// Removes what is there for as long as it `may` look at another name; whether it came to the end.
    fn run(&self, mut may: impl FnMut() -> bool) -> io::Result<bool> {
        loop {
            let (mut removed, mut junk, mut is_cut) = (0_u64, 0, false);
            self.staging.each_name(|name, _| {
                is_cut = !may();
                if is_cut {
                    return ControlFlow::Break(());
                }
                match name.map(|name| self.look(name)) {
                    Some(Found::Ours) => {}
                    Some(Found::Removed) => removed += 1,
                    Some(Found::Junk) | None => junk += 1,
                }
                ControlFlow::Continue(())
            })?;
            if is_cut {
                return Ok(false);
            }
            // Where something is removed meanwhile, a listing need not be complete.
            if removed == 0 {
                self.junk.store(junk, Ordering::Relaxed);
                return Ok(true);
            }
        }
    }
}

/// What became of a name.
enum Found {
    Ours,
    Removed,
    Junk,
}

impl Work {
    fn look(&self, name: &str) -> Found {
        if name.starts_with(&self.ours) {
            return Found::Ours;
        }
        // Held until it is removed: one that is begun meanwhile is begun behind that.
        let kept = fragment_of(name).map(|fragment| (self.kept.lock(), fragment));
        match &kept {
            Some((kept, fragment)) if kept.contains(fragment) => return Found::Ours,
            None if !name.ends_with(SUFFIX) => return Found::Junk,
            _ => {}
        }
        if self.staging.remove(name).is_ok() { Found::Removed } else { Found::Junk }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.work.is_over.store(true, Ordering::Relaxed);
        // The folder is unlocked after this: then it is another's.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, Instant};

    fn begin(path: &std::path::Path) -> Sweep {
        Sweep::begin(Folder::open(path).unwrap(), "ours-".into(), KeptNames::default()).unwrap()
    }

    #[test]
    fn a_few_are_gone_at_once_and_what_is_not_a_stage_stays_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["1.part", "2.part", "ours-1.part", "notes", &"x".repeat(255)] {
            File::create(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", at("link.part")).unwrap();
        fs::create_dir(at("folder.part")).unwrap();
        let sweep = begin(folder.path());
        assert_eq!(sweep.junk(), 3, "a note, a long name and a folder");
        assert!(sweep.thread.is_none() && at("ours-1.part").exists() && at("folder.part").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        assert!(fs::exists("/etc/passwd").unwrap());
    }

    #[test]
    fn many_are_removed_beside_the_work_and_the_end_does_not_wait_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let left = || fs::read_dir(folder.path()).unwrap().count();
        (0..3 * AT_START).for_each(|number| drop(File::create(folder.path().join(format!("{number}.part"))).unwrap()));
        let sweep = begin(folder.path());
        assert!(sweep.thread.is_some());
        let began = Instant::now();
        while left() > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "{} left", left());
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(sweep);
        (0..20 * AT_START).for_each(|number| drop(File::create(folder.path().join(format!("{number}.part"))).unwrap()));
        drop(begin(folder.path()));
        // It ended in the middle; nothing goes on behind it.
        let rest = left();
        assert!(rest > AT_START, "{rest} left");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(left(), rest);
    }
}
