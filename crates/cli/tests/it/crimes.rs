//! Crimes of validators of a ledger that runs, with traps at every height: made with their voting keys, shown to the ledger,
//! slashed, exported, and proven offline when every process has ended. What is false, too old or known moves nothing.

use std::path::Path;

use quipu_client::Client;
use quipu_client::api::HeaderBody;
use quipu_consensus::Evidence;
use quipu_crypto::suite::sign_tagged;
use quipu_crypto::{SecretKey, Tag, keyfile};
use quipu_proof::names::chain_id;
use quipu_types::{
    Decode, Encode, Genesis, Hash, Header, Height, Precommit, Prevote, RoundChange, RoundKind,
    Signature, SignedState, StateCertificate, StateVote, Time, ValidatorIndex,
};
use serde_json::Value as Json;

use crate::fleet::{COUNT, Fleet, until};
use crate::harness::{edit_config, fails, json as of_json, ok, quipu};

const UNSIGNED: Signature = Signature([0; 64]);
/// How long evidence is taken after its epoch.
const UNBOND_US: u64 = 15_000_000;

/// Two things of one place differ in this.
fn digest(byte: u8) -> Hash {
    Hash([byte; 32])
}

struct Scene {
    fleet: Fleet,
    genesis: Genesis,
}

impl Scene {
    fn new() -> Self {
        let fleet = Fleet::with(|ledger| {
            ledger.edit_stake(&[("epoch_us", 300_000), ("unbond_us", UNBOND_US)]);
            (0..COUNT).for_each(|index| lay_traps(&ledger.path(&format!("l/node{index}"))));
        });
        let genesis = fleet.ledger.read_genesis();
        Self { fleet, genesis }
    }

    fn key(&self, number: u16) -> SecretKey {
        keyfile::load(&self.fleet.dir(number.into()).join("validator.key"), None).unwrap()
    }

    fn sign(&self, number: u16, epoch: u64, tag: Tag, body: &[u8]) -> Signature {
        sign_tagged(&self.key(number), &chain_id(&self.genesis), epoch, tag, body)
    }

    /// Two prevotes of one place.
    fn equivocation(&self, number: u16, (epoch, height): (u64, u64)) -> Evidence {
        let vote = |byte| {
            let mut vote = Prevote {
                height: Height::new(height),
                round: 0,
                kind: RoundKind::Led,
                instance: ValidatorIndex::new(0),
                digest: digest(byte),
                proposal: digest(byte),
                validator: ValidatorIndex::new(number),
                signature: UNSIGNED,
            };
            vote.signature = self.sign(number, epoch, Tag::Prevote, &vote.signed_body());
            vote
        };
        Evidence::Prevotes(Box::new([vote(1), vote(2)]))
    }

    /// A precommit, and a round change that forgets it.
    fn amnesia(&self, number: u16, (epoch, height): (u64, u64)) -> Evidence {
        let (height, validator) = (Height::new(height), ValidatorIndex::new(number));
        let kind = RoundKind::Led;
        let mut vote = Precommit {
            height,
            round: 1,
            kind,
            instance: ValidatorIndex::new(0),
            digest: digest(1),
            tips: Vec::new(),
            suspects: Vec::new(),
            time: Time::new(7),
            validator,
            signature: UNSIGNED,
        };
        vote.signature = self.sign(number, epoch, Tag::Precommit, &vote.signed_body());
        let mut change =
            RoundChange { height, round: 2, kind, high: None, validator, signature: UNSIGNED };
        change.signature = self.sign(number, epoch, Tag::RoundChange, &change.signed_body());
        Evidence::Amnesia(Box::new((vote, change, None)))
    }

