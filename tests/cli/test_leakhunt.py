"""Hunting a leak from the command line: what is sent, what is said, and how it ends."""

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
from flask_knitperf.experiments.leakhunt.growth import FLAT, Growth
from flask_knitperf.experiments.leakhunt.retainers import Holder
from flask_knitperf.experiments.leakhunt.verdict import Traced, Untraced, Where, verdict
from flask_knitperf.render import leakhunt

GROWS = Growth(2_150.4, 2_140.0, 2_160.0, 12, 12, True)
HERE = os.path.abspath(__file__)


def line_of(mark: str) -> int:
    lines = Path(HERE).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


QUIET = Traced(FLAT, 0.0, (), {}, (), 900.0, (), 240, {200: 240})
CALM = Untraced(FLAT, "malloc", FLAT, FLAT, (), 100 << 20, 3 << 20, 240, {200: 240})
SEEN = replace(CALM, blocks=GROWS)


def keeps() -> Traced:
    lines = (
        Where(HERE, line_of("kept"), 2_000.0, 0.0, "/x/site-packages/pandas/core/frame.py:7"),
        Where("", 0, 100.0, 0.0, "/lib/queue.py:3", ("/lib/queue.py:3", "/lib/thread.py:9")),
    )
    holders = (Holder("KEPT of module mill → list of 640", 640, 1.0, None),)
    return replace(QUIET, growth=GROWS, lines=lines, types={"dict": 2.0}, holders=holders)


def keep(made: list[Any]) -> None:
    made.append("a line of a function")  # kept


# -- what is sent ----------------------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    return mill()


def mill() -> Flask:
    made = Flask("mill")

    @made.route("/echo", methods=["GET", "POST"])
    def echo() -> dict[str, Any]:
        said.update(
            host=request.host, args=dict(request.args), body=request.get_data(as_text=True),
            kind=request.content_type, token=request.headers.get("X-Token"), scheme=request.scheme,
        )  # fmt: skip
        return {}

    @made.get("/boom")
    def boom() -> str:
        raise ValueError("planted")

    said: dict[str, Any] = {}
    made.extensions["said"] = said
    return made


def sent(app: Flask, *words: Any, **more: Any) -> dict[str, Any]:
    assert send(app.wsgi_app, Request(*words, **more)) == 200
    found: dict[str, Any] = app.extensions["said"]
    return found


def test_a_path_is_sent_with_its_query(app: Flask) -> None:
    assert sent(app, "/echo?page=2&q=a%20b")["args"] == {"page": "2", "q": "a b"}


def test_the_host_of_an_address_is_sent(app: Flask) -> None:
    found = sent(app, "https://mill.example/echo")
    assert (found["host"], found["scheme"]) == ("mill.example", "https")


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
    found = sent(app, "/echo", "POST", (*headers, ("X-Token", "t")), data)
    assert (found["body"], found["kind"], found["token"]) == (data, kind, "t")


def test_an_application_that_raises_has_answered_500(app: Flask) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert send(app.wsgi_app, Request("/boom")) == 500


def test_a_body_is_read_and_closed_and_an_endless_one_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_process, "MOST_BYTES", 1_000)
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
    "Every answer led elsewhere (480 × 302), so the view itself may not have run. To be signed in, send "
    "a cookie: --header 'Cookie: …'."
)

# -- what is said ----------------------------------------------------------------------------------

TABLE = [
    (keeps(), SEEN, "GET /notes keeps 2.1 KB per request: "),
    (QUIET, replace(CALM, growth=GROWS), "GET /notes keeps 2.1 KB per request outside of Python."),
    (replace(QUIET, waiting=40_000.0), CALM, "GET /notes keeps nothing for good. 39.1 KB of each"),
    (QUIET, replace(CALM, returned=30 << 20), "GET /notes keeps nothing. 30.0 MB of free memory"),
    (replace(keeps(), holders=(Holder("lru_cache of price", 640, 1.0, 4096),)), SEEN,
     "GET /notes keeps 2.1 KB per request, but only until a cache that may hold 4,096 is full."),
    (QUIET, CALM, "GET /notes keeps nothing: no leak."),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "sentence"), TABLE)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_first_sentence_is_for_everybody_and_all_fits(
    first: Traced, second: Untraced, sentence: str, width: int
) -> None:
    found = leakhunt.text(Request("/notes"), verdict(first, second), width)
    assert " ".join(found.split()).startswith(sentence)
    assert max(map(len, found.splitlines())) <= width


