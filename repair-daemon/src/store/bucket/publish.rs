//! How a fragment gets its name in a bucket, and loses it.

use super::super::contract::Published;
use super::client::failed;
use super::layout::{Attempt, Entry, PREAMBLE_BYTES, upload_text};
use super::{Bucket, EntryError};
use crate::files::staged::random_u128;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload};
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Parts that a service takes of one object at most.
const PARTS_MAX: u64 = 10_000;
/// Times that a write without an answer is tried again, each after the client's own tries.
const LOST_ANSWERS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// A publication under way: what sweeps leave alone.
struct Active {
    bucket: Arc<Bucket>,
    attempt: Attempt,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.bucket.active().remove(&self.attempt);
    }
}

impl Bucket {
    pub(super) fn publish(
        self: &Arc<Self>,
        fragment: FragmentKey,
        file: File,
        bytes: u64,
    ) -> Result<Published, StoreError> {
        let _shared = self.lock_of(fragment).read().unwrap_or_else(PoisonError::into_inner);
        if self.is_doubtful(fragment) {
            return Err(StoreError::Io("an earlier deletion of this name may still come".into()));
        }
        let random = random_u128().map_err(|error| StoreError::Io(format!("no random bytes: {error}")))?;
        let attempt = Attempt(random);
        let entry = Entry { attempt, bytes, is_apart: bytes > self.settings.part_bytes };
        self.active().insert(attempt);
        let active = Active { bucket: Arc::clone(self), attempt };
        self.wait(|bucket| async move {
            // Held by the work: it goes on where the one who waits does not.
            let _active = active;
            match entry.is_apart {
                true => bucket.publish_apart(fragment, entry, Arc::new(file)).await,
                false => bucket.publish_inline(fragment, entry, &file).await,
            }
        })
    }

    fn is_doubtful(&self, fragment: FragmentKey) -> bool {
        let mut doubtful = self.doubtful();
        doubtful.retain(|_, until| *until > Instant::now());
        doubtful.contains_key(&fragment)
    }

    async fn publish_inline(&self, fragment: FragmentKey, entry: Entry, file: &File) -> Result<Published, StoreError> {
        let _permit = self.permits.acquire().await;
        let mut bytes = entry.preamble().to_vec();
        bytes.resize((PREAMBLE_BYTES + entry.bytes) as usize, 0);
        // From memory of this host, on threads that do nothing else.
        file.read_exact_at(&mut bytes[PREAMBLE_BYTES as usize..], 0)
            .map_err(|error| StoreError::Io(format!("cannot read from the spool: {error}")))?;
        self.put_name(fragment, entry, bytes.into()).await
    }

    async fn publish_apart(
        self: &Arc<Self>,
        fragment: FragmentKey,
        entry: Entry,
        file: Arc<File>,
    ) -> Result<Published, StoreError> {
        // What is certainly in vain is not sent.
        match self.entry_at(&self.layout.name(fragment)).await {
            Ok(_) | Err(EntryError::Damaged) => return Ok(Published::NameTaken),
            Err(EntryError::NotFound) => {}
            Err(EntryError::Unknown(error)) => return Err(failed("read a name from", &error)),
        }
        let path = self.layout.data(fragment, entry.attempt);
        self.upload(&path, fragment, entry, file).await?;
        let published = self.put_name(fragment, entry, entry.preamble().to_vec().into()).await?;
        // Whatever fails from here on is done by a sweep.
        let is_clean = match published {
            Published::New => Ok(()),
            Published::NameTaken => self.client.remove(&path).await,
        };
        if is_clean.is_ok() {
            let _ = self.client.remove(&self.layout.upload(entry.attempt)).await;
        }
        Ok(published)
    }

    /// Sends the bytes in parts to a name that nobody else knows.
    async fn upload(
        self: &Arc<Self>,
        path: &Path,
        fragment: FragmentKey,
        entry: Entry,
        file: Arc<File>,
    ) -> Result<(), StoreError> {
        let begun = self.client.parts.create_multipart(path).await;
        let upload = begun.map_err(|error| failed("begin an upload to", &error))?;
        let trace = self.layout.upload(entry.attempt);
        let sent = async {
            // Before the first part: from here on a sweep finds what is left.
            let text = upload_text(fragment, &upload);
            self.objects().put(&trace, text.into()).await.map_err(|error| failed("write to", &error))?;
            let part_bytes = self.settings.part_bytes.max(entry.bytes.div_ceil(PARTS_MAX));
            let count = entry.bytes.div_ceil(part_bytes);
            let parts = (0..count).map(|number| {
                let at = number * part_bytes;
                self.send_part(path, &upload, number as usize, &file, at, part_bytes.min(entry.bytes - at))
            });
            let parts: Vec<_> =
                stream::iter(parts).buffered(self.settings.parts_in_flight.max(1)).try_collect().await?;
            match self.client.parts.complete_multipart(path, &upload, parts).await {
                Ok(_) => Ok(()),
                // It may have been done, and the answer lost.
                Err(error) => match self.objects().head(path).await {
                    Ok(object) if object.size == entry.bytes => Ok(()),
                    _ => Err(failed("end an upload to", &error)),
                },
            }
        };
        let sent = sent.await;
        if sent.is_err() && self.client.give_up(path, &upload).await.is_ok() && self.client.remove(path).await.is_ok() {
            let _ = self.client.remove(&trace).await;
        }
        sent
    }

