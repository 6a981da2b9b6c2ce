"""Views of a knitting mill that keep memory after every request, or only seem to.

This corpus was written from the issue's text by somebody who had not seen the detector.

`CASES` gives eight leaks first, then four look-alikes. Every case is a GET view without parameters.
One request of a leak keeps about `kept_bytes` for ever. The lines that end with the comment
`# leak: ` and the mark of the case are those a developer must be shown: where the memory is
allocated and, if that is another line, where it is stored. `lines_of(mark)` gives them all and
`line_of(mark)` the first. Naming any one of them is right; a line without a mark is wrong, and so
is a line of the library that the marked line calls. Marked lines allocate at least three quarters
of what a leak keeps; the rest are small things that are kept along with it, such as what
logging remembers for `log.debug`. One leak, the byte buffer, grows in jumps: it takes an eighth
more than it needs, then nothing for a while.

A look-alike allocates and keeps things for a while, but it does not grow. All four have warmed
up after at most 22 requests; from then on they are flat, except for garbage that waits for the
collector and for the batch that goes up and down with a period of 12 requests. So look at more than
a few requests, and compare them at the same point of that period or over several periods.

How to use it: start a fresh process, call `create_app()` there and send as many requests as wanted
to the `path` of one case. Several cases may share a process, but then what they keep is mixed. The
n-th request of a process does the same in every process. Nothing needs a network or a file, and
nothing is drawn at random.

Run as a script, `python -m benchmarks.corpus.leaks_unseen [NAME ...]` checks its own labels: for
each case it starts a process, sends 30 requests to warm up and then 300, collects, and asks
tracemalloc what has stayed and which line of this file allocated it.
"""
# As it was written: moved lines would move its marks.
# fmt: off
# ruff: noqa: B006, B019, D102, D103

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import logging
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import flask
import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One view, and what it does with memory."""

    name: str
    path: str
    leaks: bool
    mark: str  # of a leak: the marked lines of this file; "" otherwise
    mechanism: str
    kept_bytes: int  # about how much one request keeps, 0 where it does not leak


CASES: tuple[Case, ...] = (
    Case("yarn_price_tail", "/yarn/prices", True, "price_tail",
         "a numpy slice of five values pins the array it was cut from", 66_000),
    Case("bom_trail", "/bom/explode", True, "bom_trail",
         "a list that is the default value of an argument", 2_400),
    Case("order_export", "/order/export", True, "order_export",
         "a generator that is stopped after the first page and never closed", 23_000),
    Case("forecast_baseline", "/forecast/revise", True, "baseline",
         "each frame's attrs refer to the frame before it, a chain that grows", 21_500),
    Case("report_row_types", "/report/columns", True, "report_row_types",
         "a class is made per request and registers itself in __init_subclass__", 7_500),
    Case("order_loggers", "/order/check", True, "order_loggers",
         "a logger is named after each order, and logging keeps loggers by name", 650),
    Case("label_reference", "/label/print", True, "label_reference",
         "a reference taken through the C interface is never given back", 98_000),
    Case("edifact_outbox", "/order/edifact", True, "edifact_outbox",
         "one byte buffer that grows, as the test when to empty it never holds", 1_400),
    Case("stock_shelves", "/yarn/stock", False, "",
         "a bounded lru_cache on a method, full after 22 requests", 0),
    Case("bom_tree", "/bom/tree", False, "",
         "cycles with finalisers and arrays, which the collector frees", 0),
    Case("order_batch", "/order/batch", False, "",
         "a list that is emptied every 12 requests by way of a temporary frame", 0),
    Case("supplier_readers", "/supplier/articles", False, "",
         "a pool of 16 readers with patterns compiled at first use", 0),
)


# ---- yarns: prices ---------------------------------------------------------------------------


class PriceBook:
    """Forward prices of yarn; the last five days of each quote are kept for the next one."""

    days = 8_192

    def __init__(self) -> None:
        self._steps: Floats = np.sin(np.arange(self.days, dtype=np.float64)) / 100.0
        self._closing: dict[str, Floats] = {}

    def curve(self, article: str, start: float) -> Floats:
        drift = 1.0 + len(article) / 1_000.0
        prices: Floats = np.cumsum(self._steps * drift)
        prices += start
        return prices

    def quote(self, number: int) -> float:
        article = f"NM{number % 40:02d}"
        prices = self._forward(article, number)
        self._remember(f"{article}/{number}", prices)
        return round(float(prices.mean()), 4)

    def _forward(self, article: str, number: int) -> Floats:
        curve = self.curve(article, 4.0)
        season = 1.0 + (number % 13) / 100.0
        return np.asarray(curve * season, dtype=np.float64)  # leak: price_tail

    def _remember(self, quote: str, prices: Floats) -> None:
        # Only five numbers per quote, they do not hurt.
        self._closing[quote] = prices[-5:]  # leak: price_tail


# ---- orders: export, check, EDIFACT ------------------------------------------------------------


class ExportDesk:
    """Exports of orders, page by page; a ticket lets the client ask for the next page."""

    page = 20

    def __init__(self) -> None:
        self._running: dict[int, Iterator[str]] = {}

    def start(self, order: int) -> tuple[int, list[str]]:
        ticket = 100_000 + order
        self._running[ticket] = _export_lines(order)  # leak: order_export
        return ticket, self.next_page(ticket)

    def next_page(self, ticket: int) -> list[str]:
        lines = list(itertools.islice(self._running[ticket], self.page))
        if len(lines) < self.page:
            del self._running[ticket]
        return lines


def _export_lines(order: int) -> Iterator[str]:
    rows = [(i, f"{order}-{i:04d}", i * order % 97 + 300) for i in range(140)]  # leak: order_export
    for line, key, pieces in rows:
        yield f"{line};{key};{pieces}"


class OrderDesk:
    """Checks an order and writes what it found to the log of that order."""

    def check(self, number: int) -> list[str]:
        log = self._log(number)
        findings = [f"line {line}: colour missing" for line in range(9) if (number + line) % 4 == 0]
        for finding in findings:
            log.debug(finding)
        return findings

    def _log(self, number: int) -> logging.Logger:
        return logging.getLogger(f"knitting_mill.orders.{number:06d}")  # leak: order_loggers


class Interchange:
    """The outbox of EDIFACT messages, sent to the spinning mill when the interchange is closed."""

    def __init__(self) -> None:
        self._outbox = bytearray()
        self.sent = 0

    def add(self, order: int) -> int:
        message = self._message(order)
        self._append(message)
        if message.endswith(b"UNZ"):
            self._send()
        return len(message)

    def _message(self, order: int) -> bytes:
        lines = [
            f"LIN+{line}++NM{(order + line) % 40:02d}:EN'QTY+21:{100 + line}:KGM'"
            for line in range(40)
        ]
        head = f"UNH+{order:08d}+ORDERS:D:96A'"
        return (head + "".join(lines) + f"UNT+{len(lines)}'UNZ+1+{order:08d}'").encode("ascii")

    def _append(self, message: bytes) -> None:
        self._outbox += message  # leak: edifact_outbox

    def _send(self) -> None:
        self.sent += len(self._outbox)
        self._outbox.clear()


# ---- bills of material -------------------------------------------------------------------------

PARTS: dict[str, tuple[tuple[str, int], ...]] = {
    "set": (("pullover", 1), ("scarf", 1), ("hat", 2)),
    "pullover": (("front", 1), ("back", 1), ("sleeve", 2), ("collar", 1)),
    "scarf": (("panel", 2), ("fringe", 40)),
    "hat": (("crown", 1), ("band", 1)),
    "front": (("merino", 180), ("label", 1)),
    "back": (("merino", 170),),
    "sleeve": (("merino", 90), ("cuff", 1)),
    "cuff": (("merino", 12), ("elastane", 2)),
    "collar": (("merino", 25),),
    "panel": (("merino", 110),),
    "crown": (("merino", 45),),
    "band": (("merino", 20), ("elastane", 3)),
}


def explode(article: str, quantity: int, needs: dict[str, int], trail: list[str] = []) -> None:
    """Add to `needs` what `quantity` of the article takes, down to the yarn."""
    trail.append(f"{article} x {quantity}, {len(needs)} materials known so far")  # leak: bom_trail
    if quantity <= 0:
        raise ValueError(f"a bill of material with nothing in it: {trail[-1]}")
    parts = PARTS.get(article)
    if parts is None:
        needs[article] = needs.get(article, 0) + quantity
        return
    for part, each in parts:
        explode(part, quantity * each, needs, trail)


class Node:
    """A part in the tree of a bill of material. It knows its parent, and its parent knows it."""

    closed: ClassVar[int] = 0

    def __init__(self, article: str, parent: Node | None, quantity: int) -> None:
        self.article = article
        self.parent = parent
        self.children: list[Node] = []
        self.weekly: Floats = np.full(520, float(quantity))
        if parent is not None:
            parent.children.append(self)

    def total(self) -> float:
        return float(self.weekly.sum()) + sum(child.total() for child in self.children)

    def __del__(self) -> None:
        Node.closed += 1


def plant(article: str, parent: Node | None, quantity: int) -> Node:
    node = Node(article, parent, quantity)
    for part, each in PARTS.get(article, ()):
        plant(part, node, quantity * each)
    return node


class TreeDesk:
    """Draws trees of parts, and keeps the last one for the question that follows most often."""

    def __init__(self) -> None:
        self._last: Node | None = None

    def draw(self, number: int) -> float:
        self._last = plant("set", None, 1 + number % 7)
        return self._last.total()


# ---- forecasts and reports ---------------------------------------------------------------------


class ForecastDesk:
    """The forecast in force. A revision says how far it is from the one before it."""

    def __init__(self) -> None:
        self._season: Floats = 50.0 + 10.0 * np.cos(np.arange(600, dtype=np.float64) / 8.0)
        self._columns = pd.Index(["low", "likely", "high", "stock"])
        self.current = self._frame(0)

    def revise(self, number: int) -> float:
        revised = self._frame(number)
        drift = float(np.abs(revised.to_numpy() - self.current.to_numpy()).mean())
        self._publish(revised, drift)
        return round(drift, 3)

    def _frame(self, number: int) -> pd.DataFrame:
        weights = np.array([0.8, 1.0, 1.3, 0.2]) + (number % 11) / 50.0
        columns = self._columns
        return pd.DataFrame(np.outer(self._season, weights), columns=columns)  # leak: baseline

    def _publish(self, revised: pd.DataFrame, drift: float) -> None:
        revised.attrs["drift"] = drift
        revised.attrs["baseline"] = self.current  # leak: baseline
        self.current = revised


class ReportRow:
    """What the rows of all reports have in common; `kinds` is for the page that lists them."""

    kinds: ClassVar[list[type[ReportRow]]] = []

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ReportRow.kinds.append(cls)  # leak: report_row_types

    def as_text(self) -> str:
        return ";".join(str(value) for value in vars(self).values())


class ReportDesk:
    """Reports whose columns the user chose; the rows get the fields that were asked for."""

    def lines(self, number: int) -> list[str]:
        columns = ["article", "colour", f"week_{number % 52:02d}"]
        kind = self._row_type(columns)
        return [kind(f"NM{line:02d}", line % 8, number % 9 + line).as_text() for line in range(12)]

    def _row_type(self, columns: list[str]) -> Any:
        return make_dataclass("ChosenRow", columns, bases=(ReportRow,))  # leak: report_row_types


# ---- labels ------------------------------------------------------------------------------------


class LabelPrinter:
    """Hands pages to the driver, which reads them after we have returned."""

    def __init__(self) -> None:
        prototype = ctypes.PYFUNCTYPE(None, ctypes.py_object)
        self._hold = prototype(("Py_IncRef", ctypes.pythonapi))
        self.pages = 0

    def print_label(self, number: int) -> int:
        page = self._render(number)
        self._spool(page)
        return len(page)

    def _render(self, number: int) -> bytes:
        row = b"%08d" % number + bytes([number % 251]) * 88
        return row * 1_024  # leak: label_reference

    def _spool(self, page: bytes) -> None:
        # The driver still reads the page: it must not be freed under it.
        self._hold(page)  # leak: label_reference
        self.pages += 1


# ---- what is kept, but does not grow -----------------------------------------------------------


class Warehouse:
    """The warehouse as one request sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.notes = [f"stock seen by request {number:08d}, note {note:02d}" for note in range(10)]

    @lru_cache(maxsize=64)
    def shelf(self, shelf: int) -> list[str]:
        first = self.number * 3 + shelf
        return [f"{first:08d}/{box:03d}: {(first + box) % 90 + 10} cones" for box in range(60)]

    def stock(self) -> int:
        return sum(len(self.shelf(shelf)) for shelf in range(3))


