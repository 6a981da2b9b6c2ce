"""Verdict of a leak hunt, from two processes that replay the request.

There are two phases since a tracer changes what is measured. The first one traces all allocations of
Python (:mod:`.python_phase`): bytes per request to the byte, lines, types, retainers. The second one
traces nothing (:mod:`.native_phase`) and reads the counters of the system, C's ``malloc`` and Arrow:
growth beyond that of Python objects is native, and lines are measured by these counters. The second
phase also confirms the first: growth under the tracer alone is not a leak.

Most requests retain nothing. So a third of the requests is examined first, and the other two thirds,
which decide the verdict, follow only if that third may have grown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.units import MB
from ..in_process import FIRST_ERROR_STATUS
from .growth import Growth
from .retainers import Retainer

MIN_GARBAGE_BYTES = 16 * 1024
"""Cyclic garbage per request below which it is not reported."""
MIN_RETURNED_BYTES = 8 * MB
"""Memory that the allocator returns on demand below which it is not called fragmentation."""
UNPRUNED_ITEMS = 1_000
"""Dead weak references from which on a container counts as never pruned."""
FILLED_REQUESTS = 500
"""Requests after which what a library stores by itself counts as filled."""
_MAX_FILL_BYTES = 128 * 1024
"""Bytes that such a store takes at most: those of numpy and pandas hold some hundred small blocks."""
_MAX_REFERENCE_BYTES = 256
"""Bytes that a dead weak reference takes at most, with its callback and its place in a container."""


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """Bytes that a line allocates and that are retained (or wait for the garbage collector).

    Attributes:
        file: of the application; empty if no line of the application is on the stack.
        line: line number.
        bytes_per_request: bytes in total.
        native_bytes: bytes among them that are not Python objects.
        library: ``file:line`` that ran below the line.
        stack: the innermost frames, if no line of the application is among them.
        steady: whether it grew in each third of the run; for native memory, whether the line allocates
            about the retained amount (else another line probably frees it).
    """

    file: str
    line: int
    bytes_per_request: float
    native_bytes: float = 0.0
    library: str = ""
    stack: tuple[str, ...] = ()
    steady: bool = True


@dataclass(frozen=True, slots=True)
class PythonPhase:
    """Result of the phase that traces the allocations of Python.

    Attributes:
        growth: of live bytes.
        malloc_bytes: bytes per request of the growth that ``malloc`` allocates.
        lines: that allocate the retained bytes.
        types: retained objects per request, by type.
        retainers: of the retained objects.
        garbage_bytes: bytes per request that only the garbage collector frees.
        garbage_lines: that allocate those.
        requests: number of requests served.
        statuses: number of responses by status code.
    """

    growth: Growth
    malloc_bytes: float
    lines: tuple[AllocationRecord, ...]
    types: dict[str, float]
    retainers: tuple[Retainer, ...]
    garbage_bytes: float
    garbage_lines: tuple[AllocationRecord, ...]
    requests: int
    statuses: dict[int, int]


@dataclass(frozen=True, slots=True)
class NativePhase:
    """Result of the phase that reads the counters of the allocators.

    Attributes:
        growth: of native memory; of resident memory if no allocator has a counter.
        source: of that growth: ``malloc``, ``arrow`` or ``resident``.
        block_growth: of the number of blocks of Python's allocator.
        malloc_growth: of the bytes allocated by ``malloc``, large Python objects included.
        lines: that allocate native memory.
        resident_bytes: at the end, after a collection.
        returned_bytes: bytes among them that the allocator then returned to the system on demand.
        requests: number of requests served.
        statuses: number of responses by status code.
    """

    growth: Growth
    source: str
    block_growth: Growth
    malloc_growth: Growth
    lines: tuple[AllocationRecord, ...]
    resident_bytes: int
    returned_bytes: int
    requests: int
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def grows(self) -> bool:
        """Whether any counter grows, so that growth under the tracer is not caused by the tracer."""
        return self.growth.steady or self.block_growth.steady or self.malloc_growth.steady


@dataclass(frozen=True, slots=True)
class Hunt:
    """Result of a leak hunt.

    Attributes:
        kind: ``leak``, ``native leak``, ``filling`` (a bounded cache that is not full yet),
            ``cycles``, ``fragmentation``, ``none``, or ``unproved``: every response was an error, so
            the view itself hardly ran; or dead weak references pile up in a container that is too
            short to exclude that its owner prunes it; or a little memory, which no known container
            holds, grows over too few requests to exclude that it is bounded.
        bytes_per_request: retained bytes.
        lines: that allocate them, the most important first.
        python: result of the first phase.
        native: result of the second phase.
    """

    kind: str
    bytes_per_request: float
    lines: tuple[AllocationRecord, ...]
    python: PythonPhase
    native: NativePhase

    @property
    def leaks(self) -> bool:
        """Whether memory is retained without a bound."""
        return self.kind in ("leak", "native leak")


def verdict(python: PythonPhase, native: NativePhase) -> Hunt:
    """Return the result of both phases."""
    python_bytes = python.growth.per_request if python.growth.steady and native.grows else 0.0
    native_bytes = native.growth.per_request if native.growth.steady else 0.0
    lines = _merge(
        python.lines if python_bytes else (), native.lines if native_bytes else (),
        overlap=native.source == "malloc",
    )  # fmt: skip
    kind = _kind(python, native, python_bytes, native_bytes)
    return Hunt(kind, python_bytes + native_bytes, lines, python, native)


def _kind(
    python: PythonPhase, native: NativePhase, python_bytes: float, native_bytes: float
) -> str:  # fmt: skip
    if native_bytes > python_bytes:
        return "native leak"
    if python_bytes:
        if may_be_pruned(python) or may_be_filling(python):
            return "unproved"
        retainer = python.retainers[0] if python.retainers else None
        has_room = (
            retainer is not None and retainer.bound is not None
            and (retainer.items or 0) < retainer.bound
        )  # fmt: skip
        return "filling" if has_room else "leak"
    if python.garbage_bytes >= MIN_GARBAGE_BYTES:
        return "cycles"
    if native.returned_bytes >= max(MIN_RETURNED_BYTES, native.resident_bytes // 20):
        return "fragmentation"
    statuses = {*python.statuses, *native.statuses}
    return "unproved" if min(statuses, default=0) >= FIRST_ERROR_STATUS else "none"


def may_be_pruned(python: PythonPhase) -> bool:
    """Return whether the growth may be that of a container of weak references before it is pruned."""
    if not python.retainers:
        return False
    retainer = python.retainers[0]
    return (
        retainer.dead_references
        and (retainer.items or 0) < UNPRUNED_ITEMS
        and python.growth.per_request <= _MAX_REFERENCE_BYTES * (retainer.items_per_request or 0)
    )


def may_be_filling(python: PythonPhase) -> bool:
    """Return whether the growth may be that of a library's own store before it is full."""
    return (
        not any(retainer.items for retainer in python.retainers)  # none of them grows
        and python.requests < FILLED_REQUESTS
        and python.growth.per_request * python.requests <= _MAX_FILL_BYTES
    )


def _merge(
    python: tuple[AllocationRecord, ...], native: tuple[AllocationRecord, ...], *, overlap: bool
) -> tuple[AllocationRecord, ...]:
    """Return the lines of both phases, with the bytes of a line that is in both added.

    Args:
        python: lines with Python objects.
        native: lines with native memory.
        overlap: whether native memory includes large Python objects.
    """
    records = {(r.file, r.line, "" if r.file else r.library): r for r in python}
    for record in native:
        key = (record.file, record.line, "")
        same_line = records.get(key)
        records[key] = record if same_line is None else _add(same_line, record, overlap)
    return tuple(sorted(records.values(), key=_most_important_first))


def _add(
    python: AllocationRecord, native: AllocationRecord, overlap: bool
) -> AllocationRecord:  # fmt: skip
    native_bytes = native.native_bytes
    if overlap:
        native_bytes = max(0.0, native_bytes - python.bytes_per_request)
    total = python.bytes_per_request + native_bytes
    return AllocationRecord(
        python.file, python.line, total, native_bytes, python.library, python.stack
    )


def _most_important_first(record: AllocationRecord) -> tuple[bool, bool, float]:
    return not record.file, not record.steady, -record.bytes_per_request
