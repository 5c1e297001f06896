//! The trie against its oracle, its proofs, its totality.

use std::collections::BTreeMap;

use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Sha256Jmt};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use quipu_crypto::hash::sha256;
use quipu_proof::trie::{shared_bits, verify_subtree};

use super::*;
use crate::store::{MemoryStore, Store};
use crate::view::View;

/// The oracle's store: always empty, so that it builds its tree from nothing.
struct Nothing;

impl TreeReader for Nothing {
    fn get_node_option(&self, _: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(None)
    }

    fn get_value_option(&self, _: u64, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

type Map = BTreeMap<Hash, Vec<u8>>;

fn root_by_oracle(map: &Map) -> Hash {
    let values = map.iter().map(|(key, value)| (KeyHash(key.0), Some(value.clone())));
    let (root, _) = Sha256Jmt::new(&Nothing).put_value_set(values, 0).expect("the oracle builds");
    Hash(root.0)
}

fn view() -> View<MemoryStore> {
    View { store: MemoryStore::new(), overlay: WriteBatch::new() }
}

fn write(view: &mut View<MemoryStore>, changes: &BTreeMap<Hash, Option<Vec<u8>>>) -> Hash {
    let changes: Vec<Change> =
        changes.iter().map(|(key, value)| (*key, value.as_deref().map(sha256))).collect();
    let mut batch = WriteBatch::new();
    let root = update(view, &changes, &mut batch).expect("memory does not fail");
    view.store.commit(&batch).expect("memory does not fail");
    root
}

fn change(map: &mut Map, changes: &BTreeMap<Hash, Option<Vec<u8>>>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(*key, value.clone()),
            None => map.remove(key),
        };
    }
}

/// Keys that share long prefixes as often as short ones, so that deep pages appear and collapse.
fn key() -> impl Strategy<Value = Hash> {
    (0_usize..64, any::<u8>(), any::<bool>()).prop_map(|(depth, byte, spread)| {
        let mut key = if spread { sha256(&[byte % 40]).0 } else { [0; 32] };
        if !spread {
            key[depth / 2] = byte & if depth % 2 == 0 { 0xf0 } else { 0x0f };
        }
        Hash(key)
    })
}

fn batches() -> impl Strategy<Value = Vec<BTreeMap<Hash, Option<Vec<u8>>>>> {
    vec(btree_map(key(), option::weighted(0.6, vec(any::<u8>(), 0..3)), 0..30), 1..8)
}

#[test]
fn published_vectors_of_the_oracle_give_their_roots() {
    // github.com/penumbra-zone/jmt 0.12, src/tests/sha2_256_vectors.json
    let vectors: [(&[(&str, &str)], &str); 3] = [
        (&[], "5350415253455f4d45524b4c455f504c414345484f4c4445525f484153485f5f"),
        (&[("hello", "world")], "6b97115f56e533f2fd443f7e76e4d1ff94d34e6b2e233f2dbdf5cfd1ec39a30c"),
        (
            &[("hello", "world"), ("goodbye", "world")],
            "e1e1e220d4b4a9611a9a09dbcee964b4a6c3a40f6f4dee265ad45cf64568790b",
        ),
    ];
    for (pairs, root) in vectors {
        let changes = pairs
            .iter()
            .map(|(key, value)| (sha256(key.as_bytes()), Some(value.as_bytes().to_vec())));
        assert_eq!(write(&mut view(), &changes.collect()).to_string(), root);
    }
}

