//! Turns, budgets, laziness, and what is told of them, in a cell in memory.

use super::CoordinatorConfig;
use super::agenda::Wait;
use super::testing::{World, hasty};
use super::tests::{A, data, locate};
use super::view::lost_of;
use crate::budget::{BudgetConfig, Charges, Resource, Scope, Side};
use crate::id::{DiskId, ExtentKey, StreamKey};
use crate::risk::margin;
use crate::rng::Dice;
use crate::time::Millis;
use crate::wire::DaemonRequest;
use crate::wire::daemon::Subject;
use ec_core::Code;
use std::collections::BTreeMap;

fn config(code: &str) -> CoordinatorConfig {
    CoordinatorConfig { code: Some(code.parse().unwrap()), ..hasty() }
}

fn put_all(world: &mut World, lengths: &[usize]) -> Vec<ExtentKey> {
    let put = |(at, length): (usize, &usize)| {
        world.put(StreamKey(at as u128 + 50), &format!("n{at}"), &data(*length, at as u64)).extent
    };
    let extents = lengths.iter().enumerate().map(put).collect();
    world.settle();
    extents
}

fn explain(world: &mut World, extent: ExtentKey) -> serde_json::Value {
    world.report(DaemonRequest::Explain { subject: Subject::Extent(extent) })
}

fn index_on(world: &mut World, extent: ExtentKey, disk: DiskId) -> Option<usize> {
    locate(world, extent).slots.iter().position(|slot| slot[0].disk == disk)
}

/// A cell of one group.
fn small(code: &str, disks: u128, change: impl FnOnce(&mut CoordinatorConfig)) -> World {
    let mut config = CoordinatorConfig { slots_per_disk: 1, ..config(code) };
    change(&mut config);
    World::new(disks, config)
}

#[test]
fn what_is_read_comes_before_what_is_smaller_and_explain_says_by_which_key() {
    let mut world = small("rs:4+2", 7, |config| config.repairs_max = 1);
    let extents = put_all(&mut world, &[100, 200, 60_000, 300, 400, 500, 600, 700]);
    let read = extents[2];
    let disk = locate(&mut world, read).slots[1][0].disk;
    let affected = extents.iter().filter(|extent| index_on(&mut world, **extent, disk).is_some()).count();
    assert!(affected > 3);
    world.kill_node(disk);
    world.until("it is queued", |world| world.coordinator().risk_of(read).is_some());
    let before = explain(&mut world, read);
    assert_eq!((&before["turn"]["class"], &before["turn"]["blocked_reads"]), (&1.into(), &0.into()));
    locate(&mut world, read);
    locate(&mut world, read);
    let turn = explain(&mut world, read)["turn"].clone();
    assert_eq!((&turn["margin_in_domains"], &turn["blocked_reads"]), (&1.into(), &2.into()));
    assert!(turn["at_risk_ms"].as_u64().is_some() && turn["bytes"].as_u64() == Some(16 << 10), "{turn}");
    // One may have begun before.
    let begun = world.repairs.len();
    let order: Vec<ExtentKey> = (0..affected).map(|_| world.repair_one().extent).collect();
    assert!(begun < 2 && order[begun] == read, "{order:?}");
    world.settle();
    assert_eq!(explain(&mut world, read)["turn"], serde_json::Value::Null);
}

/// One group in three racks, and a node more.
fn crowded(code: &str, disks: u128) -> World {
    let mut world = World::new(0, CoordinatorConfig { slots_per_disk: 1, ..config(code) });
    for number in 1..=disks {
        world.add_node(DiskId(number), format!("r/z/rack{}/node{number}", number % 3));
    }
    world.until("all are here", |world| world.healthy() == disks as usize);
    world
}

