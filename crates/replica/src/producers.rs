//! Which sequence of which producer may stand next in a lane (R3).

use std::collections::BTreeMap;

use quipu_state::Sequence;
use quipu_types::code::SEQUENCE_GAP;
use quipu_types::{Code, Lane, PublicKey};

use crate::admission::Admitted;
use crate::api::Producer;

/// What is expected of every (lane, signer) that ever appended.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    table: BTreeMap<(Lane, PublicKey), Producer>,
}

/// Where a transaction stands among its producer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next: it may be taken.
    Next { after: Producer },
    /// Before the next.
    Used { next: Producer, otherwise: Code },
    /// After the next.
    Gap { next: Producer },
}

impl Producers {
    pub(crate) fn new(rows: Vec<(Lane, PublicKey, Producer)>) -> Self {
        let table = rows.into_iter().map(|(lane, signer, next)| ((lane, signer), next)).collect();
        Self { table }
    }

    /// Where `admitted` stands.
    pub(crate) fn place(&self, admitted: &Admitted) -> Place {
        let transaction = &admitted.transaction;
        let key = (admitted.lane, transaction.signer);
        let next = self.table.get(&key).copied().unwrap_or(Producer::NEW);
        let now = Sequence { incarnation: next.incarnation, next: next.sequence };
        match now.after(transaction.incarnation, transaction.sequence) {
            Ok(Sequence { incarnation, next: sequence }) => {
                Place::Next { after: Producer { incarnation, sequence } }
            }
            Err(SEQUENCE_GAP) if transaction.incarnation > next.incarnation => {
                let incarnation = transaction.incarnation;
                Place::Gap { next: Producer { incarnation, sequence: 1 } }
            }
            Err(SEQUENCE_GAP) => Place::Gap { next },
            Err(otherwise) => Place::Used { next, otherwise },
        }
    }

    /// Takes `admitted`, after which its producer stands at `after`.
    pub(crate) fn take(&mut self, admitted: &Admitted, after: Producer) {
        self.table.insert((admitted.lane, admitted.transaction.signer), after);
    }
}
