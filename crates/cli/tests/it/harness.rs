//! Runs the binary and holds on to what it starts.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use quipu_types::Genesis;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::net::TcpSocket;

pub(crate) const QUIPU: &str = env!("CARGO_BIN_EXE_quipu");

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn program(name: &str, args: &[&str]) -> Ran {
    finish(Command::new(name).args(args), "")
}

/// Runs `quipu` to its end.
pub(crate) fn quipu<S: AsRef<OsStr>>(args: &[S]) -> Ran {
    finish(Command::new(QUIPU).args(args), "")
}

/// The same with something on standard input.
pub(crate) fn quipu_with<S: AsRef<OsStr>>(args: &[S], input: &str) -> Ran {
    finish(Command::new(QUIPU).args(args), input)
}

fn finish(command: &mut Command, input: &str) -> Ran {
    let mut child = command
        .env("NO_COLOR", "1")
        .env("PGCONNECT_TIMEOUT", "10")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that does not read its input has closed it: that is its right.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `quipu`, which must succeed; gives its standard output.
pub(crate) fn ok<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    let ran = quipu(args);
    assert_eq!(ran.code, Some(0), "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The same, as JSON.
pub(crate) fn json<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> Json {
    let text = ok(args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

/// Runs `quipu`, which must fail with this exit code; gives its standard error.
pub(crate) fn fails<S: AsRef<OsStr> + std::fmt::Debug>(code: i32, args: &[S]) -> String {
    let ran = quipu(args);
    assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stderr
}

/// A running validator; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
    pub(crate) pg: String,
}

impl Server {
    /// `quipu start` on a directory that `init` made with ports 0.
    pub(crate) fn start(node: &Path) -> Self {
        Self::from_command(Command::new(QUIPU), node, None)
    }

    /// The same, logging at the end of a file.
    pub(crate) fn start_logged(node: &Path, log: &Path) -> Self {
        Self::from_command(Command::new(QUIPU), node, Some(log))
    }

    /// The same on a wall clock that is ahead or behind.
    pub(crate) fn start_skewed(node: &Path, log: &Path, skew: &str) -> Self {
        // What `faketime` would run it with, without its process between.
        let library = program("faketime", &["-m", "-f", skew, "printenv", "LD_PRELOAD"]).stdout;
        let mut command = Command::new(QUIPU);
        command.env("LD_PRELOAD", library.trim()).env("FAKETIME", skew);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Self::from_command(command, node, Some(log))
    }

    fn from_command(mut command: Command, node: &Path, log: Option<&Path>) -> Self {
        let args = ["start".as_ref(), "--dir".as_ref(), node.as_os_str()];
        let mut child = spawn(command.args(args), log.map_or_else(Stdio::piped, at_its_end));
        let line = ready_line(&mut child, log);
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let index = words.iter().position(|word| *word == name);
            words[index.unwrap_or_else(|| panic!("{line:?} names no {name}")) + 1].to_owned()
        };
        let (http, pg) = (after("http"), after("pg"));
        Self { child, http, pg: format!("postgresql://dev@{pg}/quipu") }
    }

    /// `quipu dev` with the file that it writes its addresses to.
    pub(crate) fn dev(dir: &Path, more: &[&str]) -> Self {
        let url_file = dir.with_extension("urls.json");
        let mut command = Command::new(QUIPU);
        command.args(["dev", "--pg", "0", "--http", "0", "--dir"]).arg(dir);
        command.arg("--url-file").arg(&url_file).args(more);
        let mut child = spawn(&mut command, Stdio::piped());
        ready_line(&mut child, None);
        let urls = read_json(&url_file);
        let text = |name: &str| urls[name].as_str().unwrap().to_owned();
        Self { child, http: text("http"), pg: text("pg") }
    }

    /// `quipu gateway`, logging at the end of a file. It has no HTTP interface.
    pub(crate) fn gateway(args: &[String], log: &Path) -> Self {
        let mut child = spawn(Command::new(QUIPU).args(args), at_its_end(log));
        let line = ready_line(&mut child, Some(log));
        let pg = line.split_whitespace().find(|word| word.starts_with("postgresql://"));
        let pg = pg.unwrap_or_else(|| panic!("{line:?} names no pg")).to_owned();
        Self { child, http: String::new(), pg }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert_eq!(program("kill", &[signal, &pid]).code, Some(0));
    }

    /// SIGTERM; waits until it has ended, which must be in peace.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "stopped with {status}");
    }

    pub(crate) fn psql(&self, query: &str) -> String {
        psql(&self.pg, query)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What psql prints: rows only, `|` between the columns.
pub(crate) fn psql(url: &str, query: &str) -> String {
    let ran = program("psql", &["-X", "-A", "-t", url, "-c", query]);
    assert_eq!(ran.code, Some(0), "{query}: {}", ran.stderr);
    ran.stdout
}

/// Where `scripts/setup` puts what it does not install.
pub(crate) fn cache(name: &str) -> PathBuf {
    let cache = std::env::var("XDG_CACHE_HOME").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    cache.join("quipu").join(name)
}

/// Runs a Python script with psycopg; the ledger's URL is its argument. Gives what it prints.
pub(crate) fn psycopg(script: &str, url: &str) -> String {
    let python = cache("python/bin/python");
    assert!(python.exists(), "run scripts/setup first: it makes {}", python.display());
    let ran = program(python.to_str().unwrap(), &["-c", script, url]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

fn spawn(command: &mut Command, stderr: Stdio) -> Child {
    command
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// A port that is this test's until it is dropped, for who must be told of an address before anybody listens there.
/// It is refused to who dials it and given to nobody: it lies below what systems give to outgoing connections.
#[derive(Debug)]
pub(crate) struct HeldPort(TcpSocket);

impl HeldPort {
    pub(crate) fn new() -> Self {
        let held = std::iter::repeat_with(|| {
            let socket = TcpSocket::new_v4().unwrap();
            let address = (Ipv4Addr::LOCALHOST, fastrand::u16(10_000..20_000)).into();
            socket.bind(address).is_ok().then_some(Self(socket))
        });
        held.flatten().next().unwrap()
    }

    pub(crate) fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
}

/// Changes a validator's configuration; what is to be changed must stand there.
pub(crate) fn edit_config(node: &Path, changes: &[(&str, &str)]) {
    let path = node.join("config.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(path, text).unwrap();
}

/// A file to log at the end of.
fn at_its_end(log: &Path) -> Stdio {
    std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap().into()
}

/// Waits for the line that says that everything is ready; reads on in the background, so that the process never
/// waits for a reader. Who ends before has said why at its standard error or in its log.
pub(crate) fn ready_line(child: &mut Child, log: Option<&Path>) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = child.stderr.take();
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        if line.starts_with("ready") {
            std::thread::spawn(move || lines.for_each(drop));
            std::thread::spawn(move || stderr.map(|mut pipe| pipe.read_to_end(&mut Vec::new())));
            return line;
        }
        seen.push(line);
    }
    let mut reason = String::new();
    if let Some(pipe) = &mut stderr {
        pipe.read_to_string(&mut reason).unwrap();
    }
    if let Some(path) = log {
        reason = std::fs::read_to_string(path).unwrap();
    }
    panic!("it ended before it was ready: {}\n{reason}", seen.join("\n"));
}

pub(crate) fn read_json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A ledger that `init` made, in a directory that goes away.
#[derive(Debug)]
pub(crate) struct Ledger {
    temp: TempDir,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self::of(1)
    }

    /// The same of several validators.
    pub(crate) fn of(validators: usize) -> Self {
        Self::with(validators, &[])
    }

    /// The same, with more words to `init`.
    pub(crate) fn with(validators: usize, words: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let ledger = Self { temp };
        let (dir, count) = (ledger.text("l"), validators.to_string());
        let init = ["init", "--dir", &dir, "--validators", &count, "--base-port", "0"];
        ok(&[&init, words].concat());
        ledger
    }

    /// A path beside or inside the ledger (`l/…`).
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.path("l/node0")
    }

    pub(crate) fn signer(&self) -> String {
        self.text("l/keys/dev.key")
    }

    pub(crate) fn genesis(&self) -> String {
        self.text("l/genesis.json")
    }

    pub(crate) fn read_genesis(&self) -> Genesis {
        Genesis::from_json(&std::fs::read_to_string(self.genesis()).unwrap()).unwrap()
    }

    /// Changes rules of stake in the genesis of a ledger that has not begun.
    pub(crate) fn edit_stake(&self, rules: &[(&str, u64)]) {
        let mut genesis = read_json(self.genesis().as_ref());
        for (name, value) in rules {
            genesis["stake"][name] = (*value).into();
        }
        std::fs::write(self.genesis(), genesis.to_string()).unwrap();
    }

    pub(crate) fn start(&self) -> Server {
        Server::start(&self.node())
    }

    /// A file beside the ledger.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    pub(crate) fn create_stream(
        &self,
        server: &Server,
        name: &str,
        schema: &str,
        more: &[&str],
    ) -> String {
        let signer = self.signer();
        let mut args = vec![
            "stream",
            "create",
            "--url",
            &server.http,
            "--signer",
            &signer,
            name,
            "--schema",
            schema,
        ];
        args.extend(more);
        ok(&args)
    }

    pub(crate) fn append(&self, server: &Server, stream: &str, row: &Json) -> Json {
        let (signer, row) = (self.signer(), row.to_string());
        json(&[
            "append",
            "--url",
            &server.http,
            "--signer",
            &signer,
            "--stream",
            stream,
            "--data",
            &row,
            "--json",
        ])
    }
}

/// The lines of `quipu tail --json`.
pub(crate) fn tail(server: &Server, stream: &str) -> Vec<Json> {
    let text = ok(&["tail", "--url", &server.http, "--stream", stream, "--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
