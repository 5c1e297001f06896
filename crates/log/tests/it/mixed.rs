//! What clocks mixed: whatever the search says of two transactions is what the graph of mixings says, and what it finds verifies.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use quipu_log::Search;
use quipu_proof::names::{chunk_hash, header_hash};
use quipu_proof::order::tip_of;
use quipu_proof::{Point, Step};
use quipu_types::{ChunkHeader, ClockEntry, Hash, Lane, Mix, Position, Seqno};

use crate::world::World;

/// A point of the graph: a header, or what a chunk's clock had mixed before its batch (0) or at its end (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Header(usize),
    Chunk(usize, u64, u8),
}

#[derive(Clone, Debug)]
enum Act {
    /// Lane `lane` makes a chunk that mixes tips of `others`, the newest header if `header`, before or after its batch.
    Chunk {
        lane: usize,
        others: Vec<bool>,
        header: bool,
        late: bool,
    },
    Commit,
    FailOver(usize),
}

fn acts(lanes: usize) -> impl Strategy<Value = Vec<Act>> {
    let chunk = (0..lanes, proptest::collection::vec(any::<bool>(), lanes), any::<bool>(), 0..4_u8);
    let step = prop_oneof![
        6 => chunk.prop_map(|(lane, others, header, late)| {
            Act::Chunk { lane, others, header, late: late == 0 }
        }),
        2 => Just(Act::Commit),
        1 => (0..lanes).prop_map(Act::FailOver),
    ];
    proptest::collection::vec(step, 1..40)
}

fn entry(mix: Mix) -> ClockEntry {
    // The log does not judge clocks; what a proof hashes again is one tick from there.
    ClockEntry { count: 0, mix, value: Hash::ZERO }
}

/// The clock with the values that it gives.
fn wound(entries: Vec<ClockEntry>, lane_root: &Hash) -> Vec<ClockEntry> {
    let mut clock = quipu_clock::Generator::new(Hash::ZERO);
    for entry in entries {
        clock.tick(1);
        clock.mix(entry.mix, lane_root);
    }
    clock.take()
}

fn run(world: &mut World, steps: Vec<Act>) {
    for step in steps {
        match step {
            Act::Commit => world.commit().unwrap(),
            Act::FailOver(lane) => world.fail_over(lane).unwrap(),
            Act::Chunk { lane, others, header, late } => {
                let mut mixes = Vec::new();
                if let Some((last, _)) = world.headers.last().filter(|_| header) {
                    let (height, hash) = (last.height, header_hash(last));
                    mixes.push(entry(Mix::Header { height, hash }));
                }
                for (other, _) in others.iter().enumerate().filter(|(at, on)| **on && *at != lane) {
                    let tip = world.lanes[other].tip();
                    if tip.index > 0 {
                        let (lane, index, hash) = (tip.lane, tip.index, tip.chunk_hash);
                        mixes.push(entry(Mix::LaneTip { lane, index, hash }));
                    }
                }
                let at = if late { 0 } else { mixes.len() };
                mixes.insert(at, entry(Mix::Batch));
                let mut chunk = world.next_chunk(lane, 2);
                chunk.header.clock = wound(mixes, &chunk.header.lane_root);
                world.append_made(lane, &chunk).unwrap();
            }
        }
    }
    world.commit().unwrap();
}

