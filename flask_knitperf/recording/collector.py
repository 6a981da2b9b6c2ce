"""The protocols of collectors: the seam at which new measurements are added.

A collector declares meters, turns their label values into series, and records numbers to these. It
does so at up to three points, each of which is one of the protocols:

* when any request finishes, and periodically: :class:`Collector`, registered once per application with
  :meth:`.Recorder.register`;
* when a request finishes in which it observed something: :class:`RequestCollector`, attached to that
  request with :meth:`.Span.attach`. Requests without one keep the fast path, so this is the cheaper way;
* in a separate thread: :class:`BackgroundThread`.

``docs/contributing/add-a-collector.md`` has a complete example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

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


class BackgroundThread(Protocol):
    """A thread that runs while a process records, as the housekeeper does."""

    def start(self) -> None:
        """Start the thread in this process."""

    def stop(self) -> None:
        """Stop the thread; the process continues without it."""

    def forget(self) -> None:
        """Forget the thread in a forked child, which does not have it."""
