"""The page of one endpoint: its lines, a flame graph, and what slow requests do differently."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

from .clients import BEARER
from .reader import BROWSER, Page, page

MS = 1_000_000
VIEW = StackFrame("mill/views.py", 5, "forecast", True)
HOT = StackFrame("mill/explode.py", 41, "explode", True)
COLD = StackFrame("mill/store.py", 9, "wait", True)
PANDAS = StackFrame("pandas/frame.py", 0, "DataFrame.iterrows", False)


@pytest.fixture
def mill(make_open: Callable[..., Any]) -> Any:
    """An application with one request, and samples as the sampler leaves them."""
    mill = make_open(KNITPERF_SAMPLER=True, TESTING=True)
    mill.app.view_functions["index"] = lambda: time.sleep(0.03) or "mill"
    mill.get("/")
    samples = mill.session.samples
    for wall, path, running in ((50, (VIEW, HOT, PANDAS), 1), (900, (VIEW, COLD), 0)):
        times = [wall * MS * running, wall * MS * (1 - running), 9, 0]
        samples.add(("index", "GET"), wall * MS, Sampled({path: times}))
    return mill


def words(shown: Page) -> str:
    """Return the text of a page's content."""
    return " ".join(shown.inside("main"))


def test_lines_are_shown_with_their_calls_and_cpu_share(mill: Any) -> None:
    text = words(page(mill, "/perf/why?of=index&window=run"))
    assert "mill/store.py:9 in wait – 95 % 0 % 9" in text
    assert "mill/explode.py:41 in explode DataFrame.iterrows 5 % 100 % 9" in text


def test_lines_that_differ_in_slow_requests_are_shown(mill: Any) -> None:
    text = words(page(mill, "/perf/why?of=index"))
    assert "What slow requests do differently" in text
    assert "mill/store.py:9 in wait 100 % 0 %" in text


def test_a_flame_graph_is_a_picture_without_script_or_style(mill: Any) -> None:
    shown = page(mill, "/perf/why?of=index")
    boxes = [box for box in shown.all("rect") if "own" in (box.get("class") or "")]
    assert len(boxes) == 5  # three of all requests, two of the slow ones
    assert not shown.all("script") and not [r for r in shown.all("rect") if "style" in r]
    titles = shown.inside("g", "title")
    assert "mill/store.py:9 in wait: 95 % of the time, 0 % of that on CPU" in titles


def test_programs_get_the_same_as_json(mill: Any) -> None:
    document = json.loads(mill.get("/perf/why?of=index&window=run", **BEARER).body)
    assert document["schema"] == "flask-knitperf/why/1"
    assert [line["where"] for line in document["row"]["lines"]] == [
        "mill/store.py:9",
        "mill/explode.py:41",
    ]
    assert document["difference"][0]["change"] == 1.0 and document["sampled"]


def test_stacks_are_exported_for_other_tools(mill: Any) -> None:
    speedscope = mill.get("/perf/stacks?of=index", **BEARER)
    assert json.loads(speedscope.body)["profiles"][0]["name"] == "GET index"
    assert "attachment" in speedscope.header("Content-Disposition")
    collapsed = mill.get("/perf/stacks?of=index&form=collapsed", **BEARER)
    assert (
        collapsed.body.decode()
        .splitlines()[0]
        .endswith("DataFrame.iterrows_(pandas/frame.py) 50000")
    )


@pytest.mark.parametrize("path", ["/perf/why", "/perf/why?of=inde", "/perf/stacks?of=nothing"])
def test_an_endpoint_without_data_is_not_called_unknown(mill: Any, path: str) -> None:
    response = mill.get(path, HTTP_ACCEPT=BROWSER, **BEARER)
    text = words(Page(response.body.decode()))
    assert response.code == 409 and "No data No data for" in text
    assert ("did you mean index?" in text) == path.endswith("inde")


def test_the_page_can_be_restricted_to_a_method(mill: Any) -> None:
    assert mill.get("/perf/why?of=index&method=GET", **BEARER).code == 200
    assert mill.get("/perf/why?of=index&method=POST", **BEARER).code == 409


