"""Formatting of sizes, durations, shares, rates and counts, alike in every output.

Pages, terminal, notebooks and findings print the same figure in the same words. Number and unit are
joined by a no-break space, so a browser never breaks a line between them; a text whose lines are
already broken goes through :func:`plain`. A larger value never prints as a smaller one, and a value
that is not zero never prints as zero, nor one below 100 % as 100 %.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

MB = 1 << 20
"""Bytes per megabyte, here and wherever a name ends in ``_mb``."""
NBSP = "\N{NO-BREAK SPACE}"
NONE = "–"
"""Placeholder for a figure that was not measured."""


class _Unit(NamedTuple):
    """Unit of a scale.

    Attributes:
        name: its symbol.
        worth: number of base units in one of it.
        starts: smallest amount, in base units, that is printed in this unit.
        decimal_below: amounts below this print with one decimal.
    """

    name: str
    worth: float
    starts: float
    decimal_below: float


# A unit starts a little below its worth: 1,023.6 KB rounds to 1,024 KB, which is 1.0 MB.
_SIZES = (
    _Unit("TB", 1 << 40, 0.9995 * (1 << 40), 99.95),
    _Unit("GB", 1 << 30, 0.9995 * (1 << 30), 99.95),
    _Unit("MB", MB, 0.9995 * MB, 99.95),
    _Unit("KB", 1 << 10, 0.9995 * (1 << 10), 99.95),
    _Unit("bytes", 1, 0, 0),
)
# Minutes start at ten and hours at two: below that the smaller unit reads better.
_DURATIONS = (
    _Unit("h", 3_600_000, 7_196_400, 9.95),
    _Unit("min", 60_000, 599_500, 9.95),
    _Unit("s", 1_000, 995, 99.95),
    _Unit("ms", 1, 0.995, 9.95),
    _Unit("µs", 1e-3, 0.995e-3, 0),
    _Unit("ns", 1e-6, 0, 0),
)
_PERIODS = (("s", 1), ("min", 60), ("h", 3_600))
_AMOUNT = re.compile(
    r"(?<=\d) (?=(?:%|(?:[KMGT]B|bytes?|ns|µs|ms|s|min|h|M)\b))|(?<=[<>]) (?=-?\d)"
)


def size(n_bytes: float | None, *, signed: bool = False) -> str:
    """Return bytes in units of 1,024: ``310 bytes``, ``2.1 KB``, ``340 MB``.

    Args:
        n_bytes: number of bytes; ``None`` prints as a dash.
        signed: whether a positive amount gets a plus sign.
    """
    if n_bytes is None:
        return NONE
    if not n_bytes:
        return f"0{NBSP}bytes"
    text = _scaled(abs(n_bytes), _SIZES)
    return _with_sign(text[:-1] if abs(n_bytes) < 1.5 else text, n_bytes, signed=signed)


def duration(ms: float | None) -> str:
    """Return a duration in the unit that suits it: ``400 µs``, ``230 ms``, ``5.6 s``, ``57 min``.

    Args:
        ms: milliseconds; ``None`` prints as a dash.
    """
    if ms is None:
        return NONE
    return _with_sign(_scaled(abs(ms), _DURATIONS), ms, signed=False) if ms else f"0{NBSP}ms"


def span(seconds: int) -> str:
    """Return a length of time in words: ``10 seconds``, ``1 minute``, ``6 hours``, ``1 day``."""
    lengths = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
    length, noun = next(one for one in lengths if seconds >= one[0])
    return count(seconds / length, noun)


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share (1.0 is all) in percent: ``0 %``, ``< 0.1 %``, ``0.4 %``, ``42 %``, ``99.9 %``.

    Only 0 prints as 0 %, and of the shares up to 1 only 1 prints as 100 %: a share of 99.5 % or more
    is cut to one decimal, not rounded.

    Args:
        share: of a whole; ``None`` prints as a dash.
        signed: whether a positive share gets a plus sign, as a change does.
    """
    if share is None:
        return NONE
    value = abs(share)
    if 0 < value < 0.001:
        text = f"<{NBSP}0.1{NBSP}%"
    elif value < 0.0095 and value:
        text = f"{100 * value:.1f}{NBSP}%"
    elif 0.995 <= value < 1:
        text = f"{min(99.9, math.floor(1000 * value) / 10):.1f}{NBSP}%"
    else:
        text = f"{100 * value:,.0f}{NBSP}%"
    return _with_sign(text, share, signed=signed)


