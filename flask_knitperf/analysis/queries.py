"""SQL statements of the whole application by fingerprint, with their senders and failures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..metrics.readings import Readings
from .endpoints import Endpoint
from .statements import Fingerprint, Repeat, Statement


class Sender(NamedTuple):
    """An endpoint that sends statements with one fingerprint from one line."""

    endpoint: Endpoint
    statement: Statement


class Repeater(NamedTuple):
    """An endpoint whose requests repeat statements with one fingerprint from one line."""

    endpoint: Endpoint
    repeat: Repeat


@dataclass(slots=True)
class Query:
    """Statements with one fingerprint, over all endpoints.

    Attributes:
        fingerprint: theirs.
        senders: by total time.
        repeaters: by total time.
        failed: number of errors by class of exception, most frequent first.
    """

    fingerprint: Fingerprint
    senders: list[Sender]
    repeaters: list[Repeater]
    failed: dict[str, int]

    @property
    def rows_mean(self) -> float | None:
        """Mean number of rows returned or changed per execution, ``None`` where unknown."""
        counted = [(row.rows, row.count) for _, row in self.senders if row.rows is not None]
        executions = sum(count for _, count in counted)
        return sum(rows * count for rows, count in counted) / executions if executions else None


def queries(readings: Readings, endpoints: Iterable[Endpoint]) -> list[Query]:
    """Return the statements of a window by fingerprint, largest total time first.

    Args:
        readings: of the window.
        endpoints: of :func:`.endpoints.endpoints`.
    """
    senders: dict[str, list[Sender]] = {}
    repeaters: dict[str, list[Repeater]] = {}
    for endpoint in endpoints:
        for statement in endpoint.statements:
            senders.setdefault(statement.fingerprint.id, []).append(Sender(endpoint, statement))
        for repeat in endpoint.repeats:
            repeaters.setdefault(repeat.fingerprint.id, []).append(Repeater(endpoint, repeat))
    rows = [
        Query(
            Fingerprint(name, readings),
            sorted(senders.get(name, []), key=lambda sender: -sender.statement.seconds),
            sorted(repeaters.get(name, []), key=lambda repeater: -repeater.repeat.seconds),
            _most_frequent(readings.statement_failures.get(name, {})),
        )
        for name, times in readings.statement_times.items()
        if times.count
    ]
    return sorted(rows, key=lambda query: (-query.fingerprint.times.total, query.fingerprint.id))


def _most_frequent(failures: dict[str, int]) -> dict[str, int]:
    return dict(sorted(failures.items(), key=lambda item: (-item[1], item[0])))
