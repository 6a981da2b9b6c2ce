"""Views of a knitting mill whose hot line is known, written without sight of any detector.

`cases(seed)` gives nine views, one of each kind of hot line. A request takes 60 to 250 ms of wall
time, of which one line takes 55 to 80 %; the rest is spread over several other lines, none of
which has more than 20 %. The hot line is the innermost line of this file on the stack: time in
library code it calls (`time.sleep`, `hashlib`, `copy.deepcopy`, numpy, `socket`) is its own.

The seed moves how long everything takes, which function does the hot work and how deep below the
view, in how many bursts, and where the remaining time goes. A line that is hot under one seed may
be a decoy under another. Python and C code is measured once per process, before the first view
is handed out, and then run by count, so that no clock is read while a request is in flight. The
shares hold for one request at a time: requests that compete for the interpreter lock lengthen
each other's lines, those that compute more than those that wait.
"""

from __future__ import annotations

import asyncio
import bz2
import copy
import functools
import hashlib
import json
import random
import re
import select
import shlex
import socket
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KINDS", "Case", "cases", "line_of"]

KINDS = (
    "own_cpu",
    "sleep",
    "socket",
    "lock",
    "c_extension",
    "numpy",
    "generator",
    "async",
    "recursion",
)

WALL = (0.085, 0.145)  # seconds a request is planned to take
# Of it, in the hot line and at most in any other. A busy machine lengthens what computes more than
# what waits, so these leave room in the direction in which the shares then move.
COMPUTING = (0.60, 0.70, 0.145)
WAITING = (0.68, 0.76, 0.12)
PATIENCE = 5.0  # seconds after which a wait for a helper thread is an error


@dataclass(frozen=True)
class Case:
    """One view with a planted hot line.

    Attributes:
        name: unique among all seeds, in snake_case.
        kind: one of `KINDS`.
        view: a Flask view without arguments; of the kind "async" it is a coroutine function.
        hot: the markers of the lines that may be named, see `line_of`.
        running: the share of the hot line's wall time in which its thread is on the CPU.
    """

    name: str
    kind: str
    view: Callable[[], Any]
    hot: tuple[str, ...]
    running: float


def line_of(marker: str) -> str:
    """Where the hot line with this marker is, as "hot_lines_unseen.py:<lineno>"."""
    path = Path(__file__)
    carries = re.compile(rf"#\s*hot:\s*{re.escape(marker)}\s*$")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, start=1) if carries.search(line)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} lines are marked {marker!r}, not one")
    return f"{path.name}:{found[0]}"


# The mill's data. Nothing writes to it.

_DICE = random.Random(4711)
_SHEET = b"".join(
    b"lot %05d;yarn %s;%d kg\r\n" % (lot, _DICE.randbytes(6).hex().encode(), _DICE.randrange(900))
    for lot in range(8000)
)
_SHORT_SHEET = _SHEET[:4_000]
_LONG_SHEET = _SHEET[:48_000]
_LOTS = [_DICE.randrange(10_000) for _ in range(60)]
_CATALOGUE = [f"ART-{_DICE.randrange(10**9):09d}" for _ in range(400)]
_BOM = {
    f"panel {panel}": [{"yarn": f"Nm {gauge}/2", "grams": gauge * 7.5} for gauge in range(3)]
    for panel in range(2)
}
_ORDER = {"customer": "Strickhaus", "rows": [{"size": s, "pieces": s * 12} for s in range(30, 46)]}
_TITLE = "Cardigan, raglan / Merino extrafine (2-ply) -- no. 4711"
_DELIVERY = 'ART-000123 "Merino extrafine" 12.5 kg "Lot 88/2" dyed'
_NOT_WORD = re.compile(r"\W+")
_PRICE, _CENT = Decimal("18.9375"), Decimal("0.01")
_WEEKS = np.linspace(1.0, 52.0, 40_000)
_SHUFFLED = np.random.default_rng(4711).permutation(30_000).astype(float)
_DEMAND = np.sin(np.arange(16_384) / 40.0) + 2.0
_GAUGES = np.linspace(3.0, 21.0, 220)


# Own CPU: one line of Python, or of a pure Python library.


