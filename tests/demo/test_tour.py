"""The demo for a newcomer: progress, addresses, two stages of traffic, the front page."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import pytest

from demo_app import serve, tour
from demo_app.plants import plan
from demo_app.progress import Progress, clock
from demo_app.settings import Settings
from demo_app.traffic import Answer, Request, requests
from tests.demo.conftest import SMALL, MakeApp

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# -- progress --------------------------------------------------------------------------------------


def test_the_bar_shows_the_share_the_time_left_and_what_happens_in_80_columns() -> None:
    stream = Terminal()
    progress = Progress("traffic", stream)
    progress.show(0.5, "planning.yarn_requirements_of_a_very_long_name 12.34 s")
    line = stream.getvalue().rpartition("\x1b[K")[2]
    assert "[########........]" in line
    assert re.search(r"50% \d+:\d\d left  planning.yarn_requirements", line)
    assert len(line) < 80 and "\n" not in line


def test_the_bar_is_redrawn_at_most_ten_times_a_second_and_always_at_the_end() -> None:
    stream = Terminal()
    progress = Progress("traffic", stream)
    for number in range(1, 1_001):
        progress.show(number / 1_000, f"request {number}")
    assert stream.getvalue().count("\x1b[K") < 500
    assert "100%" in stream.getvalue() and "request 1000" in stream.getvalue()


def test_a_pipe_gets_a_line_per_tenth_without_escape_sequences() -> None:
    stream = io.StringIO()
    progress = Progress("traffic", stream)
    for number in range(1, 101):
        progress.show(number / 100, "live_ping" * 10)
    progress.done("100 requests")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11 and max(map(len, lines)) <= 80
    assert lines[0].startswith("traffic   10%") and lines[-1] == "traffic  100 requests"
    assert "\x1b" not in stream.getvalue()


def test_a_step_that_is_done_replaces_its_state_on_a_terminal() -> None:
    stream = Terminal()
    progress = Progress("server", stream)
    progress.state("starting " + "x" * 100)
    progress.done("serving")
    state, done = stream.getvalue().split("\r\x1b[K")[1:]
    assert len(state) < 80 and "\n" not in state
    assert done == "server   serving\n"


def test_progress_of_traffic_names_the_endpoint_that_answered_last() -> None:
    stream = Terminal()
    show = tour.by_count(Progress("traffic", stream), 4)
    show(1, Answer(Request("ping", "live_ping", "GET", "/"), 200, 1.5, ""))
    assert " 25% " in stream.getvalue() and "live_ping 1.50 s" in stream.getvalue()


def test_the_clock_is_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (-1, 0, 61.4, 3_600)] == ["0:00", "0:00", "1:01", "60:00"]


# -- the second stage ------------------------------------------------------------------------------


def test_half_of_the_second_stage_goes_to_the_leak_and_it_is_long_enough_for_a_verdict() -> None:
    listed = requests(plan(0), 2_000, 1, only=tour.BACKGROUND_ROLES)
    assert 0.45 < sum(r.kind == "leak" for r in listed) / len(listed) < 0.55
    assert tour.MINUTES > 10  # growth per hour is judged after ten minutes


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Environment of a demo on small data, with planted sleeps left out."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("KNITPERF_", "DEMO_"))},
        "DEMO_DATA": str(tmp_path / "mill"), "DEMO_SCALE": str(SMALL), "DEMO_SLEEP_FACTOR": "0",
        "KNITPERF_STATE_DIR": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


@pytest.mark.slow
def test_the_report_is_announced_before_the_traffic_and_again_after_it(
    variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    command = [sys.executable, "-m", "demo_app", "--requests", "60", "--minutes", "0.05"]
    with subprocess.Popen(
        command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if "Ctrl-C" in line and not line.startswith("server"):
                    break
            link = next(line for line in reversed(lines) if line.startswith("sign in")).split()[-1]
            address, _, query = link.partition("/perf/sign-in?")
            browser = build_opener(HTTPCookieProcessor())
            with browser.open(f"{address}/perf/sign-in", query.encode()) as answer:
                assert answer.url == f"{address}/perf/"
                assert b"bottlenecks" in answer.read()
            with urlopen(f"{address}/") as answer:
                assert b'href="/perf/"' in answer.read()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    labels = [line.split("  ")[0] for line in lines]
    assert labels.index("sign in") < labels.index("traffic") < labels.index("memory")
    assert labels.count("sign in") == 2
    token = next(line.strip() for line in lines if re.fullmatch(r" +[\w-]{43}", line))
    assert len(token) == 43
    assert max(len(line) for line in lines if not line.startswith(("sign in", "data"))) <= 80


def test_a_token_of_ones_own_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KNITPERF_ACCESS_TOKEN", "a-token-of-the-users-own-that-is-long")
    monkeypatch.setenv("KNITPERF_URL_PREFIX", "/speed")
    env = serve.environment(Settings.read(), "test")
    tour.print_report_address(env, "http://127.0.0.1:1")
    text = capsys.readouterr().out
    assert "a-token-of-the-users-own" not in text and "KNITPERF_ACCESS_TOKEN" in text
    assert "http://127.0.0.1:1/speed/sign-in?code=" in text


@pytest.mark.parametrize(
    ("serving", "text"),
    [
        (serve.Serving(gunicorn=True, workers=4), "gunicorn with 4 workers"),
        (serve.Serving(gunicorn=True, workers=1), "gunicorn with 1 worker"),
        (serve.Serving(threads=8), "waitress with 8 threads"),
    ],
)
def test_a_server_is_described_in_words(serving: serve.Serving, text: str) -> None:
    assert str(serving) == text


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2])
def test_the_front_page_links_every_page_and_names_every_plant(
    make_app: MakeApp, seed: int
) -> None:
    client = make_app(seed).test_client()
    text = client.get("/").get_data(as_text=True)
    for place in plan(seed).places.values():
        assert place.title in text
        if place.method == "GET":
            assert f'href="{place.url}"' in text
    for plant in plan(seed).plants:
        if plant.problem:
            assert plant.golden.partition("'")[0] in text


def test_the_front_page_links_no_report_that_is_not_there(make_app: MakeApp) -> None:
    assert "/perf/" not in make_app().test_client().get("/").get_data(as_text=True)


def test_the_front_page_of_the_repaired_mill_names_no_problem(make_app: MakeApp) -> None:
    text = make_app(fixed=True).test_client().get("/").get_data(as_text=True)
    assert "every problem repaired" in text
    assert plan(0).plant("leak").golden not in text


def test_links_keep_to_the_prefix_that_the_mill_is_mounted_at(make_app: MakeApp) -> None:
    app = make_app()
    text = app.test_client().get("/", environ_overrides={"SCRIPT_NAME": "/erp"}).text
    links = re.findall(r'href="([^"]*)"', text)
    assert links and all(link.startswith(("/erp/", "data:")) for link in links)


def test_the_readme_names_every_planted_endpoint_and_how_to_list_them() -> None:
    assert "python -m demo_app plants" in README
    for plant in plan(0).plants:
        if plant.problem:
            assert f"`{plant.endpoint}`" in README, plant.endpoint
