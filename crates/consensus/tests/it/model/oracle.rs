//! What the real code says of the reduced model's words: safety signs them, certificates are checked, evidence is
//! judged.
//!
//! A word of the model is a bit of a mask. For every bit and validator there is the record that a real [`Safety`]
//! makes of it, with a real signature; whatever the model asks is answered by the real functions over these records.
//! The model keeps the answers, for there are few questions. The coins are real too, and checked once each.

use std::collections::BTreeMap;

use quipu_consensus::certificate::{check_coins, check_commit, check_polka, check_round_change};
use quipu_consensus::safety::{Report, Safety};
use quipu_consensus::tally::Votes;
use quipu_consensus::{Change, Context, Evidence, Parent, Record, Rules, genesis_cut};
use quipu_crypto::coin::{CoinSecret, Combined};
use quipu_proof::names::header_hash;
use quipu_types::round::{Mode, Start};
use quipu_types::{
    Coin, CommitCertificate, Hash, Header, Height, High, Precommit, Prevote, Propose, RoundChange,
    RoundChangeCertificate, RoundCoin, RoundKind, Rounds, Signature, Time, ValidatorIndex,
};

use crate::world::{CHAIN, GENESIS_TIME, LANES, ROUNDS, context, dealing, key, number};

const POWERS: [u64; 4] = [1; 4];
/// Honest validators: the first three. The fourth is the criminal.
pub(crate) const HONEST: usize = 3;
const CRIMINAL: usize = 3;
/// Headers that are proposed.
pub(crate) const VALUES: usize = 2;

/// A header of a place: which of the places, which of the headers.
pub(crate) type Vote = (usize, usize);

/// What an honest validator says. Rounds are counted from the first of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A prevote.
    Prevote(Vote),
    /// A precommit.
    Precommit(Vote),
    /// A change to a round, and the polka that it names.
    Change(usize, Option<Vote>),
}

/// Where is voted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) round: usize,
    pub(crate) kind: RoundKind,
    pub(crate) instance: ValidatorIndex,
    /// Whether its polkas and commits count: it is of a led round, or the coin elects it.
    pub(crate) counts: bool,
}

/// Which rounds there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) rounds: usize,
    /// Whether the first round is open; they alternate.
    pub(crate) starts_open: bool,
    /// Whether an open round has an instance beside the elected one.
    pub(crate) has_void: bool,
    pub(crate) rules: Rules,
    /// Whom the first coin elects.
    pub(crate) elected: usize,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) spots: Vec<Spot>,
    /// Every word that can be said, by its bit.
    pub(crate) words: BTreeMap<usize, Word>,
    pub(crate) rounds: usize,
    context: Context,
    kinds: Rounds,
    height: Height,
    first: u32,
    headers: Vec<Header>,
    digests: Vec<Hash>,
    /// By round of the model.
    coins: BTreeMap<usize, Coin>,
    /// By place and header.
    polkas: BTreeMap<Vote, Vec<Prevote>>,
    records: Vec<BTreeMap<usize, Record>>,
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("few rounds")
}

/// The bits of a mask, ascending.
pub(crate) fn bits(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| mask >> bit & 1 == 1)
}

/// The coin of a place, made of everyone's parts.
fn toss(context: &Context, place: (Height, u32)) -> Coin {
    let dealing = dealing(&POWERS);
    let message = context.coin_message(place);
    let parts = dealing.1.iter().enumerate().map(|(index, bytes)| {
        let secret = CoinSecret::from_bytes(bytes).expect("its own bytes");
        (number(index), secret.sign(&message))
    });
    match dealing.0.combine(&message, &parts.collect()) {
        Combined::Coin(coin) => coin,
        other => panic!("every part is right: {other:?}"),
    }
}

