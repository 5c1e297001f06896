//! Numbers of identity columns, for rows that wait for the end of a transaction.
//!
//! ```text
//!  alone            INSERT ─────────────────────────────────> the ledger numbers the rows as it adds them
//!  in a transaction INSERT ─> take numbers (a write of its own, at once) ─> rows with those numbers, kept ─ COMMIT ─>
//!  alone, refused   INSERT ─> its numbers are taken all the same: the next one gets others
//! ```
//! As PostgreSQL's sequences: a number is given once, whatever becomes of who got it. So two sessions that number rows
//! in open transactions do not stand in each other's way.

use std::sync::Arc;

use quipu_types::program::{Expr, Op, Program};
use quipu_types::table::{NUMBERS, TableDef, ledger_key};
use quipu_types::{ColumnType, Value, code};

use super::write::{Answer, Dml, Write, Written};
use super::{Forget, Outcome, Prepared, Session};
use crate::dml;
use crate::error::SqlError;
use crate::fault;
use crate::transaction::Act;

/// An INSERT that waits for its numbers, and what is done then.
#[derive(Debug)]
pub(super) struct Numbering {
    program: Program,
    def: Arc<TableDef>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// The rows of an INSERT.
    Insert(Box<Prepared>, Arc<Dml>),
    /// Those of a COPY, answered with this.
    Copy(String),
}

/// The identity column that an INSERT leaves to the ledger, and how many rows that is for.
fn unnumbered(def: &TableDef, op: &Op) -> Option<(u16, ColumnType, u32)> {
    let Op::Insert { columns, rows, .. } = op else { return None };
    let spec = def.table()?;
    let place = spec.identity()?;
    let count = u32::try_from(rows.len()).ok()?;
    (!columns.contains(&place)).then_some((place, spec.column(place)?.kind, count))
}

/// What takes numbers.
fn taking(def: &TableDef, count: u32, returns: bool) -> Act {
    Act::Run(Box::new(Program {
        text: format!("number {count} rows of {}", def.body.name()),
        table: dml::table_ref(def),
        row_count: None,
        rows_hash: None,
        returns,
        parameters: Vec::new(),
        op: Op::Number { count },
    }))
}

/// A number of an identity column of this type.
fn value(number: u64, kind: ColumnType) -> Option<Value> {
    Some(match kind {
        ColumnType::Int2 => Value::Int2(i16::try_from(number).ok()?),
        ColumnType::Int4 => Value::Int4(i32::try_from(number).ok()?),
        _ => Value::Int8(i64::try_from(number).ok()?),
    })
}

impl Session {
    /// Asks for the numbers of an INSERT in a transaction, if it needs some.
    pub(super) fn number_insert(
        &self,
        prepared: &Prepared,
        dml: &Arc<Dml>,
        program: &Program,
    ) -> Result<Option<Outcome>, SqlError> {
        let next = || Next::Insert(Box::new(prepared.clone()), Arc::clone(dml));
        self.number(&dml.target, program, next)
    }

    /// As [`Self::number_insert`], of a COPY.
    pub(super) fn number_copy(
        &self,
        def: &Arc<TableDef>,
        program: &Program,
        tag: &str,
    ) -> Result<Option<Outcome>, SqlError> {
        self.number(def, program, || Next::Copy(tag.to_owned()))
    }

    fn number(
        &self,
        def: &Arc<TableDef>,
        program: &Program,
        next: impl FnOnce() -> Next,
    ) -> Result<Option<Outcome>, SqlError> {
        let Some((_, _, count)) = unnumbered(def, &program.op) else { return Ok(None) };
        // A table of this very transaction is nobody else's yet: its numbers come with its rows.
        if self.engine.look()?.snapshot.definition(def.id).ok().flatten().as_deref() != Some(&**def)
        {
            return Ok(None);
        }
        let numbering = Numbering { program: program.clone(), def: Arc::clone(def), next: next() };
        let answer = Answer::Numbers(Box::new(numbering));
        Ok(Some(Outcome::Write(Box::new(Write::new(vec![taking(def, count, true)], answer)?))))
    }

    /// Goes on with an INSERT that has its numbers now.
    pub(super) async fn numbered(
        &mut self,
        numbering: Numbering,
        written: &Written,
    ) -> Result<Outcome, SqlError> {
        let Numbering { mut program, def, next } = numbering;
        let first = written.rows.first().and_then(|row| <[u8; 8]>::try_from(row.as_slice()).ok());
        let first = first.map(u64::from_le_bytes).ok_or_else(|| fault::refused(code::METER))?;
        let (place, kind, count) = unnumbered(&def, &program.op).expect("it was not numbered");
        let Op::Insert { columns, rows, .. } = &mut program.op else {
            return Err(SqlError::unsupported("this"));
        };
        columns.push(place);
        for (row, number) in rows.iter_mut().zip(first..) {
            let value = value(number, kind).ok_or_else(|| {
                let message = format!("the numbers of table \"{}\" are used up", def.body.name());
                SqlError::new("2200H", code::OUT_OF_RANGE, message)
                    .hint("its column holds no greater ones")
            })?;
            row.push(Expr::Const(kind, value));
        }
        // The look is older than the numbers.
        let last = first.saturating_add(u64::from(count)).saturating_sub(1);
        if let Some(work) = self.work()? {
            let numbers = (ledger_key(NUMBERS, def.id), Some(last.to_le_bytes().to_vec()));
            Arc::make_mut(&mut work.look.snapshot).change([numbers].into_iter().collect());
        }
        match next {
            Next::Insert(prepared, dml) => {
                self.run_programs(&prepared, dml, "INSERT", vec![program]).await
            }
            Next::Copy(tag) => {
                self.keep_copy(program, &def)?;
                Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing })
            }
        }
    }

    /// What takes the numbers that a refused statement would have used, if it is one.
    #[must_use]
    pub fn numbers_lost(&self, write: &Write) -> Option<Write> {
        let [Act::Run(program)] = write.acts() else { return None };
        let def = self.engine.look().ok()?.snapshot.definition(program.table.id).ok()??;
        let (_, _, count) = unnumbered(&def, &program.op)?;
        Write::of_statement(vec![taking(&def, count, false)], "INSERT").ok()
    }
}
