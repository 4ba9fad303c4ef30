//! `ninefold scrub`.

use super::cell::CellArguments;
use super::{Outcome, print, print_json};
use crate::files::FilesError;

/// Arguments of `scrub`.
#[derive(Debug, clap::Args)]
pub struct Scrub {
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Scrub {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        self.cell.open()?.scrub()?;
        if self.json {
            print_json(&serde_json::json!({ "schema": 1, "begun": true }))?;
        } else {
            print(
                "every node in reach checks its fragments now; `ninefold events` and `ninefold status` say what is found\n",
            )?;
        }
        Ok(Outcome::Done)
    }
}
