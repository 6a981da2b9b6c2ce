"""Endpoints of a knitting mill's ERP with one known cause each, written without a look at the detector.

A line that ends with ``# cause:`` and the name of its case takes nearly all of the time of a request:
it is the innermost line of this file that a person would change. Lines that end with ``# also:`` and
the name are as right. Requests take about :data:`SECONDS`: sizes are fitted once per process, and
partners answer after a fixed time.

Call :func:`cases` before a detector is installed: it fits the sizes, and starts the threads, servers and
databases. Then call :func:`register` with the application, which adds the hook and the user loader that
two cases need; the caller adds ``/<name>`` for each case. All are GET requests without arguments.

Real DNS cannot be slow by a fixed time. So :func:`_install_resolver` replaces ``_socket.getaddrinfo``,
the function in C below ``socket.getaddrinfo``, for names that end with ``.example``: it waits in
``poll`` as the C library does, raises the same audit event, and passes for a function of the standard
library in stack traces. ``socket.getaddrinfo`` stays as it is.

Run as a module (``python -m benchmarks.corpus.known_causes_unseen``), it serves every case by plain
Flask and prints how long requests take; those that compute are judged by CPU time, so that a busy
machine does not matter.
"""

from __future__ import annotations

import _socket
import csv
import ctypes
import hashlib
import hmac
import http.client
import io
import itertools
import json
import logging
import logging.handlers
import os
import queue
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask_login import (  # type: ignore[import-untyped]
    LoginManager,
    UserMixin,
    current_user,
)
from sqlalchemy import Engine, ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import QueuePool, StaticPool

from .known_causes import Case

SECONDS = 0.12
"""About what a request takes."""
MIN_SECONDS, MAX_SECONDS = 0.08, 0.3  # of a request on a calm machine
_MIN_FIT_S = 0.03  # shortest call that sizes are extrapolated from


@dataclass(frozen=True)
class UnseenCase(Case):
    """An endpoint, its cause, and words by which advice is judged.

    ``callees`` are dotted names of the calls at the line, not names of the detector's table.

    Attributes:
        waits_for: host, program or kind of the thing that a request waits for; empty for others.
        right: lower-case words; right advice contains at least one of them. Empty where none is right.
        wrong: lower-case words that no right advice contains.
        also: further lines that are as right as ``where``.
    """

    waits_for: str = ""
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


_SIZE: dict[str, int] = {}  # by case, fitted by cases()
_RANDOM = random.Random(1808)
_ARTICLES = [
    f"{kind}-{number}" for kind in ("PULL", "CARD", "SOCK", "BEAN") for number in range(12)
]


# The outside world: partners that answer over HTTP, and a resolver for their names

_ANSWER_AFTER_S = {
    "rates.example": 0.115,
    "carriers.example": 0.038,
    "parcels.example": 0.057,
    "logs.example": 0.115,
}
_RESOLVE_AFTER_MS = {"weber-strick.example": 118}


