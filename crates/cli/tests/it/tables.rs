//! Transactions over tables: sessions that race.

use crate::harness::{Server, psycopg};

/// Two sessions read a number and write it plus one, each again until it is committed.
const RACE: &str = "
import sys, threading, psycopg
urls, rounds = sys.argv[1].split(), 60
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
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("ledger"), &["--no-sample", "--validators", "4"]);
    let urls = [server.pg.clone(), server.pg.clone()];
    assert_eq!(psycopg(RACE, &urls.join(" ")), "True True\n");
    server.stop();
}
