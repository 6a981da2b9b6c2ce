"""The sampler: the right line, running or waiting, for requests in flight and nobody else."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time as system_time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.analysis.hot_lines import top_lines, whole
from flask_knitperf.collectors.sampler import sample_buffer as samples_of
from flask_knitperf.collectors.sampler import sampler as module
from flask_knitperf.collectors.sampler import thread_clocks
from flask_knitperf.collectors.sampler.sample_buffer import Samples
from flask_knitperf.collectors.sampler.sampler import Moment, Pending, Sampler, stands_for
from flask_knitperf.collectors.sampler.thread_clocks import Clocks, running_share
from flask_knitperf.metrics.stack_trie import NORMAL, SLOW, Place, Sampled
from flask_knitperf.recording.recorder import Recorder
from flask_knitperf.recording.span import Span

MS = 1_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a thread used")


def line_of(mark: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith("# " + mark))
    return f"sampler/test_sampler.py:{number}"


def wait_for_rest(thread: threading.Thread) -> None:
    """Wait until a thread does nothing any more."""
    clocks, before = Clocks(), None
    while (now := clocks.used_ns(thread.ident or 0)) != before:
        before = now
        system_time.sleep(0.02)
    clocks.close()


class Watched:
    """An application whose view stands still until it was looked at so many times."""

    def __init__(self, mill: Any) -> None:
        self.mill = mill
        self.session = mill.session
        self.sampler = Sampler(
            self.session.recorder, self.session.samples, pause=self._pause,
            root_frames=(type(mill.app).wsgi_app.__code__,),
            is_async=lambda endpoint: endpoint == "awaiting",
        )  # fmt: skip
        self.meanwhile: Callable[[], Any] = lambda: None

    def _pause(self, seconds: float) -> None:
        self.meanwhile()
        system_time.sleep(seconds)

    def while_in(
        self, view: Callable[[], Any], inside: threading.Event, turns: int = 3, rests: bool = False,
        late: float = 0.0,
    ) -> None:  # fmt: skip
        """Serve a view in a thread, and look at it once it says that it is there.

        Args:
            view: what to serve.
            inside: set by the view.
            turns: how often to look.
            rests: whether to wait until its thread does nothing any more.
            late: by how many seconds the looks are late.
        """
        self.mill.app.add_url_rule("/v", "v", lambda: str(view())[:0])
        thread = threading.Thread(target=self.mill.get, args=("/v",))
        thread.start()
        assert inside.wait(10)
        if rests:
            wait_for_rest(thread)
        for _ in range(turns):
            self.sampler.turn(late)
        self.done.set()
        thread.join(10)
        self.sampler.turn()

    done = threading.Event()

    def lines(self, endpoint: str = "v") -> list[Any]:
        tries = self.session.details.read(None, 0, 0)
        return top_lines(whole(tries.get((endpoint, "GET"), {})))


@pytest.fixture
def sampled(make_app: Callable[..., Any]) -> Iterator[Watched]:
    made = Watched(make_app(TESTING=True))
    made.done = threading.Event()
    yield made
    made.done.set()
    made.sampler.stop()


# -- what is seen ------------------------------------------------------------------------------------


@linux
def test_a_wait_is_seen_at_its_line_as_waiting(sampled: Watched) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)  # waits here

    sampled.while_in(view, inside, rests=True)
    [line] = sampled.lines()
    assert line.where == line_of("waits here")
    assert (line.samples, line.running) == (3, 0) and line.waiting > 0
    assert line.function.endswith("view") and next(iter(line.inside)) == "Event.wait"


@linux
def test_computing_is_seen_at_its_line_as_running(sampled: Watched) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        while not sampled.done.is_set():
            sum(range(2000))  # computes here

    sampled.while_in(view, inside, turns=8, late=0.005)  # as a turn is where somebody computes
    lines = sampled.lines()
    running, waiting = sum(line.running for line in lines), sum(line.waiting for line in lines)
    assert running > waiting
    assert line_of("computes here") in [line.where for line in lines]


@pytest.mark.parametrize("computes", [False, True])
def test_an_async_view_is_seen_though_another_thread_runs_it(
    sampled: Watched, computes: bool
) -> None:
    inside = threading.Event()

    async def awaiting() -> str:
        inside.set()
        while not sampled.done.is_set():
            if computes:
                sum(range(2000))  # computes in a coroutine
            else:
                await asyncio.sleep(0.001)  # awaits here
        return ""

    sampled.mill.app.add_url_rule("/awaiting", "awaiting", awaiting)
    thread = threading.Thread(target=sampled.mill.get, args=("/awaiting",))
    thread.start()
    assert inside.wait(10)
    for _ in range(2000):  # at first the thread that runs it is not known yet
        sampled.sampler.turn(0.005 if computes else 0.0)
        stacks = [path for each in sampled.sampler._pending.values() for path in each.stacks]
        if any(place.own for path in stacks for place in path):
            break
    sampled.done.set()
    thread.join(10)
    sampled.sampler.turn()
    found = {line.where for line in sampled.lines("awaiting")}
    assert line_of("computes in a coroutine" if computes else "awaits here") in found


def test_only_requests_in_flight_are_looked_at(sampled: Watched) -> None:
    other = threading.Thread(target=sampled.done.wait, args=(10,))
    other.start()
    sampled.mill.get("/")
    sampled.sampler.turn()
    sampled.done.set()
    other.join()
    assert sampled.session.details.read(None, 0, 0) == {}


def test_a_stack_ends_at_the_application_and_leaves_this_package_out(sampled: Watched) -> None:
    inside = threading.Event()

    def view() -> None:
        with sampled.mill.perf.section("wait"):
            inside.set()
            sampled.done.wait(10)

    sampled.while_in(view, inside, turns=1)
    trie = whole(sampled.session.details.read(None, 0, 0)["v", "GET"])
    [(path, _)] = list(trie.stacks())
    assert path[0].function == "Flask.full_dispatch_request"
    assert not [place for place in path if "flask_knitperf" in place.file]


def test_a_request_that_ended_meanwhile_is_folded_not_sampled(sampled: Watched) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.meanwhile = sampled.done.set
    sampled.while_in(view, inside, turns=1)
    assert [line.samples for line in sampled.lines()] == [1]


# -- what one sample stands for ------------------------------------------------------------------------


A, B = (Place("a.py", 1, "f", True),), (Place("a.py", 2, "f", True),)


def test_a_sample_is_divided_by_the_share_that_ran() -> None:
    pending = Pending()
    pending.add(A, 100, 0.25)
    pending.add(A, 10, 1.0, holding=True)
    assert pending.stacks == {A: [35, 75, 2, 10]}


@pytest.mark.parametrize(
    ("last", "began", "weight"),
    [
        (950, 0, 50),  # a request that is older than the turn before
        (950, 990, 50),  # a younger one stands for those like it that nobody saw
        (0, 990, 50),  # the first turn, or one that came far too late
        (0, 100, 900),  # too late, for somebody held the GIL: the request waited all the time
        (1100, 0, 0),  # a clock that went back
    ],
)
def test_a_sample_stands_for_the_time_since_the_turn_before(
    last: int, began: int, weight: int
) -> None:
    assert stands_for(1000, last, began, 50) == weight


def test_early_and_late_lines_of_short_requests_count_alike() -> None:
    """Requests of 10 that begin at 0, 17, 34, … and are looked at every 50: half and half."""
    counted = [0, 0]
    for now in range(50, 50_000, 50):
        age = now % 17
        if age < 10:
            counted[age // 5] += stands_for(now, now - 50, now - age, 50)
    assert 0.97 < counted[0] / counted[1] < 1.03
    assert 0.97 < sum(counted) / (50_000 * 10 / 17) < 1.03


# -- looks that come late -----------------------------------------------------------------------------


class Late:
    """Requests of half a second that are counted in a turn that comes late by 3 ms."""

    def __init__(self, recorder: Recorder) -> None:
        self.sampler = Sampler(recorder, Samples(lambda _: 1))
        self.sampler._last = 50 * MS
        self.spans: list[Span] = []

    def count(
        self, *rows: tuple[float, int], late: float = 0.003, window: int = MS // 5, others: int = 0
    ) -> list[Pending]:
        """Count a sample of each request: which share of the moment it ran, and what it used lately."""
        seen, used = [], {}
        for number, (_, ran) in enumerate(rows):
            span = Span(None, {}, 0)
            span.thread, span.cpu_began = number, 7
            used[number] = 7 + ran
            seen.append((span, (A, number, False)))
        shares = [share for share, _ in rows]
        moment = Moment(100 * MS, late, window, others)
        self.sampler._count(seen, shares, used, moment, 50 * MS)
        return [self.sampler._pending[span] for span, _ in seen]


@pytest.fixture
def late(recorder: Recorder) -> Late:
    return Late(recorder)


def test_what_computed_and_waits_when_a_look_comes_late_is_missed(late: Late) -> None:
    [pending] = late.count((0.0, 30 * MS))
    assert (pending.missed, pending.stacks) == (50 * MS, {})


def test_what_waited_all_the_time_is_not_missed(late: Late) -> None:
    [pending] = late.count((0.0, 1 * MS))
    assert (pending.missed, pending.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_nothing_is_missed_by_a_look_in_time(late: Late) -> None:
    [pending] = late.count((0.0, 30 * MS), late=0.0)
    assert (pending.missed, pending.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_what_runs_when_a_look_was_forced_held_the_lock_and_nothing_else_did(late: Late) -> None:
    waits, runs = late.count((0.0, 30 * MS), (1.0, 30 * MS), late=0.005)
    assert (waits.missed, waits.stacks) == (0, {A: [0, 50 * MS, 1, 0]})
    assert (runs.missed, runs.stacks) == (0, {A: [50 * MS, 0, 1, 50 * MS]})


def test_what_runs_when_the_lock_was_given_away_did_something_else_before(late: Late) -> None:
    """It runs code that needs no lock, after it had computed with it."""
    [pending] = late.count((1.0, 30 * MS))
    assert (pending.missed, pending.stacks) == (50 * MS, {})


def test_a_forced_look_after_which_nothing_runs_missed_what_computed(late: Late) -> None:
    [pending] = late.count((0.0, 30 * MS), late=0.005)
    assert (pending.missed, pending.stacks) == (50 * MS, {})


def test_what_a_thread_without_a_request_held_the_lock_for_is_not_missed(late: Late) -> None:
    [pending] = late.count((0.0, 30 * MS), late=0.005, window=5 * MS, others=4 * MS)
    assert (pending.missed, pending.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_of_two_that_may_have_held_the_lock_each_is_half_missed(late: Late) -> None:
    for pending in late.count((0.0, 30 * MS), (0.0, 20 * MS)):
        assert (pending.missed, pending.stacks) == (25 * MS, {A: [0, 25 * MS, 1, 0]})


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_what_held_the_lock_after_a_look_that_was_not_forced_may_have_waited_until_then(
    late: Late, seconds: float
) -> None:
    runs, waits = late.count((1.0, 30 * MS), (0.0, 0), late=seconds, window=5 * MS)
    assert (runs.missed, runs.stacks) == (50 * MS, {})
    assert (waits.missed, waits.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_what_held_the_lock_after_a_forced_look_held_it_before(late: Late) -> None:
    [pending] = late.count((1.0, 30 * MS), late=0.005, window=5 * MS)
    assert (pending.missed, pending.stacks) == (0, {A: [50 * MS, 0, 1, 50 * MS]})


def test_the_clock_of_another_thread_does_not_tell_what_this_one_computed(late: Late) -> None:
    span = Span(None, {}, 0)
    span.thread, span.cpu_began = 1, 7
    moment = Moment(100 * MS, 0.003, 0, 0)
    late.sampler._count([(span, (A, 2, False))], [0.0], {2: 99 * MS}, moment, 50 * MS)
    assert late.sampler._pending[span].missed == 0


def test_what_nobody_measured_is_not_missed(late: Late) -> None:
    span = Span(None, {}, 0)
    moment = Moment(100 * MS, 0.003, MS // 5, 0)
    late.sampler._count([(span, (A, 1, False))], [0.0], {}, moment, 50 * MS)
    assert late.sampler._pending[span].missed == 0


def test_a_request_keeps_only_so_many_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STACKS_OF_A_REQUEST", 3)
    pending = Pending()
    for number in range(9):
        pending.add((*A, Place("a.py", number, "g", True)), 10, 1.0)
    assert len(pending.stacks) == 4 and sum(row[0] for row in pending.stacks.values()) == 90


# -- slow and normal -----------------------------------------------------------------------------------


def kinds(samples: Samples) -> dict[str, int]:
    samples.document()
    from flask_knitperf.metrics.stack_trie import unpack

    found = unpack([samples.document()])["e", "GET"]
    return {kind: sum(node.count for _, node in trie.stacks()) for kind, trie in found.items()}


def test_requests_beyond_the_threshold_are_kept_apart() -> None:
    samples = Samples(lambda _: 200 * MS)
    for wall in (100, 150, 300):
        samples.add(("e", "GET"), wall * MS, Sampled({A: [1, 0, 1, 0]}))
    assert kinds(samples) == {NORMAL: 2, SLOW: 1}


def test_where_most_are_beyond_it_the_slowest_tenth_is_kept_apart() -> None:
    samples = Samples(lambda _: 10 * MS)
    for number in range(100):
        samples.add(
            ("e", "GET"), (900 if number % 25 == 24 else 100) * MS, Sampled({A: [1, 0, 1, 0]})
        )
    found = kinds(samples)
    assert found == {SLOW: 19 + 4, NORMAL: 77}  # the first nineteen are too few to tell


def test_endpoints_and_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_of, "ENDPOINTS_KEPT", 3)
    monkeypatch.setattr(samples_of, "NODES_KEPT", 10)
    samples = Samples(lambda _: 1)
    for number in range(9):
        deep = tuple(Place("a.py", line, "f", True) for line in range(8))
        samples.add((f"e{number}", "GET"), 5, Sampled({deep: [1, 0, 1, 0]}))
    assert samples.document()["dropped"] == 6
    assert sum(len(rows) - 1 for *_, rows in samples.document()["stacks"]) == 10


def test_only_so_many_endpoints_have_their_times_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples_of, "ENDPOINTS_KEPT", 2)
    samples = Samples(lambda _: 1)
    for number in range(9):
        samples.add((f"e{number}", "GET"), 5, Sampled({}))
    assert len(samples._walls) <= 2


# -- the thread ----------------------------------------------------------------------------------------


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder(lambda: (None, {}), threaded=lambda: False)
    yield made
    made.close()


def test_turns_become_rarer_when_they_are_dear_and_never_rarer_than_one_a_second(
    recorder: Recorder,
) -> None:
    sampler = Sampler(recorder, Samples(lambda _: 1))
    assert sampler.interval() == pytest.approx(0.05)
    sampler._cost_ns = 1_000_000
    assert sampler.interval() == pytest.approx(0.001 / module.SHARE)
    sampler._cost_ns = 1e9
    assert sampler.interval() == 1.0


def test_somebody_may_ask_for_a_closer_look_which_ends(recorder: Recorder, time: Any) -> None:
    recorder.clock = time.clock()
    sampler = Sampler(recorder, Samples(lambda _: 1))
    sampler.faster()
    assert sampler.interval() == pytest.approx(0.01)
    time.pass_(61)
    assert sampler.interval() == pytest.approx(0.05)


def test_a_sampler_that_keeps_failing_stops_and_says_so(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(recorder, Samples(lambda _: 1))
    monkeypatch.setattr(sampler, "turn", lambda _: 1 / 0)
    monkeypatch.setattr(sampler, "interval", lambda: 0.001)
    sampler.start()
    thread = sampler._thread
    assert thread is not None
    thread.join(10)
    assert "ZeroDivisionError" in sampler.degraded and recorder.failures["sampler"] == 5
    sampler.stop()


@pytest.mark.parametrize("enabled", [True, False])
def test_no_collection_begins_while_stacks_are_taken_where_that_is_unsafe(
    sampled: Watched, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    inside, seen = threading.Event(), []
    path_of = sampled.sampler._path

    def path(frame: Any) -> Any:
        seen.append(gc.isenabled())
        return path_of(frame)

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    monkeypatch.setattr(sampled.sampler, "_path", path)
    sampled.meanwhile = lambda: seen.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        sampled.while_in(view, inside, turns=1)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert seen == [enabled and sys.version_info >= (3, 12), enabled]


def test_a_turn_that_had_no_core_was_not_late(
    sampled: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, moments = threading.Event(), []
    count = sampled.sampler._count

    def counted(seen: Any, shares: Any, used: Any, moment: Moment, gap: int) -> None:
        moments.append(moment)
        count(seen, shares, used, moment, gap)

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    ready = iter([7 * MS, 10 * MS, 10 * MS])
    recorder = sampled.session.recorder
    recorder.clock = replace(recorder.clock, run_queue_ns=lambda: next(ready, 10 * MS))
    monkeypatch.setattr(sampled.sampler, "_count", counted)
    sampled.sampler._lacked()
    sampled.session.profile.cpu_known = False  # so that no request asks that clock
    sampled.while_in(view, inside, turns=2, late=0.005)
    assert [round(moment.late, 4) for moment in moments] == [0.002, 0.005]


TORTURE = """
import gc, sys, threading, time
from flask import Flask
from flask_knitperf import KnitPerf

