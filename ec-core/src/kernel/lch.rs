//! Parities of the native Reed-Solomon matrix by an additive FFT (Lin, Chung and Han 2014), in the basis 1, 2, 4, ...
//!
//! The data is cut into blocks of `M` inputs, `M` a power of two. The values of a block, at the points `M*b + i`, are
//! turned into coefficients by an inverse transform; the coefficients of all blocks are added; one transform gives their
//! values at the points 0..M: the parities. That is the matrix of `code::rs::lch`, at log2(M)/2 products per input
//! instead of `m`.
//!
//! Up to 8 points the transform is done in registers, a vector of every input at once. Above, it is done on tiles of a few
//! hundred bytes per row, in passes of 4 or 8 rows that fit into registers, with the rows between the passes in the
//! first-level cache.

use super::dense::prefetch;
use super::lanes::Lanes;
use super::vector::{Access, First, Streaming, Vector, Whole};
use crate::gf;
use std::mem::MaybeUninit;

/// The most points a transform has.
pub(super) const ORDER_MAX: usize = 128;

/// Bytes of a row in a tile: two tiles of 32 rows fill 32 KiB, and most first-level caches have 32 or 48.
const TILE_BYTES: usize = 512;

/// Bytes of the scratch rows: `ORDER_MAX` rows of a half tile, or fewer rows of a whole one.
const SCRATCH_BYTES: usize = ORDER_MAX * TILE_BYTES / 2;

/// A transform prepared for one family.
#[derive(Clone, Debug)]
pub(super) struct Lch<F> {
    /// Points of the transform: a power of two from 2 to [`ORDER_MAX`].
    pub(super) order: usize,
    /// Inputs.
    pub(super) data: usize,
    /// Factors block by block and then of the last transform, `order - 1` each.
    factors: Vec<F>,
}

/// Rows that a pass takes into registers at once, from the neighbouring rows to the distant ones.
fn radices(order: usize) -> &'static [usize] {
    match order {
        2 => &[2],
        4 => &[4],
        8 => &[8],
        16 => &[4, 4],
        32 => &[8, 4],
        64 => &[8, 8],
        128 => &[8, 4, 4],
        _ => unreachable!("a transform has 2 to {ORDER_MAX} points, a power of two, not {order}"),
    }
}

/// Whether a transform of so many points is done on tiles, where inputs may be missing, and is one of ours at all.
pub(super) fn is_tiled(order: usize) -> bool {
    (16..=ORDER_MAX).contains(&order)
}

/// Value at `point` of the subspace polynomial of {0..2^layer}, divided by its value at `2^layer`.
fn skew(layer: usize, point: u8) -> u8 {
    let subspace = |point: u8| (0..1usize << layer).fold(1, |product, v| gf::mul(product, point ^ low_byte(v)));
    gf::inverse(subspace(1 << layer)).map_or(0, |unit| gf::mul(subspace(point), unit))
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

impl<F> Lch<F> {
    /// For `data` inputs; `order` is the power of two from the number of parities on, and the points fit into the field.
    pub(super) fn new(order: usize, data: usize, factor: impl Fn(u8) -> F) -> Self {
        assert!(data + order <= 256, "{data} inputs and {order} points are more than the field has");
        let blocks = (0..data.div_ceil(order)).map(|block| order * (block + 1));
        let factors = blocks.chain([0]).flat_map(|offset| skews(order, offset)).map(factor).collect();
        Self { order, data, factors }
    }

    /// The factors of one block, or after the last block those of the last transform.
    #[inline(always)]
    fn block(&self, block: usize) -> &[F] {
        &self.factors[block * (self.order - 1)..][..self.order - 1]
    }
}

/// Skews of a transform whose points begin at `offset`, in the order in which the passes need them.
fn skews(order: usize, offset: usize) -> Vec<u8> {
    let mut skews = Vec::with_capacity(order - 1);
    let mut distance = 1;
    for &radix in radices(order) {
        for group in (0..order).step_by(distance * radix) {
            let mut span = 2 * distance;
            while span <= distance * radix {
                for start in (group..group + distance * radix).step_by(span) {
                    let layer = (span / 2).ilog2() as usize;
                    skews.push(skew(layer, low_byte(offset + start)));
                }
                span *= 2;
            }
        }
        distance *= radix;
    }
    skews
}

/// Values to coefficients, in place; inputs from `N` on are zeros.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn inverse<V: Vector, const R: usize, const N: usize>(x: &mut [V; R], factors: &[V::Multiplier; R]) {
    let (mut distance, mut factor) = (1, 0);
    while distance < R {
        let mut start = 0;
        while start < R {
            let mut i = start;
            while i < start + distance {
                // SAFETY: the caller's promise.
                unsafe { inverse_butterfly(x, i, distance, factors[factor], N > start, N > start + distance) };
                i += 1;
            }
            factor += 1;
            start += 2 * distance;
        }
        distance *= 2;
    }
}

