//! Column names as PostgreSQL gives them: `count(*)` is `count`, `round(x, 2)` is `round`, `1 + 1` is
//! `?column?`.
//!
//! Two uses: [`alias`] names what a query selects, so that `ORDER BY count` finds it, as far as a name is not
//! given twice; [`output`] names the columns that a client sees, twice or not.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, Query, Select, SelectItem,
    SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, TrimWhereField, Value,
    VisitMut, VisitorMut,
};

use crate::{insert, past};

/// Table functions of one column.
const SERIES: [&str; 2] = ["generate_series", "range"];
/// What PostgreSQL calls a column without a name.
const NO_NAME: &str = "?column?";
/// Casts, parentheses and cases within each other, beyond which an expression has no name.
const DEPTH_MAX: u32 = 32;

/// Names what every `SELECT` of the statement selects.
pub(crate) fn alias(statement: &mut Statement) {
    let _never_breaks = VisitMut::visit(statement, &mut Aliases);
}

struct Aliases;

impl VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        alias_body(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(arguments), .. } = factor
            && name.to_string().eq_ignore_ascii_case(past::NAME)
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(table))) =
                arguments.args.first_mut()
            && let Expr::Identifier(ident) = &*table
        {
            // The table may be named as tables are.
            let name = insert::folded(ident);
            *table = Expr::Value(Value::SingleQuotedString(name).into());
        }
        // The one column of a function is called as the function is.
        if let TableFactor::Table { name, args: Some(_), alias, .. } = factor
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
            && let Some(own) = name.0.last().and_then(|part| part.as_ident())
            && SERIES.iter().any(|known| own.value.eq_ignore_ascii_case(known))
        {
            let called = alias.as_ref().map_or(own, |alias| &alias.name).clone();
            let column = TableAliasColumnDef { name: called.clone(), data_type: None };
            *alias =
                Some(TableAlias { explicit: true, name: called, columns: vec![column], at: None });
        }
        ControlFlow::Continue(())
    }
}

fn alias_body(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => alias_select(select),
        SetExpr::SetOperation { left, .. } => alias_body(left),
        _ => {}
    }
}

fn alias_select(select: &mut Select) {
    let mut taken: BTreeSet<String> = select
        .projection
        .iter()
        .filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
            SelectItem::UnnamedExpr(expr) if is_column(expr) => Some(name_of(expr).0),
            _ => None,
        })
        .collect();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let (name, _) = name_of(expr);
        let is_first = taken.insert(name.clone());
        if is_column(expr) || name == NO_NAME && is_first {
            continue;
        }
        // A plan has no two columns of one name; the client sees what `output` says.
        let name = if is_first { name } else { format!("{name} {place}") };
        let alias = Ident::with_quote('"', name);
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// The names of the `count` columns that a query answers with; none where its text does not say one.
pub(crate) fn output(statement: &Statement, count: usize) -> Vec<Option<String>> {
    let mut names = vec![None; count];
    let Statement::Query(query) = statement else { return names };
    let Some(select) = first_select(&query.body) else { return names };
    let items = &select.projection;
    // A wildcard stands for as many columns as are left over; with two of them, who knows.
    let before = items.iter().take_while(|item| !is_wildcard(item)).count();
    let after = items.iter().rev().take_while(|item| !is_wildcard(item)).count();
    for (name, item) in names.iter_mut().zip(items.iter().take(before)) {
        *name = item_name(item);
    }
    if before < items.len() {
        for (name, item) in names.iter_mut().rev().zip(items.iter().rev().take(after)) {
            *name = item_name(item);
        }
    }
    names
}

fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(expr) => Some(name_of(expr).0),
        _ => None,
    }
}

fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// What PostgreSQL calls a column that has no alias.
pub(crate) fn of(expr: &Expr) -> String {
    name_of(expr).0
}

/// A column's name, and whether the expression itself says it (a cast's type only helps out).
fn name_of(expr: &Expr) -> (String, bool) {
    name_within(expr, DEPTH_MAX)
}

