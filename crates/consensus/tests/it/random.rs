//! Any order of delivery, any stake, restarts anywhere.

use proptest::prelude::*;
use quipu_consensus::{Message, Parent, Record};

use crate::world::{CHAIN, GENESIS_TIME, IDLE_US, LANES, MIN_US, Node, ROUNDS, World, start};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn validators_of_any_stake_commit_the_same_headers_in_any_order_of_delivery(
        powers in proptest::collection::vec(1_u64..5, 1..6), seed in any::<u64>(),
    ) {
        let mut world = World::new(&powers, seed);
        for height in 1..5 {
            let [a, b, c] = [0; 3].map(|_: u64| world.random.u64(0..3));
            let before = world.nodes[0].chunks.held;
            world.grow_all([before[0] + a, before[1] + b, before[2] + c]);
            world.run_until(height);
        }
        world.assert_agreement();
    }

    #[test]
    fn after_a_restart_at_any_record_the_same_bytes_are_said_again(
        seed in any::<u64>(), heights in 1_u64..4,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut node = Node::new(&[1], 0);
        for height in 1..=heights {
            node.grow([height * 2, height / 2, 0]);
            node.wait(MIN_US);
        }
        let kept = random.usize(0..=node.log.len());
        let (records, lost) = node.log.split_at(kept);
        let said: Vec<Message> = records.iter().map(Record::message).collect();
        let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES, ROUNDS);
        let mut again = Node { log: records.to_vec(), ..Node::new(&[1], 0) };
        again.core = start(&[1], 0, again.now, parent, records.to_vec());
        again.now.wall_us += 77_777;
        again.grow(node.chunks.held);
        for _ in 0..heights {
            again.chunks = node.chunks.clone();
            again.wait(IDLE_US);
        }
        let repeated = again.said();
        let decided = |height| {
            records.iter().any(|record| match record {
                Record::Precommit { vote, .. } => vote.height == height,
                _ => false,
            })
        };
        for (record, message) in records.iter().zip(&said) {
            // What was said of all lanes is said to who asks; a height that the log decides needs no words.
            let needs_none = record.height().is_none_or(decided);
            prop_assert!(needs_none || repeated.contains(message), "{:?} was not repeated", message);
        }
        if lost.is_empty() {
            prop_assert_eq!(&again.committed, &node.committed);
        }
    }

    /// Messages are lost, validators fall silent, come back and are restarted from their logs; then it is calm.
    #[test]
    fn whatever_is_lost_and_whoever_restarts_one_header_a_height_and_then_progress(
        powers in prop_oneof![Just(vec![1_u64, 1, 1, 1]), Just(vec![4, 3, 2, 1]), Just(vec![1; 5])],
        seed in any::<u64>(), loss in 0_u8..120,
    ) {
        let mut world = World::new(&powers, seed);
        let count = powers.len();
        let mut held = [0_u64; 3];
        for _ in 0..6_000 {
            match world.random.u16(..2_000) {
                0 | 1 => {
                    let index = world.random.usize(..count);
                    let lost = world.random.usize(..3);
                    world.nodes[index].restart(&powers, index, lost);
                }
                2 => {
                    world.silent.fill(false);
                    let index = world.random.usize(..count);
                    world.silent[index] = true;
                }
                3..20 => {
                    held[world.random.usize(..3)] += 1;
                    let index = world.random.usize(..count);
                    let own = world.nodes[index].chunks.held;
                    let joined = [0, 1, 2].map(|lane| own[lane].max(held[lane]));
                    world.nodes[index].grow(joined);
                    world.fetch(index);
                }
                20..60 => {
                    let index = world.random.usize(..count);
                    world.nodes[index].wait(100_000);
                    world.fetch(index);
                }
                _ if !world.wires.is_empty() && world.random.u8(..) < loss => {
                    let pick = world.random.usize(..world.wires.len());
                    drop(world.wires.swap_remove_back(pick));
                }
                _ => world.turn(),
            }
        }
        world.assert_agreement();
        world.silent.fill(false);
        world.grow_all(held);
        let due = world.heights().into_iter().max().unwrap_or(0) + 3;
        world.run_until(due);
        world.assert_agreement();
    }
}
