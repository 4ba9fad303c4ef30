//! What can go wrong with files and fragments, and what a user can do about it.

use ec_core::fragment::{ExtentId, FormatError};
use ec_core::{CodeError, DecodeError, VerifyError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a file command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The request itself cannot be met. Nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// Bytes are lost beyond what the code can rebuild.
    #[error("{0}")]
    Unrecoverable(String),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}{}", shown(path), advice(source))]
    Io {
        /// File or folder concerned.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what it was when the work began.
    #[error("{}: changed while it was being read; run again when it is at rest", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// What was computed does not match its own check. Hardware or software computed wrongly; nothing was published.
    #[error("extent {extent}: {reason}; it was not published. Check this machine's memory and CPU")]
    Miscomputed {
        /// The extent worked on.
        extent: ExtentId,
        /// Which comparison failed.
        reason: String,
    },
    /// The code cannot be built.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// Buffers and plan disagree: a fault in this program.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A value does not fit the fragment format.
    #[error("fragment format: {0}")]
    Format(#[from] FormatError),
    /// Another command writes into the same folder.
    #[error("{}: another command is writing there; run again when it has ended", shown(.0))]
    Busy(PathBuf),
    /// The work is done; only what was to be said of it could not be.
    #[error("the work is done, but its report could not be written: {0}")]
    Report(io::Error),
    /// Two parts of this program disagree.
    #[error("internal fault: {0}. Please report it")]
    Internal(String),
    /// The cell has no such name.
    #[error("{}: no such name", name_shown(.0))]
    NoSuchName(Vec<u8>),
    /// Stored bytes that too few fragments can be read of now.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes that were removed, or replaced by others, while they were read.
    #[error("{0}")]
    Replaced(String),
    /// The cell cannot be reached, or did not do it.
    #[error("{0}")]
    Cell(String),
    /// Stopped by a signal. What was not finished has left no trace.
    #[error("interrupted; what was not finished has left no trace")]
    Interrupted,
}

/// A path for people: control characters in it cannot reach their terminal.
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Text from outside for people, on one line.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A stored name for people: control characters, bytes that are no text, and backslashes are escaped, so that no two names look
/// alike and none reaches a terminal as more than text.
pub fn name_shown(name: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room and run again",
        io::ErrorKind::PermissionDenied => "; check the owner and mode of the file and its folder",
        _ => "",
    }
}

impl FilesError {
    /// Wraps an I/O error with the path and what was tried.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// Wraps an error that only a fault in this program can cause.
    pub(crate) fn internal(error: impl ToString) -> Self {
        Self::Internal(error.to_string())
    }

    /// Exit code of a command that fails with this (1 damage, 2 wrong use, 3 could not be done).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unrecoverable(_) | Self::NoSuchName(_) | Self::Unavailable(_) | Self::Replaced(_) => 1,
            Self::Usage(_) | Self::Code(_) => 2,
            _ => 3,
        }
    }

    /// A failed second-path check of a freshly encoded stripe.
    pub(crate) fn encoding(extent: ExtentId, error: &VerifyError) -> Self {
        Self::Miscomputed { extent, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_on_one_line_and_each_in_its_own_way() {
        assert_eq!(name_shown("å/b c".as_bytes()), "å/b c");
        assert_eq!(name_shown(b"a\nb\x1b[2J\x00"), "a\\nb\\u{1b}[2J\\u{0}");
        assert_eq!(name_shown(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(name_shown(b"\\xff"), "\\\\xff");
    }
}
