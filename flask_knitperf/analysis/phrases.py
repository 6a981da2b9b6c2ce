"""Phrases of findings: names of endpoints, figures, frequencies, quoted statements."""

from __future__ import annotations

from ..core import units
from .judged import UNMATCHED

MAX_QUOTED = 90  # characters of a statement in a sentence


def title(endpoint: str) -> str:
    """Return a readable name of an endpoint: ``fabric_forecast`` is "Fabric forecast"."""
    if endpoint == UNMATCHED:
        return "No matching route (404)"
    endpoint = endpoint.replace("<middleware>", "middleware")
    words: list[str] = []
    for word in endpoint.replace(".", " ").replace("_", " ").replace("-", " ").split():
        if not words or words[-1] != word:
            words.append(word)
    name = " ".join(words) or endpoint
    return name[:1].upper() + name[1:]


def grows(
    k: float, low: float, high: float, passes_rows: float | None, passes_ms: float | None
) -> str:
    """Return the growth of time with rows as a clause of a sentence.

    Args:
        k: exponent of the law.
        low: lower bound of the exponent's interval.
        high: upper bound of the exponent's interval.
        passes_rows: number of rows above which ``passes_ms`` is exceeded, ``None`` without a forecast.
        passes_ms: the exceeded duration.
    """
    growth = f"Its time grows with rows^{k:.1f} ({low:.1f} to {high:.1f})"
    if passes_rows is None or passes_ms is None:
        return growth
    return f"{growth}; at {many(passes_rows)} rows it passes {duration(passes_ms)}"


def many(number: float) -> str:
    """Return an estimate with two digits: ``2.1 M``, ``840,000``."""
    return units.plain(units.about(number))


def count(n: float, noun: str, plural: str = "") -> str:
    """Return a number of things: ``1 request``, ``1,240 requests``."""
    return units.plain(units.count(n, noun, plural))


def duration(ms: float) -> str:
    """Return a duration: ``5.6 s``, ``230 ms``, ``400 µs``."""
    return units.plain(units.duration(ms))


def size(n_bytes: float) -> str:
    """Return bytes: ``2.1 KB``, ``340 MB``."""
    return units.plain(units.size(n_bytes))


def percent(share: float) -> str:
    """Return a share in percent; 99.96 % never prints as 100 %."""
    return units.plain(units.percent(share))


def period(seconds: float) -> str:
    """Return a TTL or a length of time: ``60 s``, ``5 min``, ``1 h``, ``2.5 h``, ``30 days``."""
    for length, unit in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= (2 if length in (60, 86_400) else 1) * length - 0.5:
            return f"{round(seconds / length, 1):g} {unit}"
    return "1 s"


def one_in(bad: int, n: int) -> str:
    """Return a frequency: ``1 in 20``, ``every``."""
    if not bad:
        return "no"
    return "every" if bad >= n else f"1 in {max(2, round(n / bad))}"


def quoted(text: str, longest: int = MAX_QUOTED) -> str:
    """Return a statement, cut with an ellipsis, for a sentence."""
    return text if len(text) <= longest else f"{text[: longest - 2]} …"
