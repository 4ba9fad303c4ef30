use super::*;
use crate::client::test_world::{Fragment, Travel, World, extent, place, subsets};
use crate::id::RecordHash;
use crate::wire::Refusal;

/// A world in which the fragments `lost` are gone and needed, each on its own node; what they were.
pub(super) fn damaged(code: &str, bytes: usize, lost: &[u16]) -> (World, RepairSpec, BTreeMap<u16, Fragment>) {
    let mut world = World::stored(code, bytes);
    let places = world.located.clone().unwrap();
    let originals = lost.iter().map(|index| (*index, world.node(*index).fragments.remove(index).unwrap())).collect();
    let sources = (0u16..).zip(places.slots).filter(|(index, _)| !lost.contains(index)).collect();
    let spec = RepairSpec {
        extent: extent(),
        hash: places.hash,
        attempt: world.attempt(),
        authority: world.authority(),
        sources,
        targets: lost.iter().map(|index| (*index, place(*index))).collect(),
        chain: false,
    };
    (world, spec, originals)
}

pub(super) fn run(world: &mut World, spec: &RepairSpec) -> RepairOutcome {
    let mut job = RepairJob::new(spec.clone(), 5);
    world.run(&mut job);
    job.outcome().unwrap().clone()
}

pub(super) fn check_published(world: &mut World, originals: &BTreeMap<u16, Fragment>, published: &[u16]) {
    for (index, original) in originals {
        let found = world.nodes.get(&place(*index).disk).and_then(|node| node.fragments.get(index));
        match found {
            Some(found) => assert_eq!((&found.payload, found.root()), (&original.payload, original.root()), "{index}"),
            None => assert!(!published.contains(index), "{index} was said to be published"),
        }
    }
}

pub(super) fn suspected(outcome: &RepairOutcome) -> Vec<u16> {
    outcome.suspects.iter().map(|suspect| suspect.index).collect()
}

#[test]
fn every_decodable_loss_is_rebuilt_with_the_least_reads() {
    for (code, bytes) in [("rs:4+2", 100_001), ("lrc:4,2,2", 70_003), ("replicate:3", 9_000), ("rs:2+1", 0)] {
        let n = World::new(code, 0).code.n() as u16;
        let built = Code::new(&World::new(code, 0).code).unwrap();
        for (at, lost) in subsets(n, built.m()).into_iter().enumerate() {
            let set: ShardSet = lost.iter().copied().map(ShardIndex::new).collect();
            let Ok(plan) = built.plan(&set, &set.complement(built.n())) else { continue };
            let (mut world, spec, originals) = damaged(code, bytes, &lost);
            world.duplicates = at % 2 == 1;
            let outcome = run(&mut world, &spec);
            let (shard, targets) = (world.shard_bytes(), lost.len() as u64);
            let reads = plan.reads().len() as u64 * shard;
            let expected = RepairOutcome {
                published: lost.clone(),
                read_bytes: reads,
                minimum_read_bytes: reads,
                written_bytes: targets * shard,
                rebuilt_bytes: targets * shard,
                ..RepairOutcome::default()
            };
            assert_eq!(outcome, expected, "{code} {lost:?}");
            assert_eq!(world.nodes.values().filter(|node| !node.fragments.is_empty()).count(), built.n());
            check_published(&mut world, &originals, &lost);
        }
    }
}

#[test]
fn many_slices_are_read_once_for_all_losses_together_and_memory_is_bounded() {
    let (mut world, spec, originals) = damaged("lrc:12,2,2", 60 << 20, &[1, 8]);
    let outcome = run(&mut world, &spec);
    let shard = world.shard_bytes();
    assert_eq!((outcome.read_bytes, outcome.minimum_read_bytes), (12 * shard, 12 * shard));
    assert_eq!((outcome.written_bytes, outcome.rebuilt_bytes), (2 * shard, 2 * shard));
    assert!(world.sent_unanswered_max <= (3 * 2) << 20, "{}", world.sent_unanswered_max);
    assert!(world.sent_unanswered_max > 2 << 20, "never more than one slice under way");
    check_published(&mut world, &originals, &[1, 8]);
    // One alone: its group of six.
    let (mut world, spec, _) = damaged("lrc:12,2,2", 60 << 20, &[8]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.read_bytes, outcome.minimum_read_bytes), (6 * shard, 6 * shard));
}

