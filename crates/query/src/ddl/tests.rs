//! What statements define, and why others are refused: each on what those before it left.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use expect_test::expect_file;
use proptest::prelude::*;
use quipu_state::TableError;
use quipu_state::store::Rows as StoredRows;
use quipu_types::table::{ColumnOptions, Identity, Reaction};
use quipu_types::transaction::{RouteRule, StreamSpec};
use quipu_types::{
    Action, Column, ColumnType, Hash, Header, Height, Lane, Outcome, ProcedureParameter,
    ProcedureSpec, PublicKey, Receipt, Schema, Seqno, Signature, Suite, TableSpec, Time,
    Transaction, ValidatorIndex, Writers,
};

use super::*;
use crate::arithmetic;
use crate::public::{Catalogs, Look, Special};
use crate::store::{IngestBlock, IngestTx};
use crate::tables::{Signer, TableSource};

const ALICE: AccountId = AccountId([0xA1; 32]);
const BOB: AccountId = AccountId([0xB0; 32]);

#[derive(Debug)]
struct Nothing;

impl TableSource for Nothing {
    fn get(&self, _: &[u8], _: Height) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn range(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: usize,
        _: Height,
    ) -> Result<StoredRows, StoreError> {
        Ok(StoredRows::new())
    }
}

/// A ledger with one stream, `events`, and whatever statements have defined.
struct World {
    snapshot: Snapshot,
    streams: ColumnStore,
    roles: BTreeMap<String, AccountId>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let streams = ColumnStore::open(folder.path()).unwrap();
        create_stream(&streams);
        let snapshot = Snapshot::new(Arc::new(Nothing), Height::new(7));
        let roles = BTreeMap::from([("alice".to_owned(), ALICE), ("bob".to_owned(), BOB)]);
        Self { snapshot, streams, roles, _folder: folder }
    }

    /// A planner that knows the tables and views.
    fn state(&self) -> SessionState {
        let mut config =
            SessionConfig::new().with_default_catalog_and_schema(crate::DATABASE, "public");
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        let mut context = SessionContext::new_with_config(config);
        context.register_expr_planner(Arc::new(arithmetic::Planner)).unwrap();
        let mut state = context.state();
        let view = self.streams.view().unwrap();
        let look = Look { view, snapshot: Arc::new(self.snapshot.clone()) };
        Catalogs::attach(&mut state, &self.streams, &look, Special::default());
        state
    }

    /// Creates a procedure that does nothing; its statement is read elsewhere.
    fn procedure(&mut self, name: &str, kinds: &[ColumnType]) {
        let parameter = |kind: &ColumnType| ProcedureParameter {
            name: String::new(),
            kind: *kind,
            default: None,
        };
        let spec = Box::new(ProcedureSpec {
            name: name.into(),
            parameters: kinds.iter().map(parameter).collect(),
            text: String::new(),
            is_atomic: false,
            programs: Vec::new(),
            is_definer: false,
            callers: Writers::Anyone,
        });
        let define = Define::CreateProcedure { spec, replaces: false };
        let signer = Signer { account: ALICE, is_open: false };
        let made = |tables: &mut quipu_state::Tables<'_>| tables.define(&define);
        let ((), changes) = self.snapshot.with_tables(signer, Time::new(0), made).unwrap();
        self.snapshot.change(changes);
    }

    /// Reads a text's statements and executes what each defines; tells it.
    fn run(&mut self, text: &str) -> String {
        let statements = match Parser::parse_sql(&PostgreSqlDialect {}, text) {
            Ok(statements) => statements,
            Err(error) => return format!("  42601 {error}\n"),
        };
        statements.iter().map(|statement| self.run_one(statement)).collect()
    }

    fn run_one(&mut self, statement: &Statement) -> String {
        if !is_ddl(statement) {
            return "  no definition\n".into();
        }
        let state = self.state();
        let Self { snapshot, streams, roles, .. } = self;
        let scope = Scope { state: &state, snapshot, streams, roles };
        let defined = match defines(statement, &scope) {
            Ok(defined) => defined,
            Err(error) => return told(&error),
        };
        let mut out = format!("  {}\n", defined.tag);
        for notice in &defined.notices {
            let Notice { severity, sqlstate, message } = notice;
            writeln!(out, "    {severity} {sqlstate} {message}").unwrap();
        }
        for define in &defined.defines {
            out.push_str(&shown(define));
        }
        let signer = Signer { account: ALICE, is_open: false };
        let done = self.snapshot.with_tables(signer, Time::new(0), |tables| {
            defined.defines.iter().try_for_each(|define| tables.define(define))
        });
        match done {
            Ok(((), changes)) => self.snapshot.change(changes),
            Err(TableError::Fault(fault)) => {
                writeln!(out, "    THE LEDGER REFUSES: {}", fault.code).unwrap();
            }
            Err(TableError::Store(error)) => writeln!(out, "    {error}").unwrap(),
        }
        out
    }
}

