//! Rows of `pg_catalog`: each relation's from what the world says. One that is not named here is empty.

use super::deparse;
use super::procedures;
use super::types::{self, Oid, TypeRow};
use super::value::Datum;
use super::world::{
    Column, DATABASE_OID, DEFAULT, Key, NOBODY, RULE, Relation, SCHEMAS, SYSTEM, SystemRelation,
    World, schema_oid,
};

/// The access methods: of tables, of indexes.
const HEAP: Oid = 2;
const BTREE: Oid = 403;
const TABLESPACE: Oid = 1663;

pub(super) type Row = Vec<Datum>;

/// Rows of one relation, put together by the names of its columns.
pub(super) struct Maker<'a> {
    relation: &'a SystemRelation,
    pub(super) rows: Vec<Row>,
}

impl<'a> Maker<'a> {
    pub(super) const fn new(relation: &'a SystemRelation) -> Self {
        Self { relation, rows: Vec::new() }
    }

    /// A row; what is not named is null, or nothing where null is not allowed.
    pub(super) fn row(&mut self, values: &[(&str, Datum)]) {
        let columns = self.relation.columns.iter();
        let row = columns.map(|(name, kind, not_null)| {
            let said = values.iter().find(|(known, _)| known == name);
            let said = said.map(|(_, value)| value.clone());
            said.unwrap_or_else(|| if *not_null { nothing(*kind) } else { Datum::Null })
        });
        self.rows.push(row.collect());
    }
}

fn nothing(kind: Oid) -> Datum {
    match kind {
        types::BOOL => Datum::Bool(false),
        kind if types::is_float(kind) => Datum::Float(0.0),
        kind if types::is_integer(kind) => Datum::Int(0),
        kind if types::element_of(kind).is_some() => Datum::list([]),
        _ => Datum::text(""),
    }
}

fn vector(items: impl IntoIterator<Item = usize>) -> Datum {
    Datum::list(items.into_iter().map(Datum::from))
}

/// The rows of a relation of PostgreSQL's.
pub(super) fn rows(world: &World, relation: &SystemRelation) -> Vec<Row> {
    let mut maker = Maker::new(relation);
    if relation.schema == "information_schema" {
        super::standard::fill(world, relation.name, &mut maker);
        return maker.rows;
    }
    match relation.name {
        "pg_class" => classes(world, &mut maker),
        "pg_attribute" => attributes(world, &mut maker),
        "pg_attrdef" => defaults(world, &mut maker),
        "pg_index" => indexes(world, &mut maker),
        "pg_constraint" => constraints(world, &mut maker),
        "pg_sequence" => sequences(world, &mut maker),
        "pg_rewrite" => rules(world, &mut maker),
        "pg_type" => types::TYPES.values().for_each(|row| type_row(row, &mut maker)),
        "pg_proc" => {
            functions(&mut maker);
            procedures::rows(world, &mut maker);
        }
        _ => fixed(world, relation.name, &mut maker),
    }
    maker.rows
}

/// Relations of the cluster, and PostgreSQL's views.
fn fixed(world: &World, name: &str, maker: &mut Maker<'_>) {
    match name {
        "pg_namespace" => {
            for (name, oid) in SCHEMAS {
                maker.row(&[
                    ("oid", oid.into()),
                    ("nspname", name.into()),
                    ("nspowner", NOBODY.1.into()),
                ]);
            }
        }
        "pg_am" => {
            for (oid, name, kind) in [(HEAP, "heap", "t"), (BTREE, "btree", "i")] {
                maker.row(&[("oid", oid.into()), ("amname", name.into()), ("amtype", kind.into())]);
            }
        }
        "pg_tablespace" => {
            for (oid, name) in [(TABLESPACE, "pg_default"), (1664, "pg_global")] {
                maker.row(&[
                    ("oid", oid.into()),
                    ("spcname", name.into()),
                    ("spcowner", NOBODY.1.into()),
                ]);
            }
        }
        "pg_language" => {
            for (oid, name) in [(12_u32, "internal"), (14, "sql")] {
                let owner = NOBODY.1.into();
                maker.row(&[("oid", oid.into()), ("lanname", name.into()), ("lanowner", owner)]);
            }
        }
        "pg_collation" => {
            for (oid, name, provider) in [(100_u32, "default", "d"), (950, "C", "c")] {
                maker.row(&[
                    ("oid", oid.into()),
                    ("collname", name.into()),
                    ("collnamespace", 11.into()),
                    ("collowner", NOBODY.1.into()),
                    ("collprovider", provider.into()),
                    ("collisdeterministic", true.into()),
                    ("collencoding", (-1).into()),
                ]);
            }
        }
        "pg_database" | "pg_stat_database" | "pg_stat_activity" => database(world, name, maker),
        "pg_settings" => settings(world, maker),
        "pg_roles" | "pg_authid" | "pg_user" | "pg_shadow" => roles(world, name, maker),
        _ => views(world, name, maker),
    }
}

