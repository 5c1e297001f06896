"""psycopg 3: text and binary results, pipelines, prepared statements, transactions, COPY both ways."""

import psycopg
from psycopg.types.json import Jsonb

from people import AT, CITIES, COLUMNS, ROWS, TYPES, ddl, drop, same, url

NAME = "c_psycopg3"
INSERT = f"insert into {NAME} values ({', '.join(['%s'] * len(COLUMNS))})"


def fill(conn):
    for statement in drop(NAME) + ddl(NAME):
        conn.execute(statement)
    with conn.cursor() as cur:
        cur.executemany(f"insert into {NAME}_city values (%s, %s)", CITIES)
        same(cur.rowcount, 2, "rowcount")
        rows = [tuple(Jsonb(v) if isinstance(v, dict) else v for v in row) for row in ROWS]
        cur.executemany(INSERT, rows)


def select(conn):
    for binary in (False, True):
        with conn.cursor(binary=binary) as cur:
            cur.execute(f"select * from {NAME} order by n")
            same([column.name for column in cur.description], COLUMNS, "names")
            same([column.type_code for column in cur.description], TYPES, "types")
            same(cur.description[3].precision, 12, "precision")
            same(cur.fetchall(), ROWS, f"rows, binary={binary}")
    one = conn.execute(f"select name from {NAME} where id = %s and at = %s", (2**40, AT)).fetchone()
    same(one, ("Ada",), "parameters")
    many = conn.execute(f"select count(*) from {NAME} where n = any(%s)", ([1, 2],)).fetchone()
    same(many, (2,), "an array as a parameter")
    for n in range(8):  # named after five uses
        got = conn.execute(f"select n, name from {NAME} where n = %s", (n % 2 + 1,), prepare=None).fetchone()
        same(got[0], n % 2 + 1, "prepared")


def change(conn):
    cur = conn.execute(f"update {NAME} set price = price + %s where n < 3 returning id, price", (1,))
    same(sorted(str(price) for _, price in cur.fetchall()), ["0.99", "13.50"], "returning")
    same(conn.execute(f"delete from {NAME} where n > 100").rowcount, 1, "deleted")
    cur = conn.execute(f"insert into {NAME}_city values (1, 'x'), (3, 'Rome') on conflict do nothing")
    same(cur.rowcount, 1, "on conflict")


def fail(conn):
    for statement, error, constraint in [
        (f"insert into {NAME}_city values (1, 'again')", psycopg.errors.UniqueViolation, f"{NAME}_city_pkey"),
        (f"insert into {NAME} (id, n, name) values (9, 0, '')", psycopg.errors.CheckViolation, f"{NAME}_n_check"),
        (f"insert into {NAME} (id, n) values (9, 1)", psycopg.errors.NotNullViolation, None),
        (f"insert into {NAME} (id, n, name, city) values (9, 1, '', 99)", psycopg.errors.ForeignKeyViolation,
         f"{NAME}_city_fkey"),
        ("select * from c_nowhere", psycopg.errors.UndefinedTable, None),
        ("selec 1", psycopg.errors.SyntaxError, None),
    ]:
        try:
            conn.execute(statement)
        except error as found:
            same(found.diag.constraint_name, constraint, statement)
        else:
            raise SystemExit(f"{statement}: no {error.__name__}")
    for column in ("ref", "doc"):  # refused though no row is looked at
        try:
            conn.execute(f"select 1 from {NAME} where n < 0 and {column} = %s", ("abc",))
        except psycopg.errors.InvalidTextRepresentation:
            continue
        raise SystemExit(f"{column} = 'abc' is taken")


def transact(conn):
    count = lambda: conn.execute(f"select count(*) from {NAME}_city").fetchone()[0]
    try:
        with conn.transaction():
            conn.execute(f"insert into {NAME}_city values (10, 'Bern')")
            try:
                with conn.transaction():  # a savepoint
                    conn.execute(f"insert into {NAME}_city values (10, 'Bern')")
            except psycopg.errors.UniqueViolation:
                pass
            same(count(), 4, "inside")
            raise psycopg.Rollback()
    finally:
        same(count(), 3, "rolled back")
    with conn.pipeline():
        a = conn.execute("select %s::int", (1,))
        b = conn.execute(f"insert into {NAME}_city values (11, 'Lima')")
        one = a.fetchone()
    # Of a statement whose rows nobody fetches the count is known when the pipeline has ended.
    same((one, b.rowcount), ((1,), 1), "pipeline")
    with conn.transaction():
        conn.execute(f"delete from {NAME}_city where id = 11")


def copy(conn):
    with conn.cursor() as cur:
        with cur.copy(f"copy {NAME}_city (id, name) from stdin") as to:
            for row in [(20, "tab\there"), (21, "back\\slash")]:
                to.write_row(row)
        with cur.copy(f"copy {NAME}_city from stdin (format binary)") as to:
            to.set_types(["int4", "text"])
            to.write_row((22, "ß"))
        with cur.copy(f"copy (select * from {NAME}_city where id >= 20 order by id) to stdout") as out:
            out.set_types(["int4", "text"])
            same(list(out.rows()), [(20, "tab\there"), (21, "back\\slash"), (22, "ß")], "copied")


with psycopg.connect(url(), autocommit=True) as conn:
    same(conn.info.server_version >= 150000, True, "server_version")
    for step in (fill, select, change, fail, transact, copy):
        step(conn)
    same(psycopg.types.TypeInfo.fetch(conn, "jsonb").oid, 3802, "TypeInfo")
    for statement in drop(NAME):
        conn.execute(statement)
print(f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__}, libpq {psycopg.pq.version()})")
