//! Folders whose parts do not agree: records against records, names against contents, what a killed command left against what
//! lies in its way. What can be proven is used, what cannot is named, and nothing good is moved where it is lost.
mod support;

use ec_core::fragment::{Class, ExtentRecord, Hash, examine};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::forge::{Parts, extent, listed, record};
use support::{
    NINEFOLD, Ran, Set, command, decode, encode, finish, listing, painted, piped, repair, same_bytes, verify,
};
use tempfile::TempDir;

/// A folder of forged fragments.
struct Folder {
    root: TempDir,
    dir: PathBuf,
}

impl Folder {
    fn new(fragments: &[Parts]) -> Self {
        let root = TempDir::new().unwrap();
        let dir = root.path().join("fragments");
        fs::create_dir(&dir).unwrap();
        let folder = Self { root, dir };
        fragments.iter().for_each(|parts| folder.put(parts));
        folder
    }

    fn put(&self, parts: &Parts) {
        put(&self.dir, parts);
    }

    /// Insists that decode gives these bytes.
    #[track_caller]
    fn decodes(&self, bytes: &[u8]) {
        let out = self.root.path().join("out");
        decode(&self.dir, &out).exits(0);
        assert!(fs::read(&out).unwrap() == bytes, "decoded bytes differ");
        fs::remove_file(&out).unwrap();
    }

    /// Insists that decode calls it damage, and leaves nothing.
    #[track_caller]
    fn is_refused(&self) -> Ran {
        let ran = decode(&self.dir, &self.root.path().join("out")).exits(1);
        assert_eq!(listing(self.root.path()).len(), 1, "decode left something");
        ran
    }

    /// The fault verify finds in the only stream.
    #[track_caller]
    fn fault(&self) -> String {
        let report = verify(&self.dir).exits(1).json();
        assert_eq!(report["whole"], false, "{report}");
        assert_eq!(report["streams"].as_array().unwrap().len(), 1, "{report}");
        let fault = report["streams"][0]["fault"].as_str().unwrap_or_else(|| panic!("no fault in {report}"));
        // And in words.
        let text = finish(command([OsStr::new("verify"), self.dir.as_ref()]).spawn().unwrap()).exits(1).stdout;
        assert!(text.contains("is not whole") && text.contains(fault), "{text}");
        fault.to_owned()
    }
}

/// Puts a fragment under its own name.
fn put(dir: &Path, parts: &Parts) {
    let bytes = parts.file();
    assert_eq!(examine(&bytes).class, Class::Healthy, "a bad forgery");
    fs::write(dir.join(parts.header.identity.file_name()), bytes).unwrap();
}

/// Every name in a folder, with the bytes of what is a regular file.
fn content(dir: &Path) -> BTreeMap<OsString, Option<Vec<u8>>> {
    let read = |name: &OsString| {
        let path = dir.join(name);
        fs::symlink_metadata(&path).unwrap().is_file().then(|| fs::read(&path).unwrap())
    };
    listing(dir).into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// A name with `.moving` behind it, which is where a relocation puts a fragment between its two rounds.
fn moving(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".moving");
    name.into()
}

fn rot(set: &Set, indices: &[usize]) {
    indices.iter().for_each(|index| set.change(*index, |bytes| bytes[5000] ^= 1));
}

// Losses and copies.

#[test]
fn an_extent_lost_to_rot_is_not_fully_redundant() {
    let set = Set::small();
    rot(&set, &[0, 1, 2]);
    let before = content(&set.dir);
    for _ in 0..2 {
        let ran = repair(&set.dir).exits(1).says(&["0 (rot.payload)", "1 more is needed"]);
        assert_eq!(ran.json()["full_redundancy"], false);
        assert_eq!(ran.json()["rebuilt_fragments"], 0);
        assert!(content(&set.dir) == before, "a repair that cannot changed something");
    }
}

#[test]
fn good_copies_stand_in_for_more_rotten_fragments_than_the_code_survives() {
    for header_too in [false, true] {
        let set = Set::small();
        rot(&set, &[0, 1, 4]);
        if header_too {
            set.change(1, |bytes| bytes[100] ^= 1);
        }
        for index in [0, 1, 4] {
            fs::write(set.dir.join(format!("copy of {index}")), set.original(index)).unwrap();
        }
        let report = verify(&set.dir).exits(1).json();
        assert_eq!((&report["extents"][0]["decodable"], &report["extents"][0]["usable"]), (&true.into(), &6.into()));
        set.decodes();
        set.heals();
    }
    // Two of the three copies are rotten too: one is enough.
    let set = Set::small();
    rot(&set, &[0, 1, 4]);
    for index in [0, 1, 4] {
        let mut bytes = set.original(index).to_vec();
        bytes[6000] ^= u8::from(index != 1);
        fs::write(set.dir.join(format!("copy of {index}")), bytes).unwrap();
    }
    set.decodes();
    set.heals();
}

