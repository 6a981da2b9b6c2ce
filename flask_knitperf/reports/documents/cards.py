"""Cards of a report: what to fix first, one for each thing that can be fixed."""

from typing import Annotated, Literal, TypedDict

from ...analysis.causes import CauseName
from ...analysis.judged import Severity, VerdictType
from .fields import Count, Field, Milliseconds, Seconds, Share


class CauseRow(TypedDict):
    """One cause of a finding, with its share of the time (or of the failures)."""

    cause: CauseName
    share: Share
    detail: str
    where: str | None


class Saving(TypedDict):
    """Time in the window that following the advice saves."""

    seconds: Seconds
    ms_per_request: Milliseconds
    share: Annotated[Share, Field("of the endpoint's time")]
    at_most: Annotated[bool, Field("an upper bound: some of it may be left")]


class PointRow(TypedDict):
    """One statement of a card, with what to do."""

    type: Annotated[
        VerdictType | None, Field("of the finding that it summarises, null if of several")
    ]
    text: Annotated[str, Field("sentences, empty where the title of the card has them")]
    recommendation: Annotated[str, Field("empty where another point has it")]
    observed: float | None
    threshold: float | None
    samples: Annotated[Count | None, Field("number of requests that were judged")]
    confidence: str | None
    saving: Saving | None


class CardEndpointRow(TypedDict):
    """One endpoint that a card is about."""

    endpoint: str
    method: str
    share: Annotated[
        Share | None, Field("of its time that the card is about, null if not about time")
    ]
    time_spent_s: Annotated[Seconds, Field("total time of the endpoint in the window")]


class SourceRow(TypedDict):
    """The line of code in which most of the time goes."""

    where: Annotated[str, Field("file and line of the application's code")]
    text: Annotated[
        str | None, Field("the line itself, null where its file is not at hand or changed")
    ]
    function: Annotated[str | None, Field("its function, null where it was not sampled")]
    calls: Annotated[str | None, Field("library function in which most of that time is spent")]
    share: Annotated[Share, Field("of the time")]


class CardRow(TypedDict):
    """One thing to fix: findings that belong together, each of which is on one card."""

    kind: Annotated[
        Literal["machine", "endpoint", "line", "hook", "failures"], Field("what it is about")
    ]
    severity: Annotated[Severity, Field("the worst of its findings")]
    title: str
    points: Annotated[list[PointRow], Field("the most important first")]
    endpoints: Annotated[list[CardEndpointRow], Field("most expensive first")]
    findings: Annotated[
        list[Count], Field("positions in bottlenecks of the findings that it merges")
    ]
    causes: Annotated[
        list[CauseRow], Field("division of an endpoint's time, largest first; empty for several")
    ]
    source: SourceRow | None
    time_spent_s: Annotated[Seconds, Field("of the requests that it is about")]
    saving_s: Annotated[
        Seconds | None, Field("that following its advice saves, null where that is not known")
    ]
    at_most: Annotated[bool, Field("whether saving_s is an upper bound")]
