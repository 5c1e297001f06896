//! What has to stay true, and the checks that it did.
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_consensus::certificate::check_commit;
use quipu_consensus::header::Context;
use quipu_crypto::Tag;
use quipu_crypto::suite::verify_tagged;
use quipu_log::{Check, LedgerReader};
use quipu_proof::names::{chain_id, header_hash, set_hash};
use quipu_replica::storage::read_block;
use quipu_replica::{Admitted, Block, Producer};
use quipu_state::{Machine, MemoryStore, Store};
use quipu_types::{
    Encode, Genesis, Hash, Header, Height, Lane, Position, PublicKey, Receipt, SignedState,
    ValidatorSet,
};

use crate::disk::CrashDisk;
use crate::shape::LANE_COUNT;
use crate::stakes::with_coin;
use crate::{Broken, rule};

/// What executions gave and what clients were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) states: BTreeMap<Height, SignedState>,
    pub(crate) finals: BTreeMap<Hash, (Position, Height, Arc<Admitted>)>,
    /// Whether each epoch has a coin.
    pub(crate) has_coin: bool,
    /// Certificates and chunks whose signatures were verified, by their encodings.
    verified: Mutex<BTreeSet<Vec<u8>>>,
}

/// What execution of a block gave: the roots with the name of the next set, what came of each transaction, that set.
pub(crate) type Executed = (SignedState, Vec<Receipt>, Option<ValidatorSet>);

impl History {
    /// Applies a block.
    pub(crate) fn apply<S: Store>(
        &self,
        machine: &mut Machine<S>,
        block: &Block,
    ) -> Result<Executed, Broken> {
        let height = block.header.height;
        let applied = block.apply(machine);
        let (mut state, applied) = applied
            .map_err(|error| Broken { rule: "V2", what: format!("height {height}: {error}") })?;
        let next = applied.next_set.as_deref().cloned().map(|set| with_coin(set, self.has_coin));
        state.next_set = next.as_ref().map(set_hash);
        Ok((state, applied.receipts, next))
    }

    /// A block was executed.
    pub(crate) fn state(&mut self, state: SignedState) -> Result<(), Broken> {
        let first = *self.states.entry(state.height).or_insert(state);
        rule(first == state, "V2", || format!("execution gave {first:?}, now {state:?}"))
    }

    /// A client was told that a transaction is final.
    pub(crate) fn tell(
        &mut self,
        admitted: &Arc<Admitted>,
        position: Position,
        height: Height,
    ) -> Result<bool, Broken> {
        match self.finals.get(&admitted.tx) {
            None => {
                self.finals.insert(admitted.tx, (position, height, Arc::clone(admitted)));
                Ok(true)
            }
            Some((first, at, _)) => {
                let same = (*first, *at) == (position, height);
                let what = || format!("told {first} at {at}, now {position} at {height}");
                rule(same, "V1", what).map(|()| false)
            }
        }
    }

    /// A verdict on bytes, asked for once.
    fn once(&self, bytes: Vec<u8>, verdict: impl FnOnce() -> bool) -> bool {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.contains(&bytes) {
            return true;
        }
        let holds = verdict();
        if holds {
            verified.insert(bytes);
        }
        holds
    }
}

/// V1 and V2 over all that one validator stores, by a replay from scratch. How many validators were slashed.
pub(crate) fn check_all(
    history: &History,
    committed: &[Header],
    genesis: &Genesis,
    (reader, is_honest): (&LedgerReader, &dyn Fn(usize) -> bool),
) -> Result<u64, Broken> {
    let chain = chain_id(genesis);
    let mut machine = Machine::open(MemoryStore::new(), genesis)
        .map_err(|error| Broken { rule: "V2", what: error.to_string() })?;
    let mut positions = BTreeMap::new();
    let mut producers: BTreeMap<(Lane, PublicKey), Producer> = BTreeMap::new();
    // Who began with a checkpoint may be ahead of everyone who has the whole log.
    let last = reader.height();
    for first in committed.iter().take_while(|first| first.height <= last) {
        let height = first.height;
        let block = read_block(reader, &chain, height)
            .map_err(|error| Broken { rule: "V5", what: format!("height {height}: {error}") })?;
        let what = || format!("height {height} is stored otherwise than committed");
        rule(block.header == *first, "V2", what)?;
        let (state, receipts, _) = history.apply(&mut machine, &block)?;
        let first = history.states.get(&height).unwrap_or(&state);
        rule(*first == state, "V2", || format!("a replay gives {state:?}, it was {first:?}"))?;
        for ((position, admitted), receipt) in block.ordered().zip(&receipts) {
            let once = positions.insert(admitted.tx, (position, height)).is_none();
            rule(once, "V1", || format!("{} stands twice", admitted.tx))?;
            let named = receipt.tx == admitted.tx && receipt.seqno == position.seqno;
            rule(named, "V1", || format!("the receipt of {position} is another's"))?;
            check_sequence(&mut producers, position, admitted)?;
        }
    }
    let finals = history.finals.iter().filter(|(_, (_, height, _))| *height <= last);
    for (tx, (position, height, admitted)) in finals {
        let stands = positions.get(tx) == Some(&(*position, *height));
        rule(stands, "V1", || {
            format!("{tx} was final at {position}, now {:?}", positions.get(tx))
        })?;
        let bytes = reader.transaction(position.lane, position.seqno);
        let same = bytes.is_ok_and(|bytes| *bytes == *admitted.bytes);
        rule(same, "V1", || format!("{position} does not give the bytes of {tx}"))?;
    }
    let validators = machine.validators();
    let validators = validators.map_err(|error| Broken { rule: "V2", what: error.to_string() })?;
    let deposed = validators.iter().map(|(_, record)| record).filter(|record| record.is_deposed);
    let mut count = 0;
    for record in deposed {
        let is_guilty = !is_honest(usize::from(record.index.get()));
        rule(is_guilty, "A9", || format!("{} is slashed, and honest", record.name))?;
        count += 1;
    }
    Ok(count)
}