/// The one database and the one session.
fn database(world: &World, name: &str, maker: &mut Maker<'_>) {
    match name {
        "pg_database" => maker.row(&[
            ("oid", DATABASE_OID.into()),
            ("datname", world.database.as_str().into()),
            ("datdba", NOBODY.1.into()),
            ("encoding", 6.into()),
            ("datlocprovider", "c".into()),
            ("datallowconn", true.into()),
            ("datconnlimit", (-1).into()),
            ("dattablespace", TABLESPACE.into()),
            ("datcollate", "C".into()),
            ("datctype", "C.UTF-8".into()),
        ]),
        "pg_stat_database" => maker.row(&[
            ("datid", DATABASE_OID.into()),
            ("datname", world.database.as_str().into()),
            ("numbackends", 1.into()),
        ]),
        _ => maker.row(&[
            ("datid", DATABASE_OID.into()),
            ("datname", world.database.as_str().into()),
            ("pid", 0.into()),
            ("usesysid", super::world::named_oid(&world.user).into()),
            ("usename", world.user.as_str().into()),
            ("application_name", "".into()),
            ("state", "active".into()),
            ("backend_type", "client backend".into()),
        ]),
    }
}

fn settings(world: &World, maker: &mut Maker<'_>) {
    for (name, value) in &world.settings {
        maker.row(&[
            ("name", name.as_str().into()),
            ("setting", value.as_str().into()),
            ("category", "Client Connection Defaults".into()),
            ("short_desc", "".into()),
            ("context", "user".into()),
            ("vartype", "string".into()),
            ("source", "default".into()),
            ("boot_val", value.as_str().into()),
            ("reset_val", value.as_str().into()),
            ("pending_restart", false.into()),
        ]);
    }
}

