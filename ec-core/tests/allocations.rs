//! Once a code, a check or an encoder is made, a stripe costs no allocation.

use ec_core::encode::BLOCK_PIECE_BYTES;
use ec_core::{Code, Locality, ShardSet, StripeBuffers, StripeCheck, StripeEncoder, VerifyError};
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
