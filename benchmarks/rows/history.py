"""Cost and size of the history: a write, an endpoint's rows for 400 days, and windows of it.

A state directory has the totals of a mill whose requests are drawn from log-normal distributions; the
writer takes its time from the benchmark. Times are CPU time of the process, medians. Bytes are those of
rows, with what SQLite needs for each. The quantiles of windows are compared with those of all values
that were drawn.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from flask_knitperf.alerts.rules import DEFAULT_RULES
from flask_knitperf.alerts.watch import AlertWatch, Application
from flask_knitperf.core.clock import Clock
from flask_knitperf.history.databases import SQLite
from flask_knitperf.history.reader import read_parts
from flask_knitperf.history.resolutions import (
    COARSER,
    DAY,
    FINEST,
    HOUR,
    MINUTES,
    RESOLUTIONS,
    Stretch,
)
from flask_knitperf.history.rows import rows_of
from flask_knitperf.history.schema import prepare
from flask_knitperf.history.slots import by_slot
from flask_knitperf.history.store import Baseline, Store, key_of
from flask_knitperf.history.writer import HistoryWriter
from flask_knitperf.metrics.catalogue import PART, REQUEST
from flask_knitperf.metrics.codec import FORMAT
from flask_knitperf.metrics.columns import Descriptor, Series
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key, Meter
from flask_knitperf.metrics.table import Table, as_columns, encode
from flask_knitperf.storage.state_dir import RETIRED, Snapshot, read
from flask_knitperf.storage.windows import Span

from ..harness.outcome import Grid, Outcome

START = 1_700_000_000 - 1_700_000_000 % HOUR
ENDPOINTS = 250
RATE = 20.0
"""Requests per second of a mill."""
BUSY_RATES = (0.4, 1.0, 20.0)
"""Those of an endpoint that is always busy; the first is the busiest one of a mill."""
ROW_BYTES = 16
"""Bytes of the key and the header of a row in the file of SQLite."""
WRITE_MS, DAY_MS, ENDPOINT_MS, MAX_MB, MAX_ERROR = 30.0, 150.0, 10.0, 4.0, 0.006


class _Mill:
    """A run whose totals grow, and the writer of its history.

    Args:
        folder: for its files.
        endpoints: number of endpoints; each has two series.
    """

    def __init__(self, folder: Path, endpoints: int) -> None:
        self.now = float(START)
        self._run = folder / "state" / "server-1"
        self._run.mkdir(parents=True)
        about = f'{{"format": {FORMAT}, "began": {START}, "number": 1, "release": null}}'
        (self._run / "app.json").write_text(about)
        self.file = folder / "history.sqlite"
        self.database = SQLite(self.file)
        self.writer = HistoryWriter(
            self.database, folder / "state", "host", "bench", self._own,
            Clock(wall=lambda: self.now), 1 << 40,
        )  # fmt: skip
        self._generator = np.random.default_rng(1)
        self._medians = self._generator.lognormal(np.log(30e6), 1.0, endpoints)
        self._series: dict[Key, Series] = {}
        self._keys = [
            [_series(self._series, REQUEST, f"endpoint_{number}", "GET", "2xx", "warm"),
             _series(self._series, PART, f"endpoint_{number}", "GET", "sql")]
            for number in range(endpoints)
        ]  # fmt: skip
        self.values: list[tuple[float, Any]] = []

    def serve(self, requests: int, *, keep: bool = False) -> None:
        """Have each endpoint serve some requests in the ten seconds that pass."""
        self.now += FINEST.seconds
        for number, (whole, part) in enumerate(self._keys):
            values = np.rint(self._medians[number] * self._generator.lognormal(0, 0.5, requests))
            whole.data.include(Histogram.of(values.tolist()))
            part.data.count += requests
            part.data.total += int(values.sum()) // 2
            if keep and number == 0:
                self.values.append((self.now - FINEST.seconds, values))
        table = as_columns(Table(series=self._series))
        (self._run / RETIRED).write_bytes(encode(Table(generation=1), table))

    def _own(self) -> tuple[Path, Snapshot]:
        return self._run, read(self._run)


def _series(all_: dict[Key, Series], meter: Meter, *labels: str) -> Series:
    one = Series(meter.kind, meter.unit, meter.merge)
    all_[Key(meter.name, labels)] = one
    return one


def _cpu_ms(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return (time.process_time() - began) * 1000


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        _judge_write(outcome, Path(folder) / "write", 10 if quick else 60)
        _judge_size(outcome, Path(folder) / "size", 400 if quick else 9000)
        _judge_windows(outcome, Path(folder) / "windows", 5 if quick else 21)
    return outcome


def _judge_write(outcome: Outcome, folder: Path, times: int) -> None:
    """Measure writes of 500 series, and evaluations; every sixth writes a slot of a minute too."""
    mill = _Mill(folder, ENDPOINTS)
    application = Application("mill", None, lambda _: 200.0, lambda _: None)
    watch = AlertWatch("bench", lambda _: list(DEFAULT_RULES), (), application)
    mill.serve(200)
    mill.writer.tick()
    watch.tick(mill.database.connection(), mill.now)
    writes, evaluations = [], []
    for _ in range(times):
        mill.serve(3)
        writes.append(_cpu_ms(mill.writer.tick))
        evaluations.append(_cpu_ms(lambda: watch.tick(mill.database.connection(), mill.now)))
    mill.writer.close()
    write, evaluation = statistics.median(writes), statistics.median(evaluations)
    both = max(map(sum, zip(writes, evaluations, strict=True)))
    outcome.judge(
        "history.tick", "ten seconds, 500 active series: a write, and the evaluation of nine rules, CPU",
        f"≤ {WRITE_MS:.0f} ms",
        f"{write:.1f} + {evaluation:.1f} ms; with a slot of a minute {both:.1f}", both <= WRITE_MS,
    )  # fmt: skip


def _judge_size(outcome: Outcome, folder: Path, ticks: int) -> None:
    """Measure the rows of one endpoint that is always busy, and its quantiles."""
    mill = _Mill(folder, 1)
    for _ in range(ticks):
        mill.serve(round(RATE * FINEST.seconds), keep=True)
        mill.writer.tick()
    _judge_quantiles(outcome, mill)
    mill.writer.close()
    sizes = {rate: _sizes(rate) for rate in BUSY_RATES}
    whole = sum(size for _, size in sizes[BUSY_RATES[0]])
    outcome.judge(
        "history.size", "an endpoint that is always busy, 400 days", f"≤ {MAX_MB:.0f} MB",
        f"{whole:.2f} MB", whole <= MAX_MB,
    )  # fmt: skip
    outcome.grids.append(Grid(
        "Rows of one endpoint: bytes of each, and megabytes while they are kept",
        ("requests/s", "10 s", "1 min", "10 min", "1 h", "all"),
        tuple(
            (f"{rate:g}", *(f"{row:.0f} B, {size:.2f} MB" for row, size in parts),
             f"{sum(size for _, size in parts):.2f} MB")
            for rate, parts in sizes.items()
        ),
    ))  # fmt: skip


def _sizes(rate: float) -> list[tuple[float, float]]:
    """Return the bytes of a row of an endpoint, and the megabytes of all, at each resolution."""
    generator, sizes = np.random.default_rng(1), []
    for resolution in RESOLUTIONS:
        lengths = []
        for _ in range(50):
            series: dict[Key, Series] = {}
            values = generator.lognormal(
                17, 0.5, max(1, generator.poisson(rate * resolution.seconds))
            )
            for meter, label in ((REQUEST, "warm"), (PART, "sql")):
                one = _series(series, meter, "endpoint", "GET", label)
                one.data = Histogram.of(values.round().tolist())
                if meter is PART:
                    one.data = Histogram(one.data.count, one.data.total)
            lengths.append(
                sum(len(row) + ROW_BYTES for row in rows_of(as_columns(Table(series=series)))[1])
            )
        row = statistics.fmean(lengths)
        sizes.append((row, row * resolution.kept_s / resolution.seconds / 1e6))
    return sizes


def _judge_quantiles(outcome: Outcome, mill: _Mill) -> None:
    """Compare quantiles of random windows with those of the values."""
    generator, worst, differ = random.Random(1), 0.0, 0
    with closing(mill.database.open()) as connection:
        store = Store(connection)
        store.load_series()
        for _ in range(50):
            ends = generator.uniform(START + 600, mill.now)
            since = generator.uniform(max(START, ends - 5 * HOUR), ends - 300)
            past = read_parts(store, [Span(since, ends)], mill.now)
            values = np.concatenate([
                drawn for at, drawn in mill.values if past.begins <= at < past.ends
            ])  # fmt: skip
            totals = past.snapshot.totals
            histogram = totals.histogram(totals.rows(REQUEST.name))
            differ += histogram.count != len(values)
            for share in (0.5, 0.95, 0.99):
                exact = float(np.quantile(values, share, method="inverted_cdf"))
                worst = max(worst, abs((histogram.quantile(share) or 0.0) / exact - 1))
    outcome.judge(
        "history.quantiles", "quantiles of 50 random windows, against all their values",
        f"counts equal, within {MAX_ERROR:.1%}",
        f"{50 - differ} of 50 counts equal, within {worst:.2%}", not differ and worst <= MAX_ERROR,
    )  # fmt: skip


def _judge_windows(outcome: Outcome, folder: Path, times: int) -> None:
    """Measure reads of a day: of 200 endpoints, and of one."""
    folder.mkdir()
    database = SQLite(folder / "history.sqlite")
    connection = database.connection()
    prepare(connection)
    store, generator = Store(connection), np.random.default_rng(1)
    for resolution in COARSER:
        requests = max(1, round(RATE * resolution.seconds / 200))
        series: dict[Key, Series] = {}
        for number in range(200):
            one = _series(series, REQUEST, f"endpoint_{number}", "GET", "2xx", "warm")
            one.data = Histogram.of(generator.lognormal(17, 0.6, requests).round().tolist())
        whole = as_columns(Table(series=series))
        active, blobs = rows_of(whole)
        descriptors: list[Descriptor] = [whole.descriptors[row] for row in active.tolist()]
        wanted = [
            (key_of(one), {"unit": one.unit, "merge": one.merge.value}) for one in descriptors
        ]
        with connection.transaction():
            numbers = [number or 0 for number in store.numbers(wanted)]
            for slot in range(START, START + DAY, resolution.seconds):
                store.add(resolution, slot, 1, dict(zip(numbers, blobs, strict=True)), merge=False)
    now = START + DAY
    store.set_baseline(1, "server-1", FINEST, Baseline(now, 0, b""))
    days = [_cpu_ms(lambda: read_parts(store, [Span(START, now)], now)) for _ in range(times)]
    minutes = Stretch(MINUTES, START, now)
    one_day = [
        _cpu_ms(lambda: by_slot(store.rows([minutes], numbers[:1]), 60)) for _ in range(times)
    ]
    database.close()
    for name, what, limit, costs in (
        ("history.day", "a window of 24 hours, 200 endpoints, CPU", DAY_MS, days),
        ("history.endpoint", "one endpoint's day in minutes, CPU", ENDPOINT_MS, one_day),
    ):
        median = statistics.median(costs)
        outcome.judge(name, what, f"≤ {limit:.0f} ms", f"{median:.1f} ms", median <= limit)
