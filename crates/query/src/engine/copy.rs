//! A session's `COPY`: whose rows are copied, and where they go.

use std::sync::Arc;

use super::write::{Target, Write};
use super::{Forget, Outcome, Prepared, Session, Statement, deep};
use crate::copy::{Copy, CopyIn, CopyOut, Sink, What};
use crate::dml::{self, Dml, OnRival, Verb};
use crate::error::{Notice, SqlError};
use crate::insert;
use crate::statement::{self, Kind};
use crate::transaction::{Act, Work};
use crate::utility::Upkeep;
use quipu_types::code;

impl Session {
    /// Plans the rows that a `COPY … TO` sends; a `COPY … FROM` has no plan, but a table.
    pub(super) async fn prepare_copy(
        &self,
        statement: &Statement,
        copy: &Copy,
    ) -> Result<Prepared, SqlError> {
        let bare = Prepared {
            kind: statement.parsed.kind.clone(),
            plan: None,
            text: statement.text.clone(),
            point: None,
            target: None,
            source: None,
            origin: (statement.clone(), Vec::new()),
            columns: None,
            parameters: Vec::new(),
        };
        let query = match &copy.what {
            What::Table { name, .. } if copy.is_input => {
                let target = Some(self.stream_or_table(statement, name)?);
                return Ok(Prepared { target, ..bare });
            }
            What::Table { name, columns } => self.select(name, columns)?,
            What::Query(text) => text.clone(),
        };
        let engine = self.engine.clone();
        let text: std::sync::Arc<str> = query.into();
        let own = text.clone();
        let mut parsed = deep::run(move || statement::parse(&own, &engine.parser)).await?;
        let is_query =
            parsed.first().is_some_and(|parsed| matches!(parsed.kind, Kind::Query | Kind::Catalog));
        let (Some(parsed), true, true) = (parsed.pop(), parsed.is_empty(), is_query) else {
            return Err(SqlError::unsupported("COPY of anything but one query"));
        };
        let statement = Statement { parsed: parsed.into(), text };
        let source = Box::pin(self.prepare(&statement, &[])).await?;
        if !source.parameters.is_empty() {
            return Err(SqlError::new("42P02", code::SQL_SYNTAX, "there is no parameter $1"));
        }
        Ok(Prepared { source: Some(Box::new(source)), ..bare })
    }

    /// The query whose rows are a table's: its own columns, none of the ledger's, unless they are named.
    fn select(&self, name: &[String], columns: &[String]) -> Result<String, SqlError> {
        let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        let known = self.engine.store.table(&key(name));
        let own = known.as_ref().and_then(|def| def.stream.as_ref());
        let columns: Vec<String> = match own {
            _ if !columns.is_empty() => columns.iter().map(quoted).collect(),
            Some(schema) => schema.columns().iter().map(|column| quoted(&column.name)).collect(),
            None => vec!["*".into()],
        };
        let name: Vec<String> = name.iter().map(quoted).collect();
        Ok(format!("SELECT {} FROM {}", columns.join(", "), name.join(".")))
    }

    /// Begins to copy.
    pub(super) async fn copy(
        &mut self,
        prepared: &Prepared,
        copy: &Copy,
    ) -> Result<Outcome, SqlError> {
        if let Some(source) = &prepared.source {
            let options = copy.options.clone();
            return match Box::pin(self.execute(source, Vec::new())).await? {
                Outcome::Rows(rows) => Ok(Outcome::CopyOut(Box::new(CopyOut::new(rows, options)?))),
                _ => Err(SqlError::unsupported("COPY of anything but one query")),
            };
        }
        self.check_writable("COPY FROM")?;
        let columns = match &copy.what {
            What::Table { columns, .. } => columns.as_slice(),
            What::Query(_) => &[],
        };
        let sink = match prepared.target.as_ref().expect("a COPY FROM is prepared with its target")
        {
            Target::Stream(def, _) => {
                for name in columns {
                    insert::own_column(def, name)?;
                }
                Sink::stream(def)?
            }
            Target::Table(dml) => Sink::table(&dml.target, columns)?,
            Target::Procedure(_) => return Err(SqlError::unsupported("COPY into this")),
        };
        let batch = self.settings.copy_batch_row_count();
        let mut input = CopyIn::new(sink, columns, &copy.options, batch)?;
        if batch.is_some() && self.defers() {
            // Parts are committed as they come, and what was done before them first.
            let acts = self.work.take().map(Work::commit).unwrap_or_default();
            input.before = (!acts.is_empty())
                .then(|| Write::of_transaction(acts).map(Box::new))
                .transpose()?;
        }
        input.time_max = self.settings.statement_timeout();
        Ok(Outcome::CopyIn(Box::new(input)))
    }

    /// Ends a `COPY … FROM` whose every record was read: what is left of its rows goes where an `INSERT`'s go.
    pub fn copied(&mut self, input: &mut CopyIn) -> Result<Outcome, SqlError> {
        let tag = format!("COPY {}", input.row_count());
        if input.batch_count() > 0 {
            self.notices.push(Notice {
                severity: "NOTICE",
                sqlstate: "00000",
                message: format!(
                    "rows were appended in {} parts before the last, as quipu.copy_batch_rows says",
                    input.batch_count()
                ),
            });
        }
        let act = input.take();
        if input.is_batched() {
            self.work = None;
            let acts = vec![act];
            return Ok(match acts.first().map_or(0, Act::action_count) {
                0 => Outcome::Done { tag, report: None, forget: Forget::Nothing },
                _ => Outcome::Write(Box::new(Write::of_statement(acts, &tag)?)),
            });
        }
        match act {
            Act::Run(program) => self.copy_into(input, program, tag),
            act => self.hand_over(act, tag),
        }
    }

    /// Upkeep has nothing to do; the tables that it names must be there.
    pub(super) fn upkeep(&self, upkeep: &Upkeep) -> Result<&'static str, SqlError> {
        let Upkeep { tag, relations } = upkeep;
        if *tag == "VACUUM" && self.defers() {
            let message = "VACUUM cannot run inside a transaction block";
            return Err(SqlError::new("25001", code::SQL_UNSUPPORTED, message));
        }
        for name in relations {
            let key = key(name);
            if self.engine.store.table(&key).is_none() {
                self.table_named(&self.look()?, &key)?;
            }
        }
        Ok(tag)
    }

    /// What a COPY writes.
    fn stream_or_table(&self, statement: &Statement, name: &[String]) -> Result<Target, SqlError> {
        let key = key(name);
        if let Some(stream) = self.engine.store.table(&key) {
            return Ok(Target::Stream(stream, None));
        }
        let target = self.table_named(&self.look()?, &key)?;
        dml::table_of(&target)?;
        let (owner, text) = (target.body.name().to_owned(), statement.text.to_string());
        let verb = Verb::Insert { columns: Vec::new(), conflict: OnRival::Fail };
        let (ready, defaults) = (None, Vec::new());
        Ok(Target::Table(Arc::new(Dml { target, owner, text, verb, ready, defaults })))
    }
}

/// The key of a table's name.
pub(super) fn key(name: &[String]) -> String {
    match name {
        [name] => format!("public.{name}"),
        [.., schema, name] => format!("{schema}.{name}"),
        [] => String::new(),
    }
}
