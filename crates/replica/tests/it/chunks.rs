//! Chunks as a sequencer should not make them, and chunks out of order.

use std::sync::Arc;

use quipu_crypto::Tag;
use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::Frontier;
use quipu_proof::names::{chunk_hash, term_start};
use quipu_replica::{
    Admitted, ChunkFault, Input, PeerMessage, ReceiveError, Received, Refused, StoredChunk, receive,
};
use quipu_types::chunk::put_transaction;
use quipu_types::{ChunkHeader, Encode, Hash, Lane, Mix, Seqno, Signature, Tip};

use crate::common::{admissions, key};
use crate::net::{Net, number};

pub(crate) const LANE: u16 = 1;

/// A sequencer that makes chunks as it likes.
pub(crate) struct Forger {
    tip: Option<Tip>,
    frontier: Frontier,
    clock: Hash,
}

impl Forger {
    pub(crate) fn new(net: &Net) -> Self {
        let seed = quipu_clock::seed_value(&net.genesis.clock_seed);
        let clock = quipu_clock::start(&net.chain(), &seed);
        Self { tip: None, frontier: Frontier::new(), clock }
    }

    pub(crate) fn chunk(&mut self, net: &Net, transactions: &[Arc<Admitted>]) -> StoredChunk {
        let mut body = Vec::new();
        for admitted in transactions {
            put_transaction(&mut body, &admitted.bytes);
            self.frontier.append(admitted.leaf);
        }
        let lane_root = self.frontier.root();
        let mut clock = quipu_clock::Generator::new(self.clock);
        clock.tick(3);
        clock.mix(Mix::Batch, &lane_root);
        let first = self.tip.map_or(1, |tip| tip.seqno.get() + 1);
        let header = ChunkHeader {
            lane: Lane::new(LANE),
            term: quipu_consensus::header::TERM_FIRST,
            branch: net.chain(),
            index: self.tip.map_or(1, |tip| tip.index + 1),
            first_seqno: Seqno::new(first),
            count: u32::try_from(transactions.len()).expect("few"),
            prev: self.tip.map_or(term_start(&net.chain(), &Hash::ZERO), |tip| tip.chunk_hash),
            lane_root,
            body_digest: blake3(&body),
            stripes: None,
            clock: clock.take(),
        };
        self.clock = clock.value();
        self.sign(net, header, body)
    }

    pub(crate) fn sign(&mut self, net: &Net, header: ChunkHeader, body: Vec<u8>) -> StoredChunk {
        let sequencer = u8::try_from(net.sequencer(LANE, 1)).expect("few");
        let (chain, bytes) = (net.chain(), header.to_bytes());
        let signature =
            quipu_crypto::sign_tagged(&key(sequencer + 1), &chain, 0, Tag::Chunk, &bytes);
        self.tip = Some(Tip {
            lane: header.lane,
            term: header.term,
            index: header.index,
            seqno: header.last_seqno(),
            lane_root: header.lane_root,
            chunk_hash: chunk_hash(&header),
        });
        StoredChunk { header, signature, body }
    }
}

pub(crate) fn hand(net: &mut Net, to: usize, chunk: &StoredChunk) -> Result<(), Refused> {
    let bytes = PeerMessage::Chunk(chunk.clone()).to_bytes();
    let received = receive(net.context(), &admissions(net.context()), &bytes)?;
    let from = number(net.sequencer(LANE, 1));
    net.members[to].replica.step(net.now, Input::Received { from, received })
}

/// The others of the lane's sequencer, which is gone and only its forged chunks come.
pub(crate) fn forsaken() -> (Net, [usize; 3]) {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    net.down(sequencer);
    (net, [1, 2, 3].map(|step| (sequencer + step) % 4))
}

pub(crate) fn tip_index(net: &Net, index: usize) -> u64 {
    net.members[index].replica.status().tips[usize::from(LANE)].index
}

#[test]
fn a_chunk_that_can_not_stand_is_refused_and_ends_its_sequencer_s_term() {
    type Make = fn(&mut Forger, &Net, u8) -> StoredChunk;
    let out_of_sequence: Make =
        |forger, net, client| forger.chunk(net, &[net.transaction(client, 2)]);
    let wrong_root: Make = |forger, net, client| {
        forger.frontier.append(Hash::ZERO);
        forger.chunk(net, &[net.transaction(client, 1)])
    };
    let wrong_clock: Make = |forger, net, client| {
        forger.clock = Hash::ZERO;
        forger.chunk(net, &[net.transaction(client, 1)])
    };
    let twice: Make = |forger, net, client| {
        let own = net.transaction(client, 1);
        forger.chunk(net, &[Arc::clone(&own), own])
    };
    let faults = [
        (out_of_sequence, ChunkFault::Sequence),
        (wrong_root, ChunkFault::Root),
        (wrong_clock, ChunkFault::Clock),
        (twice, ChunkFault::Sequence),
    ];
    for (make, fault) in faults {
        let (mut net, others) = forsaken();
        let client = net.client(LANE, 0);
        let chunk = make(&mut Forger::new(&net), &net, client);
        for index in others {
            let refused = hand(&mut net, index, &chunk).expect_err("it can not stand");
            assert_eq!(refused, Refused::Chunk { lane: Lane::new(LANE), index: 1, fault });
            assert!(!refused.is_offence(), "who hands it on is not to blame");
            assert_eq!(tip_index(&net, index), 0);
        }
        net.submit(others[0], 1, net.transaction(client, 1));
        let took = net.until("the term ends", |net| net.term(others[0], 1) == 2);
        assert!(took <= 1_500_000, "{took} microseconds");
        net.until("the transaction is ordered", |net| net.is_answered(others[0], 1));
    }
}

