//! What a finding means by the list; a disk that acknowledged what it does not have.

use super::testing::*;
use super::*;
use crate::wire::DaemonRequest;
use crate::wire::node::NodeState;

fn with(count: usize) -> (World, Owner, Vec<Made>) {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = (0..count).map(|_| world.create(&mut owner)).collect();
    world.reach_daemon(Millis(1000));
    (world, owner, made)
}

/// What a check says of a fragment whose bytes are of this class.
fn class(world: &mut World, fragment: FragmentKey, class: &str) -> String {
    world.disk.files.get_mut(&fragment).unwrap().class = class.into();
    match world.ask(NodeRequest::Check { fragment }) {
        NodeReply::Checked { class, healthy } => {
            assert_eq!(healthy, class == "healthy");
            class
        }
        other => panic!("{other:?}"),
    }
}

fn room(world: &mut World) -> u64 {
    world.event(NodeEvent::Room { free_bytes: 1 << 30, total_bytes: 1 << 40 });
    match world.ask(NodeRequest::Info) {
        NodeReply::Info { free_bytes, .. } => free_bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_list_says_whether_what_is_torn_was_ever_promised() {
    let (mut world, mut owner, made) = with(1);
    let ours = made[0].fragment();
    let file = world.disk.files[&ours].clone();
    // Neither of these was: another index, an extent that nothing names, one that is prepared.
    let prepared = owner.make(5000);
    world.stage(&owner, &prepared);
    world.ask_with(owner.prepare(&prepared), prepared.record.clone());
    let strays = [FragmentKey { index: 2, ..ours }, owner.make(5000).fragment(), prepared.fragment()];
    for stray in &strays[..2] {
        world.disk.files.insert(*stray, file.clone());
    }
    for torn in ["torn.committed", "torn.uncommitted"] {
        assert_eq!(class(&mut world, ours, torn), "torn.committed");
        for stray in strays {
            assert_eq!(class(&mut world, stray, torn), "torn.uncommitted", "{stray:?}");
        }
    }
    assert!(world.node.is_damaged(ours) && !strays.iter().any(|stray| world.node.is_damaged(*stray)));
    // A class that the bytes do tell stays.
    assert_eq!(class(&mut world, strays[0], "rot.footer"), "rot.footer");
    assert_eq!(class(&mut world, ours, "rot.footer"), "rot.footer");
}

#[test]
fn a_whole_file_of_another_generation_is_stale_or_newer_and_the_newer_one_is_not_put_aside() {
    let (mut world, mut owner, made) = with(1);
    let ours = made[0].fragment();
    let file = world.disk.files[&ours].clone();
    let (older, newer) = (FragmentKey { generation: 0, ..ours }, FragmentKey { generation: 2, ..ours });
    let unknown = FragmentKey { generation: 2, ..owner.make(5000).fragment() };
    for stray in [older, newer, unknown] {
        world.disk.files.insert(stray, file.clone());
    }
    for found in ["healthy", "conflict"] {
        assert_eq!(class(&mut world, older, found), "stale");
        assert_eq!(class(&mut world, newer, found), "orphan.newer");
        assert_eq!(class(&mut world, unknown, found), found, "nothing is known of it");
    }
    assert_eq!(class(&mut world, ours, "conflict"), "conflict");
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert!(!world.disk.files.contains_key(&older) && world.disk.files.len() == 3);
    // Nor when the disk leaves the group.
    owner.row.members[1] = DiskId(99);
    (owner.row.seq, owner.row.epoch) = (owner.row.seq + 1, owner.row.epoch + 1);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert!(world.disk.files.contains_key(&newer) && world.disk.files.contains_key(&unknown));
}

#[test]
fn a_disk_that_lied_twice_takes_nothing_new_until_somebody_vouches_for_it() {
    let (mut world, mut owner, made) = with(3);
    class(&mut world, made[0].fragment(), "torn.committed");
    class(&mut world, made[0].fragment(), "torn.committed");
    assert_eq!(world.said, [Notice::Torn { fragment: made[0].fragment(), total: 1 }], "one, however often it is met");
    assert!(room(&mut world) > 0);
    // On its way when the second one is found.
    let late = owner.make(5000);
    world.stage(&owner, &late);
    world.asked.clear();
    class(&mut world, made[1].fragment(), "torn.uncommitted");
    assert!(matches!(&world.said[1..], [Notice::Torn { total: 2, .. }, Notice::Distrusted { .. }]), "{:?}", world.said);
    let told = world.asked.iter().any(|(_, request)| matches!(request, DaemonRequest::Beat { free_bytes: 0, .. }));
    assert!(told, "the daemon does not hear of it: {:?}", world.asked);
    let reply = world.ask_with(owner.prepare(&late), late.record.clone());
    assert!(matches!(refused(&reply), Refusal::NoSpace(_)));
    // What it owes it may have back; that it was healed makes nothing better.
    let key = StageKey { attempt: owner.attempt(), ..made[0].key() };
    world.stage_as(&owner, &made[0], key);
    assert!(matches!(world.ask_with(owner.publish(key), made[0].record.clone()), NodeReply::Published));
    assert!(!world.node.is_damaged(made[0].fragment()));
    for life in 0..2 {
        let NodeReply::Health(health) = world.ask(NodeRequest::Health) else { panic!("no health") };
        assert!(matches!(health.state, NodeState::Fenced { .. }), "{health:?}");
        assert!(life == 0 || matches!(world.said[..], [Notice::Distrusted { .. }]), "{:?}", world.said);
        assert_eq!(room(&mut world), 0, "{life}");
        let reply = world.ask(owner.stage(&owner.clone().make(5000)));
        assert!(matches!(refused(&reply), Refusal::NoSpace(_)), "{reply:?}");
        let read = NodeRequest::Read { fragment: made[2].fragment(), offset: 0, bytes: 4096 };
        assert!(matches!(world.ask(read), NodeReply::Data { .. }), "what it has it gives");
        world = world.restart(false);
        world.head(owner.fence());
    }
    let config = NodeConfig { trust_disk: true, ..config() };
    let mut world = World::boot(config, world.disk, Some(CELL));
    world.head(owner.fence());
    assert!(room(&mut world) > 0);
    world.create(&mut owner);
    // It is not vouched for once more by a start that does not say so.
    let mut world = world.restart(false);
    world.head(owner.fence());
    assert!(room(&mut world) > 0);
    world.create(&mut owner);
}

#[test]
fn a_fragment_that_is_read_now_and_then_is_one_lie() {
    let (mut world, _, made) = with(1);
    for found in ["torn.committed", "unreadable", "torn.committed", "rot.payload", "torn.uncommitted"] {
        class(&mut world, made[0].fragment(), found);
    }
    assert_eq!(world.said, [Notice::Torn { fragment: made[0].fragment(), total: 1 }]);
    // Sound again, and then torn again: that is another one.
    class(&mut world, made[0].fragment(), "healthy");
    class(&mut world, made[0].fragment(), "torn.committed");
    assert!(
        matches!(world.said[..], [_, Notice::Torn { total: 2, .. }, Notice::Distrusted { .. }]),
        "{:?}",
        world.said
    );
}

#[test]
fn a_damaged_journal_counts_too() {
    let (world, _, _) = with(2);
    let torn = vec![JournalFile { pg: PG, bytes: Err("sector".into()) }];
    let mut world = World::boot_with(config(), world.disk, Some(CELL), torn);
    assert!(room(&mut world) > 0 && world.said.is_empty(), "once may be an accident");
    assert_eq!(world.node.groups[&PG].ledger.torn, 1);
}

#[test]
fn a_disk_that_lied_takes_over_no_place_of_another() {
    let (mut world, mut owner, made) = with(2);
    class(&mut world, made[0].fragment(), "torn.committed");
    class(&mut world, made[1].fragment(), "torn.committed");
    // It was replaced, and comes back as the one that joins.
    owner.row.members[1] = DiskId(99);
    owner.row.joining = [(1, DISK)].into();
    (owner.row.seq, owner.row.epoch) = (owner.row.seq + 1, owner.row.epoch + 1);
    assert!(world.head(owner.hear()).level);
    let key = StageKey { attempt: owner.attempt(), ..made[0].key() };
    let reply = world.ask(owner.stage_as(&made[0], key));
    assert!(matches!(refused(&reply), Refusal::NoSpace(_)), "{reply:?}");
}
