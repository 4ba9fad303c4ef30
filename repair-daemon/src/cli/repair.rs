//! `ninefold repair DIR [--dry-run]`, and `ninefold repair --dry-run --cell ADDR`.

use super::cell::{CellArguments, as_text};
use super::decode::check_folder;
use super::staging::{FolderLock, finish_abandoned, folders_of};
use super::{Outcome, human_bytes, note, print, print_json, report};
use crate::files::check::check_payloads;
use crate::files::error::{printable, shown};
use crate::files::repair::{QUARANTINE, Tidied, check_quarantine, quarantine_extras, relocate, repair_extents};
use crate::files::scan::{Extra, Scan, Slot, scan};
use crate::files::{FilesError, Work};
use ec_core::fragment::{Class, ExtentId, StreamId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub struct Repair {
    /// Folder of fragments. Without it, --dry-run says what a cell is about to rebuild, which it does by itself.
    #[arg(required_unless_present = "dry_run", conflicts_with = "cell")]
    dir: Option<PathBuf>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        match &self.dir {
            Some(dir) => self.run_in(dir),
            None => self.plan(),
        }
    }

    /// What the cell is about to rebuild.
    fn plan(&self) -> Result<Outcome, FilesError> {
        let plan = self.cell.open()?.repair_plan()?;
        if self.json {
            print_json(&plan)?;
        } else {
            print(&as_text(&plan))?;
        }
        Ok(Outcome::Done)
    }

    fn run_in(&self, dir: &Path) -> Result<Outcome, FilesError> {
        check_folder(dir)?;
        check_quarantine(&dir.join(QUARANTINE))?;
        let work = super::work("verify")?;
        let started = Instant::now();
        // A second repair would move what this one has just put in place.
        let lock = if self.dry_run { None } else { Some(FolderLock::take(dir)?) };
        if let Some(lock) = &lock {
            finish_abandoned(lock, dir)?;
        }
        let mut found = look(dir, &work)?;
        let mut set_aside = take_what_has_no_place(&mut found);
        // First of all: later, what lies at these names is what was put in place or rebuilt.
        if !self.dry_run {
            quarantine_extras(&set_aside)?;
        }
        let relocated = if self.dry_run {
            Tidied { in_place: misplaced(&found), set_aside: Vec::new() }
        } else {
            relocate(&mut found)?
        };

        work.progress().set_message("repair");
        let target = |_: &_, _| dir.to_owned();
        let repairs = repair_extents(&work, &found, &target, self.dry_run)?;
        set_aside.extend(relocated.set_aside);
        set_aside.extend(repairs.iter().flat_map(|repair| repair.set_aside.iter().cloned()));
        let whole = if self.dry_run {
            found.is_whole() && set_aside.is_empty()
        } else {
            // Newer than the last change, and reading every byte again.
            work.progress().set_message("recount");
            look(dir, &work)?.is_whole()
        };
        work.progress().finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let report = report::Repaired::new(&repairs, &relocated.in_place, &set_aside, self.dry_run, whole, seconds);
        self.tell(&report)?;
        let failed = repairs.iter().any(|repair| repair.failure.is_some());
        Ok(if failed || (!whole && !self.dry_run) { Outcome::DamageFound } else { Outcome::Done })
    }

    fn tell(&self, report: &report::Repaired) -> Result<(), FilesError> {
        let foreign = report.quarantined.iter().filter(|fragment| fragment.class == Class::Foreign.as_str());
        for fragment in foreign {
            note(&format!("{}: {}", printable(&fragment.path), fragment.reason));
        }
        for failure in report.extents.iter().filter_map(|extent| extent.failure.as_deref()) {
            note(&format!("ninefold: {failure}"));
        }
        if self.json {
            return print_json(report);
        }
        let would = if self.dry_run { "would be " } else { "" };
        print(&format!(
            "{} fragments {would}rebuilt ({}, reading {}), {} {would}put in place, {} {would}set aside in quarantine/; {}\n",
            report.rebuilt_fragments,
            human_bytes(report.rebuilt_bytes),
            human_bytes(report.read_bytes),
            report.relocated.len(),
            report.quarantined.len(),
            match (self.dry_run, report.full_redundancy) {
                (true, true) => "nothing to do",
                (true, false) => "nothing was changed",
                (false, true) => "a recount finds full redundancy",
                (false, false) => "NOT fully redundant",
            }
        ))
    }
}

