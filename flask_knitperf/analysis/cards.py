"""Cards: what to fix first, one entry for each thing that can be fixed.

Findings are verdicts on one endpoint and of one type. Cards merge them: those of one endpoint; endpoints
that always fail; endpoints whose time goes mostly into the same line of code or the same hook; and above
all, where there are too few CPU cores, the machine. Every finding is on exactly one card.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .causes import HOOK_CAUSES, Cause, why
from .endpoints import Endpoint
from .failures import FailureGroup, failure_groups
from .findings import Finding
from .hooks import Hook, hooks, is_hook, wording
from .judged import MAJORITY, SEVERITIES, Severity
from .latency import LATENCY_TYPES
from .overload import Overload
from .phrases import count, duration, percent, title
from .queued_endpoints import queued_endpoints
from .repeated_queries import with_repeats

_NO_TIME = frozenset({"LOW_SUCCESS_RATE", "REQUEST_KILLED", "LEAK_SUSPECTED", "LARGE_RESPONSE"})
"""Types of findings that are not about an endpoint's time, so that its causes explain nothing."""
_BROKEN = frozenset({"LOW_SUCCESS_RATE", "REQUEST_KILLED", "LEAK_SUSPECTED"})
"""Types of findings that come before those on time."""
_NARROWER = {"gc": "GC_PAUSES", "file_read": "REPEATED_FILE_READ"}
"""Type of finding that has the advice for a cause of slow requests."""
MAX_NAMED = 3
"""Endpoints that a sentence names."""
MIN_SOURCE_SHARE = 0.1
"""Share of the time of a cause, below which its line is not the one to look at."""

CardKind = Literal["machine", "endpoint", "line", "hook", "failures"]


class Point(NamedTuple):
    """One statement of a card.

    Attributes:
        text: a sentence.
        recommendation: what to do, empty where another point has it.
        finding: the finding that it summarises, ``None`` where it summarises several or none.
    """

    text: str
    recommendation: str = ""
    finding: Finding | None = None


class Share(NamedTuple):
    """An endpoint that a card is about.

    Attributes:
        row: the endpoint.
        share: of its time that the card is about, 0 to 1; ``None`` where it is not about time.
    """

    row: Endpoint
    share: float | None = None


class Source(NamedTuple):
    """The line of code in which most of the time goes.

    Attributes:
        where: ``file:line``.
        share: of the time, 0 to 1.
        function: its function, ``None`` where it was not sampled.
        calls: library function in which most of that time is spent, ``None`` without one.
    """

    where: str
    share: float
    function: str | None = None
    calls: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """One thing to fix.

    Attributes:
        kind: what it is about.
        severity: the worst of its findings.
        title: one sentence without a full stop.
        points: statements, the most important first.
        endpoints: those that it is about, most expensive first.
        findings: those that it merges.
        causes: division of the time of its endpoint, largest first; empty for several endpoints.
        source: the line to look at, ``None`` where none is known.
        time_spent_s: seconds of requests that it is about.
        saving_s: seconds that following its advice saves, ``None`` where that is not known.
        at_most: whether that is an upper bound.
    """

    kind: CardKind
    severity: Severity
    title: str
    points: list[Point]
    endpoints: list[Share]
    findings: list[Finding] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    source: Source | None = None
    time_spent_s: float = 0.0
    saving_s: float | None = None
    at_most: bool = False


def cards(
    findings: Sequence[Finding], rows: Iterable[Endpoint], overloaded: Overload | None
) -> list[Card]:
    """Return the things to fix, in the order of :func:`_rank`; first of all the machine.

    Args:
        findings: of :func:`.findings.findings`.
        rows: of :func:`.endpoints.endpoints`.
        overloaded: of :func:`.overload.overload`.
    """
    known = list(rows)
    builder = _Builder(findings, known)
    builder.add_failures()
    builder.add_shared(hooks(known))
    builder.add_endpoints()
    placed = sorted(builder.cards, key=lambda card: (*_rank(card), builder.position(card)))
    queued = [] if overloaded is None else queued_endpoints(known)
    matters = queued or any(finding.type in LATENCY_TYPES for finding in findings)
    if overloaded is None or not matters:  # every endpoint is fast enough all the same
        return placed
    return [_machine(overloaded, queued), *placed]


