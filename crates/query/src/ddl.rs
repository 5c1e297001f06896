//! Definitions: what `CREATE TABLE`, `CREATE INDEX`, `CREATE VIEW`, `ALTER TABLE`, `DROP`, `GRANT` and `REVOKE` ask of
//! the ledger.
//!
//! ```text
//!  statement ─┬─ table   columns and constraints ─> Draft ─> TableSpec       types  SQL's types
//!             ├─ alter   the same Draft, one change at a time ─> Alters      expr   defaults and checks
//!             ├─ index, view, procedure, remove, grant                       name   who is meant; how things
//!             └─ whatever else defines something is refused by name                 are called without a name
//! ```
//! Answers, names and SQLSTATEs are those of PostgreSQL 15's documentation.
//!
//! # Invariants
//! * D1 A clause that would change an answer is honoured or refused by name. Passed over are storage parameters, the
//!   method `btree`, the order of an index' columns, `CONCURRENTLY`.
//! * D2 What is given can be decoded by everyone: it was encoded and read back.
//! * D3 A statement of several changes of one table names the version that each will meet: that of the snapshot first,
//!   then the next height.
//! * D4 Nothing is changed here, and rights are not looked at: the ledger does.
//!
//! # Limits
//! One schema, `public`. Expressions are those that row programs have. A view's query is kept as text: `*` means the
//! columns of the moment it is read. Planning recurses: call it on a deep stack ([`crate::deep`]).
//!
//! # Deviations
//! `json` is `jsonb`. A unique index is a unique constraint. Comments are not kept. One identity column a table.

mod alter;
pub(crate) mod expr;
mod grant;
mod index;
pub(crate) mod name;
pub(crate) mod procedure;
mod remove;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod types;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::ast::{
    CommentObject, ObjectName, ObjectNamePart, SchemaName, Statement,
};
use quipu_state::StoreError;
use quipu_types::program::Alter;
use quipu_types::{AccountId, Decode as _, Define, Encode as _, Height, TableDef, TableRef, code};

use crate::error::{Notice, SqlError};
use crate::store::ColumnStore;
use crate::tables::Snapshot;

/// Most bytes of a definition, as the ledger takes it.
const DEFINITION_SIZE_MAX: usize = 1 << 20;

/// What definitions are read against.
pub(crate) struct Scope<'a> {
    /// Plans expressions and views.
    pub(crate) state: &'a SessionState,
    /// The tables and views.
    pub(crate) snapshot: &'a Snapshot,
    /// The streams, whose names are taken.
    pub(crate) streams: &'a ColumnStore,
    /// The account of each role.
    pub(crate) roles: &'a BTreeMap<String, AccountId>,
}

/// What a statement asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Defined {
    /// To be executed in this order, in one transaction; none where all is as it should be.
    pub(crate) defines: Vec<Define>,
    /// What the client is told beside.
    pub(crate) notices: Vec<Notice>,
    /// What PostgreSQL calls it.
    pub(crate) tag: &'static str,
}

impl Defined {
    fn new(tag: &'static str, defines: Vec<Define>) -> Self {
        Self { defines, notices: Vec::new(), tag }
    }

    fn nothing(tag: &'static str, notice: Notice) -> Self {
        Self { defines: Vec::new(), notices: vec![notice], tag }
    }
}

/// Whether [`defines`] reads the statement, or refuses it by name.
pub(crate) fn is_ddl(statement: &Statement) -> bool {
    match statement {
        // These may be long; their first words are known.
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Explain { .. } => false,
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            matches!(
                verb.as_str(),
                "CREATE" | "ALTER" | "DROP" | "GRANT" | "REVOKE" | "DENY" | "COMMENT"
            )
        }
    }
}

/// What a statement asks of the ledger.
pub(crate) fn defines(statement: &Statement, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    let defined = match statement {
        Statement::CreateTable(create) => table::create(create, scope),
        Statement::CreateIndex(create) => index::create(create, scope),
        Statement::CreateView(create) => view::create(create, scope),
        Statement::AlterTable(alter) => alter::alter(alter, scope),
        Statement::Drop { object_type, if_exists, names, cascade, table: None, .. } => {
            let wanted = remove::Wanted { if_exists: *if_exists, names, cascade: *cascade };
            remove::remove(*object_type, &wanted, scope)
        }
        Statement::Grant(grant) => grant::grant(grant, scope),
        Statement::Revoke(revoke) => grant::revoke(revoke, scope),
        Statement::DropProcedure { if_exists, proc_desc, .. } => {
            procedure::remove(proc_desc, *if_exists, scope)
        }
        Statement::Comment { object_type, object_name, if_exists, .. } => {
            comment(*object_type, object_name, *if_exists, scope)
        }
        Statement::CreateSchema {
            schema_name: SchemaName::Simple(name), if_not_exists, ..
        } => create_schema(name, *if_not_exists),
        other => Err(refusal(other)),
    }?;
    check_sizes(&defined.defines)?;
    Ok(defined)
}