class OrderBatch:
    """Orders are planned a dozen at a time."""

    size = 12

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self.pieces = dict.fromkeys(range(8), 0)

    def add(self, number: int) -> int:
        for line in range(40):
            self._waiting.append(self._line(number, line))
        if len(self._waiting) >= self.size * 40:
            self._plan()
        return len(self._waiting)

    def _line(self, number: int, line: int) -> dict[str, Any]:
        return {
            "order": f"A-{number:08d}",
            "line": line,
            "colour": (number + line) % 8,
            "pieces": 300 + number % 100 + line,
        }

    def _plan(self) -> None:
        frame = pd.DataFrame(self._waiting)
        weekly = pd.concat([frame.assign(week=week) for week in range(13)], ignore_index=True)
        spread = np.bincount(weekly["colour"].to_numpy(), weekly["pieces"].to_numpy(), minlength=8)
        for colour, pieces in enumerate(spread.tolist()):
            self.pieces[colour] += int(pieces) // 13
        self._waiting.clear()


class ArticleReader:
    """Reads the article numbers of one supplier, who has a way of writing them all of his own."""

    def __init__(self, supplier: int) -> None:
        self.supplier = supplier
        self._pattern: re.Pattern[str] | None = None
        self._scratch = bytearray()
        self.articles: list[dict[str, str]] = []

    @property
    def pattern(self) -> re.Pattern[str]:
        if self._pattern is None:
            self._pattern = re.compile(
                rf"(?P<house>S{self.supplier:02d})[-/ ](?P<yarn>[A-Z]{{2,4}}\d{{2}})"
                rf"(?:[-/ ](?P<lot>\d{{6,8}}))?(?:[-/ ](?P<colour>[a-z]{{3,12}}))?$"
            )
        return self._pattern

    def read(self, lines: list[str]) -> int:
        self._scratch[:] = "\n".join(lines).encode("ascii")
        found = (self.pattern.match(line) for line in lines)
        self.articles = [match.groupdict() for match in found if match is not None]
        return len(self.articles)


