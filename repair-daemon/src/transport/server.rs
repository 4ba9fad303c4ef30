//! The side that answers.

use super::Protocol;
use super::frame_io::{Broken, FrameReader, FrameWriter, OutBody, OutFrame, ends};
use bytes::Bytes;
use repair_core::node::{PeerId, RequestId};
use repair_core::wire::Refusal;
use repair_core::wire::codec::{CodecError, decode_message};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

/// What one server lets others take of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all; those beyond are closed at once.
    pub connections: usize,
    /// Connections from one IP address.
    pub connections_per_address: usize,
    /// Requests of one connection that are not answered yet; beyond, nothing is read from it.
    pub requests: usize,
    /// Bytes in the bodies of these.
    pub body_bytes: usize,
    /// Bytes in the bodies of all connections' requests that are not answered yet; beyond, long bodies wait.
    pub body_bytes_of_all: usize,
    /// From the first byte of a request to the end of its header.
    pub header_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 2048,
            requests: 64,
            body_bytes: 64 << 20,
            body_bytes_of_all: 512 << 20,
            header_time: Duration::from_secs(10),
        }
    }
}

/// Bodies below this do not count for all: control goes on while payload waits. 64 of them on each of 4,096 connections are 1 GiB.
const SMALL_BODY_BYTES: u32 = 4 << 10;

/// Takes what comes. Must not block: it is called from the task that reads the connection.
pub trait Handler<P: Protocol>: Send + Sync + 'static {
    /// A request came. It is answered through [`Replies`], once, at any time. No number comes a second time on a connection
    /// before it was answered.
    fn request(&self, peer: PeerId, id: RequestId, request: P::Request, body: Bytes);

    /// A connection ended. Nothing comes from it any more, and answers to it go nowhere.
    fn gone(&self, peer: PeerId);
}

/// The way back for answers.
#[derive(Debug)]
pub struct Replies<P: Protocol> {
    peers: Arc<Mutex<BTreeMap<PeerId, Arc<Peer<P>>>>>,
}

impl<P: Protocol> Clone for Replies<P> {
    fn clone(&self) -> Self {
        Self { peers: Arc::clone(&self.peers) }
    }
}

impl<P: Protocol> Replies<P> {
    /// Answers a request, without waiting. Does nothing where the connection has ended or the request was answered before.
    pub fn send(&self, peer: PeerId, id: RequestId, reply: P::Reply, body: impl Into<OutBody>) {
        let peer = lock(&self.peers).get(&peer).cloned();
        if let Some(peer) = peer {
            peer.answer(id, reply, body.into());
        }
    }

    /// Connections there are.
    pub fn peers(&self) -> usize {
        lock(&self.peers).len()
    }
}

/// One connection.
#[derive(Debug)]
struct Peer<P: Protocol> {
    /// Not bounded by itself: there are never more answers than requests in flight.
    answers: mpsc::UnboundedSender<Answer<P>>,
    asked: Mutex<HashMap<u64, Share>>,
}

/// A request's share of its connection's limits; given back when its answer was written.
#[derive(Debug)]
struct Share {
    _request: OwnedSemaphorePermit,
    _body: OwnedSemaphorePermit,
    _body_of_all: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Answer<P: Protocol> {
    number: u64,
    reply: P::Reply,
    body: OutBody,
    _share: Share,
}

impl<P: Protocol> Peer<P> {
    fn answer(&self, id: RequestId, reply: P::Reply, body: OutBody) {
        if let Some(share) = lock(&self.asked).remove(&id.0) {
            let _ = self.answers.send(Answer { number: id.0, reply, body, _share: share });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens.
#[derive(Debug)]
pub struct Server<P: Protocol> {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    replies: Replies<P>,
}

impl<P: Protocol> Server<P> {
    /// Listens on `address` (host:port; port 0 for any free one).
    ///
    /// # Errors
    /// That of the system, such as [`io::ErrorKind::AddrInUse`].
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits: Limits::default(), replies: Replies { peers: Arc::default() } })
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way back for answers.
    pub fn replies(&self) -> Replies<P> {
        self.replies.clone()
    }

    /// Takes connections for ever; dropped, it ends them all.
    pub async fn serve<H: Handler<P>>(self, handler: Arc<H>) {
        let mut connections = JoinSet::new();
        let open = Arc::new(Mutex::new(Open::default()));
        let bodies = Arc::new(Semaphore::new(self.limits.body_bytes_of_all));
        let mut last = 0;
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of file descriptors, or a connection that ended before it was taken: others may still come.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = Place::take(&open, from.ip(), &self.limits) else { continue };
            last += 1;
            let (peer, replies, limits, handler) =
                (PeerId(last), self.replies.clone(), self.limits, Arc::clone(&handler));
            let bodies = Arc::clone(&bodies);
            connections.spawn(async move {
                let _place = place;
                converse(stream, peer, &replies, &limits, &bodies, &*handler).await;
            });
        }
    }
}

/// Connections there are, by where they come from.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    from: HashMap<IpAddr, usize>,
}

