//! Proof that a validator broke a rule, which anyone can check with the validator set alone. It names its author and
//! nobody else, and no honest validator can ever be named: what is judged is signed, and safety never signs it. What is
//! compared is what was signed, never a signature: others may be able to make a second one of the same words.
//!
//! | kind | signed things |
//! |---|---|
//! | proposals, prevotes, precommits, round changes | of one place, and different; each instance of an open round is a place |
//! | amnesia | a precommit in round r, and a later round change to r' > r whose polka is below r; in an open round the coin too, that elects its instance |
//! | acks | one (lane, term, index), named itself by both, and different tips |
//! | chunks | one (lane, term, index), and different headers |
//! | states | one height, and different roots |
//! | false state | one state, against the certificate of its height: what a quorum signed that is not of the culprit alone |
//!
//! The last kind is of one word of its author and of many of others, so it leans on them: of a quorum one is honest, and then
//! the certificate is what execution gives. Only liars of more than two thirds can name an honest validator by it.

use quipu_crypto::Tag;
use quipu_types::codec::{Decode, DecodeError, Encode, Reader, put_option};
use quipu_types::{
    Ack, ChunkHeader, Coin, Lane, Precommit, Prevote, Propose, RoundChange, Signature,
    StateCertificate, StateVote, Term, Tip, ValidatorIndex, ValidatorSet,
};

use crate::certificate::{check_state_certificate, verify_by};
use crate::header::Context;
use crate::safety::place;

/// A chunk's header with its sequencer's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedChunk {
    /// The header.
    pub header: ChunkHeader,
    /// Over the header's encoding. Tag `Chunk`.
    pub signature: Signature,
}

/// Signed things that no honest validator signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two proposals of one place.
    Proposals(Box<[Propose; 2]>),
    /// Two prevotes of one place.
    Prevotes(Box<[Prevote; 2]>),
    /// Two precommits of one place.
    Precommits(Box<[Precommit; 2]>),
    /// Two round changes to one round.
    RoundChanges(Box<[RoundChange; 2]>),
    /// A precommit that a later round change forgot.
    Amnesia(Box<(Precommit, RoundChange, Option<Coin>)>),
    /// Two acks of one place in a lane.
    Acks(Box<[Ack; 2]>),
    /// Two chunks of one place in a lane.
    Chunks(Box<[SignedChunk; 2]>),
    /// Two states of one height.
    States(Box<[StateVote; 2]>),
    /// A state that is not what a quorum says of its height.
    FalseState(Box<(StateVote, StateCertificate)>),
}