#[test]
fn a_rack_from_the_end_is_not_paused_and_planned_in_its_turn() {
    let mut world = crowded("rs:6+3", 9);
    let [first, second] = put_all(&mut world, &[1_000; 2])[..] else { panic!() };
    world.ask(DaemonRequest::PauseRepairs { paused: true });
    damage(&mut world, first, 0);
    world.until("it is rebuilt, pause or not", |world| world.repairs.len() == 1);
    assert!(world.coordinator().status().waits.iter().any(|wait| wait.contains("paused by an operator: 0 extents")));
    world.pass(Millis(11_000));
    // Both fragments of one rack, which is one loss too.
    let rack = |disk: DiskId| disk.0 % 3;
    let places: Vec<DiskId> = locate(&mut world, second).slots.iter().map(|slot| slot[0].disk).collect();
    let other = (1..9).find(|at| rack(places[*at]) == rack(places[0])).unwrap();
    damage(&mut world, second, 0);
    damage(&mut world, second, other as u16);
    world.until("both are known", |world| {
        world.coordinator().groups[&second.pg()].view.needs.get(&second).is_some_and(|need| need.targets.len() == 2)
    });
    let plan = world.report(DaemonRequest::PlanRepairs);
    let planned =
        |at: usize| (plan["repairs"][at]["extent"].as_str().unwrap().to_owned(), plan["repairs"][at]["margin"].clone());
    assert_eq!([planned(0), planned(1)], [(first.to_string(), 2.into()), (second.to_string(), 1.into())], "{plan}");
    world.settle();
}

#[test]
fn a_window_is_not_waited_for_by_what_survives_no_further_rack() {
    let mut world = crowded("rs:6+3", 12);
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[0][0].disk;
    world.report(DaemonRequest::Maintain { node: disk.to_string(), span: Some(Millis(60 * 60 * 1_000)) });
    world.kill_node(disk);
    world.until("it is rebuilt elsewhere", |world| !world.repairs.is_empty());
    assert_eq!(world.repair_one().extent, extent);
}

#[test]
fn moves_are_paused_however_few_racks_there_are() {
    let mut world = crowded("rs:6+3", 12);
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[0][0].disk;
    world.ask(DaemonRequest::PauseRepairs { paused: true });
    world.report(DaemonRequest::Drain { node: disk.to_string(), leaves: false });
    world.until("a move is wanted", |world| world.coordinator().risk_of(extent).is_some());
    assert_eq!(world.coordinator().risk_of(extent).unwrap().margin, 1);
    world.pass(Millis(10_000));
    assert!(world.repairs.is_empty());
    world.ask(DaemonRequest::PauseRepairs { paused: false });
    world.settle();
}

#[test]
fn a_rack_with_two_fragments_counts_as_one_loss() {
    let mut world = World::new(0, CoordinatorConfig { slots_per_disk: 1, ..config("rs:4+2") });
    for number in 1..=6u128 {
        world.add_node(DiskId(number), format!("r/z/rack{}/node{number}", number % 3));
    }
    world.until("all are here", |world| world.healthy() == 6);
    let extent = world.put(A, "a", &data(1_000, 1)).extent;
    let fragment = crate::wire::node::FragmentKey { extent, generation: 1, index: 0 };
    let disk = locate(&mut world, extent).slots[0][0].disk;
    world.nodes.get_mut(&disk).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    world.ask(DaemonRequest::Suspect { disk, fragment, reason: "CRC".into() });
    world.until("it is queued", |world| world.coordinator().risk_of(extent).is_some());
    let why = explain(&mut world, extent);
    // One fragment more may go, and no rack: the others have two each.
    assert_eq!((&why["margin"], &why["turn"]["margin_in_domains"]), (&1.into(), &0.into()));
    assert_eq!(why["turn"]["class"], 0);
}

