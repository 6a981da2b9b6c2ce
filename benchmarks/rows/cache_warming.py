"""Warming: the first minute of a restarted server, with the same code and with other code.

An application with two gunicorn workers has a function with a value for each of some hundred styles; a
load takes 20 ms of waiting, as for a database, and 10 ms of computing. Requests at a fixed rate use the
styles with frequencies by Zipf's law, and a third of them are of an endpoint that computes and caches
nothing. The server is restarted three times: without warming, with it, and with it and other code.

Each response carries the release of the code that loaded its value, whether its request had to load,
whether its worker was warming, and whether a load ahead ran beside it in any worker. So nothing is taken
from the statistics under test. Requests during warming are compared with those of them that no load ran
beside: both have the same noise.
"""

from __future__ import annotations

import http.client
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

STYLES = 300
EXPONENT = 0.8
RATE_PER_S = 30.0
TRAIN_S, MEASURE_S = 120.0, 60.0
MIN_HIT_RATE, MAX_SLOWER = 0.8, 0.10

_APP = """
import mmap
import threading
import time

from flask import Flask, make_response

from benchmarks.harness.apps import configured
from flask_knitperf import KnitPerf

RELEASE = "{release}"
app = configured("warm_mill")
perf = KnitPerf(app)
loaded = threading.local()
with open("{beside}", "r+b") as file:
    beside = mmap.mmap(file.fileno(), 1)  # odd while a load ahead runs, one at a time on this host


def compute(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(200))


@perf.cache.cached(warm=True)
def explode(style):
    ahead = threading.current_thread().name == "flask_knitperf-warm"
    loaded.yes = True
    beside[0] = (beside[0] + ahead) % 256
    time.sleep(0.02)
    compute(0.01)
    beside[0] = (beside[0] + ahead) % 256
    return RELEASE


def answer(text, before):
    response = make_response(text)
    warming = any(one.name == "flask_knitperf-warm" for one in threading.enumerate())
    ran_beside = before % 2 or beside[0] != before
    response.headers["X-State"] = f"{{int(loaded.yes)}} {{int(warming)}} {{int(ran_beside)}}"
    return response


@app.get("/style/<int:number>")
def style(number):
    loaded.yes, before = False, beside[0]
    return answer(explode(number), before)


@app.get("/steady")
def steady():
    loaded.yes, before = False, beside[0]
    compute(0.003)
    return answer("steady", before)
"""


class Answer(NamedTuple):
    """One response.

    Attributes:
        text: the release of the code that loaded the value, or ``steady``.
        loaded: whether the request had to load.
        warming: whether its worker was warming.
        beside: whether a load ahead ran at the same time.
        ms: milliseconds until the response was read.
    """

    text: str
    loaded: bool
    warming: bool
    beside: bool
    ms: float


def run(quick: bool = False) -> Outcome:
    """Measure."""
    train_s, measure_s = (30.0, 20.0) if quick else (TRAIN_S, MEASURE_S)
    with tempfile.TemporaryDirectory() as folder:
        mill = _Mill(Path(folder), 60 if quick else STYLES)
        trained = mill.serve("1", train_s, seed=1)
        cold = mill.serve("1", measure_s, seed=2, KNITPERF_CACHE_WARM_SECONDS=0)
        same = mill.serve("1", measure_s, seed=3)
        changed = mill.serve("2", measure_s, seed=4)
    outcome = Outcome()
    for name, what, answers in (("same", "same code", same), ("changed", "other code", changed)):
        rate = _hit_rate(answers)
        outcome.judge(
            f"cache_warming.{name}", f"hit rate of the first {measure_s:.0f} s after a restart, {what}",
            f"≥ {MIN_HIT_RATE:.0%}", f"{rate:.1%} ({_hit_rate(cold):.1%} without warming)",
            rate >= MIN_HIT_RATE,
        )  # fmt: skip
    old = sum(one.text == "1" for one in changed)
    outcome.judge(
        "cache_warming.old", "old answers after a change of the code", "0", str(old), old == 0
    )
    slower = _slower(same + changed)
    outcome.judge(
        "cache_warming.requests", "mean time of other requests during warming, against those without a "
        "load beside them",
        f"≤ {MAX_SLOWER:.0%} slower", "none was sent" if slower is None else f"{slower:+.1%}",
        None if slower is None else slower <= MAX_SLOWER,
    )  # fmt: skip
    outcome.grids.append(Grid(
        "All runs", ("run", "requests", "hit rate", "other requests, mean ms", "while warming",
                     "beside a load"),
        tuple(_line(name, answers) for name, answers in (
            ("before, from the middle on", trained[len(trained) // 2 :]),
            ("restarted, no warming", cold), ("restarted", same), ("other code", changed),
        )),
    ))  # fmt: skip
    return outcome


def _hit_rate(answers: list[Answer]) -> float:
    styles = [one for one in answers if one.text != "steady"]
    return 1 - sum(one.loaded for one in styles) / len(styles)


def _steady(answers: list[Answer], *, warming: bool) -> list[Answer]:
    return [one for one in answers if one.text == "steady" and one.warming is warming]


def _slower(answers: list[Answer]) -> float | None:
    """Return the growth of the mean time of requests that cache nothing, ``None`` without any."""
    during = _steady(answers, warming=True)
    without = [one.ms for one in during if not one.beside]
    return (
        statistics.mean(one.ms for one in during) / statistics.mean(without) - 1
        if without
        else None
    )


def _line(name: str, answers: list[Answer]) -> tuple[str, ...]:
    during = _steady(answers, warming=True)
    groups = (_steady(answers, warming=False), during, [one for one in during if one.beside])
    means = [
        f"{statistics.mean(one.ms for one in group):.2f} ({len(group):,})" if group else "none"
        for group in groups
    ]
    return name, f"{len(answers):,}", f"{_hit_rate(answers):.1%}", *means


class _Mill:
    """An application in a folder, whose code is written before each start."""

    def __init__(self, folder: Path, styles: int) -> None:
        self._folder, self._styles = folder, styles
        self._weights = list(itertools.accumulate(
            (rank + 1) ** -EXPONENT for rank in range(styles)
        ))  # fmt: skip

    def serve(self, release: str, seconds: float, seed: int, **config: float) -> list[Answer]:
        """Start the server, send requests for some seconds, and stop it; return the responses."""
        beside = self._folder / "beside"
        beside.write_bytes(b"\0")
        code = _APP.format(release=release, beside=beside)
        (self._folder / "warm_mill.py").write_text(code, encoding="utf-8")
        with Gunicorn(
            self._folder / "server", "--workers=2", f"--pythonpath={self._folder}", config=config,
            app="warm_mill:app", env={"PYTHONDONTWRITEBYTECODE": "1"},
        ) as server:  # fmt: skip
            return self._load(server.port, seconds, random.Random(seed))

    def _load(self, port: int, seconds: float, rng: random.Random) -> list[Answer]:
        answers: list[Answer] = []
        began = due = time.monotonic()
        while due < began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            number = rng.choices(range(self._styles), cum_weights=self._weights)[0]
            path = "/steady" if rng.random() < 1 / 3 else f"/style/{number}"
            answers.append(_request(port, path))
            due += rng.expovariate(RATE_PER_S)
        return answers


def _request(port: int, path: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.perf_counter()
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    ms = (time.perf_counter() - began) * 1000
    loaded, warming, beside = (flag == "1" for flag in response.headers["X-State"].split())
    return Answer(text, loaded, warming, beside, ms)
