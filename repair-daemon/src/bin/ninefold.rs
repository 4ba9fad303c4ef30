//! The `ninefold` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    repair_daemon::cli::main()
}
