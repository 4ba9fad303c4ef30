//! `ninefold inspect FRAGMENT`.

use super::{Outcome, print, print_json, report};
use crate::files::FilesError;
use crate::files::error::shown;
use crate::files::fragment_file::FragmentFile;
use ec_core::fragment::Class;
use std::path::PathBuf;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// A fragment file.
    fragment: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let work = super::work("inspect")?;
        let (fragment, class, reason) = match FragmentFile::open(&self.fragment)? {
            Ok(fragment) => match fragment.check_payload(&work)? {
                Ok(()) => (Some(fragment), Class::Healthy, String::new()),
                Err((class, reason)) => (Some(fragment), class, reason),
            },
            Err((Class::Missing, _)) => {
                return Err(FilesError::Usage(format!("{}: no such file", shown(&self.fragment))));
            }
            Err((class, reason)) => (None, class, reason),
        };
        let report = report::Inspected::new(&self.fragment, fragment.as_ref(), class, &reason);
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
        Ok(if class == Class::Healthy { Outcome::Done } else { Outcome::DamageFound })
    }
}
