"""DataFrames in fewer bytes, without a changed value. Imports pandas, and no Flask.

>>> import pandas as pd
>>> from flask_knitperf.frames import plan_dataframe
>>> plan = plan_dataframe(pd.DataFrame({"pounds": [12, 30_000]}))
>>> plan.columns[0].to
'int32'
"""

from .decorators import (
    FrameSizeWarning,
    FrameTooLargeError,
    drop_duplicate_rows,
    limit_dataframe_size,
    limit_rows,
    memory_efficient,
)
from .memory_usage import Size, size_of
from .packed_array import PackedDtype
from .plan import ColumnPlan, FrameError, Plan, PlanNotice, optimize_dataframe, plan_dataframe
from .read_csv import read_csv

__all__ = [
    "ColumnPlan", "FrameError", "FrameSizeWarning", "FrameTooLargeError", "PackedDtype", "Plan",
    "PlanNotice", "Size", "drop_duplicate_rows", "limit_dataframe_size", "limit_rows",
    "memory_efficient", "optimize_dataframe", "plan_dataframe", "read_csv", "size_of",
]  # fmt: skip
