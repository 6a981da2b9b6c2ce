"""How near memory is to its end: a pressure level from three limits, whichever is nearest.

A worker outgrows the threshold that was configured, the machine runs out, or the container's
limit draws near (that one kills without a word). Each limit is a row of a table with the shares
at which it warns and becomes critical; the level is the worst of those that were measured, and
``None`` of them measured is level ``None``, not "fine".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..core import memory_levels
from ..core.memory_levels import LEVELS
from ..core.trends import theil_sen
from ..core.units import MB

LimitName = Literal["worker", "machine", "cgroup"]


class Limit(NamedTuple):
    """A limit: shares of it at which it presses, what to say and what to do."""

    name: str
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


def memory(
    rss_bytes: Mapping[str, float],
    *,
    threshold_mb: float,
    pss_bytes: Mapping[str, float] | None = None,
    total_bytes: float | None = None,
    available_bytes: float | None = None,
    cgroup_limit_bytes: float | None = None,
    cgroup_used_bytes: float | None = None,
) -> dict[str, Any]:
    """Return the pressure on memory, why, and what to do about it.

    Args:
        rss_bytes: resident size by worker.
        threshold_mb: what one worker should stay below.
        pss_bytes: proportional size by worker, where the system tells.
        total_bytes: the machine's memory.
        available_bytes: what of it is available.
        cgroup_limit_bytes: the container's limit, ``None`` without one.
        cgroup_used_bytes: its use; without it the workers' sizes stand in.

    Returns:
        ``{level, reasons[{limit, level, share, text}], workers[{worker, rss_mb, pss_mb, level}],
        total_rss_mb, total_pss_mb, available_mb, cgroup_limit_mb, recommendations[]}``. ``level``
        is ``fine``, ``warning``, ``critical``, or ``None`` if nothing was measured.
    """
    pss = pss_bytes or {}
    reasons = [
        _reason(WORKER, size, threshold_mb * MB, f"Worker {name}")
        for name, size in sorted(rss_bytes.items())
        if threshold_mb > 0
    ]
    workers = [
        {"worker": name, "rss_mb": _mb(size), "pss_mb": _mb(pss.get(name)),
         "level": _level(WORKER, size, threshold_mb * MB)}
        for name, size in sorted(rss_bytes.items())
    ]  # fmt: skip
    if total_bytes and available_bytes is not None:
        reasons.append(_reason(MACHINE, total_bytes - available_bytes, total_bytes))
    used = cgroup_used_bytes
    if used is None and rss_bytes:
        used = sum(pss.values()) if set(pss) >= set(rss_bytes) else sum(rss_bytes.values())
    if cgroup_limit_bytes and used is not None:
        reasons.append(_reason(CGROUP, used, cgroup_limit_bytes))
    pressing = sorted(
        (r for r in reasons if r["level"] != "fine"),
        key=lambda r: (-LEVELS.index(r["level"]), -r["share"]),
    )
    advice = {limit.name: limit.advice for limit in (WORKER, MACHINE, CGROUP)}
    return {
        "level": max((r["level"] for r in reasons), key=LEVELS.index, default=None),
        "reasons": pressing,
        "workers": workers,
        "total_rss_mb": _mb(sum(rss_bytes.values())) if rss_bytes else None,
        "total_pss_mb": _mb(sum(pss.values())) if pss else None,
        "available_mb": _mb(available_bytes),
        "cgroup_limit_mb": _mb(cgroup_limit_bytes),
        "recommendations": list(dict.fromkeys(advice[r["limit"]] for r in pressing)),
    }


def _level(limit: Limit, used: float, whole: float) -> str:
    return LEVELS[limit.shares.level(used, whole)]


def _reason(limit: Limit, used: float, whole: float, worker: str = "") -> dict[str, Any]:
    share = used / whole
    text = limit.text.format(worker=worker, used=used / MB, limit=whole / MB, share=share)
    return {
        "limit": limit.name,
        "level": _level(limit, used, whole),
        "share": round(share, 4),
        "text": text.replace("%", " %"),
    }


def _mb(size: float | None) -> float | None:
    return None if size is None else round(size / MB, 1)


ENOUGH_MINUTES = 10


def slope(samples: Sequence[Sequence[float]]) -> float | None:
    """Return how fast memory grows, robust against single peaks (Theil-Sen estimator).

    Args:
        samples: ``[seconds, MB]``, the lowest of each minute.

    Returns:
        MB per hour, ``None`` below ten minutes of samples.
    """
    if len(samples) < ENOUGH_MINUTES:
        return None
    found = theil_sen([each[0] for each in samples], [each[1] for each in samples])
    return None if found is None else round(found.middle * 3600, 2)
