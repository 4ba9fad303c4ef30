//! Where a node keeps fragments, if not in its data folder: `--store s3://BUCKET/PREFIX`.

use crate::files::FilesError;
use crate::store::FragmentStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `node` about a bucket.
#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// Keep fragments in a bucket: s3://BUCKET/PREFIX or az://CONTAINER/PREFIX. Journals and index stay in the data folder. Credentials come
    /// from the environment: AWS_ACCESS_KEY_ID and the like, AZURE_STORAGE_ACCOUNT_NAME and the like.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The service, if it is not the public one.
    #[arg(long, value_name = "URL", requires = "store")]
    store_endpoint: Option<String>,
    /// Speak plain HTTP to the service, if its endpoint says so: for emulators on this host.
    #[arg(long, requires = "store")]
    store_allow_http: bool,
    /// Trust the authorities in this PEM file too.
    #[arg(long, value_name = "FILE", requires = "store")]
    store_ca: Option<PathBuf>,
    /// What may be kept in the bucket. No bound without it.
    #[arg(long, value_name = "BYTES", requires = "store")]
    capacity: Option<u64>,
}

impl StoreArgs {
    /// The store, if there is one apart from the data folder.
    #[cfg(feature = "object-store")]
    pub(super) fn open(&self, data: &Path) -> Result<Option<Arc<dyn FragmentStore>>, FilesError> {
        use crate::store::bucket::{Address, BucketStore, Settings};
        let Some(url) = &self.store else { return Ok(None) };
        let address = Address {
            endpoint: self.store_endpoint.clone(),
            allow_http: self.store_allow_http,
            authorities: self.store_ca.clone(),
            ..Address::new(url)
        };
        let (client, prefix) = address.client().map_err(|error| FilesError::Usage(format!("--store: {error}")))?;
        let settings = Settings { capacity_bytes: self.capacity, ..Settings::new(data.join("spool")) };
        let store = BucketStore::open(client, prefix, settings);
        let failed = |error| FilesError::io(Path::new(url), "open the store")(std::io::Error::other(error));
        Ok(Some(Arc::new(store.map_err(failed)?)))
    }

    /// This build knows no buckets.
    #[cfg(not(feature = "object-store"))]
    pub(super) fn open(&self, _: &Path) -> Result<Option<Arc<dyn FragmentStore>>, FilesError> {
        match &self.store {
            None => Ok(None),
            Some(_) => Err(FilesError::Usage("this build has no buckets: build with --features s3,azure".into())),
        }
    }
}
