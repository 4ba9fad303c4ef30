//! What lies in some folders, extent by extent, before any payload is read.
//!
//! Every regular file that begins as a fragment is looked at, whatever its name. For each extent the record that most of its
//! fragments carry is the record on file, and every fragment is judged by it. Fragments under a wrong name are *strays*: not
//! in order, but good sources, since what a file is, is what its root proves.

use super::error::shown;
use super::fragment_file::{Finding, FragmentFile};
use super::{FilesError, Work};
use ec_core::fragment::{
    Class, Content, ExtentId, ExtentRecord, FragmentName, Hash, Header, RecordOnFile, StreamExtent, StreamId, judge,
    record_on_file,
};
use ec_core::{Code, CodeSpec, ShardIndex};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Every extent that left a fragment, or that a record lists.
    pub extents: BTreeMap<ExtentId, ExtentView>,
    /// Every stream some record names, by id.
    pub streams: BTreeMap<StreamId, StreamView>,
    /// Fragment files that fill no place.
    pub extras: Vec<Extra>,
    /// Other files and folders, which were left alone.
    pub ignored: usize,
}

/// A stream as its extents' records tell it.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Its name.
    pub name: Vec<u8>,
    /// What its bytes are.
    pub content: Content,
    /// Its length, where a record knows it.
    pub bytes: Option<u64>,
    /// Its extents in order. One that no record lists and that left no fragment is not here.
    pub extents: Vec<StreamExtent>,
    /// Whole fragment files that carry a record of the stream.
    pub fragments_found: usize,
    /// Why the extents are not this stream from its first byte to its last; `None` where they are.
    pub fault: Option<String>,
    /// What fewer fragments than those that tell the above say of the stream. It is decoded all the same.
    pub dissent: Option<String>,
}

/// An extent: what should be there and what is.
#[derive(Clone, Debug)]
pub struct ExtentView {
    /// The extent.
    pub id: ExtentId,
    /// The record on file; `None` where no fragment could be read.
    pub on_file: Option<RecordOnFile>,
    /// The code, from the record or from a record of the same stream.
    pub code: Option<CodeSpec>,
    /// One per fragment, by index. None where there is no record on file: a record may list a thousand extents of which no
    /// fragment is here, and a place for each of their fragments would take a thousand times its bytes.
    pub slots: Vec<Slot>,
}

/// The place of one fragment.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Index of the fragment.
    pub index: ShardIndex,
    /// The file it was found in, or where it should be.
    pub path: PathBuf,
    /// Its state.
    pub class: Class,
    /// Why, in words; empty when healthy.
    pub reason: String,
    /// A file that holds this very fragment, judged by the record on file; not always at the right name.
    pub usable: Option<PathBuf>,
}

/// A fragment file that fills no place.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Where it lies.
    pub path: PathBuf,
    /// The extent it names, where it names one.
    pub extent: Option<ExtentId>,
    /// The index it names, where it names one.
    pub index: Option<ShardIndex>,
    /// What it is.
    pub class: Class,
    /// Why.
    pub reason: String,
}

impl Slot {
    /// `healthy`, `missing` or `damaged`.
    pub fn state(&self) -> &'static str {
        match self.class {
            Class::Healthy => "healthy",
            Class::Missing => "missing",
            _ => "damaged",
        }
    }
}

impl ExtentView {
    /// The record on file.
    ///
    /// # Errors
    /// [`FilesError::Unrecoverable`] where there is none.
    pub fn record(&self) -> Result<&ExtentRecord, FilesError> {
        self.on_file
            .as_ref()
            .map(|on_file| &on_file.record)
            .ok_or_else(|| FilesError::Unrecoverable(format!("extent {}: no fragment of it can be read", self.id)))
    }
}

/// A fragment file as the scan remembers it: small, so that millions fit.
struct Found {
    path: PathBuf,
    name: Option<FragmentName>,
    looked: Result<Whole, Finding>,
}

struct Whole {
    header: Header,
    root: Hash,
    record_hash: Hash,
}

/// Records met, once each, with the number of fragments that carry them.
type Records = HashMap<(ExtentId, Hash), (Vec<u8>, usize)>;