/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn inverse_butterfly<V: Vector, const R: usize>(
    x: &mut [V; R],
    i: usize,
    distance: usize,
    factor: V::Multiplier,
    low_is_there: bool,
    high_is_there: bool,
) {
    if low_is_there {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = if high_is_there { x[i].xor(x[i + distance]) } else { x[i] };
            x[i] = x[i].xor(sum.times(factor));
            x[i + distance] = sum;
        }
    }
}

/// Coefficients to values, in place. `ORIGIN`: the points begin at 0, where the first factor of every layer is 0.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn forward<V: Vector, const R: usize, const ORIGIN: bool>(x: &mut [V; R], factors: &[V::Multiplier; R]) {
    let mut distance = R / 2;
    while distance > 0 {
        // Layers lie in rising order of their distance; those before this one have R/2, R/4, ... factors.
        let mut factor = R - R / distance;
        let mut start = 0;
        while start < R {
            let mut i = start;
            while i < start + distance {
                // SAFETY: the caller's promise.
                unsafe {
                    if !ORIGIN || start > 0 {
                        x[i] = x[i].xor(x[i + distance].times(factors[factor]));
                    }
                    x[i + distance] = x[i + distance].xor(x[i]);
                }
                i += 1;
            }
            factor += 1;
            start += 2 * distance;
        }
        distance /= 2;
    }
}

/// The first `R - 1` of the factors, in registers.
///
/// # Safety
/// As for [`Vector`], and so many factors are there.
#[inline(always)]
unsafe fn multipliers<V: Vector, const R: usize>(factors: &[V::Factor]) -> [V::Multiplier; R] {
    debug_assert!(factors.len() >= R - 1, "{} factors for {R} rows", factors.len());
    // SAFETY: the caller's promise. The last place is never used; it repeats another so as to hold something.
    unsafe {
        let mut multipliers = [V::multiplier(factors.get_unchecked(0)); R];
        let mut at = 1;
        while at < R - 1 {
            multipliers[at] = V::multiplier(factors.get_unchecked(at));
            at += 1;
        }
        multipliers
    }
}

/// The transform of 2, 4 or 8 points in registers, `U` vectors a step.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn registers<V: Vector, const M: usize, const U: usize>(lch: &Lch<V::Factor>, lanes: &Lanes<'_>) {
    assert!(
        lch.order == M && lanes.sources().len() == lch.data && (1..=M).contains(&lanes.targets().len()),
        "lanes of another transform"
    );
    let mut at = 0;
    // SAFETY: the caller's promise on the features. Each step stays within `lanes.len`, which every pointer is good for.
    unsafe {
        let head = lanes.streaming_head(V::BYTES);
        if let Some(head) = head {
            if head > 0 {
                step::<V, _, M, 1>(lch, lanes, 0, First(head));
                at = head;
            }
            while lanes.len - at >= U * V::BYTES {
                step::<V, _, M, U>(lch, lanes, at, Streaming);
                at += U * V::BYTES;
            }
            if lanes.traffic.fences {
                V::fence();
            }
        }
        while lanes.len - at >= U * V::BYTES {
            step::<V, _, M, U>(lch, lanes, at, Whole);
            at += U * V::BYTES;
        }
        while at < lanes.len {
            let bytes = V::BYTES.min(lanes.len - at);
            step::<V, _, M, 1>(lch, lanes, at, First(bytes));
            at += bytes;
        }
    }
}

