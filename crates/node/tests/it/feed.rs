//! Lanes as a feed, read by one who believes nothing: from everywhere, while they grow, and changed on the way in every way.

use std::sync::Arc;

use quipu_client::{ClientError, Consumer};
use quipu_net::{Decoder, FRAME_SIZE_MAX};
use quipu_proof::feed::{Feed, Frame, LaneBatch, Ordered, Told, from_start};
use quipu_types::cursor::{Cursors, FeedRequest, Mode, Start};
use quipu_types::{Decode, Encode, Hash, Height, Lane, Outcome, Seqno, Time};
use tokio::runtime::Runtime;

use crate::world::{
    Served, World, append, create_stream, open, read_head, read_piece, request, route,
};

const PLACES: [&str; 6] = ["EWR", "JFK", "LGA", "BOS", "ORD", "SFO"];

/// What a consumer has: lane, seqno, whether it was applied, how many actions.
type Taken = Vec<(Lane, Seqno, bool, usize)>;

fn filled(world: &World, served: &Served, rounds: usize) {
    let mut producer = world.producer(2);
    served.submit(&[producer.sign(None, vec![create_stream("readings")])]);
    for round in 0..rounds {
        let bytes: Vec<Vec<u8>> = (0_i64..)
            .zip(PLACES)
            .flat_map(|(n, name)| {
                // A stream that is not there: ordered, and refused.
                let stream = if (round + name.len()) % 5 == 0 { "nothing" } else { "readings" };
                let one = producer.sign(Some(&route(name)), vec![append(stream, n, name)]);
                let two = vec![append("readings", n, name), append("readings", n + 1, name)];
                [one, producer.sign(Some(&route(name)), two)]
            })
            .collect();
        served.submit(&bytes);
    }
}

fn urls(served: &Served) -> String {
    format!("http://{}", served.at.http)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn taken(told: &Told) -> Taken {
    let Told::Snapshot(snapshot) = told else { return Taken::new() };
    let lanes = snapshot.lanes.iter().flat_map(|batch| {
        batch.with_receipts().map(|(ordered, receipt)| {
            let is_applied = receipt.outcome == Outcome::Applied;
            (batch.lane, ordered.seqno, is_applied, ordered.undecoded().actions.len())
        })
    });
    lanes.collect()
}

/// Everything from a start to the newest height, and the cursors after each transaction of it.
fn read(
    world: &World,
    served: &Served,
    lanes: &[Lane],
    start: Option<Start>,
) -> (Taken, Vec<Cursors>) {
    let consumer = Consumer::new(&urls(served), world.genesis.clone(), lanes, Mode::Certified);
    let mut consumer = consumer.unwrap().ending();
    if let Some(start) = start {
        consumer = consumer.starting(start);
    }
    let (mut all, mut places) = (Taken::new(), Vec::new());
    runtime().block_on(async {
        let mut before = None;
        while let Some(told) = consumer.next().await.unwrap() {
            all.extend(taken(&told));
            if let Told::Snapshot(snapshot) = &told {
                places.extend(places_within(snapshot, before.as_ref()));
                before = Some(Cursors::clone(&snapshot.cursors));
            }
        }
    });
    (all, places)
}

/// The cursors after each transaction of a snapshot, when only it was taken of its lane, and those before it whole.
fn places_within(snapshot: &quipu_proof::feed::Snapshot, before: Option<&Cursors>) -> Vec<Cursors> {
    let Some(before) = before else { return Vec::new() };
    let mut now = before.clone();
    let mut places = Vec::new();
    for batch in &snapshot.lanes {
        for count in 1..=batch.transactions.len() {
            let cursor = batch.cursor(count);
            *now.lanes.iter_mut().find(|own| own.lane == batch.lane).unwrap() = cursor;
            places.push(now.clone());
        }
    }
    places
}

/// A height's lanes come in turn: what is left of a lane whose neighbours are further comes first.
fn by_lane(mut taken: Taken) -> Taken {
    taken.sort_unstable();
    taken
}

#[test]
fn whoever_resumes_after_any_transaction_gets_the_rest_once() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 5);
    let (all, places) = read(&world, &served, &[], None);
    assert_eq!(all.len(), 1 + 5 * 12);
    assert_eq!(all.iter().filter(|(_, _, is_applied, _)| !is_applied).count(), 6);
    assert!(places.len() > 50);
    for cursors in &places {
        let had = |(lane, seqno, ..): &(Lane, Seqno, bool, usize)| {
            cursors.lanes.iter().any(|cursor| cursor.lane == *lane && *seqno <= cursor.seqno)
        };
        let wanted: Taken = all.iter().filter(|one| !had(one)).copied().collect();
        let text = cursors.to_string();
        let (rest, _) = read(&world, &served, &[], Some(Start::Cursors(text.parse().unwrap())));
        assert_eq!(by_lane(rest), by_lane(wanted), "{cursors:?}");
    }
    let one = [Lane::new(2)];
    let (own, _) = read(&world, &served, &one, None);
    assert_eq!(own, all.iter().filter(|taken| taken.0 == one[0]).copied().collect::<Taken>());
    served.stop().unwrap();
}

