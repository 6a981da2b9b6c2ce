"""Types of the published documents; their JSON Schemas are generated from them.

A document is a ``TypedDict``, because it is JSON. One module per document; ``fields`` holds the number
types and what a schema states beyond a type: description, bounds, format. Nothing here is needed when a
document is built, so other packages import these types for annotations only.
"""

from .endpoint import EndpointReport
from .memory import MemoryReport
from .queries import QueriesReport
from .report import Report
from .request import RequestReport

__all__ = ["EndpointReport", "MemoryReport", "QueriesReport", "Report", "RequestReport"]
