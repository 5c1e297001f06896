//! Validators that cheat with the coin of open rounds.
//!
//! * [`Hasty`] says its shares as soon as a height begins, of every open round that others keep words of, long before
//!   instances of a quorum are done. Alone it holds less than a third of the stake, and so less than half of the shares: what
//!   it gives away elects nobody. Its shares of a place are a function of the place, so saying them twice is no offence.
//! * [`Miser`] never says a share. A quorum of others holds enough without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_types::{CoinShare, Height, RoundKind, Rounds, Signature};

use super::{Actor, Scene, heard, word};

/// Rounds above the own one of which it says its shares.
const ROUNDS_AHEAD: u32 = 4;

/// Says its shares before it may.
#[derive(Debug, Default)]
pub(super) struct Hasty {
    /// For each receiver, which place it was told last.
    told: BTreeMap<usize, (Height, u32)>,
}

impl Hasty {
    fn share(scene: &Scene<'_>, height: Height, round: u32) -> Option<Arc<[u8]>> {
        let secret = scene.dealing?.secret(scene.own)?;
        let parts = secret.sign(&scene.context.coin_message((height, round)));
        let signature = Signature([0; 64]);
        let mut share = CoinShare { height, round, validator: scene.own, parts, signature };
        share.signature = scene.sign(Tag::CoinShare, &share.signed_body());
        Some(word(Message::CoinShare(share)))
    }

    /// The open rounds of a height from a round on.
    fn open_from(rounds: &Rounds, height: Height, round: u32) -> Vec<u32> {
        let last = round.saturating_add(ROUNDS_AHEAD);
        (round..=last).filter(|round| rounds.kind(height, *round).0 == RoundKind::Open).collect()
    }
}

impl Actor for Hasty {
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let mut sent = vec![bytes];
        let (height, round) = (scene.status.height.next(), scene.status.round);
        if self.told.get(&to).is_none_or(|told| *told < (height, round)) {
            self.told.insert(to, (height, round));
            let open = Self::open_from(&scene.status.rounds, height, round);
            for round in open {
                if let Some(share) = Self::share(scene, height, round) {
                    scene.did();
                    sent.push(share);
                }
            }
        }
        sent
    }
}

/// Keeps its shares to itself.
#[derive(Debug)]
pub(super) struct Miser;

impl Actor for Miser {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        if matches!(heard(&bytes), Some(Message::CoinShare(_))) {
            scene.did();
            return Vec::new();
        }
        vec![bytes]
    }
}
