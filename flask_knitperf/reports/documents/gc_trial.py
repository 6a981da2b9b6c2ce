"""Result of ``flask knitperf gc --json``."""

from typing import Annotated, TypedDict

from .fields import Count, Field, Milliseconds, Number


class GcSettingRow(TypedDict):
    """Cost of garbage collection under one setting of the collector."""

    name: str
    code: Annotated[str | None, Field("the call that sets it, null for the present setting")]
    pause_ms: Annotated[Milliseconds, Field("per request")]
    request_ms: Annotated[Milliseconds, Field("per request")]
    collections: Annotated[Number, Field("per request")]
    waiting_bytes: Annotated[int, Field("most garbage that waited for its collection")]


class GcTrialReport(TypedDict):
    """Cost of garbage collection for one address, under several settings."""

    url: str
    settings: Annotated[list[GcSettingRow], Field("the present setting first")]
    advice: Annotated[str | None, Field("the call that saves most, null where none does")]
    statuses: Annotated[dict[str, Count], Field("responses by status")]
