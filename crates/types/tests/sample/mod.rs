//! Seeded samples of every type.

mod table;

use fastrand::Rng;
use quipu_types::agreement::{Propose, StateVote};
use quipu_types::cursor::Certified;
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator};
use quipu_types::group::{SESSION_US_MAX, SESSION_US_MIN};
use quipu_types::round::{Mode, Start};
use quipu_types::transaction::{Action, Envelope, RouteRule, StreamSpec, Transaction, Writers};
use quipu_types::*;

/// A value that a seed makes.
pub(crate) trait Sample {
    fn sample(rng: &mut Rng) -> Self;
}

fn array<const N: usize>(rng: &mut Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill(&mut bytes);
    bytes
}

fn list<T>(rng: &mut Rng, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(1..4)).map(|_| make(rng)).collect()
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    list(rng, |rng| rng.u8(..))
}

fn hash(rng: &mut Rng) -> Hash {
    Hash(array(rng))
}

fn signature(rng: &mut Rng) -> Signature {
    Signature(array(rng))
}

fn validator(rng: &mut Rng) -> ValidatorIndex {
    ValidatorIndex::new(rng.u16(0..128))
}

fn kind(rng: &mut Rng) -> RoundKind {
    if rng.bool() { RoundKind::Led } else { RoundKind::Open }
}

fn tips(rng: &mut Rng) -> Vec<Tip> {
    let mut tips = list(rng, Tip::sample);
    for (lane, tip) in (0..).zip(&mut tips) {
        tip.lane = Lane::new(lane);
    }
    tips
}

fn lanes(rng: &mut Rng) -> Vec<(Lane, Term)> {
    (0..rng.u16(0..4)).map(|lane| (Lane::new(lane), Term::new(rng.u64(..)))).collect()
}

fn name(rng: &mut Rng) -> String {
    list(rng, |rng| rng.lowercase()).into_iter().collect()
}

impl Sample for PublicKey {
    fn sample(rng: &mut Rng) -> Self {
        let suite = Suite::ALL[rng.usize(..3)];
        let bytes: Vec<u8> = (0..suite.key_size()).map(|_| rng.u8(..)).collect();
        Self::new(suite, &bytes).unwrap()
    }
}

impl Sample for Schema {
    fn sample(rng: &mut Rng) -> Self {
        let kinds =
            ["bool", "int2 not null", "numeric(9,2)", "text", "float8", "jsonb not null", "uuid"];
        let columns: Vec<String> = (0..rng.usize(1..5))
            .map(|index| format!("c{index} {}", kinds[rng.usize(..kinds.len())]))
            .collect();
        Self::parse(&columns.join(", ")).unwrap()
    }
}

impl Sample for Action {
    fn sample(rng: &mut Rng) -> Self {
        match rng.u8(0..9) {
            0 => Self::Append { stream: name(rng), key: bytes(rng), payload: bytes(rng) },
            1 => Self::Transfer { to: AccountId(array(rng)), amount: rng.u64(..) },
            2 => Self::CreateStream(StreamSpec {
                name: name(rng),
                schema: Schema::sample(rng),
                route: if rng.bool() { RouteRule::Signer } else { RouteRule::Column("c0".into()) },
                writers: Writers::sample(rng),
                compacted: rng.bool(),
            }),
            3 => Self::Run(Box::new(Program::sample(rng))),
            4 => Self::Define(Box::new(Define::sample(rng))),
            5 => Self::Reads(Reads::sample(rng)),
            6 => Self::Call(Box::new(Call::sample(rng))),
            7 => Self::Group(Box::new(GroupAction::sample(rng))),
            _ => Self::Stake(Box::new(StakeAction::sample(rng))),
        }
    }
}

impl Sample for Certified {
    fn sample(rng: &mut Rng) -> Self {
        let (seqno, height) = (Seqno::new(rng.u64(..)), Height::new(rng.u64(..)));
        Self { seqno, height, root: hash(rng) }
    }
}

impl Sample for GroupAction {
    fn sample(rng: &mut Rng) -> Self {
        let lane = Lane::new(rng.u16(..));
        let joined = Position { lane, seqno: Seqno::new(rng.u64(..)) };
        let member = format!("{} é/{}", name(rng), rng.u8(..));
        let op = match rng.u8(0..7) {
            0 => GroupOp::Create {
                consumers: Writers::sample(rng),
                starts: (0..rng.u16(0..4))
                    .map(|lane| (Lane::new(lane), Certified::sample(rng)))
                    .collect(),
            },
            1 => GroupOp::Delete,
            2 => GroupOp::Join { member, session_us: rng.u32(SESSION_US_MIN..=SESSION_US_MAX) },
            3 => GroupOp::Leave { member, joined },
            4 => GroupOp::Beat { member, joined },
            5 => GroupOp::Commit {
                member,
                lane,
                generation: rng.u64(..),
                from: Seqno::new(rng.u64(..)),
                to: Certified::sample(rng),
            },
            _ => GroupOp::Seek { lane, to: Certified::sample(rng) },
        };
        Self { group: name(rng), op }
    }
}

