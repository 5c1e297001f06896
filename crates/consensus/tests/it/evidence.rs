//! Every kind of evidence: who is found, who is named, who is never named.

use expect_test::expect;
use proptest::prelude::*;
use quipu_consensus::core::Refused;
use quipu_consensus::{Change, Context, Event, Evidence, Message, Record, SignedChunk};
use quipu_crypto::Tag;
use quipu_types::{
    Ack, ChunkHeader, Decode, Encode, Hash, Height, High, Lane, Precommit, Prevote, Propose,
    RoundKind, Seqno, Signature, StateCertificate, StateVote, Time,
};

use crate::rounds::change;
use crate::world::{CHAIN, IDLE_US, Node, World, context, number, sign, state, tip};

const POWERS: [u64; 4] = [4, 3, 2, 1];
const UNSIGNED: Signature = Signature([0; 64]);
/// Who breaks the rules; it leads the first round and sequences lane 0.
const CRIMINAL: usize = 0;

fn prevote(digest: Hash) -> Prevote {
    let mut vote = Prevote {
        height: Height::new(1),
        round: 0,
        kind: RoundKind::Led,
        instance: number(CRIMINAL),
        digest,
        proposal: digest,
        validator: number(CRIMINAL),
        signature: UNSIGNED,
    };
    vote.signature = sign(CRIMINAL, Tag::Prevote, &vote.signed_body());
    vote
}

fn precommit(digest: Hash) -> Precommit {
    let mut vote = Precommit {
        height: Height::new(1),
        round: 0,
        kind: RoundKind::Led,
        instance: number(CRIMINAL),
        digest,
        tips: vec![tip(0, 3)],
        suspects: Vec::new(),
        time: Time::new(7),
        validator: number(CRIMINAL),
        signature: UNSIGNED,
    };
    vote.signature = sign(CRIMINAL, Tag::Precommit, &vote.signed_body());
    vote
}

fn ack(lane_root: Hash) -> Ack {
    let tips = vec![quipu_types::Tip { lane_root, ..tip(0, 3) }, tip(1, 1)];
    let mut ack = Ack { validator: number(CRIMINAL), tips, signature: UNSIGNED };
    ack.signature = sign(CRIMINAL, Tag::Ack, &ack.signed_body());
    ack
}

fn state_vote(root: Hash) -> StateVote {
    let state = quipu_types::SignedState { state_root: root, ..state(1) };
    let signature = sign(CRIMINAL, Tag::StateVote, &state.to_bytes());
    StateVote { state, validator: number(CRIMINAL), signature }
}

/// What validators say of the state of height 1: the truth.
fn certificate(signers: &[usize]) -> StateCertificate {
    let body = state(1).to_bytes();
    let signed = |at: &usize| (number(*at), sign(*at, Tag::StateVote, &body));
    StateCertificate { state: state(1), signatures: signers.iter().map(signed).collect() }
}

fn chunk(body_digest: Hash) -> SignedChunk {
    let header = ChunkHeader {
        lane: Lane::new(0),
        term: quipu_consensus::header::TERM_FIRST,
        branch: CHAIN,
        index: 1,
        first_seqno: Seqno::new(1),
        count: 1,
        prev: CHAIN,
        lane_root: CHAIN,
        body_digest,
        stripes: None,
        clock: Vec::new(),
    };
    let signature = sign(CRIMINAL, Tag::Chunk, &header.to_bytes());
    SignedChunk { header, signature }
}

fn proposals() -> [Propose; 2] {
    let mut leader = Node::new(&POWERS, CRIMINAL);
    leader.wait(IDLE_US);
    let Some(Message::Propose(first)) = leader.said().into_iter().next() else {
        panic!("the leader proposes")
    };
    let mut second = first.clone();
    second.header.evidence_root = CHAIN;
    second.signature = sign(CRIMINAL, Tag::Propose, &second.signed_body());
    [*first, *second]
}

fn polka_of_nothing(digest: Hash) -> High {
    High { round: 0, instance: number(CRIMINAL), digest }
}

/// One of each kind.
fn crimes() -> Vec<Evidence> {
    let (a, b) = (Hash([1; 32]), Hash([2; 32]));
    let [first, second] =
        [change(CRIMINAL, 1, None), change(CRIMINAL, 1, Some(polka_of_nothing(a)))];
    vec![
        Evidence::Proposals(Box::new(proposals())),
        Evidence::Prevotes(Box::new([prevote(a), prevote(b)])),
        Evidence::Precommits(Box::new([precommit(a), precommit(b)])),
        Evidence::RoundChanges(Box::new([first, second])),
        Evidence::Amnesia(Box::new((precommit(a), change(CRIMINAL, 2, None), None))),
        Evidence::Acks(Box::new([ack(a), ack(b)])),
        Evidence::Chunks(Box::new([chunk(a), chunk(b)])),
        Evidence::States(Box::new([state_vote(a), state_vote(b)])),
        Evidence::FalseState(Box::new((state_vote(b), certificate(&[0, 1])))),
    ]
}

