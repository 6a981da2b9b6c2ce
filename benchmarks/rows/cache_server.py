"""Several hosts share a server that is killed, frozen, flushed, filled and restarted under load.

Two gunicorns with a state directory each are the hosts, behind one Valkey. A client increments numbers
on one host or the other, which invalidates their tag; others read the cached numbers on both hosts all
the time. A read is stale if its number is behind one whose write was answered before the read began; its
age is the time since that answer. The budget (`KNITPERF_CACHE_STALE_SECONDS`) is 4 seconds, the timeout
50 ms.

In each scene something happens to the server in the middle: nothing; killed and started again after
some seconds; frozen and continued; flushed; filled, so that it refuses writes; killed and started again
with a backup from before the latest invalidations; its values replaced by foreign bytes, among them
pickles that create a folder when they are loaded. Waiting is the time of a request beyond loading.
"""

from __future__ import annotations

import http.client
import json
import os
import pickle
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..harness.hosts_keys import KEYS, SIZE
from ..harness.outcome import Outcome
from ..harness.servers import Gunicorn
from ..harness.valkey import Valkey

STALE_S, TIMEOUT_S = 4.0, 0.05
MAX_WAIT_S = 0.25
HEALTHY_AGE_S = 1.2
READERS, WORKERS = 6, 2
DOWN_S = 8.0
SECRET = "benchmark-secret-0123456789"


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seconds, down = (4.0, 5.5) if quick else (20.0, DOWN_S)
    scenes: dict[str, Callable[[Valkey, Path], None]] = {
        "healthy": lambda *_: None, "killed": lambda valkey, _: _killed(valkey, down),
        "frozen": lambda valkey, _: _frozen(valkey, down),
        "flushed": lambda valkey, _: _flushed(valkey), "filled": lambda valkey, _: _filled(valkey, down),
        "restored": lambda valkey, _: _restored(valkey), "tampered": _tampered,
    }  # fmt: skip
    totals: list[Scene] = []
    with _hosts() as (hosts, valkey, folder):
        _warm(hosts)
        for name, event in scenes.items():
            scene = _play(hosts, seconds, lambda event=event: event(valkey, folder))
            scene.back = _is_back(hosts)
            totals.append(scene)
            _judge_scene(outcome, name, scene)
        bombs = list(folder.glob("bomb*"))
        rejected = sum(_counts(port)["rejected"] for port in hosts for _ in range(8))
    outcome.judge("cache_server.tampered.decoded", "foreign values that were unpickled", "0",
                  str(len(bombs)), not bombs)  # fmt: skip
    outcome.judge("cache_server.tampered.rejected", "foreign values are counted as such", "> 0",
                  "yes" if rejected else "0", rejected > 0)  # fmt: skip
    failures = [failure for scene in totals for failure in scene.failures]
    outcome.notes += [f"Failed: {failure}" for failure in failures[:5]]
    requests = sum(scene.reads + scene.writes for scene in totals)
    outcome.judge("cache_server.failed", f"failed requests, of {requests:,} in all scenes", "0",
                  str(len(failures)), not failures)  # fmt: skip
    return outcome


# -- scenes ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scene:
    """Everything that clients saw of one scene, thread-safe by its lock.

    Attributes:
        written: for each key, numbers with the time at which their write was answered.
        ages: ages of stale reads, in seconds.
        own_ages: those of reads on the host that wrote.
        waits: seconds that requests took beyond loading.
        reads: number of reads.
        writes: number of writes.
        failures: requests without an answer, or with another status than 200.
        back: seconds until all workers used the server again.
    """

    written: dict[int, list[tuple[int, float, int]]] = field(
        default_factory=lambda: {key: [] for key in range(KEYS)}
    )
    ages: list[float] = field(default_factory=list)
    own_ages: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    reads: int = 0
    writes: int = 0
    failures: list[str] = field(default_factory=list)
    back: float = 0.0
    lock: Any = field(default_factory=threading.Lock)

    def add_read(self, key: int, host: int, began: float, answer: dict[str, Any]) -> None:
        """Judge a read."""
        with self.lock:
            self.reads += 1
            self.waits.append(answer["waited"])
            for number, answered, writer in self.written[key]:
                if number > answer["number"] and answered < began:
                    ages = self.own_ages if writer == host else self.ages
                    ages.append(began - answered)
                    break

    def add_write(self, key: int, host: int, answer: dict[str, Any]) -> None:
        """Note a write that was answered now."""
        with self.lock:
            self.writes += 1
            self.waits.append(answer["waited"])
            self.written[key].append((answer["number"], time.monotonic(), host))


