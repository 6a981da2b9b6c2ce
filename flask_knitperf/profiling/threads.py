"""For how long other threads were on a core, or were ready to be: Linux tells, by their system id.

A thread that is gone gives an error and no crash, which a clock of the C library would not promise.
"""

from __future__ import annotations

import os
import sys
import threading
import time

TELLS_RUNNING = sys.platform == "linux"
"""Whether one thread can read what another used; elsewhere all samples count as running."""
_OPEN = 64


class Clocks:
    """Reads what threads of this process used."""

    def __init__(self) -> None:
        self._natives: dict[int, int] = {}
        self._ready: dict[int, int] = {}  # files by system id, -1 where there is none

    def wanted_ns(self, ident: int) -> int | None:
        """Return nanoseconds on a core or waiting for one, ``None`` where nobody can tell.

        Args:
            ident: the thread's identity, as :func:`threading.get_ident` gives it.
        """
        if sys.platform != "linux":
            return None
        native = self._natives.get(ident) or self._native(ident)
        if not native:
            return None
        try:
            used = time.clock_gettime_ns(
                ~native << 3 | 6
            )  # the clock of a thread, by its system id
        except OSError:  # gone, or another thread has its identity now
            self._natives.pop(ident, None)
            return None
        return used + self._waited(native)

    def _native(self, ident: int) -> int:
        """Return the system's id of a thread, 0 where Python does not know it."""
        self._natives = {
            thread.ident: thread.native_id for thread in threading.enumerate()
            if thread.ident and thread.native_id
        }  # fmt: skip
        main = threading.main_thread().ident  # whose native_id is its parent's, in a forked process
        if main is not None:
            self._natives[main] = os.getpid()
        return self._natives.get(ident, 0)

    def _waited(self, native: int) -> int:
        """Return for how long a thread was ready and had no core."""
        if sys.platform != "linux":
            return 0
        file = self._ready.get(native)
        if file is None:
            if len(self._ready) >= _OPEN:
                self.close()
            try:
                file = os.open(f"/proc/self/task/{native}/schedstat", os.O_RDONLY)
            except OSError:
                file = -1
            self._ready[native] = file
        if file < 0:
            return 0
        try:
            return int(os.pread(file, 100, 0).split()[1])
        except (OSError, IndexError, ValueError):
            self._ready.pop(native, None)
            os.close(file)
            return 0

    def close(self) -> None:
        """Close what was opened."""
        opened, self._ready = self._ready, {}
        for file in opened.values():
            if file >= 0:
                os.close(file)

    def __del__(self) -> None:
        self.close()
