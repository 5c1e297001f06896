//! `CREATE PROCEDURE` and `CALL`.
//!
//! ```text
//!  CREATE PROCEDURE … ─> statements of the body ── each planned and compiled, arguments open ─> ProcedureSpec ─> Define
//!  CALL p(1, $1, a + b) ─> the procedure of the name ─┬─ constants, parameters ─┐
//!                                                     └─ SELECT a + b ── run ───┴─> Call ── as any write
//! ```
//! A statement that does not compile is refused when the procedure is created: a call never depends on a gateway.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as AstExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement as Ast,
    UnaryOperator, Value as Literal, Visit as _, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use pgwire::api::Type;
use quipu_state::TableError;
use quipu_types::procedure::{PROGRAM_COUNT_MAX, ProcedureDef, ProcedureParameter};
use quipu_types::program::{Op, Program, TableRef};
use quipu_types::table::{NUMBERS, ledger_key};
use quipu_types::{Call, Column, ColumnType, Define, ProcedureSpec, Value, code};

use super::write::{Target, Write};
use super::{Forget, Outcome, Prepared, Session, Statement, deep};
use crate::column::Kind as ColumnKind;
use crate::copy::value::from_text;
use crate::ddl::procedure::Draft;
use crate::ddl::types::parameter_name;
use crate::ddl::{self, expr, name};
use crate::dml::{self, lasting};
use crate::error::{SqlError, find_word};
use crate::fault;
use crate::forms;
use crate::insert;
use crate::parameters::{self, Parameter};
use crate::procedure::{self, Create};
use crate::public::{Look, Special};
use crate::ready;
use crate::statement;
use crate::tables::Want;
use crate::transaction::Act;
use crate::utility;

/// What a CALL calls.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    def: Arc<ProcedureDef>,
    arguments: Vec<Argument>,
}

/// What a CALL gives for a parameter.
#[derive(Clone, Debug)]
enum Argument {
    Default,
    Constant(ColumnType, Value),
    /// A parameter of the statement, 0-based.
    Parameter(usize),
    /// A column of the query that the call's expressions are.
    Computed(usize),
}

/// An argument as it is written: its type, as far as that is known before its parameter is.
#[derive(Clone, Debug)]
enum Written {
    Default,
    /// A text, or null.
    Unknown(Option<String>),
    Constant(ColumnType, Value),
    /// With the type that the client says, if it does.
    Parameter(usize, Option<ColumnType>),
    Computed(usize, ColumnType),
}

impl Session {
    /// Compiles a procedure, and creates it.
    pub(super) async fn create_procedure(&mut self, create: &Create) -> Result<Outcome, SqlError> {
        const TAG: &str = "CREATE PROCEDURE";
        let look = self.look()?;
        let draft = self.draft(create, &look).await?;
        let Create { body, body_start, is_atomic, is_definer, replaces, .. } = create;
        let statements = utility::statements(body).ok_or_else(|| {
            let parsed = Parser::parse_sql(&PostgreSqlDialect {}, body).err();
            let error = parsed.map(|error| SqlError::syntax(&error, body));
            error.unwrap_or_else(|| SqlError::unsupported("this body of a procedure"))
        })?;
        let mut programs = Vec::new();
        for (text, start) in statements {
            let compiled = self.compiled(&draft, text).await;
            programs.extend(compiled.map_err(|mut error| {
                let moved = |place: u32| place.saturating_add(start).saturating_add(*body_start);
                error.position = Some(moved(error.position.unwrap_or(1)));
                error
            })?);
            if programs.len() > PROGRAM_COUNT_MAX {
                let message = format!("a procedure has at most {PROGRAM_COUNT_MAX} statements");
                return Err(SqlError::new("54000", code::SQL_LIMIT, message));
            }
        }
        let Draft { name, parameters, callers } = draft;
        let text = body.clone();
        let (is_atomic, is_definer, replaces) = (*is_atomic, *is_definer, *replaces);
        let spec =
            ProcedureSpec { name, parameters, text, is_atomic, programs, is_definer, callers };
        let define = Define::CreateProcedure { spec: Box::new(spec), replaces };
        ddl::check_sizes(std::slice::from_ref(&define))?;
        self.check_writable(TAG)?;
        self.apply_all(vec![Act::Define(Box::new(define))], TAG)
    }

