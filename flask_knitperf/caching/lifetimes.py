"""Lifetimes of the values of one cached function: fixed, tuned, or fixed with advice.

Values with a fixed lifetime are compared with those of later loads too, so that :meth:`Lifetimes.advice`
can say what another lifetime would bring. Comparing takes a bounded part of the time of loading.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypedDict

from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from ..core.units import count, duration, percent
from .call_keys import name_of
from .keys import Encoding
from .load import Load
from .options import Options
from .region import Entry
from .responses import comparable, content, is_response
from .same_value import is_same
from .ttl_tuning import FIRST_TTL_S, History, Share, StalePrice, TTLTuner, share_of

log = logging.getLogger("flask_knitperf")

MAX_DIGEST_SHARE = 0.02
"""Share of the load time that digests of the values may take."""
_FREE_DIGEST_S = 0.01
"""Seconds of digests before that share is judged."""
MIN_CHECKS = 20
"""Number of checks below which there is no advice."""


class TTLAdvice(TypedDict):
    """Outcome of the lifetimes of one function, in this process.

    Attributes:
        namespace: of the function.
        function: its module and name.
        ttl: seconds, ``"auto"`` where it is tuned, ``None`` where values do not expire.
        checks: number of comparisons of a value with a later load.
        changes: number of those that differed.
        changes_per_hour: estimated changes of one value, ``None`` before the first check.
        shortest_s: lifetime of the key with the shortest one, tuned; ``None`` without any.
        median_s: the same in the middle.
        longest_s: the same of the longest.
        hit_rate: estimated share of calls that are hits with tuned lifetimes, ``None`` without any.
        stale_share: estimated share of hits that are out of date with them.
        text: all of it, in sentences.
    """

    namespace: str
    function: str
    ttl: float | str | None
    checks: int
    changes: int
    changes_per_hour: float | None
    shortest_s: float | None
    median_s: float | None
    longest_s: float | None
    hit_rate: float | None
    stale_share: float | None
    text: str


class Lifetimes:
    """Lifetimes of the values of one function.

    Args:
        function: the function.
        options: of the function.
        price: of an outdated answer, of all functions with tuned lifetimes.
        advised: the same for advice, which changes no lifetime.
        timer: returns seconds, for the time that comparing takes.
    """

    def __init__(
        self, function: Callable[..., Any], options: Options, price: StalePrice, advised: StalePrice,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._function, self._options, self._timer = function, options, timer
        self._tuner = TTLTuner(price if options.auto_ttl else advised)
        self._digest_s = self._load_s = 0.0
        self._is_logged = False

    def planned(self, key: Hashable) -> float:
        """Return the seconds for which a value that is about to be loaded lives, as far as known."""
        return self._tuner.planned(key) if self._options.auto_ttl else self._options.ttl

    def survival(self, key: Hashable) -> float:
        """Return the probability that the value of a key is unchanged at its next call."""
        return self._tuner.survival(key)

    def check(self, key: Hashable, seconds: float, *, changed: bool) -> None:
        """Note that a hit was verified ``seconds`` after its load, and whether it differed."""
        self._tuner.check(key, seconds, changed=changed)

    def of(self, key: Hashable, value: Any, load: Load, now: float) -> float:
        """Return the seconds for which a value lives that was loaded. Never raises.

        Args:
            key: of its entry.
            value: as the function returned it.
            load: that has ended.
            now: monotonic time in seconds.
        """
        try:
            return self._of(key, value, load, now)
        except Exception as error:  # the caller has its value
            raise_if_of_host(error)
            if not self._is_logged:
                self._is_logged = True
                name = printable(name_of(self._function))
                log.exception("flask_knitperf: the lifetime of a value of %s cannot be tuned", name)
            return FIRST_TTL_S if self._options.auto_ttl else self._options.ttl

    def _of(self, key: Hashable, value: Any, load: Load, now: float) -> float:
        options = self._options
        if not options.auto_ttl and math.isinf(options.ttl):
            return options.ttl
        seconds, before = now - load.began, load.before
        self._load_s += seconds
        former, digest = self._tuner.digest(key), self._digest(value)
        changed = None
        if former is not None and digest is not None and not load.was_invalidated:
            changed = former != digest and not _has_same_value(before, value)
        ttl = self._tuner.loaded(
            key, now, seconds, changed=changed, digest=digest, has_versions=load.sources is not None,
            hits=None if before is None else before.hits,
        )  # fmt: skip
        return ttl if options.auto_ttl else options.ttl

    def _digest(self, value: Any) -> bytes | None:
        """Return a digest of a value, ``None`` where it has none or digests have taken long enough."""
        if self._digest_s > _FREE_DIGEST_S + MAX_DIGEST_SHARE * self._load_s:
            return None
        began = self._timer()
        try:
            encoding = Encoding(functions=False)
            encoding.add(content(value))
            return encoding.digest()
        except Exception as error:  # it has no content, or is a response that is streamed
            raise_if_of_host(error)
            return None
        finally:
            self._digest_s += self._timer() - began

    def advice(self) -> TTLAdvice:
        """Return the outcome of the lifetimes, and that of tuned ones."""
        options, tuner = self._options, self._tuner
        known = [one for one in tuner.histories() if one.share is not None]
        lifetimes = sorted(one.ttl for one in known)
        tuned, calls = _sum(one.share for one in known), sum(one.rate for one in known)
        per_hour = None if tuner.change_rate is None else tuner.change_rate * 3600
        ttl = "auto" if options.auto_ttl else None if math.isinf(options.ttl) else options.ttl
        return {
            "namespace": options.namespace, "function": name_of(self._function), "ttl": ttl,
            "checks": tuner.checks, "changes": tuner.changes, "changes_per_hour": per_hour,
            "shortest_s": lifetimes[0] if lifetimes else None,
            "median_s": statistics.median(lifetimes) if lifetimes else None,
            "longest_s": lifetimes[-1] if lifetimes else None,
            "hit_rate": tuned.hits / calls if calls else None,
            "stale_share": tuned.stale / tuned.hits if tuned.hits else None,
            "text": self._text(known, tuned, calls),
        }  # fmt: skip

    def _text(self, known: list[History], tuned: Share, calls: float) -> str:
        options, tuner = self._options, self._tuner
        name = name_of(self._function)
        if not options.auto_ttl and math.isinf(options.ttl):
            return f"{name} never expires; only invalidation ends its values."
        if tuner.checks < MIN_CHECKS or not calls or not tuned.hits:
            return f"{name}: {count(tuner.checks, 'check')} so far, too few for advice."
        seen = (
            f"{name}: its values had changed in {tuner.changes} of {count(tuner.checks, 'check')}. "
        )
        lifetimes = [one.ttl for one in known]
        span = f"from {duration(min(lifetimes) * 1000)} to {duration(max(lifetimes) * 1000)}"
        own = _outcome(tuned, calls)
        if options.auto_ttl:
            return f"{seen}Lifetimes {span}: {own}."
        fixed = _sum(share_of(one.rate, one.change_rate, options.ttl) for one in known)
        now = _outcome(fixed, calls)
        return f'{seen}With ttl={options.ttl:g}: {now}. With ttl="auto", lifetimes {span}: {own}.'


def _outcome(share: Share, calls: float) -> str:
    stale = share.stale / share.hits if share.hits else 0.0
    return f"{percent(share.hits / calls)} hits, {percent(stale)} of them out of date"


def _sum(shares: Iterable[Share | None]) -> Share:
    known = [share for share in shares if share is not None]
    return Share(sum(one.hits for one in known), sum(one.stale for one in known))


def _has_same_value(before: Entry | None, value: Any) -> bool:
    """Return whether values with different digests are the same, as frames with another layout are."""
    if before is None or before.raises or is_response(value):
        return False
    try:
        return is_same(comparable(before.value, before.copy), value)
    except Exception as error:
        raise_if_of_host(error)
        return False