#[test]
fn budgets_hold_repairs_back_at_their_rate_and_say_so() {
    let rate = 4_096;
    let mut world = small("rs:4+2", 7, |config| {
        config.budget = BudgetConfig {
            disk_bytes_per_second: rate,
            burst: Millis(1_000),
            borrow: Millis(0),
            ..BudgetConfig::default()
        };
    });
    let extents = put_all(&mut world, &[1_000; 16]);
    let disk = locate(&mut world, extents[0]).slots[2][0].disk;
    world.kill_node(disk);
    world.until("the first begins", |world| !world.repairs.is_empty());
    let began = world.now;
    world.pass(Millis(100));
    let status = world.coordinator().status();
    let limited = status.repairs.outlook.limited_by.clone().unwrap();
    assert!(limited.contains("the budget of disk") && limited.ends_with("extents wait for it"), "{limited}");
    let named = |wait: &String| wait.contains("extents to be rebuilt: no budget at disk");
    assert!(status.waits.iter().any(named), "{:?}", status.waits);
    let waiting: Vec<ExtentKey> =
        extents.iter().copied().filter(|extent| waits_for_budget(&mut world, *extent)).collect();
    assert!(waiting.len() > 3, "{waiting:?}");
    // What each resource gave, as explained of each repair under way.
    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    let mut ended = world.now;
    while !world.coordinator().idle() {
        let Some(running) = world.repairs.front().map(|(_, spec)| spec.extent) else {
            world.pass(Millis(20));
            continue;
        };
        let charges = explain(&mut world, running)["charges"].clone();
        assert_eq!(charges.as_array().unwrap().len(), 3 * 5, "disk, node, rack of four sources and a target");
        for charge in charges.as_array().unwrap() {
            *taken.entry(charge["of"].as_str().unwrap().to_owned()).or_default() += charge["bytes"].as_u64().unwrap();
        }
        ended = world.now;
        world.repair_one();
    }
    let disks = taken.iter().filter(|(of, _)| of.starts_with("disk"));
    let (most, bytes) = disks.max_by_key(|(_, bytes)| **bytes).unwrap();
    let (least, seconds) = ((bytes / rate - 1) as f64, ended.since(began).0 as f64 / 1_000.0);
    assert!(
        most.contains("disk") && least > 6.0 && (least - 0.1..least + 6.0).contains(&seconds),
        "{most}: {least} {seconds}"
    );
    assert_eq!(world.coordinator().agenda.len(), 0);
}

fn waits_for_budget(world: &mut World, extent: ExtentKey) -> bool {
    explain(world, extent)["waits"].to_string().contains("no budget at disk")
}

#[test]
fn what_could_lose_no_more_passes_those_that_wait_for_the_same_budget() {
    let mut world = small("rs:4+2", 9, |config| {
        config.budget = BudgetConfig {
            disk_bytes_per_second: 1_024,
            burst: Millis(4_000),
            borrow: Millis(4_000),
            ..BudgetConfig::default()
        };
        config.repairs_max = 64;
    });
    let extents = put_all(&mut world, &[1_000; 24]);
    let of_group = |extent: &ExtentKey| extents.iter().filter(|other| other.pg() == extent.pg()).count();
    let fullest = *extents.iter().max_by_key(|extent| of_group(extent)).unwrap();
    let disk = locate(&mut world, fullest).slots[2][0].disk;
    world.kill_node(disk);
    world.until("the first begins", |world| !world.repairs.is_empty());
    world.pass(Millis(50));
    let group: Vec<ExtentKey> = extents.iter().copied().filter(|extent| extent.pg() == fullest.pg()).collect();
    // Of the last of those that wait another fragment is found to be bad.
    let dying = *group.iter().rev().find(|extent| waits_for_budget(&mut world, **extent)).unwrap();
    let fragment = crate::wire::node::FragmentKey { extent: dying, generation: 1, index: 0 };
    let holder = locate(&mut world, dying).slots[0][0].disk;
    world.nodes.get_mut(&holder).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    world.ask(DaemonRequest::Suspect { disk: holder, fragment, reason: "CRC".into() });
    world.until("it is known", |world| world.coordinator().risk_of(dying).is_some_and(|risk| risk.margin == 0));
    let is_waiting = |world: &mut World| -> Vec<ExtentKey> {
        group.iter().copied().filter(|extent| waits_for_budget(world, *extent)).collect()
    };
    let others = is_waiting(&mut world);
    assert!(others.contains(&dying) && others.len() > 2, "{others:?}");
    let next = loop {
        let begun = world.repairs.iter().map(|(_, spec)| spec.extent).find(|extent| others.contains(extent));
        match begun {
            Some(extent) => break extent,
            None if world.repairs.is_empty() => world.pass(Millis(20)),
            None => drop(world.repair_one()),
        }
    };
    assert_eq!(next, dying);
    world.settle();
}

