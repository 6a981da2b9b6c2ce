"""Stored single requests: bounded on disk and in memory, durable across ``kill -9``, free of secrets.

A request is answered, three seconds later its worker is killed, and another worker has to show the
request; repeatedly. Then real workers serve requests that carry secrets wherever a request can carry
one, on three hundred endpoints, fast and slow, many with parts; the size of the files is measured, and
files and pages are searched. The memory cost is the difference of two such servers, with and without
stored requests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from ..harness.apps import configured
from ..harness.client import page
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

WORKERS = 3
MAX_DISK_MB = WORKERS * 2.3 + 2.0
MAX_MEMORY_MB = 6.0
WRITTEN_S = 3.0
"""Time from an answer to the kill of its worker; ten seconds are allowed."""
SECRETS = {
    place: f"s3cr3t-{place}-7731" for place in (
        "path", "query", "body", "cookie", "header", "user", "password", "agent", "referer",
    )
}  # fmt: skip


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    kills, requests = (2, 600) if quick else (30, 60_000)
    with tempfile.TemporaryDirectory() as folder:
        lost = _killed(Path(folder) / "kill", kills)
        stored, bare = (
            _flooded(Path(folder) / str(details), requests, details=details)
            for details in (True, False)
        )
    outcome.judge(
        "evidence.kill", "a request whose worker is killed with -9 three seconds after its answer "
        "(ten are allowed)", "stored, every one", f"{kills - lost} of {kills}", lost == 0,
    )  # fmt: skip
    disk, leaks = stored["disk_mb"], stored["leaks"]
    outcome.judge(
        "evidence.disk", f"on disk after {requests:,} requests on 300 endpoints, {WORKERS} workers",
        f"≤ {MAX_DISK_MB:.1f} MB", f"{disk:.1f} MB", disk <= MAX_DISK_MB,
    )  # fmt: skip
    added = stored["memory_mb"] - bare["memory_mb"]
    outcome.judge(
        "evidence.memory",
        "memory of a worker that showed such pages, beyond one without stored requests",
        f"≤ {MAX_MEMORY_MB:.0f} MB", f"{added:+.1f} MB", added <= MAX_MEMORY_MB,
    )  # fmt: skip
    outcome.judge(
        "evidence.secrets", f"{len(SECRETS)} planted secrets, searched for in all files and "
        f"{stored['pages']} pages", "none found", ", ".join(leaks) or "none found", not leaks,
    )  # fmt: skip
    outcome.grids.append(Grid("Stored requests", ("what", "value"), tuple(
        (name, str(value)) for name, value in stored.items()
    )))  # fmt: skip
    return outcome


def _send(
    port: int, path: str, *, secret: bool = False, method: str = "GET"
) -> tuple[int, str, bytes]:
    """Send one request; return its status, the process that answered, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Connection": "close"}
    body = None
    if secret:
        headers |= {
            "Cookie": f"session={SECRETS['cookie']}", "X-Token": SECRETS["header"],
            "Authorization": f"Basic {SECRETS['user']}:{SECRETS['password']}",
            "User-Agent": SECRETS["agent"], "Referer": f"http://x/{SECRETS['referer']}",
        }  # fmt: skip
        path = f"{path}?q={SECRETS['query']}"
        body = SECRETS["body"].encode()
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("X-Worker", ""), response.read()
    finally:
        connection.close()


def _page(port: int, path: str, accept: str = "application/json") -> bytes:
    status, body = page(port, path, accept)
    return body if status == 200 else b"{}"


# -- kill -9 -----------------------------------------------------------------------------------------


