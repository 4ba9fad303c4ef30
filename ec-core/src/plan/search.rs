//! The cheapest shards whose span contains the wanted ones, from the generator alone.
//!
//! The cheapest basis of what may be read (a matroid, so greedy is right) expresses everything else: one relation for each
//! wanted shard, `wanted = sum over the basis`, and one for each readable shard outside the basis, which sums to zero and so may
//! be added to any wanted relation with any factor. A set suffices exactly when some such sums have their whole support in it.
//! Finding the lightest support is decoding a linear code of length `n` (hard in general, small here): a depth-first search
//! that takes the dearest open shard and either makes its column zero (one free relation fewer) or pays for it.
//!
//! Every zero set is met once: where a column that was paid for turns zero, the branch repeats one that was searched before.

use super::cost::{Costs, Weight};
use crate::gf;
use crate::kernel::Kernel;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};

/// Shards the exact search takes: a set of them is a word, a relation a register.
pub(super) const EXACT_SHARDS_MAX: usize = 32;

/// What is looked for.
pub(super) struct Problem<'a> {
    pub(super) generator: &'a Matrix,
    pub(super) kernel: Kernel,
    pub(super) wanted: &'a ShardSet,
    /// What may be read. Of what is wanted, reading it is one way to have it.
    pub(super) usable: &'a ShardSet,
    pub(super) costs: &'a Costs,
    /// Branches after which the search gives what it has.
    pub(super) branches_max: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) reads: ShardSet,
    pub(super) weight: Weight,
    /// No sufficient set weighs less.
    pub(super) bound: Weight,
    /// Branches taken.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) branches: u64,
}

impl Problem<'_> {
    /// Greedy and one-step improvements, as for codes too wide to search.
    #[cfg(test)]
    pub(super) fn solve_lightly(&self) -> Option<Found> {
        let relations = Relations::new(self)?;
        let greedy = relations.greedy(self);
        Some(relations.descend(greedy))
    }

    /// The lightest sufficient set where at most [`EXACT_SHARDS_MAX`] shards may be read and the branches last, else a light
    /// one; `None` where all that may be read does not suffice.
    pub(super) fn solve(&self) -> Option<Found> {
        let relations = Relations::new(self)?;
        let greedy = relations.greedy(self);
        if relations.order.len() > EXACT_SHARDS_MAX {
            return Some(relations.descend(greedy));
        }
        let Some(rows) = Rows::new(&relations) else { return Some(relations.descend(greedy)) };
        let mut search = Search::new(self.kernel, &relations, self.branches_max);
        search.visit(&rows, 0);
        let reads = relations.set(|position| search.best >> position & 1 == 1);
        let bound = if search.cut { greedy.bound } else { search.best_weight };
        Some(Found { reads, weight: search.best_weight, bound, branches: search.branches })
    }
}

/// The relations of one problem. Columns are the readable shards from the dearest to the cheapest.
struct Relations {
    order: Vec<ShardIndex>,
    weights: Vec<Weight>,
    /// One for each wanted shard: it is this sum.
    wanted: Vec<Vec<u8>>,
    /// One for each readable shard outside the cheapest basis: this sum is zero.
    free: Vec<Vec<u8>>,
    kernel: Kernel,
}

impl Relations {
    fn new(problem: &Problem<'_>) -> Option<Self> {
        let mut order: Vec<ShardIndex> = problem.usable.iter().collect();
        // Of equally dear ones the later counts as dearer: data shards cost no arithmetic.
        order.sort_by_key(|&index| std::cmp::Reverse((problem.costs.weight(index), index)));
        let weights = order.iter().map(|&index| problem.costs.weight(index)).collect();
        let k = problem.generator.columns();
        let width = k + order.len();
        // Rows [elements over the data | sum over the columns]; the first part of a row of the basis has its pivot at 1.
        let mut basis: Vec<(usize, Vec<u8>)> = Vec::with_capacity(k);
        let reduce = |basis: &[(usize, Vec<u8>)], index: ShardIndex, column: Option<usize>| {
            let mut row = vec![0; width];
            row[..k].copy_from_slice(problem.generator.row(index.at()));
            if let Some(column) = column {
                row[k + column] = 1;
            }
            for (pivot, earlier) in basis {
                let factor = row[*pivot];
                if factor != 0 {
                    problem.kernel.add_scaled(&mut row, earlier, factor);
                }
            }
            row
        };
        let mut free = Vec::new();
        for (column, &index) in order.iter().enumerate().rev() {
            let mut row = reduce(&basis, index, Some(column));
            let pivot = row[..k].iter().position(|&value| value != 0);
            match pivot.and_then(|pivot| Some((pivot, gf::inverse(row[pivot])?))) {
                None => free.push(row.split_off(k)),
                Some((pivot, scale)) => {
                    gf::scale(&mut row, scale);
                    basis.push((pivot, row));
                }
            }
        }
        let mut wanted = Vec::with_capacity(problem.wanted.len());
        for index in problem.wanted.iter() {
            let mut row = reduce(&basis, index, None);
            if row[..k].iter().any(|&value| value != 0) {
                return None;
            }
            wanted.push(row.split_off(k));
        }
        Some(Self { order, weights, wanted, free, kernel: problem.kernel })
    }

