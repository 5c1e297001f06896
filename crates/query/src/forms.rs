//! What PostgreSQL can write in several ways, in the one that is planned.
//!
//! | written | planned |
//! |---|---|
//! | `x = ANY (SELECT …)`, `x <> ALL (SELECT …)` | `x IN (SELECT …)`, `x NOT IN (SELECT …)` |
//! | `(x, y) IN (SELECT a, b …)` | `(SELECT CASE WHEN bool_or(…) … FROM (SELECT a, b …))`, true, false or null |
//! | `WITH w AS (SELECT …) UPDATE … FROM w` | `UPDATE … FROM (SELECT …) w` |
//! | `CAST(x AS char(3))`, `mod(x, y)`, `LIKE … ESCAPE ''` | a function, an operator, a pattern without escapes |
//! | `FETCH FIRST n ROWS ONLY` | `LIMIT n` |

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, CharacterLength, DataType, Expr, FunctionArguments, LimitClause,
    Query, SetExpr, Statement, TableAlias, TableFactor, UnaryOperator, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::insert;
use crate::length;

/// `WITH … UPDATE` and the like as the write alone, which has the queries where it names them.
pub(crate) fn unwrap_write(statement: Statement) -> Statement {
    let Statement::Query(mut query) = statement else { return statement };
    let is_plain = query.order_by.is_none() && query.limit_clause.is_none();
    let with = query.with.take_if(|with| !with.recursive && is_plain);
    let (write, tables) = match (*query.body, with) {
        (SetExpr::Insert(write) | SetExpr::Update(write) | SetExpr::Delete(write), Some(with)) => {
            (write, with.cte_tables)
        }
        (body, with) => {
            query.body = Box::new(body);
            query.with = with.or(query.with);
            return Statement::Query(query);
        }
    };
    let mut known = Known { queries: Vec::new() };
    for mut table in tables {
        let _never_breaks = VisitMut::visit(&mut table.query, &mut known);
        known.queries.push((table.alias, table.query));
    }
    let mut write = write;
    let target = match &mut write {
        Statement::Update(update) => Some(update.table.relation.clone()),
        _ => None,
    };
    let _never_breaks = VisitMut::visit(&mut write, &mut known);
    if let (Statement::Update(update), Some(target)) = (&mut write, target) {
        update.table.relation = target;
    }
    write
}

/// Queries that have names.
struct Known {
    queries: Vec<(TableAlias, Box<Query>)>,
}

impl VisitorMut for Known {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let [part] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let known = self.queries.iter().rev().find(|(own, _)| {
            insert::word(part).is_some_and(|name| name == insert::folded(&own.name))
        });
        if let Some((own, query)) = known {
            let mut named = own.clone();
            if let Some(alias) = alias {
                named.name = alias.name.clone();
            }
            *factor = TableFactor::Derived {
                lateral: false,
                subquery: query.clone(),
                alias: Some(named),
                sample: None,
            };
        }
        ControlFlow::Continue(())
    }
}

/// Writes a statement in the forms that are planned.
pub(crate) fn unify(statement: &mut Statement) {
    let _never_breaks = VisitMut::visit(statement, &mut Forms);
}

/// Writes what `names` has named already: casts with a length, and functions that are operators.
pub(crate) fn call(statement: &mut Statement) {
    if matches!(
        statement,
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
    ) {
        let _never_breaks = VisitMut::visit(statement, &mut Calls);
    }
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(text) = sized(expr).or_else(|| operation(expr)).or_else(|| unescaped(expr))
            && let Ok(mut parser) = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text)
            && let Ok(other) = parser.parse_expr()
        {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

/// A cast to a text of some length.
fn sized(expr: &Expr) -> Option<String> {
    let Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } = expr
    else {
        return None;
    };
    let (name, length) = match data_type {
        DataType::Varchar(length)
        | DataType::CharVarying(length)
        | DataType::CharacterVarying(length) => (length::VARCHAR, (*length)?),
        DataType::Char(length) | DataType::Character(length) => {
            let one = CharacterLength::IntegerLength { length: 1, unit: None };
            (length::BPCHAR, length.unwrap_or(one))
        }
        _ => return None,
    };
    let CharacterLength::IntegerLength { length, .. } = length else { return None };
    Some(format!("{name}(CAST({expr} AS TEXT), {length})"))
}

