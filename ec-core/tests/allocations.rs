//! Once a code, a plan, a check or an encoder is made, a stripe costs no allocation.

use ec_core::encode::BLOCK_PIECE_BYTES;
use ec_core::{
    Code, Costs, Locality, ParityDelta, ShardIndex, ShardSet, StripeBuffers, StripeCheck, StripeEncoder, UpdateWay,
    VerifyError,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what this thread asks for: others of the test runner allocate when they like.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(job: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    job();
    ALLOCATIONS.get() - before
}

#[test]
fn a_stripe_costs_no_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8]))), 1, "the count is right");
    for spec in ["rs:10+4", "rs:10+4@cauchy", "lrc:12,2,2", "rs:80+20", "replicate:3"] {
        let code = Code::new(&spec.parse().unwrap()).unwrap();
        let mut shards = StripeBuffers::zeroed(code.n(), 70_000).unwrap();
        let mut shards = shards.iter_mut();
        let data: Vec<&[u8]> = shards.by_ref().take(code.k()).map(|shard| &*shard).collect();
        let mut parity: Vec<&mut [u8]> = shards.collect();
        for locality in [Locality::Cached, Locality::Streaming] {
            assert_eq!(allocations(|| code.encode_with(&data, &mut parity, locality).unwrap()), 0, "{spec}");
        }
        let checks = [StripeCheck::new(&code, 1), StripeCheck::at_speed(&code, 1)];
        for check in checks {
            let found = parity.iter().map(|shard| &**shard).collect::<Vec<_>>();
            assert_eq!(allocations(|| check.run(&data, &found).unwrap()), 0, "{spec}");
            let encoder = StripeEncoder::new(&code, BLOCK_PIECE_BYTES).checked(check);
            for locality in [Locality::Cached, Locality::Streaming] {
                let mut walk = || {
                    let shown = encoder.encode(&data, &mut parity, locality, |_, _, _| Ok::<(), VerifyError>(()));
                    shown.unwrap();
                };
                // The first stripe past the caches makes the scratch rows.
                walk();
                assert_eq!(allocations(&mut walk), 0, "{spec}, {locality:?}");
            }
        }
    }
}

fn at(index: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(index).unwrap())
}

/// Pairs of index and shard, of those that are to be read and those that are to be written.
type Pairs<'a> = (Vec<(ShardIndex, &'a [u8])>, Vec<(ShardIndex, &'a mut [u8])>);

fn pairs<'a>(shards: &'a mut StripeBuffers, writes: impl Fn(ShardIndex) -> bool) -> Pairs<'a> {
    let all = shards.iter_mut().enumerate().map(|(index, bytes)| (at(index), bytes));
    let (written, read): (Vec<_>, Vec<_>) = all.partition(|(index, _)| writes(*index));
    (read.into_iter().map(|(index, bytes)| (index, &*bytes)).collect(), written)
}

#[test]
fn a_repair_costs_no_allocation() {
    for (spec, losses) in
        [("rs:10+4", 4), ("rs:10+4@cauchy", 1), ("lrc:12,2,2", 1), ("rs:80+20", 20), ("replicate:3", 2)]
    {
        let code = Code::new(&spec.parse().unwrap()).unwrap();
        let lost = ShardSet::first(losses);
        let plan = code.plan(&lost, &lost.complement(code.n())).unwrap();
        let mut shards = StripeBuffers::zeroed(code.n(), 70_000).unwrap();
        let (inputs, mut outputs) = pairs(&mut shards, |index| lost.contains(index));
        // As they are read, with others among them, and written in another order.
        let reads = inputs.iter().filter(|(index, _)| plan.reads().contains(index)).copied().collect::<Vec<_>>();
        outputs.reverse();
        for inputs in [&inputs, &reads] {
            assert_eq!(allocations(|| plan.run(inputs, &mut outputs).unwrap()), 0, "{spec}");
        }
    }
}

#[test]
fn an_update_costs_no_allocation() {
    for spec in ["rs:10+4", "lrc:12,2,2", "rs:80+20"] {
        let code = Code::new(&spec.parse().unwrap()).unwrap();
        for changed in [ShardSet::first(1), ShardSet::first(code.k() - 1)] {
            let delta = ParityDelta::new(&code, &changed).unwrap();
            let mut shards = StripeBuffers::zeroed(code.n(), 70_000).unwrap();
            let (read, mut parity) = pairs(&mut shards, |index| delta.parities().contains(&index));
            let new = read.iter().filter(|(index, _)| changed.contains(*index)).copied().collect::<Vec<_>>();
            let changes = new.iter().map(|&(index, bytes)| (index, bytes, bytes)).collect::<Vec<_>>();
            assert_eq!(allocations(|| delta.deltas(&changes, &mut parity).unwrap()), 0, "{spec}");
            assert_eq!(allocations(|| delta.update(&changes, &mut parity).unwrap()), 0, "{spec}");
            assert_eq!(allocations(|| delta.append(&new, &mut parity).unwrap()), 0, "{spec}");

            let plan = code.plan_update(&changed, &ShardSet::first(code.n()), &Costs::uniform()).unwrap();
            let old = StripeBuffers::zeroed(code.n(), 70_000).unwrap();
            let read = old.iter().enumerate().map(|(index, bytes)| (at(index), bytes)).collect::<Vec<_>>();
            let run = || plan.run(&new, &read, &mut parity).unwrap();
            assert_eq!(allocations(run), 0, "{spec} by {:?}", plan.way());
            let by_delta = changed.len() == 1;
            assert_eq!(plan.way() == UpdateWay::Delta, by_delta, "{spec}");
        }
    }
}

