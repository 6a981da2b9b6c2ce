"""Views of a knitting mill that keep memory by each means of the issue's list, or only seem to.

Written by the detector's own author, but before the detector: eighteen leaks (the sixteen of the
list, and two more that live outside of Python's memory), then ten look-alikes. It has the shape of
``leaks_unseen``: a line that ends with ``# leak: `` and a mark is one that may be named, where the
memory is allocated or where it is stored. ``kind`` is the verdict that is right.

The n-th request of a process does the same in every process; nothing is drawn at random. Where a
look-alike needs requests to become flat, its mechanism says how many.
"""

from __future__ import annotations

import collections
import contextvars
import ctypes
import functools
import importlib
import logging
import queue
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blinker
import flask
import numpy as np
import pandas as pd

from .leaks_unseen import Case


@dataclass(frozen=True)
class Planted(Case):
    """A case, and the verdict that is right for it: ``leak``, ``native leak``, ``cycles``, …."""

    kind: str = "leak"


SOURCE = Path(__file__)
served: collections.Counter[str] = collections.Counter()
"""How often each view was asked so far; bounded by their number."""


def number() -> int:
    """Return how often the view that runs now was asked."""
    name = flask.request.path
    served[name] += 1
    return served[name]


def lots(turn: int, rows: int = 12) -> list[dict[str, Any]]:
    """Return lots of yarn as a form sends them."""
    return [{"lot": f"L{turn:06}-{row}", "pounds": 1.25 * row + turn} for row in range(rows)]


# -- leaks -----------------------------------------------------------------------------------------

NOTES: list[list[dict[str, Any]]] = []


def receive_yarn() -> str:
    """Keep what was received in a list of the module."""
    received = lots(number())  # a comprehension allocates it
    NOTES.append([dict(lot) for lot in received])  # leak: module_list
    return f"{len(received)} lots"


AFTER_CLOSING: list[Callable[[], int]] = []


def close_order() -> str:
    """Remember what to do at the end of the day, and with it all that it refers to."""
    turn = number()
    quantities = [1000.5 + turn + style for style in range(200)]  # leak: closure

    def report() -> int:
        return len(quantities)

    AFTER_CLOSING.append(report)  # leak: closure
    return "closed"


PRICES: dict[tuple[str, int], str] = {}


def quote_price() -> str:
    """Remember an answer by a key that never comes again."""
    turn = number()
    key = ("MERINO", turn)
    if key not in PRICES:
        PRICES[key] = ", ".join(f"{step}:{turn + step}" for step in range(300))  # leak: cache
    return str(len(PRICES[key]))


class Machine:
    """A knitting machine that wants to be stopped when nobody holds it any more."""

    def __init__(self, gauge: int) -> None:
        self.needles = list(range(gauge, gauge + 300))  # leak: finaliser
        self.me = self
        weakref.finalize(self, self.stop)  # leak: finaliser

    def stop(self) -> None:
        """Stop it; as a bound method it holds the machine for ever."""
        self.needles.clear()


def start_machine() -> str:
    """Make a cycle whose finaliser holds it."""
    return str(len(Machine(1000 + number()).needles))


STOCK = pd.DataFrame(
    {"lot": pd.Series([], dtype="int64"), "pounds": pd.Series([], dtype="float64")}
)


def book_stock() -> str:
    """Let a frame of the module grow by forty rows."""
    global STOCK  # noqa: PLW0603
    turn = number()
    rows = pd.DataFrame({"lot": range(turn, turn + 40), "pounds": [1.5 * turn] * 40})
    STOCK = pd.concat([STOCK, rows], ignore_index=True)  # leak: frame
    return str(len(STOCK))


LATEST: list[Any] = []


def last_weights() -> str:
    """Keep ten weights, and the array of a thousand that they are a view of."""
    turn = number()
    weights = np.arange(turn, turn + 1000, dtype="float64")  # leak: view
    LATEST.append(weights[-10:])  # leak: view
    return str(LATEST[-1][0])


