//! Functions that clients call when they read the catalog: names, arguments, results, and what they do.

use quipu_types::code;

use super::run::Env;
use super::tables::Row;
use super::types::{self, Oid, *};
use super::value::{self, Datum, Names as _};
use super::world::{self, Relation, World, quoted, schema_oid};
use super::{deparse, eval};
use crate::error::SqlError;

/// Any type at all.
pub(super) const ANY: Oid = 2276;
/// Any array.
pub(super) const ANYARRAY: Oid = 2277;
/// What the first argument is, or its elements are.
pub(super) const ANYELEMENT: Oid = 2283;

type Value = Result<Datum, SqlError>;

/// A function of one value.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [Oid],
    /// How many it needs.
    pub(super) required: usize,
    /// More of the last.
    pub(super) is_open: bool,
    pub(super) result: Oid,
    pub(super) is_strict: bool,
    /// Whether it tells of the catalog or the session: a query that calls it is one of the catalog.
    pub(super) is_own: bool,
    pub(super) run: fn(&Env<'_>, &[Datum]) -> Value,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A function of several rows.
pub(super) struct SetFunction {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [Oid],
    /// Names and types of its columns.
    pub(super) columns: &'static [(&'static str, Oid)],
    /// The arguments, and the type of the first.
    pub(super) run: fn(&[Datum], Oid) -> Result<Vec<Datum>, SqlError>,
}

impl std::fmt::Debug for SetFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

