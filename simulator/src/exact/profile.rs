//! What kind of cell a seed runs, for how long, and with what spans: small extents, and timers as long as the work between them.

use super::mode::Mode;
use super::run::Limits;
use ec_core::{Code, CodeSpec};
use repair_core::budget::BudgetConfig;
use repair_core::coordinator::CoordinatorConfig;
use repair_core::node::NodeConfig;
use repair_core::ownership::LeaseConfig;
use repair_core::pg::PgConfig;
use repair_core::rng::Dice;
use repair_core::time::Millis;
use repair_core::topology::Level;

/// A kind of cell.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What is asked of the cell.
    pub mode: Mode,
    /// The code of its groups.
    pub code: CodeSpec,
    /// Losses it survives whichever they are.
    pub tolerance: usize,
    /// Its nodes.
    pub nodes: usize,
    /// Its racks: node after node goes to the next one.
    pub racks: usize,
    /// Its daemons: one is in charge, the others stand by.
    pub daemons: usize,
    /// Its clients.
    pub clients: usize,
    /// Operations of all clients.
    pub operations: u64,
    /// Faults that strike at least.
    pub faults: u64,
    /// How many times longer than in the shortest of cells everything takes but the way of a message and the work of a disk.
    pub stretch: u64,
    /// Mean time between two faults.
    pub fault_every_ms: u64,
    /// Mean pause of a client between two operations.
    pub pause_ms: u64,
    /// Length of extents.
    pub extent_bytes: u64,
    /// Settings of nodes.
    pub node: NodeConfig,
    /// From suspicion to loss.
    pub grace: Millis,
    /// Placement groups per disk, about.
    pub slots_per_disk: u32,
    /// Whether repairs of single fragments go through chains.
    pub repair_chain: bool,
    /// What repairs may move.
    pub budget: BudgetConfig,
    /// Whether what survives two further losses is let wait for a while.
    pub is_lazy: bool,
    /// Whether extents are created without members that cannot be reached.
    pub degraded_creates: bool,
    /// Whether the catalog is put back to an earlier copy for a while when all is over.
    pub rolls_back: bool,
}

