"""Repeated queries of an endpoint (N+1, duplicates) as causes of its time, with price and repair.

The price of a repeat is the time that one query in place of all would have saved. It was recorded as
time in the database and of the code that sends the queries: of the view, a template or a section.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from ..metrics.catalogue import RepeatKind, RepeatSource
from .causes import HOOK_CAUSES, MIN_CAUSE_SHARE, Cause, CauseName, floor, is_named_wait
from .endpoints import Endpoint
from .judged import MIN_REQUESTS
from .phrases import count, quoted
from .statements import Repeat

_REMEMBER = "Run the query once and keep its result for the request."
REPAIRS: dict[tuple[str, str], str] = {
    (RepeatKind.N_PLUS_ONE, RepeatSource.PLAIN):
        "Run one query for all of them: a join, or WHERE … IN (…).",
    (RepeatKind.N_PLUS_ONE, RepeatSource.LAZY):
        "Load the related objects with the rows: joinedload() in the query's options.",
    (RepeatKind.N_PLUS_ONE, RepeatSource.LAZY_MANY):
        "Load the related objects with the rows: selectinload() in the query's options.",
    (RepeatKind.DUPLICATES, RepeatSource.PLAIN): _REMEMBER,
    (RepeatKind.DUPLICATES, RepeatSource.LAZY): _REMEMBER,
    (RepeatKind.DUPLICATES, RepeatSource.LAZY_MANY): _REMEMBER,
}  # fmt: skip
"""Repairs of repeated statements, by kind and source."""
_SENDING: tuple[CauseName, ...] = (
    "own_cpu", "section", "cpu_queue", *HOOK_CAUSES, "waiting", "unknown",
)  # fmt: skip
"""Causes in which the work around a query was recorded, the likeliest first."""


def judged_repeats(row: Endpoint, kind: str | None = None) -> list[Repeat]:
    """Return the repeats of an endpoint that enough requests have, most expensive first.

    Args:
        row: the endpoint.
        kind: N+1 or duplicates, ``None`` for both.
    """
    return [one for one in row.repeats if one.requests >= MIN_REQUESTS and kind in (None, one.kind)]


def avoidable_s(row: Endpoint, kind: RepeatKind) -> float:
    """Return the price of all repeats of a kind in seconds.

    The prices of both kinds are the time of the endpoint at most.

    Args:
        row: the endpoint.
        kind: N+1 or duplicates.
    """
    room = row.time_spent_s
    if kind != RepeatKind.N_PLUS_ONE:
        room -= avoidable_s(row, RepeatKind.N_PLUS_ONE)
    return min(room, sum(repeat.avoidable_s for repeat in judged_repeats(row, kind)))


def repair(repeat: Repeat) -> str:
    """Return the advice for a repeat, a sentence."""
    return REPAIRS[repeat.kind, repeat.source]


def cause(row: Endpoint, repeat: Repeat) -> Cause:
    """Return a repeat as a cause of its endpoint's time."""
    times = count(round(repeat.per_request), "time")
    detail = f"running a query {times} per request: {quoted(repeat.fingerprint.text)}"
    return Cause("sql", floor(row.share(repeat.avoidable_s)), detail, repeat.where or None)


def with_repeats(row: Endpoint, causes: Sequence[Cause]) -> tuple[list[Cause], Repeat | None]:
    """Return the causes of an endpoint's time with its repeats apart.

    The time of a repeat is taken from the causes in which it was recorded, so that the sum stays.

    Args:
        row: the endpoint.
        causes: of :func:`.causes.why`; their shares are changed.

    Returns:
        The causes, the largest first; and the first of them as a repeat, ``None`` if it is none.
    """
    repeats: list[tuple[Cause, Repeat]] = []
    for repeat in judged_repeats(row):
        in_database = row.share(min(repeat.seconds, repeat.avoidable_s))
        around = row.share(repeat.avoidable_s) - in_database
        taken = _take([one for one in causes if one.cause == "sql"], in_database)
        taken += _take(_senders(repeat, causes), around)
        if taken >= MIN_CAUSE_SHARE:
            separate = cause(row, repeat)
            separate.share = floor(taken)
            repeats.append((separate, repeat))
    kept = [one for one in causes if one.share >= MIN_CAUSE_SHARE]
    kept += [separate for separate, _ in repeats]
    kept.sort(key=lambda one: (-one.share, one.cause))
    largest = next((repeat for separate, repeat in repeats if separate is kept[0]), None)
    return kept, largest


def _senders(repeat: Repeat, causes: Iterable[Cause]) -> list[Cause]:
    """Return the causes whose code may send a repeat, the likeliest first.

    A query of a template is sent while it is rendered; any other by code outside of all parts, or in a
    section.
    """
    template = PurePosixPath(repeat.where.rpartition(":")[0]).name
    rendering = f"rendering {template}"
    order = {name: rank for rank, name in enumerate(_SENDING, 1)}
    senders = [one for one in causes if one.cause in order and not is_named_wait(one)]

    def rank(one: Cause) -> tuple[int, float]:
        in_template = bool(template) and one.detail.startswith(rendering)
        return (0 if in_template else order[one.cause]), -one.share

    return sorted(senders, key=rank)


def _take(causes: Iterable[Cause], share: float) -> float:
    """Reduce the shares of causes by a share in total, in their order; return the share taken."""
    taken = 0.0
    for one in causes:
        part = min(one.share, share - taken)
        if part > 0:
            one.share = floor(one.share - part)
            taken += part
    return taken
