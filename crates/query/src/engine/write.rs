//! A session's writes: planned here, run on the transaction's look or handed over as they are, answered when the ledger
//! has applied them.
//!
//! ```text
//!  alone           INSERT … ─> act ───────────────────────────> Write ─ ledger ─> written: count, rows
//!  in a transaction INSERT … ─> run on the look ─> count, rows, act kept ─ COMMIT ─> Write ─ ledger ─> written
//! ```

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Statement as Ast;
use quipu_state::{Fault, rows_hash};
use quipu_types::program::{Conflict, Expr, Op, Program, Reads};
use quipu_types::table::DEFINITIONS;
use quipu_types::{Code, Column, ColumnType, Time, Value, code};

use super::number::Numbering;
use super::{
    Forget, Kind, Outcome, Prepared, Rows, Session, SessionState, Statement, Transaction, deep,
};
use crate::copy::CopyIn;
use crate::ddl;
pub(super) use crate::dml::Dml;
use crate::dml::{self, Change, OnRival, Rival, Verb};
use crate::error::SqlError;
use crate::fault;
use crate::insert::{self, Append};
use crate::parameters::Parameter;
use crate::public::Special;
use crate::ready::{Ready, ReadyRows};
use crate::statement::Parsed;
use crate::table::TableDef as StreamDef;
use crate::tables::{self, ROW_NUMBER, Signer, Want};
use crate::transaction::{self, Act};

/// What a prepared statement writes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// With its rows, where an execution only binds its values.
    Stream(Arc<StreamDef>, Option<Arc<ReadyRows>>),
    Table(Arc<Dml>),
    /// No table: what it calls.
    Procedure(Arc<super::procedure::Called>),
}

/// What the ledger is to apply, and how the client is told then.
#[derive(Debug)]
pub struct Write {
    acts: Vec<Act>,
    /// Bytes of the acts in a transaction.
    size: usize,
    answer: Answer,
}

#[derive(Debug)]
pub(super) enum Answer {
    /// As it stands.
    Tag(String),
    /// With the number of rows that the ledger says.
    Counted(&'static str),
    /// The rows that the ledger says.
    Rows(&'static str, Box<Prepared>, Arc<Dml>),
    /// Not yet: these are the numbers of an INSERT that goes on.
    Numbers(Box<Numbering>),
}

/// What the ledger did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows of tables that were written or removed.
    pub row_count: u64,
    /// Those rows, where the write returns them.
    pub rows: Vec<Vec<u8>>,
}

impl Write {
    /// Refused where the ledger does not take that much at once.
    pub(super) fn new(acts: Vec<Act>, answer: Answer) -> Result<Self, SqlError> {
        let size = transaction::check_size(&acts)?;
        Ok(Self { acts, size, answer })
    }

    pub(super) fn of_transaction(acts: Vec<Act>) -> Result<Self, SqlError> {
        Self::of_statement(acts, "COMMIT")
    }

    pub(crate) fn of_statement(acts: Vec<Act>, tag: &str) -> Result<Self, SqlError> {
        Self::new(acts, Answer::Tag(tag.into()))
    }

    /// What is to be applied, all or none.
    #[must_use]
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Bytes of what is to be applied, in a transaction.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Whether the rows that it writes are wanted.
    #[must_use]
    pub fn returns(&self) -> bool {
        matches!(self.answer, Answer::Rows(..) | Answer::Numbers(_))
    }
}

impl Session {
    /// Says with whose key the session writes, and which accounts roles can be granted to.
    pub fn set_roles(
        &mut self,
        roles: Arc<std::collections::BTreeMap<String, quipu_types::AccountId>>,
    ) {
        self.roles = roles;
    }

    pub(super) fn signer(&self) -> Result<Signer, SqlError> {
        self.signer.ok_or_else(|| {
            let (_, user) = self.settings.get("session_authorization").unwrap_or_default();
            let message = format!("this gateway holds no key for role \"{user}\"");
            SqlError::new("42501", code::SQL_UNSUPPORTED, message).hint(
                "name its key file in [roles] of config.toml, or connect as a role that is there",
            )
        })
    }

