//! Real clients on a real socket: psql, psycopg, and one that sends what no client would.

#![expect(clippy::arithmetic_side_effects, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use metrics::{Counter, CounterFn, Gauge};
use quipu_query::{
    AccountRow, ColumnStore, Engine, IngestBlock, IngestTx, Limits, MetricRow, SqlError,
    SystemSource, TableSource, ValidatorRow,
};
use quipu_types::transaction::{RouteRule, StreamSpec, Writers};
use quipu_types::{
    Action, Hash, Header, Height, Lane, Outcome, PublicKey, Receipt, Schema, Seqno, Signature,
    Suite, Time, Transaction, ValidatorIndex, Value,
};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

use super::{Access, Guards, serve_until};

mod access;

const COLUMNS: &str = "carrier text not null, arr_delay int2, dep_delay int4, distance int8, \
                       fare numeric(8,2), day date, time_hour timestamptz, tag bytea, id uuid, \
                       extra jsonb, speed float8, late bool";

/// Nobody needs a password, nothing is encrypted.
fn open_access() -> Access {
    let passwords = super::scram::Passwords::new(BTreeMap::new(), b"key");
    Access { passwords, tls: None, network_trusted: false }
}

#[derive(Debug)]
struct Nothing;

impl TableSource for Nothing {
    fn get(&self, _: &[u8], _: Height) -> Result<Option<Vec<u8>>, quipu_state::StoreError> {
        Ok(None)
    }

    fn range(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: usize,
        _: Height,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, quipu_state::StoreError> {
        Ok(Vec::new())
    }
}

impl SystemSource for Nothing {
    fn accounts(&self) -> Vec<AccountRow> {
        Vec::new()
    }

    fn validators(&self) -> Vec<ValidatorRow> {
        Vec::new()
    }

    fn evidence(&self) -> Vec<quipu_query::EvidenceRow> {
        Vec::new()
    }

    fn epochs(&self) -> Vec<quipu_query::EpochRow> {
        Vec::new()
    }

    fn metrics(&self) -> Vec<MetricRow> {
        Vec::new()
    }

    fn happens_before(&self, _: Hash, _: Hash) -> Result<bool, SqlError> {
        Ok(false)
    }
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

/// A listener over a small ledger, stopped when dropped.
struct Server {
    address: SocketAddr,
    garbage: Arc<Count>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(connection_count_max: usize) -> Self {
        Self::with_access(connection_count_max, open_access())
    }

