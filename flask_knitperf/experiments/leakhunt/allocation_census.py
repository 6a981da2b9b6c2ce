"""Census of live allocations by line of the application, from the traces of ``tracemalloc``.

An allocation is attributed to the innermost line of the application on its stack: the line that a
developer can change. The library code that ran below it, such as pandas, is recorded beside it.
"""

from __future__ import annotations

import itertools
import operator
import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.package_folder import PACKAGE
from .growth import grows_in_each_third, low_water_marks

MAX_FRAMES = 64
"""Frames per trace: deep enough for the application's line between pandas and the server."""
MAX_PYMALLOC_BYTES = 512
"""Largest block that Python's small-object allocator serves; larger ones come from ``malloc``."""
MIN_CENSUSES = 4
"""Censuses below which lines are not judged."""
MAX_STACK = 6
"""Frames that are kept of a stack without a line of the application."""
_OWN_FOLDERS = (
    os.path.join(PACKAGE, "experiments", "leakhunt", ""),
    os.path.join(PACKAGE, "collectors", "memory", ""),
)
"""Folders whose allocations are those of the hunt, not of the replayed request."""
# fields of a raw trace of tracemalloc
_DOMAIN, _SIZE, _STACK = map(operator.itemgetter, range(3))

Frame = tuple[str, int]
"""File and line number."""
IsOwn = Callable[[str], bool]
"""Function that returns whether a file belongs to the application."""


@dataclass(frozen=True, slots=True)
class AllocationSite:
    """Code that allocates.

    Attributes:
        file: the innermost file of the application, empty if none is on the stack.
        line: line number in it.
        library: ``file:line`` of the innermost frame, empty if that is the line itself.
        stack: the innermost frames, if no line of the application is among them.
    """

    file: str
    line: int
    library: str = ""
    stack: tuple[str, ...] = ()


def site_of(frames: Sequence[Frame], is_own: IsOwn) -> AllocationSite:
    """Return the allocation site of a stack.

    Args:
        frames: the innermost first.
        is_own: whether a file belongs to the application.
    """
    innermost = f"{frames[0][0]}:{frames[0][1]}" if frames else ""
    for depth, (file, line) in enumerate(frames):
        if is_own(file):
            return AllocationSite(file, line, innermost if depth else "")
    below = itertools.takewhile(lambda frame: not frame[0].startswith(PACKAGE), frames[:MAX_STACK])
    return AllocationSite("", 0, innermost, tuple(f"{file}:{line}" for file, line in below))


@dataclass(frozen=True, slots=True)
class Census:
    """Live allocations at one moment, of those made under the tracer.

    Attributes:
        requests: served by then.
        sizes: bytes by site.
        counts: blocks by site.
        malloc_bytes: bytes among them that ``malloc`` has allocated.
    """

    requests: int
    sizes: Mapping[AllocationSite, int]
    counts: Mapping[AllocationSite, int]
    malloc_bytes: int


def _is_of_hunt(frames: Iterable[Frame]) -> bool:
    """Return whether a stack is that of the hunt, and not of the replayed request."""
    first = next((file for file, _ in frames if file.startswith(PACKAGE)), "")
    return first.startswith(_OWN_FOLDERS)


