use super::*;
use crate::client::test_world::{Travel, World, extent, place};
use crate::repair::{RepairJob, RepairSpec};
use crate::wire::{NodeRequest, Refusal};
use ec_core::fragment::Hash;
use std::cell::Cell;
use std::rc::Rc;

const CODES: [(&str, usize); 5] =
    [("rs:4+2", 9 << 20), ("lrc:4,2,2", 70_003), ("replicate:3", 9_001), ("rs:2+1", 0), ("rs:10+4", 40_001)];

fn spec(world: &World) -> AuditSpec {
    let places = world.located.clone().unwrap();
    let sources = (0u16..).zip(places.slots).map(|(index, mut places)| (index, places.remove(0))).collect();
    AuditSpec { extent: extent(), hash: places.hash, sources, bytes_per_second: 0 }
}

fn audit_with(world: &mut World, spec: AuditSpec) -> AuditOutcome {
    let mut job = AuditJob::new(spec);
    world.run(&mut job);
    job.outcome().unwrap().clone()
}

fn audit(world: &mut World) -> AuditOutcome {
    audit_with(world, spec(world))
}

fn parity_of(world: &World) -> Vec<u16> {
    (world.code.k() as u16..world.code.n() as u16).collect()
}

/// The last byte there is: no shortcut may leave it out.
fn spoil_last(payload: &mut [u8]) {
    if let Some(last) = payload.last_mut() {
        *last ^= 0x20;
    }
}

fn spoil_first(payload: &mut [u8]) {
    payload[0] ^= 1;
}

fn reads(world: &mut World, index: u16) -> usize {
    world.node(index).requests.iter().filter(|request| matches!(request, NodeRequest::Read { .. })).count()
}

#[test]
fn what_was_put_is_sound_and_read_once() {
    for (code, bytes) in CODES {
        let mut world = World::stored(code, bytes);
        world.duplicates = bytes % 2 == 1;
        let read_bytes = world.code.n() as u64 * world.shard_bytes();
        let expected = AuditOutcome { verdict: AuditVerdict::Sound, suspects: Vec::new(), read_bytes };
        assert_eq!(audit(&mut world), expected, "{code}");
    }
}

#[test]
fn wrong_parity_with_crcs_and_roots_of_its_own_is_named() {
    for (code, bytes) in CODES.into_iter().filter(|(_, bytes)| *bytes > 0) {
        let parity = parity_of(&World::new(code, 0));
        for wrong in parity.iter().map(|index| vec![*index]).chain([parity.clone()]) {
            for spoil in [spoil_first, spoil_last] {
                let mut world = World::stored(code, bytes);
                world.bless(&wrong, spoil);
                let outcome = audit(&mut world);
                let finding = Finding::Parity { fragments: wrong.clone() };
                assert_eq!(outcome.verdict, AuditVerdict::Wrong(finding.clone()), "{code} {wrong:?}");
                assert_eq!(outcome.read_bytes, 2 * world.code.n() as u64 * world.shard_bytes(), "a second reading");
                assert!(outcome.suspects.is_empty(), "nothing is to be checked, and so nothing rebuilt");
                assert_eq!(finding.wrong_parity(), wrong);
            }
        }
    }
    let finding = Finding::Parity { fragments: vec![4, 5] };
    assert_eq!(finding.to_string(), "data is right, parity 4, 5 is not the code's");
}

#[test]
fn a_fragment_with_right_crcs_and_another_root_is_named_and_nothing_else_is_judged() {
    for liars in [vec![1u16], vec![5], vec![0, 4]] {
        let mut world = World::stored("rs:4+2", 100_000);
        for liar in &liars {
            let fragment = world.node(*liar).fragments.get_mut(liar).unwrap();
            spoil_last(&mut fragment.payload);
            fragment.recompute_crcs();
        }
        let outcome = audit(&mut world);
        let found = Finding::Roots { fragments: liars };
        assert_eq!((outcome.verdict, outcome.suspects.len()), (AuditVerdict::Wrong(found.clone()), 0));
        assert!(found.wrong_parity().is_empty());
    }
}

