//! A wide code ready to use.

use super::plan::WidePlan;
use super::points::Points;
use super::workspace::{WideWorkspace, emptied, in_blocks, taken};
use super::{WideSpec, library};
use crate::error::{CodeError, DecodeError};
use crate::kernel::Kernel;
use crate::kernel::gf16::{Additive, Gf16Kernel};
use crate::shard::ShardIndex;
use std::fmt;
use std::sync::Arc;

/// A code of up to 65,536 shards, ready to encode and to plan. Any `k` of its shards give all others. Cheap to clone and to
/// share between threads; nothing in it changes.
///
/// Its parity is that of reed-solomon-simd 3, byte for byte: Leopard-RS over GF(2^16). A shard is any even number of bytes.
///
/// ```
/// use ec_core::{ShardIndex, WideCode};
///
/// let code = WideCode::new(&"wide:1000+200".parse()?)?;
/// let data: Vec<Vec<u8>> = (0..1000u32).map(|shard| vec![(shard % 251) as u8; 130]).collect();
/// let mut parity = vec![vec![0; 130]; code.m()];
/// let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
/// code.encode(&slices, &mut parity.iter_mut().map(|shard| &mut shard[..]).collect::<Vec<_>>())?;
///
/// // Data shard 7 and parity shard 1001 are lost. The plan reads 1000 of the others and writes these two alone.
/// let lost = [ShardIndex::new(7), ShardIndex::new(1001)];
/// let others: Vec<ShardIndex> = (0..1200).map(ShardIndex::new).filter(|index| !lost.contains(index)).collect();
/// let plan = code.plan(&lost, &others)?;
/// assert_eq!(plan.reads().len(), 1000);
///
/// let all = [data.clone(), parity.clone()].concat();
/// let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect();
/// let (mut seventh, mut second_parity) = ([0; 130], [0; 130]);
/// plan.run(&inputs, &mut [(lost[0], &mut seventh), (lost[1], &mut second_parity)])?;
/// assert_eq!((&seventh[..], &second_parity[..]), (&data[7][..], &parity[1][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WideCode {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) spec: WideSpec,
    pub(super) points: Points,
    pub(super) kernel: Gf16Kernel,
    pub(super) encoder: Additive,
}

impl WideCode {
    /// Builds the code with the kernel chosen for this machine.
    ///
    /// # Errors
    /// [`CodeError::Kernel`] where the kernel forced by `NINEFOLD_KERNEL` cannot run or fails its test.
    pub fn new(spec: &WideSpec) -> Result<Self, CodeError> {
        Self::with_kernel(spec, Kernel::selected()?)
    }

    /// Builds the code with a given kernel. Those without GFNI leave encoding to reed-solomon-simd.
    ///
    /// # Errors
    /// [`CodeError::Kernel`] where it fails its test.
    pub fn with_kernel(spec: &WideSpec, kernel: Kernel) -> Result<Self, CodeError> {
        let kernel = Gf16Kernel::of(kernel)?;
        let points = Points::new(spec);
        let encoder = Additive::new(kernel, points.size, (spec.k(), points.data_base), (spec.m(), points.parity_base));
        Ok(Self { inner: Arc::new(Inner { spec: *spec, points, kernel, encoder }) })
    }

    /// The specification it was built from.
    pub fn spec(&self) -> &WideSpec {
        &self.inner.spec
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        self.inner.spec.k()
    }

    /// Parity shards.
    pub fn m(&self) -> usize {
        self.inner.spec.m()
    }

    /// Shards in all.
    pub fn n(&self) -> usize {
        self.inner.spec.n()
    }

    /// Shard lengths must be a multiple of this: 2, the bytes of an element.
    pub fn granularity(&self) -> usize {
        super::GRANULARITY_BYTES
    }

