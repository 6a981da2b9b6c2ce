"""Types of the published documents; their JSON Schemas are generated from them.

A document is a ``TypedDict``, because it is JSON. One module per document; ``fields`` holds the number
types and the metadata that a schema adds: description, bounds, format. Documents are built as plain
dicts, so other packages import these types for annotations only, which keeps their import cheap.
"""

from .alerts import AlertMessage, AlertsReport, RulePreview
from .cache import CacheReport
from .charts import Charts
from .comparison import ComparisonReport
from .endpoint import EndpointReport
from .live import Live
from .memory import MemoryReport
from .queries import QueriesReport
from .report import Report
from .request import RequestReport

__all__ = [
    "AlertMessage", "AlertsReport", "CacheReport", "Charts", "ComparisonReport", "EndpointReport",
    "Live", "MemoryReport", "QueriesReport", "Report", "RequestReport", "RulePreview",
]  # fmt: skip
