"""Values are read from files as they were written, and nothing else is."""

from __future__ import annotations

import datetime as dt
import gc
import os
import pickle
import subprocess
import sys
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from flask_knitperf.caching import value_files
from flask_knitperf.caching.value_files import Unpicklable, ValueFileError
from flask_knitperf.storage.atomic_files import Disk

COLUMNS: dict[str, Any] = {
    "whole": np.arange(5),
    "float": np.arange(5) / 3,
    "flag": np.arange(5) > 2,
    "text": list("abcde"),
    "object": pd.Series([1, "a", None, dt.date(2026, 1, 1), 2.5], dtype=object),
    "time": pd.date_range("2026-01-01", periods=5),
    "zone": pd.date_range("2026-01-01", periods=5, tz=zoneinfo.ZoneInfo("Europe/Berlin")),
    "utc": pd.date_range("2026-01-01", periods=5, tz="UTC"),
    "duration": pd.to_timedelta(np.arange(5), "h"),
    "period": pd.period_range("2026-01", periods=5, freq="M"),
    "category": pd.Categorical(list("ababa"), ordered=True),
    "Int64": pd.array([1, None, 3, 4, 5], dtype="Int64"),
    "boolean": pd.array([True, None, False, True, True], dtype="boolean"),
    "string": pd.array(list("abcde"), dtype="string"),
    "interval": pd.interval_range(0, 5),
    "sparse": pd.arrays.SparseArray([0, 0, 1, 0, 2]),
}


def stored(value: Any, folder: Path) -> Any:
    """Return a value as another process reads it."""
    path = folder / "value"
    value_files.write(Disk(), path, {}, value_files.pickled(value))
    loaded, _ = value_files.load(path)
    path.unlink()
    return loaded


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_each_dtype_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    column = COLUMNS[name]
    frame, series, index = pd.DataFrame({name: column}), pd.Series(column), pd.Index(column)
    assert_frame_equal(stored(frame, tmp_path), frame)
    assert_series_equal(stored(series, tmp_path), series)
    assert_index_equal(stored(index, tmp_path), index)


def test_frames_of_every_shape_are_read_as_they_were_written(tmp_path: Path) -> None:
    whole = pd.DataFrame(COLUMNS)
    for frame in (
        whole, whole.set_index(["whole", "text"]), whole[["float", "whole"]].T, whole.iloc[::2],
        whole.iloc[:0], pd.DataFrame(), pd.DataFrame(index=[1, 2]), whole.set_index("time").asfreq("D"),
    ):  # fmt: skip
        assert_frame_equal(stored(frame, tmp_path), frame)


def test_containers_of_frames_and_plain_values_are_read_as_they_were_written(
    tmp_path: Path,
) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    value = {
        "frames": [frame, frame],
        "plain": (1, 2.5, None, True, "x", b"y", {1}, frozenset({2})),
    }
    loaded = stored(value, tmp_path)
    assert loaded["plain"] == value["plain"]
    assert_frame_equal(loaded["frames"][1], frame)
    assert_array_equal(stored(np.zeros((0, 3)), tmp_path), np.zeros((0, 3)))


def test_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(100_000)})
    path = tmp_path / "value"
    value_files.write(Disk(), path, {}, value_files.pickled(frame))
    loaded, mapped = value_files.load(path)
    assert 800_000 <= mapped < 801_000
    assert str(path) in Path("/proc/self/maps").read_text()
    del loaded
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(
    int(pd.__version__.partition(".")[0]) < 3, reason="pandas 2: a hit copies arrays"
)
def test_a_mapped_array_cannot_be_made_writable(tmp_path: Path) -> None:
    path = tmp_path / "value"
    value_files.write(Disk(), path, {}, value_files.pickled(np.arange(1000)))
    mapped, _ = value_files.load(path)
    for change in (lambda: mapped.__setitem__(0, 1), lambda: mapped.setflags(write=True)):
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            change()


def test_no_more_files_are_mapped_than_there_are_descriptors_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_files, "MAX_MAPPED", 0)
    path = tmp_path / "value"
    value_files.write(Disk(), path, {}, value_files.pickled(np.arange(1000)))
    loaded, mapped = value_files.load(path)
    assert mapped == 0
    assert_array_equal(loaded, np.arange(1000))


class Command:
    """An object whose unpickling runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def hostile(stream: bytes, path: Path) -> Path:
    """Write a file with a foreign stream and everything else in order."""
    value_files.write(Disk(), path, {}, value_files.Pickled(stream, []))
    return path


def test_nothing_but_parts_of_frames_is_unpickled(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(Unpicklable):
        value_files.pickled([Command(ran)])
    for number, stream in enumerate((
        pickle.dumps(Command(ran)),
        b"cbuiltins\neval\n(V__import__('os').mkdir(%r)\ntR." % str(ran).encode(),
        b"cpandas\nread_pickle\n(Vx\ntR.",
        b"cpandas.core.computation.eval\neval\n(V1\ntR.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"cpandas.io.common\nos.mkdir\n(V%s\ntR." % str(ran).encode(),
        pickle.dumps(zoneinfo.ZoneInfo("UTC"))[:2] + b"cbuiltins\ngetattr\n(cbuiltins\nset\nVpop\ntR.",
        b"ccollections\nabc.Hashable\n.",
    )):  # fmt: skip
        path = hostile(stream, tmp_path / str(number))
        with pytest.raises(ValueFileError):
            value_files.load(path)
    assert not ran.exists()


def test_a_file_that_was_cut_off_or_damaged_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "value"
    value_files.write(Disk(), path, {"a": 1}, value_files.pickled(pd.DataFrame({"a": range(100)})))
    content = path.read_bytes()
    assert value_files.read_facts(path) == {"a": 1}
    for length in (*range(200), len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueFileError):
            value_files.load(path)
    for place in range(200):  # the arrays have no checksum: they are read when they are needed
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with pytest.raises(ValueFileError):
            value_files.load(path)
    path.write_bytes(os.urandom(len(content)))
    with pytest.raises(ValueFileError):
        value_files.read_facts(path)


@pytest.mark.parametrize(
    "module", ["numpy.f2py.__main__", "pandas.conftest", "numpy.tests.nowhere"]
)
def test_a_foreign_file_imports_no_module_that_is_no_part_of_frames(module: str) -> None:
    was_imported = module in sys.modules  # by another test
    stream = b"\x80\x04c" + module.encode() + b"\ndtype\n."
    with pytest.raises(pickle.UnpicklingError):
        value_files._Unpickler(stream, []).load()
    assert (module in sys.modules) is was_imported


@pytest.mark.slow
def test_an_index_is_read_by_a_process_that_has_not_imported_pandas(tmp_path: Path) -> None:
    path = tmp_path / "value"
    value_files.write(Disk(), path, {}, value_files.pickled(pd.RangeIndex(5)))
    code = f"from pathlib import Path; from flask_knitperf.caching import value_files; import sys; \
assert 'pandas' not in sys.modules; print(len(value_files.load(Path({str(path)!r}))[0]))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "5\n"
