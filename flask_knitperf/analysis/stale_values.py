"""Cached functions whose hits were verified and differed from a new load.

One difference proves that a dependency is missing where a value is cached for ever, or where its
dependencies are declared. A value with a TTL may be older than its source by intention: there the share
of such hits is judged against ``KNITPERF_CACHE_STALE_BUDGET``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.settings import Settings
from ..core.units import count
from ..metrics.catalogue import CACHE_DIFFERENCE, DifferenceKind
from ..metrics.histogram import binomial_tail
from ..metrics.readings import Readings
from .caches import CacheUse, cache_uses

ALPHA = 0.01
"""Significance level at which a share exceeds the budget."""
_REASONS: dict[str, str] = {
    DifferenceKind.UNDECLARED: "it reads {source}, on which its cache does not depend",
    DifferenceKind.UNREPEATABLE: "each load of it has another result",
    DifferenceKind.UNEXPLAINED: "its source changes, and no read of it was detected",
    DifferenceKind.AGED: "its source changes before its values expire",
}


@dataclass(frozen=True, slots=True)
class StaleValues:
    """Hits of one cached function that were out of date, for one reason.

    Attributes:
        endpoint: of the requests.
        method: of the requests.
        namespace: of the function.
        function: its module and name.
        kind: the reason.
        source: the file or table that only the new load has read, empty where there is none.
        count: number of these hits.
        use: of the namespace.
    """

    endpoint: str
    method: str
    namespace: str
    function: str
    kind: str
    source: str
    count: int
    use: CacheUse

    @property
    def text(self) -> str:
        """The fault, a sentence without a full stop."""
        of_all = f"{self.count} of {count(self.use.verified, 'verified hit')} of {self.function}"
        return f"{of_all} had an old value: {_REASONS[self.kind].format(source=self.source)}"

    @property
    def repair(self) -> str:
        """The repair, a sentence without a full stop."""
        kind, _, name = self.source.partition(" ")
        dependency = f'{kind.capitalize()}("{name}")'
        if self.kind == DifferenceKind.UNDECLARED:
            return f'Add {dependency} to its depends, or set depends="auto"'
        if self.kind == DifferenceKind.UNREPEATABLE:
            return "Do not cache what depends on the time or on random numbers, or set a ttl"
        if self.kind == DifferenceKind.UNEXPLAINED:
            return "Set a ttl, or call invalidate() where its source changes"
        return f"Shorten its ttl, or add {dependency} to its depends" if name else "Shorten its ttl"


def stale_values(readings: Readings, settings: Settings) -> list[StaleValues]:
    """Return the functions with faulty hits, the most frequent first."""
    uses = {use.name: use for use in cache_uses(readings)}
    rows = []
    for note in readings.notes(CACHE_DIFFERENCE):
        use = uses.get(note.key.namespace)
        if use is None or not use.verified:
            continue
        if note.key.kind == DifferenceKind.AGED and not _exceeds(use, settings.cache_stale_budget):
            continue
        rows.append(StaleValues(*note.key, note.count, use))
    return sorted(rows, key=lambda row: (-row.count, row.function, row.endpoint, row.source))


def _exceeds(use: CacheUse, budget: float) -> bool:
    """Return whether more hits differed than the budget allows, by more than chance."""
    allowed = use.differed > budget * use.verified
    return allowed and binomial_tail(use.differed, use.verified, budget) < ALPHA
