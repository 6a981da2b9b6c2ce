"""Findings: sentences that a person without experience in performance understands.

The symptom for users ("40 of 40 requests took over 500 ms, half of them 5.6 s or more"); the largest
measured cause with its line; the remedy; and the confidence. The texts are tables keyed by verdict and
cause, so that a new cause is a new row without code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..metrics.catalogue import ERROR, NEIGHBOUR, RepeatKind
from ..metrics.readings import Readings
from .advice import Explanation, explain
from .causes import Cause
from .endpoints import Endpoint
from .judged import Severity, Verdict, VerdictType
from .latency import LATENCY_TYPES
from .overload import overload
from .phrases import count, duration, grows, one_in, percent, size, title
from .repeated_queries import judged_repeats
from .savings import Saving, savings
from .scaling import ScalingLaw
from .verdicts import verdicts

if TYPE_CHECKING:
    from ..core.settings import Settings

# What the confidence counts, by type of the verdict: one, and several where that is irregular.
_COUNTED = {
    "REPEATED_FILE_READ": ("read found the file unchanged", "reads found the file unchanged"),
    "LARGE_RESPONSE": ("response", ""), "SLOW_QUERY": ("execution", ""),
    "LEAK_SUSPECTED": ("measured request", ""),
    "CACHE_PER_USER": ("result was not cached", "results were not cached"),
    "CACHE_STALE": ("verified hit was out of date", "verified hits were out of date"),
    "CACHE_KEY_MISMATCH": ("look-up missed and was followed by a write of another key",
                           "look-ups missed and were followed by a write of another key"),
    "GC_PAUSES": ("request was paused", "requests were paused"),
    "REQUEST_KILLED": ("request was killed", "requests were killed"),
}  # fmt: skip
# Words of confidence, by upper bound of the p-value.
CERTAINTY = ((1e-6, "sure"), (1e-4, "very likely"), (0.01, "likely"), (1.0, "possible"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of ``bottlenecks[]``. See :class:`.verdicts.Judged` for units of the figures.

    ``text`` consists of ``subject``, ``headline``, ``because``, the growth with rows, the advice and the
    confidence.
    """

    endpoint: str
    method: str
    type: VerdictType
    severity: Severity
    text: str
    observed: float | None
    threshold: float | None
    samples: int
    confidence: str
    why: list[Cause]
    recommendation: str
    time_spent_s: float
    saving: Saving | None = None
    subject: str = ""
    headline: str = ""
    because: str = ""


def findings(readings: Readings, rows: Iterable[Endpoint], settings: Settings) -> list[Finding]:
    """Return the problems of a window, most severe first.

    Args:
        readings: of the window, for its evidence.
        rows: of :func:`.endpoints.endpoints`.
        settings: the thresholds.
    """
    errors = readings.notes(ERROR)
    known = list(rows)
    judged = verdicts(known, settings, readings.notes(NEIGHBOUR))
    overloaded = overload(known) is not None
    explained = [explain(verdict, errors, overloaded=overloaded) for verdict in judged]
    return [
        _finding(verdict, explanation, saving)
        for verdict, explanation, saving in zip(
            judged, explained, _savings(judged, explained), strict=True
        )
    ]


def _savings(judged: Sequence[Verdict], explained: Sequence[Explanation]) -> list[Saving | None]:
    """Return the saving of each verdict; where two are on the same time, that of the narrower one."""
    by_row: dict[int, list[int]] = {}
    for number, verdict in enumerate(judged):
        by_row.setdefault(id(verdict.row), []).append(number)
    result: list[Saving | None] = [None] * len(judged)
    for numbers in by_row.values():
        numbers.sort(key=lambda number: judged[number].type in LATENCY_TYPES)
        claims = [explained[number].avoidable for number in numbers]
        for number, saving in zip(numbers, savings(judged[numbers[0]].row, claims), strict=True):
            result[number] = saving
    return result


