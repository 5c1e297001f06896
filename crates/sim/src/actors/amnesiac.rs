//! A validator that forgets what it precommitted: its round changes claim an older polka than the one that it precommitted
//! by, or none. Whoever hears both words has proof of it (in an open round once the coin elects that instance).
//!
//! Told to all alike: it does not say two things of one place. Only where it leads does its replica's certificate of round
//! changes show another word of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::{Change, Message};
use quipu_crypto::Tag;
use quipu_types::{Height, High, Prevote};

use super::{Actor, Scene, heard, word};

/// A polka with its name.
type Polka = (High, Vec<Prevote>);

#[derive(Debug, Default)]
pub(super) struct Amnesiac {
    /// The height that the rest is about.
    height: Height,
    /// The highest round that it precommitted in.
    precommitted: Option<u32>,
    /// Polkas that it has heard of, by round.
    polkas: BTreeMap<u32, Polka>,
    /// What it said of a round, to say it again.
    said: BTreeMap<u32, Arc<[u8]>>,
}

impl Amnesiac {
    fn begin(&mut self, height: Height) {
        if height > self.height {
            *self = Self { height, ..Self::default() };
        }
    }

    fn learn(&mut self, Change { change, polka, .. }: &Change) {
        if let Some(high) = change.high.filter(|_| change.height == self.height) {
            self.polkas.insert(high.round, (high, polka.clone()));
        }
    }

    /// What it says instead of the truth.
    fn forget(&mut self, scene: &mut Scene<'_>, own: Change) -> Option<Arc<[u8]>> {
        let of = self.precommitted?;
        let is_later = own.change.round > of && own.change.high.is_some();
        if !is_later {
            return None;
        }
        let round = own.change.round;
        if !self.said.contains_key(&round) {
            let older = self.polkas.range(..of).next_back().map(|(_, polka)| polka.clone());
            let (high, polka) =
                older.map_or((None, Vec::new()), |(high, polka)| (Some(high), polka));
            let mut change = own.change;
            change.high = high;
            change.signature = scene.sign(Tag::RoundChange, &change.signed_body());
            let coins = own.coins;
            scene.did();
            self.said.insert(round, word(Message::RoundChange(Change { change, polka, coins })));
        }
        self.said.get(&round).map(Arc::clone)
    }
}

impl Actor for Amnesiac {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let other = match heard(&bytes) {
            Some(Message::Precommit(vote)) if vote.validator == scene.own => {
                self.begin(vote.height);
                let is_now = vote.height == self.height;
                self.precommitted = self.precommitted.max(is_now.then_some(vote.round));
                None
            }
            Some(Message::RoundChange(own))
                if own.change.validator == scene.own && own.change.height == self.height =>
            {
                self.forget(scene, own)
            }
            _ => None,
        };
        vec![other.unwrap_or(bytes)]
    }

    fn hear(&mut self, _scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        if let Some(Message::RoundChange(other)) = heard(bytes) {
            self.begin(other.change.height);
            self.learn(&other);
        }
    }
}
