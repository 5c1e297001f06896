//! A session's `COPY`: whose rows are copied, and where they go.

use super::{Kind, Outcome, Prepared, Session, Statement, deep};
use crate::copy::{Copy, CopyIn, CopyOut, What};
use crate::error::{Notice, SqlError};
use crate::insert;
use crate::statement;
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
            target: None,
            source: None,
            columns: None,
            parameters: Vec::new(),
        };
        let query = match &copy.what {
            What::Table { name, .. } if copy.is_input => {
                let target = Some(self.table(name)?);
                return Ok(Prepared { target, ..bare });
            }
            What::Table { name, columns } => self.select(name, columns)?,
            What::Query(text) => text.clone(),
        };
        let engine = self.engine.clone();
        let text: std::sync::Arc<str> = query.into();
        let own = text.clone();
        let mut parsed = deep::run(move || statement::parse(&own, &engine.parser)).await?;
        let is_query = parsed.first().is_some_and(|parsed| parsed.kind == Kind::Query);
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
        let def = prepared.target.as_ref().expect("a COPY FROM is prepared with its table");
        let columns = match &copy.what {
            What::Table { columns, .. } => columns.as_slice(),
            What::Query(_) => &[],
        };
        for name in columns {
            insert::own_column(def, name)?;
        }
        let schema = insert::schema_of(def)?.clone();
        let stream = def.key.strip_prefix("public.").unwrap_or(&def.key).to_owned();
        let batch = self.settings.copy_batch_row_count().filter(|_| !self.defers());
        let mut input = CopyIn::new(stream, schema, columns, &copy.options, batch)?;
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
        let append = input.take();
        self.hand_over(append, tag)
    }

    /// Upkeep has nothing to do; the tables that it names must be there.
    pub(super) fn upkeep(&self, upkeep: &Upkeep) -> Result<&'static str, SqlError> {
        let Upkeep { tag, relations } = upkeep;
        if *tag == "VACUUM" && self.defers() {
            let message = "VACUUM cannot run inside a transaction block";
            return Err(SqlError::new("25001", code::SQL_UNSUPPORTED, message));
        }
        for name in relations {
            self.table(name)?;
        }
        Ok(tag)
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
