//! Malachite: four states of its `core-consensus`, every effect answered at once. Messages go through their bytes; what it
//! wants in its write-ahead log is encoded into a log in memory, which is emptied when a height is finalized, as its engine
//! does. Signatures are checked where it asks for it, one by one, by its own ed25519 crate.

mod context;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Error, Input, LocallyProposedValue, Params, Resumable, Resume,
    SignedConsensusMsg, State, process,
};
use arc_malachitebft_core_types::{
    Height as _, SignedMessage, SignedProposal, SignedVote, ValidatorProof, ValuePayload,
    VoteExtensionPolicy, VoteExtensionScope,
};
use arc_malachitebft_signing::{Error as SigningError, VerificationResult, Verifier, VerifierExt};
use arc_malachitebft_signing_ed25519::{PrivateKey, PublicKey, Signature};
use async_trait::async_trait;
use futures::FutureExt;

use self::context::{Address, Four, Height, Proposal, Set, Validator, Value, Vote};
use crate::measure::{COUNT, Checks, Counts, Length, Play, Stopwatch};
use crate::post::{Fate, Letter, Post};

/// As many inputs of later heights as its engine keeps.
const QUEUE_CAPACITY: usize = 10;
const QUEUE_PER_HEIGHT: usize = 1_000;

/// Orders 32-byte values.
pub(crate) fn play(length: Length, checks: Checks) -> Play {
    let mut world = World::new(checks);
    let mut watch = Stopwatch::new(length);
    while !watch.reached(world.height(), || world.counts()) {
        world.step(&|_, bytes| bytes);
    }
    watch.play(world.nodes.into_iter().map(|node| node.host.committed).collect())
}

/// One validator's prevotes are spoilt on their way: the others refuse each, and go on without them.
pub(crate) fn spoil() -> String {
    let mut world = World::new(Checks::All);
    let spoilt = |(from, _): &Letter, good: Arc<[u8]>| {
        let mut bytes = good.to_vec();
        let is_prevote = bytes[0] == 1;
        let place = bytes.len() - 40;
        bytes[place] ^= u8::from(is_prevote && *from == 3);
        bytes.into()
    };
    while world.height() < 20 {
        world.step(&|letter, bytes| spoilt(letter, bytes));
    }
    let refused: u64 = world.nodes.iter().map(|node| node.host.keys.refused.load(Relaxed)).sum();
    assert!(refused >= 3 * 20, "each of them by each of the others");
    format!("{refused} spoilt votes refused")
}

struct World {
    nodes: Vec<Node>,
    post: Post,
}

struct Node {
    state: State<Four>,
    host: Host,
}

/// All of a validator but its state.
struct Host {
    set: Set,
    own: usize,
    address: Address,
    keys: Keys,
    log: Vec<u8>,
    logged: u64,
    committed: Vec<[u8; 32]>,
    /// What it is to be told next.
    due: Vec<Input<Four>>,
}

/// Its own key, and what was done with it and the others'.
struct Keys {
    own: PrivateKey,
    checks: Checks,
    signed: AtomicU64,
    checked: AtomicU64,
    refused: AtomicU64,
}

impl World {
    fn new(checks: Checks) -> Self {
        let mut keys: Vec<PrivateKey> = (0..COUNT)
            .map(|index| PrivateKey::from([u8::try_from(index).expect("few") + 1; 32]))
            .collect();
        keys.sort_by_key(|key| address(&key.public_key()));
        let validators = keys.iter().map(PrivateKey::public_key);
        let validators = validators.map(|key| Validator { address: address(&key), key });
        let set = Set(validators.collect());
        let nodes =
            keys.into_iter().enumerate().map(|(own, key)| Node::new(own, key, &set, checks));
        let mut world = Self { nodes: nodes.collect(), post: Post::default() };
        for node in &mut world.nodes {
            node.work(&mut world.post);
        }
        world
    }

    /// How far the slowest validator is.
    fn height(&self) -> u64 {
        let heights = self.nodes.iter().map(|node| node.host.committed.len());
        heights.min().and_then(|height| u64::try_from(height).ok()).unwrap_or(0)
    }

    fn counts(&self) -> Counts {
        let sum = |of: fn(&Host) -> u64| self.nodes.iter().map(|node| of(&node.host)).sum();
        Counts {
            signed: sum(|host| host.keys.signed.load(Relaxed)),
            checked: sum(|host| host.keys.checked.load(Relaxed)),
            messages: self.post.messages,
            bytes: self.post.bytes,
            logged: Some(sum(|host| host.logged)),
        }
    }

    /// Everyone takes what has arrived, and answers.
    fn step(&mut self, on_its_way: Fate<'_>) {
        self.post.turn();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            for letter in self.post.take(index) {
                let bytes = on_its_way(&letter, Arc::clone(&letter.1));
                let input = match context::read(&bytes).expect("it was encoded here") {
                    SignedConsensusMsg::Vote(vote) => Input::Vote(vote),
                    SignedConsensusMsg::Proposal(proposal) => Input::Proposal(proposal),
                };
                node.host.due.push(input);
                node.work(&mut self.post);
            }
        }
    }
}