class _Partner(BaseHTTPRequestHandler):
    """Answers for every partner, each after its time; the parcel service fails every other call."""

    _attempts = itertools.count()

    def _answer(self) -> None:
        host = self.headers["Host"].partition(":")[0]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(_ANSWER_AFTER_S[host])
        failed = host == "parcels.example" and next(self._attempts) % 2 == 0
        body = json.dumps({"rates": {"USD": 1.09}, "price": 7.9, "status": "in transit"}).encode()
        self.send_response(503 if failed else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host name."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]


@cache
def _partner_port() -> int:
    server = _Server(("127.0.0.1", 0), _Partner)
    threading.Thread(target=server.serve_forever, name="partners", daemon=True).start()
    return server.server_port


def _install_resolver() -> None:
    """Resolve ``*.example`` to this machine, some of them slowly."""
    resolve = _socket.getaddrinfo
    # not time.sleep, which a detector of waits may replace
    poll: Callable[[None, int, int], int] = ctypes.CDLL(None).poll

    def getaddrinfo(
        host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0  # noqa: A002
    ) -> Any:  # fmt: skip
        if not (isinstance(host, str) and host.endswith(".example")):
            return resolve(host, port, family, type, proto, flags)
        sys.audit("socket.getaddrinfo", host, port, family, type, proto)
        if host in _RESOLVE_AFTER_MS:
            poll(None, 0, _RESOLVE_AFTER_MS[host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    getaddrinfo.__code__ = getaddrinfo.__code__.replace(co_filename=socket.__file__)
    _socket.getaddrinfo = getaddrinfo
    bypass = os.environ.get("no_proxy", "")
    os.environ["no_proxy"] = f"{bypass},.example" if bypass else ".example"


# Waiting for others


def _current_rate(currency: str) -> float:
    url = f"http://rates.example:{_partner_port()}/latest?base=EUR"
    with urllib.request.urlopen(url, timeout=5) as response:  # cause: price_list
        return float(json.load(response)["rates"][currency])


def price_list() -> str:
    """Sales prices for the customers overseas."""
    rate = _current_rate("USD")
    prices = {article: round((19 + len(article)) * rate, 2) for article in _ARTICLES}
    return json.dumps(prices)


def _quote(carrier: str, kilos: float, postcode: str) -> float:
    connection = http.client.HTTPConnection("carriers.example", _partner_port(), timeout=5)
    body = json.dumps({"kilos": kilos, "to": postcode})
    try:
        connection.request("POST", f"/{carrier}/quotes", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()  # cause: carrier_quotes
        return float(json.loads(answer.read())["price"])
    finally:
        connection.close()


def carrier_quotes() -> str:
    """The cheapest carrier for a consignment."""
    best = None
    for carrier in ("dpd", "gls", "kraus"):
        price = _quote(carrier, kilos=12.4, postcode="72461")  # also: carrier_quotes
        if best is None or price < best[1]:
            best = (carrier, price)
    return json.dumps(best)


class ParcelClient:
    """The parcel service's API, which often answers 503 at first."""

    def __init__(self, retries: int = 3, backoff_s: float = 0.002) -> None:
        self.retries = retries
        self.backoff_s = backoff_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def status(self, number: str) -> str:
        """Return the status of a parcel."""
        return str(self._get(f"/v2/parcels/{number}")["status"])

    def _get(self, path: str) -> dict[str, Any]:
        for attempt in range(self.retries):
            try:
                return self._send(path)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 or attempt + 1 == self.retries:
                    raise
                time.sleep(self.backoff_s * 2**attempt)
        raise AssertionError

    def _send(self, path: str) -> dict[str, Any]:
        url = f"http://parcels.example:{_partner_port()}{path}"
        call = urllib.request.Request(url, headers={"Accept": "application/json"})
        with self._opener.open(call, timeout=5) as response:  # cause: parcel_status
            payload: dict[str, Any] = json.load(response)
        return payload


_PARCELS = ParcelClient()


def parcel_status() -> str:
    """Where the parcel of an order is."""
    return _PARCELS.status("00340434161094021501")


def _accepts_mail(address: str) -> bool:
    domain = address.rpartition("@")[2]
    try:
        hosts = socket.getaddrinfo(domain, 25, type=socket.SOCK_STREAM)  # cause: customer_mail
    except socket.gaierror:
        return False
    return bool(hosts)


def customer_mail() -> str:
    """Check the address of a customer before it is saved."""
    address = "einkauf@weber-strick.example"
    valid = re.fullmatch(r"[^@\s]+@[^@\s]+", address) is not None and _accepts_mail(address)
    return json.dumps({"address": address, "valid": valid})


_LABEL_RENDERER = """
import sys, time
text = sys.stdin.read()
time.sleep(int(sys.argv[1]) / 1000)  # the print server
print("^XA^FD" + text.replace("\\n", "^FS^FD") + "^FS^XZ")
"""


def _render_label(lines: list[str]) -> str:
    command = [sys.executable, "-I", "-c", _LABEL_RENDERER, str(_SIZE["shipping_label"])]
    label = "\n".join(lines)
    return subprocess.check_output(command, input=label, text=True)  # cause: shipping_label


def shipping_label() -> str:
    """The label of a consignment, by the program that came with the printer."""
    return _render_label(["Weber Strick GmbH", "Talstrasse 4", "72461 Albstadt", "12.4 kg"])


class StockLedger:
    """Stock by article. Movements are written by one thread, which holds the lock while it writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: dict[str, int] = dict.fromkeys(_ARTICLES, 400)
        self._movements: queue.SimpleQueue[tuple[str, int, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._write, name="ledger", daemon=True).start()

    def book(self, article: str, pieces: int) -> None:
        """Queue a movement; return once it is being written."""
        started = threading.Event()
        self._movements.put((article, pieces, started))
        started.wait(1)

    def pieces(self, article: str) -> int:
        """Return the pieces in stock."""
        with self._lock:  # cause: stock_level
            return self._pieces[article]

    def _write(self) -> None:
        while True:
            article, pieces, started = self._movements.get()
            with self._lock:
                started.set()
                self._pieces[article] += pieces
                time.sleep(SECONDS)  # the journal is on a share of the office


_ledger = cache(StockLedger)


def stock_level() -> str:
    """Book a movement, and show what is in stock."""
    _ledger().book("PULL-3", -1)
    return str(_ledger().pieces("PULL-3"))


class _Export:
    """The export to the bookkeeping: one connection for as long as it runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="export", daemon=True).start()

    def start(self) -> None:
        """Start an export; return once it runs."""
        started = threading.Event()
        self._jobs.put(started)
        started.wait(1)

    def _run(self) -> None:
        while True:
            started = self._jobs.get()
            with self._engine.connect() as connection:
                started.set()
                connection.execute(text("SELECT count(*) FROM bill")).scalar_one()
                time.sleep(SECONDS)  # the upload


@cache
def _bills() -> tuple[Engine, _Export]:
    engine = create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=10,
        connect_args={"check_same_thread": False},
    )  # fmt: skip
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bill (id INTEGER PRIMARY KEY, cents INTEGER)"))
        connection.execute(text("INSERT INTO bill (cents) VALUES (1900), (4500), (1250)"))
    return engine, _Export(engine)


def _open_amount(engine: Engine) -> int:
    with engine.connect() as connection:  # cause: open_bills
        return int(connection.execute(text("SELECT sum(cents) FROM bill")).scalar_one())


def open_bills() -> str:
    """Start the export of today, and show what is open."""
    engine, export = _bills()
    export.start()
    return f"{_open_amount(engine) / 100:.2f}"


class _CounterBus:
    """The counters of the knitting machines, over RS-485: the line must be quiet before a reply."""

    TURNAROUND_S = 0.115

    def read(self, machine: int) -> int:
        """Return the courses that a machine has knitted."""
        frame = bytes((machine, 3, 0, 16, 0, 2))
        time.sleep(self.TURNAROUND_S)  # cause: machine_counters
        return sum(frame) * 117


@cache
def _bus_readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="bus")


def machine_counters() -> str:
    """Courses of all machines in the hall."""
    bus = _CounterBus()
    readings = [_bus_readers().submit(bus.read, machine) for machine in range(1, 5)]
    return json.dumps([reading.result() for reading in readings])  # also: machine_counters


def _operate_scale(folder: Path) -> None:
    """The scale's driver: a reply file for each request file."""
    while True:
        for order in folder.glob("*.req"):
            order.unlink()
            time.sleep(0.1)
            reply = order.with_suffix(".tmp")
            reply.write_text("12.4 kg")
            reply.rename(order.with_suffix(".rsp"))
        time.sleep(0.01)


@cache
def _scale_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    threading.Thread(target=_operate_scale, args=(folder,), name="scale", daemon=True).start()
    return folder


_weighing_numbers = itertools.count(1)


def _weigh(timeout_s: float = 5) -> str:
    folder = _scale_folder()
    order = folder / f"{next(_weighing_numbers)}.req"
    order.touch()
    reply = order.with_suffix(".rsp")
    deadline = time.monotonic() + timeout_s
    while not reply.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the scale does not answer")
        time.sleep(0.02)  # cause: weigh_parcel
    weight = reply.read_text()
    reply.unlink()
    return weight


def weigh_parcel() -> str:
    """The weight of what is on the scale."""
    return _weigh()


@cache
def _audit_log() -> logging.Logger:
    """The log of changes, which a log server collects."""
    logger = logging.getLogger("mill.audit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(
        logging.handlers.HTTPHandler(f"logs.example:{_partner_port()}", "/ingest", method="POST")
    )
    return logger


def _record_change(who: str, what: str) -> None:
    _audit_log().info("%s changed %s", who, what)  # cause: change_price


def change_price() -> str:
    """Change a price, and record who did it."""
    prices = dict.fromkeys(_ARTICLES, 1900)
    prices["SOCK-4"] = 2100
    _record_change("k.maier", "SOCK-4")
    return str(prices["SOCK-4"])


# Computing

_ARTICLE_REFERENCE = re.compile(r"^(?:[A-Z0-9]+-?)+;")


@cache
def _remarks() -> list[str]:
    letters = "ABCDEFGHKLMNPRST2345679"
    return ["".join(_RANDOM.choices(letters, k=12)) + " dringend" for _ in range(4000)]


def _references(remarks: list[str]) -> Iterator[str]:
    for remark in remarks:
        match = _ARTICLE_REFERENCE.match(remark)  # cause: order_remarks
        if match:
            yield match.group()


def order_remarks() -> str:
    """Articles that customers refer to in the remarks of their orders."""
    return str(len(list(_references(_remarks()[: _SIZE["order_remarks"]]))))


def _machine_program(courses: int) -> dict[str, Any]:
    return {
        "machine": "CMS 530", "gauge": 14, "yarns": ["merino 2/30", "elastane"],
        "courses": [
            {"course": n, "carriers": [1, 4, n % 7], "tension": 11.5, "needles": {"from": 0, "to": 548}}
            for n in range(courses)
        ],
    }  # fmt: skip


_machine_program_of = lru_cache(maxsize=2)(_machine_program)


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, default=str)  # cause: machine_program


