//! `CREATE STREAM` and `INSERT` through PostgreSQL's own clients: what is answered is final, applied, and read on every validator.

use std::path::Path;

use expect_test::expect;

use crate::fleet::until;
use crate::harness::{Server, program, psql, psycopg};

const SCHEMA: &str = "sensor text not null, at timestamptz, celsius numeric(6,2), n int4, ok bool, raw bytea, \
                      id uuid, doc jsonb, f float8";

/// A ledger of so many validators with two streams of dev's.
fn started(dir: &Path, validators: &str) -> Server {
    let ledger = dir.join("ledger");
    let server = Server::dev(&ledger, &["--no-sample", "--validators", validators]);
    let create = |text: &str| assert_eq!(psql(&server.pg, text), "CREATE STREAM\n");
    create(&format!("create stream readings ({SCHEMA})"));
    create("CREATE STREAM routed (sensor text NOT NULL, n integer) ROUTE BY sensor;");
    server
}

/// What psql prints for each statement, in one session.
fn session(pg: &str, statements: &[&str]) -> String {
    let mut args = vec!["-X", "-A", "-t", pg];
    statements.iter().for_each(|statement| args.extend(["-c", statement]));
    let mut all = vec!["-v", "VERBOSITY=verbose"];
    all.extend(args);
    let ran = program("psql", &all);
    let errors = ran.stderr.lines().filter(|line| !line.starts_with("DETAIL"));
    ran.stdout + &errors.map(|line| format!("{line}\n")).collect::<String>()
}

#[test]
fn rows_of_every_type_are_inserted_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), "1");
    let said = session(
        &server.pg,
        &[
            "insert into readings values ('a', '2026-01-02T03:04:05Z', 12.5, 3, true, '\\x0102', \
             '00112233-4455-6677-8899-aabbccddeeff', '{\"b\": 1, \"a\": [2]}', 1.5)",
            "insert into readings (n, sensor) values (1, 'b'), (2, 'c'), (null, 'd')",
            "insert into readings (sensor, n) select 's' || n, n * 10 from readings where n = 3",
            "begin",
            "insert into readings (sensor) values ('t1')",
            "insert into readings (sensor) values ('t2')",
            "commit",
            "begin",
            "insert into readings (sensor) values ('never')",
            "rollback",
            "insert into routed values ('x', 1), ('x', 2)",
            "select sensor, at, celsius, n, ok, raw, id, doc, f from readings order by _seqno, _action",
            "select count(*), count(distinct _tx) from routed where sensor = 'x'",
        ],
    );
    expect![[r#"
        INSERT 0 1
        INSERT 0 3
        INSERT 0 1
        BEGIN
        INSERT 0 1
        INSERT 0 1
        COMMIT
        BEGIN
        INSERT 0 1
        ROLLBACK
        INSERT 0 2
        a|2026-01-02 03:04:05+00|12.50|3|t|\x0102|00112233-4455-6677-8899-aabbccddeeff|{"a":[2],"b":1}|1.5
        b|||1|||||
        c|||2|||||
        d||||||||
        s3|||30|||||
        t1||||||||
        t2||||||||
        2|2
    "#]]
    .assert_eq(&said);
}

#[test]
fn what_can_not_be_inserted_is_refused_by_name_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), "1");
    let statements = [
        "insert into readings (n) values (3)",
        "insert into readings (sensor, n) values ('x', 99999999999)",
        "insert into readings (sensor, n) values ('x', 'many')",
        "insert into readings (sensor, raw) values ('x', '\\x0')",
        "insert into readings (sensor, id) values ('x', 'no uuid')",
        "insert into readings (sensor, _lane) values ('x', 1)",
        "insert into readings (sensor, nope) values ('x', 1)",
        "insert into readings (sensor, n) values ('x')",
        "insert into nosuch values (1)",
        "insert into quipu.headers values (1)",
        "insert into readings (sensor) values ('x') returning sensor",
        "insert into readings (sensor) values ('x') on conflict do nothing",
        "insert into routed values ('s1', 1), ('s2', 2)",
        "begin; insert into readings (sensor) values ('q'); select count(*) from readings",
        "begin; insert into readings (sensor) values ('q'); rollback to savepoint s",
        "update readings set n = 1",
        "create stream readings (n int4)",
        "create stream quipu_x (n int4)",
        "create stream s (n money)",
        "begin; create stream s (n int4)",
        "select count(*) from readings",
    ];
    let said: String = statements.map(|statement| session(&server.pg, &[statement])).concat();
    expect![[r#"
        ERROR:  23502: null value in column "sensor" of relation "readings" violates not-null constraint
        SCHEMA NAME:  public
        TABLE NAME:  readings
        COLUMN NAME:  sensor
        ERROR:  22003: value "99999999999" is out of range for type integer
        ERROR:  22P02: invalid input syntax for type integer: "many"
        ERROR:  22023: invalid hexadecimal data: odd number of digits
        ERROR:  22P02: invalid input syntax for type uuid: "no uuid"
        ERROR:  428C9: cannot insert into column "_lane"
        HINT:  the ledger fills it in
        ERROR:  42703: column "nope" of relation "public.readings" does not exist
        ERROR:  42601: VALUES lists must all be the same length
        ERROR:  42P01: relation "nosuch" does not exist
        ERROR:  42809: cannot insert into "quipu.headers"
        HINT:  it is the ledger's own
        ERROR:  0A000: RETURNING is not supported
        ERROR:  0A000: ON CONFLICT is not supported
        ERROR:  0A000: rows of one transaction have different routes
        HINT:  a transaction stands in one lane: insert rows of one value of the routing column at a time
        BEGIN
        INSERT 0 1
        ERROR:  0A000: a query of a stream after an INSERT into it in one transaction is not supported
        HINT:  COMMIT first
        BEGIN
        INSERT 0 1
        ERROR:  3B001: savepoint "s" does not exist
        ERROR:  0A000: "readings" only grows: what it has can not be changed
        HINT:  INSERT what corrects it, or keep in a table what changes
        ERROR:  42P07: stream exists already
        HINT:  Another transaction created a stream of this name first.
        ERROR:  42939: name is reserved
        HINT:  Names of streams and groups beginning with pg_ or quipu_ are reserved.
        ERROR:  42601: schema: no type "money"; there are bool, int2, int4, int8, numeric(p,s), text, bytea, date, timestamptz, uuid, jsonb, float8, timestamp
        ERROR:  42601: syntax error: Expected: an object type after CREATE, found: stream
        LINE 1: begin; create stream s (n int4)
                              ^
        0
    "#]].assert_eq(&said);
    let said = session(&server.pg, &["begin", "create stream s (n int4)"]);
    assert!(said.contains("25001: CREATE STREAM cannot run inside a transaction block"), "{said}");
    let eve = server.pg.replace("dev@", "eve@");
    let said = session(&eve, &["insert into readings (sensor) values ('eve')"]);
    assert!(said.contains("42501: this gateway holds no key for role \"eve\""), "{said}");
}

#[test]
fn psycopg_inserts_with_parameters_in_transactions_and_in_bulk() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), "1");
    let script = r#"
