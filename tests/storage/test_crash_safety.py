"""The log, the table and the state directory: exact, and safe at every step a crash can fall on."""

from __future__ import annotations

import math
import os
import signal
import tracemalloc
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.core.errors import StateError
from flask_knitperf.metrics import columns
from flask_knitperf.metrics import table as folding
from flask_knitperf.metrics.catalogue import KILLED
from flask_knitperf.metrics.histogram import (
    Histogram,
    binomial_tail,
    bucket,
    buckets,
    hypergeometric_tail,
    midpoint,
    upper_bound,
)
from flask_knitperf.metrics.instruments import Key, Kind, Meter
from flask_knitperf.metrics.log_format import DEFINE, NOTE, pack, pack_json, parse
from flask_knitperf.metrics.table import Table, decode, define, encode, fold, merge
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.writer import Worker

REQUESTS = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint",))
STARTED = Meter("started", Kind.OPEN, "1", ("endpoint",))
durations = st.integers(min_value=0, max_value=10**15)


def make_worker(run: Path | None, disk: Disk | None = None, log_bytes: int = 4096) -> Worker:
    return Worker(run, {"pid": os.getpid()}, clock=SYSTEM, disk=disk or Disk(), log_bytes=log_bytes)


def record(worker: Worker, endpoint: str, value: float) -> None:
    worker.write(pack([(worker.series(REQUESTS, (endpoint,)), 1, value)]))


def counted(run: Path, meter: str = "request") -> int:
    series = columns.series(state_dir.read(run).columns)
    return sum(s.data.count for key, s in series.items() if key.meter == meter)


# -- statistics ------------------------------------------------------------------------------------


@given(st.floats(min_value=1e-9, max_value=1e18))
def test_a_value_lies_in_its_bucket(value: float) -> None:
    index = bucket(value)
    assert upper_bound(index - 1) < value <= upper_bound(index)


@given(st.lists(st.one_of(st.floats(0, 1e18), st.integers(0, 60).map(lambda n: 2.0**n))))
def test_the_vector_form_agrees_with_the_scalar_one(values: list[float]) -> None:
    import numpy as np

    assert buckets(np.array(values, float)).tolist() == [bucket(v) for v in values]


