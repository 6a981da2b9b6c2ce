"""Exemplars: which requests are retained, their details, and what never is part of them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flask import Response, render_template_string, request

from flask_knitperf.collectors.requests import exemplar_reservoir as module
from flask_knitperf.collectors.requests.exemplar_reservoir import outline
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.metrics.catalogue import BY_ROWS
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.render import html_request


def retained(mill: Any, endpoint: str = "index", method: str = "GET") -> dict[str, Any]:
    """Return the lists of an endpoint's requests."""
    document = mill.session.documents.why(endpoint, method, "run").document
    return dict(document["requests"])


def latest(mill: Any, endpoint: str = "index") -> dict[str, Any]:
    """Return the details of an endpoint's latest request."""
    name = retained(mill, endpoint)["latest"][0]["id"]
    return dict(mill.session.documents.request(name, "run")[0])


def view(mill: Any, function: Callable[[], Any], endpoint: str = "work") -> None:
    mill.app.add_url_rule(f"/{endpoint}", endpoint, function)


# -- retention -------------------------------------------------------------------------------------


def test_three_requests_are_enough_to_see_something(timed: Any, time: Any) -> None:
    for _ in range(3):
        timed.get("/")
        time.pass_(0.01)
    lists = retained(timed)
    assert len(lists["latest"]) == len(lists["slowest"]) == 3
    assert [row["first"] for row in lists["latest"]] == [False, False, True]


@pytest.mark.parametrize("in_memory", [True, False])
def test_requests_are_kept_after_the_clock_was_ahead_and_set_back(
    make_app: Callable[..., Any], time: Any, in_memory: bool
) -> None:
    mill = make_app(TESTING=in_memory, PROPAGATE_EXCEPTIONS=False)
    mill.session.recorder._threaded = lambda: False
    mill.session.recorder.clock = time.clock()
    pause = [0.3]
    view(mill, lambda: time.pass_(pause[0]) or "x")
    time.epoch += 86_400
    for _ in range(60):
        mill.get("/work")
        time.pass_(1)
    retained(mill, "work")
    time.epoch -= 86_400
    pause[0] = 0.2  # faster than all before, so it is kept as one of the latest
    for _ in range(3):
        mill.get("/work")
        time.pass_(2)
    latest = retained(mill, "work")["latest"]
    assert [row["ms"] for row in latest[:4]] == [200.0, 200.0, 200.0, 300.0]
    time.pass_(3700)  # the slowest of the last hour are those since
    pause[0] = 0.1
    mill.get("/work")
    time.pass_(2)
    recent = mill.session.documents.why("work", "GET", "run" if in_memory else "5m").document
    assert recent["requests"]["latest"][0]["ms"] == 100.0


@pytest.mark.parametrize("path", ["/perf/report", "/static/logo.png"])
def test_a_request_that_is_not_recorded_invalidates_the_retained_bytes(
    make_app: Callable[..., Any], path: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_IGNORE_PATHS=["/static"])
    meter = mill.session.profile.retained_bytes_meter
    meter.start()
    mill.get("/"), mill.get(path), mill.get("/"), mill.get("/")
    assert not meter.has_measured
    for _ in range(20):
        mill.get("/")
    assert meter.has_measured
    meter.stop()


def test_a_request_whose_retained_bytes_are_measured_is_not_an_exemplar(
    timed: Any, time: Any
) -> None:
    meter = timed.session.profile.retained_bytes_meter
    meter.start()
    timed.get("/")
    assert meter.measured is not None
    meter.stop()
    time.pass_(1.0)
    timed.get("/")
    assert len(retained(timed)["latest"]) == 1