#[test]
fn data_that_is_not_what_the_extents_hash_says_is_told_with_the_parity_that_differs() {
    // Data and the parity of it were both wrong, or only the data was.
    let mut world = World::stored("rs:4+2", 100_000);
    let mut record = ExtentRecord::parse(&world.node(0).record).unwrap();
    record.extent_hash = Hash::of(b"something else");
    world.commit(&record);
    let alone = Finding::ExtentHash { parity: vec![] };
    assert_eq!(audit(&mut world).verdict, AuditVerdict::Wrong(alone));

    let mut world = World::stored("rs:4+2", 100_000);
    world.bless(&[2], spoil_first);
    let both = Finding::ExtentHash { parity: vec![4, 5] };
    assert!(both.wrong_parity().is_empty(), "the parity is right, the data is not");
    assert_eq!(audit(&mut world).verdict, AuditVerdict::Wrong(both));

    // Even where there is not a byte.
    let mut world = World::stored("rs:2+1", 0);
    let mut record = ExtentRecord::parse(&world.node(0).record).unwrap();
    record.extent_hash = Hash::of(b"x");
    world.commit(&record);
    assert!(matches!(audit(&mut world).verdict, AuditVerdict::Wrong(Finding::ExtentHash { .. })));
}

#[test]
fn padding_is_no_part_of_the_extent() {
    // The second and third data shard lie behind the end but for one byte.
    let mut world = World::stored("rs:3+2", 4097);
    assert_eq!(audit(&mut world).verdict, AuditVerdict::Sound);
}

#[test]
fn a_fragment_that_is_damaged_or_gone_makes_it_incomplete_and_is_a_suspect() {
    for (index, gone) in [(0u16, true), (3, false), (5, true), (4, false)] {
        let mut world = World::stored("rs:4+2", 9 << 20);
        match gone {
            true => drop(world.node(index).fragments.remove(&index).unwrap()),
            false => world.node(index).fragments.get_mut(&index).unwrap().payload[(1 << 20) + 70] ^= 1,
        }
        let outcome = audit(&mut world);
        let AuditVerdict::Incomplete { reason } = &outcome.verdict else { panic!("{outcome:?}") };
        assert!(reason.starts_with(&format!("fragment {index}: ")), "{reason}");
        let suspects: Vec<_> = outcome.suspects.iter().map(|suspect| (suspect.index, suspect.place.disk)).collect();
        assert_eq!(suspects, [(index, place(index).disk)]);
    }
}

#[test]
fn silence_makes_it_incomplete_and_nobody_a_suspect() {
    for travel in [Travel::Never, Travel::Fails(CallError::Lost), Travel::Fails(CallError::Unreachable)] {
        let mut world = World::stored("rs:4+2", 9 << 20);
        let (first, travel) = (Cell::new(true), travel.clone());
        world.twist(2, move |_, request, _| match request {
            NodeRequest::Read { .. } if !first.replace(false) => travel.clone(),
            _ => Travel::Now,
        });
        let outcome = audit(&mut world);
        assert!(matches!(outcome.verdict, AuditVerdict::Incomplete { .. }), "{outcome:?}");
        assert!(outcome.suspects.is_empty());
    }
    let mut world = World::stored("rs:4+2", 100);
    world.twist(2, |_, _, answer| {
        *answer = (NodeReply::Refused(Refusal::Busy("later".into())), Body::new());
        Travel::Now
    });
    assert!(audit(&mut world).suspects.is_empty());
}

#[test]
fn a_fragment_without_a_disk_or_a_record_that_nobody_has_is_incomplete_and_nothing_is_read() {
    let mut world = World::stored("rs:4+2", 100_000);
    let mut lacking = spec(&world);
    lacking.sources.remove(&3);
    let outcome = audit_with(&mut world, lacking);
    assert_eq!(outcome.read_bytes, 0);
    assert_eq!(outcome.verdict, AuditVerdict::Incomplete { reason: "fragment 3: no disk has it now".into() });
    let mut other = spec(&world);
    other.hash = crate::id::RecordHash([7; 32]);
    let outcome = audit_with(&mut world, other);
    assert!(matches!(outcome.verdict, AuditVerdict::Incomplete { .. }), "{outcome:?}");
    assert!((0..6).all(|index| reads(&mut world, index) == 0));
}

