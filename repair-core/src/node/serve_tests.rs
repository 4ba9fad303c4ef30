//! What is asked of a node and changes nothing; the scrub; the daemon.

use super::testing::*;
use super::*;
use crate::id::ClaimId;
use crate::lineage::Claim;
use crate::wire::daemon::AttemptState;
use crate::wire::node::DamageReport;
use crate::wire::{DaemonReply, DaemonRequest};

fn with(count: usize) -> (World, Owner, Vec<Made>) {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = (0..count).map(|_| world.create(&mut owner)).collect();
    (world, owner, made)
}

fn read(fragment: FragmentKey, offset: u64, bytes: u32) -> NodeRequest {
    NodeRequest::Read { fragment, offset, bytes }
}

fn check(world: &mut World, fragment: FragmentKey) -> NodeReply {
    world.ask(NodeRequest::Check { fragment })
}

fn spoil(world: &mut World, fragment: FragmentKey, class: &str) {
    world.disk.files.get_mut(&fragment).unwrap().class = class.into();
}

fn beats(world: &World) -> Vec<Vec<DamageReport>> {
    let beats = world.asked.iter().filter_map(|(_, request)| match request {
        DaemonRequest::Beat { damaged, .. } => Some(damaged.clone()),
        _ => None,
    });
    beats.collect()
}

#[test]
fn payload_is_read_in_whole_blocks() {
    let (mut world, _, made) = with(1);
    let fragment = made[0].fragment();
    let id = world.send(read(fragment, 0, 4096), Body::new());
    let (_, reply, body) = world.replies.iter().find(|(asker, ..)| asker.id == id).unwrap();
    assert_eq!((reply, &body[..]), (&NodeReply::Data { crcs: vec![1] }, &made[0].payload[..]));
    for (offset, bytes) in [(0, 0), (0, 100), (100, 4096), (u64::MAX - 4095, 4096), (0, (1 << 20) + 4096), (4096, 4096)]
    {
        let reply = world.ask(read(fragment, offset, bytes));
        assert!(matches!(refused(&reply), Refusal::Invalid(_)), "{offset} {bytes}");
    }
}

#[test]
fn only_an_authoritative_absence_is_not_found() {
    let (mut world, _, made) = with(2);
    world.disk.failing.push(("read", StoreError::Io("cable".into())));
    let reply = world.ask(read(made[0].fragment(), 0, 4096));
    assert!(matches!(refused(&reply), Refusal::Unavailable(_)));
    assert!(!world.node.is_damaged(made[0].fragment()));
    world.disk.failing.push(("read record", StoreError::Io("cable".into())));
    let record = NodeRequest::Record { extent: made[0].extent, hash: made[0].hash };
    assert!(matches!(refused(&world.ask(record.clone())), Refusal::Unavailable(_)));
    world.disk.failing.push(("check", StoreError::Io("cable".into())));
    assert!(matches!(refused(&check(&mut world, made[0].fragment())), Refusal::Unavailable(_)));
    world.disk.failing.push(("list", StoreError::Io("cable".into())));
    let reply = world.ask(NodeRequest::Holdings { pg: PG, after: None });
    assert!(matches!(refused(&reply), Refusal::Unavailable(_)));
    world.disk.failing.push(("touch", StoreError::Io("cable".into())));
    assert!(matches!(refused(&world.ask(NodeRequest::Info)), Refusal::Unavailable(_)));
    assert!(!world.node.is_damaged(made[0].fragment()), "a failing device says nothing about a fragment");
    world.disk.files.remove(&made[0].fragment());
    assert_eq!(refused(&world.ask(read(made[0].fragment(), 0, 4096))), &Refusal::NotFound);
    assert!(world.node.is_damaged(made[0].fragment()), "a reader found out");
    world.disk.failing.push(("read", StoreError::Damaged("sector".into())));
    assert!(matches!(refused(&world.ask(read(made[1].fragment(), 0, 4096))), Refusal::Damaged(_)));
}

#[test]
fn a_record_is_given_to_who_names_its_hash_and_only_as_it_was_hashed() {
    let (mut world, mut owner, made) = with(1);
    let record = |made: &Made| NodeRequest::Record { extent: made.extent, hash: made.hash };
    let id = world.send(record(&made[0]), Body::new());
    assert_eq!(world.replies.iter().find(|(asker, ..)| asker.id == id).unwrap().2, made[0].record);
    let other = Made { hash: RecordHash([3; 32]), ..made[0].clone() };
    assert_eq!(refused(&world.ask(record(&other))), &Refusal::NotFound);
    // A prepared one, too: an entry may name it before we hear of it.
    let waiting = owner.make(5000);
    world.stage(&owner, &waiting);
    assert_eq!(refused(&world.ask(record(&waiting))), &Refusal::NotFound);
    world.ask_with(owner.prepare(&waiting), waiting.record.clone());
    assert_eq!(world.ask(record(&waiting)), NodeReply::Record);
    world.disk.index.clear();
    world.disk.files.get_mut(&made[0].fragment()).unwrap().record = waiting.record.clone();
    assert!(matches!(refused(&world.ask(record(&made[0]))), Refusal::Damaged(_)));
}

