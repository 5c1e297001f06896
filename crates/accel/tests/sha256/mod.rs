//! Every backend that can be asked for, against what NIST published.

use quipu_accel::{Accel, BackendState, Choice, Dispatcher, Scalar};

/// See the header of the file for where it comes from.
const NIST: &str = include_str!("../data/sha256-nist.txt");

/// Every backend that this machine has, by the word in `QUIPU_ACCEL`; a line is printed for each that it has not.
fn dispatchers() -> Vec<Dispatcher> {
    let words = ["scalar", "shani", "avx2", "avx512", "auto"];
    let dispatchers = words.into_iter().filter_map(|word| {
        let dispatcher = Dispatcher::from_word(word, Vec::new());
        match dispatcher.report().fallback {
            Some(_) => {
                println!("SKIPPED {word}: this machine has no such instructions");
                None
            }
            None => {
                println!("runs {word}");
                Some(dispatcher)
            }
        }
    });
    dispatchers.collect()
}

/// What stands behind each line of that kind.
fn lines(kind: &str) -> Vec<Vec<Vec<u8>>> {
    let bytes = |word: &str| if word == "-" { Vec::new() } else { hex::decode(word).unwrap() };
    let found: Vec<Vec<Vec<u8>>> = NIST
        .lines()
        .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
        .map(|line| line.split(' ').map(bytes).collect())
        .collect();
    assert!(!found.is_empty(), "the file has lines of kind {kind}");
    found
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap()
}

#[test]
fn the_messages_of_nist_have_their_digests() {
    let lines: Vec<_> = [lines("fips"), lines("msg")].concat();
    assert_eq!(lines.len(), 3 + 65 + 5);
    let messages: Vec<&[u8]> = lines.iter().map(|line| line[0].as_slice()).collect();
    let expected: Vec<_> = lines.iter().map(|line| hash(&line[1])).collect();
    for dispatcher in dispatchers() {
        // All at once, each alone, and each with its first bytes as the prefix.
        let mut hashes = vec![[0; 32]; messages.len()];
        dispatcher.sha256_many(&[], &messages, &mut hashes);
        assert_eq!(hashes, expected, "{}", dispatcher.report());
        for (message, expected) in messages.iter().zip(&expected) {
            for prefix_size in [0, 1, 7, 32] {
                let (prefix, rest) = message.split_at(prefix_size.min(message.len()));
                let mut hash = [[0; 32]];
                dispatcher.sha256_many(prefix, &[rest], &mut hash);
                assert_eq!(hash, [*expected], "{}", dispatcher.report());
            }
        }
    }
}

#[test]
fn the_monte_carlo_chain_of_nist_passes_its_checkpoints() {
    // "The Secure Hash Algorithm Validation System", 6.4: 1,000 times the hash of the last three digests, from a seed
    // that stands for three. Each checkpoint seeds the next, so all hundred can run side by side.
    let digests: Vec<_> = lines("monte").iter().map(|line| hash(&line[0])).collect();
    let mut seeds = vec![hash(&lines("seed")[0][0])];
    seeds.extend(&digests[..digests.len() - 1]);
    for dispatcher in dispatchers() {
        let mut last_three: Vec<_> = seeds.iter().map(|seed| [*seed; 3]).collect();
        let mut next = vec![[0; 32]; seeds.len()];
        for _ in 0..1_000 {
            let messages: Vec<&[u8]> =
                last_three.iter().map(|three| three.as_flattened()).collect();
            dispatcher.sha256_many(&[], &messages, &mut next);
            for (three, next) in last_three.iter_mut().zip(&next) {
                *three = [three[1], three[2], *next];
            }
        }
        assert_eq!(next, digests, "{}", dispatcher.report());
    }
}

#[test]
fn batches_of_every_size_and_mixed_lengths_are_as_each_alone() {
    let mut random = fastrand::Rng::with_seed(7);
    for count in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 200] {
        for prefix_size in [0, 1, 32] {
            let prefix = vec![0x11; prefix_size];
            let messages: Vec<Vec<u8>> = (0..count)
                .map(|_| (0..random.usize(0..=130)).map(|_| random.u8(..)).collect())
                .collect();
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let mut expected = vec![[0; 32]; count];
            Scalar.sha256_many(&prefix, &messages, &mut expected);
            for dispatcher in dispatchers() {
                let mut hashes = vec![[0; 32]; count];
                dispatcher.sha256_many(&prefix, &messages, &mut hashes);
                assert_eq!(hashes, expected, "{count} messages, {}", dispatcher.report());
            }
        }
    }
}

#[test]
fn nodes_and_chains_of_every_count_are_as_each_alone() {
    let mut random = fastrand::Rng::with_seed(8);
    for count in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 49, 100] {
        let pairs: Vec<[[u8; 32]; 2]> =
            (0..count).map(|_| [(); 2].map(|()| std::array::from_fn(|_| random.u8(..)))).collect();
        let (mut nodes, mut chains) = (vec![[0; 32]; count], Vec::new());
        Scalar.sha256_nodes(1, &pairs, &mut nodes);
        chains.clone_from(&nodes);
        Scalar.sha256_chains(&mut chains, 11);
        for dispatcher in dispatchers() {
            let mut hashes = vec![[0; 32]; count];
            dispatcher.sha256_nodes(1, &pairs, &mut hashes);
            assert_eq!(hashes, nodes, "{count} nodes, {}", dispatcher.report());
            dispatcher.sha256_chains(&mut hashes, 0);
            assert_eq!(hashes, nodes, "{count} chains of nothing, {}", dispatcher.report());
            dispatcher.sha256_chains(&mut hashes, 11);
            assert_eq!(hashes, chains, "{count} chains, {}", dispatcher.report());
        }
    }
}

#[test]
fn the_default_serves_what_the_environment_says() {
    let report = quipu_accel::default().report();
    println!("{report}");
    let word = std::env::var(quipu_accel::CHOICE_VARIABLE).unwrap_or_default();
    assert_eq!(report.choice, word.parse().unwrap_or(Choice::Auto));
    let serves = |family: &str| {
        let mut found = report.backends.iter().filter(|one| one.name.starts_with(family));
        found.any(|backend| matches!(backend.state, BackendState::Serves { .. }))
    };
    match (report.choice, report.fallback) {
        (choice, Some(other)) => {
            println!("SKIPPED {choice}: this machine does not have it; {other} is tested");
            assert!(serves(&other.to_string()));
        }
        (Choice::Auto, None) => assert!(serves("scalar")),
        (choice, None) => assert!(serves(&choice.to_string())),
    }
}
