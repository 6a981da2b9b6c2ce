"""Names that no output can show, in every place a name comes from: pages, JSON and terminal escape them.

The walk covers every page, document and command; a new one is missing here until it is added.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import urlencode

import cachetools
import pandas as pd
import pytest
from click.testing import CliRunner
from flask import session

from flask_knitperf.cli.commands import knitperf, offline
from flask_knitperf.core.printable import printable
from flask_knitperf.frames import plan_dataframe
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

from .web.clients import BEARER, TOKEN
from .web.reader import BROWSER

CONTROLS = "\x1b[31m\x07\x9b\u202e\r"
BAD = "\ud834\x1b[31m\x07\x9b\u202e\udce9\r"
"""Half a surrogate pair, terminal controls of 7 and 8 bits, an override, a byte of Latin-1."""
IN_A_FILE_NAME = BAD.replace("\ud834", "")
SHOWN = r"\ud834\x1b[31m\x07\x9b\u202e\udce9\r"
KINDS = ("release", "sort", "section", "explode", "folder", "yarn", "alias", "other", "rule", "cache",
         "column", "view", "read", "Failure", "reason", "space", "key", "load", "Flow")  # fmt: skip
PAGES = ("/", "/report", "/queries", "/cache", "/memory")


def renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function whose own name, qualified name and file end in the hostile text."""
    code: CodeType = function.__code__
    function.__code__ = code.replace(
        co_name=f"{name}{BAD}",
        co_qualname=f"{name}{BAD}",
        co_filename=f"/mill/{name}{IN_A_FILE_NAME}.py",
    )
    function.__name__ = function.__qualname__ = f"{name}{BAD}"
    return function


@pytest.fixture
def mill(make_app: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """Return an application that is hostile wherever it may name something."""
    mill = make_app(
        KNITPERF_ACCESS_TOKEN=TOKEN, KNITPERF_SAMPLER=True, KNITPERF_RELEASE=f"release{BAD}",
        KNITPERF_ENDPOINTS={f"sort{BAD}": {"slow_ms": 0.002, "moderate_ms": 0.001}},
        PROPAGATE_EXCEPTIONS=False,
    )  # fmt: skip
    mill.app.name = f"mill{BAD}"
    perf = mill.perf
    folder = tmp_path / f"folder{IN_A_FILE_NAME}"
    os.mkdir(folder)
    table = folder / f"yarn{IN_A_FILE_NAME}.csv"
    table.write_text("a,b\n1,2\n")
    connection = perf.queries.wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)
    connection.execute("create table t(a int)")
    mill.frame = pd.DataFrame({f"column{CONTROLS}": [f"value{CONTROLS}"] * 4000})
    mill.cache = cachetools.LRUCache(10)
    perf.session().caches.register(mill.cache, None, f"cache{BAD}")
    failure = type(f"Failure{CONTROLS}", (ValueError,), {})

    def explode() -> None:
        return None

    exploded = perf.profile(renamed(explode, "explode"))
    flow = type(f"Flow{CONTROLS}", (), {"__iter__": lambda self: self, "__next__": lambda _: 1})

    def load() -> str:
        return str(session.get(f"key{BAD}"))

    loaded = perf.cache.cached(namespace=f"space{BAD}")(renamed(load, "load"))
    streamed = perf.cache.cached(namespace=f"space{BAD}")(flow)

    def sort() -> str:
        with perf.section(f"section{BAD}"):
            exploded()
        loaded(), streamed()
        for _ in range(12):
            connection.execute("select a as alias\u202e\x9b from t where a = 1").fetchall()
        pd.read_csv(table)
        with pytest.raises((UnicodeEncodeError, sqlite3.Error)):
            connection.execute(f"select a as other{BAD} from t")
        return "s"

    def broken() -> str:
        raise failure(BAD)

    mill.app.add_url_rule("/sort", f"sort{BAD}", renamed(sort, "sort"))
    mill.app.add_url_rule("/broken", f"broken{BAD}", renamed(broken, "broken"))
    mill.app.add_url_rule(f"/rule{CONTROLS}/<name>", f"rule{BAD}", lambda name: name)
    for _ in range(30):
        assert mill.get("/sort").code == 200
        assert mill.get("/broken").code == 500
    mill.session.samples.add(
        (f"sort{BAD}", "GET"), 900_000_000,
        Sampled({(StackFrame(f"mill/{BAD}.py", 3, f"view{BAD}", True),
                  StackFrame(f"pandas/{BAD}.py", 0, f"read{BAD}", False)): [5, 900_000_000, 9, 0]}),
    )  # fmt: skip
    mill.session.memory_jobs.list_frames()
    mill.session.reservoir.tick(at_once=True)
    mill.session.cache_publisher.publish()
    mill.session.recorder.worker.degraded["test"] = f"reason{BAD}"
    mill.session.recorder.worker.publish()
    yield mill
    connection.close()


def check(text: str) -> None:
    """Fail on a text with a character that is not shown, or without the escaped form of the names."""
    assert printable(text.replace("\n", "").replace("\xa0", "")) == (
        text.replace("\n", "").replace("\xa0", "")
    )
    assert "\\x1b" in text and "�" not in text


