"""Hooks into Flask: time in ``before_request`` functions, and unhandled exceptions.

The functions of the application are not wrapped, and none is added: Flask would inspect each of ours as
it inspects those of the application, which costs more than the mark itself. The list of functions is
replaced by one whose iteration marks the time between two functions: that ends the part of the previous
one and starts that of the next one. It is replaced at the first request, and only where there are any
functions; those that are added later are timed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from flask import Flask, got_request_exception, has_request_context, request

from ..collectors.requests.endpoint_series import UNMATCHED
from ..core.code_locations import is_own, short
from ..metrics.catalogue import ERROR, ErrorDetail, ErrorKey, PartKind
from ..recording.fastpath import HookMarkBase, measure_cost
from ..recording.recorder import Recorder, pack_note
from ..recording.span import CURRENT, Span

_MAX_PACKED = 200
"""Number of kinds of exceptions whose evidence is kept packed, of all endpoints together."""


class HookMark(HookMarkBase):
    """A mark between two ``before_request`` functions; see :class:`.HookMarkBase`."""

    def __init__(self, recorder: Recorder, name: str | None) -> None:
        super().__init__(recorder, CURRENT, None if name is None else f"{PartKind.HOOK}:{name}")

    def start_hook(self, span: Span) -> None:
        """Note the time of parts before a function starts."""
        span.add_hooks()
        span.hook_start = span.nested()

    def end_hook(self, span: Span) -> None:
        """Record a function that has just ended as a part."""
        span.add_hooks()
        span.end_hook(self.recorder.clock.monotonic_ns(), self._runnable_ns(span))

    def _runnable_ns(self, span: Span) -> int | None:
        if span.cpu_began is None:
            return None
        runnable: int = self.recorder.clock.runnable_ns()
        return runnable

    def failed(self, error: Exception) -> None:
        """Handle a failure of ours."""
        self.recorder.failed("hooks", error)


class MarkedHooks(list[Callable[..., Any]]):
    """The ``before_request`` functions of one scope; an iteration within a request times them.

    A copy is a plain list.

    Args:
        functions: of the application.
        recorder: of the application.
    """

    def __init__(self, functions: list[Callable[..., Any]], recorder: Recorder) -> None:
        super().__init__(functions)
        self._recorder = recorder
        self._end = HookMark(recorder, None)
        # by id of the function, which may have no hash; with the function, so that no other gets its id
        self._marks: dict[int, tuple[HookMark, Callable[..., Any]]] = {}

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        marks = self._marks
        try:
            for function in list.__iter__(self):
                entry = marks.get(id(function)) or self._add_mark(function)
                entry[0]()
                yield function
        finally:
            self._end()  # also where a function answers the request, so that the rest is skipped

    def __reduce_ex__(self, _: object) -> tuple[type, tuple[list[Callable[..., Any]]]]:
        return list, (self.copy(),)

    def _add_mark(self, function: Callable[..., Any]) -> tuple[HookMark, Callable[..., Any]]:
        name = str(getattr(function, "__qualname__", type(function).__qualname__))
        mark = HookMark(self._recorder, name.replace("<locals>.", ""))
        entry = self._marks[id(function)] = mark, function
        return entry


def mark_hooks(app: Flask, recorder: Recorder) -> None:
    """Have the ``before_request`` functions of an application timed."""
    for scope, functions in app.before_request_funcs.items():
        if functions:
            app.before_request_funcs[scope] = MarkedHooks(functions, recorder)


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
    packed: dict[tuple[str, str], bytes] = {}

    def pack(endpoint: str, exception: BaseException) -> bytes:
        where = raised_at(exception.__traceback__)
        key = ErrorKey(endpoint, type(exception).__name__)
        return pack_note(ERROR, key, 1.0, ErrorDetail(where=where))

    def listener(_: Flask, exception: BaseException, **__: Any) -> None:
        try:
            span = recorder.span()
            if span is None:
                return
            if span.timed:
                measure_cost(span, -1)
            if span.endpoint is None:
                matched = request if has_request_context() else None  # interrupted before it began
                if matched and matched.url_rule is not None:
                    span.endpoint = matched.url_rule.endpoint
                elif not (matched and matched.routing_exception):
                    # it failed before it was routed; once is enough, a converter may be expensive
                    span.endpoint = route(span.environ) or UNMATCHED
            endpoint = span.endpoint or UNMATCHED
            key = endpoint, type(exception).__name__
            note = packed.get(key) or pack(endpoint, exception)
            if len(packed) < _MAX_PACKED:
                packed[key] = note
            recorder.worker.write(note)
            if span.timed:
                measure_cost(span, 1)
        except Exception as error:
            recorder.failed("error evidence", error)

    got_request_exception.connect(listener, app)
    return listener


def raised_at(traceback: TracebackType | None) -> str | None:
    """Return ``file:line`` of the innermost frame of the application, else of the innermost frame.

    Args:
        traceback: of the exception, ``None`` where it has none.
    """
    innermost = own = None
    while traceback is not None:
        innermost = traceback
        if is_own(traceback.tb_frame.f_code):
            own = traceback
        traceback = traceback.tb_next
    raised = own or innermost
    return raised and short(raised.tb_frame.f_code.co_filename, raised.tb_lineno)
