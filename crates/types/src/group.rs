//! Consumer groups: who reads which lane, and how far it has come, as actions of the ledger.
//!
//! ```text
//!  Create ─> group ── Join ─> member, a lease ── Beat, Commit: renewed ── Leave, or its end
//!               │               └ lanes are shared out, each given in a generation
//!               └ a cursor a lane ── Commit: from where it stands, by who holds the lane
//! ```
//! * What a consumer makes of events and the commit of its cursor are actions of one transaction: both or neither.
//! * A member is the process that the [`Position`] of its Join names: a later Join under the same name takes its place,
//!   and what the earlier process still says is refused.
//! * The ledger checks that a cursor goes on from where it stood, and that its height is there. Seqno and root at that
//!   height are the consumer's word, for itself: whoever resumes there compares them with the header.

use crate::agreement::LANE_COUNT_MAX;
use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes, put_count};
use crate::cursor::Certified;
use crate::number::{Lane, Position, Seqno};
use crate::row::{NAME_SIZE_MAX, check_name};
use crate::transaction::Writers;

/// Most members of a group.
pub const MEMBER_COUNT_MAX: u16 = 256;
/// Most bytes of a member's name.
pub const MEMBER_NAME_SIZE_MAX: usize = 64;
/// Shortest session, in microseconds.
pub const SESSION_US_MIN: u32 = 1_000_000;
/// Longest session, in microseconds.
pub const SESSION_US_MAX: u32 = 300_000_000;

/// What is done to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAction {
    /// The group's name: a stream's rule, a space of its own.
    pub group: String,
    /// What.
    pub op: GroupOp,
}

/// What can be done to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOp {
    /// Create it; the signer is its creator.
    Create {
        /// Who may join beside its creator.
        consumers: Writers,
        /// Where lanes begin that do not begin at their start; ascending by lane.
        starts: Vec<(Lane, Certified)>,
    },
    /// Remove it, while nobody is in it. Its creator may.
    Delete,
    /// Become a member, or take the place of an earlier process of this name and account.
    Join {
        /// A name of the client's choice: [`check_member`].
        member: String,
        /// How long the lease lasts when nothing is heard, [`SESSION_US_MIN`] to [`SESSION_US_MAX`].
        session_us: u32,
    },
    /// Give up one's lanes and go.
    Leave {
        /// The member.
        member: String,
        /// Where its Join stands.
        joined: Position,
    },
    /// Renew one's lease.
    Beat {
        /// The member.
        member: String,
        /// Where its Join stands.
        joined: Position,
    },
    /// Move a lane's cursor on, and renew one's lease.
    Commit {
        /// The member.
        member: String,
        /// The lane, which the member holds.
        lane: Lane,
        /// The generation in which it was given the lane.
        generation: u64,
        /// Where the cursor stands.
        from: Seqno,
        /// Where it is to stand: not before `from`.
        to: Certified,
    },
    /// Put a lane's cursor anywhere, while nobody is in the group. Its creator may.
    Seek {
        /// The lane.
        lane: Lane,
        /// Where it is to stand.
        to: Certified,
    },
}

/// Whether a member may be called so.
///
/// # Errors
/// What a name has to be.
pub fn check_member(name: &str) -> Result<(), String> {
    if (1..=MEMBER_NAME_SIZE_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("member {name:?}: 1 to {MEMBER_NAME_SIZE_MAX} bytes, no control characters"))
    }
}

impl Encode for GroupAction {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.group.as_bytes());
        self.op.encode(out);
    }
}

impl Decode for GroupAction {
    const SIZE_MIN: usize = 6;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = reader.text("group", NAME_SIZE_MAX)?;
        check_name(group).map_err(|_| DecodeError::NotCanonical { what: "group" })?;
        Ok(Self { group: group.to_owned(), op: GroupOp::decode(reader)? })
    }
}

impl Encode for GroupOp {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create { consumers, starts } => {
                out.push(0);
                consumers.encode(out);
                put_count(out, starts.len());
                for (lane, cursor) in starts {
                    lane.encode(out);
                    cursor.encode(out);
                }
            }
            Self::Delete => out.push(1),
            Self::Join { member, session_us } => {
                out.push(2);
                put_bytes(out, member.as_bytes());
                out.extend_from_slice(&session_us.to_le_bytes());
            }
            Self::Leave { member, joined } => {
                out.push(3);
                put_member(out, member, *joined);
            }
            Self::Beat { member, joined } => {
                out.push(4);
                put_member(out, member, *joined);
            }
            Self::Commit { member, lane, generation, from, to } => {
                out.push(5);
                put_bytes(out, member.as_bytes());
                lane.encode(out);
                out.extend_from_slice(&generation.to_le_bytes());
                from.encode(out);
                to.encode(out);
            }
            Self::Seek { lane, to } => {
                out.push(6);
                lane.encode(out);
                to.encode(out);
            }
        }
    }
}

impl Decode for GroupOp {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => {
                Self::Create { consumers: Writers::decode(reader)?, starts: decode_starts(reader)? }
            }
            1 => Self::Delete,
            2 => Self::Join { member: decode_name(reader)?, session_us: decode_session(reader)? },
            3 => {
                let (member, joined) = decode_member(reader)?;
                Self::Leave { member, joined }
            }
            4 => {
                let (member, joined) = decode_member(reader)?;
                Self::Beat { member, joined }
            }
            5 => Self::Commit {
                member: decode_name(reader)?,
                lane: Lane::decode(reader)?,
                generation: reader.u64()?,
                from: Seqno::decode(reader)?,
                to: Certified::decode(reader)?,
            },
            6 => Self::Seek { lane: Lane::decode(reader)?, to: Certified::decode(reader)? },
            tag => return Err(DecodeError::Tag { what: "group action", tag: u64::from(tag) }),
        })
    }
}

fn put_member(out: &mut Vec<u8>, member: &str, joined: Position) {
    put_bytes(out, member.as_bytes());
    joined.lane.encode(out);
    joined.seqno.encode(out);
}

fn decode_member(reader: &mut Reader<'_>) -> Result<(String, Position), DecodeError> {
    let member = decode_name(reader)?;
    Ok((member, Position { lane: Lane::decode(reader)?, seqno: Seqno::decode(reader)? }))
}

fn decode_name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = reader.text("member", MEMBER_NAME_SIZE_MAX)?;
    check_member(name).map_err(|_| DecodeError::NotCanonical { what: "member" })?;
    Ok(name.to_owned())
}

fn decode_session(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let session_us = reader.u32()?;
    if (SESSION_US_MIN..=SESSION_US_MAX).contains(&session_us) {
        Ok(session_us)
    } else {
        Err(DecodeError::NotCanonical { what: "session" })
    }
}

fn decode_starts(reader: &mut Reader<'_>) -> Result<Vec<(Lane, Certified)>, DecodeError> {
    let count = reader.count("starts", LANE_COUNT_MAX, Lane::SIZE_MIN + Certified::SIZE_MIN)?;
    let start = |reader: &mut Reader<'_>| Ok((Lane::decode(reader)?, Certified::decode(reader)?));
    let starts: Vec<(Lane, Certified)> =
        (0..count).map(|_| start(reader)).collect::<Result<_, DecodeError>>()?;
    if starts.is_sorted_by(|a, b| a.0 < b.0) {
        Ok(starts)
    } else {
        Err(DecodeError::NotCanonical { what: "starts" })
    }
}
