//! No bytes of a peer make a replica panic: garbage, cut, changed and mixed messages.

use std::sync::LazyLock;

use expect_test::expect;
use proptest::prelude::*;
use quipu_replica::{Input, PeerMessage, Received, Request, Stripe, peer, receive};
use quipu_types::{ChunkHeader, Decode, Encode, Hash, Height, Lane, Seqno, Signature, SignedState};

use crate::common::admissions;
use crate::net::{Net, number};

/// Messages of every kind that four validators exchanged.
static HEARD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    // Two transactions travel in stripes, one goes whole.
    let mut net = Net::striped(500);
    let sequencer = net.sequencer(1, 1);
    let client = net.client(1, 0);
    let away = (sequencer + 2) % 4;
    for sequence in 1..=3 {
        net.submit((sequencer + 1) % 4, sequence, net.transaction(client, sequence));
        net.pass(10_000);
    }
    for sequence in 4..=6 {
        net.submit((sequencer + 1) % 4, sequence, net.transaction(client, sequence));
    }
    net.pass(10_000);
    net.down(away);
    net.pass(2_500_000);
    net.up(away);
    net.pass(500_000);
    net.step(sequencer, Input::Stop);
    net.pass(500_000);
    net.heard
});

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn garbage_is_refused(tag in 0_u8..17, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let net = Net::new();
        let mut all = vec![tag];
        all.extend(bytes);
        let _ = receive(net.context(), &admissions(net.context()), &all);
    }

    /// What comes through is given to a replica that is in another state than the one it was meant for.
    #[test]
    fn changed_messages_are_taken_or_refused(
        picks in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..9, 1_usize..4), 1..40,
        ),
    ) {
        let mut net = Net::new();
        for (message, place, bit, from) in picks {
            let mut bytes = HEARD[message.index(HEARD.len())].clone();
            let place = place.index(bytes.len());
            match bit {
                8 => bytes.truncate(place),
                bit if place % 3 == 0 => bytes[place] ^= 1 << bit,
                _ => {}
            }
            if let Ok(received) = receive(net.context(), &admissions(net.context()), &bytes) {
                net.step(0, Input::Received { from: number(from), received });
            }
        }
        net.pass(20_000);
    }
}

/// A state of a height that nobody executed.
fn claim(height: u64, root: u8) -> SignedState {
    let (state_root, receipts_root) = (Hash([root; 32]), Hash([!root; 32]));
    SignedState { height: Height::new(height), state_root, receipts_root, next_set: None }
}

/// All that is said, with claims of `(height, root)` that reach a validator before a transaction of so many.
fn said(claims: &[(usize, usize, u64, u8)]) -> Vec<Vec<u8>> {
    let mut net = Net::new();
    for sequence in 1..=5 {
        for (to, _, height, root) in claims.iter().filter(|(_, at, ..)| *at == sequence) {
            let received = Received::Claim(claim(*height, *root));
            net.step(*to, Input::Received { from: number((*to + 1) % 4), received });
        }
        for gateway in 0..4 {
            let client = net.client(u16::try_from(gateway % 2).expect("few"), gateway / 2);
            let sequence = u64::try_from(sequence).expect("few");
            net.submit(gateway, sequence, net.transaction(client, sequence));
        }
        net.pass(7_000);
    }
    net.heard
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    assert_eq!(said(&[]), said(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Nobody signs what another claims, or says anything else for it.
    #[test]
    fn claims_change_nothing_that_is_said(
        claims in proptest::collection::vec((0_usize..4, 1_usize..6, 0_u64..12, any::<u8>()), 1..20),
    ) {
        prop_assert_eq!(said(&claims), said(&[]));
    }
}

#[test]
fn encodings_are_frozen() {
    let (lane, height) = (Lane::new(1), Height::new(2));
    let tip = quipu_consensus::genesis_cut(2)[1];
    let signature = Signature([3; 64]);
    let handover =
        peer::Handover { lane, term: tip.term, index: 9, validator: number(1), signature };
    let header = ChunkHeader {
        lane,
        term: tip.term,
        branch: tip.lane_root,
        index: 4,
        first_seqno: Seqno::new(5),
        count: 6,
        prev: tip.chunk_hash,
        lane_root: tip.lane_root,
        body_digest: Hash([7; 32]),
        stripes: Some(Hash([8; 32])),
        clock: Vec::new(),
    };
    let part =
        quipu_net::stripes::Stripe { index: 2, bytes: vec![1; 8], path: vec![Hash([9; 32])] };
    let stripe = Stripe { header, signature, stripe: part };
    let messages = [
        PeerMessage::Forward {
            is_overdue: true,
            transactions: vec![vec![1, 2].into(), vec![].into()],
        },
        PeerMessage::Fetch(Request::Headers { from: height }),
        PeerMessage::Fetch(Request::Chunks { first: 4, tip }),
        PeerMessage::Fetch(Request::Value { height, digest: tip.lane_root }),
        PeerMessage::Headers(Vec::new()),
        PeerMessage::Ask { nonce: 5 },
        PeerMessage::Tell { nonce: 5, height, certificate: None },
        PeerMessage::Handover(handover),
        PeerMessage::Stripe(stripe),
        PeerMessage::Claim(claim(2, 4)),
        PeerMessage::Leaving { until: height },
    ];
    let mut bytes = Vec::new();
    for message in messages {
        let own = message.to_bytes();
        assert_eq!(PeerMessage::from_bytes(&own), Ok(message));
        bytes.extend(own);
    }
    expect!["7df8a5e866b43e37dbc21247123431ba9c9397fcdc4eaa963ed572b4b2ec78db"]
        .assert_eq(&quipu_crypto::sha256(&bytes).to_string());
}

#[test]
fn the_messages_that_are_changed_are_of_every_kind() {
    let mut kinds: Vec<u8> = HEARD.iter().map(|bytes| bytes[0]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(
        kinds,
        [1, 2, 3, 4, 5, 9, 13, 17],
        "agreement, chunk, forward, fetch, headers, handover, stripe, leaving"
    );
}
