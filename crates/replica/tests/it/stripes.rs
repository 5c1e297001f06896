//! Bodies in stripes: sent, passed on, lost, forged.

use quipu_net::stripes::{self, Code, StripeError};
use quipu_replica::{
    Input, PeerMessage, ReceiveError, Received, Refused, StoredChunk, Stripe, receive,
};
use quipu_types::{Decode, Encode, Hash, Lane, Signature};

use crate::chunks::{Forger, LANE, forsaken, hand, tip_index};
use crate::common::admissions;
use crate::net::{Net, number};

/// Transactions enough for a body that is worth stripes, at a validator that does not sequence the lane.
fn submit_some(net: &mut Net) -> (usize, u64) {
    let gateway = (net.sequencer(LANE, 1) + 1) % 4;
    let client = net.client(LANE, 0);
    for sequence in 1..=20 {
        net.submit(gateway, sequence, net.transaction(client, sequence));
    }
    (gateway, 20)
}

fn heard(net: &Net) -> Vec<PeerMessage> {
    net.heard.iter().map(|bytes| PeerMessage::from_bytes(bytes).expect("it was said")).collect()
}

/// Striped chunks of the lane under test with a body.
fn stripes_heard(net: &Net) -> Vec<Stripe> {
    let all = heard(net).into_iter();
    all.filter_map(|message| match message {
        PeerMessage::Stripe(stripe) => Some(stripe),
        _ => None,
    })
    .collect()
}

/// Whole chunks with a body.
fn whole_heard(net: &Net) -> usize {
    let whole = |message: &PeerMessage| matches!(message, PeerMessage::Chunk(stored) if !stored.body.is_empty());
    heard(net).iter().filter(|message| whole(message)).count()
}

#[test]
fn a_body_comes_in_stripes_that_each_passes_on_once() {
    let mut net = Net::striped(1);
    let (gateway, last) = submit_some(&mut net);
    net.until("it is answered", |net| net.is_answered(gateway, last));
    net.pass(50_000);
    for index in 0..4 {
        assert_eq!(net.ordered(index, LANE).len(), 20, "{}", net.told());
    }
    assert_eq!(whole_heard(&net), 0, "nobody sends a body whole");
    let stripes = stripes_heard(&net);
    let mut chunks: Vec<Hash> = stripes.iter().map(|own| own.header.prev).collect();
    chunks.sort_unstable();
    chunks.dedup();
    // Three of the sequencer, and each of the three to two others.
    assert_eq!(stripes.len(), 9 * chunks.len());
    net.assert_sound();
}

#[test]
fn small_bodies_go_whole() {
    let mut net = Net::striped(100_000);
    let (gateway, last) = submit_some(&mut net);
    net.until("it is answered", |net| net.is_answered(gateway, last));
    assert!(stripes_heard(&net).is_empty() && whole_heard(&net) > 0);
}

#[test]
fn who_is_silent_is_not_needed() {
    for silent in 1..4 {
        let mut net = Net::striped(1);
        let sequencer = net.sequencer(LANE, 1);
        let silent = (sequencer + silent) % 4;
        net.loses = Box::new(move |from, to, message| {
            let is_part = matches!(message, PeerMessage::Stripe(_) | PeerMessage::Fetch(_));
            is_part && (from == silent || to == silent)
        });
        let gateway = (0..4).find(|at| *at != sequencer && *at != silent).expect("four");
        let client = net.client(LANE, 0);
        net.submit(gateway, 1, net.transaction(client, 1));
        net.until("it is answered", |net| net.is_answered(gateway, 1));
        assert_eq!(whole_heard(&net), 0, "three hold it without asking");
    }
}

