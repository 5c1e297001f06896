//! `INSERT`, `UPDATE`, `DELETE` and `TRUNCATE` of tables: from a statement to a row program.
//!
//! ```text
//!  INSERT … source          ── run here ─> rows of constants ─┐
//!  ON CONFLICT DO UPDATE    ── planned as SELECT values FROM t, t AS excluded; compiled ─┤
//!  UPDATE, DELETE           ── planned, types coerced, folded, compiled ─> Program { keys | index | all, filter, sets }
//!                           └─ what does not compile (a subquery, a float, other tables): run here ─> keys, constants
//!  RETURNING                ── SELECT … over the rows that the program wrote
//! ```
//! What is run here is noted as read, so that the ledger refuses it where it no longer holds.

mod assignments;
pub(crate) mod lasting;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as Plan, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    ConflictTarget, Delete, DoUpdate, Expr, FromTable, Ident, Insert, ObjectName, ObjectNamePart,
    OnConflict, OnConflictAction, OnInsert, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Statement, TableFactor, TableObject, TableWithJoins, Update,
    UpdateTableFromKind, Visit as _, VisitMut, Visitor, VisitorMut,
};
use quipu_types::program::{
    Access, Conflict, Expr as Compiled, Op, Program, ROW_COUNT_MAX, Selection, TableRef,
};
use quipu_types::table::{TableDef, TableSpec};
use quipu_types::{ColumnType, Value, code};

pub(crate) use self::assignments::check_generated;
use self::assignments::{as_column, assigned, is_cast, is_default, split, take_defaults, width_of};
use crate::assign;
use crate::compile;
use crate::error::SqlError;
use crate::insert;
use crate::parameters;
use crate::ready::Ready;
use crate::tables::{self, ROW_NUMBER, Way};

/// What a statement does to a table, as far as it is known before it is executed.
#[derive(Clone, Debug)]
pub(crate) struct Dml {
    pub(crate) target: Arc<TableDef>,
    /// What its columns are qualified with: its name, or the statement's alias.
    pub(crate) owner: String,
    /// As it was written.
    pub(crate) text: String,
    pub(crate) verb: Verb,
    /// Where an execution only binds its values.
    pub(crate) ready: Option<Ready>,
    /// Columns that an UPDATE sets to their defaults.
    pub(crate) defaults: Vec<(u16, Compiled)>,
}

/// Which kind of statement it is.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    /// The plan's rows are values of these columns; without a plan, one row of defaults.
    Insert { columns: Vec<u16>, conflict: OnRival },
    /// The plan is a projection of every column.
    Update,
    /// The plan gives the rows.
    Delete,
    /// The plan joins other tables, and gives keys and the new values of these columns; rows without any go.
    Joined { sets: Vec<u16> },
}

/// What is done where a row is there.
#[derive(Clone, Debug)]
pub(crate) enum OnRival {
    Fail,
    Nothing(Option<u8>),
    /// The plan gives the new values of these columns, over the table and `excluded`.
    Update(u8, Vec<u16>, Box<LogicalPlan>),
}

/// A statement taken apart into what DataFusion plans.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What is planned; none for one row of defaults.
    pub(crate) statement: Option<Statement>,
    /// Columns that an INSERT gives, by number.
    pub(crate) columns: Vec<u16>,
    pub(crate) rival: Rival,
    /// Columns that a statement over several tables changes.
    pub(crate) joined: Option<Vec<u16>>,
    /// Columns that an UPDATE changes to what is given, with whether a cast to the column's type is written.
    pub(crate) sets: Vec<(u16, bool)>,
    /// Columns that are set to their defaults.
    pub(crate) defaults: Vec<(u16, Compiled)>,
    pub(crate) owner: String,
    /// What is answered, as a query over the table.
    pub(crate) returning: Option<Statement>,
}

/// What an INSERT says of rows that are there.
#[derive(Debug)]
pub(crate) enum Rival {
    Fail,
    Nothing(Option<u8>),
    /// New values of these columns: a SELECT to be planned.
    Update(u8, Vec<u16>, Box<Statement>),
}

/// The table that a statement writes: its name's parts, as they are written.
pub(crate) fn target(statement: &Statement) -> Result<&ObjectName, SqlError> {
    let of_factor = |factor: &'_ TableWithJoins| -> bool {
        matches!(&factor.relation, TableFactor::Table { .. }) && factor.joins.is_empty()
    };
    let named = match statement {
        Statement::Insert(Insert { table: TableObject::TableName(name), .. }) => Some(name),
        Statement::Update(update) if of_factor(&update.table) => name_of(&update.table.relation),
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            match from.as_slice() {
                [one] if of_factor(one) => name_of(&one.relation),
                _ => None,
            }
        }
        _ => None,
    };
    named.ok_or_else(|| SqlError::unsupported("writing anything but one table"))
}