    async fn draft(&self, create: &Create, look: &Look) -> Result<Draft, SqlError> {
        let state = self.engine.state(&self.settings, look, Special::default())?;
        let (streams, roles) = (self.engine.store.clone(), Arc::clone(&self.roles));
        let (snapshot, create) = (Arc::clone(&look.snapshot), create.clone());
        let work = deep::run(move || {
            let scope =
                ddl::Scope { state: &state, snapshot: &snapshot, streams: &streams, roles: &roles };
            ddl::procedure::draft(&create, &scope)
        });
        work.await
    }

    /// The programs of one statement of a body.
    async fn compiled(&self, draft: &Draft, text: &str) -> Result<Vec<Program>, SqlError> {
        let mut ast = parsed(text)?;
        check_kind(&ast)?;
        let placed = |error: SqlError| placed(error, text);
        if let Ast::Truncate(_) = &ast {
            let programs = self.truncations(&ast).map_err(placed)?.into_iter();
            return Ok(programs
                .map(|program| Program { text: text.to_owned(), ..program })
                .collect());
        }
        let key = insert::key_of(dml::target(&ast)?)?;
        if self.engine.store.table(&key).is_some() {
            let error = SqlError::unsupported("an INSERT into a stream in a procedure");
            return Err(error.hint("a procedure changes the rows of tables"));
        }
        let def = self.table_named(&self.look()?, &key).map_err(placed)?;
        let spec = dml::table_of(&def)?;
        procedure::number(&mut ast, &draft.name, &draft.parameters, spec).map_err(placed)?;
        expr::spell(&mut ast);
        let mut statements = self.parse(&ast.to_string()).await.map_err(placed)?;
        let statement = statements.pop().ok_or_else(|| SqlError::unsupported("no statement"))?;
        let prepared = Box::pin(self.prepare(&statement, &[])).await.map_err(placed)?;
        if prepared.source.is_some() {
            let error = SqlError::unsupported("RETURNING in a procedure");
            return Err(error.hint("its rows would go nowhere"));
        }
        let Some(Target::Table(dml)) = &prepared.target else {
            return Err(SqlError::unsupported("this statement in a procedure"));
        };
        let special = Special { target: Some((dml.target.id, Want::Change)), instead: None };
        let mut state = self.engine.state(&self.settings, &self.look()?, special)?;
        state.config_mut().set_extension(Arc::new(lasting::Lasting));
        let kinds: Vec<ColumnType> =
            draft.parameters.iter().map(|parameter| parameter.kind).collect();
        let (own, plan) = (Arc::clone(dml), prepared.plan.clone());
        let op =
            deep::run(move || lasting::op(&state, &own, plan, &kinds)).await.map_err(placed)?;
        Ok(vec![Program { text: text.to_owned(), ..dml::program(dml, op) }])
    }

