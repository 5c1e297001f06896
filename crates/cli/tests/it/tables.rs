//! Tables as many sessions change them: those that race, those that share a transaction of the ledger, and pipelines.

use crate::harness::{Server, psycopg};

/// What a script says of a ledger of so many validators, of which it knows one.
fn said(validators: usize, script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let validators = validators.to_string();
    let server =
        Server::dev(&dir.path().join("ledger"), &["--no-sample", "--validators", &validators]);
    let said = psycopg(script, &server.pg);
    server.stop();
    said
}

/// Two sessions read a number and write it plus one, each again until it is committed.
const RACE: &str = "
import sys, threading, psycopg
urls, rounds = [sys.argv[1]] * 2, 60
with psycopg.connect(urls[0], autocommit=True) as first:
    first.execute('create table race (id int primary key, n int not null)')
    first.execute('insert into race values (1, 0)')
failed = []
def add(url):
    with psycopg.connect(url) as session:
        for _ in range(rounds):
            while True:
                try:
                    with session.transaction():
                        n, = session.execute('select n from race where id = 1').fetchone()
                        session.execute('update race set n = %s where id = 1', (n + 1,))
                    break
                except psycopg.errors.SerializationFailure:
                    failed.append(url)
threads = [threading.Thread(target=add, args=(url,)) for url in urls]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with psycopg.connect(urls[0]) as first:
    print(first.execute('select n from race').fetchone()[0] == rounds * len(urls), len(failed) > 0)
";

#[test]
fn of_two_sessions_that_race_one_is_told_and_no_sum_is_wrong() {
    assert_eq!(said(4, RACE), "True True\n");
}

/// Sessions whose statements go to the ledger together: some fail, and each is told its own.
const COMPANY: &str = "
import sys, threading, psycopg
url, rounds, sessions = sys.argv[1], 40, 16
with psycopg.connect(url, autocommit=True) as first:
    first.execute('create table company (id int primary key, session int not null, n int not null check (n >= 0))')
told = []
def work(number):
    with psycopg.connect(url, autocommit=True) as session:
        for turn in range(rounds):
            # Every id is wanted by two sessions.
            id = turn * sessions + number // 2
            wanted = (id, number, -1 if turn % 10 == 9 and number % 2 else turn)
            try:
                row = session.execute('insert into company values (%s, %s, %s) returning id, session, n', wanted).fetchone()
                assert row == wanted, (row, wanted)
                told.append(row)
            except (psycopg.errors.UniqueViolation, psycopg.errors.CheckViolation):
                pass
            count = session.execute('update company set n = n + 1 where session = %s', (number,)).rowcount
            own = sum(1 for row in list(told) if row[1] == number)
            assert count == own, (count, own)
