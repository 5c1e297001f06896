//! Stages with a coin: open rounds, and whom they elect.

use quipu_consensus::{Context, Message, Rules};
use quipu_crypto::Tag;
use quipu_proof::names::chain_id;
use quipu_types::{CoinShare, Height, RoundCoin, Signature};

use super::{LANE_COUNT, Stage, Word, genesis, index, seeds};
use crate::coins::Dealing;

/// Names of ledgers that are tried for a coin that elects whom the play wants.
const NAME_COUNT_MAX: usize = 4_096;

impl Stage {
    /// As [`weighted`](Self::weighted), with a coin that elects these instances at these places (height, round). The
    /// coin depends on the ledger's name, of which those from number `first` on are tried.
    ///
    /// # Panics
    /// When thousands of names do not do.
    #[must_use]
    pub fn with_coin(
        powers: &[u64],
        criminals: &[u16],
        (rules, wal_before_send): (Rules, bool),
        elected: &[((u64, u32), u16)],
        first: u32,
    ) -> Self {
        let (seeds, dealing) = (seeds(powers.len()), Dealing::of(powers));
        let named = |name: u32| {
            let coin = Some(dealing.setup.clone());
            let genesis = genesis(&seeds, powers, &format!("stage {name}"), coin);
            let chain = chain_id(&genesis);
            let context = Context::new(chain, genesis.validator_set(), LANE_COUNT);
            let is_elected = |((height, round), instance): &((u64, u32), u16)| {
                let message = context.coin_message((Height::new(*height), *round));
                dealing.elected(&message).1 == index(*instance)
            };
            elected.iter().all(is_elected).then_some(genesis)
        };
        let mut names = (first..).take(NAME_COUNT_MAX);
        let genesis = names.find_map(named).expect("a coin elects anyone sooner or later");
        let dealing = Some(dealing);
        Self::raise(seeds, genesis, criminals, (rules, wal_before_send), dealing)
    }

    /// The led rounds that height 1 begins with end by their timers, and what is said in them is lost; then everyone
    /// enters the first open round, 3, and knows that the others do.
    pub fn open(&mut self) {
        for number in self.honest() {
            while self.round(number) < 3 && self.verdict().is_ok() {
                self.timer(number);
            }
        }
        self.lose(|letter| match letter.word() {
            Word::Propose(round) | Word::Prevote(round) | Word::Precommit(round) => round < 3,
            Word::Change(round) => round != 3,
            _ => false,
        });
        self.run(|letter| letter.word() == Word::Change(3));
    }

    /// Says a criminal's part in a coin.
    ///
    /// # Panics
    /// When the stage has no coin.
    pub fn share(&mut self, criminal: u16, height: u64, round: u32, to: &[u16]) {
        let (height, validator) = (Height::new(height), index(criminal));
        let dealing = self.dealing.as_ref().expect("the stage has a coin");
        let secret = dealing.secret(validator).expect("a validator of the stage");
        let parts = secret.sign(&self.context.coin_message((height, round)));
        let mut share =
            CoinShare { height, round, validator, parts, signature: Signature([0; 64]) };
        share.signature = self.sign(criminal, Tag::CoinShare, &share.signed_body());
        self.agree(criminal, to, Message::CoinShare(share));
    }

    /// The instance that a round's coin elects, once enough parts were said for anyone to know.
    #[must_use]
    pub fn elected(&self, height: u64, round: u32) -> Option<u16> {
        self.judge.public((Height::new(height), round)).map(|(_, elected)| elected.get())
    }

    /// The coins of the open rounds of a height below a round that anyone can know.
    pub(super) fn coins_below(&self, height: u64, round: u32) -> Vec<RoundCoin> {
        let before = height.saturating_sub(1);
        let parent = self.nodes.keys().find_map(|number| self.parent(*number, before));
        let height = Height::new(height);
        let rounds = parent.into_iter().flat_map(|own| own.rounds.open_below(height, round));
        let coin = |round| Some((round, self.judge.public((height, round))?.0));
        rounds.filter_map(coin).map(|(round, coin)| RoundCoin { round, coin }).collect()
    }
}
