"""One row per endpoint and method: everything that was observed of it, in units people read.

The rows are the one place where meter names and label orders are known; verdicts, causes and
findings see rows only. A row exists as soon as anything is known of an endpoint, so that one
which only fails, only hangs or was only ever killed stays in the table.

Two histograms are kept beside the figures: ``every`` (all requests) for what users saw, and
``warm`` (without each worker's first request) for verdicts, so that cold starts are seen and
spoil nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flask_knitperf.core.batch import Batch
from flask_knitperf.core.stacks import Trie
from flask_knitperf.core.stats import Histogram, sums, together
from flask_knitperf.core.table import Table

from .index import Index, Pair
from .lines import LINES, Line
from .patterns import Use
from .reading import FileRead, file_reads

if TYPE_CHECKING:
    from flask_knitperf.core.settings import Settings

MS = 1e6
"""Nanoseconds in a millisecond."""
SECOND = 1e9
"""Nanoseconds in a second."""
BARS = 24
"""Bars of a distribution picture, at most."""
ENOUGH_FOR_P99 = 100
"""Below this many requests the p99 is merely the slowest one, and is not given."""
STATUSES = ("2xx", "3xx", "4xx", "5xx")

Route = tuple[str, str, Iterable[str]]
"""An endpoint, its rule and the methods of that rule."""


@dataclass(frozen=True, slots=True)
class Part:
    """Exclusive time of one kind of part within the requests of an endpoint.

    Attributes:
        name: e.g. ``sql`` or ``section:explode bom``.
        ms: mean per request of the endpoint.
        share: of the endpoint's wall time, 0 to 1; the shares of one row sum to at most 1.
        count: how often the part ran.
        cpu: share of the part's time in which it computed or waited for a core to compute on,
            ``None`` if not measured.
        where: file and line of the function, if known.
    """

    name: str
    ms: float
    share: float
    count: int
    cpu: float | None = None
    where: str | None = None


@dataclass(slots=True)
class Endpoint:
    """What is known of one endpoint and method. Times are milliseconds, shares 0 to 1."""

    endpoint: str
    method: str
    every: Histogram = field(default_factory=Histogram)
    first: Histogram = field(default_factory=Histogram)
    alone: Histogram = field(default_factory=Histogram)
    beside: Histogram = field(default_factory=Histogram)
    warm: Histogram = field(default_factory=Histogram)
    rule: str | None = None
    status: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    in_flight: int = 0
    killed: int = 0
    killed_s: float = 0.0
    disconnected: int = 0
    cpu_share: float | None = None
    ready_share: float = 0.0
    contention_share: float | None = None
    gc_ms: float = 0.0
    parts: list[Part] = field(default_factory=list)
    bytes_out_mean: float | None = None
    excess_s: float = 0.0
    slow_ms: float = 0.0
    moderate_ms: float = 0.0
    reads: list[FileRead] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    sampled: Trie | None = None
    whole_count: int = 0
    whole_bytes_mean: float | None = None
    distribution: dict[str, Any] = field(default_factory=lambda: {"upper_ms": [], "count": []})

    @property
    def count(self) -> int:
        """Finished requests."""
        return self.every.count

    @property
    def failures(self) -> int:
        """Answers of 500 and above, and requests killed by the server."""
        return self.status["5xx"] + self.killed

    @property
    def success_rate(self) -> float | None:
        """Share of requests answered below 500 (a killed one was not)."""
        trials = self.count + self.killed
        return 1 - self.failures / trials if trials else None

    @property
    def mean_ms(self) -> float | None:
        """Mean wall time of a request."""
        return None if self.every.mean is None else self.every.mean / MS

    @property
    def cpu_ms(self) -> float | None:
        """Mean own CPU of a request, ``None`` if not measured (async views)."""
        return None if self.cpu_share is None else self.cpu_share * (self.mean_ms or 0.0)

    @property
    def wait_ms(self) -> float | None:
        """Mean time of a request not on the CPU, ``None`` if not measured."""
        return None if self.cpu_share is None else (1 - self.cpu_share) * (self.mean_ms or 0.0)

    @property
    def time_spent_s(self) -> float:
        """Seconds that all requests took together, killed ones with their age."""
        return self.every.total / SECOND + self.killed_s

    def _lines(self) -> list[dict[str, Any]]:
        """Return the dearest lines of the report's schema."""
        if not self.lines:
            return []
        whole = sum(line.total for line in self.lines)
        return [line.as_dict(whole) for line in self.lines[:LINES]]

    def as_dict(self) -> dict[str, Any]:
        """Return the row of the report's schema."""
        every = self.every
        p50, p95, p99 = every.quantiles((0.5, 0.95, 0.99))
        if every.count < ENOUGH_FOR_P99:
            p99 = None
        return {
            "endpoint": self.endpoint,
            "rule": self.rule,
            "method": self.method,
            "count": self.count,
            "in_flight": self.in_flight,
            "killed": self.killed,
            "disconnected": self.disconnected,
            "status": dict(self.status),
            "success_rate": rounded(self.success_rate, 4),
            "mean_ms": rounded(self.mean_ms),
            "min_ms": in_ms(every.low),
            "max_ms": in_ms(every.high),
            "stddev_ms": in_ms(every.deviation),
            "p50_ms": in_ms(p50),
            "p95_ms": in_ms(p95),
            "p99_ms": in_ms(p99),
            "first_ms": in_ms(self.first.mean),
            "cpu_ms": rounded(self.cpu_ms),
            "wait_ms": rounded(self.wait_ms),
            "ready_ms": None
            if self.cpu_share is None
            else rounded(self.ready_share * (self.mean_ms or 0.0)),
            "gc_ms": rounded(self.gc_ms),
            "parts": [
                {"name": p.name, "ms": round(p.ms, 3), "share": round(p.share, 4), "count": p.count}
                for p in self.parts
            ],
            "bytes_out_mean": rounded(self.bytes_out_mean, 1),
            "lines": self._lines(),
            "patterns": [use.as_dict(self.sampled.total) for use in self.uses if self.sampled],
            "file_reads": [read.as_dict() for read in self.reads],
            "time_spent_s": round(self.time_spent_s, 3),
            "excess_s": round(self.excess_s, 3),
            "thresholds": {"slow_ms": self.slow_ms, "moderate_ms": self.moderate_ms},
            "distribution": self.distribution,
        }


