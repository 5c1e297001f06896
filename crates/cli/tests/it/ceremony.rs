//! Members who do not trust each other make one genesis through files, and each a directory of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Server, fails, json, ok, quipu, read_json};

/// A room that members exchange files in. Keys lie in it too: all members are this one test.
struct Room {
    temp: TempDir,
}

impl Room {
    fn new() -> Self {
        let room = Self { temp: tempfile::tempdir().unwrap() };
        let dir = room.temp.path().to_str().unwrap();
        ok(&["genesis", "new", "--dir", dir, "--name", "Ours", "--lanes", "4"]);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn draft(&self) -> String {
        self.text("genesis.draft.json")
    }

    /// Makes a key and joins with it.
    fn join(&self, name: &str, power: &str) -> String {
        let key = self.text(&format!("{name}.key"));
        ok(&["keys", "new", "--out", &key]);
        let out = self.text(&format!("{name}.join.json"));
        let address = format!("{name}.example:8642");
        ok(&self.join_args(name, &key, power, &address, &out));
        out
    }

    fn join_args(
        &self,
        name: &str,
        key: &str,
        power: &str,
        address: &str,
        out: &str,
    ) -> Vec<String> {
        let draft = self.draft();
        let args = [
            "genesis",
            "join",
            "--genesis",
            &draft,
            "--name",
            name,
            "--key",
            key,
            "--power",
            power,
            "--address",
            address,
            "--out",
            out,
        ];
        args.map(str::to_owned).to_vec()
    }

    fn merge_args(&self, joins: &[String], out: &str) -> Vec<String> {
        let mut args = vec!["genesis".to_owned(), "merge".into(), self.draft()];
        args.extend_from_slice(joins);
        args.extend(["--out".into(), self.text(out)]);
        args
    }

    fn sign(&self, genesis: &str, name: &str) -> String {
        let (genesis, key) = (self.text(genesis), self.text(&format!("{name}.key")));
        let out = format!("{genesis}.{name}.sign.json");
        ok(&["genesis", "sign", "--genesis", &genesis, "--key", &key, "--out", &out]);
        out
    }

    fn verify_args(&self, signatures: &[String]) -> Vec<String> {
        let mut args = vec!["genesis".to_owned(), "verify".into(), "--genesis".into()];
        args.push(self.text("genesis.json"));
        args.extend_from_slice(signatures);
        args
    }
}

/// The chain id that a command prints.
fn chain(printed: &str) -> String {
    let line = printed.lines().find_map(|line| line.strip_prefix("chain "));
    line.unwrap_or_else(|| panic!("no chain in {printed}")).trim().to_owned()
}

#[test]
fn four_members_make_one_genesis_and_no_key_leaves_its_owner() {
    let room = Room::new();
    let names = ["delta", "alpha", "charlie", "bravo"];
    let mut joins: Vec<String> = names.iter().map(|name| room.join(name, "2")).collect();
    let merged = ok(&room.merge_args(&joins, "genesis.json"));
    assert!(merged.contains("any 1 of 4 validators may fail"), "{merged}");
    joins.rotate_left(1);
    let again = ok(&room.merge_args(&joins, "again.json"));
    assert_eq!(chain(&again), chain(&merged));
    let bytes = |name: &str| std::fs::read(room.path(name)).unwrap();
    assert_eq!(bytes("again.json"), bytes("genesis.json"));

    let signatures: Vec<String> =
        names.iter().map(|name| room.sign("genesis.json", name)).collect();
    let verified = ok(&room.verify_args(&signatures));
    assert_eq!(chain(&verified), chain(&merged));
    let missing = fails(1, &room.verify_args(&signatures[1..]));
    assert!(missing.contains("QP0602") && missing.contains("not signed by delta"), "{missing}");

    // What was exchanged holds no secret.
    for name in names {
        let key = read_json(&room.path(&format!("{name}.key")));
        let secret = key["secret"].as_str().unwrap();
        for file in std::fs::read_dir(room.temp.path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let is_key = path.extension().is_some_and(|end| end == "key");
            assert!(is_key || !text.contains(secret), "{} holds a secret", path.display());
        }
    }

    let (dir, genesis, key) = (room.text("v"), room.text("genesis.json"), room.text("bravo.key"));
    let mut args = vec!["init", "--dir", &dir, "--genesis", &genesis, "--key", &key, "--peers"];
    args.extend(joins.iter().map(String::as_str));
    let made = ok(&args);
    assert_eq!(chain(&made), chain(&merged));
    check_member(Path::new(&dir), &key);
    let config = room.text("v/config.toml");
    assert!(ok(&["config", "check", &config]).contains("3 peers"));
    let refused = fails(1, &args);
    assert!(refused.contains("is not replaced"), "{refused}");
}

fn check_member(dir: &Path, key: &str) {
    let config = quipu_node::Config::read(dir).unwrap();
    assert_eq!(config.key, Path::new(key));
    assert_eq!(config.listen.peer.to_string(), "0.0.0.0:8642");
    let peers: Vec<&str> = config.peers.keys().map(String::as_str).collect();
    assert_eq!(peers, ["alpha", "charlie", "delta"]);
    assert_eq!(config.peers["delta"], "delta.example:8642");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["config.toml", "first-start", "genesis.json"]);
}