    pub(super) fn check_writable(&self, verb: &str) -> Result<(), SqlError> {
        let is_read_only = match self.transaction {
            Transaction::None => self.settings.is_read_only(),
            Transaction::Open | Transaction::Failed => self.is_read_only,
        };
        if is_read_only {
            let message = format!("cannot execute {verb} in a read-only transaction");
            return Err(SqlError::new("25006", code::SQL_READ_ONLY, message));
        }
        self.signer().map(|_| ())
    }

    /// Rows of a stream that wait for the commit are not read by anybody, this session included.
    pub(super) fn check_unwritten(&self, plan: &LogicalPlan) -> Result<(), SqlError> {
        let Some(work) = &self.work else { return Ok(()) };
        let appended: Vec<&str> = work
            .acts()
            .iter()
            .filter_map(|act| match act {
                Act::Append(append) => Some(append.stream.as_str()),
                _ => None,
            })
            .collect();
        let names_it = !appended.is_empty() && {
            let shown = plan.display_indent().to_string();
            appended.iter().any(|stream| shown.contains(stream)) || shown.contains("quipu.events")
        };
        if names_it {
            let what = "a query of a stream after an INSERT into it in one transaction";
            return Err(SqlError::unsupported(what).hint("COMMIT first"));
        }
        Ok(())
    }

    /// A statement that was prepared on a table that has another definition by now is prepared again.
    pub(super) async fn renewed(&self, prepared: &Prepared) -> Result<Option<Prepared>, SqlError> {
        let mut known: Vec<Arc<quipu_types::table::TableDef>> = Vec::new();
        for plan in
            prepared.plan.iter().chain(prepared.source.iter().filter_map(|s| s.plan.as_ref()))
        {
            tables::defs_of(plan, &mut known)
                .map_err(|error| SqlError::from_datafusion(&error, ""))?;
        }
        if let Some(Target::Table(dml)) = &prepared.target {
            known.push(Arc::clone(&dml.target));
        }
        if known.is_empty() {
            return Ok(None);
        }
        let look = self.look()?;
        for def in known {
            let now = look.snapshot.definition(def.id).map_err(|error| fault::failed(&error))?;
            if now.is_some_and(|now| now.version == def.version) {
                continue;
            }
            let (statement, types) = &prepared.origin;
            let again = Box::pin(self.prepare(statement, types)).await?;
            if again.columns != prepared.columns || again.parameters != prepared.parameters {
                let message = "cached plan must not change result type";
                return Err(
                    SqlError::new("0A000", code::SQL_UNSUPPORTED, message).hint("prepare it again")
                );
            }
            return Ok(Some(again));
        }
        Ok(None)
    }

    /// Plans an INSERT, UPDATE or DELETE.
    pub(super) async fn prepare_write(
        &self,
        statement: &Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let ast = statement.parsed.plan.as_ref().expect("a write was parsed");
        let name = insert::key_of(dml::target(ast)?)?;
        let look = self.look()?;
        if let Some(stream) = self.engine.store.table(&name) {
            return self.prepare_append(statement, types, stream).await;
        }
        let def = self.table_named(&look, &name)?;
        let dml::Parts {
            statement: mut source,
            columns,
            rival,
            joined,
            sets,
            defaults,
            owner,
            returning,
        } = dml::parts(ast, &def)?;
        let spec = dml::table_of(&def)?;
        let want = if matches!(ast, Ast::Insert(_)) { Want::Insert } else { Want::Change };
        let mut special = Special { target: Some((def.id, want)), instead: None };
        let with = |ast: Ast, kind: Kind| Statement {
            parsed: Arc::new(Parsed { kind, plan: Some(ast.clone()), written: Some(ast) }),
            text: Arc::clone(&statement.text),
        };
        let plain = || self.engine.state(&self.settings, &look, Special::default());
        if let Some(query) = source.as_mut().and_then(insert::take_inner_values) {
            let query = self.plan(plain()?, with(Ast::Query(query), Kind::Write), types).await?;
            let plan = query.plan.expect("a SELECT is planned");
            let rows: Arc<dyn TableProvider> = Arc::new(ViewTable::new(plan, None));
            special.instead = Some((insert::SOURCE.to_owned(), rows));
        }
        let state = || self.engine.state(&self.settings, &look, special.clone());
        let mut prepared = match source {
            Some(source) => self.plan(state()?, with(source, Kind::Write), types).await?,
            None => self.nothing(statement, types),
        };
        let conflict = match rival {
            Rival::Fail => OnRival::Fail,
            Rival::Nothing(target) => OnRival::Nothing(target),
            Rival::Update(target, places, values) => {
                let planned = self.plan(state()?, with(*values, Kind::Write), types).await?;
                merge(&mut prepared.parameters, planned.parameters);
                let plan = planned.plan.expect("a SELECT is planned");
                dml::check_selected(spec, &plan, 0, places.iter().copied())?;
                OnRival::Update(target, places, Box::new(plan))
            }
        };
        if let Some(plan) = &prepared.plan {
            dml::check_assigned(spec, plan, &columns, &sets, joined.is_some())?;
        }
        let verb = match (ast, joined) {
            (Ast::Insert(_), _) => Verb::Insert { columns, conflict },
            (_, Some(sets)) => Verb::Joined { sets },
            (Ast::Update(_), None) => Verb::Update,
            _ => Verb::Delete,
        };
        let (text, target) = (ast.to_string(), Arc::clone(&def));
        let mut dml = Dml { target, owner, text, verb, ready: None, defaults };
        dml.ready = ready(state()?, &dml, &prepared).await;
        if let Some(mut returning) = returning {
            crate::names::alias(&mut returning);
            let source = self.plan_returning(plain()?, with(returning, Kind::Query)).await?;
            prepared.columns = source.columns.clone();
            prepared.source = Some(Box::new(source));
        }
        prepared.target = Some(Target::Table(Arc::new(dml)));
        prepared.origin = (statement.clone(), types.to_vec());
        Ok(prepared)
    }

