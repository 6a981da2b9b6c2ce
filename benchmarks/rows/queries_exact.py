"""Under load every statement is counted, once, in four workers of four threads.

Eight clients ask for views that send so many statements, through an engine, through a plain connection,
and such that fail; what ``/perf/queries`` says in the end must be what they added up, to the last
statement and row.
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
    found = _added_up(document)
    wanted = {VIEWS[view]: (count, ROWS * count if view != "failing" else 0,
                            count if view == "failing" else 0)
              for view, count in sent.items()}  # fmt: skip
    fine = found == wanted and not errors and not broken
    outcome.judge(
        "queries_exact", f"{sum(sent.values()):,} statements of {CLIENTS * requests:,} requests, "
        "4 workers × 4 threads", "exact", f"{sum(each[0] for each in found.values()):,}, "
        f"{'as' if fine else 'not as'} sent, rows and failures too", fine,
    )  # fmt: skip
    outcome.notes += [*errors[:5], *broken[:5]]
    outcome.details = {"wanted": wanted, "found": found}
    return outcome


def _load(port: int, requests: int) -> tuple[Counter[str], list[str]]:
    """Ask in several threads; return how many statements were sent by view, and what went wrong."""
    sent: Counter[str] = Counter()
    broken: list[str] = []
    turn = threading.Lock()

    def client(seed: int) -> None:
        rng, own = random.Random(seed), Counter[str]()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(requests):
            view, count = rng.choice(list(VIEWS)), rng.randint(1, 12)
            connection.request("GET", f"/{view}/{count}")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                broken.append(f"{view}: {answer.status}")
            own[view] += count
        connection.close()
        with turn:
            sent.update(own)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent, broken


def _added_up(document: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Return statements, rows and failures by endpoint."""
    found: dict[str, tuple[int, int, int]] = {}
    for row in document["queries"]:
        for each in row["asked_by"]:
            count, rows, failed = found.get(each["endpoint"], (0, 0, 0))
            found[each["endpoint"]] = (
                count + each["count"], rows + round((each["rows_mean"] or 0) * each["count"]),
                failed + row["errors"],
            )  # fmt: skip
    return found
