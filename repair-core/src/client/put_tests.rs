use super::*;
use crate::client::test_world::{Travel, World, place, subsets};
use crate::wire::Refusal;
use ec_core::ShardSet;
use ec_core::geometry::BLOCK_BYTES;

const CODES: [&str; 5] = ["replicate:3", "rs:2+1", "rs:4+2", "lrc:4,2,2", "lrc:12,2,2"];

fn put(world: &mut World) -> Result<ExtentRecord, PutFailure> {
    let mut put = PutExtent::new(world.put_spec(), 9)?;
    world.run(&mut put);
    let record = put.outcome().unwrap()?;
    Ok(ExtentRecord::parse(&record).unwrap())
}

/// Payload of every fragment staged.
fn payloads(world: &mut World) -> Vec<Vec<u8>> {
    (0..world.code.n() as u16)
        .map(|index| {
            let key = world.stage_key(index);
            world.node(index).sealed(&key).unwrap_or_else(|| panic!("{index} is not sealed")).to_vec()
        })
        .collect()
}

fn check_stored(world: &mut World, record: &ExtentRecord) {
    let payloads = payloads(world);
    assert_eq!(record.extent_hash, Hash::of(&world.source));
    let code = Code::new(&world.code).unwrap();
    let data: Vec<u8> = payloads[..code.k()].concat();
    assert_eq!(data[..world.source.len()], world.source);
    assert!(data[world.source.len()..].iter().all(|byte| *byte == 0), "padding");
    for (payload, entry) in payloads.iter().zip(&record.fragments) {
        assert_eq!(entry.root, entry.identity.root(&Hash::of(payload)));
        assert_eq!(entry.identity.payload_bytes, payload.len() as u64);
    }
    // Parity by decoding: all data from the last k fragments that can give it.
    for at in code.k()..code.n() {
        let mut rebuilt = vec![1; payloads[0].len()];
        let lost = ShardSet::from_iter([ShardIndex::new(at as u16)]);
        let plan = code.plan(&lost, &ShardSet::first(code.k())).unwrap();
        let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, &payloads[index.at()][..])).collect();
        if payloads[0].is_empty() {
            continue;
        }
        plan.run(&inputs, &mut [(ShardIndex::new(at as u16), &mut rebuilt)]).unwrap();
        assert_eq!(rebuilt, payloads[at], "parity {at}");
    }
}

#[test]
fn fragments_are_the_encoded_extent_at_every_odd_length() {
    for code in CODES {
        for bytes in [0, 1, 4095, 4096, 4097, 40_960, 49_153, 100_001, 700_003] {
            let mut world = World::new(code, bytes);
            world.duplicates = bytes % 2 == 1;
            let record = put(&mut world).unwrap();
            check_stored(&mut world, &record);
            assert_eq!(record.name, b"a name");
            assert_eq!((record.extents.len(), record.stream_bytes), (1, Some(bytes as u64)));
        }
    }
}

/// Everything it wants now.
fn effects(put: &mut PutExtent) -> Vec<ExtentEffect> {
    std::iter::from_fn(|| put.poll_effect()).collect()
}

#[test]
fn nothing_is_sent_before_every_node_has_room() {
    let world = World::new("rs:2+1", 10_000);
    let mut put = PutExtent::new(world.put_spec(), 3).unwrap();
    let mut opens = Vec::new();
    for effect in effects(&mut put) {
        match effect {
            ExtentEffect::ReadSource { read, offset, bytes } => {
                let bytes = Ok(Body::copy_from_slice(&world.source[offset as usize..][..bytes]));
                put.handle(world.now, ExtentEvent::Source { read, bytes });
            }
            ExtentEffect::Call { call, .. } => opens.push(call),
            other => panic!("{other:?}"),
        }
    }
    for (at, call) in opens.into_iter().enumerate() {
        assert_eq!(effects(&mut put).len(), 0, "{at} are open");
        put.handle(world.now, ExtentEvent::Call { call, result: Ok((NodeReply::StageOpen, Body::new())) });
    }
    assert_eq!(effects(&mut put).len(), 3);
}