fn look(dir: &Path, work: &Work) -> Result<Scan, FilesError> {
    let mut found = scan(work, &folders_of(dir))?;
    if found.extents.is_empty() {
        return Err(FilesError::Unrecoverable(format!("{}: no fragments", shown(dir))));
    }
    work.progress().reset();
    work.progress().set_length(found.payload_bytes());
    check_payloads(work, &mut found)?;
    Ok(found)
}

/// What is to be moved out of the way: it fills no place, is no source, and could not help anything here that is lost.
fn take_what_has_no_place(found: &mut Scan) -> Vec<Extra> {
    let mut foreign = take_foreign(found);
    let sources: BTreeSet<PathBuf> =
        found.extents.values().flat_map(|view| &view.slots).filter_map(|slot| slot.usable.clone()).collect();
    let idle = |extra: &Extra| {
        let view = extra.extent.and_then(|id| found.extents.get(&id));
        extra.class != Class::Unsupported && !sources.contains(&extra.path) && view.is_none_or(report::decodable)
    };
    let (mut set_aside, kept): (Vec<Extra>, Vec<Extra>) = std::mem::take(&mut found.extras).into_iter().partition(idle);
    found.extras = kept;
    foreign.retain(|extra| !sources.contains(&extra.path));
    set_aside.extend(foreign);
    set_aside
}

/// Takes out what came here from elsewhere: a lone fragment of another stream than most of the folder, of no use alone, and
/// extents of which nothing is known but the name of a damaged file. More than one fragment of a stream is a loss to report.
fn take_foreign(found: &mut Scan) -> Vec<Extra> {
    let Some((main, _)) = found.main_stream() else { return Vec::new() };
    let mut extras = Vec::new();
    let others: Vec<StreamId> = found.streams.keys().copied().filter(|id| *id != main).collect();
    for id in others {
        let extents: BTreeSet<ExtentId> = found
            .extents
            .values()
            .filter(|view| view.on_file.as_ref().is_some_and(|on_file| on_file.record.stream == id))
            .map(|view| view.id)
            .chain(found.streams[&id].extents.iter().map(|listed| listed.extent))
            .collect();
        let views = || extents.iter().filter_map(|extent| found.extents.get(extent));
        let mut present: Vec<Extra> = views()
            .flat_map(|view| view.slots.iter().filter(|slot| is_present(slot)).map(|slot| (view.id, slot)))
            .map(|(extent, slot)| Extra {
                path: slot.usable.clone().unwrap_or_else(|| slot.path.clone()),
                extent: Some(extent),
                index: Some(slot.index),
                class: Class::Foreign,
                reason: format!("a lone fragment of stream {id}, which is not this folder's"),
            })
            .collect();
        if present.len() <= 1 && !views().any(report::decodable) {
            extras.append(&mut present);
            found.streams.remove(&id);
            found.extents.retain(|extent, _| !extents.contains(extent));
        }
    }
    found.extents.retain(|_, view| view.code.is_some());
    extras
}

/// Whether a file of this very fragment is here, whole or not. Under its name may also lie somebody else's.
fn is_present(slot: &Slot) -> bool {
    slot.usable.is_some() || !matches!(slot.class, Class::Missing | Class::Identity)
}

/// Fragments that a repair would rename.
fn misplaced(found: &Scan) -> Vec<PathBuf> {
    let slots = found.extents.values().flat_map(|view| &view.slots);
    slots.filter(|slot| slot.usable.is_some() && slot.class != Class::Healthy).map(|slot| slot.path.clone()).collect()
}
