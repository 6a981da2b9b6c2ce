"""Exemplars: files of single requests whose union is right, whatever happens to the files."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.storage import exemplars as module
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.exemplars import (
    OLDER,
    Exemplar,
    exemplar,
    merge_ended,
    open_file,
    parse,
    read,
    retain,
    select,
)

NOW = 1_800_000_000.0


def exemplar_of(number: int, wall: int = 5, at: float = NOW, endpoint: str = "e") -> Exemplar:
    return exemplar(f"w-{number}", at, wall, endpoint, "GET", {"n": number})


def names(exemplars: Iterable[Exemplar]) -> set[str]:
    return {one.name for one in exemplars}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the latest three and the slowest two of an endpoint."""
    monkeypatch.setattr(module, "LATEST", 3)
    monkeypatch.setattr(module, "SLOWEST", 2)


def lock(run: Path, worker: str) -> None:
    (run / f"{worker}.lock").write_bytes(b"{}")


def test_of_what_is_held_a_stretch_an_endpoint_or_one_request_can_be_chosen() -> None:
    early, late, other = exemplar_of(1), exemplar_of(2, at=NOW + 9), exemplar_of(3, endpoint="f")
    exemplars = [late, other, early]
    assert select(exemplars, NOW, NOW + 9) == exemplars
    assert select(exemplars, NOW + 1, NOW + 9) == [late]
    assert select(exemplars, NOW, NOW + 9, endpoint="f") == [other]
    assert select(exemplars, NOW, NOW + 9, name="w-1") == [early]


# -- what stays --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_the_latest_the_slowest_and_the_slowest_of_the_last_hour_stay() -> None:
    long_ago = [exemplar_of(n, wall=1000 + n, at=NOW - 9000 + n) for n in range(5)]
    recently = [exemplar_of(10 + n, wall=100 - n, at=NOW - 99 + n) for n in range(9)]
    stay = names(retain([*long_ago, *recently], NOW))
    assert stay == {"w-4", "w-3", "w-10", "w-11", "w-16", "w-17", "w-18"}


@pytest.mark.usefixtures("few")
def test_each_endpoint_and_method_has_its_own() -> None:
    exemplars = [exemplar_of(n, endpoint=name) for name in "ab" for n in range(9)]
    assert len(retain(exemplars, NOW)) == 2 * len(retain(exemplars[:9], NOW))


drawn = st.lists(
    st.builds(
        exemplar_of, st.integers(0, 30), st.integers(0, 9), st.sampled_from([NOW, NOW - 5000.0]),
        st.sampled_from("ab"),
    ),
    max_size=40,
)  # fmt: skip


@pytest.mark.slow
@given(drawn, drawn)
def test_putting_together_what_stays_is_what_stays_of_all_together(
    one: list[Exemplar], other: list[Exemplar]
) -> None:
    by_name = {one.name: one for one in (*one, *other)}  # a name has one meaning
    one = [by_name[one.name] for one in one]
    other = [by_name[one.name] for one in other]
    with pytest.MonkeyPatch.context() as few:
        few.setattr(module, "LATEST", 3)
        few.setattr(module, "SLOWEST", 2)
        whole = retain([*one, *other], NOW)
        assert retain([*retain(one, NOW), *retain(other, NOW)], NOW) == whole
        assert retain([*other, *one, *whole], NOW) == whole


def test_of_too_many_bytes_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3 * len(exemplar_of(1, endpoint="e1").line))
    exemplars = [exemplar_of(n, at=NOW + n, endpoint=f"e{n}") for n in range(5)]
    assert [one.name for one in retain(exemplars, NOW + 9)] == ["w-2", "w-3", "w-4"]


# -- a clock that was ahead --------------------------------------------------------------------------

DAY_S = 86_400.0


def ahead(n: int, **options: Any) -> Exemplar:
    return exemplar_of(n, at=NOW + DAY_S + n, **options)


@pytest.mark.usefixtures("few")
def test_exemplars_from_the_future_push_out_none_of_later_requests() -> None:
    old, fresh = [ahead(n, wall=n) for n in range(9)], [exemplar_of(10 + n) for n in range(3)]
    stay = retain([*old, *fresh], NOW)
    assert {"w-10", "w-11", "w-12"} <= names(stay)
    assert names(stay) - names(fresh) == {"w-8", "w-7"}  # the slowest of the run
    assert [one.name for one in stay][-3:] == ["w-12", "w-11", "w-10"]


def test_times_are_lowered_to_those_of_later_requests_in_their_order() -> None:
    sequence = [exemplar_of(1, at=NOW - 9), ahead(2), ahead(3), exemplar_of(4), exemplar_of(5)]
    times = [one.at for one in module.lowered(sequence, NOW)]
    assert times == sorted(times)
    assert times == [NOW - 9, NOW - 2e-6, NOW - 1e-6, NOW, NOW]
    assert [one.at for one in parse([one.line for one in module.lowered(sequence, NOW)])] == times


