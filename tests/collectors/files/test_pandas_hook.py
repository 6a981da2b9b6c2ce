"""Reads of pandas within requests: counted by file, line and state, without side effects."""

from __future__ import annotations

import importlib.util
import io
import os
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.collectors.files import file_reads, pandas_hook
from flask_knitperf.collectors.files.file_reads import Read, source
from flask_knitperf.collectors.files.pandas_hook import PANDAS_HOOK, READERS
from flask_knitperf.core.provenance import ORIGINS
from tests.web.clients import viewer_headers

pytestmark = pytest.mark.usefixtures("nothing_read_before")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mill" / "yarn.csv"
    path.parent.mkdir()
    path.write_text("a,b\n1,2\n3,4\n")
    return path


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


# -- counting ----------------------------------------------------------------------------------------


def test_a_read_is_counted_with_path_line_bytes_and_rows(quiet: Any, table: Path) -> None:
    [row] = quiet.read_by(lambda: pd.read_csv(table))  # read here
    assert row["path"] == "mill/yarn.csv"
    assert row["where"] == f"files/test_pandas_hook.py:{line_of('read here')}"
    assert (row["count"], row["bytes_mean"], row["rows_mean"]) == (1, 12, 2.0)
    assert row["mean_ms"] > 0


def test_a_read_is_a_part_of_its_request_and_its_cause(quiet: Any, table: Path) -> None:
    quiet.read_by(lambda: [pd.read_csv(table) for _ in range(3)])
    part = quiet.parts("read")["file_read"]
    assert part["count"] == 3 and part["share"] > 0


def test_a_read_counts_within_its_section_and_a_section_within_a_read(
    quiet: Any, table: Path
) -> None:
    def convert(text: str) -> str:
        with quiet.perf.section("converts"):
            return text

    def view() -> None:
        with quiet.perf.section("loads"):
            pd.read_csv(table, converters={"a": convert})

    span: list[Any] = []
    quiet.app.teardown_request(lambda _: span.append(quiet.session.recorder.span()))
    quiet.read_by(view)
    parts, [request] = quiet.parts("read"), span
    counts = {name: part["count"] for name, part in parts.items() if ":test_" not in name}
    assert counts == {"section:loads": 1, "file_read": 1, "section:converts": 2}
    loads = next(event for event in request.notes.events if event.name == "section:loads")
    within = [row[1] for name, row in request.parts.items() if ":test_" not in name]
    assert sum(within) == loads.ended - loads.began