#[test]
fn lists_and_listings_come_in_pages() {
    let (mut world, mut owner, _) = with(1);
    for _ in 0..1300 {
        let made = owner.make(5000);
        owner.commit(&made);
        let file = world.disk.files.values().next().unwrap().clone();
        world.disk.files.insert(made.fragment(), file);
    }
    world.head(owner.hear());
    let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
    loop {
        let NodeReply::ListPage { heard, listed, more } = world.ask(NodeRequest::List { pg: PG, after }) else {
            panic!()
        };
        assert_eq!(heard, owner.row.order());
        pages += 1;
        after = listed.last().map(|line| line.extent);
        seen.extend(listed.iter().map(|line| (line.extent, line.hash)));
        if !more {
            break;
        }
    }
    assert_eq!((seen.into_iter().collect(), pages), (world.node.list(PG).unwrap().clone(), 2));
    spoil(&mut world, owner_fragment(&owner, 700), "rot.payload");
    check(&mut world, owner_fragment(&owner, 700));
    let (mut after, mut seen, mut damaged, mut pages) = (None, Vec::new(), 0, 0);
    loop {
        let NodeReply::HoldingsPage { holdings, more } = world.ask(NodeRequest::Holdings { pg: PG, after }) else {
            panic!()
        };
        pages += 1;
        after = holdings.last().map(|holding| holding.fragment);
        damaged += holdings.iter().filter(|holding| holding.damaged).count();
        seen.extend(holdings.iter().map(|holding| holding.fragment));
        if !more {
            break;
        }
    }
    assert_eq!((seen, damaged, pages), (world.disk.files.keys().copied().collect(), 1, 3));
    // Of a group that nothing is known of.
    let nothing = NodeReply::ListPage { heard: (0, 0), listed: vec![], more: false };
    assert_eq!(world.ask(NodeRequest::List { pg: PgId(99), after: None }), nothing);
    let nothing = NodeReply::HoldingsPage { holdings: vec![], more: false };
    assert_eq!(world.ask(NodeRequest::Holdings { pg: PgId(99), after: None }), nothing);
}

/// The fragment of the extent made as this one.
fn owner_fragment(owner: &Owner, counter: u64) -> FragmentKey {
    let entry = owner.row.entries.iter().find(|entry| entry.extent.counter() == counter).unwrap();
    FragmentKey { extent: entry.extent, generation: 1, index: 1 }
}

/// A name in the folder that no crash need leave there, as a publish under way or a life that was killed in one leaves it.
fn name_without_sync(world: &mut World, made: &Made) {
    let mut file = world.disk.files.values().next().unwrap().clone();
    file.durable = false;
    world.disk.files.insert(made.fragment(), file);
}

#[test]
fn a_name_is_counted_only_once_no_crash_can_take_it_away() {
    // It appears before the listing, between it and the sync, and after that.
    for operations in 0..=2 {
        let (mut world, mut owner, _) = with(1);
        let made = owner.make(5000);
        world.held = true;
        let id = world.send(NodeRequest::Holdings { pg: PG, after: None }, Body::new());
        for _ in 0..operations {
            world.perform(0);
        }
        name_without_sync(&mut world, &made);
        world.release();
        let Some(NodeReply::HoldingsPage { holdings, .. }) = world.answer(id).cloned() else { panic!() };
        let told: Vec<FragmentKey> = holdings.iter().map(|holding| holding.fragment).collect();
        assert!(operations > 0 || told.contains(&made.fragment()), "it was there");
        world.disk.crash(false);
        assert!(told.iter().all(|fragment| world.disk.files.contains_key(fragment)), "after {operations} operations");
    }
}

/// A node with so many durable files beside the one it made; how it is asked for a page, and the names on it.
fn with_files(count: u64) -> (World, Owner) {
    let (mut world, mut owner, _) = with(1);
    let file = world.disk.files.values().next().unwrap().clone();
    for _ in 0..count {
        world.disk.files.insert(owner.make(5000).fragment(), file.clone());
    }
    (world, owner)
}

