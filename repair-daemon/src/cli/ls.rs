//! `ninefold ls [PREFIX]`.

use super::cell::CellArguments;
use super::{Outcome, print, print_json};
use crate::files::FilesError;
use crate::files::error::name_shown;
use repair_core::wire::daemon::StoredName;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;

/// Text gathered before it is printed.
const PRINT_BYTES: usize = 64 << 10;

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Only names that begin so.
    prefix: Option<OsString>,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the names as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    names: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    /// With control characters, backslashes and bytes that are no text escaped.
    name: String,
    /// The very bytes, where `name` is not them.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    bytes: u64,
    stream: String,
}

impl Named {
    fn new(stored: &StoredName) -> Self {
        let name = name_shown(&stored.name);
        let name_hex = (name.as_bytes() != stored.name).then(|| {
            stored.name.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        });
        Self { name, name_hex, bytes: stored.row.bytes, stream: stored.row.stream.to_string() }
    }
}

impl Ls {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let prefix = self.prefix.unwrap_or_default().into_vec();
        let cell = self.cell.open()?;
        if self.json {
            let names = cell.names(&prefix)?.iter().map(Named::new).collect();
            print_json(&Report { schema: 1, names })?;
            return Ok(Outcome::Done);
        }
        let mut text = String::new();
        cell.each_name(&prefix, &mut |stored| {
            let _ = writeln!(text, "{:>14}  {}", stored.row.bytes, name_shown(&stored.name));
            if text.len() >= PRINT_BYTES {
                print(&text)?;
                text.clear();
            }
            Ok(())
        })?;
        print(&text)?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::catalog::NameRow;
    use repair_core::id::StreamKey;

    #[test]
    fn a_name_that_is_not_what_is_shown_comes_with_its_bytes() {
        let row = NameRow { stream: StreamKey(1), offset: 0, bytes: 7 };
        let named = |name: &[u8]| Named::new(&StoredName { name: name.to_vec(), row });
        assert_eq!((named(b"a/b").name.as_str(), named(b"a/b").name_hex), ("a/b", None));
        let odd = named(b"a\n\xff");
        assert_eq!((odd.name.as_str(), odd.name_hex.as_deref()), ("a\\n\\xff", Some("610aff")));
    }
}
