//! What a machine says of stake: sets of epochs, validators, bonds, misdeeds, and what coins are made of.

use std::sync::Arc;

use quipu_crypto::coin::dealing::Plan;
use quipu_types::genesis::StakeRules;
use quipu_types::{CoinSetup, Dealing, PublicKey, Time, ValidatorIndex, ValidatorSet};

use super::{Machine, StateError};
use crate::absence::Absence;
use crate::dealing::{self, KeyRecord, Making, Proposal};
use crate::rows::TableRead;
use crate::stake::{self, EpochRecord, MisdeedOf, StakeHead, ValidatorRecord};
use crate::store::{Store, Table};

impl<S: Store> Machine<S> {
    /// How stake moves; none where it does not.
    #[must_use]
    pub const fn stake_rules(&self) -> Option<StakeRules> {
        self.rules.stake
    }

    /// The current epoch, since when, and whether the next one's set is known.
    #[must_use]
    pub const fn stake_head(&self) -> StakeHead {
        self.stake.head
    }

    /// The set of the current epoch: that of the last block applied, or of the genesis.
    #[must_use]
    pub fn current_set(&self) -> Arc<ValidatorSet> {
        Arc::clone(&self.stake.current)
    }

    /// Who of the current set is away, ascending.
    #[must_use]
    pub fn absences(&self) -> &[Absence] {
        self.stake.absences.list()
    }

    /// The next epoch's set, from when it is known until that epoch's first block is applied. It is the one that
    /// [`crate::Applied::next_set`] gave with the last block, after a restart too.
    #[must_use]
    pub fn next_set(&self) -> Option<Arc<ValidatorSet>> {
        self.stake.next.clone()
    }

    /// An epoch's set, and when it was in force: of the pending epoch, the current one, and those by which evidence is
    /// judged.
    pub fn epoch(&self, epoch: u64) -> Result<Option<EpochRecord>, StateError> {
        Ok(stake::read(&self.stake_space(), &stake::epoch_key(epoch))?)
    }

    /// Every epoch that [`Machine::epoch`] knows, ascending.
    pub fn epochs(&self) -> Result<Vec<EpochRecord>, StateError> {
        Ok(stake::epochs(&self.stake_space())?)
    }

    /// The validator of a voting key, if it is registered.
    pub fn validator(&self, key: &PublicKey) -> Result<Option<ValidatorRecord>, StateError> {
        Ok(stake::read(&self.stake_space(), &stake::validator_key(key))?)
    }

    /// Every validator that is registered, by index.
    pub fn validators(&self) -> Result<Vec<(PublicKey, ValidatorRecord)>, StateError> {
        Ok(stake::validators(&self.stake_space())?)
    }

    /// What a validator has locked, and when each part is due, ascending.
    pub fn locks(&self, key: &PublicKey) -> Result<Vec<(Time, u64)>, StateError> {
        Ok(stake::locks(&self.stake_space(), key)?)
    }

    /// Up to `limit` misdeeds from a key of [`Table::Stake`] on, each with its key; all of them from the empty one.
    pub fn misdeeds(
        &self,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, MisdeedOf)>, StateError> {
        Ok(stake::misdeeds(&self.stake_space(), from, limit)?)
    }

    /// The next epoch's set while its coin is made, from when it is proposed until it is pending.
    #[must_use]
    pub fn proposal(&self) -> Option<Arc<Proposal>> {
        self.stake.proposal.clone()
    }

    /// Whether sets that have no coin get one that their validators deal.
    #[must_use]
    pub const fn deals(&self) -> bool {
        self.rules.deals
    }

    /// A validator's key for shares, if it has one.
    pub fn dealing_key(&self, key: &PublicKey) -> Result<Option<KeyRecord>, StateError> {
        Ok(stake::read(&self.stake_space(), &dealing::dealing_key_key(key))?)
    }

    /// How an epoch's coin was made, or is: of the proposed, the pending and the current epoch. Epoch 0's is in the genesis.
    pub fn making(&self, epoch: u64) -> Result<Option<Making>, StateError> {
        Ok(dealing::making(&self.stake_space(), epoch)?)
    }

    /// What checks and opens the dealings of an epoch that [`Machine::making`] knows.
    pub fn plan(&self, epoch: u64) -> Result<Option<Plan>, StateError> {
        Ok(dealing::plan(&self.chain, epoch, &self.stake_space())?)
    }

    /// A validator's dealing for an epoch that [`Machine::making`] knows, if it has dealt.
    pub fn dealing(
        &self,
        epoch: u64,
        dealer: ValidatorIndex,
    ) -> Result<Option<Dealing>, StateError> {
        Ok(stake::read(&self.stake_space(), &dealing::dealing_key(epoch, dealer))?)
    }

    /// The coin that was dealt for an epoch, pending or current. Epoch 0's is in the genesis.
    pub fn coin_setup(&self, epoch: u64) -> Result<Option<CoinSetup>, StateError> {
        Ok(stake::read(&self.stake_space(), &dealing::setup_key(epoch))?)
    }

    const fn stake_space(&self) -> TableRead<'_, S> {
        TableRead { view: &self.view, table: Table::Stake }
    }
}
