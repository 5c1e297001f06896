//! A small ledger: clients, lanes, headers, certificates, receipts; honest unless a test says otherwise.

use quipu_clock::Generator;
use quipu_crypto::coin::{CoinScheme, CoinSecret, Combined};
use quipu_crypto::domain::Tag;
use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::{Frontier, MemoryNodes, empty_root, inclusion_path, root, subset_path};
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_crypto::{leaf_hash, sha256};
use quipu_proof::feed::{self, Frame};
use quipu_proof::names::{
    TransactionDraft, chain_id, chunk_hash, envelope, envelope_leaf, header_hash, lane_of,
    sign_transaction, term_start, tx_name,
};
use quipu_proof::order::{lane_order, tip_of};
use quipu_proof::schedule::elect;
use quipu_proof::{Bundle, Committed, LanePart, Parts, Results, build};
use quipu_types::agreement::Validator;
use quipu_types::chunk::{StoredChunk, put_transaction};
use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
use quipu_types::{
    Action, ChunkHeader, Coin, CommitCertificate, Encode, Genesis, Hash, Header, Height, Lane, Mix,
    Outcome, Position, Precommit, Receipt, RoundKind, Seqno, Signature, SignedState,
    StateCertificate, Suite, Term, Time, Tip, Transaction, ValidatorIndex, ValidatorSet,
};

pub(crate) const LANE_COUNT: u16 = 4;

/// A height with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) committed: Committed,
    pub(crate) transactions: Vec<(Position, Transaction)>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) state: StateCertificate,
}

impl Block {
    pub(crate) fn header(&self) -> &Header {
        &self.committed.header.0
    }

    pub(crate) fn hash(&self) -> Hash {
        header_hash(self.header())
    }
}

pub(crate) struct World {
    pub(crate) genesis: Genesis,
    /// Under which chain, epoch and keys validators sign: the genesis', unless a test forges.
    pub(crate) chain: Hash,
    pub(crate) epoch: u64,
    pub(crate) keys: Vec<SecretKey>,
    /// Who signs certificates from now on.
    pub(crate) signers: Vec<usize>,
    /// Microseconds between headers.
    pub(crate) interval_us: u64,
    coin_secrets: Vec<CoinSecret>,
    /// What the next header hands over to.
    next_set: Option<ValidatorSet>,
    /// Of every lane, and the header that began it.
    term: (Term, Hash),
    pub(crate) client: SecretKey,
    leaves: Vec<Vec<Hash>>,
    pub(crate) blocks: Vec<Block>,
    /// What lanes' clocks mix at the next height, lane by lane in this order, before their batches; none makes no chunks, and
    /// tips name chunks that nobody has.
    pub(crate) mixes: Option<Vec<(u16, Vec<Thing>)>>,
    /// Every lane's chunks: one a height.
    pub(crate) chunks: Vec<Vec<ChunkHeader>>,
    /// Their bodies.
    bodies: Vec<Vec<Vec<u8>>>,
}

/// What a test has a clock mix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Thing {
    /// The header of this height.
    Header(usize),
    /// The newest chunk of this lane.
    Tip(u16),
}

fn key(seed: u8, index: usize) -> SecretKey {
    let mut bytes = [seed; 32];
    bytes[0] = u8::try_from(index).unwrap();
    SecretKey::from_seed(Suite::Ed25519Sha256, bytes)
}

pub(crate) fn keys(seed: u8, count: usize) -> Vec<SecretKey> {
    (0..count).map(|index| key(seed, index)).collect()
}

