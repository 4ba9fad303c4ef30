//! Two ends on loopback, and ends that do not keep to the rules.

use super::*;
use crate::piped::{PIPED_BYTES_MAX, Piped};
use bytes::Bytes;
use repair_core::id::{DiskId, ExtentKey};
use repair_core::node::{Hosted, Payload, PeerId, RequestId};
use repair_core::wire::codec::encode_message;
use repair_core::wire::frame::{ENVELOPE_BYTES, Envelope};
use repair_core::wire::node::FragmentKey;
use repair_core::wire::{CallError, NodeReply, NodeRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

const SOON: Duration = Duration::from_secs(20);

/// What a handler was told.
#[derive(Debug)]
enum Told {
    Asked(PeerId, RequestId, Box<NodeRequest>, Bytes),
    Gone(PeerId),
}

struct Teller(mpsc::UnboundedSender<Told>);

impl Handler<ToNode> for Teller {
    fn request(&self, peer: PeerId, id: RequestId, request: NodeRequest, body: Bytes) {
        let _ = self.0.send(Told::Asked(peer, id, Box::new(request), body));
    }

    fn gone(&self, peer: PeerId) {
        let _ = self.0.send(Told::Gone(peer));
    }
}

/// A server whose requests the test answers itself.
struct Listening {
    address: String,
    told: mpsc::UnboundedReceiver<Told>,
    replies: Replies<ToNode>,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    async fn new(limits: Limits) -> Self {
        Self::at("127.0.0.1:0", limits).await
    }

    async fn at(address: &str, limits: Limits) -> Self {
        let server = Server::<ToNode>::bind(address).await.unwrap().with_limits(limits);
        let (sender, told) = mpsc::unbounded_channel();
        let (address, replies) = (server.address().to_string(), server.replies());
        let task = tokio::spawn(server.serve(Arc::new(Teller(sender)))).abort_handle();
        Self { address, told, replies, task }
    }

    async fn told(&mut self) -> Told {
        tokio::time::timeout(SOON, self.told.recv()).await.expect("told in time").expect("a living server")
    }

    async fn asked(&mut self) -> (PeerId, RequestId, NodeRequest, Bytes) {
        match self.told().await {
            Told::Asked(peer, id, request, body) => (peer, id, *request, body),
            Told::Gone(peer) => panic!("{peer:?} is gone"),
        }
    }

    async fn gone(&mut self) -> PeerId {
        match self.told().await {
            Told::Gone(peer) => peer,
            other => panic!("{other:?}"),
        }
    }

    async fn open(&self) -> Connection<ToNode> {
        Connection::open(&self.address, SOON).await.unwrap()
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

fn read_of(number: u64) -> NodeRequest {
    let fragment = FragmentKey { extent: ExtentKey(7), generation: 1, index: 3 };
    NodeRequest::Read { fragment, offset: number * 4096, bytes: 4096 }
}

fn info() -> NodeReply {
    NodeReply::Info { cell: None, disk: DiskId(5), boot: 1, extents: 2, free_bytes: 3 }
}

/// Asks in a task of its own.
fn ask(
    connection: &Connection<ToNode>,
    request: NodeRequest,
    body: Bytes,
) -> tokio::task::JoinHandle<Result<(NodeReply, Bytes), CallError>> {
    let connection = connection.clone();
    tokio::spawn(async move { connection.call(&request, body, SOON).await })
}

/// A frame of any header, with right checksums.
fn frame(kind: FrameKind, number: u64, header: &[u8], body: &[u8]) -> Vec<u8> {
    let envelope = Envelope::new(kind, number, header, body);
    [&envelope.to_bytes()[..], header, body].concat()
}

fn sound_frame(number: u64) -> Vec<u8> {
    frame(FrameKind::NodeRequest, number, &encode_message(&NodeRequest::Info).unwrap(), b"")
}

/// Whether the other side ends the connection.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(tokio::time::timeout(SOON, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn answers_find_their_questions_in_any_order() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let body = |number: u64| Bytes::from(vec![number as u8; number as usize * 1000]);
    let asked: Vec<_> = (0..20).map(|number| ask(&connection, read_of(number), body(number))).collect();
    let mut requests = Vec::new();
    for _ in 0..20 {
        requests.push(server.asked().await);
    }
    for (peer, id, request, body) in requests.into_iter().rev() {
        let NodeRequest::Read { offset, .. } = request else { panic!("{request:?}") };
        assert_eq!(body.len() as u64, offset / 4096 * 1000);
        server.replies.send(peer, id, NodeReply::Data { crcs: vec![(offset / 4096) as u32] }, body.clone());
        // The second answer to one request goes nowhere.
        server.replies.send(peer, id, NodeReply::Published, Bytes::new());
    }
    for (number, task) in asked.into_iter().enumerate() {
        let (reply, answer) = task.await.unwrap().unwrap();
        assert_eq!(reply, NodeReply::Data { crcs: vec![number as u32] });
        assert_eq!(answer, body(number as u64));
    }
}

#[tokio::test]
async fn pages_of_a_file_travel_beside_an_answer_that_proves_them_and_no_other() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let bytes: Vec<u8> = (0..PIPED_BYTES_MAX).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let piped = || OutBody::of(Payload::Hosted(Hosted::new(Piped::of(&file, 0, bytes.len()).unwrap()))).unwrap();
    for _ in 0..20 {
        let asked: Vec<_> = (0..4).map(|number| ask(&connection, read_of(number), Bytes::new())).collect();
        for _ in 0..4 {
            let (peer, id, ..) = server.asked().await;
            server.replies.send(peer, id, NodeReply::Data { crcs: Vec::new() }, piped());
        }
        for answer in asked {
            assert!(answer.await.unwrap().unwrap().1 == bytes);
        }
    }
    let asked = ask(&connection, NodeRequest::Info, Bytes::new());
    let (peer, id, ..) = server.asked().await;
    server.replies.send(peer, id, info(), piped());
    assert!(matches!(asked.await.unwrap(), Ok((NodeReply::Refused(Refusal::Unavailable(_)), _))));
}

#[tokio::test]
async fn a_body_without_crc_is_not_taken_beside_a_message_that_does_not_prove_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lying = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for message in [NodeReply::Record, NodeReply::Data { crcs: vec![1] }] {
            let mut envelope = [0; ENVELOPE_BYTES];
            stream.read_exact(&mut envelope).await.unwrap();
            let asked = Envelope::parse(&envelope).unwrap();
            stream.read_exact(&mut vec![0; asked.header_bytes as usize]).await.unwrap();
            let header = encode_message(&message).unwrap();
            let envelope = Envelope::of_proven_body(asked.number, &header, 4);
            stream.write_all(&[&envelope.to_bytes()[..], &header, b"body"].concat()).await.unwrap();
        }
    });
    let connection = Connection::<ToNode>::open(&address, SOON).await.unwrap();
    assert_eq!(connection.call(&NodeRequest::Info, Bytes::new(), SOON).await, Err(CallError::Nonsense));
    assert!(connection.call(&NodeRequest::Info, Bytes::new(), SOON).await.is_ok());
    lying.await.unwrap();
}