fn roles(world: &World, relation: &str, maker: &mut Maker<'_>) {
    for (oid, name) in &world.roles {
        let can_log_in = *oid != NOBODY.1;
        if relation == "pg_user" || relation == "pg_shadow" {
            if can_log_in {
                maker.row(&[
                    ("usename", name.as_str().into()),
                    ("usesysid", (*oid).into()),
                    ("usecreatedb", false.into()),
                    ("usesuper", false.into()),
                    ("userepl", false.into()),
                    ("usebypassrls", false.into()),
                    ("passwd", "********".into()),
                ]);
            }
            continue;
        }
        maker.row(&[
            ("oid", (*oid).into()),
            ("rolname", name.as_str().into()),
            ("rolsuper", false.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", false.into()),
            ("rolcreatedb", false.into()),
            ("rolcanlogin", can_log_in.into()),
            ("rolreplication", false.into()),
            ("rolbypassrls", false.into()),
            ("rolconnlimit", (-1).into()),
            ("rolpassword", "********".into()),
        ]);
    }
}

fn views(world: &World, name: &str, maker: &mut Maker<'_>) {
    let owner = |relation: &Relation| Datum::from(world.roles.get(&relation.owner).cloned());
    for relation in &world.relations {
        let place = [
            ("schemaname", Datum::from(relation.schema)),
            ("relname", relation.name.as_str().into()),
            ("tablename", relation.name.as_str().into()),
            ("relid", relation.oid.into()),
        ];
        let is_table = relation.kind == "r";
        let with = |more: &[(&'static str, Datum)]| [place.as_slice(), more].concat();
        match name {
            "pg_tables" if is_table => maker.row(&with(&[
                ("tableowner", owner(relation)),
                ("hasindexes", (!relation.keys.is_empty()).into()),
                ("hasrules", false.into()),
                ("hastriggers", false.into()),
                ("rowsecurity", false.into()),
            ])),
            "pg_views" if !is_table => maker.row(&with(&[
                ("viewname", relation.name.as_str().into()),
                ("viewowner", owner(relation)),
                ("definition", definition(relation)),
            ])),
            "pg_stat_user_tables" | "pg_stat_all_tables" | "pg_stat_xact_user_tables"
                if is_table =>
            {
                let count = Datum::Float(relation.row_count.max(0.0));
                let count = super::value::cast(&count, types::FLOAT8, types::INT8, world);
                let zeros = ["seq_scan", "seq_tup_read", "n_tup_ins", "n_tup_upd", "n_tup_del"];
                let mut more = vec![("n_live_tup", count.unwrap_or(Datum::Null))];
                more.extend(zeros.map(|column| (column, 0.into())));
                more.push(("n_dead_tup", 0.into()));
                maker.row(&with(&more));
            }
            "pg_statio_user_tables" | "pg_statio_all_tables" if is_table => {
                maker.row(&with(&[("heap_blks_read", 0.into()), ("heap_blks_hit", 0.into())]));
            }
            "pg_indexes" => {
                for key in &relation.keys {
                    maker.row(&with(&[
                        ("indexname", key.name.as_str().into()),
                        ("indexdef", deparse::index(relation, key, 0).into()),
                    ]));
                }
            }
            "pg_stat_user_indexes" | "pg_stat_all_indexes" | "pg_statio_user_indexes" => {
                for key in &relation.keys {
                    maker.row(&with(&[
                        ("indexrelid", key.oid.into()),
                        ("indexrelname", key.name.as_str().into()),
                        ("idx_scan", 0.into()),
                    ]));
                }
            }
            "pg_sequences" => numbered(relation, &owner(relation), maker),
            _ => {}
        }
    }
}

/// Rows of `pg_sequences`.
fn numbered(relation: &Relation, owner: &Datum, maker: &mut Maker<'_>) {
    for sequence in &relation.sequences {
        maker.row(&[
            ("schemaname", relation.schema.into()),
            ("sequencename", sequence.name.as_str().into()),
            ("sequenceowner", owner.clone()),
            ("data_type", sequence.kind.into()),
            ("start_value", 1.into()),
            ("min_value", 1.into()),
            ("max_value", largest(sequence.kind)),
            ("increment_by", 1.into()),
            ("cycle", false.into()),
            ("cache_size", 1.into()),
        ]);
    }
}

/// A view's query.
pub(super) fn definition(relation: &Relation) -> Datum {
    relation.view.as_ref().map(|text| format!(" {text};")).into()
}

/// The largest number of an integer type.
pub(super) fn largest(kind: Oid) -> Datum {
    match kind {
        types::INT2 => i64::from(i16::MAX),
        types::INT4 => i64::from(i32::MAX),
        _ => i64::MAX,
    }
    .into()
}

fn classes(world: &World, maker: &mut Maker<'_>) {
    let mut class = |oid: Oid, schema: &str, name: &str, owner: Oid, kind: &str, more: &[_]| {
        let (am, replica) = match kind {
            "r" => (HEAP, "d"),
            "i" => (BTREE, "n"),
            _ => (0, "n"),
        };
        let common = [
            ("oid", oid.into()),
            ("relname", name.into()),
            ("relnamespace", schema_oid(schema).into()),
            ("relowner", owner.into()),
            ("relam", am.into()),
            ("relfilenode", if kind == "v" { 0.into() } else { oid.into() }),
            ("relpersistence", "p".into()),
            ("relkind", kind.into()),
            ("relispopulated", true.into()),
            ("relreplident", replica.into()),
        ];
        maker.row(&[common.as_slice(), more].concat());
    };
    for relation in SYSTEM.values() {
        let more = [("relnatts", relation.columns.len().into())];
        class(relation.oid, relation.schema, relation.name, NOBODY.1, relation.kind, &more);
    }
    for relation in &world.relations {
        let (schema, owner) = (relation.schema, relation.owner);
        let more = [
            ("relnatts", relation.columns.len().into()),
            ("relchecks", relation.checks.len().into()),
            ("relhasindex", (!relation.keys.is_empty()).into()),
            ("relhasrules", relation.view.is_some().into()),
            // Foreign keys are triggers for PostgreSQL.
            ("relhastriggers", refers(world, relation).into()),
            ("reltuples", Datum::Float(relation.row_count)),
        ];
        class(relation.oid, schema, &relation.name, owner, relation.kind, &more);
        for key in &relation.keys {
            let more = [
                ("relnatts", key.columns.len().into()),
                ("reltuples", Datum::Float(relation.row_count)),
            ];
            class(key.oid, schema, &key.name, owner, "i", &more);
        }
        for sequence in &relation.sequences {
            let more = [("relnatts", 3.into()), ("reltuples", Datum::Float(1.0))];
            class(sequence.oid, schema, &sequence.name, owner, "S", &more);
        }
    }
}

/// Whether a foreign key begins or ends here.
fn refers(world: &World, relation: &Relation) -> bool {
    let mut all = world.relations.iter().flat_map(|other| &other.foreign);
    !relation.foreign.is_empty() || all.any(|key| key.table == relation.oid)
}

fn attributes(world: &World, maker: &mut Maker<'_>) {
    let mut attribute = |relation: Oid, place: usize, column: &Column| {
        let Some(kind) = types::TYPES.get(&column.kind) else { return };
        maker.row(&[
            ("attrelid", relation.into()),
            ("attname", column.name.as_str().into()),
            ("atttypid", column.kind.into()),
            ("attstattarget", (-1).into()),
            ("attlen", kind.size.into()),
            ("attnum", place.into()),
            ("attndims", i64::from(kind.category == "A").into()),
            ("attcacheoff", (-1).into()),
            ("atttypmod", column.modifier.into()),
            ("attbyval", kind.by_value.into()),
            ("attalign", kind.alignment.into()),
            ("attstorage", kind.storage.into()),
            ("attnotnull", column.not_null.into()),
            ("atthasdef", column.default.is_some().into()),
            ("attidentity", column.identity.into()),
            ("attislocal", true.into()),
            ("attcollation", kind.collation.into()),
        ]);
    };
    for relation in SYSTEM.values() {
        for ((name, kind, not_null), place) in relation.columns.iter().zip(1..) {
            attribute(relation.oid, place, &Column::new(name, *kind, -1, *not_null));
        }
    }
    for relation in &world.relations {
        for (column, place) in relation.columns.iter().zip(1..) {
            attribute(relation.oid, place, column);
        }
        for key in &relation.keys {
            for (column, place) in key.columns.iter().zip(1..) {
                let of_table = column.checked_sub(1).and_then(|place| relation.columns.get(place));
                let Some(of_table) = of_table else { continue };
                let Column { name, kind, modifier, .. } = of_table;
                attribute(key.oid, place, &Column::new(name, *kind, *modifier, false));
            }
        }
    }
}

fn defaults(world: &World, maker: &mut Maker<'_>) {
    for relation in &world.relations {
        for ((column, place), part) in relation.columns.iter().zip(1_usize..).zip(DEFAULT..) {
            if let Some(default) = &column.default {
                maker.row(&[
                    ("oid", relation.oid.wrapping_add(part).into()),
                    ("adrelid", relation.oid.into()),
                    ("adnum", place.into()),
                    ("adbin", default.as_str().into()),
                ]);
            }
        }
    }
}

/// The operator class of an index over a type.
const fn class_of(kind: Oid) -> Oid {
    match kind {
        types::BOOL => 424,
        types::BYTEA => 428,
        types::DATE => 3122,
        types::INT2 => 1979,
        types::INT4 => 1978,
        types::INT8 => 3124,
        types::NUMERIC => 3125,
        types::TIMESTAMP => 3128,
        types::TIMESTAMPTZ => 3127,
        types::UUID => 2968,
        types::JSONB => 4033,
        types::BPCHAR => 426,
        _ => 3126,
    }
}

fn indexes(world: &World, maker: &mut Maker<'_>) {
    for relation in &world.relations {
        let kind = |column: &usize| {
            let column = column.checked_sub(1).and_then(|place| relation.columns.get(place));
            column.map_or(types::TEXT, |column| column.kind)
        };
        for key in &relation.keys {
            let count = key.columns.len();
            let collations = key.columns.iter().map(|column| {
                let row = types::TYPES.get(&kind(column));
                Datum::from(row.map_or(0, |row| row.collation))
            });
            maker.row(&[
                ("indexrelid", key.oid.into()),
                ("indrelid", relation.oid.into()),
                ("indnatts", count.into()),
                ("indnkeyatts", count.into()),
                ("indisunique", key.is_unique.into()),
                ("indisprimary", key.is_primary.into()),
                ("indimmediate", true.into()),
                ("indisvalid", true.into()),
                ("indisready", true.into()),
                ("indislive", true.into()),
                ("indkey", vector(key.columns.iter().copied())),
                ("indcollation", Datum::list(collations)),
                ("indclass", Datum::list(key.columns.iter().map(|c| class_of(kind(c)).into()))),
                ("indoption", vector(key.columns.iter().map(|_| 0))),
            ]);
        }
    }
}

fn constraints(world: &World, maker: &mut Maker<'_>) {
    for relation in &world.relations {
        let mut constraint = |oid: Oid, name: &str, kind: &str, more: &[(&str, Datum)]| {
            let common = [
                ("oid", oid.into()),
                ("conname", name.into()),
                ("connamespace", schema_oid(relation.schema).into()),
                ("contype", kind.into()),
                ("convalidated", true.into()),
                ("conrelid", relation.oid.into()),
                ("conislocal", true.into()),
                ("confupdtype", " ".into()),
                ("confdeltype", " ".into()),
                ("confmatchtype", " ".into()),
            ];
            let said = |name: &str| more.iter().any(|(known, _)| *known == name);
            let common = common.into_iter().filter(|(name, _)| !said(name));
            maker.row(&common.chain(more.iter().cloned()).collect::<Vec<_>>());
        };
        for key in &relation.keys {
            let Some(oid) = key.constraint else { continue };
            let kind = if key.is_primary { "p" } else { "u" };
            let columns = vector(key.columns.iter().copied());
            let more =
                [("conindid", key.oid.into()), ("conkey", columns), ("connoinherit", true.into())];
            constraint(oid, &key.name, kind, &more);
        }
        for check in &relation.checks {
            let columns = vector(check.columns.iter().copied());
            let more = [("conbin", check.text.as_str().into()), ("conkey", columns)];
            constraint(check.oid, &check.name, "c", &more);
        }
        for key in &relation.foreign {
            let more = [
                ("conindid", primary_of(world, key.table).map(|key| key.oid).unwrap_or(0).into()),
                ("confrelid", key.table.into()),
                ("conkey", vector(key.columns.iter().copied())),
                ("confkey", vector(key.references.iter().copied())),
                ("confupdtype", deparse::letter(key.on_update).into()),
                ("confdeltype", deparse::letter(key.on_delete).into()),
                ("confmatchtype", "s".into()),
                ("connoinherit", true.into()),
            ];
            constraint(key.oid, &key.name, "f", &more);
        }
    }
}

/// The primary key of a table.
pub(super) fn primary_of(world: &World, table: Oid) -> Option<&Key> {
    world.relation(table)?.keys.iter().find(|key| key.is_primary)
}

fn sequences(world: &World, maker: &mut Maker<'_>) {
    for sequence in world.relations.iter().flat_map(|relation| &relation.sequences) {
        maker.row(&[
            ("seqrelid", sequence.oid.into()),
            ("seqtypid", sequence.kind.into()),
            ("seqstart", 1.into()),
            ("seqincrement", 1.into()),
            ("seqmax", largest(sequence.kind)),
            ("seqmin", 1.into()),
            ("seqcache", 1.into()),
        ]);
    }
}

fn rules(world: &World, maker: &mut Maker<'_>) {
    for relation in world.relations.iter().filter(|relation| relation.view.is_some()) {
        maker.row(&[
            ("oid", relation.oid.wrapping_add(RULE).into()),
            ("rulename", "_RETURN".into()),
            ("ev_class", relation.oid.into()),
            ("ev_type", "1".into()),
            ("ev_enabled", "O".into()),
            ("is_instead", true.into()),
        ]);
    }
}

fn type_row(row: &TypeRow, maker: &mut Maker<'_>) {
    let [input, output, receive, send] = row.functions.map(|(_, oid)| Datum::from(oid));
    // Arrays are subscripted by a function of their own.
    let subscript = if row.category == "A" { 6179 } else { 0 };
    maker.row(&[
        ("oid", row.oid.into()),
        ("typname", row.name.into()),
        ("typnamespace", 11.into()),
        ("typowner", NOBODY.1.into()),
        ("typlen", row.size.into()),
        ("typbyval", row.by_value.into()),
        ("typtype", row.kind.into()),
        ("typcategory", row.category.into()),
        ("typispreferred", row.is_preferred.into()),
        ("typisdefined", true.into()),
        ("typdelim", row.delimiter.into()),
        ("typsubscript", subscript.into()),
        ("typelem", row.element.into()),
        ("typarray", row.array.into()),
        ("typinput", input),
        ("typoutput", output),
        ("typreceive", receive),
        ("typsend", send),
        ("typalign", row.alignment.into()),
        ("typstorage", row.storage.into()),
        ("typtypmod", (-1).into()),
        ("typcollation", row.collation.into()),
    ]);
}

fn functions(maker: &mut Maker<'_>) {
    for (oid, name) in types::FUNCTIONS.iter() {
        maker.row(&[
            ("oid", (*oid).into()),
            ("proname", (*name).into()),
            ("pronamespace", 11.into()),
            ("proowner", NOBODY.1.into()),
            ("prolang", 12.into()),
            ("prokind", "f".into()),
            ("proisstrict", true.into()),
            ("provolatile", "i".into()),
            ("proparallel", "s".into()),
            ("prosrc", (*name).into()),
        ]);
    }
}