fn names_after(world: &mut World, peer: PeerId, after: Option<FragmentKey>) -> (Vec<FragmentKey>, bool) {
    let id = world.send_from(peer, NodeRequest::Holdings { pg: PG, after }, Body::new());
    let Some(NodeReply::HoldingsPage { holdings, more }) = world.answer(id) else { panic!("no page") };
    (holdings.iter().map(|holding| holding.fragment).collect(), *more)
}

fn calls(world: &World, name: &str) -> usize {
    world.disk.log.iter().filter(|call| **call == name).count()
}

#[test]
fn a_count_costs_one_listing_and_one_sync_however_many_pages_it_has() {
    let (mut world, _) = with_files(2600);
    let other = PeerId(2);
    for (round, peer) in [PEER, other, PEER].into_iter().enumerate() {
        world.disk.log.clear();
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (names, more) = names_after(&mut world, peer, after);
            pages += 1;
            after = names.last().copied();
            seen.extend(names);
            if !more {
                break;
            }
        }
        assert_eq!((calls(&world, "list"), calls(&world, "sync"), pages), (1, 1, 6), "round {round}");
        assert!(seen.iter().eq(world.disk.files.keys()));
    }
}

#[test]
fn a_listing_is_of_its_count_and_of_its_asker_and_does_not_stay() {
    let (mut world, mut owner) = with_files(1200);
    let first = names_after(&mut world, PEER, None).0;
    // Another count begins anew: it sees what came.
    let new = owner.make(5000);
    let file = world.disk.files.values().next().unwrap().clone();
    world.disk.files.insert(new.fragment(), file);
    world.disk.log.clear();
    assert_eq!(names_after(&mut world, PEER, None).0, first);
    assert_eq!(calls(&world, "list"), 1);
    let second = names_after(&mut world, PEER, first.last().copied()).0;
    let third = names_after(&mut world, PEER, second.last().copied());
    assert!(third.0.contains(&new.fragment()) && !third.1);
    assert_eq!(calls(&world, "list"), 1);
    // Behind its last page, without a first one, after its time and after its connection there is none.
    for (peer, after) in [(PEER, second.last().copied()), (PeerId(9), first.last().copied())] {
        world.disk.log.clear();
        names_after(&mut world, peer, after);
        assert_eq!(calls(&world, "list"), 1);
    }
    for end in 0..2 {
        names_after(&mut world, PEER, None);
        if end == 0 {
            world.tick_at(31_000)
        } else {
            world.event(NodeEvent::PeerGone { peer: PEER })
        }
        world.disk.log.clear();
        names_after(&mut world, PEER, first.last().copied());
        assert_eq!((calls(&world, "list"), calls(&world, "sync")), (1, 1));
    }
}

#[test]
fn what_left_the_folder_since_it_was_listed_is_not_told() {
    let (mut world, mut owner) = with_files(1200);
    let first = names_after(&mut world, PEER, None).0;
    let strays: Vec<FragmentKey> = world.disk.files.keys().skip(first.len()).copied().collect();
    owner.row.seq += 1;
    world.head(owner.hear());
    // None but one of the files is on the list.
    while let NodeReply::Retired { more: true, .. } = world.ask(owner.retire()) {}
    assert!(strays.iter().any(|stray| !world.disk.files.contains_key(stray)));
    let (names, _) = names_after(&mut world, PEER, first.last().copied());
    assert!(names.iter().all(|name| world.disk.files.contains_key(name)), "{} names", names.len());
}

#[test]
fn a_folder_that_cannot_be_synced_is_not_counted() {
    let (mut world, mut owner, _) = with(1);
    name_without_sync(&mut world, &owner.make(5000));
    world.disk.failing.push(("sync", StoreError::Io("cable".into())));
    let holdings = NodeRequest::Holdings { pg: PG, after: None };
    assert!(matches!(refused(&world.ask(holdings.clone())), Refusal::Unavailable(_)));
    assert!(matches!(world.ask(holdings), NodeReply::HoldingsPage { .. }));
}

#[test]
fn a_finding_is_kept_told_and_forgotten_when_the_fragment_is_sound_again() {
    let (mut world, _, made) = with(2);
    let (bad, fine) = (made[0].fragment(), made[1].fragment());
    spoil(&mut world, bad, "rot.payload");
    let found = NodeReply::Checked { class: "rot.payload".into(), healthy: false };
    assert_eq!(check(&mut world, bad), found);
    assert_eq!(check(&mut world, fine), NodeReply::Checked { class: "healthy".into(), healthy: true });
    assert!(world.node.is_damaged(bad) && !world.node.is_damaged(fine));
    let mut world = world.restart(false);
    assert!(world.node.is_damaged(bad), "a restart forgets no finding");
    spoil(&mut world, bad, "healthy");
    check(&mut world, bad);
    assert!(!world.node.is_damaged(bad));
    assert!(!world.restart(false).node.is_damaged(bad));
}

