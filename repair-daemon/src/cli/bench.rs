//! `ninefold bench`.

use super::{Outcome, note, print, print_json};
use crate::bench;
use crate::files::FilesError;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct BenchCommand {
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// Spend a tenth of the time and a quarter of the memory: figures are rough.
    #[arg(long)]
    quick: bool,
}

impl BenchCommand {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let report = bench::run(self.quick, &note)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.table())?;
        }
        Ok(Outcome::Done)
    }
}
