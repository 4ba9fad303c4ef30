//! Every kind of damage a fragment can meet, through the real binary: named by `verify`, never used by `decode`, undone by
//! `repair` to the very bytes that were there before.
mod support;

use ec_core::fragment::{Class, FOOTER_BYTES, HEADER_BYTES, Hash, examine};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use support::forge::{Parts, set_in_generation};
use support::{Set, encode, inspect, listing, mkfifo, painted, repair, run, verify};

/// Where the tail of a fragment of [`Set::small`] begins: header and one block of payload.
const TAIL_AT: usize = 2 * 4096;
const SMALL_BYTES: usize = 3 * 4096;

/// What `verify` must call a small fragment with this byte changed.
fn class_of_changed_byte(at: usize) -> &'static str {
    match at {
        0..HEADER_BYTES => "rot.header",
        HEADER_BYTES..TAIL_AT => "rot.payload",
        _ => "rot.footer",
    }
}

fn class_of_length(bytes: usize) -> &'static str {
    if bytes < HEADER_BYTES { "torn.uncommitted" } else { "torn.committed" }
}

#[test]
fn truncation_at_every_length_is_seen_by_the_library() {
    let set = Set::small();
    let bytes = set.original(1);
    assert_eq!((bytes.len(), examine(bytes).class), (SMALL_BYTES, Class::Healthy));
    for length in 0..SMALL_BYTES {
        assert_eq!(examine(&bytes[..length]).class.as_str(), class_of_length(length), "{length} bytes");
    }
    // Longer than it should be, by zeros or by a second copy of itself.
    for more in [1, 127, 128, 4095, 4096] {
        assert_eq!(examine(&[bytes, &vec![0; more]].concat()).class, Class::TornCommitted, "{more} bytes more");
    }
    assert_eq!(examine(&[bytes, bytes].concat()).class, Class::TornCommitted);
}

#[test]
fn every_flipped_bit_is_seen_by_the_library() {
    let set = Set::small();
    for index in [1, 4] {
        let mut bytes = set.original(index).to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let found = examine(&bytes);
                assert_eq!(found.class.as_str(), class_of_changed_byte(at), "bit {bit} of byte {at}: {}", found.reason);
                bytes[at] ^= 1 << bit;
            }
        }
        assert_eq!(examine(&bytes).class, Class::Healthy);
    }
}

#[test]
fn truncation_is_named_and_undone_by_the_binary() {
    let set = Set::small();
    let near = |at: usize| at.saturating_sub(1)..=at + 1;
    let edges = [0, 8, 127, 128, 4095, TAIL_AT, SMALL_BYTES - FOOTER_BYTES, SMALL_BYTES - 2].into_iter().flat_map(near);
    let lengths: BTreeSet<usize> = edges.chain((0..SMALL_BYTES).step_by(151)).collect();
    assert!(lengths.len() > 100);
    for (turn, length) in lengths.into_iter().enumerate() {
        let index = turn % 6;
        set.change(index, |bytes| bytes.truncate(length));
        set.finds(&[(index as u64, class_of_length(length))]);
        if turn % 4 == 0 {
            set.heals();
        } else {
            set.write(index, set.original(index));
        }
    }
    assert_eq!(set.quarantine().len(), 0, "what is torn or rotten is worth nothing");
}

#[test]
fn flipped_bits_are_named_and_undone_by_the_binary() {
    let set = Set::small();
    let edges =
        [0, 8, 4095, 4096, TAIL_AT - 1, TAIL_AT, TAIL_AT + 4, SMALL_BYTES - 128, SMALL_BYTES - 120, SMALL_BYTES - 1];
    let places: BTreeSet<usize> = edges.into_iter().chain((0..SMALL_BYTES).step_by(131)).collect();
    assert!(places.len() > 90);
    for (turn, at) in places.into_iter().enumerate() {
        let index = turn % 6;
        set.change(index, |bytes| bytes[at] ^= 1 << (turn % 8));
        set.finds(&[(index as u64, class_of_changed_byte(at))]);
        assert_eq!(inspect(&set.path(index)).exits(1).json()["class"], class_of_changed_byte(at));
        if turn % 4 == 0 {
            set.heals();
        } else {
            set.write(index, set.original(index));
        }
    }
}

#[test]
fn a_flipped_bit_in_a_large_fragment_is_found_wherever_it_is() {
    let set = Set::new("rs:2+1", painted(3_000_000));
    let length = set.original(0).len();
    for (turn, at) in (0..length).step_by(length / 23).enumerate() {
        let index = turn % 3;
        set.change(index, |bytes| bytes[at] ^= 0x80);
        assert_eq!(set.findings().len(), 1);
        set.decodes();
        set.heals();
    }
}

