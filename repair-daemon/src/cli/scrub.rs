//! `ninefold scrub`.

use super::cell::CellArguments;
use super::{Outcome, print, print_json};
use crate::files::FilesError;
use repair_core::id::{ExtentKey, PgId};
use repair_core::wire::daemon::Subject;

/// Arguments of `scrub`.
#[derive(Debug, clap::Args)]
pub struct Scrub {
    /// Instead of each fragment by itself, compare the fragments of every extent with each other: is parity what the code makes
    /// of the data? Reads everything once.
    #[arg(long)]
    audit: bool,
    /// Audit the extents of this placement group only.
    #[arg(long, value_name = "ID", requires = "audit", conflicts_with = "extent")]
    pg: Option<u32>,
    /// Audit this extent only.
    #[arg(long, value_name = "ID", requires = "audit", value_parser = extent_of)]
    extent: Option<ExtentKey>,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

fn extent_of(text: &str) -> Result<ExtentKey, String> {
    text.parse().map_err(|_| "no extent's id".to_owned())
}

impl Scrub {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let cell = self.cell.open()?;
        let said = if self.audit {
            cell.audit(self.pg.map(PgId).map(Subject::Pg).or(self.extent.map(Subject::Extent)))?;
            "the extents are audited one after the other, from now on, while nothing is to be repaired; \
             `ninefold events` and `ninefold status` say what is found\n"
        } else {
            cell.scrub()?;
            "every node in reach checks its fragments now; `ninefold events` and `ninefold status` say what is found\n"
        };
        if self.json {
            print_json(&serde_json::json!({ "schema": 1, "begun": true }))?;
        } else {
            print(said)?;
        }
        Ok(Outcome::Done)
    }
}
