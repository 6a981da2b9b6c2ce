"""Traffic: a bounded, repeatable mix of requests, and what its senders saw.

The list of requests is a pure function of plan, length and seed; every prefix of it has the
mix's proportions, so a run cut short by `--seconds` is a smaller run of the same kind. What
would be chance in an endpoint is decided by the request's own number `?n=`.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from demo_app.plants import FIRST_ROLL, FIRST_YARN, Place, Plan
from demo_app.roles import ROLES
from demo_app.settings import DemoError

PATIENCE_S = 90.0
FULL = sum(role.weight for role in ROLES)
_HEADERS = {"Accept-Encoding": "gzip", "User-Agent": "demo-traffic"}


@dataclass(frozen=True)
class Request:
    """One request of the list.

    Attributes:
        kind: the role it is meant for.
        endpoint: its Flask endpoint.
        method: HTTP method.
        path: path and query.
        body: JSON text or text to send, "" for none.
        content_type: of the body.
    """

    kind: str
    endpoint: str
    method: str
    path: str
    body: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class Answer:
    """Response to one request.

    Attributes:
        request: the request.
        status: HTTP status, 0 when the connection was lost.
        seconds: from sending to the last byte, as the client saw it.
        digest: sha256 of the decoded body, hex.
    """

    request: Request
    status: int
    seconds: float
    digest: str


OnAnswer = Callable[[int, Answer], None]
"""Callback: the number of responses so far, and the last one."""


def requests(
    plan: Plan,
    n: int,
    seed: int = 0,
    *,
    least: int = 0,
    stuck: bool = False,
    only: Sequence[str] = (),
) -> list[Request]:
    """The list of `n` requests of one plan and seed.

    Args:
        plan: where everything is served.
        n: how many.
        seed: moves their order and their parameters.
        least: approximate minimum number of requests per endpoint of the mix.
        stuck: adds one request of the report that outlives the server's timeout.
        only: roles to keep to; all of the mix when empty.

    Raises:
        DemoError: `only` names a role that there is not.
    """
    rng = random.Random(f"traffic {seed}")
    weights = _weights(least * FULL / n if n else 0.0, only)
    whole = sum(weights.values())
    due = {kind: rng.random() for kind in weights}
    sent = dict.fromkeys(weights, 0)
    schedule = []
    for _ in range(n):
        for kind, weight in weights.items():
            due[kind] += weight / whole
        kind = max(due, key=due.__getitem__)
        due[kind] -= 1
        schedule.append(_request(plan.places[kind], sent[kind], rng))
        sent[kind] += 1
    if stuck:
        schedule.insert(len(schedule) // 4, _request(plan.places["stuck"], 0, rng))
    return schedule


def _weights(least: float, only: Sequence[str]) -> dict[str, float]:
    """Role → weight in the mix, none below `least`."""
    mix = {role.kind: max(role.weight, least) for role in ROLES if role.weight}
    for kind in only:
        if kind not in mix:
            raise DemoError(f"{kind!r} is not a role of the mix; the roles are {', '.join(mix)}.")
    return {kind: weight for kind, weight in mix.items() if not only or kind in only}


def _request(place: Place, number: int, rng: random.Random) -> Request:
    """The endpoint's `number`th request."""
    path = place.rule.partition("<")[0]
    drawn = rng.randrange(1_000_000)
    tails: dict[str, str] = {
        "slow_sql": f"C{drawn % 50:03d}",
        "redirect": f"stock/{drawn % 40}",
        "stock": f"{FIRST_YARN + 3 * (drawn % 40)}",
        "roll": f"{FIRST_ROLL + drawn % 60 if number % 5 else 1}",
        "cancel": f"W{drawn:08d}",
        "key_mismatch": f"?scope={drawn % 8}",
        "per_user": f"?user={1 + drawn % 5}",
        "search": f"?q={10 + drawn % 90}",
        "weekly": f"?week={1 + drawn % 12}",
    }
    if place.kind in ("flaky", "jitter", "leak", "tracking"):
        tails[place.kind] = f"?n={number}"
    path += tails.get(place.kind, "")
    body, content_type = "", ""
    if place.kind == "create":
        order = {"order": f"W{drawn:08d}", "style": f"{10_000 + drawn % 90_000}/1A", "pounds": 12.5}
        body, content_type = json.dumps(order), "application/json"
    elif place.kind == "leak":
        body, content_type = f"shift note {drawn}", "text/plain"
    return Request(place.kind, place.endpoint, place.method, path, body, content_type)


