//! The validator's part in the coins of later epochs: it registers a key for shares, deals, opens what others dealt, complains
//! of what does not open, and gives the coin to the ledger's thread.
//!
//! ```text
//!  each executed height ─> what the state asks for ─┬─ own key for shares is not there  ─> DealingKey ─┐
//!                                                   ├─ a set is proposed, own is due    ─> Deal ───────┼─> the carrier's transaction
//!                                                   ├─ a dealing does not open          ─> Grieve ─────┘
//!                                                   └─ a coin is made: own shares, summed ─> Message::Coin ─> replica
//! ```
//! # Invariants
//! * L1 All of it follows from the state and the key. After a restart it is done again; what is said twice the ledger refuses,
//!   and nothing is lost.
//! * L2 Nothing secret is kept but the key: the seed of a dealing is drawn, used once, and wiped.
//! * L3 Neither the ledger's thread nor the executor waits for it: points are computed by a worker.
//! # Limits
//! For 128 validators a deal takes 0.2 s, opening all 4.7 s, a coin half a second (decision 0037), beside the ledger's work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quipu_crypto::Tag;
use quipu_crypto::coin::dealing::{Checked, Closed, DecryptionKey, Opened, Plan};
use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_crypto::keyfile::KeyFileError;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_state::{Machine, Making, Proposal, Stage};
use quipu_types::stake::StakeAction;
use quipu_types::{Action, CoinSetup, Dealing, Encode as _, ValidatorIndex, ValidatorSet};

use crate::driver::Message;
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::gateway::{Role, Unwritten};
use crate::shared::Shared;
use crate::store::LmdbStore;

/// Pause after something was said and not taken.
const RETRY_TIME: Duration = Duration::from_millis(500);

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Dealer {
    shared: Arc<Shared>,
    voting: SecretKey,
    key: Arc<DecryptionKey>,
    carrier: Role,
    /// The newest epoch whose coin the ledger's thread has; the first one's is the genesis'.
    given: u64,
    /// The newest epoch of which was told that it has no coin.
    told: Option<u64>,
    /// Of one epoch, and the own place in its set.
    shares: Shares,
}

/// What was opened of an epoch's dealings.
#[derive(Debug, Default)]
struct Shares {
    epoch: u64,
    own: ValidatorIndex,
    opened: BTreeMap<ValidatorIndex, (Checked, Opened)>,
    /// Whether something does not open that counts: then all that was opened is of no use.
    is_closed: bool,
}

/// What the state asks for.
struct Wanted {
    /// Epochs whose coins are made.
    coins: Vec<Arc<ValidatorSet>>,
    /// The epoch in which a key for shares is to be registered.
    key: Option<u64>,
    proposal: Option<Arc<Proposal>>,
}

impl Dealer {
    /// A dealer with the key of a file, which is made if it is missing. None where no coins are dealt.
    pub(crate) fn open(
        path: &Path,
        voting: SecretKey,
        shared: &Arc<Shared>,
    ) -> Result<Option<Self>, NodeError> {
        if !shared.machine()?.deals() {
            return Ok(None);
        }
        let key = key_at(path)?;
        let carrier = Role::new("dealer".into(), key.carrier());
        Ok(Some(Self {
            shared: Arc::clone(shared),
            voting,
            key: Arc::new(key),
            carrier,
            given: 0,
            told: None,
            shares: Shares::default(),
        }))
    }

