//! Who validates, as the executed state has it: names, keys, where they listen.

use std::collections::BTreeMap;

use quipu_state::{Machine, StateError, Store};
use quipu_types::PublicKey;

/// A validator, current or to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// For people.
    pub(crate) name: String,
    /// The voting key.
    pub(crate) key: PublicKey,
    /// Power in the set in force.
    pub(crate) power: u64,
    /// Where the ledger says that it listens; nothing of one of the genesis that never moved.
    pub(crate) address: Option<String>,
}

/// Every validator, in the order of indices.
pub(crate) fn members<S: Store>(machine: &Machine<S>) -> Result<Vec<Member>, StateError> {
    let set = machine.current_set();
    let member = |(key, record): (PublicKey, quipu_state::ValidatorRecord)| Member {
        name: record.name,
        power: set.index_of(&key).map_or(0, |index| set.get(index).map_or(0, |one| one.power)),
        key,
        address: Some(record.address).filter(|address| !address.is_empty()),
    };
    Ok(machine.validators()?.into_iter().map(member).collect())
}

/// Where each of them listens, as far as that is known: what the configuration says comes before what the ledger says.
pub(crate) fn addresses(
    members: &[Member],
    peers: &BTreeMap<String, String>,
) -> Vec<Option<String>> {
    let of = |member: &Member| peers.get(&member.name).cloned().or_else(|| member.address.clone());
    members.iter().map(of).collect()
}
