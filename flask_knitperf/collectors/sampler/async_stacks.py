"""Stack of an async view while the thread of its request waits for it.

Flask runs an async view through asgiref: the request's thread blocks in ``AsyncToSync.__call__``, and an
event loop in another thread runs the coroutine. Both can be reached from the blocked frame: the
coroutine, whose chain of awaits shows where it is suspended, and the loop's thread, whose stack shows
what it runs. Where asgiref is structured differently the look-up fails, and the sample shows the
waiting thread.
"""

from __future__ import annotations

from types import CoroutineType, FrameType
from typing import Any, NamedTuple

_MAX_DEPTH = 100
"""Number of frames or awaits that are followed."""


class AsyncStack(NamedTuple):
    """Stack of a coroutine.

    Attributes:
        frames: the outermost first.
        thread: identity of the thread of its event loop.
        running: whether it runs at present; it is suspended otherwise.
    """

    frames: tuple[FrameType, ...]
    thread: int
    running: bool


def async_stack(frame: FrameType | None, frames: dict[int, FrameType]) -> AsyncStack | None:
    """Return the stack of the coroutine that a thread waits for, ``None`` without one.

    Args:
        frame: the innermost frame of the waiting thread.
        frames: the innermost frame of each thread, by identity.
    """
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return None
        code = frame.f_code
        if code.co_name == "__call__" and code.co_filename.endswith("sync.py"):
            break
        frame = frame.f_back
    else:
        return None
    variables = frame.f_locals
    chain = _await_chain(variables.get("awaitable"))
    # copied in one step: the executor may start its thread meanwhile
    threads = list(getattr(variables.get("loop_executor"), "_threads", ()))
    thread = threads[0].ident if threads else None
    if not chain or thread is None:
        return None
    if not any(coroutine.cr_running for coroutine in chain):
        return AsyncStack(tuple(_frames(chain)), thread, False)
    codes = {id(frame.f_code) for frame in _frames(chain)}
    return AsyncStack(tuple(_coroutine_frames(frames.get(thread), codes)), thread, True)


def _await_chain(coroutine: Any) -> list[CoroutineType[Any, Any, Any]]:
    """Return a coroutine and the coroutines that it awaits, the outermost first."""
    chain: list[CoroutineType[Any, Any, Any]] = []
    while isinstance(coroutine, CoroutineType) and len(chain) < _MAX_DEPTH:
        chain.append(coroutine)
        coroutine = coroutine.cr_await
    return chain


def _frames(chain: list[CoroutineType[Any, Any, Any]]) -> list[FrameType]:
    frames = [coroutine.cr_frame for coroutine in chain]  # read once: a coroutine may end meanwhile
    return [frame for frame in frames if frame is not None]


def _coroutine_frames(frame: FrameType | None, codes: set[int]) -> list[FrameType]:
    """Return the frames of a loop's thread from a coroutine inwards, the outermost first.

    Args:
        frame: the innermost frame of the thread.
        codes: ids of the coroutine's code objects.
    """
    frames: list[FrameType] = []
    length = 0
    for _ in range(_MAX_DEPTH * 2):
        if frame is None:
            break
        frames.append(frame)
        if id(frame.f_code) in codes:
            length = len(frames)
        frame = frame.f_back
    return frames[:length][::-1]
