//! Transfers among nodes that do anything: whatever they say, what is called right is right.

use super::test_world::{Fragment, Travel, World, extent, place};
use super::{GetConfig, GetExtent, PutExtent};
use crate::node::Body;
use crate::repair::{RepairJob, RepairSpec};
use crate::rng::Dice;
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::{BirthIdentity, BlockSeed, ExtentRecord, Hash};
use std::collections::BTreeMap;

const CODES: [&str; 4] = ["rs:4+2", "lrc:4,2,2", "replicate:3", "rs:2+3"];

const SEEDS: u64 = 200;

/// Makes a node answer as the dice say: mostly right.
fn unleash(world: &mut World, index: u16, mut dice: Dice, honest_of_16: u64) {
    let identity = world.node(index).fragments.get(&index).map(|fragment| fragment.identity);
    world.twist(index, move |_, request, answer| {
        if dice.below(16) < honest_of_16 {
            return if dice.chance(1, 4) { Travel::After(dice.below(3_000)) } else { Travel::Now };
        }
        match dice.below(9) {
            0 => return Travel::Never,
            1 => return Travel::After(dice.below(9_000)),
            2 => return Travel::Fails(CallError::Lost),
            3 => answer.0 = NodeReply::Refused(Refusal::NotFound),
            4 => answer.0 = NodeReply::Refused(Refusal::Unavailable("no".into())),
            5 => answer.0 = NodeReply::StageSealed { root: [dice.bits() as u8; 32] },
            6 => answer.0 = NodeReply::Data { crcs: vec![7; dice.below(3) as usize] },
            7 => answer.1 = answer.1.slice(..answer.1.len() / 2),
            _ => corrupt(&mut dice, identity.as_ref(), request, answer),
        }
        Travel::Now
    });
}

/// Flips a bit of the body; half of the time with a table that fits.
fn corrupt(dice: &mut Dice, identity: Option<&BirthIdentity>, request: &NodeRequest, answer: &mut (NodeReply, Body)) {
    let mut bytes = answer.1.to_vec();
    let at = dice.below(bytes.len() as u64) as usize;
    let Some(byte) = bytes.get_mut(at) else { return };
    *byte ^= 1 << dice.below(8);
    if let (NodeRequest::Read { offset, .. }, NodeReply::Data { crcs }, Some(identity), true) =
        (request, &mut answer.0, identity, dice.chance(1, 2))
    {
        let seed: BlockSeed = identity.seed();
        let first = (*offset / 4096) as u32;
        *crcs = (first..).zip(bytes.chunks(4096)).map(|(at, block)| seed.crc(at, block)).collect();
    }
    answer.1 = bytes.into();
}

/// Mostly one slice, now and then several.
fn length(dice: &mut Dice) -> usize {
    let most = if dice.chance(1, 5) { 3 << 20 } else { 150_000 };
    dice.below(most) as usize
}

fn unleash_all(world: &mut World, dice: &mut Dice) {
    for index in 0..world.code.n() as u16 {
        let honest = [16, 15, 14, 8][dice.below(4) as usize];
        unleash(world, index, dice.child("node", u64::from(index)), honest);
    }
    world.duplicates = dice.chance(1, 2);
}

#[test]
fn a_get_that_ends_well_gave_the_right_bytes() {
    let mut well = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let code = CODES[dice.below(4) as usize];
        let mut world = World::stored(code, length(&mut dice));
        unleash_all(&mut world, &mut dice);
        let mut get = GetExtent::new(extent(), 0..world.source.len() as u64, true, GetConfig::default());
        world.run(&mut get);
        if get.outcome() == Some(Ok(())) {
            well += 1;
            assert_eq!(world.delivered, world.source, "seed {seed}");
            assert!(world.deliveries.iter().all(|count| *count == 1), "seed {seed}");
        }
    }
    assert!(well > SEEDS / 2, "only {well} of {SEEDS} ended well: the nodes are too wild to prove anything");
}

#[test]
fn a_repair_publishes_the_very_fragments_that_were_lost() {
    let mut published = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let code = CODES[dice.below(4) as usize];
        let mut world = World::stored(code, length(&mut dice));
        let n = world.code.n() as u64;
        let lost = [dice.below(n) as u16, dice.below(n) as u16];
        let originals: BTreeMap<u16, Fragment> =
            lost.iter().filter_map(|index| Some((*index, world.node(*index).fragments.remove(index)?))).collect();
        let places = world.located.clone().unwrap();
        let spec = RepairSpec {
            extent: extent(),
            hash: places.hash,
            attempt: world.attempt(),
            authority: world.authority(),
            sources: (0u16..).zip(places.slots).filter(|(index, _)| !originals.contains_key(index)).collect(),
            targets: originals.keys().map(|index| (*index, place(*index))).collect(),
            chain: seed % 2 == 1,
        };
        unleash_all(&mut world, &mut dice);
        let mut job = RepairJob::new(spec, seed);
        world.run(&mut job);
        let outcome = job.outcome().unwrap();
        assert_eq!(outcome.published.len() + outcome.failed.len(), originals.len(), "seed {seed}: {outcome:?}");
        for (index, original) in &originals {
            let found = world.node(*index).fragments.get(index).map(|fragment| fragment.payload == original.payload);
            assert_ne!(found, Some(false), "seed {seed}: {index} is wrong");
            published += u64::from(found == Some(true));
        }
    }
    assert!(published > SEEDS / 2, "only {published} fragments were rebuilt");
}

#[test]
fn a_put_that_ends_well_staged_what_its_record_says() {
    let mut well = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let code = CODES[dice.below(4) as usize];
        let mut world = World::new(code, length(&mut dice));
        for index in 0..world.code.n() as u16 {
            let honest = if dice.chance(1, 8) { 13 } else { 16 };
            unleash(&mut world, index, dice.child("node", u64::from(index)), honest);
        }
        let mut put = PutExtent::new(world.put_spec(), seed).unwrap();
        world.run(&mut put);
        let Some(Ok(record)) = put.outcome() else { continue };
        well += 1;
        let record = ExtentRecord::parse(&record).unwrap();
        assert_eq!(record.extent_hash, Hash::of(&world.source), "seed {seed}");
        for entry in &record.fragments {
            let index = entry.identity.index.get();
            let key = world.stage_key(index);
            let payload = world.node(index).sealed(&key).unwrap();
            assert_eq!(entry.root, entry.identity.root(&Hash::of(payload)), "seed {seed} {index}");
        }
    }
    assert!(well > SEEDS / 3 && well < SEEDS, "{well} of {SEEDS} ended well");
}
