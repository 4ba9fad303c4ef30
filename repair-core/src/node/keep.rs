//! Kept stages: what a repair has staged outlives its connection and this process, until it is published, dropped, or not used for a
//! while. So a repair that was cut off goes on where it was.
//!
//! One is found by the fragment it is to be, never by who began it: rebuilt bytes are the same whoever rebuilds them, and the root is
//! compared before anything gets a name. So whoever comes later takes it over, and the one before finds nothing staged. What is kept and
//! nobody has open makes room for what is on its way in: it only saves work.

use super::stage::StageWork;
use super::{Node, Pending, StoreCall};
use crate::id::ExtentKey;
use crate::time::{Millis, Time};
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, NodeReply, StageKey};
use ec_core::fragment::Header;
use std::collections::BTreeMap;

/// One that is open and not used is given up after no less: a repair that is alive asks something of each target more often, however
/// short it is kept for.
const OPEN_FOR_MIN: Millis = Millis(600_000);

/// In whose hands a kept stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody has it open.
    Idle,
    /// This stage is it, or is about to be.
    By(StageKey),
    /// The store removes it.
    Going,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hold: Hold,
    /// It ends then, unless it is used.
    until: Time,
    /// What its file takes; 0 for one of an earlier life until it was opened.
    bytes: u64,
    /// Whether it was there before its holder asked for it.
    is_found: bool,
}

/// All kept stages.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<FragmentKey, Entry>);

/// What a stage with this header is kept as.
pub(super) fn kept_as(header: &Header) -> Option<FragmentKey> {
    let identity = &header.identity;
    let extent = ExtentKey::from_id(identity.extent)?;
    Some(FragmentKey { extent, generation: identity.generation, index: identity.index.get() })
}

impl Kept {
    pub(super) fn hold(&self, fragment: &FragmentKey) -> Option<Hold> {
        self.0.get(fragment).map(|kept| kept.hold)
    }

    pub(super) fn is_idle(&self, fragment: &FragmentKey) -> bool {
        self.hold(fragment) == Some(Hold::Idle)
    }

    /// How many there are that no stage stands for.
    pub(super) fn idle(&self) -> usize {
        self.0.values().filter(|kept| !matches!(kept.hold, Hold::By(_))).count()
    }

    fn bytes(&self, hold: Hold) -> u64 {
        self.0.values().filter(|kept| kept.hold == hold).map(|kept| kept.bytes).sum()
    }

    /// Room of those that make way.
    pub(super) fn idle_bytes(&self) -> u64 {
        self.bytes(Hold::Idle)
    }

    /// Room that is about to be free.
    pub(super) fn going_bytes(&self) -> u64 {
        self.bytes(Hold::Going)
    }

    fn used(&mut self, fragment: FragmentKey, until: Time) {
        self.0.entry(fragment).and_modify(|kept| kept.until = until);
    }

    fn until(&self) -> Option<Time> {
        self.0.values().filter(|kept| kept.hold != Hold::Going).map(|kept| kept.until).min()
    }
}

impl super::stage::Stages {
    /// When the next one ends.
    pub(super) fn kept_until(&self) -> Option<Time> {
        self.kept.until()
    }

    pub(super) fn kept_now(&self) -> impl Iterator<Item = (FragmentKey, bool)> + '_ {
        self.kept.0.iter().map(|(fragment, kept)| (*fragment, kept.hold != Hold::Idle))
    }
}

impl Node {
    /// An earlier life left it. More than may be on their way in are not kept.
    pub(super) fn found_kept(&mut self, fragment: FragmentKey) {
        if self.host.is_none() {
            let is_kept = self.stages.kept.0.len() < self.config.stages_max;
            let until = if is_kept { self.now + self.config.staged_for } else { self.now };
            self.stages.kept.0.insert(fragment, Entry { hold: Hold::Idle, until, bytes: 0, is_found: true });
        }
    }

    /// Somebody opens it, with room for so many bytes.
    pub(super) fn take_kept(&mut self, fragment: FragmentKey, key: StageKey, bytes: u64) {
        let is_found = self.stages.kept.is_idle(&fragment);
        let entry = Entry { hold: Hold::By(key), until: self.open_until(), bytes, is_found };
        self.stages.kept.0.insert(fragment, entry);
    }

    /// Its holder asked something of it.
    pub(super) fn use_kept(&mut self, fragment: FragmentKey) {
        let until = self.open_until();
        self.stages.kept.used(fragment, until);
    }