#[test]
fn who_lacks_stripes_fetches_the_chunk() {
    let mut net = Net::striped(1);
    let sequencer = net.sequencer(LANE, 1);
    // Only the sequencer's own stripes come: everyone knows the header and nobody has enough.
    net.loses = Box::new(move |from, _, message| {
        matches!(message, PeerMessage::Stripe(_)) && from != sequencer
    });
    let (gateway, last) = submit_some(&mut net);
    let took = net.until("it is answered", |net| net.is_answered(gateway, last));
    assert!(took <= 1_000_000, "{took} microseconds");
    assert!(whole_heard(&net) >= 3, "each asks for it");
    assert_eq!(net.term(gateway, usize::from(LANE)), 1, "nobody is suspected");
    net.assert_sound();
}

/// A chunk of a sequencer whose header names some root, with the stripes of some body under it.
fn striped(net: &Net, forger: &mut Forger, body: Option<Vec<u8>>) -> (StoredChunk, Vec<Stripe>) {
    let client = net.client(LANE, 0);
    let whole = forger.chunk(net, &[net.transaction(client, 1)]);
    let code = code(net);
    let (root, all) = stripes::encode(&code, &body.unwrap_or_else(|| whole.body.clone()));
    let mut header = whole.header;
    header.stripes = Some(root);
    let stored = forger.sign(net, header, whole.body);
    let of = |stripe| Stripe { header: stored.header.clone(), signature: stored.signature, stripe };
    let all = all.into_iter().map(of).collect();
    (stored, all)
}

fn code(net: &Net) -> Code {
    Code::of(&net.context().set, number(net.sequencer(LANE, 1))).expect("four have a code")
}

fn hand_stripe(net: &mut Net, to: usize, stripe: &Stripe) -> Result<(), ReceiveError> {
    let bytes = PeerMessage::Stripe(stripe.clone()).to_bytes();
    let received = receive(net.context(), &admissions(net.context()), &bytes)?;
    let from = number(net.sequencer(LANE, 1));
    net.step(to, Input::Received { from, received });
    Ok(())
}

#[test]
fn a_false_root_slows_only_its_own_sequencer() {
    let (mut net, [first, second, third]) = forsaken();
    // All stripes prove themselves, and are of another body.
    let (stored, stripes) = striped(&net, &mut Forger::new(&net), Some(vec![7; 300]));
    net.loses = Box::new(|_, _, message| matches!(message, PeerMessage::Stripe(_)));
    for stripe in &stripes {
        hand_stripe(&mut net, first, stripe).expect("it proves itself");
    }
    let refused = net.members[first].refused.clone();
    let reason = ReceiveError::Body { lane: Lane::new(LANE), index: 1 };
    assert_eq!(refused, [Refused::Restored { lane: Lane::new(LANE), index: 1, reason }]);
    assert!(!refused[0].is_offence(), "who passed them on is not to blame");
    assert_eq!(tip_index(&net, first), 0);
    for stripe in &stripes {
        hand_stripe(&mut net, first, stripe).expect("it proves itself");
    }
    assert_eq!(net.members[first].refused.len(), 1, "what gave nothing is not tried again");
    // The body decides, and it is right: whoever gets it by another way takes it.
    hand(&mut net, first, &stored).expect("the chunk itself is right");
    assert_eq!(tip_index(&net, first), 1);
    for other in [second, third] {
        for stripe in &stripes {
            hand_stripe(&mut net, other, stripe).expect("it proves itself");
        }
    }
    let took = net.until("the term ends", |net| net.term(first, usize::from(LANE)) == 2);
    assert!(took <= 1_500_000, "{took} microseconds");
}

#[test]
fn a_bad_transaction_in_stripes_ends_its_sequencer_s_term() {
    let (mut net, others) = forsaken();
    let foreign = net.client(0, 0);
    let mut forger = Forger::new(&net);
    let whole = forger.chunk(&net, &[net.transaction(foreign, 1)]);
    let (root, all) = stripes::encode(&code(&net), &whole.body);
    let mut header = whole.header;
    header.stripes = Some(root);
    let stored = forger.sign(&net, header, whole.body);
    for to in others {
        for stripe in &all {
            let (header, signature) = (stored.header.clone(), stored.signature);
            let stripe = Stripe { header, signature, stripe: stripe.clone() };
            hand_stripe(&mut net, to, &stripe).expect("it proves itself");
        }
    }
    net.until("the term ends", |net| net.term(others[0], usize::from(LANE)) == 2);
}

