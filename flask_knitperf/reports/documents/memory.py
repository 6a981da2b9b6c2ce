"""Memory of all workers: ``/perf/memory``."""

from typing import Annotated, Literal, TypedDict

from ...analysis.memory_pressure import LimitName
from ...core.memory_levels import Level
from ...metrics.catalogue import ReliefStep
from .fields import (
    Count,
    Field,
    Megabytes,
    Milliseconds,
    Moment,
    Number,
    Positive,
    Share,
    Window,
)
from .report import LeakRow

TrendPoint = Annotated[
    list[Number], Field("[seconds since the epoch, lowest resident MB of that minute]", length=2)
]


class ReasonRow(TypedDict):
    """A limit that memory is close to."""

    limit: LimitName
    level: Level
    share: Annotated[Number, Field("of the limit")]
    text: str


class SizesRow(TypedDict):
    """Memory of one process."""

    worker: str
    rss_mb: Annotated[Megabytes, Field("resident set size")]
    pss_mb: Annotated[Megabytes | None, Field("proportional set size")]
    level: Level


class MemoryWorkerRow(SizesRow):
    """Memory of one worker."""

    pid: int | None
    host: str | None
    peak_mb: Annotated[Megabytes | None, Field("largest resident set size")]
    trend: list[TrendPoint]
    slope_mb_per_hour: float | None


class GenerationRow(TypedDict):
    """Garbage collections of one generation."""

    generation: Count
    collections: Count
    pause_ms: Annotated[Milliseconds, Field("total")]


class CollectingRow(TypedDict):
    """An endpoint whose requests are paused by garbage collections."""

    endpoint: str
    method: str
    count: Annotated[Count, Field("requests")]
    own_ms: Annotated[
        Milliseconds,
        Field("per request, collections that started in its thread, those above 1 ms"),
    ]
    ms: Annotated[Milliseconds, Field("per request, all collections during it")]
    share: Annotated[Number, Field("of the requests' time")]


class FrozenRow(TypedDict):
    """A worker that called gc.freeze(), with the time of a full collection before and after."""

    worker: str
    objects: Count
    before_ms: Milliseconds
    after_ms: Milliseconds


class ReliefRow(TypedDict):
    """One automatic step against memory pressure."""

    at: Moment
    worker: str
    before_mb: Megabytes
    after_mb: Megabytes
    freed_mb: float
    step: ReliefStep
    dropped: Annotated[Count, Field("entries evicted from caches")]
    trimmed_mb: Annotated[float, Field("of freed_mb, returned by the allocator after collecting")]
    objects: Annotated[Count, Field("collected objects")]
    pause_ms: Milliseconds
    next_in_seconds: Number
    why: str


class GrowthRow(TypedDict):
    """Growth of one worker's allocated memory over the period that it judged."""

    worker: str
    pid: int | None
    grown_mb: Annotated[Megabytes, Field("0 where growth is not significant")]
    bytes_per_request: Number
    requests: Count
    minutes: Number
    chance: Annotated[Share, Field("p-value of the growth")]


class SuspectRow(LeakRow):
    """An endpoint whose requests are suspected to retain memory."""

    endpoint: str
    method: str


class LiveFrameRow(TypedDict):
    """One DataFrame that is alive."""

    rows: Count
    columns: Count
    names: Annotated[list[str], Field("its first columns")]
    mb: Annotated[Megabytes, Field("buffers behind it, as far as it shows them")]
    shared_mb: Annotated[Megabytes, Field("of those, shown by other frames too")]
    pinned_mb: Annotated[Megabytes, Field("of its buffers, what no live frame shows")]
    copies: Annotated[Count, Field("other frames with equal values in separate memory")]
    origin: str | None
    where: str | None
    saves_mb: Annotated[
        Megabytes | None, Field("what a balanced plan would save, null where none was made")
    ]


class WorkerFramesRow(TypedDict):
    """DataFrames of one worker, at its last listing."""

    worker: str
    pid: int | None
    at: Moment
    count: Count
    mb: Annotated[Megabytes, Field("each buffer once")]
    duplicated_mb: Megabytes
    pinned_mb: Megabytes
    stalled_ms: Annotated[Milliseconds, Field("how long the scan stopped all threads")]
    frozen: Annotated[Count, Field("objects in gc.freeze(); frames among them are not seen")]
    frames: list[LiveFrameRow]


class CacheRow(TypedDict):
    """One cache that the application registered, in the worker that responds."""

    name: str
    type: str
    entries: Annotated[Count | None, Field("null where the cache cannot be read")]
    size: float | None
    max_size: float | None
    hit_rate: Share | None


class DecoratedRow(TypedDict):
    """A function decorated with memory_efficient, in the worker that responds."""

    function: str
    frames: Annotated[Positive, Field("frames that it returned")]
    before_mb: Annotated[Megabytes, Field("total of those frames")]
    after_mb: Megabytes


class PressureDocument(TypedDict):
    """Pressure on memory, and what to do about it."""

    threshold_mb: Megabytes
    level: Annotated[Level | None, Field("null where nothing was measured")]
    reasons: list[ReasonRow]
    total_rss_mb: Megabytes | None
    total_pss_mb: Megabytes | None
    available_mb: Megabytes | None
    cgroup_limit_mb: Megabytes | None
    recommendations: list[str]
    percent: Annotated[Number | None, Field("of the machine's memory in use")]


class MemoryReport(PressureDocument):
    """Response of /perf/memory. _mb are units of 1024 x 1024 bytes."""

    schema: Literal["flask-knitperf/memory/1"]
    generated_at: Moment
    window: Window
    workers: list[MemoryWorkerRow]
    gc: list[GenerationRow]
    collecting: Annotated[
        list[CollectingRow], Field("endpoints whose own garbage causes most pauses first")
    ]
    frozen: list[FrozenRow]
    housekeeper: list[ReliefRow]
    growth: Annotated[
        list[GrowthRow], Field("by worker; workers that cannot judge yet are left out")
    ]
    suspects: Annotated[list[SuspectRow], Field("largest growth first")]
    live_frames: Annotated[
        list[WorkerFramesRow], Field("by worker; workers without a listing are left out")
    ]
    caches: list[CacheRow]
    decorated: Annotated[list[DecoratedRow], Field("largest saving first")]
    degraded: Annotated[list[str], Field("what could not be measured, in sentences")]
