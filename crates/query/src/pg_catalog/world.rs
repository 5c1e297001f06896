//! What there is to tell: relations, roles and parameters as one statement sees them, each with its number.
//!
//! ```text
//!  number of a table's thing   16384 + (table − 16) · 1024 + part
//!    part   0 the table, 1 its key's index, 2 its key's constraint, 3 a view's rule
//!          64 + i index, 128 + i its constraint, 192 + i check, 256 + i foreign key, 512 + c default, 768 + c sequence
//!  of a stream, of a table of `quipu`, of a role   0x7000_0000 + a hash of its name
//! ```
//! Numbers follow from the ledger alone: every validator tells the same, at every time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use quipu_types::program::Expr;
use quipu_types::table::{
    Body, ForeignKey, IndexSpec, Reaction, TABLE_ID_FIRST, TableDef, TableSpec,
};
use quipu_types::{AccountId, ColumnType, ProcedureDef};

use super::procedures::Procedure;
use super::types::{self, Oid};
use super::value::Names;
use super::{deparse, types::by_name};

/// Numbers below are PostgreSQL's own.
const OID_FIRST: Oid = 16_384;
const PART_COUNT: Oid = 1_024;
pub(super) const KEY_INDEX: Oid = 1;
pub(super) const KEY_CONSTRAINT: Oid = 2;
pub(super) const RULE: Oid = 3;
const INDEX: Oid = 64;
const UNIQUE: Oid = 128;
const CHECK: Oid = 192;
const FOREIGN: Oid = 256;
pub(super) const DEFAULT: Oid = 512;
const SEQUENCE: Oid = 768;
const NAMED: Oid = 0x7000_0000;

/// The schemas, and their numbers: PostgreSQL's where it has them.
pub(super) const SCHEMAS: [(&str, Oid); 4] =
    [("pg_catalog", 11), ("public", 2200), ("information_schema", 13_246), ("quipu", 14_000)];
/// The database's number.
pub(super) const DATABASE_OID: Oid = 5;
/// Who owns what nobody made: PostgreSQL's role of that name.
pub(super) const NOBODY: (&str, Oid) = ("pg_database_owner", 6171);

/// A relation that PostgreSQL has.
#[derive(Debug)]
pub(super) struct SystemRelation {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) oid: Oid,
    pub(super) kind: &'static str,
    /// Name, type, whether it is never null.
    pub(super) columns: Vec<(&'static str, Oid, bool)>,
}

/// PostgreSQL's relations, by schema and name.
pub(super) static SYSTEM: LazyLock<BTreeMap<(&'static str, &'static str), SystemRelation>> =
    LazyLock::new(|| {
        let lines = include_str!("relations.txt").lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(system).map(|found| ((found.schema, found.name), found)).collect()
    });

fn system(line: &'static str) -> Option<SystemRelation> {
    let mut words = line.split(' ');
    let (schema, name) = words.next()?.split_once('.')?;
    let (oid, kind) = (words.next()?.parse().ok()?, words.next()?);
    let columns = words.filter_map(|word| {
        let (name, kind) = word.split_once(':')?;
        let (kind, not_null) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
        Some((name, by_name(kind).unwrap_or(types::TEXT), not_null))
    });
    Some(SystemRelation { schema, name, oid, kind, columns: columns.collect() })
}

/// A column of a relation.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Oid,
    pub(crate) modifier: i64,
    pub(crate) not_null: bool,
    pub(super) default: Option<String>,
    /// `a`, `d`, or nothing.
    pub(super) identity: &'static str,
}

impl Column {
    pub(crate) fn new(name: &str, kind: Oid, modifier: i64, not_null: bool) -> Self {
        Self { name: name.to_owned(), kind, modifier, not_null, default: None, identity: "" }
    }
}

/// An index, and the constraint that it serves.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) oid: Oid,
    pub(super) constraint: Option<Oid>,
    pub(super) name: String,
    /// 1-based.
    pub(super) columns: Vec<usize>,
    pub(super) is_unique: bool,
    pub(super) is_primary: bool,
}

/// A check.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) oid: Oid,
    pub(super) name: String,
    pub(super) text: String,
    /// 1-based.
    pub(super) columns: Vec<usize>,
}

/// A foreign key.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) oid: Oid,
    pub(super) name: String,
    /// 1-based, here and there.
    pub(super) columns: Vec<usize>,
    pub(super) references: Vec<usize>,
    pub(super) table: Oid,
    pub(super) on_delete: Reaction,
    pub(super) on_update: Reaction,
}

/// A sequence that numbers a column.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) oid: Oid,
    pub(super) name: String,
    /// 1-based.
    pub(super) column: usize,
    pub(super) kind: Oid,
}

