"""What Flask itself tells: time in ``before_request`` functions and templates, and exceptions.

Nothing of the application is wrapped. Between its functions stand marks of ours: a mark ends the part
of the function before it and begins the part of the one behind it. They are put in at the first
request, when all functions are registered, and only where there are any.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from flask import Flask, got_request_exception, request

from ..core.code_locations import short
from ..metrics.catalogue import ERROR, ErrorDetail, ErrorKey
from ..recording.recorder import Recorder
from ..recording.span import Part

_WORTH_NS = 50_000
_RENDERING_WORTH_NS = 1_000_000


def _mark(recorder: Recorder, name: str | None) -> Callable[[], None]:
    def knitperf_mark() -> None:
        span = recorder.span()
        if span is None:
            return
        now = recorder.clock.monotonic_ns()
        cpu = recorder.clock.runnable_ns() if span.cpu_began is not None else None
        top: Part | None = span.stack[-1] if span.stack else None
        if top is not None and top.name.startswith("hook:"):
            if now - top.began < _WORTH_NS:
                span.drop(top)
            else:
                span.close(top, now, cpu)
        if name is not None:
            span.open(f"hook:{name}", now, cpu)

    return knitperf_mark


def mark_hooks(app: Flask, recorder: Recorder) -> None:
    """Put marks between the functions that run before the view."""
    for scope, functions in app.before_request_funcs.items():
        marked: list[Callable[..., object]] = []
        for function in functions:
            name = getattr(function, "__qualname__", type(function).__qualname__)
            marked += [_mark(recorder, name.replace("<locals>.", "")), function]
        if marked:
            app.before_request_funcs[scope] = [*marked, _mark(recorder, None)]  # type: ignore[list-item]


def time_rendering(app: Flask, recorder: Recorder) -> None:
    """Have templates of an application be parts of its requests where rendering takes a while.

    Jinja makes its templates of a class that an environment may name; ours only takes the time. An
    application that has no environment yet gets it from Flask when it renders, or never.
    """
    made = "jinja_env" in vars(app)
    kind: Any = app.jinja_env if made else app.jinja_environment
    plain: Any = kind.template_class

    class KnitperfTemplate(plain):  # type: ignore[misc]
        def render(self, *args: Any, **kwargs: Any) -> str:
            span = recorder.span()
            if span is None:
                return super().render(*args, **kwargs)  # type: ignore[no-any-return]
            clock, sampled = recorder.clock, span.cpu_began is not None
            before, used = span.nested(), clock.runnable_ns() if sampled else 0
            began = clock.monotonic_ns()
            try:
                return super().render(*args, **kwargs)  # type: ignore[no-any-return]
            finally:
                ended = clock.monotonic_ns()
                if ended - began > _RENDERING_WORTH_NS:
                    cpu = clock.runnable_ns() - used if sampled else None
                    span.insert(f"render:{self.name or '<text>'}", began, ended, cpu, before)

    if made:
        app.jinja_env.template_class = KnitperfTemplate
    else:
        own: Any = type(kind.__name__, (kind,), {"template_class": KnitperfTemplate})
        app.jinja_environment = own


def errors_noted(app: Flask, recorder: Recorder) -> Callable[..., None]:
    """Keep evidence of unhandled exceptions; return the listener, which the caller must keep."""

    def noted(_: Flask, exception: BaseException, **__: Any) -> None:
        try:
            span = recorder.span()
            if span is None:
                return
            rule = request.url_rule
            if span.endpoint is None and rule is not None:
                span.endpoint = rule.endpoint
            endpoint = span.endpoint or "<unmatched>"
            where = place(exception.__traceback__, app.root_path)
            key = ErrorKey(endpoint, type(exception).__name__)
            recorder.note(ERROR, key, 1.0, ErrorDetail(where=where))
        except Exception as error:
            recorder.failed("error evidence", error)

    got_request_exception.connect(noted, app)
    return noted


def place(traceback: TracebackType | None, root: str) -> str | None:
    """Return ``file:line`` of the innermost frame of the application, else of the innermost."""
    found: tuple[str, int] | None = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        ours = name.startswith(root) and "site-packages" not in name
        if ours or found is None or not found[0].startswith(root):
            found = name, traceback.tb_lineno
        traceback = traceback.tb_next
    if found is None:
        return None
    return short(*found)