/// Looks at every file in `folders` (not below them).
///
/// # Errors
/// [`FilesError::Io`] where a folder cannot be listed.
pub fn scan(work: &Work, folders: &[PathBuf]) -> Result<Scan, FilesError> {
    let mut scan = Scan::default();
    let mut candidates = Vec::new();
    for folder in folders {
        let listing = fs::read_dir(folder).map_err(FilesError::io(folder, "list"))?;
        for entry in listing {
            candidates.push(entry.map_err(FilesError::io(folder, "list"))?.path());
        }
    }
    candidates.sort_unstable();
    let records: Mutex<Records> = Mutex::default();
    let looked: Result<Vec<Option<Found>>, FilesError> = work.install(|| {
        candidates
            .into_par_iter()
            .map(|path| {
                work.check_stop()?;
                look_at(path, &records)
            })
            .collect()
    });
    let records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut found = Vec::new();
    for candidate in looked? {
        match candidate {
            Some(file) => found.push(file),
            None => scan.ignored += 1,
        }
    }
    let home = match folders {
        [home] => Some(home.as_path()),
        _ => None,
    };
    scan.settle_records(&records, home);
    // What is in its place first, so that a second copy elsewhere is the surplus one.
    found.sort_by_key(|file| !file.in_place());
    for file in found {
        scan.assign(file, &records);
    }
    Ok(scan)
}

/// Opens what may be a fragment: anything that is named as one, and any regular file that begins as one.
fn look_at(path: PathBuf, records: &Mutex<Records>) -> Result<Option<Found>, FilesError> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(FragmentName::parse);
    if name.is_none() && !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    let looked = FragmentFile::open(&path)?;
    let looked = match looked {
        Ok(fragment) => {
            let record_hash = ExtentRecord::hash(&fragment.tail.record_bytes);
            let extent = fragment.header.identity.extent;
            let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
            records.entry((extent, record_hash)).or_insert_with(|| (fragment.tail.record_bytes, 0)).1 += 1;
            Ok(Whole { header: fragment.header, root: fragment.tail.root, record_hash })
        }
        // Without a fragment's name and without a whole fragment inside, it is somebody else's file.
        Err(_) if name.is_none() => return Ok(None),
        Err(finding) => Err(finding),
    };
    Ok(Some(Found { path, name, looked }))
}

impl Found {
    fn in_place(&self) -> bool {
        match (&self.looked, self.name) {
            (Ok(whole), Some(name)) => name == own_name(&whole.header),
            _ => false,
        }
    }
}

/// The name a fragment should have.
fn own_name(header: &Header) -> FragmentName {
    FragmentName {
        extent: header.identity.extent,
        generation: header.identity.generation,
        index: header.identity.index,
    }
}

impl Scan {
    fn settle_records(&mut self, records: &Records, home: Option<&Path>) {
        let carried = records
            .iter()
            .flat_map(|((extent, _), (bytes, carriers))| std::iter::repeat_n((*extent, bytes.as_slice()), *carriers));
        let mut buildable = HashMap::new();
        let mut of_streams: BTreeMap<StreamId, Vec<RecordOnFile>> = BTreeMap::new();
        for (_, on_file) in record_on_file(carried) {
            let code = on_file.record.code;
            // A code that cannot be built says nothing about any byte.
            if *buildable.entry(code).or_insert_with(|| Code::new(&code).is_ok()) {
                of_streams.entry(on_file.record.stream).or_default().push(on_file);
            }
        }
        for (id, on_file) in of_streams {
            let stream = StreamView::settle(&on_file);
            for on_file in on_file {
                for listed in stream.extents.iter().filter(|_| stream.is_described_by(&on_file.record)) {
                    let view = self.extents.entry(listed.extent).or_insert_with(|| ExtentView::empty(listed.extent));
                    view.code = view.code.or(Some(on_file.record.code));
                }
                let extent = on_file.record.extent;
                let view = self.extents.entry(extent).or_insert_with(|| ExtentView::empty(extent));
                view.code = Some(on_file.record.code);
                view.on_file = Some(on_file);
            }
            self.streams.insert(id, stream);
        }
        for view in self.extents.values_mut() {
            view.make_slots(home);
        }
    }