@given(st.lists(durations, min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_six_per_mille_of_the_nearest_rank(
    values: list[int], q: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    result = Histogram.of(values).quantile(q)
    assert result is not None
    assert abs(result - exact) <= 0.006 * exact


@given(st.lists(st.lists(durations)))
def test_merging_in_any_order_gives_the_histogram_of_all(parts: list[list[int]]) -> None:
    forward, backward = Histogram(), Histogram()
    for part in parts:
        forward.include(Histogram.of(part))
    for part in reversed(parts):
        backward.include(Histogram.of(part))
    assert forward == backward == Histogram.of([v for part in parts for v in part])


@given(st.lists(durations, min_size=1), durations)
def test_statistics_after_an_addition_are_those_of_all(values: list[int], late: int) -> None:
    result, every = Histogram.of(values), Histogram.of([*values, late])
    for _ in range(2):  # the second time from what the first one prepared
        assert result.quantiles((0.5, 0.95)) == Histogram.of(values).quantiles((0.5, 0.95))
    result.add(late)
    assert result.quantiles((0.5, 0.95)) == every.quantiles((0.5, 0.95))
    assert (result.above(late), result.deviation) == (every.above(late), every.deviation)


@given(st.lists(durations), durations)
def test_above_and_excess_are_those_of_the_buckets_beyond(values: list[int], limit: int) -> None:
    result = Histogram.of(values)
    beyond = [v for v in values if bucket(v) > bucket(limit)]
    assert result.above(limit) == len(beyond)
    exact = sum(midpoint(bucket(v)) - limit for v in beyond)
    assert result.excess(limit) == pytest.approx(exact, rel=1e-9, abs=1e-3)


def test_a_histogram_shows_what_it_holds_and_equals_nothing_else() -> None:
    assert repr(Histogram.of([0])).startswith("Histogram(count=1, total=0, low=0, high=0, ")
    assert Histogram() != 0


def test_a_mean_is_the_exact_sum_by_the_count_and_of_nothing_there_is_none() -> None:
    assert Histogram.of([1, 2, 1_000_000]).mean == 1_000_003 / 3
    assert Histogram().mean is None


@pytest.mark.parametrize(
    ("k", "n", "p", "expected"),
    [(3, 3, 0.05, 0.05**3), (0, 5, 0.5, 1.0), (2, 20, 0.05, 0.2641605), (6, 5, 0.5, 0.0),
     (500, 1000, 0.5, 0.5126125), (1, 5, 0.0, 0.0), (5, 5, 1.0, 1.0)],
)  # fmt: skip
def test_the_binomial_tail_is_exact(k: int, n: int, p: float, expected: float) -> None:
    assert binomial_tail(k, n, p) == pytest.approx(expected, rel=1e-6)


@settings(deadline=None)
@given(st.integers(1, 120), st.integers(0, 120), st.sampled_from([1e-6, 0.01, 0.05, 0.5, 0.999]))
def test_the_binomial_tail_is_the_sum_of_its_terms(n: int, k: int, p: float) -> None:
    chance = Fraction(p)
    exact = sum(comb(n, i) * chance**i * (1 - chance) ** (n - i) for i in range(k, n + 1))
    assert binomial_tail(k, n, p) == pytest.approx(float(exact), rel=1e-10, abs=1e-14)


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 1 << 30), st.integers(1, 99), st.floats(0, 1e15)),
            min_size=1, max_size=5,
        ),
        max_size=8,
    ),
    st.integers(0, 90).map(lambda halves: halves * 8),  # a store of 8 bytes is whole or not
)  # fmt: skip
def test_a_log_cut_anywhere_gives_whole_groups_only(groups: list[Any], cut: int) -> None:
    data = b"".join(pack(group) for group in groups)
    incomplete = data[:cut] + bytes(len(data) - len(data[:cut]) + 64)
    parsed = parse(incomplete)
    got = list(zip(parsed.series, parsed.weight, parsed.value, strict=True))
    whole: list[Any] = []
    offset = 0
    for group in groups:
        offset += 16 * len(group)
        if offset <= cut:
            whole += group
    assert got == whole


@settings(max_examples=30)
@given(st.data())
def test_a_copy_done_in_any_order_shows_a_group_whole_or_not_at_all(data: st.DataObject) -> None:
    group = [(3, 1, 0.0), (4, 2, 5.5), (5, 1, 7.0)]
    halves = [pack(group)[i : i + 8] for i in range(0, 48, 8)]
    stored = data.draw(st.sets(st.integers(0, 5)))
    partial = b"".join(h if i in stored else bytes(8) for i, h in enumerate(halves))
    seen = len(parse(partial + bytes(32)).series)
    assert seen == (3 if len(stored) == 6 else 0)


# -- workers, tables, retirement ---------------------------------------------------------------------


def test_many_rotations_and_folds_lose_nothing(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    for number in range(2000):
        record(worker, f"e{number % 7}", number)
        if number % 300 == 0:
            worker.fold()
        if number % 450 == 0:
            assert counted(tmp_path) == number + 1
    assert counted(tmp_path) == 2000
    worker.close()
    assert counted(tmp_path) == 2000


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    for number in range(50):
        record(worker, "größe\n<other>", number)
    table = worker.totals()
    about, result = decode(encode(table))
    about.series = columns.series(result)
    assert about == table
    worker.close()


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 30, -1])
def test_a_damaged_table_is_an_error_not_a_number(cut: int) -> None:
    with pytest.raises(StateError):
        decode(encode(Table("w-1"))[:cut])


def test_a_damaged_table_degrades_the_report_and_leaves_the_other_workers(tmp_path: Path) -> None:
    sick, well = make_worker(tmp_path), make_worker(tmp_path)
    record(sick, "a", 1)
    record(well, "b", 1)
    sick.fold()
    (tmp_path / f"{sick.name}.table").write_bytes(b"garbage")
    snapshot = state_dir.read(tmp_path)
    assert Key("request", ("b",)) in columns.series(snapshot.columns)
    assert any("damaged" in sentence for sentence in snapshot.degraded)
    sick.release()
    well.close()


