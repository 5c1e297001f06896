//! Rows of `information_schema`: the SQL standard's names for the same things.

use super::deparse;
use super::tables::{Maker, definition, largest, primary_of};
use super::types::{self, Oid};
use super::value::Datum;
use super::world::{Column, NOBODY, Relation, SCHEMAS, SYSTEM, Sequence, World};

const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Fills the relation `name`.
pub(super) fn fill(world: &World, name: &str, maker: &mut Maker<'_>) {
    match name {
        "schemata" => {
            for (schema, _) in SCHEMAS {
                maker.row(&[
                    ("catalog_name", database(world)),
                    ("schema_name", schema.into()),
                    ("schema_owner", NOBODY.0.into()),
                ]);
            }
        }
        "information_schema_catalog_name" => maker.row(&[("catalog_name", database(world))]),
        "enabled_roles" | "applicable_roles" => {
            maker.row(&[("role_name", world.user.as_str().into())]);
        }
        "routines" | "parameters" => super::procedures::standard(world, name, maker),
        "character_sets" => maker.row(&[
            ("character_set_name", "UTF8".into()),
            ("character_repertoire", "UCS".into()),
            ("form_of_use", "UTF8".into()),
            ("default_collate_catalog", database(world)),
            ("default_collate_schema", "pg_catalog".into()),
            ("default_collate_name", "C".into()),
        ]),
        "tables" | "columns" => {
            for relation in &world.relations {
                match name {
                    "tables" => table(world, relation.schema, &relation.name, relation.kind, maker),
                    _ => columns(world, relation.schema, &relation.name, &relation.columns, maker),
                }
            }
            for relation in SYSTEM.values() {
                if name == "tables" {
                    table(world, relation.schema, relation.name, relation.kind, maker);
                    continue;
                }
                let of = |(name, kind, not_null): &(&str, Oid, bool)| {
                    Column::new(name, *kind, -1, *not_null)
                };
                let all: Vec<Column> = relation.columns.iter().map(of).collect();
                columns(world, relation.schema, relation.name, &all, maker);
            }
        }
        _ => world.relations.iter().for_each(|relation| of_relation(world, relation, name, maker)),
    }
}

fn database(world: &World) -> Datum {
    world.database.as_str().into()
}

fn yes(is_so: bool) -> Datum {
    if is_so { "YES" } else { "NO" }.into()
}

/// Where a relation is.
fn place(world: &World, schema: &str, name: &str) -> Vec<(&'static str, Datum)> {
    vec![
        ("table_catalog", database(world)),
        ("table_schema", schema.into()),
        ("table_name", name.into()),
    ]
}

fn table(world: &World, schema: &str, name: &str, kind: &str, maker: &mut Maker<'_>) {
    let mut row = place(world, schema, name);
    row.extend([
        ("table_type", if kind == "v" { "VIEW" } else { "BASE TABLE" }.into()),
        ("is_insertable_into", yes(kind == "r" && schema == "public")),
        ("is_typed", yes(false)),
    ]);
    maker.row(&row);
}

