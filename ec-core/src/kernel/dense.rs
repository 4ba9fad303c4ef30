//! Sums of products by the matrix: one loop for every family.
//!
//! A step takes a piece of every output, starts its sums at zero, adds each input's piece times each row's coefficient,
//! and writes the sums once: nothing but the inputs and the tables is read. Rows whose coefficients are all one (local
//! parities, the first row of some Reed-Solomon matrices) are summed on the way, section by section of the inputs, and
//! cost no product.

use super::lanes::Lanes;
use super::memory::LINE_BYTES;
use super::vector::{Access, First, Streaming, Vector, Whole};

/// Rows with products that one group computes: what the sums of two vectors per row and their operands leave of 32
/// registers, and enough for the parities of nearly every code in use.
pub(super) const ROWS_MAX: usize = 6;

/// Rows that are computed together, reading their inputs once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<F> {
    /// Rows with products; distinct, at most [`ROWS_MAX`].
    pub(super) rows: Vec<u16>,
    /// The inputs, section by section; at most `SOURCES_MAX`. Empty where they are all those of the call, in order.
    pub(super) columns: Vec<u16>,
    /// Column by column, one factor per row.
    pub(super) factors: Vec<F>,
    /// How the columns fall into sections. Empty where they are all one section without a plain sum: most plans, which are
    /// made often, do without the allocation.
    pub(super) sections: Vec<Section>,
    /// Whether an earlier group has begun these rows, so that this one adds to them. Such a group has no plain sums.
    pub(super) adds: bool,
}

/// Neighbouring columns of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// How many.
    pub(super) columns: usize,
    /// The row that is their plain sum, if any.
    pub(super) sum: Option<u16>,
}

impl<F> Group<F> {
    /// The outputs: rows with products first, then the plain sums in order of their sections.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> {
        let sums = self.sections.iter().filter_map(|section| section.sum);
        self.rows.iter().copied().chain(sums).map(usize::from)
    }

    /// Whether any section has a plain sum.
    pub(super) fn has_sums(&self) -> bool {
        self.sections.iter().any(|section| section.sum.is_some())
    }
}

/// `M` rows with products, `U` vectors a step; `SUMS` where a section has a plain sum.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn run<V: Vector, const M: usize, const U: usize, const SUMS: bool>(
    group: &Group<V::Factor>,
    lanes: &Lanes<'_>,
) {
    let columns = lanes.sources().len();
    assert!(
        group.rows.len() == M
            && (group.sections.is_empty()
                || group.sections.iter().map(|section| section.columns).sum::<usize>() == columns)
            && group.factors.len() == M * columns
            && lanes.targets().len() == group.targets().count(),
        "lanes and tables of another shape"
    );
    let mut at = 0;
    // SAFETY: the caller's promise on the features. Each step stays within `lanes.len`, which every pointer is good for.
    unsafe {
        let head = lanes.streaming_head(V::BYTES);
        if let Some(head) = head {
            if head > 0 {
                step::<V, _, M, 1, SUMS>(group, lanes, 0, First(head));
                at = head;
            }
            while lanes.len - at >= U * V::BYTES {
                step::<V, _, M, U, SUMS>(group, lanes, at, Streaming);
                at += U * V::BYTES;
            }
            if lanes.traffic.fences {
                V::fence();
            }
        }
        while lanes.len - at >= U * V::BYTES {
            step::<V, _, M, U, SUMS>(group, lanes, at, Whole);
            at += U * V::BYTES;
        }
        while at < lanes.len {
            let bytes = V::BYTES.min(lanes.len - at);
            step::<V, _, M, 1, SUMS>(group, lanes, at, First(bytes));
            at += bytes;
        }
    }
}

