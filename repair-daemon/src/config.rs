//! The daemon's settings: a TOML file, what may stand in it, and what is refused.

use crate::files::FilesError;
use crate::files::error::shown;
use ec_core::CodeSpec;
use ec_core::geometry::{EXTENT_BYTES_MAX, EXTENT_BYTES_NOMINAL};
use repair_core::coordinator::CoordinatorConfig;
use repair_core::limits::MEMBERS_MAX;
use repair_core::time::Millis;
use repair_core::topology::Level;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// Longer than any sensible file of settings.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Rates of budgets that are none of these are mistyped, in megabytes or bits.
const RATE_MIN: u64 = 4_096;
const RATE_MAX: u64 = 1_000_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What a file of settings may say. A key it does not know is refused: a setting misspelt would be one silently not made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonFile {
    /// Code of new placement groups, as `rs:10+4`; none to choose by the number of fault domains.
    pub code: Option<String>,
    /// Level of the domain tree whose loss an extent must survive: region, zone, rack or node.
    pub fault_domain: Option<String>,
    /// Length to cut extents to.
    pub extent_bytes: Option<u64>,
    /// How often nodes beat.
    pub beat_ms: Option<u64>,
    /// Silence after which a disk is suspected.
    pub suspect_ms: Option<u64>,
    /// From suspicion to loss.
    pub grace_seconds: Option<u64>,
    /// How long a disk that flaps is held after its second flap; six times `suspect_ms` without it.
    pub flap_hold_seconds: Option<u64>,
    /// Placement groups a disk belongs to, about.
    pub slots_per_disk: Option<u64>,
    /// Repairs under way at once.
    pub repairs_max: Option<u64>,
    /// Whether the repair of a single fragment goes through a chain of its sources, which add up on the way.
    pub repair_chain: Option<bool>,
    /// Payload that repairs may read from a disk in a second, and as much that they may write to it; 0 for no limit.
    pub repair_disk_bytes_per_second: Option<u64>,
    /// The same of all disks of a node.
    pub repair_node_bytes_per_second: Option<u64>,
    /// The same of all disks of a rack: what goes over its uplink.
    pub repair_rack_bytes_per_second: Option<u64>,
    /// How long a budget that is not used goes on filling.
    pub repair_burst_ms: Option<u64>,
    /// By how much of its rate urgent repairs may overdraw a budget.
    pub repair_borrow_ms: Option<u64>,
    /// By code: extents that survive more further losses than that are not rebuilt at once.
    pub lazy_margin: BTreeMap<String, u64>,
    /// For how long they wait, at most.
    pub lazy_seconds: Option<u64>,
    /// How long a put that broke off may come back.
    pub put_resume_ms: Option<u64>,
    /// Whether extents may be created with gaps while a member is away.
    pub degraded_creates: Option<bool>,
    /// How long a node may take to answer.
    pub call_ms: Option<u64>,
    /// How long a node may take to make a fragment durable.
    pub prepare_ms: Option<u64>,
    /// How often nodes say what their folders come to: what was deleted behind their backs is noticed after so long at most.
    pub digest_seconds: Option<u64>,
    /// In every period one extent in so many is read whole and compared with itself; 0 for none but those asked for.
    pub audit_one_in: Option<u64>,
    /// That period: as long as a pass of the nodes' scrub.
    pub audit_period_seconds: Option<u64>,
    /// Payload that audits may read in a second, of all nodes together; 0 for no limit.
    pub audit_bytes_per_second: Option<u64>,
}