/// A table, a view or a stream.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(super) oid: Oid,
    pub(super) schema: &'static str,
    pub(super) name: String,
    pub(super) owner: Oid,
    /// `r` or `v`.
    pub(super) kind: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) row_count: f64,
    pub(super) view: Option<String>,
    pub(super) keys: Vec<Key>,
    pub(super) checks: Vec<Check>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) sequences: Vec<Sequence>,
}

impl Relation {
    /// A stream, or a table of the ledger's own.
    pub(crate) fn plain(schema: &'static str, name: &str, columns: Vec<Column>) -> Self {
        Self {
            oid: named_oid(&format!("{schema}.{name}")),
            schema,
            name: name.to_owned(),
            owner: NOBODY.1,
            kind: "r",
            columns,
            row_count: -1.0,
            view: None,
            keys: Vec::new(),
            checks: Vec::new(),
            foreign: Vec::new(),
            sequences: Vec::new(),
        }
    }

    pub(super) fn column_names(&self, columns: &[usize]) -> Vec<&str> {
        let name = |column: &usize| self.columns.get(column.checked_sub(1)?);
        columns.iter().filter_map(name).map(|column| column.name.as_str()).collect()
    }
}

/// Everything that catalog queries tell of.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) search_path: Vec<String>,
    /// Parameters and their values.
    pub(crate) settings: Vec<(String, String)>,
    /// Roles by number.
    pub(super) roles: BTreeMap<Oid, String>,
    pub(super) relations: Vec<Relation>,
    pub(super) procedures: Vec<Procedure>,
    accounts: BTreeMap<AccountId, Oid>,
}

impl World {
    pub(crate) fn new(user: &str, roles: &BTreeMap<String, AccountId>) -> Self {
        let mut world = Self { user: user.to_owned(), ..Self::default() };
        for (name, account) in roles {
            let oid = named_oid(name);
            world.roles.insert(oid, name.clone());
            // Of several roles with one account, that of the session is shown.
            if name == user || !world.accounts.contains_key(account) {
                world.accounts.insert(*account, oid);
            }
        }
        world.roles.insert(named_oid(user), user.to_owned());
        world.roles.insert(NOBODY.1, NOBODY.0.to_owned());
        world
    }

    /// The account that the session's role has.
    pub(crate) fn own(&mut self, account: AccountId) {
        self.accounts.insert(account, named_oid(&self.user));
    }

    fn owner(&mut self, account: AccountId) -> Oid {
        let roles = &mut self.roles;
        *self.accounts.entry(account).or_insert_with(|| {
            let name = account.to_string();
            let oid = named_oid(&name);
            roles.insert(oid, name);
            oid
        })
    }

    pub(crate) fn add(&mut self, relation: Relation) {
        self.relations.push(relation);
    }

    /// Adds a procedure.
    pub(crate) fn define_procedure(&mut self, def: &ProcedureDef) {
        let owner = self.owner(def.creator);
        self.procedures.push(Procedure::new(def, owner));
    }

    pub(super) fn procedure(&self, oid: Oid) -> Option<&Procedure> {
        self.procedures.iter().find(|procedure| procedure.oid == oid)
    }

    /// Adds what is defined; `view` gives the columns of a view.
    pub(crate) fn define(
        &mut self,
        def: &TableDef,
        row_count: u64,
        all: &BTreeMap<u32, &TableDef>,
        view: impl FnOnce(&str) -> Vec<Column>,
    ) {
        let owner = self.owner(def.creator);
        let mut relation = Relation::plain("public", def.body.name(), Vec::new());
        (relation.oid, relation.owner) = (oid_of(def.id, 0), owner);
        match &def.body {
            Body::View { name, text } => {
                (relation.kind, relation.view) = ("v", Some(text.clone()));
                relation.columns = view(name);
                relation.columns.iter_mut().for_each(|column| column.not_null = false);
            }
            Body::Table(spec) => {
                relation.row_count = row_count.to_string().parse().unwrap_or(-1.0);
                relation.columns = columns_of(spec);
                relation.keys = keys_of(def.id, spec);
                let checks = spec.checks.iter().zip(CHECK..);
                relation.checks = checks
                    .map(|(check, part)| Check {
                        oid: oid_of(def.id, part),
                        name: check.name.clone(),
                        text: check.text.clone(),
                        columns: used_by(&check.expr),
                    })
                    .collect();
                let foreign = spec.foreign_keys.iter().zip(FOREIGN..);
                relation.foreign =
                    foreign.map(|(key, part)| foreign_of(def.id, key, part, all)).collect();
                relation.sequences = sequences_of(def.id, spec);
            }
        }
        self.relations.push(relation);
    }

