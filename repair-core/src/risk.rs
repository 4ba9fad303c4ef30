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

/// Choices of domains that are tried before the answer is what follows from [`margin`] alone.
const CHOICES_MAX: usize = 20_000;

/// [`margin`] in whole fault domains: how many further losses of a domain, with all it has of the extent, are survived whichever they are.
/// `domains` has the domain of each shard, by index. Never more than [`margin`], and the same where no domain has two.
///
/// Exact, but where more than twenty thousand choices would have to be tried: a lower bound then.
pub fn margin_in_domains(code: &Code, lost: &ShardSet, domains: &[u16]) -> Option<usize> {
    let shards = margin(code, lost)?;
    let mut living: BTreeMap<u16, ShardSet> = BTreeMap::new();
    for (index, domain) in (0u16..).zip(domains).take(code.n()) {
        let index = ShardIndex::new(index);
        if !lost.contains(index) {
            living.entry(*domain).or_insert(ShardSet::EMPTY).insert(index);
        }
    }
    let mut living: Vec<ShardSet> = living.into_values().collect();
    living.sort_by_key(|shards| std::cmp::Reverse(shards.len()));
    // Whatever is lost, it is no more than the fullest domains hold.
    let fits = |held: &usize| *held <= shards;
    let held = living.iter().scan(0, |sum, domain| {
        *sum += domain.len();
        Some(*sum)
    });
    let least = held.take_while(fits).count();
    if matches!(code.guarantee(), Guarantee::Mds) {
        return Some(least);
    }
    let mut tries = CHOICES_MAX;
    // The losses that more than `shards` of them can be lie in at most one domain each.
    let survives = |more: &usize| survives_domains(code, lost, &living, *more, &mut tries) == Some(true);
    Some((least + 1..=shards).take_while(survives).last().unwrap_or(least))
}

/// Whether every choice of so many domains can be lost besides; none where that would take too many tries.
fn survives_domains(code: &Code, lost: &ShardSet, living: &[ShardSet], more: usize, tries: &mut usize) -> Option<bool> {
    if more == 0 {
        *tries = tries.checked_sub(1)?;
        return Some(code.decodable(lost));
    }
    for (at, domain) in living.iter().enumerate() {
        let lost: ShardSet = lost.iter().chain(domain.iter()).collect();
        if !survives_domains(code, &lost, &living[at + 1..], more - 1, tries)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Margins by code and loss, computed once. Losses repeat: all extents of a placement group have the same disks.
#[derive(Debug, Default)]
pub struct RiskTable {
    codes: BTreeMap<[u8; DESCRIPTOR_BYTES], Option<Code>>,
    // Looked up, never walked over: its order decides nothing.
    margins: HashMap<([u8; DESCRIPTOR_BYTES], ShardSet), Option<usize>>,
    in_domains: HashMap<([u8; DESCRIPTOR_BYTES], ShardSet, Vec<u16>), Option<usize>>,
    reads: HashMap<([u8; DESCRIPTOR_BYTES], ShardSet, ShardSet), ShardSet>,
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

    /// [`margin_in_domains`] of the code of this descriptor.
    pub fn margin_in_domains(
        &mut self,
        descriptor: &[u8; DESCRIPTOR_BYTES],
        lost: &ShardSet,
        domains: &[u16],
    ) -> Option<usize> {
        let key = (*descriptor, *lost, domains.to_vec());
        if let Some(known) = self.in_domains.get(&key) {
            return *known;
        }
        let margin = self.code(descriptor).and_then(|code| margin_in_domains(code, lost, domains));
        if self.in_domains.len() >= MARGINS_MAX {
            self.in_domains.clear();
        }
        self.in_domains.insert(key, margin);
        margin
    }

    /// What a repair of `targets` reads where the shards in `lost` are gone; nothing where it cannot be.
    pub fn reads(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES], targets: &ShardSet, lost: &ShardSet) -> ShardSet {
        let key = (*descriptor, *targets, *lost);
        if let Some(known) = self.reads.get(&key) {
            return *known;
        }
        let reads =
            self.code(descriptor).and_then(|code| crate::repair::reads_of(code, targets, &lost.complement(code.n())));
        let reads = reads.unwrap_or(ShardSet::EMPTY);
        if self.reads.len() >= MARGINS_MAX {
            self.reads.clear();
        }
        self.reads.insert(key, reads);
        reads
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

    /// By definition: the fewest domains without which it cannot be decoded, less one.
    fn brute_in_domains(code: &Code, lost: &ShardSet, domains: &[u16]) -> Option<usize> {
        let numbers: std::collections::BTreeSet<u16> = domains.iter().copied().collect();
        let without = |bits: u32| -> ShardSet {
            let gone =
                |domain: &u16| numbers.iter().position(|number| number == domain).is_some_and(|at| bits >> at & 1 == 1);
            let shards =
                (0u16..).zip(domains).filter(|(index, domain)| gone(domain) || lost.contains(ShardIndex::new(*index)));
            shard_set(shards.map(|(index, _)| index))
        };
        let fatal = (0..1u32 << numbers.len()).filter(|bits| !code.decodable(&without(*bits)));
        // Domains with nothing left to lose count only beside others: the fewest are wanted.
        (fatal.map(u32::count_ones).min().unwrap_or(0) as usize).checked_sub(1)
    }

    #[test]
    fn margins_in_domains_are_those_of_brute_force() {
        let mut dice = crate::rng::Dice::new(7);
        for spec in ["replicate:3", "rs:4+2", "rs:6+3", "lrc:6,2,2", "lrc:12,2,2", "lrc-uniform:6,2,2", "xorbas"] {
            let code = Code::new(&spec.parse().unwrap()).unwrap();
            for round in 0..60u64 {
                let racks = 2 + dice.below(7);
                let domains: Vec<u16> = (0..code.n()).map(|_| dice.below(racks) as u16).collect();
                let lost = shard_set((0..code.n() as u16).filter(|_| round > 0 && dice.chance(1, 6)));
                let expected = brute_in_domains(&code, &lost, &domains);
                assert_eq!(margin_in_domains(&code, &lost, &domains), expected, "{spec}, lost {lost:?}, {domains:?}");
            }
            let apart: Vec<u16> = (0..code.n() as u16).collect();
            assert_eq!(margin_in_domains(&code, &ShardSet::EMPTY, &apart), margin(&code, &ShardSet::EMPTY));
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