def test_a_leak_is_told_with_line_source_library_holder_and_types() -> None:
    found = leakhunt.text(Request("/notes"), verdict(keeps(), SEEN), 80)
    where = f"cli/test_leakhunt.py:{line_of('kept')}"
    for said in (f"{where} in `keep`", 'made.append("a line of a function")', "(93%)",
                 "through pandas/core/frame.py:7", "no line of the application",
                 "from lib/thread.py:9", "KEPT of module mill → list of 640 (+1 per request)",
                 "2 dict", "12 of 12 blocks grew"):  # fmt: skip
        assert said in found


def test_a_file_elsewhere_is_named_in_full() -> None:
    assert leakhunt.shown("/elsewhere/mill.py") == "/elsewhere/mill.py"


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ({200: 240}, []),
        ({404: 240}, []),  # the first sentence says so
        ({302: 240}, [_ELSEWHERE]),
        ({200: 200, 500: 40}, ["The answer was not always the same: 400 × 200, 80 × 500."]),
    ],
)
def test_answers_that_are_errors_or_change_are_said_aloud(
    statuses: dict[int, int], said: list[str]
) -> None:
    found = verdict(replace(QUIET, statuses=statuses), replace(CALM, statuses=statuses))
    assert leakhunt.remarks(found) == said


def test_what_leaks_where_every_answer_is_an_error_is_said_with_that() -> None:
    wrong = {404: 240}
    found = verdict(replace(keeps(), statuses=wrong), replace(SEEN, statuses=wrong))
    assert leakhunt.remarks(found) == [
        "Every answer was an error (480 × 404): is it the right request?"
    ]


def test_growth_that_only_the_tracer_saw_is_said_aloud() -> None:
    assert "only while allocations were traced" in leakhunt.remarks(verdict(keeps(), CALM))[0]


def test_where_no_allocator_tells_that_is_said_aloud() -> None:
    found = leakhunt.remarks(verdict(QUIET, replace(CALM, by="resident")))
    assert "only looked at by resident memory" in found[0]


def test_the_document_is_json_and_holds_what_the_text_says() -> None:
    found = leakhunt.document(Request("/notes"), verdict(keeps(), SEEN))
    assert json.loads(json.dumps(found)) == found
    assert found["leaks"] is True and found["verdict"] == "leak"
    assert found["lines"][0]["function"] == "keep"
    assert found["lines"][0]["share"] == 0.93
    assert found["status"] == {"200": 480}


def test_the_function_of_a_line_is_the_innermost(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("x = 1\ndef f():\n    def g():\n        return 1\n    return g\n")
    assert [runner.function_at(str(source), line) for line in (1, 2, 4, 5)] == ["", "f", "g", "f"]
    assert runner.function_at(str(tmp_path / "b.py"), 1) == ""
    source.write_text("def f(:\n")
    assert runner.function_at(str(source), 1) == ""


# -- how phases are run ----------------------------------------------------------------------------

SPEAKS = """
import json, os, sys
print(json.dumps({"done": 1, "of": 2, "takes": 3.0}))
name = os.environ[sys.argv[3]]
if name == sys.argv[1]:
    sys.exit("planted " * 2)
print(json.dumps({"found": json.loads(sys.argv[2])[name.split()[0]]}))
print(name, file=sys.stderr)
"""


def phases(fails: str = "", first: Traced = QUIET, second: Untraced = CALM) -> list[str]:
    found = {"traced": asdict(first), "untraced": asdict(second)}
    return [sys.executable, "-c", SPEAKS, fails, json.dumps(found), HUNT]


def test_what_the_processes_of_both_phases_found_is_put_together() -> None:
    told: list[tuple[str, int]] = []
    first, second = keeps(), replace(SEEN, lines=(Where("a.py", 1, 2.0, 2.0),))
    found = runner.hunt(
        phases("", first, second), lambda phase, said: told.append((phase, said["done"]))
    )
    assert found == verdict(first, second)
    assert told == [("traced", 1), ("untraced", 1)]


def test_the_second_phase_knows_what_the_first_found() -> None:
    first = replace(keeps(), malloced=1_200.5)
    with pytest.raises(KnitPerfError, match="planted"):
        runner.hunt(phases("untraced 1200.500 2150.400", first), lambda *_: None)


def test_a_process_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(KnitPerfError, match="ended with 1:\nplanted planted"):
        runner.hunt(phases("traced"), lambda *_: None)


def test_the_command_line_is_run_again_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "flask", "knitperf", "leakhunt", "/"])
    assert runner.command_line() == [sys.executable, "-m", "flask", "knitperf", "leakhunt", "/"]


