"""The page of one endpoint: its lines, a flame graph, and what slow requests do otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

from .test_pages import BEARER, BROWSER, Page, page

MS = 1_000_000
VIEW = StackFrame("mill/views.py", 5, "forecast", True)
HOT = StackFrame("mill/explode.py", 41, "explode", True)
COLD = StackFrame("mill/store.py", 9, "wait", True)
PANDAS = StackFrame("pandas/frame.py", 0, "DataFrame.iterrows", False)


@pytest.fixture
def mill(make_open: Callable[..., Any]) -> Any:
    """An application with one request, and samples as the sampler leaves them."""
    made = make_open(KNITPERF_SAMPLER=True, TESTING=True)
    made.get("/")
    samples = made.session.samples
    for wall, path, running in ((50, (VIEW, HOT, PANDAS), 1), (900, (VIEW, COLD), 0)):
        took = [wall * MS * running, wall * MS * (1 - running), 9, 0]
        samples.add(("index", "GET"), wall * MS, Sampled({path: took}))
    return made


def words(found: Page) -> str:
    return " ".join(" ".join(found.inside("main")).split())


def test_lines_are_shown_with_what_they_call_and_whether_they_compute(mill: Any) -> None:
    said = words(page(mill, "/perf/why?of=index&window=run"))
    assert "mill/store.py:9 in wait – 95 % 0 % 9" in said
    assert "mill/explode.py:41 in explode DataFrame.iterrows 5 % 100 % 9" in said


def test_what_slow_requests_do_otherwise_is_shown(mill: Any) -> None:
    said = words(page(mill, "/perf/why?of=index"))
    assert "What slow requests do otherwise" in said
    assert "mill/store.py:9 in wait 100 % 0 %" in said


def test_a_flame_graph_is_a_picture_without_script_or_style(mill: Any) -> None:
    found = page(mill, "/perf/why?of=index")
    boxes = [each for each in found.all("rect") if "own" in (each.get("class") or "")]
    assert len(boxes) == 5  # three of all requests, two of the slow ones
    assert not found.all("script") and not [r for r in found.all("rect") if "style" in r]
    titles = found.inside("g", "title")
    assert "mill/store.py:9 in wait: 95 % of the time, 0 % of that computing" in titles


def test_programs_get_the_same_as_json(mill: Any) -> None:
    found = json.loads(mill.get("/perf/why?of=index&window=run", **BEARER).body)
    assert found["schema"] == "flask-knitperf/why/1"
    assert [line["where"] for line in found["row"]["lines"]] == [
        "mill/store.py:9",
        "mill/explode.py:41",
    ]
    assert found["difference"][0]["change"] == 1.0 and found["sampled"]


def test_stacks_are_taken_along_for_other_tools(mill: Any) -> None:
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
def test_an_endpoint_that_was_not_seen_is_said_to_be_so(mill: Any, path: str) -> None:
    answer = mill.get(path, HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.code == 409 and "nothing was measured" in answer.body.decode()
    assert ("did you mean index?" in answer.body.decode()) == path.endswith("inde")


def test_a_method_can_be_asked_for(mill: Any) -> None:
    assert mill.get("/perf/why?of=index&method=GET", **BEARER).code == 200
    assert mill.get("/perf/why?of=index&method=POST", **BEARER).code == 409


def test_without_a_sampler_the_page_says_how_to_get_lines(make_open: Callable[..., Any]) -> None:
    made = make_open(KNITPERF_SAMPLER=False)
    made.get("/")
    assert "KNITPERF_SAMPLER is off" in words(page(made, "/perf/why?of=index"))


def test_an_endpoint_too_quick_to_be_sampled_is_said_to_be_so(mill: Any) -> None:
    mill.session.samples.clear()
    assert "No sample of it was taken" in words(page(mill, "/perf/why?of=index"))


def test_every_endpoint_of_the_report_leads_there(mill: Any) -> None:
    links = [link.get("href") for link in page(mill).all("a")]
    assert "/perf/why?of=index&method=GET&window=1h" in links


def test_a_button_has_every_worker_look_closer(mill: Any) -> None:
    sampler = mill.session.sampler
    before = sampler.interval()
    answer = mill.send("POST", "/perf/command/sample", HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.code == 303 and sampler.interval() < before


def test_where_nothing_is_sampled_nobody_can_look_closer(make_open: Callable[..., Any]) -> None:
    made = make_open(TESTING=True, KNITPERF_SAMPLER=False)
    answer = made.send("POST", "/perf/command/sample", **BEARER)
    assert answer.code == 409 and b"KNITPERF_SAMPLER" in answer.body


def test_boxes_that_take_another_share_in_slow_requests_are_marked(mill: Any) -> None:
    marked = [
        r["class"] for r in page(mill, "/perf/why?of=index").all("rect")
        if {"more", "less"} & set((r.get("class") or "").split())
    ]  # fmt: skip
    assert marked == ["own waits more"]


def test_an_endpoint_is_compared_with_another_window(mill: Any) -> None:
    found = page(mill, "/perf/why?of=index&against=run")
    said = words(found)
    assert "Against this run" in said and "a request" not in said.partition("Against")[0][-40:]
    titles = found.inside("g", "title")
    assert any("100 % of the time" in each and each.endswith("; 100 % then") for each in titles)
    document = json.loads(mill.get("/perf/why?of=index&against=run", **BEARER).body)
    assert {line["change_ms"] for line in document["against"]["lines"]} == {0.0}


def test_without_samples_there_is_nothing_to_compare(mill: Any) -> None:
    mill.session.samples.clear()
    said = words(page(mill, "/perf/why?of=index&against=1h"))
    assert "Against the last hour" in said and "One of the two windows has no samples" in said


@pytest.mark.parametrize(("against", "status"), [("previous", 409), ("yesterday", 400)])
def test_a_window_that_is_not_there_cannot_be_compared_with(
    mill: Any, against: str, status: int
) -> None:
    assert mill.get(f"/perf/why?of=index&against={against}", **BEARER).code == status


@pytest.mark.parametrize("path", ["/perf/why?of=index", "/perf/stacks?of=index"])
def test_strangers_see_nothing(mill: Any, path: str) -> None:
    assert mill.get(path).code == mill.get("/nothing-here").code == 404
    assert mill.get(path).body == mill.get("/nothing-here").body


def test_hostile_places_are_only_text(mill: Any) -> None:
    evil = StackFrame("<script>alert(1)</script>.py", 1, '"><img src=x onerror=alert(1)>', True)
    mill.session.samples.add(
        ("index", "GET"), 5 * MS, Sampled({(VIEW, evil): [50_000 * MS, 0, 1, 0]})
    )
    found = page(mill, "/perf/why?of=index")
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
