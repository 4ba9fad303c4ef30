//! ec-core itself. A new path of its API is brought in here, and in the cases that name it.

use super::{Coder, Shape, Work};
use ec_core::encode::BLOCK_PIECE_BYTES;
use ec_core::{
    Code, CodeSpec, Costs, Kernel, Locality, RepairPlan, ShardIndex, ShardSet, StripeCheck, StripeEncoder, VerifyError,
    WideCode, WidePlan, WideSpec, WideWorkspace,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What reports call it.
pub const NAME: &str = "ninefold";

/// A code, and a plan for the loss of its first data shards.
#[derive(Clone)]
pub struct Ninefold {
    code: Code,
    plan: Option<RepairPlan>,
    locality: Locality,
}

impl Ninefold {
    /// A code by its specification, with the kernel chosen for this machine.
    ///
    /// # Errors
    /// Why there is no such code or kernel, in words.
    pub fn open(spec: &str, lost: usize) -> Result<Self, String> {
        let code = spec.parse::<CodeSpec>().and_then(|spec| Code::new(&spec)).map_err(|error| error.to_string())?;
        Self::new(code, lost)
    }

    /// The same with a kernel by name.
    ///
    /// # Errors
    /// As [`Ninefold::open`].
    pub fn with_kernel(spec: &str, lost: usize, kernel: &str) -> Result<Self, String> {
        let spec = spec.parse::<CodeSpec>().map_err(|error| error.to_string())?;
        let found = Kernel::available().into_iter().find(|it| it.name() == kernel);
        let kernel = found.ok_or_else(|| format!("this machine has no kernel {kernel}"))?;
        Self::new(Code::with_kernel(&spec, kernel).map_err(|error| error.to_string())?, lost)
    }

    fn new(code: Code, lost: usize) -> Result<Self, String> {
        let plan = if lost == 0 { None } else { Some(plan_first(&code, lost).map_err(|error| error.to_string())?) };
        Ok(Self { code, plan, locality: Locality::Auto })
    }

    /// The same with a hint on where the buffers are.
    #[must_use]
    pub fn with_locality(self, locality: Locality) -> Self {
        Self { locality, ..self }
    }

    /// The code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// The numbers of the code.
    pub fn shape(&self, shard_bytes: usize) -> Shape {
        Shape { k: self.code.k(), m: self.code.m(), shard_bytes }
    }
}

impl Ninefold {
    /// The CRC of every block of every fragment, by walking over all of them.
    pub fn checksums(&self, data: &[&[u8]], parity: &[&mut [u8]], sums: &mut Vec<u32>) {
        sums.clear();
        for shard in data.iter().copied().chain(parity.iter().map(|shard| &**shard)) {
            sums.extend(shard.chunks(BLOCK_PIECE_BYTES).map(crc32fast::hash));
        }
    }
}

/// Parity, and what else is to be known of every byte, in one walk over memory.
pub struct OneWalk {
    encoder: StripeEncoder,
    locality: Locality,
    sums: Option<Vec<u32>>,
}

impl OneWalk {
    /// With the CRC of every block of every fragment.
    pub fn with_checksums(code: &Code, locality: Locality) -> Self {
        Self { encoder: StripeEncoder::new(code, BLOCK_PIECE_BYTES), locality, sums: Some(Vec::new()) }
    }

    /// With two random linear checks.
    pub fn with_checks(code: &Code, locality: Locality) -> Self {
        let encoder = StripeEncoder::new(code, BLOCK_PIECE_BYTES).checked(StripeCheck::at_speed(code, 0x5eed));
        Self { encoder, locality, sums: None }
    }

    /// Encodes a stripe.
    pub fn run(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        let walked = match &mut self.sums {
            Some(sums) => {
                sums.clear();
                self.encoder.encode(data, parity, self.locality, |_, _, piece| {
                    sums.push(crc32fast::hash(piece));
                    Ok::<(), VerifyError>(())
                })
            }
            None => self.encoder.encode(data, parity, self.locality, |_, _, _| Ok::<(), VerifyError>(())),
        };
        walked.expect("buffers of one stripe, and parity as it was just computed");
    }
}

/// A plan for the loss of data shards `0..lost`, all others at hand.
fn plan_first(code: &Code, lost: usize) -> Result<RepairPlan, ec_core::DecodeError> {
    let lost = ShardSet::first(lost);
    code.plan(&lost, &lost.complement(code.n()))
}

impl Coder for Ninefold {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.code.encode_with(data, parity, self.locality).expect("buffers of one stripe");
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let Some(plan) = &self.plan else { return };
        let (inputs, mut outputs) = present_and_missing(shards, plan.rebuilds().len());
        plan.run_with(&inputs, &mut outputs, self.locality).expect("buffers of one stripe");
    }
}

/// A code of more than 256 shards.
struct Wide {
    code: WideCode,
    plan: Option<WidePlan>,
    workspace: WideWorkspace,
}

impl Wide {
    fn open(spec: &str, lost: usize) -> Result<Self, String> {
        let spec = spec.parse::<WideSpec>().map_err(|error| error.to_string())?;
        let code = WideCode::new(&spec).map_err(|error| error.to_string())?;
        let plan =
            if lost == 0 { None } else { Some(wide_plan_first(&code, lost).map_err(|error| error.to_string())?) };
        Ok(Self { code, plan, workspace: WideWorkspace::new() })
    }
}