    /// Finds what a CALL calls, and reads its arguments.
    pub(super) async fn prepare_call(
        &self,
        statement: &Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let ast = statement.parsed.written.as_ref().or(statement.parsed.plan.as_ref());
        let Some(Ast::Call(function)) = ast else { return Err(SqlError::unsupported("CALL")) };
        let name = name::relation(&function.name)?;
        let given = given(function)?;
        let (written, source) = self.arguments(&given, types).await?;
        let look = self.look()?;
        let def = look.snapshot.procedure_named(&name).map_err(|error| fault::failed(&error))?;
        let matched = def.and_then(|def| Some((matched(&def.spec, &given, &written)?, def)));
        let Some((places, def)) = matched else {
            return Err(missing(&name, &given, &written, &statement.text));
        };
        let mut bound: Vec<Parameter> = Vec::new();
        let mut arguments = Vec::with_capacity(places.len());
        for (written, parameter) in places.iter().zip(&def.spec.parameters) {
            arguments.push(argument(written, parameter, &mut bound)?);
        }
        let computed = source.as_ref().map(|source| source.parameters.clone()).unwrap_or_default();
        super::write::merge(&mut bound, computed);
        let called = Called { def, arguments };
        Ok(Prepared {
            kind: statement.parsed.kind.clone(),
            plan: None,
            text: Arc::clone(&statement.text),
            point: None,
            target: Some(Target::Procedure(Arc::new(called))),
            source: source.map(Box::new),
            origin: (statement.clone(), types.to_vec()),
            columns: None,
            parameters: bound,
        })
    }

    /// Reads arguments, and plans those that are to be computed.
    async fn arguments(
        &self,
        given: &[Given<'_>],
        types: &[u32],
    ) -> Result<(Vec<Written>, Option<Prepared>), SqlError> {
        let mut written = Vec::with_capacity(given.len());
        let mut texts: Vec<String> = Vec::new();
        for Given { expr, .. } in given {
            written.push(match constant(expr, types)? {
                Some(constant) => constant,
                None => {
                    texts.push(expr.to_string());
                    Written::Computed(texts.len().saturating_sub(1), ColumnType::Text)
                }
            });
        }
        if texts.is_empty() {
            return Ok((written, None));
        }
        let mut statements = self.parse(&format!("SELECT {}", texts.join(", "))).await?;
        let statement = statements.pop().ok_or_else(|| SqlError::unsupported("this argument"))?;
        let source = Box::pin(self.prepare(&statement, types)).await?;
        let columns = source.columns.clone().unwrap_or_default();
        for written in &mut written {
            if let Written::Computed(place, kind) = written {
                let found = columns.get(*place).and_then(|column| kind_of(&column.pg_type));
                *kind = found.ok_or_else(|| SqlError::unsupported("an argument of this type"))?;
            }
        }
        Ok((written, Some(source)))
    }

    /// Executes a CALL.
    pub(super) async fn call(
        &mut self,
        prepared: &Prepared,
        called: &Called,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let def = &called.def;
        self.check_writable(verb(&def.spec))?;
        let look = self.look()?;
        let now = look.snapshot.procedure(def.id).map_err(|error| fault::failed(&error))?;
        if now.is_none_or(|now| now.version != def.version) {
            let (statement, types) = &prepared.origin;
            let again = Box::pin(self.prepare_call(statement, types)).await?;
            if again.parameters != prepared.parameters {
                let message = "cached plan must not change result type";
                let error = SqlError::new("0A000", code::SQL_UNSUPPORTED, message);
                return Err(error.hint("prepare it again"));
            }
            return Box::pin(self.execute(&again, values)).await;
        }
        let computed = self.computed(prepared, &look, &values).await?;
        let mut arguments = Vec::with_capacity(called.arguments.len());
        for (argument, parameter) in called.arguments.iter().zip(&def.spec.parameters) {
            arguments.push(match argument {
                Argument::Default => None,
                Argument::Constant(kind, value) => Some((*kind, value.clone())),
                Argument::Parameter(place) => Some(bound(values.get(*place), parameter)?),
                Argument::Computed(place) => Some(bound(computed.get(*place), parameter)?),
            });
        }
        let procedure = TableRef { id: def.id, version: def.version };
        let call = Box::new(Call { procedure, arguments });
        if !self.defers() {
            let write = Write::of_statement(vec![Act::Call(call)], "CALL")?;
            return Ok(Outcome::Write(Box::new(write)));
        }
        let signer = self.signer()?;
        let snapshot = Arc::clone(&look.snapshot);
        let failed = |error| match error {
            TableError::Fault(fault) => fault::of_call(&snapshot, &call, fault),
            TableError::Store(error) => fault::failed(&error),
        };
        self.run_here(signer, failed, |tables| tables.call(&call))?;
        note_numbers(&look, &def.spec)?;
        self.keep(Act::Call(call))?;
        Ok(Outcome::Done { tag: "CALL".into(), report: None, forget: Forget::Nothing })
    }

    /// The values of the arguments that are computed.
    async fn computed(
        &self,
        prepared: &Prepared,
        look: &Look,
        values: &[ScalarValue],
    ) -> Result<Vec<ScalarValue>, SqlError> {
        let Some(source) = &prepared.source else { return Ok(Vec::new()) };
        let Some(plan) = &source.plan else { return Ok(Vec::new()) };
        let state = self.engine.state(&self.settings, look, Special::default())?;
        let used = values.iter().take(source.parameters.len()).cloned().collect();
        let mut rows = self.run(source, state, plan, used).await?;
        let mut found = Vec::new();
        while let Some(batch) = rows.next().await {
            for column in batch?.columns() {
                let value = ScalarValue::try_from_array(column, 0);
                found.push(value.map_err(|error| SqlError::from_datafusion(&error, ""))?);
            }
        }
        Ok(found)
    }
}

/// Notes that a call took numbers of identity columns: what its session reads of them holds if nobody else takes any.
fn note_numbers(look: &Look, spec: &ProcedureSpec) -> Result<(), SqlError> {
    for program in &spec.programs {
        let Op::Insert { columns, .. } = &program.op else { continue };
        let id = program.table.id;
        let table = look.snapshot.definition(id).map_err(|error| fault::failed(&error))?;
        let identity = table.as_ref().and_then(|def| def.table()?.identity());
        if identity.is_some_and(|column| !columns.contains(&column)) {
            look.snapshot.note(|log| log.key(id, ledger_key(NUMBERS, id)));
        }
    }
    Ok(())
}

/// One statement of a body, which is one token of the text around it.
fn parsed(text: &str) -> Result<Ast, SqlError> {
    statement::bound(text)?;
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, text);
    let mut parsed = parsed.map_err(|error| SqlError::syntax(&error, text))?;
    let ast = parsed.pop().ok_or_else(|| SqlError::unsupported("no statement"))?;
    Ok(forms::unwrap_write(ast))
}