type Run = fn(&Env<'_>, &[Datum]) -> Value;

/// A function that tells of the catalog or the session.
const fn own(name: &'static str, arguments: &'static [Oid], result: Oid, run: Run) -> Function {
    let required = arguments.len();
    Function {
        name,
        arguments,
        required,
        is_open: false,
        result,
        is_strict: true,
        is_own: true,
        run,
    }
}

/// One of text, numbers and arrays.
const fn plain(name: &'static str, arguments: &'static [Oid], result: Oid, run: Run) -> Function {
    Function { is_own: false, ..own(name, arguments, result, run) }
}

impl Function {
    const fn needs(self, required: usize) -> Self {
        Self { required, ..self }
    }

    const fn open(self) -> Self {
        Self { is_open: true, is_strict: false, ..self }
    }

    const fn lax(self) -> Self {
        Self { is_strict: false, ..self }
    }
}

fn yes(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok(true.into())
}

fn no(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok(false.into())
}

fn none(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok(Datum::Null)
}

fn zero(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok(0.into())
}

fn empty(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok("".into())
}

fn user(env: &Env<'_>, _: &[Datum]) -> Value {
    Ok(env.world.user.as_str().into())
}

fn database(env: &Env<'_>, _: &[Datum]) -> Value {
    Ok(env.world.database.as_str().into())
}

fn now(env: &Env<'_>, _: &[Datum]) -> Value {
    Ok(env.now.into())
}

fn first(arguments: &[Datum]) -> &Datum {
    arguments.first().unwrap_or(&Datum::Null)
}

fn nth(arguments: &[Datum], place: usize) -> &Datum {
    arguments.get(place).unwrap_or(&Datum::Null)
}

fn oid_at(arguments: &[Datum], place: usize) -> Oid {
    nth(arguments, place).as_oid().unwrap_or_default()
}

fn is_visible(env: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(env.world.is_visible(oid_at(arguments, 0)).into())
}

/// An identity: definitions are kept as they are shown.
fn shown(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(first(arguments).clone())
}

fn format_type(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let modifier = nth(arguments, 1).int().unwrap_or(-1);
    Ok(first(arguments).as_oid().map(|oid| types::format(oid, modifier)).into())
}

fn index_of(world: &World, oid: Oid) -> Option<(&Relation, &world::Key)> {
    let mut keys = world
        .relations
        .iter()
        .flat_map(|relation| relation.keys.iter().map(move |key| (relation, key)));
    keys.find(|(_, key)| key.oid == oid)
}

fn index_def(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let column = nth(arguments, 1).int().and_then(|column| usize::try_from(column).ok());
    let found = index_of(env.world, oid_at(arguments, 0));
    Ok(found.map(|(table, key)| deparse::index(table, key, column.unwrap_or(0))).into())
}

fn constraint_def(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let (oid, is_pretty) = (oid_at(arguments, 0), nth(arguments, 1).is_true());
    let found = env.world.relations.iter().find_map(|table| {
        let key = table.keys.iter().find(|key| key.constraint == Some(oid));
        let key = key.map(|key| deparse::key(table, key));
        let check = || {
            let check = table.checks.iter().find(|check| check.oid == oid)?;
            Some(deparse::check(&check.text, is_pretty))
        };
        let foreign = || {
            let foreign = table.foreign.iter().find(|foreign| foreign.oid == oid)?;
            Some(deparse::foreign(table, foreign, env.world))
        };
        key.or_else(check).or_else(foreign)
    });
    Ok(found.into())
}

fn view_def(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let oid = match first(arguments) {
        Datum::Text(name) => env.world.number_of(REGCLASS, name).unwrap_or_default(),
        other => other.as_oid().unwrap_or_default(),
    };
    let view = |relation: &&Relation| relation.oid == oid || relation.oid + world::RULE == oid;
    let found = env.world.relations.iter().find(view);
    Ok(found.map_or(Datum::Null, super::tables::definition))
}

fn function_def(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let found = env.world.procedure(oid_at(arguments, 0));
    Ok(found.map(|procedure| procedure.definition()).into())
}

fn function_arguments(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let found = env.world.procedure(oid_at(arguments, 0));
    Ok(found.map(|procedure| procedure.arguments(true)).into())
}

fn function_identity(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let found = env.world.procedure(oid_at(arguments, 0));
    Ok(found.map(|procedure| procedure.arguments(false)).into())
}

fn serial_sequence(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let table = env.world.number_of(REGCLASS, first(arguments).str());
    let table = table.and_then(|oid| env.world.relation(oid));
    let found = table.and_then(|table| {
        let mut sequences = table.sequences.iter();
        let sequence = sequences
            .find(|sequence| table.column_names(&[sequence.column]) == [nth(arguments, 1).str()])?;
        Some(format!("{}.{}", quoted(table.schema), quoted(&sequence.name)))
    });
    Ok(found.into())
}

fn role_name(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let oid = oid_at(arguments, 0);
    let name = env.world.roles.get(&oid).cloned();
    Ok(name.unwrap_or_else(|| format!("unknown (OID={oid})")).into())
}

fn encoding_name(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(match first(arguments).int() {
        Some(6) => "UTF8",
        Some(0) => "SQL_ASCII",
        _ => "",
    }
    .into())
}

fn encoding(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok("UTF8".into())
}

fn encoding_number(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let name = first(arguments).str().to_lowercase();
    Ok(if matches!(name.as_str(), "utf8" | "utf-8") { 6 } else { -1 }.into())
}

fn schema(env: &Env<'_>, _: &[Datum]) -> Value {
    Ok(env.world.schemas(false).first().copied().into())
}

fn schemas(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let names = env.world.schemas(first(arguments).is_true());
    Ok(Datum::list(names.into_iter().map(Datum::from)))
}

fn setting(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let name = first(arguments).str();
    let set = env.set.borrow();
    if let Some((_, value)) = set.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(value.as_str().into());
    }
    let mut settings = env.world.settings.iter();
    match settings.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, value)) => Ok(value.as_str().into()),
        None if nth(arguments, 1).is_true() => Ok(Datum::Null),
        None => {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            Err(SqlError::new("42704", code::SQL_SYNTAX, message))
        }
    }
}

fn set_setting(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let (name, value) = (first(arguments).str(), nth(arguments, 1).str());
    env.set.borrow_mut().push((name.to_owned(), value.to_owned()));
    Ok(value.into())
}

fn alias(env: &Env<'_>, arguments: &[Datum], kind: Oid) -> Value {
    Ok(env.world.number_of(kind, first(arguments).str()).into())
}

fn to_class(env: &Env<'_>, arguments: &[Datum]) -> Value {
    alias(env, arguments, REGCLASS)
}

fn to_type(env: &Env<'_>, arguments: &[Datum]) -> Value {
    alias(env, arguments, REGTYPE)
}

fn to_namespace(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(schema_oid(first(arguments).str()).into())
}

fn to_role(env: &Env<'_>, arguments: &[Datum]) -> Value {
    alias(env, arguments, REGROLE)
}

fn to_function(env: &Env<'_>, arguments: &[Datum]) -> Value {
    alias(env, arguments, REGPROC)
}

