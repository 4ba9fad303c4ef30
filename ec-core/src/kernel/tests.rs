//! One suite for every kernel: all answer to [`gf::mul_by_definition`], over the whole range.

use super::*;
use crate::gf::mul_by_definition;
use crate::shard::ShardIndex;

/// Around every vector and step, and around a page and several blocks.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain([4095, 4096, 4097, 12_287, 12_288, 12_289, 65_535, 65_536, 65_537])
}

/// One group; several; a single row; more rows than columns; an odd and an even number of columns.
const SHAPES: [(usize, usize); 6] = [(1, 1), (2, 3), (4, 10), (5, 12), (7, 20), (13, 3)];

fn kernels() -> Vec<Kernel> {
    let mut kernels = Kernel::available();
    kernels.push(Kernel::PORTABLE_LOG);
    kernels
}

/// 251 is prime and below 256: shifted or exchanged buffers do not look alike.
fn painted(buffer: usize, len: usize) -> Vec<u8> {
    (0..251).cycle().skip(7 * buffer % 251).take(len).collect()
}

/// A plain generator with the constants of Knuth's MMIX, whose high bits are good enough for coefficients.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn matrix(&mut self, rows: usize, columns: usize, zeros_percent: usize) -> Matrix {
        Matrix::from_fn(rows, columns, |_, _| if self.below(100) < zeros_percent { 0 } else { self.byte() })
    }
}

fn by_definition(coefficients: &Matrix, inputs: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let sum = |row, at: usize| {
        let products = inputs.iter().zip(coefficients.row(row)).map(|(input, &c)| mul_by_definition(c, input[at]));
        products.fold(0, |sum, product| sum ^ product)
    };
    (0..coefficients.rows()).map(|row| (0..len).map(|at| sum(row, at)).collect()).collect()
}

/// The outputs held other bytes before, as they would where buffers are used again.
fn applied(transform: &Transform, inputs: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let mut outputs = vec![vec![0xEE; len]; transform.rows()];
    let inputs = inputs.iter().map(|input| &input[..len]).collect::<Vec<_>>();
    transform.apply(&inputs, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    outputs
}

#[test]
fn every_product_is_right() {
    let values = (0..=u8::MAX).collect::<Vec<_>>();
    for kernel in kernels() {
        for coefficient in 0..=u8::MAX {
            let transform = Transform::new(kernel, &Matrix::from_fn(1, 1, |_, _| coefficient));
            let found = applied(&transform, std::slice::from_ref(&values), 256);
            for (&value, &product) in values.iter().zip(&found[0]) {
                let name = kernel.name();
                assert_eq!(product, mul_by_definition(coefficient, value), "{name} {coefficient:#04x} * {value:#04x}");
            }
        }
    }
}

#[test]
fn every_length_is_right_in_every_shape() {
    let longest = lengths().max().unwrap();
    for (rows, columns) in SHAPES {
        let coefficients = Dice(rows as u64).matrix(rows, columns, 0);
        let inputs = (0..columns).map(|column| painted(column, longest)).collect::<Vec<_>>();
        let expected = by_definition(&coefficients, &inputs, longest);
        for kernel in kernels() {
            let transform = Transform::new(kernel, &coefficients);
            for len in lengths() {
                for (row, (found, expected)) in applied(&transform, &inputs, len).iter().zip(&expected).enumerate() {
                    assert!(*found == expected[..len], "{transform:?}, {len} bytes, row {row}");
                }
            }
        }
    }
}

#[test]
fn sparse_wide_and_empty_matrices_are_right() {
    const LENGTH: usize = 331;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (rows, columns) = (1 + dice.below(20), dice.below(if seed % 3 == 0 { 200 } else { 30 }));
        let zeros_percent = [30, 70, 95, 100][dice.below(4)];
        let coefficients = dice.matrix(rows, columns, zeros_percent);
        let inputs = (0..columns).map(|column| painted(column, LENGTH)).collect::<Vec<_>>();
        let expected = by_definition(&coefficients, &inputs, LENGTH);
        for kernel in kernels() {
            let transform = Transform::new(kernel, &coefficients);
            assert_eq!(applied(&transform, &inputs, LENGTH), expected, "{transform:?}, seed {seed}");
        }
    }
}

