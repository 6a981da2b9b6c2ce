"""Two windows of an application side by side: ``flask knitperf report --against --json``."""

from typing import Annotated, TypedDict

from ...analysis.regression import Change
from .fields import Count, Field, Milliseconds, Number


class ComparisonRow(TypedDict):
    """One endpoint and method in two windows, without each worker's first requests."""

    endpoint: str
    method: str
    change: Change
    count: Count
    count_before: Count
    needed: Annotated[
        Count, Field("requests in each of the two windows, fewer of which are too few")
    ]
    p50_ms: Milliseconds | None
    p50_before_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p95_before_ms: Milliseconds | None
    ratio: Annotated[Number | None, Field("p95_ms divided by p95_before_ms")]
