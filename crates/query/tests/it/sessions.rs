//! What a session is told: parameters, transactions, refusals.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use quipu_query::{Engine, Limits, Outcome, Session, SqlError, parameters};
use quipu_types::{Schema, Value};

use crate::ledger::{
    Feeder, NoTables, SIGNER, Source, append, create, engine, open, runtime, told,
};

fn flights(folder: &std::path::Path, rows: i64) -> quipu_query::ColumnStore {
    let store = open(folder);
    let columns = "carrier text not null, delay int4, n int8 not null, day date not null";
    let schema = Schema::parse(columns).unwrap();
    let mut feeder = Feeder::new();
    feeder.feed(&store, &[vec![create("flights", columns)]]);
    let actions: Vec<_> = (0..rows)
        .map(|n| {
            let carrier = if n % 2 == 0 { "AA" } else { "BB" };
            let delay = Value::Int4(i32::try_from(n).unwrap());
            let day = Value::Date(15_706);
            append("flights", &schema, &[Value::Text(carrier.into()), delay, Value::Int8(n), day])
        })
        .collect();
    feeder.feed(&store, &[actions]);
    store
}

async fn transcript(session: &mut Session, statements: &[&str]) -> String {
    let mut lines = Vec::new();
    for sql in statements {
        let answer = told(session, sql).await;
        lines.push(format!(
            "{sql}\n  {} -> {}",
            char::from(session.status()),
            answer.replace('\n', "\n       ")
        ));
    }
    lines.join("\n") + "\n"
}

#[test]
fn writes_and_what_is_not_here_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = engine(&flights(folder.path(), 4)).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            insert into flights values ('AA')
              I -> 42601 VALUES lists must all be the same length
            update flights set n = 1
              I -> 0A000 "flights" only grows: what it has can not be changed (INSERT what corrects it, or keep in a table what changes)
            delete from flights
              I -> 0A000 "flights" only grows: what it has can not be changed (INSERT what corrects it, or keep in a table what changes)
            truncate flights
              I -> 0A000 "flights" only grows: what it has can not be changed (INSERT what corrects it, or keep in a table what changes)
            create table x (a int)
              I -> Define(CreateTable(TableSpec { name: "x", schema: Schema { columns: [Column { name: "a", kind: Int4, nullable: true }] }, options: [ColumnOptions { default: None, identity: Never, length: 0, is_padded: false }], primary_key: [], primary_key_name: "", indexes: [], checks: [], foreign_keys: [], writers: Creator }))
            create view v as select 1
              I -> Define(CreateView { name: "v", text: "SELECT * FROM (SELECT 1) AS \"v\" (\"?column?\")", replaces: false })
            drop table flights
              I -> 42809 "flights" is not a table (it is a stream: streams are neither changed nor dropped)
            alter table flights add column x int
              I -> 0A000 ALTER of a stream is not supported
            grant select on flights to bob
              I -> 42704 role "bob" does not exist
            copy flights to '/tmp/x'
              I -> 42501 must be superuser or have privileges of the pg_write_server_files role to COPY to a file: this server does neither for anybody (Anyone can COPY to stdout or from stdin. psql's \copy command also works for anyone.)
            select * into x from flights
              I -> 0A000 SELECT INTO is not supported (INSERT, UPDATE, DELETE and COPY write)
            with x as (delete from flights returning n) select * from x
              I -> 0A000 DELETE is not supported (INSERT, UPDATE, DELETE and COPY write)
            select * from flights for update
              I -> carrier|delay|n|day|_lane|_seqno|_action|_height|_time_min|_time_max|_signer|_tx|_key|_order
                   AA|0|0|2013-01-01|2|2|0|2|2023-11-14 22:13:20.5+00|~|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:0|\x6b|1
                   BB|1|1|2013-01-01|2|2|1|2|2023-11-14 22:13:20.5+00|~|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:1|\x6b|1
                   AA|2|2|2013-01-01|2|2|2|2|2023-11-14 22:13:20.5+00|~|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:2|\x6b|1
                   BB|3|3|2013-01-01|2|2|3|2|2023-11-14 22:13:20.5+00|~|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:3|\x6b|1
            create external table t stored as csv location '/etc/passwd'
              I -> 42601 syntax error: Expected: fileformat, found: csv @35
            begin isolation level serializable
              T -> BEGIN
            declare c cursor for select 1
              E -> 0A000 DECLARE is not supported
            vacuum nothing
              E -> 25P02 current transaction is aborted, commands ignored until end of transaction block
        "#]].assert_eq(
            &transcript(
                &mut session,
                &[
                    "insert into flights values ('AA')",
                    "update flights set n = 1",
                    "delete from flights",
                    "truncate flights",
                    "create table x (a int)",
                    "create view v as select 1",
                    "drop table flights",
                    "alter table flights add column x int",
                    "grant select on flights to bob",
                    "copy flights to '/tmp/x'",
                    "select * into x from flights",
                    "with x as (delete from flights returning n) select * from x",
                    "select * from flights for update",
                    "create external table t stored as csv location '/etc/passwd'",
                    "begin isolation level serializable",
                    "declare c cursor for select 1",
                    "vacuum nothing",
                ],
            )
            .await,
        );
    });
}