#[tokio::test]
async fn the_longest_body_travels_both_ways_and_a_longer_one_does_not() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let body: Bytes = (0..repair_core::limits::BODY_BYTES_MAX).map(|at| (at % 251) as u8).collect();
    let answer = ask(&connection, NodeRequest::Info, body.clone());
    let (peer, id, _, received) = server.asked().await;
    assert!(received == body);
    server.replies.send(peer, id, info(), received);
    let (reply, received) = answer.await.unwrap().unwrap();
    assert!(reply == info() && received == body);

    let longer = Bytes::from([&body[..], b"x"].concat());
    assert_eq!(connection.call(&NodeRequest::Info, longer.clone(), SOON).await, Err(CallError::Nonsense));
    let answer = ask(&connection, NodeRequest::Info, Bytes::new());
    let (peer, id, ..) = server.asked().await;
    server.replies.send(peer, id, info(), longer);
    assert!(matches!(answer.await.unwrap(), Ok((NodeReply::Refused(Refusal::Unavailable(_)), _))));
}

#[tokio::test]
async fn the_last_clone_ends_the_connection_and_the_server_is_told_once() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let clone = connection.clone();
    let answer = ask(&connection, NodeRequest::Info, Bytes::new());
    let (peer, id, ..) = server.asked().await;
    drop(connection);
    server.replies.send(peer, id, info(), Bytes::new());
    assert!(answer.await.unwrap().is_ok());
    assert_eq!(server.replies.peers(), 1);
    drop(clone);
    assert_eq!(server.gone().await, peer);
    assert_eq!(server.replies.peers(), 0);
    server.replies.send(peer, id, info(), Bytes::new());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(server.told.try_recv().is_err());
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_not_the_connection() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let began = Instant::now();
    let silent = connection.call(&NodeRequest::Info, Bytes::new(), Duration::from_millis(50)).await;
    assert_eq!(silent, Err(CallError::Timeout));
    assert!(began.elapsed() < SOON);
    let (peer, late, ..) = server.asked().await;
    let answer = ask(&connection, NodeRequest::Info, Bytes::new());
    let (_, id, ..) = server.asked().await;
    server.replies.send(peer, late, NodeReply::Published, Bytes::new());
    server.replies.send(peer, id, info(), Bytes::new());
    assert_eq!(answer.await.unwrap(), Ok((info(), Bytes::new())));
}

