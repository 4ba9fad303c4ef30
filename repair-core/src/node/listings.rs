//! Listings of folders while their pages are asked for. One listing and one sync serve all pages of a count.

use super::PeerId;
use crate::id::PgId;
use crate::time::{Millis, Time};
use crate::wire::node::FragmentKey;
use std::collections::BTreeMap;

/// Files in one page.
pub(super) const PAGE_MAX: usize = 500;
/// A listing is kept for so long; whoever takes longer to ask for its pages has it made again.
const KEPT: Millis = Millis(30_000);
/// Names in all listings that are kept but the newest, of 32 bytes each.
const NAMES_MAX: usize = 500_000;

/// Names in order, in as little memory as they take: a listing is of all that a group has here.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<FragmentKey>);

impl FromIterator<FragmentKey> for Names {
    fn from_iter<T: IntoIterator<Item = FragmentKey>>(names: T) -> Self {
        let mut names: Vec<FragmentKey> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FragmentKey> {
        self.0.iter()
    }

    pub(super) fn remove(&mut self, fragment: &FragmentKey) {
        if let Ok(at) = self.0.binary_search(fragment) {
            self.0.remove(at);
        }
    }

    /// Those after one of them that fit a page.
    pub(super) fn page(&self, after: Option<FragmentKey>) -> Page {
        let begin = after.map_or(0, |after| self.0.partition_point(|name| *name <= after));
        let rest = &self.0[begin..];
        (rest[..rest.len().min(PAGE_MAX)].to_vec(), rest.len() > PAGE_MAX)
    }
}

/// Fragments by name, all of them durable when they were listed.
#[derive(Debug)]
struct Listing {
    names: Names,
    made: Time,
}

/// The listings kept, one for each asker and group.
#[derive(Debug, Default)]
pub(super) struct Listings(BTreeMap<(PeerId, PgId), Listing>);

/// A page, and whether more follow.
pub(super) type Page = (Vec<FragmentKey>, bool);

impl Listings {
    /// Keeps a listing for the pages that follow. Where that is too much, the oldest others go: they are made again when asked for.
    pub(super) fn keep(&mut self, peer: PeerId, pg: PgId, names: Names, now: Time) {
        let newest = (peer, pg);
        self.0.insert(newest, Listing { names, made: now });
        while self.0.values().map(|listing| listing.names.0.len()).sum::<usize>() > NAMES_MAX {
            let others = self.0.iter().filter(|(key, _)| **key != newest);
            let oldest = others.min_by_key(|(_, listing)| listing.made).map(|(key, _)| *key);
            if oldest.is_none_or(|oldest| self.0.remove(&oldest).is_none()) {
                break;
            }
        }
    }

    /// The page after this name, of the listing whose first page this asker has. With its last page the listing goes.
    pub(super) fn next_page(&mut self, peer: PeerId, pg: PgId, after: FragmentKey) -> Option<Page> {
        let listing = self.0.get(&(peer, pg))?;
        let page = listing.names.page(Some(after));
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