impl Sample for StakeAction {
    fn sample(rng: &mut Rng) -> Self {
        let key = PublicKey::sample(rng);
        let address = format!("{}.example:{}", name(rng), rng.u16(1..));
        match rng.u8(0..9) {
            0 => Self::Register {
                key,
                possession: signature(rng),
                name: format!("{} é", name(rng)),
                address,
            },
            1 => Self::Bond { key, amount: rng.u64(1..) },
            2 => Self::Unbond { key, amount: rng.u64(1..) },
            3 => Self::Withdraw { key },
            4 => Self::Move { key, address },
            5 => Self::Evidence { epoch: rng.u64(..), bytes: bytes(rng) },
            6 => Self::DealingKey {
                key,
                dealing: DealingKey(array(rng)),
                proof: DealingKeyProof(array(rng)),
                signature: signature(rng),
            },
            7 => Self::Deal { dealing: Dealing::sample(rng), signature: signature(rng) },
            _ => Self::Grieve(Grievance::sample(rng)),
        }
    }
}

impl Sample for Transaction {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            signer: PublicKey::sample(rng),
            incarnation: rng.u32(..),
            sequence: rng.u64(..),
            anchor: hash(rng),
            route: rng.bool().then(|| bytes(rng)),
            actions: list(rng, Action::sample),
            signature: signature(rng),
        }
    }
}

impl Sample for Envelope {
    fn sample(rng: &mut Rng) -> Self {
        Transaction::sample(rng).envelope(hash(rng))
    }
}

impl Sample for ChunkHeader {
    fn sample(rng: &mut Rng) -> Self {
        let clock = list(rng, |rng| ClockEntry {
            count: rng.u64(0..=8_192),
            mix: match rng.u8(0..5) {
                0 => Mix::Nothing,
                1 => Mix::Batch,
                2 => Mix::LaneTip {
                    lane: Lane::new(rng.u16(..)),
                    index: rng.u64(..),
                    hash: hash(rng),
                },
                3 => Mix::Header { height: Height::new(rng.u64(..)), hash: hash(rng) },
                _ => Mix::Votes(hash(rng)),
            },
            value: hash(rng),
        });
        Self {
            lane: Lane::new(rng.u16(..)),
            term: Term::new(rng.u64(..)),
            branch: hash(rng),
            index: rng.u64(..),
            first_seqno: Seqno::new(rng.u64(1..1 << 60)),
            count: rng.u32(..),
            prev: hash(rng),
            lane_root: hash(rng),
            body_digest: hash(rng),
            stripes: rng.bool().then(|| hash(rng)),
            clock,
        }
    }
}

impl Sample for Tip {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            lane: Lane::new(rng.u16(..)),
            term: Term::new(rng.u64(..)),
            index: rng.u64(..),
            seqno: Seqno::new(rng.u64(..)),
            lane_root: hash(rng),
            chunk_hash: hash(rng),
        }
    }
}

impl Sample for Complaint {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            transaction: bytes(rng),
            anchor: hash(rng),
            lane: Lane::new(rng.u16(0..64)),
            term: Term::new(rng.u64(..)),
            signature: signature(rng),
        }
    }
}

impl Sample for Ack {
    fn sample(rng: &mut Rng) -> Self {
        Self { validator: validator(rng), tips: tips(rng), signature: signature(rng) }
    }
}

impl Sample for Header {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            epoch: rng.u64(..),
            height: Height::new(rng.u64(..)),
            proposer: validator(rng),
            prev_header: hash(rng),
            cut: tips(rng),
            term_changes: lanes(rng),
            time: Time::new(rng.u64(..)),
            prev_commit: rng.bool().then(|| CommitCertificate::sample(rng)),
            late_votes: list(rng, Precommit::sample),
            state_certificate: rng.bool().then(|| StateCertificate::sample(rng)),
            next_set: rng.bool().then(|| ValidatorSet::sample(rng)),
            evidence_root: hash(rng),
            rounds: Rounds::sample(rng),
        }
    }
}

impl Sample for Rounds {
    fn sample(rng: &mut Rng) -> Self {
        let mode = [Mode::LedOnly, Mode::Led, Mode::Open][rng.usize(..3)];
        let start = [Start::Led, Start::Trial, Start::Open][rng.usize(..3)];
        Self { mode, start, backoff: rng.u8(..), trial: Height::new(rng.u64(..)) }
    }
}

impl Sample for CoinShare {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            height: Height::new(rng.u64(..)),
            round: rng.u32(..),
            validator: validator(rng),
            parts: list(rng, |rng| CoinPart(array(rng))),
            signature: signature(rng),
        }
    }
}

impl Sample for Dealing {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            epoch: rng.u64(..),
            dealer: validator(rng),
            key: CoinKey(array(rng)),
            commitments: list(rng, |rng| CoinKey(array(rng))),
            shares: list(rng, |rng| SealedShare(array(rng))),
            proof: DealingProof(array(rng)),
        }
    }
}

impl Sample for Grievance {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            epoch: rng.u64(..),
            dealer: validator(rng),
            receiver: validator(rng),
            dealing: hash(rng),
            opening: Opening(array(rng)),
        }
    }
}

