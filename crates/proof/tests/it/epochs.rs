//! Sets that change: bundles and feeds that follow them from the genesis, and every way to lie about who the validators are.

use proptest::prelude::*;
use quipu_proof::feed::{Feed, FeedError, Frame, Told, from_start};
use quipu_proof::names::header_hash;
use quipu_proof::{
    BEFORE_VERSION, BeforeProof, Bundle, CertificateError, Committed, HANDOVER_COUNT_MAX,
    HandoverError, Link, Pinned, ProofError, verify,
};
use quipu_types::cursor::{FeedRequest, Mode, Start};
use quipu_types::{Decode, Encode, Height, Lane, Transaction};

use crate::attack::{base, greeting, resumed, take};
use crate::reason;
use crate::world::{LANE_COUNT, World};

/// Heights of an epoch.
const HEIGHT_COUNT: usize = 2;

/// Transactions of the next height.
fn next(world: &World) -> Vec<Transaction> {
    let first = u64::try_from(world.blocks.len()).unwrap() * 8 + 1;
    (first..first + 8).map(|sequence| world.transaction(sequence, 1, world.tip_hash())).collect()
}

/// A ledger whose set changes after every second height; the validators of two epochs have no key in common.
fn changing(epochs: usize) -> World {
    let mut world = World::new("w", &[1, 1, 1, 1]);
    world.mixes = Some((0..LANE_COUNT).map(|lane| (lane, vec![])).collect());
    for epoch in 0..=epochs {
        for height in 1..=HEIGHT_COUNT {
            let transactions = next(&world);
            if height == HEIGHT_COUNT && epoch < epochs {
                let powers = [1, 2, 1, 2, 1];
                let powers = &powers[..4 + epoch % 2];
                world.hand_over(u8::try_from(epoch + 2).unwrap(), powers, transactions);
            } else {
                world.commit(transactions);
            }
        }
    }
    world
}

fn pinned(world: &World) -> Pinned {
    Pinned::new(&world.genesis).unwrap()
}

/// One who has followed all hand-overs of a ledger.
fn followed(world: &World) -> Pinned {
    let mut pinned = pinned(world);
    pinned.follow(&world.handovers(world.blocks.len())).unwrap();
    pinned
}

fn judge(world: &World, bundle: &Bundle) -> String {
    verify(&bundle.to_json(), &world.genesis).map_or_else(
        |error| match error {
            ProofError::Epochs(error) => match *error {
                HandoverError::False { epoch, error } => {
                    format!("{epoch}: {}", crate::first_word(&error))
                }
                error => error.to_string(),
            },
            error => reason(&error),
        },
        |_| "true".into(),
    )
}

#[test]
fn a_bundle_of_any_epoch_verifies_from_the_genesis_alone() {
    let world = changing(3);
    let known = followed(&world);
    for block in 0..world.blocks.len() {
        let mut bundle = world.bundle(block, 3, Some(0));
        let found = verify(&bundle.to_json(), &world.genesis).unwrap();
        assert_eq!(found.height.get(), u64::try_from(block).unwrap() + 1);
        assert_eq!(
            found,
            bundle.verify_from(&mut known.clone()).unwrap(),
            "hand-overs are compared"
        );
        assert_eq!(Bundle::from_json(&bundle.to_json_pretty()).unwrap(), bundle);
        // Who has followed needs none of them.
        let count = bundle.epochs.len();
        bundle.epochs.clear();
        assert_eq!(found, bundle.verify_from(&mut known.clone()).unwrap());
        let is_of_first = count == 0;
        assert!(!bundle.to_json().contains("\"epochs\""), "a bundle of before keeps its form");
        assert_eq!(bundle.verify(&world.genesis).is_ok(), is_of_first);
    }
}