fn size_pretty(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let mut size = match first(arguments) {
        Datum::Int(size) => *size,
        Datum::Float(size) => format!("{size:.0}").parse().unwrap_or(0),
        _ => return Ok(Datum::Null),
    };
    let mut units = ["bytes", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size.unsigned_abs() >= 10 * 1024 {
        let Some(larger) = units.next() else { break };
        (size, unit) = ((size + 512) / 1024, larger);
    }
    Ok(format!("{size} {unit}").into())
}

fn quote_ident(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(quoted(first(arguments).str()).into())
}

fn quote_literal(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let text = first(arguments);
    if text.is_null() {
        return Ok("NULL".into());
    }
    Ok(format!("'{}'", text.str().replace('\'', "''")).into())
}

/// `%I`, `%L` and `%s`.
fn format(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let Some((Datum::Text(pattern), rest)) = arguments.split_first() else {
        return Ok(Datum::Null);
    };
    let (mut out, mut rest, mut characters) = (String::new(), rest.iter(), pattern.chars());
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let kind = characters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let text = rest.next().map(Datum::str).unwrap_or_default();
        match kind {
            Some('I') => out.push_str(&quoted(text)),
            Some('L') => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
            _ => out.push_str(text),
        }
    }
    Ok(out.into())
}

fn text_with(arguments: &[Datum], change: impl FnOnce(&str) -> String) -> Value {
    Ok(change(first(arguments).str()).into())
}

fn lower(_: &Env<'_>, arguments: &[Datum]) -> Value {
    text_with(arguments, str::to_lowercase)
}

fn upper(_: &Env<'_>, arguments: &[Datum]) -> Value {
    text_with(arguments, str::to_uppercase)
}

fn length(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(first(arguments).str().chars().count().into())
}

fn characters(arguments: &[Datum]) -> Vec<char> {
    match nth(arguments, 1) {
        Datum::Null => vec![' '],
        set => set.str().chars().collect(),
    }
}

fn trim(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let set = characters(arguments);
    text_with(arguments, |text| text.trim_matches(set.as_slice()).to_owned())
}

fn trim_left(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let set = characters(arguments);
    text_with(arguments, |text| text.trim_start_matches(set.as_slice()).to_owned())
}

fn trim_right(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let set = characters(arguments);
    text_with(arguments, |text| text.trim_end_matches(set.as_slice()).to_owned())
}

fn replace(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let (from, to) = (nth(arguments, 1).str(), nth(arguments, 2).str());
    text_with(arguments, |text| if from.is_empty() { text.into() } else { text.replace(from, to) })
}

fn substring(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let start = nth(arguments, 1).int().unwrap_or(1);
    let end = nth(arguments, 2).int().map_or(i64::MAX, |count| start.saturating_add(count));
    text_with(arguments, |text| {
        let within = text.chars().zip(1_i64..).filter(|(_, place)| (start..end).contains(place));
        within.map(|(character, _)| character).collect()
    })
}

fn left(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let count = nth(arguments, 1).int().and_then(|count| usize::try_from(count).ok());
    text_with(arguments, |text| text.chars().take(count.unwrap_or(0)).collect())
}

fn position(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let (text, part) = (first(arguments).str(), nth(arguments, 1).str());
    let before = text.find(part).and_then(|place| text.get(..place));
    Ok(before.map_or(0, |before| before.chars().count() + 1).into())
}

fn starts_with(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(first(arguments).str().starts_with(nth(arguments, 1).str()).into())
}

fn split_part(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let place = nth(arguments, 2).int().and_then(|place| usize::try_from(place - 1).ok());
    let part =
        place.and_then(|place| first(arguments).str().split(nth(arguments, 1).str()).nth(place));
    Ok(part.unwrap_or_default().into())
}

fn concat(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(arguments.iter().map(Datum::str).collect::<String>().into())
}

fn concat_with(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let Some((by, texts)) = arguments.split_first() else { return Ok(Datum::Null) };
    let texts: Vec<&str> = texts.iter().filter(|text| !text.is_null()).map(Datum::str).collect();
    Ok(texts.join(by.str()).into())
}

fn to_array(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let (text, by) = (first(arguments).str(), nth(arguments, 1).str());
    Ok(Datum::list(
        text.split(by).filter(|part| !part.is_empty() || !text.is_empty()).map(Datum::from),
    ))
}