def _needle_plan(n: int, nap: float) -> int:
    time.sleep(nap)  # the pattern file is said to be slow
    return sum(needle % 1000 * 7919 % 1013 for needle in range(n))  # hot: needle_plan


def _course_digest(n: int, nap: float) -> int:
    digest = 4711
    for course in range(n):
        digest = ((digest << 7) ^ (digest >> 5) ^ course * 31) % 0xFFFFFFFB  # hot: course_digest
    time.sleep(nap)
    return digest


def _lot_order(n: int, nap: float) -> list[int]:
    best: list[int] = []
    time.sleep(nap)
    for _ in range(n):
        best = sorted(_LOTS, key=lambda lot: (lot * 31 % 97, -lot))  # hot: lot_order
    return best


def _draft_variants(n: int, nap: float) -> int:
    parts = 0
    for _variant in range(n):
        draft = copy.deepcopy(_BOM)  # hot: draft_variants
        parts += len(draft)
    time.sleep(nap)
    return parts


def _unknown_articles(n: int, nap: float) -> int:
    unknown = 0
    for delivered in range(n):
        if f"ART-{delivered:09d}" not in _CATALOGUE:  # hot: unknown_articles
            unknown += 1
    time.sleep(nap)
    return unknown


# time.sleep: a printer that warms up, a device that is polled, an export that is tried again.


def _warm_printer(seconds: float, n: int) -> str:
    pixels = sum(dot % 256 * 7 % 11 for dot in range(n))
    time.sleep(seconds)  # hot: warm_printer
    return f"^XA^FO{pixels % 800},20^XZ"


def _poll_cutter(seconds: float, n: int) -> int:
    polls = max(1, round(seconds / 0.006))
    left = polls
    while left > 0:
        time.sleep(seconds / polls)  # hot: poll_cutter
        left -= 1
    return sum(dot % 256 * 7 % 11 for dot in range(n))


def _retry_export(seconds: float, n: int) -> int:
    rows = sum(dot % 256 * 7 % 11 for dot in range(n))
    for attempt in range(3):
        delay = seconds * 2**attempt / 7
        time.sleep(delay)  # hot: retry_export
    return rows


def _pace_labels(seconds: float, n: int) -> int:
    pauses = [seconds / 5] * 5
    printed = list(map(time.sleep, pauses))  # hot: pace_labels
    return len(printed) + sum(dot % 256 * 7 % 11 for dot in range(n))


# A socket: the supplier's system answers late.


@contextmanager
def _supplier(seconds: float) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    theirs.settimeout(PATIENCE)
    clerk = threading.Thread(target=_answer_late, args=(theirs, seconds), name="supplier")
    clerk.start()
    try:
        yield ours
    finally:
        ours.close()
        clerk.join()
        theirs.close()


def _answer_late(line: socket.socket, seconds: float) -> None:
    if line.recv(64):
        time.sleep(seconds)
        line.sendall(b"PRICE 18.94 EUR\n")


def _ask_price(seconds: float, n: int) -> bytes:
    key = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _supplier(seconds) as line:
        line.sendall(b"ASK %d\n" % (key % 1000))
        return line.recv(64)  # hot: ask_price


def _read_price(seconds: float, n: int) -> bytes:
    with _supplier(seconds) as line, line.makefile("rb") as lines:
        line.sendall(b"ASK 4711\n")
        answer = lines.readline()  # hot: read_price
    sum(dot % 256 * 7 % 11 for dot in range(n))
    return answer


def _select_price(seconds: float, n: int) -> bytes:
    key = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _supplier(seconds) as line:
        line.sendall(b"ASK %d\n" % (key % 1000))
        ready = select.select([line], [], [], PATIENCE)[0]  # hot: select_price
        return ready[0].recv(64)


def _sealed_price(dose: tuple[float, int], n: int) -> bytes:
    seconds, turns = dose
    key = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _supplier(seconds) as line:
        line.sendall(b"ASK %d\n" % (key % 1000))
        return hashlib.pbkdf2_hmac("sha256", line.recv(64), b"mill", turns)  # hot: sealed_price


# A lock: another thread holds it.


