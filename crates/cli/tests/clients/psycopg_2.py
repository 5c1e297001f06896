"""psycopg2: the client that puts parameters into the text, with execute_values, COPY and savepoints."""

import io

import psycopg2
import psycopg2.extras

from people import CITIES, COLUMNS, ROWS, TYPES, ddl, drop, same, url

NAME = "c_psycopg2"
psycopg2.extras.register_uuid()


def plain(value):
    """psycopg2 gives bytes as memoryview."""
    return bytes(value) if isinstance(value, memoryview) else value


def fill(cur):
    for statement in drop(NAME) + ddl(NAME):
        cur.execute(statement)
    psycopg2.extras.execute_values(cur, f"insert into {NAME}_city values %s", CITIES)
    rows = [[psycopg2.extras.Json(v) if isinstance(v, dict) else v for v in row] for row in ROWS]
    psycopg2.extras.execute_batch(cur, f"insert into {NAME} values ({', '.join(['%s'] * len(COLUMNS))})", rows)


def select(cur):
    cur.execute(f"select * from {NAME} order by n")
    same([column.name for column in cur.description], COLUMNS, "names")
    same([column.type_code for column in cur.description], TYPES, "types")
    same([tuple(map(plain, row)) for row in cur.fetchall()], ROWS, "rows")
    cur.execute(f"select name from {NAME} where n in %s and day = %s", ((1, 2), ROWS[0][9]))
    same(cur.fetchall(), [("Ada",)], "parameters")
    cur.execute(f"select ref from {NAME} where ref = %s", (ROWS[0][10],))
    same(cur.fetchone(), (ROWS[0][10],), "uuid")


def dicts(conn):
    with conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
        cur.execute(f"select c.name, count(*) as people from {NAME} join {NAME}_city c on c.id = city group by 1 order by 1")
        same([dict(row) for row in cur], [{"name": "Oslo", "people": 1}, {"name": "Zürich", "people": 1}], "dicts")


def transact(conn, cur):
    cur.execute(f"update {NAME} set ok = not ok, doc = %s where n = 1 returning doc", ('{"b": 2}',))
    same(cur.fetchone(), ({"b": 2},), "returning")
    cur.execute("savepoint before")
    try:
        cur.execute(f"insert into {NAME}_city values (1, 'again')")
        raise SystemExit("no unique violation")
    except psycopg2.errors.UniqueViolation as error:
        same((error.pgcode, error.diag.table_name), ("23505", f"{NAME}_city"), "error")
    cur.execute("rollback to savepoint before")
    cur.execute(f"delete from {NAME}")
    same(cur.rowcount, 3, "deleted")
    conn.rollback()
    cur.execute(f"select ok from {NAME} where n = 1")
    same(cur.fetchone(), (True,), "rolled back")
    conn.rollback()


def copy(conn, cur):
    cur.copy_from(io.StringIO("5\tRome\n6\t\\N x\n"), f"{NAME}_city", columns=("id", "name"))
    cur.copy_expert(f"copy {NAME}_city from stdin with (format csv, header)", io.StringIO('id,name\n7,"a, b"\n'))
    conn.commit()
    out = io.StringIO()
    cur.copy_expert(f"copy {NAME}_city (id, name) to stdout csv", out)
    same(sorted(out.getvalue().split("\n"))[-1:], ['7,"a, b"'], "copied out")
    conn.commit()


conn = psycopg2.connect(url())
with conn, conn.cursor() as cur:
    fill(cur)
with conn.cursor() as cur:
    select(cur)
    dicts(conn)
    conn.commit()
    transact(conn, cur)
    copy(conn, cur)
    for statement in drop(NAME):
        cur.execute(statement)
conn.commit()
same(conn.get_parameter_status("client_encoding"), "UTF8", "client_encoding")
conn.close()
print(f"psycopg2 {psycopg2.__version__.split()[0]} (libpq {psycopg2.__libpq_version__})")