    /// Plans what a write answers with.
    async fn plan_returning(
        &self,
        state: SessionState,
        returning: Statement,
    ) -> Result<Prepared, SqlError> {
        let source = self.plan(state, returning, &[]).await?;
        match source.parameters.as_slice() {
            [] => Ok(source),
            _ => Err(SqlError::unsupported("a parameter in RETURNING")),
        }
    }

    fn nothing(&self, statement: &Statement, types: &[u32]) -> Prepared {
        Prepared {
            kind: Kind::Write,
            plan: None,
            text: Arc::clone(&statement.text),
            point: None,
            target: None,
            source: None,
            origin: (statement.clone(), types.to_vec()),
            columns: None,
            parameters: Vec::new(),
        }
    }

    async fn prepare_append(
        &self,
        statement: &Statement,
        types: &[u32],
        stream: Arc<StreamDef>,
    ) -> Result<Prepared, SqlError> {
        let Statement { parsed, text } = statement;
        let mut parsed = Parsed::clone(parsed);
        match &mut parsed.plan {
            Some(plan @ Ast::Insert(_)) => insert::fill(plan, &stream)?,
            _ => return Err(SqlError::append_only(&stream.key)),
        }
        let source = Statement { parsed: Arc::new(parsed), text: Arc::clone(text) };
        let state = self.engine.state(&self.settings, &self.look()?, Special::default())?;
        let prepared = self.plan(state.clone(), source, types).await?;
        let origin = (statement.clone(), types.to_vec());
        let (plan, parameters) = (prepared.plan.clone(), prepared.parameters.clone());
        let schema = insert::schema_of(&stream)?.clone();
        let ready = deep::run(move || {
            Ok(plan.and_then(|plan| ReadyRows::of_insert(&state, &plan, &schema, &parameters)))
        });
        let ready = ready.await?.map(Arc::new);
        Ok(Prepared { target: Some(Target::Stream(stream, ready)), origin, ..prepared })
    }

    /// The table or view of a key of the catalog, `schema.name`.
    pub(super) fn table_named(
        &self,
        look: &crate::public::Look,
        key: &str,
    ) -> Result<Arc<quipu_types::table::TableDef>, SqlError> {
        let name = key.strip_prefix("public.").unwrap_or(key);
        let found = look.snapshot.named(name).map_err(|error| fault::failed(&error))?;
        found.filter(|_| key.starts_with("public.")).ok_or_else(|| {
            let message = format!("relation \"{name}\" does not exist");
            SqlError::new("42P01", code::SQL_SYNTAX, message)
        })
    }

