//! The catalog, and the ways in which its answers are not the truth.

use super::counts::Unknowns;
use super::lease::writes_lease;
use super::message::Shortened;
use super::mutation::Mutation;
use super::queue::Instant;
use super::world::{Event, World};
use repair_core::catalog::memory::MemoryCatalog;
use repair_core::catalog::{Found, Txn, TxnResult, Write, key};
use repair_core::coordinator::CoordinatorEvent;
use repair_core::pg::CallId;
use repair_core::rng::Dice;

/// What a daemon asks of the catalog.
#[derive(Clone, Debug)]
pub enum CatalogCall {
    /// Rows by key.
    Get(Vec<Vec<u8>>),
    /// Rows by prefix.
    Range {
        /// How keys begin.
        prefix: Vec<u8>,
        /// Only later keys.
        after: Option<Vec<u8>>,
        /// At most so many.
        limit: usize,
    },
    /// A transaction.
    Txn(Txn),
}

/// What is told of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Truth,
    Unknown,
    Refused,
}

/// Something the catalog does.
#[derive(Debug)]
pub enum CatalogStep {
    /// It does what was asked.
    Do {
        /// By which daemon.
        daemon: usize,
        /// Names it.
        op: CallId,
        /// What.
        call: CatalogCall,
        /// What is told of it; nothing where the answer came before.
        told: Option<CatalogTold>,
    },
    /// It answers.
    Tell {
        /// Which daemon.
        daemon: usize,
        /// What it hears.
        event: Box<CoordinatorEvent>,
    },
}

impl CatalogStep {
    /// The daemon that is told something.
    pub const fn hearer(&self) -> Option<usize> {
        match self {
            Self::Tell { daemon, .. } => Some(*daemon),
            Self::Do { .. } => None,
        }
    }
}

/// How an answer relates to the truth.
#[derive(Clone, Copy, Debug)]
pub struct CatalogTold(Told);

/// The catalog.
#[derive(Debug)]
pub struct CatalogHost {
    /// What it holds.
    pub rows: MemoryCatalog,
    /// Of a thousand calls so many end in the ways that a catalog may end in.
    pub moods_per_mille: u64,
    /// Until then nobody leads: nothing is answered, and what is asked may be done after that.
    pub leaderless_until: Instant,
    /// Until then transactions on the lease end in the ways that a transaction may end in.
    pub leases_fail_until: Instant,
    unknowns: Unknowns,
    dice: Dice,
}

impl CatalogHost {
    /// An empty catalog that works.
    pub fn new(dice: Dice) -> Self {
        Self {
            rows: MemoryCatalog::default(),
            moods_per_mille: 0,
            leaderless_until: Instant(0),
            leases_fail_until: Instant(0),
            unknowns: Unknowns::default(),
            dice,
        }
    }

    /// Whether it answers at once, and with the truth.
    pub fn is_calm(&self, now: Instant) -> bool {
        self.moods_per_mille == 0 && self.leaderless_until <= now && self.leases_fail_until <= now
    }
}

impl World {
    /// A daemon asks the catalog.
    pub fn ask_catalog(&mut self, daemon: usize, op: CallId, call: CatalogCall) {
        let now = self.queue.now();
        let host = &mut self.catalog;
        let (soon, mut later) = (200 + host.dice.below(1_500), 3_000 + host.dice.below(2_500_000));
        let mut moody = host.dice.below(1000) < host.moods_per_mille;
        let mut mood = host.dice.below(4);
        if now < host.leaderless_until {
            (moody, later) = (true, later + host.leaderless_until.0 - now.0);
            mood = if matches!(call, CatalogCall::Txn(_)) { [0, 3][host.dice.below(2) as usize] } else { 2 };
        }
        let is_txn = matches!(call, CatalogCall::Txn(_));
        let is_lease = matches!(&call, CatalogCall::Txn(txn) if writes_lease(txn));
        moody |= is_lease && now < host.leases_fail_until;
        if let CatalogCall::Txn(txn) = &call {
            self.trace.line(now, format_args!("daemon {daemon} txn {}:{}", op.0, Shortened(txn)));
        }
        let step = |told| Event::Catalog(Box::new(CatalogStep::Do { daemon, op, call: call.clone(), told }));
        let nothing = |event| Event::Catalog(Box::new(CatalogStep::Tell { daemon, event: Box::new(event) }));
        let unknown = CoordinatorEvent::Txn { op, result: TxnResult::Unknown };
        match (moody, is_txn, mood) {
            (false, ..) => self.queue.after(soon, step(Some(CatalogTold(Told::Truth)))),
            // Reads that fail, or are slow.
            (true, false, 0 | 1) => self.queue.after(later, step(Some(CatalogTold(Told::Truth)))),
            (true, false, _) => {
                let error = Err("no answer from the catalog".to_owned());
                let event = match call {
                    CatalogCall::Range { .. } => CoordinatorEvent::Range { op, rows: error.map(|(): ()| Vec::new()) },
                    _ => CoordinatorEvent::Rows { op, rows: error.map(|(): ()| Vec::new()) },
                };
                self.queue.after(later, nothing(event));
            }
            // Not applied, ever.
            (true, true, 0) => {
                self.trace.line(now, format_args!("txn {} will not be applied", op.0));
                self.untold(daemon, &call);
                let lie = self.mutation == Some(Mutation::SilenceIsYes);
                let event = if lie {
                    let revision = self.catalog.rows.get(b"cell").map_or(1, |row| row.revision) + 1_000_000;
                    CoordinatorEvent::Txn { op, result: TxnResult::Done { revision } }
                } else {
                    unknown
                };
                self.queue.after(soon, nothing(event));
            }
            // Applied, and nobody hears so.
            (true, true, 1) => self.queue.after(soon, step(Some(CatalogTold(Told::Unknown)))),
            // Applied by the first of two sendings; the second is refused.
            (true, true, 2) => self.queue.after(soon, step(Some(CatalogTold(Told::Refused)))),
            // Silence first, applied later.
            (true, true, _) => {
                self.trace.line(now, format_args!("txn {} will be applied later", op.0));
                self.untold(daemon, &call);
                self.queue.after(soon, nothing(unknown));
                self.queue.after(later, step(None));
            }
        }
    }

