"""Saving that a finding on repeated queries predicts, against the saving of its repair.

Each case is a view in two forms that answer the same: one that runs a query per row, or the same query
again, and its repair. The report on the first form has the prediction. Both forms are served in turn;
the difference of their response times is the saving. The number of rows, the size of results and the
work that each row needs besides its query are drawn per seed: some loops do much other work.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, render_template_string
from sqlalchemy import orm

from flask_knitperf import KnitPerf

from ..harness.outcome import Outcome
from ..harness.savings import SEEDS, Saving, add_view, judged, served

_TEMPLATE = """<table>{% for order in orders %}
<tr><td>{{ order.number }}</td><td>{{ order.customer.name }}</td><td>{{ work() }}</td></tr>
{% endfor %}</table>"""


class Base(orm.DeclarativeBase):
    """Base class of the tables."""


class Customer(Base):
    """A customer."""

    __tablename__ = "customers"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    city: orm.Mapped[str]
    street: orm.Mapped[str]
    discount: orm.Mapped[float]


class Order(Base):
    """An order of one customer, with its lines."""

    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    number: orm.Mapped[str]
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customers.id"))
    customer: orm.Mapped[Customer] = orm.relationship()
    lines: orm.Mapped[list[Line]] = orm.relationship()


class Line(Base):
    """One line of an order."""

    __tablename__ = "lines"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    order_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("orders.id"), index=True)
    article: orm.Mapped[str]
    meters: orm.Mapped[float]


class Mill:
    """A database, and the views in both forms.

    Args:
        folder: for the database.
        seed: of the sizes.
        connect: wraps the function that connects without SQLAlchemy.
    """

    def __init__(
        self, folder: Path, seed: int, connect: Callable[[Callable[[], Any]], Callable[[], Any]]
    ) -> None:
        generator = random.Random(seed)
        self.rows = generator.randint(40, 160)
        lines = generator.randint(1, 8)
        self._turns = generator.choice((0, 0, 20, 200, 1000))
        self.engine = sa.create_engine(f"sqlite:///{folder / 'mill.db'}")
        self.connect = connect(functools.partial(sqlite3.connect, folder / "mill.db"))
        Base.metadata.create_all(self.engine)
        with orm.Session(self.engine) as session:
            for number in range(1, self.rows + 1):
                session.add(Customer(id=number, name=f"c{number}", city="Biella", street="Via Roma",
                                     discount=generator.random()))  # fmt: skip
                session.add(Order(id=number, number=f"o{number}", customer_id=number))
                for _ in range(lines):
                    session.add(Line(order_id=number, article="yarn", meters=generator.random()))
            session.commit()

    def work(self) -> int:
        """Do what each row needs besides its query."""
        return sum(number * number % 7 for number in range(self._turns)) % 2

    # -- an attribute that is loaded when it is read -------------------------------------------------

    def lazy_in_view(self, repaired: bool) -> Any:
        """Build a list."""
        with orm.Session(self.engine) as session:
            query = sa.select(Order)
            if repaired:
                query = query.options(orm.joinedload(Order.customer))
            return [[order.customer.name, self.work()] for order in session.scalars(query)]

    def lazy_in_template(self, repaired: bool) -> Any:
        """Render a table."""
        with orm.Session(self.engine) as session:
            query = sa.select(Order)
            if repaired:
                query = query.options(orm.joinedload(Order.customer))
            return render_template_string(
                _TEMPLATE, orders=session.scalars(query).all(), work=self.work
            )

    def lazy_in_serializer(self, repaired: bool) -> Any:
        """Serialise orders with their lines by the names of fields."""
        with orm.Session(self.engine) as session:
            query = sa.select(Order)
            if repaired:
                query = query.options(orm.selectinload(Order.lines))
            fields = {"number": None, "lines": {"article": None, "meters": None}}
            return [
                (serialize(order, fields), self.work()) for order in session.scalars(query).all()
            ]

    # -- queries of the application's own code --------------------------------------------------------

    def orm_queries(self, repaired: bool) -> Any:
        """Select one object per row by the ORM."""
        numbers = range(1, self.rows + 1)
        with orm.Session(self.engine) as session:
            if repaired:
                query = sa.select(Customer).where(Customer.id.in_(numbers))
                known = {customer.id: customer for customer in session.scalars(query)}
                return [[known[number].name, self.work()] for number in numbers]
            names = []
            for number in numbers:
                query = sa.select(Customer).where(Customer.id == number)
                names.append([session.execute(query).scalar_one().name, self.work()])
            return names

    def core_queries(self, repaired: bool) -> Any:
        """Select one row per row by SQLAlchemy's engine."""
        numbers = range(1, self.rows + 1)
        with self.engine.connect() as connection:
            if repaired:
                rows = connection.execute(sa.text("SELECT id, name FROM customers")).all()
                known = {row.id: row.name for row in rows}
                return [[known[number], self.work()] for number in numbers]
            query = sa.text("SELECT name FROM customers WHERE id = :id")
            return [
                [connection.execute(query, {"id": number}).scalar(), self.work()]
                for number in numbers
            ]

    def driver_queries(self, repaired: bool) -> Any:
        """Select one row per row by the driver, without an index."""
        numbers = range(1, self.rows + 1)
        connection = self.connect()
        try:
            if repaired:
                known = dict(connection.execute("SELECT name, discount FROM customers").fetchall())
                return [[known[f"c{number}"], self.work()] for number in numbers]
            query = "SELECT discount FROM customers WHERE name = ?"
            return [
                [connection.execute(query, (f"c{number}",)).fetchone()[0], self.work()]
                for number in numbers
            ]
        finally:
            connection.close()

    # -- the same query again --------------------------------------------------------------------------

    def duplicates(self, repaired: bool) -> Any:
        """Count the lines again for each row."""
        query = sa.text("SELECT count(*) FROM lines WHERE meters > :least")
        with self.engine.connect() as connection:
            if repaired:
                total = connection.execute(query, {"least": 0.5}).scalar()
                return [[total, self.work()] for _ in range(self.rows)]
            return [
                [connection.execute(query, {"least": 0.5}).scalar(), self.work()]
                for _ in range(self.rows)
            ]

    def orm_duplicates(self, repaired: bool) -> Any:
        """Select the same objects again for each row."""
        query = sa.select(Customer).where(Customer.discount > 0.95)
        with orm.Session(self.engine) as session:
            if repaired:
                some = len(session.scalars(query).all())
                return [[some, self.work()] for _ in range(self.rows)]
            return [[len(session.scalars(query).all()), self.work()] for _ in range(self.rows)]


