"""Frames that functions return: stored tightly, or kept from being too large.

What takes rows away is asked for by its name, and gives back what it took.
"""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
import weakref
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import pandas as pd

from ..core.units import amount
from .memory_usage import size_of
from .plan import FrameError, LevelName, checked_level, optimize_dataframe

log = logging.getLogger("flask_knitperf")
F = TypeVar("F", bound=Callable[..., Any])
OnExceed = Literal["raise", "warn", "truncate"]


class FrameTooLargeError(FrameError):
    """A function returned a frame with more rows than it may."""


class FrameSizeWarning(UserWarning):
    """A frame has more rows than it should, or had them and was cut."""


@dataclass
class Saved:
    """What a decorated function's frames would have taken, and what they take.

    Attributes:
        frames: that were returned.
        before: bytes of them, as the function made them.
        after: bytes of them, as they were returned.
    """

    frames: int = 0
    before: int = 0
    after: int = 0


DECORATED: weakref.WeakValueDictionary[str, Saved] = weakref.WeakValueDictionary()
"""What decorated functions have saved in this process, by their names."""


def drop_duplicate_rows(
    frame: pd.DataFrame, subset: Sequence[Hashable] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a frame without rows that are there before, and the rows that were taken out.

    Equal rows are not always one too many: two lines of an order may be equal. So nothing else in this
    package calls this.

    Args:
        frame: any frame; it stays as it is.
        subset: labels of the columns that make rows equal; all, if there are none.

    Raises:
        FrameError: a column holds what cannot be compared, like lists.
    """
    try:
        again = frame.duplicated(subset=None if subset is None else list(subset))
    except TypeError as error:
        raise FrameError(f"rows cannot be compared: {error}") from error
    return frame[~again].copy(), frame[again].copy()


def limit_rows(frame: pd.DataFrame, max_rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the first rows of a frame, and the rest.

    Raises:
        FrameError: ``max_rows`` is below 0.
    """
    _check(max_rows)
    return frame.iloc[:max_rows].copy(), frame.iloc[max_rows:].copy()


@overload
def memory_efficient(level: F) -> F: ...


@overload
def memory_efficient(
    level: LevelName = "safe", keep: Collection[Hashable] = (), float_tolerance: float = 0.0
) -> Callable[[F], F]: ...


def memory_efficient(
    level: Any = "safe", keep: Collection[Hashable] = (), float_tolerance: float = 0.0
) -> Any:
    """Return a decorator: frames that the function returns are stored in fewer bytes.

    Written without brackets, ``@memory_efficient``, it is the decorator itself.

    At the level ``safe`` values stay the same, and so do sums and products of two columns. What goes
    wrong here is logged once, and the frame is returned as it was made. ``function.saved`` says what
    it saved so far.

    Args:
        level: see :func:`.plan_dataframe`, as for the others; or the function itself.
        keep: labels of columns to leave alone, in frames that have them; a text is one label.
        float_tolerance: the largest relative error that a floating-point number may get.

    Raises:
        FrameError: there is no such level, or the tolerance is none.
    """
    if callable(level):
        return memory_efficient()(level)
    checked_level(level, float_tolerance)
    labels = {keep} if isinstance(keep, str) else set(keep)

    def decorate(function: F) -> F:
        saved, name = Saved(), getattr(function, "__qualname__", repr(function))
        DECORATED[f"{getattr(function, '__module__', '')}.{name}"] = saved
        failed: list[bool] = []

        def smaller(frame: pd.DataFrame) -> pd.DataFrame:
            try:
                there = labels.intersection(frame.columns)
                made = optimize_dataframe(frame, level, there, float_tolerance)
                before, after = _bytes(frame), _bytes(made)
            except Exception:
                if not failed:
                    failed.append(True)
                    log.exception("flask_knitperf: a frame of %s stays as it is", name)
                return frame
            if not saved.frames:
                log.info(
                    "flask_knitperf: %s returns %s instead of %s",
                    name,
                    amount(after),
                    amount(before),
                )
            saved.frames += 1
            saved.before += before
            saved.after += after
            return made

        decorated = _with_frames(function, smaller)
        decorated.saved = saved  # type: ignore[attr-defined]
        return decorated

    return decorate


def limit_dataframe_size(max_rows: int, on_exceed: OnExceed = "raise") -> Callable[[F], F]:
    """Return a decorator: frames that the function returns have at most so many rows.

    Args:
        max_rows: rows that a frame may have.
        on_exceed: ``raise`` :class:`FrameTooLargeError`; ``warn`` (:class:`FrameSizeWarning`) and
            return it; or ``truncate`` it, which warns too.

    Raises:
        FrameError: an argument is wrong.
    """
    _check(max_rows)
    if on_exceed not in ("raise", "warn", "truncate"):
        raise FrameError(f"on_exceed is raise, warn or truncate, and not {on_exceed!r}")

    def decorate(function: F) -> F:
        name = getattr(function, "__qualname__", repr(function))

        def limited(frame: pd.DataFrame) -> pd.DataFrame:
            if len(frame) <= max_rows:
                return frame
            said = f"{name} returned {len(frame):,} rows, and {max_rows:,} are allowed"
            if on_exceed == "raise":
                raise FrameTooLargeError(said)
            if on_exceed == "warn":
                warnings.warn(said, FrameSizeWarning, stacklevel=3)
                return frame
            gone = len(frame) - max_rows
            warnings.warn(f"{said}; the last {gone:,} were cut", FrameSizeWarning, stacklevel=3)
            return frame.iloc[:max_rows].copy()

        return _with_frames(function, limited)

    return decorate


def _with_frames(function: F, change: Callable[[pd.DataFrame], pd.DataFrame]) -> F:
    """Return a function of the same kind whose frames are changed on their way out."""
    if inspect.iscoroutinefunction(function):

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            found = await function(*args, **kwargs)
            return change(found) if isinstance(found, pd.DataFrame) else found

        wrapper: Any = awaited
    else:

        def called(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            return change(found) if isinstance(found, pd.DataFrame) else found

        wrapper = called
    made: Any = functools.wraps(function)(wrapper)
    return made  # type: ignore[no-any-return]


def _bytes(frame: pd.DataFrame) -> int:
    return sum(size_of(values).true for _, values in frame.items())


def _check(max_rows: int) -> None:
    if max_rows < 0:
        raise FrameError(f"max_rows is {max_rows}; it must be 0 or more")
