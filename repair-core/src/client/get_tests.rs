use super::*;
use crate::client::test_world::{Travel, World, extent, place, subsets};
use crate::wire::NodeRequest;
use ec_core::fragment::Hash;

fn get_range(world: &mut World, range: Range<u64>, whole: bool) -> (GetExtent, Result<(), GetFailure>) {
    world.delivered.fill(0);
    world.deliveries.fill(0);
    let mut get = GetExtent::new(extent(), range, whole, GetConfig::default());
    world.run(&mut get);
    let outcome = get.outcome().unwrap();
    (get, outcome)
}

fn get_whole(world: &mut World) -> (GetExtent, Result<(), GetFailure>) {
    let bytes = world.source.len() as u64;
    get_range(world, 0..bytes, true)
}

/// Every byte of the range came once and is right, and no other came.
fn check_delivered(world: &World, range: Range<u64>) {
    let range = range.start as usize..range.end as usize;
    assert_eq!(world.delivered[range.clone()], world.source[range.clone()]);
    for (at, count) in world.deliveries.iter().enumerate() {
        assert_eq!(*count, u8::from(range.contains(&at)), "byte {at} of {range:?}");
    }
}

fn check_whole(world: &mut World) -> GetExtent {
    let (get, outcome) = get_whole(world);
    assert_eq!(outcome, Ok(()));
    check_delivered(world, 0..world.source.len() as u64);
    get
}

#[test]
fn a_healthy_extent_is_read_from_its_data_fragments_alone() {
    for code in ["replicate:3", "rs:2+1", "rs:4+2", "lrc:12,2,2"] {
        for bytes in [0, 1, 4096, 50_001, (5 << 20) + 3] {
            let mut world = World::stored(code, bytes);
            let get = check_whole(&mut world);
            let blocks = (bytes as u64).div_ceil(4096) * 4096;
            // Padding shards are not read; a shard's last block is read whole.
            assert_eq!(get.read_bytes(), blocks, "{code} {bytes}");
            assert!(world.suspects.is_empty());
            assert_eq!(world.locates, 1);
        }
    }
}

#[test]
fn any_range_reads_only_the_blocks_it_touches() {
    let mut world = World::stored("rs:4+2", (9 << 20) + 1234);
    let total = world.source.len() as u64;
    let shard = world.shard_bytes();
    let mut ranges = vec![0..1, 4095..4097, shard - 1..shard + 1, 0..total, total - 1..total, 77..77, total..total];
    let mut dice = crate::rng::Dice::new(4);
    ranges.extend((0..20).map(|_| {
        let start = dice.below(total);
        start..start + dice.below(total - start + 1)
    }));
    for range in ranges {
        let (get, outcome) = get_range(&mut world, range.clone(), false);
        assert_eq!(outcome, Ok(()), "{range:?}");
        check_delivered(&world, range.clone());
        assert!(get.read_bytes() <= range.end - range.start + 8 * 4096, "{range:?}");
    }
    let (_, outcome) = get_range(&mut world, 0..total + 1, false);
    assert!(matches!(outcome, Err(GetFailure::Wrong(_))));
    let (_, outcome) = get_range(&mut world, 0..total - 1, true);
    assert!(matches!(outcome, Err(GetFailure::Wrong(_))));
}

/// Makes a fragment unreadable, in one of the ways there are.
fn erase(world: &mut World, index: u16, way: usize) {
    match way % 4 {
        0 => drop(world.node(index).fragments.remove(&index)),
        1 => world.twist(index, |_, _, _| Travel::Fails(CallError::Unreachable)),
        2 => world.twist(index, |_, _, _| Travel::Never),
        _ => drop(world.nodes.remove(&place(index).disk)),
    }
}

#[test]
fn every_decodable_erasure_is_read_right() {
    for (code, bytes) in [("rs:4+2", 100_001), ("lrc:4,2,2", 70_003), ("replicate:3", 9_000)] {
        let n = World::new(code, 0).code.n() as u16;
        let built = Code::new(&World::new(code, 0).code).unwrap();
        for (at, lost) in subsets(n, built.m()).into_iter().enumerate() {
            let set: ShardSet = lost.iter().copied().map(ShardIndex::new).collect();
            if !built.decodable(&set) {
                continue;
            }
            let mut world = World::stored(code, bytes);
            world.duplicates = at % 3 == 0;
            for (nth, index) in lost.iter().enumerate() {
                erase(&mut world, *index, at + nth);
            }
            let get = check_whole(&mut world);
            assert!(get.read_bytes() <= 2 * built.k() as u64 * world.shard_bytes(), "{code} {lost:?}");
            let range = 12_345.min(bytes as u64 / 2)..bytes as u64 / 2 + 1;
            let (_, outcome) = get_range(&mut world, range.clone(), false);
            assert_eq!(outcome, Ok(()), "{code} {lost:?}");
            check_delivered(&world, range);
        }
    }
}