def machine_program() -> str:
    """Download the program of a garment."""
    return _pretty(_machine_program_of(_SIZE["machine_program"]))


_SHADES = [tuple(_RANDOM.randrange(256) for _ in range(16)) for _ in range(40)]


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))  # cause: match_shades


def _nearest_shades(swatches: list[tuple[int, ...]]) -> list[int]:
    nearest = []
    for swatch in swatches:
        distances = [_distance(swatch, shade) for shade in _SHADES]
        nearest.append(distances.index(min(distances)))
    return nearest


@cache
def _shade_workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="shades")


@cache
def _swatches() -> list[tuple[int, ...]]:
    return [tuple(_RANDOM.randrange(256) for _ in range(16)) for _ in range(8000)]


def match_shades() -> str:
    """The dye recipes that are nearest to the measured swatches."""
    swatches = _swatches()[: _SIZE["match_shades"]]
    half = len(swatches) // 2
    results = _shade_workers().map(_nearest_shades, (swatches[:half], swatches[half:]))
    return str(sum(len(result) for result in results))


@cache
def _counter_log() -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";")
    for row in range(120_000):
        feeders = [f"{row % n},5" for n in range(3, 15)]
        writer.writerow((f"M{row % 40:02}", f"  {row * 7}", '"ok"', *feeders))
    return out.getvalue().replace("\r", "").strip()


