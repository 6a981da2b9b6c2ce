"""DataFrames in fewer bytes without changing a value. Imports pandas, and not Flask.

>>> import pandas as pd
>>> from flask_knitperf.frames import plan_dataframe
>>> plan = plan_dataframe(pd.DataFrame({"pounds": [12, 30_000]}))
>>> plan.columns[0].to
'int32'
"""

from ..core.notices import MigrationWarning
from .decorators import memory_efficient
from .errors import FrameError, FrameSizeWarning, FrameTooLargeError, PlanNotice
from .memory_usage import Size, size_of
from .packed_array import PackedDtype
from .plan import Plan, optimize_dataframe, plan_dataframe
from .plan_data import ColumnPlan
from .read_csv import read_csv
from .row_limits import drop_duplicate_rows, limit_dataframe_size, limit_rows

__all__ = [
    "ColumnPlan", "FrameError", "FrameSizeWarning", "FrameTooLargeError", "MigrationWarning",
    "PackedDtype", "Plan", "PlanNotice", "Size", "drop_duplicate_rows", "limit_dataframe_size",
    "limit_rows", "memory_efficient", "optimize_dataframe", "plan_dataframe", "read_csv", "size_of",
]  # fmt: skip
