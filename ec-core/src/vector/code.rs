//! A vector code ready to use.

use super::error::VectorError;
use super::plan::{Piece, Program, VectorPlan, check_count, check_index, common_length, dense_plan, sub_chunk_bytes};
use super::{VectorShape, VectorSpec, hitchhiker, lrc16};
use crate::code::{Code, CodeSpec, PatternCount, counted, maximally_recoverable_counts, mds_counts, shard};
use crate::error::{CodeError, DecodeError};
use crate::kernel::{Kernel, Transform};
use crate::matrix::Matrix;
use crate::plan::Costs;
use crate::shard::{ShardIndex, ShardSet};
use std::fmt;
use std::ops::Range;

/// A vector code ready to encode and to plan. Cheap to share between threads; nothing in it changes.
///
/// ```
/// use ec_core::{ShardIndex, ShardSet, VectorCode};
///
/// let code = VectorCode::new(&"hitchhiker:10+4".parse()?)?;
/// let data: Vec<Vec<u8>> = (0..10).map(|shard| vec![shard; 1000]).collect();
/// let mut parity = vec![vec![0; 1000]; code.m()];
/// let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
/// code.encode(&slices, &mut parity.iter_mut().map(|shard| &mut shard[..]).collect::<Vec<_>>())?;
///
/// // Shard 1 is lost: 13 halves rebuild it where Reed-Solomon would read 10 whole shards.
/// let lost = ShardSet::from_iter([ShardIndex::new(1)]);
/// let plan = code.plan(&lost, &lost.complement(code.n()))?;
/// assert_eq!(plan.read_shards(), 6.5);
///
/// let all = [data.clone(), parity].concat();
/// let mut parts = Vec::new();
/// for read in plan.reads() {
///     let ranges = read.byte_ranges(1000)?;
///     let part: Vec<u8> = ranges.into_iter().flat_map(|range| all[read.shard().at()][range].to_vec()).collect();
///     parts.push((read.shard(), part));
/// }
/// let inputs: Vec<_> = parts.iter().map(|(index, part)| (*index, &part[..])).collect();
/// let mut rebuilt = vec![0; 1000];
/// plan.run(&inputs, &mut [(ShardIndex::new(1), &mut rebuilt)])?;
/// assert_eq!(rebuilt, data[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct VectorCode {
    spec: VectorSpec,
    kernel: Kernel,
    family: Family,
    encoder: Program,
}

#[derive(Clone, Debug)]
enum Family {
    /// With its generator.
    Hitchhiker(Matrix),
    /// With its generator and the data shards of each local group.
    Lrc(Matrix, Vec<Range<usize>>),
    #[cfg(feature = "clay")]
    Clay(std::sync::Arc<super::clay::Grid>),
}

impl VectorCode {
    /// Builds the code with the kernel chosen for this machine.
    ///
    /// # Errors
    /// [`CodeError::Params`] for `clay` without the feature `clay`, [`CodeError::Kernel`] where the kernel forced by `NINEFOLD_KERNEL`
    /// cannot run.
    pub fn new(spec: &VectorSpec) -> Result<Self, CodeError> {
        Self::with_kernel(spec, Kernel::selected()?)
    }

    /// Builds the code with a given kernel.
    ///
    /// # Errors
    /// As [`VectorCode::new`], but for the kernel.
    pub fn with_kernel(spec: &VectorSpec, kernel: Kernel) -> Result<Self, CodeError> {
        let k = spec.k();
        let (family, encoder) = match spec.shape() {
            VectorShape::Hitchhiker { m, .. } => {
                let parity = hitchhiker::parity_rows(&scalar_rows(&format!("rs:{k}+{m}"), kernel)?);
                (Family::Hitchhiker(generator(&parity)), Program::Dense(Transform::of_shards(kernel, &parity)))
            }
            VectorShape::Lrc { groups, globals, .. } => {
                let groups = lrc16::groups(k, groups.into());
                let parity = lrc16::parity_rows(k, &groups, globals.into());
                (Family::Lrc(generator(&parity), groups), Program::Dense(Transform::of_shards(kernel, &parity)))
            }
            #[cfg(feature = "clay")]
            VectorShape::Clay { m, .. } => {
                let shape = super::clay::Shape::new(k, m.into());
                let scalar = scalar_rows(&format!("rs:{}+{m}@cauchy", shape.scalar_data()), kernel)?;
                let grid = std::sync::Arc::new(super::clay::Grid::new(shape, &scalar, kernel));
                let data = ShardSet::first(k);
                let layers = grid.decode(&data, &data.complement(spec.n()));
                (Family::Clay(grid), Program::Layers(Box::new(layers)))
            }
            #[cfg(not(feature = "clay"))]
            VectorShape::Clay { .. } => {
                let reason = "this build of ec-core is without the feature clay".to_owned();
                return Err(CodeError::Params { spec: spec.to_string(), reason });
            }
        };
        Ok(Self { spec: *spec, kernel, family, encoder })
    }

