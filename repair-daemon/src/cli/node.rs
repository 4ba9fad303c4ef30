//! `ninefold node --data DIR --listen ADDR --domain region/zone/rack/node --daemon ADDR --insecure [--store URL]`.

use super::Outcome;
use crate::files::FilesError;
use crate::node::{Options, run, run_over};
use crate::process::die_with_parent;
use crate::store::{ReadBack, Unlabelled};
use repair_core::node::NodeConfig;
use repair_core::time::Millis;
use repair_core::topology::Domain;
use std::path::PathBuf;

/// Threads of the runtime: sockets and frames. The disk has threads of its own.
const RUNTIME_THREADS: usize = 2;

/// Arguments of `node`.
#[derive(Debug, clap::Args)]
pub struct NodeCommand {
    /// The folder to keep fragments in, best a disk of its own. Refused where it has no label: an unmounted disk looks so.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Make a new disk of the folder if it is new or empty. For the first start; one that is a disk already is left as it is.
    #[arg(long)]
    format: bool,
    /// Where the daemon and clients find it. Port 0 takes a free one, and the first line on standard error says which.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// Where they find it, if that is not where it listens.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where it stands: region/zone/rack/node.
    #[arg(long, value_name = "REGION/ZONE/RACK/NODE")]
    domain: String,
    /// The daemon of the cell.
    #[arg(long, value_name = "HOST:PORT")]
    daemon: String,
    /// Speak plaintext, to anybody who can reach the address.
    #[arg(long)]
    insecure: bool,
    /// Every fragment is read and judged in about this time, again and again. 14 days without it, never with 0.
    #[arg(long, value_name = "SECONDS")]
    scrub_period: Option<u64>,
    /// So many bytes of payload a second are read for that at most, for a scrub that somebody asks for too. 50000000 without it, no
    /// limit with 0.
    #[arg(long, value_name = "BYTES_PER_SECOND")]
    scrub_rate: Option<u64>,
    /// Room that fragments leave free, for journals, deletes and quarantine. 64 MiB without it.
    #[arg(long, value_name = "BYTES")]
    headroom: Option<u64>,
    /// Operations on the disk at a time: enough to keep it busy and to let reads pass syncs.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    disk_threads: u16,
    /// Which fragments are read from the disk once more before they get their names: none, one of 16, or all.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    read_back: ReadBack,
    /// How long what it held of a placement group is kept in quarantine after another disk took over. A day without it.
    #[arg(long, value_name = "SECONDS")]
    quarantine_period: Option<u64>,
    /// Store new fragments again on a disk that had acknowledged some and did not have them whole: somebody has seen to it.
    #[arg(long)]
    trust_disk: bool,
    /// How long what a repair has staged is kept after its last use, for the next one to go on with; 0: not at all. An hour without it.
    #[arg(long, value_name = "SECONDS")]
    staged_period: Option<u64>,
    #[command(flatten)]
    store: super::node_store::StoreArgs,
    /// End when the process that started this one ends, however it does.
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    die_with_parent: Option<u32>,
}

impl NodeCommand {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        if let Some(parent) = self.die_with_parent {
            die_with_parent(parent)?;
        }
        let store = self.store.open(&self.data)?;
        let options = self.options()?;
        // A disk that hangs must not keep the process.
        match store {
            None => super::serve(RUNTIME_THREADS, run(options)),
            Some(store) => super::serve(RUNTIME_THREADS, run_over(options, store)),
        }
    }

    fn options(self) -> Result<Options, FilesError> {
        if !self.insecure {
            return Err(FilesError::Usage(
                "this version has no TLS: say --insecure to let it speak plaintext, and keep its address to yourself"
                    .into(),
            ));
        }
        let domain: Domain = self.domain.parse().map_err(|error| FilesError::Usage(format!("{error}")))?;
        let mut config = NodeConfig::default();
        if let Some(seconds) = self.quarantine_period {
            config.quarantine_for = Millis(seconds.saturating_mul(1000));
        }
        config.trust_disk = self.trust_disk;
        if let Some(seconds) = self.staged_period {
            config.staged_for = Millis(seconds.saturating_mul(1000));
        }
        config.headroom_bytes = self.headroom.unwrap_or(config.headroom_bytes);
        config.scrub_bytes_per_second = self.scrub_rate.unwrap_or(config.scrub_bytes_per_second);
        match self.scrub_period {
            Some(0) => config.scrub_period = None,
            Some(seconds) => config.scrub_period = Some(Millis(seconds.saturating_mul(1000))),
            None => {}
        }
        let unlabelled = if self.format { Unlabelled::Format } else { Unlabelled::Refuse };
        let (data, listen, advertise, daemon) = (self.data, self.listen, self.advertise, self.daemon);
        let (disk_threads, read_back) = (self.disk_threads.into(), self.read_back);
        Ok(Options { data, unlabelled, listen, advertise, domain, daemon, disk_threads, read_back, config })
    }
}
