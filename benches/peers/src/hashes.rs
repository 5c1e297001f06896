//! Cases of hashing: chains, nodes, trees; keccak and BLAKE2b.
//!
//! Every case is checked against the plain loop over `sha2` before it is timed.

use std::rc::Rc;

use quipu_accel::{Accel, BatchBackend, Choice, Dispatcher};

use crate::machine::Machine;
use crate::measure::{Case, Owner};

type Hash = [u8; 32];

const CHAIN_STEP_COUNT: u64 = 1_000;
const NODE_COUNT: usize = 1 << 14;
const LEAF_COUNT: usize = 1 << 13;
const LEAF_SIZE: usize = 200;
const LEAF_PREFIX: u8 = 0;
const NODE_PREFIX: u8 = 1;

/// Somebody's SHA-256, in the three shapes that are measured.
trait Hasher {
    fn leaves(&self, messages: &[&[u8]], out: &mut [Hash]);
    fn nodes(&self, pairs: &[[Hash; 2]], out: &mut [Hash]);
    fn chains(&self, starts: &mut [Hash], count: u64);
}

/// One message after another, by two functions of a peer: of a whole message, and of a prefix and a message.
struct Each {
    whole: fn(&[u8]) -> Hash,
    prefixed: fn(&[u8], &[u8]) -> Hash,
}

impl Hasher for Each {
    fn leaves(&self, messages: &[&[u8]], out: &mut [Hash]) {
        for (message, hash) in messages.iter().zip(out) {
            *hash = (self.prefixed)(&[LEAF_PREFIX], message);
        }
    }

    fn nodes(&self, pairs: &[[Hash; 2]], out: &mut [Hash]) {
        let mut message = [NODE_PREFIX; 65];
        for (pair, hash) in pairs.iter().zip(out) {
            message[1..].copy_from_slice(pair.as_flattened());
            *hash = (self.whole)(&message);
        }
    }

    fn chains(&self, starts: &mut [Hash], count: u64) {
        for hash in starts {
            for _ in 0..count {
                *hash = (self.whole)(hash);
            }
        }
    }
}

const SHA2: Each = Each {
    whole: |message| {
        use sha2::{Digest, Sha256};
        Sha256::digest(message).into()
    },
    prefixed: |prefix, message| {
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(prefix).chain_update(message).finalize().into()
    },
};

const RING: Each = Each {
    whole: |message| {
        let digest = ring::digest::digest(&ring::digest::SHA256, message);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    },
    prefixed: |prefix, message| {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(prefix);
        context.update(message);
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    },
};

const AWS: Each = Each {
    whole: |message| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    },
    prefixed: |prefix, message| {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(prefix);
        context.update(message);
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    },
};

struct Tape;

impl Hasher for Tape {
    fn leaves(&self, messages: &[&[u8]], out: &mut [Hash]) {
        tape_sha256::hash_many_prefixed(&[LEAF_PREFIX], messages, out);
    }

    fn nodes(&self, pairs: &[[Hash; 2]], out: &mut [Hash]) {
        // Both hashes as one message: faster than `hash_pairs`, which wants two lists of slices.
        let bodies: Vec<&[u8]> = pairs.iter().map(|pair| pair.as_flattened()).collect();
        tape_sha256::hash_many_prefixed(&[NODE_PREFIX], &bodies, out);
    }

    fn chains(&self, starts: &mut [Hash], count: u64) {
        if let [start] = starts {
            *start = tape_sha256::hash_chain(start, count);
            return;
        }
        let seeds = starts.to_vec();
        tape_sha256::hash_chains(&seeds, &vec![count; seeds.len()], starts);
    }
}

impl Hasher for Dispatcher {
    fn leaves(&self, messages: &[&[u8]], out: &mut [Hash]) {
        self.sha256_many(&[LEAF_PREFIX], messages, out);
    }

    fn nodes(&self, pairs: &[[Hash; 2]], out: &mut [Hash]) {
        self.sha256_nodes(NODE_PREFIX, pairs, out);
    }

    fn chains(&self, starts: &mut [Hash], count: u64) {
        self.sha256_chains(starts, count);
    }
}

/// A device alone: no dispatcher, so an error ends the run.
struct Device(Box<dyn BatchBackend>);

