//! `ninefold get NAME OUT`.

use super::cell::CellArguments;
use super::put::check_name;
use super::{Outcome, human_bytes, print, print_json};
use crate::client::{Fetched, fetch};
use crate::files::FilesError;
use crate::files::error::{name_shown, shown};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// A stored name, or the beginning of some up to a slash.
    name: OsString,
    /// The file to write, replaced once the new one is whole; or the folder, which must not exist or be empty.
    out: PathBuf,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was got.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    name: String,
    out: String,
    files: u64,
    bytes: u64,
    /// Payload that came from files of nodes on this host.
    local_bytes: u64,
    seconds: f64,
}

impl Get {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let name = self.name.into_vec();
        check_name(&name)?;
        let cell = self.cell.open()?;
        let progress = super::progress_bar("get");
        let started = Instant::now();
        let Fetched { files, bytes } = fetch(&cell, &name, &self.out, &progress)?;
        progress.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let (shown_name, out) = (name_shown(&name), shown(&self.out));
        if self.json {
            let local_bytes = cell.local_bytes();
            print_json(&Report { schema: 1, name: shown_name, out, files, bytes, local_bytes, seconds })?;
        } else {
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            print(&format!("{out}: {files}, {}, {seconds:.3} s\n", human_bytes(bytes)))?;
        }
        Ok(Outcome::Done)
    }
}
