//! Puts a bundle together from what a validator holds. The parts are not verified here.

use quipu_crypto::hash::leaf_hashes;
use quipu_crypto::merkle::{MemoryNodes, inclusion_path};
use quipu_types::{
    Action, Encode, Hash, Header, Lane, Position, Receipt, StateCertificate, Transaction,
};
use thiserror::Error;

use crate::bundle::{
    ActionPart, BUNDLE_VERSION, Bundle, Committed, LanePart, MixedPart, Place, ReceiptPart,
    TimePart,
};
use crate::hexed::Hexed;
use crate::names;
use crate::order::tip_of;

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Chain id.
    pub chain: Hash,
    /// The hand-overs up to the newest header among the parts.
    pub epochs: Vec<Committed>,
    /// The transaction.
    pub transaction: &'a Transaction,
    /// Where it stands.
    pub position: Position,
    /// The action to prove, by its 0-based index; none proves the transaction as a whole.
    pub action: Option<u32>,
    /// Path of the leaf `seqno − 1` in the lane's tree at the size of the block header's tip.
    pub lane_path: Vec<Hash>,
    /// The first header whose cut covers it, and its certificate.
    pub block: Committed,
    /// The header before that one; none at height 1.
    pub previous: Option<Header>,
    /// What execution gave, when it is certified.
    pub results: Option<Results<'a>>,
    /// The header that the transaction's anchor names; none when it is the genesis, or not known.
    pub anchor: Option<Committed>,
    /// The header after the block's, if there is one yet.
    pub next: Option<Committed>,
    /// A header that the lane's clock mixed before the transaction, if that is to be shown.
    pub mixed: Option<MixedPart>,
}

/// What execution of the block's height gave.
#[derive(Clone, Debug)]
pub struct Results<'a> {
    /// All receipts of the height, in the ledger's order.
    pub receipts: &'a [Receipt],
    /// The certificate of their root.
    pub certificate: StateCertificate,
}

/// Why parts make no bundle.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The header's cut does not reach the transaction.
    #[error("header covers lane {lane} up to another place than {position}")]
    NotCovered {
        /// The lane.
        lane: Lane,
        /// The transaction.
        position: Position,
    },
    /// The transaction has no such action.
    #[error("action {index} does not exist, there are {count}")]
    NoSuchAction {
        /// What was asked for.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The height has no receipt of the transaction.
    #[error("height has no receipt of {position}")]
    NoReceipt {
        /// The transaction.
        position: Position,
    },
}

/// Puts `parts` together.
///
/// # Errors
/// The parts do not belong together.
pub fn build(parts: Parts<'_>) -> Result<Bundle, BuildError> {
    let Position { lane, seqno } = parts.position;
    let not_covered = BuildError::NotCovered { lane, position: parts.position };
    let tip = tip_of(&parts.block.header.0.cut, lane).ok_or(not_covered)?;
    let index = seqno.get().checked_sub(1).filter(|_| seqno <= tip.seqno).ok_or(not_covered)?;
    let lane_path = LanePart { index, size: tip.seqno.get(), path: parts.lane_path };
    let envelope = names::envelope(parts.transaction);
    let action =
        parts.action.map(|index| action_part(&parts.transaction.actions, index)).transpose()?;
    let receipt = parts.results.map(|results| receipt_part(parts.position, results)).transpose()?;
    Ok(Bundle {
        version: BUNDLE_VERSION,
        chain: parts.chain,
        epochs: parts.epochs,
        tx: names::tx_name(&parts.chain, &envelope),
        position: Place { lane, seqno },
        envelope: Hexed(envelope),
        action,
        lane_path,
        header: parts.block.header,
        certificate: parts.block.certificate,
        previous: parts.previous.map(Hexed),
        receipt,
        time: TimePart { anchor: parts.anchor, next: parts.next, mixed: parts.mixed },
    })
}

fn action_part(actions: &[Action], index: u32) -> Result<ActionPart, BuildError> {
    let no_such = BuildError::NoSuchAction { index, count: actions.len() };
    let place = usize::try_from(index).map_err(|_| no_such)?;
    let action = actions.get(place).ok_or(no_such)?.clone();
    let path = path_of(actions, place);
    Ok(ActionPart { index, bytes: Hexed(action), path })
}

fn receipt_part(position: Position, results: Results<'_>) -> Result<ReceiptPart, BuildError> {
    let Position { lane, seqno } = position;
    let (place, receipt) = results
        .receipts
        .iter()
        .enumerate()
        .find(|(_, receipt)| receipt.lane == lane && receipt.seqno == seqno)
        .ok_or(BuildError::NoReceipt { position })?;
    Ok(ReceiptPart {
        bytes: Hexed(*receipt),
        index: wide(place),
        count: wide(results.receipts.len()),
        path: path_of(results.receipts, place),
        certificate: Hexed(results.certificate),
    })
}

/// Path of the leaf at `place` in the tree over the encodings of `items`.
fn path_of<T: Encode>(items: &[T], place: usize) -> Vec<Hash> {
    let encodings: Vec<Vec<u8>> = items.iter().map(Encode::to_bytes).collect();
    let leaves = leaf_hashes(&encodings.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let nodes = MemoryNodes::from_leaves(&leaves);
    let Ok(path) = inclusion_path(&nodes, wide(place), wide(items.len()));
    path
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).expect("what is in memory is counted by 64 bits")
}