class SupplierDesk:
    """Lends readers: to make one is expensive, so they come back to the pool."""

    def __init__(self) -> None:
        self._idle: dict[int, list[ArticleReader]] = {}

    def read(self, number: int) -> int:
        supplier = number % 16
        reader = self._borrow(supplier)
        try:
            return reader.read(
                [f"S{supplier:02d}-NM{line % 90 + 10}/{number:08d} indigo" for line in range(60)]
            )
        finally:
            self._give_back(reader)

    def _borrow(self, supplier: int) -> ArticleReader:
        idle = self._idle.setdefault(supplier, [])
        return idle.pop() if idle else ArticleReader(supplier)

    def _give_back(self, reader: ArticleReader) -> None:
        self._idle[reader.supplier].append(reader)


# ---- the application ---------------------------------------------------------------------------


@dataclass
class Mill:
    """All desks of the mill. Each has its own count of requests."""

    prices: PriceBook = field(default_factory=PriceBook)
    exports: ExportDesk = field(default_factory=ExportDesk)
    orders: OrderDesk = field(default_factory=OrderDesk)
    interchange: Interchange = field(default_factory=Interchange)
    trees: TreeDesk = field(default_factory=TreeDesk)
    forecasts: ForecastDesk = field(default_factory=ForecastDesk)
    reports: ReportDesk = field(default_factory=ReportDesk)
    labels: LabelPrinter = field(default_factory=LabelPrinter)
    batch: OrderBatch = field(default_factory=OrderBatch)
    suppliers: SupplierDesk = field(default_factory=SupplierDesk)
    _counts: dict[str, int] = field(default_factory=dict)

    def number(self) -> int:
        """How many requests this view has had, this one included."""
        path = flask.request.path
        self._counts[path] = self._counts.get(path, 0) + 1
        return self._counts[path]