impl Hasher for Device {
    fn leaves(&self, messages: &[&[u8]], out: &mut [Hash]) {
        self.0.sha256_many(&[LEAF_PREFIX], messages, out).expect("the device takes the batch");
    }

    fn nodes(&self, pairs: &[[Hash; 2]], out: &mut [Hash]) {
        self.0.sha256_nodes(NODE_PREFIX, pairs, out).expect("the device takes the batch");
    }

    fn chains(&self, starts: &mut [Hash], count: u64) {
        let before = starts.to_vec();
        self.0.sha256_chains(&before, count, starts).expect("the device takes the batch");
    }
}

/// Everybody who hashes here.
fn hashers(now_ns: &dyn Fn() -> u64) -> Vec<(String, Owner, Rc<dyn Hasher>)> {
    let mut all: Vec<(String, Owner, Rc<dyn Hasher>)> = vec![
        ("sha2".into(), Owner::Peer, Rc::new(SHA2)),
        ("ring".into(), Owner::Peer, Rc::new(RING)),
        ("aws-lc-rs".into(), Owner::Peer, Rc::new(AWS)),
        (format!("tape-sha256, {}", tape_sha256::backend()), Owner::Peer, Rc::new(Tape)),
    ];
    for choice in [Choice::Auto, Choice::Avx512, Choice::Avx2, Choice::ShaNi, Choice::Scalar] {
        let dispatcher = Dispatcher::new(choice, Vec::new());
        dispatcher.calibrate(now_ns);
        if dispatcher.report().fallback.is_some() {
            println!("SKIPPED {choice}: not on this machine");
        } else {
            all.push((format!("quipu, {choice}"), Owner::Ours, Rc::new(dispatcher)));
        }
    }
    let host = Device(Box::new(quipu_accel::gpu::Host));
    all.push(("quipu, the GPU's text as host C".into(), Owner::Ours, Rc::new(host)));
    match quipu_accel::gpu::Cuda::open() {
        Ok(cuda) => {
            let name = format!("quipu, {}", cuda.device());
            all.push((name, Owner::Ours, Rc::new(Device(Box::new(cuda)))));
        }
        Err(error) => println!("SKIPPED cuda: {error}"),
    }
    all
}

fn random_hashes(count: usize) -> Vec<Hash> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..count).map(|_| std::array::from_fn(|_| random.u8(..))).collect()
}

/// The root over `leaves`, level by level; their number is a power of two.
fn root(hasher: &dyn Hasher, messages: &[&[u8]]) -> Hash {
    let mut level = vec![[0; 32]; messages.len()];
    hasher.leaves(messages, &mut level);
    let mut next = vec![[0; 32]; messages.len() / 2];
    while level.len() > 1 {
        let count = level.len() / 2;
        hasher.nodes(level.as_chunks().0, &mut next[..count]);
        level.truncate(count);
        level.copy_from_slice(&next[..count]);
    }
    level[0]
}

fn chain_case(
    what: &'static str,
    count: usize,
    (way, owner, hasher): (String, Owner, Rc<dyn Hasher>),
    bound: f64,
) -> Case {
    let (mut checked, mut expected) = (random_hashes(count), random_hashes(count));
    hasher.chains(&mut checked, 3);
    SHA2.chains(&mut expected, 3);
    assert_eq!(checked, expected, "{way}");
    let mut starts = random_hashes(count);
    // A lone chain is as long as all of many together are not, so that calls cost the same.
    let steps = if count == 1 { 16 * CHAIN_STEP_COUNT } else { CHAIN_STEP_COUNT };
    let item_count = count * usize::try_from(steps).expect("few");
    let run = Box::new(move || hasher.chains(&mut starts, steps));
    Case { what, way, owner, item_count, bound: Some(bound), run }
}

fn node_case((way, owner, hasher): (String, Owner, Rc<dyn Hasher>), bound: f64) -> Case {
    let hashes = random_hashes(2 * NODE_COUNT);
    let pairs = hashes.as_chunks::<2>().0.to_vec();
    let (mut out, mut expected) = (vec![[0; 32]; NODE_COUNT], vec![[0; 32]; NODE_COUNT]);
    hasher.nodes(&pairs, &mut out);
    SHA2.nodes(&pairs, &mut expected);
    assert_eq!(out, expected, "{way}");
    let run = Box::new(move || hasher.nodes(&pairs, &mut out));
    let what = "node of 65 bytes";
    Case { what, way, owner, item_count: NODE_COUNT, bound: Some(bound), run }
}