// What a killed relocation leaves.

#[test]
fn a_relocation_that_was_killed_is_finished() {
    let set = Set::small();
    // One that was waiting, then all of them.
    for count in [1, 6] {
        (0..count).for_each(|index| fs::rename(set.path(index), moving(&set.path(index))).unwrap());
        let report = set.heals();
        assert_eq!((&report["rebuilt_fragments"], report["relocated"].as_array().unwrap().len()), (&0.into(), count));
    }
}

#[test]
fn what_lies_in_the_way_of_a_relocation_is_gone_around() {
    let set = Set::small();
    let waiting = moving(&set.path(3));
    // Somebody's file, and a fragment that comes from elsewhere or was itself waiting behind it.
    fs::write(&waiting, "notes").unwrap();
    for name in [set.dir.join("elsewhere"), moving(&waiting), moving(&moving(&waiting))] {
        fs::rename(set.path(3), name).unwrap();
        assert_eq!(repair(&set.dir).exits(0).json()["rebuilt_fragments"], 0);
        assert!(fs::read(set.path(3)).unwrap() == set.original(3));
        assert_eq!(fs::read_to_string(&waiting).unwrap(), "notes");
        verify(&set.dir).exits(0);
    }
    // Another fragment's waiting place is taken by one that waits too.
    fs::rename(set.path(4), &waiting).unwrap();
    fs::rename(set.path(3), set.dir.join("elsewhere")).unwrap();
    assert_eq!(set.heals()["rebuilt_fragments"], 0);
    // Both of one: the second copy is surplus.
    fs::copy(set.path(3), &waiting).unwrap();
    fs::rename(set.path(3), moving(&waiting)).unwrap();
    assert_eq!(set.heals()["rebuilt_fragments"], 0);
    assert_eq!(set.quarantine().into_values().collect::<Vec<_>>(), [Some(set.original(3).to_vec())]);
}

// Strangers.

#[test]
fn what_is_left_of_another_stream_is_a_loss_and_not_a_stray() {
    let (set, other) = (Set::small(), Set::new("rs:4+2", painted(9_000)));
    let names: Vec<_> = [1, 4].iter().map(|index| other.path(*index).file_name().unwrap().to_owned()).collect();
    for name in &names {
        fs::write(set.dir.join(name), &other.originals[name]).unwrap();
    }
    set.remove(5);
    for _ in 0..2 {
        let ran = repair(&set.dir).exits(1).says(&["4 of 6 fragments are lost", "2 more are needed"]);
        assert_eq!(ran.json()["full_redundancy"], false);
        assert!(!set.dir.join("quarantine").exists());
        for name in &names {
            assert!(fs::read(set.dir.join(name)).unwrap() == other.originals[name]);
        }
        assert!(fs::read(set.path(5)).unwrap() == set.original(5), "the set itself was not healed");
    }
    // One alone came from elsewhere.
    fs::remove_file(set.dir.join(&names[0])).unwrap();
    repair(&set.dir).exits(0).says(&["a lone fragment of stream"]);
    set.is_as_made();
    assert_eq!(set.quarantine().into_values().collect::<Vec<_>>(), [Some(other.originals[&names[1]].clone())]);
}

#[test]
fn a_kernel_that_does_not_exist_is_no_damage() {
    let set = Set::small();
    rot(&set, &[0]);
    fs::rename(set.path(1), set.dir.join("elsewhere")).unwrap();
    set.remove(2);
    fs::write(set.dir.join("a copy"), set.original(3)).unwrap();
    let before = content(&set.dir);
    let out = set.beside("out");
    let dir = set.dir.as_os_str();
    for arguments in [
        &[OsStr::new("verify"), dir][..],
        &[OsStr::new("repair"), dir],
        &[OsStr::new("repair"), dir, "--dry-run".as_ref()],
        &[OsStr::new("decode"), dir, "--out".as_ref(), out.as_ref()],
    ] {
        let ran = finish(command(arguments).env("NINEFOLD_KERNEL", "foo").spawn().unwrap()).exits(2).says(&["foo"]);
        assert_eq!(ran.stdout, "");
        assert!(content(&set.dir) == before && !out.exists(), "{arguments:?}");
    }
}

