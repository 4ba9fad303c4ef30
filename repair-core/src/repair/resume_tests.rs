use super::tests::{check_published, damaged, run, suspected};
use super::*;
use crate::client::test_world::{Fragment, Travel, World};
use crate::id::AttemptId;
use crate::limits::KEPT_RANGES_MAX;
use crate::wire::Refusal;

/// The connection to a target is lost for good, after so many pieces went over it.
fn cut_off(world: &mut World, index: u16, pieces: usize) {
    let mut sent = 0;
    world.twist(index, move |_, request, _| {
        sent += usize::from(matches!(request, NodeRequest::StageData { .. }));
        if sent > pieces { Travel::Fails(CallError::Lost) } else { Travel::Now }
    });
}

/// A repair of these fragments that was cut off after so many pieces of each, and the next one's spec.
fn cut(code: &str, bytes: usize, lost: &[(u16, usize)]) -> (World, RepairSpec, BTreeMap<u16, Fragment>) {
    let indexes: Vec<u16> = lost.iter().map(|(index, _)| *index).collect();
    let (mut world, mut spec, originals) = damaged(code, bytes, &indexes);
    lost.iter().for_each(|(index, pieces)| cut_off(&mut world, *index, *pieces));
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.len(), outcome.resumed_bytes), (0, 0), "{outcome:?}");
    for index in indexes {
        world.node(index).twist = None;
        assert_eq!(world.node(index).dropped, 0, "what came stays");
    }
    spec.attempt = AttemptId { number: spec.attempt.number + 1, ..spec.attempt };
    (world, spec, originals)
}

fn opened(world: &mut World, index: u16) -> Vec<&'static str> {
    let name = |request: &NodeRequest| match request {
        NodeRequest::Stage { .. } => Some("plain"),
        NodeRequest::StageKeep { .. } => Some("kept"),
        _ => None,
    };
    world.node(index).requests.iter().filter_map(name).collect()
}

#[test]
fn a_repair_that_was_cut_off_is_gone_on_with_and_reads_and_sends_only_the_rest() {
    for (code, pieces) in [("rs:4+2", 1), ("rs:4+2", 2), ("lrc:4,2,2", 2), ("replicate:3", 3)] {
        let (mut world, spec, originals) = cut(code, 17 << 20, &[(1, pieces)]);
        let (shard, staged) = (world.shard_bytes(), world.node(1).staged_blocks(1) as u64 * 4096);
        assert!(staged >= (pieces as u64 * 64) << 10 && staged < shard, "{staged} of {shard}");
        let outcome = run(&mut world, &spec);
        assert_eq!((outcome.published.clone(), outcome.resumed_bytes), (vec![1], staged), "{outcome:?}");
        let reads = outcome.minimum_read_bytes / shard;
        assert_eq!((outcome.read_bytes, outcome.written_bytes), (reads * (shard - staged), shard - staged));
        check_published(&mut world, &originals, &[1]);
    }
}

#[test]
fn what_only_one_of_two_targets_has_is_read_for_the_other_and_sent_to_nobody_twice() {
    // A piece that comes twice would stop the test world.
    let (mut world, spec, originals) = cut("rs:4+2", 30 << 20, &[(0, 2), (5, 5)]);
    let (shard, staged) =
        (world.shard_bytes(), [0, 5].map(|index| world.node(index).staged_blocks(index) as u64 * 4096));
    assert!(staged[0] < staged[1], "{staged:?}");
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.resumed_bytes), (vec![0, 5], staged[0] + staged[1]), "{outcome:?}");
    assert_eq!(outcome.written_bytes, 2 * shard - staged[0] - staged[1]);
    assert_eq!(outcome.read_bytes, 4 * (shard - staged[0]));
    check_published(&mut world, &originals, &[0, 5]);
}