    async fn send_part(
        &self,
        path: &Path,
        upload: &String,
        number: usize,
        file: &File,
        at: u64,
        length: u64,
    ) -> Result<object_store::multipart::PartId, StoreError> {
        let _permit = self.permits.acquire().await;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, at)
            .map_err(|error| StoreError::Io(format!("cannot read from the spool: {error}")))?;
        let sent = self.client.parts.put_part(path, upload, number, bytes.into()).await;
        sent.map_err(|error| failed("send a part to", &error))
    }

    /// Writes the name object if there is none. Whatever the answer was, or none: what is there afterwards says whose the name is.
    async fn put_name(&self, fragment: FragmentKey, entry: Entry, bytes: PutPayload) -> Result<Published, StoreError> {
        let path = self.layout.name(fragment);
        let mut tries = 0;
        loop {
            let error = match self.objects_put(&path, bytes.clone(), PutMode::Create.into()).await {
                Ok(()) => break,
                Err(error) => error,
            };
            match self.entry_at(&path).await {
                Ok(found) if found.attempt == entry.attempt => break,
                Ok(_) | Err(EntryError::Damaged) => return Ok(Published::NameTaken),
                Err(EntryError::NotFound | EntryError::Unknown(_)) => {}
            }
            let is_final = matches!(
                error,
                Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
            );
            if is_final || tries == LOST_ANSWERS_MAX {
                return Err(failed("write a name to", &error));
            }
            // Once more is safe: whichever of the two comes, it is this attempt.
            tokio::time::sleep(PAUSE * 2u32.pow(tries)).await;
            tries += 1;
        }
        self.remember(fragment, entry);
        Ok(Published::New)
    }

    /// A copy under a name for what was set aside, then the deletion. Done again after a crash in between it comes to the same.
    pub(super) fn set_aside(self: &Arc<Self>, fragment: FragmentKey) -> Result<(), StoreError> {
        let _alone = self.lock_of(fragment).write().unwrap_or_else(PoisonError::into_inner);
        self.known().remove(&fragment);
        self.wait(|bucket| async move {
            let path = bucket.layout.name(fragment);
            let attempt = match bucket.entry_at(&path).await {
                Ok(entry) => entry.attempt,
                // Whatever it is, it goes out of the way.
                Err(EntryError::Damaged) => Attempt(0),
                Err(EntryError::NotFound) => return bucket.was_set_aside(fragment).await,
                Err(EntryError::Unknown(error)) => return Err(failed("read a name from", &error)),
            };
            let aside = bucket.layout.aside(fragment, attempt);
            bucket.objects().copy(&path, &aside).await.map_err(|error| failed("copy a name in", &error))?;
            if let Err(error) = bucket.client.remove(&path).await {
                let until = Instant::now() + bucket.settings.leftover_age;
                bucket.doubtful().insert(fragment, until);
                return Err(failed("delete a name in", &error));
            }
            Ok(())
        })
    }

    async fn was_set_aside(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        let mut aside = self.client.objects.list(Some(&self.layout.aside_of(fragment)));
        match aside.next().await {
            Some(Ok(_)) => self.probe().await,
            Some(Err(error)) => Err(failed("list what was set aside in", &error)),
            None => Err(self.not_found().await),
        }
    }

    /// Bytes before the object that leads to them. What lies apart and belongs to neither the name nor a publication goes with them.
    pub(super) fn purge(self: &Arc<Self>, fragment: FragmentKey) -> Result<(), StoreError> {
        let _alone = self.lock_of(fragment).write().unwrap_or_else(PoisonError::into_inner);
        self.wait(|bucket| async move {
            bucket.probe().await?;
            let aside = bucket.objects_below(&bucket.layout.aside_of(fragment)).await?;
            if aside.is_empty() {
                return Ok(());
            }
            let named = match bucket.entry_at(&bucket.layout.name(fragment)).await {
                Ok(entry) => Some(entry.attempt),
                Err(EntryError::NotFound) => None,
                // Which bytes are its own cannot be told.
                Err(EntryError::Damaged) => return Err(super::damaged("its name object is not what was written")),
                Err(EntryError::Unknown(error)) => return Err(failed("read a name from", &error)),
            };
            let mut gone = bucket.objects_below(&bucket.layout.data_of(fragment)).await?;
            gone.retain(|(path, _)| path.filename().and_then(Attempt::parse).is_some_and(|of| Some(of) != named));
            gone.extend(aside);
            for (path, bytes) in gone {
                bucket.client.remove(&path).await.map_err(|error| failed("delete in", &error))?;
                bucket.shrank(bytes);
            }
            Ok(())
        })
    }

    async fn objects_below(&self, prefix: &Path) -> Result<Vec<(Path, u64)>, StoreError> {
        let objects = self.client.objects.list(Some(prefix)).map_ok(|object| (object.location, object.size));
        objects.try_collect().await.map_err(|error| failed("list", &error))
    }
}
