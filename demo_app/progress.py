"""Progress of the demo's command line: a bar on a terminal, a line per tenth in a pipe."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TextIO

_BAR_WIDTH = 16
_REDRAW_S = 0.1
MAX_WIDTH = 80


class Progress:
    """Shows how far one step is, how long it will still take, and what happens now.

    On a terminal one line is redrawn, at most ten times per second; elsewhere each tenth of the
    work is a new line. Any thread may call it.

    Args:
        label: name of the step, at most eight characters.
        stream: where to write; standard output by default.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stdout if stream is None else stream
        self._on_terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._drawn_at = float("-inf")
        self._tenth = 0
        self._lock = threading.Lock()

    def show(self, share: float, now: str) -> None:
        """Draw the step.

        Args:
            share: part of the work that is done, 0 to 1.
            now: what happens now.
        """
        with self._lock:
            if not self._on_terminal:
                if int(share * 10) > self._tenth:
                    self._tenth = int(share * 10)
                    self._write(self._line(share, now, bar=False)[:MAX_WIDTH] + "\n")
            elif time.monotonic() - self._drawn_at >= _REDRAW_S or share >= 1:
                self._drawn_at = time.monotonic()
                columns = min(MAX_WIDTH, shutil.get_terminal_size().columns) - 1
                self._write(f"\r\x1b[K{self._line(share, now, bar=True)[:columns]}")

    def state(self, text: str) -> None:
        """Show a step of unknown length; on a terminal the next output replaces it."""
        line = f"{self._label:<8} {text}"
        self._write(f"\r\x1b[K{line[: MAX_WIDTH - 1]}" if self._on_terminal else f"{line}\n")

    def done(self, text: str) -> None:
        """End the step with a line that stays."""
        start = "\r\x1b[K" if self._on_terminal else ""
        self._write(f"{start}{self._label:<8} {text}\n")

    def _line(self, share: float, now: str, *, bar: bool) -> str:
        filled = int(_BAR_WIDTH * share)
        drawn = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] " if bar else ""
        elapsed = time.monotonic() - self._began
        left = "" if not share else f" {clock(elapsed / share - elapsed)} left"
        return f"{self._label:<8} {drawn}{share:>4.0%}{left}  {now}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def clock(seconds: float) -> str:
    """Minutes and seconds, "3:07"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