def _fields(line: str) -> list[str]:
    return [f.strip().strip('"').replace(",", ".") for f in line.split(";")]  # cause: machine_log


def _pieces_by_machine(log: str, rows: int) -> dict[str, int]:
    pieces: dict[str, int] = {}
    for line in log.split("\n", rows)[:rows]:
        fields = _fields(line)
        pieces[fields[0]] = int(fields[1])
    return pieces


def machine_log() -> str:
    """Import the log of the machines."""
    return json.dumps(_pieces_by_machine(_counter_log(), _SIZE["machine_log"]))


def _chart(rows: int, needles: range) -> list[dict[str, Any]]:
    chart: list[dict[str, Any]] = []
    for number in range(rows):
        row: dict[str, Any] = {"number": number, "below": chart[-1] if chart else None}
        row["stitches"] = [{"row": row, "loops": [n]} for n in needles]  # cause: pattern_chart
        chart.append(row)
    return chart


def pattern_chart() -> str:
    """The stitches of a pattern, each with its neighbours."""
    return str(len(_chart(_SIZE["pattern_chart"], range(300))))


# Hooks

_TERMINAL_ENDPOINTS = {"terminal_shift", "terminal_home"}


def _key_digest(key: str) -> bytes:
    rounds = _SIZE["terminal_shift"]
    return hashlib.pbkdf2_hmac("sha256", key.encode(), b"hall 2", rounds)  # cause: terminal_shift