def test_the_slowest_stay_whatever_the_number_of_later_ones(timed: Any, time: Any) -> None:
    durations = iter([5.0, *[0.03] * 400])
    view(timed, lambda: time.pass_(next(durations)) or "ok")
    for number in range(401):
        timed.get("/work")
        time.pass_(0.2)
        if number % 50 == 0:
            timed.session.reservoir.tick(at_once=True)
    lists = retained(timed, "work")
    assert lists["slowest"][0]["ms"] == 5000 and lists["slowest"][0]["slow"]
    assert len(lists["latest"]) == 50 and len(lists["slowest"]) == 20
    assert 5000 not in [row["ms"] for row in lists["latest"]]


def test_of_many_similar_requests_a_few_a_second_are_retained(timed: Any, time: Any) -> None:
    view(timed, lambda: time.pass_(0.03) or "ok")
    for _ in range(20):
        timed.get("/work")
    timed.session.reservoir.tick(at_once=True)
    before = len(timed.session.reservoir.exemplars)
    for _ in range(100):
        timed.get("/work")  # three seconds
    timed.session.reservoir.tick(at_once=True)
    assert 4 <= len(timed.session.reservoir.exemplars) - before <= 8


def test_requests_beyond_the_buffer_are_dropped_and_counted(
    timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CANDIDATES", 5)
    for _ in range(9):
        timed.get("/")
    assert len(retained(timed)["latest"]) == 5 and timed.session.reservoir.dropped == 4
    assert timed.session.recorder.worker.dropped == {"single requests": 4}


def test_of_many_buffered_events_only_the_first_are_kept_one_by_one(
    timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BUFFERED_EVENTS", 5)

    def work() -> str:
        for _ in range(3):
            with timed.perf.section("step"):
                pass
        return "ok"

    for name in ("first", "second", "third"):
        view(timed, work, name)
    timed.get("/first")
    timed.get("/second")
    documents = [latest(timed, name) for name in ("first", "second")]
    assert [len(document["timeline"]) for document in documents] == [3, 0]
    assert [document["parts_left_out"] for document in documents] == [0, 3]
    assert [document["parts"][0]["count"] for document in documents] == [3, 3]
    timed.get("/third")
    assert len(latest(timed, "third")["timeline"]) == 3  # the earlier ones are written


def test_a_request_too_large_to_retain_is_counted(
    timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 10)
    timed.get("/")
    assert retained(timed)["latest"] == [] and timed.session.reservoir.dropped == 1


def test_equal_statements_are_one_part_of_a_timeline(quiet: Any) -> None:
    connection = wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)

    def send() -> str:
        connection.execute("SELECT 'a'").fetchone()
        for number in range(700):
            connection.execute("SELECT ?, 'b'", (number,)).fetchone()
            connection.execute("SELECT ?, ?", (number, 1)).fetchall()
        return "x"

    view(quiet, send)
    quiet.get("/work")
    document = latest(quiet, "work")
    details = [(row["depth"], row["detail"]["shape"], row["detail"].get("calls"))
               for row in document["timeline"] if row["name"] == "sql"]  # fmt: skip
    assert details == [(0, "SELECT ?", None), *2 * [(0, "SELECT ?, ?", 700)]]
    [_, folded, _] = [row for row in document["timeline"] if row["name"] == "sql"]
    assert folded["detail"]["rows"] == 700 and 0 < folded["detail"]["total_ms"] <= document["ms"]
    assert folded["ms"] <= document["ms"] and document["parts_left_out"] == 0
    shown = html_request.request(document)["timeline"]
    assert any(row["details"].startswith("700 × SELECT ?, ?, ") for row in shown)
    assert any(" in total" in row["details"] for row in shown)
    connection.close()


def test_a_request_with_many_long_statements_is_kept(quiet: Any) -> None:
    connection = wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)

    def send() -> str:
        for number in range(90):
            connection.execute(f"SELECT 1 AS {'ü' * 150}{number}").fetchone()
        return "x"

    view(quiet, send)
    quiet.get("/work")
    document = latest(quiet, "work")
    statements = [row for row in document["timeline"] if row["name"] == "sql"]
    assert document["parts"][0]["count"] == 90 and 5 < len(statements) < 90
    assert len(statements) + document["parts_left_out"] == 90
    assert quiet.session.reservoir.dropped == 0
    connection.close()


