//! `ninefold demo [PATH]`.

use super::{Outcome, note, print, print_json};
use crate::demo::{self, Options, Voice};
use crate::files::FilesError;
use ec_core::CodeSpec;
use std::path::PathBuf;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The folder whose files to protect; they are only read. Left out are .git, PATH/target and folders marked by cargo.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// For example rs:10+4. Without it, chosen by the racks left after --kill.
    #[arg(long, value_name = "SPEC")]
    code: Option<String>,
    /// Storage nodes, 3 to 1024; each is a process.
    #[arg(long, value_name = "N", default_value_t = 20)]
    nodes: usize,
    /// Racks they stand in; without it each has its own.
    #[arg(long, value_name = "N")]
    racks: Option<usize>,
    /// Nodes to kill.
    #[arg(long, value_name = "N", default_value_t = 2)]
    kill: usize,
    /// Keep the data of daemon and nodes in DIR (new or empty). Without it they lie in a temporary folder until the end.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the result as one JSON object; what happens meanwhile goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let code = self.code.as_deref().map(str::parse::<CodeSpec>).transpose()?;
        let options = Options {
            path: self.path,
            nodes: self.nodes,
            racks: self.racks.unwrap_or(self.nodes),
            kill: self.kill,
            code,
            keep: self.keep,
        };
        let stop = super::stop_flag()?;
        let work = super::work_until("put", &stop)?;
        let tell = |text: &str| {
            if self.json {
                note(text);
                return Ok(());
            }
            print(&format!("{text}\n"))
        };
        let report = demo::run(&work, stop, &options, &Voice { tell: &tell, warn: &note })?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.table())?;
        }
        Ok(if report.is_good() { Outcome::Done } else { Outcome::DamageFound })
    }
}
