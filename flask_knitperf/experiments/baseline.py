"""Baseline: every GET rule without parameters is called a number of times.

Measurements are kept in this process's memory, separate from those of the running workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.printable import printable
from ..runtime.session import Session
from .in_process import Application, Request, send

if TYPE_CHECKING:
    from ..reports.documents import Report

_PARAMETER = "<"


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """Report of a baseline, and the ``METHOD rule`` of each rule skipped because it has parameters."""

    report: Report
    skipped: list[str]


class Baseline:
    """Calls the endpoints of an application.

    Args:
        session: the application's session; from now on it keeps all measurements in memory.
        application: the WSGI application.
    """

    def __init__(self, session: Session, application: Application) -> None:
        session.stay_in_memory()
        self._session = session
        self._application = application

    def run(self, times: int) -> BaselineResult:
        """Call the endpoints in turns, and return the result.

        Args:
            times: calls of each endpoint; the first is its warm-up and reported separately.
        """
        rules = sorted({(rule, name) for name, rule, methods in self._session.routes
                        if "GET" in methods})  # fmt: skip
        without_parameters = [rule for rule, _ in rules if _PARAMETER not in rule]
        for _ in range(times):
            for rule in without_parameters:
                send(self._application, Request(rule))
        skipped = [f"GET {rule} ({name})" for rule, name in rules if _PARAMETER in rule]
        return BaselineResult(self._session.documents.report("run"), printable(skipped))
