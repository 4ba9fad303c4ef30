//! Kept stages of a folder: two files in the staging folder, found again by a later life.
//!
//! ```text
//! staging/EXTENT.GENERATION.INDEX.frag.kept    the fragment to be, its whole room reserved; payload where it belongs
//! staging/EXTENT.GENERATION.INDEX.frag.map     which of it is there (`slice_map`)
//! ```
//!
//! A checkpoint forces the one to the disk, then appends to the other and forces that. The map is made with the first one: a file without a
//! map says nothing, and goes with the next start. The map goes before the file gets its name as a fragment, so that nobody ever writes into a
//! fragment by way of what it was.

use super::folder::{Folder, Unnamed};
use super::fragments::file_name;
use super::slice_map::{Owner, SliceMap, merged};
use ec_core::fragment::FragmentName;
use repair_core::id::ExtentKey;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends the name of a kept stage.
const KEPT: &str = ".kept";
/// Ends the name of its map.
const MAP: &str = ".map";

/// The kept stages there are: what no sweep touches.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptNames(Arc<Mutex<BTreeSet<FragmentKey>>>);

/// The fragment that a kept stage or a map of this name is of.
pub(super) fn fragment_of(name: &str) -> Option<FragmentKey> {
    let stem = name.strip_suffix(KEPT).or_else(|| name.strip_suffix(MAP))?;
    let name = FragmentName::parse(stem)?;
    let extent = ExtentKey::from_id(name.extent)?;
    let fragment = FragmentKey { extent, generation: name.generation, index: name.index.get() };
    (file_name(fragment) == stem).then_some(fragment)
}

fn names(fragment: FragmentKey) -> (String, String) {
    let stem = file_name(fragment);
    (format!("{stem}{KEPT}"), format!("{stem}{MAP}"))
}

impl KeptNames {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeSet<FragmentKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that an earlier life left, among the first `max` names of the staging folder: whole pairs whose map is one.
    pub(super) fn find(staging: &Folder, max: usize) -> io::Result<Self> {
        let (mut found, mut looked) = (BTreeSet::new(), 0);
        staging.each_name(|name, _| {
            looked += 1;
            found.extend(name.filter(|name| name.ends_with(MAP)).and_then(fragment_of));
            if looked < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        found.retain(|fragment| {
            let (kept, map) = names(*fragment);
            let is_map = matches!(SliceMap::owner(staging, &map, *fragment), Ok(Some(_)));
            is_map && matches!(staging.file_bytes(&kept), Ok(Some(_)))
        });
        Ok(Self(Arc::new(Mutex::new(found))))
    }

    /// Removes a kept stage, whatever there is of it.
    ///
    /// # Errors
    /// That of the system; one that is not there is well.
    pub(super) fn remove(&self, staging: &Folder, fragment: FragmentKey) -> io::Result<()> {
        let mut all = self.lock();
        let (kept, map) = names(fragment);
        // The file without its map is nothing; the other way round too, but this one takes the room.
        for name in [map, kept] {
            match staging.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        all.remove(&fragment);
        Ok(())
    }
}

/// What makes a stage one that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    owner: Owner,
    names: KeptNames,
    /// Made with the first checkpoint.
    map: Option<SliceMap>,
    /// Written and not forced to the disk.
    pending: Vec<Range<u64>>,
    /// Of an earlier opening, and durable.
    pub(super) found: Vec<Range<u64>>,
    /// Set once it is to stay when it is dropped.
    pub(super) is_left: bool,
}

impl Kept {
    /// Opens what is kept of this fragment and identity, or makes a file for it.
    ///
    /// # Errors
    /// That of the system, `StorageFull` among them. Nothing is left then.
    pub(super) fn open(staging: &Folder, names: &KeptNames, owner: Owner, bytes: u64) -> io::Result<(Self, Unnamed)> {
        // From here on no sweep takes it for a stray.
        names.lock().insert(owner.fragment);
        let opened = reopen(staging, owner).and_then(|found| match found {
            Some((file, map, found)) => Ok((file, Some(map), found)),
            None => {
                names.remove(staging, owner.fragment)?;
                names.lock().insert(owner.fragment);
                Ok((staging.new_file(&self::names(owner.fragment).0)?, None, Vec::new()))
            }
        });
        let opened = opened.and_then(|opened| super::folder::reserve(&opened.0, bytes).map(|()| opened));
        let (file, map, found) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = names.remove(staging, owner.fragment);
                return Err(error);
            }
        };
        let kept = Self { owner, names: names.clone(), map, pending: Vec::new(), found, is_left: false };
        Ok((kept, Unnamed::named(file, self::names(owner.fragment).0)))
    }

    pub(super) fn wrote(&mut self, range: Range<u64>) {
        match self.pending.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => self.pending.push(range),
        }
    }

    /// Makes durable what was written since the last time, and then the map that says so.
    ///
    /// # Errors
    /// That of the system. What is on the disk is not known then, and asking again would not tell.
    pub(super) fn checkpoint(&mut self, staging: &Folder, file: &File) -> io::Result<()> {
        let ranges = merged(std::mem::take(&mut self.pending));
        if ranges.is_empty() {
            return Ok(());
        }
        file.sync_data()?;
        if let Some(map) = &mut self.map {
            return map.append(&ranges);
        }
        let mut map = SliceMap::create(staging, &names(self.owner.fragment).1, self.owner)?;
        map.append(&ranges)?;
        staging.sync()?;
        self.map = Some(map);
        Ok(())
    }

    /// Whatever is there is no kept stage any more: it gets its name as a fragment now.
    ///
    /// # Errors
    /// That of the system.
    pub(super) fn end(&mut self, staging: &Folder) -> io::Result<()> {
        if self.map.take().is_some() {
            staging.remove(&names(self.owner.fragment).1)?;
        }
        Ok(())
    }

    /// It is a fragment, or nothing.
    pub(super) fn forget(&self, staging: &Folder) {
        // What cannot be removed is swept by the next start.
        let _ = self.names.remove(staging, self.owner.fragment);
    }
}

/// A file, its map, and the ranges that are there.
type Found = (File, SliceMap, Vec<Range<u64>>);

/// What an earlier opening left, with the ranges that lie inside the file.
fn reopen(staging: &Folder, owner: Owner) -> io::Result<Option<Found>> {
    let (kept, map) = names(owner.fragment);
    if !staging.has(&map)? || staging.file_bytes(&kept).ok().flatten().is_none() {
        return Ok(None);
    }
    // A map that cannot be read is none: it costs what it would have saved.
    let Ok(Some((map, mut found))) = SliceMap::open(staging, &map, owner) else { return Ok(None) };
    let file = staging.open_or_new_file(&kept)?;
    let metadata = file.metadata()?;
    // A second name may be a fragment's, where a crash undid half of a rename.
    if metadata.nlink() != 1 {
        return Ok(None);
    }
    found.retain(|range| range.end <= metadata.len());
    Ok(Some((file, map, found)))
}
