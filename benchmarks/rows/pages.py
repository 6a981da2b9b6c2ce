"""Cost of the pages: of one that is opened, of polls, and of tabs that stay open; their size.

An application with 200 endpoints that are called at random has a history of a day. Its pages are opened
and polled in the same thread, whose CPU time is that of the server; medians. The CPU
time of a tab is that of its polls, of the writer of the live figures, and of the page that replaces its
content every half minute.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from flask_knitperf import KnitPerf
from flask_knitperf.history.databases import SQLite
from flask_knitperf.history.resolutions import COARSER, DAY, FINEST
from flask_knitperf.history.rows import rows_of
from flask_knitperf.history.schema import prepare
from flask_knitperf.history.store import Baseline, Mark, Store, key_of
from flask_knitperf.history.totals import total_rows
from flask_knitperf.history.writer import DEPLOY
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.metrics.columns import Series
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key
from flask_knitperf.metrics.table import Table, as_columns
from flask_knitperf.runtime.live_jobs import INTERVAL_S

from ..harness.outcome import Grid, Outcome

ENDPOINTS = 200
OPEN_MS, POLL_MS, NOTHING_NEW_MS, TAB_SHARE, TABS_SHARE, SIZE_KB, SCRIPT_KB = (
    60.0, 2.0, 0.5, 0.002, 0.01, 150.0, 15.0,
)  # fmt: skip
REFRESH_S, COST_FACTOR, FEW_TABS = 30.0, 1000.0, 5.0
"""Pauses of the script: of a page, a multiple of its cost, and tabs from which on all wait longer."""
TABS = 20
_HTML = {"Accept": "text/html"}


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    endpoints, turns = (20, 3) if quick else (ENDPOINTS, 21)
    with tempfile.TemporaryDirectory() as folder:
        app, perf = _application(Path(folder), endpoints)
        client = app.test_client()
        _fill(Path(folder) / "history.sqlite", endpoints)
        generator = np.random.default_rng(1)
        for number in generator.integers(0, endpoints, 100 if quick else 5000).tolist():
            client.get(f"/{number}")
        _judge_opened(outcome, app, turns)
        _judge_live(outcome, app, client, perf, turns)
        perf.session().close()
    return outcome


def _application(folder: Path, endpoints: int) -> tuple[Flask, Any]:
    app = Flask("mill")
    app.config.update(
        KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_ACCESS=lambda _: True,
        KNITPERF_HISTORY_URL=str(folder / "history.sqlite"), KNITPERF_SAMPLER=False,
    )  # fmt: skip
    for number in range(endpoints):
        app.add_url_rule(f"/{number}", f"endpoint_{number}", lambda: "ok")
    return app, KnitPerf(app)


def _fill(path: Path, endpoints: int) -> None:
    """Write a day of requests to each endpoint."""
    database, generator = SQLite(path), np.random.default_rng(1)
    connection = database.connection()
    prepare(connection)
    store = Store(connection)
    now = int(time.time()) // 60 * 60
    source = store.source("other")
    for resolution in COARSER:
        seconds = resolution.seconds
        series: dict[Key, Series] = {}
        for number in range(endpoints):
            key = Key(REQUEST.name, (f"endpoint_{number}", "GET", "2xx", "solo"))
            one = series[key] = Series(REQUEST.kind, REQUEST.unit, REQUEST.merge)
            drawn = generator.lognormal(17, 0.6, max(1, seconds // 10))
            one.data = Histogram.of(drawn.round().tolist())
        whole = as_columns(Table(series=series))
        active, blobs = rows_of(whole)
        entries = [
            (key_of(one), {"unit": one.unit, "merge": one.merge.value}, blob)
            for one, blob in zip(
                [whole.descriptors[row] for row in active.tolist()], blobs, strict=True
            )
        ]
        entries += [(key, dict(about), blob) for key, about, blob in total_rows(whole)]
        with connection.transaction():
            numbers = store.numbers([(key, about) for key, about, _ in entries])
            data = {n or 0: blob for n, (_, _, blob) in zip(numbers, entries, strict=True)}
            for slot in range((now - DAY) // seconds * seconds, now, seconds):
                store.add(resolution, slot, source, data, merge=False)
    store.add_mark(source, Mark(now - DAY, DEPLOY, {"run": "other", "release": None}))
    store.set_baseline(source, "other", FINEST, Baseline(now, 0, b""))
    database.close()


def _cpu_ms(action: Callable[[], object], turns: int) -> float:
    costs = []
    for _ in range(turns):
        began = time.thread_time()
        action()
        costs.append((time.thread_time() - began) * 1000)
        time.sleep(0.1 if turns > 1 else 0.0)  # the pages allow ten requests a second
    return statistics.median(costs)


def _get(client: FlaskClient, address: str, **headers: str) -> Any:
    """Return the response to a request that the pages answer."""
    response = client.get(address, headers=headers)
    assert response.status_code in (200, 304), response.text
    return response


def _request(app: Flask, address: str, **headers: str) -> Callable[[], object]:
    """Return a function that sends a request as a server does, without the work of a client."""
    environ = EnvironBuilder(path=address, headers=headers).get_environ()

    def send() -> None:
        statuses: list[str] = []
        body = app(environ.copy(), lambda status, *_: statuses.append(status) or bytes.join)  # type: ignore[arg-type, func-returns-value]
        b"".join(body)
        assert statuses[0][:3] in ("200", "304"), statuses

    return send


def _judge_opened(outcome: Outcome, app: Flask, turns: int) -> None:
    """Measure pages beside their reports, and their size."""
    lines = []
    for window in ("1h", "24h"):
        address = f"/perf/?window={window}"
        page = _cpu_ms(_request(app, address, **_HTML), turns)
        report = _cpu_ms(_request(app, f"/perf/report?window={window}"), turns)
        lines.append((window, f"{page:.0f} ms", f"{report:.0f} ms", f"{page - report:.0f} ms"))
        if window == "24h":
            outcome.judge(
                "pages.opened", f"the overview of a day, {ENDPOINTS} endpoints, beside its report, CPU",
                f"≤ {OPEN_MS:.0f} ms", f"{page - report:.0f} ms", page - report <= OPEN_MS,
            )  # fmt: skip
    outcome.grids.append(
        Grid("CPU time of the overview", ("window", "page", "report", "beside"), tuple(lines))
    )
    client = app.test_client()
    html = _get(client, "/perf/", **_HTML).data
    style, script = client.get("/perf/style.css").data, client.get("/perf/pages.js").data
    sizes = [len(gzip.compress(one)) / 1024 for one in (html, style, script)]
    outcome.judge(
        "pages.size", "overview, style sheet and script, compressed", f"≤ {SIZE_KB:.0f} KB",
        f"{sum(sizes):.0f} KB, not compressed {sum(map(len, (html, style, script))) / 1024:.0f} KB",
        sum(sizes) <= SIZE_KB,
    )  # fmt: skip
    outcome.judge(
        "pages.script", "script, compressed", f"≤ {SCRIPT_KB:.0f} KB", f"{sizes[2]:.1f} KB",
        sizes[2] <= SCRIPT_KB,
    )  # fmt: skip


def _judge_live(outcome: Outcome, app: Flask, client: FlaskClient, perf: Any, turns: int) -> None:
    """Measure polls, and what tabs cost that stay open."""
    live = perf.session().live
    client.get("/perf/live.json")  # none yet
    live.tick()
    writes, polls, repeats, sequence = [], [], [], 0
    for turn in range(turns * 3):
        client.get(f"/{turn % 20}")
        time.sleep(0.05)
        writes.append(_cpu_ms(live.tick, 1))
        address = f"/perf/live.json?after={sequence}"
        polls.append(_cpu_ms(_request(app, address), 1))
        latest = _get(client, address)
        sequence, again = latest.json["sequence"], {"If-None-Match": latest.headers["ETag"]}
        repeats.append(_cpu_ms(_request(app, f"/perf/live.json?after={sequence}", **again), 1))
    write, poll, repeat = (statistics.median(costs) for costs in (writes, polls, repeats))
    page = _cpu_ms(_request(app, "/perf/", **_HTML), turns)
    outcome.judge(
        "pages.poll",
        "a poll with news, CPU",
        f"≤ {POLL_MS:g} ms",
        f"{poll:.2f} ms",
        poll <= POLL_MS,
    )
    outcome.judge(
        "pages.nothing_new", "a poll without news, CPU", f"≤ {NOTHING_NEW_MS} ms", f"{repeat:.2f} ms",
        repeat <= NOTHING_NEW_MS,
    )  # fmt: skip
    for name, tabs, limit in (("tab", 1, TAB_SHARE), ("tabs", TABS, TABS_SHARE)):
        patience = max(1.0, tabs / FEW_TABS)
        polled = (write + tabs * poll / patience) / 1000 / INTERVAL_S
        whole = polled + tabs * page / 1000 / (max(REFRESH_S, page * COST_FACTOR / 1000) * patience)
        outcome.judge(
            f"pages.{name}", f"{tabs} open tab{'s' * (tabs > 1)}, share of a core", f"≤ {limit:.1%}",
            f"{whole:.2%}, of that polls {polled:.2%}", whole <= limit,
        )  # fmt: skip
    outcome.notes.append(
        f"One write of the live figures takes {write:.1f} ms, the overview {page:.0f} ms."
    )
