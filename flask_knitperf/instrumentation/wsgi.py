"""WSGI middleware that opens and ends the span of each request.

Only a wrapper of the WSGI application sees a request from start to end: teardown functions run before a
streamed body is sent, and a ``before_request`` hook misses the hooks before it. So the span starts here,
before routing, and ends exactly once:

* when the application returns, for a body that is complete by then;
* at the last byte, or when the server closes the body, for a streamed one. It is wrapped, and the span
  is current again during each ``next()`` and ``close()``;
* when a ``wsgi.file_wrapper`` is closed. The object itself goes to the server untouched, so that the
  server can still use ``sendfile``; only its ``close`` is replaced.

The endpoint is read in ``start_response``, where the request is still available. That needs no hook.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from ..collectors.jobs.jobs import is_request_of_job
from ..collectors.requests.conversations import ends_websocket, is_event_stream
from ..collectors.requests.endpoint_series import (
    MIDDLEWARE,
    UNMATCHED,
    is_bodiless,
    routed_endpoint,
)
from ..collectors.requests.queue_time import record_queue_time
from ..collectors.requests.requests import RequestProfile
from ..collectors.requests.response_headers import header
from ..collectors.requests.server_timing import server_timing
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..recording.fastpath import (
    FAST_OFF,
    MAX_NESTED_BODIES,
    Environ,
    FastPathBase,
    StartResponse,
    call_application,
    measure_cost,
)
from ..recording.gc_pauses import WATCH
from ..recording.recorder import Recorder
from ..recording.span import CURRENT, Span
from .mounts import Mounts

_MAX_LENGTH_DIGITS = 18
"""Digits of a ``Content-Length``: no body has more bytes."""
_QUEUE_TIME_EVERY = 16
"""Number of requests of which one has its queue time read."""


class SpanMiddleware(FastPathBase):
    """Wraps a WSGI application, and records each of its requests.

    Args:
        app: the application, see :class:`.FastPathBase`.
        recorder: of the application.
        profile: records the spans.
        gate: returns the response to a request for our pages, ``None`` to serve it as usual.
        prefix: URL prefix of our pages.
        is_async: returns whether an endpoint's view runs in another thread.
        route: returns the endpoint of an environment, ``None`` without a match.
        mounts: names what other applications inside of this one serve.
        viewer: name of the cookie of clients that may see ``Server-Timing``.
        first: called once, with the environment of the first request, before that.
        prepare: called before the first request, and before one in many.
        ignored: path prefixes that are not recorded.
        trust_queue: read ``X-Request-Start``: a proxy sets it.
        sees_timing: returns whether the client of a request may see ``Server-Timing``.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        recorder: Recorder,
        profile: RequestProfile,
        gate: Callable[[Environ, StartResponse], Iterable[bytes] | None],
        *,
        prefix: str,
        is_async: Callable[[str], bool],
        route: Callable[[Environ], str | None],
        mounts: Mounts,
        viewer: str,
        first: Callable[[Environ], None] = lambda _: None,
        prepare: Callable[[], None] = lambda: None,
        ignored: tuple[str, ...] = (),
        trust_queue: bool = False,
        sees_timing: Callable[[Environ], bool] = lambda _: False,
    ) -> None:
        super().__init__(
            app, recorder, profile, recorder.spans, (prefix, prefix[1:], "//", *ignored),
            mounts.span_class, CURRENT, WATCH, ClosingIterator, viewer,
        )  # fmt: skip
        self.mounts = mounts
        self._gate = gate
        self._prefix = prefix
        self._ignored = ignored
        self._trust_queue = trust_queue
        if trust_queue:
            profile.prepare_every = _QUEUE_TIME_EVERY
        self._sees_timing = sees_timing
        self._is_async = is_async
        self._route = route
        self._first: Callable[[Environ], None] | None = first
        self._prepare = prepare
        self._first_lock = create_lock()

    def on_fastpath_error(self, error: Exception) -> None:
        """Handle a body that is not a Werkzeug response's, or a failure of ours."""
        if not isinstance(error, (AttributeError, IndexError)):
            self.recorder.failed("span", error)

    def prepare_slow_path(self, span: Span, environ: Environ) -> None:
        """Prepare a request that needs more than the fast path (:meth:`.RequestProfile.prepare`)."""
        try:
            self._call_first(environ)
            self._prepare()
            self._serve(environ)
            self.profile.prepare(span)
            if self._trust_queue:
                record_queue_time(self.recorder, environ)
            if self._sees_timing(environ):
                self._add_server_timing(span)
        except Exception as error:
            self.recorder.failed("span", error)

    def _serve(self, environ: Environ) -> None:
        """Have this process be a server, unless one of its jobs makes the request."""
        if not is_request_of_job(self.recorder, environ):
            self.recorder.serve()

    def _add_server_timing(self, span: Span) -> None:
        """Add the header ``Server-Timing`` to the response."""
        start: StartResponse = span.start_response

        def start_response(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            span.start_response = start  # a span that refers to itself would never be found lost
            try:
                headers = [*headers, ("Server-Timing", server_timing(span)), ("Vary", "Cookie")]
            except Exception as failure:
                self.recorder.failed("Server-Timing", failure)
            return start(status, headers, *error)

        span.start_response = start_response

    def bypass(
        self, environ: Environ, start_response: StartResponse, instance: Any, path: str
    ) -> Iterable[bytes] | None:
        """Serve our pages and ignored paths; return ``None`` for everything else."""
        ours = self._is_ours(path)
        if not ours and not path.startswith(self._ignored):
            return None
        if self.profile.retained_bytes_meter is not None:
            self.profile.retained_bytes_meter.invalidate()
        if ours:
            self._call_first(environ)
            self._serve(environ)
            response = self._gate(environ, start_response)
            if response is not None:
                return self._with_jobs(response)
        return self._with_jobs(call_application(self.app, instance, environ, start_response))

    def _is_ours(self, path: str) -> bool:
        """Return whether routing would match a path to our pages (it merges and adds slashes)."""
        path = re.sub("/+", "/", "/" + path)
        return path == self._prefix or path.startswith(self._prefix + "/")

    def _call_first(self, environ: Environ) -> None:
        """Call ``first`` before the first request: by then the application is complete."""
        if self._first is not None:
            with self._first_lock:
                first, self._first = self._first, None
                if first is not None:
                    first(environ)

    def unrouted(self, span: Span, error: Exception) -> None:
        """Set the endpoint of a span whose request has none any more, or never had."""
        try:
            span.endpoint = self.mounts.unrouted(span.environ)
            request: Any = span.environ.get("werkzeug.request")
            if span.endpoint is not None:
                return
            unrouted = request is not None and request.url_rule is None
            if unrouted and request.routing_exception is not None:
                span.endpoint = UNMATCHED
            elif unrouted or span.status:
                # it failed before it was routed, or a copy of the context has popped the request
                self._set_endpoint(span)
            else:
                raise error
        except Exception as failure:
            self.recorder.failed("response", failure)

    def name_mounted(self, span: Span) -> None:
        """Set the endpoint of a span that a mounted application answers."""
        try:
            span.endpoint = routed_endpoint(span) or span.endpoint
        except Exception as error:
            self.recorder.failed("response", error)

    def _set_endpoint(self, span: Span) -> None:
        """Set the endpoint of a span by its URL, which a mounted application has changed."""
        span.endpoint = UNMATCHED
        try:
            is_ours = type(span) is Span or "werkzeug.request" in span.environ
            nowhere = UNMATCHED if is_ours else MIDDLEWARE
            endpoint = self.mounts.mount(span.environ) or self._route(span.environ)
            span.endpoint = endpoint or nowhere
        except Exception as failure:
            self.recorder.failed("route", failure)

    def on_exception(self, span: Span, error: BaseException) -> None:
        """End a span whose application raised; anything but an ``Exception`` ends the worker too."""
        if span.timed:
            measure_cost(span, -1)
        if isinstance(error, Exception):
            if not ends_websocket(span.environ, span.status, error):
                span.status = "500"
            self.end(span)
        elif isinstance(error, GeneratorExit):
            self.end(span, disconnected=True)
        else:
            self.end(span, killed=True)
        if span.timed:
            self.end_cost(span)

    def collect(self, span: Span) -> None:
        """Have the collectors of a request record what they buffered (see :meth:`.Span.attach`)."""
        try:
            span.finish()
        except BaseException:  # of the host
            self.profile.abandon(span)
            raise

    def finish_slow(self, span: Span, body: Iterable[bytes]) -> Iterable[bytes]:
        """End a span now or with its body; run waiting jobs once the response is sent."""
        try:
            body = self._follow(span, body)
        except Exception as error:
            self.recorder.failed("body", error)
            self.end(span)  # nothing else would
        return self._with_jobs(body)

    def _with_jobs(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return a body at whose end the jobs run that wait for one (:mod:`..recording.after_response`).

        A body that a server may treat specially is passed on as it is: a list has a length, and that of
        ``wsgi.file_wrapper`` a descriptor. The jobs run at once then,
        but those that wait for a response that was sent.
        """
        jobs = self.recorder.after_response
        if not jobs:
            return body
        if type(body) is ClosingIterator or isinstance(body, StreamedBody):
            return BodyWithJobs(body, jobs.run)
        jobs.run(sent=False)
        return body

    def _follow(self, span: Span, body: Iterable[bytes]) -> Iterable[bytes]:
        """End a span whose body is complete, or wrap the body so that its end ends the span."""
        if not isinstance(span.status, str):
            span.status = ""  # no valid response: the server fails it
        if is_bodiless(_method(span), span.status):
            self.end(span)
            return body
        if _is_complete(body):
            span.length = _content_length(span.headers)
            self.end(span)
            return body
        wrapper = span.environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            span.length = _content_length(span.headers)
            self._end_at_close(span, body)
            return body
        if is_event_stream(span.headers):
            span.fast = FAST_OFF  # recorded apart from the requests of its endpoint
        return StreamedBody(self, span, body)

    def _end_at_close(self, span: Span, body: Any) -> None:
        """Have the end of a server's own file wrapper, which is not wrapped, end the span."""
        try:
            body.close = _FileClose(self, span, getattr(body, "close", None))
        except (AttributeError, TypeError) as error:  # a C type: its end cannot be observed
            raise_if_of_host(error)
            self.end(span, streamed=True)

    def end(
        self,
        span: Span,
        *,
        killed: bool = False,
        disconnected: bool = False,
        streamed: bool = False,
    ) -> None:
        """End a span. Never raises.

        Args:
            span: the request.
            killed: whether its worker is ending.
            disconnected: whether the client closed the connection before the end of the body.
            streamed: whether the body was streamed.
        """
        try:
            if span.owner.has_worker:
                if span.endpoint is None:
                    self._set_endpoint(span)
                same_thread = span.cpu_began is not None and self._runs_here(span)
                self.profile.finish(
                    span, _method(span),
                    killed=killed, disconnected=disconnected, same_thread=same_thread, streamed=streamed,
                )  # fmt: skip
        except Exception as error:
            self.recorder.failed("span", error)
        finally:
            if not span.ended:
                self.profile.abandon(span)  # there is no writer, or recording failed

    def _runs_here(self, span: Span) -> bool:
        """Return whether the CPU clock of this thread is that of the request."""
        endpoint = span.endpoint
        same = span.thread == threading.get_ident()
        return same and (endpoint is None or not self._is_async(endpoint))


def _method(span: Span) -> str:
    """Return the method of a request; a middleware may have changed or emptied its environment."""
    return str(span.environ.get("REQUEST_METHOD"))


def _content_length(headers: Any) -> int:
    """Return the ``Content-Length`` of a response, -1 without a valid one."""
    value = header(headers, "content-length") or ""
    return int(value) if value.isdecimal() and len(value) <= _MAX_LENGTH_DIGITS else -1


def _is_complete(body: Any) -> bool:
    """Return whether a body is complete, so that no code of the application runs while it is sent.

    Werkzeug returns a complete body as an iterator too, and that of an error page as two nested ones.
    The response behind them decides. Where it is out of reach the result is ``False``, which is safe and
    costs only a wrapper.
    """
    for depth in range(MAX_NESTED_BODIES):
        body_type = type(body)
        if body_type is list or body_type is tuple:
            return True
        if body_type is not ClosingIterator:
            return False
        try:
            body = body._callbacks[-1].__self__
        except (AttributeError, IndexError) as error:
            raise_if_of_host(error)
            return False
        if isinstance(body, Response):
            if body.is_sequence:
                return True
            body = body.response
        elif not depth:
            return False  # a middleware of the host iterates over the body, and may take its time
    return False


class _FileClose:
    """The ``close`` of a server's file wrapper: ends the span, at the latest once that is freed."""

    def __init__(
        self, middleware: SpanMiddleware, span: Span, close: Callable[[], object] | None
    ) -> None:
        self._middleware = middleware
        self._span = span
        self._close = close
        self.__class__ = _OpenFileClose

    def __call__(self) -> None:
        self._end()
        if self._close is not None:
            self._close()

    def _end(self) -> None:
        span, middleware = self._span, self._middleware
        if span.timed:
            measure_cost(span, -1)
        middleware.end(span, streamed=True)
        if span.timed:
            middleware.end_cost(span)
        self.__class__ = _FileClose


class _OpenFileClose(_FileClose):
    """One that was not called yet. See :class:`OpenStreamedBody` on its finalizer."""

    def __del__(self) -> None:
        if not self._span.ended:  # a server that never closes
            self._end()


class StreamedBody:
    """Streamed body: passes every chunk through, counts bytes, and ends the span exactly once."""

    def __init__(self, middleware: SpanMiddleware, span: Span, body: Iterable[bytes]) -> None:
        self._middleware = middleware
        self._span = span
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._began = middleware.recorder.clock.monotonic_ns()
        self._bytes_sent = 0
        self._exhausted = False
        self.__class__ = OpenStreamedBody  # only now: a signal handler may raise in between

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next chunk; the span is current while the application produces it."""
        span, outer = self._span, CURRENT.get()
        try:
            CURRENT.set(span)
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._exhausted = True
            self._end()
            raise
        except BaseException as error:
            self._note_stream()
            self._middleware.on_exception(span, error)
            raise
        finally:
            CURRENT.set(outer)  # a token might be lost: a signal handler may raise after set()
        try:
            length = len(chunk)
        except TypeError as error:  # not bytes: some servers skip it, others refuse it
            raise_if_of_host(error)
            length = 0
        self._bytes_sent += length
        return chunk

    def close(self) -> None:
        """Close the wrapped body, then end the span."""
        outer = CURRENT.get()
        try:
            CURRENT.set(self._span)
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            CURRENT.set(outer)
            if not self._span.ended:
                self._end()

    def _end(self) -> None:
        span, middleware = self._span, self._middleware
        if span.timed:
            measure_cost(span, -1)
        if not self._exhausted or not middleware.record_streamed(span, self._bytes_sent):
            self._note_stream()
            middleware.end(span, disconnected=not self._exhausted, streamed=True)
        if span.timed:
            middleware.end_cost(span)
        self.__class__ = StreamedBody

    def _note_stream(self) -> None:
        """Keep what the slow path records of a stream."""
        self._span.length = self._bytes_sent
        self._span.ensure_notes().streaming = self._began


class OpenStreamedBody(StreamedBody):
    """One that was not closed yet: freed, it ends its span.

    A closed one has no finalizer, since Python ignores what a signal handler raises in one.
    """

    def __del__(self) -> None:
        if not self._span.ended:  # a client that never closes
            self._end()


class BodyWithJobs:
    """Body that passes every chunk through, and calls a function once it was closed.

    Args:
        body: a body that has ``close``.
        run: called once, in the thread that closes the body.
    """

    def __init__(self, body: Any, run: Callable[[], None]) -> None:
        self._body = body
        self._run: Callable[[], None] | None = run
        self.__class__ = OpenBodyWithJobs

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next chunk."""
        chunk: bytes = next(self._body)
        return chunk

    def close(self) -> None:
        """Close the wrapped body, then call the function."""
        try:
            self._body.close()
        finally:
            self._run_once()

    def _run_once(self) -> None:
        run, self._run = self._run, None
        self.__class__ = BodyWithJobs
        if run is not None:
            run()


class OpenBodyWithJobs(BodyWithJobs):
    """One that was not closed yet. See :class:`OpenStreamedBody` on its finalizer."""

    def __del__(self) -> None:
        self._run_once()  # a server that never closes