    fn assign(&mut self, file: Found, records: &Records) {
        let named_slot = file.name;
        let (class, reason) = match &file.looked {
            Err(finding) => finding.clone(),
            Ok(whole) => match self.judge_whole(whole, records) {
                Ok(()) if file.in_place() => return self.fill(&file.path, whole),
                Ok(()) => return self.stray(&file, whole),
                Err(finding) => finding,
            },
        };
        // Its copy of the record may be an older one: what it holds is proven by the record on file all the same.
        let proven = file.looked.as_ref().is_ok_and(|whole| file.in_place() && self.is_proven(whole));
        let named = named_slot.or_else(|| file.looked.as_ref().ok().map(|whole| own_name(&whole.header)));
        let extra = Extra {
            path: file.path.clone(),
            extent: named.map(|name| name.extent),
            index: named.map(|name| name.index),
            class,
            reason: reason.clone(),
        };
        match named_slot.and_then(|name| self.slot_named(name)) {
            Some(slot) if slot.class == Class::Missing => {
                slot.usable = proven.then(|| file.path.clone());
                (slot.path, slot.class, slot.reason) = (file.path, class, reason);
            }
            _ => self.keep_extra(extra),
        }
    }

    /// A whole fragment by the record on file, leaving its name aside.
    fn judge_whole(&self, whole: &Whole, records: &Records) -> Result<(), Finding> {
        let id = whole.header.identity.extent;
        let unknown = || (Class::Conflict, "its record cannot be the record on file".to_owned());
        let on_file = self.extents.get(&id).and_then(|view| view.on_file.as_ref()).ok_or_else(unknown)?;
        let (bytes, _) = records.get(&(id, whole.record_hash)).ok_or_else(unknown)?;
        judge(None, &whole.header, &whole.root, bytes, &on_file.record, &on_file.bytes)
    }

    fn is_proven(&self, whole: &Whole) -> bool {
        let identity = whole.header.identity;
        let on_file = self.extents.get(&identity.extent).and_then(|view| view.on_file.as_ref());
        let entry = on_file.and_then(|on_file| on_file.record.fragments.get(identity.index.at()));
        entry.is_some_and(|entry| entry.identity == identity && entry.root == whole.root)
    }

    /// A fragment at its name.
    fn fill(&mut self, path: &Path, whole: &Whole) {
        let identity = whole.header.identity;
        match self.slot(identity.extent, identity.index) {
            Some(slot) if slot.class == Class::Missing => {
                slot.class = Class::Healthy;
                slot.reason.clear();
                slot.path = path.to_path_buf();
                slot.usable = Some(path.to_path_buf());
            }
            _ => self.surplus(path, whole),
        }
    }

    /// A good fragment at a wrong name: its own place gains a source, the place it lies in is taken.
    fn stray(&mut self, file: &Found, whole: &Whole) {
        let identity = whole.header.identity;
        let reason = format!("holds {}", own_name(&whole.header));
        if let Some(slot) = file.name.and_then(|name| self.slot_named(name)).filter(|slot| slot.class == Class::Missing)
        {
            (slot.path, slot.class, slot.reason) = (file.path.clone(), Class::Identity, reason.clone());
        }
        match self.slot(identity.extent, identity.index) {
            Some(slot) if slot.usable.is_none() => {
                slot.usable = Some(file.path.clone());
                if slot.class == Class::Missing {
                    let reason = format!("lies under the name {}", shown(&file.path));
                    (slot.path, slot.class, slot.reason) = (file.path.clone(), Class::Identity, reason);
                }
            }
            _ => self.surplus(&file.path, whole),
        }
    }

    fn surplus(&mut self, path: &Path, whole: &Whole) {
        let identity = whole.header.identity;
        self.extras.push(Extra {
            path: path.to_path_buf(),
            extent: Some(identity.extent),
            index: Some(identity.index),
            class: Class::Surplus,
            reason: "a further copy".into(),
        });
    }

    /// Keeps what fills no place; an extent known by nothing but the names of damaged files is listed by these.
    fn keep_extra(&mut self, extra: Extra) {
        if let Some(id) = extra.extent {
            self.extents.entry(id).or_insert_with(|| ExtentView::empty(id));
        }
        self.extras.push(extra);
    }

    fn slot(&mut self, extent: ExtentId, index: ShardIndex) -> Option<&mut Slot> {
        self.extents.get_mut(&extent)?.slots.get_mut(index.at())
    }

    /// The place a file name speaks of, if the record on file has that very name.
    fn slot_named(&mut self, name: FragmentName) -> Option<&mut Slot> {
        let view = self.extents.get_mut(&name.extent)?;
        if let Some(on_file) = &view.on_file {
            let entry = on_file.record.fragments.get(name.index.at())?;
            if entry.identity.generation != name.generation {
                return None;
            }
        }
        view.slots.get_mut(name.index.at())
    }
}