import sys, uuid, datetime, decimal, psycopg
from psycopg.types.json import Jsonb
with psycopg.connect(sys.argv[1]) as c:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    c.execute('insert into readings values (%s, %s, %s, %s, %s, %s, %s, %s, %s)',
        ('p', at, decimal.Decimal('12.50'), 3, True, b'\x01\x00', uuid.UUID(int=7), Jsonb({'b': 1}), 1.5))
    c.commit()
    print(c.execute('select sensor, at, celsius, n, ok, raw, id, doc, f from readings').fetchone())
    c.commit()
    with c.cursor() as many:
        many.executemany('insert into readings (sensor, n) values (%s, %s)', [('m', n) for n in range(500)])
    c.commit()
    print(c.execute("select count(*), sum(n), count(distinct _tx) from readings where sensor = 'm'").fetchone()[:2])
    c.commit()
    try:
        c.execute('insert into readings (n) values (%s)', (1,))
    except psycopg.errors.NotNullViolation as e:
        print('23502', e.diag.message_primary)
    c.rollback()
    with c.transaction():
        c.execute("insert into readings (sensor) values ('t')")
    print(c.execute("select count(*) from readings where sensor = 't'").fetchone())
"#;
    expect![[r#"
        ('p', datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), Decimal('12.50'), 3, True, b'\x01\x00', UUID('00000000-0000-0000-0000-000000000007'), {'b': 1}, 1.5)
        (500, 124750)
        23502 null value in column "sensor" of relation "readings" violates not-null constraint
        (1,)
    "#]].assert_eq(&psycopg(script, &server.pg));
}

/// Four gateways hold one key: they take turns, and no row is lost or twice there.
#[test]
fn sessions_at_every_validator_insert_at_once_with_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), "4");
    let urls = crate::harness::read_json(&dir.path().join("ledger.urls.json"));
    let nodes: Vec<String> = urls["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["pg"].as_str().unwrap().to_owned())
        .collect();
    std::thread::scope(|scope| {
        for (index, pg) in nodes.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..5 {
                    let row =
                        format!("insert into readings (sensor, n) values ('s{index}', {number})");
                    assert_eq!(psql(pg, &row), "INSERT 0 1\n");
                    // One's own are read at once.
                    let own = format!("select count(*) from readings where sensor = 's{index}'");
                    assert_eq!(psql(pg, &own), format!("{}\n", number + 1));
                }
            });
        }
    });
    let all = "select sensor, count(*), sum(n) from readings group by 1 order by 1";
    for pg in &nodes {
        until("every row", || psql(pg, all) == "s0|5|10\ns1|5|10\ns2|5|10\ns3|5|10\n");
    }
    server.stop();
}
