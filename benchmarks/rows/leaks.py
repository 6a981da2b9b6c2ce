"""A leak among twenty endpoints of an ERP is flagged, with its endpoint first, and health is not.

Gunicorn serves a mill of twenty endpoints (``harness/erp_app.py``) from two workers, and two clients
send 20,000 requests, 240 a second, each to an endpoint drawn at random. In one of them every request
keeps 2 KB. The report is read every few seconds: it must come to say ``LEAK_SUSPECTED`` of that
endpoint, before any other, and go on saying so. It is planted in one place after another. One place is
not judged, and stands beside: an endpoint that fills and empties a buffer of 117 KB hides 2 KB. The
healthy mill gets the same requests, three times, and must never be suspected.

Beside it stands a mill of threads, where requests seldom run alone: nothing can be weighed there, so
growth is said, and an endpoint only if numbers of requests tell it.

What the watch costs a request is the difference between an application with it and one without it, in
alternating blocks; what its jobs take in the housekeeper's thread stands beside.
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
from ..harness.client import Ask, Load, report
from ..harness.erp_app import made, views
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

REQUESTS = 20_000
_WATCHED, _BARE = "watched", "not watched"
PACE = 240
"""Requests a second; such a mill serves 1,500 on a core when it is hurried."""
HIDING = "outbox"
"""What it leaves of one request in forty is fifty times the leak, and negative."""
LEAKS = tuple(name for name in views() if name != HIDING)
"""Where it is planted."""


class Seen(NamedTuple):
    """What one mill's reports said.

    Attributes:
        first: requests served when the right endpoint was first suspected, ``None`` if never.
        wrong: endpoints that were ever suspected though they keep nothing.
        last: the suspects of the last report, the first the most.
        grew: what memory grew by the last report, in MB.
        rate: KB per request that were said of the right endpoint.
    """

    first: int | None
    wrong: tuple[str, ...]
    last: tuple[str, ...]
    grew: float
    rate: float | None


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
    found = [seen for seen, leak in zip(planted, LEAKS, strict=False)
             if seen.first is not None and seen.last[:1] == (leak,)]  # fmt: skip
    besides = sum(bool(seen.wrong) for seen in planted)
    worst = max((seen.first or 0 for seen in planted), default=0)
    outcome.judge(
        "leaks.flagged", f"a leak of 2 KB per request among 20 endpoints, {len(planted)} places",
        f"flagged within {requests:,} requests, the right endpoint first",
        f"{len(found)} of {len(planted)}, after {worst:,} at most; in {besides} another one was "
        "suspected for a while",
        len(found) == len(planted),
    )  # fmt: skip
    said = sum(bool(seen.wrong) for seen in healthy)
    outcome.judge("leaks.healthy", "the healthy mill, the same length, three times", "not flagged",
                  f"flagged {said} times", not said)  # fmt: skip
    outcome.judge(
        "leaks.cost", "the watch, CPU that is added to a request", "≤ 1 µs",
        f"{cost['added_us']:.2f} µs ({cost['low_us']:.2f} to {cost['high_us']:.2f}); the housekeeper "
        f"takes {cost['beside_us']:.2f} µs per request of a busy worker beside",
        cost["added_us"] <= 1.0,
    )  # fmt: skip
    heads = ("mill", "flagged after", "others suspected", "in the end", "grew", "said of it")
    outcome.grids.append(Grid("What the reports said", heads, tuple(lines)))
    outcome.notes.append(
        f"Beside requests: {cost['reading_us']:.0f} µs for a reading, each second or after "
        f"{REQUESTS_PER_READING} requests, and {cost['judging_us']:.0f} µs for a judgement after "
        f"{INTERVALS_PER_JUDGEMENT} intervals at most."
    )
    outcome.details["cost"] = cost
    return outcome


def _line(seen: Seen) -> tuple[str, ...]:
    first = "never" if seen.first is None else f"{seen.first:,} requests"
    rate = "–" if seen.rate is None else f"{seen.rate:.2f} KB each"
    return (first, ", ".join(seen.wrong) or "none", ", ".join(seen.last) or "nobody",
            f"{seen.grew:.1f} MB", rate)  # fmt: skip


def _asks() -> tuple[Ask, ...]:
    return tuple(Ask(1, "GET", f"/{name}?n={{n}}", name, "2xx") for name in views())


def _soak(folder: Path, leak: str | None, total: int, seed: int, threads: int = 0) -> Seen:
    """Serve a mill while clients ask; read reports meanwhile."""
    options = ("--threads=4",) if threads else ("--workers=2",)
    config = {"KNITPERF_SAMPLER": False, **({"BENCH_LEAK": leak} if leak else {})}
    with servers.Gunicorn(
        folder, *options, config=config, app="benchmarks.harness.erp_app:made()"
    ) as gunicorn:
        load = Load(
            gunicorn.port,
            threads=threads or 2,
            total=total,
            seed=seed,
            asks=_asks(),
            per_second=PACE,
        )
        first: list[int] = []
        wrong: dict[str, None] = {}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(3.0):
                _note(gunicorn.port, leak, first, wrong)

        watcher = threading.Thread(target=watch)
        load.start()
        watcher.start()
        load.wait()
        time.sleep(7.0)  # the last judgement
        over.set()
        watcher.join()
        last = _note(gunicorn.port, leak, first, wrong)
        memory = report(gunicorn.port, path="/perf/memory").document
    suspects = last["suspects"]
    grew = sum(row["grown_mb"] for row in memory["growth"])
    rate = next((kb for name, kb in suspects if name == leak), None)
    names = tuple(name for name, _ in suspects)
    return Seen(first[0] if first else None, tuple(wrong), names, grew, rate)


def _note(port: int, leak: str | None, first: list[int], wrong: dict[str, None]) -> dict[str, Any]:
    """Read a report; note when the right endpoint was suspected first, and who else ever was."""
    answer = report(port)
    if answer.status != 200:
        return {"suspects": []}
    document = answer.document
    served = sum(row["count"] for row in document["endpoints"])
    rows = sorted(
        (row for row in document["endpoints"] if row["leak"]), key=lambda r: -r["leak"]["grown_mb"]
    )
    suspects = [(row["endpoint"], row["leak"]["kb_per_request"]) for row in rows]
    if suspects and suspects[0][0] == leak:
        first.append(served)
    wrong.update({name: None for name, _ in suspects if name != leak})
    return {"suspects": suspects}


def _cost(folder: Path, total: int) -> dict[str, float]:
    """Return what the watch adds to a request in its own thread, and what its jobs take beside.

    The first is the difference between one application with the watch and one without, in alternating
    blocks of one process; the second is measured in a process that serves the mill itself.
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
    """Time the watch's jobs in a process that serves the mill itself."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps({"KNITPERF_STATE_DIR": str(folder / "state"),
                                  "KNITPERF_SAMPLER": False}))  # fmt: skip
    os.environ["BENCH_CONFIG"] = str(config)
    app = made()
    session = app.extensions["knitperf"]
    rng, names = random.Random(1), list(views())
    readings, judgements = [], []
    for number in range(total):
        environ = create_environ(f"/{rng.choice(names)}", query_string=f"n={rng.randrange(9_999)}")
        body: Any = app.wsgi_app(environ, lambda *_: None)
        list(body)
        body.close()
        if number % REQUESTS_PER_READING == REQUESTS_PER_READING - 1:
            readings.append(
                _timed(lambda: session.memory_jobs.growth.take_reading(time.monotonic()))
            )
        if (
            number % (REQUESTS_PER_READING * INTERVALS_PER_JUDGEMENT)
            == REQUESTS_PER_READING * INTERVALS_PER_JUDGEMENT - 1
        ):
            judgements.append(_timed(session.memory_jobs.growth.judge))
    session.close()
    reading, judging = statistics.median(readings), statistics.median(judgements)
    return {
        "reading_us": reading * 1e6, "judging_us": judging * 1e6,
        "beside_us": (reading + judging / INTERVALS_PER_JUDGEMENT) * 1e6 / REQUESTS_PER_READING,
    }  # fmt: skip


def _timed(job: Any) -> float:
    began = time.thread_time()
    job()
    return time.thread_time() - began
