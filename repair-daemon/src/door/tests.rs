use super::client::{Knocking, ask, connect};
use super::node::Door;
use super::*;
use crate::store::{DiskStore, Unlabelled};
use repair_core::wire::NodeReply;
use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as blocking;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

const FRAGMENT: FragmentKey = FragmentKey { extent: ExtentKey(0x0102 << 64 | 7), generation: 1, index: 515 };

async fn knock(folder: &Path) -> std::io::Result<UnixStream> {
    Knocking::default().at(folder.to_owned(), connect).await
}

/// What a node would send: bytes, and files with the first of them.
fn send(stream: &blocking::UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(files.is_empty() || control.push(rustix::net::SendAncillaryMessage::ScmRights(files)));
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, rustix::net::SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}

/// Asks one who answers with these bytes and files, and then ends.
async fn answered(bytes: &[u8], files: &[BorrowedFd<'_>]) -> std::io::Result<Option<OpenFragment>> {
    let (here, there) = blocking::UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    send(&there, bytes, files);
    there.shutdown(std::net::Shutdown::Write).unwrap();
    ask(&mut UnixStream::from_std(here).unwrap(), FRAGMENT).await
}

fn answer(payload_at: u64, table: &[u32]) -> Vec<u8> {
    let head = Answer { payload_at, blocks: table.len() as u32 }.to_bytes();
    head.into_iter().chain(table.iter().flat_map(|crc| crc.to_le_bytes())).collect()
}

/// A file whose payload of three blocks begins at 4096.
fn payload_file() -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..4 * 4096).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

#[test]
fn a_request_is_these_bytes_and_no_others() {
    let bytes = request_bytes(FRAGMENT);
    assert_eq!(bytes[..16], *b"N9D1\x03\x02\0\0\x01\0\0\0\0\0\0\0");
    assert_eq!(bytes[16..], (0x0102u128 << 64 | 7).to_le_bytes());
    assert_eq!(parse_request(&bytes), Some(FRAGMENT));
    for at in [0, 3, 6, 7] {
        let mut other = bytes;
        other[at] ^= 1;
        assert_eq!(parse_request(&other), None, "{at}");
    }
}

#[tokio::test]
async fn a_file_is_read_as_the_node_would_answer() {
    let (file, bytes) = payload_file();
    let given = answered(&answer(4096, &[5, 6, 7]), &[file.as_fd()]).await.unwrap().unwrap();
    for (offset, length, crcs) in [(0, 4096, vec![5]), (4096, 8192, vec![6, 7]), (0, 12_288, vec![5, 6, 7])] {
        let (reply, body) = given.read(offset, length).unwrap();
        assert_eq!(reply, NodeReply::Data { crcs });
        assert!(body[..] == bytes[4096 + offset as usize..][..length as usize]);
    }
    // Beyond the table, not whole blocks, beyond all numbers; and where the file is shorter than the table says.
    for (offset, length) in [(12_288, 4096), (4096, 12_288), (1, 4096), (0, 100), (u64::MAX - 4095, 4096)] {
        assert!(given.read(offset, length).is_none(), "{offset} {length}");
    }
    file.set_len(4 * 4096 - 1).unwrap();
    assert!(given.read(8192, 4096).is_none());
    assert!(given.read(4096, 4096).is_some());
}