#[tokio::test]
async fn a_server_that_ends_loses_the_calls_in_flight_and_the_next_was_not_seen() {
    let mut server = Listening::new(Limits::default()).await;
    let connection = server.open().await;
    let answer = ask(&connection, NodeRequest::Info, Bytes::new());
    server.asked().await;
    assert!(!connection.is_closed());
    drop(server);
    assert_eq!(answer.await.unwrap(), Err(CallError::Lost));
    assert!(connection.is_closed());
    assert_eq!(connection.call(&NodeRequest::Info, Bytes::new(), SOON).await, Err(CallError::Unreachable));
}

#[tokio::test]
async fn a_request_of_a_later_version_is_refused_and_the_connection_lives() {
    let mut server = Listening::new(Limits::default()).await;
    let mut stream = server.raw().await;
    let mut unknown = encode_message(&NodeRequest::Info).unwrap();
    unknown[0] = 200;
    let trailing = [&encode_message(&NodeRequest::Info).unwrap()[..], &[0]].concat();
    for (number, header) in [(1, &unknown), (2, &trailing)] {
        stream.write_all(&frame(FrameKind::NodeRequest, number, header, b"body")).await.unwrap();
        let mut bytes = [0; ENVELOPE_BYTES];
        stream.read_exact(&mut bytes).await.unwrap();
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!((envelope.kind, envelope.number), (FrameKind::NodeReply, number));
        let mut header = vec![0; envelope.header_bytes as usize];
        stream.read_exact(&mut header).await.unwrap();
        let reply = repair_core::wire::codec::decode_message::<NodeReply>(&header).unwrap();
        assert!(matches!(reply, NodeReply::Refused(Refusal::Invalid(_))), "{reply:?}");
    }
    stream.write_all(&sound_frame(3)).await.unwrap();
    assert_eq!(server.asked().await.1, RequestId(3));
}

#[tokio::test]
async fn a_frame_that_is_none_ends_its_connection_and_no_other() {
    let mut server = Listening::new(Limits::default()).await;
    let good = server.open().await;
    let flipped = |at: usize| {
        let mut bytes = frame(FrameKind::NodeRequest, 1, &encode_message(&NodeRequest::Info).unwrap(), b"body");
        bytes[at] ^= 1;
        bytes
    };
    let header = encode_message(&NodeRequest::Info).unwrap();
    let mut hostile: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec(),
        frame(FrameKind::NodeReply, 1, &encode_message(&info()).unwrap(), b""),
        frame(FrameKind::DaemonRequest, 1, &header, b""),
    ];
    hostile.extend([0, 4, 5, 9, 17, 19, 23, 25, 30, ENVELOPE_BYTES, ENVELOPE_BYTES + header.len()].map(flipped));
    for bytes in hostile {
        let mut stream = server.raw().await;
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(ends(&mut stream).await, "{bytes:?}");
        // It was there, and nothing of it was handed on.
        server.gone().await;
    }
    let answer = ask(&good, NodeRequest::Info, Bytes::new());
    let (peer, id, ..) = server.asked().await;
    server.replies.send(peer, id, info(), Bytes::new());
    assert!(answer.await.unwrap().is_ok());
}