@cache
def _stored_digest() -> bytes:
    return _key_digest("terminal 7")


def _check_terminal() -> tuple[str, int] | None:
    if request.endpoint not in _TERMINAL_ENDPOINTS:
        return None
    key = request.headers.get("X-Terminal-Key", "terminal 7")
    if not hmac.compare_digest(_key_digest(key), _stored_digest()):
        return "unknown terminal", 403
    return None


def terminal_shift() -> str:
    """The shift at a terminal."""
    return "early"


# Databases


@cache
def _badges() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE badge (id INTEGER PRIMARY KEY, person INTEGER, station INTEGER, at TEXT)"
            )
        )
        connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800000)"
                " INSERT INTO badge SELECT i, i % 90, i % 17, datetime(1767225600 + i, 'unixepoch')"
                " FROM n"
            )
        )
    return engine


# no index serves it: a function of the column is compared and sorted by
_PERSON_AT = text(
    "SELECT person FROM badge WHERE strftime('%Y-%m', at) || '/' || station = :key"
    " AND id <= :last ORDER BY strftime('%H:%M', at) DESC LIMIT 1"
)


class Worker(UserMixin):  # type: ignore[misc]
    """Who is at a terminal."""

    def __init__(self, number: int) -> None:
        self.id = number


def _person_at(station: int) -> int | None:
    values = {"key": f"2026-01/{station}", "last": _SIZE["piecework"]}
    with _badges().connect() as connection:
        person: int | None = connection.execute(_PERSON_AT, values).scalar()  # cause: piecework
    return person


def _load_worker(_request: Any) -> Worker | None:
    person = _person_at(station=3)
    return None if person is None else Worker(person)


def piecework() -> str:
    """Piecework of the person at the terminal."""
    return json.dumps({"authenticated": current_user.is_authenticated, "pieces": 240})


class _Base(DeclarativeBase):
    pass


class Customer(_Base):
    """Who buys."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(_Base):
    """What is bought."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    due: Mapped[date]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()


@cache
def _orders() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    _Base.metadata.create_all(engine)
    with Session(engine) as session:
        for n in range(2000):
            customer = Customer(id=n, name=f"Customer {n}")
            session.add(Order(id=n, due=date(2026, 1, 1) + timedelta(n % 200), customer=customer))
        session.commit()
    return engine


def _order_row(order: Order) -> dict[str, Any]:
    buyer = order.customer.name  # cause: due_orders
    return {"id": order.id, "due": order.due.isoformat(), "customer": buyer}


def due_orders() -> str:
    """Orders that are due next."""
    with Session(_orders()) as session:
        orders = session.scalars(select(Order).order_by(Order.id).limit(_SIZE["due_orders"]))
        return json.dumps([_order_row(order) for order in orders.all()])


# The key

