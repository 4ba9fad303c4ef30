//! An independent count of what lies on the living nodes' disks. It asks no process and trusts no index: it reads every fragment
//! file, with the code that `verify` uses on a folder.

use super::cell::Node;
use super::havoc::{Flip, fragment_folders};
use crate::files::check::check_payloads;
use crate::files::scan::{ExtentView, Scan, Slot, scan};
use crate::files::staged::folder_of;
use crate::files::{FilesError, Work};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// What a recount found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    /// Whether every fragment of every extent is there, proven, and in a rack of its own, and the flipped byte is as it was.
    pub full: bool,
    /// Extents found.
    pub extents: usize,
    /// Fragments that are not there or not sound.
    pub lacking: usize,
}

/// Counts. Nodes change their folders meanwhile: what moves away while it is read counts as lacking.
///
/// # Errors
/// [`FilesError`] where it is not a fragment's fault.
pub fn recount(work: &Work, nodes: &[Node], flip: Option<&Flip>) -> Result<Recount, FilesError> {
    let mut racks = HashMap::new();
    for node in nodes.iter().filter(|node| node.alive) {
        for folder in fragment_folders(&node.data)? {
            racks.insert(folder, node.rack);
        }
    }
    let mut folders: Vec<PathBuf> = racks.keys().cloned().collect();
    folders.sort();
    let mut found = scan(work, &folders)?;
    check_payloads(work, &mut found)?;
    let healed = flip.map_or(Ok(true), Flip::is_healed)?;
    Ok(judge(&found, &racks, healed))
}

fn judge(found: &Scan, racks: &HashMap<PathBuf, usize>, healed: bool) -> Recount {
    let slots = || found.extents.values().flat_map(|view| &view.slots);
    let lacking = slots().filter(|slot| slot.usable.is_none()).count();
    let in_order = |view: &ExtentView| view.is_whole() && are_distinct(view, racks);
    Recount {
        full: healed && found.is_whole() && found.extents.values().all(in_order),
        extents: found.extents.len(),
        lacking,
    }
}

/// Whether each fragment lies in a rack of its own.
fn are_distinct(view: &ExtentView, racks: &HashMap<PathBuf, usize>) -> bool {
    let rack = |slot: &Slot| racks.get(folder_of(slot.usable.as_deref().unwrap_or(&slot.path)));
    let distinct: BTreeSet<Option<&usize>> = view.slots.iter().map(rack).collect();
    distinct.len() == view.slots.len() && !distinct.contains(&None)
}
