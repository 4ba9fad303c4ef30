//! What publications that never ended left behind.

use super::client::failed;
use super::layout::{Attempt, parse_upload};
use super::{Bucket, EntryError};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt};
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::io::Write;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

/// How often.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// Sweeps at once and now and then, for as long as the store is open.
pub(super) fn keep(bucket: &Arc<Bucket>) {
    let weak: Weak<Bucket> = Arc::downgrade(bucket);
    bucket.waiter.spawn(async move {
        loop {
            let Some(bucket) = weak.upgrade() else { return };
            if let Err(error) = sweep(bucket).await {
                let _ =
                    writeln!(std::io::stderr(), "ninefold node: what unfinished uploads left stays for now: {error}");
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Looks at every object in `uploads` that is old enough and of no publication of this process.
pub(super) async fn sweep(bucket: Arc<Bucket>) -> Result<usize, StoreError> {
    let traces: Vec<ObjectMeta> = bucket
        .client
        .objects
        .list(Some(&bucket.layout.uploads()))
        .try_collect()
        .await
        .map_err(|error| failed("list uploads in", &error))?;
    let mut swept = 0;
    for trace in traces {
        let Some(attempt) = trace.location.filename().and_then(Attempt::parse) else { continue };
        // Behind our clock or before it: what is in doubt stays.
        let age = SystemTime::now().duration_since(trace.last_modified.into()).unwrap_or_default();
        if age < bucket.settings.leftover_age || bucket.active().contains(&attempt) {
            continue;
        }
        swept += usize::from(bucket.clear(&trace.location, attempt).await?);
    }
    Ok(swept)
}

impl Bucket {
    /// Removes what one publication left; false where it cannot be told what that is.
    async fn clear(&self, trace: &Path, attempt: Attempt) -> Result<bool, StoreError> {
        let text = match self.objects().get(trace).await {
            Ok(object) => object.bytes().await.map_err(|error| failed("read from", &error))?,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed("read from", &error)),
        };
        let Some((fragment, upload)) = std::str::from_utf8(&text).ok().and_then(parse_upload) else { return Ok(false) };
        let data = self.layout.data(fragment, attempt);
        // First: an upload that ends later would bring the bytes back.
        self.client.give_up(&data, upload).await.map_err(|error| failed("give up an upload to", &error))?;
        match self.is_wanted(fragment, attempt).await? {
            None => return Ok(false),
            Some(true) => {}
            Some(false) => self.client.remove(&data).await.map_err(|error| failed("delete in", &error))?,
        }
        self.client.remove(trace).await.map_err(|error| failed("delete in", &error))?;
        Ok(true)
    }

    /// Whether a name, or what was set aside, refers to the bytes of an attempt; `None` where that cannot be told.
    async fn is_wanted(&self, fragment: FragmentKey, attempt: Attempt) -> Result<Option<bool>, StoreError> {
        for path in [self.layout.name(fragment), self.layout.aside(fragment, attempt)] {
            match self.entry_at(&path).await {
                Ok(entry) if entry.attempt == attempt => return Ok(Some(true)),
                Ok(_) | Err(EntryError::NotFound) => {}
                Err(EntryError::Damaged) => return Ok(None),
                Err(EntryError::Unknown(error)) => return Err(failed("read a name from", &error)),
            }
        }
        // Names that are not there count only in the store itself.
        self.probe().await?;
        Ok(Some(false))
    }
}