    fn with_access(connection_count_max: usize, access: Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ColumnStore::open(folder.path()).unwrap();
        fill(&store);
        let engine = Engine::new(store, Arc::new(Nothing), Arc::new(Nothing), Limits::default());
        let engine = engine.unwrap();
        let garbage = Arc::new(Count::default());
        let guards = Guards {
            connection_count_max,
            open: Gauge::noop(),
            garbage: Counter::from_arc(Arc::clone(&garbage)),
            ledger: None,
            access: Arc::new(access),
        };
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let stopped = async { drop(stopped.await) };
                serve_until(listener, engine, guards, stopped).await;
            });
        });
        let address = address.recv().unwrap();
        Self { address, garbage, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// What psql prints for a script.
    fn psql(&self, script: &str) -> String {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-h", "127.0.0.1", "-U", "ann", "-d", "quipu", "-p"])
            .arg(self.address.port().to_string())
            .args(["-v", "VERBOSITY=default", "-P", "pager=off", "-f", "-"])
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("scripts/setup installs psql");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        for line in errors.lines() {
            text.push_str("! ");
            text.push_str(line.strip_prefix("psql:<stdin>:").unwrap_or(line));
            text.push('\n');
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
    }

    /// What a Python script with psycopg prints; `c` is its connection.
    fn psycopg(&self, script: &str) -> String {
        let home = std::env::var("HOME").unwrap_or_default();
        let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
        let begin = format!(
            "import psycopg\nc = psycopg.connect('host=127.0.0.1 port={} user=ann dbname=quipu', autocommit=True)\n",
            self.address.port()
        );
        let output = Command::new(format!("{cache}/quipu/python/bin/python"))
            .arg("-c")
            .arg(begin + script)
            .output()
            .expect("scripts/setup installs psycopg");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn fill(store: &ColumnStore) {
    let schema = Schema::parse(COLUMNS).unwrap();
    let row = |n: i64| {
        let carrier = if n % 3 == 0 { "UA" } else { "B6" };
        let values = [
            Value::Text(carrier.into()),
            if n % 5 == 0 { Value::Null } else { Value::Int2(i16::try_from(n).unwrap() - 3) },
            Value::Int4(i32::try_from(n).unwrap() * 7),
            Value::Int8(n * 1_000_000_007),
            Value::Numeric(i128::from(n) * 1001),
            Value::Date(15_706 + i32::try_from(n).unwrap()),
            Value::Timestamptz(1_357_016_400_000_000 + n * 3_600_000_000),
            Value::Bytea(vec![u8::try_from(n).unwrap(), 0]),
            Value::Uuid([u8::try_from(n).unwrap(); 16]),
            Value::Jsonb(format!("{{\"n\":{n}}}")),
            Value::Float8((0.5 + f64::from(i32::try_from(n).unwrap())).to_bits()),
            Value::Bool(n % 2 == 0),
        ];
        let payload = schema.encode_row(&values).unwrap();
        Action::Append { stream: "flights".into(), key: Vec::new(), payload }
    };
    let create = Action::CreateStream(StreamSpec {
        name: "flights".into(),
        schema: schema.clone(),
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: false,
    });
    ingest(store, 1, vec![create]);
    ingest(store, 2, (1..=10).map(row).collect());
}

fn ingest(store: &ColumnStore, height: u64, actions: Vec<Action>) {
    let receipt = Receipt {
        lane: Lane::new(0),
        seqno: Seqno::new(height),
        tx: Hash([u8::try_from(height).unwrap(); 32]),
        action_count: u32::try_from(actions.len()).unwrap(),
        fee: 0,
        outcome: Outcome::Applied,
        row_count: 0,
        detail: 0,
    };
    let transaction = Transaction {
        signer: PublicKey::new(Suite::Ed25519Sha256, &[1; 32]).unwrap(),
        incarnation: 0,
        sequence: height,
        anchor: Hash::ZERO,
        route: None,
        actions,
        signature: Signature([0; 64]),
    };
    let header = Header {
        epoch: 0,
        height: Height::new(height),
        proposer: ValidatorIndex::new(0),
        prev_header: Hash::ZERO,
        cut: Vec::new(),
        term_changes: Vec::new(),
        time: Time::new(height * 1_000_000),
        prev_commit: None,
        late_votes: Vec::new(),
        state_certificate: None,
        next_set: None,
        evidence_root: Hash::ZERO,
        rounds: quipu_types::Rounds::genesis(false),
    };
    let ingested = IngestTx {
        lane: receipt.lane,
        seqno: receipt.seqno,
        tx: receipt.tx,
        transaction: &transaction,
        receipt: &receipt,
        not_before_us: 0,
    };
    store
        .ingest(&IngestBlock {
            height: Height::new(height),
            header: &header,
            header_hash: Hash::ZERO,
            time_us: height * 1_000_000,
            transactions: &[ingested],
        })
        .unwrap();
}

/// A client that sends bytes.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already: then the reading says so.
        let _gone = self.stream.write_all(bytes);
    }

    fn start(&mut self) {
        let body = b"\0\x03\0\0user\0ann\0\0";
        let size = u32::try_from(body.len() + 4).unwrap();
        self.send(&[&size.to_be_bytes()[..], body].concat());
    }

    fn message(&mut self, kind: u8, body: &[u8]) {
        let size = u32::try_from(body.len() + 4).unwrap();
        self.send(&[&[kind][..], &size.to_be_bytes(), body].concat());
    }

    /// The kinds of the messages up to `ReadyForQuery` or the end, with what is short in brackets.
    fn kinds(&mut self) -> String {
        let mut kinds = String::new();
        while let Some((kind, body)) = self.read() {
            match kind {
                b'S' | b'K' | b'R' => continue,
                b'Z' | b'C' | b'D' => {
                    let text: String = body
                        .iter()
                        .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
                        .map(|byte| char::from(*byte))
                        .collect();
                    kinds.push_str(&format!("{}[{text}]", char::from(kind)));
                }
                b'E' => {
                    let fields = String::from_utf8_lossy(&body).into_owned();
                    let state = fields
                        .split('\0')
                        .find_map(|field| field.strip_prefix('C'))
                        .unwrap_or_default()
                        .to_owned();
                    kinds.push_str(&format!("E[{state}]"));
                }
                other => kinds.push(char::from(other)),
            }
            if kind == b'Z' {
                return kinds;
            }
        }
        kinds.push('.');
        kinds
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(size).unwrap() - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "what psql prints is long")]
fn psql_looks_around_and_asks() {
    let server = Server::start(8);
    expect![[r#"
                      List of relations
         Schema |  Name   | Type  |       Owner
        --------+---------+-------+-------------------
         public | flights | table | pg_database_owner
        (1 row)

                                Table "public.flights"
          Column   |           Type           | Collation | Nullable | Default
        -----------+--------------------------+-----------+----------+---------
         carrier   | text                     |           | not null |
         arr_delay | smallint                 |           |          |
         dep_delay | integer                  |           |          |
         distance  | bigint                   |           |          |
         fare      | numeric(8,2)             |           |          |
         day       | date                     |           |          |
         time_hour | timestamp with time zone |           |          |
         tag       | bytea                    |           |          |
         id        | uuid                     |           |          |
         extra     | jsonb                    |           |          |
         speed     | double precision         |           |          |
         late      | boolean                  |           |          |
         _lane     | integer                  |           | not null |
         _seqno    | bigint                   |           | not null |
         _action   | integer                  |           | not null |
         _height   | bigint                   |           | not null |
         _time_min | timestamp with time zone |           | not null |
         _time_max | timestamp with time zone |           |          |
         _signer   | text                     |           | not null |
         _tx       | text                     |           | not null |
         _key      | bytea                    |           | not null |
         _order    | bigint                   |           | not null |

                                                      List of databases
         Name  |       Owner       | Encoding | Collate |  Ctype  | ICU Locale | Locale Provider | Access privileges
        -------+-------------------+----------+---------+---------+------------+-----------------+-------------------
         quipu | pg_database_owner | UTF8     | C       | C.UTF-8 |            | libc            |
        (1 row)

              List of schemas
          Name  |       Owner
        --------+-------------------
         public | pg_database_owner
         quipu  | pg_database_owner
        (2 rows)

         carrier | count | round
        ---------+-------+-------
         B6      |     7 |  1.40
         UA      |     3 |  3.00
        (2 rows)

         carrier | arr_delay | dep_delay |  distance  | fare  |    day     |       time_hour        |  tag   |                  id                  |  extra  | speed | late | _lane | _seqno | _action | _height |       _time_min        | _time_max |                              _signer                               |                                _tx                                 | _key | _order
        ---------+-----------+-----------+------------+-------+------------+------------------------+--------+--------------------------------------+---------+-------+------+-------+--------+---------+---------+------------------------+-----------+--------------------------------------------------------------------+--------------------------------------------------------------------+------+--------
         B6      |        -2 |         7 | 1000000007 | 10.01 | 2013-01-02 | 2013-01-01 06:00:00+00 | \x0100 | 01010101-0101-0101-0101-010101010101 | {"n":1} |   1.5 | f    |     0 |      2 |       0 |       2 | 1970-01-01 00:00:00+00 |           | 010101010101010101010101010101010101010101010101010101010101010101 | 0202020202020202020202020202020202020202020202020202020202020202:0 | \x   |      0
        (1 row)

         Column |  Type
        --------+--------
         count  | bigint
        (1 row)

         server_version
        ----------------
         15.0
        (1 row)

        false
        ! 7: ERROR:  column "carier" does not exist
        ! LINE 1: select carier from flights;
        !                ^
        ! DETAIL:  QP0501 (quipu explain QP0501)
        ! HINT:  Perhaps you meant to reference the column "carrier".
        ! 8: ERROR:  VALUES lists must all be the same length
        ! DETAIL:  QP0501 (quipu explain QP0501)
        ! 10: ERROR:  Divide by zero error
        ! DETAIL:  QP0501 (quipu explain QP0501)
        ! 11: ERROR:  current transaction is aborted, commands ignored until end of transaction block
        ! DETAIL:  QP0501 (quipu explain QP0501)
    "#]].assert_eq(&server.psql(
        "\\dt\n\\d flights\n\\l\n\\dn\n\
         select carrier, count(*), round(avg(arr_delay), 2) from flights group by 1 order by 2 desc;\n\
         select * from flights order by distance limit 1;\n\
         select carier from flights;\n\
         insert into flights values (1);\n\
         begin;\nselect 1/0;\nselect 1;\nrollback;\n\
         select count(*) from flights \\gdesc\n\
         show server_version;\n\\echo :ERROR\n",
    ));
}

#[test]
fn psycopg_binds_prepares_and_reads_every_type() {
    let server = Server::start(8);
    expect![[r#"
        ('B6', -2, 7, 1000000007, Decimal('10.01'), datetime.date(2013, 1, 2), datetime.datetime(2013, 1, 1, 6, 0, tzinfo=datetime.timezone.utc), b'\x01\x00', UUID('01010101-0101-0101-0101-010101010101'), {'n': 1}, 1.5, False)
        ('B6', -2, 7, 1000000007, Decimal('10.01'), datetime.date(2013, 1, 2), datetime.datetime(2013, 1, 1, 6, 0, tzinfo=datetime.timezone.utc), b'\x01\x00', UUID('01010101-0101-0101-0101-010101010101'), {'n': 1}, 1.5, False)
        (3,)
        ['carrier:25', 'count:20', 'round:1700', '?column?:23']
        [('B6',), ('UA',)]
        [(datetime.date(2013, 1, 2),), (datetime.date(2013, 1, 3),)]
        [(5,)]
        [(2,)]
        [1, 2, 3, 4]
        42703 column "nope" does not exist 8
        0A000 INSERT what corrects it, or keep in a table what changes
        INTRANS (10000000070,)
        IDLE 150000 UTC
        (1,)
    "#]].assert_eq(&server.psycopg(
        r#"
q = 'select * from flights where distance = %s'
for binary in (False, True):
    cur = c.cursor(binary=binary)
    print(cur.execute(q, (1000000007,)).fetchone()[:12])
for i in range(8):
    r = c.execute('select count(*) from flights where distance > %s and carrier = %s', (i, 'UA'), prepare=True).fetchone()
print(r)
print([d.name + ':' + str(d.type_code) for d in c.execute('select carrier, count(*), round(avg(arr_delay), 2), 1+1 from flights group by 1').description])
print(c.execute('select carrier from flights where carrier = any(%s) group by 1 order by 1', (['UA', 'B6'],)).fetchall())
print(c.execute('select day from flights where day between %s and %s order by 1', (__import__('datetime').date(2013, 1, 2), '2013-01-03')).fetchall())
print(c.execute('select count(*) from flights where fare > %s', (__import__('decimal').Decimal('50.05'),)).fetchall())
print(c.execute('select count(*) from flights where time_hour < %s', (__import__('datetime').datetime(2013, 1, 1, 8, tzinfo=__import__('datetime').timezone.utc),)).fetchall())
with c.pipeline():
    rows = [c.execute('select %s::int8 + 1', (i,)) for i in range(4)]
print([r.fetchone()[0] for r in rows])
try:
    c.execute('select nope from flights')
except psycopg.errors.UndefinedColumn as e:
    print(e.sqlstate, e.diag.message_primary, e.diag.statement_position)
try:
    c.execute('delete from flights')
except psycopg.errors.FeatureNotSupported as e:
    print(e.sqlstate, e.diag.message_hint)
with c.transaction():
    print(c.info.transaction_status.name, c.execute('select max(distance) from flights').fetchone())
print(c.info.transaction_status.name, c.info.server_version, c.info.parameter_status('TimeZone'))
c.execute('discard all')
print(c.execute('select 1').fetchone())
"#,
    ));
}

#[test]
fn a_running_query_is_cancelled_and_the_connection_lives_on() {
    let server = Server::start(8);
    expect![[r#"
        57014 canceling statement due to user request
        DETAIL:  QP0504 (quipu explain QP0504)
        (1,)
        57014 canceling statement due to statement timeout
        DETAIL:  QP0504 (quipu explain QP0504)
        HINT:  narrow the query, or raise limits.query_seconds_max
    "#]]
    .assert_eq(&server.psycopg(
        r#"
import threading
t = threading.Timer(0.5, c.cancel)
t.start()
try:
    c.execute('select count(*) from generate_series(1, 1000000000000) a where a % 7 = 8')
except psycopg.errors.QueryCanceled as e:
    print(e.sqlstate, e)
t.join()
print(c.execute('select 1').fetchone())
c.execute("set statement_timeout = '200ms'")
try:
    c.execute('select count(*) from generate_series(1, 1000000000000) a where a % 7 = 8')
except psycopg.errors.QueryCanceled as e:
    print(e.sqlstate, e)
"#,
    ));
}

#[test]
fn portals_give_rows_in_parts_and_the_nameless_statement_survives_sync() {
    let server = Server::start(8);
    let mut client = server.connect();
    client.send(&[0, 0, 0, 8, 4, 210, 22, 47]);
    let mut byte = [0; 1];
    client.stream.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"N");
    client.start();
    assert_eq!(client.kinds(), "Z[I]");
    client.message(b'P', b"\0select distance / 1000000007 from flights order by 1\0\0\0");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "1Z[I]");
    client.message(b'Q', b"begin\0");
    assert_eq!(client.kinds(), "C[BEGIN]Z[T]");
    client.message(b'B', b"p\0\0\0\0\0\0\0\0");
    client.message(b'D', b"Pp\0");
    client.message(b'E', b"p\0\0\0\0\x04");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "2TD[1]D[2]D[3]D[4]sZ[T]");
    client.message(b'E', b"p\0\0\0\0\x04");
    client.message(b'H', b"");
    client.message(b'E', b"p\0\0\0\0\0");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "D[5]D[6]D[7]D[8]sD[9]D[10]C[SELECT 2]Z[T]");
    client.message(b'Q', b"commit; select 1\0");
    assert_eq!(client.kinds(), "C[COMMIT]TD[1]C[SELECT 1]Z[I]");
    client.message(b'E', b"p\0\0\0\0\0");
    client.message(b'P', b"\0select 1\0\0\0");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "E[34000]Z[I]");
    client.message(b'P', b"\0\0\0\0");
    client.message(b'B', b"\0\0\0\0\0\0\0\0");
    client.message(b'D', b"P\0");
    client.message(b'E', b"\0\0\0\0\0");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "12nIZ[I]");
    client.message(b'P', b"s\0select $1::int4\0\0\0");
    client.message(b'D', b"Ss\0");
    client.message(b'B', b"\0s\0\0\0\0\0\0\0");
    client.message(b'S', b"");
    assert_eq!(client.kinds(), "1tTE[08P01]Z[I]");
    client.message(b'Q', b"\0");
    assert_eq!(client.kinds(), "IZ[I]");
    client.message(b'X', b"");
    assert!(client.is_closed());
}