#[test]
fn errors_carry_a_state_and_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = engine(&flights(folder.path(), 4)).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            selec 1
              I -> 42601 syntax error: Expected: an SQL statement, found: selec @1
            select
              1 +
              I -> 42601 syntax error: Expected: an expression, found: EOF @13
            select * from nope
              I -> 42P01 relation "nope" does not exist @15
            select * from quipu.nope
              I -> 42P01 relation "quipu.nope" does not exist @15
            select carier from flights
              I -> 42703 column "carier" does not exist @8 (Perhaps you meant to reference the column "carrier".)
            select f.x from flights f
              I -> 42703 column "f.x" does not exist @10
            select nope(1)
              I -> 42883 Invalid function 'nope'.
            select carrier, n from flights group by carrier
              I -> 42803 Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "flights.n" must appear in the GROUP BY clause or must be part of an aggregate function, currently only "flights.carrier" appears in the SELECT clause satisfies this requirement
            select 1/0
              I -> 22012 Divide by zero error
            select 'x'::int
              I -> 22P02 invalid input syntax for type integer: "x"
            select 1::int2 + 'a'
              I -> 42883 Cannot coerce arithmetic expression Int16 + Utf8 to valid types
            select sum(carrier) from flights
              I -> 42883 sum takes one number, not (Utf8).
            select 9223372036854775807 + 1
              I -> 22003 Arithmetic overflow: Overflow happened on: 9223372036854775807 + 1
            select 1; select 2
              I -> 42601 exactly one statement is needed

              I -> 42601 exactly one statement is needed
        "#]].assert_eq(
            &transcript(
                &mut session,
                &[
                    "selec 1",
                    "select\n  1 +",
                    "select * from nope",
                    "select * from quipu.nope",
                    "select carier from flights",
                    "select f.x from flights f",
                    "select nope(1)",
                    "select carrier, n from flights group by carrier",
                    "select 1/0",
                    "select 'x'::int",
                    "select 1::int2 + 'a'",
                    "select sum(carrier) from flights",
                    "select 9223372036854775807 + 1",
                    "select 1; select 2",
                    "",
                ],
            )
            .await,
        );
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "its transcript is long")]
fn a_transaction_fails_as_a_whole_and_parameters_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = engine(&flights(folder.path(), 4)).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            BEGIN
              T -> BEGIN
            select count(*) from flights
              T -> count
                   4
            select x
              E -> 42703 column "x" does not exist @8
            select 1
              E -> 25P02 current transaction is aborted, commands ignored until end of transaction block
            COMMIT
              I -> ROLLBACK
            begin read only
              T -> BEGIN
            savepoint s
              T -> SAVEPOINT
            select x
              E -> 42703 column "x" does not exist @8
            rollback to savepoint s
              T -> ROLLBACK
            release savepoint s
              T -> RELEASE
            END
              I -> COMMIT
            SET application_name TO 'me'
              I -> SET
            show application_name
              I -> application_name
                   me
            SET client_encoding = 'latin1'
              I -> 22023 invalid value for parameter "client_encoding": "latin1" (it can be: utf8, utf-8, unicode)
            set timezone = 'UTC'
              I -> SET
            set timezone = 'Europe/Berlin'
              I -> 22023 invalid value for parameter "timezone": "Europe/Berlin" (it can be: utc, etc/utc, gmt, 0, +00:00, +00, zulu)
            show timezone
              I -> TimeZone
                   UTC
            show transaction isolation level
              I -> transaction_isolation
                   read committed
            show nope
              I -> 42704 unrecognized configuration parameter "nope"
            set nope = 1
              I -> 42704 unrecognized configuration parameter "nope"
            set my.own = 'x'
              I -> SET
            show my.own
              I -> my.own
                   x
            reset all
              I -> RESET
            show my.own
              I -> 42704 unrecognized configuration parameter "my.own"
            SET statement_timeout = '1s'
              I -> SET
            discard all
              I -> DISCARD ALL
            deallocate all
              I -> DEALLOCATE ALL
            deallocate x
              I -> DEALLOCATE
            select version()
              I -> version
                   PostgreSQL 15.0 (Quipu 0.1.0)
            select current_schema(), current_database(), current_user
              I -> current_schema|current_database|current_user
                   public|quipu|ann
            show search_path
              I -> search_path
                   "$user", public
            set search_path = quipu
              I -> SET
            select count(*) from streams
              I -> count
                   1
        "#]].assert_eq(
            &transcript(
                &mut session,
                &[
                    "BEGIN", "select count(*) from flights", "select x", "select 1", "COMMIT",
                    "begin read only", "savepoint s", "select x", "rollback to savepoint s", "release savepoint s", "END",
                    "SET application_name TO 'me'", "show application_name", "SET client_encoding = 'latin1'",
                    "set timezone = 'UTC'", "set timezone = 'Europe/Berlin'", "show timezone", "show transaction isolation level",
                    "show nope", "set nope = 1", "set my.own = 'x'", "show my.own", "reset all", "show my.own",
                    "SET statement_timeout = '1s'", "discard all", "deallocate all", "deallocate x",
                    "select version()", "select current_schema(), current_database(), current_user", "show search_path",
                    "set search_path = quipu", "select count(*) from streams",
                ],
            )
            .await,
        );
    });
}