    /// Executes an INSERT, UPDATE or DELETE.
    pub(super) async fn write(
        &mut self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        match prepared.target.clone().expect("a write is prepared with its target") {
            Target::Procedure(called) => self.call(prepared, &called, values).await,
            Target::Stream(stream, ready) => {
                self.check_writable("INSERT")?;
                match ready.and_then(|ready| ready.bind(&values)) {
                    Some(rows) => self.append_ready(&stream, &rows),
                    None => self.append(prepared, &stream, values).await,
                }
            }
            Target::Table(dml) => {
                let verb = match &dml.verb {
                    Verb::Insert { .. } => "INSERT",
                    Verb::Update => "UPDATE",
                    Verb::Joined { sets } if !sets.is_empty() => "UPDATE",
                    Verb::Delete | Verb::Joined { .. } => "DELETE",
                };
                self.check_writable(verb)?;
                if let Some((op, parameters)) =
                    dml.ready.as_ref().and_then(|ready| ready.bind(&values))
                {
                    let program = dml::program_with(&dml, op, parameters);
                    return self.apply(prepared, dml, verb, vec![program], None).await;
                }
                let (ops, reads) = self.ops(prepared, &dml, values).await?;
                let programs = ops.into_iter().map(|op| dml::program(&dml, op)).collect();
                self.apply(prepared, dml, verb, programs, reads).await
            }
        }
    }

    async fn append(
        &mut self,
        prepared: &Prepared,
        def: &StreamDef,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let plan = prepared.plan.as_ref().expect("an INSERT into a stream has a source");
        let state = self.engine.state(&self.settings, &self.look()?, Special::default())?;
        let mut source = self.run(prepared, state, plan, values).await?;
        let mut rows = Vec::new();
        let stream = def.key.strip_prefix("public.").unwrap_or(&def.key).to_owned();
        let schema = insert::schema_of(def)?;
        while let Some(batch) = source.next().await {
            insert::rows(&stream, schema, &batch?, &mut rows)?;
        }
        let tag = format!("INSERT 0 {}", rows.len());
        self.hand_over(Act::Append(Append { stream, rows }), tag)
    }

    fn append_ready(&mut self, def: &StreamDef, rows: &[Vec<Value>]) -> Result<Outcome, SqlError> {
        let stream = def.key.strip_prefix("public.").unwrap_or(&def.key).to_owned();
        let schema = insert::schema_of(def)?;
        let rows = rows.iter().map(|row| insert::encoded(schema, row, &stream));
        let rows: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
        let tag = format!("INSERT 0 {}", rows.len());
        self.hand_over(Act::Append(Append { stream, rows }), tag)
    }