def test_without_a_sampler_the_page_names_the_setting(make_open: Callable[..., Any]) -> None:
    mill = make_open(KNITPERF_SAMPLER=False)
    mill.get("/")
    assert "KNITPERF_SAMPLER is False" in words(page(mill, "/perf/why?of=index"))


def test_an_endpoint_without_samples_may_be_too_fast(mill: Any) -> None:
    mill.session.samples.clear()
    assert "No samples in this window: the endpoint is too fast" in words(
        page(mill, "/perf/why?of=index")
    )


def test_every_endpoint_of_the_report_leads_there(mill: Any) -> None:
    links = [link.get("href") for link in page(mill).all("a")]
    assert "/perf/why?of=index&method=GET&window=1h" in links


def test_a_button_has_every_worker_sample_in_detail(mill: Any) -> None:
    sampler = mill.session.sampler
    before = sampler.interval()
    response = mill.send("POST", "/perf/command/sample", HTTP_ACCEPT=BROWSER, **BEARER)
    assert response.code == 303 and sampler.interval() < before


def test_without_a_sampler_there_is_no_sampling_in_detail(make_open: Callable[..., Any]) -> None:
    mill = make_open(TESTING=True, KNITPERF_SAMPLER=False)
    response = mill.send("POST", "/perf/command/sample", **BEARER)
    assert response.code == 409 and b"KNITPERF_SAMPLER" in response.body


def test_boxes_that_take_another_share_in_slow_requests_are_marked(mill: Any) -> None:
    marked = [
        r["class"] for r in page(mill, "/perf/why?of=index").all("rect")
        if {"more", "less"} & set((r.get("class") or "").split())
    ]  # fmt: skip
    assert marked == ["own waits more"]


def test_an_endpoint_is_compared_with_another_window(mill: Any) -> None:
    shown = page(mill, "/perf/why?of=index&against=run")
    before, heading, _ = words(shown).partition("Compared with this run")
    assert heading and "Time per request" not in before[-40:]
    titles = shown.inside("g", "title")
    assert any("100 % of the time" in text and text.endswith("; 100 % then") for text in titles)
    document = json.loads(mill.get("/perf/why?of=index&against=run", **BEARER).body)
    assert {line["change_ms"] for line in document["against"]["lines"]} == {0.0}


def test_without_samples_there_is_nothing_to_compare(mill: Any) -> None:
    mill.session.samples.clear()
    text = words(page(mill, "/perf/why?of=index&against=1h"))
    assert "Compared with the last hour" in text and "No samples of this endpoint in one" in text


@pytest.mark.parametrize(("against", "status"), [("previous", 409), ("yesterday", 400)])
def test_a_window_that_is_not_there_cannot_be_compared_with(
    mill: Any, against: str, status: int
) -> None:
    assert mill.get(f"/perf/why?of=index&against={against}", **BEARER).code == status


@pytest.mark.parametrize("path", ["/perf/why?of=index", "/perf/stacks?of=index"])
def test_an_unauthenticated_client_sees_nothing(mill: Any, path: str) -> None:
    assert mill.get(path).code == mill.get("/nothing-here").code == 404
    assert mill.get(path).body == mill.get("/nothing-here").body


def test_hostile_places_are_only_text(mill: Any) -> None:
    evil = StackFrame("<script>alert(1)</script>.py", 1, '"><img src=x onerror=alert(1)>', True)
    mill.session.samples.add(
        ("index", "GET"), 5 * MS, Sampled({(VIEW, evil): [50_000 * MS, 0, 1, 0]})
    )
    shown = page(mill, "/perf/why?of=index")
    assert not {"script", "img"} & {tag for tag, _ in shown.elements}


def test_without_a_sampler_the_report_names_the_setting(make_open: Callable[..., Any]) -> None:
    for sampler in (False, True):
        mill = make_open(KNITPERF_SAMPLER=sampler, TESTING=True)
        mill.get("/")
        text = " ".join(page(mill, "/perf/").inside("body"))
        assert ("option KNITPERF_SAMPLER switches it on" in text) is not sampler