    /// The specification it was built from.
    pub fn spec(&self) -> &VectorSpec {
        &self.spec
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        self.spec.k()
    }

    /// Shards in all.
    pub fn n(&self) -> usize {
        self.spec.n()
    }

    /// Parity shards.
    pub fn m(&self) -> usize {
        self.spec.m()
    }

    /// Sub-chunks of a shard.
    pub fn alpha(&self) -> usize {
        self.spec.alpha()
    }

    /// Shard lengths must be a multiple of this, in bytes: one byte for each sub-chunk.
    pub fn granularity(&self) -> usize {
        self.alpha()
    }

    /// The kernel that encodes.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The largest number of losses of which every pattern can be decoded.
    pub fn guaranteed_tolerance(&self) -> usize {
        match self.spec.shape() {
            VectorShape::Hitchhiker { .. } | VectorShape::Clay { .. } => self.m(),
            // The worst pattern takes all globals and two of one group.
            VectorShape::Lrc { globals, .. } => usize::from(globals) + 1,
        }
    }

    /// `n * alpha` rows of `k * alpha` coefficients: row `i * alpha + s` gives sub-chunk `s` of shard `i` from the sub-chunks of the
    /// data, in the same order. The definition of the code, to be checked by rank; `n * k * alpha^2` bytes, so for small codes.
    ///
    /// # Errors
    /// [`VectorError::Shards`] with [`DecodeError::Allocation`] where a Clay code has no memory to work in.
    pub fn generator(&self) -> Result<Matrix, VectorError> {
        match &self.family {
            Family::Hitchhiker(generator) | Family::Lrc(generator, _) => Ok(generator.clone()),
            #[cfg(feature = "clay")]
            Family::Clay(_) => self.generator_by_encoding(),
        }
    }

    /// Sub-chunks of as many bytes as there are data sub-chunks, each a unit vector: parity sub-chunks come out as rows.
    #[cfg(feature = "clay")]
    fn generator_by_encoding(&self) -> Result<Matrix, VectorError> {
        let width = self.k() * self.alpha();
        let unit = Matrix::identity(width);
        let mut parity = Matrix::zero(self.m() * self.alpha(), width);
        let rows: Vec<&[u8]> = unit.elements().chunks_exact(width).collect();
        let mut bytes = vec![0; parity.rows() * width];
        let mut targets: Vec<&mut [u8]> = bytes.chunks_exact_mut(width).collect();
        self.encoder.run(&rows, &mut targets)?;
        for (at, row) in bytes.chunks_exact(width).enumerate() {
            parity.row_mut(at).copy_from_slice(row);
        }
        Ok(generator(&parity))
    }