def _finding(verdict: Verdict, explanation: Explanation, saving: Saving | None) -> Finding:
    row, judged = verdict.row, verdict.judged
    causes, advice, _, reason = explanation
    sure = confidence(verdict)
    # without a route only failures are judged, which are not a 404
    subject = title(row.endpoint).removesuffix(" (404)")
    headline = _HEADLINES[verdict.type](verdict)
    because = [] if reason is None else [_because(verdict, reason)]
    if row.scaling_law is not None and verdict.type in LATENCY_TYPES:
        because.append(f"{_growth(row.scaling_law, row.moderate_ms)}.")
    sentences = [f"{subject}: {headline}.", *because]
    sentences += [*filter(None, [advice]), f"{sure[:1].upper()}{sure[1:]}."]
    return Finding(
        endpoint=row.endpoint,
        method=row.method,
        type=verdict.type,
        severity=verdict.severity,
        text=" ".join(sentences),
        observed=judged.observed,
        threshold=judged.threshold,
        samples=judged.n,
        confidence=sure,
        why=causes,
        recommendation=advice,
        time_spent_s=row.time_spent_s,
        saving=saving,
        subject=subject,
        headline=headline,
        because=" ".join(because),
    )


def _growth(law: ScalingLaw, limit_ms: float) -> str:
    """Return the sentence on a scaling law, with the figures rounded as in the report."""
    crossing = law.next_crossing(limit_ms)
    rows, ms = (None, None) if crossing is None else (round(crossing.rows), crossing.ms)
    return grows(round(law.k, 2), round(law.low, 2), round(law.high, 2), rows, ms)


def confidence(verdict: Verdict) -> str:
    """Return the confidence in a verdict, e.g. ``sure: 40 of 40 requests``."""
    judged = verdict.judged
    word = next(word for bound, word in CERTAINTY if judged.p <= bound)
    noun, plural = _COUNTED.get(verdict.type, ("request", ""))
    if verdict.type == "LOW_SUCCESS_RATE":
        plural = _attempts(verdict.row)
    return f"{word}: {judged.bad:,} of {count(judged.n, noun, plural)}"


def _attempts(row: Endpoint) -> str:
    """Return the plural of what an endpoint serves, e.g. ``requests and long polls``."""
    conversations = [kind.kind.replace("_", " ") + "s" for kind in row.reading.conversations]
    requests = ["requests"] if row.count or row.killed or not conversations else []
    return " and ".join((*requests, *conversations))


def _waits(verdict: Verdict) -> str:
    judged = verdict.judged
    usual = (verdict.row.every.quantile(0.5) or 0.0) / 1e6  # the p50 of the report
    if judged.n >= 20 and usual <= judged.threshold:
        return f"1 in 20 users waits over {duration(judged.observed)}"
    of = "them" if judged.bad == judged.n else "all"
    half = f", half of {of} {duration(usual)} or more" if usual > judged.threshold else ""
    requests = count(judged.n, "request")
    return f"{judged.bad:,} of {requests} took over {duration(judged.threshold)}{half}"


def _varies(verdict: Verdict) -> str:
    warm = verdict.row.warm
    usual, worst = (warm.quantile(0.5) or 0) / 1e6, (warm.quantile(0.99) or 0) / 1e6
    often = one_in(verdict.judged.bad, verdict.judged.n)
    return (
        f"usually it takes {duration(usual)}, but {often} requests is far slower, "
        f"up to {duration(worst)}"
    )


def _fails(verdict: Verdict) -> str:
    judged, killed = verdict.judged, verdict.row.killed
    share = "all" if judged.bad >= judged.n else f"{percent(judged.bad / judged.n)} of"
    more = f" ({killed:,} killed by the server before a response)" if killed else ""
    return f"{share} {_attempts(verdict.row)} fail{statuses(verdict.row)}{more}"


def statuses(row: Endpoint) -> str:
    """Return the statuses of an endpoint's failures, most frequent first: `` with 500 and 503``."""
    failed = {status: n for status, n in row.reading.failed.items() if status.isdigit() and n}
    names = sorted(failed, key=lambda status: (-failed[status], status))
    return f" with {' and '.join(names)}" if names else ""


def _is_killed(verdict: Verdict) -> str:
    judged = verdict.judged
    if judged.n == 1:
        return f"the only request was killed with the worker, after {duration(judged.observed)}"
    were = "was" if judged.bad == 1 else "were"
    after = duration(judged.observed)
    return f"{judged.bad:,} of {judged.n:,} requests {were} killed with the worker, after {after}"