/// A connection's place among those allowed.
struct Place {
    open: Arc<Mutex<Open>>,
    from: IpAddr,
}

impl Place {
    fn take(open: &Arc<Mutex<Open>>, from: IpAddr, limits: &Limits) -> Option<Self> {
        let mut counts = lock(open);
        if counts.all >= limits.connections
            || counts.from.get(&from).is_some_and(|count| *count >= limits.connections_per_address)
        {
            return None;
        }
        counts.all += 1;
        *counts.from.entry(from).or_default() += 1;
        Some(Self { open: Arc::clone(open), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.open);
        counts.all -= 1;
        if let Some(count) = counts.from.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.from.remove(&self.from);
            }
        }
    }
}

async fn converse<P: Protocol, H: Handler<P>>(
    stream: TcpStream,
    id: PeerId,
    replies: &Replies<P>,
    limits: &Limits,
    bodies_of_all: &Arc<Semaphore>,
    handler: &H,
) {
    let Ok((mut reader, writer)) = ends(stream, limits.header_time) else { return };
    let (answers, queue) = mpsc::unbounded_channel();
    let peer = Arc::new(Peer { answers, asked: Mutex::default() });
    lock(&replies.peers).insert(id, Arc::clone(&peer));
    // Whichever ends first ends the other: a peer that cannot be answered is not read from.
    tokio::select! {
        _ = read(&mut reader, id, &peer, limits, bodies_of_all, handler) => {}
        () = write(writer, queue) => {}
    }
    lock(&replies.peers).remove(&id);
    handler.gone(id);
}

async fn read<P: Protocol, H: Handler<P>>(
    reader: &mut FrameReader,
    id: PeerId,
    peer: &Peer<P>,
    limits: &Limits,
    bodies_of_all: &Arc<Semaphore>,
    handler: &H,
) -> Result<(), Broken> {
    let of_all = u32::try_from(limits.body_bytes_of_all).unwrap_or(u32::MAX);
    let requests = Arc::new(Semaphore::new(limits.requests));
    let bodies = Arc::new(Semaphore::new(limits.body_bytes));
    while let Some((envelope, header)) = reader.head().await? {
        if envelope.kind != P::REQUEST {
            return Err(Broken::Unexpected);
        }
        let body_bytes = envelope.body_bytes.min(u32::try_from(limits.body_bytes).unwrap_or(u32::MAX));
        let share = Share {
            _request: Arc::clone(&requests).acquire_owned().await.map_err(|_| Broken::Unexpected)?,
            _body: take(&bodies, body_bytes).await?,
            // Last, so that nobody waits for anything else with it in hand.
            _body_of_all: match body_bytes {
                ..SMALL_BODY_BYTES => None,
                bytes => Some(take(bodies_of_all, bytes.min(of_all)).await?),
            },
        };
        let body = reader.body(&envelope).await?;
        if lock(&peer.asked).insert(envelope.number, share).is_some() {
            // Two requests of one number: their answers could not be told apart.
            return Err(Broken::Unexpected);
        }
        let number = RequestId(envelope.number);
        match decode_message(&header) {
            Ok(request) => handler.request(id, number, request, body),
            Err(error) => peer.answer(number, P::refused(Refusal::Invalid(error.to_string())), Bytes::new().into()),
        }
    }
    Ok(())
}

async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, Broken> {
    Arc::clone(semaphore).acquire_many_owned(permits).await.map_err(|_| Broken::Unexpected)
}

async fn write<P: Protocol>(mut writer: FrameWriter, mut answers: mpsc::UnboundedReceiver<Answer<P>>) {
    while let Some(answer) = answers.recv().await {
        let frame = match answer.body {
            body if P::proves_body(&answer.reply) => OutFrame::of_proven_body(answer.number, &answer.reply, body),
            OutBody::Bytes(body) => OutFrame::new(P::REPLY, answer.number, &answer.reply, body),
            OutBody::Piped(_) => Err(CodecError::Malformed("a body that nothing proves".into())),
        };
        let frame = frame.or_else(|error| {
            let refused = P::refused(Refusal::Unavailable(format!("the answer does not fit: {error}")));
            OutFrame::new(P::REPLY, answer.number, &refused, Bytes::new())
        });
        let Ok(frame) = frame else { return };
        if writer.write(frame).await.is_err() {
            return;
        }
    }
}