impl Evidence {
    /// What kind it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Proposals(_) => "proposals",
            Self::Prevotes(_) => "prevotes",
            Self::Precommits(_) => "precommits",
            Self::RoundChanges(_) => "round changes",
            Self::Amnesia(_) => "amnesia",
            Self::Acks(_) => "acks",
            Self::Chunks(_) => "chunks",
            Self::States(_) => "states",
            Self::FalseState(_) => "false state",
        }
    }

    /// Whom it names, if it holds.
    #[must_use]
    pub fn culprit(&self, context: &Context) -> Option<ValidatorIndex> {
        // Where a vote stands: each instance of an open round is a place of its own.
        let at = |height, round, kind, instance| match context.rules.instance_votes {
            true => place(height, round, kind, instance),
            false => (height, round, None),
        };
        let (culprit, differ) = match self {
            Self::Proposals(pair) => {
                let [a, b] = &**pair;
                let place = |p: &Propose| (p.height, p.round, p.kind, p.instance);
                (a.instance, place(a) == place(b) && a.signed_body() != b.signed_body())
            }
            Self::Prevotes(pair) => {
                let [a, b] = &**pair;
                let at =
                    |v: &Prevote| (at(v.height, v.round, v.kind, v.instance), v.kind, v.validator);
                (a.validator, at(a) == at(b) && a.signed_body() != b.signed_body())
            }
            Self::Precommits(pair) => {
                let [a, b] = &**pair;
                let at = |v: &Precommit| {
                    (at(v.height, v.round, v.kind, v.instance), v.kind, v.validator)
                };
                (a.validator, at(a) == at(b) && a.signed_body() != b.signed_body())
            }
            Self::RoundChanges(pair) => {
                let [a, b] = &**pair;
                let place = |c: &RoundChange| (c.height, c.round, c.kind, c.validator);
                (a.validator, place(a) == place(b) && a.signed_body() != b.signed_body())
            }
            Self::Amnesia(said) => {
                let (vote, change, coin) = &**said;
                let is_elected = context.is_elected(vote, coin.as_ref());
                let counts = is_elected || !context.rules.amnesia_elected;
                (vote.validator, counts && forgets(vote, change))
            }
            Self::Acks(pair) => {
                let [a, b] = &**pair;
                (a.validator, a.validator == b.validator && acks_differ(a, b))
            }
            Self::Chunks(pair) => {
                let [a, b] = &**pair;
                let place = |c: &SignedChunk| (c.header.lane, c.header.term, c.header.index);
                let (lane, term, _) = place(a);
                let both = |by: &ValidatorIndex| self.is_by(*by, context);
                let sequencer = context.epochs.sequencer(lane, term);
                // Whoever signs chunks that it is not to sequence is no better.
                let others = (0_u16..).zip(&self.set(context).validators).map(|(own, _)| own);
                let signer = Some(sequencer).filter(&both);
                let signer = signer.or_else(|| others.map(ValidatorIndex::new).find(&both))?;
                (signer, place(a) == place(b) && a.header != b.header)
            }
            Self::States(pair) => {
                let [a, b] = &**pair;
                let same = (a.validator, a.state.height) == (b.validator, b.state.height);
                (a.validator, same && a.state != b.state)
            }
            Self::FalseState(said) => {
                let (vote, certificate) = &**said;
                let (own, of_all) = (&vote.state, &certificate.state);
                let differ = own.height == of_all.height && own != of_all;
                (vote.validator, differ && check_state_certificate(certificate, context).is_ok())
            }
        };
        (differ && self.is_by(culprit, context)).then_some(culprit)
    }

    /// Whether `by` signed all of it.
    fn is_by(&self, by: ValidatorIndex, context: &Context) -> bool {
        let set = self.set(context);
        self.parts().iter().all(|part| part.verifies(by, set, context))
    }

    /// The validators of the epoch that it is of.
    #[must_use]
    pub fn set<'a>(&self, context: &'a Context) -> &'a ValidatorSet {
        let height = match self {
            Self::Proposals(pair) => first(pair).height,
            Self::Prevotes(pair) => first(pair).height,
            Self::Precommits(pair) => first(pair).height,
            Self::RoundChanges(pair) => first(pair).height,
            Self::Amnesia(said) => said.0.height,
            Self::States(pair) => first(pair).state.height,
            Self::FalseState(said) => said.0.state.height,
            Self::Acks(pair) => {
                let [a, b] = &**pair;
                let tip = a.tips.iter().find(|tip| names_another(tip, b));
                let epoch = |tip: &Tip| context.epochs.of_term(tip.lane, tip.term);
                return tip.map_or(&context.set, |tip| &epoch(tip).set);
            }
            Self::Chunks(pair) => {
                let ChunkHeader { lane, term, .. } = first(pair).header;
                return &context.epochs.of_term(lane, term).set;
            }
        };
        context.set_at(height)
    }

    /// Which place the two things are of, in words.
    #[must_use]
    pub fn place(&self) -> String {
        let (height, round) = match self {
            Self::Proposals(pair) => {
                let [Propose { height, round, .. }, _] = &**pair;
                (height, round)
            }
            Self::Prevotes(pair) => {
                let [Prevote { height, round, .. }, _] = &**pair;
                (height, round)
            }
            Self::Precommits(pair) => {
                let [Precommit { height, round, .. }, _] = &**pair;
                (height, round)
            }
            Self::RoundChanges(pair) => {
                let [RoundChange { height, round, .. }, _] = &**pair;
                (height, round)
            }
            Self::Amnesia(said) => {
                let (vote, change, _) = &**said;
                let (height, round, later) = (vote.height, vote.round, change.round);
                return format!("height {height}, round {round} and the change to {later}");
            }
            Self::Acks(pair) => {
                let [a, b] = &**pair;
                let own = a.tips.iter().find(|tip| names_another(tip, b));
                let place = |tip: &Tip| chunk_place(tip.lane, tip.term, tip.index);
                return own.map(place).unwrap_or_default();
            }
            Self::Chunks(pair) => {
                let [SignedChunk { header, .. }, _] = &**pair;
                return chunk_place(header.lane, header.term, header.index);
            }
            Self::States(pair) => {
                let [StateVote { state, .. }, _] = &**pair;
                return format!("the state of height {}", state.height);
            }
            Self::FalseState(said) => {
                return format!("the state of height {}", said.0.state.height);
            }
        };
        format!("height {height}, round {round}")
    }

    fn parts(&self) -> Vec<Part> {
        match self {
            Self::Proposals(pair) => {
                pair.iter().map(|p| Part(Tag::Propose, p.signed_body(), p.signature)).collect()
            }
            Self::Prevotes(pair) => {
                pair.iter().map(|v| Part(Tag::Prevote, v.signed_body(), v.signature)).collect()
            }
            Self::Precommits(pair) => pair.iter().map(precommit_part).collect(),
            Self::RoundChanges(pair) => pair.iter().map(change_part).collect(),
            Self::Amnesia(pair) => vec![precommit_part(&pair.0), change_part(&pair.1)],
            Self::Acks(pair) => {
                pair.iter().map(|a| Part(Tag::Ack, a.signed_body(), a.signature)).collect()
            }
            Self::Chunks(pair) => {
                pair.iter().map(|c| Part(Tag::Chunk, c.header.to_bytes(), c.signature)).collect()
            }
            Self::States(pair) => pair.iter().map(state_part).collect(),
            Self::FalseState(said) => vec![state_part(&said.0)],
        }
    }

    /// How many signatures are verified to judge it, at most.
    #[must_use]
    pub fn signature_count(&self) -> usize {
        match self {
            Self::FalseState(said) => said.1.signatures.len().saturating_add(1),
            _ => 2,
        }
    }
}

