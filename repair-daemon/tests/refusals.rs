//! What the commands refuse, with the exit code and words that tell a user why; and that a refusal leaves no trace.
mod support;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{
    NINEFOLD, Ran, Set, command, decode, encode, finish, inspect, listing, mkfifo, painted, piped, repair, run, verify,
};
use tempfile::TempDir;

/// Somebody without rights; "nobody" nearly everywhere.
const NOBODY: u32 = 65_534;

/// A folder with a small file in it, and a path beside it that is free.
fn room() -> (TempDir, PathBuf, PathBuf) {
    let root = TempDir::new().unwrap();
    let (input, free) = (root.path().join("input"), root.path().join("free"));
    fs::write(&input, painted(5000)).unwrap();
    (root, input, free)
}

#[test]
fn a_code_of_the_library_alone_is_not_encoded_with() {
    let (_root, input, dir) = room();
    encode(&input, "wide:1000+200", &dir).exits(2).says(&[
        "wide:1000+200 is for the library alone",
        "at most 256",
        "use rs:K+M",
    ]);
    encode(&input, "wide:1000", &dir).exits(2).says(&["wide needs K+M"]);
    assert!(!dir.exists());
}

#[test]
fn what_is_not_one_regular_file_is_not_encoded() {
    let (root, input, dir) = room();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    mkfifo(&at("pipe"));
    let _listener = UnixListener::bind(at("socket")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink(at("folder"), at("to-folder")).unwrap();
    for (path, word) in [
        (at("absent"), "no such file"),
        (at("dangling"), "no such file"),
        (at("folder"), "is a folder"),
        (at("to-folder"), "is a folder"),
        (PathBuf::from("/"), "is a folder"),
        (root.path().join("folder/.."), "is a folder"),
        (at("pipe"), "is a FIFO"),
        (at("socket"), "is a socket"),
        (PathBuf::from("/dev/null"), "is a device"),
        (PathBuf::from("/dev/zero"), "is a device"),
    ] {
        let ran = encode(&path, "rs:2+1", &dir).exits(2).says(&[path.to_str().unwrap(), word]);
        assert!(ran.stdout.is_empty() && !dir.exists(), "{}", path.display());
    }
    // A path through a file, and one that is too long, are the system's to refuse.
    for path in [input.join("below"), PathBuf::from("n".repeat(5000))] {
        assert!([2, 3].contains(&encode(&path, "rs:2+1", &dir).code) && !dir.exists());
    }
    // A symlink to a file is that file, under the name the user gave.
    symlink(&input, at("link")).unwrap();
    encode(&at("link"), "rs:2+1", &dir).exits(0);
    assert_eq!(verify(&dir).exits(0).json()["streams"][0]["name"], "link");
}

#[test]
fn an_unknown_code_says_what_is_accepted() {
    let (_root, input, dir) = room();
    let specs = [
        "",
        "rs",
        "rs:",
        "rs:4",
        "rs:4+2+1",
        "rs:0+2",
        "rs:4+0",
        "rs:-1+2",
        "rs:4+2@best",
        "rs:99999999999999999999+1",
        "xor:3",
        "replicate:0",
        "replicate:257",
        "lrc:12,2",
        "lrc:0,2,2",
        "lrc:2,12,2",
        "lrc:12,0,2",
        "lrc:16,2,3",
        "lrc:12,2,5",
        "lrc-uniform:12,2,3",
        "xorbas:10",
        "RS:4+2",
        "rs:4 +2",
        "rs:200+57",
    ];
    for spec in specs {
        for ran in [run(["code", spec]), encode(&input, spec, &dir)] {
            let ran = ran.exits(2);
            assert!(ran.stdout.is_empty() && ran.stderr.len() > 20, "{spec}: {}", ran.stderr);
        }
    }
    run(["code", "xor:3"]).exits(2).says(&["rs:", "lrc:", "replicate:"]);
    run(["code", "rs:4+2@best"]).exits(2).says(&["lch", "cauchy", "power", "vandermonde"]);
    assert!(!dir.exists());
}

#[test]
fn a_matrix_that_is_not_mds_is_refused_with_the_submatrix_that_fails() {
    let (_root, input, dir) = room();
    for ran in [run(["code", "rs:24+5@power"]), encode(&input, "rs:24+5@power", &dir)] {
        ran.exits(2).says(&["not MDS", "data [0, 10, 21]", "parities [0, 1, 3]", "cauchy"]);
    }
    assert!(!dir.exists());
}

#[test]
fn wrong_arguments_are_wrong_use() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["encode"],
        &["decode", "d"],
        &["verify"],
        &["code"],
        &["verify", "a", "b"],
        &["code", "rs:4+2", "--what"],
    ] {
        let ran = run(arguments).exits(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["encode", "--help"]] {
        let ran = run(arguments).exits(0);
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{arguments:?}");
    }
    assert!(run(["--help"]).stdout.contains("Exit codes"));
}