#[test]
fn lazy_repair_waits_for_further_losses_for_a_read_or_for_its_time() {
    let lazy = |config: &mut CoordinatorConfig| {
        config.lazy_margins = vec![("rs:4+3".parse().unwrap(), 1)];
        config.lazy_wait = Millis(60_000);
    };
    // Until its time is over.
    let mut world = small("rs:4+3", 10, lazy);
    let extent = put_all(&mut world, &[1_000])[0];
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[0][0].disk);
    world.pass(Millis(30_000));
    assert!(world.repairs.is_empty());
    let status = world.coordinator().status();
    assert!(status.waits.iter().any(|wait| wait.contains("lazy_margin")), "{:?}", status.waits);
    assert_eq!((status.repairs.eta_seconds, status.repairs.outlook.left_bytes), (None, 0));
    assert!(explain(&mut world, extent)["waits"].to_string().contains("lazy_margin"));
    world.pass(Millis(60_000));
    assert_eq!(world.repairs.len(), 1);
    // What it was let wait raises it over nobody.
    let turn = explain(&mut world, extent)["turn"].clone();
    let of = |field: &str| turn[field].as_u64().unwrap();
    assert!(of("at_risk_ms") - of("waits_ms") >= 60_000, "{turn}");
    // Until another loss leaves it with less: one reading rebuilds both.
    let mut world = small("rs:4+3", 10, lazy);
    let extent = put_all(&mut world, &[1_000])[0];
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[5][0].disk);
    world.pass(Millis(15_000));
    assert!(world.repairs.is_empty());
    world.kill_node(slots[6][0].disk);
    world.pass(Millis(15_000));
    assert_eq!(world.repairs[0].1.targets.keys().copied().collect::<Vec<_>>(), [5, 6]);
    // Until it is read. A reader of what is whole does not count.
    let mut world = small("rs:4+3", 10, lazy);
    let extent = put_all(&mut world, &[1_000])[0];
    locate(&mut world, extent);
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[0][0].disk);
    world.pass(Millis(15_000));
    assert!(world.repairs.is_empty());
    locate(&mut world, extent);
    world.pass(Millis(100));
    assert_eq!(world.repairs.len(), 1);
}

#[test]
fn the_time_left_is_told_within_a_fifth() {
    time_left_is_told(|_, _| {});
}

#[test]
fn what_fails_for_ever_does_not_spoil_the_time_left_of_what_comes_later() {
    time_left_is_told(|world, extents| {
        damage(world, extents[0], 5);
        // Long after the first try there is another loss; all is tried then.
        for try_ in 0..7 {
            assert_eq!(fail_one(world, &format!("busy for the {try_}. time")), extents[0]);
        }
        world.pass(Millis(30_000));
        assert!(world.repairs.is_empty() && world.coordinator().agenda.waiting_for(&Wait::PutOff) == 1);
    });
}

