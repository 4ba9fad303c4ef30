//! Which extents are audited when, and what becomes of what is found.

use super::testing::{World, hasty};
use super::tests::{A, B, data, locate};
use super::{CoordinatorConfig, CoordinatorEvent, JobId};
use crate::catalog::key;
use crate::id::{ExtentKey, StreamKey};
use crate::repair::{AuditOutcome, AuditSpec, AuditVerdict, Finding, Suspect};
use crate::time::Millis;
use crate::wire::daemon::Subject;
use crate::wire::node::FragmentKey;
use crate::wire::{DaemonReply, DaemonRequest, Refusal};
use std::collections::BTreeSet;

/// Only what is asked for.
fn unasked() -> CoordinatorConfig {
    CoordinatorConfig { audit_one_in: 0, ..hasty() }
}

fn ask(world: &mut World, subject: Option<Subject>) {
    assert_eq!(world.ask(DaemonRequest::Audit { subject }), DaemonReply::Noted);
}

fn next(world: &mut World) -> (JobId, AuditSpec) {
    world.until("an audit is wanted", |world| !world.audits.is_empty());
    assert_eq!(world.audits.len(), 1, "one at a time");
    world.audits.pop_front().unwrap()
}

fn end(world: &mut World, job: JobId, verdict: AuditVerdict) {
    let outcome = AuditOutcome { verdict, suspects: Vec::new(), read_bytes: 1_000 };
    world.tell(CoordinatorEvent::AuditDone { job, outcome });
    world.pass(Millis(20));
}

fn wrong_parity(fragments: &[u16]) -> AuditVerdict {
    AuditVerdict::Wrong(Finding::Parity { fragments: fragments.to_vec() })
}

/// A cell with an extent at rest.
fn stored() -> (World, ExtentKey) {
    let mut world = World::new(8, unasked());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    world.notes.clear();
    (world, entry.extent)
}

fn counts(world: &World) -> (u64, u64, u64, usize) {
    let audits = world.coordinator().status().audits;
    assert_eq!(audits.audited, audits.sound + audits.incomplete + audits.found_wrong);
    (audits.sound, audits.incomplete, audits.found_wrong, audits.parked)
}

#[test]
fn everything_a_group_or_an_extent_is_audited_when_asked_for_one_at_a_time() {
    let mut world = World::new(8, unasked());
    let extents: BTreeSet<ExtentKey> =
        (1..=5).map(|seed| world.put(StreamKey(seed), &format!("n{seed}"), &data(9_000, 1)).extent).collect();
    world.settle();
    world.pass(Millis(100_000));
    assert!(world.audits.is_empty(), "none but those asked for");
    let one = *extents.first().unwrap();
    let of_group: BTreeSet<ExtentKey> = extents.iter().copied().filter(|extent| extent.pg() == one.pg()).collect();
    for (subject, expected) in [
        (None, extents.clone()),
        (Some(Subject::Pg(one.pg())), of_group),
        (Some(Subject::Extent(one)), BTreeSet::from([one])),
    ] {
        world.notes.clear();
        ask(&mut world, subject);
        let mut seen = BTreeSet::new();
        while seen.len() < expected.len() {
            let (job, spec) = next(&mut world);
            let places = locate(&mut world, spec.extent);
            let disks: Vec<_> = places.slots.iter().map(|slot| slot[0].disk).collect();
            assert_eq!(spec.sources.values().map(|place| place.disk).collect::<Vec<_>>(), disks);
            assert_eq!((spec.hash, spec.bytes_per_second), (places.hash, 50_000_000));
            assert!(seen.insert(spec.extent), "twice");
            world.pass(Millis(500));
            assert!(world.audits.is_empty(), "while one is under way");
            end(&mut world, job, AuditVerdict::Sound);
        }
        assert_eq!(seen, expected);
        world.pass(Millis(60_000));
        assert!(world.audits.is_empty());
        assert_eq!(world.kinds(), ["audit_done"]);
    }
    let report = world.coordinator().status().audits;
    assert!(report.sound >= 7 && report.last_ms_ago >= Some(50_000) && !report.asked, "{report:?}");
    for (subject, refusal) in
        [(Subject::Pg(crate::id::PgId(99)), Refusal::NotFound), (Subject::Extent(ExtentKey(1)), Refusal::NotFound)]
    {
        assert_eq!(world.ask(DaemonRequest::Audit { subject: Some(subject) }), DaemonReply::Refused(refusal));
    }
    let node = DaemonRequest::Audit { subject: Some(Subject::Node("n".into())) };
    assert!(matches!(world.ask(node), DaemonReply::Refused(Refusal::Invalid(_))));
}

