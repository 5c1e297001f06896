"""SQLAlchemy 2: ORM with a relationship, Core, two drivers, reflection and the inspector."""

import datetime as dt
import decimal
import uuid

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

from people import AT, same, url


class Base(orm.DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "c_sa_city"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(40), unique=True)
    people: orm.Mapped[list["Person"]] = orm.relationship(back_populates="city")


class Person(Base):
    __tablename__ = "c_sa_person"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(80))
    age: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    pay: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(12, 2), server_default="0")
    ok: orm.Mapped[bool] = orm.mapped_column(server_default=sa.true())
    born: orm.Mapped[dt.date | None]
    seen: orm.Mapped[dt.datetime | None] = orm.mapped_column(sa.DateTime(timezone=True))
    ref: orm.Mapped[uuid.UUID | None]
    doc: orm.Mapped[dict | None] = orm.mapped_column(pg.JSONB)
    raw: orm.Mapped[bytes | None]
    ratio: orm.Mapped[float | None]
    city_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey("c_sa_city.id", name="c_sa_lives_in"))
    city: orm.Mapped[City | None] = orm.relationship(back_populates="people")
    __table_args__ = (
        sa.CheckConstraint("age >= 0", name="c_sa_age"),
        sa.UniqueConstraint("name", "born", name="c_sa_once"),
        sa.Index("c_sa_by_age", "age"),
    )


def use(engine):
    with orm.Session(engine) as session:
        oslo = City(name="Oslo", people=[
            Person(name="Ada", age=36, born=dt.date(1815, 12, 10), seen=AT, ref=uuid.UUID(int=5), doc={"a": [1]},
                   raw=b"\x00\xff", ratio=0.25, pay=decimal.Decimal("1.50")),
            Person(name="Grace", age=85),
        ])
        session.add_all([oslo, City(name="Rome")])
        session.commit()
        ada = session.scalars(sa.select(Person).where(Person.name == "Ada")).one()
        same((ada.city.name, ada.pay, ada.ok, ada.born, ada.seen, ada.ref, ada.doc, ada.raw, ada.ratio),
             ("Oslo", decimal.Decimal("1.50"), True, dt.date(1815, 12, 10), AT, uuid.UUID(int=5), {"a": [1]},
              b"\x00\xff", 0.25), "loaded")
        ada.age += 1
        session.flush()
        with session.begin_nested() as nested:
            session.execute(sa.delete(Person))
            nested.rollback()
        session.commit()
        query = (sa.select(City.name, sa.func.count(Person.id), sa.func.sum(Person.age)).join(City.people, isouter=True)
                 .group_by(City.name).order_by(City.name))
        same([tuple(row) for row in session.execute(query)], [("Oslo", 2, 122), ("Rome", 0, None)], "joined")
        cities = session.scalars(sa.select(City).options(orm.selectinload(City.people)).order_by(City.id)).all()
        same([len(city.people) for city in cities], [2, 0], "selectinload")
        session.add(City(name="Rome"))
        try:
            session.commit()
            raise SystemExit("no IntegrityError")
        except sa.exc.IntegrityError as error:
            same("c_sa_city_name_key" in str(error.orig), True, "error")
        session.rollback()
        same(session.query(Person).filter(Person.name.ilike("GR%"), Person.age.in_([85, 86])).count(), 1, "filtered")
    with engine.begin() as conn:
        upsert = pg.insert(City).values(id=1, name="Bergen")
        conn.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"name": upsert.excluded.name}))
        same(conn.scalar(sa.select(City.name).where(City.id == 1)), "Bergen", "upsert")


def kinds(columns):
    return {column["name"]: (str(column["type"]), column["nullable"]) for column in columns}


def inspect(engine):
    seen = sa.inspect(engine)
    same({"c_sa_city", "c_sa_person"} <= set(seen.get_table_names()), True, "get_table_names")
    same(seen.has_table("c_sa_person") and not seen.has_table("c_sa_nobody"), True, "has_table")
    same("public" in seen.get_schema_names(), True, "get_schema_names")
    same(seen.default_schema_name, "public", "default_schema_name")
    columns = seen.get_columns("c_sa_person")
    same(kinds(columns), {
        "id": ("BIGINT", False), "name": ("VARCHAR(80)", False), "age": ("SMALLINT", False),
        "pay": ("NUMERIC(12, 2)", False), "ok": ("BOOLEAN", False), "born": ("DATE", True),
        "seen": ("TIMESTAMP", True), "ref": ("UUID", True), "doc": ("JSONB", True), "raw": ("BYTEA", True),
        "ratio": ("DOUBLE PRECISION", True), "city_id": ("INTEGER", True)}, "get_columns")
    of = {column["name"]: column for column in columns}
    same(of["seen"]["type"].timezone, True, "timezone")
    same(of["ok"]["default"], "true", "default")
    same(of["id"]["identity"]["always"], False, "identity")
    same(kinds(seen.get_columns("c_sa_city"))["name"], ("VARCHAR(40)", False), "varchar")
    same(seen.get_pk_constraint("c_sa_person")["constrained_columns"], ["id"], "get_pk_constraint")
    same(seen.get_pk_constraint("c_sa_person")["name"], "c_sa_person_pkey", "get_pk_constraint")
    key, = seen.get_foreign_keys("c_sa_person")
    same((key["name"], key["constrained_columns"], key["referred_table"], key["referred_columns"]),
         ("c_sa_lives_in", ["city_id"], "c_sa_city", ["id"]), "get_foreign_keys")
    indexes = {index["name"]: (index["column_names"], index["unique"]) for index in seen.get_indexes("c_sa_person")}
    same(indexes, {"c_sa_by_age": (["age"], False), "c_sa_once": (["name", "born"], True)}, "get_indexes")
    unique, = seen.get_unique_constraints("c_sa_person")
    same((unique["name"], unique["column_names"]), ("c_sa_once", ["name", "born"]), "get_unique_constraints")
    check, = seen.get_check_constraints("c_sa_person")
    same((check["name"], check["sqltext"]), ("c_sa_age", "age >= 0"), "get_check_constraints")
    same(seen.get_table_comment("c_sa_person"), {"text": None}, "get_table_comment")
    same("c_sa_grown" in seen.get_view_names(), True, "get_view_names")
    same("age >= 18" in seen.get_view_definition("c_sa_grown"), True, "get_view_definition")


def reflect(engine):
    meta = sa.MetaData()
    meta.reflect(engine, only=["c_sa_city", "c_sa_person"])
    person = meta.tables["c_sa_person"]
    with engine.connect() as conn:
        query = sa.select(person.c.name, meta.tables["c_sa_city"].c.name).join_from(person, meta.tables["c_sa_city"])
        same(len(conn.execute(query).all()), 2, "reflected")


VERSIONS = []
for driver in ("psycopg", "psycopg2", "pg8000"):
    engine = sa.create_engine(sa.make_url(url()).set(drivername=f"postgresql+{driver}"))
    with engine.begin() as conn:
        conn.execute(sa.text("drop view if exists c_sa_grown"))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)  # they are there
    with engine.begin() as conn:
        conn.execute(sa.text("create view c_sa_grown as select name, age from c_sa_person where age >= 18"))
    for step in (use, inspect, reflect):
        step(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("drop view c_sa_grown"))
    Base.metadata.drop_all(engine)
    same(sa.inspect(engine).has_table("c_sa_person"), False, "dropped")
    VERSIONS.append(driver)
    engine.dispose()
print(f"SQLAlchemy {sa.__version__} ({', '.join(VERSIONS)})")