/// Refuses what no program does.
fn check_kind(ast: &Ast) -> Result<(), SqlError> {
    if let Ast::Insert(_) | Ast::Update(_) | Ast::Delete(_) | Ast::Truncate(_) = ast {
        return Ok(());
    }
    let text = ast.to_string();
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().to_uppercase();
    let what = match (first.as_str(), words.next()) {
        ("CREATE" | "ALTER" | "DROP", Some(object)) => format!("{first} {}", object.to_uppercase()),
        _ => first,
    };
    let error = SqlError::unsupported(&format!("{what} in a procedure"));
    Err(error.hint("a procedure holds INSERT, UPDATE, DELETE and TRUNCATE"))
}

/// An error of a statement that was written anew, where it is in the text.
fn placed(mut error: SqlError, text: &str) -> SqlError {
    let word = error.message.split('"').nth(1).unwrap_or_default();
    error.position = find_word(text, word.rsplit('.').next().unwrap_or_default());
    error
}

/// What a procedure does first, for who may not.
fn verb(spec: &ProcedureSpec) -> &'static str {
    match spec.programs.first().map(|program| &program.op) {
        Some(Op::Insert { .. }) => "INSERT",
        Some(Op::Update { .. }) => "UPDATE",
        Some(Op::Delete { .. }) => "DELETE",
        Some(Op::Truncate) => "TRUNCATE TABLE",
        Some(Op::Number { .. }) | None => "CALL",
    }
}

