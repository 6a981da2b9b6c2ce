"""One trap, one child process, one verdict."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from .contract import Poisoned, Refused, Trap, Wrong

_POLL_S = 0.05
_MAX_TEXT = 300


def run(trap: Trap, cached_factory: Callable[..., Any], timeout: float | None = None) -> str:
    """Run a trap in a forked child; return its verdict.

    ``cached_factory`` is the ``cached`` that the trap is called with. The verdict is ``right``,
    ``wrong: ...``, ``poisoned: ...``, ``hanging`` or ``refused: ...`` (an option or an argument
    raises ``TypeError``). The default of the timeout is what the trap declares. Import pandas before
    the first run, or each child does it again.
    """
    if not hasattr(os, "fork"):
        raise NotImplementedError("traps run in forked children: POSIX only")
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the caller
        child = os.fork()
    if child == 0:
        os.close(read_end)
        _be_child(trap, cached_factory, write_end)
    os.close(write_end)
    try:
        return _read_verdict(read_end, child, trap.seconds if timeout is None else timeout)
    finally:
        os.close(read_end)


def _read_verdict(descriptor: int, child: int, timeout: float) -> str:
    deadline = time.monotonic() + timeout
    data = b""
    status: int | None = None
    try:
        while b"\n" not in data:
            if time.monotonic() > deadline:
                return "hanging"
            # a grandchild may hold the pipe open, so its end alone does not show that the child died
            if select.select([descriptor], [], [], _POLL_S)[0]:
                part = os.read(descriptor, 65536)
                if part:
                    data += part
                    continue
            if status is None:
                ended, status_now = os.waitpid(child, os.WNOHANG)
                status = status_now if ended else None
                continue
            code = os.waitstatus_to_exitcode(status)
            return f"wrong: the process ended with {code}"
        return data.decode(errors="replace").partition("\n")[0]
    finally:
        try:
            os.killpg(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            if status is None:  # before setsid in the child
                os.kill(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)


def _be_child(trap: Trap, cached_factory: Callable[..., Any], descriptor: int) -> NoReturn:
    verdict = "wrong: no verdict"
    parent = -1
    try:
        os.setsid()
        parent = os.getpid()
        _silence()
        verdict = _verdict(trap, cached_factory)
    except BaseException as error:
        verdict = f"wrong: {type(error).__name__} in the runner: {error}"
    finally:
        # a grandchild that escapes from its trap must not speak for it
        if os.getpid() == parent:
            line = " ".join(verdict.split())[:_MAX_TEXT]
            os.write(descriptor, line.encode(errors="replace") + b"\n")
        os._exit(0)


def _silence() -> None:
    """Send output nowhere: errors in threads and tasks are part of traps."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    threading.excepthook = lambda _args: None


def _verdict(trap: Trap, cached_factory: Callable[..., Any]) -> str:
    def cached(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        try:
            return cached_factory(function, **options)
        except TypeError as error:
            raise Refused(f"{error}") from error

    if hasattr(cached_factory, "advance"):
        cached.advance = cached_factory.advance  # type: ignore[attr-defined]
    try:
        trap(cached)
    except Poisoned as error:
        return f"poisoned: {error}"
    except Wrong as error:
        return f"wrong: {error}"
    except (Refused, TypeError) as error:
        return f"refused: {error}"
    except BaseException as error:
        return f"wrong: raised {type(error).__name__}: {error}"
    return "right"