fn tree_case((way, owner, hasher): (String, Owner, Rc<dyn Hasher>), bound: f64) -> Case {
    let mut random = fastrand::Rng::with_seed(2);
    let leaves: Vec<Vec<u8>> =
        (0..LEAF_COUNT).map(|_| (0..LEAF_SIZE).map(|_| random.u8(..)).collect()).collect();
    let slices = |leaves: &[Vec<u8>]| -> Hash {
        root(&*hasher, &leaves.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let expected = root(&SHA2, &leaves.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(slices(&leaves), expected, "{way}");
    let run = Box::new(move || {
        let messages: Vec<&[u8]> = leaves.iter().map(Vec::as_slice).collect();
        std::hint::black_box(root(&*hasher, &messages));
    });
    let what = "leaf of 200 bytes in a tree";
    Case { what, way, owner, item_count: LEAF_COUNT, bound: Some(bound), run }
}

/// 64-byte nodes by `hashtree-rs`: it cannot take our prefix, so it stands beside and not against.
fn hashtree_case(bound: f64) -> Case {
    hashtree_rs::init();
    let chunks = random_hashes(2 * NODE_COUNT).into_flattened();
    let mut out = vec![0; 32 * NODE_COUNT];
    hashtree_rs::hash(&mut out, &chunks, NODE_COUNT);
    assert_eq!(out[..32], (SHA2.whole)(&chunks[..64]), "hashtree-rs");
    let run = Box::new(move || hashtree_rs::hash(&mut out, &chunks, NODE_COUNT));
    let (what, way) = ("node of 64 bytes", "hashtree-rs".to_owned());
    Case { what, way, owner: Owner::Near, item_count: NODE_COUNT, bound: Some(bound), run }
}

/// keccak-256 and BLAKE2b-256 of 200 bytes, by ours alone.
fn other_cases(machine: &Machine) -> Vec<Case> {
    let accel = quipu_accel::default();
    let messages = || vec![vec![7_u8; LEAF_SIZE]; 1 << 10];
    let (for_keccak, for_blake) = (messages(), messages());
    let mut hashes = vec![[0; 32]; for_keccak.len()];
    let mut digests = hashes.clone();
    let case = |what, bound: Option<f64>, run: Box<dyn FnMut()>| {
        // 200 bytes are two blocks of either.
        let bound = bound.map(|blocks| blocks / 2.0);
        Case { what, way: "quipu".into(), owner: Owner::Ours, item_count: 1 << 10, bound, run }
    };
    vec![
        case(
            "keccak-256 of 200 bytes",
            machine.keccak(),
            Box::new(move || {
                let messages: Vec<&[u8]> = for_keccak.iter().map(Vec::as_slice).collect();
                accel.keccak256_many(&messages, &mut hashes);
            }),
        ),
        case(
            "BLAKE2b-256 of 200 bytes",
            machine.blake2b(),
            Box::new(move || {
                let messages: Vec<&[u8]> = for_blake.iter().map(Vec::as_slice).collect();
                accel.blake2b256_many(&messages, &mut digests);
            }),
        ),
    ]
}

/// Every case of hashing.
pub(crate) fn cases(machine: &Machine, now_ns: &dyn Fn() -> u64) -> Vec<Case> {
    let hashers = hashers(now_ns);
    let (serial, wide) = (machine.sha256_serial(), machine.sha256_wide());
    let all = || hashers.iter().cloned();
    let mut cases = Vec::new();
    cases.extend(all().map(|hasher| chain_case("chain, alone", 1, hasher, serial)));
    cases.extend(all().map(|hasher| chain_case("chain, 16 at once", 16, hasher, wide)));
    cases.extend(all().map(|hasher| chain_case("chain, 256 at once", 256, hasher, wide)));
    cases.extend(all().map(|hasher| node_case(hasher, wide / 2.0)));
    cases.push(hashtree_case(wide / 2.0));
    // A leaf with its prefix is four blocks, and there is about one node for each.
    cases.extend(all().map(|hasher| tree_case(hasher, wide / 6.0)));
    cases.extend(other_cases(machine));
    cases
}