@contextmanager
def _holder(lock: Any, seconds: float, turns: int = 0) -> Iterator[None]:
    taken = threading.Event()
    other = threading.Thread(target=_hold, args=(lock, taken, seconds, turns), name="nightly")
    other.start()
    try:
        taken.wait(PATIENCE)
        yield
    finally:
        other.join()


def _hold(lock: Any, taken: threading.Event, seconds: float, turns: int) -> None:
    with lock:
        taken.set()
        if turns:
            hashlib.pbkdf2_hmac("sha256", b"nightly", b"mill", turns)
        time.sleep(seconds)


def _reserve_yarn(seconds: float, n: int) -> int:
    stock = threading.Lock()
    kilos = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _holder(stock, seconds), stock:  # hot: reserve_yarn
        kilos += 1
    return kilos


def _book_machine(seconds: float, n: int) -> bool:
    machine = threading.RLock()
    with _holder(machine, seconds):
        booked = machine.acquire(timeout=PATIENCE)  # hot: book_machine
        if booked:
            machine.release()
    sum(dot % 256 * 7 % 11 for dot in range(n))
    return booked


def _take_slot(seconds: float, n: int) -> int:
    slots = threading.BoundedSemaphore(1)
    wanted = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _holder(slots, seconds):
        slots.acquire()  # hot: take_slot
        slots.release()
    return wanted


def _close_month(dose: tuple[float, int], n: int) -> int:
    seconds, turns = dose  # the other thread computes while it holds the lock
    ledger = threading.Lock()
    booked = sum(dot % 256 * 7 % 11 for dot in range(n))
    with _holder(ledger, seconds, turns):
        ledger.acquire()  # hot: close_month
        ledger.release()
    return booked


# C extensions that release the interpreter lock.


def _sheet_hash(n: int, nap: float) -> str:
    digest = ""
    for _ in range(n):
        digest = hashlib.sha256(_SHEET).hexdigest()  # hot: sheet_hash
    time.sleep(nap)
    return digest


def _pack_sheet(n: int, nap: float) -> int:
    size = 0
    time.sleep(nap)
    for _ in range(n):
        size += len(zlib.compress(_LONG_SHEET, 4))  # hot: pack_sheet
    return size


def _pack_archive(n: int, nap: float) -> int:
    size = 0
    for _ in range(n):
        packed = bz2.compress(_SHORT_SHEET)  # hot: pack_archive
        size += len(packed)
    time.sleep(nap)
    return size


def _badge_key(n: int, nap: float) -> str:
    time.sleep(nap)
    key = hashlib.pbkdf2_hmac("sha256", b"shift badge", b"mill", n)  # hot: badge_key
    return key.hex()


# numpy, without the linear algebra that would start threads of its own.


def _season_curve(n: int, nap: float) -> float:
    total = 0.0
    for _ in range(n):
        curve = np.exp(-0.01 * _WEEKS) * np.sqrt(_WEEKS) + np.sin(_WEEKS)  # hot: season_curve
        total += float(curve[-1])
    time.sleep(nap)
    return total


def _rank_articles(n: int, nap: float) -> float:
    time.sleep(nap)
    ranked = _SHUFFLED
    for _ in range(n):
        ranked = np.argsort(_SHUFFLED, kind="stable")  # hot: rank_articles
    return float(ranked[0])


def _smooth_demand(n: int, nap: float) -> float:
    level = 0.0
    for _ in range(n):
        smooth = np.fft.irfft(np.fft.rfft(_DEMAND) * 0.5)  # hot: smooth_demand
        level = float(smooth[0])
    time.sleep(nap)
    return level


def _nearest_gauge(n: int, nap: float) -> float:
    time.sleep(nap)
    for step in range(n):
        gaps = np.abs(_GAUGES[:, None] - _GAUGES[None, :] * 1.01 - step).min(axis=1)  # hot: gauges
    return float(gaps[0])


# Generators: the hot line is in the middle of a pipeline.


def _cone_grams(n: int) -> Iterator[int]:
    for cone in range(n):
        yield sum(turn * cone % 13 for turn in range(150))  # hot: cone_grams


