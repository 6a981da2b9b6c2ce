"""Figures on the history as text for a terminal."""

from __future__ import annotations

from ..core import units
from ..history.maintenance import HistoryStats, ResolutionStats


def stats(document: HistoryStats) -> str:
    """Return the figures as lines of at most 80 columns."""
    written = document["written_at"]
    lines = [
        "HISTORY", "",
        f"  {document['database']}",
        (f"  {units.size(document['bytes'])}, {units.count(document['series'], 'series', 'series')}, "
         f"{units.count(document['deploys'], 'deploy')}"),
        f"  latest write {written}" if written else "  nothing was written yet",
        "", f"  {'slots of':<12}{'rows':>10}   {'from':<21}{'to':<21}".rstrip(),
    ]  # fmt: skip
    lines += [_resolution(row) for row in document["resolutions"]]
    if len(document["sources"]) > 1:
        lines += ["", "  written by " + ", ".join(document["sources"])]
    return units.plain("\n".join(lines) + "\n")


def _resolution(row: ResolutionStats) -> str:
    bounds = (text.removesuffix("+00:00").replace("T", " ") if text else "–"
              for text in (row["oldest"], row["newest"]))  # fmt: skip
    oldest, newest = bounds
    return f"  {units.span(row['seconds']):<12}{row['rows']:>10,}   {oldest:<21}{newest}"
