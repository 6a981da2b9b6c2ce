"""Test suites of other projects, with the extension or the wrapper switched on everywhere.

Each suite runs twice, without and with: a plugin of pytest gives the extension to every application as
it is created, watches every engine of SQLAlchemy, or wraps every connection of ``sqlite3``. The same
tests have to pass. A test with another outcome runs twice more each way, alone with the others that
differ; it counts if it differs each time. Known exceptions are listed with their reasons.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..harness.host_suites import SUITES, Environment, Suite, count, differing, outcome
from ..harness.outcome import Grid, Outcome

_REPEATS = 2
_FOLDER = "HOST_SUITES_DIR"
"""Variable that names a folder in which downloads and the environment are kept."""

_INIT = "the connection or cursor is a proxy, whose `__init__` is not the driver's"
_EVENTS = "asserts that an engine has no event listeners; a watched engine has ours"
KNOWN: dict[str, dict[str, str]] = {
    "CPython, sqlite3": {
        "ConnectionTests::test_connection_reinit": _INIT,
        "ConnectionTests::test_connection_bad_reinit": _INIT,
        "RecursiveUseOfCursors::test_recursive_cursor_init": _INIT,
        "OpenTests::test_database_keyword":
            "asserts the exact `type` of a connection, which is a proxy's; `isinstance` holds",
        "RegressionTests::test_bpo31770":
            "`sqlite3.Cursor(connection)` takes no proxy; `connection.cursor()` works",
    },
    "SQLAlchemy, engine": {
        "EngineEventsTest::test_add_event_after_connect": _EVENTS,
        "EngineEventsTest::test_connection_clslevel_events[not_engine_has_events]": _EVENTS,
        "EngineEventsTest::test_force_conn_events_false": _EVENTS,
        "ExecuteTest::test_generative_engine_event_dispatch_hasevents": _EVENTS,
    },
}  # fmt: skip
"""Reasons of known exceptions, by suite and the end of the test's name."""


@dataclass
class Comparison:
    """The result of one suite.

    Attributes:
        suite: the suite.
        plain: number of tests that passed without, of all.
        ours: number that passed with the extension.
        total: number of tests.
        known: tests that differ, with the reason.
        unknown: tests that differ without one, with their outcomes.
        unsteady: tests that differed once, and not again.
    """

    suite: Suite
    plain: int
    ours: int
    total: int
    known: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    unsteady: list[str] = field(default_factory=list)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    kept = os.environ.get(_FOLDER)
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return _run(Environment(Path(kept)), quick)
    with tempfile.TemporaryDirectory() as folder:
        return _run(Environment(Path(folder)), quick)


def _run(environment: Environment, quick: bool) -> Outcome:
    environment.create()
    suites = [replace(suite, tests=(suite.quick,)) for suite in SUITES] if quick else SUITES
    results = []
    for suite in suites:
        print(f"   {suite.name}", flush=True)
        results.append(_compare(environment, suite))
    outcome = Outcome()
    _judge(outcome, results)
    outcome.grids.append(Grid(
        "Tests that pass without and with", ("suite", "version", "tests", "pass without",
                                             "pass with", "differ, with a reason", "differ"),
        tuple(_line(result) for result in results),
    ))  # fmt: skip
    exceptions = tuple(
        (result.suite.name, f"`{test.rpartition('/')[2]}`", reason)
        for result in results for test, reason in result.known.items()
    )  # fmt: skip
    outcome.grids.append(Grid("Exceptions", ("suite", "test", "reason"), exceptions))
    for result in results:
        outcome.notes += [f"{result.suite.name}: {test}: {change}"
                          for test, change in result.unknown.items()]  # fmt: skip
        if result.suite.left_out:
            outcome.notes.append(f"{result.suite.name}: {result.suite.left_out}")
        if result.unsteady:
            outcome.notes.append(
                f"{result.suite.name}: differed once, and not when repeated: "
                + ", ".join(f"`{test.rpartition('/')[2]}`" for test in result.unsteady)
            )
    return outcome


def _compare(environment: Environment, suite: Suite) -> Comparison:
    """Run a suite without and with; repeat what differs."""
    plain, ours = environment.run(suite, ""), environment.run(suite, suite.mode)
    result = Comparison(suite, count(plain.values(), "passed"), count(ours.values(), "passed"),
                        len({*plain, *ours}))  # fmt: skip
    tests = differing(plain, ours)
    steady = set(tests)
    known = KNOWN.get(suite.name, {})
    repeated = [test for test in tests if _reason(known, test) is None]
    for _ in range(_REPEATS if repeated else 0):
        pair = [environment.run(suite, mode, *repeated) for mode in ("", suite.mode)]
        steady -= {*pair[0], *pair[1]} - {*differing(*pair)}  # one that did not run stays
    for test in tests:
        reason = _reason(known, test)
        if reason is not None:
            result.known[test] = reason
        elif test in steady:
            change = f"{outcome(plain, test)}, then {outcome(ours, test)}"
            result.unknown[test] = f"{change}: {ours.get(test, ['', ''])[1].splitlines()[:1]}"
        else:
            result.unsteady.append(test)
    return result


def _reason(known: dict[str, str], test: str) -> str | None:
    return next((reason for end, reason in known.items() if test.endswith(end)), None)


def _judge(outcome: Outcome, results: list[Comparison]) -> None:
    unknown = sum(len(result.unknown) for result in results)
    listed = sum(len(result.known) for result in results)
    total = sum(result.total for result in results)
    all_ran = all(result.plain for result in results)
    outcome.judge(
        "host_suites", f"tests of {len(results)} suites with another outcome than without",
        "0, and listed exceptions", f"{unknown} of {total:,}; {listed} listed",
        unknown == 0 and all_ran,
    )  # fmt: skip
    flask = next(result for result in results if result.suite.name == "Flask")
    freed = not any("zero_refcount" in test for test in (*flask.known, *flask.unknown))
    outcome.judge(
        "host_suites.freed", "`del app` frees it: Flask's own test of that", "passes",
        "as without" if freed else "differs", freed,
    )  # fmt: skip


def _line(result: Comparison) -> tuple[str, ...]:
    version = result.suite.source.partition("==")[2] or "of the interpreter"
    return (
        result.suite.name, version, *(f"{number:,}" for number in (
            result.total, result.plain, result.ours, len(result.known), len(result.unknown),
        )),
    )  # fmt: skip
