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
use ec_core::{CodeSpec, ShardIndex};
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
}

/// An extent: what should be there and what is.
#[derive(Debug)]
pub struct ExtentView {
    /// The extent.
    pub id: ExtentId,
    /// The record on file; `None` where no fragment could be read.
    pub on_file: Option<RecordOnFile>,
    /// The code, from the record or from a record of the same stream.
    pub code: Option<CodeSpec>,
    /// One per fragment, by index.
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
        for (id, on_file) in record_on_file(carried) {
            let record = &on_file.record;
            let stream = self.streams.entry(record.stream).or_insert_with(|| StreamView {
                name: record.name.clone(),
                content: record.content,
                bytes: record.stream_bytes,
                extents: record.extents.clone(),
                fragments_found: 0,
            });
            stream.fragments_found += on_file.carriers;
            if !stream.extents.iter().any(|listed| listed.extent == id) {
                stream.extents.push(StreamExtent { extent: id, offset: record.offset, bytes: record.extent_bytes });
                stream.extents.sort_by_key(|listed| listed.offset);
            }
            for listed in &record.extents {
                let view = self.extents.entry(listed.extent).or_insert_with(|| ExtentView::empty(listed.extent));
                view.code = view.code.or(Some(record.code));
            }
            let view = self.extents.entry(id).or_insert_with(|| ExtentView::empty(id));
            view.code = Some(record.code);
            view.on_file = Some(on_file);
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

impl ExtentView {
    fn empty(id: ExtentId) -> Self {
        Self { id, on_file: None, code: None, slots: Vec::new() }
    }

    fn make_slots(&mut self, home: Option<&Path>) {
        let Some(code) = self.code else { return };
        self.slots = (0..code.n())
            .map(|at| {
                let index = ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX));
                let entry = self.on_file.as_ref().and_then(|on_file| on_file.record.fragments.get(at));
                let generation = entry.map_or(1, |entry| entry.identity.generation);
                let name = FragmentName { extent: self.id, generation, index }.to_string();
                Slot {
                    index,
                    path: home.map_or_else(|| PathBuf::from(&name), |home| home.join(&name)),
                    class: Class::Missing,
                    reason: "there is no such file".into(),
                    usable: None,
                }
            })
            .collect();
    }
}
