//! A validator that tears bodies: the stripes that it sends, its own chunks' and those that it passes on, have changed
//! bytes, another path, another index; and some chunks of its own name a false root, the same one to all, under which
//! their stripes are those of another body.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_crypto::Tag;
use quipu_net::stripes::{self, Code};
use quipu_replica::{PeerMessage, Stripe};
use quipu_types::{Decode, Encode, Hash, Lane, Term};

use super::{Actor, Scene};

/// Another body's root and stripes.
type Torn = (Hash, Vec<stripes::Stripe>);

#[derive(Debug, Default)]
pub(super) struct Tearer {
    /// Own chunks, with what takes the place of their stripes; none where they stay.
    chunks: BTreeMap<(Lane, Term, u64), Option<Torn>>,
}

impl Tearer {
    /// An own chunk's stripe, as all get it: now and then of a false root.
    fn own(&mut self, scene: &mut Scene<'_>, mut own: Stripe) -> Stripe {
        let header = &own.header;
        let place = (header.lane, header.term, header.index);
        let Some(code) = Code::of(&scene.context.set, scene.own) else { return own };
        let random = &mut scene.random;
        let torn = self.chunks.entry(place).or_insert_with(|| {
            let is_torn = random.u8(..4) == 0;
            is_torn.then(|| stripes::encode(&code, &[random.u8(..); 200]))
        });
        if let Some((root, all)) = torn
            && let Some(stripe) = all.get(usize::from(own.stripe.index))
        {
            own.header.stripes = Some(*root);
            own.signature = scene.sign(Tag::Chunk, &own.header.to_bytes());
            own.stripe = stripe.clone();
        }
        own
    }

    fn tear(random: &mut fastrand::Rng, stripe: &mut stripes::Stripe) {
        match random.u8(..4) {
            0 => {
                if let Some(byte) = random.choice(&mut stripe.bytes) {
                    *byte ^= 1;
                }
            }
            1 => {
                if let Some(hash) = random.choice(&mut stripe.path) {
                    hash.0 = [9; 32];
                }
            }
            2 => stripe.index ^= 1,
            _ => {}
        }
    }
}

impl Actor for Tearer {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let Ok(PeerMessage::Stripe(mut stripe)) = PeerMessage::from_bytes(&bytes) else {
            return vec![bytes];
        };
        let (lane, term) = (stripe.header.lane, stripe.header.term);
        if scene.context.epochs.sequencer(lane, term) == scene.own {
            stripe = self.own(scene, stripe);
        }
        Self::tear(scene.random, &mut stripe.stripe);
        vec![PeerMessage::Stripe(stripe).to_bytes().into()]
    }
}