#[test]
fn a_degraded_get_reads_as_few_bytes_as_a_healthy_one_and_a_range_only_its_group() {
    let mut world = World::stored("lrc:12,2,2", 20 << 20);
    let shard = world.shard_bytes();
    world.twist(3, |_, _, _| Travel::Fails(CallError::Unreachable));
    // Eleven data shards but for the padding of the last, and the local parity.
    assert_eq!(check_whole(&mut world).read_bytes(), 20 << 20);
    let (get, outcome) = get_range(&mut world, 3 * shard + 10_000..3 * shard + 10_001, false);
    assert_eq!(outcome, Ok(()));
    assert_eq!(get.read_bytes(), 6 * 4096);
}

#[test]
fn a_corrupt_block_is_never_delivered_and_its_fragment_is_reported_once() {
    let mut world = World::stored("rs:2+1", 6 << 20);
    // In the second of three slices.
    world.node(1).fragments.get_mut(&1).unwrap().payload[(1 << 20) + 70_000] ^= 1;
    check_whole(&mut world);
    let reported: Vec<_> = world.suspects.iter().map(|(disk, index, _)| (*disk, *index)).collect();
    assert_eq!(reported, [(place(1).disk, 1)]);
    // A table that does not fit the payload is the same.
    let mut world = World::stored("rs:2+1", 5000);
    world.node(0).fragments.get_mut(&0).unwrap().crcs[0] ^= 1;
    check_whole(&mut world);
    assert_eq!(world.suspects.len(), 1);
}

#[test]
fn an_answer_of_another_length_or_kind_is_not_used() {
    for which in 0..4 {
        let mut world = World::stored("rs:2+1", 50_000);
        world.twist(0, move |_, request, answer| {
            if matches!(request, NodeRequest::Read { .. }) {
                match which {
                    0 => answer.1 = answer.1.slice(4096..),
                    1 => answer.0 = NodeReply::Data { crcs: Vec::new() },
                    2 => answer.0 = NodeReply::StageTaken,
                    _ => *answer = (NodeReply::Refused(Refusal::Busy("much".into())), Body::new()),
                }
            }
            Travel::Now
        });
        check_whole(&mut world);
        assert!(world.suspects.is_empty(), "nothing follows about the fragment");
    }
}

#[test]
fn blocks_of_another_fragment_or_place_are_not_taken_for_the_right_ones() {
    let mut world = World::stored("rs:2+1", 100_000);
    let mut other = world.node(1).fragments[&1].clone();
    other.identity = world.node(0).fragments[&0].identity;
    // The table came along: right CRCs, but seeded by the other's identity.
    world.node(0).fragments.insert(0, other);
    check_whole(&mut world);
    let mut world = World::stored("rs:2+1", 100_000);
    let shifted = world.node(0).fragments.get_mut(&0).unwrap();
    shifted.payload.rotate_left(4096);
    shifted.crcs.rotate_left(1);
    check_whole(&mut world);
}

#[test]
fn a_source_that_accepts_and_never_answers_costs_one_wait() {
    let mut world = World::stored("rs:4+2", 40 << 20);
    world.twist(2, |_, _, _| Travel::Never);
    let begun = world.now;
    let mut get = GetExtent::new(extent(), 0..40 << 20, true, GetConfig::default());
    let ended = {
        let mut ended = None;
        // The driver goes on until the last answer; the get is over long before.
        let mut probe = Probe { get: &mut get, ended: &mut ended };
        world.run(&mut probe);
        ended.unwrap()
    };
    assert_eq!(get.outcome(), Some(Ok(())));
    check_delivered(&world, 0..40 << 20);
    assert!(ended.since(begun) < Millis(1_600), "{:?}", ended.since(begun));
}

struct Probe<'a> {
    get: &'a mut GetExtent,
    ended: &'a mut Option<Time>,
}

impl crate::client::test_world::Machine for Probe<'_> {
    fn take(&mut self, now: Time, event: ExtentEvent) {
        self.get.handle(now, event);
        if self.get.outcome().is_some() {
            self.ended.get_or_insert(now);
        }
    }
    fn effect(&mut self) -> Option<ExtentEffect> {
        self.get.poll_effect()
    }
    fn is_over(&self) -> bool {
        self.get.outcome().is_some()
    }
}

#[test]
fn slow_sources_are_used_where_there_are_no_others() {
    let mut world = World::stored("rs:4+2", 3 << 20);
    for index in 0..6 {
        world.twist(index, |_, _, _| Travel::After(2_500));
    }
    check_whole(&mut world);
    // Two are gone for good, one is slow: it must be waited for.
    let mut world = World::stored("rs:4+2", 3 << 20);
    erase(&mut world, 0, 0);
    erase(&mut world, 5, 0);
    world.twist(2, |_, _, _| Travel::After(3_000));
    check_whole(&mut world);
}

#[test]
fn the_next_place_of_an_index_is_tried_before_the_index_is_given_up() {
    let mut world = World::stored("rs:2+1", 200_000);
    let moved = world.node(0).fragments.remove(&0).unwrap();
    world.node(2).fragments.insert(0, moved);
    if let Ok(places) = &mut world.located {
        places.slots[0] = vec![place(0), place(2)];
        places.slots[2].clear();
    }
    let get = check_whole(&mut world);
    assert_eq!(get.read_bytes(), 200_000u64.div_ceil(4096) * 4096);
}

