//! `DROP TABLE`, `DROP VIEW`, `DROP INDEX`, and of what is never there.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{ObjectName, ObjectType};
use quipu_types::program::Alter;
use quipu_types::table::TableDef;
use quipu_types::{Define, TableRef, code};

use super::name::{self, Relation};
use super::view;
use super::{Changer, Defined, Scope, notice};
use crate::error::SqlError;

/// What is to be dropped.
pub(super) struct Wanted<'a> {
    pub(super) if_exists: bool,
    pub(super) names: &'a [ObjectName],
    pub(super) cascade: bool,
}

pub(super) fn remove(
    object: ObjectType,
    wanted: &Wanted<'_>,
    scope: &Scope<'_>,
) -> Result<Defined, SqlError> {
    match object {
        ObjectType::Table => relations(wanted, "table", "DROP TABLE", scope),
        ObjectType::View => relations(wanted, "view", "DROP VIEW", scope),
        ObjectType::Index => indexes(wanted, scope),
        // None of these can have been created.
        ObjectType::Sequence => nothing(wanted, "sequence", "42P01", "DROP SEQUENCE"),
        ObjectType::MaterializedView => {
            nothing(wanted, "materialized view", "42P01", "DROP MATERIALIZED VIEW")
        }
        ObjectType::Type => nothing(wanted, "type", "42704", "DROP TYPE"),
        ObjectType::Stream => {
            Err(SqlError::unsupported("DROP STREAM").hint("streams only grow: none is dropped"))
        }
        other => Err(SqlError::unsupported(&format!("DROP {other}"))),
    }
}

fn nothing(
    wanted: &Wanted<'_>,
    kind: &str,
    sqlstate: &'static str,
    tag: &'static str,
) -> Result<Defined, SqlError> {
    let mut defined = Defined::new(tag, Vec::new());
    for written in wanted.names {
        if let Some(name) = named(written, wanted, &mut defined)? {
            absent(&name, kind, sqlstate, wanted, &mut defined)?;
        }
    }
    Ok(defined)
}

/// The name of what is to be dropped; none where its schema is not there and need not be.
fn named(
    written: &ObjectName,
    wanted: &Wanted<'_>,
    defined: &mut Defined,
) -> Result<Option<String>, SqlError> {
    match name::relation(written) {
        Err(error) if error.sqlstate == "3F000" && wanted.if_exists => {
            defined.notices.push(notice("00000", &format!("{}, skipping", error.message)));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Notes, or refuses, that something is not there.
fn absent(
    name: &str,
    kind: &str,
    sqlstate: &'static str,
    wanted: &Wanted<'_>,
    defined: &mut Defined,
) -> Result<(), SqlError> {
    let message = format!("{kind} \"{name}\" does not exist");
    if !wanted.if_exists {
        return Err(SqlError::new(sqlstate, code::NO_TABLE, message));
    }
    defined.notices.push(notice("00000", &format!("{message}, skipping")));
    Ok(())
}

fn relations(
    wanted: &Wanted<'_>,
    kind: &str,
    tag: &'static str,
    scope: &Scope<'_>,
) -> Result<Defined, SqlError> {
    let mut defined = Defined::new(tag, Vec::new());
    let mut gone: Vec<Arc<TableDef>> = Vec::new();
    for written in wanted.names {
        let Some(name) = named(written, wanted, &mut defined)? else { continue };
        match scope.relation(&name)? {
            None => absent(&name, kind, "42P01", wanted, &mut defined)?,
            Some(Relation::Table(def) | Relation::View(def))
                if def.table().is_some() == (kind == "table") =>
            {
                if gone.iter().all(|other| other.id != def.id) {
                    gone.push(def);
                }
            }
            Some(other) => return Err(misnamed(&name, kind, &other)),
        }
    }
    refuse_dependents(&gone, kind, wanted, scope)?;
    // A table goes after those that refer to it.
    while !gone.is_empty() {
        let is_free = |def: &TableDef| {
            let mut others = gone.iter().filter(|other| other.id != def.id);
            others.all(|other| !def.referenced_by.contains(&other.id))
        };
        let Some(place) = gone.iter().position(|def| is_free(def)) else {
            let error = SqlError::unsupported("dropping tables that refer to each other");
            return Err(error.hint("drop their foreign keys first: ALTER TABLE … DROP CONSTRAINT"));
        };
        let def = gone.remove(place);
        defined.defines.push(Define::Drop(TableRef { id: def.id, version: def.version }));
    }
    Ok(defined)
}

fn misnamed(name: &str, wanted: &str, found: &Relation) -> SqlError {
    let error = name::wrong_type(name, wanted, found);
    match found {
        Relation::Stream => error,
        Relation::Table(_) => error.hint("Use DROP TABLE to remove a table."),
        Relation::View(_) => error.hint("Use DROP VIEW to remove a view."),
        Relation::Index(_) => error.hint("Use DROP INDEX to remove an index."),
    }
}

/// Refuses to drop what foreign keys and views of others need.
fn refuse_dependents(
    gone: &[Arc<TableDef>],
    kind: &str,
    wanted: &Wanted<'_>,
    scope: &Scope<'_>,
) -> Result<(), SqlError> {
    let mut details = Vec::new();
    for def in gone {
        let name = def.body.name();
        for child in &def.referenced_by {
            if gone.iter().any(|other| other.id == *child) {
                continue;
            }
            let child = scope.snapshot.definition(*child).map_err(super::unreadable)?;
            let Some(child) = child.as_ref().and_then(|child| child.table()) else { continue };
            let keys = child.foreign_keys.iter().filter(|key| key.table == def.id);
            details.extend(keys.map(|key| {
                format!("constraint {} on table {} depends on table {name}", key.name, child.name)
            }));
        }
        let views = view::dependents(name, scope)?.into_iter();
        let views = views.filter(|view| gone.iter().all(|other| other.body.name() != view));
        details.extend(views.map(|view| format!("view {view} depends on {kind} {name}")));
    }
    if details.is_empty() {
        return Ok(());
    }
    let detail = details.join("\n");
    let mut error = if wanted.cascade {
        SqlError::unsupported("CASCADE to what depends on it").hint("drop that first")
    } else {
        let message = match gone {
            [one] => {
                let name = one.body.name();
                format!("cannot drop {kind} {name} because other objects depend on it")
            }
            _ => "cannot drop desired object(s) because other objects depend on them".to_owned(),
        };
        SqlError::new("2BP01", code::DEPENDENT, message).hint("drop those first")
    };
    error.more().detail = Some(detail);
    Err(error)
}

fn indexes(wanted: &Wanted<'_>, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    let mut defined = Defined::new("DROP INDEX", Vec::new());
    let mut changer = Changer::new(scope);
    for written in wanted.names {
        let Some(name) = named(written, wanted, &mut defined)? else { continue };
        match scope.relation(&name)? {
            None => absent(&name, "index", "42704", wanted, &mut defined)?,
            Some(Relation::Index(def)) => {
                let spec = def.table().filter(|spec| spec.primary_key_name == name);
                if let Some(spec) = spec {
                    let message = format!(
                        "cannot drop index {name} because constraint {name} on table {} requires it",
                        spec.name
                    );
                    return Err(SqlError::new("2BP01", code::DEPENDENT, message));
                }
                let define = changer.alter(&def, Alter::DropConstraint(name));
                if !defined.defines.contains(&define) {
                    defined.defines.push(define);
                }
            }
            Some(other) => return Err(misnamed(&name, "index", &other)),
        }
    }
    Ok(defined)
}
