//! Kept stages: what a repair has staged outlives its connection and this process, until it is published, dropped, or not used for a
//! while. So a repair that was cut off goes on where it was.
//!
//! One is found by the fragment it is to be, never by who began it: rebuilt bytes are the same whoever rebuilds them, and the root is
//! compared before anything gets a name. So whoever comes later takes it over, and the one before finds nothing staged. What is kept and
//! nobody has open makes room for what is on its way in: it only saves work.

use super::stage::StageWork;
use super::{Node, Pending, StoreCall};
use crate::id::ExtentKey;
use crate::time::Time;
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, NodeReply, StageKey};
use ec_core::fragment::Header;
use std::collections::BTreeMap;

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

/// All kept stages, with the moment each ends unless it is used.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<FragmentKey, (Hold, Time)>);

/// What a stage with this header is kept as.
pub(super) fn kept_as(header: &Header) -> Option<FragmentKey> {
    let identity = &header.identity;
    let extent = ExtentKey::from_id(identity.extent)?;
    Some(FragmentKey { extent, generation: identity.generation, index: identity.index.get() })
}

impl Kept {
    pub(super) fn hold(&self, fragment: &FragmentKey) -> Option<Hold> {
        self.0.get(fragment).map(|(hold, _)| *hold)
    }

    pub(super) fn is_idle(&self, fragment: &FragmentKey) -> bool {
        self.hold(fragment) == Some(Hold::Idle)
    }

    /// How many there are that no stage stands for.
    pub(super) fn idle(&self) -> usize {
        self.0.values().filter(|(hold, _)| !matches!(hold, Hold::By(_))).count()
    }

    pub(super) fn take(&mut self, fragment: FragmentKey, key: StageKey, until: Time) {
        self.0.insert(fragment, (Hold::By(key), until));
    }

    pub(super) fn used(&mut self, fragment: FragmentKey, until: Time) {
        self.0.entry(fragment).and_modify(|kept| kept.1 = until);
    }

    fn until(&self) -> Option<Time> {
        self.0.values().filter(|(hold, _)| *hold != Hold::Going).map(|(_, until)| *until).min()
    }
}

impl super::stage::Stages {
    /// When the next one ends.
    pub(super) fn kept_until(&self) -> Option<Time> {
        self.kept.until()
    }

    pub(super) fn kept_now(&self) -> impl Iterator<Item = (FragmentKey, bool)> + '_ {
        self.kept.0.iter().map(|(fragment, (hold, _))| (*fragment, *hold != Hold::Idle))
    }
}

impl Node {
    /// An earlier life left it. More than may be on their way in are not kept.
    pub(super) fn found_kept(&mut self, fragment: FragmentKey) {
        if self.host.is_none() {
            let is_kept = self.stages.kept.0.len() < self.config.stages_max;
            let until = if is_kept { self.now + self.config.staged_for } else { self.now };
            self.stages.kept.0.insert(fragment, (Hold::Idle, until));
        }
    }

    /// Nobody has it open any more, and it is still there.
    pub(super) fn left_kept(&mut self, fragment: FragmentKey) {
        self.stages.kept.0.insert(fragment, (Hold::Idle, self.now + self.config.staged_for));
        self.run_waiting(fragment);
    }

    /// There is no such kept stage any more.
    pub(super) fn forget_kept(&mut self, fragment: FragmentKey) {
        self.stages.kept.0.remove(&fragment);
        self.run_waiting(fragment);
    }

    fn run_waiting(&mut self, fragment: FragmentKey) {
        for key in self.stages.next_is(|keeps| keeps == Some(fragment)) {
            self.run_stage(key);
        }
    }

    /// The stage that has a kept one lets go of it, for somebody later; what was still asked of it is in vain.
    pub(super) fn take_over(&mut self, holder: Option<StageKey>) {
        let Some(key) = holder else { return };
        for asker in self.stages.clear_for(&key, StageWork::Leave).iter().filter_map(StageWork::asker) {
            self.reply(asker, NodeReply::Refused(Refusal::NotStaged("somebody later goes on with this stage".into())));
        }
        self.run_stage(key);
    }

    /// What was not used for a while goes.
    pub(super) fn expire_kept(&mut self) {
        let now = self.now;
        let over = self.stages.kept.0.iter().filter(|(_, (hold, until))| *until <= now && *hold != Hold::Going);
        for (fragment, hold) in over.map(|(fragment, (hold, _))| (*fragment, *hold)).collect::<Vec<_>>() {
            match hold {
                Hold::By(key) => {
                    // Where a mutation has taken it, this waits for the end of that and finds nothing to drop.
                    self.stages.kept.used(fragment, now + self.config.staged_for);
                    self.drop_stage(key);
                }
                Hold::Idle | Hold::Going => self.drop_kept(fragment),
            }
        }
    }

    /// The one that would end first goes for what is on its way in: not in time for the one that asks now.
    pub(super) fn give_way(&mut self) {
        let idle = self.stages.kept.0.iter().filter(|(_, (hold, _))| *hold == Hold::Idle);
        if let Some(fragment) = idle.min_by_key(|(_, (_, until))| *until).map(|(fragment, _)| *fragment) {
            self.drop_kept(fragment);
        }
    }

    fn drop_kept(&mut self, fragment: FragmentKey) {
        self.stages.kept.0.entry(fragment).and_modify(|kept| kept.0 = Hold::Going);
        self.store(Pending::DropKept(fragment), StoreCall::DropKept { fragment });
    }
}