#[test]
fn as_many_damaged_as_the_code_survives_and_one_more() {
    let set = Set::new("lrc:6,2,2", painted(100_000));
    let damage = |index: usize, kind: usize| match kind {
        0 => set.remove(index),
        1 => set.change(index, |bytes| bytes[5000] ^= 1),
        _ => set.change(index, |bytes| bytes.truncate(6000)),
    };
    // All of one group of three: three losses, of three kinds.
    [0, 1, 2].into_iter().for_each(|index| damage(index, index));
    set.finds(&[(0, "missing"), (1, "rot.payload"), (2, "torn.committed")]);
    // The group's parity too: three unknowns and two global parities.
    damage(6, 1);
    // Rot of a payload is only found by reading it, so the first error names it too.
    set.is_lost(&[
        "4 of 10",
        "0 (missing)",
        "1 (rot.payload)",
        "2 (torn.committed)",
        "6 (rot.payload)",
        "1 more is needed",
    ]);
    let report = verify(&set.dir).exits(1).json();
    assert_eq!((&report["extents"][0]["decodable"], &report["extents"][0]["usable"]), (&false.into(), &6.into()));
    // A repair that cannot says so, and changes nothing.
    let before: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    let report = repair(&set.dir).exits(1).says(&["1 more is needed"]).json();
    assert_eq!(report["full_redundancy"], false);
    let after: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    assert!(before == after, "a repair that cannot changed something");
    set.write(6, set.original(6));
    set.heals();
}

#[test]
fn missing_beyond_tolerance_names_which_and_how_many_more() {
    let set = Set::small();
    [0, 2, 3, 5].into_iter().for_each(|index| set.remove(index));
    set.is_lost(&["4 of 6", "0 (missing)", "2 (missing)", "3 (missing)", "5 (missing)", "at least 2 more are needed"]);
    [1, 4].into_iter().for_each(|index| set.remove(index));
    set.is_lost(&["no readable fragments"]);
    repair(&set.dir).exits(1);
}

#[test]
fn swapped_names() {
    let set = Set::small();
    let (a, b) = (set.path(0), set.path(4));
    fs::rename(&a, set.beside("t")).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(set.beside("t"), &b).unwrap();
    set.finds(&[(0, "identity"), (4, "identity")]);
    // Nothing was lost: with two others gone the file still comes back, and both are only renamed.
    set.remove(1);
    set.remove(2);
    set.decodes();
    let report = set.heals();
    assert_eq!((&report["rebuilt_fragments"], report["relocated"].as_array().unwrap().len()), (&2.into(), 2));
}

#[test]
fn all_names_in_a_ring() {
    let set = Set::small();
    for index in 0..6 {
        set.write((index + 1) % 6, set.original(index));
    }
    set.finds(&(0..6).map(|index| (index, "identity")).collect::<Vec<_>>());
    let report = set.heals();
    assert_eq!(report["rebuilt_fragments"], 0);
    assert_eq!(set.quarantine().len(), 0);
}

#[test]
fn a_name_of_its_own() {
    let set = Set::small();
    fs::rename(set.path(2), set.dir.join("saved from the old disk")).unwrap();
    set.finds(&[(2, "identity")]);
    set.heals();
}

#[test]
fn a_rename_that_a_crash_cut_short_is_finished() {
    // A repair that puts strays in place goes through a second name; killed there, it leaves that.
    let set = Set::small();
    let mut name = set.path(3).into_os_string();
    name.push(".moving");
    fs::rename(set.path(3), &name).unwrap();
    set.finds(&[(3, "identity")]);
    set.heals();
}

#[test]
fn a_bad_fragment_under_a_wrong_name_is_replaced_in_one_repair() {
    let set = Set::small();
    let mut impossible = Parts::of(set.original(2));
    impossible.payload[4000] ^= 0x40;
    impossible.table = impossible.right_table();
    let mut rotten = set.original(2).to_vec();
    rotten[5000] ^= 1;
    for (bytes, class) in [(rotten, "rot.payload"), (impossible.file(), "impossible")] {
        set.write(2, &bytes);
        fs::rename(set.path(2), set.dir.join("elsewhere")).unwrap();
        set.finds(&[(2, class)]);
        set.heals();
        // The same with something else at its own name.
        fs::write(set.dir.join("elsewhere"), &bytes).unwrap();
        set.remove(2);
        mkfifo(&set.path(2));
        assert_eq!(set.findings().len(), 1);
        set.decodes();
        set.heals();
    }
    assert_eq!(set.quarantine().values().filter(|content| content.is_none()).count(), 2, "a FIFO was thrown away");
}