/// # Safety
/// As for [`Vector`]; `U` vectors, or as many bytes as `access` takes, from `at` on are within the lanes.
#[inline(always)]
unsafe fn step<V: Vector, A: Access<V>, const M: usize, const U: usize>(
    lch: &Lch<V::Factor>,
    lanes: &Lanes<'_>,
    at: usize,
    access: A,
) {
    // SAFETY: the caller's promise for every pointer of `lanes`.
    unsafe {
        let mut sums = [[V::zero(); M]; U];
        let targets = lanes.targets();
        let (blocks, rest) = lanes.sources().as_chunks::<M>();
        let mut factors = lch.factors.as_slice();
        for block in blocks {
            if lanes.traffic.prefetches {
                block.iter().for_each(|&source| prefetch::<V, U>(source, at, lanes.ahead_bytes));
            }
            add_block::<V, A, M, U, M>(&mut sums, block, factors, at, access);
            factors = factors.get_unchecked(M - 1..);
        }
        if !rest.is_empty() {
            if lanes.traffic.prefetches {
                rest.iter().for_each(|&source| prefetch::<V, U>(source, at, lanes.ahead_bytes));
            }
            match (M, rest.len()) {
                (2.., 1) => add_block::<V, A, M, U, 1>(&mut sums, rest, factors, at, access),
                (3.., 2) => add_block::<V, A, M, U, 2>(&mut sums, rest, factors, at, access),
                (4.., 3) => add_block::<V, A, M, U, 3>(&mut sums, rest, factors, at, access),
                (5.., 4) => add_block::<V, A, M, U, 4>(&mut sums, rest, factors, at, access),
                (6.., 5) => add_block::<V, A, M, U, 5>(&mut sums, rest, factors, at, access),
                (7.., 6) => add_block::<V, A, M, U, 6>(&mut sums, rest, factors, at, access),
                _ => add_block::<V, A, M, U, 7>(&mut sums, rest, factors, at, access),
            }
            factors = factors.get_unchecked(M - 1..);
        }
        let factors = multipliers::<V, M>(factors);
        for (u, sums) in sums.iter_mut().enumerate() {
            forward::<V, M, true>(sums, &factors);
            // A loop over the targets would index the sums at run time, and keep them in memory for that.
            let mut row = 0;
            while row < M {
                if row < targets.len() {
                    access.store(sums[row], targets.get_unchecked(row).add(at + u * V::BYTES));
                }
                row += 1;
            }
        }
    }
}

/// Adds the coefficients of a block of which `N` inputs are there.
///
/// # Safety
/// As for [`step`].
#[inline(always)]
unsafe fn add_block<V: Vector, A: Access<V>, const M: usize, const U: usize, const N: usize>(
    sums: &mut [[V; M]; U],
    sources: &[*const u8],
    factors: &[V::Factor],
    at: usize,
    access: A,
) {
    if N > M {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let factors = multipliers::<V, M>(factors);
        for (u, sums) in sums.iter_mut().enumerate() {
            let mut x = [V::zero(); M];
            let mut i = 0;
            while i < N {
                x[i] = access.load(sources.get_unchecked(i).add(at + u * V::BYTES));
                i += 1;
            }
            inverse_add::<V, M, N>(&mut x, sums, &factors);
        }
    }
}

/// Values to coefficients, added to `sums`: the last layer writes straight into them.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn inverse_add<V: Vector, const R: usize, const N: usize>(
    x: &mut [V; R],
    sums: &mut [V; R],
    factors: &[V::Multiplier; R],
) {
    let (mut distance, mut factor) = (1, 0);
    while 2 * distance < R {
        let mut start = 0;
        while start < R {
            let mut i = start;
            while i < start + distance {
                // SAFETY: the caller's promise.
                unsafe { inverse_butterfly(x, i, distance, factors[factor], N > start, N > start + distance) };
                i += 1;
            }
            factor += 1;
            start += 2 * distance;
        }
        distance *= 2;
    }
    let mut i = 0;
    while i < R / 2 {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = if N > R / 2 { x[i].xor(x[i + R / 2]) } else { x[i] };
            sums[i] = sums[i].xor3(x[i], sum.times(factors[R - 2]));
            sums[i + R / 2] = sums[i + R / 2].xor(sum);
        }
        i += 1;
    }
}