def test_reads_before_the_response_began_are_in_its_server_timing(
    make_app: Callable[..., Any], table: Path
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    mill.app.add_url_rule("/read", "read", lambda: str(pd.read_csv(table))[:0] + "ok")
    here = viewer_headers(mill)
    headers = [mill.get("/read", **here).header("Server-Timing") for _ in range(2)]
    assert all('desc="file_read"' in (header or "") for header in headers)


@pytest.mark.slow
def test_every_read_of_fast_requests_counts_also_once_cpu_is_no_longer_sampled(
    make_app: Callable[..., Any], table: Path
) -> None:
    """Such requests take the fast path unless a collector prevents it."""
    mill = make_app(TESTING=True, KNITPERF_OPENED_FILES=[".csv"])

    def view() -> str:
        with open(table) as file:
            return file.read()[:0] + "ok"

    mill.app.add_url_rule("/opens", "opens", view)
    mill.app.add_url_rule("/reads", "reads", lambda: str(pd.read_csv(table))[:0] + "ok")
    for _ in range(400):
        mill.get("/opens"), mill.get("/reads")
    for name in ("opens", "reads"):
        assert [row["count"] for row in mill.row(name)["file_reads"]] == [400]
        assert mill.parts(name)["file_read"]["count"] == 400


def test_a_request_that_reads_nothing_has_no_part_and_no_read(quiet: Any) -> None:
    quiet.get("/")
    assert quiet.row("index")["file_reads"] == [] and quiet.parts("index") == {}


def test_only_the_first_read_of_a_worker_is_not_avoidable(quiet: Any, table: Path) -> None:
    [row] = quiet.read_by(lambda: pd.read_csv(table), times=4)
    assert (row["count"], row["unchanged"]) == (4, 3)
    assert 0 < row["avoidable_s"] < row["time_spent_s"] + 1e-9


def test_reading_a_file_that_changed_is_not_avoidable(quiet: Any, table: Path) -> None:
    moment = iter(range(1_000, 9_000, 1_000))

    def view() -> Any:
        os.utime(table, (next(moment),) * 2)
        return pd.read_csv(table)

    [row] = quiet.read_by(view, times=4)
    assert (row["count"], row["unchanged"]) == (4, 0)


def test_a_file_that_was_replaced_by_an_equal_one_counts_as_changed(
    quiet: Any, table: Path
) -> None:
    def view() -> Any:
        fresh = table.with_suffix(".new")
        fresh.write_bytes(table.read_bytes())
        os.utime(fresh, (1_000, 1_000))
        os.replace(fresh, table)
        return pd.read_csv(table)

    assert quiet.read_by(view, times=3)[0]["unchanged"] == 0


def test_the_same_file_read_with_other_options_is_another_read(quiet: Any, table: Path) -> None:
    columns = iter(["a", "b", "a"])
    [row] = quiet.read_by(lambda: pd.read_csv(table, usecols=[next(columns)]), times=3)
    assert (row["count"], row["unchanged"]) == (3, 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: pd.read_csv(str(path)),
        lambda path: pd.read_csv(os.fsencode(path).decode()),
        lambda path: pd.read_csv(filepath_or_buffer=path),
        lambda path: pd.read_table(path, sep=","),
        lambda path: pd.read_csv(path.open("rb")),
        lambda path: pd.read_csv(path.open(encoding="utf-8")),
    ],
    ids=["text", "decoded", "keyword", "read_table", "binary file", "text file"],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_file_is_recognised_for_every_type_of_argument(
    quiet: Any, table: Path, read: Callable[[Path], Any]
) -> None:
    [row] = quiet.read_by(lambda: read(table), times=2)
    assert (row["path"], row["unchanged"]) == ("mill/yarn.csv", 1)


def test_a_workbook_that_is_opened_first_is_read_once_not_twice(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.xlsx"
    pd.DataFrame({"a": range(5)}).to_excel(path, index=False)

    def view() -> Any:
        with pd.ExcelFile(path) as book:
            return pd.read_excel(book), pd.read_excel(book, nrows=2)

    rows = quiet.read_by(view, times=2)
    assert {row["path"].rpartition("/")[2] for row in rows} == {"plan.xlsx"}
    assert sorted((row["count"], row["unchanged"]) for row in rows) == [(2, 1), (4, 2)]


def test_a_workbook_in_one_step_is_one_read(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.xlsx"
    pd.DataFrame({"a": range(5)}).to_excel(path, index=False)
    [row] = quiet.read_by(lambda: pd.read_excel(path, sheet_name=None))
    assert (row["count"], row["rows_mean"]) == (1, 5.0)


def test_content_in_memory_is_timed_and_has_no_name(quiet: Any) -> None:
    [row] = quiet.read_by(lambda: pd.read_json(io.StringIO('{"secret": {"0": 1}}')), times=3)
    assert (row["path"], row["unchanged"], row["bytes_mean"]) == ("<memory>", 0, None)


def test_a_query_is_a_part_named_sql_and_not_a_file(quiet: Any, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    def view() -> Any:
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            return pd.read_sql("SELECT 1", connection)

    assert quiet.read_by(view) == []
    assert set(quiet.parts("read")) == {"sql"}


def test_a_chunked_reader_is_counted_without_rows(quiet: Any, table: Path) -> None:
    [row] = quiet.read_by(lambda: pd.read_csv(table, chunksize=1).close())
    assert row["rows_mean"] is None


def test_a_read_that_fails_raises_its_error_and_its_time_counts(quiet: Any, tmp_path: Path) -> None:
    def view() -> Any:
        with pytest.raises(FileNotFoundError):
            pd.read_csv(tmp_path / "gone.csv")

    assert quiet.read_by(view) == []
    assert quiet.parts("read")["file_read"]["count"] == 1


def test_the_user_password_and_query_of_a_url_are_not_stored() -> None:
    origin = source("https://me:secret@files.example/a.csv?token=secret", None)
    assert origin.name == "https://files.example" and origin.signature is None


@pytest.mark.parametrize("target", [None, 5, b"\0", "x" * 5000, "\0", object()])
def test_any_argument_has_a_source(target: Any) -> None:
    read = Read("file_read", "read_csv", "")
    read.resolve(target)
    assert source(read.path, read.stat) == ("<memory>", None, -1)


# -- no side effects ---------------------------------------------------------------------------------


def own_module(tmp_path: Path, text: str) -> ModuleType:
    path = tmp_path / "own_loading.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("own_loading", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_loading"] = module
    spec.loader.exec_module(module)
    return module


def test_names_imported_into_modules_of_the_application_are_replaced_too(
    quiet: Any, tmp_path: Path, table: Path
) -> None:
    module = own_module(tmp_path, "from pandas import read_csv as load\n")
    before = module.load
    try:
        [row] = quiet.read_by(lambda: module.load(table))
        assert row["path"] == "mill/yarn.csv"
        quiet.session.close()
        assert module.load is before
    finally:
        del sys.modules["own_loading"]


def test_the_last_application_restores_the_readers(make_app: Any) -> None:
    before = [getattr(pd, reader.name) for reader in READERS]
    parse = pd.ExcelFile.parse
    first, second = make_app(TESTING=True), make_app(name="other", TESTING=True)
    first.get("/")
    second.get("/")
    assert pd.read_csv is not before[0] and pd.read_csv.__name__ == "read_csv"
    first.session.close()
    assert PANDAS_HOOK.installed
    second.session.close()
    assert [getattr(pd, reader.name) for reader in READERS] == before
    assert pd.ExcelFile.parse is parse and not PANDAS_HOOK.installed


def test_a_reader_that_was_replaced_again_meanwhile_is_left_alone(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd, "read_fwf", pd.read_fwf)
    quiet.get("/")
    theirs = lambda *a: None  # noqa: E731
    pd.read_fwf = theirs
    quiet.session.close()
    assert pd.read_fwf is theirs


def test_outside_of_a_request_a_reader_only_reads(quiet: Any, table: Path) -> None:
    quiet.get("/")
    assert len(pd.read_csv(table)) == 2
    assert quiet.row("index")["file_reads"] == []


def test_it_can_be_switched_off(make_app: Any, table: Path) -> None:
    mill = make_app(TESTING=True, KNITPERF_FILE_READS=False)
    assert mill.read_by(lambda: pd.read_csv(table)) == [] and mill.parts("read") == {}


def test_pandas_may_be_imported_late(
    quiet: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view() -> Any:
        PANDAS_HOOK.install_if_imported()
        return pd.read_csv(table)

    quiet.app.add_url_rule("/late", "late", lambda: str(view())[:0])
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "pandas")
        quiet.get("/")
        assert not PANDAS_HOOK.installed
    quiet.get("/late")
    assert quiet.row("late")["file_reads"][0]["count"] == 1


def test_a_warning_of_pandas_names_the_calling_line(quiet: Any, table: Path) -> None:
    def reads() -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pd.read_csv(table, sep="[,;]")  # falls back to the slower parser, with a warning
        return f"{caught[0].category.__name__} {caught[0].filename}"

    quiet.app.add_url_rule("/reads", "reads", reads)
    assert quiet.get("/reads").body.decode() == f"ParserWarning {__file__}"


def test_a_traceback_shows_that_a_reader_was_called_by_this_package(quiet: Any) -> None:
    def reads() -> str:
        try:
            pd.read_csv("not there.csv")
        except FileNotFoundError as error:
            return "".join(traceback.format_exception(error))
        return ""

    quiet.app.add_url_rule("/reads", "reads", reads)
    assert "(called by flask_knitperf)" in quiet.get("/reads").body.decode()


@pytest.mark.parametrize("part", ["caller", "rows_of"])
def test_a_failure_of_ours_never_reaches_the_view(
    quiet: Any, table: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pandas_hook, part, fail)
    assert quiet.read_by(lambda: pd.read_csv(table), times=2) == []
    assert quiet.session.recorder.failures["file reads"] == 2


def test_the_number_of_signatures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reads, "_MAX_SIGNATURES", 3)
    signatures = file_reads.SignatureLRU()
    for key in range(9):
        signatures.state(key, (1,))
    assert [signatures.state(key, (1,)) for key in (8, 0)] == ["unchanged", "first"]


# -- origins of frames --------------------------------------------------------------------------------


def test_a_frame_read_in_a_request_has_file_and_line_as_origin(quiet: Any, table: Path) -> None:
    frames: list[pd.DataFrame] = []
    quiet.read_by(lambda: frames.append(pd.read_csv(table)))  # kept here
    origin = ORIGINS.of(frames[0])
    assert origin == ("read_csv yarn.csv", f"files/test_pandas_hook.py:{line_of('kept here')}")


def test_a_frame_read_outside_a_request_has_an_origin_too(quiet: Any, table: Path) -> None:
    quiet.read_by(lambda: None)
    frame = pd.read_csv(table)  # outside
    origin = ORIGINS.of(frame)
    assert origin == ("read_csv yarn.csv", f"files/test_pandas_hook.py:{line_of('outside')}")


def test_the_sheets_of_a_workbook_have_it_as_origin(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    pd.DataFrame({"a": [1]}).to_excel(path)
    quiet.read_by(lambda: None)
    sheets = pd.read_excel(path, sheet_name=None)
    assert {ORIGINS.of(sheet).what for sheet in sheets.values()} == {"read_excel book.xlsx"}  # type: ignore[union-attr]


def test_the_text_of_a_query_is_not_stored_as_an_origin(quiet: Any) -> None:
    quiet.read_by(lambda: None)
    with sqlite3.connect(":memory:") as connection:
        frame = pd.read_sql("select 'secret' as a", connection)
    connection.close()
    origin = ORIGINS.of(frame)
    assert origin is not None
    assert origin.what == "read_sql"


def test_an_argument_that_misbehaves_leaves_the_origin_unknown(quiet: Any) -> None:
    class Misbehaving(os.PathLike[str]):
        """A path whose conversion fails."""

        def __fspath__(self) -> str:
            raise RuntimeError("broken")

    assert pandas_hook.with_origin("result", READERS[0], (Misbehaving(),), {}) == "result"


def test_an_optimised_frame_has_the_original_as_origin(quiet: Any, table: Path) -> None:
    quiet.read_by(lambda: None)
    frame = pd.read_csv(table)
    origin = ORIGINS.of(quiet.perf.memory.optimize_dataframe(frame))
    assert origin is not None
    assert origin.what == "optimize_dataframe of read_csv yarn.csv"
    small = quiet.perf.memory.read_csv(table)  # read small
    assert ORIGINS.of(small) == (
        "read_csv yarn.csv", f"files/test_pandas_hook.py:{line_of('read small')}"
    )  # fmt: skip