#[test]
fn two_chunks_of_one_place_are_proof_and_everyone_is_told() {
    let (mut net, [first, second, third]) = forsaken();
    let [one, other] = [0, 1].map(|turn| net.client(LANE, turn));
    let honest = Forger::new(&net).chunk(&net, &[net.transaction(one, 1)]);
    let forked = Forger::new(&net).chunk(&net, &[net.transaction(other, 1)]);
    hand(&mut net, first, &honest).expect("one alone is no fault");
    hand(&mut net, first, &forked).expect("who hands it on is not to blame");
    net.quiet();
    for _ in 0..100 {
        hand(&mut net, first, &forked).expect("who hands it on is not to blame");
    }
    net.quiet();
    for index in [first, second, third] {
        let evidence = &net.members[index].evidence;
        assert_eq!(evidence.first().map(String::as_str), Some("chunks"), "{index} was told");
        assert!(evidence.len() <= 4, "repeats are not kept for ever: {}", evidence.len());
    }
    net.until("the term ends", |net| net.term(third, 1) == 2);
}

#[test]
fn a_fork_that_is_available_wins_over_the_branch_that_is_held() {
    let (mut net, [first, second, third]) = forsaken();
    let [one, other] = [0, 1].map(|turn| net.client(LANE, turn));
    let honest = Forger::new(&net).chunk(&net, &[net.transaction(one, 1)]);
    let forked = Forger::new(&net).chunk(&net, &[net.transaction(other, 1)]);
    // The first holds one branch, the two others hold another one.
    hand(&mut net, first, &honest).expect("one alone is no fault");
    for index in [second, third] {
        hand(&mut net, index, &forked).expect("one alone is no fault");
    }
    net.until("the term ends", |net| (0..4).filter(|i| net.is_up[*i]).all(|i| net.term(i, 1) >= 2));
    net.pass(3_000_000);
    let orders: Vec<_> = [first, second, third].map(|index| net.ordered(index, LANE)).into();
    assert_eq!(orders[0], orders[1], "{}", net.told());
    assert_eq!(orders[0], orders[2]);
}

#[test]
fn early_chunks_wait_for_those_before_them() {
    let (mut net, [first, ..]) = forsaken();
    let client = net.client(LANE, 0);
    let mut forger = Forger::new(&net);
    let chunks: Vec<StoredChunk> =
        (1..=4).map(|sequence| forger.chunk(&net, &[net.transaction(client, sequence)])).collect();
    for (place, reached) in [(2, 0), (3, 0), (0, 1), (0, 1), (1, 4), (2, 4)] {
        hand(&mut net, first, &chunks[place]).expect("nothing is wrong with them");
        assert_eq!(tip_index(&net, first), reached, "after chunk {}", place + 1);
    }
}

#[test]
fn what_is_not_signed_by_the_sequencer_or_not_whole_does_not_come_in() {
    let (net, _) = forsaken();
    let client = net.client(LANE, 0);
    let good = Forger::new(&net).chunk(&net, &[net.transaction(client, 1)]);
    let lane = Lane::new(LANE);
    let refused = |change: fn(&mut StoredChunk)| {
        let mut chunk = good.clone();
        change(&mut chunk);
        receive(net.context(), &admissions(net.context()), &PeerMessage::Chunk(chunk).to_bytes())
            .err()
    };
    assert_eq!(refused(|_| {}), None);
    let unsigned = Some(ReceiveError::Signature { what: "a chunk", lane });
    assert_eq!(refused(|chunk| chunk.signature = Signature([0; 64])), unsigned);
    assert_eq!(refused(|chunk| chunk.header.index = 2), unsigned);
    assert_eq!(refused(|chunk| chunk.header.term = chunk.header.term.next()), unsigned);
    let no_body = Some(ReceiveError::Body { lane, index: 1 });
    assert_eq!(refused(|chunk| chunk.body.push(0)), no_body);
    // Signed by the sequencer, and wrong all the same.
    let other_lane = net.client(0, 0);
    let foreign = Forger::new(&net).chunk(&net, &[net.transaction(other_lane, 1)]);
    let bytes = PeerMessage::Chunk(foreign).to_bytes();
    let code = quipu_types::code::MALFORMED;
    let taken = receive(net.context(), &admissions(net.context()), &bytes);
    assert_eq!(taken.err(), Some(ReceiveError::Transaction { code }));
    let mut forger = Forger::new(&net);
    let mut late = forger.chunk(&net, &[net.transaction(client, 1)]);
    let mut entry = late.header.clock[0].clone();
    entry.value = Hash::ZERO;
    late.header.clock.push(entry);
    let late = forger.sign(&net, late.header, late.body);
    let taken =
        receive(net.context(), &admissions(net.context()), &PeerMessage::Chunk(late).to_bytes());
    assert_eq!(taken.err(), Some(ReceiveError::Clock { lane, index: 1 }));
    for keeps in [0, 1] {
        let mut forger = Forger::new(&net);
        let mut bare = forger.chunk(&net, &[net.transaction(client, 1)]);
        bare.header.clock.truncate(keeps);
        for entry in &mut bare.header.clock {
            entry.mix = Mix::Nothing;
        }
        let bare = forger.sign(&net, bare.header, bare.body);
        let taken = receive(
            net.context(),
            &admissions(net.context()),
            &PeerMessage::Chunk(bare).to_bytes(),
        );
        assert_eq!(taken.err(), Some(ReceiveError::Clock { lane, index: 1 }), "no batch is mixed");
    }
    let received = receive(
        net.context(),
        &admissions(net.context()),
        &PeerMessage::Chunk(good.clone()).to_bytes(),
    );
    assert!(matches!(received, Ok(Received::Chunk(_))));
}