    fn open_until(&self) -> Time {
        self.now + Millis(self.config.staged_for.0.max(OPEN_FOR_MIN.0))
    }

    /// Nobody has it open any more, and it is still there.
    pub(super) fn left_kept(&mut self, fragment: FragmentKey) {
        let until = self.now + self.config.staged_for;
        if let Some(kept) = self.stages.kept.0.get_mut(&fragment) {
            (kept.hold, kept.until) = (Hold::Idle, until);
        }
        self.run_waiting(fragment);
    }

    /// The store could not open it. Where there was one before, and it was not the room that lacked, that may still be there.
    pub(super) fn kept_unopened(&mut self, fragment: FragmentKey, no_space: bool) {
        let is_found = self.stages.kept.0.get(&fragment).is_some_and(|kept| kept.is_found);
        if is_found && !no_space { self.left_kept(fragment) } else { self.forget_kept(fragment) }
    }

    /// There is no such kept stage any more.
    pub(super) fn forget_kept(&mut self, fragment: FragmentKey) {
        self.stages.kept.0.remove(&fragment);
        self.run_waiting(fragment);
    }

    /// The store has removed one, or could not: then the next start finds it again.
    pub(super) fn dropped_kept(&mut self, fragment: FragmentKey, is_gone: bool) {
        if let Some(kept) = self.stages.kept.0.remove(&fragment).filter(|_| is_gone) {
            self.stages.freed(kept.bytes);
        }
        self.run_waiting(fragment);
    }

    /// What waits for this one, or for the room of any.
    fn run_waiting(&mut self, fragment: FragmentKey) {
        let kept = &self.stages.kept;
        let is_free = |keeps: FragmentKey| kept.hold(&keeps).is_none_or(|hold| hold == Hold::Idle);
        for key in self.stages.next_opens(|keeps| keeps == Some(fragment) || keeps.is_none_or(is_free)) {
            self.run_stage(key);
        }
    }

    /// The stage that has a kept one lets go of it, for somebody later; what was still asked of it is in vain.
    pub(super) fn take_over(&mut self, holder: Option<StageKey>) {
        let Some(key) = holder else { return };
        for work in self.stages.clear_for_another(&key) {
            let refused = || NodeReply::Refused(Refusal::NotStaged("somebody later goes on with this stage".into()));
            let reply = if matches!(work, StageWork::Drop { .. }) { NodeReply::StageDropped } else { refused() };
            work.asker().into_iter().for_each(|asker| self.reply(asker, reply.clone()));
        }
        self.run_stage(key);
    }

    /// What was not used for a while goes.
    pub(super) fn expire_kept(&mut self) {
        let now = self.now;
        let over = self.stages.kept.0.iter().filter(|(_, kept)| kept.until <= now && kept.hold != Hold::Going);
        for (fragment, hold) in over.map(|(fragment, kept)| (*fragment, kept.hold)).collect::<Vec<_>>() {
            match hold {
                Hold::By(key) => {
                    self.use_kept(fragment);
                    // What the store is long about, or waits for it, is in use.
                    if self.stages.is_at_rest(&key) {
                        // Where a mutation has taken it, this waits for the end of that and finds nothing to drop.
                        self.drop_stage(key);
                    }
                }
                Hold::Idle | Hold::Going => self.drop_kept(fragment),
            }
        }
    }

    /// The one that would end first goes for what is on its way in.
    pub(super) fn give_way(&mut self) {
        let idle = self.stages.kept.0.iter().filter(|(_, kept)| kept.hold == Hold::Idle);
        if let Some(fragment) = idle.min_by_key(|(_, kept)| kept.until).map(|(fragment, _)| *fragment) {
            self.drop_kept(fragment);
        }
    }

    /// So many bytes lack: true where kept stages that nobody has open go for them, and the room has to be waited for. Where it would
    /// not do, none goes.
    pub(super) fn makes_way_for(&mut self, bytes: u64) -> bool {
        if !self.stages.has_room(bytes, self.config.headroom_bytes) {
            return false;
        }
        while self.stages.kept.idle_bytes() > 0
            && !self.stages.has_room(bytes.saturating_add(self.stages.kept.idle_bytes()), self.config.headroom_bytes)
        {
            self.give_way();
        }
        self.stages.kept.going_bytes() > 0
    }

    fn drop_kept(&mut self, fragment: FragmentKey) {
        self.stages.kept.0.entry(fragment).and_modify(|kept| kept.hold = Hold::Going);
        self.store(Pending::DropKept(fragment), StoreCall::DropKept { fragment });
    }
}