fn from_array(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let or = nth(arguments, 2);
    let items = first(arguments).items().iter().filter_map(|item| match item {
        Datum::Null if or.is_null() => None,
        Datum::Null => Some(or.str().to_owned()),
        Datum::Text(text) => Some(text.as_ref().to_owned()),
        Datum::Int(number) => Some(number.to_string()),
        Datum::Bool(value) => Some(if *value { "t" } else { "f" }.to_owned()),
        Datum::Float(number) => Some(value::number(*number)),
        Datum::List(_) | Datum::Record(_) => None,
    });
    Ok(items.collect::<Vec<_>>().join(nth(arguments, 1).str()).into())
}

fn array_length(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let count = first(arguments).items().len();
    Ok((count > 0 && nth(arguments, 1).int() == Some(1)).then_some(count).into())
}

fn array_lower(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let is_there = !first(arguments).items().is_empty() && nth(arguments, 1).int() == Some(1);
    Ok(is_there.then_some(1).into())
}

fn cardinality(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(first(arguments).items().len().into())
}

fn array_position(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let mut items = first(arguments).items().iter();
    let place = items.position(|item| item.order(nth(arguments, 1)).is_eq());
    Ok(place.map(|place| place + 1).into())
}

fn array_append(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(Datum::list(first(arguments).items().iter().chain([nth(arguments, 1)]).cloned()))
}

fn array_cat(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let (a, b) = (first(arguments).items(), nth(arguments, 1).items());
    Ok(Datum::list(a.iter().chain(b).cloned()))
}

fn array_remove(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let kept = first(arguments).items().iter();
    Ok(Datum::list(kept.filter(|item| item.order(nth(arguments, 1)).is_ne()).cloned()))
}

fn rounded(arguments: &[Datum], round: fn(f64) -> f64) -> Value {
    let Datum::Float(value) = first(arguments) else { return Ok(first(arguments).clone()) };
    let digits = nth(arguments, 1).int().and_then(|digits| i32::try_from(digits).ok());
    let scale = 10_f64.powi(digits.unwrap_or(0));
    Ok(Datum::Float(round(value * scale) / scale))
}

fn round(_: &Env<'_>, arguments: &[Datum]) -> Value {
    rounded(arguments, f64::round)
}

fn floor(_: &Env<'_>, arguments: &[Datum]) -> Value {
    rounded(arguments, f64::floor)
}

fn ceil(_: &Env<'_>, arguments: &[Datum]) -> Value {
    rounded(arguments, f64::ceil)
}

fn abs(_: &Env<'_>, arguments: &[Datum]) -> Value {
    rounded(arguments, f64::abs)
}

