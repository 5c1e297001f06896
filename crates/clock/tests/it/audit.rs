//! Audits by sample: true ranges pass, false ones are found at the stated rate, answers fit one question only.

use proptest::prelude::*;
use quipu_clock::audit::{
    Answer, Audit, AuditError, Checkpoint, CheckpointTree, Range, Shown, checkpoints,
};
use quipu_clock::stretch::Stretch;
use quipu_clock::{Chain, Generator, stretches};
use quipu_types::chunk::TICKS_PER_ENTRY_MAX;
use quipu_types::{Hash, Mix};

const START: Hash = Hash([1; 32]);

fn nonce(seed: u64) -> Hash {
    quipu_crypto::sha256(&seed.to_le_bytes())
}

/// `size` short stretches, of which those that `is_false` names state a value that was made up, and are built on.
fn made(size: usize, is_false: impl Fn(usize) -> bool) -> Vec<Stretch> {
    let mut chain = Chain::new(START);
    let stretch = |index: usize| {
        let count = u64::try_from(index % 3 + 1).unwrap();
        let mixed = index.is_multiple_of(2).then_some(Hash([5; 32]));
        if is_false(index) {
            chain = Chain::new(nonce(u64::try_from(index).unwrap()));
        } else {
            chain.tick(count);
            if let Some(digest) = &mixed {
                chain.mix(digest);
            }
        }
        Stretch { count, mixed, value: chain.value() }
    };
    (0..size).map(stretch).collect()
}

fn tree(stretches: &[Stretch]) -> CheckpointTree {
    CheckpointTree::new(checkpoints(START, stretches)).unwrap()
}

