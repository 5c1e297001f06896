//! What has to stay true, and the checks that it did.
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_consensus::header::{Context, check_commit};
use quipu_consensus::{Message, Record};
use quipu_crypto::Tag;
use quipu_crypto::suite::verify_tagged;
use quipu_log::{Check, LedgerReader};
use quipu_proof::names::{chain_id, header_hash};
use quipu_replica::storage::read_block;
use quipu_replica::{Admitted, Block, Producer};
use quipu_state::{Machine, MemoryStore, Store};
use quipu_types::{
    CommitCertificate, Decode, Encode, Genesis, Hash, Height, Lane, Position, PublicKey, Receipt,
    SignedState,
};

use crate::disk::CrashDisk;
use crate::{Broken, rule};

/// Everything that left the validator and can not be taken back.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) commits: BTreeMap<Height, (Hash, CommitCertificate)>,
    pub(crate) states: BTreeMap<Height, SignedState>,
    pub(crate) finals: BTreeMap<Hash, (Position, Height, Arc<Admitted>)>,
    pub(crate) certified: BTreeSet<Height>,
}

impl History {
    /// A block was handed to execution.
    pub(crate) fn commit(&mut self, block: &Block) -> Result<bool, Broken> {
        let height = block.header.height;
        let said = (block.hash, block.certificate.clone());
        match self.commits.get(&height) {
            None => {
                self.commits.insert(height, said);
                Ok(true)
            }
            Some(first) => {
                let what =
                    || format!("height {height} was committed as {:?}, now {said:?}", first.0);
                rule(*first == said, "V2", what).map(|()| false)
            }
        }
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
}

/// Records that are written and durable, as messages.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    durable: BTreeSet<Vec<u8>>,
}

impl Votes {
    pub(crate) fn add(&mut self, records: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Broken> {
        for bytes in records {
            let record = Record::from_bytes(&bytes);
            rule(record.is_ok(), "V3", || "a record does not read back".to_owned())?;
            self.durable.extend(record.map(|record| record.message().to_bytes()));
        }
        Ok(())
    }

    /// V3 for one message.
    pub(crate) fn check(&self, message: &Message) -> Result<(), Broken> {
        let holds = self.durable.contains(&message.to_bytes());
        rule(holds, "V3", || format!("left before its record was durable: {message:?}"))
    }

    pub(crate) fn check_commit(&self, certificate: &CommitCertificate) -> Result<(), Broken> {
        certificate
            .precommits
            .iter()
            .try_for_each(|vote| self.check(&Message::Precommit(vote.clone())))
    }
}

/// Applies a block.
pub(crate) fn apply<S: Store>(
    machine: &mut Machine<S>,
    block: &Block,
) -> Result<(SignedState, Vec<Receipt>), Broken> {
    let height = block.header.height;
    block
        .apply(machine)
        .map_err(|error| Broken { rule: "V2", what: format!("height {height}: {error}") })
}

/// V1 and V2 over all that is stored, by a replay from scratch.
pub(crate) fn check_all(
    history: &History,
    genesis: &Genesis,
    reader: &LedgerReader,
) -> Result<(), Broken> {
    let chain = chain_id(genesis);
    let context = Context { chain, set: genesis.validator_set() };
    let mut machine = Machine::open(MemoryStore::new(), genesis)
        .map_err(|error| Broken { rule: "V2", what: error.to_string() })?;
    let mut positions = BTreeMap::new();
    let mut producers: BTreeMap<(Lane, PublicKey), Producer> = BTreeMap::new();
    let head = reader.height();
    let newest = history.commits.keys().next_back().copied().unwrap_or_default();
    rule(head >= newest, "V2", || format!("height {newest} was committed, {head} is stored"))?;
    for height in (1..=head.get()).map(Height::new) {
        let block = read_block(reader, &chain, height)
            .map_err(|error| Broken { rule: "V5", what: format!("height {height}: {error}") })?;
        let named = check_commit(&block.certificate, height, &block.hash, &context).is_ok()
            && header_hash(&block.header) == block.hash;
        rule(named, "V2", || format!("height {height} has no certificate"))?;
        if let Some(first) = history.commits.get(&height) {
            let same = *first == (block.hash, block.certificate.clone());
            rule(same, "V2", || format!("height {height} is stored otherwise than committed"))?;
        }
        let (state, receipts) = apply(&mut machine, &block)?;
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
    for (tx, (position, height, admitted)) in &history.finals {
        let stands = positions.get(tx) == Some(&(*position, *height));
        rule(stands, "V1", || {
            format!("{tx} was final at {position}, now {:?}", positions.get(tx))
        })?;
        let bytes = reader.transaction(position.lane, position.seqno);
        let same = bytes.is_ok_and(|bytes| *bytes == *admitted.bytes);
        rule(same, "V1", || format!("{position} does not give the bytes of {tx}"))?;
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
pub(crate) fn check_log(disk: &CrashDisk, genesis: &Genesis) -> Result<(), Broken> {
    let chain = chain_id(genesis);
    let set = genesis.validator_set();
    let context = Context { chain, set: set.clone() };
    let check = Check {
        disk,
        chain,
        lane_count: genesis.lane_count,
        certificate: &|header, certificate| {
            check_commit(certificate, header.height, &header_hash(header), &context).is_ok()
        },
        chunk: &|term, header, signature| {
            set.get(term.sequencer).is_some_and(|validator| {
                let body = header.to_bytes();
                verify_tagged(&validator.key, &chain, set.epoch, Tag::Chunk, &body, signature)
            })
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
