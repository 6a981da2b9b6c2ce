"""The demo mill served by real processes, and its report."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo_app import serve
from demo_app.plants import Plan
from demo_app.settings import Settings

SEEDS = tuple(range(10))


@dataclass
class Asker:
    """Where a mill is served, and its key."""

    address: str
    token: str

    def report(self) -> Any:
        """Return the report of the whole run."""
        host = urlsplit(self.address).netloc
        connection = http.client.HTTPConnection(host, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        connection.request("GET", "/perf/report?window=run", headers=headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"the report said {response.status}")
        return json.loads(data)


@contextmanager
def served(state: Path, settings: Settings, laid: Plan, workers: int) -> Iterator[Asker]:
    """Serve a mill until the block ends, by gunicorn, or without workers by one process of threads."""
    state.mkdir(mode=0o700)
    env = serve.environment(settings, state.name)
    env["KNITPERF_STATE_DIR"] = str(state)
    env.pop("KNITPERF_RELEASE", None)
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(Path.cwd())])
    serving = serve.Serving(gunicorn=workers > 0, workers=workers or 4)
    with serve.server(serving, env, laid.places["health"].url) as address:
        yield Asker(address, env["KNITPERF_ACCESS_TOKEN"])


def verdicts(document: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts of a report by endpoint."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in document["bottlenecks"]:
        found.setdefault(row["endpoint"], []).append(row)
    return found


def named(laid: Plan, endpoint: str) -> str:
    """Return an endpoint with the kind of what is planted there."""
    kinds = [place.kind for place in laid.places.values() if place.endpoint == endpoint]
    return f"{endpoint} ({kinds[0]})" if kinds else endpoint
