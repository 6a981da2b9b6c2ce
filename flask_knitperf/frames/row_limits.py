"""Limit the rows of frames and drop duplicate rows.

Dropping rows is opt-in: it warns, or the dropped rows are returned.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

import pandas as pd

from ..core import units
from ..core.notices import warn
from .decorators import wrap_result
from .errors import FrameError, FrameSizeWarning, FrameTooLargeError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", pd.DataFrame, dict[Any, Any], list[Any], tuple[Any, ...])
OnExceed = Literal["raise", "warn", "truncate"]

MAX_ROWS = 100_000
"""Default of :func:`limit_dataframe_size`."""
_CONTAINERS = (dict, list, tuple)


@overload
def limit_dataframe_size(
    frames: T, /, max_rows: int = MAX_ROWS, on_exceed: OnExceed = "raise"
) -> T: ...


@overload
def limit_dataframe_size(
    function: F, /, max_rows: int = MAX_ROWS, on_exceed: OnExceed = "raise"
) -> F: ...


@overload
def limit_dataframe_size(
    max_rows: int = MAX_ROWS, on_exceed: OnExceed = "raise"
) -> Callable[[F], F]: ...


def limit_dataframe_size(*args: Any, **options: Any) -> Any:
    """Limit the rows of frames, as a decorator or as a function.

    ``@limit_dataframe_size``, ``@limit_dataframe_size()`` and ``@limit_dataframe_size(5000)`` check
    the frames that the decorated function returns, also those in dicts, lists and tuples at any depth.
    ``limit_dataframe_size(df)`` checks a frame, or a container of frames, and returns it.

    Args:
        args: optionally a function, a frame or a container of frames; then ``max_rows`` and
            ``on_exceed`` by position.
        options: ``max_rows``, the largest number of rows of each frame, 100,000 by default; and
            ``on_exceed``, ``"raise"`` by default. ``"raise"`` raises :class:`FrameTooLargeError`,
            ``"warn"`` returns the whole frame with a :class:`FrameSizeWarning`, ``"truncate"`` returns
            the first rows with a :class:`FrameSizeWarning`. Containers are not modified: a container
            with a truncated frame is a new one.

    Returns:
        The decorator, the decorated function, or the frame or container.

    Raises:
        FrameError: an argument is wrong.
        FrameTooLargeError: a frame has more rows, and ``on_exceed`` is ``"raise"``.
    """
    target: Any = None
    if args and (callable(args[0]) or isinstance(args[0], (pd.DataFrame, *_CONTAINERS))):
        target, args = args[0], args[1:]
    limit = _limit(*args, **options)
    if target is None:
        return limit.decorate
    return limit.decorate(target) if callable(target) else limit.check(target, "the argument has")


def limit_rows(frame: pd.DataFrame, max_rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the first rows of a frame, and the rest.

    Raises:
        FrameError: ``max_rows`` is below 0.
    """
    _check_max_rows(max_rows)
    return frame.iloc[:max_rows].copy(), frame.iloc[max_rows:].copy()


def drop_duplicate_rows(
    frame: pd.DataFrame, subset: Sequence[Hashable] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a frame without repeated rows, and the rows that were removed.

    Equal rows are not always errors: two lines of an order may be equal. So no other function of this
    package calls this one.

    Args:
        frame: any frame; it is not modified.
        subset: labels of the columns to compare, all by default.

    Raises:
        FrameError: a column has cells that cannot be compared, such as lists.
    """
    try:
        repeated = frame.duplicated(subset=None if subset is None else list(subset))
    except TypeError as error:
        raise FrameError(f"rows cannot be compared: {error}") from error
    return frame[~repeated].copy(), frame[repeated].copy()


def _limit(max_rows: int = MAX_ROWS, on_exceed: OnExceed = "raise") -> _Limit:
    _check_max_rows(max_rows)
    if on_exceed not in ("raise", "warn", "truncate"):
        raise FrameError(f'on_exceed is {on_exceed!r}; it must be "raise", "warn" or "truncate"')
    return _Limit(max_rows, on_exceed)


def _check_max_rows(max_rows: Any) -> None:
    if not isinstance(max_rows, numbers.Integral) or max_rows < 0:
        raise FrameError(f"max_rows is {max_rows!r}; it must be a whole number of 0 or more")


class _Limit(NamedTuple):
    """The limit, and what happens beyond it."""

    max_rows: int
    on_exceed: OnExceed

    def decorate(self, function: F) -> F:
        """Return a function of the same kind whose result is checked."""
        name = getattr(function, "__qualname__", repr(function))
        return wrap_result(function, lambda result: self.check(result, f"{name} returned"))

    def check(self, value: Any, subject: str, path: str = "", parents: tuple[int, ...] = ()) -> Any:
        """Return a value whose frames are within the limit; the same object if nothing is truncated.

        Args:
            value: of any type; frames are looked for in dicts, lists and tuples.
            subject: start of the message, such as ``"stock returned"``.
            path: where the value is in the result, as Python writes it.
            parents: ids of the containers around the value, since a container may contain itself.
        """
        if isinstance(value, pd.DataFrame):
            return self._check_frame(value, subject, path)
        if not isinstance(value, _CONTAINERS) or id(value) in parents:
            return value
        items = value.items() if isinstance(value, dict) else enumerate(value)
        contents = value.values() if isinstance(value, dict) else value
        # one pass in C: most lists hold plain values only
        if not any(
            issubclass(kind, (pd.DataFrame, *_CONTAINERS)) for kind in set(map(type, contents))
        ):
            return value
        parents = (*parents, id(value))
        replaced = {}
        for key, element in items:
            checked = self.check(element, subject, f"{path}[{key!r}]", parents)
            if checked is not element:
                replaced[key] = checked
        return _with_elements(value, replaced) if replaced else value

    def _check_frame(self, frame: pd.DataFrame, subject: str, path: str) -> pd.DataFrame:
        if len(frame) <= self.max_rows:
            return frame
        where = f" in {path}" if path else ""
        rows = units.plain(units.count(len(frame), "row"))
        message = f"{subject} {rows}{where}, and max_rows is {self.max_rows:,}"
        if self.on_exceed == "raise":
            raise FrameTooLargeError(
                f'{message}; raise max_rows, or choose on_exceed="warn" (returns all rows) '
                'or on_exceed="truncate" (returns the first rows)'
            )
        if self.on_exceed == "warn":
            warn(message, FrameSizeWarning)
            return frame
        removed = len(frame) - self.max_rows
        last = "the last one was" if removed == 1 else f"the last {removed:,} were"
        warn(f"{message}; {last} removed", FrameSizeWarning)
        return frame.iloc[: self.max_rows].copy()


def _with_elements(container: Any, replaced: dict[Any, Any]) -> Any:
    """Return a copy of a dict, list or tuple of the same class with some elements replaced."""
    if isinstance(container, tuple):
        elements = [replaced.get(number, element) for number, element in enumerate(container)]
        make = getattr(container, "_make", None)  # of a named tuple
        return type(container)(elements) if make is None else make(elements)
    changed = copy.copy(container)
    for key, element in replaced.items():
        changed[key] = element
    return changed
