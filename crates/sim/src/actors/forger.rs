//! A validator that speaks in others' names.
//!
//! * Votes, proposals, acks, state votes, round changes and coin shares of others, changed, with the signature of what they
//!   said, of the forger, or of nobody; handovers of lanes that are not its own.
//! * Certificates: a decision of the votes that it heard, filled up with its own in others' names, with one vote twice, with
//!   junk for a signature; of an open round without its coin, or with the coin of another. A polka with a vote twice. Evidence
//!   of a true word and a made-up one.
//! * Its own shares of coins, with one part of another place.
//! * As a sequencer chunks with a false lane root, clock or body digest, properly signed: to some, in place of the right
//!   one or beside it. That is two chunks of one place, and evidence where both are heard.
//!
//! Nobody takes any of it (F1 of the world): what is in [`super::Forged`] is refused wherever it comes to, and no cut has
//! such a chunk.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::{Change, Evidence, Message, SignedChunk};
use quipu_crypto::Tag;
use quipu_proof::names::chunk_hash;
use quipu_replica::peer::Handover;
use quipu_replica::{PeerMessage, StoredChunk};
use quipu_types::{
    Coin, CommitCertificate, Decode, Encode, Hash, Height, Lane, Precommit, RoundCoin, RoundKind,
    Signature, Term, ValidatorIndex,
};

use super::{Actor, Scene, word};

/// Votes of others that are kept.
const KEPT_COUNT: usize = 40;

#[derive(Debug, Default)]
pub(super) struct Forger {
    /// Words of others, the newest last.
    kept: Vec<Message>,
    /// Another sequencer's last chunk.
    chunk: Option<StoredChunk>,
    /// The last coin that was heard.
    coin: Option<Coin>,
    /// What was made of the chunks of a place.
    chunks: BTreeMap<(Lane, Term, u64), Option<StoredChunk>>,
}

/// A signature of nobody.
const JUNK: Signature = Signature([5; 64]);

impl Forger {
    fn keep(&mut self, own: ValidatorIndex, message: Message) {
        let coins: Vec<RoundCoin> = match &message {
            Message::RoundChange(Change { coins, .. }) => coins.clone(),
            Message::Done(certificate) => {
                self.coin = certificate.coin.or(self.coin);
                return;
            }
            _ => Vec::new(),
        };
        self.coin = coins.last().map(|last| last.coin).or(self.coin);
        if message.validator() != own {
            if self.kept.len() >= KEPT_COUNT {
                self.kept.remove(0);
            }
            self.kept.push(message);
        }
    }

    /// The same word, changed, in the name of whose it is.
    fn changed(&self, scene: &mut Scene<'_>) -> Option<Message> {
        let original = scene.random.choice(&self.kept)?;
        let mut message = original.clone();
        let digest = Hash([scene.random.u8(..); 32]);
        let (tag, body) = match &mut message {
            Message::Propose(propose) => {
                propose.header.time = propose.header.time.next();
                (Tag::Propose, propose.signed_body())
            }
            Message::Prevote(vote) => {
                vote.digest = digest;
                (Tag::Prevote, vote.signed_body())
            }
            Message::Precommit(vote) => {
                vote.time = vote.time.next();
                vote.tips.clear();
                vote.digest = if scene.random.bool() { digest } else { vote.digest };
                (Tag::Precommit, vote.signed_body())
            }
            Message::Ack(ack) => {
                ack.tips.iter_mut().for_each(|tip| tip.chunk_hash = digest);
                (Tag::Ack, ack.signed_body())
            }
            Message::StateVote(vote) => {
                vote.state.state_root = digest;
                (Tag::StateVote, vote.state.to_bytes())
            }
            Message::RoundChange(own) => {
                own.change.round = own.change.round.saturating_add(scene.random.u32(1..3));
                (Tag::RoundChange, own.change.signed_body())
            }
            Message::CoinShare(share) => {
                share.parts.reverse();
                share.parts.pop();
                (Tag::CoinShare, share.signed_body())
            }
            Message::Done(_) => return None,
        };
        let mine = scene.sign(tag, &body);
        let signature = match &mut message {
            Message::Propose(propose) => &mut propose.signature,
            Message::Prevote(vote) => &mut vote.signature,
            Message::Precommit(vote) => &mut vote.signature,
            Message::Ack(ack) => &mut ack.signature,
            Message::StateVote(vote) => &mut vote.signature,
            Message::RoundChange(own) => &mut own.change.signature,
            Message::CoinShare(share) => &mut share.signature,
            Message::Done(_) => return None,
        };
        match scene.random.u8(..3) {
            0 => *signature = mine,
            1 => *signature = JUNK,
            // As it was, of what was said.
            _ => {}
        }
        (message != *original).then_some(message)
    }

