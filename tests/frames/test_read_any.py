"""Planning files in a terminal: every kind is read, and what is printed can be pasted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from flask_knitperf.cli.commands import offline
from flask_knitperf.frames import FrameError, plan_dataframe
from flask_knitperf.frames.read_any import read_file
from flask_knitperf.frames.verify import differences

FRAME = pd.DataFrame({
    "style": [f"yarn {n % 5}" for n in range(200)], "pounds": range(200),
    "price": [n / 4 for n in range(200)], "zip code": [f"{n % 3:05d}x" for n in range(200)],
})  # fmt: skip


def saved(folder: Path, name: str) -> Path:
    path = folder / name
    text = FRAME.to_csv(index=False, sep="\t" if ".tsv" in name else ",")
    if name.endswith(".xlsx"):
        FRAME.to_excel(path, index=False)
    elif name.endswith(".parquet"):
        FRAME.to_parquet(path, index=False)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def run(*words: Any) -> Any:
    return CliRunner().invoke(offline, ["frames", *map(str, words)])


@pytest.mark.parametrize(
    "name", ["a.csv", "A.CSV", "a.tsv", "a.txt", "a.csv.gz", "a.tsv.gz", "a.xlsx", "a.parquet"]
)
def test_every_kind_of_file_is_read_and_says_how_far_it_is(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path, told = saved(tmp_path, name), []
    found = read_file(path, told.append)
    assert found.shape == FRAME.shape and found["pounds"].tolist() == list(range(200))
    assert sum(told) == path.stat().st_size


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for name in ("a.json", "a", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"{}")
        with pytest.raises(FrameError, match=f"{name} is no CSV, XLSX or Parquet file"):
            read_file(tmp_path / name)


def test_what_reads_a_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("Missing optional dependency 'openpyxl'")

    monkeypatch.setattr(pd, "read_excel", missing)
    with pytest.raises(FrameError, match=r"a\.xlsx cannot be read: Missing optional dependency"):
        read_file(saved(tmp_path, "a.xlsx"))


def test_a_plan_is_printed_with_code_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "a.csv")
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda *_: __import__("os").terminal_size((80, 24))
    )
    said = run(path, "--level", "compact", "--keep", "price")
    assert said.exit_code == 0
    lines = said.output.splitlines()
    assert any("times smaller" in line for line in lines) and "0: style  " in said.output
    assert "listed in keep" in said.output
    code = said.output[said.output.index("from flask_knitperf") :]
    checked: dict[str, Any] = {}
    exec(code.partition("# or")[0], checked)
    plain: dict[str, Any] = {}
    exec(code[code.index("import pandas") :], plain)
    whole = pd.read_csv(path)
    assert differences(whole, checked["df"]) == [] == differences(whole, plain["df"])
    assert plain["df"].memory_usage(deep=True).sum() < whole.memory_usage(deep=True).sum() / 2


def test_several_files_are_planned_and_told_as_json(tmp_path: Path) -> None:
    files = [saved(tmp_path, name) for name in ("a.csv", "a.xlsx")]
    said = run(*files, "--json", "--tolerance", "0.001")
    document = json.loads(said.stdout)
    assert [each["file"] for each in document] == [str(file) for file in files]
    assert all(each["ratio"] > 2 and each["float_tolerance"] == 0.001 for each in document)


def test_a_column_to_keep_that_no_file_has_is_said_in_a_sentence(tmp_path: Path) -> None:
    one, other = saved(tmp_path, "a.csv"), tmp_path / "b.csv"
    other.write_text("grade\n1\n", encoding="utf-8")
    answer = run(one, other, "--keep", "nonsense", "--keep", "grade", "--keep", "price")
    assert answer.exit_code == 1 and "Traceback" not in answer.output
    assert "--keep names what is a column of no file: 'nonsense'" in answer.output
    assert run(one, other, "--keep", "grade", "--keep", "price").exit_code == 0


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.csv", "", "a.csv cannot be read: No columns"),
    ("a.csv", "a\n1\n2,3\n", "cannot be read: Error tokenizing"),
    ("a.xlsx", "no workbook", "a.xlsx: it is no workbook"), ("a.doc", "", "is no CSV, XLSX or Parquet"),
])  # fmt: skip
def test_what_cannot_be_read_is_said_in_a_sentence(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    answer = run(tmp_path / name)
    assert answer.exit_code == 1 and said in answer.output and "Traceback" not in answer.output
    assert run(tmp_path / "none.csv").exit_code == 2


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_planned(tmp_path: Path) -> None:
    good, empty = saved(tmp_path, "a.csv"), tmp_path / "empty.csv"
    empty.write_text("")
    answer = run(empty, good)
    assert answer.exit_code == 1
    assert "times smaller" in answer.stdout
    assert "empty.csv cannot be read" in answer.stderr


def test_how_text_is_read_can_be_said_and_is_in_the_code_to_paste(tmp_path: Path) -> None:
    path = tmp_path / "semi.csv"
    path.write_bytes(("größe;preis\n" + "S;1,5\nL;2,5\n" * 500).encode("latin-1"))
    said = run(path, "--sep", ";", "--decimal", ",", "--encoding", "latin-1").stdout
    assert "1,000 rows × 2 columns" in said
    assert "größe" in said
    assert "level='balanced', sep=';', decimal=',', encoding='latin-1')" in said


def test_text_that_was_read_as_one_column_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "semi.csv"
    path.write_text("a;b\n1;2\n")
    said = run(path).stdout
    assert "is it separated by ';'? Say --sep." in said
    assert "read_csv" not in said


def test_a_sheet_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "two.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"a": [1]}).to_excel(book, sheet_name="one", index=False)
        pd.DataFrame({"b": range(7)}).to_excel(book, sheet_name="two", index=False)
    assert "7 rows × 1 column" in run(path, "--sheet", "two").stdout
    missing = run(path, "--sheet", "three")
    assert missing.exit_code == 1
    assert "Worksheet named 'three' not found" in missing.stderr


def test_options_for_pandas_name_only_what_is_clear() -> None:
    frame = pd.DataFrame([[1, 1, 1, "x"]] * 3, columns=["a", "a", 5, "b"])
    assert plan_dataframe(frame, "compact").read_options() == {"dtype": {"b": "category"}}
    assert plan_dataframe(pd.DataFrame({"a": [0.1]})).read_options() == {}