#[test]
fn a_stray_whose_own_name_is_taken_by_a_stranger() {
    let (_, stranger) = of_another_file("rs:4+2", 1);
    let set = Set::small();
    fs::rename(set.path(2), set.dir.join("elsewhere")).unwrap();
    set.write(2, &stranger);
    set.decodes();
    set.heals();
    // And a fragment of this set under the name of a stranger's.
    let (name, bytes) = of_another_file("rs:4+2", 3);
    fs::write(set.dir.join(&name), bytes).unwrap();
    fs::rename(set.path(2), set.dir.join(name.replace(".00003.", ".00004."))).unwrap();
    set.decodes();
    let report = set.heals();
    assert_eq!(report["rebuilt_fragments"], 0, "a good fragment was set aside");
}

#[test]
fn a_copy_of_a_sibling_over_a_name() {
    let set = Set::small();
    set.write(1, set.original(5));
    set.finds(&[(1, "identity"), (5, "surplus")]);
    set.heals();
}

#[test]
fn of_another_extent_of_the_same_file() {
    // Two extents without 256 MiB: the same set twice in one folder would be two streams, so only a large file will do.
    let root = tempfile::TempDir::new().unwrap();
    let (input, dir, out) = (root.path().join("big"), root.path().join("d"), root.path().join("o"));
    support::sparse_file(&input, (256 << 20) + 5);
    encode(&input, "rs:2+1", &dir).exits(0);
    let report = verify(&dir).exits(0).json();
    let path =
        |extent: usize, index: usize| dir.join(report["extents"][extent]["fragments"][index]["path"].as_str().unwrap());
    // The small one of the second extent over one of the first.
    let kept = root.path().join("kept");
    fs::rename(path(0, 1), &kept).unwrap();
    fs::copy(path(1, 1), path(0, 1)).unwrap();
    let report = verify(&dir).exits(1).json();
    assert_eq!(report["extents"][0]["fragments"][1]["class"], "identity");
    assert_eq!(report["extents"][1]["fragments"][3]["class"], "surplus");
    support::decode(&dir, &out).exits(0);
    assert!(support::same_bytes(&input, &out));
    repair(&dir).exits(0);
    verify(&dir).exits(0);
    assert!(support::same_bytes(&kept, &path(0, 1)));
}

/// A fragment of a file that has nothing to do with the set.
fn of_another_file(code: &str, index: usize) -> (String, Vec<u8>) {
    let other = Set::new(code, vec![7; 13_000]);
    (other.path(index).file_name().unwrap().to_str().unwrap().to_owned(), other.original(index).to_vec())
}

#[test]
fn of_another_file_over_a_name() {
    for code in ["rs:4+2", "lrc:6,2,2"] {
        let (_, bytes) = of_another_file(code, 1);
        let set = Set::small();
        set.write(1, &bytes);
        let found = set.findings();
        assert!(found.contains(&(Some(1), "identity".into())), "{found:?}");
        set.decodes();
        set.heals();
        let kept = set.quarantine();
        assert!(kept.len() == 1 && kept.values().all(|kept| kept.as_ref() == Some(&bytes)), "{:?}", kept.keys());
    }
}

#[test]
fn of_another_file_put_beside() {
    let (name, bytes) = of_another_file("rs:4+2", 1);
    let set = Set::small();
    fs::write(set.dir.join(&name), &bytes).unwrap();
    let report = verify(&set.dir).exits(1).json();
    assert_eq!(report["extents"].as_array().unwrap().len(), 2);
    set.decodes();
    set.remove(0);
    set.remove(1);
    set.decodes();
    set.heals();
    assert_eq!(set.quarantine().into_values().collect::<Vec<_>>(), [Some(bytes)]);
}

#[test]
fn another_whole_file_in_the_same_folder_is_left_alone() {
    let (set, other) = (Set::small(), Set::new("replicate:2", painted(500)));
    for (name, bytes) in &other.originals {
        fs::write(set.dir.join(name), bytes).unwrap();
    }
    verify(&set.dir).exits(0);
    set.decodes();
    set.remove(3);
    fs::remove_file(set.dir.join(other.path(0).file_name().unwrap())).unwrap();
    repair(&set.dir).exits(0);
    verify(&set.dir).exits(0);
    assert_eq!(listing(&set.dir).len(), 8);
}

