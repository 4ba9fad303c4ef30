//! Clay codes (Vajha et al., FAST 2018) with all `n - 1` other shards helping a rebuild: `d = n - 1`, `q = m`.
//!
//! The nodes are a grid of `q` columns and `t` rows: the data, then zero nodes that fill the grid, then the parities, which are the
//! last row; node `i` is at column `i mod q` of row `i / q`. A layer is a sub-chunk, numbered by `t` digits of base `q`, the digit of
//! row 0 first. What is stored, `C`, is coupled in pairs from uncoupled values `U`: node `(x, y)` in layer `z` is alone where `z_y =
//! x`, with `C = U`; else its partner is node `(z_y, y)` in layer `z(y -> x)`, and `C = U + 2 U*`, `C* = U* + 2 U`. In each layer the `U` of
//! all nodes are a word of one scalar code (Cauchy Reed-Solomon).

use super::plan::Piece;
use crate::buffer::AlignedBuffer;
use crate::error::DecodeError;
use crate::gf;
use crate::kernel::{Kernel, Locality, Transform};
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};
use std::ops::Range;
use std::sync::Arc;

/// The factor of the coupling. Any but 0 and 1 will do.
const GAMMA: u8 = 2;

/// Memory for the uncoupled values of a stripe, by cutting sub-chunks into parts: a second-level cache.
const WORK_BYTES: usize = 1 << 20;

/// The least such part: a step of the widest kernel.
const PART_BYTES_MIN: usize = 64;

/// Where nodes and layers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    k: usize,
    q: usize,
    rows: usize,
    alpha: usize,
}

impl Shape {
    pub(super) fn new(k: usize, m: usize) -> Self {
        let rows = (k + m).div_ceil(m);
        Self { k, q: m, rows, alpha: (0..rows).fold(1, |alpha, _| alpha * m) }
    }

    /// Data shards of the scalar code.
    pub(super) fn scalar_data(&self) -> usize {
        self.nodes() - self.q
    }

    fn nodes(&self) -> usize {
        self.q * self.rows
    }

    /// Zero nodes, which stand behind the data.
    fn zeros(&self) -> Range<usize> {
        self.k..self.nodes() - self.q
    }

    fn node(&self, shard: usize) -> usize {
        if shard < self.k { shard } else { shard + self.zeros().len() }
    }

    /// What one step of the digit of row `y` adds to the number of a layer.
    fn weight(&self, y: usize) -> usize {
        (y + 1..self.rows).fold(1, |weight, _| weight * self.q)
    }

    fn digit(&self, layer: usize, y: usize) -> usize {
        layer / self.weight(y) % self.q
    }

    /// The node and layer that the node is coupled with; itself where it is alone.
    fn partner(&self, node: usize, layer: usize) -> (usize, usize) {
        let (x, y) = (node % self.q, node / self.q);
        let digit = self.digit(layer, y);
        (y * self.q + digit, layer + x * self.weight(y) - digit * self.weight(y))
    }
}

/// The grid with its scalar code and the transforms of a pair.
#[derive(Debug)]
pub(super) struct Grid {
    shape: Shape,
    /// `nodes` rows, the first of them the identity.
    scalar: Matrix,
    kernel: Kernel,
    /// `U` and `U*` from `C` and `C*`.
    uncouple: Transform,
    /// `C + 2 U*`: either value of a node from the other one and its partner's `U`.
    add_partner: Transform,
    /// `C*` from `C` and `U` of the partner.
    through_partner: Transform,
}

