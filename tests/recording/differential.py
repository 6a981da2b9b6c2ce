"""A program that serves one seeded sequence of requests and prints the totals recorded of it.

Arguments: ``fast``, or ``slow`` to have every request take the slow path; then the seed. The environment
chooses between C and Python. Time is a counter that the requests advance, so that the totals of two runs
are equal if both record the same.
"""

from __future__ import annotations

import contextvars
import dataclasses
import gc
import json
import random
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flask import Response, abort, redirect, request, send_file

from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.core.clock import Clock
from flask_knitperf.core.sampling import position
from flask_knitperf.metrics import columns
from flask_knitperf.recording import fastpath
from flask_knitperf.recording.gc_pauses import WATCH
from tests.conftest import FakeTime, Mill, app_maker, start_wsgi

REQUESTS = 1200
MAX_OPEN_STREAMS = 3
Script = list[tuple[Any, ...]]
KINDS = (
    *("text",) * 8, *("stream",) * 9, *("none",) * 3, *("forbidden",) * 3, "failure", "bytes", "empty",
    "unchanged", "pieces", "strings", "string", "redirect", "events", "file",
)  # fmt: skip
NAMES = ("a", "b", "c", "ü", "", *(f"n{number}" for number in range(15)))


class FullTime(FakeTime):
    """A clock of which every source is a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.run_queue = 0

    def clock(self) -> Clock:
        return Clock(
            lambda: self.ns, lambda: self.epoch, lambda: self.cpu, lambda: self.run_queue,
            lambda: 2 * self.cpu,
        )  # fmt: skip


def in_thread(function: Any, *args: Any) -> None:
    lock = threading.Lock()
    lock.acquire()

    def run() -> None:
        try:
            function(*args)
        finally:
            lock.release()

    thread = threading.Thread(target=run)
    thread.start()
    lock.acquire()  # not observed; a join is, and whether it waits is chance
    thread.join()


class Sequence:
    """The application, and the requests sent to it."""

    def __init__(self, mill: Mill, folder: Path, seed: int) -> None:
        self.mill, self.time, self.choice = mill, FullTime(), random.Random(seed)
        self.streams: list[Iterator[bytes]] = []
        self.depth = 0
        self.file = folder / "wool.txt"
        self.file.write_bytes(b"wool" * 100)
        self.connection = wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)
        self.connection.create_function("knit", 1, self.knit)
        mill.session.recorder.clock = self.time.clock()
        mill.session.profile.retained_bytes_meter = mill.session.profile.reservoir = None
        self.add_views()

    # -- what requests do ----------------------------------------------------------------------------

    def knit(self, microseconds: int) -> int:
        self.time.pass_(microseconds * 1e-6)
        return microseconds

    def pause(self, nanoseconds: int) -> None:
        """Pass time in a garbage collection."""
        began = self.time.ns
        self.time.pass_(nanoseconds * 1e-9)
        WATCH.total += nanoseconds
        WATCH.latest.append((began, self.time.ns, threading.get_ident()))

    def perform(self, script: Script) -> None:
        for action, *arguments in script:
            getattr(self, f"do_{action}")(*arguments)

    def do_work(self, microseconds: int, cpu: float) -> None:
        self.time.pass_(microseconds * 1e-6, microseconds * cpu * 1e-6)
        self.time.run_queue += int(microseconds * 1e3 * (1 - cpu)) // 3

    def do_section(self, name: str, script: Script) -> None:
        with self.mill.perf.section(name):
            self.perform(script)

    def do_left_open(self, name: str) -> None:
        self.mill.perf.section(name).__enter__()

    def do_pause(self, nanoseconds: int) -> None:
        self.pause(nanoseconds)

    def do_query(self, microseconds: int) -> None:
        self.connection.execute("select knit(?)", (microseconds,)).fetchall()

    def do_read(self) -> None:
        with open(self.file, "rb") as file:
            file.read()

    def do_thread(self, script: Script) -> None:
        in_thread(contextvars.copy_context().run, self.perform, script)

    def do_request(self, threaded: bool) -> None:
        if self.depth < 2:
            self.depth += 1
            (in_thread if threaded else lambda function: function())(self.send)
            self.depth -= 1

    def script(self, depth: int = 0) -> Script:
        """Return the actions of a request, at random."""
        choice = self.choice
        script: Script = []
        for _ in range(choice.choice((0, 0, 0, 1, 1, 2))):
            kind = choice.random()
            if kind < 0.48:
                took = choice.choice((3, 40, 49, 50, 51, 120, 700, 3_000))
                if choice.random() < 0.01:
                    took = choice.choice((20_000, 26_000))
                script.append(("work", took, choice.choice((0.1, 0.5, 1.0))))
            elif kind < 0.88 and depth < 3:
                script.append(("section", choice.choice(NAMES[: choice.choice((3, 3, 3, 20))]),
                               self.script(depth + 1)))  # fmt: skip
            elif kind < 0.89:
                script.append(("left_open", choice.choice(NAMES)))
            elif kind < 0.925:
                script.append(("pause", choice.choice((900, 400_000, 1_000_000, 1_400_000))))
            elif kind < 0.94:
                script.append(("query", choice.choice((5, 400))))
            elif kind < 0.95:
                script.append(("read",))
            elif kind < 0.98 and depth < 3:
                script.append(("thread", self.script(depth + 1)))
            else:
                script.append(("request", choice.random() < 0.5))
        return script

    # -- the application -----------------------------------------------------------------------------

    def add_views(self) -> None:
        app = self.mill.app

        def hook(number: int) -> Any:
            def before() -> Any:
                self.perform(request.environ["test.hooks"][number])
                return "early" if request.environ.get("test.early") == number else None

            before.__qualname__ = f"before_{number % 2}"  # two functions have a common name
            return before

        for number in range(3):
            app.before_request(hook(number))

        @app.errorhandler(403)
        def forbidden(error: Any) -> Any:
            return error

        for path in ("/view", "/other/<int:number>"):
            app.add_url_rule(path, path[1:6], self.view, methods=("GET", "POST"))
        inner = self.mill.inner

        def wsgi(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            self.do_work(7, 0.5)  # a request without a duration takes the slow path
            self.perform(environ["test.outside"])
            if environ["test.kind"] == "escaping":
                raise ConnectionError
            return inner(environ, start)  # type: ignore[no-any-return]

        self.mill.put_inside(wsgi)

    def view(self, number: int = 0) -> Any:
        environ = request.environ
        self.perform(environ["test.view"])
        kind = environ["test.kind"]
        if kind == "forbidden":
            abort(403)
        if kind == "failure":
            raise (ValueError, KeyError)[number % 2]
        return {
            "bytes": b"wool", "empty": "", "none": ("", 204), "unchanged": ("", 304),
            "redirect": redirect("/"),
        }.get(kind) or self.unusual(kind)  # fmt: skip

    def unusual(self, kind: str) -> Any:
        if kind == "pieces":
            return Response([b"a", b"bc"])
        if kind == "strings":
            return Response(["ä", "b"])
        if kind == "string":
            return Response(["ä"])
        if kind == "file":
            return send_file(self.file)
        if kind in ("stream", "events"):
            mimetype = "text/event-stream" if kind == "events" else "text/plain"
            return Response(self.stream(request.environ["test.stream"]), mimetype=mimetype)
        return "" if kind == "empty" else "text"

    def stream(self, scripts: list[Any]) -> Iterator[Any]:
        for script in scripts:
            if script is None:
                raise ValueError
            self.perform(script)
            yield self.file.name if len(script) % 2 else b"yarn"
        self.perform(scripts[-1] if scripts and scripts[-1] else [])

    # -- requests ------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send a request; keep its body where it is a stream that others overlap."""
        choice = self.choice
        kind = choice.choice(KINDS) if choice.random() > 0.01 else "escaping"
        path = choice.choice(("/view", "/view", "/other/1", "/other/2", "/nowhere"))
        method = choice.choice(("GET",) * 20 + ("HEAD", "POST", "DELETE"))
        stream: list[Any] = [self.script(1) for _ in range(choice.randrange(4))]
        if choice.random() < 0.1:
            stream.append(None)
        early = choice.randrange(3) if choice.random() < 0.05 else None
        try:
            _, body = start_wsgi(self.mill.app.wsgi_app, path, method, **{
                "test.kind": kind, "test.stream": stream, "test.view": self.script(),
                "test.hooks": [self.script(2) if choice.random() < 0.1 else [] for _ in range(3)],
                "test.outside": self.script(3) if choice.random() < 0.1 else [],
                "test.early": early,
            })  # fmt: skip
        except ConnectionError:
            return
        if choice.random() < 0.15:
            self.streams.append(body)  # type: ignore[arg-type]
            while len(self.streams) > MAX_OPEN_STREAMS:
                self.consume(self.streams.pop(0))
        else:
            self.consume(body)

    def consume(self, body: Any) -> None:
        """Read a body whole, in part, or not at all; close it, twice, or not at all."""
        choice = self.choice
        most = choice.choice((100, 100, 100, 100, 1, 0))
        try:
            for number, _ in enumerate(body):
                if number >= most:
                    break
            else:
                if choice.random() < 0.1:
                    next(iter(body), None)
        except (ValueError, StopIteration):
            self.time.pass_(1e-6)
        if choice.random() < 0.9 and hasattr(body, "close"):
            for _ in range(choice.choice((1, 1, 2))):
                body.close()

    def run(self) -> None:
        for _ in range(REQUESTS):
            self.send()
            self.time.pass_(2e-6)
        while self.streams:
            self.consume(self.streams.pop())