#[test]
fn every_period_has_its_share_of_audits_and_none_where_they_are_off() {
    for (one_in, at_least, at_most) in [(0u64, 0, 0), (1, 70, 90), (4, 8, 34)] {
        let config = CoordinatorConfig { audit_one_in: one_in, audit_period: Millis(50_000), ..hasty() };
        let mut world = World::new(8, config);
        for seed in 1..=8 {
            world.put(StreamKey(seed), &format!("n{seed}"), &data(900, 1));
        }
        world.settle();
        let status = world.coordinator().status();
        assert_eq!((status.audits.one_in, status.extents), (one_in, 8));
        // The pass that began before the extents were there is not counted.
        let drain = |world: &mut World, span: u64| {
            let mut audited = 0;
            for _ in 0..span / 100 {
                world.pass(Millis(100));
                while let Some((job, _)) = world.audits.pop_front() {
                    audited += 1;
                    end(world, job, AuditVerdict::Sound);
                }
            }
            audited
        };
        drain(&mut world, 60_000);
        let audited = drain(&mut world, 500_000);
        assert!((at_least..=at_most).contains(&audited), "{audited} of 80 with one in {one_in}");
    }
}

#[test]
fn what_is_found_is_told_kept_over_a_restart_and_over_when_it_is_gone() {
    let (mut world, extent) = stored();
    ask(&mut world, None);
    let (job, _) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    assert_eq!((counts(&world), world.rows(key::AUDITS)), ((0, 0, 1, 1), 1));
    let note = world.notes.iter().find(|note| note.kind == "audit_found_wrong").unwrap();
    assert!(note.text.contains("data is right, parity 4 is not the code's"), "{}", note.text);
    assert!(note.fields.contains(&("fragments", "4".into())));
    assert!(world.repairs.is_empty() && !world.kinds().contains(&"fragment_damaged"), "nothing is repaired for it");
    for life in 0..2 {
        let status = world.coordinator().status();
        assert!(status.risk && status.audits.parked_extents[0].extent == extent.to_string(), "{life}");
        let explained = world.report(DaemonRequest::Explain { subject: Subject::Extent(extent) });
        assert_eq!(explained["found_wrong"], "data is right, parity 4 is not the code's");
        // Neither readers nor repairs are given it.
        let places = locate(&mut world, extent);
        let given: Vec<bool> = places.slots.iter().map(|slot| !slot.is_empty()).collect();
        assert_eq!(given, [true, true, true, true, false, true], "{life}");
        // So it is nothing to stop a node by: of what is left, one more may go.
        let disks: Vec<String> = [0, 1, 2].map(|index: usize| places.slots[index][0].disk.to_string()).into();
        for (stopped, may) in [(1, true), (2, false)] {
            let report = world.report(DaemonRequest::CanStop { nodes: disks[..stopped].to_vec() });
            assert_eq!(report["can_stop"], may, "{report}");
        }
        world.start_daemon();
        world.settle();
        world.until("what was found is known again", |world| world.coordinator().status().audits.parked == 1);
    }
    // Audits read all of it all the same; found sound, it is as it was.
    ask(&mut world, Some(Subject::Extent(extent)));
    let (job, spec) = next(&mut world);
    assert_eq!(spec.sources.len(), 6);
    end(&mut world, job, AuditVerdict::Sound);
    assert_eq!((counts(&world).3, world.rows(key::AUDITS)), (0, 0));
    assert!(world.kinds().contains(&"audit_cleared") && !world.coordinator().status().risk);
    assert_eq!(locate(&mut world, extent).slots[4].len(), 1);

    ask(&mut world, None);
    let (job, _) = next(&mut world);
    end(&mut world, job, wrong_parity(&[5]));
    assert_eq!(world.rows(key::AUDITS), 1);
    assert_eq!(world.ask(DaemonRequest::Remove { name: b"a".to_vec() }), DaemonReply::Removed);
    world.until("it is forgotten", |world| world.rows(key::AUDITS) == 0);
    world.pass(Millis(100));
    assert!(!world.coordinator().status().risk);
}