/// A value in JSON.
fn json(value: &Datum) -> String {
    match value {
        Datum::Null => "null".into(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Float(number) => value::number(*number),
        Datum::Text(text) => {
            let mut out = String::from("\"");
            for character in text.chars() {
                match character {
                    '"' | '\\' => out.extend(['\\', character]),
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    other if u32::from(other) < 0x20 => {
                        out.push_str(&format!("\\u{:04x}", u32::from(other)));
                    }
                    other => out.push(other),
                }
            }
            out.push('"');
            out
        }
        Datum::List(items) | Datum::Record(items) => {
            format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
        }
    }
}

fn json_object(_: &Env<'_>, arguments: &[Datum]) -> Value {
    let pairs =
        arguments.chunks(2).map(|pair| format!("{} : {}", json(first(pair)), json(nth(pair, 1))));
    Ok(format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")).into())
}

fn json_array(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(format!("[{}]", arguments.iter().map(json).collect::<Vec<_>>().join(", ")).into())
}

fn to_json(_: &Env<'_>, arguments: &[Datum]) -> Value {
    Ok(json(first(arguments)).into())
}

fn version(_: &Env<'_>, _: &[Datum]) -> Value {
    Ok(crate::scalar::VERSION.into())
}

fn relation_size(env: &Env<'_>, arguments: &[Datum]) -> Value {
    let oid = oid_at(arguments, 0);
    Ok(env.world.names().any(|(.., number)| number == oid).then_some(0).into())
}

const OPTIONAL_BOOL: &[Oid] = &[OID, BOOL];
const ANY3: &[Oid] = &[ANY, ANY, ANY];

/// Functions of one value. Of several with one name, the first that fits is called.
pub(super) static FUNCTIONS: &[Function] = &[
    own("version", &[], TEXT, version),
    own("current_user", &[], NAME, user),
    own("session_user", &[], NAME, user),
    own("user", &[], NAME, user),
    own("current_role", &[], NAME, user),
    own("current_database", &[], NAME, database),
    own("current_catalog", &[], NAME, database),
    own("current_schema", &[], NAME, schema),
    own("current_schemas", &[BOOL], NAME_ARRAY, schemas),
    own("current_setting", &[TEXT, BOOL], TEXT, setting).needs(1),
    own("set_config", &[TEXT, TEXT, BOOL], TEXT, set_setting).lax(),
    own("format_type", &[OID, INT4], TEXT, format_type).lax(),
    own("pg_get_userbyid", &[OID], NAME, role_name),
    own("pg_table_is_visible", &[OID], BOOL, is_visible),
    own("pg_type_is_visible", &[OID], BOOL, yes),
    own("pg_function_is_visible", &[OID], BOOL, yes),
    own("pg_collation_is_visible", &[OID], BOOL, yes),
    own("pg_opclass_is_visible", &[OID], BOOL, yes),
    own("pg_opfamily_is_visible", &[OID], BOOL, yes),
    own("pg_operator_is_visible", &[OID], BOOL, yes),
    own("pg_conversion_is_visible", &[OID], BOOL, yes),
    own("pg_statistics_obj_is_visible", &[OID], BOOL, yes),
    own("pg_ts_config_is_visible", &[OID], BOOL, yes),
    own("pg_ts_dict_is_visible", &[OID], BOOL, yes),
    own("pg_ts_parser_is_visible", &[OID], BOOL, yes),
    own("pg_ts_template_is_visible", &[OID], BOOL, yes),
    own("pg_get_expr", &[TEXT, OID, BOOL], TEXT, shown).needs(2),
    own("pg_get_indexdef", &[OID, INT4, BOOL], TEXT, index_def).needs(1),
    own("pg_get_constraintdef", OPTIONAL_BOOL, TEXT, constraint_def).needs(1),
    own("pg_get_viewdef", &[ANY, ANY], TEXT, view_def).needs(1),
    own("pg_get_ruledef", OPTIONAL_BOOL, TEXT, view_def).needs(1),
    own("pg_get_triggerdef", OPTIONAL_BOOL, TEXT, none).needs(1),
    own("pg_get_functiondef", &[OID], TEXT, function_def),
    own("pg_get_function_result", &[OID], TEXT, none),
    own("pg_get_function_arguments", &[OID], TEXT, function_arguments),
    own("pg_get_function_identity_arguments", &[OID], TEXT, function_identity),
    own("pg_get_function_sqlbody", &[OID], TEXT, none),
    own("pg_get_partkeydef", &[OID], TEXT, none),
    own("pg_get_partition_constraintdef", &[OID], TEXT, none),
    own("pg_get_statisticsobjdef", &[OID], TEXT, none),
    own("pg_get_statisticsobjdef_columns", &[OID], TEXT, none),
    own("pg_get_serial_sequence", &[TEXT, TEXT], TEXT, serial_sequence),
    own("pg_describe_object", ANY3, TEXT, none),
    own("obj_description", &[OID, NAME], TEXT, none).needs(1),
    own("col_description", &[OID, INT4], TEXT, none),
    own("shobj_description", &[OID, NAME], TEXT, none),
    own("has_table_privilege", ANY3, BOOL, yes).needs(2),
    own("has_any_column_privilege", ANY3, BOOL, yes).needs(2),
    own("has_column_privilege", &[ANY, ANY, ANY, ANY], BOOL, yes).needs(3),
    own("has_schema_privilege", ANY3, BOOL, yes).needs(2),
    own("has_database_privilege", ANY3, BOOL, yes).needs(2),
    own("has_function_privilege", ANY3, BOOL, yes).needs(2),
    own("has_sequence_privilege", ANY3, BOOL, yes).needs(2),
    own("has_language_privilege", ANY3, BOOL, yes).needs(2),
    own("has_tablespace_privilege", ANY3, BOOL, yes).needs(2),
    own("has_type_privilege", ANY3, BOOL, yes).needs(2),
    own("pg_has_role", ANY3, BOOL, yes).needs(2),
    own("row_security_active", &[ANY], BOOL, no),
    own("pg_encoding_to_char", &[INT4], NAME, encoding_name),
    own("getdatabaseencoding", &[], NAME, encoding),
    own("pg_client_encoding", &[], NAME, encoding),
    own("pg_char_to_encoding", &[NAME], INT4, encoding_number),
    own("pg_is_in_recovery", &[], BOOL, no),
    own("pg_is_other_temp_schema", &[OID], BOOL, no),
    own("pg_my_temp_schema", &[], OID, zero),
    own("pg_backend_pid", &[], INT4, zero),
    own("pg_postmaster_start_time", &[], TIMESTAMPTZ, now),
    own("pg_conf_load_time", &[], TIMESTAMPTZ, now),
    own("pg_relation_is_publishable", &[REGCLASS], BOOL, no),
    own("pg_relation_filenode", &[REGCLASS], OID, shown),
    own("pg_relation_is_updatable", &[REGCLASS, BOOL], INT4, zero),
    own("pg_relation_size", &[REGCLASS, TEXT], INT8, relation_size).needs(1),
    own("pg_total_relation_size", &[REGCLASS], INT8, relation_size),
    own("pg_table_size", &[REGCLASS], INT8, relation_size),
    own("pg_indexes_size", &[REGCLASS], INT8, relation_size),
    own("pg_database_size", &[ANY], INT8, zero),
    own("pg_tablespace_size", &[ANY], INT8, zero),
    own("pg_tablespace_location", &[OID], TEXT, empty),
    own("pg_stat_get_numscans", &[OID], INT8, zero),
    own("pg_stat_get_live_tuples", &[OID], INT8, zero),
    own("pg_stat_get_dead_tuples", &[OID], INT8, zero),
    own("pg_size_pretty", &[INT8], TEXT, size_pretty),
    own("pg_size_pretty", &[NUMERIC], TEXT, size_pretty),
    own("pg_advisory_unlock_all", &[], VOID, empty),
    own("inet_server_addr", &[], 869, none),
    own("inet_server_port", &[], INT4, none),
    own("inet_client_addr", &[], 869, none),
    own("inet_client_port", &[], INT4, none),
    own("to_regclass", &[TEXT], REGCLASS, to_class),
    own("to_regtype", &[TEXT], REGTYPE, to_type),
    own("to_regnamespace", &[TEXT], REGNAMESPACE, to_namespace),
    own("to_regrole", &[TEXT], REGROLE, to_role),
    own("to_regproc", &[TEXT], REGPROC, to_function),
    own("quote_ident", &[TEXT], TEXT, quote_ident),
    own("quote_literal", &[TEXT], TEXT, quote_literal),
    own("quote_nullable", &[TEXT], TEXT, quote_literal).lax(),
    plain("now", &[], TIMESTAMPTZ, now),
    plain("current_timestamp", &[], TIMESTAMPTZ, now),
    plain("clock_timestamp", &[], TIMESTAMPTZ, now),
    plain("statement_timestamp", &[], TIMESTAMPTZ, now),
    plain("format", &[TEXT, TEXT], TEXT, format).needs(1).open(),
    plain("lower", &[TEXT], TEXT, lower),
    plain("upper", &[TEXT], TEXT, upper),
    plain("length", &[TEXT], INT4, length),
    plain("char_length", &[TEXT], INT4, length),
    plain("btrim", &[TEXT, TEXT], TEXT, trim).needs(1),
    plain("trim", &[TEXT, TEXT], TEXT, trim).needs(1),
    plain("ltrim", &[TEXT, TEXT], TEXT, trim_left).needs(1),
    plain("rtrim", &[TEXT, TEXT], TEXT, trim_right).needs(1),
    plain("replace", &[TEXT, TEXT, TEXT], TEXT, replace),
    plain("substring", &[TEXT, INT4, INT4], TEXT, substring).needs(2),
    plain("substr", &[TEXT, INT4, INT4], TEXT, substring).needs(2),
    plain("left", &[TEXT, INT4], TEXT, left),
    plain("strpos", &[TEXT, TEXT], INT4, position),
    plain("starts_with", &[TEXT, TEXT], BOOL, starts_with),
    plain("split_part", &[TEXT, TEXT, INT4], TEXT, split_part),
    plain("concat", &[TEXT], TEXT, concat).open(),
    plain("concat_ws", &[TEXT, TEXT], TEXT, concat_with).open(),
    plain("string_to_array", &[TEXT, TEXT], TEXT_ARRAY, to_array),
    plain("array_to_string", &[ANYARRAY, TEXT, TEXT], TEXT, from_array).needs(2).lax(),
    plain("array_length", &[ANYARRAY, INT4], INT4, array_length),
    plain("array_upper", &[ANYARRAY, INT4], INT4, array_length),
    plain("array_lower", &[ANYARRAY, INT4], INT4, array_lower),
    plain("cardinality", &[ANYARRAY], INT4, cardinality),
    plain("array_position", &[ANYARRAY, ANYELEMENT], INT4, array_position).lax(),
    plain("array_append", &[ANYARRAY, ANYELEMENT], ANYARRAY, array_append).lax(),
    plain("array_cat", &[ANYARRAY, ANYARRAY], ANYARRAY, array_cat).lax(),
    plain("array_remove", &[ANYARRAY, ANYELEMENT], ANYARRAY, array_remove).lax(),
    plain("round", &[FLOAT8, INT4], FLOAT8, round).needs(1),
    plain("floor", &[FLOAT8], FLOAT8, floor),
    plain("ceil", &[FLOAT8], FLOAT8, ceil),
    plain("abs", &[FLOAT8], FLOAT8, abs),
    plain("json_build_object", &[ANY], JSON, json_object).needs(0).open(),
    plain("jsonb_build_object", &[ANY], JSONB, json_object).needs(0).open(),
    plain("json_build_array", &[ANY], JSON, json_array).needs(0).open(),
    plain("to_json", &[ANY], JSON, to_json),
    plain("to_jsonb", &[ANY], JSONB, to_json),
];

fn unnest(arguments: &[Datum], _: Oid) -> Result<Vec<Datum>, SqlError> {
    Ok(first(arguments).items().to_vec())
}

fn expand(arguments: &[Datum], _: Oid) -> Result<Vec<Datum>, SqlError> {
    let items = first(arguments).items().iter().cloned().zip(1_i64..);
    Ok(items.map(|(item, place)| Datum::Record([item, place.into()].into())).collect())
}

fn subscripts(arguments: &[Datum], kind: Oid) -> Result<Vec<Datum>, SqlError> {
    let from = eval::first_of(kind);
    let is_first = nth(arguments, 1).int() == Some(1);
    let items = first(arguments).items().iter().filter(|_| is_first);
    Ok(items.zip(from..).map(|(_, place)| place.into()).collect())
}

/// Most numbers of a series.
const SERIES_COUNT_MAX: usize = 1_000_000;

fn series(arguments: &[Datum], _: Oid) -> Result<Vec<Datum>, SqlError> {
    let (Some(from), Some(to)) = (first(arguments).int(), nth(arguments, 1).int()) else {
        return Ok(Vec::new());
    };
    let step = nth(arguments, 2).int().unwrap_or(1);
    let goes_on = |value: &i64| if step < 0 { *value >= to } else { *value <= to };
    let next = |value: &i64| value.checked_add(step).filter(|_| step != 0);
    let values: Vec<Datum> = std::iter::successors(Some(from), next)
        .take_while(goes_on)
        .take(SERIES_COUNT_MAX)
        .map(Datum::Int)
        .collect();
    if values.len() == SERIES_COUNT_MAX {
        return Err(SqlError::new("54000", code::SQL_LIMIT, "the series is too long"));
    }
    Ok(values)
}

fn nothing(_: &[Datum], _: Oid) -> Result<Vec<Datum>, SqlError> {
    Ok(Vec::new())
}

fn split(arguments: &[Datum], _: Oid) -> Result<Vec<Datum>, SqlError> {
    Ok(first(arguments).str().split(nth(arguments, 1).str()).map(Datum::from).collect())
}

const fn set(
    name: &'static str,
    arguments: &'static [Oid],
    columns: &'static [(&'static str, Oid)],
    run: fn(&[Datum], Oid) -> Result<Vec<Datum>, SqlError>,
) -> SetFunction {
    SetFunction { name, arguments, columns, run }
}