#[test]
fn what_does_not_prove_itself_is_refused_by_name() {
    let (net, _) = forsaken();
    let (_, all) = striped(&net, &mut Forger::new(&net), None);
    let lane = Lane::new(LANE);
    let refused = |change: &dyn Fn(&mut Stripe)| {
        let mut stripe = all[0].clone();
        change(&mut stripe);
        let bytes = PeerMessage::Stripe(stripe).to_bytes();
        receive(net.context(), &admissions(net.context()), &bytes).err()
    };
    let reason = |stripe, reason| Some(ReceiveError::Stripe { lane, index: 1, stripe, reason });
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(refused(&|own| own.stripe.bytes[9] ^= 1), reason(0, StripeError::Path));
    assert_eq!(refused(&|own| own.stripe.path[0].0[0] ^= 1), reason(0, StripeError::Path));
    assert_eq!(refused(&|own| own.stripe.path.clear()), reason(0, StripeError::Path));
    assert_eq!(refused(&|own| own.stripe.index = 1), reason(1, StripeError::Path));
    let beyond = StripeError::Index { index: 3, count: 3 };
    assert_eq!(refused(&|own| own.stripe.index = 3), reason(3, beyond));
    let size = all[0].stripe.bytes.len() + 2;
    let long = StripeError::Size { size };
    assert_eq!(refused(&|own| own.stripe.bytes.extend([0, 0])), reason(0, long));
    let unsigned = Some(ReceiveError::Signature { what: "a chunk", lane });
    assert_eq!(refused(&|own| own.signature = Signature([0; 64])), unsigned);
    assert_eq!(refused(&|own| own.header.stripes = Some(Hash::ZERO)), unsigned);
    assert_eq!(refused(&|own| own.header.index = 2), unsigned);
    let mut forger = Forger::new(&net);
    let whole = forger.chunk(&net, &[net.transaction(net.client(LANE, 0), 1)]);
    let bare = Stripe { header: whole.header, signature: whole.signature, ..all[0].clone() };
    let bytes = PeerMessage::Stripe(bare).to_bytes();
    let taken = receive(net.context(), &admissions(net.context()), &bytes);
    assert_eq!(taken.err(), Some(ReceiveError::NotStriped { lane, index: 1 }));
    let bytes = PeerMessage::Stripe(all[0].clone()).to_bytes();
    let taken = receive(net.context(), &admissions(net.context()), &bytes);
    assert!(matches!(taken, Ok(Received::Stripe(_))));
}

/// A sequencer signs two chunks of every place, far beyond what it needs.
#[test]
fn what_is_passed_on_for_a_sequencer_has_a_bound() {
    let (mut net, [first, ..]) = forsaken();
    net.loses = Box::new(|_, _, message| matches!(message, PeerMessage::Stripe(_)));
    let own = code(&net).index_of(number(first)).expect("it is another");
    let mut forger = Forger::new(&net);
    let (_, all) = striped(&net, &mut forger, None);
    let before = stripes_heard(&net).len();
    for index in [1, 1, 2, 1_024, 1_025, u64::MAX - 1] {
        for mark in 0..2 {
            let mut header = all[0].header.clone();
            (header.index, header.prev) = (index, Hash([mark; 32]));
            let stored = forger.sign(&net, header, Vec::new());
            let stripe = all[usize::from(own)].stripe.clone();
            let stripe = Stripe { header: stored.header, signature: stored.signature, stripe };
            hand_stripe(&mut net, first, &stripe).expect("it proves itself");
        }
    }
    // Chunks 1, 2 and 1,024, once each, to the two who are neither the sequencer nor itself.
    assert_eq!(stripes_heard(&net).len() - before, 3 * 2);
}
