//! Views: a query that plans, and its text. Which relations a view reads is found by reading its text.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion::sql::sqlparser::ast::{CreateTableOptions, CreateView, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use futures::executor::block_on;
use quipu_types::table::{Body, TableDef, VIEW_SIZE_MAX};
use quipu_types::{Define, code};

use super::name::{self, Relation, folded};
use super::table::twice;
use super::types::pg_name;
use super::{Defined, Scope, expr};
use crate::compile;
use crate::error::SqlError;
use crate::names;

/// `CREATE VIEW`.
pub(super) fn create(create: &CreateView, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    refuse_clauses(create)?;
    let name = name::relation(&create.name)?;
    let old = match scope.relation(&name)? {
        None => None,
        Some(Relation::View(def)) if create.or_replace => Some(def),
        Some(other) if create.or_replace => return Err(name::wrong_type(&name, "view", &other)),
        Some(_) => return Err(name::exists(&name)),
    };
    name::valid_relation(&name)?;
    let written = Statement::Query(create.query.clone());
    let mut query = written.clone();
    names::alias(&mut query);
    let plan = planned(&query, scope)?;
    let columns = columns_of(create, &written, &plan)?;
    if let Some(old) = &old {
        refuse_recursion(&name, &query, scope)?;
        refuse_change(old, &columns, &plan, scope)?;
    }
    let text = if is_named(&plan, &columns) {
        query.to_string()
    } else {
        let list: Vec<String> =
            columns.iter().map(|column| expr::quoted(column).to_string()).collect();
        format!("SELECT * FROM ({query}) AS {} ({})", expr::object(&name), list.join(", "))
    };
    // Whoever reads the view plans its text.
    let kept = block_on(scope.state.create_logical_plan(&text)).ok();
    if !kept.is_some_and(|plan| is_named(&plan, &columns)) {
        return Err(SqlError::unsupported("this query in a view"));
    }
    if text.len() > VIEW_SIZE_MAX {
        let message = format!("a view's query has at most {VIEW_SIZE_MAX} bytes");
        return Err(SqlError::new("54000", code::SQL_LIMIT, message));
    }
    let define = Define::CreateView { name, text, replaces: create.or_replace };
    Ok(Defined::new("CREATE VIEW", vec![define]))
}

fn refuse_clauses(create: &CreateView) -> Result<(), SqlError> {
    let refused = [
        (create.materialized, "CREATE MATERIALIZED VIEW"),
        (create.temporary, "a temporary view"),
        (create.if_not_exists, "CREATE VIEW IF NOT EXISTS"),
        (create.options != CreateTableOptions::None, "CREATE VIEW … WITH"),
        (!create.query.locks.is_empty(), "SELECT … FOR UPDATE in a view"),
        (
            create.or_alter
                || create.secure
                || create.with_no_schema_binding
                || create.copy_grants
                || !create.cluster_by.is_empty()
                || create.comment.is_some()
                || create.to.is_some()
                || create.params.is_some()
                || create.columns.iter().any(|c| c.data_type.is_some() || c.options.is_some()),
            "an option of CREATE VIEW",
        ),
    ];
    match refused.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}

/// The plan of a query: what reads, and has no parameters.
fn planned(query: &Statement, scope: &Scope<'_>) -> Result<LogicalPlan, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "");
    let statement = PlanStatement::Statement(Box::new(query.clone()));
    let plan = block_on(scope.state.statement_to_plan(statement)).map_err(failed)?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(failed)?;
    let parameters: BTreeSet<String> =
        plan.get_parameter_names().map_err(failed)?.into_iter().collect();
    match parameters.first() {
        Some(parameter) => {
            let message = format!("there is no parameter {parameter}");
            Err(SqlError::new("42P02", code::SQL_SYNTAX, message))
        }
        None => Ok(plan),
    }
}

fn is_named(plan: &LogicalPlan, columns: &[String]) -> bool {
    plan.schema().fields().iter().map(|field| field.name()).eq(columns)
}

