//! What a node puts aside, in which pieces, and when it goes for good.

use super::testing::*;
use super::*;

/// A node with one extent and so many files that no list names.
fn with_strays(config: NodeConfig, count: usize) -> (World, Owner) {
    let (mut world, mut owner) = (World::boot(config, Disk::default(), Some(CELL)), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let file = world.disk.files[&made.fragment()].clone();
    for _ in 0..count {
        world.disk.files.insert(owner.make(5000).fragment(), file.clone());
    }
    (world, owner)
}

/// Another disk has taken this one's place.
fn replace(owner: &mut Owner) {
    owner.row.members[1] = DiskId(99);
    (owner.row.seq, owner.row.epoch) = (owner.row.seq + 1, owner.row.epoch + 1);
}

fn calls(world: &World, name: &str) -> usize {
    world.disk.log.iter().filter(|call| **call == name).count()
}

#[test]
fn a_big_disk_is_retired_in_pieces_each_of_which_somebody_can_wait_for() {
    for guest in [true, false] {
        let (mut world, mut owner) = with_strays(config(), 150);
        if guest {
            replace(&mut owner);
        }
        let all = world.disk.files.len();
        let (mut gone, mut pieces) = (0, 0);
        loop {
            world.disk.log.clear();
            let NodeReply::Retired { files, more } = world.ask(owner.retire()) else { panic!("not retired") };
            assert!(calls(&world, "quarantine") <= 64, "{} files in one call", calls(&world, "quarantine"));
            (gone, pieces) = (gone + files, pieces + 1);
            assert!(world.node.token(PG).is_some());
            if !more {
                break;
            }
        }
        assert_eq!((gone, pieces), (if guest { 151 } else { 150 }, 3));
        assert_eq!(world.disk.files.len(), all - gone as usize);
    }
}

#[test]
fn what_a_replaced_disk_had_is_kept_for_a_while_and_then_goes() {
    let config = NodeConfig { quarantine_for: Millis(60_000), ..config() };
    let (mut world, mut owner) = with_strays(config, 100);
    replace(&mut owner);
    while let NodeReply::Retired { more: true, .. } = world.ask(owner.retire()) {}
    assert_eq!((world.disk.files.len(), world.disk.quarantine.len()), (0, 101));
    world.tick_at(50_000);
    // Another life cannot tell since when.
    let mut world = world.restart(false);
    world.tick_at(60_500);
    assert_eq!(world.disk.quarantine.len(), 101, "its time is not over");
    let wake = world.wake.take().expect("it waits for the time");
    assert_eq!(wake, Time::from_millis(61_000));
    world.tick_at(wake.as_millis());
    assert_eq!(world.disk.quarantine.len(), 0);
    // That is remembered, too.
    let mut world = world.restart(false);
    world.disk.log.clear();
    world.tick_at(200_000);
    assert!(world.disk.log.is_empty(), "{:?}", world.disk.log);
}

#[test]
fn what_a_replaced_disk_had_stays_until_the_group_is_whole() {
    let (mut world, mut owner) = with_strays(NodeConfig { quarantine_for: Millis(1), ..config() }, 0);
    replace(&mut owner);
    owner.row.behind.insert(DISKS[2]);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    world.tick_at(100_000);
    assert_eq!(world.disk.quarantine.len(), 1);
    owner.row.behind.clear();
    owner.row.seq += 1;
    // Told twice, as where an answer was lost.
    for _ in 0..2 {
        assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 0, more: false });
    }
    world.tick_at(200_000);
    assert!(world.disk.quarantine.is_empty());
}

#[test]
fn a_disk_that_joins_again_keeps_what_it_is_given() {
    let config = NodeConfig { quarantine_for: Millis(60_000), ..config() };
    let (mut world, mut owner) = (World::boot(config, Disk::default(), Some(CELL)), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    replace(&mut owner);
    world.ask(owner.retire());
    owner.row.joining.insert(1, DISK);
    owner.trim();
    world.head(owner.fence());
    let listed = vec![crate::wire::node::Listed { extent: made.extent, hash: made.hash }];
    let (authority, tombstones) = (owner.authority(), Vec::new());
    world.ask(NodeRequest::Adopt { authority, page: 0, last: true, listed, tombstones });
    let key = StageKey { attempt: owner.attempt(), ..made.key() };
    world.stage_as(&owner, &made, key);
    assert_eq!(world.ask_with(owner.publish(key), made.record.clone()), NodeReply::Published);
    for _ in 0..2 {
        world.tick_at(500_000);
        assert!(world.disk.files.contains_key(&made.fragment()));
        world = world.restart(false);
    }
}

#[test]
fn a_long_sweep_lets_others_have_their_turn() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made: Vec<Made> = (0..100).map(|_| world.create(&mut owner)).collect();
    for made in &made {
        let attempt = owner.attempt();
        world.ask(owner.prepare_delete(made, attempt));
        owner.commit_delete(made, attempt);
    }
    world.held = true;
    let heard = world.send(owner.hear(), Body::new());
    let again = world.send(owner.hear(), Body::new());
    let mut waited = 0;
    while world.answer(again).is_none() {
        world.perform(0);
        waited += 1;
    }
    assert!(world.answer(heard).is_some() && waited < 60, "{waited} operations before somebody was answered");
    world.release();
    assert!(world.disk.files.is_empty(), "all go in the end");
    owner.trim();
    world.head(owner.hear());
    assert!(world.disk.quarantine.is_empty());
}