fn name_of(factor: &TableFactor) -> Option<&ObjectName> {
    match factor {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

/// Takes a statement apart.
pub(crate) fn parts(statement: &Statement, def: &TableDef) -> Result<Parts, SqlError> {
    let spec = table_of(def)?;
    let name = target(statement)?.clone();
    match statement {
        Statement::Insert(insert) => insert_parts(insert.clone(), &name, def, spec),
        Statement::Update(update) => update_parts(update.clone(), &name, def, spec),
        Statement::Delete(delete) => delete_parts(delete.clone(), &name, def, spec),
        _ => Err(SqlError::unsupported("this statement on a table")),
    }
}

fn update_parts(
    mut update: Update,
    name: &ObjectName,
    def: &TableDef,
    spec: &TableSpec,
) -> Result<Parts, SqlError> {
    if !update.order_by.is_empty() || update.limit.is_some() {
        let message = "syntax error: UPDATE has no ORDER BY and no LIMIT";
        return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
    }
    refuse(&[(update.output.is_some() || update.or.is_some(), "UPDATE OR, OUTPUT")])?;
    update.assignments = split(update.assignments)?;
    read_compared(update.selection.as_mut(), spec)?;
    let places = assigned(&mut update.assignments, def, spec)?;
    let (places, defaults) = take_defaults(&mut update.assignments, places, spec)?;
    let is_cast = update.assignments.iter().map(|assigned| is_cast(&assigned.value));
    let sets: Vec<(u16, bool)> = places.iter().copied().zip(is_cast).collect();
    let alias = alias_of(&update.table.relation);
    let owner = owner(alias.as_ref(), def);
    let returning = update.returning.take();
    let returning = returning.map(|items| selection(items, name, alias));
    let from = match update.from.take() {
        None => None,
        Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => {
            Some(from)
        }
    };
    let (statement, joined) = match from {
        None => (Statement::Update(update), None),
        Some(_) if places.is_empty() => {
            return Err(SqlError::unsupported("SET … = DEFAULT only, with FROM"));
        }
        Some(from) => {
            let values = update.assignments.into_iter().map(|assigned| assigned.value);
            let sets: Vec<(u16, Expr)> = places.iter().copied().zip(values).collect();
            let from: Vec<TableWithJoins> = [update.table].into_iter().chain(from).collect();
            let select =
                values_over(spec, &owner, key_columns(spec)?, sets, from, update.selection);
            (select, Some(places))
        }
    };
    let (statement, columns, rival) = (Some(statement), Vec::new(), Rival::Fail);
    Ok(Parts { statement, columns, rival, joined, sets, defaults, owner, returning })
}

fn delete_parts(
    mut delete: Delete,
    name: &ObjectName,
    def: &TableDef,
    spec: &TableSpec,
) -> Result<Parts, SqlError> {
    read_compared(delete.selection.as_mut(), spec)?;
    refuse(&[
        (!delete.order_by.is_empty() || delete.limit.is_some(), "DELETE … ORDER BY, LIMIT"),
        (delete.output.is_some(), "DELETE … OUTPUT"),
    ])?;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let alias = from.first().and_then(|from| alias_of(&from.relation));
    let owner = owner(alias.as_ref(), def);
    let returning = delete.returning.take();
    let has_alias = alias.is_some();
    let returning = returning.map(|items| selection(items, name, alias));
    // A name beside the table's is known to a query only.
    let using = delete.using.take().or_else(|| has_alias.then(Vec::new));
    let (statement, joined) = match using {
        None => (Statement::Delete(delete), None),
        Some(using) => {
            let from: Vec<TableWithJoins> = from.iter().cloned().chain(using).collect();
            let keys = key_columns(spec)?;
            let select = values_over(spec, &owner, keys, Vec::new(), from, delete.selection);
            (select, Some(Vec::new()))
        }
    };
    let (statement, columns, rival) = (Some(statement), Vec::new(), Rival::Fail);
    let (sets, defaults) = (Vec::new(), Vec::new());
    Ok(Parts { statement, columns, rival, joined, sets, defaults, owner, returning })
}

/// Refuses values whose types do not go into the columns that a plan gives them to: of an INSERT `columns`, of an UPDATE
/// `sets`, each with whether a cast is written.
pub(crate) fn check_assigned(
    spec: &TableSpec,
    plan: &LogicalPlan,
    columns: &[u16],
    sets: &[(u16, bool)],
    is_joined: bool,
) -> Result<(), SqlError> {
    if is_joined {
        let sets = sets.iter().map(|(place, _)| *place);
        return check_selected(spec, plan, spec.key_kinds().len(), sets);
    }
    // Each column of the table has its expression there, cast to its type.
    let columns = columns.iter().map(|place| (*place, false));
    for (place, is_cast) in columns.chain(sets.iter().copied()) {
        let Some(column) = spec.column(place) else { continue };
        assign::check_planned(column, plan, usize::from(place), !is_cast)?;
    }
    Ok(())
}

/// The same of a query's expressions, from the one at `first` on.
pub(crate) fn check_selected(
    spec: &TableSpec,
    plan: &LogicalPlan,
    first: usize,
    sets: impl Iterator<Item = u16>,
) -> Result<(), SqlError> {
    for (at, place) in (first..).zip(sets) {
        let Some(column) = spec.column(place) else { continue };
        assign::check_planned(column, plan, at, false)?;
    }
    Ok(())
}

fn refuse(cases: &[(bool, &str)]) -> Result<(), SqlError> {
    match cases.iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}

fn alias_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    }
}

