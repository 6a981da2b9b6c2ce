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
from functools import partial
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator, FileWrapper

from .core.recorder import Recorder
from .core.span import CURRENT, Span
from .profiling.requests import UNMATCHED, RequestProfile, queue_seconds

Environ = dict[str, Any]
Start = Callable[..., Any]


class SpanMiddleware:
    """Wraps a WSGI application and records each of its requests.

    Args:
        app: the application.
        recorder: where spans go.
        profile: what is recorded of them.
        gate: asked first; answers for our own pages, returns ``None`` for everything else.
        prefix: where our own pages are.
        is_async: whether an endpoint's view runs in another thread.
        route: the endpoint that an address leads to, ``None`` without one.
        ignored: path prefixes that are not recorded.
        trust_queue: believe ``X-Request-Start`` (set by a proxy of ours).
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
        ignored: tuple[str, ...] = (),
        trust_queue: bool = False,
    ) -> None:
        self.app = app
        self._recorder = recorder
        self._profile = profile
        self._gate = gate
        self._prefix = prefix
        self._left_out = (prefix, *ignored)
        self._ignored = ignored
        self._turn = 0
        self._trust_queue = trust_queue
        self._is_async = is_async
        self._route = route

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        """Serve one request."""
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(self._left_out) or "//" in path or path[:1] != "/":
            if self._ours(path):
                answer = self._gate(environ, start_response)
                return self.app(environ, start_response) if answer is None else answer
            if path.startswith(self._ignored):
                return self.app(environ, start_response)
        self._turn += 1
        timed = not self._turn & 63
        entered = self._recorder.clock.monotonic_ns() if timed else 0
        span = self._begin(environ, path)
        if span is None:
            return self.app(environ, start_response)
        if timed:
            span.cost = self._recorder.clock.monotonic_ns() - entered
        token = CURRENT.set(span)
        try:
            body = self.app(environ, partial(self._started, span, start_response))
        except BaseException as error:
            self.broken(span, error)
            raise
        finally:
            CURRENT.reset(token)
        return self._pass_on(span, body)

    def _ours(self, path: str) -> bool:
        """Return whether routing would take a path to our pages (it merges and adds slashes)."""
        path = re.sub("/+", "/", "/" + path)
        return path == self._prefix or path.startswith(self._prefix + "/")

    def _match(self, span: Span) -> None:
        """Find a request's endpoint by its address, where the request itself is gone."""
        endpoint = self._route(span.environ)
        span.endpoint = endpoint or UNMATCHED
        span.is_async = endpoint is not None and self._is_async(endpoint)

    def broken(self, span: Span, error: BaseException) -> None:
        """End a span whose application raised. Anything but an Exception ends the worker too."""
        if span.endpoint is None:
            try:
                self._match(span)
            except Exception as failure:
                self._recorder.failed("route", failure)
        if isinstance(error, Exception):
            span.status = 500
            self.end(span)
        elif isinstance(error, GeneratorExit):
            self.end(span, disconnected=True)
        else:
            self.end(span, killed=True)

    def _begin(self, environ: Environ, path: str) -> Span | None:
        recorder = self._recorder
        try:
            _ = recorder.worker
            now = recorder.clock.monotonic_ns()
            span = Span(recorder, environ, now, threading.get_ident())
            self._profile.begin(span, path)
            if self._trust_queue:
                waited = queue_seconds(environ, recorder.clock.wall())
                if waited is not None:
                    self._profile.queued(waited)
        except Exception as error:
            recorder.failed("span", error)
            return None
        return span

    def _started(
        self, span: Span, start_response: Start, status: str, headers: Any, exc_info: Any = None
    ) -> Any:
        try:
            span.status = int(status[:3])
            if span.endpoint is None:
                request = span.environ.get("werkzeug.request")
                if request is None:  # its context was popped already, by a copy of it
                    self._match(span)
                else:
                    rule = request.url_rule
                    span.endpoint = UNMATCHED if rule is None else rule.endpoint
                    span.is_async = rule is not None and self._is_async(rule.endpoint)
            for name, value in headers:
                if name == "Content-Length":
                    span.length = int(value)
        except Exception as error:
            self._recorder.failed("response", error)
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    def _pass_on(self, span: Span, body: Iterable[bytes]) -> Iterable[bytes]:
        try:
            status = span.status
            bare = span.environ["REQUEST_METHOD"] == "HEAD" or status in (204, 304)
            if bare or status < 200:
                span.length = -1
                self.end(span)
                return body
            if _is_complete(body):
                self.end(span)
                return body
            wrapper = span.environ.get("wsgi.file_wrapper", FileWrapper)
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                self._end_at_close(span, body)
                return body
            return StreamedBody(self, span, body)
        except Exception as error:
            self._recorder.failed("body", error)
            return body

    def _end_at_close(self, span: Span, body: Any) -> None:
        close = getattr(body, "close", None)

        def closed() -> None:
            self.end(span)
            if close is not None:
                close()

        try:
            body.close = closed
        except (AttributeError, TypeError):  # a type of C: its end cannot be seen
            self.end(span)

    def end(self, span: Span, *, killed: bool = False, disconnected: bool = False) -> None:
        """End a span; a failure of ours never reaches the application."""
        entered = self._recorder.clock.monotonic_ns() if span.cost else 0
        try:
            if span.owner.begun:
                same = span.thread == threading.get_ident() and not span.is_async
                method = span.environ["REQUEST_METHOD"]
                self._profile.end(
                    span, span.endpoint or UNMATCHED, method,
                    killed=killed, disconnected=disconnected, same_thread=same,
                )  # fmt: skip
                if entered:
                    self._profile.spent(self._recorder.clock.monotonic_ns() - entered + span.cost)
                    span.cost = 0
        except Exception as error:
            self._recorder.failed("span", error)


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
            self._middleware.broken(self._span, error)
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
        self._middleware.end(self._span, disconnected=not self._whole)