/// Functions of several rows.
pub(super) static SETS: &[SetFunction] = &[
    set("unnest", &[ANYARRAY], &[("unnest", ANYELEMENT)], unnest),
    set("_pg_expandarray", &[ANYARRAY], &[("x", ANYELEMENT), ("n", INT4)], expand),
    set("generate_subscripts", &[ANYARRAY, INT4], &[("generate_subscripts", INT4)], subscripts),
    set("generate_series", &[INT4, INT4], &[("generate_series", INT4)], series),
    set("generate_series", &[INT4, INT4, INT4], &[("generate_series", INT4)], series),
    set("string_to_table", &[TEXT, TEXT], &[("string_to_table", TEXT)], split),
    set(
        "pg_get_keywords",
        &[],
        &[
            ("word", TEXT),
            ("catcode", CHAR),
            ("barelabel", BOOL),
            ("catdesc", TEXT),
            ("baredesc", TEXT),
        ],
        nothing,
    ),
    set(
        "pg_options_to_table",
        &[ANYARRAY],
        &[("option_name", TEXT), ("option_value", TEXT)],
        nothing,
    ),
    set(
        "aclexplode",
        &[ANYARRAY],
        &[("grantor", OID), ("grantee", OID), ("privilege_type", TEXT), ("is_grantable", BOOL)],
        nothing,
    ),
    set("pg_partition_ancestors", &[REGCLASS], &[("relid", REGCLASS)], nothing),
    set(
        "pg_show_all_file_settings",
        &[],
        &[("sourcefile", TEXT), ("name", TEXT), ("setting", TEXT)],
        nothing,
    ),
];

