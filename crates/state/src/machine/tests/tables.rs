//! Tables: against a naive model, under every schedule of flushes and crashes, at every height, and with programs
//! that lie.

#![expect(clippy::arithmetic_side_effects, reason = "a test may fail loudly")]

mod family;
mod model;
mod parallel;
mod procedure;
mod program;
mod property;

use quipu_types::program::{Binary, Conflict, Define, Expr, Op, Program, Selection, TableRef};
use quipu_types::table::{CheckSpec, ColumnOptions, ForeignKey, IndexSpec, Reaction, TableSpec};
use quipu_types::{Column, ColumnType};

use super::*;
use crate::store::Rows;

const fn int(value: i32) -> Expr {
    Expr::Const(ColumnType::Int4, Value::Int4(value))
}

const fn long(value: i64) -> Expr {
    Expr::Const(ColumnType::Int8, Value::Int8(value))
}

fn text(value: &str) -> Expr {
    Expr::Const(ColumnType::Text, Value::Text(value.into()))
}

const fn null(kind: ColumnType) -> Expr {
    Expr::Const(kind, Value::Null)
}

fn binary(op: Binary, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}

/// A table of these columns with nothing else.
fn table_spec(name: &str, columns: &str, primary_key: &[u16]) -> TableSpec {
    let schema = Schema::parse(columns).expect("a schema");
    TableSpec {
        name: name.into(),
        options: vec![ColumnOptions::default(); schema.columns().len()],
        schema,
        primary_key: primary_key.to_vec(),
        primary_key_name: if primary_key.is_empty() { String::new() } else { "pkey".into() },
        indexes: vec![],
        checks: vec![],
        foreign_keys: vec![],
        writers: Writers::Creator,
    }
}

fn index(name: &str, columns: &[u16], is_unique: bool) -> IndexSpec {
    IndexSpec { name: name.into(), columns: columns.to_vec(), is_unique }
}

fn foreign(name: &str, columns: &[u16], table: u32) -> ForeignKey {
    let (on_delete, on_update) = (Reaction::Refuse, Reaction::Refuse);
    ForeignKey { name: name.into(), columns: columns.to_vec(), table, on_delete, on_update }
}

/// That a column is greater than a number.
fn above(name: &str, column: u16, least: i32) -> CheckSpec {
    let expr = binary(Binary::Greater, Expr::Column(column), int(least));
    CheckSpec { name: name.into(), expr, text: String::new() }
}

const fn program(table: TableRef, op: Op) -> Program {
    Program {
        text: String::new(),
        table,
        row_count: None,
        rows_hash: None,
        returns: false,
        parameters: Vec::new(),
        op,
    }
}

/// Everything that the row space holds at a height.
fn row_space(machine: &Machine<MemoryStore>, height: Height) -> Rows {
    machine.rows_at(&[], None, usize::MAX, height).expect("healthy")
}
