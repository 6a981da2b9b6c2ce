"""Results of ``perf.memory``: the memory of one process, with an application or without."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Megabytes, Number
from .memory import CacheRow, DecoratedRow, MemoryReport, PressureDocument, SizesRow


class ProcessFigures(TypedDict):
    """Resident memory of this process, and its growth since it was first read."""

    rss_mb: Megabytes
    initial_memory_mb: Megabytes
    memory_growth_mb: float


class PressureReport(PressureDocument):
    """Pressure on the memory of a process without an application."""

    workers: list[SizesRow]
    caches: list[CacheRow]
    decorated: list[DecoratedRow]


class ProcessMemoryReport(PressureReport, ProcessFigures):
    """Result of ``get_memory_report()`` without an application."""


class ApplicationMemoryReport(MemoryReport, ProcessFigures):
    """Result of ``get_memory_report()`` with an application."""


class GenerationStatistics(TypedDict):
    """Figures of one generation, as of ``gc.get_stats()``."""

    collections: Count
    collected: Count
    uncollectable: Count


class MemoryStatistics(TypedDict):
    """Memory of this process now."""

    rss_mb: Megabytes | None
    vms_mb: Annotated[Megabytes | None, Field("virtual memory size")]
    pss_mb: Megabytes | None
    peak_mb: Megabytes | None
    available_mb: Megabytes | None
    percent: Annotated[Number, Field("of the machine's memory in use")]
    tracked_objects: Annotated[Count, Field("objects that the garbage collector tracks")]
    gc_stats: list[GenerationStatistics]
    gc_count: tuple[int, int, int]
    cache_size: Annotated[Count, Field("entries in registered caches")]


class MemoryWarning(TypedDict):
    """Pressure on memory that needs attention."""

    level: Literal["WARNING", "CRITICAL"]
    memory_mb: Megabytes
    memory_percent: Annotated[Number, Field("of the machine's memory, by this process")]
    message: str
    recommendations: list[str]
