//! Object stores on loopback, each of one test, and a proxy before one that behaves as networks and services do.
#![allow(dead_code, reason = "each test file uses a part of this")]

use repair_daemon::store::bucket::{Address, BucketStore, Settings};
use repair_daemon::store::{FragmentStore, Label, StoreError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/emulator.py");
/// Public, and the same for every Azurite.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    S3,
    Azure,
}

/// A service with one bucket, `bucket`. Ends with this.
pub struct Emulator {
    pub kind: Kind,
    pub endpoint: String,
    child: Child,
    folder: TempDir,
    is_tls: bool,
}

impl Emulator {
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, false, &[])
    }

    pub fn start_with(kind: Kind, is_tls: bool, environment: &[(&str, &str)]) -> Self {
        let advice = "run scripts/test, which installs the object stores of the tests and says where they are";
        let made = |variable: &str, path: &str| {
            let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).join(path);
            let found = std::env::var_os(variable).or_else(|| path.exists().then(|| path.into_os_string()));
            found.unwrap_or_else(|| panic!("{variable} is not set: {advice}"))
        };
        let python = made("NINEFOLD_PYTHON", "test-venv/bin/python3");
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(python);
        command.arg(SCRIPT);
        match kind {
            Kind::S3 => command.args(["s3".as_ref(), folder.path().as_os_str(), "bucket".as_ref()]),
            Kind::Azure => {
                let script = made("NINEFOLD_AZURITE", "azurite-3.37.0/node_modules/azurite/dist/src/blob/main.js");
                command.args(["azure".as_ref(), folder.path().as_os_str(), "bucket".as_ref(), &*script])
            }
        };
        command.args(is_tls.then_some("--tls")).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        let endpoint = endpoint.trim().to_owned();
        assert!(endpoint.starts_with("http"), "the emulator of {kind:?} did not start: {advice}");
        Self { kind, endpoint, child, folder, is_tls }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The certificate to trust, with TLS.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn url(&self, prefix: &str) -> String {
        match self.kind {
            Kind::S3 => format!("s3://bucket/{prefix}"),
            Kind::Azure => format!("az://bucket/{prefix}"),
        }
    }

    /// What a process needs in its environment.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        match self.kind {
            Kind::S3 => {
                vec![("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")]
            }
            Kind::Azure => {
                vec![("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1"), ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY)]
            }
        }
    }

    /// Its address, impatient.
    pub fn address(&self, prefix: &str) -> Address {
        let settings = self.environment().into_iter().map(|(key, value)| (key.to_lowercase(), value.to_owned()));
        Address {
            endpoint: Some(self.endpoint.clone()),
            allow_http: !self.is_tls,
            authorities: self.is_tls.then(|| self.authority()),
            settings: settings.collect(),
            retry_for: Duration::from_secs(2),
            request_for: Duration::from_secs(20),
            ..Address::new(self.url(prefix))
        }
    }

    /// A store of a prefix, labelled.
    pub fn store(&self, prefix: &str, change: impl FnOnce(&mut Settings)) -> BucketStore {
        let store = open(&self.address(prefix), self.folder.path().join(format!("spool-{prefix}")), change).unwrap();
        if store.label().unwrap().is_none() {
            store.set_label(LABEL).unwrap();
        }
        store
    }

    /// A store of a prefix behind a proxy, labelled before.
    pub fn store_behind(&self, proxy: &Proxy, prefix: &str, change: impl FnOnce(&mut Settings)) -> BucketStore {
        drop(self.store(prefix, |_| ()));
        let path = match self.kind {
            Kind::S3 => "",
            Kind::Azure => "/devstoreaccount1",
        };
        let address = Address { endpoint: Some(format!("http://{}{path}", proxy.address)), ..self.address(prefix) };
        open(&address, self.folder.path().join(format!("spool-{prefix}")), change).unwrap()
    }

    /// Bytes of all objects below a prefix, counted anew.
    pub fn used_bytes(&self, prefix: &str) -> u64 {
        // It is counted when it is opened: with its label.
        drop(self.store(prefix, |_| ()));
        let store = self.store(prefix, |settings| settings.capacity_bytes = Some(1 << 40));
        let room = store.room().unwrap();
        room.total_bytes - room.free_bytes
    }

    fn host(&self) -> String {
        self.endpoint.split('/').nth(2).unwrap().to_owned()
    }

    /// Uploads in parts that were begun and not ended. Only of S3: Azure has no such thing to list.
    pub fn open_uploads(&self) -> usize {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        let head = "GET /bucket?uploads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("ListMultipartUploadsResult"), "{answer}");
        answer.matches("<UploadId>").count()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The label of the stores of the tests.
pub const LABEL: Label = Label { disk: repair_core::id::DiskId(77), cell: None };

/// Opens a store.
pub fn open(address: &Address, spool: PathBuf, change: impl FnOnce(&mut Settings)) -> Result<BucketStore, StoreError> {
    let (client, prefix) = address.client().unwrap();
    let mut settings = Settings::new(spool);
    settings.leftover_age = Duration::ZERO;
    change(&mut settings);
    BucketStore::open(client, prefix, settings)
}

/// What the proxy does with a request that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// The service does it, and nobody hears so.
    LoseAnswer,
    /// The service does not hear of it.
    Answer(u16),
}

/// Strikes the next `times` requests of a method whose target has all of `parts`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub method: &'static str,
    pub parts: &'static [&'static str],
    pub does: Does,
    pub times: usize,
}

/// A proxy before an emulator.
pub struct Proxy {
    pub address: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    struck: Arc<Mutex<usize>>,
}

impl Proxy {
    pub fn before(emulator: &Emulator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (rules, struck): (Arc<Mutex<Vec<Rule>>>, Arc<Mutex<usize>>) = Default::default();
        let (upstream, its_rules, its_struck) = (emulator.host(), Arc::clone(&rules), Arc::clone(&struck));
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, rules, struck) = (upstream.clone(), Arc::clone(&its_rules), Arc::clone(&its_struck));
                std::thread::spawn(move || pass(client, &upstream, &rules, &struck));
            }
        });
        Self { address, rules, struck }
    }

    pub fn set(&self, rules: &[Rule]) {
        *self.rules.lock().unwrap() = rules.to_vec();
        *self.struck.lock().unwrap() = 0;
    }

    /// How often rules struck since they were set.
    pub fn struck(&self) -> usize {
        *self.struck.lock().unwrap()
    }
}

/// One request and its answer; then the connection ends.
fn pass(client: TcpStream, upstream: &str, rules: &Mutex<Vec<Rule>>, struck: &Mutex<usize>) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let does = rule_for(head.lines().next()?, &mut rules.lock().unwrap());
    *struck.lock().unwrap() += usize::from(does.is_some());
    let mut client = reader.into_inner();
    if let Some(Does::Answer(status)) = does {
        let answer = format!("HTTP/1.1 {status} Struck\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).ok();
    }
    let mut service = TcpStream::connect(upstream).ok()?;
    let kept: Vec<&str> =
        head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    service.write_all(format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).as_bytes()).ok()?;
    service.write_all(&body).ok()?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).ok()?;
    if does.is_none() {
        client.write_all(&answer).ok()?;
    }
    Some(())
}

fn rule_for(request: &str, rules: &mut [Rule]) -> Option<Does> {
    let fits = |rule: &&mut Rule| {
        rule.times > 0 && request.starts_with(rule.method) && rule.parts.iter().all(|part| request.contains(part))
    };
    let rule = rules.iter_mut().find(fits)?;
    rule.times -= 1;
    Some(rule.does)
}
