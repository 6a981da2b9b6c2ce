"""Phrases of findings: names of endpoints, figures, frequencies, quoted statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core import units
from ..core.units import MB, amount
from .verdicts import UNMATCHED

MAX_QUOTED = 90
"""Characters of a statement that a sentence quotes."""
YOUNG_MINUTES = 10
"""Growth over less time than this may be that of caches which fill."""


def title(endpoint: str) -> str:
    """Return a readable name of an endpoint: ``fabric_forecast`` is "Fabric forecast"."""
    if endpoint == UNMATCHED:
        return "No matching route (404)"
    words: list[str] = []
    for word in endpoint.replace(".", " ").replace("_", " ").replace("-", " ").split():
        if not words or words[-1] != word:
            words.append(word)
    name = " ".join(words) or endpoint
    return name[:1].upper() + name[1:]


def calm(row: Mapping[str, Any]) -> str:
    """Return a sentence on an endpoint without a finding (a row of the report)."""
    if (row["max_ms"] or 0.0) > row["thresholds"]["moderate_ms"]:
        return "No verdict: the slow requests may be chance, or too few requests were measured."
    return "Within its thresholds."


def grows(
    k: float, low: float, high: float, passes_rows: float | None, passes_ms: float | None
) -> str:
    """Return the growth of time with rows as a clause of a sentence.

    Args:
        k: exponent of the law.
        low: lower bound of the exponent's interval.
        high: upper bound of the exponent's interval.
        passes_rows: rows from which on ``passes_ms`` is exceeded, ``None`` where none is foreseen.
        passes_ms: the time that is exceeded then.
    """
    growth = f"Its time grows with rows^{k:.1f} ({low:.1f} to {high:.1f})"
    if passes_rows is None or passes_ms is None:
        return growth
    return f"{growth}; at {many(passes_rows)} rows it passes {duration(passes_ms)}"


def many(number: float) -> str:
    """Return an estimate with two digits: ``2.1 M``, ``840,000``."""
    return units.plain(units.about(number))


def duration(ms: float) -> str:
    """Return a duration: ``5.6 s``, ``230 ms``, ``400 µs``."""
    return units.plain(units.duration(ms))


def memory_grows(judged: Sequence[Mapping[str, Any]]) -> str:
    """Return whether what workers have allocated grows (``growth`` of the memory report) in words."""
    if not judged:
        return "Not known yet: a worker is judged once it has served some thousand requests."
    growing = [row for row in judged if row["grown_mb"] > 0]
    if not growing:
        return f"No: {_workers(len(judged))} judged, none of them grows."
    grown = sum(row["grown_mb"] for row in growing) * MB
    requests = sum(row["requests"] for row in growing)
    said = (
        f"Yes: {len(growing)} of {_workers(len(judged))} grew by {amount(grown)} over "
        f"{requests:,} requests, {amount(grown / max(1, requests))} each."
    )
    young = max(row["minutes"] for row in growing) < YOUNG_MINUTES
    return (
        f"{said} In a young worker that may be caches that fill; a leak goes on." if young else said
    )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def frames_held(told: Mapping[str, Any]) -> str:
    """Return what a worker's live frames come to (an entry of ``live_frames``) in words."""
    said = f"{told['count']:,} DataFrames hold {told['mb']:,.1f} MB"
    if told["duplicated_mb"] >= 0.1:
        said += f", {told['duplicated_mb']:,.1f} MB of it the same as others"
    if told["pinned_mb"] >= 0.1:
        said += f", {told['pinned_mb']:,.1f} MB of it kept by views alone"
    said += f"; to find them all threads stood still for {told['stalled_ms']:.0f} ms."
    if told["frozen"]:
        said += f" What gc.freeze() took in ({told['frozen']:,} objects) cannot be seen."
    return said


def frames_shown(told: Mapping[str, Any], most: int) -> list[Any]:
    """Return those of a worker's live frames that are worth a line each."""
    return [frame for frame in told["frames"] if frame["mb"] + frame["pinned_mb"] >= 0.01][:most]


def frames_left_out(told: Mapping[str, Any], shown: int) -> str:
    """Return how many of a worker's live frames are not among those shown, in words; or nothing."""
    more = told["count"] - shown
    return f"and {more:,} more" if more > 0 else ""


def percent(share: float) -> str:
    """Return a share in percent, never more than was measured: 99.96 % is not "100 %"."""
    return units.plain(units.percent(share))


def one_in(bad: int, n: int) -> str:
    """Return a frequency: ``1 in 20``, ``every``."""
    if not bad:
        return "no"
    return "every" if bad >= n else f"1 in {max(2, round(n / bad))}"


def quoted(text: str, longest: int = MAX_QUOTED) -> str:
    """Return a statement, cut with an ellipsis, for a sentence."""
    return text if len(text) <= longest else f"{text[: longest - 2]} …"