impl Grid {
    /// With the parity rows of a scalar code of [`Shape::scalar_data`] data shards and `m` parities.
    pub(super) fn new(shape: Shape, parity: &Matrix, kernel: Kernel) -> Self {
        let data = shape.scalar_data();
        let scalar = Matrix::from_fn(shape.nodes(), data, |row, column| match row.checked_sub(data) {
            None => u8::from(row == column),
            Some(row) => parity.get(row, column),
        });
        // Neither is 0 for this factor.
        let reciprocal = |value| gf::inverse(value).unwrap_or(0);
        let (one, by_gamma) = (reciprocal(1 ^ gf::mul(GAMMA, GAMMA)), reciprocal(GAMMA));
        let pair = Matrix::from_fn(2, 2, |row, column| if row == column { one } else { gf::mul(GAMMA, one) });
        let row =
            |elements: [u8; 2]| Transform::of_shards(kernel, &Matrix::from_fn(1, 2, |_, column| elements[column]));
        Self {
            shape,
            scalar,
            kernel,
            uncouple: Transform::of_shards(kernel, &pair),
            add_partner: row([1, GAMMA]),
            // C = U + 2 U* gives U* = (C + U) / 2, and C* = U* + 2 U.
            through_partner: row([by_gamma, by_gamma ^ GAMMA]),
        }
    }

    /// What to read and how to rebuild; `None` where fewer than `k` are at hand.
    pub(super) fn plan(self: &Arc<Self>, lost: &ShardSet, usable: &ShardSet) -> Option<(Vec<Piece>, Layers)> {
        let n = self.shape.k + self.shape.q;
        let layers = match lost.iter().next() {
            Some(only) if lost.len() == 1 && usable.len() == n - 1 => self.repair(only),
            None => self.decode(lost, &ShardSet::EMPTY),
            Some(_) if usable.len() < self.shape.k => return None,
            Some(_) => self.decode(&usable.iter().take(self.shape.k).collect(), lost),
        };
        Some((layers.pieces(), layers))
    }

    /// From `k` whole shards.
    pub(super) fn decode(self: &Arc<Self>, reads: &ShardSet, wanted: &ShardSet) -> Layers {
        let shape = self.shape;
        let is_read = |node: usize| shape.zeros().contains(&node) || reads.iter().any(|it| shape.node(it.at()) == node);
        let unknown: Vec<usize> = (0..shape.nodes()).filter(|&node| !is_read(node)).collect();
        // The number of unknown nodes that are alone in the layer: each other one of a known node is coupled with a layer
        // where it is one less.
        let score = |layer: usize| unknown.iter().filter(|&&node| shape.partner(node, layer).0 == node).count();
        let mut order: Vec<usize> = (0..shape.alpha).collect();
        order.sort_by_cached_key(|&layer| score(layer));
        Layers::new(self, reads, wanted, unknown, (0..shape.alpha).collect(), order)
    }

    /// One shard from a part `1/q` of all others: the layers in which it is alone.
    fn repair(self: &Arc<Self>, lost: ShardIndex) -> Layers {
        let shape = self.shape;
        let node = shape.node(lost.at());
        let wanted = ShardSet::from_iter([lost]);
        let layers: Vec<usize> = (0..shape.alpha).filter(|&layer| shape.partner(node, layer).0 == node).collect();
        // The others of its row are coupled with layers that are not read, so they are unknown too: as many as the scalar
        // code can lose.
        let row = node / shape.q * shape.q;
        let order = (0..layers.len()).collect();
        Layers::new(self, &wanted.complement(shape.k + shape.q), &wanted, (row..row + shape.q).collect(), layers, order)
    }
}

/// A rebuild layer by layer.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    grid: Arc<Grid>,
    reads: ShardSet,
    wanted: Vec<usize>,
    /// Nodes whose uncoupled values come from the scalar code, and the others.
    unknown: Vec<usize>,
    known: Vec<usize>,
    is_unknown: Vec<bool>,
    /// The first source of each node that is read.
    first_source: Vec<Option<usize>>,
    /// The layers that are read, rising; and the places among them in the order of work.
    layers: Vec<usize>,
    order: Vec<usize>,
    /// Unknown values from the known ones.
    scalar: Transform,
}

