//! What kind of cell a seed runs: small extents and short spans, so that much happens in little time.

use ec_core::{Code, CodeSpec};
use repair_core::coordinator::CoordinatorConfig;
use repair_core::node::NodeConfig;
use repair_core::pg::PgConfig;
use repair_core::rng::Dice;
use repair_core::time::Millis;
use repair_core::topology::Level;

/// A kind of cell.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The code of its groups.
    pub code: CodeSpec,
    /// Losses it survives whichever they are.
    pub tolerance: usize,
    /// Its nodes, each in a rack of its own.
    pub nodes: usize,
    /// Its clients.
    pub clients: usize,
    /// Operations of all clients.
    pub operations: u64,
    /// Faults that strike at least.
    pub faults: u64,
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
}

const CELLS: [(&str, usize); 8] = [
    ("rs:4+2", 8),
    ("rs:4+2", 8),
    ("rs:4+2", 8),
    ("replicate:3", 6),
    ("rs:4+2", 9),
    ("rs:4+2", 8),
    ("lrc:6,2,2", 12),
    ("rs:4+2", 7),
];

impl Profile {
    /// The cell of a seed.
    ///
    /// # Panics
    /// Never: the codes above are codes.
    pub fn of(seed: u64, dice: &mut Dice) -> Self {
        let (code, nodes) = CELLS[(seed % CELLS.len() as u64) as usize];
        let spec: CodeSpec = code.parse().expect("a spec of the table");
        let tolerance = Code::new(&spec).expect("a code of the table").guaranteed_tolerance();
        Self {
            code: spec,
            tolerance,
            nodes,
            clients: 3,
            operations: 102,
            faults: 22,
            extent_bytes: 16_384 << dice.below(3),
            node: NodeConfig { ask_after: Millis(1_500), scrub_period: Some(Millis(20_000)), ..NodeConfig::default() },
            grace: Millis([0, 1_000, 4_000, 20_000][dice.below(4) as usize]),
            slots_per_disk: 1 + dice.below(3) as u32,
            repair_chain: dice.chance(1, 2),
        }
    }

    /// Settings of its coordinators.
    pub fn coordinator(&self) -> CoordinatorConfig {
        CoordinatorConfig {
            code: Some(self.code),
            fault_domain: Level::Rack,
            extent_bytes: self.extent_bytes,
            beat_every: Millis(500),
            suspect_after: Millis(1_600),
            grace: self.grace,
            flap_hold: Some(Millis(1_000)),
            slots_per_disk: self.slots_per_disk,
            repairs_max: 3,
            repair_chain: self.repair_chain,
            put_resume: Millis(6_000),
            audit_one_in: 2,
            audit_period: Millis(10_000),
            audit_bytes_per_second: 2_000_000,
            pg: PgConfig {
                call_deadline: Millis(1_000),
                prepare_deadline: Millis(2_500),
                retry_after: Millis(300),
                digest_every: Millis(5_000),
                id_block: 8,
                degraded_creates: true,
            },
        }
    }
}