impl StreamView {
    /// What most fragments of a stream say it is. Records that say something else do not change it.
    fn settle(records: &[RecordOnFile]) -> Self {
        let fragments_found = records.iter().map(|on_file| on_file.carriers).sum();
        let opinions = opinions(records);
        // The first of those with most votes.
        let best = opinions.iter().rev().max_by_key(|(_, votes)| *votes).copied();
        let mut stream = match best {
            Some((record, _)) => Self {
                name: record.name.clone(),
                content: record.content,
                bytes: record.stream_bytes,
                extents: record.extents.clone(),
                fragments_found,
                fault: None,
                dissent: None,
            },
            None => Self {
                name: Vec::new(),
                content: Content::File,
                bytes: None,
                extents: Vec::new(),
                fragments_found,
                fault: None,
                dissent: None,
            },
        };
        if stream.extents.is_empty() {
            // A stream that was never listed whole: what its extents say of themselves.
            let mut ordered: Vec<&ExtentRecord> = records.iter().map(|on_file| &on_file.record).collect();
            ordered.sort_by_key(|record| record.ordinal);
            stream.extents = ordered
                .iter()
                .map(|record| StreamExtent { extent: record.extent, offset: record.offset, bytes: record.extent_bytes })
                .collect();
        }
        stream.fault = stream.find_fault();
        let most = best.map_or(0, |(_, votes)| votes);
        for record in records.iter().map(|on_file| &on_file.record) {
            if stream.has_in_place(record) {
                continue;
            }
            let reason =
                format!("extent {} says it is of this stream, and most fragments say otherwise", record.extent);
            // Somebody else's claim does not matter. What a part of the stream says of itself does, and a tie decides nothing.
            let is_part = stream.extents.iter().any(|listed| listed.extent == record.extent);
            let has_most = opinions.iter().any(|(other, votes)| *votes >= most && describe(other) == describe(record));
            let said = if is_part || has_most { &mut stream.fault } else { &mut stream.dissent };
            said.get_or_insert(reason);
        }
        stream
    }

    /// Whether the extent is where its record says it is.
    fn has_in_place(&self, record: &ExtentRecord) -> bool {
        let listed = usize::try_from(record.ordinal).ok().and_then(|ordinal| self.extents.get(ordinal));
        let own = StreamExtent { extent: record.extent, offset: record.offset, bytes: record.extent_bytes };
        listed == Some(&own)
    }

    fn is_described_by(&self, record: &ExtentRecord) -> bool {
        describe(record) == (&self.name, self.content, self.bytes, &self.extents)
    }

    fn find_fault(&self) -> Option<String> {
        let mut end = 0;
        for listed in &self.extents {
            if listed.offset != end {
                return Some(format!("after byte {end} the next extent found begins at {}", listed.offset));
            }
            end = listed.offset.saturating_add(listed.bytes);
        }
        match self.bytes {
            None => Some("its length is not on record".into()),
            Some(bytes) if bytes != end => Some(format!("it has {bytes} bytes, but its extents end at {end}")),
            Some(_) => None,
        }
    }
}

/// What the records say of the whole stream, each once, with the number of fragments that say so.
fn opinions(records: &[RecordOnFile]) -> Vec<(&ExtentRecord, usize)> {
    let mut opinions: Vec<(&ExtentRecord, usize)> = Vec::new();
    for on_file in records {
        match opinions.iter_mut().find(|(record, _)| describe(record) == describe(&on_file.record)) {
            Some((_, votes)) => *votes += on_file.carriers,
            None => opinions.push((&on_file.record, on_file.carriers)),
        }
    }
    opinions
}

/// What a record says of the whole stream.
fn describe(record: &ExtentRecord) -> (&Vec<u8>, Content, Option<u64>, &Vec<StreamExtent>) {
    (&record.name, record.content, record.stream_bytes, &record.extents)
}

impl ExtentView {
    fn empty(id: ExtentId) -> Self {
        Self { id, on_file: None, code: None, slots: Vec::new() }
    }

    fn make_slots(&mut self, home: Option<&Path>) {
        let Some(on_file) = &self.on_file else { return };
        let entries = &on_file.record.fragments;
        self.slots = entries
            .iter()
            .map(|entry| {
                let name = entry.identity.file_name();
                Slot {
                    index: entry.identity.index,
                    path: home.map_or_else(|| PathBuf::from(&name), |home| home.join(&name)),
                    class: Class::Missing,
                    reason: "there is no such file".into(),
                    usable: None,
                }
            })
            .collect();
    }
}
