//! How near an extent is to loss, by what its code really decodes.

use ec_core::code::{DESCRIPTOR_BYTES, Guarantee};
use ec_core::{Code, CodeSpec, ShardIndex, ShardSet};
use std::collections::{BTreeMap, HashMap};

/// How many further losses of shards the code surely survives when those in `lost` are gone already: every choice of so many
/// more can be decoded, some choice of one more cannot. None where it cannot be decoded now.
///
/// Exact for every code of ec-core. A maximally recoverable LRC decodes a pattern exactly when the losses beyond one per local
/// group, and those outside of groups, are at most as many as the parities beyond one a group (Gopalan et al. 2014).
pub fn margin(code: &Code, lost: &ShardSet) -> Option<usize> {
    let gone = lost.iter().filter(|index| index.at() < code.n()).count();
    match code.guarantee() {
        Guarantee::Mds => code.m().checked_sub(gone),
        Guarantee::MaximallyRecoverable => grouped_margin(code, lost, gone),
        Guarantee::Ranked => ranked_margin(code, lost),
    }
}

/// By trying every choice of further losses. Only codes of few shards have no rule.
fn ranked_margin(code: &Code, lost: &ShardSet) -> Option<usize> {
    let living: Vec<ShardIndex> = lost.complement(code.n()).iter().collect();
    (0..=living.len()).take_while(|&more| every_choice_survives(code, lost, &living, more)).last()
}

fn every_choice_survives(code: &Code, lost: &ShardSet, living: &[ShardIndex], more: usize) -> bool {
    if more == 0 {
        return code.decodable(lost);
    }
    (0..living.len()).all(|at| {
        let mut lost = *lost;
        lost.insert(living[at]);
        every_choice_survives(code, &lost, &living[at + 1..], more - 1)
    })
}

fn grouped_margin(code: &Code, lost: &ShardSet, gone: usize) -> Option<usize> {
    // Parities beyond one a group; most codes have them outside of the groups, uniform ones inside.
    let spare = code.m() - code.groups().len();
    // (lost, left) of each group.
    let groups: Vec<(usize, usize)> = code
        .groups()
        .iter()
        .map(|group| {
            let dead = group.members().iter().filter(|index| lost.contains(*index)).count();
            (dead, group.len() - dead)
        })
        .collect();
    let grouped: usize = groups.iter().map(|(dead, _)| dead).sum();
    let outside = code.n() - code.groups().iter().map(|group| group.len()).sum::<usize>();
    let lost_outside = gone - grouped;
    let excess = lost_outside + groups.iter().map(|(dead, _)| dead.saturating_sub(1)).sum::<usize>();
    let spare = spare.checked_sub(excess)?;
    // The worst further losses each cost one: shards outside of groups, and members of groups that have lost one before. A whole group's first
    // loss is free, so the worst case opens one only when those run out, the largest first.
    let mut costly =
        outside - lost_outside + groups.iter().filter(|group| group.0 > 0).map(|group| group.1).sum::<usize>();
    let mut whole: Vec<usize> = groups.iter().filter(|group| group.0 == 0).map(|group| group.1).collect();
    whole.sort_unstable();
    let mut free = 0;
    while costly <= spare {
        // Nothing is left to lose: everything survives.
        let Some(members) = whole.pop() else { return Some(code.n() - gone) };
        free += 1;
        costly += members.saturating_sub(1);
    }
    Some(spare + free)
}

/// Margins by code and loss, computed once. Losses repeat: all extents of a placement group have the same disks.
#[derive(Debug, Default)]
pub struct RiskTable {
    codes: BTreeMap<[u8; DESCRIPTOR_BYTES], Option<Code>>,
    // Looked up, never walked over: its order decides nothing.
    margins: HashMap<([u8; DESCRIPTOR_BYTES], ShardSet), Option<usize>>,
}

const MARGINS_MAX: usize = 1 << 16;

impl RiskTable {
    /// The code of a descriptor; none where this version does not know it.
    pub fn code(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES]) -> Option<&Code> {
        self.codes
            .entry(*descriptor)
            .or_insert_with(|| CodeSpec::from_descriptor(descriptor).ok().and_then(|spec| Code::new(&spec).ok()))
            .as_ref()
    }

    /// [`margin`] of the code of this descriptor.
    pub fn margin(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES], lost: &ShardSet) -> Option<usize> {
        if let Some(known) = self.margins.get(&(*descriptor, *lost)) {
            return *known;
        }
        let margin = self.code(descriptor).and_then(|code| margin(code, lost));
        if self.margins.len() >= MARGINS_MAX {
            self.margins.clear();
        }
        self.margins.insert((*descriptor, *lost), margin);
        margin
    }
}

/// A set of shards from indexes.
pub fn shard_set(indexes: impl IntoIterator<Item = u16>) -> ShardSet {
    indexes.into_iter().map(ShardIndex::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of(bits: u32) -> ShardSet {
        shard_set((0..32).filter(|index| bits >> index & 1 == 1))
    }

    /// By definition, from what the matrix decodes: the fewest further losses that cannot be decoded, less one.
    fn brute_margins(code: &Code) -> Vec<Option<usize>> {
        let n = code.n();
        let decodable: Vec<bool> = (0..1u32 << n).map(|bits| code.decodable(&set_of(bits))).collect();
        // From the larger sets down: a set's margin is one more than the least among its supersets with one more loss.
        let mut margins = vec![None; 1 << n];
        for bits in (0..1u32 << n).rev() {
            if !decodable[bits as usize] {
                continue;
            }
            let next = (0..n).filter(|at| bits >> at & 1 == 0).map(|at| margins[(bits | 1 << at) as usize]);
            margins[bits as usize] =
                Some(next.map(|margin: Option<usize>| margin.map_or(0, |m| m + 1)).min().unwrap_or(0));
        }
        margins
    }

    #[test]
    fn margins_are_those_of_brute_force_for_every_loss() {
        for spec in [
            "replicate:3",
            "rs:4+2",
            "rs:6+3",
            "rs:1+1",
            "lrc:4,2,2",
            "lrc:6,2,2",
            "lrc:6,3,2",
            "lrc:4,4,2",
            "lrc:12,2,2",
            "lrc:6,2,1",
            "lrc:9,2,3",
            "lrc:6,2,4",
            "lrc-uniform:6,2,2",
            "lrc-uniform:7,3,1",
            "xorbas",
        ] {
            let code = Code::new(&spec.parse().unwrap()).unwrap();
            for (bits, expected) in brute_margins(&code).into_iter().enumerate() {
                let lost = set_of(bits as u32);
                assert_eq!(margin(&code, &lost), expected, "{spec}, lost {bits:b}");
            }
        }
    }

    #[test]
    fn a_table_answers_as_the_function_and_knows_no_unknown_code() {
        let mut table = RiskTable::default();
        let spec: CodeSpec = "lrc:12,2,2".parse().unwrap();
        let code = Code::new(&spec).unwrap();
        for lost in [vec![], vec![0], vec![0, 1, 2, 3], vec![0, 1, 2, 3, 4], vec![14, 15]] {
            let lost = shard_set(lost);
            for _ in 0..2 {
                assert_eq!(table.margin(&spec.to_descriptor(), &lost), margin(&code, &lost));
            }
        }
        assert_eq!(table.margin(&[0xff; DESCRIPTOR_BYTES], &ShardSet::EMPTY), None);
    }
}