#[test]
fn many_slices_stay_within_memory_and_are_each_sent_once() {
    for (code, bytes) in [("rs:2+1", (9 << 20) + 777), ("replicate:2", (5 << 20) + 1), ("lrc:12,2,2", 40 << 20)] {
        let mut world = World::new(code, bytes);
        let spec = world.put_spec();
        let mut put = PutExtent::new(spec, 3).unwrap();
        world.run(&mut put);
        let record = ExtentRecord::parse(&put.outcome().unwrap().unwrap()).unwrap();
        check_stored(&mut world, &record);
        let n = world.code.n();
        assert_eq!(put.sent_bytes(), world.shard_bytes() * n as u64, "{code}");
        assert!(world.sent_unanswered_max <= SLICES_IN_FLIGHT * n * slice_bytes(n), "{code}");
        assert!(world.sent_unanswered_max > n * slice_bytes(n), "{code}: never more than one slice under way");
    }
}

#[test]
fn a_gap_that_the_grant_allows_is_passed_over_but_named_in_the_record() {
    let mut world = World::new("rs:4+2", 100_000);
    let mut spec = world.put_spec();
    (spec.grant.places[1], spec.grant.places[5]) = (None, None);
    let mut put = PutExtent::new(spec, 3).unwrap();
    world.run(&mut put);
    let record = ExtentRecord::parse(&put.outcome().unwrap().unwrap()).unwrap();
    assert!(world.node(1).requests.is_empty() && world.node(5).requests.is_empty());
    let mut whole = World::new("rs:4+2", 100_000);
    assert_eq!(record.fragments, self::put(&mut whole).unwrap().fragments);

    let mut spec = world.put_spec();
    spec.grant.places[..3].fill(None);
    assert!(matches!(PutExtent::new(spec, 3), Err(PutFailure::Again(_))), "three places cannot hold four shards");
}

#[test]
fn a_node_that_fails_at_any_message_ends_the_put_and_nothing_is_believed() {
    for travel in [Travel::Fails(CallError::Lost), Travel::Never] {
        for nth in 0..5 {
            // 4 slices of a shard: open, 4 pieces, seal.
            let mut world = World::new("rs:2+1", 8 << 20);
            let travel = travel.clone();
            world.twist(1, move |before, _, _| if before == nth { travel.clone() } else { Travel::Now });
            let failure = put(&mut world).unwrap_err();
            let PutFailure::Again(reason) = failure else { panic!("{failure}") };
            assert!(reason.contains(&place(1).disk.to_string()), "{reason}");
        }
    }
    for nth in 0..6 {
        let mut world = World::new("rs:2+1", 8 << 20);
        world.twist(2, move |before, _, answer| {
            if before == nth {
                answer.0 = NodeReply::Refused(Refusal::NoSpace("full".into()));
            }
            Travel::Now
        });
        assert!(matches!(put(&mut world), Err(PutFailure::Again(reason)) if reason.contains("full")), "{nth}");
    }
    // An answer to another question.
    let mut world = World::new("rs:2+1", 100);
    world.twist(0, |_, _, answer| {
        answer.0 = NodeReply::StageDropped;
        Travel::Now
    });
    assert!(matches!(put(&mut world), Err(PutFailure::Again(_))));
}

#[test]
fn a_fragment_that_arrived_with_another_root_is_not_put_on_record() {
    for victim in 0..3 {
        let mut world = World::new("rs:2+1", 50_000);
        world.twist(victim, |_, _, answer| {
            if let NodeReply::StageSealed { root } = &mut answer.0 {
                root[31] ^= 1;
            }
            Travel::Now
        });
        assert!(matches!(put(&mut world), Err(PutFailure::Again(reason)) if reason.contains("root")), "{victim}");
    }
}

#[test]
fn a_wrong_encoder_is_found_out_before_anything_of_its_output_is_sent() {
    let mut world = World::new("rs:4+2", 3 << 20);
    let mut put = PutExtent::new(world.put_spec(), 3).unwrap();
    put.encoder.as_mut().unwrap().sabotage = Some(|parity| parity[BLOCK_BYTES - 1] ^= 0x10);
    world.run(&mut put);
    assert!(matches!(put.outcome(), Some(Err(PutFailure::Encoder(_)))));
    let sent = |request: &NodeRequest| !matches!(request, NodeRequest::Stage { .. });
    assert!(!world.nodes.values().any(|node| node.requests.iter().any(sent)));
}