_CODE = (
    "regex",
    "vectori",
    "row-by-row",
    "iterrows",
    "index",
    "indent",
    "compile",
    "numpy",
    "pandas",
)
_WAITING_WRONG = (*_CODE, "gc.", "garbage", "selectinload", "n+1")
_HTTP_RIGHT = ("cache", "side by side", "concurrent", "parallel", "background")


@dataclass(frozen=True)
class _Key:
    """The key of a case: as in :class:`UnseenCase`, without the lines."""

    view: Callable[[], str]
    cause: str
    callees: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    waits_for: str = ""
    fit: Callable[[], object] | None = field(default=None)
    start: int = 0


_KEYS = (
    _Key(price_list, "waiting", ("urllib.request.urlopen",), _HTTP_RIGHT, _WAITING_WRONG,
         "rates.example"),
    _Key(carrier_quotes, "waiting", ("http.client.HTTPConnection.getresponse",), _HTTP_RIGHT,
         _WAITING_WRONG, "carriers.example"),
    _Key(parcel_status, "waiting", ("urllib.request.OpenerDirector.open",), _HTTP_RIGHT, _WAITING_WRONG,
         "parcels.example"),
    _Key(customer_mail, "waiting", ("socket.getaddrinfo",),
         ("cache", "dns", "resolv", "look-up", "lookup", "background"), _WAITING_WRONG,
         "weber-strick.example"),
    _Key(shipping_label, "waiting", ("subprocess.check_output",),
         ("program", "process", "background", "job", "library", "cache", "side by side"), _WAITING_WRONG,
         Path(sys.executable).name),
    _Key(stock_level, "waiting", ("threading.Lock.acquire",), ("lock", "hold", "shorter"),
         (*_WAITING_WRONG, "side by side"), "a lock"),
    _Key(open_bills, "waiting", ("sqlalchemy.Engine.connect",), ("pool", "connection"),
         (*_CODE, "selectinload", "n+1", "eager", "side by side"), "a connection of the pool"),
    _Key(machine_counters, "waiting", ("time.sleep",),
         ("sleep", "background", "cache", "event", "job", "shorter", "less"), _WAITING_WRONG, "sleep"),
    _Key(weigh_parcel, "waiting", ("time.sleep",),
         ("sleep", "poll", "event", "notif", "background", "job", "condition"), _WAITING_WRONG, "sleep"),
    _Key(change_price, "waiting", ("logging.Logger.info",),
         ("queuehandler", "queue", "background", "handler", "log"), (*_WAITING_WRONG, "side by side"),
         "logs.example"),
    _Key(order_remarks, "own_cpu", ("re.Pattern.match",),
         ("pattern", "backtrack", "nested", "possessive", "atomic", "quantifier"),
         ("indent", "row-by-row", "iterrows", "index", "query", "garbage"), fit=order_remarks, start=40),
    _Key(machine_program, "own_cpu", ("json.dumps",),
         ("indent", "orjson", "cache", "fewer", "smaller", "page", "less"),
         ("row-by-row", "iterrows", "index", "query", "regex", "pattern", "garbage"),
         fit=machine_program, start=50),
    _Key(match_shades, "own_cpu", (), (),
         ("cache the file", "re.compile", "indent", "iterrows", "index", "query", "sleep", "lock"),
         fit=match_shades, start=20),
    _Key(machine_log, "own_cpu", (), (),
         ("re.compile", "indent", "iterrows", "index", "query", "sleep", "garbage"),
         fit=machine_log, start=500),
    _Key(pattern_chart, "gc", (),
         ("fewer", "cycle", "cyclic", "refer", "garbage", "freez", "threshold", "gc"),
         ("re.compile", "indent", "iterrows", "index", "query", "sleep"), fit=pattern_chart, start=120),
    _Key(terminal_shift, "early_hook", ("hashlib.pbkdf2_hmac",),
         ("once", "cache", "session", "token", "hook", "before_request", "deliberate", "on purpose"),
         ("indent", "iterrows", "query", "re.compile", "garbage", "selectinload"),
         fit=lambda: _key_digest("terminal 7"), start=20_000),
    _Key(piecework, "sql", ("sqlalchemy.Connection.execute",),
         ("query", "index", "cache", "statement", "explain"),
         ("indent", "iterrows", "re.compile", "garbage", "selectinload", "n+1", "eager"),
         fit=lambda: _person_at(3), start=10_000),
    _Key(due_orders, "sql", (),
         ("join", "eager", "one query", "n+1", "in one", "at once", "single"),
         ("indent", "iterrows", "re.compile", "garbage", "side by side"), fit=due_orders, start=40),
)  # fmt: skip


