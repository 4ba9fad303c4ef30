//! `ninefold decode DIR --out FILE`.

use super::staging::folders_of;
use super::{Outcome, human_bytes, note, print, print_json, report};
use crate::files::check::check_payloads;
use crate::files::decode::{check_stream, decode_stream};
use crate::files::error::shown;
use crate::files::scan::{Scan, StreamView, scan};
use crate::files::staged::{Replace, StagedFile, folder_of, sync_folder};
use crate::files::{FilesError, Work};
use ec_core::fragment::{Class, StreamId};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `decode`.
#[derive(Debug, clap::Args)]
pub struct Decode {
    /// Folder of fragments.
    dir: PathBuf,
    /// The file to write. It must not exist, or be empty.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file, once the new one is proven.
    #[arg(long)]
    force: bool,
    /// Which stream, by name or id, where the folder holds several.
    #[arg(long, value_name = "NAME|ID")]
    stream: Option<String>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Decode {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        check_folder(&self.dir)?;
        let replace = self.may_replace()?;
        let folders = folders_of(&self.dir);
        let work = super::work("decode")?;
        let started = Instant::now();
        let mut found = scan(&work, &folders)?;
        let (id, stream) = choose(&found, self.stream.as_deref(), &self.dir)?;
        // A further copy may be good where the first one is not: that takes reading them all.
        let copies = found.extras.iter().any(|extra| extra.class == Class::Surplus);
        if copies && check_stream(&found, id).is_err() {
            check_payloads(&work, &mut found)?;
        }
        // Before room is made for the bytes: how many there are may itself be a lie of damaged fragments.
        let bytes = check_stream(&found, id)?;
        let output = StagedFile::new(folder_of(&self.out), bytes)?;
        let sink = |offset, bytes: &[u8]| {
            output.file().write_all_at(bytes, offset).map_err(FilesError::io(&self.out, "write"))
        };
        work.progress().set_length(found.payload_bytes());
        let decoded = match decode_stream(&work, &found, id, &sink) {
            Err(FilesError::Unrecoverable(_)) if copies => {
                check_payloads(&work, &mut found)?;
                decode_stream(&work, &found, id, &sink)
            }
            decoded => decoded,
        }?;
        finish(&work, output, decoded.bytes, &self.out, replace)?;
        work.progress().finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let report = report::Decoded::new(&found, id, &stream, &decoded, &self.out, seconds);
        if self.json {
            print_json(&report)?;
        } else {
            print(&format!(
                "{}: {} from {} extents; {} fragments missing, {} damaged, {} rebuilt; every byte matches its hash\n",
                shown(&self.out),
                human_bytes(report.bytes),
                report.extents,
                report.missing_fragments,
                report.damaged_fragments,
                report.rebuilt_fragments,
            ))?;
        }
        Ok(Outcome::Done)
    }

    fn may_replace(&self) -> Result<Replace, FilesError> {
        match fs::symlink_metadata(&self.out) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Replace::Never),
            Err(error) => Err(FilesError::Usage(format!("{}: cannot be written: {error}", shown(&self.out)))),
            Ok(metadata) if metadata.is_file() && (metadata.len() == 0 || self.force) => Ok(Replace::Existing),
            Ok(metadata) if metadata.is_file() => {
                Err(FilesError::Usage(format!("{}: exists; name another file or say --force", shown(&self.out))))
            }
            Ok(_) => Err(FilesError::Usage(format!("{}: exists and is not a regular file", shown(&self.out)))),
        }
    }
}

fn finish(work: &Work, mut output: StagedFile, bytes: u64, path: &Path, replace: Replace) -> Result<(), FilesError> {
    // An empty stream has no slices, and nothing else would set the length.
    output.file().file().set_len(bytes).map_err(FilesError::io(path, "write"))?;
    output.sync()?;
    work.check_stop()?;
    output.publish(path, replace)?;
    sync_folder(folder_of(path))
}

/// Refuses what is no folder, with the reason.
pub(super) fn check_folder(dir: &Path) -> Result<(), FilesError> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(FilesError::Usage(format!("{}: is not a folder of fragments", shown(dir)))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(FilesError::Usage(format!("{}: no such folder", shown(dir))))
        }
        Err(error) => Err(FilesError::io(dir, "look at")(error)),
    }
}

/// The stream asked for, or the one to which most of the folder belongs.
fn choose(found: &Scan, wanted: Option<&str>, dir: &Path) -> Result<(StreamId, StreamView), FilesError> {
    let mut named = found.streams.iter().filter(|(id, stream)| {
        wanted.is_none_or(|wanted| stream.name == wanted.as_bytes() || id.to_string() == wanted)
    });
    let first = named.next();
    let several = named.next().is_some();
    match (first, wanted) {
        (Some((id, stream)), _) if !several => Ok((*id, stream.clone())),
        (None, Some(wanted)) if !found.streams.is_empty() => {
            Err(FilesError::Usage(format!("no stream \"{wanted}\"; there are: {}", stream_list(found))))
        }
        (None, _) => Err(FilesError::Unrecoverable(format!(
            "{}: no readable fragments ({} damaged, {} other files)",
            shown(dir),
            found.extras.len(),
            found.ignored
        ))),
        (Some(_), Some(wanted)) => Err(FilesError::Usage(format!(
            "several streams are named \"{wanted}\", say which id: {}",
            stream_list(found)
        ))),
        (Some(_), None) => {
            let (main, stream) = found.main_stream().ok_or_else(|| {
                FilesError::Usage(format!("several streams; say which with --stream: {}", stream_list(found)))
            })?;
            note(&format!("several streams, decoding the one with most fragments; there are: {}", stream_list(found)));
            Ok((main, stream.clone()))
        }
    }
}

fn stream_list(found: &Scan) -> String {
    let describe = |(id, stream): (&StreamId, &StreamView)| {
        format!("{id} \"{}\" ({} fragments)", report::printable(&stream.name), stream.fragments_found)
    };
    found.streams.iter().map(describe).collect::<Vec<_>>().join(", ")
}
