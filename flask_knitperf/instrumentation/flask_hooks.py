"""Hooks into Flask: time in ``before_request`` functions, and unhandled exceptions.

The functions of the application are not wrapped. A marker is inserted before and after each: it ends the
part of the previous function and starts that of the next one. That happens at the first request, when
all functions are registered, and only where there are any.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from flask import Flask, got_request_exception, request

from ..core.code_locations import short
from ..metrics.catalogue import ERROR, ErrorDetail, ErrorKey, PartKind
from ..recording.fastpath import HookMarkBase
from ..recording.recorder import Recorder
from ..recording.span import CURRENT, Span


class HookMark(HookMarkBase):
    """A mark between two ``before_request`` functions; see :class:`.HookMarkBase`."""

    def __init__(self, recorder: Recorder, name: str | None) -> None:
        super().__init__(recorder, CURRENT, None if name is None else f"{PartKind.HOOK}:{name}")

    def start_hook(self, span: Span) -> None:
        """Note the runnable time, and the time of parts, before a function starts."""
        span.add_hooks()
        span.hook_start = self._runnable_ns(span), span.nested()

    def end_hook(self, span: Span) -> None:
        """Record a function that has just ended as a part."""
        span.end_hook(self.recorder.clock.monotonic_ns(), self._runnable_ns(span))

    def _runnable_ns(self, span: Span) -> int | None:
        if span.cpu_began is None:
            return None
        runnable: int = self.recorder.clock.runnable_ns()
        return runnable

    def failed(self, error: Exception) -> None:
        """Handle a failure of ours."""
        self.recorder.failed("hooks", error)


def mark_hooks(app: Flask, recorder: Recorder) -> None:
    """Insert markers between the ``before_request`` functions of an application."""
    for scope, functions in app.before_request_funcs.items():
        marked: list[Callable[..., object]] = []
        for function in functions:
            name = str(getattr(function, "__qualname__", type(function).__qualname__))
            marked += [HookMark(recorder, name.replace("<locals>.", "")), function]
        if marked:
            app.before_request_funcs[scope] = [*marked, HookMark(recorder, None)]  # type: ignore[list-item]


def record_errors(
    app: Flask, recorder: Recorder, route: Callable[[dict[str, Any]], str | None]
) -> Callable[..., None]:
    """Record evidence of unhandled exceptions.

    Args:
        app: the application.
        recorder: of the application.
        route: returns the endpoint of an environment, ``None`` without a match.

    Returns:
        The listener; the signal holds it weakly, so the caller must keep it.
    """
    root = app.root_path

    def listener(_: Flask, exception: BaseException, **__: Any) -> None:
        try:
            span = recorder.span()
            if span is None:
                return
            rule = request.url_rule
            if span.endpoint is None and rule is not None:
                span.endpoint = rule.endpoint
            elif span.endpoint is None and request.routing_exception is None:
                span.endpoint = route(span.environ)  # it failed before it was routed
            endpoint = span.endpoint or "<unmatched>"
            where = raised_at(exception.__traceback__, root)
            key = ErrorKey(endpoint, type(exception).__name__)
            recorder.note(ERROR, key, 1.0, ErrorDetail(where=where))
        except Exception as error:
            recorder.failed("error evidence", error)

    got_request_exception.connect(listener, app)
    return listener


def raised_at(traceback: TracebackType | None, root: str) -> str | None:
    """Return ``file:line`` of the innermost frame of the application, else of the innermost frame.

    Args:
        traceback: of the exception, ``None`` where it has none.
        root: folder of the application.
    """
    location: tuple[str, int] | None = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        is_own = name.startswith(root) and "site-packages" not in name
        if is_own or location is None or not location[0].startswith(root):
            location = name, traceback.tb_lineno
        traceback = traceback.tb_next
    return None if location is None else short(*location)
