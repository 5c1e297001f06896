//! Attacks on the time of things: before their anchor, with another anchor, in a hidden lane, in a branch of stolen keys.

use proptest::prelude::*;
use quipu_crypto::suite::SecretKey;
use quipu_proof::feed::{Feed, FeedError, Frame, Told, frame::Resumed, from_start};
use quipu_proof::names::{header_hash, lane_of, transaction_message, tx_name};
use quipu_proof::{
    Basis, Bundle, Committed, Hexed, MixedPart, Mixings, Pinned, ProofError, Step, verify,
};
use quipu_types::cursor::{Cursors, FeedRequest, Mode, Start};
use quipu_types::{Hash, Header, Height, Lane, Seqno, Suite, Time, Transaction};

use crate::reason;
use crate::world::{LANE_COUNT, Thing, World};

const POWERS: [u64; 4] = [1, 1, 1, 1];
/// Transactions of a height.
const COUNT: u64 = 16;

fn judge(world: &World, bundle: &Bundle) -> String {
    verify(&bundle.to_json(), &world.genesis).map_or_else(|error| reason(&error), |_| "true".into())
}

/// What clients sign for the next height.
fn signed(world: &World, anchor: Hash) -> Vec<Transaction> {
    let first = u64::try_from(world.blocks.len()).unwrap() * COUNT + 1;
    (first..first + COUNT).map(|sequence| world.transaction(sequence, 1, anchor)).collect()
}

/// Adds a height whose lanes mix the header before. Its transactions are anchored at that header; `order` may change them.
fn grow(world: &mut World, order: impl FnOnce(&mut Vec<Transaction>)) {
    let height = world.blocks.len();
    let things = if height == 0 { vec![] } else { vec![Thing::Header(height)] };
    world.mixes = Some((0..LANE_COUNT).map(|lane| (lane, things.clone())).collect());
    let mut transactions = signed(world, world.tip_hash());
    order(&mut transactions);
    world.commit(transactions);
}

fn grown(heights: usize) -> World {
    let mut world = World::new("w", &POWERS);
    for _ in 0..heights {
        grow(&mut world, |_| ());
    }
    world
}

/// Gives a bundle the covering header of another height, with all that belongs to it.
fn move_to(bundle: &mut Bundle, world: &World, block: usize) {
    let committed = &world.blocks[block].committed;
    (bundle.header, bundle.certificate) = (committed.header.clone(), committed.certificate.clone());
    bundle.previous =
        block.checked_sub(1).map(|before| world.blocks[before].committed.header.clone());
    bundle.time.next = world.blocks.get(block + 1).map(|next| next.committed.clone());
    bundle.receipt = None;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Stamping before the anchor. No header can cover a transaction that names a later one of the same history: its hash would be
    /// in itself. What is left is to claim an earlier place of a true transaction, or an anchor that is later than the covering header.
    #[test]
    fn a_bundle_that_puts_a_transaction_before_its_anchor_is_refused(
        stands in 1..4_usize,
        place in any::<prop::sample::Index>(),
        claimed in any::<prop::sample::Index>(),
        seqno in any::<prop::sample::Index>(),
        later in 0..3_u64,
        micros in 0..3_u64,
    ) {
        let mut world = grown(4);
        let place = place.index(world.blocks[stands].transactions.len());
        let honest = world.bundle(stands, place, Some(0));
        let found = verify(&honest.to_json(), &world.genesis).unwrap();
        prop_assert_eq!(found.not_before.basis, Basis::Anchor(Height::new(u64::try_from(stands).unwrap())));
        // An earlier height, which the anchor's own is: at its true seqno, or at one that the earlier height has.
        let claimed = claimed.index(stands);
        let mut early = honest.clone();
        move_to(&mut early, &world, claimed);
        prop_assert_eq!(judge(&world, &early), "NotCovered");
        let lane = honest.position().lane;
        let size = quipu_proof::order::tip_of(&early.header.0.cut, lane).unwrap().seqno;
        let before = claimed.checked_sub(1).map_or(Seqno::default(), |before| {
            quipu_proof::order::tip_of(&world.blocks[before].header().cut, lane).unwrap().seqno
        });
        let count = usize::try_from(size.get() - before.get()).unwrap();
        if count > 0 {
            early.position.seqno = Seqno::new(before.get() + 1 + u64::try_from(seqno.index(count)).unwrap());
            early.lane_path = world.path(early.position(), size);
            prop_assert_eq!(judge(&world, &early), "lane: RootMismatch");
        }
        // All validators lie: a transaction that names a header of its own height or a later one, or one with a later time.
        let mut anchor = world.blocks[3].header().clone();
        let (height, time) = (anchor.height.get() + 1, anchor.time.get() + world.interval_us);
        let (is_later, micros) = (later > 0, if later == 0 { micros } else { 0 });
        if is_later {
            anchor.height = Height::new(height + later - 1);
        } else {
            anchor.time = Time::new(time + micros);
        }
        let certificate = world.certify(&anchor);
        world.commit(vec![world.transaction(1_000, 1, header_hash(&anchor))]);
        let mut lie = world.bundle(4, 0, None);
        lie.time.anchor = Some(Committed::new(anchor, certificate));
        prop_assert_eq!(judge(&world, &lie), "anchor: NotInOrder");
        // Without the anchor's header nothing is claimed but the genesis.
        lie.time.anchor = None;
        let found = verify(&lie.to_json(), &world.genesis).unwrap();
        prop_assert_eq!(found.not_before.basis, Basis::Genesis);
    }
}