#[test]
fn an_order_over_epochs_takes_the_hand_overs_once() {
    let world = changing(2);
    let all = |block: usize, lane: Lane| {
        let transactions = &world.blocks[block].transactions;
        transactions.iter().position(|(position, _)| position.lane == lane)
    };
    let lane =
        (0..LANE_COUNT).map(Lane::new).find(|lane| all(1, *lane).and(all(5, *lane)).is_some());
    let lane = lane.unwrap();
    let bundle = |block| world.bundle(block, all(block, lane).unwrap(), None);
    let (first, second) = (bundle(1), bundle(5));
    let proof = |first: Bundle, second: Bundle| {
        let proof = BeforeProof { version: BEFORE_VERSION, first, second, link: Link::Lane {} };
        proof.verify(&world.genesis)
    };
    assert!(proof(first.clone(), second.clone()).is_ok());
    let (mut whole, mut less) = (first.clone(), second.clone());
    whole.epochs = std::mem::take(&mut less.epochs);
    assert!(proof(whole, less.clone()).is_ok());
    assert!(proof(first, less).is_err(), "nobody brings them");
}

#[test]
fn hand_overs_that_are_left_out_swapped_or_of_another_ledger_are_refused_by_name() {
    let world = changing(3);
    let lie = |change: &dyn Fn(&mut Vec<Committed>)| {
        let mut bundle = world.bundle(7, 0, None);
        assert_eq!(judge(&world, &bundle), "true");
        change(&mut bundle.epochs);
        judge(&world, &bundle)
    };
    let gap = |found: u64, expected: u64| {
        format!("the hand-over of epoch {found} came, that of epoch {expected} is next")
    };
    assert_eq!(lie(&|epochs| drop(epochs.remove(0))), gap(1, 0));
    assert_eq!(lie(&|epochs| drop(epochs.remove(1))), gap(2, 1));
    assert_eq!(lie(&|epochs| epochs.swap(0, 1)), gap(1, 0));
    assert_eq!(lie(&|epochs| epochs.swap(1, 2)), gap(2, 1));
    assert_eq!(lie(&|epochs| epochs.insert(1, epochs[1].clone())), gap(1, 2));
    assert_eq!(lie(&|epochs| epochs.insert(1, epochs[0].clone())), gap(0, 1));
    // Without the last one the bundle's own header is of an epoch that nobody knows.
    assert_eq!(lie(&|epochs| drop(epochs.pop())), "header: HandOver");
    let plain = world.blocks[0].committed.clone();
    assert_eq!(lie(&|epochs| epochs[0] = plain.clone()), "0: NoHandover");
    // Another ledger of the very same validators.
    let mut other = World::new("x", &[1, 1, 1, 1]);
    other.commit(next(&other));
    other.hand_over(2, &[1, 2, 1, 2], vec![]);
    let theirs = other.handovers(2).remove(0);
    assert_eq!(lie(&|epochs| epochs[0] = theirs.clone()), "0: BadSignature");
    let too_many = |epochs: &mut Vec<Committed>| {
        *epochs = vec![epochs[0].clone(); HANDOVER_COUNT_MAX + 1];
    };
    assert_eq!(lie(&too_many), "TooManyHandovers");
}