    pub(super) fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.oid == oid)
    }

    /// The schemas that names are looked for in.
    pub(super) fn schemas(&self, with_system: bool) -> Vec<&str> {
        let own = self.search_path.iter().map(String::as_str);
        let own = own.filter(|name| SCHEMAS.iter().any(|(schema, _)| schema == name));
        let mut seen = BTreeSet::new();
        let system = with_system.then_some("pg_catalog");
        system.into_iter().chain(own).filter(|name| seen.insert(*name)).collect()
    }

    /// Schema, name and number of every relation, its indexes and sequences.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &str, Oid)> {
        let own = self.relations.iter().flat_map(|relation| {
            let schema = relation.schema;
            let keys = relation.keys.iter().map(move |key| (schema, key.name.as_str(), key.oid));
            let sequences = relation.sequences.iter();
            let sequences = sequences.map(move |found| (schema, found.name.as_str(), found.oid));
            std::iter::once((schema, relation.name.as_str(), relation.oid))
                .chain(keys)
                .chain(sequences)
        });
        own.chain(SYSTEM.values().map(|found| (found.schema, found.name, found.oid)))
    }

    /// Whether a relation is found without its schema.
    pub(super) fn is_visible(&self, oid: Oid) -> Option<bool> {
        let (schema, ..) = self.names().find(|(.., number)| *number == oid)?;
        Some(self.schemas(true).contains(&schema))
    }
}

impl Names for World {
    fn name_of(&self, alias: Oid, oid: Oid) -> Option<String> {
        match alias {
            types::REGCLASS => {
                let (schema, name, _) = self.names().find(|(.., number)| *number == oid)?;
                let is_visible = self.schemas(true).contains(&schema);
                let name = quoted(name);
                Some(if is_visible { name } else { format!("{}.{name}", quoted(schema)) })
            }
            types::REGTYPE => types::TYPES.get(&oid).map(|_| types::format(oid, -1)),
            types::REGNAMESPACE => schema_name(oid).map(quoted),
            types::REGROLE => self.roles.get(&oid).map(|name| quoted(name)),
            _ => {
                let own = || self.procedure(oid).map(|procedure| quoted(&procedure.name));
                types::FUNCTIONS.get(&oid).map(|name| (*name).to_owned()).or_else(own)
            }
        }
    }

    fn number_of(&self, alias: Oid, name: &str) -> Option<Oid> {
        let parts = parts_of(name);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [.., schema, name] => (Some(schema.as_str()), name.as_str()),
            [] => return None,
        };
        match alias {
            types::REGCLASS => {
                let path = schema.map_or_else(|| self.schemas(true), |schema| vec![schema]);
                path.iter().find_map(|schema| {
                    let mut names = self.names();
                    let found = names.find(|(known, own, _)| known == schema && *own == name);
                    found.map(|(.., oid)| oid)
                })
            }
            types::REGTYPE => {
                let (base, is_array) =
                    name.strip_suffix("[]").map_or((name, false), |base| (base, true));
                let oid = by_name(types::sql_name(base))?;
                Some(if is_array { types::array_of(oid) } else { oid })
            }
            types::REGNAMESPACE => schema_oid(name),
            types::REGROLE => {
                self.roles.iter().find(|(_, role)| *role == name).map(|(oid, _)| *oid)
            }
            _ => {
                let mut own = self.procedures.iter();
                let own = || own.find(|procedure| procedure.name == name).map(|found| found.oid);
                let found = types::FUNCTIONS.iter().find(|(_, known)| **known == name);
                found.map(|(oid, _)| *oid).or_else(own)
            }
        }
    }
}