    /// A decision that nobody took.
    fn done(&self, scene: &mut Scene<'_>) -> Option<Message> {
        let own = scene.own;
        let heard = self.kept.iter().rev().find_map(|message| match message {
            Message::Precommit(vote) => Some(vote.clone()),
            _ => None,
        })?;
        let set = &scene.context.set;
        let count = u16::try_from(set.validators.len()).unwrap_or(u16::MAX);
        let of = |validator: ValidatorIndex| -> Precommit {
            let mut vote = Precommit { validator, ..heard.clone() };
            if validator != heard.validator {
                vote.signature = scene.sign(Tag::Precommit, &vote.signed_body());
            }
            vote
        };
        let mut precommits: Vec<Precommit> = (0..count).map(ValidatorIndex::new).map(of).collect();
        match scene.random.u8(..3) {
            0 => {
                let first = precommits.first()?.clone();
                precommits.insert(0, first);
            }
            1 => {
                let others = precommits.iter_mut().filter(|vote| vote.validator != own);
                others.for_each(|vote| vote.signature = JUNK);
            }
            _ => {}
        }
        let has_coin = scene.random.bool() || heard.kind == RoundKind::Led;
        let coin = self.coin.filter(|_| has_coin);
        Some(Message::Done(CommitCertificate { precommits, coin }))
    }

    /// The true votes of an open instance, without the coin that elects it, or with another one.
    fn uncounted(&self, scene: &mut Scene<'_>) -> Option<Message> {
        let mut votes: Vec<Precommit> = Vec::new();
        for message in self.kept.iter().rev() {
            let Message::Precommit(vote) = message else { continue };
            let place = |vote: &Precommit| (vote.height, vote.round, vote.instance, vote.digest);
            let is_same = votes.first().is_none_or(|first| place(first) == place(vote));
            let is_new = !votes.iter().any(|other| other.validator == vote.validator);
            if vote.kind == RoundKind::Open && is_same && is_new {
                votes.push(vote.clone());
            }
        }
        votes.sort_by_key(|vote| vote.validator);
        let junk = Coin([scene.random.u8(..); 48]);
        let first = votes.first()?;
        // A coin that was heard may be the right one.
        let is_right = self.coin.is_some_and(|coin| scene.context.is_elected(first, Some(&coin)));
        let coin = match scene.random.u8(..3) {
            0 => None,
            1 => Some(junk),
            _ => self.coin.filter(|_| !is_right),
        };
        Some(Message::Done(CommitCertificate { precommits: votes, coin }))
    }

    /// A lane that is another's is given up, or proof of what was not done is shown.
    fn beside(&self, scene: &mut Scene<'_>) -> Option<PeerMessage> {
        let own = scene.own;
        if scene.random.bool() {
            let StoredChunk { header, signature, .. } = self.chunk.clone()?;
            let mut other = SignedChunk { header: header.clone(), signature };
            other.header.clock.pop();
            if scene.random.bool() {
                other.signature = scene.sign(Tag::Chunk, &other.header.to_bytes());
            }
            let pair = Box::new([SignedChunk { header, signature }, other]);
            return Some(PeerMessage::Evidence(Evidence::Chunks(pair)));
        }
        let lane = scene.random.usize(..scene.status.tips.len());
        let (term, sequencer) = *scene.status.terms.get(lane)?;
        let tip = scene.status.tips.get(lane)?;
        let (lane, index) = (tip.lane, tip.index);
        let mut handover = Handover { lane, term, index, validator: sequencer, signature: JUNK };
        handover.signature = scene.sign(Tag::Handover, &handover.signed_body());
        (sequencer != own).then_some(PeerMessage::Handover(handover))
    }