#[test]
fn absence_is_damage_where_the_row_expects_us_to_have_it() {
    let (mut world, mut owner, made) = with(1);
    let ours = made[0].fragment();
    world.disk.files.clear();
    let stranger = FragmentKey { index: 2, ..ours };
    assert_eq!(refused(&check(&mut world, stranger)), &Refusal::NotFound);
    assert!(!world.node.is_damaged(stranger));
    owner.row.behind.insert(DISK);
    owner.row.seq += 1;
    world.head(owner.hear());
    check(&mut world, ours);
    assert!(!world.node.is_damaged(ours), "excused");
    owner.row.behind.clear();
    owner.row.seq += 1;
    world.head(owner.hear());
    assert_eq!(check(&mut world, ours), NodeReply::Checked { class: "missing".into(), healthy: false });
    assert!(world.node.is_damaged(ours));
}

#[test]
fn a_finding_about_a_file_that_was_replaced_meanwhile_does_not_count() {
    let (mut world, mut owner, made) = with(1);
    let fragment = made[0].fragment();
    spoil(&mut world, fragment, "rot.payload");
    let key = StageKey { attempt: owner.attempt(), ..made[0].key() };
    world.stage_as(&owner, &made[0], key);
    // The check reads the old file; its finding comes when the new one is there.
    world.held = true;
    let id = world.send(NodeRequest::Check { fragment }, Body::new());
    let (op, call) = world.waiting.pop_front().unwrap();
    let old = world.disk.perform(call);
    world.held = false;
    assert_eq!(world.ask_with(owner.publish(key), made[0].record.clone()), NodeReply::Published);
    world.event(NodeEvent::Stored { op, result: old });
    assert_eq!(world.answer(id), Some(&NodeReply::Checked { class: "healthy".into(), healthy: true }));
    assert!(!world.node.is_damaged(fragment));
}

#[test]
fn a_scrub_that_was_asked_for_checks_all_one_at_a_time() {
    let (mut world, _, made) = with(3);
    let (rotten, lost) = (made[0].fragment(), made[2].fragment());
    spoil(&mut world, rotten, "rot.payload");
    world.disk.files.remove(&lost);
    world.disk.log.clear();
    world.held = true;
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    assert_eq!(world.waiting.len(), 1);
    // Asked for again meanwhile: another pass follows, since this one may have passed what is meant.
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    assert_eq!(world.waiting.len(), 1);
    world.release();
    assert_eq!(world.disk.log.iter().filter(|call| **call == "check").count(), 6);
    assert!(world.node.is_damaged(rotten) && world.node.is_damaged(lost));
    assert!(!world.node.is_damaged(made[1].fragment()));
}

#[test]
fn a_scrub_by_itself_takes_about_its_period_and_comes_again() {
    let (world, ..) = with(4);
    let config = NodeConfig { scrub_period: Some(Millis(4000)), ..config() };
    let mut world = World::boot(config, world.disk, Some(CELL));
    let checks = |world: &World| world.disk.log.iter().filter(|call| **call == "check").count();
    let before = checks(&world);
    let mut times = Vec::new();
    while times.len() < 8 {
        let done = checks(&world);
        let wake = world.wake.take().expect("nothing is waited for");
        world.tick_at(wake.as_millis());
        times.extend((done..checks(&world)).map(|_| wake.as_millis()));
        assert!(checks(&world) <= done + 1);
    }
    assert_eq!(checks(&world) - before, 8, "beside the one at the start");
    assert!((8000..=8100).contains(&(times[7] - 1000)), "two passes in {times:?}");
}

#[test]
fn where_the_door_is_is_told_without_a_look_at_the_disk() {
    let (mut world, ..) = with(1);
    world.disk.log.clear();
    assert_eq!(world.ask(NodeRequest::Door), NodeReply::Door { folder: "/disks/1".into() });
    assert!(world.disk.log.is_empty());
    let mut new = World::boot(config(), Disk::default(), None);
    assert!(matches!(refused(&new.ask(NodeRequest::Door)), Refusal::Unavailable(_)), "it gives nobody anything yet");
}