#[test]
fn a_member_deals_the_coin_for_all_and_each_gets_shares_of_its_own() {
    let room = Room::new();
    let joins = [room.join("alpha", "1"), room.join("bravo", "1")];
    let (coin, shares) = (room.text("coin.json"), room.text(""));
    let mut deal = vec!["genesis".to_owned(), "deal".into(), room.draft()];
    deal.extend_from_slice(&joins);
    deal.extend(["--out".into(), coin.clone(), "--shares".into(), shares]);
    let dealt = ok(&deal);
    assert!(dealt.contains("alpha.coin.key") && dealt.contains("bravo.coin.key"), "{dealt}");
    assert!(fails(1, &deal).contains("is not replaced"), "shares are made once");
    let with_coin = |joins: &[String], out: &str| {
        [room.merge_args(joins, out), vec!["--coin".to_owned(), coin.clone()]].concat()
    };
    let merged = ok(&with_coin(&joins, "genesis.json"));
    assert!(merged.contains("if leaders fail, heights go on"), "{merged}");
    let bare = ok(&room.merge_args(&joins, "bare.json"));
    assert!(bare.contains("every round has a leader") && chain(&bare) != chain(&merged), "{bare}");

    // Dealt to two, it is no coin of three; and one with a foreign key is none at all.
    let three = [joins[0].clone(), joins[1].clone(), room.join("charlie", "1")];
    let refused = fails(1, &with_coin(&three, "three.json"));
    assert!(refused.contains("QP0602") && refused.contains("the coin"), "{refused}");
    let mut foreign = read_json(Path::new(&coin));
    foreign["parts"][0] = foreign["parts"][1].clone();
    std::fs::write(room.path("foreign.json"), foreign.to_string()).unwrap();
    let mut args = room.merge_args(&joins, "foreign.genesis.json");
    args.extend(["--coin".into(), room.text("foreign.json")]);
    assert!(fails(1, &args).contains("the coin"), "not of one dealing");

    // The directory of a member names its shares; another's are refused when it starts.
    let (genesis, key) = (room.text("genesis.json"), room.text("alpha.key"));
    for (dir, whose) in [("own", "alpha"), ("other", "bravo")] {
        let (dir, shares) = (room.text(dir), room.text(&format!("{whose}.coin.key")));
        let args = ["init", "--dir", &dir, "--genesis", &genesis, "--key", &key];
        let more = ["--coin", &shares, "--peers", &joins[0], &joins[1], "--base-port", "0"];
        let mut args = [args.as_slice(), &more].concat();
        if whose == "bravo" {
            // One key has one directory, unless that is lost: then the next one is an observer's.
            let refused = fails(1, &args);
            assert!(refused.contains("votes from") && refused.contains("own"), "{refused}");
            args.push("--again");
        }
        ok(&args);
        assert_eq!(Path::new(&dir).join("first-start").exists(), whose == "alpha");
        let config = quipu_node::Config::read(Path::new(&dir)).unwrap();
        assert_eq!(config.coin, Path::new(&shares));
    }
    let refused = fails(1, &["start", "--dir", &room.text("other")]);
    assert!(refused.contains("its shares are another validator's"), "{refused}");
}

#[test]
fn a_member_alone_starts_what_the_ceremony_made() {
    let room = Room::new();
    let join = room.join("alpha", "1");
    let merged = ok(&room.merge_args(std::slice::from_ref(&join), "genesis.json"));
    let (dir, genesis, key) = (room.text("v"), room.text("genesis.json"), room.text("alpha.key"));
    let args = ["init", "--dir", &dir, "--genesis", &genesis, "--key", &key, "--peers", &join];
    let ports = ["--base-port", "0", "--listen", "127.0.0.1:0"];
    ok(&[args.as_slice(), &ports].concat());
    let server = Server::start(&room.path("v"));
    let status = json(&["status", "--url", &server.http, "--json"]);
    assert_eq!((&status["name"], &status["chain"]), (&"Ours".into(), &chain(&merged).into()));
    server.stop();
    ok(&["check", "--dir", &dir]);
}

