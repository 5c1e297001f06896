//! What a transaction has read and written, until it commits.
//!
//! ```text
//!  first statement ─> Look at one height ── every statement reads it, and what was written over it
//!     write ─> run on the look (rows, errors, counts) ─> act, with the count that the client was told
//!  COMMIT ─> [what was read] · acts ─> one ledger transaction: runs if nothing of that has changed, else 40001
//! ```
//! # Invariants
//! * T1 All statements of a transaction see one height.
//! * T2 The ledger applies all acts of a transaction, or none.

use quipu_types::Call;
use quipu_types::code;
use quipu_types::codec::Encode as _;
use quipu_types::program::{Define, Program, Reads};
use quipu_types::transaction::{ACTION_COUNT_MAX, StreamSpec, TRANSACTION_SIZE_MAX};

use crate::error::SqlError;
use crate::insert::Append;
use crate::public::Look;

/// Bytes of a ledger transaction beside its actions, and some to spare.
pub(crate) const HEAD_SIZE: usize = 4_096;
/// Bytes of an event's action beside its stream's name and its row.
pub(crate) const EVENT_HEAD_SIZE: usize = 17;
/// Most savepoints that are open at once.
const SAVEPOINT_COUNT_MAX: usize = 1_024;

/// One thing that a transaction does, or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Appends rows to a stream.
    Append(Append),
    /// Runs a program on a table.
    Run(Box<Program>),
    /// Changes what tables there are.
    Define(Box<Define>),
    /// Creates a stream.
    CreateStream(Box<StreamSpec>),
    /// Says what was read.
    Reads(Reads),
    /// Runs a procedure.
    Call(Box<Call>),
}

impl Act {
    /// How many of the ledger's actions it is.
    #[must_use]
    pub fn action_count(&self) -> usize {
        match self {
            Self::Append(append) => append.rows.len(),
            _ => 1,
        }
    }

    /// How many bytes it takes in a transaction.
    fn size(&self) -> usize {
        let sized = |size: usize| size.saturating_add(1);
        match self {
            Self::Append(Append { stream, rows }) => {
                let head = stream.len().saturating_add(EVENT_HEAD_SIZE);
                rows.iter().fold(0, |sum, row| sum.saturating_add(row.len()).saturating_add(head))
            }
            Self::Run(program) => sized(program.to_bytes().len()),
            Self::Define(define) => sized(define.to_bytes().len()),
            Self::CreateStream(spec) => sized(spec.to_bytes().len()),
            Self::Reads(reads) => sized(reads.to_bytes().len()),
            Self::Call(call) => sized(call.to_bytes().len()),
        }
    }
}

/// An open transaction.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) look: Look,
    acts: Vec<Act>,
    action_count: usize,
    size: usize,
    savepoints: Vec<Savepoint>,
}

#[derive(Clone, Debug)]
struct Savepoint {
    name: String,
    look: Look,
    act_count: usize,
    action_count: usize,
    size: usize,
}

impl Work {
    pub(crate) fn new(look: Look) -> Self {
        let (acts, savepoints) = (Vec::new(), Vec::new());
        Self { look, acts, action_count: 0, size: HEAD_SIZE, savepoints }
    }

    pub(crate) fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Keeps an act for the end. Refused where the ledger would not take that much at once.
    pub(crate) fn keep(&mut self, act: Act) -> Result<(), SqlError> {
        self.action_count = self.action_count.saturating_add(act.action_count());
        self.size = self.size.saturating_add(act.size());
        // The reads are said in one action more.
        if self.action_count >= ACTION_COUNT_MAX || self.size > TRANSACTION_SIZE_MAX {
            return Err(too_large().hint("COMMIT more often"));
        }
        self.acts.push(act);
        Ok(())
    }

    /// Everything that is to be committed; nothing where nothing was written.
    pub(crate) fn commit(self) -> Vec<Act> {
        if self.acts.is_empty() {
            return self.acts;
        }
        let reads = self.look.snapshot.reads();
        let says = !reads.keys.is_empty() || !reads.tables.is_empty();
        says.then_some(Act::Reads(reads)).into_iter().chain(self.acts).collect()
    }

    pub(crate) fn save(&mut self, name: &str) -> Result<(), SqlError> {
        if self.savepoints.len() >= SAVEPOINT_COUNT_MAX {
            let message = format!("a transaction has at most {SAVEPOINT_COUNT_MAX} savepoints");
            return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("RELEASE some"));
        }
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            look: self.look.clone(),
            act_count: self.acts.len(),
            action_count: self.action_count,
            size: self.size,
        });
        Ok(())
    }

    /// Undoes what was written since a savepoint, which stays.
    pub(crate) fn roll_back_to(&mut self, name: &str) -> Result<(), SqlError> {
        let place = self.place(name)?;
        self.savepoints.truncate(place.saturating_add(1));
        if let Some(savepoint) = self.savepoints.last() {
            self.look = savepoint.look.clone();
            self.acts.truncate(savepoint.act_count);
            self.action_count = savepoint.action_count;
            self.size = savepoint.size;
        }
        Ok(())
    }

    pub(crate) fn release(&mut self, name: &str) -> Result<(), SqlError> {
        let place = self.place(name)?;
        self.savepoints.truncate(place);
        Ok(())
    }

    /// The newest savepoint of this name.
    fn place(&self, name: &str) -> Result<usize, SqlError> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| {
            let message = format!("savepoint \"{name}\" does not exist");
            SqlError::new("3B001", code::SQL_SYNTAX, message)
        })
    }
}

/// Bytes of these acts in one transaction, if the ledger takes them.
pub(crate) fn check_size(acts: &[Act]) -> Result<usize, SqlError> {
    let count = acts.iter().fold(0_usize, |sum, act| sum.saturating_add(act.action_count()));
    let size = acts.iter().fold(HEAD_SIZE, |sum, act| sum.saturating_add(act.size()));
    if count > ACTION_COUNT_MAX || size > TRANSACTION_SIZE_MAX {
        return Err(too_large().hint("write in parts"));
    }
    Ok(size)
}

fn too_large() -> SqlError {
    let message = format!(
        "a transaction writes at most {ACTION_COUNT_MAX} rows of streams or statements, and {TRANSACTION_SIZE_MAX} bytes"
    );
    SqlError::new("54000", code::SQL_LIMIT, message)
}
