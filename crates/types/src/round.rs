//! Leaving a round: who goes on to which, with the highest polka that each has seen, and a quorum of that.
//!
//! ```text
//!  RoundChange{h, r', high} ×q + the polka (QC1) of the highest `high` = RoundChangeCertificate (TC)
//!                                                                            └─> Propose of round r' > 0
//! ```

use crate::agreement::{Prevote, RoundKind, VALIDATOR_COUNT_MAX, ascending, put_place, read_place};
use crate::codec::{Decode, DecodeError, Encode, Reader, put_list, put_option};
use crate::number::{Hash, Height, Signature, ValidatorIndex};

/// A polka by name: the highest that a validator has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct High {
    /// Its round.
    pub round: u32,
    /// Its instance.
    pub instance: ValidatorIndex,
    /// The header that a quorum prevoted.
    pub digest: Hash,
}

/// "I have left every round below this one, and this is the highest polka I saw." Tag `RoundChange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundChange {
    /// Height.
    pub height: Height,
    /// The round that is entered, above 0.
    pub round: u32,
    /// Kind of that round.
    pub kind: RoundKind,
    /// The highest polka seen in this height; none when there was none.
    pub high: Option<High>,
    /// Who says so.
    pub validator: ValidatorIndex,
    /// Over [`RoundChange::signed_body`].
    pub signature: Signature,
}

/// Round changes of more than 2/3 of the stake to one round (TC), ascending by validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundChangeCertificate {
    /// Their words.
    pub changes: Vec<RoundChange>,
    /// The polka of the highest `high` among them; empty when none names one.
    pub polka: Vec<Prevote>,
}

impl RoundChange {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.height, self.round, self.kind, self.validator);
        put_option(&mut out, self.high.as_ref());
        out
    }
}

impl RoundChangeCertificate {
    /// The highest polka that is named.
    #[must_use]
    pub fn high(&self) -> Option<High> {
        self.changes.iter().filter_map(|change| change.high).max_by_key(|high| high.round)
    }
}

impl Encode for High {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.round.to_le_bytes());
        self.instance.encode(out);
        self.digest.encode(out);
    }
}

impl Decode for High {
    const SIZE_MIN: usize = 4 + 2 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            round: reader.u32()?,
            instance: ValidatorIndex::decode(reader)?,
            digest: Hash::decode(reader)?,
        })
    }
}

impl Encode for RoundChange {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for RoundChange {
    const SIZE_MIN: usize = 15 + 1 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round, kind, validator) = read_place(reader)?;
        Ok(Self {
            height,
            round,
            kind,
            high: reader.option("high")?,
            validator,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for RoundChangeCertificate {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(out, &self.changes);
        put_list(out, &self.polka);
    }
}

impl Decode for RoundChangeCertificate {
    const SIZE_MIN: usize = 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let changes: Vec<RoundChange> = reader.list("round changes", VALIDATOR_COUNT_MAX)?;
        ascending("round changes", changes.iter().map(|change| change.validator.get()))?;
        let polka: Vec<Prevote> = reader.list("polka", VALIDATOR_COUNT_MAX)?;
        ascending("polka", polka.iter().map(|vote| vote.validator.get()))?;
        Ok(Self { changes, polka })
    }
}
