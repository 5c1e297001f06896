//! The bytes that a signature covers: what is said, and where it counts.
//!
//! ```text
//!  0         7          39            47    48
//!  +---------+----------+-------------+-----+------ ...
//!  | quipu/1 | chain id | epoch, u64  | tag | body
//!  |  ASCII  | 32 bytes | little end. | u8  |
//!  +---------+----------+-------------+-----+------ ...
//! ```
//! # Invariants
//! * All fields before the body have fixed sizes, so no two (chain, epoch, tag, body) share bytes.
//! * Messages of clients have epoch 0: a client need not know the epoch to speak.

use quipu_types::Hash;

/// What every signed message begins with.
pub const PREFIX: &[u8; 7] = b"quipu/1";

/// Bytes before the body.
pub const HEADER_SIZE: usize = 48;

/// What kind of message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tag {
    /// A client's transaction.
    Transaction = 1,
    /// A sequencer's chunk header.
    Chunk = 2,
    /// A validator's lane tips, held durably.
    Ack = 3,
    /// A leader's proposal of a header.
    Propose = 4,
    /// First vote on a proposal.
    Prevote = 5,
    /// Second vote on a proposal.
    Precommit = 6,
    /// A wish to leave a round.
    RoundChange = 7,
    /// The end of an instance in a round that all may lead.
    Done = 8,
    /// A share of the common coin.
    CoinShare = 9,
    /// A vote on a state root and a receipts root.
    StateVote = 10,
    /// A validator's suspicion of a sequencer.
    Suspect = 11,
    /// A lane's change of sequencer.
    Handover = 12,
    /// A client's complaint that its transaction is held back.
    Complaint = 13,
    /// Proof that a registered key's secret is held.
    Possession = 14,
    /// A validator's hello on a link to another: who speaks, to whom, over which channel.
    Link = 15,
    /// The place of a common coin: what the shares of the coin's key sign.
    Coin = 16,
    /// What a validator's state is at a height, all of it.
    Checkpoint = 17,
    /// A validator's key under which it is dealt shares of coins.
    DealingKey = 18,
    /// A dealing of the next epoch's coin.
    Deal = 19,
}

impl Tag {
    /// Every tag, in the order of the bytes.
    pub const ALL: [Self; 19] = [
        Self::Transaction,
        Self::Chunk,
        Self::Ack,
        Self::Propose,
        Self::Prevote,
        Self::Precommit,
        Self::RoundChange,
        Self::Done,
        Self::CoinShare,
        Self::StateVote,
        Self::Suspect,
        Self::Handover,
        Self::Complaint,
        Self::Possession,
        Self::Link,
        Self::Coin,
        Self::Checkpoint,
        Self::DealingKey,
        Self::Deal,
    ];

    /// The byte that stands for the tag in signed bytes.
    #[expect(clippy::as_conversions, reason = "the discriminants of a repr(u8) enum are bytes")]
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Whether clients sign such messages: their epoch is always 0.
    #[must_use]
    pub const fn is_of_clients(self) -> bool {
        matches!(self, Self::Transaction | Self::Complaint)
    }
}

/// The bytes to sign for `body` under `tag`.
///
/// # Panics
/// If a client's tag comes with an epoch: the epoch of such a message is the constant 0 wherever it
/// is signed or checked, and never read from a message.
#[must_use]
pub fn signing_bytes(chain: &Hash, epoch: u64, tag: Tag, body: &[u8]) -> Vec<u8> {
    assert!(epoch == 0 || !tag.is_of_clients(), "messages of clients have epoch 0");
    let mut bytes = Vec::with_capacity(HEADER_SIZE.saturating_add(body.len()));
    bytes.extend_from_slice(PREFIX);
    bytes.extend_from_slice(&chain.0);
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.push(tag.byte());
    assert_eq!(bytes.len(), HEADER_SIZE, "the header's fields have fixed sizes");
    bytes.extend_from_slice(body);
    bytes
}
