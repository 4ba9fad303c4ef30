//! `ninefold-sim`: simulations from the command line.

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use simulator::exact::{Options, Run, run};
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
    /// Runs the service's own machines in virtual time with faults, seed by seed. Exit 1 where an invariant broke.
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
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Print everything that happens, on stderr. One thread.
    #[arg(long)]
    trace: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    seeds: u64,
    failed: Vec<Failure>,
    events: u64,
    operations: u64,
    faults: u64,
    virtual_seconds: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Failure {
    seed: u64,
    invariant: String,
    what: String,
    replay: String,
}

fn main() -> ExitCode {
    let Command::Dst(dst) = Cli::parse().command;
    let began = Instant::now();
    let runs = run_all(&dst);
    let report = report(&dst, &runs, began.elapsed().as_secs_f64());
    let told = if dst.json { tell_json(&report) } else { tell(&dst, &runs, &report) };
    match told {
        Err(_) => ExitCode::from(3),
        Ok(()) if report.failed.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
    }
}

/// Runs the seeds on all cores; the result does not depend on their number.
fn run_all(dst: &Dst) -> Vec<Run> {
    let threads = if dst.trace { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
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
                    let seed = dst.first_seed.wrapping_add(at);
                    let options = Options { prints: dst.trace, mutation: None };
                    let done = run(seed, options);
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

fn replay(seed: u64) -> String {
    format!("ninefold-sim dst --seeds 1 --first-seed {seed} --trace")
}

fn report(dst: &Dst, runs: &[Run], seconds: f64) -> Report {
    let failure = |run: &Run| {
        run.violation.as_ref().map(|violation| Failure {
            seed: run.seed,
            invariant: violation.invariant.to_string(),
            what: violation.what.clone(),
            replay: replay(run.seed),
        })
    };
    Report {
        schema: 1,
        seeds: dst.seeds,
        failed: runs.iter().filter_map(failure).collect(),
        events: runs.iter().map(|run| run.events).sum(),
        operations: runs.iter().map(|run| run.operations).sum(),
        faults: runs.iter().map(|run| run.faults).sum(),
        virtual_seconds: runs.iter().map(|run| run.virtual_ms as f64 / 1000.0).sum(),
        seconds,
    }
}

fn tell_json(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    writeln!(out)
}

fn tell(dst: &Dst, runs: &[Run], report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for run in runs {
        let Some(violation) = &run.violation else {
            if dst.seeds <= 20 {
                let Run { seed, code, events, operations, in_vain, faults, extents, virtual_ms, trace_hash, .. } = run;
                let seconds = *virtual_ms as f64 / 1000.0;
                writeln!(
                    out,
                    "seed {seed}: {code}, {operations} operations ({in_vain} in vain), {faults} faults, {extents} extents, \
                     {events} events in {seconds:.1} virtual seconds, trace {trace_hash:016x}"
                )?;
            }
            continue;
        };
        writeln!(out, "seed {} BROKE {violation}", run.seed)?;
        run.last_lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
        writeln!(out, "  replay: {}", replay(run.seed))?;
    }
    writeln!(
        out,
        "{} seeds, {} failed, {} events, {} operations, {} faults, {:.0} virtual seconds in {:.1} seconds",
        report.seeds,
        report.failed.len(),
        report.events,
        report.operations,
        report.faults,
        report.virtual_seconds,
        report.seconds
    )
}