class Bell(logging.Handler):
    """Tells the foreman."""

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.names = [f"foreman {turn}-{shift}" for shift in range(20)]  # leak: handler

    def emit(self, record: logging.LogRecord) -> None:
        """Tell nobody."""


def ring() -> str:
    """Add a handler in each request and forget to take it away."""
    logger = logging.getLogger("mill.bells")
    logger.propagate = False
    logger.addHandler(Bell(number()))  # leak: handler
    return "rung"


HERE = threading.local()


def scan_label() -> str:
    """Collect labels for the thread that serves."""
    turn = number()
    if not hasattr(HERE, "labels"):
        HERE.labels = []
    HERE.labels.append(f"label {turn} " * 80)  # leak: thread_local
    return "scanned"


class Recipe:
    """How a fabric is dyed."""

    def __init__(self, turn: int) -> None:
        self.steps = [f"step {step} of {turn}" for step in range(30)]  # leak: method_cache

    @functools.cache  # noqa: B019
    def minutes(self, shade: str) -> int:
        """Return how long it takes; the cache keeps each recipe that was ever asked."""
        return len(self.steps) * len(shade)


def dye() -> str:
    """Ask a recipe of this request."""
    recipe = Recipe(number())  # leak: method_cache
    return str(recipe.minutes("indigo"))  # leak: method_cache


FAILED: list[Exception] = []


def import_order() -> str:
    """Keep an error, with it its traceback, with that the frame, and with that the lines read."""
    lines = [f"{number()};{row};12.5" for row in range(60)]  # leak: traceback
    try:
        float(lines[0])
    except ValueError as error:
        FAILED.append(error)  # leak: traceback
    return "not imported"


ORDER_CHANGED = blinker.Signal()


def watch_order() -> str:
    """Listen to an event in each request."""
    turn = number()
    seen = [turn * 1000 + day for day in range(120)]  # leak: listener

    def changed(sender: object) -> None:
        seen.append(id(sender))

    ORDER_CHANGED.connect(changed, weak=False)  # leak: listener
    return "watching"


OPEN_READS: list[Iterator[str]] = []


def pages_of(turn: int) -> Iterator[str]:
    """Yield the pages of a catalogue."""
    catalogue = [f"style {style} in {turn}" for style in range(50)]  # leak: generator
    for start in range(0, 50, 10):
        yield ", ".join(catalogue[start : start + 10])


def first_page() -> str:
    """Take the first page and leave the rest where it is."""
    pages = pages_of(number())
    page = next(pages)
    OPEN_READS.append(pages)  # leak: generator
    return page


class Loom:
    """There is one, and it stays."""


LOOM = Loom()
WATCHING: list[weakref.ref[Loom]] = []


def follow_loom() -> str:
    """Be told when the loom goes; it never does, so each callback stays with what it holds."""
    plan = [f"warp {number()}-{thread}" for thread in range(40)]  # leak: weak_callback

    def gone(_: weakref.ref[Loom]) -> None:
        plan.clear()

    WATCHING.append(weakref.ref(LOOM, gone))  # leak: weak_callback
    return "following"


_LIBC = ctypes.CDLL(None) if sys.platform != "win32" else ctypes.cdll.msvcrt
_LIBC.malloc.restype = ctypes.c_void_p
_LIBC.malloc.argtypes = [ctypes.c_size_t]


def needle_map() -> str:
    """Ask C for memory and never give it back."""
    turn = number()
    cells = " ".join(str(turn + cell) for cell in range(4000))  # comes and goes
    address = _LIBC.malloc(3000)  # leak: c_level
    ctypes.memset(address, turn % 256, 3000)
    return str(len(cells))


_GATE = threading.Event()  # a slow printer: nobody ever opens it
PRINTER = ThreadPoolExecutor(1, "printer")


