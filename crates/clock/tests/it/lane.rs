//! Ranges of a lane's clock, through terms.

use proptest::prelude::*;
use quipu_clock::{
    ClockError, Generator, LaneClock, LaneClockError, check_alone, seed_value, start, verify_range,
};
use quipu_types::{ChunkHeader, Hash, Height, Lane, Mix, Seqno, Term};

const LANE: Lane = Lane::new(3);

fn seed() -> Hash {
    seed_value("headline of the day")
}

/// A lane as its sequencers make it: each term has chunks of `(ticks, with a header)`.
fn lane(terms: &[Vec<(u64, bool)>]) -> Vec<ChunkHeader> {
    let mut headers: Vec<ChunkHeader> = Vec::new();
    let mut last = seed();
    for (term, chunks) in (1_u8..).zip(terms) {
        let branch = Hash([term; 32]);
        let mut clock = Generator::new(start(&branch, &last));
        for (ticks, has_header) in chunks {
            let index = u64::try_from(headers.len()).unwrap() + 1;
            let lane_root = Hash([u8::try_from(index).unwrap(); 32]);
            clock.tick(*ticks);
            if *has_header {
                clock.mix(Mix::Header { height: Height::new(index), hash: branch }, &lane_root);
            }
            clock.mix(Mix::Batch, &lane_root);
            headers.push(ChunkHeader {
                lane: LANE,
                term: Term::new(u64::from(term)),
                branch,
                index,
                first_seqno: Seqno::new(1),
                count: 0,
                prev: Hash::ZERO,
                lane_root,
                body_digest: Hash::ZERO,
                stripes: None,
                clock: clock.take(),
            });
            // A term without chunks leaves no trace.
            last = clock.value();
        }
    }
    headers
}

fn terms() -> impl Strategy<Value = Vec<Vec<(u64, bool)>>> {
    let ticks = prop_oneof![0..30_u64, 8_000..17_000_u64];
    prop::collection::vec(prop::collection::vec((ticks, any::<bool>()), 0..5), 0..4)
}

/// Chunk by chunk as a validator does: what a chunk says by itself, then the link. Must agree with the whole check (K5).
fn in_two_steps(from: LaneClock, headers: &[ChunkHeader]) -> Result<LaneClock, LaneClockError> {
    let mut clock = from;
    for header in headers {
        let (before, mut whole) = (clock, clock);
        let alone = check_alone(header);
        let linked = alone.and_then(|()| clock.link(header));
        let verdict = whole.advance(header);
        assert_eq!(linked.is_ok(), verdict.is_ok());
        // Only a fault of the first entry, or of the chunk's place, waits for the link.
        let waits = |error: &LaneClockError| match error {
            LaneClockError::NotNext { .. } => true,
            error => place_of(*error).1 == Some(0),
        };
        if !verdict.as_ref().is_err_and(waits) {
            assert_eq!(linked, verdict);
            assert_eq!(check_alone(header), verdict);
        }
        verdict.inspect_err(|_| assert_eq!(whole, before, "what is refused changes nothing"))?;
        assert_eq!(clock, whole);
        let mut passed = before;
        passed.pass(header);
        assert_eq!(passed, whole);
    }
    Ok(clock)
}

