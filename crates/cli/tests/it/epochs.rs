//! Validators that come and go, as processes: a ledger of one grows to four, a fifth joins four under load, the first leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use quipu_client::{Client, Producer};
use quipu_crypto::SecretKey;
use quipu_types::{Action, Schema, Value};
use serde_json::{Value as Json, json};

use crate::fleet::{COUNT, Fleet, Load, SCHEMA as SMALL, until, until_answered};
use crate::harness::{HeldPort, Ledger, Server, edit_config, json as of_json, ok, psql, quipu};
use crate::proxy::{Proxies, Way};

/// Lets a validator save checkpoints, and listen for others at an address.
fn prepare(node: &Path, peer: Option<&str>) {
    edit_config(node, &[("checkpoint_heights = 0", "checkpoint_heights = 16")]);
    if let Some(address) = peer {
        edit_config(node, &[("peer = \"127.0.0.1:0\"", &format!("peer = \"{address}\""))]);
    }
}

/// Who joins.
struct Joiner {
    name: String,
    key: String,
    public: String,
    dir: PathBuf,
    log: PathBuf,
    address: String,
    http: String,
    /// Where others and clients find it, until it listens there itself.
    ports: Option<[HeldPort; 2]>,
}

/// A client that was told where all validators would be when the first was alone, and is told nothing more.
struct Steady {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Steady {
    fn start(urls: &str) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts, client) =
            (Arc::clone(&is_over), Arc::clone(&answered), Client::new(urls).unwrap());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(append_on(&client, &ends, &counts));
        });
        Self { is_over, answered, thread }
    }

    fn count(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// How often it was answered.
    fn finish(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.answered.load(Ordering::SeqCst)
    }
}

