"""Errors and warnings of the DataFrame functions."""

from __future__ import annotations

from ..core.errors import KnitPerfError


class FrameError(KnitPerfError):
    """An argument is wrong, a plan does not fit a frame, or a conversion changed a value."""


class FrameTooLargeError(FrameError):
    """A frame has more rows than allowed."""


class FrameSizeWarning(UserWarning):
    """A frame has more rows than allowed, or had them and was truncated."""


class PlanNotice(UserWarning):
    """A plan met values outside its bounds: the column got a wider type, or was left unchanged."""