class _Builder:
    """Distributes findings over cards.

    Args:
        findings: all of them.
        rows: all endpoints.

    Attributes:
        cards: those built so far.
    """

    def __init__(self, findings: Sequence[Finding], rows: Sequence[Endpoint]) -> None:
        self.cards: list[Card] = []
        self._findings = list(findings)
        self._rows = {(row.endpoint, row.method): row for row in rows}
        self._left = {id(finding): finding for finding in findings}

    def position(self, card: Card) -> float:
        """Return the place of a card: that of its first finding, else behind those as severe."""
        if card.findings:
            chosen = {id(finding) for finding in card.findings}
            return next(i for i, finding in enumerate(self._findings) if id(finding) in chosen)
        rank = SEVERITIES[card.severity]
        return sum(SEVERITIES[finding.severity] <= rank for finding in self._findings) - 0.5

    def _take(self, findings: Iterable[Finding]) -> list[Finding]:
        taken = list(findings)
        for finding in taken:
            del self._left[id(finding)]
        return taken

    def _row(self, finding: Finding) -> Endpoint:
        return self._rows[finding.endpoint, finding.method]

    # -- several endpoints ---------------------------------------------------------------------------

    def add_failures(self) -> None:
        """Add the card of the endpoints that always fail, if there are several."""
        failing = [
            finding for finding in self._left.values()
            if finding.type == "LOW_SUCCESS_RATE" and finding.observed == 0
        ]  # fmt: skip
        if len(failing) > 1:
            groups = failure_groups((self._row(finding), finding) for finding in failing)
            self.cards.append(_failures(groups, self._take(failing)))

    def add_shared(self, timed: Sequence[Hook]) -> None:
        """Add the cards of lines and hooks that take most of the time of several endpoints.

        Args:
            timed: hooks that take a notable share of the time of all requests; each gets a card.
        """
        places: dict[tuple[CardKind, str], dict[tuple[str, str], float]] = {}
        for finding in self._left.values():
            row = self._row(finding)
            place = _place(row) if finding.type in LATENCY_TYPES else None
            if place is not None:
                kind, name, share = place
                places.setdefault((kind, name), {})[row.endpoint, row.method] = share
        for hook in timed:
            shares = places.pop(("hook", hook.part), {})
            self.cards.append(self._hook(hook, shares))
        for (kind, name), shares in places.items():
            if len(shares) > 1:
                self.cards.append(self._shared(kind, name, shares))

    def _absorb(self, shares: Iterable[tuple[str, str]]) -> list[Finding]:
        pairs = set(shares)
        return self._take([
            finding for finding in self._left.values()
            if finding.type in LATENCY_TYPES and (finding.endpoint, finding.method) in pairs
        ])  # fmt: skip

    def _shared(self, kind: CardKind, name: str, shares: dict[tuple[str, str], float]) -> Card:
        findings = self._absorb(shares)
        ends = [Share(self._rows[pair], share) for pair, share in shares.items()]
        ends.sort(key=lambda end: -(end.share or 0.0) * end.row.time_spent_s)
        seconds = sum((end.share or 0.0) * end.row.time_spent_s for end in ends)
        what = (
            f"the {wording(name).noun} {name.partition(':')[2]}" if kind == "hook" else "one line"
        )
        source = _source(ends[0].row, name, ends[0].share or 0.0) if kind == "line" else None
        return Card(
            kind, findings[0].severity,
            f"{count(len(ends), 'endpoint')} spend most of their time in {what}: "
            f"{duration(seconds * 1000)} in total",
            [Point(f"It takes {_shares(ends)}"), *_advice(findings)],
            ends, findings, [], source, seconds, *_saved(findings),
        )  # fmt: skip

    def _hook(self, hook: Hook, shares: dict[tuple[str, str], float]) -> Card:
        findings = self._absorb(shares)
        severity: Severity = findings[0].severity if findings else "INFO"
        ends = [Share(row, share) for row, share in hook.rows]
        words, per_run = hook.wording, duration(hook.seconds / hook.runs * 1000)
        return Card(
            "hook", severity,
            f"The {words.noun} {hook.name} costs {percent(hook.share)} of all request time",
            [Point(f"It runs {words.moment}, {per_run} each time: it takes {_shares(ends)}",
                   words.advice)],
            ends, findings, time_spent_s=hook.seconds, saving_s=hook.seconds, at_most=True,
        )  # fmt: skip

    # -- one endpoint --------------------------------------------------------------------------------

    def add_endpoints(self) -> None:
        """Add a card for each endpoint with any finding that is on no card yet."""
        by_endpoint: dict[tuple[str, str], list[Finding]] = {}
        for finding in self._left.values():
            by_endpoint.setdefault((finding.endpoint, finding.method), []).append(finding)
        for pair, findings in by_endpoint.items():
            self.cards.append(_endpoint(self._rows[pair], self._take(findings)))


def _rank(card: Card) -> tuple[bool, float]:
    """Return the rank of a card: what fails or leaks first, then by the seconds that a repair saves.

    Where no repair is known, the time of the largest cause stands for that.
    """
    broken = any(
        finding.type in _BROKEN and finding.severity != "INFO" for finding in card.findings
    )
    seconds = card.saving_s
    if seconds is None:
        seconds = card.time_spent_s
        if card.kind == "endpoint":
            slow = [finding for finding in card.findings if finding.type in LATENCY_TYPES]
            seconds *= max((finding.why[0].share for finding in slow if finding.why), default=0.0)
    return not broken, -seconds


def _saved(findings: Iterable[Finding]) -> tuple[float | None, bool]:
    """Return the seconds that the repairs of findings save, and whether that is an upper bound."""
    savings = [finding.saving for finding in findings if finding.saving is not None]
    if not savings:
        return None, False
    return sum(saving.seconds for saving in savings), any(saving.at_most for saving in savings)