/// What was said, in its order.
fn messages(crime: &Evidence) -> Option<[Message; 2]> {
    let bare =
        |change| Message::RoundChange(Change { change, polka: Vec::new(), coins: Vec::new() });
    Some(match crime.clone() {
        Evidence::Proposals(pair) => pair.map(|said| Message::Propose(Box::new(said))),
        Evidence::Prevotes(pair) => pair.map(Message::Prevote),
        Evidence::Precommits(pair) => pair.map(Message::Precommit),
        Evidence::RoundChanges(pair) => pair.map(bare),
        Evidence::Amnesia(pair) => [Message::Precommit(pair.0), bare(pair.1)],
        Evidence::Acks(pair) => pair.map(Message::Ack),
        Evidence::States(pair) => pair.map(Message::StateVote),
        // The keeper of the lanes finds these.
        Evidence::Chunks(_) => return None,
        // One word of it is of others: see below.
        Evidence::FalseState(_) => return None,
    })
}

#[test]
fn every_kind_is_found_in_any_order_and_names_its_author() {
    let context = context(&POWERS);
    for crime in crimes() {
        assert_eq!(crime.culprit(&context), Some(number(CRIMINAL)), "{}", crime.kind());
        let Some([first, second]) = messages(&crime) else { continue };
        for (earlier, later) in [(&first, &second), (&second, &first)] {
            let mut node = Node::new(&POWERS, 1);
            let is_change = matches!(earlier, Message::RoundChange(Change { change, .. }) if change.high.is_some());
            // A round change that names a polka which is not there is refused for that.
            assert_eq!(
                node.hear(CRIMINAL, earlier.clone()).is_ok(),
                !is_change && is_valid(earlier)
            );
            let refused = node.hear(CRIMINAL, later.clone());
            let found: Vec<_> =
                node.evidence.iter().map(|found| (found.kind(), found.culprit(&context))).collect();
            if is_change || !is_valid(earlier) {
                continue;
            }
            assert_eq!(found, [(crime.kind(), Some(number(CRIMINAL)))]);
            let (validator, height) = (number(CRIMINAL), Height::new(1));
            if !matches!(later, Message::Precommit(_)) || crime.kind() != "amnesia" {
                assert_eq!(refused, Err(Refused::Equivocation { validator, height }));
            }
        }
    }
}

/// The second of the two proposals is no valid one, so it is not kept when it comes first.
fn is_valid(message: &Message) -> bool {
    !matches!(message, Message::Propose(propose) if propose.header.evidence_root == CHAIN)
}