fn first<T>([first, _]: &[T; 2]) -> &T {
    first
}

/// A signed thing: what its signature covers and is.
struct Part(Tag, Vec<u8>, Signature);

impl Part {
    fn verifies(&self, by: ValidatorIndex, set: &ValidatorSet, context: &Context) -> bool {
        verify_by(context, set, by, self.0, &self.1, &self.2).is_ok()
    }
}

fn precommit_part(vote: &Precommit) -> Part {
    Part(Tag::Precommit, vote.signed_body(), vote.signature)
}

fn state_part(vote: &StateVote) -> Part {
    Part(Tag::StateVote, vote.state.to_bytes(), vote.signature)
}

fn change_part(change: &RoundChange) -> Part {
    Part(Tag::RoundChange, change.signed_body(), change.signature)
}

/// Whether a round change forgets a precommit of its own author; one of an open round counts only if it is of the
/// instance that the coin elects.
#[must_use]
pub fn forgets(vote: &Precommit, change: &RoundChange) -> bool {
    let same = (vote.height, vote.validator) == (change.height, change.validator);
    let below = change.high.is_none_or(|high| high.round < vote.round);
    same && change.round > vote.round && below
}

/// Whether two acks name different tips of one (lane, term, index).
#[must_use]
pub fn acks_differ(a: &Ack, b: &Ack) -> bool {
    a.tips.iter().any(|tip| names_another(tip, b))
}

/// Whether an ack names another tip of the place of this one.
fn names_another(tip: &Tip, ack: &Ack) -> bool {
    let place = |tip: &Tip| (tip.lane, tip.term, tip.index);
    ack.tips.iter().any(|other| place(other) == place(tip) && other != tip)
}

fn chunk_place(lane: Lane, term: Term, index: u64) -> String {
    format!("chunk {index} of lane {lane} in term {term}")
}

impl Encode for SignedChunk {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.signature.encode(out);
    }
}

impl Decode for SignedChunk {
    const SIZE_MIN: usize = ChunkHeader::SIZE_MIN + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { header: ChunkHeader::decode(reader)?, signature: Signature::decode(reader)? })
    }
}

fn put_pair<T: Encode>(out: &mut Vec<u8>, tag: u8, [a, b]: &[T; 2]) {
    out.push(tag);
    a.encode(out);
    b.encode(out);
}

fn read_pair<T: Decode>(reader: &mut Reader<'_>) -> Result<Box<[T; 2]>, DecodeError> {
    Ok(Box::new([T::decode(reader)?, T::decode(reader)?]))
}

impl Encode for Evidence {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Proposals(pair) => put_pair(out, 1, pair),
            Self::Prevotes(pair) => put_pair(out, 2, pair),
            Self::Precommits(pair) => put_pair(out, 3, pair),
            Self::RoundChanges(pair) => put_pair(out, 4, pair),
            Self::Amnesia(pair) => {
                out.push(5);
                pair.0.encode(out);
                pair.1.encode(out);
                put_option(out, pair.2.as_ref());
            }
            Self::Acks(pair) => put_pair(out, 6, pair),
            Self::Chunks(pair) => put_pair(out, 7, pair),
            Self::States(pair) => put_pair(out, 8, pair),
            Self::FalseState(said) => {
                out.push(9);
                said.0.encode(out);
                said.1.encode(out);
            }
        }
    }
}

impl Decode for Evidence {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Proposals(read_pair(reader)?),
            2 => Self::Prevotes(read_pair(reader)?),
            3 => Self::Precommits(read_pair(reader)?),
            4 => Self::RoundChanges(read_pair(reader)?),
            5 => Self::Amnesia(Box::new((
                Precommit::decode(reader)?,
                RoundChange::decode(reader)?,
                reader.option("coin")?,
            ))),
            6 => Self::Acks(read_pair(reader)?),
            7 => Self::Chunks(read_pair(reader)?),
            8 => Self::States(read_pair(reader)?),
            9 => Self::FalseState(Box::new((
                StateVote::decode(reader)?,
                StateCertificate::decode(reader)?,
            ))),
            tag => return Err(DecodeError::Tag { what: "evidence", tag: u64::from(tag) }),
        })
    }
}