def _endpoint(row: Endpoint, findings: list[Finding]) -> Card:
    first = findings[0]
    timed = [finding for finding in findings if finding.type not in _NO_TIME]
    of_latency = next((finding for finding in timed if finding.type in LATENCY_TYPES), None)
    causes = of_latency.why if of_latency else with_repeats(row, why(row))[0] if timed else []
    source = _source_of(row, causes) if timed else None
    return Card(
        "endpoint", first.severity, f"{first.subject}: {first.headline}",
        _points(findings, source), [Share(row)], findings, causes, source,
        row.time_spent_s,
        *_saved(findings),
    )  # fmt: skip


def _points(findings: Sequence[Finding], source: Source | None) -> list[Point]:
    """Return the statements of the findings of one endpoint, with each advice once.

    The headline of the first one is the title of the card, and the card has the line.
    """
    types = {finding.type for finding in findings}
    points: list[Point] = []
    for finding in findings:
        headline = f"{finding.headline[:1].upper()}{finding.headline[1:]}." if points else ""
        because = finding.because
        if source is not None:
            because = because.replace(f" ({source.where})", "")
        cause = finding.why[0].cause if finding.why else None
        is_elsewhere = finding.type in LATENCY_TYPES and _NARROWER.get(cause or "") in types
        advice = "" if is_elsewhere else finding.recommendation
        if any(point.recommendation == advice for point in points):
            advice = ""
        points.append(Point(f"{headline} {because}".strip(), advice, finding))
    return points


def _advice(findings: Iterable[Finding]) -> Iterator[Point]:
    """Yield each advice of several findings once."""
    for text in dict.fromkeys(finding.recommendation for finding in findings):
        yield Point("", text)


def _place(row: Endpoint) -> tuple[CardKind, str, float] | None:
    """Return the line or the hook in which an endpoint spends most of its time, and that share."""
    for part in row.parts:
        if is_hook(part.name) and part.share >= MAJORITY:
            return "hook", part.name, part.share
    for cause in why(row):
        if cause.where and cause.cause not in HOOK_CAUSES:
            share = _source(row, cause.where, cause.share).share
            if share >= MAJORITY:
                return "line", cause.where, share
    return None


def _source_of(row: Endpoint, causes: Sequence[Cause]) -> Source | None:
    """Return the line of the largest cause that has one, else the line with most samples, if any."""
    for cause in causes:
        if cause.where and cause.share >= MIN_SOURCE_SHARE:
            return _source(row, cause.where, cause.share)
    return _source(row, row.lines[0].where, 1.0) if row.lines else None


def _source(row: Endpoint, where: str, most: float) -> Source:
    """Return a line with its share of the samples, at most that of its cause."""
    whole = sum(line.total for line in row.lines)
    for line in row.lines:
        if line.where == where and whole:
            return Source(where, min(most, line.total / whole), line.function, line.calls)
    return Source(where, most)


def _shares(ends: Sequence[Share]) -> str:
    """Return the shares of the time of endpoints that a card is about, the first ones by name."""
    named = [
        f"{percent(end.share or 0.0)} of {title(end.row.endpoint)}" for end in ends[:MAX_NAMED]
    ]
    more = len(ends) - len(named)
    return ", ".join(named) + (f" and of {more:,} more." if more else ".")


def _failures(groups: Sequence[FailureGroup], findings: list[Finding]) -> Card:
    rows = [row for group in groups for row in group.rows]
    kinds = ", ".join(group.text for group in groups[:MAX_NAMED])
    more = len(groups) - MAX_NAMED
    return Card(
        "failures", findings[0].severity,
        f"{count(len(rows), 'endpoint')} always fail: {kinds}"
        + (f" and {more:,} more kinds" if more > 0 else ""),
        [Point(f"{group.text}: {_names(group.rows)}.", group.advice) for group in groups],
        [Share(row) for row in rows], findings,
        time_spent_s=sum(row.time_spent_s for row in rows),
    )  # fmt: skip


def _names(rows: Sequence[Endpoint]) -> str:
    named = [title(row.endpoint) for row in rows[:MAX_NAMED]]
    if len(rows) > MAX_NAMED:
        named.append(f"{len(rows) - MAX_NAMED:,} more")
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def _machine(overloaded: Overload, queued: Sequence[Endpoint]) -> Card:
    points = [Point(
        "Requests are ready to run, and no core is free. The findings below leave that time out.",
        "Give the machine more cores, move other programs away, or run fewer workers.",
    )]  # fmt: skip
    if queued:
        verb = "exceeds its threshold" if len(queued) == 1 else "exceed their thresholds"
        points.insert(0, Point(f"{_names(queued)} {verb} only because of it."))
    share = percent(overloaded.share)
    return Card(
        "machine", "CRITICAL" if queued else "WARNING",
        f"This machine lacks CPU cores: {share} of request time is waiting for a free one",
        points, [Share(row, row.run_queue_share) for row in queued],
        time_spent_s=overloaded.queued_s,
    )  # fmt: skip
