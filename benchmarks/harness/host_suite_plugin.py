"""Plugin of pytest for the test suites of others: records outcomes, may switch ours on everywhere.

It is loaded in the environment of a suite, as a separate module (``-p host_suite_plugin``), with

``HOST_SUITE_OUTCOMES``
    the file that gets ``{test: [outcome, message]}``;
``HOST_SUITE_MODE``
    what is switched on: ``flask`` (an application gets the extension at the end of ``Flask.__init__``),
    ``sqlite3`` (``sqlite3.connect`` returns wrapped connections), ``sqlalchemy`` (every engine is
    watched); empty for nothing.

Statements are recorded within requests and jobs, so in the last two modes each test runs as a job.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODE = os.environ.get("HOST_SUITE_MODE", "")
_RANK = ("passed", "xfailed", "xpassed", "skipped", "failed", "error")  # the last one counts
_outcomes: dict[str, list[str]] = {}
_recorded: list[Any] = []
"""The extension by whose application each test is recorded as a job, and that application."""


def pytest_configure() -> None:
    """Switch the extension on before the first test is imported."""
    if MODE:
        {"flask": _on_applications, "sqlite3": _on_connections, "sqlalchemy": _on_engines}[MODE]()


def _on_applications() -> None:
    from flask import Flask

    from flask_knitperf import KnitPerf

    create, folder = Flask.__init__, tempfile.mkdtemp()

    @functools.wraps(create)
    def created(app: Any, *args: Any, **kwargs: Any) -> None:
        create(app, *args, **kwargs)
        app.config["KNITPERF_STATE_DIR"] = folder
        KnitPerf(app)
        del app.config["KNITPERF_STATE_DIR"]  # read by now; a suite may compare configurations

    Flask.__init__ = created  # type: ignore[method-assign]


def _on_connections() -> None:
    import sqlite3

    from flask_knitperf import QueryOptimizer

    _record_jobs()
    sqlite3.connect = QueryOptimizer().wrap_connect(sqlite3.connect)


def _on_engines() -> None:
    from sqlalchemy.engine import Engine
    from sqlalchemy.util import EMPTY_DICT

    from flask_knitperf import QueryOptimizer

    _record_jobs()
    create, optimizer = Engine.__init__, QueryOptimizer()

    def created(  # create_engine() reads the names of the parameters
        self: Any, pool: Any, dialect: Any, url: Any, logging_name: Any = None, echo: Any = None,
        query_cache_size: int = 500, execution_options: Any = EMPTY_DICT,
        hide_parameters: bool = False,
    ) -> None:  # fmt: skip
        create(self, pool, dialect, url, logging_name, echo, query_cache_size, execution_options,
               hide_parameters)  # fmt: skip
        optimizer.instrument(self)

    Engine.__init__ = created  # type: ignore[method-assign]


def _record_jobs() -> None:
    """Have each test recorded as a job of an application."""
    from flask import Flask

    from flask_knitperf import KnitPerf

    app = Flask("suite")
    app.config["TESTING"] = True
    _recorded[:] = KnitPerf(app), app


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test as a job, where statements are to be recorded."""
    if not _recorded:
        yield
        return
    with _recorded[0].job("test"):
        yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst outcome of a test's phases."""
    outcome = str(report.outcome)
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    elif report.failed and report.when != "call":
        outcome = "error"
    before = _outcomes.setdefault(report.nodeid, ["passed", ""])
    if _RANK.index(outcome) > _RANK.index(before[0]):
        message = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
        before[:] = outcome, (message or str(report.longrepr or "").strip()[-300:])[:300]


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    Path(os.environ["HOST_SUITE_OUTCOMES"]).write_text(json.dumps(_outcomes), encoding="utf-8")