#[test]
fn a_source_that_fails_or_gives_other_lengths_ends_the_put() {
    let mut world = World::new("rs:4+2", 100_000);
    world.source_fault = Some("no such file".into());
    assert_eq!(put(&mut world).unwrap_err(), PutFailure::Source("no such file".into()));

    let world = World::new("rs:4+2", 100_000);
    let mut put = PutExtent::new(world.put_spec(), 3).unwrap();
    let read = std::iter::from_fn(|| put.poll_effect()).find_map(|effect| match effect {
        ExtentEffect::ReadSource { read, .. } => Some(read),
        _ => None,
    });
    put.handle(world.now, ExtentEvent::Source { read: read.unwrap(), bytes: Ok(Body::from_static(b"short")) });
    assert!(matches!(put.outcome(), Some(Err(PutFailure::Source(_)))));
}

#[test]
fn late_unknown_and_repeated_answers_change_nothing() {
    let mut world = World::new("lrc:4,2,2", 300_000);
    let spec = world.put_spec();
    let mut put = PutExtent::new(spec, 3).unwrap();
    for number in 1000..1003 {
        let call = CallId(number);
        put.handle(world.now, ExtentEvent::Call { call, result: Ok((NodeReply::StageTaken, Body::new())) });
        put.handle(world.now, ExtentEvent::Source { read: call, bytes: Err("late".into()) });
    }
    world.duplicates = true;
    world.run(&mut put);
    let record = put.outcome().unwrap().unwrap();
    check_stored(&mut world, &ExtentRecord::parse(&record).unwrap());
    put.handle(world.now, ExtentEvent::Call { call: CallId(1), result: Err(CallError::Lost) });
    assert_eq!(put.outcome(), Some(Ok(record)));
}

#[test]
fn what_no_record_can_say_is_refused_before_a_byte_is_sent() {
    let world = World::new("rs:4+2", 100);
    for change in [
        (|spec: &mut PutSpec| spec.name = b"nul\0".to_vec()) as fn(&mut PutSpec),
        |spec| spec.name = vec![b'a'; 5000],
        |spec| spec.stream_bytes = 99,
        |spec| spec.entry.bytes = 2 << 30,
    ] {
        let mut spec = world.put_spec();
        change(&mut spec);
        assert!(matches!(PutExtent::new(spec, 3), Err(PutFailure::Source(_))));
    }
    for change in [
        (|spec: &mut PutSpec| spec.grant.code = [0xff; 16]) as fn(&mut PutSpec),
        |spec| spec.grant.places.truncate(5),
        |spec| spec.entry.extent.0 ^= 1,
    ] {
        let mut spec = world.put_spec();
        change(&mut spec);
        assert!(matches!(PutExtent::new(spec, 3), Err(PutFailure::Again(_))));
    }
}

#[test]
fn a_list_of_extents_that_does_not_fit_is_left_out() {
    let world = World::new("rs:4+2", 100);
    let mut spec = world.put_spec();
    // 6 fragments, 100 bytes each: about 2,000 extents fit.
    let mut extents: Vec<ExtentEntry> = (0..3000u64)
        .map(|ordinal| {
            let extent = crate::id::ExtentKey(u128::from(ordinal) + 1);
            ExtentEntry { ordinal, extent, offset: ordinal * 100, bytes: 100 }
        })
        .collect();
    for (count, kept) in [(1500usize, 1500), (3000, 0)] {
        extents.truncate(count);
        let (last, rest) = (count as u64 - 1, count * 100);
        spec.entry = ExtentEntry { ordinal: last, offset: rest as u64 - 100, ..world.put_spec().entry };
        (spec.stream_bytes, spec.extents) = (rest as u64, extents.clone());
        spec.extents[last as usize] = spec.entry;
        let put = PutExtent::new(spec.clone(), 3).unwrap();
        let record = put.record(Hash::new([0; 32]), Vec::new());
        assert_eq!(record.extents.len(), kept);
        extents = (0..3000u64)
            .map(|ordinal| {
                let extent = crate::id::ExtentKey(u128::from(ordinal) + 1);
                ExtentEntry { ordinal, extent, offset: ordinal * 100, bytes: 100 }
            })
            .collect();
    }
    assert_eq!(subsets(3, 1).len(), 4);
}