fn columns(world: &World, schema: &str, name: &str, all: &[Column], maker: &mut Maker<'_>) {
    for (column, number) in all.iter().zip(1_usize..) {
        let Column { kind, modifier, .. } = column;
        let row = types::TYPES.get(kind);
        let is_array = row.is_some_and(|row| row.category == "A");
        let shown = if is_array { "ARRAY".to_owned() } else { types::format(*kind, -1) };
        let shown = if *kind == types::BPCHAR { "character".to_owned() } else { shown };
        let (precision, radix, scale) = digits(*kind, *modifier);
        let is_characters = matches!(*kind, types::VARCHAR | types::BPCHAR) && *modifier >= 4;
        let is_text = types::is_text(*kind) && *kind != types::CHAR && *kind != types::NAME;
        let octets = if is_characters { Some((modifier - 4) * 4) } else { Some(1 << 30) };
        let is_identity = !column.identity.is_empty();
        let mut values = place(world, schema, name);
        values.extend([
            ("column_name", column.name.as_str().into()),
            ("ordinal_position", number.into()),
            ("column_default", column.default.clone().into()),
            ("is_nullable", yes(!column.not_null)),
            ("data_type", shown.into()),
            ("character_maximum_length", is_characters.then_some(modifier - 4).into()),
            ("character_octet_length", octets.filter(|_| is_text).into()),
            ("numeric_precision", precision.into()),
            ("numeric_precision_radix", radix.into()),
            ("numeric_scale", scale.into()),
            ("datetime_precision", time_digits(*kind).into()),
            ("udt_catalog", database(world)),
            ("udt_schema", "pg_catalog".into()),
            ("udt_name", row.map(|row| row.name).into()),
            ("dtd_identifier", number.to_string().into()),
            ("is_self_referencing", yes(false)),
            ("is_identity", yes(is_identity)),
            ("identity_generation", generation(column.identity)),
            ("identity_start", is_identity.then_some("1").into()),
            ("identity_increment", is_identity.then_some("1").into()),
            ("identity_minimum", is_identity.then_some("1").into()),
            ("identity_maximum", is_identity.then(|| text(&largest(*kind))).into()),
            ("identity_cycle", yes(false)),
            ("is_generated", "NEVER".into()),
            ("is_updatable", yes(schema == "public")),
        ]);
        maker.row(&values);
    }
}

fn text(number: &Datum) -> String {
    number.int().unwrap_or_default().to_string()
}

fn generation(identity: &str) -> Datum {
    match identity {
        "a" => "ALWAYS".into(),
        "d" => "BY DEFAULT".into(),
        _ => Datum::Null,
    }
}

/// Digits of a number, their base, and those after the point.
fn digits(kind: Oid, modifier: i64) -> (Option<i64>, Option<i64>, Option<i64>) {
    let binary = |digits| (Some(digits), Some(2), Some(0));
    match kind {
        types::INT2 => binary(16),
        types::INT4 => binary(32),
        types::INT8 => binary(64),
        types::FLOAT4 => (Some(24), Some(2), None),
        types::FLOAT8 => (Some(53), Some(2), None),
        types::NUMERIC if modifier >= 4 => {
            (Some((modifier - 4) >> 16), Some(10), Some((modifier - 4) & 0xFFFF))
        }
        types::NUMERIC => (None, Some(10), None),
        _ => (None, None, None),
    }
}

const fn time_digits(kind: Oid) -> Option<i64> {
    match kind {
        types::DATE => Some(0),
        types::TIMESTAMP | types::TIMESTAMPTZ => Some(6),
        _ => None,
    }
}

/// Rows about one relation.
fn of_relation(world: &World, relation: &Relation, name: &str, maker: &mut Maker<'_>) {
    match name {
        "views" if relation.view.is_some() => {
            let mut row = place(world, relation.schema, &relation.name);
            row.extend([
                ("view_definition", definition(relation)),
                ("check_option", "NONE".into()),
                ("is_updatable", yes(false)),
                ("is_insertable_into", yes(false)),
                ("is_trigger_updatable", yes(false)),
                ("is_trigger_deletable", yes(false)),
                ("is_trigger_insertable_into", yes(false)),
            ]);
            maker.row(&row);
        }
        "table_privileges" | "role_table_grants" => {
            let owner = world.roles.get(&relation.owner).cloned();
            for privilege in PRIVILEGES {
                let mut row = place(world, relation.schema, &relation.name);
                row.extend([
                    ("grantor", owner.clone().into()),
                    ("grantee", owner.clone().into()),
                    ("privilege_type", privilege.into()),
                    ("is_grantable", yes(true)),
                    ("with_hierarchy", yes(privilege == "SELECT")),
                ]);
                maker.row(&row);
            }
        }
        "sequences" => {
            for sequence in &relation.sequences {
                sequence_row(world, relation, sequence, maker);
            }
        }
        "check_constraints" => {
            for check in &relation.checks {
                let mut row = of_constraint(world, relation, &check.name);
                row.push(("check_clause", format!("({})", check.text).into()));
                maker.row(&row);
            }
        }
        "referential_constraints" => references(world, relation, maker),
        _ => of_constraints(world, relation, name, maker),
    }
}

