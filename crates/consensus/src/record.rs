//! Messages between validators, and the records of the write-ahead log that make them binding.
//!
//! ```text
//!  message = tag u8 · Propose (1) | Prevote (2) | Precommit (3) | Ack (4) | StateVote (5)
//!                   | RoundChange (6), the polka that it names (count u32, prevotes) and the coins of the open rounds
//!                     below (count u32, coins)
//!                   | Done (7): a commit certificate | CoinShare (8)
//!  record  = the same, but a prevote is followed by the header that it is for, and a precommit is followed by the prevotes that allowed it (count u32, votes) and by the
//!            acks that its tips stand on (count u32, acks)
//! ```
//! A record holds the very bytes that are signed and sent: a repeat is decoded from it, never signed again.

use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::codec::put_list;
use quipu_types::round::read_coins;
use quipu_types::{
    Ack, CoinShare, CommitCertificate, Decode, DecodeError, Encode, Header, Height, Precommit,
    Prevote, Propose, Reader, RoundChange, RoundCoin, StateVote, ValidatorIndex,
};

/// A round change with what it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is signed.
    pub change: RoundChange,
    /// The polka that it names; empty when it names none.
    pub polka: Vec<Prevote>,
    /// The coins of every open round below, ascending.
    pub coins: Vec<RoundCoin>,
}

/// What one validator tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A header is proposed.
    Propose(Box<Propose>),
    /// First vote.
    Prevote(Prevote),
    /// Second vote.
    Precommit(Precommit),
    /// Chunks are held, durably.
    Ack(Ack),
    /// What execution gave.
    StateVote(StateVote),
    /// A round is left.
    RoundChange(Change),
    /// A height was decided in an open round.
    Done(CommitCertificate),
    /// A part in a coin.
    CoinShare(CoinShare),
}

/// What a validator writes down before it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Own proposal.
    Propose(Box<Propose>),
    /// Own first vote.
    Prevote {
        /// The vote.
        vote: Prevote,
        /// The header: who voted for it serves it, after a restart too.
        header: Box<Header>,
    },
    /// Own second vote.
    Precommit {
        /// The vote.
        vote: Precommit,
        /// The polka (QC1) that allowed it.
        polka: Vec<Prevote>,
        /// Acks of a third of each tip that it reports.
        acks: Vec<Ack>,
    },
    /// Own acknowledgement of chunks.
    Ack(Ack),
    /// Own word on a state.
    StateVote(StateVote),
    /// Own change of round.
    RoundChange(Change),
}

impl Message {
    /// The height whose decision it is about; none for an ack and for a word on a state.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        match self {
            Self::Propose(propose) => Some(propose.height),
            Self::Prevote(vote) => Some(vote.height),
            Self::Precommit(vote) => Some(vote.height),
            Self::RoundChange(own) => Some(own.change.height),
            Self::Done(certificate) => certificate.precommits.first().map(|vote| vote.height),
            Self::CoinShare(share) => Some(share.height),
            Self::Ack(_) | Self::StateVote(_) => None,
        }
    }

    /// Who signed it; of what anyone may say, whom it is about.
    #[must_use]
    pub fn validator(&self) -> ValidatorIndex {
        match self {
            Self::Propose(propose) => propose.instance,
            Self::Prevote(vote) => vote.validator,
            Self::Precommit(vote) => vote.validator,
            Self::Ack(ack) => ack.validator,
            Self::StateVote(vote) => vote.validator,
            Self::RoundChange(own) => own.change.validator,
            Self::Done(certificate) => {
                certificate.precommits.first().map_or_else(Default::default, |vote| vote.instance)
            }
            Self::CoinShare(share) => share.validator,
        }
    }
}

