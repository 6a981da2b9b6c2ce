"""The record of the most valuable calls: bounded, private, merged, and never a source of errors."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.warm_record import (
    FILE,
    HALF_LIFE_S,
    MAX_BYTES,
    MAX_CALLS,
    Bounds,
    RecordedCall,
    rank,
    read,
    save,
)
from flask_knitperf.storage.atomic_files import Disk

NOW = 1_800_000_000.0


def call(style: str, saved: float = 1.0, at: float = NOW, **options: Any) -> RecordedCall:
    fields = {"load_s": 0.1, "bytes": 1000.0, **options}
    return RecordedCall("shop.total", "shop", {"style": style}, saved, at=at, **fields)


def write(folder: Path, *calls: RecordedCall, now: float = NOW) -> list[str]:
    """Save calls; return the styles in the record, the most valuable first."""
    save(folder, calls, lambda row: row.saved_s, now, Disk())
    return [row.arguments["style"] for row in read(folder)]


def test_the_most_valuable_calls_come_first(tmp_path: Path) -> None:
    assert write(tmp_path, call("a", 1), call("b", 3), call("c", 2)) == ["b", "c", "a"]


def test_the_calls_of_other_workers_stay(tmp_path: Path) -> None:
    write(tmp_path, call("a", 1))
    assert write(tmp_path, call("b", 3)) == ["b", "a"]


def test_the_worth_of_former_runs_halves_with_time(tmp_path: Path) -> None:
    write(tmp_path, call("old", 3))
    later = NOW + 2 * HALF_LIFE_S
    assert write(tmp_path, call("new", 1, at=later), now=later) == ["new", "old"]
    assert [row.saved_s for row in read(tmp_path)] == [1, 0.75]


def test_a_clock_that_was_set_back_makes_nothing_more_valuable(tmp_path: Path) -> None:
    write(tmp_path, call("a", 3))
    write(tmp_path, call("b", 1), now=NOW - 1e6)
    assert max(row.saved_s for row in read(tmp_path)) == 3


def test_a_call_that_was_used_in_both_runs_has_the_larger_worth(tmp_path: Path) -> None:
    write(tmp_path, call("a", 3))
    write(tmp_path, call("a", 1))
    assert [row.saved_s for row in read(tmp_path)] == [3]


def test_the_record_is_bounded_in_calls(tmp_path: Path) -> None:
    styles = write(tmp_path, *(call(str(n), n) for n in range(MAX_CALLS + 9)))
    assert len(styles) == MAX_CALLS
    assert styles[0] == str(MAX_CALLS + 8)


def test_the_record_is_bounded_in_bytes(tmp_path: Path) -> None:
    styles = write(tmp_path, *(call(f"{n:0900}", n) for n in range(MAX_CALLS)))
    assert 100 < len(styles) < MAX_CALLS
    assert (tmp_path / FILE).stat().st_size <= MAX_BYTES


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_only_its_user_can_read_the_record(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path, call("a"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b'{"format":2,"calls":[]}', b'{"format":1}',
        b'{"format":1,"calls":{}}', b'{"format":1,"calls":[5,null,[],["a"]]}', b"[" * 100_000,
        b'{"format":1,"calls":[["f","n",{},"1",1,1,1]]}',
        b'{"format":1,"calls":[["f","n",{},NaN,1,1,1]]}',
        b'{"format":1,"calls":[["f","n",{},-1,1,1,1]]}',
        b'{"format":1,"calls":[["f","n",{},true,1,1,1]]}',
        b'{"format":1,"calls":[["f","n",[],1,1,1,1]]}',
        b" " * (MAX_BYTES + 1) + b'{"format":1,"calls":[["f","n",{},1,1,1,1]]}',
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_ours_has_no_calls(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read(tmp_path) == []
    assert write(tmp_path, call("a")) == ["a"]


def test_without_a_file_there_are_no_calls(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    assert read(tmp_path / "nosuch") == []


def test_a_full_disk_leaves_the_former_record(tmp_path: Path) -> None:
    class Full(Disk):
        def write(self, path: Path, data: bytes) -> None:
            raise OSError(28, "full")

    write(tmp_path, call("a"))
    with pytest.raises(OSError, match="full"):
        save(tmp_path, [call("b")], lambda row: row.saved_s, NOW, Full())
    assert json.loads((tmp_path / FILE).read_bytes())["calls"][0][2] == {"style": "a"}


def test_a_load_that_takes_all_the_time_comes_after_many_that_save_more() -> None:
    bounds = Bounds(10.0, 1e6)
    slow = call("report", 40.0, load_s=20.0, bytes=100)
    fast = call("style", 1.0, load_s=0.01, bytes=100)
    large = call("frame", 1.0, load_s=0.01, bytes=9e5)
    ranked = sorted([slow, fast, large], key=lambda row: rank(row, bounds), reverse=True)
    assert [row.arguments["style"] for row in ranked] == ["style", "report", "frame"]
