"""Sick against fixed: one list of requests through both, the answers proved equal.

The repaired demo is only worth a comparison if it says the same. Every answer's status and
body are compared by sha256; the few that are declared to differ in the plan are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from demo_app import serve
from demo_app.plants import Plan, Plant, plan
from demo_app.settings import Settings
from demo_app.traffic import Answer, Request, drive, quantile, requests


@dataclass(frozen=True)
class Comparison:
    """Both runs of one list.

    Attributes:
        found: the plan they ran under.
        sick: answers with the problems.
        fixed: answers without, in the same order.
    """

    found: Plan
    sick: list[Answer]
    fixed: list[Answer]

    def differences(self) -> list[str]:
        """A sentence for every pair of answers that should be equal and is not."""
        return [
            f"{before.request.method} {before.request.path}:"
            f" sick {before.status} {before.digest[:12]}, fixed {after.status} {after.digest[:12]}"
            for before, after in zip(self.sick, self.fixed, strict=True)
            if not _same(before, after) and not self._may_differ(before, after)
        ]

    def declared(self) -> int:
        """How many pairs differ as the plan says they may."""
        pairs = list(zip(self.sick, self.fixed, strict=True))
        return sum(not _same(*pair) and self._may_differ(*pair) for pair in pairs)

    def _may_differ(self, before: Answer, after: Answer) -> bool:
        """A declared failure or lost answer when sick, a good one when fixed."""
        declared = {plant.kind for plant in self.found.plants if plant.differs}
        failed = before.status in (0, 500) and after.status == 200
        return failed and before.request.kind in declared

    def table(self) -> str:
        """Medians before and after per problem endpoint, at most 80 columns wide."""
        rows = [
            f"{'':<34}{'median ms':^22}{'':>2}{'worst ms':^20}",
            f"{'problem endpoint':<34}{'sick':>8}{'fixed':>8}{'ratio':>8}{'sick':>10}{'fixed':>10}",
        ]
        rows.extend(self._row(plant) for plant in self.found.plants if plant.problem)
        return "\n".join(row.rstrip() for row in rows if row)

    def _row(self, plant: Plant) -> str:
        before, after = (
            [a.seconds * 1000 for a in run if a.request.kind == plant.kind]
            for run in (self.sick, self.fixed)
        )
        if not before or not after:
            return ""
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
    found = plan(settings.seed)
    runs = []
    for fixed in (False, True):
        mode = dataclasses.replace(settings, fixed=fixed)
        env = serve.environment(mode, f"compare-{'fixed' if fixed else 'sick'}")
        with serve.server(serving, env, found.places["health"].url) as address:
            runs.append(drive(address, listed, clients))
    return Comparison(found, *runs)


def listed(settings: Settings, n: int, seed: int) -> list[Request]:
    """The comparison's request list: the ordinary mix, every endpoint at least five times."""
    return requests(plan(settings.seed), n, seed, least=5)