/// The anchor stands in what the client signed. (Another header in the anchor's place, one that nobody committed, one
/// above the covering header: `brackets_of_time_that_do_not_hold_are_refused`.)
#[test]
fn an_anchor_that_is_moved_is_refused_whoever_moves_it() {
    let world = grown(4);
    let lie = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = world.bundle(2, 1, Some(0));
        assert_eq!(judge(&world, &bundle), "true");
        // An earlier header, which is in the history: the transaction would be older than it is.
        bundle.envelope.0.anchor = world.blocks[0].hash();
        bundle.time.anchor = Some(world.blocks[0].committed.clone());
        change(&mut bundle);
        judge(&world, &bundle)
    };
    assert_eq!(lie(&|_| ()), "OtherTransaction");
    let named = |bundle: &mut Bundle| bundle.tx = tx_name(&world.chain, &bundle.envelope.0);
    assert_eq!(lie(&named), "ClientSignature");
    // Who signs anew is another signer, whose transaction no cut covers.
    let thief = |bundle: &mut Bundle| {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [9; 32]);
        let envelope = &mut bundle.envelope.0;
        // The route stays, so that the lane does.
        let route = envelope.signer.bytes().to_vec();
        envelope.route.get_or_insert(route);
        envelope.signer = key.public();
        resign(&world, &key, bundle);
        bundle.receipt = None;
    };
    assert_eq!(lie(&thief), "lane: RootMismatch");
    // So is what the client itself signs again: it is another transaction.
    let client = |bundle: &mut Bundle| {
        resign(&world, &world.client, bundle);
        bundle.receipt = None;
    };
    assert_eq!(lie(&client), "lane: RootMismatch");
}

fn resign(world: &World, key: &SecretKey, bundle: &mut Bundle) {
    let envelope = &mut bundle.envelope.0;
    envelope.signature = key.sign(&transaction_message(&world.chain, envelope));
    bundle.tx = tx_name(&world.chain, envelope);
}

/// A hidden lane: the same headers mixed, the same ticks, in another order of events, made afterwards by a generator that is as fast as it
/// likes. Its clock is true. No cut names its chunks, and what the transactions name as anchors is in it at the same place.
#[test]
fn a_hidden_lane_of_a_faster_generator_with_real_anchors_is_in_no_cut() {
    let told = grown(4);
    let mut hidden = grown(2);
    grow(&mut hidden, |transactions| transactions.reverse());
    grow(&mut hidden, |_| ());
    let lane = told.bundle(2, 0, None).position().lane;
    let chunk =
        |world: &World, height: usize| world.chunks[usize::from(lane.get())][height - 1].clone();
    let (honest, forged) = (chunk(&told, 3), chunk(&hidden, 3));
    let start = chunk(&told, 2).clock.last().unwrap().value;
    for chunk in [&honest, &forged] {
        assert!(quipu_clock::verify(start, &chunk.clock, &chunk.lane_root).is_ok(), "a true clock");
    }
    assert_eq!(honest.clock[0], forged.clock[0], "the real header, mixed at the same tick");
    assert_ne!(honest.lane_root, forged.lane_root);
    // The hidden order, offered for the told one: by its path, and by its chunk.
    let mut bundle = told.bundle(2, 0, None);
    let position = bundle.position();
    let true_mix = |world: &World| MixedPart {
        certificate: told.blocks[1].committed.certificate.clone(),
        steps: Mixings(vec![
            Step::Header(told.blocks[1].committed.header.clone()),
            Step::Chunk(Hexed(chunk(world, 3))),
        ]),
    };
    bundle.time.mixed = Some(true_mix(&told));
    assert_eq!(judge(&told, &bundle), "true");
    let mut other = bundle.clone();
    other.lane_path = hidden.path(position, forged.last_seqno());
    assert_eq!(judge(&told, &other), "lane: RootMismatch");
    let mut other = bundle.clone();
    other.time.mixed = Some(true_mix(&hidden));
    let error = verify(&other.to_json(), &told.genesis).unwrap_err();
    assert!(matches!(error, ProofError::Mixing { .. }), "{error}");
    assert!(
        error.to_string().ends_with("the last step is not the tip that the cut names"),
        "{error}"
    );
    // How far a sequencer comes that shows the hidden one in time, and no other: it orders what came since the anchors. Each
    // transaction keeps its anchor, and its bracket, which is two intervals between headers wide.
    let width = |world: &World| {
        let found = verify(&world.bundle(2, 0, None).to_json(), &world.genesis).unwrap();
        found.not_after.unwrap().time.get() - found.not_before.time.get()
    };
    assert_eq!((width(&told), width(&hidden)), (2 * told.interval_us, 2 * told.interval_us));
}