fn owner(alias: Option<&Ident>, def: &TableDef) -> String {
    alias.map_or_else(|| def.body.name().to_owned(), insert::folded)
}

/// The table of a definition, which a view is not.
pub(crate) fn table_of(def: &TableDef) -> Result<&TableSpec, SqlError> {
    def.table().ok_or_else(|| {
        let message = format!("cannot change view \"{}\"", def.body.name());
        SqlError::new("55000", code::SQL_UNSUPPORTED, message).hint("change the table under it")
    })
}

fn insert_parts(
    mut insert: Insert,
    name: &ObjectName,
    def: &TableDef,
    spec: &TableSpec,
) -> Result<Parts, SqlError> {
    refuse(&[
        (
            insert.overwrite || insert.replace_into || insert.or.is_some(),
            "INSERT OR, OVERWRITE, REPLACE",
        ),
        (insert.partitioned.is_some() || !insert.after_columns.is_empty(), "INSERT … PARTITION"),
        (!insert.assignments.is_empty() || insert.insert_alias.is_some(), "INSERT … SET"),
        (insert.output.is_some(), "INSERT … OUTPUT"),
    ])?;
    let alias = insert.table_alias.take().map(|alias| alias.alias);
    let owner = owner(alias.as_ref(), def);
    let returning = insert.returning.take().map(|items| selection(items, name, alias.clone()));
    if !insert.into {
        let message = "syntax error: INSERT without INTO";
        return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
    }
    let mut defaults = Vec::new();
    let rival = match insert.on.take() {
        None => Rival::Fail,
        Some(OnInsert::OnConflict(on)) => rival_of(on, name, alias, def, spec, &mut defaults)?,
        Some(_) => {
            return Err(SqlError::unsupported("ON DUPLICATE KEY UPDATE").hint("write ON CONFLICT"));
        }
    };
    if insert.columns.is_empty() {
        let width = insert.source.as_ref().and_then(|source| width_of(&source.body));
        let own = spec.schema.columns().iter().take(width.unwrap_or(usize::MAX));
        insert.columns = own.map(|column| quoted(&column.name)).collect();
    }
    drop_defaults(&mut insert)?;
    select_subqueries(&mut insert);
    let mut columns = Vec::with_capacity(insert.columns.len());
    for ObjectName(parts) in &insert.columns {
        let column = parts.last().and_then(insert::word).unwrap_or_default();
        let place = column_number(def, spec, &column)?;
        if columns.contains(&place) {
            let message = format!("column \"{column}\" specified more than once");
            return Err(SqlError::new("42701", code::SQL_SYNTAX, message));
        }
        columns.push(place);
    }
    insert::read_byteas(&mut insert, |index| {
        columns.get(index).and_then(|column| spec.column(*column)).map(|column| column.kind)
    })?;
    if let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|query| query.body.as_ref()) {
        for (place, value) in values.rows.iter().flat_map(|row| columns.iter().zip(&row.content)) {
            spec.column(*place).map_or(Ok(()), |column| assign::check_written(column, value))?;
        }
    }
    let statement = insert.source.is_some() && !insert.columns.is_empty();
    let columns = if statement { columns } else { Vec::new() };
    check_generated(spec, &columns)?;
    let statement = statement.then_some(Statement::Insert(insert));
    let (joined, sets) = (None, Vec::new());
    Ok(Parts { statement, columns, rival, joined, sets, defaults, owner, returning })
}

