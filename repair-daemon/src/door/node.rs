//! The side that has the files.

use super::{ANSWER_BYTES, Answer, REQUEST_BYTES, parse_request, socket_path};
use crate::store::{DiskStore, OpenedFragment};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A client has one connection; those beyond are closed, and read over TCP.
const CONNECTIONS_MAX: usize = 256;
/// Files opened at a time.
const OPENING_MAX: usize = 4;
/// A request once begun, or an answer.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(5);

/// The socket of a data folder.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    folder: String,
}

impl Door {
    /// Listens in the data folder at `path`, which this process has locked: a socket that is there is of a life that ended.
    ///
    /// # Errors
    /// That of the system; a path that is not text. The node does without.
    pub fn open(path: &Path) -> io::Result<Self> {
        let absolute = fs::canonicalize(path)?;
        let folder = absolute.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::open(&absolute, flags, Mode::empty())?;
        let is_socket = rustix::fs::statat(&held, super::SOCKET, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
        if is_socket {
            rustix::fs::unlinkat(&held, super::SOCKET, AtFlags::empty())?;
        }
        let listener = UnixListener::bind(socket_path(&held))?;
        // Who comes in before this is turned away by who he is.
        fs::set_permissions(socket_path(&held), fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, folder })
    }

    /// The folder it lies in, absolute.
    pub fn folder(&self) -> &str {
        &self.folder
    }
}

/// Gives out files while the store is open; dropped, it ends.
pub async fn serve(door: Door, store: Weak<DiskStore>) {
    let mut connections = JoinSet::new();
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    let me = rustix::process::geteuid().as_raw();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = door.listener.accept().await else {
            // Out of file descriptors: others may still come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // The file's mode says so too, where the file system keeps modes.
        let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == me);
        if is_ours && connections.len() < CONNECTIONS_MAX {
            let (store, opening) = (Weak::clone(&store), Arc::clone(&opening));
            // Why it ended changes nothing.
            connections.spawn(async move { drop(converse(stream, &store, &opening).await) });
        }
    }
}

async fn converse(mut stream: UnixStream, store: &Weak<DiskStore>, opening: &Semaphore) -> io::Result<()> {
    loop {
        let mut request = [0; REQUEST_BYTES];
        // It may be long in coming; once it is there, it is there whole.
        request[0] = stream.read_u8().await?;
        within(stream.read_exact(&mut request[1..])).await?;
        let fragment = parse_request(&request).ok_or(io::ErrorKind::InvalidData)?;
        let Some(store) = store.upgrade() else { return Ok(()) };
        let permit = opening.acquire().await.map_err(io::Error::other)?;
        let opened = tokio::task::spawn_blocking(move || store.open_fragment(fragment)).await;
        drop(permit);
        // Why it cannot be had is said, and noticed, at the node's port.
        match opened {
            Ok(Ok(Some(opened))) => within(give(&mut stream, &opened)).await?,
            _ => within(stream.write_all(&Answer::NOT_GIVEN.to_bytes())).await?,
        }
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(MESSAGE_TIME_MAX, work).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn give(stream: &mut UnixStream, opened: &OpenedFragment) -> io::Result<()> {
    let answer = Answer { payload_at: opened.payload_at, blocks: opened.table.len() as u32 };
    let answer: [u8; ANSWER_BYTES] = answer.to_bytes();
    let sent = stream.async_io(Interest::WRITABLE, || send_with(&*stream, &answer, &opened.file)).await?;
    stream.write_all(&answer[sent..]).await?;
    let table: Vec<u8> = opened.table.iter().flat_map(|crc| crc.to_le_bytes()).collect();
    stream.write_all(&table).await
}

/// Sends bytes, and the file with the first of them.
fn send_with(stream: impl AsFd, bytes: &[u8], file: &fs::File) -> io::Result<usize> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}
