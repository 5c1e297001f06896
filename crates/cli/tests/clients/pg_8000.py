"""pg8000: the client in pure Python; unnamed statements and its own reading of types."""

import urllib.parse

import pg8000.dbapi
import pg8000.native

from people import CITIES, COLUMNS, ROWS, TYPES, ddl, drop, same, url

NAME = "c_pg8000"
AT = urllib.parse.urlsplit(url())
HOW = {"user": AT.username or "postgres", "host": AT.hostname, "port": AT.port or 5432, "database": AT.path.strip("/"),
       "password": AT.password}


def fill(cur):
    for statement in drop(NAME) + ddl(NAME):
        cur.execute(statement)
    cur.executemany(f"insert into {NAME}_city values (%s, %s)", CITIES)
    cur.executemany(f"insert into {NAME} values ({', '.join(['%s'] * len(COLUMNS))})", ROWS)


def select(cur):
    cur.execute(f"select * from {NAME} order by n")
    same([column[0] for column in cur.description], COLUMNS, "names")
    same([column[1] for column in cur.description], TYPES, "types")
    same([tuple(row) for row in cur.fetchall()], ROWS, "rows")
    cur.execute(f"select name from {NAME} where id = %s and price = %s and ref = %s", (2**40, ROWS[0][3], ROWS[0][10]))
    same(list(cur.fetchone()), ["Ada"], "parameters")


def transact(conn, cur):
    cur.execute(f"update {NAME} set name = %s where n = %s", ("Eve", 1))
    same(cur.rowcount, 1, "updated")
    cur.execute("savepoint before")
    try:
        cur.execute(f"insert into {NAME}_city values (%s, %s)", (1, "again"))
        raise SystemExit("no unique violation")
    except pg8000.dbapi.DatabaseError as error:
        same((error.args[0]["C"], error.args[0]["n"]), ("23505", f"{NAME}_city_pkey"), "error")
    cur.execute("rollback to savepoint before")
    cur.execute(f"delete from {NAME} where n > %s", (1,))
    same(cur.rowcount, 2, "deleted")
    conn.rollback()
    cur.execute(f"select name from {NAME} where n = %s", (1,))
    same(list(cur.fetchone()), ["Ada"], "rolled back")
    conn.commit()


conn = pg8000.dbapi.connect(**HOW)
cur = conn.cursor()
fill(cur)
conn.commit()
select(cur)
conn.commit()
transact(conn, cur)
conn.close()
native = pg8000.native.Connection(**HOW)
rows = native.run(f"select n, doc from {NAME} where n = :n or name = :name order by n", n=1, name="")
same(rows, [[1, ROWS[0][11]], [2147483647, {}]], "native")
same([column["name"] for column in native.columns], ["n", "doc"], "native columns")
statement = native.prepare(f"select name from {NAME}_city where id = :id")
same([statement.run(id=1), statement.run(id=2)], [[["Oslo"]], [["Zürich"]]], "prepared")
statement.close()
for line in drop(NAME):
    native.run(line)
native.close()
print(f"pg8000 {pg8000.__version__}")
