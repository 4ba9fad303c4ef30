//! The side that reads.

use super::{ANSWER_BYTES, Answer, request_bytes, socket_path};
use crate::buffers::BufferPool;
use crate::transport::{Pool, ToNode};
use bytes::Bytes;
use ec_core::geometry::BLOCK_BYTES;
use repair_core::node::Body;
use repair_core::wire::node::FragmentKey;
use repair_core::wire::{NodeReply, NodeRequest};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    recvmsg,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// A node on the same host gives a file at once; whoever waits longer is served sooner by its port.
const OPEN_TIME_MAX: Duration = Duration::from_millis(500);
/// A door that was not to be had is tried again after this: its node may be another by then.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The doors of nodes, by the nodes' addresses. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    slots: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// One conversation at a time.
    state: tokio::sync::Mutex<State>,
    knocking: Knocking,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Open(UnixStream),
    /// None to be had, at that moment.
    Shut(Instant),
}

/// A fragment's file and its table.
#[derive(Debug)]
pub struct OpenFragment {
    file: File,
    payload_at: u64,
    table: Vec<u32>,
}

impl Doors {
    /// The file of a fragment, where the node at `address` is on this host and gives it. None is no finding about the fragment.
    pub async fn open(&self, nodes: &Pool<ToNode>, address: &str, fragment: FragmentKey) -> Option<OpenFragment> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(address.to_owned()).or_default())
        };
        tokio::time::timeout(OPEN_TIME_MAX, slot.open(nodes, address, fragment)).await.ok()?
    }
}

impl Slot {
    /// Broken off at any moment, it leaves the door shut for a while.
    async fn open(&self, nodes: &Pool<ToNode>, address: &str, fragment: FragmentKey) -> Option<OpenFragment> {
        let mut state = self.state.lock().await;
        if let State::Shut(when) = &*state
            && when.elapsed() < TRY_AGAIN_AFTER
        {
            return None;
        }
        // A conversation that is broken off is not gone on with: its stream is put back only at its end.
        let known = match std::mem::replace(&mut *state, State::Shut(Instant::now())) {
            State::Open(stream) => Some(stream),
            State::Unknown | State::Shut(_) => None,
        };
        let mut stream = match known {
            Some(stream) => stream,
            None => self.reach(nodes, address).await?,
        };
        let opened = ask(&mut stream, fragment).await.ok()?;
        *state = State::Open(stream);
        opened
    }

    /// Finds the door of a node and knocks.
    async fn reach(&self, nodes: &Pool<ToNode>, address: &str) -> Option<UnixStream> {
        let connection = nodes.connection(address).await.ok().filter(|connection| connection.is_within_host())?;
        match connection.call(&NodeRequest::Door, Bytes::new(), OPEN_TIME_MAX).await {
            Ok((NodeReply::Door { folder }, _)) => self.knocking.at(PathBuf::from(folder), connect).await.ok(),
            _ => None,
        }
    }
}

/// Looks for a socket where a node says it is. The file system of that path may be one that does not answer, and a thread that asks it
/// then cannot be called back: it is a thread of its own, which nobody waits for, and there is one at most.
#[derive(Debug, Default)]
pub(super) struct Knocking {
    under_way: Arc<AtomicBool>,
}

impl Knocking {
    pub(super) async fn at(
        &self,
        folder: PathBuf,
        connect: impl FnOnce(&Path) -> io::Result<blocking::UnixStream> + Send + 'static,
    ) -> io::Result<UnixStream> {
        if self.under_way.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (done, answer) = oneshot::channel();
        let under_way = Arc::clone(&self.under_way);
        let work = move || {
            let connected = connect(&folder);
            under_way.store(false, Ordering::Release);
            let _ = done.send(connected);
        };
        if let Err(error) = std::thread::Builder::new().name("door".into()).spawn(work) {
            self.under_way.store(false, Ordering::Release);
            return Err(error);
        }
        let stream = UnixStream::from_std(answer.await.map_err(io::Error::other)??)?;
        // The socket could have been another's by the time it was connected to.
        let is_ours = stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw();
        if is_ours { Ok(stream) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// Connects to the socket in a folder that a node named. What a node says is not believed: nothing but a socket of our own user with
/// the one name is connected to. May wait for the file system for as long as that likes.
pub(super) fn connect(folder: &Path) -> io::Result<blocking::UnixStream> {
    if !folder.is_absolute() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let held = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::statat(&held, super::SOCKET, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours || FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Where nobody takes connections a call that blocks would wait.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(socket_path(&held))?)?;
    Ok(socket.into())
}

/// Asks for a file. `Ok(None)` where it is not given; after an error the stream is of no more use.
pub(super) async fn ask(stream: &mut UnixStream, fragment: FragmentKey) -> io::Result<Option<OpenFragment>> {
    stream.write_all(&request_bytes(fragment)).await?;
    let mut bytes = [0; ANSWER_BYTES];
    let (received, file) = stream.async_io(Interest::READABLE, || receive_with(&*stream, &mut bytes)).await?;
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(&mut bytes[received..]).await?;
    let answer = Answer::parse(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    // At most 1 MiB, by the limit of an answer.
    let mut table = vec![0; answer.blocks as usize * 4];
    stream.read_exact(&mut table).await?;
    let Some(file) = file.filter(|_| answer.blocks > 0) else { return Ok(None) };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let table = table.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]])).collect();
    Ok(Some(OpenFragment { file, payload_at: answer.payload_at, table }))
}

/// Receives bytes, and the file that came with the first of them.
fn receive_with(stream: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.last().map(File::from);
        }
    }
    Ok((received.bytes, file))
}

impl OpenFragment {
    /// Payload and the CRCs of its blocks, as a node would answer, where all of it is in memory. None else: the disk is waited
    /// for by the node, beside which others can be asked.
    pub fn read(&self, offset: u64, bytes: u32) -> Option<(NodeReply, Body)> {
        let block = BLOCK_BYTES as u64;
        let (from, to) = (offset, offset.checked_add(u64::from(bytes))?);
        if !from.is_multiple_of(block) || !to.is_multiple_of(block) {
            return None;
        }
        let blocks = usize::try_from(from / block).ok()?..usize::try_from(to / block).ok()?;
        let crcs = self.table.get(blocks)?.to_vec();
        let mut buffer = BufferPool::shared().take(bytes as usize).ok()?;
        let mut filled = 0;
        while filled < buffer.len() {
            let at = self.payload_at + offset + filled as u64;
            let mut rest = [IoSliceMut::new(&mut buffer[filled..])];
            match preadv2(&self.file, &mut rest, at, ReadWriteFlags::NOWAIT) {
                Ok(read) if read > 0 => filled += read,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        Some((NodeReply::Data { crcs }, Body::from_owner(buffer)))
    }
}
