//! A ledger whose validators are other processes of this binary, in a directory that goes away with it.
//!
//! ```text
//!  this process ──┬── quipu start node0      stdin: a pipe that nobody writes to; when it ends, so does the child
//!                 ├── quipu start node1      stdout: "ready: http …"
//!                 └── …                      stderr: DIR/node1.log, kept when something failed
//! ```
//! # Invariants
//! * F1 No child outlives this process, however it ends: each is killed when the fleet is dropped, and stops by
//!   itself when its standard input ends.
//! * F2 A key that is pressed in the terminal reaches this process alone, which ends the children.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::select_all;
use quipu_types::code;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::failure::{Failure, Result};
use crate::local::{self, Layout, node_name};

/// How long a killed process may take to be gone.
const KILL_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a process may take to end after its sockets were closed.
const END_TIME_MAX: Duration = Duration::from_millis(500);
/// Most bytes of a log's end that are told.
const LOG_TAIL_SIZE: usize = 2_000;

/// Validators as processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    dir: PathBuf,
    members: Vec<Member>,
    /// Whether something went wrong, so that somebody needs the logs.
    keeps_logs: bool,
}

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    /// Held so that the child knows that this process lives; waiting for the child would close it.
    _stdin: Option<ChildStdin>,
    log: PathBuf,
    /// The HTTP interface; empty until it is ready.
    http: String,
}

impl Fleet {
    /// Makes a ledger of `count` validators of equal power and starts them all.
    pub(crate) fn spawn(count: usize, clock_rate_hz: u64) -> Result<Self> {
        let stakes = local::stakes(count, &[])?;
        let mut fleet = Self { dir: make_dir()?, members: Vec::new(), keeps_logs: false };
        let layout = Layout::new(&fleet.dir.join("ledger"));
        local::create(&layout, &stakes, &local::ports(count, Some(0))?, (clock_rate_hz, None))?;
        for index in 0..count {
            let log = fleet.dir.join(format!("{}.log", node_name(index)));
            let mut child = spawn(&layout.node(index), &log)?;
            let (name, _stdin) = (node_name(index), child.stdin.take());
            fleet.members.push(Member { name, child, _stdin, log, http: String::new() });
        }
        Ok(fleet)
    }

    /// Waits until all have said where they listen.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.http = member.ready().await?;
        }
        Ok(())
    }

    /// HTTP addresses, one a validator.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.http.clone()).collect()
    }

    /// Numbers of the processes that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.id()).collect()
    }

    /// Where it lives, and its logs.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends when a validator ends, which none should.
    pub(crate) async fn failed(&mut self) -> Failure {
        if self.members.is_empty() {
            return std::future::pending().await;
        }
        let ends = self.members.iter_mut().map(|member| {
            async move {
                let status = member.child.wait().await;
                let status =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                member.ended(&status)
            }
            .boxed()
        });
        select_all(ends).await.0
    }

    /// Keeps the logs after a failure; gives the reason behind it: a validator that ended, when one did.
    pub(crate) async fn explain(&mut self, failure: Failure) -> Failure {
        self.keeps_logs = true;
        let found = tokio::time::timeout(END_TIME_MAX, self.failed()).await;
        let logs = format!("The validators' logs are kept in {}", self.dir.display());
        found.unwrap_or(failure).and_help(&logs)
    }
}

impl Member {
    /// Waits for the line that says where it listens.
    async fn ready(&mut self) -> Result<String> {
        let Some(stdout) = self.child.stdout.take() else {
            return Err(self.ended("has no output"));
        };
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            let Some(rest) = line.strip_prefix("ready: http ") else { continue };
            let url = rest.split_whitespace().next().unwrap_or_default().to_owned();
            // What is printed later is read and dropped, so that it never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(url);
        }
        let status = self.child.wait().await?;
        Err(self.ended(&status.to_string()))
    }

    fn ended(&self, status: &str) -> Failure {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(LOG_TAIL_SIZE)..).unwrap_or_default();
        let message = format!("{} ended early, {status}", self.name);
        Failure::new(code::UNREACHABLE, message)
            .with_help(format!("Its last words:\n{}", String::from_utf8_lossy(tail).trim_end()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended already.
            let _ = member.child.start_kill();
        }
        let start = Instant::now();
        while self.members.iter_mut().any(|member| matches!(member.child.try_wait(), Ok(None)))
            && start.elapsed() < KILL_TIME_MAX
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let gone = if self.keeps_logs { self.dir.join("ledger") } else { self.dir.clone() };
        // A directory for temporary files: what can not be removed does no harm.
        drop(std::fs::remove_dir_all(gone));
    }
}

/// A new directory for temporary files. One of the same name may be left from a process that was killed.
fn make_dir() -> Result<PathBuf> {
    let mut attempt = 0_u32;
    loop {
        let name = format!("quipu-bench-{}-{attempt}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < 100 => {
                attempt = attempt.saturating_add(1);
            }
            Err(error) => return Err(Failure::file("cannot make", &dir, error)),
        }
    }
}

fn spawn(node: &Path, log: &Path) -> Result<Child> {
    let file = std::fs::File::create(log)
        .map_err(|error| Failure::file("cannot make the log", log, error))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["start", "--until-input-ends", "--dir"])
        .arg(node)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(file)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}