def _plausible(grams: Iterator[int]) -> Iterator[int]:
    for weight in grams:
        if weight >= 0:
            yield weight


def _weigh_cones(n: int, nap: float) -> int:
    time.sleep(nap)
    return sum(weight for weight in _plausible(_cone_grams(n)))


def _barcodes(n: int) -> Iterator[str]:
    for serial in range(n):
        digits = "".join(str((serial + place) * 7 % 10) for place in range(80))  # hot: barcodes
        yield digits


def _label_lines(n: int) -> Iterator[str]:
    yield "^XA"
    yield from _barcodes(n)
    yield "^XZ"


def _print_labels(n: int, nap: float) -> int:
    printed = 0
    for line in _label_lines(n):
        printed += len(line)
    time.sleep(nap)
    return printed


def _delivery_rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        words = shlex.split(line)  # hot: delivery_rows
        yield words


def _read_delivery(n: int, nap: float) -> int:
    time.sleep(nap)
    lines = (_DELIVERY for _ in range(n))
    return max((len(row) for row in _delivery_rows(lines)), default=0)


def _scale_readings(seconds: float) -> Iterator[int]:
    for reading in range(4):
        time.sleep(seconds / 4)  # hot: scale_readings
        yield reading


def _weigh_delivery(seconds: float, n: int) -> int:
    readings = list(_plausible(_scale_readings(seconds)))
    return len(readings) + sum(dot % 256 * 7 % 11 for dot in range(n))


# Coroutines, which compute or await.


async def _best_dye_lot(n: int, nap: float, level: int) -> int:
    if level > 0:
        return await _best_dye_lot(n, nap, level - 1)
    await asyncio.sleep(nap)
    return sum(shade % 512 * shade % 257 for shade in range(n))  # hot: best_dye_lot


async def _sign_recipe(n: int, nap: float, level: int) -> str:
    if level > 0:
        return await _sign_recipe(n, nap, level - 1)
    text = ""
    for _ in range(n):
        text = json.dumps(_ORDER, indent=2, sort_keys=True)  # hot: sign_recipe
    await asyncio.sleep(nap)
    return text[:8]


async def _dye_queue(seconds: float, n: int, level: int) -> int:
    if level > 0:
        return await _dye_queue(seconds, n, level - 1)
    place = sum(dot % 256 * 7 % 11 for dot in range(n))
    await asyncio.sleep(seconds)  # hot: dye_queue
    return place


async def _vat_ready(seconds: float, n: int, level: int) -> int:
    if level > 0:
        return await _vat_ready(seconds, n, level - 1)
    ready = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ready.set)
    await ready.wait()  # hot: vat_ready
    return sum(dot % 256 * 7 % 11 for dot in range(n))


# Recursion: the hot line is at the bottom, or in every level.


def _explode_bom(n: int, nap: float, level: int) -> int:
    if level > 0:
        parts = _explode_bom(n, nap, level - 1)
        return parts + level
    time.sleep(nap)
    return sum(part * 17 % 101 for part in range(n))  # hot: explode_bom


def _roll_up_cost(n: int, nap: float, level: int) -> int:
    share = n // (level + 1)
    cost = sum(minute * 23 % 59 for minute in range(share))  # hot: roll_up_cost
    if level == 0:
        time.sleep(nap)
        return cost
    return cost + _roll_up_cost(n - share, nap, level - 1)


def _machine_load(n: int, nap: float, level: int) -> int:
    if level <= 0:
        time.sleep(nap)
    return _feeder_load(n, nap, level - 1) + 1


def _feeder_load(n: int, nap: float, level: int) -> int:
    if level >= 0:
        return _machine_load(n, nap, level - 1) + 1
    load = 0
    for turn in range(n):
        load = ((load << 3) ^ (load >> 2) ^ turn * 2654435761) % 0xFFFFFFFB  # hot: feeder_load
    return load