#[test]
fn every_alignment_is_right_and_the_bytes_around_stay() {
    const LINE: usize = 64;
    let coefficients = Dice(1).matrix(5, 7, 10);
    for len in [1, 31, 33, 64, 65, 257, 1000] {
        let inputs = (0..7).map(|column| painted(column, len)).collect::<Vec<_>>();
        let expected = by_definition(&coefficients, &inputs, len);
        for kernel in kernels() {
            let transform = Transform::new(kernel, &coefficients);
            for shift in 0..LINE {
                // Page-aligned to begin with; then every buffer is shifted by another number of bytes.
                let start = |buffer: usize| LINE + (shift + 5 * buffer) % LINE;
                let new = || crate::AlignedBuffer::zeroed(len + 3 * LINE).unwrap();
                let (mut sources, mut targets): (Vec<_>, Vec<_>) =
                    ((0..7).map(|_| new()).collect(), (0..5).map(|_| new()).collect());
                for (column, source) in sources.iter_mut().enumerate() {
                    source[start(column)..][..len].copy_from_slice(&inputs[column]);
                }
                targets.iter_mut().for_each(|target| target.fill(0xEE));
                let sources = sources.iter().enumerate().map(|(at, source)| &source[start(at)..][..len]);
                let outputs = targets.iter_mut().enumerate().map(|(at, target)| &mut target[start(7 + at)..][..len]);
                transform.apply(&sources.collect::<Vec<_>>(), &mut outputs.collect::<Vec<_>>()).unwrap();
                for (row, target) in targets.iter().enumerate() {
                    let (before, found) = target.split_at(start(7 + row));
                    let (found, after) = found.split_at(len);
                    assert!(found == expected[row], "{transform:?}, {len} bytes, shift {shift}, row {row}");
                    let around = before.iter().chain(after).all(|&byte| byte == 0xEE);
                    assert!(around, "{transform:?}, {len} bytes, shift {shift}: wrote outside row {row}");
                }
            }
        }
    }
}

#[test]
fn wrong_buffers_are_refused_and_nothing_is_written() {
    let refused = |transform: &Transform, inputs: &[usize], outputs: &[usize]| {
        let inputs = inputs.iter().map(|&len| painted(0, len)).collect::<Vec<_>>();
        let mut outputs = outputs.iter().map(|&len| vec![0xEE; len]).collect::<Vec<_>>();
        let inputs = inputs.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let error = transform
            .apply(&inputs, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())
            .expect_err("buffers of another count or length");
        assert!(outputs.iter().flatten().all(|&byte| byte == 0xEE), "{transform:?} wrote before it refused: {error}");
        error
    };
    let mismatch = |index, found| DecodeError::LengthMismatch { index: ShardIndex::new(index), expected: 100, found };
    for kernel in kernels() {
        let transform = Transform::new(kernel, &Dice(2).matrix(2, 3, 0));
        let count = |expected, found| DecodeError::WrongCount { expected, found };
        assert_eq!(refused(&transform, &[100; 2], &[100; 2]), count(3, 2));
        assert_eq!(refused(&transform, &[100; 4], &[100; 2]), count(3, 4));
        assert_eq!(refused(&transform, &[100; 3], &[100; 1]), count(2, 1));
        assert_eq!(refused(&transform, &[100; 3], &[100; 3]), count(2, 3));
        assert_eq!(refused(&transform, &[], &[]), count(3, 0));
        assert_eq!(refused(&transform, &[100, 99, 100], &[100; 2]), mismatch(1, 99));
        assert_eq!(refused(&transform, &[100, 100, 101], &[100; 2]), mismatch(2, 101));
        assert_eq!(refused(&transform, &[100; 3], &[0, 100]), mismatch(3, 0));
        assert_eq!(refused(&transform, &[100; 3], &[100, 64]), mismatch(4, 64));
        let zeros = Transform::new(kernel, &Matrix::zero(2, 0));
        assert_eq!(refused(&zeros, &[], &[100, 7]), mismatch(1, 7));
    }
}

#[test]
fn a_matrix_without_rows_or_columns_applies() {
    for kernel in kernels() {
        assert_eq!(Transform::new(kernel, &Matrix::zero(0, 2)).apply(&[&[1], &[2]], &mut []), Ok(()));
        assert_eq!(Transform::new(kernel, &Matrix::zero(0, 0)).apply(&[], &mut []), Ok(()));
        assert_eq!(applied(&Transform::new(kernel, &Matrix::zero(2, 0)), &[], 9), [[0; 9]; 2]);
    }
}

