//! Published vectors of every hash function by name.

use proptest::prelude::*;
use quipu_crypto::hash::{
    Sha256, blake2b256, blake3, keccak256, leaf_hash, node_hash, sha256, sha256_concat,
};
use quipu_types::Hash;

#[test]
fn each_function_gives_its_published_digests() {
    let table = [
        // FIPS 180-4.
        (sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        // The Keccak team's submission.
        (keccak256(b""), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (keccak256(b"abc"), "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        // RFC 7693 with a digest of 32 bytes.
        (blake2b256(b""), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
        (blake2b256(b"abc"), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
        // The BLAKE3 paper's vectors.
        (blake3(b""), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ];
    for (hash, expected) in table {
        assert_eq!(hash.to_string(), expected);
    }
}

proptest! {
    #[test]
    fn prefixes_and_pieces_are_the_hash_of_the_joined_bytes(
        data: Vec<u8>,
        left: [u8; 32],
        right: [u8; 32],
        cut: prop::sample::Index,
    ) {
        prop_assert_eq!(leaf_hash(&data), sha256(&[&[0], data.as_slice()].concat()));
        prop_assert_eq!(
            node_hash(&Hash(left), &Hash(right)),
            sha256(&[&[1], left.as_slice(), right.as_slice()].concat())
        );
        let (first, second) = data.split_at(cut.index(data.len() + 1));
        prop_assert_eq!(sha256_concat(&[first, second]), sha256(&data));
        let mut hasher = Sha256::new();
        hasher.update(first);
        hasher.update(second);
        prop_assert_eq!(hasher.finish(), sha256(&data));
    }
}
