"""Plan how to store a frame in fewer bytes without changing a value, apply the plan, and verify it.

A plan of one frame applies to any other with the same columns: yesterday's plan to today's file. Each
step checks its bounds while it converts; where they do not hold it chooses a wider type or leaves the
column unchanged, and warns (:class:`PlanNotice`). Values never change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, overload

import pandas as pd

from ..core import units
from ..core.code_locations import caller
from ..core.notices import warn, warn_once
from ..core.provenance import ORIGINS
from . import rendering
from .conversions import Converted, Decision, Keep, Step
from .conversions_pack import ParseDates
from .dtype_selection import LEVELS, OLD_PANDAS, Level, decide
from .errors import FrameError, PlanNotice
from .memory_usage import NO_BYTES, size_of
from .plan_data import ColumnPlan, PlanData
from .restore import restore_column
from .verify import differences

LevelName = Literal["safe", "balanced", "compact", "pack"]
MAX_DIFFERENCES = 5
"""Differences that the message of a failed verification lists."""


class Plan(PlanData):
    """Plan of all columns of a frame. Create one with :func:`plan_dataframe`.

    Attributes:
        level: ``safe``, ``balanced``, ``compact`` or ``pack``.
        rows: of the frame that was planned.
        index: bytes of its row labels, which are unchanged.
        columns: the columns, in order.
        labels: the frame's column labels.
        float_tolerance: largest allowed relative error of a floating-point number.
    """

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a new frame with the same values in the planned types; the argument is not modified.

        Args:
            frame: the frame that was planned, or another with the same columns.

        Raises:
            FrameError: the columns differ from the planned ones.

        Warns:
            PlanNotice: a value is outside the planned bounds: the column gets a wider type or is
                left unchanged.
        """
        self._check_columns(frame)
        if not len(frame):
            return frame.copy()
        return self._convert(frame, lambda column, values: column.step.convert(values))

    def verify(self, before: pd.DataFrame, after: pd.DataFrame) -> None:
        """Compare every cell.

        Args:
            before: the argument of :meth:`apply`.
            after: its result.

        Raises:
            FrameError: a cell, a label or the kind of a column differs; the message names it.
        """
        steps = {column.position: column.step for column in self.columns if column.changes}
        _verify(before, after, self.float_tolerance, steps)

    def unpack(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a new frame with each column in its type from before the plan.

        Values are the current ones, so results of later operations are preserved. Categories that the
        plan dropped come back; digits lost to a tolerance do not.

        Args:
            frame: the result of :meth:`apply`, or another frame with its columns.

        Raises:
            FrameError: the columns differ from the planned ones.

        Warns:
            PlanNotice: the original type cannot hold a current value: the column is left unchanged.
        """
        self._check_columns(frame)
        return self._convert(
            frame, lambda column, values: restore_column(values, column.step, column.dtype)
        )

    def _convert(
        self, frame: pd.DataFrame, convert: Callable[[ColumnPlan, pd.Series[Any]], Converted]
    ) -> pd.DataFrame:
        """Return a new frame with the planned columns converted, and warn where a bound did not hold."""
        replaced: dict[int, Converted] = {}
        for column in self.columns:
            if column.changes:
                values = frame.iloc[:, column.position]
                converted = convert(column, values)
                if converted.notice:
                    where = f"column {column.position} ({column.name!r})"
                    warn(f"{where}: {converted.notice}", PlanNotice)
                if converted.values is not values:
                    replaced[column.position] = converted
        return _with_columns(frame, replaced)

    def report(self) -> str:
        """Return the plan as text for a terminal, the columns that shrink most first."""
        return rendering.text(self)

    def _repr_html_(self) -> str:
        return rendering.html(self)

    def _check_columns(self, frame: pd.DataFrame) -> None:
        if frame.shape[1] != len(self.columns):
            raise FrameError(
                f"the plan is for {units.plain(units.count(len(self.columns), 'column'))} and the "
                f"frame has {frame.shape[1]:,}"
            )
        for position, labels in enumerate(zip(self.labels, frame.columns, strict=True)):
            planned, label = labels
            both_nan = planned != planned and label != label
            if not (planned is label or planned == label or both_nan):
                raise FrameError(f"column {position} is {label!r} and not {planned!r}, as planned")


def plan_dataframe(
    frame: pd.DataFrame,
    level: LevelName = "balanced",
    keep: Collection[Hashable] = (),
    float_tolerance: float = 0.0,
) -> Plan:
    """Plan how to store a frame in fewer bytes without changing a value.

    ======== =====================================================================================
    safe     exact values; sums and products of two columns do not wrap, text and categories unchanged
    balanced exact values, with room for arithmetic; repetitive text becomes categories
    compact  exact values, the smallest types of pandas; float32 where it preserves every value
    pack     exact values; numbers bit-packed but read as before, datetimes in place of date strings
    ======== =====================================================================================

    Args:
        frame: any frame; it is not modified.
        level: how aggressively to shrink.
        keep: labels of columns to leave unchanged; a string is one label.
        float_tolerance: largest allowed relative error of a floating-point number. Above 0.0, float64
            becomes float32 at every level where the error allows, and the plan reports the error.

    Raises:
        FrameError: there is no such level, the tolerance is not in [0, 1), ``keep`` contains a label
            that no column has, or ``frame`` is not a DataFrame.
    """
    columns = []
    for position, values, decision in _decisions(frame, level, keep, float_tolerance):
        before = size_of(values) if len(values) else NO_BYTES
        after = before if decision.after is None else decision.after
        source = str(values.dtype)
        to = source if decision.converted is None else str(decision.converted.values.dtype)
        columns.append(ColumnPlan(
            position, values.name, source, to, decision.step, before, after, decision.reason,
            decision.risks, values.dtype,
        ))  # fmt: skip
    index = size_of(frame.index) if not isinstance(frame.index, pd.RangeIndex) else NO_BYTES
    return Plan(level, len(frame), index, tuple(columns), frame.columns, float_tolerance)


@overload
def optimize_dataframe(
    frame: pd.DataFrame, label: str = "", *, level: LevelName | None = None,
    keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
) -> pd.DataFrame: ...  # fmt: skip


@overload
def optimize_dataframe(
    frame: None, label: str = "", *, level: LevelName | None = None,
    keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
) -> None: ...  # fmt: skip


def optimize_dataframe(
    frame: pd.DataFrame | None, label: str = "", *, level: LevelName | None = None,
    keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
) -> pd.DataFrame | None:  # fmt: skip
    """Return a new frame with the same values in fewer bytes, every cell verified.

    This is :func:`plan_dataframe`, :meth:`Plan.apply` and :meth:`Plan.verify` in one call. No row is
    dropped, no value changed, and the argument is not modified.

    Args:
        frame: any frame; ``None`` returns ``None``.
        label: name of the frame, such as ``"inventory_data"``; the report on live frames and error
            messages show it.
        level: see :func:`plan_dataframe`; ``None`` is ``"balanced"``.
        keep: labels of columns to leave unchanged; a string is one label.
        float_tolerance: largest allowed relative error of a floating-point number.
        aggressive: the same as ``level="compact"``, which is lossless.

    Raises:
        FrameError: see :func:`plan_dataframe`; or ``level`` and ``aggressive`` contradict each other.

    Warns:
        MigrationWarning: once, for ``aggressive=True``, which other optimisers take as permission to
            round numbers and drop rows; and for a label that is the name of a level.
    """
    if aggressive:
        if level not in (None, "compact"):
            raise FrameError(f'aggressive=True is level="compact", and level is {level!r}')
        warn_once(
            'optimize_dataframe(aggressive=True) is level="compact", which is lossless: numbers are not '
            "rounded, rows not dropped, text not parsed as dates, and the argument is not modified"
        )
        level = "compact"
    _check_label(label)
    if frame is None:
        return None
    smaller = smaller_frame(frame, level or "balanced", keep, float_tolerance, label)
    source = ORIGINS.of(frame)
    words = ["optimize_dataframe", *([label] if label else ())]
    words += [] if source is None else ["of", source.what]
    ORIGINS.remember(smaller, " ".join(words), caller())
    return smaller


def _check_label(label: Any) -> None:
    if not isinstance(label, str):
        raise FrameError(f"the label is {label!r}; it must be a string")
    if label in LEVELS:
        warn_once(
            f"the second argument of optimize_dataframe is a label, so {label!r} does not choose a "
            f"level; write level={label!r}"
        )


def smaller_frame(
    frame: pd.DataFrame, level: LevelName, keep: Collection[Hashable], float_tolerance: float,
    label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Return the result of :func:`optimize_dataframe`, without recording its origin."""
    try:
        _check_arguments(frame, level, float_tolerance)
        labels = _labels_to_keep(frame, keep)
        if not len(frame):
            return frame.copy()
        replaced, steps = {}, {}
        for position, _, decision in _decisions(frame, level, labels, float_tolerance):
            if decision.converted is not None:
                replaced[position], steps[position] = decision.converted, decision.step
        smaller = _with_columns(frame, replaced)
        _verify(frame, smaller, float_tolerance, steps)
    except FrameError as error:
        if not label:
            raise
        raise FrameError(f"{label}: {error}") from error
    return smaller


class ColumnDecision(NamedTuple):
    """A column with its position, and the step chosen for it."""

    position: int
    values: pd.Series[Any]
    decision: Decision


def _decisions(
    frame: pd.DataFrame, level: str, keep: Collection[Hashable], tolerance: float
) -> Iterator[ColumnDecision]:
    """Yield the decision for each column."""
    chosen = _check_arguments(frame, level, tolerance)
    labels = _labels_to_keep(frame, keep)
    for position, (name, values) in enumerate(frame.items()):
        if name in labels:
            decision = Decision(Keep(), None, "listed in keep")
        elif not len(values):
            decision = Decision(Keep(), None, "it has no rows")
        else:
            decision = decide(values, chosen, tolerance, functools.partial(size_of, values))
        yield ColumnDecision(position, values, decision)


def _labels_to_keep(frame: pd.DataFrame, keep: Collection[Hashable]) -> set[Hashable]:
    """Return the labels in ``keep``; a misspelt one is an error, since it would keep nothing."""
    labels: set[Hashable] = {keep} if isinstance(keep, str) else set(keep)
    unknown = labels - set(frame.columns) if labels else labels
    if unknown:
        listing = ", ".join(sorted(map(repr, unknown)))
        raise FrameError(f"keep contains labels that no column has: {listing}")
    return labels


def smaller_column(values: pd.Series[Any], level: Level, tolerance: float) -> pd.Series[Any]:
    """Return a column with at least one row as :func:`optimize_dataframe` stores it, not verified."""
    decision = decide(values, level, tolerance, functools.partial(size_of, values))
    if decision.converted is None or decision.converted.values is values:
        return values
    return pd.Series(decision.converted.values, index=values.index, name=values.name, copy=False)


def _check_arguments(frame: Any, level: str, tolerance: float) -> Level:
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"a DataFrame is needed, not {type(frame).__name__}")
    return checked_level(level, tolerance)