/// Rows of scratch, uninitialised: a pass writes each before another reads it.
#[repr(align(64))]
struct Scratch(MaybeUninit<[u8; SCRATCH_BYTES]>);

/// Read in place of inputs that are zeros.
#[repr(align(64))]
struct Zeros([u8; TILE_BYTES]);

static ZEROS: Zeros = Zeros([0; TILE_BYTES]);

/// The transform of 16 to 128 points on tiles.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn tiled<V: Vector>(lch: &Lch<V::Factor>, lanes: &Lanes<'_>) {
    assert!(
        is_tiled(lch.order) && lanes.sources().len() == lch.data && (1..=lch.order).contains(&lanes.targets().len()),
        "lanes of another transform"
    );
    let row_bytes = TILE_BYTES.min(SCRATCH_BYTES / lch.order);
    let (mut work, mut sums) = (Scratch(MaybeUninit::uninit()), Scratch(MaybeUninit::uninit()));
    let tile = Tile { work: work.0.as_mut_ptr().cast(), sums: sums.0.as_mut_ptr().cast(), row_bytes, order: lch.order };
    // SAFETY: the caller's promise on the features. A tile ends within `lanes.len`, and its rows are within the scratch.
    unsafe {
        let head = lanes.streaming_head(V::BYTES);
        let mut at = 0;
        if let Some(head @ 1..) = head {
            tile.transform::<V>(lch, lanes, 0, head, false);
            at = head;
        }
        while at < lanes.len {
            let bytes = row_bytes.min(lanes.len - at);
            tile.transform::<V>(lch, lanes, at, bytes, head.is_some());
            at += bytes;
        }
        if head.is_some() && lanes.traffic.fences {
            V::fence();
        }
    }
}

#[derive(Clone, Copy)]
struct Tile {
    work: *mut u8,
    sums: *mut u8,
    row_bytes: usize,
    order: usize,
}

impl Tile {
    /// # Safety
    /// `row` is below `order`.
    #[inline(always)]
    unsafe fn rows<const R: usize>(&self, from: *mut u8, first: usize, distance: usize) -> [*mut u8; R] {
        debug_assert!(first + (R - 1) * distance < self.order, "row of another tile");
        let mut rows = [from; R];
        let mut at = 0;
        while at < R {
            // SAFETY: `order` rows of `row_bytes` bytes are within the scratch.
            rows[at] = unsafe { from.add((first + at * distance) * self.row_bytes) };
            at += 1;
        }
        rows
    }