def print_label() -> str:
    """Queue labels for a printer that is stuck at its first."""
    turn = number()
    if turn == 1:
        PRINTER.submit(_GATE.wait)
    label = [f"lot {turn}, cone {cone}" for cone in range(25)]  # leak: executor
    PRINTER.submit(len, label)  # leak: executor
    return "queued"


TRAIL: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("trail", default=())


def trace_lot() -> str:
    """Add to a context variable that nobody resets; under a sync server the context stays."""
    step = f"dyed, washed, dried {number()} " * 30  # leak: context
    TRAIL.set((*TRAIL.get(), step))  # leak: context
    return "traced"


LEDGER = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
LEDGER.execute("CREATE TABLE booked (lot INTEGER, note TEXT)")


def book_ledger() -> str:
    """Write into a database that lives in memory: SQLite's, not Python's."""
    turn = number()
    LEDGER.execute("INSERT INTO booked VALUES (?, ?)", (turn, "x" * 1800))  # leak: sqlite
    return "booked"


SHIPMENTS: list[Any] = []


def ship() -> str:
    """Keep a column of text, which Arrow holds in a pool of its own."""
    import pyarrow as pa

    turn = number()
    labels = [f"pallet {turn}-{row} to the dye house" for row in range(120)]
    SHIPMENTS.append(pa.array(labels))  # leak: arrow
    return str(turn)


# -- look-alikes -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=150)
def _costed(style: int) -> str:
    return f"{style}:" + "9.75," * 300


def cost_style() -> str:
    """Ask a bounded cache for something new each time: full after 150."""
    return str(len(_costed(number())))


class Node:
    """A part that knows its whole."""

    def __init__(self, whole: Node | None, turn: int) -> None:
        self.whole = whole
        self.parts: list[Node] = []
        self.text = f"part {turn} " * 200


def explode_bom() -> str:
    """Make a tree whose parts refer to each other, and let it go."""
    turn = number()
    root = Node(None, turn)
    root.parts = [Node(root, turn) for _ in range(15)]
    return str(len(root.parts))


class Lease(Node):
    """A part of a cycle that says goodbye."""

    def __del__(self) -> None:
        self.parts.clear()


def lease_loom() -> str:
    """Make cycles with a finaliser that the collector can call."""
    lease = Lease(None, number())
    lease.whole = lease
    return str(len(lease.text))


BATCH: list[dict[str, Any]] = []


def batch_bookings() -> str:
    """Write bookings together, 40 at a time."""
    BATCH.extend(lots(number(), 3))
    if len(BATCH) >= 120:
        BATCH.clear()
    return str(len(BATCH))


_LAZY = ("json.tool", "csv", "wave", "fractions", "colorsys", "calendar", "plistlib", "mailbox",
         "imaplib", "tabnanny")  # fmt: skip