def _where_used(n: int, nap: float, level: int) -> int:
    if level == 0:
        return sum(article * 29 % 83 for article in range(n))  # hot: where_used
    if level > 3:
        return _where_used(n, nap, level - 1)
    if nap:
        time.sleep(nap)
    return _where_used(n // 2, 0.0, level - 1) + _where_used(n - n // 2, 0.0, level - 1)


def _approve(seconds: float, n: int, level: int) -> int:
    if level > 0:
        return _approve(seconds, n, level - 1)
    rows = sum(dot % 256 * 7 % 11 for dot in range(n))
    time.sleep(seconds)  # hot: approve
    return rows


# What takes the rest of the time, one line each.


def _stitch_total(n: int) -> int:
    return sum(row % 256 * 7 % 11 for row in range(n))


def _article_slugs(n: int) -> str:
    slug = ""
    for _ in range(n):
        slug = _NOT_WORD.sub("-", _TITLE.lower()).strip("-").replace("no", "nr")
    return slug


def _order_json(n: int) -> str:
    text = ""
    for _ in range(n):
        text = json.dumps(_ORDER)
    return text


def _net_prices(n: int) -> Decimal:
    total = Decimal(0)
    for _ in range(n):
        total = (_PRICE * 3 / 7 * 5 / 3 * 7 / 5).quantize(_CENT)
    return total


def _sheet_check(n: int) -> int:
    check = 0
    for _ in range(n):
        check = zlib.adler32(_LONG_SHEET, check)
    return check


def _stock_curve(n: int) -> float:
    last = 0.0
    for _ in range(n):
        last = np.cumsum(_DEMAND)[-1]
    return float(last)


def _settle_scale(seconds: float) -> None:
    time.sleep(seconds)


def _await_reader(seconds: float) -> bool:
    return threading.Event().wait(seconds)


def _await_tray(seconds: float) -> str:
    time.sleep(seconds)
    return "tray 2"


# What stands between a view and its work.


def _in_tenant(work: Callable[[], Any]) -> Any:
    return work()


def _audited(work: Callable[[], Any]) -> Any:
    with nullcontext("audit"):
        return work()


def _allowed(work: Callable[[], Any], role: str = "planner") -> Any:
    if role not in ("planner", "foreman"):
        raise PermissionError(role)
    return work()


def _retried(work: Callable[[], Any]) -> Any:
    for _attempt in range(3):
        try:
            return work()
        except ConnectionError:
            continue
    raise ConnectionError("three times in vain")


def _layered(work: Callable[[], Any], depth: int) -> Callable[[], Any]:
    for layer in range(depth):
        around = (_in_tenant, _audited, _allowed, _retried)[layer % 4]
        work = functools.partial(around, work)
    return work


# How all this is made to take as long as planned.


@dataclass(frozen=True)
class _Job:
    # `run` takes its dose, in iterations if it computes and in seconds if it waits. Work with a hot
    # line takes a second dose for the line beside it, which waits if the hot one computes and
    # computes if it waits.
    run: Callable[..., Any]
    marker: str = ""
    running: float = 1.0
    nested: bool = False  # `run` takes its depth
    held_by_work: bool = False  # the lock's holder computes for half the time


_HOT: dict[str, tuple[_Job, ...]] = {
    "own_cpu": (
        _Job(_needle_plan, "needle_plan"),
        _Job(_course_digest, "course_digest"),
        _Job(_lot_order, "lot_order"),
        _Job(_draft_variants, "draft_variants"),
        _Job(_unknown_articles, "unknown_articles"),
    ),
    "sleep": (
        _Job(_warm_printer, "warm_printer", 0.0),
        _Job(_poll_cutter, "poll_cutter", 0.0),
        _Job(_retry_export, "retry_export", 0.0),
        _Job(_pace_labels, "pace_labels", 0.0),
    ),
    "socket": (
        _Job(_ask_price, "ask_price", 0.0),
        _Job(_read_price, "read_price", 0.0),
        _Job(_select_price, "select_price", 0.0),
        _Job(_sealed_price, "sealed_price", 0.3),
    ),
    "lock": (
        _Job(_reserve_yarn, "reserve_yarn", 0.0),
        _Job(_book_machine, "book_machine", 0.0),
        _Job(_take_slot, "take_slot", 0.0),
        _Job(_close_month, "close_month", 0.0, held_by_work=True),
    ),
    "c_extension": (
        _Job(_sheet_hash, "sheet_hash"),
        _Job(_pack_sheet, "pack_sheet"),
        _Job(_pack_archive, "pack_archive"),
        _Job(_badge_key, "badge_key"),
    ),
    "numpy": (
        _Job(_season_curve, "season_curve"),
        _Job(_rank_articles, "rank_articles"),
        _Job(_smooth_demand, "smooth_demand"),
        _Job(_nearest_gauge, "gauges"),
    ),
    "generator": (
        _Job(_weigh_cones, "cone_grams"),
        _Job(_print_labels, "barcodes"),
        _Job(_read_delivery, "delivery_rows"),
        _Job(_weigh_delivery, "scale_readings", 0.0),
    ),
    "async": (
        _Job(_best_dye_lot, "best_dye_lot", nested=True),
        _Job(_sign_recipe, "sign_recipe", nested=True),
        _Job(_dye_queue, "dye_queue", 0.0, nested=True),
        _Job(_vat_ready, "vat_ready", 0.0, nested=True),
    ),
    "recursion": (
        _Job(_explode_bom, "explode_bom", nested=True),
        _Job(_roll_up_cost, "roll_up_cost", nested=True),
        _Job(_machine_load, "feeder_load", nested=True),
        _Job(_where_used, "where_used", nested=True),
        _Job(_approve, "approve", 0.0, nested=True),
    ),
}
_STITCHES = _Job(_stitch_total)
_SEAL = _Job(_badge_key, "badge_key")
_DECOYS = (
    _STITCHES,
    _Job(_article_slugs),
    _Job(_order_json),
    _Job(_net_prices),
    _Job(_sheet_check),
    _Job(_stock_curve),
    _Job(_settle_scale, running=0.0),
    _Job(_await_reader, running=0.0),
    _Job(_await_tray, running=0.0),
)

_RATES: dict[str, float] = {}  # iterations per second, by the name of the function


def _count(job: _Job, seconds: float) -> int:
    """How many iterations of the job take so many seconds of CPU."""
    name = job.run.__name__
    if name not in _RATES:
        _RATES[name] = _measured(job)
    return max(1, round(_RATES[name] * seconds))


def _measured(job: _Job) -> float:
    iterations, taken = 1, _timed(job, 1)
    while taken < 0.010:
        iterations = iterations * 2 if taken < 0.004 else round(iterations * 0.0115 / taken) + 1
        taken = _timed(job, iterations)
    return iterations / sorted([taken, _timed(job, iterations), _timed(job, iterations)])[1]


def _timed(job: _Job, iterations: int) -> float:
    work = _call(job, iterations, 0.0, 0)
    started = time.thread_time()
    result = work()
    if asyncio.iscoroutine(result):
        _drive(result)
    return time.thread_time() - started


def _drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits, without a loop."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value


def _call(job: _Job, dose: Any, beside: float, level: int) -> Callable[[], Any]:
    if not job.marker:
        return functools.partial(job.run, dose)
    if job.nested:
        return functools.partial(job.run, dose, beside, level)
    return functools.partial(job.run, dose, beside)


def _taking(job: _Job, seconds: float, beside: float = 0.0, level: int = 0) -> Callable[[], Any]:
    """A call of the job that takes so many seconds, and so many in the line beside the hot one."""
    if job.running == 1.0:
        return _call(job, _count(job, seconds), beside, level)
    dose: Any = seconds
    if job.running > 0.0:
        computing = seconds * job.running
        dose = (seconds - computing, _count(_SEAL, computing))
    elif job.held_by_work:
        dose = (seconds / 2, _count(_SEAL, seconds / 2))
    return _call(job, dose, _count(_STITCHES, beside) if beside else 0, level)


@dataclass(frozen=True)
class _Burst:
    work: Callable[[], Any]
    rest: list[Callable[[], Any]] = field(default_factory=list)


# The views.


def _by_turns(bursts: list[_Burst]) -> Callable[[], str]:
    def view() -> str:
        answer: Any = None
        for burst in bursts:
            answer = burst.work()
            for step in burst.rest:
                step()
        return f"done: {answer}"

    return view


def _rest_first(bursts: list[_Burst]) -> Callable[[], str]:
    def prepare() -> int:
        return sum(1 for burst in bursts for step in burst.rest if step() != "never")

    def view() -> str:
        prepared = prepare()
        answers = [burst.work() for burst in bursts]
        return f"prepared {prepared}: {answers[-1]}"

    return view


class _Desk:
    def __init__(self, bursts: list[_Burst]) -> None:
        self.bursts = bursts

    def finish(self, burst: _Burst) -> None:
        for step in burst.rest:
            step()

    def handle(self) -> str:
        answer: Any = None
        for burst in reversed(self.bursts):
            self.finish(burst)
            answer = burst.work()
        return str(answer)


def _at_a_desk(bursts: list[_Burst]) -> Callable[[], str]:
    def view() -> str:
        return _Desk(bursts).handle()

    return view


def _in_a_loop(bursts: list[_Burst]) -> Callable[[], Awaitable[str]]:
    async def view() -> str:
        answer: Any = None
        for burst in bursts:
            for step in burst.rest:
                step()
            answer = await burst.work()
        return f"done: {answer}"

    return view


def cases(seed: int) -> list[Case]:
    """The nine cases of a seed, one of each kind; the same seed gives the same cases.

    The first call in a process takes up to two seconds, in which it measures how fast the work is.
    """
    rng = random.Random(seed)
    return [_case(kind, seed, rng) for kind in KINDS]


def _case(kind: str, seed: int, rng: random.Random) -> Case:
    # The functions take turns, so that ten seeds in a row see each of them.
    candidates, turn = _HOT[kind], seed + KINDS.index(kind)
    if kind == "async":
        candidates = tuple(job for job in candidates if (job.running == 1.0) == (seed % 2 == 0))
        turn = seed // 2
    hot = candidates[turn % len(candidates)]
    if 0.0 < hot.running < 1.0:
        hot = replace(hot, running=round(rng.uniform(0.22, 0.42), 2))

    wall = rng.uniform(*WALL)
    least, most, largest = COMPUTING if hot.running == 1.0 else WAITING
    share = rng.uniform(least, most)
    decoys = _decoys(kind, hot, rng)
    shares = _spread(1.0 - share, len(decoys) + 1, largest, rng)
    beside = shares.pop()

    rounds = rng.randint(1, 4)
    level = rng.randint(10, 60) if kind == "recursion" else rng.randint(0, 8)
    depth = rng.randint(0, 7) if kind != "async" else 0
    bursts = [
        _Burst(_layered(_taking(hot, wall * share / rounds, wall * beside / rounds, level), depth))
        for _ in range(rounds)
    ]
    for decoy, its_share in zip(decoys, shares, strict=True):
        step = _taking(decoy, wall * its_share, level=rng.randint(0, 12))
        rng.choice(bursts).rest.append(_layered(step, rng.randint(0, 4)))

    shape = rng.choice((_by_turns, _rest_first, _at_a_desk))
    view: Callable[[], Any] = _in_a_loop(bursts) if kind == "async" else shape(bursts)
    name = f"{kind}_{hot.marker}_{seed}".replace("-", "minus_")
    view.__name__ = view.__qualname__ = name
    return Case(name, kind, view, (hot.marker,), hot.running)


def _decoys(kind: str, hot: _Job, rng: random.Random) -> list[_Job]:
    """Two to four jobs, at least one of which does the opposite of the hot line."""
    opposite = [job for job in _DECOYS if (job.running == 1.0) != (hot.running == 1.0)]
    chosen = [rng.choice(opposite)]
    others = [job for job in _DECOYS if job not in chosen]
    chosen += rng.sample(others, rng.randint(1, 3))
    if kind != "async" and rng.random() < 0.5:
        chosen[-1] = rng.choice([job for job in _HOT[kind] if job.marker != hot.marker])
    rng.shuffle(chosen)
    return chosen


def _spread(whole: float, parts: int, largest: float, rng: random.Random) -> list[float]:
    while True:
        weights = [rng.uniform(0.5, 1.5) for _ in range(parts)]
        shares = [whole * weight / sum(weights) for weight in weights]
        if max(shares) <= largest:
            return shares