/// `mod(a, b)` and `div(a, b)`.
fn operation(expr: &Expr) -> Option<String> {
    let Expr::Function(function) = expr else { return None };
    let [name] = function.name.0.as_slice() else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [left, right] = list.args.as_slice() else { return None };
    match insert::word(name)?.as_str() {
        "mod" => Some(format!("(({left}) % ({right}))")),
        "div" => {
            let quotient = format!("trunc(CAST({left} AS NUMERIC) / ({right}))");
            Some(format!("CAST({quotient} AS NUMERIC(38, 0))"))
        }
        _ => None,
    }
}

/// LIKE without an escape character.
fn unescaped(expr: &Expr) -> Option<String> {
    let mut expr = expr.clone();
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) =
        &mut expr
    else {
        return None;
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) =
        pattern.as_mut()
    else {
        return None;
    };
    escape_char.take_if(
        |escape| matches!(&escape.value, Value::SingleQuotedString(text) if text.is_empty()),
    )?;
    *text = text.replace('\\', "\\\\");
    Some(expr.to_string())
}

struct Forms;

impl VisitorMut for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(other) = membership(expr).or_else(|| row_membership(expr)) {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else {
        return;
    };
    let one = || Expr::Value(Value::Number("1".into(), false).into());
    let quantity = Some(fetch.quantity.unwrap_or_else(one));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = quantity,
        clause => {
            *clause = Some(LimitClause::LimitOffset {
                limit: quantity,
                offset: None,
                limit_by: Vec::new(),
            });
        }
    }
}

fn membership(expr: &Expr) -> Option<Expr> {
    let (left, right, negated) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return None,
    };
    let Expr::Subquery(subquery) = right.as_ref() else { return None };
    Some(Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated })
}

fn row_membership(expr: &Expr) -> Option<Expr> {
    let Expr::InSubquery { expr, subquery, negated } = expr else { return None };
    let Expr::Tuple(values) = expr.as_ref() else { return None };
    let names: Vec<String> =
        (0..values.len()).map(|number| format!("\"__value{number}\"")).collect();
    let same = names.iter().zip(values).map(|(name, value)| format!("\"__in\".{name} = ({value})"));
    let same = same.collect::<Vec<_>>().join(" AND ");
    let text = format!(
        "(SELECT CASE WHEN bool_or({same}) THEN true WHEN bool_or(({same}) IS NULL) THEN NULL ELSE false END \
         FROM ({subquery}) AS \"__in\" ({}))",
        names.join(", ")
    );
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text);
    let found = parser.and_then(|mut parser| parser.parse_expr()).ok()?;
    Some(if *negated {
        Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) }
    } else {
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_unified() {
        for (written, planned) in [
            ("SELECT a = ANY (SELECT b FROM t)", "SELECT a IN (SELECT b FROM t)"),
            ("SELECT a <> ALL (SELECT b FROM t)", "SELECT a NOT IN (SELECT b FROM t)"),
            ("SELECT a > ALL (SELECT b FROM t)", "SELECT a > ALL(SELECT b FROM t)"),
            ("SELECT a FETCH FIRST 2 ROWS ONLY", "SELECT a LIMIT 2"),
            ("SELECT a OFFSET 1 ROWS FETCH NEXT ROW ONLY", "SELECT a LIMIT 1 OFFSET 1 ROWS"),
        ] {
            let parsed = Parser::parse_sql(&PostgreSqlDialect {}, written).unwrap();
            let mut statement = parsed.into_iter().next().unwrap();
            unify(&mut statement);
            assert_eq!(statement.to_string(), planned);
        }
    }
}
