"""Every query is counted exactly once under load, in four workers of four threads.

Eight clients request views that send a number of queries, through an engine, through a plain connection,
and failing ones; in the end ``/perf/queries`` must report their totals, to the last query and row.
"""

from __future__ import annotations

import http.client
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..harness.client import report
from ..harness.outcome import Outcome
from ..harness.query_app import ROWS
from ..harness.servers import Gunicorn

CLIENTS = 8
VIEWS = {"engine": "by_engine", "plain": "by_connection", "failing": "failing"}


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    requests = 40 if quick else 1500
    options = ("--workers=4", "--worker-class=gthread", "--threads=4")
    with tempfile.TemporaryDirectory() as folder:
        app = "benchmarks.harness.query_app:served()"
        with Gunicorn(Path(folder), *options, app=app) as server:
            sent, broken = _load(server.port, requests)
            time.sleep(0.5)
            document = report(server.port, path="/perf/queries").document
            errors = server.errors()
    counted = _totals(document)
    expected = {VIEWS[view]: (count, ROWS * count if view != "failing" else 0,
                              count if view == "failing" else 0)
                for view, count in sent.items()}  # fmt: skip
    exact = counted == expected and not errors and not broken
    outcome.judge(
        "queries_exact", f"{sum(sent.values()):,} queries of {CLIENTS * requests:,} requests, "
        "4 workers × 4 threads", "exact", f"{sum(totals[0] for totals in counted.values()):,}, "
        f"{'as' if exact else 'not as'} sent, rows and failures too", exact,
    )  # fmt: skip
    outcome.notes += [*errors[:5], *broken[:5]]
    return outcome


def _load(port: int, requests: int) -> tuple[Counter[str], list[str]]:
    """Send requests in several threads; return the number of queries by view, and failures."""
    sent: Counter[str] = Counter()
    broken: list[str] = []
    lock = threading.Lock()

    def client(seed: int) -> None:
        rng, queries = random.Random(seed), Counter[str]()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(requests):
            view, count = rng.choice(list(VIEWS)), rng.randint(1, 12)
            connection.request("GET", f"/{view}/{count}")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                broken.append(f"{view}: {response.status}")
            queries[view] += count
        connection.close()
        with lock:
            sent.update(queries)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent, broken


def _totals(document: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Return the total queries, rows and failures by endpoint."""
    totals: dict[str, tuple[int, int, int]] = {}
    for row in document["queries"]:
        for sender in row["asked_by"]:
            count, rows, failed = totals.get(sender["endpoint"], (0, 0, 0))
            totals[sender["endpoint"]] = (
                count + sender["count"],
                rows + round((sender["rows_mean"] or 0) * sender["count"]),
                failed + row["errors"],
            )
    return totals
