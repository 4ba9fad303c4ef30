//! Room held back, so that a full disk can still be emptied: a delete appends to a journal and moves a name, and both may need
//! a block.

use super::folder::Folder;
use std::io;
use std::sync::{Mutex, PoisonError};

const NAME: &str = "reserve";
/// Some journal records and folder blocks.
const BYTES: u64 = 64 << 10;
/// Taken back only from plenty: not from what the next write needs.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The reserve of a disk.
#[derive(Debug)]
pub struct Reserve {
    /// Whether it is there.
    held: Mutex<bool>,
}

impl Reserve {
    /// The reserve in a data folder, made if there is room.
    pub fn new(root: &Folder) -> Self {
        let held = root.file_bytes(NAME).is_ok_and(|bytes| bytes.is_some_and(|bytes| bytes >= BYTES));
        let reserve = Self { held: Mutex::new(held) };
        reserve.restore(root);
        reserve
    }

    /// Gives the room up; false where there was none left.
    pub fn release(&self, root: &Folder) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *held) && root.remove(NAME).is_ok()
    }

    /// Takes the room back, if it was given up and there is plenty.
    pub fn restore(&self, root: &Folder) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let plenty = || root.room().is_ok_and(|(free, _)| free >= FREE_BYTES_MIN);
        if !*held && plenty() {
            // Failing, it is tried again the next time.
            *held = make(root).is_ok();
        }
    }
}

fn make(root: &Folder) -> io::Result<()> {
    // Half of one may be left of an earlier try.
    let _ = root.remove(NAME);
    let file = root.unnamed(|| "reserve.new".into(), BYTES)?;
    root.name(&file, root, NAME).inspect_err(|_| root.discard(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_once_and_taken_back() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Folder::open(temporary.path()).unwrap();
        let reserve = Reserve::new(&root);
        assert_eq!(root.file_bytes(NAME).unwrap(), Some(BYTES));
        assert!(reserve.release(&root) && !root.has(NAME).unwrap());
        assert!(!reserve.release(&root));
        reserve.restore(&root);
        assert_eq!(root.file_bytes(NAME).unwrap(), Some(BYTES));
        // The next life finds it.
        assert!(Reserve::new(&root).release(&root));
    }
}