#[tokio::test]
async fn what_is_no_answer_ends_the_conversation_and_what_is_no_file_is_none() {
    let (file, _) = payload_file();
    let good = answer(4096, &[5, 6, 7]);
    for bad in [&b""[..], &good[..15], &good[..20], b"HTTP/1.1 400 Bad Request\r\n"] {
        let (bytes, files) = (bad, [file.as_fd()]);
        let files = if bytes.is_empty() { &[][..] } else { &files[..] };
        assert!(answered(bytes, files).await.is_err(), "{bad:?}");
    }
    let endless = Answer { payload_at: 4096, blocks: BLOCKS_MAX + 1 }.to_bytes();
    let far = Answer { payload_at: u64::MAX - 5, blocks: 1 }.to_bytes();
    for bad in [endless, far] {
        assert_eq!(answered(&bad, &[file.as_fd()]).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
    assert!(answered(&good, &[]).await.unwrap().is_none(), "no file came");
    assert!(answered(&Answer::NOT_GIVEN.to_bytes(), &[]).await.unwrap().is_none());
    let folder = File::open("/").unwrap();
    assert!(answered(&good, &[folder.as_fd()]).await.unwrap().is_none(), "a folder");
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert!(answered(&good, &[pipe.as_fd()]).await.unwrap().is_none(), "a pipe, which may never give a byte");
}

#[tokio::test]
async fn a_door_is_for_its_own_user_and_takes_the_place_of_one_that_was_left() {
    let home = tempfile::tempdir().unwrap();
    // Far deeper than the path of a socket may be long.
    let data = home.path().join("x".repeat(100)).join("y".repeat(100));
    let store = Arc::new(DiskStore::open(&data, Unlabelled::Format).unwrap());
    // A life that was killed leaves its socket.
    drop(Door::open(&data).unwrap());
    assert!(knock(&data).await.is_err(), "nobody is behind it");
    let door = Door::open(&data).unwrap();
    assert_eq!(Path::new(door.folder()), fs::canonicalize(&data).unwrap());
    assert_eq!(fs::metadata(data.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
    let serving = tokio::spawn(serve(door, Arc::downgrade(&store)));
    let mut stream = knock(&data).await.unwrap();
    for _ in 0..2 {
        assert!(ask(&mut stream, FRAGMENT).await.unwrap().is_none(), "a fragment that is not there");
    }
    // Once the store is closed nothing is given, and nobody keeps it open.
    drop(store);
    assert!(ask(&mut stream, FRAGMENT).await.is_err());
    drop(DiskStore::open(&data, Unlabelled::Format).expect("the lock is free"));
    serving.abort();
}

#[tokio::test]
async fn a_door_speaks_no_other_language() {
    let home = tempfile::tempdir().unwrap();
    let store = Arc::new(DiskStore::open(home.path(), Unlabelled::Format).unwrap());
    let serving = tokio::spawn(serve(Door::open(home.path()).unwrap(), Arc::downgrade(&store)));
    let mut stream = knock(home.path()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[b'x'; REQUEST_BYTES]).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    // Closed with what was not read: an end or a reset.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.expect("the connection ends");
    assert!(rest.is_empty());
    serving.abort();
}

#[tokio::test]
async fn no_word_of_a_node_leads_to_another_socket() {
    let home = tempfile::tempdir().unwrap();
    assert!(knock(Path::new("relative")).await.is_err() && knock(Path::new("")).await.is_err());
    assert!(knock(&home.path().join("absent")).await.is_err());
    let path = home.path().join(SOCKET);
    fs::write(&path, "a file").unwrap();
    assert_eq!(knock(home.path()).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    fs::remove_file(&path).unwrap();
    let other = blocking::UnixListener::bind(home.path().join("other")).unwrap();
    std::os::unix::fs::symlink(home.path().join("other"), &path).unwrap();
    assert_eq!(knock(home.path()).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    drop(other);
    fs::remove_file(&path).unwrap();
    let _mine = blocking::UnixListener::bind(&path).unwrap();
    assert!(knock(home.path()).await.is_ok());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert_eq!(knock(home.path()).await.unwrap_err().kind(), ErrorKind::PermissionDenied, "another user's");
    }
}

/// On one thread: what blocks it stops the clock, too.
#[tokio::test]
async fn a_folder_that_does_not_answer_holds_nobody_and_is_not_asked_twice() {
    let knocking = Knocking::default();
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let silent = move |_: &Path| {
        let _ = wait.recv();
        Err(ErrorKind::NotFound.into())
    };
    let began = std::time::Instant::now();
    let asked = knocking.at("/".into(), silent);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), asked).await.is_err());
    let again = knocking.at("/".into(), |_: &Path| panic!("asked twice")).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    // Once it has answered it is asked again.
    drop(answer);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while knocking.at("/".into(), |_: &Path| Err(ErrorKind::NotFound.into())).await.unwrap_err().kind()
        != ErrorKind::NotFound
    {
        assert!(std::time::Instant::now() < until);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