#[test]
fn of_a_newer_generation() {
    let set = Set::small();
    let newer = Parts::of(set.original(2)).in_generation(2);
    let bytes = newer.file();
    assert_eq!(examine(&bytes).class, Class::Healthy);
    // Under its own name, beside the six.
    let beside = set.dir.join(newer.header.identity.file_name());
    fs::write(&beside, &bytes).unwrap();
    set.finds(&[(2, "orphan.newer")]);
    set.heals();
    // Over one of the six.
    set.write(2, &bytes);
    set.finds(&[(2, "orphan.newer")]);
    set.heals();
    assert!(set.quarantine().len() == 2 && set.quarantine().into_values().all(|kept| kept.as_ref() == Some(&bytes)));
}

#[test]
fn of_an_older_generation() {
    let first = Set::small();
    let files: Vec<&[u8]> = (0..6).map(|index| first.original(index)).collect();
    let second = set_in_generation(&files, 2);
    let mut set = Set::small();
    fs::remove_dir_all(&set.dir).unwrap();
    fs::create_dir(&set.dir).unwrap();
    set.originals.clear();
    for bytes in second {
        let name = Parts::of(&bytes).header.identity.file_name();
        fs::write(set.dir.join(&name), &bytes).unwrap();
        set.originals.insert(name.into(), bytes);
    }
    set.finds(&[]);
    // One of the first generation beside, one in the place of a second.
    let old = first.path(3);
    fs::write(set.dir.join(old.file_name().unwrap()), first.original(3)).unwrap();
    set.write(4, first.original(4));
    set.finds(&[(3, "stale"), (4, "stale")]);
    set.remove(0);
    set.decodes();
    set.heals();
    assert_eq!(set.quarantine().len(), 2);
}

#[test]
fn two_of_one_index_that_differ() {
    let set = Set::small();
    // A second fragment 2 of other bytes, sealed by a record of its own: who has the majority is the extent.
    let mut other = Parts::of(set.original(2));
    other.payload[7] ^= 1;
    other.table = other.right_table();
    other.root = other.header.identity.root(&Hash::of(&other.payload));
    other.record.fragments[2].root = other.root;
    fs::write(set.dir.join("a second"), other.file()).unwrap();
    set.finds(&[(2, "conflict")]);
    // In its place, with the right one beside.
    set.write(2, &other.file());
    fs::write(set.dir.join("a second"), set.original(2)).unwrap();
    let found = set.findings();
    assert!(found.contains(&(Some(2), "conflict".into())), "{found:?}");
    set.decodes();
    set.heals();
    assert!(set.quarantine().into_values().all(|kept| kept == Some(other.file())));
}

#[test]
fn a_good_copy_stands_in_for_a_rotten_one() {
    // Both look alike until their payloads are read. What a file is, is what its root proves: the good one is enough.
    let set = Set::new("replicate:1", painted(9000));
    set.change(0, |bytes| bytes[5000] ^= 1);
    fs::write(set.dir.join("a copy"), set.original(0)).unwrap();
    assert!(!set.findings().is_empty());
    set.decodes();
    set.heals();
}

#[test]
fn a_further_copy() {
    let set = Set::small();
    fs::write(set.dir.join("a copy"), set.original(2)).unwrap();
    set.finds(&[(2, "surplus")]);
    set.heals();
    assert_eq!(set.quarantine().into_values().collect::<Vec<_>>(), [Some(set.original(2).to_vec())]);
}

#[test]
fn a_record_of_the_minority() {
    let set = Set::small();
    let mut other = Parts::of(set.original(1));
    other.record.revision = 9;
    set.write(1, &other.file());
    set.finds(&[(1, "conflict")]);
    set.heals();
}

#[test]
fn a_payload_that_only_the_root_betrays() {
    let set = Set::small();
    for index in [0, 5] {
        let mut other = Parts::of(set.original(index));
        other.payload[4000] ^= 0x40;
        other.table = other.right_table();
        set.write(index, &other.file());
        set.finds(&[(index as u64, "impossible")]);
        assert_eq!(inspect(&set.path(index)).exits(1).json()["class"], "impossible");
        set.heals();
    }
    // Beyond tolerance its bytes are still not used.
    let mut other = Parts::of(set.original(0));
    other.payload[4000] ^= 0x40;
    other.table = other.right_table();
    set.write(0, &other.file());
    set.remove(1);
    set.remove(2);
    set.is_lost(&["0 (impossible)", "1 more is needed"]);
}

