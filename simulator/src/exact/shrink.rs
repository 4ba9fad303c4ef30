//! A smaller run that breaks the same: fewer operations, fewer faults, fewer nodes. What is left out is left out by number, so that the
//! rest stays what it was as far as it does not depend on it.

use super::run::{Limits, Options, Run, run};
use repair_core::invariant::Invariant;
use std::collections::BTreeSet;

/// Runs that are tried.
const TRIES_MAX: u64 = 300;

struct Search {
    seed: u64,
    broken: Invariant,
    tries: u64,
    options: Options,
    run: Run,
}

impl Search {
    /// Keeps the limits if what they leave breaks the same.
    fn attempt(&mut self, limits: Limits) -> bool {
        if self.tries == TRIES_MAX {
            return false;
        }
        self.tries += 1;
        let options = Options { limits, ..self.options.clone() };
        let run = run(self.seed, &options);
        let breaks = run.violation.as_ref().is_some_and(|violation| violation.invariant == self.broken);
        if breaks {
            (self.options, self.run) = (options, run);
        }
        breaks
    }

    fn limits(&self) -> Limits {
        self.options.limits.clone()
    }

    fn fewer_operations(&mut self) {
        let mut least = 0;
        let mut most = self.run.operations.max(1);
        while most - least > (most / 10).max(1) {
            let operations = least + (most - least) / 2;
            if self.attempt(Limits { operations: Some(operations), ..self.limits() }) {
                most = operations;
            } else {
                least = operations;
            }
        }
    }

    /// Leaves out parts, of half the size each time.
    fn fewer_faults(&mut self) {
        let mut part = self.run.struck.len();
        while part > 0 {
            let mut at = 0;
            while at < self.run.struck.len() {
                let struck = self.run.struck.clone();
                let left: BTreeSet<u64> = struck
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| !(at..at + part).contains(i))
                    .map(|(_, fault)| *fault)
                    .collect();
                let before = self.run.struck.len();
                let fewer = left.len() < before && self.attempt(Limits { only_faults: Some(left), ..self.limits() });
                if !fewer || self.run.struck.len() >= before {
                    at += part;
                }
            }
            part /= 2;
        }
    }

    fn fewer_nodes(&mut self) {
        while self.attempt(Limits { nodes: Some(self.run.nodes - 1), ..self.limits() }) {
            if self.options.limits.nodes != Some(self.run.nodes) {
                return;
            }
        }
    }
}

/// The smallest run found that breaks the same as this seed, how it is had, and how many were tried. None where the seed breaks nothing.
pub fn shrink(seed: u64, options: &Options) -> Option<(Options, Run, u64)> {
    let whole = run(seed, options);
    let broken = whole.violation.as_ref()?.invariant;
    // The mode is drawn once: it must not change with what is left out.
    let options = Options { mode: Some(whole.mode), ..options.clone() };
    let mut search = Search { seed, broken, tries: 0, options, run: whole };
    let struck: BTreeSet<u64> = search.run.struck.iter().copied().collect();
    search.attempt(Limits { only_faults: Some(struck), ..search.limits() });
    search.fewer_operations();
    search.fewer_faults();
    search.fewer_nodes();
    search.fewer_operations();
    Some((search.options, search.run, search.tries))
}