/// The view's columns: as they are listed, else as PostgreSQL calls what is selected.
fn columns_of(
    create: &CreateView,
    written: &Statement,
    plan: &LogicalPlan,
) -> Result<Vec<String>, SqlError> {
    let fields = plan.schema().fields();
    if create.columns.len() > fields.len() {
        let message = "CREATE VIEW specifies more column names than columns";
        return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
    }
    let mut listed = create.columns.iter().map(|column| folded(&column.name));
    let columns: Vec<String> = fields
        .iter()
        .zip(names::output(written, fields.len()))
        .map(|(field, said)| listed.next().or(said).unwrap_or_else(|| field.name().clone()))
        .collect();
    match twice(&columns) {
        Some(column) => {
            let message = format!("column \"{column}\" specified more than once");
            Err(SqlError::new("42701", code::SQL_SYNTAX, message))
        }
        None => Ok(columns),
    }
}

/// Refuses a view that would read itself, by way of others.
fn refuse_recursion(name: &str, query: &Statement, scope: &Scope<'_>) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<String> = uses(query, scope).into_iter().collect();
    while let Some(next) = open.pop() {
        if next == name {
            let message = format!("infinite recursion detected in rules for relation \"{name}\"");
            return Err(SqlError::new("42P17", code::BAD_DEFINITION, message));
        }
        if !seen.insert(next.clone()) {
            continue;
        }
        if let Some(Relation::View(def)) = scope.relation(&next)? {
            open.extend(uses_of(&def, scope));
        }
    }
    Ok(())
}

/// A view that is replaced keeps its columns, and may get more behind them.
fn refuse_change(
    old: &TableDef,
    columns: &[String],
    plan: &LogicalPlan,
    scope: &Scope<'_>,
) -> Result<(), SqlError> {
    // An old view that does not plan any more has no columns to be kept.
    let Some(old) = query_of(old).and_then(|query| planned(&query, scope).ok()) else {
        return Ok(());
    };
    let wrong = |message: String| Err(SqlError::new("42P16", code::BAD_DEFINITION, message));
    let fields = old.schema().fields();
    if fields.len() > columns.len() {
        return wrong("cannot drop columns from view".into());
    }
    for ((old, name), new) in fields.iter().zip(columns).zip(plan.schema().fields()) {
        let was = old.name();
        if was != name {
            return wrong(format!("cannot change name of view column \"{was}\" to \"{name}\""));
        }
        if old.data_type() != new.data_type() {
            return wrong(format!(
                "cannot change data type of view column \"{was}\" from {} to {}",
                type_name(old.data_type()),
                type_name(new.data_type())
            ));
        }
    }
    Ok(())
}

fn type_name(data_type: &DataType) -> String {
    compile::kind_of(data_type).map_or_else(|| data_type.to_string().to_lowercase(), pg_name)
}

/// The query of a view.
fn query_of(def: &TableDef) -> Option<Statement> {
    let Body::View { text, .. } = &def.body else { return None };
    Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?.pop()
}

/// Names of the relations in public that a query reads.
fn uses(query: &Statement, scope: &Scope<'_>) -> BTreeSet<String> {
    let statement = PlanStatement::Statement(Box::new(query.clone()));
    let found = scope.state.resolve_table_references(&statement).unwrap_or_default();
    let in_public = found.iter().filter(|found| found.schema().is_none_or(|name| name == "public"));
    in_public.map(|found| found.table().to_owned()).collect()
}

fn uses_of(def: &TableDef, scope: &Scope<'_>) -> BTreeSet<String> {
    query_of(def).map(|query| uses(&query, scope)).unwrap_or_default()
}

/// Names of the views that read a relation.
pub(super) fn dependents(name: &str, scope: &Scope<'_>) -> Result<Vec<String>, SqlError> {
    let views = scope.all()?.into_iter().filter(|def| def.table().is_none());
    let reading = views.filter(|def| uses_of(def, scope).contains(name));
    Ok(reading.map(|def| def.body.name().to_owned()).collect())
}