/// What was there before a point, by going back over every edge: the oracle.
fn past(world: &World, chunks: &[Vec<ChunkHeader>], from: Event) -> BTreeSet<Event> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(point) = todo.pop() {
        if !seen.insert(point) {
            continue;
        }
        match point {
            Event::Header(height) => {
                let (header, _) = &world.headers[height - 1];
                todo.extend(
                    header
                        .cut
                        .iter()
                        .filter(|tip| tip.index > 0)
                        .map(|tip| Event::Chunk(usize::from(tip.lane.get()), tip.index, 1)),
                );
            }
            Event::Chunk(lane, index, part) => {
                let header = &chunks[lane][usize::try_from(index).unwrap() - 1];
                if index > 1 {
                    todo.push(Event::Chunk(lane, index - 1, 1));
                }
                let mixes = header.clock.iter().map(|entry| &entry.mix);
                for mix in mixes.take_while(|mix| part == 1 || **mix != Mix::Batch) {
                    match mix {
                        Mix::Header { height, .. } => {
                            todo.push(Event::Header(usize::try_from(height.get()).unwrap()));
                        }
                        Mix::LaneTip { lane, index, hash } => {
                            let lane = usize::from(lane.get());
                            let named = chunks[lane].get(usize::try_from(*index).unwrap() - 1);
                            if named.is_some_and(|named| chunk_hash(named) == *hash) {
                                todo.push(Event::Chunk(lane, *index, 1));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    seen
}

fn committed(world: &World) -> Vec<Vec<ChunkHeader>> {
    let reader = world.ledger.reader();
    (0..world.lanes.len())
        .map(|lane| {
            let lane = Lane::new(u16::try_from(lane).unwrap());
            let last = reader.tip(lane).unwrap().index;
            (1..=last).map(|index| reader.chunk_header(lane, index).unwrap()).collect()
        })
        .collect()
}

/// The chunk of a lane that holds a seqno.
fn holder(chunks: &[ChunkHeader], seqno: Seqno) -> u64 {
    chunks.iter().find(|header| header.last_seqno() >= seqno).unwrap().index
}

/// Checks what the reader says of two transactions against the graph. What was found.
fn judge(world: &World, chunks: &[Vec<ChunkHeader>], first: Position, second: Position) -> bool {
    let reader = world.ledger.reader();
    let [a, b] = [first, second].map(|position| usize::from(position.lane.get()));
    let holds = holder(&chunks[b], second.seqno);
    let (cover, _) = world
        .headers
        .iter()
        .find(|(header, _)| tip_of(&header.cut, second.lane).unwrap().seqno >= second.seqno)
        .unwrap();
    let tip = tip_of(&cover.cut, second.lane).unwrap();
    let before = past(world, chunks, Event::Chunk(b, holds, 0));
    let is_before = before.contains(&Event::Chunk(a, holder(&chunks[a], first.seqno), 1));
    let steps = match reader.cause(first, second, tip).unwrap() {
        Search::TooFar => panic!("worlds are small"),
        Search::None => {
            assert!(!is_before, "{first} was before {second}");
            return false;
        }
        Search::Found(steps) => steps,
    };
    assert!(is_before, "{first} was not before {second}");
    let reached = match steps.0.first().unwrap() {
        Step::Header(header) => tip_of(&header.0.cut, first.lane).unwrap().seqno,
        Step::Chunk(chunk) if chunk.0.lane == first.lane => chunk.0.last_seqno(),
        Step::Chunk(chunk) => panic!("{first} is not of lane {}", chunk.0.lane),
    };
    assert!(reached >= first.seqno);
    steps.verify(second, tip).unwrap();
    true
}

/// The newest header before a stamp: the search's is the graph's.
fn judge_header(world: &World, chunks: &[Vec<ChunkHeader>], position: Position) {
    let lane = usize::from(position.lane.get());
    let tip = world.ledger.reader().tip(position.lane).unwrap();
    let holds = holder(&chunks[lane], position.seqno);
    let newest = (1..=holds).rev().find_map(|index| {
        let header = &chunks[lane][usize::try_from(index).unwrap() - 1];
        let mixes = header.clock.iter().map(|entry| &entry.mix);
        let mixes = mixes.take_while(|mix| index < holds || **mix != Mix::Batch);
        mixes
            .filter_map(
                |mix| if let Mix::Header { height, .. } = mix { Some(*height) } else { None },
            )
            .last()
    });
    let found = world.ledger.reader().mixed_before(position, &tip).unwrap();
    assert_eq!(found.as_ref().map(|(height, _)| *height), newest);
    if let Some((height, steps)) = found {
        assert_eq!(steps.0.first().unwrap().point(), Point::Header(height));
        steps.verify(position, &tip).unwrap();
    }
}

#[test]
fn what_is_found_is_what_the_graph_of_mixings_says() {
    let (yes, no) = (Cell::new(0), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&acts(3), |steps| {
            let mut world = World::with_lanes(3, 1);
            run(&mut world, steps);
            let chunks = committed(&world);
            let ends =
                |lane: usize| 1..=chunks[lane].last().map_or(0, |last| last.last_seqno().get());
            let places = |lane: usize| {
                let name = Lane::new(u16::try_from(lane).unwrap());
                ends(lane).map(move |seqno| Position { lane: name, seqno: Seqno::new(seqno) })
            };
            for second in (0..3).flat_map(places) {
                judge_header(&world, &chunks, second);
                for first in (0..3).flat_map(places).filter(|first| first.lane != second.lane) {
                    match judge(&world, &chunks, first, second) {
                        true => yes.set(yes.get() + 1),
                        false => no.set(no.get() + 1),
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(yes.get() > 1_000 && no.get() > 1_000, "{} before, {} not", yes.get(), no.get());
}