#[test]
fn a_fragment_of_a_code_that_cannot_be_built_stops_nobody() {
    let set = Set::small();
    let own = Parts::of(set.original(0)).record;
    // Of the same stream, and of another.
    for stream in [own.stream, record("rs:4+2", 1, 1).stream] {
        let impossible = ExtentRecord { stream, ..record("rs:30+5@power", 0x77, 1000) };
        assert!(ec_core::Code::new(&impossible.code).is_err());
        put(&set.dir, &extent(impossible, &painted(1000))[2]);
        set.remove(1);
        verify(&set.dir).exits(1).json();
        set.decodes();
        set.heals();
    }
    assert_eq!(set.quarantine().len(), 2);
}

// Streams whose extents do not agree.

/// Two extents of one stream, 3,000 and 2,000 bytes, each listed in the other, with `change` made to the record of the second.
fn two_extents(change: impl Fn(&mut ExtentRecord)) -> (Vec<Parts>, Vec<u8>) {
    let bytes = painted(5000);
    let list = vec![listed(0x50, 0, 3000), listed(0x51, 3000, 2000)];
    let first = ExtentRecord { stream_bytes: Some(5000), extents: list.clone(), ..record("rs:2+1", 0x50, 3000) };
    let mut second = ExtentRecord { ordinal: 1, offset: 3000, extent: first.extent, ..first.clone() };
    second.extent = list[1].extent;
    second.extent_bytes = 2000;
    change(&mut second);
    // As many as its own record says.
    let second_bytes = painted(3000 + second.extent_bytes as usize).split_off(3000);
    let fragments = [extent(first, &bytes[..3000]), extent(second, &second_bytes)].concat();
    (fragments, bytes)
}

#[test]
fn extents_that_agree_are_a_stream() {
    let (fragments, bytes) = two_extents(|_| {});
    let folder = Folder::new(&fragments);
    verify(&folder.dir).exits(0);
    folder.decodes(&bytes);
    // One that was sealed before the list was known says nothing against it.
    let (fragments, bytes) = two_extents(|record| record.extents.clear());
    let folder = Folder::new(&fragments);
    verify(&folder.dir).exits(0);
    folder.decodes(&bytes);
}

#[test]
fn extents_whose_records_disagree_are_no_file() {
    type Change = fn(&mut ExtentRecord);
    let changes: [(&str, Change); 6] = [
        ("another offset", |record| record.offset = 1024),
        ("an offset far behind the end", |record| (record.offset, record.stream_bytes) = (1 << 40, None)),
        ("another ordinal", |record| record.ordinal = 2),
        ("the first ordinal", |record| (record.ordinal, record.offset) = (0, 0)),
        ("shorter than listed", |record| record.extent_bytes = 1999),
        ("longer than listed", |record| (record.extent_bytes, record.stream_bytes) = (2001, Some(6000))),
    ];
    for (label, change) in changes {
        // Against as many fragments that carry the list, against fewer, against more.
        for gone in [None, Some(0), Some(3)] {
            let (mut fragments, _) = two_extents(|record| {
                record.extents.clear();
                change(record);
            });
            gone.map(|at| fragments.remove(at));
            let folder = Folder::new(&fragments);
            folder.is_refused().says(&["do not make a whole stream"]);
            println!("{label}: {}", folder.fault());
        }
    }
}

#[test]
fn extents_with_lists_that_disagree_are_no_file() {
    // Each is whole by its own list; only one of them can be the stream.
    let bytes = painted(3000);
    let sole = |id| ExtentRecord { extents: vec![listed(id, 0, 3000)], ..record("rs:2+1", id, 3000) };
    let [one, two] = [0x50, 0x51].map(|id| extent(sole(id), &bytes));
    let folder = Folder::new(&[one, two].concat());
    folder.fault();
    folder.is_refused();
}