#[test]
fn ranges_that_begin_and_end_anywhere_are_gone_round() {
    let (mut world, spec, originals) = damaged("rs:4+2", 13 << 20, &[2]);
    // Blocks 3, 7 to 250 and the last, whatever the slices are.
    let payload = originals[&2].payload.clone();
    let last = payload.len() / 4096 - 1;
    let had: Vec<usize> = [3].into_iter().chain(7..251).chain([last]).collect();
    world.node(2).stage(spec.attempt, &originals[&2], &had);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.resumed_bytes), (vec![2], had.len() as u64 * 4096), "{outcome:?}");
    assert_eq!(outcome.read_bytes, 4 * (world.shard_bytes() - outcome.resumed_bytes));
    check_published(&mut world, &originals, &[2]);
    // All of it is there: nothing is read at all, not even where no source is left but one for the record.
    let (mut world, mut spec, originals) = damaged("rs:4+2", 13 << 20, &[2]);
    world.node(2).stage(spec.attempt, &originals[&2], &(0..=last).collect::<Vec<_>>());
    spec.sources.retain(|index, _| *index == 0);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.read_bytes, outcome.written_bytes), (vec![2], 0, 0), "{outcome:?}");
    check_published(&mut world, &originals, &[2]);
}

#[test]
fn wrong_bytes_among_those_kept_are_found_by_the_root_and_given_up_once_and_for_all() {
    let (mut world, spec, originals) = cut("rs:4+2", 17 << 20, &[(1, 2)]);
    world.node(1).rot_staged(1, 5000);
    let (shard, staged) = (world.shard_bytes(), world.node(1).staged_blocks(1) as u64 * 4096);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![]), "{outcome:?}");
    assert_eq!(outcome.read_bytes, 4 * (shard - staged) + 4 * shard, "no source is judged for it");
    assert_eq!(opened(&mut world, 1), ["kept", "kept", "plain"]);
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn a_job_that_may_not_begin_anew_leaves_wrong_bytes_to_nobody() {
    let (mut world, spec, originals) = cut("rs:4+2", 17 << 20, &[(1, 2)]);
    world.node(1).rot_staged(1, 5000);
    let mut job = RepairJob::with_config(spec, 5, RepairConfig { rounds_max: 1, ..RepairConfig::default() });
    world.run(&mut job);
    let outcome = job.outcome().unwrap().clone();
    assert!(outcome.published.is_empty() && outcome.failed.contains_key(&1), "{outcome:?}");
    assert_eq!((world.node(1).dropped, world.node(1).staged_blocks(1)), (1, 0));
    check_published(&mut world, &originals, &[]);
}

#[test]
fn what_was_kept_and_cannot_be_sealed_is_dropped_and_the_next_repair_begins_anew() {
    for (error, dropped) in [(CallError::Timeout, 1), (CallError::Nonsense, 1), (CallError::Lost, 0)] {
        let (mut world, mut spec, originals) = cut("rs:4+2", 17 << 20, &[(1, 2)]);
        world.twist(1, move |_, request, _| match request {
            NodeRequest::StageSeal { .. } => Travel::Fails(error),
            _ => Travel::Now,
        });
        let outcome = run(&mut world, &spec);
        assert!(outcome.published.is_empty() && outcome.resumed_bytes > 0, "{outcome:?}");
        world.node(1).twist = None;
        // A connection that is lost says nothing about the disk.
        assert_eq!((world.node(1).dropped, world.node(1).staged_blocks(1) == 0), (dropped, dropped > 0), "{error}");
        spec.attempt = AttemptId { number: spec.attempt.number + 1, ..spec.attempt };
        let outcome = run(&mut world, &spec);
        assert_eq!((outcome.published.clone(), outcome.resumed_bytes == 0), (vec![1], dropped > 0), "{outcome:?}");
        check_published(&mut world, &originals, &[1]);
    }
}

#[test]
fn a_seal_may_take_longer_the_more_there_is_to_read_back() {
    let (_, spec, _) = damaged("rs:4+2", 3 << 20, &[1]);
    let config = RepairConfig::default();
    let mut job = RepairJob::with_config(spec, 5, config);
    let target = job.targets.get_mut(&1).unwrap();
    assert_eq!(target.seal_deadline(&config), config.call_deadline, "nothing is read back");
    target.written = vec![(0, 4_000_000), (8_000_000, 404_000_000)];
    assert_eq!(target.seal_deadline(&config), Millis(config.publish_deadline.0 + 100_000));
}

