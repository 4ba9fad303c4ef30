//! `ninefold daemon --catalog redb:PATH --listen ADDR --admin ADDR [--config FILE] --insecure`.

use super::Outcome;
use crate::catalog::CatalogUrl;
use crate::config::{DaemonFile, level_of, service_code};
use crate::daemon::{Options, run};
use crate::files::FilesError;
use crate::process::die_with_parent;
use std::path::PathBuf;

/// Threads of the runtime: sockets and frames. Coding has threads of its own.
const RUNTIME_THREADS: usize = 4;

/// Arguments of `daemon`.
#[derive(Debug, clap::Args)]
pub struct DaemonCommand {
    /// Where the cell keeps what it must not forget: redb:PATH.
    #[arg(long, value_name = "redb:PATH")]
    catalog: String,
    /// Where nodes and clients find the daemon.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// Where operators find it, by HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    admin: String,
    /// Settings, in TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Code of new placement groups, in place of the one in the settings.
    #[arg(long, value_name = "SPEC")]
    code: Option<String>,
    /// Level of the domain tree whose loss an extent must survive: region, zone, rack or node.
    #[arg(long, value_name = "LEVEL")]
    fault_domain: Option<String>,
    /// Speak plaintext, to anybody who can reach the addresses.
    #[arg(long)]
    insecure: bool,
    /// End when the process that started this one ends, however it does.
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    die_with_parent: Option<u32>,
}

impl DaemonCommand {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent)?;
        }
        let options = self.options()?;
        // Repairs under way leave nothing behind that counts; the next daemon begins them anew.
        super::serve(RUNTIME_THREADS, run(options))
    }

    fn options(self) -> Result<Options, FilesError> {
        let catalog: CatalogUrl = self.catalog.parse().map_err(FilesError::Usage)?;
        if !self.insecure {
            return Err(FilesError::Usage(
                "this version has no TLS: say --insecure to let it speak plaintext, and keep its addresses to yourself"
                    .into(),
            ));
        }
        let file = self.config.as_deref().map(DaemonFile::read).transpose()?.unwrap_or_default();
        let mut config = file.coordinator()?;
        if let Some(code) = &self.code {
            config.code = Some(service_code(code)?);
        }
        if let Some(level) = &self.fault_domain {
            config.fault_domain = level_of(level)?;
        }
        Ok(Options { catalog, listen: self.listen, admin: self.admin, config })
    }
}
