//! Definitions as PostgreSQL writes them: defaults, constraints and indexes.

use hex::encode;
use quipu_types::program::{Binary, Expr, Function, Unary};
use quipu_types::table::Reaction;
use quipu_types::{ColumnType, Value};

use super::types::{self, Oid};
use super::world::{Foreign, Key, Relation, World, quoted};
use crate::wire;

/// A column's default.
pub(super) fn default(expr: &Expr, kind: Oid) -> String {
    match expr {
        Expr::Const(of, value) => constant(*of, value, kind),
        expr => write(expr),
    }
}

fn constant(of: ColumnType, value: &Value, kind: Oid) -> String {
    let text = plain(of, value);
    let is_bare = match value {
        Value::Bool(_) => true,
        // A negative number is a literal of its type.
        Value::Int2(_) | Value::Int4(_) | Value::Int8(_) | Value::Numeric(_) | Value::Float8(_) => {
            !text.starts_with('-')
        }
        _ => false,
    };
    let shown = types::format(kind, -1);
    match value {
        Value::Null => format!("NULL::{shown}"),
        _ if is_bare => text,
        _ => format!("'{}'::{shown}", text.replace('\'', "''")),
    }
}

/// A constant's text.
fn plain(of: ColumnType, value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int2(value) => value.to_string(),
        Value::Int4(value) => value.to_string(),
        Value::Int8(value) => value.to_string(),
        Value::Numeric(value) => {
            let scale = if let ColumnType::Numeric { scale, .. } = of { scale } else { 0 };
            wire::decimal(*value, scale)
        }
        Value::Float8(bits) => super::value::number(f64::from_bits(*bits)),
        Value::Text(text) | Value::Jsonb(text) => text.clone(),
        Value::Bytea(bytes) => format!("\\x{}", encode(bytes)),
        Value::Uuid(bytes) => {
            let digits = encode(bytes);
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range));
            parts.into_iter().flatten().collect::<Vec<_>>().join("-")
        }
        Value::Date(days) => wire::date(*days),
        Value::Timestamptz(micros) => wire::timestamp(*micros, true),
        Value::Timestamp(micros) => wire::timestamp(*micros, false),
    }
}

fn kind_of(kind: ColumnType) -> Oid {
    types::by_name(kind.to_string().split('(').next().unwrap_or_default()).unwrap_or(types::TEXT)
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(write).collect::<Vec<_>>().join(", ")
}

fn write(expr: &Expr) -> String {
    match expr {
        Expr::Const(kind, value) => constant(*kind, value, kind_of(*kind)),
        Expr::Column(place) | Expr::Excluded(place) | Expr::Parameter(place) => format!("${place}"),
        Expr::Now => "now()".into(),
        Expr::Random(_) => "gen_random_uuid()".into(),
        Expr::Unary(Unary::Not, inner) => format!("(NOT {})", write(inner)),
        Expr::Unary(Unary::Negative, inner) => format!("(- {})", write(inner)),
        Expr::Unary(Unary::IsNull, inner) => format!("({} IS NULL)", write(inner)),
        Expr::Unary(Unary::IsTrue, inner) => format!("({} IS TRUE)", write(inner)),
        Expr::Unary(Unary::IsFalse, inner) => format!("({} IS FALSE)", write(inner)),
        Expr::Binary(op, left, right) => {
            format!("({} {} {})", write(left), operator(*op), write(right))
        }
        Expr::In(value, others) => format!("({} = ANY (ARRAY[{}]))", write(value), list(others)),
        Expr::Case(arms, otherwise) => {
            let arms: Vec<String> = arms
                .iter()
                .map(|(when, then)| format!("WHEN {} THEN {}", write(when), write(then)))
                .collect();
            let otherwise = otherwise.as_ref().map_or("NULL".into(), |otherwise| write(otherwise));
            format!("CASE {} ELSE {otherwise} END", arms.join(" "))
        }
        Expr::Cast(inner, kind) => {
            format!("({})::{}", write(inner), types::format(kind_of(*kind), -1))
        }
        Expr::Call(function, arguments) => format!("{}({})", name(*function), list(arguments)),
    }
}

const fn operator(op: Binary) -> &'static str {
    match op {
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::Modulo => "%",
        Binary::Concat => "||",
        Binary::Equal => "=",
        Binary::NotEqual => "<>",
        Binary::Less => "<",
        Binary::LessOrEqual => "<=",
        Binary::Greater => ">",
        Binary::GreaterOrEqual => ">=",
        Binary::And => "AND",
        Binary::Or => "OR",
        Binary::NotDistinct => "IS NOT DISTINCT FROM",
        Binary::Like => "~~",
    }
}

fn name(function: Function) -> String {
    match function {
        Function::Coalesce => "COALESCE".into(),
        Function::NullIf => "NULLIF".into(),
        Function::Greatest => "GREATEST".into(),
        Function::Least => "LEAST".into(),
        Function::Trim => "btrim".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn names(relation: &Relation, columns: &[usize]) -> String {
    let names = relation.column_names(columns);
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// An index, or one of its columns.
pub(super) fn index(relation: &Relation, key: &Key, column: usize) -> String {
    if let Some(place) = column.checked_sub(1) {
        let of_column = key.columns.get(place).map(|column| names(relation, &[*column]));
        return of_column.unwrap_or_default();
    }
    let unique = if key.is_unique { "UNIQUE " } else { "" };
    format!(
        "CREATE {unique}INDEX {} ON {}.{} USING btree ({})",
        quoted(&key.name),
        quoted(relation.schema),
        quoted(&relation.name),
        names(relation, &key.columns)
    )
}

/// The key that an index serves.
pub(super) fn key(relation: &Relation, key: &Key) -> String {
    let kind = if key.is_primary { "PRIMARY KEY" } else { "UNIQUE" };
    format!("{kind} ({})", names(relation, &key.columns))
}

/// A check.
pub(super) fn check(text: &str, is_pretty: bool) -> String {
    if is_pretty { format!("CHECK ({text})") } else { format!("CHECK (({text}))") }
}

/// What becomes of a row whose parent goes.
pub(super) const fn rule(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Refuse => "NO ACTION",
        Reaction::Cascade => "CASCADE",
        Reaction::SetNull => "SET NULL",
        Reaction::SetDefault => "SET DEFAULT",
    }
}

/// The same as `pg_constraint` says it.
pub(super) const fn letter(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Refuse => "a",
        Reaction::Cascade => "c",
        Reaction::SetNull => "n",
        Reaction::SetDefault => "d",
    }
}

/// A foreign key.
pub(super) fn foreign(relation: &Relation, key: &Foreign, world: &World) -> String {
    let other = world.relation(key.table);
    let (name, columns) = other.map_or((String::new(), String::new()), |other| {
        (quoted(&other.name), names(other, &key.references))
    });
    let when = |event: &str, reaction| match rule(reaction) {
        "NO ACTION" => String::new(),
        rule => format!(" ON {event} {rule}"),
    };
    format!(
        "FOREIGN KEY ({}) REFERENCES {name}({columns}){}{}",
        names(relation, &key.columns),
        when("UPDATE", key.on_update),
        when("DELETE", key.on_delete),
    )
}
