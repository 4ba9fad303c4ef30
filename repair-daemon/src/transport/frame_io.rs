//! One frame in, one frame out.

use crate::buffers::BufferPool;
use crate::piped::Piped;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use repair_core::limits::BODY_BYTES_MAX;
use repair_core::node::{Hosted, Payload};
use repair_core::wire::codec::{CodecError, encode_message};
use repair_core::wire::frame::{ENVELOPE_BYTES, Envelope, FrameError, FrameKind};
use rustix::net::{SendFlags, send};
use serde::Serialize;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Small messages come several to one system call; of a long body no more than this is copied once more.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// A frame that was begun moves on or its connection ends: 8 MiB within a minute.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// Silence after which the other side's host is asked whether it is there; so that a host that vanished ends its connections.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;
/// Bytes that the other side's host has not acknowledged for so long end the connection: keepalive does not ask while there are
/// any, and a path that forgot the connection would take them for a quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a frame was begun and not finished in time")]
    Slow,
    #[error("a frame that does not belong into this conversation")]
    Unexpected,
}

/// The reading end of a connection.
pub(super) struct FrameReader {
    stream: BufReader<OwnedReadHalf>,
    header_time_max: Duration,
}

/// The writing end of a connection.
pub(super) struct FrameWriter {
    stream: OwnedWriteHalf,
}

/// A body on its way out.
#[derive(Clone, Debug)]
pub enum OutBody {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Pages of a file. They go where the message proves them: nobody has looked at them.
    Piped(Arc<Piped>),
}

impl OutBody {
    /// What goes beside an answer; none where it is hosted in a way that is not ours.
    pub fn of(payload: Payload) -> Option<Self> {
        match payload {
            Payload::Bytes(bytes) => Some(Self::Bytes(bytes)),
            Payload::Hosted(hosted) => Hosted::downcast(hosted).map(Self::Piped),
        }
    }
}

impl From<Bytes> for OutBody {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A frame ready to be written.
#[derive(Debug)]
pub(super) struct OutFrame {
    head: Bytes,
    body: OutBody,
}

/// Splits a connection into its ends. `header_time_max` is how long envelope and header may take once their first byte is here.
pub(super) fn ends(stream: TcpStream, header_time_max: Duration) -> io::Result<(FrameReader, FrameWriter)> {
    use rustix::net::sockopt;
    // A small answer must not wait for a full packet.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_TRIES)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MAX.as_millis() as u32)?;
    let (reader, writer) = stream.into_split();
    let stream = BufReader::with_capacity(READ_AHEAD_BYTES, reader);
    Ok((FrameReader { stream, header_time_max }, FrameWriter { stream: writer }))
}

impl FrameReader {
    /// Envelope and header of the next frame, which may be long in coming; none where the other side has ended.
    pub(super) async fn head(&mut self) -> Result<Option<(Envelope, Bytes)>, Broken> {
        if self.stream.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let head = async {
            let mut bytes = [0; ENVELOPE_BYTES];
            self.stream.read_exact(&mut bytes).await?;
            let envelope = Envelope::parse(&bytes)?;
            let header = exactly(&mut self.stream, envelope.header_bytes as usize).await?;
            envelope.check_header(&header)?;
            Ok(Some((envelope, header)))
        };
        timeout(self.header_time_max, head).await.map_err(|_| Broken::Slow)?
    }

    /// The body behind that header. To be called once, before the next head.
    pub(super) async fn body(&mut self, envelope: &Envelope) -> Result<Bytes, Broken> {
        let body = timeout(BODY_TIME_MAX, body_of(&mut self.stream, envelope.body_bytes as usize));
        let body = body.await.map_err(|_| Broken::Slow)??;
        envelope.check_body(&body)?;
        Ok(body)
    }
}

/// Reads a body into memory of the pool: aligned, so that it can go to a disk from there.
async fn body_of(stream: &mut BufReader<OwnedReadHalf>, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = BufferPool::shared().take(bytes).map_err(io::Error::other)?;
    stream.read_exact(&mut buffer).await?;
    Ok(Bytes::from_owner(buffer))
}

/// Reads into a buffer of that size, which is not cleared before.
async fn exactly(stream: &mut BufReader<OwnedReadHalf>, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(bytes);
    while buffer.len() < bytes {
        let left = bytes - buffer.len();
        if stream.read_buf(&mut (&mut buffer).limit(left)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.freeze())
}

fn head(envelope: &Envelope, header: &[u8]) -> Bytes {
    [&envelope.to_bytes()[..], header].concat().into()
}

impl OutFrame {
    /// A frame of a message and its body.
    ///
    /// # Errors
    /// [`CodecError`] where either is over its limit.
    pub(super) fn new(kind: FrameKind, number: u64, message: &impl Serialize, body: Bytes) -> Result<Self, CodecError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(CodecError::TooLong { bytes: body.len(), limit: BODY_BYTES_MAX });
        }
        let header = encode_message(message)?;
        let envelope = Envelope::new(kind, number, &header, &body);
        Ok(Self { head: head(&envelope, &header), body: OutBody::Bytes(body) })
    }

    /// A node's reply that proves its body.
    ///
    /// # Errors
    /// As [`OutFrame::new`].
    pub(super) fn of_proven_body(number: u64, message: &impl Serialize, body: OutBody) -> Result<Self, CodecError> {
        let bytes = match &body {
            OutBody::Bytes(bytes) => bytes.len(),
            OutBody::Piped(piped) => piped.bytes(),
        };
        if bytes > BODY_BYTES_MAX {
            return Err(CodecError::TooLong { bytes, limit: BODY_BYTES_MAX });
        }
        let header = encode_message(message)?;
        let envelope = Envelope::of_proven_body(number, &header, bytes);
        Ok(Self { head: head(&envelope, &header), body })
    }
}

impl FrameWriter {
    /// Writes a frame, the body from where it lies.
    pub(super) async fn write(&mut self, frame: OutFrame) -> Result<(), Broken> {
        let written = async {
            match frame.body {
                OutBody::Bytes(body) => self.stream.write_all_buf(&mut frame.head.chain(body)).await,
                OutBody::Piped(piped) => {
                    self.write_some_more_follows(&frame.head).await?;
                    self.write_piped(&piped).await
                }
            }
        };
        Ok(timeout(BODY_TIME_MAX, written).await.map_err(|_| Broken::Slow)??)
    }

    /// Writes bytes that need not go before others come.
    async fn write_some_more_follows(&self, mut bytes: &[u8]) -> io::Result<()> {
        let socket: &TcpStream = self.stream.as_ref();
        while !bytes.is_empty() {
            let sent = || Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?);
            let sent = socket.async_io(Interest::WRITABLE, sent).await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    async fn write_piped(&self, piped: &Piped) -> io::Result<()> {
        let socket: &TcpStream = self.stream.as_ref();
        while piped.left() > 0 {
            socket.async_io(Interest::WRITABLE, || piped.move_to(socket)).await?;
        }
        Ok(())
    }
}