#[test]
fn a_kernel_is_chosen_by_name_or_by_rank() {
    let available = Kernel::available();
    assert_eq!(available.last(), Some(&Kernel::portable()));
    for unset in [None, Some("")] {
        assert_eq!(choose(unset, &available), Ok(available[0]));
    }
    for &kernel in &available {
        assert_eq!(choose(Some(kernel.name()), &available), Ok(kernel));
    }
    for unknown in ["abacus", "PORTABLE", "portable-log", " portable"] {
        let names = available.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", ");
        let error = KernelError::Unavailable { name: unknown.into(), available: names };
        assert_eq!(choose(Some(unknown), &available), Err(error));
    }
    let error = choose(Some("avx512-gfni"), &[Kernel::portable()]).unwrap_err();
    assert_eq!(error, KernelError::Unavailable { name: "avx512-gfni".into(), available: "portable".into() });
}

#[test]
fn the_selected_kernel_is_the_one_the_environment_asks_for() {
    let name = std::env::var(KERNEL_VARIABLE).ok();
    assert_eq!(Kernel::selected(), choose(name.as_deref(), &Kernel::available()));
    assert_eq!(Kernel::selected(), Kernel::selected());
}

#[test]
fn another_kernel_multiplies_by_other_means() {
    for kernel in kernels() {
        let another = kernel.another();
        assert_ne!(another.multiplier(), kernel.multiplier(), "{} and {}", kernel.name(), another.name());
    }
    assert_eq!(Kernel::portable().another().name(), "portable-log");
    assert_eq!(Kernel::PORTABLE_LOG.another(), Kernel::portable());
    for gfni in Kernel::available().into_iter().filter(|kernel| kernel.name().ends_with("gfni")) {
        assert_eq!(gfni.another().name(), "avx2");
    }
}

#[test]
fn the_self_test_passes_every_kernel_and_catches_one_wrong_product() {
    let wrong = |result| assert_eq!(result, Err(KernelError::SelfTest { name: "tested" }));
    for kernel in kernels() {
        let apply = |matrix: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            Transform::new(kernel, matrix).apply(inputs, outputs)
        };
        assert_eq!(self_test("tested", apply), Ok(()), "{}", kernel.name());

        wrong(self_test("tested", |matrix, inputs, outputs| {
            apply(matrix, inputs, outputs)?;
            if matrix.rows() == 256 {
                outputs[0x53][0xCA] ^= 1;
            }
            Ok(())
        }));
        // Wrong only in the last, short piece; only with so many rows; only at an odd last column.
        for broken_rows in 1..=dense::ROWS_MAX {
            wrong(self_test("tested", |matrix, inputs, outputs| {
                apply(matrix, inputs, outputs)?;
                let short = !outputs[0].len().is_multiple_of(32);
                if short && (matrix.rows(), matrix.columns()) == (broken_rows, 5) {
                    outputs[broken_rows - 1].last_mut().into_iter().for_each(|byte| *byte ^= 0x80);
                }
                Ok(())
            }));
        }
        wrong(self_test("tested", |_, _, _| Ok(())));
        wrong(self_test("tested", |_, _, _| Err(DecodeError::WrongCount { expected: 1, found: 0 })));
    }
}

#[test]
fn transforms_are_shared_between_threads() {
    let transform = Transform::new(Kernel::available()[0], &Matrix::identity(2));
    let inputs = [painted(0, 500), painted(1, 500)];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(applied(&transform, &inputs, 500), inputs));
        }
    });
    assert_eq!(format!("{:?}", transform.clone()), format!("{transform:?}"));
}

/// Buffers between pages that may not be touched: one byte too many, on either side, ends the process.
#[cfg(target_os = "linux")]
mod guarded {
    use super::*;
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
    use std::ffi::c_void;

    const PAGE: usize = 4096;
    /// More than one block, so that a later one ends at the guard.
    const OPEN: usize = 4 * PAGE;

    struct Guarded(*mut c_void);

    impl Guarded {
        fn new() -> Self {
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: a null address leaves the place to the system, so nothing that is mapped changes.
            let start = unsafe { mmap_anonymous(std::ptr::null_mut(), OPEN + 2 * PAGE, access, flags) }.unwrap();
            for guard in [0, PAGE + OPEN] {
                // SAFETY: the page is inside the mapping just made, which nothing refers to yet.
                unsafe { mprotect(start.byte_add(guard), PAGE, MprotectFlags::empty()) }.unwrap();
            }
            Self(start)
        }