def test_dead_workers_are_retired_once_and_their_files_go(tmp_path: Path) -> None:
    for _ in range(3):
        worker = make_worker(tmp_path)
        record(worker, "a", 5)
        worker.release()  # as if killed: nothing folded
    assert counted(tmp_path) == 3
    assert state_dir.retire(tmp_path, Disk()) == 3
    assert state_dir.retire(tmp_path, Disk()) == 0
    assert counted(tmp_path) == 3
    assert not state_dir.workers(tmp_path)


def test_a_living_worker_is_not_retired(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    record(worker, "a", 5)
    assert state_dir.retire(tmp_path, Disk()) == 0
    worker.close()


def test_what_a_dead_worker_left_open_is_counted_as_killed(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    series = worker.series(STARTED, ("stuck",))
    worker.write(pack([(series, 1, 1000.0)]))
    worker.write(pack([(series, 2, 1001.0)]))
    worker.write(pack([(series, 2, -1001.0)]))
    worker.release()
    state_dir.retire(tmp_path, Disk())
    assert counted(tmp_path, KILLED.name) == 1


def test_names_of_retired_workers_are_pruned_and_still_nothing_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_dir, "MAX_NAMES", 2)
    for number in range(8):
        worker = make_worker(tmp_path)
        record(worker, "a", 5)
        worker.release()
        state_dir.retire(tmp_path, Disk())
        assert counted(tmp_path) == number + 1
    assert len(state_dir.load(tmp_path / state_dir.RETIRED)[0].holds) <= 4


class Fatal(Disk):
    """Kills this process at the n-th change to a file (before or after it)."""

    def __init__(self, step: int, after: bool) -> None:
        self.left, self.after = step, after

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, path: Path, data: bytes) -> None:
        if not self.after:
            path.write_bytes(data[: len(data) // 2])  # killed in the midpoint of a store
            self._step()
        super().write(path, data)
        if self.after:
            self._step()

    def replace(self, source: Path, target: Path) -> None:
        if not self.after:
            self._step()
        super().replace(source, target)
        if self.after:
            self._step()

    def unlink(self, path: Path) -> None:
        if not self.after:
            self._step()
        super().unlink(path)
        if self.after:
            self._step()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(14))
def test_a_kill_at_any_step_of_fold_and_retire_loses_and_doubles_nothing(
    tmp_path: Path, step: int, after: bool
) -> None:
    run = tmp_path
    for _ in range(2):
        dead = make_worker(run)
        record(dead, "dead", 5)
        dead.fold()
        dead.release()
    child = os.fork()
    if not child:
        disk = Disk()
        worker = make_worker(run, disk)
        for number in range(300):
            record(worker, "alive", number)
        worker._disk = Fatal(step, after)
        worker.fold()
        state_dir.retire(run, worker._disk)
        worker.fold()
        os._exit(0)
    os.waitpid(child, 0)
    assert counted(run) == 302
    state_dir.retire(run, Disk())
    assert counted(run) == 302
    assert not state_dir.workers(run)


class Full(Disk):
    """A disk without room, until ``room`` is set."""

    room = False

    def create_log(self, path: Path, size: int) -> Any:
        if not self.room:
            raise OSError(28, "No space left on device")
        return super().create_log(path, size)

    def write(self, path: Path, data: bytes) -> None:
        if not self.room:
            raise OSError(28, "No space left on device")
        super().write(path, data)


def test_a_full_disk_degrades_and_nothing_is_lost_once_there_is_room(tmp_path: Path) -> None:
    disk = Full()
    worker = make_worker(tmp_path, disk)
    for number in range(600):
        record(worker, "a", number)
    worker.fold()
    assert "No space left" in worker.degraded["log"]
    assert "No space left" in worker.degraded["table"]
    disk.room = True
    worker.fold()
    assert counted(tmp_path) == 600
    assert "table" not in worker.degraded
    worker.close()


def test_series_beyond_the_limit_go_to_other_and_are_counted_as_dropped(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    small = REQUESTS._replace(limit=2)
    for number in range(5):
        worker.write(pack([(worker.series(small, (f"e{number}",)), 1, 1.0)]))
    table = worker.totals()
    assert table.series[Key("request", ("<other>",))].data.count == 3
    assert worker.dropped == {"request": 3}
    worker.close()


@pytest.mark.slow
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), durations)), max_size=4))
def test_merging_tables_is_associative(parts: list[list[tuple[str, int]]]) -> None:
    tables = []
    for number, part in enumerate(parts):
        worker = make_worker(None)
        for name, value in part:
            record(worker, name, value)
        tables.append(worker.totals())
        assert tables[-1].worker != str(number)
    left = merge([merge(tables[:2]), *tables[2:]])
    right = merge([*tables[:1], merge(tables[1:])])
    assert left.series == right.series == merge(tables).series


