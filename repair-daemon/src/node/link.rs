//! The connection to the daemon: opened again for ever, because a daemon may be late, restarted or away for long.

use super::host::{Input, Inputs};
use crate::transport::{Connection, ToDaemon};
use repair_core::node::NodeEvent;
use repair_core::wire::{CallError, DaemonRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const OPEN_TIME_MAX: Duration = Duration::from_secs(3);
/// A daemon that does not answer for this long is asked anew on another connection.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often a connection is looked at that nobody uses.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A connection to the daemon, and how to say that it is of no use.
#[derive(Clone, Debug)]
pub(super) struct Link {
    connection: Connection<ToDaemon>,
    useless: Arc<Notify>,
}

impl Link {
    /// Asks the daemon in the background; ends as [`NodeEvent::Daemon`].
    pub(super) fn ask(&self, number: u64, request: DaemonRequest, inputs: &Inputs) {
        let (link, inputs) = (self.clone(), inputs.clone());
        tokio::spawn(async move {
            let answered = link.connection.call(&request, bytes::Bytes::new(), CALL_TIME_MAX).await;
            if answered.is_err() {
                link.useless.notify_one();
            }
            inputs.happened(NodeEvent::Daemon { number, result: answered.map(|(reply, _)| reply) });
        });
    }
}

/// Tells the machine that its daemon cannot be asked.
pub(super) fn unreachable(number: u64, inputs: &Inputs) {
    inputs.happened(NodeEvent::Daemon { number, result: Err(CallError::Unreachable) });
}

/// Keeps a connection to the daemon, for ever.
pub(super) async fn keep(address: String, inputs: Inputs) {
    let mut wait = WAIT_MIN;
    loop {
        let began = Instant::now();
        if let Ok(connection) = Connection::open(&address, OPEN_TIME_MAX).await {
            let link = Link { connection, useless: Arc::default() };
            inputs.send(Input::Linked(Some(link.clone())));
            link.ended().await;
            inputs.send(Input::Linked(None));
        }
        // A connection that lasted was not refused: the next try is a first one.
        wait = if began.elapsed() > OPEN_TIME_MAX { WAIT_MIN } else { wait };
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

impl Link {
    async fn ended(&self) {
        while !self.connection.is_closed() {
            tokio::select! {
                () = self.useless.notified() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
