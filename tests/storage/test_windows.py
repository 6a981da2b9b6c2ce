"""Windows and the snapshots that they are differences of."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_knitperf.core.errors import ConfigurationError, StateError
from flask_knitperf.metrics.catalogue import ERROR, ErrorDetail, ErrorKey
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.snapshots import at, clear, origin, points, store
from flask_knitperf.storage.windows import (
    LONG_SPANS,
    NAMES,
    check,
    is_of_history,
    span_of,
    window,
)
from tests.recording.recorders import join_run, make_recorder, observe, request_count


def test_a_window_is_the_difference_from_the_newest_snapshot_before_it(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 0.0)
    r = make_recorder(run)
    for moment, number in ((100.0, 1), (5000.0, 2), (8000.0, 4)):
        observe(r, number)
        store(run, r.snapshot(), moment, Disk())
    observe(r, 8)
    assert request_count(window(run, "run", 9000.0).snapshot) == 15
    assert request_count(window(run, "1h", 9000.0).snapshot) == 12
    assert request_count(window(run, "5m", 9000.0).snapshot) == 8
    assert window(run, "1h", 9000.0).begins == 5000.0
    assert window(run, "1h", 200.0).begins == 0.0
    assert window(run, "5m", 350.0, r.snapshot()).begins == 0.0
    r.close()


@pytest.mark.slow
def test_snapshots_are_thinned_out_as_they_age(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 1)
    for moment in range(0, 7200, 10):
        store(tmp_path, r.snapshot(), float(moment), Disk())
    kept = [moment for moment, _ in points(tmp_path)]
    assert len(kept) < 110
    assert min(kept) < 7190 - 65 * 60
    assert sum(1 for moment in kept if moment > 7190 - 360) == 36
    store(tmp_path, r.snapshot(), 3000.0, Disk())  # the clock went back
    assert max(moment for moment, _ in points(tmp_path)) == 3000.0
    r.close()


def test_a_damaged_snapshot_is_skipped(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 3)
    store(tmp_path, r.snapshot(), 10.0, Disk())
    (tmp_path / "points" / "20000.point").write_bytes(b"damaged")
    (tmp_path / "points" / "note.point").write_bytes(b"no number")
    snapshot = at(tmp_path, 25.0)
    assert snapshot is not None
    assert snapshot[1].count.sum() >= 3
    assert at(tmp_path, 5.0) is None
    r.close()


def test_clearing_restarts_every_window_and_only_the_first_worker_clears(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 0.0)
    r = make_recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 50.0, Disk())
    observe(r, 2)
    clear(run, "c1", r.snapshot(), 50.0, Disk())
    assert request_count(window(run, "run", 60.0).snapshot) == 2
    assert window(run, "run", 60.0).begins == 50.0
    clear(run, "c2", r.snapshot(), 70.0, Disk())
    assert request_count(window(run, "run", 80.0).snapshot) == 0
    assert len(list(run.glob("origin-*"))) == 1
    (next(run.glob("origin-*"))).write_bytes(b"damaged")
    assert origin(run) == (0.0, None)
    r.close()


def test_a_reset_counts_after_the_clock_was_set_back_behind_the_start_of_the_run(
    tmp_path: Path,
) -> None:
    run = join_run(tmp_path, "1", 100.0)
    r = make_recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 150.0, Disk())
    observe(r, 4)
    clear(run, "c2", r.snapshot(), 50.0, Disk(), 51.0)
    observe(r, 1)
    assert request_count(window(run, "run", 60.0).snapshot) == 1
    r.close()


def test_a_reset_counts_after_a_clock_that_began_in_1970_was_set_right(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 100.0)
    r = make_recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 218_805_159.0, Disk())  # a machine without a battery
    observe(r, 4)
    clear(run, "c2", r.snapshot(), 1_795_957_931.0, Disk())
    observe(r, 1)
    assert request_count(window(run, "run", 1_795_957_940.0).snapshot) == 1
    assert len(list(run.glob("origin-*"))) == 1
    r.close()


def test_a_reset_from_the_future_counts_from_when_the_clock_was_right(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 0.0)
    r = make_recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 90_000.0, Disk())
    observe(r, 1)
    ahead = window(run, "run", 100.0)
    assert (ahead.begins, ahead.since, ahead.until, request_count(ahead.snapshot)) == (
        100.0, 100.0, 100.0, 1,
    )  # fmt: skip
    store(run, r.snapshot(), 100.0, Disk())
    store(run, r.snapshot(), 160.0, Disk())  # it stays where it is
    right = window(run, "1h", 160.0)
    assert (right.begins, right.is_whole, request_count(right.snapshot)) == (100.0, False, 1)
    r.close()


def test_a_whole_run_holds_single_requests_whatever_time_they_bear(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 90_000.0)
    whole = window(run, "run", 100.0)
    assert (whole.begins, whole.ends) == (100.0, 100.0)
    assert (whole.since, whole.until) == (0.0, float("inf"))


def test_the_previous_run_is_the_one_before_although_it_began_later(tmp_path: Path) -> None:
    first, second = join_run(tmp_path, "1", 90_000.0), join_run(tmp_path, "2", 2.0)
    assert window(second, "previous", 9.0).run == first.name
    with pytest.raises(StateError, match="no previous run"):
        window(first, "previous", 9.0)


def test_the_previous_run_is_read_as_a_whole(tmp_path: Path) -> None:
    first, second = join_run(tmp_path, "1", 1.0), join_run(tmp_path, "2", 2.0)
    r = make_recorder(first)
    observe(r, 3)
    assert window(second, "previous", 9.0).ends == 1.0
    store(first, r.snapshot(), 1.5, Disk())
    observe(r, 1)
    previous = window(second, "previous", 9.0, r.snapshot())
    assert (previous.release, previous.ends, request_count(previous.snapshot)) == ("1", 1.5, 4)
    with pytest.raises(StateError, match="no previous run"):
        window(first, "previous", 9.0)
    with pytest.raises(ConfigurationError, match="5m, 1h"):
        check("2h")
    r.close()


def test_the_evidence_of_a_window_is_what_was_added_during_it(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1", 0.0)
    r = make_recorder(run)
    a, b, new = (ErrorKey(endpoint, "ValueError") for endpoint in ("a", "b", "new"))
    r.note(ERROR, a, 1.0, ErrorDetail(where=None))
    r.note(ERROR, b, 1.0, ErrorDetail(where=None))
    clear(run, "c", r.snapshot(), 5.0, Disk())
    r.note(ERROR, a, 1.0, ErrorDetail(where=None))
    r.note(ERROR, new, 1.0, ErrorDetail(where=None))
    notes = window(run, "run", 9.0).snapshot.totals.notes(ERROR)
    assert {note.key: note.count for note in notes} == {a: 1, new: 1}
    r.close()


def test_a_span_is_two_times_in_utc_unless_they_have_an_offset() -> None:
    assert span_of("1h") is None
    assert span_of("1970-01-01T00:01/1970-01-01T00:02") == (60.0, 120.0)
    assert span_of("1970-01-01T02:00+02:00/1970-01-02") == (0.0, 86_400.0)


@pytest.mark.parametrize(
    "name",
    ["/", "a/b", "2026-11-29/", "2026-11-29/2026-11-29", "2026-11-29T12:00/2026-11-29T11:00", "\0/\0",
     "0001-01-01/9999-12-31", "1969-12-31/1970-01-02", "1970-01-01/9999-12-31", "a/b/c"],
)  # fmt: skip
def test_times_that_are_no_span_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="ISO 8601"):
        span_of(name)


def test_long_windows_and_spans_are_of_the_history() -> None:
    assert [name for name in (*NAMES, "span") if is_of_history(name)] == [*LONG_SPANS, "span"]