#[test]
fn a_feed_begins_after_a_height_or_with_a_time() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 3);
    let (all, _) = read(&world, &served, &[], None);
    let newest = served.get_json("/v1/status")["height"].as_u64().unwrap();
    let mut last = all.len() + 1;
    for height in 0..=newest {
        let (rest, _) = read(&world, &served, &[], Some(Start::Height(Height::new(height))));
        assert!(all.ends_with(&rest) && rest.len() <= last, "after height {height}");
        last = rest.len();
        if height > 0 {
            let header = served.get_json(&format!("/v1/headers/{height}"));
            let time = Time::new(header["time_us"].as_u64().unwrap() + 1);
            assert_eq!(read(&world, &served, &[], Some(Start::Time(time))).0, rest);
        }
    }
    assert_eq!(last, 0);
    assert_eq!(read(&world, &served, &[], Some(Start::End)).0, []);
    served.stop().unwrap();
}

#[test]
fn a_tentative_consumer_hears_of_everything_before_and_when_it_is_certain() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 1);
    let consumer = Consumer::new(&urls(&served), world.genesis.clone(), &[], Mode::Tentative);
    let mut consumer = consumer.unwrap().starting(Start::End);
    let mut producer = world.producer(7);
    let own = crate::world::secret(7).public();
    let count = |batch: &LaneBatch| {
        let is_own = |ordered: &&Arc<Ordered>| *ordered.undecoded().signer() == own;
        batch.transactions.iter().filter(is_own).count()
    };
    let (mut early, mut late) = (0, 0);
    runtime().block_on(async {
        while !matches!(consumer.next().await.unwrap(), Some(Told::Hello(_))) {}
        let bytes: Vec<Vec<u8>> = (0..30)
            .map(|n| producer.sign(Some(&route("BOS")), vec![append("readings", n, "BOS")]))
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| served.submit(&bytes));
        });
        while late < 30 {
            match consumer.next().await.unwrap().unwrap() {
                Told::Hello(_) => {}
                Told::Tentative(batch) => {
                    assert!(batch.receipts.is_empty());
                    early += count(&batch);
                }
                Told::RolledBack { .. } => panic!("nothing is rolled back here"),
                Told::Snapshot(snapshot) => late += snapshot.lanes.iter().map(count).sum::<usize>(),
            }
        }
    });
    // What was committed before its chunk was seen comes with its cut.
    assert!(early <= 30 && late == 30);
    served.stop().unwrap();
}

/// The frames of a feed from the beginning to its end, and what they tell.
fn frames(world: &World, served: &Served, mode: Mode) -> (FeedRequest, Vec<Vec<u8>>) {
    let lanes = [Lane::new(0), Lane::new(1), Lane::new(3)];
    let asked = from_start(world.chain(), &lanes, mode, false);
    let headers = [("Content-Type", "application/octet-stream")];
    let answer = request(served.at.http, "POST", "/v1/feed", &headers, &asked.to_bytes());
    assert_eq!(answer.status, 200);
    let mut decoder = Decoder::new(FRAME_SIZE_MAX);
    decoder.push(&answer.body);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame.to_vec());
    }
    (asked, frames)
}

/// What frames tell until one is refused, and whether one was.
fn tell(world: &World, asked: &FeedRequest, frames: &[Vec<u8>]) -> (Taken, Height, bool) {
    let pinned = quipu_proof::Pinned::new(&world.genesis).unwrap();
    let mut feed = Feed::new(pinned, asked.clone());
    let mut all = Taken::new();
    for frame in frames {
        match feed.take_bytes(frame) {
            Ok(told) => all.extend(told.iter().flat_map(taken)),
            Err(_) => return (all, feed.height(), true),
        }
    }
    (all, feed.height(), false)
}