def rounded(value: float | None, digits: int = 3) -> float | None:
    """Return a value rounded, ``None`` staying ``None``."""
    return None if value is None else round(value, digits)


def in_ms(value: float | None) -> float | None:
    """Return nanoseconds as rounded milliseconds, ``None`` staying ``None``."""
    return None if value is None else round(value / MS, 3)


def endpoints(table: Table, settings: Settings, routes: Iterable[Route] = ()) -> list[Endpoint]:
    """Return a row for every endpoint and method that anything was observed of.

    Args:
        table: merged totals of a run, or a window of one.
        settings: for the thresholds above which time counts as excess.
        routes: endpoint, rule and methods of the application's URL map.

    Returns:
        The rows, by ``excess_s``, then time spent, the largest first.
    """
    index, rules, places = Index(table), _rules(routes), function_places(table)
    pairs: set[Pair] = set()
    for meter in ("request", "killed", "disconnected"):
        pairs.update(index.pairs(meter))
    pairs.update(p for p in index.pairs("in_flight") if _in_flight(index, p))
    ordered = sorted(pairs)
    sorted_ = [_by_when(index, pair) for pair in ordered]
    warm = sums([[*alone, *beside] for _, alone, beside in sorted_])
    every = sums([[*each[0], most] for each, most in zip(sorted_, warm, strict=True)])
    found = []
    for pair, whole, most, each in zip(ordered, every, warm, sorted_, strict=True):
        first, alone, beside = [together(group) for group in each]
        found.append(Endpoint(*pair, whole, first, alone, beside, most))
    _work_out(found, settings)
    for row in found:
        _fill(row, index, rules, places)
    kept = [row for row in found if row.count or row.killed or row.disconnected or row.in_flight]
    return sorted(kept, key=lambda row: (-row.excess_s, -row.time_spent_s, row.endpoint))


def _by_when(index: Index, pair: Pair) -> tuple[list[Histogram], list[Histogram], list[Histogram]]:
    """Return what was observed of first requests, of those that ran alone, and of those beside."""
    found: dict[str, list[Histogram]] = {"first": [], "alone": [], "beside": []}
    for (_, when), series in index.rows("request", pair):
        if when in found:
            found[when].append(series.data)
    return found["first"], found["alone"], found["beside"]


def _work_out(rows: list[Endpoint], settings: Settings) -> None:
    """Give rows their thresholds, and work out what will be asked of their histograms."""
    for row in rows:
        budget = settings.budget(row.endpoint)
        row.slow_ms, row.moderate_ms = budget.slow_ms, budget.moderate_ms
    every = Batch([row.every for row in rows])
    every.quantiles((0.5, 0.95, 0.99))
    every.deviations()
    asked = [row for row in rows if len(row.warm.cells[0])]
    warm = Batch([row.warm for row in asked])
    warm.quantiles((0.95,))
    warm.deviations()
    warm.above([row.slow_ms * MS for row in asked])
    warm.above([row.moderate_ms * MS for row in asked])
    warm.excess([row.moderate_ms * MS for row in asked])
    seen = [row for row in rows if len(row.every.cells[0])]
    for row, (upper, count) in zip(seen, every.bars(BARS, MS), strict=True):
        row.distribution = {"upper_ms": upper, "count": count}


