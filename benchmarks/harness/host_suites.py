"""Other projects' test suites: where they come from, and how one runs in an environment made for them.

Everything is pinned: the suites by their source distributions, which hold the tests, and what they need.
Plugins of pytest are loaded by name, so that none of them reaches a suite that does not expect it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import ROOT

PINS = (
    "Flask==3.1.3", "Werkzeug==3.1.9", "Flask-SQLAlchemy==3.1.1", "Flask-Login==0.6.3",
    "Flask-Caching==2.5.1", "Flask-SocketIO==5.7.0", "flask-restx==1.3.2", "APIFlask==3.1.2",
    "SQLAlchemy==2.0.58", "asgiref", "blinker", "Faker", "greenlet", "jsonschema", "mock",
    "openapi-spec-validator", "pydantic", "python-dotenv", "pytest==8.4.2",
    "pytest-asyncio==1.5.0", "pytest-benchmark==5.3.1", "pytest-flask==1.3.0",
    "pytest-mock==3.17.0", "pytest-xdist==3.8.0", "pytest-xprocess==1.0.2", "pytz", "pyyaml",
    "redis", "semantic-version", "setuptools", "cachetools", "numpy", "pandas", "psutil",
)  # fmt: skip
"""Requirements of the environment: the projects, their tests, and the extension."""
_PLUGINS = ("host_suite_plugin", "host_suite_restx")


@dataclass(frozen=True)
class Suite:
    """One test suite.

    Attributes:
        name: of the project.
        mode: what is switched on, see :mod:`.host_suite_plugin`.
        source: requirement of the source distribution, empty for the interpreter's own library.
        options: further options of pytest.
        tests: files and folders that run.
        quick: the one that runs in a quick run.
        left_out: what does not run, and why.
    """

    name: str
    mode: str
    source: str
    options: tuple[str, ...]
    tests: tuple[str, ...]
    quick: str
    left_out: str = ""


_ORM = ("query", "session", "unitofwork", "eager_relations", "lazy_relations", "events",
        "transaction", "relationships")  # fmt: skip
_ALCHEMY = ("-p", "no:logging", "-p", "no:warnings", "--maxfail=10000")
_LIBRARY = "test/test_sqlite3"
SUITES = (
    Suite("Flask", "flask", "Flask==3.1.3", (), ("tests",), "tests/test_basic.py"),
    Suite("Flask-SQLAlchemy", "flask", "Flask-SQLAlchemy==3.1.1", (), ("tests",),
          "tests/test_engine.py"),
    Suite("Flask-Login", "flask", "Flask-Login==0.6.3", (), ("tests",), "tests"),
    Suite("Flask-Caching", "flask", "Flask-Caching==2.5.1",
          ("-p", "xprocess.pytest_xprocess", "-p", "pytest_asyncio.plugin"), ("tests",),
          "tests/test_view.py", "tests of Redis, Memcached and uWSGI skip themselves"),
    Suite("Flask-SocketIO", "flask", "Flask-SocketIO==5.7.0", ("-p", "no:logging"),
          ("test_socketio.py",), "test_socketio.py"),
    Suite("Flask-RESTX", "flask", "flask-restx==1.3.2",
          ("-p", "pytest_flask.plugin", "-p", "host_suite_restx", "-p", "pytest_mock",
           "-p", "pytest_benchmark.plugin", "--ignore=tests/test_postman.py"), ("tests",),
          "tests/test_cors.py",
          "its conftest.py is not in the source distribution: ours has its fixtures, written after "
          "the tests; nor is the schema that test_postman.py reads"),
    Suite("APIFlask", "flask", "APIFlask==3.1.2", (), ("tests",), "tests/test_async.py",
          "the tests of its examples need further packages"),
    Suite("SQLAlchemy, engine", "sqlalchemy", "SQLAlchemy==2.1.9", _ALCHEMY, ("test/engine",),
          "test/engine/test_transaction.py"),
    Suite("SQLAlchemy, orm", "sqlalchemy", "SQLAlchemy==2.1.9", _ALCHEMY,
          tuple(f"test/orm/test_{name}.py" for name in _ORM), "test/orm/test_transaction.py",
          "of test/orm these modules run: " + ", ".join(f"test_{name}" for name in _ORM)),
    Suite("CPython, sqlite3", "sqlite3", "", ("-c", os.devnull, "--rootdir=."), (".",),
          "test_types.py"),
)  # fmt: skip

Outcomes = dict[str, list[str]]
"""Outcome and message of each test."""


class Environment:
    """A folder with an interpreter for the suites, and their sources.

    Args:
        folder: where everything is created; what is there already is used again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "environment" / "bin" / "python"
        self._path = folder / "path"

    def create(self) -> None:
        """Install the projects, and what their tests need."""
        if not self._python.exists():
            venv.create(self._folder / "environment", with_pip=True, symlinks=True)
            self._pip("install", *PINS)
        shutil.rmtree(self._path, ignore_errors=True)
        (self._folder / "temporary").mkdir(exist_ok=True)
        self._path.mkdir()  # not the root of this tree: its folder "tests" would hide theirs
        (self._path / "flask_knitperf").symlink_to(ROOT / "flask_knitperf")
        for name in _PLUGINS:
            (self._path / f"{name}.py").symlink_to(Path(__file__).with_name(f"{name}.py"))

    def source(self, suite: Suite) -> Path:
        """Return the folder in which a suite runs, downloaded and unpacked."""
        if not suite.source:
            library = self._output("import sysconfig; print(sysconfig.get_path('stdlib'))")
            return Path(library) / _LIBRARY
        folder = self._folder / suite.source.replace("==", "-")
        if not folder.exists():
            with_parts = folder.with_suffix(".part")
            self._pip("download", "--no-deps", "--no-binary", ":all:", "-d", str(with_parts),
                      suite.source)  # fmt: skip
            (archive,) = with_parts.glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            shutil.rmtree(with_parts)
        (inner,) = folder.iterdir()
        return inner

    def run(self, suite: Suite, mode: str, *tests: str) -> Outcomes:
        """Return the outcome of each test of a suite.

        Args:
            suite: the suite.
            mode: what is switched on, empty for nothing.
            tests: what runs instead of the whole suite.

        Raises:
            RuntimeError: pytest itself failed.
        """
        result = self._folder / "outcomes.json"
        result.unlink(missing_ok=True)
        environment = {
            **os.environ, "HOST_SUITE_MODE": mode, "HOST_SUITE_OUTCOMES": str(result),
            "PYTHONPATH": str(self._path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self._folder / "temporary"),
        }  # fmt: skip
        process = subprocess.run(
            [self._python, "-m", "pytest", "-q", "--tb=native", "-o", "addopts=",
             "-o", f"cache_dir={self._folder / 'cache'}", "-p", "host_suite_plugin",
             *suite.options, *(tests or suite.tests)],
            cwd=self.source(suite), env=environment, capture_output=True, text=True,
            check=False, timeout=1200,
        )  # fmt: skip
        if not result.exists():
            raise RuntimeError(f"{suite.name}: {(process.stdout + process.stderr)[-2000:]}")
        outcomes: Outcomes = json.loads(result.read_text(encoding="utf-8"))
        return outcomes

    def _pip(self, *words: str) -> None:
        subprocess.run([self._python, "-m", "pip", "-qq", "--disable-pip-version-check", *words],
                       check=True)  # fmt: skip

    def _output(self, program: str) -> str:
        process = subprocess.run(
            [self._python, "-c", program], capture_output=True, text=True, check=True
        )
        return process.stdout.strip()


def differing(plain: Outcomes, ours: Outcomes) -> list[str]:
    """Return the tests with another outcome, in order."""
    names = sorted({*plain, *ours})
    return [name for name in names if outcome(plain, name) != outcome(ours, name)]


def outcome(outcomes: Outcomes, test: str) -> str:
    """Return the outcome of a test, ``missing`` if it did not run."""
    return outcomes.get(test, ["missing"])[0]


def count(outcomes: Iterable[list[Any]], word: str) -> int:
    """Return the number of tests with an outcome."""
    return sum(row[0] == word for row in outcomes)
