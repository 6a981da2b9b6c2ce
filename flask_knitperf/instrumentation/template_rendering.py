"""Timing of template rendering: a part of the request for each template that takes long enough."""

from __future__ import annotations

from typing import Any

from flask import Flask

from ..recording.recorder import Recorder

_MIN_RENDERING_NS = 1_000_000  # shorter renderings are not a part


def time_rendering(app: Flask, recorder: Recorder) -> None:
    """Record the rendering of templates as parts of requests.

    Jinja creates templates from the ``template_class`` of an environment; the class installed here only
    times them. Flask creates the environment of an application when it first renders, so where there is
    none yet, its class is replaced instead.
    """
    has_environment = "jinja_env" in vars(app)
    environment: Any = app.jinja_env if has_environment else app.jinja_environment
    template_class: Any = environment.template_class

    class KnitperfTemplate(template_class):  # type: ignore[misc]
        def render(self, *args: Any, **kwargs: Any) -> str:
            span = recorder.span()
            if span is None:
                return super().render(*args, **kwargs)  # type: ignore[no-any-return]
            clock, sampled = recorder.clock, span.cpu_began is not None
            before, cpu_before = span.nested(), clock.runnable_ns() if sampled else 0
            began = clock.monotonic_ns()
            try:
                return super().render(*args, **kwargs)  # type: ignore[no-any-return]
            finally:
                ended = clock.monotonic_ns()
                if ended - began > _MIN_RENDERING_NS:
                    cpu = clock.runnable_ns() - cpu_before if sampled else None
                    span.insert(f"render:{self.name or '<text>'}", began, ended, cpu, before)

    if has_environment:
        app.jinja_env.template_class = KnitperfTemplate
    else:
        timed: Any = type(
            environment.__name__, (environment,), {"template_class": KnitperfTemplate}
        )
        app.jinja_environment = timed