#[test]
fn a_source_that_lies_beside_wrong_bytes_that_were_kept_is_found_too() {
    let (mut world, spec, originals) = cut("rs:4+2", 17 << 20, &[(1, 2)]);
    world.node(1).rot_staged(1, 5000);
    let liar = world.node(3).fragments.get_mut(&3).unwrap();
    let at = liar.payload.len() - 9;
    liar.payload[at] ^= 1;
    liar.recompute_crcs();
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![3]), "{outcome:?}");
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn a_chain_goes_on_too_and_only_over_what_is_missing() {
    let (mut world, mut spec, originals) = cut("rs:4+2", 17 << 20, &[(1, 2)]);
    let (shard, staged) = (world.shard_bytes(), world.node(1).staged_blocks(1) as u64 * 4096);
    spec.chain = true;
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.chain_fault.clone()), (vec![1], None), "{outcome:?}");
    assert_eq!((outcome.chained_bytes, outcome.read_bytes), (shard - staged, 4 * (shard - staged)));
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn a_node_that_knows_no_kept_stages_gets_a_plain_one() {
    let (mut world, spec, originals) = damaged("rs:4+2", 3 << 20, &[1]);
    world.twist(1, |_, request, answer| {
        if matches!(request, NodeRequest::StageKeep { .. }) {
            *answer = (NodeReply::Refused(Refusal::Invalid("an unknown message".into())), Body::new());
        }
        Travel::Now
    });
    assert_eq!(run(&mut world, &spec).published, [1]);
    assert_eq!(opened(&mut world, 1), ["kept", "plain"]);
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn ranges_that_are_none_end_the_target_and_nothing_else() {
    let nonsense: [&[(u64, u64)]; 6] = [
        &[(0, 0)],
        &[(4096, 0)],
        &[(0, 5000)],
        &[(0, 1 << 40)],
        &[(8192, 12_288), (0, 4096)],
        &[(0, 8192), (4096, 12_288)],
    ];
    let many: Vec<(u64, u64)> = (0..=KEPT_RANGES_MAX as u64).map(|at| (at * 8192, at * 8192 + 4096)).collect();
    for ranges in nonsense.into_iter().chain([&many[..]]) {
        let (mut world, spec, originals) = damaged("rs:2+2", 24 << 20, &[1, 2]);
        let written = ranges.to_vec();
        world.twist(1, move |_, request, answer| {
            if matches!(request, NodeRequest::StageKeep { .. }) {
                *answer = (NodeReply::StageKept { written: written.clone() }, Body::new());
            }
            Travel::Now
        });
        let outcome = run(&mut world, &spec);
        assert_eq!(outcome.published, [2], "{ranges:?} {outcome:?}");
        assert_eq!(outcome.failed[&1], CallError::Nonsense.to_string(), "{ranges:?}");
        check_published(&mut world, &originals, &[2]);
    }
}

#[test]
fn sources_that_go_away_in_the_middle_leave_what_came_and_without_a_piece_nothing_is_left() {
    for (reads, left) in [(0, false), (4, true)] {
        let (mut world, mut spec, originals) = damaged("rs:4+2", 17 << 20, &[0, 1]);
        for index in 2..6 {
            let mut asked = 0;
            world.twist(index, move |_, request, _| {
                asked += usize::from(matches!(request, NodeRequest::Read { .. }));
                if asked > reads { Travel::Fails(CallError::Unreachable) } else { Travel::Now }
            });
        }
        let outcome = run(&mut world, &spec);
        assert!(outcome.published.is_empty() && outcome.failed.len() == 2, "{outcome:?}");
        assert_eq!((world.node(0).dropped, world.node(1).staged_blocks(1) > 0), (usize::from(!left), left));
        (2..6).for_each(|index| world.node(index).twist = None);
        spec.attempt = AttemptId { number: 900, ..spec.attempt };
        let outcome = run(&mut world, &spec);
        assert_eq!((outcome.published.clone(), outcome.resumed_bytes > 0), (vec![0, 1], left), "{outcome:?}");
        check_published(&mut world, &originals, &[0, 1]);
    }
}