#[test]
fn info_costs_one_touch_of_the_disk_and_is_answered_before_there_is_a_cell() {
    let (mut world, ..) = with(3);
    world.event(NodeEvent::Room { free_bytes: 5, total_bytes: 9 });
    world.disk.log.clear();
    let info = NodeReply::Info { cell: Some(CELL), disk: DISK, boot: 77, extents: 3, free_bytes: 5 };
    assert_eq!(world.ask(NodeRequest::Info), info);
    assert_eq!(world.disk.log, ["touch"], "who asks whether we live does not wait for a look at every file");
    let mut new = World::boot(config(), Disk::default(), None);
    assert!(matches!(new.ask(NodeRequest::Info), NodeReply::Info { cell: None, .. }));
    let (mut owner, extent) = (Owner::new(), ExtentKey(0));
    let made = owner.make(1);
    for request in [owner.fence(), owner.stage(&made), NodeRequest::List { pg: PG, after: None }, NodeRequest::Scrub] {
        assert!(matches!(refused(&new.ask(request)), Refusal::Unavailable(_)));
    }
    let request = NodeRequest::Record { extent, hash: made.hash };
    assert!(matches!(refused(&new.ask(request)), Refusal::Unavailable(_)));
    assert_eq!(new.disk.log, ["touch"]);
}

#[test]
fn a_new_disk_gets_its_cell_before_it_serves() {
    let mut world = World::boot(config(), Disk::default(), None);
    world.event(NodeEvent::DaemonReached);
    let (number, register) = world.asked.pop().unwrap();
    let life = Life { number: 1, boot: 77 };
    assert!(
        matches!(register, DaemonRequest::RegisterLife { disk: DISK, cell: None, claim: Claim { had: None, life: first }, .. } if first == life)
    );
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    let (op, cell, stored) = world.cells.pop().unwrap();
    assert_eq!((cell, stored), (CELL, life));
    let owner = Owner::new();
    assert!(matches!(refused(&world.ask(owner.fence())), Refusal::Unavailable(_)));
    world.event(NodeEvent::Stored { op, result: Ok(StoreOk::Done) });
    assert!(world.head(owner.fence()).level);
    // Where the label could not be written it is asked for again.
    let mut world = World::boot(config(), Disk::default(), None);
    world.reach_daemon(Millis(100));
    let (op, ..) = world.cells.pop().unwrap();
    world.event(NodeEvent::Stored { op, result: Err(StoreError::Io("gone".into())) });
    assert!(!world.node.is_registered());
    world.tick_at(5000);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    assert_eq!(world.cells.len(), 1);
}