def _play(hosts: list[int], seconds: float, event: Callable[[], None]) -> Scene:
    """Run clients for some seconds before an event and after it."""
    scene, ends = Scene(), threading.Event()
    threads = [
        threading.Thread(target=_write, args=(hosts, scene, ends)),
        *(threading.Thread(target=_read, args=(hosts, number, scene, ends))
          for number in range(READERS)),
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    event()
    time.sleep(seconds / 2)
    ends.set()
    for thread in threads:
        thread.join()
    return scene


def _write(hosts: list[int], scene: Scene, ends: threading.Event) -> None:
    drawn, clients = random.Random(1), [Client(port) for port in hosts]
    while not ends.is_set():
        host, key = drawn.randrange(len(hosts)), drawn.randrange(KEYS)
        answer = clients[host].send("POST", f"/write/{key}")
        if answer is None:
            scene.failures.append(clients[host].failure)
        else:
            scene.add_write(key, host, answer)
        time.sleep(0.05)


def _read(hosts: list[int], number: int, scene: Scene, ends: threading.Event) -> None:
    drawn, host = random.Random(number), number % len(hosts)
    client = Client(hosts[host])
    while not ends.is_set():
        key, began = drawn.randrange(KEYS), time.monotonic()
        answer = client.send("GET", f"/read/{key}")
        if answer is None:
            scene.failures.append(client.failure)
        else:
            scene.add_read(key, host, began, answer)
        time.sleep(0.002)


def _killed(valkey: Valkey, down: float) -> None:
    valkey.kill()
    time.sleep(down)
    valkey.start()


def _frozen(valkey: Valkey, down: float) -> None:
    valkey.freeze()
    time.sleep(down)
    valkey.thaw()


def _flushed(valkey: Valkey) -> None:
    for _ in range(5):
        valkey.client.flushall()
        time.sleep(0.2)


def _filled(valkey: Valkey, down: float) -> None:
    valkey.client.config_set("maxmemory", 1)
    time.sleep(down)
    valkey.client.config_set("maxmemory", 0)


def _restored(valkey: Valkey) -> None:
    valkey.client.save()
    time.sleep(1.0)  # invalidations that the backup lacks
    valkey.kill()
    valkey.start()


class _Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _tampered(valkey: Valkey, folder: Path) -> None:
    drawn, client = random.Random(1), valkey.client
    for turn in range(200):
        for name in client.scan_iter("*:value:*", count=1000):
            value = client.get(name)
            if not value or name.endswith(b":lease"):
                continue
            bomb = pickle.dumps(_Bomb(folder / f"bomb{turn}"))
            changed = bytearray(value)
            changed[drawn.randrange(len(changed))] ^= 1
            client.set(name, drawn.choice([
                b"knit", bomb, value[:32] + bomb, bytes(changed), value[: len(value) // 2],
            ]), keepttl=True)  # fmt: skip
        time.sleep(0.01)


# -- hosts -------------------------------------------------------------------------------------------


@contextmanager
def _hosts() -> Iterator[tuple[list[int], Valkey, Path]]:
    """Run two hosts and their server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "numbers").write_bytes(bytes(SIZE))
        (folder / "valkey").mkdir()
        with Valkey(folder / "valkey") as valkey:
            config = {
                "SECRET_KEY": SECRET, "KNITPERF_CACHE_URL": valkey.url, "KNITPERF_HISTORY": False,
                "KNITPERF_CACHE_STALE_SECONDS": STALE_S, "KNITPERF_CACHE_TIMEOUT_MS": TIMEOUT_S * 1000,
                "KNITPERF_CACHE_PER_HOST": ["BENCH_CONFIG"],
            }  # fmt: skip
            started = [
                Gunicorn(
                    folder / host, f"--workers={WORKERS}", "--threads=4", config=config,
                    env={"NUMBERS": str(folder / "numbers")},
                    app="benchmarks.harness.hosts_mill:served()",
                )
                for host in ("one", "other")
            ]  # fmt: skip
            with started[0], started[1]:
                yield [server.port for server in started], valkey, folder


def _warm(hosts: list[int]) -> None:
    """Have every worker load a value, and so read the code of the application."""
    for port in hosts:
        workers: set[int] = set()
        for _ in range(200):
            answers = [(Client(port).send("GET", "/read/0") or {}).get("pid", 0) for _ in range(4)]
            workers.update(answers)
            if len(workers) >= WORKERS:
                break


class Client:
    """A connection to one host that is opened again when a worker closes it.

    Attributes:
        failure: why the latest request had no answer.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.failure = ""

    def send(self, method: str, path: str) -> dict[str, Any] | None:
        """Return the answer, ``None`` if there is none."""
        for _ in range(2):
            try:
                self._connection.request(method, path)
                response = self._connection.getresponse()
                body = response.read()
                if response.status == 200:
                    return dict(json.loads(body))
                self.failure = f"{path}: status {response.status}"
                return None
            except http.client.RemoteDisconnected:
                self._connection.close()  # it was idle for too long
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._connection.close()
                self.failure = f"{path}: {error!r}"
                return None
        self.failure = f"{path}: closed without an answer"
        return None


def _counts(port: int) -> dict[str, Any]:
    return Client(port).send("GET", "/counts") or {}


def _is_back(hosts: list[int]) -> float:
    """Return the seconds until all workers that answer use the server, infinite after a minute."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        if all(_counts(port).get("lost", "?") is None for port in hosts for _ in range(8)):
            return time.monotonic() - began
        time.sleep(0.2)
    return float("inf")


def _judge_scene(outcome: Outcome, name: str, scene: Scene) -> None:
    budget = HEALTHY_AGE_S if name == "healthy" else STALE_S
    age, own = max(scene.ages, default=0.0), max(scene.own_ages, default=0.0)
    wait = max(scene.waits, default=0.0)
    outcome.judge(f"cache_server.{name}.stale",
                  f"age of the oldest stale answer, {scene.reads:,} reads, {scene.writes:,} writes, "
                  f"server {name}", f"≤ {budget:g} s", f"{age:.2f} s", age <= budget)  # fmt: skip
    stale = f"{len(scene.own_ages)}" + (f", up to {own:.2f} s" if own else "")
    outcome.judge(f"cache_server.{name}.own", "stale answers of the host that wrote", "0", stale,
                  not scene.own_ages)  # fmt: skip
    outcome.judge(f"cache_server.{name}.wait", "longest wait of a request beyond loading",
                  f"≤ {MAX_WAIT_S:g} s", f"{wait:.3f} s", wait <= MAX_WAIT_S)  # fmt: skip
    outcome.judge(f"cache_server.{name}.back", "until all workers use the server again", "≤ 15 s",
                  f"{scene.back:.1f} s", scene.back <= 15)  # fmt: skip
