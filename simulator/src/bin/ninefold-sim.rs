//! `ninefold-sim`: simulations from the command line.

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use simulator::exact::{Counts, Limits, Mode, Mutation, Options, Run, run, shrink};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Simulations of Ninefold.
#[derive(Parser)]
#[command(name = "ninefold-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the service's own machines in virtual time with faults, seed by seed. Exit 1 where an invariant broke, or where over 100 seeds
    /// or more something never came up.
    Dst(Dst),
}

#[derive(Args)]
struct Dst {
    /// How many seeds, at least one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// What is asked of the cells; mixed: each seed draws it.
    #[arg(long, default_value = "mixed", value_parser = ["mixed", "safety", "liveness", "beyond"])]
    mode: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Print everything that happens, on stderr. One thread.
    #[arg(long)]
    trace: bool,
    /// Of each seed print the hash of its trace, and nothing else.
    #[arg(long, conflicts_with = "json")]
    hashes: bool,
    /// Search for a smaller run that breaks the same as the first seed that breaks anything.
    #[arg(long, conflicts_with_all = ["trace", "hashes"])]
    shrink: bool,
    /// Plant this mistake, which must then be found.
    #[arg(long, value_name = "NAME", value_parser = Mutation::ALL.map(Mutation::as_str))]
    plant: Option<String>,
    /// Let no other faults strike than those of these numbers, or none.
    #[arg(long, value_name = "N,N,...|none", value_parser = numbers)]
    only_faults: Option<Numbers>,
    /// Let clients do no more operations than that in all.
    #[arg(long)]
    operations: Option<u64>,
    /// Take no more nodes than that, but enough for the code.
    #[arg(long)]
    nodes: Option<usize>,
}

/// Numbers of faults.
#[derive(Clone)]
struct Numbers(BTreeSet<u64>);