def strings(value: Any) -> list[str]:
    """Return all texts of a JSON value, its keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def check_document(value: Any) -> None:
    for text in strings(value):
        assert printable(text) == text
    assert any("\\x1b" in text for text in strings(value))


def addresses(mill: Any) -> list[str]:
    """Return the addresses of all pages, as links on pages lead to them."""
    endpoint = printable(f"sort{BAD}")
    of = urlencode({"of": endpoint, "window": "run"})
    why = json.loads(mill.get(f"/perf/why?{of}", **BEARER).body)
    request = why["requests"]["latest"][0]["id"]
    return [
        *(f"/perf{path}?window=run" for path in PAGES), f"/perf/why?{of}",
        f"/perf/why?{of}&against=run", f"/perf/request?id={request}&window=run",
        f"/perf/why?{urlencode({'of': 'sor' + SHOWN})}",  # not found: the error lists both names
    ]  # fmt: skip


def test_pages_show_them_escaped(mill: Any) -> None:
    for address in addresses(mill):
        response = mill.get(address, HTTP_ACCEPT=BROWSER, **BEARER)
        assert response.code in (200, 409), (address, response.body)
        check(response.body.decode())


def test_documents_show_them_escaped(mill: Any) -> None:
    shown: list[str] = []
    for address in addresses(mill):
        response = mill.get(address, **BEARER)
        assert response.code in (200, 409), address
        check_document(json.loads(response.body))
        shown += strings(json.loads(response.body))
    for kind in KINDS:
        assert any(re.search(rf"{kind}\\(x1b|ud834|u202e)", text) for text in shown), kind


def test_files_of_stacks_show_them_escaped(mill: Any) -> None:
    of = urlencode({"of": f"sort{SHOWN}", "window": "run"})
    check_document(json.loads(mill.get(f"/perf/stacks?{of}", **BEARER).body))
    check(mill.get(f"/perf/stacks?{of}&form=collapsed", **BEARER).body.decode())


def test_links_on_a_page_lead_to_pages(mill: Any) -> None:
    response = mill.get("/perf/?window=run", HTTP_ACCEPT=BROWSER, **BEARER)
    assert urlencode({"of": f"sort{SHOWN}"})[3:10] in response.body.decode()
    assert mill.get(addresses(mill)[4], HTTP_ACCEPT=BROWSER, **BEARER).code == 200


COMMANDS = (
    ("report", "--window", "run"), ("report", "--against", "previous"),
    ("why", f"sort{SHOWN}", "--window", "run"), ("why", f"sor{SHOWN}"),
    ("why", f"sort{SHOWN}", "--window", "run", "--against", "run"),
    ("queries", "--window", "run"), ("cache", "--window", "run"), ("memory",),
)  # fmt: skip


def outputs(mill: Any, *arguments: str) -> list[str]:
    """Return the outputs of a command, with and without the application."""
    state = mill.app.config["KNITPERF_STATE_DIR"]
    with_application = mill.app.test_cli_runner().invoke(args=["knitperf", *arguments])
    without = CliRunner().invoke(offline, [arguments[0], "--state", state, *arguments[1:]])
    for result in (with_application, without):
        assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    return [with_application.output, without.output]


@pytest.fixture
def served(mill: Any) -> Any:
    """Return the application once its worker has saved what commands read, with a previous run."""
    if "knitperf" not in mill.app.cli.commands:
        mill.app.cli.add_command(knitperf)
    mill.session.recorder.worker.fold()
    mill.session.details.turn()
    return mill


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_commands_print_them_escaped(served: Any, arguments: tuple[str, ...]) -> None:
    for output in outputs(served, *arguments):
        if "--against" not in arguments and arguments != ("memory",):  # which names nothing
            check(output)
        assert printable(output.replace("\n", "")) == output.replace("\n", "")


@pytest.mark.parametrize("arguments", COMMANDS[:1] + COMMANDS[2:3] + COMMANDS[5:], ids=" ".join)
def test_commands_print_documents_with_them_escaped(
    served: Any, arguments: tuple[str, ...]
) -> None:
    for output in outputs(served, *arguments, "--json"):
        check_document(json.loads(output))


@pytest.mark.slow
def test_the_list_of_dataframes_shows_them_escaped(served: Any) -> None:
    runner = served.app.test_cli_runner()
    check(runner.invoke(args=["knitperf", "frames", "--live"]).output)
    result = runner.invoke(args=["knitperf", "frames", "--live", "--json"])
    check_document(json.loads(result.stdout))


def test_a_saved_report_and_a_baseline_show_them_escaped(served: Any, tmp_path: Path) -> None:
    saved = served.perf.profiler.save_report(tmp_path / "report.json", "run")
    check_document(json.loads(saved.read_text()))
    target = tmp_path / "baseline.json"
    result = served.app.test_cli_runner().invoke(
        args=["knitperf", "baseline", "--times", "2", "--output", str(target)]
    )
    check(result.output)
    check_document(json.loads(target.read_text()))


def test_plans_of_files_show_them_escaped(tmp_path: Path) -> None:
    path = tmp_path / f"yarn{CONTROLS}.csv"
    path.write_text("column\x1b\x07\u202e,b\n1,x\n" * 40)
    missing = tmp_path / f"bad{CONTROLS}.csv"
    missing.write_text("")
    result = CliRunner().invoke(offline, ["frames", str(path), str(missing)])
    assert result.exit_code == 1
    check(result.stdout)
    check(result.stderr)


def test_a_plan_in_a_notebook_shows_them_escaped() -> None:
    plan = plan_dataframe(pd.DataFrame({f"column{CONTROLS}": [1, 2]}))
    check(plan._repr_html_())
