//! Open rounds: heights without any timer, coins, and the way back to led rounds.

use quipu_types::RoundKind;
use quipu_types::round::Mode;

use crate::world::{IDLE_US, World};

/// Open rounds of a committed height, up to the one that decided it.
fn open_rounds(world: &World, index: usize, place: usize) -> (RoundKind, u32) {
    let node = &world.nodes[index];
    let (header, certificate) = &node.committed[place];
    let vote = &certificate.precommits[0];
    let kind = |round| node.parents[place].rounds.kind(header.height, round).0;
    let open = (0..=vote.round).filter(|round| kind(*round) == RoundKind::Open).count();
    (vote.kind, u32::try_from(open).expect("few rounds"))
}

/// Every led timer fires before its round hears anything; then one message, any of those under way.
fn storm(world: &mut World) {
    for index in 0..world.nodes.len() {
        let core = &world.nodes[index].core;
        let next = core.parent().height.next();
        if core.parent().rounds.kind(next, core.round()).0 == RoundKind::Led {
            world.nodes[index].wait(60 * IDLE_US);
            world.fetch(index);
        }
    }
    world.turn();
}

#[test]
fn with_every_led_timer_forced_and_any_order_of_delivery_heights_go_on() {
    let (mut heights, mut rounds) = (0, 0);
    for (seed, powers, silent) in [
        (1, vec![1; 4], None),
        (2, vec![1; 4], Some(2)),
        (3, vec![4, 3, 2, 1], Some(3)),
        (4, vec![1; 7], Some(5)),
    ] {
        let mut world = World::new(&powers, seed);
        if let Some(silent) = silent {
            world.silent[silent] = true;
        }
        let due = 30;
        let reached = |world: &World| {
            let heard = world.nodes.iter().zip(&world.silent).filter(|(_, silent)| !**silent);
            heard.map(|(node, _)| node.height()).min().unwrap_or(0) >= due
        };
        let mut turns = 0;
        while !reached(&world) {
            let next = [0, 1, 2]
                .map(|lane| world.nodes[0].chunks.held[lane] + u64::from(turns % 500 == 0));
            if turns % 500 == 0 {
                world.grow_all(next);
            }
            storm(&mut world);
            turns += 1;
            assert!(turns < 400_000, "no progress: {:?}", world.heights());
        }
        world.assert_agreement();
        for place in 0..usize::try_from(due).expect("small") {
            let (kind, open) = open_rounds(&world, 0, place);
            assert_eq!(kind, RoundKind::Open, "no led round can decide");
            heights += 1;
            rounds += open;
        }
    }
    println!(
        "{rounds} open rounds in {heights} heights: {:.3}",
        f64::from(rounds) / f64::from(heights)
    );
    assert!(rounds * 2 < heights * 3 + heights, "far above what is expected");
}

#[test]
fn calm_ends_open_rounds_and_no_operator_does() {
    let mut world = World::new(&[1; 4], 9);
    world.grow_all([1, 1, 1]);
    world.pass(3 * IDLE_US);
    assert!(world.nodes.iter().all(|node| node.core.parent().rounds.mode == Mode::Led));
    let before = world.nodes[0].height();
    while world.nodes[0].height() < before + 9 {
        storm(&mut world);
    }
    assert!(world.nodes.iter().all(|node| node.core.parent().rounds.mode == Mode::Open));
    world.pass(30 * IDLE_US);
    assert!(world.nodes.iter().all(|node| node.core.parent().rounds.mode == Mode::Led));
    world.assert_agreement();
    let kinds: String = (0..world.nodes[0].committed.len())
        .map(|place| match open_rounds(&world, 0, place).0 {
            RoundKind::Led => 'l',
            RoundKind::Open => 'o',
        })
        .collect();
    // The height after the trial that was decided led had begun already, open.
    assert!(kinds.starts_with("lll") && kinds.ends_with("llllllllll"), "{kinds}");
    assert!(kinds.matches("lo").count() <= 2, "{kinds}");
}