class Tracer:
    """Takes censuses, and caches the site of each stack.

    Args:
        is_own: whether a file belongs to the application.
    """

    def __init__(self, is_own: IsOwn) -> None:
        self._is_own = is_own
        self._own_files: dict[str, bool] = {}
        self._sites: dict[tuple[Frame, ...], AllocationSite | None] = {}

    def owns(self, file: str) -> bool:
        """Return whether a file belongs to the application, cached."""
        is_own = self._own_files.get(file)
        if is_own is None:
            # a template has line numbers of compiled code; the line that renders it counts instead
            is_own = self._own_files[file] = file.endswith(".py") and self._is_own(file)
        return is_own

    def site(self, frames: tuple[Frame, ...]) -> AllocationSite | None:
        """Return the site of a stack, the innermost frame first; ``None`` for stacks of the hunt."""
        if frames not in self._sites:
            self._sites[frames] = None if _is_of_hunt(frames) else site_of(frames, self.owns)
        return self._sites[frames]

    def site_of_object(self, value: object) -> AllocationSite | None:
        """Return the site that allocated an object, ``None`` if that was not traced."""
        stack = tracemalloc.get_object_traceback(value)
        if stack is None:
            return None
        return self.site(tuple((frame.filename, frame.lineno) for frame in reversed(stack)))

    def census(self, requests: int) -> Census:
        """Return the census of this moment.

        Args:
            requests: served by now.
        """
        # The public interface creates objects for each trace and frame, which are traced too: ten times
        # slower. A stack is one shared tuple per snapshot; its id is used since hashing it is slow.
        traces = tracemalloc.take_snapshot().traces._traces  # type: ignore[attr-defined]
        count = len(traces)
        domains = np.fromiter(map(_DOMAIN, traces), np.int64, count)
        sizes = np.fromiter(map(_SIZE, traces), np.int64, count)
        keys = np.fromiter(map(id, map(_STACK, traces)), np.uint64, count)
        _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
        by_malloc = np.where((sizes > MAX_PYMALLOC_BYTES) | (domains != 0), sizes, 0)
        sums = np.column_stack([
            np.bincount(codes, weights, len(first))
            for weights in (sizes, np.ones(count), by_malloc)
        ])  # fmt: skip
        stacks = [_STACK(traces[position]) for position in first.tolist()]
        by_stack = zip(stacks, sums.astype(np.int64).tolist(), strict=True)
        return self._sum_by_site(requests, by_stack)

    def _sum_by_site(
        self, requests: int, by_stack: Iterable[tuple[tuple[Frame, ...], list[int]]]
    ) -> Census:
        sizes: dict[AllocationSite, int] = {}
        counts: dict[AllocationSite, int] = {}
        total_malloc = 0
        for frames, (size, count, malloc_bytes) in by_stack:
            site = self.site(frames)
            if site is not None:
                sizes[site] = sizes.get(site, 0) + size
                counts[site] = counts.get(site, 0) + count
                total_malloc += malloc_bytes
        return Census(requests, sizes, counts, total_malloc)


@dataclass(frozen=True, slots=True)
class GrowingLine:
    """Line whose live bytes grow.

    Attributes:
        site: the line, with the library code below it that allocates most.
        bytes_per_request: retained bytes.
        blocks_per_request: retained blocks.
        steady: whether it grew in each third of the run.
    """

    site: AllocationSite
    bytes_per_request: float
    blocks_per_request: float
    steady: bool


def growing_lines(censuses: Sequence[Census], min_growth: float) -> list[GrowingLine]:
    """Return the lines that grow by at least ``min_growth`` bytes per request.

    Steady ones come first, then those with the most bytes.
    """
    if len(censuses) < MIN_CENSUSES:
        return []
    first, last = censuses[0], censuses[-1]
    sites_of_line: dict[tuple[str, int, str], list[AllocationSite]] = {}
    for site in last.sizes:
        key = (site.file, site.line, "" if site.file else site.library)
        sites_of_line.setdefault(key, []).append(site)
    min_bytes = min_growth * (last.requests - first.requests)
    lines = [
        _growing_line(censuses, sites) for sites in sites_of_line.values()
        if _sum(last.sizes, sites) - _sum(first.sizes, sites) >= min_bytes
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (not line.steady, -line.bytes_per_request))


def _growing_line(censuses: Sequence[Census], sites: list[AllocationSite]) -> GrowingLine:
    first, last = censuses[0], censuses[-1]
    largest = max(sites, key=lambda site: last.sizes[site] - first.sizes.get(site, 0))
    samples = [(census.requests, float(_sum(census.sizes, sites))) for census in censuses]
    marks = low_water_marks(samples, len(censuses))
    growth = (marks[-1][1] - marks[0][1]) / max(1.0, marks[-1][0] - marks[0][0])
    blocks = _sum(last.counts, sites) - _sum(first.counts, sites)
    blocks_per_request = blocks / max(1, last.requests - first.requests)
    return GrowingLine(largest, growth, blocks_per_request, grows_in_each_third(marks))


def _sum(by_site: Mapping[AllocationSite, int], sites: Iterable[AllocationSite]) -> int:
    return sum(by_site.get(site, 0) for site in sites)
