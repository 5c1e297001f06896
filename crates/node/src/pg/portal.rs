//! What a connection holds between requests: prepared statements, and portals with rows yet to come.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_query::wire::Encoder;
use quipu_query::{Prepared, Rows, SqlError};
use quipu_types::code;

use super::message::{Bind, Formats};

/// Most prepared statements of a connection.
const STATEMENT_COUNT_MAX: usize = 1_000;
/// Most portals of a connection.
const PORTAL_COUNT_MAX: usize = 64;
/// Most bytes of values that the portals of a connection hold.
const VALUES_SIZE_MAX: usize = 32 << 20;

/// A prepared statement; none for an empty text.
pub(crate) type Statement = Option<Arc<Prepared>>;

/// A statement with its values, and how far its rows have come.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) statement: Statement,
    pub(crate) formats: Formats,
    pub(crate) values: Vec<Option<Vec<u8>>>,
    pub(crate) result_formats: Formats,
    pub(crate) progress: Progress,
}

/// How far a portal has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Not begun.
    New,
    /// Its rows come; the rest of a batch that a limit cut.
    Running(Box<Rows>, Option<(Encoder, usize)>),
    /// Done.
    Done,
}

/// The statements and portals of a connection.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    statements: BTreeMap<String, Statement>,
    portals: BTreeMap<String, Portal>,
}

fn too_many(what: &str) -> SqlError {
    SqlError::new("53400", code::SQL_LIMIT, format!("too many {what} on one connection"))
}

impl Holdings {
    /// Keeps a statement under a name; the nameless one is replaced.
    pub(crate) fn prepare(&mut self, name: &str, statement: Statement) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(SqlError::new("42P05", code::SQL_SYNTAX, message));
        }
        if self.statements.len() >= STATEMENT_COUNT_MAX && !self.statements.contains_key(name) {
            return Err(too_many("prepared statements"));
        }
        self.statements.insert(name.to_owned(), statement);
        Ok(())
    }

    /// The statement of a name.
    pub(crate) fn statement(&self, name: &str) -> Result<&Statement, SqlError> {
        self.statements.get(name).ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            SqlError::new("26000", code::SQL_SYNTAX, message)
        })
    }

    /// Makes a portal.
    pub(crate) fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let protocol = |message: String| SqlError::new("08P01", code::SQL_SYNTAX, message);
        let statement = self.statement(&bind.statement)?.clone();
        let wanted = statement.as_ref().map_or(0, |prepared| prepared.parameters.len());
        if bind.values.len() != wanted {
            return Err(protocol(format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
                bind.values.len(),
                bind.statement
            )));
        }
        let columns = statement.as_ref().and_then(|prepared| prepared.columns.as_ref());
        let column_count = columns.map_or(0, |columns| columns.len());
        if !bind.formats.suit(wanted) || !bind.result_formats.suit(column_count) {
            return Err(protocol(
                "bind message has another number of formats than of values".into(),
            ));
        }
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) {
            let message = format!("cursor \"{}\" already exists", bind.portal);
            return Err(SqlError::new("42P03", code::SQL_SYNTAX, message));
        }
        let held: usize = self.portals.values().map(|portal| size_of_values(&portal.values)).sum();
        let size = held.saturating_add(size_of_values(&bind.values));
        if self.portals.len() >= PORTAL_COUNT_MAX || size > VALUES_SIZE_MAX {
            return Err(too_many("portals"));
        }
        let portal = Portal {
            statement,
            formats: bind.formats,
            values: bind.values,
            result_formats: bind.result_formats,
            progress: Progress::New,
        };
        self.portals.insert(bind.portal, portal);
        Ok(())
    }

    /// The portal of a name.
    pub(crate) fn portal(&mut self, name: &str) -> Result<&mut Portal, SqlError> {
        self.portals.get_mut(name).ok_or_else(|| {
            let message = format!("portal \"{name}\" does not exist");
            SqlError::new("34000", code::SQL_SYNTAX, message)
        })
    }

    pub(crate) fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    pub(crate) fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// Ends every portal: a transaction has ended.
    pub(crate) fn close_portals(&mut self) {
        self.portals.clear();
    }

    /// Forgets every statement.
    pub(crate) fn close_statements(&mut self) {
        self.statements.clear();
    }
}

fn size_of_values(values: &[Option<Vec<u8>>]) -> usize {
    values.iter().flatten().map(Vec::len).sum()
}
