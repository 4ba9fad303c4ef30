//! Every erasure pattern of every small shape of the native code, by every kernel.
//!
//! Up to 14 shards every pattern goes through every kernel. Up to 20 shards there are a million patterns: each goes through the
//! fastest kernel, all of them with `NINEFOLD_LONG_TESTS=1`, else a tenth by dice.

use ec_core::{Code, Kernel, ShardIndex, ShardSet};

/// More than a vector of any kernel, with a remainder.
const BYTES: usize = 67;

const BEFORE: u8 = 0xEE;

fn is_long() -> bool {
    std::env::var_os("NINEFOLD_LONG_TESTS").is_some_and(|value| !value.is_empty())
}

fn kernels() -> Vec<Kernel> {
    Kernel::available().into_iter().chain([Kernel::portable().another()]).collect()
}

/// Shards of one code, and room to rebuild into.
struct Stripe {
    code: Code,
    shards: Vec<Vec<u8>>,
    rebuilt: Vec<Vec<u8>>,
}

impl Stripe {
    fn new(k: usize, m: usize, kernel: Kernel) -> Self {
        let code = Code::with_kernel(&format!("rs:{k}+{m}").parse().unwrap(), kernel).unwrap();
        // 251 is prime and below 256: shifted or exchanged shards do not look alike.
        let painted = |shard: usize| (0..251).cycle().skip(7 * shard % 251).take(BYTES).collect::<Vec<u8>>();
        let data = (0..k).map(painted).collect::<Vec<_>>();
        let mut parity = vec![vec![BEFORE; BYTES]; m];
        let inputs = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
        code.encode(&inputs, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        let shards = data.into_iter().chain(parity).collect();
        Self { code, shards, rebuilt: vec![vec![BEFORE; BYTES]; m] }
    }

    /// Loses the shards whose bits are set, at most as many as there are parities, and rebuilds them.
    fn lose(&mut self, bits: u32) {
        let all = ShardSet::first(self.code.n());
        let lost = all.iter().filter(|index| bits >> index.get() & 1 == 1).collect::<ShardSet>();
        let present = lost.complement(self.code.n());
        let present = present.iter().map(|index| (index, self.shards[index.at()].as_slice())).collect::<Vec<_>>();
        let outputs = self.rebuilt.iter_mut().map(Vec::as_mut_slice);
        let mut wanted = lost.iter().zip(outputs).collect::<Vec<(ShardIndex, &mut [u8])>>();
        let result = self.code.decode(&present, &mut wanted);
        for (index, bytes) in wanted {
            let which = || format!("{} by {}: lost {lost:?}", self.code.spec(), self.code.kernel().name());
            assert_eq!(result, Ok(()), "{}", which());
            assert!(*bytes == self.shards[index.at()], "{}: shard {index}", which());
            bytes.fill(BEFORE);
        }
    }
}

/// Shapes of at most so many shards and parities, with at least one data shard.
fn shapes(shards_max: usize, parities_max: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=parities_max).flat_map(move |m| (1..=shards_max.saturating_sub(m)).map(move |k| (k, m)))
}

#[test]
fn every_pattern_up_to_14_shards_by_every_kernel() {
    std::thread::scope(|scope| {
        for kernel in kernels() {
            scope.spawn(move || {
                for (k, m) in shapes(14, 13) {
                    let mut stripe = Stripe::new(k, m, kernel);
                    let patterns = (1u32..1 << (k + m)).filter(|bits| bits.count_ones() as usize <= m);
                    patterns.for_each(|bits| stripe.lose(bits));
                }
            });
        }
    });
}

#[test]
fn patterns_up_to_20_shards_by_the_fastest_kernel() {
    let kernel = Kernel::available()[0];
    let mut dice = 20u64;
    let mut run = 0;
    for (k, m) in shapes(20, 8) {
        let mut stripe = Stripe::new(k, m, kernel);
        for bits in (1u32..1 << (k + m)).filter(|bits| bits.count_ones() as usize <= m) {
            // The constants of Knuth's MMIX; the high bits are good enough.
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if is_long() || (dice >> 33).is_multiple_of(10) {
                stripe.lose(bits);
                run += 1;
            }
        }
    }
    assert!(run > 80_000, "{run} patterns are no tenth");
}