impl Node {
    fn new(own: usize, key: PrivateKey, set: &Set, checks: Checks) -> Self {
        let address = address(&key.public_key());
        let params = Params {
            address,
            threshold_params: Default::default(),
            value_payload: ValuePayload::ProposalOnly,
            enabled: true,
        };
        let first = Height::INITIAL;
        let state = State::new(Four, first, set.clone(), params, QUEUE_CAPACITY, QUEUE_PER_HEIGHT);
        let (signed, checked, refused) = Default::default();
        let host = Host {
            set: set.clone(),
            own,
            address,
            keys: Keys { own: key, checks, signed, checked, refused },
            log: Vec::new(),
            logged: 0,
            committed: Vec::new(),
            due: vec![start(first, set)],
        };
        Self { state, host }
    }

    fn work(&mut self, post: &mut Post) {
        while !self.host.due.is_empty() {
            let input = self.host.due.remove(0);
            let done: Result<(), Error<Four>> = process!(
                input: input,
                state: &mut self.state,
                metrics: &(),
                with: effect => self.host.answer(effect, post)
            );
            done.expect("no step fails");
        }
    }
}

impl Host {
    fn answer(&mut self, effect: Effect<Four>, post: &mut Post) -> Result<Resume<Four>, String> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r)
            | Effect::CancelTimeout(_, r)
            | Effect::ScheduleTimeout(_, r)
            | Effect::StartRound(_, _, _, _, r) => r.resume_with(()),
            Effect::PublishConsensusMsg(message, r) => {
                let bytes = match message {
                    SignedConsensusMsg::Vote(vote) => context::vote_bytes(&vote),
                    SignedConsensusMsg::Proposal(proposal) => context::proposal_bytes(&proposal),
                };
                post.tell_all(self.own, bytes);
                r.resume_with(())
            }
            Effect::GetValue(height, round, _, r) => {
                let value = Value(value(height));
                self.due.push(Input::Propose(LocallyProposedValue { height, round, value }));
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let signature = self.keys.sign(&vote.body());
                r.resume_with(SignedVote::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let signature = self.keys.sign(&proposal.body());
                r.resume_with(SignedProposal::new(proposal, signature))
            }
            Effect::VerifySignature(SignedMessage { message, signature }, key, r) => {
                let body = match message {
                    ConsensusMsg::Vote(vote) => vote.body(),
                    ConsensusMsg::Proposal(proposal) => proposal.body(),
                };
                r.resume_with(self.keys.holds(&body, &signature, &key))
            }
            Effect::VerifyCommitCertificate(certificate, set, thresholds, r) => {
                let verdict =
                    self.keys.verify_commit_certificate(&Four, &certificate, &set, thresholds);
                r.resume_with(verdict.now_or_never().expect("nothing in it waits"))
            }
            Effect::WalAppend(_, input, r) => {
                self.write(&input);
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.committed.push(certificate.value_id.0);
                let before = self.log.len();
                for own in &certificate.commit_signatures {
                    self.log.extend_from_slice(&own.address.0);
                    self.log.extend_from_slice(&own.signature.to_bytes());
                }
                self.note(before);
                r.resume_with(())
            }
            Effect::Finalize(certificate, _, _, r) => {
                self.log.clear();
                self.due.push(start(certificate.height.increment(), &self.set));
                r.resume_with(())
            }
            other => return Err(format!("without faults nobody asks: {other:?}")),
        })
    }

    fn write(&mut self, input: &Input<Four>) {
        let before = self.log.len();
        match input {
            Input::Vote(vote) => self.log.extend(context::vote_bytes(vote)),
            Input::Proposal(proposal) => self.log.extend(context::proposal_bytes(proposal)),
            Input::ProposedValue(proposed, _) => {
                self.log.extend_from_slice(&proposed.height.0.to_le_bytes());
                self.log.extend_from_slice(&proposed.round.as_i64().to_le_bytes());
                self.log.extend_from_slice(&proposed.value.0);
                self.log.extend_from_slice(&self.address.0);
            }
            other => panic!("without faults this is not logged: {other:?}"),
        }
        self.note(before);
    }

    fn note(&mut self, before: usize) {
        self.logged += u64::try_from(self.log.len() - before).expect("small");
    }
}

impl Keys {
    fn sign(&self, body: &[u8]) -> Signature {
        self.signed.fetch_add(1, Relaxed);
        self.own.sign(body)
    }

    fn holds(&self, body: &[u8], signature: &Signature, key: &PublicKey) -> bool {
        if self.checks == Checks::None {
            return true;
        }
        self.checked.fetch_add(1, Relaxed);
        let holds = key.verify(body, signature).is_ok();
        self.refused.fetch_add(u64::from(!holds), Relaxed);
        holds
    }
}

/// What its certificates are checked by.
#[async_trait]
impl Verifier<Four> for Keys {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        Ok(VerificationResult::from_bool(self.holds(&vote.body(), signature, key)))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        Ok(VerificationResult::from_bool(self.holds(&proposal.body(), signature, key)))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Four>,
        (): &(),
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        _: &ValidatorProof<Four>,
    ) -> Result<VerificationResult, SigningError> {
        Ok(VerificationResult::Invalid)
    }
}

fn start(height: Height, set: &Set) -> Input<Four> {
    Input::StartHeight(height, set.clone(), false, None, VoteExtensionPolicy::Disabled)
}

fn address(key: &PublicKey) -> Address {
    Address(*key.as_bytes().first_chunk().expect("a key is longer"))
}

/// What is ordered at a height.
fn value(height: Height) -> [u8; 32] {
    let mut value = [7; 32];
    value[..8].copy_from_slice(&height.0.to_le_bytes());
    value
}
