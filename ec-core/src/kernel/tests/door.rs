//! What a transform refuses, and what it takes.

use super::*;
use crate::error::TransformError;
use crate::shard::ShardIndex;

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
        let transform = Transform::of_shards(kernel, &Dice(2).matrix(2, 3, 0));
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
        let zeros = Transform::of_shards(kernel, &Matrix::zero(2, 0));
        assert_eq!(refused(&zeros, &[], &[100, 7]), mismatch(1, 7));
    }
}

#[test]
fn a_matrix_without_rows_or_columns_applies() {
    for kernel in kernels() {
        assert_eq!(Transform::of_shards(kernel, &Matrix::zero(0, 2)).apply(&[&[1], &[2]], &mut []), Ok(()));
        assert_eq!(Transform::of_shards(kernel, &Matrix::zero(0, 0)).apply(&[], &mut []), Ok(()));
        assert_eq!(applied(&Transform::of_shards(kernel, &Matrix::zero(2, 0)), &[], 9), [[0; 9]; 2]);
    }
}

/// A row or a column past the last number would be computed as another one.
#[test]
fn a_matrix_with_more_rows_or_columns_than_numbers_is_refused_and_the_largest_is_right() {
    for (rows, columns) in [(SIDE_MAX + 1, 1), (1, SIDE_MAX + 1)] {
        let matrix = Matrix::from_fn(rows, columns, |_, _| 2);
        let refused = TransformError { rows, columns, limit: SIDE_MAX };
        assert_eq!(Transform::new(Kernel::portable(), &matrix).unwrap_err(), refused);
        assert_eq!(Transform::adding(Kernel::portable(), &matrix).unwrap_err(), refused);
    }
    for kernel in kernels() {
        // What is at the last place is not what is at the one before.
        let element = |at: usize| if at + 1 == SIDE_MAX { 5 } else { 2 + u8::from(at.is_multiple_of(3)) };
        let wide = Transform::new(kernel, &Matrix::from_fn(1, SIDE_MAX, |_, column| element(column))).unwrap();
        let inputs = (0..SIDE_MAX).map(|at| vec![u8::from(at + 2 >= SIDE_MAX)]).collect::<Vec<_>>();
        assert_eq!(applied(&wide, &inputs, 1), [[element(SIDE_MAX - 2) ^ 5]]);
        let tall = Transform::new(kernel, &Matrix::from_fn(SIDE_MAX, 1, |row, _| element(row))).unwrap();
        let outputs = applied(&tall, &[vec![1]], 1);
        assert!(outputs.iter().enumerate().all(|(at, output)| output[..] == [element(at)]), "{}", kernel.name());
    }
}

#[test]
fn transforms_are_shared_between_threads() {
    let transform = Transform::of_shards(Kernel::available()[0], &Matrix::identity(2));
    let inputs = [painted(0, 500), painted(1, 500)];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(applied(&transform, &inputs, 500), inputs));
        }
    });
    assert_eq!(format!("{:?}", transform.clone()), format!("{transform:?}"));
}