@dataclasses.dataclass
class Counts:
    """Calls of the slow path and of the cost measurement."""

    slow: int = 0
    costs: int = 0

    def watch(self, profile: Any) -> None:
        finish, record_cost = profile.finish, profile.record_cost

        def counted_finish(*args: Any, **kwargs: Any) -> None:
            self.slow += not args[0].ended
            finish(*args, **kwargs)

        def counted_cost(took: int) -> None:
            self.costs += 1
            record_cost(took)

        profile.finish, profile.record_cost = counted_finish, counted_cost


class SlowCollector:
    """A collector, which every request is to notify."""

    name = "differential"

    def jobs(self, recorder: Any) -> list[Any]:
        return []

    def request_finished(self, recorder: Any, span: Any) -> None:
        """Be notified."""


def totals(recorder: Any) -> dict[str, Any]:
    """Return all that was recorded, by meter and labels."""
    return {
        " | ".join((key.meter, *key.labels)): repr(series)
        for key, series in columns.series(recorder.snapshot().columns).items()
    }


def main(how: str, seed: int) -> dict[str, Any]:
    gc.disable()
    with tempfile.TemporaryDirectory() as folder, app_maker(Path(folder)) as make:
        mill = make(TESTING=True, PROPAGATE_EXCEPTIONS=False)
        if how == "slow":
            mill.session.recorder.register(SlowCollector())
        counts, profile = Counts(), mill.session.profile
        counts.watch(profile)
        sequence = Sequence(mill, Path(folder), seed)
        sequence.run()
        del sequence.streams
        gc.collect()
        recorder, started = mill.session.recorder, profile.requests_started
        every, stride = fastpath.COST_EVERY, fastpath.COST_STRIDE
        timed = sum(
            position(number * stride, every) == every - 1 for number in range(1, started + 1)
        )
        return {
            "compiled": fastpath.COMPILED, "started": started, "slow": counts.slow, "timed": timed,
            "costs": counts.costs, "in flight": len(recorder.spans), "busy": profile.busy_ns,
            "sampled": profile.sampled_ns, "now": sequence.time.ns, "failures": recorder.failures,
            "totals": totals(recorder),
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