def drive(
    url: str,
    listed: Sequence[Request],
    clients: int = 4,
    seconds: float = 0.0,
    progress: OnAnswer | None = None,
    pause_s: float = 0.0,
) -> list[Answer]:
    """Sends the list through `clients` threads, each with a connection it keeps.

    Args:
        url: the server, "http://127.0.0.1:8000".
        listed: the requests, taken in order.
        clients: threads.
        seconds: stop sending after so long; 0 sends all.
        progress: called after each response, from any thread.
        pause_s: seconds that each thread pauses after a response.

    Returns:
        The answers in the order of the list; requests not sent are left out.

    Raises:
        DemoError: nothing answers at the address.
    """
    host, port = _knock(url)
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(listed))
    lock = threading.Lock()
    end = time.monotonic() + seconds if seconds else float("inf")

    def drain() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        for number, request in _taken(waiting, lock, end):
            answer = send(connection, request)
            with lock:
                answers[number] = answer
                if progress is not None:
                    progress(len(answers), answer)
            if pause_s:
                time.sleep(pause_s)
        connection.close()

    threads = [threading.Thread(target=drain, daemon=True) for _ in range(max(1, clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in sorted(answers)]


def _knock(url: str) -> tuple[str, int]:
    """Host and port of an address at which something answers."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise DemoError(f"{url} is not an address; give one like http://127.0.0.1:8000.")
    host, port = parts.hostname, parts.port or 80
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.connect()
    except OSError as error:
        raise DemoError(f"Nothing answers at http://{host}:{port} ({error}).") from error
    finally:
        connection.close()
    return host, port


def _taken(
    waiting: Iterator[tuple[int, Request]], lock: threading.Lock, end: float
) -> Iterator[tuple[int, Request]]:
    """The next request for one client, until the list or the time is over."""
    while time.monotonic() < end:
        with lock:
            pair = next(waiting, None)
        if pair is None:
            return
        yield pair


def send(connection: http.client.HTTPConnection, request: Request) -> Answer:
    """Sends one request; a connection that the server has closed meanwhile is opened again."""
    headers = dict(_HEADERS)
    if request.content_type:
        headers["Content-Type"] = request.content_type
    body = request.body.encode() if request.body else None
    began = time.perf_counter()
    for again in (connection.sock is not None, False):
        try:
            connection.request(request.method, request.path, body, headers)
            response = connection.getresponse()
            data = response.read()
        except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError):
            connection.close()
            if not again:
                break
        except (OSError, http.client.HTTPException):
            connection.close()
            break
        else:
            took = time.perf_counter() - began
            if response.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            return Answer(request, response.status, took, hashlib.sha256(data).hexdigest())
    return Answer(request, 0, time.perf_counter() - began, "")


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile, 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def table(answers: Sequence[Answer]) -> str:
    """Status counts and latency per endpoint, at most 80 columns wide."""
    rows = ["endpoint                          n  2xx  3xx  4xx  5xx lost   p50 ms   p95 ms"]
    grouped: dict[str, list[Answer]] = {}
    for answer in answers:
        grouped.setdefault(answer.request.endpoint, []).append(answer)
    slowest = sorted(grouped.items(), key=lambda item: -sum(a.seconds for a in item[1]))
    for endpoint, mine in slowest:
        times = [answer.seconds * 1000 for answer in mine]
        counts = [sum(a.status // 100 == hundred for a in mine) for hundred in (2, 3, 4, 5, 0)]
        rows.append(
            f"{endpoint[:30]:<30}{len(mine):>5}"
            + "".join(f"{count or '.':>5}" for count in counts)
            + f"{quantile(times, 0.5):>9.1f}{quantile(times, 0.95):>9.1f}"
        )
    return "\n".join(rows)
