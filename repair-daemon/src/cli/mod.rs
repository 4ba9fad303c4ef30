//! What a user types and what comes back: arguments, exit codes, tables, JSON, progress.
//!
//! Exit codes: 0 done, 1 damage or difference found or data not recoverable, 2 wrong use, 3 could not be done. With `--json`
//! standard output holds one object and nothing else; everything for people goes to standard error then.

mod bench;
mod can_stop;
mod cell;
mod code;
mod daemon;
mod decode;
mod demo;
mod drain;
mod encode;
mod events;
mod explain;
mod get;
mod inspect;
mod ls;
mod maintenance;
mod node;
mod node_store;
mod put;
mod repair;
mod report;
mod rm;
mod scrub;
mod staging;
mod status;
mod verify;

use crate::files::{FilesError, Work};
use clap::{Parser, Subcommand};
use ec_core::{CodeError, Kernel};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const EXIT_HELP: &str = "Exit codes: 0 done, 1 damage found or data not recoverable, 2 wrong use, 3 could not be done.
NINEFOLD_KERNEL=NAME forces a way to compute; a wrong name lists those this machine has.";

/// Erasure-coded files over fault domains: encode, verify, repair, decode; prove every byte.
#[derive(Debug, Parser)]
#[command(name = "ninefold", version, after_help = EXIT_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the main job on real files: start a cell, store them in it, kill nodes, watch it rebuild, prove every byte.
    Demo(demo::Demo),
    /// Cut FILE into fragments of which some may be lost.
    Encode(encode::Encode),
    /// Get the file back from a folder of fragments.
    Decode(decode::Decode),
    /// Read every fragment in a folder and name the state of each.
    Verify(verify::Verify),
    /// Rebuild what is lost or damaged in a folder of fragments.
    Repair(repair::Repair),
    /// Show what one fragment file says about itself.
    Inspect(inspect::Inspect),
    /// Show what a code costs and survives.
    Code(code::CodeCommand),
    /// Measure how fast this machine encodes and rebuilds, beside what its memory and its processor allow.
    Bench(bench::BenchCommand),
    /// Run the daemon of a cell.
    Daemon(daemon::DaemonCommand),
    /// Run a storage node.
    Node(node::NodeCommand),
    /// Store a file, or all files of a folder, in the cell.
    Put(put::Put),
    /// Get a stored file, or all files under a name, back from the cell.
    Get(get::Get),
    /// List stored names.
    Ls(ls::Ls),
    /// Remove stored names.
    Rm(rm::Rm),
    /// Show how the cell is: nodes, redundancy, repairs, what it waits for.
    Status(status::Status),
    /// Show why an extent, a placement group, a node or a disk is as it is.
    Explain(explain::Explain),
    /// Show what happened in the cell.
    Events(events::Events),
    /// Have every node check every fragment it holds now.
    Scrub(scrub::Scrub),
    /// Move everything on a node elsewhere, while it still gives what it has.
    Drain(drain::Drain),
    /// Let a node be away for a while without being taken for lost.
    Maintenance(maintenance::Maintenance),
    /// Say whether all data could be read if these nodes were stopped now: 0 yes, 1 no.
    CanStop(can_stop::Nodes),
    /// Say what would be done if these nodes were lost now, and do nothing.
    Drill(can_stop::Nodes),
    /// Let repairs wait that are not urgent.
    Pause(maintenance::Pause),
    /// Let repairs go on.
    Resume(maintenance::Pause),
}

/// What a command that did not fail has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    DamageFound,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap knows which stream each belongs to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match arguments.command {
        Command::Demo(command) => command.run(),
        Command::Encode(command) => command.run(),
        Command::Decode(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Repair(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Code(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Daemon(command) => command.run(),
        Command::Node(command) => command.run(),
        Command::Put(command) => command.run(),
        Command::Get(command) => command.run(),
        Command::Ls(command) => command.run(),
        Command::Rm(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Scrub(command) => command.run(),
        Command::Drain(command) => command.run(),
        Command::Maintenance(command) => command.run(),
        Command::CanStop(command) => command.can_stop(),
        Command::Drill(command) => command.drill(),
        Command::Pause(command) => command.run(true),
        Command::Resume(command) => command.run(false),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::DamageFound) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ninefold: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A stop flag that Ctrl-C and a polite kill set. The command then undoes what is not finished and ends.
fn stop_flag() -> Result<Arc<AtomicBool>, FilesError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(FilesError::io(&PathBuf::from("signals"), "be told of"))?;
    }
    Ok(stop)
}

/// The context of a file command. The bar is drawn on standard error, if that is a terminal.
fn work(label: &'static str) -> Result<Work, FilesError> {
    work_until(label, &stop_flag()?)
}

/// The same, with a stop flag of the caller's.
fn work_until(label: &'static str, stop: &Arc<AtomicBool>) -> Result<Work, FilesError> {
    // A wrong or broken kernel must not pass for damage later.
    Kernel::selected().map_err(CodeError::from)?;
    raise_open_files_limit();
    Work::new(Arc::clone(stop), progress_bar(label))
}

/// A bar of bytes, drawn on standard error if that is a terminal.
fn progress_bar(label: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(0),
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    if let Ok(style) =
        ProgressStyle::with_template("{msg:<9} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(label);
    bar
}

/// Runs a server until it ends. What it left under way ends with it.
fn serve(threads: usize, server: impl Future<Output = Result<(), FilesError>>) -> Result<Outcome, FilesError> {
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(FilesError::io(Path::new("runtime"), "start"))?;
    let ended = runtime.block_on(server);
    runtime.shutdown_background();
    ended.map(|()| Outcome::Done)
}

/// Several extents of a wide code in work at once hold more files open than the usual soft limit of 1,024.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Not raising it only makes a wide code fail with the system's own message.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> Result<(), FilesError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(FilesError::Report(error)),
        _ => Ok(()),
    }
}

/// Prints one JSON object.
fn print_json(report: &impl serde::Serialize) -> Result<(), FilesError> {
    let mut text = serde_json::to_string_pretty(report).map_err(FilesError::internal)?;
    text.push('\n');
    print(&text)
}

/// Tells a person something that is not the result.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Bytes in a form for people.
fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
