//! A small ledger with made-up signatures, and the model of what it must hold.

use std::sync::Arc;

use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::{Frontier, verify_consistency, verify_inclusion};
use quipu_log::{
    Before, Beginning, Check, Finding, LaneBase, Ledger, LedgerConfig, LogError, MemoryDisk,
    Recovered, StoredChunk, TermRecord, leaves_of,
};
use quipu_proof::names;
use quipu_types::chunk::put_transaction;
use quipu_types::{
    AccountId, Action, ChunkHeader, CommitCertificate, Encode, Hash, Header, Height, Lane,
    Precommit, PublicKey, RoundKind, Seqno, Signature, Suite, Term, Time, Tip, Transaction,
    ValidatorIndex,
};

pub(crate) const CHAIN: Hash = Hash([7; 32]);
pub(crate) const LANES: u16 = 2;

pub(crate) fn config() -> LedgerConfig {
    LedgerConfig { segment_size: 4 << 10, wal_segment_size: 4 << 10, ..LedgerConfig::new(LANES) }
}

/// What was appended, and the ledger that holds it.
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) ledger: Ledger,
    pub(crate) lanes: Vec<LaneModel>,
    pub(crate) headers: Vec<(Header, CommitCertificate)>,
    pub(crate) wal: Vec<(Height, Vec<u8>)>,
    random: fastrand::Rng,
}

#[derive(Clone)]
pub(crate) struct LaneModel {
    pub(crate) transactions: Vec<Vec<u8>>,
    pub(crate) leaves: Vec<Hash>,
    pub(crate) tips: Vec<Tip>,
    pub(crate) frontier: Frontier,
    pub(crate) term: TermRecord,
}

impl LaneModel {
    pub(crate) fn tip(&self) -> Tip {
        *self.tips.last().expect("the empty tip stays")
    }
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<(Ledger, Recovered), LogError> {
    Ledger::open(Arc::new(disk.clone()), CHAIN, config())
}

pub(crate) fn check(disk: &MemoryDisk) -> Vec<Finding> {
    Check {
        disk,
        chain: CHAIN,
        lane_count: LANES,
        certificate: &|header, certificate| {
            certificate.digest() == Some(names::header_hash(header))
        },
        chunk: &|_, _, signature| *signature == Signature([3; 64]),
    }
    .run(&mut |_| {})
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_lanes(LANES, seed)
    }

    pub(crate) fn with_lanes(lane_count: u16, seed: u64) -> Self {
        let disk = MemoryDisk::new();
        let config = LedgerConfig { lane_count, ..config() };
        let opened = Ledger::open(Arc::new(disk.clone()), CHAIN, config);
        let (ledger, recovered) = opened.expect("an empty disk opens");
        assert_eq!(recovered.torn, []);
        let lanes =
            (0..lane_count).map(Lane::new).zip(&recovered.tips).map(|(lane, tip)| LaneModel {
                transactions: Vec::new(),
                leaves: Vec::new(),
                tips: vec![*tip],
                frontier: Frontier::new(),
                term: first_term(lane),
            });
        let lanes = lanes.collect();
        let random = fastrand::Rng::with_seed(seed);
        let mut world = Self { disk, ledger, lanes, headers: vec![], wal: vec![], random };
        for lane in 0..lane_count {
            world.ledger.append_term(&first_term(Lane::new(lane))).expect("a first term links");
        }
        world.ledger.sync().expect("memory syncs");
        world
    }

    fn transaction(&mut self) -> Vec<u8> {
        let to = AccountId([self.random.u8(..); 32]);
        let general = self.random.bool();
        let route = general.then(|| vec![1; self.random.usize(..200)]);
        Transaction {
            signer: PublicKey::new(Suite::Ed25519Sha256, &[self.random.u8(..); 32]).expect("32"),
            incarnation: 1,
            sequence: self.random.u64(..1 << 20),
            anchor: CHAIN,
            route,
            actions: vec![Action::Transfer { to, amount: self.random.u64(..) }],
            signature: Signature([9; 64]),
        }
        .to_bytes()
    }