#[test]
fn who_does_not_sign_for_an_epoch_does_not_end_it() {
    let world = changing(2);
    let forge = |sign: &dyn Fn(&mut World), change: &dyn Fn(&mut Committed)| {
        let mut signer = changing(0);
        signer.epoch = 0;
        let mut handover = world.handovers(2).remove(0);
        change(&mut handover);
        sign(&mut signer);
        handover.certificate.0 = signer.certify(&handover.header.0);
        let mut bundle = world.bundle(5, 0, None);
        bundle.epochs[0] = handover;
        judge(&world, &bundle)
    };
    assert_eq!(forge(&|_| (), &|_| ()), "true");
    assert_eq!(forge(&|signer| signer.signers = vec![0, 1, 3], &|_| ()), "true");
    assert_eq!(forge(&|signer| signer.signers = vec![0, 1], &|_| ()), "0: UnderQuorum");
    // The next validators end no epoch of those before them.
    let theirs = |signer: &mut World| signer.keys = crate::world::keys(2, 4);
    assert_eq!(forge(&theirs, &|_| ()), "0: BadSignature");
    assert_eq!(forge(&|signer| signer.epoch = 1, &|_| ()), "0: BadSignature");
    // A quorum that hands over to what is no set, or to a set of another epoch, or before its time.
    let nobody = |handover: &mut Committed| {
        let set = handover.header.0.next_set.as_mut().unwrap();
        set.validators.iter_mut().for_each(|validator| validator.power = 0);
    };
    assert_eq!(forge(&|_| (), &nobody), "0: NoHandover");
    let later = |handover: &mut Committed| handover.header.0.next_set.as_mut().unwrap().epoch = 2;
    assert_eq!(forge(&|_| (), &later), "0: NoHandover");
    let early = |handover: &mut Committed| handover.header.0.height = Height::new(0);
    assert_eq!(forge(&|_| (), &early), "0: NoHandover");
    // What the old ones sign after their epoch's end: their signatures are right, their time is over.
    let mut bundle = world.bundle(2, 0, None);
    let mut old = changing(0);
    bundle.header.0.epoch = 0;
    old.chain = world.chain;
    bundle.certificate.0 = old.certify(&bundle.header.0);
    assert_eq!(judge(&world, &bundle), "header: HandOver");
    bundle.header = world.blocks[2].committed.header.clone();
    for epoch in [0, 1] {
        old.epoch = epoch;
        bundle.certificate.0 = old.certify(&bundle.header.0);
        assert_eq!(judge(&world, &bundle), "header: BadSignature");
    }
}

/// Two branches, both signed by a quorum of epoch 0: stolen keys, or validators who left long ago.
#[test]
fn who_followed_one_branch_is_not_led_into_another() {
    let world = changing(2);
    let mut fork = {
        let mut again = World::new("w", &[1, 1, 1, 1]);
        again.mixes = Some((0..LANE_COUNT).map(|lane| (lane, vec![])).collect());
        again.commit(next(&again));
        again.hand_over(7, &[1, 1, 1, 1], next(&again));
        again.commit(next(&again));
        again
    };
    fork.commit(next(&fork));
    let bundle = fork.bundle(2, 0, None);
    assert_eq!(judge(&fork, &bundle), "true", "who knows the genesis alone takes what comes first");
    let fresh = &mut pinned(&world);
    bundle.verify_from(fresh).unwrap();
    let ends = |world: &World| header_hash(&world.handovers(2)[0].header.0);
    let error = |known, found| Err(HandoverError::Fork { epoch: 0, known, found });
    assert_eq!(fresh.follow(&world.handovers(4)), error(ends(&fork), ends(&world)));
    let known = &mut followed(&world);
    let expected =
        error(ends(&world), ends(&fork)).map_err(|error| ProofError::Epochs(Box::new(error)));
    assert_eq!(bundle.verify_from(known).map(drop), expected);
    // Without its hand-overs it is of validators that nobody knows.
    let bare = Bundle { epochs: vec![], ..bundle };
    assert!(matches!(bare.verify_from(known), Err(ProofError::Certificate { .. })));
    // Headers of the fork's own end, and of the epoch behind its known end.
    let at_end = &fork.blocks[1].committed;
    let other_end = CertificateError::OtherEnd { height: Height::new(2) };
    assert_eq!(
        known.verify_committed(&at_end.header.0, &at_end.certificate.0),
        Err(other_end.clone())
    );
    let mut quiet = World::new("w", &[1, 1, 1, 1]);
    quiet.commit(vec![]);
    quiet.commit(vec![]);
    let no_end = &quiet.blocks[1].committed;
    assert!(known.verify_committed(&no_end.header.0, &no_end.certificate.0).is_err());
    let mut early = World::new("w", &[1, 1, 1, 1]);
    early.hand_over(7, &[1, 1, 1, 1], vec![]);
    let early = &early.blocks[0].committed;
    let other_end = CertificateError::OtherEnd { height: Height::new(1) };
    assert_eq!(known.verify_committed(&early.header.0, &early.certificate.0), Err(other_end));
}