fn place_of(error: LaneClockError) -> (u64, Option<usize>) {
    match error {
        LaneClockError::NotNext { index, .. } | LaneClockError::NoBatch { index } => (index, None),
        LaneClockError::Entry { index, error } => (index, error.entry()),
        _ => unreachable!("no other error"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_is_verified_from_the_value_before_it(
        terms in terms(),
        ends in any::<[prop::sample::Index; 2]>(),
    ) {
        let headers = lane(&terms);
        let [from, to] = ends.map(|end| end.index(headers.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let last = headers[..from].last();
        let clock = LaneClock::resume(LANE, seed(), last);
        let range = &headers[from..to];
        let after = in_two_steps(clock, range).unwrap();
        prop_assert_eq!(verify_range(clock, range), Ok(after));
        let ticks: u64 = terms.iter().flatten().map(|(ticks, _)| ticks).skip(from).take(to - from).sum();
        prop_assert_eq!(after.tick_count(), ticks);
        let mixes = range.iter().flat_map(|header| &header.clock).filter(|entry| entry.mix != Mix::Nothing);
        prop_assert_eq!(after.mix_count(), u64::try_from(mixes.count()).unwrap());
        prop_assert_eq!(after.value(), LaneClock::resume(LANE, seed(), headers[..to].last()).value());
        prop_assert_eq!(after.index(), u64::try_from(to).unwrap());
    }

    #[test]
    fn the_first_wrong_chunk_and_entry_of_a_range_are_named(
        terms in terms(),
        place in any::<prop::sample::Index>(),
        entry in any::<prop::sample::Index>(),
        also in any::<prop::sample::Index>(),
        what in 0..3_u8,
    ) {
        let mut headers = lane(&terms);
        prop_assume!(!headers.is_empty());
        let [place, also] = [place, also].map(|place| place.index(headers.len()));
        let clock = &mut headers[place].clock;
        let entry = entry.index(clock.len());
        match what {
            0 => clock[entry].count = clock[entry].count.saturating_add(1).min(8_192),
            1 => clock[entry].value.0[0] ^= 1,
            _ => clock[entry].mix = Mix::Votes(Hash([9; 32])),
        }
        let is_last = entry + 1 == clock.len();
        prop_assume!(headers != lane(&terms));
        // A later fault does not hide the first.
        if also > place {
            headers[also].clock[0].value.0[1] ^= 1;
        }
        let expected = (headers[place].index, (what != 2 || !is_last).then_some(entry));
        let error = verify_range(LaneClock::begin(LANE, seed()), &headers).unwrap_err();
        prop_assert_eq!(place_of(error), expected);
        prop_assert_eq!(in_two_steps(LaneClock::begin(LANE, seed()), &headers), Err(error));
    }
}

#[test]
fn a_term_that_starts_from_another_branch_or_value_is_refused_at_its_first_entry() {
    let headers = lane(&[vec![(20, false)], vec![(20, false), (5, true)]]);
    let first = |index| LaneClockError::Entry { index, error: ClockError::WrongValue { entry: 0 } };
    let check = |headers: &[ChunkHeader]| in_two_steps(LaneClock::begin(LANE, seed()), headers);
    assert!(check(&headers).is_ok());
    let mut other = headers.clone();
    other[1].branch = Hash([7; 32]);
    assert_eq!(check(&other), Err(first(2)));
    // The term goes on as if none had begun.
    let mut joined = headers.clone();
    joined[1].term = Term::new(1);
    assert_eq!(check(&joined), Err(first(2)));
    // A term begins where none did.
    let mut split = headers.clone();
    split[2].term = Term::new(3);
    assert_eq!(check(&split), Err(first(3)));
    let other_seed = LaneClock::begin(LANE, seed_value("another headline"));
    assert_eq!(in_two_steps(other_seed, &headers), Err(first(1)));
}

#[test]
fn chunks_out_of_order_of_another_lane_or_without_their_batch_are_refused_by_name() {
    let headers = lane(&[vec![(20, false), (20, true)], vec![(20, false)]]);
    let begin = LaneClock::begin(LANE, seed());
    let not_next = |header: &ChunkHeader, index| LaneClockError::NotNext {
        lane: LANE,
        index,
        found_lane: header.lane,
        found_index: header.index,
        found_term: header.term,
    };
    assert_eq!(verify_range(begin, &headers[1..]), Err(not_next(&headers[1], 1)));
    let twice = [&headers[0], &headers[0]];
    assert_eq!(verify_range(begin, twice), Err(not_next(&headers[0], 2)));
    let mut other = headers.clone();
    other[0].lane = Lane::new(4);
    assert_eq!(verify_range(begin, &other), Err(not_next(&other[0], 1)));
    let mut back = headers.clone();
    back[2].term = Term::new(0);
    assert_eq!(verify_range(begin, &back), Err(not_next(&back[2], 3)));
    for clock in [vec![], headers[1].clock[..1].to_vec()] {
        let mut bare = headers.clone();
        bare[1].clock = clock;
        assert_eq!(in_two_steps(begin, &bare), Err(LaneClockError::NoBatch { index: 2 }));
    }
}
