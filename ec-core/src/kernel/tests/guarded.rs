//! Buffers between pages that may not be touched: one byte too many, on either side, ends the process.

use super::*;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;

const PAGE: usize = 4096;
/// More than one block, so that a later one ends at the guard.
pub(crate) const OPEN: usize = 4 * PAGE;

/// Some pages between two that may not be touched.
pub(crate) struct Guarded {
    start: *mut c_void,
    open: usize,
}

impl Guarded {
    pub(crate) fn new() -> Self {
        Self::of(OPEN)
    }

    /// With room for so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        let open = bytes.next_multiple_of(PAGE);
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a null address leaves the place to the system, so nothing that is mapped changes.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), open + 2 * PAGE, access, flags) }.unwrap();
        for guard in [0, PAGE + open] {
            // SAFETY: the page is inside the mapping just made, which nothing refers to yet.
            unsafe { mprotect(start.byte_add(guard), PAGE, MprotectFlags::empty()) }.unwrap();
        }
        Self { start, open }
    }

    fn open(&mut self) -> &mut [u8] {
        // SAFETY: the pages between the guards are readable, writable and zeroed, and belong to `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast::<u8>().add(PAGE), self.open) }
    }

    /// `len` bytes that touch the guard on one side.
    pub(crate) fn against(&mut self, end: bool, len: usize) -> &mut [u8] {
        let start = if end { self.open - len } else { 0 };
        &mut self.open()[start..][..len]
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and no reference outlives `self`.
        unsafe { munmap(self.start, self.open + 2 * PAGE) }.unwrap();
    }
}

/// Every length of a few vectors, around a page, and all there is; fewer where there are very many buffers.
fn lengths(buffers: usize) -> Vec<usize> {
    let few = [0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129];
    let short = if buffers < 40 || is_long() { (0..=270).collect() } else { few.to_vec() };
    let long = [300, 511, 512, 513, 577, 1025, 4095, 4096, 4097, OPEN - 65, OPEN - 1, OPEN];
    short.into_iter().chain(long).collect()
}

fn check(task: &Task) {
    let mut sources = (0..task.columns()).map(|_| Guarded::new()).collect::<Vec<_>>();
    let mut targets = (0..task.rows()).map(|_| Guarded::new()).collect::<Vec<_>>();
    targets.iter_mut().for_each(|target| target.open().fill(BEFORE));
    let transforms = task.kernels().into_iter().map(|kernel| task.transform(kernel)).collect::<Vec<_>>();
    for (len, end) in lengths(task.columns() + task.rows()).into_iter().flat_map(|len| [(len, false), (len, true)]) {
        for (source, input) in sources.iter_mut().zip(&task.inputs) {
            source.against(end, len).copy_from_slice(&input[..len]);
        }
        let inputs = sources.iter_mut().map(|source| &*source.against(end, len)).collect::<Vec<_>>();
        for (transform, locality) in transforms.iter().flat_map(|it| LOCALITIES.map(|locality| (it, locality))) {
            let mut outputs = targets.iter_mut().map(|it| it.against(end, len)).collect::<Vec<_>>();
            transform.apply_with(&inputs, &mut outputs, locality).unwrap();
            for (target, expected) in targets.iter_mut().zip(&task.expected) {
                let which = || format!("{transform:?}, {len} bytes, end {end}, {locality:?}");
                assert!(*target.against(end, len) == expected[..len], "{}", which());
                target.against(end, len).fill(BEFORE);
                // What is more than a line away is looked at by the tests of places.
                let beside = LINE.min(OPEN - len);
                let from = if end { OPEN - len - beside } else { len };
                assert!(target.open()[from..][..beside].iter().all(|&byte| byte == BEFORE), "{}", which());
            }
        }
    }
}

#[test]
fn the_matrix_touches_nothing_outside_the_buffers() {
    for (rows, columns) in [(1, 1), (2, 3), (3, 4), (4, 10), (5, 3), (6, 2), (7, 66)] {
        check(&Task::of(Dice(3).matrix(rows, columns, 0), OPEN));
    }
    check(&Task::of(Matrix::from_fn(3, 5, |row, column| if row == 0 { 1 } else { gf::exp2(row * column) }), OPEN));
}

#[test]
fn the_transform_in_registers_touches_nothing_outside_the_buffers() {
    for (k, m) in [(4, 2), (5, 2), (6, 3), (10, 4), (11, 4), (12, 5), (20, 8), (23, 7)] {
        check(&Task::native(k, m, OPEN));
    }
}

#[test]
fn the_transform_on_tiles_touches_nothing_outside_the_buffers() {
    for (k, m) in [(16, 9), (18, 16), (33, 20), (100, 50), (120, 100)] {
        check(&Task::native(k, m, OPEN));
    }
}