/// The parts of a name with dots and quotes, folded as names are.
pub(super) fn parts_of(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in name.trim().chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(std::mem::take(&mut part)),
            ' ' if !is_quoted => {}
            other if is_quoted => part.push(other),
            other => part.extend(other.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

pub(super) fn schema_name(oid: Oid) -> Option<&'static str> {
    SCHEMAS.iter().find(|(_, number)| *number == oid).map(|(name, _)| *name)
}

pub(super) fn schema_oid(name: &str) -> Option<Oid> {
    SCHEMAS.iter().find(|(schema, _)| *schema == name).map(|(_, oid)| *oid)
}

/// A name as SQL must write it.
pub(super) fn quoted(name: &str) -> String {
    use datafusion::sql::sqlparser::keywords::{ALL_KEYWORDS, RESERVED_FOR_COLUMN_ALIAS};
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let upper = name.to_ascii_uppercase();
    let is_reserved = ALL_KEYWORDS.contains(&upper.as_str())
        && RESERVED_FOR_COLUMN_ALIAS.iter().any(|keyword| format!("{keyword:?}") == upper);
    if starts && name.chars().all(plain) && !is_reserved {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// The number of a part of what the ledger numbers `id`.
pub(super) fn oid_of(id: u32, part: Oid) -> Oid {
    let block = id.wrapping_sub(TABLE_ID_FIRST).wrapping_mul(PART_COUNT);
    OID_FIRST.wrapping_add(block).wrapping_add(part)
}

/// FNV-1a, 28 bits of it.
pub(crate) fn named_oid(name: &str) -> Oid {
    let hash = name
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    NAMED | (hash ^ (hash >> 28)) & 0x0FFF_FFFF
}

/// PostgreSQL's type of a column of the ledger, and its modifier.
pub(super) fn type_of(kind: ColumnType, length: u32, is_padded: bool) -> (Oid, i64) {
    let plain = |oid| (oid, -1);
    match kind {
        ColumnType::Bool => plain(types::BOOL),
        ColumnType::Int2 => plain(types::INT2),
        ColumnType::Int4 => plain(types::INT4),
        ColumnType::Int8 => plain(types::INT8),
        ColumnType::Numeric { precision, scale } => {
            (types::NUMERIC, (i64::from(precision) << 16) + i64::from(scale) + 4)
        }
        ColumnType::Text if length > 0 => {
            let oid = if is_padded { types::BPCHAR } else { types::VARCHAR };
            (oid, i64::from(length) + 4)
        }
        ColumnType::Text => plain(types::TEXT),
        ColumnType::Bytea => plain(types::BYTEA),
        ColumnType::Date => plain(types::DATE),
        ColumnType::Timestamptz => plain(types::TIMESTAMPTZ),
        ColumnType::Uuid => plain(types::UUID),
        ColumnType::Jsonb => plain(types::JSONB),
        ColumnType::Float8 => plain(types::FLOAT8),
        ColumnType::Timestamp => plain(types::TIMESTAMP),
    }
}

fn columns_of(spec: &TableSpec) -> Vec<Column> {
    use quipu_types::table::Identity;
    let columns = spec.schema.columns().iter().zip(&spec.options);
    columns
        .map(|(column, options)| {
            let (kind, modifier) = type_of(column.kind, options.length, options.is_padded);
            Column {
                name: column.name.clone(),
                kind,
                modifier,
                not_null: !column.nullable,
                default: options.default.as_ref().map(|default| deparse::default(default, kind)),
                identity: match options.identity {
                    Identity::Never => "",
                    Identity::ByDefault => "d",
                    Identity::Always => "a",
                },
            }
        })
        .collect()
}

fn places(columns: &[u16]) -> Vec<usize> {
    columns.iter().map(|column| usize::from(*column).saturating_add(1)).collect()
}

fn keys_of(id: u32, spec: &TableSpec) -> Vec<Key> {
    let mut keys = Vec::new();
    if !spec.primary_key.is_empty() {
        keys.push(Key {
            oid: oid_of(id, KEY_INDEX),
            constraint: Some(oid_of(id, KEY_CONSTRAINT)),
            name: spec.primary_key_name.clone(),
            columns: places(&spec.primary_key),
            is_unique: true,
            is_primary: true,
        });
    }
    let index = |(part, index): (Oid, &IndexSpec)| Key {
        oid: oid_of(id, INDEX.saturating_add(part)),
        constraint: index.is_unique.then(|| oid_of(id, UNIQUE.saturating_add(part))),
        name: index.name.clone(),
        columns: places(&index.columns),
        is_unique: index.is_unique,
        is_primary: false,
    };
    keys.extend((0..).zip(&spec.indexes).map(index));
    keys
}

/// The columns that an expression uses.
fn used_by(expr: &Expr) -> Vec<usize> {
    let mut used = BTreeSet::new();
    let mut rest = vec![expr];
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::Column(place) => {
                used.insert(usize::from(*place) + 1);
            }
            other => rest.extend(other.children()),
        }
    }
    used.into_iter().collect()
}

fn foreign_of(id: u32, key: &ForeignKey, part: Oid, all: &BTreeMap<u32, &TableDef>) -> Foreign {
    let other = all.get(&key.table).and_then(|def| def.table());
    Foreign {
        oid: oid_of(id, part),
        name: key.name.clone(),
        columns: places(&key.columns),
        references: other.map(|spec| places(&spec.primary_key)).unwrap_or_default(),
        table: oid_of(key.table, 0),
        on_delete: key.on_delete,
        on_update: key.on_update,
    }
}

fn sequences_of(id: u32, spec: &TableSpec) -> Vec<Sequence> {
    use quipu_types::table::Identity;
    let columns = spec.schema.columns().iter().zip(&spec.options).zip(1_usize..);
    let numbered = columns.filter(|((_, options), _)| options.identity != Identity::Never);
    numbered
        .zip(SEQUENCE..)
        .map(|(((column, _), place), part)| Sequence {
            oid: oid_of(id, part),
            name: format!("{}_{}_seq", spec.name, column.name),
            column: place,
            kind: type_of(column.kind, 0, false).0,
        })
        .collect()
}
