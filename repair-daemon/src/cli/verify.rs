//! `ninefold verify DIR`.

use super::decode::check_folder;
use super::staging::folders_of;
use super::{Outcome, print, print_json, report};
use crate::files::FilesError;
use crate::files::check::check_payloads;
use crate::files::error::printable;
use crate::files::scan::scan;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Folder of fragments.
    dir: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        check_folder(&self.dir)?;
        let work = super::work("verify")?;
        let mut found = scan(&work, &folders_of(&self.dir))?;
        work.progress().set_length(found.payload_bytes());
        check_payloads(&work, &mut found)?;
        work.progress().finish_and_clear();
        let report = report::Verified::new(&found);
        if self.json {
            print_json(&report)?;
        } else {
            print(&table(&report))?;
        }
        Ok(if found.is_whole() { Outcome::Done } else { Outcome::DamageFound })
    }
}

/// What is not healthy, line by line, and one line in all.
fn table(report: &report::Verified) -> String {
    let mut text = String::new();
    let mut healthy = 0;
    for extent in &report.extents {
        healthy += extent.fragments.iter().filter(|fragment| fragment.class == "healthy").count();
        let bad: Vec<_> = extent.fragments.iter().filter(|fragment| fragment.class != "healthy").collect();
        if !bad.is_empty() || !extent.decodable {
            let decodable = if extent.decodable { "decodable" } else { "NOT DECODABLE" };
            let _ =
                writeln!(text, "extent {} {decodable}, {} of {} fragments usable", extent.id, extent.usable, extent.n);
        }
        for fragment in bad {
            let index = fragment.index.map_or_else(|| "?".to_owned(), |index| index.to_string());
            let _ = writeln!(
                text,
                "  {index:>5} {:<16} {}: {}",
                fragment.class,
                printable(&fragment.path),
                fragment.reason
            );
        }
    }
    for stream in report.streams.iter().filter(|stream| stream.fault.is_some()) {
        let fault = stream.fault.as_deref().unwrap_or_default();
        let _ = writeln!(text, "stream {} \"{}\" is not whole: {fault}", stream.id, stream.name);
    }
    let _ = writeln!(
        text,
        "{} extents, {healthy} healthy fragments, {} that are not as they should be, {} extents not decodable",
        report.extents.len(),
        report.imperfect_fragments,
        report.extents.iter().filter(|extent| !extent.decodable).count()
    );
    text
}
