//! A cell of real processes: one daemon and its nodes, children of this one, on loopback.
//!
//! They die with this process, however it ends: each is told to ask the kernel for that.

use crate::files::error::shown;
use crate::files::{FilesError, Work};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take until it listens. On an idle machine it is some tens of milliseconds.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a process may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(5);
/// What the daemon says before the address for clients and nodes.
const DAEMON_LISTENS: &str = "clients and nodes at ";
/// What a node says before its address.
const NODE_LISTENS: &str = "listening on ";

/// A child process and what it says.
#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

/// A node of the cell.
#[derive(Debug)]
pub struct Node {
    process: Process,
    /// Its data folder.
    pub data: PathBuf,
    /// Which rack it stands in.
    pub rack: usize,
    /// Its name, the last part of its domain.
    pub name: String,
    /// Whether this process has not killed it.
    pub alive: bool,
}

/// The daemon and its nodes.
#[derive(Debug)]
pub struct Cell {
    daemon: Process,
    address: String,
    nodes: Vec<Node>,
}

impl Cell {
    /// Starts a daemon with this configuration and `racks.len()` nodes, the racks given by number, below `home`.
    ///
    /// # Errors
    /// [`FilesError::Io`] where a process cannot be started or ends at once, with what it said.
    pub fn start(work: &Work, home: &Path, config: &str, racks: &[usize]) -> Result<Self, FilesError> {
        let config_path = home.join("daemon.toml");
        fs::write(&config_path, config).map_err(FilesError::io(&config_path, "write"))?;
        let catalog = format!("redb:{}", home.join("catalog.redb").display());
        let mut command = ninefold()?;
        command.args(["daemon", "--catalog", &catalog, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--config").arg(&config_path);
        let daemon = Process::start(command, home.join("daemon.log"))?;
        let mut cell = Self { daemon, address: String::new(), nodes: Vec::new() };
        cell.address = cell.daemon.wait_for(work, DAEMON_LISTENS)?;
        for (number, rack) in racks.iter().enumerate() {
            cell.start_node(home, number, *rack)?;
        }
        for node in &mut cell.nodes {
            node.process.wait_for(work, NODE_LISTENS)?;
        }
        Ok(cell)
    }

    fn start_node(&mut self, home: &Path, number: usize, rack: usize) -> Result<(), FilesError> {
        let name = format!("node-{number:03}");
        let data = home.join(&name);
        let mut command = ninefold()?;
        command.args(["node", "--format", "--listen", "127.0.0.1:0", "--daemon", &self.address]);
        command.arg("--domain").arg(format!("demo/zone/rack-{rack:03}/{name}")).arg("--data").arg(&data);
        // The demo asks for a scrub, as an operator may, and is not to wait long where that question is lost. A cell in service
        // takes days for a pass of its own.
        command.args(["--scrub-period", "30"]);
        let process = Process::start(command, home.join(format!("{name}.log")))?;
        self.nodes.push(Node { process, data, rack, name, alive: true });
        Ok(())
    }

    /// Where the daemon listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All nodes there were at the start.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends a node as a crash would: `kill -9`.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn kill(&mut self, node: usize) -> Result<(), FilesError> {
        let node = &mut self.nodes[node];
        node.alive = false;
        node.process.child.kill().map_err(FilesError::io(&node.data, "kill the node of"))?;
        node.process.child.wait().map_err(FilesError::io(&node.data, "wait for the node of"))?;
        Ok(())
    }

    /// `Err` where a process has ended that nobody killed.
    ///
    /// # Errors
    /// [`FilesError::Io`] with what it said.
    pub fn check(&mut self) -> Result<(), FilesError> {
        self.daemon.check()?;
        self.nodes.iter_mut().filter(|node| node.alive).try_for_each(|node| node.process.check())
    }

    /// Asks all processes to end and waits for them; those that do not are killed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let mut processes: Vec<&mut Process> =
            self.nodes.iter_mut().map(|node| &mut node.process).chain([&mut self.daemon]).collect();
        for process in &mut processes {
            process.ask_to_end();
        }
        let until = Instant::now() + END_WITHIN;
        for process in processes {
            process.end_by(until);
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.end();
    }
}

/// This very program.
fn ninefold() -> Result<Command, FilesError> {
    let program = std::env::current_exe().map_err(FilesError::io(Path::new("this program"), "find"))?;
    Ok(Command::new(program))
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> Result<Self, FilesError> {
        let file = File::create(&log).map_err(FilesError::io(&log, "create"))?;
        command.arg("--insecure").arg(format!("--die-with-parent={}", std::process::id()));
        // A group of their own: a Ctrl-C at the terminal is for the parent, which ends them in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(FilesError::io(&program, "start"))?;
        Ok(Self { child, log })
    }

    /// Waits for a line with `words` and gives the word behind them.
    fn wait_for(&mut self, work: &Work, words: &str) -> Result<String, FilesError> {
        let until = Instant::now() + START_WITHIN;
        loop {
            // Before the log is read: what it said before it ended is in there then.
            let ended = self.has_ended()?;
            if let Some(word) = self.said()?.lines().find_map(|line| word_behind(line, words)) {
                return Ok(word);
            }
            if ended || Instant::now() >= until {
                return Err(self.failed("does not listen"));
            }
            work.check_stop()?;
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn check(&mut self) -> Result<(), FilesError> {
        if self.has_ended()? { Err(self.failed("ended")) } else { Ok(()) }
    }

    fn has_ended(&mut self) -> Result<bool, FilesError> {
        let status = self.child.try_wait().map_err(FilesError::io(&self.log, "look after the process of"))?;
        Ok(status.is_some())
    }

    fn said(&self) -> Result<String, FilesError> {
        let bytes = fs::read(&self.log).map_err(FilesError::io(&self.log, "read"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn failed(&self, what: &str) -> FilesError {
        let said = self.said().unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
        let reason = format!("it {what}; it said: {last} (all of it: {})", shown(&self.log));
        FilesError::io(&self.log, "run the process of")(io::Error::other(reason))
    }

    fn ask_to_end(&mut self) {
        if let (Ok(None), Some(pid)) =
            (self.child.try_wait(), i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn end_by(&mut self, until: Instant) {
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL_EVERY);
        }
    }
}

fn word_behind(line: &str, words: &str) -> Option<String> {
    let (_, rest) = line.split_once(words)?;
    rest.split([' ', ',']).next().filter(|word| !word.is_empty()).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_behind_is_found_whole() {
        let line = "ninefold daemon: cell 01, clients and nodes at 127.0.0.1:4711, operators at 127.0.0.1:4712";
        assert_eq!(word_behind(line, DAEMON_LISTENS).as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(word_behind("ninefold node: disk 5 listening on [::1]:9", NODE_LISTENS).as_deref(), Some("[::1]:9"));
        assert_eq!(word_behind("listening on ", NODE_LISTENS), None);
        assert_eq!(word_behind("something else", NODE_LISTENS), None);
    }
}
