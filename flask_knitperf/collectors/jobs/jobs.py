"""Jobs: one run of a command, of a task or of a thread's work, measured like a request.

A run has a :class:`~...recording.span.Span`, so sections, statements and file reads within it become its
parts by the same code as those of a request. It is not a request in flight: it makes no request
concurrent, and no worker busy. Its series carry the method :data:`~...metrics.catalogue.JOB_METHOD`,
under which no endpoint is listed.

A job within a request, or within another job, is a section of that one, and counts as a run too.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident
from types import TracebackType
from typing import Any, TypeVar

from ...core.errors import KnitPerfError
from ...core.host_exceptions import SuppressOwn, raise_if_of_host
from ...metrics.catalogue import (
    CPU,
    JOB,
    JOB_FAILED,
    JOB_LAST,
    JOB_METHOD,
    RUN_QUEUE,
    SAMPLED_WALL,
)
from ...metrics.instruments import OTHER
from ...metrics.log_format import Observation
from ...recording.gc_pauses import WATCH
from ...recording.recorder import Recorder
from ...recording.span import CURRENT, Span
from ..requests.endpoint_series import EndpointSeries
from ..requests.green_threads import is_green
from ..requests.request_observations import add_gc, add_parts
from ..requests.sections import ResolveRecorder, section

F = TypeVar("F", bound=Callable[..., Any])
_SET_BY_SERVERS = frozenset({"SERVER_SOFTWARE", "REMOTE_PORT"})  # and by no test client


@contextmanager
def run(recorder: Recorder | None, name: str) -> Iterator[None]:
    """Record the enclosed code as one run of a job.

    Args:
        recorder: of the application, ``None`` outside one.
        name: of the job; beyond a hundred names in a process runs are counted as ``<other>``.
    """
    if recorder is None:
        yield
        return
    began = recorder.clock.monotonic_ns()
    span = None if recorder.span() is not None else _span(recorder, name, began)
    token = None if span is None else CURRENT.set(span)
    failure: str | None = None
    try:
        if span is not None:
            yield
        else:
            with section(name):
                yield
    except BaseException as error:
        failure = _failure(error)
        raise
    finally:
        if token is not None:
            with SuppressOwn(ValueError):  # it ends in another context, which has no span of ours
                CURRENT.reset(token)
        try:
            _record(recorder, name, began, span, failure)
        except Exception as error:
            recorder.failed("jobs", error)


def _span(recorder: Recorder, name: str, began: int) -> Span | None:
    """Return the span of a run, ``None`` where it cannot be recorded."""
    try:
        span = Span(recorder, {"REQUEST_METHOD": JOB_METHOD}, began)
        span.endpoint = _known_name(recorder, name)
        span.thread, span.gc_began = get_ident(), WATCH.total
        if not is_green():
            span.run_queue_began = recorder.clock.run_queue_ns()
            span.cpu_began = recorder.clock.thread_ns()
    except Exception as error:
        recorder.failed("jobs", error)
        return None
    return span


def is_request_of_job(recorder: Recorder, environ: dict[str, Any]) -> bool:
    """Return whether the running job makes a request itself, with a test client.

    A command may also be the server: what only servers set distinguishes its requests.

    Args:
        recorder: of the application.
        environ: of the request, before its span is current.
    """
    span = recorder.span()
    is_in_job = span is not None and span.environ["REQUEST_METHOD"] is JOB_METHOD
    return is_in_job and _SET_BY_SERVERS.isdisjoint(environ)


def _flow() -> tuple[int, int]:
    """Return ids of the running thread and of the task in it: what opens and ends in order."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = None if asyncio is None else asyncio.current_task()
    except RuntimeError as error:  # no event loop runs
        raise_if_of_host(error)
        task = None
    return get_ident(), id(task)