CASES = (
    Mill.lazy_in_view, Mill.lazy_in_template, Mill.lazy_in_serializer, Mill.orm_queries,
    Mill.core_queries, Mill.driver_queries, Mill.duplicates, Mill.orm_duplicates,
)  # fmt: skip


def serialize(value: Any, fields: dict[str, Any] | None) -> Any:
    """Return an object, or a list of them, as JSON values.

    Args:
        value: an object, a list of objects, or a JSON value.
        fields: names of attributes, with the fields of their values; ``None`` for a JSON value.
    """
    if fields is None:
        return value
    if isinstance(value, list):
        return [serialize(one, fields) for one in value]
    return {name: serialize(getattr(value, name), inner) for name, inner in fields.items()}


def savings(seed: int, pairs: int, sampler: bool = False) -> list[Saving]:
    """Serve both forms of each case in turn; return predictions and savings.

    Args:
        seed: of the sizes and the order.
        pairs: number of requests of each form.
        sampler: whether the sampling profiler runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        perf = KnitPerf()
        mill = Mill(Path(folder), seed, perf.queries.wrap_connect)
        app = Flask("mill")
        app.config.update(TESTING=True, KNITPERF_SAMPLER=sampler)
        perf.init_app(app)
        perf.queries.instrument(mill.engine)
        for case in CASES:
            add_view(app, case.__name__, functools.partial(case, mill))
        try:
            names = [case.__name__ for case in CASES]
            return list(served(app, names, seed, pairs, collects=False))
        finally:
            app.extensions["knitperf"].close()
            perf.queries.uninstrument(mill.engine)
            mill.engine.dispose()


def run(quick: bool = False) -> Outcome:
    """Measure."""
    rows = [
        saving
        for seed in SEEDS[: 1 if quick else None]
        for saving in savings(seed, 10 if quick else 40)
    ]
    what = "saving predicted for N+1 and duplicate queries against the saving measured"
    return judged("savings_sql", what, rows)
