"""Reads of unchanged files are answered from the cache, and of changed ones never."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pandas as pd
import pytest

from flask_knitperf import KnitPerf
from flask_knitperf.caching import file_state, read_cache, single_flight
from flask_knitperf.collectors.files.pandas_hook import PANDAS_HOOK

OLD_NS = 1_600_000_000_000_000_000


def float_of(text: str) -> float:
    return float(text)


class Mill:
    """An application that reuses reads."""

    path: Path

    def __init__(self, **config: Any) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, KNITPERF_REUSE_READS=True, **config)
        self.perf = KnitPerf(self.app)
        self.app.add_url_rule("/", "index", lambda: "ok")
        self.app.add_url_rule("/read", "read", lambda: str(len(pd.read_csv(self.path))))
        self.app.test_client().get("/")  # the worker begins to record

    def counts(self) -> dict[str, Any]:
        return dict(self.perf.cache.get_statistics()["namespaces"]["pandas reads"])

    @property
    def hits(self) -> int:
        return int(self.counts()["hits"])


@pytest.fixture
def new_mill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mill]]:
    monkeypatch.setattr(file_state, "MIN_AGE_S", -1.0)  # a test writes its files just before
    mills: list[Mill] = []

    def create(**config: Any) -> Mill:
        mills.append(Mill(**config))
        return mills[-1]

    yield create
    for mill in mills:
        mill.app.extensions["knitperf"].close()
    assert not PANDAS_HOOK._caches


@pytest.fixture
def mill(new_mill: Callable[..., Mill]) -> Mill:
    return new_mill()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "yarn.csv"
    path.write_text("style,kg\na,1\nb,2\n")
    return path


def writers(folder: Path) -> dict[str, Any]:
    frame = pd.DataFrame({"style": ["a", "b"], "kg": [1, 2]})
    return {
        "read_csv": lambda path: frame.to_csv(path, index=False),
        "read_table": lambda path: frame.to_csv(path, index=False, sep="\t"),
        "read_excel": lambda path: frame.to_excel(path, index=False),
        "read_json": frame.to_json,
        "read_parquet": frame.to_parquet,
        "read_feather": frame.to_feather,
    }


SUFFIX = {"read_excel": ".xlsx", "read_json": ".json"}


@pytest.mark.parametrize("name", sorted(writers(Path())))
def test_every_reader_answers_from_the_cache(mill: Mill, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"yarn{SUFFIX.get(name, '.dat')}"
    writers(tmp_path)[name](path)
    read = getattr(pd, name)
    first = read(path)
    first.loc[0, "kg"] = 99
    second = read(str(path))
    assert second["kg"].tolist() == [1, 2] and mill.hits == 1
    second.loc[0, "kg"] = 98
    assert read(path)["kg"].tolist() == [1, 2] and mill.hits == 2


def test_without_the_option_every_read_reads(table: Path) -> None:
    app = flask.Flask("mill")
    app.config.update(TESTING=True)
    perf = KnitPerf(app)
    app.test_client().get("/")
    pd.read_csv(table), pd.read_csv(table)
    assert perf.cache.get_statistics()["namespaces"] == {}
    app.extensions["knitperf"].close()


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def rewrite_and_touch_back(path: Path, text: str) -> None:
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_and_touch_back(path: Path, text: str) -> None:
    status = path.stat()
    replace(path, text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [Path.write_text, replace, rewrite_and_touch_back, replace_and_touch_back]
)
@pytest.mark.parametrize(
    "text", ["style,kg\na,3\nb,4\n", "style,kg\n"], ids=["same size", "truncated"]
)
def test_a_changed_file_is_read(mill: Mill, table: Path, change: Any, text: str) -> None:
    pd.read_csv(table), pd.read_csv(table)
    change(table, text)
    expected = pd.read_csv(io.StringIO(text))
    for _ in range(2):
        pd.testing.assert_frame_equal(pd.read_csv(table), expected)
    counts = mill.counts()
    assert (counts["hits"], counts["invalidated"], counts["entries"]) == (2, 1, 1)


def test_a_deleted_file_raises_as_without_a_cache(mill: Mill, table: Path) -> None:
    pd.read_csv(table)
    table.unlink()
    with pytest.raises(FileNotFoundError):
        pd.read_csv(table)
    table.write_text("style,kg\nc,5\n")
    assert pd.read_csv(table)["kg"].tolist() == [5]


def test_a_link_that_points_to_another_file_is_read(mill: Mill, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"style\n{name}\n")
    link = tmp_path / "current.csv"
    for name in ("one", "two", "one"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        assert pd.read_csv(link)["style"].tolist() == [name]


def test_a_young_file_is_not_cached(
    mill: Mill, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "MIN_AGE_S", 3600.0)
    pd.read_csv(table), pd.read_csv(table)
    assert (mill.hits, mill.counts()["refused"]) == (0, 2)
    os.utime(table, ns=(OLD_NS, OLD_NS))  # the change of its status is young
    pd.read_csv(table), pd.read_csv(table)
    assert mill.hits == 0


def test_a_file_that_changes_while_it_is_read_is_not_cached(
    mill: Mill, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = read_cache.regular_state_of

    def changing(path: str) -> Any:
        taken = signature(path)
        replace(table, f"style,kg\na,{table.stat().st_ino}\n")
        return taken

    monkeypatch.setattr(read_cache, "regular_state_of", changing)
    pd.read_csv(table), pd.read_csv(table)
    assert mill.hits == 0


def test_other_arguments_are_another_read(mill: Mill, table: Path) -> None:
    spellings: list[tuple[Any, dict[str, Any]]] = [
        ((), {}), ((), {"usecols": ["kg"]}), ((), {"dtype": {"kg": "float32"}}), ((), {"nrows": 1}),
        ((), {"dtype": {"kg": float}}), ((), {"dtype": pd.Int64Dtype()} | {"usecols": ["kg"]}),
    ]  # fmt: skip
    first = [pd.read_csv(table, *args, **kwargs) for args, kwargs in spellings]
    second = [pd.read_csv(table, *args, **kwargs) for args, kwargs in spellings]
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert (
        mill.hits == len(spellings) and len({str(frame.dtypes) + str(frame) for frame in first}) > 4
    )


def test_options_of_pandas_are_a_part_of_the_key(mill: Mill, table: Path) -> None:
    before = pd.read_csv(table).dtypes
    other = "pyarrow" if pd.get_option("mode.string_storage") == "python" else "python"
    with pd.option_context("mode.string_storage", other):
        pd.read_csv(table)
        assert mill.hits == 0
    with pd.option_context("display.max_rows", 7):
        assert (pd.read_csv(table).dtypes == before).all() and mill.hits == 1


@pytest.mark.parametrize(
    "source",
    [
        lambda path: io.StringIO("style,kg\na,1\n"), open, lambda path: path.parent,
        os.fsencode, lambda path: "http://127.0.0.1:1/yarn.csv",
        lambda path: "a\0b", lambda path: "style\nx",
    ],
    ids=["text", "file", "folder", "bytes", "address", "odd", "content"],
)  # fmt: skip
def test_other_sources_are_passed_on(mill: Mill, table: Path, source: Any) -> None:
    for _ in range(2):
        opened = source(table)
        with contextlib.suppress(OSError, ValueError, TypeError, pd.errors.EmptyDataError):
            pd.read_csv(opened)
        if isinstance(opened, io.IOBase):
            opened.close()
    counts = mill.counts()
    assert (counts["hits"], counts["misses"]) == (0, 0)


def test_chunks_and_callables_are_passed_on(mill: Mill, table: Path) -> None:
    for _ in range(2):
        with pd.read_csv(table, chunksize=1) as chunks:
            assert [len(chunk) for chunk in chunks] == [1, 1]
        assert pd.read_csv(table, usecols=lambda name: name == "kg").columns.tolist() == ["kg"]
    assert mill.hits == 0


def test_several_sheets_are_separate_frames(mill: Mill, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        for name in ("one", "two"):
            pd.DataFrame({"a": [name]}).to_excel(book, sheet_name=name, index=False)
    for name in ("one", "two"):
        sheet = pd.read_excel(path, sheet_name=None)[name]
        sheet.loc[0, "a"] = "changed"
    again = pd.read_excel(path, sheet_name=None)
    assert [again[name]["a"].tolist() for name in again] == [["one"], ["two"]] and mill.hits == 2


@pytest.mark.filterwarnings("ignore:ExcelFile.parse is deprecated")
def test_an_open_workbook_is_read_once(mill: Mill, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    pd.DataFrame({"a": [1]}).to_excel(path, index=False)
    for _ in range(3):
        with pd.ExcelFile(path) as book:
            assert pd.read_excel(book)["a"].tolist() == book.parse()["a"].tolist() == [1]
    counts = mill.counts()
    assert (counts["hits"], counts["misses"], counts["entries"]) == (4, 2, 2)


def test_an_open_workbook_whose_file_was_replaced_is_read(mill: Mill, tmp_path: Path) -> None:
    path, other = tmp_path / "book.xlsx", tmp_path / "other.xlsx"
    pd.DataFrame({"a": [1]}).to_excel(path, index=False)
    pd.DataFrame({"a": [2]}).to_excel(other, index=False)
    with pd.ExcelFile(path) as book:
        os.replace(other, path)
        assert pd.read_excel(book)["a"].tolist() == [1]
    assert pd.read_excel(path)["a"].tolist() == [2]
    assert mill.counts()["entries"] == 1


def test_a_workbook_with_options_is_passed_on(mill: Mill, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    pd.DataFrame({"a": [1]}).to_excel(path, index=False)
    for _ in range(2):
        with pd.ExcelFile(path, engine="openpyxl") as book:
            assert pd.read_excel(book)["a"].tolist() == [1]
    assert mill.counts()["misses"] == 0


def test_parts_of_a_path_are_not_shortened(mill: Mill, tmp_path: Path) -> None:
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "yarn.csv").write_text("style\nouter\n")
    (tmp_path / "one" / "yarn.csv").write_text("style\ninner\n")
    link = tmp_path / "two" / "link"
    link.symlink_to(tmp_path / "one" / "deep")
    for _ in range(2):
        assert pd.read_csv(f"{link}/../yarn.csv")["style"].tolist() == ["inner"]
    with pytest.raises(NotADirectoryError):
        pd.read_csv(f"{tmp_path}/yarn.csv/")


def test_functions_and_dialects_are_passed_on(mill: Mill, table: Path) -> None:
    csv.register_dialect("mill", delimiter=",")
    try:
        for _ in range(2):
            pd.read_csv(table, converters={"kg": float_of})
            pd.read_csv(table, dialect="mill")
    finally:
        csv.unregister_dialect("mill")
    assert mill.hits == 0


@pytest.mark.filterwarnings("ignore:ExcelFile.parse is deprecated")
def test_a_workbook_in_memory_is_passed_on(mill: Mill, tmp_path: Path) -> None:
    content = io.BytesIO()
    pd.DataFrame({"a": [1]}).to_excel(content, index=False)
    for _ in range(2):
        with pd.ExcelFile(io.BytesIO(content.getvalue())) as book:
            assert book.parse()["a"].tolist() == [1]
    assert mill.counts()["misses"] == 0


def test_relative_paths_follow_the_working_directory(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "yarn.csv").write_text(f"style\n{name}\n")
    for name in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / name)
        assert pd.read_csv("yarn.csv")["style"].tolist() == [name]
    assert mill.hits == 1


def test_bypassed_reads_read(mill: Mill, table: Path) -> None:
    pd.read_csv(table)
    with mill.perf.cache.bypass():
        pd.read_csv(table)
    assert (mill.hits, mill.counts()["bypassed"]) == (0, 1)
    mill.perf.cache.clear()
    pd.read_csv(table)
    assert mill.hits == 0


def test_concurrent_reads_of_a_file_are_one(
    mill: Mill, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    take = mill.perf.cache.reads.invalidation.take

    def slow(slots: Any) -> Any:
        started.set()
        assert go.wait(30)
        return take(slots)

    monkeypatch.setattr(mill.perf.cache.reads.invalidation, "take", slow)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(pd.read_csv, table)]
        assert started.wait(30)
        futures += [pool.submit(pd.read_csv, table) for _ in range(3)]
        while len(single_flight._WAITING) < 3:
            pass
        go.set()
        frames = [future.result() for future in futures]
    counts = mill.counts()
    assert len({id(frame) for frame in frames}) == 4
    assert (counts["misses"], counts["shared_loads"], counts["hits"]) == (1, 3, 3)
    assert all(frame["kg"].tolist() == [1, 2] for frame in frames)


def test_a_result_that_is_larger_than_the_cache_is_not_kept(
    new_mill: Callable[..., Mill], table: Path
) -> None:
    mill = new_mill(KNITPERF_CACHE_MAX_MB=0.0001)
    pd.read_csv(table), pd.read_csv(table)
    assert (mill.hits, mill.counts()["refused"]) == (0, 2)


@pytest.mark.slow
def test_keys_of_changed_files_do_not_pile_up(mill: Mill, tmp_path: Path) -> None:
    for number in range(300):
        path = tmp_path / f"{number}.csv"
        path.write_text("a\n1\n")
        pd.read_csv(path)
        mill.perf.cache.clear()
    assert len(mill.perf.cache.reads.current) < 200


def test_the_reused_read_is_counted_as_a_quick_one(mill: Mill, table: Path) -> None:
    mill.path = table
    client = mill.app.test_client()
    assert [client.get("/read").text for _ in range(3)] == ["2"] * 3
    assert mill.hits == 2
    report = mill.perf.report("run")
    (row,) = [row for row in report["endpoints"] if row["endpoint"] == "read"]
    assert sum(read["count"] for read in row["file_reads"]) == 3
    json.dumps(report)


def test_frames_keep_their_origin_and_can_be_pickled(mill: Mill, table: Path) -> None:
    for _ in range(2):
        frame = pickle.loads(pickle.dumps(pd.read_csv(table)))
    assert frame["kg"].tolist() == [1, 2]


def test_unknown_options_of_a_later_pandas_are_no_reason_to_fail(
    mill: Mill, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas._config.config", types.ModuleType("config"))
    assert pd.read_csv(table)["kg"].tolist() == [1, 2]
    assert mill.counts()["misses"] == 0


def test_a_failure_of_the_cache_is_no_failure_of_the_read(
    mill: Mill, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "CachedRead", None)
    assert pd.read_csv(table)["kg"].tolist() == [1, 2]
    assert mill.counts()["refused"] == 1


def test_an_error_of_the_reader_is_that_of_each_call(mill: Mill, table: Path) -> None:
    started, go = threading.Event(), threading.Event()
    table.write_text('style,kg\n"a,1\n')

    def wait() -> Any:
        started.set()
        assert go.wait(30)
        return 0

    mill.perf.cache.reads.clock = wait
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(pd.read_csv, table, engine="python", on_bad_lines="error")]
        assert started.wait(30)
        futures.append(pool.submit(pd.read_csv, table, engine="python", on_bad_lines="error"))
        while not single_flight._WAITING:
            pass
        go.set()
        errors = [type(future.exception()) for future in futures]
    assert errors == [pd.errors.ParserError] * 2


# -- in the report -----------------------------------------------------------------------------------


def read_four_times(app: flask.Flask) -> Any:
    """Serve ``/read`` four times; return the reads of its one file in the report."""
    for _ in range(4):
        assert app.test_client().get("/read").status_code == 200
    report = app.extensions["knitperf"].documents.report("run")
    [row] = [row for row in report["endpoints"] if row["endpoint"] == "read"]
    [read] = row["file_reads"]
    return read


def of_open_file(path: Path) -> Any:
    with open(path) as file:
        return pd.read_csv(file)


def test_a_read_from_the_cache_is_not_avoidable(mill: Mill, table: Path) -> None:
    mill.path = table
    read = read_four_times(mill.app)
    assert (read["count"], read["reused"], read["unchanged"], read["avoidable_s"]) == (4, 3, 0, 0)


def test_a_read_that_the_cache_does_not_answer_stays_avoidable(mill: Mill, table: Path) -> None:
    mill.app.view_functions["read"] = lambda: str(len(of_open_file(table)))
    read = read_four_times(mill.app)
    assert (read["count"], read["reused"], read["unchanged"]) == (4, 0, 3)


REUSABLE: dict[str, tuple[Any, bool]] = {
    "path": (lambda path: pd.read_csv(path, encoding="utf-8"), True),
    "text path with options": (lambda path: pd.read_csv(str(path), sep=","), True),
    "open file": (of_open_file, False),
    "chunks": (lambda path: list(pd.read_csv(path, chunksize=1)), False),
    "dialect": (lambda path: pd.read_csv(path, dialect=csv.excel), False),
    "other reader": (lambda path: pd.read_fwf(path, encoding="utf-8"), False),
}


@pytest.mark.parametrize("name", REUSABLE)
def test_without_the_option_only_reads_that_it_would_answer_are_predicted(
    table: Path, name: str
) -> None:
    load, predicted = REUSABLE[name]
    app = flask.Flask("mill")
    app.config.update(TESTING=True)
    KnitPerf(app)
    app.add_url_rule("/read", "read", lambda: str(len(load(table))))
    session = app.extensions["knitperf"]
    try:
        read = read_four_times(app)
        [reading] = [
            row for row in session.documents.window("run").snapshot.readings.endpoints
            if row.endpoint == "read"
        ]  # fmt: skip
    finally:
        session.close()
    states = {row.state: row.time.count for row in reading.file_reads}
    assert states.get("reusable", 0) == (3 if predicted else 0), states
    assert read["unchanged"] == 3 and read["reused"] == 0
