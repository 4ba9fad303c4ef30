//! The side that asks.

use super::Protocol;
use super::frame_io::{Broken, FrameReader, FrameWriter, OutFrame, ends};
use bytes::Bytes;
use repair_core::wire::CallError;
use repair_core::wire::codec::decode_message;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Frames that wait for the socket; who asks beyond that waits too.
const QUEUE: usize = 32;
/// An answer once begun.
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);

/// A connection to one server. Clones share it; with the last one it ends, and the server forgets what belonged to it.
#[derive(Debug)]
pub struct Connection<P: Protocol> {
    shared: Arc<Shared>,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Clone for Connection<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), protocol: PhantomData }
    }
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<OutFrame>,
    pending: Arc<Pending>,
    next: AtomicU64,
    task: AbortHandle,
    within_host: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Header, body, and whether only the message can prove the body.
type Answer = Result<(Bytes, Bytes, bool), CallError>;

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Pending(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_number: HashMap<u64, oneshot::Sender<Answer>>,
    /// Set when the connection has ended: nobody may begin to wait any more.
    ended: bool,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        // Dropping the senders tells everyone who waits.
        waiting.by_number.clear();
    }
}

/// Forgets a question when nobody waits for its answer any more.
struct Asked<'a> {
    pending: &'a Pending,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.pending.lock().by_number.remove(&self.number);
    }
}

impl<P: Protocol> Connection<P> {
    /// Connects to `address` (host:port).
    ///
    /// # Errors
    /// [`CallError::Unreachable`], also where it takes longer than `within`.
    pub async fn open(address: &str, within: Duration) -> Result<Self, CallError> {
        let stream = timeout(within, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| CallError::Unreachable)?.map_err(|_| CallError::Unreachable)?;
        // Only a host has both ends of a connection at one address.
        let within_host = match (stream.peer_addr(), stream.local_addr()) {
            (Ok(peer), Ok(local)) => peer.ip() == local.ip(),
            _ => false,
        };
        let (reader, writer) = ends(stream, HEADER_TIME_MAX).map_err(|_| CallError::Unreachable)?;
        let pending = Arc::new(Pending::default());
        let (queue, frames) = mpsc::channel(QUEUE);
        let task = tokio::spawn(converse::<P>(reader, writer, frames, Arc::clone(&pending))).abort_handle();
        let shared = Arc::new(Shared { queue, pending, next: AtomicU64::new(1), task, within_host });
        Ok(Self { shared, protocol: PhantomData })
    }

    /// Whether it has ended: every call on it fails.
    pub fn is_closed(&self) -> bool {
        self.shared.pending.lock().ended
    }

    /// Whether the other end is on the same host.
    pub fn is_within_host(&self) -> bool {
        self.shared.within_host
    }

    /// Asks, and waits for the answer at most `deadline`.
    ///
    /// # Errors
    /// [`CallError`]: unreachable where the question was surely not seen.
    pub async fn call(
        &self,
        request: &P::Request,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(P::Reply, Bytes), CallError> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let frame = OutFrame::new(P::REQUEST, number, request, body).map_err(|_| CallError::Nonsense)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.shared.pending.lock();
            if waiting.ended {
                return Err(CallError::Unreachable);
            }
            waiting.by_number.insert(number, answer);
        }
        let _asked = Asked { pending: &self.shared.pending, number };
        let whole = async {
            self.shared.queue.send(frame).await.map_err(|_| CallError::Unreachable)?;
            answered.await.map_err(|_| CallError::Lost)?
        };
        let (header, body, to_be_proven) = timeout(deadline, whole).await.map_err(|_| CallError::Timeout)??;
        let reply = decode_message(&header).map_err(|_| CallError::Nonsense)?;
        if to_be_proven && !P::proves_body(&reply) {
            return Err(CallError::Nonsense);
        }
        Ok((reply, body))
    }
}

async fn converse<P: Protocol>(
    mut reader: FrameReader,
    writer: FrameWriter,
    frames: mpsc::Receiver<OutFrame>,
    pending: Arc<Pending>,
) {
    // Why it ended changes nothing: every answer still awaited is lost.
    tokio::select! {
        _ = answers::<P>(&mut reader, &pending) => {}
        () = write(writer, frames) => {}
    }
    pending.end();
}

async fn write(mut writer: FrameWriter, mut frames: mpsc::Receiver<OutFrame>) {
    while let Some(frame) = frames.recv().await {
        if writer.write(frame).await.is_err() {
            return;
        }
    }
}

async fn answers<P: Protocol>(reader: &mut FrameReader, pending: &Pending) -> Result<(), Broken> {
    while let Some((envelope, header)) = reader.head().await? {
        if envelope.kind != P::REPLY {
            return Err(Broken::Unexpected);
        }
        let body = reader.body(&envelope).await?;
        // Nobody waits for an answer that comes too late.
        if let Some(waiting) = pending.lock().by_number.remove(&envelope.number) {
            let _ = waiting.send(Ok((header, body, envelope.body_crc.is_none())));
        }
    }
    Ok(())
}
