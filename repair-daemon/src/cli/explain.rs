//! `ninefold explain extent|pg|node|disk ID`.

use super::cell::{CellArguments, as_text};
use super::{Outcome, print, print_json};
use crate::client::Cell;
use crate::files::FilesError;
use repair_core::id::{DiskId, ExtentKey, PgId};
use repair_core::wire::daemon::Subject;
use serde_json::{Value, json};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// What ID is of.
    #[arg(value_enum)]
    kind: Kind,
    /// Ids are printed by `status`, `events` and errors; a node is named by its domain or the last part of it.
    id: String,
    #[command(flatten)]
    cell: CellArguments,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What can be explained.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Kind {
    /// An extent, by its id.
    Extent,
    /// A placement group, by its number.
    Pg,
    /// A node.
    Node,
    /// A disk, by its id.
    Disk,
}

impl Explain {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let subject = subject(self.kind, &self.id)?;
        let is_node = matches!(subject, Subject::Node(_) | Subject::Disk(_));
        let cell = self.cell.open()?;
        let mut report = cell.explain(subject)?;
        if is_node {
            add_health(&cell, &mut report)?;
        }
        if self.json {
            print_json(&report)?;
        } else {
            print(&as_text(&report))?;
        }
        Ok(Outcome::Done)
    }
}

/// What the node says of itself, beside what the daemon knows.
fn add_health(cell: &Cell, report: &mut Value) -> Result<(), FilesError> {
    let Some(address) = report.pointer("/disk/address").and_then(Value::as_str).map(str::to_owned) else {
        return Ok(());
    };
    let told = match cell.node_health(&address)? {
        Ok(health) => json!({ "health": health }),
        Err(reason) => json!({ "health": null, "health_error": reason }),
    };
    if let (Value::Object(report), Value::Object(told)) = (report, told) {
        report.extend(told);
    }
    Ok(())
}

fn subject(kind: Kind, id: &str) -> Result<Subject, FilesError> {
    let wrong = |what: &str| FilesError::Usage(format!("{id:?} is no {what}"));
    Ok(match kind {
        Kind::Extent => {
            let extent = id.parse::<ExtentKey>().ok().filter(|extent| extent.is_sound());
            Subject::Extent(
                extent.ok_or_else(|| wrong("extent id: 32 hexadecimal digits, the last 8 of them a check"))?,
            )
        }
        Kind::Pg => Subject::Pg(PgId(id.parse().map_err(|_| wrong("number of a placement group"))?)),
        Kind::Node => Subject::Node(id.to_owned()),
        Kind::Disk => Subject::Disk(id.parse::<DiskId>().map_err(|_| wrong("disk id: 32 hexadecimal digits"))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::CellKey;

    #[test]
    fn ids_typed_wrongly_are_not_asked_about() {
        let extent = ExtentKey::compose(CellKey(1 << 120), PgId(3), 1, 9);
        assert!(matches!(subject(Kind::Extent, &extent.to_string()), Ok(Subject::Extent(found)) if found == extent));
        let mistyped = ExtentKey(extent.0 ^ 1 << 40).to_string();
        for (kind, id) in [
            (Kind::Extent, mistyped.as_str()),
            (Kind::Extent, "12"),
            (Kind::Pg, "-1"),
            (Kind::Pg, "4294967296"),
            (Kind::Disk, "xyz"),
        ] {
            assert!(matches!(subject(kind, id), Err(FilesError::Usage(_))), "{kind:?} {id}");
        }
        assert!(matches!(subject(Kind::Pg, "7"), Ok(Subject::Pg(PgId(7)))));
    }
}