        fn open(&mut self) -> &mut [u8] {
            // SAFETY: the pages between the guards are readable, writable and zeroed, and belong to `self` alone.
            unsafe { std::slice::from_raw_parts_mut(self.0.cast::<u8>().add(PAGE), OPEN) }
        }

        /// `len` bytes that touch the guard on one side.
        fn against(&mut self, end: bool, len: usize) -> &mut [u8] {
            let start = if end { OPEN - len } else { 0 };
            &mut self.open()[start..][..len]
        }
    }

    impl Drop for Guarded {
        fn drop(&mut self) {
            // SAFETY: the mapping was made with this size, and no reference outlives `self`.
            unsafe { munmap(self.0, OPEN + 2 * PAGE) }.unwrap();
        }
    }

    #[test]
    fn nothing_outside_the_buffers_is_read_or_written() {
        for (rows, columns) in [(1, 1), (2, 3), (3, 4), (4, 10), (5, 3), (6, 2), (7, 66)] {
            let coefficients = Dice(3).matrix(rows, columns, 0);
            let mut sources = (0..columns).map(|_| Guarded::new()).collect::<Vec<_>>();
            let mut targets = (0..rows).map(|_| Guarded::new()).collect::<Vec<_>>();
            for len in (0..=130).chain([191, 192, 193, 255, 256, 257, 300, 4095, 4096, 4097, OPEN - 1, OPEN]) {
                for end in [false, true] {
                    let inputs = (0..columns).map(|column| painted(column, len)).collect::<Vec<_>>();
                    for (source, input) in sources.iter_mut().zip(&inputs) {
                        source.against(end, len).copy_from_slice(input);
                    }
                    let expected = by_definition(&coefficients, &inputs, len);
                    for kernel in kernels() {
                        let transform = Transform::new(kernel, &coefficients);
                        targets.iter_mut().for_each(|target| target.open().fill(0xEE));
                        let inputs = sources.iter_mut().map(|source| &*source.against(end, len)).collect::<Vec<_>>();
                        let mut outputs = targets.iter_mut().map(|it| it.against(end, len)).collect::<Vec<_>>();
                        transform.apply(&inputs, &mut outputs).unwrap();
                        for (target, expected) in targets.iter_mut().zip(&expected) {
                            assert!(target.against(end, len) == expected, "{transform:?}, {len} bytes, end {end}");
                            let other_side = target.against(!end, OPEN - len).iter();
                            assert!(other_side.copied().all(|byte| byte == 0xEE), "{transform:?}, {len} bytes");
                        }
                    }
                }
            }
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

/// The native matrix by its own transform, wherever a kernel has one for the shape, and by the matrix.
#[test]
fn the_transform_of_the_native_matrix_gives_the_bytes_of_the_matrix() {
    const LENGTHS: [usize; 9] = [1, 31, 64, 65, 500, 512, 513, 1024, 1600];
    let shapes = [
        (4, 2),
        (5, 2),
        (10, 2),
        (3, 3),
        (6, 3),
        (17, 3),
        (10, 4),
        (11, 4),
        (12, 4),
        (20, 4),
        (9, 5),
        (16, 8),
        (23, 7),
        (31, 8),
        (40, 9),
        (17, 16),
        (64, 16),
        (80, 20),
        (100, 30),
        (33, 17),
        (100, 40),
        (190, 64),
        (127, 65),
        (120, 128),
    ];
    for (k, m) in shapes {
        let spec: crate::CodeSpec = format!("rs:{k}+{m}@lch").parse().unwrap();
        let code = crate::Code::with_kernel(&spec, Kernel::portable()).unwrap();
        let parity = code.generator().select_rows(&(k..k + m).collect::<Vec<_>>());
        let inputs = (0..k).map(|column| painted(column, LENGTHS[8])).collect::<Vec<_>>();
        let expected = applied(&Transform::new(Kernel::portable(), &parity), &inputs, LENGTHS[8]);
        for kernel in kernels() {
            let transform = Transform::native(kernel, &parity);
            for len in LENGTHS {
                for locality in [Locality::Cached, Locality::Streaming] {
                    let mut outputs = vec![vec![0xEE; len]; m];
                    let inputs = inputs.iter().map(|input| &input[..len]).collect::<Vec<_>>();
                    let mut targets = outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
                    transform.apply_with(&inputs, &mut targets, locality).unwrap();
                    for (row, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                        assert!(*found == expected[..len], "{transform:?}, {len} bytes, {locality:?}, row {row}");
                    }
                }
            }
        }
    }
}