#[test]
fn every_kind_says_where_it_was() {
    let told = crimes().into_iter().map(|crime| format!("{}: {}\n", crime.kind(), crime.place()));
    expect![[r#"
        proposals: height 1, round 0
        prevotes: height 1, round 0
        precommits: height 1, round 0
        round changes: height 1, round 1
        amnesia: height 1, round 0 and the change to 2
        acks: chunk 3 of lane 0 in term 1
        chunks: chunk 1 of lane 0 in term 1
        states: the state of height 1
        false state: the state of height 1
    "#]]
    .assert_eq(&told.collect::<String>());
}

#[test]
fn encodings_are_frozen() {
    let bytes: Vec<u8> = crimes().iter().flat_map(Encode::to_bytes).collect();
    expect!["7e208bfb380af3611bfcdc505620383c75728627b759e79b2c05e9373352a5b1"]
        .assert_eq(&quipu_crypto::sha256(&bytes).to_string());
}

#[test]
fn who_hands_on_another_s_two_words_is_not_to_blame() {
    let mut node = Node::new(&POWERS, 1);
    let [a, b] = [1, 2].map(|byte| Message::Ack(ack(Hash([byte; 32]))));
    node.hear(3, a).expect("one word");
    let refused = node.hear(3, b).expect_err("another one");
    assert!(!refused.is_offence());
    assert_eq!(node.evidence[0].culprit(&context(&POWERS)), Some(number(CRIMINAL)));
}

#[test]
fn what_is_said_once_or_again_accuses_nobody() {
    let context = context(&POWERS);
    let a = Hash([1; 32]);
    let [propose, _] = proposals();
    let of_another_height = {
        let state = state(2);
        let signature = sign(CRIMINAL, Tag::StateVote, &state.to_bytes());
        StateVote { state, validator: number(CRIMINAL), signature }
    };
    let innocent = [
        Evidence::Proposals(Box::new([propose.clone(), propose])),
        Evidence::Prevotes(Box::new([prevote(a), prevote(a)])),
        Evidence::Precommits(Box::new([precommit(a), precommit(a)])),
        Evidence::RoundChanges(Box::new([change(CRIMINAL, 1, None), change(CRIMINAL, 2, None)])),
        Evidence::Amnesia(Box::new((precommit(a), change(1, 2, None), None))),
        Evidence::Amnesia(Box::new((
            precommit(a),
            change(CRIMINAL, 2, Some(polka_of_nothing(a))),
            None,
        ))),
        Evidence::Acks(Box::new([ack(a), ack(a)])),
        Evidence::Chunks(Box::new([chunk(a), chunk(a)])),
        Evidence::States(Box::new([state_vote(a), state_vote(a)])),
        // The truth; against too few; against the state of another height.
        Evidence::FalseState(Box::new((state_vote(state(1).state_root), certificate(&[0, 1])))),
        Evidence::FalseState(Box::new((state_vote(Hash([2; 32])), certificate(&[1, 2, 3])))),
        Evidence::FalseState(Box::new((of_another_height, certificate(&[0, 1])))),
    ];
    for evidence in innocent {
        assert_eq!(evidence.culprit(&context), None, "{evidence:?}");
    }
}

/// Validator 3 says a false state of height 1, before the others have certified the true one, and after.
#[test]
fn a_false_state_is_found_whenever_it_comes_and_names_its_author() {
    let truth = |at: usize| {
        let (state, validator) = (state(1), number(at));
        StateVote { state, validator, signature: sign(at, Tag::StateVote, &state.to_bytes()) }
    };
    let lie = {
        let state = quipu_types::SignedState { state_root: Hash([9; 32]), ..state(1) };
        let signature = sign(3, Tag::StateVote, &state.to_bytes());
        StateVote { state, validator: number(3), signature }
    };
    for is_early in [true, false] {
        let mut world = World::new(&[1; 4], 3);
        world.grow_all([1, 1, 1]);
        world.pass(20_000);
        let node = &mut world.nodes[1];
        assert!(node.height() >= 1, "height 1 is committed");
        node.evidence.clear();
        node.step(Event::Executed(state(1))).expect("its own");
        let mut said = vec![truth(0), truth(2)];
        said.insert(if is_early { 0 } else { 2 }, lie);
        for vote in said {
            let _ = node.hear(usize::from(vote.validator.get()), Message::StateVote(vote));
        }
        let found: Vec<_> = node.evidence.iter().collect();
        let [evidence @ Evidence::FalseState(_)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(evidence.culprit(&context(&[1; 4])), Some(number(3)));
    }
}

#[test]
fn nobody_is_named_to_those_of_another_ledger() {
    let other = Context::new(Hash([8; 32]), context(&POWERS).set, 3);
    for crime in crimes() {
        assert_eq!(crime.culprit(&other), None, "{}", crime.kind());
    }
}

#[test]
fn who_restarts_with_its_log_is_never_evidence() {
    let mut world = World::new(&POWERS, 3);
    world.grow_all([1, 1, 1]);
    world.pass(20_000);
    let all: Vec<Message> =
        world.nodes.iter().flat_map(|node| node.log.iter().map(Record::message)).collect();
    let mut judge = Node::new(&POWERS, 3);
    for message in all.iter().chain(&all) {
        let _ = judge.hear(usize::from(message.validator().get()), message.clone());
        judge.step(Event::Timer).expect("time is not refused");
    }
    assert_eq!(judge.evidence, []);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_changed_in_evidence_it_names_nobody(
        kind in 0_usize..9, place in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let crime = &crimes()[kind];
        let mut bytes = crime.to_bytes();
        let again = Evidence::from_bytes(&bytes);
        prop_assert_eq!(again.as_ref(), Ok(crime));
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let context = context(&POWERS);
        let named = Evidence::from_bytes(&bytes).ok().and_then(|changed| changed.culprit(&context));
        prop_assert_eq!(named, None, "byte {} of {}", place, crime.kind());
    }

    #[test]
    fn no_bytes_make_its_decoder_panic(
        tag in 0_u8..11, bytes in proptest::collection::vec(0_u8..3, 0..900),
    ) {
        let mut all = vec![tag];
        all.extend(bytes);
        if let Ok(evidence) = Evidence::from_bytes(&all) {
            prop_assert_eq!(evidence.culprit(&context(&POWERS)), None);
            prop_assert_eq!(evidence.to_bytes(), all);
        }
    }
}