def create_app() -> flask.Flask:
    """The application with all views; in a fresh process nothing is kept yet."""
    app = flask.Flask(__name__)
    mill = Mill()
    _add_yarn_views(app, mill)
    _add_order_views(app, mill)
    _add_planning_views(app, mill)
    return app


def _add_yarn_views(app: flask.Flask, mill: Mill) -> None:
    @app.get("/yarn/prices")
    def yarn_prices() -> dict[str, Any]:
        return {"price": mill.prices.quote(mill.number())}

    @app.get("/yarn/stock")
    def yarn_stock() -> dict[str, Any]:
        return {"boxes": Warehouse(mill.number()).stock()}

    @app.get("/supplier/articles")
    def supplier_articles() -> dict[str, Any]:
        return {"articles": mill.suppliers.read(mill.number())}


def _add_order_views(app: flask.Flask, mill: Mill) -> None:
    @app.get("/order/export")
    def order_export() -> dict[str, Any]:
        ticket, lines = mill.exports.start(mill.number())
        return {"ticket": ticket, "lines": lines}

    @app.get("/order/check")
    def order_check() -> dict[str, Any]:
        return {"findings": mill.orders.check(mill.number())}

    @app.get("/order/edifact")
    def order_edifact() -> dict[str, Any]:
        return {"bytes": mill.interchange.add(mill.number())}

    @app.get("/order/batch")
    def order_batch() -> dict[str, Any]:
        return {"waiting": mill.batch.add(mill.number())}

    @app.get("/label/print")
    def label_print() -> dict[str, Any]:
        return {"bytes": mill.labels.print_label(mill.number())}


