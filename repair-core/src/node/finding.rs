//! What a finding means at its place: bytes alone do not say whether a file was ever promised to anybody. And how many such findings a disk
//! is forgiven.

use super::journal::Change;
use super::{Node, NodeEffect, Notice, Pending};
use crate::wire::node::FragmentKey;
use ec_core::fragment::Class;

/// A fragment that was synced and acknowledged, and is not whole, was never on the disk: it said so and lied. Once may be an accident
/// of whoever copied files about; twice, and nothing new is entrusted to it.
const TORN_MAX: u32 = 2;

impl Node {
    /// The class of a file by what the list says of its extent (`reliability.md` section 4.6), where the bytes cannot tell.
    pub(super) fn class_here(&self, fragment: &FragmentKey, class: String) -> String {
        let is = |other: Class| class == other.as_str();
        let here = if is(Class::TornCommitted) || is(Class::TornUncommitted) {
            if self.owes(fragment) { Class::TornCommitted } else { Class::TornUncommitted }
        } else if self.is_listed(fragment) && (is(Class::Healthy) || is(Class::Conflict)) {
            let ledger = self.groups.get(&fragment.extent.pg()).map(|group| &group.ledger);
            match ledger {
                Some(ledger) if ledger.names(fragment) => return class,
                Some(ledger) if !ledger.may_judge(fragment.generation) => Class::OrphanNewer,
                _ => Class::Stale,
            }
        } else {
            return class;
        };
        here.as_str().into()
    }

    fn is_listed(&self, fragment: &FragmentKey) -> bool {
        let group = self.groups.get(&fragment.extent.pg());
        group.is_some_and(|group| group.ledger.list().contains_key(&fragment.extent))
    }

    /// Takes a finding down, where the fragment is one that we owe.
    pub(super) fn found(&mut self, fragment: FragmentKey, class: &str) {
        if class == Class::Healthy.as_str() {
            return self.mark_sound(fragment);
        }
        let missing = class == Class::Missing.as_str();
        let counts = if missing { self.must_hold(&fragment) } else { self.owes(&fragment) };
        let Some(group) = self.groups.get_mut(&fragment.extent.pg()).filter(|_| counts) else { return };
        // What was torn stays that until it is sound: a device that reads it now and then does not lie once more each time.
        let is_news = |known: &String| known != class && known != Class::TornCommitted.as_str();
        let known = group.ledger.damaged.get(&fragment);
        let was_missing = known.is_none_or(|known| known == Class::Missing.as_str());
        if known.is_none_or(is_news) {
            group.apply_lazily(Change::Damaged(fragment, class.into()));
            group.note_due = true;
            self.report(fragment, class.into());
            if was_missing && !missing {
                self.damaged();
            }
            if class == Class::TornCommitted.as_str() {
                self.disk_lied(fragment);
            }
            self.run_group(fragment.extent.pg());
        }
    }

    fn mark_sound(&mut self, fragment: FragmentKey) {
        let pg = fragment.extent.pg();
        let Some(group) = self.groups.get_mut(&pg) else { return };
        if group.ledger.damaged.contains_key(&fragment) {
            group.apply_lazily(Change::Sound(fragment));
            group.note_due = true;
            // The daemon counts it as lost: with as many others as its code survives, it could not be rebuilt, and nobody would look again.
            self.report(fragment, Class::Healthy.as_str().into());
            self.run_group(pg);
        }
    }

    /// The file was written anew and is proven: earlier findings, and those under way, are about another file.
    pub(super) fn found_sound(&mut self, fragment: FragmentKey) {
        for pending in self.pending.values_mut() {
            if let Pending::Check(checking) = pending
                && checking.fragment == fragment
            {
                checking.void = true;
            }
        }
        let Some(group) = self.groups.get_mut(&fragment.extent.pg()) else { return };
        if group.ledger.damaged.contains_key(&fragment) {
            group.apply_lazily(Change::Sound(fragment));
            group.note_due = true;
        }
    }

    /// A fragment that the list names was found torn.
    fn disk_lied(&mut self, fragment: FragmentKey) {
        let Some(group) = self.groups.get_mut(&fragment.extent.pg()) else { return };
        let times = group.ledger.torn.saturating_add(1);
        group.apply_lazily(Change::Torn(times));
        let total = self.torn();
        self.effects.push_back(NodeEffect::Say(Notice::Torn { fragment, total }));
        if let Some(reason) = self.distrusted().filter(|_| total == u64::from(TORN_MAX)) {
            self.effects.push_back(NodeEffect::Say(Notice::Distrusted { reason }));
            self.link.beat_soon(self.now);
        }
    }

    /// Fragments that the disk said were durable and were not, since it was new or somebody vouched for it. A journal that is not what was
    /// written is one.
    fn torn(&self) -> u64 {
        self.groups.values().map(|group| u64::from(group.ledger.torn)).sum()
    }

    /// Why nothing new is stored here, where that is so. What the disk owes it may take back: each other member holds only its own.
    pub(super) fn distrusted(&self) -> Option<String> {
        let torn = self.torn();
        (torn >= u64::from(TORN_MAX)).then(|| {
            format!("{torn} times this disk did not have whole what it had acknowledged: it takes nothing new")
        })
    }

    /// Who starts a node on a disk that takes nothing new should hear it again.
    pub(super) fn say_distrust(&mut self) {
        if let Some(reason) = self.distrusted() {
            self.effects.push_back(NodeEffect::Say(Notice::Distrusted { reason }));
        }
    }

    /// Somebody vouches for the disk: what it did before is forgiven.
    pub(super) fn trust_disk(&mut self) {
        for group in self.groups.values_mut().filter(|group| group.ledger.torn > 0) {
            group.apply_lazily(Change::Torn(0));
            group.note_due = true;
        }
    }
}
