"""Hooks into Flask: time in the functions that it calls around views, and unhandled exceptions.

Those are ``before_request``, ``after_request`` and teardown functions, and error handlers. None is
added: Flask would inspect each of ours as it inspects those of the application, which costs more than
the mark itself. A list of functions is replaced by one whose iteration marks the time between two
functions: that ends the part of the previous one and starts that of the next one. Flask iterates in
reverse over those that run after the view. Lists are replaced at the first request, and only where there
are any functions. Those that are added to a list later are timed, too, and lists that appear later are
replaced before a request in many.

An error handler is looked up when it is to be called. What the look-up returns calls the handler between
two marks; it is created when an error occurs, so requests without one do not pay for it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from flask import Flask, current_app, got_request_exception, has_request_context, request

from ..collectors.requests.endpoint_series import UNMATCHED
from ..core.code_locations import is_own, short
from ..metrics.catalogue import ERROR, HOOKS, ErrorDetail, ErrorKey, PartKind
from ..recording.fastpath import HookMarkBase, measure_cost
from ..recording.recorder import Recorder, pack_note
from ..recording.span import CURRENT, Span

_Function = Callable[..., Any]
_MAX_PACKED = 200
"""Number of kinds of exceptions whose evidence is kept packed, of all endpoints together."""


class HookMark(HookMarkBase):
    """A mark between two functions that Flask calls; see :class:`.HookMarkBase`.

    Args:
        recorder: of the application.
        part: name of the part that the next function is, ``None`` after the last one.
    """

    def __init__(self, recorder: Recorder, part: str | None) -> None:
        super().__init__(recorder, CURRENT, part)

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


class _Marks:
    """Marks before the functions of one kind, and the mark after the last one of a scope.

    Args:
        recorder: of the application.
        kind: of the parts that the functions are.

    Attributes:
        end: the mark after the last function.
        known: mark before each function, by the id of the function, which may have no hash; with the
            function, so that no other gets its id.
    """

    def __init__(self, recorder: Recorder, kind: PartKind) -> None:
        self._recorder, self._kind = recorder, kind
        self.end = HookMark(recorder, None)
        self.known: dict[int, tuple[HookMark, _Function]] = {}

    def add(self, function: _Function) -> tuple[HookMark, _Function]:
        """Return the entry of a function that is not known yet."""
        name = str(getattr(function, "__qualname__", type(function).__qualname__))
        part = f"{self._kind}:{name.replace('<locals>.', '')}"
        entry = self.known[id(function)] = HookMark(self._recorder, part), function
        return entry


def _timed(
    iterate: Callable[[list[_Function]], Iterator[_Function]],
) -> Callable[[MarkedHooks], Iterator[_Function]]:
    """Return an iteration that marks the time between functions; one frame more would cost as a mark."""

    def functions(self: MarkedHooks) -> Iterator[_Function]:
        marks = self.marks
        known = marks.known
        try:
            for function in iterate(self):
                entry = known.get(id(function)) or marks.add(function)
                entry[0]()
                yield function
        finally:
            marks.end()  # also where a function answers the request, so that the rest is skipped

    return functions


class MarkedHooks(list[_Function]):
    """The ``before_request`` functions of one scope; an iteration within a request times them.

    A copy is a plain list.

    Args:
        functions: of the application.
        marks: of their kind.
    """

    def __init__(self, functions: list[_Function], marks: _Marks) -> None:
        super().__init__(functions)
        self.marks = marks

    __iter__ = _timed(list.__iter__)

    def __reduce_ex__(self, _: object) -> tuple[type, tuple[list[_Function]]]:
        return list, (self.copy(),)


class MarkedLateHooks(MarkedHooks):
    """The functions of one scope that run after a view: Flask iterates over them in reverse."""

    __iter__ = list.__iter__
    __reversed__ = _timed(list.__reversed__)


class MarkedHandlers(dict[type[Exception], _Function]):
    """The error handlers of one scope and status; one that is looked up within a request is timed.

    A copy is a plain dictionary.

    Args:
        handlers: of the application, by class of the error.
        recorder: of the application.
        marks: of their kind.
    """

    def __init__(
        self, handlers: dict[type[Exception], _Function], recorder: Recorder, marks: _Marks
    ) -> None:
        super().__init__(handlers)
        self._recorder, self._marks = recorder, marks

    def get(self, error: type[Exception], default: Any = None) -> Any:
        """Return the handler of a class of errors."""
        handler = dict.get(self, error)
        if handler is None:
            return default
        return handler if self._recorder.span() is None else self._timed(handler)

    def _timed(self, handler: _Function) -> _Function:
        marks = self._marks
        before, _ = marks.known.get(id(handler)) or marks.add(handler)

        @functools.wraps(handler)
        def handle(error: Exception) -> Any:
            before()
            try:
                return current_app.ensure_sync(handler)(error)
            finally:
                marks.end()

        return handle

    def __reduce_ex__(self, _: object) -> tuple[type, tuple[dict[type[Exception], _Function]]]:
        return dict, (self.copy(),)


class HookTimer:
    """Has the functions timed that Flask calls around the views of an application.

    Args:
        app: the application.
        recorder: of the application.
    """

    def __init__(self, app: Flask, recorder: Recorder) -> None:
        self._application = weakref.ref(app)
        self._recorder = recorder
        self._marks = {kind: _Marks(recorder, kind) for kind in HOOKS}

    def install(self) -> None:
        """Replace the lists of functions, and the dictionaries of handlers, that are not yet."""
        app = self._application()
        if app is None:
            return
        self._replace(app.before_request_funcs, PartKind.HOOK, MarkedHooks)
        self._replace(app.after_request_funcs, PartKind.AFTER, MarkedLateHooks)
        self._replace(app.teardown_request_funcs, PartKind.TEARDOWN, MarkedLateHooks)
        teardown = app.teardown_appcontext_funcs
        if teardown and not isinstance(teardown, MarkedHooks):
            marks = self._marks[PartKind.TEARDOWN]
            app.teardown_appcontext_funcs = MarkedLateHooks(teardown, marks)
        for handlers in app.error_handler_spec.copy().values():
            self._replace_handlers(handlers)

    def _replace(self, scopes: Any, kind: PartKind, marked: type[MarkedHooks]) -> None:
        for scope, functions in scopes.copy().items():
            if functions and not isinstance(functions, MarkedHooks):
                scopes[scope] = marked(functions, self._marks[kind])

    def _replace_handlers(self, statuses: Any) -> None:
        for status, handlers in statuses.copy().items():
            if handlers and not isinstance(handlers, MarkedHandlers):
                marks = self._marks[PartKind.ERROR]
                statuses[status] = MarkedHandlers(handlers, self._recorder, marks)


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