@cache
def cases() -> list[UnseenCase]:
    """Return the cases, each with a request of :data:`SECONDS`."""
    _install_resolver()
    _fit_all()
    path = Path(__file__)
    marks: dict[tuple[str, str], list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for kind in ("cause", "also"):
            _, mark, name = line.rpartition(f"  # {kind}: ")
            if mark:
                marks.setdefault((kind, name), []).append(f"corpus/{path.name}:{number}")
    result = []
    for key in _KEYS:
        name = key.view.__name__
        (where,) = marks["cause", name]
        also = tuple(marks.get(("also", name), ()))
        result.append(UnseenCase(name, key.view, where, key.callees, key.cause, key.waits_for,
                                 key.right, key.wrong, also))  # fmt: skip
    return result


def register(app: Flask) -> None:
    """Add the hook of ``terminal_shift`` and the user loader of ``piecework`` to an application."""
    app.before_request(_check_terminal)
    logins = LoginManager(app)
    logins.request_loader(_load_worker)


def engines() -> list[Engine]:
    """Return the engines of the application, which are to be instrumented."""
    return [_bills()[0], _badges(), _orders()]


def _fit_all() -> None:
    """Fit the sizes of all cases that compute, and the time of the program."""
    _SIZE["shipping_label"] = 0
    shipping_label()
    seconds = min(_elapsed(shipping_label) for _ in range(3))
    _SIZE["shipping_label"] = max(0, round((SECONDS - seconds) * 1000))
    for key in _KEYS:
        if key.fit is not None:
            _fit(key.view.__name__, key.fit, key.start)


def _fit(name: str, work: Callable[[], object], size: int) -> None:
    """Double a size until a call can be timed; scale it to :data:`SECONDS`, twice."""
    _SIZE[name] = size
    while (seconds := _cpu_seconds(work)) < _MIN_FIT_S:
        _SIZE[name] *= 2
    for _ in range(2):
        _SIZE[name] = max(1, round(_SIZE[name] * SECONDS / seconds))
        seconds = _cpu_seconds(work)


def _cpu_seconds(work: Callable[[], object], calls: int = 6) -> float:
    """Return the mean CPU time of a call after the first, in seconds: other processes do not count."""
    work()
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def _elapsed(work: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _check(rounds: int = 11) -> int:
    """Serve all cases by plain Flask; return the number that fail or are too fast or slow."""
    failures = 0
    app = Flask(__name__)
    for case in cases():
        app.add_url_rule(f"/{case.name}", case.name, case.view)
    register(app)
    client = app.test_client()
    for case in cases():
        elapsed, computed, statuses = [], [], set()
        for _ in range(rounds):
            start, cpu_start = time.perf_counter(), time.process_time()
            statuses.add(client.get(f"/{case.name}").status_code)
            elapsed.append(time.perf_counter() - start)
            computed.append(time.process_time() - cpu_start)
        wall, cpu = statistics.median(elapsed), statistics.mean(computed)
        seconds = wall if case.cause == "waiting" else cpu
        passed = statuses == {200} and MIN_SECONDS <= seconds <= MAX_SECONDS
        failures += not passed
        times = f"{wall:.3f} s, CPU {cpu:.3f} s ({min(computed):.3f} to {max(computed):.3f} s)"
        print("ok" if passed else "NO", f"{case.name:18} {times}", case.where, statuses)
    assert "flask_knitperf" not in sys.modules
    return failures


if __name__ == "__main__":
    sys.exit(_check())