/// The height to which the consumer has followed the true ledger.
const TRUE_HEIGHT: usize = 3;

/// What a forged branch does in some lanes.
#[derive(Clone, Copy, Debug)]
struct Forgery {
    lanes: [bool; 4],
    /// Leaves their transactions out, or gives them in another order.
    omits: bool,
}

/// A whole other branch after height `fork`, made with every validator's key: right signatures, links and certificates, other
/// times, and the transactions that clients signed, but for the lanes of the forgery.
fn forge(fork: usize, forgery: Forgery) -> World {
    let mut world = grown(fork);
    world.interval_us += 1;
    for _ in fork..TRUE_HEIGHT + 2 {
        let anchor = grown(world.blocks.len()).tip_hash();
        let mut transactions = signed(&world, anchor);
        let (changed, mut order): (Vec<_>, Vec<_>) = transactions.drain(..).partition(|one| {
            forgery.lanes[usize::from(lane_of(one.route_bytes(), LANE_COUNT).get())]
        });
        if !forgery.omits {
            order.extend(changed.into_iter().rev());
        }
        world.mixes = Some((0..LANE_COUNT).map(|lane| (lane, vec![])).collect());
        world.commit(order);
    }
    world
}

pub(crate) fn greeting(world: &World) -> Frame {
    Frame::Hello {
        chain: world.chain,
        height: Height::new(u64::try_from(world.blocks.len()).unwrap()),
    }
}

pub(crate) fn base(world: &World, height: usize) -> Option<Frame> {
    let Committed { header, certificate } =
        world.blocks.get(height.checked_sub(1)?)?.committed.clone();
    Some(Frame::Base { header: Box::new(header.0), certificate: certificate.0 })
}

pub(crate) fn resumed(world: &World, height: usize, lanes: &[Lane]) -> Vec<Frame> {
    let resumed = |lane: &Lane| {
        Frame::Resumed(Resumed {
            lane: *lane,
            branch: world.chain,
            frontier: world.frontier(height, *lane),
        })
    };
    lanes.iter().map(resumed).collect()
}

pub(crate) fn feed(world: &World, request: FeedRequest) -> Feed {
    Feed::new(Pinned::new(&world.genesis).unwrap(), request)
}

pub(crate) fn take(
    feed: &mut Feed,
    frames: impl IntoIterator<Item = Frame>,
) -> Result<Vec<Told>, FeedError> {
    frames
        .into_iter()
        .map(|frame| feed.take(frame))
        .collect::<Result<Vec<_>, _>>()
        .map(|told| told.into_iter().flatten().collect())
}