#[test]
fn what_only_one_of_two_readings_finds_is_no_finding() {
    // Damaged on the way, once, after its CRCs were computed.
    let mut world = World::stored("rs:4+2", 100_000);
    let seed = world.node(4).fragments[&4].identity.seed();
    let mut told = false;
    world.twist(4, move |_, request, (reply, body)| {
        if let (NodeRequest::Read { offset, .. }, NodeReply::Data { crcs }, false) = (request, reply, told) {
            told = true;
            let mut bytes = body.to_vec();
            bytes[9] ^= 1;
            let first = u32::try_from(offset / 4096).unwrap();
            crcs[0] = seed.crc(first, &bytes[..4096]);
            *body = bytes.into();
        }
        Travel::Now
    });
    let outcome = audit(&mut world);
    let AuditVerdict::Incomplete { reason } = outcome.verdict else { panic!("{outcome:?}") };
    assert!(reason.contains("two readings differ") && reason.ends_with("the second nothing"), "{reason}");
}

#[test]
fn memory_is_bounded_and_the_rate_is_kept() {
    for rate in [0, 20_000_000] {
        let mut world = World::stored("rs:4+2", 40 << 20);
        let (under_way, most) = (Rc::new(Cell::new(0usize)), Rc::new(Cell::new(0usize)));
        for index in 0..6u16 {
            let (under_way, most) = (under_way.clone(), most.clone());
            world.twist(index, move |_, request, _| {
                if matches!(request, NodeRequest::Read { .. }) {
                    under_way.set(under_way.get() + 1);
                    most.set(most.get().max(under_way.get()));
                }
                Travel::Now
            });
        }
        let (bytes, began) = (6 * world.shard_bytes(), world.now);
        let mut job = AuditJob::new(AuditSpec { bytes_per_second: rate, ..spec(&world) });
        world.run(&mut Counted { job: &mut job, under_way });
        assert_eq!(job.outcome().unwrap().verdict, AuditVerdict::Sound);
        let took = world.now.since(began).0;
        if rate == 0 {
            assert_eq!(most.get(), SLICES_IN_FLIGHT * 6);
            continue;
        }
        assert!(took >= (bytes - (6 << 20)) * 1000 / rate, "{bytes} bytes in {took} ms");
        assert!(took <= bytes * 1000 / rate + 100, "{bytes} bytes in {took} ms: slower than allowed");
    }
}

/// An audit of which the answers are counted.
struct Counted<'a> {
    job: &'a mut AuditJob,
    under_way: Rc<Cell<usize>>,
}

impl crate::client::test_world::Machine for Counted<'_> {
    fn take(&mut self, now: Time, event: ExtentEvent) {
        if let ExtentEvent::Call { result: Ok((NodeReply::Data { .. }, _)), .. } = &event {
            self.under_way.set(self.under_way.get() - 1);
        }
        self.job.handle(now, event);
    }

    fn effect(&mut self) -> Option<ExtentEffect> {
        self.job.poll_effect()
    }

    fn is_over(&self) -> bool {
        self.job.outcome().is_some()
    }
}

#[test]
fn a_repair_from_wrong_parity_publishes_the_right_bytes_or_none() {
    for lost in [vec![0u16], vec![0, 1], vec![4], vec![0, 4]] {
        let mut world = World::stored("rs:4+2", 100_000);
        world.bless(&[4], spoil_first);
        let originals: Vec<_> = lost.iter().map(|index| world.node(*index).fragments.remove(index).unwrap()).collect();
        let places = world.located.clone().unwrap();
        let sources = (0u16..).zip(places.slots).filter(|(index, _)| !lost.contains(index)).collect();
        let mut repair = RepairSpec {
            extent: extent(),
            hash: places.hash,
            attempt: world.attempt(),
            authority: world.authority(),
            sources,
            targets: lost.iter().map(|index| (*index, place(*index))).collect(),
            chain: true,
        };
        let mut job = RepairJob::new(repair.clone(), 5);
        world.run(&mut job);
        let outcome = job.outcome().unwrap().clone();
        assert!(outcome.suspects.is_empty(), "every fragment has its root: {outcome:?}");
        for (index, original) in lost.iter().zip(&originals) {
            if let Some(found) = world.node(*index).fragments.get(index) {
                assert_eq!(found.payload, original.payload, "fragment {index} of {lost:?}");
                assert!(outcome.published.contains(index));
            }
        }
        // Once the audit's word keeps the wrong parity out, what can be rebuilt is.
        repair.sources.remove(&4);
        repair.targets.retain(|index, _| *index != 4);
        let possible = lost.contains(&0) && !lost.contains(&1);
        let mut job = RepairJob::new(repair, 5);
        world.run(&mut job);
        assert_eq!(job.outcome().unwrap().published.contains(&0), possible, "{lost:?}");
    }
}
