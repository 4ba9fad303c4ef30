//! From an address on a command line to a client: `s3://bucket/prefix`, `az://container/prefix`.

use super::client::Client;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const CONNECT_FOR: Duration = Duration::from_secs(5);

/// Which bucket, and how it is reached. Credentials come from the environment: arguments can be read by everybody on the host.
#[derive(Clone)]
pub struct Address {
    /// `s3://bucket/prefix` or `az://container/prefix`.
    pub url: String,
    /// The service, if it is not the public one.
    pub endpoint: Option<String>,
    /// Plain HTTP is good enough: for emulators on this host.
    pub allow_http: bool,
    /// Certificates in PEM of authorities that are trusted beside those of the system.
    pub authorities: Option<PathBuf>,
    /// Settings beside those of the environment and over them, by the crate's names: `aws_access_key_id`.
    pub settings: Vec<(String, String)>,
    /// How long a request is tried again, with pauses that grow, when the service is overloaded or not reached.
    pub retry_for: Duration,
    /// How long one try may take.
    pub request_for: Duration,
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings may be secrets.
        write!(formatter, "Address({} at {:?})", self.url, self.endpoint)
    }
}

/// An address that leads to no client.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not an address of a bucket.
    #[error("{0:?} is no bucket: say s3://BUCKET/PREFIX or az://CONTAINER/PREFIX")]
    Url(String),
    /// This build does not know the service.
    #[error("this build has no {0}: build with --features {0}")]
    NotBuilt(&'static str),
    /// The certificates cannot be used.
    #[error("cannot use the certificates in {path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What is missing, in the environment or in the address.
    #[error(transparent)]
    Client(#[from] object_store::Error),
}

impl Address {
    /// An address with the settings that suit a service far away.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            allow_http: false,
            authorities: None,
            settings: Vec::new(),
            retry_for: Duration::from_secs(60),
            request_for: Duration::from_secs(30),
        }
    }

    /// A client, and the prefix everything lies below. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn client(&self) -> Result<(Client, Path), AddressError> {
        let no_bucket = || AddressError::Url(self.url.clone());
        let (scheme, rest) = self.url.split_once("://").ok_or_else(no_bucket)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = Path::parse(prefix).map_err(|_| no_bucket())?;
        if bucket.is_empty() || bucket.contains(['@', '?', '#']) {
            return Err(no_bucket());
        }
        // Before the first client. Whoever embeds this may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = match scheme {
            "s3" => self.s3(bucket)?,
            "az" => self.azure(bucket)?,
            _ => return Err(no_bucket()),
        };
        Ok((client, prefix))
    }

    #[cfg(feature = "s3")]
    fn s3(&self, bucket: &str) -> Result<Client, AddressError> {
        let mut builder = object_store::aws::AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(self.options()?)
            .with_retry(self.retries());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        for (key, value) in &self.settings {
            builder = builder.with_config(key.parse()?, value);
        }
        Ok(Client::new(builder.build()?))
    }

    #[cfg(not(feature = "s3"))]
    fn s3(&self, _: &str) -> Result<Client, AddressError> {
        Err(AddressError::NotBuilt("s3"))
    }

    #[cfg(feature = "azure")]
    fn azure(&self, container: &str) -> Result<Client, AddressError> {
        let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env()
            .with_container_name(container)
            .with_client_options(self.options()?)
            .with_retry(self.retries());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        for (key, value) in &self.settings {
            builder = builder.with_config(key.parse()?, value);
        }
        Ok(Client::new(builder.build()?))
    }

    #[cfg(not(feature = "azure"))]
    fn azure(&self, _: &str) -> Result<Client, AddressError> {
        Err(AddressError::NotBuilt("azure"))
    }

    fn options(&self) -> Result<ClientOptions, AddressError> {
        let options = ClientOptions::new()
            .with_allow_http(self.allow_http)
            .with_connect_timeout(CONNECT_FOR.min(self.request_for))
            .with_timeout(self.request_for);
        let Some(path) = &self.authorities else { return Ok(options) };
        let refused = |reason: String| AddressError::Authorities { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| refused(error.to_string()))?;
        if certificates.is_empty() {
            return Err(refused("there is none in it".into()));
        }
        Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
    }

    fn retries(&self) -> RetryConfig {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            ..BackoffConfig::default()
        };
        // The time is the bound.
        RetryConfig { backoff, max_retries: 1000, retry_timeout: self.retry_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bucket_is_refused() {
        for bad in [
            "",
            "s3:/b/p",
            "s3://",
            "s3:///p",
            "gs://b/p",
            "http://b/p",
            "s3://key:secret@b/p",
            "s3://b/p//q",
            "az://c/../p",
        ] {
            let refused = Address::new(bad).client();
            assert!(matches!(refused, Err(AddressError::Url(_))), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut address = Address::new("s3://bucket/prefix");
        address.authorities = Some(file.path().to_owned());
        assert!(matches!(address.client(), Err(AddressError::Authorities { .. })));
        address.authorities = Some("/does/not/exist".into());
        assert!(matches!(address.client(), Err(AddressError::Authorities { .. })));
    }
}
