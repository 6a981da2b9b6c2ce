"""The request's span, at the only place that sees a request whole: around the WSGI application.

Teardown functions run before a streamed body is sent, and a hook sees only what other hooks leave. So
the span begins here, before routing, and ends exactly once:

* when the application returns, for a body that is already there;
* at the last byte, or when the server closes the body, for one that is streamed. It is wrapped, and
  the span is current again around each ``next()`` and ``close()``;
* when a ``wsgi.file_wrapper`` is closed. The object itself goes to the server untouched, so that it
  can still use ``sendfile``; only its ``close`` is ours.

The endpoint is read in ``start_response``, where the request is still at hand. That costs no hook.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator, FileWrapper

from ..collectors.requests.endpoint_series import UNMATCHED
from ..collectors.requests.queue_time import record_queue_time
from ..collectors.requests.requests import RequestProfile
from ..collectors.requests.server_timing import server_timing
from ..core.locks import Lock
from ..recording.fastpath import FAST_TIMED, Environ, FastPathBase, Start
from ..recording.gc_pauses import WATCH
from ..recording.recorder import Recorder
from ..recording.span import CURRENT, Span

_BARE = ("", "100", "101", "102", "103", "204", "304")
"""Statuses whose responses have no body."""


class SpanMiddleware(FastPathBase):
    """Wraps a WSGI application and records each of its requests.

    Args:
        app: the application.
        recorder: where spans go.
        profile: what is recorded of them.
        gate: asked first; answers for our own pages, returns ``None`` for everything else.
        prefix: where our own pages are.
        is_async: whether an endpoint's view runs in another thread.
        route: the endpoint that an address leads to, ``None`` without one.
        viewer: name of the cookie that a request of such a person carries.
        first: done once, before the first request.
        ignored: path prefixes that are not recorded.
        trust_queue: believe ``X-Request-Start`` (set by a proxy of ours).
        sees_timing: whether a request comes from somebody who may see where its time went.
    """

    def __init__(
        self,
        app: Callable[[Environ, Start], Iterable[bytes]],
        recorder: Recorder,
        profile: RequestProfile,
        gate: Callable[[Environ, Start], Iterable[bytes] | None],
        *,
        prefix: str,
        is_async: Callable[[str], bool],
        route: Callable[[Environ], str | None],
        viewer: str,
        first: Callable[[], None] = lambda: None,
        ignored: tuple[str, ...] = (),
        trust_queue: bool = False,
        sees_timing: Callable[[Environ], bool] = lambda _: False,
    ) -> None:
        super().__init__(
            app, recorder, profile, recorder.spans, (prefix, prefix[1:], "//", *ignored),
            Span, CURRENT, WATCH, ClosingIterator, viewer,
        )  # fmt: skip
        self._gate = gate
        self._prefix = prefix
        self._ignored = ignored
        self._trust_queue = trust_queue
        self._sees_timing = sees_timing
        self._is_async = is_async
        self._route = route
        self._first: Callable[[], None] | None = first
        self._beginning = Lock()

    def on_fastpath_error(self, error: Exception) -> None:
        """Take note of a body that is not what Werkzeug usually makes, or of a failure of ours."""
        if not isinstance(error, (AttributeError, IndexError)):
            self.recorder.failed("span", error)

    def prepare_slow_path(self, span: Span, environ: Environ, path: str) -> None:
        """Do what only some requests need: see :meth:`.RequestProfile.prepare`."""
        entered = self.recorder.clock.monotonic_ns()
        try:
            self.profile.prepare(span, path)
            if self._first is not None or self._trust_queue:
                self._unusual(environ)
            if self._sees_timing(environ):
                self._tell_timing(span)
        except Exception as error:
            self.recorder.failed("span", error)
        if span.fast == FAST_TIMED:
            span.cost = self.recorder.clock.monotonic_ns() - entered

    def _tell_timing(self, span: Span) -> None:
        """Have the response say where its time went."""
        start: Start = span.start_response

        def told(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            try:
                headers = [*headers, ("Server-Timing", server_timing(span))]
            except Exception as failure:
                self.recorder.failed("Server-Timing", failure)
            return start(status, headers, *error)

        span.start_response = told

    def bypass(self, environ: Environ, start_response: Start, path: str) -> Iterable[bytes] | None:
        """Serve our own pages and ignored paths; return ``None`` for everything else."""
        ours = self._ours(path)
        if not ours and not path.startswith(self._ignored):
            return None
        if self.profile.retained_bytes_meter is not None:
            self.profile.retained_bytes_meter.invalidate()
        if ours:
            self._unusual({})
            answer = self._gate(environ, start_response)
            if answer is not None:
                return answer
        served: Iterable[bytes] = self.app(environ, start_response)
        return served

    def _ours(self, path: str) -> bool:
        """Return whether routing would take a path to our pages (it merges and adds slashes)."""
        path = re.sub("/+", "/", "/" + path)
        return path == self._prefix or path.startswith(self._prefix + "/")

    def _unusual(self, environ: Environ) -> None:
        """Do what must wait until the application is complete; read the queue header."""
        if self._first is not None:
            with self._beginning:
                first, self._first = self._first, None
                if first is not None:
                    first()
        if self._trust_queue:
            record_queue_time(self.recorder, environ)

    def unrouted(self, span: Span, error: Exception) -> None:
        """Find the endpoint of a response whose request does not tell it."""
        try:
            request = span.environ.get("werkzeug.request")
            if request is not None and request.url_rule is None:
                span.endpoint = UNMATCHED
            elif span.status:  # its context was popped already, by a copy of it
                self._match(span)
            else:
                raise error
        except Exception as failure:
            self.recorder.failed("response", failure)

    def _match(self, span: Span) -> None:
        """Find a request's endpoint by its address, where the request itself is gone."""
        span.endpoint = self._route(span.environ) or UNMATCHED

    def on_exception(self, span: Span, error: BaseException) -> None:
        """End a span whose application raised. Anything but an Exception ends the worker too."""
        if span.endpoint is None:
            try:
                self._match(span)
            except Exception as failure:
                self.recorder.failed("route", failure)
        if isinstance(error, Exception):
            span.status = "500"
            self.end(span)
        elif isinstance(error, GeneratorExit):
            self.end(span, disconnected=True)
        else:
            self.end(span, killed=True)

    def finish_slow(self, span: Span, body: Iterable[bytes]) -> Iterable[bytes]:
        """End a span whose body is there, or see to it that it ends when the body does."""
        try:
            if span.environ["REQUEST_METHOD"] == "HEAD" or span.status[:3] in _BARE:
                self.end(span)
                return body
            span.length = _announced(span.headers)
            if _is_complete(body):
                self.end(span)
                return body
            wrapper = span.environ.get("wsgi.file_wrapper", FileWrapper)
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                self._end_at_close(span, body)
                return body
            return StreamedBody(self, span, body)
        except Exception as error:
            self.recorder.failed("body", error)
            return body

    def _end_at_close(self, span: Span, body: Any) -> None:
        close = getattr(body, "close", None)

        def closed() -> None:
            self.end(span, streamed=True)
            if close is not None:
                close()

        try:
            body.close = closed
        except (AttributeError, TypeError):  # a type of C: its end cannot be seen
            self.end(span, streamed=True)

    def end(
        self,
        span: Span,
        *,
        killed: bool = False,
        disconnected: bool = False,
        streamed: bool = False,
    ) -> None:
        """End a span; a failure of ours never reaches the application."""
        try:
            if span.owner.has_worker:
                same = span.cpu_began is not None and self._cpu_is_its_own(span)
                self.profile.finish(
                    span, span.environ["REQUEST_METHOD"],
                    killed=killed, disconnected=disconnected, same_thread=same, streamed=streamed,
                )  # fmt: skip
        except Exception as error:
            self.recorder.failed("span", error)

    def _cpu_is_its_own(self, span: Span) -> bool:
        """Return whether this thread's clock tells the CPU time of the span."""
        endpoint = span.endpoint
        there = span.thread == threading.get_ident()
        return there and (endpoint is None or not self._is_async(endpoint))


