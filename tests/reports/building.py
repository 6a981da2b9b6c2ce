"""Builds documents from tables that a test wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask_knitperf.metrics.stack_trie import Tries
from flask_knitperf.metrics.table import as_columns
from flask_knitperf.reports.build import Route, build_report
from flask_knitperf.storage.state_dir import Snapshot
from flask_knitperf.storage.windows import Window
from tests.analysis.tables import LIMITS, Mill

if TYPE_CHECKING:
    from flask_knitperf.reports.documents import Report

NOW = 1_800_000_000.0


def report_of(mill: Mill, routes: Sequence[Route] = (), tries: Tries | None = None) -> Report:
    """Return the report of a table."""
    snapshot = Snapshot(as_columns(mill.table), mill.table)
    return build_report(
        Window("run", 0.0, 1.0, "r", None, snapshot), LIMITS, routes, NOW, None, tries
    )