#[test]
fn a_liar_with_right_crcs_is_found_out_by_the_hash_of_the_whole() {
    let mut world = World::stored("rs:4+2", 100_000);
    let liar = world.node(1).fragments.get_mut(&1).unwrap();
    liar.payload[9_000] ^= 4;
    liar.recompute_crcs();
    let (_, outcome) = get_whole(&mut world);
    assert!(matches!(outcome, Err(GetFailure::Wrong(_))), "{outcome:?}");
    let reported: Vec<u16> = world.suspects.iter().map(|(_, index, _)| *index).collect();
    assert_eq!(reported, [0, 1, 2, 3], "any of those read may be the liar");
}

#[test]
fn too_few_fragments_are_unavailable_and_named_and_come_back_when_they_do() {
    let mut world = World::stored("rs:4+2", 100_000);
    (0..3).for_each(|index| erase(&mut world, index, 0));
    let begun = world.now;
    let (_, outcome) = get_whole(&mut world);
    let Err(GetFailure::Unavailable(reason)) = outcome else { panic!("{outcome:?}") };
    for index in 0..3 {
        assert!(reason.contains(&place(index).disk.to_string()), "{reason}");
    }
    assert!(world.now.since(begun) >= Millis(10_000) && world.now.since(begun) < Millis(20_000));
    assert!(world.locates > 3, "it must look again");

    let mut world = World::stored("rs:4+2", 100_000);
    let lost = world.node(1).fragments.remove(&1).unwrap();
    erase(&mut world, 0, 0);
    erase(&mut world, 2, 1);
    let back = world.now + Millis(4_000);
    world.script.push((back, Box::new(move |world| drop(world.node(1).fragments.insert(1, lost)))));
    check_whole(&mut world);
}

#[test]
fn any_record_with_the_right_hash_will_do_and_no_other() {
    let mut world = World::stored("rs:4+2", 100_000);
    // A record of this extent, sound in itself, but not the one on file.
    world.twist(0, |_, request, answer| {
        if let (NodeRequest::Record { .. }, NodeReply::Record) = (request, &answer.0) {
            let other = ExtentRecord::parse(&answer.1).unwrap();
            answer.1 = ExtentRecord { extent_hash: Hash::of(b"other"), ..other }.to_bytes().unwrap().into();
        }
        Travel::Now
    });
    world.twist(
        1,
        |_, request, _| {
            if matches!(request, NodeRequest::Record { .. }) { Travel::Never } else { Travel::Now }
        },
    );
    world.node(2).record = Body::new();
    let begun = world.now;
    let mut get = GetExtent::new(extent(), 0..100_000, true, GetConfig::default());
    let mut ended = None;
    world.run(&mut Probe { get: &mut get, ended: &mut ended });
    assert_eq!(get.outcome(), Some(Ok(())));
    assert!(ended.unwrap().since(begun) < Millis(1_200), "one slow place costs one wait");

    (0..6).for_each(|index| world.node(index).record = Body::new());
    let (_, outcome) = get_whole(&mut world);
    assert!(matches!(outcome, Err(GetFailure::Unavailable(_))));
}

#[test]
fn what_the_daemon_says_decides_whether_it_is_on_file() {
    let mut world = World::new("rs:4+2", 100);
    assert_eq!(get_whole(&mut world).1, Err(GetFailure::NotFound));
    world.located = Err(Refusal::Unavailable("starting".into()));
    let (_, outcome) = get_whole(&mut world);
    assert!(matches!(outcome, Err(GetFailure::Unavailable(reason)) if reason.contains("starting")));
    // It comes up meanwhile.
    let mut world = World::stored("rs:4+2", 100);
    let places = std::mem::replace(&mut world.located, Err(Refusal::Unavailable("starting".into())));
    let up = world.now + Millis(3_000);
    world.script.push((up, Box::new(move |world| world.located = places)));
    check_whole(&mut world);
}

#[test]
fn an_extent_deleted_meanwhile_is_not_found_and_one_with_another_record_is_not_mixed() {
    let mut world = World::stored("rs:4+2", 100_000);
    (0..3).for_each(|index| erase(&mut world, index, 0));
    let later = world.now + Millis(2_000);
    world.script.push((later, Box::new(|world| world.located = Err(Refusal::NotFound))));
    assert_eq!(get_whole(&mut world).1, Err(GetFailure::NotFound));

    let mut world = World::stored("rs:4+2", 100_000);
    (0..3).for_each(|index| erase(&mut world, index, 0));
    let later = world.now + Millis(2_000);
    let other = |world: &mut World| {
        world.located = world.located.clone().map(|places| Places { hash: RecordHash([7; 32]), ..places })
    };
    world.script.push((later, Box::new(other)));
    let (_, outcome) = get_whole(&mut world);
    assert!(matches!(&outcome, Err(GetFailure::Unavailable(reason)) if reason.contains("changed")), "{outcome:?}");
}