/// A statement, the types that the client says, and for each value whether it is binary, and its bytes.
type Case<'a> = (&'a str, &'a [u32], Vec<(bool, &'a [u8])>);

#[test]
fn parameters_have_the_types_that_the_client_or_the_plan_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = engine(&flights(folder.path(), 10)).session("ann", SIGNER);
    const INT2: u32 = 21;
    const TEXT: u32 = 25;
    runtime().block_on(async {
        let cases: [Case<'_>; 7] = [
            ("select n from flights where n = $1", &[INT2], vec![(true, &[0, 3])]),
            ("select n from flights where n = $1", &[], vec![(false, b"4")]),
            (
                "select carrier from flights where carrier = $1 and n < $2",
                &[TEXT, 0],
                vec![(false, b"BB"), (false, b"2")],
            ),
            ("select $1, $2::int8 + 1", &[], vec![(false, b"free"), (false, b"41")]),
            (
                "select n from flights order by n limit $1 offset $2",
                &[20, 20],
                vec![(true, &[0, 0, 0, 0, 0, 0, 0, 2]), (false, b"1")],
            ),
            ("select count(*) from flights where day = $1", &[], vec![(false, b"2013-01-01")]),
            ("select count(*) from flights where n = any($1)", &[1016], vec![(false, b"{1,2,77}")]),
        ];
        let mut lines = String::new();
        for (sql, types, values) in cases {
            lines.push_str(&format!(
                "{sql}\n  -> {}\n",
                bound(&mut session, sql, types, &values)
                    .await
                    .unwrap_or_else(|error| error.to_string())
            ));
        }
        expect![[r#"
            select n from flights where n = $1
              -> [21] [[Some("3")]]
            select n from flights where n = $1
              -> [20] [[Some("4")]]
            select carrier from flights where carrier = $1 and n < $2
              -> [25, 20] [[Some("BB")]]
            select $1, $2::int8 + 1
              -> [25, 20] [[Some("free"), Some("42")]]
            select n from flights order by n limit $1 offset $2
              -> [20, 20] [[Some("1")], [Some("2")]]
            select count(*) from flights where day = $1
              -> [1082] [[Some("10")]]
            select count(*) from flights where n = any($1)
              -> [1016] [[Some("2")]]
        "#]]
        .assert_eq(&lines);
    });
}

async fn bound(
    session: &mut Session,
    sql: &str,
    types: &[u32],
    values: &[(bool, &[u8])],
) -> Result<String, SqlError> {
    let statement = session.parse(sql).await?.remove(0);
    let prepared = session.prepare(&statement, types).await?;
    let mut all = String::new();
    // Twice: a prepared statement is not used up.
    for _ in 0..2 {
        let decoded = prepared
            .parameters
            .iter()
            .zip(values)
            .map(|(parameter, (is_binary, bytes))| {
                parameters::decode(parameter, *is_binary, Some(bytes))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Outcome::Rows(mut rows) = session.execute(&prepared, decoded).await? {
            let types: Vec<u32> =
                prepared.parameters.iter().map(|parameter| parameter.oid).collect();
            all = format!("{types:?} {:?}", rows.texts(100).await?);
        }
    }
    Ok(all)
}

#[test]
fn a_query_that_runs_too_long_or_holds_too_much_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = flights(folder.path(), 3000);
    let limits = Limits {
        memory_size_max: 1 << 20,
        statement_time_max: Duration::from_millis(300),
        partition_count: 2,
    };
    let engine = Engine::new(store, Arc::new(Source), Arc::new(NoTables), limits).unwrap();
    let mut session = engine.session("ann", SIGNER);
    runtime().block_on(async {
        let sql = "select count(*) from flights a, flights b, flights c where a.n + b.n + c.n = -1";
        assert!(told(&mut session, sql).await.starts_with("57014"));
        let sql = "select count(distinct a.n * 100000 + b.n) from flights a cross join flights b where a.n < 60";
        assert!(told(&mut session, sql).await.starts_with("53200"), "{}", told(&mut session, sql).await);
        assert_eq!(told(&mut session, "select 1 a").await, "a\n1");
    });
}

#[test]
fn deep_and_long_texts_are_refused_and_never_overflow_a_stack() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&flights(folder.path(), 4));
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut session = engine.session("ann", SIGNER);
        runtime.block_on(async {
            let many = 900;
            for sql in [
                format!("select {}1", "(".repeat(5000)),
                format!("select 1{}", " + 1".repeat(many)),
                format!("select 1{}", " + 1".repeat(500_000)),
                format!("select 1 where {}true", "not ".repeat(many)),
                format!("select 1{}", "::int".repeat(many)),
                format!("select 1 {}", "union all select 1 ".repeat(many / 4)),
                format!("select 1 {}", "union all select 1 ".repeat(120)),
                format!("select 1 {}", "union select 1 ".repeat(60)),
                format!("select 1 from flights a{}", ", flights".repeat(120)),
                format!(
                    "select 1 from flights a{}",
                    (0..60).map(|n| format!(" join flights b{n} using (n)")).collect::<String>()
                ),
                format!(
                    "with c0 as (select 1 n){} select * from c40",
                    (1..41)
                        .map(|n| format!(", c{n} as (select n + 1 n from c{})", n - 1))
                        .collect::<String>()
                ),
                format!("select 1 where 1 = 1{}", " or n = 2".repeat(300)),
                format!("select n from flights where n = 1{}", " or n = 2 and n < 4".repeat(200)),
                format!("select 1.5{}", " * 1.5".repeat(many)),
                format!("select 'a'{}", " || 'a'".repeat(many)),
                format!(
                    "select {}1{}",
                    "case when true then ".repeat(many / 4),
                    " end".repeat(many / 4)
                ),
                format!("select {}1{}", "abs(".repeat(many), ")".repeat(many)),
                "[".repeat(100_000),
                "select '".to_owned(),
            ] {
                let said = told(&mut session, &sql).await;
                assert!(!said.starts_with("XX"), "{said}");
            }
        });
    });
    worker.unwrap().join().unwrap();
}