fn create_stream(store: &ColumnStore) {
    let signer = PublicKey::new(Suite::Ed25519Sha256, &[1; 32]).unwrap();
    let schema = Schema::parse("a int4").unwrap();
    let spec = StreamSpec {
        name: "events".into(),
        schema,
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: false,
    };
    let transaction = Transaction {
        signer,
        incarnation: 1,
        sequence: 1,
        anchor: Hash([3; 32]),
        route: None,
        actions: vec![Action::CreateStream(spec)],
        signature: Signature([0; 64]),
    };
    let (lane, seqno, tx) = (Lane::new(0), Seqno::new(1), Hash([1; 32]));
    let outcome = Outcome::Applied;
    let receipt =
        Receipt { lane, seqno, tx, action_count: 1, fee: 0, outcome, detail: 0, row_count: 0 };
    let header = Header {
        epoch: 0,
        height: Height::new(1),
        proposer: ValidatorIndex::new(0),
        prev_header: Hash::ZERO,
        cut: Vec::new(),
        term_changes: Vec::new(),
        time: Time::new(1),
        prev_commit: None,
        late_votes: Vec::new(),
        state_certificate: None,
        next_set: None,
        evidence_root: Hash::ZERO,
        rounds: quipu_types::Rounds::genesis(false),
    };
    let (transaction, receipt) = (&transaction, &receipt);
    let transactions = [IngestTx { lane, seqno, tx, transaction, receipt, not_before_us: 0 }];
    let block = IngestBlock {
        height: Height::new(1),
        header: &header,
        header_hash: Hash::ZERO,
        time_us: 1,
        transactions: &transactions,
    };
    store.ingest(&block).unwrap();
}

fn told(error: &SqlError) -> String {
    let mut out = format!("  {} {}\n", error.sqlstate, error.message);
    let detail = error.more.as_ref().and_then(|more| more.detail.as_ref());
    for line in detail.iter().flat_map(|detail| detail.lines()) {
        writeln!(out, "    detail: {line}").unwrap();
    }
    if let Some(hint) = &error.hint {
        writeln!(out, "    hint: {hint}").unwrap();
    }
    out
}

fn shown(define: &Define) -> String {
    match define {
        Define::CreateTable(spec) => shown_table(spec),
        Define::CreateView { name, text, replaces } => {
            format!("    {name} replaces={replaces} {text}\n")
        }
        Define::Drop(table) => format!("    drop {} of {}\n", table.id, table.version.get()),
        Define::Alter(table, alter) => {
            let alter = match alter {
                Alter::AddColumn(column, options) => {
                    format!("AddColumn {}", shown_column(column, options))
                }
                Alter::SetWriters(writers) => format!("SetWriters {}", shown_writers(writers)),
                other => format!("{other:?}"),
            };
            format!("    {} of {}: {alter}\n", table.id, table.version.get())
        }
        Define::DropProcedure(procedure) => {
            format!("    drop {} of {}\n", procedure.id, procedure.version.get())
        }
        Define::SetCallers(procedure, callers) => {
            let (version, callers) = (procedure.version.get(), shown_writers(callers));
            format!("    {} of {version}: SetCallers {callers}\n", procedure.id)
        }
        Define::CreateProcedure { .. } => "    not here\n".into(),
    }
}

fn shown_writers(writers: &Writers) -> String {
    match writers {
        Writers::Accounts(accounts) => {
            accounts.iter().map(|account| format!("{:02x} ", account.0[0])).collect()
        }
        other => format!("{other:?}"),
    }
}

fn shown_column(column: &Column, options: &ColumnOptions) -> String {
    let mut out = format!("{} {}", column.name, column.kind);
    if options.length > 0 {
        write!(out, "({})", options.length).unwrap();
    }
    if options.is_padded {
        out.push_str(" padded");
    }
    if !column.nullable {
        out.push_str(" not null");
    }
    if options.identity != Identity::Never {
        write!(out, " identity {:?}", options.identity).unwrap();
    }
    if let Some(default) = &options.default {
        write!(out, " default {default:?}").unwrap();
    }
    out
}

