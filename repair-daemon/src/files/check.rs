//! Reads every payload and settles the state of every fragment: a scrub.

use super::fragment_file::FragmentFile;
use super::scan::{ExtentView, Extra, Scan, Slot};
use super::{FilesError, Work};
use ec_core::ShardSet;
use ec_core::fragment::Class;
use rayon::prelude::*;

/// Reads the payload of every fragment that looked usable; those that are not what they promise lose that and are classed. A
/// further copy that proves good takes their place as a source.
///
/// # Errors
/// [`FilesError`] where it is not a fragment's fault.
pub fn check_payloads(work: &Work, scan: &mut Scan) -> Result<(), FilesError> {
    let mut slots: Vec<&mut Slot> =
        scan.extents.values_mut().flat_map(|view| &mut view.slots).filter(|slot| slot.usable.is_some()).collect();
    work.install(|| slots.par_iter_mut().try_for_each(|slot| check_slot(work, slot)))?;
    for extra in std::mem::take(&mut scan.extras) {
        if !stands_in(work, scan, &extra)? {
            scan.extras.push(extra);
        }
    }
    Ok(())
}

/// Makes a further copy the source of its place, if that has none and the copy is good.
fn stands_in(work: &Work, scan: &mut Scan, extra: &Extra) -> Result<bool, FilesError> {
    let (Class::Surplus, Some(extent), Some(index)) = (extra.class, extra.extent, extra.index) else {
        return Ok(false);
    };
    let slot = scan.extents.get_mut(&extent).and_then(|view| view.slots.get_mut(index.at()));
    let Some(slot) = slot.filter(|slot| slot.usable.is_none()) else { return Ok(false) };
    let good = match FragmentFile::open(&extra.path)? {
        Ok(fragment) => fragment.check_payload(work)?.is_ok(),
        Err(_) => false,
    };
    if good {
        slot.usable = Some(extra.path.clone());
    }
    Ok(good)
}

fn check_slot(work: &Work, slot: &mut Slot) -> Result<(), FilesError> {
    let Some(path) = slot.usable.clone() else { return Ok(()) };
    let found = match FragmentFile::open(&path)? {
        Ok(fragment) => fragment.check_payload(work)?,
        Err(finding) => Err(finding),
    };
    if let Err((class, reason)) = found {
        slot.usable = None;
        (slot.class, slot.reason, slot.path) = (class, reason, path);
    }
    Ok(())
}

impl ExtentView {
    /// Fragments that can be used, wherever they lie.
    pub fn usable(&self) -> ShardSet {
        self.slots.iter().filter(|slot| slot.usable.is_some()).map(|slot| slot.index).collect()
    }

    /// Fragments that cannot be used.
    pub fn lost(&self) -> ShardSet {
        self.usable().complement(self.slots.len())
    }

    /// Whether every fragment is healthy and at its place.
    pub fn is_whole(&self) -> bool {
        !self.slots.is_empty() && self.slots.iter().all(|slot| slot.class == Class::Healthy)
    }
}

impl Scan {
    /// Payload bytes a check will read.
    pub fn payload_bytes(&self) -> u64 {
        let of_view = |view: &ExtentView| {
            let payload = |slot: &Slot| {
                let record = &view.on_file.as_ref()?.record;
                slot.usable.as_ref()?;
                Some(record.fragments.get(slot.index.at())?.identity.payload_bytes)
            };
            view.slots.iter().filter_map(payload).sum::<u64>()
        };
        self.extents.values().map(of_view).sum()
    }

    /// Whether everything found is in order.
    pub fn is_whole(&self) -> bool {
        !self.extents.is_empty()
            && self.extras.is_empty()
            && self.streams.values().all(|stream| stream.fault.is_none() && stream.dissent.is_none())
            && self.extents.values().all(ExtentView::is_whole)
    }
}
