"""Lifetimes of values that tune themselves: ``ttl="auto"``.

Each load compares its value with the former one, so it is a check whether the value has changed within
some time; so is each verification of a hit. From the latest checks of a key follows the rate *m* of its
changes: the maximum likelihood for changes that are only known to lie within an interval, by
expectation maximization (Dempster, Laird and Rubin, 1977). The rate of the whole function counts as half
a change beside those of the key, so that a new key starts with what its function has shown.

A value that is requested *r* times a second, takes *L* seconds to load and lives for *T* costs load time
at each expiry, and outdated answers in between: about ``r·m·T²/2`` of them, each with the price *c*. The
sum per second, ``(L + c·r·m·T²/2) / (T + 1/r)``, is least for::

    T = −1/r + √(1/r² + 2L / (c·r·m))

So a lifetime is long where loading is expensive and changes are rare, and short otherwise. *c* is the
same for all functions; it moves until the estimated share of outdated hits meets
``KNITPERF_CACHE_STALE_BUDGET``. A lifetime is at most twice the time for which the value was seen
unchanged, so that a first impression is not trusted for hours.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

DEFAULT_BUDGET = 0.05
MAX_KEYS = 4_000
"""Number of keys of a function that have a history; others are forgotten, the oldest first."""
FIRST_TTL_S = 5.0
"""Seconds for which a value lives of which nothing is known yet."""
FIRST_VERSIONED_TTL_S = 600.0
"""The same where files or tables with versions invalidate it."""
MIN_TTL_S = 0.1
MAX_TTL_S = 3600.0
_MIN_BUDGET = 1e-4
"""Share of outdated hits below which a budget is the same as none."""
_CHECKS = 12
"""Number of checks of a key that are remembered: what changes often today may not tomorrow."""
_PRIOR = 0.5
"""Number of changes for which the rate of the function counts beside those of a key."""
_STEPS = 8
"""Steps of expectation maximization."""
_PRICES = 1e-9, 1e9
"""Bounds of the price of an outdated answer, in seconds of loading."""
_AIM = 0.85
"""Part of the budget that the estimate is to reach: it is uncertain."""
_TRUST = 10.0
"""Number of outdated hits for which the estimate counts beside what checks have shown."""
_FORGOTTEN = 0.0005
"""Share of what earlier checks have shown that one check replaces."""
_SMOOTHING = 0.5
"""Weight of the latest request rate and load time."""


class Check(NamedTuple):
    """Comparison of a value with that of a later load.

    Attributes:
        seconds: time between the two loads.
        changed: whether they differ.
    """

    seconds: float
    changed: bool


class Share(NamedTuple):
    """Hits per second, and those of them that are outdated, as estimated for one key."""

    hits: float = 0.0
    stale: float = 0.0


class StalePrice:
    """Price of an outdated answer in seconds of loading, the same for all functions of a cache.

    Args:
        budget: returns the share of hits that may be outdated, by default 5 %.

    Attributes:
        value: the price, ``None`` before the first lifetime.
    """

    def __init__(self, budget: Callable[[], float] = lambda: DEFAULT_BUDGET) -> None:
        self._budget = budget
        self.value: float | None = None
        self._hits = self._stale = 0.0
        self._keys = 0
        self._expected = self._observed = _TRUST

    @property
    def share(self) -> float | None:
        """Estimated share of hits that are outdated, ``None`` without hits.

        A key whose changes were missed by chance gets a long lifetime, so estimates alone are too low on
        average. They are corrected by what the checks after a lifetime have shown.
        """
        if self._hits <= 0:
            return None
        return min(1.0, self._stale / self._hits * self._observed / self._expected)

    @property
    def _aim(self) -> float:
        return max(self._budget() * _AIM, _MIN_BUDGET)

    def compare(self, expected: float, observed: float) -> None:
        """Compare the outdated hits of one lifetime with those that were expected."""
        self._expected += expected - (self._expected - _TRUST) * _FORGOTTEN
        self._observed += observed - (self._observed - _TRUST) * _FORGOTTEN

    def of(self, rate: float, change_rate: float, cost: float) -> float:
        """Return the price; the first key to need one gets the lifetime that meets the budget.

        Args:
            rate: requests per second.
            change_rate: changes per second.
            cost: seconds of a load.
        """
        if self.value is None:
            ttl = max(2 * self._aim / change_rate, MIN_TTL_S)
            price = 2 * cost / (rate * change_rate * (ttl * ttl + 2 * ttl / rate))
            self.value = min(max(price, _PRICES[0]), _PRICES[1])
        return self.value

    def replace(self, before: Share | None, after: Share) -> None:
        """Count the new share of a key in place of its former one, and move the price.

        Args:
            before: ``None`` for a new key.
            after: its share from now on.
        """
        self.forget(before)
        self._keys += 1
        self._hits += after.hits
        self._stale += after.stale
        share, aim = self.share, self._aim
        if share is not None and self.value is not None:
            # each key moves it a little, so that one round of loads moves it in proportion
            step = min(2.0, max(0.1, share / aim)) ** (0.5 / max(self._keys, 4))
            self.value = min(max(self.value * step, _PRICES[0]), _PRICES[1])

    def forget(self, share: Share | None) -> None:
        """Leave out the share of a key."""
        if share is not None:
            self._keys -= 1
            self._hits = max(0.0, self._hits - share.hits)
            self._stale = max(0.0, self._stale - share.stale)


class History:
    """Everything that is known of one key.

    Attributes:
        checks: the latest ones.
        digest: of the latest value, ``None`` where it has none.
        loaded_at: monotonic time in seconds of the latest load.
        rate: requests per second.
        cost: seconds of a load.
        ttl: lifetime of the latest value.
        unchanged_s: longest time for which the value was seen unchanged.
        share: hits and outdated hits per second.
    """

    __slots__ = (
        "change_rate", "checks", "cost", "digest", "loaded_at", "rate", "run_s", "share", "ttl",
        "unchanged_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.checks: deque[Check] = deque(maxlen=_CHECKS)
        self.digest: bytes | None = None
        self.loaded_at = -math.inf
        self.rate = self.change_rate = self.cost = self.ttl = self.unchanged_s = self.run_s = 0.0
        self.share: Share | None = None

    def add(self, check: Check) -> None:
        """Note a check."""
        self.checks.append(check)
        if check.changed:
            self.run_s = 0.0
            self.unchanged_s /= 2
        else:
            self.run_s += check.seconds
            self.unchanged_s = max(self.unchanged_s, self.run_s)


class TTLTuner:
    """Lifetimes of the values of one function.

    Args:
        price: of an outdated answer.

    Attributes:
        checks: number of all checks.
        changes: number of those that differed.
    """

    def __init__(self, price: StalePrice) -> None:
        self._price = price
        self._histories: OrderedDict[int, History] = (
            OrderedDict()
        )  # by hash of the key, oldest first
        self.checks = self.changes = 0
        self._exposure_s = 0.0  # time in which a change would have been seen

    def __len__(self) -> int:
        return len(self._histories)

    @property
    def change_rate(self) -> float | None:
        """Changes per second of the values of the function, ``None`` before the first check."""
        return (self.changes + _PRIOR) / self._exposure_s if self._exposure_s > 0 else None

    def histories(self) -> list[History]:
        """Return the history of each key."""
        return list(self._histories.copy().values())

    def digest(self, key: Hashable) -> bytes | None:
        """Return the digest of the latest value of a key, ``None`` where it has none."""
        history = self._histories.get(hash(key))
        return None if history is None else history.digest

    def planned(self, key: Hashable) -> float:
        """Return the seconds for which the latest value of a key lives."""
        history = self._histories.get(hash(key))
        return FIRST_TTL_S if history is None else history.ttl

    def survival(self, key: Hashable) -> float:
        """Return the probability that the value of a key is unchanged at its next call, 1 if unknown."""
        history = self._histories.get(hash(key))
        if history is None or not history.rate:
            return 1.0
        return history.rate / (history.rate + history.change_rate)

    def check(self, key: Hashable, seconds: float, *, changed: bool) -> None:
        """Note that a value was compared with a later load of its key.

        Args:
            key: of the call.
            seconds: time between the two loads.
            changed: whether they differ.
        """
        history = self._histories.get(hash(key))
        if history is not None and seconds > 0:
            self._add(history, Check(seconds, changed))

    def _add(self, history: History, check: Check) -> None:
        history.add(check)
        self.checks += 1
        self.changes += check.changed
        self._exposure_s += _exposure(check, self.change_rate or 0.0)

    def loaded(
        self, key: Hashable, now: float, cost: float, *, changed: bool | None = None,
        digest: bytes | None = None, hits: int | None = None, has_versions: bool = False,
    ) -> float:  # fmt: skip
        """Note a load; return the seconds for which its value lives.

        Args:
            key: of the call.
            now: monotonic time in seconds.
            cost: seconds that the load took.
            changed: whether the value differs from the former one, ``None`` where that is unknown.
            digest: of the value, ``None`` where it has none.
            hits: of the former value, ``None`` where they are unknown.
            has_versions: whether files or tables invalidate the value.
        """
        place = hash(key)
        history = self._histories.pop(place, None) or History()
        self._histories[place] = history
        if len(self._histories) > MAX_KEYS:
            _, forgotten = self._histories.popitem(last=False)
            self._price.forget(forgotten.share)
        elapsed = now - history.loaded_at
        if 0 < elapsed < math.inf:
            if changed is not None:
                self._compare(history, elapsed, hits or 0, changed=changed)
                self._add(history, Check(elapsed, changed))
            rate = (1 + (hits or 0)) / elapsed
            history.rate += (rate - history.rate) * (_SMOOTHING if history.rate else 1.0)
        history.cost += (cost - history.cost) * (_SMOOTHING if history.cost else 1.0)
        history.loaded_at, history.digest = now, digest
        history.ttl = self._ttl(history, has_versions=has_versions)
        return history.ttl

    def _compare(self, history: History, seconds: float, hits: int, *, changed: bool) -> None:
        """Compare the outdated hits of a lifetime that has ended with those that were expected."""
        share = history.share
        if share is not None and share.hits > 0:
            expected = hits * share.stale / share.hits
            probability = -math.expm1(-history.change_rate * seconds)
            self._price.compare(expected, expected / probability if changed else 0.0)

    def _ttl(self, history: History, *, has_versions: bool) -> float:
        first = FIRST_VERSIONED_TTL_S if has_versions else FIRST_TTL_S
        change_rate = self._change_rate(history)
        if change_rate is None or not history.rate:
            return first
        ttl = self._best(history, change_rate)
        ttl = max(min(ttl, max(first, 2 * history.unchanged_s), MAX_TTL_S), MIN_TTL_S)
        history.change_rate = change_rate
        before, history.share = history.share, share_of(history.rate, change_rate, ttl)
        self._price.replace(before, history.share)
        return ttl

    def _best(self, history: History, change_rate: float) -> float:
        """Return the lifetime with the least cost."""
        rate, cost = history.rate, max(history.cost, 1e-6)
        price = self._price.of(rate, change_rate, cost)
        gap = 1 / rate
        return -gap + math.sqrt(gap * gap + 2 * cost / (price * rate * change_rate))

    def _change_rate(self, history: History) -> float | None:
        """Return the changes per second of a key's value, ``None`` where nothing is known."""
        general = self.change_rate
        if general is None:
            return None
        rate = general
        for _ in range(_STEPS):
            changes = sum(check.changed for check in history.checks)
            exposure = sum(_exposure(check, rate) for check in history.checks)
            rate = (changes + _PRIOR) / (exposure + _PRIOR / general)
        return rate


def share_of(rate: float, change_rate: float, ttl: float) -> Share:
    """Return the hits per second of a key, and those of them that are outdated.

    Args:
        rate: requests per second.
        change_rate: changes per second.
        ttl: seconds for which a value lives.
    """
    hits = rate * (rate * ttl) / (1 + rate * ttl)
    changes = change_rate * ttl
    stale = 1 - -math.expm1(-changes) / changes if changes > 1e-6 else changes / 2
    return Share(hits, hits * stale)


def _exposure(check: Check, rate: float) -> float:
    """Return the seconds in which the first change could have happened, as expected for a rate."""
    changes = rate * check.seconds
    if not check.changed:
        return check.seconds
    if changes < 1e-6:
        return check.seconds / 2
    if changes > 500:
        return 1 / rate
    return 1 / rate - check.seconds / math.expm1(changes)