impl DaemonFile {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or says something that is not known; with the line.
    pub fn read(path: &Path) -> Result<Self, FilesError> {
        let usage = |text: String| FilesError::Usage(format!("{}: {text}", shown(path)));
        let metadata = std::fs::metadata(path).map_err(|error| usage(format!("cannot be read: {error}")))?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(usage("not a regular file of at most a mebibyte".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| usage(format!("cannot be read: {error}")))?;
        toml::from_str(&text).map_err(|error| usage(error.to_string().trim_end().to_owned()))
    }

    /// The settings of the coordinator: what the file says, the defaults elsewhere.
    ///
    /// # Errors
    /// A value out of its range, by name.
    pub fn coordinator(&self) -> Result<CoordinatorConfig, FilesError> {
        let mut config = CoordinatorConfig::default();
        if let Some(code) = &self.code {
            config.code = Some(service_code(code)?);
        }
        if let Some(level) = &self.fault_domain {
            config.fault_domain = level_of(level)?;
        }
        config.extent_bytes =
            within("extent_bytes", self.extent_bytes, 4096..=EXTENT_BYTES_MAX)?.unwrap_or(EXTENT_BYTES_NOMINAL);
        set(&mut config.beat_every, within("beat_ms", self.beat_ms, 10..=60_000)?);
        set(&mut config.suspect_after, within("suspect_ms", self.suspect_ms, 20..=DAY_MS)?);
        let grace = within("grace_seconds", self.grace_seconds, 0..=30 * DAY_MS / 1_000)?;
        set(&mut config.grace, grace.map(|seconds| seconds * 1_000));
        let hold = within("flap_hold_seconds", self.flap_hold_seconds, 0..=DAY_MS / 1_000)?;
        config.flap_hold = hold.map(|seconds| Millis(seconds * 1_000));
        set(&mut config.put_resume, within("put_resume_ms", self.put_resume_ms, 100..=DAY_MS)?);
        set(&mut config.pg.call_deadline, within("call_ms", self.call_ms, 10..=600_000)?);
        set(&mut config.pg.prepare_deadline, within("prepare_ms", self.prepare_ms, 10..=600_000)?);
        let digest = within("digest_seconds", self.digest_seconds, 1..=30 * DAY_MS / 1_000)?;
        set(&mut config.pg.digest_every, digest.map(|seconds| seconds * 1_000));
        let period = within("audit_period_seconds", self.audit_period_seconds, 1..=366 * DAY_MS / 1_000)?;
        set(&mut config.audit_period, period.map(|seconds| seconds * 1_000));
        config.audit_one_in = self.audit_one_in.unwrap_or(config.audit_one_in);
        config.audit_bytes_per_second = self.audit_bytes_per_second.unwrap_or(config.audit_bytes_per_second);
        if let Some(slots) = within("slots_per_disk", self.slots_per_disk, 1..=1_024)? {
            config.slots_per_disk = slots as u32;
        }
        if let Some(repairs) = within("repairs_max", self.repairs_max, 1..=64)? {
            config.repairs_max = repairs as usize;
        }
        if let Some(chain) = self.repair_chain {
            config.repair_chain = chain;
        }
        self.set_budget(&mut config)?;
        self.set_lazy(&mut config)?;
        if let Some(degraded) = self.degraded_creates {
            config.pg.degraded_creates = degraded;
        }
        // One beat may be late without anything being wrong.
        if config.suspect_after.0 < 2 * config.beat_every.0 {
            return Err(FilesError::Usage(format!(
                "suspect_ms is {}, beat_ms is {}: suspicion before two beats would suspect healthy nodes",
                config.suspect_after.0, config.beat_every.0
            )));
        }
        Ok(config)
    }
}

impl DaemonFile {
    fn set_budget(&self, config: &mut CoordinatorConfig) -> Result<(), FilesError> {
        let budget = &mut config.budget;
        // The floor of a disk's rate is a part of it, and has to be something.
        let rates = [
            ("repair_disk_bytes_per_second", self.repair_disk_bytes_per_second, &mut budget.disk_bytes_per_second),
            ("repair_node_bytes_per_second", self.repair_node_bytes_per_second, &mut budget.node_bytes_per_second),
            ("repair_rack_bytes_per_second", self.repair_rack_bytes_per_second, &mut budget.rack_bytes_per_second),
        ];
        for (name, value, rate) in rates {
            let value = if value == Some(0) { value } else { within(name, value, RATE_MIN..=RATE_MAX)? };
            *rate = value.unwrap_or(*rate);
        }
        set(&mut budget.burst, within("repair_burst_ms", self.repair_burst_ms, 100..=600_000)?);
        set(&mut budget.borrow, within("repair_borrow_ms", self.repair_borrow_ms, 0..=600_000)?);
        Ok(())
    }

    fn set_lazy(&self, config: &mut CoordinatorConfig) -> Result<(), FilesError> {
        for (code, margin) in &self.lazy_margin {
            let spec = service_code(code)?;
            // What is put off beyond it would be at margin 1, or 0: one failure while it waits, and the next takes data.
            if *margin == 0 {
                return Err(FilesError::Usage(format!(
                    "lazy_margin of {code} is 0: extents that survive one further loss would be let wait; it may be 1 and more"
                )));
            }
            config.lazy_margins.push((spec, usize::try_from(*margin).unwrap_or(usize::MAX)));
        }
        let lazy = within("lazy_seconds", self.lazy_seconds, 1..=30 * DAY_MS / 1_000)?;
        set(&mut config.lazy_wait, lazy.map(|seconds| seconds * 1_000));
        Ok(())
    }
}

/// A code that a service can use.
///
/// # Errors
/// No code, or one too wide for placement groups.
pub fn service_code(text: &str) -> Result<CodeSpec, FilesError> {
    let spec: CodeSpec = text.parse()?;
    let code = ec_core::Code::new(&spec)?;
    if code.n() > MEMBERS_MAX {
        return Err(FilesError::Usage(format!(
            "{text} has {} fragments; the service takes codes of at most {MEMBERS_MAX}",
            code.n()
        )));
    }
    if code.guaranteed_tolerance() == 0 {
        return Err(FilesError::Usage(format!("{text} does not survive the loss of any fragment")));
    }
    Ok(spec)
}

/// A level by name.
///
/// # Errors
/// No level.
pub fn level_of(text: &str) -> Result<Level, FilesError> {
    text.parse().map_err(|error| FilesError::Usage(format!("fault_domain: {error}")))
}

fn set(setting: &mut Millis, value: Option<u64>) {
    if let Some(value) = value {
        *setting = Millis(value);
    }
}

fn within(name: &str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<Option<u64>, FilesError> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(FilesError::Usage(format!("{name} is {value}; it may be {} to {}", range.start(), range.end())))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::budget::BudgetConfig;

    fn parsed(text: &str) -> Result<CoordinatorConfig, FilesError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ninefold.toml");
        std::fs::write(&path, text).unwrap();
        DaemonFile::read(&path)?.coordinator()
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(parsed("").unwrap(), CoordinatorConfig::default());
    }

