"""A baseline: every GET of an application that needs no parameter, called a number of times.

It is measured in this process's memory alone, beside whatever the real workers record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runtime.session import Session
from .in_process import Application, Request, send

_PARAMETER = "<"


@dataclass(frozen=True, slots=True)
class Measured:
    """The report, and the ``METHOD rule`` of what was not called because it needs parameters."""

    report: dict[str, Any]
    left_out: list[str]


class Baseline:
    """Calls an application's endpoints.

    Args:
        session: the application's session; from now on it keeps everything in memory.
        application: the WSGI application.
    """

    def __init__(self, session: Session, application: Application) -> None:
        session.stay_in_memory()
        self._session = session
        self._application = application

    def run(self, times: int) -> Measured:
        """Call each endpoint so often, in turns, and return what was measured.

        Args:
            times: calls of each; the first is each endpoint's warm-up and kept apart.
        """
        rules = sorted({(rule, name) for name, rule, methods in self._session.routes
                        if "GET" in methods})  # fmt: skip
        callable_ = [rule for rule, _ in rules if _PARAMETER not in rule]
        for _ in range(times):
            for rule in callable_:
                send(self._application, Request(rule))
        left_out = [f"GET {rule} ({name})" for rule, name in rules if _PARAMETER in rule]
        return Measured(self._session.documents.report("run"), left_out)
