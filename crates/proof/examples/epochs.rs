//! Print how long it takes to follow the validators of a ledger from its genesis, offline.
//!
//! `cargo run -p quipu-proof --example epochs` (the profile of tests; `--release` for what users run).
//! Each line: validators; bytes of a hand-over (header and certificate); seconds to follow [`EPOCH_COUNT`] of them, the median of
//! [`RUN_COUNT`] runs and the best; the same one by one, as a feed brings them.
//!
//! Bound: one signature a validator and hand-over, some 20 us each when verified together: 0.1 s at n = 4, 0.3 s at 16, 2.6 s at 128.
#![expect(clippy::disallowed_methods, reason = "a program that measures reads the clock")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper of a measurement fails by panicking"
)]

use std::time::{Duration, Instant};

use quipu_crypto::domain::Tag;
use quipu_crypto::sha256;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::names::header_hash;
use quipu_proof::{Committed, Pinned};
use quipu_types::agreement::Validator;
use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
use quipu_types::{
    CommitCertificate, Encode, Genesis, Hash, Header, Height, Lane, Precommit, RoundKind, Rounds,
    Seqno, Signature, SignedState, StateCertificate, Suite, Term, Time, Tip, ValidatorIndex,
    ValidatorSet,
};

const EPOCH_COUNT: u64 = 1_000;
const RUN_COUNT: usize = 5;
const LANE_COUNT: u16 = 16;

fn main() {
    println!("  n   bytes   together s (best)   one by one s");
    for count in [4, 16, 128] {
        let (genesis, handovers) = history(count);
        let size: usize = handovers
            .iter()
            .map(|one| one.header.0.to_bytes().len() + one.certificate.0.to_bytes().len())
            .sum();
        let size = size / handovers.len();
        let together = measure(|| follow(&genesis, &handovers, handovers.len()));
        let single = measure(|| follow(&genesis, &handovers, 1));
        let (median, best) = together;
        println!("{count:>3} {size:>7} {median:>12.3} ({best:.3}) {:>12.3}", single.0);
    }
}

fn follow(genesis: &Genesis, handovers: &[Committed], together: usize) {
    let mut pinned = Pinned::new(genesis).unwrap();
    for part in handovers.chunks(together) {
        pinned.follow(part).unwrap();
    }
    assert_eq!(pinned.epoch(), EPOCH_COUNT);
}

/// Median and best, in seconds.
fn measure(work: impl Fn()) -> (f64, f64) {
    let mut times: Vec<Duration> = (0..RUN_COUNT)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[RUN_COUNT / 2].as_secs_f64(), times[0].as_secs_f64())
}

fn key(number: u64) -> SecretKey {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(Suite::Ed25519Sha256, seed)
}

/// A ledger in which one validator's key changes with each epoch, and what hands over.
fn history(count: u16) -> (Genesis, Vec<Committed>) {
    let mut numbers: Vec<u64> = (0..u64::from(count)).collect();
    let mut keys: Vec<SecretKey> = numbers.iter().copied().map(key).collect();
    let genesis = genesis(&keys);
    let chain = quipu_proof::names::chain_id(&genesis);
    let mut handovers: Vec<Committed> = Vec::new();
    for epoch in 0..EPOCH_COUNT {
        numbers[usize::try_from(epoch).unwrap() % keys.len()] = 1_000 + epoch;
        let next: Vec<SecretKey> = numbers.iter().copied().map(key).collect();
        let last = handovers.last();
        let prev_commit = last.map(|last| last.certificate.0.clone());
        let prev_header = last.map_or(chain, |last| header_hash(&last.header.0));
        let header = header(epoch, prev_header, prev_commit, &next);
        let certificate = certify(&chain, epoch, &keys, &header);
        handovers.push(Committed::new(header, certificate));
        keys = next;
    }
    (genesis, handovers)
}

fn genesis(keys: &[SecretKey]) -> Genesis {
    let validators = keys.iter().map(|key| GenesisValidator {
        name: "v".into(),
        key: key.public(),
        power: 1,
        possession: Signature([0; 64]),
        owner: None,
    });
    Genesis {
        version: GENESIS_VERSION,
        name: "epochs".into(),
        time_us: Time::new(1_000_000),
        lane_count: LANE_COUNT,
        clock_seed: "headline".into(),
        clock_rate_hz: 100_000,
        hash_rate_fastest_hz: 20_000_000,
        anchor_window_heights: 1 << 20,
        height_interval_min_ms: 5,
        height_interval_idle_ms: 1_000,
        open_streams: true,
        validators: validators.collect(),
        accounts: vec![],
        coin: None,
        stake: None,
    }
}

fn header(
    epoch: u64,
    prev_header: Hash,
    prev_commit: Option<CommitCertificate>,
    next: &[SecretKey],
) -> Header {
    let lanes = || (0..LANE_COUNT).map(Lane::new);
    let term = Term::new(epoch + 1);
    let tip = |lane: Lane| {
        let (lane_root, chunk_hash) = (sha256(&lane.to_bytes()), sha256(b"chunk"));
        Tip { lane, term, index: epoch + 1, seqno: Seqno::new(epoch + 1), lane_root, chunk_hash }
    };
    let height = Height::new((epoch + 1) * 1_000);
    let state = SignedState {
        height,
        state_root: sha256(b"state"),
        receipts_root: sha256(b"receipts"),
        next_set: Some(sha256(b"set")),
    };
    let signature =
        |index: usize| (ValidatorIndex::new(u16::try_from(index).unwrap()), Signature([7; 64]));
    let signatures = (0..next.len()).map(signature).collect();
    let validators =
        next.iter().map(|key| Validator { key: key.public(), power: 1, is_stale: false }).collect();
    Header {
        epoch,
        height,
        proposer: ValidatorIndex::new(0),
        prev_header,
        cut: lanes().map(tip).collect(),
        term_changes: lanes().map(|lane| (lane, Term::new(epoch + 2))).collect(),
        time: Time::new(1_000_001 + epoch),
        prev_commit,
        late_votes: vec![],
        state_certificate: Some(StateCertificate { state, signatures }),
        next_set: Some(ValidatorSet { epoch: epoch + 1, validators, coin: None }),
        evidence_root: quipu_crypto::merkle::empty_root(),
        rounds: Rounds::genesis(false),
    }
}

fn certify(chain: &Hash, epoch: u64, keys: &[SecretKey], header: &Header) -> CommitCertificate {
    let digest = header_hash(header);
    let vote = |(index, key): (u16, &SecretKey)| {
        let mut vote = Precommit {
            height: header.height,
            round: 0,
            kind: RoundKind::Led,
            instance: ValidatorIndex::new(0),
            digest,
            tips: vec![],
            suspects: vec![],
            time: header.time,
            validator: ValidatorIndex::new(index),
            signature: Signature([0; 64]),
        };
        vote.signature = sign_tagged(key, chain, epoch, Tag::Precommit, &vote.signed_body());
        vote
    };
    CommitCertificate { precommits: (0..).zip(keys).map(vote).collect(), coin: None }
}