def checked_level(name: str, tolerance: float) -> Level:
    """Return the level of that name.

    Raises:
        FrameError: there is no such level, or the tolerance is not in [0, 1).
    """
    level = LEVELS.get(name)
    if level is None:
        raise FrameError(f"there is no level {name!r}; there are {', '.join(LEVELS)}")
    if not 0.0 <= tolerance < 1.0:
        raise FrameError(
            f"float_tolerance is {tolerance!r}; it must be a relative error from 0.0 to below 1.0"
        )
    return level


def _verify(
    before: pd.DataFrame, after: pd.DataFrame, tolerance: float, steps: Mapping[int, Step]
) -> None:
    if before.shape == after.shape:
        text = {
            position: restore_column(after.iloc[:, position], step, before.dtypes.iloc[position])
            for position, step in steps.items()
            if isinstance(step, ParseDates)  # other types compare without restoring them
        }
        after = _with_columns(after, text) if text else after
    messages = differences(before, after, tolerance)
    if messages:
        listing = "; ".join(messages[:MAX_DIFFERENCES])
        raise FrameError(f"the converted frame differs from its source: {listing}")


def _with_columns(frame: pd.DataFrame, replaced: Mapping[int, Converted]) -> pd.DataFrame:
    """Return a frame of the same class with separate labels, in which some columns are replaced."""
    if not len(frame) and not replaced:
        return frame.copy()
    arrays = {}
    for position, (_, values) in enumerate(frame.items()):
        array = values if position not in replaced else replaced[position].values
        arrays[position] = array.copy() if array is values and OLD_PANDAS else array
    plain = pd.DataFrame(arrays, index=frame.index, copy=False)
    # views, because ``names`` are attributes of the index object
    plain.index, plain.columns = frame.index.view(), frame.columns.view()
    source: Any = frame
    result: Any = plain if type(frame) is pd.DataFrame else source._constructor(plain)
    return result.__finalize__(source)  # type: ignore[no-any-return]  # attrs (deep copies) and flags