threads = [threading.Thread(target=work, args=(number,)) for number in range(sessions)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with psycopg.connect(url) as first:
    rows = first.execute('select id, session from company order by id').fetchall()
print(rows == sorted((id, session) for id, session, _ in told), len(rows))
";

#[test]
fn statements_that_share_a_transaction_are_each_told_their_own() {
    assert_eq!(said(4, COMPANY), "True 320\n");
}

/// What is prepared with parameters writes what the same statement does with its values written out.
const PREPARED: &str = "
import datetime, decimal, sys, uuid, psycopg
from psycopg import sql
url = sys.argv[1]
D, U = decimal.Decimal, str(uuid.UUID(int=7))
now = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, datetime.timezone.utc)
kinds = {
    'smallint': [1, -32768, None, 40000], 'int': [5, 2**31 - 1, None, 2**31], 'bigint': [2**40, None, -1],
    'numeric(6,2)': [D('1.255'), D('-7'), None, 12345, 3], 'text': ['a\\'b', '', None], 'varchar(3)': ['abc', 'abcd', None],
    'char(3)': ['a', 'abc', None], 'boolean': [True, None], 'date': [now.date(), None], 'timestamptz': [now, None],
    'timestamp': [now.replace(tzinfo=None), None], 'uuid': [U, U.upper(), None],
}
def outcome(session, text, values):
    try:
        return session.execute(text, values, prepare=True).rowcount if not isinstance(session, psycopg.ClientCursor) else session.execute(text, values).rowcount
    except psycopg.Error as error:
        return error.sqlstate
with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as other:
    count = 0
    for number, (kind, values) in enumerate(kinds.items()):
        for name in 'prepared', 'written':
            one.execute(f'create table {name}{number} (id int primary key, v {kind})')
        for turn, value in enumerate(values):
            for text in ['insert into {} values (%(i)s, %(v)s)', 'update {} set v = %(v)s where id = %(i)s',
                         'insert into {} values (%(i)s, %(v)s) on conflict (id) do update set v = excluded.v',
                         'delete from {} where v = %(v)s and id = %(i)s', 'insert into {} (v, id) values (%(v)s, %(i)s), (%(v)s, %(j)s)']:
                given = {'i': turn, 'v': value, 'j': turn + 100}
                given = {key: value for key, value in given.items() if '(' + key + ')' in text}
                said = [outcome(one, text.format(f'prepared{number}'), given) for _ in range(2)]
                written = [outcome(other.cursor(), text.format(f'written{number}'), given) for _ in range(2)]
                assert said == written, (kind, value, text, said, written)
                rows = [one.execute(f'select * from {name}{number} order by id').fetchall() for name in ('prepared', 'written')]
                assert rows[0] == rows[1], (kind, value, text, rows)
                count += 1
    print(count)
";

#[test]
fn what_is_prepared_writes_what_is_written_out() {
    assert_eq!(said(1, PREPARED), "180\n");
}

/// The statements of a pipeline are one transaction of the ledger.
const PIPELINE: &str = "
import sys, psycopg
url = sys.argv[1]
with psycopg.connect(url, autocommit=True) as session:
    session.execute('create table piped (id int primary key, n int)')
    with session.pipeline():
        for id in range(500):
            session.execute('insert into piped values (%s, 0)', (id,))
        count = session.execute('update piped set n = 1 where id < 100')
    own = 'select signer from quipu.transactions order by action_count desc limit 1'
    query = f'select count(distinct height) from quipu.transactions where signer = ({own})'
    heights, = session.execute(query).fetchone()
    print(count.rowcount, heights)
    try:
        with session.pipeline():
            session.execute('insert into piped values (1000, 0)')
            session.execute('insert into piped values (1, 0)')
    except psycopg.errors.UniqueViolation as error:
        print(error.diag.constraint_name)
    print(session.execute('select count(*), sum(n) from piped').fetchone())
";

#[test]
fn a_pipeline_is_one_transaction() {
    assert_eq!(said(1, PIPELINE), "100 2\npiped_pkey\n(500, 100)\n");
}

/// Sessions that add rows with identity columns in open transactions do not stand in each other's way.
const NUMBERED: &str = "
import sys, threading, psycopg
url, rounds, sessions = sys.argv[1], 20, 6
with psycopg.connect(url, autocommit=True) as first:
    first.execute('create table numbered (id int generated always as identity primary key, session int)')
ids = []
def add(session):
    with psycopg.connect(url) as client:
        for turn in range(rounds):
            with client.transaction():
                id, = client.execute('insert into numbered (session) values (%s) returning id', (session,)).fetchone()
                assert client.execute('select session from numbered where id = %s', (id,)).fetchone() == (session,)
                # One in five is rolled back.
                if turn % 5 == 4:
                    raise psycopg.Rollback
            if turn % 5 != 4:
                ids.append(id)
threads = [threading.Thread(target=add, args=(session,)) for session in range(sessions)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with psycopg.connect(url) as first:
    kept = [id for id, in first.execute('select id from numbered order by id').fetchall()]
    print(len(kept), kept == sorted(ids), max(kept) <= rounds * sessions)
";

#[test]
fn numbers_are_given_once_and_nobody_waits_for_them() {
    assert_eq!(said(4, NUMBERED), "96 True True\n");
}