/// Columns whose every value is DEFAULT are as good as not named.
fn drop_defaults(insert: &mut Insert) -> Result<(), SqlError> {
    let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|query| query.body.as_mut())
    else {
        return Ok(());
    };
    let mut place = insert.columns.len();
    while let Some(at) = place.checked_sub(1) {
        place = at;
        let has = |row: &&Vec<Expr>| row.get(at).is_some_and(is_default);
        let rows = values.rows.iter().map(|row| &row.content);
        let count = rows.clone().filter(has).count();
        if count == 0 {
            continue;
        }
        if count < values.rows.len() {
            let what = "DEFAULT in some of the rows of a column only";
            return Err(SqlError::unsupported(what).hint("insert those rows by themselves"));
        }
        for row in &mut values.rows {
            row.content.remove(at);
        }
        insert.columns.remove(at);
    }
    if insert.columns.is_empty() && values.rows.len() > 1 {
        return Err(SqlError::unsupported("several rows of nothing but defaults"));
    }
    Ok(())
}

/// A VALUES list with a subquery in it as SELECTs: the engine evaluates the list's expressions by themselves.
fn select_subqueries(insert: &mut Insert) {
    let Some(query) = insert.source.as_mut() else { return };
    let SetExpr::Values(values) = query.body.as_mut() else { return };
    let has = |expr: &Expr| matches!(expr.visit(&mut Subquery), ControlFlow::Break(()));
    if !values.rows.iter().any(|row| row.content.iter().any(has)) {
        return;
    }
    let rows = std::mem::take(&mut values.rows).into_iter();
    let selects = rows.map(|row| {
        let items = row.content.into_iter().zip(0_u32..);
        let items = items.map(|(expr, number)| SelectItem::ExprWithAlias {
            expr,
            alias: Ident::with_quote('"', format!("column{number}")),
        });
        let mut statement = selection(items.collect(), &quoted("x"), None);
        let select = select_of(&mut statement)?;
        select.from.clear();
        Some(SetExpr::Select(Box::new(select.clone())))
    });
    let all = selects.flatten().reduce(|left, right| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(left),
        right: Box::new(right),
    });
    if let Some(all) = all {
        *query.body = all;
    }
}

struct Subquery;