    /// Works until the process stops.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut progress = shared.watch();
        loop {
            let executed = progress.borrow_and_update().executed;
            if let Err(error) = self.advance().await {
                if !shared.stopping() {
                    tracing::error!(%error, "no coin is dealt here any more");
                }
                return;
            }
            // What is waited for is a guard: nothing else is asked while it is there.
            let moved = progress.wait_for(|now| now.stopping || now.executed > executed).await;
            if moved.map_or(true, |now| now.stopping) {
                return;
            }
        }
    }

    async fn advance(&mut self) -> Result<(), NodeError> {
        let wanted = self.look()?;
        for set in wanted.coins {
            self.take(&set).await?;
        }
        if let Some(epoch) = wanted.key {
            self.register(epoch).await;
        }
        let Some(proposal) = wanted.proposal else { return Ok(()) };
        let Some(own) = proposal.set.index_of(&self.voting.public()) else { return Ok(()) };
        self.enter(proposal.set.epoch, own);
        if is_due(&proposal, own) {
            self.deal(&proposal, own).await?;
        }
        self.open_all(&proposal.plan, &proposal.making, true).await
    }

    /// What the state asks for, now.
    fn look(&mut self) -> Result<Wanted, NodeError> {
        let machine = self.shared.machine()?;
        let (own, current) = (self.voting.public(), machine.current_set());
        if current.coin.is_none() && self.told != Some(current.epoch) {
            self.told = Some(current.epoch);
            tracing::warn!(
                epoch = current.epoch,
                without_key = ?without_key(&machine, &current)?,
                "the epoch has no coin, so each of its rounds has a leader; one is made as soon as all with power have a key for shares"
            );
        }
        let registered = machine.dealing_key(&own).map_err(state_failed)?;
        let is_validator = machine.validator(&own).map_err(state_failed)?.is_some();
        let is_due = registered
            .is_none_or(|known| known.key != self.key.public() && known.epoch != current.epoch);
        let key = (is_validator && is_due).then_some(current.epoch);
        let sets = [Some(current), machine.next_set()].into_iter().flatten();
        let coins = sets.filter(|set| set.coin.is_some() && set.epoch > self.given).collect();
        Ok(Wanted { coins, key, proposal: machine.proposal() })
    }

    /// Has an action ordered by the carrier; tells what came of it.
    async fn say(&self, what: &str, action: StakeAction) {
        match self.carrier.say(&self.shared, &[Action::Stake(Box::new(action))]).await {
            Ok(()) => return tracing::info!("{what}: applied"),
            Err(Unwritten::Refused { code, .. }) => tracing::info!(%code, "{what}: refused"),
            Err(Unwritten::Failed(error)) => {
                tracing::warn!(%error, "{what}: not known to be applied")
            }
        }
        tokio::time::sleep(RETRY_TIME).await;
    }

    async fn register(&self, epoch: u64) {
        let (key, dealing) = (self.voting.public(), self.key.public());
        let (chain, bytes) = (&self.shared.chain, dealing.to_bytes());
        let proof = self.key.prove(chain, &key);
        let signature = sign_tagged(&self.voting, chain, epoch, Tag::DealingKey, &bytes);
        let action = StakeAction::DealingKey { key, dealing, proof, signature };
        self.say("registering the key for shares of coins", action).await;
    }

    async fn deal(&self, proposal: &Arc<Proposal>, own: ValidatorIndex) -> Result<(), NodeError> {
        let plan = proposal.plan.clone();
        let dealing = on_worker(move || plan.draw(own)).await?;
        let (epoch, bytes) = (dealing.epoch, dealing.to_bytes());
        let signature = sign_tagged(&self.voting, &self.shared.chain, epoch, Tag::Deal, &bytes);
        let what = format!("dealing the coin of epoch {epoch}");
        self.say(&what, StakeAction::Deal { dealing, signature }).await;
        Ok(())
    }

    /// Forgets what was opened of another epoch.
    fn enter(&mut self, epoch: u64, own: ValidatorIndex) {
        if (self.shares.epoch, self.shares.own) != (epoch, own) {
            self.shares = Shares { epoch, own, ..Shares::default() };
        }
    }

    /// Opens what counts and was not opened yet; says a grievance of what does not open, while there is time for it.
    async fn open_all(
        &mut self,
        plan: &Plan,
        making: &Making,
        is_in_time: bool,
    ) -> Result<(), NodeError> {
        let Shares { epoch, own, .. } = self.shares;
        for dealer in making.dealers() {
            if self.shares.is_closed || self.shares.opened.contains_key(&dealer) {
                continue;
            }
            let dealing = self.shared.machine()?.dealing(epoch, dealer).map_err(state_failed)?;
            // It may be over already, and forgotten.
            let Some(dealing) = dealing else { return Ok(()) };
            let (plan, key) = (plan.clone(), Arc::clone(&self.key));
            let (checked, opened) = on_worker(move || open(&plan, &dealing, own, &key)).await??;
            match opened {
                Ok(opened) => drop(self.shares.opened.insert(dealer, (checked, opened))),
                Err(Closed::Wrong(grievance)) if is_in_time => {
                    let what = format!("showing that validator {dealer} dealt wrong shares");
                    self.say(&what, StakeAction::Grieve(*grievance)).await;
                }
                Err(reason) => {
                    self.shares.is_closed = true;
                    tracing::warn!(epoch, %dealer, %reason, "this validator has no shares of the epoch's coin; others throw it");
                }
            }
        }
        Ok(())
    }

    /// Makes an epoch's coin of what was dealt, and gives it to the ledger's thread.
    async fn take(&mut self, set: &ValidatorSet) -> Result<(), NodeError> {
        let epoch = set.epoch;
        let Some(own) = set.index_of(&self.voting.public()) else { return Ok(()) };
        let (setup, plan, making) = {
            let machine = self.shared.machine()?;
            let setup = machine.coin_setup(epoch).map_err(state_failed)?;
            let plan = machine.plan(epoch).map_err(state_failed)?;
            (setup, plan, machine.making(epoch).map_err(state_failed)?)
        };
        // It may be over already, and forgotten.
        let (Some(setup), Some(plan), Some(making)) = (setup, plan, making) else { return Ok(()) };
        self.enter(epoch, own);
        self.open_all(&plan, &making, false).await?;
        let has_power = set.power(own) > 0;
        let shares = std::mem::take(&mut self.shares);
        let coin = on_worker(move || coin(&plan, &setup, shares, has_power)).await??;
        let is_whole = coin.1.is_some();
        let message = Message::Coin { epoch, coin: Box::new(coin) };
        // Where there is no room, it is made again after the next height.
        if self.shared.try_send(message).is_none() {
            self.given = epoch;
            tracing::info!(epoch, is_whole, "the coin that the validators dealt is here");
        }
        Ok(())
    }
}