def _known_name(recorder: Recorder, name: str) -> str:
    """Return the name of a job, or that of all for which there is no room."""
    worker = recorder.worker
    series = worker.series(JOB, (name,))
    known = series != worker.series(JOB, (OTHER,))
    return name[: JOB.longest] if known else OTHER


def _failure(error: BaseException) -> str | None:
    """Return the class of an error; ``None`` if it ends a command with success."""
    code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
    return None if code is None or code == 0 else type(error).__name__


def _record(
    recorder: Recorder, name: str, began: int, span: Span | None, failure: str | None
) -> None:
    """Record a finished run; its parts too if it has a span, and so is not a section."""
    clock = recorder.clock
    wall = max(0, clock.monotonic_ns() - began)
    if span is None:
        name = _known_name(recorder, name)
    else:
        name = span.endpoint or name
        cpu, run_queue = _finish(span, wall)
    worker = recorder.worker
    group: list[Observation] = [
        (worker.series(JOB, (name,)), 1, float(wall)),
        (worker.series(JOB_LAST, (name,)), 1, clock.wall()),
    ]
    if failure is not None:
        group.append((worker.series(JOB_FAILED, (name, failure)), 1, float(wall)))
    if span is not None:
        series = EndpointSeries(worker, name, JOB_METHOD)
        add_gc(span, series, group)
        if span.parts:
            add_parts(span, series, group)
        if cpu is not None:
            group.append((series.id(CPU), 1, float(cpu)))
            group.append((series.id(RUN_QUEUE), 1, float(run_queue)))
            group.append((series.id(SAMPLED_WALL), 1, float(wall)))
    recorder.emit(group, worker)


def _finish(span: Span, wall: int) -> tuple[int | None, int]:
    """End a span; return its CPU time and its time in the run queue, in nanoseconds."""
    clock = span.owner.clock
    cpu, run_queue = None, 0
    if span.cpu_began is not None and span.thread == get_ident():
        cpu = min(wall, max(0, clock.thread_ns() - span.cpu_began))
        run_queue = min(wall - cpu, max(0, clock.run_queue_ns() - span.run_queue_began))
        span.runnable_ns = cpu + run_queue
    else:
        span.cpu_began = None
    span.close_all(span.began + wall, None if cpu is None else clock.runnable_ns())
    span.finish()
    span.wall, span.ended = wall, True
    return cpu, run_queue


class Job:
    """A job with a name: a context manager, and a decorator of functions and coroutine functions.

    Args:
        resolve: returns the recorder of the current application, ``None`` outside one.
        name: the name.
    """

    def __init__(self, resolve: ResolveRecorder, name: str) -> None:
        self._resolve = resolve
        self._name = name
        self._open: dict[AbstractContextManager[None], tuple[int, int]] = {}

    def __enter__(self) -> None:
        running = run(self._resolve(), self._name)
        running.__enter__()
        self._open[running] = _flow()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        flow, opened = _flow(), self._open.copy()
        # it may end elsewhere than it began: a generator's consumer may move it to another thread
        own = [running for running, began_in in opened.items() if began_in == flow]
        running = (own or [*opened])[-1]
        del self._open[running]
        running.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Return a function each call of which is a run of this job.

        Raises:
            KnitPerfError: the function is a generator function.
        """
        resolve, name = self._resolve, self._name
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise KnitPerfError(
                f"{function.__qualname__} is a generator function, which runs while others consume "
                "it; put the job around its consumer"
            )

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with run(resolve(), name):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with run(resolve(), name):
                return await function(*args, **kwargs)

        is_async = inspect.iscoroutinefunction(function)
        return awaited if is_async else called  # type: ignore[return-value]


def job(resolve: ResolveRecorder, name: str | Callable[..., Any]) -> Any:
    """Return a :class:`Job` with a name, or a function whose calls are runs of the job of its name."""
    if isinstance(name, str):
        return Job(resolve, name)
    return Job(resolve, name.__qualname__.replace("<locals>.", ""))(name)
