//! Names of stored files: listed, looked up, removed.

use super::{Cell, unexpected};
use crate::files::FilesError;
use repair_core::catalog::NameRow;
use repair_core::wire::daemon::StoredName;
use repair_core::wire::{DaemonReply, DaemonRequest, Refusal};

/// How often a name is looked up again that was put over before it could be removed.
const REMOVALS_MAX: u32 = 16;

impl Cell {
    /// Hands every name that begins with `prefix` to `each`, in order.
    ///
    /// # Errors
    /// [`FilesError::Cell`], and that of `each`.
    pub fn each_name(
        &self,
        prefix: &[u8],
        each: &mut dyn FnMut(StoredName) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let mut after = None;
        loop {
            self.check_stop()?;
            let request = DaemonRequest::Names { prefix: prefix.to_vec(), after: after.take() };
            let (names, more) = match self.ask(&request)? {
                (DaemonReply::NamesPage { names, more }, _) => (names, more),
                (other, _) => return Err(unexpected(&other)),
            };
            after = names.last().map(|last| last.name.clone());
            names.into_iter().try_for_each(&mut *each)?;
            if !more || after.is_none() {
                return Ok(());
            }
        }
    }

    /// All names that begin with `prefix`, in order.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn names(&self, prefix: &[u8]) -> Result<Vec<StoredName>, FilesError> {
        let mut names = Vec::new();
        self.each_name(prefix, &mut |name| {
            names.push(name);
            Ok(())
        })?;
        Ok(names)
    }

    /// Where the bytes of a name are; none where there is no such name.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn lookup(&self, name: &[u8]) -> Result<Option<NameRow>, FilesError> {
        match self.ask(&DaemonRequest::Lookup { name: name.to_vec() })? {
            (DaemonReply::Found(row), _) => Ok(Some(row)),
            (DaemonReply::Refused(Refusal::NotFound), _) => Ok(None),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Removes a name. Says whether there was one.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn remove(&self, name: &[u8]) -> Result<bool, FilesError> {
        for _ in 0..REMOVALS_MAX {
            let Some(row) = self.lookup(name)? else { return Ok(false) };
            if self.remove_stored(name, &row)? {
                return Ok(true);
            }
        }
        Err(FilesError::Cell(
            "the name is put over again and again while it is removed; run again when it is at rest".into(),
        ))
    }

    /// Removes a name if its bytes still are where `row` says; says whether it did. What is put under the name meanwhile stays,
    /// however often this has to ask.
    ///
    /// # Errors
    /// [`FilesError::Cell`].
    pub fn remove_stored(&self, name: &[u8], row: &NameRow) -> Result<bool, FilesError> {
        let request = DaemonRequest::RemoveIf { name: name.to_vec(), stream: row.stream };
        match self.ask_until_answered(&request)? {
            (DaemonReply::Removed, ..) => Ok(true),
            // Gone by a try of ours whose answer was lost, as far as anybody can tell.
            (DaemonReply::Refused(Refusal::NotFound), _, done_perhaps) => Ok(done_perhaps),
            (other, ..) => Err(unexpected(&other)),
        }
    }
}
