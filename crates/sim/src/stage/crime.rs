//! What criminals can do: sign anything with their own keys, and send it to whom they like.

use quipu_clock::{Generator, LaneClock};
use quipu_consensus::{Change, Message};
use quipu_crypto::Tag;
use quipu_crypto::hash::blake3;
use quipu_crypto::suite::sign_tagged;
use quipu_log::StoredChunk;
use quipu_proof::names::{chunk_hash, header_hash, proposal_hash, term_start};
use quipu_replica::PeerMessage;
use quipu_replica::peer::Handover;
use quipu_types::{
    Ack, ChunkHeader, CommitCertificate, Encode, Hash, Header, Height, High, Lane, Mix, Precommit,
    Prevote, Propose, RoundChange, RoundChangeCertificate, RoundKind, Signature, SignedState,
    StateVote, Term, Time, Tip, ValidatorIndex,
};

use super::{Stage, index, secret};

const UNSIGNED: Signature = Signature([0; 64]);

/// A chain of chunks that a criminal makes; a clone of it goes on as another branch.
#[derive(Clone, Debug)]
pub struct Strand {
    /// Who signs.
    pub sequencer: u16,
    /// The term of the next chunk.
    pub term: Term,
    /// Its branch.
    pub branch: Hash,
    /// The last chunk.
    pub tip: Tip,
    /// The clock after it; the next chunk goes on as its term and branch say.
    pub clock: LaneClock,
}

impl Stage {
    pub(super) fn sign(&self, criminal: u16, tag: Tag, body: &[u8]) -> Signature {
        let seed = self.seeds.get(usize::from(criminal)).expect("a validator of the stage");
        sign_tagged(&secret(seed), &self.context.chain, self.context.set.epoch, tag, body)
    }

    /// Sends anything as anyone.
    pub fn tell(&mut self, from: u16, to: &[u16], message: &PeerMessage) {
        for to in to {
            self.post(from, Some(*to), message.to_bytes().into());
        }
    }

    pub(super) fn agree(&mut self, from: u16, to: &[u16], message: Message) {
        self.tell(from, to, &PeerMessage::Agreement(message));
    }

    /// Proposes a header in a round.
    pub fn propose(
        &mut self,
        criminal: u16,
        round: u32,
        header: &Header,
        certificate: Option<RoundChangeCertificate>,
        to: &[u16],
    ) -> Propose {
        let mut propose = Propose {
            height: header.height,
            round,
            kind: self.kind(header.height.get(), round),
            instance: index(criminal),
            header: header.clone(),
            certificate,
            signature: UNSIGNED,
        };
        propose.signature = self.sign(criminal, Tag::Propose, &propose.signed_body());
        self.agree(criminal, to, Message::Propose(Box::new(propose.clone())));
        propose
    }

    /// Prevotes a proposal.
    pub fn prevote(&mut self, criminal: u16, propose: &Propose, to: &[u16]) {
        let mut vote = Prevote {
            height: propose.height,
            round: propose.round,
            kind: propose.kind,
            instance: propose.instance,
            digest: header_hash(&propose.header),
            proposal: proposal_hash(propose),
            validator: index(criminal),
            signature: UNSIGNED,
        };
        vote.signature = self.sign(criminal, Tag::Prevote, &vote.signed_body());
        self.agree(criminal, to, Message::Prevote(vote));
    }

    /// Precommits a proposal; reports tips, suspects lanes.
    pub fn precommit(
        &mut self,
        criminal: u16,
        propose: &Propose,
        tips: &[Tip],
        suspects: &[(Lane, Term)],
        to: &[u16],
    ) -> Precommit {
        let time = propose.header.time.next();
        let vote = self.signed_precommit(criminal, propose, (tips, suspects), time);
        self.agree(criminal, to, Message::Precommit(vote.clone()));
        vote
    }