/// Bytes a step reads.
#[derive(Clone, Copy)]
enum Operand {
    Source(usize),
    Work(usize),
    Zero,
}

impl Layers {
    fn new(
        grid: &Arc<Grid>,
        reads: &ShardSet,
        wanted: &ShardSet,
        unknown: Vec<usize>,
        layers: Vec<usize>,
        order: Vec<usize>,
    ) -> Self {
        let shape = grid.shape;
        let mut is_unknown = vec![false; shape.nodes()];
        unknown.iter().for_each(|&node| is_unknown[node] = true);
        let known: Vec<usize> = (0..shape.nodes()).filter(|&node| !is_unknown[node]).collect();
        // As many are known as the scalar code has data shards, and it is MDS; with no losses nothing is computed.
        let coefficients = grid.scalar.select_rows(&known).express(&grid.scalar.select_rows(&unknown));
        let coefficients = coefficients.unwrap_or_else(|| Matrix::zero(unknown.len(), known.len()));
        let mut first_source = vec![None; shape.nodes()];
        for (at, index) in reads.iter().enumerate() {
            first_source[shape.node(index.at())] = Some(at * layers.len());
        }
        Self {
            grid: Arc::clone(grid),
            reads: *reads,
            wanted: wanted.iter().map(|index| shape.node(index.at())).collect(),
            unknown,
            known,
            is_unknown,
            first_source,
            layers,
            order,
            scalar: Transform::of_shards(grid.kernel, &coefficients),
        }
    }

    fn pieces(&self) -> Vec<Piece> {
        let of = |index: ShardIndex| self.layers.iter().map(move |&sub_chunk| Piece { shard: index.at(), sub_chunk });
        self.reads.iter().flat_map(of).collect()
    }

    /// Sources: the layers that are read of each shard that is; outputs: all sub-chunks of each wanted one.
    pub(super) fn run(&self, sources: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        let len = outputs.first().map_or(0, |output| output.len());
        if len == 0 {
            return Ok(());
        }
        let slots = self.layers.len() * self.grid.shape.nodes();
        let part =
            (WORK_BYTES / slots / PART_BYTES_MIN * PART_BYTES_MIN).clamp(PART_BYTES_MIN, len.max(PART_BYTES_MIN));
        let mut memory = AlignedBuffer::zeroed(slots * part)?;
        let mut places = vec![0; self.grid.shape.alpha];
        self.layers.iter().enumerate().for_each(|(place, &layer)| places[layer] = place);
        let zeros = vec![0; part];
        for start in (0..len).step_by(part) {
            let range = start..len.min(start + part);
            let work = memory.chunks_exact_mut(part).map(|slot| &mut slot[..range.len()]).collect();
            let zeros = &zeros[..range.len()];
            let mut run = Run { layers: self, places: &places, sources, range: range.clone(), zeros, work };
            run.uncouple_known_pairs()?;
            run.complete_layers()?;
            for (at, &node) in self.wanted.iter().enumerate() {
                let outputs = &mut outputs[at * self.grid.shape.alpha..][..self.grid.shape.alpha];
                for (layer, output) in outputs.iter_mut().enumerate() {
                    run.couple(node, layer, &mut output[range.clone()])?;
                }
            }
        }
        Ok(())
    }
}

/// One part of all sub-chunks.
struct Run<'a> {
    layers: &'a Layers,
    /// Where each layer is among those that are read.
    places: &'a [usize],
    sources: &'a [&'a [u8]],
    range: Range<usize>,
    zeros: &'a [u8],
    /// Uncoupled values of each node in each layer that is read. Those of nodes that are alone stay in the sources.
    work: Vec<&'a mut [u8]>,
}