/// V2 for one more validator: it stores the same headers.
pub(crate) fn check_headers(committed: &[Header], reader: &LedgerReader) -> Result<(), Broken> {
    let begun = committed.iter().skip_while(|first| first.height < reader.first_height());
    for first in begun.take_while(|first| first.height <= reader.height()) {
        let stored = reader.header(first.height);
        let same = stored.as_ref().is_ok_and(|(header, _)| header == first);
        let what = || format!("height {} is stored otherwise than committed", first.height);
        rule(same, "V2", what)?;
    }
    Ok(())
}

fn check_sequence(
    producers: &mut BTreeMap<(Lane, PublicKey), Producer>,
    position: Position,
    admitted: &Admitted,
) -> Result<(), Broken> {
    let transaction = &admitted.transaction;
    let producer = producers.entry((position.lane, transaction.signer)).or_insert(Producer::NEW);
    let own = Producer { incarnation: transaction.incarnation, sequence: transaction.sequence };
    let next = own == *producer || (own.incarnation > producer.incarnation && own.sequence == 1);
    rule(next, "V1", || format!("{position} has {own:?} after {producer:?}"))?;
    *producer = Producer { sequence: own.sequence + 1, ..own };
    Ok(())
}

/// V5: the log's own check finds nothing.
pub(crate) fn check_log(
    history: &History,
    disk: &CrashDisk,
    context: &Context,
) -> Result<(), Broken> {
    let chain = context.chain;
    let check = Check {
        disk,
        chain,
        lane_count: LANE_COUNT,
        certificate: &|header, certificate| {
            let hash = header_hash(header);
            let bytes = [&hash.0[..], &certificate.to_bytes()].concat();
            history.once(bytes, || check_commit(certificate, header.height, &hash, context).is_ok())
        },
        chunk: &|term, header, signature| {
            let body = header.to_bytes();
            let bytes = [&body, &signature.0[..], &term.sequencer.get().to_le_bytes()].concat();
            let signed = || {
                let set = &context.epochs.of_term(term.lane, term.term).set;
                set.get(term.sequencer).is_some_and(|validator| {
                    verify_tagged(&validator.key, &chain, set.epoch, Tag::Chunk, &body, signature)
                })
            };
            history.once(bytes, signed)
        },
    };
    let findings = check.run(&mut |_| {});
    rule(findings.is_empty(), "V5", || format!("{findings:?}"))
}

/// The position that the executed state gives a transaction.
pub(crate) fn place<S: Store>(
    machine: &Machine<S>,
    tx: &Hash,
) -> Result<Option<(Position, Height)>, Broken> {
    let place = machine.tx(tx).map_err(|error| Broken { rule: "V2", what: error.to_string() })?;
    Ok(place.map(|place| (place.position, place.height)))
}

/// The state's table of producers.
pub(crate) fn producers<S: Store>(
    machine: &Machine<S>,
) -> Result<Vec<(Lane, PublicKey, Producer)>, Broken> {
    let rows = machine.sequences();
    let rows = rows.map_err(|error| Broken { rule: "V4", what: error.to_string() })?;
    let row = |(lane, signer, sequence): (Lane, PublicKey, quipu_state::Sequence)| {
        let next = Producer { incarnation: sequence.incarnation, sequence: sequence.next };
        (lane, signer, next)
    };
    Ok(rows.into_iter().map(row).collect())
}
