//! What the file commands say, as JSON and as the ground for their texts. Paths and names are shown lossily where they are not
//! UTF-8; sizes are bytes, times seconds.

use crate::files::encode::StreamPlan;
use crate::files::fragment_file::FragmentFile;
use crate::files::repair::ExtentRepair;
use crate::files::scan::{ExtentView, Extra, Scan, Slot, StreamView};
use crate::files::{decode, error};
use ec_core::fragment::{Class, Content, ExtentId, StreamId};
use ec_core::{Code, ShardIndex};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Version of every object here.
const SCHEMA: u32 = 1;

/// A stream name for people.
pub fn printable(name: &[u8]) -> String {
    error::printable(&String::from_utf8_lossy(name))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[derive(Serialize)]
pub struct Encoded {
    schema: u32,
    pub code: String,
    stream: String,
    name: String,
    pub bytes: u64,
    pub extents: Vec<EncodedExtent>,
    pub fragments: usize,
    /// All fragment files together.
    fragment_file_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
pub struct EncodedExtent {
    id: String,
    ordinal: usize,
    offset: u64,
    bytes: u64,
}

impl Encoded {
    pub fn new(code: &Code, plan: &StreamPlan, seconds: f64) -> Self {
        let extents = plan.extents.iter().enumerate().map(|(ordinal, listed)| EncodedExtent {
            id: listed.extent.to_string(),
            ordinal,
            offset: listed.offset,
            bytes: listed.bytes,
        });
        Self {
            schema: SCHEMA,
            code: code.spec().to_string(),
            stream: plan.stream.to_string(),
            name: printable(&plan.name),
            bytes: plan.bytes,
            extents: extents.collect(),
            fragments: plan.extents.len() * code.n(),
            fragment_file_bytes: plan.file_bytes(code),
            seconds,
        }
    }
}

#[derive(Serialize)]
pub struct Decoded {
    schema: u32,
    out: String,
    stream: String,
    name: String,
    pub bytes: u64,
    pub extents: usize,
    pub missing_fragments: usize,
    pub damaged_fragments: usize,
    pub rebuilt_fragments: usize,
    damaged: Vec<Fragment>,
    seconds: f64,
}

impl Decoded {
    pub fn new(
        found: &Scan,
        id: StreamId,
        stream: &StreamView,
        decoded: &decode::Decoded,
        out: &Path,
        seconds: f64,
    ) -> Self {
        let views = || stream.extents.iter().filter_map(|listed| found.extents.get(&listed.extent));
        let slots = || views().flat_map(|view| &view.slots);
        let mut damaged: Vec<Fragment> = slots()
            .filter(|slot| !matches!(slot.class, Class::Healthy | Class::Missing))
            .map(Fragment::of_slot)
            .collect();
        for (extent, index, (class, reason)) in &decoded.findings {
            let slot = found.extents.get(extent).and_then(|view| view.slots.get(index.at()));
            damaged.extend(
                slot.map(|slot| Fragment::of_slot(&Slot { class: *class, reason: reason.clone(), ..slot.clone() })),
            );
        }
        Self {
            schema: SCHEMA,
            out: shown(out),
            stream: id.to_string(),
            name: printable(&stream.name),
            bytes: decoded.bytes,
            extents: stream.extents.len(),
            missing_fragments: slots().filter(|slot| slot.class == Class::Missing).count(),
            damaged_fragments: damaged.len(),
            rebuilt_fragments: decoded.rebuilt_fragments,
            damaged,
            seconds,
        }
    }
}

#[derive(Serialize)]
pub struct Verified {
    schema: u32,
    /// Whether every fragment is healthy and nothing else lies there.
    whole: bool,
    pub imperfect_fragments: usize,
    pub streams: Vec<Stream>,
    pub extents: Vec<VerifiedExtent>,
    /// Damaged fragment files that name no extent.
    strays: Vec<Fragment>,
    ignored_files: usize,
}

#[derive(Serialize)]
pub struct Stream {
    pub id: String,
    pub name: String,
    content: &'static str,
    bytes: Option<u64>,
    extents: Vec<String>,
    /// Why the extents are not the whole stream, or not all that is said to be of it.
    pub fault: Option<String>,
}

#[derive(Serialize)]
pub struct VerifiedExtent {
    pub id: String,
    stream: Option<String>,
    ordinal: Option<u64>,
    code: Option<String>,
    pub n: usize,
    pub usable: usize,
    pub decodable: bool,
    /// Empty where no fragment is left to tell what the others are.
    pub fragments: Vec<Fragment>,
}

#[derive(Serialize)]
pub struct Fragment {
    pub index: Option<u16>,
    pub path: String,
    /// `healthy`, `missing`, `damaged`; `surplus` for a file that fills no place.
    pub state: &'static str,
    pub class: &'static str,
    pub reason: String,
    /// Whether its bytes can be used, also where it lies at a wrong name.
    usable: bool,
}

impl Fragment {
    fn of_slot(slot: &Slot) -> Self {
        Self {
            index: Some(slot.index.get()),
            path: shown(&slot.path),
            state: slot.state(),
            class: slot.class.as_str(),
            reason: slot.reason.clone(),
            usable: slot.usable.is_some(),
        }
    }

    fn of_extra(extra: &Extra) -> Self {
        Self {
            index: extra.index.map(ShardIndex::get),
            path: shown(&extra.path),
            state: if extra.class == Class::Surplus { "surplus" } else { "damaged" },
            class: extra.class.as_str(),
            reason: extra.reason.clone(),
            usable: false,
        }
    }
}

/// Whether everything of the extent can be decoded from what is usable.
pub fn decodable(view: &ExtentView) -> bool {
    let code = view.on_file.as_ref().and_then(|on_file| Code::new(&on_file.record.code).ok());
    code.is_some_and(|code| code.decodable(&view.lost()))
}

impl Verified {
    pub fn new(found: &Scan) -> Self {
        let mut extras: BTreeMap<ExtentId, Vec<&Extra>> = BTreeMap::new();
        for extra in &found.extras {
            if let Some(id) = extra.extent {
                extras.entry(id).or_default().push(extra);
            }
        }
        let of_view = |view: &ExtentView| VerifiedExtent::new(view, extras.get(&view.id).map_or(&[], Vec::as_slice));
        let mut extents: Vec<VerifiedExtent> = found.extents.values().map(of_view).collect();
        extents.sort_by(|a, b| (&a.stream, a.ordinal, &a.id).cmp(&(&b.stream, b.ordinal, &b.id)));
        let strays: Vec<Fragment> =
            found.extras.iter().filter(|extra| extra.extent.is_none()).map(Fragment::of_extra).collect();
        let listed = extents.iter().flat_map(|extent| &extent.fragments).chain(&strays);
        let imperfect = listed.filter(|fragment| fragment.class != "healthy").count();
        let lost_whole = found.extents.values().filter(|view| view.slots.is_empty()).filter_map(|view| view.code);
        Self {
            schema: SCHEMA,
            whole: found.is_whole(),
            imperfect_fragments: imperfect + lost_whole.map(|code| code.n()).sum::<usize>(),
            streams: found.streams.iter().map(|(id, stream)| Stream::new(*id, stream)).collect(),
            extents,
            strays,
            ignored_files: found.ignored,
        }
    }
}

impl Stream {
    fn new(id: StreamId, stream: &StreamView) -> Self {
        Self {
            id: id.to_string(),
            name: printable(&stream.name),
            content: content(stream.content),
            bytes: stream.bytes,
            extents: stream.extents.iter().map(|listed| listed.extent.to_string()).collect(),
            fault: stream.fault.as_ref().or(stream.dissent.as_ref()).cloned(),
        }
    }
}

fn content(content: Content) -> &'static str {
    match content {
        Content::File => "file",
        Content::Pack => "pack",
    }
}

impl VerifiedExtent {
    fn new(view: &ExtentView, extras: &[&Extra]) -> Self {
        let record = view.on_file.as_ref().map(|on_file| &on_file.record);
        Self {
            id: view.id.to_string(),
            stream: record.map(|record| record.stream.to_string()),
            ordinal: record.map(|record| record.ordinal),
            code: view.code.map(|code| code.to_string()),
            n: view.code.map_or(view.slots.len(), |code| code.n()),
            usable: view.usable().len(),
            decodable: decodable(view),
            fragments: view
                .slots
                .iter()
                .map(Fragment::of_slot)
                .chain(extras.iter().copied().map(Fragment::of_extra))
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub struct Repaired {
    schema: u32,
    dry_run: bool,
    pub rebuilt_fragments: usize,
    pub rebuilt_bytes: u64,
    pub read_bytes: u64,
    minimum_read_bytes: u64,
    written_bytes: u64,
    /// By a recount after the last change (of the plan's outcome nothing is claimed in a dry run).
    pub full_redundancy: bool,
    pub relocated: Vec<String>,
    pub quarantined: Vec<Fragment>,
    pub extents: Vec<RepairedExtent>,
    seconds: f64,
}

#[derive(Serialize)]
pub struct RepairedExtent {
    id: String,
    rebuilt: Vec<RebuiltFragment>,
    reads: Vec<u16>,
    pub failure: Option<String>,
}

#[derive(Serialize)]
struct RebuiltFragment {
    index: u16,
    path: String,
}

impl Repaired {
    pub fn new(
        repairs: &[ExtentRepair],
        relocated: &[PathBuf],
        set_aside: &[Extra],
        dry_run: bool,
        full_redundancy: bool,
        seconds: f64,
    ) -> Self {
        let sum = |bytes: fn(&ExtentRepair) -> u64| repairs.iter().map(bytes).sum();
        let extents = repairs.iter().map(|repair| RepairedExtent {
            id: repair.extent.to_string(),
            rebuilt: repair
                .rebuilt
                .iter()
                .map(|(index, path)| RebuiltFragment { index: index.get(), path: shown(path) })
                .collect(),
            reads: repair.reads.iter().map(|index| index.get()).collect(),
            failure: repair.failure.clone(),
        });
        Self {
            schema: SCHEMA,
            dry_run,
            rebuilt_fragments: repairs.iter().map(|repair| repair.rebuilt.len()).sum(),
            rebuilt_bytes: sum(|repair| repair.rebuilt_bytes),
            read_bytes: sum(|repair| repair.read_bytes),
            minimum_read_bytes: sum(|repair| repair.minimum_read_bytes),
            written_bytes: sum(|repair| repair.written_bytes),
            full_redundancy,
            relocated: relocated.iter().map(|path| shown(path)).collect(),
            quarantined: set_aside.iter().map(Fragment::of_extra).collect(),
            extents: extents.collect(),
            seconds,
        }
    }
}

#[derive(Serialize)]
pub struct Inspected {
    schema: u32,
    path: String,
    class: &'static str,
    reason: String,
    fragment: Option<InspectedFragment>,
}

#[derive(Serialize)]
struct InspectedFragment {
    extent: String,
    generation: u64,
    index: u16,
    cell: String,
    code: String,
    payload_bytes: u64,
    extent_bytes: u64,
    root: String,
    record_hash: String,
    extent_hash: String,
    stream: String,
    name: String,
    content: &'static str,
    ordinal: u64,
    offset: u64,
    stream_bytes: Option<u64>,
    roots: Vec<String>,
    stream_extents: Vec<String>,
}

impl Inspected {
    pub fn new(path: &Path, fragment: Option<&FragmentFile>, class: Class, reason: &str) -> Self {
        Self {
            schema: SCHEMA,
            path: shown(path),
            class: class.as_str(),
            reason: reason.to_owned(),
            fragment: fragment.map(InspectedFragment::new),
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!("{}: {}", error::printable(&self.path), self.class);
        if !self.reason.is_empty() {
            let _ = write!(text, " ({})", self.reason);
        }
        text.push('\n');
        let Some(fragment) = &self.fragment else { return text };
        let rows: [(&str, String); 11] = [
            ("extent", format!("{} generation {}, cell {}", fragment.extent, fragment.generation, fragment.cell)),
            ("index", format!("{} of {}", fragment.index, fragment.roots.len())),
            ("code", fragment.code.clone()),
            ("payload", format!("{} bytes", fragment.payload_bytes)),
            ("extent size", format!("{} bytes, hash {}", fragment.extent_bytes, fragment.extent_hash)),
            ("stream", format!("{} \"{}\" ({})", fragment.stream, fragment.name, fragment.content)),
            ("place in it", format!("extent {} at byte {}", fragment.ordinal, fragment.offset)),
            ("stream size", fragment.stream_bytes.map_or_else(|| "not known".into(), |bytes| format!("{bytes} bytes"))),
            ("extents", fragment.stream_extents.join(" ")),
            ("record hash", fragment.record_hash.clone()),
            ("root", fragment.root.clone()),
        ];
        for (label, value) in rows {
            let _ = writeln!(text, "  {label:<12} {value}");
        }
        for (index, root) in fragment.roots.iter().enumerate() {
            let _ = writeln!(text, "  root {index:>5}   {root}");
        }
        text
    }
}

impl InspectedFragment {
    fn new(fragment: &FragmentFile) -> Self {
        let (identity, record) = (fragment.header.identity, &fragment.tail.record);
        let id = |extent: &ExtentId| extent.to_string();
        Self {
            extent: id(&identity.extent),
            generation: identity.generation,
            index: identity.index.get(),
            cell: identity.cell.to_string(),
            code: fragment.header.code.to_string(),
            payload_bytes: identity.payload_bytes,
            extent_bytes: fragment.header.extent_bytes,
            root: fragment.tail.root.to_string(),
            record_hash: ec_core::fragment::ExtentRecord::hash(&fragment.tail.record_bytes).to_string(),
            extent_hash: record.extent_hash.to_string(),
            stream: record.stream.to_string(),
            name: printable(&record.name),
            content: content(record.content),
            ordinal: record.ordinal,
            offset: record.offset,
            stream_bytes: record.stream_bytes,
            roots: record.fragments.iter().map(|entry| entry.root.to_string()).collect(),
            stream_extents: record.extents.iter().map(|listed| id(&listed.extent)).collect(),
        }
    }
}