def test_folding_a_log_twice_from_its_offset_adds_nothing() -> None:
    table = Table("w-1")
    worker = make_worker(None)
    record(worker, "a", 3)
    data = worker._log.map[:]
    fold(table, data, closed=False)
    fold(table, data, closed=False)
    assert table.series[Key("request", ("a",))].data.count == 1


def _long_log(groups: int) -> bytes:
    """Return a log of groups of all sizes, in which definitions and evidence come in between."""
    parts, known = [], 0
    for number in range(groups):
        if number % 97 == 0:
            known += 1
            document = define(Key("request", (f"e{known}",)), REQUESTS)
            parts.append(pack_json(DEFINE, known, document))
        if number % 41 == 0:
            note = {
                "kind": "k",
                "key": [number % 7],
                "count": 1,
                "weight": 1.0,
                "detail": "x" * number,
            }
            parts.append(pack_json(NOTE, 1, note))
        parts.append(
            pack([(1 + (number + at) % known, 1, number + 0.0) for at in range(1 + number % 60)])
        )
    return b"".join(parts)


@pytest.mark.parametrize("piece", [16, 100, 1000, 1 << 14])
@pytest.mark.parametrize("incomplete", [False, True])
def test_folding_in_pieces_is_folding_at_once(
    piece: int, incomplete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _long_log(300)
    if incomplete:
        data = data[: len(data) * 2 // 3] + b"\0" * 16 + data[len(data) * 2 // 3 :]
    data = data.ljust(1 << 18, b"\0")
    whole, pieces = Table("w-1"), Table("w-1")
    monkeypatch.setattr(folding, "CHUNK_BYTES", 1 << 20)
    fold(whole, data, closed=True)
    monkeypatch.setattr(folding, "CHUNK_BYTES", piece)
    fold(pieces, data, closed=True)
    assert pieces == whole
    assert whole.incomplete == incomplete


def test_folding_a_full_log_takes_less_than_twice_its_size() -> None:
    data = b"".join(
        [pack_json(DEFINE, 1, define(Key("request", ("a",)), REQUESTS))]
        + [pack([(1, 1, 1000.0 + number % 50)] * 10) for number in range(6500)]
    )
    table = Table("w-1")
    tracemalloc.start()
    try:
        fold(table, data, closed=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.series[Key("request", ("a",))].data.count == 65_000
    assert peak < 2 * len(data)


def test_what_fails_in_the_middle_of_a_log_is_folded_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker(None)
    for number in range(3000):
        record(worker, "a", number)
    true, turns = folding.parse, []

    def short_of_memory(data: bytes) -> Any:
        turns.append(len(data))
        if len(turns) == 2:
            raise MemoryError
        return true(data)

    monkeypatch.setattr(folding, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(folding, "parse", short_of_memory)
    with pytest.raises(MemoryError):
        worker.fold()
    totals = worker.totals()
    assert totals.series[Key("request", ("a",))].data.count == 3000
    assert len(turns) > 3
    worker.close()


@pytest.mark.parametrize(
    ("k", "n", "marked", "whole", "expected"),
    [(0, 5, 3, 10, 1.0), (3, 3, 3, 10, 1 / 120), (2, 5, 3, 10, 0.5), (4, 5, 3, 10, 0.0),
     (8, 10, 9, 20, 506 / 184756)],
)  # fmt: skip
def test_the_hypergeometric_tail_is_exact(
    k: int, n: int, marked: int, whole: int, expected: float
) -> None:
    assert hypergeometric_tail(k, n, marked, whole) == pytest.approx(expected, rel=1e-3)