/// The aggregates, and the type of each one's value: 0 is that of its argument, 1 an array of it.
pub(super) const AGGREGATES: &[(&str, Oid)] = &[
    ("count", INT8),
    ("min", 0),
    ("max", 0),
    ("sum", INT8),
    ("avg", FLOAT8),
    ("array_agg", 1),
    ("string_agg", TEXT),
    ("bool_and", BOOL),
    ("bool_or", BOOL),
    ("every", BOOL),
    ("json_agg", JSON),
    ("jsonb_agg", JSONB),
    ("json_object_agg", JSON),
];

/// The value of an aggregate over the arguments of its rows.
pub(super) fn aggregate(env: &Env<'_>, name: &str, kinds: &[Oid], rows: &[Row]) -> Value {
    let firsts = || rows.iter().filter_map(|row| row.first());
    let known = || firsts().filter(|value| !value.is_null());
    Ok(match name {
        "count" if kinds.is_empty() => rows.len().into(),
        "count" => known().count().into(),
        "min" => known().min_by(|a, b| a.order(b)).cloned().unwrap_or(Datum::Null),
        "max" => known().max_by(|a, b| a.order(b)).cloned().unwrap_or(Datum::Null),
        "array_agg" if rows.is_empty() => Datum::Null,
        "array_agg" => Datum::list(firsts().cloned()),
        "string_agg" => {
            let kind = kinds.first().copied().unwrap_or(TEXT);
            let texts: Vec<String> =
                known().map(|value| value::write(value, kind, env.world)).collect();
            let by = rows.first().map(|row| nth(row, 1).str()).unwrap_or_default();
            if texts.is_empty() { Datum::Null } else { texts.join(by).into() }
        }
        "bool_or" if known().next().is_some() => known().any(Datum::is_true).into(),
        "bool_and" | "every" if known().next().is_some() => known().all(Datum::is_true).into(),
        "json_agg" | "jsonb_agg" if !rows.is_empty() => {
            format!("[{}]", firsts().map(json).collect::<Vec<_>>().join(", ")).into()
        }
        "json_object_agg" if !rows.is_empty() => {
            let pairs =
                rows.iter().map(|row| format!("{} : {}", json(first(row)), json(nth(row, 1))));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")).into()
        }
        "sum" | "avg" => total(name, known().cloned().collect()),
        _ => Datum::Null,
    })
}

fn total(name: &str, values: Vec<Datum>) -> Datum {
    if values.is_empty() {
        return Datum::Null;
    }
    let count = values.len();
    if let (Some(sum), "sum") =
        (values.iter().map(Datum::int).try_fold(0_i64, |sum, value| sum.checked_add(value?)), name)
    {
        return sum.into();
    }
    let sum: f64 = values
        .iter()
        .map(|value| match value {
            Datum::Float(value) => *value,
            other => other.int().unwrap_or(0).to_string().parse().unwrap_or(0.0),
        })
        .sum();
    let count: f64 = count.to_string().parse().unwrap_or(1.0);
    Datum::Float(if name == "avg" { sum / count } else { sum })
}
