//! `CREATE INDEX`.

use datafusion::sql::sqlparser::ast::{
    CreateIndex, Expr as Ast, IndexColumn, IndexType, ObjectName,
};
use quipu_types::table::IndexSpec;
use quipu_types::{TableDef, code};

use super::name::{self, Relation, folded};
use super::table::{Draft, twice};
use super::{Changer, Defined, Scope, notice};
use crate::error::SqlError;

/// Operator classes that order texts bytewise, as every index here does.
const BYTEWISE: [&str; 3] = ["text_pattern_ops", "varchar_pattern_ops", "bpchar_pattern_ops"];

pub(super) fn create(create: &CreateIndex, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    const TAG: &str = "CREATE INDEX";
    refuse_clauses(create)?;
    let name = create.name.as_ref().map(index_name).transpose()?;
    if let Some(name) = &name {
        if scope.relation(name)?.is_some() {
            let error = name::exists(name);
            if create.if_not_exists {
                let message = format!("{}, skipping", error.message);
                return Ok(Defined::nothing(TAG, notice("42P07", &message)));
            }
            return Err(error);
        }
        name::valid(name)?;
    }
    let table = name::relation(&create.table_name)?;
    if let Some(relation @ (Relation::View(_) | Relation::Stream)) = scope.relation(&table)? {
        let message = format!("cannot create index on relation \"{table}\"");
        let mut error = SqlError::new("42809", code::SQL_SYNTAX, message);
        let kind = relation.kind();
        error.more().detail = Some(format!("This operation is not supported for {kind}s."));
        return Err(error);
    }
    let (def, spec) = scope.table(&create.table_name)?;
    let draft = Draft::of(scope, &def, spec)?;
    let columns = create.columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    add(draft, &def, name.as_deref(), &columns, create.unique)
}

fn add(
    mut draft: Draft<'_>,
    def: &TableDef,
    name: Option<&str>,
    columns: &[String],
    is_unique: bool,
) -> Result<Defined, SqlError> {
    let places = draft.places(columns, |name| format!("column \"{name}\" does not exist"))?;
    if twice(columns).is_some() {
        return Err(SqlError::unsupported("an index with a column twice"));
    }
    draft.check_keyed(&places)?;
    if let Some(name) = name.filter(|name| draft.has_constraint(name)) {
        return Err(name::exists(name));
    }
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let name = draft.named(name, &names, "idx");
    let alter = draft.add_index(IndexSpec { name, columns: places, is_unique })?;
    let define = Changer::new(draft.scope).alter(def, alter);
    Ok(Defined::new("CREATE INDEX", vec![define]))
}

fn refuse_clauses(create: &CreateIndex) -> Result<(), SqlError> {
    if let Some(method) = create.using.as_ref().filter(|method| **method != IndexType::BTree) {
        let error =
            SqlError::unsupported(&format!("access method {}", method.to_string().to_lowercase()));
        return Err(error.hint("indexes are of the method btree"));
    }
    let refused = [
        (create.predicate.is_some(), "a partial index (WHERE)"),
        (!create.include.is_empty(), "INCLUDE"),
        (create.nulls_distinct == Some(false), "NULLS NOT DISTINCT"),
        (!create.index_options.is_empty(), "an option of CREATE INDEX"),
        (!create.alter_options.is_empty(), "an option of CREATE INDEX"),
    ];
    match refused.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}

fn index_name(written: &ObjectName) -> Result<String, SqlError> {
    let ObjectName(parts) = written;
    match parts.as_slice() {
        [part] => Ok(part.as_ident().map(folded).unwrap_or_default()),
        // An index stands in its table's schema.
        _ => Err(SqlError::new("42601", code::SQL_SYNTAX, "the name of an index has no schema")),
    }
}

/// A column of an index; how it is ordered there changes no answer.
fn column(written: &IndexColumn) -> Result<String, SqlError> {
    if let Some(class) = &written.operator_class {
        let known = name::relation(class).is_ok_and(|class| BYTEWISE.contains(&class.as_str()));
        if !known {
            return Err(SqlError::unsupported(&format!("operator class {class}")));
        }
    }
    match &written.column.expr {
        Ast::Identifier(ident) => Ok(folded(ident)),
        other => Err(SqlError::unsupported(&format!("an index on the expression {other}"))
            .hint("add a column for it")),
    }
}
