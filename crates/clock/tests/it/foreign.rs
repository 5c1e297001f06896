//! A Proof-of-History chain that others published.
//!
//! Source of the vectors: github.com/solana-foundation/specs, `core/poh.md`, commit
//! d4e5007c23753588f7253948bf4585ee68b9a103. Its "append" is a tick; its "mixin" is a hash of its own after the appends that are
//! given before it: H(h ‖ mixin). The values after each mixin are not published; they are computed here.

use quipu_clock::Chain;
use quipu_clock::stretch::{self, Stretch, WrongStretch};
use quipu_types::Hash;

const GENESIS: &str = "45296998a6f8e2a784db5d9f95e18fc23f70441a1039446801089879b08c7ef0";
const GENESIS_TICKS: u64 = 800_000;
const BLOCK_0: &str = "3973e330c29b831f3fcb0e49374ed8d0388f410a23e4ebf23328505036efbd03";
const BLOCK_1: &str = "8ee20607dcf1d9393cf5a2f2c9f7babe167dbdd267491b513c73d2cbf87413f5";
const APPENDS_AND_MIXINS: [(u64, Option<&str>); 4] = [
    (14_612, Some("c95f2f13a9a77f32b1437976c4cffe3029298a49bf37007f8e45d793a520f30b")),
    (210_347, Some("1aaeeb36611f484d984683a3db9269f2292dd9bb81bdab82b28c45625d9abd59")),
    (428_775, Some("db31e861b310f44954403e345b6beeb3ded34084b90694bccaa2345306d366e1")),
    (146_263, None),
];

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

fn block_0() -> Stretch {
    Stretch { count: GENESIS_TICKS, mixed: None, value: hash(BLOCK_0) }
}

/// Block 1 with the values between its ends.
fn block_1() -> Vec<Stretch> {
    let mut chain = Chain::new(hash(BLOCK_0));
    let stretch = |(count, mixed): (u64, Option<&str>)| {
        let mixed = mixed.map(hash);
        chain.tick(count);
        if let Some(digest) = &mixed {
            chain.mix(digest);
        }
        Stretch { count, mixed, value: chain.value() }
    };
    let mut stretches: Vec<_> = APPENDS_AND_MIXINS.into_iter().map(stretch).collect();
    // The end is the published one, so that no value that is computed here vouches for itself.
    stretches[3].value = hash(BLOCK_1);
    stretches
}

/// As [`Stretch`]es with checkpoints between, so that a verifier splits the work.
fn cut(start: Hash, stretches: &[Stretch], step: u64) -> Vec<Stretch> {
    let mut chain = Chain::new(start);
    let mut out = Vec::new();
    for stretch in stretches {
        let mut left = stretch.count;
        while left > step {
            chain.tick(step);
            left -= step;
            out.push(Stretch { count: step, mixed: None, value: chain.value() });
        }
        chain.tick(left);
        if let Some(digest) = &stretch.mixed {
            chain.mix(digest);
        }
        out.push(Stretch { count: left, mixed: stretch.mixed, value: chain.value() });
    }
    out
}

#[test]
fn solana_s_first_two_blocks_are_verified_by_every_way() {
    let mut stretches = vec![block_0()];
    stretches.extend(block_1());
    assert_eq!(stretch::verify_serial(hash(GENESIS), &stretches), Ok(hash(BLOCK_1)));
    assert_eq!(stretch::verify(hash(GENESIS), &stretches), Ok(hash(BLOCK_1)));
    // With checkpoints, as a verifier would keep them, there is more to do side by side and nothing else to say.
    let fine = cut(hash(GENESIS), &stretches, 10_000);
    assert_eq!(fine.len(), 80 + 2 + 22 + 43 + 15);
    assert_eq!(super::verify_stretches(hash(GENESIS), &fine), Ok(hash(BLOCK_1)));
}

#[test]
fn a_changed_count_mixin_or_order_of_solana_s_is_found_in_its_stretch() {
    let start = hash(BLOCK_0);
    let refused = |index, change: &dyn Fn(&mut [Stretch])| {
        let mut stretches = block_1();
        change(&mut stretches);
        assert_eq!(super::verify_stretches(start, &stretches), Err(WrongStretch { index }));
    };
    refused(1, &|all| all[1].count += 1);
    refused(3, &|all| all[3].count -= 1);
    refused(2, &|all| all[2].mixed.as_mut().unwrap().0[31] ^= 1);
    refused(0, &|all| all[0].mixed = None);
    // Whole stretches swapped, or only what they mix.
    refused(1, &|all| all.swap(1, 2));
    refused(0, &|all| {
        let (left, right) = all.split_at_mut(1);
        std::mem::swap(&mut left[0].mixed, &mut right[0].mixed);
    });
}

#[test]
fn a_mixin_is_not_counted_among_the_appends_before_it() {
    // One append less before each mixin is another reading of the text; it does not lead to the published end.
    let mut chain = Chain::new(hash(BLOCK_0));
    for (count, mixed) in APPENDS_AND_MIXINS {
        chain.tick(if mixed.is_some() { count - 1 } else { count });
        if let Some(mixed) = mixed {
            chain.mix(&hash(mixed));
        }
    }
    assert_ne!(chain.value(), hash(BLOCK_1));
}
