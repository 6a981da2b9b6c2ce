"""Files that are read again for nothing, and answers that are large."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.findings import findings
from flask_knitperf.reports.endpoint_rows import endpoint_row

from .tables import LIMITS, Limits, Mill


def forecast(
    each_ms: float = 100, reads: int = 6, requests: int = 10, state: str = "unchanged"
) -> Mill:
    """Requests of 650 ms, each with some reads of two files."""
    mill = Mill().requests("forecast", [650] * requests)
    for name, line in (("a.xlsx", "x/load.py:7"), ("b.xlsx", "x/load.py:7")):
        count = reads * requests // 2
        labels = ("forecast", "GET", f"data/{name}")
        mill.counter("file_read", *labels, line, state, ms=count * each_ms, count=count)
        mill.counter("file_read_bytes", *labels, ms=count * 0.001, count=count)
        mill.counter("file_read_rows", *labels, ms=count * 0.000002, count=count)
    total = reads * requests * each_ms
    return mill.counter("part", "forecast", "GET", "file_read", ms=total, count=reads * requests)


def by_type(mill: Mill, limits: Any = LIMITS) -> dict[str, Any]:
    rows = endpoints(mill.readings, limits)
    return {finding.type: finding for finding in findings(mill.readings, rows, limits)}


def test_re_read_files_are_reported_with_line_names_and_saving() -> None:
    finding = by_type(forecast())["REPEATED_FILE_READ"]
    assert finding.text == (
        "Forecast: each request spends 600 ms on re-reading unchanged files. 92 % of its time is spent "
        "reading 2 unchanged files: a.xlsx, b.xlsx (x/load.py:7). Cache the files; reload them when "
        "they change. Sure: 60 of 60 reads found the file unchanged."
    )
    assert finding.saving == pytest.approx((6.0, 600.0, 0.9231, False), rel=1e-4)


def test_the_option_that_repairs_it_is_named_with_the_share_that_it_saves() -> None:
    table = forecast(state="reusable", reads=2)
    table.counter(
        "file_read", "forecast", "GET", "c.pkl", "x/load.py:9", "unchanged", ms=900, count=10
    )
    finding = by_type(table)["REPEATED_FILE_READ"]
    assert finding.recommendation == (
        "Cache the files; reload them when they change. KNITPERF_REUSE_READS = True does that for what "
        "pandas reads, and saves about 31 % of its time."
    )
    assert finding.saving.seconds == pytest.approx(2.9)


def test_an_option_that_is_on_is_not_advised_again() -> None:
    limits = Limits(reuse_reads=True)
    assert by_type(forecast(), limits)["REPEATED_FILE_READ"].recommendation == (
        "Cache the files; reload them when they change. KNITPERF_REUSE_READS is on, and does not answer "
        "these reads: they are of other functions, or /perf/cache has the reason."
    )
    assert "REPEATED_FILE_READ" not in by_type(forecast(state="reused"), limits)


def test_reads_from_the_cache_are_listed_and_are_not_avoidable() -> None:
    [row] = endpoints(forecast(state="reused").readings, LIMITS)
    read = endpoint_row(row)["file_reads"][0]
    assert (read["count"], read["unchanged"], read["reused"], read["avoidable_s"]) == (30, 0, 30, 0)


def test_the_line_that_reads_is_given_to_the_cause_of_a_slow_endpoint() -> None:
    [cause, *_] = by_type(forecast())["SLOW_RESPONSE"].why
    assert (cause.cause, cause.where, cause.share) == ("file_read", "x/load.py:7", 0.923)


def test_an_endpoint_lists_the_files_it_reads() -> None:
    [row] = endpoints(forecast().readings, LIMITS)
    read = endpoint_row(row)["file_reads"][0]
    assert read == {
        "path": "data/a.xlsx", "where": "x/load.py:7", "count": 30, "unchanged": 30, "reused": 0,
        "mean_ms": 100.0, "time_spent_s": 3.0, "avoidable_s": 3.0, "bytes_mean": 1000, "rows_mean": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("state", ["first", "changed"])
def test_necessary_reads_are_not_reported(state: str) -> None:
    assert "REPEATED_FILE_READ" not in by_type(forecast(state=state))


def test_cheap_reads_are_not_reported() -> None:
    assert "REPEATED_FILE_READ" not in by_type(forecast(each_ms=1))
    assert "REPEATED_FILE_READ" not in by_type(forecast(each_ms=8))
    assert "REPEATED_FILE_READ" not in by_type(forecast(reads=2, requests=1))


def test_many_files_are_not_all_listed() -> None:
    mill = Mill().requests("forecast", [650] * 10)
    for number in range(7):
        labels = ("forecast", "GET", f"data/{number}.csv", "", "unchanged")
        mill.counter("file_read", *labels, ms=800, count=10)
    assert "0.csv, 1.csv, 2.csv, 3.csv and others." in by_type(mill)["REPEATED_FILE_READ"].text


def sizes(kb: float, count: int = 5, streamed: bool = False) -> Mill:
    mill = Mill().requests("orders", [20] * count)
    for meter in ("bytes_out", "streamed") if streamed else ("bytes_out",):
        data = mill.series(meter, "orders", "GET").data
        data.count, data.total = count, round(kb * 1024 * count)
    return mill


def test_large_responses_are_reported() -> None:
    finding = by_type(sizes(100))["LARGE_RESPONSE"]
    assert finding.text.startswith(
        "Orders: responses average 100 KB. Compress it, or send it in pages."
    )
    assert (finding.severity, finding.observed, finding.threshold) == ("INFO", 100.0, 64)


def test_small_answers_streams_and_few_are_not() -> None:
    for mill in (sizes(64), sizes(5000, streamed=True), sizes(100, count=2)):
        assert "LARGE_RESPONSE" not in by_type(mill)
