"""One worker's log, table and lock: exact counts, full disks, missing files."""

from __future__ import annotations

import gc
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import NEIGHBOUR, NeighbourKey, NoDetail
from flask_knitperf.metrics.instruments import Key, Kind, Merge, Meter
from flask_knitperf.metrics.log_format import pack, pack_many
from flask_knitperf.recording.recorder import Recorder
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.atomic_files import Disk, is_locked
from tests.recording.recorders import REQUESTS, SIZE, make_recorder, observe, request_count

COUNTED = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint", "method", "status"))


def count_up(r: Recorder, endpoint: str, number: int, status: str = "2xx") -> None:
    for _ in range(number):
        r.record((r.series(COUNTED, endpoint, "GET", status), 5.0))


def test_an_id_that_others_wrote_into_a_log_is_not_counted(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    count_up(r, "a", 5)
    r.worker.write(pack([((1 << 30), 1, 5.0)]))  # an array of that length would take 8 GB
    count_up(r, "a", 2)
    assert r.worker.counts("request") == {("a", "GET"): 7}
    assert len(r.worker._counts.sums) < 10
    r.close()


@pytest.mark.parametrize("on_disk", [True, False])
def test_observations_are_counted_without_a_fold(tmp_path: Path, on_disk: bool) -> None:
    r = make_recorder(tmp_path if on_disk else None)
    count_up(r, "a", 5)
    count_up(r, "a", 2, "5xx")
    count_up(r, "b", 1)
    r.record((r.series(SIZE), 7.0))
    assert r.worker.counts("request") == {("a", "GET"): 7, ("b", "GET"): 1}
    assert r.worker.table.offset == 0
    r.close()


def test_counts_do_not_fail_where_a_collection_lets_other_threads_add_series() -> None:
    """A collection runs finalizers, and one that waits lets the other threads run."""
    r = make_recorder(None)
    for number in range(2_000):
        count_up(r, f"a{number}", 1)

    def add(phase: str, info: dict[str, int]) -> None:
        ids = r.worker._ids
        ids["of another thread", str(len(ids))] = 10**9

    thresholds = gc.get_threshold()
    gc.callbacks.append(add)
    gc.set_threshold(1)
    try:
        assert len(r.worker.counts("request")) == 2_000
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(add)
    r.close()


def test_a_weighted_observation_counts_as_its_weight(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    r.emit([(r.series(COUNTED, "a", "GET", "2xx"), 64, 5.0)])
    assert r.worker.counts("request") == {("a", "GET"): 64}
    r.close()


def test_counts_stay_exact_across_folds_and_full_logs(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    for turn in range(12):
        count_up(r, "a", 1_500)
        if turn in (3, 7, 8):
            r.worker.fold()
        if turn % 4 != 1:
            assert r.worker.counts("request") == {("a", "GET"): 1_500 * (turn + 1)}
    r.close()


def test_counts_include_logs_that_were_folded_and_removed_between_two_readings(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    count_up(r, "a", 100)
    assert r.worker.counts("request") == {("a", "GET"): 100}
    for _ in range(4):
        count_up(r, "a", 5_000)
        r.worker.fold()
    count_up(r, "b", 3)
    assert r.worker.counts("request") == {("a", "GET"): 20_100, ("b", "GET"): 3}
    r.close()


def test_the_raw_append_writes_one_group_and_raises_once_the_log_is_full(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    group = pack([(r.series(REQUESTS, "a"), 1, 5.0)])
    append = r.worker.quick()
    with pytest.raises(ValueError, match="out of range"):
        deque((append(group) for _ in range(65536)), maxlen=0)
    written = request_count(r.snapshot())
    assert 65536 // len(group) - 64 < written <= 65536 // len(group)
    r.close()


def test_values_of_one_series_are_written_as_one_group(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    r.worker.write(pack_many(r.series(REQUESTS, "a"), [7, 0, 9]))
    [data] = [
        s.data for key, s in columns.series(r.snapshot().columns).items() if key.meter == "request"
    ]
    assert (data.count, data.total, data.low, data.high) == (3, 16, 0, 9)
    r.close()


def test_a_group_larger_than_a_log_is_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    with pytest.raises(ValueError, match="data out of range"):
        r.worker.write(bytes(1 << 17))
    r.close()


def test_a_spare_log_is_created_once_the_current_log_is_half_full(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    r.worker.prepare_spare()
    observe(r, 3000)
    r.worker.prepare_spare()
    assert [number for number, _ in state_dir.logs(tmp_path, r.worker.name)] == [0, 1]
    observe(r, 3000)
    assert request_count(r.snapshot()) == 6000
    assert r.worker.due()
    r.worker.fold()
    assert not r.worker.due()
    r.close()


def test_series_defined_in_a_later_log_are_counted_with_those_of_the_first(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 5000)  # more than one log holds, and none of it folded
    for number in range(7):
        r.record((r.series(REQUESTS, f"late {number}"), 5.0))
    assert len(state_dir.logs(tmp_path, r.worker.name)) == 2
    assert request_count(r.snapshot()) == 5007
    r.close()


class Room(Disk):
    """A disk that has room for logs or has not."""

    left = True

    def create_log(self, path: Path, size: int) -> Any:
        if not self.left:
            raise OSError(28, "No space left on device")
        return super().create_log(path, size)


def recorder_on_a_full_disk(tmp_path: Path) -> tuple[Recorder, Room]:
    """Return a recorder that has just begun a log in memory, for lack of room."""
    disk = Room()
    r = make_recorder(tmp_path, disk=disk)
    observe(r, 3000)
    disk.left = False
    observe(r, 3000)
    assert "No space left" in r.worker.degraded["log"]
    return r, disk


def test_other_processes_see_the_folded_part_of_a_log_in_memory(tmp_path: Path) -> None:
    r, _ = recorder_on_a_full_disk(tmp_path)
    r.worker.fold()
    assert not r.worker.due()
    observe(r, 1)
    assert r.worker.due()
    r.worker.fold()
    assert request_count(state_dir.read(tmp_path)) == 6001
    r.close()


def test_a_worker_returns_to_the_disk_once_there_is_room(tmp_path: Path) -> None:
    r, disk = recorder_on_a_full_disk(tmp_path)
    r.worker.prepare_spare()
    assert "log" in r.worker.degraded
    disk.left = True
    r.worker.prepare_spare()
    assert "log" not in r.worker.degraded
    r.worker.fold()
    observe(r, 10)
    assert request_count(state_dir.read(tmp_path)) == 6010
    r.close()
    assert request_count(state_dir.read(tmp_path)) == 6010


def test_values_held_only_in_memory_survive_when_the_next_log_is_on_disk(tmp_path: Path) -> None:
    r, disk = recorder_on_a_full_disk(tmp_path)
    disk.left = True
    observe(r, 9000)
    r.worker.fold()
    assert request_count(state_dir.read(tmp_path)) == 15_000
    r.close()


def test_a_worker_notices_that_its_files_are_gone_even_if_another_worker_recreated_the_directory(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    one, other = make_recorder(run), make_recorder(run)
    observe(one, 1)
    assert not one.worker.lost()
    for path in run.iterdir():
        path.unlink()
    observe(other, 1)
    assert (one.worker.lost(), other.worker.lost()) == (True, False)
    one.close()
    other.close()


def test_a_worker_in_memory_has_no_files_to_lose(tmp_path: Path) -> None:
    r = make_recorder(None)
    observe(r, 1)
    assert not r.worker.lost()
    r.close()


def test_a_worker_that_cannot_create_its_lock_file_works_in_memory(tmp_path: Path) -> None:
    r = make_recorder(tmp_path / "gone")
    observe(r, 2)
    snapshot = r.snapshot()
    assert request_count(snapshot) == 2
    assert "other workers do not see" in snapshot.degraded[0]
    r.close()


def test_degradations_are_published_to_other_processes(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 1)
    r.worker.degraded["x"] = "something is wrong"
    r.worker.publish()
    assert any("something is wrong" in message for message in state_dir.read(tmp_path).degraded)
    r.worker.degraded["x"] = "y" * 9000
    r.worker.publish()
    assert any(
        "too many reasons to list" in message for message in state_dir.read(tmp_path).degraded
    )
    r.close()


def test_many_folded_logs_that_cannot_be_removed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Disk):
        def save(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    r = Recorder(lambda: (tmp_path, {"pid": 1}), disk=Stuck(), log_bytes=4096,
                 threaded=lambda: False)  # fmt: skip
    for _ in range(70):
        observe(r, 250)
        r.worker.fold()
    assert "more than 64 logs are waiting" in r.worker.degraded["table"]
    r.worker.release()


def test_an_observation_of_an_undefined_series_is_counted_as_incomplete(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    r.worker.write(pack([(77, 1, 5.0)]))
    assert r.snapshot().totals.incomplete == 1
    r.close()


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1e300, float("inf"), float("nan")])
def test_an_implausible_value_is_rejected_and_counted(tmp_path: Path, value: float) -> None:
    r = make_recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    r.record((r.series(REQUESTS, "a"), value))
    snapshot = r.snapshot()
    data = columns.series(snapshot.columns)[Key("request", ("a",))].data
    assert (data.count, data.total, data.high, snapshot.about.incomplete) == (1, 5, 5.0, 1)
    r.close()


def test_a_gauge_may_be_nan(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    level = Meter("level", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
    r.record((r.series(level), float("nan")))
    (value,) = columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()
    assert value != value
    r.close()


def test_the_last_value_of_a_gauge_counts_across_logs(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    level = Meter("level", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
    for value in range(5000):  # more than one log holds
        r.record((r.series(level), float(value)))
    assert list(columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()) == [4999.0]
    r.worker.fold()
    assert list(columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()) == [4999.0]
    r.close()


def test_only_the_heaviest_evidence_of_a_kind_is_kept(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    for number in range(80):
        key = NeighbourKey(f"victim {number}", "culprit")
        r.note(NEIGHBOUR, key, float(number), NoDetail())
    kept = r.snapshot().totals.notes(NEIGHBOUR)
    assert len(kept) == 50
    assert min(note.weight for note in kept) == 30
    r.close()


def test_a_series_defined_by_several_threads_at_once_has_one_id(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    gate, ids = threading.Barrier(8), []

    def define() -> None:
        gate.wait()
        ids.append(r.series(REQUESTS, "a"))

    threads = [threading.Thread(target=define) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    r.close()


def test_labels_that_are_truncated_to_the_same_text_are_one_series(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    for end in ("x", "y", "x"):
        r.record((r.series(REQUESTS, "a" * 300 + end), 5.0))
    assert request_count(r.snapshot()) == 3
    r.worker.fold()
    assert request_count(r.snapshot()) == 3
    r.close()


def test_a_request_that_starts_before_a_fold_and_ends_after_it_is_not_in_progress(
    tmp_path: Path,
) -> None:
    started = Meter("started", Kind.OPEN, "1", ("endpoint",))
    r = make_recorder(tmp_path)
    series = r.series(started, "a")
    r.emit([(series, 1, 1000.0), (series, 2, 1001.0)])
    r.worker.fold()
    r.emit([(series, 1, -1000.0)])
    assert columns.series(r.snapshot().columns)[Key("started", ("a",))].open == {2: 1001.0}
    r.close()


def test_forgetting_the_parents_writer_releases_its_lock(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 1)
    worker = r.worker
    path = tmp_path / f"{worker.name}.lock"
    r.after_fork()
    r.after_fork()
    assert not is_locked(path)
    assert not r.has_worker
    worker.release()


def test_a_full_log_is_replaced_by_one_thread_only(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 1)
    old = r.worker._log
    r.worker._next(old)
    current = r.worker._log
    r.worker._next(old)
    assert r.worker._log is current
    r.close()


def test_counters_and_gauges_stay_exact_across_a_fold(tmp_path: Path) -> None:
    counter = Meter("bytes", Kind.COUNTER, "bytes", ())
    r = make_recorder(tmp_path)
    r.record((r.series(counter), 5.0), (r.series(counter), 7.0), (r.series(SIZE), 1.0))
    r.worker.fold()
    r.record((r.series(counter), 1.0))
    data = columns.series(r.snapshot().columns)[Key("bytes", ())].data
    assert (data.count, data.total, data.buckets) == (3, 13, {})
    r.close()


def test_releasing_a_worker_in_memory_is_harmless() -> None:
    r = make_recorder(None)
    observe(r, 1)
    r.worker.release()
    r.worker.publish()


def test_a_spare_log_is_removed_when_its_worker_closes(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 3000)
    r.worker.prepare_spare()
    name = r.worker.name
    r.close()
    assert state_dir.logs(tmp_path, name) == []
    assert request_count(state_dir.read(tmp_path)) == 3000
