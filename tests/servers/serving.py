"""Starts a server in a separate process group, waits until it answers, and always ends the group."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
TOKEN = "a-long-enough-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
GUNICORN = (sys.executable, "-m", "gunicorn", "tests.servers.mill:create_app()")
WAITRESS = (sys.executable, "-m", "tests.servers.with_waitress")


@dataclass
class Reply:
    """Response of a server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def pid(self) -> int:
        return int(self.headers.get("X-Pid", 0))


@dataclass
class Load:
    """Results of clients: answered requests, and those that ended in a connection error."""

    answered: int = 0
    failed: int = 0
    statuses: set[int] = field(default_factory=set)


class Server:
    """A server that runs while the ``with`` block does.

    Args:
        folder: for its settings, its state and its output.
        command: what to start.
        config: the application's settings.
    """

    def __init__(self, folder: Path, command: tuple[str, ...], **config: Any) -> None:
        self.folder = folder
        self.state = folder / "state"
        self._command = command
        self._config: dict[str, Any] = {
            "KNITPERF_STATE_DIR": str(self.state),
            "KNITPERF_ACCESS_TOKEN": TOKEN,
            "KNITPERF_IGNORE_PATHS": ["/ready"],
            "KNITPERF_FOLD_INTERVAL_S": 0.2,
            **config,
        }
        self._output = folder / "output.txt"
        self.port = 0

    def configure(self, **config: Any) -> None:
        """Write the settings that workers read when they load the application."""
        self._config.update(config)
        (self.folder / "config.json").write_text(json.dumps(self._config))

    def _start(self) -> None:
        environ = {**os.environ, "MILL_CONFIG": str(self.folder / "config.json"),
                   "PYTHONUNBUFFERED": "1"}  # fmt: skip
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=environ, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def run(self) -> int:
        """Let a command that serves nothing run to its end; return its exit code."""
        self._start()
        return self.process.wait(20)

    def __enter__(self) -> Server:
        self.configure()
        self._start()
        try:
            self.port = int(self.until(self._listening, every=0.02))
            self.until(self._ready, every=0.02)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._end()
        if error is not None:
            print(self.output)

    def _end(self) -> None:
        self.stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 5) -> int | None:
        """Ask the server to stop; return its exit code, ``None`` if it did not in time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        return self.process.poll()

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def _listening(self) -> str | None:
        match = re.search(r"(?:Listening at: |Running on )http://127\.0\.0\.1:(\d+)", self.output)
        return match[1] if match else None

    def _ready(self) -> bool:
        return self.answers("/ready") is not None

    def until(self, condition: Callable[[], Any], seconds: float = 10, every: float = 0.1) -> Any:
        """Return the value of a condition as soon as it is true; the pages allow ten a second."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None and self.port == 0:
                break
            time.sleep(every)
        raise AssertionError(
            f"{condition} did not become true; the server's output:\n{self.output}"
        )

    # -- talking to it -----------------------------------------------------------------------------

    def get(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Reply:
        """Send one request over a new connection."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            link.request(method, path, body, {"Connection": "close", **headers})
            answer = link.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            link.close()

    def answers(self, path: str) -> int | None:
        """Return the pid of the answering worker, ``None`` without a valid answer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.get(path)
            return answer.pid if answer.status == 200 else None
        return None

    def drive(self, path: str, requests: int, threads: int = 4) -> Load:
        """Send requests from several threads; a connection that breaks is counted as failed."""
        turns, load, lock = iter(range(requests)), Load(), threading.Lock()

        def send() -> None:
            while True:
                with lock:
                    if next(turns, None) is None:
                        return
                try:
                    status = self.get(path).status
                except (OSError, http.client.HTTPException):
                    with lock:
                        load.failed += 1
                else:
                    with lock:
                        load.answered += 1
                        load.statuses.add(status)

        clients = [threading.Thread(target=send) for _ in range(threads)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return load

    def document(self, path: str = "/perf/report?window=run") -> dict[str, Any]:
        answer = self.get(path, **BEARER)
        assert answer.status == 200, answer.body
        document: dict[str, Any] = json.loads(answer.body)
        return document

    def rows(self, window: str = "run") -> dict[str, dict[str, Any]]:
        document = self.document(f"/perf/report?window={window}")
        return {row["endpoint"]: row for row in document["endpoints"]}

    def workers(self) -> set[int]:
        """Return the pids of the workers that report to be alive."""
        return {row["pid"] for row in self.document()["workers"] if row["alive"]}

    def everyones(
        self, path: str, workers: int, statuses: tuple[int, ...] = (200,), **headers: str
    ) -> dict[int, Reply]:
        """Return the answer of each worker, by pid; answers of other statuses do not count."""
        replies: dict[int, Reply] = {}
        with ThreadPoolExecutor(4) as clients:  # at once, so that no worker can take them all
            for _ in range(100 * workers):
                for answer in clients.map(lambda _: self.get(path, **headers), range(4)):
                    if answer.status in statuses:
                        replies[answer.pid] = answer
                if len(replies) == workers:
                    break
        return replies


def gunicorn(*options: str) -> tuple[str, ...]:
    """Return the command that serves the mill under gunicorn on a free port."""
    from gunicorn.config import Config  # not on Windows

    known = "control_socket_disable" in Config().settings  # by gunicorn 25
    quiet = ("--no-control-socket",) if known else ()
    return (*GUNICORN, "--bind", "127.0.0.1:0", *quiet, *options)