    /// A precommit with any time, not sent.
    #[must_use]
    pub fn signed_precommit(
        &self,
        criminal: u16,
        propose: &Propose,
        (tips, suspects): (&[Tip], &[(Lane, Term)]),
        time: Time,
    ) -> Precommit {
        let mut vote = Precommit {
            height: propose.height,
            round: propose.round,
            kind: propose.kind,
            instance: propose.instance,
            digest: header_hash(&propose.header),
            tips: tips.to_vec(),
            suspects: suspects.to_vec(),
            time,
            validator: index(criminal),
            signature: UNSIGNED,
        };
        vote.signature = self.sign(criminal, Tag::Precommit, &vote.signed_body());
        vote
    }

    /// Every state of a height that was claimed, in its order.
    #[must_use]
    pub fn claims(&self, height: u64) -> Vec<SignedState> {
        let all = self.judge.claims.iter();
        all.filter(|state| state.height.get() == height).copied().collect()
    }

    /// Votes for a state.
    pub fn vote_state(&mut self, criminal: u16, state: SignedState, to: &[u16]) {
        let signature = self.sign(criminal, Tag::StateVote, &state.to_bytes());
        let vote = StateVote { state, validator: index(criminal), signature };
        self.agree(criminal, to, Message::StateVote(vote));
    }

    /// Both votes, with nothing reported.
    pub fn vote(&mut self, criminal: u16, propose: &Propose, to: &[u16]) {
        self.prevote(criminal, propose, to);
        self.precommit(criminal, propose, &[], &[], to);
    }

    /// Changes to a round.
    pub fn change(
        &mut self,
        criminal: u16,
        height: u64,
        round: u32,
        high: Option<(High, Vec<Prevote>)>,
        to: &[u16],
    ) -> RoundChange {
        let (high, polka) = high.map_or((None, Vec::new()), |(high, polka)| (Some(high), polka));
        let mut change = RoundChange {
            height: Height::new(height),
            round,
            kind: self.kind(height, round),
            high,
            validator: index(criminal),
            signature: UNSIGNED,
        };
        change.signature = self.sign(criminal, Tag::RoundChange, &change.signed_body());
        let coins = self.coins_below(height, round);
        self.agree(criminal, to, Message::RoundChange(Change { change, polka, coins }));
        change
    }

    /// The round changes of these honest validators with own ones, and the polka of the highest.
    #[must_use]
    pub fn change_certificate(
        &self,
        height: u64,
        round: u32,
        honest: &[u16],
        own: &[RoundChange],
    ) -> RoundChangeCertificate {
        let mut changes = own.to_vec();
        let mut polka: Vec<Prevote> = Vec::new();
        for number in honest {
            let place = (Height::new(height), round, index(*number));
            let Some((change, behind)) = self.judge.changes.get(&place) else { continue };
            changes.push(*change);
            if polka.first().map(|vote| vote.round) < behind.first().map(|vote| vote.round) {
                polka.clone_from(behind);
            }
        }
        changes.sort_by_key(|change| change.validator);
        RoundChangeCertificate { changes, polka, coins: self.coins_below(height, round) }
    }

    /// The precommits of a place that were said by these, as a certificate.
    #[must_use]
    pub fn commit_certificate(&self, height: u64, round: u32, who: &[u16]) -> CommitCertificate {
        let votes = self.precommits(height, round);
        let own = |vote: &Precommit| who.contains(&vote.validator.get());
        CommitCertificate { precommits: votes.into_iter().filter(own).collect(), coin: None }
    }

    /// The polka of a round, if anyone's prevotes are one; of an open round that of the instance that its coin elects.
    #[must_use]
    pub fn polka(&self, height: u64, round: u32) -> Option<(High, Vec<Prevote>)> {
        let place = (Height::new(height), round);
        let votes = self.judge.prevotes.values();
        let elected = self.elected(height, round);
        let counts =
            |vote: &&Prevote| vote.kind == RoundKind::Led || elected == Some(vote.instance.get());
        let votes = votes.filter(|vote| (vote.height, vote.round) == place).filter(counts);
        let mut tally = quipu_consensus::tally::Votes::default();
        for vote in votes {
            tally.add(vote.clone());
        }
        let (digest, polka) = tally.quorum(&self.context.set)?;
        let instance = polka.first()?.instance;
        Some((High { round, instance, digest }, polka))
    }

