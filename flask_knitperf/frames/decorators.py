"""Decorator that stores the frames a function returns in fewer bytes."""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

import pandas as pd

from ..core import units
from ..core.host_exceptions import raise_if_of_host
from .memory_usage import size_of
from .plan import LevelName, checked_level, smaller_frame

log = logging.getLogger("flask_knitperf")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Saved:
    """Bytes of the frames that a decorated function has returned.

    Attributes:
        frames: number of frames.
        before: bytes as the function built them.
        after: bytes as they were returned.
    """

    frames: int = 0
    before: int = 0
    after: int = 0


DECORATED: weakref.WeakValueDictionary[str, Saved] = weakref.WeakValueDictionary()
"""Savings of the decorated functions of this process, by qualified name."""


@overload
def memory_efficient(level: F) -> F: ...


@overload
def memory_efficient(
    level: LevelName = "safe", keep: Collection[Hashable] = (), float_tolerance: float = 0.0
) -> Callable[[F], F]: ...


def memory_efficient(
    level: Any = "safe", keep: Collection[Hashable] = (), float_tolerance: float = 0.0
) -> Any:
    """Decorate a function so that the frames it returns are stored in fewer bytes.

    Works without parentheses too: ``@memory_efficient``.

    At the level ``safe`` values, sums and products of two columns are unchanged. An error in here is
    logged once, and the original frame is returned. ``function.saved`` holds the bytes saved so far.

    Args:
        level: see :func:`.plan_dataframe`; or the function itself.
        keep: labels of columns to leave unchanged, in frames that have them; a string is one label.
        float_tolerance: largest allowed relative error of a floating-point number.

    Raises:
        FrameError: there is no such level, or the tolerance is not in [0, 1).
    """
    if callable(level):
        return memory_efficient()(level)
    checked_level(level, float_tolerance)
    labels = {keep} if isinstance(keep, str) else set(keep)

    def decorate(function: F) -> F:
        shrink = _Shrink(function, level, labels, float_tolerance)
        DECORATED[f"{getattr(function, '__module__', '')}.{shrink.name}"] = shrink.saved
        decorated: Any = wrap_result(function, shrink)
        decorated.saved = shrink.saved
        return cast(F, decorated)

    return decorate


class _Shrink:
    """Shrinks the frames of one function, and returns all other results unchanged."""

    def __init__(
        self, function: Any, level: LevelName, keep: set[Any], float_tolerance: float
    ) -> None:
        self.name: str = getattr(function, "__qualname__", repr(function))
        self.saved = Saved()
        self._level, self._keep, self._tolerance = level, keep, float_tolerance
        self._failed = False

    def __call__(self, result: Any) -> Any:
        if not isinstance(result, pd.DataFrame):
            return result
        try:
            labels = self._keep.intersection(result.columns)
            smaller = smaller_frame(result, self._level, labels, self._tolerance)
            before, after = _bytes(result), _bytes(smaller)
        except Exception as error:
            raise_if_of_host(error)
            if not self._failed:
                self._failed = True
                log.exception("flask_knitperf: a frame of %s is returned unchanged", self.name)
            return result
        if not self.saved.frames:
            log.info(
                "flask_knitperf: %s returns %s instead of %s",
                self.name, _size(after), _size(before),
            )  # fmt: skip
        self.saved.frames += 1
        self.saved.before += before
        self.saved.after += after
        return smaller


def wrap_result(function: F, transform: Callable[[Any], Any]) -> F:
    """Return a function of the same kind and signature that passes its result through ``transform``."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine_function(*args: Any, **kwargs: Any) -> Any:
            return transform(await function(*args, **kwargs))

        return cast(F, coroutine_function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return transform(function(*args, **kwargs))

    return cast(F, wrapper)


def _size(n_bytes: int) -> str:
    return units.plain(units.size(n_bytes))


def _bytes(frame: pd.DataFrame) -> int:
    return sum(size_of(values).true for _, values in frame.items())