#[test]
fn a_repair_is_not_given_parity_that_is_known_to_be_wrong() {
    let (mut world, extent) = stored();
    ask(&mut world, None);
    let (job, _) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    let killed = locate(&mut world, extent).slots[1][0].disk;
    world.kill_node(killed);
    let spec = world.repair_one();
    assert_eq!(spec.sources.keys().copied().collect::<Vec<_>>(), [0, 2, 3, 5]);
    world.settle();
}

#[test]
fn parity_known_to_be_wrong_is_copied_by_itself_from_a_disk_that_is_being_replaced() {
    let (mut world, extent) = stored();
    ask(&mut world, None);
    let (job, spec) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    let [replaced, lost] = [4, 1].map(|index| spec.sources[&index].disk);
    world.break_node(replaced);
    world.kill_node(lost);
    // The rest first, without it; then it, from nothing but the disk that has it.
    let rest = world.repair_one();
    assert_eq!(rest.targets.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(rest.sources.keys().copied().collect::<Vec<_>>(), [0, 2, 3, 5]);
    let copy = world.repair_one();
    assert_eq!(copy.extent, extent);
    assert_eq!(copy.targets.keys().copied().collect::<Vec<_>>(), [4]);
    let from: Vec<_> = copy.sources.iter().map(|(index, places)| (*index, places[0].disk, places.len())).collect();
    assert_eq!(from, [(4, replaced, 1)]);
    world.settle();
    assert!(world.kinds().contains(&"member_replaced") && world.coordinator().status().pgs.closed == 0);
}

#[test]
fn a_copy_is_not_kept_back_by_a_rest_that_cannot_be_rebuilt() {
    let (mut world, _) = stored();
    ask(&mut world, None);
    let (job, spec) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    world.break_node(spec.sources[&4].disk);
    world.kill_node(spec.sources[&1].disk);
    let mut seen = Vec::new();
    for _ in 0..4 {
        world.until("a repair is wanted", |world| !world.repairs.is_empty());
        let (job, spec) = world.repairs.pop_front().unwrap();
        seen.push(*spec.targets.first_key_value().unwrap().0);
        world.tell(CoordinatorEvent::RepairDone { job, outcome: crate::repair::RepairOutcome::default() });
    }
    assert_eq!(seen, [1, 4, 1, 4]);
}

#[test]
fn wrong_parity_that_is_lost_for_good_is_parked_and_told_until_the_names_are_put_again() {
    let (mut world, extent) = stored();
    let other = world.put(B, "b", &data(900, 1)).extent;
    world.settle();
    ask(&mut world, Some(Subject::Extent(extent)));
    let (job, spec) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    world.kill_node(spec.sources[&4].disk);
    // All else of that disk is rebuilt.
    world.until("the take-over has begun", |world| world.coordinator().status().repairs.waiting > 0);
    let limit = world.now + Millis(300_000);
    while world.now < limit {
        world.pass(Millis(100));
        if !world.repairs.is_empty() {
            assert_ne!(world.repair_one().extent, extent, "it gives another root, however often it is tried");
        }
    }
    let status = world.coordinator().status();
    assert!(status.repairs.running.is_empty() && status.repairs.eta_seconds.is_none(), "{:?}", status.repairs);
    assert_eq!((status.repairs.failed, status.repairs.waiting, status.pgs.closed), (0, 1, 1));
    let waits = status.waits.join("\n");
    assert!(
        waits.contains("1 extent whose names are to be put again") && waits.contains(&extent.to_string()),
        "{waits}"
    );
    let explained = world.report(DaemonRequest::Explain { subject: Subject::Extent(extent) });
    let waits = explained["waits"].to_string();
    assert!(waits.contains("has no copy, and cannot be computed: 4"), "{waits}");
    // Audits go on meanwhile.
    ask(&mut world, Some(Subject::Extent(other)));
    assert_eq!(next(&mut world).1.extent, other);
    assert_eq!(world.ask(DaemonRequest::Remove { name: b"a".to_vec() }), DaemonReply::Removed);
    world.settle();
    world.pass(Millis(15_000));
    let status = world.coordinator().status();
    assert!(status.full_redundancy && status.pgs.closed == 0 && !status.risk, "{:?}", status.waits);
}

#[test]
fn a_finding_of_an_extent_that_was_deleted_meanwhile_is_none() {
    for by_the_end in [wrong_parity(&[4]), AuditVerdict::Incomplete { reason: "fragment 1: not found".into() }] {
        let (mut world, _) = stored();
        world.put(B, "b", &data(100, 1));
        ask(&mut world, None);
        let mut ended = 0;
        while ended < 2 {
            let (job, _) = next(&mut world);
            for name in [b"a", b"b"] {
                world.ask(DaemonRequest::Remove { name: name.to_vec() });
            }
            world.pass(Millis(5_000));
            world.settle();
            end(&mut world, job, by_the_end.clone());
            ended += 1 + usize::from(world.audits.is_empty());
        }
        world.pass(Millis(30_000));
        assert_eq!((counts(&world), world.rows(key::AUDITS)), ((0, 0, 0, 0), 0));
        assert!(world.kinds().iter().all(|kind| !kind.starts_with("audit_") || *kind == "audit_done"));
        assert_eq!(world.coordinator().status().audits.to_try_again, 0);
    }
}

#[test]
fn a_finding_by_disks_that_are_not_the_groups_any_more_is_looked_for_again() {
    let (mut world, extent) = stored();
    ask(&mut world, None);
    let (job, spec) = next(&mut world);
    world.kill_node(spec.sources[&2].disk);
    world.repair_one();
    world.settle();
    end(&mut world, job, wrong_parity(&[4]));
    assert_eq!((counts(&world), world.rows(key::AUDITS)), ((0, 1, 0, 0), 0));
    let (job, again) = next(&mut world);
    assert!(again.extent == extent && again.sources[&2].disk != spec.sources[&2].disk);
    end(&mut world, job, wrong_parity(&[4]));
    assert_eq!(counts(&world), (0, 1, 1, 1));
}

/// Someone writes a row anew behind the daemon's back.
fn move_row(world: &mut World, row: Vec<u8>) {
    let found = world.catalog.get(&row).unwrap();
    world.catalog.apply(&crate::catalog::Txn::new().put(row, found.value));
}

#[test]
fn a_finding_is_said_only_by_the_groups_owner_however_fast_the_group_is_written() {
    for (is_owner, expected) in [(true, 1), (false, 0)] {
        let (mut world, extent) = stored();
        ask(&mut world, None);
        let (job, _) = next(&mut world);
        let (pg, owner) = (key::pg(extent.pg()), key::owner(extent.pg()));
        // A commit of which the daemon has not heard yet; another daemon.
        move_row(&mut world, if is_owner { pg } else { owner });
        end(&mut world, job, wrong_parity(&[4]));
        world.pass(Millis(60_000));
        assert_eq!((counts(&world).2, world.rows(key::AUDITS)), (expected, expected as usize));
        assert_eq!(world.kinds().contains(&"audit_found_wrong"), is_owner);
    }
}

#[test]
fn what_was_found_is_known_before_any_group_is_given_to_anyone() {
    let (mut world, _) = stored();
    ask(&mut world, None);
    let (job, _) = next(&mut world);
    end(&mut world, job, wrong_parity(&[4]));
    world.start_daemon();
    world.until("a group is ready", |world| world.coordinator().owners().any(|(_, owner)| owner.is_ready()));
    assert_eq!(counts(&world).3, 1);
}

#[test]
fn a_finding_that_was_written_unheard_and_given_up_is_known_all_the_same() {
    let mut unheard = 0;
    for seed in 0..20 {
        let (mut world, _) = stored();
        ask(&mut world, None);
        let (job, spec) = next(&mut world);
        world.fates = Some(crate::rng::Dice::new(seed));
        end(&mut world, job, wrong_parity(&[4]));
        world.fates = None;
        unheard += usize::from(counts(&world).3 == 0 && world.rows(key::AUDITS) == 1);
        // Not every fragment is where it was read when it is tried again.
        world.kill_node(spec.sources[&2].disk);
        world.pass(Millis(30_000));
        assert_eq!(counts(&world).3, world.rows(key::AUDITS), "seed {seed}");
        let said = world.kinds().into_iter().filter(|kind| *kind == "audit_found_wrong").count();
        assert_eq!(said, counts(&world).3, "seed {seed}");
    }
    assert!(unheard > 3, "it would show nothing: {unheard}");
}

#[test]
fn that_a_finding_is_over_is_said_once_its_row_is_deleted_and_tried_until_it_is() {
    for seed in 0..20 {
        let (mut world, extent) = stored();
        ask(&mut world, None);
        let (job, _) = next(&mut world);
        end(&mut world, job, wrong_parity(&[4]));
        ask(&mut world, Some(Subject::Extent(extent)));
        let (job, _) = next(&mut world);
        world.fates = Some(crate::rng::Dice::new(seed));
        world.tell(CoordinatorEvent::AuditDone {
            job,
            outcome: AuditOutcome { verdict: AuditVerdict::Sound, suspects: Vec::new(), read_bytes: 0 },
        });
        for _ in 0..600 {
            world.pass(Millis(100));
            let is_cleared = world.kinds().contains(&"audit_cleared");
            assert!(!is_cleared || (world.rows(key::AUDITS), counts(&world).3) == (0, 0), "seed {seed}");
        }
        world.fates = None;
        world.pass(Millis(15_000));
        assert_eq!((world.rows(key::AUDITS), counts(&world).3), (0, 0), "seed {seed}");
        assert_eq!(world.kinds().into_iter().filter(|kind| *kind == "audit_cleared").count(), 1, "seed {seed}");
    }
}

#[test]
fn extents_that_cannot_be_read_whole_stop_no_others_however_many_wait() {
    let mut world = World::new(8, CoordinatorConfig { grace: Millis(600_000), ..unasked() });
    let extents: Vec<ExtentKey> =
        (1..=12).map(|seed| world.put(StreamKey(seed), &format!("n{seed}"), &data(9_000, 1)).extent).collect();
    world.settle();
    world.notes.clear();
    let lost = DiskSets::of(&mut world, &extents).some_have();
    world.kill_node(lost.0);
    world.pass(Millis(5_000));
    world.coordinator.as_mut().unwrap().crowd_audits();
    ask(&mut world, None);
    let mut seen = BTreeSet::new();
    while seen.len() < extents.len() - lost.1 {
        let (job, spec) = next(&mut world);
        assert!(seen.insert(spec.extent));
        end(&mut world, job, AuditVerdict::Sound);
    }
    world.pass(Millis(1_000));
    let done = world.notes.iter().find(|note| note.kind == "audit_done").unwrap();
    assert!(done.fields.contains(&("put_off", lost.1.to_string())), "{done:?}");
    let status = world.coordinator().status();
    assert_eq!((status.audits.put_off, status.audits.asked), (lost.1 as u64, false));
    assert!(status.waits.iter().any(|wait| wait.starts_with("audits put off whatever else")), "{:?}", status.waits);
}

/// Which disks extents lie on.
struct DiskSets(Vec<BTreeSet<crate::id::DiskId>>);

impl DiskSets {
    fn of(world: &mut World, extents: &[ExtentKey]) -> Self {
        let places = extents.iter().map(|extent| locate(world, *extent).slots);
        Self(places.map(|slots| slots.iter().map(|slot| slot[0].disk).collect()).collect())
    }

    /// A disk that some have a fragment on and others have not, and how many have.
    fn some_have(&self) -> (crate::id::DiskId, usize) {
        let have = |disk: crate::id::DiskId| self.0.iter().filter(|disks| disks.contains(&disk)).count();
        let disks = self.0.iter().flatten().map(|disk| (*disk, have(*disk)));
        disks.into_iter().find(|(_, have)| *have < self.0.len()).unwrap()
    }
}

#[test]
fn a_group_that_does_not_become_ready_is_named_and_keeps_no_audit_from_its_end() {
    let (mut world, extent) = stored();
    world.stop_daemon();
    world.catalog.apply(&crate::catalog::Txn::new().put(key::pg(extent.pg()), vec![9]));
    world.start_daemon();
    world.until("it is up", |world| world.coordinator().boot.is_done());
    ask(&mut world, None);
    world.pass(Millis(1_000));
    assert!(!world.kinds().contains(&"audit_done"), "it may become ready yet");
    world.pass(Millis(20_000));
    let done = world.notes.iter().find(|note| note.kind == "audit_done").unwrap();
    assert!(done.fields.contains(&("unready_groups", "1".into())), "{done:?}");
    let status = world.coordinator().status();
    let wait = format!("1 placement group to be audited once ready: {}", extent.pg());
    assert!(!status.audits.asked && status.waits.contains(&wait), "{:?}", status.waits);
}

#[test]
fn a_catalog_that_does_not_answer_delays_a_finding_and_loses_none() {
    for seed in 0..20 {
        let (mut world, _) = stored();
        ask(&mut world, None);
        let (job, _) = next(&mut world);
        world.fates = Some(crate::rng::Dice::new(seed));
        end(&mut world, job, wrong_parity(&[4]));
        world.pass(Millis(30_000));
        assert_eq!((counts(&world).2, world.rows(key::AUDITS)), (1, 1), "seed {seed}");
    }
}

#[test]
fn an_incomplete_audit_has_its_suspects_checked_and_is_tried_again_after_the_repair() {
    let (mut world, extent) = stored();
    ask(&mut world, None);
    let (job, spec) = next(&mut world);
    let fragment = FragmentKey { extent, generation: 1, index: 3 };
    let place = spec.sources[&3].clone();
    world.nodes.get_mut(&place.disk).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    let suspects = vec![Suspect { index: 3, place, reason: "CRC".into() }];
    let verdict = AuditVerdict::Incomplete { reason: "fragment 3: CRC".into() };
    world.tell(CoordinatorEvent::AuditDone { job, outcome: AuditOutcome { verdict, suspects, read_bytes: 5 } });
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    // Not ahead of the repair, however long that takes.
    world.pass(Millis(30_000));
    assert!(world.audits.is_empty());
    let waits = world.coordinator().status().waits.join("\n");
    assert!(waits.contains("audits wait until nothing is left"), "{waits}");
    assert_eq!(world.repair_one().targets.keys().copied().collect::<Vec<_>>(), [3]);
    world.settle();
    let (job, _) = next(&mut world);
    end(&mut world, job, AuditVerdict::Sound);
    assert_eq!((counts(&world), world.coordinator().status().audits.to_try_again), ((1, 1, 0, 0), 0));
}

#[test]
fn no_audit_begins_where_a_fragment_cannot_be_read_or_faster_than_the_rate() {
    let (mut world, extent) = stored();
    let away = locate(&mut world, extent).slots[0][0].disk;
    world.config.grace = Millis(600_000);
    world.start_daemon();
    world.settle();
    world.kill_node(away);
    world.pass(Millis(5_000));
    ask(&mut world, None);
    world.pass(Millis(60_000));
    assert!(world.audits.is_empty());
    let audits = world.coordinator().status().audits;
    assert_eq!((audits.audited, audits.to_try_again), (0, 1));
    world.start_node(away);
    let (job, _) = next(&mut world);
    // At 50 MB/s a gigabyte takes 20 s.
    let began = world.now;
    let outcome = AuditOutcome { verdict: AuditVerdict::Sound, suspects: Vec::new(), read_bytes: 1_000_000_000 };
    world.tell(CoordinatorEvent::AuditDone { job, outcome });
    ask(&mut world, None);
    let (job, _) = next(&mut world);
    let rested = world.now.since(began).0;
    assert!((19_000..21_000).contains(&rested), "{rested}");
    end(&mut world, job, AuditVerdict::Sound);
}