#[test]
fn where_fragments_may_go() {
    let (root, input, dir) = room();
    // An empty folder is as good as none, and parents are made.
    fs::create_dir(&dir).unwrap();
    encode(&input, "rs:2+1", &dir).exits(0);
    let before = listing(&dir);
    encode(&input, "rs:2+1", &dir).exits(2).says(&["is not empty"]);
    assert_eq!(listing(&dir), before);
    encode(&input, "rs:2+1", &root.path().join("a/b/c")).exits(0);
    verify(&root.path().join("a/b/c")).exits(0);
    encode(&input, "rs:2+1", &root.path().join("trailing/")).exits(0);
    // Not a folder, or below what is none.
    encode(&input, "rs:2+1", &input).exits(2).says(&["is not a folder"]);
    let below = encode(&input, "rs:2+1", &input.join("below"));
    assert!([2, 3].contains(&below.code), "{below:?}");
    encode(&input, "rs:2+1", Path::new("/dev/null")).exits(2);
    assert_eq!(fs::read(&input).unwrap(), painted(5000));
    // A folder with anything in it, hidden or not.
    let busy = root.path().join("busy");
    fs::create_dir(&busy).unwrap();
    fs::write(busy.join(".hidden"), "").unwrap();
    encode(&input, "rs:2+1", &busy).exits(2).says(&["is not empty"]);
    assert_eq!(listing(&busy).len(), 1);
    // Also under the name of our own staging folder: nothing there is followed, waited for or removed.
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "").unwrap();
    let put: [fn(&Path, &Path); 4] = [
        |at, _| mkfifo(at),
        |at, _| fs::write(at, "").unwrap(),
        |at, elsewhere| symlink(elsewhere, at).unwrap(),
        |at, _| symlink("nowhere", at).unwrap(),
    ];
    for (number, put) in put.iter().enumerate() {
        let dir = root.path().join(format!("staging-{number}"));
        fs::create_dir(&dir).unwrap();
        put(&dir.join(".ninefold-staging"), &elsewhere);
        encode(&input, "rs:2+1", &dir).exits(2).says(&["is not empty"]);
        assert_eq!((listing(&dir).len(), listing(&elsewhere).len()), (1, 1));
    }
    // What failed takes the folders it made away again, and no other.
    let absent = root.path().join("absent");
    encode(&absent, "rs:2+1", &root.path().join("x/y")).exits(2);
    assert!(!root.path().join("x").exists());
}

/// The binary as somebody without rights, in a folder that anybody may enter.
struct Nobody {
    root: TempDir,
    binary: PathBuf,
}

