//! How fast frames with bodies travel over loopback: `cargo run --release -p repair-daemon --example transport_speed [MIB]`.

use bytes::Bytes;
use repair_core::id::{DiskId, ExtentKey};
use repair_core::limits::SLICE_BYTES;
use repair_core::node::{PeerId, RequestId};
use repair_core::wire::node::FragmentKey;
use repair_core::wire::{CallError, NodeReply, NodeRequest};
use repair_daemon::transport::{Connection, Handler, Replies, Server, ToNode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers reads with a slice and everything else with its identity, at once.
struct Echo {
    replies: Replies<ToNode>,
    slice: Bytes,
}

impl Handler<ToNode> for Echo {
    fn request(&self, peer: PeerId, id: RequestId, request: NodeRequest, _: Bytes) {
        let (reply, body) = match request {
            NodeRequest::Read { .. } => (NodeReply::Data { crcs: vec![0; 256] }, self.slice.clone()),
            _ => (NodeReply::Info { cell: None, disk: DiskId(1), boot: 1, extents: 0, free_bytes: 0 }, Bytes::new()),
        };
        self.replies.send(peer, id, reply, body);
    }

    fn gone(&self, _: PeerId) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib: u64 = std::env::args().nth(1).map_or(Ok(4096), |text| text.parse())?;
    let server = Server::<ToNode>::bind("127.0.0.1:0").await?;
    let address = server.address().to_string();
    let slice = Bytes::from(vec![7; SLICE_BYTES]);
    let echo = Arc::new(Echo { replies: server.replies(), slice: slice.clone() });
    tokio::spawn(server.serve(echo));
    let connection = Connection::<ToNode>::open(&address, Duration::from_secs(5)).await?;
    let fragment = FragmentKey { extent: ExtentKey(1), generation: 1, index: 0 };
    let read = NodeRequest::Read { fragment, offset: 0, bytes: SLICE_BYTES as u32 };
    for (what, request, body, calls, in_flight) in [
        ("send 1 MiB, one at a time", NodeRequest::Info, slice.clone(), mib, 1),
        ("send 1 MiB, four in flight", NodeRequest::Info, slice.clone(), mib, 4),
        ("read 1 MiB, one at a time", read.clone(), Bytes::new(), mib, 1),
        ("read 1 MiB, four in flight", read, Bytes::new(), mib, 4),
        ("small, one at a time", NodeRequest::Info, Bytes::new(), 20_000, 1),
        ("small, 32 in flight", NodeRequest::Info, Bytes::new(), 100_000, 32),
    ] {
        let bytes_each = if matches!(request, NodeRequest::Read { .. }) { SLICE_BYTES } else { body.len() };
        let seconds = run(&connection, &request, &body, calls, in_flight).await?;
        println!(
            "{what:<28} {:>8.1} us each {:>8.2} GB/s",
            seconds * 1e6 / calls as f64,
            bytes_each as f64 * calls as f64 / seconds / 1e9
        );
    }
    Ok(())
}

async fn run(
    connection: &Connection<ToNode>,
    request: &NodeRequest,
    body: &Bytes,
    calls: u64,
    in_flight: u64,
) -> Result<f64, CallError> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (connection, request, body) = (connection.clone(), request.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    connection.call(&request, body.clone(), Duration::from_secs(10)).await?;
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|_| CallError::Lost)??;
    }
    Ok(began.elapsed().as_secs_f64())
}
