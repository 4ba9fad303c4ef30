//! Encode, rebuild and plan of one code.

use super::bounds::Bounds;
use super::timing::Effort;
use crate::files::FilesError;
use ec_core::{Code, CodeSpec, DecodeError, RepairPlan, ShardIndex, ShardSet};
use serde::Serialize;
use std::hint::black_box;

const SHARDS: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// What was measured of one code.
#[derive(Debug, Serialize)]
pub struct MeasuredCode {
    /// Its specification.
    pub code: String,
    /// Data fragments.
    pub k: usize,
    /// Parity fragments.
    pub m: usize,
    /// Making a decode plan, in microseconds.
    pub plans: Vec<PlanTime>,
    /// Rates, in the order they were measured.
    pub rates: Vec<Rate>,
}

/// The time of a decode plan.
#[derive(Debug, Serialize)]
pub struct PlanTime {
    /// Data fragments lost.
    pub lost: usize,
    /// Microseconds.
    pub micros: f64,
}

/// A rate and its bound.
#[derive(Debug, Serialize)]
pub struct Rate {
    /// `encode` or `rebuild`.
    pub work: &'static str,
    /// Data fragments rebuilt; 0 for `encode`.
    pub lost: usize,
    /// Bytes of a shard.
    pub shard_bytes: usize,
    /// `hot` or `cold`.
    pub place: &'static str,
    /// 10^9 bytes of data per second.
    pub gb_per_s: f64,
    /// `products`: every byte that is read is multiplied once for each output. `memory`: every input is read and every output
    /// written once, both at once.
    pub bound: &'static str,
    /// The rate as a share of the bound. Above 1 where the code needs fewer products than that.
    pub share: f64,
}

/// Measures a code on stripes cut from `memory`.
pub fn measure(effort: Effort, spec: &str, bounds: &Bounds, memory: &mut [u8]) -> Result<MeasuredCode, FilesError> {
    let code = Code::new(&spec.parse::<CodeSpec>()?)?;
    let losses = [1, code.guaranteed_tolerance()];
    let mut measured =
        MeasuredCode { code: code.spec().to_string(), k: code.k(), m: code.m(), plans: Vec::new(), rates: Vec::new() };
    for shard_bytes in SHARDS {
        for place in ["hot", "cold"] {
            let rate = encode_rate(effort, &code, shard_bytes, place, memory);
            measured.rates.push(rated(&code, bounds, None, shard_bytes, place, rate));
        }
    }
    for lost in losses {
        let plan = plan(&code, lost)?;
        let micros = effort.seconds(|| self::plan(&code, black_box(lost))) * 1e6;
        measured.plans.push(PlanTime { lost, micros });
        for (shard_bytes, place) in [(64 << 10, "hot"), (1 << 20, "cold")] {
            let rate = rebuild_rate(effort, &code, &plan, shard_bytes, place, memory);
            measured.rates.push(rated(&code, bounds, Some(&plan), shard_bytes, place, rate));
        }
    }
    Ok(measured)
}

fn encode_rate(effort: Effort, code: &Code, shard_bytes: usize, place: &str, memory: &mut [u8]) -> f64 {
    let cut = stripes(memory, code.n(), shard_bytes, place);
    let mut stripes: Vec<_> = cut.into_iter().map(|shards| data_and_parity(shards, code.k())).collect();
    let mut at = 0;
    effort.rate(code.k() * shard_bytes, || {
        at = (at + 1) % stripes.len();
        let (data, parity) = &mut stripes[at];
        code.encode(data, parity)
    })
}

/// Rebuilds the first shards in place: what stands there afterwards is no data of this stripe, and as quick to read.
fn rebuild_rate(
    effort: Effort,
    code: &Code,
    plan: &RepairPlan,
    shard_bytes: usize,
    place: &str,
    memory: &mut [u8],
) -> f64 {
    let lost = plan.rebuilds().len();
    let cut = stripes(memory, code.n(), shard_bytes, place);
    let mut stripes: Vec<_> = cut.into_iter().map(|shards| present_and_missing(shards, lost)).collect();
    let mut at = 0;
    effort.rate(code.k() * shard_bytes, || {
        at = (at + 1) % stripes.len();
        let (present, missing) = &mut stripes[at];
        plan.run(present, missing)
    })
}

fn data_and_parity(mut shards: Vec<&mut [u8]>, k: usize) -> (Vec<&[u8]>, Vec<&mut [u8]>) {
    let parity = shards.split_off(k);
    (shards.into_iter().map(|shard| &*shard).collect(), parity)
}

type Present<'a> = Vec<(ShardIndex, &'a [u8])>;
type Missing<'a> = Vec<(ShardIndex, &'a mut [u8])>;

fn present_and_missing(shards: Vec<&mut [u8]>, lost: usize) -> (Present<'_>, Missing<'_>) {
    let mut missing: Missing<'_> = (0..).map(ShardIndex::new).zip(shards).collect();
    let present = missing.split_off(lost);
    (present.into_iter().map(|(index, shard)| (index, &*shard)).collect(), missing)
}

/// One stripe, or as many as there is memory for; at least one.
fn stripes<'a>(memory: &'a mut [u8], shards: usize, shard_bytes: usize, place: &str) -> Vec<Vec<&'a mut [u8]>> {
    let most = if place == "hot" { 1 } else { usize::MAX };
    let mut places = memory.chunks_exact_mut(shard_bytes);
    let mut stripes = Vec::new();
    while stripes.len() < most && places.len() >= shards {
        stripes.push(places.by_ref().take(shards).collect());
    }
    stripes
}

/// A plan for the loss of the first data shards.
fn plan(code: &Code, lost: usize) -> Result<RepairPlan, DecodeError> {
    let lost = ShardSet::first(lost);
    code.plan(&lost, &lost.complement(code.n()))
}

fn rated(
    code: &Code,
    bounds: &Bounds,
    plan: Option<&RepairPlan>,
    shard_bytes: usize,
    place: &'static str,
    gb_per_s: f64,
) -> Rate {
    let (work, lost, inputs, outputs) = match plan {
        None => ("encode", 0, code.k(), code.m()),
        Some(plan) => ("rebuild", plan.rebuilds().len(), plan.reads().len(), plan.rebuilds().len()),
    };
    let per_data = |shards: usize| shards as f64 / code.k() as f64;
    let (bound, most) = match place {
        "hot" => ("products", bounds.dense(per_data(inputs), outputs)),
        _ => ("memory", bounds.memory(per_data(inputs), per_data(outputs))),
    };
    Rate { work, lost, shard_bytes, place, gb_per_s, bound, share: gb_per_s / most }
}
