"""Result of ``flask knitperf baseline``."""

from typing import Annotated

from .fields import Field
from .report import Report


class BaselineReport(Report):
    """The report, with the rules that were not called."""

    needs_parameters: Annotated[list[str], Field("rules that have parameters")]
