"""Files that a view opens itself: timed where the setting names their suffix, else untouched."""

from __future__ import annotations

import builtins
import gc
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.collectors.files import open_hook
from flask_knitperf.collectors.files.file_reads import FILE_READS
from flask_knitperf.collectors.files.open_hook import OPEN_HOOK
from tests.web.clients import viewer_headers

pytestmark = pytest.mark.usefixtures("nothing_read_before")

ROWS = "".join(f"{number},lot {number}\n" for number in range(5_000))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mill" / "lots.CSV"
    path.parent.mkdir()
    path.write_text(ROWS)
    return path


@pytest.fixture
def timing(make_app: Callable[..., Any]) -> Any:
    return make_app(TESTING=True, KNITPERF_OPENED_FILES=[".csv", ".json"])


def read_whole(path: Path) -> str:
    with open(path) as file:
        return file.read()


def read_by_line(path: Path) -> str:
    with path.open() as file:
        return "".join(file)


def read_bytes(path: Path) -> str:
    with open(str(path), "rb") as file:
        return file.read().decode()


def read_chunks(path: Path) -> str:
    with open(path, "rb") as file:
        return b"".join(iter(lambda: file.read(100), b"")).decode()


WAYS = [read_whole, read_by_line, read_bytes, read_chunks, Path.read_text]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_content_is_unchanged_and_counted_with_file_line_and_bytes(
    timing: Any, table: Path, way: Callable[[Path], str]
) -> None:
    contents: list[str] = []
    [row] = timing.read_by(lambda: contents.append(way(table)), times=3)
    assert contents == [ROWS] * 3
    assert (row["path"], row["count"], row["unchanged"]) == ("mill/lots.CSV", 3, 2)
    assert row["where"].startswith("files/test_open_hook.py:") or way is Path.read_text
    assert (row["bytes_mean"], row["rows_mean"]) == (len(ROWS), None)
    part = timing.parts("read")["file_read"]
    assert part["count"] == 3 and 0 < part["share"] < 1


@pytest.mark.parametrize("mode", ["r", "rt", "rb"])
def test_the_file_object_is_of_the_same_type(timing: Any, table: Path, mode: str) -> None:
    kinds: list[Any] = []

    def view() -> None:
        with open(table, mode, newline=None) as file:
            kinds.append((type(file), file.name, file.mode, file.readable(), file.seekable()))
            kinds.append((getattr(file, "encoding", None), getattr(file, "errors", None)))

    view()
    timing.read_by(view)
    assert kinds[:2] == kinds[2:]


def test_only_the_time_of_reading_counts_and_only_the_bytes_read(timing: Any, table: Path) -> None:
    def view() -> None:
        with timing.perf.section("loads"), open(table, "rb", buffering=-1) as file:
            file.read(10)

    span: list[Any] = []
    timing.app.teardown_request(lambda _: span.append(timing.session.recorder.span()))
    gc.disable()  # a pause is not in the parts
    try:
        [row] = timing.read_by(view)
    finally:
        gc.enable()
    assert 10 <= row["bytes_mean"] < len(ROWS)
    [request] = span
    loads = next(event for event in request.notes.events if event.name == "section:loads")
    assert sum(row[1] for row in request.parts.values()) == loads.ended - loads.began


def test_a_file_that_is_still_open_when_its_request_ends_is_counted_once(
    timing: Any, table: Path
) -> None:
    files: list[Any] = []

    def view() -> None:
        files.append(open(table, "rb"))  # noqa: SIM115
        files[0].read(10)

    [row] = timing.read_by(view)
    with files[0]:
        assert files[0].read() == ROWS[10:].encode()
    assert row["count"] == 1 and timing.row("read")["file_reads"] == [row]


def test_a_file_read_on_after_the_response_began_is_one_read(
    make_app: Callable[..., Any], table: Path
) -> None:
    mill = make_app(TESTING=True, DEBUG=True, KNITPERF_OPENED_FILES=[".csv"])

    def view() -> Any:
        file = open(table, "rb")  # noqa: SIM115
        file.read(10)

        def rest() -> Any:
            with file:
                yield file.read()

        return rest()

    mill.app.add_url_rule("/read", "read", view)
    here = viewer_headers(mill)
    assert mill.get("/read", **here).body == ROWS[10:].encode()
    [row] = mill.row("read")["file_reads"]
    assert (row["count"], row["unchanged"]) == (1, 0)
    assert mill.parts("read")["file_read"]["count"] == 2