/// Refuses definitions that the ledger does not take (D2).
pub(crate) fn check_sizes(defines: &[Define]) -> Result<(), SqlError> {
    let too_much = |message| SqlError::new("54000", code::SQL_LIMIT, message);
    for define in defines {
        let bytes = define.to_bytes();
        if bytes.len() > DEFINITION_SIZE_MAX {
            let message = format!("a definition has at most {DEFINITION_SIZE_MAX} bytes");
            return Err(too_much(message));
        }
        Define::from_bytes(&bytes)
            .map_err(|error| too_much(format!("the definition goes over a limit: {error}")))?;
    }
    Ok(())
}

/// Refuses what is not here by the words that it begins with.
fn refusal(statement: &Statement) -> SqlError {
    const FILLERS: [&str; 5] = ["OR", "REPLACE", "TEMPORARY", "TEMP", "UNIQUE"];
    let text = statement.to_string();
    let mut words = text.split_whitespace().filter(|word| !FILLERS.contains(word));
    let verb = words.next().unwrap_or_default();
    let object = words.next().unwrap_or_default();
    let error = SqlError::unsupported(&format!("{verb} {object}"));
    match object {
        "SEQUENCE" => error.hint("a column can number rows: GENERATED BY DEFAULT AS IDENTITY"),
        "EXTENSION" => error.hint("there are none; gen_random_uuid() is there without"),
        "TYPE" | "DOMAIN" => error.hint("use a base type and a CHECK constraint"),
        "FUNCTION" => error.hint("what changes tables can be a procedure: CREATE PROCEDURE"),
        "PROCEDURE" => error.hint("CREATE OR REPLACE PROCEDURE changes one"),
        "TRIGGER" => error.hint("nothing but SQL runs in the ledger"),
        "ROLE" | "USER" => error.hint("roles and their keys are in the server's configuration"),
        "SCHEMA" | "DATABASE" => error.hint("all tables are in the schema public"),
        _ => error,
    }
}

fn create_schema(name: &ObjectName, if_not_exists: bool) -> Result<Defined, SqlError> {
    const TAG: &str = "CREATE SCHEMA";
    let ObjectName(parts) = name;
    match parts.as_slice() {
        [ObjectNamePart::Identifier(ident)] if name::folded(ident) == "public" => {
            let message = "schema \"public\" already exists";
            if if_not_exists {
                return Ok(Defined::nothing(TAG, notice("42P06", &format!("{message}, skipping"))));
            }
            Err(SqlError::new("42P06", code::TABLE_EXISTS, message))
        }
        _ => Err(SqlError::unsupported(TAG).hint("all tables are in the schema public")),
    }
}

/// A comment is taken, for clients that write one with every table, and not kept.
fn comment(
    object: CommentObject,
    object_name: &ObjectName,
    if_exists: bool,
    scope: &Scope<'_>,
) -> Result<Defined, SqlError> {
    const TAG: &str = "COMMENT";
    let mut owner = object_name.clone();
    match object {
        CommentObject::Table | CommentObject::View | CommentObject::Index => {}
        CommentObject::Column => {
            owner.0.pop();
        }
        CommentObject::Schema | CommentObject::Extension | CommentObject::Database => {
            return Ok(Defined::nothing(TAG, notice("00000", "comments are not kept")));
        }
        other => return Err(SqlError::unsupported(&format!("COMMENT ON {other}"))),
    }
    let name = name::relation(&owner)?;
    if scope.relation(&name)?.is_none() && !if_exists {
        return Err(name::missing(&name));
    }
    Ok(Defined::nothing(TAG, notice("00000", "comments are not kept")))
}

/// The versions that changes of tables name (D3).
struct Changer {
    next: Height,
    changed: BTreeSet<u32>,
}

impl Changer {
    fn new(scope: &Scope<'_>) -> Self {
        Self { next: scope.snapshot.height().next(), changed: BTreeSet::new() }
    }

    fn alter(&mut self, def: &TableDef, alter: Alter) -> Define {
        let is_first = self.changed.insert(def.id);
        let version = if is_first { def.version } else { self.next };
        Define::Alter(TableRef { id: def.id, version }, alter)
    }
}

fn notice(sqlstate: &'static str, message: &str) -> Notice {
    Notice { severity: "NOTICE", sqlstate, message: message.to_owned() }
}

/// The ledger's store can not be read.
fn unreadable(error: StoreError) -> SqlError {
    SqlError::new("XX001", code::STORE_DAMAGED, error.to_string())
}
