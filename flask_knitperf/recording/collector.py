"""The protocols of collectors: the seam at which new measurements are added.

A collector declares meters, turns their label values into series, and records numbers to these. It
does so at up to four points, each of which is one of the protocols:

* when any request finishes, and periodically: :class:`Collector`, registered once per application with
  :meth:`.Recorder.register`;
* when a request finishes in which it observed something: :class:`RequestCollector`, attached to that
  request with :meth:`.Span.attach`. Requests without one keep the fast path, so this is the cheaper way;
* at each call of a profiled function: :class:`CallWatch`;
* in a separate thread: :class:`BackgroundThread`.

``docs/contributing/add-a-collector.md`` has a complete example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..metrics.instruments import Meter
    from .recorder import Recorder
    from .span import Span

Job = Callable[[], object]


class Collector(Protocol):
    """Records numbers about requests, or about each worker process.

    While a collector is registered, every request takes the slow path (a few microseconds).

    Attributes:
        name: name under which failures are reported.
        meters: the meters that it records to.
    """

    name: str
    meters: tuple[Meter, ...]

    def request_finished(self, recorder: Recorder, span: Span) -> None:
        """Record a request that has just finished.

        Runs in the thread of the request, before the response leaves the worker. An error is logged
        once and counted; the request goes on.

        Args:
            recorder: the recorder to write to, with :meth:`.Recorder.series` and
                :meth:`.Recorder.record`.
            span: the request, with its ``endpoint``, ``status``, ``wall``, ``length`` and ``parts``.
        """

    def jobs(self, recorder: Recorder) -> Iterable[tuple[float, Job]]:
        """Return jobs of the housekeeper thread, each with its interval in seconds.

        Args:
            recorder: the recorder that the jobs write to.
        """


class RequestCollector(Protocol):
    """Buffers observations of one request, and records them when the request ends."""

    def settle(self, span: Span) -> None:
        """Record what is buffered so far; may be called more than once."""

    def finish(self, span: Span) -> None:
        """Record what is known only once the request ends."""

    def add_events(self, span: Span) -> None:
        """Add events to the timeline of a request that is kept."""


class CallWatch(Protocol):
    """Watches the calls of one profiled function; what it raises is a failure of ours."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a call that begins, ``None`` if it is not watched.

        Args:
            args: its positional arguments.
            kwargs: its keyword arguments.
        """

    def end(self, call: Any, began: int, ended: int, result: Any) -> None:
        """Note the end of a call.

        Args:
            call: of :meth:`begin`.
            began: start of the call, in monotonic nanoseconds.
            ended: its end.
            result: of the function.
        """

    def fail(self, call: Any, began: int, ended: int) -> None:
        """Note the end of a call that has raised; arguments as for :meth:`end`."""


class CallWatches(Protocol):
    """Creates the watches of the profiled functions of one application."""

    def of(self, function: Callable[..., Any], name: str, where: str) -> CallWatch | None:
        """Return the watch of a function, ``None`` if it is not watched.

        Args:
            function: a function, or a bound method, whose watch gets the instance as first argument.
            name: in reports.
            where: its ``file:line``.
        """


class BackgroundThread(Protocol):
    """A thread that runs while a process records, as the housekeeper does."""

    def start(self) -> None:
        """Start the thread in this process."""

    def stop(self) -> None:
        """Stop the thread; the process continues without it."""

    def forget(self) -> None:
        """Forget the thread in a forked child, which does not have it."""