    /// Computes the parity shards from the data shards, in order. All buffers are equally long, a multiple of
    /// [`VectorCode::granularity`]; parity is overwritten.
    ///
    /// # Errors
    /// A [`VectorError`], with parity untouched.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), VectorError> {
        check_count(self.k(), data.len())?;
        check_count(self.m(), parity.len())?;
        let lengths = data.iter().map(|it| it.len()).chain(parity.iter().map(|it| it.len()));
        let shard_bytes = common_length(lengths.enumerate().map(|(at, len)| (shard(at), len)))?.unwrap_or(0);
        let sub_chunk_bytes = sub_chunk_bytes(shard_bytes, self.alpha())?;
        let sources: Vec<&[u8]> = data.iter().flat_map(|it| it.chunks_exact(sub_chunk_bytes)).collect();
        let mut targets: Vec<&mut [u8]> =
            parity.iter_mut().flat_map(|it| it.chunks_exact_mut(sub_chunk_bytes)).collect();
        Ok(self.encoder.run(&sources, &mut targets)?)
    }

    /// Whether everything can be decoded when the shards in `lost` are gone. Shards outside the code are ignored.
    ///
    /// By theorem: any `m` for Hitchhiker and Clay; for the LRC, erasures beyond one for each group and erased globals together
    /// at most the number of globals. The tests hold each against the rank of the generator.
    pub fn decodable(&self, lost: &ShardSet) -> bool {
        let lost = lost.intersection(&ShardSet::first(self.n()));
        match (&self.family, self.spec.shape()) {
            (Family::Lrc(_, groups), VectorShape::Lrc { globals, .. }) => {
                lrc16::excess(self.k(), groups, |at| lost.contains(shard(at))) <= usize::from(globals)
            }
            _ => lost.len() <= self.m(),
        }
    }

    /// How to rebuild `lost` from sub-chunks of shards among `available`. Shards in neither set are neither read nor rebuilt; one
    /// in both is rebuilt.
    ///
    /// One lost data shard of Hitchhiker reads `k + |S|` halves instead of `2 k`; one lost shard of Clay a part `1/m` of each other
    /// shard; losses in different groups of an LRC only their groups. All else reads `k` independent shards, data first.
    ///
    /// # Errors
    /// [`VectorError::Shards`] with [`DecodeError::NotDecodable`] or [`DecodeError::IndexOutOfRange`].
    pub fn plan(&self, lost: &ShardSet, available: &ShardSet) -> Result<VectorPlan, VectorError> {
        let shards = self.n();
        let all = ShardSet::first(shards);
        if let Some(index) = lost.union(available).difference(&all).iter().next() {
            return Err(DecodeError::IndexOutOfRange { index, shards }.into());
        }
        let usable = available.difference(lost);
        let plan = match &self.family {
            Family::Hitchhiker(generator) => {
                self.dense_plan(generator, lost, &usable, hitchhiker::cheap_reads(self.k(), self.m(), lost, &usable))
            }
            Family::Lrc(generator, groups) => {
                let local = lrc16::local_reads(self.k(), groups, lost, &usable);
                self.dense_plan(generator, lost, &usable, local.map(|shards| self.pieces(&shards)))
            }
            #[cfg(feature = "clay")]
            Family::Clay(grid) => grid.plan(lost, &usable).map(|(pieces, layers)| {
                VectorPlan::new(shards, self.alpha(), lost, &pieces, Program::Layers(Box::new(layers)))
            }),
        };
        plan.ok_or_else(|| self.not_decodable(&usable).into())
    }

    /// As [`VectorCode::plan`], at less cost where shards differ in it: the cheaper of the plan that reads parts of many shards and of
    /// the one that reads `k` cheapest independent shards (whole, or their groups), made cheaper by leaving out one shard after
    /// another as long as that helps. Costs are those of a sub-chunk. No plan without some one of the shards costs less; a set
    /// of parts that differs in more may.
    ///
    /// # Errors
    /// As [`VectorCode::plan`].
    pub fn plan_cheapest(
        &self,
        lost: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<VectorPlan, VectorError> {
        let by_parts = self.plan(lost, available)?;
        let shards = self.cheapest_basis(&available.difference(lost), costs);
        let mut best = match self.plan(lost, &shards) {
            Ok(plan) if plan.cost(costs) < by_parts.cost(costs) => plan,
            _ => by_parts,
        };
        let mut rest = *available;
        while let Some((without, plan)) = self.cheaper_without_one(lost, &rest, costs, &best) {
            (rest, best) = (without, plan);
        }
        Ok(best)
    }

    /// The first plan that costs less because one of the shards is left out, the dearest first; and what is left.
    fn cheaper_without_one(
        &self,
        lost: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
        best: &VectorPlan,
    ) -> Option<(ShardSet, VectorPlan)> {
        let mut usable: Vec<ShardIndex> = available.difference(lost).iter().collect();
        usable.sort_by_key(|&index| std::cmp::Reverse(costs.get(index)));
        usable.into_iter().find_map(|index| {
            let mut rest = *available;
            rest.remove(index);
            let plan = self.plan(lost, &rest).ok()?;
            (plan.cost(costs) < best.cost(costs)).then_some((rest, plan))
        })
    }

    /// The cheapest shards that determine as much as all of them: independence is a matroid, so the greedy choice is right.
    fn cheapest_basis(&self, usable: &ShardSet, costs: &Costs) -> ShardSet {
        let mut sorted: Vec<ShardIndex> = usable.iter().collect();
        sorted.sort_by_key(|&index| (costs.get(index), index));
        let generator = match &self.family {
            Family::Lrc(generator, _) => generator,
            _ => return sorted.into_iter().take(self.k()).collect(),
        };
        let mut chosen = ShardSet::EMPTY;
        for index in sorted {
            if chosen.len() < self.k() && self.adds_rank(generator, &chosen, index) {
                chosen.insert(index);
            }
        }
        chosen
    }

    /// By the cheap pieces where there are any, else by independent shards.
    fn dense_plan(
        &self,
        generator: &Matrix,
        lost: &ShardSet,
        usable: &ShardSet,
        cheap: Option<Vec<Piece>>,
    ) -> Option<VectorPlan> {
        let plan = |mut pieces: Vec<Piece>| {
            pieces.sort_unstable();
            dense_plan(generator, self.alpha(), self.kernel, lost, &pieces)
        };
        cheap.and_then(plan).or_else(|| plan(self.pieces(&self.independent(generator, usable))))
    }

    /// All sub-chunks of the shards.
    fn pieces(&self, shards: &ShardSet) -> Vec<Piece> {
        let of = |shard: ShardIndex| (0..self.alpha()).map(move |sub_chunk| Piece { shard: shard.at(), sub_chunk });
        shards.iter().flat_map(of).collect()
    }

    /// Shards whose rows add to the rank, the earliest first, until everything is determined.
    fn independent(&self, generator: &Matrix, usable: &ShardSet) -> ShardSet {
        let data = ShardSet::first(self.k());
        let mut chosen = usable.intersection(&data);
        for index in usable.difference(&data).iter() {
            if chosen.len() == self.k() {
                break;
            }
            // Any parity may do for an MDS code.
            let is_new = match self.family {
                Family::Hitchhiker(_) => true,
                _ => self.adds_rank(generator, &chosen, index),
            };
            if is_new {
                chosen.insert(index);
            }
        }
        chosen
    }

    fn adds_rank(&self, generator: &Matrix, chosen: &ShardSet, index: ShardIndex) -> bool {
        let mut with = *chosen;
        with.insert(index);
        let rows: Vec<usize> =
            with.iter().flat_map(|index| index.at() * self.alpha()..(index.at() + 1) * self.alpha()).collect();
        generator.select_rows(&rows).rank() == rows.len()
    }

    fn not_decodable(&self, usable: &ShardSet) -> DecodeError {
        let lost = usable.complement(self.n());
        let needed_more = match (&self.family, self.spec.shape()) {
            (Family::Lrc(_, groups), VectorShape::Lrc { globals, .. }) => {
                lrc16::excess(self.k(), groups, |at| lost.contains(shard(at))).saturating_sub(globals.into())
            }
            _ => self.k().saturating_sub(usable.len()),
        };
        DecodeError::NotDecodable {
            present: usable.len(),
            missing: lost.iter().map(ShardIndex::get).collect(),
            needed_more,
        }
    }

    /// Rebuilds the wanted shards from those present, whole ones. Pairs of position and buffer; all buffers equally long.
    ///
    /// # Errors
    /// A [`VectorError`], with every wanted buffer untouched.
    pub fn decode(
        &self,
        present: &[(ShardIndex, &[u8])],
        wanted: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), VectorError> {
        let mut given = ShardSet::EMPTY;
        for index in present.iter().map(|(index, _)| *index).chain(wanted.iter().map(|(index, _)| *index)) {
            check_index(index, self.n(), &mut given)?;
        }
        let lengths = present.iter().map(|(index, it)| (*index, it.len()));
        common_length(lengths.chain(wanted.iter().map(|(index, it)| (*index, it.len()))))?;
        let lost = wanted.iter().map(|(index, _)| *index).collect();
        self.plan(&lost, &given)?.run_whole(present, wanted)
    }

    /// How many of the patterns of `1..=n-k` erasures can be decoded.
    pub fn pattern_counts(&self) -> Vec<PatternCount> {
        let exact = match &self.family {
            Family::Lrc(_, groups) => {
                let members: Vec<usize> = groups.iter().map(|data| data.len() + 1).collect();
                maximally_recoverable_counts(self.n(), self.m(), &members)
            }
            _ => mds_counts(self.n(), self.m()),
        };
        counted(self.n(), self.m(), &exact, |lost| self.decodable(lost))
    }

    /// What is read to rebuild one lost shard, in shards, averaged over all `n`; `None` where a lone loss cannot be rebuilt.
    pub fn mean_repair_reads(&self) -> Option<f64> {
        let mut sub_chunks = 0;
        for index in ShardSet::first(self.n()).iter() {
            let lost = ShardSet::from_iter([index]);
            sub_chunks += self.plan(&lost, &lost.complement(self.n())).ok()?.read_sub_chunks();
        }
        Some(sub_chunks as f64 / (self.n() * self.alpha()) as f64)
    }
}

impl fmt::Display for VectorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} shards of {} sub-chunks", self.spec, self.k(), self.n(), self.alpha())
    }
}

/// The parity rows of a scalar code.
fn scalar_rows(spec: &str, kernel: Kernel) -> Result<Matrix, CodeError> {
    let spec: CodeSpec = spec.parse()?;
    let code = Code::with_kernel(&spec, kernel)?;
    Ok(Matrix::from_fn(code.m(), code.k(), |row, column| code.generator().get(code.k() + row, column)))
}

/// The identity above the parity rows.
fn generator(parity: &Matrix) -> Matrix {
    let data = parity.columns();
    Matrix::from_fn(data + parity.rows(), data, |row, column| match row.checked_sub(data) {
        None => u8::from(row == column),
        Some(row) => parity.get(row, column),
    })
}
