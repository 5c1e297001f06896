//! What a bundle proves: certificates, paths, brackets of time, offline.
//!
//! ```text
//!  genesis ── chain id, validators ─────────────────────────────────────────┐ pinned by who verifies
//!                                                                           v
//!  action ─path─> actions root ∈ envelope ─path─> lane root ∈ cut ∈ header <── certificate (commit)
//!                    │ signed by the client                          │  ^
//!                    │ anchor                                        │  └── previous header (by hash)
//!                    v                                               v
//!            anchor's header <── certificate             next header <── certificate
//!            not before: its time                        not after: its time
//!
//!  receipt ─path─> receipts root <── state certificate of the header's height
//! ```
//! # Invariants
//! * P1 [`verify`] takes no word of a bundle on trust: each member is checked against the pinned genesis,
//!   or against what was. One changed character anywhere makes it fail, with the reason by name.
//! * P2 A bundle has one form: what is read, written again, is the same JSON value. Optional parts
//!   may be `null`; then less is proven, and [`Verified`] says so.
//! * P3 No text makes [`verify`] panic, or allocate more than a small multiple of its size.
//! * P4 No I/O, no clock, no chance: the verdict is a function of text and genesis.
//!
//! # Limits
//! Whose signatures count follows from the genesis and the hand-overs that a bundle carries ([`Pinned`]): a header whose epoch
//! these do not reach is refused by name. `not before` rests on the client's anchor, else on the genesis.

mod before;
mod builder;
mod bundle;
mod certificate;
pub mod compacted;
pub mod epochs;
pub mod feed;
mod hexed;
mod mixings;
pub mod names;
pub mod order;
mod pinned;
pub mod schedule;
mod text;
pub mod trie;
mod verify;

pub use before::{BEFORE_VERSION, Before, BeforeError, BeforeProof, By, Link, verify_before};
pub use builder::{BuildError, Parts, Results, build};
pub use bundle::{
    ActionPart, BUNDLE_SIZE_MAX, BUNDLE_VERSION, Bundle, Committed, HANDOVER_COUNT_MAX, LanePart,
    MixedPart, PATH_SIZE_MAX, Place, ReceiptPart, TimePart,
};
pub use certificate::{
    CertificateError, Support, coin_fits, coin_message, verify_certificate,
    verify_state_certificate,
};
pub use epochs::{Epoch, Epochs};
pub use hexed::Hexed;
pub use mixings::{MixingError, Mixings, Point, STEP_COUNT_MAX, Step};
pub use pinned::{HandoverError, Handovers, Pinned};
pub use verify::{Basis, Bound, Part, ProofError, Verified, verify};