    fn untold(&mut self, daemon: usize, call: &CatalogCall) {
        if let CatalogCall::Txn(txn) = call {
            self.catalog.unknowns.begin(daemon, txn);
        }
    }

    /// The catalog does something.
    pub fn catalog_step(&mut self, step: CatalogStep) {
        match step {
            CatalogStep::Tell { daemon, event } => self.coordinator(daemon, *event),
            CatalogStep::Do { daemon, op, call, told } => {
                let rows = &self.catalog.rows;
                let event = match call {
                    CatalogCall::Get(keys) => {
                        let mut found: Vec<Option<Found>> = keys.iter().map(|key| rows.get(key)).collect();
                        if self.mutation == Some(Mutation::LeaseSeemsRenewed) {
                            self.leases.reads += 1;
                            let lease = found.iter_mut().flatten().filter(|found| found.key == key::lease());
                            lease.for_each(|found| found.revision += self.leases.reads << 32);
                        }
                        CoordinatorEvent::Rows { op, rows: Ok(found) }
                    }
                    CatalogCall::Range { prefix, after, limit } => {
                        CoordinatorEvent::Range { op, rows: Ok(rows.range(&prefix, after.as_deref(), limit)) }
                    }
                    CatalogCall::Txn(txn) => {
                        let is_told = matches!(told, Some(CatalogTold(Told::Truth)));
                        let forgets = self.mutation == Some(Mutation::RenewalForgotten) && self.renews(daemon, &txn);
                        let result = if forgets {
                            TxnResult::Done {
                                revision: self.catalog.rows.get(&key::lease()).map_or(0, |row| row.revision),
                            }
                        } else {
                            self.apply(daemon, op, txn, is_told)
                        };
                        let result = match told {
                            Some(CatalogTold(Told::Unknown)) => TxnResult::Unknown,
                            Some(CatalogTold(Told::Refused)) => TxnResult::Refused,
                            _ => result,
                        };
                        CoordinatorEvent::Txn { op, result }
                    }
                };
                if told.is_some() {
                    let delay = 100 + self.catalog.dice.below(800);
                    let tell = CatalogStep::Tell { daemon, event: Box::new(event) };
                    self.queue.after(delay, Event::Catalog(Box::new(tell)));
                }
            }
        }
    }

    /// Whether a transaction renews the lease of the daemon that has it.
    fn renews(&self, daemon: usize, txn: &Txn) -> bool {
        writes_lease(txn) && self.holder() == Some(daemon)
    }

    fn apply(&mut self, daemon: usize, op: CallId, mut txn: Txn, is_told: bool) -> TxnResult {
        let seen = txn.clone();
        match self.mutation {
            Some(Mutation::CompareForgotten) => txn.compares.clear(),
            Some(Mutation::DeleteForgotten) => txn.writes.retain(|write| !matches!(write, Write::Delete { .. })),
            _ => (),
        }
        let result = self.catalog.rows.apply(&txn);
        let now: Instant = self.queue.now();
        self.trace.line(now, format_args!("txn {}: {result:?}", op.0));
        if matches!(result, TxnResult::Done { .. }) {
            let unknowns = &mut self.catalog.unknowns;
            if is_told {
                unknowns.end(daemon, &seen).into_iter().for_each(|path| self.counts.path(path));
            } else {
                unknowns.applied(daemon, &seen);
            }
            self.lease_written(&seen);
            match self.oracle.applied(&seen) {
                Ok(rows) => rows.iter().for_each(|written| self.check_row(written)),
                Err(violation) => self.judge(Err(violation)),
            }
        }
        result
    }
}