impl Visitor for Subquery {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

/// Reads the texts beside a table's bytea columns in a condition as such.
fn read_compared(filter: Option<&mut Expr>, spec: &TableSpec) -> Result<(), SqlError> {
    let Some(filter) = filter else { return Ok(()) };
    match filter.visit(&mut Compared { spec }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Compared<'a> {
    spec: &'a TableSpec,
}

impl Compared<'_> {
    fn is_bytea(&self, expr: &Expr) -> bool {
        let name = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        let place = name.and_then(|name| self.spec.schema.index_of(&insert::folded(name)));
        let column = place.and_then(|place| self.spec.schema.columns().get(place));
        column.is_some_and(|column| column.kind == ColumnType::Bytea)
    }
}

impl VisitorMut for Compared<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let read = match expr {
            Expr::BinaryOp { left, right, .. } => match (self.is_bytea(left), self.is_bytea(right))
            {
                (true, false) => insert::read_bytea(right),
                (false, true) => insert::read_bytea(left),
                _ => Ok(()),
            },
            Expr::InList { expr, list, .. } if self.is_bytea(expr) => {
                list.iter_mut().try_for_each(insert::read_bytea)
            }
            _ => Ok(()),
        };
        match read {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn quoted(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', name))])
}

/// A column's number.
pub(crate) fn column_number(def: &TableDef, spec: &TableSpec, name: &str) -> Result<u16, SqlError> {
    let place = spec.schema.index_of(name).and_then(|place| u16::try_from(place).ok());
    place.ok_or_else(|| {
        let message =
            format!("column \"{name}\" of relation \"{}\" does not exist", def.body.name());
        SqlError::new("42703", code::SQL_SYNTAX, message)
    })
}

/// `SELECT items FROM name [AS alias]`.
fn selection(items: Vec<SelectItem>, name: &ObjectName, alias: Option<Ident>) -> Statement {
    let mut text = format!("SELECT 1 FROM {name}");
    if let Some(alias) = alias {
        text.push_str(&format!(" AS {alias}"));
    }
    let dialect = datafusion::sql::sqlparser::dialect::PostgreSqlDialect {};
    let parsed = datafusion::sql::sqlparser::parser::Parser::parse_sql(&dialect, &text);
    let mut statement = parsed
        .ok()
        .and_then(|mut all| all.pop())
        .expect("a name and an alias that were parsed are parsed again");
    if let Some(select) = select_of(&mut statement) {
        select.projection = items;
    }
    statement
}

fn rival_of(
    on: OnConflict,
    name: &ObjectName,
    alias: Option<Ident>,
    def: &TableDef,
    spec: &TableSpec,
    defaults: &mut Vec<(u16, Compiled)>,
) -> Result<Rival, SqlError> {
    let target = match on.conflict_target {
        None => None,
        Some(ConflictTarget::Columns(columns)) => {
            let columns: Vec<u16> = columns
                .iter()
                .map(|ident| column_number(def, spec, &insert::folded(ident)))
                .collect::<Result<_, _>>()?;
            Some(constraint_on(spec, &columns)?)
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let name = name.0.last().and_then(insert::word).unwrap_or_default();
            Some(constraint_named(def, spec, &name)?)
        }
    };
    let DoUpdate { assignments, selection } = match on.action {
        OnConflictAction::DoNothing => return Ok(Rival::Nothing(target)),
        OnConflictAction::DoUpdate(update) => update,
    };
    let target = target.ok_or_else(|| {
        let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
        SqlError::new("42601", code::SQL_SYNTAX, message)
            .hint("For example, ON CONFLICT (column_name).")
    })?;
    let mut assignments = split(assignments)?;
    let places = assigned(&mut assignments, def, spec)?;
    let (places, own_defaults) = take_defaults(&mut assignments, places, spec)?;
    *defaults = own_defaults;
    let own = alias.clone().or_else(|| name.0.last().and_then(ObjectNamePart::as_ident).cloned());
    let own = own.ok_or_else(|| SqlError::unsupported("this table name"))?;
    let mut qualify = Qualify { own: &own };
    let mut selection = selection;
    for assignment in &mut assignments {
        let _never_breaks = VisitMut::visit(&mut assignment.value, &mut qualify);
    }
    if let Some(selection) = &mut selection {
        let _never_breaks = VisitMut::visit(selection, &mut qualify);
    }
    let values = assignments.into_iter().map(|assigned| assigned.value);
    let sets: Vec<(u16, Expr)> = places.iter().copied().zip(values).collect();
    let from = [from_of(name, alias)?, from_of(name, Some(Ident::new("excluded")))?];
    let owner = insert::folded(&own);
    let select = values_over(spec, &owner, Vec::new(), sets, from.concat(), selection);
    Ok(Rival::Update(target, places, Box::new(select)))
}

/// Columns without a table are the target's, not `excluded`'s.
struct Qualify<'a> {
    own: &'a Ident,
}

impl VisitorMut for Qualify<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr {
            *expr = Expr::CompoundIdentifier(vec![self.own.clone(), ident.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// `name [AS alias]` as a table that is read.
fn from_of(name: &ObjectName, alias: Option<Ident>) -> Result<Vec<TableWithJoins>, SqlError> {
    let mut statement = selection(Vec::new(), name, alias);
    match select_of(&mut statement) {
        Some(select) => Ok(std::mem::take(&mut select.from)),
        None => Err(SqlError::unsupported("this table name")),
    }
}

fn select_of(statement: &mut Statement) -> Option<&mut Select> {
    let Statement::Query(query) = statement else { return None };
    match query.body.as_mut() {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// `SELECT owner.key …, value … FROM … WHERE …`: the keys of rows, and the new values of their columns.
fn values_over(
    spec: &TableSpec,
    owner: &str,
    keys: Vec<String>,
    sets: Vec<(u16, Expr)>,
    from: Vec<TableWithJoins>,
    filter: Option<Expr>,
) -> Statement {
    let quoted = |name: &str| Ident::with_quote('"', name);
    let keys = keys.iter().zip(0_u32..).map(|(key, number)| SelectItem::ExprWithAlias {
        expr: Expr::CompoundIdentifier(vec![quoted(owner), quoted(key)]),
        alias: quoted(&format!("key{number}")),
    });
    let values = sets.into_iter().map(|(place, expr)| {
        let kind = spec.column(place).map(|column| column.kind.to_string()).unwrap_or_default();
        let is_parameter = matches!(&expr, Expr::Value(value)
            if matches!(value.value, datafusion::sql::sqlparser::ast::Value::Placeholder(_)));
        // A parameter alone has the type of what it is assigned to.
        let expr = if is_parameter { parameters::cast_to(&expr, &kind) } else { expr };
        SelectItem::ExprWithAlias { expr, alias: quoted(&format!("set{place}")) }
    });
    let mut items: Vec<SelectItem> = keys.chain(values).collect();
    if items.is_empty() {
        let null = datafusion::sql::sqlparser::ast::Value::Null;
        items.push(SelectItem::UnnamedExpr(Expr::Value(null.into())));
    }
    let name = ObjectName(vec![ObjectNamePart::Identifier(quoted(owner))]);
    let mut statement = selection(items, &name, None);
    if let Some(select) = select_of(&mut statement) {
        select.from = from;
        select.selection = filter;
    }
    statement
}

/// The unique constraint on exactly these columns: 0 the primary key, `i` index `i - 1`.
fn constraint_on(spec: &TableSpec, columns: &[u16]) -> Result<u8, SqlError> {
    let mut wanted = columns.to_vec();
    wanted.sort_unstable();
    let is_on = |own: &[u16]| {
        let mut own = own.to_vec();
        own.sort_unstable();
        own == wanted
    };
    if !spec.primary_key.is_empty() && is_on(&spec.primary_key) {
        return Ok(0);
    }
    let found =
        (1_u8..).zip(&spec.indexes).find(|(_, index)| index.is_unique && is_on(&index.columns));
    found.map(|(number, _)| number).ok_or_else(|| {
        let message =
            "there is no unique or exclusion constraint matching the ON CONFLICT specification";
        SqlError::new("42P10", code::SQL_SYNTAX, message)
    })
}

fn constraint_named(def: &TableDef, spec: &TableSpec, name: &str) -> Result<u8, SqlError> {
    if !spec.primary_key.is_empty() && spec.primary_key_name == name {
        return Ok(0);
    }
    let found =
        (1_u8..).zip(&spec.indexes).find(|(_, index)| index.is_unique && index.name == name);
    found.map(|(number, _)| number).ok_or_else(|| {
        let message =
            format!("constraint \"{name}\" for table \"{}\" does not exist", def.body.name());
        SqlError::new("42704", code::SQL_SYNTAX, message)
    })
}

/// What a plan of an UPDATE or DELETE becomes.
#[derive(Debug)]
pub(crate) enum Change {
    /// It compiles.
    Op(Op),
    /// It is to be run: its rows are keys, then the new values of `sets`.
    Run { plan: LogicalPlan, sets: Vec<u16> },
}

/// Replaces parameters by values, and gives every operation the types that it works on.
pub(crate) fn coerced(
    state: &SessionState,
    plan: LogicalPlan,
    values: Vec<ScalarValue>,
) -> datafusion::common::Result<LogicalPlan> {
    let plan = crate::engine::with_values(plan, values)?;
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

/// Folds what is constant in an expression.
pub(crate) fn folded(
    state: &SessionState,
    expr: &Plan,
    schema: &Arc<DFSchema>,
) -> datafusion::common::Result<Plan> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_config_options(Arc::clone(state.config_options()));
    let context = match state.config().get_extension::<lasting::Lasting>() {
        None => context.with_current_time(),
        Some(_) => context,
    };
    ExprSimplifier::new(context.build()).simplify(expr.clone())
}

/// The rows that a plan reads, and what they fulfil: a scan of one table, filtered or not.
fn selected(plan: &LogicalPlan) -> Option<(&LogicalPlan, Option<&Plan>)> {
    let (scan, filter) = match plan {
        LogicalPlan::Filter(filter) => (filter.input.as_ref(), Some(&filter.predicate)),
        other => (other, None),
    };
    let is_scan = match scan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => matches!(*alias.input, LogicalPlan::TableScan(_)),
        _ => false,
    };
    is_scan.then_some((scan, filter))
}

/// Compiles an UPDATE's plan, or says how it is run.
pub(crate) fn update(
    state: &SessionState,
    plan: &LogicalPlan,
    spec: &TableSpec,
    owner: &str,
) -> Result<Change, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "");
    let LogicalPlan::Projection(projection) = plan else {
        return Err(SqlError::unsupported("this form of UPDATE"));
    };
    let count = spec.schema.columns().len();
    let mut changed: Vec<(u16, &Plan)> = Vec::new();
    for (place, expr) in (0_u16..).zip(projection.expr.iter().take(count)) {
        let name = spec.column(place).map_or("", |column| column.name.as_str());
        if !is_same_column(expr, owner, name) {
            changed.push((place, expr));
        }
    }
    if let Some((scan, filter)) = selected(&projection.input)
        && let Some(rows) = selection_of(state, scan, filter, spec).map_err(failed)?
    {
        let mut sets = Vec::with_capacity(changed.len());
        let made = Cell::new(0);
        for (place, expr) in &changed {
            let expr = folded(state, expr, scan.schema()).map_err(failed)?;
            let Some(expr) = compile::open(&expr, scan.schema(), &made) else { continue };
            sets.push((*place, as_column(spec, *place, expr)?));
        }
        if sets.len() == changed.len() {
            return Ok(Change::Op(Op::Update { rows, sets }));
        }
    }
    let sets: Vec<u16> = changed.iter().map(|(place, _)| *place).collect();
    let keys = key_columns(spec)?;
    let values = changed.iter().zip(0..).map(|((_, expr), number): (_, u32)| {
        (*expr).clone().unalias().alias(format!("set{number}"))
    });
    let exprs = keys
        .iter()
        .filter_map(|name| projection.expr.iter().find(|expr| is_same_column(expr, owner, name)))
        .zip(0_u32..)
        .map(|(expr, number)| expr.clone().unalias().alias(format!("key{number}")))
        .chain(values);
    let plan = LogicalPlanBuilder::from(LogicalPlan::clone(&projection.input))
        .project(exprs.collect::<Vec<_>>())
        .and_then(LogicalPlanBuilder::build)
        .map_err(failed)?;
    if plan.schema().fields().len() != keys.len().saturating_add(sets.len()) {
        let what = "changing the primary key by what must be run here";
        return Err(SqlError::unsupported(what).hint("write constants, or delete and insert"));
    }
    Ok(Change::Run { plan, sets })
}

/// Compiles a DELETE's plan, or says how it is run.
pub(crate) fn delete(
    state: &SessionState,
    plan: &LogicalPlan,
    spec: &TableSpec,
) -> Result<Change, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "");
    if let Some((scan, filter)) = selected(plan)
        && let Some(rows) = selection_of(state, scan, filter, spec).map_err(failed)?
    {
        return Ok(Change::Op(Op::Delete { rows }));
    }
    let keys = key_columns(spec)?;
    let exprs: Vec<Plan> = plan
        .schema()
        .columns()
        .into_iter()
        .filter(|column| keys.contains(&column.name))
        .map(Plan::Column)
        .collect();
    let plan = LogicalPlanBuilder::from(plan.clone())
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(failed)?;
    Ok(Change::Run { plan, sets: Vec::new() })
}

/// Names of the columns of a row's key.
fn key_columns(spec: &TableSpec) -> Result<Vec<String>, SqlError> {
    if spec.primary_key.is_empty() {
        return Ok(vec![ROW_NUMBER.to_owned()]);
    }
    let mut columns = spec.primary_key.clone();
    columns.sort_unstable();
    if columns != spec.primary_key {
        let what = "this on a table whose key's columns are in another order than the table's";
        return Err(SqlError::unsupported(what));
    }
    Ok(columns.iter().filter_map(|column| spec.column(*column)).map(|c| c.name.clone()).collect())
}

/// Whether an expression is the column `name` of `owner`.
fn is_same_column(expr: &Plan, owner: &str, name: &str) -> bool {
    match expr {
        Plan::Alias(alias) => is_same_column(&alias.expr, owner, name),
        Plan::Column(column) => {
            let relation = column.relation.as_ref();
            column.name == name && relation.is_none_or(|relation| relation.table() == owner)
        }
        _ => false,
    }
}

/// The rows of a scan that fulfil a filter, where that compiles.
fn selection_of(
    state: &SessionState,
    scan: &LogicalPlan,
    filter: Option<&Plan>,
    spec: &TableSpec,
) -> datafusion::common::Result<Option<Selection>> {
    let Some(filter) = filter else {
        return Ok(Some(Selection { access: Access::All, filter: None }));
    };
    let filter = folded(state, filter, scan.schema())?;
    if let Plan::Literal(value, _) = &filter
        && *value != ScalarValue::Boolean(Some(true))
    {
        return Ok(Some(Selection { access: Access::Keys(Vec::new()), filter: None }));
    }
    let Some(compiled) = compile::open(&filter, scan.schema(), &Cell::new(0)) else {
        return Ok(None);
    };
    Ok(Some(Selection { access: access_of(&filter, spec), filter: Some(compiled) }))
}

/// Where the rows that fulfil a filter can be found.
fn access_of(filter: &Plan, spec: &TableSpec) -> Access {
    if let Some(keys) = listed_keys(filter, spec) {
        return Access::Keys(keys);
    }
    match tables::way(std::slice::from_ref(filter), spec, known) {
        Way::All => Access::All,
        Way::Key(values) => Access::Keys(vec![values]),
        Way::Index(index, values) => Access::Index { index, values },
    }
}

/// What a column of a key must be, as far as it is known before a row is looked at.
fn known(expr: &Plan, kind: ColumnType) -> Option<Compiled> {
    if let Some((number, data_type)) = compile::placeholder(expr) {
        let parameter = Compiled::Parameter(number);
        return match (compile::kind_of(data_type)?, kind) {
            (ColumnType::Text, ColumnType::Uuid) => Some(Compiled::Cast(Box::new(parameter), kind)),
            (from, to) => {
                (from == to || (from.is_integer() && to.is_integer())).then_some(parameter)
            }
        };
    }
    Some(Compiled::Const(kind, tables::literal(expr, kind)?))
}

/// The keys of `key IN (…)`, where the key is one column.
fn listed_keys(filter: &Plan, spec: &TableSpec) -> Option<Vec<Vec<Compiled>>> {
    let [key] = spec.primary_key.as_slice() else { return None };
    match filter {
        Plan::BinaryExpr(binary) if binary.op == Operator::And => {
            listed_keys(&binary.left, spec).or_else(|| listed_keys(&binary.right, spec))
        }
        Plan::InList(list) if !list.negated && list.list.len() <= ROW_COUNT_MAX => {
            let values = list.list.iter().map(|member| {
                let (_, value) = tables::fixed_by(&list.expr, member, spec, known)
                    .filter(|(column, _)| column == key)?;
                Some(vec![value])
            });
            values.collect()
        }
        _ => None,
    }
}

/// What an INSERT does where a row is there.
pub(crate) fn conflict(
    state: &SessionState,
    spec: &TableSpec,
    rival: &OnRival,
    values: &[ScalarValue],
) -> Result<Conflict, SqlError> {
    let (target, places, plan) = match rival {
        OnRival::Fail => return Ok(Conflict::Fail),
        OnRival::Nothing(target) => return Ok(Conflict::Nothing { target: *target }),
        OnRival::Update(target, places, plan) => (*target, places, plan),
    };
    let failed = |error| SqlError::from_datafusion(&error, "");
    let uncompiled = || {
        SqlError::unsupported("this expression in ON CONFLICT DO UPDATE")
            .hint("it may use columns, excluded, constants, operators and simple functions")
    };
    let plan = coerced(state, LogicalPlan::clone(plan), values.to_vec()).map_err(failed)?;
    let LogicalPlan::Projection(projection) = &plan else { return Err(uncompiled()) };
    let (joined, filter) = match projection.input.as_ref() {
        LogicalPlan::Filter(filter) => (filter.input.as_ref(), Some(&filter.predicate)),
        other => (other, None),
    };
    let made = Cell::new(0);
    let compiled = |expr: &Plan| {
        let expr = folded(state, expr, joined.schema()).map_err(failed)?;
        compile::open(&expr, joined.schema(), &made).ok_or_else(uncompiled)
    };
    let sets = places.iter().zip(&projection.expr);
    let sets = sets.map(|(place, expr)| Ok((*place, as_column(spec, *place, compiled(expr)?)?)));
    let sets = sets.collect::<Result<_, SqlError>>()?;
    let filter = filter.map(compiled).transpose()?;
    Ok(Conflict::Update { target, sets, filter })
}

/// The rows of a source as constants; `columns` says which columns of the table they are for.
pub(crate) fn constants(
    spec: &TableSpec,
    columns: &[u16],
    batch: &RecordBatch,
    rows: &mut Vec<Vec<Compiled>>,
) -> Result<(), SqlError> {
    if rows.len().saturating_add(batch.num_rows()) > ROW_COUNT_MAX {
        let message = format!("a statement writes at most {ROW_COUNT_MAX} rows");
        return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("write them in parts"));
    }
    let own: Vec<&quipu_types::Column> =
        columns.iter().filter_map(|column| spec.column(*column)).collect();
    for values in insert::values(&own, batch)? {
        let kinds = own.iter().map(|column| column.kind);
        rows.push(kinds.zip(values).map(|(kind, value)| Compiled::Const(kind, value)).collect());
    }
    Ok(())
}

