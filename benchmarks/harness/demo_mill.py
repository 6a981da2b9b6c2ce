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
"""Seeds of the mills that are served at full size."""


@dataclass
class ServedMill:
    """Address and access token of a running mill."""

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
            raise RuntimeError(f"the report has status {response.status}")
        return json.loads(data)


@contextmanager
def served(state: Path, settings: Settings, plan: Plan, workers: int) -> Iterator[ServedMill]:
    """Serve a mill until the block ends.

    Args:
        state: its state directory, made here.
        settings: of the demo.
        plan: its endpoints.
        workers: of gunicorn; 0 serves by the threads of one process.
    """
    state.mkdir(mode=0o700)
    env = serve.environment(settings, state.name)
    env["KNITPERF_STATE_DIR"] = str(state)
    env.pop("KNITPERF_RELEASE", None)
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(Path.cwd())])
    serving = serve.Serving(gunicorn=workers > 0, workers=workers or 4)
    with serve.server(serving, env, plan.places["health"].url) as address:
        yield ServedMill(address, env["KNITPERF_ACCESS_TOKEN"])


def verdicts(document: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts of a report by endpoint."""
    by_endpoint: dict[str, list[dict[str, Any]]] = {}
    for row in document["bottlenecks"]:
        by_endpoint.setdefault(row["endpoint"], []).append(row)
    return by_endpoint


def with_kind(plan: Plan, endpoint: str) -> str:
    """Return an endpoint's name followed by its role in the plan, ``stock.notes (leak)``."""
    kinds = [place.kind for place in plan.places.values() if place.endpoint == endpoint]
    return f"{endpoint} ({kinds[0]})" if kinds else endpoint