/// # Safety
/// As for [`Vector`]; `U` vectors, or as many bytes as `access` takes, from `at` on are within the lanes.
#[inline(always)]
unsafe fn step<V: Vector, A: Access<V>, const M: usize, const U: usize, const SUMS: bool>(
    group: &Group<V::Factor>,
    lanes: &Lanes<'_>,
    at: usize,
    access: A,
) {
    // SAFETY: the caller's promise for every pointer of `lanes`; the tables have `M` factors per source, checked by `run`.
    unsafe {
        let (mut sources, targets) = (lanes.sources(), lanes.targets());
        let mut factors = group.factors.as_ptr();
        let mut sum_targets = targets.get_unchecked(M..).iter();
        let mut sums = [[V::zero(); U]; M];
        if group.adds {
            for (row, sums) in sums.iter_mut().enumerate() {
                *sums = load::<V, A, U>(*targets.get_unchecked(row), at, access);
            }
        }
        let whole = [Section { columns: sources.len(), sum: None }];
        let sections = if group.sections.is_empty() { &whole[..] } else { &group.sections[..] };
        for section in sections {
            let (own, rest) = sources.split_at_unchecked(section.columns);
            sources = rest;
            let mut plain = [V::zero(); U];
            let singles = if V::PAIRS {
                let (pairs, singles) = own.as_chunks::<2>();
                for &[p, q] in pairs {
                    if lanes.traffic.prefetches {
                        prefetch::<V, U>(p, at, lanes.ahead_bytes);
                        prefetch::<V, U>(q, at, lanes.ahead_bytes);
                    }
                    let (p, q) = (load::<V, A, U>(p, at, access), load::<V, A, U>(q, at, access));
                    if SUMS {
                        for u in 0..U {
                            plain[u] = plain[u].xor3(p[u], q[u]);
                        }
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let p_factor = V::multiplier(&*factors.add(row));
                        let q_factor = V::multiplier(&*factors.add(M + row));
                        for u in 0..U {
                            sums[u] = sums[u].xor3(p[u].times(p_factor), q[u].times(q_factor));
                        }
                    }
                    factors = factors.add(2 * M);
                }
                singles
            } else {
                own
            };
            for &p in singles {
                if lanes.traffic.prefetches {
                    prefetch::<V, U>(p, at, lanes.ahead_bytes);
                }
                let p = load::<V, A, U>(p, at, access);
                if SUMS {
                    for u in 0..U {
                        plain[u] = plain[u].xor(p[u]);
                    }
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let factor = V::multiplier(&*factors.add(row));
                    for u in 0..U {
                        sums[u] = sums[u].xor(p[u].times(factor));
                    }
                }
                factors = factors.add(M);
            }
            if SUMS
                && section.sum.is_some()
                && let Some(&target) = sum_targets.next()
            {
                store(plain, target, at, access);
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            store(sums, *targets.get_unchecked(row), at, access);
        }
    }
}

/// # Safety
/// As for [`Vector`]: `U` vectors at `from + at`.
#[inline(always)]
unsafe fn load<V: Vector, A: Access<V>, const U: usize>(from: *const u8, at: usize, access: A) -> [V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut vectors = [V::zero(); U];
        for (u, vector) in vectors.iter_mut().enumerate() {
            *vector = access.load(from.add(at + u * V::BYTES));
        }
        vectors
    }
}

/// # Safety
/// As for [`Vector`]: `U` vectors at `to + at`, ours alone to write.
#[inline(always)]
unsafe fn store<V: Vector, A: Access<V>, const U: usize>(vectors: [V; U], to: *mut u8, at: usize, access: A) {
    for (u, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { access.store(vector, to.add(at + u * V::BYTES)) }
    }
}

/// `target += factor * source` over the shorter one's length, for families whose short loads cost what whole ones do.
///
/// # Safety
/// As for [`Vector`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn add_scaled<V: Vector>(target: &mut [u8], source: &[u8], factor: &V::Factor) {
    let len = target.len().min(source.len());
    let (source, target) = (source.as_ptr(), target.as_mut_ptr());
    // SAFETY: the caller's promise on the features; `at + bytes` is at most the length of either slice.
    unsafe {
        let factor = V::multiplier(factor);
        let mut at = 0;
        // Whole ones by themselves: what a masked store wrote is read again only after it has left the store buffer.
        while len - at >= V::BYTES {
            V::load(target.add(at)).xor(V::load(source.add(at)).times(factor)).store(target.add(at));
            at += V::BYTES;
        }
        while at < len {
            let bytes = V::BYTES.min(len - at);
            let sum = V::load_first(target.add(at), bytes).xor(V::load_first(source.add(at), bytes).times(factor));
            sum.store_first(target.add(at), bytes);
            at += bytes;
        }
    }
}

/// Asks for the lines that the step so many bytes further on will read.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn prefetch<V: Vector, const U: usize>(from: *const u8, at: usize, ahead_bytes: usize) {
    let mut line = 0;
    while line < (U * V::BYTES).max(LINE_BYTES) {
        // SAFETY: the caller's promise on the features; the address need not be readable.
        unsafe { V::prefetch(from.wrapping_add(at + ahead_bytes + line)) };
        line += LINE_BYTES;
    }
}