/// An argument of a CALL, with its parameter's name where that is said.
struct Given<'a> {
    name: Option<String>,
    expr: &'a AstExpr,
}

fn given(function: &Function) -> Result<Vec<Given<'_>>, SqlError> {
    let list = match &function.args {
        FunctionArguments::None => {
            return Err(SqlError::new(
                "42601",
                code::SQL_SYNTAX,
                "syntax error: CALL needs parentheses",
            ));
        }
        FunctionArguments::List(list) if list.clauses.is_empty() => &list.args,
        _ => return Err(SqlError::unsupported("this form of CALL")),
    };
    let mut given: Vec<Given<'_>> = Vec::with_capacity(list.len());
    for argument in list {
        let (name, expr) = match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                (Some(insert::folded(name)), expr)
            }
            FunctionArg::ExprNamed {
                name: AstExpr::Identifier(name),
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => (Some(insert::folded(name)), expr),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (None, expr),
            _ => return Err(SqlError::unsupported("this argument of CALL")),
        };
        if name.is_none() && given.last().is_some_and(|last| last.name.is_some()) {
            let message = "positional argument cannot follow named argument";
            return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
        }
        if expr.visit(&mut Subquery).is_break() {
            let message = "cannot use subquery in CALL argument";
            return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, message));
        }
        given.push(Given { name, expr });
    }
    Ok(given)
}

struct Subquery;

impl Visitor for Subquery {
    type Break = ();

    fn pre_visit_query(
        &mut self,
        _: &datafusion::sql::sqlparser::ast::Query,
    ) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Break(())
    }
}

/// An argument that need not be computed.
fn constant(expr: &AstExpr, types: &[u32]) -> Result<Option<Written>, SqlError> {
    let number = |text: &str| match parameters::decimal(text) {
        Some(ScalarValue::Decimal128(Some(value), _, scale)) if text.bytes().all(is_of_integer) => {
            match (i32::try_from(value), i64::try_from(value), scale) {
                (Ok(value), _, 0) => Some(Written::Constant(ColumnType::Int4, Value::Int4(value))),
                (_, Ok(value), 0) => Some(Written::Constant(ColumnType::Int8, Value::Int8(value))),
                _ => None,
            }
        }
        _ => None,
    };
    Ok(match expr {
        AstExpr::Nested(inner) => constant(inner, types)?,
        AstExpr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            AstExpr::Value(value) => match &value.value {
                Literal::Number(digits, _) => number(&format!("-{digits}")),
                _ => None,
            },
            _ => None,
        },
        AstExpr::Value(value) => match &value.value {
            Literal::Null => Some(Written::Unknown(None)),
            Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => {
                Some(Written::Unknown(Some(text.clone())))
            }
            Literal::DollarQuotedString(text) => Some(Written::Unknown(Some(text.value.clone()))),
            Literal::Boolean(value) => {
                Some(Written::Constant(ColumnType::Bool, Value::Bool(*value)))
            }
            Literal::Number(digits, _) => number(digits),
            Literal::Placeholder(text) => {
                let place = text.strip_prefix('$').and_then(|text| text.parse::<usize>().ok());
                let place = place.and_then(|place| place.checked_sub(1));
                let place = place.filter(|place| *place < parameters::PARAMETER_COUNT_MAX);
                let place = place.ok_or_else(|| {
                    let message = format!("there is no parameter {text}");
                    SqlError::new("42P02", code::SQL_SYNTAX, message)
                })?;
                let said = types.get(place).copied().filter(|oid| *oid != 0);
                let said = said.and_then(Type::from_oid).filter(|said| *said != Type::UNKNOWN);
                Some(Written::Parameter(place, said.as_ref().and_then(kind_of)))
            }
            _ => None,
        },
        _ => None,
    })
}

const fn is_of_integer(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'-'
}

