//! The simulation as a whole: it finds nothing in the code that ships, the same every time, and it finds what is wrong on purpose.

use simulator::exact::{Mutation, Options, run, run_rolled_back};

/// Seeds that a planted mistake must be found in.
const SEEDS_TO_FIND_A_MISTAKE: u64 = 12;

#[test]
fn seeds_hold_with_enough_work_and_enough_faults() {
    let (mut chained, mut unchained, mut audited) = ((0, 0), 0, (0, 0));
    for seed in 0..SEEDS_TO_FIND_A_MISTAKE {
        let run = run(seed, Options::default());
        assert_eq!(run.violation, None, "seed {seed}: {:#?}", run.last_lines);
        assert!(run.operations >= 100 && run.faults >= 20, "seed {seed}: {run:?}");
        assert!(run.in_vain * 2 < run.operations, "seed {seed}: {} of {} in vain", run.in_vain, run.operations);
        chained = (chained.0 + run.chained.0, chained.1 + run.chained.1);
        unchained += u64::from(run.chained == (0, 0));
        audited = (audited.0 + run.audited.0, audited.1 + run.audited.1);
    }
    assert!(chained.0 > 0 && chained.1 > 0, "no repair had a chain, or none lost it: {chained:?}");
    assert!(unchained > 0, "no seed repairs without chains");
    assert!(audited.0 > 100 && audited.1 > 0, "too few audits that read everything, or met faults: {audited:?}");
}

#[test]
fn some_repair_goes_on_with_what_another_one_had_staged() {
    // About one seed in sixteen: it takes a crash in the middle of a repair.
    assert!((0..100).any(|seed| run(seed, Options::default()).resumed_bytes > 0));
}

#[test]
fn a_seed_is_always_the_same_run() {
    let hash = |seed| run(seed, Options::default()).trace_hash;
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

#[test]
fn every_planted_mistake_is_found() {
    for mutation in Mutation::ALL {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let found = (0..SEEDS_TO_FIND_A_MISTAKE).find_map(|seed| run(seed, options).violation);
        assert!(found.is_some(), "{mutation:?} was not found in {SEEDS_TO_FIND_A_MISTAKE} seeds");
    }
}

#[test]
fn a_catalog_put_back_changes_nothing_and_the_newest_one_goes_on() {
    for seed in 0..SEEDS_TO_FIND_A_MISTAKE {
        assert_eq!(run_rolled_back(seed), Ok(()), "seed {seed}");
    }
}