    fn set(&self, holds: impl Fn(usize) -> bool) -> ShardSet {
        (0..self.order.len()).filter(|&column| holds(column)).map(|column| self.order[column]).collect()
    }

    /// What the cheapest basis needs for the wanted shards, and what no set can be below.
    ///
    /// Let x be the dearest shard read. All cheaper ones lie in the span of the cheaper part of the basis, and the wanted
    /// shards do not (their sums over the basis are unique, and x is in one), so every sufficient set has a shard as dear as
    /// x. It also has as many shards as the wanted ones have rank. Hence greedy costs at most its own number of reads, so at
    /// most `k`, times the cheapest.
    fn greedy(&self, problem: &Problem<'_>) -> Found {
        let is_read = |column: usize| self.wanted.iter().any(|row| row[column] != 0);
        let weight = (0..self.order.len()).filter(|&column| is_read(column)).map(|column| self.weights[column]).sum();
        let dearest = (0..self.order.len()).find(|&column| is_read(column)).map_or(0, |column| self.weights[column]);
        let rows: Vec<usize> = problem.wanted.iter().map(ShardIndex::at).collect();
        let rank = problem.generator.select_rows(&rows).rank();
        let others = self.weights.iter().rev().take(rank.saturating_sub(1)).sum::<Weight>();
        Found { reads: self.set(is_read), weight, bound: dearest + others, branches: 0 }
    }

    /// Adds one free relation at a time while the support gets lighter. Never heavier than greedy, so its bound holds.
    fn descend(mut self, greedy: Found) -> Found {
        let mut best = greedy;
        loop {
            let before = best.weight;
            for free in 0..self.free.len() {
                for column in 0..self.order.len() {
                    // To be rid of a shard that is read.
                    let divisor = gf::inverse(self.free[free][column]);
                    let Some(divisor) = divisor.filter(|_| self.wanted.iter().any(|row| row[column] != 0)) else {
                        continue;
                    };
                    let mut next = self.wanted.clone();
                    for row in &mut next {
                        let factor = gf::mul(row[column], divisor);
                        self.kernel.add_scaled(row, &self.free[free], factor);
                    }
                    let is_read = |column: usize| next.iter().any(|row| row[column] != 0);
                    let weight = (0..self.order.len()).filter(|&c| is_read(c)).map(|c| self.weights[c]).sum();
                    if weight < best.weight {
                        best = Found { reads: self.set(is_read), weight, ..best };
                        self.wanted = next;
                    }
                }
            }
            if best.weight == before {
                return best;
            }
        }
    }
}

/// Wanted relations, then free ones.
#[derive(Clone)]
struct Rows {
    bytes: [[u8; EXACT_SHARDS_MAX]; EXACT_SHARDS_MAX],
    wanted: usize,
    free: usize,
}

impl Rows {
    /// `None` where there are more than fit, as when many fragments of a small rank are wanted.
    fn new(relations: &Relations) -> Option<Self> {
        let (wanted, free) = (relations.wanted.len(), relations.free.len());
        let mut bytes = [[0; EXACT_SHARDS_MAX]; EXACT_SHARDS_MAX];
        if wanted + free > EXACT_SHARDS_MAX {
            return None;
        }
        for (row, relation) in bytes.iter_mut().zip(relations.wanted.iter().chain(&relations.free)) {
            row[..relation.len()].copy_from_slice(relation);
        }
        Some(Self { bytes, wanted, free })
    }

