"""Two windows side by side: which endpoints became slower or faster, beyond chance.

"p95 grew by 5 %" cries wolf in a quarter of all cases. Here an endpoint is slower when its p95 grew by
at least 5 % and, of all requests beyond what 95 % kept to before, that many are later ones that chance
would name any endpoint of the application in less than one case of a hundred (the exact test of Fisher,
which allows for either window being a sample, at one hundredth divided by the number of endpoints:
Bonferroni). Faster is the same, the other way round.

That an endpoint is the same is a claim too: the 95 % interval of the ratio of both p95 lies within 10 %.
Its ends are quotients of order statistics, whose ranks bound a quantile with a known probability
whatever the distribution (W. R. Thompson, Ann. Math. Stat. 7, 1936). Where neither is shown, there are
too few requests.

What is slower only because it has more to do, a month's end, is not slower. Requests whose rows are
known are held against those with as many rows, to half a power of two: where these took as long as
before, or where there are none with as many, as long as the scaling law of the window before predicts,
the endpoint has more rows (see :mod:`.scaling`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from ..core.clock import NS_PER_MS
from ..metrics.histogram import Histogram, binomial_tail, hypergeometric_tail
from .endpoints import Endpoint
from .scaling import MAX_EXTRAPOLATION, MIN_CLASS_REQUESTS

FAMILY_ALPHA = 0.01
"""Probability of naming any endpoint wrongly."""
SAME = 1.1
"""Ratio of p95, or its inverse, up to which an endpoint is the same."""
_TAIL = 0.0125  # of each of the four bounds that an interval of 95 % has
_BUCKET = 1.011  # ratio of the ends of a bucket
WORTH = 1.05
NEARLY_ALL = 0.9
TOLERATED = 1.25
"""Times what requests with as many rows took before: no more than that is the rows' doing."""
MIN_REQUESTS = 20
"""Fewer requests than this on either side decide nothing."""


Change = Literal["slower", "new", "more rows", "faster", "same", "too few", "gone"]
Interval = tuple[float | None, float | None]
_ORDER: dict[Change, int] = {change: order for order, change in enumerate(get_args(Change))}


class Comparison(NamedTuple):
    """One endpoint and method in two windows.

    Attributes:
        endpoint: its name.
        method: its method.
        change: result of the comparison.
        now: the endpoint in the window, ``None`` where it has no data.
        before: the endpoint in the other window, ``None`` where it has no data.
    """

    endpoint: str
    method: str
    change: Change
    now: Endpoint | None
    before: Endpoint | None

    @property
    def ratio(self) -> float | None:
        """Ratio of the two p95, ``None`` where either is unknown."""
        return _ratio(self.now, self.before)

    @property
    def interval(self) -> Interval:
        """95 % interval of the ratio; an end is ``None`` where there are too few requests for it."""
        return _interval(self.now, self.before)


def compare(now: Iterable[Endpoint], before: Iterable[Endpoint]) -> list[Comparison]:
    """Return a comparison for each endpoint and method of either window, the slower ones first."""
    old = {(row.endpoint, row.method): row for row in before}
    new = {(row.endpoint, row.method): row for row in now}
    judged = sum(_has_enough(new[pair], old[pair]) for pair in new.keys() & old.keys())
    alpha = FAMILY_ALPHA / max(1, judged)
    rows = [
        Comparison(
            *pair, _change(new.get(pair), old.get(pair), alpha), new.get(pair), old.get(pair)
        )
        for pair in {**old, **new}
    ]
    return sorted(rows, key=lambda row: (_ORDER[row.change], -(row.ratio or 0), row.endpoint))


def _has_enough(new: Endpoint, old: Endpoint) -> bool:
    return min(new.warm.count, old.warm.count) >= MIN_REQUESTS


def _change(new: Endpoint | None, old: Endpoint | None, alpha: float) -> Change:
    if old is None or new is None:
        return "new" if old is None else "gone"
    if not _has_enough(new, old):
        return "too few"
    if _exceeds(new, old, alpha):
        return "more rows" if _has_more_rows(new, old) else "slower"
    if _exceeds(old, new, alpha):
        return "faster"
    low, high = _interval(new, old)
    return "same" if low and high and low >= 1 / SAME and high <= SAME else "too few"


def _interval(new: Endpoint | None, old: Endpoint | None) -> Interval:
    if new is None or old is None:
        return None, None
    (low, high), (low_before, high_before) = _bounds(new.warm), _bounds(old.warm)
    return (
        low / high_before / _BUCKET if low and high_before else None,
        high / low_before * _BUCKET if high and low_before else None,
    )


def _bounds(requests: Histogram) -> Interval:
    """Return bounds of the true p95, of which each is wrong with a probability of :data:`_TAIL`."""
    n = requests.count
    low = _least_rank(n, 1 - _TAIL) - 1
    high = _least_rank(n, _TAIL)
    return (
        requests.quantile((low - 0.5) / n) if low >= 1 else None,
        requests.quantile((high - 0.5) / n) if high <= n else None,
    )


def _least_rank(n: int, probability: float) -> int:
    """Return the least rank that fewer than a share of samples have below their true p95.

    Args:
        n: number of requests.
        probability: that at least that many requests are below the true p95.
    """
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, n, 0.95) <= probability:
            high = middle
        else:
            low = middle + 1
    return low


def _ratio(new: Endpoint | None, old: Endpoint | None) -> float | None:
    p95, p95_before = (row.warm.quantile(0.95) if row else None for row in (new, old))
    return p95 / p95_before if p95 and p95_before else None


def _has_more_rows(new: Endpoint, old: Endpoint) -> bool:
    """Return whether rows explain that an endpoint became slower.

    Each class of rows with enough requests is held against its like before, or against the law that held
    before; classes that explain their requests must be those of nearly all of them.
    """
    explained = judged = 0
    old_sizes = {size.name: size for size in old.reading.sizes}
    for size in new.reading.sizes:
        n, took = size.requests.count, size.requests.quantile(0.5) or 0.0
        then = old_sizes.get(size.name)
        usual = None
        if then is not None and then.requests.count >= MIN_CLASS_REQUESTS:
            usual = then.requests.quantile(0.5)
        elif (
            old.scaling_law is not None
            and size.rows <= MAX_EXTRAPOLATION * old.scaling_law.max_rows
        ):
            usual = old.scaling_law.ms(size.rows) * NS_PER_MS
        judged += n
        if usual and took <= TOLERATED * usual:
            explained += n
    everything = new.warm.count
    return judged >= NEARLY_ALL * everything and explained >= NEARLY_ALL * judged


def _exceeds(slower: Endpoint, faster: Endpoint, alpha: float) -> bool:
    kept, grown = faster.warm.quantile(0.95), slower.warm.quantile(0.95)
    if not kept or not grown or grown < WORTH * kept:
        return False
    n, beyond = slower.warm.count, slower.warm.above(kept)
    all_beyond = beyond + faster.warm.above(kept)
    return hypergeometric_tail(beyond, n, all_beyond, n + faster.warm.count) < alpha