#[test]
fn a_hand_over_that_fails_changes_nothing_and_those_before_its_group_stay_true() {
    let world = changing(3);
    let mut handovers = world.handovers(8);
    let mut pinned = pinned(&world);
    let signature = &mut handovers[2].certificate.0.precommits[1].signature.0;
    signature[3] ^= 1;
    let error = pinned.follow(&handovers).unwrap_err();
    assert!(matches!(error, HandoverError::False { epoch: 2, .. }), "{error}");
    assert_eq!((pinned.epoch(), pinned.handovers(0).count()), (0, 0));
    pinned.follow(&handovers[..2]).unwrap();
    assert!(pinned.follow(&handovers[2..]).is_err());
    assert_eq!(pinned.epoch(), 2);
    pinned.follow(&world.handovers(8)).unwrap();
    assert_eq!(pinned.epochs(), followed(&world).epochs());
    // Another certificate of a known header is verified, not taken for known.
    let error = pinned.follow(&handovers).unwrap_err();
    assert!(matches!(error, HandoverError::False { epoch: 2, .. }), "{error}");
    assert_eq!(pinned.epoch(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Every byte of a hand-over, one bit each: no other set, height, vote or name goes through.
    #[test]
    fn no_changed_byte_of_a_hand_over_goes_through(bit in 0..8_u8, epoch in 0..2_usize, step in 0..7_usize) {
        thread_local! {
            static WORLD: (World, Vec<Committed>) = {
                let world = changing(2);
                let handovers = world.handovers(6);
                (world, handovers)
            };
        }
        WORLD.with(|(world, handovers)| {
            let known = followed(world);
            let whole = |handover: &Committed| {
                (handover.header.0.to_bytes(), handover.certificate.0.to_bytes())
            };
            let (header, certificate) = whole(&handovers[epoch]);
            for place in (step..header.len() + certificate.len()).step_by(7) {
                let (mut header, mut certificate) = (header.clone(), certificate.clone());
                match place.checked_sub(header.len()) {
                    None => header[place] ^= 1 << bit,
                    Some(place) => certificate[place] ^= 1 << bit,
                }
                let header = quipu_types::Header::from_bytes(&header);
                let certificate = quipu_types::CommitCertificate::from_bytes(&certificate);
                let (Ok(header), Ok(certificate)) = (header, certificate) else { continue };
                let mut changed = handovers.clone();
                changed[epoch] = Committed::new(header, certificate);
                assert!(pinned(world).follow(&changed).is_err(), "byte {place}");
                assert!(known.clone().follow(&changed).is_err(), "byte {place}, compared");
            }
        });
    }

    /// Wherever the feed begins and ends, and whatever the consumer has followed: it is told the same.
    #[test]
    fn a_feed_goes_through_epochs_from_any_height(
        begin in 0..7_usize,
        known in 0..4_usize,
        followed in prop::sample::subsequence(vec![0_u16, 1, 2, 3], 1..=4),
    ) {
        let world = changing(3);
        let lanes: Vec<Lane> = followed.into_iter().map(Lane::new).collect();
        let reached = world.handovers(begin).len();
        let mut pinned = pinned(&world);
        pinned.follow(&world.handovers(8)[..known.min(reached)]).unwrap();
        let mut feed = opened(&world, pinned, &lanes, begin).unwrap();
        prop_assert_eq!(feed.pinned().epoch(), u64::try_from(reached).unwrap());
        for height in begin + 1..=world.blocks.len() {
            let told = take(&mut feed, world.frames(height, &lanes)).unwrap();
            let is_told = matches!(&told[..], [Told::Snapshot(snapshot)] if usize::try_from(snapshot.height.get()) == Ok(height));
            prop_assert!(is_told);
        }
        prop_assert_eq!(feed.pinned().epoch(), 3);
        // What the feed followed opens another where it stands.
        let start = Start::Cursors(feed.cursors());
        let request = FeedRequest { mode: Mode::Certified, follow: true, epoch: 3, lanes, start };
        let mut other = Feed::new(feed.pinned().clone(), request);
        take(&mut other, feed.opening()).unwrap();
        prop_assert!(other.is_open());
    }
}

/// A feed from a height on, to a consumer who knows some epochs.
fn opened(world: &World, pinned: Pinned, lanes: &[Lane], begin: usize) -> Result<Feed, FeedError> {
    let start = Start::Height(Height::new(u64::try_from(begin).unwrap()));
    let (lanes, epoch) = (lanes.to_vec(), pinned.epoch());
    let known = usize::try_from(epoch).unwrap();
    let request = FeedRequest { mode: Mode::Certified, follow: true, epoch, lanes, start };
    let lanes = request.lanes.clone();
    let mut feed = Feed::new(pinned, request);
    take(&mut feed, [greeting(world)])?;
    take(&mut feed, world.handovers(begin).into_iter().skip(known).map(epoch_frame))?;
    take(&mut feed, base(world, begin))?;
    take(&mut feed, resumed(world, begin, &lanes))?;
    Ok(feed)
}

fn epoch_frame(handover: Committed) -> Frame {
    Frame::Epoch { header: Box::new(handover.header.0), certificate: handover.certificate.0 }
}

#[test]
fn a_feed_that_lies_about_epochs_is_refused() {
    let world = changing(2);
    let lanes = [Lane::new(0), Lane::new(2)];
    // A base of an epoch that was not handed over to.
    let start = Start::Height(Height::new(3));
    let (lanes, mode) = (lanes.to_vec(), Mode::Certified);
    let request = FeedRequest { mode, follow: true, epoch: 0, lanes: lanes.clone(), start };
    let mut feed = Feed::new(pinned(&world), request.clone());
    take(&mut feed, [greeting(&world)]).unwrap();
    let error = take(&mut feed, base(&world, 3)).unwrap_err();
    assert!(matches!(error, FeedError::Certificate { .. }), "{error}");
    // A hand-over that is left out, and one that comes late.
    let frames: Vec<Frame> = world.handovers(6).into_iter().map(epoch_frame).collect();
    let mut feed = Feed::new(pinned(&world), request);
    let error = feed.take(frames[1].clone()).unwrap_err();
    assert!(matches!(error, FeedError::Epoch(HandoverError::Gap { .. })), "{error}");
    let mut feed = opened(&world, pinned(&world), &lanes, 3).unwrap();
    let error = feed.take(frames[0].clone()).unwrap_err();
    assert!(matches!(error, FeedError::Turn { .. }), "{error}");
    for frame in &frames {
        let bytes = frame.to_bytes();
        assert_eq!(Frame::from_bytes(&bytes).as_ref(), Ok(frame));
        assert_eq!(bytes[0], 8);
    }
}

#[test]
fn a_cut_that_the_old_validators_sign_after_their_end_is_refused() {
    let world = changing(1);
    let lanes = [Lane::new(1)];
    let mut feed =
        Feed::new(pinned(&world), from_start(world.chain, &lanes, Mode::Certified, true));
    take(&mut feed, [greeting(&world)]).unwrap();
    take(&mut feed, resumed(&world, 0, &lanes)).unwrap();
    take(&mut feed, world.frames(1, &lanes)).unwrap();
    take(&mut feed, world.frames(2, &lanes)).unwrap();
    let mut frames = world.frames(3, &lanes);
    let Some(Frame::Cut(cut)) = frames.last_mut() else { panic!("the cut is last") };
    let mut old = changing(0);
    cut.header.epoch = 0;
    cut.certificate = old.certify(&cut.header);
    old.epoch = 1;
    let error = take(&mut feed, frames).unwrap_err();
    let stale = CertificateError::OtherEpoch { epoch: 0, set_epoch: 1 };
    assert_eq!(error, FeedError::Certificate { height: Height::new(3), error: stale });
}