fn shown_table(spec: &TableSpec) -> String {
    let mut out = format!("    {}\n", spec.name);
    for (column, options) in spec.schema.columns().iter().zip(&spec.options) {
        writeln!(out, "      {}", shown_column(column, options)).unwrap();
    }
    if !spec.primary_key.is_empty() {
        writeln!(out, "      {} {:?}", spec.primary_key_name, spec.primary_key).unwrap();
    }
    for index in &spec.indexes {
        let unique = if index.is_unique { " unique" } else { "" };
        writeln!(out, "      {}{unique} {:?}", index.name, index.columns).unwrap();
    }
    for check in &spec.checks {
        writeln!(out, "      {} {}: {:?}", check.name, check.text, check.expr).unwrap();
    }
    for key in &spec.foreign_keys {
        write!(out, "      {} {:?} -> {}", key.name, key.columns, key.table).unwrap();
        for (when, reaction) in [("delete", key.on_delete), ("update", key.on_update)] {
            if reaction != Reaction::Refuse {
                write!(out, " on {when} {reaction:?}").unwrap();
            }
        }
        writeln!(out).unwrap();
    }
    out
}

/// Runs the statements of a file of `cases`, one a line; what they do stands indented below each.
fn check(name: &str) {
    let path = format!("cases/{name}.txt");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ddl");
    let texts = std::fs::read_to_string(folder.join(&path)).unwrap();
    let mut world = World::new();
    if name == "procedures" {
        world.procedure("pay", &[ColumnType::Int4, of_numeric()]);
        world.procedure("clear", &[]);
    }
    let statements = texts.lines().filter(|line| !line.starts_with(' '));
    let told: String = statements.map(|text| format!("{text}\n{}", world.run(text))).collect();
    expect_file![path].assert_eq(&told);
}

const fn of_numeric() -> ColumnType {
    ColumnType::Numeric { precision: 38, scale: 10 }
}

#[test]
fn procedures_are_granted_and_dropped_by_name() {
    check("procedures");
}

#[test]
fn types_are_read_under_all_their_names() {
    check("types");
}

#[test]
fn constraints_are_named_as_postgresql_names_them() {
    check("constraints");
}

#[test]
fn defaults_and_checks_are_compiled_with_the_columns_types() {
    check("expressions");
}

#[test]
fn clauses_are_honoured_passed_over_or_refused() {
    check("clauses");
}

#[test]
fn indexes_are_created_and_dropped() {
    check("indexes");
}

#[test]
fn views_must_plan_and_are_kept_as_text() {
    check("views");
}

#[test]
fn tables_are_dropped_after_those_that_refer_to_them() {
    check("drops");
}

#[test]
fn alterations_follow_each_other() {
    check("alterations");
}

#[test]
fn privileges_of_writing_go_together() {
    check("privileges");
}

#[test]
fn an_expression_that_nests_too_deep_for_the_ledger_is_refused() {
    let told =
        World::new().run(&format!("create table t (a int check (a{} > 0))", " + 1".repeat(55)));
    assert!(told.starts_with("  54000 the definition goes over a limit"), "{told}");
}

/// Pieces of which texts are made that often parse.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "create", "table", "view", "index", "alter", "drop", "grant", "revoke", "add", "column",
    "constraint", "primary key", "unique", "check", "references", "foreign key", "default",
    "not null", "null", "if exists", "if not exists", "or replace", "on", "to", "from", "as",
    "select", "insert", "all", "public", "alice", "t", "p", "a", "b", "\"É\"", "int", "text",
    "numeric(4,2)", "varchar(3)", "float8", "json", "serial", "int[]", "(", ")", "(a)", "(a, b)",
    "(a int, b text)", ",", ",", "1", "'x'", "'1'", "now()", "uuid()", "a > 1", "b like 'x'",
    "count(*)", "$1", "generated always as identity", "using btree", "cascade", "rename to",
    "owner to", "truncate", "update", "delete", "where", "*", ";", ".", "-", "::date", "case when",
    "then", "else", "end", "_a", "pg_x", "events",
];
const BEGINNINGS: &[&str] = &[
    "create table x (a int, b text",
    "create table x (a",
    "create unique index on t (",
    "create view x as select",
    "create or replace view v as select a",
    "alter table t add",
    "alter table t",
    "drop table",
    "grant all on t to",
    "revoke",
    "",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_it_panic(
        beginning in proptest::sample::select(BEGINNINGS),
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..12),
        end in proptest::sample::select(vec!["", ")", "))", "(a)", "t"]),
    ) {
        let mut world = World::new();
        world.run("create table p (a int primary key); create table t (a int references p, b text)");
        world.run("create view v as select a from t");
        let told = world.run(&format!("{beginning} {} {end}", words.join(" ")));
        prop_assert!(!told.contains("THE LEDGER REFUSES"), "{told}");
    }
}
