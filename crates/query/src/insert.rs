//! `INSERT`: which rows a statement means. Who appends them, and whether the ledger takes them, is not known here.
//!
//! ```text
//!  INSERT INTO s (a, b) VALUES ($1, 2)  ── columns filled in ─> plan of the source, cast to the stream's types
//!                                       ── run ─> batches ─> [`Append`]: the stream, and its rows' canonical bytes
//! ```
//! * A stream only grows: `ON CONFLICT`, `RETURNING`, `OVERWRITE` are refused by name.
//! * System columns are the ledger's: naming one is refused.

use std::ops::ControlFlow;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Insert, ObjectName, ObjectNamePart, Query, SetExpr, Statement, Value as Literal,
    ValueWithSpan, Values, Visit as _, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use quipu_types::row::{RowError, Value};
use quipu_types::transaction::ACTION_COUNT_MAX;
use quipu_types::{Column, ColumnType, Schema, code};

use crate::column::Kind;
use crate::copy::value::{bytea, from_text};
use crate::error::SqlError;
use crate::round;
use crate::table::TableDef;

/// Rows to be appended to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub stream: String,
    /// Canonical bytes of each row, in order.
    pub rows: Vec<Vec<u8>>,
}

/// Refuses what a stream has not.
fn check(insert: &Insert) -> Result<(), SqlError> {
    let unsupported = [
        (insert.on.is_some(), "ON CONFLICT"),
        (insert.returning.is_some(), "RETURNING"),
        (insert.overwrite, "INSERT OVERWRITE"),
        (insert.partitioned.is_some(), "INSERT … PARTITION"),
        (insert.table_alias.is_some(), "an alias in INSERT"),
        (insert.replace_into, "REPLACE INTO"),
        (insert.source.is_none(), "INSERT … DEFAULT VALUES"),
    ];
    match unsupported.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}

/// The key of a table's name: `schema.name`.
pub(crate) fn key_of(ObjectName(parts): &ObjectName) -> Result<String, SqlError> {
    let words: Option<Vec<String>> = parts.iter().map(word).collect();
    match words.as_deref() {
        Some([name]) => Ok(format!("public.{name}")),
        Some([schema, name]) => Ok(format!("{schema}.{name}")),
        Some([_, schema, name]) => Ok(format!("{schema}.{name}")),
        _ => Err(SqlError::unsupported("a table name of more than three parts")),
    }
}

pub(crate) fn word(part: &ObjectNamePart) -> Option<String> {
    part.as_ident().map(folded)
}

/// Names that are not quoted are lower case.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// Names every column of the stream where the statement names none, refuses the ledger's own, and reads what is
/// written for a bytea.
pub(crate) fn fill(statement: &mut Statement, def: &TableDef) -> Result<(), SqlError> {
    let Statement::Insert(insert) = statement else { return Ok(()) };
    check(insert)?;
    let schema = schema_of(def)?;
    let own = schema.columns();
    if insert.columns.is_empty() {
        let quoted = |column: &Column| {
            let part = ObjectNamePart::Identifier(Ident::with_quote('"', column.name.clone()));
            ObjectName(vec![part])
        };
        insert.columns = own.iter().map(quoted).collect();
    }
    let mut kinds = Vec::with_capacity(insert.columns.len());
    for ObjectName(parts) in &insert.columns {
        let name = parts.last().and_then(word).unwrap_or_default();
        kinds.push(own_column(def, &name)?.kind);
    }
    read_byteas(insert, |index| kinds.get(index).copied())
}

/// What stands for the rows of a query that [`take_inner_values`] took.
pub(crate) const SOURCE: &str = "inserted rows";

/// Takes the query of an `INSERT … SELECT` with a `VALUES` inside, and leaves one of [`SOURCE`] in its place: the
/// planner takes every `VALUES` of an INSERT for a list of the table's rows.
pub(crate) fn take_inner_values(statement: &mut Statement) -> Option<Box<Query>> {
    struct Inner;
    impl Visitor for Inner {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            match query.body.as_ref() {
                SetExpr::Values(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let Statement::Insert(insert) = statement else { return None };
    let query = insert.source.as_mut()?;
    if matches!(query.body.as_ref(), SetExpr::Values(_)) || query.visit(&mut Inner).is_continue() {
        return None;
    }
    let text = format!("SELECT * FROM \"{SOURCE}\"");
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).ok()?;
    Some(std::mem::replace(query, parser.parse_query().ok()?))
}

/// Reads what is written for each bytea of a VALUES list; `kind_of` gives the type of a place in the list.
pub(crate) fn read_byteas(
    insert: &mut Insert,
    kind_of: impl Fn(usize) -> Option<ColumnType>,
) -> Result<(), SqlError> {
    let Some(SetExpr::Values(Values { rows, .. })) =
        insert.source.as_mut().map(|query| query.body.as_mut())
    else {
        return Ok(());
    };
    for (index, expr) in rows.iter_mut().flat_map(|row| row.content.iter_mut().enumerate()) {
        if kind_of(index) == Some(ColumnType::Bytea) {
            read_bytea(expr)?;
        }
    }
    Ok(())
}

/// The stream's own column of this name; the ledger's are refused.
pub(crate) fn own_column<'a>(def: &'a TableDef, name: &str) -> Result<&'a Column, SqlError> {
    if let Some(column) = schema_of(def)?.columns().iter().find(|column| column.name == name) {
        return Ok(column);
    }
    let is_system = def.columns.iter().any(|column| column.name == name) || name == "_time_max";
    Err(if is_system {
        let message = format!("cannot insert into column \"{name}\"");
        SqlError::new("428C9", code::SQL_SYNTAX, message).hint("the ledger fills it in")
    } else {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", def.key);
        SqlError::new("42703", code::SQL_SYNTAX, message)
    })
}