#[test]
fn a_source_corrupt_in_the_middle_is_named_and_replaced_from_there_on() {
    // 5 slices; a block of the fourth.
    let (mut world, spec, originals) = damaged("rs:4+2", 20 << 20, &[1]);
    world.node(3).fragments.get_mut(&3).unwrap().payload[(3 << 20) + 5000] ^= 1;
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![3]));
    let shard = world.shard_bytes();
    assert_eq!(outcome.minimum_read_bytes, 4 * shard);
    // The slices that had come from it before are good and not read again.
    assert!(outcome.read_bytes <= 4 * shard + (3 << 20), "{} over", outcome.read_bytes - 4 * shard);
    assert_eq!(outcome.written_bytes, shard);
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn a_source_that_falls_silent_or_dies_or_lost_its_fragment_is_replaced() {
    for way in 0..4 {
        for from in [0, 1, 4] {
            let (mut world, spec, originals) = damaged("rs:4+2", 20 << 20, &[5]);
            world.twist(2, move |before, _, answer| match way {
                _ if before < from => Travel::Now,
                0 => Travel::Never,
                1 => Travel::Fails(CallError::Lost),
                2 => {
                    *answer = (NodeReply::Refused(Refusal::NotFound), Body::new());
                    Travel::Now
                }
                // Much too late, and then it does no harm.
                _ => Travel::After(6_000),
            });
            let outcome = run(&mut world, &spec);
            assert_eq!(outcome.published, [5], "{way} {from}: {outcome:?}");
            assert_eq!(suspected(&outcome), [2], "{way} {from}");
            check_published(&mut world, &originals, &[5]);
        }
    }
}

#[test]
fn a_slow_source_that_answers_in_time_is_no_suspect() {
    let (mut world, spec, originals) = damaged("rs:4+2", 9 << 20, &[0, 5]);
    (0..6).for_each(|index| world.twist(index, |_, _, _| Travel::After(4_900)));
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![0, 5], vec![]));
    assert_eq!(outcome.read_bytes, outcome.minimum_read_bytes);
    check_published(&mut world, &originals, &[0, 5]);
}

#[test]
fn a_liar_with_right_crcs_is_found_by_its_root_and_left_out() {
    for liars in [vec![2u16], vec![0, 4]] {
        let (mut world, spec, originals) = damaged("rs:4+3", 9 << 20, &[1]);
        for liar in &liars {
            let fragment = world.node(*liar).fragments.get_mut(liar).unwrap();
            fragment.payload[(1 << 20) + 17] ^= 0x40;
            fragment.recompute_crcs();
        }
        let outcome = run(&mut world, &spec);
        assert_eq!(outcome.published, [1], "{outcome:?}");
        assert_eq!(suspected(&outcome), liars);
        assert!(outcome.suspects.iter().all(|suspect| suspect.reason.contains("root")));
        assert!(outcome.read_bytes > outcome.minimum_read_bytes && outcome.written_bytes > outcome.rebuilt_bytes);
        assert_eq!(outcome.rebuilt_bytes, world.shard_bytes());
        check_published(&mut world, &originals, &[1]);
    }
}

#[test]
fn more_liars_than_the_code_bears_publish_nothing() {
    let (mut world, spec, originals) = damaged("rs:2+2", 100_000, &[0]);
    for liar in [1, 2] {
        let fragment = world.node(liar).fragments.get_mut(&liar).unwrap();
        fragment.payload[0] ^= 1;
        fragment.recompute_crcs();
    }
    let outcome = run(&mut world, &spec);
    assert!(outcome.published.is_empty() && outcome.failed.contains_key(&0), "{outcome:?}");
    assert_eq!((outcome.minimum_read_bytes, outcome.rebuilt_bytes), (0, 0));
    check_published(&mut world, &originals, &[]);
    assert_eq!(world.node(0).dropped, 1, "what is staged in vain is dropped");
}

