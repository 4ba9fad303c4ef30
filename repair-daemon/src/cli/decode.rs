//! `ninefold decode DIR --out FILE`.

use super::staging::finish_abandoned;
use super::{Outcome, human_bytes, note, print, print_json, report};
use crate::files::decode::decode_stream;
use crate::files::error::shown;
use crate::files::scan::{Scan, StreamView, scan};
use crate::files::staged::{Replace, StagedFile, folder_of, sync_folder};
use crate::files::{FilesError, Work};
use ec_core::fragment::StreamId;
use std::fs;
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
        let work = super::work("decode")?;
        let started = Instant::now();
        let found = scan(&work, std::slice::from_ref(&self.dir))?;
        let (id, stream) = choose(&found, self.stream.as_deref(), &self.dir)?;
        let output = StagedFile::new(folder_of(&self.out), stream.bytes.unwrap_or(0))?;
        work.progress().set_length(found.payload_bytes());
        let decoded = decode_stream(&work, &found, id, &|offset, bytes| {
            output.file().write_all_at(bytes, offset).map_err(FilesError::io(&self.out, "write"))
        })?;
        finish(&work, output, decoded.bytes, &self.out, replace)?;
        work.progress().finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let report = report::Decoded::new(&found, id, stream, &decoded, &self.out, seconds);
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
            Err(_) => Ok(Replace::Never),
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

/// Refuses what is no folder, with the reason, and finishes what a killed encode left in it.
pub(super) fn check_folder(dir: &Path) -> Result<(), FilesError> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(FilesError::Usage(format!("{}: is not a folder of fragments", shown(dir)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(FilesError::Usage(format!("{}: no such folder", shown(dir))));
        }
        Err(error) => return Err(FilesError::io(dir, "look at")(error)),
    }
    match finish_abandoned(dir) {
        // A folder that cannot be written to can still be read.
        Err(error @ FilesError::Io { .. }) => {
            note(&format!("ninefold: an interrupted encode could not be cleaned up: {error}"));
            Ok(())
        }
        other => other,
    }
}

/// The stream asked for, or the one to which most of the folder belongs.
fn choose<'a>(found: &'a Scan, wanted: Option<&str>, dir: &Path) -> Result<(StreamId, &'a StreamView), FilesError> {
    let mut named = found.streams.iter().filter(|(id, stream)| {
        wanted.is_none_or(|wanted| stream.name == wanted.as_bytes() || id.to_string() == wanted)
    });
    let first = named.next();
    let several = named.next().is_some();
    match (first, wanted) {
        (Some((id, stream)), _) if !several => Ok((*id, stream)),
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
            let main = found.main_stream().ok_or_else(|| {
                FilesError::Usage(format!("several streams; say which with --stream: {}", stream_list(found)))
            })?;
            note(&format!("several streams, decoding the one with most fragments; there are: {}", stream_list(found)));
            Ok(main)
        }
    }
}

fn stream_list(found: &Scan) -> String {
    let describe = |(id, stream): (&StreamId, &StreamView)| {
        format!("{id} \"{}\" ({} fragments)", report::printable(&stream.name), stream.fragments_found)
    };
    found.streams.iter().map(describe).collect::<Vec<_>>().join(", ")
}