    #[test]
    fn every_setting_arrives() {
        let config = parsed(
            "code = \"lrc:12,2,2\"\nfault_domain = \"node\"\nextent_bytes = 8192\nbeat_ms = 100\nsuspect_ms = 700\n\
             grace_seconds = 3\nflap_hold_seconds = 5\nslots_per_disk = 2\nrepairs_max = 9\nrepair_chain = false\nput_resume_ms = 500\ndegraded_creates = false\n\
             call_ms = 250\nprepare_ms = 350\naudit_one_in = 0\naudit_period_seconds = 60\naudit_bytes_per_second = 7\n\
             repair_disk_bytes_per_second = 5000\nrepair_node_bytes_per_second = 0\nrepair_rack_bytes_per_second = 7000\n\
             repair_burst_ms = 300\nrepair_borrow_ms = 0\nlazy_seconds = 9\n[lazy_margin]\n\"rs:10+4\" = 2\n",
        )
        .unwrap();
        let mut expected = CoordinatorConfig {
            code: Some("lrc:12,2,2".parse().unwrap()),
            fault_domain: Level::Node,
            extent_bytes: 8192,
            beat_every: Millis(100),
            suspect_after: Millis(700),
            grace: Millis(3_000),
            flap_hold: Some(Millis(5_000)),
            slots_per_disk: 2,
            repairs_max: 9,
            repair_chain: false,
            put_resume: Millis(500),
            audit_one_in: 0,
            audit_period: Millis(60_000),
            audit_bytes_per_second: 7,
            budget: BudgetConfig {
                disk_bytes_per_second: 5_000,
                node_bytes_per_second: 0,
                rack_bytes_per_second: 7_000,
                burst: Millis(300),
                borrow: Millis(0),
            },
            lazy_margins: vec![("rs:10+4".parse().unwrap(), 2)],
            lazy_wait: Millis(9_000),
            ..CoordinatorConfig::default()
        };
        expected.pg.degraded_creates = false;
        expected.pg.call_deadline = Millis(250);
        expected.pg.prepare_deadline = Millis(350);
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_not_known_or_out_of_range_is_refused_with_its_name() {
        for (text, word) in [
            ("beat_ms = 100\nbaet_ms = 3\n", "line 2"),
            ("beat_ms = \"soon\"\n", "line 1"),
            ("beat_ms = -1\n", "line 1"),
            ("beat_ms = 1\n", "beat_ms is 1; it may be 10"),
            ("beat_ms = 5000\nsuspect_ms = 6000\n", "suspect_ms is 6000"),
            ("extent_bytes = 4095\n", "extent_bytes"),
            ("extent_bytes = 1073741825\n", "extent_bytes"),
            ("repairs_max = 0\n", "repairs_max"),
            ("slots_per_disk = 1025\n", "slots_per_disk"),
            ("grace_seconds = 2592001\n", "grace_seconds"),
            ("audit_one_in = -1\n", "line 1"),
            ("audit_period_seconds = 0\n", "audit_period_seconds"),
            ("[lazy_margin]\n\"rs:10+4\" = 0\n", "survive one further loss would be let wait"),
            ("[lazy_margin]\n\"rs:0+4\" = 2\n", ""),
            ("lazy_margin = 2\n", "line 1"),
            ("repair_disk_bytes_per_second = 100\n", "repair_disk_bytes_per_second is 100"),
            ("repair_burst_ms = 1\n", "repair_burst_ms"),
            ("code = \"rs:0+4\"\n", ""),
            ("code = \"rs:4+0\"\n", ""),
            ("fault_domain = \"shelf\"\n", "shelf"),
            ("[daemon]\n", "daemon"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.to_string().contains(word), "{text:?}: {error}");
            assert_eq!(error.exit_code(), 2, "{text:?}");
        }
        assert!(DaemonFile::read(Path::new("/dev/zero")).is_err());
        assert!(DaemonFile::read(Path::new("/no/such/file")).is_err());
    }
}
