"""Attribution of samples: how much time each sampled stack stands for, running or waiting.

*Late ticks.* The sampler needs the GIL to take stacks, and a thread that computes releases it after the
switch interval (five milliseconds), or at once where it starts to wait or runs code without the GIL. So
a late tick finds threads more often at the start of a wait than they are there. A tick that is late by
the switch interval was *forced*: the thread that runs then held the GIL when the sample was due. After
a shorter delay the GIL was released voluntarily, and what a thread that computed since the previous
tick does now is not what it did then: its sample is *missed* (:meth:`...metrics.stack_trie.Trie.agreed`
redistributes it). A sample is missed too if its thread held the GIL so long after the tick that the
window became long, unless the tick was forced: it may have waited until just then. Time that the
sampler itself spent in the run queue is not a delay.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...metrics.stack_trie import Path
from ...recording.span import Span
from .thread_clocks import LONG_WINDOW_NS

MAX_STACKS_PER_REQUEST = 400
_MIN_LATE_S = 0.001
_MAJORITY = 0.5
"""Share of a duration from which a thread counts as its user."""
_FORCED_SHARE = 0.9
"""Share of the switch interval from which a late tick counts as forced."""


class StackSample(NamedTuple):
    """Stack of one request at one tick.

    Attributes:
        span: the request.
        path: its stack, the outermost frame first.
        thread: identity of the thread that works for it.
        suspended: whether it is a coroutine that does not run.
    """

    span: Span
    path: Path
    thread: int
    suspended: bool


class TickTiming(NamedTuple):
    """Timing of one tick.

    Attributes:
        now: its start, in nanoseconds on the recorder's clock.
        late: its delay in seconds, without time in the run queue.
        window: length of the window after the samples, in nanoseconds, without time in the run queue.
        others: CPU time in that window of threads without a request, in nanoseconds.
    """

    now: int
    late: float
    window: int
    others: int


class RequestSamples:
    """Samples of a request that is in flight.

    Attributes:
        stacks: ``[running, waiting, count, holding]`` by stack, see
            :class:`...metrics.stack_trie.Sampled`.
        missed: nanoseconds of missed samples.
        wall: age of the request at the latest sample, in nanoseconds.
        cpu: CPU time of its thread at the latest sample, in nanoseconds, ``None`` where unknown.
        thread: identity of that thread.
        ending: whether it is no longer in flight though its span has not ended yet.
        is_elsewhere: whether any sample is of another thread than the request's.
    """

    __slots__ = ("cpu", "ending", "is_elsewhere", "missed", "stacks", "thread", "wall")

    def __init__(self, thread: int, cpu: int | None) -> None:
        self.stacks: dict[Path, list[int]] = {}
        self.missed = self.wall = 0
        self.thread, self.cpu = thread, cpu
        self.ending = self.is_elsewhere = False

    def add(self, path: Path, weight: int, running: float, *, holding: bool = False) -> None:
        """Add one sample.

        Args:
            path: its stack.
            weight: nanoseconds that it stands for.
            running: share of the weight in which it ran, 0 to 1.
            holding: whether it held the GIL when the sample was due.
        """
        row = self.stacks.get(path)
        if row is None:
            if len(self.stacks) >= MAX_STACKS_PER_REQUEST:
                path = path[:1]
            row = self.stacks.setdefault(path, [0, 0, 0, 0])
        ran = round(weight * running)
        row[0] += ran
        row[1] += weight - ran
        row[2] += 1
        if holding:
            row[3] += ran


class _Weighted(NamedTuple):
    """A sample with its weight.

    Attributes:
        request: the samples of its request.
        path: its stack.
        weight: nanoseconds that it stands for.
        share: of the weight in which it ran, 0 to 1.
        displaced: whether its stack may differ from the one at the time the sample was due.
    """

    request: RequestSamples
    path: Path
    weight: int
    share: float
    displaced: bool


class SampleCounter:
    """Samples of all requests in flight.

    Attributes:
        requests: the samples by request.
        previous: start of the previous tick, in nanoseconds on the recorder's clock.
    """

    def __init__(self) -> None:
        self.requests: dict[Span, RequestSamples] = {}
        self.previous = 0

    def count(
        self, samples: Sequence[StackSample], shares: Sequence[float], cpu: Mapping[int, int],
        timing: TickTiming, interval: int,
    ) -> None:  # fmt: skip
        """Add one tick's samples.

        Args:
            samples: one for each request in flight.
            shares: of the window in which each ran, 0 to 1.
            cpu: CPU time of their threads in nanoseconds, by identity.
            timing: of the tick.
            interval: intended nanoseconds between two ticks.
        """
        forced = timing.late >= sys.getswitchinterval() * _FORCED_SHARE
        long = timing.window > LONG_WINDOW_NS
        explained = forced and (
            any(share > _MAJORITY for share in shares)
            or (long and timing.others > timing.window * _MAJORITY)
        )
        voluntary = timing.late > _MIN_LATE_S and not explained
        weighted: list[_Weighted] = []
        for sample, share in zip(samples, shares, strict=True):
            request = self._request(sample.span)
            thread_cpu = cpu.get(sample.thread)
            before = request.cpu if request.thread == sample.thread else None
            ran = 0 if thread_cpu is None or before is None else thread_cpu - before
            weight = sample_weight(timing.now, self.previous, sample.span.began, interval)
            request.wall = timing.now - sample.span.began
            request.cpu, request.thread = thread_cpu, sample.thread
            request.is_elsewhere |= sample.thread != sample.span.thread
            if long and not forced and thread_cpu is not None and share > _MAJORITY:
                request.missed += weight
            else:
                displaced = voluntary and ran > timing.late * 1e9 * _MAJORITY
                weighted.append(_Weighted(request, sample.path, weight, share, displaced))
        _add(weighted, forced)

    def _request(self, span: Span) -> RequestSamples:
        request = self.requests.get(span)
        if request is None:
            request = self.requests[span] = RequestSamples(span.thread, span.cpu_began)
        return request


def _add(weighted: Sequence[_Weighted], forced: bool) -> None:
    """Add samples to their requests; of the displaced ones, one held the GIL and is missed."""
    displaced_count = sum(sample.displaced for sample in weighted)
    for request, path, weight, share, displaced in weighted:
        missed = weight // displaced_count if displaced else 0
        request.missed += missed
        if missed < weight:
            request.add(path, weight - missed, share, holding=forced and share > _MAJORITY)


def sample_weight(now: int, previous: int, began: int, interval: int) -> int:
    """Return the nanoseconds that a sample stands for: the time since the previous tick.

    That holds for a request that is younger, too: only some of many short requests are sampled, and
    early lines of a request would otherwise count less than late ones. But a tick that comes far too
    late carries no information on the time before a request.

    Args:
        now: start of the tick.
        previous: start of the previous tick.
        began: start of the request.
        interval: intended nanoseconds between two ticks.
    """
    return max(0, min(now - previous, max(now - began, interval)))
