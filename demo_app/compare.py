"""Sick against fixed: one list of requests through both, the answers proved equal.

The repaired demo is only worth a comparison if its answers are the same. Every answer's status and
body are compared by sha256; the few that are declared to differ in the plan are counted.

Where the sick server's own report predicts the avoidable time, that prediction, made before
anything was repaired, stands beside what the repair really saved.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

from demo_app import serve
from demo_app.plants import Plan, Plant, plan
from demo_app.settings import Settings
from demo_app.traffic import Answer, Request, drive, quantile, requests


@dataclass(frozen=True)
class Comparison:
    """Both runs of one list.

    Attributes:
        plan: the plan of both runs.
        sick: answers with the problems.
        fixed: answers without, in the same order.
        predicted: seconds that the sick run's report calls avoidable, by endpoint.
    """

    plan: Plan
    sick: list[Answer]
    fixed: list[Answer]
    predicted: dict[str, float] = field(default_factory=dict)

    def savings(self) -> dict[str, tuple[float, float]]:
        """Seconds predicted and seconds really saved over the whole list, by endpoint."""
        saved: dict[str, float] = {}
        for before, after in zip(self.sick, self.fixed, strict=True):
            endpoint = before.request.endpoint
            saved[endpoint] = saved.get(endpoint, 0.0) + before.seconds - after.seconds
        return {
            name: (predicted, saved.get(name, 0.0)) for name, predicted in self.predicted.items()
        }

    def differences(self) -> list[str]:
        """A sentence for every pair of answers that should be equal and is not."""
        return [
            f"{before.request.method} {before.request.path}:"
            f" sick {before.status} {before.digest[:12]}, fixed {after.status} {after.digest[:12]}"
            for before, after in zip(self.sick, self.fixed, strict=True)
            if not _same(before, after) and not self._may_differ(before, after)
        ]

    def declared(self) -> int:
        """Number of pairs that differ as the plan permits."""
        pairs = list(zip(self.sick, self.fixed, strict=True))
        return sum(not _same(*pair) and self._may_differ(*pair) for pair in pairs)

    def _may_differ(self, before: Answer, after: Answer) -> bool:
        """A declared failure or lost answer when sick, a good one when fixed."""
        declared = {plant.kind for plant in self.plan.plants if plant.differs}
        failed = before.status in (0, 500) and after.status == 200
        return failed and before.request.kind in declared

    def table(self) -> str:
        """Medians before and after per problem endpoint, at most 80 columns wide."""
        rows = [
            f"{'':<34}{'median ms':^22}{'':>2}{'worst ms':^20}",
            f"{'problem endpoint':<34}{'sick':>8}{'fixed':>8}{'ratio':>8}{'sick':>10}{'fixed':>10}",
        ]
        rows.extend(self._row(plant) for plant in self.plan.plants if plant.problem)
        if self.predicted:
            rows += [
                "",
                f"{'saving over the whole list':<34}{'predicted':>12}{'saved':>12}{'ratio':>8}",
            ]
        for name, (predicted, saved) in sorted(self.savings().items()):
            ratio = f"{predicted / saved:>8.2f}" if saved > 0 else f"{'–':>8}"
            rows.append(f"{name[:33]:<34}{predicted:>10.1f} s{saved:>10.1f} s{ratio}")
        return "\n".join(row.rstrip() for row in rows)

    def _row(self, plant: Plant) -> str:
        before, after = (
            [a.seconds * 1000 for a in run if a.request.kind == plant.kind]
            for run in (self.sick, self.fixed)
        )
        if not before or not after:
            return f"{plant.endpoint[:33]:<34}{'not in the list':>16}"
        sick, fixed = quantile(before, 0.5), quantile(after, 0.5)
        return (
            f"{plant.endpoint[:33]:<34}{sick:>8.1f}{fixed:>8.1f}{sick / fixed:>7.1f}x"
            f"{max(before):>10.1f}{max(after):>10.1f}"
        )


def _same(before: Answer, after: Answer) -> bool:
    return (before.status, before.digest) == (after.status, after.digest)


def run(
    settings: Settings, serving: serve.Serving, listed: Sequence[Request], clients: int
) -> Comparison:
    """Sends the list to a sick server, then to a fixed one."""
    plan_ = plan(settings.seed)
    runs: list[list[Answer]] = []
    predicted: dict[str, float] = {}
    for fixed in (False, True):
        mode = dataclasses.replace(settings, fixed=fixed)
        env = serve.environment(mode, f"compare-{'fixed' if fixed else 'sick'}")
        with serve.server(serving, env, plan_.places["health"].url) as address:
            runs.append(drive(address, listed, clients))
            if not fixed and not mode.bare:
                predicted = _predicted(address, env["KNITPERF_ACCESS_TOKEN"])
    return Comparison(plan_, runs[0], runs[1], predicted)


def _predicted(address: str, token: str) -> dict[str, float]:
    """Seconds that a server's report calls avoidable, by endpoint."""
    call = urllib.request.Request(
        f"{address}/perf/report?window=run",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as answer:
        document = json.load(answer)
    return {
        row["endpoint"]: row["saving"]["seconds"]
        for row in document["bottlenecks"]
        if row["saving"]
    }


def listed(settings: Settings, n: int, seed: int) -> list[Request]:
    """The comparison's request list: the ordinary mix, every endpoint at least five times."""
    return requests(plan(settings.seed), n, seed, least=5)
