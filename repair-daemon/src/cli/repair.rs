//! `ninefold repair DIR [--dry-run]`.

use super::decode::check_folder;
use super::{Outcome, human_bytes, note, print, print_json, report};
use crate::files::check::check_payloads;
use crate::files::error::shown;
use crate::files::repair::{ExtentRepair, quarantine_extras, relocate, repair_extents};
use crate::files::scan::{Extra, Scan, scan};
use crate::files::{FilesError, Work};
use ec_core::fragment::{Class, ExtentId};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub struct Repair {
    /// Folder of fragments.
    dir: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        check_folder(&self.dir)?;
        let work = super::work("verify")?;
        let started = Instant::now();
        let mut found = self.look(&work)?;
        let foreign = take_foreign(&mut found);
        let mut set_aside: Vec<Extra> = std::mem::take(&mut found.extras);
        set_aside.extend(foreign);
        let relocated = if self.dry_run { misplaced(&found) } else { relocate(&mut found)? };

        work.progress().set_message("repair");
        let target = |_: &_, _| self.dir.clone();
        let repairs = repair_extents(&work, &found, &target, self.dry_run)?;
        if !self.dry_run {
            quarantine_extras(&set_aside)?;
        }
        work.progress().finish_and_clear();

        let whole =
            if self.dry_run { found.is_whole() && set_aside.is_empty() } else { self.recount(&work, &repairs)? };
        let seconds = started.elapsed().as_secs_f64();
        let report = report::Repaired::new(&repairs, &relocated, &set_aside, self.dry_run, whole, seconds);
        self.tell(&report)?;
        let failed = repairs.iter().any(|repair| repair.failure.is_some());
        Ok(if failed || (!whole && !self.dry_run) { Outcome::DamageFound } else { Outcome::Done })
    }

    fn look(&self, work: &Work) -> Result<Scan, FilesError> {
        let mut found = scan(work, std::slice::from_ref(&self.dir))?;
        if found.extents.is_empty() {
            return Err(FilesError::Unrecoverable(format!("{}: no fragments", shown(&self.dir))));
        }
        work.progress().set_length(found.payload_bytes());
        check_payloads(work, &mut found)?;
        Ok(found)
    }

    /// Looks again at everything after the last change, and reads again what was rebuilt.
    fn recount(&self, work: &Work, repairs: &[ExtentRepair]) -> Result<bool, FilesError> {
        let rebuilt: BTreeSet<(ExtentId, u16)> = repairs
            .iter()
            .flat_map(|repair| repair.rebuilt.iter().map(|(index, _)| (repair.extent, index.get())))
            .collect();
        let mut found = scan(work, std::slice::from_ref(&self.dir))?;
        let whole = found.is_whole();
        for view in found.extents.values_mut() {
            let id = view.id;
            view.slots.retain(|slot| rebuilt.contains(&(id, slot.index.get())));
        }
        check_payloads(work, &mut found)?;
        let healthy = found.extents.values().all(|view| view.slots.iter().all(|slot| slot.class == Class::Healthy));
        Ok(whole && healthy)
    }

    fn tell(&self, report: &report::Repaired) -> Result<(), FilesError> {
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

/// Takes out extents that cannot be decoded and belong to another stream than most of the folder: somebody's stray files, not
/// this folder's loss. They are set aside whole.
fn take_foreign(found: &mut Scan) -> Vec<Extra> {
    let Some((main, stream)) = found.main_stream() else { return Vec::new() };
    let own: BTreeSet<ExtentId> = stream.extents.iter().map(|listed| listed.extent).collect();
    let foreign: Vec<ExtentId> = found
        .extents
        .values()
        .filter(|view| {
            let other = view.on_file.as_ref().is_none_or(|on_file| on_file.record.stream != main);
            other && !own.contains(&view.id) && !report::decodable(view)
        })
        .map(|view| view.id)
        .collect();
    let mut extras = Vec::new();
    for id in foreign {
        let Some(view) = found.extents.remove(&id) else { continue };
        // A damaged file whose slot this is lies at the slot's path; a stray lies at its usable path.
        for slot in view.slots.into_iter().filter(|slot| slot.class != Class::Missing) {
            let path = slot.usable.unwrap_or(slot.path);
            let reason = "of a stream that is not this folder's".to_owned();
            extras.push(Extra { path, extent: Some(id), index: Some(slot.index), class: Class::Foreign, reason });
        }
    }
    // A stray of a foreign extent may lie at the name of one of ours: it is moved by its path, wherever that is.
    extras
}

/// Fragments that a repair would rename.
fn misplaced(found: &Scan) -> Vec<PathBuf> {
    let slots = found.extents.values().flat_map(|view| &view.slots);
    slots.filter(|slot| slot.usable.is_some() && slot.class != Class::Healthy).map(|slot| slot.path.clone()).collect()
}
