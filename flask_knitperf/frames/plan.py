"""A plan: for each column of a frame what it becomes, why, and what behaves in another way then.

Columns are told by their position, for names may be there twice. A plan is of one frame and may be
carried out on another with the same columns: yesterday's plan on today's file. Each step checks its
bounds as it goes; where they do not hold it takes a wider type, or none, and warns
(:class:`PlanNotice`), and no value is ever changed for it.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from ..core.errors import KnitPerfError
from .conversions import Category, Converted, Integer, Keep, Single, Step, Tidy
from .conversions_pack import Dates
from .dtype_selection import LEVELS, OLD_PANDAS, Decision, Level, decide
from .memory_usage import NOTHING, Size, size_of, total
from .restore import unpacked
from .verify import differences

LevelName = Literal["safe", "balanced", "compact", "pack"]


class PlanNotice(UserWarning):
    """A plan met values that it was not made for, and took a wider type."""


class FrameError(KnitPerfError):
    """A plan does not fit a frame, or what it made is not what it was made from."""


@dataclass(frozen=True)
class ColumnPlan:
    """What becomes of one column.

    Attributes:
        position: of the column, from 0.
        name: its label.
        source: its type.
        to: the type that it becomes; its own where it stays.
        step: what is done.
        before: bytes of it.
        after: bytes of it then.
        reason: why.
        risks: what behaves in another way then, as sentences.
        dtype: the type before, with which :meth:`Plan.unpack` gives the column back.
    """

    position: int
    name: Hashable
    source: str
    to: str
    step: Step
    before: Size
    after: Size
    reason: str
    risks: tuple[str, ...]
    dtype: Any = field(default=None, repr=False, compare=False)

    @property
    def changes(self) -> bool:
        """Whether anything is done."""
        return not isinstance(self.step, Keep)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "position": self.position, "name": str(self.name), "from": self.source, "to": self.to,
            "bytes_before": self.before.true, "bytes_after": self.after.true,
            "deep_bytes_before": self.before.deep, "deep_bytes_after": self.after.deep,
            "reason": self.reason, "risks": list(self.risks),
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A plan for all columns of a frame. Make one with :func:`plan_dataframe`.

    Attributes:
        level: ``safe``, ``balanced``, ``compact`` or ``pack``.
        rows: of the frame it was made for.
        index: bytes of its row labels, which stay.
        columns: the columns, in order.
        labels: the frame's column labels.
        float_tolerance: the largest relative error of a floating-point number that is allowed.
    """

    level: str
    rows: int
    index: Size
    columns: tuple[ColumnPlan, ...]
    labels: pd.Index[Any] = field(repr=False, compare=False)
    float_tolerance: float = 0.0

    @property
    def before(self) -> Size:
        """Bytes of the whole frame, row labels included."""
        return self.index + total(column.before for column in self.columns)

    @property
    def after(self) -> Size:
        """Bytes of the whole frame then."""
        return self.index + total(column.after for column in self.columns)

    @property
    def ratio(self) -> float:
        """How many times smaller the frame becomes; 1.0 where nothing is in it."""
        after = self.after.true
        return self.before.true / after if after else 1.0

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a new frame with the same values, stored as planned; the given one stays as it is.

        Args:
            frame: the one that the plan was made for, or another with the same columns.

        Raises:
            FrameError: the columns are others.

        Warns:
            PlanNotice: a value lies beyond what was planned, so its column is wider or stays.
        """
        self._check(frame)
        if not len(frame):
            return frame.copy()
        return self._changed(frame, lambda column, values: column.step.convert(values))

    def verify(self, before: pd.DataFrame, after: pd.DataFrame) -> None:
        """Check every cell.

        Args:
            before: the frame that was given to :meth:`apply`.
            after: what it returned.

        Raises:
            FrameError: a cell, a label or a column's kind differs; the sentence says which.
        """
        steps = {column.position: column.step for column in self.columns if column.changes}
        _verify(before, after, self.float_tolerance, steps)

    def unpack(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a new frame with each column in the type that it had before the plan.

        Values are what they are by now, so what was worked out in between stays. Categories that the
        plan dropped come back; digits that a tolerance gave away do not.

        Args:
            frame: what :meth:`apply` returned, or another with its columns.

        Raises:
            FrameError: the columns are others.

        Warns:
            PlanNotice: the first type does not hold a value that is there by now, so its column stays.
        """
        self._check(frame)
        return self._changed(
            frame, lambda column, values: unpacked(values, column.step, column.dtype)
        )

    def _changed(
        self, frame: pd.DataFrame, change: Callable[[ColumnPlan, pd.Series[Any]], Converted]
    ) -> pd.DataFrame:
        """Return a new frame whose planned columns are changed, and warn of what was not to be done."""
        made: dict[int, Converted] = {}
        for column in self.columns:
            if column.changes:
                values = frame.iloc[:, column.position]
                converted = change(column, values)
                if converted.notice:
                    said = f"column {column.position} ({column.name!r}): {converted.notice}"
                    warnings.warn(said, PlanNotice, stacklevel=3)
                if converted.values is not values:
                    made[column.position] = converted
        return _built(frame, made)

    def report(self) -> str:
        """Return the plan as lines of text, the columns that shrink most first."""
        from .rendering import text

        return text(self)

    def read_options(self) -> dict[str, Any]:
        """Return arguments of ``pandas.read_csv`` with which the file of this frame loads small at once.

        They are for that file: beyond a planned type pandas 3 raises and pandas 2 changes numbers in
        silence, and single precision is not checked. :func:`.read_csv` checks, and reads any file.

        Returns:
            ``{"dtype": {label: type}}`` of the columns that change, those with unambiguous labels only,
            and with types that ``pandas.read_csv`` reads: nothing packed, and no moments.
        """
        often = Counter(map(str, self.labels))
        found: dict[Hashable, str] = {
            column.name: column.to
            for column in self.columns
            if isinstance(column.step, Integer | Single | Category | Tidy)
            and isinstance(column.name, str)
            and often[column.name] == 1
        }
        return {"dtype": found} if found else {}

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values. Bytes are true ones, each object counted once."""
        return {
            "level": self.level, "rows": self.rows, "float_tolerance": self.float_tolerance,
            "bytes_before": self.before.true, "bytes_after": self.after.true,
            "deep_bytes_before": self.before.deep, "deep_bytes_after": self.after.deep,
            "ratio": round(self.ratio, 3),
            "columns": [column.as_dict() for column in self.columns],
        }  # fmt: skip

    def _repr_html_(self) -> str:
        from .rendering import html

        return html(self)

    def _check(self, frame: pd.DataFrame) -> None:
        if frame.shape[1] != len(self.columns):
            raise FrameError(
                f"the plan is for {len(self.columns):,} columns and the frame has {frame.shape[1]:,}"
            )
        for place, (one, other) in enumerate(zip(self.labels, frame.columns, strict=True)):
            if not (one is other or one == other or (one != one and other != other)):
                raise FrameError(f"column {place} is {other!r} and not {one!r}, as planned")


def plan_dataframe(
    frame: pd.DataFrame,
    level: LevelName = "balanced",
    keep: Collection[Hashable] = (),
    float_tolerance: float = 0.0,
) -> Plan:
    """Return how a frame can be stored in fewer bytes without a changed value.

    ======== =====================================================================================
    safe     values are exact; sums and products of two columns do not wrap, text and categories stay
    balanced values are exact, and there is room for arithmetic; repetitive text becomes categories
    compact  values are exact, as small as pandas' types get; float32 where it keeps every value
    pack     values are exact; numbers in codes that read as them, moments for text of dates
    ======== =====================================================================================

    Args:
        frame: any frame; it is only read.
        level: how far to go.
        keep: labels of columns to leave alone; a text is one label.
        float_tolerance: the largest relative error that a floating-point number may get; with more than
            0.0 doubles become float32 at every level, and the error that was found is reported.

    Raises:
        FrameError: the level or the tolerance is none, ``keep`` names what is no column, or ``frame`` is
            no DataFrame.
    """
    columns = []
    for place, values, decision in _decided(frame, level, keep, float_tolerance):
        before = size_of(values) if len(values) else NOTHING
        after = before if decision.after is None else decision.after
        source = str(values.dtype)
        to = source if decision.made is None else str(decision.made.values.dtype)
        columns.append(ColumnPlan(
            place, values.name, source, to, decision.step, before, after, decision.reason,
            decision.risks, values.dtype,
        ))  # fmt: skip
    index = size_of(frame.index) if not isinstance(frame.index, pd.RangeIndex) else NOTHING
    return Plan(level, len(frame), index, tuple(columns), frame.columns, float_tolerance)


def optimize_dataframe(
    frame: pd.DataFrame,
    level: LevelName = "balanced",
    keep: Collection[Hashable] = (),
    float_tolerance: float = 0.0,
) -> pd.DataFrame:
    """Return a new frame with the same values in fewer bytes, every cell of it checked.

    This is :func:`plan_dataframe`, :meth:`Plan.apply` and :meth:`Plan.verify`; see there for arguments
    and errors.
    """
    _asked(frame, level, float_tolerance)
    keep = _kept(frame, keep)
    if not len(frame):
        return frame.copy()
    made, steps = {}, {}
    for place, _, decision in _decided(frame, level, keep, float_tolerance):
        if decision.made is not None:
            made[place], steps[place] = decision.made, decision.step
    smaller = _built(frame, made)
    _verify(frame, smaller, float_tolerance, steps)
    return smaller


def _decided(
    frame: pd.DataFrame, level: str, keep: Collection[Hashable], tolerance: float
) -> Iterator[tuple[int, pd.Series[Any], Decision]]:
    """Give each column, and what becomes of it."""
    chosen = _asked(frame, level, tolerance)
    kept = _kept(frame, keep)
    for place, (name, values) in enumerate(frame.items()):
        if name in kept:
            yield place, values, Decision(Keep(), None, "it was to be kept")
        elif not len(values):
            yield place, values, Decision(Keep(), None, "there are no rows")
        else:
            sizes = functools.partial(size_of, values)
            yield place, values, decide(values, chosen, tolerance, sizes)


def _kept(frame: pd.DataFrame, keep: Collection[Hashable]) -> set[Hashable]:
    """Return the labels to keep, each of a column: one that is misspelt would keep nothing."""
    labels: set[Hashable] = {keep} if isinstance(keep, str) else set(keep)
    unknown = labels - set(frame.columns) if labels else labels
    if unknown:
        said = ", ".join(sorted(map(repr, unknown)))
        raise FrameError(f"keep names what is no column: {said}")
    return labels


def smaller_column(values: pd.Series[Any], level: Level, tolerance: float) -> pd.Series[Any]:
    """Return a column that is not empty as :func:`optimize_dataframe` stores it, not checked again."""
    decision = decide(values, level, tolerance, functools.partial(size_of, values))
    if decision.made is None or decision.made.values is values:
        return values
    return pd.Series(decision.made.values, index=values.index, name=values.name, copy=False)


def _asked(frame: Any, name: str, tolerance: float) -> Level:
    """Return what may be done, if that is asked for in the right way."""
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"a DataFrame is needed, not {type(frame).__name__}")
    return checked_level(name, tolerance)


def checked_level(name: str, tolerance: float) -> Level:
    """Return what may be done.

    Raises:
        FrameError: there is no such level, or the tolerance is none.
    """
    chosen = LEVELS.get(name)
    if chosen is None:
        raise FrameError(f"there is no level {name!r}; there are {', '.join(LEVELS)}")
    if not 0.0 <= tolerance < 1.0:
        raise FrameError(f"a tolerance is a share of a value, from 0.0 on, and not {tolerance!r}")
    return chosen


def _verify(
    before: pd.DataFrame, after: pd.DataFrame, tolerance: float, steps: Mapping[int, Step]
) -> None:
    if before.shape == after.shape:
        text = {
            place: unpacked(after.iloc[:, place], step, before.dtypes.iloc[place])
            for place, step in steps.items()
            if isinstance(step, Dates)  # all others can be compared as they are
        }
        after = _built(after, text) if text else after
    found = differences(before, after, tolerance)
    if found:
        raise FrameError("the frame is not what it was made from: " + "; ".join(found[:5]))


def _built(frame: pd.DataFrame, made: Mapping[int, Converted]) -> pd.DataFrame:
    """Return a frame like one, with labels of its own, in which some columns are replaced."""
    if not len(frame) and not made:
        return frame.copy()
    arrays = {}
    for place, (_, values) in enumerate(frame.items()):
        array = values if place not in made else made[place].values
        arrays[place] = array.copy() if array is values and OLD_PANDAS else array
    built = pd.DataFrame(arrays, index=frame.index, copy=False)
    built.index, built.columns = frame.index.view(), frame.columns.view()  # names are set on each
    like: Any = frame
    new: Any = built if type(frame) is pd.DataFrame else like._constructor(built)
    return new.__finalize__(like)  # type: ignore[no-any-return]  # attrs, copied deeply, and flags