    /// The first header from a height on that carries a state certificate: its epoch and height, and that.
    fn certificate(&self, from: u64) -> (u64, u64, StateCertificate) {
        let client = Client::new(self.fleet.url(0)).unwrap();
        let mut found = None;
        until("a state certificate", || {
            let first = from.max(1);
            found = (first..=self.fleet.height(0)).find_map(|height| {
                let path = format!("/v1/headers/{height}");
                let body: HeaderBody = self.fleet.runtime.block_on(client.get(&path)).ok()?;
                let header = Header::from_bytes(&hex::decode(body.header).ok()?).ok()?;
                Some((header.epoch, height, header.state_certificate?))
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Who signs the first word on a state that it hears: one of chance, which nobody executed.
    fn false_state(&self, number: u16, epoch: u64, certificate: StateCertificate) -> Evidence {
        let state = SignedState { state_root: digest(9), ..certificate.state };
        let signature = self.sign(number, epoch, Tag::StateVote, &state.to_bytes());
        let vote = StateVote { state, validator: ValidatorIndex::new(number), signature };
        Evidence::FalseState(Box::new((vote, certificate)))
    }

    /// Keeps a proof as the first validator would.
    fn keep(&self, name: &str, bytes: &[u8]) -> String {
        let dir = self.fleet.dir(0).join("evidence");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
        dir.join(name).to_str().unwrap().to_owned()
    }

    fn show(&self, epoch: u64, file: &str) -> Vec<String> {
        let (signer, epoch) = (self.fleet.ledger.signer(), epoch.to_string());
        let words = ["stake", "evidence", "--url", self.fleet.url(0), "--signer", &signer];
        let more = ["--epoch", &epoch, "--json", file];
        words.iter().chain(&more).map(ToString::to_string).collect()
    }

    fn stake(&self) -> Json {
        of_json(&["stake", "show", "--url", self.fleet.url(0), "--json"])
    }

    fn begun_epoch(&self) -> u64 {
        let count = self
            .fleet
            .server(0)
            .psql("select max(epoch) from quipu.epochs where began is not null");
        count.trim().parse().unwrap()
    }

    /// The transaction that showed it is proven, and says what it was.
    fn proven(&self, shown: &Json, epoch: u64) {
        let (tx, genesis) = (shown["tx"].as_str().unwrap(), self.fleet.ledger.genesis());
        // Its receipt is proven a height later.
        let mut told = String::new();
        until("a proof of its receipt", || {
            let ran = quipu(&["prove", "--url", self.fleet.url(0), &format!("{tx}:0")]);
            let bundle = self.fleet.ledger.write("bundle.json", &ran.stdout);
            told = quipu(&["verify", "--genesis", &genesis, &bundle]).stdout;
            told.contains("outcome     applied")
        });
        assert!(told.contains(&format!("evidence of epoch {epoch}")), "{told}");
    }

    /// The row of `quipu.evidence` of a validator, which lost its one unit and is deposed.
    fn slashed(&self, number: u16, kind: &str, epoch: u64) {
        let shown = self.stake();
        let rows = shown["evidence"].as_array().unwrap();
        let row = rows.iter().find(|row| row["kind"] == kind).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(row["epoch"], epoch.to_string().as_str(), "{row}");
        assert_eq!(row["slashed"], "1", "{row}");
        let own = &shown["validators"][usize::from(number)];
        assert_eq!((&own["deposed"], &own["bond"]), (&"t".into(), &"0".into()), "{own}");
    }
}

/// Every validator as the state has it: how soon it signs is none of that.
fn of_state(shown: &Json) -> Vec<Json> {
    let mut validators = shown["validators"].as_array().unwrap().clone();
    for one in &mut validators {
        assert!(one.as_object_mut().unwrap().remove("state_vote_p99_us").is_some());
    }
    validators
}

/// A validator's own config, with a trap at every height.
pub(crate) fn lay_traps(node: &Path) {
    edit_config(node, &[("[traps]\nheights = 0", "[traps]\nheights = 1")]);
}

#[test]
fn crimes_are_shown_slashed_exported_and_proven_when_every_process_has_ended() {
    let mut scene = Scene::new();
    scene.fleet.create_stream();
    let (epoch, _, certificate) = scene.certificate(1);
    assert_eq!(epoch, 0);
    let height = scene.fleet.height(0);
    until("each has a key for shares", || {
        let query = "select count(*) from quipu.validators where share_key";
        scene.fleet.server(0).psql(query) == format!("{COUNT}\n")
    });
    let before = scene.stake();

    // False: two words that agree; signed by another; against what too few signed; bytes of nothing.
    let Evidence::Prevotes(pair) = scene.equivocation(1, (0, height)) else { panic!("prevotes") };
    let [first, second] = *pair;
    let same = Evidence::Prevotes(Box::new([first.clone(), first.clone()]));
    let forged = Evidence::Prevotes(Box::new([first, Prevote { digest: digest(7), ..second }]));
    let mut few = certificate.clone();
    few.signatures.truncate(1);
    let unsigned = scene.false_state(3, 0, few);
    for (name, evidence) in [("same", same), ("forged", forged), ("few", unsigned)] {
        let file = scene.fleet.ledger.text(name);
        std::fs::write(&file, evidence.to_bytes()).unwrap();
        assert!(fails(1, &scene.show(0, &file)).contains("QP0260"), "{name}");
    }
    let junk = scene.fleet.ledger.write("junk", "junk");
    assert!(fails(1, &scene.show(0, &junk)).contains("QP0257"));
    let after = scene.stake();
    assert_eq!(of_state(&before), of_state(&after));
    assert_eq!(before["evidence"], after["evidence"]);

    // Of the first epoch: an equivocator, and who signs a state that it did not execute.
    let twice = scene.keep("prevotes-1", &scene.equivocation(1, (0, height)).to_bytes());
    let lazy = scene.keep("false-state-3", &scene.false_state(3, 0, certificate).to_bytes());
    scene.proven(&of_json(&scene.show(0, &twice)), 0);
    scene.slashed(1, "prevotes", 0);
    of_json(&scene.show(0, &lazy));
    scene.slashed(3, "false state", 0);
    assert!(fails(1, &scene.show(0, &lazy)).contains("QP0259"), "shown twice");

    // Their power ends with the epoch. In the next one, or one after it, another forgets what it precommitted.
    until("the next epoch", || scene.begun_epoch() > 0);
    let (mut later, mut height) = (0, 0);
    until("a height of it", || {
        (later, height, _) = scene.certificate(scene.fleet.height(0));
        later > 0
    });
    let forgets = scene.amnesia(2, (later, height));
    let forgets = scene.keep("amnesia-2", &forgets.to_bytes());
    assert!(fails(1, &scene.show(later + 1, &forgets)).contains("QP0260"), "of another epoch");
    of_json(&scene.show(later, &forgets));
    scene.slashed(2, "amnesia", later);

    // Too old, some time.
    until("the first epoch is too long ago", || {
        let ran = quipu(&scene.show(0, &twice));
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        ran.stderr.contains("QP0258")
    });
    let last = scene.stake();
    assert_eq!(last["evidence"].as_array().unwrap().len(), 3);
    for index in 0..COUNT {
        scene.fleet.stop(index);
    }
    offline(&scene, later);
}

/// With every process stopped: the proofs are exported, and judged by the genesis and how epochs ended.
fn offline(scene: &Scene, later: u64) {
    let ledger = &scene.fleet.ledger;
    let (node, out, genesis) = (ledger.text("l/node0"), ledger.text("case"), ledger.genesis());
    let told =
        ok(&["validators", "evidence", "--dir", &node, "--genesis", &genesis, "--out", &out]);
    assert!(told.contains("--epochs"), "{told}");
    let verify = |name: &str, more: &[&str]| -> Vec<String> {
        let file = ledger.text(&format!("case/{name}"));
        let words = ["verify", "--genesis", &genesis, "--json", "--evidence", &file];
        words.iter().chain(more).map(ToString::to_string).collect()
    };
    let epochs = ledger.text("case/epochs");
    let wanted = [("prevotes-1", 1, 0), ("false-state-3", 3, 0), ("amnesia-2", 2, later)];
    for (name, number, epoch) in wanted {
        let judged = of_json(&verify(name, &["--epochs", &epochs]));
        let known = &scene.genesis.validators[number];
        assert_eq!(judged["validator"], *known.name, "{judged}");
        assert_eq!(judged["key"], known.key.to_string(), "{judged}");
        assert_eq!(judged["epoch"], epoch, "{judged}");
        // The genesis alone knows the first epoch, and no other.
        let ran = quipu(&verify(name, &[]));
        assert_eq!(ran.code, Some(if epoch == 0 { 0 } else { 3 }), "{name}: {}", ran.stderr);
    }
    // Traps were laid at every height, and nobody honest fell into one: what is kept is what was put there.
    for index in 0..COUNT {
        let kept = std::fs::read_dir(scene.fleet.dir(index).join("evidence"));
        let count = kept.map_or(0, Iterator::count);
        assert_eq!(count, if index == 0 { 3 } else { 0 }, "node{index}");
    }
}