#[test]
fn a_newer_format_is_not_damage_and_is_kept() {
    let set = Set::small();
    let newer = Parts::of(set.original(3)).file_with_header(8, &[2, 0, 2, 0]);
    set.write(3, &newer);
    set.finds(&[(3, "unsupported")]);
    assert_eq!(inspect(&set.path(3)).exits(1).json()["class"], "unsupported");
    // It is neither lost nor ours to replace; the rest is healed all the same.
    set.remove(5);
    repair(&set.dir).exits(1).says(&["fragments 3 are in a newer format", "left alone"]);
    set.finds(&[(3, "unsupported")]);
    assert!(fs::read(set.path(3)).unwrap() == newer && !set.dir.join("quarantine").exists());
}

#[test]
fn what_is_no_file_at_all() {
    let set = Set::small();
    let outside = set.beside("outside");
    fs::write(&outside, set.original(0)).unwrap();
    let socket = set.beside("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let put = |kind: &str| {
        let path = set.path(0);
        fs::remove_file(&path).unwrap();
        match kind {
            "FIFO" => mkfifo(&path),
            "symlink" => symlink("nowhere", &path).unwrap(),
            "symlink to itself" => symlink(&path, &path).unwrap(),
            // Even a good fragment: what it points to may be on a disk that is not this fault domain.
            "symlink to a good fragment" => symlink(&outside, &path).unwrap(),
            "folder" => fs::create_dir(&path).unwrap(),
            // A socket keeps working under another name.
            _ => fs::rename(&socket, &path).unwrap(),
        }
    };
    for (turn, kind) in
        ["FIFO", "symlink", "symlink to itself", "symlink to a good fragment", "folder", "socket"].iter().enumerate()
    {
        put(kind);
        set.finds(&[(0, "unreadable")]);
        assert_eq!(inspect(&set.path(0)).exits(1).json()["class"], "unreadable", "{kind}");
        set.heals();
        assert_eq!(set.quarantine().len(), turn + 1, "{kind}");
    }
    assert!(fs::read(outside).unwrap() == set.original(0), "what the symlink points to was touched");
    // Under names of their own they are nobody's business.
    mkfifo(&set.dir.join("pipe"));
    symlink(set.path(1), set.dir.join("link")).unwrap();
    fs::create_dir(set.dir.join("folder")).unwrap();
    fs::write(set.dir.join("notes.txt"), "hello").unwrap();
    set.finds(&[]);
    assert!(fs::symlink_metadata(set.dir.join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn garbage_under_a_fragments_name() {
    let set = Set::small();
    let name = |text: &str| set.dir.join(text);
    fs::write(name("00000000000000000000000000000bad.1.00000.frag"), b"not a fragment").unwrap();
    // An index that the code does not have.
    let stem = set.path(0).file_name().unwrap().to_str().unwrap().replace(".00000.frag", "");
    fs::write(name(&format!("{stem}.00099.frag")), b"").unwrap();
    let found: BTreeSet<_> = set.findings().into_iter().collect();
    let torn = |index| (Some(index), "torn.uncommitted".to_owned());
    assert_eq!(found, [torn(0), torn(99)].into());
    set.decodes();
    set.heals();
    assert_eq!(set.quarantine().len(), 2);
}

#[test]
fn a_dry_run_changes_nothing() {
    let set = Set::small();
    set.remove(0);
    set.change(1, |bytes| bytes[5000] ^= 1);
    fs::write(set.dir.join("a copy"), set.original(4)).unwrap();
    let before: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    let arguments = [OsStr::new("repair"), set.dir.as_ref(), "--dry-run".as_ref(), "--json".as_ref()];
    let report = run(arguments).exits(0).json();
    assert_eq!((&report["rebuilt_fragments"], &report["dry_run"]), (&2.into(), &true.into()));
    let after: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    assert!(before == after);
    set.heals();
}

#[test]
fn repair_reports_all_that_it_sets_aside() {
    type Damage = fn(&Set);
    let cases: [(&str, Damage); 3] = [
        ("a rotten fragment in the place of a good copy", |set| {
            fs::copy(set.path(3), set.dir.join("copy")).unwrap();
            set.change(3, |bytes| bytes[5000] ^= 1);
        }),
        ("a FIFO in the place of a lost fragment", |set| {
            set.remove(2);
            mkfifo(&set.path(2));
        }),
        ("a copy of a sibling", |set| set.write(1, set.original(5))),
    ];
    for (label, damage) in cases {
        let set = Set::small();
        damage(&set);
        let report = set.heals();
        let told = report["quarantined"].as_array().unwrap().len();
        assert_eq!((told, set.quarantine().len()), (1, 1), "{label}: {report}");
    }
}
