"""A load generator with its ledger: requests sent, responses received in full, outcomes uncertain.

A response counts as committed when the client has received all of it. A request whose connection broke
is uncertain: the server may have recorded it or not. So the server's count of each endpoint must lie
between *committed* and *committed + uncertain*; without a kill the two are equal.
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


class RequestKind(NamedTuple):
    """One kind of request in a mix.

    Attributes:
        weight: its share of the mix, relative to the others.
        method: HTTP method.
        path: with ``{n}`` for a random number.
        endpoint: its name in the report.
        status: the expected class, e.g. ``2xx``.
    """

    weight: int
    method: str
    path: str
    endpoint: str
    status: str


MIX = (
    RequestKind(30, "GET", "/items/{n}", "item", "2xx"),
    RequestKind(6, "PUT", "/items/{n}", "item", "2xx"),
    RequestKind(4, "DELETE", "/items/{n}", "item", "2xx"),
    RequestKind(4, "HEAD", "/items/{n}", "item", "2xx"),
    RequestKind(2, "OPTIONS", "/items/{n}", "item", "2xx"),
    RequestKind(10, "POST", "/orders", "order", "2xx"),
    RequestKind(6, "GET", "/old", "old", "3xx"),
    RequestKind(6, "GET", "/teapot", "teapot", "4xx"),
    RequestKind(6, "GET", "/broken", "broken", "5xx"),
    RequestKind(8, "GET", "/stream", "stream", "2xx"),
    RequestKind(4, "GET", "/empty", "empty", "2xx"),
    RequestKind(4, "GET", "/nowhere/{n}", "<unmatched>", "4xx"),
    RequestKind(2, "POST", "/teapot", "<unmatched>", "4xx"),
    RequestKind(4, "GET", "/busy", "busy", "2xx"),
    RequestKind(4, "GET", "/waits", "waits", "2xx"),
)


class Ledger:
    """Counts of all client threads.

    Attributes:
        committed: responses received in full.
        uncertain: requests whose connection broke.
        unexpected: responses of another status class than expected, as text.
        sent: requests in all.
        releases: ``committed`` by the release that the response names.
    """

    def __init__(self) -> None:
        self.committed: Counter[Key] = Counter()
        self.uncertain: Counter[Key] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.sent = 0
        self.releases: dict[str, Counter[Key]] = {}
        self._lock = threading.Lock()

    def enter(self, kind: RequestKind, status: int | None, release: str = "") -> None:
        """Count one request by the status of its response, ``None`` if the connection broke."""
        with self._lock:
            self.sent += 1
            if status is None:
                self.uncertain[kind.endpoint, kind.method, kind.status] += 1
                return
            status_class = f"{status // 100}xx"
            if status_class != kind.status:
                self.unexpected[f"{kind.method} {kind.path}: {status}"] += 1
            key = (kind.endpoint, kind.method, status_class)
            self.committed[key] += 1
            self.releases.setdefault(release, Counter())[key] += 1

    def add(self, more: Ledger) -> None:
        """Add the counts of another ledger."""
        self.committed += more.committed
        self.uncertain += more.uncertain
        self.unexpected += more.unexpected
        self.sent += more.sent


class Load:
    """Threads that send a random mix of requests to one port.

    Args:
        port: of the server.
        threads: concurrent clients.
        total: requests of all threads.
        seed: of the mix.
        mix: kinds of requests.
        per_second: rate of all threads; 0 sends as fast as possible.
        keep_alive: use a connection for several requests, where the server allows it.
    """

    def __init__(
        self, port: int, *, threads: int = 8, total: int = 20_000, seed: int = 1,
        mix: tuple[RequestKind, ...] = MIX, per_second: float = 0.0, keep_alive: bool = True,
    ) -> None:  # fmt: skip
        self.ledger = Ledger()
        self._headers = {} if keep_alive else {"Connection": "close"}
        self._port, self._mix = port, mix
        self._left = total
        self._pause_s = threads / per_second if per_second else 0.0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + number),))
            for number in range(threads)
        ]

    def start(self) -> Load:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def wait(self) -> Ledger:
        """Wait until all requests are sent; return the ledger."""
        for thread in self._threads:
            thread.join()
        return self.ledger

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _run(self, rng: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        weights = [kind.weight for kind in self._mix]
        due = time.monotonic()
        while self._take():
            due += self._pause_s
            time.sleep(max(0.0, due - time.monotonic()))
            kind = rng.choices(self._mix, weights)[0]
            self.ledger.enter(kind, *self._send(connection, kind, rng.randrange(10_000)))
        connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, kind: RequestKind, number: int
    ) -> tuple[int | None, str]:
        """Send one request; return its status and the release that answered."""
        body = b"x" * (number % 2000) if kind.method in ("POST", "PUT") else None
        try:
            connection.request(kind.method, kind.path.format(n=number), body, self._headers)
            response = connection.getresponse()
            response.read()
            if self._headers:
                connection.close()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None, ""
        return response.status, response.headers.get("X-Release", "")


class Answer(NamedTuple):
    """A report, the process that wrote it, and its duration in seconds."""

    status: int
    worker: str
    document: Any
    seconds: float


def report(port: int, query: str = "window=run", path: str = "/perf/report") -> Answer:
    """Request a report on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    start = time.perf_counter()
    try:
        connection.request("GET", f"{path}?{query}", headers={
            "Authorization": f"Bearer {TOKEN}", "Accept": "application/json",
            "Connection": "close",
        })  # fmt: skip
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    seconds = time.perf_counter() - start
    document = json.loads(data) if response.status == 200 else data.decode("utf-8", "replace")
    return Answer(response.status, response.headers.get("X-Worker", ""), document, seconds)


def report_within_limits(port: int, query: str = "window=run", tries: int = 10) -> Answer:
    """Request a report, again after a second if the rate limit refuses it."""
    for _ in range(tries):
        answer = report(port, query)
        if answer.status != 429:
            break
        time.sleep(1)
    return answer


def page(port: int, path: str, accept: str = "application/json") -> tuple[int, bytes]:
    """Request a page on a new connection, again after a second if the rate limit refuses it."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept, "Connection": "close"}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 429:
            return response.status, body
        time.sleep(1)


def every_worker(port: int, workers: int, min_answers: int = 20) -> list[Answer]:
    """Request reports until all workers have answered, slowly enough for the rate limit.

    Raises:
        TimeoutError: a worker did not answer within a minute.
    """
    answers: list[Answer] = []
    deadline = time.monotonic() + 60
    while len({answer.worker for answer in answers}) < workers or len(answers) < min_answers:
        if time.monotonic() > deadline:
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
    """Return the requests that a report counts, by endpoint, method and status class."""
    counter: Counter[Key] = Counter()
    for row in document["endpoints"]:
        for status, count in row["status"].items():
            if count:
                counter[row["endpoint"], row["method"], status] += count
    return counter


def expected_counts(ledger: Ledger) -> Counter[Key]:
    """Return the requests that a report must count: the committed ones, and the wait for the server."""
    expected = Counter(ledger.committed)
    expected[START_REQUEST] += 1
    return expected


START_REQUEST: Key = ("<unmatched>", "GET", "4xx")
"""The request that waits for a server to start; see :func:`.servers.wait_for`."""


def impossible(document: Any) -> list[str]:
    """Return every statement of a report that cannot be true, as sentences."""
    sentences = []
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
        sentences += [f"{name}: {check}" for check, passed in checks.items() if not passed]
    return sentences
