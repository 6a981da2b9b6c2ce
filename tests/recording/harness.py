"""A fast path of requests in a harness, in Python and in C."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import MethodType, SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.core import sampling
from flask_knitperf.metrics.log_format import parse
from flask_knitperf.recording import fastpath
from tests.conftest import in_python

CURRENT: ContextVar[Any] = ContextVar("test_fastpath", default=None)
ENDPOINT = SimpleNamespace(url_rule=SimpleNamespace(endpoint="item"))


def in_pure_python() -> Any:
    return in_python(fastpath)


def in_c() -> Any:
    try:
        from flask_knitperf.recording import _speedups
    except ImportError:
        pytest.skip("_speedups.c was not built on this machine")
    return _speedups


def starts_and_ends(parts: Iterable[tuple[int, int]]) -> list[tuple[int, bool, int]]:
    """Return the starts and ends of parts in order of time: when, whether it ends, and which part.

    Args:
        parts: start and duration of each.
    """
    numbered = list(enumerate(parts))
    steps = [(began, False, number) for number, (began, _) in numbered]
    return sorted(steps + [(began + took, True, number) for number, (began, took) in numbered])


def by_moments(parts: Iterable[tuple[int, int]]) -> list[int]:
    """Return the time of each part, moment by moment: each belongs to the first that has it.

    Args:
        parts: start and duration of each.
    """
    left, times = set(range(1_000)), []
    for began, took in parts:
        own = left & set(range(began, began + took))
        left -= own
        times.append(len(own))
    return times


def growth(serve: Callable[[], None]) -> int:
    """Return the number of blocks that are allocated after a second call more than after the first."""
    serve()
    gc.collect()
    before = sys.getallocatedblocks()
    serve()
    gc.collect()
    return sys.getallocatedblocks() - before


class Body:
    """A body as Werkzeug makes it: its last callback is a method of the response."""

    def __init__(self, *pieces: Any) -> None:
        self._callbacks: list[Any] = [Response(list(pieces)).close]


def nested(body: Body, times: int = 1) -> Body:
    """Return a body behind others, as that of an error page: of a response, and direct, in turn."""
    for number in range(times):
        outer = Body()
        inner = Response(body)
        is_direct = (times - number) % 2 == 0
        outer._callbacks = [MethodType(_close, body) if is_direct else inner.close]
        body = outer
    return body


def wrapped(body: Body) -> Body:
    """Return a body as a middleware makes it that iterates over another."""
    outer = Body()
    outer._callbacks = [MethodType(_close, body)]
    return outer


def _close(body: Any) -> None:
    """A method of a body."""


class Response:
    def __init__(self, pieces: Any) -> None:
        self.response = pieces

    def close(self) -> None:
        """A callback, by which the response is found."""


class Harness:
    """A fast path with stand-ins for everything that it uses, and the calls it made, in order."""

    def __init__(self, module: Any, app: Callable[..., Any] | None = None) -> None:
        self.module = module
        self.calls: list[Any] = []
        self.log: list[bytes] = []
        self.body: Any = Body(b"yarn")
        self.endpoint: Any = ENDPOINT
        self.now = iter(range(1_000, 10**12, 500))
        self.cpu = iter(range(100, 10**12, 200))
        self.run_queue = iter(range(0, 10**12, 30))
        self.span: Any = None
        self.on_collect: Callable[[Any], object] = lambda span: None
        self.ends = False  # whether the slow path ends a span at once
        harness = self

        class Profile(module.ProfileBase):  # type: ignore[misc]
            def __init__(self) -> None:
                self.slow_urls: dict[str, int] = {}
                self.request_series: dict[Any, Any] = {}
                self.prepare_at = 100

            def record_cost(self, took: int) -> None:
                harness.calls.append(("record_cost", took))

        class RequestSeries(module.RequestSeriesBase):  # type: ignore[misc]
            def append_to_next_log(self, group: bytes) -> None:
                harness.calls.append("append_to_next_log")
                harness.log.append(group)

        class FastPath(module.FastPathBase):  # type: ignore[misc]
            def bypass(self, environ: Any, start: Any, instance: Any, path: str) -> Any:
                harness.calls.append(("bypass", path))
                return [b"bypassed"] if path == "/perf/" else None

            def prepare_slow_path(self, span: Any, environ: Any) -> None:
                harness.calls.append(("prepare_slow_path", environ.get("PATH_INFO")))
                harness.on_prepare(span)

            def unrouted(self, span: Any, error: Exception) -> None:
                harness.calls.append(("unrouted", type(error)))
                span.endpoint = "<unmatched>"

            def collect(self, span: Any) -> None:
                harness.calls.append("collect")
                harness.on_collect(span)

            def on_exception(self, span: Any, error: BaseException) -> None:
                harness.calls.append(("on_exception", error, CURRENT.get() is span))
                harness.spans.pop(span)

            def on_fastpath_error(self, error: Exception) -> None:
                harness.calls.append(("on_fastpath_error", type(error)))

            def finish_slow(self, span: Any, body: Any) -> Any:
                harness.calls.append("finish_slow")
                harness.spans.pop(span, None)
                span.ended = harness.ends
                return body

        self.profile = Profile()
        self.series = RequestSeries()
        self.series.append = self.log.append
        self.series.solo, self.series.concurrent, self.series.bytes_out = 7, 8, 9
        self.profile.request_series["item", "GET", "200 OK"] = self.series
        self.spans: dict[Any, None] = {}
        self.pauses = module.PauseTotalBase()
        self.clock = SimpleNamespace(
            monotonic_ns=lambda: next(self.now), thread_ns=lambda: next(self.cpu),
            run_queue_ns=lambda: next(self.run_queue), process_ns=lambda: 77,
        )  # fmt: skip
        self.middleware = FastPath(
            app or self.app, SimpleNamespace(clock=self.clock), self.profile, self.spans,
            ("/perf", "//"), module.SpanBase, CURRENT, self.pauses, Body, "viewer",
        )  # fmt: skip

    def on_prepare(self, span: Any) -> None:
        """Override to act when a request is prepared."""

    def app(self, environ: Any, start: Any) -> Any:
        assert CURRENT.get() is start
        self.span = start
        environ["werkzeug.request"] = self.endpoint
        start("200 OK", [("A", "b")])
        return self.body

    def get(self, path: str | None = "/item", **entries: Any) -> Any:
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", **entries}
        if path is None:
            del environ["PATH_INFO"]
        return self.middleware(environ, lambda *args: self.calls.append(args))

    def stream(self, parts: Any = None) -> Any:
        """Return the span of a request whose streamed body is being sent."""
        self.body = iter([b"yarn"])
        self.middleware.finish_slow = lambda span, body: body
        self.get()
        self.span.parts = parts
        return self.span

    def in_flight(self) -> Any:
        """Return another request, in flight since 200."""
        other = self.module.SpanBase(None, {}, 200)
        self.spans[other] = None
        return other

    def sample(self, every: int = 1) -> None:
        """Sample the CPU time of one request in ``every``, the next first, all on the fast path."""
        self.profile.requests_started = sampling.RANGE - 1
        self.profile.prepare_at = 10**12
        self.profile.cpu_every = every
        self.series.cpu, self.series.sampled_wall, self.series.run_queue = 11, 12, 13
        self.series.detailed_at = self.series.detailed_above = 10**12

    def weights(self) -> list[tuple[int, int, float]]:
        """Return series, weight and value of each observation."""
        parsed = parse(b"".join(self.log))
        columns = (parsed.series.tolist(), parsed.weight.tolist(), parsed.value.tolist())
        return list(zip(*columns, strict=True))

    def written(self) -> list[tuple[int, float]]:
        parsed = parse(b"".join(self.log))
        return list(zip(parsed.series.tolist(), parsed.value.tolist(), strict=True))