def _fill(row: Endpoint, index: Index, rules: dict[Pair, str], places: dict[str, str]) -> None:
    """Complete a row that has its histograms and thresholds."""
    pair = (row.endpoint, row.method)
    row.rule = rules.get(pair) or rules.get((row.endpoint, ""))
    for (status, _), series in index.rows("request", pair):
        row.status[status] = row.status.get(status, 0) + series.data.count
    row.in_flight = _in_flight(index, pair)
    if killed := index.total("killed", pair):
        row.killed, row.killed_s = killed.count, killed.total / SECOND
    if disconnected := index.total("disconnected", pair):
        row.disconnected = disconnected.count
    if sampled := index.total("sampled_wall", pair):
        row.cpu_share = index.share("cpu", sampled, pair)
        row.ready_share = index.share("ready", sampled, pair) or 0.0
        row.contention_share = index.share("contention", sampled, pair)
    if (pauses := index.total("gc", pair)) and row.count:
        row.gc_ms = pauses.total / row.count / MS
    _bytes(row, index, pair)
    if reads := index.rows("file_read", pair):
        sizes, rows = index.rows("file_read_bytes", pair), index.rows("file_read_rows", pair)
        row.reads = file_reads(reads, sizes, rows)
    row.parts = _parts(index, pair, row.every, places)
    if row.reads:
        row.parts = [_at(part, row.reads[0].where) for part in row.parts]
    moderate = row.moderate_ms
    over = row.killed_s - row.killed * moderate / 1000
    row.excess_s = row.warm.excess(moderate * MS) / SECOND + max(0.0, over)


def _bytes(row: Endpoint, index: Index, pair: Pair) -> None:
    """Fill in the sizes of answers: of all, and of those that were sent in one piece."""
    if out := index.total("bytes_out", pair):
        streamed = index.total("streamed", pair)
        count, total = (streamed.count, streamed.total) if streamed else (0, 0)
        row.bytes_out_mean = out.mean
        row.whole_count = out.count - count
        if row.whole_count > 0:
            row.whole_bytes_mean = (out.total - total) / row.whole_count


def _at(part: Part, where: str) -> Part:
    """Return a part of file reads with the line that reads most."""
    return replace(part, where=where or None) if part.name == "file_read" else part


def _parts(index: Index, pair: Pair, every: Histogram, places: dict[str, str]) -> list[Part]:
    """Return the parts, largest first, scaled down where they exceed the whole."""
    if not every.count or every.total <= 0:
        return []
    totals = {labels[0]: series.data for labels, series in index.rows("part", pair)}
    cpu = {labels[0]: series.data.total for labels, series in index.rows("part_cpu", pair)}
    wall = {labels[0]: series.data.total for labels, series in index.rows("part_wall", pair)}
    whole = max(every.total, sum(data.total for data in totals.values()))
    mean_ms = every.total / every.count / MS
    made = []
    for name, data in totals.items():
        if data.count and data.total >= 0:
            share, own = data.total / whole, None
            if name in cpu and wall.get(name, 0) > 0:
                own = min(1.0, max(0.0, cpu[name] / wall[name]))
            where = places.get(name.partition(":")[2])
            made.append(Part(name, share * mean_ms, share, data.count, own, where))
    return sorted(made, key=lambda part: (-part.share, part.name))


def _in_flight(index: Index, pair: Pair) -> int:
    rows = index.rows("in_flight", pair)
    return round(sum(max(0.0, v) for _, series in rows for v in series.gauge.values()))


def _rules(routes: Iterable[Route]) -> dict[Pair, str]:
    """Return the rules by endpoint and method, and by endpoint alone (method ``""``)."""
    rules: dict[Pair, list[str]] = {}
    for endpoint, rule, methods in routes:
        for method in ("", *methods):
            known = rules.setdefault((endpoint, method), [])
            if rule not in known:
                known.append(rule)
    return {pair: ", ".join(known) for pair, known in rules.items()}


def function_places(table: Table) -> dict[str, str]:
    """Return file and line of the profiled functions, by name."""
    return {
        key.labels[0]: key.labels[1]
        for key in table.series
        if key.meter == "function" and len(key.labels) == 2 and key.labels[1]
    }


def functions(table: Table) -> list[dict[str, Any]]:
    """Return a row for each profiled function, by time spent, the largest first."""
    rows = []
    for key, series in table.series.items():
        data = series.data
        if key.meter == "function" and data.count:
            rows.append({
                "name": key.labels[0],
                "where": key.labels[1] or None,
                "count": data.count,
                "mean_ms": in_ms(data.mean),
                "max_ms": in_ms(data.high),
                "p50_ms": in_ms(data.quantile(0.5)),
                "p95_ms": in_ms(data.quantile(0.95)),
                "time_spent_s": round(data.total / SECOND, 3),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (-row["time_spent_s"], row["name"]))


def queue(table: Table) -> dict[str, Any] | None:
    """Return how long requests waited before a worker took them, ``None`` if no proxy says."""
    (made,) = sums([[s.data for key, s in table.series.items() if key.meter == "queue"]])
    if not made.count:
        return None
    return {
        "count": made.count,
        "mean_ms": in_ms(made.mean),
        "p50_ms": in_ms(made.quantile(0.5)),
        "p95_ms": in_ms(made.quantile(0.95)),
        "max_ms": in_ms(made.high),
    }


def coverage(rows: Iterable[Endpoint], routes: Iterable[Route]) -> dict[str, Any]:
    """Return how many of the application's endpoints were seen, and which were not."""
    known = {endpoint for endpoint, _, _ in routes}
    seen = {row.endpoint for row in rows if row.count or row.killed} & known
    return {
        "endpoints_total": len(known),
        "seen": len(seen),
        "unseen": sorted(known - seen),
    }
