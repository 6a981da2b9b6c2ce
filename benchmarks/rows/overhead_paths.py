"""CPU time that the extension adds with hooks, on the slow path, and to an application like an ERP.

For each application there are a bare one, ours and a peer's in one process, measured in turns as in
``overhead``. The hooks are ``before_request`` functions: empty ones, and one that does a fixed amount of
work, about a millisecond. Each request of the slow path has what the fast path leaves out: a section, a
response without a body, a streamed one, an unhandled exception. A watched path had a slow request just
before, so that the CPU clocks are read before each request. The ERP has 200 rules in blueprints, and
four hooks that do what such hooks do.

Beside the time added, as measured from outside, stands the extension's own figure on its page.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from flask import Blueprint, Flask, Response, g, request, session

from ..harness.blocks import BARE, differences, measure
from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get

OURS, PEER = "flask_knitperf", "prometheus_flask_exporter"
MAX_SHARE = 1 / 5
MAX_DEVIATION = 0.2
"""Largest difference between the extension's own figure and the measured one, as a share of it."""
_WORK = 40_000
"""Numbers that the hook with work adds: about a millisecond."""
_SLOW_WORK = 2_000_000
"""Numbers that a slow view adds: more than the 20 ms from which a request is slow."""
_RULES = 200
_PATH = "/api/items/7"

Section = Callable[[str], AbstractContextManager[Any]]


class Scenario(NamedTuple):
    """One kind of application.

    Attributes:
        id: of its rows.
        what: in words.
        limit_us: CPU time that the extension may add to a request.
        build: returns the application; opens sections by its argument.
        rounds: number of rounds, relative to the default: more where the noise is larger.
        slow_first: whether a slow request precedes each block.
    """

    id: str
    what: str
    limit_us: float
    build: Callable[[Section], Flask]
    rounds: int = 1
    slow_first: bool = False


class Measurement(NamedTuple):
    """The measurement of one process: CPU microseconds by block and variant, and our own figure."""

    blocks: dict[str, list[float]]
    own_us: float | None


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    processes, rounds, requests = (1, 4, 100) if quick else (5, 40, 300)
    lines: list[tuple[str, ...]] = []
    figures: list[tuple[str, float, float]] = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for scenario in SCENARIOS:
            tasks = [(scenario.id, rounds * scenario.rounds, requests, n) for n in range(processes)]
            line, ours, peer = _judge(outcome, scenario, pool.starmap(_in_process, tasks, 1))
            lines.append(line)
            figures.append((scenario.what, round(ours, 1), round(peer, 1)))
    outcome.figures = {"added_us": figures}
    heads = (
        "application",
        "µs bare",
        "added (quartiles)",
        "by the exporter",
        "share",
        "own figure",
    )
    outcome.grids.append(Grid("CPU time of one request", heads, tuple(lines)))
    outcome.notes.append(
        f"{processes} processes for each application, {rounds} rounds (more with a hook of 1 ms) of one "
        f"block of {requests} requests per variant; direct WSGI calls"
    )
    return outcome


def _judge(
    outcome: Outcome, scenario: Scenario, measured: list[Measurement]
) -> tuple[tuple[str, ...], float, float]:
    """Judge a scenario; return its line of the table, and the microseconds that we and the peer add."""
    blocks = {
        name: [v for one in measured for v in one.blocks[name]] for name in measured[0].blocks
    }
    added, bare = differences(blocks), Spread.of(blocks[BARE]).median
    ours, peer = added[OURS].median, added[PEER].median
    share = ours / peer if peer > 0 else float("inf")
    outcome.judge(
        f"overhead_paths.{scenario.id}", f"CPU added, {scenario.what}",
        f"≤ {scenario.limit_us:.0f} µs, ≤ 1/5 of {PEER}",
        f"{ours:.1f} µs, 1/{1 / share:.1f} of {peer:.1f}",
        ours <= scenario.limit_us and share <= MAX_SHARE,
    )  # fmt: skip
    figures = [one.own_us for one in measured]
    known = [figure for figure in figures if figure is not None]
    own = statistics.median(known) if known else None
    is_close = own is not None and abs(own - ours) <= MAX_DEVIATION * ours
    text = "never measured" if own is None else f"{own:.1f} µs"
    outcome.judge(
        f"overhead_paths.{scenario.id}.own", f"the page's own figure, {scenario.what}",
        "± 20 % of the measured one", f"{text}; measured {ours:.1f}",
        is_close and len(known) == len(figures),
    )  # fmt: skip
    line = (scenario.what, f"{bare:.0f}", added[OURS].text(1), f"{peer:.1f}", f"{share:.2f}", text)
    return line, ours, peer