/// What the node shows of its lives, in the question it asked last.
fn shown(world: &mut World) -> (u64, Claim) {
    match world.asked.pop() {
        Some((number, DaemonRequest::RegisterLife { claim, .. })) => (number, claim),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_life_is_stored_before_it_is_shown_as_the_disks_and_followed_by_the_next() {
    let mut world = World::boot(NodeConfig { life_every: Millis(5_000), ..config() }, Disk::default(), Some(CELL));
    let welcome = DaemonReply::Welcome { cell: CELL, beat_every: Millis(60_000) };
    world.event(NodeEvent::DaemonReached);
    let span = world.node.life_span().0;
    assert!((3_750..=6_250).contains(&span) && span != 5_000, "{span}");
    let mut had = None;
    for number in 1..=3 {
        let life = Life { number, boot: 77 };
        let (question, claim) = shown(&mut world);
        assert_eq!(claim, Claim { had, life });
        world.daemon_says(question, welcome.clone());
        let (op, cell, stored) = world.cells.pop().unwrap();
        assert_eq!((cell, stored, world.asked.len()), (CELL, life, 0));
        // Not stored it is shown again, as one that is begun.
        world.event(NodeEvent::Stored { op, result: Err(StoreError::Io("gone".into())) });
        assert!(world.node.is_registered(), "the disk is what it was");
        world.tick_at(1000 + 10_000 * number);
        let (question, claim) = shown(&mut world);
        assert_eq!(claim, Claim { had, life });
        world.daemon_says(question, welcome.clone());
        let (op, ..) = world.cells.pop().unwrap();
        world.event(NodeEvent::Stored { op, result: Ok(StoreOk::Done) });
        let (question, claim) = shown(&mut world);
        assert_eq!(claim, Claim { had: Some(life), life });
        world.daemon_says(question, welcome.clone());
        assert!(world.cells.is_empty() && world.asked.is_empty());
        had = Some(life);
        world.tick_at(1000 + 10_000 * number + span - 1);
        assert!(world.asked.is_empty(), "too early");
        world.tick_at(1000 + 10_000 * number + span);
    }
}

#[test]
fn a_node_that_is_a_copy_serves_nobody_and_goes_on_asking() {
    let (mut world, owner, made) = with(70);
    world.event(NodeEvent::DaemonReached);
    let (number, _) = shown(&mut world);
    world.daemon_says(number, DaemonReply::Refused(Refusal::Duplicate("a copy".into())));
    let log = world.disk.log.len();
    let read = NodeRequest::Read { fragment: made[0].fragment(), offset: 0, bytes: 4096 };
    for request in [owner.fence(), owner.stage(&made[0]), read, NodeRequest::Scrub] {
        assert!(matches!(refused(&world.ask(request)), Refusal::Unavailable(_)));
    }
    assert_eq!(world.disk.log.len(), log);
    assert!(matches!(world.ask(NodeRequest::Info), NodeReply::Info { .. }));
    world.tick_at(100_000);
    let (number, _) = shown(&mut world);
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    assert!(world.head(owner.fence()).level);
}

#[test]
fn a_daemon_that_knows_no_lives_is_asked_as_before() {
    let mut world = World::new();
    world.event(NodeEvent::DaemonReached);
    let (number, _) = shown(&mut world);
    world.daemon_says(number, DaemonReply::Refused(Refusal::Invalid("no such message".into())));
    world.tick_at(5000);
    let (number, asked) = world.asked.pop().unwrap();
    assert!(matches!(asked, DaemonRequest::Register { disk: DISK, boot: 77, .. }), "{asked:?}");
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    assert_eq!((world.node.refusal(), world.node.is_registered()), (None, true));
    // The next connection may be to the next daemon.
    world.event(NodeEvent::DaemonReached);
    shown(&mut world);
}

#[test]
fn a_node_takes_the_number_it_is_given_and_says_until_it_is_heard_that_its_life_is_stored() {
    let mut world = World::new();
    world.event(NodeEvent::DaemonReached);
    let (number, _) = shown(&mut world);
    world.daemon_says(number, DaemonReply::WelcomeAs { cell: CELL, beat_every: Millis(100), life_number: 18 });
    let (op, _, life) = world.cells.pop().unwrap();
    assert_eq!(life, Life { number: 18, boot: 77 });
    world.event(NodeEvent::Stored { op, result: Ok(StoreOk::Done) });
    let kept = Claim { had: Some(life), life };
    for beat in 1..=3u64 {
        let (number, claim) = shown(&mut world);
        assert_eq!(claim, kept);
        world.event(NodeEvent::Daemon { number, result: Err(crate::wire::CallError::Timeout) });
        world.tick_at(1000 + 100 * beat);
        let beats = world.asked.iter().filter(|(_, asked)| matches!(asked, DaemonRequest::Beat { .. })).count();
        assert_eq!(beats as u64, beat);
        let at = world.asked.iter().position(|(_, asked)| matches!(asked, DaemonRequest::RegisterLife { .. }));
        let again = world.asked.remove(at.expect("it is said again"));
        world.asked.push(again);
    }
    let (number, _) = shown(&mut world);
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    world.tick_at(5000);
    assert!(world.asked.iter().all(|(_, asked)| matches!(asked, DaemonRequest::Beat { .. })));
}

#[test]
fn a_daemon_of_another_cell_is_not_served() {
    let mut world = World::new();
    world.event(NodeEvent::DaemonReached);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::Welcome { cell: CellKey(3), beat_every: Millis(100) });
    assert!(matches!(world.node.refusal(), Some(Refusal::WrongCell(_))));
    assert!(world.cells.is_empty() && !world.node.is_registered());
    // Refused by the daemon itself; asked again; taken.
    world.tick_at(5000);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::Refused(Refusal::Duplicate("two".into())));
    assert!(matches!(world.node.refusal(), Some(Refusal::Duplicate(_))));
    world.tick_at(10_000);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every: Millis(100) });
    assert_eq!((world.node.refusal(), world.node.is_registered()), (None, true));
}

#[test]
fn a_daemon_that_is_starting_or_stands_by_is_asked_again_soon_and_that_is_no_refusal() {
    for refusal in [Refusal::Unavailable("starting".into()), Refusal::NotOwner("another is in charge".into())] {
        let mut world = World::new();
        world.event(NodeEvent::DaemonReached);
        let (number, _) = world.asked.pop().unwrap();
        world.daemon_says(number, DaemonReply::Refused(refusal.clone()));
        assert_eq!((world.node.refusal(), world.node.is_registered()), (None, false), "{refusal}");
        world.tick_at(1100);
        assert!(matches!(world.asked.last(), Some((_, DaemonRequest::RegisterLife { .. }))), "{refusal}");
    }
}