impl Run<'_> {
    /// The stored value of a known node, or of one that is read though not known.
    fn stored(&self, node: usize, layer: usize) -> Operand {
        match self.layers.first_source[node] {
            Some(first) => Operand::Source(first + self.places[layer]),
            None => Operand::Zero,
        }
    }

    fn slot(&self, node: usize, layer: usize) -> usize {
        self.places[layer] * self.layers.grid.shape.nodes() + node
    }

    fn uncoupled(&self, node: usize, layer: usize) -> Operand {
        let is_alone = self.layers.grid.shape.partner(node, layer) == (node, layer);
        if is_alone && !self.layers.is_unknown[node] {
            self.stored(node, layer)
        } else {
            Operand::Work(self.slot(node, layer))
        }
    }

    /// Both of each pair of known nodes.
    fn uncouple_known_pairs(&mut self) -> Result<(), DecodeError> {
        let Layers { grid, layers, known, is_unknown, .. } = self.layers;
        for &layer in layers {
            for &node in known {
                let (other, other_layer) = grid.shape.partner(node, layer);
                if node < other && !is_unknown[other] {
                    let pair = [self.stored(node, layer), self.stored(other, other_layer)];
                    let slots = [self.slot(node, layer), self.slot(other, other_layer)];
                    self.step(&grid.uncouple, &pair, &slots)?;
                }
            }
        }
        Ok(())
    }

    /// Layer by layer: known nodes coupled with unknown ones of an earlier layer, then the unknown ones.
    fn complete_layers(&mut self) -> Result<(), DecodeError> {
        let Layers { grid, layers, order, known, unknown, is_unknown, scalar, .. } = self.layers;
        for &place in order {
            let layer = layers[place];
            for &node in known {
                let (other, other_layer) = grid.shape.partner(node, layer);
                if is_unknown[other] {
                    let pair = [self.stored(node, layer), self.uncoupled(other, other_layer)];
                    let slot = self.slot(node, layer);
                    self.step(&grid.add_partner, &pair, &[slot])?;
                }
            }
            let values: Vec<Operand> = known.iter().map(|&node| self.uncoupled(node, layer)).collect();
            let slots: Vec<usize> = unknown.iter().map(|&node| self.slot(node, layer)).collect();
            self.step(scalar, &values, &slots)?;
        }
        Ok(())
    }

    /// What the wanted node stores.
    fn couple(&mut self, node: usize, layer: usize, output: &mut [u8]) -> Result<(), DecodeError> {
        let Layers { grid, layers, .. } = self.layers;
        let (other, other_layer) = grid.shape.partner(node, layer);
        let (transform, pair) = if (other, other_layer) == (node, layer) {
            output.copy_from_slice(self.bytes(self.uncoupled(node, layer)));
            return Ok(());
        } else if layers[self.places[layer]] == layer {
            (&grid.add_partner, [self.uncoupled(node, layer), self.uncoupled(other, other_layer)])
        } else {
            // A layer that a repair does not read: the partner's is read.
            (&grid.through_partner, [self.stored(other, other_layer), self.uncoupled(other, other_layer)])
        };
        transform.apply_with(&pair.map(|operand| self.bytes(operand)), &mut [output], Locality::Cached)
    }

    fn bytes(&self, operand: Operand) -> &[u8] {
        match operand {
            Operand::Source(at) => &self.sources[at][self.range.clone()],
            Operand::Work(slot) => self.work[slot],
            Operand::Zero => self.zeros,
        }
    }

    /// The slots written are none of those read.
    fn step(&mut self, transform: &Transform, inputs: &[Operand], slots: &[usize]) -> Result<(), DecodeError> {
        let mut outputs: Vec<&mut [u8]> = slots.iter().map(|&slot| std::mem::take(&mut self.work[slot])).collect();
        let sources: Vec<&[u8]> = inputs.iter().map(|&operand| self.bytes(operand)).collect();
        let done = transform.apply_with(&sources, &mut outputs, Locality::Cached);
        for (&slot, output) in slots.iter().zip(outputs) {
            self.work[slot] = output;
        }
        done
    }
}