/// The type of the ledger that is PostgreSQL's.
fn kind_of(kind: &Type) -> Option<ColumnType> {
    Some(match *kind {
        Type::BOOL => ColumnType::Bool,
        Type::INT2 => ColumnType::Int2,
        Type::INT4 => ColumnType::Int4,
        Type::INT8 | Type::OID => ColumnType::Int8,
        Type::NUMERIC => ColumnType::Numeric { precision: 38, scale: 0 },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR => ColumnType::Text,
        Type::BYTEA => ColumnType::Bytea,
        Type::DATE => ColumnType::Date,
        Type::TIMESTAMPTZ => ColumnType::Timestamptz,
        Type::TIMESTAMP => ColumnType::Timestamp,
        Type::UUID => ColumnType::Uuid,
        Type::JSONB => ColumnType::Jsonb,
        Type::FLOAT4 | Type::FLOAT8 => ColumnType::Float8,
        _ => return None,
    })
}

/// PostgreSQL's type of a parameter.
fn oid_of(kind: ColumnType) -> u32 {
    match kind {
        ColumnType::Bool => Type::BOOL,
        ColumnType::Int2 => Type::INT2,
        ColumnType::Int4 => Type::INT4,
        ColumnType::Int8 => Type::INT8,
        ColumnType::Numeric { .. } => Type::NUMERIC,
        ColumnType::Text => Type::TEXT,
        ColumnType::Bytea => Type::BYTEA,
        ColumnType::Date => Type::DATE,
        ColumnType::Timestamptz => Type::TIMESTAMPTZ,
        ColumnType::Timestamp => Type::TIMESTAMP,
        ColumnType::Uuid => Type::UUID,
        ColumnType::Jsonb => Type::JSONB,
        ColumnType::Float8 => Type::FLOAT8,
    }
    .oid()
}

/// Whether PostgreSQL reads a value of one type as one of the other without being asked.
const fn is_implicit(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType as T;
    match to {
        T::Bool => matches!(from, T::Bool),
        T::Int2 => matches!(from, T::Int2),
        T::Int4 => matches!(from, T::Int2 | T::Int4),
        T::Int8 => matches!(from, T::Int2 | T::Int4 | T::Int8),
        T::Numeric { .. } => matches!(from, T::Int2 | T::Int4 | T::Int8 | T::Numeric { .. }),
        T::Float8 => {
            matches!(from, T::Int2 | T::Int4 | T::Int8 | T::Numeric { .. } | T::Float8)
        }
        T::Text => matches!(from, T::Text),
        T::Bytea => matches!(from, T::Bytea),
        T::Date => matches!(from, T::Date),
        T::Timestamp => matches!(from, T::Date | T::Timestamp),
        T::Timestamptz => matches!(from, T::Date | T::Timestamp | T::Timestamptz),
        T::Uuid => matches!(from, T::Uuid),
        T::Jsonb => matches!(from, T::Jsonb),
    }
}

