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
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// A node on the same host gives a file at once; whoever waits longer is served sooner by its port.
const OPEN_TIME_MAX: Duration = Duration::from_millis(500);
/// A door that was not to be had is tried again after this: its node may be another by then.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The doors of nodes, by the nodes' addresses. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    slots: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
}

/// One conversation at a time.
type Slot = tokio::sync::Mutex<State>;

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
        let mut state = slot.lock().await;
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
        let asked = async {
            let mut stream = match known {
                Some(stream) => stream,
                None => reach(nodes, address).await?,
            };
            let opened = ask(&mut stream, fragment).await.ok()?;
            Some((stream, opened))
        };
        let (stream, opened) = tokio::time::timeout(OPEN_TIME_MAX, asked).await.ok()??;
        *state = State::Open(stream);
        opened
    }
}

/// Finds the door of a node and knocks.
async fn reach(nodes: &Pool<ToNode>, address: &str) -> Option<UnixStream> {
    let connection = nodes.connection(address).await.ok().filter(|connection| connection.is_within_host())?;
    match connection.call(&NodeRequest::Door, Bytes::new(), OPEN_TIME_MAX).await {
        Ok((NodeReply::Door { folder }, _)) => knock(Path::new(&folder)).await.ok(),
        _ => None,
    }
}

/// Connects to the socket in a folder that a node named. What a node says is not believed: nothing but a socket of our own user with
/// the one name is connected to.
pub(super) async fn knock(folder: &Path) -> io::Result<UnixStream> {
    if !folder.is_absolute() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let held = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::statat(&held, super::SOCKET, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours || FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    UnixStream::connect(socket_path(&held)).await
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
