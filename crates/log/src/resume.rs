//! What a server answers to a consumer's cursor: go on, or roll back, and to where. Pure.
//!
//! ```text
//!  branches, newest first     Z@200                 Y@100        X@0          high: how far the newest reaches
//!  upper(b)                   high                  200          100
//!
//!  cursor ── another ledger, lane ──> refused
//!    │  0  its certified height is above ours ──> behind; a certified root that is not ours ──> conflict
//!    │     its root at a seqno of a known branch is not ours ──> roll back to what is certified
//!    │  1  not start ≤ seqno ≤ end, or certified beyond what is taken ──> range
//!    │  2  below the pruning horizon ──> pruned
//!    │  3  nothing taken yet ──> continue
//!    │  a  whole, and its root is ours ──> continue, whatever its branch is called
//!    │  4  branch unknown ──> the newest older branch that is known; none: roll back to what is certified
//!    │  5  nothing of the snapshot taken: its end counts as seqno
//!    │  6  end ≤ upper(branch) ──> continue
//!    └  7  roll back: whole, or its snapshot begins beyond upper ──> to upper; else to the snapshot's start
//! ```
//! Rule *a* is ours: transactions of a voided suffix that come again in the same order are the same, and a consumer that has them
//! has a true prefix.
//! # Properties (`resume::tests`, on generated histories)
//! * R1 What is kept after a roll back is a prefix of what the server has.
//! * R2 It ends where a snapshot ended, never inside one.
//! * R3 One answer is enough: the cursor after it is told to continue.
//! * R4 Who has whole snapshots of a true prefix is never rolled back, and nobody below his certified position.
//!
//! A snapshot is a cut's part of the lane for who follows what is certified, a chunk for who follows tentatively: a cursor inside of one is
//! resumed in the mode that it comes from.
//!
//! R1 for a roll back to `upper` assumes that a sequencer showed everyone the same suffix. Whoever rolls back compares the root that
//! comes with the answer with his own, and falls back to his certified position where he has none.

use quipu_types::cursor::{Certified, Cursor};
use quipu_types::{Code, Hash, Height, Lane, Seqno, code};
use thiserror::Error;

/// Where a term's branch begins: after this seqno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchStart {
    /// Hash of the header that began the term; the chain id for the first.
    pub branch: Hash,
    /// The last seqno before it.
    pub after: Seqno,
}

/// A lane as a server has it.
pub trait History {
    /// Why a root could not be read.
    type Error;

    /// The newest height whose cut is known.
    fn height(&self) -> Height;
    /// How far that cut reaches in the lane.
    fn certified(&self) -> Seqno;
    /// The last transaction that was pruned; `0` when all are there.
    fn pruned(&self) -> Seqno;
    /// The last transaction that is streamed: the certified one, or one beyond it.
    fn high(&self) -> Seqno;
    /// The lane's failover log, newest first. The oldest begins after `0`.
    fn branches(&self) -> &[BranchStart];
    /// Root of the lane's first `size` transactions, `pruned ≤ size ≤ high`.
    ///
    /// # Errors
    /// What reading gives.
    fn root_at(&self, size: Seqno) -> Result<Hash, Self::Error>;
}

/// The answer to a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// What follows the cursor's seqno comes next.
    Continue,
    /// What was taken after this seqno does not count.
    RollBack {
        /// The last transaction that stays.
        to: Seqno,
    },
}

/// Why a cursor is not resumed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResumeError {
    /// The server has not the heights that the consumer has.
    #[error("the cursor is at height {cursor}, this validator at height {here}")]
    Behind {
        /// The cursor's.
        cursor: Height,
        /// The server's.
        here: Height,
    },
    /// Two ledgers under one name.
    #[error(
        "the cursor says that height {} covers {} transactions of lane {lane} with root {}: here they have root {here:?}",
        .certified.height, .certified.seqno, .certified.root
    )]
    Conflict {
        /// The lane.
        lane: Lane,
        /// What the consumer holds for certified.
        certified: Certified,
        /// The root here; none where the lane is shorter.
        here: Option<Hash>,
    },
    /// Numbers that no consumer has.
    #[error(
        "lane {lane}: a cursor has certified ≤ start ≤ seqno ≤ end or certified = seqno, and older branches before that, not {certified}, {start}, {seqno}, {end}"
    )]
    Range {
        /// The lane.
        lane: Lane,
        /// Its certified seqno.
        certified: Seqno,
        /// Its snapshot's start.
        start: Seqno,
        /// Its seqno.
        seqno: Seqno,
        /// Its snapshot's end.
        end: Seqno,
    },
    /// What follows is not there any more.
    #[error("lane {lane}: transactions up to {horizon} were pruned, the cursor is at {seqno}")]
    Pruned {
        /// The lane.
        lane: Lane,
        /// The cursor's seqno.
        seqno: Seqno,
        /// The last one that was pruned: resume there with the state of that height.
        horizon: Seqno,
    },
}

