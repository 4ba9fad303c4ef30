//! Which names cannot be read: a walk over streams and names of the catalog, made only while something cannot be read.

use super::report::json;
use super::{Asker, Coordinator, Op, Timer};
use crate::catalog::{Found, NameRow, StreamRow, key};
use crate::id::{ExtentKey, StreamKey};
use crate::wire::DaemonReply;
use crate::wire::codec::decode_row;
use serde::Serialize;
use std::collections::BTreeMap;

const PAGE: usize = 1000;
/// Names told; all are counted.
const NAMES_MAX: usize = 100;
/// Broken pieces of streams kept in memory for one walk.
const PIECES_MAX: usize = 1 << 20;
/// A walk that fails is given up, and what was found so far is told as such.
const TRIES: u32 = 5;

/// Names whose bytes cannot be read now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamesAtRisk {
    /// How many.
    pub total: u64,
    /// Whether all names were looked at.
    pub complete: bool,
    /// The first hundred, by name.
    pub names: Vec<NameAtRisk>,
}

/// A name whose bytes cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameAtRisk {
    /// The name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// `waiting` where disks that may hold the bytes do not answer; `lost` where every disk that could hold them answers and
    /// says it does not.
    pub state: &'static str,
}

/// Part of a stream that cannot be read.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    bytes: u64,
    lost: bool,
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Scan {
    askers: Vec<Asker>,
    /// By stream, those that have any.
    pieces: BTreeMap<StreamKey, Vec<Piece>>,
    held: usize,
    complete: bool,
    on_names: bool,
    after: Option<Vec<u8>>,
    tries: u32,
    found: NamesAtRisk,
}

impl Coordinator {
    pub(super) fn status_wanted(&mut self, asker: Asker) {
        if let Some(scan) = &mut self.scan {
            scan.askers.push(asker);
            return;
        }
        let scan = Scan {
            askers: vec![asker],
            pieces: BTreeMap::new(),
            held: 0,
            complete: true,
            on_names: false,
            after: None,
            tries: 0,
            found: NamesAtRisk::default(),
        };
        let any = self.groups.values().any(|group| group.view.unavailable_count() > 0);
        self.scan = Some(scan);
        if any && self.boot.is_done() { self.scan_onwards() } else { self.scan_ends() }
    }

    pub(super) fn scan_onwards(&mut self) {
        let Some(scan) = &self.scan else { return };
        let prefix = if scan.on_names { key::NAMES } else { key::STREAMS };
        let after = scan.after.clone();
        self.get_range(Op::Scan, prefix.to_vec(), after, PAGE);
    }

    pub(super) fn scan_rows(&mut self, rows: Result<Vec<Found>, String>) {
        let Some(mut scan) = self.scan.take() else { return };
        let Ok(rows) = rows else {
            scan.tries += 1;
            let again = scan.tries < TRIES;
            scan.complete &= again;
            self.scan = Some(scan);
            return if again { self.after(self.retry_after(), Timer::Scan) } else { self.scan_ends() };
        };
        for found in &rows {
            match scan.on_names {
                false => self.scan_stream(&mut scan, found),
                true => scan_name(&mut scan, found),
            }
        }
        scan.after = rows.last().filter(|_| rows.len() == PAGE).map(|last| last.key.clone());
        let ended = scan.after.is_none();
        let over = ended && (scan.on_names || scan.pieces.is_empty());
        scan.on_names |= ended;
        self.scan = Some(scan);
        if over { self.scan_ends() } else { self.scan_onwards() }
    }

    fn scan_stream(&self, scan: &mut Scan, found: &Found) {
        let Ok(row) = decode_row::<StreamRow>(&found.value) else {
            scan.complete = false;
            return;
        };
        for extent in row.extents {
            let Some(lost) = self.unavailable(extent.extent).filter(|_| extent.bytes > 0) else { continue };
            if scan.held >= PIECES_MAX {
                scan.complete = false;
                return;
            }
            scan.held += 1;
            let piece = Piece { offset: extent.offset, bytes: extent.bytes, lost };
            scan.pieces.entry(row.stream).or_default().push(piece);
        }
    }

    /// Whether an extent cannot be read, and then whether it is lost for all that every disk says.
    fn unavailable(&self, extent: ExtentKey) -> Option<bool> {
        let view = &self.groups.get(&extent.pg())?.view;
        view.is_unavailable(extent).then_some(view.ready && view.all_answered)
    }

    fn scan_ends(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        let mut report = self.status();
        report.unavailable_names = NamesAtRisk { complete: scan.complete, ..scan.found };
        let body = json(&report);
        for asker in scan.askers {
            self.reply_with(asker, DaemonReply::Report, body.clone());
        }
    }
}

fn scan_name(scan: &mut Scan, found: &Found) {
    let Ok(row) = decode_row::<NameRow>(&found.value) else {
        scan.complete = false;
        return;
    };
    let end = row.offset.saturating_add(row.bytes);
    let pieces = scan.pieces.get(&row.stream).into_iter().flatten();
    let mut hit = pieces.filter(|piece| row.offset < piece.offset.saturating_add(piece.bytes) && end > piece.offset);
    let Some(first) = hit.next() else { return };
    let lost = first.lost || hit.any(|piece| piece.lost);
    scan.found.total += 1;
    if scan.found.names.len() < NAMES_MAX {
        let name = String::from_utf8_lossy(found.key.get(key::NAMES.len()..).unwrap_or_default()).into_owned();
        scan.found.names.push(NameAtRisk { name, state: if lost { "lost" } else { "waiting" } });
    }
}
