"""What an async view does while the thread of its request waits for it.

Flask runs an async view by asgiref: the request's thread blocks in ``AsyncToSync.__call__``, an
event loop in a thread of its own runs the coroutine. From the blocked frame both can be reached:
the coroutine, whose chain of awaits says where it is suspended, and the loop's thread, whose stack
says what it runs. Where asgiref looks otherwise than expected nothing is found, and the sample
shows the waiting thread.
"""

from __future__ import annotations

from types import CoroutineType, FrameType
from typing import Any, NamedTuple

_LONGEST = 100


class Behind(NamedTuple):
    """Frames of a coroutine, the outermost first, the thread that runs it, and whether it runs now."""

    frames: tuple[FrameType, ...]
    thread: int
    running: bool


def behind(frame: FrameType | None, frames: dict[int, FrameType]) -> Behind | None:
    """Return what runs for a thread that waits for a coroutine, ``None`` if it waits for none.

    Args:
        frame: the innermost frame of the waiting thread.
        frames: the innermost frame of each thread.
    """
    for _ in range(_LONGEST):
        if frame is None:
            return None
        code = frame.f_code
        if code.co_name == "__call__" and code.co_filename.endswith("sync.py"):
            break
        frame = frame.f_back
    else:
        return None
    found = frame.f_locals
    chain = _chain(found.get("awaitable"))
    # taken in one step: the executor may begin its thread meanwhile
    threads = list(getattr(found.get("loop_executor"), "_threads", ()))
    thread = threads[0].ident if threads else None
    if not chain or thread is None:
        return None
    if not any(each.cr_running for each in chain):
        return Behind(tuple(_frames(chain)), thread, False)
    inner = _above(frames.get(thread), {id(each.f_code) for each in _frames(chain)})
    return Behind(tuple(inner), thread, True)


def _chain(coroutine: Any) -> list[CoroutineType[Any, Any, Any]]:
    """Return a coroutine and what it awaits, the outermost first."""
    found: list[CoroutineType[Any, Any, Any]] = []
    while isinstance(coroutine, CoroutineType) and len(found) < _LONGEST:
        found.append(coroutine)
        coroutine = coroutine.cr_await
    return found


def _frames(chain: list[CoroutineType[Any, Any, Any]]) -> list[FrameType]:
    found = [each.cr_frame for each in chain]  # each asked once: it may end meanwhile
    return [frame for frame in found if frame is not None]


def _above(frame: FrameType | None, codes: set[int]) -> list[FrameType]:
    """Return the frames of a loop's thread from the coroutine's inwards, the outermost first."""
    inner: list[FrameType] = []
    last = 0
    for _ in range(_LONGEST * 2):
        if frame is None:
            break
        inner.append(frame)
        if id(frame.f_code) in codes:
            last = len(inner)
        frame = frame.f_back
    return inner[:last][::-1]
