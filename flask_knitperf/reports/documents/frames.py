"""Plans of files: ``flask knitperf frames FILE --json``."""

from typing import Annotated, TypedDict

from .fields import Count, Field, Number

PlannedColumn = TypedDict(
    "PlannedColumn",
    {
        "position": Count, "name": str, "from": str, "to": str,
        "bytes_before": Count, "bytes_after": Count,
        "deep_bytes_before": Count, "deep_bytes_after": Count,
        "reason": str, "risks": list[str],
    },
)  # fmt: skip
"""Plan of one column, as :meth:`...frames.plan_data.ColumnPlan.as_dict` returns it."""


class PlannedFile(TypedDict):
    """Plan of the table in one file; ``deep`` bytes are those that pandas counts."""

    file: str
    level: str
    rows: Count
    float_tolerance: Number
    bytes_before: Count
    bytes_after: Count
    deep_bytes_before: Count
    deep_bytes_after: Count
    ratio: Annotated[Number, Field("bytes_before divided by bytes_after")]
    columns: list[PlannedColumn]
