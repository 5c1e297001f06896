//! Procedures by name: whether one can be created, which one is dropped, who may call it.
//!
//! A name has one procedure, whatever its parameters: what is called does not depend on how arguments are read.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{DataType, FunctionDesc, ObjectName};
use quipu_types::procedure::{ARGUMENT_COUNT_MAX, ProcedureDef, ProcedureParameter};
use quipu_types::{Column, Define, TableRef, Writers, code};

use super::types::{of_parameter, parameter_name};
use super::{Defined, Scope, expr, name, notice, unreadable};
use crate::error::SqlError;
use crate::procedure::{Create, Written};

/// What a statement that creates a procedure says, but for its body.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) parameters: Vec<ProcedureParameter>,
    pub(crate) callers: Writers,
}

/// Reads the name and the parameters of a procedure that is to be created.
pub(crate) fn draft(create: &Create, scope: &Scope<'_>) -> Result<Draft, SqlError> {
    let parts = create.name.iter().map(|part| expr::quoted(part));
    let name = name::relation(&ObjectName::from(parts.collect::<Vec<_>>()))?;
    name::valid_relation(&name)?;
    if create.parameters.len() > ARGUMENT_COUNT_MAX {
        let message = format!("procedures cannot have more than {ARGUMENT_COUNT_MAX} arguments");
        return Err(SqlError::new("54023", code::SQL_LIMIT, message));
    }
    let mut seen = BTreeSet::new();
    let mut parameters: Vec<ProcedureParameter> = Vec::with_capacity(create.parameters.len());
    for written in &create.parameters {
        let parameter = parameter(written, scope)?;
        if !parameter.name.is_empty() && !seen.insert(parameter.name.clone()) {
            let message = format!("parameter name \"{}\" used more than once", parameter.name);
            return Err(SqlError::new("42P13", code::SQL_SYNTAX, message));
        }
        if parameter.default.is_none() && parameters.last().is_some_and(|p| p.default.is_some()) {
            let message = "input parameters after one with a default value must also have defaults";
            return Err(SqlError::new("42P13", code::SQL_SYNTAX, message));
        }
        parameters.push(parameter);
    }
    let old = scope.snapshot.procedure_named(&name).map_err(unreadable)?;
    if let Some(old) = &old {
        check_replaced(old, &parameters, create.replaces)?;
    }
    let callers = old.map_or(Writers::Anyone, |old| old.spec.callers.clone());
    Ok(Draft { name, parameters, callers })
}

fn parameter(written: &Written, scope: &Scope<'_>) -> Result<ProcedureParameter, SqlError> {
    let name = written.name.clone();
    if !name.is_empty() {
        name::valid(&name)?;
    }
    let kind = of_parameter(&written.data_type)?;
    let column = Column { name: name.clone(), kind, nullable: true };
    let default = match &written.default {
        None => None,
        Some(default) => {
            let found = expr::default(default, "parameters", &[column], scope);
            let found = found.map_err(|error| match error.sqlstate {
                "42804" => {
                    let kind = parameter_name(kind);
                    let message = format!("argument of DEFAULT must be type {kind}: {default}");
                    SqlError { message, ..error }
                }
                _ => error,
            })?;
            let null = || quipu_types::Expr::Const(kind, quipu_types::Value::Null);
            Some(found.unwrap_or_else(null))
        }
    };
    Ok(ProcedureParameter { name, kind, default })
}

/// Refuses what a procedure that is there can not become.
fn check_replaced(
    old: &ProcedureDef,
    parameters: &[ProcedureParameter],
    replaces: bool,
) -> Result<(), SqlError> {
    let name = &old.spec.name;
    let before = &old.spec.parameters;
    let kinds = |all: &[ProcedureParameter]| all.iter().map(|p| p.kind).collect::<Vec<_>>();
    if kinds(before) != kinds(parameters) {
        let what = format!("another procedure \"{name}\" with other parameter types");
        let hint = format!("a name has one procedure: DROP PROCEDURE {} first", signature(old));
        return Err(SqlError::unsupported(&what).hint(hint));
    }
    if !replaces {
        let message = format!("function \"{name}\" already exists with same argument types");
        return Err(SqlError::new("42723", code::PROCEDURE_EXISTS, message));
    }
    let hint = format!("Use DROP PROCEDURE {} first.", signature(old));
    for (before, now) in before.iter().zip(parameters) {
        if !before.name.is_empty() && before.name != now.name {
            let message = format!("cannot change name of input parameter \"{}\"", before.name);
            return Err(SqlError::new("42P13", code::SQL_SYNTAX, message).hint(hint));
        }
        if before.default.is_some() && now.default.is_none() {
            let message = "cannot remove parameter defaults from existing function";
            return Err(SqlError::new("42P13", code::SQL_SYNTAX, message).hint(hint));
        }
    }
    Ok(())
}