/// Names of those with power who have registered no key for shares.
fn without_key(machine: &Machine<LmdbStore>, set: &ValidatorSet) -> Result<Vec<String>, NodeError> {
    let mut names = Vec::new();
    for one in set.validators.iter().filter(|one| one.power > 0) {
        if machine.dealing_key(&one.key).map_err(state_failed)?.is_none() {
            let record = machine.validator(&one.key).map_err(state_failed)?;
            names.push(record.map_or_else(|| one.key.to_string(), |record| record.name));
        }
    }
    Ok(names)
}

/// Whether a validator has still to deal.
fn is_due(proposal: &Proposal, own: ValidatorIndex) -> bool {
    let making = &proposal.making;
    let place = making.members.get(usize::from(own.get()));
    let stage = place.map(|member| member.stage);
    making.closed.is_none() && stage == Some(Stage::Due) && proposal.set.power(own) > 0
}

fn open(
    plan: &Plan,
    dealing: &Dealing,
    own: ValidatorIndex,
    key: &DecryptionKey,
) -> Result<(Checked, Result<Opened, Closed>), NodeError> {
    let checked = plan.check(dealing).map_err(|refused| NodeError::Damaged {
        what: "the state",
        reason: format!("a dealing that was taken: {refused}"),
    })?;
    let opened = plan.open(&checked, own, key);
    Ok((checked, opened))
}

/// What makes the coins, and the own shares: none where they are missing, or nothing is dealt to who has no power.
fn coin(
    plan: &Plan,
    setup: &CoinSetup,
    shares: Shares,
    has_power: bool,
) -> Result<(CoinScheme, Option<CoinSecret>), NodeError> {
    let scheme = CoinScheme::new(setup, plan.powers()).map_err(|error| NodeError::Damaged {
        what: "the state",
        reason: format!("the coin that was dealt: {error}"),
    })?;
    if !has_power {
        return Ok((scheme, None));
    }
    let (epoch, own) = (shares.epoch, shares.own);
    let (checked, opened): (Vec<Checked>, Vec<Opened>) = shares.opened.into_values().unzip();
    let checked: Vec<&Checked> = checked.iter().collect();
    let secret = match plan.secret(&checked, &opened) {
        Ok(secret) => Some(secret).filter(|secret| scheme.fits(own, secret)),
        Err(error) => {
            tracing::warn!(epoch, %error, "others throw the coin of this epoch");
            None
        }
    };
    Ok((scheme, secret))
}

/// The key of a file; a new one if there is none.
fn key_at(path: &Path) -> Result<DecryptionKey, NodeError> {
    let wrong =
        |error: KeyFileError| NodeError::Key { path: path.into(), reason: error.to_string() };
    match DecryptionKey::load(path) {
        Err(KeyFileError::Missing { .. }) => {
            let key = DecryptionKey::draw();
            key.save(path).map_err(wrong)?;
            tracing::info!(path = %path.display(), "made a key for shares of later epochs' coins");
            Ok(key)
        }
        read => read.map_err(wrong),
    }
}

async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| NodeError::system("dealing a coin", error))
}
