//! The walk over everything: in its time, not faster than allowed, and on from where it was.

use super::testing::*;
use super::*;
use crate::wire::DaemonRequest;
use ec_core::fragment::ExtentRecord;

/// A node that owes some fragments and scrubs by itself in this time.
fn scrubbing(fragments: usize, period: Millis) -> (World, Owner, Vec<Made>) {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = (0..fragments).map(|_| world.create(&mut owner)).collect();
    let config = NodeConfig { scrub_period: Some(period), ..config() };
    let mut world = World::boot(config, world.disk, Some(CELL));
    world.disk.log.clear();
    (world, owner, made)
}

/// Comes to the next moment that the node waits for.
fn wake(world: &mut World) {
    let wake = world.wake.take().expect("nothing is waited for");
    world.tick_at(wake.as_millis().max(world.now.as_millis()));
}

/// The next fragment that is checked; the check is performed after `millis`.
fn next_checked(world: &mut World, millis: u64) -> FragmentKey {
    world.held = true;
    loop {
        match world.waiting.front() {
            Some((_, StoreCall::Check { fragment, .. })) => {
                let fragment = *fragment;
                world.now = world.now + Millis(millis);
                world.perform(0);
                return fragment;
            }
            Some(_) => world.perform(0),
            None => wake(world),
        }
    }
}

fn calls(world: &World, name: &str) -> usize {
    world.disk.log.iter().filter(|call| **call == name).count()
}

/// Something at a name, durably.
fn put(world: &mut World, fragment: FragmentKey, made: &Made, class: &str) {
    let identity = ExtentRecord::parse(&made.record).unwrap().fragments[1].identity;
    let (payload, record) = (made.payload.clone(), made.record.clone());
    world.disk.files.insert(fragment, File { payload, record, class: class.into(), identity, durable: true });
}

#[test]
fn a_pass_goes_on_after_a_restart_where_it_was() {
    let (_, _, made) = scrubbing(6, Millis(600_000));
    let (mut world, ..) = scrubbing(6, Millis(600_000));
    // The boot has begun the first.
    for expected in &made[1..4] {
        assert_eq!(next_checked(&mut world, 0), expected.fragment());
    }
    world.release();
    let mut world = world.restart(false);
    let begin = world.now;
    let mut seen = Vec::new();
    // One hundred seconds each: the fourth was judged and may not have been noted, the third was.
    while seen.last() != Some(&made[5].fragment()) {
        world.wake = world.wake.or(Some(world.now));
        seen.push(next_checked(&mut world, 0));
    }
    assert!(!seen.contains(&made[1].fragment()) && seen.len() <= 2, "{seen:?}");
    assert!(world.now.since(begin) <= Millis(250_000), "at the speed of a whole pass");
    // Through: the next pass is another one, also for a node that starts anew.
    world.release();
    while calls(&world, "list") == 0 {
        wake(&mut world);
    }
    world.held = true;
    let mut world = world.restart(false);
    world.held = true;
    world.disk.log.clear();
    assert!(world.node.groups[&PG].ledger.scrubbed.is_some_and(|(pass, after)| pass == 1 && after.is_none()));
    assert_eq!(next_checked(&mut world, 0), made[1].fragment(), "behind the first, which the boot has begun");
}

#[test]
fn the_place_of_a_pass_costs_one_record_a_minute() {
    let (mut world, ..) = scrubbing(600, Millis(300_000));
    for _ in 0..599 {
        next_checked(&mut world, 0);
    }
    world.release();
    let records = calls(&world, "append") + calls(&world, "replace");
    assert!((3..=6).contains(&records), "{records} records in five minutes");
    assert!(world.node.groups[&PG].ledger.scrubbed.is_some());
}

#[test]
fn who_is_late_hurries_and_the_pass_ends_in_its_period() {
    let (mut world, ..) = scrubbing(20, Millis(20_000));
    let begin = world.now;
    // Ten that take thrice their time, then quick ones.
    for at in 0..19 {
        next_checked(&mut world, if at < 5 { 2900 } else { 10 });
    }
    let took = world.now.since(begin);
    assert!((15_000..=20_500).contains(&took.0), "{took:?}");
}

#[test]
fn no_more_bytes_are_read_than_allowed_also_where_somebody_asked() {
    let (world, ..) = scrubbing(9, Millis(1));
    let config = NodeConfig { scrub_bytes_per_second: 1000, ..config() };
    let mut world = World::boot(config, world.disk, Some(CELL));
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    let begin = world.now;
    while calls(&world, "list") == 0 {
        wake(&mut world);
    }
    // Nine of 4096 bytes, one second's worth of them for nothing.
    let took = world.now.since(begin).0;
    assert!((35_864..37_000).contains(&took), "{took} ms");
}

#[test]
fn what_nothing_names_is_judged_counted_and_left_where_it_is() {
    let (mut world, mut owner, made) = scrubbing(2, Millis(4000));
    world.reach_daemon(Millis(1_000_000));
    let ours = made[0].fragment();
    let strays = [FragmentKey { generation: 2, ..ours }, FragmentKey { index: 2, ..ours }, owner.make(5000).fragment()];
    for (stray, class) in strays.iter().zip(["healthy", "rot.payload", "healthy"]) {
        put(&mut world, *stray, &made[0], class);
    }
    // One that is prepared is no stray.
    let prepared = owner.make(5000);
    world.stage(&owner, &prepared);
    world.ask_with(owner.prepare(&prepared), prepared.record.clone());
    world.asked.clear();
    while !world.said.iter().any(|notice| matches!(notice, Notice::Orphans { .. })) {
        wake(&mut world);
    }
    let mut said: Vec<_> = world
        .said
        .iter()
        .filter_map(|notice| match notice {
            Notice::Orphan { fragment, class } => Some((*fragment, class.as_str())),
            _ => None,
        })
        .collect();
    said.sort_unstable();
    let mut expected: Vec<_> = strays.into_iter().zip(["orphan.newer", "rot.payload", "healthy"]).collect();
    expected.sort_unstable();
    assert_eq!(said, expected);
    assert_eq!(world.said.last(), Some(&Notice::Orphans { files: 3, damaged: 1 }));
    assert!(strays.iter().all(|stray| world.disk.files.contains_key(stray)) && world.disk.quarantine.is_empty());
    let told = |request: &DaemonRequest| matches!(request, DaemonRequest::Beat { damaged, .. } if !damaged.is_empty());
    assert!(!world.asked.iter().any(|(_, request)| told(request)), "the daemon takes such for damage");
}