#[test]
fn liars_that_come_one_after_the_other_end_after_the_rounds_allowed() {
    // 1 and 2 are read, then 2 and 3, then 2 and 4. With 5 it would be right, but three times is enough for one job.
    let (mut world, spec, originals) = damaged("rs:2+4", 50_000, &[0]);
    for liar in [1, 3, 4] {
        let fragment = world.node(liar).fragments.get_mut(&liar).unwrap();
        fragment.payload[0] ^= 1;
        fragment.recompute_crcs();
    }
    let outcome = run(&mut world, &spec);
    assert!(outcome.published.is_empty() && outcome.failed.contains_key(&0), "{outcome:?}");
    assert_eq!(suspected(&outcome), [1, 3]);
    check_published(&mut world, &originals, &[]);
}

#[test]
fn a_root_that_stays_wrong_though_all_sources_are_proven_ends_after_another_kernel() {
    let (mut world, spec, originals) = damaged("rs:2+4", 50_000, &[0]);
    world.twist(0, |_, request, answer| {
        if let (NodeRequest::StageSeal { .. }, NodeReply::StageSealed { root }) = (request, &mut answer.0) {
            root[0] ^= 1;
        }
        Travel::Now
    });
    let outcome = run(&mut world, &spec);
    assert!(outcome.published.is_empty() && suspected(&outcome).is_empty(), "{outcome:?}");
    let stages = |request: &&NodeRequest| matches!(request, NodeRequest::StageKeep { .. } | NodeRequest::Stage { .. });
    assert_eq!(world.node(0).requests.iter().filter(stages).count(), 2, "once more by another kernel, then no more");
    check_published(&mut world, &originals, &[]);
}

#[test]
fn one_target_with_a_wrong_root_does_not_keep_the_others() {
    let (mut world, spec, originals) = damaged("rs:4+2", 100_000, &[0, 5]);
    world.twist(0, |_, request, answer| {
        if let (NodeRequest::StageSeal { .. }, NodeReply::StageSealed { root }) = (request, &mut answer.0) {
            root[0] ^= 1;
        }
        Travel::Now
    });
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.failed.len()), (vec![5], 1));
    check_published(&mut world, &originals, &[5]);
}

#[test]
fn a_target_that_fails_at_any_message_is_left_out_and_the_others_go_on() {
    // Open, 5 pieces, seal, publish.
    for nth in 0..8 {
        for travel in [Travel::Fails(CallError::Lost), Travel::Never] {
            let (mut world, spec, originals) = damaged("rs:2+2", 10 << 20, &[1, 2]);
            let travel = travel.clone();
            let mut asked = 0;
            world.twist(1, move |_, request, _| {
                if matches!(request, NodeRequest::Record { .. }) {
                    return Travel::Now;
                }
                asked += 1;
                if asked > nth { travel.clone() } else { Travel::Now }
            });
            let outcome = run(&mut world, &spec);
            assert_eq!(outcome.published, [2], "{nth} {outcome:?}");
            assert!(outcome.failed.contains_key(&1) && outcome.suspects.is_empty());
            assert_eq!(outcome.minimum_read_bytes, 2 * world.shard_bytes());
            assert_eq!(outcome.read_bytes, outcome.minimum_read_bytes, "the plan of both reads the same");
            check_published(&mut world, &originals, &[2]);
        }
    }
    let (mut world, spec, _) = damaged("rs:4+2", 12 << 20, &[1]);
    world.twist(1, |_, request, answer| {
        if matches!(request, NodeRequest::Publish { .. }) {
            *answer = (NodeReply::Refused(Refusal::Fenced("later".into())), Body::new());
        }
        Travel::Now
    });
    let outcome = run(&mut world, &spec);
    assert!(outcome.published.is_empty() && outcome.failed[&1].contains("fenced"), "{outcome:?}");
}

#[test]
fn too_few_sources_fail_with_their_reasons_and_write_nothing() {
    let (mut world, mut spec, _) = damaged("rs:4+2", 100_000, &[0, 1]);
    world.twist(4, |_, _, _| Travel::Fails(CallError::Unreachable));
    let outcome = run(&mut world, &spec);
    assert!(outcome.published.is_empty() && outcome.failed.len() == 2);
    assert!(outcome.failed[&0].contains(&place(4).disk.to_string()), "{outcome:?}");
    assert_eq!(outcome.written_bytes, 0);

    spec.sources.clear();
    let outcome = run(&mut world, &spec);
    assert!(outcome.failed.len() == 2 && outcome.read_bytes == 0, "{outcome:?}");
    spec.targets.clear();
    assert_eq!(run(&mut world, &spec), RepairOutcome::default());
}