    /// The name of the kernel that computes: `avx512-gfni`, `avx2-gfni`, or `portable`, which leaves encoding to
    /// reed-solomon-simd.
    pub fn kernel_name(&self) -> &'static str {
        self.inner.kernel.name()
    }

    /// What data shard `data` is multiplied by in parity shard `parity`, as an element of [`crate::gf16`]; `None` where there is no
    /// such shard. Both count from 0.
    pub fn coefficient(&self, parity: usize, data: usize) -> Option<u16> {
        (parity < self.m() && data < self.k()).then(|| self.inner.points.coefficient(parity, data))
    }

    /// Computes the parity shards from the data shards, in order, with memory of its own. As [`WideCode::encode_with`].
    ///
    /// # Errors
    /// As [`WideCode::encode_with`].
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        self.encode_with(&mut WideWorkspace::new(), data, parity)
    }

    /// Computes the parity shards from the data shards, in order. All buffers are equally long, an even number of bytes; parity is
    /// overwritten.
    ///
    /// # Errors
    /// [`DecodeError::WrongCount`], [`DecodeError::LengthMismatch`], [`DecodeError::Granularity`] or
    /// [`DecodeError::Allocation`], with parity untouched.
    pub fn encode_with(
        &self,
        workspace: &mut WideWorkspace,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
    ) -> Result<(), DecodeError> {
        let Inner { spec, encoder, kernel, .. } = &*self.inner;
        for (expected, found) in [(spec.k(), data.len()), (spec.m(), parity.len())] {
            if expected != found {
                return Err(DecodeError::WrongCount { expected, found });
            }
        }
        let lengths = data.iter().map(|shard| shard.len()).chain(parity.iter().map(|shard| shard.len()));
        let len = super::common_length(lengths.enumerate().map(|(at, len)| (super::shard(at), len)))?;
        if kernel.is_portable() {
            return library::encode(spec, len, data, parity);
        }
        let (scratch, lists) = workspace.take(encoder.scratch_bytes())?;
        let mut sources: Vec<Option<&[u8]>> = taken(&mut lists.sources);
        sources.extend(data.iter().map(|shard| Some(*shard)));
        in_blocks(len, encoder.tile_bytes(), &sources, parity, &mut lists.tail, |data, parity, range| {
            let at = range.start;
            encoder.run(data, range, parity, at, scratch);
        });
        lists.sources = emptied(sources);
        Ok(())
    }

    /// Whether everything can be decoded when the shards in `lost` are gone. Shards outside the code are ignored.
    pub fn decodable(&self, lost: &[ShardIndex]) -> bool {
        let mut is_lost = vec![false; self.n()];
        for index in lost {
            if let Some(lost) = is_lost.get_mut(index.at()) {
                *lost = true;
            }
        }
        is_lost.into_iter().filter(|lost| *lost).count() <= self.m()
    }

    /// How to rebuild `lost`, and nothing else, from `k` of the shards in `available`. Shards in neither are neither read nor
    /// rebuilt; one in both is rebuilt.
    ///
    /// # Errors
    /// [`DecodeError::TooFewShards`], [`DecodeError::IndexOutOfRange`].
    pub fn plan(&self, lost: &[ShardIndex], available: &[ShardIndex]) -> Result<WidePlan, DecodeError> {
        WidePlan::new(self, lost, available)
    }

    /// Rebuilds the wanted shards from those present. Pairs of position and buffer; all buffers equally long.
    ///
    /// # Errors
    /// A [`DecodeError`], with every wanted buffer untouched.
    pub fn decode(
        &self,
        present: &[(ShardIndex, &[u8])],
        wanted: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        let lost = wanted.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        let available = present.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        let mut seen = vec![false; self.n()];
        for &index in lost.iter().chain(&available) {
            // The plan refuses positions outside the code.
            if seen.get_mut(index.at()).is_some_and(|seen| std::mem::replace(seen, true)) {
                return Err(DecodeError::Duplicate { index });
            }
        }
        self.plan(&lost, &available)?.run(present, wanted)
    }
}

impl fmt::Debug for WideCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WideCode({}, {})", self.inner.spec, self.kernel_name())
    }
}
