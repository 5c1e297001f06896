//! `quipu stake` against a validator: a key comes, is bonded to, takes back, and is shown evidence against.

use quipu_consensus::Evidence;
use quipu_crypto::suite::sign_tagged;
use quipu_crypto::{Tag, keyfile};
use quipu_proof::names::chain_id;
use quipu_types::genesis::{GenesisAccount, StakeRules};
use quipu_types::{Encode, Genesis, Hash, Height, SignedState, StateVote, ValidatorIndex};
use serde_json::Value as Json;

use crate::harness::{Ledger, Server, fails, json, ok};

/// So long that no epoch ends while the test runs.
const HOUR_US: u64 = 3_600_000_000;

/// Gives a ledger that never ran rules of stake, its validator an owner, and that one units.
fn with_stake(ledger: &Ledger) -> Genesis {
    let text = std::fs::read_to_string(ledger.genesis()).unwrap();
    let mut genesis = Genesis::from_json(&text).unwrap();
    let account = keyfile::load(ledger.signer().as_ref(), None).unwrap().account();
    genesis.stake = Some(StakeRules {
        epoch_us: HOUR_US,
        unbond_us: HOUR_US,
        bond_min: 10,
        slash_permille: 100,
        deal_us: 2_000_000,
        stale_heights: 0,
    });
    genesis.validators[0].owner = Some(account);
    genesis.accounts = vec![GenesisAccount { account, balance: 1_000 }];
    std::fs::write(ledger.genesis(), genesis.to_json()).unwrap();
    genesis
}

struct Scene {
    ledger: Ledger,
    server: Server,
    signer: String,
}

impl Scene {
    fn stake(&self, command: &str, words: &[&str]) -> Vec<String> {
        let start = ["stake", command, "--url", &self.server.http, "--signer", &self.signer];
        start.iter().chain(words).map(ToString::to_string).collect()
    }

    fn show(&self) -> Json {
        json(&["stake", "show", "--url", &self.server.http, "--json"])
    }

    fn balance(&self) -> String {
        self.server.psql("select balance from quipu.accounts").trim().to_owned()
    }
}

#[test]
fn a_validator_is_registered_bonded_to_and_shown_evidence_against() {
    let ledger = Ledger::with(1, &["--stake", "100"]);
    let genesis = with_stake(&ledger);
    let (server, signer) = (ledger.start(), ledger.signer());
    let scene = Scene { ledger, server, signer };
    let before = scene.show();
    let own = &before["validators"][0];
    assert_eq!(
        (&own["power"], &own["bond"], &own["deposed"]),
        (&"100".into(), &"100".into(), &"f".into())
    );

    let key_file = scene.ledger.text("voting.key");
    ok(&["keys", "new", "--out", &key_file]);
    let public =
        json(&["keys", "show", &key_file, "--json"])["public"].as_str().unwrap().to_owned();
    let genesis_file = scene.ledger.genesis();
    let named = ["--genesis", &genesis_file, "--key", &key_file, "--name", "bank-a"];
    let register = |address: &str| {
        let words = [&named[..], &["--address", address, "--bond", "40", "--json"]].concat();
        scene.stake("register", &words)
    };
    assert!(fails(2, &register("nowhere")).contains("host:port"));
    let registered = json(&register("bank-a.example:8642"));
    assert_eq!(
        (&registered["done"], &registered["key"]),
        (&"registered".into(), &public.as_str().into())
    );
    assert!(fails(1, &register("bank-a.example:8642")).contains("QP0247"));
    assert_eq!(scene.balance(), "960");

    let tell = |command: &str, more: &[&str]| {
        scene.stake(command, &[&["--key", public.as_str()], more].concat())
    };
    ok(&tell("bond", &["5"]));
    ok(&tell("unbond", &["15"]));
    ok(&tell("move", &["elsewhere.example:1"]));
    let early = fails(1, &tell("withdraw", &[]));
    assert!(early.contains("QP0256"), "{early}");
    let shown = scene.show();
    let second = &shown["validators"][1];
    let wanted: Json = serde_json::json!({
        "index": "1", "name": "bank-a", "power": "0", "power_next": null, "bond": "30", "locked": "15",
        "deposed": "f", "stale": "f", "share_key": "f", "state_vote_p99_us": null, "owner": own["owner"], "address": "elsewhere.example:1", "key": public,
    });
    assert_eq!(second, &wanted);
    assert_eq!(scene.balance(), "955");
    judged(&scene, &genesis);

    // What was done is proven as anything else.
    let bundle = ok(&[
        "prove",
        "--url",
        &scene.server.http,
        &format!("{}:1", registered["tx"].as_str().unwrap()),
    ]);
    let bundle = scene.ledger.write("bundle.json", &bundle);
    let told = ok(&["verify", "--genesis", &genesis_file, &bundle]);
    assert!(told.contains(&format!("bonds 40 to {public}")), "{told}");
}

/// The ledger's one validator signed two states of one height; whoever shows that is believed once.
fn judged(scene: &Scene, genesis: &Genesis) {
    let key = keyfile::load(&scene.ledger.path("l/node0/validator.key"), None).unwrap();
    let vote = |root: u8| {
        let (state_root, receipts_root) = (Hash([root; 32]), Hash([0; 32]));
        let height = Height::new(7);
        let state = SignedState { height, state_root, receipts_root, next_set: None };
        let signature = sign_tagged(&key, &chain_id(genesis), 0, Tag::StateVote, &state.to_bytes());
        StateVote { state, validator: ValidatorIndex::new(0), signature }
    };
    let evidence = Evidence::States(Box::new([vote(1), vote(2)])).to_bytes();
    let file = scene.ledger.text("case");
    std::fs::write(&file, evidence).unwrap();
    let show = |epoch: &str| scene.stake("evidence", &["--epoch", epoch, &file]);
    assert!(fails(1, &show("1")).contains("QP0260"));
    ok(&show("0"));
    assert!(fails(1, &show("0")).contains("QP0259"));
    let shown = scene.show();
    let found = &shown["evidence"][0];
    assert_eq!((&found["kind"], &found["slashed"]), (&"states".into(), &"10".into()));
    let own = &shown["validators"][0];
    assert_eq!(
        (&own["bond"], &own["deposed"], &own["power"]),
        (&"90".into(), &"t".into(), &"100".into())
    );
    assert_eq!(shown["epochs"].as_array().unwrap().len(), 1);
}

#[test]
fn where_validators_are_fixed_stake_is_refused_by_name_and_shown() {
    let ledger = Ledger::with(1, &["--fixed-validators"]);
    let (server, signer) = (ledger.start(), ledger.signer());
    let scene = Scene { ledger, server, signer };
    let shown = scene.show();
    assert_eq!(shown["validators"][0]["owner"], Json::Null);
    let key = shown["validators"][0]["key"].as_str().unwrap().to_owned();
    let refused = fails(1, &scene.stake("bond", &["--key", &key, "5"]));
    assert!(refused.contains("QP0246"), "{refused}");
}
