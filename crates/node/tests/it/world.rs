//! What the tests stand on: a validator in a temporary directory, a small HTTP client, a producer that signs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quipu_crypto::domain::Tag;
use quipu_crypto::keyfile;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_node::{Config, Node, NodeError, Running};
use quipu_proof::names::{TransactionDraft, chain_id, lane_of, sign_transaction};
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator};
use quipu_types::{
    Action, Encode, Genesis, Hash, RouteRule, Schema, Signature, StreamSpec, Suite, Time, Writers,
};
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

/// Longest time that any one read of a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [seed; 32])
}

/// A ledger's directory: genesis, and the directory of its one validator.
pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) genesis: Genesis,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let validator = secret(1);
        let key = validator.public();
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "test".into(),
            time_us: Time::new(1_700_000_000_000_000),
            lane_count: 4,
            clock_seed: "a public text".into(),
            clock_rate_hz: 10_000,
            hash_rate_fastest_hz: 20_000_000,
            anchor_window_heights: 1 << 20,
            height_interval_min_ms: 1,
            height_interval_idle_ms: 50,
            open_streams: true,
            validators: vec![GenesisValidator {
                name: "node0".into(),
                key,
                power: 1,
                possession: sign_tagged(
                    &validator,
                    &Hash::ZERO,
                    0,
                    Tag::Possession,
                    &key.to_bytes(),
                ),
                owner: None,
            }],
            accounts: vec![GenesisAccount { account: secret(2).account(), balance: 1_000 }],
            coin: None,
            stake: None,
        };
        let world = Self { root, genesis };
        std::fs::create_dir(world.dir()).unwrap();
        keyfile::save(&world.dir().join("validator.key"), &validator, None).unwrap();
        std::fs::write(world.root.path().join("genesis.json"), world.genesis.to_json()).unwrap();
        let mut config = Config::new(&world.dir());
        config.genesis = PathBuf::from("../genesis.json");
        config.listen.http.set_port(0);
        config.listen.pg.set_port(0);
        config.listen.admin.set_port(0);
        config.limits.segment_size = 1 << 22;
        std::fs::write(world.dir().join("config.toml"), config.to_toml()).unwrap();
        world
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("node0")
    }

    pub(crate) fn chain(&self) -> Hash {
        chain_id(&self.genesis)
    }

    pub(crate) fn config(&self) -> Config {
        Config::read(&self.dir()).unwrap()
    }

    pub(crate) fn start(&self) -> Served {
        Served::start(self.config()).unwrap()
    }

    pub(crate) fn producer(&self, seed: u8) -> Producer {
        Producer { key: secret(seed), chain: self.chain(), next: std::collections::BTreeMap::new() }
    }
}

/// A running validator.
pub(crate) struct Served {
    pub(crate) at: Running,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<(), NodeError>>>,
}

impl Served {
    pub(crate) fn start(config: Config) -> Result<Self, NodeError> {
        let node = Node::open(config)?;
        let at = node.running();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(node.run(async move { drop(stopped.await) }))
            })
            .unwrap();
        Ok(Self { at, stop: Some(stop), thread: Some(thread) })
    }

    /// Stops gracefully and waits for the end.
    pub(crate) fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.at.http, "GET", path, &[], &[])
    }

    pub(crate) fn get_json(&self, path: &str) -> Json {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        request(self.at.http, "POST", path, &[], body)
    }

    /// Submits transactions and gives one answer each.
    pub(crate) fn submit(&self, transactions: &[Vec<u8>]) -> Vec<Json> {
        let mut body = Vec::new();
        for bytes in transactions {
            quipu_net::put_frame(&mut body, bytes);
        }
        let answer = self.post("/v1/transactions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().as_array().unwrap().clone()
    }

    pub(crate) fn metrics(&self) -> String {
        request(self.at.admin, "GET", "/metrics", &[], &[]).text()
    }

    /// The value of one sample.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.end().unwrap();
        }
    }
}

/// Signs transactions, one sequence a lane.
pub(crate) struct Producer {
    pub(crate) key: SecretKey,
    chain: Hash,
    next: std::collections::BTreeMap<u16, u64>,
}

impl Producer {
    /// A transaction of these actions, its sequence the next of its lane.
    pub(crate) fn sign(&mut self, route: Option<&[u8]>, actions: Vec<Action>) -> Vec<u8> {
        let public = self.key.public();
        let lane = lane_of(route.unwrap_or(public.bytes()), 4).get();
        let next = self.next.entry(lane).or_insert(1);
        let sequence = *next;
        *next += 1;
        self.sign_as(sequence, route, actions)
    }

    pub(crate) fn sign_as(
        &self,
        sequence: u64,
        route: Option<&[u8]>,
        actions: Vec<Action>,
    ) -> Vec<u8> {
        let draft = TransactionDraft {
            incarnation: 0,
            sequence,
            anchor: self.chain,
            route: route.map(<[u8]>::to_vec),
            actions,
        };
        sign_transaction(&self.key, &self.chain, draft).to_bytes()
    }
}

/// The stream of most tests: routed by its column `place`.
pub(crate) fn schema() -> Schema {
    Schema::parse("n int8 not null, place text not null, note text").unwrap()
}

pub(crate) fn create_stream(name: &str) -> Action {
    Action::CreateStream(StreamSpec {
        name: name.into(),
        schema: schema(),
        route: RouteRule::Column("place".into()),
        writers: Writers::Anyone,
        compacted: false,
    })
}

pub(crate) fn append(stream: &str, n: i64, place: &str) -> Action {
    let row = json!({ "n": n, "place": place, "note": format!("event {n}") });
    Action::Append {
        stream: stream.into(),
        key: format!("k{}", n % 3).into_bytes(),
        payload: schema().row_from_json(&row).unwrap(),
    }
}

/// The bytes that a text column routes by.
pub(crate) fn route(place: &str) -> Vec<u8> {
    let payload = schema().row_from_json(&json!({ "n": 0, "place": place })).unwrap();
    schema().route_bytes(&payload, 1).unwrap()
}

/// A signature that is of nothing.
pub(crate) fn broken(bytes: &[u8]) -> Vec<u8> {
    let mut broken = bytes.to_vec();
    let last = broken.len() - Signature([0; 64]).to_bytes().len();
    broken[last] ^= 1;
    broken
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and gives the connection, for reading the answer as it comes.
pub(crate) fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: quipu\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early may close before it has read everything.
    drop(stream.write_all(body));
    BufReader::new(stream)
}

/// Reads the head; its status, and whether the body is chunked.
pub(crate) fn read_head(stream: &mut impl BufRead) -> (u16, bool) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    let mut chunked = false;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            return (status, chunked);
        }
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
    }
}

/// One piece of a chunked body; `None` at its end.
pub(crate) fn read_piece(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    if stream.read_line(&mut line).unwrap() == 0 {
        return None;
    }
    let size = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut piece = vec![0; size + 2];
    stream.read_exact(&mut piece).unwrap();
    piece.truncate(size);
    (size > 0).then_some(piece)
}

pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = open(address, method, path, headers, body);
    let (status, chunked) = read_head(&mut stream);
    let mut body = Vec::new();
    if chunked {
        while let Some(piece) = read_piece(&mut stream) {
            body.extend_from_slice(&piece);
        }
    } else {
        stream.read_to_end(&mut body).unwrap();
    }
    Answer { status, body }
}

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
