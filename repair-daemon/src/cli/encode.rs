//! `ninefold encode FILE --code SPEC --out DIR`.

use super::staging::Staging;
use super::{Outcome, human_bytes, note, print, print_json, report};
use crate::files::FilesError;
use crate::files::encode::{StreamPlan, encode_stream};
use crate::files::error::shown;
use crate::files::source::{ByteSource, FileSource};
use ec_core::fragment::Content;
use ec_core::{Code, CodeSpec};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `encode`.
#[derive(Debug, clap::Args)]
pub struct Encode {
    /// A regular file.
    file: PathBuf,
    /// For example rs:10+4, lrc:12,2,2 or replicate:3.
    #[arg(long, value_name = "SPEC")]
    code: String,
    /// Folder for the fragments: new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Encode {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let code = Code::new(&self.code.parse::<CodeSpec>()?)?;
        let source = FileSource::open(&self.file)?;
        let name = self.file.file_name().map_or_else(Vec::new, |name| name.as_bytes().to_vec());
        let plan = StreamPlan::new(&code, name, Content::File, source.bytes())?;
        let work = super::work("encode")?;
        let started = Instant::now();
        let staging = Staging::new(&self.out)?;
        check_room(staging.folder(), plan.file_bytes(&code))?;
        work.progress().set_length(plan.payload_bytes(&code));
        encode_stream(&work, &code, &source, &plan, &|_, _| staging.folder().to_path_buf())?;
        work.check_stop()?;
        staging.publish()?;
        work.progress().finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let report = report::Encoded::new(&code, &plan, seconds);
        if self.json {
            print_json(&report)?;
        } else {
            print(&format!(
                "{}: {} in {} extents, {} fragments of {} in {}; any {} of each extent's {} may be lost\n",
                shown(&self.file),
                human_bytes(report.bytes),
                report.extents.len(),
                report.fragments,
                report.code,
                shown(&self.out),
                code.guaranteed_tolerance(),
                code.n(),
            ))?;
        }
        Ok(Outcome::Done)
    }
}

/// Refuses early what would fail late. The disk may still fill up on the way; that is handled where it happens.
fn check_room(folder: &Path, needed_bytes: u64) -> Result<(), FilesError> {
    let Ok(status) = rustix::fs::statvfs(folder) else {
        note(&format!("{}: cannot tell how much room there is", shown(folder)));
        return Ok(());
    };
    let free_bytes = status.f_bavail.saturating_mul(status.f_frsize);
    if free_bytes < needed_bytes {
        return Err(FilesError::io(folder, "write the fragments")(std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("they need {needed_bytes} bytes, {free_bytes} are free"),
        )));
    }
    Ok(())
}
