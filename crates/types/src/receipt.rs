//! The outcome of one executed transaction. A height's receipts, in the ledger's order, are the leaves of its
//! receipts tree.

use crate::code::Code;
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::number::{Hash, Lane, Seqno};

/// What became of a transaction. It is atomic: every action is applied or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every action was applied.
    Applied,
    /// Nothing was changed but the sequence and the fee.
    Refused {
        /// Why.
        code: Code,
        /// The 0-based index of the action that could not run, if it was one.
        action: Option<u32>,
    },
}

/// The outcome of the transaction at `(lane, seqno)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The lane.
    pub lane: Lane,
    /// The number in the lane.
    pub seqno: Seqno,
    /// The transaction's name.
    pub tx: Hash,
    /// How many actions it has.
    pub action_count: u32,
    /// Units paid.
    pub fee: u64,
    /// Rows of tables that it changed.
    pub row_count: u64,
    /// Which constraint or column of the table the code is about: 0 the primary key or none, `i` as the code says.
    pub detail: u16,
    /// What became of it.
    pub outcome: Outcome,
}

impl Encode for Receipt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.lane.encode(out);
        self.seqno.encode(out);
        self.tx.encode(out);
        out.extend_from_slice(&self.action_count.to_le_bytes());
        out.extend_from_slice(&self.fee.to_le_bytes());
        out.extend_from_slice(&self.row_count.to_le_bytes());
        out.extend_from_slice(&self.detail.to_le_bytes());
        match self.outcome {
            Outcome::Applied => out.push(0),
            Outcome::Refused { code, action } => {
                out.push(if action.is_some() { 2 } else { 1 });
                out.extend_from_slice(&code.number().to_le_bytes());
                if let Some(action) = action {
                    out.extend_from_slice(&action.to_le_bytes());
                }
            }
        }
    }
}

impl Decode for Receipt {
    const SIZE_MIN: usize = 2 + 8 + 32 + 4 + 8 + 8 + 2 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lane = Lane::decode(reader)?;
        let seqno = Seqno::decode(reader)?;
        let tx = Hash::decode(reader)?;
        let action_count = reader.u32()?;
        let fee = reader.u64()?;
        let row_count = reader.u64()?;
        let detail = reader.u16()?;
        let outcome = match reader.u8()? {
            0 => Outcome::Applied,
            1 => Outcome::Refused { code: decode_code(reader)?, action: None },
            2 => Outcome::Refused { code: decode_code(reader)?, action: Some(reader.u32()?) },
            tag => return Err(DecodeError::Tag { what: "outcome", tag: u64::from(tag) }),
        };
        Ok(Self { lane, seqno, tx, action_count, fee, row_count, detail, outcome })
    }
}

fn decode_code(reader: &mut Reader<'_>) -> Result<Code, DecodeError> {
    let number = reader.u16()?;
    Code::from_number(number).ok_or(DecodeError::Tag { what: "code", tag: u64::from(number) })
}
