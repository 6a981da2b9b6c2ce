"""Reading a file in chunks gives the same frame as reading it in one piece, in fewer bytes."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_knitperf import KnitPerf
from flask_knitperf.frames import FrameError, read_csv, size_of
from flask_knitperf.frames.verify import differences

from .samples import LEVEL_NAMES


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read_twice(
    path: Path, level: Any = "compact", chunk_rows: int = 3, **options: Any
) -> pd.DataFrame:
    """Read a file in chunks and in one piece, and return the small frame if both are equal."""
    if options.get("engine") != "python":
        options = {"low_memory": False, **options}
    whole = pd.read_csv(path, **options)
    frame = read_csv(path, level, chunk_rows=chunk_rows, **options)
    assert differences(whole, frame) == []
    return frame


COLUMNS = {
    "numbers": ["1", "2", "3", "4", "5", "6", "7"],
    "wider": ["1", "2", "3", "300", "5", "70000", "5000000000"],
    "then empty": ["1", "2", "3", "4", "", "6", ""],
    "then fractions": ["1", "2", "3", "4", "0.1", "6", "7"],
    "then text": ["007", "1.50", "3", "4", "x", "6", "7"],
    "booleans": ["True", "False", "True", "True", "False", "True", "False"],
    "booleans then empty": ["True", "False", "True", "True", "", "True", "False"],
    "booleans then text": ["True", "False", "True", "maybe", "", "True", "1"],
    "booleans then numbers": ["True", "False", "True", "1", "0", "1", "2"],
    "empty then text": ["", "", "", "a", "b", "a", ""],
    "empty then numbers": ["", "", "", "1", "2", "", "3"],
    "empty": ["", "", "", "", "", "", ""],
    "text": ["a", "b", "a", "c", "a", "b", ""],
    "large": ["9007199254740993", "2", "3", "0.5", "", "6", "7"],
    "unsigned": ["1", "-2", "3", "18446744073709551615", "5", "6", "7"],
    "unsigned alone": ["1", "2", "3", "18446744073709551615", "5", "6", "7"],
    "beyond": ["1", "2", "3", "118446744073709551615", "5", "6", "7"],
    "half": ["0.5", "0.25", "1", "2", "4", "0.1", "8"],
    "quoted": ['"a,b"', '"c\nd"', "ü", '"""x"""', "a", "NA", "n/a"],
}


@pytest.mark.parametrize("level", LEVEL_NAMES)
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_read_as_in_one_piece_whatever_its_first_rows_are(
    tmp_path: Path, name: str, level: Any
) -> None:
    lines = [f"{cell},{n}" for n, cell in enumerate(COLUMNS[name])]
    read_twice(write(tmp_path / "a.csv", "a,n\n" + "\n".join(lines) + "\n"), level)


cells = st.sampled_from(
    ["", "1", "-5", "300", "0.5", "0.1", "x", "True", "007", "1e400", "NaN", "2**3"]
)


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=9),
    st.sampled_from(LEVEL_NAMES),
    st.integers(1, 5),
)
def test_any_file_is_read_as_in_one_piece(
    tmp_path: Path, rows: Any, level: Any, chunk: int
) -> None:
    text = "a,a\n" + "".join(f"{one},{other}\n" for one, other in rows)
    read_twice(write(tmp_path / "a.csv", text), level, chunk)


def test_a_file_of_many_chunks_becomes_a_small_frame(tmp_path: Path) -> None:
    rows = "".join(f"{n % 50},{n},style {n % 300}\n" for n in range(9000))
    path = write(tmp_path / "a.csv", "a,b,c\n" + rows)
    frame = read_twice(path, "compact", 1000)
    assert [str(dtype) for dtype in frame.dtypes] == ["int8", "int16", "category"]
    assert (
        frame["c"].cat.categories.is_monotonic_increasing and len(frame["c"].cat.categories) == 300
    )
    assert size_of(frame["c"]).true < 60_000


def test_text_that_repeats_in_later_chunks_becomes_categories(tmp_path: Path) -> None:
    rows = "".join(f"a longer style number {n % 500}\n" for n in range(5000))
    frame = read_twice(write(tmp_path / "a.csv", "a\n" + rows), "balanced", 500)
    assert str(frame["a"].dtype) == "category"


@pytest.mark.parametrize("options", [
    {"sep": ";"}, {"index_col": "n"}, {"usecols": ["n", "a"]}, {"dtype": {"a": str}}, {"dtype": str},
    {"parse_dates": ["d"]}, {"names": ["p", "q", "r"], "header": 0}, {"header": None},
    {"na_values": ["2"]}, {"keep_default_na": False}, {"skiprows": [1]},
], ids=str)  # fmt: skip
def test_options_are_passed_to_pandas(tmp_path: Path, options: dict[str, Any]) -> None:
    separator = options.get("sep", ",")
    rows = [("a", "n", "d")]
    rows += [("007" if n < 5 else "x", str(n), f"2025-01-0{n + 1}") for n in range(8)]
    text = "\n".join(separator.join(row) for row in rows) + "\n"
    read_twice(write(tmp_path / "a.csv", text), **options)


@pytest.mark.parametrize("cells", [
    ["13/01/2025", "14/01/2025", "01/02/2025"], ["01/02/2025", "02/02/2025", "13/01/2025"],
], ids=str)  # fmt: skip
@pytest.mark.parametrize("options", [
    {"parse_dates": ["d"]}, {"parse_dates": True, "index_col": 0},
    {"parse_dates": [0], "dayfirst": True},
    {"parse_dates": ["d"], "date_format": {"d": "%d/%m/%Y"}},
    {"parse_dates": ["d"], "date_format": "%d/%m/%Y"}, {"parse_dates": ["d"], "date_format": "%m/%d/%Y"},
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Could not infer format", "ignore:Parsing dates")
def test_a_date_format_is_that_of_the_whole_column(
    tmp_path: Path, cells: list[str], options: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.csv", "d,n\n" + "".join(f"{cell},1\n" for cell in cells))
    whole = pd.read_csv(path, **options)
    pd.testing.assert_frame_equal(read_csv(path, "safe", ["n"], chunk_rows=2, **options), whole)


@pytest.mark.parametrize(("text", "options"), [
    ("i,a\n007,1\n008,2\nx,3\n", {"index_col": "i"}),
    ("i,a\n007,1\n008,2\nx,3\n", {"index_col": ["i", "a"]}),
    ("i,j,a\n1,007,1\n1,008,2\n2,x,3\n", {"index_col": [0, 1]}),
    ("a,b\n007,1,1\n008,2,01\nx,3,x\n", {}), ("a,b\ny,1,01\ny,2,01\nx,3,x\n", {}),
    ("a,b\n0,1,01\n1,2,02\n2,3,x\n", {}), ("a,b\n0,1,01\n1,2,02\n2,3,x\n", {"engine": "python"}),
    ("007,1,1\n008,2,2\nx,3,3\n", {"names": ["a", "b"]}),
    ("i,a\nTrue,1\nFalse,2\n1.5,3\n", {"index_col": 0}),
    ("i,a\n-0,1\n-0,2\n1.5,3\n", {"index_col": 0}), ("i,a\n1,1\n2,2\n,3\n", {"index_col": 0}),
    ("i,a\n,1\n,2\nx,3\n", {"index_col": 0}), ("i,a\n007,1\n008,2\n9,3\n", {"index_col": 0}),
], ids=str)  # fmt: skip
def test_an_index_is_that_of_the_whole_file(
    tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.csv", text)
    frame, whole = read_twice(path, chunk_rows=2, **options), pd.read_csv(path, **options)
    pd.testing.assert_index_equal(frame.index, whole.index)
    assert repr(frame.index.tolist()) == repr(whole.index.tolist())  # -0.0 is not 0.0


@pytest.mark.parametrize("cells", [
    ["-0", "-0", "1.5"], ["-0", "0", '""'], ["-0", "0", "-0"], ["18446744073709551615", "1", '""'],
    ["9007199254740993", "1", '""'], ["9007199254740993", "1", "2"],
], ids=str)  # fmt: skip
def test_numbers_are_read_as_beside_all_others_of_the_column(
    tmp_path: Path, cells: list[str]
) -> None:
    path = write(tmp_path / "a.csv", "a\n" + "\n".join(cells) + "\n")
    frame, whole = read_csv(path, "safe", ["a"], chunk_rows=2), pd.read_csv(path)
    pd.testing.assert_frame_equal(frame, whole)
    assert repr(frame["a"].tolist()) == repr(whole["a"].tolist())


@pytest.mark.parametrize("options", [
    {"on_bad_lines": "skip"}, {"on_bad_lines": "skip", "engine": "python"},
    {"on_bad_lines": lambda row: row[:2], "engine": "python"},
    {"on_bad_lines": "skip", "skipfooter": 1, "engine": "python"},
], ids=", ".join)  # fmt: skip
def test_a_bad_row_is_bad_although_a_column_is_read_twice(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.csv", "a,b\n01,1\n02,2\n1,2,3\nx,2\n4,4\n")
    read_twice(path, chunk_rows=2, **options)


@pytest.mark.parametrize("options", [
    {"skipfooter": 2, "engine": "python"}, {"engine": "pyarrow"}, {"dtype": "category"},
    {"dtype": {"a": "category"}}, {"converters": {"a": lambda cell: int(cell) if cell < "03" else cell}},
], ids=", ".join)  # fmt: skip
def test_options_that_depend_on_the_whole_file_are_passed_to_pandas(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    if options.get("engine") == "pyarrow":
        pytest.importorskip("pyarrow")
    path = write(tmp_path / "a.csv", "a,b\n01,1\n02,2\nx,3\ny,\n5,\n")
    frame, whole = (
        read_csv(path, "safe", ["a"], chunk_rows=2, **options),
        pd.read_csv(path, **options),
    )
    assert differences(whole, frame) == []
    assert frame["a"].dtype == whole["a"].dtype


def test_an_open_file_is_read(tmp_path: Path) -> None:
    text = "a,b\n01,1\n02,2\nx,3\n"
    expected = read_csv(write(tmp_path / "a.csv", text), chunk_rows=2)
    pd.testing.assert_frame_equal(read_csv(io.StringIO(text), chunk_rows=2), expected)
    with (tmp_path / "a.csv").open("rb") as file:
        pd.testing.assert_frame_equal(read_csv(file, chunk_rows=2), expected)


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    read_twice(path)


def test_columns_can_be_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\n1,1\n2,2\n")
    assert [str(dtype) for dtype in read_csv(path, "compact", ["a"]).dtypes] == ["int64", "int8"]


def test_json_on_one_line_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "list.csv", ",".join(f'{{"yarn":{n}}}' for n in range(98_711)))
    with monkeypatch.context() as patched:
        patched.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("it was read"))
        with pytest.raises(FrameError, match="98,711 columns"):
            read_csv(path)
    compressed = tmp_path / "list.csv.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FrameError, match="more than 5,000 are refused"):
        read_csv(compressed)
    with pytest.raises(FrameError, match="10 columns, and more than 5"):
        read_csv(
            write(tmp_path / "b.csv", "0;1;2;3;4;5;6;7;8;9\n" * 2),
            sep="[;]",
            max_columns=5,
            engine="python",
        )
    assert read_csv(write(tmp_path / "c.csv", "a,b\n1,2\n"), max_columns=2).shape == (1, 2)


@pytest.mark.parametrize(("text", "options", "columns"), [
    ("a,b\r" + "1,2\r" * 60, {}, 2), ("a,b\r\n" + "1,2\r\n" * 60, {}, 2),
    ("a,b~" + "1,2~" * 60, {"lineterminator": "~"}, 2), ('"a,b,c,d",e\n1,2\n', {}, 2),
    ('"a\n,,,b",e\n1,2\n', {}, 2), ("'a,b,c,d',e\n1,2\n", {"quotechar": "'"}, 2),
    ('5" wide,b\n1,"2\n,,,,,"\n', {}, 2), ('"a ""b,c"", d",e\n1,2\n', {}, 2),
    ('a, "b,c,d"\n1,2\n', {"skipinitialspace": True}, 2), ("a]b^c\n1]2^2\n", {"sep": "^"}, 2),
    ("a\\b\n1\\2\n", {"sep": "\\"}, 2), ('"a,b\n1,2\n', {"quoting": 3}, 2),
    ("x" * 70_000 + ",b\n1,2\n", {}, 2), ('"' + "x," * 40_000 + '",b\n1,2\n', {}, 2),
    ("a,b", {}, 2), ("\ufeff\"a,b\",c\n1,2\n", {}, 2), ("a,b,c\n1,2,3\n", {}, 3),
], ids=lambda value: repr(value)[:30])  # fmt: skip
def test_the_columns_of_a_header_are_counted_as_by_pandas(
    tmp_path: Path, text: str, options: dict[str, Any], columns: int
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert pd.read_csv(path, **options).shape[1] == columns
    assert read_csv(path, max_columns=columns, **options).shape[1] == columns
    with pytest.raises(FrameError, match=f"first line has {columns:,} columns"):
        read_csv(path, max_columns=columns - 1, **options)


@pytest.mark.parametrize("text", ["a,b\n", "a\n\n"])
def test_a_file_without_rows_is_a_frame_without_rows(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.csv", text)
    frame = read_csv(path)
    assert frame.shape == pd.read_csv(path).shape and list(frame) == list(pd.read_csv(path))


def test_an_error_of_pandas_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(pd.errors.EmptyDataError):
        read_csv(write(tmp_path / "a.csv", ""))
    with pytest.raises(pd.errors.ParserError):
        read_csv(write(tmp_path / "b.csv", "a\n1\n2,3\n"))


def test_a_wrong_argument_raises_a_frame_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a\n1\n")
    with pytest.raises(FrameError, match="chunksize, nrows cannot be given"):
        read_csv(path, nrows=5, chunksize=5)
    with pytest.raises(FrameError, match="chunk_rows is 0"):
        read_csv(path, chunk_rows=0)
    with pytest.raises(FrameError, match="no level 'x'"):
        read_csv(path, "x")  # type: ignore[arg-type]


def test_the_extension_reads_csv_too(tmp_path: Path) -> None:
    frame = KnitPerf().memory.read_csv(write(tmp_path / "a.csv", "a\n1\n"), level="compact")
    assert str(frame["a"].dtype) == "int8"