    /// Every tip of a lane that anyone has streamed.
    #[must_use]
    pub fn tips(&self, lane: u16) -> Vec<Tip> {
        self.judge.tips.iter().filter(|tip| tip.lane.get() == lane).copied().collect()
    }

    /// Says that chunks are held.
    pub fn ack(&mut self, criminal: u16, tips: &[Tip], to: &[u16]) {
        let (validator, tips) = (index(criminal), tips.to_vec());
        let mut ack = Ack { validator, tips, signature: UNSIGNED };
        ack.signature = self.sign(criminal, Tag::Ack, &ack.signed_body());
        self.agree(criminal, to, Message::Ack(ack));
    }

    /// Gives up a lane after a chunk.
    pub fn hand_over(&mut self, criminal: u16, lane: u16, term: Term, last: u64, to: &[u16]) {
        let (lane, validator) = (Lane::new(lane), index(criminal));
        let mut handover = Handover { lane, term, index: last, validator, signature: UNSIGNED };
        handover.signature = self.sign(criminal, Tag::Handover, &handover.signed_body());
        self.tell(criminal, to, &PeerMessage::Handover(handover));
    }

    /// Where the chunks of a lane go on after what one has committed.
    ///
    /// # Panics
    /// When the lane or the height is none.
    #[must_use]
    pub fn strand(&self, number: u16, lane: u16) -> Strand {
        let parent = self.parent(number, self.height(number)).expect("its own height");
        let current = parent.term(Lane::new(lane)).expect("a lane of the stage");
        let tip = *parent.cut.get(usize::from(lane)).expect("a lane of the stage");
        let sequencer: ValidatorIndex =
            self.context.epochs.sequencer(Lane::new(lane), current.term);
        let seed = quipu_clock::seed_value(&self.genesis.clock_seed);
        let clock = LaneClock::resume(tip.lane, seed, self.judge.chunk(&tip.chunk_hash));
        Strand {
            sequencer: sequencer.get(),
            term: current.term,
            branch: current.branch,
            tip,
            clock,
        }
    }

    /// The next chunk of a strand: one of clock alone. Other ticks, another chunk.
    pub fn grow(&self, strand: &mut Strand, ticks: u64) -> StoredChunk {
        let tip = strand.tip;
        let mut clock = Generator::new(strand.clock.first_value(strand.term, &strand.branch));
        clock.tick(ticks);
        clock.mix(Mix::Batch, &tip.lane_root);
        let goes_on = tip.term == strand.term && tip.index > 0;
        let start = term_start(&strand.branch, &tip.chunk_hash);
        let header = ChunkHeader {
            lane: tip.lane,
            term: strand.term,
            branch: strand.branch,
            index: tip.index.saturating_add(1),
            first_seqno: tip.seqno.next(),
            count: 0,
            prev: if goes_on { tip.chunk_hash } else { start },
            lane_root: tip.lane_root,
            body_digest: blake3(&[]),
            stripes: None,
            clock: clock.take(),
        };
        let signature = self.sign(strand.sequencer, Tag::Chunk, &header.to_bytes());
        strand.clock.pass(&header);
        let (index, chunk_hash) = (header.index, chunk_hash(&header));
        strand.tip = Tip { term: strand.term, index, chunk_hash, ..tip };
        StoredChunk { header, signature, body: Vec::new() }
    }

    /// Grows a strand by one chunk and sends it.
    pub fn stream(&mut self, strand: &mut Strand, ticks: u64, to: &[u16]) -> Tip {
        let chunk = self.grow(strand, ticks);
        self.tell(strand.sequencer, to, &PeerMessage::Chunk(chunk));
        strand.tip
    }
}