    /// The next chunk of a lane, not yet appended.
    pub(crate) fn next_chunk(&mut self, lane: usize, count: usize) -> StoredChunk {
        let bytes: Vec<Vec<u8>> = (0..count).map(|_| self.transaction()).collect();
        let model = &self.lanes[lane];
        let tip = model.tip();
        let mut body = Vec::new();
        for bytes in &bytes {
            put_transaction(&mut body, bytes);
        }
        let same_term = tip.index > 0 && tip.term == model.term.term;
        let prev = if same_term {
            tip.chunk_hash
        } else {
            names::term_start(&model.term.branch, &tip.chunk_hash)
        };
        let mut chunk = StoredChunk {
            header: ChunkHeader {
                lane: model.term.lane,
                term: model.term.term,
                branch: model.term.branch,
                index: tip.index + 1,
                first_seqno: tip.seqno.next(),
                count: u32::try_from(count).expect("few"),
                prev,
                lane_root: Hash::ZERO,
                body_digest: blake3(&body),
                stripes: None,
                clock: vec![],
            },
            signature: Signature([3; 64]),
            body,
        };
        let mut frontier = model.frontier.clone();
        for leaf in leaves_of(&chunk).expect("our own") {
            frontier.append(leaf);
        }
        chunk.header.lane_root = frontier.root();
        chunk
    }

    pub(crate) fn append(&mut self, lane: usize, count: usize) -> Result<(), LogError> {
        let chunk = self.next_chunk(lane, count);
        self.append_made(lane, &chunk)
    }

    /// Appends a chunk that [`next_chunk`](Self::next_chunk) gave.
    pub(crate) fn append_made(&mut self, lane: usize, chunk: &StoredChunk) -> Result<(), LogError> {
        let leaves = leaves_of(chunk).expect("our own");
        let tip = self.ledger.append_chunk(chunk, &leaves)?;
        let model = &mut self.lanes[lane];
        for (leaf, bytes) in leaves
            .iter()
            .zip(quipu_types::chunk::split_body(&chunk.body, chunk.header.count).expect("our own"))
        {
            model.frontier.append(*leaf);
            model.leaves.push(*leaf);
            model.transactions.push(bytes.to_vec());
        }
        model.tips.push(tip);
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), LogError> {
        let height = Height::new(u64::try_from(self.headers.len()).expect("few") + 1);
        let prev = self.headers.last().map_or(CHAIN, |(header, _)| names::header_hash(header));
        let cut = self.lanes.iter().map(LaneModel::tip).collect();
        let (header, certificate) = committed(height, prev, cut);
        self.ledger.append_header(&header, &certificate)?;
        self.headers.push((header, certificate));
        Ok(())
    }

    pub(crate) fn vote(&mut self, size: usize) -> Result<(), LogError> {
        let height = Height::new(u64::try_from(self.headers.len()).expect("few") + 1);
        let bytes = (0..size).map(|_| self.random.u8(..)).collect::<Vec<_>>();
        self.ledger.append_wal(height, &bytes)?;
        self.wal.push((height, bytes));
        Ok(())
    }

    /// Voids what is not committed of a lane, and begins a term.
    pub(crate) fn fail_over(&mut self, lane: usize) -> Result<(), LogError> {
        let committed = self.headers.last().map_or(0, |(header, _)| header.cut[lane].index);
        let name = Lane::new(u16::try_from(lane).expect("few"));
        let tip = self.ledger.truncate_after(name, committed)?;
        let model = &mut self.lanes[lane];
        model.tips.truncate(usize::try_from(committed).expect("few") + 1);
        assert_eq!(model.tip(), tip, "the tip is the committed one");
        let size = usize::try_from(tip.seqno.get()).expect("few");
        model.transactions.truncate(size);
        model.leaves.truncate(size);
        model.frontier = Frontier::new();
        model.leaves.iter().for_each(|leaf| model.frontier.append(*leaf));
        let term = TermRecord {
            term: model.term.term.next(),
            branch: Hash([u8::try_from(committed % 250).expect("few"); 32]),
            first_seqno: tip.seqno.next(),
            ..model.term
        };
        self.ledger.append_term(&term)?;
        self.lanes[lane].term = term;
        Ok(())
    }

