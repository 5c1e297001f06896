//! `PREPARE`, `EXECUTE` and `DEALLOCATE` as statements of a query text.
//!
//! What they name is the session's own; what a client prepares by messages of the protocol is its connection's, under names
//! of its own. `EXECUTE` takes constants.

use datafusion::common::ScalarValue;
use quipu_types::code;

use super::{Forget, Outcome, Prepared, Session};
use crate::error::SqlError;
use crate::parameters;
use crate::statement::Kind;

/// Most statements that a session names.
const NAMED_COUNT_MAX: usize = 1_000;

impl Session {
    /// Names a statement, given as its text.
    pub(super) async fn name(&mut self, name: &str, text: &str) -> Result<Outcome, SqlError> {
        if self.named.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(SqlError::new("42P05", code::SQL_SYNTAX, message));
        }
        if self.named.len() >= NAMED_COUNT_MAX {
            let message = format!("a session prepares at most {NAMED_COUNT_MAX} statements");
            let error = SqlError::new("54000", code::SQL_LIMIT, message);
            return Err(error.hint("DEALLOCATE those that are not needed"));
        }
        let mut statements = self.parse(text).await?;
        let statement = statements.pop().ok_or_else(|| SqlError::unsupported("PREPARE of this"))?;
        let prepared = Box::pin(self.prepare(&statement, &[])).await?;
        self.named.insert(name.to_owned(), prepared);
        let (tag, report, forget) = ("PREPARE".to_owned(), None, Forget::Nothing);
        Ok(Outcome::Done { tag, report, forget })
    }

    /// The statement of a name, to be answered in the place of its `EXECUTE`.
    pub(super) fn named(&self, name: &str) -> Result<&Prepared, SqlError> {
        self.named.get(name).ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            SqlError::new("26000", code::SQL_SYNTAX, message)
        })
    }

    /// Executes the statement of a name with constants, each as its text.
    pub(super) async fn execute_named(
        &mut self,
        name: &str,
        constants: &[Option<String>],
    ) -> Result<Outcome, SqlError> {
        let prepared = self.named(name)?.clone();
        let (wanted, given) = (prepared.parameters.len(), constants.len());
        if wanted != given {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let mut error = SqlError::new("42601", code::SQL_SYNTAX, message);
            error.more().detail = Some(format!("Expected {wanted} parameters but got {given}."));
            return Err(error);
        }
        let values = prepared.parameters.iter().zip(constants).map(|(parameter, constant)| {
            parameters::decode(parameter, false, constant.as_ref().map(String::as_bytes))
        });
        let values = values.collect::<Result<Vec<ScalarValue>, _>>()?;
        Box::pin(self.execute(&prepared, values)).await
    }

    /// Forgets the statements that are named so; without a name, all.
    pub(super) fn unname(&mut self, name: Option<&str>) {
        match name {
            Some(name) => drop(self.named.remove(name)),
            None => self.named.clear(),
        }
    }

    /// What an `EXECUTE` answers with.
    pub(super) fn prepare_named(&self, kind: &Kind, bare: Prepared) -> Result<Prepared, SqlError> {
        Ok(match kind {
            Kind::Execute(name, _) => {
                Prepared { columns: self.named(name)?.columns.clone(), ..bare }
            }
            _ => bare,
        })
    }
}