def test_reading_in_another_thread_is_not_counted(timing: Any, table: Path) -> None:
    contents: list[str] = []

    def view() -> None:
        with open(table) as file:
            reader = threading.Thread(target=lambda: contents.append(file.read()))
            reader.start()
            reader.join()

    assert timing.read_by(view) == [] and contents == [ROWS]


def test_a_file_that_pandas_opens_is_a_read_of_pandas(timing: Any, table: Path) -> None:
    import pandas as pd

    [row] = timing.read_by(lambda: pd.read_csv(table, engine="python"))
    assert (row["count"], row["rows_mean"]) == (1, 4_999.0)


def test_a_file_of_another_kind_or_mode_is_not_timed(
    timing: Any, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("x")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json") if hasattr(os, "mkfifo") else None
    timed: list[bool] = []

    def view() -> None:
        ways: list[tuple[Any, dict[str, Any]]] = [
            (other, {}), (table, {"mode": "r+"}), (table, {"mode": "a"}),
            (table, {"mode": "rb", "buffering": 0}), (table, {"buffering": 1}),
            (os.open(table, os.O_RDONLY), {}), (os.fsencode(table), {}),
            (table, {"opener": os.open}),
        ]  # fmt: skip
        for file_, more in ways:
            with open(file_, **more) as file:
                raw = getattr(getattr(file, "buffer", file), "raw", file)
                timed.append(isinstance(raw, open_hook._TimedFile))

    assert timing.read_by(view) == [] and not any(timed) and len(timed) == 8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gone.csv", {}),
        ("folder.json", {}),
        ("lots.csv", {"encoding": "no such"}),
        ("lots.csv", {"newline": "no"}),
        ("lots.csv", {"mode": "rb", "encoding": "utf-8"}),
        ("lots.csv", {"mode": "x"}),
        ("a\0.csv", {}),
        (None, {}),
    ],
    ids=str,
)
def test_an_error_is_the_same_error(timing: Any, tmp_path: Path, name: Any, options: Any) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "lots.csv").write_text("x")
    errors: list[tuple[Any, str]] = []

    def view() -> None:
        try:
            open(None if name is None else f"{tmp_path}/{name}", **options)  # noqa: SIM115
        except Exception as error:
            errors.append((type(error), str(error)))

    view()
    timing.read_by(view)
    assert len(errors) == 2 and errors[0] == errors[1]


def test_a_failure_of_ours_never_reaches_the_view(
    timing: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FILE_READS, "add", fail)
    contents: list[str] = []
    timing.read_by(lambda: contents.append(read_whole(table)))
    assert contents == [ROWS] and timing.session.recorder.failures["file reads"] > 0


def test_the_last_application_restores_open(make_app: Callable[..., Any], table: Path) -> None:
    before = builtins.open
    first = make_app(TESTING=True, KNITPERF_OPENED_FILES=[".csv"])
    second = make_app(name="other", TESTING=True, KNITPERF_OPENED_FILES=[".csv", ".json"])
    first.app.add_url_rule("/read", "read", lambda: read_whole(table)[:0] + "ok")
    first.get("/"), second.get("/")
    assert builtins.open is io.open is not before and OPEN_HOOK.installed
    second.session.close()
    first.get("/read")
    assert OPEN_HOOK.installed and len(first.row("read")["file_reads"]) == 1
    first.session.close()
    assert builtins.open is io.open is before and not OPEN_HOOK.installed


def test_an_open_that_was_replaced_again_meanwhile_is_left_alone(
    timing: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing.get("/")
    ours = builtins.open

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", theirs)
        timing.session.close()
        assert builtins.open is theirs and read_whole(table) == ROWS
    builtins.open = io.open


def test_without_the_option_nothing_is_replaced(make_app: Callable[..., Any], table: Path) -> None:
    before = builtins.open
    mill = make_app(TESTING=True)
    assert mill.read_by(lambda: json.dumps(read_whole(table))) == [] and builtins.open is before