def _add_planning_views(app: flask.Flask, mill: Mill) -> None:
    @app.get("/bom/explode")
    def bom_explode() -> dict[str, Any]:
        needs: dict[str, int] = {}
        explode("set", 1 + mill.number() % 5, needs)
        return {"needs": needs}

    @app.get("/bom/tree")
    def bom_tree() -> dict[str, Any]:
        return {"total": mill.trees.draw(mill.number())}

    @app.get("/forecast/revise")
    def forecast_revise() -> dict[str, Any]:
        return {"drift": mill.forecasts.revise(mill.number())}

    @app.get("/report/columns")
    def report_columns() -> dict[str, Any]:
        return {"lines": mill.reports.lines(mill.number())}


def lines_of(mark: str) -> tuple[int, ...]:
    """The numbers of all lines of this file with that mark, in order."""
    if not re.fullmatch(r"\w+", mark):
        raise ValueError(f"not a mark: {mark!r}")
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    found = tuple(
        number for number, line in enumerate(lines, 1) if line.endswith(f"# leak: {mark}")
    )
    if not found:
        raise ValueError(f"no line has the mark {mark!r}")
    return found


def line_of(mark: str) -> int:
    """The number of the first line of this file with that mark."""
    return lines_of(mark)[0]


# ---- the check of the labels -------------------------------------------------------------------