/// Between the first and the last repair after a loss, told at 25, 50 and 75 %. `before` that something may have happened.
fn time_left_is_told(before: impl FnOnce(&mut World, &[ExtentKey])) {
    let mut world = small("rs:4+2", 7, |config| {
        config.budget = BudgetConfig {
            disk_bytes_per_second: 16_384,
            burst: Millis(1_000),
            borrow: Millis(0),
            ..BudgetConfig::default()
        };
    });
    let mut dice = Dice::new(9);
    let lengths: Vec<usize> = (0..80).map(|_| 1 + dice.below(60_000) as usize).collect();
    let extents = put_all(&mut world, &lengths);
    // Every disk tells how it is without repairs.
    world.pass(Millis(20_000));
    before(&mut world, &extents);
    let disk = locate(&mut world, extents[0]).slots[3][0].disk;
    world.kill_node(disk);
    let wanted = |world: &World| world.coordinator().agenda.len() + world.coordinator().repairs.running.len();
    world.until("what is lost is known and the first begins", |world| wanted(world) > 10 && !world.repairs.is_empty());
    // (part done, when, seconds left as told, band)
    let mut told: Vec<(usize, crate::time::Time, f64, (f64, f64))> = Vec::new();
    let total = world.coordinator().outlook().0.left_bytes;
    while !world.coordinator().idle() {
        let status = world.coordinator().status().repairs;
        let done = 100 - (status.outlook.left_bytes * 100 / total) as usize;
        for part in [25, 50, 75] {
            if done >= part && told.iter().all(|told| told.0 != part) {
                assert!(status.outlook.limited_by.unwrap().contains("the budget of disk"));
                told.push((part, world.now, status.eta_seconds.unwrap(), status.outlook.eta_band_seconds.unwrap()));
                break;
            }
        }
        if world.repairs.is_empty() {
            world.pass(Millis(20));
        } else {
            world.repair_one();
        }
    }
    assert_eq!(told.len(), 3, "{told:?}");
    for (part, at, left, (least, most)) in told {
        let truly = world.now.since(at).0 as f64 / 1_000.0;
        assert!((left / truly - 1.0).abs() < 0.2, "at {part} %: {left} told, {truly} in truth");
        assert!(least <= left && left <= most);
    }
    let status = world.coordinator().status().repairs;
    assert_eq!((status.eta_seconds, status.outlook.left_bytes, status.outlook.limited_by), (None, 0, None));
}

/// Extents by margin, counted anew from what the owners know.
fn recount(world: &World) -> (BTreeMap<usize, u64>, u64) {
    let (mut by_margin, mut unavailable) = (BTreeMap::new(), 0);
    for (_, owner) in world.coordinator().owners() {
        let row = owner.row().unwrap();
        let code = Code::new(&row.code_spec().unwrap()).unwrap();
        let slots = owner.slots();
        for extent in owner.list().keys() {
            match margin(&code, &lost_of(&slots, row.members.len(), Some(*extent))) {
                Some(margin) => *by_margin.entry(margin).or_default() += 1,
                None => unavailable += 1,
            }
        }
    }
    (by_margin, unavailable)
}

fn targets_are_up(world: &World) -> bool {
    let first = world.repairs.front();
    first.is_some_and(|(_, spec)| spec.targets.values().all(|place| world.nodes[&place.disk].is_up()))
}

