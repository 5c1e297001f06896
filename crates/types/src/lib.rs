//! Names and bounded encodings of everything that crosses a boundary: wire, disk, proof.
//!
//! ```text
//!  number   Hash, Height, Lane, Seqno, Term …      code         stable error codes QPnnnn
//!  codec    Reader, Encode, Decode                 row          column types, schemas, rows
//!  transaction  actions, envelope, 176-byte form   row_json     rows to JSON and back
//!  chunk    what a sequencer signs                 agreement    cuts, headers, votes, sets
//!  receipt  the outcome of a transaction           genesis      the file operators trust
//!  table    definitions, keys of rows              program      what a statement does to rows
//!  procedure  programs under a name, calls of them  group  consumer groups and their cursors
//!  coin     keys, parts and coins of open rounds  dealing  the making of a coin by all
//!  stake    bonds, and evidence that costs them  complaint  of a sequencer that keeps a transaction out
//! ```
//! # Invariants
//! * T1 One value has one encoding: decoding accepts only the bytes that encoding gives.
//! * T2 No input makes a decoder panic, or allocate more than a small multiple of its own size.
//! * T3 Encodings are frozen: `tests/frozen.rs` holds a hash of seeded samples of every type.
//!
//! Byte layouts are drawn in `docs/formats.md`. This crate knows no keys, no time, no I/O: it says what
//! is signed (`signed_body`), never how.

pub mod agreement;
pub mod chunk;
pub mod code;
pub mod codec;
pub mod coin;
pub mod complaint;
pub mod cursor;
pub mod dealing;
pub mod genesis;
pub mod group;
pub mod number;
pub mod procedure;
pub mod program;
pub mod receipt;
pub mod round;
pub mod row;
pub mod row_json;
pub mod stake;
pub mod table;
pub mod transaction;

pub use agreement::{
    Ack, CommitCertificate, Header, Precommit, Prevote, Propose, RoundKind, SignedState,
    StateCertificate, StateVote, Tip, Validator, ValidatorSet, Voters,
};
pub use chunk::{ChunkHeader, ClockEntry, Mix};
pub use code::Code;
pub use codec::{Decode, DecodeError, Encode, Reader};
pub use coin::{COIN_PART_COUNT_MAX, Coin, CoinKey, CoinPart, CoinSetup};
pub use complaint::Complaint;
pub use dealing::{
    Dealing, DealingKey, DealingKeyProof, DealingProof, Grievance, Opening, SealedShare,
};
pub use genesis::{Genesis, GenesisError};
pub use group::{GroupAction, GroupOp};
pub use number::{
    AccountId, Hash, Height, Lane, Position, PublicKey, Seqno, Signature, Suite, Term, Time,
    ValidatorIndex,
};
pub use procedure::{Call, ProcedureDef, ProcedureParameter, ProcedureSpec};
pub use program::{Define, Expr, Program, Reads, TableRef};
pub use receipt::{Outcome, Receipt};
pub use round::{CoinShare, High, RoundChange, RoundChangeCertificate, RoundCoin, Rounds};
pub use row::{Column, ColumnType, Schema, Value, ValueRef};
pub use stake::StakeAction;
pub use table::{TableDef, TableSpec};
pub use transaction::{Action, Envelope, RouteRule, StreamSpec, Transaction, Unsigned, Writers};
