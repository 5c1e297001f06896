//! Why the ledger refuses a write, in PostgreSQL's words: SQLSTATE, constraint, table, column.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use quipu_state::{Fault, TableError};
use quipu_types::procedure::PROGRAM_SHIFT;
use quipu_types::program::{Define, Program};
use quipu_types::table::{TableDef, TableSpec};
use quipu_types::{Call, Code, code};

use crate::dml;
use crate::error::SqlError;
use crate::insert;
use crate::tables::Snapshot;
use crate::transaction::Act;

/// PostgreSQL's number for a refusal.
const STATES: &[(Code, &str)] = &[
    (code::NO_STREAM, "42P01"),
    (code::NO_TABLE, "42P01"),
    (code::TABLE_EXISTS, "42P07"),
    (code::STREAM_EXISTS, "42P07"),
    (code::NAME_RESERVED, "42939"),
    (code::TABLE_CHANGED, "40001"),
    (code::READ_CHANGED, "40001"),
    (code::ROW_COUNT, "40001"),
    (code::UNIQUE, "23505"),
    (code::NOT_NULL, "23502"),
    (code::NO_KEY, "23502"),
    (code::CHECK, "23514"),
    (code::FOREIGN_KEY, "23503"),
    (code::REFERENCED, "23503"),
    (code::OUT_OF_RANGE, "22003"),
    (code::DIVISION_BY_ZERO, "22012"),
    (code::BAD_TEXT, "22P02"),
    (code::TYPE_MISMATCH, "42804"),
    (code::METER, "54000"),
    (code::KEY_TOO_LONG, "54000"),
    (code::NOT_OWNER, "42501"),
    (code::DEPENDENT, "2BP01"),
    (code::TEXT_TOO_LONG, "22001"),
    (code::GENERATED, "428C9"),
    (code::BAD_DEFINITION, "42P16"),
    (code::ROW_TWICE, "21000"),
    (code::BAD_ROW, "22000"),
    (code::OVERLOADED, "53000"),
    (code::STOPPING, "57P01"),
    (code::NO_PROCEDURE, "42883"),
    (code::PROCEDURE_EXISTS, "42723"),
    (code::PROCEDURE_STALE, "55000"),
    (code::NOT_A_CALLER, "42501"),
];

/// A refusal by its code alone.
#[must_use]
pub fn refused(code: Code) -> SqlError {
    let found = STATES.iter().find(|(known, _)| *known == code);
    let state = found.map_or("42501", |(_, state)| state);
    SqlError::new(state, code, code.explanation().title).hint(code.explanation().text)
}

/// The act that an action of a transaction belongs to.
pub(crate) fn act_of(acts: &[Act], action: u32) -> Option<&Act> {
    let mut rest = usize::try_from(action).ok()?;
    acts.iter().find(|act| match rest.checked_sub(act.action_count()) {
        Some(less) => {
            rest = less;
            false
        }
        None => true,
    })
}

/// A refusal of an act; `def` is the table that it is about, where that is known.
pub(crate) fn of_act(act: Option<&Act>, def: Option<&TableDef>, fault: Fault) -> SqlError {
    match (act, def.and_then(TableDef::table)) {
        (Some(Act::Run(_) | Act::Define(_)), Some(spec)) => of_table(spec, fault),
        _ => of_code(fault.code),
    }
}

/// A refusal of a call: of its procedure, or of one of its programs.
pub(crate) fn of_call(snapshot: &Snapshot, call: &Call, fault: Fault) -> SqlError {
    let Fault { code, detail } = fault;
    let Some(def) = snapshot.procedure(call.procedure.id).ok().flatten() else {
        return of_code(code);
    };
    let name = &def.spec.name;
    if code == code::NOT_A_CALLER {
        let message = format!("permission denied for procedure {name}");
        return SqlError { message, ..refused(code) };
    }
    let place = usize::from(detail.checked_shr(PROGRAM_SHIFT).unwrap_or_default());
    let Some(program) = def.spec.programs.get(place) else { return of_code(code) };
    let table = snapshot.definition(program.table.id).ok().flatten();
    let again = "create the procedure again: CREATE OR REPLACE PROCEDURE";
    let mut error = match (code, table.as_deref().and_then(TableDef::table)) {
        (code::NO_TABLE, None) => {
            let table = table_written(&program.text);
            let message = format!("relation \"{table}\" does not exist");
            SqlError { message, ..refused(code) }
                .hint(format!("it was dropped since the procedure was created: {again}"))
        }
        (code::PROCEDURE_STALE, Some(spec)) => {
            let message = format!(
                "table \"{}\" has lost an index or got another primary key since procedure \"{name}\" was created",
                spec.name
            );
            SqlError { message, ..refused(code) }.hint(again)
        }
        (_, Some(spec)) => {
            let detail = detail & ((1 << PROGRAM_SHIFT) - 1);
            of_table(spec, Fault { code, detail })
        }
        _ => return of_code(code),
    };
    let number = place.saturating_add(1);
    error.more().context = Some(format!("SQL function \"{name}\" statement {number}"));
    error
}

