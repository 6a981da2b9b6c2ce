"""The sampler under stress: threads, forks, collections, generators, exceptions, as fast as it goes.

Eight threads send requests whose stacks change all the time, others fork and collect, and the
sampler takes a hundred turns a second. Every other half minute collections are twenty times as frequent
and threads change every tenth of a millisecond: that finds in seconds what else takes hours. A crash
ends the process, a deadlock stops its books, a leak makes it grow: it is weighed two hundred times, and
the median of the last quarter is held against that of the second one.

What a process has of the system, and what of that it uses, are two things: the C library keeps memory
that was freed, and keeps more of it the longer threads allocate beside one another, in the bare
application too. So the same application runs beside it without the extension, and what it uses is
looked at by itself.

This runs with every Python that has an environment of ``make matrix``. An hour each is what a claim of
safety needs: ``STRESS_MINUTES=60 python -m benchmarks stress``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..harness.machine import ROOT
from ..harness.outcome import Grid, Outcome

MINUTES = 60.0
GROWTH_MB, USED_MB = 8.0, 3.0
"""How much a process may grow beyond the bare one, and how much more it may use."""
_WEIGHED = 200
_HALF_A_MINUTE_S = 30.0
_HARSH = (30, 5, 5), 1e-4
_USUAL = gc.get_threshold(), sys.getswitchinterval()


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    minutes = 0.25 if quick else float(os.environ.get("STRESS_MINUTES", MINUTES))
    pythons = [sys.executable, *sorted(map(str, ROOT.glob(".tox/py31*/bin/python")))]
    running = [(python, *(_begin(python, minutes, bare=bare) for bare in (False, True)))
               for python in pythons]  # fmt: skip
    lines = []
    for python, with_, without in running:
        (version, said), (_, bare) = _end(with_, minutes), _end(without, minutes)
        name = Path(python).parents[1].name
        outcome.details[name] = {"with": said, "bare": bare}
        wrong = said.get("wrong") or bare.get("wrong") or _too_large(said, bare)
        outcome.judge(
            f"stress.{name.strip('.')}", f"{minutes:g} minutes with Python {version} ({name})",
            f"no crash, no deadlock, ≤ {USED_MB:.0f} MB more in use, grown by ≤ {GROWTH_MB:.0f} MB "
            "more than the bare application",
            wrong or f"{said['requests']:,} requests, {said['samples']:,} samples, "
            f"{said['forks']:,} forks, {said['used_mb']:+.1f} MB in use, "
            f"{said['grown_mb']:+.1f} MB (bare {bare['grown_mb']:+.1f})", not wrong,
        )  # fmt: skip
        lines += [(f"{version}, {kind}", f"{row.get('grown_mb', '')}", f"{row.get('used_mb', '')}")
                  for kind, row in (("with", said), ("bare", bare))]  # fmt: skip
    outcome.grids.append(Grid("Growth in MB", ("python", "of the system", "in use"), tuple(lines)))
    return outcome


def _too_large(said: dict[str, Any], bare: dict[str, Any]) -> str:
    """Return what is wrong with how a process grew, or that it did not live to tell."""
    if not said or not bare:
        return "it crashed or stood still"
    if said["used_mb"] > USED_MB:
        return f"it uses {said['used_mb']:.1f} MB more"
    more = said["grown_mb"] - bare["grown_mb"]
    return f"it grew by {more:.1f} MB more than the bare one" if more > GROWTH_MB else ""


def _begin(python: str, minutes: float, *, bare: bool) -> subprocess.Popen[str]:
    command = [
        python,
        "-X",
        "faulthandler",
        "-m",
        "benchmarks.rows.stress",
        str(minutes),
        str(bare),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _end(process: subprocess.Popen[str], minutes: float) -> tuple[str, dict[str, Any]]:
    """Return the version and what the process found out, nothing if it crashed or stood still."""
    try:
        output, _ = process.communicate(timeout=minutes * 60 + 120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    said: dict[str, Any] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
    if process.returncode or said.get("wrong"):
        # a dump begins with the thread that fell
        print(output[:6000], "…", output[-1000:], sep="\n")
    if process.returncode:
        said = {}
    return said.pop("version", "?"), said


# -- in the process that is stressed -----------------------------------------------------------------


def _app(state: str, bare: bool) -> Any:
    from flask import Flask, Response

    from flask_knitperf import KnitPerf

    app = Flask("stress")
    app.logger.disabled = True
    app.config.update(KNITPERF_STATE_DIR=state, KNITPERF_SAMPLER=True)
    rng = random.Random(1)

    def deep(levels: int) -> Any:
        return deep(levels - 1) if levels else [object() for _ in range(50)]

    @app.get("/deep")
    def view_deep() -> str:
        return str(len(deep(rng.randrange(5, 80))))

    @app.get("/cycles")
    def cycles() -> str:
        for _ in range(200):
            one: list[Any] = []
            one.append(one)
        return "cycles"

    @app.get("/breaks")
    def breaks() -> str:
        try:
            deep(30)[99]
        except IndexError as error:
            raise RuntimeError("as planned") from error
        return ""

    @app.get("/streams")
    def streams() -> Response:
        def pieces() -> Iterator[str]:
            for number in range(20):
                yield str(deep(10)[0])[:0] + str(number)

        return Response(pieces())

    @app.get("/awaits")
    async def awaits() -> str:
        import asyncio

        await asyncio.sleep(0.001)
        return str(len(deep(20)))

    if not bare:
        KnitPerf(app)
    return app


def main(minutes: float, bare: bool) -> None:
    """Stress this process; print what was seen as one line of JSON."""
    from ..harness.wsgi import Get

    with tempfile.TemporaryDirectory() as folder:
        app = _app(folder + "/state", bare)
        paths = ("/deep", "/cycles", "/breaks", "/streams", "/awaits")
        books = dict.fromkeys(paths, 0)
        stopping, forks = threading.Event(), 0

        def client(seed: int) -> None:
            rng = random.Random(seed)
            gets = {path: Get(app, path) for path in paths}
            while not stopping.is_set():
                path = rng.choice(paths)
                gets[path]()
                books[path] += 1

        threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        session, rng = app.extensions.get("knitperf"), random.Random(9)
        began, wrong = time.monotonic(), ""
        ends, sizes = began + minutes * 60, [_weighed()]
        last, seen = time.monotonic(), 0
        while time.monotonic() < ends and not wrong:
            time.sleep(rng.uniform(0.05, 0.3))
            _be_harsh((time.monotonic() - began) // _HALF_A_MINUTE_S % 2 == 1)
            if not bare and session.sampler is not None and session.recorder.has_worker:
                session.sampler.faster()
            if rng.random() < 0.3:
                forks += _fork(Get(app, "/deep"))
            if rng.random() < 0.2:
                gc.collect()
            if (time.monotonic() - began) / (minutes * 60) > len(sizes) / _WEIGHED:
                sizes.append(_weighed())
            if sum(books.values()) != seen:
                seen, last = sum(books.values()), time.monotonic()
            elif time.monotonic() - last > 30:
                wrong = "no request was answered for half a minute"
        grown, used = (_grown(list(each)) for each in zip(*sizes, strict=True))
        stopping.set()
        for thread in threads:
            thread.join(30)
        samples = 0
        if any(thread.is_alive() for thread in threads):
            wrong = "threads did not end"
        elif not bare:
            samples, wrong = _sampled(session, wrong)
    print(json.dumps({
        "version": sys.version.split()[0], "requests": seen, "samples": samples, "forks": forks,
        "grown_mb": round(grown, 1), "used_mb": round(used, 1), "wrong": wrong,
        "sizes_mb": [[round(size, 1) for size in weighed] for weighed in sizes],
    }))  # fmt: skip


def _be_harsh(harsh: bool) -> None:
    thresholds, interval = _HARSH if harsh else _USUAL
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def _sampled(session: Any, wrong: str) -> tuple[int, str]:
    """Close a session; return how many samples were taken, and what is wrong."""
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    samples = sum(node.count for kinds in tries.values() for trie in kinds.values()
                  for _, node in trie.stacks())  # fmt: skip
    session.close()
    failed = session.recorder.failures.get("sampler")
    if failed:
        return samples, f"the sampler failed {failed} times"
    return samples, wrong or ("" if samples else "nothing was sampled")


def _grown(sizes: list[float]) -> float:
    """Return by how much the median of the last quarter is beyond that of the second one."""
    quarter = len(sizes) // 4
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[quarter : 2 * quarter])


class _Malloc(ctypes.Structure):
    """What the C library says of its memory, in bytes: ``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost",
    ))  # fmt: skip


def _weighed() -> tuple[float, float]:
    """Return the memory of this process that is no file's, and that without what is free of it, in MB.

    A log is mapped, and comes and goes.
    """
    said = ctypes.CDLL(None).mallinfo2
    said.restype = _Malloc
    status = Path("/proc/self/status").read_text()
    anonymous = int(status.split("RssAnon:")[1].split()[0]) / 1024
    return anonymous, anonymous - said().fordblks / 1024 / 1024


def _fork(get: Any) -> int:
    """Fork a child that serves a few requests of its own; return 1 when it ended well."""
    child = os.fork()
    if not child:
        code = 1
        try:
            for _ in range(5):
                get()
            code = 0
        finally:
            os._exit(code)
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if status:
                raise RuntimeError(f"a forked child ended with {status}")
            return 1
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise RuntimeError("a forked child stood still for half a minute")


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2] == "True")
