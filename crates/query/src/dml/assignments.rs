//! What an UPDATE assigns to which columns, DEFAULT and rows of subqueries among it.

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, ObjectName, Query, SelectItem, SetExpr,
};
use quipu_state::Fault;
use quipu_types::program::Expr as Compiled;
use quipu_types::table::{Identity, TableDef, TableSpec};
use quipu_types::{ColumnType, Value, code};

use super::column_number;
use crate::copy::value::from_text;
use crate::error::SqlError;
use crate::fault;
use crate::insert;

/// Assignments to several columns as one for each.
pub(super) fn split(assignments: Vec<Assignment>) -> Result<Vec<Assignment>, SqlError> {
    let mut all = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        match (assignment.target, assignment.value) {
            (target @ AssignmentTarget::ColumnName(_), value) => {
                all.push(Assignment { target, value });
            }
            (AssignmentTarget::Tuple(names), Expr::Tuple(values))
                if names.len() == values.len() =>
            {
                let pairs = names.into_iter().zip(values);
                all.extend(pairs.map(|(name, value)| Assignment {
                    target: AssignmentTarget::ColumnName(name),
                    value,
                }));
            }
            (AssignmentTarget::Tuple(names), Expr::Subquery(query)) => {
                let width = names.len();
                let pairs = names.into_iter().zip(0..).map(|(name, place)| {
                    let value = Expr::Subquery(Box::new(one_item(&query, place, width)?));
                    Ok(Assignment { target: AssignmentTarget::ColumnName(name), value })
                });
                all.extend(pairs.collect::<Result<Vec<_>, SqlError>>()?);
            }
            _ => return Err(SqlError::unsupported("assigning this to several columns")),
        }
    }
    Ok(all)
}

/// A query of several values as one of the value at `place`.
fn one_item(query: &Query, place: usize, width: usize) -> Result<Query, SqlError> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(SqlError::unsupported("assigning a set operation's row to several columns"));
    };
    if width_of(&SetExpr::Select(select.clone())) != Some(width) || select.distinct.is_some() {
        return Err(SqlError::unsupported("assigning this query's row to several columns"));
    }
    let mut number = 0..;
    select.projection.retain(|_| number.next() == Some(place));
    Ok(query)
}

/// The assigned columns, which are there and assigned once.
pub(super) fn assigned(
    assignments: &mut [Assignment],
    def: &TableDef,
    spec: &TableSpec,
) -> Result<Vec<u16>, SqlError> {
    let mut seen = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let AssignmentTarget::ColumnName(ObjectName(parts)) = &assignment.target else { continue };
        let name = parts.first().and_then(insert::word).unwrap_or_default();
        let place = column_number(def, spec, &name)?;
        if parts.len() > 1 {
            return Err(SqlError::unsupported("assigning to a part of a column"));
        }
        if seen.contains(&place) {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
        }
        seen.push(place);
        if spec.column(place).is_some_and(|column| column.kind == ColumnType::Bytea) {
            insert::read_bytea(&mut assignment.value)?;
        }
    }
    Ok(seen)
}

pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

pub(super) fn is_cast(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_cast(inner),
        other => matches!(other, Expr::Cast { .. }),
    }
}

/// What columns are set to by DEFAULT.
pub(super) type Defaults = Vec<(u16, Compiled)>;

/// Takes the assignments of DEFAULT out: the columns that are left, and what the others are set to.
pub(super) fn take_defaults(
    assignments: &mut Vec<Assignment>,
    places: Vec<u16>,
    spec: &TableSpec,
) -> Result<(Vec<u16>, Defaults), SqlError> {
    let (mut left, mut kept, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
    for (assignment, place) in std::mem::take(assignments).into_iter().zip(places) {
        if !is_default(&assignment.value) {
            left.push(place);
            kept.push(assignment);
            continue;
        }
        let (options, column) = (spec.options.get(usize::from(place)), spec.column(place));
        let (Some(options), Some(column)) = (options, column) else { continue };
        if options.identity != Identity::Never {
            let what = "SET … = DEFAULT of a column that is numbered";
            return Err(SqlError::unsupported(what).hint("write the value"));
        }
        let null = || Compiled::Const(column.kind, Value::Null);
        let value = match &options.default {
            // Each is another one, and other than those that are written (`compile`).
            Some(Compiled::Random(_)) => Compiled::Random(!u32::from(place)),
            given => given.clone().unwrap_or_else(null),
        };
        defaults.push((place, value));
    }
    *assignments = kept;
    Ok((left, defaults))
}

/// The columns of a source, as far as it says them.
pub(super) fn width_of(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Select(select) => {
            let is_one = |item: &SelectItem| {
                matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
            };
            select.projection.iter().all(is_one).then_some(select.projection.len())
        }
        SetExpr::Query(query) => width_of(&query.body),
        SetExpr::SetOperation { left, .. } => width_of(left),
        _ => None,
    }
}

/// Refuses values for a column whose values are always the ledger's.
pub(crate) fn check_generated(spec: &TableSpec, columns: &[u16]) -> Result<(), SqlError> {
    let is_always = |column: &&u16| {
        let options = spec.options.get(usize::from(**column));
        options.is_some_and(|options| options.identity == Identity::Always)
    };
    match columns.iter().find(is_always) {
        None => Ok(()),
        Some(column) => {
            Err(fault::of_table(spec, Fault { code: code::GENERATED, detail: *column }))
        }
    }
}

/// A text that is a constant, or a parameter, as the uuid or JSON that it is assigned to.
pub(super) fn as_column(
    spec: &TableSpec,
    place: u16,
    expr: Compiled,
) -> Result<Compiled, SqlError> {
    match (&expr, spec.column(place)) {
        (Compiled::Const(ColumnType::Text, Value::Text(text)), Some(column))
            if matches!(column.kind, ColumnType::Uuid | ColumnType::Jsonb) =>
        {
            Ok(Compiled::Const(column.kind, from_text(column, text.as_bytes())?))
        }
        (Compiled::Parameter(_), Some(column))
            if matches!(column.kind, ColumnType::Uuid | ColumnType::Jsonb) =>
        {
            Ok(Compiled::Cast(Box::new(expr), column.kind))
        }
        _ => Ok(expr),
    }
}
