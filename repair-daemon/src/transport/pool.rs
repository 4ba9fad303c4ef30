//! One connection per address, opened when it is first needed and again after it broke.

use super::{Connection, Protocol};
use bytes::Bytes;
use repair_core::wire::CallError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A server on the same network answers a connection at once or not at all.
const OPEN_TIME_MAX: Duration = Duration::from_secs(3);
/// Above this many addresses those without a living connection are forgotten.
const SLOTS_KEPT: usize = 256;

/// Connections by address. Clones share them; with the last one they all end.
#[derive(Debug)]
pub struct Pool<P: Protocol> {
    slots: Arc<Mutex<HashMap<String, Arc<Slot<P>>>>>,
}

impl<P: Protocol> Clone for Pool<P> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots) }
    }
}

impl<P: Protocol> Default for Pool<P> {
    fn default() -> Self {
        Self { slots: Arc::default() }
    }
}

#[derive(Debug)]
struct Slot<P: Protocol> {
    /// Held while one caller connects: the others wait for what it gets.
    state: tokio::sync::Mutex<State<P>>,
}

#[derive(Debug)]
enum State<P: Protocol> {
    Unused,
    Open(Connection<P>),
    /// No connection could be made, at that moment.
    Failed(Instant),
}

impl<P: Protocol> Pool<P> {
    /// No connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the server at `address`, and waits for the answer at most `deadline`, the time to connect included.
    ///
    /// # Errors
    /// [`CallError`]: unreachable where the question was surely not seen.
    pub async fn call(
        &self,
        address: &str,
        request: &P::Request,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(P::Reply, Bytes), CallError> {
        let began = Instant::now();
        let connection = tokio::time::timeout(deadline, self.connection(address));
        let connection = connection.await.map_err(|_| CallError::Unreachable)??;
        connection.call(request, body, deadline.saturating_sub(began.elapsed())).await
    }

    /// The living connection to `address`, opened if there is none.
    ///
    /// # Errors
    /// [`CallError::Unreachable`].
    pub async fn connection(&self, address: &str) -> Result<Connection<P>, CallError> {
        let asked = Instant::now();
        let slot = self.slot(address);
        let mut state = slot.state.lock().await;
        match &*state {
            State::Open(connection) if !connection.is_closed() => return Ok(connection.clone()),
            // Who waited for this try would otherwise try again, one after the other.
            State::Failed(when) if *when >= asked => return Err(CallError::Unreachable),
            _ => {}
        }
        match Connection::open(address, OPEN_TIME_MAX).await {
            Ok(connection) => {
                *state = State::Open(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *state = State::Failed(Instant::now());
                Err(error)
            }
        }
    }

    fn slot(&self, address: &str) -> Arc<Slot<P>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(address) {
            return Arc::clone(slot);
        }
        if slots.len() >= SLOTS_KEPT {
            slots.retain(|_, slot| slot.is_in_use());
        }
        let slot = Arc::new(Slot { state: tokio::sync::Mutex::new(State::Unused) });
        slots.insert(address.to_owned(), Arc::clone(&slot));
        slot
    }
}

impl<P: Protocol> Slot<P> {
    fn is_in_use(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => matches!(&*state, State::Open(connection) if !connection.is_closed()),
            Err(_) => true,
        }
    }
}