#[test]
fn a_stream_without_a_length_a_hole_or_an_end_is_no_file() {
    // No list in any: what the extents say of themselves is all there is.
    let bytes = painted(9000);
    let part = |ordinal: u64, stream_bytes: Option<u64>| {
        let at = ordinal * 3000;
        let record =
            ExtentRecord { ordinal, offset: at, stream_bytes, ..record("rs:2+1", 0x50 + u128::from(ordinal), 3000) };
        extent(record, &bytes[at as usize..][..3000])
    };
    let of = |ordinals: &[u64], stream_bytes| {
        Folder::new(&ordinals.iter().flat_map(|ordinal| part(*ordinal, stream_bytes)).collect::<Vec<_>>())
    };
    let whole = of(&[0, 1, 2], Some(9000));
    verify(&whole.dir).exits(0);
    whole.decodes(&bytes);
    for (ordinals, stream_bytes, word) in [
        (&[0, 1, 2][..], None, "length"),
        (&[0][..], None, "length"),
        (&[0, 2], Some(9000), "3000"),
        (&[1, 2], Some(9000), "3000"),
        (&[0, 1], Some(9000), "9000"),
        (&[0], Some(9000), "9000"),
        (&[0, 1, 2], Some(9001), "9001"),
    ] {
        let folder = of(ordinals, stream_bytes);
        let fault = folder.fault();
        assert!(fault.contains(word), "{ordinals:?} of {stream_bytes:?}: {fault}");
        folder.is_refused().says(&[&fault]);
    }
}

#[test]
fn one_forged_fragment_does_not_speak_for_a_stream() {
    type Change = fn(&mut ExtentRecord);
    let changes: [(&str, Change); 6] = [
        ("in the place of the first", |_| {}),
        ("in the place of the second", |record| (record.ordinal, record.offset) = (1, 3000)),
        ("a third", |record| (record.ordinal, record.offset, record.stream_bytes) = (2, 5000, Some(5700))),
        ("of a stream of 2^60 bytes", |record| record.stream_bytes = Some(1 << 60)),
        ("at its end", |record| {
            (record.ordinal, record.offset, record.stream_bytes) = (2, (1 << 60) - 700, Some(1 << 60));
        }),
        ("of another name and length", |record| (record.name, record.stream_bytes) = (b"other".to_vec(), None)),
    ];
    for (label, change) in changes {
        // Before the others and behind them, in the order of ids; one that is whole alone and one that is not.
        for (id, code) in [(1, "replicate:1"), (0x99, "replicate:1"), (1, "rs:4+2"), (0x99, "rs:4+2")] {
            let (fragments, bytes) = two_extents(|_| {});
            let folder = Folder::new(&fragments);
            let mut forged = ExtentRecord { stream_bytes: Some(5000), ..record(code, id, 700) };
            change(&mut forged);
            folder.put(&extent(forged, &[7; 700])[0]);
            println!("{label}, {id} {code}");
            folder.decodes(&bytes);
            folder.fault();
            // Within tolerance of what is good.
            fs::remove_file(folder.dir.join(fragments[0].header.identity.file_name())).unwrap();
            fs::remove_file(folder.dir.join(fragments[5].header.identity.file_name())).unwrap();
            folder.decodes(&bytes);
            repair(&folder.dir).exits(1);
            folder.decodes(&bytes);
            for parts in &fragments {
                assert!(fs::read(folder.dir.join(parts.header.identity.file_name())).unwrap() == parts.file());
            }
        }
    }
}

#[test]
fn a_stream_larger_than_any_disk_is_lost_before_room_is_made_for_it() {
    let bytes = painted(700);
    // By its list, which only the first extent is here of: 1,800 extents of one gibibyte are the most a record holds.
    let mut list = vec![listed(0x50, 0, 700)];
    list.extend((0..1800).map(|at| listed(0x51 + u128::from(at), 700 + (at << 30), 1 << 30)));
    let long = ExtentRecord { stream_bytes: Some(700 + (1800 << 30)), extents: list, ..record("rs:2+1", 0x50, 700) };
    Folder::new(&extent(long, &bytes)).is_refused();
    // By its length alone.
    let endless = ExtentRecord { stream_bytes: Some(1 << 60), ..record("rs:2+1", 0x50, 700) };
    Folder::new(&extent(endless.clone(), &bytes)).is_refused();
    let endless = ExtentRecord { ordinal: 5, offset: (1 << 60) - 700, ..endless };
    Folder::new(&extent(endless, &bytes)).is_refused();
    // The largest extent there can be, of which one fragment of 128 is here: 8 MiB that promise a gibibyte.
    let mut large = extent(record("rs:128+1", 0x50, 128), &[0; 128]).swap_remove(0);
    large.payload = vec![0; 8 << 20];
    (large.header.extent_bytes, large.record.extent_bytes, large.record.stream_bytes) =
        (1 << 30, 1 << 30, Some(1 << 30));
    for entry in &mut large.record.fragments {
        entry.identity.payload_bytes = 8 << 20;
        entry.root = entry.identity.root(&Hash::of(&large.payload));
    }
    (large.header.identity, large.root) = (large.record.fragments[0].identity, large.record.fragments[0].root);
    large.table = large.right_table();
    Folder::new(&[large]).is_refused().says(&["127 more are needed"]);
}

