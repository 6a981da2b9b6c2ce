"""Alerts: ``/perf/alerts``, and the message of one alert."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Moment, Positive

Severity = Literal["CRITICAL", "WARNING", "INFO"]
RuleSource = Literal["default", "settings", "page"]
DeliveryStateName = Literal["queued", "sent", "failed"]


Bounds = TypedDict("Bounds", {"from": Moment, "to": Moment})


class AlertMessage(TypedDict):
    """Message of an alert, as channels receive it: at least once, with the same key in every try."""

    schema: Literal["flask-knitperf/alert/1"]
    key: Annotated[str, Field("idempotency key: the same in every try")]
    event: Literal["firing", "resolved", "repeat", "test"]
    at: Moment
    app: str
    release: Annotated[str | None, Field("that served at that time")]
    rule: str
    severity: Severity
    subject: Annotated[str, Field("endpoint with its method, or host; empty for all")]
    condition: Annotated[str, Field("the rule in words")]
    text: Annotated[str, Field("what was observed, in words")]
    observed: Annotated[
        float | None, Field("in the unit of the rule: a share, a rate, MB, seconds")
    ]
    events: Annotated[Count, Field("requests or look-ups that were judged")]
    since: Annotated[Moment, Field("time at which it fired")]
    began: Annotated[str | None, Field("its distance from the latest release, in words")]
    finding: Annotated[str | None, Field("the most severe finding of the endpoint, in words")]
    link: Annotated[str | None, Field("address of the page; null without KNITPERF_PUBLIC_URL")]


class FiringRow(TypedDict):
    """An alert that fires."""

    rule: str
    subject: str
    severity: Severity
    since: Moment
    text: str
    observed: float | None
    has_data: Annotated[bool, Field("whether there was data at the latest evaluation")]
    is_clear: Annotated[bool, Field("whether its condition is clear, but not for long enough yet")]
    silent_until: Moment | None


class FiredStretch(TypedDict):
    """Time for which an alert fired."""

    subject: str
    begins: Moment
    ends: Annotated[Moment | None, Field("null while it fires")]


class RuleRow(TypedDict):
    """A rule, and when it fired."""

    name: str
    condition: Annotated[str, Field("the rule in words")]
    severity: Severity
    channels: Annotated[list[str], Field("empty for all")]
    source: RuleSource
    fired: Annotated[Count, Field("number of alerts in the window")]
    stretches: Annotated[list[FiredStretch], Field("oldest first")]


class RulePreview(TypedDict):
    """A rule that is being written, and when it would have fired."""

    schema: Literal["flask-knitperf/rule/1"]
    metric: str
    form: Annotated[dict[str, str], Field("texts of its form")]
    chosen: Annotated[list[str], Field("channels that it is sent to, empty for all")]
    channels: Annotated[list[str], Field("names of all channels")]
    endpoints: Annotated[list[str], Field("names of the application's endpoints")]
    saved: Annotated[bool, Field("whether there is a rule of its name")]
    condition: Annotated[str | None, Field("the rule in words; null where it is not complete")]
    error: Annotated[str | None, Field("why it is not a rule yet, in words")]
    window: Annotated[Bounds | None, Field("time that was tested; null before a test")]
    fired: Annotated[list[FiredStretch] | None, Field("null where it cannot be tested")]


class DeliveryRow(TypedDict):
    """A message to one channel."""

    at: Annotated[Moment, Field("time of the change")]
    channel: str
    rule: str
    subject: str
    event: str
    state: DeliveryStateName
    tries: Count
    error: Annotated[str | None, Field("of the latest try that failed")]
    ended: Annotated[Moment | None, Field("time of the delivery, or of the last try")]
    next_try: Moment | None


class SilenceRow(TypedDict):
    """Alerts that send no message."""

    number: Positive
    rule: Annotated[str, Field("empty for all")]
    subject: Annotated[str, Field("empty for all")]
    until: Moment
    reason: str


class EventRow(TypedDict):
    """A change of an alert, or an act of a person."""

    at: Moment
    kind: str
    rule: str
    subject: str
    text: Annotated[str | None, Field("what was observed, or the reason")]


class AlertsReport(TypedDict):
    """Alerts of all hosts that share a history."""

    schema: Literal["flask-knitperf/alerts/1"]
    generated_at: Moment
    window: Bounds
    evaluated_at: Annotated[Moment | None, Field("null before the first evaluation")]
    firing: Annotated[list[FiringRow], Field("the most severe first, then the latest")]
    rules: list[RuleRow]
    switched_off: Annotated[list[str], Field("rules that were switched off on the page")]
    channels: list[str]
    silences: list[SilenceRow]
    deliveries: Annotated[list[DeliveryRow], Field("newest first")]
    events: Annotated[list[EventRow], Field("newest first")]
