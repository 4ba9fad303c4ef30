//! A store of fragments in a bucket of an object store.
//!
//! A name object, written only if there is none, seals a name. Small fragments lie in it; the bytes of a large one come in parts to an object
//! of a name of their own before, because the end of an upload in parts replaces whatever has its name. What such an upload may leave behind
//! is found by an object in `uploads`, written before the first part. See `layout` for what lies where and `docs/object-stores.md`
//! for what is asked of the service.

mod address;
mod client;
mod label_object;
mod layout;
mod publish;
mod stage;
mod sweep;

pub use address::{Address, AddressError};
pub use client::Client;

use super::contract::{Capabilities, FragmentStore, ReadFrom, Room, Staged};
use super::label::Label;
use client::{Waiter, failed};
use futures_util::{StreamExt, TryStreamExt};
use layout::{Attempt, Entry, Layout, PREAMBLE_BYTES};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use repair_core::id::{DiskId, PgId};
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What one answer of a service lists.
const LIST_MAX: usize = 1000;
/// Entries kept so that a read is one request.
const KNOWN_MAX: usize = 10_000;
/// Names that share a lock.
const LOCKS: usize = 64;
/// What a bucket without a declared capacity is said to hold. More than any cell asks for, and sums of it do not overflow.
const UNBOUNDED_BYTES: u64 = 1 << 50;

/// Settings of a store in a bucket.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where fragments on their way lie, without names. Made when it is first used.
    pub spool: PathBuf,
    /// What may be kept in the bucket. Without it there is no bound, and nobody counts.
    pub capacity_bytes: Option<u64>,
    /// Length of a part, and of the longest fragment that goes without parts. At least 5 MiB, or S3 refuses.
    pub part_bytes: u64,
    /// Parts in memory at a time, over all fragments.
    pub parts_in_flight: usize,
    /// How old what an unfinished publication left must be to be removed: no request lives so long.
    pub leftover_age: Duration,
}

impl Settings {
    /// The usual settings.
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self {
            spool: spool.into(),
            capacity_bytes: None,
            part_bytes: 8 << 20,
            parts_in_flight: 4,
            leftover_age: Duration::from_secs(15 * 60),
        }
    }
}

/// A store in a bucket.
#[derive(Debug)]
pub struct BucketStore {
    bucket: Arc<Bucket>,
}

/// What the store and its stages share.
#[derive(Debug)]
struct Bucket {
    client: Client,
    layout: Layout,
    settings: Settings,
    waiter: Waiter,
    /// The disk of the label, once it was seen. Another one later is another store.
    disk: Mutex<Option<DiskId>>,
    known: Mutex<HashMap<FragmentKey, Entry>>,
    /// Publications under way.
    active: Mutex<BTreeSet<Attempt>>,
    /// Names whose deletion may still come: nothing is published there until no request lives any more.
    doubtful: Mutex<HashMap<FragmentKey, Instant>>,
    /// Read by who publishes a name, written by who removes it: services delete without conditions.
    locks: Vec<RwLock<()>>,
    /// Of the parts in memory.
    permits: Arc<Semaphore>,
    spool: Mutex<Option<Arc<stage::Spool>>>,
    used_bytes: AtomicU64,
}

impl BucketStore {
    /// Opens the store below `prefix`, and begins to look for what earlier lives left. It asks the service for the label.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the service cannot be asked, or the label is damaged.
    pub fn open(client: Client, prefix: Path, settings: Settings) -> Result<Self, StoreError> {
        let waiter = Waiter::new().map_err(|error| StoreError::Io(format!("cannot start threads: {error}")))?;
        let permits = Arc::new(Semaphore::new(settings.parts_in_flight.max(1)));
        let bucket = Arc::new(Bucket {
            client,
            layout: Layout::new(prefix),
            settings,
            waiter,
            disk: Mutex::default(),
            known: Mutex::default(),
            active: Mutex::default(),
            doubtful: Mutex::default(),
            locks: (0..LOCKS).map(|_| RwLock::default()).collect(),
            permits,
            spool: Mutex::default(),
            used_bytes: AtomicU64::new(0),
        });
        bucket.read_label()?;
        if bucket.settings.capacity_bytes.is_some() {
            let used = bucket.wait(|bucket| async move { bucket.measure().await })?;
            bucket.used_bytes.store(used, Ordering::Relaxed);
        }
        sweep::keep(&bucket);
        Ok(Self { bucket })
    }

    /// Removes what publications that never ended left behind, old enough; how many of them. Done now and then without being asked.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the rest is left for the next time.
    pub fn sweep(&self) -> Result<usize, StoreError> {
        self.bucket.wait(sweep::sweep)
    }
}

impl Bucket {
    /// Runs work on the runtime of the store.
    fn wait<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T, StoreError> {
        self.waiter.wait(work(Arc::clone(self)))
    }

    fn objects(&self) -> &dyn ObjectStore {
        &*self.client.objects
    }

    fn lock_of(&self, fragment: FragmentKey) -> &RwLock<()> {
        let mixed = fragment.extent.0 as usize ^ fragment.generation as usize ^ usize::from(fragment.index);
        &self.locks[mixed % LOCKS]
    }

    fn known(&self) -> MutexGuard<'_, HashMap<FragmentKey, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, BTreeSet<Attempt>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubtful(&self) -> MutexGuard<'_, HashMap<FragmentKey, Instant>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all objects below the prefix.
    async fn measure(&self) -> Result<u64, StoreError> {
        let objects = self.client.objects.list(Some(self.layout.prefix()));
        let sum = objects.try_fold(0u64, |sum, object| async move { Ok(sum.saturating_add(object.size)) });
        sum.await.map_err(|error| failed("measure", &error))
    }