impl Record {
    /// What is sent once the record is durable.
    #[must_use]
    pub fn message(&self) -> Message {
        match self.clone() {
            Self::Propose(propose) => Message::Propose(propose),
            Self::Prevote { vote, .. } => Message::Prevote(vote),
            Self::Precommit { vote, .. } => Message::Precommit(vote),
            Self::Ack(ack) => Message::Ack(ack),
            Self::StateVote(vote) => Message::StateVote(vote),
            Self::RoundChange(own) => Message::RoundChange(own),
        }
    }

    /// The height it is about; none for an ack.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        match self {
            Self::Propose(propose) => Some(propose.height),
            Self::Prevote { vote, .. } => Some(vote.height),
            Self::Precommit { vote, .. } => Some(vote.height),
            Self::Ack(_) => None,
            Self::StateVote(vote) => Some(vote.state.height),
            Self::RoundChange(own) => Some(own.change.height),
        }
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Propose(propose) => put(out, 1, &**propose),
            Self::Prevote(vote) => put(out, 2, vote),
            Self::Precommit(vote) => put(out, 3, vote),
            Self::Ack(ack) => put(out, 4, ack),
            Self::StateVote(vote) => put(out, 5, vote),
            Self::RoundChange(own) => put(out, 6, own),
            Self::Done(certificate) => put(out, 7, certificate),
            Self::CoinShare(share) => put(out, 8, share),
        }
    }
}

impl Decode for Message {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Propose(Box::new(Propose::decode(reader)?)),
            2 => Self::Prevote(Prevote::decode(reader)?),
            3 => Self::Precommit(Precommit::decode(reader)?),
            4 => Self::Ack(Ack::decode(reader)?),
            5 => Self::StateVote(StateVote::decode(reader)?),
            6 => Self::RoundChange(Change::decode(reader)?),
            7 => Self::Done(CommitCertificate::decode(reader)?),
            8 => Self::CoinShare(CoinShare::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "message", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Propose(propose) => put(out, 1, &**propose),
            Self::Prevote { vote, header } => {
                put(out, 2, vote);
                header.encode(out);
            }
            Self::Precommit { vote, polka, acks } => {
                put(out, 3, vote);
                put_list(out, polka);
                put_list(out, acks);
            }
            Self::Ack(ack) => put(out, 4, ack),
            Self::StateVote(vote) => put(out, 5, vote),
            Self::RoundChange(own) => put(out, 6, own),
        }
    }
}

impl Decode for Record {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Propose(Box::new(Propose::decode(reader)?)),
            2 => Self::Prevote {
                vote: Prevote::decode(reader)?,
                header: Box::new(Header::decode(reader)?),
            },
            3 => Self::Precommit {
                vote: Precommit::decode(reader)?,
                polka: reader.list("polka", VALIDATOR_COUNT_MAX)?,
                acks: reader.list("acks", VALIDATOR_COUNT_MAX)?,
            },
            4 => Self::Ack(Ack::decode(reader)?),
            5 => Self::StateVote(StateVote::decode(reader)?),
            6 => Self::RoundChange(Change::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "record", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Change {
    fn encode(&self, out: &mut Vec<u8>) {
        self.change.encode(out);
        put_list(out, &self.polka);
        put_list(out, &self.coins);
    }
}

impl Decode for Change {
    const SIZE_MIN: usize = RoundChange::SIZE_MIN + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            change: RoundChange::decode(reader)?,
            polka: reader.list("polka", VALIDATOR_COUNT_MAX)?,
            coins: read_coins(reader)?,
        })
    }
}

fn put(out: &mut Vec<u8>, tag: u8, value: &impl Encode) {
    out.push(tag);
    value.encode(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_and_what_decodes_has_one_form(
            tag in 0_u8..10, bytes in proptest::collection::vec(0_u8..3, 0..600),
        ) {
            let mut all = vec![tag];
            all.extend(bytes);
            if let Ok(message) = Message::from_bytes(&all) {
                prop_assert_eq!(message.to_bytes(), all.clone());
            }
            if let Ok(record) = Record::from_bytes(&all) {
                prop_assert_eq!(record.to_bytes(), all);
            }
        }
    }
}
