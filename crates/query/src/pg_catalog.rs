//! PostgreSQL's catalog: what clients ask about tables, answered from the definitions in state.
//!
//! ```text
//!  SELECT that names system relations or functions only ─ wants ─> bind ─> plan ─ run ─> rows
//!                                                                   │                ▲
//!       relations.txt, types.txt (PostgreSQL 15's manual)  ────────┴─ tables, standard
//!       definitions, streams, roles, parameters  ─> world (numbers)  ┘
//! ```
//! The questions are SQL as PostgreSQL has it and the planner of streams and tables has not: queries that refer to the
//! row around them, lateral ones, functions of several rows between columns, subscripts that begin at 0, numbers that are
//! written as names. So they are bound and run here, over rows in memory, with PostgreSQL's types; a query that names a
//! stream or a table too goes the other way, to what `datafusion-pg-catalog` knows. No text of a query is looked at.
//!
//! # Invariants
//! * C1 A relation of PostgreSQL's has its columns, their order and their types, with rows or without.
//! * C2 Numbers follow from the ledger (`world`): they are the same on every validator and at every height.
//! * C3 A statement sees the definitions that its transaction sees.
//! * C4 What a query may touch is bounded (`run`): no client can ask for more.
//!
//! # Limits
//! No window with a frame, no record but `_pg_expandarray`'s, no set function inside another.
//! Sums and averages are floats. Sizes are 0. An index' number follows from its place: it changes when one before it goes.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts of rows and columns, bounded by memory and by steps"
)]

mod bind;
mod deparse;
mod eval;
mod functions;
mod plan;
mod procedures;
mod resolve;
mod run;
mod standard;
mod tables;
#[cfg(test)]
mod tests;
mod types;
mod value;
mod world;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    ListArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as Ast, Query as AstQuery, Statement, TableFactor, Visit, Visitor,
};
use pgwire::api::Type as PgType;

use self::bind::{Binder, folded, last_of, system};
use self::run::Env;
use self::types::Oid;
use self::value::Datum;
pub(crate) use self::world::{Column as RelationColumn, Relation, World, named_oid};
use crate::error::SqlError;
use crate::parameters::Parameter;
use crate::wire::{self, Column};

/// Whether a statement asks for the catalog alone.
pub(crate) fn wants(statement: &Statement) -> bool {
    let Statement::Query(_) = statement else { return false };
    let mut names = Names::default();
    let _never_breaks = statement.visit(&mut names);
    let mut mentions = Mentions { ctes: names.0, ..Mentions::default() };
    let _never_breaks = statement.visit(&mut mentions);
    let Mentions { is_foreign, has_relation, has_own, has_unknown, .. } = mentions;
    !is_foreign && (has_relation || has_own && !has_unknown)
}

/// Whether the columns of views must be known to answer.
pub(crate) fn needs_columns(statement: &Statement) -> bool {
    let mut mentions = Mentions::default();
    let _never_breaks = statement.visit(&mut mentions);
    mentions.has_columns
}

/// Names of the queries of `WITH`.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &AstQuery) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(ctes.map(|cte| folded(&cte.alias.name)));
        ControlFlow::Continue(())
    }
}

#[derive(Default)]
struct Mentions {
    ctes: BTreeSet<String>,
    /// A relation that is not PostgreSQL's.
    is_foreign: bool,
    has_relation: bool,
    has_columns: bool,
    /// A function or type that only the catalog has; one that it has not.
    has_own: bool,
    has_unknown: bool,
}

impl Mentions {
    fn function(&mut self, name: &str) {
        let known = functions::FUNCTIONS.iter().find(|function| function.name == name);
        match known {
            Some(function) => self.has_own |= function.is_own,
            None => {
                let is_known = functions::SETS.iter().any(|function| function.name == name)
                    || functions::AGGREGATES.iter().any(|(known, _)| *known == name)
                    || matches!(name, "coalesce" | "nullif" | "greatest" | "least" | "array");
                self.has_unknown |= !is_known;
            }
        }
    }
}

