"""What the Python clients share: a table of many types, rows for it, and how a wrong answer is told.

Every script takes the URL of a database as its argument, makes tables of its own names, and ends with one line that
names the client and its version. It passes on a PostgreSQL 15 as it does on Quipu: that is the proof that it asks for
what is right.
"""

import datetime as dt
import decimal
import sys
import uuid

UTC = dt.timezone.utc


def url():
    return sys.argv[1]


def same(got, wanted, what):
    """Equal, and of the same type, all the way down."""
    if isinstance(wanted, (tuple, list)) and isinstance(got, (tuple, list)):
        if len(got) == len(wanted):
            for index, pair in enumerate(zip(got, wanted)):
                same(*pair, f"{what}[{index}]")
            return
    if type(got) is not type(wanted) or got != wanted:
        sys.exit(f"{what}: got {got!r} ({type(got).__name__}), wanted {wanted!r} ({type(wanted).__name__})")


def ddl(name):
    """Two tables, one of which refers to the other."""
    return [
        f"create table {name}_city (id int primary key, name text not null)",
        f"""create table {name} (
            id bigint primary key,
            small smallint,
            n int not null check (n > 0),
            price numeric(12,2),
            name text not null,
            code varchar(8) unique,
            ok boolean default true,
            at timestamptz,
            local timestamp,
            day date,
            ref uuid,
            doc jsonb,
            raw bytea,
            ratio double precision,
            city int references {name}_city (id))""",
        f"create index {name}_by_day on {name} (day, n)",
    ]


COLUMNS = "id small n price name code ok at local day ref doc raw ratio city".split()
"""The columns, and below the types that a client is told of: numbers of PostgreSQL's catalog."""
TYPES = [20, 21, 23, 1700, 25, 1043, 16, 1184, 1114, 1082, 2950, 3802, 17, 701, 23]

CITIES = [(1, "Oslo"), (2, "Zürich")]

AT = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
ROWS = [
    (2**40, -7, 1, decimal.Decimal("12.50"), "Ada", "a1", True, AT, AT.replace(tzinfo=None), dt.date(2024, 2, 29),
     uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"), {"a": [1, None, "ü"]}, b"\x00\xff'\\", 0.1, 1),
    (-3, None, 2, decimal.Decimal("-0.01"), "Grace 'n' \"co\"\n", None, False, None, None, None, None, None, b"", None, 2),
    (7, 32767, 2147483647, None, "", "åé", None, AT, None, dt.date(1, 1, 1), None, {}, None, -1e300, None),
]


def drop(name):
    return [f"drop table if exists {name}", f"drop table if exists {name}_city"]