fn audit(tree: &CheckpointTree, seed: u64, sample_count: usize) -> Result<(), AuditError> {
    let audit = Audit::new(tree.range(), nonce(seed), sample_count).unwrap();
    audit.verify(quipu_accel::default(), &tree.answer(&audit).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_true_range_passes_with_every_nonce(
        steps in prop::collection::vec((0..9_000_u64, any::<bool>()), 1..12),
        seed in any::<u64>(),
        sample_count in 0..40_usize,
    ) {
        let (mut clock, root) = (Generator::new(START), Hash([9; 32]));
        for (ticks, mixes) in steps {
            clock.tick(ticks);
            clock.mix(if mixes { Mix::Batch } else { Mix::Nothing }, &root);
        }
        clock.mix(Mix::Batch, &root);
        let entries = stretches(&clock.take(), &root).unwrap();
        prop_assert_eq!(audit(&tree(&entries), seed, sample_count), Ok(()));
    }

    #[test]
    fn what_is_found_is_a_false_leaf(size in 1..60_usize, seed in any::<u64>(), place in any::<prop::sample::Index>()) {
        let place = place.index(size);
        let tree = tree(&made(size, |index| index == place));
        let index = u64::try_from(place).unwrap();
        let question = Audit::new(tree.range(), nonce(seed), 50).unwrap();
        let is_drawn = question.draws().any(|drawn| drawn == index);
        let expected = if is_drawn { Err(AuditError::WrongValue { index }) } else { Ok(()) };
        prop_assert_eq!(audit(&tree, seed, 50), expected);
    }
}

/// Computed by another program from `docs/formats.md`.
#[test]
fn leaves_and_draws_are_what_the_formats_say() {
    let [root, start, end, nonce] = [1, 2, 3, 4].map(|byte| Hash([byte; 32]));
    let range = Range { root, size: 1_000, start, end };
    let draws: Vec<_> = Audit::new(range, nonce, 5).unwrap().draws().collect();
    assert_eq!(draws, [24, 518, 568, 327, 745]);
    let stretch = Stretch { count: 7, mixed: Some(nonce), value: end };
    let range = CheckpointTree::new(vec![Checkpoint { start, stretch }]).unwrap().range();
    assert_eq!(
        range.root.to_string(),
        "c7cb48cf3163d1c7cedc49af190cf453674037f222dd7991ef0d6047bc29aefc"
    );
}

/// Each row: `size` leaves, `false_count` of them false, `sample_count` draws, and what of `seed_count` audits must find one: the
/// binomial bounds for p = 1 − (1 − false_count ÷ size)^sample_count that chance leaves with less than 10^-6 on either side.
#[test]
fn false_entries_are_found_as_often_as_the_formula_says() {
    let rows = [
        (64, 4, 10, 1_000_u64, 401..=551), // p = 0.4755
        (100, 1, 300, 200, 173..=200),     // p = 0.9510
        (100, 1, 50, 600, 181..=294),      // p = 0.3950
        (50, 25, 1, 2_000, 894..=1_106),   // p = 0.5
        (97, 3, 40, 600, 375..=480),       // p = 0.7154
    ];
    for (size, false_count, sample_count, seed_count, expected) in rows {
        // Spread, and at one end: where they stand does not matter.
        let spread = tree(&made(size, |index| {
            index % (size / false_count) == 0 && index / (size / false_count) < false_count
        }));
        let end = tree(&made(size, |index| index >= size - false_count));
        for tree in [spread, end] {
            let found = (0..seed_count).filter(|seed| audit(&tree, *seed, sample_count).is_err());
            let found = found.count();
            assert!(
                expected.contains(&found),
                "{found} of {seed_count}: {size} {false_count} {sample_count}"
            );
        }
    }
}

#[test]
fn an_answer_fits_one_range_one_nonce_and_one_number_of_draws() {
    let tree = tree(&made(40, |_| false));
    let question = Audit::new(tree.range(), nonce(1), 20).unwrap();
    let answer = tree.answer(&question).unwrap();
    let verify =
        |question: &Audit, answer: &Answer| question.verify(quipu_accel::default(), answer);
    assert_eq!(verify(&question, &answer), Ok(()));

    let other_nonce = Audit::new(tree.range(), nonce(2), 20).unwrap();
    assert!(matches!(verify(&other_nonce, &answer), Err(AuditError::OtherLeaf { .. })));
    let mut range = tree.range();
    range.root.0[0] ^= 1;
    let other_root = Audit::new(range, nonce(1), 20).unwrap();
    assert!(matches!(verify(&other_root, &answer), Err(AuditError::NotInTree { index: 0, .. })));
    assert_eq!(tree.answer(&other_root), None);
    let more = Audit::new(tree.range(), nonce(1), 21).unwrap();
    assert_eq!(verify(&more, &answer), Err(AuditError::SampleCount { found: 20, wanted: 21 }));
    for (change, expected) in
        [(0, AuditError::Unlinked { index: 0 }), (1, AuditError::OtherEnd { index: 39 })]
    {
        let mut range = tree.range();
        if change == 0 {
            range.start.0[0] ^= 1
        } else {
            range.end.0[0] ^= 1
        }
        let other = Audit::new(range, nonce(1), 20).unwrap();
        assert_eq!(verify(&other, &answer), Err(expected));
    }
    let size = |size| Audit::new(Range { size, ..tree.range() }, nonce(1), 1);
    assert_eq!(size(0), Err(AuditError::Size { size: 0 }));
    assert_eq!(size(u64::MAX), Err(AuditError::Size { size: u64::MAX }));
    let too_many = Audit::new(tree.range(), nonce(1), 4_097);
    assert_eq!(too_many, Err(AuditError::TooManySamples { count: 4_097 }));
    assert!(CheckpointTree::new(Vec::new()).is_none());
}

#[test]
fn a_leaf_that_is_swapped_changed_or_out_of_range_is_refused_by_its_number() {
    let tree = tree(&made(40, |_| false));
    let question = Audit::new(tree.range(), nonce(1), 20).unwrap();
    let answer = tree.answer(&question).unwrap();
    let draws: Vec<u64> = question.draws().collect();
    let refused = |change: &dyn Fn(&mut Answer)| {
        let mut changed = answer.clone();
        change(&mut changed);
        assert_ne!(changed, answer);
        question.verify(quipu_accel::default(), &changed).unwrap_err()
    };
    // Leaf 3 of the draws is none that was drawn before, nor the first, so that each change is one.
    let wanted = draws[3];
    assert!(wanted > 0 && !draws[..3].contains(&wanted) && draws[4] != wanted);
    let other_leaf = AuditError::OtherLeaf { wanted };
    assert_eq!(refused(&|answer| answer.samples.swap(3, 4)), other_leaf);
    assert_eq!(refused(&|answer| answer.samples[3].leaf.index = 40), other_leaf);
    assert_eq!(refused(&|answer| answer.samples[3].leaf.index = u64::MAX), other_leaf);
    let before = AuditError::OtherLeaf { wanted: wanted - 1 };
    assert_eq!(refused(&|answer| answer.samples[3].before = None), before);
    assert_eq!(refused(&|answer| answer.samples[3].before = Some(answer.first.clone())), before);
    let not_in_tree =
        |error| matches!(error, AuditError::NotInTree { index, .. } if index == wanted);
    // Another leaf under the drawn number; its path does not lead from there.
    assert!(not_in_tree(refused(&|answer| {
        let other = answer.samples[4].leaf.clone();
        answer.samples[3].leaf = Shown { index: wanted, ..other };
    })));
    assert!(not_in_tree(refused(&|answer| answer.samples[3].leaf.checkpoint.stretch.count += 1)));
    assert!(not_in_tree(refused(&|answer| answer.samples[3].leaf.checkpoint.start.0[0] ^= 1)));
    assert!(not_in_tree(refused(&|answer| answer.samples[3].leaf.path.truncate(1))));
    assert!(not_in_tree(refused(&|answer| answer.samples[3].leaf.path.push(Hash::ZERO))));
    let ends = AuditError::OtherLeaf { wanted: 39 };
    assert_eq!(refused(&|answer| answer.last = answer.first.clone()), ends);
    assert_eq!(
        refused(&|answer| drop(answer.samples.pop())),
        AuditError::SampleCount { found: 19, wanted: 20 }
    );
}

#[test]
fn leaves_that_do_not_link_or_are_no_entries_are_false() {
    let first_error = |change: &dyn Fn(&mut Vec<Checkpoint>)| {
        let mut leaves = checkpoints(START, &made(8, |_| false));
        change(&mut leaves);
        // Enough draws for eight leaves.
        audit(&CheckpointTree::new(leaves).unwrap(), 1, 200).unwrap_err()
    };
    let unlinked = first_error(&|leaves| {
        leaves[4].start = Hash([8; 32]);
        let mut chain = Chain::new(leaves[4].start);
        chain.tick(leaves[4].stretch.count);
        chain.mix(&leaves[4].stretch.mixed.unwrap());
        leaves[4].stretch.value = chain.value();
        leaves.truncate(5);
    });
    assert_eq!(unlinked, AuditError::Unlinked { index: 4 });
    let idle = first_error(&|leaves| {
        let start = leaves[3].start;
        leaves.insert(
            3,
            Checkpoint { start, stretch: Stretch { count: 0, mixed: None, value: start } },
        );
    });
    assert_eq!(idle, AuditError::Shape { index: 3, count: 0 });
    // True, and one tick more than a client lets itself be made to hash.
    let endless = first_error(&|leaves| {
        leaves.truncate(6);
        let mut chain = Chain::new(leaves[5].start);
        chain.tick(TICKS_PER_ENTRY_MAX + 1);
        let (count, value) = (TICKS_PER_ENTRY_MAX + 1, chain.value());
        leaves[5].stretch = Stretch { count, mixed: None, value };
    });
    assert_eq!(endless, AuditError::Shape { index: 5, count: TICKS_PER_ENTRY_MAX + 1 });
}

/// The limit that the module's header states: a piece that was made once stands in the tree many times, and each seam is one
/// false leaf. Whoever draws the seam finds it, and nobody else does.
#[test]
fn a_piece_that_is_counted_ten_times_is_one_false_leaf_a_seam_and_most_samples_miss_it() {
    let piece = checkpoints(START, &made(100, |_| false));
    let leaves: Vec<_> = (0..10).flat_map(|_| piece.clone()).collect();
    let seams = [100, 200, 300, 400, 500, 600, 700, 800, 900];
    let tree = CheckpointTree::new(leaves).unwrap();
    let mut missed = 0;
    for seed in 0..200 {
        let question = Audit::new(tree.range(), nonce(seed), 30).unwrap();
        let seam = question.draws().find(|index| seams.contains(index));
        let expected = seam.map_or(Ok(()), |index| Err(AuditError::Unlinked { index }));
        assert_eq!(audit(&tree, seed, 30), expected);
        missed += u64::from(seam.is_none());
    }
    // (1 − 9 ÷ 1,000)^30 = 0.7625.
    assert!((120..=185).contains(&missed), "{missed}");
    // The whole check finds it always.
    let all: Vec<_> = tree_stretches(&piece);
    let index = piece.len();
    assert_eq!(
        super::verify_stretches(START, &all),
        Err(quipu_clock::stretch::WrongStretch { index })
    );
}

fn tree_stretches(piece: &[Checkpoint]) -> Vec<Stretch> {
    piece.iter().chain(piece).map(|leaf| leaf.stretch).collect()
}
