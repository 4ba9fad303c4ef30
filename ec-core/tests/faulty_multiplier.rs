//! What a multiplier that computes wrongly would get past the checks, if the same one encodes and checks: a model, by table.
//!
//! `cargo test -p ec-core --test faulty_multiplier -- --nocapture` prints the counts of `docs/design/0006-checks.md`.

use ec_core::{Code, gf};

const STRIPES: u64 = 200;
const COLUMNS: usize = 1000;

type Multiplier = fn(u8, u8) -> u8;

struct Dice(u64);

impl Dice {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    fn nonzero(&mut self) -> u8 {
        self.byte() % 255 + 1
    }
}

/// Product modulo 0x11B, the polynomial of `gf2p8mulb`.
fn mul_aes(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0u8, |sum, bit| {
        let doubled = (sum << 1) ^ (0x1B & (sum >> 7).wrapping_neg());
        if b >> bit & 1 == 1 { doubled ^ a } else { doubled }
    })
}

/// Columns of wrong parity, and those of them that both equations let pass.
fn count(mul: Multiplier, checking: Multiplier) -> (usize, usize) {
    let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
    let row = |parity: usize| code.generator().row(10 + parity);
    let (mut wrong, mut missed) = (0, 0);
    for seed in 0..STRIPES {
        let mut dice = Dice(seed);
        // As `StripeCheck` draws them, and the coefficients by the tables.
        let weights: [[u8; 4]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| dice.nonzero()));
        let from_data = weights.map(|weights| {
            (0..10).map(|at| (0..4).fold(0, |sum, p| sum ^ gf::mul(weights[p], row(p)[at]))).collect::<Vec<u8>>()
        });
        for _ in 0..COLUMNS {
            let data: Vec<u8> = (0..10).map(|_| dice.byte()).collect();
            let sum = |mul: Multiplier, coefficients: &[u8]| {
                coefficients.iter().zip(&data).fold(0, |sum, (&c, &d)| sum ^ mul(c, d))
            };
            let parity: [u8; 4] = std::array::from_fn(|p| sum(mul, row(p)));
            if (0..4).all(|p| parity[p] == sum(gf::mul, row(p))) {
                continue;
            }
            wrong += 1;
            let passes = (0..2).all(|at| {
                (0..4).fold(sum(checking, &from_data[at]), |sum, p| sum ^ checking(weights[at][p], parity[p])) == 0
            });
            missed += usize::from(passes);
        }
    }
    (wrong, missed)
}

#[test]
fn what_each_fault_gets_past_the_checks() {
    // (fault, multiplier, most columns in a million that may pass where the same one checks)
    let faults: [(&str, Multiplier, usize); 5] = [
        ("one product of all 65,536 is wrong", |a, b| gf::mul(a, b) ^ u8::from(a == 0x1b && b == 0x53), 1_000),
        ("one coefficient is taken for another", |a, b| gf::mul(if a == 0x1c { 0x1d } else { a }, b), 1_000),
        ("another polynomial", mul_aes, 1_000),
        ("a bit of every result is stuck", |a, b| gf::mul(a, b) | 0x10, 20_000),
        ("a bit of every operand is stuck", |a, b| gf::mul(a, b & !0x10), 150_000),
    ];
    println!("{:40} {:>8} {:>14} {:>14}", "fault", "wrong", "same passes", "another passes");
    for (name, mul, same_max) in faults {
        let ((wrong, same), (_, another)) = (count(mul, mul), count(mul, gf::mul));
        println!("{name:40} {wrong:8} {same:14} {another:14}");
        assert!(wrong > 500, "{name}: {wrong} columns are too few to tell");
        assert!(same * 1_000_000 <= wrong * same_max + 2_000_000, "{name}: {same} of {wrong} pass the same multiplier");
        assert!(another * 10_000 <= wrong + 20_000, "{name}: {another} of {wrong} pass another multiplier");
    }
}