fn numbers(text: &str) -> Result<Numbers, String> {
    if text == "none" {
        return Ok(Numbers(BTreeSet::new()));
    }
    let number = |number: &str| number.parse().map_err(|_| format!("{number:?} is no number of a fault"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
}

/// Seeds over which everything that there is must come up.
const SEEDS_FOR_ALL: u64 = 100;

#[derive(Serialize)]
struct Report {
    schema: u32,
    seeds: u64,
    failed: Vec<Failure>,
    /// What never came up, over enough seeds.
    missing: Vec<&'static str>,
    modes: BTreeMap<&'static str, u64>,
    seeds_with_odd_links: u64,
    events: u64,
    recounts: u64,
    operations: u64,
    operations_in_vain: u64,
    operations_by_kind: BTreeMap<&'static str, u64>,
    faults: u64,
    faults_by_kind: BTreeMap<&'static str, u64>,
    paths: BTreeMap<&'static str, u64>,
    virtual_seconds: f64,
    seconds: f64,
    shrunk: Option<Shrunk>,
    runs: Vec<OneRun>,
}

#[derive(Serialize)]
struct Failure {
    seed: u64,
    invariant: String,
    what: String,
    replay: String,
}

/// A smaller run that breaks the same.
#[derive(Serialize)]
struct Shrunk {
    seed: u64,
    tries: u64,
    operations: u64,
    faults: usize,
    nodes: usize,
    replay: String,
}

#[derive(Serialize)]
struct OneRun {
    seed: u64,
    mode: &'static str,
    code: String,
    nodes: usize,
    events: u64,
    operations: u64,
    faults_by_kind: BTreeMap<&'static str, u64>,
    paths: BTreeMap<&'static str, u64>,
    virtual_seconds: f64,
    trace_hash: String,
}

fn main() -> ExitCode {
    let Command::Dst(dst) = Cli::parse().command;
    let began = Instant::now();
    let runs = run_all(&dst);
    let report = report(&dst, &runs, began);
    let told = if dst.json {
        tell_json(&report)
    } else if dst.hashes {
        tell_hashes(&runs)
    } else {
        tell(&dst, &runs, &report)
    };
    match told {
        Err(_) => ExitCode::from(3),
        Ok(()) if report.failed.is_empty() && report.missing.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
    }
}

fn options(dst: &Dst) -> Options {
    Options {
        prints: dst.trace,
        mutation: Mutation::ALL.into_iter().find(|mutation| Some(mutation.as_str()) == dst.plant.as_deref()),
        mode: Mode::ALL.into_iter().find(|mode| mode.as_str() == dst.mode),
        limits: Limits {
            only_faults: dst.only_faults.as_ref().map(|numbers| numbers.0.clone()),
            operations: dst.operations,
            nodes: dst.nodes,
        },
    }
}

/// Runs the seeds on all cores; the result does not depend on their number.
fn run_all(dst: &Dst) -> Vec<Run> {
    let threads = if dst.trace { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let options = options(dst);
    let next = AtomicU64::new(0);
    let runs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= dst.seeds {
                        return;
                    }
                    let done = run(dst.first_seed.wrapping_add(at), &options);
                    if let Ok(mut runs) = runs.lock() {
                        runs.push(done);
                    }
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    runs.sort_by_key(|run| run.seed.wrapping_sub(dst.first_seed));
    runs
}

/// The command that runs one seed again.
fn replay(seed: u64, options: &Options) -> String {
    let mut command = format!("ninefold-sim dst --seeds 1 --first-seed {seed} --trace");
    let mut add = |option: &str, value: String| command.push_str(&format!(" {option} {value}"));
    if let Some(mode) = options.mode {
        add("--mode", mode.as_str().into());
    }
    if let Some(mutation) = options.mutation {
        add("--plant", mutation.as_str().into());
    }
    if let Some(operations) = options.limits.operations {
        add("--operations", operations.to_string());
    }
    if let Some(nodes) = options.limits.nodes {
        add("--nodes", nodes.to_string());
    }
    if let Some(faults) = &options.limits.only_faults {
        let faults: Vec<String> = faults.iter().map(u64::to_string).collect();
        add("--only-faults", if faults.is_empty() { "none".into() } else { faults.join(",") });
    }
    command
}

fn shrunk(dst: &Dst, runs: &[Run]) -> Option<Shrunk> {
    let failed = runs.iter().find(|run| run.violation.is_some()).filter(|_| dst.shrink)?;
    let (options, run, tries) = shrink(failed.seed, &options(dst))?;
    Some(Shrunk {
        seed: run.seed,
        tries,
        operations: run.operations,
        faults: run.struck.len(),
        nodes: run.nodes,
        replay: replay(run.seed, &options),
    })
}

fn report(dst: &Dst, runs: &[Run], began: Instant) -> Report {
    let shrunk = shrunk(dst, runs);
    let mut counts = Counts::default();
    runs.iter().for_each(|run| counts.add(&run.counts));
    // Of a run that is not whole, nothing can be missing.
    let is_whole = dst.plant.is_none() && options(dst).limits == Limits::default() && dst.mode == "mixed";
    let mut modes: BTreeMap<&str, u64> = Mode::ALL.iter().map(|mode| (mode.as_str(), 0)).collect();
    runs.iter().for_each(|run| *modes.entry(run.mode.as_str()).or_default() += 1);
    Report {
        schema: 2,
        seeds: dst.seeds,
        failed: runs.iter().filter_map(|run| failure(dst, run)).collect(),
        missing: if is_whole && dst.seeds >= SEEDS_FOR_ALL { counts.missing() } else { Vec::new() },
        modes,
        seeds_with_odd_links: runs.iter().filter(|run| run.has_odd_links()).count() as u64,
        events: runs.iter().map(|run| run.events).sum(),
        recounts: runs.iter().map(|run| run.recounts).sum(),
        operations: runs.iter().map(|run| run.operations).sum(),
        operations_in_vain: runs.iter().map(|run| run.in_vain).sum(),
        operations_by_kind: counts.operations(),
        faults: counts.faults_in_all(),
        faults_by_kind: counts.faults(),
        paths: counts.paths(),
        virtual_seconds: runs.iter().map(|run| run.virtual_ms as f64 / 1000.0).sum(),
        seconds: began.elapsed().as_secs_f64(),
        shrunk,
        runs: runs.iter().map(one_run).collect(),
    }
}

fn failure(dst: &Dst, run: &Run) -> Option<Failure> {
    run.violation.as_ref().map(|violation| Failure {
        seed: run.seed,
        invariant: violation.invariant.to_string(),
        what: violation.what.clone(),
        replay: replay(run.seed, &options(dst)),
    })
}

fn one_run(run: &Run) -> OneRun {
    OneRun {
        seed: run.seed,
        mode: run.mode.as_str(),
        code: run.code.clone(),
        nodes: run.nodes,
        events: run.events,
        operations: run.operations,
        faults_by_kind: run.counts.faults(),
        paths: run.counts.paths(),
        virtual_seconds: run.virtual_ms as f64 / 1000.0,
        trace_hash: format!("{:016x}", run.trace_hash),
    }
}

fn tell_json(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    writeln!(out)
}

fn tell_hashes(runs: &[Run]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    runs.iter().try_for_each(|run| writeln!(out, "{} {:016x}", run.seed, run.trace_hash))
}

fn tell(dst: &Dst, runs: &[Run], report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for run in runs {
        match &run.violation {
            Some(violation) => {
                writeln!(out, "seed {} BROKE {violation}", run.seed)?;
                run.last_lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
                writeln!(out, "  replay: {}", replay(run.seed, &options(dst)))?;
            }
            None if dst.seeds <= 20 => tell_run(&mut out, run)?,
            None => (),
        }
    }
    let modes: Vec<String> = report.modes.iter().map(|(mode, seeds)| format!("{mode} {seeds}")).collect();
    writeln!(
        out,
        "modes: {}; links cut one way, flapping or swizzled: {}",
        modes.join(", "),
        report.seeds_with_odd_links
    )?;
    for (what, counts) in
        [("operations", &report.operations_by_kind), ("faults", &report.faults_by_kind), ("paths", &report.paths)]
    {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "{what}: {}", counts.join(", "))?;
    }
    if !report.missing.is_empty() {
        writeln!(out, "NEVER CAME UP in {} seeds: {}", report.seeds, report.missing.join(", "))?;
    }
    if let Some(shrunk) = &report.shrunk {
        let Shrunk { seed, tries, operations, faults, nodes, replay } = shrunk;
        writeln!(
            out,
            "seed {seed} still breaks with {operations} operations, {faults} faults, {nodes} nodes ({tries} tries)"
        )?;
        writeln!(out, "  replay: {replay}")?;
    }
    let Report { seeds, events, recounts, operations, faults, virtual_seconds, seconds, .. } = report;
    let failed = report.failed.len();
    writeln!(
        out,
        "{seeds} seeds, {failed} failed, {events} events, {recounts} recounts, {operations} operations, {faults} faults, \
         {virtual_seconds:.0} virtual seconds in {seconds:.1} seconds",
    )
}

fn tell_run(out: &mut impl Write, run: &Run) -> std::io::Result<()> {
    let Run { seed, code, nodes, events, operations, in_vain, extents, virtual_ms, trace_hash, .. } = run;
    let (mode, faults, minutes) = (run.mode.as_str(), run.faults(), *virtual_ms as f64 / 60_000.0);
    writeln!(
        out,
        "seed {seed}: {mode}, {code} on {nodes} nodes, {operations} operations ({in_vain} in vain), {faults} faults, {extents} extents, \
         {events} events in {minutes:.1} virtual minutes, trace {trace_hash:016x}"
    )
}
