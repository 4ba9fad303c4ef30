//! Requests to a bucket: a runtime of their own, and what their errors mean.

use object_store::{Error, MultipartId, ObjectStore, ObjectStoreExt, multipart::MultipartStore};
use repair_core::node::StoreError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio::runtime::{Builder, Runtime};

/// Sockets only: the bytes are moved by the service and the kernel.
const THREADS: usize = 2;

/// The bucket, as the crate `object_store` sees it.
#[derive(Clone)]
pub struct Client {
    /// Objects by name.
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Large objects in parts. The same bucket.
    pub(super) parts: Arc<dyn MultipartStore>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.objects)
    }
}

impl Client {
    /// A client of a service that the crate knows.
    pub fn new<S: ObjectStore + MultipartStore>(service: S) -> Self {
        let service = Arc::new(service);
        Self { objects: Arc::clone(&service) as Arc<dyn ObjectStore>, parts: service }
    }

    /// Removes an object; one that is not there is removed.
    pub(super) async fn remove(&self, path: &object_store::path::Path) -> Result<(), Error> {
        match self.objects.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives an upload up; one that is not there is given up.
    pub(super) async fn give_up(&self, path: &object_store::path::Path, upload: &str) -> Result<(), Error> {
        match self.parts.abort_multipart(path, &MultipartId::from(upload)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Threads that wait for the network, so that whoever calls may be any thread, of another runtime too.
#[derive(Debug)]
pub(super) struct Waiter(Option<Runtime>);

impl Waiter {
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("bucket").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(work);
        }
    }

    /// Runs the work there, and blocks this thread until it has ended.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = sync_channel(1);
        self.spawn(async move {
            let _ = done.send(work.await);
        });
        answer.recv().unwrap_or_else(|_| Err(StoreError::Io("a request to the bucket ended without an answer".into())))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Not the usual end: that blocks, and panics on threads of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Nothing follows from this about what is there. It goes over the wire, so it names no path and no address.
pub(super) fn failed(what: &str, error: &Error) -> StoreError {
    let why = match error {
        Error::NotFound { .. } => "no such object or bucket".to_owned(),
        Error::PermissionDenied { .. } => "permission denied".to_owned(),
        Error::Unauthenticated { .. } => "the credentials are not taken".to_owned(),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => "it was changed meanwhile".to_owned(),
        other => root_cause(other),
    };
    StoreError::Io(format!("cannot {what} the bucket: {why}"))
}

/// The innermost error: what the system or the service said, without the request around it.
fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // A service may answer with a page.
    let text: String = cause.to_string().chars().take(200).collect();
    text.replace('\n', " ")
}
