//! The label of a bucket: which disk this is. Whoever finds none here is not looking at the store.

use super::super::label::Label;
use super::Bucket;
use super::client::failed;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use repair_core::node::StoreError;
use std::sync::{Arc, PoisonError};

/// Changes by others that a change of ours is tried again after.
const TRIES: usize = 5;

impl Bucket {
    async fn get_label(&self) -> Result<Option<(Label, UpdateVersion)>, StoreError> {
        let object = match self.objects().get(&self.layout.label()).await {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("read the label in", &error)),
        };
        let version = UpdateVersion { e_tag: object.meta.e_tag.clone(), version: object.meta.version.clone() };
        let bytes = object.bytes().await.map_err(|error| failed("read the label in", &error))?;
        let label = Label::parse(&bytes).map_err(|error| StoreError::Io(error.to_string()))?;
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if *disk.get_or_insert(label.disk) != label.disk {
            return Err(StoreError::Io("the bucket has the label of another disk now".into()));
        }
        Ok(Some((label, version)))
    }

    /// Whether this is the store.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        match self.get_label().await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Io("the bucket is gone, or has no label".into())),
        }
    }

    pub(super) fn read_label(self: &Arc<Self>) -> Result<Option<Label>, StoreError> {
        let label = self.wait(|bucket| async move { bucket.get_label().await })?;
        let was_seen = self.disk.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if label.is_none() && was_seen {
            return Err(StoreError::Io("the bucket is gone, or lost its label".into()));
        }
        Ok(label.map(|(label, _)| label))
    }

    pub(super) fn write_label(self: &Arc<Self>, label: Label) -> Result<(), StoreError> {
        self.wait(|bucket| async move { bucket.put_label(label).await })
    }

    /// A change that met another, or whose answer was lost, is looked at and tried again.
    async fn put_label(&self, label: Label) -> Result<(), StoreError> {
        let text = label.to_bytes().map_err(|error| StoreError::Io(error.to_string()))?;
        let mut last = None;
        for _ in 0..TRIES {
            let found = self.get_label().await?;
            let old = found.as_ref().map(|(label, _)| *label);
            Label::check_change(old, label)?;
            if old == Some(label) {
                return Ok(());
            }
            let mode = found.map_or(PutMode::Create, |(_, version)| PutMode::Update(version));
            let options = PutOptions { mode, ..PutOptions::default() };
            match self.objects_put(&self.layout.label(), text.clone().into(), options).await {
                Ok(()) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| StoreError::Io("the label does not stay".into()), |error| failed("label", &error)))
    }

    pub(super) async fn objects_put(
        &self,
        path: &object_store::path::Path,
        bytes: object_store::PutPayload,
        options: PutOptions,
    ) -> Result<(), Error> {
        self.objects().put_opts(path, bytes, options).await.map(drop)
    }
}
