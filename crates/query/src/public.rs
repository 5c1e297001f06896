//! Schema `public` as one statement sees it: streams, tables and views under one list of names.
//!
//! ```text
//!  Look { streams' view, tables' snapshot } ─> Catalogs over the engine's own ─> schema public ─ name ─> provider
//!                                                                 a view: its text, planned in the same look
//! ```
//! The engine's own catalog, which the catalog crate lists, has the same schema at the newest height.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use quipu_types::table::{Body, TableDef};

use crate::catalog::stored;
use crate::engine::DATABASE;
use crate::store::{ColumnStore, ReadView};
use crate::tables::{RowTable, Snapshot, TableSource, Want};

/// Views within each other.
const VIEW_DEPTH_MAX: u8 = 16;

/// What a statement sees: everything at one height (Q1).
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) view: Arc<ReadView>,
    pub(crate) snapshot: Arc<Snapshot>,
}

/// How a statement treats some tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Special {
    /// The table that it writes, by number, and how.
    pub(crate) target: Option<(u32, Want)>,
    /// A table of this name stands for rows at hand.
    pub(crate) instead: Option<(String, Arc<dyn TableProvider>)>,
}

/// The engine's catalogs with `public` as a statement sees it.
#[derive(Debug)]
pub(crate) struct Catalogs {
    base: Arc<dyn CatalogProviderList>,
    public: Arc<Public>,
}

impl Catalogs {
    /// `state` with `public` as `look` shows it.
    pub(crate) fn attach(
        state: &mut SessionState,
        store: &ColumnStore,
        look: &Look,
        special: Special,
    ) {
        let public = Public {
            store: store.clone(),
            tables: Tables::Fixed(Arc::clone(&look.snapshot)),
            special,
            planner: Planner::Own(Box::new(state.clone())),
            depth: 0,
        };
        let base = Arc::clone(state.catalog_list());
        state.register_catalog_list(Arc::new(Self { base, public: Arc::new(public) }));
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.base.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let base = self.base.catalog(name)?;
        if name != DATABASE {
            return Some(base);
        }
        Some(Arc::new(Database { base, public: Arc::clone(&self.public) }))
    }
}

#[derive(Debug)]
struct Database {
    base: Arc<dyn CatalogProvider>,
    public: Arc<Public>,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        self.base.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name != "public" {
            return self.base.schema(name);
        }
        let public: Arc<dyn SchemaProvider> = Arc::<Public>::clone(&self.public);
        Some(public)
    }
}

#[derive(Clone, Debug)]
enum Tables {
    Fixed(Arc<Snapshot>),
    /// Of the height that the streams have.
    Newest(Arc<dyn TableSource>),
}

/// Who plans views.
#[derive(Clone)]
enum Planner {
    Own(Box<SessionState>),
    /// The engine's, once there is one.
    Shared(Arc<OnceLock<Weak<SessionContext>>>),
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Planner")
    }
}

impl Planner {
    fn state(&self) -> Option<SessionState> {
        match self {
            Self::Own(state) => Some(SessionState::clone(state)),
            Self::Shared(context) => context.get()?.upgrade().map(|context| context.state()),
        }
    }
}

/// Schema `public`.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    store: ColumnStore,
    tables: Tables,
    special: Special,
    planner: Planner,
    depth: u8,
}

impl Public {
    /// The schema at the newest height; views are planned by the context that `planner` gets.
    pub(crate) fn newest(
        store: ColumnStore,
        source: Arc<dyn TableSource>,
        planner: Arc<OnceLock<Weak<SessionContext>>>,
    ) -> Self {
        let (tables, special) = (Tables::Newest(source), Special::default());
        Self { store, tables, special, planner: Planner::Shared(planner), depth: 0 }
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        match &self.tables {
            Tables::Fixed(snapshot) => Ok(Arc::clone(snapshot)),
            Tables::Newest(source) => {
                Ok(Arc::new(Snapshot::new(Arc::clone(source), self.store.height())))
            }
        }
    }

    fn definition(&self, name: &str) -> Result<Option<Arc<TableDef>>> {
        self.snapshot()?.named(name).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    async fn provider(&self, def: Arc<TableDef>) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Body::View { text, .. } = &def.body {
            return self.view(text).await.map(Some);
        }
        let target = self.special.target.filter(|(target, _)| *target == def.id);
        let table = RowTable::new(def, target.map_or(Want::Rows, |(_, want)| want));
        Ok(table.map(|table| -> Arc<dyn TableProvider> { Arc::new(table) }))
    }

    async fn view(&self, text: &str) -> Result<Arc<dyn TableProvider>> {
        if self.depth >= VIEW_DEPTH_MAX {
            return plan_err!("views are nested deeper than {VIEW_DEPTH_MAX}, or in a circle");
        }
        let Some(mut state) = self.planner.state() else {
            return plan_err!("the engine stops");
        };
        let inner = Self {
            depth: self.depth.saturating_add(1),
            special: Special::default(),
            tables: Tables::Fixed(self.snapshot()?),
            ..self.clone()
        };
        let base = Arc::clone(state.catalog_list());
        state.register_catalog_list(Arc::new(Catalogs { base, public: Arc::new(inner) }));
        let plan = state.create_logical_plan(text).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(text.to_owned()))))
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.store.table_names("public.");
        let tables = self.snapshot().ok().and_then(|snapshot| snapshot.all().ok());
        names.extend(tables.into_iter().flatten().map(|def| def.body.name().to_owned()));
        names.sort();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some((own, provider)) = &self.special.instead
            && own == name
        {
            return Ok(Some(Arc::clone(provider)));
        }
        if let Some(stream) = stored(&self.store, &format!("public.{name}")) {
            return Ok(Some(stream));
        }
        match self.definition(name)? {
            Some(def) => self.provider(def).await,
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.store.table(&format!("public.{name}")).is_some()
            || matches!(self.definition(name), Ok(Some(_)))
    }
}