def _announced(headers: list[tuple[str, str]] | None) -> int:
    """Return the length that a response announces, -1 if it announces none."""
    for name, value in headers or ():
        if name.lower() == "content-length":
            return int(value)
    return -1


def _is_complete(body: Any) -> bool:
    """Return whether a body is there in full, so that nothing happens while it is sent.

    Werkzeug hands a complete body out as an iterator too, and that of an error page as one around
    another. The response behind is asked; where it cannot be found the answer is no, which is
    always right and only costs a wrapper.
    """
    for _ in range(4):
        kind = type(body)
        if kind is list or kind is tuple:
            return True
        if kind is not ClosingIterator:
            return False
        try:
            body = body._callbacks[-1].__self__
        except (AttributeError, IndexError):
            return False
        if isinstance(body, Response):
            if body.is_sequence:
                return True
            body = body.response
    return False


class StreamedBody:
    """A streamed body: passes everything through, counts bytes, ends the span exactly once."""

    def __init__(self, middleware: SpanMiddleware, span: Span, body: Iterable[bytes]) -> None:
        self._middleware = middleware
        self._span = span
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._sent = 0
        self._whole = False
        span.ensure_notes().streaming = middleware.recorder.clock.monotonic_ns()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next piece, with the span current while it is made."""
        token = CURRENT.set(self._span)
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            piece = next(self._iterator)
        except StopIteration:
            self._whole = True
            self._end()
            raise
        except BaseException as error:
            self._span.length = self._sent
            self._middleware.on_exception(self._span, error)
            raise
        finally:
            CURRENT.reset(token)
        self._sent += len(piece)
        return piece

    def close(self) -> None:
        """Close the body behind, then end the span."""
        token = CURRENT.set(self._span)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            CURRENT.reset(token)
            self._end()

    def __del__(self) -> None:
        if not self._span.ended:  # a client that never closes
            self._end()

    def _end(self) -> None:
        self._span.length = self._sent
        self._middleware.end(self._span, disconnected=not self._whole, streamed=True)
