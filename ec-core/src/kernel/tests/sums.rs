//! Products and sums of every shape and length.

use super::*;

#[test]
fn every_product_is_right() {
    let values = (0..=u8::MAX).collect::<Vec<_>>();
    for kernel in kernels() {
        for coefficient in 0..=u8::MAX {
            let transform = Transform::of_shards(kernel, &Matrix::from_fn(1, 1, |_, _| coefficient));
            let found = applied(&transform, std::slice::from_ref(&values), 256);
            for (&value, &product) in values.iter().zip(&found[0]) {
                let name = kernel.name();
                assert_eq!(product, mul_by_definition(coefficient, value), "{name} {coefficient:#04x} * {value:#04x}");
            }
        }
    }
}

/// A page and a little more, and around every larger power of two: whatever is a step, a block or a tile ends at each of its
/// bytes.
fn every_length() -> Vec<usize> {
    let around = |power: u32| {
        let every_byte = is_long() || power < 16;
        let telling = |by: &usize| every_byte || [65, 64, 63, 33, 32, 31, 17, 16, 15, 1, 0].contains(by);
        (0..=65).filter(telling).flat_map(move |by| [(1 << power) - by, (1 << power) + by]).collect::<Vec<_>>()
    };
    let last = if is_long() { 20 } else { 16 };
    (0..=4200).chain((13..=last).flat_map(around)).collect()
}

/// One row; the parities of 10+4; two plain sums on the way of two others; two groups, whose blocks are shorter than the
/// longest length. Then the native matrix: 2, 4 and 8 points in registers, 16 and 32 on tiles.
#[test]
fn every_length_is_right_in_every_shape() {
    let lengths = every_length();
    let longest = *lengths.iter().max().unwrap();
    let local =
        |row: usize, column: usize| if row < 2 { u8::from(column / 3 == row) } else { gf::exp2(row * column + 1) };
    let tasks = [
        Task::of(Matrix::from_fn(1, 1, |_, _| 0xA7), longest),
        Task::of(Dice(4).matrix(4, 10, 0), longest),
        Task::of(Matrix::from_fn(4, 6, local), longest),
        Task::of(Dice(7).matrix(7, 9, 0), longest),
        Task::native(10, 2, longest),
        Task::native(10, 4, longest),
        Task::native(20, 8, longest),
        Task::native(23, 11, 4200),
        Task::native(40, 20, 4200),
    ];
    for task in &tasks {
        let longest = task.inputs[0].len();
        let mut targets = Targets::new(task.rows(), longest);
        for kernel in task.kernels() {
            let transform = task.transform(kernel);
            let is_portable = matches!(kernel.0, Backend::Portable(_));
            for (at, &len) in lengths.iter().enumerate().filter(|&(_, &len)| len <= longest) {
                // One byte after another in plain Rust: a seventh of the lengths shows what all of them would.
                if is_portable && !is_long() && at % 7 != 0 {
                    continue;
                }
                for locality in LOCALITIES {
                    targets.check(&transform, &task.source_slices(len), &task.expected, |_| at, locality);
                }
            }
        }
    }
}

/// Around every vector, and past a whole step and a tile.
const LENGTHS: [usize; 24] =
    [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 129, 192, 255, 257, 513, 769, 1031];

/// Every shape with up to 20 data shards and 8 parities, and some up to 255 shards: any matrix, and the native one.
#[test]
fn every_shape_is_right_at_24_lengths() {
    let mut dice = Dice(24);
    let small = (1..=20).flat_map(|k| (1..=8).map(move |m| (k, m)));
    let mut shapes = small.collect::<Vec<_>>();
    // The smallest and the largest of every transform, then some of any size.
    shapes.extend([(17, 9), (239, 16), (64, 17), (223, 32), (80, 33), (191, 64), (100, 65), (127, 128), (254, 1)]);
    for _ in 0..if is_long() { 500 } else { 12 } {
        let k = 1 + dice.below(254);
        shapes.push((k, 1 + dice.below((255 - k).min(128))));
    }
    for (k, m) in shapes {
        let any = Task::of(Matrix::from_fn(m, k, |_, _| dice.byte().max(1)), LENGTHS[23]);
        // Larger shapes have no native matrix.
        let native = (k + m.next_power_of_two() <= 256).then(|| Task::native(k, m, LENGTHS[23]));
        for task in [any].iter().chain(&native) {
            let mut targets = Targets::new(m, LENGTHS[23]);
            for kernel in task.kernels() {
                if matches!(kernel.0, Backend::Portable(_)) && k * m > 1000 && !is_long() {
                    continue;
                }
                let transform = task.transform(kernel);
                for (at, len) in LENGTHS.into_iter().enumerate() {
                    let locality = LOCALITIES[(at + k + m) % 2];
                    targets.check(&transform, &task.source_slices(len), &task.expected, |_| at + m, locality);
                }
            }
        }
    }
}

/// Coefficients of 0 and 1 are no products, groups take what rows they like, and more columns than lanes come in pieces.
#[test]
fn sparse_wide_and_empty_matrices_are_right() {
    const LENGTH: usize = 331;
    for seed in 0..if is_long() { 3000 } else { 60 } {
        let mut dice = Dice(seed);
        let (rows, columns) = (1 + dice.below(20), if seed % 3 == 0 { dice.below(600) } else { dice.below(30) });
        let zeros_percent = [30, 70, 95, 100][dice.below(4)];
        let ones_percent = [0, 50, 100][dice.below(3)];
        let coefficients = Matrix::from_fn(rows, columns, |_, _| match (dice.below(100), dice.below(100)) {
            (zero, _) if zero < zeros_percent => 0,
            (_, one) if one < ones_percent => 1,
            _ => dice.byte(),
        });
        let task = Task::of(coefficients, LENGTH);
        for kernel in kernels() {
            let transform = task.transform(kernel);
            assert_eq!(applied(&transform, &task.inputs, LENGTH), task.expected, "{transform:?}, seed {seed}");
        }
    }
}

#[test]
fn rows_of_coefficients_are_added() {
    for kernel in kernels() {
        for (target_len, source_len) in [(0, 5), (1, 1), (15, 15), (64, 64), (65, 100), (130, 127), (256, 256)] {
            for coefficient in [0, 1, 2, 0x53, 0xFF] {
                let (before, source) = (painted(1, target_len), painted(2, source_len));
                let mut target = before.clone();
                kernel.add_scaled(&mut target, &source, coefficient);
                for (at, &found) in target.iter().enumerate() {
                    let added = source.get(at).map_or(0, |&source| mul_by_definition(coefficient, source));
                    assert_eq!(
                        found,
                        before[at] ^ added,
                        "{} {coefficient} {target_len} {source_len} {at}",
                        kernel.name()
                    );
                }
            }
        }
    }
}
