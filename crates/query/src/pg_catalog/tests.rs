//! Questions as clients ask them, over a world with two tables and a view.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use quipu_types::program::{Binary, Expr};
use quipu_types::table::{
    Body, CheckSpec, ColumnOptions, ForeignKey, Identity, IndexSpec, Reaction, TableDef,
};
use quipu_types::{AccountId, Column, ColumnType, Height, Schema, TableSpec, Value, Writers};

use super::*;

fn table(id: u32, spec: TableSpec) -> TableDef {
    let creator = AccountId([7; 32]);
    let body = Body::Table(spec);
    TableDef { id, creator, version: Height::new(1), body, referenced_by: Vec::new() }
}

fn spec(name: &str, columns: &[(&str, ColumnType, bool)]) -> TableSpec {
    let schema = columns.iter().map(|(name, kind, nullable)| Column {
        name: (*name).to_owned(),
        kind: *kind,
        nullable: *nullable,
    });
    TableSpec {
        name: name.to_owned(),
        schema: Schema::new(schema.collect()).unwrap(),
        options: vec![ColumnOptions::default(); columns.len()],
        primary_key: vec![0],
        primary_key_name: format!("{name}_pkey"),
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        writers: Writers::Creator,
    }
}

fn world() -> World {
    let city = spec("city", &[("id", ColumnType::Int4, false), ("name", ColumnType::Text, false)]);
    let price = ColumnType::Numeric { precision: 12, scale: 2 };
    let mut person = spec(
        "person",
        &[
            ("id", ColumnType::Int8, false),
            ("code", ColumnType::Text, true),
            ("price", price, true),
            ("ref", ColumnType::Uuid, true),
            ("city", ColumnType::Int4, true),
        ],
    );
    person.options[0].identity = Identity::ByDefault;
    person.options[1].length = 8;
    person.options[2].default = Some(Expr::Const(price, Value::Numeric(50)));
    let index =
        |name: &str, columns, is_unique| IndexSpec { name: name.into(), columns, is_unique };
    person.indexes = vec![index("by_city", vec![4, 1], false), index("one_code", vec![1], true)];
    let zero = Box::new(Expr::Const(ColumnType::Int8, Value::Int8(0)));
    let expr = Expr::Binary(Binary::Greater, Box::new(Expr::Column(0)), zero);
    person.checks = vec![CheckSpec { name: "positive".into(), expr, text: "id > 0".into() }];
    let (on_delete, on_update) = (Reaction::Cascade, Reaction::Refuse);
    let (name, columns) = ("lives_in".into(), vec![4]);
    person.foreign_keys = vec![ForeignKey { name, columns, table: 16, on_delete, on_update }];
    let view = Body::View { name: "old".into(), text: "SELECT id FROM person".into() };
    let defs = [
        table(16, city),
        table(17, person),
        TableDef { body: view, ..table(18, spec("v", &[("a", ColumnType::Int4, false)])) },
    ];
    let all: BTreeMap<u32, &TableDef> = defs.iter().map(|def| (def.id, def)).collect();
    let roles = BTreeMap::from([("ada".to_owned(), AccountId([7; 32]))]);
    let mut world = World::new("ada", &roles);
    world.database = "quipu".into();
    world.search_path = vec!["$user".into(), "public".into()];
    for def in &defs {
        world.define(def, 3, &all, |_| vec![RelationColumn::new("id", types::INT8, -1, true)]);
    }
    world
}

fn statement(text: &str) -> Statement {
    Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0)
}

/// What is answered, with the types of the columns.
fn told(text: &str) -> Result<String, SqlError> {
    let (world, statement) = (world(), statement(text));
    assert!(wants(&statement), "{text}");
    let (columns, parameters) = describe(&world, &statement, &[])?;
    let answer = answer(&world, &statement, &parameters, &[], 0)?;
    let head: Vec<String> =
        columns.iter().map(|column| format!("{} {}", column.name, column.pg_type.name())).collect();
    let mut rows = Vec::new();
    wire::text_rows(&answer.batch, &columns, &mut rows)?;
    let mut out = head.join(", ");
    for row in rows {
        let row: Vec<String> = row.into_iter().map(|value| value.unwrap_or("-".into())).collect();
        out.push('\n');
        out.push_str(&row.join(" | "));
    }
    Ok(out)
}

fn ask(text: &str, wanted: Expect) {
    let said = told(text).unwrap_or_else(|error| format!("{}: {error}", error.sqlstate));
    wanted.assert_eq(&said);
}

