"""The client and its own books: what it asked for, what it got in full, what stayed uncertain.

A response counts as committed when the client has all of it. A request whose connection broke is
uncertain: the server may have recorded it or not. So the server's count of each endpoint must lie
between *committed* and *committed + uncertain*; without a kill the two are the same.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from .servers import TOKEN

Key = tuple[str, str, str]
"""endpoint, method, status class"""


class Ask(NamedTuple):
    """One kind of request: how often, what, and how the report calls it."""

    weight: int
    method: str
    path: str
    endpoint: str
    status: str


ASKS = (
    Ask(30, "GET", "/items/{n}", "item", "2xx"),
    Ask(6, "PUT", "/items/{n}", "item", "2xx"),
    Ask(4, "DELETE", "/items/{n}", "item", "2xx"),
    Ask(4, "HEAD", "/items/{n}", "item", "2xx"),
    Ask(2, "OPTIONS", "/items/{n}", "item", "2xx"),
    Ask(10, "POST", "/orders", "order", "2xx"),
    Ask(6, "GET", "/old", "old", "3xx"),
    Ask(6, "GET", "/teapot", "teapot", "4xx"),
    Ask(6, "GET", "/broken", "broken", "5xx"),
    Ask(8, "GET", "/stream", "stream", "2xx"),
    Ask(4, "GET", "/empty", "empty", "2xx"),
    Ask(4, "GET", "/nowhere/{n}", "<unmatched>", "4xx"),
    Ask(2, "POST", "/teapot", "<unmatched>", "4xx"),
    Ask(4, "GET", "/busy", "busy", "2xx"),
    Ask(4, "GET", "/waits", "waits", "2xx"),
)


class Books:
    """What all client threads together saw."""

    def __init__(self) -> None:
        self.committed: Counter[Key] = Counter()
        self.uncertain: Counter[Key] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.asked = 0
        self.releases: dict[str, Counter[Key]] = {}
        self._turn = threading.Lock()

    def enter(self, ask: Ask, status: int | None, release: str = "") -> None:
        """Note one request, the status of its answer (``None`` where it broke), who answered."""
        with self._turn:
            self.asked += 1
            key = (ask.endpoint, ask.method, ask.status)
            if status is None:
                self.uncertain[key] += 1
                return
            got = f"{status // 100}xx"
            if got != ask.status:
                self.unexpected[f"{ask.method} {ask.path}: {status}"] += 1
            self.committed[ask.endpoint, ask.method, got] += 1
            self.releases.setdefault(release, Counter())[ask.endpoint, ask.method, got] += 1


class Load:
    """Threads that ask one port for a random mix of requests.

    Args:
        port: of the server.
        threads: how many ask at once.
        total: how many requests in all.
        seed: of the mix.
        asks: the mix.
        per_second: requests of all threads together, as many as can be with 0.
    """

    def __init__(
        self, port: int, *, threads: int = 8, total: int = 20_000, seed: int = 1,
        asks: tuple[Ask, ...] = ASKS, per_second: float = 0.0,
    ) -> None:  # fmt: skip
        self.books = Books()
        self._port, self._asks = port, asks
        self._left = total
        self._pause = threads / per_second if per_second else 0.0
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + number),))
            for number in range(threads)
        ]

    def start(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def wait(self) -> Books:
        """Wait for the end; return the books."""
        for thread in self._threads:
            thread.join()
        return self.books

    def _take(self) -> bool:
        with self._turn:
            self._left -= 1
            return self._left >= 0

    def _run(self, rng: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        weights = [ask.weight for ask in self._asks]
        due = time.monotonic()
        while self._take():
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))
            ask = rng.choices(self._asks, weights)[0]
            self.books.enter(ask, *self._one(connection, ask, rng.randrange(10_000)))
        connection.close()

    def _one(
        self, connection: http.client.HTTPConnection, ask: Ask, number: int
    ) -> tuple[int | None, str]:
        """Send one request; return its status and the release that answered."""
        body = b"x" * (number % 2000) if ask.method in ("POST", "PUT") else None
        try:
            connection.request(ask.method, ask.path.format(n=number), body)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None, ""
        return response.status, response.headers.get("X-Release", "")


class Answer(NamedTuple):
    """A report, the process that wrote it, and how long it took in seconds."""

    status: int
    worker: str
    document: Any
    seconds: float


def report(port: int, query: str = "window=run", path: str = "/perf/report") -> Answer:
    """Ask for a report on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    try:
        connection.request("GET", f"{path}?{query}", headers={
            "Authorization": f"Bearer {TOKEN}", "Accept": "application/json",
            "Connection": "close",
        })  # fmt: skip
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    took = time.perf_counter() - began
    document = json.loads(data) if response.status == 200 else data.decode("utf-8", "replace")
    return Answer(response.status, response.headers.get("X-Worker", ""), document, took)


def page(port: int, path: str, accept: str = "application/json") -> tuple[int, bytes]:
    """Ask for a page on a connection of its own; waits where there were too many."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept, "Connection": "close"}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 429:
            return answer.status, body
        time.sleep(1)


def every_worker(port: int, workers: int, least: int = 20) -> list[Answer]:
    """Ask until that many workers have answered, and at least so often; slowly enough for the guard.

    Raises:
        TimeoutError: some worker never answered.
    """
    answers: list[Answer] = []
    ends = time.monotonic() + 60
    while len({answer.worker for answer in answers}) < workers or len(answers) < least:
        if time.monotonic() > ends:
            seen = len({answer.worker for answer in answers})
            raise TimeoutError(f"{seen} of {workers} workers answered")
        answer = report(port)
        if answer.status == 429:
            time.sleep(1)
            continue
        answers.append(answer)
        time.sleep(0.03)
    return answers


def counts(document: Any) -> Counter[Key]:
    """Return what a report counts, by endpoint, method and status class."""
    found: Counter[Key] = Counter()
    for row in document["endpoints"]:
        for status, count in row["status"].items():
            if count:
                found[row["endpoint"], row["method"], status] += count
    return found


def impossible(document: Any) -> list[str]:
    """Return every statement of a report that cannot be true."""
    said = []
    for row in document["endpoints"]:
        name = f"{row['endpoint']} {row['method']}"
        ordered = [row[key] for key in ("min_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")
                   if row[key] is not None]  # fmt: skip
        checks = {
            "count is not the sum of statuses": row["count"] == sum(row["status"].values()),
            "negative": all(v >= 0 for v in row.values() if isinstance(v, int | float)),
            "quantiles out of order": ordered == sorted(ordered),
            "mean outside of min and max": row["mean_ms"] is None or not ordered
            or ordered[0] * 0.999 <= row["mean_ms"] <= ordered[-1] * 1.001,
            "success rate": row["success_rate"] is None or 0 <= row["success_rate"] <= 1,
            "shares above one": sum(part["share"] or 0 for part in row["parts"]) <= 1.0001,
        }  # fmt: skip
        said += [f"{name}: {what}" for what, fine in checks.items() if not fine]
    return said