    /// Something that nobody said.
    fn forge(&self, scene: &mut Scene<'_>) -> Option<Arc<[u8]>> {
        let (bytes, is_word) = match scene.random.u8(..10) {
            0..=5 => (word(self.changed(scene)?), true),
            6 => (word(self.done(scene)?), true),
            7 => (word(self.uncounted(scene)?), true),
            _ => {
                let message = self.beside(scene)?;
                let is_word = matches!(message, PeerMessage::Handover(_));
                (message.to_bytes().into(), is_word)
            }
        };
        scene.did();
        if is_word {
            scene.forged.words.insert(Arc::clone(&bytes));
        }
        Some(bytes)
    }

    /// Its own word, with something of others in it that is not so.
    fn spoil(scene: &mut Scene<'_>, message: Message) -> Option<Message> {
        match message {
            Message::RoundChange(mut own) if own.change.validator == scene.own => {
                let first = own.polka.first()?.clone();
                own.polka.insert(0, first);
                Some(Message::RoundChange(own))
            }
            Message::CoinShare(mut share) if share.validator == scene.own => {
                let body = scene.context.coin_message((Height::new(1), share.round));
                let other = scene.dealing?.secret(scene.own)?.sign(&body);
                *share.parts.last_mut()? = *other.last()?;
                share.signature = scene.sign(Tag::CoinShare, &share.signed_body());
                Some(Message::CoinShare(share))
            }
            _ => None,
        }
    }

    /// What is made of a chunk: the same for all who get it.
    fn chunk(&mut self, scene: &mut Scene<'_>, stored: &StoredChunk) -> Option<Arc<[u8]>> {
        let (lane, term) = (stored.header.lane, stored.header.term);
        if scene.context.epochs.sequencer(lane, term) != scene.own {
            return None;
        }
        let place = (lane, term, stored.header.index);
        let made = self.chunks.entry(place).or_insert_with(|| {
            let mut other = stored.clone();
            let header = &mut other.header;
            match scene.random.u8(..15) {
                0 => header.lane_root = Hash([1; 32]),
                1 => header.clock.iter_mut().for_each(|entry| entry.value = Hash([2; 32])),
                2 => header.body_digest = Hash([3; 32]),
                3 => header.prev = Hash([4; 32]),
                _ => return None,
            }
            other.signature = scene.sign(Tag::Chunk, &other.header.to_bytes());
            scene.forged.chunks.insert(chunk_hash(&other.header));
            Some(other)
        });
        made.clone().map(|other| PeerMessage::Chunk(other).to_bytes().into())
    }
}

impl Actor for Forger {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let mut sent = Vec::new();
        let is_first = scene.random.bool();
        match PeerMessage::from_bytes(&bytes) {
            Ok(PeerMessage::Chunk(stored)) => {
                if let Some(other) = self.chunk(scene, &stored) {
                    match scene.random.u8(..3) {
                        0 => return vec![other],
                        1 => return vec![other, bytes],
                        _ => return vec![bytes, other],
                    }
                }
            }
            Ok(PeerMessage::Agreement(message)) => {
                let spoils = scene.random.u8(..4) == 0;
                let spoilt = spoils.then(|| Self::spoil(scene, message)).flatten().map(word);
                sent.extend(spoilt);
                if scene.random.u8(..3) == 0 {
                    sent.extend(self.forge(scene));
                }
            }
            _ => {}
        }
        let place = if is_first { 0 } else { sent.len() };
        sent.insert(place, bytes);
        sent
    }

    fn hear(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        match PeerMessage::from_bytes(bytes) {
            Ok(PeerMessage::Agreement(message)) => self.keep(scene.own, message),
            Ok(PeerMessage::Chunk(stored)) => {
                let (lane, term) = (stored.header.lane, stored.header.term);
                let is_own = scene.context.epochs.sequencer(lane, term) == scene.own;
                self.chunk = (!is_own).then_some(stored).or_else(|| self.chunk.take());
            }
            _ => {}
        }
    }
}
