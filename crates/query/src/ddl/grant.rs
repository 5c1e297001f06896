//! `GRANT` and `REVOKE`: who may change a table's rows, which everyone may read, and who may call a procedure.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    Action, CascadeOption, Grant, GrantObjects, Grantee, GranteeName, GranteesType, ObjectName,
    Privileges, Revoke,
};
use quipu_types::program::Alter;
use quipu_types::table::TableDef;
use quipu_types::transaction::WRITER_COUNT_MAX;
use quipu_types::{AccountId, Define, Writers, code};

use super::alter::role_account;
use super::name::{self, Relation, folded};
use super::{Changer, Defined, Scope, procedure};
use crate::error::{Notice, SqlError};

/// Who is given something, or has it taken.
enum Who {
    Everyone,
    Roles(BTreeSet<AccountId>),
}

/// What of a statement's privileges is here.
struct Rights {
    writes: bool,
    reads: bool,
    /// Whether it is `ALL`: as many as there are.
    is_all: bool,
}

/// `GRANT`.
pub(super) fn grant(grant: &Grant, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    if grant.with_grant_option {
        return Err(SqlError::unsupported("WITH GRANT OPTION"));
    }
    if grant.as_grantor.is_some() || grant.granted_by.is_some() || grant.current_grants.is_some() {
        return Err(SqlError::unsupported("a clause behind the roles of GRANT"));
    }
    let mut defined = Defined::new("GRANT", Vec::new());
    if let Some(GrantObjects::Procedure { name, arg_types }) = &grant.objects {
        check_execute(&grant.privileges)?;
        let def = procedure::wanted(name, arg_types, scope)?;
        let callers = &def.spec.callers;
        let who = who(&grant.grantees, scope)?;
        if *callers == Writers::Anyone && matches!(who, Who::Roles(_)) {
            let message =
                "nothing was granted: everyone may call the procedure until that is revoked";
            defined.notices.push(super::notice("00000", message));
        }
        let now = given(callers, def.creator, &who)?;
        defined.defines.extend(procedure::callers(&def, now));
        return Ok(defined);
    }
    if is_usage_of_public(&grant.privileges, grant.objects.as_ref()) {
        who(&grant.grantees, scope)?;
        return Ok(defined);
    }
    let rights = rights(&grant.privileges)?;
    let who = who(&grant.grantees, scope)?;
    let defines = change(grant.objects.as_ref(), &rights, scope, |writers, creator| {
        given(writers, creator, &who)
    })?;
    Ok(Defined { defines, ..defined })
}

/// `REVOKE`.
pub(super) fn revoke(revoke: &Revoke, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    if revoke.granted_by.is_some() || matches!(revoke.cascade, Some(CascadeOption::Cascade)) {
        return Err(SqlError::unsupported("a clause behind the roles of REVOKE"));
    }
    if let Some(GrantObjects::Procedure { name, arg_types }) = &revoke.objects {
        check_execute(&revoke.privileges)?;
        let def = procedure::wanted(name, arg_types, scope)?;
        let now = taken(&def.spec.callers, def.creator, &who(&revoke.grantees, scope)?)?;
        return Ok(Defined::new("REVOKE", procedure::callers(&def, now).into_iter().collect()));
    }
    let rights = rights(&revoke.privileges)?;
    if rights.reads && !rights.writes {
        let error = SqlError::unsupported("REVOKE SELECT");
        return Err(error.hint("everyone may read: what is on the ledger is public to its members"));
    }
    let who = who(&revoke.grantees, scope)?;
    let defines = change(revoke.objects.as_ref(), &rights, scope, |writers, creator| {
        taken(writers, creator, &who)
    })?;
    let mut defined = Defined::new("REVOKE", defines);
    if rights.reads {
        let message = "SELECT is not revoked: everyone may read";
        let severity = "WARNING";
        defined.notices.push(Notice { severity, sqlstate: "01006", message: message.into() });
    }
    Ok(defined)
}

/// A procedure is called, and that is all.
fn check_execute(privileges: &Privileges) -> Result<(), SqlError> {
    let Privileges::Actions(actions) = privileges else { return Ok(()) };
    match actions.iter().find(|action| !matches!(action, Action::Execute { obj_type: None })) {
        None => Ok(()),
        Some(other) => {
            let message = format!("invalid privilege type {other} for procedure");
            Err(SqlError::new("0LP01", code::SQL_SYNTAX, message))
        }
    }
}

fn is_usage_of_public(privileges: &Privileges, objects: Option<&GrantObjects>) -> bool {
    let is_usage = match privileges {
        Privileges::All { .. } => true,
        Privileges::Actions(actions) => actions.iter().all(|a| matches!(a, Action::Usage)),
    };
    let is_public = |name: &ObjectName| matches!(name::relation(name).as_deref(), Ok("public"));
    let names = match objects {
        Some(GrantObjects::Schemas(names)) => names.as_slice(),
        _ => &[],
    };
    is_usage && !names.is_empty() && names.iter().all(is_public)
}