    /// The columns that are not zero in some of these rows.
    fn support(rows: &[[u8; EXACT_SHARDS_MAX]]) -> u32 {
        let mut sum = [0u8; EXACT_SHARDS_MAX];
        for row in rows {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum |= value);
        }
        sum.iter().enumerate().fold(0, |mask, (column, &value)| mask | u32::from(value != 0) << column)
    }

    /// With the column zero, at the price of one free relation that is not zero there.
    fn without(&self, column: usize, kernel: Kernel) -> Option<Self> {
        let all = self.wanted + self.free;
        let pivot = (self.wanted..all).find(|&row| self.bytes[row][column] != 0)?;
        let scale = gf::inverse(self.bytes[pivot][column])?;
        let mut bytes = [[0; EXACT_SHARDS_MAX]; EXACT_SHARDS_MAX];
        for (kept, row) in (0..all).filter(|&row| row != pivot).enumerate() {
            bytes[kept] = self.bytes[row];
            let factor = gf::mul(bytes[kept][column], scale);
            if factor != 0 {
                kernel.add_scaled(&mut bytes[kept], &self.bytes[pivot], factor);
            }
        }
        Some(Self { bytes, wanted: self.wanted, free: self.free - 1 })
    }
}

struct Search<'a> {
    kernel: Kernel,
    weights: &'a [Weight],
    best: u32,
    best_weight: Weight,
    branches: u64,
    branches_max: u64,
    cut: bool,
}

impl<'a> Search<'a> {
    fn new(kernel: Kernel, relations: &'a Relations, branches_max: u64) -> Self {
        let best_weight = Weight::MAX;
        Self { kernel, weights: &relations.weights, best: 0, best_weight, branches: 0, branches_max, cut: false }
    }

    fn weight(&self, mut set: u32) -> Weight {
        let mut weight = 0;
        while set != 0 {
            weight += self.weights[set.trailing_zeros() as usize];
            set &= set - 1;
        }
        weight
    }

    fn offer(&mut self, set: u32, weight: Weight) {
        if weight < self.best_weight {
            (self.best, self.best_weight) = (set, weight);
        }
    }

    /// Every choice below `rows` in which the columns `paid` are read.
    fn visit(&mut self, rows: &Rows, mut paid: u32) {
        let of_wanted = Rows::support(&rows.bytes[..rows.wanted]);
        let of_free = Rows::support(&rows.bytes[rows.wanted..][..rows.free]);
        if paid & !(of_wanted | of_free) != 0 {
            return;
        }
        paid |= of_wanted & !of_free;
        let mut paid_weight = self.weight(paid);
        if paid_weight >= self.best_weight {
            return;
        }
        self.offer(of_wanted, self.weight(of_wanted));
        if rows.free == 1 && rows.wanted == 1 {
            return self.last_of_one(rows, of_wanted | of_free, of_free);
        }
        let mut open = of_free & !paid;
        while open != 0 && paid_weight < self.best_weight {
            if self.branches >= self.branches_max {
                self.cut = true;
                return;
            }
            self.branches += 1;
            let column = open.trailing_zeros();
            open &= open - 1;
            if let Some(rows) = rows.without(column as usize, self.kernel) {
                self.visit(&rows, paid);
            }
            paid |= 1 << column;
            paid_weight += self.weights[column as usize];
        }
    }

    /// One wanted relation and one free one: each factor makes the columns of one quotient zero, so the heaviest class goes.
    fn last_of_one(&mut self, rows: &Rows, support: u32, of_free: u32) {
        const NONE: u8 = 0xFF;
        let mut class_of = [NONE; 256];
        let mut classes = [(0u32, 0 as Weight); EXACT_SHARDS_MAX];
        let mut found = 0;
        let mut left = of_free;
        while left != 0 {
            let column = left.trailing_zeros() as usize;
            left &= left - 1;
            let quotient = gf::mul(rows.bytes[0][column], gf::inverse(rows.bytes[1][column]).unwrap_or(0));
            let class = &mut class_of[usize::from(quotient)];
            if *class == NONE {
                *class = found;
                found += 1;
            }
            let (mask, weight) = &mut classes[usize::from(*class)];
            *mask |= 1 << column;
            *weight += self.weights[column];
        }
        let all = self.weight(support);
        for (mask, weight) in classes[..usize::from(found)].iter().copied() {
            self.offer(support & !mask, all - weight);
        }
    }
}
