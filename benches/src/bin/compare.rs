//! Prints what ec-core reaches beside the other libraries, and what it aims at: `cargo run --release -p benches --bin compare`.

use benches::cases::{self, Bench};
use benches::machine;
use benches::measure::{Budget, Spread};
use benches::pool::Pool;
use benches::report::{Aim, LeftOut, Line, Report, Unit};
use clap::Parser;
use ec_core::Kernel;
use std::process::ExitCode;
use std::time::Duration;

/// ec-core beside other erasure coders, interleaved, on one core. GB/s are 10^9 bytes of data per second.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only see that everything runs and every rival is right: its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// One JSON object on standard output; lines for people go to standard error.
    #[arg(long)]
    json: bool,
    /// Only rows whose name contains this.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// The core to stay on; without it the first this process may use.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

/// At least four times the last cache of the machines this was written for.
const COLD_BYTES: usize = 1 << 30;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("compare: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let kernel = Kernel::selected().map_err(|error| error.to_string())?;
    let mut cores = machine::cores();
    if let Some(core) = arguments.core {
        cores.retain(|&it| it != core);
        cores.insert(0, core);
    }
    let core = cores.first().copied().filter(|&core| machine::pin(&[core]));
    if arguments.core.is_some() && core.is_none() {
        return Err("this process may not use that core".into());
    }
    let say = |text: &str| if arguments.json { eprint!("{text}") } else { print!("{text}") };
    let cpu = machine::cpu_name();
    say(&format!("{cpu}, kernel {}, core {core:?}\n", kernel.name()));
    let checked = cases::check_rivals()?;
    say(&format!("every rival is right: {checked} codes encoded and rebuilt\n"));

    let mut bench = bench(arguments.quick, cores);
    let mut report = Report {
        schema: 1,
        cpu,
        kernel: kernel.name(),
        core,
        rounds: bench.hot.rounds,
        cold_bytes: cold_bytes(arguments.quick),
        lines: Vec::new(),
        left_out: Vec::new(),
    };
    say(&Line::heading());
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|pattern| name.contains(pattern.as_str()));
    let mut keep = |line: Line| {
        say(&line.text());
        report.lines.push(line);
    };
    for kernel in Kernel::available() {
        let name = format!("start-up self-test, {}", kernel.name());
        if wanted(&name) {
            keep(self_test(name, kernel)?);
        }
    }
    for case in cases::all().into_iter().filter(|case| wanted(&case.name)) {
        match (case.run)(&mut bench) {
            Ok(lines) => lines.into_iter().for_each(&mut keep),
            Err(reason) => {
                say(&format!("{}: left out: {reason}\n", case.name));
                report.left_out.push(LeftOut { workload: case.name, reason });
            }
        }
    }
    if report.lines.is_empty() && report.left_out.is_empty() {
        return Err(format!("no row contains \"{}\"", arguments.only.as_deref().unwrap_or_default()));
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        println!("{text}");
    }
    Ok(())
}

/// More would be noticed by every short program.
const SELF_TEST_MICROS_MAX: f64 = 5000.0;

/// All that a program with this kernel goes through at its start. The best of many runs is the one that was disturbed least: if even
/// that takes too long, the run ends with an error.
fn self_test(name: String, kernel: Kernel) -> Result<Line, String> {
    const RUNS: usize = 20;
    let mut micros = Vec::new();
    for _ in 0..RUNS {
        let begin = machine::thread_time();
        kernel.self_test().map_err(|error| error.to_string())?;
        micros.push((machine::thread_time() - begin).as_secs_f64() * 1e6);
    }
    let taken = Spread::of(micros);
    if taken.min > SELF_TEST_MICROS_MAX {
        return Err(format!("{name} takes {:.0} us at best, which is more than {SELF_TEST_MICROS_MAX:.0}", taken.min));
    }
    Ok(Line::new(name, Unit::Micros, taken, None, Aim::Micros(SELF_TEST_MICROS_MAX)))
}

fn cold_bytes(quick: bool) -> usize {
    if quick { COLD_BYTES / 4 } else { COLD_BYTES }
}

fn bench(quick: bool, cores: Vec<usize>) -> Bench {
    let millis = Duration::from_millis;
    let (hot, cold) = if quick {
        (Budget { rounds: 2, visit: millis(1) }, Budget { rounds: 2, visit: millis(1) })
    } else {
        // Odd, so that the median is a measured value. A cold visit is several stripes of most codes.
        (Budget { rounds: 15, visit: millis(8) }, Budget { rounds: 11, visit: millis(40) })
    };
    Bench { pool: Pool::new(cold_bytes(quick)), hot, cold, cores }
}