def _in_process(scenario_id: str, rounds: int, requests: int, seed: int) -> Measurement:
    """Measure one scenario in the current process."""
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics

    from flask_knitperf import KnitPerf

    scenario = next(one for one in SCENARIOS if one.id == scenario_id)
    perf = KnitPerf()
    apps = {BARE: scenario.build(nullcontext), OURS: scenario.build(perf.section),
            PEER: scenario.build(nullcontext)}  # fmt: skip
    PrometheusMetrics(apps[PEER], registry=CollectorRegistry())
    with tempfile.TemporaryDirectory() as folder:
        apps[OURS].config["KNITPERF_STATE_DIR"] = str(Path(folder) / "state")
        perf.init_app(apps[OURS])
        gets = {
            name: Get(app.wsgi_app, _PATH, HTTP_COOKIE="session=none") for name, app in apps.items()
        }
        slow = {name: Get(app.wsgi_app, _PATH, "slow=1") for name, app in apps.items()}
        own = apps[OURS].extensions["knitperf"]
        blocks = measure(
            gets, rounds, requests, seed,
            before=lambda name: slow[name]() if scenario.slow_first else None,
        )  # fmt: skip
        own.profile.record_load()
        own.recorder.worker.fold()
        us_per_request = own.documents.report("run")["self"]["us_per_request"]
        own.close()
    return Measurement(blocks, us_per_request)


# -- the applications ------------------------------------------------------------------------------


def _with_view(view: Callable[[int], Any]) -> Flask:
    app = Flask("paths")
    app.config["SECRET_KEY"] = "paths"
    app.logger.disabled = True  # an unhandled exception is logged
    app.add_url_rule("/api/items/<int:number>", "item", view)
    return app


def _item(number: int) -> dict[str, Any]:
    if "slow" in request.args:
        sum(range(_SLOW_WORK))
    return {"number": number, "name": "yarn", "weight_kg": 12.5}


def _with_hooks(count: int) -> Callable[[Section], Flask]:
    def build(_: Section) -> Flask:
        app = _with_view(_item)
        for _ in range(count):
            app.before_request(_empty())
        return app

    return build


def _empty() -> Callable[[], None]:
    return lambda: None


def _with_work(_: Section) -> Flask:
    app = _with_view(_item)

    @app.before_request
    def works() -> None:
        sum(range(_WORK))

    return app


def _with_section(section: Section) -> Flask:
    def view(number: int) -> dict[str, Any]:
        with section("price"):
            return _item(number)

    return _with_view(view)


def _without_body(_: Section) -> Flask:
    return _with_view(lambda number: ("", 204))


def _streamed(_: Section) -> Flask:
    def pieces() -> Iterator[str]:
        yield "yarn"

    return _with_view(lambda number: Response(pieces(), mimetype="text/plain"))


def _failing(_: Section) -> Flask:
    def view(number: int) -> str:
        raise RuntimeError("planned failure")

    return _with_view(view)


def _erp(_: Section) -> Flask:
    app = _with_view(_item)
    for part in range(10):
        module = Blueprint(f"module{part}", "paths", url_prefix=f"/module{part}")
        for number in range(_RULES // 10):
            module.add_url_rule(f"/page{number}/<int:number>", f"page{number}", _item)
        app.register_blueprint(module)
    users = {None: "anonymous"}

    @app.before_request
    def load_user() -> None:
        g.user = users[session.get("user")]

    @app.before_request
    def choose_language() -> None:
        g.language = request.accept_languages.best_match(("en", "de")) or "en"

    @app.before_request
    def check_rights() -> None:
        g.may_write = g.user != "anonymous"

    @app.before_request
    def read_filter() -> None:
        g.filter = request.args.get("filter", "")

    return app


SCENARIOS = (
    Scenario("hooks_0", "no before_request function", 5, _with_hooks(0)),
    Scenario("hooks_1", "one empty before_request function", 7, _with_hooks(1)),
    Scenario("hooks_4", "four empty before_request functions", 10, _with_hooks(4)),
    Scenario("hook_1ms", "one before_request function of 1 ms", 10, _with_work, rounds=4),
    Scenario("watched", "fast responses on a path that was slow before", 15, _with_hooks(0),
             slow_first=True),
    Scenario("section", "a section", 15, _with_section),
    Scenario("bodiless", "a response without a body (204)", 15, _without_body),
    Scenario("streamed", "a streamed body", 15, _streamed),
    Scenario("failing", "an unhandled exception", 15, _failing),
    Scenario("erp", "200 rules, four hooks that work, a trivial view", 10, _erp),
)  # fmt: skip
