//! Questions before a plug is pulled: `ninefold can-stop NODE...` and `ninefold drill NODE...`.

use super::cell::{CellArguments, as_text};
use super::{Outcome, print, print_json};
use crate::files::FilesError;

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Nodes {
    /// Nodes, by domain or the last part of it, disks' ids, or whole domains as region/zone/rack.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the answer as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Nodes {
    pub(super) fn can_stop(self) -> Result<Outcome, FilesError> {
        let answer = self.cell.open()?.can_stop(&self.nodes)?;
        let may = answer["can_stop"] == true;
        if self.json {
            print_json(&answer)?;
        } else {
            let verdict =
                if may { "yes: all data can be read without" } else { "NO: not all data can be read without" };
            print(&format!("{verdict} {}\n{}", self.nodes.join(", "), as_text(&answer)))?;
        }
        Ok(if may { Outcome::Done } else { Outcome::DamageFound })
    }

    pub(super) fn drill(self) -> Result<Outcome, FilesError> {
        let plan = self.cell.open()?.drill(&self.nodes)?;
        if self.json {
            print_json(&plan)?;
        } else {
            print(&as_text(&plan))?;
        }
        Ok(Outcome::Done)
    }
}