// Revisions of the record.

/// A fragment with its record at this revision, sealed anew: what it was born as and its root are as before.
fn revise(set: &Set, index: usize, revision: u64) {
    let mut parts = Parts::of(set.original(index));
    parts.record.revision = revision;
    set.write(index, &parts.file());
}

#[test]
fn fragments_with_another_revision_of_the_record_are_still_good() {
    // Older and newer minorities, and a tie, which the higher revision wins.
    for (code, revised, revision, conflicts) in [
        ("rs:4+2", &[1][..], 2, &[1][..]),
        ("rs:4+2", &[0, 5], 9, &[0, 5]),
        ("rs:4+2", &[0, 1, 2, 3], 2, &[4, 5]),
        ("rs:4+2", &[0, 1, 2], 2, &[3, 4, 5]),
        ("rs:4+2", &[1, 3, 5], 2, &[0, 2, 4]),
        ("lrc:6,2,2", &[0, 1, 2, 3, 6], 2, &[4, 5, 7, 8, 9]),
        ("replicate:2", &[0], 2, &[1]),
    ] {
        let set = Set::new(code, painted(13_000));
        revised.iter().for_each(|index| revise(&set, *index, revision));
        println!("{code} {revised:?}");
        set.decodes();
        let expected: Vec<_> = conflicts.iter().map(|index| (*index, "conflict")).collect();
        set.finds(&expected);
        let report = verify(&set.dir).exits(1).json();
        assert_eq!(
            (&report["extents"][0]["decodable"], &report["extents"][0]["usable"]),
            (&true.into(), &set.len().into())
        );
        let report = repair(&set.dir).exits(0).json();
        assert_eq!(report["full_redundancy"], true, "{report}");
        verify(&set.dir).exits(0);
        set.decodes();
        // One record for all again.
        let files = listing(&set.dir).into_iter().filter(|name| *name != "quarantine");
        let records: Vec<_> = files.map(|name| Parts::of(&fs::read(set.dir.join(name)).unwrap()).record).collect();
        assert!(records.len() == set.len() && records.iter().all(|record| *record == records[0]));
    }
}

#[test]
fn fragments_with_another_revision_serve_where_others_are_lost() {
    let set = Set::small();
    revise(&set, 0, 2);
    set.remove(3);
    rot(&set, &[4]);
    set.decodes();
    repair(&set.dir).exits(0);
    verify(&set.dir).exits(0);
    set.is_as_made();
}

// The machine.

#[test]
fn a_file_that_says_it_is_empty_and_is_not() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("d");
    let source = Path::new("/proc/version");
    assert_eq!(fs::metadata(source).unwrap().len(), 0);
    encode(source, "rs:2+1", &dir).exits(3).says(&["/proc/version"]);
    assert_eq!(listing(root.path()).len(), 0);
}

/// Runs the binary with so much address space.
fn run_confined<A: AsRef<OsStr>>(mebibytes: u32, arguments: &[A]) -> Ran {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -v {} && exec \"$0\" \"$@\"", mebibytes << 10);
    command.args(["-c", &limit, NINEFOLD]).args(arguments);
    piped(&mut command);
    finish(command.spawn().unwrap())
}

