"""The sampler under stress: threads, forks, collections, generators and exceptions at full speed.

Eight threads send requests whose stacks change all the time, others fork and collect, and the sampler
takes a hundred samples a second. Every other half minute collections are twenty times as frequent and
threads switch every tenth of a millisecond; that exposes faults in seconds that otherwise take hours.
A crash ends the process, a deadlock stops its counters, a leak makes it grow: its size is read two
hundred times, and the median of the last quarter is compared with that of the second one.

Resident memory and memory in use differ: the C library keeps freed memory, and keeps more of it the
longer threads allocate concurrently, in the bare application too. So the same application runs beside it
without the extension, and the memory in use is judged separately.

This runs with every Python that has an environment of ``make matrix``. A claim of safety needs an hour
each: ``STRESS_MINUTES=60 python -m benchmarks stress``.
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
MAX_GROWTH_MB = 8.0
"""Growth of resident memory beyond that of the bare application."""
MAX_USED_MB = 3.0
"""Growth of memory in use."""
_READINGS = 200
_PHASE_S = 30.0
_HARSH = (30, 5, 5), 1e-4
_DEFAULT = gc.get_threshold(), sys.getswitchinterval()
"""Thresholds of the collector, switch interval in seconds."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    minutes = 0.25 if quick else float(os.environ.get("STRESS_MINUTES", MINUTES))
    pythons = [sys.executable, *sorted(map(str, ROOT.glob(".tox/py31*/bin/python")))]
    running = [(python, *(_start(python, minutes, bare=bare) for bare in (False, True)))
               for python in pythons]  # fmt: skip
    lines = []
    for python, with_, without in running:
        (version, ours), (_, bare) = _end(with_, minutes), _end(without, minutes)
        name = Path(python).parents[1].name
        wrong = ours.get("wrong") or bare.get("wrong") or _growth_error(ours, bare)
        outcome.judge(
            f"stress.{name.strip('.')}", f"{minutes:g} minutes with Python {version} ({name})",
            f"no crash, no deadlock, ≤ {MAX_USED_MB:.0f} MB more in use, "
            f"grown by ≤ {MAX_GROWTH_MB:.0f} MB more than the bare application",
            wrong or f"{ours['requests']:,} requests, {ours['samples']:,} samples, "
            f"{ours['forks']:,} forks, {ours['used_mb']:+.1f} MB in use, "
            f"{ours['grown_mb']:+.1f} MB (bare {bare['grown_mb']:+.1f})", not wrong,
        )  # fmt: skip
        lines += [(f"{version}, {kind}", f"{row.get('grown_mb', '')}", f"{row.get('used_mb', '')}")
                  for kind, row in (("with", ours), ("bare", bare))]  # fmt: skip
    outcome.grids.append(Grid("Growth in MB", ("python", "resident", "in use"), tuple(lines)))
    return outcome


def _growth_error(ours: dict[str, Any], bare: dict[str, Any]) -> str:
    """Return the error of a process that crashed, hung or grew too much, empty without one."""
    if not ours or not bare:
        return "it crashed or hung"
    if ours["used_mb"] > MAX_USED_MB:
        return f"it uses {ours['used_mb']:.1f} MB more"
    more = ours["grown_mb"] - bare["grown_mb"]
    return f"it grew by {more:.1f} MB more than the bare one" if more > MAX_GROWTH_MB else ""


def _start(python: str, minutes: float, *, bare: bool) -> subprocess.Popen[str]:
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
    """Return the version and the result of a process, an empty one if it crashed or hung."""
    try:
        output, _ = process.communicate(timeout=minutes * 60 + 120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    result: dict[str, Any] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            result = json.loads(line)
    if process.returncode or result.get("wrong"):
        # a dump starts with the thread that crashed
        print(output[:6000], "…", output[-1000:], sep="\n")
    if process.returncode:
        result = {}
    return result.pop("version", "?"), result


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
            raise RuntimeError("planned failure") from error
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
    """Stress this process; print the result as one line of JSON."""
    from ..harness.wsgi import Get

    with tempfile.TemporaryDirectory() as folder:
        app = _app(folder + "/state", bare)
        paths = ("/deep", "/cycles", "/breaks", "/streams", "/awaits")
        served = dict.fromkeys(paths, 0)
        stopping, forks = threading.Event(), 0

        def client(seed: int) -> None:
            rng = random.Random(seed)
            gets = {path: Get(app, path) for path in paths}
            while not stopping.is_set():
                path = rng.choice(paths)
                gets[path]()
                served[path] += 1

        threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        session, rng = app.extensions.get("knitperf"), random.Random(9)
        start, wrong = time.monotonic(), ""
        deadline, sizes = start + minutes * 60, [_sizes()]
        last, seen = time.monotonic(), 0
        while time.monotonic() < deadline and not wrong:
            time.sleep(rng.uniform(0.05, 0.3))
            _set_pace((time.monotonic() - start) // _PHASE_S % 2 == 1)
            if not bare and session.sampler is not None and session.recorder.has_worker:
                session.sampler.sample_in_detail()
            if rng.random() < 0.3:
                forks += _fork(Get(app, "/deep"))
            if rng.random() < 0.2:
                gc.collect()
            if (time.monotonic() - start) / (minutes * 60) > len(sizes) / _READINGS:
                sizes.append(_sizes())
            if sum(served.values()) != seen:
                seen, last = sum(served.values()), time.monotonic()
            elif time.monotonic() - last > 30:
                wrong = "no request was answered for half a minute"
        grown, used = (_growth(list(column)) for column in zip(*sizes, strict=True))
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
    }))  # fmt: skip


def _set_pace(harsh: bool) -> None:
    thresholds, interval = _HARSH if harsh else _DEFAULT
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def _sampled(session: Any, wrong: str) -> tuple[int, str]:
    """Close a session; return the number of samples, and the error."""
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    samples = sum(node.count for kinds in tries.values() for trie in kinds.values()
                  for _, node in trie.stacks())  # fmt: skip
    session.close()
    failed = session.recorder.failures.get("sampler")
    if failed:
        return samples, f"the sampler failed {failed} times"
    return samples, wrong or ("" if samples else "no sample was taken")


def _growth(sizes: list[float]) -> float:
    """Return the difference of the medians of the last and the second quarter."""
    quarter = len(sizes) // 4
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[quarter : 2 * quarter])


class _Malloc(ctypes.Structure):
    """Memory statistics of the C library, in bytes: ``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost",
    ))  # fmt: skip


def _sizes() -> tuple[float, float]:
    """Return the memory of this process without mapped files, and the part in use, in MB.

    Mapped files are left out because logs come and go.
    """
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Malloc
    status = Path("/proc/self/status").read_text()
    anonymous = int(status.split("RssAnon:")[1].split()[0]) / 1024
    return anonymous, anonymous - mallinfo().fordblks / 1024 / 1024


def _fork(get: Any) -> int:
    """Fork a child that serves a few requests; return 1 if it ended well."""
    child = os.fork()
    if not child:
        code = 1
        try:
            for _ in range(5):
                get()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if status:
                raise RuntimeError(f"a forked child ended with {status}")
            return 1
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise RuntimeError("a forked child hung for half a minute")


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2] == "True")
