//! The PostgreSQL port as psql sees it, and clients that break off: passwords, TLS, `COPY`, transactions of one text.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use expect_test::expect;
use quipu_crypto::keyfile;
use quipu_node::pg::Verifier;
use quipu_node::{Config, TlsFiles};

use crate::wire::Wire;
use crate::world::{Served, World, secret};

/// The certificate of `localhost` that the listener's own tests use.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const START: &str = "Startup 3.0 {'user': 'ann', 'database': 'quipu'}";
const CREATE: &str = "create stream t(a int4 not null, b text)";

/// A ledger that `ann` writes to.
fn config(world: &World) -> Config {
    let mut config = world.config();
    let key = world.dir().join("ann.key");
    keyfile::save(&key, &secret(2), None).unwrap();
    config.roles.insert("ann".into(), key);
    config
}

fn served(world: &World) -> Served {
    let served = Served::start(config(world)).unwrap();
    assert_eq!(psql(served.at.pg, CREATE), "CREATE STREAM\n");
    served
}

/// What psql prints for a script as `ann`, its errors last.
fn psql(address: SocketAddr, script: &str) -> String {
    psql_as(address, "user=ann sslmode=disable", "", script)
}

fn psql_as(address: SocketAddr, who: &str, password: &str, script: &str) -> String {
    let port = address.port();
    let mut child = Command::new("psql")
        .args(["-X", "-A", "-t", "-w", "-f", "-"])
        .arg(format!("host=127.0.0.1 port={port} dbname=quipu connect_timeout=20 {who}"))
        .env("PGPASSWORD", password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("scripts/setup installs psql");
    // A psql that could not connect has closed its end.
    drop(child.stdin.take().unwrap().write_all(script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap().replace(&port.to_string(), "PORT")
}

#[test]
fn psql_copies_in_and_out_over_tls_with_a_password() {
    let world = World::new();
    let key = world.dir().join("pg.key");
    std::fs::copy(format!("{DATA}/pg-server.key"), &key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let mut config = config(&world);
    config.passwords.insert("ann".into(), Verifier::of_password("s3cret").unwrap());
    config.tls = Some(TlsFiles { certificate: format!("{DATA}/pg-server.crt").into(), key });
    // What the file says of passwords and TLS is what was meant.
    std::fs::write(world.dir().join("config.toml"), config.to_toml()).unwrap();
    let served = world.start();
    let ann = |script: &str| psql_as(served.at.pg, "user=ann sslmode=require", "s3cret", script);
    let folder = world.root.path().display();
    let csv = "a,b\n1,one\n2,\"two, and \"\"more\"\"\nlines\"\n3,\n4,\"\"\n5,\\N\n";
    std::fs::write(world.root.path().join("in.csv"), csv).unwrap();
    expect![[r#"
        CREATE STREAM
        COPY 5
        COPY 5
        COPY 5
        COPY 5
        COPY 10
        5|\N
        COPY 5
        15|75
    "#]]
    .assert_eq(&ann(&format!(
        "{CREATE};
         \\copy t from '{folder}/in.csv' csv header
         \\copy (select a, b from t order by a) to '{folder}/out.csv' csv header
         \\copy (select a, b from t order by a) to '{folder}/out.bin' (format binary)
         \\copy t from '{folder}/out.bin' (format binary)
         \\copy t to '{folder}/out.txt'
         select b from t where a = 5 and b is not null limit 1 \\gset
         \\echo 5|:b
         \\copy t(b, a) from program 'seq 11 15 | sed \"s/^/x\\t/\"' \n
         select count(*), sum(a) - 20 from t"
    )));
    let out = std::fs::read_to_string(world.root.path().join("out.csv")).unwrap();
    assert_eq!(out, csv);
    let text = std::fs::read_to_string(world.root.path().join("out.txt")).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "3\t\\N").count(), 2, "{text}");
    expect![[r#"
        psql: error: connection to server at "127.0.0.1", port PORT failed: FATAL:  password authentication failed for user "ann"
        DETAIL:  QP0710 (quipu explain QP0710)
    "#]]
    .assert_eq(&psql_as(served.at.pg, "user=ann sslmode=require", "wrong", "select 1"));
    served.stop().unwrap();
}

#[test]
fn a_copy_is_applied_whole_or_not_at_all() {
    let world = World::new();
    let served = served(&world);
    let start = || {
        let mut wire = Wire::new(served.at.pg);
        wire.say(START);
        wire.answers.clear();
        wire
    };
    // One vanishes, one gives up, one is wrong in its last line.
    let mut gone = start();
    assert_eq!(gone.told("Query copy t from stdin"), "G[0 of 2]");
    gone.say("CopyData");
    drop(gone);
    let mut wire = start();
    wire.say("Query copy t from stdin");
    wire.say("CopyData");
    wire.answers.clear();
    expect![[r#"
        E[57014] Z[I]
                 COPY from stdin failed: enough"#]]
    .assert_eq(&wire.told("CopyFail"));
    expect![[r#"
        psql:<stdin>:5: ERROR:  invalid input syntax for type integer: "three"
        DETAIL:  QP0704 (quipu explain QP0704)
        CONTEXT:  COPY t, line 3, column a: "three"
        psql:<stdin>:9: ERROR:  null value in column "a" of relation "t" violates not-null constraint
        DETAIL:  QP0207 (quipu explain QP0207)
        CONTEXT:  COPY t, line 1: "\N	x"
    "#]]
    .assert_eq(&psql(
        served.at.pg,
        "copy t from stdin;\n1\tx\n2\tx\nthree\tx\n\\.\n\\set VERBOSITY default\ncopy t from stdin;\n\\N\tx\n\\.\n",
    ));
    // It waits for its transaction, as rows of an INSERT do; in the extended protocol too.
    for line in [
        "Query begin",
        "Query copy t from stdin",
        "CopyData",
        "CopyDone",
        "Query rollback",
        "Query begin",
        "Parse(-) copy t (a) from stdin ptypes=[]",
        "Bind(portal=-,stmt=-,pfmt=[],nparams=0,rfmt=[])",
        "Describe(P:-)",
        "Execute(max=0)",
        "Flush",
        "CopyData",
        "CopyDone",
        "Sync",
        "Query commit",
        "Query copy (select a, b from t) to stdout",
    ] {
        wire.say(line);
    }
    let forms: Vec<String> = wire.answers.drain(..).map(|(_, answer)| answer.form).collect();
    expect![[r#"
        C[BEGIN] Z[T]
        G[0 of 2]
        C[COPY 1] Z[T]
        C[ROLLBACK] Z[I]
        C[BEGIN] Z[T]
        1
        2
        n
        G[0 of 1]
        C[COPY 1]
        Z[T]
        C[COMMIT] Z[I]
        H[0 of 2] d c C[COPY 1] Z[I]"#]]
    .assert_eq(&forms.join("\n"));
    served.stop().unwrap();
}

#[test]
fn rows_are_appended_in_parts_if_the_client_wants_it_and_then_stay() {
    let world = World::new();
    let served = served(&world);
    expect![[r#"
        SET
        COPY 5
        5
        9
        psql:<stdin>:8: NOTICE:  rows were appended in 2 parts before the last, as quipu.copy_batch_rows says
        psql:<stdin>:16: ERROR:  missing data for column "b"
        DETAIL:  The first 4 rows were written, and stay.
        QP0704 (quipu explain QP0704)
        CONTEXT:  COPY t, line 5: "5"
        psql:<stdin>:18: ERROR:  invalid value for parameter "quipu.copy_batch_rows": "-1"
        DETAIL:  QP0502 (quipu explain QP0502)
        HINT:  0 (all rows in one transaction) to 16384 rows
    "#]]
    .assert_eq(&psql(
        served.at.pg,
        "set quipu.copy_batch_rows = 2;\ncopy t from stdin;\n1\tx\n2\tx\n3\tx\n4\tx\n5\tx\n\\.\nselect count(*) from t;\n\
         copy t from stdin;\n1\tx\n2\tx\n3\tx\n4\tx\n5\n\\.\nselect count(*) from t;\nset quipu.copy_batch_rows = -1;",
    ));
    served.stop().unwrap();
}

#[test]
fn the_statements_of_one_text_are_one_transaction_and_notices_are_told() {
    let world = World::new();
    let served = served(&world);
    let mut wire = Wire::new(served.at.pg);
    wire.say(START);
    wire.answers.clear();
    let said: String = [
        "insert into t values (1, 'x'); insert into t values (2, 'x'); vacuum nothing",
        "select count(*) from t",
        "insert into t values (1, 'x'); insert into t values (2, 'x')",
        "insert into t values (3, 'x'); commit; insert into t values (4, 'x'); vacuum nothing",
        "begin; insert into t values (5, 'x'); begin",
        "rollback",
        "rollback",
        "select count(*) from t",
        "set client_min_messages = error",
        "rollback",
        "vacuum t; select 1",
        "vacuum (analyze) t",
        "analyze t",
        "vacuum nothing",
        "checkpoint",
    ]
    .iter()
    .map(|text| {
        let answer = wire.told(&format!("Query {text}"));
        format!("{text}\n    {answer} {}\n", std::mem::take(&mut wire.last_row))
    })
    .collect();
    expect![[r#"
        insert into t values (1, 'x'); insert into t values (2, 'x'); vacuum nothing
            C[INSERT 0 1] C[INSERT 0 1] E[25001] Z[I]
                 VACUUM cannot run inside a transaction block 
        select count(*) from t
            T[count:20] C[SELECT] Z[I] 0
        insert into t values (1, 'x'); insert into t values (2, 'x')
            C[INSERT 0 1] C[INSERT 0 1] Z[I] 
        insert into t values (3, 'x'); commit; insert into t values (4, 'x'); vacuum nothing
            C[INSERT 0 1] N[25P01] C[COMMIT] C[INSERT 0 1] E[25001] Z[I]
                 VACUUM cannot run inside a transaction block 
        begin; insert into t values (5, 'x'); begin
            C[BEGIN] C[INSERT 0 1] N[25001] C[BEGIN] Z[T] 
        rollback
            C[ROLLBACK] Z[I] 
        rollback
            N[25P01] C[ROLLBACK] Z[I] 
        select count(*) from t
            T[count:20] C[SELECT] Z[I] 3
        set client_min_messages = error
            C[SET] Z[I] 
        rollback
            C[ROLLBACK] Z[I] 
        vacuum t; select 1
            E[25001] Z[I]
                 VACUUM cannot run inside a transaction block 
        vacuum (analyze) t
            C[VACUUM] Z[I] 
        analyze t
            C[ANALYZE] Z[I] 
        vacuum nothing
            E[42P01] Z[I]
                 relation "nothing" does not exist 
        checkpoint
            C[CHECKPOINT] Z[I] 
    "#]]
    .assert_eq(&said);
    served.stop().unwrap();
}

#[test]
fn a_silent_client_is_told_so_and_closed() {
    let world = World::new();
    let served = served(&world);
    let mut wire = Wire::new(served.at.pg);
    wire.say(START);
    wire.answers.clear();
    assert_eq!(wire.told("Query set idle_in_transaction_session_timeout = 50"), "C[SET] Z[I]");
    assert_eq!(wire.told("Query begin"), "C[BEGIN] Z[T]");
    expect![[r#"
        E[25P03] closed
                 terminating connection due to idle-in-transaction timeout"#]]
    .assert_eq(&wire.heard());
    let mut wire = Wire::new(served.at.pg);
    wire.say(START);
    wire.answers.clear();
    assert_eq!(wire.told("Query set idle_session_timeout = '50ms'"), "C[SET] Z[I]");
    expect![[r#"
        E[57P05] closed
                 terminating connection due to idle-session timeout"#]]
    .assert_eq(&wire.heard());
    served.stop().unwrap();
}