/// A text that stands for a bytea.
pub(crate) fn read_bytea(expr: &mut Expr) -> Result<(), SqlError> {
    let Expr::Value(ValueWithSpan { value, .. }) = expr else { return Ok(()) };
    let Literal::SingleQuotedString(text) = value else { return Ok(()) };
    let digits = hex::encode(bytea(text)?);
    *value = Literal::HexStringLiteral(digits);
    Ok(())
}

pub(crate) fn schema_of(def: &TableDef) -> Result<&Schema, SqlError> {
    def.stream.as_ref().ok_or_else(|| {
        let message = format!("cannot insert into \"{}\"", def.key);
        SqlError::new("42809", code::SQL_UNSUPPORTED, message).hint("it is the ledger's own")
    })
}

/// Puts a batch's rows behind `rows`. Its first columns are the schema's.
pub(crate) fn rows(
    stream: &str,
    schema: &Schema,
    batch: &RecordBatch,
    rows: &mut Vec<Vec<u8>>,
) -> Result<(), SqlError> {
    if rows.len().saturating_add(batch.num_rows()) > ACTION_COUNT_MAX {
        let message = format!("a transaction appends at most {ACTION_COUNT_MAX} rows");
        return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("insert in parts"));
    }
    for values in values(&schema.columns().iter().collect::<Vec<_>>(), batch)? {
        rows.push(encoded(schema, &values, stream)?);
    }
    Ok(())
}

/// A row of a stream.
pub(crate) fn encoded(schema: &Schema, row: &[Value], stream: &str) -> Result<Vec<u8>, SqlError> {
    schema.encode_row(row).map_err(|error| row_refused(&error, stream))
}

/// The rows of a batch, whose first columns are these.
pub(crate) fn values(
    columns: &[&Column],
    batch: &RecordBatch,
) -> Result<Vec<Vec<Value>>, SqlError> {
    let arrays: Vec<(&Column, ArrayRef)> = columns
        .iter()
        .zip(batch.columns())
        .map(|(column, array)| {
            let wanted = Kind::from(column.kind).data_type();
            round::array(array, &wanted).map(|array| (*column, array))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| SqlError::from_datafusion(&error, ""))?;
    let row = |row| arrays.iter().map(|(column, array)| value(column, array, row)).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// One value of an array that has the column's Arrow type.
pub(crate) fn value(column: &Column, array: &ArrayRef, row: usize) -> Result<Value, SqlError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let text = || array.as_string::<i32>().value(row);
    Ok(match column.kind {
        ColumnType::Bool => Value::Bool(array.as_boolean().value(row)),
        ColumnType::Int2 => Value::Int2(array.as_primitive::<Int16Type>().value(row)),
        ColumnType::Int4 => Value::Int4(array.as_primitive::<Int32Type>().value(row)),
        ColumnType::Int8 => Value::Int8(array.as_primitive::<Int64Type>().value(row)),
        ColumnType::Numeric { .. } => {
            Value::Numeric(array.as_primitive::<Decimal128Type>().value(row))
        }
        ColumnType::Text => Value::Text(text().to_owned()),
        ColumnType::Bytea => Value::Bytea(array.as_binary::<i32>().value(row).to_vec()),
        ColumnType::Date => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        ColumnType::Timestamptz => {
            Value::Timestamptz(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        ColumnType::Timestamp => {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        ColumnType::Uuid | ColumnType::Jsonb => from_text(column, text().as_bytes())?,
        ColumnType::Float8 => {
            Value::Float8(array.as_primitive::<Float64Type>().value(row).to_bits())
        }
    })
}

/// Why a row is refused; `relation` is whose it would be.
pub(crate) fn row_refused(error: &RowError, relation: &str) -> SqlError {
    let RowError::Null { column } = error else {
        return SqlError::new("22000", code::BAD_ROW, error.to_string());
    };
    let message = format!(
        "null value in column \"{column}\" of relation \"{relation}\" violates not-null constraint"
    );
    let mut error = SqlError::new("23502", code::BAD_ROW, message);
    let more = error.more();
    more.schema = Some("public".into());
    more.table = Some(relation.into());
    more.column = Some(column.clone());
    error
}