WARM_UP = 30
REQUESTS = 300
FLAT = 64.0  # bytes per request that a look-alike may keep on average
SLOWEST = 0.020  # seconds per request, the middle one


def _traced() -> int:
    gc.collect()
    gc.collect()  # what a finaliser freed
    return tracemalloc.get_traced_memory()[0]


def _own_lines() -> dict[int, int]:
    """The traced bytes by the innermost line of this file that allocated them."""
    sizes: dict[int, int] = {}
    for found in tracemalloc.take_snapshot().statistics("traceback"):
        numbers = [frame.lineno for frame in found.traceback if frame.filename == __file__]
        if numbers:
            sizes[numbers[-1]] = sizes.get(numbers[-1], 0) + found.size
    return sizes


def _measure(name: str) -> dict[str, Any]:
    """What one case keeps, measured in this process, which must be a fresh one."""
    case = next(case for case in CASES if case.name == name)
    client = create_app().test_client()

    def send(count: int) -> None:
        for _ in range(count):
            if client.get(case.path).status_code != 200:
                raise RuntimeError(f"{case.path} failed")

    tracemalloc.start(12)
    send(WARM_UP)
    before = _traced()
    send(REQUESTS)
    kept = (_traced() - before) / REQUESTS
    sizes = _own_lines()
    tracemalloc.stop()
    seconds = []
    for _ in range(25):
        start = time.perf_counter()
        send(1)
        seconds.append(time.perf_counter() - start)
    worst = max(sizes, key=lambda line: sizes[line], default=0)
    share = 0.0
    if case.leaks:
        marked = sum(sizes.get(line, 0) for line in lines_of(case.mark))
        share = marked / (kept * (WARM_UP + REQUESTS))
    return {"kept": kept, "line": worst, "share": share, "seconds": sorted(seconds)[12]}


def _wrong(case: Case, found: dict[str, Any]) -> str:
    """What is wrong with the labels of a case, or nothing."""
    if found["seconds"] > SLOWEST:
        return "too slow"
    if not case.leaks:
        labelled = not case.mark and not case.kept_bytes
        return "" if labelled and abs(found["kept"]) < FLAT else "grows"
    if not case.kept_bytes / 2 <= found["kept"] <= case.kept_bytes * 2:
        return "keeps another size"
    if found["line"] not in lines_of(case.mark) or found["share"] < 0.75:
        return "another line keeps"
    return ""


def main(names: list[str]) -> int:
    """Check the labels of the cases with these names, or of all, and print a table."""
    cases = [case for case in CASES if not names or case.name in names]
    bad = 0
    for column in ("name", "path", "mark"):
        values = [getattr(case, column) for case in CASES if getattr(case, column)]
        if len(values) != len(set(values)):
            print(f"two cases have the same {column}")
            bad += 1
    print("case              label expected      kept  line  share    ms  result")
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.corpus.leaks_unseen", "--measure", case.name]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr)
            bad += 1
            continue
        found = json.loads(done.stdout)
        wrong = _wrong(case, found)
        bad += bool(wrong)
        line, share = (found["line"], f"{found['share']:.0%}") if case.leaks else ("", "")
        print(
            f"{case.name:18}{'leak' if case.leaks else 'flat':5}{case.kept_bytes:9,}"
            f"{found['kept']:10,.1f}{line:>6}{share:>7}{found['seconds'] * 1_000:6.2f}"
            f"  {wrong or 'ok'}"
        )
    print("every label is right" if not bad else f"{bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(_measure(sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1:]))