fn sequence_row(world: &World, relation: &Relation, sequence: &Sequence, maker: &mut Maker<'_>) {
    let (precision, radix, scale) = digits(sequence.kind, -1);
    maker.row(&[
        ("sequence_catalog", database(world)),
        ("sequence_schema", relation.schema.into()),
        ("sequence_name", sequence.name.as_str().into()),
        ("data_type", types::format(sequence.kind, -1).into()),
        ("numeric_precision", precision.into()),
        ("numeric_precision_radix", radix.into()),
        ("numeric_scale", scale.into()),
        ("start_value", "1".into()),
        ("minimum_value", "1".into()),
        ("maximum_value", text(&largest(sequence.kind)).into()),
        ("increment", "1".into()),
        ("cycle_option", yes(false)),
    ]);
}

/// Where a constraint is, and its table.
fn of_constraint(world: &World, relation: &Relation, name: &str) -> Vec<(&'static str, Datum)> {
    let mut row = place(world, relation.schema, &relation.name);
    row.extend([
        ("constraint_catalog", database(world)),
        ("constraint_schema", relation.schema.into()),
        ("constraint_name", name.into()),
    ]);
    row
}

fn references(world: &World, relation: &Relation, maker: &mut Maker<'_>) {
    for key in &relation.foreign {
        let mut row = of_constraint(world, relation, &key.name);
        let other = primary_of(world, key.table).map(|key| key.name.as_str());
        row.extend([
            ("unique_constraint_catalog", database(world)),
            ("unique_constraint_schema", relation.schema.into()),
            ("unique_constraint_name", other.into()),
            ("match_option", "NONE".into()),
            ("update_rule", deparse::rule(key.on_update).into()),
            ("delete_rule", deparse::rule(key.on_delete).into()),
        ]);
        maker.row(&row);
    }
}

/// Rows about constraints and the columns that they use.
fn of_constraints(world: &World, relation: &Relation, name: &str, maker: &mut Maker<'_>) {
    let mut constraint = |name: &str, kind: &str| {
        let mut row = of_constraint(world, relation, name);
        row.extend([
            ("constraint_type", kind.into()),
            ("is_deferrable", yes(false)),
            ("initially_deferred", yes(false)),
            ("enforced", yes(true)),
            ("nulls_distinct", if kind == "UNIQUE" { yes(true) } else { Datum::Null }),
        ]);
        maker.row(&row);
    };
    let keys = relation.keys.iter().filter(|key| key.constraint.is_some());
    if name == "table_constraints" {
        for key in keys {
            constraint(&key.name, if key.is_primary { "PRIMARY KEY" } else { "UNIQUE" });
        }
        relation.checks.iter().for_each(|check| constraint(&check.name, "CHECK"));
        relation.foreign.iter().for_each(|key| constraint(&key.name, "FOREIGN KEY"));
        return;
    }
    let mut used = |name: &str, of: &Relation, columns: &[usize], places: Option<&[usize]>| {
        for (column, number) in of.column_names(columns).into_iter().zip(1_usize..) {
            let mut row = of_constraint(world, relation, name);
            row.retain(|(column, _)| !column.starts_with("table_"));
            row.extend(place(world, of.schema, &of.name));
            let in_unique = places.map(|_| number);
            row.extend([
                ("column_name", column.into()),
                ("ordinal_position", number.into()),
                ("position_in_unique_constraint", in_unique.into()),
            ]);
            maker.row(&row);
        }
    };
    match name {
        "key_column_usage" => {
            keys.for_each(|key| used(&key.name, relation, &key.columns, None));
            for key in &relation.foreign {
                used(&key.name, relation, &key.columns, Some(&key.references));
            }
        }
        "constraint_column_usage" => {
            keys.for_each(|key| used(&key.name, relation, &key.columns, None));
            for check in &relation.checks {
                used(&check.name, relation, &check.columns, None);
            }
            for key in &relation.foreign {
                if let Some(other) = world.relation(key.table) {
                    used(&key.name, other, &key.references, None);
                }
            }
        }
        _ => {}
    }
}
