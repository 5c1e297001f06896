//! Trees against `ct-merkle` and the vectors of Certificate Transparency; paths with every fault.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use quipu_crypto::hash::{leaf_hash, node_hash};
use quipu_crypto::merkle::{
    Frontier, MemoryNodes, MerkleError, consistency_path, empty_root, frontier, inclusion_path,
    node_count, root, root_at, roots, subset_path, verify_consistency, verify_inclusion,
    verify_subset,
};
use quipu_types::{Decode, Encode, Hash};
use sha2_of_ct_merkle::Sha256;

/// Above a power of two, so that every kind of edge occurs.
const SIZE_MAX: u64 = 70;

fn data(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf_hash(&data(index))).collect()
}

fn oracle(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|index| tree.push(data(index)));
    tree
}

fn joined(path: &[Hash]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

/// The definition in RFC 9162, 2.1.1, word by word.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

/// All ways to spoil a path by one hash: changed, dropped, added, at each place, and swapped.
fn spoilt(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for place in 0..path.len() {
        let mut changed = path.to_vec();
        changed[place].0[31] ^= 1;
        all.push(changed);
        let mut shorter = path.to_vec();
        shorter.remove(place);
        all.push(shorter);
    }
    for place in 0..=path.len() {
        let mut longer = path.to_vec();
        longer.insert(place, Hash([7; 32]));
        all.push(longer);
    }
    for place in 1..path.len() {
        let mut swapped = path.to_vec();
        swapped.swap(place - 1, place);
        all.push(swapped);
    }
    all
}

#[test]
fn roots_are_those_of_certificate_transparency() {
    // The leaves and roots of the reference implementation's test tree.
    let data = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let leaves: Vec<Hash> =
        data.iter().map(|text| leaf_hash(&hex::decode(text).unwrap())).collect();
    let root_of = |size: usize| root(&leaves[..size]).to_string();
    assert_eq!(root_of(0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(root_of(1), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(root_of(2), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    assert_eq!(root_of(8), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
}

#[test]
fn roots_follow_the_definition_and_the_other_implementation_at_every_size() {
    let all = leaves(SIZE_MAX);
    let nodes = MemoryNodes::from_leaves(&all);
    let mut growing = Frontier::new();
    for size in 0..=SIZE_MAX {
        let prefix = &all[..usize::try_from(size).unwrap()];
        let expected = root_by_definition(prefix);
        assert_eq!(root(prefix), expected, "size {size}");
        assert_eq!(root_at(&nodes, size), Ok(expected), "size {size}");
        assert_eq!(growing.root(), expected, "size {size}");
        assert_eq!(oracle(size).root().as_bytes().as_slice(), expected.0, "size {size}");
        assert_eq!(frontier(&nodes, size).as_ref(), Ok(&growing), "size {size}");
        assert_eq!(growing.size(), size);
        if size < SIZE_MAX {
            growing.append(all[prefix.len()]);
        }
    }
}

#[test]
fn stored_nodes_only_grow_and_their_count_follows_from_the_size() {
    let mut tree = Frontier::new();
    let mut nodes = Vec::new();
    for (index, leaf) in (0..SIZE_MAX).zip(leaves(SIZE_MAX)) {
        assert_eq!(u64::try_from(nodes.len()), Ok(node_count(index)));
        let first = nodes.len();
        tree.append_with(leaf, |node| nodes.push(node));
        assert_eq!(nodes[first], leaf, "a leaf comes before the nodes that it completes");
        assert_eq!(nodes.last(), tree.peaks().last(), "the last node is the newest peak");
    }
    assert_eq!(node_count(1 << 62), (1 << 63) - 1);
}

#[test]
fn every_leaf_of_every_size_is_proven_as_the_other_implementation_does() {
    let all = leaves(SIZE_MAX);
    let nodes = MemoryNodes::from_leaves(&all);
    for size in 1..=SIZE_MAX {
        let tree = oracle(size);
        let root = root_at(&nodes, size).unwrap();
        for index in 0..size {
            let place = usize::try_from(index).unwrap();
            let path = inclusion_path(&nodes, index, size).unwrap();
            assert_eq!(joined(&path), tree.prove_inclusion(place).as_bytes());
            assert_eq!(verify_inclusion(&all[place], index, size, &path, &root), Ok(()));
        }
    }
}

#[test]
fn every_pair_of_sizes_is_proven_as_the_other_implementation_does() {
    let nodes = MemoryNodes::from_leaves(&leaves(SIZE_MAX));
    for new_size in 0..=SIZE_MAX {
        let tree = oracle(new_size);
        let new_root = root_at(&nodes, new_size).unwrap();
        for old_size in 0..=new_size {
            let old_root = root_at(&nodes, old_size).unwrap();
            let path = consistency_path(&nodes, old_size, new_size).unwrap();
            let verdict = verify_consistency(old_size, &old_root, new_size, &new_root, &path);
            assert_eq!(verdict, Ok(()), "{old_size} to {new_size}");
            if 0 < old_size && old_size < new_size {
                let added = usize::try_from(new_size - old_size).unwrap();
                assert_eq!(joined(&path), tree.prove_consistency(added).as_bytes());
            } else {
                assert!(path.is_empty(), "{old_size} to {new_size} has nothing to show");
            }
        }
    }
}

#[test]
fn an_inclusion_path_with_any_one_fault_is_refused() {
    let all = leaves(20);
    let nodes = MemoryNodes::from_leaves(&all);
    for size in 1..=20 {
        let root = root_at(&nodes, size).unwrap();
        for index in 0..size {
            let leaf = &all[usize::try_from(index).unwrap()];
            let path = inclusion_path(&nodes, index, size).unwrap();
            for path in spoilt(&path) {
                assert!(verify_inclusion(leaf, index, size, &path, &root).is_err());
            }
            for other in (0..=size).filter(|other| *other != index) {
                assert!(verify_inclusion(leaf, other, size, &path, &root).is_err());
            }
            let mut wrong = root;
            wrong.0[0] ^= 1;
            assert!(verify_inclusion(leaf, index, size, &path, &wrong).is_err());
            assert!(verify_inclusion(&wrong, index, size, &path, &root).is_err());
        }
    }
}

#[test]
fn a_consistency_path_with_any_one_fault_is_refused() {
    let nodes = MemoryNodes::from_leaves(&leaves(20));
    for new_size in 1..=20 {
        let new_root = root_at(&nodes, new_size).unwrap();
        for old_size in 0..=new_size {
            let old_root = root_at(&nodes, old_size).unwrap();
            let path = consistency_path(&nodes, old_size, new_size).unwrap();
            let check = |old: &Hash, new: &Hash, path: &[Hash]| {
                verify_consistency(old_size, old, new_size, new, path)
            };
            for path in spoilt(&path) {
                assert!(check(&old_root, &new_root, &path).is_err());
            }
            let flip = |hash: Hash| Hash(std::array::from_fn(|at| hash.0[at] ^ 0x10));
            assert!(check(&flip(old_root), &new_root, &path).is_err());
            // The empty tree is consistent with every tree: there the new root says nothing.
            if old_size > 0 {
                assert!(check(&old_root, &flip(new_root), &path).is_err());
            }
            if old_size != new_size {
                let reversed = verify_consistency(new_size, &new_root, old_size, &old_root, &path);
                assert_eq!(
                    reversed,
                    Err(MerkleError::SizesReversed { old_size: new_size, new_size: old_size })
                );
            }
        }
    }
}

#[test]
fn a_wrong_size_of_the_new_tree_is_refused_whenever_it_changes_the_path() {
    // With one path, sizes that ask for the same turns lead to the same root; the size itself is
    // bound by what signs (size, root). A size of another shape must fail by itself.
    let all = leaves(40);
    let nodes = MemoryNodes::from_leaves(&all);
    let root = root_at(&nodes, 33).unwrap();
    let path = inclusion_path(&nodes, 32, 33).unwrap();
    for size in [32, 34, 35, 40, 64, u64::MAX] {
        assert!(verify_inclusion(&all[32], 32, size, &path, &root).is_err(), "size {size}");
    }
}

#[test]
fn lengths_and_ranges_are_refused_by_name() {
    let all = leaves(5);
    let nodes = MemoryNodes::from_leaves(&all);
    let root = root(&all);
    let path = inclusion_path(&nodes, 0, 5).unwrap();
    let check = |index, size, path: &[Hash]| verify_inclusion(&all[0], index, size, path, &root);
    assert_eq!(check(5, 5, &path), Err(MerkleError::IndexBeyondSize { index: 5, size: 5 }));
    assert_eq!(check(0, 0, &[]), Err(MerkleError::IndexBeyondSize { index: 0, size: 0 }));
    assert_eq!(check(0, 5, &path[..2]), Err(MerkleError::PathTooShort { count: 2 }));
    let longer = [path.as_slice(), &[root]].concat();
    assert_eq!(check(0, 5, &longer), Err(MerkleError::PathTooLong { count: 4 }));
    let claimed = Hash::ZERO;
    assert_eq!(
        verify_inclusion(&all[0], 0, 5, &path, &claimed),
        Err(MerkleError::RootMismatch { computed: root, claimed })
    );
    let short = verify_consistency(3, &root, 5, &root, &[]);
    assert_eq!(short, Err(MerkleError::PathTooShort { count: 0 }));
}

#[test]
fn a_frontier_goes_on_from_its_bytes_as_if_never_stopped() {
    let all = leaves(SIZE_MAX);
    for size in 0..=all.len() {
        let mut stopped = Frontier::new();
        all[..size].iter().for_each(|leaf| stopped.append(*leaf));
        let bytes = stopped.to_bytes();
        assert!(bytes.len() <= Frontier::ENCODED_SIZE_MAX);
        let mut resumed = Frontier::from_bytes(&bytes).unwrap();
        assert_eq!(resumed, stopped);
        assert_eq!(Frontier::from_parts(stopped.size(), stopped.peaks().to_vec()), Ok(stopped));
        all[size..].iter().for_each(|leaf| resumed.append(*leaf));
        assert_eq!(resumed.root(), root(&all));
        assert!(Frontier::from_bytes(&[bytes.as_slice(), &[0; 32]].concat()).is_err());
        assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn a_frontier_whose_peaks_do_not_fit_its_size_is_refused() {
    for (size, count) in [(0, 1), (3, 1), (3, 3), (4, 2), (u64::MAX, 64), ((1 << 62) + 1, 2)] {
        let parts = Frontier::from_parts(size, vec![Hash::ZERO; count]);
        assert_eq!(parts, Err(MerkleError::MalformedFrontier { size, count }));
    }
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes.resize(8 + 64 * 32, 0);
    assert!(Frontier::from_bytes(&bytes).is_err());
}

proptest! {
    #[test]
    fn large_trees_prove_what_they_hold(size in 1_u64..5_000, at: prop::sample::Index, seed: u8) {
        let all: Vec<Hash> = (0..size).map(|n| leaf_hash(&[&n.to_le_bytes()[..], &[seed]].concat())).collect();
        let nodes = MemoryNodes::from_leaves(&all);
        let root = root_at(&nodes, size).unwrap();
        let place = at.index(all.len());
        let index = u64::try_from(place).unwrap();
        let path = inclusion_path(&nodes, index, size).unwrap();
        prop_assert_eq!(verify_inclusion(&all[place], index, size, &path, &root), Ok(()));
        let old_root = root_at(&nodes, index).unwrap();
        let path = consistency_path(&nodes, index, size).unwrap();
        prop_assert_eq!(verify_consistency(index, &old_root, size, &root, &path), Ok(()));
    }

    #[test]
    fn growing_by_many_is_growing_one_by_one(
        counts in prop::collection::vec(prop_oneof![0_usize..5, 0_usize..300], 0..8),
        seed: u8,
    ) {
        let mut leaves = (0_u64..).map(|n| leaf_hash(&[&n.to_le_bytes()[..], &[seed]].concat()));
        let (mut wide, mut plain) = (Frontier::new(), Frontier::new());
        for count in counts {
            let more: Vec<Hash> = leaves.by_ref().take(count).collect();
            let (mut made, mut wanted) = (Vec::new(), Vec::new());
            wide.extend_with(&more, |node| made.push(node));
            more.iter().for_each(|leaf| plain.append_with(*leaf, |node| wanted.push(node)));
            prop_assert_eq!(made, wanted);
            prop_assert_eq!(&wide, &plain);
        }
    }

    #[test]
    fn the_roots_of_many_trees_are_each_tree_s_own(
        counts in prop::collection::vec(prop_oneof![0_usize..4, 0_usize..70], 0..20),
        seed: u8,
    ) {
        let mut leaves = (0_u64..).map(|n| leaf_hash(&[&n.to_le_bytes()[..], &[seed]].concat()));
        let trees: Vec<Vec<Hash>> =
            counts.iter().map(|count| leaves.by_ref().take(*count).collect()).collect();
        let wanted: Vec<Hash> = trees
            .iter()
            .map(|tree| {
                let mut frontier = Frontier::new();
                tree.iter().for_each(|leaf| frontier.append(*leaf));
                frontier.root()
            })
            .collect();
        prop_assert_eq!(roots(trees.concat(), &counts), wanted);
    }

    #[test]
    fn no_bytes_make_a_check_panic(
        numbers in prop::array::uniform2(prop_oneof![0_u64..9, any::<u64>(), Just(u64::MAX), (0_u32..64).prop_map(|bit| 1 << bit)]),
        hashes in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
        bytes: Vec<u8>,
    ) {
        let [one, other] = numbers;
        let zero = Hash::ZERO;
        let _ = verify_inclusion(&zero, one, other, &hashes, &zero);
        let _ = verify_consistency(one, &zero, other, &zero, &hashes);
        let _ = Frontier::from_bytes(&bytes);
        let _ = Frontier::from_parts(one, hashes);
    }
}

proptest! {
    #[test]
    fn many_leaves_are_shown_by_what_stands_around_them(
        size in 1_usize..70, bounds in proptest::collection::btree_set(0_usize..71, 2..9),
        fault in 0_usize..6, at: prop::sample::Index,
    ) {
        let leaves = leaves(number(size));
        let bounds: Vec<usize> = bounds.into_iter().filter(|bound| *bound <= size).collect();
        let ranges: Vec<_> = bounds.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let path = subset_path(&leaves, &ranges);
        let known: Vec<(u64, Hash)> =
            ranges.into_iter().flatten().map(|index| (number(index), leaves[index])).collect();
        let shown = |known: &[(u64, Hash)], path: &[Hash]| {
            verify_subset(known, number(size), path, &root(&leaves))
        };
        prop_assert_eq!(shown(&known, &path), Ok(()));
        if let [(index, _)] = known[..] {
            // One leaf: the same hashes as its own path, in another order.
            let mut own = inclusion_path(&MemoryNodes::from_leaves(&leaves), index, number(size)).unwrap();
            let mut around = path.clone();
            own.sort_unstable();
            around.sort_unstable();
            prop_assert_eq!(own, around);
        }
        let (mut false_known, mut false_path) = (known.clone(), path.clone());
        match fault {
            0 if !known.is_empty() => false_known[at.index(known.len())].1.0[0] ^= 1,
            1 if !known.is_empty() => drop(false_known.remove(at.index(known.len()))),
            2 if !path.is_empty() => false_path[at.index(path.len())].0[31] ^= 1,
            3 if !path.is_empty() => drop(false_path.remove(at.index(path.len()))),
            4 => false_path.insert(at.index(path.len() + 1), Hash([7; 32])),
            5 if known.len() > 1 => {
                let (first, last) = (known[0].1, known[known.len() - 1].1);
                false_known[0].1 = last;
                false_known[known.len() - 1].1 = first;
            }
            _ => return Ok(()),
        }
        prop_assert!(shown(&false_known, &false_path).is_err());
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap()
}
