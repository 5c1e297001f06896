//! Procedures: rows of `pg_proc` and of `information_schema`, and their definitions as PostgreSQL writes them.

use quipu_types::ProcedureDef;

use super::deparse;
use super::tables::Maker;
use super::types::{self, Oid};
use super::value::Datum;
use super::world::{World, oid_of, quoted, schema_oid, type_of};

/// The language `sql`.
const SQL: Oid = 14;
/// Where procedures are.
const SCHEMA: &str = "public";

/// A procedure.
#[derive(Debug)]
pub(super) struct Procedure {
    pub(super) oid: Oid,
    pub(super) name: String,
    owner: Oid,
    parameters: Vec<Parameter>,
    text: String,
    is_atomic: bool,
    is_definer: bool,
}

/// A parameter: its name may be empty.
#[derive(Debug)]
struct Parameter {
    name: String,
    kind: Oid,
    default: Option<String>,
}

impl Procedure {
    pub(super) fn new(def: &ProcedureDef, owner: Oid) -> Self {
        let spec = &def.spec;
        let parameters = spec.parameters.iter().map(|parameter| {
            let (kind, _) = type_of(parameter.kind, 0, false);
            let default = parameter.default.as_ref().map(|expr| deparse::default(expr, kind));
            Parameter { name: parameter.name.clone(), kind, default }
        });
        Self {
            oid: oid_of(def.id, 0),
            name: spec.name.clone(),
            owner,
            parameters: parameters.collect(),
            text: spec.text.clone(),
            is_atomic: spec.is_atomic,
            is_definer: spec.is_definer,
        }
    }

    /// `IN name type [DEFAULT value], …`
    pub(super) fn arguments(&self, with_defaults: bool) -> String {
        let shown = self.parameters.iter().map(|parameter| {
            let name = match parameter.name.as_str() {
                "" => String::new(),
                name => format!("{} ", quoted(name)),
            };
            let default = parameter.default.as_ref().filter(|_| with_defaults);
            let default = default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
            format!("IN {name}{}{default}", types::format(parameter.kind, -1))
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// The statement that creates it.
    pub(super) fn definition(&self) -> String {
        let name = format!("{SCHEMA}.{}", quoted(&self.name));
        let security = if self.is_definer { " SECURITY DEFINER\n" } else { "" };
        let head = format!(
            "CREATE OR REPLACE PROCEDURE {name}({})\n LANGUAGE sql\n{security}",
            self.arguments(true)
        );
        if self.is_atomic {
            return format!("{head}BEGIN ATOMIC{}END\n", self.text);
        }
        let mut tag = "$procedure".to_owned();
        while self.text.contains(&tag) {
            tag.push('x');
        }
        format!("{head}AS {tag}${}{tag}$\n", self.text)
    }
}

/// Rows of `pg_proc`.
pub(super) fn rows(world: &World, maker: &mut Maker<'_>) {
    for procedure in &world.procedures {
        let parameters = &procedure.parameters;
        let kinds = parameters.iter().map(|parameter| Datum::from(parameter.kind));
        let names = parameters.iter().map(|parameter| Datum::from(parameter.name.as_str()));
        let is_named = parameters.iter().any(|parameter| !parameter.name.is_empty());
        let default_count = parameters.iter().filter(|p| p.default.is_some()).count();
        let source = if procedure.is_atomic { "" } else { procedure.text.as_str() };
        maker.row(&[
            ("oid", procedure.oid.into()),
            ("proname", procedure.name.as_str().into()),
            ("pronamespace", schema_oid(SCHEMA).into()),
            ("proowner", procedure.owner.into()),
            ("prolang", SQL.into()),
            ("procost", Datum::Float(100.0)),
            ("prokind", "p".into()),
            ("prosecdef", procedure.is_definer.into()),
            ("provolatile", "v".into()),
            ("proparallel", "u".into()),
            ("pronargs", parameters.len().into()),
            ("pronargdefaults", default_count.into()),
            ("prorettype", types::VOID.into()),
            ("proargtypes", Datum::list(kinds)),
            ("proargnames", if is_named { Datum::list(names) } else { Datum::Null }),
            ("prosrc", source.into()),
        ]);
    }
}

/// Rows of `routines` and `parameters`.
pub(super) fn standard(world: &World, name: &str, maker: &mut Maker<'_>) {
    for procedure in &world.procedures {
        let specific = format!("{}_{}", procedure.name, procedure.oid);
        let place = [
            ("specific_catalog", Datum::from(world.database.as_str())),
            ("specific_schema", SCHEMA.into()),
            ("specific_name", specific.as_str().into()),
        ];
        if name == "routines" {
            let security = if procedure.is_definer { "DEFINER" } else { "INVOKER" };
            let source = (!procedure.is_atomic).then(|| procedure.text.clone());
            let more = [
                ("routine_catalog", Datum::from(world.database.as_str())),
                ("routine_schema", SCHEMA.into()),
                ("routine_name", procedure.name.as_str().into()),
                ("routine_type", "PROCEDURE".into()),
                ("routine_body", "SQL".into()),
                ("routine_definition", source.into()),
                ("external_language", "SQL".into()),
                ("parameter_style", "GENERAL".into()),
                ("is_deterministic", "NO".into()),
                ("sql_data_access", "MODIFIES".into()),
                ("schema_level_routine", "YES".into()),
                ("is_user_defined_cast", "NO".into()),
                ("security_type", security.into()),
            ];
            maker.row(&[place.as_slice(), more.as_slice()].concat());
            continue;
        }
        for (parameter, number) in procedure.parameters.iter().zip(1_usize..) {
            let kind = types::TYPES.get(&parameter.kind).map(|row| row.name);
            let name = Some(parameter.name.as_str()).filter(|name| !name.is_empty());
            let more = [
                ("ordinal_position", number.into()),
                ("parameter_mode", "IN".into()),
                ("is_result", "NO".into()),
                ("as_locator", "NO".into()),
                ("parameter_name", name.into()),
                ("data_type", types::format(parameter.kind, -1).into()),
                ("udt_catalog", world.database.as_str().into()),
                ("udt_schema", "pg_catalog".into()),
                ("udt_name", kind.into()),
                ("dtd_identifier", number.to_string().into()),
                ("parameter_default", parameter.default.clone().into()),
            ];
            maker.row(&[place.as_slice(), more.as_slice()].concat());
        }
    }
}
