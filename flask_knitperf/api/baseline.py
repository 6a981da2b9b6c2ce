"""A baseline: every GET of an application that needs no parameter, called a number of times.

It is measured in this process's memory alone, beside whatever the real workers record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.test import EnvironBuilder, run_wsgi_app

from .session import Session

_MOST_BYTES = 64 << 20
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

    def __init__(self, session: Session, application: Callable[..., Iterable[bytes]]) -> None:
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
                self._call(rule)
        left_out = [f"GET {rule} ({name})" for rule, name in rules if _PARAMETER in rule]
        return Measured(self._session.report("run"), left_out)

    def _call(self, path: str) -> None:
        environ = EnvironBuilder(path=path, method="GET").get_environ()
        body, _, _ = run_wsgi_app(self._application, environ)
        read = 0
        try:
            for piece in body:
                read += len(piece)
                if read > _MOST_BYTES:
                    break
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
