"""Sampling profiler: stacks of the requests in flight, 20 times a second.

One thread per worker. A tick takes the stacks, and a fifth of a millisecond later reads the clocks of
their threads: a thread that was on a core in that *window*, or runnable without one, has a stack that
runs; any other waits. The window is short, so that a thread rarely changes from one to the other within
it, and long enough for a thread that computes to get back the GIL, which a tick holds. On a machine with
more runnable threads than cores, the scheduler state of a thread without CPU time shows whether it is
waiting for a core only. A sample stands for the time since the previous tick (:mod:`.sample_counter`).
Without a request in flight a tick is a look at an empty dict; an idle worker looks twice a second.

The samples of a request are kept with it while it is in flight, one entry per distinct stack, and are
added to its endpoint's tries when it has ended: only then it is known whether it was slow.

The cost of a tick is measured by the thread's CPU clock, and ticks become rarer where that exceeds half
a percent of a core. In detail mode, which lasts a minute, there are a hundred ticks a second.

*Safety.* On CPython 3.11 a garbage collection may start within any allocation, and taking another
thread's frame, or the frame below it, allocates. A finalizer called by the collection lets that thread
go on; it leaves the frame, and the pointer that was taken dangles (python/cpython#106883 is one such
case). So the collector is disabled there until all stacks are taken. From 3.12 on it runs only between
instructions.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType

from ...core.errors import Stopped
from ...metrics.stack_trie import Sampled
from ...recording.recorder import Recorder
from ...recording.span import Span
from ..requests.endpoint_series import endpoint_of
from ..waits.thread_pools import working_thread
from .async_stacks import async_stack
from .sample_buffer import SampleBuffer
from .sample_counter import RequestSamples, SampleCounter, StackSample, TickTiming
from .stack_reader import StackReader
from .thread_clocks import HAS_THREAD_CLOCKS, ThreadClocks, running_share

RATE_HZ = 20.0
DETAIL_RATE_HZ = 100.0
DETAIL_S = 60.0
MAX_CORE_SHARE = 0.0041
"""Share of one core that sampling may cost."""
DETAIL_MAX_CORE_SHARE = 0.05
COST_SMOOTHING = 0.05
"""Weight of the latest tick in the moving average of the cost."""
MAX_INTERVAL_S = 1.0
IDLE_INTERVAL_S = 0.5
"""Time between two ticks of an idle worker."""
WINDOW_S = 0.00015
_MAX_FAILURES = 5
"""Number of consecutive failures after which sampling stops."""


class Sampler:
    """Samples one application in one process after another.

    Args:
        recorder: whose requests in flight are sampled.
        buffer: receives the samples of a request when it has ended.
        root_frames: code below which a stack belongs to the server, and is not shown.
        is_async: returns whether an endpoint's view runs in another thread.
        pause: waits for a number of seconds.

    Attributes:
        degraded: reason why sampling stopped, empty while it runs.
        share: share of one core used recently, 0 to 1.
    """

    def __init__(
        self, recorder: Recorder, buffer: SampleBuffer, *, root_frames: Iterable[CodeType] = (),
        is_async: Callable[[str], bool] = lambda _: False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._recorder = recorder
        self._buffer = buffer
        self._reader = StackReader(root_frames)
        self._is_async = is_async
        self._pause = pause
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._counter = SampleCounter()
        self._clocks = ThreadClocks()
        self._run_queue_ns = self._number = 0
        self._detail_until = 0.0
        self._cost_ns = self._period_ns = 0.0
        self._failures = 0
        self.degraded = ""
        self.share = 0.0
        recorder.span_holders.append(self.holds)

    def holds(self, span: Span) -> bool:
        """Return whether samples of a request are kept until its end."""
        return span in self._counter.requests

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, unless sampling is known not to work here."""
        if self.degraded:
            return
        self._stopping = threading.Event()
        thread = threading.Thread(
            target=self._loop, args=(self._stopping,), name="flask_knitperf sampler", daemon=True
        )
        thread.start()
        self._thread = thread

    def stop(self, seconds: float = 1.0) -> None:
        """Stop the thread, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        self._counter.requests.clear()
        self._clocks.close()

    def forget(self) -> None:
        """Drop the thread, which does not exist in a forked child."""
        self._stopping, self._thread = threading.Event(), None
        self._counter = SampleCounter()
        self._clocks = ThreadClocks()

    def sample_in_detail(self) -> None:
        """Sample a hundred times a second for a minute."""
        self._detail_until = self._recorder.clock.monotonic_ns() / 1e9 + DETAIL_S

    def interval(self) -> float:
        """Return the seconds until the next tick."""
        if self._recorder.idle and not self._recorder.spans:
            return IDLE_INTERVAL_S
        detail = self._recorder.clock.monotonic_ns() / 1e9 < self._detail_until
        rate = DETAIL_RATE_HZ if detail else RATE_HZ
        share = DETAIL_MAX_CORE_SHARE if detail else MAX_CORE_SHARE
        return min(MAX_INTERVAL_S, max(1 / rate, self._cost_ns / 1e9 / share))

    def _loop(self, stopping: threading.Event) -> None:
        due = time.perf_counter() + self.interval()
        cpu, ended = time.thread_time_ns(), time.perf_counter_ns()
        while not stopping.wait(max(0.0, due - time.perf_counter())):
            try:
                self.tick(time.perf_counter() - due)
                self._failures = 0
            except Stopped:
                return
            except Exception as error:
                self._recorder.failed("sampler", error)
                self._failures += 1
                if self._failures >= _MAX_FAILURES:
                    self.degraded = f"stacks are not sampled any more: {error!r}"
                    return
            cpu, ended = self._account(cpu, ended)
            due = max(due + self.interval(), time.perf_counter())

    def _account(self, cpu: int, ended: int) -> tuple[int, int]:
        """Update the cost of sampling.

        Args:
            cpu: CPU time of this thread at the end of the previous tick, in nanoseconds.
            ended: time of that end.

        Returns:
            Both at present.
        """
        cpu_now, now = time.thread_time_ns(), time.perf_counter_ns()
        weight = 1.0 if not self._period_ns else COST_SMOOTHING
        self._cost_ns += (cpu_now - cpu - self._cost_ns) * weight
        self._period_ns += (now - ended - self._period_ns) * weight
        self.share = self._cost_ns / max(1.0, self._period_ns)
        return cpu_now, now

    # -- a tick --------------------------------------------------------------------------------------

    def tick(self, late: float = 0.0) -> None:
        """Sample every request in flight, and hand over those that have ended.

        Args:
            late: delay of the tick in seconds.
        """
        spans = [span for span in list(self._recorder.spans) if not span.ended]
        now = self._recorder.clock.monotonic_ns()
        if spans:
            self._sample_all(spans, now, late)
        self._counter.previous = now
        requests = self._counter.requests
        for span, request in requests.copy().items():
            if span.ended or request.ending:
                self._hand_over(span, requests.pop(span))
            else:
                request.ending = span not in self._recorder.spans

    def _sample_all(self, spans: Sequence[Span], now: int, late: float) -> None:
        clock = self._recorder.clock
        self._number += 1
        interval_ns = round(self.interval() * 1e9)
        with without_collections():
            frames = sys._current_frames()
            samples = [sample for span in spans if not span.ended
                       and (sample := self._sample(span, frames)) is not None]  # fmt: skip
            frames.clear()
        before, process_before = self._thread_cpu(samples), clock.process_ns()
        started = clock.monotonic_ns()
        self._pause(WINDOW_S)
        after, window = self._thread_cpu(samples), clock.monotonic_ns() - started
        process_cpu = clock.process_ns() - process_before
        others = process_cpu - sum(cpu - before.get(ident, cpu) for ident, cpu in after.items())
        oversubscribed = self._clocks.oversubscribed()
        shares = [
            self._running_share(sample, before, after, window, oversubscribed) for sample in samples
        ]
        queued = self._run_queue_wait()
        timing = TickTiming(now, late - queued / 1e9, window - queued, others)
        self._counter.count(samples, shares, before, timing, interval_ns)

    def _sample(self, span: Span, frames: dict[int, FrameType]) -> StackSample | None:
        """Return a request's stack, ``None`` where its thread has ended."""
        frame = frames.get(span.thread)
        if frame is None:
            return None
        path, thread, suspended = self._reader.stack(frame), span.thread, False
        worker = working_thread(span, self._number)
        if worker is not None and worker in frames:
            path += self._reader.task(frames[worker])
            thread = worker
        if span.endpoint is None and self._is_async(endpoint_of(span)[0]):
            coroutine = async_stack(frame, frames)
            if coroutine is not None:
                path += self._reader.convert(coroutine.frames)
                thread, suspended = coroutine.thread, not coroutine.running
        return StackSample(span, tuple(path), thread, suspended)

    def _running_share(
        self, sample: StackSample, before: Mapping[int, int], after: Mapping[int, int], window: int,
        oversubscribed: bool,
    ) -> float:  # fmt: skip
        """Return the share of the window in which a stack ran, or was in the run queue throughout."""
        if sample.suspended:
            return 0.0
        share = running_share(before.get(sample.thread), after.get(sample.thread), window)
        if oversubscribed and not share and self._clocks.runnable(sample.thread):
            return 1.0
        return share

    def _hand_over(self, span: Span, request: RequestSamples) -> None:
        key = endpoint_of(span)
        # the span's clock is that of its thread, in which an async view or a pool does not run
        elsewhere = request.is_elsewhere or self._is_async(key[0])
        runnable_ns = -1 if elsewhere else span.runnable_ns
        sampled = Sampled(request.stacks, request.missed, runnable_ns)
        if span.notes is not None:
            span.notes.sampled = sampled
        self._buffer.add(key, span.wall or request.wall, sampled)

    # -- clocks --------------------------------------------------------------------------------------

    def _run_queue_wait(self) -> int:
        """Return this thread's nanoseconds in the run queue since the previous call.

        A delay by that much is not caused by the GIL.
        """
        before, self._run_queue_ns = self._run_queue_ns, self._recorder.clock.run_queue_ns()
        return max(0, self._run_queue_ns - before)

    def _thread_cpu(self, samples: Iterable[StackSample]) -> dict[int, int]:
        """Return the CPU time of the sampled threads in nanoseconds, by identity."""
        if not HAS_THREAD_CLOCKS:
            return {}
        readings = {sample.thread: self._clocks.cpu_ns(sample.thread) for sample in samples}
        return {ident: cpu for ident, cpu in readings.items() if cpu is not None}


@contextmanager
def without_collections() -> Iterator[None]:
    """Disable the garbage collector where it may run within any allocation, and restore it."""
    if sys.version_info >= (3, 12) or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
