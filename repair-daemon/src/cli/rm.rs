//! `ninefold rm NAME`.

use super::cell::CellArguments;
use super::put::check_name;
use super::{Outcome, print, print_json};
use crate::client::Cell;
use crate::files::FilesError;
use crate::files::error::name_shown;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// A stored name.
    name: OsString,
    /// Remove every name under NAME/ too.
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    name: String,
    removed: u64,
}

impl Rm {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let name = self.name.into_vec();
        check_name(&name)?;
        let cell = self.cell.open()?;
        let removed = remove(&cell, &name, self.recursive)?;
        if removed == 0 {
            return Err(FilesError::NoSuchName(name));
        }
        if self.json {
            print_json(&Report { schema: 1, name: name_shown(&name), removed })?;
        } else {
            print(&format!("removed {removed} {}\n", if removed == 1 { "name" } else { "names" }))?;
        }
        Ok(Outcome::Done)
    }
}

fn remove(cell: &Cell, name: &[u8], recursive: bool) -> Result<u64, FilesError> {
    let mut removed = u64::from(cell.remove(name)?);
    if recursive {
        // Listed first: names that come meanwhile are not meant.
        for stored in cell.names(&[name, b"/"].concat())? {
            removed += u64::from(cell.remove_stored(&stored.name, &stored.row)?);
        }
    }
    Ok(removed)
}
