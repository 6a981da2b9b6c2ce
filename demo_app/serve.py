"""Serving the demo: a real server as a subprocess, traffic against it, the page's address.

Servers are started as separate processes, as a user would, with everything they need in
their environment; stopping is one `terminate`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from demo_app.settings import DemoError, Settings, home
from demo_app.wiring import sign_in_path

HOST = "127.0.0.1"
START_S = 180.0
APP = "demo_app:create_app"


@dataclass(frozen=True)
class Serving:
    """Parameters of a server.

    Attributes:
        gunicorn: gunicorn's sync workers, else waitress's threads.
        workers: processes of gunicorn.
        threads: threads of waitress.
        timeout_s: seconds after which gunicorn kills a silent worker.
        port: 0 takes a free one.
    """

    gunicorn: bool = False
    workers: int = 4
    threads: int = 8
    timeout_s: int = 30
    port: int = 0

    def __str__(self) -> str:
        if self.gunicorn:
            return f"gunicorn with {self.workers} worker{'s' * (self.workers != 1)}"
        return f"waitress with {self.threads} thread{'s' * (self.threads != 1)}"


def environment(settings: Settings, name: str) -> dict[str, str]:
    """The environment of a server and of the commands that talk to it.

    Args:
        settings: the demo's switches, passed on as `DEMO_` variables.
        name: names the folder that the extension keeps its state in.
    """
    parent = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    state = home() / f"state-{name}"
    variables = {
        **os.environ,
        "PYTHONPATH": parent if not path else parent + os.pathsep + path,
        "DEMO_DATA": str(settings.data),
        "DEMO_SEED": str(settings.seed),
        "DEMO_SCALE": repr(settings.scale),
        "DEMO_FIXED": str(int(settings.fixed)),
        "DEMO_BARE": str(int(settings.bare)),
        "DEMO_SLEEP_FACTOR": repr(settings.sleep_factor),
        "DEMO_STUCK_S": repr(settings.stuck_s),
        "DEMO_DATABASE_URL": settings.database_url,
        "DEMO_POOL_SIZE": str(settings.pool_size),
    }
    if not settings.bare:
        if not variables.get("KNITPERF_STATE_DIR"):
            state.mkdir(parents=True, exist_ok=True)
            state.chmod(0o700)
            variables["KNITPERF_STATE_DIR"] = str(state)
        if not variables.get("KNITPERF_ACCESS_TOKEN"):
            variables["KNITPERF_ACCESS_TOKEN"] = secrets.token_urlsafe(32)
    return variables


def free_port(wanted: int = 0) -> int:
    """The wanted port, or any free one.

    Raises:
        DemoError: the wanted port is in use.
    """
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            raise DemoError(f"Port {wanted} is in use; choose another with --port.") from None
        port: int = probe.getsockname()[1]
        return port


def command(serving: Serving, port: int) -> list[str]:
    """The server's command line.

    Raises:
        DemoError: the server is not installed, or cannot run on this system.
    """
    name = "gunicorn" if serving.gunicorn else "waitress"
    if serving.gunicorn and os.name != "posix":
        raise DemoError("gunicorn does not run on this system; leave --gunicorn out.")
    if importlib.util.find_spec(name) is None:
        raise DemoError(f"{name} is not installed: pip install {name}.")
    if serving.gunicorn:
        return [
            sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}",
            "--workers", str(serving.workers), "--timeout", str(serving.timeout_s), f"{APP}()",
        ]  # fmt: skip
    return [
        sys.executable, "-m", "waitress", f"--host={HOST}", f"--port={port}",
        f"--threads={serving.threads}", "--call", APP,
    ]  # fmt: skip


@contextlib.contextmanager
def server(serving: Serving, env: dict[str, str], health: str) -> Iterator[str]:
    """Runs a server until the block ends.

    Args:
        serving: how.
        env: its environment.
        health: path that answers 200 when it is up.

    Yields:
        Its address, "http://127.0.0.1:8000".

    Raises:
        DemoError: it cannot be started; the message ends with its last line of output.
    """
    port = free_port(serving.port)
    line = command(serving, port)
    home().mkdir(parents=True, exist_ok=True)
    log = home() / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(line, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            address = f"http://{HOST}:{port}"
            _await(process, address + health, log)
            yield address
        finally:
            _stop(process)


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            output = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = output[-1] if output else "nothing"
            raise DemoError(
                f"The server did not start. Its last line of output: {last} (all of it: {log})."
            )
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError as error:
            raise DemoError(f"The server answers {url} with status {error.code}.") from error
        except (URLError, OSError):
            time.sleep(0.1)
    raise DemoError(f"The server did not answer {url} within {START_S:.0f} s (see {log}).")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def report_prefix(env: Mapping[str, str]) -> str:
    """Prefix of the report's pages on a server with this environment, "/perf"."""
    return env.get("KNITPERF_URL_PREFIX") or "/perf"


def sign_in_url(env: Mapping[str, str], address: str) -> str:
    """A one-time sign-in address of the report on a server with this environment."""
    return address + sign_in_path(env["KNITPERF_ACCESS_TOKEN"], report_prefix(env))


def wait_for_end() -> None:
    """Blocks until Ctrl-C."""
    while True:
        time.sleep(3600)


def end_on_terminate() -> None:
    """Makes a `terminate` of this process end it in order, so that its server ends as well."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)
