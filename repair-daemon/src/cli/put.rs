//! `ninefold put PATH [NAME]`.

use super::cell::CellArguments;
use super::{Outcome, human_bytes, note, print, print_json};
use crate::client::{Cell, PutSummary, list_folder};
use crate::files::FilesError;
use crate::files::error::{name_shown, shown};
use crate::files::source::{ByteSource, FileSource};
use crate::pack::PackSource;
use indicatif::ProgressBar;
use repair_core::limits::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
pub struct Put {
    /// A regular file, or a folder whose regular files are stored under NAME/. All small files of one call share extents.
    path: PathBuf,
    /// What to store it as; without it the last part of PATH. What has that name is replaced, once the new is whole.
    name: Option<OsString>,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was put.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    name: String,
    files: u64,
    bytes: u64,
    streams: Vec<String>,
    extents: u64,
    /// Entries of other kinds that were not stored.
    skipped: u64,
    /// Not every fragment was stored yet; the daemon makes up for it.
    degraded: bool,
    seconds: f64,
}

impl Put {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let name = self.name()?;
        let is_folder = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_dir());
        let cell = self.cell.open()?;
        let progress = super::progress_bar("put");
        let started = Instant::now();
        let mut report = Report {
            schema: 1,
            name: name_shown(&name),
            files: 0,
            bytes: 0,
            streams: Vec::new(),
            extents: 0,
            skipped: 0,
            degraded: false,
            seconds: 0.0,
        };
        if is_folder {
            put_folder(&cell, &self.path, &name, &progress, &mut report)?;
        } else {
            let source = FileSource::open(&self.path)?;
            progress.set_length(source.bytes());
            report.add(1, source.bytes(), &cell.put_file(&name, &source, &progress)?);
        }
        progress.finish_and_clear();
        report.seconds = started.elapsed().as_secs_f64();
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
        Ok(Outcome::Done)
    }

    fn name(&self) -> Result<Vec<u8>, FilesError> {
        let name = match (&self.name, self.path.file_name()) {
            (Some(name), _) => name.clone().into_vec(),
            (None, Some(last)) => last.as_bytes().to_vec(),
            (None, None) => {
                return Err(FilesError::Usage(format!("{}: has no last part; say a NAME", shown(&self.path))));
            }
        };
        check_name(&name)?;
        Ok(name)
    }
}

/// Refuses what no stored file can be named, with the reason.
pub(super) fn check_name(name: &[u8]) -> Result<(), FilesError> {
    let refuse = |why: String| Err(FilesError::Usage(format!("{:?} cannot be a name: {why}", name_shown(name))));
    if name.is_empty() {
        return refuse("it is empty".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!("it has {} bytes, at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    if name.contains(&0) {
        return refuse("it has a zero byte".into());
    }
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" => return refuse("it begins or ends with a slash, or has two side by side".into()),
            b"." | b".." => return refuse(format!("a part of it is \"{}\"", name_shown(part))),
            _ if part.len() > NAME_PART_BYTES_MAX => {
                let bytes = part.len();
                return refuse(format!("a part of it has {bytes} bytes, at most {NAME_PART_BYTES_MAX} are allowed"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn put_folder(
    cell: &Cell,
    path: &Path,
    name: &[u8],
    progress: &ProgressBar,
    report: &mut Report,
) -> Result<(), FilesError> {
    let listing = list_folder(path, &|| cell.check_stop())?;
    report.skipped = listing.skipped_count();
    if report.skipped > 0 {
        note(&format!("{}: skipped {}", shown(path), listing.skipped_words()));
    }
    for file in &listing.files {
        check_name(&[name, file.name()].join(&b'/'))?;
    }
    let packs = PackSource::packs(listing.files).map_err(|error| FilesError::Usage(error.to_string()))?;
    progress.set_length(packs.iter().map(ByteSource::bytes).sum());
    for pack in &packs {
        let files = pack.files();
        let bytes = files.iter().map(|file| file.bytes()).sum();
        report.add(files.len() as u64, bytes, &cell.put_pack(name, pack, progress)?);
    }
    Ok(())
}

impl Report {
    fn add(&mut self, files: u64, bytes: u64, summary: &PutSummary) {
        self.files += files;
        self.bytes += bytes;
        self.streams.push(summary.stream.to_string());
        self.extents += summary.extents;
        self.degraded |= summary.degraded;
    }

    fn text(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let degraded = if self.degraded { "; some fragments are still to be rebuilt" } else { "" };
        format!(
            "{}: {files}, {} in {} extent{}, {:.3} s{degraded}\n",
            self.name,
            human_bytes(self.bytes),
            self.extents,
            if self.extents == 1 { "" } else { "s" },
            self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_astray_are_refused_and_odd_ones_are_not() {
        let longest_part = "x".repeat(255);
        for name in ["a", "a/b", "...", "a b", "a\nb", "å", longest_part.as_str()] {
            assert!(check_name(name.as_bytes()).is_ok(), "{name:?}");
        }
        assert!(check_name(b"\xff").is_ok());
        let (long_part, long) = ("x".repeat(256), "x/".repeat(2048) + "x");
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b", &long_part, &long] {
            assert!(matches!(check_name(name.as_bytes()), Err(FilesError::Usage(_))), "{name:?}");
        }
    }
}