#[test]
fn beats_come_as_often_as_the_daemon_said_and_it_may_ask_for_a_registration() {
    let mut world = World::new();
    world.reach_daemon(Millis(250));
    for beat in 1..=3u64 {
        assert_eq!(world.wake, Some(Time::from_millis(1000 + 250 * beat)));
        world.tick_at(1000 + 250 * beat - 1);
        assert_eq!(world.asked.len() as u64, beat - 1, "too early");
        world.tick_at(1000 + 250 * beat);
        assert_eq!(world.asked.len() as u64, beat);
    }
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::RegisterFirst);
    assert!(matches!(world.asked.last(), Some((_, DaemonRequest::RegisterLife { .. }))));
    // Silence ends nothing.
    let (number, _) = world.asked.pop().unwrap();
    world.event(NodeEvent::Daemon { number, result: Err(crate::wire::CallError::Timeout) });
    world.tick_at(9000);
    assert!(matches!(world.asked.last(), Some((_, DaemonRequest::RegisterLife { .. }))));
}

#[test]
fn damage_is_told_at_once_and_until_it_was_taken() {
    let (mut world, _, made) = with(70);
    world.reach_daemon(Millis(1000));
    spoil(&mut world, made[0].fragment(), "rot.header");
    check(&mut world, made[0].fragment());
    let report = DamageReport { fragment: made[0].fragment(), class: "rot.header".into() };
    assert_eq!(beats(&world), [vec![report.clone()]]);
    world.tick_at(2000);
    assert_eq!(beats(&world)[1], std::slice::from_ref(&report), "not answered yet");
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::BeatTaken);
    world.tick_at(3000);
    assert!(beats(&world).last().unwrap().is_empty());
    // A new daemon knows nothing of what the last one took.
    world.asked.clear();
    world.reach_daemon(Millis(1000));
    world.tick_at(4000);
    assert_eq!(beats(&world), [[report]]);
    // Much of it is told 64 at a time.
    for made in &made {
        spoil(&mut world, made.fragment(), "rot.payload");
        check(&mut world, made.fragment());
    }
    world.asked.clear();
    world.reach_daemon(Millis(1000));
    world.tick_at(5000);
    assert_eq!(beats(&world).last().unwrap().len(), 64);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::BeatTaken);
    world.tick_at(6000);
    assert_eq!(beats(&world).last().unwrap().len(), 6);
}

#[test]
fn an_attempt_without_an_end_is_asked_about() {
    let (mut world, mut owner, _) = with(0);
    let (dead, live) = (owner.make(5000), owner.make(5000));
    for made in [&dead, &live] {
        world.stage(&owner, made);
        world.ask_with(owner.prepare(made), made.record.clone());
    }
    world.reach_daemon(Millis(100_000));
    let asks = |world: &mut World| -> Vec<(u64, AttemptId)> {
        let asked = std::mem::take(&mut world.asked).into_iter();
        asked
            .filter_map(|(number, request)| match request {
                DaemonRequest::Ask { attempt, .. } => Some((number, attempt)),
                _ => None,
            })
            .collect()
    };
    world.tick_at(10_999);
    assert_eq!(asks(&mut world), []);
    assert_eq!(world.wake, Some(Time::from_millis(11_000)));
    world.tick_at(11_000);
    let asked = asks(&mut world);
    assert_eq!(asked.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(), [dead.attempt, live.attempt]);
    world.daemon_says(asked[0].0, DaemonReply::AttemptState(AttemptState::Aborted));
    world.daemon_says(asked[1].0, DaemonReply::AttemptState(AttemptState::Live));
    assert!(world.node.abort_marks(PG).unwrap().contains(&dead.attempt));
    assert!(world.disk.quarantine.contains(&dead.fragment()));
    assert_eq!(world.node.prepared(PG).unwrap().keys().collect::<Vec<_>>(), [&live.attempt]);
    world.tick_at(21_000);
    let asked = asks(&mut world);
    assert_eq!(asked.len(), 1, "again, and only about the other");
    // Committed: the bytes are kept until the owner says it with the row. Silence keeps them, too.
    world.daemon_says(asked[0].0, DaemonReply::AttemptState(AttemptState::Committed));
    assert!(world.disk.files.contains_key(&live.fragment()));
    let mut world = world.restart(false);
    assert!(world.node.prepared(PG).unwrap().contains_key(&live.attempt));
    owner.commit(&live);
    world.head(owner.hear());
    // What the list has is not taken off by a late word of the daemon.
    world.node.disown(PG, live.attempt);
    world.pump();
    assert!(world.disk.files.contains_key(&live.fragment()));
    assert!(world.node.list(PG).unwrap().contains_key(&live.extent));
}

