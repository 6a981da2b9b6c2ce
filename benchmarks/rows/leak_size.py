"""The size of a leak in the report, against that of tracemalloc.

Each leak of ``corpus/leaks.py`` and ``corpus/leaks_unseen.py`` is served in a separate process until the
report suspects it, and in another process by the same application, its allocations traced and leak
detection off. Leaks outside of Python's memory are compared with the bytes that their source requests;
tracemalloc does not see those.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.core.units import MB
from flask_knitperf.render.wording import LEVELS, memory_level

from ..corpus import leaks, leaks_unseen
from ..harness.machine import ROOT
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

CORPORA = {"listed": leaks, "unseen": leaks_unseen}
WITHIN = 0.25
SECONDS = 90.0
"""Time within which a leak must be suspected."""
QUICK_SECONDS = 8.0  # too few
PAUSE_S = 0.003  # between two requests
_TRACED = (100, 600)
"""Requests before and while allocations are compared."""
_QUICK = "bom_trail"
"""Mark of the leak that is measured quickly."""


class Size(NamedTuple):
    """Bytes per request that a leak retains.

    Attributes:
        corpus: its corpus.
        name: of the case.
        is_native: whether they are outside of Python's memory.
        reported: in the report, ``None`` where the leak was not suspected.
        true: by tracemalloc, or by the source of a native leak.
        total_ratio: total in the report over the requests served times ``true``.
        shown: statements on the leak that disagree.
    """

    corpus: str
    name: str
    is_native: bool
    reported: float | None
    true: float
    total_ratio: float
    shown: list[str]

    @property
    def ratio(self) -> float:
        """The reported size as a multiple of the true one, 0.0 where it was not reported."""
        return (self.reported or 0.0) / self.true


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    sizes = [
        _size(corpus, case, QUICK_SECONDS if quick else SECONDS)
        for corpus, module in CORPORA.items() for case in module.CASES
        if case.leaks and (not quick or case.mark == _QUICK)
    ]  # fmt: skip
    suspected = [size for size in sizes if size.reported is not None]
    outcome.judge("leak_size.suspected", f"leaks suspected within {SECONDS:.0f} s", "–",
                  f"{len(suspected)} of {len(sizes)}", None)  # fmt: skip
    traced = [size for size in suspected if not size.is_native]
    within = sum(abs(size.ratio - 1) <= WITHIN for size in traced)
    worst = max((size.ratio for size in traced), key=lambda ratio: abs(ratio - 1), default=0.0)
    outcome.judge("leak_size.per_request", f"{len(traced)} leaks: bytes per request, over tracemalloc's",
                  "within ± 25 %", f"{within} of {len(traced)}, worst {worst:.2f}",
                  within == len(traced) > 0)  # fmt: skip
    totals = sum(abs(size.total_ratio - 1) <= WITHIN for size in traced)
    outcome.judge("leak_size.total", "bytes in total, over tracemalloc's", "within ± 25 %",
                  f"{totals} of {len(traced)}", totals == len(traced))  # fmt: skip
    native = [size for size in suspected if size.is_native]
    if native:
        near = sum(abs(size.ratio - 1) <= WITHIN for size in native)
        outcome.judge("leak_size.native", "leaks outside of Python's memory, over what is requested",
                      "within ± 25 %", f"{near} of {len(native)}", near == len(native))  # fmt: skip
    disagreeing = sum(bool(size.shown) for size in sizes)
    outcome.judge("leak_size.agreement", "leaks on which two parts of a report disagree", "none",
                  str(disagreeing), not disagreeing)  # fmt: skip
    lines = tuple(
        (size.corpus, size.name, "–" if size.reported is None else f"{size.reported:,.0f}",
         f"{size.true:,.0f}", f"{size.ratio:.2f}", f"{size.total_ratio:.2f}",
         "source" if size.is_native else "tracemalloc")
        for size in sizes
    )  # fmt: skip
    heads = (
        "corpus",
        "leak",
        "reported bytes",
        "true bytes",
        "ratio",
        "ratio of totals",
        "true by",
    )
    outcome.grids.append(Grid("Bytes that one request retains", heads, lines))
    outcome.notes += [f"{size.name}: {sentence}" for size in sizes for sentence in size.shown]
    return outcome


def _size(corpus: str, case: Any, seconds: float) -> Size:
    """Measure one leak in two processes."""
    is_native = getattr(case, "kind", "leak") == "native leak"
    reported = _measure("reported", corpus, case.name, str(seconds))
    true = case.kept_bytes if is_native else _measure("traced", corpus, case.name)["bytes"]
    print(f"   {case.name}: {reported}, {true:,.0f} bytes by tracemalloc or the source", flush=True)
    ratio = reported["total"] / (true * reported["requests"])
    return Size(
        corpus, case.name, is_native, reported["bytes"], true, ratio, reported["disagreements"]
    )


def _measure(what: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.rows.leak_size", what, *words]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    document: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return document


# -- in separate processes ------------------------------------------------------------------------


def _application(module: ModuleType, folder: str, *, leak_watch: bool) -> Flask:
    app: Flask = module.create_app()
    app.config.update(KNITPERF_STATE_DIR=folder, KNITPERF_SAMPLER=False,
                      KNITPERF_LEAK_WATCH=leak_watch)  # fmt: skip
    KnitPerf(app)
    return app


def _traced(module: ModuleType, case: Any) -> dict[str, Any]:
    """Return the bytes per request that tracemalloc counts."""
    warm_up, requests = _TRACED
    with tempfile.TemporaryDirectory() as folder:
        app = _application(module, folder, leak_watch=False)
        get = Get(app, case.path)
        get.times(warm_up)
        tracemalloc.start()
        get.times(warm_up)
        before = _retained()
        get.times(requests)
        size = (_retained() - before) / requests
        tracemalloc.stop()
        app.extensions["knitperf"].close()
    return {"bytes": size}


def _retained() -> int:
    gc.collect()
    gc.collect()  # objects that a finaliser freed
    return tracemalloc.get_traced_memory()[0]


def _reported(module: ModuleType, case: Any, seconds: str) -> dict[str, Any]:
    """Serve a leak until the report suspects it; return its size there."""
    with tempfile.TemporaryDirectory() as folder:
        app = _application(module, folder, leak_watch=True)
        documents = app.extensions["knitperf"].documents
        get, end = Get(app, case.path), time.monotonic() + float(seconds)
        row: Any = None
        while row is None and time.monotonic() < end:
            turn = time.monotonic() + 1.0
            while time.monotonic() < turn:
                get()
                time.sleep(PAUSE_S)
            report = documents.report("run")
            [endpoint] = report["endpoints"]
            row = endpoint["leak"]
        result: dict[str, Any] = {"bytes": None, "total": 0.0, "requests": endpoint["count"],
                                  "disagreements": []}  # fmt: skip
        if row is not None:
            result |= {
                "bytes": row["kb_per_request"] * 1024, "total": row["grown_mb"] * MB,
                "disagreements": _disagreements(report, documents.memory(), row),
            }  # fmt: skip
        app.extensions["knitperf"].close()
    return result


def _disagreements(
    report: Mapping[str, Any], memory: Mapping[str, Any], leak: Mapping[str, Any]
) -> list[str]:
    """Return the parts of the pages that disagree on a leak, as sentences."""
    [card] = [row for row in report["scorecard"] if row["criterion"] == "memory leaks"]
    [suspect] = memory["suspects"] or [{"kb_per_request": 0.0, "grown_mb": 0.0}]
    resident = memory["total_rss_mb"]
    grown = sum(row["grown_mb"] for row in memory["growth"])
    checks = {
        "the scorecard is content": card["ok"] is not False,
        "no finding is on it": all(
            row["type"] != "LEAK_SUSPECTED" for row in report["bottlenecks"]
        ),
        "the badge calls memory fine": memory_level(memory) == LEVELS["fine"],  # type: ignore[arg-type]
        "the memory page has another size": suspect["kb_per_request"] != leak["kb_per_request"],
        f"of {leak['grown_mb']:.1f} MB in total, {resident} MB are resident": leak["grown_mb"]
        > resident,
        "the workers do not grow": grown <= 0,
    }
    return [sentence for sentence, disagrees in checks.items() if disagrees]


def main(what: str, corpus: str, name: str, *words: str) -> None:
    """Measure one case in this process, which must be a fresh one; print the result as JSON."""
    module = CORPORA[corpus]
    case = next(case for case in module.CASES if case.name == name)
    measure: Callable[..., dict[str, Any]] = {"reported": _reported, "traced": _traced}[what]
    print(json.dumps(measure(module, case, *words)), flush=True)
    os._exit(0)  # a case has a thread that never ends


if __name__ == "__main__":
    main(*sys.argv[1:])
