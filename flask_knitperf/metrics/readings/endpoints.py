"""Readings of endpoints: takes apart the labels of every meter that begins with endpoint and method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import catalogue
from ..catalogue import ConversationEnd, ConversationKind, LeakFigure, Queueing, When
from ..histogram_batch import Batch
from ..instruments import Meter
from ..totals import NOTHING, By, Pair, Row, Tally, Totals
from .rows import (
    ConversationReading,
    EndpointReading,
    FileReading,
    GCReading,
    LeakReading,
    PartReading,
    QueueingReading,
    RepeatReading,
    RequestHistograms,
    SizeReading,
    StatementReading,
    WaitReading,
)

_REQUESTS: dict[str, frozenset[str] | None] = {
    "every": None,
    "first": frozenset({When.FIRST}),
    "solo": frozenset({When.SOLO}),
    "concurrent": frozenset({When.CONCURRENT}),
    "warm": frozenset({When.SOLO, When.CONCURRENT}),
}
"""Labels ``when`` of the requests in each histogram of an endpoint, by its field."""
_CONVERSATIONS: dict[str, frozenset[str] | None] = {
    kind.value: frozenset({kind.value}) for kind in ConversationKind
}
"""Labels ``kind`` of the conversations in each histogram of an endpoint, by that kind."""
_QUEUEING: dict[str, frozenset[str] | None] = {
    kind.value: frozenset({kind.value}) for kind in Queueing
}
"""Labels ``queueing`` of the requests in each histogram of an endpoint, by that label."""
_SEEN_BY = frozenset(
    meter.name
    for meter in (
        catalogue.REQUEST,
        catalogue.KILLED,
        catalogue.DISCONNECTED,
        catalogue.IN_FLIGHT,
        catalogue.CONVERSATION,
    )
)
"""Meters of which any makes an endpoint known."""
_ALL: dict[str, frozenset[str] | None] = {"all": None}


class EndpointReadings:
    """Builds the readings of all endpoints.

    Args:
        totals: of a run or of a window of one.

    Attributes:
        rows: every endpoint and method with any request, finished or not.
    """

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        pairs = totals.pairs
        known = {
            pair: by
            for pair, by in pairs.items()
            if not by.keys().isdisjoint(_SEEN_BY) and pair[1] != catalogue.JOB_METHOD
        }
        name = catalogue.REQUEST.name
        self._sums = totals.sums([by.get(name, ()) for by in known.values()], _REQUESTS)
        histograms = zip(*(self._sums[name].histograms for name in _REQUESTS), strict=True)
        self.rows = [
            self._endpoint(pair, by, RequestHistograms._make(own))
            for (pair, by), own in zip(known.items(), histograms, strict=True)
        ]
        rows = list(zip(self.rows, known.values(), strict=True))
        self._add_file_reads(rows)
        self._add_waits(rows)
        self._add_statements(rows)
        self._add_conversations(rows)
        self._add_queueing(rows)
        by_pair = {(row.endpoint, row.method): row for row in self.rows}
        for pair, sizes in self._sizes().items():
            if pair in by_pair:
                by_pair[pair].sizes = sizes
        for pair, suspicions in leaks(totals).items():
            if pair in by_pair:
                by_pair[pair].leaks = suspicions

    def every_batch(self) -> Batch:
        """Return the histograms ``every`` of the rows, for statistics in one pass."""
        return self._sums["every"].batch()

    def warm_batch(self) -> Batch:
        """Return the histograms ``warm`` of the rows, for statistics in one pass."""
        return self._sums["warm"].batch()

    def _endpoint(self, pair: Pair, by: By, requests: RequestHistograms) -> EndpointReading:
        totals = self._totals

        def tally(meter: Meter) -> Tally:
            rows = by.get(meter.name)
            return totals.tally(rows) if rows else NOTHING

        status, failed = dict[str, int](), dict[str, int]()
        for (label, _), data in totals.tallied(by.get(catalogue.REQUEST.name, ())):
            status_class = f"{label[0]}xx" if label[:1].isdigit() else label
            status[status_class] = status.get(status_class, 0) + data.count
            if status_class == catalogue.StatusClass.SERVER_ERROR:
                failed[label] = failed.get(label, 0) + data.count
        in_flight = by.get(catalogue.IN_FLIGHT.name)
        return EndpointReading(
            *pair,
            requests=requests,
            status=status,
            failed=failed,
            in_flight=self._in_flight(in_flight) if in_flight else 0.0,
            killed=tally(catalogue.KILLED),
            disconnected=tally(catalogue.DISCONNECTED),
            cpu=tally(catalogue.CPU),
            sampled_wall=tally(catalogue.SAMPLED_WALL),
            run_queue=tally(catalogue.RUN_QUEUE),
            contention=tally(catalogue.CONTENTION),
            gc=tally(catalogue.GC),
            gc_own=tally(catalogue.GC_OWN),
            bytes_out=tally(catalogue.BYTES_OUT),
            streamed=tally(catalogue.STREAMED),
            parts=self._parts(by),
        )

    def _in_flight(self, rows: Sequence[Row]) -> float:
        """Return the requests in flight of all workers; a gauge may fall below zero for a moment."""
        return sum(max(0.0, value) for value in self._totals.gauges(rows).values())

    def _parts(self, by: By) -> list[PartReading]:
        if catalogue.PART.name not in by:
            return []
        walls, sampled_walls, sampled_cpus = (
            self._totals.tallies(by.get(meter.name, ()))
            for meter in (catalogue.PART, catalogue.PART_WALL, catalogue.PART_CPU)
        )
        return [
            PartReading(
                name, wall, sampled_walls.get(name, NOTHING), sampled_cpus.get(name, NOTHING)
            )
            for name, wall in walls.items()
        ]

    def _add_file_reads(self, rows: Iterable[tuple[EndpointReading, By]]) -> None:
        """Complete the rows of endpoints that read files."""
        totals = self._totals
        for row, by in rows:
            if reads := by.get(catalogue.FILE_READ.name):
                row.file_reads = [
                    FileReading(path, where, state, data)
                    for (path, where, state), data in totals.tallied(reads)
                ]
                row.file_bytes = totals.tallies(by.get(catalogue.FILE_READ_BYTES.name, ()))
                row.file_rows = totals.tallies(by.get(catalogue.FILE_READ_ROWS.name, ()))

    def _add_waits(self, rows: Iterable[tuple[EndpointReading, By]]) -> None:
        """Complete the rows of endpoints that wait for something that has a name."""
        for row, by in rows:
            if waits := by.get(catalogue.WAIT.name):
                row.waits = [
                    WaitReading(part, where, thread, data)
                    for (part, where, thread), data in self._totals.tallied(waits)
                ]

    def _add_conversations(self, rows: Iterable[tuple[EndpointReading, By]]) -> None:
        """Complete the rows of endpoints with websockets and long polls."""
        name, totals = catalogue.CONVERSATION.name, self._totals
        holding = [(row, by[name]) for row, by in rows if name in by]
        if not holding:
            return
        sums = totals.sums([series for _, series in holding], _CONVERSATIONS)
        for number, (row, series) in enumerate(holding):
            ends = {labels: data.count for labels, data in totals.tallied(series)}
            row.conversations = [
                ConversationReading(kind, lengths, ends.get((ConversationEnd.FAILED, kind), 0))
                for kind in _CONVERSATIONS
                if (lengths := sums[kind].histograms[number]).count
            ]

    def _add_queueing(self, rows: Iterable[tuple[EndpointReading, By]]) -> None:
        """Complete the rows of endpoints with sampled slow requests."""
        name = catalogue.QUEUEING.name
        holding = [(row, by[name]) for row, by in rows if name in by]
        if not holding:
            return
        sums = self._totals.sums([series for _, series in holding], _QUEUEING)
        histograms = zip(*(sums[key].histograms for key in _QUEUEING), strict=True)
        for (row, _), (included, excluded) in zip(holding, histograms, strict=True):
            row.queueing = QueueingReading(included, excluded)

    def _add_statements(self, rows: Iterable[tuple[EndpointReading, By]]) -> None:
        """Complete the rows of endpoints that send statements."""
        sending = [(row, by) for row, by in rows if catalogue.QUERY_AT.name in by]
        if not sending:
            return
        name = catalogue.QUERIES.name
        numbers = self._totals.sums([by.get(name, ()) for _, by in sending], _ALL)["all"].histograms
        for (row, by), queries in zip(sending, numbers, strict=True):
            row.queries = queries
            row.statements = [
                StatementReading(fingerprint, where, data)
                for (fingerprint, where), data in self._totals.tallied(
                    by.get(catalogue.QUERY_AT.name, ())
                )
            ]
            row.statement_rows = self._totals.tallies(by.get(catalogue.QUERY_ROWS.name, ()))
            row.repeats = [
                RepeatReading(kind, fingerprint, where, source, data)
                for (kind, fingerprint, where, source), data in self._totals.tallied(
                    by.get(catalogue.REPEATED.name, ())
                )
            ]
            row.repeating, row.repeating_bound = (
                {
                    (kind, fingerprint, where): data
                    for (kind, fingerprint, where), data in self._totals.tallied(by.get(name, ()))
                }
                for name in (catalogue.REPEATING.name, catalogue.REPEATING_BOUND.name)
            )

    def _sizes(self) -> dict[Pair, list[SizeReading]]:
        """Return requests by class of rows, by endpoint."""
        series = self._totals.rows(catalogue.BY_ROWS.name)
        if not series:
            return {}
        requests = self._totals.sums([(row,) for row in series], _ALL)["all"].histograms
        rows = {
            row[0]: self._totals.tally((row,)).mean
            for row in self._totals.rows(catalogue.ROWS.name)
        }
        sizes: dict[Pair, list[SizeReading]] = {}
        for (labels, _), histogram in zip(series, requests, strict=True):
            endpoint, method, name = labels
            if histogram.count and (mean := rows.get(labels)):
                sizes.setdefault((endpoint, method), []).append(SizeReading(name, mean, histogram))
        return sizes


def gc(totals: Totals) -> list[GCReading]:
    """Return garbage collection pauses by endpoint and method."""
    request, pauses, own = (
        meter.name for meter in (catalogue.REQUEST, catalogue.GC, catalogue.GC_OWN)
    )
    return [
        GCReading(*pair, *(totals.tally(by.get(name, ())) for name in (request, pauses, own)))
        for pair, by in totals.pairs.items()
        if request in by
    ]


def leaks(totals: Totals) -> dict[Pair, dict[str, LeakReading]]:
    """Return the endpoints that workers suspect of a leak, or did until they cleared them, by worker."""
    figures: dict[Pair, dict[str, dict[str, float]]] = {}
    for (endpoint, method, figure), row in totals.rows(catalogue.LEAK.name):
        by_worker = figures.setdefault((endpoint, method), {})
        for worker, value in totals.gauges((((), row),)).items():
            by_worker.setdefault(worker, {})[figure] = value
    return {
        pair: {
            worker: LeakReading(*(values.get(figure, 0.0) for figure in LeakFigure))
            for worker, values in by_worker.items()
        }
        for pair, by_worker in figures.items()
    }
