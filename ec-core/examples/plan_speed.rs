//! What plans cost: `cargo run --release -p ec-core --example plan_speed [rounds]`.
//!
//! For each code the single loss under equal costs, and the slowest of many random problems (losses, absences and costs drawn; the
//! best of five repeats, since this is about the work and not about the machine's other work).

use ec_core::plan::{Costs, cheapest_set};
use ec_core::{Code, Matrix, ShardIndex, ShardSet};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2000);
    for spec in ["rs:10+4", "rs:20+4", "rs:28+4", "rs:20+12", "lrc:12,2,2", "lrc:16,4,2", "lrc:24,4,2"] {
        let code = Code::new(&spec.parse().expect("a spec")).expect("a code");
        let lost = ShardSet::from_iter([ShardIndex::new(3)]);
        let available = lost.complement(code.n());
        let single = nanoseconds(1000, || code.plan(&lost, &available).is_ok());
        let cheapest = nanoseconds(1000, || code.plan_cheapest(&lost, &available, &Costs::uniform()).is_ok());
        let four = ShardSet::first(4);
        let decodable = nanoseconds(1000, || code.decodable(black_box(&four)));
        println!("{spec}: plan {single} ns, plan_cheapest {cheapest} ns, decodable without 4 data {decodable} ns");
        let worst = slowest(code.n(), code.m(), rounds, |lost, usable, costs| {
            code.plan_cheapest(lost, usable, costs).map_or(0, |plan| plan.set().cost())
        });
        println!("  slowest plan_cheapest {worst} ns");
        // With more parities chance alone makes it long: see below.
        if code.m() <= 6 {
            let worst = slowest(code.n(), code.m(), rounds, |lost, usable, costs| {
                cheapest_set(code.generator(), lost, usable, costs).map_or(0, |set| set.cost())
            });
            println!("  slowest search that knows nothing of the code {worst} ns");
        }
    }
    for (k, n) in [(10, 16), (16, 22), (20, 28), (24, 32), (20, 32)] {
        let mut dice = 9;
        let generator = Matrix::from_fn(n, k, |row, column| match row < k {
            true => u8::from(row == column),
            false => (next(&mut dice) % 256) as u8,
        });
        let (mut proved, mut all) = (0, 0);
        let worst = slowest(n, n - k, rounds.min(20), |lost, usable, costs| {
            let found = cheapest_set(&generator, lost, usable, costs);
            all += 1;
            proved += u32::from(found.as_ref().is_ok_and(|set| set.is_cheapest()));
            found.map_or(0, |set| set.cost())
        });
        println!("random {k} of {n}: slowest search {worst} ns, proved the least in {proved} of {all}");
    }
}

/// The slowest of the problems: the quickest of five runs of each.
fn slowest(n: usize, m: usize, rounds: usize, mut plan: impl FnMut(&ShardSet, &ShardSet, &Costs) -> u128) -> u128 {
    let mut dice = 1;
    let mut worst = 0;
    for round in 0..rounds {
        let losses = 1 + (next(&mut dice) as usize % m) * usize::from(round % 2 == 0);
        let mut lost = ShardSet::EMPTY;
        while lost.len() < losses {
            lost.insert(ShardIndex::new((next(&mut dice) % n as u64) as u16));
        }
        let spread = [1, 2, 10, 1 << 40][round % 4];
        let costs = Costs::new((0..n).map(|_| next(&mut dice) % spread));
        let usable = lost.complement(n);
        worst = worst.max(nanoseconds(1, || plan(&lost, &usable, &costs) > 0));
    }
    worst
}

/// Of one run, the least of five.
fn nanoseconds(runs: u32, mut run: impl FnMut() -> bool) -> u128 {
    let once = |_| {
        let began = Instant::now();
        for _ in 0..runs {
            black_box(run());
        }
        began.elapsed().as_nanos() / u128::from(runs)
    };
    (0..5).map(once).min().unwrap_or(0)
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
