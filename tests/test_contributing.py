"""The pages for contributors: their examples run as they are written there."""

from __future__ import annotations
import __future__

import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import jsonschema
import pytest
from flask import Response
from jinja2 import ChoiceLoader, DictLoader

from flask_knitperf.analysis import advice, findings, verdicts
from flask_knitperf.cli import commands
from flask_knitperf.instrumentation import install
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Key
from flask_knitperf.reports import json_schema
from flask_knitperf.web import blueprint, pages

from .conftest import Mill
from .instrumentation.calls import start

TOKEN = "a-secret-of-many-characters"
PAGES = Path(__file__).parent.parent / "docs" / "contributing"


def example(page: str) -> str:
    """Return the first block of Python on a page."""
    text = (PAGES / page).read_text(encoding="utf-8")
    code, *_ = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(code)


def run_example(page: str) -> dict[str, Any]:
    """Run the first block of Python on a page, with its application testing; return its names."""
    code = example(page)
    assert code.count("app = Flask(__name__)\n") == 1
    code = code.replace(
        "app = Flask(__name__)\n", "app = Flask(__name__)\napp.config['TESTING'] = True\n"
    )
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, page, "exec"), names)
    return names


def test_the_example_of_a_collector_records_to_the_totals() -> None:
    names = run_example("add-a-collector.md")
    client, session = names["app"].test_client(), names["app"].extensions["knitperf"]
    client.get("/yarn")
    client.set_cookie("a", "1")
    client.set_cookie("b", "2")
    for _ in range(20):
        client.get("/yarn")
    for seconds, job in names["CookieCollector"]().jobs(session.recorder):
        assert seconds == 5.0
        job()
    series = columns.series(session.recorder.snapshot().columns)
    cookies = series[Key("cookies", ("yarn",))].data
    assert (cookies.count, cookies.total, cookies.low, cookies.high) == (21, 40, 0, 2)
    assert names["cookies_of"]("yarn") == (21, 40)
    (threads,) = series[Key("threads", ())].gauge.values()
    assert threads >= 1
    assert session.recorder.failures == {}
    session.close()


def test_a_failing_collector_is_reported_and_the_request_goes_on() -> None:
    names = run_example("add-a-collector.md")
    client, session = names["app"].test_client(), names["app"].extensions["knitperf"]
    collector = session.recorder.collectors[0]
    collector.request_finished = lambda *_: 1 // 0
    assert client.get("/yarn").status_code == 200
    assert session.recorder.failures == {"cookies": 1}
    assert names["perf"].report("run")["endpoints"][0]["count"] == 1
    session.close()


def test_a_collector_that_is_registered_late_misses_no_request() -> None:
    names = run_example("add-a-collector.md")
    client, session = names["app"].test_client(), names["app"].extensions["knitperf"]
    collector = session.recorder.collectors.pop()
    for _ in range(600):  # beyond the warm-up, where requests take the fast path
        client.get("/yarn")
    session.recorder.register(collector)
    for _ in range(30):
        client.get("/yarn")
    series = columns.series(session.recorder.snapshot().columns)
    assert series[Key("cookies", ("yarn",))].data.count == 30
    session.close()


def test_the_page_on_verdicts_names_modules_and_names_that_exist() -> None:
    text = (PAGES / "add-a-verdict.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w+ \| `([\w/]+)\.py` \| (.*?) \|", text, re.MULTILINE)
    assert len(rows) == 5
    for path, cell in rows:
        module = importlib.import_module(f"flask_knitperf.{path.replace('/', '.')}")
        assert not [name for name in re.findall(r"`(\w+)`", cell) if not hasattr(module, name)]


