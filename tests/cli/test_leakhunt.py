"""Leak hunt from the command line: the request it sends, its text, its phases and exit codes."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.cli.commands import knitperf
from flask_knitperf.core.settings import HUNT
from flask_knitperf.experiments import in_process
from flask_knitperf.experiments.in_process import Request, send
from flask_knitperf.experiments.leakhunt import runner
from flask_knitperf.experiments.leakhunt.growth import NO_GROWTH, Growth
from flask_knitperf.experiments.leakhunt.retainers import Retainer
from flask_knitperf.experiments.leakhunt.verdict import (
    AllocationRecord,
    NativePhase,
    PythonPhase,
    verdict,
)
from flask_knitperf.render import leakhunt
from tests.conftest import MEASURED

GROWS = Growth(2_150.4, 2_140.0, 2_160.0, 12, 12, True)
HERE = os.path.abspath(__file__)


def line_of(mark: str) -> int:
    lines = Path(HERE).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


QUIET = PythonPhase(NO_GROWTH, 0.0, (), {}, (), 900.0, (), 240, {200: 240})
CALM = NativePhase(
    NO_GROWTH, "malloc", NO_GROWTH, NO_GROWTH, (), 100 << 20, 3 << 20, 240, {200: 240}
)
SEEN = replace(CALM, block_growth=GROWS)


def keeps() -> PythonPhase:
    lines = (
        AllocationRecord(
            HERE, line_of("kept"), 2_000.0, 0.0, "/x/site-packages/pandas/core/frame.py:7"
        ),
        AllocationRecord(
            "", 0, 100.0, 0.0, "/lib/queue.py:3", ("/lib/queue.py:3", "/lib/thread.py:9")
        ),
    )
    retainers = (Retainer("KEPT of module mill → list of 640", 640, 1.0, None),)
    return replace(QUIET, growth=GROWS, lines=lines, types={"dict": 2.0}, retainers=retainers)


def keep(rows: list[Any]) -> None:
    rows.append("a line of a function")  # kept


# -- the request -----------------------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    return mill()


def mill() -> Flask:
    app = Flask("mill")

    @app.route("/echo", methods=["GET", "POST"])
    def echo() -> dict[str, Any]:
        seen.update(
            host=request.host, args=dict(request.args), body=request.get_data(as_text=True),
            kind=request.content_type, token=request.headers.get("X-Token"), scheme=request.scheme,
        )  # fmt: skip
        return {}

    @app.get("/boom")
    def boom() -> str:
        raise ValueError("planted")

    seen: dict[str, Any] = {}
    app.extensions["seen"] = seen
    return app


def sent(app: Flask, *words: Any, **more: Any) -> dict[str, Any]:
    assert send(app.wsgi_app, Request(*words, **more)) == 200
    seen: dict[str, Any] = app.extensions["seen"]
    return seen


def test_a_path_is_sent_with_its_query(app: Flask) -> None:
    assert sent(app, "/echo?page=2&q=a%20b")["args"] == {"page": "2", "q": "a b"}


def test_the_host_of_an_address_is_sent(app: Flask) -> None:
    seen = sent(app, "https://mill.example/echo")
    assert (seen["host"], seen["scheme"]) == ("mill.example", "https")


@pytest.mark.parametrize(
    ("data", "headers", "kind"),
    [
        ('{"lot": 1}', (), "application/json"),
        ("lot=1", (), "application/x-www-form-urlencoded"),
        ("lot;1", (("Content-Type", "text/csv"),), "text/csv"),
    ],
)
def test_a_body_is_sent_as_what_it_is(
    app: Flask, data: str, headers: tuple[tuple[str, str], ...], kind: str
) -> None:
    seen = sent(app, "/echo", "POST", (*headers, ("X-Token", "t")), data)
    assert (seen["body"], seen["kind"], seen["token"]) == (data, kind, "t")


def test_an_application_that_raises_has_answered_500(app: Flask) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert send(app.wsgi_app, Request("/boom")) == 500


def test_a_body_is_read_and_closed_and_an_endless_one_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_process, "MAX_BODY_BYTES", 1_000)
    closed = []

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 100

        def close(self) -> None:
            closed.append(True)

    def application(_: dict[str, Any], start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        return Endless()

    assert send(application, Request("/")) == 200
    assert closed == [True]


_ELSEWHERE = (
    "Every response was a redirect (480 × 302), so the view itself may not have run. To be signed in, "
    "send a cookie: --header 'Cookie: …'."
)

# -- the text --------------------------------------------------------------------------------------

TABLE = [
    (keeps(), SEEN, "GET /notes retains 2.1 KB per request: "),
    (QUIET, replace(CALM, growth=GROWS), "GET /notes retains 2.1 KB per request outside of Python."),
    (replace(QUIET, garbage_bytes=40_000.0), CALM,
     "GET /notes retains nothing. 39.1 KB per request are reference cycles"),
    (QUIET, replace(CALM, returned_bytes=30 << 20),
     "GET /notes retains nothing. The allocator held 30.0 MB of free memory"),
    (replace(keeps(), retainers=(Retainer("lru_cache of price", 640, 1.0, 4096),)), SEEN,
     "GET /notes retains 2.1 KB per request, but only until a cache with a limit of 4,096 is full."),
    (QUIET, CALM, "GET /notes retains nothing: no leak."),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "sentence"), TABLE)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_first_sentence_is_the_verdict_and_every_line_fits(
    first: PythonPhase, second: NativePhase, sentence: str, width: int
) -> None:
    result = leakhunt.text(Request("/notes"), verdict(first, second), width)
    assert " ".join(result.split()).startswith(sentence)
    assert max(map(len, result.splitlines())) <= width


def test_a_leak_is_shown_with_line_source_library_holder_and_types() -> None:
    text = leakhunt.text(Request("/notes"), verdict(keeps(), SEEN), 80)
    where = f"cli/test_leakhunt.py:{line_of('kept')}"
    for part in (f"{where} in `keep`", 'rows.append("a line of a function")', "(93 %)",
                 "through pandas/core/frame.py:7", "no line of the application",
                 "from lib/thread.py:9", "KEPT of module mill → list of 640 (+1 per request)",
                 "2 dict", "12 of 12 blocks grew"):  # fmt: skip
        assert part in text


def test_a_file_elsewhere_is_named_in_full() -> None:
    assert leakhunt.shown("/elsewhere/mill.py") == "/elsewhere/mill.py"


@pytest.mark.parametrize(
    ("statuses", "remarks"),
    [
        ({200: 240}, []),
        ({404: 240}, []),  # the headline has it
        ({302: 240}, [_ELSEWHERE]),
        ({200: 200, 500: 40}, ["The response was not always the same: 400 × 200, 80 × 500."]),
    ],
)
def test_responses_that_are_errors_or_change_are_remarked_on(
    statuses: dict[int, int], remarks: list[str]
) -> None:
    result = verdict(replace(QUIET, statuses=statuses), replace(CALM, statuses=statuses))
    assert leakhunt.remarks(result) == remarks


def test_a_leak_of_error_responses_is_remarked_on() -> None:
    wrong = {404: 240}
    result = verdict(replace(keeps(), statuses=wrong), replace(SEEN, statuses=wrong))
    assert leakhunt.remarks(result) == [
        "Every response was an error (480 × 404): is it the right request?"
    ]


def test_growth_under_the_tracer_alone_is_remarked_on() -> None:
    assert "only while allocations were traced" in leakhunt.remarks(verdict(keeps(), CALM))[0]


def test_without_figures_of_an_allocator_there_is_a_remark() -> None:
    result = leakhunt.remarks(verdict(QUIET, replace(CALM, source="resident")))
    assert "judged by resident memory alone" in result[0]


def test_the_document_is_json_and_has_the_figures_of_the_text() -> None:
    result = leakhunt.document(Request("/notes"), verdict(keeps(), SEEN))
    assert json.loads(json.dumps(result)) == result
    assert result["leaks"] is True and result["verdict"] == "leak"
    assert result["lines"][0]["function"] == "keep"
    assert result["lines"][0]["share"] == 0.93
    assert result["status"] == {"200": 480}


def test_the_function_of_a_line_is_the_innermost(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("x = 1\ndef f():\n    def g():\n        return 1\n    return g\n")
    assert [runner.function_at(str(source), line) for line in (1, 2, 4, 5)] == ["", "f", "g", "f"]
    assert runner.function_at(str(tmp_path / "b.py"), 1) == ""
    source.write_text("def f(:\n")
    assert runner.function_at(str(source), 1) == ""


# -- phases ----------------------------------------------------------------------------------------

SPEAKS = """
import json, os, sys
print(json.dumps({"done": 1, "of": 2, "takes": 3.0}))
name = os.environ[sys.argv[3]]
if name == sys.argv[1]:
    sys.exit("planted " * 2)