def export_format() -> str:
    """Import what an export needs when it is needed: the last after 80 requests."""
    turn = number()
    if turn % 8 == 0 and turn // 8 <= len(_LAZY):
        importlib.import_module(_LAZY[turn // 8 - 1])
    return "exported"


POOL: queue.LifoQueue[bytearray] = queue.LifoQueue()
LENT: collections.deque[bytearray] = collections.deque()


def lend_buffer() -> str:
    """Let a pool of buffers grow to 60, then use those."""
    turn = number()
    buffer = POOL.get_nowait() if POOL.qsize() else bytearray(4096)
    buffer[0] = turn % 256
    LENT.append(buffer)
    if len(LENT) > 60:
        POOL.put(LENT.popleft())
    return str(len(LENT))


def small_frames() -> str:
    """Make many small frames and keep none."""
    turn = number()
    frames = [pd.DataFrame({"lot": range(turn, turn + 30), "pounds": 1.5}) for _ in range(60)]
    return str(sum(len(frame) for frame in frames))


RECENT: collections.deque[pd.DataFrame] = collections.deque(maxlen=25)


def recent_orders() -> str:
    """Keep the latest 25 frames."""
    turn = number()
    RECENT.append(pd.DataFrame({"order": range(turn, turn + 200), "style": "crew neck"}))
    return str(len(RECENT))


SHARED: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()


def share_part() -> str:
    """Keep parts only as long as somebody uses them."""
    turn = number()
    part = Node(None, turn)
    SHARED[turn] = part
    return str(len(SHARED))


EXPIRES: collections.OrderedDict[int, str] = collections.OrderedDict()


def session_cache() -> str:
    """Throw half of a cache away whenever it holds 90."""
    turn = number()
    EXPIRES[turn] = f"session {turn} " * 100
    if len(EXPIRES) >= 90:
        for key in list(EXPIRES)[:45]:
            del EXPIRES[key]
    return str(len(EXPIRES))


# -- what there is ---------------------------------------------------------------------------------


def _leak(
    view: Callable[[], str], mark: str, mechanism: str, kept: int, kind: str = "leak"
) -> Planted:
    return Planted(view.__name__, f"/{view.__name__}", True, mark, mechanism, kept, kind)


def _alike(view: Callable[[], str], mechanism: str, kind: str = "none") -> Planted:
    return Planted(view.__name__, f"/{view.__name__}", False, "", mechanism, 0, kind)


CASES: tuple[Planted, ...] = (
    _leak(receive_yarn, "module_list", "a list of the module", 3_400),
    _leak(close_order, "closure", "a closure in a list of things to do", 7_100),
    _leak(quote_price, "cache", "a dictionary by a key that never comes again", 3_000),
    _leak(start_machine, "finaliser", "a cycle whose finaliser holds it", 12_500),
    _leak(book_stock, "frame", "a frame of the module to which rows are added", 640),
    _leak(last_weights, "view", "a view pins its base", 8_300),
    _leak(ring, "handler", "a logging handler per request", 2_000),
    _leak(scan_label, "thread_local", "a list of the thread", 850),
    _leak(dye, "method_cache", "lru_cache on a method keeps each self", 2_300),
    _leak(import_order, "traceback", "an error keeps its frames, Flask's too", 11_900),
    _leak(watch_order, "listener", "an event listener per request", 5_300),
    _leak(first_page, "generator", "a generator that is never closed", 4_300),
    _leak(follow_loom, "weak_callback", "callbacks of weak references to what never goes", 3_300),
    _leak(needle_map, "c_level", "malloc without free", 3_000, "native leak"),
    _leak(print_label, "executor", "an executor whose queue only grows", 3_700),
    _leak(trace_lot, "context", "a context variable that is never reset", 750),
    _leak(book_ledger, "sqlite", "a SQLite database in memory", 1_900, "native leak"),
    _leak(ship, "arrow", "arrays in Arrow's pool", 5_000, "native leak"),
    _alike(cost_style, "lru_cache that is full after 150 requests"),
    _alike(explode_bom, "cycles without a finaliser", "cycles"),
    _alike(lease_loom, "cycles with a finaliser that can be called"),
    _alike(batch_bookings, "a batch that is emptied every 40 requests"),
    _alike(export_format, "modules that are imported when they are needed, until request 80"),
    _alike(lend_buffer, "a pool that is full after 61 requests"),
    _alike(small_frames, "many small frames per request"),
    _alike(recent_orders, "a deque of 25 frames"),
    _alike(share_part, "a dictionary of weak values"),
    _alike(session_cache, "a cache that is halved every 45 requests, from the 90th on"),
)  # fmt: skip


def lines_of(mark: str) -> tuple[int, ...]:
    """Return the numbers of the lines that carry a mark."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    return tuple(at for at, line in enumerate(lines, 1) if line.endswith(f"# leak: {mark}"))


def create_app() -> flask.Flask:
    """Return an application that serves every case."""
    app = flask.Flask(__name__)
    for case in CASES:
        app.add_url_rule(case.path, case.name, globals()[case.name])
    return app