    /// What a statement does: at once, or with the transaction that is open.
    pub(super) fn hand_over(&mut self, act: Act, tag: String) -> Result<Outcome, SqlError> {
        if act.action_count() == 0 {
            return Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing });
        }
        match self.work()? {
            Some(work) => {
                work.keep(act)?;
                Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing })
            }
            None => Ok(Outcome::Write(Box::new(Write::of_statement(vec![act], &tag)?))),
        }
    }

    /// The operations that a statement stands for.
    async fn ops(
        &self,
        prepared: &Prepared,
        dml: &Dml,
        values: Vec<ScalarValue>,
    ) -> Result<(Vec<Op>, Option<Reads>), SqlError> {
        let spec = dml::table_of(&dml.target)?.clone();
        // Its columns are those of what it answers; what is run here has others.
        let prepared = &Prepared { columns: None, ..prepared.clone() };
        let look = self.look()?;
        let Verb::Insert { columns, conflict } = &dml.verb else {
            let special = Special { target: Some((dml.target.id, Want::Change)), instead: None };
            let state = self.engine.state(&self.settings, &look, special)?;
            let plan = prepared.plan.clone().expect("an UPDATE or DELETE is planned");
            let (ops, was_run) = self.change(prepared, dml, &spec, state, plan, values).await?;
            return Ok((ops, was_run.then(|| look.snapshot.reads())));
        };
        let state = self.engine.state(&self.settings, &look, Special::default())?;
        let mut conflict = dml::conflict(&state, &spec, conflict, &values)?;
        if let Conflict::Update { sets, .. } = &mut conflict {
            sets.extend(dml.defaults.iter().cloned());
        }
        let mut rows: Vec<Vec<Expr>> = Vec::new();
        match &prepared.plan {
            None => rows.push(Vec::new()),
            Some(plan) => {
                let mut source = self.run(prepared, state, plan, values).await?;
                let places: Vec<usize> =
                    columns.iter().map(|column| usize::from(*column)).collect();
                while let Some(batch) = source.next().await {
                    let given = batch?.project(&places);
                    let given =
                        given.map_err(|error| SqlError::from_datafusion(&error.into(), ""))?;
                    dml::constants(&spec, columns, &given, &mut rows)?;
                }
            }
        }
        if rows.is_empty() {
            return Ok((Vec::new(), None));
        }
        Ok((vec![Op::Insert { columns: columns.clone(), rows, conflict }], None))
    }

    /// The operations of an UPDATE or DELETE, and whether it was run here because it does not compile.
    async fn change(
        &self,
        prepared: &Prepared,
        dml: &Dml,
        spec: &quipu_types::table::TableSpec,
        state: SessionState,
        plan: LogicalPlan,
        values: Vec<ScalarValue>,
    ) -> Result<(Vec<Op>, bool), SqlError> {
        let (own, text) = (dml.clone(), Arc::clone(&prepared.text));
        let verb = dml.verb.clone();
        let is_update = match &verb {
            Verb::Joined { sets } => !sets.is_empty(),
            verb => matches!(verb, Verb::Update),
        };
        let planner = state.clone();
        let change = deep::run(move || {
            let plan = dml::coerced(&planner, plan, values)
                .map_err(|error| SqlError::from_datafusion(&error, &text))?;
            change(&planner, &own, plan)
        });
        let (plan, sets) = match change.await? {
            Change::Op(mut op) => {
                if let Op::Update { sets, .. } = &mut op {
                    sets.extend(dml.defaults.iter().cloned());
                }
                return Ok((vec![op], false));
            }
            Change::Run { plan, sets } => (plan, sets),
        };
        let number = Column { name: ROW_NUMBER.into(), kind: ColumnType::Int8, nullable: false };
        let keys: Vec<&Column> = match spec.primary_key.as_slice() {
            [] => vec![&number],
            columns => columns.iter().filter_map(|column| spec.column(*column)).collect(),
        };
        let key_count = keys.len();
        let all: Vec<&Column> =
            keys.into_iter().chain(sets.iter().filter_map(|column| spec.column(*column))).collect();
        let mut source = self.run(prepared, state, &plan, Vec::new()).await?;
        let mut rows: Vec<Vec<Expr>> = Vec::new();
        while let Some(batch) = source.next().await {
            for values in insert::values(&all, &batch?)? {
                let kinds = all.iter().map(|column| column.kind);
                rows.push(
                    kinds.zip(values).map(|(kind, value)| Expr::Const(kind, value)).collect(),
                );
            }
            if rows.len() > quipu_types::program::ROW_COUNT_MAX {
                let message = "a statement changes too many rows";
                return Err(
                    SqlError::new("54000", code::SQL_LIMIT, message).hint("change them in parts")
                );
            }
        }
        if rows.is_empty() {
            return Ok((Vec::new(), true));
        }
        let sets = is_update.then_some(sets.as_slice());
        Ok((dml::ops(spec, key_count, sets, &dml.defaults, rows), true))
    }

    /// Hands programs over, or runs them on the transaction's look.
    async fn apply(
        &mut self,
        prepared: &Prepared,
        dml: Arc<Dml>,
        verb: &'static str,
        mut programs: Vec<Program>,
        reads: Option<Reads>,
    ) -> Result<Outcome, SqlError> {
        let returning = prepared.source.as_deref();
        if programs.is_empty() && returning.is_none() {
            let tag = tag_of(verb, 0);
            return Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing });
        }
        if let ([program], true) = (programs.as_slice(), self.defers())
            && let Some(asked) = self.number_insert(prepared, &dml, program)?
        {
            return Ok(asked);
        }
        if !self.defers() && !programs.is_empty() {
            for program in &mut programs {
                program.returns = returning.is_some();
            }
            let programs = programs.into_iter().map(|program| Act::Run(Box::new(program)));
            let acts: Vec<Act> = reads.map(Act::Reads).into_iter().chain(programs).collect();
            let answer = match returning {
                None => Answer::Counted(verb),
                Some(source) => Answer::Rows(verb, Box::new(source.clone()), dml),
            };
            return Ok(Outcome::Write(Box::new(Write::new(acts, answer)?)));
        }
        self.run_programs(prepared, dml, verb, programs).await
    }

    /// Runs programs on the transaction's look, and keeps them with what the client is told of them.
    pub(super) async fn run_programs(
        &mut self,
        prepared: &Prepared,
        dml: Arc<Dml>,
        verb: &'static str,
        programs: Vec<Program>,
    ) -> Result<Outcome, SqlError> {
        let returning = prepared.source.as_deref();
        let signer = self.signer()?;
        let (mut count, mut rows) = (0_u64, Vec::new());
        for mut program in programs {
            program.returns = returning.is_some();
            let failed = |error| fault::of_error(error, Some(&dml.target));
            let done = self.run_here(signer, failed, |tables| tables.run(&program))?;
            count = count.saturating_add(done.row_count);
            program.row_count = Some(done.row_count);
            program.rows_hash = program.returns.then(|| rows_hash(&done.rows));
            program.returns = false;
            rows.extend(done.rows);
            self.keep(Act::Run(Box::new(program)))?;
        }
        match returning {
            None => {
                let tag = tag_of(verb, count);
                Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing })
            }
            Some(source) => self.returned(verb, source, &dml, rows).await.map(Outcome::Rows),
        }
    }

    /// Ends a COPY into a table.
    pub(super) fn copy_into(
        &mut self,
        input: &CopyIn,
        program: Box<Program>,
        tag: String,
    ) -> Result<Outcome, SqlError> {
        let done = |tag| Outcome::Done { tag, report: None, forget: Forget::Nothing };
        if input.row_count() == 0 {
            return Ok(done(tag));
        }
        if !self.defers() {
            let acts = vec![Act::Run(program)];
            return Ok(Outcome::Write(Box::new(Write::of_statement(acts, &tag)?)));
        }
        let def = self.look()?.snapshot.definition(program.table.id);
        let def = def.map_err(|error| fault::failed(&error))?;
        let def = def.ok_or_else(|| fault::refused(code::NO_TABLE))?;
        if let Some(asked) = self.number_copy(&def, &program, &tag)? {
            return Ok(asked);
        }
        self.keep_copy(*program, &def)?;
        Ok(done(tag))
    }

    /// Runs a COPY on the transaction's look, and keeps it.
    pub(super) fn keep_copy(
        &mut self,
        mut program: Program,
        def: &quipu_types::table::TableDef,
    ) -> Result<(), SqlError> {
        let signer = self.signer()?;
        let failed = |error| fault::of_error(error, Some(def));
        let count = self.run_here(signer, failed, |tables| tables.run(&program))?.row_count;
        program.row_count = Some(count);
        self.keep(Act::Run(Box::new(program)))
    }

    /// Runs something on the transaction's look, which has its changes then.
    pub(super) fn run_here<T>(
        &mut self,
        signer: Signer,
        failed: impl FnOnce(quipu_state::TableError) -> SqlError,
        act: impl FnOnce(&mut quipu_state::Tables<'_>) -> Result<T, quipu_state::TableError>,
    ) -> Result<T, SqlError> {
        let time = now();
        let Some(work) = self.work()? else { return Err(SqlError::unsupported("this")) };
        let (done, changes) = work.look.snapshot.with_tables(signer, time, act).map_err(failed)?;
        Arc::make_mut(&mut work.look.snapshot).change(changes);
        Ok(done)
    }

    /// Keeps an act for the end of the open transaction.
    pub(super) fn keep(&mut self, act: Act) -> Result<(), SqlError> {
        self.work()?.map_or(Ok(()), |work| work.keep(act))
    }

    /// The rows that a RETURNING answers with.
    async fn returned(
        &self,
        verb: &'static str,
        source: &Prepared,
        dml: &Dml,
        rows: Vec<Vec<u8>>,
    ) -> Result<Rows, SqlError> {
        let failed = |error| SqlError::from_datafusion(&error, "");
        let spec = dml::table_of(&dml.target)?;
        let schema = tables::schema_of(spec, Want::Insert);
        let columns: Vec<usize> = (0..schema.fields().len()).collect();
        let rows = rows.into_iter().map(|row| (Vec::new(), row)).collect();
        let batch = tables::batch_of(spec, &columns, &schema, &rows).map_err(failed)?;
        // Rows before a change may have nulls where columns have none now.
        let table = MemTable::try_new(Arc::new(Schema::clone(&schema)), vec![vec![batch]])
            .map_err(failed)?;
        let table: Arc<dyn TableProvider> = Arc::new(table);
        let instead = Some((dml.target.body.name().to_owned(), table));
        let look = self.look()?;
        let state = self.engine.state(&self.settings, &look, Special { target: None, instead })?;
        let (statement, types) = &source.origin;
        let planned = self.plan(state.clone(), statement.clone(), types).await?;
        let plan = planned.plan.as_ref().expect("a query is planned");
        let mut rows = self.run(&planned, state, plan, Vec::new()).await?;
        rows.tag = if verb == "INSERT" { "INSERT 0" } else { verb };
        Ok(rows)
    }

    /// Ends a write that the ledger has applied.
    pub async fn written(&mut self, write: Write, written: Written) -> Result<Outcome, SqlError> {
        let done = |tag: String| Outcome::Done { tag, report: None, forget: Forget::Nothing };
        Ok(match write.answer {
            Answer::Tag(tag) => done(tag),
            Answer::Counted(verb) => done(tag_of(verb, written.row_count)),
            Answer::Rows(verb, source, dml) => {
                Outcome::Rows(self.returned(verb, &source, &dml, written.rows).await?)
            }
            Answer::Numbers(numbering) => return self.numbered(*numbering, &written).await,
        })
    }

    /// Why the ledger did not apply a write, as PostgreSQL would say it. `action`: which of the transaction's actions.
    #[must_use]
    pub fn refused(&self, write: &Write, code: Code, action: Option<u32>, detail: u16) -> SqlError {
        let act = action.and_then(|action| fault::act_of(&write.acts, action));
        let look = self.engine.look().ok();
        if let (Some(Act::Call(call)), Some(look)) = (act, &look) {
            return fault::of_call(&look.snapshot, call, Fault { code, detail });
        }
        let table = act.and_then(fault::table_of);
        let def = look
            .zip(table)
            .and_then(|(look, table)| look.snapshot.definition(table).ok().flatten());
        fault::of_act(act, def.as_deref(), Fault { code, detail })
    }

    /// Executes a statement that changes what tables there are, or empties some.
    pub(super) async fn define(&mut self, prepared: &Prepared) -> Result<Outcome, SqlError> {
        let (statement, _) = &prepared.origin;
        let ast = statement.parsed.written.as_ref().or(statement.parsed.plan.as_ref());
        let ast = ast.expect("a definition was parsed").clone();
        if prepared.kind == Kind::Truncate {
            return self.truncate(&ast);
        }
        let look = self.look()?;
        let state = self.engine.state(&self.settings, &look, Special::default())?;
        let (streams, roles) = (self.engine.store.clone(), Arc::clone(&self.roles));
        let snapshot = Arc::clone(&look.snapshot);
        let defined = deep::run(move || {
            let scope =
                ddl::Scope { state: &state, snapshot: &snapshot, streams: &streams, roles: &roles };
            ddl::defines(&ast, &scope)
        });
        let ddl::Defined { defines, notices, tag } = defined.await?;
        self.notices.extend(notices);
        if defines.is_empty() {
            return Ok(Outcome::Done { tag: tag.into(), report: None, forget: Forget::Nothing });
        }
        self.check_writable(tag)?;
        let acts: Vec<Act> =
            defines.into_iter().map(|define| Act::Define(Box::new(define))).collect();
        self.apply_all(acts, tag)
    }

    /// Acts that are not counted: at once, or kept for the end of the transaction.
    pub(super) fn apply_all(&mut self, acts: Vec<Act>, tag: &str) -> Result<Outcome, SqlError> {
        if !self.defers() {
            return Ok(Outcome::Write(Box::new(Write::of_statement(acts, tag)?)));
        }
        let signer = self.signer()?;
        for act in acts {
            let look = self.look()?;
            let table = fault::table_of(&act);
            let def = table.and_then(|table| look.snapshot.definition(table).ok().flatten());
            if matches!(&act, Act::Define(_)) {
                // The numbers of new tables are those that come next, if nobody else takes them.
                look.snapshot.note(|log| log.table(DEFINITIONS));
            }
            drop(look);
            let failed = |error| fault::of_error(error, def.as_deref());
            self.run_here(signer, failed, |tables| match &act {
                Act::Define(define) => tables.define(define),
                Act::Run(program) => tables.run(program).map(|_| ()),
                _ => Ok(()),
            })?;
            self.keep(act)?;
        }
        Ok(Outcome::Done { tag: tag.into(), report: None, forget: Forget::Nothing })
    }

    fn truncate(&mut self, ast: &Ast) -> Result<Outcome, SqlError> {
        self.check_writable("TRUNCATE TABLE")?;
        let acts = self.truncations(ast)?.into_iter().map(|program| Act::Run(Box::new(program)));
        self.apply_all(acts.collect(), "TRUNCATE TABLE")
    }

    /// The programs of a TRUNCATE.
    pub(super) fn truncations(&self, ast: &Ast) -> Result<Vec<Program>, SqlError> {
        let Ast::Truncate(truncate) = ast else { return Err(SqlError::unsupported("TRUNCATE")) };
        use datafusion::sql::sqlparser::ast::{CascadeOption, TruncateIdentityOption};
        if truncate.cascade == Some(CascadeOption::Cascade) {
            return Err(
                SqlError::unsupported("TRUNCATE … CASCADE").hint("truncate the tables one by one")
            );
        }
        if truncate.identity == Some(TruncateIdentityOption::Restart) {
            return Err(SqlError::unsupported("TRUNCATE … RESTART IDENTITY"));
        }
        let look = self.look()?;
        let mut programs = Vec::with_capacity(truncate.table_names.len());
        for target in &truncate.table_names {
            let key = insert::key_of(&target.name)?;
            if self.engine.store.table(&key).is_some() {
                return Err(SqlError::append_only(&key));
            }
            let def = self.table_named(&look, &key)?;
            dml::table_of(&def)?;
            programs.push(Program {
                text: ast.to_string(),
                table: dml::table_ref(&def),
                row_count: None,
                rows_hash: None,
                returns: false,
                parameters: Vec::new(),
                op: Op::Truncate,
            });
        }
        Ok(programs)
    }
}