@pytest.mark.parametrize("stacks", [None, {"places": ["x" * 20_000], "rows": []}])
def test_details_are_left_out_until_a_request_fits(stacks: Any) -> None:
    def document() -> dict[str, Any]:
        return {
            "events": [["sql", number, number % 50, None] for number in range(100)], "more": 3,
            "stacks": stacks, "beside": [["e", "GET", 5]], "pauses": [[1, 2]],
            "parts": [[f"section:{number}", 1, number] for number in range(100)],
        }  # fmt: skip

    shortened = document()
    assert module._shorten(shortened)
    assert [row[2] for row in shortened["events"]] == 2 * [*range(25, 50)]  # the longest, in order
    assert shortened["more"] == 53 and shortened["stacks"] == stacks
    steps = 1
    while module._shorten(shortened):
        steps += 1
    assert steps < 20 and shortened["more"] == 103
    assert not any(shortened[name] for name in ("events", "stacks", "beside", "pauses", "parts"))


def test_a_request_waits_for_its_samples_before_it_is_written(timed: Any, time: Any) -> None:
    timed.get("/")
    timed.session.reservoir.tick()
    assert timed.session.reservoir.exemplars == []
    time.pass_(1.3)
    timed.session.reservoir.tick()
    assert len(timed.session.reservoir.exemplars) == 1


