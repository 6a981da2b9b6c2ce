"""A leak among twenty endpoints of an ERP is reported, its endpoint first; a healthy ERP is not.

Gunicorn serves a mill of twenty endpoints (``harness/erp_app.py``) by two workers, and two clients send
20,000 requests, 240 per second, each to an endpoint drawn at random. In one of them every request
retains 2 KB. The report is read every few seconds: it must reach ``LEAK_SUSPECTED`` for that endpoint,
before any other, and stay there. The leak is planted in one endpoint after another. One endpoint is
reported without a judgement: it fills and empties a buffer of 117 KB, which hides 2 KB. The healthy mill
receives the same requests, three times, and must never be suspected.

A mill of threads is reported as well. Its requests seldom run alone, so their retained bytes cannot be
measured: it shows growth, and an endpoint only if the numbers of requests identify it.

The cost of leak detection is the difference between an application with it and one without it, in
alternating blocks; the time of its jobs in the housekeeper's thread stands beside.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from werkzeug.test import create_environ

from flask_knitperf.collectors.memory.leak_detector import (
    INTERVALS_PER_JUDGEMENT,
    REQUESTS_PER_READING,
)

from ..harness import servers
from ..harness.apps import small
from ..harness.blocks import differences, measure
from ..harness.client import Load, RequestKind, report
from ..harness.erp_app import served, views
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

REQUESTS = 20_000
_WATCHED = "with leak detection"
_BARE = "without"
RATE = 240
"""Requests per second; a core of such a mill serves 1,500."""
HIDING = "outbox"
"""An endpoint whose buffer frees fifty times the leak in one request of forty."""
LEAKS = tuple(name for name in views() if name != HIDING)
"""Endpoints in which the leak is planted."""


class Suspicions(NamedTuple):
    """The suspicions in the reports of one mill.

    Attributes:
        first: requests served when the leaking endpoint was first suspected, ``None`` if never.
        wrong: healthy endpoints that were ever suspected.
        last: the suspects of the last report, largest growth first.
        grown_mb: growth of memory by the last report.
        kb_per_request: reported for the leaking endpoint.
    """

    first: int | None
    wrong: tuple[str, ...]
    last: tuple[str, ...]
    grown_mb: float
    kb_per_request: float | None


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    requests = 3_000 if quick else REQUESTS
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = []
        for number, leak in enumerate(LEAKS[:1] if quick else LEAKS):
            planted.append(_soak(folder / f"leak-{number}", leak, requests, number))
            lines.append((f"leak in {leak}", *_line(planted[-1])))
            print("  ", lines[-1], flush=True)
        healthy = []
        for number in range(1 if quick else 3):
            healthy.append(_soak(folder / f"healthy-{number}", None, requests, 50 + number))
            lines.append((f"healthy, {number + 1}", *_line(healthy[-1])))
            print("  ", lines[-1], flush=True)
        if not quick:
            hidden = _soak(folder / "hidden", HIDING, requests, 30)
            lines.append((f"leak in {HIDING}, not judged", *_line(hidden)))
        threads = _soak(folder / "threads", LEAKS[-1], requests, 40, threads=4)
        lines.append((f"leak in {LEAKS[-1]}, threads", *_line(threads)))
        cost = _cost(folder / "cost", 4_000 if quick else REQUESTS)
    reported = [mill for mill, leak in zip(planted, LEAKS, strict=False)
                if mill.first is not None and mill.last[:1] == (leak,)]  # fmt: skip
    others = sum(bool(mill.wrong) for mill in planted)
    worst = max((mill.first or 0 for mill in planted), default=0)
    outcome.judge(
        "leaks.flagged", f"a leak of 2 KB per request among 20 endpoints, {len(planted)} places",
        f"reported within {requests:,} requests, the right endpoint first",
        f"{len(reported)} of {len(planted)}, after {worst:,} at most; in {others} another one was "
        "suspected for a while",
        len(reported) == len(planted),
    )  # fmt: skip
    false = sum(bool(mill.wrong) for mill in healthy)
    outcome.judge("leaks.healthy", "the healthy mill, the same length, three times", "not reported",
                  f"reported {false} times", not false)  # fmt: skip
    outcome.judge(
        "leaks.cost", "CPU time that leak detection adds to a request", "≤ 1 µs",
        f"{cost['added_us']:.2f} µs ({cost['low_us']:.2f} to {cost['high_us']:.2f}); the housekeeper "
        f"takes {cost['background_us']:.2f} µs per request of a busy worker",
        cost["added_us"] <= 1.0,
    )  # fmt: skip
    heads = ("mill", "reported after", "others suspected", "in the end", "growth", "of the leak")
    outcome.grids.append(Grid("Suspicions in the reports", heads, tuple(lines)))
    outcome.notes.append(
        f"In the background: {cost['reading_us']:.0f} µs for a reading, each second or after "
        f"{REQUESTS_PER_READING} requests, and {cost['judging_us']:.0f} µs for a judgement after "
        f"{INTERVALS_PER_JUDGEMENT} intervals at most."
    )
    return outcome


def _line(mill: Suspicions) -> tuple[str, ...]:
    first = "never" if mill.first is None else f"{mill.first:,} requests"
    kb = mill.kb_per_request
    return (first, ", ".join(mill.wrong) or "none", ", ".join(mill.last) or "none",
            f"{mill.grown_mb:.1f} MB", "–" if kb is None else f"{kb:.2f} KB per request")  # fmt: skip


def _mix() -> tuple[RequestKind, ...]:
    return tuple(RequestKind(1, "GET", f"/{name}?n={{n}}", name, "2xx") for name in views())


def _soak(folder: Path, leak: str | None, total: int, seed: int, threads: int = 0) -> Suspicions:
    """Serve a mill under load; read reports meanwhile."""
    options = ("--threads=4",) if threads else ("--workers=2",)
    config = {"KNITPERF_SAMPLER": False, **({"BENCH_LEAK": leak} if leak else {})}
    with servers.Gunicorn(
        folder, *options, config=config, app="benchmarks.harness.erp_app:served()"
    ) as gunicorn:
        load = Load(
            gunicorn.port,
            threads=threads or 2,
            total=total,
            seed=seed,
            mix=_mix(),
            per_second=RATE,
        )
        first: list[int] = []
        wrong: dict[str, None] = {}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(3.0):
                _suspects(gunicorn.port, leak, first, wrong)

        watcher = threading.Thread(target=watch)
        load.start()
        watcher.start()
        load.wait()
        time.sleep(7.0)  # the last judgement
        over.set()
        watcher.join()
        suspects = _suspects(gunicorn.port, leak, first, wrong)
        memory = report(gunicorn.port, path="/perf/memory").document
    grown_mb = sum(row["grown_mb"] for row in memory["growth"])
    kb = next((kb for name, kb in suspects if name == leak), None)
    names = tuple(name for name, _ in suspects)
    return Suspicions(first[0] if first else None, tuple(wrong), names, grown_mb, kb)


def _suspects(
    port: int, leak: str | None, first: list[int], wrong: dict[str, None]
) -> list[tuple[str, float]]:
    """Return the suspects of a report, each with its KB per request; record first and wrong ones."""
    answer = report(port)
    if answer.status != 200:
        return []
    document = answer.document
    requests = sum(row["count"] for row in document["endpoints"])
    rows = sorted(
        (row for row in document["endpoints"] if row["leak"]), key=lambda r: -r["leak"]["grown_mb"]
    )
    suspects = [(row["endpoint"], row["leak"]["kb_per_request"]) for row in rows]
    if suspects and suspects[0][0] == leak:
        first.append(requests)
    wrong.update({name: None for name, _ in suspects if name != leak})
    return suspects


def _cost(folder: Path, total: int) -> dict[str, float]:
    """Return the CPU time that leak detection adds to a request, and that of its background jobs.

    The first is the difference between one application with it and one without, in alternating blocks
    of one process; the second is measured in a process that serves the mill itself.
    """
    apps = {
        name: small({"KNITPERF_STATE_DIR": str(folder / name), "KNITPERF_LEAK_WATCH": watched})
        for name, watched in ((_WATCHED, True), (_BARE, False))
    }
    gets = {name: Get(app) for name, app in apps.items()}
    added = differences(measure(gets, max(4, total // 200), 300), _BARE)[_WATCHED]
    for app in apps.values():
        app.extensions["knitperf"].close()
    return {
        "added_us": added.median,
        "low_us": added.low,
        "high_us": added.high,
        **_jobs(folder, total),
    }


def _jobs(folder: Path, total: int) -> dict[str, float]:
    """Time the background jobs in a process that serves the mill itself."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps({"KNITPERF_STATE_DIR": str(folder / "state"),
                                  "KNITPERF_SAMPLER": False}))  # fmt: skip
    os.environ["BENCH_CONFIG"] = str(config)
    app = served()
    session = app.extensions["knitperf"]
    rng, names = random.Random(1), list(views())
    readings, judgements = [], []
    requests_per_judgement = REQUESTS_PER_READING * INTERVALS_PER_JUDGEMENT
    for number in range(total):
        environ = create_environ(f"/{rng.choice(names)}", query_string=f"n={rng.randrange(9_999)}")
        body: Any = app.wsgi_app(environ, lambda *_: None)
        list(body)
        body.close()
        if number % REQUESTS_PER_READING == REQUESTS_PER_READING - 1:
            readings.append(
                _timed(lambda: session.memory_jobs.growth.take_reading(time.monotonic()))
            )
        if number % requests_per_judgement == requests_per_judgement - 1:
            judgements.append(_timed(session.memory_jobs.growth.judge))
    session.close()
    reading, judging = statistics.median(readings), statistics.median(judgements)
    return {
        "reading_us": reading * 1e6, "judging_us": judging * 1e6,
        "background_us": 1e6 * (reading / REQUESTS_PER_READING + judging / requests_per_judgement),
    }  # fmt: skip


def _timed(job: Any) -> float:
    start = time.thread_time()
    job()
    return time.thread_time() - start