    /// All blocks of one tile, and the last transform into the targets.
    ///
    /// # Safety
    /// As for [`Vector`]; `bytes` from `at` on are within the lanes and at most a row.
    #[inline(always)]
    unsafe fn transform<V: Vector>(
        &self,
        lch: &Lch<V::Factor>,
        lanes: &Lanes<'_>,
        at: usize,
        bytes: usize,
        streams: bool,
    ) {
        let order = self.order;
        let radices = radices(order);
        let blocks = lch.data.div_ceil(order);
        // SAFETY: the caller's promise.
        unsafe {
            for block in 0..blocks {
                let sources = lanes.sources().get_unchecked(block * order..lch.data.min((block + 1) * order));
                let ahead = if block + 1 < blocks { (block + 1, at) } else { (0, at + bytes) };
                let ahead_sources = lanes.sources().get_unchecked(ahead.0 * order..lch.data.min((ahead.0 + 1) * order));
                let mut factors = lch.block(block);
                let mut distance = 1;
                for (pass, &radix) in radices.iter().enumerate() {
                    let last = pass + 1 == radices.len();
                    for group in 0..order / radix {
                        let first = group % distance + group / distance * distance * radix;
                        let own = &factors[group / distance * (radix - 1)..][..radix - 1];
                        if pass == 0 {
                            let ahead = (ahead_sources, ahead.1);
                            match radix {
                                4 => self.first_pass::<V, 4>(sources, ahead, first, at, bytes, own),
                                _ => self.first_pass::<V, 8>(sources, ahead, first, at, bytes, own),
                            }
                        } else if last {
                            match radix {
                                4 => self.adding_pass::<V, 4>(first, distance, bytes, own, block == 0),
                                _ => self.adding_pass::<V, 8>(first, distance, bytes, own, block == 0),
                            }
                        } else {
                            self.middle_pass::<V, 4>(first, distance, bytes, own);
                        }
                    }
                    factors = &factors[order / distance / radix * (radix - 1)..];
                    distance *= radix;
                }
            }
            self.last_transform::<V>(lch, lanes, at, bytes, streams);
        }
    }

    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn last_transform<V: Vector>(
        &self,
        lch: &Lch<V::Factor>,
        lanes: &Lanes<'_>,
        at: usize,
        bytes: usize,
        streams: bool,
    ) {
        let order = self.order;
        let mut end = order - 1;
        let mut distance = order;
        let factors = lch.block(lch.data.div_ceil(order));
        // SAFETY: the caller's promise.
        unsafe {
            for (pass, &radix) in radices(order).iter().enumerate().rev() {
                distance /= radix;
                let begin = end - order / distance / radix * (radix - 1);
                for group in 0..order / radix {
                    let first = group % distance + group / distance * distance * radix;
                    let own = &factors[begin..end][group / distance * (radix - 1)..][..radix - 1];
                    if pass > 0 {
                        match radix {
                            4 => self.forward_pass::<V, 4>(first, distance, bytes, own),
                            _ => self.forward_pass::<V, 8>(first, distance, bytes, own),
                        }
                    } else if first < lanes.targets().len() {
                        match radix {
                            4 => self.last_pass::<V, 4>(lanes, first, at, bytes, own, streams),
                            _ => self.last_pass::<V, 8>(lanes, first, at, bytes, own, streams),
                        }
                    }
                }
                end = begin;
            }
        }
    }

    /// First pass of a block: `R` neighbouring inputs to scratch rows.
    ///
    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn first_pass<V: Vector, const R: usize>(
        &self,
        sources: &[*const u8],
        ahead: (&[*const u8], usize),
        first: usize,
        at: usize,
        bytes: usize,
        factors: &[V::Factor],
    ) {
        // SAFETY: the caller's promise; the inputs that are not there are read from `ZEROS`, which is a whole row.
        unsafe {
            let to = self.rows::<R>(self.work, first, 1);
            let mut from = [ZEROS.0.as_ptr(); R];
            let mut next = from;
            let mut there = false;
            for i in 0..R {
                if let Some(&source) = sources.get(first + i)
                    && !source.is_null()
                {
                    from[i] = source.add(at);
                    there = true;
                }
                if let Some(&source) = ahead.0.get(first + i)
                    && !source.is_null()
                {
                    next[i] = source.wrapping_add(ahead.1);
                }
            }
            let mut offset = 0;
            if !there {
                while offset < bytes {
                    to.iter().for_each(|to| V::zero().store(to.add(offset)));
                    offset += V::BYTES;
                }
                return;
            }
            let factors = multipliers::<V, R>(factors);
            while offset < bytes {
                let mut x = [V::zero(); R];
                for i in 0..R {
                    V::prefetch(next[i].wrapping_add(offset));
                    x[i] = if bytes - offset >= V::BYTES {
                        V::load(from[i].add(offset))
                    } else {
                        V::load_first(from[i].add(offset), bytes - offset)
                    };
                }
                inverse::<V, R, R>(&mut x, &factors);
                for i in 0..R {
                    x[i].store(to[i].add(offset));
                }
                offset += V::BYTES;
            }
        }
    }

