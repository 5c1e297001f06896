//! The committed heights as frames, read by one who believes nothing: whole, from the middle, and while they grow.

use quipu_consensus::Context;
use quipu_net::{Decoder, FRAME_SIZE_MAX};
use quipu_replica::follow::check;
use quipu_replica::{Admissions, Checked, Followed, Follower, Recovered};

use crate::world::{Served, World, append, create_stream, open, read_head, read_piece, route};

fn context(world: &World) -> Context {
    let genesis = &world.genesis;
    Context::new(world.chain(), genesis.validator_set(), genesis.lane_count)
}

/// Reads frames until `wanted` has enough of them.
fn read(
    world: &World,
    served: &Served,
    from: u64,
    mut wanted: impl FnMut(&Checked) -> bool,
) -> Vec<Checked> {
    let mut stream = open(served.at.http, "GET", &format!("/v1/blocks?from={from}"), &[], &[]);
    assert_eq!(read_head(&mut stream), (200, true));
    let (context, mut decoder) = (context(world), Decoder::new(FRAME_SIZE_MAX));
    let admissions = Admissions::new(world.chain(), world.genesis.lane_count, 0);
    let mut all = Vec::new();
    loop {
        decoder.push(&read_piece(&mut stream).unwrap());
        while let Some(frame) = decoder.next_frame().unwrap() {
            let checked = check(&context, &admissions, frame).unwrap();
            let is_enough = wanted(&checked);
            all.push(checked);
            if is_enough {
                return all;
            }
        }
    }
}

fn follow(world: &World, frames: Vec<Checked>) -> Vec<Followed> {
    let empty = Recovered::empty(&world.genesis);
    let mut follower = Follower::new(context(world), &world.genesis, &empty);
    let take = |frame| match frame {
        Checked::Header(header) => follower.header(header.0, header.1).unwrap(),
        Checked::Chunk(chunk) => follower.chunk(*chunk).unwrap(),
        Checked::Hello(_) | Checked::State(_) => None,
    };
    frames.into_iter().filter_map(take).collect()
}

#[test]
fn who_follows_from_the_first_height_gets_every_transaction_checked_and_more_as_they_come() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    let mut submit = |actions| {
        let signed = producer.sign(Some(&route("EWR")), actions);
        served.submit(&[signed])[0]["height"].as_u64().unwrap()
    };
    submit(vec![create_stream("readings")]);
    let height = submit(vec![append("readings", 1, "EWR")]);
    let ends = |height: u64| move |frame: &Checked| matches!(frame, Checked::Header(own) if own.0.height.get() > height);
    let frames = read(&world, &served, 1, ends(height));
    assert!(matches!(frames.first(), Some(Checked::Hello(_))), "it greets first");
    let blocks = follow(&world, frames);
    let count: usize = blocks.iter().map(|followed| followed.block.transaction_count()).sum();
    assert_eq!(count, 2);
    let next = blocks.last().unwrap().block.header.height.get() + 1;
    let fresh = submit(vec![append("readings", 2, "EWR")]);
    let frames = read(&world, &served, next, ends(fresh));
    let first = frames.iter().find_map(|frame| match frame {
        Checked::Header(header) => Some(header.0.height.get()),
        _ => None,
    });
    assert_eq!(first, Some(next));
    served.stop().unwrap();
}

#[test]
fn a_height_that_is_none_is_refused_and_one_to_come_is_waited_for() {
    let world = World::new();
    let served = world.start();
    for query in ["from=0", "from=x", "", "from=1&to=2"] {
        let answer = served.get(&format!("/v1/blocks?{query}"));
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (400, Some("QP0702")),
            "{query}"
        );
    }
    let mut greetings = 0;
    let frames = read(&world, &served, 1 << 40, |frame| {
        greetings += u32::from(matches!(frame, Checked::Hello(_)));
        greetings == 2
    });
    assert!(frames.iter().all(|frame| !matches!(frame, Checked::Header(_) | Checked::Chunk(_))));
    served.stop().unwrap();
}
