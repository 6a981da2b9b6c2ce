"""The demo with the advice on caching followed, against the demo as it is.

The same requests are served twice in one process: first as the demo is, while its services are watched;
then with the recommended decorators above the methods of the services, and nothing else changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from demo_app import traffic
from demo_app.app import create_app
from demo_app.context import KEY
from demo_app.plants import plan
from demo_app.wiring import watch
from flask_knitperf import KnitPerf

from ..harness.outcome import Grid, Outcome

REQUESTS = 600
REPEATING = ("workbooks", "reread", "explosion", "service_loop", "key_mismatch")
"""Roles whose requests have the same work again and again."""
ROLES = (*REPEATING, "stock")
MIN_HIT_RATE = 0.8
MAX_P95_MS = 200.0
MAX_MISS = 0.25
"""Share by which the saving may differ from the predicted one."""


class Served(NamedTuple):
    """Documents of one run, and the counts of its cache by namespace."""

    report: Any
    cache: Any
    namespaces: dict[str, Any]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    requests = 12 if quick else REQUESTS
    with tempfile.TemporaryDirectory(prefix="knitperf-demo-") as folder:
        before = _serve(Path(folder), requests, {})
        advice = {row["function"]: row for row in before.cache["what_if"] if row["decorator"]}
        after = _serve(Path(folder), requests, advice)
    _judge(outcome, before, after, advice)
    return outcome


def _serve(folder: Path, requests: int, advice: dict[str, Any]) -> Served:
    """Serve the requests, with the decorators of an advice above the methods."""
    app = create_app({"TESTING": True, "DEMO_DATA": str(folder), "DEMO_BARE": True})
    perf, laid = KnitPerf(), plan(0)
    services = vars(app.extensions[KEY].services)
    with _pasted(perf, [type(service) for service in services.values()], advice):
        watch(app, perf)
        client = app.test_client()
        for request in traffic.requests(
            laid, requests, least=requests, only=ROLES
        ):  # fmt: skip
            response = client.open(request.path, method=request.method)
            assert response.status_code < 500, request
        with app.app_context():
            session = perf.session()
            return Served(
                session.documents.report("run"), session.documents.cache("run"),
                {name: dict(row) for name, row in
                 perf.cache.get_cache_statistics()["namespaces"].items()},
            )  # fmt: skip


@contextmanager
def _pasted(perf: KnitPerf, kinds: list[type], advice: dict[str, Any]) -> Iterator[None]:
    """Have the recommended methods of some classes decorated within the block."""
    originals = []
    for kind in kinds:
        for name, method in list(vars(kind).items()):
            row = advice.get(f"{kind.__name__}.{name}")
            if row is not None:
                originals.append((kind, name, method))
                setattr(kind, name, perf.cache.cached(method, ttl=row["ttl_s"]))
    try:
        yield
    finally:
        for kind, name, method in originals:
            setattr(kind, name, method)


def _judge(outcome: Outcome, before: Served, after: Served, advice: dict[str, Any]) -> None:
    places = plan(0).places
    repeating = [places[kind].endpoint for kind in REPEATING]
    p95 = {
        which: {row["endpoint"]: row["p95_ms"] for row in served.report["endpoints"]}
        for which, served in (("before", before), ("after", after))
    }
    used = {
        name: row for name, row in after.namespaces.items()
        if name.split(".")[-2:] in [function.split(".") for function in advice]
    }  # fmt: skip
    rates = [row["hit_rate"] or 0.0 for row in used.values()]
    slowest = max((p95["after"][endpoint] for endpoint in repeating), default=float("inf"))
    predicted = sum(row["saved_s"] for row in advice.values())
    spent = sum(row["time_s"] for row in advice.values())
    saved = spent - sum(row["load_seconds"] for row in used.values())
    miss = abs(saved / predicted - 1) if predicted else float("inf")
    lowest = min(rates, default=0.0)
    outcome.judge(
        "cache_advice_demo.hits", f"lowest hit rate of {len(rates)} methods with their decorators",
        f"> {MIN_HIT_RATE:.0%}", f"{lowest:.1%}", lowest > MIN_HIT_RATE,
    )  # fmt: skip
    outcome.judge(
        "cache_advice_demo.p95", f"p95 of the slowest of {len(repeating)} endpoints whose work repeats",
        f"≤ {MAX_P95_MS:g} ms", f"{slowest:.0f} ms", slowest <= MAX_P95_MS,
    )  # fmt: skip
    outcome.judge(
        "cache_advice_demo.saving", "saved seconds against the predicted ones",
        f"± {MAX_MISS:.0%}", f"{saved:.0f} of {predicted:.0f} s", miss <= MAX_MISS,
    )  # fmt: skip
    heads = ("endpoint", "p95 before, ms", "p95 after, ms")
    outcome.grids.append(Grid("Endpoints whose work repeats", heads, tuple(
        (name, f"{p95['before'][name]:,.0f}", f"{p95['after'][name]:,.0f}") for name in repeating
    )))  # fmt: skip
    outcome.notes.extend(row["text"] for row in advice.values())