impl Nobody {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let binary = root.path().join("ninefold");
        // Not by fs::copy: a child that another test forks meanwhile would inherit the descriptor that writes it, and nobody
        // can execute a file that is open for writing.
        assert!(Command::new("cp").arg(NINEFOLD).arg(&binary).status().unwrap().success());
        Self { root, binary }
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        // Rights do not bind root; everybody else runs this as themselves.
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        piped(&mut command);
        finish(command.spawn().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

#[test]
fn without_rights() {
    let nobody = Nobody::new();
    let (input, secret, shut) = (nobody.path("input"), nobody.path("secret"), nobody.path("shut"));
    fs::write(&input, painted(5000)).unwrap();
    fs::write(&secret, painted(5000)).unwrap();
    fs::set_permissions(&input, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, Permissions::from_mode(0o555)).unwrap();
    let open = nobody.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();

    let encode = |file: &Path, out: &Path| {
        nobody.run([
            OsStr::new("encode"),
            file.as_ref(),
            "--code".as_ref(),
            "rs:2+1".as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ])
    };
    // A file that cannot be read, a folder that cannot be written.
    encode(&secret, &open.join("d")).exits(3).says(&["secret", "check the owner and mode"]);
    assert!(!open.join("d").exists());
    for out in [shut.clone(), shut.join("new")] {
        encode(&input, &out).exits(3).says(&["shut", "check the owner and mode"]);
    }
    assert!(listing(&shut).is_empty());
    encode(&input, &open.join("d")).exits(0);

    // A decode to where nothing can be written, and of a folder that cannot be listed.
    let decode =
        |dir: &Path, out: &Path| nobody.run([OsStr::new("decode"), dir.as_ref(), "--out".as_ref(), out.as_ref()]);
    decode(&open.join("d"), &shut.join("out")).exits(3).says(&["check the owner and mode"]);
    assert!(listing(&shut).is_empty());
    let locked = nobody.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
    decode(&locked, &open.join("out")).exits(3).says(&["locked"]);
    nobody.run([OsStr::new("verify"), locked.as_os_str()]).exits(3);

    // A fragment that cannot be read is one that is lost, not the end.
    let fragment = open.join("d").join(listing(&open.join("d")).first().unwrap());
    fs::set_permissions(&fragment, Permissions::from_mode(0o000)).unwrap();
    let ran = nobody.run([OsStr::new("verify"), open.join("d").as_os_str(), "--json".as_ref()]).exits(1);
    assert_eq!(ran.json()["extents"][0]["fragments"][0]["class"], "unreadable");
    decode(&open.join("d"), &open.join("out")).exits(0);
    assert_eq!(fs::read(open.join("out")).unwrap(), painted(5000));
    // A repair in a folder that cannot be written says so and leaves all as it is.
    fs::remove_file(&fragment).unwrap();
    let owned = nobody.path("owned");
    fs::create_dir(&owned).unwrap();
    for name in listing(&open.join("d")) {
        fs::copy(open.join("d").join(&name), owned.join(&name)).unwrap();
    }
    fs::set_permissions(&owned, Permissions::from_mode(0o555)).unwrap();
    nobody.run([OsStr::new("repair"), owned.as_os_str()]).exits(3).says(&["owned"]);
    assert_eq!(listing(&owned).len(), 2);
    nobody.run([OsStr::new("repair"), open.join("d").as_os_str()]).exits(0);
    for path in [&locked, &shut, &owned] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn where_a_decoded_file_may_go() {
    let set = Set::small();
    let (out, other) = (set.beside("out"), set.beside("other"));
    let force =
        |out: &Path| run([OsStr::new("decode"), set.dir.as_ref(), "--out".as_ref(), out.as_ref(), "--force".as_ref()]);
    // What has content is not replaced, unless asked for; what is empty has nothing to lose.
    fs::write(&out, "mine").unwrap();
    decode(&set.dir, &out).exits(2).says(&["exists", "--force"]);
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    force(&out).exits(0);
    assert_eq!(fs::read(&out).unwrap(), set.data);
    fs::write(&other, "").unwrap();
    decode(&set.dir, &other).exits(0);
    assert_eq!(fs::read(&other).unwrap(), set.data);
    // What is no regular file stays, also with --force.
    fs::create_dir(set.beside("folder")).unwrap();
    mkfifo(&set.beside("pipe"));
    symlink(&out, set.beside("link")).unwrap();
    symlink("nowhere", set.beside("dangling")).unwrap();
    for name in ["folder", "pipe", "link", "dangling"] {
        decode(&set.dir, &set.beside(name)).exits(2).says(&["not a regular file"]);
        force(&set.beside(name)).exits(2);
    }
    force(Path::new("/dev/null")).exits(2);
    assert!(set.beside("link").is_symlink() && !set.beside("nowhere").exists());
    // No folder to put it in.
    decode(&set.dir, &set.beside("absent/out")).exits(3).says(&["absent"]);
    decode(&set.dir, &out.join("below")).exits(2);
    // A failed decode does not touch what --force would have replaced.
    (0..3).for_each(|index| set.remove(index));
    force(&out).exits(1);
    assert_eq!(fs::read(&out).unwrap(), set.data);
    assert_eq!(listing(set.root.path()).len(), 8);
}

#[test]
fn a_folder_without_fragments() {
    let (root, input, free) = room();
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(root.path().join("notes"), "no fragment").unwrap();
    for dir in [empty.as_path(), root.path()] {
        let report = verify(dir).exits(1).json();
        assert_eq!((&report["whole"], report["extents"].as_array().unwrap().len()), (&false.into(), 0));
        decode(dir, &free).exits(1).says(&["no readable fragments"]);
        repair(dir).exits(1).says(&["no fragments"]);
        assert!(!free.exists());
    }
    for (dir, word) in [(free.as_path(), "no such folder"), (&input, "not a folder")] {
        for ran in [verify(dir), repair(dir), decode(dir, &root.path().join("out"))] {
            let ran = ran.exits(2).says(&[word]);
            assert!(ran.stdout.is_empty());
        }
    }
    inspect(&free).exits(2).says(&["no such file"]);
    assert_eq!(inspect(&input).exits(1).json()["class"], "torn.uncommitted");
    assert_eq!(listing(root.path()).len(), 3);
}

#[test]
fn a_stream_that_is_not_there() {
    let set = Set::small();
    let arguments = [
        OsStr::new("decode"),
        set.dir.as_ref(),
        "--out".as_ref(),
        set.beside("out").as_ref(),
        "--stream=other".as_ref(),
    ]
    .map(OsStr::to_owned);
    run(&arguments).exits(2).says(&["no stream \"other\"", "\"input\""]);
}

#[test]
fn an_unknown_kernel_lists_what_there_is() {
    let (_root, input, dir) = room();
    let with = |kernel: &str, arguments: &[&OsStr]| {
        let mut command = command(arguments);
        finish(command.env("NINEFOLD_KERNEL", kernel).spawn().unwrap())
    };
    let encode =
        [OsStr::new("encode"), input.as_ref(), "--code".as_ref(), "rs:2+1".as_ref(), "--out".as_ref(), dir.as_ref()];
    for kernel in ["foo", "avx9", "PORTABLE"] {
        with(kernel, &encode).exits(2).says(&["portable"]);
        assert!(!dir.exists());
    }
    with("foo", &[OsStr::new("code"), "rs:4+2".as_ref()]).exits(2).says(&["foo", "portable"]);
}

#[test]
fn every_kernel_makes_the_same_fragments() {
    let (root, input, _) = room();
    fs::write(&input, painted(777_777)).unwrap();
    for code in ["rs:10+4", "lrc:12,2,2", "rs:4+2@cauchy"] {
        let mut expected: Option<Vec<serde_json::Value>> = None;
        for kernel in [None, Some("portable")] {
            let dir = root.path().join(format!("{code}-{kernel:?}"));
            let mut command = command([
                OsStr::new("encode"),
                input.as_ref(),
                "--code".as_ref(),
                code.as_ref(),
                "--out".as_ref(),
                dir.as_ref(),
            ]);
            if let Some(kernel) = kernel {
                command.env("NINEFOLD_KERNEL", kernel);
            }
            finish(command.spawn().unwrap()).exits(0);
            // The extent ids differ and with them the roots: what must be equal is the payload, byte for byte.
            let payloads = listing(&dir)
                .iter()
                .map(|name| {
                    blake3::hash(&support::forge::Parts::of(&fs::read(dir.join(name)).unwrap()).payload)
                        .to_string()
                        .into()
                })
                .collect();
            match &expected {
                None => expected = Some(payloads),
                Some(expected) => assert_eq!(*expected, payloads, "{code}"),
            }
            verify(&dir).exits(0);
        }
    }
    // One made by one kernel is repaired by the other to the same bytes.
    let set = Set::new("lrc:12,2,2", painted(777_777));
    [0, 13, 14].into_iter().for_each(|index| set.remove(index));
    let mut command = command([OsStr::new("repair"), set.dir.as_ref()]);
    finish(command.env("NINEFOLD_KERNEL", "portable").spawn().unwrap()).exits(0);
    set.is_as_made();
}

#[test]
fn json_stands_alone_on_standard_output() {
    let (root, input, dir) = room();
    let arguments = [
        OsStr::new("encode"),
        input.as_ref(),
        "--code".as_ref(),
        "rs:2+1".as_ref(),
        "--out".as_ref(),
        dir.as_ref(),
        "--json".as_ref(),
    ];
    let report = run(arguments).exits(0).json();
    assert_eq!((&report["bytes"], &report["fragments"], &report["code"]), (&5000.into(), &3.into(), &"rs:2+1".into()));
    let on_disk: u64 = listing(&dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum();
    assert_eq!(report["fragment_file_bytes"], on_disk);
    let out = root.path().join("out");
    for ran in [verify(&dir), repair(&dir), decode(&dir, &out), run(["code", "rs:4+2", "--json"])] {
        let ran = ran.exits(0);
        assert_eq!(ran.json()["schema"], 1);
        assert!(ran.stderr.is_empty(), "no bar and no word where nobody looks: {}", ran.stderr);
    }
    inspect(&dir.join(listing(&dir).first().unwrap())).exits(0).json();
    // Of a stream among others the choice is told, on standard error.
    let other = Set::new("replicate:1", painted(10));
    let stray = other.path(0);
    fs::copy(&stray, dir.join(stray.file_name().unwrap())).unwrap();
    fs::remove_file(&out).unwrap();
    let ran = decode(&dir, &out).exits(0).says(&["several streams"]);
    ran.json();
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let set = Set::small();
    for arguments in [
        vec!["code".into(), "rs:200+50".into(), "--matrix".into()],
        vec!["verify".into(), set.dir.clone().into_os_string()],
    ] {
        let mut child = command::<std::ffi::OsString>(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    }
    // Neither is a standard output that takes nothing, or that is not there.
    let shell = |redirection: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), NINEFOLD, "verify"]).arg(&set.dir);
        piped(&mut shell);
        finish(shell.spawn().unwrap())
    };
    shell(">/dev/full").exits(3).says(&["report could not be written"]);
    shell(">&-").exits(0);
    shell(">&- 2>&-").exits(0);
}