impl Coder for Wide {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.code.encode_with(&mut self.workspace, data, parity).expect("buffers of one stripe");
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let Some(plan) = &self.plan else { return };
        let (inputs, mut outputs) = present_and_missing(shards, plan.rebuilds().len());
        plan.run_with(&mut self.workspace, &inputs, &mut outputs).expect("buffers of one stripe");
    }
}

fn wide_plan_first(code: &WideCode, lost: usize) -> Result<WidePlan, ec_core::DecodeError> {
    let indices: Vec<ShardIndex> = (0..code.n()).map(index).collect();
    code.plan(&indices[..lost], &indices[lost..])
}

/// ec-core made ready for any code it has.
pub struct Ours {
    /// What encodes and rebuilds.
    pub coder: Box<dyn Coder>,
    /// Data shards.
    pub k: usize,
    /// Parity shards.
    pub m: usize,
}

impl Ours {
    /// A code by its specification, narrow or wide.
    ///
    /// # Errors
    /// As [`Ninefold::open`].
    pub fn open(spec: &str, lost: usize) -> Result<Self, String> {
        if spec.starts_with("wide:") {
            let wide = Wide::open(spec, lost)?;
            return Ok(Self { k: wide.code.k(), m: wide.code.m(), coder: Box::new(wide) });
        }
        let narrow = Ninefold::open(spec, lost)?;
        Ok(Self { k: narrow.code.k(), m: narrow.code.m(), coder: Box::new(narrow) })
    }

    /// The numbers of the code.
    pub fn shape(&self, shard_bytes: usize) -> Shape {
        Shape { k: self.k, m: self.m, shard_bytes }
    }
}

/// The work of a decode plan for the loss of data shards `0..lost`, again and again.
///
/// # Errors
/// As [`Ninefold::open`].
pub fn planner(spec: &str, lost: usize) -> Result<Work, String> {
    const SURVIVED: &str = "no more lost than the code survives";
    if spec.starts_with("wide:") {
        let wide = Wide::open(spec, 0)?;
        return Ok(Box::new(move || drop(black_box(wide_plan_first(&wide.code, black_box(lost)).expect(SURVIVED)))));
    }
    let narrow = Ninefold::open(spec, 0)?;
    Ok(Box::new(move || drop(black_box(plan_first(&narrow.code, black_box(lost)).expect(SURVIVED)))))
}

/// The slowest of random problems of cost among the codes of up to 32 shards that are offered by name: losses that can be
/// rebuilt, costs with ties and without. It is found by trying, and then measured by itself.
///
/// # Errors
/// Why one of the codes cannot be had, in words.
pub fn worst_planner() -> Result<Work, String> {
    const PROBLEMS: u64 = 400;
    let mut dice = 1u64;
    let mut draw = move |below: u64| {
        // Knuth's multiplier; the upper bits are the better ones.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let mut worst: Option<(Duration, Code, ShardSet, Costs)> = None;
    for spec in [
        "rs:10+4",
        "rs:20+12",
        "rs:28+4@cauchy",
        "lrc:12,2,2",
        "lrc:16,4,2",
        "lrc:24,6,2",
        "lrc-uniform:24,2,2",
        "xorbas",
    ] {
        let code = Ninefold::open(spec, 0)?.code;
        for problem in 0..PROBLEMS {
            let losses = 1 + draw(code.m() as u64);
            let lost: ShardSet = (0..losses).map(|_| index(draw(code.n() as u64) as usize)).collect();
            let costs = Costs::new((0..code.n()).map(|_| draw([1, 3, 1 << 30][problem as usize % 3])));
            let available = lost.complement(code.n());
            let once = || {
                let began = Instant::now();
                drop(black_box(code.plan_cheapest(black_box(&lost), &available, &costs)));
                began.elapsed()
            };
            let time = (0..3).map(|_| once()).min().unwrap_or_default();
            if worst.as_ref().is_none_or(|(most, ..)| time > *most) {
                worst = Some((time, code.clone(), lost, costs));
            }
        }
    }
    let (_, code, lost, costs) = worst.ok_or("no problem")?;
    let available = lost.complement(code.n());
    Ok(Box::new(move || drop(black_box(code.plan_cheapest(black_box(&lost), &available, &costs)))))
}

/// Asks whether everything can be decoded without the first shards.
///
/// # Errors
/// Why the code cannot be had, in words.
pub fn decodability(spec: &str, lost: usize) -> Result<Work, String> {
    let code = Ninefold::open(spec, 0)?.code;
    let lost = ShardSet::first(lost);
    Ok(Box::new(move || _ = black_box(code.decodable(black_box(&lost)))))
}

type Present<'a> = Vec<(ShardIndex, &'a [u8])>;
type Missing<'a> = Vec<(ShardIndex, &'a mut [u8])>;

/// The first shards are missing.
fn present_and_missing<'a>(shards: &'a mut [&mut [u8]], lost: usize) -> (Present<'a>, Missing<'a>) {
    let (missing, present) = shards.split_at_mut(lost);
    (
        present.iter().enumerate().map(|(at, shard)| (index(lost + at), &**shard)).collect(),
        missing.iter_mut().enumerate().map(|(at, shard)| (index(at), &mut **shard)).collect(),
    )
}

fn index(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).expect("at most 65,536 shards"))
}
