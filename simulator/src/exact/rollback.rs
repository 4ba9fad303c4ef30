//! A seed whose catalog is put back to an earlier copy when all is over, while its daemon is started again and again.

use super::profile::Profile;
use super::run::Phase;
use super::trace::Trace;
use super::world::World;
use repair_core::catalog::{CellRow, key};
use repair_core::id::{DiskId, ExtentKey, PgId, RecordHash};
use repair_core::rng::Dice;
use repair_core::wire::codec::decode_row;
use std::collections::BTreeMap;

/// Operations after which the copy is made.
const OPERATIONS_BEFORE: u64 = 40;
/// Virtual time on the copy: a daemon that ends is started again after half a second.
const SPAN_MS: u64 = 30_000;
/// Virtual time in which all must be whole again on the newest catalog.
const RECOVERY_MS: u64 = 120_000;

type Lists = BTreeMap<(DiskId, PgId), BTreeMap<ExtentKey, RecordHash>>;

/// Runs a seed to its end, puts the copy back for a while, and then the newest catalog.
///
/// # Errors
/// What broke, in words.
pub fn run_rolled_back(seed: u64) -> Result<(), String> {
    let dice = Dice::new(seed).child("world", seed);
    let profile = Profile::of(seed, &mut dice.child("profile", 0));
    let mut world = World::new(profile, None, Trace::new(0, false), dice);
    world.begin();
    let mut copy = None;
    while world.phase != Phase::Over && world.step() {
        let done: u64 = world.clients.iter().map(|client| client.done).sum();
        if copy.is_none() && done >= OPERATIONS_BEFORE {
            copy = Some(world.catalog.rows.clone());
        }
    }
    let copy = copy.ok_or("the work ended before the copy was made")?;
    world.held()?;
    let before = world.lists();
    let newest = world.restart_on(copy);
    // Every row of a group that is written now is none that follows the true one, and the oracle says so.
    world.pass(SPAN_MS)?;
    if world.lists() != before {
        return Err("a member's list has changed".into());
    }
    if !world.is_suspended() {
        return Err("the cell is not suspended".into());
    }
    world.restart_on(newest);
    for _ in 0..RECOVERY_MS / 1_000 {
        world.pass(1_000)?;
        let daemon = world.current.and_then(|daemon| world.daemons[daemon].coordinator.as_ref());
        if daemon.is_some_and(repair_core::coordinator::Coordinator::idle) {
            return if world.lists().len() < before.len() { Err("lists are gone".into()) } else { Ok(()) };
        }
    }
    Err(format!("not whole on the newest catalog: {}", world.unfinished()))
}

impl World {
    fn held(&self) -> Result<(), String> {
        self.violation.as_ref().map_or(Ok(()), |violation| Err(violation.to_string()))
    }

    fn pass(&mut self, span_ms: u64) -> Result<(), String> {
        let end = self.queue.now().after_ms(span_ms);
        while self.queue.now() < end && self.step() {}
        self.held()
    }

    /// Ends all daemons and starts one on another catalog; the one it was on.
    fn restart_on(
        &mut self,
        rows: repair_core::catalog::memory::MemoryCatalog,
    ) -> repair_core::catalog::memory::MemoryCatalog {
        (0..self.daemons.len()).for_each(|daemon| self.stop_daemon(daemon));
        let replaced = std::mem::replace(&mut self.catalog.rows, rows);
        self.start_daemon();
        replaced
    }

    fn lists(&self) -> Lists {
        let of_node = |host: &super::node::NodeHost| {
            let disk = host.disk.id;
            let list = |pg| ((disk, pg), host.machine.list(pg).cloned().unwrap_or_default());
            host.machine.pgs().map(list).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    fn is_suspended(&self) -> bool {
        let row = self.catalog.rows.get(&key::cell()).and_then(|found| decode_row::<CellRow>(&found.value).ok());
        row.is_some_and(|row| row.suspended.is_some())
    }
}
