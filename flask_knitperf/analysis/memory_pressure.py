"""Memory pressure: the level of the nearest of three limits.

A worker outgrows the threshold that was configured, the machine runs out, or the container's
limit draws near (that one kills without a word). Each limit is a row of a table with the shares
at which it warns and becomes critical; the level is the worst of those that were measured, and
``None`` of them measured is level ``None``, not "fine".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..core import memory_levels
from ..core.memory_levels import LEVELS, Level
from ..core.trends import theil_sen
from ..core.units import MB

LimitName = Literal["worker", "machine", "cgroup"]


class Limit(NamedTuple):
    """A limit: shares of it at which it presses, what to say and what to do."""

    name: LimitName
    shares: memory_levels.Shares
    text: str
    advice: str


WORKER = Limit(
    "worker", memory_levels.WORKER,
    "{worker} uses {used:,.0f} MB, {share:.0%} of the {limit:,.0f} MB a worker should use",
    "Load fewer or smaller DataFrames in each worker, or have workers recycled (max_requests).",
)  # fmt: skip
MACHINE = Limit(
    "machine", memory_levels.MACHINE,
    "{share:.0%} of the machine's {limit:,.0f} MB is in use",
    "Run fewer workers, or move other programs off this machine.",
)  # fmt: skip
CGROUP = Limit(
    "cgroup", memory_levels.CGROUP,
    "the container uses {used:,.0f} MB, {share:.0%} of its limit of {limit:,.0f} MB",
    "Raise the container's memory limit or run fewer workers: beyond it they are killed.",
)  # fmt: skip


class Reason(NamedTuple):
    """A limit, and how close memory is to it.

    Attributes:
        limit: its name.
        level: the level that it alone would give.
        share: of the limit.
        text: a sentence without a full stop.
    """

    limit: LimitName
    level: Level
    share: float
    text: str


class Sizes(NamedTuple):
    """Memory of one worker in bytes; ``pss`` is ``None`` where the system does not measure it."""

    rss: float
    pss: float | None
    level: Level


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """Pressure on memory, its reasons and what to do.

    Attributes:
        level: worst level of the limits that were measured, ``None`` where none was.
        reasons: limits above their warning share, the worst first.
        workers: sizes by worker, in order of their names.
        advice: what to do, each sentence once.
    """

    level: Level | None
    reasons: list[Reason]
    workers: dict[str, Sizes]
    advice: list[str]

    @property
    def rss(self) -> float | None:
        """Total resident bytes, ``None`` where they were not measured."""
        return sum(sizes.rss for sizes in self.workers.values()) if self.workers else None

    @property
    def pss(self) -> float | None:
        """Total proportional bytes, ``None`` where they were not measured."""
        known = [sizes.pss for sizes in self.workers.values() if sizes.pss is not None]
        return sum(known) if known else None


def memory_pressure(
    rss_bytes: Mapping[str, float],
    *,
    threshold_mb: float,
    pss_bytes: Mapping[str, float] | None = None,
    total_bytes: float | None = None,
    available_bytes: float | None = None,
    cgroup_limit_bytes: float | None = None,
    cgroup_used_bytes: float | None = None,
) -> MemoryPressure:
    """Return the pressure on memory.

    Args:
        rss_bytes: resident size by worker.
        threshold_mb: what one worker should stay below.
        pss_bytes: proportional size by worker, where the system measures it.
        total_bytes: the machine's memory.
        available_bytes: available memory of the machine.
        cgroup_limit_bytes: the container's limit, ``None`` without one.
        cgroup_used_bytes: its use; without it the total of the workers' sizes stands in.
    """
    pss = pss_bytes or {}
    threshold = threshold_mb * MB
    reasons = [
        _reason(WORKER, size, threshold, f"Worker {name}")
        for name, size in sorted(rss_bytes.items())
        if threshold_mb > 0
    ]
    if total_bytes and available_bytes is not None:
        reasons.append(_reason(MACHINE, total_bytes - available_bytes, total_bytes))
    used = cgroup_used_bytes
    if used is None and rss_bytes:
        used = sum(pss.values()) if set(pss) >= set(rss_bytes) else sum(rss_bytes.values())
    if cgroup_limit_bytes and used is not None:
        reasons.append(_reason(CGROUP, used, cgroup_limit_bytes))
    pressing = sorted(
        (reason for reason in reasons if reason.level != "fine"),
        key=lambda reason: (-LEVELS.index(reason.level), -reason.share),
    )
    advice = {limit.name: limit.advice for limit in (WORKER, MACHINE, CGROUP)}
    return MemoryPressure(
        max((reason.level for reason in reasons), key=LEVELS.index, default=None),
        pressing,
        {
            name: Sizes(size, pss.get(name), _level(WORKER, size, threshold))
            for name, size in sorted(rss_bytes.items())
        },
        list(dict.fromkeys(advice[reason.limit] for reason in pressing)),
    )


def _level(limit: Limit, used: float, whole: float) -> Level:
    return LEVELS[limit.shares.level(used, whole)]


def _reason(limit: Limit, used: float, whole: float, worker: str = "") -> Reason:
    share = used / whole
    text = limit.text.format(worker=worker, used=used / MB, limit=whole / MB, share=share)
    return Reason(limit.name, _level(limit, used, whole), share, text.replace("%", " %"))


MIN_MINUTES = 10


def slope(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the growth of memory, robust against outliers (Theil-Sen estimator).

    Args:
        samples: ``[seconds, MB]``, the lowest of each minute.

    Returns:
        MB per hour, 0 where that may be chance; ``None`` below ten minutes of samples.
    """
    if len(samples) < MIN_MINUTES:
        return None
    trend = theil_sen([sample[0] for sample in samples], [sample[1] for sample in samples])
    if trend is None:
        return None
    return 0.0 if trend.low <= 0 <= trend.high else trend.middle * 3600