fn name_within(expr: &Expr, depth: u32) -> (String, bool) {
    let Some(depth) = depth.checked_sub(1) else { return (NO_NAME.to_owned(), false) };
    let name_of = |expr: &Expr| name_within(expr, depth);
    let said = |name: &str| (name.to_owned(), true);
    match expr {
        Expr::Identifier(ident) => (fold(ident), true),
        Expr::CompoundIdentifier(parts) => match parts.last() {
            Some(ident) => (fold(ident), true),
            None => (NO_NAME.to_owned(), false),
        },
        Expr::Function(function) => {
            let last = function.name.0.last().and_then(|part| part.as_ident());
            last.map_or((NO_NAME.to_owned(), false), |ident| (fold(ident), true))
        }
        Expr::Cast { expr, data_type, .. } => match name_of(expr) {
            (name, true) => (name, true),
            _ => (type_name(data_type), false),
        },
        Expr::TypedString(typed) => (type_name(&typed.data_type), false),
        Expr::Case { else_result, .. } => match else_result.as_deref().map(name_of) {
            Some((name, true)) => (name, true),
            _ => ("case".to_owned(), false),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name_of(inner),
        Expr::Subquery(query) => first_select(&query.body)
            .and_then(|select| select.projection.first())
            .and_then(item_name)
            .map_or((NO_NAME.to_owned(), false), |name| (name, true)),
        // A field's name, or that of what is subscripted.
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(field))) => (fold(field), true),
            _ => name_of(root),
        },
        Expr::Exists { .. } => said("exists"),
        Expr::Array(_) => said("array"),
        Expr::Extract { .. } => said("extract"),
        Expr::Position { .. } => said("position"),
        Expr::Substring { .. } => said("substring"),
        Expr::Overlay { .. } => said("overlay"),
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(TrimWhereField::Leading) => said("ltrim"),
            Some(TrimWhereField::Trailing) => said("rtrim"),
            _ => said("btrim"),
        },
        Expr::Ceil { .. } => said("ceil"),
        Expr::Floor { .. } => said("floor"),
        Expr::AtTimeZone { .. } => said("timezone"),
        Expr::Interval(_) => ("interval".to_owned(), false),
        _ => (NO_NAME.to_owned(), false),
    }
}

fn type_name(data_type: &DataType) -> String {
    let text = data_type.to_string().to_lowercase();
    let base = text.split('(').next().unwrap_or(&text).trim();
    match base {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "boolean" => "bool",
        "decimal" | "dec" => "numeric",
        "double precision" | "double" | "float" => "float8",
        "real" => "float4",
        "character varying" => "varchar",
        "char" | "character" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    #[test]
    fn columns_are_named_as_postgresql_names_them() {
        for (sql, wanted) in [
            (
                "select count(*), Round(avg(x), 2), 1 + 1, 'a', a, t.b, \"C\" from t",
                "count round ?column? ?column? a b C",
            ),
            (
                "select 1::bigint, x::text, '1'::numeric(4,2), date '2020-01-01'",
                "int8 x numeric date",
            ),
            (
                "select case when a then 1 end, case when a then 1 else b end, (a), (select max(z) from t)",
                "case b a max",
            ),
            (
                "select pg_catalog.version(), exists(select 1), array[1], extract(year from d), trim(a)",
                "version exists array extract btrim",
            ),
            ("select count(*) as N, sum(x) over () union select 1, 2", "n sum"),
        ] {
            let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
            let count = wanted.split(' ').count();
            let names: Vec<String> = output(&statement, count).into_iter().flatten().collect();
            assert_eq!(names.join(" "), wanted, "{sql}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_the_columns_that_are_left_over() {
        let sql = "select count(*), t.*, max(a) from t";
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        let wanted = [Some("count".to_owned()), None, None, Some("max".to_owned())];
        assert_eq!(output(&statement, 4), wanted);
    }

    #[test]
    fn only_the_first_of_two_equal_names_becomes_an_alias() {
        let sql = "select count(*), count(a), a from t";
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        alias(&mut statement);
        assert_eq!(
            statement.to_string(),
            "SELECT count(*) AS \"count\", count(a) AS \"count 1\", a FROM t"
        );
    }
}