    /// Lets go what the header so many below the last does not need.
    pub(crate) fn prune(&mut self, back: usize) -> Result<(), LogError> {
        let height = u64::try_from(self.headers.len().saturating_sub(back)).expect("few");
        let height = Height::new(height).max(self.ledger.reader().first_height());
        if height > self.ledger.reader().height() {
            return Ok(());
        }
        let earlier = self.ledger.reader().first_whole_height()?;
        let kept = self.ledger.first_kept(height);
        assert!(kept <= height, "what is asked for stays");
        let before = Before { primary: 3, certified: Height::new(kept.get() - 1) };
        self.ledger.prune(height, before)?;
        assert_eq!(self.ledger.reader().first_height(), kept);
        let whole = self.ledger.reader().first_whole_height()?;
        assert!(earlier <= whole && whole <= height.next().max(earlier), "what comes after stays");
        Ok(())
    }

    /// What a ledger that begins behind the header at `place` begins with.
    pub(crate) fn beginning(&self, place: usize) -> Beginning {
        let (header, _) = &self.headers[place];
        let reader = self.ledger.reader();
        let lanes = header.cut.iter().map(|tip| {
            let chunk = (tip.index > 0)
                .then(|| self.ledger.chunk_header(tip.lane, tip.index).expect("it is there"));
            let terms = reader.failover_log(tip.lane).expect("a lane");
            let terms = terms.into_iter().filter(|term| term.first_seqno <= tip.seqno.next());
            let frontier = reader.frontier(tip.lane, tip.seqno).expect("it is there");
            LaneBase::new(chunk, frontier, terms.collect())
        });
        let (header, certificate) = self.headers[place].clone();
        let before = Before { primary: 1, certified: Height::new(2) };
        let (handovers, lanes) = (Vec::new(), lanes.collect());
        Beginning { header, certificate, before, handovers, lanes }
    }

    /// Closes the ledger as a killed process does, and opens it again.
    pub(crate) fn reopen(&mut self) -> Recovered {
        let (ledger, recovered) = open(&self.disk).expect("what was written is there");
        self.ledger = ledger;
        recovered
    }

    /// A ledger with some of everything, committed and not, synced.
    pub(crate) fn small(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for round in 0..5 {
            world.append(0, 3).expect("room");
            world.append(1, round % 3).expect("room");
            if round == 3 {
                world.fail_over(1).expect("room");
                world.append(1, 2).expect("room");
            }
            world.vote(100).expect("room");
            world.ledger.sync().expect("memory syncs");
            if round < 4 {
                world.commit().expect("room");
                let height = Height::new(u64::try_from(world.headers.len()).expect("few") + 1);
                world.ledger.begin(height).expect("room");
            }
        }
        world.ledger.sync().expect("memory syncs");
        world
    }

    /// A ledger whose beginning was pruned, all of it committed and synced.
    pub(crate) fn pruned(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for round in 0..24 {
            world.append(round % 2, 4).expect("room");
            if round % 10 == 9 {
                world.ledger.sync().expect("memory syncs");
                world.append(0, 2).expect("room");
                world.fail_over(0).expect("room");
            }
            world.ledger.sync().expect("memory syncs");
            world.commit().expect("room");
        }
        world.prune(3).expect("room");
        for lane in 0..LANES {
            let pruned = world.ledger.reader().pruned(Lane::new(lane)).expect("a lane");
            assert!(pruned > Seqno::new(0), "lane {lane} has less than two segments");
        }
        assert!(world.ledger.reader().first_height() > Height::new(1));
        world
    }
}

pub(crate) fn first_term(lane: Lane) -> TermRecord {
    TermRecord {
        lane,
        term: Term::new(1),
        sequencer: ValidatorIndex::new(0),
        branch: CHAIN,
        first_seqno: Seqno::new(1),
        height: Height::new(0),
    }
}

fn committed(height: Height, prev_header: Hash, cut: Vec<Tip>) -> (Header, CommitCertificate) {
    let header = Header {
        epoch: 0,
        height,
        proposer: ValidatorIndex::new(0),
        prev_header,
        cut,
        term_changes: vec![],
        time: Time::new(height.get()),
        prev_commit: None,
        late_votes: vec![],
        state_certificate: None,
        next_set: None,
        evidence_root: Hash::ZERO,
        rounds: quipu_types::Rounds::genesis(false),
    };
    let vote = Precommit {
        height,
        round: 0,
        kind: RoundKind::Led,
        instance: ValidatorIndex::new(0),
        digest: names::header_hash(&header),
        tips: vec![],
        suspects: vec![],
        time: Time::new(height.get() + 1),
        validator: ValidatorIndex::new(0),
        signature: Signature([5; 64]),
    };
    (header, CommitCertificate { precommits: vec![vote], coin: None })
}