#[test]
fn garbage_is_closed_and_counted_and_nothing_is_reserved_for_what_it_announces() {
    let server = Server::start(64);
    let first = [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        &[0xff; 64],
        &[0; 64],
        &[0, 0, 0, 7, 0, 3, 0],
        &[0, 0, 0, 9, 0, 3, 0, 0, b'u'],
    ];
    for bytes in first {
        let mut client = server.connect();
        client.send(bytes);
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert_eq!(server.garbage.0.load(Ordering::SeqCst), u64::try_from(first.len()).unwrap());
    let later: [&[u8]; 4] = [
        &[b'Q', 0xff, 0xff, 0xff, 0xff],
        &[b'P', 0x7f, 0xff, 0xff, 0xff, 0],
        &[b'?', 0, 0, 0, 4],
        &[b'B', 0, 0, 0, 10, 0, 0, 0, 9, 0, 1],
    ];
    for bytes in later {
        let mut client = server.connect();
        client.start();
        assert_eq!(client.kinds(), "Z[I]");
        client.send(bytes);
        assert_eq!(client.kinds(), "E[08P01].", "{bytes:?}");
    }
    let mut random = Random(1);
    for _ in 0..200 {
        let mut client = server.connect();
        client.start();
        assert_eq!(client.kinds(), "Z[I]");
        for _ in 0..4 {
            let kind = b"QPBDECHSdcf"[random.below(11)];
            let body: Vec<u8> =
                (0..random.below(24)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
            client.message(kind, &body);
        }
        client.message(b'X', b"");
        while client.read().is_some() {}
    }
    let mut client = server.connect();
    client.start();
    assert_eq!(client.kinds(), "Z[I]");
    client.message(b'Q', b"select 1\0");
    assert_eq!(client.kinds(), "TD[1]C[SELECT 1]Z[I]");
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn one_connection_too_many_is_told_so_and_a_stop_is_told_to_all() {
    let mut server = Server::start(1);
    let mut client = server.connect();
    client.start();
    assert_eq!(client.kinds(), "Z[I]");
    let mut other = server.connect();
    other.start();
    assert_eq!(other.kinds(), "E[53300].");
    server.stop();
    assert_eq!(client.kinds(), "E[57P01].");
}