#[test]
fn no_frame_can_be_left_out_swapped_repeated_or_changed_unnoticed() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 4);
    for mode in [Mode::Certified, Mode::Tentative] {
        let (asked, frames) = frames(&world, &served, mode);
        let (all, height, is_refused) = tell(&world, &asked, &frames);
        assert!(!is_refused && all.len() > 12 && height.get() > 4);
        let check = |what: &str, changed: &[Vec<u8>]| {
            let (told, reached, is_refused) = tell(&world, &asked, changed);
            assert!(all.starts_with(&told), "{what}: something false was told");
            assert!(
                is_refused || (reached < height && told.len() < all.len()) || told == all,
                "{what}"
            );
            is_refused
        };
        for place in 0..frames.len() {
            let kind = frames[place][0];
            let mut without = frames.clone();
            without.remove(place);
            let is_last = place + 1 == frames.len();
            let is_word = kind == 1 && place > 0;
            let what = format!("without {place}, kind {kind}");
            assert!(check(&what, &without) || is_last || is_word, "{what}");
            let mut twice = frames.clone();
            twice.insert(place, frames[place].clone());
            // A greeting may come at any time.
            assert!(check(&format!("{place} twice, kind {kind}"), &twice) || kind == 1);
            let mut swapped = frames.clone();
            if !is_last && frames[place + 1] != frames[place] {
                swapped.swap(place, place + 1);
                // Those of different lanes come in any order, a chunk before its turn, greetings at any time.
                let kinds = (kind, frames[place + 1][0]);
                let is_free = kind == 1 || matches!(kinds, (4 | 6, 4 | 6) | (7, 4) | (_, 1));
                assert!(check(&format!("{place} swapped"), &swapped) || is_free, "{kinds:?}");
            }
            for at in 0..frames[place].len() {
                if at > 120 && at % 17 != 0 {
                    continue;
                }
                let mut changed = frames.clone();
                changed[place][at] ^= 0x10;
                // A greeting's height is the server's own word, and so is the branch in an answer.
                let is_word = (kind == 1 && at > 32) || (kind == 3 && (3..35).contains(&at));
                // In a certified feed the cut vouches for a chunk, not its sequencer's signature.
                let what = format!("byte {at} of frame {place}, kind {kind}");
                let is_refused = check(&what, &changed);
                let is_signature = kind == 4 && mode == Mode::Certified && !is_refused && {
                    let chunk = Frame::from_bytes(&frames[place]);
                    matches!(chunk, Ok(Frame::Chunk(chunk)) if {
                        let start = 1 + chunk.header.to_bytes().len();
                        (start..start + 64).contains(&at)
                    })
                };
                assert!(is_refused || is_word || is_signature, "{what}");
            }
        }
    }
    served.stop().unwrap();
}

#[test]
fn cursors_that_are_wrong_are_refused_by_name() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 2);
    let (_, places) = read(&world, &served, &[], None);
    let good = places.last().unwrap();
    let code = |cursors: Cursors| {
        let consumer = Consumer::new(&urls(&served), world.genesis.clone(), &[], Mode::Certified);
        let mut consumer = consumer.unwrap().starting(Start::Cursors(cursors)).ending();
        let mut told = 0;
        runtime().block_on(async {
            loop {
                match consumer.next().await {
                    Ok(Some(_)) => told += 1,
                    Ok(None) => return format!("told {told}"),
                    Err(ClientError::Refused { code, .. }) => return code,
                    Err(other) => return other.to_string(),
                }
            }
        })
    };
    let lane = good.lanes.iter().position(|cursor| cursor.seqno.get() > 1).unwrap();
    let changed = |change: &dyn Fn(&mut Cursors)| {
        let mut cursors = good.clone();
        change(&mut cursors);
        code(cursors)
    };
    assert!(changed(&|_| {}).starts_with("told"), "a greeting, and heights that add nothing");
    assert_eq!(changed(&|all| all.chain = Hash([9; 32])), "QP0720", "another ledger's");
    assert_eq!(changed(&|all| all.lanes[lane].certified.root = Hash([9; 32])), "QP0721", "forged");
    assert_eq!(changed(&|all| all.lanes[lane].end = Seqno::new(0)), "QP0720", "no range");
    let other = changed(&|all| all.lanes.last_mut().unwrap().lane = Lane::new(9));
    assert_eq!(other, "QP0703", "a lane that is not there");
    let none = FeedRequest {
        mode: Mode::Certified,
        follow: false,
        epoch: 0,
        lanes: vec![],
        start: Start::End,
    };
    for body in [none.to_bytes(), vec![7; 40], vec![]] {
        let answer = request(served.at.http, "POST", "/v1/feed", &[], &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("QP0720")));
    }
    let ahead = changed(&|all| {
        all.lanes.iter_mut().for_each(|one| one.certified.height = Height::new(1 << 40))
    });
    assert!(ahead.contains("QP0722") || ahead.contains("height"), "{ahead}");
    served.stop().unwrap();
}

#[test]
fn one_that_does_not_read_holds_up_nobody_and_ends_with_the_validator() {
    let world = World::new();
    let served = world.start();
    let asked = from_start(world.chain(), &[Lane::new(0)], Mode::Tentative, true).to_bytes();
    let headers = [("Content-Type", "application/octet-stream")];
    let mut streams: Vec<_> =
        (0..20).map(|_| open(served.at.http, "POST", "/v1/feed", &headers, &asked)).collect();
    filled(&world, &served, 10);
    for stream in &mut streams {
        assert_eq!(read_head(stream), (200, true));
    }
    served.stop().unwrap();
    for stream in &mut streams {
        while read_piece(stream).is_some() {}
    }
}