#[test]
fn forty_mebibytes_within_half_a_gigabyte_of_address_space() {
    let root = TempDir::new().unwrap();
    let [input, dir, out] = ["input", "d", "out"].map(|name| root.path().join(name));
    fs::write(&input, painted(40 << 20)).unwrap();
    let text = OsStr::new;
    let encode =
        [text("encode"), input.as_os_str(), text("--code"), text("lrc:12,2,2"), text("--out"), dir.as_os_str()];
    let decode = [text("decode"), dir.as_os_str(), text("--out"), out.as_os_str()];
    // Whether all threads want their buffers at the same time is chance: several times, and with much less room than that.
    for mebibytes in [512, 256, 192, 192, 192] {
        run_confined(mebibytes, &encode).exits(0);
        run_confined(mebibytes, &decode).exits(0);
        assert!(same_bytes(&input, &out));
        fs::remove_file(&out).unwrap();
        // With losses that take the globals.
        for name in listing(&dir) {
            if ["00001.frag", "00002.frag", "00015.frag"].iter().any(|end| name.to_str().unwrap().ends_with(end)) {
                fs::remove_file(dir.join(name)).unwrap();
            }
        }
        run_confined(mebibytes, &decode).exits(0);
        assert!(same_bytes(&input, &out));
        run_confined(mebibytes, &[text("repair"), dir.as_os_str()]).exits(0);
        fs::remove_file(&out).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn very_many_names_of_unknown_extents() {
    type Name = fn(u128) -> String;
    let names: [Name; 3] = [
        |number| format!("{:032x}.1.{number:05}.frag", 0xabc),
        |number| format!("{:032x}.{}.{:05}.frag", 0xabc, 1 + number / 250, number % 250),
        |number| format!("{number:032x}.1.00000.frag"),
    ];
    for name in names {
        let root = TempDir::new().unwrap();
        (0..30_000).for_each(|number| fs::write(root.path().join(name(number)), b"").unwrap());
        let started = Instant::now();
        verify(root.path()).exits(1).json();
        assert!(started.elapsed() < Duration::from_secs(10), "{}: {:?}", name(7), started.elapsed());
    }
}

// Quarantine.

#[test]
fn a_name_as_long_as_names_can_be_is_set_aside() {
    let set = Set::small();
    for letter in ["a", "b"] {
        fs::write(set.dir.join(letter.repeat(255)), set.original(2)).unwrap();
    }
    // One whose difference is at its end.
    fs::write(set.dir.join(format!("{}b", "a".repeat(254))), set.original(2)).unwrap();
    set.heals();
    assert_eq!(set.quarantine().len(), 3);
    assert!(set.quarantine().into_values().all(|kept| kept.as_deref() == Some(set.original(2))));
    // And one that is put in place.
    fs::rename(set.path(4), set.dir.join("c".repeat(255))).unwrap();
    assert_eq!(set.heals()["rebuilt_fragments"], 0);
}

#[test]
fn a_quarantine_that_is_no_folder_moves_nothing() {
    let newer = |set: &Set, index| Parts::of(set.original(index)).in_generation(2).file();
    type Spoil<'a> = &'a dyn Fn(&Set);
    let spoils: [(&str, Spoil); 4] = [
        ("a copy", &|set| {
            fs::write(set.dir.join("a copy"), set.original(2)).unwrap();
            fs::rename(set.path(3), set.dir.join("elsewhere")).unwrap();
        }),
        ("a stray whose place is taken", &|set| {
            fs::rename(set.path(3), set.dir.join("elsewhere")).unwrap();
            set.write(3, &newer(set, 3));
        }),
        ("a stray, and one that must be rebuilt over what must be kept", &|set| {
            fs::rename(set.path(3), set.dir.join("elsewhere")).unwrap();
            set.write(4, &newer(set, 4));
        }),
        ("one that must be rebuilt over what must be kept", &|set| set.write(4, &newer(set, 4))),
    ];
    for (label, spoil) in spoils {
        for kind in ["file", "symlink", "dangling symlink"] {
            let set = Set::small();
            let (quarantine, outside) = (set.dir.join("quarantine"), set.beside("outside"));
            fs::create_dir(&outside).unwrap();
            match kind {
                "file" => fs::write(&quarantine, "notes").unwrap(),
                "symlink" => symlink(&outside, &quarantine).unwrap(),
                _ => symlink("nowhere", &quarantine).unwrap(),
            }
            spoil(&set);
            let before = content(&set.dir);
            let ran = repair(&set.dir);
            assert!(content(&set.dir) == before, "{label}, {kind}: something was moved; {:?}", listing(&set.dir));
            ran.exits(2).says(&["quarantine", "is not a folder"]);
            assert_eq!(listing(&outside).len(), 0, "{label}, {kind}");
            fs::remove_file(&quarantine).unwrap();
            set.heals();
        }
    }
}