#[test]
fn what_is_false_or_appears_twice_makes_no_genesis() {
    let room = Room::new();
    let joins = [room.join("alpha", "1"), room.join("bravo", "1")];
    let merge = |joins: &[String]| room.merge_args(joins, "genesis.json");

    let twice = fails(1, &merge(&[joins[0].clone(), joins[0].clone()]));
    assert!(twice.contains("QP0602") && twice.contains("two joins are named"), "{twice}");

    let mut stolen = read_json(Path::new(&joins[0]));
    stolen["power"] = 9.into();
    let path = room.text("stolen.join.json");
    std::fs::write(&path, stolen.to_string()).unwrap();
    let refused = fails(3, &merge(&[path, joins[1].clone()]));
    assert!(refused.contains("QP0101") && refused.contains("\"alpha\""), "{refused}");

    // The same key under another name.
    let key = room.text("alpha.key");
    let second = room.text("second.join.json");
    ok(&room.join_args("second", &key, "1", "second.example:1", &second));
    let refused = fails(1, &merge(&[joins[0].clone(), second]));
    assert!(refused.contains("join with one key"), "{refused}");

    let other = Room::new();
    let refused = fails(1, &merge(&[joins[0].clone(), other.join("charlie", "1")]));
    assert!(refused.contains("it is to draft"), "{refused}");

    let refused = fails(1, &merge(&[joins[0].clone(), room.draft()]));
    assert!(refused.contains("QP0602") && refused.contains("is no join file"), "{refused}");
    assert!(!room.path("genesis.json").exists());
}

#[test]
fn a_member_that_signed_another_genesis_is_named() {
    let room = Room::new();
    let joins = [room.join("alpha", "1"), room.join("bravo", "1"), room.join("charlie", "1")];
    ok(&room.merge_args(&joins, "genesis.json"));
    ok(&room.merge_args(&joins[..2], "other.json"));
    let signatures = [
        room.sign("genesis.json", "alpha"),
        room.sign("other.json", "bravo"),
        room.sign("genesis.json", "charlie"),
    ];
    let refused = fails(3, &room.verify_args(&signatures));
    assert!(refused.contains("\"bravo\" signed another genesis"), "{refused}");
    let (other, key) = (room.text("other.json"), room.text("charlie.key"));
    let refused = fails(1, &["genesis", "sign", "--genesis", &other, "--key", &key]);
    assert!(refused.contains("QP0604") && refused.contains("no validator"), "{refused}");
}

#[test]
fn joining_says_what_is_wrong_with_a_name_an_address_or_a_key() {
    let room = Room::new();
    let key = room.text("a.key");
    ok(&["keys", "new", "--out", &key]);
    let out = room.text("a.join.json");
    for (name, power, address, reason) in [
        ("A b", "1", "a.example:1", "give 1 to 32 of a-z"),
        ("a", "0", "a.example:1", "power 0"),
        ("a", "1", "a.example", "has no port"),
        ("a", "1", "a.example:0", "has no port from 1 to 65535"),
    ] {
        let refused = fails(2, &room.join_args(name, &key, power, address, &out));
        assert!(refused.contains("QP0702") && refused.contains(reason), "{refused}");
    }
    let sealed = room.text("sealed.key");
    let made =
        crate::harness::quipu_with(&["keys", "new", "--out", &sealed, "--passphrase"], "pass\n");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let refused = fails(1, &room.join_args("a", &sealed, "1", "a.example:1", &out));
    assert!(refused.contains("QP0604") && refused.contains("under a passphrase"), "{refused}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn every_step_teaches_itself() {
    for step in ["new", "join", "deal", "merge", "sign", "verify"] {
        let help = ok(&["genesis", step, "--help"]);
        assert!(help.contains("Example:") && help.contains("quipu genesis"), "{help}");
    }
    let help = ok(&["genesis", "--help"]);
    assert!(help.contains("no private key ever leaves its"), "{help}");
    assert_eq!(quipu(&["init", "--dir", "x", "--genesis", "g"]).code, Some(2));
    assert_eq!(quipu(&["init", "--dir", "x", "--validators", "2", "--key", "k"]).code, Some(2));
}

#[test]
fn init_makes_validators_whose_peers_agree() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (free, based) = (path("free"), path("based"));
    ok(&["init", "--dir", &free, "--validators", "4", "--stake", "1,2,3,4"]);
    ok(&["init", "--dir", &based, "--validators", "2", "--stake", "5", "--base-port", "21000"]);
    let config = |dir: &str, index: usize| {
        quipu_node::Config::read(&Path::new(dir).join(format!("node{index}"))).unwrap()
    };
    for index in 0..4 {
        let own = config(&free, index);
        assert_eq!(own.peers.len(), 3);
        for other in (0..4).filter(|other| *other != index) {
            let address = config(&free, other).listen.peer.to_string();
            assert_eq!(own.peers[&format!("node{other}")], address);
        }
        assert!(own.dir.join("first-start").exists());
    }
    let listen = config(&based, 1).listen;
    let ports = [listen.http, listen.pg, listen.admin, listen.peer].map(|at| at.port());
    assert_eq!(ports, [21_004, 21_005, 21_006, 21_007]);
    let genesis = read_json(&Path::new(&based).join("genesis.json"));
    assert_eq!(genesis["validators"][1]["power"], 5);
    let refused = fails(2, &["init", "--dir", &path("x"), "--validators", "2", "--stake", "1,2,3"]);
    assert!(refused.contains("--stake names 3 validators"), "{refused}");
}