def test_the_number_of_endpoints_is_bounded(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ENDPOINTS", 3)
    for number in range(20):
        view(timed, lambda: "ok", f"e{number}")
    for number in range(20):
        timed.get(f"/e{number}")
        timed.session.reservoir.tick(at_once=True)
    reservoir = timed.session.reservoir
    assert len(reservoir._retained_at) <= 3 and len(reservoir._floors) <= 4
    assert len(reservoir.exemplars) == 20


def test_switched_off_nothing_is_retained_and_the_page_shows_that(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_REQUEST_DETAILS=False)
    mill.get("/")
    document = mill.session.documents.why("index", None, "run").document
    assert document["requests"] == {"latest": [], "slowest": []}
    assert not document["keeps_requests"]


def test_a_failure_of_ours_ends_the_reservoir_not_the_request(
    timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(timed.session.reservoir, "offer", fail)
    assert timed.get("/").code == timed.get("/").code == 200
    assert timed.row("index")["count"] == 2
    assert "single requests are not kept: ZeroDivisionError" in timed.degraded()


# -- details ---------------------------------------------------------------------------------------


def test_a_timeline_shows_parts_by_start_and_depth(timed: Any, time: Any) -> None:
    perf = timed.perf

    def work() -> str:
        time.pass_(0.01)
        with perf.section("outer"):
            time.pass_(0.02)
            with perf.section("inner"):
                time.pass_(0.04)
        with perf.section("last"):
            time.pass_(0.08)
        return "ok"

    view(timed, work)
    timed.get("/work")
    document = latest(timed, "work")
    events = [
        (row["name"], row["begin_ms"], row["ms"], row["depth"]) for row in document["timeline"]
    ]
    assert events == [
        ("section:outer", 10, 60, 0), ("section:inner", 30, 40, 1), ("section:last", 70, 80, 0)
    ]  # fmt: skip
    assert document["ms"] == 150
    assert {part["name"]: part["ms"] for part in document["parts"]} == {
        "section:last": 80, "section:inner": 40, "section:outer": 20
    }  # fmt: skip


def test_cpu_run_queue_and_waiting_add_up_to_the_wall_time(timed: Any, time: Any) -> None:
    view(timed, lambda: time.pass_(0.1, cpu=0.03) or "ok")
    timed.get("/work")
    document = latest(timed, "work")
    assert document["cpu_ms"] == 30
    assert document["cpu_ms"] + document["ready_ms"] + document["wait_ms"] == document["ms"] == 100


def test_parts_beyond_a_hundred_count_as_sums_only(timed: Any) -> None:
    def work() -> str:
        for _ in range(130):
            with timed.perf.section("step"):
                pass
        return "ok"

    view(timed, work)
    timed.get("/work")
    document = latest(timed, "work")
    assert len(document["timeline"]) == 100 and document["parts_left_out"] == 30
    assert document["parts"][0]["count"] == 130


def test_a_file_read_has_rows_bytes_and_state(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "yarn.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    view(quiet, lambda: str(len(pd.read_csv(path)) + len(pd.read_csv(path))))
    quiet.get("/work")
    timeline = latest(quiet, "work")["timeline"]
    details = [row["detail"] for row in timeline if row["name"] == "file_read"]  # there may be a gc
    assert [(d["rows"], d["bytes"], d["state"]) for d in details] == [
        (2, 12, "first"), (2, 12, "reusable")
    ]  # fmt: skip
    assert details[0]["where"].startswith("requests/test_exemplar_reservoir.py:")


def test_rendering_is_a_part_without_the_parts_inside_it(timed: Any, time: Any) -> None:
    def nested() -> str:
        time.pass_(0.05)
        with timed.perf.section("query"):
            time.pass_(0.03)
        return "x"

    view(timed, lambda: render_template_string("{{ nested() }}", nested=nested))
    timed.get("/")  # templates are timed from the first request on
    timed.get("/work")
    document = latest(timed, "work")
    assert {part["name"]: part["ms"] for part in document["parts"]} == {
        "render:<text>": 50, "section:query": 30
    }  # fmt: skip
    assert [(row["name"], row["depth"]) for row in document["timeline"]] == [
        ("render:<text>", 0), ("section:query", 1)
    ]  # fmt: skip


def test_rendering_within_a_section_is_subtracted_from_it(timed: Any, time: Any) -> None:
    def work() -> str:
        with timed.perf.section("page"):
            time.pass_(0.01)
            return render_template_string("{{ wait(0.04) }}", wait=time.pass_)

    view(timed, work)
    timed.get("/")
    timed.get("/work")
    assert {name: part["ms"] for name, part in timed.parts("work").items()} == {
        "render:<text>": 40, "section:page": 10
    }  # fmt: skip


def test_a_template_that_fails_is_charged_for_its_time_only(timed: Any, time: Any) -> None:
    def work() -> str:
        with pytest.raises(ZeroDivisionError):
            render_template_string("{{ wait(0.02) }}{{ 1 / 0 }}", wait=time.pass_)
        time.pass_(0.5)
        return "ok"

    view(timed, work)
    timed.get("/")
    timed.get("/work")
    assert timed.parts("work")["render:<text>"]["ms"] == 20


def test_rendering_that_takes_no_time_is_not_a_part(timed: Any) -> None:
    view(timed, lambda: render_template_string("ok"))
    timed.get("/")
    timed.get("/work")
    assert timed.parts("work") == {}


def test_streaming_and_collections_are_on_the_timeline(
    timed: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunks() -> Any:
        time.pass_(0.03)
        WATCH.latest.append((time.ns - 5_000_000, time.ns - 2_000_000, 0))
        yield b"x"

    def work() -> Response:
        time.pass_(0.01)
        return Response(chunks())

    view(timed, work)
    timed.get("/work")
    timeline = latest(timed, "work")["timeline"]
    WATCH.latest.clear()
    assert [(row["name"], row["begin_ms"], row["ms"]) for row in timeline] == [
        ("streaming", 10, 30),
        ("gc", 35, 3),
    ]


def test_concurrent_requests_are_listed_with_their_overlap(timed: Any, time: Any) -> None:
    """One request runs on while another is served and ends; a third is still under way at its end."""
    ready, go_on = threading.Event(), threading.Event()

    def long() -> str:
        ready.set()
        go_on.wait(5)
        return "ok"

    def work() -> str:
        time.pass_(0.1)
        timed.get("/short")
        return "ok"

    view(timed, long, "long")
    view(timed, work)
    view(timed, lambda: time.pass_(0.3) or "ok", "short")
    other = threading.Thread(target=timed.get, args=("/long",))
    other.start()
    assert ready.wait(5)
    timed.get("/work")
    go_on.set()
    other.join()
    document = latest(timed, "work")
    overlaps = {row["endpoint"]: row["ms"] for row in document["beside"]}
    assert overlaps == {"long": 400, "short": 300}
    assert (
        document["beside"][0]["endpoint"]
        == "long"
        == retained(timed, "work")["latest"][0]["beside"]
    )


def test_its_samples_are_part_of_it(timed: Any, time: Any) -> None:
    own = StackFrame("mill/a.py", 5, "explode", True)
    library = StackFrame("pandas/x.py", 0, "apply", False)
    inner = StackFrame("pandas/y.py", 0, "inner", False)

    def work() -> str:
        span = timed.session.recorder.span()
        path = (library, own, library, inner)
        span.ensure_notes().sampled = Sampled({path: [3_000_000, 1_000_000, 2, 0]})
        return "ok"

    view(timed, work)
    timed.get("/work")
    [row] = retained(timed, "work")["latest"]
    _, trie = timed.session.documents.request(row["id"], "run")
    [(path, node)] = trie.stacks()
    assert row["sampled"] and path == (own, library)
    assert (node.running, node.waiting, node.count) == (3_000_000, 1_000_000, 2)


def test_its_samples_agree_with_the_clock_of_its_thread(timed: Any, time: Any) -> None:
    own, other = (
        StackFrame("mill/a.py", 5, "explode", True),
        StackFrame("mill/a.py", 6, "rest", True),
    )

    def work() -> str:
        time.pass_(0.04)
        stacks = {(own,): [20_000_000, 0, 10, 0], (other,): [0, 20_000_000, 10, 0]}
        timed.session.recorder.span().ensure_notes().sampled = Sampled(
            stacks, runnable_ns=30_000_000
        )
        return "ok"

    view(timed, work)
    timed.get("/work")
    _, trie = timed.session.documents.request(retained(timed, "work")["latest"][0]["id"], "run")
    times = {path[-1].line: (node.running, node.waiting) for path, node in trie.stacks()}
    assert times == {5: (30_000_000, 0), 6: (0, 10_000_000)}


def test_a_stack_without_own_code_keeps_its_inner_end() -> None:
    path = [StackFrame(f"{n}.py", 0, "f", False) for n in range(9)]
    assert outline(path) == tuple(path[-3:])


def test_requests_in_memory_are_filtered_by_endpoint(timed: Any) -> None:
    view(timed, lambda: "ok")
    timed.get("/")
    timed.get("/work")
    window = timed.session.documents.window("run")
    assert [e.endpoint for e in timed.session.documents.requests(window, "work")] == ["work"]
    assert len(timed.session.documents.requests(window)) == 2


def test_a_request_that_was_not_retained_is_an_error(timed: Any) -> None:
    timed.get("/")
    with pytest.raises(Exception, match="'nosuch' is not kept in this window"):
        timed.session.documents.request("nosuch", "run")


# -- secrets ---------------------------------------------------------------------------------------

SECRETS = [f"s3cret-{name}" for name in (
    "query", "body", "cookie", "header", "path", "cell", "literal", "message", "answer", "filename",
    "local", "user",
)]  # fmt: skip


def test_nothing_that_a_user_sent_or_a_frame_contains_is_retained(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app(PROPAGATE_EXCEPTIONS=False)
    query, body, cookie, header, path, cell, literal, message, answer, filename, local, user = (
        SECRETS
    )

    @mill.app.post("/work/<name>")
    def work(name: str) -> str:
        assert (name, request.args["q"], request.cookies["c"]) == (path, query, cookie)
        hidden = local
        frame = pd.DataFrame({"a": [cell] * 3})
        with mill.perf.section("select"):
            frame.query(f"a == '{literal}'")
        request.files["f"].read()
        raise ValueError(message + hidden)

    @mill.app.errorhandler(ValueError)
    def on_error(_: ValueError) -> tuple[str, int]:
        return answer, 500

    client = mill.client
    client.set_cookie("c", cookie)
    for _ in range(3):
        response = client.post(
            f"/work/{path}?q={query}", headers={"X-Secret": header}, auth=(user, user),
            data={"b": body, "f": ((tmp_path / "up").open("wb+"), filename)},
        )  # fmt: skip
        assert response.status_code == 500
    document = mill.session.documents.why("work", "POST", "run").document
    mill.session.reservoir.tick(at_once=True)
    document = mill.session.documents.why("work", "POST", "run").document
    texts = [json.dumps(document)]
    assert len(document["requests"]["latest"]) == 3
    texts += [
        json.dumps(mill.session.documents.request(row["id"], "run")[0])
        for row in document["requests"]["latest"]
    ]
    mill.session.close()
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix == ".exemplars"]
    texts += [path.read_bytes().decode("latin-1") for path in files]
    assert [secret for secret in SECRETS for text in texts if secret in text] == []


# -- under several workers -------------------------------------------------------------------------


@pytest.mark.slow
def test_exemplars_of_other_and_of_closed_workers_are_read(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app()
    mill.get("/")
    mill.session.close()
    mill.get("/")
    mill.session.reservoir.tick(at_once=True)
    assert len(retained(mill)["latest"]) == 2
    run = mill.session.recorder.worker.run
    mill.session.jobs.merge_details()
    assert len(retained(mill)["latest"]) == 2
    assert len(list((run / "details").glob("*.exemplars"))) <= 2


def test_a_full_disk_is_reported_and_the_requests_stay_in_memory(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = make_app()
    mill.get("/")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    disk = mill.session.recorder.disk
    monkeypatch.setattr(disk, "append", full)
    mill.session.reservoir.tick(at_once=True)
    message = "single requests cannot be saved: No space left on device"
    assert mill.session.recorder.worker.degraded["requests"] == message
    monkeypatch.undo()
    mill.session.reservoir.tick(at_once=True)
    assert "requests" not in mill.session.recorder.worker.degraded
    assert len(retained(mill)["latest"]) == 1


# -- rows ------------------------------------------------------------------------------------------


def test_rows_that_are_read_and_rows_that_are_reported_add_up(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "yarn.csv"
    path.write_text("a\n" + "1\n" * 100)

    def work() -> str:
        quiet.perf.rows(28)
        return str(len(pd.read_csv(path)))

    view(quiet, work)
    for _ in range(3):
        quiet.get("/work")
    assert latest(quiet, "work")["rows"] == 128
    [size] = quiet.session.documents.window("run").snapshot.totals.rows(BY_ROWS.name)
    assert size[0] == ("work", "GET", "14")  # two to the seventh


def test_rows_outside_a_request_are_ignored(quiet: Any) -> None:
    quiet.perf.rows(5)
    quiet.get("/")
    assert latest(quiet)["rows"] is None


def test_a_request_that_fails_has_no_class_of_rows(quiet: Any) -> None:
    def work() -> str:
        quiet.perf.rows(28)
        raise ValueError

    view(quiet, work)
    for _ in range(3):
        quiet.get("/work")
    assert quiet.session.documents.window("run").snapshot.totals.rows(BY_ROWS.name) == ()


def test_an_application_that_never_renders_creates_no_jinja_environment(quiet: Any) -> None:
    quiet.get("/")
    assert "jinja_env" not in vars(quiet.app)


def test_templates_of_an_environment_that_exists_already_are_timed_too(
    timed: Any, time: Any
) -> None:
    timed.app.jinja_env.globals["wait"] = time.pass_
    view(timed, lambda: render_template_string("{{ wait(0.02) }}"))
    timed.get("/")
    timed.get("/work")
    assert timed.parts("work")["render:<text>"]["ms"] == 20
