"""Single requests that are kept whole: bounded, there after a ``kill -9``, and without anything secret.

A request is answered, three seconds later its worker is killed, and another worker is asked for the
request, again and again. Then real workers serve requests that carry secrets wherever a request can
carry one, on three hundred endpoints, fast and slow, many with parts; the files are weighed and
searched, and so are the pages. What keeping costs in memory is the difference of two such servers.
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

from ..harness.client import page
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

WORKERS = 3
MOST_DISK_MB = WORKERS * 2.3 + 2.0
MOST_MEMORY_MB = 6.0
WRITTEN_S = 3.0
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
        lost, asked = _killed(Path(folder) / "kill", kills)
        sizes = {
            kept: _flooded(Path(folder) / str(kept), requests, kept=kept) for kept in (True, False)
        }
    outcome.judge(
        "evidence.kill", "a request whose worker is killed with -9 three seconds after its answer "
        "(ten are allowed)", "kept, every one", f"{asked - lost} of {asked}", lost == 0,
    )  # fmt: skip
    disk, leaks = sizes[True]["disk_mb"], sizes[True]["leaks"]
    outcome.judge(
        "evidence.disk", f"on disk after {requests:,} requests on 300 endpoints, {WORKERS} workers",
        f"≤ {MOST_DISK_MB:.1f} MB", f"{disk:.1f} MB", disk <= MOST_DISK_MB,
    )  # fmt: skip
    more = sizes[True]["memory_mb"] - sizes[False]["memory_mb"]
    outcome.judge(
        "evidence.memory", "memory of a worker that showed such pages, more than without keeping them",
        f"≤ {MOST_MEMORY_MB:.0f} MB", f"{more:+.1f} MB", more <= MOST_MEMORY_MB,
    )  # fmt: skip
    outcome.judge(
        "evidence.secrets", f"{len(SECRETS)} planted secrets, searched for in all files and "
        f"{sizes[True]['pages']} pages", "none found", ", ".join(leaks) or "none found", not leaks,
    )  # fmt: skip
    outcome.grids.append(Grid("What is kept", ("what", "value"), tuple(
        (name, str(value)) for name, value in sizes[True].items()
    )))  # fmt: skip
    outcome.details = {"with": sizes[True], "without": sizes[False]}
    return outcome


def _ask(
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
        answer = connection.getresponse()
        return answer.status, answer.headers.get("X-Worker", ""), answer.read()
    finally:
        connection.close()


def _page(port: int, path: str, accept: str = "application/json") -> bytes:
    status, body = page(port, path, accept)
    return body if status == 200 else b"{}"


# -- kill -9 -----------------------------------------------------------------------------------------


def _killed(folder: Path, kills: int) -> tuple[int, int]:
    """Kill a worker again and again; return how many requests were lost, of how many."""
    lost = 0
    options = (f"--workers={WORKERS}", "--worker-class=gthread", "--threads=2")
    with Gunicorn(folder, *options, app="benchmarks.rows.evidence:served()") as server:
        for number in range(kills):
            # each trial has an endpoint of its own, so that nothing else can be taken for its request
            status, worker, _ = _ask(server.port, f"/slow/e{number}")
            assert status == 200
            time.sleep(WRITTEN_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
            time.sleep(1.0)
            document = json.loads(_page(server.port, f"/perf/why?of=e{number}&window=run"))
            latest = document.get("requests", {}).get("latest", [])
            lost += len(latest) != 1
    return lost, kills


# -- a flood -----------------------------------------------------------------------------------------


def _flooded(folder: Path, requests: int, *, kept: bool) -> dict[str, Any]:
    """Serve many requests; return what lies there and how large a worker is."""
    options = (f"--workers={WORKERS}", "--worker-class=gthread", "--threads=4")
    config = {"KNITPERF_REQUEST_DETAILS": kept, "KNITPERF_SAMPLER": True}
    with Gunicorn(
        folder, *options, config=config, app="benchmarks.rows.evidence:served()"
    ) as server:
        threads = [
            threading.Thread(target=_some, args=(server.port, requests // 4, seed))
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(5)
        files = [path for path in server.state.rglob("*") if path.is_file()]
        disk = sum(path.stat().st_size for path in files if path.suffix == ".exemplars")
        served = _memory(server)
        pages = _pages(server.port)
        found = [*pages, *(path.read_bytes() for path in files)]
        leaks = sorted({
            place for place, secret in SECRETS.items() for text in found if secret.encode() in text
        })  # fmt: skip
        memory = _memory(server)
    return {
        "disk_mb": round(disk / 1024 / 1024, 2), "memory_mb": memory, "memory_before_pages_mb": served,
        "files": len(files), "pages": len(pages), "leaks": leaks,
    }  # fmt: skip


def _memory(server: Gunicorn) -> float:
    """Return the memory of its own that the largest worker has, in MB."""
    sizes = [psutil.Process(pid).memory_full_info().uss for pid in server.workers()]
    return round(max(sizes) / 1024 / 1024, 1)


def _some(port: int, requests: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(requests):
        kind = rng.choice(("fast", "fast", "parts", "parts", "broken", "slow"))
        if kind == "slow" and rng.random() < 0.9:
            kind = "fast"
        path = f"/{kind}/{SECRETS['path']}" if kind == "broken" else f"/{kind}/e{rng.randrange(75)}"
        _ask(port, path, secret=True, method="POST")


def _pages(port: int) -> list[bytes]:
    """Return the pages of some endpoints and of some of their requests, for people and as JSON."""
    found = []
    for endpoint in ("e0", "parts-e1", "fast-e2", "broken", "e5"):
        document = _page(port, f"/perf/why?of={endpoint}&window=run")
        found += [document, _page(port, f"/perf/why?of={endpoint}&window=run", "text/html")]
        for row in json.loads(document).get("requests", {}).get("slowest", [])[:3]:
            for accept in ("application/json", "text/html"):
                found.append(_page(port, f"/perf/request?id={row['id']}&window=run", accept))
    return found


def served() -> Any:
    """Return the application of this benchmark: hundreds of endpoints, fast, slow, with parts."""
    from flask import Flask, request

    app = Flask("evidence")
    with open(os.environ["BENCH_CONFIG"], encoding="utf-8") as file:
        app.config.update(json.load(file))
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
