"""ADBC: Arrow in and out, through COPY in binary, and what its metadata functions tell."""

import adbc_driver_postgresql
import adbc_driver_postgresql.dbapi as dbapi
import pyarrow as pa

from people import AT, ROWS, ddl, drop, same, url

NAME = "c_adbc"


def fill(conn, cur):
    for statement in drop(NAME) + drop(f"{NAME}_in") + ddl(NAME):
        cur.execute(statement)
    cur.executemany(f"insert into {NAME}_city values ($1, $2)", [(1, "Oslo"), (2, "Zürich")])
    cur.execute(f"""insert into {NAME} values (1, -7, 1, 12.50, 'Ada', 'a1', true, '2024-02-29 12:30:15.123456+00',
        '2024-02-29 12:30:15.123456', '2024-02-29', '00112233-4455-6677-8899-aabbccddeeff', '{{"a": 1}}', '\\x00ff', 0.1, 1),
        (2, null, 2, -0.01, '', null, false, null, null, null, null, null, null, null, null)""")
    conn.commit()


def fetch(cur):
    cur.execute(f"select * from {NAME} order by n")
    table = cur.fetch_arrow_table()
    kinds = {field.name: str(field.type) for field in table.schema}
    same((kinds["id"], kinds["small"], kinds["n"], kinds["name"], kinds["ok"], kinds["at"], kinds["local"], kinds["day"],
          kinds["raw"], kinds["ratio"]),
         ("int64", "int16", "int32", "string", "bool", "timestamp[us, tz=UTC]", "timestamp[us]", "date32[day]", "binary",
          "double"), "Arrow types")
    row = table.to_pylist()[0]
    same((row["id"], row["small"], row["name"], row["ok"], row["day"], row["raw"], row["ratio"], row["price"]),
         (1, -7, "Ada", True, ROWS[0][9], b"\x00\xff", 0.1, "12.50"), "values")
    same(row["at"] == AT, True, "timestamptz")
    same(table.to_pylist()[1]["name"], "", "an empty text")
    cur.execute(f"select name from {NAME}_city where id = $1", (2,))
    same(cur.fetchone(), ("Zürich",), "a parameter")


def ingest(conn, cur):
    table = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", None, "ü"], "x": [0.5, 1.5, None],
                      "at": pa.array([AT, None, AT], pa.timestamp("us", tz="UTC"))})
    same(cur.adbc_ingest(f"{NAME}_in", table, mode="create"), 3, "ingested")
    same(cur.adbc_ingest(f"{NAME}_in", table, mode="append"), 3, "appended")
    conn.commit()
    cur.execute(f"select count(*), count(name), sum(x) from {NAME}_in")
    same(cur.fetchone(), (6, 4, 4.0), "ingested")


def describe(conn, cur):
    schema = conn.adbc_get_table_schema(f"{NAME}_city")
    same([(field.name, str(field.type)) for field in schema], [("id", "int32"), ("name", "string")], "get_table_schema")
    found = conn.adbc_get_objects(depth="all", db_schema_filter="public", table_name_filter=f"{NAME}%").read_all().to_pylist()
    schemas = [schema for catalog in found for schema in (catalog["catalog_db_schemas"] or [])]
    tables = {table["table_name"]: table for schema in schemas for table in (schema["db_schema_tables"] or [])}
    same(sorted(tables), [NAME, f"{NAME}_city", f"{NAME}_in"], "get_objects")
    same([column["column_name"] for column in tables[f"{NAME}_city"]["table_columns"]], ["id", "name"], "its columns")
    kinds = {constraint["constraint_name"]: constraint["constraint_type"] for constraint in tables[NAME]["table_constraints"]}
    same((kinds[f"{NAME}_pkey"], kinds[f"{NAME}_code_key"], kinds[f"{NAME}_city_fkey"]),
         ("PRIMARY KEY", "UNIQUE", "FOREIGN KEY"), "its constraints")
    same("table" in conn.adbc_get_table_types(), True, "get_table_types")
    same(conn.adbc_get_info()["vendor_name"], "PostgreSQL", "get_info")


def transact(conn, cur):
    cur.execute(f"delete from {NAME}_in")
    conn.rollback()
    cur.execute(f"select count(*) from {NAME}_in")
    same(cur.fetchone(), (6,), "rolled back")
    try:
        cur.execute(f"insert into {NAME}_city values (1, 'again')")
        raise SystemExit("no unique violation")
    except dbapi.Error as error:
        same(error.sqlstate, "23505", "error")
    conn.rollback()


with dbapi.connect(url()) as conn, conn.cursor() as cur:
    fill(conn, cur)
    for step in (lambda: fetch(cur), lambda: ingest(conn, cur), lambda: describe(conn, cur), lambda: transact(conn, cur)):
        step()
        conn.commit()
    for statement in drop(NAME) + drop(f"{NAME}_in"):
        cur.execute(statement)
    conn.commit()
print(f"ADBC {adbc_driver_postgresql.__version__} (pyarrow {pa.__version__})")
