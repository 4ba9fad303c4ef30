//! [rusty_erasure](https://crates.io/crates/rusty_erasure): AVX2 with GFNI at best, no AVX-512. Its plan is made once.

use super::{Coder, Shape, Work};
use rusty_erasure::{Coder as Theirs, DecodePlan, Matrix};

struct RustyErasure {
    coder: Theirs,
    plan: Option<DecodePlan>,
    lost: usize,
}

/// Its Cauchy matrix, the one it recommends; the matrix makes no difference to its speed.
pub(super) fn open(shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    let coder = rusty_erasure::coder(Matrix::cauchy(shape.k, shape.m).ok()?).ok()?;
    let plan = if lost == 0 { None } else { Some(plan_first(&coder, lost)) };
    Some(Box::new(RustyErasure { coder, plan, lost }))
}

/// The work of a decode plan, again and again.
pub(super) fn planner(shape: Shape, lost: usize) -> Work {
    let matrix = Matrix::cauchy(shape.k, shape.m).expect("at most 255 shards");
    let coder = rusty_erasure::coder(matrix).expect("a matrix of its own making");
    Box::new(move || drop(std::hint::black_box(plan_first(&coder, lost))))
}

fn plan_first(coder: &Theirs, lost: usize) -> DecodePlan {
    let present: Vec<bool> = (0..coder.k() + coder.p()).map(|at| at >= lost).collect();
    let rebuild: Vec<usize> = (0..lost).collect();
    coder.decode_plan(&present, &rebuild).expect("no more lost than the code survives")
}

impl Coder for RustyErasure {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.coder.encode(data, parity).expect("buffers of one stripe");
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let Some(plan) = &self.plan else { return };
        let (missing, present) = shards.split_at_mut(self.lost);
        let given: Vec<Option<&[u8]>> =
            missing.iter().map(|_| None).chain(present.iter().map(|shard| Some(&**shard))).collect();
        self.coder.recover_with(plan, &given, missing).expect("buffers of one stripe");
    }
}
