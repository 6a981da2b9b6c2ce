"""Real servers as separate processes: gunicorn on a socket that is already open, others on a free port.

gunicorn's socket is bound here and inherited, so no port is guessed, and none is lost while workers or
whole servers come and go.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from . import machine

TOKEN = "benchmark-token-0123456789"
WAIT_S = 40.0
"""Time within which a server has to start, to answer, and to stop."""


class ServerError(RuntimeError):
    """A server did not start or did not answer."""


class Server:
    """A server with real workers; a context manager.

    Args:
        folder: where its state directory, configuration and log go.
        command: returns its command line, from the folder and the port to listen on.
        config: Flask configuration on top of token and state directory.
        env: environment on top of this process's.
        host: the address to listen on.
    """

    def __init__(
        self, folder: Path, command: Callable[[Path, int], Sequence[str]], *,
        config: dict[str, Any] | None = None, env: dict[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.state = folder, folder / "state"
        self._command, self._host = command, host
        self._config = folder / "config.json"
        self._env = env or {}
        self.log = folder / "server.log"
        self.configure(**(config or {}))
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, **config: Any) -> None:
        """Write the configuration that the next import of the application reads."""
        full = {"KNITPERF_STATE_DIR": str(self.state), "KNITPERF_ACCESS_TOKEN": TOKEN, **config}
        self._config.write_text(json.dumps(full), encoding="utf-8")

    def __enter__(self) -> Self:
        self.process = self._start()
        wait_for(self.port, self.process, self.log)
        return self

    def _start(self) -> subprocess.Popen[bytes]:
        with socket.create_server((self._host, 0)) as free:
            self.port = free.getsockname()[1]
        return self._open(self._command(self.folder, self.port))

    def _open(self, command: Sequence[str], *descriptors: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=machine.ROOT, env=environment(self._config, self._env),
                pass_fds=descriptors, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Apache ends its whole process group
            )  # fmt: skip

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.process is not None:
            stop(self.process)

    @property
    def pid(self) -> int:
        """The process id of the master, or of a server without workers."""
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: int) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def errors(self) -> list[str]:
        """Return the log's lines that mention the extension."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if "flask_knitperf" in line]


class Gunicorn(Server):
    """One gunicorn, on a socket that is already open.

    Args:
        folder: where its state directory, configuration and log go.
        options: gunicorn's command line, e.g. ``"--workers=4"``.
        config: Flask configuration on top of token and state directory.
        app: the application as an import string.
        env: environment on top of this process's.
        host: the address to listen on.
        launcher: the interpreter's arguments that run gunicorn.
    """

    def __init__(
        self, folder: Path, *options: str, config: dict[str, Any] | None = None,
        app: str = "benchmarks.harness.apps:served()", env: dict[str, str] | None = None,
        host: str = "127.0.0.1", launcher: tuple[str, ...] = ("-m", "gunicorn"),
    ) -> None:  # fmt: skip
        def command(_: Path, descriptor: int) -> list[str]:
            return [
                sys.executable, *launcher, f"--bind=fd://{descriptor}", "--log-level=warning",
                "--graceful-timeout=20", "--no-control-socket", *options, app,
            ]  # fmt: skip

        super().__init__(folder, command, config=config, env=env, host=host)

    def _start(self) -> subprocess.Popen[bytes]:
        with socket.create_server((self._host, 0), backlog=512) as listener:
            self.port = listener.getsockname()[1]
            descriptor = listener.fileno()
            return self._open(self._command(self.folder, descriptor), descriptor)


def environment(config: Path, extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of a server process."""
    path = os.pathsep.join([str(machine.ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "BENCH_CONFIG": str(config), **extra}


def wait_for(
    port: int, process: subprocess.Popen[bytes], log: Path, path: str = "/nowhere"
) -> None:
    """Wait until a server answers, with any status.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _answers(port, path):
            return
        time.sleep(0.05)
    stop(process)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
    raise ServerError(f"the server did not answer; its log ends with:\n{tail}")


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            return connection.recv(12).startswith(b"HTTP/1.")
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a server, then kill what is left of it and its workers."""
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_S)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