def _slowed(verdict: Verdict) -> str:
    solo = verdict.row.solo
    usual = solo.quantile(0.95) if solo.count else None
    healthy = f"; without them it takes {duration(usual / 1e6)}" if usual is not None else ""
    by = verdict.culprit
    if by is None:
        name = "other requests in its worker"
    elif by == verdict.row.endpoint:
        name = "its own parallel requests"
    else:
        name = title(by)
        if verdict.culprit_share is not None:
            name += f" ({percent(verdict.culprit_share)} of the computing beside it)"
    return f"slowed by {name} to {duration(verdict.judged.observed)}{healthy}"


def _repeats(verdict: Verdict) -> str:
    took = duration(verdict.judged.observed)
    return f"each request spends {took} on re-reading unchanged files"


def _depends_on_user(verdict: Verdict) -> str:
    return verdict.row.unkeyed_reads[0].text


def _is_outdated(verdict: Verdict) -> str:
    return verdict.row.stale_values[0].text


def _mismatched(verdict: Verdict) -> str:
    return verdict.row.mismatches[0].text


def _large(verdict: Verdict) -> str:
    return f"responses average {verdict.judged.observed:,.0f} KB"


def _n_plus_one(verdict: Verdict) -> str:
    one = judged_repeats(verdict.row, RepeatKind.N_PLUS_ONE)[0]
    return f"runs one query per row (N+1): {one.per_request:,.0f} per request"


def _duplicates(verdict: Verdict) -> str:
    one = judged_repeats(verdict.row, RepeatKind.DUPLICATES)[0]
    return f"repeats the same query {count(round(one.per_request), 'time')} per request"


def _too_many_queries(verdict: Verdict) -> str:
    judged = verdict.judged
    often = one_in(judged.bad, judged.n)
    return f"{often} request runs more than {count(round(judged.threshold), 'query')}"


def _slow_query(verdict: Verdict) -> str:
    judged = verdict.judged
    return f"one of its queries takes {duration(judged.observed)} (p95)"


def _keeps(verdict: Verdict) -> str:
    leak = verdict.row.leak
    assert leak is not None  # its verdict rests on it
    per_request = size(leak.bytes_per_request)
    return f"each request retains about {per_request}, {size(leak.grown_bytes)} in total so far"


def _stops(verdict: Verdict) -> str:
    took = duration(verdict.judged.observed)
    return f"garbage collection pauses each request for {took}"


_HEADLINES: dict[str, Callable[[Verdict], str]] = {
    "N_PLUS_ONE": _n_plus_one,
    "DUPLICATE_QUERIES": _duplicates,
    "TOO_MANY_QUERIES": _too_many_queries,
    "SLOW_QUERY": _slow_query,
    "REPEATED_FILE_READ": _repeats,
    "CACHE_PER_USER": _depends_on_user,
    "CACHE_STALE": _is_outdated,
    "CACHE_KEY_MISMATCH": _mismatched,
    "LEAK_SUSPECTED": _keeps,
    "GC_PAUSES": _stops,
    "LARGE_RESPONSE": _large,
    "SLOW_RESPONSE": _waits,
    "MODERATE_RESPONSE": _waits,
    "HIGH_VARIANCE": _varies,
    "LOW_SUCCESS_RATE": _fails,
    "REQUEST_KILLED": _is_killed,
    "SLOWED_BY": _slowed,
}


def _start(words: str) -> str:
    return words[:1].upper() + words[1:]


def _because(verdict: Verdict, top: Cause) -> str:
    where = f" ({top.where})" if top.where else ""
    if verdict.type == "LOW_SUCCESS_RATE":
        return f"{_start(percent(top.share))} of the failures: {top.detail}{where}."
    if top.cause == "unknown":
        return f"{_start(percent(top.share))} of its time was not measured."
    return f"{_start(percent(top.share))} of its time is spent {top.detail}{where}."


@dataclass(slots=True)
class Recommendation:
    """One advice, with the endpoints and types of the findings that it is for."""

    text: str
    severity: Severity
    endpoints: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)


def recommendations(rows: Iterable[Finding]) -> list[Recommendation]:
    """Return each advice once, with the endpoints that it is for, in the findings' order."""
    by_text: dict[str, Recommendation] = {}
    for finding in rows:
        if not finding.recommendation:
            continue
        entry = by_text.setdefault(
            finding.recommendation, Recommendation(finding.recommendation, finding.severity)
        )
        for names, name in ((entry.endpoints, finding.endpoint), (entry.types, finding.type)):
            if name not in names:
                names.append(name)
    return list(by_text.values())
