"""Time spent in the application's own ``before_request`` functions.

Nothing of the application is wrapped. Between its functions stand marks of ours: a mark ends the part
of the function before it and begins the part of the one behind it. They are put in at the first
request, when all functions are registered, and only where there are any.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from .core.recorder import Recorder
from .core.span import Part

_WORTH_NS = 50_000


def _mark(recorder: Recorder, name: str | None) -> Callable[[], None]:
    def knitperf_mark() -> None:
        span = recorder.span()
        if span is None:
            return
        now = recorder.clock.monotonic_ns()
        cpu = recorder.clock.thread_ns() if span.cpu_began is not None else None
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