#[test]
fn counters_are_what_a_recount_gives() {
    let mut dice = Dice::new(4);
    for round in 0..4u64 {
        let mut world = World::new(9, config("rs:4+2"));
        put_all(&mut world, &[1_000; 30]);
        let mut compared = 0;
        for _ in 0..60 {
            let disk = DiskId(1 + u128::from(dice.below(9)));
            match dice.below(4) {
                0 if world.nodes[&disk].is_up() => world.kill_node(disk),
                1 if !world.nodes[&disk].is_up() => world.start_node(disk),
                2.. if targets_are_up(&world) => drop(world.repair_one()),
                _ => {}
            }
            world.pass(Millis(dice.below(3_000)));
            let status = world.coordinator().status();
            let sum: u64 = status.extents_by_margin.values().sum();
            assert_eq!(sum + status.unavailable_extents, status.extents, "round {round}: {status:?}");
            let groups = || world.coordinator().groups.values();
            let all_full = groups().all(|group| !group.dirty && group.view.full);
            assert_eq!(world.coordinator().all_full(), all_full);
            assert_eq!(world.coordinator().any_dirty(), groups().any(|group| group.dirty));
            for disk in world.nodes.keys() {
                let of_row = |group: &super::groups::Group| {
                    group.owner.row().map_or(0, |row| {
                        row.members.iter().chain(row.joining.values()).filter(|of| *of == disk).count()
                    })
                };
                let asked =
                    |group: &super::groups::Group| group.asked.values().filter(|(asked, _)| asked == disk).count();
                let slots: usize = groups().map(|group| of_row(group) + asked(group)).sum();
                assert_eq!(world.coordinator().slots_of(*disk) as usize, slots, "disk {disk}");
            }
            let settled = groups().all(|group| !group.dirty && group.owner.is_ready());
            if settled {
                let (by_margin, unavailable) = recount(&world);
                assert_eq!((status.extents_by_margin, status.unavailable_extents), (by_margin, unavailable));
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }
}

#[test]
fn what_fails_keeps_its_time_at_risk() {
    let mut world = small("rs:4+2", 7, |_| {});
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[2][0].disk;
    world.kill_node(disk);
    world.until("it begins", |world| !world.repairs.is_empty());
    let since = world.coordinator().risk_of(extent).unwrap().since;
    let (job, spec) = world.repairs.pop_front().unwrap();
    let failed = spec.targets.keys().map(|index| (*index, "the node is busy".to_owned())).collect();
    let outcome = crate::repair::RepairOutcome { failed, ..crate::repair::RepairOutcome::default() };
    world.tell(super::CoordinatorEvent::RepairDone { job, outcome });
    world.until("it is put off", |world| world.coordinator().agenda.wait_of(extent).is_some());
    let why = explain(&mut world, extent);
    assert!(why["waits"].to_string().contains("the next try, in"), "{why}");
    assert_eq!(world.coordinator().risk_of(extent).unwrap().since, since);
    world.settle();
}

/// Has the oldest repair that is wanted fail for this reason.
fn fail_one(world: &mut World, reason: &str) -> ExtentKey {
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    let (job, spec) = world.repairs.pop_front().unwrap();
    let failed = spec.targets.keys().map(|index| (*index, reason.to_owned())).collect();
    let outcome = crate::repair::RepairOutcome { failed, ..crate::repair::RepairOutcome::default() };
    world.tell(super::CoordinatorEvent::RepairDone { job, outcome });
    world.until("it has ended", |world| !world.coordinator().repairs.running.contains_key(&job));
    spec.extent
}

/// Rot in one fragment, and a reader that tells of it.
fn damage(world: &mut World, extent: ExtentKey, index: u16) {
    let fragment = crate::wire::node::FragmentKey { extent, generation: 1, index };
    let disk = locate(world, extent).slots[usize::from(index)][0].disk;
    world.nodes.get_mut(&disk).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    world.ask(DaemonRequest::Suspect { disk, fragment, reason: "CRC".into() });
}

#[test]
fn what_comes_nearer_to_loss_after_a_failure_is_tried_soon() {
    let mut world = small("rs:4+2", 8, |_| {});
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[2][0].disk;
    world.kill_node(disk);
    for try_ in 0..6 {
        fail_one(&mut world, &format!("busy for the {try_}. time"));
    }
    world.until("it is put off", |world| world.coordinator().agenda.wait_of(extent).is_some());
    let left = |world: &World| world.coordinator().agenda.wait_of(extent).unwrap().until.since(world.now).0;
    assert!(left(&world) > 20_000, "{}", left(&world));
    damage(&mut world, extent, 0);
    let margin = |world: &World| world.coordinator().risk_of(extent).unwrap().margin;
    world.until("it is known", |world| margin(world) == 0);
    let known = world.now;
    world.until("it is tried", |world| !world.repairs.is_empty());
    assert!(world.now.since(known) <= Millis(1_100), "{}", world.now.since(known).0);
    world.settle();
}

#[test]
fn what_fails_alike_is_parked_until_something_of_its_group_is_different() {
    let mut world = small("rs:4+3", 10, |_| {});
    let extents = put_all(&mut world, &[1_000; 2]);
    let places = locate(&mut world, extents[0]).slots;
    world.kill_node(places[2][0].disk);
    let poison = fail_one(&mut world, "the sum of all is wrong");
    // The other one is not held up.
    assert_ne!(world.repair_one().extent, poison);
    for _ in 1..8 {
        assert_eq!(fail_one(&mut world, "the sum of all is wrong"), poison);
    }
    world.until("it is parked", |world| world.coordinator().agenda.waiting_for(&Wait::Parked) == 1);
    let why = explain(&mut world, poison)["waits"].to_string();
    assert!(why.contains("any change of its placement group") && why.contains("the sum of all is wrong"), "{why}");
    let waits = world.coordinator().status().waits;
    assert!(waits.iter().any(|wait| wait.starts_with("1 extent parked")), "{waits:?}");
    world.pass(Millis(300_000));
    assert!(world.repairs.is_empty(), "it was tried once in a minute");
    // Not what it was, though no nearer to loss than a moment ago in any other way.
    world.kill_node(places[5][0].disk);
    world.until("it is tried again", |world| !world.repairs.is_empty());
    world.settle();
}

#[test]
fn what_is_parked_is_tried_again_after_ten_minutes_though_nothing_changed() {
    let mut world = small("rs:4+2", 8, |_| {});
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[2][0].disk;
    world.kill_node(disk);
    for _ in 0..8 {
        fail_one(&mut world, "the sum of all is wrong");
    }
    let parked = world.now;
    world.pass(Millis(599_000));
    assert!(world.repairs.is_empty());
    world.until("it is tried again", |world| !world.repairs.is_empty());
    assert!(world.now.since(parked) < Millis(602_000));
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "repair_parked").count(), 1);
    world.settle();
}