/// What each parameter is given, in order; none where the arguments do not fit.
fn matched(spec: &ProcedureSpec, given: &[Given<'_>], written: &[Written]) -> Option<Vec<Written>> {
    let mut places: Vec<Option<Written>> = vec![None; spec.parameters.len()];
    for (at, (given, written)) in given.iter().zip(written).enumerate() {
        let place = match &given.name {
            None => at,
            Some(name) => spec.parameters.iter().position(|parameter| parameter.name == *name)?,
        };
        let kind = spec.parameters.get(place)?.kind;
        let fits = match written {
            Written::Constant(from, _)
            | Written::Computed(_, from)
            | Written::Parameter(_, Some(from)) => is_implicit(*from, kind),
            Written::Default | Written::Unknown(_) | Written::Parameter(_, None) => true,
        };
        let slot = places.get_mut(place)?;
        if !fits || slot.is_some() {
            return None;
        }
        *slot = Some(written.clone());
    }
    let filled = places.into_iter().zip(&spec.parameters).map(|(place, parameter)| {
        place.or_else(|| parameter.default.is_some().then_some(Written::Default))
    });
    filled.collect()
}

/// No procedure has this name and takes these arguments.
fn missing(name: &str, given: &[Given<'_>], written: &[Written], text: &str) -> SqlError {
    let kinds = written.iter().zip(given).map(|(written, given)| {
        let kind = match written {
            Written::Constant(kind, _)
            | Written::Computed(_, kind)
            | Written::Parameter(_, Some(kind)) => parameter_name(*kind),
            _ => "unknown".to_owned(),
        };
        given.name.as_ref().map_or(kind.clone(), |name| format!("{name} => {kind}"))
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let message = format!("procedure {name}({kinds}) does not exist");
    let mut error = SqlError::new("42883", code::NO_PROCEDURE, message).hint(
        "No procedure matches the given name and argument types. You might need to add explicit type casts.",
    );
    error.position = find_word(text, name);
    error
}

/// An argument as its parameter takes it; `bound` are the statement's parameters.
fn argument(
    written: &Written,
    parameter: &ProcedureParameter,
    bound_to: &mut Vec<Parameter>,
) -> Result<Argument, SqlError> {
    let kind = parameter.kind;
    Ok(match written {
        Written::Default => Argument::Default,
        Written::Unknown(None) => Argument::Constant(kind, Value::Null),
        Written::Unknown(Some(text)) => {
            let (kind, value) = match (kind, parameters::decimal(text.trim())) {
                // It keeps the digits that it is written with.
                (ColumnType::Numeric { .. }, Some(value)) => bound(Some(&value), parameter)?,
                _ => {
                    let column = Column { name: String::new(), kind, nullable: true };
                    (kind, from_text(&column, text.as_bytes())?)
                }
            };
            Argument::Constant(kind, value)
        }
        Written::Constant(from, value) if parameter.takes(*from) => {
            Argument::Constant(*from, value.clone())
        }
        Written::Constant(_, value) => {
            let value = match value {
                Value::Int4(value) => ScalarValue::Int32(Some(*value)),
                Value::Int8(value) => ScalarValue::Int64(Some(*value)),
                _ => return Err(SqlError::unsupported("this constant")),
            };
            let (kind, value) = bound(Some(&value), parameter)?;
            Argument::Constant(kind, value)
        }
        Written::Parameter(place, said) => {
            while bound_to.len() <= *place {
                bound_to.push(Parameter { oid: Type::TEXT.oid(), data_type: None });
            }
            let kind = said.unwrap_or(kind);
            let data_type = Some(ColumnKind::from(kind).data_type());
            if let Some(slot) = bound_to.get_mut(*place) {
                *slot = Parameter { oid: oid_of(kind), data_type };
            }
            Argument::Parameter(*place)
        }
        Written::Computed(place, _) => Argument::Computed(*place),
    })
}

/// A value as one of a parameter's type.
fn bound(
    value: Option<&ScalarValue>,
    parameter: &ProcedureParameter,
) -> Result<(ColumnType, Value), SqlError> {
    let kind = match (parameter.kind, value) {
        // It keeps its digits.
        (ColumnType::Numeric { .. }, Some(ScalarValue::Decimal128(_, precision, scale))) => {
            ColumnType::Numeric {
                precision: *precision,
                scale: u8::try_from(*scale).unwrap_or_default(),
            }
        }
        (kind @ ColumnType::Numeric { precision, .. }, Some(value)) => {
            if value.data_type().is_integer() {
                ColumnType::Numeric { precision, scale: 0 }
            } else {
                kind
            }
        }
        (kind, _) => kind,
    };
    let value = value.ok_or_else(|| {
        SqlError::new("08P01", code::SQL_SYNTAX, "a parameter of the CALL has no value")
    })?;
    ready::bound(value, kind).ok_or_else(|| {
        let message = format!("{value} is no value of type {}", parameter_name(parameter.kind));
        SqlError::new("22P02", code::BAD_TEXT, message)
    })
}