print(json.dumps({"result": json.loads(sys.argv[2])[name.split()[0]]}))
print(name, file=sys.stderr)
"""


def phases(fails: str = "", first: PythonPhase = QUIET, second: NativePhase = CALM) -> list[str]:
    result = {"python": asdict(first), "native": asdict(second)}
    return [sys.executable, "-c", SPEAKS, fails, json.dumps(result), HUNT]


def test_the_results_of_both_phases_are_combined() -> None:
    progress: list[tuple[str, int]] = []
    first, second = keeps(), replace(SEEN, lines=(AllocationRecord("a.py", 1, 2.0, 2.0),))
    result = runner.hunt(
        phases("", first, second), lambda phase, message: progress.append((phase, message["done"]))
    )
    assert result == verdict(first, second)
    assert progress == [("python", 1), ("native", 1)]


def test_the_second_phase_gets_the_result_of_the_first() -> None:
    first = replace(keeps(), malloc_bytes=1_200.5)
    with pytest.raises(KnitPerfError, match="planted"):
        runner.hunt(phases("native 1200.500 2150.400", first), lambda *_: None)


def test_a_process_that_fails_is_an_error_with_its_output() -> None:
    with pytest.raises(KnitPerfError, match="ended with 1:\nplanted planted"):
        runner.hunt(phases("python"), lambda *_: None)


def test_the_command_line_is_run_again_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "flask", "knitperf", "leakhunt", "/"])
    assert runner.command_line() == [sys.executable, "-m", "flask", "knitperf", "leakhunt", "/"]


def test_another_program_cannot_hunt_by_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "other.py"])
    with pytest.raises(KnitPerfError, match="from a command line"):
        runner.command_line()


def test_the_progress_of_a_phase_is_published_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.1, 0.3, 0.4, 0.6])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(moments))
    channel = io.StringIO()
    publish = runner._progress_sender(channel)
    for done in range(1, 5):
        publish(done, 9, 1.5)
    messages = [json.loads(line) for line in channel.getvalue().splitlines()]
    assert [message["done"] for message in messages] == [2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python", "native 12.5 80.0"])
def test_each_phase_can_be_replayed(name: str) -> None:
    code = f"import {__name__} as here; here.print_phase({name!r})"
    process = subprocess.run(
        [sys.executable, "-c", code], env=MEASURED, check=True, stdout=subprocess.PIPE
    )
    result = pickle.loads(process.stdout)
    assert type(result) is (PythonPhase if name == "python" else NativePhase)
    assert set(result.statuses) == {200}


def print_phase(name: str) -> None:
    result = runner.run_phase(name, mill().wsgi_app, Request("/echo"), 40, lambda *_: None)
    sys.stdout.buffer.write(pickle.dumps(result))


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def shell(app: Flask) -> Flask:
    if "knitperf" not in app.cli.commands:
        app.cli.add_command(knitperf)
    return app


def run(app: Flask, *arguments: str) -> Any:
    return app.test_cli_runner().invoke(args=["knitperf", "leakhunt", *arguments])


WRONG = [
    (("/echo", "--method", "POST"), "--allow-writes"),
    (("/echo", "--method", "delete"), "--allow-writes"),
    (("echo",), "neither a path"),
    (("/echo", "--header", "nothing"), "not a header"),
    (("/echo", "--requests", "3"), "range"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_use_ends_with_two(shell: Flask, arguments: tuple[str, ...], message: str) -> None:
    result = run(shell, *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("first", "second", "code"), [(keeps(), SEEN, 1), (QUIET, CALM, 0)], ids=["leak", "none"]
)
def test_a_hunt_ends_with_one_for_a_leak_and_with_zero_for_none(
    shell: Flask,
    monkeypatch: pytest.MonkeyPatch,
    first: PythonPhase,
    second: NativePhase,
    code: int,
) -> None:
    monkeypatch.setattr(runner, "command_line", lambda: phases("", first, second))
    result = run(shell, "/echo", "--method", "POST", "--allow-writes", "--header", "A: b")
    assert result.exit_code == code
    assert "POST /echo retains" in result.output
    assert json.loads(run(shell, "/echo", "--json").stdout)["leaks"] is (code == 1)


def test_an_address_that_responds_with_errors_only_is_not_cleared(
    shell: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {404: 240}
    first, second = replace(QUIET, statuses=wrong), replace(CALM, statuses=wrong)
    monkeypatch.setattr(runner, "command_line", lambda: phases("", first, second))
    result = run(shell, "/nope")
    assert result.exit_code == 2
    assert result.stdout.startswith(
        "GET /nope responded with errors only (480 × 404), so whether it leaks is\nunknown."
    )


def test_a_hunt_that_fails_ends_with_two(shell: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "command_line", lambda: phases("python"))
    result = run(shell, "/echo")
    assert result.exit_code == 2
    assert "planted" in result.output


def test_a_process_that_hunts_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HUNT, "python")
    app = Flask("mill", root_path=str(tmp_path))
    app.config["KNITPERF_STATE_DIR"] = str(tmp_path / "state")
    KnitPerf(app)
    app.add_url_rule("/", "index", lambda: "ok")
    assert app.test_client().get("/").status_code == 200
    assert not app.extensions["knitperf"].settings.enabled
    assert not (tmp_path / "state").exists()


MILL = """
from flask import Flask
from flask_knitperf import KnitPerf

NOTES = []
app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR="state")
perf = KnitPerf(app)
print("an application may print")

@app.get("/notes")
def add_note():
    NOTES.append(bytes(2000))
    return "ok"

@app.get("/fine")
def fine():
    return "ok"
"""


@pytest.mark.slow
@pytest.mark.parametrize(("path", "code"), [("/notes", 1), ("/fine", 0)])
def test_a_leak_is_hunted_by_the_real_command(tmp_path: Path, path: str, code: int) -> None:
    (tmp_path / "app.py").write_text(MILL)
    done = subprocess.run(
        [sys.executable, "-m", "flask", "knitperf", "leakhunt", path, "--json", "--requests", "90"],
        cwd=tmp_path, env=MEASURED, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    result = json.loads(done.stdout)
    assert not (tmp_path / "state").exists()
    if code:
        assert (
            result["lines"][0]["line"]
            == MILL.splitlines().index("    NOTES.append(bytes(2000))") + 1
        )
        assert result["lines"][0]["function"] == "add_note"
        assert result["holders"][0]["path"].startswith("NOTES of module app → list")
        assert result["bytes_per_request"] == pytest.approx(2_060, rel=0.05)