impl Oracle {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let context = Context { rules: bounds.rules, ..context(&POWERS) };
        // Led, led, [led, open, led, …] or [open, led, …].
        let (kinds, first) = match bounds.starts_open {
            true => (Rounds { mode: Mode::Open, start: Start::Open, ..ROUNDS }, 0),
            false => (ROUNDS, 2),
        };
        let kind = |height, round: usize| kinds.kind(height, first + small(round)).0;
        // A coin elects whom it elects: the height is chosen so that the first one elects as wanted.
        let coins_of = |height: Height| -> BTreeMap<usize, Coin> {
            let open = (0..bounds.rounds).filter(|round| kind(height, *round) == RoundKind::Open);
            open.map(|round| (round, toss(&context, (height, first + small(round))))).collect()
        };
        let wanted = |height: &Height, coins: &BTreeMap<usize, Coin>| {
            coins.iter().next().is_none_or(|(round, coin)| {
                context.elected((*height, first + small(*round)), coin)
                    == Some(number(bounds.elected))
            })
        };
        let tossed = (1..).map(Height::new).map(|height| (height, coins_of(height)));
        let mut wanted = tossed.filter(|(height, coins)| wanted(height, coins));
        let (height, coins) = wanted.next().expect("some height's coin elects it");
        let mut spots = Vec::new();
        for round in 0..bounds.rounds {
            let kind = kind(height, round);
            let Some(coin) = coins.get(&round) else {
                let instance =
                    context.schedule.leader(0, kinds.kind(height, first + small(round)).1);
                spots.push(Spot { round, kind, instance, counts: true });
                continue;
            };
            let elected = context.elected((height, first + small(round)), coin).expect("its coin");
            spots.push(Spot { round, kind, instance: elected, counts: true });
            if bounds.has_void {
                let instance = number((usize::from(elected.get()) + 1) % POWERS.len());
                spots.push(Spot { round, kind, instance, counts: false });
            }
        }
        let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES, kinds);
        let header = |value| Header {
            height,
            ..parent.next(&context, number(value), genesis_cut(LANES), None, None)
        };
        let headers: Vec<Header> = (0..VALUES).map(header).collect();
        let digests = headers.iter().map(header_hash).collect();
        let mut oracle = Self {
            spots,
            words: BTreeMap::new(),
            rounds: bounds.rounds,
            context,
            kinds,
            height,
            first,
            headers,
            digests,
            coins,
            polkas: BTreeMap::new(),
            records: Vec::new(),
        };
        oracle.sign();
        oracle
    }

    /// Every validator signs every word, each as if it had said nothing before.
    fn sign(&mut self) {
        let votes: Vec<Vote> = (0..self.spots.len())
            .flat_map(|spot| (0..VALUES).map(move |value| (spot, value)))
            .collect();
        let fresh = |oracle: &Self, validator| Safety::new(key(validator), &oracle.context);
        let said = "who has said nothing says anything";
        for vote in &votes {
            let polka = [0, 1, CRIMINAL].map(|validator| {
                let record =
                    self.ask(&mut fresh(self, validator), Word::Prevote(*vote), 0).expect(said);
                let Record::Prevote { vote, .. } = record else { panic!("a prevote") };
                vote
            });
            self.polkas.insert(*vote, polka.to_vec());
        }
        let mut words: Vec<Word> = Vec::new();
        words.extend(votes.iter().map(|vote| Word::Prevote(*vote)));
        words.extend(votes.iter().map(|vote| Word::Precommit(*vote)));
        for round in 1..self.rounds {
            words.push(Word::Change(round, None));
            let below = votes.iter().filter(|vote| self.spots[vote.0].round < round);
            words.extend(below.map(|vote| Word::Change(round, Some(*vote))));
        }
        self.words = words.into_iter().map(|word| (self.bit(word), word)).collect();
        let record =
            |validator, word| self.ask(&mut fresh(self, validator), word, u8::MAX).expect(said);
        self.records = (0..POWERS.len())
            .map(|validator| {
                self.words.iter().map(|(bit, word)| (*bit, record(validator, *word))).collect()
            })
            .collect();
    }

    /// The bit of a word. The same word of the other header is beside it; what names no header comes last.
    pub(crate) fn bit(&self, word: Word) -> usize {
        let spots = self.spots.len();
        match word {
            Word::Prevote((spot, value)) => VALUES * spot + value,
            Word::Precommit((spot, value)) => VALUES * (spots + spot) + value,
            Word::Change(round, Some((spot, value))) => {
                VALUES * ((round + 1) * spots + spot) + value
            }
            Word::Change(round, None) => VALUES * (self.rounds + 1) * spots + round - 1,
        }
    }

    /// Bits of words that name a header.
    pub(crate) fn named(&self) -> u64 {
        (1 << (VALUES * (self.rounds + 1) * self.spots.len())) - 1
    }

    fn round(&self, round: usize) -> u32 {
        self.first + small(round)
    }

    fn high(&self, (spot, value): Vote) -> High {
        let Spot { round, instance, .. } = self.spots[spot];
        High { round: self.round(round), instance, digest: self.digests[value] }
    }

    /// The coins below a round that are known.
    fn coins_below(&self, round: usize, shown: u8) -> Vec<RoundCoin> {
        let known = self.coins.range(..round).filter(|(round, _)| shown >> **round & 1 == 1);
        known.map(|(round, coin)| RoundCoin { round: self.round(*round), coin: *coin }).collect()
    }

    /// What a validator's safety makes of a wish to say a word; nothing, when it says nothing new.
    fn ask(&self, safety: &mut Safety, word: Word, shown: u8) -> Option<Record> {
        match word {
            Word::Prevote((spot, value)) => {
                let Spot { round, kind, instance, .. } = self.spots[spot];
                let propose = Propose {
                    height: self.height,
                    round: self.round(round),
                    kind,
                    instance,
                    header: self.headers[value].clone(),
                    certificate: None,
                    signature: Signature([0; 64]),
                };
                safety.prevote(&propose, self.digests[value], self.digests[value])?.record
            }
            Word::Precommit(vote) => {
                let time = Time::new(GENESIS_TIME.get() + 2);
                let report =
                    Report { tips: Vec::new(), acks: Vec::new(), suspects: Vec::new(), time };
                safety.precommit(&self.context.set, self.polkas[&vote].clone(), report)?.record
            }
            Word::Change(round, high) => {
                let place = (
                    self.height,
                    self.round(round),
                    self.kinds.kind(self.height, self.round(round)).0,
                );
                let high = high.map(|vote| (self.high(vote), self.polkas[&vote].clone()));
                let coins = self.coins_below(round, shown);
                let is_void = |vote: &Precommit| {
                    let coin = coins.iter().find(|coin| coin.round == vote.round);
                    let elected = coin
                        .and_then(|own| self.context.elected((vote.height, own.round), &own.coin));
                    vote.kind == RoundKind::Open && elected != Some(vote.instance)
                };
                safety.change(place, high, coins.clone(), is_void).record
            }
        }
    }

    /// What an honest validator that said `words` has said after the wish to say another.
    pub(crate) fn say(&self, words: u64, word: Word, shown: u8) -> u64 {
        let mut safety = Safety::new(key(0), &self.context);
        for bit in bits(words) {
            safety.restore(self.records[0][&bit].clone());
        }
        let own = &self.records[0];
        self.ask(&mut safety, word, shown).map_or(words, |record| {
            // A change carries the coins that were known: what is signed is compared.
            let same = |other: &Record| match (other, &record) {
                (Record::RoundChange(a), Record::RoundChange(b)) => a.change == b.change,
                (a, b) => *a == *b,
            };
            let (bit, _) =
                own.iter().find(|(_, other)| same(other)).expect("every word has its record");
            words | 1 << bit
        })
    }

    /// The headers of which there is a polka in a place, when honest validators prevoted so (a mask of headers each)
    /// and the criminal prevotes for any.
    pub(crate) fn polkas(&self, spot: usize, said: [u8; HONEST]) -> u8 {
        let holds = |value: usize| {
            let mut votes = Votes::default();
            for validator in voters(said, value) {
                let Record::Prevote { vote, .. } =
                    &self.records[validator][&self.bit(Word::Prevote((spot, value)))]
                else {
                    panic!("a prevote")
                };
                votes.add(vote.clone());
            }
            votes.quorum(&self.context.set).is_some_and(|(_, polka)| {
                let high = self.high((spot, value));
                check_polka(&polka, self.height, (&high, self.spots[spot].kind), &self.context)
                    .is_ok()
            })
        };
        values(holds)
    }

    /// The headers that are committed in a place, as far as coins are shown, when honest validators precommitted so
    /// and the criminal precommits any.
    pub(crate) fn commits(&self, spot: usize, said: [u8; HONEST], is_shown: bool) -> u8 {
        let holds = |value: usize| {
            let mut votes = Votes::default();
            for validator in voters(said, value) {
                let Record::Precommit { vote, .. } =
                    &self.records[validator][&self.bit(Word::Precommit((spot, value)))]
                else {
                    panic!("a precommit")
                };
                votes.add(vote.clone());
            }
            let Some((digest, precommits)) = votes.quorum(&self.context.set) else { return false };
            let coin = self.coins.get(&self.spots[spot].round).copied().filter(|_| is_shown);
            [None, coin].into_iter().any(|coin| {
                let certificate = CommitCertificate { precommits: precommits.clone(), coin };
                check_commit(&certificate, self.height, &digest, &self.context).is_ok()
            })
        };
        values(holds)
    }

    /// Whether others take a round change that names this polka, with the coins that are known.
    pub(crate) fn may_change(&self, round: usize, high: Option<Vote>, shown: u8) -> bool {
        let (coins, place) = (self.coins_below(round, shown), (self.height, self.round(round)));
        let high = high.map(|vote| (self.high(vote), vote));
        let named = high.as_ref().map(|(high, _)| high);
        let holds = check_coins(&coins, place, (named, &self.kinds), &self.context).is_ok();
        holds
            && high.is_none_or(|(high, vote)| {
                let kind = self.spots[vote.0].kind;
                check_polka(&self.polkas[&vote], self.height, (&high, kind), &self.context).is_ok()
            })
    }

    /// The headers that may be proposed in a round, for any certificate that can be made of the changes of honest
    /// validators and one of the criminal that names any of `polkas` (a mask of headers, two bits a place).
    pub(crate) fn proposable(
        &self,
        round: usize,
        said: [u64; HONEST],
        polkas: u64,
        shown: u8,
    ) -> u8 {
        let named =
            self.votes_of(polkas).into_iter().filter(|vote| self.spots[vote.0].round < round);
        let words: Vec<Word> = std::iter::once(None)
            .chain(named.map(Some))
            .map(|high| Word::Change(round, high))
            .collect();
        let criminal =
            words.iter().map(|word| 1_u64 << self.bit(*word)).fold(0, |mask, bit| mask | bit);
        // Of each validator nothing, or one of its changes: odometers over four.
        let choices: Vec<Vec<Option<usize>>> = said
            .into_iter()
            .chain([criminal])
            .map(|mask| std::iter::once(None).chain(bits(mask).map(Some)).collect())
            .collect();
        let mut found = 0;
        for pick in 0..choices.iter().map(Vec::len).product() {
            let mut rest: usize = pick;
            let changes = choices.iter().enumerate().filter_map(|(validator, own)| {
                let chosen = own[rest % own.len()];
                rest /= own.len();
                chosen.map(|bit| self.change_of(validator, bit))
            });
            found |= self.value_of(round, changes.collect(), shown);
        }
        found
    }

    fn votes_of(&self, polkas: u64) -> Vec<Vote> {
        bits(polkas).map(|bit| (bit / VALUES, bit % VALUES)).collect()
    }

    fn change_of(&self, validator: usize, bit: usize) -> RoundChange {
        match &self.records[validator][&bit] {
            Record::RoundChange(Change { change, .. }) => *change,
            other => panic!("a round change: {other:?}"),
        }
    }

    /// The headers that a certificate of these changes allows, if it is one.
    fn value_of(&self, round: usize, changes: Vec<RoundChange>, shown: u8) -> u8 {
        let coins = self.coins_below(round, shown);
        let mut certificate = RoundChangeCertificate { changes, polka: Vec::new(), coins };
        let high = certificate.high();
        let named =
            high.and_then(|high| self.polkas.iter().find(|(vote, _)| self.high(**vote) == high));
        if let Some((_, polka)) = named {
            certificate.polka.clone_from(polka);
        }
        let place = (self.height, self.round(round));
        match check_round_change(&certificate, place, &self.kinds, &self.context) {
            Err(_) => 0,
            Ok(()) => named.map_or(u8::MAX >> (8 - VALUES), |((_, value), _)| 1 << value),
        }
    }

    /// Whether evidence that holds names an honest validator that said `words`.
    pub(crate) fn is_named(&self, words: u64, shown: u8) -> bool {
        let own: Vec<&Record> = bits(words).map(|bit| &self.records[0][&bit]).collect();
        own.iter().any(|first| own.iter().any(|second| self.accuses(first, second, shown)))
    }

    fn accuses(&self, first: &Record, second: &Record, shown: u8) -> bool {
        let evidence = match (first.clone(), second.clone()) {
            (Record::Prevote { vote: a, .. }, Record::Prevote { vote: b, .. }) => {
                Evidence::Prevotes(Box::new([a, b]))
            }
            (Record::Precommit { vote: a, .. }, Record::Precommit { vote: b, .. }) => {
                Evidence::Precommits(Box::new([a, b]))
            }
            (Record::RoundChange(a), Record::RoundChange(b)) => {
                Evidence::RoundChanges(Box::new([a.change, b.change]))
            }
            (Record::Precommit { vote, .. }, Record::RoundChange(own)) => {
                let coins = self.coins_below(self.rounds, shown);
                let coin = coins.iter().find(|coin| coin.round == vote.round).map(|own| own.coin);
                Evidence::Amnesia(Box::new((vote, own.change, coin)))
            }
            _ => return false,
        };
        evidence.culprit(&self.context).is_some()
    }
}

/// Who voted for a header, the criminal too.
fn voters(said: [u8; HONEST], value: usize) -> impl Iterator<Item = usize> {
    (0..HONEST).filter(move |own| said[*own] >> value & 1 == 1).chain([CRIMINAL])
}

fn values(holds: impl Fn(usize) -> bool) -> u8 {
    (0..VALUES).filter(|value| holds(*value)).fold(0, |mask, value| mask | 1 << value)
}
