"""Documents of single requests."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.core.errors import KnitPerfError
from flask_knitperf.reports.request import build_request_report, request_tables
from flask_knitperf.storage.exemplars import Exemplar
from tests.analysis.tables import Mill
from tests.reports.building import report_of

DAMAGED = Exemplar("a-1", 5.0, 1_000_000, "ping", "GET", b"a-1\t5.0\t1000000\t...\t{")


@pytest.fixture
def row() -> Any:
    return report_of(Mill().requests("ping", [5]))["endpoints"][0]


def test_a_damaged_request_is_left_out_of_tables(row: Any) -> None:
    assert request_tables([DAMAGED], row) == {"latest": [], "slowest": []}


def test_a_damaged_request_cannot_be_opened(row: Any) -> None:
    with pytest.raises(KnitPerfError, match="request a-1 is damaged"):
        build_request_report(DAMAGED, row)