/// All that changes rows goes together.
fn rights(privileges: &Privileges) -> Result<Rights, SqlError> {
    let Privileges::Actions(actions) = privileges else {
        return Ok(Rights { writes: true, reads: true, is_all: true });
    };
    let mut writes = BTreeSet::new();
    let mut reads = false;
    for action in actions {
        match action {
            Action::Select { columns: None } => reads = true,
            Action::Insert { columns: None } => drop(writes.insert("INSERT")),
            Action::Update { columns: None } => drop(writes.insert("UPDATE")),
            Action::Delete => drop(writes.insert("DELETE")),
            Action::Truncate => drop(writes.insert("TRUNCATE")),
            Action::Select { .. } | Action::Insert { .. } | Action::Update { .. } => {
                return Err(SqlError::unsupported("a privilege of single columns"));
            }
            other => return Err(SqlError::unsupported(&format!("privilege {other}"))),
        }
    }
    if writes.is_empty() || writes.len() == 4 {
        return Ok(Rights { writes: !writes.is_empty(), reads, is_all: false });
    }
    let some: Vec<&str> = writes.into_iter().collect();
    let error = SqlError::unsupported(&format!("privilege {} alone", some.join(", ")));
    Err(error.hint("INSERT, UPDATE, DELETE, TRUNCATE go together: name all four, or ALL"))
}

fn who(grantees: &[Grantee], scope: &Scope<'_>) -> Result<Who, SqlError> {
    let mut accounts = BTreeSet::new();
    for grantee in grantees {
        match (&grantee.grantee_type, &grantee.name) {
            (GranteesType::Public, _) => return Ok(Who::Everyone),
            (
                GranteesType::None | GranteesType::Role | GranteesType::User | GranteesType::Group,
                Some(GranteeName::ObjectName(ObjectName(parts))),
            ) => {
                let role = match parts.as_slice() {
                    [part] => part.as_ident(),
                    _ => None,
                };
                let role = role.ok_or_else(|| SqlError::unsupported("a role's name of parts"))?;
                if role.quote_style.is_none() && folded(role) == "public" {
                    return Ok(Who::Everyone);
                }
                accounts.insert(role_account(role, scope)?);
            }
            _ => return Err(SqlError::unsupported(&format!("{grantee}, which is no role,"))),
        }
    }
    Ok(Who::Roles(accounts))
}

/// The changes of writers, of every table named.
fn change(
    objects: Option<&GrantObjects>,
    rights: &Rights,
    scope: &Scope<'_>,
    to: impl Fn(&Writers, AccountId) -> Result<Writers, SqlError>,
) -> Result<Vec<Define>, SqlError> {
    let mut changer = Changer::new(scope);
    let mut defines = Vec::new();
    for def in targets(objects, scope)? {
        if !rights.writes {
            continue;
        }
        let spec = match def.table() {
            Some(spec) => spec,
            None if rights.is_all => continue,
            None => return Err(SqlError::unsupported("a privilege of writing to a view")),
        };
        let writers = to(&spec.writers, def.creator)?;
        if writers != spec.writers {
            defines.push(changer.alter(&def, Alter::SetWriters(writers)));
        }
    }
    Ok(defines)
}

/// The tables and views named, each once.
fn targets(
    objects: Option<&GrantObjects>,
    scope: &Scope<'_>,
) -> Result<Vec<std::sync::Arc<TableDef>>, SqlError> {
    let mut targets: Vec<std::sync::Arc<TableDef>> = Vec::new();
    match objects {
        Some(GrantObjects::Tables(names)) => {
            for written in names {
                let name = name::relation(written)?;
                match scope.relation(&name)? {
                    None => return Err(name::missing(&name)),
                    Some(Relation::Table(def) | Relation::View(def)) => {
                        if targets.iter().all(|other| other.id != def.id) {
                            targets.push(def);
                        }
                    }
                    Some(Relation::Stream) => {
                        let error = SqlError::unsupported("a privilege of a stream");
                        return Err(error.hint("who may append is said by CREATE STREAM … WRITERS"));
                    }
                    Some(index @ Relation::Index(_)) => {
                        return Err(name::wrong_type(&name, "table", &index));
                    }
                }
            }
        }
        Some(GrantObjects::AllTablesInSchema { schemas })
            if schemas.iter().all(|s| matches!(name::relation(s).as_deref(), Ok("public"))) =>
        {
            targets = scope.all()?;
        }
        Some(other) => return Err(SqlError::unsupported(&format!("a privilege of {other}"))),
        None => return Err(SqlError::unsupported("the membership in a role")),
    }
    Ok(targets)
}

fn given(writers: &Writers, creator: AccountId, who: &Who) -> Result<Writers, SqlError> {
    let roles = match (writers, who) {
        (Writers::Anyone, _) | (_, Who::Everyone) => return Ok(Writers::Anyone),
        (_, Who::Roles(roles)) => roles,
    };
    let mut all: BTreeSet<AccountId> = match writers {
        Writers::Accounts(accounts) => accounts.iter().copied().collect(),
        Writers::Creator | Writers::Anyone => BTreeSet::new(),
    };
    all.extend(roles.iter().filter(|role| **role != creator));
    if all.len() > WRITER_COUNT_MAX {
        let message = format!("a table has at most {WRITER_COUNT_MAX} roles that may write to it");
        return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("GRANT it TO PUBLIC"));
    }
    Ok(of_accounts(all))
}

fn taken(writers: &Writers, creator: AccountId, who: &Who) -> Result<Writers, SqlError> {
    let roles = match who {
        Who::Everyone if *writers == Writers::Anyone => return Ok(Writers::Creator),
        // What everyone has is not what a role was given, and the other way round.
        Who::Everyone => return Ok(writers.clone()),
        Who::Roles(roles) => roles,
    };
    if roles.contains(&creator) {
        return Err(SqlError::unsupported("taking from an owner what it may do"));
    }
    let Writers::Accounts(accounts) = writers else { return Ok(writers.clone()) };
    Ok(of_accounts(accounts.iter().copied().filter(|account| !roles.contains(account)).collect()))
}

fn of_accounts(accounts: BTreeSet<AccountId>) -> Writers {
    match accounts.is_empty() {
        true => Writers::Creator,
        false => Writers::Accounts(accounts.into_iter().collect()),
    }
}
