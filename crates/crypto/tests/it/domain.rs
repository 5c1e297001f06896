//! The signed bytes: their layout, and that no two domains share them.

use expect_test::expect;
use proptest::prelude::*;
use quipu_crypto::domain::{HEADER_SIZE, Tag, signing_bytes};
use quipu_types::Hash;

#[test]
fn the_layout_of_signed_bytes_is_frozen() {
    let bytes = signing_bytes(&Hash([0xc4; 32]), 0x0102, Tag::Precommit, b"body");
    expect![
        "71756970752f31c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4020100000000000006626f6479"
    ]
    .assert_eq(&hex::encode(bytes));
}

#[test]
fn each_tag_has_a_byte_of_its_own_from_1() {
    let bytes: Vec<u8> = Tag::ALL.into_iter().map(Tag::byte).collect();
    assert_eq!(bytes, (1..=19).collect::<Vec<u8>>());
}

#[test]
fn a_client_cannot_speak_in_an_epoch() {
    for tag in Tag::ALL {
        let result = std::panic::catch_unwind(|| signing_bytes(&Hash::ZERO, 1, tag, b""));
        assert_eq!(result.is_err(), tag.is_of_clients(), "{tag:?}");
    }
}

fn domain() -> impl Strategy<Value = (u8, u64, Tag, Vec<u8>)> {
    let tag = prop::sample::select(Tag::ALL.to_vec());
    (0..2_u8, 0..2_u64, tag, prop::collection::vec(0..2_u8, 0..3)).prop_map(
        |(chain, epoch, tag, body)| (chain, if tag.is_of_clients() { 0 } else { epoch }, tag, body),
    )
}

proptest! {
    #[test]
    fn two_messages_share_signed_bytes_only_if_they_are_one(one in domain(), other in domain()) {
        let signed = |(chain, epoch, tag, body): &(u8, u64, Tag, Vec<u8>)| {
            signing_bytes(&Hash([*chain; 32]), *epoch, *tag, body)
        };
        prop_assert_eq!(signed(&one) == signed(&other), one == other);
        prop_assert_eq!(signed(&one).len(), HEADER_SIZE + one.3.len());
    }
}
