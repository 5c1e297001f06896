//! Late votes: who carries them, and which a header may carry.

use expect_test::expect;
use quipu_consensus::core::Refused;
use quipu_consensus::header::check;
use quipu_consensus::late::LATE_HEIGHT_COUNT;
use quipu_consensus::{Message, Parent};
use quipu_crypto::Tag;
use quipu_types::{Decode, Encode, Header, Height, Precommit, Signature};

use crate::world::{IDLE_US, World, context, number, sign};

/// Four equal ones, of whom the last's precommits come when the height is over; as many heights.
fn with_a_late_one(height_count: u64) -> World {
    let mut world = World::new(&[1, 1, 1, 1], 7);
    world.loses =
        Box::new(|from, _, message| from == 3 && matches!(message, Message::Precommit(_)));
    for height in 1..=height_count {
        world.pass(IDLE_US);
        assert_eq!(world.heights(), [height; 4]);
        let vote = own_vote(&world, height);
        for at in 0..3 {
            let refused = world.nodes[at].hear(3, Message::Precommit(vote.clone()));
            assert_eq!(refused, Err(Refused::Stale { height: Height::new(height) }));
        }
    }
    world
}

fn own_vote(world: &World, height: u64) -> Precommit {
    let words = world.nodes[3].log.iter().map(quipu_consensus::Record::message);
    let mut votes = words.filter_map(|word| match word {
        Message::Precommit(vote) if vote.height.get() == height => Some(vote),
        _ => None,
    });
    votes.next().expect("it precommitted")
}

/// The heights of whose late votes headers carry, by header.
fn carried(world: &World) -> Vec<(u64, Vec<(u16, u64)>)> {
    let of = |header: &Header| {
        let votes = header.late_votes.iter();
        votes.map(|vote| (vote.validator.get(), vote.height.get())).collect::<Vec<_>>()
    };
    let headers = world.nodes[0].committed.iter();
    let all = headers.map(|(header, _)| (header.height.get(), of(header)));
    all.filter(|(_, votes)| !votes.is_empty()).collect()
}

#[test]
fn who_is_always_late_is_in_one_of_five_headers() {
    let world = with_a_late_one(17);
    let wanted = [2, 7, 12, 17].map(|height| (height, vec![(3, height - 1)]));
    assert_eq!(carried(&world), wanted);
    world.assert_agreement();
}

#[test]
fn what_is_not_signed_or_not_wanted_is_not_carried_and_pushes_nothing_out() {
    let mut world = with_a_late_one(1);
    let vote = own_vote(&world, 1);
    let forged = |height: u64, validator: usize| {
        let signature = Signature([7; 64]);
        Precommit {
            height: Height::new(height),
            validator: number(validator),
            signature,
            ..vote.clone()
        }
    };
    for vote in [forged(0, 3), forged(1, 3), forged(1, 9), forged(1, 2)] {
        let refused = world.nodes[0].hear(2, Message::Precommit(vote)).expect_err("it is late");
        assert!(!refused.is_offence(), "it may be of an epoch that is over");
    }
    world.pass(IDLE_US);
    assert_eq!(carried(&world), [(2, vec![(3, 1)])]);
    // Who is in every certificate is not missed: two are a quorum only together.
    let mut world = World::new(&[1, 1], 7);
    for _ in 0..30 {
        world.pass(IDLE_US);
    }
    assert_eq!(carried(&world), []);
}

/// What a header with these late votes is told, at the height after the last.
fn verdict(world: &World, late_votes: Vec<Precommit>) -> String {
    let context = context(&world.powers);
    let parent: &Parent = world.nodes[0].parents.last().expect("the genesis at least");
    let header = parent.next(&context, number(0), parent.cut.clone(), None, None);
    match check(&Header { late_votes, ..header }, parent, &context) {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// As a validator signs it, whether it ever did or not.
fn signed(vote: &Precommit, height: u64, validator: usize) -> Precommit {
    let (height, validator) = (Height::new(height), number(validator));
    let vote = Precommit { height, validator, ..vote.clone() };
    let signature = sign(usize::from(validator.get()), Tag::Precommit, &vote.signed_body());
    Precommit { signature, ..vote }
}

#[test]
fn a_late_vote_that_must_not_be_there_is_refused_by_name() {
    let mut world = World::new(&[1, 1, 1, 1, 1, 1, 1], 7);
    world.loses =
        Box::new(|from, _, message| from >= 5 && matches!(message, Message::Precommit(_)));
    for _ in 0..20 {
        world.pass(IDLE_US);
    }
    let height = world.nodes[0].height() + 1;
    let (last, _) = world.nodes[0].committed.last().expect("twenty");
    let vote = last.prev_commit.as_ref().expect("not the first").precommits[0].clone();
    let late = |height, validator| signed(&vote, height, validator);
    let forged = Precommit { signature: Signature([7; 64]), ..late(height - 1, 5) };
    let cases = [
        vec![],
        vec![late(height - 1, 5), late(height - 2, 6)],
        vec![late(height - LATE_HEIGHT_COUNT, 6)],
        vec![late(height - LATE_HEIGHT_COUNT - 1, 6)],
        vec![late(height, 6)],
        vec![late(height + 1, 6)],
        vec![late(height - 1, 6), late(height - 1, 5)],
        vec![late(height - 1, 5), late(height - 2, 5)],
        vec![late(height - 2, 0)],
        vec![late(height - 1, 7)],
        vec![forged, late(height - 1, 6)],
    ];
    let verdicts: Vec<String> = cases.map(|votes| verdict(&world, votes)).into();
    expect![[r#"
        ok
        ok
        ok
        late vote of validator 6: its height is out of range
        late vote of validator 6: its height is out of range
        late vote of validator 6: its height is out of range
        late vote of validator 5: it does not ascend
        late vote of validator 5: it does not ascend
        late vote of validator 0: it is in prev_commit
        late vote of validator 7: it has no power
        late vote of validator 5: its signature does not verify"#]]
    .assert_eq(&verdicts.join("\n"));
    let early = World::new(&[1, 1], 7);
    assert_ne!(verdict(&early, vec![late(0, 1)]), "ok");
}

#[test]
fn no_changed_byte_of_a_late_vote_passes() {
    let world = with_a_late_one(3);
    let vote = signed(&own_vote(&world, 3), 2, 3);
    assert_eq!(verdict(&world, vec![vote.clone()]), "ok");
    let bytes = vote.to_bytes();
    let mut read_count = 0;
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1 << (place % 8);
        let Ok(changed) = Precommit::from_bytes(&bytes) else { continue };
        assert_ne!(verdict(&world, vec![changed]), "ok", "byte {place}");
        read_count += 1;
    }
    assert!(read_count > 100, "most are votes still: {read_count}");
}
