"""asyncpg: binary both ways, a pool that resets its connections, cursors, binary COPY."""

import asyncio
import json

import asyncpg

from people import CITIES, COLUMNS, ROWS, ddl, drop, same, url

NAME = "c_asyncpg"


async def plain(conn):
    """Documents as Python has them."""
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


def native(value):
    return value if not isinstance(value, asyncpg.pgproto.pgproto.UUID) else type(ROWS[0][10])(str(value))


async def fill(conn):
    for statement in drop(NAME) + ddl(NAME):
        await conn.execute(statement)
    await conn.executemany(f"insert into {NAME}_city values ($1, $2)", CITIES)
    places = ", ".join(f"${place + 1}" for place in range(len(COLUMNS)))
    await conn.executemany(f"insert into {NAME} values ({places})", ROWS)


async def select(conn):
    rows = await conn.fetch(f"select * from {NAME} order by n")
    same(list(rows[0].keys()), COLUMNS, "names")
    same([tuple(map(native, row.values())) for row in rows], ROWS, "rows")
    statement = await conn.prepare(f"select name, price from {NAME} where n = $1 and code = $2")
    same([kind.name for kind in statement.get_parameters()], ["int4", "text"], "parameters")
    same([column.type.name for column in statement.get_attributes()], ["text", "numeric"], "attributes")
    same((await statement.fetchrow(1, "a1"))["name"], "Ada", "prepared")
    same(await conn.fetchval(f"select count(*) from {NAME} where n = any($1::int[])", [1, 2]), 2, "an array")
    async with conn.transaction():
        seen = [row["n"] async for row in conn.cursor(f"select n from {NAME} order by n", prefetch=1)]
    same(seen, [1, 2, 2147483647], "cursor")


async def transact(conn):
    same(await conn.execute(f"update {NAME} set ok = false where n = $1", 1), "UPDATE 1", "tag")
    try:
        async with conn.transaction(isolation="serializable"):
            await conn.execute(f"delete from {NAME}")
            try:
                async with conn.transaction():
                    await conn.execute(f"insert into {NAME}_city values (1, 'again')")
            except asyncpg.UniqueViolationError as error:
                same((error.sqlstate, error.constraint_name), ("23505", f"{NAME}_city_pkey"), "error")
            same(await conn.fetchval(f"select count(*) from {NAME}"), 0, "inside")
            raise KeyError
    except KeyError:
        pass
    same(await conn.fetchval(f"select count(*) from {NAME}"), 3, "rolled back")


async def copy(conn):
    tag = await conn.copy_records_to_table(f"{NAME}_city", records=[(5, "Rome"), (6, "Lima")], columns=["id", "name"])
    same(tag, "COPY 2", "copied in")
    got = []

    async def keep(data):
        got.append(data)

    await conn.copy_from_query(f"select name from {NAME}_city where id > $1 order by id", 4, output=keep, format="csv")
    same(b"".join(got), b"Rome\nLima\n", "copied out")


async def main():
    pool = await asyncpg.create_pool(url(), min_size=1, max_size=2, init=plain)
    for step in (fill, select, transact, copy):
        async with pool.acquire() as conn:
            await step(conn)
    async with pool.acquire() as conn:
        for statement in drop(NAME):
            await conn.execute(statement)
    await pool.close()


asyncio.run(main())
print(f"asyncpg {asyncpg.__version__}")