#[test]
fn what_has_lost_nothing_says_so_and_comes_last() {
    let mut world = small("rs:4+2", 8, |config| config.repairs_max = 1);
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[1][0].disk;
    world.report(DaemonRequest::Drain { node: disk.to_string(), leaves: false });
    world.until("a move is wanted", |world| world.coordinator().risk_of(extent).is_some());
    let turn = explain(&mut world, extent)["turn"].clone();
    assert_eq!((&turn["lost_nothing"], &turn["class"]), (&true.into(), &2.into()), "{turn}");
    assert!(!world.coordinator().risk_of(extent).unwrap().is_urgent());
    world.settle();
}

#[test]
fn a_disk_of_another_process_has_its_rate_again() {
    let mut world = World::new(3, hasty());
    let now = world.now;
    world.coordinator.as_mut().unwrap().budgets.set_share(now, DiskId(2), 1);
    world.kill_node(DiskId(2));
    world.until("it is gone", |world| world.healthy() == 2);
    world.start_node(DiskId(2));
    world.until("it is back", |world| world.healthy() == 3);
    assert_eq!(world.coordinator().budgets.share(DiskId(2)), crate::budget::SHARE_PARTS);
}

fn of_disk(number: u128, side: Side) -> Resource {
    Resource { scope: Scope::Disk(DiskId(number)), side }
}

#[test]
fn a_move_is_charged_where_it_reads_be_that_one_disk_or_the_others() {
    let mut world = small("rs:4+2", 8, |_| {});
    let extents = put_all(&mut world, &[1_000; 8]);
    let disk = locate(&mut world, extents[0]).slots[1][0].disk;
    world.report(DaemonRequest::Drain { node: disk.to_string(), leaves: false });
    world.until("four moves are under way", |world| world.repairs.len() == 4);
    let mut charged = Vec::new();
    for running in world.coordinator().repairs.running.values() {
        let mut disks = Vec::new();
        for (resource, bytes) in &running.charges {
            if let (Scope::Disk(of), Side::Source) = (&resource.scope, resource.side) {
                disks.push(*of);
                assert_eq!(*bytes, 4096);
            }
        }
        charged.push((disks.contains(&disk), disks.len()));
    }
    // Two copies read the disk that leaves, and others are rebuilt without it.
    charged.sort_unstable();
    assert_eq!(charged, [(false, 4), (false, 4), (true, 1), (true, 1)]);
    world.settle();
}