#[test]
fn answers_to_nothing_are_ignored_and_nothing_is_done_before_the_boot() {
    let mut node = Node::new(NodeConfig::default());
    let owner = Owner::new();
    let (peer, id) = (PEER, RequestId(0));
    for event in [
        NodeEvent::Tick,
        NodeEvent::DaemonReached,
        NodeEvent::PeerGone { peer },
        NodeEvent::Stored { op: OpId(5), result: Ok(StoreOk::Done) },
        NodeEvent::Daemon { number: 5, result: Ok(DaemonReply::BeatTaken) },
        NodeEvent::Request { peer, id, request: owner.fence(), body: Body::new() },
    ] {
        node.handle(Time::ZERO, event);
    }
    assert!(matches!(
        node.poll_effect(),
        Some(NodeEffect::Reply { reply: NodeReply::Refused(Refusal::Unavailable(_)), .. })
    ));
    assert!(node.poll_effect().is_none());
    let mut world = World::new();
    let (op, number) = (OpId(u64::MAX), u64::MAX);
    world.event(NodeEvent::Stored { op, result: Err(StoreError::NotFound) });
    world.event(NodeEvent::Daemon { number, result: Ok(DaemonReply::RegisterFirst) });
    world.node.disown(PG, AttemptId { claim: ClaimId(1), number: 1 });
    assert!(world.replies.is_empty() && world.asked.is_empty() && world.disk.log.is_empty());
}

#[test]
fn a_store_that_takes_nothing_any_more_is_told_at_once_and_in_every_beat() {
    let mut world = World::new();
    world.reach_daemon(Millis(1000));
    let reason = "x".repeat(199) + "é, and much more";
    world.event(NodeEvent::Broken { reason });
    let told = |world: &mut World| -> Vec<Option<String>> {
        let asked = std::mem::take(&mut world.asked).into_iter();
        asked
            .filter_map(|(_, request)| match request {
                DaemonRequest::Beat { broken, .. } => Some(broken),
                _ => None,
            })
            .collect()
    };
    let broken = Some("x".repeat(199));
    assert_eq!(told(&mut world), std::slice::from_ref(&broken), "not with the next beat");
    world.tick_at(2000);
    assert_eq!(told(&mut world), std::slice::from_ref(&broken));
    // Another daemon takes it for sound until it hears better.
    world.reach_daemon(Millis(1000));
    assert_eq!(told(&mut world), [broken]);
}

#[test]
fn the_room_told_is_what_can_be_taken() {
    let headroom_bytes = 100_000;
    let mut world = World::boot(NodeConfig { headroom_bytes, ..config() }, Disk::default(), Some(CELL));
    let mut owner = Owner::new();
    world.head(owner.fence());
    let told = |world: &mut World| match world.ask(NodeRequest::Info) {
        NodeReply::Info { free_bytes, .. } => free_bytes,
        other => panic!("{other:?}"),
    };
    let made = owner.make(5000);
    for free_bytes in [0, headroom_bytes - 1, headroom_bytes, 2 * headroom_bytes] {
        world.event(NodeEvent::Room { free_bytes, total_bytes: 1 << 30 });
        let room = told(&mut world);
        assert_eq!(room, free_bytes.saturating_sub(headroom_bytes));
        let opened = world.ask(owner.stage(&made));
        assert_eq!(opened == NodeReply::StageOpen, room > 0, "{opened:?} with {room}");
    }
    // What was promised since the last measurement is not there any more.
    assert!(told(&mut world) < headroom_bytes);
    world.reach_daemon(Millis(10));
    world.tick_at(2000);
    let Some((_, DaemonRequest::Beat { free_bytes, .. })) = world.asked.pop() else { panic!("no beat") };
    assert_eq!(free_bytes, told(&mut world));
}

#[test]
fn a_store_without_room_is_told_as_full_whatever_was_measured() {
    let mut world = World::new();
    let mut owner = Owner::new();
    world.head(owner.fence());
    world.event(NodeEvent::Room { free_bytes: 1 << 40, total_bytes: 1 << 40 });
    world.reach_daemon(Millis(1000));
    let made = owner.make(5000);
    world.disk.failing.push(("open", StoreError::NoSpace("no inodes".into())));
    assert!(matches!(refused(&world.ask(owner.stage(&made))), Refusal::NoSpace(_)));
    let Some((_, DaemonRequest::Beat { free_bytes: 0, .. })) = world.asked.pop() else { panic!("not told at once") };
    world.event(NodeEvent::Room { free_bytes: 1 << 40, total_bytes: 1 << 40 });
    assert!(matches!(refused(&world.ask(owner.stage(&made))), Refusal::NoSpace(_)), "not tried");
    world.tick_at(12_000);
    assert_eq!(world.ask(owner.stage(&made)), NodeReply::StageOpen, "tried again after a while");
}