def count(n: float, noun: str, plural: str = "") -> str:
    """Return a number of things: ``1 request``, ``1,240 requests``, ``2 queries``.

    Args:
        n: number of them; a mean may have a fraction.
        noun: of one thing.
        plural: of several, where it is irregular.
    """
    text = number(n)
    return f"{text}{NBSP}{noun if text == '1' else plural or _plural(noun)}"


def number(value: float | None) -> str:
    """Return a number of things alone: ``1,240``; a mean below 100 has a decimal: ``1.4``.

    Args:
        value: ``None`` prints as a dash.
    """
    if value is None:
        return NONE
    if value == round(value) or abs(value) >= 99.95:
        return f"{round(value):,}"
    text = f"{abs(value):.1f}"
    return _with_sign(f"<{NBSP}0.1" if text == "0.0" else text, value, signed=False)


def about(value: float) -> str:
    """Return an estimate with two digits: ``840,000``, ``2.1 M``."""
    if abs(value) >= 995_000:
        return f"{value / 1e6:,.1f}{NBSP}M"
    return f"{round(value, 1 - int(math.log10(max(1, abs(value))))):,.0f}"


def ratio(value: float | None) -> str:
    """Return a factor: ``2.62×``, ``15.3×``, ``1,200×``.

    Args:
        value: ``None`` prints as a dash.
    """
    if value is None:
        return NONE
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{abs(value):,.{decimals}f}×"
    return _with_sign(f"<{NBSP}0.01×" if value and text == "0.00×" else text, value, signed=False)


def rate(per_second: float | None, noun: str, plural: str = "") -> str:
    """Return a frequency in the period that suits it: ``12.4 requests/s``, ``2 connections/min``.

    Args:
        per_second: ``None`` prints as a dash.
        noun: of one thing.
        plural: of several, where it is irregular.
    """
    if per_second is None:
        return NONE
    period, seconds = next(
        (known for known in _PERIODS if abs(per_second) * known[1] >= 0.995), _PERIODS[-1]
    )
    return f"{count(per_second * seconds if per_second else 0, noun, plural)}/{period}"


def plain(text: str) -> str:
    """Return a text with ordinary spaces, for a terminal or a log: its lines are already broken.

    So it can be searched (``grep "5.6 s"``), and printed in an encoding without the no-break space.
    """
    return text.replace(NBSP, " ")


def joined(text: str) -> str:
    """Return a sentence whose lines never break between a number and its unit, for a page.

    Sentences of findings have ordinary spaces, as programs read and search them in JSON.
    """
    return _AMOUNT.sub(NBSP, text)


def _scaled(value: float, units: tuple[_Unit, ...]) -> str:
    """Return a positive amount in the largest unit that it reaches."""
    unit = next(unit for unit in units if value >= unit.starts)
    scaled = value / unit.worth
    text = f"{scaled:,.1f}" if scaled < unit.decimal_below else f"{scaled:,.0f}"
    if text == "0":  # smaller than the smallest unit
        text = f"<{NBSP}1"
    return f"{text}{NBSP}{unit.name}"


def _with_sign(text: str, value: float, *, signed: bool) -> str:
    """Return the text of an amount with its sign; ``< 1`` turns to ``> -1``."""
    if value < 0:
        return f">{NBSP}-{text[2:]}" if text.startswith("<") else f"-{text}"
    return f"+{text}" if signed and value > 0 and not text.startswith("<") else text


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