def test_another_program_cannot_hunt_by_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "other.py"])
    with pytest.raises(KnitPerfError, match="from a command line"):
        runner.command_line()


def test_how_far_a_phase_is_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.1, 0.3, 0.4, 0.6])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(moments))
    channel = io.StringIO()
    tell = runner._teller(channel)
    for done in range(1, 5):
        tell(done, 9, 1.5)
    said = [json.loads(line) for line in channel.getvalue().splitlines()]
    assert [each["done"] for each in said] == [2, 4]


@pytest.mark.parametrize("name", ["traced", "untraced 12.5 80.0"])
def test_each_phase_can_be_replayed(name: str) -> None:
    code = f"import {__name__} as here; here.tell_phase({name!r})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    found = pickle.loads(done.stdout)
    assert type(found) is (Traced if name == "traced" else Untraced)
    assert set(found.statuses) == {200}


def tell_phase(name: str) -> None:
    found = runner.replayed(name, mill().wsgi_app, Request("/echo"), 40, lambda *_: None)
    sys.stdout.buffer.write(pickle.dumps(found))


# -- from the terminal -----------------------------------------------------------------------------


@pytest.fixture
def shell(app: Flask) -> Flask:
    if "knitperf" not in app.cli.commands:
        app.cli.add_command(knitperf)
    return app


def run(app: Flask, *words: str) -> Any:
    return app.test_cli_runner().invoke(args=["knitperf", "leakhunt", *words])


WRONG = [
    (("/echo", "--method", "POST"), "--allow-writes"),
    (("/echo", "--method", "delete"), "--allow-writes"),
    (("echo",), "neither a path"),
    (("/echo", "--header", "nothing"), "no header"),
    (("/echo", "--requests", "3"), "range"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_use_ends_with_two(shell: Flask, words: tuple[str, ...], said: str) -> None:
    found = run(shell, *words)
    assert found.exit_code == 2
    assert said in found.output


@pytest.mark.parametrize(
    ("first", "second", "code"), [(keeps(), SEEN, 1), (QUIET, CALM, 0)], ids=["leak", "none"]
)
def test_a_hunt_ends_with_one_for_a_leak_and_with_zero_for_none(
    shell: Flask, monkeypatch: pytest.MonkeyPatch, first: Traced, second: Untraced, code: int
) -> None:
    monkeypatch.setattr(runner, "command_line", lambda: phases("", first, second))
    found = run(shell, "/echo", "--method", "POST", "--allow-writes", "--header", "A: b")
    assert found.exit_code == code
    assert "POST /echo keeps" in found.output
    assert json.loads(run(shell, "/echo", "--json").stdout)["leaks"] is (code == 1)


def test_an_address_that_answers_errors_only_is_not_cleared(
    shell: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {404: 240}
    first, second = replace(QUIET, statuses=wrong), replace(CALM, statuses=wrong)
    monkeypatch.setattr(runner, "command_line", lambda: phases("", first, second))
    found = run(shell, "/nope")
    assert found.exit_code == 2
    assert found.stdout.startswith(
        "GET /nope was answered with errors only (480 × 404): whether it leaks is not\nknown."
    )


def test_a_hunt_that_fails_ends_with_two(shell: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "command_line", lambda: phases("traced"))
    found = run(shell, "/echo")
    assert found.exit_code == 2
    assert "planted" in found.output


def test_a_process_that_hunts_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HUNT, "traced")
    made = Flask("mill", root_path=str(tmp_path))
    made.config["KNITPERF_STATE_DIR"] = str(tmp_path / "state")
    KnitPerf(made)
    made.add_url_rule("/", "index", lambda: "ok")
    assert made.test_client().get("/").status_code == 200
    assert not made.extensions["knitperf"].settings.enabled
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
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    assert not (tmp_path / "state").exists()
    if code:
        assert (
            found["lines"][0]["line"]
            == MILL.splitlines().index("    NOTES.append(bytes(2000))") + 1
        )
        assert found["lines"][0]["function"] == "add_note"
        assert found["holders"][0]["path"].startswith("NOTES of module app → list")
        assert found["bytes_per_request"] == pytest.approx(2_060, rel=0.05)
