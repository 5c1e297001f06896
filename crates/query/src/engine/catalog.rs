//! A session's questions about the catalog: what it may be told of, put together for each statement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::catalog::SchemaProvider;
use datafusion::scalar::ScalarValue;
use futures::executor::block_on;
use quipu_state::StoreError;
use quipu_state::rows::RowRead as _;
use quipu_types::table::{COUNTERS, TableCounters, TableDef, ledger_key};
use quipu_types::{AccountId, Decode as _};

use super::{DATABASE, Outcome, Prepared, Session, Statement, deep};
use crate::error::SqlError;
use crate::fault;
use crate::pg_catalog::{self, Relation, World};
use crate::public::{Look, Special};
use crate::settings::Settings;

/// What a world is made of, off the session's thread.
struct Sight {
    state: datafusion::execution::session_state::SessionState,
    look: Look,
    settings: Settings,
    roles: Arc<BTreeMap<String, AccountId>>,
    account: Option<AccountId>,
}

impl Session {
    fn sight(&self) -> Result<Sight, SqlError> {
        let look = self.look()?;
        let state = self.engine.state(&self.settings, &look, Special::default())?;
        let account = self.signer.map(|signer| signer.account);
        let (settings, roles) = (self.settings.clone(), Arc::clone(&self.roles));
        Ok(Sight { state, look, settings, roles, account })
    }

    /// Reads a question, and says what its rows are.
    pub(super) async fn prepare_catalog(
        &self,
        statement: &Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let sight = self.sight()?;
        let (own, types) = (statement.clone(), types.to_vec());
        let origin = (statement.clone(), types.clone());
        let work = deep::run(move || {
            let asked = asked(&own);
            pg_catalog::describe(&sight.world(asked)?, asked, &types)
        });
        let deadline = super::after(self.time_max());
        let done = tokio::time::timeout_at(deadline, work).await;
        let (columns, parameters) = done.map_err(|_| SqlError::timeout())??;
        Ok(Prepared {
            kind: statement.parsed.kind.clone(),
            plan: None,
            text: Arc::clone(&statement.text),
            point: None,
            target: None,
            source: None,
            origin,
            columns: Some(Arc::new(columns)),
            parameters,
        })
    }

    /// Answers a question.
    pub(super) async fn catalog(
        &mut self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let sight = self.sight()?;
        let (own, parameters) = (prepared.origin.0.clone(), prepared.parameters.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let work = deep::run(move || {
            let asked = asked(&own);
            pg_catalog::answer(&sight.world(asked)?, asked, &parameters, &values, now)
        });
        let deadline = super::after(self.time_max());
        let done = tokio::time::timeout_at(deadline, work).await;
        let answer = done.map_err(|_| SqlError::timeout())??;
        for (name, value) in answer.set {
            self.settings.set(&name, Some(&value))?;
        }
        let columns = prepared.columns.clone().unwrap_or_default();
        Ok(Outcome::Rows(self.rows_at_hand("SELECT", columns, answer.batch)))
    }
}

fn asked(statement: &Statement) -> &datafusion::sql::sqlparser::ast::Statement {
    statement.parsed.written.as_ref().expect("what asks for the catalog was parsed as it stands")
}

impl Sight {
    fn world(&self, asked: &datafusion::sql::sqlparser::ast::Statement) -> Result<World, SqlError> {
        let (_, user) = self.settings.get("session_authorization")?;
        let mut world = World::new(&user, &self.roles);
        if let Some(account) = self.account {
            world.own(account);
        }
        world.database = DATABASE.to_owned();
        world.search_path = self.settings.search_path();
        world.settings = self.settings.all();
        let database = self.state.catalog_list().catalog(DATABASE);
        let schema = |name: &str| database.as_ref().and_then(|database| database.schema(name));
        let (public, quipu) = (schema("public"), schema("quipu"));
        let failed = |error: StoreError| fault::failed(&error);
        let snapshot = &self.look.snapshot;
        let defs = snapshot.all().map_err(failed)?;
        let all: BTreeMap<u32, &TableDef> = defs.iter().map(|def| (def.id, def.as_ref())).collect();
        let needs_columns = pg_catalog::needs_columns(asked);
        for def in &defs {
            let counters = snapshot.get(&ledger_key(COUNTERS, def.id)).map_err(failed)?;
            let counters = counters.and_then(|bytes| TableCounters::from_bytes(&bytes).ok());
            let count = counters.unwrap_or_default().row_count;
            world.define(def, count, &all, |name| {
                let public = public.as_ref().filter(|_| needs_columns);
                public.map(|public| columns(public, name)).unwrap_or_default()
            });
        }
        for def in snapshot.procedures().map_err(failed)? {
            world.define_procedure(&def);
        }
        let known: Vec<&str> = defs.iter().map(|def| def.body.name()).collect();
        let streams = public.iter().flat_map(|public| public.table_names());
        for name in streams.filter(|name| !known.contains(&name.as_str())) {
            let columns = public.as_ref().map(|public| columns(public, &name));
            world.add(Relation::plain("public", &name, columns.unwrap_or_default()));
        }
        if let Some(schema) = &quipu {
            for name in schema.table_names() {
                world.add(Relation::plain("quipu", &name, columns(schema, &name)));
            }
        }
        Ok(world)
    }
}

/// The columns of a relation that can be scanned.
fn columns(schema: &Arc<dyn SchemaProvider>, name: &str) -> Vec<pg_catalog::RelationColumn> {
    // Nothing in planning waits: the tables are in memory.
    let Ok(Some(table)) = block_on(schema.table(name)) else { return Vec::new() };
    table.schema().fields().iter().map(|field| pg_catalog::column_of(field)).collect()
}