@given(st.lists(st.floats(NOW - DAY_S, NOW + DAY_S), max_size=20))
def test_lowered_times_stay_lowered_and_none_is_in_the_future(times: list[float]) -> None:
    once = module.lowered([exemplar_of(n, at=at) for n, at in enumerate(times)], NOW)
    assert module.lowered(once, NOW) == once
    assert not any(one.at > NOW + 1 for one in once)
    assert [one.name for one in once] == [f"w-{n}" for n in range(len(times))]


def test_the_file_of_a_worker_is_written_again_after_the_clock_was_set_back(tmp_path: Path) -> None:
    file = open_file(tmp_path, "w-1", Disk())
    file.add([ahead(1)], NOW + DAY_S + 5)
    assert file.is_up_to_date(NOW + DAY_S + 5) and not file.is_up_to_date(NOW)
    file.add([], NOW)
    assert file.is_up_to_date(NOW)
    assert [one.at for one in read(tmp_path, NOW)] == [pytest.approx(NOW)]
    assert names(select(read(tmp_path, NOW), NOW - 300, NOW)) == {"w-1"}


def test_exemplars_of_a_killed_worker_are_read_as_older_than_those_of_a_clock_that_is_right(
    tmp_path: Path,
) -> None:
    open_file(tmp_path, "w-1", Disk()).add([ahead(1), ahead(2)], NOW + DAY_S + 5)
    open_file(tmp_path, "w-2", Disk()).add([exemplar_of(3), exemplar_of(4)], NOW)
    read_back = read(tmp_path, NOW)
    assert names(read_back[:2]) == {"w-1", "w-2"}
    assert [one.at for one in read_back] == sorted(one.at for one in read_back)
    assert read_back[-1].at == NOW


def test_exemplars_of_ended_workers_are_lowered_once(tmp_path: Path) -> None:
    file = open_file(tmp_path, "w-1", Disk())
    assert merge_ended(tmp_path, NOW + DAY_S, Disk()) == 0
    file.add([ahead(1)], NOW + DAY_S + 5)
    assert merge_ended(tmp_path, NOW + DAY_S + 9, Disk()) == 1
    older = tmp_path / "details" / OLDER
    assert merge_ended(tmp_path, NOW, Disk()) == 0
    lowered = older.read_bytes()
    assert [one.at for one in parse([lowered])] == [pytest.approx(NOW)]
    merge_ended(tmp_path, NOW + 60, Disk())
    assert older.read_bytes() == lowered


# -- lines -------------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_a_line_comes_back_whatever_the_names_are(endpoint: str, method: str) -> None:
    one = exemplar("w-1", NOW, 7, endpoint, method, {"text": endpoint})
    [exemplars] = parse([one.line])
    assert exemplars == one._replace(at=NOW) and exemplars.document() == {"text": endpoint}


def test_a_line_that_was_not_written_to_its_end_is_left_out() -> None:
    one, other = exemplar_of(1).line, exemplar_of(2).line
    assert [names(parse([one, other[:cut]])) for cut in range(len(other))] == [
        {"w-1"} for _ in range(len(other))
    ]


@pytest.mark.parametrize("line", [
    b"\n", b"a\tb\n", b'w\tx\t1\t"e"\t"G"\t{}\n', b"w\t1\t1\te\tG\t{}\n",
    b'\xff\t1\t1\t"e"\t"G"\t{}\n',
])  # fmt: skip
def test_what_is_no_line_of_an_exemplar_is_left_out(line: bytes) -> None:
    damaged: list[str] = []
    assert names(parse([line, exemplar_of(1).line])) == {"w-1"}
    assert names(parse([line, exemplar_of(1).line, exemplar_of(2).line[:-1]], damaged=damaged)) == {
        "w-1"
    }
    assert len(damaged) == 1  # the last line is being written


@pytest.mark.parametrize("text", [b"{", b"[]"])
def test_a_damaged_document_is_none(text: bytes) -> None:
    [exemplars] = parse([b'w\t1\t1\t"e"\t"G"\t' + text + b"\n"])
    assert exemplars.document() is None


def test_parsing_can_be_restricted_to_an_endpoint_or_a_request() -> None:
    lines = [
        exemplar_of(n, endpoint=name).line for n, name in enumerate(["a", "b", 'a"\t"b', "ab"])
    ]
    assert names(parse(lines, endpoint="a")) == {"w-0"}
    assert names(parse(lines, endpoint='a"\t"b')) == {"w-2"}
    assert names(parse([*lines, exemplar_of(10).line], name="w-1")) == {"w-1"}
    assert names(parse(lines, name="")) == set()


# -- a worker's file -----------------------------------------------------------------------------------


def test_what_is_kept_is_on_disk_at_once(tmp_path: Path) -> None:
    own = open_file(tmp_path, "w-1", Disk())
    own.add([exemplar_of(1)], NOW)
    own.add([exemplar_of(2)], NOW)
    assert names(read(tmp_path, NOW)) == {"w-1", "w-2"} == names(own.exemplars)


