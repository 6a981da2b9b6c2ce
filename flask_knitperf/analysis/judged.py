"""Verdict: a rule that holds for an endpoint, with the result of its test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .endpoints import Endpoint

ALPHA = 0.01  # significance level of a verdict
MIN_REQUESTS = 3  # below which nothing is judged
TOLERATED = 0.05  # share of requests that may exceed a latency threshold: the p95
MAJORITY = 0.5  # share of the time
UNMATCHED = "<unmatched>"

Severity = Literal["CRITICAL", "WARNING", "INFO"]
VerdictType = Literal[
    "SLOW_RESPONSE", "MODERATE_RESPONSE", "LOW_SUCCESS_RATE", "REQUEST_KILLED", "HIGH_VARIANCE",
    "SLOWED_BY", "REPEATED_FILE_READ", "LARGE_RESPONSE", "N_PLUS_ONE", "SLOW_QUERY",
    "DUPLICATE_QUERIES", "TOO_MANY_QUERIES", "LEAK_SUSPECTED", "GC_PAUSES", "CACHE_PER_USER",
    "CACHE_KEY_MISMATCH", "CACHE_STALE",
]  # fmt: skip
SEVERITIES: dict[str, int] = {"CRITICAL": 0, "WARNING": 1, "INFO": 2}


class Judged(NamedTuple):
    """Result of a rule on some requests.

    Attributes:
        bad: number of requests that exceed the threshold, of ``n``.
        n: number of judged requests.
        p: p-value.
        observed: the figure compared with ``threshold``: ms, KB, a number, a rate or a ratio.
        threshold: the configured limit.
    """

    bad: int
    n: int
    p: float
    observed: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule that holds for an endpoint.

    Attributes:
        type: e.g. ``SLOW_RESPONSE``.
        severity: CRITICAL, WARNING or INFO.
        row: the endpoint.
        judged: the result of the test.
        culprit: for ``SLOWED_BY`` the endpoint that causes it, if known.
        culprit_share: its share of the computing beside the slow requests.
    """

    type: VerdictType
    severity: Severity
    row: Endpoint
    judged: Judged
    culprit: str | None = None
    culprit_share: float | None = None
