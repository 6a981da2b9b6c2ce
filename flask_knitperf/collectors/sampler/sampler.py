"""The sampler: looks at threads with a request in flight, and notes what is on their stacks.

One thread per worker. A turn takes the stacks, and a fifth of a millisecond later looks at what the
threads did meanwhile: one that was on a core, or was ready and had none, has a stack that runs, any
other waits. That moment is short so that a thread rarely changes from one to the other within it, and
long enough for one that computes to get back the GIL, which a turn holds. Where more threads want a
core than there are, the state of one that did nothing tells whether it only lacked that. The sample
stands for the time since the turn before. Where no request is in flight, a turn is a look at an empty
dict.

*Coming late.* To look at all, the sampler needs the GIL, and a thread that computes gives it away after
five milliseconds, or at once where it begins to wait or runs code that needs no GIL. So a look that
comes late finds threads more often at the beginning of that than they are there. A look that is late by
those five milliseconds was *forced*: what runs then held the GIL when it should have been looked at.
After a shorter delay the GIL was given away, and what a thread that computed since the turn before does
now is not what it did then: its sample is *missed* (:meth:`...metrics.stack_trie.Trie.agreed` says what
becomes of it). So is one after which its thread held the GIL so long that the moment became long, if
the look was not forced: it may have waited until just then. Time for which the sampler itself had no
core is no delay.

Samples of a request are kept with it while it runs, one entry for each different stack, and are
folded into its endpoint's tries when it is over: only then it is known whether it was a slow one.

The cost of a turn is taken by the thread's own CPU clock, and turns become rarer where that exceeds
half a percent of a core. For a minute after somebody asked it is a hundred turns a second.

*Safety.* On CPython 3.11 a collection may begin within any allocation, and to take another thread's
frame, or the one below it, allocates. A finalizer that the collection runs lets that thread go on; it
leaves the frame, and what is taken is memory of something else (python/cpython#106883 is one case of
it). So there the collector is held off until all stacks are taken. From 3.12 on it runs only between
instructions.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NamedTuple

from ...core.code_locations import is_ours, is_own, line_of, loops, short
from ...core.errors import Stopped
from ...metrics.stack_trie import Path, Place, Sampled
from ...recording.recorder import Recorder
from ...recording.span import Span
from ..requests.endpoint_series import endpoint_of
from .async_stacks import behind
from .sample_buffer import Samples
from .thread_clocks import SHORT_NS, TELLS_RUNNING, Clocks, running_share

HZ, FAST_HZ = 20.0, 100.0
FAST_S = 60.0
SHARE, FAST_SHARE = 0.0041, 0.05
"""Of one core: what sampling is to cost at most, as a rule and while somebody asked for more."""
LATELY = 0.05
"""How much the latest turn counts for the cost of a turn."""
SLOWEST_S = 1.0
PAUSE_S = 0.00015
LATE_S = 0.001
HALF, NEARLY = 0.5, 0.9
STACKS_OF_A_REQUEST = 400
DEEPEST = 250
_CODES_KEPT = 10_000
_TOO_MANY_FAILURES = 5

Seen = tuple[Span, tuple[Path, int, bool]]
"""A request, its stack, the thread that works for it, and whether that is suspended."""
Known = tuple[Place | None, dict[int, Place] | None, CodeType]
"""Of a code object: its place, or (own code) places by instruction; and it itself, to keep its id."""
_BOTTOM = Place("", 0, "", False)


class Moment(NamedTuple):
    """What a turn knows beside the stacks.

    Attributes:
        now: when it began, in nanoseconds.
        late: seconds by which that was late, though there was a core.
        window: nanoseconds for which threads were watched after the look, likewise.
        others: nanoseconds that threads without a request computed meanwhile.
    """

    now: int
    late: float
    window: int
    others: int


class Pending:
    """The samples of a request that is still running.

    Attributes:
        stacks: ``[running, waiting, count, holding]`` by stack, see
        :class:`...metrics.stack_trie.Sampled`. missed: likewise. wall: its age when it was last seen,
        in nanoseconds. used: for how long its thread had been on a core then, in nanoseconds. thread:
        which thread that was. gone: it is not in flight any more, and has not ended: it is just ending.
    """

    __slots__ = ("gone", "missed", "stacks", "thread", "used", "wall")

    def __init__(self) -> None:
        self.stacks: dict[Path, list[int]] = {}
        self.missed = self.wall = self.thread = 0
        self.used: int | None = None
        self.gone = False

    def add(self, path: Path, weight: int, running: float, *, holding: bool = False) -> None:
        """Count one sample.

        Args:
            path: its stack.
            weight: nanoseconds that it stands for.
            running: share of them in which it ran.
            holding: it held the GIL when it should have been looked at.
        """
        row = self.stacks.get(path)
        if row is None:
            if len(self.stacks) >= STACKS_OF_A_REQUEST:
                path = path[:1]
            row = self.stacks.setdefault(path, [0, 0, 0, 0])
        ran = round(weight * running)
        row[0] += ran
        row[1] += weight - ran
        row[2] += 1
        if holding:
            row[3] += ran


class Sampler:
    """Samples one application in one process.

    Args:
        recorder: whose requests in flight are looked at.
        samples: where they go once a request is over.
        root_frames: code below which a stack is the server's, and not shown.
        is_async: whether an endpoint's view runs in another thread.
        pause: waits between the two glances, in seconds.

    Attributes:
        degraded: why it samples no more, empty while it does.
        share: of one core that it used lately.
    """

    def __init__(
        self, recorder: Recorder, samples: Samples, *, root_frames: Iterable[CodeType] = (),
        is_async: Callable[[str], bool] = lambda _: False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._recorder = recorder
        self._samples = samples
        self._bottoms = tuple(root_frames)
        self._is_async = is_async
        self._pause = pause
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pending: dict[Span, Pending] = {}
        self._known: dict[int, Known] = {id(code): (_BOTTOM, None, code) for code in self._bottoms}
        self._clocks = Clocks()
        self._last = self._ready = 0
        self._fast_until = 0.0
        self._cost_ns = self._gap_ns = 0.0
        self._failures = 0
        self.degraded = ""
        self.share = 0.0

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, unless it is known that it cannot sample here."""
        if self.degraded:
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._loop, args=(self._stopping,), name="flask_knitperf sampler", daemon=True
        )
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Have the thread end, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        self._pending.clear()
        self._clocks.close()

    def forget(self) -> None:
        """Be a sampler without a thread, in a forked child."""
        self._stopping, self._thread = threading.Event(), None
        self._pending, self._last = {}, 0
        self._clocks = Clocks()

    def faster(self) -> None:
        """Take a hundred turns a second for a minute."""
        self._fast_until = self._recorder.clock.monotonic_ns() / 1e9 + FAST_S

    def interval(self) -> float:
        """Return seconds until the next turn."""
        fast = self._recorder.clock.monotonic_ns() / 1e9 < self._fast_until
        wanted, share = (1 / FAST_HZ, FAST_SHARE) if fast else (1 / HZ, SHARE)
        return min(SLOWEST_S, max(wanted, self._cost_ns / 1e9 / share))

    def _loop(self, stopping: threading.Event) -> None:
        due = time.perf_counter() + self.interval()
        used, ended = time.thread_time_ns(), time.perf_counter_ns()
        while not stopping.wait(max(0.0, due - time.perf_counter())):
            try:
                self.turn(time.perf_counter() - due)
                self._failures = 0
            except Stopped:
                return
            except Exception as error:
                self._recorder.failed("sampler", error)
                self._failures += 1
                if self._failures >= _TOO_MANY_FAILURES:
                    self.degraded = f"stacks are not sampled any more: {error!r}"
                    return
            used, ended = self._account(used, ended)
            due = max(due + self.interval(), time.perf_counter())

    def _account(self, used: int, ended: int) -> tuple[int, int]:
        """Take note of what a turn and the wait before it cost; return the clocks now."""
        now_used, now = time.thread_time_ns(), time.perf_counter_ns()
        weight = 1.0 if not self._gap_ns else LATELY
        self._cost_ns += (now_used - used - self._cost_ns) * weight
        self._gap_ns += (now - ended - self._gap_ns) * weight
        self.share = self._cost_ns / max(1.0, self._gap_ns)
        return now_used, now

    # -- a turn --------------------------------------------------------------------------------------

    def turn(self, late: float = 0.0) -> None:
        """Look at every request in flight once, and fold those that are over.

        Args:
            late: seconds by which the turn began later than it should have.
        """
        recorder = self._recorder
        clock = recorder.clock.monotonic_ns
        spans = [span for span in list(recorder.spans) if not span.ended]
        now = clock()
        if spans:
            gap = round(self.interval() * 1e9)
            with without_collections():
                frames = sys._current_frames()
                seen = [(span, found) for span in spans if not span.ended
                        and (found := self._seen(span, frames)) is not None]  # fmt: skip
                frames.clear()
            before, everyone, began = self._used(seen), recorder.clock.process_ns(), clock()
            self._pause(PAUSE_S)
            after, window = self._used(seen), clock() - began
            everyone = recorder.clock.process_ns() - everyone
            others = everyone - sum(used - before.get(each, used) for each, used in after.items())
            crowded = self._clocks.crowded()
            shares = [self._share(one, before, after, window, crowded) for one in seen]
            lacked = self._lacked()
            moment = Moment(now, late - lacked / 1e9, window - lacked, others)
            self._count(seen, shares, before, moment, gap)
        self._last = now
        for span, pending in list(self._pending.items()):
            if span.ended or pending.gone:
                self._fold(span, self._pending.pop(span))
            else:
                pending.gone = span not in recorder.spans

    def _seen(self, span: Span, frames: dict[int, FrameType]) -> tuple[Path, int, bool] | None:
        """Return a request's stack, the thread that works for it, and whether that is suspended."""
        frame = frames.get(span.thread)
        if frame is None:
            return None
        path, thread, suspended = self._path(frame), span.thread, False
        if span.endpoint is None and self._is_async(endpoint_of(span)[0]):
            found = behind(frame, frames)
            if found is not None:
                path += self._path_of(found.frames)
                thread, suspended = found.thread, not found.running
        return tuple(path), thread, suspended

    def _share(
        self, one: Seen, before: dict[int, int], after: dict[int, int], window: int, crowded: bool
    ) -> float:
        """Return for which share of the moment after the look a request ran."""
        _, (_, thread, suspended) = one
        if suspended:
            return 0.0
        share = running_share(before.get(thread), after.get(thread), window)
        if crowded and not share and self._clocks.ready(thread):
            return 1.0  # it got no core in all that time
        return share

    def _count(
        self, seen: list[Seen], shares: list[float], used: dict[int, int], moment: Moment, gap: int
    ) -> None:
        """Count a sample of each request.

        Args:
            seen: requests and what they do.
            shares: of the moment in which each ran.
            used: for how long their threads were on a core so far.
            moment: after the look.
            gap: nanoseconds that are meant to lie between two turns.
        """
        now, late, window, others = moment
        before, long = self._last, window > SHORT_NS
        forced = late >= sys.getswitchinterval() * NEARLY
        unsure = long and not forced
        held = forced and (
            any(share > HALF for share in shares) or (long and others > window * HALF)
        )
        rows: list[tuple[Pending, Path, int, float, bool]] = []
        suspects = 0
        for (span, (path, thread, _)), share in zip(seen, shares, strict=True):
            pending = self._pending.get(span)
            if pending is None:
                pending = self._pending[span] = Pending()
                pending.thread, pending.used = span.thread, span.cpu_began
            ticks = used.get(thread)
            since = pending.used if pending.thread == thread else None
            ran = 0 if ticks is None or since is None else ticks - since
            away = late > LATE_S and not held and ran > late * 1e9 * HALF
            weight = stands_for(now, before, span.began, gap)
            pending.wall, pending.used, pending.thread = now - span.began, ticks, thread
            if unsure and ticks is not None and share > HALF:
                pending.missed += weight
            else:
                suspects += away
                rows.append((pending, path, weight, share, away))
        for pending, path, weight, share, away in rows:
            missed = weight // suspects if away else 0  # one of them held the GIL
            pending.missed += missed
            if missed < weight:
                pending.add(path, weight - missed, share, holding=forced and share > HALF)

    def _fold(self, span: Span, pending: Pending) -> None:
        pair = endpoint_of(span)
        wanted = -1 if self._is_async(pair[0]) else span.wanted  # which is of this thread only
        sampled = Sampled(pending.stacks, pending.missed, wanted)
        if span.notes is not None:
            span.notes.sampled = sampled
        self._samples.add(pair, span.wall or pending.wall, sampled)

    # -- clocks --------------------------------------------------------------------------------------

    def _lacked(self) -> int:
        """Return for how many nanoseconds this thread had no core since the last time it was asked.

        Whatever it is late by then says nothing of the GIL.
        """
        before, self._ready = self._ready, self._recorder.clock.run_queue_ns()
        return max(0, self._ready - before)

    def _used(self, seen: list[Seen]) -> dict[int, int]:
        """Return for how long the threads at work were on a core so far, by identity."""
        if not TELLS_RUNNING:
            return {}
        found: dict[int, int] = {}
        for _, (_, ident, _) in seen:
            used = self._clocks.used_ns(ident)
            if used is not None:
                found[ident] = used
        return found

    # -- places --------------------------------------------------------------------------------------

    def _path(self, frame: FrameType | None) -> list[Place]:
        """Return the places on a thread's stack above the server's, the outermost first.

        This runs for every frame of every sample, so it asks one dict for each.
        """
        path: list[Place] = []
        known, append = self._known, path.append
        for _ in range(DEEPEST):
            if frame is None:
                break
            code = frame.f_code
            place, lines, _ = known.get(id(code)) or self._learn(code)
            if lines is not None:
                place = lines.get(frame.f_lasti) or self._line(code, lines, frame)
            elif place is _BOTTOM:
                break
            if place is not None:
                append(place)
            frame = frame.f_back
        path.reverse()
        return path

    def _path_of(self, frames: Iterable[FrameType]) -> list[Place]:
        path: list[Place] = []
        for frame in frames:
            place, lines, _ = self._known.get(id(frame.f_code)) or self._learn(frame.f_code)
            if lines is not None:
                place = lines.get(frame.f_lasti) or self._line(frame.f_code, lines, frame)
            if place is not None and place is not _BOTTOM:
                path.append(place)
        return path

    def _learn(self, code: CodeType) -> Known:
        """Find out whose code it is: a place of a library, lines of own code, nothing of ours."""
        if len(self._known) >= _CODES_KEPT:
            self._known = {id(each): (_BOTTOM, None, each) for each in self._bottoms}
        file, _, _ = short(code.co_filename, 0).rpartition(":")
        found: Known
        if is_own(code):
            found = None, {}, code
        else:
            place = None if is_ours(code) else Place(file, 0, code.co_qualname, False)
            found = place, None, code
        self._known[id(code)] = found
        return found

    def _line(self, code: CodeType, lines: dict[int, Place], frame: FrameType) -> Place:
        file, _, _ = short(code.co_filename, 0).rpartition(":")
        line, step = line_of(frame), frame.f_lasti
        looped = any(first <= step <= last for first, last in loops(code))
        place = lines[step] = Place(file, line, code.co_qualname, True, looped)
        return place


def stands_for(now: int, last: int, began: int, gap: int) -> int:
    """Return how many nanoseconds a sample counts: those since the turn before.

    It does so too in a request that is younger than that, for of many short requests only some are
    seen, and early lines of a request would count less than late ones otherwise. But a turn that comes
    far too late tells nothing of the time before a request.

    Args:
        now: when it was taken.
        last: when the turn before was.
        began: when its request began.
        gap: nanoseconds that are meant to lie between two turns.
    """
    return max(0, min(now - last, max(now - began, gap)))


@contextmanager
def without_collections() -> Iterator[None]:
    """Hold the collector off where it may run within any allocation, and leave it as it was."""
    if sys.version_info >= (3, 12) or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