/// The table that a statement names.
fn table_written(text: &str) -> String {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, text).ok().and_then(|mut all| all.pop());
    let target = parsed.as_ref().and_then(|statement| dml::target(statement).ok());
    let name = target.and_then(|name| name.0.last().and_then(insert::word));
    name.unwrap_or_default()
}

/// What a store or a program says.
pub(crate) fn of_error(error: TableError, def: Option<&TableDef>) -> SqlError {
    match (error, def.and_then(TableDef::table)) {
        (TableError::Fault(fault), Some(spec)) => of_table(spec, fault),
        (TableError::Fault(fault), None) => of_code(fault.code),
        (TableError::Store(error), _) => failed(&error),
    }
}

/// A store that can not be read.
pub(crate) fn failed(error: &quipu_state::StoreError) -> SqlError {
    SqlError::new("58030", code::SQL_UNSUPPORTED, format!("the tables can not be read: {error}"))
}

/// The table that an act changes.
pub(crate) const fn table_of(act: &Act) -> Option<u32> {
    match act {
        Act::Run(program) => {
            let Program { table, .. } = &**program;
            Some(table.id)
        }
        Act::Define(define) => match &**define {
            Define::Alter(table, _) | Define::Drop(table) => Some(table.id),
            _ => None,
        },
        _ => None,
    }
}

fn of_code(code: Code) -> SqlError {
    let message = match code {
        code::READ_CHANGED | code::ROW_COUNT | code::TABLE_CHANGED => {
            "could not serialize access due to concurrent update"
        }
        code::OUT_OF_RANGE => "value out of range",
        code::DIVISION_BY_ZERO => "division by zero",
        _ => return refused(code),
    };
    let error = refused(code);
    match code {
        code::READ_CHANGED | code::ROW_COUNT | code::TABLE_CHANGED => SqlError {
            message: message.into(),
            hint: Some("The transaction might succeed if retried.".into()),
            ..error
        },
        _ => SqlError { message: message.into(), hint: None, ..error },
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each constraint, and its words")]
pub(crate) fn of_table(spec: &TableSpec, fault: Fault) -> SqlError {
    let Fault { code, detail } = fault;
    let table = &spec.name;
    let column = spec.column(detail).map(|column| column.name.clone());
    let below = usize::from(detail).checked_sub(1);
    let (constraint, message) = match code {
        code::UNIQUE => {
            let name = match below {
                None => Some(spec.primary_key_name.clone()),
                Some(place) => spec.indexes.get(place).map(|index| index.name.clone()),
            };
            let shown = name.clone().unwrap_or_default();
            (name, format!("duplicate key value violates unique constraint \"{shown}\""))
        }
        code::CHECK => {
            let name =
                below.and_then(|place| spec.checks.get(place)).map(|check| check.name.clone());
            let shown = name.clone().unwrap_or_default();
            let message =
                format!("new row for relation \"{table}\" violates check constraint \"{shown}\"");
            (name, message)
        }
        code::FOREIGN_KEY => {
            let found = below.and_then(|place| spec.foreign_keys.get(place));
            let name = found.map(|foreign| foreign.name.clone());
            let shown = name.clone().unwrap_or_default();
            let message = format!(
                "insert or update on table \"{table}\" violates foreign key constraint \"{shown}\""
            );
            (name, message)
        }
        code::REFERENCED => {
            let message = format!(
                "update or delete on table \"{table}\" violates foreign key constraint of another table"
            );
            (None, message)
        }
        code::NOT_NULL => {
            let shown = column.clone().unwrap_or_default();
            let message = format!(
                "null value in column \"{shown}\" of relation \"{table}\" violates not-null constraint"
            );
            return located(SqlError::new("23502", code, message), table, column, None);
        }
        code::GENERATED => {
            let shown = column.clone().unwrap_or_default();
            let message = format!("cannot insert a non-DEFAULT value into column \"{shown}\"");
            let error = SqlError::new("428C9", code, message);
            return located(
                error.hint("it is an identity column, GENERATED ALWAYS"),
                table,
                column,
                None,
            );
        }
        code::TEXT_TOO_LONG => {
            let options = spec.options.get(usize::from(detail));
            let name = if options.is_some_and(|options| options.is_padded) {
                "character"
            } else {
                "character varying"
            };
            let length = options.map_or(0, |options| options.length);
            let message = format!("value too long for type {name}({length})");
            return located(SqlError::new("22001", code, message), table, column, None);
        }
        code::NOT_OWNER => {
            let message = format!("permission denied for table {table}");
            return located(SqlError::new("42501", code, message), table, None, None)
                .hint("its owner may GRANT what is missing");
        }
        _ => return of_code(code),
    };
    let error = refused(code);
    let error = SqlError { message, hint: None, ..error };
    located(error, table, None, constraint)
}

fn located(
    mut error: SqlError,
    table: &str,
    column: Option<String>,
    constraint: Option<String>,
) -> SqlError {
    let more = error.more();
    more.schema = Some("public".into());
    more.table = Some(table.to_owned());
    more.column = column;
    more.constraint = constraint;
    error
}
