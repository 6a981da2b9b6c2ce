"""One row per endpoint and method: everything that was observed of it, in units people read.

The rows are the one place where meter names and label orders are known; verdicts, causes and
findings see rows only. A row exists as soon as anything is known of an endpoint, so that one
which only fails, only hangs or was only ever killed stays in the table.

Two histograms are kept beside the figures: ``every`` (all requests) for what users saw, and
``warm`` (without each worker's first request) for verdicts, so that cold starts are seen and
spoil nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ..metrics.catalogue import StatusClass, When
from ..metrics.histogram import Histogram
from ..metrics.histogram_batch import Batch
from ..metrics.stack_trie import Trie
from ..metrics.totals import NOTHING, By, Pair, Tally, Totals
from .file_reads import FileRead, file_reads
from .hot_lines import Line
from .leaks import Leak, leaks
from .pandas_antipatterns import Use
from .queries import Ask, Repeated, Shapes, asks, repeated
from .scaling import Law, Size, law

if TYPE_CHECKING:
    from ..core.settings import Settings

MS = 1e6
"""Nanoseconds in a millisecond."""
SECOND = 1e9
"""Nanoseconds in a second."""
BARS = 24
"""Bars of a distribution picture, at most."""
LAWS = 40
"""Endpoints of which it is worked out how they grow with their rows, those that take most time."""
STATUSES = tuple(StatusClass)

_SEEN_BY = ("request", "killed", "disconnected", "in_flight")
"""Meters of which any makes an endpoint known."""
_SUMS = {
    "every": None,
    "first": frozenset({When.FIRST}),
    "alone": frozenset({When.SOLO}),
    "beside": frozenset({When.CONCURRENT}),
    "warm": frozenset({When.SOLO, When.CONCURRENT}),
}
"""Histograms of an endpoint, in the order of its fields: which of its requests belong to each."""

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


class Distribution(NamedTuple):
    """Histogram in buckets of equal ratio, fastest first.

    Attributes:
        upper_ms: upper bound of each bucket.
        requests: number in each bucket.
    """

    upper_ms: list[float]
    requests: list[int]


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
    run_queue_share: float = 0.0
    contention_share: float | None = None
    gc_ms: float = 0.0
    gc_own_ms: float = 0.0
    gc_stopped: int = 0
    parts: list[Part] = field(default_factory=list)
    bytes_out_mean: float | None = None
    excess_s: float = 0.0
    slow_ms: float = 0.0
    moderate_ms: float = 0.0
    reads: list[FileRead] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    asked: Histogram = field(default_factory=Histogram)
    repeated: list[Repeated] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    sizes: dict[str, Size] = field(default_factory=dict)
    law: Law | None = None
    leak: Leak | None = None
    sampled: Trie | None = None
    whole_count: int = 0
    whole_bytes_mean: float | None = None
    distribution: Distribution = field(default_factory=lambda: Distribution([], []))

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


def endpoints(totals: Totals, settings: Settings, routes: Iterable[Route] = ()) -> list[Endpoint]:
    """Return a row for every endpoint and method that anything was observed of.

    Args:
        totals: of a run, or of a window of one.
        settings: for the thresholds above which time counts as excess.
        routes: endpoint, rule and methods of the application's URL map.

    Returns:
        The rows, by ``excess_s``, then time spent, the largest first.
    """
    known = {pair: by for pair, by in totals.pairs.items() if not by.keys().isdisjoint(_SEEN_BY)}
    sums = totals.sums([by.get("request", ()) for by in known.values()], _SUMS)
    of_each = zip(*(sums[name].histograms for name in _SUMS), strict=True)
    found = [Endpoint(*pair, *those) for pair, those in zip(known, of_each, strict=True)]
    _work_out(found, sums["every"].batch(), sums["warm"].batch(), settings)
    rules, places, sizes = _rules(routes), function_places(totals), _sizes(totals)
    suspected = leaks(totals)
    for row, by in zip(found, known.values(), strict=True):
        row.sizes = sizes.get((row.endpoint, row.method), {})
        row.leak = suspected.get((row.endpoint, row.method))
        row.rule = _rule(rules.get(row.endpoint, []), row.method)
        _fill(row, totals, by, places)
    _ask(found, totals, known)
    touching = [row for row in found if row.sizes]
    for row in sorted(touching, key=lambda row: -row.time_spent_s)[:LAWS]:
        row.law = law(list(row.sizes.values()))
    kept = [row for row in found if row.count or row.killed or row.disconnected or row.in_flight]
    return sorted(
        kept, key=lambda row: (-row.excess_s, -row.time_spent_s, row.endpoint, row.method)
    )


def _sizes(totals: Totals) -> dict[Pair, dict[str, Size]]:
    """Return requests by how many rows they work on: by endpoint, then by class of rows."""
    known = totals.rows("by_rows")
    sums = (
        totals.sums([(each,) for each in known], {"all": None})["all"].histograms if known else []
    )
    rows = {labels: totals.tally(((labels, row),)).mean for labels, row in totals.rows("rows")}
    found: dict[Pair, dict[str, Size]] = {}
    for (labels, _), requests in zip(known, sums, strict=True):
        endpoint, method, class_ = labels
        mean = rows.get(labels)
        if requests.count and mean:
            found.setdefault((endpoint, method), {})[class_] = Size(mean, requests)
    return found


def _work_out(rows: list[Endpoint], every: Batch, warm: Batch, settings: Settings) -> None:
    """Give rows their thresholds, and work out what will be asked of their histograms."""
    for row in rows:
        budget = settings.budget(row.endpoint)
        row.slow_ms, row.moderate_ms = budget.slow_ms, budget.moderate_ms
    every.quantiles((0.5, 0.95, 0.99))
    every.deviations()
    asked = [row for row in rows if len(row.warm.cells[0])]
    warm.quantiles((0.95,))
    warm.deviations()
    warm.above([row.slow_ms * MS for row in asked])
    warm.above([row.moderate_ms * MS for row in asked])
    warm.excess([row.moderate_ms * MS for row in asked])
    seen = [row for row in rows if len(row.every.cells[0])]
    for row, (upper, count) in zip(seen, every.bars(BARS, MS), strict=True):
        row.distribution = Distribution(upper, count)


def _fill(row: Endpoint, totals: Totals, by: By, places: dict[str, str]) -> None:
    """Complete a row that has its histograms and thresholds."""

    def tally(meter: str) -> Tally:
        rows = by.get(meter)
        return totals.tally(rows) if rows else NOTHING

    for each in by.get("request", ()):
        status = each[0][0]
        row.status[status] = row.status.get(status, 0) + totals.tally((each,)).count
    flying = totals.gauges(by.get("in_flight", ()))
    row.in_flight = round(sum(max(0.0, value) for value in flying.values()))
    killed = tally("killed")
    row.killed, row.killed_s = killed.count, killed.total / SECOND
    row.disconnected = tally("disconnected").count
    sampled = tally("sampled_wall")
    row.cpu_share = _share(tally("cpu"), sampled)
    row.run_queue_share = _share(tally("run_queue"), sampled) or 0.0
    row.contention_share = _share(tally("contention"), sampled)
    if row.count:
        row.gc_ms = tally("gc").total / row.count / MS
        own = tally("gc_own")
        row.gc_own_ms, row.gc_stopped = own.total / row.count / MS, own.count
    _bytes(row, tally("bytes_out"), tally("streamed"))
    if reads := by.get("file_read"):
        sizes, rows = by.get("file_read_bytes", ()), by.get("file_read_rows", ())
        row.reads = file_reads(totals, reads, sizes, rows)
    row.parts = _parts(totals, by, row.every, places)
    if row.reads:
        row.parts = [_at(part, "file_read", row.reads[0].where) for part in row.parts]
    moderate = row.moderate_ms
    over = row.killed_s - row.killed * moderate / 1000
    row.excess_s = row.warm.excess(moderate * MS) / SECOND + max(0.0, over)


def _ask(found: list[Endpoint], totals: Totals, known: Mapping[Pair, By]) -> None:
    """Complete rows by what they ask of databases."""
    shapes = Shapes(totals)
    asking = [(row, by) for row, by in zip(found, known.values(), strict=True) if "query_at" in by]
    if not asking:
        return
    sums = totals.sums([by.get("queries", ()) for _, by in asking], {"all": None})["all"].histograms
    for (row, by), numbers in zip(asking, sums, strict=True):
        row.asks, row.repeated = asks(totals, shapes, by), repeated(totals, shapes, by)
        row.asked = numbers
        if row.asks:
            row.parts = [_at(part, "sql", row.asks[0].where) for part in row.parts]


def _share(part: Tally, whole: Tally) -> float | None:
    """Return a total as a share of a whole, 0 to 1; ``None`` where either is not known."""
    if not part.count or whole.total <= 0:
        return None
    return min(1.0, max(0.0, part.total / whole.total))


def _bytes(row: Endpoint, out: Tally, streamed: Tally) -> None:
    """Fill in the sizes of answers: of all, and of those that were sent in one piece."""
    row.bytes_out_mean = out.mean
    row.whole_count = out.count - streamed.count
    if row.whole_count > 0:
        row.whole_bytes_mean = (out.total - streamed.total) / row.whole_count


def _at(part: Part, name: str, where: str) -> Part:
    """Return a part with the line that takes most of it, if it is that part."""
    return replace(part, where=where or None) if part.name == name else part


def _parts(totals: Totals, by: By, every: Histogram, places: dict[str, str]) -> list[Part]:
    """Return the parts, largest first, scaled down where they exceed the whole."""
    if not every.count or every.total <= 0 or "part" not in by:
        return []
    found, cpu, wall = (
        totals.tallies(by.get(meter, ())) for meter in ("part", "part_cpu", "part_wall")
    )
    whole = max(every.total, sum(tally.total for tally in found.values()))
    mean_ms = every.total / every.count / MS
    made = []
    for name, tally in found.items():
        if tally.count and tally.total >= 0:
            share, own = tally.total / whole, None
            if name in cpu and name in wall and cpu[name].count and wall[name].total > 0:
                own = min(1.0, max(0.0, cpu[name].total / wall[name].total))
            where = places.get(name.partition(":")[2])
            made.append(Part(name, share * mean_ms, share, tally.count, own, where))
    return sorted(made, key=lambda part: (-part.share, part.name))


def _rules(routes: Iterable[Route]) -> dict[str, list[tuple[str, Iterable[str]]]]:
    """Return rules and their methods by endpoint."""
    rules: dict[str, list[tuple[str, Iterable[str]]]] = {}
    for endpoint, rule, methods in routes:
        rules.setdefault(endpoint, []).append((rule, methods))
    return rules


def _rule(known: list[tuple[str, Iterable[str]]], method: str) -> str | None:
    """Return the rules of an endpoint that allow a method, all of them if none does."""
    fitting = [rule for rule, methods in known if method in methods] or [rule for rule, _ in known]
    return ", ".join(dict.fromkeys(fitting)) or None


def function_places(totals: Totals) -> dict[str, str]:
    """Return file and line of the profiled functions, by name."""
    return {
        labels[0]: labels[1]
        for labels, _ in totals.rows("function") if len(labels) == 2 and labels[1]
    }  # fmt: skip


class Function(NamedTuple):
    """A profiled function.

    Attributes:
        name: as it was registered.
        where: file and line, empty where unknown.
        times: of its calls, in nanoseconds.
    """

    name: str
    where: str
    times: Histogram


def functions(totals: Totals) -> list[Function]:
    """Return the profiled functions that were called, largest total time first."""
    known = totals.rows("function")
    sums = totals.sums([(each,) for each in known], {"all": None})["all"].histograms
    rows = [
        Function(name, where, times)
        for ((name, where), _), times in zip(known, sums, strict=True) if times.count
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.times.total, row.name))


def queue(totals: Totals) -> Histogram:
    """Return the times that requests waited before a worker accepted them; empty without a proxy."""
    return totals.histogram(totals.rows("queue"))


class Coverage(NamedTuple):
    """The application's endpoints, and those of them without requests."""

    total: int
    unseen: list[str]

    @property
    def seen(self) -> int:
        """Number of endpoints with requests."""
        return self.total - len(self.unseen)


def coverage(rows: Iterable[Endpoint], routes: Iterable[Route]) -> Coverage:
    """Return which of the application's endpoints have requests."""
    known = {endpoint for endpoint, _, _ in routes}
    seen = {row.endpoint for row in rows if row.count or row.killed}
    return Coverage(len(known), sorted(known - seen))
