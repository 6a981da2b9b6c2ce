"""The pages for contributors: their examples run as they are written there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Response

from flask_knitperf.analysis import advice, findings, verdicts
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Key

from .conftest import Mill
from .instrumentation.calls import start

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