#[test]
fn budgets_get_back_what_was_not_read_at_sources_and_what_was_not_written_at_targets() {
    let budget = BudgetConfig { disk_bytes_per_second: 1_000, burst: Millis(10_000), ..BudgetConfig::default() };
    let config = CoordinatorConfig { budget, ..hasty() };
    let mut coordinator = super::Coordinator::new(config, crate::id::ClaimId(1), Dice::new(1));
    let charges: Charges = [(1, Side::Source), (2, Side::Source), (3, Side::Target), (4, Side::Target)]
        .map(|(number, side)| (of_disk(number, side), 6_000))
        .into();
    let now = coordinator.now;
    let left = |coordinator: &super::Coordinator, number, side| {
        let is_there = |bytes: &u64| coordinator.budgets.ready_at(now, &of_disk(number, side), *bytes, false) == now;
        (0..=20).map(|step| step * 500).filter(is_there).max()
    };
    coordinator.budgets.admit(now, &charges, false).unwrap();
    // All was read, and one of two fragments written.
    coordinator.settle_charges(&charges, 12_000, 6_000);
    assert_eq!([1, 2].map(|number| left(&coordinator, number, Side::Source)), [Some(4_000); 2]);
    assert_eq!([3, 4].map(|number| left(&coordinator, number, Side::Target)), [Some(7_000); 2]);
    // Half was read, and nothing written.
    coordinator.settle_charges(&charges, 6_000, 0);
    assert_eq!([1, 2].map(|number| left(&coordinator, number, Side::Source)), [Some(7_000); 2]);
    assert_eq!([3, 4].map(|number| left(&coordinator, number, Side::Target)), [Some(10_000); 2]);
}

#[test]
fn a_repair_that_failed_gives_back_what_it_did_not_move() {
    let mut world = small("rs:4+2", 7, |config| config.budget.disk_bytes_per_second = 1_000);
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[2][0].disk;
    world.kill_node(disk);
    world.until("it begins", |world| !world.repairs.is_empty());
    assert!(world.coordinator().budgets.kept() > 0);
    fail_one(&mut world, "the node is busy");
    assert_eq!(world.coordinator().budgets.kept(), 0);
    world.settle();
}

#[test]
fn what_a_try_that_failed_had_written_is_not_counted_again_when_the_next_goes_on_with_it() {
    let mut world = small("rs:4+2", 7, |_| {});
    let extent = put_all(&mut world, &[1_000])[0];
    let disk = locate(&mut world, extent).slots[2][0].disk;
    world.kill_node(disk);
    for (resumed_bytes, written_bytes) in [(0, 2_048), (2_048, 1_024)] {
        world.until("it begins", |world| !world.repairs.is_empty());
        let (job, spec) = world.repairs.pop_front().unwrap();
        world.tell(super::CoordinatorEvent::RepairProgress { job, written_bytes: resumed_bytes + written_bytes });
        world.until("it is told", |world| world.coordinator().repairs.moved_bytes() == resumed_bytes + written_bytes);
        let failed = spec.targets.keys().map(|index| (*index, "the node is busy".to_owned())).collect();
        let outcome = crate::repair::RepairOutcome {
            failed,
            written_bytes,
            resumed_bytes,
            ..crate::repair::RepairOutcome::default()
        };
        world.tell(super::CoordinatorEvent::RepairDone { job, outcome });
        world.until("it has ended", |world| world.coordinator().repairs.running.is_empty());
        assert_eq!(world.coordinator().repairs.moved_bytes(), 0, "nothing is where it belongs");
    }
    world.settle();
    assert_eq!(world.coordinator().repairs.moved_bytes(), 4_096);
}