/// One who has the genesis, and follows lanes from the beginning to `height`.
pub(crate) fn follow(world: &World, lanes: &[Lane], height: usize) -> Result<Feed, FeedError> {
    let mut feed = feed(world, from_start(world.chain, lanes, Mode::Certified, true));
    take(&mut feed, [greeting(world)])?;
    take(&mut feed, resumed(world, 0, lanes))?;
    for height in 1..=height {
        take(&mut feed, world.frames(height, lanes))?;
    }
    Ok(feed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A forged long-range branch, with the keys that signed the true one, against a consumer who holds cursors of height 3: no answer
    /// to them leads into it, where the forgery has other transactions in a lane that he follows.
    ///
    /// How far it succeeds. A cursor holds the roots of its lanes and no header: a branch that has the same transactions in every lane that is
    /// followed, and lies about headers, times and other lanes only, is taken, and so is whatever it says after the cursor. What
    /// the consumer has stays true. Who still holds the header itself (the feed that goes on) refuses that too. And who follows at the
    /// cursor's own height whoever has the keys of today is no forger of the past: nothing here tells one validator set from itself.
    #[test]
    fn a_branch_forged_with_stolen_keys_is_refused_by_who_holds_a_later_cursor(
        fork in 0..TRUE_HEIGHT,
        (changed, omits) in any::<([bool; 4], bool)>(),
        followed in prop::sample::subsequence(vec![0_u16, 1, 2, 3], 1..=4),
    ) {
        let (told, forged) = (grown(TRUE_HEIGHT + 1), forge(fork, Forgery { lanes: changed, omits }));
        let lanes: Vec<Lane> = followed.into_iter().map(Lane::new).collect();
        let mut going_on = follow(&told, &lanes, TRUE_HEIGHT).unwrap();
        let cursors = going_on.cursors();
        let root = |world: &World, lane: &Lane| world.frontier(TRUE_HEIGHT, *lane).root();
        let is_other = lanes.iter().any(|lane| root(&told, lane) != root(&forged, lane));
        let answer = |base: Option<Frame>, (tree, at): (&World, usize), next: Vec<Frame>| {
            let start = Start::Cursors(Cursors::clone(&cursors));
            let request = FeedRequest { mode: Mode::Certified, follow: true, epoch: 0, lanes: lanes.clone(), start };
            let mut feed = feed(&told, request);
            take(&mut feed, std::iter::once(greeting(&forged)).chain(base))?;
            take(&mut feed, resumed(tree, at, &lanes))?;
            take(&mut feed, next)
        };
        let cut = |world: &World, height| world.frames(height, &lanes);
        let (top, after) = (TRUE_HEIGHT, TRUE_HEIGHT + 1);
        prop_assert!(answer(base(&told, top), (&told, top), cut(&told, after)).is_ok(), "the truth is taken");
        // From the forged header of his own height.
        for tree in [&told, &forged] {
            // It is refused before anything follows.
            let said = answer(base(&forged, top), (tree, top), vec![]);
            prop_assert_eq!(matches!(said, Err(FeedError::Lane { .. })), is_other, "{:?}", said);
            if !is_other {
                let said = answer(base(&forged, top), (tree, top), cut(&forged, after));
                prop_assert!(said.is_ok(), "the same lanes: {:?}", said);
            }
        }
        // From a forged header of another height, or from none: an earlier one, with what followed; a later one.
        for height in (0..TRUE_HEIGHT + 2).filter(|height| *height != top) {
            let said = answer(base(&forged, height), (&forged, height), vec![]);
            prop_assert!(matches!(said, Err(FeedError::Begin { .. })), "{}: {:?}", height, said);
        }
        // From the true header, with a forged tree, or with forged heights: the next one, his own again, an older one, a later one.
        if is_other {
            let said = answer(base(&told, top), (&forged, top), vec![]);
            prop_assert!(matches!(said, Err(FeedError::Lane { .. })), "{:?}", said);
        }
        for height in fork + 1..TRUE_HEIGHT + 3 {
            let said = answer(base(&told, top), (&told, top), forged_cut(&forged, height));
            let is_next = height == after;
            prop_assert!(match said {
                Err(FeedError::Link { .. }) => is_next,
                Err(FeedError::Height { .. }) => !is_next,
                _ => false,
            }, "{}", height);
            let said = take(&mut going_on, forged_cut(&forged, height));
            prop_assert!(matches!(said, Err(FeedError::Link { .. } | FeedError::Height { .. })), "{:?}", said);
        }
    }
}

/// The cut of a forged height alone: whether it links is asked before what it covers.
fn forged_cut(world: &World, height: usize) -> Vec<Frame> {
    world.blocks.get(height - 1).map(|_| world.frames(height, &[])).unwrap_or_default()
}

/// What stolen keys give against who has nothing but the genesis: everything. Keys, powers and rules are the genesis', so a branch
/// that they sign is a ledger like the true one; feeds and bundles of it are taken, with its times. Against that stand only what one holds of the
/// true ledger (a cursor, a header, a checkpoint that a third vouches for), and more than one server to ask.
#[test]
fn who_pins_only_the_genesis_believes_a_branch_of_stolen_keys() {
    let (told, forged) =
        (grown(TRUE_HEIGHT), forge(1, Forgery { lanes: [true, false, false, false], omits: true }));
    let lanes: Vec<Lane> = (0..LANE_COUNT).map(Lane::new).collect();
    let feed = follow(&forged, &lanes, forged.blocks.len()).unwrap();
    assert_eq!(feed.height(), Height::new(5));
    let header = |world: &World| -> Header { world.blocks[2].header().clone() };
    assert_ne!(header_hash(&header(&told)), header_hash(&header(&forged)));
    let bundle = forged.bundle(2, 0, None);
    let found = verify(&bundle.to_json(), &told.genesis).unwrap();
    assert_eq!((found.height, found.header_time), (Height::new(3), header(&forged).time));
    // What is anchored in the true ledger shows itself to who asks for its anchor: the branch has no such header.
    let anchors: Vec<Hash> = forged.blocks.iter().map(crate::world::Block::hash).collect();
    assert!(!anchors.contains(&bundle.envelope.0.anchor));
    assert_eq!(found.not_before.basis, Basis::Genesis);
}