/// One thread of a pool: what it allocates is counted there.
#[cfg(feature = "parallel")]
#[test]
fn a_stripe_by_several_threads_costs_no_allocation() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for spec in ["rs:10+4", "rs:80+20"] {
        let code = Code::new(&spec.parse().unwrap()).unwrap();
        let lost = ShardSet::first(2);
        let plan = code.plan(&lost, &lost.complement(code.n())).unwrap();
        let encoder = StripeEncoder::new(&code, BLOCK_PIECE_BYTES).checked(StripeCheck::at_speed(&code, 1));
        let mut shards = StripeBuffers::zeroed(code.n(), 1 << 20).unwrap();
        let (data, mut parity) = pairs(&mut shards, |index| usize::from(index.get()) >= code.k());
        let data = data.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
        let mut parity = parity.iter_mut().map(|(_, bytes)| &mut **bytes).collect::<Vec<_>>();
        let mut encode = || code.encode_parallel(&data, &mut parity, Locality::Auto).unwrap();
        assert_eq!(pool.install(|| allocations(&mut encode)), 0, "{spec}");
        let shown = |_: usize, _: usize, _: &[u8]| Ok::<(), VerifyError>(());
        let mut walk = || encoder.encode_parallel(&data, &mut parity, Locality::Streaming, shown).unwrap();
        // The first stripe past the caches makes the scratch rows.
        pool.install(&mut walk);
        assert_eq!(pool.install(|| allocations(&mut walk)), 0, "{spec}");
        let (inputs, mut outputs) = pairs(&mut shards, |index| lost.contains(index));
        let mut run = || plan.run_parallel(&inputs, &mut outputs, Locality::Auto).unwrap();
        assert_eq!(pool.install(|| allocations(&mut run)), 0, "{spec}");
    }
}

/// The first stripe makes the room of a workspace; later ones, also shorter ones and those of smaller codes, find it.
#[cfg(feature = "wide")]
#[test]
fn a_wide_stripe_costs_no_allocation_after_the_first() {
    use ec_core::{WideCode, WideWorkspace};
    let mut workspace = WideWorkspace::new();
    for (at_first, spec) in [(true, "wide:1000+200"), (false, "wide:300+40")] {
        let code = WideCode::new(&spec.parse().unwrap()).unwrap();
        if code.kernel_name() == "portable" {
            // reed-solomon-simd encodes, and has memory of its own.
            return;
        }
        for losses in [1, 30] {
            let lost: Vec<ShardIndex> = (0..losses).map(|lost| at(lost * 7)).collect();
            let present: Vec<ShardIndex> = (0..code.n()).map(at).filter(|index| !lost.contains(index)).collect();
            let plan = code.plan(&lost, &present).unwrap();
            for (first, len) in [(at_first, 4238), (false, 4238), (false, 1030)] {
                let mut shards = StripeBuffers::zeroed(code.n(), len).unwrap();
                let (data, mut parity) = pairs(&mut shards, |index| usize::from(index.get()) >= code.k());
                let data = data.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
                let mut parity = parity.iter_mut().map(|(_, bytes)| &mut **bytes).collect::<Vec<_>>();
                let encoded = allocations(|| code.encode_with(&mut workspace, &data, &mut parity).unwrap());
                assert!(first || encoded == 0, "{spec} encodes {len} bytes with {encoded} allocations");
                let (inputs, mut outputs) = pairs(&mut shards, |index| lost.contains(&index));
                let rebuilt = allocations(|| plan.run_with(&mut workspace, &inputs, &mut outputs).unwrap());
                assert!(first || rebuilt == 0, "{plan:?} of {len} bytes with {rebuilt} allocations");
            }
        }
    }
}

#[test]
fn asking_what_is_decodable_costs_no_allocation() {
    for spec in ["rs:10+4", "rs:80+20", "lrc:12,2,2", "lrc:16,4,2", "replicate:3"] {
        let code = Code::new(&spec.parse().unwrap()).unwrap();
        for lost in 0..code.n() {
            let lost = ShardSet::first(lost);
            let asked = allocations(|| _ = std::hint::black_box(code.decodable(&lost)));
            assert_eq!(asked, 0, "{spec} without {lost:?}");
        }
    }
}
