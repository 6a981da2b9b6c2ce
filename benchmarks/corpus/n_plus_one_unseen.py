"""Views of a knitting mill that do, or only seem to do, one query per row.

This corpus was written from the issue's text by somebody who had not seen the detector.

`cases(seed)` gives the true ones first, then the look-alikes. In a true case every line in `hot`
runs the same statement `repeats` times in one request, at least twelve times, where one query (a
join, an `IN`, a `GROUP BY`, a recursive query, an eager load) could have brought it all. `hot` names
the innermost line of this file on the stack when the statement is sent; that line ends with the
comment `# hot: <marker>`. If a case has two hot lines, each of them runs `repeats` times. No
other line of a true case runs a statement twice. A look-alike is not an N+1, even where it runs the
same statement on one line more than twelve times.

How to use it: make an engine and a `sqlite3` connection factory for one empty SQLite file, call
`fill(engine, seed)`, begin to watch, make a `Database(engine, connect, seed)` and call
`case.view(database)` once for each request. `Database.mills` are further engines, for the case with
a database per tenant. Every case may be called as often as wanted, in any order, one request at a
time; the cases that are about several requests keep their state in the `Database`. The seed moves
how many rows there are and how many a loop visits, the sizes of pages and chunks, the shape of the
tree and which row belongs to which.

Run as a script, it counts the statements itself and checks that the labels are what really happens.
"""
# As it was written: moved lines would move its marks.
# fmt: off
# ruff: noqa: PERF401, RUF012

from __future__ import annotations

import json
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Row,
    Select,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

__all__ = ["Case", "Database", "cases", "fill", "line_of"]

HALLS = ("north hall", "south hall", "mill lane", "old weir", "dye house", "loft")
SHIFTS = ("early", "late", "night")
CURRENCIES = ("EUR", "GBP", "SEK", "USD")
FEWEST = 12  # rows that a loop visits at least


# The schema.


class Base(DeclarativeBase):
    """The mill's tables."""


class Supplier(Base):
    """A spinner or dyer that sells yarn to the mill."""

    __tablename__ = "suppliers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]
    yarns: Mapped[list[Yarn]] = relationship(back_populates="supplier")


class Yarn(Base):
    """A yarn on the shelf."""

    __tablename__ = "yarns"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    stock_kg: Mapped[int]
    version: Mapped[int]
    data_sheet: Mapped[str] = mapped_column(deferred=True)
    supplier_id: Mapped[int] = mapped_column(ForeignKey("suppliers.id"))
    supplier: Mapped[Supplier] = relationship(back_populates="yarns")