impl Visitor for Mentions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                let (schema, own) = last_of(name);
                match system(name) {
                    Some(relation) => {
                        self.has_relation = true;
                        self.has_columns |= relation.name == "pg_attribute"
                            || relation.name.contains("column")
                            || relation.name == "pg_class";
                    }
                    None => self.is_foreign |= schema.is_some() || !self.ctes.contains(&own),
                }
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                self.function(&last_of(name).1);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Ast) -> ControlFlow<()> {
        match expr {
            Ast::Function(function) => self.function(&last_of(&function.name).1),
            Ast::Cast { data_type, .. } => {
                self.has_own |= types::read(data_type).is_ok_and(|(oid, _)| types::is_alias(oid));
            }
            Ast::Identifier(ident) if ident.quote_style.is_none() => {
                let name = folded(ident);
                self.has_own |=
                    matches!(name.as_str(), "current_schema" | "session_user" | "current_catalog");
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The number of a table of the ledger.
pub(crate) fn table_oid(id: u32) -> u32 {
    world::oid_of(id, 0)
}

fn query_of(statement: &Statement) -> Result<&AstQuery, SqlError> {
    match statement {
        Statement::Query(query) => Ok(query),
        _ => Err(SqlError::unsupported("this statement")),
    }
}

/// The columns of the rows that a statement gives, and its parameters; `types` as far as the client says them.
pub(crate) fn describe(
    world: &World,
    statement: &Statement,
    types: &[Oid],
) -> Result<(Vec<Column>, Vec<Parameter>), SqlError> {
    let binder = Binder::new(world, types);
    let query = binder.query(query_of(statement)?, None)?;
    let columns = query.columns.iter().map(|(name, kind)| column(name, *kind)).collect();
    let parameters = binder.parameters.into_inner().into_iter().map(|oid| {
        let oid = if oid == 0 { types::TEXT } else { oid };
        // A list comes as a text, or with the type that its bytes say.
        let data_type = match types::arrow_type(oid) {
            DataType::List(_) => DataType::Utf8,
            data_type => data_type,
        };
        Parameter { oid, data_type: Some(data_type) }
    });
    Ok((columns, parameters.collect()))
}

/// What a statement answered.
pub(crate) struct Answer {
    pub(crate) batch: RecordBatch,
    /// Parameters that it sets.
    pub(crate) set: Vec<(String, String)>,
}

/// Runs a statement, with values for its parameters.
pub(crate) fn answer(
    world: &World,
    statement: &Statement,
    parameters: &[Parameter],
    values: &[ScalarValue],
    now: i64,
) -> Result<Answer, SqlError> {
    let types: Vec<Oid> = parameters.iter().map(|parameter| parameter.oid).collect();
    let query = Binder::new(world, &types).query(query_of(statement)?, None)?;
    let values = values.iter().zip(&types).map(|(value, oid)| match datum(value) {
        // What has no Arrow type of its own comes as a text.
        Datum::Text(text) if !types::is_text(*oid) => value::parse(&text, *oid, world),
        other => Ok(other),
    });
    let values = values.collect::<Result<Vec<Datum>, SqlError>>()?;
    let env = Env::new(world, &values, now);
    let rows = query.run(&env, None)?;
    let columns = query.columns.iter().enumerate();
    let arrays = columns.map(|(place, (_, kind))| {
        let values: Vec<&Datum> =
            rows.iter().map(|row| row.get(place).unwrap_or(&Datum::Null)).collect();
        array(&values, kind.oid, world)
    });
    let arrays: Vec<ArrayRef> = arrays.collect();
    let fields: Vec<Field> = query
        .columns
        .iter()
        .zip(&arrays)
        .map(|((name, _), array)| Field::new(name, array.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| SqlError::from_datafusion(&error.into(), ""))?;
    Ok(Answer { batch, set: env.set.into_inner() })
}

fn column(name: &str, kind: plan::Type) -> Column {
    let pg_type = PgType::from_oid(kind.oid).unwrap_or(PgType::TEXT);
    let modifier = i32::try_from(kind.modifier).unwrap_or(-1);
    Column::of(name, types::arrow_type(kind.oid), &pg_type, modifier)
}

/// A parameter's value.
fn datum(value: &ScalarValue) -> Datum {
    match value {
        ScalarValue::Boolean(value) => (*value).into(),
        ScalarValue::Int16(value) => value.map(i64::from).into(),
        ScalarValue::Int32(value) => value.map(i64::from).into(),
        ScalarValue::Int64(value) => (*value).into(),
        ScalarValue::UInt32(value) => (*value).into(),
        ScalarValue::Float32(value) => {
            value.map_or(Datum::Null, |value| Datum::Float(f64::from(value)))
        }
        ScalarValue::Float64(value) => value.map_or(Datum::Null, Datum::Float),
        ScalarValue::Utf8(value) => value.as_deref().into(),
        ScalarValue::TimestampMicrosecond(value, _) => (*value).into(),
        ScalarValue::List(list) => {
            if arrow::array::Array::is_null(list.as_ref(), 0) {
                return Datum::Null;
            }
            let items = list.value(0);
            let item =
                |place| ScalarValue::try_from_array(&items, place).unwrap_or(ScalarValue::Null);
            Datum::list((0..arrow::array::Array::len(&items)).map(|place| datum(&item(place))))
        }
        other if other.is_null() => Datum::Null,
        other => Datum::text(other.to_string()),
    }
}

/// Values as the wire takes them.
fn array(values: &[&Datum], oid: Oid, world: &World) -> ArrayRef {
    let ints = || values.iter().map(|value| value.int());
    let float = |value: &Datum| match value {
        Datum::Float(value) => Some(*value),
        _ => None,
    };
    let times = || ints().collect::<TimestampMicrosecondArray>();
    match types::arrow_type(oid) {
        DataType::Boolean => Arc::new(
            values
                .iter()
                .map(|value| if let Datum::Bool(value) = value { Some(*value) } else { None })
                .collect::<BooleanArray>(),
        ),
        DataType::Int16 => Arc::new(
            ints()
                .map(|value| value.and_then(|value| i16::try_from(value).ok()))
                .collect::<Int16Array>(),
        ),
        DataType::Int32 => Arc::new(
            ints()
                .map(|value| value.and_then(|value| i32::try_from(value).ok()))
                .collect::<Int32Array>(),
        ),
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::UInt32 => {
            Arc::new(values.iter().map(|value| value.as_oid()).collect::<UInt32Array>())
        }
        DataType::Float64 => {
            Arc::new(values.iter().map(|value| float(value)).collect::<Float64Array>())
        }
        DataType::Float32 => {
            let narrow = |value: f64| value.to_string().parse::<f32>().ok();
            Arc::new(
                values.iter().map(|value| float(value).and_then(narrow)).collect::<Float32Array>(),
            )
        }
        DataType::Timestamp(_, Some(zone)) => Arc::new(times().with_timezone(zone)),
        DataType::Timestamp(_, None) => Arc::new(times()),
        DataType::List(field) => {
            let element = types::element_of(oid).unwrap_or(types::TEXT);
            let items: Vec<&Datum> = values.iter().flat_map(|value| value.items()).collect();
            let offsets =
                OffsetBuffer::from_lengths(values.iter().map(|value| value.items().len()));
            let nulls: Vec<bool> = values.iter().map(|value| !value.is_null()).collect();
            let inner = array(&items, element, world);
            Arc::new(ListArray::new(field, offsets, inner, Some(nulls.into())))
        }
        _ => Arc::new(
            values
                .iter()
                .map(|value| (!value.is_null()).then(|| value::write(value, oid, world)))
                .collect::<StringArray>(),
        ),
    }
}

/// A column of a relation, as a field of a batch says it.
pub(crate) fn column_of(field: &Field) -> RelationColumn {
    let (oid, modifier) = match (wire::marked(field), field.data_type()) {
        (Some((kind, modifier)), _) => (kind.oid(), i64::from(modifier)),
        (None, DataType::Decimal128(precision, scale)) => {
            (types::NUMERIC, (i64::from(*precision) << 16) + i64::from(*scale) + 4)
        }
        (None, data_type) => {
            let kind = wire::type_of(data_type).unwrap_or(PgType::TEXT);
            (kind.oid(), -1)
        }
    };
    RelationColumn::new(field.name(), oid, modifier, !field.is_nullable())
}
