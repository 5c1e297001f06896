//! Complaints: a client says that a lane's sequencer keeps its transaction out.
//!
//! ```text
//!  complaint = transaction (u32 length and bytes) · anchor 32 · lane u16 · term u64 · signature 64
//! ```
//! * The signature is by the transaction's signer, over everything before it, tag `Complaint`, epoch 0 as of all messages
//!   of clients: nobody complains in another's name.
//! * It names one term of one lane, and means nothing in any other: it can not be used again.
//! * `anchor` is a header that the client has seen, the chain id before the first. Who complains of a transaction that
//!   stood in the cut of that header knew better.

use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes};
use crate::number::{Hash, Lane, Signature, Term};
use crate::transaction::TRANSACTION_SIZE_MAX;

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The transaction's encoding. Whether it is one is for admission to say.
    pub transaction: Vec<u8>,
    /// Hash of a header that the client has seen.
    pub anchor: Hash,
    /// The transaction's lane.
    pub lane: Lane,
    /// The term whose sequencer is accused.
    pub term: Term,
    /// Over [`Complaint::signed_body`].
    pub signature: Signature,
}

/// Most bytes of an encoded complaint.
pub const COMPLAINT_SIZE_MAX: usize = TRANSACTION_SIZE_MAX + Complaint::SIZE_MIN;

impl Complaint {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.transaction.len().saturating_add(Self::SIZE_MIN));
        put_bytes(&mut out, &self.transaction);
        self.anchor.encode(&mut out);
        self.lane.encode(&mut out);
        self.term.encode(&mut out);
        out
    }
}

impl Encode for Complaint {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Complaint {
    const SIZE_MIN: usize = 4 + 32 + 2 + 8 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transaction: reader.bytes("transaction", TRANSACTION_SIZE_MAX)?.to_vec(),
            anchor: Hash::decode(reader)?,
            lane: Lane::decode(reader)?,
            term: Term::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_greatest_transaction_reads_back_and_a_greater_one_does_not() {
        let complaint = |size| Complaint {
            transaction: vec![7; size],
            anchor: Hash::ZERO,
            lane: Lane::new(1),
            term: Term::new(2),
            signature: Signature([3; 64]),
        };
        let greatest = complaint(TRANSACTION_SIZE_MAX);
        let bytes = greatest.to_bytes();
        assert_eq!(bytes.len(), COMPLAINT_SIZE_MAX);
        assert_eq!(Complaint::from_bytes(&bytes), Ok(greatest));
        let greater = complaint(TRANSACTION_SIZE_MAX.saturating_add(1)).to_bytes();
        assert!(matches!(Complaint::from_bytes(&greater), Err(DecodeError::TooLong { .. })));
    }
}