#[test]
fn columns_have_their_types_defaults_and_identity() {
    ask(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
            (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
         FROM pg_attribute a WHERE a.attrelid = 'public.person'::regclass AND a.attnum > 0 ORDER BY a.attnum",
        expect![[r#"
            attname name, format_type text, attnotnull bool, attidentity char, pg_get_expr text
            id | bigint | t | d | -
            code | character varying(8) | f |  | -
            price | numeric(12,2) | f |  | 0.50
            ref | uuid | f |  | -
            city | integer | f |  | -"#]],
    );
}

#[test]
fn constraints_and_indexes_are_written_as_postgresql_writes_them() {
    ask(
        "select conname, contype, conkey, confrelid::regclass, pg_get_constraintdef(oid) from pg_constraint
         where conrelid = 'person'::regclass order by conname",
        expect![[r#"
            conname name, contype char, conkey _int2, confrelid regclass, pg_get_constraintdef text
            lives_in | f | {5} | city | FOREIGN KEY (city) REFERENCES city(id) ON DELETE CASCADE
            one_code | u | {2} | - | UNIQUE (code)
            person_pkey | p | {1} | - | PRIMARY KEY (id)
            positive | c | {1} | - | CHECK ((id > 0))"#]],
    );
    ask(
        "select i.indexrelid::regclass, i.indkey, k.n, pg_get_indexdef(i.indexrelid, k.n::int, true) from pg_index i
         cross join lateral unnest(i.indkey) with ordinality as k(attnum, n) where i.indrelid = 'person'::regclass order by 1::text, 3",
        expect![[r#"
            indexrelid regclass, indkey int2vector, n int8, pg_get_indexdef text
            person_pkey | 1 | 1 | id
            by_city | 5 2 | 1 | city
            one_code | 2 | 1 | code
            by_city | 5 2 | 2 | code"#]],
    );
}

#[test]
fn what_no_planner_of_tables_has_is_answered() {
    ask(
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3)
         select array_agg(n order by n desc), count(*) filter (where n > 1), (array[7, 8])[2], array(select n from r)
         from r join pg_am on amname = 'heap'",
        expect![[r#"
            array_agg _int4, count int8, array int4, array _int4
            {3,2,1} | 2 | 8 | {1,2,3}"#]],
    );
}

#[test]
fn what_is_not_there_has_postgresqls_sqlstates() {
    for (text, sqlstate) in [
        ("select 'nobody'::regclass", "42P01"),
        ("select nothing from pg_class", "42703"),
        ("select pg_table_is_visible(oid, 1, 2) from pg_class", "42883"),
        ("select oid = 'x' from pg_class", "22P02"),
        ("select oid = relname from pg_class", "42883"),
        ("select (select oid from pg_class) from pg_namespace", "21000"),
        ("select count(*) from pg_type a, pg_type b, pg_type c, pg_type d, pg_type e", "54000"),
    ] {
        assert_eq!(told(text).unwrap_err().sqlstate, sqlstate, "{text}");
    }
}

#[test]
fn only_what_names_the_catalog_alone_comes_here() {
    for (text, wanted) in [
        ("select * from pg_class", true),
        ("select * from information_schema.tables", true),
        ("select current_schema(), version()", true),
        ("select 't'::regclass", true),
        ("select 1", false),
        ("select now()", false),
        ("select * from t", false),
        ("select * from t, pg_class", false),
        ("select * from quipu.headers", false),
        ("with x as (select 1) select * from x, pg_class", true),
        ("select no_such_function(version())", false),
    ] {
        assert_eq!(wants(&statement(text)), wanted, "{text}");
    }
}

#[test]
fn every_relation_is_there_with_its_columns() {
    for relation in world::SYSTEM.values() {
        let text = format!("select * from {}.{}", relation.schema, relation.name);
        let said = told(&text).unwrap();
        let head = said.lines().next().unwrap();
        assert_eq!(head.split(", ").count(), relation.columns.len(), "{text}: {head}");
    }
}

proptest! {
    /// C2: no two things of one table have one number.
    #[test]
    fn numbers_differ(a in 16_u32..100_000, b in 16_u32..100_000, part in 0_u32..1_024, other in 0_u32..1_024) {
        let is_same = (a, part) == (b, other);
        prop_assert_eq!(world::oid_of(a, part) == world::oid_of(b, other), is_same);
    }
}
