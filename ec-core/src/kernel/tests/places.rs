//! Buffers anywhere: every alignment, and the bytes around stay.

use super::*;

/// Around vectors of 16, 32 and 64 bytes, steps of up to 512 and tiles.
const LENGTHS: [usize; 16] = [0, 1, 15, 31, 33, 63, 64, 65, 127, 129, 257, 320, 511, 577, 1000, 1100];

#[derive(Clone, Copy, Debug)]
enum Places {
    /// Every output begins equally far after a cache line, so that it can be written past the caches.
    Alike,
    /// Each begins elsewhere.
    Apart,
}

#[test]
fn every_alignment_is_right_and_the_bytes_around_stay() {
    let tasks = [
        Task::of(Dice(1).matrix(5, 7, 10), 1100),
        Task::of(Matrix::from_fn(3, 8, |row, column| if row == 0 { 1 } else { gf::exp2(row * column) }), 1100),
        Task::native(7, 2, 1100),
        Task::native(10, 4, 1100),
        Task::native(13, 7, 1100),
        Task::native(21, 13, 1100),
        Task::native(70, 40, 1100),
    ];
    for task in &tasks {
        let mut targets = Targets::new(task.rows(), 1100);
        let mut sources = (0..task.columns()).map(|_| AlignedBuffer::zeroed(1100 + LINE).unwrap()).collect::<Vec<_>>();
        for shift in 0..LINE {
            for (column, (source, input)) in sources.iter_mut().zip(&task.inputs).enumerate() {
                source[(shift + 5 * column) % LINE..][..1100].copy_from_slice(input);
            }
            for kernel in task.kernels() {
                let transform = task.transform(kernel);
                for len in LENGTHS {
                    let sources = sources.iter().enumerate();
                    let inputs = sources.map(|(column, source)| &source[(shift + 5 * column) % LINE..][..len]);
                    let inputs = inputs.collect::<Vec<_>>();
                    for places in [Places::Alike, Places::Apart] {
                        let place = |row| match places {
                            Places::Alike => shift,
                            Places::Apart => shift + 11 * row,
                        };
                        for locality in LOCALITIES {
                            targets.check(&transform, &inputs, &task.expected, place, locality);
                        }
                    }
                }
            }
        }
    }
}