/// Appends one row after the other, each until it is answered, with the same bytes.
async fn append_on(client: &Client, is_over: &AtomicBool, answered: &AtomicU64) {
    let (key, schema) = (SecretKey::generate(), Schema::parse(SMALL).unwrap());
    let mut producer = Producer::new(client, &key).await.unwrap();
    while !is_over.load(Ordering::SeqCst) {
        let number = i64::try_from(answered.load(Ordering::SeqCst)).unwrap();
        let payload = schema.encode_row(&[Value::Text("steady".into()), Value::Int8(number)]);
        let payload = payload.unwrap();
        let action = Action::Append { stream: "small".into(), key: Vec::new(), payload };
        let signed = producer.sign(None, &[action]).await.unwrap();
        let answers = until_answered(client, std::slice::from_ref(&signed)).await;
        assert!(answers[0].is_committed(), "{answers:?}");
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

impl Joiner {
    fn new(ledger: &Ledger, name: &str) -> Self {
        let key = ledger.text(&format!("{name}.key"));
        ok(&["keys", "new", "--out", &key]);
        let public =
            of_json(&["keys", "show", &key, "--json"])["public"].as_str().unwrap().to_owned();
        let (dir, log) = (ledger.path(name), ledger.path(&format!("{name}.log")));
        let ports = [HeldPort::new(), HeldPort::new()];
        let [address, http] = ports.each_ref().map(HeldPort::address);
        Self { name: name.to_owned(), key, public, dir, log, address, http, ports: Some(ports) }
    }

    fn register(&self, ledger: &Ledger, url: &str) {
        let (genesis, signer) = (ledger.genesis(), ledger.signer());
        ok(&[
            "stake",
            "register",
            "--url",
            url,
            "--genesis",
            &genesis,
            "--signer",
            &signer,
            "--key",
            &self.key,
            "--name",
            &self.name,
            "--address",
            &self.address,
        ]);
    }

    /// Makes its directory of a checkpoint that knows it, and starts it.
    fn start(&mut self, ledger: &Ledger, urls: &str, peers: &[String]) -> Server {
        let (dir, genesis) = (self.dir.to_str().unwrap(), ledger.genesis());
        let mut init = vec![
            "init",
            "--dir",
            dir,
            "--genesis",
            &genesis,
            "--key",
            &self.key,
            "--listen",
            &self.address,
            "--base-port",
            "0",
        ];
        peers.iter().for_each(|peer| init.extend(["--peer", peer]));
        ok(&init);
        let said = ok(&["recover", "--dir", dir, "--from", urls]);
        assert!(said.contains("vouched for"), "{said}");
        prepare(&self.dir, None);
        let http = format!("http = \"{}\"", self.http);
        edit_config(&self.dir, &[("http = \"127.0.0.1:0\"", &http)]);
        drop(self.ports.take());
        Server::start_logged(&self.dir, &self.log)
    }
}

fn stake(ledger: &Ledger, url: &str, what: &str, words: &[&str]) {
    let signer = ledger.signer();
    ok(&[&["stake", what, "--url", url, "--signer", &signer], words].concat());
}

/// The voting key of a validator of the genesis.
fn key_of(ledger: &Ledger, index: usize) -> String {
    ledger.read_genesis().validators[index].key.to_string()
}

/// What the ledger says of a validator.
fn power(url: &str, name: &str) -> Option<String> {
    let shown = of_json(&["stake", "show", "--url", url, "--json"]);
    let validators = shown["validators"].as_array().unwrap();
    let one = validators.iter().find(|one| one["name"] == name)?;
    Some(one["power"].as_str().unwrap().to_owned())
}

/// The newest height of which a directory has a checkpoint.
fn newest_checkpoint(node: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(node.join("checkpoints")) else { return 0 };
    let names = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
    names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
}

/// Whether an epoch after the genesis' has begun.
fn has_a_later_begun(url: &str) -> bool {
    let shown = of_json(&["stake", "show", "--url", url, "--json"]);
    let epochs = shown["epochs"].as_array().unwrap();
    epochs.iter().skip(1).any(|one| !one["began"].is_null())
}

/// The newest height that SQL shows; none, right after a beginning with a checkpoint, is 0.
fn height(server: &Server) -> u64 {
    psql(&server.pg, "select coalesce(max(height), 0) from quipu.headers").trim().parse().unwrap()
}

/// Appends until something is so: heights come with what is ordered.
fn append_until(ledger: &Ledger, server: &Server, what: &str, mut is_so: impl FnMut() -> bool) {
    let mut n = 0;
    until(what, || {
        n += 1;
        ledger.append(server, "small", &json!({ "who": "a", "n": n }));
        is_so()
    });
}

fn proof(ledger: &Ledger, server: &Server, tx: &Json, name: &str) -> String {
    let tx = tx["tx"].as_str().unwrap();
    let mut text = String::new();
    until("a proof", || {
        let ran = quipu(&["prove", "--url", &server.http, tx]);
        text = ran.stdout;
        ran.code == Some(0)
    });
    ledger.write(name, &text)
}

#[test]
fn a_ledger_of_one_grows_to_four_and_its_clients_and_proofs_stay() {
    let ledger = Ledger::with(1, &["--epoch", "200", "--unbonding", "1000", "--dealing", "200"]);
    let (node, port, genesis) = (ledger.node(), HeldPort::new(), ledger.genesis());
    let address = port.address();
    prepare(&node, Some(&address));
    drop(port);
    let first = ledger.start();
    ledger.create_stream(&first, "small", SMALL, &[]);
    let told = ledger.append(&first, "small", &json!({ "who": "before", "n": 0 }));
    let old = proof(&ledger, &first, &told, "old.json");

    let mut joiners = ["v1", "v2", "v3"].map(|name| Joiner::new(&ledger, name));
    let urls = joiners.iter().map(|joiner| format!("http://{}", joiner.http));
    let urls: Vec<String> = std::iter::once(first.http.clone()).chain(urls).collect();
    let steady = Steady::start(&urls.join(","));
    joiners.iter().for_each(|joiner| joiner.register(&ledger, &first.http));
    let known = || joiners.iter().all(|joiner| power(&first.http, &joiner.name).is_some());
    append_until(&ledger, &first, "they are known", known);
    // The set that has what is bonded now has their slots too.
    stake(&ledger, &first.http, "bond", &["--key", &key_of(&ledger, 0), "1"]);
    let has_two = |name: &str| power(&first.http, name).as_deref() == Some("2");
    append_until(&ledger, &first, "an epoch that knows them", || has_two("node0"));
    let at = height(&first);
    append_until(&ledger, &first, "a checkpoint of it", || newest_checkpoint(&node) > at);
    let peers = [format!("node0={address}")];
    let servers: Vec<Server> =
        joiners.iter_mut().map(|joiner| joiner.start(&ledger, &first.http, &peers)).collect();
    for server in &servers {
        append_until(&ledger, &first, "it follows", || height(server) + 2 >= height(&first));
    }
    for joiner in &joiners {
        stake(&ledger, &first.http, "bond", &["--key", &joiner.public, "2"]);
    }
    let all = || joiners.iter().all(|joiner| has_two(&joiner.name));
    append_until(&ledger, &first, "all have power", all);

    // One of four may be missing now, the first too.
    let told = ledger.append(&servers[0], "small", &json!({ "who": "after", "n": 1 }));
    let new = proof(&ledger, &servers[1], &told, "new.json");
    ok(&["verify", "--genesis", &genesis, &old]);
    ok(&["verify", "--genesis", &genesis, &new]);
    first.kill();
    for n in 0..5 {
        ledger.append(&servers[2], "small", &json!({ "who": "without the first", "n": n }));
    }
    let told = ledger.append(&servers[0], "small", &json!({ "who": "still", "n": 2 }));
    let still = proof(&ledger, &servers[2], &told, "still.json");
    ok(&["verify", "--genesis", &genesis, &still]);
    let before = steady.count();
    until("the old client is answered by the new", || steady.count() > before + 5);
    let answered = steady.finish();
    // Who began with a checkpoint has the rows after it.
    let query = "set quipu.partial_streams = on; \
                 select count(*) = max(n) - min(n) + 1, max(n) + 1 from small where who = 'steady'";
    let told = psql(&servers[0].pg, query);
    assert_eq!(told.lines().last(), Some(&*format!("t|{answered}")), "each once: {told}");
    for (server, joiner) in servers.into_iter().zip(&joiners) {
        server.stop();
        let said = ok(&["check", "--dir", joiner.dir.to_str().unwrap()]);
        assert!(said.starts_with("clean: "), "{said}");
    }
}

#[test]
fn a_fifth_joins_under_load_and_sequences_and_the_first_leaves_with_its_bond() {
    let fleet = Fleet::with(|ledger| {
        ledger.edit_stake(&[("epoch_us", 300_000), ("unbond_us", 2_000_000)]);
        (0..4).for_each(|index| prepare(&ledger.path(&format!("l/node{index}")), None));
    });
    fleet.create_stream();
    let (ledger, url) = (&fleet.ledger, fleet.url(1).to_owned());
    let load = Load::start(&fleet);
    load.until_answered(1, &[]);
    let mut joiner = Joiner::new(ledger, "v4");
    joiner.register(ledger, &url);
    until("an epoch that knows it", || has_a_later_begun(&url));
    let at = fleet.height(1);
    let nodes: Vec<PathBuf> = (0..4).map(|index| fleet.dir(index)).collect();
    until("checkpoints", || nodes.iter().all(|node| newest_checkpoint(node) > at));
    let peers: Vec<String> = (0..4).map(|index| peer_of(&fleet.dir(index), index)).collect();
    let fifth = joiner.start(ledger, &fleet.all_urls(), &peers);
    until("it follows", || height(&fifth) + 8 >= fleet.height(1));
    stake(ledger, &url, "bond", &["--key", &joiner.public, "1"]);
    until("it has power", || power(&url, "v4").as_deref() == Some("1"));
    until("it sequences a lane", || {
        let clock = of_json(&["clock", "--url", &url, "--json"]);
        clock["lanes"].as_array().unwrap().iter().any(|lane| lane["sequencer"] == "v4")
    });
    load.until_answered(1, &[]);

    let first = key_of(ledger, 0);
    stake(ledger, &url, "unbond", &["--key", &first, "1"]);
    until("it has no power", || power(&url, "node0").as_deref() == Some("0"));
    let early =
        quipu(&["stake", "withdraw", "--url", &url, "--signer", &ledger.signer(), "--key", &first]);
    let signer = ledger.signer();
    if early.code != Some(0) {
        until("its bond comes back", || {
            let words = ["stake", "withdraw", "--url", &url, "--signer", &signer, "--key", &first];
            quipu(&words).code == Some(0)
        });
    }
    load.until_answered(1, &[]);
    let tx = psql(&fleet.server(2).pg, "select _tx from load order by _height desc limit 1");
    let tx = tx.trim().split(':').next().unwrap().to_owned();
    let bundle = proof(ledger, fleet.server(2), &json!({ "tx": tx }), "after.json");
    ok(&["verify", "--genesis", &ledger.genesis(), &bundle]);
    let done = load.finish(&fleet);
    fifth.stop();
    fleet.check(&done);
}

/// Later than any timer of a led round: what a leader proposes comes when its round is over.
const LATE: Way = Way::Slow { ms: 700, break_one_in: usize::MAX };

/// How the heights of a validator's newest header begin.
fn mode(fleet: &Fleet, index: usize) -> String {
    fleet.status(index).rest["rounds"]["mode"].as_str().unwrap().to_owned()
}

#[test]
fn a_coin_is_dealt_to_the_next_set_and_decides_where_the_network_keeps_no_time() {
    let mut proxies = None;
    let mut fleet = Fleet::with(|ledger| {
        proxies = Some(Proxies::between(ledger, COUNT));
        // Dealings are of the height after the one that asks for them, which comes a second later where nothing else happens.
        ledger.edit_stake(&[("epoch_us", 300_000), ("deal_us", 2_500_000)]);
    });
    let proxies = proxies.unwrap();
    let first = key_of(&fleet.ledger, 0);
    let dealt = |fleet: &Fleet, index: usize, epoch: u64| {
        let query =
            format!("select coin and began is not null from quipu.epochs where epoch = {epoch}");
        psql(&fleet.server(index).pg, &query).trim() == "t"
    };
    let url = fleet.url(1).to_owned();
    until("each has a key for shares", || {
        let query = "select count(*) from quipu.validators where share_key";
        psql(&fleet.server(1).pg, query).trim() == "4"
    });
    stake(&fleet.ledger, &url, "bond", &["--key", &first, "1"]);
    until("an epoch with another coin", || (0..COUNT).all(|index| dealt(&fleet, index, 1)));
    assert_eq!(mode(&fleet, 1), "led");

    // What was dealt is opened again by who comes back; without them nobody could throw the coin.
    for index in [0, 2] {
        fleet.kill(index);
        fleet.start(index);
    }
    for index in [0, 2] {
        fleet.until_caught_up(index);
        let path = fleet.ledger.path(&format!("node{index}.log"));
        until("its shares are there again", || {
            let log = std::fs::read_to_string(&path).unwrap();
            log.matches("the coin that the validators dealt is here").count() == 2
        });
    }
    let before = fleet.height(1);
    proxies.everywhere(LATE);
    until("a height is decided by the coin", || {
        (0..COUNT).all(|index| mode(&fleet, index) == "open") && fleet.height(1) > before + 2
    });
    proxies.everywhere(Way::Open);
    until("leaders are tried again", || (0..COUNT).all(|index| mode(&fleet, index) == "led"));
    fleet.ledger.create_stream(fleet.server(3), "small", "who text not null, n int8 not null", &[]);
    let tx = fleet.ledger.append(fleet.server(3), "small", &json!({ "who": "after", "n": 1 }));
    let bundle = proof(&fleet.ledger, fleet.server(2), &tx, "after.json");
    ok(&["verify", "--genesis", &fleet.ledger.genesis(), &bundle]);
    for index in 0..COUNT {
        fleet.stop(index);
        let said = ok(&["check", "--dir", fleet.dir(index).to_str().unwrap()]);
        assert!(said.starts_with("clean: "), "{said}");
    }
}

/// `NAME=HOST:PORT` of where a validator of the fleet listens for others.
fn peer_of(dir: &Path, index: usize) -> String {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("peer = ")).unwrap();
    let address = line.split('"').nth(1).unwrap();
    format!("node{index}={address}")
}