/// `name(type, …)`.
pub(crate) fn signature(def: &ProcedureDef) -> String {
    let kinds = def.spec.parameters.iter().map(|parameter| parameter_name(parameter.kind));
    format!("{}({})", def.spec.name, kinds.collect::<Vec<_>>().join(","))
}

/// The procedure of a name, and of these types where they are said.
fn found(
    name: &str,
    kinds: Option<&[DataType]>,
    scope: &Scope<'_>,
) -> Result<Result<Arc<ProcedureDef>, String>, SqlError> {
    let def = scope.snapshot.procedure_named(name).map_err(unreadable)?;
    let Some(kinds) = kinds else {
        return Ok(def.ok_or_else(|| format!("could not find a procedure named \"{name}\"")));
    };
    let kinds = kinds.iter().map(of_parameter).collect::<Result<Vec<_>, _>>()?;
    let is_same = |def: &Arc<ProcedureDef>| {
        def.spec.parameters.iter().map(|parameter| parameter.kind).eq(kinds.iter().copied())
    };
    let shown = kinds.iter().map(|kind| parameter_name(*kind)).collect::<Vec<_>>().join(",");
    let message = format!("procedure {name}({shown}) does not exist");
    Ok(def.filter(is_same).ok_or(message))
}

/// The procedure of a `GRANT` or `REVOKE`.
pub(super) fn wanted(
    written: &ObjectName,
    kinds: &[DataType],
    scope: &Scope<'_>,
) -> Result<Arc<ProcedureDef>, SqlError> {
    let name = name::relation(written)?;
    let found = found(&name, Some(kinds).filter(|kinds| !kinds.is_empty()), scope)?;
    found.map_err(|message| SqlError::new("42883", code::NO_PROCEDURE, message))
}

/// The change of who may call a procedure, if it is one.
pub(super) fn callers(def: &ProcedureDef, now: Writers) -> Option<Define> {
    let procedure = TableRef { id: def.id, version: def.version };
    (now != def.spec.callers).then_some(Define::SetCallers(procedure, now))
}

/// `DROP PROCEDURE`.
pub(super) fn remove(
    all: &[FunctionDesc],
    if_exists: bool,
    scope: &Scope<'_>,
) -> Result<Defined, SqlError> {
    let mut defined = Defined::new("DROP PROCEDURE", Vec::new());
    for FunctionDesc { name, args } in all {
        let name = match name::relation(name) {
            Err(error) if error.sqlstate == "3F000" && if_exists => {
                defined.notices.push(notice("00000", &format!("{}, skipping", error.message)));
                continue;
            }
            other => other?,
        };
        let kinds = args.as_ref();
        let kinds =
            kinds.map(|args| args.iter().map(|arg| arg.data_type.clone()).collect::<Vec<_>>());
        match found(&name, kinds.as_deref(), scope)? {
            Ok(def) => {
                let procedure = TableRef { id: def.id, version: def.version };
                let define = Define::DropProcedure(procedure);
                if !defined.defines.contains(&define) {
                    defined.defines.push(define);
                }
            }
            Err(_) if if_exists && kinds.is_none() => {
                let message = format!("procedure {name}() does not exist, skipping");
                defined.notices.push(notice("00000", &message));
            }
            Err(message) if if_exists => {
                defined.notices.push(notice("00000", &format!("{message}, skipping")));
            }
            Err(message) => return Err(SqlError::new("42883", code::NO_PROCEDURE, message)),
        }
    }
    Ok(defined)
}