/// Everything a ledger hands out is what the model holds, or an error; how many reads were errors.
pub(crate) fn nothing_is_wrong(ledger: &Ledger, recovered: &Recovered, world: &World) -> usize {
    let reader = ledger.reader();
    let mut error_count = 0;
    let height = reader.height();
    for (number, wanted) in (1..=height.get()).zip(&world.headers) {
        if Height::new(number) < reader.first_height() {
            let error = reader.header(Height::new(number)).expect_err("it was pruned");
            assert!(error.is_pruned(), "{error}");
            continue;
        }
        match reader.header(Height::new(number)) {
            Ok(found) => assert_eq!(&found, wanted, "header {number}"),
            Err(_) => error_count += 1,
        }
    }
    assert_eq!(
        recovered.committed,
        height
            .get()
            .checked_sub(1)
            .map(|last| world.headers[usize::try_from(last).unwrap()].clone())
    );
    let wal: Vec<_> =
        recovered.wal.iter().map(|record| (record.height, record.bytes.clone())).collect();
    let place = world.wal.windows(wal.len().max(1)).any(|window| window == wal);
    assert!(place || wal.is_empty(), "the write-ahead log is a stretch of what was written");
    for (at, model) in world.lanes.iter().enumerate() {
        let lane = model.term.lane;
        let tip = reader.tip(lane).expect("a lane");
        assert!(model.tips.contains(&tip), "committed tips are tips");
        let size = tip.seqno.get();
        let horizon = reader.pruned(lane).expect("a lane").get();
        if horizon > 0 {
            let mut found = reader.read_from(lane, Seqno::new(horizon)).expect("a lane");
            let error = found.next().expect("not an end").expect_err("it was pruned");
            assert!(error.is_pruned(), "{error}");
        }
        for start in horizon + 1..=size + 1 {
            let found = reader.read_from(lane, Seqno::new(start)).expect("a lane");
            for (seqno, item) in (start..).zip(found) {
                match item {
                    Ok((found_seqno, bytes)) => {
                        assert_eq!(found_seqno.get(), seqno);
                        let index = usize::try_from(seqno - 1).unwrap();
                        assert_eq!(bytes, model.transactions[index], "lane {at} seqno {seqno}");
                        assert!(seqno <= size, "only what is committed");
                    }
                    Err(_) => error_count += 1,
                }
            }
        }
        error_count += paths_are_right(ledger, model, size);
    }
    error_count
}

fn paths_are_right(ledger: &Ledger, model: &LaneModel, size: u64) -> usize {
    let reader = ledger.reader();
    let lane = model.term.lane;
    let horizon = reader.pruned(lane).expect("a lane").get();
    let mut error_count = 0;
    let mut frontier = Frontier::new();
    for (part, leaf) in (1..=size).zip(&model.leaves) {
        frontier.append(*leaf);
        if part < horizon {
            continue;
        }
        match reader.root_at(lane, Seqno::new(part)) {
            Ok(root) => assert_eq!(root, frontier.root(), "root of {part}"),
            Err(_) => error_count += 1,
        }
    }
    let end = Seqno::new(size);
    for (seqno, leaf) in (1..=size).zip(&model.leaves).filter(|(seqno, _)| *seqno > horizon) {
        match reader.inclusion_path(lane, Seqno::new(seqno), end) {
            Ok(path) => verify_inclusion(leaf, seqno - 1, size, &path, &frontier.root()).unwrap(),
            Err(_) => error_count += 1,
        }
    }
    for old in horizon.max(1)..=size {
        let roots = [old, size].map(|at| reader.root_at(lane, Seqno::new(at)));
        match (reader.consistency_path(lane, Seqno::new(old), end), roots) {
            (Ok(path), [Ok(before), Ok(after)]) => {
                verify_consistency(old, &before, size, &after, &path).unwrap();
            }
            _ => error_count += 1,
        }
    }
    error_count
}