#[test]
fn what_a_whole_group_can_rebuild_is_rebuilt_though_the_rest_is_lost() {
    // 0 alone is missing in the first group; 2, 3 and the second local parity are more than the globals left can give.
    let (mut world, spec, originals) = damaged("lrc:4,2,2", 3 << 20, &[0, 2, 3, 5, 6]);
    let outcome = run(&mut world, &spec);
    assert_eq!(outcome.published, [0]);
    assert_eq!(outcome.failed.keys().copied().collect::<Vec<_>>(), [2, 3, 5, 6]);
    assert_eq!((outcome.read_bytes, outcome.minimum_read_bytes), (2 * world.shard_bytes(), 2 * world.shard_bytes()));
    check_published(&mut world, &originals, &[0]);
}

#[test]
fn a_fragment_that_another_disk_still_has_is_copied() {
    let (mut world, mut spec, originals) = damaged("rs:4+2", 5 << 20, &[1]);
    // Disk 0 was the member before; it holds index 1 beside its own.
    world.node(0).fragments.insert(1, originals[&1].clone());
    spec.sources.insert(1, vec![place(0)]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.read_bytes, outcome.minimum_read_bytes), (world.shard_bytes(), world.shard_bytes()));
    check_published(&mut world, &originals, &[1]);

    // The copy lies: found out, and rebuilt from the others.
    let (mut world, mut spec, originals) = damaged("rs:4+2", 5 << 20, &[1]);
    let mut copy = originals[&1].clone();
    copy.payload[77] ^= 1;
    copy.recompute_crcs();
    world.node(0).fragments.insert(1, copy);
    spec.sources.insert(1, vec![place(0)]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![1]));
    check_published(&mut world, &originals, &[1]);

    // The target itself is no source, whatever is said.
    let (mut world, mut spec, originals) = damaged("rs:4+2", 5 << 20, &[1]);
    spec.sources.insert(1, vec![place(1)]);
    let outcome = run(&mut world, &spec);
    assert!(outcome.suspects.is_empty() && outcome.read_bytes == 4 * world.shard_bytes());
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn the_next_disk_of_an_index_is_asked_where_the_first_has_it_not() {
    let (mut world, mut spec, originals) = damaged("rs:4+2", 5 << 20, &[1, 4]);
    let moved = world.node(3).fragments.remove(&3).unwrap();
    world.node(1).fragments.insert(3, moved);
    spec.sources.insert(3, vec![place(3), place(1)]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1, 4], vec![3]));
    assert_eq!(outcome.read_bytes, outcome.minimum_read_bytes);
    check_published(&mut world, &originals, &[1, 4]);
}

#[test]
fn only_the_record_of_the_right_hash_is_followed() {
    let (mut world, mut spec, originals) = damaged("rs:4+2", 100_000, &[0]);
    for index in 1..5 {
        world.twist(index, |_, request, answer| {
            if matches!(request, NodeRequest::Record { .. }) {
                *answer = (NodeReply::Record, Body::from_static(b"something else"));
            }
            Travel::Now
        });
    }
    assert_eq!(run(&mut world, &spec).published, [0]);
    check_published(&mut world, &originals, &[0]);

    spec.hash = RecordHash([1; 32]);
    let outcome = run(&mut world, &spec);
    assert!(outcome.failed[&0].contains("no record") && outcome.read_bytes == 0, "{outcome:?}");
}

#[test]
fn progress_rises_to_the_whole() {
    let (mut world, mut spec, _) = damaged("rs:4+2", 9 << 20, &[0, 5]);
    spec.targets.insert(99, place(2));
    let mut job = RepairJob::new(spec, 5);
    assert_eq!(job.progress(), (0, 0));
    world.run(&mut job);
    assert_eq!(job.outcome().unwrap().failed[&99], "no such fragment");
    assert_eq!(job.written_bytes(), 2 * world.shard_bytes());
    assert_eq!(job.read_bytes(), 4 * world.shard_bytes());
}
