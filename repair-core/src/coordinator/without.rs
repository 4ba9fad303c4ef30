//! What a placement group survives if some disks are gone, too: asked before any is stopped, or set aside.

use super::Coordinator;
use super::view::has;
use crate::id::{DiskId, ExtentKey, PgId};
use crate::risk::{margin, shard_set};
use std::collections::BTreeSet;

/// A group without some disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Without {
    /// Indexes that those disks hold.
    pub(super) indexes: Vec<u16>,
    /// Further losses that every extent surely survives then; none where some cannot be decoded, or there are no extents.
    pub(super) least: Option<usize>,
    /// Extents that could not be decoded, all of them or the first ones.
    pub(super) undecodable: Vec<ExtentKey>,
    /// How many.
    pub(super) undecodable_count: usize,
    /// Why nothing can be said of the group, where that is so.
    pub(super) unknown: Option<String>,
}

/// Extents named of one group; all are counted.
const NAMED_MAX: usize = 16;

impl Coordinator {
    /// The group without those disks; none where it has none of them.
    pub(super) fn without(&self, pg: PgId, disks: &BTreeSet<DiskId>) -> Option<Without> {
        let group = self.groups.get(&pg)?;
        let Some(row) = group.owner.row() else {
            // Nobody knows whose it is.
            let unknown = Some("it is not claimed yet".to_owned());
            return Some(Without { unknown, ..Without::default() });
        };
        let of_row = row.members.iter().chain(row.joining.values());
        if !of_row.clone().any(|disk| disks.contains(disk)) {
            return None;
        }
        let indexes: BTreeSet<u16> =
            of_row.filter(|disk| disks.contains(disk)).filter_map(|disk| row.index_held_or_joined(*disk)).collect();
        let mut without = Without { indexes: indexes.into_iter().collect(), ..Without::default() };
        let code = row.code_spec().ok().and_then(|spec| ec_core::Code::new(&spec).ok());
        let (Some(code), true) = (code, group.owner.is_ready()) else {
            without.unknown = Some("its list is not proven yet".to_owned());
            return Some(without);
        };
        let slots = group.owner.slots();
        let mut lacking: BTreeSet<ExtentKey> =
            slots.iter().filter_map(|slot| slot.missing.as_ref()).flatten().copied().collect();
        // Parity that was found wrong is given to nobody who reads.
        lacking.extend(self.audits.parked().keys().filter(|extent| extent.pg() == pg));
        lacking.retain(|extent| group.owner.listed(*extent).is_some());
        let wrong = |extent: Option<ExtentKey>, index: u16| {
            extent.is_some_and(|extent| self.audits.is_wrong_parity(extent, usize::from(index)))
        };
        let margin_of = |extent: Option<ExtentKey>| {
            let stays = slots
                .iter()
                .filter(|slot| has(slot, extent) && !disks.contains(&slot.disk) && !wrong(extent, slot.index));
            margin(&code, &shard_set(stays.map(|slot| slot.index)).complement(row.members.len()))
        };
        let list = group.owner.list();
        let mut margins = Vec::new();
        if list.len() > lacking.len() {
            let usual = margin_of(None);
            margins.push(usual);
            if usual.is_none() {
                without.undecodable_count += list.len() - lacking.len();
                let others = list.keys().filter(|extent| !lacking.contains(extent));
                without.undecodable.extend(others.take(NAMED_MAX));
            }
        }
        for extent in &lacking {
            let margin = margin_of(Some(*extent));
            margins.push(margin);
            if margin.is_none() {
                without.undecodable_count += 1;
                without.undecodable.extend(Some(*extent).filter(|_| without.undecodable.len() < NAMED_MAX));
            }
        }
        without.least = margins.into_iter().min().flatten();
        Some(without)
    }
}