/// Code, nodes, racks.
type Cell = (&'static str, usize, usize);

const CELLS: [Cell; 16] = [
    ("rs:4+2", 8, 8),
    ("rs:4+2", 8, 8),
    ("replicate:3", 4, 4),
    ("rs:4+2", 9, 9),
    ("rs:2+2", 5, 5),
    ("rs:4+2", 14, 7),
    ("lrc:6,2,2", 12, 12),
    ("rs:4+2", 7, 7),
    ("replicate:3", 6, 6),
    ("rs:6+3", 11, 11),
    ("rs:4+2", 8, 8),
    ("rs:3+2", 12, 6),
    ("replicate:3", 10, 5),
    ("lrc:6,2,2", 13, 13),
    ("rs:4+2", 8, 8),
    ("rs:4+2", 24, 8),
];

const TIGHT: BudgetConfig = BudgetConfig {
    disk_bytes_per_second: 64_000,
    node_bytes_per_second: 50_000,
    rack_bytes_per_second: 60_000,
    burst: Millis(500),
    borrow: Millis(500),
};
/// A wide cell now and then: it has little that the others do not, and costs as much as three.
const WIDE: Cell = ("lrc:12,2,2", 20, 20);

/// Operations of a seed at least.
const OPERATIONS: u64 = 504;
/// Faults of a seed at least.
const FAULTS: u64 = 102;

impl Profile {
    /// The cell of a seed.
    ///
    /// # Panics
    /// Never: the codes above are codes.
    pub fn of(seed: u64, mode: Mode, dice: &mut Dice) -> Self {
        let (code, nodes, racks) = if dice.chance(1, 40) { WIDE } else { CELLS[(seed % CELLS.len() as u64) as usize] };
        let spec: CodeSpec = code.parse().expect("a spec of the table");
        let tolerance = Code::new(&spec).expect("a code of the table").guaranteed_tolerance();
        let work_ms = 600_000 + dice.below(300_000);
        let stretch = work_ms / 100_000;
        let clients = 2 + dice.below(4);
        let span = |ms: u64| Millis(ms * stretch);
        Self {
            mode,
            code: spec,
            tolerance,
            nodes,
            racks,
            daemons: 1 + dice.below(3) as usize,
            clients: clients as usize,
            operations: OPERATIONS.div_ceil(clients) * clients,
            faults: FAULTS,
            stretch,
            fault_every_ms: work_ms / (FAULTS + FAULTS / 6),
            pause_ms: work_ms * 9 / 10 * clients / OPERATIONS,
            extent_bytes: 16_384 << dice.below(3),
            node: NodeConfig {
                ask_after: span(1_500),
                scrub_period: Some(span(20_000)),
                quarantine_for: span(30_000),
                staged_for: span(20_000),
                ..NodeConfig::default()
            },
            grace: span([0, 1_000, 4_000, 20_000][dice.below(4) as usize]),
            slots_per_disk: 1 + dice.below(2) as u32,
            repair_chain: dice.chance(1, 2),
            // In some cells a few fragments fill every budget, in others nobody notices that there are any.
            budget: if seed.is_multiple_of(3) { TIGHT } else { BudgetConfig::default() },
            is_lazy: seed % 5 < 2,
            degraded_creates: dice.chance(3, 4),
            rolls_back: mode == Mode::Safety && dice.chance(1, 8),
        }
    }

    /// Leaves out what is not wanted.
    pub fn limit(&mut self, limits: &Limits) {
        if let Some(operations) = limits.operations {
            self.operations = operations.max(1);
        }
        if let Some(nodes) = limits.nodes {
            self.nodes = nodes.clamp(self.code.n(), self.nodes);
            self.racks = self.racks.min(self.nodes);
        }
    }

    /// A span of the shortest of cells, as long as this one is.
    pub const fn span_ms(&self, ms: u64) -> u64 {
        ms * self.stretch
    }

    /// Silence after which a standby takes over.
    pub const fn lease_ttl_ms(&self) -> u64 {
        self.span_ms(700)
    }

    /// Settings of its coordinators.
    pub fn coordinator(&self) -> CoordinatorConfig {
        let span = |ms: u64| Millis(self.span_ms(ms));
        CoordinatorConfig {
            code: Some(self.code),
            fault_domain: Level::Rack,
            extent_bytes: self.extent_bytes,
            beat_every: span(500),
            suspect_after: span(1_600),
            grace: self.grace,
            flap_hold: Some(span(1_000)),
            slots_per_disk: self.slots_per_disk,
            repairs_max: 3,
            repair_chain: self.repair_chain,
            budget: self.budget,
            lazy_margins: if self.is_lazy { vec![(self.code, 1)] } else { Vec::new() },
            lazy_wait: span(5_000),
            put_resume: span(6_000),
            audit_one_in: 4,
            audit_period: span(20_000),
            audit_bytes_per_second: 2_000_000,
            lease: LeaseConfig { ttl: Millis(self.lease_ttl_ms()), exclusive: false, ..LeaseConfig::default() },
            pg: PgConfig {
                call_deadline: Millis(1_000),
                prepare_deadline: Millis(2_500),
                retry_after: Millis(300 * self.stretch / 2),
                digest_every: span(5_000),
                release_after: span(3_000),
                birth_code: None,
                id_block: 8,
                degraded_creates: self.degraded_creates,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_can_place_its_code_and_some_share_racks() {
        for (code, nodes, racks) in CELLS.into_iter().chain([WIDE]) {
            let spec: CodeSpec = code.parse().unwrap();
            assert!((4..=24).contains(&nodes) && racks <= nodes && spec.n() <= racks, "{code} {nodes} {racks}");
        }
        assert!(CELLS.iter().any(|(_, nodes, racks)| nodes > racks));
    }
}