style_labels = Table(
    "style_labels",
    Base.metadata,
    Column("style_id", ForeignKey("styles.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)


class Label(Base):
    """A care label, such as wool wash or dry flat."""

    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]


class Style(Base):
    """A garment that the mill knits."""

    __tablename__ = "styles"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    yarn_id: Mapped[int] = mapped_column(ForeignKey("yarns.id"))
    yarn: Mapped[Yarn] = relationship()
    labels: Mapped[list[Label]] = relationship(secondary=style_labels)


class Customer(Base):
    """A shop that orders garments."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    currency: Mapped[str]


class Order(Base):
    """An order of a shop."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    prints: Mapped[int]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()
    lines: Mapped[list[OrderLine]] = relationship()
    delivery: Mapped[Delivery] = relationship()

    @property
    def pieces(self) -> int:
        """How many garments the order is for."""
        return sum(line.quantity for line in self.lines)  # hot: pieces-property


class OrderLine(Base):
    """So many pieces of a style."""

    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    quantity: Mapped[int]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    style_id: Mapped[int] = mapped_column(ForeignKey("styles.id"))
    style: Mapped[Style] = relationship()
    inspections: Mapped[list[Inspection]] = relationship()


class Delivery(Base):
    """The parcel an order leaves in, one for each order."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    carrier: Mapped[str]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)


class Inspection(Base):
    """What the mender found on an order line."""

    __tablename__ = "inspections"
    id: Mapped[int] = mapped_column(primary_key=True)
    faults: Mapped[int]
    line_id: Mapped[int] = mapped_column(ForeignKey("order_lines.id"))


class Machine(Base):
    """A knitting machine of either kind."""

    __tablename__ = "machines"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    hall: Mapped[str]
    __mapper_args__ = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "machine",
    }

    def described(self) -> str:
        """One line for the machine list."""
        return self.name


class FlatBed(Machine):
    """A V-bed machine."""

    __tablename__ = "flat_beds"
    id: Mapped[int] = mapped_column(ForeignKey("machines.id"), primary_key=True)
    needles: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "flat"}

    def described(self) -> str:
        """One line for the machine list, with the needles."""
        return f"{self.name}: {self.needles} needles"  # hot: flat-bed-needles


class Circular(Machine):
    """A circular machine."""

    __tablename__ = "circulars"
    id: Mapped[int] = mapped_column(ForeignKey("machines.id"), primary_key=True)
    feeders: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "circular"}

    def described(self) -> str:
        """One line for the machine list, with the feeders."""
        return f"{self.name}: {self.feeders} feeders"  # hot: circular-feeders


class Reading(Base):
    """A count of courses that a machine has sent; the one long table."""

    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    courses: Mapped[int]
    shift: Mapped[str]
    machine_id: Mapped[int] = mapped_column(ForeignKey("machines.id"), index=True)


class Part(Base):
    """A node of the bill of materials."""

    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    cost: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parts.id"), index=True)
    children: Mapped[list[Part]] = relationship()


class Rate(Base):
    """What a currency is worth."""

    __tablename__ = "rates"
    currency: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[int]


class Setting(Base):
    """A setting of the application."""

    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Job(Base):
    """A knitting job that a machine works on."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


class Scan(Base):
    """A barcode read at the gate; only the writing views touch this table."""

    __tablename__ = "scans"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    yarn_id: Mapped[int | None]
    at: Mapped[str | None]


class Pallet(Base):
    """A pallet at the gate, whose number must not come twice."""

    __tablename__ = "pallets"
    number: Mapped[str] = mapped_column(primary_key=True)
    cones: Mapped[int]


TABLES = Base.metadata.tables
YARNS = TABLES["yarns"]
STYLES = TABLES["styles"]
LINES = TABLES["order_lines"]
ORDERS = TABLES["orders"]
READINGS = TABLES["readings"]
JOBS = TABLES["jobs"]
SCANS = TABLES["scans"]
PALLETS = TABLES["pallets"]
SUPPLIERS = TABLES["suppliers"]


# The numbers and the rows that a seed gives.


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of the tables, and how many rows the views visit."""

    suppliers: int
    yarns: int
    customers: int
    styles: int
    orders: int
    labels: int
    machines: int  # of each kind
    halls: int
    parts: int
    readings: int
    mills: int
    suppliers_shown: int
    yarns_shown: int
    styles_shown: int
    orders_shown: int
    lines_shown: int
    machines_shown: int
    page: int
    batch: int
    chunk: int
    stream: int
    polls: int
    failures: int


@lru_cache(maxsize=32)
def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"knitting mill {seed}")
    suppliers, yarns = rng.randint(20, 28), rng.randint(44, 60)
    styles, orders = rng.randint(24, 32), rng.randint(20, 24)
    machines = rng.randint(12, 16)
    return Plan(
        suppliers=suppliers,
        yarns=yarns,
        customers=rng.randint(24, 30),
        styles=styles,
        orders=orders,
        labels=rng.randint(20, 24),
        machines=machines,
        halls=rng.randint(4, len(HALLS)),
        parts=rng.randint(20, 36),
        readings=rng.randint(6100, 7400),
        mills=rng.randint(12, 14),
        suppliers_shown=rng.randint(12, suppliers),
        yarns_shown=rng.randint(12, yarns),
        styles_shown=rng.randint(12, styles),
        orders_shown=rng.randint(12, orders),
        lines_shown=rng.randint(34, 40),
        machines_shown=rng.randint(12, 2 * machines),
        page=rng.randint(400, 500),
        batch=rng.randint(300, 500),
        chunk=rng.randint(400, 500),
        stream=rng.randint(200, 400),
        polls=rng.randint(12, 18),
        failures=rng.randint(3, 5),
    )


@lru_cache(maxsize=4)
def rows_of(seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, by the table's name, in an order that keeps foreign keys valid."""
    plan = plan_of(seed)
    rng = random.Random(f"rows of the knitting mill {seed}")
    owners = [number % plan.suppliers + 1 for number in range(plan.yarns)]
    rng.shuffle(owners)
    main_yarns = rng.sample(range(1, plan.yarns + 1), plan.styles)
    buyers = rng.sample(range(1, plan.customers + 1), plan.orders)
    kinds = ["flat", "circular"] * plan.machines
    rng.shuffle(kinds)
    halls = [HALLS[number % plan.halls] for number in range(len(kinds))]
    rng.shuffle(halls)
    sheet = rng.sample(range(1, plan.styles + 1), 16)  # so that few lines name many styles
    lines = [
        {
            "id": 3 * (order - 1) + place + 1,
            "quantity": rng.randint(5, 90),
            "order_id": order,
            "style_id": sheet[(3 * (order - 1) + place) % 16]
            if rng.randrange(3)
            else rng.randint(1, plan.styles),
        }
        for order in range(1, plan.orders + 1)
        for place in range(3)
    ]
    return {
        "suppliers": [
            {"id": n, "name": f"Spinner {n}", "city": rng.choice(("Biella", "Bradford", "Borås"))}
            for n in range(1, plan.suppliers + 1)
        ],
        "yarns": [
            {
                "id": n,
                "code": f"YRN-{n:04}",
                "name": f"Merino 2/{n}",
                "stock_kg": rng.randint(10, 900),
                "version": 1,
                "data_sheet": f"twist {rng.randint(200, 600)}",
                "supplier_id": owner,
            }
            for n, owner in enumerate(owners, 1)
        ],
        "labels": [{"id": n, "code": f"care {n}"} for n in range(1, plan.labels + 1)],
        "styles": [
            {"id": n, "name": f"Jumper {n}", "price": rng.randint(40, 200), "yarn_id": yarn}
            for n, yarn in enumerate(main_yarns, 1)
        ],
        "style_labels": [
            {"style_id": style, "label_id": label}
            for style in range(1, plan.styles + 1)
            for label in rng.sample(range(1, plan.labels + 1), 2)
        ],
        "customers": [
            {"id": n, "name": f"Shop {n}", "currency": rng.choice(CURRENCIES)}
            for n in range(1, plan.customers + 1)
        ],
        "orders": [
            {"id": n, "number": f"KN{n:05}", "prints": 0, "customer_id": buyer}
            for n, buyer in enumerate(buyers, 1)
        ],
        "order_lines": lines,
        "deliveries": [
            {"id": n, "carrier": rng.choice(("rail", "van", "cart")), "order_id": n}
            for n in range(1, plan.orders + 1)
        ],
        "inspections": [
            {"id": line["id"], "faults": rng.randint(0, 4), "line_id": line["id"]} for line in lines
        ],
        "machines": [
            {"id": n, "kind": kind, "name": f"M{n:02}", "hall": hall}
            for n, (kind, hall) in enumerate(zip(kinds, halls, strict=True), 1)
        ],
        "flat_beds": [
            {"id": n, "needles": rng.randint(300, 900)}
            for n, kind in enumerate(kinds, 1)
            if kind == "flat"
        ],
        "circulars": [
            {"id": n, "feeders": rng.randint(24, 96)}
            for n, kind in enumerate(kinds, 1)
            if kind == "circular"
        ],
        "readings": [
            {
                "id": n,
                "courses": rng.randint(100, 999),
                "shift": SHIFTS[n // len(kinds) % 3],
                "machine_id": n % len(kinds) + 1,
            }
            for n in range(1, plan.readings + 1)
        ],
        "parts": [
            {
                "id": n,
                "name": f"part {n}",
                "cost": rng.randint(1, 50),
                "parent_id": rng.randint(max(1, n - 8), n - 1) if n > 1 else None,
            }
            for n in range(1, plan.parts + 1)
        ],
        "rates": [
            {"currency": name, "rate": rng.randint(80, 1200)}
            for name in (*CURRENCIES, *(f"X{n:02}" for n in range(16)))
        ],
        "settings": [
            {"key": key, "value": rng.randint(1, 99)}
            for key in ("vat", "freight", "waste", "footer", *(f"other {n}" for n in range(16)))
        ],
        "jobs": [{"id": n, "state": "knitting"} for n in range(1, 21)],
    }


def mill_url(engine: Engine, number: int) -> str:
    """Where the database of one sister mill is: a file beside the main one."""
    return f"sqlite:///{engine.url.database}.mill{number}"


def fill(engine: Engine, seed: int) -> None:
    """Make the tables and their rows, and the sister mills' databases, before anyone watches."""
    rows = rows_of(seed)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for name, some in rows.items():
            connection.execute(insert(TABLES[name]), some)
    for number in range(plan_of(seed).mills):
        mill = create_engine(mill_url(engine, number))
        Base.metadata.drop_all(mill, tables=[JOBS])
        Base.metadata.create_all(mill, tables=[JOBS])
        with mill.begin() as connection:
            connection.execute(
                insert(JOBS), [{"id": n, "state": "knitting"} for n in range(1, 21 + number)]
            )
        mill.dispose()


class Database:
    """What a view works with: the engine, a connection factory for the same file, and state."""

    def __init__(self, engine: Engine, connect: Callable[[], sqlite3.Connection], seed: int) -> None:
        """Take the caller's engine and factory; open nothing yet."""
        self.engine = engine
        self.connect = connect
        self.seed = seed
        self.plan = plan_of(seed)
        self.mills = [create_engine(mill_url(engine, number)) for number in range(self.plan.mills)]
        self.cache: dict[int, str] = {}
        self.requests: Counter[str] = Counter()

    def close(self) -> None:
        """Let go of the sister mills' connections."""
        for mill in self.mills:
            mill.dispose()


@dataclass(frozen=True, slots=True)
class Case:
    """One view and what is true of it."""

    name: str
    kind: str  # "orm", "core" or "dbapi"
    view: Callable[[Database], object]
    hot: tuple[str, ...]  # markers of the lines that must be named; empty for a look-alike
    repeats: int  # times that the statement of each hot line runs in one request; 0 for a look-alike
    why: str


# True ones, ORM.


def supplier_list(db: Database) -> object:
    """Suppliers with the number of their yarns."""
    listed = []
    with Session(db.engine) as session:
        suppliers = session.scalars(select(Supplier).limit(db.plan.suppliers_shown)).all()
        for supplier in suppliers:
            count = len(supplier.yarns)  # hot: supplier-yarns
            listed.append((supplier.name, count))
    return listed


def picking_list(db: Database) -> object:
    """Names of the styles of some order lines, in a list comprehension."""
    with Session(db.engine) as session:
        lines = session.scalars(select(OrderLine).order_by(OrderLine.id).limit(db.plan.lines_shown))
        return [f"{line.quantity} x {line.style.name}" for line in lines.all()]  # hot: style-of-line


TICKET = "{style.name} / {style.yarn.name} / {style.price}"


def swing_tickets(db: Database) -> object:
    """Swing tickets, from a template that reaches through the style to its yarn."""
    tickets = []
    with Session(db.engine) as session:
        for style in session.scalars(select(Style).limit(db.plan.styles_shown)).all():
            tickets.append(TICKET.format(style=style))  # hot: ticket-template
    return "\n".join(tickets)


def customer_fields(order: Order) -> dict[str, object]:
    """The shop's part of an order."""
    shop = order.customer.name  # hot: customer-field
    return {"shop": shop}


def order_fields(order: Order) -> dict[str, object]:
    """An order as the API shows it."""
    fields: dict[str, object] = {"number": order.number}
    fields.update(customer_fields(order))
    return fields


def encoded(thing: object) -> object:
    """What `json` asks for when it does not know a type."""
    if isinstance(thing, Order):
        return order_fields(thing)
    raise TypeError(type(thing).__name__)


def orders_as_json(db: Database) -> object:
    """Orders as JSON; the query is sent three functions of ours below `json.dumps`."""
    with Session(db.engine) as session:
        orders = session.scalars(select(Order).limit(db.plan.orders_shown)).all()
        return json.dumps({"orders": list(orders)}, default=encoded)


def biggest_orders(db: Database) -> object:
    """Orders by size, where the size is a property of the model that reads its lines."""
    with Session(db.engine) as session:
        orders = session.scalars(select(Order).limit(db.plan.orders_shown)).all()
        sizes = [(order.pieces, order.number) for order in orders]
    return sorted(sizes, reverse=True)


def csv_of(styles: Sequence[Style]) -> Iterator[str]:
    """Lines of a CSV, made as the client takes them."""
    yield "style;yarn\n"
    for style in styles:
        yield f"{style.name};{style.yarn.code}\n"  # hot: streamed-yarn


def style_export(db: Database) -> object:
    """A CSV that is streamed from a generator."""
    with Session(db.engine) as session:
        styles = session.scalars(select(Style).order_by(Style.name).limit(db.plan.styles_shown))
        return "".join(csv_of(styles.all()))


def care_labels(db: Database) -> object:
    """Care labels of each style, through a lazy many-to-many, in a dict comprehension."""
    with Session(db.engine) as session:
        styles = session.scalars(select(Style).limit(db.plan.styles_shown)).all()
        return {
            style.name: sorted(label.code for label in style.labels)  # hot: labels-of-style
            for style in styles
        }


def shelf_contents(db: Database) -> object:
    """What lies on each shelf; the shelves are a dict of ids."""
    shelves = {f"shelf {n}": n for n in range(1, db.plan.yarns_shown + 1)}
    contents = {}
    with Session(db.engine) as session:
        for shelf, yarn_id in shelves.items():
            yarn = session.get(Yarn, yarn_id)  # hot: get-yarn
            contents[shelf] = yarn.name if yarn else "empty"
    return contents


def times_ordered(session: Session, style: Style) -> int:
    """On how many order lines a style stands."""
    query = select(func.count()).select_from(OrderLine).where(OrderLine.style_id == style.id)
    return session.scalar(query) or 0  # hot: count-per-style


def style_popularity(db: Database) -> object:
    """Styles with the number of times they were ordered."""
    with Session(db.engine) as session:
        styles = session.scalars(select(Style).limit(db.plan.styles_shown)).all()
        return {style.name: times_ordered(session, style) for style in styles}


def order_board(db: Database) -> object:
    """Orders with their parcel and their lines: two lazy loads in one loop."""
    board = []
    with Session(db.engine) as session:
        for order in session.scalars(select(Order).limit(db.plan.orders_shown)).all():
            carrier = order.delivery.carrier  # hot: delivery-of-order
            pieces = [line.quantity for line in order.lines]  # hot: lines-of-order
            board.append((order.number, carrier, pieces))
    return board


def fault_report(db: Database) -> object:
    """Faults by order; the lines are loaded ahead, their inspections are not."""
    report = {}
    with Session(db.engine) as session:
        query = select(Order).options(selectinload(Order.lines)).limit(db.plan.orders_shown)
        for order in session.scalars(query).all():
            faults = 0
            for line in order.lines:
                for inspection in line.inspections:  # hot: inspections-of-line
                    faults += inspection.faults
            report[order.number] = faults
    return report


def machine_list(db: Database) -> object:
    """All machines, each with what only its own kind has."""
    with Session(db.engine) as session:
        machines = session.scalars(select(Machine).order_by(Machine.name)).all()
        return [machine.described() for machine in machines]


def cost_of(part: Part) -> int:
    """What a part costs with all that goes into it."""
    total = part.cost
    for child in part.children:  # hot: children-of-part
        total += cost_of(child)
    return total


def garment_cost(db: Database) -> object:
    """The cost of a garment, by recursion over its bill of materials."""
    with Session(db.engine) as session:
        return cost_of(session.scalars(select(Part).where(Part.parent_id.is_(None))).one())


def data_sheets(db: Database) -> object:
    """Data sheets of the yarns, a column that is not loaded with the row."""
    sheets = {}
    with Session(db.engine) as session:
        yarns = session.scalars(select(Yarn).limit(db.plan.yarns_shown)).all()
        for yarn in yarns:
            sheets[yarn.code] = yarn.data_sheet  # hot: deferred-sheet
    return sheets


def print_orders(db: Database) -> object:
    """Count a print on each order, commit, and only then list the orders that were printed."""
    printed = []
    with Session(db.engine) as session:
        orders = session.scalars(select(Order).limit(db.plan.orders_shown)).all()
        for order in orders:
            order.prints += 1
        session.commit()
        for order in orders:
            printed.append(order.number)  # hot: expired-order
    return printed


def latest_reading(session: Session, machine: Machine) -> Reading | None:
    """What a machine has sent last."""
    query = select(Reading).where(Reading.machine_id == machine.id)
    query = query.order_by(Reading.id.desc()).limit(1)
    return session.scalars(query).first()  # hot: latest-reading


def machine_status(db: Database) -> object:
    """The last reading of each machine, one `LIMIT 1` after the other."""
    status = {}
    with Session(db.engine) as session:
        machines = session.scalars(select(Machine).limit(db.plan.machines_shown)).all()
        for machine in machines:
            reading = latest_reading(session, machine)
            status[machine.name] = reading.courses if reading else None
    return status


# True ones, Core.


def yarn_sheet(db: Database) -> object:
    """Yarns with the town they come from, by a `select` per yarn."""
    towns = select(SUPPLIERS.c.city)
    sheet = []
    with db.engine.connect() as connection:
        for yarn in connection.execute(select(YARNS).limit(db.plan.yarns_shown)).all():
            town = connection.scalar(towns.where(SUPPLIERS.c.id == yarn.supplier_id))  # hot: town
            sheet.append((yarn.code, town))
    return sheet


def in_euro(connection: Connection, amount: int, currency: str) -> int:
    """An amount at the day's rate."""
    query = text("SELECT rate FROM rates WHERE currency = :currency")
    rate = connection.execute(query, {"currency": currency}).scalar_one()  # hot: rate-per-line
    return amount * int(rate) // 100


def turnover(db: Database) -> object:
    """The worth of order lines in euro; few currencies, so the same rates are asked for again."""
    query = text(
        "SELECT order_lines.quantity * styles.price AS amount, customers.currency AS currency"
        " FROM order_lines JOIN styles ON styles.id = order_lines.style_id"
        " JOIN orders ON orders.id = order_lines.order_id"
        " JOIN customers ON customers.id = orders.customer_id"
        " ORDER BY order_lines.id LIMIT :shown"
    )
    with db.engine.connect() as connection:
        lines = connection.execute(query, {"shown": db.plan.lines_shown}).all()
        return sum(in_euro(connection, line.amount, line.currency) for line in lines)


def sold(connection: Connection, style_id: int) -> int:
    """Pieces sold of a style, by a statement with the number written into its text."""
    query = text(f"SELECT coalesce(sum(quantity), 0) FROM order_lines WHERE style_id = {style_id}")
    return int(connection.execute(query).scalar_one())  # hot: literal-style


def best_sellers(db: Database) -> object:
    """Styles by the pieces sold."""
    with db.engine.connect() as connection:
        styles = connection.execute(select(STYLES).limit(db.plan.styles_shown)).all()
        return sorted(((sold(connection, style.id), style.name) for style in styles), reverse=True)


def stock_of(connection: Connection, yarn_id: int) -> int:
    """Kilograms of a yarn on the shelf."""
    query = select(YARNS.c.stock_kg).where(YARNS.c.id == yarn_id)
    return int(connection.execute(query).scalar_one())  # hot: stock-helper


def purchase_plan(db: Database) -> object:
    """What to buy: a loop over styles and a loop over order lines, both with the same helper."""
    short = []
    with db.engine.connect() as connection:
        styles = connection.execute(select(STYLES).limit(db.plan.styles_shown)).all()
        for style in styles:
            short.append((style.name, stock_of(connection, style.yarn_id)))
        wanted = select(STYLES.c.yarn_id, LINES.c.quantity).join_from(LINES, STYLES)
        for yarn_id, quantity in connection.execute(wanted.limit(db.plan.lines_shown)).all():
            short.append((str(quantity), stock_of(connection, yarn_id)))
    return short


def before_and_after(db: Database) -> object:
    """Stock before and after the day's knitting: two loops, the same statement on two lines."""
    query = text("SELECT stock_kg FROM yarns WHERE id = :yarn")
    ids = range(1, db.plan.yarns_shown + 1)
    with db.engine.connect() as connection:
        before = {}
        for yarn in ids:
            before[yarn] = connection.execute(query, {"yarn": yarn}).scalar_one()  # hot: before
        connection.execute(insert(SCANS).values(code="end of shift"))
        connection.commit()
        after = {}
        for yarn in ids:
            after[yarn] = connection.execute(query, {"yarn": yarn}).scalar_one()  # hot: after
    return [before[yarn] - after[yarn] for yarn in ids], sorted(before.values())


def styles_by_demand(db: Database) -> object:
    """Styles sorted by a key function that asks the database for each of them."""
    with db.engine.connect() as connection:

        def demand(style: Any) -> int:
            """The largest quantity on any line of the style."""
            query = select(func.max(LINES.c.quantity)).where(LINES.c.style_id == style.id)
            return int(connection.scalar(query) or 0)  # hot: sort-key

        styles = connection.execute(select(STYLES.c.id, STYLES.c.name).limit(db.plan.styles_shown))
        return [style.name for style in sorted(styles.all(), key=demand)]


def import_scans(db: Database) -> object:
    """Barcodes from the gate: each is looked up alone, then all are written at once."""
    codes = [f"YRN-{n:04}" for n in range(db.plan.yarns, db.plan.yarns - db.plan.yarns_shown, -1)]
    known = []
    with db.engine.begin() as connection:
        for code in codes:
            query = select(YARNS.c.id).where(YARNS.c.code == code)
            yarn_id = connection.execute(query).scalar_one_or_none()  # hot: known-code
            known.append({"code": code, "yarn_id": yarn_id})
        connection.execute(insert(SCANS), known)
    return known


# True ones, plain DB-API.


def delivery_slips(db: Database) -> object:
    """Orders with their carriers, by a cursor and a query for each order."""
    slips = []
    with closing(db.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id, number FROM orders ORDER BY id LIMIT ?", (db.plan.orders_shown,))
        for order_id, number in cursor.fetchall():
            one = connection.cursor()
            one.execute("SELECT carrier FROM deliveries WHERE order_id = ?", (order_id,))  # hot: slip
            slips.append((number, one.fetchone()[0]))
            one.close()
    return slips


def shelf_labels(db: Database) -> object:
    """Stock of each yarn, by statements with the code written into the text."""
    labels = []
    with closing(db.connect()) as connection:
        codes = connection.execute("SELECT code FROM yarns LIMIT ?", (db.plan.yarns_shown,)).fetchall()
        for (code,) in codes:
            query = f"SELECT stock_kg FROM yarns WHERE code = '{code}'"
            kilograms = connection.execute(query).fetchone()[0]  # hot: literal-code
            labels.append(f"{code}: {kilograms} kg")
    return labels


def parts_needed(db: Database) -> object:
    """The names of all parts of a garment, by a walk with a query for every node."""
    names = []
    with closing(db.connect()) as connection:
        pending = connection.execute("SELECT id, name FROM parts WHERE parent_id IS NULL").fetchall()
        while pending:
            part, name = pending.pop()
            names.append(name)
            children = "SELECT id, name FROM parts WHERE parent_id = ?"
            pending += connection.execute(children, (part,)).fetchall()  # hot: walk
    return names


def courses_of(connection: sqlite3.Connection, hall: str, shift: str) -> int:
    """Courses that a hall has knitted in a shift."""
    query = (
        "SELECT sum(readings.courses) FROM readings"
        " JOIN machines ON machines.id = readings.machine_id"
        " WHERE machines.hall = ? AND readings.shift = ?"
    )
    return int(connection.execute(query, (hall, shift)).fetchone()[0])  # hot: hall-and-shift


def shift_table(db: Database) -> object:
    """Courses by hall and shift: a query in a loop within a loop."""
    table = {}
    with closing(db.connect()) as connection:
        halls = connection.execute("SELECT DISTINCT hall FROM machines ORDER BY hall").fetchall()
        for (hall,) in halls:
            for shift in SHIFTS:
                table[f"{hall}, {shift}"] = courses_of(connection, hall, shift)
    return table


def loading_list(db: Database) -> object:
    """Parcels for the van: two different queries in turn for every order."""
    loads = []
    carriers = "SELECT carrier FROM deliveries WHERE order_id = ?"
    pieces = "SELECT sum(quantity) FROM order_lines WHERE order_id = ?"
    with closing(db.connect()) as connection:
        orders = connection.execute("SELECT id FROM orders LIMIT ?", (db.plan.orders_shown,)).fetchall()
        for order in orders:
            (carrier,) = connection.execute(carriers, order).fetchone()  # hot: carrier
            (load,) = connection.execute(pieces, order).fetchone()  # hot: load
            loads.append((carrier, load))
    return loads


class Shelf:
    """Where the yarns are looked up."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Look up in this connection."""
        self.connection = connection

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        """The only row of a query."""
        found = self.connection.execute(query, values).fetchone()  # hot: repository
        return tuple(found)

    def find(self, number: int) -> str:
        """A yarn's name and stock."""
        name, stock = self._one("SELECT name, stock_kg FROM yarns WHERE id = ?", number)
        return f"{name}: {stock}"


def stocktaking(db: Database) -> object:
    """The stock of a list of yarns, by `map` over a method of a repository."""
    wanted = range(db.plan.yarns_shown, 0, -1)
    with closing(db.connect()) as connection:
        return list(map(Shelf(connection).find, wanted))


# Look-alikes, ORM.


def eager_suppliers(db: Database) -> object:
    """Suppliers with their yarns, loaded ahead by `selectinload`."""
    listed = []
    with Session(db.engine) as session:
        query = select(Supplier).options(selectinload(Supplier.yarns))
        for supplier in session.scalars(query.limit(db.plan.suppliers_shown)).all():
            listed.append((supplier.name, [yarn.name for yarn in supplier.yarns]))
    return listed


def eager_orders(db: Database) -> object:
    """Orders with shop and lines, loaded ahead by `joinedload` and `subqueryload`."""
    listed = []
    with Session(db.engine) as session:
        query = select(Order).options(joinedload(Order.customer), subqueryload(Order.lines))
        for order in session.scalars(query.order_by(Order.id).limit(db.plan.orders_shown)).all():
            listed.append((order.customer.name, sum(line.quantity for line in order.lines)))
    return listed


def lines_in_memory(db: Database) -> object:
    """Order lines whose styles the session holds already; the loop sends nothing."""
    named = []
    with Session(db.engine) as session:
        styles = session.scalars(select(Style)).all()
        for line in session.scalars(select(OrderLine)).all():
            style = session.get(Style, line.style_id)
            named.append((line.style.name, style is line.style))
    return len(styles), named


def reading_stream(db: Database) -> object:
    """All readings, fetched in parts from one statement with `yield_per`."""
    courses = 0
    with Session(db.engine) as session:
        query = select(Reading).execution_options(yield_per=db.plan.stream)
        for part in session.scalars(query).partitions():
            courses += sum(reading.courses for reading in part)
    return courses


def gate_flush(db: Database) -> object:
    """New scans with the database's own clock, which the flush has to insert one by one."""
    with Session(db.engine) as session:
        scans = [
            Scan(code=f"cone {n}", yarn_id=n, at=func.current_timestamp())
            for n in range(1, db.plan.yarns_shown + 1)
        ]
        session.add_all(scans)
        session.flush()
        total = len([scan.id for scan in scans])
        session.commit()
    return total


def side(session: Session, style_id: int) -> dict[str, object]:
    """What is shown of one style when two are compared."""
    style = session.scalars(select(Style).where(Style.id == style_id)).one()
    ordered = session.scalar(select(func.count(OrderLine.id)).where(OrderLine.style_id == style_id))
    stock = session.scalar(select(Yarn.stock_kg).where(Yarn.id == style.yarn_id))
    return {"name": style.name, "ordered": ordered, "stock": stock}


def compare_styles(db: Database) -> object:
    """Two styles side by side: three different statements, each run twice."""
    with Session(db.engine) as session:
        return side(session, 1), side(session, db.plan.styles)


def style_page(db: Database) -> object:
    """The page of one style, another at every request: one query each."""
    db.requests["style_page"] += 1
    with Session(db.engine) as session:
        style = session.get(Style, db.requests["style_page"] % db.plan.styles + 1)
        return style.name if style else None


# Look-alikes, Core.


def reading_pages(db: Database) -> object:
    """All readings for a download, page by page with `LIMIT` and `OFFSET`."""
    total, offset = 0, 0
    query = select(READINGS.c.courses).order_by(READINGS.c.id).limit(db.plan.page)
    with db.engine.connect() as connection:
        while True:
            page = connection.execute(query.offset(offset)).all()
            total += sum(row.courses for row in page)
            if len(page) < db.plan.page:
                return total
            offset += len(page)


def readings_in(connection: Connection, numbers: Sequence[int], size: int) -> Iterator[Row[Any]]:
    """Readings by number, no more of them in one statement than a database will take."""
    for start in range(0, len(numbers), size):
        some = numbers[start : start + size]
        yield from connection.execute(select(READINGS).where(READINGS.c.id.in_(some))).all()


def audited_readings(db: Database) -> object:
    """Thousands of readings by their numbers, with an `IN` for every few hundred."""
    with db.engine.connect() as connection:
        readings = readings_in(connection, range(1, db.plan.readings + 1), db.plan.chunk)
        return sum(reading.courses for reading in readings)


def take_from_stock(connection: Connection, yarn: Row[Any], kilograms: int) -> bool:
    """Change a yarn's stock, unless somebody else has changed it since we read it."""
    change = (
        update(YARNS)
        .where(YARNS.c.id == yarn.id, YARNS.c.version == yarn.version)
        .values(stock_kg=yarn.stock_kg + kilograms, version=yarn.version + 1)
    )
    return connection.execute(change).rowcount == 1


def correct_stock(db: Database) -> object:
    """Corrections after stocktaking, each row's own `UPDATE` with its own values and its own check."""
    with db.engine.begin() as connection:
        yarns = connection.execute(select(YARNS).limit(db.plan.yarns_shown)).all()
        return [yarn.code for yarn in yarns if take_from_stock(connection, yarn, yarn.id % 5)]


def wait_for_job(db: Database) -> object:
    """Long poll: look at a job until it is done, or answer that it is still being knitted."""
    query = select(JOBS.c.state).where(JOBS.c.id == 1)
    for _ in range(db.plan.polls):
        with db.engine.connect() as connection:
            state = connection.execute(query).scalar_one()
        if state == "done":
            break
        time.sleep(0.004)
    return state


def all_mills(db: Database) -> object:
    """Open jobs at every sister mill; each mill has a database of its own."""
    jobs = []
    query = select(func.count()).select_from(JOBS).where(JOBS.c.state == "knitting")
    for mill in db.mills:
        with mill.connect() as connection:
            jobs.append(connection.execute(query).scalar_one())
    return jobs


def receive_pallets(db: Database) -> object:
    """Pallets from a list with doubles in it; a savepoint for each lets the others stand."""
    db.requests["receive_pallets"] += 1
    day = db.requests["receive_pallets"]
    doubles = 0
    with db.engine.begin() as connection:
        for number in (*range(db.plan.suppliers_shown), 0, 1):
            try:
                with connection.begin_nested():
                    connection.execute(insert(PALLETS).values(number=f"{day}-{number}", cones=number))
            except IntegrityError:
                doubles += 1
    return doubles


def cached_city(db: Database, supplier_id: int) -> str:
    """A supplier's town, asked for once and then remembered."""
    if supplier_id not in db.cache:
        with db.engine.connect() as connection:
            query = select(SUPPLIERS.c.city).where(SUPPLIERS.c.id == supplier_id)
            db.cache[supplier_id] = str(connection.execute(query).scalar_one())
    return db.cache[supplier_id]


def supplier_page(db: Database) -> object:
    """The page of one supplier, another at every request, from a cache that fills by and by."""
    db.requests["supplier_page"] += 1
    supplier_id = db.requests["supplier_page"] % db.plan.suppliers + 1
    return [cached_city(db, supplier_id) for _ in range(db.plan.suppliers_shown)]


FIGURES: dict[str, Select[Any]] = {
    "suppliers": select(func.count()).select_from(Supplier),
    "yarns": select(func.count()).select_from(Yarn),
    "kilograms": select(func.sum(Yarn.stock_kg)),
    "labels": select(func.count()).select_from(Label),
    "styles": select(func.count()).select_from(Style),
    "dearest": select(func.max(Style.price)),
    "customers": select(func.count()).select_from(Customer),
    "orders": select(func.count()).select_from(Order),
    "pieces": select(func.sum(OrderLine.quantity)),
    "parcels": select(func.count()).select_from(Delivery),
    "faults": select(func.sum(Inspection.faults)),
    "machines": select(func.count(func.distinct(TABLES["machines"].c.hall))),
    "needles": select(func.sum(TABLES["flat_beds"].c.needles)),
    "parts": select(func.avg(Part.cost)),
}


def key_figures(db: Database) -> object:
    """The board of key figures: different statements on different tables, all sent by one line."""
    with db.engine.connect() as connection:
        return {name: connection.execute(query).scalar_one() for name, query in FIGURES.items()}


# Look-alikes, plain DB-API.


def reading_batches(db: Database) -> object:
    """All readings in batches, each beginning after the last key of the one before."""
    total, last = 0, 0
    query = "SELECT id, courses FROM readings WHERE id > ? ORDER BY id LIMIT ?"
    with closing(db.connect()) as connection:
        while batch := connection.execute(query, (last, db.plan.batch)).fetchall():
            total += sum(courses for _, courses in batch)
            last = batch[-1][0]
    return total


def bulk_scans(db: Database) -> object:
    """Scans of a whole day, written with one `executemany`."""
    scans = [(f"cone {n}", n) for n in range(db.plan.yarns_shown)]
    with closing(db.connect()) as connection, connection:
        cursor = connection.executemany("INSERT INTO scans (code, yarn_id) VALUES (?, ?)", scans)
        return cursor.rowcount


def count_when_free(connection: sqlite3.Connection, colleague: sqlite3.Connection, busy: int) -> int:
    """Count the open jobs, trying again while a colleague's work keeps the file locked."""
    for attempt in range(1, busy + 2):
        try:
            [(count,)] = connection.execute("SELECT count(*) FROM jobs").fetchall()
        except sqlite3.OperationalError:
            time.sleep(0.001 * attempt)
            if attempt == busy:
                colleague.rollback()  # here the colleague's work is over
        else:
            return int(count)
    raise TimeoutError("the mill's database stays locked")


def jobs_after_lock(db: Database) -> object:
    """A read that fails a few times before it passes."""
    with closing(db.connect()) as colleague, closing(db.connect()) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        [(machines,)] = connection.execute("SELECT count(*) FROM machines").fetchall()
        colleague.execute("BEGIN EXCLUSIVE")
        return machines, count_when_free(connection, colleague, db.plan.failures)


SETTING = "SELECT value FROM settings WHERE key = ?"


def with_freight(connection: sqlite3.Connection, amount: int) -> int:
    """An amount with the freight."""
    return amount + int(connection.execute(SETTING, ("freight",)).fetchone()[0])


def with_waste(connection: sqlite3.Connection, amount: int) -> int:
    """An amount with what is lost in cutting."""
    return amount + amount * int(connection.execute(SETTING, ("waste",)).fetchone()[0]) // 100


def with_tax(connection: sqlite3.Connection, amount: int) -> int:
    """An amount with the tax."""
    return amount + amount * int(connection.execute(SETTING, ("vat",)).fetchone()[0]) // 100


def footer(connection: sqlite3.Connection) -> str:
    """The last line of a letter."""
    return f"form {connection.execute(SETTING, ('footer',)).fetchone()[0]}"


def quotation(db: Database) -> object:
    """A quotation; four unrelated functions each look up a setting of their own."""
    with closing(db.connect()) as connection:
        (price,) = connection.execute("SELECT price FROM styles WHERE id = 1").fetchone()
        amount = with_tax(connection, with_freight(connection, with_waste(connection, price)))
        return amount, footer(connection)


# The list.


def cases(seed: int) -> list[Case]:
    """All cases with the numbers of this seed: true ones, then look-alikes."""
    plan = plan_of(seed)
    styles_seen = {row["style_id"] for row in rows_of(seed)["order_lines"][: plan.lines_shown]}
    orders, styles, yarns = plan.orders_shown, plan.styles_shown, plan.yarns_shown
    true = [
        Case(
            "lazy_collection_in_loop",
            "orm",
            supplier_list,
            ("supplier-yarns",),
            plan.suppliers_shown,
            "Each supplier's yarns are lazy loaded in the loop, where one IN would bring them all.",
        ),
        Case(
            "lazy_parent_in_list_comprehension",
            "orm",
            picking_list,
            ("style-of-line",),
            len(styles_seen),
            "Every style not yet in the session is loaded alone; a join would bring them.",
        ),
        Case(
            "lazy_parent_in_template",
            "orm",
            swing_tickets,
            ("ticket-template",),
            styles,
            "The template reaches through each style to a yarn that is loaded alone.",
        ),
        Case(
            "lazy_parent_in_deep_serializer",
            "orm",
            orders_as_json,
            ("customer-field",),
            orders,
            "The serializer loads the shop of each order alone, several calls below the list.",
        ),
        Case(
            "lazy_collection_in_property",
            "orm",
            biggest_orders,
            ("pieces-property",),
            orders,
            "A property of the model hides one load of lines for each order.",
        ),
        Case(
            "lazy_parent_in_streaming_generator",
            "orm",
            style_export,
            ("streamed-yarn",),
            styles,
            "Each streamed line loads its own yarn, though all styles are known before the first.",
        ),
        Case(
            "lazy_many_to_many",
            "orm",
            care_labels,
            ("labels-of-style",),
            styles,
            "The labels of each style are loaded by a join over the link table of their own.",
        ),
        Case(
            "get_for_each_id_of_a_dict",
            "orm",
            shelf_contents,
            ("get-yarn",),
            yarns,
            "Ids that are all known beforehand are fetched one by one by primary key.",
        ),
        Case(
            "count_for_each_row",
            "orm",
            style_popularity,
            ("count-per-style",),
            styles,
            "One count per style, where a single GROUP BY gives all counts.",
        ),
        Case(
            "two_lazy_loads_in_one_loop",
            "orm",
            order_board,
            ("delivery-of-order", "lines-of-order"),
            orders,
            "Two relationships of each order are lazy loaded, each on a line of its own.",
        ),
        Case(
            "inner_loop_lazy_outer_eager",
            "orm",
            fault_report,
            ("inspections-of-line",),
            3 * orders,
            "The lines are loaded ahead but the inspections of every line are loaded alone.",
        ),
        Case(
            "polymorphic_columns",
            "orm",
            machine_list,
            ("flat-bed-needles", "circular-feeders"),
            plan.machines,
            "The columns of each machine's own kind are fetched alone, for want of with_polymorphic.",
        ),
        Case(
            "recursion_over_tree",
            "orm",
            garment_cost,
            ("children-of-part",),
            plan.parts,
            "The recursion asks for the children of every node, leaves too; one query has the tree.",
        ),
        Case(
            "deferred_column_in_loop",
            "orm",
            data_sheets,
            ("deferred-sheet",),
            yarns,
            "The deferred column of each row costs a query, where undefer would cost none.",
        ),
        Case(
            "expired_rows_read_after_commit",
            "orm",
            print_orders,
            ("expired-order",),
            orders,
            "The commit expires all rows, and each is then selected again alone by its key.",
        ),
        Case(
            "latest_with_limit_one",
            "orm",
            machine_status,
            ("latest-reading",),
            plan.machines_shown,
            "One LIMIT 1 query per machine is a lookup per row and not a pager.",
        ),
        Case(
            "select_for_each_row",
            "core",
            yarn_sheet,
            ("town",),
            yarns,
            "A select by foreign key for each row, which a join would save.",
        ),
        Case(
            "lookup_whose_values_repeat",
            "core",
            turnover,
            ("rate-per-line",),
            plan.lines_shown,
            "A rate is looked up for each line, even though there are only four currencies.",
        ),
        Case(
            "number_written_into_text",
            "core",
            best_sellers,
            ("literal-style",),
            styles,
            "The statements differ only in the number in their text and are one query per style.",
        ),
        Case(
            "helper_called_from_two_loops",
            "core",
            purchase_plan,
            ("stock-helper",),
            styles + plan.lines_shown,
            "Both loops send one query per row through the same line of the helper.",
        ),
        Case(
            "same_query_in_two_loops",
            "core",
            before_and_after,
            ("before", "after"),
            yarns,
            "Each of the two loops does a lookup per row, on a line of its own.",
        ),
        Case(
            "query_in_sort_key",
            "core",
            styles_by_demand,
            ("sort-key",),
            styles,
            "The sort calls the key function once per row and each call is a query.",
        ),
        Case(
            "lookup_before_bulk_insert",
            "core",
            import_scans,
            ("known-code",),
            yarns,
            "Known codes are looked up one at a time, where an IN over all of them would do.",
        ),
        Case(
            "cursor_for_each_row",
            "dbapi",
            delivery_slips,
            ("slip",),
            orders,
            "A fresh cursor and a query by key for each order of the first query.",
        ),
        Case(
            "string_written_into_text",
            "dbapi",
            shelf_labels,
            ("literal-code",),
            yarns,
            "The statements differ only in the quoted code and are one query per yarn.",
        ),
        Case(
            "walk_over_tree",
            "dbapi",
            parts_needed,
            ("walk",),
            plan.parts,
            "The walk sends a query for the children of every node; one query has the tree.",
        ),
        Case(
            "loop_within_loop",
            "dbapi",
            shift_table,
            ("hall-and-shift",),
            plan.halls * len(SHIFTS),
            "A sum for every pair of hall and shift, where one GROUP BY gives the table.",
        ),
        Case(
            "two_queries_in_turn",
            "dbapi",
            loading_list,
            ("carrier", "load"),
            orders,
            "Two statements take turns for every order, and both are lookups by the order's key.",
        ),
        Case(
            "repository_method_in_map",
            "dbapi",
            stocktaking,
            ("repository",),
            yarns,
            "The map calls a method that fetches one row by key, two calls below the view.",
        ),
    ]
    seeming = [
        ("selectinload", "orm", eager_suppliers, "One query for the suppliers, one IN for all yarns."),
        (
            "joinedload_and_subqueryload",
            "orm",
            eager_orders,
            "One joined query and one subquery bring all that the loop reads.",
        ),
        (
            "identity_map_hits",
            "orm",
            lines_in_memory,
            "The session already holds every style, so that neither get nor the attribute asks.",
        ),
        ("yield_per", "orm", reading_stream, "One statement, whose rows are only fetched in parts."),
        (
            "flush_inserts_each_row",
            "orm",
            gate_flush,
            "A flush of new objects has to insert every one of them; nothing is read per row.",
        ),
        (
            "three_statements_twice",
            "orm",
            compare_styles,
            "A comparison of exactly two styles; the number of queries does not grow with data.",
        ),
        (
            "one_query_in_each_request",
            "orm",
            style_page,
            "Every request does one query; that there are many requests is no loop.",
        ),
        (
            "pages_by_offset",
            "core",
            reading_pages,
            "Each query brings hundreds of rows, on purpose, to keep memory small.",
        ),
        (
            "in_by_chunks",
            "core",
            audited_readings,
            "IN lists of hundreds are the repair of an N+1 under a limit on parameters.",
        ),
        (
            "update_with_own_values",
            "core",
            correct_stock,
            "Every row has its own new value and its own check of the version, and nothing is read.",
        ),
        (
            "polling_for_a_job",
            "core",
            wait_for_job,
            "The same row is read again because time has passed; there are no rows to loop over.",
        ),
        (
            "database_for_each_tenant",
            "core",
            all_mills,
            "Each database is asked once, and no query can reach across them.",
        ),
        (
            "savepoint_for_each_row",
            "core",
            receive_pallets,
            "The savepoint lets one bad row fail alone, so that every row needs its own insert.",
        ),
        (
            "cache_filled_over_requests",
            "core",
            supplier_page,
            "At most one query in a request; the loop is served from the cache.",
        ),
        (
            "different_statements_on_one_line",
            "core",
            key_figures,
            "Every statement runs once and asks another thing; their number is fixed.",
        ),
        (
            "batches_by_key",
            "dbapi",
            reading_batches,
            "Each query brings hundreds of rows and begins where the last one ended.",
        ),
        ("bulk_executemany", "dbapi", bulk_scans, "All rows are written by one call, as is right."),
        (
            "retries_after_an_error",
            "dbapi",
            jobs_after_lock,
            "The repeated statement is the same one, tried again since it had failed.",
        ),
        (
            "settings_in_unrelated_functions",
            "dbapi",
            quotation,
            "Four lookups in four functions, a number that no data can raise.",
        ),
    ]
    return true + [Case(name, kind, view, (), 0, why) for name, kind, view, why in seeming]


@lru_cache(maxsize=1)
def _marked() -> dict[str, int]:
    """Line numbers of this file by marker."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    found = [(re.search(r"# hot: ([a-z-]+)$", line), number) for number, line in enumerate(lines, 1)]
    marked = [(match.group(1), number) for match, number in found if match]
    if len(dict(marked)) != len(marked):
        raise ValueError("a marker stands on two lines")
    return dict(marked)


def line_of(marker: str) -> int:
    """The number of the line of this file that carries the marker."""
    return _marked()[marker]


# The check that the labels are true.


def loudest(seed: int) -> dict[str, int]:
    """How often the busiest statement of each look-alike's lines runs in one request."""
    plan = plan_of(seed)
    return {
        "selectinload": 1,
        "joinedload_and_subqueryload": 1,
        "identity_map_hits": 1,
        "yield_per": 1,
        "flush_inserts_each_row": plan.yarns_shown,
        "three_statements_twice": 2,
        "one_query_in_each_request": 1,
        "pages_by_offset": plan.readings // plan.page + 1,
        "in_by_chunks": -(-plan.readings // plan.chunk),
        "update_with_own_values": plan.yarns_shown,
        "polling_for_a_job": plan.polls,
        "database_for_each_tenant": plan.mills,
        "savepoint_for_each_row": plan.suppliers_shown + 2,
        "cache_filled_over_requests": 1,
        "different_statements_on_one_line": 1,
        "batches_by_key": -(-plan.readings // plan.batch) + 1,
        "bulk_executemany": plan.yarns_shown,  # as the trace sees it: one call, many steps
        "retries_after_an_error": plan.failures + 1,
        "settings_in_unrelated_functions": 1,
    }


def _line(frame: FrameType | None) -> int:
    """The innermost line of this file, from a frame outwards."""
    while frame is not None and frame.f_code.co_filename != __file__:
        frame = frame.f_back
    return frame.f_lineno if frame else 0


def _shape(statement: str) -> str:
    """A statement without what varies in it."""
    shape = re.sub(r"'[^']*'|\b\d+\b", "?", " ".join(statement.split()))
    return re.sub(r"\(\?(, \?)+\)", "(?, ...)", shape)


def check(seed: int) -> int:
    """Run every case of a seed for three requests; give the number of statements seen."""
    seen: Counter[tuple[int, str]] = Counter()
    total = 0

    def watched(
        _conn: object, _cursor: object, statement: str, _values: object, _ctx: object, _many: bool
    ) -> None:
        """Note a statement of an engine."""
        seen[_line(sys._getframe(1)), _shape(statement)] += 1

    def traced(statement: str) -> None:
        """Note a statement of a plain connection."""
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            seen[_line(sys._getframe(1)), _shape(statement)] += 1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mill.db"

        def connect() -> sqlite3.Connection:
            """A plain connection that is traced."""
            connection = sqlite3.connect(path)
            connection.set_trace_callback(traced)
            return connection

        engine = create_engine(f"sqlite:///{path}")
        fill(engine, seed)
        db = Database(engine, connect, seed)
        for one in (engine, *db.mills):
            event.listen(one, "before_cursor_execute", watched)
        expected = loudest(seed)
        listed = cases(seed)
        if [case.name for case in listed if not case.hot] != list(expected):
            raise AssertionError("the look-alikes are not those whose counts are expected")
        if sorted(marker for case in listed for marker in case.hot) != sorted(_marked()):
            raise AssertionError("a marker belongs to no case or to two")
        for case in (*listed, *listed, *reversed(listed)):
            seen.clear()
            answer = case.view(db)
            total += seen.total()
            where = f"seed {seed}, {case.name}"
            if not answer:
                raise AssertionError(f"{where}: the view has read nothing")
            if not case.hot:
                loud = max(seen.values(), default=0)
                first = case.name == "cache_filled_over_requests" and loud == 0
                if loud != expected[case.name] and not first:
                    raise AssertionError(f"{where}: {loud} instead of {expected[case.name]}: {seen}")
                continue
            lines = {line_of(marker) for marker in case.hot}
            for line in lines:
                counts = [count for (at, _), count in seen.items() if at == line]
                if counts != [case.repeats] or case.repeats < FEWEST:
                    raise AssertionError(f"{where}, line {line}: {counts}, not {case.repeats}: {seen}")
            others = [count for (at, _), count in seen.items() if at not in lines]
            if max(others, default=0) > 1:
                raise AssertionError(f"{where}: another line repeats itself: {seen}")
        db.close()
        engine.dispose()
    return total


def main() -> None:
    """Check the seeds 0 to 9."""
    for seed in range(10):
        listed = cases(seed)
        true = sum(1 for case in listed if case.hot)
        print(f"seed {seed}: {true} true, {len(listed) - true} look-alikes, {check(seed)} statements")


if __name__ == "__main__":
    main()
