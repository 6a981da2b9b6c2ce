"""Saving that the report predicts for a view, against the saving of its repair.

Each case is a view in two forms that answer the same. The report on the first form has the prediction;
both are served in turn, and the difference of their response times is the saving.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from flask import Flask

from .outcome import Grid, Outcome
from .sampled import sampled_report

WITHIN = 0.25
SEEDS = tuple(range(10))
FORMS = ("sick", "repaired")

View = Callable[[bool], Any]
"""Answers a request; its argument is whether it is repaired."""


class Saving(NamedTuple):
    """Saving of one repair in milliseconds per request; ``predicted`` is ``None`` without a finding."""

    case: str
    seed: int
    predicted: float | None
    measured: float
    before: float

    @property
    def ratio(self) -> float:
        """The predicted saving as a multiple of the measured one."""
        return (self.predicted or 0.0) / self.measured


def add_view(app: Flask, name: str, view: View) -> None:
    """Add both forms of a view to an application."""
    app.add_url_rule(f"/{name}/sick", f"{name}.sick", lambda: view(False))
    app.add_url_rule(f"/{name}/repaired", f"{name}.repaired", lambda: view(True))


def served(
    app: Flask, names: Iterable[str], seed: int, pairs: int, seconds: float = 0.0,
    *, collects: bool = True,
) -> Iterator[Saving]:  # fmt: skip
    """Serve both forms of each case in turn; yield predictions and savings.

    Args:
        app: with the views.
        names: of the cases.
        seed: for the results.
        pairs: least number of requests of each form.
        seconds: least total time of the sick form, for its samples.
        collects: whether garbage is collected as in a server. A full collection of a large process takes
            50 ms, and belongs to the form that it happens in.
    """
    client = app.test_client()
    if not collects:
        gc.collect()
        gc.freeze()
    measured: dict[str, tuple[float, float]] = {}
    for name in names:
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        answers = {form: client.get(f"/{name}/{form}").data for form in times}  # the first is cold
        assert answers["sick"] == answers["repaired"], f"the forms of {name} answer differently"
        while len(times["sick"]) < pairs or sum(times["sick"]) < seconds:
            for form, taken in times.items():
                began = time.perf_counter()
                client.get(f"/{name}/{form}")
                taken.append(time.perf_counter() - began)
        before, after = (statistics.fmean(taken) * 1000 for taken in times.values())
        measured[name] = before, after
    report = sampled_report(app)
    for name, (before, after) in measured.items():
        yield Saving(name, seed, _predicted(report, f"{name}.sick"), before - after, before)


def _predicted(report: dict[str, Any], endpoint: str) -> float | None:
    """Return the saving in milliseconds per request that a report predicts for an endpoint."""
    predictions = [
        finding["saving"]["ms_per_request"]
        for finding in report["bottlenecks"]
        if finding["endpoint"] == endpoint and finding["saving"] is not None
    ]
    return sum(predictions) if predictions else None


def judged(name: str, what: str, rows: Sequence[Saving]) -> Outcome:
    """Return the judgement of savings, with a table by case.

    Args:
        name: of the benchmark.
        what: is predicted.
        rows: of all seeds.
    """
    outcome = Outcome()
    missing = [f"seed {row.seed}: no prediction for {row.case}" for row in rows
               if row.predicted is None]  # fmt: skip
    worst = max(rows, key=lambda row: abs(row.ratio - 1))
    within = sum(abs(row.ratio - 1) <= WITHIN for row in rows)
    outcome.judge(
        name, what, "within ± 25 %",
        f"{within} of {len(rows)}, worst {worst.ratio:.2f} ({worst.case.replace('_', ' ')})",
        not missing and within == len(rows),
    )  # fmt: skip
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        of_case = [row for row in rows if row.case == case]
        ratios = sorted(row.ratio for row in of_case)
        share = statistics.fmean(row.measured / row.before for row in of_case)
        lines.append((
            case.replace("_", " "), f"{share:.0%}", f"{ratios[0]:.2f}",
            f"{statistics.median(ratios):.2f}", f"{ratios[-1]:.2f}",
        ))  # fmt: skip
    heads = ("case", "saved share of its time", "least ratio", "median", "largest")
    outcome.grids.append(Grid("Predicted over measured saving", heads, tuple(lines)))
    outcome.notes += missing
    return outcome
