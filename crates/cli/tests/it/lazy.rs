//! A validator that executes nothing: it signs the first state of each height that another claims. It is linked to the others by
//! its true key, hears what they say, and falls into the first trap.
//!
//! ```text
//!  node0 … node2 ── Claim of a made-up state ──> lazy ── StateVote ──> node0 … node2 ── the true certificate ──> evidence/
//! ```

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use quipu_consensus::Message;
use quipu_crypto::suite::sign_tagged;
use quipu_crypto::{SecretKey, Tag, keyfile};
use quipu_node::Config;
use quipu_node::links::{LinkEvent, LinkLimits, LinkMetrics, Links, LinksConfig};
use quipu_proof::names::chain_id;
use quipu_replica::PeerMessage;
use quipu_types::{Decode, Encode, Genesis, Hash, SignedState, StateVote, ValidatorIndex};

use crate::fleet::{COUNT, Fleet, until};
use crate::harness::{json as of_json, ok};

/// Its index.
const LAZY: u16 = 3;

/// Who signs what it is told.
struct Lazy {
    chain: Hash,
    key: Arc<SecretKey>,
    /// Heights of which it has signed a state.
    signed: Mutex<BTreeSet<u64>>,
    links: OnceLock<Links>,
}

impl Lazy {
    /// Listens and dials where the validator would that this directory is of.
    fn start(genesis: &Genesis, config: &Config) -> Arc<Self> {
        let key = Arc::new(keyfile::load(&config.key, None).unwrap());
        let chain = chain_id(genesis);
        let signed = Mutex::new(BTreeSet::new());
        let own = Arc::new(Self { chain, key: Arc::clone(&key), signed, links: OnceLock::new() });
        let names = genesis.validators.iter().map(|validator| &*validator.name);
        let links = LinksConfig {
            chain,
            set: genesis.validator_set(),
            own: ValidatorIndex::new(LAZY),
            key,
            listener: TcpListener::bind(config.listen.peer).unwrap(),
            addresses: names.map(|name| config.peers.get(name).cloned()).collect(),
            limits: LinkLimits::default(),
        };
        let hears = Arc::downgrade(&own);
        let links = Links::start(links, LinkMetrics::detached(), move |event| {
            let lazy = hears.upgrade();
            async move {
                if let (Some(lazy), LinkEvent::Frame { bytes, .. }) = (lazy, event) {
                    lazy.hear(&bytes);
                }
            }
        });
        own.links.set(links.unwrap()).unwrap();
        own
    }

    fn hear(&self, bytes: &[u8]) {
        let Ok(PeerMessage::Claim(state)) = PeerMessage::from_bytes(bytes) else { return };
        if self.signed.lock().unwrap().insert(state.height.get()) {
            self.sign(state);
        }
    }

    /// Says its word on a state that somebody named.
    fn sign(&self, state: SignedState) {
        let signature = sign_tagged(&self.key, &self.chain, 0, Tag::StateVote, &state.to_bytes());
        let vote = StateVote { state, validator: ValidatorIndex::new(LAZY), signature };
        let message = PeerMessage::Agreement(Message::StateVote(vote));
        if let Some(links) = self.links.get() {
            links.broadcast(message.class(), message.to_bytes().into());
        }
    }
}

/// What a validator has kept as evidence of false states. Of a height on which its true process had a word it has two.
fn kept(fleet: &Fleet, index: usize) -> Vec<PathBuf> {
    let mut files = quipu_node::evidence::files(&fleet.dir(index)).unwrap();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("false-state-"));
    files
}

#[test]
fn who_signs_a_trap_is_caught_by_each_that_laid_one_slashed_and_named_offline() {
    let mut fleet = Fleet::with(|ledger| {
        (0..COUNT).for_each(|index| {
            crate::crimes::lay_traps(&ledger.path(&format!("l/node{index}")));
        });
    });
    let genesis_path = fleet.ledger.genesis();
    let genesis = fleet.ledger.read_genesis();
    fleet.stop(usize::from(LAZY));
    let config = Config::read(&fleet.dir(LAZY.into())).unwrap();
    let lazy = {
        let _entered = fleet.runtime.enter();
        Lazy::start(&genesis, &config)
    };
    fleet.create_stream();
    let honest = 0..COUNT - 1;
    until("each has seen it sign what nobody executed", || {
        honest.clone().all(|index| !kept(&fleet, index).is_empty())
    });

    // Any of these is enough.
    let (url, signer, file) = (fleet.url(0), fleet.ledger.signer(), kept(&fleet, 0).remove(0));
    let file = file.to_str().unwrap();
    ok(&["stake", "evidence", "--url", url, "--signer", &signer, "--epoch", "0", file]);
    let shown = of_json(&["stake", "show", "--url", url, "--json"]);
    let rows = shown["evidence"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{shown}");
    assert_eq!((&rows[0]["kind"], &rows[0]["slashed"]), (&"false state".into(), &"1".into()));
    let own = &shown["validators"][usize::from(LAZY)];
    assert_eq!((&own["deposed"], &own["bond"]), (&"t".into(), &"0".into()), "{own}");

    drop(lazy);
    for index in honest.clone() {
        fleet.stop(index);
    }
    for index in honest {
        let (dir, out) = (fleet.dir(index), fleet.ledger.text(&format!("case{index}")));
        let dir = dir.to_str().unwrap();
        ok(&["validators", "evidence", "--dir", dir, "--genesis", &genesis_path, "--out", &out]);
        for file in kept(&fleet, index) {
            let file = format!("{out}/{}", file.file_name().unwrap().to_str().unwrap());
            let judged =
                of_json(&["verify", "--genesis", &genesis_path, "--json", "--evidence", &file]);
            assert_eq!(
                judged["validator"],
                *genesis.validators[usize::from(LAZY)].name,
                "{judged}"
            );
            assert_eq!((&judged["kind"], &judged["epoch"]), (&"false state".into(), &0.into()));
        }
    }
}
