//! The types that Malachite's core is made for: 32-byte values, four validators of equal power, ed25519.
//!
//! ```text
//!  vote     = kind u8 · height u64 · round i64 · value u8 · [32] · address [20]                 = what is signed
//!  proposal = kind u8 · height u64 · round i64 · round of its polka i64 · [32] · address [20]   = what is signed
//!  message  = one of them · signature [64]
//! ```

use std::fmt;
use std::sync::Arc;

use arc_malachitebft_core_consensus::SignedConsensusMsg;
use arc_malachitebft_core_types as core;
use arc_malachitebft_core_types::{
    LinearTimeouts, NilOrVal, Round, SignedExtension, SignedProposal, SignedVote, VoteType,
    VotingPower,
};
use arc_malachitebft_signing_ed25519::{Ed25519, PublicKey, Signature};

/// See the module's header.
#[derive(Clone, Debug)]
pub(crate) struct Four;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

/// The value, and its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) [u8; 32]);

/// The head of a validator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) [u8; 20]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    pub(crate) address: Address,
    pub(crate) key: PublicKey,
}

/// Ascending by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set(pub(crate) Arc<[Validator]>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    kind: VoteType,
    height: Height,
    round: Round,
    value: NilOrVal<Value>,
    address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    height: Height,
    round: Round,
    value: Value,
    pol_round: Round,
    address: Address,
}

/// Nothing travels in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part;

impl core::Context for Four {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Set;
    type Timeouts = LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a Set, height: Height, round: Round) -> &'a Validator {
        let turn = height.0 + u64::from(round.as_u32().unwrap_or(0));
        let count = u64::try_from(set.0.len()).expect("few");
        &set.0[usize::try_from(turn % count).expect("few")]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        address: Address,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, address }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, address }
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, count: u64) -> Self {
        Self(self.0 + count)
    }

    fn decrement_by(&self, count: u64) -> Option<Self> {
        self.0.checked_sub(count).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl core::Value for Value {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

impl core::Address for Address {}

impl core::Validator<Four> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn voting_power(&self) -> VotingPower {
        1
    }
}

impl core::ValidatorSet<Four> for Set {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        VotingPower::try_from(self.0.len()).expect("few")
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.iter().find(|validator| validator.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

impl core::ProposalPart<Four> for Part {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

impl core::Vote<Four> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    fn extension(&self) -> Option<&SignedExtension<Four>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Four>> {
        None
    }

    fn extend(self, _: SignedExtension<Four>) -> Self {
        self
    }
}

impl core::Proposal<Four> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Vote {
    /// What is signed.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.push(if self.kind == VoteType::Prevote { 1 } else { 2 });
        put_place(&mut out, self.height, self.round);
        let (is_value, value) = match self.value {
            NilOrVal::Nil => (0, [0; 32]),
            NilOrVal::Val(Value(value)) => (1, value),
        };
        out.push(is_value);
        out.extend_from_slice(&value);
        out.extend_from_slice(&self.address.0);
        out
    }
}

impl Proposal {
    /// What is signed.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.push(3);
        put_place(&mut out, self.height, self.round);
        out.extend_from_slice(&self.pol_round.as_i64().to_le_bytes());
        out.extend_from_slice(&self.value.0);
        out.extend_from_slice(&self.address.0);
        out
    }
}

fn put_place(out: &mut Vec<u8>, height: Height, round: Round) {
    out.extend_from_slice(&height.0.to_le_bytes());
    out.extend_from_slice(&round.as_i64().to_le_bytes());
}

/// The bytes of a vote with its signature.
pub(crate) fn vote_bytes(vote: &SignedVote<Four>) -> Vec<u8> {
    let mut out = vote.message.body();
    out.extend_from_slice(&vote.signature.to_bytes());
    out
}

/// The bytes of a proposal with its signature.
pub(crate) fn proposal_bytes(proposal: &SignedProposal<Four>) -> Vec<u8> {
    let mut out = proposal.message.body();
    out.extend_from_slice(&proposal.signature.to_bytes());
    out
}

/// Reads what one of the two wrote.
pub(crate) fn read(bytes: &[u8]) -> Option<SignedConsensusMsg<Four>> {
    let (kind, rest) = bytes.split_first()?;
    let (height, rest) = rest.split_first_chunk()?;
    let (round, rest) = rest.split_first_chunk()?;
    let (height, round) = (Height(u64::from_le_bytes(*height)), read_round(*round)?);
    let kind = match kind {
        1 => VoteType::Prevote,
        2 => VoteType::Precommit,
        3 => {
            let (pol_round, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_first_chunk()?;
            let (address, signature) = rest.split_first_chunk()?;
            let pol_round = read_round(*pol_round)?;
            let (value, address) = (Value(*value), Address(*address));
            let message = Proposal { height, round, value, pol_round, address };
            let signature = read_signature(signature)?;
            return Some(SignedConsensusMsg::Proposal(SignedProposal::new(message, signature)));
        }
        _ => return None,
    };
    let (is_value, rest) = rest.split_first()?;
    let (value, rest) = rest.split_first_chunk()?;
    let (address, signature) = rest.split_first_chunk()?;
    let value = if *is_value == 1 { NilOrVal::Val(Value(*value)) } else { NilOrVal::Nil };
    let message = Vote { kind, height, round, value, address: Address(*address) };
    Some(SignedConsensusMsg::Vote(SignedVote::new(message, read_signature(signature)?)))
}

fn read_round(bytes: [u8; 8]) -> Option<Round> {
    match i64::from_le_bytes(bytes) {
        -1 => Some(Round::Nil),
        round => u32::try_from(round).ok().map(Round::new),
    }
}

fn read_signature(bytes: &[u8]) -> Option<Signature> {
    Some(Signature::from_bytes(bytes.try_into().ok()?))
}