def _killed(folder: Path, kills: int) -> int:
    """Kill workers after they answered one request each; return the number of lost requests."""
    lost = 0
    options = (f"--workers={WORKERS}", "--worker-class=gthread", "--threads=2")
    with Gunicorn(folder, *options, app="benchmarks.rows.evidence:served()") as server:
        for number in range(kills):
            # a separate endpoint for each trial, so that its request cannot be confused with another
            status, worker, _ = _send(server.port, f"/slow/e{number}")
            assert status == 200
            time.sleep(WRITTEN_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
            time.sleep(1.0)
            document = json.loads(_page(server.port, f"/perf/why?of=e{number}&window=run"))
            latest = document.get("requests", {}).get("latest", [])
            lost += len(latest) != 1
    return lost


# -- a flood -----------------------------------------------------------------------------------------


def _flooded(folder: Path, requests: int, *, details: bool) -> dict[str, Any]:
    """Serve many requests; return sizes of files and workers, and the secrets that leaked."""
    options = (f"--workers={WORKERS}", "--worker-class=gthread", "--threads=4")
    config = {"KNITPERF_REQUEST_DETAILS": details, "KNITPERF_SAMPLER": True}
    with Gunicorn(
        folder, *options, config=config, app="benchmarks.rows.evidence:served()"
    ) as server:
        threads = [
            threading.Thread(target=_send_mix, args=(server.port, requests // 4, seed))
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(5)
        files = [path for path in server.state.rglob("*") if path.is_file()]
        disk = sum(path.stat().st_size for path in files if path.suffix == ".exemplars")
        memory_before = _memory(server)
        pages = _pages(server.port)
        texts = [*pages, *(path.read_bytes() for path in files)]
        leaks = sorted({
            place for place, secret in SECRETS.items() for text in texts if secret.encode() in text
        })  # fmt: skip
        memory = _memory(server)
    return {
        "disk_mb": round(disk / 1024 / 1024, 2), "memory_mb": memory,
        "memory_before_pages_mb": memory_before, "files": len(files), "pages": len(pages),
        "leaks": leaks,
    }  # fmt: skip


def _memory(server: Gunicorn) -> float:
    """Return the unique set size of the largest worker, in MB."""
    sizes = [psutil.Process(pid).memory_full_info().uss for pid in server.workers()]
    return round(max(sizes) / 1024 / 1024, 1)


def _send_mix(port: int, requests: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(requests):
        kind = rng.choice(("fast", "fast", "parts", "parts", "broken", "slow"))
        if kind == "slow" and rng.random() < 0.9:
            kind = "fast"
        path = f"/{kind}/{SECRETS['path']}" if kind == "broken" else f"/{kind}/e{rng.randrange(75)}"
        _send(port, path, secret=True, method="POST")


def _pages(port: int) -> list[bytes]:
    """Return the pages of some endpoints and of some of their requests, as HTML and as JSON."""
    bodies = []
    for endpoint in ("e0", "parts-e1", "fast-e2", "broken", "e5"):
        document = _page(port, f"/perf/why?of={endpoint}&window=run")
        bodies += [document, _page(port, f"/perf/why?of={endpoint}&window=run", "text/html")]
        for row in json.loads(document).get("requests", {}).get("slowest", [])[:3]:
            for accept in ("application/json", "text/html"):
                bodies.append(_page(port, f"/perf/request?id={row['id']}&window=run", accept))
    return bodies


def served() -> Any:
    """Return the application of this benchmark: hundreds of endpoints, fast, slow, with parts."""
    from flask import request

    app = configured("evidence")
    app.logger.disabled = True
    from flask_knitperf import KnitPerf

    perf = KnitPerf(app)

    @app.after_request
    def sign(response: Any) -> Any:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    def fast() -> str:
        return "ok"

    def slow() -> str:
        local = request.args.get("q", "")
        time.sleep(0.03)
        return "ok" + local[:0]

    def parts() -> str:
        for number in range(40):
            with perf.section(f"step {number % 7}"), perf.section("inner"):
                pass
        return "ok"

    for number in range(75):
        for prefix, view in (("fast", fast), ("slow", slow), ("parts", parts), ("more", fast)):
            name = f"e{number}" if prefix == "slow" else f"{prefix}.e{number}".replace(".", "-")
            app.add_url_rule(f"/{prefix}/e{number}", name, view, methods=["GET", "POST"])

    @app.post("/broken/<name>")
    def broken(name: str) -> str:
        raise ValueError(f"{name} {request.args['q']} {request.get_data()!r}")

    return app
