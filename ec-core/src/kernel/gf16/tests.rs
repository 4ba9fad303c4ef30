//! One suite for every GF(2^16) kernel: all answer to [`mul_by_definition`].

use super::*;
use crate::gf16::mul_by_definition;

/// 251 is prime and below 256: shifted or exchanged buffers do not look alike.
pub(super) fn painted(buffer: usize, len: usize) -> Vec<u8> {
    (0..251).cycle().skip(7 * buffer % 251).take(len).collect()
}

fn element(buffer: &[u8], at: usize) -> u16 {
    let start = at / 32 * 64 + at % 32;
    u16::from_le_bytes([buffer[start], buffer[start + 32]])
}

/// All elements, in blocks.
fn every_element() -> Vec<u8> {
    let mut buffer = vec![0; 2 * (1 << 16)];
    for value in 0..=u16::MAX {
        let start = usize::from(value) / 32 * 64 + usize::from(value) % 32;
        let [low, high] = value.to_le_bytes();
        (buffer[start], buffer[start + 32]) = (low, high);
    }
    buffer
}

#[test]
fn every_element_times_many_constants_is_right() {
    let all = every_element();
    for kernel in Gf16Kernel::available() {
        for constant in (0..16).map(|bit| 1 << bit).chain([0, 3, 0x00FF, 0xFF00, 0xFFFF, 0xACCA, 0x1234]) {
            let dense = Dense::new(kernel, 1, 1, |_, _| constant);
            for (tile, bytes) in all.chunks(TILE_BYTES_MAX).enumerate() {
                let mut product = vec![0xEE; bytes.len()];
                dense.apply(&[bytes], &mut [&mut product], false);
                for at in 0..bytes.len() / 2 {
                    let value = u16::try_from(tile * TILE_BYTES_MAX / 2 + at).unwrap();
                    let name = kernel.name();
                    assert_eq!(
                        element(&product, at),
                        mul_by_definition(constant, value),
                        "{name} {constant:#06x} * {value:#06x}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_shape_of_dense_matrix_is_right() {
    let coefficient = |row: usize, column: usize| u16::try_from((row * 7919 + column * 104_729 + 1) % 65_536).unwrap();
    for (rows, columns) in (1..=13).flat_map(|rows| [(rows, 0), (rows, 1), (rows, 15), (rows, 16), (rows, 35)]) {
        for len in [0, 64, 128, 192, 320] {
            let sources = (0..columns).map(|column| painted(column, len)).collect::<Vec<_>>();
            let source_slices = sources.iter().map(Vec::as_slice).collect::<Vec<_>>();
            for adds in [false, true] {
                let begin = |row| if adds { painted(100 + row, len) } else { vec![0xEE; len] };
                let sum = |row: usize, at: usize| {
                    let products =
                        (0..columns).map(|c| mul_by_definition(coefficient(row, c), element(&sources[c], at)));
                    products.fold(if adds { element(&begin(row), at) } else { 0 }, |sum, product| sum ^ product)
                };
                for kernel in Gf16Kernel::available() {
                    let mut targets = (0..rows).map(begin).collect::<Vec<_>>();
                    let mut slices = targets.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
                    Dense::new(kernel, rows, columns, coefficient).apply(&source_slices, &mut slices, adds);
                    for (row, target) in targets.iter().enumerate() {
                        let right = (0..len / 2).all(|at| element(target, at) == sum(row, at));
                        assert!(right, "{} {rows} x {columns}, {len} bytes, row {row}", kernel.name());
                    }
                }
            }
        }
    }
}

/// The coefficients by definition: from point y to point x, `W(the one in the far coset) / (x + y)`.
fn lagrange(bits: usize, x: usize, y: usize) -> u16 {
    let [w, sum] = [x.max(y) >> bits, x ^ y].map(|value| u16::try_from(value).unwrap());
    crate::gf16::mul(w, crate::gf16::inverse(sum).unwrap())
}

#[test]
fn the_golden_transforms_of_the_self_test_are_those_of_the_definition() {
    use self_test::{GOLDEN, LEN, painted, shapes, transforms};
    let expected = std::array::from_fn(|layers| {
        let mut all = Vec::new();
        for [(inputs, input_base), (outputs, output_base)] in shapes(layers) {
            for output in 0..outputs {
                let mut buffer = [0; LEN];
                for at in 0..LEN / 2 {
                    let product = |input: usize| {
                        let coefficient = lagrange(layers, output_base + output, input_base + input);
                        crate::gf16::mul(coefficient, element(&painted(input), at))
                    };
                    let sum = (0..inputs).fold(0, |sum, input| sum ^ product(input));
                    let start = at / 32 * 64 + at % 32;
                    [buffer[start], buffer[start + 32]] = sum.to_le_bytes();
                }
                all.push(buffer);
            }
        }
        crate::kernel::self_test::checksum(all.iter().map(|output| &output[..]))
    });
    assert_eq!(GOLDEN, expected, "{expected:#018X?}");
    for kernel in Gf16Kernel::available() {
        assert_eq!(std::array::from_fn(|layers| transforms(kernel, layers)), GOLDEN, "{}", kernel.name());
    }
}

#[test]
fn the_golden_matrices_of_the_self_test_are_those_of_the_definition() {
    use self_test::{LEN, MATRICES, coefficient, matrix, painted};
    let expected = MATRICES.map(|(rows, columns, _)| {
        let output = |row: usize| {
            let mut buffer = [0; LEN];
            for at in 0..LEN / 2 {
                let product =
                    |column: usize| mul_by_definition(coefficient(row, column), element(&painted(column), at));
                let sum = (0..columns).fold(0, |sum, column| sum ^ product(column));
                let start = at / 32 * 64 + at % 32;
                [buffer[start], buffer[start + 32]] = sum.to_le_bytes();
            }
            buffer
        };
        let outputs = (0..rows).map(output).collect::<Vec<_>>();
        (rows, columns, crate::kernel::self_test::checksum(outputs.iter().map(|output| &output[..])))
    });
    assert_eq!(MATRICES, expected, "{expected:#018X?}");
    for (kernel, (rows, columns, golden)) in
        Gf16Kernel::available().into_iter().flat_map(|it| MATRICES.map(|of| (it, of)))
    {
        assert_eq!(matrix(kernel, rows, columns), Some(golden), "{} {rows} x {columns}", kernel.name());
    }
}

#[test]
fn every_gf16_kernel_passes_its_self_test() {
    for kernel in Gf16Kernel::available() {
        assert_eq!(kernel.self_test(), Ok(()), "{}", kernel.name());
    }
}

#[test]
fn every_size_of_transform_is_lagrange_interpolation() {
    for bits in 0..=9 {
        let size = 1usize << bits;
        // Several cosets on either side, the last one not full; zeros among the inputs.
        for (inputs, input_base, outputs, output_base) in [
            (2 * size + size.div_ceil(3), size, size.div_ceil(2), 0),
            (size.div_ceil(2), 0, 2 * size + size.div_ceil(3), size),
            (size, size, size, 0),
            (1, size, size, 0),
        ] {
            let len = 128;
            let buffers = (0..inputs).map(|input| painted(input, len)).collect::<Vec<_>>();
            let rows = (0..inputs).map(|at| (at % 5 != 3).then_some(&buffers[at][..])).collect::<Vec<_>>();
            let coefficient = |output: usize, input: usize| lagrange(bits, output_base + output, input_base + input);
            for kernel in Gf16Kernel::available() {
                let additive = Additive::new(kernel, size, (inputs, input_base), (outputs, output_base));
                let mut scratch = vec![0xEE; additive.scratch_bytes()];
                let mut targets = vec![vec![0xEE; len + 64]; outputs];
                let mut slices = targets.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
                additive.run(&rows, 0..64, &mut slices, 64, &mut scratch);
                additive.run(&rows, 64..128, &mut slices, 128, &mut scratch);
                for output in (0..outputs).step_by(1 + outputs / 7) {
                    assert_eq!(targets[output][..64], [0xEE; 64], "the bytes before stay");
                    for at in [0, 1, 31, 32, 63] {
                        let products = rows.iter().enumerate().filter_map(|(input, row)| {
                            row.map(|row| crate::gf16::mul(coefficient(output, input), element(row, at)))
                        });
                        let expected = products.fold(0, |sum, product| sum ^ product);
                        let found = element(&targets[output][64..], at);
                        assert_eq!(found, expected, "{} size {size}, {inputs} to {outputs}, {output}", kernel.name());
                    }
                }
            }
        }
    }
}

/// Buffers that end, and buffers that begin, at a page that may not be touched.
#[cfg(target_os = "linux")]
#[test]
fn nothing_outside_the_buffers_is_touched() {
    use crate::kernel::tests::guarded::Guarded;
    let lengths = [64, 128, 192, 320, 1024, TILE_BYTES_MAX - 64, TILE_BYTES_MAX];
    for kernel in Gf16Kernel::available() {
        for (len, end) in lengths.into_iter().flat_map(|len| [(len, false), (len, true)]) {
            let guarded = |count: usize| (0..count).map(|_| Guarded::new()).collect::<Vec<_>>();
            let fill = |buffers: &mut Vec<Guarded>| {
                let painted =
                    |(at, buffer): (usize, &mut Guarded)| buffer.against(end, len).copy_from_slice(&painted(at, len));
                buffers.iter_mut().enumerate().for_each(painted);
            };
            for (rows, columns) in [(1, 1), (2, 3), (3, 2), (4, 5), (5, 1), (6, 17), (13, 2)] {
                let (mut sources, mut targets) = (guarded(columns), guarded(rows));
                fill(&mut sources);
                fill(&mut targets);
                let sources = sources.iter_mut().map(|it| &*it.against(end, len)).collect::<Vec<_>>();
                let mut targets = targets.iter_mut().map(|it| it.against(end, len)).collect::<Vec<_>>();
                let dense = Dense::new(kernel, rows, columns, self_test::coefficient);
                dense.apply(&sources, &mut targets, false);
                dense.apply(&sources, &mut targets, true);
                assert!(targets.iter().all(|target| target.iter().all(|&byte| byte == 0)), "{}", kernel.name());
            }
            for (layers, shape) in (0..=5).flat_map(|layers| self_test::shapes(layers).map(|shape| (layers, shape))) {
                let [(inputs, input_base), (outputs, output_base)] = shape;
                let additive = Additive::new(kernel, 1 << layers, (inputs, input_base), (outputs, output_base));
                // Scratch of exactly what is said to be needed, against the guard behind it.
                let mut scratch = Guarded::of(additive.scratch_bytes());
                let scratch = scratch.against(true, additive.scratch_bytes());
                let (mut sources, mut targets) = (guarded(inputs), guarded(outputs));
                fill(&mut sources);
                let sources = sources.iter_mut().map(|it| Some(&*it.against(end, len))).collect::<Vec<_>>();
                let mut targets = targets.iter_mut().map(|it| it.against(end, len)).collect::<Vec<_>>();
                additive.run(&sources, 0..len, &mut targets, 0, scratch);
                // Of all outputs the first and the last: that they are written, and right at both ends.
                for (output, target) in [(0, &targets[0]), (outputs - 1, &targets[outputs - 1])] {
                    for at in [0, len / 2 - 1] {
                        let product = |input: usize| {
                            let coefficient = lagrange(layers, output_base + output, input_base + input);
                            crate::gf16::mul(coefficient, element(&painted(input, len), at))
                        };
                        let sum = (0..inputs).fold(0, |sum, input| sum ^ product(input));
                        assert_eq!(element(target, at), sum, "{} {layers} layers, {len} bytes", kernel.name());
                    }
                }
            }
        }
    }
}
