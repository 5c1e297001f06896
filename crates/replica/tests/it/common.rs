//! The ledger, the keys and the transactions of these tests.

use std::sync::Arc;

use quipu_consensus::Context;
use quipu_crypto::suite::SecretKey;
use quipu_proof::names::{TransactionDraft, chain_id, sign_transaction};
use quipu_replica::{Admissions, Admitted, admit};
use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
use quipu_types::{Action, Encode, Genesis, Hash, Height, Signature, SignedState, Suite, Time};

pub(crate) const LANES: u16 = 2;
pub(crate) const MIN_US: u64 = 5_000;

pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [number; 32])
}

/// Admits transactions of the context's ledger, and remembers none.
pub(crate) fn admissions(context: &Context) -> Admissions {
    Admissions::new(context.chain, LANES, 0)
}

/// Validators with powers of 4, 3, 2, 1, so that the index is the rank.
pub(crate) fn genesis(validator_count: u8) -> Genesis {
    let validators = (1..=validator_count)
        .map(|number| GenesisValidator {
            name: format!("v{number}"),
            key: key(number).public(),
            power: u64::from(5 - number),
            possession: Signature([0; 64]),
            owner: None,
        })
        .collect();
    Genesis {
        version: GENESIS_VERSION,
        name: "test".to_owned(),
        time_us: Time::new(1),
        lane_count: LANES,
        clock_seed: "text".to_owned(),
        clock_rate_hz: 1_000,
        hash_rate_fastest_hz: 1_000_000,
        anchor_window_heights: 100,
        height_interval_min_ms: 5,
        height_interval_idle_ms: 1_000,
        open_streams: true,
        validators,
        accounts: Vec::new(),
        coin: None,
        stake: None,
    }
}

/// Four validators of one power each.
pub(crate) fn equal() -> Genesis {
    let mut genesis = genesis(4);
    for validator in &mut genesis.validators {
        validator.power = 1;
    }
    genesis
}

pub(crate) fn transaction(
    signer: u8,
    incarnation: u32,
    sequence: u64,
    size: usize,
) -> Arc<Admitted> {
    transaction_of(&genesis(1), signer, incarnation, sequence, size)
}

pub(crate) fn transaction_of(
    genesis: &Genesis,
    signer: u8,
    incarnation: u32,
    sequence: u64,
    size: usize,
) -> Arc<Admitted> {
    let action = Action::Append { stream: "s".into(), key: vec![], payload: vec![7; size] };
    let chain = chain_id(genesis);
    let draft = TransactionDraft {
        incarnation,
        sequence,
        anchor: chain,
        route: None,
        actions: vec![action],
    };
    let bytes = sign_transaction(&key(signer), &chain, draft).to_bytes();
    Arc::new(admit(&chain, LANES, bytes.into()).expect("an honest transaction"))
}

pub(crate) fn state(height: Height) -> SignedState {
    SignedState { height, state_root: Hash([1; 32]), receipts_root: Hash([2; 32]), next_set: None }
}