#[test]
fn psql_finds_the_tables_and_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = engine(&flights(folder.path(), 4)).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type", pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;
              I -> Schema|Name|Type|Owner
                   public|flights|table|pg_database_owner
            select table_schema, table_name from information_schema.tables where table_schema in ('public', 'quipu') order by 1, 2
              I -> table_schema|table_name
                   public|flights
                   quipu|accounts
                   quipu|epochs
                   quipu|events
                   quipu|evidence
                   quipu|headers
                   quipu|lanes
                   quipu|metrics
                   quipu|receipts
                   quipu|streams
                   quipu|terms
                   quipu|transactions
                   quipu|validators
            select column_name, is_nullable, data_type from information_schema.columns where table_name = 'flights' order by ordinal_position
              I -> column_name|is_nullable|data_type
                   carrier|NO|text
                   delay|YES|integer
                   n|NO|bigint
                   day|NO|date
                   _lane|NO|integer
                   _seqno|NO|bigint
                   _action|NO|integer
                   _height|NO|bigint
                   _time_min|NO|timestamp with time zone
                   _time_max|YES|timestamp with time zone
                   _signer|NO|text
                   _tx|NO|text
                   _key|NO|bytea
                   _order|NO|bigint
        "#]].assert_eq(
            &transcript(
                &mut session,
                &[
                    "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as \"Type\", pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;",
                    "select table_schema, table_name from information_schema.tables where table_schema in ('public', 'quipu') order by 1, 2",
                    "select column_name, is_nullable, data_type from information_schema.columns where table_name = 'flights' order by ordinal_position",
                ],
            )
            .await,
        );
    });
}