/// The operations that rows of a plan that was run stand for: new values of columns, or without `sets` that they go.
pub(crate) fn ops(
    spec: &TableSpec,
    key_count: usize,
    sets: Option<&[u16]>,
    defaults: &[(u16, Compiled)],
    rows: Vec<Vec<Compiled>>,
) -> Vec<Op> {
    let selection = |keys| Selection { access: Access::Keys(keys), filter: None };
    let Some(sets) = sets else {
        return vec![Op::Delete { rows: selection(rows) }];
    };
    debug_assert!(key_count > 0 && key_count <= spec.key_kinds().len(), "a row has a key");
    let mut by_key: BTreeMap<Vec<u8>, Op> = BTreeMap::new();
    for mut row in rows {
        let values = row.split_off(key_count.min(row.len()));
        let mut place = Vec::new();
        for expr in &row {
            quipu_types::Encode::encode(expr, &mut place);
        }
        // Of several rows that would change one, the first does, as in PostgreSQL one of them does.
        by_key.entry(place).or_insert_with(|| Op::Update {
            rows: selection(vec![row]),
            sets: sets.iter().copied().zip(values).chain(defaults.iter().cloned()).collect(),
        });
    }
    by_key.into_values().collect()
}

/// A program of a table, whose parameters are in `op` by now.
pub(crate) fn program(dml: &Dml, op: Op) -> Program {
    program_with(dml, op, Vec::new())
}

/// A program of a table and its parameters.
pub(crate) fn program_with(dml: &Dml, op: Op, parameters: Vec<(ColumnType, Value)>) -> Program {
    Program {
        text: dml.text.clone(),
        table: table_ref(&dml.target),
        row_count: None,
        rows_hash: None,
        returns: false,
        parameters,
        op,
    }
}

/// A table at its version.
pub(crate) fn table_ref(def: &TableDef) -> TableRef {
    TableRef { id: def.id, version: def.version }
}