proptest! {
    #[test]
    fn roots_equal_the_oracle_s_after_every_batch(batches in batches()) {
        let (mut view, mut map) = (view(), Map::new());
        for changes in batches {
            let given = write(&mut view, &changes);
            change(&mut map, &changes);
            prop_assert_eq!(given, root_by_oracle(&map));
            prop_assert_eq!(root(&view).expect("memory does not fail"), given);
        }
    }

    #[test]
    fn all_keys_that_begin_with_some_bits_are_shown_by_one_path_and_no_others_are(
        batches in batches(),
        asked in vec((key(), 0..=PATH_SIZE_MAX), 1..12),
        other in key(),
    ) {
        let (mut view, mut map, mut root) = (view(), Map::new(), EMPTY_ROOT);
        for changes in &batches {
            root = write(&mut view, changes);
            change(&mut map, changes);
        }
        for (start, bits) in asked {
            let is_below = |key: &Hash| shared_bits(key, &start) >= bits;
            let mut proof = prove(&view, &start, bits).expect("memory does not fail");
            proof.leaf = proof.leaf.filter(|(key, _)| !is_below(key));
            let leaves: Vec<(Hash, Hash)> = map
                .iter()
                .filter(|(key, _)| is_below(key))
                .map(|(key, value)| (*key, sha256(value)))
                .collect();
            prop_assert!(verify_subtree(&root, &start, bits, &leaves, &proof));
            for index in 0..leaves.len() {
                let mut fewer = leaves.clone();
                let (key, _) = fewer.remove(index);
                prop_assert!(!verify_subtree(&root, &start, bits, &fewer, &proof));
                let alone = prove(&view, &key, PATH_SIZE_MAX).expect("memory does not fail");
                prop_assert!(!verify_subtree(&root, &start, bits, &fewer, &alone));
                let mut changed = leaves.clone();
                changed[index].1 = sha256(b"other");
                prop_assert!(!verify_subtree(&root, &start, bits, &changed, &proof));
            }
            if !map.contains_key(&other) {
                let mut more = leaves.clone();
                more.push((other, sha256(b"other")));
                more.sort();
                prop_assert!(!verify_subtree(&root, &start, bits, &more, &proof));
            }
        }
    }

    #[test]
    fn the_same_map_by_another_way_gives_the_same_pages(batches in batches()) {
        let (mut view_a, mut map) = (view(), Map::new());
        for changes in &batches {
            write(&mut view_a, changes);
            change(&mut map, changes);
        }
        let mut view_b = view();
        for (key, value) in map.iter().rev() {
            write(&mut view_b, &BTreeMap::from([(*key, Some(value.clone()))]));
        }
        let rows = |view: &View<MemoryStore>| view.store.scan(Table::Trie, b"", usize::MAX).ok();
        prop_assert_eq!(rows(&view_a), rows(&view_b));
    }

    #[test]
    fn every_key_is_proven_present_or_absent_and_never_both(
        batches in batches(),
        asked in vec(key(), 1..20),
    ) {
        let (mut view, mut map, mut root) = (view(), Map::new(), EMPTY_ROOT);
        for changes in &batches {
            root = write(&mut view, changes);
            change(&mut map, changes);
        }
        for key in map.keys().copied().chain(asked) {
            let proof = prove(&view, &key, PATH_SIZE_MAX).expect("memory does not fail");
            let value = map.get(&key).map(|value| sha256(value));
            let other = sha256(b"other");
            prop_assert!(verify_trie(&root, &key, value.as_ref(), &proof));
            prop_assert!(!verify_trie(&root, &key, Some(&other), &proof));
            prop_assert!(!verify_trie(&other, &key, value.as_ref(), &proof));
            if value.is_some() {
                prop_assert!(!verify_trie(&root, &key, None, &proof));
            }
            prop_assert_eq!(TrieProof::from_bytes(&proof.to_bytes()), Ok(proof));
        }
    }

    #[test]
    fn a_proof_with_any_bit_flipped_is_refused(
        changes in btree_map(key(), vec(any::<u8>(), 0..3), 1..30),
        asked in key(),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut view = view();
        let changes = changes.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let root = write(&mut view, &changes);
        let value = changes.get(&asked).and_then(Option::as_deref).map(sha256);
        let proof = prove(&view, &asked, PATH_SIZE_MAX).expect("memory does not fail");
        let mut bytes = proof.to_bytes();
        bytes[place.index(proof.to_bytes().len())] ^= 1 << bit;
        if let Ok(forged) = TrieProof::from_bytes(&bytes) {
            prop_assert!(!verify_trie(&root, &asked, value.as_ref(), &forged));
        }
    }

    #[test]
    fn no_bytes_make_a_page_or_a_proof_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(page) = Page::from_value(&bytes) {
            prop_assert_eq!(page.to_bytes(), bytes.clone());
        }
        if let Ok(proof) = TrieProof::from_bytes(&bytes) {
            prop_assert_eq!(proof.to_bytes(), bytes);
        }
    }
}

#[test]
fn a_missing_or_damaged_page_is_named_and_nothing_is_written() {
    let mut view = view();
    let keys: Vec<Hash> = (0..100_u8).map(|byte| sha256(&[byte])).collect();
    write(&mut view, &keys.iter().map(|key| (*key, Some(vec![1]))).collect());
    let pages = view.store.scan(Table::Trie, b"", usize::MAX).expect("memory does not fail");
    for (place, _) in pages {
        let healthy = view.store.clone();
        for value in [None, Some(vec![0; 3])] {
            if place == [0] && value.is_none() {
                continue; // no root page is how an empty trie looks; the machine checks its root at start
            }
            let mut batch = WriteBatch::new();
            batch.set(Table::Trie, place.clone(), value);
            view.store.commit(&batch).expect("memory does not fail");
            let mut out = WriteBatch::new();
            let changes: Vec<Change> = {
                let mut keys = keys.clone();
                keys.sort();
                keys.iter().map(|key| (*key, None)).collect()
            };
            let error = update(&view, &changes, &mut out).expect_err("the page is damaged");
            assert!(matches!(error, StoreError::Damaged { key, .. } if key == place));
            view.store = healthy.clone();
        }
    }
}
