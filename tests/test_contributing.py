"""The pages for contributors: their examples run as they are written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Key

PAGES = Path(__file__).parent.parent / "docs" / "contributing"


def run_example(page: str) -> dict[str, Any]:
    """Run the first block of Python on a page, with its application testing; return its names."""
    text = (PAGES / page).read_text(encoding="utf-8")
    code, *_ = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
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