    /// A pass between the first and the last of a block, in place.
    ///
    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn middle_pass<V: Vector, const R: usize>(
        &self,
        first: usize,
        distance: usize,
        bytes: usize,
        factors: &[V::Factor],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.rows::<R>(self.work, first, distance);
            let factors = multipliers::<V, R>(factors);
            let mut offset = 0;
            while offset < bytes {
                let mut x = load_rows::<V, R>(&rows, offset);
                inverse::<V, R, R>(&mut x, &factors);
                store_rows(x, &rows, offset);
                offset += V::BYTES;
            }
        }
    }

    /// Last pass of a block: adds to the sums, or begins them.
    ///
    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn adding_pass<V: Vector, const R: usize>(
        &self,
        first: usize,
        distance: usize,
        bytes: usize,
        factors: &[V::Factor],
        begins: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.rows::<R>(self.work, first, distance);
            let to = self.rows::<R>(self.sums, first, distance);
            let factors = multipliers::<V, R>(factors);
            let mut offset = 0;
            if begins {
                while offset < bytes {
                    let mut x = load_rows::<V, R>(&rows, offset);
                    inverse::<V, R, R>(&mut x, &factors);
                    store_rows(x, &to, offset);
                    offset += V::BYTES;
                }
            } else {
                while offset < bytes {
                    let mut x = load_rows::<V, R>(&rows, offset);
                    let mut sums = load_rows::<V, R>(&to, offset);
                    inverse_add::<V, R, R>(&mut x, &mut sums, &factors);
                    store_rows(sums, &to, offset);
                    offset += V::BYTES;
                }
            }
        }
    }

    /// A pass of the last transform that is not its last one, in place.
    ///
    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn forward_pass<V: Vector, const R: usize>(
        &self,
        first: usize,
        distance: usize,
        bytes: usize,
        factors: &[V::Factor],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.rows::<R>(self.sums, first, distance);
            let factors = multipliers::<V, R>(factors);
            let mut offset = 0;
            while offset < bytes {
                let mut x = load_rows::<V, R>(&rows, offset);
                forward::<V, R, false>(&mut x, &factors);
                store_rows(x, &rows, offset);
                offset += V::BYTES;
            }
        }
    }

    /// Last pass of all: the values of neighbouring points to those targets that there are.
    ///
    /// # Safety
    /// As for [`Tile::transform`].
    #[inline(always)]
    unsafe fn last_pass<V: Vector, const R: usize>(
        &self,
        lanes: &Lanes<'_>,
        first: usize,
        at: usize,
        bytes: usize,
        factors: &[V::Factor],
        streams: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.rows::<R>(self.sums, first, 1);
            let targets = lanes.targets().get_unchecked(first..);
            let factors = multipliers::<V, R>(factors);
            let mut offset = 0;
            while offset < bytes {
                let mut x = load_rows::<V, R>(&rows, offset);
                forward::<V, R, false>(&mut x, &factors);
                let left = bytes - offset;
                let mut row = 0;
                while row < R {
                    if row < targets.len() {
                        let target = targets.get_unchecked(row).add(at + offset);
                        match (left >= V::BYTES, streams) {
                            (true, true) => x[row].stream(target),
                            (true, false) => x[row].store(target),
                            (false, _) => x[row].store_first(target, left),
                        }
                    }
                    row += 1;
                }
                offset += V::BYTES;
            }
        }
    }
}

/// # Safety
/// As for [`Vector`]: a vector at `offset` of each row.
#[inline(always)]
unsafe fn load_rows<V: Vector, const R: usize>(rows: &[*mut u8; R], offset: usize) -> [V; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut x = [V::zero(); R];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = V::load(row.add(offset));
        }
        x
    }
}

/// # Safety
/// As for [`Vector`]: a vector at `offset` of each row.
#[inline(always)]
unsafe fn store_rows<V: Vector, const R: usize>(x: [V; R], rows: &[*mut u8; R], offset: usize) {
    for (x, row) in x.into_iter().zip(rows) {
        // SAFETY: the caller's promise.
        unsafe { x.store(row.add(offset)) };
    }
}
