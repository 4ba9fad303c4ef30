//! Listings of folders while their pages are asked for. One listing and one sync serve all pages of a count.

use super::PeerId;
use crate::id::PgId;
use crate::time::{Millis, Time};
use crate::wire::node::FragmentKey;
use std::collections::{BTreeMap, BTreeSet};

/// Files in one page.
pub(super) const PAGE_MAX: usize = 500;
/// A listing is kept for so long; whoever takes longer to ask for its pages has it made again.
const KEPT: Millis = Millis(30_000);
/// Names in all listings that are kept, of about 40 bytes each.
const NAMES_MAX: usize = 2_000_000;

/// Fragments by name, all of them durable when they were listed.
#[derive(Debug)]
struct Listing {
    names: BTreeSet<FragmentKey>,
    made: Time,
}

/// The listings kept, one for each asker and group.
#[derive(Debug, Default)]
pub(super) struct Listings(BTreeMap<(PeerId, PgId), Listing>);

/// A page, and whether more follow.
pub(super) type Page = (Vec<FragmentKey>, bool);

/// The names after one of them that fit a page.
pub(super) fn page(names: &BTreeSet<FragmentKey>, after: Option<FragmentKey>) -> Page {
    use std::ops::Bound::{Excluded, Unbounded};
    let mut rest = names.range((after.map_or(Unbounded, Excluded), Unbounded));
    let page = rest.by_ref().take(PAGE_MAX).copied().collect();
    (page, rest.next().is_some())
}

impl Listings {
    /// Keeps a listing for the pages that follow. Where that is too much, the oldest go: they are made again when asked for.
    pub(super) fn keep(&mut self, peer: PeerId, pg: PgId, names: BTreeSet<FragmentKey>, now: Time) {
        self.0.insert((peer, pg), Listing { names, made: now });
        while self.0.values().map(|listing| listing.names.len()).sum::<usize>() > NAMES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, listing)| listing.made).map(|(key, _)| *key);
            if oldest.is_none_or(|oldest| self.0.remove(&oldest).is_none()) {
                break;
            }
        }
    }

    /// The page after this name, of the listing whose first page this asker has. With its last page the listing goes.
    pub(super) fn next_page(&mut self, peer: PeerId, pg: PgId, after: FragmentKey) -> Option<Page> {
        let listing = self.0.get(&(peer, pg))?;
        let page = page(&listing.names, Some(after));
        if !page.1 {
            self.forget(peer, pg);
        }
        Some(page)
    }

    pub(super) fn forget(&mut self, peer: PeerId, pg: PgId) {
        self.0.remove(&(peer, pg));
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.0.retain(|(of, _), _| *of != peer);
    }

    /// A file leaves its folder: it must not be counted on a page to come.
    pub(super) fn forget_name(&mut self, fragment: FragmentKey) {
        let of_pg = self.0.iter_mut().filter(|((_, pg), _)| *pg == fragment.extent.pg());
        of_pg.for_each(|(_, listing)| {
            listing.names.remove(&fragment);
        });
    }

    /// Lets go of what nobody came for.
    pub(super) fn expire(&mut self, now: Time) {
        self.0.retain(|_, listing| listing.made + KEPT > now);
    }
}