@pytest.mark.usefixtures("few")
def test_a_worn_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPACT_AFTER_BYTES", 10 * len(exemplar_of(10).line))
    own = open_file(tmp_path, "w-1", Disk())
    for number in range(200):
        own.add([exemplar_of(number)], NOW)
    path = tmp_path / "details" / "w-1.exemplars"
    assert path.stat().st_size < 20 * len(exemplar_of(100).line)
    assert len(own.exemplars) < 20


class Full(Disk):
    """A disk that writes a part of what it is given, while it is full."""

    full = False

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        super().append(path, data[: len(data) // 2] if self.full else data)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_loses_nothing_and_leaves_no_torn_line_behind(tmp_path: Path) -> None:
    disk = Full()
    own = open_file(tmp_path, "w-1", disk)
    own.add([exemplar_of(1)], NOW)
    disk.full = True
    for number in (2, 3):
        with pytest.raises(OSError, match="No space"):
            own.add([exemplar_of(number)], NOW)
        assert names(read(tmp_path, NOW)) == {"w-1"} and not own.is_complete
    disk.full = False
    own.add([], NOW)
    assert names(read(tmp_path, NOW)) == {"w-1", "w-2", "w-3"} and own.is_complete


def test_half_an_append_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        def __enter__(self) -> Half:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> int:
            return len(data) // 2

    monkeypatch.setattr("builtins.open", lambda *_, **__: Half())
    with pytest.raises(OSError, match="No space left"):
        Disk().append(tmp_path / "x", b"abcd")


def test_without_a_directory_memory_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPACT_AFTER_BYTES", 10 * len(exemplar_of(10).line))
    monkeypatch.setattr(module, "LATEST", 3)
    monkeypatch.setattr(module, "SLOWEST", 2)
    own = open_file(None, "w-1", Disk())
    for number in range(200):
        own.add([exemplar_of(number)], NOW)
    assert len(own.exemplars) < 20


def test_without_a_directory_they_are_in_memory(tmp_path: Path) -> None:
    own = open_file(None, "w-1", Disk())
    own.add([exemplar_of(1)], NOW)
    assert names(own.exemplars) == {"w-1"} and not list(tmp_path.iterdir())
    assert read(tmp_path, NOW) == [] and merge_ended(tmp_path, NOW, Disk()) == 0


# -- files of workers that are gone ---------------------------------------------------------------------


def test_files_of_workers_that_are_gone_become_one(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        open_file(tmp_path, f"w-{number}", Disk()).add([exemplar_of(number)], NOW)
    lock(tmp_path, "w-3")
    assert merge_ended(tmp_path, NOW, Disk()) == 2
    left = {path.name for path in (tmp_path / "details").glob("*.exemplars")}
    assert left == {"w-3.exemplars", OLDER}
    assert names(read(tmp_path, NOW)) == {"w-1", "w-2", "w-3"}
    assert merge_ended(tmp_path, NOW, Disk()) == 0


class Stops(Disk):
    """A disk on which a process dies before one of its steps."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def write(self, path: Path, data: bytes) -> None:
        self._step()
        super().write(path, data)

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)


@pytest.mark.parametrize("steps", range(5))
def test_a_kill_while_merging_loses_and_duplicates_nothing(tmp_path: Path, steps: int) -> None:
    for number in (1, 2, 3):
        open_file(tmp_path, f"w-{number}", Disk()).add([exemplar_of(number)], NOW)
    try:
        merge_ended(tmp_path, NOW, Stops(steps))
    except KeyboardInterrupt:
        assert steps < 5
    assert sorted(one.name for one in read(tmp_path, NOW)) == ["w-1", "w-2", "w-3"]
    merge_ended(tmp_path, NOW, Disk())
    assert sorted(one.name for one in read(tmp_path, NOW)) == ["w-1", "w-2", "w-3"]


def test_a_reader_misses_none_that_are_put_together_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file(tmp_path, "w-1", Disk()).add([exemplar_of(1)], NOW)
    lines = module._lines

    def late(path: Path) -> Iterator[bytes]:
        monkeypatch.setattr(module, "_lines", lines)
        assert (
            merge_ended(tmp_path, NOW, Disk()) == 1
        )  # behind the listing, before the first file is read
        return lines(path)

    monkeypatch.setattr(module, "_lines", late)
    assert names(read(tmp_path, NOW)) == {"w-1"}


def test_one_at_a_time_puts_them_together(tmp_path: Path) -> None:
    open_file(tmp_path, "w-1", Disk()).add([exemplar_of(1)], NOW)
    with module.exclusively(tmp_path / "details" / "exemplars.lock"):
        assert merge_ended(tmp_path, NOW, Disk()) == 0
    assert merge_ended(tmp_path, NOW, Disk()) == 1