fn coins(rng: &mut Rng) -> Vec<RoundCoin> {
    (0..rng.u32(..3)).map(|round| RoundCoin { round, coin: Coin(array(rng)) }).collect()
}

impl Sample for Propose {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            height: Height::new(rng.u64(..)),
            round: rng.u32(..),
            kind: kind(rng),
            instance: validator(rng),
            header: Header::sample(rng),
            certificate: rng.bool().then(|| RoundChangeCertificate::sample(rng)),
            signature: signature(rng),
        }
    }
}

impl Sample for RoundChange {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            height: Height::new(rng.u64(..)),
            round: rng.u32(..),
            kind: kind(rng),
            high: rng.bool().then(|| High {
                round: rng.u32(..),
                instance: validator(rng),
                digest: hash(rng),
            }),
            validator: validator(rng),
            signature: signature(rng),
        }
    }
}

impl Sample for RoundChangeCertificate {
    fn sample(rng: &mut Rng) -> Self {
        let mut changes = list(rng, RoundChange::sample);
        for (index, change) in (0..).zip(&mut changes) {
            change.validator = ValidatorIndex::new(index);
        }
        let mut polka = list(rng, Prevote::sample);
        for (index, vote) in (0..).zip(&mut polka) {
            vote.validator = ValidatorIndex::new(index);
        }
        Self { changes, polka, coins: coins(rng) }
    }
}

impl Sample for Prevote {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            height: Height::new(rng.u64(..)),
            round: rng.u32(..),
            kind: kind(rng),
            instance: validator(rng),
            digest: hash(rng),
            proposal: hash(rng),
            validator: validator(rng),
            signature: signature(rng),
        }
    }
}

impl Sample for Precommit {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            height: Height::new(rng.u64(..)),
            round: rng.u32(..),
            kind: kind(rng),
            instance: validator(rng),
            digest: hash(rng),
            tips: tips(rng),
            suspects: lanes(rng),
            time: Time::new(rng.u64(..)),
            validator: validator(rng),
            signature: signature(rng),
        }
    }
}

impl Sample for CommitCertificate {
    fn sample(rng: &mut Rng) -> Self {
        let mut precommits = list(rng, Precommit::sample);
        for (index, vote) in (0..).zip(&mut precommits) {
            vote.validator = ValidatorIndex::new(index);
        }
        Self { precommits, coin: rng.bool().then(|| Coin(array(rng))) }
    }
}

fn signed_state(rng: &mut Rng) -> SignedState {
    SignedState {
        height: Height::new(rng.u64(..)),
        state_root: hash(rng),
        receipts_root: hash(rng),
        next_set: rng.bool().then(|| hash(rng)),
    }
}

impl Sample for StateVote {
    fn sample(rng: &mut Rng) -> Self {
        Self { state: signed_state(rng), validator: validator(rng), signature: signature(rng) }
    }
}

impl Sample for StateCertificate {
    fn sample(rng: &mut Rng) -> Self {
        let signatures =
            (0..rng.u16(1..4)).map(|index| (ValidatorIndex::new(index), signature(rng))).collect();
        Self { state: signed_state(rng), signatures }
    }
}

impl Sample for Receipt {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            lane: Lane::new(rng.u16(..)),
            seqno: Seqno::new(rng.u64(..)),
            tx: hash(rng),
            action_count: rng.u32(..),
            fee: rng.u64(..),
            row_count: rng.u64(..),
            detail: rng.u16(..),
            outcome: match rng.u8(0..3) {
                0 => Outcome::Applied,
                1 => Outcome::Refused { code: code::EXPIRED, action: None },
                _ => Outcome::Refused { code: code::BAD_ROW, action: Some(rng.u32(..)) },
            },
        }
    }
}

impl Sample for ValidatorSet {
    fn sample(rng: &mut Rng) -> Self {
        let validators = list(rng, |rng| Validator {
            key: PublicKey::sample(rng),
            power: rng.u64(..),
            is_stale: rng.bool(),
        });
        let coin = rng.bool().then(|| CoinKey(array(rng)));
        Self { epoch: rng.u64(..), validators, coin }
    }
}

/// A small valid genesis.
pub(crate) fn genesis() -> Genesis {
    let key = PublicKey::new(Suite::Ed25519Sha256, &[1; 32]).unwrap();
    Genesis {
        version: GENESIS_VERSION,
        name: "sample".into(),
        time_us: Time::new(1_700_000_000_000_000),
        lane_count: 16,
        clock_seed: "a public text".into(),
        clock_rate_hz: 50_000,
        hash_rate_fastest_hz: 20_000_000,
        anchor_window_heights: 1 << 20,
        height_interval_min_ms: 5,
        height_interval_idle_ms: 1_000,
        open_streams: true,
        validators: vec![GenesisValidator {
            name: "v0".into(),
            key,
            power: 1,
            possession: Signature([0; 64]),
            owner: None,
        }],
        accounts: vec![GenesisAccount { account: AccountId([5; 32]), balance: 1_000 }],
        coin: None,
        stake: None,
    }
}