#[tokio::test]
async fn long_bodies_of_all_connections_wait_for_room_and_short_ones_do_not() {
    let mut server = Listening::new(Limits { body_bytes_of_all: 20_000, ..Limits::default() }).await;
    let (first, second, third) = (server.open().await, server.open().await, server.open().await);
    let held = ask(&first, read_of(1), Bytes::from(vec![1; 15_000]));
    let (peer, id, ..) = server.asked().await;
    let waiting = ask(&second, read_of(2), Bytes::from(vec![2; 6_000]));
    let short = ask(&third, read_of(3), Bytes::from(vec![3; 1_000]));
    // Whoever came first, the long one is not heard before the held one is answered.
    let (short_peer, short_id, request, _) = server.asked().await;
    assert_eq!(request, read_of(3));
    server.replies.send(short_peer, short_id, info(), Bytes::new());
    assert!(short.await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(server.told.try_recv().is_err());
    server.replies.send(peer, id, info(), Bytes::new());
    assert!(held.await.unwrap().is_ok());
    let (peer, id, request, _) = server.asked().await;
    assert_eq!(request, read_of(2));
    server.replies.send(peer, id, info(), Bytes::new());
    assert!(waiting.await.unwrap().is_ok());
    // One longer than all there is goes when it is alone.
    let longer = ask(&first, read_of(4), Bytes::from(vec![4; 30_000]));
    let (peer, id, ..) = server.asked().await;
    server.replies.send(peer, id, info(), Bytes::new());
    assert!(longer.await.unwrap().is_ok());
}

#[tokio::test]
async fn two_requests_of_one_number_end_the_connection() {
    let mut server = Listening::new(Limits::default()).await;
    let mut stream = server.raw().await;
    stream.write_all(&[sound_frame(4), sound_frame(4)].concat()).await.unwrap();
    assert_eq!(server.asked().await.1, RequestId(4));
    server.gone().await;
    assert!(ends(&mut stream).await);
}

#[tokio::test]
async fn an_answered_number_may_come_again() {
    let mut server = Listening::new(Limits::default()).await;
    let mut stream = server.raw().await;
    for _ in 0..2 {
        stream.write_all(&sound_frame(4)).await.unwrap();
        let (peer, id, ..) = server.asked().await;
        server.replies.send(peer, id, NodeReply::Published, Bytes::new());
        let mut reply = [0; ENVELOPE_BYTES];
        stream.read_exact(&mut reply).await.unwrap();
        let mut header = vec![0; Envelope::parse(&reply).unwrap().header_bytes as usize];
        stream.read_exact(&mut header).await.unwrap();
    }
}

#[tokio::test]
async fn who_begins_a_frame_and_does_not_go_on_is_cut_off_and_who_is_idle_is_not() {
    let limits = Limits { header_time: Duration::from_millis(200), ..Limits::default() };
    let mut server = Listening::new(limits).await;
    let mut idle = server.raw().await;
    let mut slow = server.raw().await;
    let began = Instant::now();
    slow.write_all(&sound_frame(1)[..10]).await.unwrap();
    assert!(ends(&mut slow).await);
    assert!((Duration::from_millis(150)..SOON).contains(&began.elapsed()));
    server.gone().await;
    idle.write_all(&sound_frame(1)).await.unwrap();
    server.asked().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_their_place_comes_back() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let mut server = Listening::new(limits).await;
    let (mut first, _second, mut third) = (server.raw().await, server.raw().await, server.raw().await);
    assert!(ends(&mut third).await);
    first.shutdown().await.unwrap();
    server.gone().await;
    let mut fourth = server.raw().await;
    fourth.write_all(&sound_frame(1)).await.unwrap();
    server.asked().await;

    let mut server = Listening::new(Limits { connections: 1, ..Limits::default() }).await;
    let (mut first, mut second) = (server.raw().await, server.raw().await);
    assert!(ends(&mut second).await);
    first.write_all(&sound_frame(1)).await.unwrap();
    server.asked().await;
}

#[tokio::test]
async fn nothing_is_read_beyond_the_requests_and_bytes_allowed_until_one_is_answered() {
    for (limits, bodies) in [
        (Limits { requests: 2, ..Limits::default() }, [0, 0, 0]),
        (Limits { body_bytes: 10_000, ..Limits::default() }, [5_000, 5_000, 1]),
        // One body over the limit still gets through, alone.
        (Limits { body_bytes: 10_000, ..Limits::default() }, [2_000, 0, 20_000]),
    ] {
        let mut server = Listening::new(limits).await;
        let connection = server.open().await;
        let mut calls = Vec::new();
        let mut asked = Vec::new();
        for (at, bytes) in bodies.into_iter().enumerate() {
            calls.push(ask(&connection, NodeRequest::Info, Bytes::from(vec![1; bytes])));
            if at < 2 {
                asked.push(server.asked().await);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(server.told.try_recv().is_err(), "{limits:?}");
        let (peer, id, ..) = asked.remove(0);
        server.replies.send(peer, id, info(), Bytes::new());
        server.asked().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_no_sense_is_said_to_be_and_a_frame_that_is_none_loses_the_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = Connection::<ToNode>::open(&listener.local_addr().unwrap().to_string(), SOON).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let nonsense = ask(&connection, NodeRequest::Info, Bytes::new());
    let mut request = vec![0; sound_frame(1).len()];
    stream.read_exact(&mut request).await.unwrap();
    stream.write_all(&frame(FrameKind::NodeReply, 1, &[255; 9], b"")).await.unwrap();
    assert_eq!(nonsense.await.unwrap(), Err(CallError::Nonsense));
    // The connection lives; then a question comes where an answer should.
    let lost = ask(&connection, NodeRequest::Info, Bytes::new());
    stream.read_exact(&mut request).await.unwrap();
    stream.write_all(&sound_frame(2)).await.unwrap();
    assert_eq!(lost.await.unwrap(), Err(CallError::Lost));
    assert!(ends(&mut stream).await);
}

#[tokio::test]
async fn a_pool_opens_again_what_broke() {
    let mut server = Listening::new(Limits::default()).await;
    let (address, pool) = (server.address.clone(), Pool::<ToNode>::new());
    let call = || {
        let (address, pool) = (address.clone(), pool.clone());
        tokio::spawn(async move { pool.call(&address, &NodeRequest::Info, Bytes::new(), SOON).await })
    };
    let mut peers = Vec::new();
    for _ in 0..2 {
        let answer = call();
        let (peer, id, ..) = server.asked().await;
        server.replies.send(peer, id, info(), Bytes::new());
        answer.await.unwrap().unwrap();
        peers.push(peer);
    }
    assert_eq!(peers[0], peers[1], "one connection");
    drop(server);
    // The connection may end only as this is asked.
    assert!(matches!(call().await.unwrap(), Err(CallError::Unreachable | CallError::Lost)));
    assert_eq!(call().await.unwrap(), Err(CallError::Unreachable));

    let mut server = Listening::at(&address, Limits::default()).await;
    let answer = call();
    let (peer, id, ..) = server.asked().await;
    server.replies.send(peer, id, info(), Bytes::new());
    answer.await.unwrap().unwrap();
    drop(pool);
    server.gone().await;
}

#[tokio::test]
async fn callers_who_wait_for_one_connection_share_its_failure() {
    // A listener whose queue is full does not answer; nobody waits for one try after another.
    let listener = tokio::net::TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut crowd = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        crowd.push(stream);
    }
    let pool = Pool::<ToNode>::new();
    let began = Instant::now();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (pool, address) = (pool.clone(), address.to_string());
            tokio::spawn(async move { pool.call(&address, &NodeRequest::Info, Bytes::new(), SOON).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Err(CallError::Unreachable));
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_port_in_use_is_said_to_be() {
    let server = Listening::new(Limits::default()).await;
    let error = Server::<ToNode>::bind(&server.address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// Two addresses of one host are no proof of it: only one at both ends is.
#[tokio::test]
async fn the_other_end_is_within_the_host_where_both_have_one_address() {
    let same = Listening::new(Limits::default()).await;
    assert!(Connection::<ToNode>::open(&same.address, SOON).await.unwrap().is_within_host());
    // The system calls from 127.0.0.1 here.
    let other = Listening::at("127.0.0.2:0", Limits::default()).await;
    assert!(!Connection::<ToNode>::open(&other.address, SOON).await.unwrap().is_within_host());
}