app = Flask("tortured")
app.config.update(KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_SAMPLER=True)

def deep(levels):
    return deep(levels - 1) if levels else [object() for _ in range(50)]

@app.get("/")
def index():
    for _ in range(20):
        deep(60)
    return "ok"

KnitPerf(app)
gc.set_threshold(20)
sys.setswitchinterval(1e-5)
stopping = threading.Event()

def ask():
    client = app.test_client()
    while not stopping.is_set():
        client.get("/")

threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(12):
    time.sleep(0.5)
    app.extensions["knitperf"].sampler.faster()
stopping.set()
for thread in threads:
    thread.join()
print(app.extensions["knitperf"].recorder.failures)
"""


def test_a_process_survives_collections_and_changes_of_thread_at_every_step(tmp_path: Path) -> None:
    """On 3.11 this crashed within three seconds while frames were taken with the collector on."""
    done = subprocess.run(
        [sys.executable, "-c", TORTURE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr[:2000]


def test_the_collector_is_back_after_a_failure(sampled: Watched) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.sampler._path = lambda _: 1 / 0  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        sampled.while_in(view, inside, turns=1)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("used", "window", "share"),
    [
        (95, 100, 1.0),  # computes
        (75, 100, 1.0),  # computes, after it got back the GIL
        (25, 100, 0.25),  # does both, again and again, or changed its mind
        (5, 100, 0.0),  # waits
        (0, 100, 0.0),
        (2_000_000, 4_000_000, 1.0),  # others computed as well, and it did first
        (1_000_000, 4_000_000, 0.0),
        (500, 100, 1.0),  # clocks that do not agree
        (-1, 100, 0.0),
        (0, 0, 1.0),
    ],
)
def test_a_stack_runs_if_its_thread_did_in_the_moment_after_it_was_seen(
    used: int, window: int, share: float
) -> None:
    assert running_share(5, 5 + used, window) == share


def test_where_nobody_can_tell_a_stack_runs() -> None:
    assert running_share(None, 5, 100) == running_share(5, None, 100) == 1.0


@linux
def test_clocks_tell_of_threads_that_live_and_of_no_others() -> None:
    clocks = Clocks()
    before = clocks.used_ns(threading.get_ident())
    ends = system_time.thread_time() + 0.01
    while system_time.thread_time() < ends:
        pass
    after = clocks.used_ns(threading.get_ident())
    assert before is not None and after is not None and after - before >= 5 * MS
    gone = threading.Thread(target=lambda: clocks.used_ns(threading.get_ident()))
    gone.start()
    ident = gone.ident
    gone.join()
    assert ident is not None
    until = system_time.monotonic() + 10
    while clocks.used_ns(ident) is not None:  # the system may need a moment to forget it
        assert system_time.monotonic() < until
    assert clocks.used_ns(12345) is None and not clocks.ready(12345)
    clocks.close()


@linux
def test_a_thread_that_gets_no_core_is_one_that_runs(
    sampled: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clocks, "crowded", lambda _: True)
    monkeypatch.setattr(Clocks, "ready", lambda *_: True)
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.while_in(view, inside, rests=True)
    assert sampled.lines()[0].waiting == 0


@linux
def test_a_machine_is_crowded_while_more_threads_want_a_core_than_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(thread_clocks, "_CORES", 0)
    assert [clocks.crowded() for _ in range(8)] == [True] * 8
    monkeypatch.setattr(thread_clocks, "_CORES", 1_000_000)
    assert [clocks.crowded() for _ in range(8)] == [False] * 8
    monkeypatch.setattr(clocks, "_said", lambda _: b"")
    assert not clocks.crowded()
    clocks.close()


@linux
def test_a_thread_is_ready_while_it_computes_or_wants_to_and_not_while_it_waits() -> None:
    clocks, done = Clocks(), threading.Event()
    assert not clocks.ready(threading.get_ident())  # nothing was asked of it yet
    clocks.used_ns(threading.get_ident())
    assert clocks.ready(threading.get_ident())
    waits = threading.Thread(target=done.wait, name="waits) R (here")
    waits.start()
    wait_for_rest(waits)
    clocks.used_ns(waits.ident or 0)
    found = clocks.ready(waits.ident or 0)
    done.set()
    waits.join()
    clocks.close()
    assert not found


@linux
def test_the_clock_of_a_forked_process_s_main_thread_is_its_own() -> None:
    child = os.fork()
    if not child:
        clocks, me = Clocks(), threading.get_ident()
        before = clocks.used_ns(me)
        ends = system_time.thread_time() + 0.02
        while system_time.thread_time() < ends:
            pass
        after = clocks.used_ns(me)
        told = before is not None and after is not None and 10 * MS < after - before < 5000 * MS
        os._exit(0 if told else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_it_can_be_switched_off(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_SAMPLER=False)
    mill.get("/")
    assert mill.session.sampler is None
    assert not [t for t in threading.enumerate() if "sampler" in t.name]


def test_its_thread_ends_with_the_application_and_starts_at_the_first_request(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    assert not [t for t in threading.enumerate() if "sampler" in t.name]
    mill.get("/")
    assert [t for t in threading.enumerate() if "sampler" in t.name]
    mill.session.close()
    assert not [t for t in threading.enumerate() if "sampler" in t.name]


@pytest.mark.slow
def test_what_live_workers_sample_reaches_the_report_and_the_disk(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    turns = iter(range(1000))

    @mill.app.get("/sleeps")
    def sleeps() -> str:
        system_time.sleep(0.12 if next(turns) % 2 else 0.3)  # sleeps here
        return ""

    for _ in range(14):
        mill.get("/sleeps")
    [line, *_] = mill.row("sleeps")["lines"]
    assert line["where"] == line_of("sleeps here") and line["samples"] >= 1
    document = mill.session.documents.why("sleeps", None, "run").document
    assert document["row"]["lines"][0]["where"] == line["where"] and document["sampled"]
    assert list((mill.session.recorder.worker.run / "details").glob("*.slice"))
    mill.session.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_none_of_its_parent_s_samples(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    mill.get("/")
    mill.session.samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))
    child = os.fork()
    if not child:
        left = mill.session.samples.document()["stacks"] or mill.session.sampler._thread
        os._exit(1 if left else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert mill.session.samples.document()["stacks"]


def test_a_worker_whose_threads_are_green_samples_nothing_and_says_so(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.runtime import session

    monkeypatch.setattr(session, "is_green", lambda: True)
    mill = make_app(KNITPERF_SAMPLER=True)
    mill.get("/")
    assert not [t for t in threading.enumerate() if "sampler" in t.name]
    mill.session.jobs.publish_heartbeat()
    assert "gevent" in mill.degraded()


def test_a_disk_that_is_full_is_said_and_the_samples_stay(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.storage import slices

    mill = make_app(KNITPERF_SAMPLER=True)
    mill.session.recorder._threaded = lambda: False
    mill.get("/")
    mill.session.details.turn()
    mill.session.samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(slices, "save", full)
        mill.session.details.close()
        assert "samples cannot be saved: No space left" in mill.degraded()
    mill.session.details.close()
    assert "samples cannot" not in mill.degraded()
    assert mill.row("index")["lines"][0]["samples"] == 1


def test_a_new_slice_begins_every_five_minutes(make_app: Callable[..., Any], time: Any) -> None:
    mill = make_app(TESTING=False, KNITPERF_SAMPLER=True)
    mill.session.recorder._threaded = lambda: False
    mill.session.recorder.clock = time.clock()
    mill.get("/")
    details, samples = mill.session.details, mill.session.samples
    for _ in range(3):
        details.turn()
        samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))
        details.turn()
        time.pass_(300)
    details.turn()
    folder = mill.session.recorder.worker.run / "details"
    assert len(list(folder.glob("*.slice"))) == 3
    assert mill.row("index")["lines"][0]["samples"] == 3
    now, run = mill.session.recorder.clock.wall(), mill.session.recorder.worker.run
    assert len(details.read(run, now - 900, now)) == 1
    assert details.read(run, now + 600, now + 900) == {}