    fn shrank(&self, bytes: u64) {
        let _ =
            self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    /// Says that nothing is there, if this is the store: a bucket that is gone answers the same.
    async fn not_found(&self) -> StoreError {
        self.probe().await.err().unwrap_or(StoreError::NotFound)
    }

    /// What the name object at a path says.
    async fn entry_at(&self, path: &Path) -> Result<Entry, EntryError> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..PREAMBLE_BYTES)), ..GetOptions::default() };
        let object = match self.objects().get_opts(path, options).await {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Err(EntryError::NotFound),
            // A range of an object that is too short is refused in more than one way.
            Err(error) => {
                return Err(match self.objects().head(path).await {
                    Ok(object) if object.size < PREAMBLE_BYTES => EntryError::Damaged,
                    _ => EntryError::Unknown(error),
                });
            }
        };
        let object_bytes = object.meta.size;
        let preamble = object.bytes().await.map_err(EntryError::Unknown)?;
        Entry::parse(&preamble, object_bytes).ok_or(EntryError::Damaged)
    }

    async fn entry(&self, fragment: FragmentKey) -> Result<Entry, StoreError> {
        if let Some(entry) = self.known().get(&fragment) {
            return Ok(*entry);
        }
        match self.entry_at(&self.layout.name(fragment)).await {
            Ok(entry) => {
                self.remember(fragment, entry);
                Ok(entry)
            }
            Err(EntryError::NotFound) => Err(self.not_found().await),
            Err(EntryError::Damaged) => Err(damaged("its name object is not what was written")),
            Err(EntryError::Unknown(error)) => Err(failed("read a name from", &error)),
        }
    }

    fn remember(&self, fragment: FragmentKey, entry: Entry) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(fragment, entry);
    }

    async fn read(&self, fragment: FragmentKey, offset: u64, length: usize) -> Result<bytes::Bytes, StoreError> {
        let entry = self.entry(fragment).await?;
        let end = offset.checked_add(length as u64).filter(|end| *end <= entry.bytes);
        let end = end.ok_or_else(|| damaged("ends before"))?;
        let (path, before) = match entry.is_apart {
            true => (self.layout.data(fragment, entry.attempt), 0),
            false => (self.layout.name(fragment), PREAMBLE_BYTES),
        };
        if length == 0 {
            return Ok(bytes::Bytes::new());
        }
        match self.objects().get_range(&path, before + offset..before + end).await {
            Ok(bytes) if bytes.len() == length => Ok(bytes),
            Ok(_) => Err(damaged("the service gave less than there must be")),
            Err(Error::NotFound { .. }) => {
                self.known().remove(&fragment);
                // The name alone says whether the fragment is there.
                self.entry(fragment).await?;
                Err(damaged("its bytes are gone"))
            }
            Err(error) => Err(match self.objects().head(&path).await {
                Ok(object) if object.size < before + end => damaged("its bytes are cut short"),
                _ => failed("read from", &error),
            }),
        }
    }

    async fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        let group = self.layout.group(pg);
        let objects = match after {
            Some(after) => self.client.objects.list_with_offset(Some(&group), &self.layout.name(after)),
            None => self.client.objects.list(Some(&group)),
        };
        let key = |object: ObjectMeta| object.location.filename().and_then(layout::parse_name);
        let names = objects.try_filter_map(|object| std::future::ready(Ok(key(object))));
        // Not every service knows where to begin.
        let names = names.try_filter(|name| std::future::ready(after.is_none_or(|after| *name > after)));
        let names: Vec<FragmentKey> =
            names.take(max).try_collect().await.map_err(|error| failed("list names in", &error))?;
        // After the listing: what was listed before the label was seen may be another store's.
        self.probe().await?;
        Ok(names)
    }
}

/// Why there is no entry.
#[derive(Debug)]
enum EntryError {
    /// The service says that there is no such object, or no such bucket.
    NotFound,
    /// It is no name object.
    Damaged,
    /// Nothing is known.
    Unknown(Error),
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(what.to_owned())
}

impl FragmentStore for BucketStore {
    fn capabilities(&self) -> Capabilities {
        // Every read goes to the service: there is no cache here that a check would judge instead.
        Capabilities { direct_reads: true, in_place_writes: true, durable_names: true, list_max: LIST_MAX }
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        self.bucket.read_label()
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        self.bucket.write_label(label)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.bucket.wait(|bucket| async move { bucket.probe().await })
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        stage::begin(&self.bucket, bytes)
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.bucket.wait(|bucket| async move { bucket.entry(fragment).await.map(|entry| entry.bytes) })
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], _: ReadFrom) -> Result<(), StoreError> {
        let length = buffer.len();
        let bytes = self.bucket.wait(|bucket| async move { bucket.read(fragment, offset, length).await })?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        self.bucket.wait(|bucket| async move { bucket.list(pg, after, max.min(LIST_MAX)).await })
    }

    fn set_aside(&self, fragment: FragmentKey, _: &str) -> Result<(), StoreError> {
        self.bucket.set_aside(fragment)
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.bucket.purge(fragment)
    }

    fn sync(&self, _: PgId) -> Result<(), StoreError> {
        // A name is durable when the service has said that it is written.
        Ok(())
    }

    fn room(&self) -> Result<Room, StoreError> {
        let total_bytes = self.bucket.settings.capacity_bytes.unwrap_or(UNBOUNDED_BYTES);
        let used_bytes = match self.bucket.settings.capacity_bytes {
            Some(_) => self.bucket.used_bytes.load(Ordering::Relaxed),
            None => 0,
        };
        Ok(Room { free_bytes: total_bytes.saturating_sub(used_bytes), total_bytes })
    }
}