impl World {
    pub(crate) fn new(name: &str, powers: &[u64]) -> Self {
        let keys = keys(1, powers.len());
        let validators = keys
            .iter()
            .zip(powers)
            .map(|(key, power)| GenesisValidator {
                name: "v".into(),
                key: key.public(),
                power: *power,
                possession: Signature([0; 64]),
                owner: None,
            })
            .collect();
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: name.into(),
            time_us: Time::new(1_000_000),
            lane_count: LANE_COUNT,
            clock_seed: "headline".into(),
            clock_rate_hz: 100_000,
            hash_rate_fastest_hz: 20_000_000,
            anchor_window_heights: 1 << 20,
            height_interval_min_ms: 5,
            height_interval_idle_ms: 1_000,
            open_streams: true,
            validators,
            accounts: vec![],
            coin: None,
            stake: None,
        };
        genesis.check().unwrap();
        let chain = chain_id(&genesis);
        Self {
            next_set: None,
            term: (Term::new(1), chain),
            chain,
            genesis,
            epoch: 0,
            signers: (0..keys.len()).collect(),
            keys,
            coin_secrets: Vec::new(),
            interval_us: 5_000,
            client: key(99, 0),
            leaves: vec![vec![]; usize::from(LANE_COUNT)],
            blocks: vec![],
            mixes: None,
            chunks: vec![vec![]; usize::from(LANE_COUNT)],
            bodies: vec![vec![]; usize::from(LANE_COUNT)],
        }
    }

    /// As [`new`](Self::new), with a coin; see [`certify_open`](Self::certify_open).
    pub(crate) fn with_coin(name: &str, powers: &[u64]) -> Self {
        let mut world = Self::new(name, powers);
        let (setup, secrets) = quipu_crypto::coin::deal(powers, &[5; 32]);
        world.genesis.coin = Some(setup);
        world.chain = chain_id(&world.genesis);
        world.term.1 = world.chain;
        world.coin_secrets = secrets;
        world
    }

    /// The coin of an open round in the ledger `chain`.
    pub(crate) fn coin(&self, chain: &Hash, height: Height, round: u32) -> Coin {
        let setup = self.genesis.coin.as_ref().expect("a world with a coin");
        let powers: Vec<u64> = self.genesis.validators.iter().map(|one| one.power).collect();
        let scheme = CoinScheme::new(setup, &powers).expect("a right dealing");
        let message = quipu_proof::coin_message(chain, self.epoch, height, round);
        let parts = (0..).map(ValidatorIndex::new).zip(&self.coin_secrets);
        let parts = parts.map(|(validator, secret)| (validator, secret.sign(&message))).collect();
        match scheme.combine(&message, &parts) {
            Combined::Coin(coin) => coin,
            other => panic!("all parts make a coin, not {other:?}"),
        }
    }

    /// Precommits of an open round on `header`, with the coin that elects their instance.
    pub(crate) fn certify_open(&self, header: &Header, round: u32) -> CommitCertificate {
        let coin = self.coin(&self.chain, header.height, round);
        let elected = elect(&self.set(), &coin);
        let vote = |index: &usize| {
            self.precommit(header, *index, |vote| {
                (vote.kind, vote.round, vote.instance) = (RoundKind::Open, round, elected);
            })
        };
        CommitCertificate { precommits: self.signers.iter().map(vote).collect(), coin: Some(coin) }
    }

    pub(crate) fn set(&self) -> ValidatorSet {
        self.genesis.validator_set()
    }

    /// A transaction of `action_count` appends, anchored at `anchor`.
    pub(crate) fn transaction(
        &self,
        sequence: u64,
        action_count: usize,
        anchor: Hash,
    ) -> Transaction {
        let actions = (0..action_count)
            .map(|index| Action::Append {
                stream: "flights".into(),
                key: vec![],
                payload: sequence
                    .to_le_bytes()
                    .into_iter()
                    .chain([index.to_le_bytes()[0]])
                    .collect(),
            })
            .collect();
        let route = (!sequence.is_multiple_of(3)).then(|| sequence.to_le_bytes().to_vec());
        let draft = TransactionDraft { incarnation: 1, sequence, anchor, route, actions };
        sign_transaction(&self.client, &self.chain, draft)
    }

    pub(crate) fn tip_hash(&self) -> Hash {
        self.blocks.last().map_or(self.chain, Block::hash)
    }

    /// Orders, commits and executes `transactions` at the next height.
    pub(crate) fn commit(&mut self, transactions: Vec<Transaction>) {
        let mut ordered: Vec<(Position, Transaction)> = transactions
            .into_iter()
            .map(|transaction| {
                let lane = lane_of(transaction.route_bytes(), LANE_COUNT);
                let leaves = &mut self.leaves[usize::from(lane.get())];
                leaves.push(envelope_leaf(&envelope(&transaction)));
                let seqno = Seqno::new(u64::try_from(leaves.len()).unwrap());
                (Position { lane, seqno }, transaction)
            })
            .collect();
        // Feeds count outcomes by the ledger's order; who makes no chunks has no feed.
        let lanes = self.mixes.as_ref().map(|_| lane_order(&self.tip_hash(), LANE_COUNT));
        let rank = |lane: Lane| lanes.iter().flatten().position(|one| *one == lane);
        ordered.sort_by_key(|(position, _)| (rank(position.lane), *position));
        for (lane, things) in self.mixes.clone().unwrap_or_default() {
            let mut body = Vec::new();
            for (_, one) in ordered.iter().filter(|(position, _)| position.lane.get() == lane) {
                put_transaction(&mut body, &one.to_bytes());
            }
            self.make_chunk(lane, &things, body);
        }
        let header = self.next_header();
        let receipts: Vec<Receipt> = ordered
            .iter()
            .map(|(position, transaction)| self.receipt(*position, transaction))
            .collect();
        let leaves: Vec<Hash> =
            receipts.iter().map(|receipt| leaf_hash(&receipt.to_bytes())).collect();
        let state = self.certify_state(SignedState {
            height: header.height,
            state_root: sha256(b"state"),
            receipts_root: root(&leaves),
            next_set: None,
        });
        let committed = Committed::new(header.clone(), self.certify(&header));
        self.blocks.push(Block { committed, transactions: ordered, receipts, state });
    }

    /// The lane's next chunk: what is new in its tree.
    fn make_chunk(&mut self, lane: u16, things: &[Thing], body: Vec<u8>) {
        let place = usize::from(lane);
        let leaves = &self.leaves[place];
        let last = self.chunks[place].last();
        let lane_root = root(leaves);
        let seqno = last.map_or(0, |last| last.last_seqno().get());
        let value = last.map_or(self.chain, |last| last.clock.last().unwrap().value);
        let mut clock = Generator::new(value);
        for thing in things {
            clock.tick(20);
            let mix = match *thing {
                Thing::Header(height) => Mix::Header {
                    height: Height::new(u64::try_from(height).unwrap()),
                    hash: self.blocks[height - 1].hash(),
                },
                Thing::Tip(lane) => {
                    let header = self.chunks[usize::from(lane)].last().unwrap();
                    let hash = chunk_hash(header);
                    Mix::LaneTip { lane: Lane::new(lane), index: header.index, hash }
                }
            };
            clock.mix(mix, &lane_root);
        }
        clock.tick(20);
        clock.mix(Mix::Batch, &lane_root);
        let header = ChunkHeader {
            lane: Lane::new(lane),
            term: self.term.0,
            branch: self.term.1,
            index: u64::try_from(self.chunks[place].len()).unwrap() + 1,
            first_seqno: Seqno::new(seqno + 1),
            count: u32::try_from(leaves.len()).unwrap() - u32::try_from(seqno).unwrap(),
            prev: match last {
                Some(last) if last.term == self.term.0 => chunk_hash(last),
                _ => term_start(&self.term.1, &last.map_or(Hash([0; 32]), chunk_hash)),
            },
            lane_root,
            body_digest: blake3(&body),
            stripes: None,
            clock: clock.take(),
        };
        self.chunks[place].push(header);
        self.bodies[place].push(body);
    }

    /// What is streamed to who follows lanes: the chunks of a height, outcomes, its cut.
    pub(crate) fn frames(&self, height: usize, lanes: &[Lane]) -> Vec<Frame> {
        let block = &self.blocks[height - 1];
        let chunk = |lane: &Lane| {
            let place = usize::from(lane.get());
            Frame::Chunk(StoredChunk {
                header: self.chunks[place][height - 1].clone(),
                signature: Signature([0; 64]),
                body: self.bodies[place][height - 1].clone(),
            })
        };
        let of = |lane: Lane| block.receipts.iter().filter(move |one| one.lane == lane);
        let receipts =
            |lane: &Lane| Frame::Receipts { lane: *lane, receipts: of(*lane).copied().collect() };
        let leaves: Vec<Hash> =
            block.receipts.iter().map(|receipt| leaf_hash(&receipt.to_bytes())).collect();
        let wanted = (0..).zip(&block.receipts).filter(|(_, one)| lanes.contains(&one.lane));
        let ranges: Vec<_> = wanted.map(|(place, _)| place..place + 1).collect();
        let path = subset_path(&leaves, &ranges);
        let results = (!ranges.is_empty())
            .then(|| feed::frame::Results { certificate: block.state.clone(), path });
        let (header, certificate) = (block.header().clone(), block.committed.certificate.0.clone());
        let cut = Frame::Cut(Box::new(feed::frame::Cut { header, certificate, results }));
        let chunks = lanes.iter().map(chunk);
        chunks.chain(lanes.iter().map(receipts)).chain([cut]).collect()
    }

    /// The tree of a lane after a height, 0 for none.
    pub(crate) fn frontier(&self, height: usize, lane: Lane) -> Frontier {
        let tip =
            height.checked_sub(1).and_then(|place| tip_of(&self.blocks[place].header().cut, lane));
        let size = tip.map_or(0, |tip| usize::try_from(tip.seqno.get()).unwrap());
        let mut tree = Frontier::default();
        tree.extend(&self.leaves[usize::from(lane.get())][..size]);
        tree
    }

    /// The tree's path of the seqno `seqno` of a lane that has `size` leaves.
    pub(crate) fn path(&self, position: Position, size: Seqno) -> LanePart {
        let leaves = &self.leaves[usize::from(position.lane.get())];
        let leaves = &leaves[..usize::try_from(size.get()).unwrap()];
        let index = position.seqno.get() - 1;
        let Ok(path) = inclusion_path(&MemoryNodes::from_leaves(leaves), index, size.get());
        LanePart { index, size: size.get(), path }
    }

    fn receipt(&self, position: Position, transaction: &Transaction) -> Receipt {
        Receipt {
            lane: position.lane,
            seqno: position.seqno,
            tx: tx_name(&self.chain, &envelope(transaction)),
            action_count: u32::try_from(transaction.actions.len()).unwrap(),
            fee: 3,
            outcome: Outcome::Applied,
            row_count: 0,
            detail: 0,
        }
    }

    fn next_header(&self) -> Header {
        let height = u64::try_from(self.blocks.len()).unwrap() + 1;
        let cut = (0..LANE_COUNT)
            .map(|lane| {
                let leaves = &self.leaves[usize::from(lane)];
                let chunk = self.chunks[usize::from(lane)].last();
                Tip {
                    lane: Lane::new(lane),
                    term: chunk.map_or(self.term.0, |chunk| chunk.term),
                    index: chunk.map_or(height, |chunk| chunk.index),
                    seqno: Seqno::new(u64::try_from(leaves.len()).unwrap()),
                    lane_root: root(leaves),
                    chunk_hash: chunk.map_or_else(|| sha256(&[9]), chunk_hash),
                }
            })
            .collect();
        let last = self.blocks.last();
        let next_term = Term::new(self.term.0.get() + 1);
        Header {
            epoch: self.epoch,
            height: Height::new(height),
            proposer: ValidatorIndex::new(0),
            prev_header: self.tip_hash(),
            cut,
            term_changes: match self.next_set {
                Some(_) => (0..LANE_COUNT).map(|lane| (Lane::new(lane), next_term)).collect(),
                None => vec![],
            },
            time: Time::new(1_000_000 + height * self.interval_us),
            prev_commit: last.map(|block| block.committed.certificate.0.clone()),
            late_votes: vec![],
            state_certificate: last.map(|block| block.state.clone()),
            next_set: self.next_set.clone(),
            evidence_root: empty_root(),
            rounds: quipu_types::Rounds::genesis(false),
        }
    }

    /// A precommit on `header`, signed after `change`.
    pub(crate) fn precommit(
        &self,
        header: &Header,
        validator: usize,
        change: impl Fn(&mut Precommit),
    ) -> Precommit {
        let mut vote = Precommit {
            height: header.height,
            round: 0,
            kind: RoundKind::Led,
            instance: ValidatorIndex::new(0),
            digest: header_hash(header),
            tips: vec![],
            suspects: vec![],
            time: Time::new(header.time.get() + 1),
            validator: ValidatorIndex::new(u16::try_from(validator).unwrap()),
            signature: Signature([0; 64]),
        };
        change(&mut vote);
        let key = &self.keys[validator.min(self.keys.len() - 1)];
        vote.signature =
            sign_tagged(key, &self.chain, self.epoch, Tag::Precommit, &vote.signed_body());
        vote
    }

    pub(crate) fn certify(&self, header: &Header) -> CommitCertificate {
        let votes = self.signers.iter().map(|index| self.precommit(header, *index, |_| ()));
        CommitCertificate { precommits: votes.collect(), coin: None }
    }

    pub(crate) fn certify_state(&self, state: SignedState) -> StateCertificate {
        let body = state.to_bytes();
        let signatures = self
            .signers
            .iter()
            .map(|index| {
                let signature =
                    sign_tagged(&self.keys[*index], &self.chain, self.epoch, Tag::StateVote, &body);
                (ValidatorIndex::new(u16::try_from(*index).unwrap()), signature)
            })
            .collect();
        StateCertificate { state, signatures }
    }

    /// Three heights of some transactions; those of the second are anchored at the first header.
    pub(crate) fn grown(mut self) -> Self {
        self.grow();
        self
    }

    pub(crate) fn grow(&mut self) {
        let mut sequence = 0;
        for count in [3, 9, 4_u64] {
            let anchor = self.tip_hash();
            let transactions = (0..count)
                .map(|index| {
                    sequence += 1;
                    let action_count = if index.is_multiple_of(2) { 1 } else { 5 };
                    self.transaction(sequence, action_count, anchor)
                })
                .collect();
            self.commit(transactions);
        }
    }

    /// A set of validators of these keys.
    pub(crate) fn set_of(epoch: u64, keys: &[SecretKey], powers: &[u64]) -> ValidatorSet {
        let validator = |(key, power): (&SecretKey, &u64)| Validator {
            key: key.public(),
            power: *power,
            is_stale: false,
        };
        let validators = keys.iter().zip(powers).map(validator).collect();
        ValidatorSet { epoch, validators, coin: None }
    }

    /// Adds a height that ends its epoch. Validators of keys of `seed` are the next.
    pub(crate) fn hand_over(&mut self, seed: u8, powers: &[u64], transactions: Vec<Transaction>) {
        let keys = keys(seed, powers.len());
        self.next_set = Some(Self::set_of(self.epoch + 1, &keys, powers));
        self.commit(transactions);
        self.next_set = None;
        self.epoch += 1;
        self.signers = (0..keys.len()).collect();
        self.keys = keys;
        self.term = (Term::new(self.term.0.get() + 1), self.tip_hash());
    }

    /// The hand-overs up to a height.
    pub(crate) fn handovers(&self, height: usize) -> Vec<Committed> {
        let blocks = self.blocks.iter().take(height);
        let ends = blocks.filter(|block| block.header().next_set.is_some());
        ends.map(|block| block.committed.clone()).collect()
    }

    /// The bundle of a block's transaction, complete.
    pub(crate) fn bundle(&self, block: usize, place: usize, action: Option<u32>) -> Bundle {
        let entry = &self.blocks[block];
        let (position, transaction) = &entry.transactions[place];
        let tip = tip_of(&entry.header().cut, position.lane).unwrap();
        let lane_path = self.path(*position, tip.seqno).path;
        let anchor = self.blocks.iter().find(|block| block.hash() == transaction.anchor);
        build(Parts {
            chain: self.chain,
            epochs: self.handovers(block + 1),
            transaction,
            position: *position,
            action,
            lane_path,
            block: entry.committed.clone(),
            previous: block.checked_sub(1).map(|before| self.blocks[before].header().clone()),
            results: Some(Results { receipts: &entry.receipts, certificate: entry.state.clone() }),
            anchor: anchor.map(|block| block.committed.clone()),
            next: self.blocks.get(block + 1).map(|block| block.committed.clone()),
            mixed: None,
        })
        .unwrap()
    }

    /// Place of a transaction of the second block with several actions, neither first nor last.
    pub(crate) fn place_of_many(&self) -> usize {
        let transactions = &self.blocks[1].transactions;
        (1..transactions.len() - 1)
            .find(|place| {
                let (position, transaction) = &transactions[*place];
                let tip = tip_of(&self.blocks[1].header().cut, position.lane).unwrap();
                transaction.actions.len() == 5 && tip.seqno.get() >= 3
            })
            .unwrap()
    }
}