def test_the_example_of_a_verdict_becomes_a_finding(
    quiet: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    exec(compile(example("add-a-verdict.md"), "add-a-verdict.md", "exec"), names)
    rule = names["rule"]
    monkeypatch.setattr(verdicts, "HABITS", (*verdicts.HABITS, rule))
    monkeypatch.setitem(advice._EXPLAIN, rule.type, names["explain"])
    monkeypatch.setitem(findings._HEADLINES, rule.type, names["headline"])
    quiet.app.add_url_rule("/rows", "rows", lambda: Response(iter(["a", "b"])))
    for _ in range(12):
        assert quiet.get("/rows").body == b"ab"
    assert quiet.report()["bottlenecks"] == []
    for _ in range(4):
        body = start(quiet, "/rows")
        next(body)
        body.close()
    [finding] = quiet.report()["bottlenecks"]
    assert (finding["type"], finding["severity"]) == ("CLIENTS_DISCONNECT", "WARNING")
    assert (finding["observed"], finding["threshold"], finding["samples"]) == (0.25, 0.05, 16)
    assert "1 in 4 responses is cut off by its client" in finding["text"]
    assert finding["recommendation"] == "Send the first bytes sooner, or less data."


# -- a page --------------------------------------------------------------------------------------------

_MODULE = re.compile(r"# (flask_knitperf/[\w/]+)\.py\n")
_CLASS = re.compile(r"# in class (\w+) of (flask_knitperf/[\w/]+)\.py\n")
_FUNCTION = re.compile(r"# in function (\w+) of (flask_knitperf/[\w/]+)\.py\n")
_EXISTING = re.compile(r"# in (flask_knitperf/[\w/]+)\.py\n")


def compiled(code: str) -> CodeType:
    """Return code compiled as in a module whose annotations are not evaluated."""
    return compile(code, "add-a-page.md", "exec", __future__.annotations.compiler_flag)


def dotted(path: str) -> str:
    return path.replace("/", ".")


class PageFollower:
    """Adds what the blocks of a page add, until the test ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._rules: list[CodeType] = []

    def follow(self, code: str) -> None:
        """Add what one block of Python adds."""
        if match := _MODULE.match(code):
            self._add_module(dotted(match[1]), code)
        elif match := _CLASS.match(code):
            self._add_method(importlib.import_module(dotted(match[2])), match[1], code)
        elif match := _FUNCTION.match(code):
            assert match[1] == "create_blueprint"
            self._rules.append(compiled(code))
        else:
            match = _EXISTING.match(code)
            assert match is not None, code
            exec(compiled(code), dict(vars(importlib.import_module(dotted(match[1])))))

    def _add_module(self, name: str, code: str) -> None:
        module = ModuleType(name)
        package, _, short = name.rpartition(".")
        module.__package__ = package
        self._monkeypatch.setitem(sys.modules, name, module)
        self._monkeypatch.setattr(importlib.import_module(package), short, module, raising=False)
        # types of documents are evaluated, for their schemas are
        exec(code if package.endswith(".documents") else compiled(code), vars(module))

    def _add_method(self, module: ModuleType, class_name: str, code: str) -> None:
        names = dict(vars(module))
        exec(compiled(code), names)
        self._monkeypatch.setattr(getattr(module, class_name), "load", names["load"], raising=False)

    def create_blueprint(self, prefix: str, session: Any) -> Any:
        """Return the blueprint of the pages, with the rules of the blocks."""
        names = {
            "blueprint": blueprint.create_blueprint(prefix, session),
            "page": lambda name: blueprint._page(session, name),
        }
        for rule in self._rules:
            exec(rule, names)
        return names["blueprint"]


@pytest.fixture
def page_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the page of the example, as the page for contributors does."""
    text = (PAGES / "add-a-page.md").read_text(encoding="utf-8")
    monkeypatch.setattr(json_schema, "PUBLISHED", dict(json_schema.PUBLISHED))
    monkeypatch.setattr(commands.knitperf, "commands", dict(commands.knitperf.commands))
    follower = PageFollower(monkeypatch)
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        follower.follow(code)
    [template] = re.findall(r"^```jinja\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    loader = ChoiceLoader([DictLoader({"load.html": template}), pages._TEMPLATES.loader])
    monkeypatch.setattr(pages._TEMPLATES, "loader", loader)
    monkeypatch.setattr(install, "create_blueprint", follower.create_blueprint)


@pytest.mark.usefixtures("page_added")
def test_the_example_of_a_page_is_shown_as_page_json_and_text(
    make_app: Callable[..., Mill],
) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN=TOKEN)
    mill.app.cli.add_command(commands.knitperf)
    assert mill.get("/").body == b"ok"
    assert mill.get("/perf/load").code == 404
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
    document = json.loads(mill.get("/perf/load?window=run", **bearer).body)
    jsonschema.validate(document, json_schema.json_schema("load"))
    assert [row["pid"] for row in document["workers"]] == [os.getpid()]
    page = mill.get("/perf/load", HTTP_ACCEPT="text/html", **bearer).body.decode()
    assert "<h1>Load</h1>" in page and f"Worker {os.getpid()}: " in page
    runner = mill.app.test_cli_runner()
    text = runner.invoke(args=["knitperf", "load"])
    assert text.exit_code == 0 and f"pid {os.getpid()}" in text.output
    as_json = runner.invoke(args=["knitperf", "load", "--json", "--window", "run"])
    assert json.loads(as_json.output)["schema"] == "flask-knitperf/load/1"


def test_the_table_of_the_page_on_pages_names_what_exists() -> None:
    text = (PAGES / "add-a-page.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w+ \| (`.*?) \|", text, re.MULTILINE)
    assert len(rows) == 7
    root = Path(blueprint.__file__).parent.parent
    for path in re.findall(r"`([\w/.]+)`", " ".join(rows)):
        assert (root / path).exists(), path