impl ResumeError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Behind { .. } => code::BEHIND,
            Self::Conflict { .. } => code::CURSOR_CONFLICT,
            Self::Range { .. } => code::CURSOR,
            Self::Pruned { .. } => code::PRUNED,
        }
    }
}

/// The answer to `cursor`.
///
/// # Errors
/// The outer one is what reading a root gives, the inner one why the cursor is not resumed.
pub fn resume<H: History>(
    history: &H,
    cursor: &Cursor,
) -> Result<Result<Resume, ResumeError>, H::Error> {
    if let Err(refused) = check(history, cursor) {
        return Ok(Err(refused));
    }
    let Certified { seqno: floor, root, .. } = cursor.certified;
    let horizon = history.pruned();
    if floor >= horizon {
        let here = if floor <= history.certified() { Some(history.root_at(floor)?) } else { None };
        if here != Some(root) {
            let (lane, certified) = (cursor.lane, cursor.certified);
            return Ok(Err(ResumeError::Conflict { lane, certified, here }));
        }
    }
    let to = match place(history, cursor)? {
        Some(to) => to.max(floor),
        None => floor,
    };
    let lane = cursor.lane;
    Ok(if to < horizon {
        Err(ResumeError::Pruned { lane, seqno: to, horizon })
    } else if to == cursor.seqno {
        Ok(Resume::Continue)
    } else {
        Ok(Resume::RollBack { to })
    })
}

/// Rules 0 to 2, as far as no root is needed.
fn check<H: History>(history: &H, cursor: &Cursor) -> Result<(), ResumeError> {
    let Cursor { lane, certified, seqno, start, end, .. } = *cursor;
    let here = history.height();
    if certified.height > here {
        return Err(ResumeError::Behind { cursor: certified.height, here });
    }
    let older = cursor.older.iter().map(|older| older.seqno);
    let descends = std::iter::once(seqno).chain(older).is_sorted_by(|newer, older| newer >= older);
    let is_ordered = start <= seqno && seqno <= end && descends;
    let floor = certified.seqno;
    if !is_ordered || (floor > start && floor != seqno) {
        return Err(ResumeError::Range { lane, certified: floor, start, seqno, end });
    }
    let horizon = history.pruned();
    if seqno < horizon {
        return Err(ResumeError::Pruned { lane, seqno, horizon });
    }
    Ok(())
}

/// Rules 3 to 7: the last transaction that counts; `None` when no branch is shared.
fn place<H: History>(history: &H, cursor: &Cursor) -> Result<Option<Seqno>, H::Error> {
    let Cursor { branch, seqno, start, end, root, .. } = *cursor;
    // What was pruned can not be compared, and is refused for that.
    let is_ours = |seqno: Seqno, root: Hash| -> Result<bool, H::Error> {
        Ok(seqno < history.pruned() || (seqno <= history.high() && history.root_at(seqno)? == root))
    };
    if seqno.get() == 0 || (cursor.is_whole() && is_ours(seqno, root)?) {
        return Ok(Some(seqno));
    }
    if let Some(upper) = upper(history, &branch) {
        if seqno <= upper && !is_ours(seqno, root)? {
            return Ok(None);
        }
        let end = if seqno == start { seqno } else { end };
        return Ok(Some(if end <= upper {
            seqno
        } else if seqno == end || start > upper {
            upper
        } else {
            start
        }));
    }
    for older in &cursor.older {
        let Some(upper) = upper(history, &older.branch) else { continue };
        if older.seqno > upper {
            return Ok(Some(upper));
        }
        return Ok(is_ours(older.seqno, older.root)?.then_some(older.seqno));
    }
    Ok(None)
}

/// Where the branch after this one begins, or how far the newest reaches.
fn upper<H: History>(history: &H, branch: &Hash) -> Option<Seqno> {
    let mut upper = history.high();
    for start in history.branches() {
        if start.branch == *branch {
            return Some(upper);
        }
        upper = start.after;
    }
    None
}

#[cfg(test)]
mod tests;
