"""Causes of an endpoint's time: a division of its wall time in which every share was measured.

Parts (sections, hooks, SQL, file reads) hold exclusive wall time, so they add up. The remainder is
divided by the sampled CPU time into own CPU, queueing for a CPU core, garbage collection, waiting for
the GIL and other waiting. The sentence on a part that computes states the share that queues. A cause
that was not measured is ``unknown``; it is never guessed to be "waiting". What a request waits for has
a name where it was measured: that time is a part, and "waiting" without a name is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..core.units import percent, plain
from ..metrics.catalogue import HOOKS, WAITS, PartKind
from .callee_advice import Use
from .callee_table import LOCK
from .endpoints import Endpoint
from .hot_lines import lines_within
from .overload import queued_share
from .parts import Part
from .waits import described, kind_of

COMPUTES = 0.05
MIN_QUEUED_SHARE = 0.1  # of the computing, below which run-queue time is not mentioned
_READS = ("file_read", "sql")
MIN_LINE_SHARE = 0.3  # of the samples of a cause, below which its line is not named
MIN_CAUSE_SHARE = 0.01  # of the time, below which a cause is omitted


CauseName = Literal[
    "own_cpu", "cpu_queue", "waiting", "sql", "file_read", "cache", "gc", "gil_contention", "section",
    "early_hook", "late_hook", "unknown",
]  # fmt: skip
HOOK_CAUSES: tuple[CauseName, ...] = ("early_hook", "late_hook")
"""Causes that are functions which Flask calls around a view."""


@dataclass(slots=True)
class Cause:
    """A share of an endpoint's time (or of its failures), with its reason.

    Attributes:
        cause: its name in the report.
        share: 0 to 1.
        detail: the reason in words.
        where: file and line, ``None`` where unknown.
        part: name of the part whose time it is, ``None`` for the time outside of parts.
    """

    cause: CauseName
    share: float
    detail: str
    where: str | None = None
    part: str | None = None


class _Kind(NamedTuple):
    cause: CauseName
    detail: str


_PARTS = {
    "section": _Kind("section", "in the section {name}"),
    "hook": _Kind("early_hook", "in {name}, a hook that runs before the view"),
    "after": _Kind("late_hook", "in {name}, an after_request function"),
    "error": _Kind("late_hook", "in {name}, an error handler"),
    "teardown": _Kind("late_hook", "in {name}, a teardown function"),
    "sql": _Kind("sql", "in the database"),
    "file_read": _Kind("file_read", "reading files"),
    "cache": _Kind("cache", "in the cache"),
    "render": _Kind("section", "rendering {name}"),
}
_LOCKED = "waiting for a lock"
_IN_POOL = "running Python code in a thread pool"
_DETAILS: dict[CauseName, str] = {
    "own_cpu": "running Python code",
    "cpu_queue": "queueing for a CPU core",
    "waiting": "waiting, without using the CPU",
    "gc": "in garbage collection",
    "gil_contention": "waiting while other threads of its worker computed",
    "unknown": "not measured any further",
}


def why(row: Endpoint) -> list[Cause]:
    """Return the causes of an endpoint's time, the largest first.

    Returns:
        Causes whose shares (0 to 1 of the wall time) sum to at most 1; empty without requests.
    """
    if not row.count or row.every.total <= 0:
        return []
    queued = queued_share(row)
    causes = [cause for part in row.parts for cause in _of_part(row, part, queued)]
    rest = _remainder(row)
    causes += [Cause(name, floor(share), _DETAILS[name]) for name, share in rest.shares.items()]
    for cause in causes if row.lines else ():
        if not is_named_wait(cause):  # of those the line is exact
            cause.where = _line(row, cause) or cause.where
    return sorted(
        (cause for cause in (*causes, *rest.locks) if cause.share >= MIN_CAUSE_SHARE),
        key=lambda cause: (-cause.share, cause.cause),
    )


def is_named_wait(cause: Cause) -> bool:
    """Return whether a cause is waiting for something that has a name."""
    return cause.part is not None and kind_of(cause.part) in WAITS


def _line(row: Endpoint, cause: Cause) -> str | None:
    """Return the dominant sampled line of a cause, ``None`` without one.

    For computing and waiting it is a line that computes or waits, outside of timed parts; for garbage
    collections one that computes, since they run where objects are created; for a section the most
    expensive line that is not timed as another part; for a hook one that it runs.
    """
    if cause.part is not None and kind_of(cause.part) in HOOKS and row.sampled is not None:
        _, _, function = cause.part.partition(":")
        return _dominant({line.where: line.total for line in lines_within(row.sampled, function)})
    elsewhere = {
        part.where
        for part in row.parts
        if part.where and (part.name in _READS or kind_of(part.name) in WAITS)
    }
    elsewhere.update(read.where for read in row.file_reads)
    elsewhere.update(use.where for use in _lock_uses(row))
    chosen: dict[str, int] = {}
    for line in row.lines:
        took: dict[CauseName, int] = {
            "own_cpu": line.running, "gc": line.running, "waiting": line.waiting,
            "section": line.total,
        }  # fmt: skip
        if line.where not in elsewhere:
            chosen[line.where] = took.get(cause.cause, 0)
    return _dominant(chosen)


def _dominant(times: Mapping[str, int]) -> str | None:
    """Return the line with the most time, ``None`` where that is a small share."""
    whole = sum(times.values())
    where = max(times, key=lambda name: (times[name], name), default=None)
    if where is None or times[where] < MIN_LINE_SHARE * whole or not whole:
        return None
    return where


def floor(share: float) -> float:
    """Return a share cut (not rounded up) to four digits, so that sums stay within 1."""
    return int(max(0.0, share) * 10_000 + 1e-9) / 10_000


def _of_part(row: Endpoint, part: Part, queued: float) -> list[Cause]:
    """Return the cause of a part; of waiting for threads two, if they compute."""
    prefix, _, name = part.name.partition(":")
    if prefix in WAITS:
        wait = next((wait for wait in row.waits if wait.part == part.name), None)
        detail = described(part.name, wait)
        computed = part.share * (part.cpu or 0.0) if prefix == PartKind.THREADS else 0.0
        waiting = Cause("waiting", floor(part.share - computed), detail, part.where, part.name)
        own = Cause("own_cpu", floor(computed), _IN_POOL, part.where)
        return [waiting, own] if computed >= MIN_CAUSE_SHARE else [waiting]
    kind = _PARTS.get(prefix, _Kind("section", "in {name}"))
    detail = kind.detail.format(name=name or prefix)
    if part.cpu is not None:
        detail += ", " + _how(part.cpu, queued)
    return [Cause(kind.cause, floor(part.share), detail, part.where, part.name)]


def _how(cpu: float, queued: float) -> str:
    """Return the share of a part that is runnable in words, and of that the share that queues."""
    if cpu >= COMPUTES and queued >= MIN_QUEUED_SHARE:
        waits, computes = (plain(percent(cpu * share)) for share in (queued, 1 - queued))
        return f"computing {computes} of it and queueing for a core {waits}"
    if cpu < 0.05:
        return "nearly all of it waiting"
    if cpu > 0.95:
        return "nearly all of it computing"
    return f"computing {plain(percent(cpu))} of it"


class _Remainder(NamedTuple):
    """Causes of the time outside all parts.

    Attributes:
        shares: of the causes without a name of what they are.
        locks: waiting for locks, by line.
    """

    shares: dict[CauseName, float]
    locks: Sequence[Cause] = ()


def _remainder(row: Endpoint) -> _Remainder:
    """Return the causes of the time outside all parts."""
    rest = max(0.0, 1 - sum(part.share for part in row.parts))
    if row.cpu_share is None:
        gc = min(rest, _gc_share(row) * rest)
        return _Remainder({"gc": gc, "unknown": rest - gc})
    runnable = min(1.0, row.cpu_share + row.run_queue_share)
    cpu = _cpu_outside_parts(row, runnable, rest)
    waiting = rest - cpu
    gc = min(rest, _gc_share(row) * rest)
    from_cpu = min(gc, cpu)  # a pause mostly runs on a thread that was computing
    cpu, waiting = cpu - from_cpu, waiting - (gc - from_cpu)
    locks = _locks(row, waiting)
    waiting -= sum(lock.share for lock in locks)
    contention = min(waiting, row.contention_share or 0.0)
    queued = cpu * queued_share(row)
    shares: dict[CauseName, float] = {
        "own_cpu": cpu - queued, "cpu_queue": queued, "gc": gc, "gil_contention": contention,
        "waiting": waiting - contention,
    }  # fmt: skip
    return _Remainder(shares, locks)


def _locks(row: Endpoint, waiting: float) -> list[Cause]:
    """Return the causes that are waiting for a lock, as far as lines were sampled there.

    The thread that holds the lock may compute meanwhile; that does not make it contention.

    Args:
        row: the endpoint.
        waiting: share of its time in which it waits outside of parts.
    """
    uses = _lock_uses(row)
    if row.sampled is None or not uses:
        return []
    share = sum(use.total for use in uses) / max(1, row.sampled.total)
    scale = min(1.0, waiting / share) if share > 0 else 0.0
    return [
        Cause("waiting", floor(scale * use.total / row.sampled.total), _LOCKED, use.where)
        for use in uses
    ]  # fmt: skip


def _lock_uses(row: Endpoint) -> list[Use]:
    return [use for use in row.uses if use.callee is LOCK]


def _cpu_outside_parts(row: Endpoint, cpu_share: float, rest: float) -> float:
    """Return the share of wall time that is own CPU outside all parts.

    The measured CPU time of parts is subtracted; a part without a measurement is assumed to be like the
    request as a whole, unless it waits.
    """
    inside = sum(
        part.share * (cpu_share if part.cpu is None else part.cpu)
        for part in row.parts
        if kind_of(part.name) not in WAITS
    )
    return min(rest, max(0.0, cpu_share - inside))


def _gc_share(row: Endpoint) -> float:
    return min(1.0, row.gc_ms / row.mean_ms) if row.mean_ms else 0.0