/// What PostgreSQL calls a statement that wrote so many rows.
fn tag_of(verb: &str, count: u64) -> String {
    match verb {
        "INSERT" => format!("INSERT 0 {count}"),
        verb => format!("{verb} {count}"),
    }
}

/// What an UPDATE's or DELETE's plan becomes.
fn change(state: &SessionState, dml: &Dml, plan: LogicalPlan) -> Result<Change, SqlError> {
    let spec = dml::table_of(&dml.target)?;
    match &dml.verb {
        Verb::Joined { sets } => Ok(Change::Run { plan, sets: sets.clone() }),
        Verb::Update => dml::update(state, &plan, spec, &dml.owner),
        Verb::Delete | Verb::Insert { .. } => dml::delete(state, &plan, spec),
    }
}

/// The statement compiled, its parameters open, if it can be.
async fn ready(state: SessionState, dml: &Dml, prepared: &Prepared) -> Option<Ready> {
    if !dml.defaults.is_empty() {
        return None;
    }
    let (dml, plan) = (dml.clone(), prepared.plan.clone());
    let parameters = prepared.parameters.clone();
    let compiled = deep::run(move || {
        let coerced = |plan| dml::coerced(&state, plan, Vec::new()).ok();
        Ok(match (&dml.verb, plan) {
            (Verb::Insert { columns, conflict }, plan) => {
                let spec = dml::table_of(&dml.target)?;
                Ready::of_insert(&state, plan.as_ref(), spec, columns, conflict, &parameters)
            }
            (Verb::Joined { .. }, _) | (_, None) => None,
            (_, Some(plan)) => coerced(plan)
                .and_then(|plan| change(&state, &dml, plan).ok())
                .and_then(|change| Ready::of_change(change, &parameters)),
        })
    });
    compiled.await.ok().flatten()
}

fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::new(now.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

/// Types that one part of a statement leaves open are those of another.
pub(super) fn merge(all: &mut Vec<Parameter>, more: Vec<Parameter>) {
    for (index, other) in more.into_iter().enumerate() {
        match all.get_mut(index) {
            Some(own) if own.data_type.is_none() => *own = other,
            Some(_) => {}
            None => all.push(other),
        }
    }
}
