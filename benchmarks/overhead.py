"""What the extension adds to a request, in CPU time, against bare and against a peer.

All variants live in one process and take turns in blocks, in a new order each round, so that a slow
second of the machine hits all of them. Each block is compared with the bare block of its own round;
the median of these differences is the figure. Time is CPU time of the requesting thread; what the
housekeeper's thread uses beside it is reported apart.

The unit is a **hook**: what one empty ``after_request`` function costs. A host where everything is
twice as slow gives the same number of hooks.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import parts
from .apps import small
from .outcome import Grid, Outcome, Spread
from .wsgi import Get

BARE = "bare"
HOOK = "one empty after_request"
HOOKS = "four empty after_request"
PEER = "prometheus_flask_exporter"
FULL = "knitperf, everything on"
PLAIN = "knitperf: wall, count, status"
OFF = "knitperf, KNITPERF_ENABLED=False"


def variants(state: Path) -> dict[str, Any]:
    """Return the applications that are compared, by name."""

    def perf(name: str, **config: Any) -> Any:
        folder = str(state / name)
        return small({"KNITPERF_STATE_DIR": folder, **config})

    made = {
        BARE: small(None), HOOK: small(None), HOOKS: small(None),
        FULL: perf("full"), PLAIN: perf("plain", KNITPERF_CPU_SAMPLE=10_000),
        OFF: perf("off", KNITPERF_ENABLED=False),
    }  # fmt: skip
    for name, count in ((HOOK, 1), (HOOKS, 4)):
        for _ in range(count):
            made[name].after_request(_empty())
    peer = _peer(small(None))
    if peer is not None:
        made[PEER] = peer
    return made


def _empty() -> Callable[[Any], Any]:
    return lambda response: response


def _peer(app: Any) -> Any:
    """Return an app with the peer's default metrics, ``None`` where it is not installed."""
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_flask_exporter import PrometheusMetrics
    except ImportError:
        return None
    PrometheusMetrics(app, registry=CollectorRegistry())
    return app


def measure(
    gets: dict[str, Get], rounds: int, requests: int, seed: int = 1
) -> dict[str, list[float]]:
    """Return CPU microseconds per request of each block, by variant, in the order of rounds."""
    order, rng = list(gets), random.Random(seed)
    found: dict[str, list[float]] = {name: [] for name in gets}
    for get in gets.values():
        get.times(600)  # beyond the first 256, which are sampled in full
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            gc.collect()
            began = time.thread_time_ns()
            gets[name].times(requests)
            found[name].append((time.thread_time_ns() - began) / requests / 1000)
    return found


def differences(found: dict[str, list[float]], base: str = BARE) -> dict[str, Spread]:
    """Return what each variant adds to the base's block of the same round."""
    return {
        name: Spread.of([a - b for a, b in zip(values, found[base], strict=True)])
        for name, values in found.items() if name != base
    }  # fmt: skip


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    rounds, requests = (4, 60) if quick else (160, 300)
    with tempfile.TemporaryDirectory() as folder:
        apps = variants(Path(folder))
        gets = {name: Get(app) for name, app in apps.items()}
        process, thread = time.process_time_ns(), time.thread_time_ns()
        found = measure(gets, rounds, requests)
        beside = (time.process_time_ns() - process) - (time.thread_time_ns() - thread)
        added = differences(found)
        bare = Spread.of(found[BARE])
        hook = added[HOOKS].median / 4
        _judge(outcome, added, hook)
        _table(outcome, found, added, bare, hook)
        _beside(outcome, apps, beside)
        ladder, costs = parts.measure(Path(folder), rounds // 2, requests, quick)
        outcome.grids += [ladder, costs]
        for app in apps.values():
            session = app.extensions.get("knitperf")
            if session is not None:
                session.close()
    outcome.details |= {
        "rounds": rounds, "requests_per_block": requests, "hook_us": round(hook, 3),
        "blocks_us": {name: [round(v, 2) for v in values] for name, values in found.items()},
        "added_us": {name: spread.document() for name, spread in added.items()},
    }  # fmt: skip
    outcome.notes.append(
        f"{rounds} rounds of one block of {requests} requests per variant, direct WSGI calls"
    )
    return outcome


def _judge(outcome: Outcome, added: dict[str, Spread], hook: float) -> None:
    def hooks(name: str) -> float:
        return added[name].median / hook

    first = added[HOOK].median
    outcome.judge("overhead.hook", "one empty after_request hook (a quarter of four; the first)",
                  "–", f"{hook:.2f} µs; {first:.2f} µs", None)  # fmt: skip
    for key, name, most in (("plain", PLAIN, 4.0), ("everything", FULL, 5.0)):
        outcome.judge(
            f"overhead.{key}", f"CPU added, {name.partition('knitperf')[2].strip(' :,')}",
            f"≤ {most:.0f} hooks (aim 3)",
            f"{hooks(name):.1f} hooks, {added[name].median:.1f} µs", hooks(name) <= most,
        )  # fmt: skip
    if PEER in added:
        share = added[FULL].median / added[PEER].median
        outcome.judge("overhead.peer", f"everything on, as a share of {PEER}", "≤ 1/5",
                      f"1/{1 / share:.1f}, it adds {added[PEER].median:.1f} µs", share <= 0.2)  # fmt: skip
    else:
        outcome.judge("overhead.peer", f"share of {PEER}", "≤ 1/5", "it is not installed", False)
    off = hooks(OFF)
    within = abs(off) <= 0.25
    outcome.judge("overhead.off", "CPU added when disabled", "0 hooks", f"{off:+.2f} hooks", within)


def _table(
    outcome: Outcome, found: dict[str, list[float]], added: dict[str, Spread], bare: Spread,
    hook: float,
) -> None:  # fmt: skip
    lines = [(BARE, f"{bare.text()}", "", "", "")]
    for name, spread in sorted(added.items(), key=lambda item: item[1].median):
        lines.append((
            name, f"{Spread.of(found[name]).median:.1f}", spread.text(),
            f"{spread.median / hook:.1f}", f"{spread.median / bare.median:.0%}",
        ))  # fmt: skip
    heads = ("variant", "µs a request", "added (quartiles)", "hooks", "of bare")
    outcome.grids.append(Grid("CPU time of one request", heads, tuple(lines)))


def _beside(outcome: Outcome, apps: dict[str, Any], nanoseconds: int) -> None:
    """Note what threads beside the requesting one used, and what the extension itself believes."""
    workers = sum(
        1 for app in apps.values() if (s := app.extensions.get("knitperf")) and s.recorder.begun
    )
    session = apps[FULL].extensions["knitperf"]
    session.profile.account()
    session.recorder.worker.fold()
    said = session.report("run")["self"]["us_per_request"]
    outcome.details["beside_ms"] = round(nanoseconds / 1e6, 1)
    outcome.details["self_us_per_request"] = said
    outcome.notes.append(
        f"Threads beside the requesting one ({workers} housekeepers, folding) used "
        f"{nanoseconds / 1e6:.0f} ms over the whole run; the extension itself reports {said} µs of "
        "its own per request"
    )
