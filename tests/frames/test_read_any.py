"""The command that plans files: it reads every supported type, and prints code that runs."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from flask_knitperf.cli.commands import offline
from flask_knitperf.frames import FrameError, plan_dataframe
from flask_knitperf.frames.read_any import read_file
from flask_knitperf.frames.verify import differences
from tests.conftest import MEASURED

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
def test_every_file_type_is_read_with_progress(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path, counts = saved(tmp_path, name), []
    frame = read_file(path, counts.append)
    assert frame.shape == FRAME.shape and frame["pounds"].tolist() == list(range(200))
    assert sum(counts) == path.stat().st_size


def test_other_file_types_raise_a_frame_error(tmp_path: Path) -> None:
    for name in ("a.json", "a", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"{}")
        with pytest.raises(FrameError, match="it does not have the suffix of a CSV"):
            read_file(tmp_path / name)


def test_a_missing_library_raises_a_frame_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("Missing optional dependency 'openpyxl'")

    monkeypatch.setattr(pd, "read_excel", missing)
    with pytest.raises(FrameError, match="it cannot be read: Missing optional dependency"):
        read_file(saved(tmp_path, "a.xlsx"))


def test_a_plan_is_printed_with_code_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "a.csv")
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda *_: __import__("os").terminal_size((80, 24))
    )
    result = run(path, "--level", "compact", "--keep", "price")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert any("times smaller" in line for line in lines) and "0: style  " in result.output
    assert "listed in keep" in result.output
    code = result.output[result.output.index("from flask_knitperf") :]
    checked: dict[str, Any] = {}
    exec(code.partition("# or")[0], checked)
    plain: dict[str, Any] = {}
    exec(code[code.index("import pandas") :], plain)
    whole = pd.read_csv(path)
    assert differences(whole, checked["df"]) == [] == differences(whole, plain["df"])
    assert plain["df"].memory_usage(deep=True).sum() < whole.memory_usage(deep=True).sum() / 2


def test_plans_of_several_files_are_printed_as_json(tmp_path: Path) -> None:
    files = [saved(tmp_path, name) for name in ("a.csv", "a.xlsx")]
    result = run(*files, "--json", "--tolerance", "0.001")
    plans = json.loads(result.stdout)
    assert [plan["file"] for plan in plans] == [str(file) for file in files]
    assert all(plan["ratio"] > 2 and plan["float_tolerance"] == 0.001 for plan in plans)


def test_keep_refuses_a_column_that_no_file_has(tmp_path: Path) -> None:
    one, other = saved(tmp_path, "a.csv"), tmp_path / "b.csv"
    other.write_text("grade\n1\n", encoding="utf-8")
    answer = run(one, other, "--keep", "nonsense", "--keep", "grade", "--keep", "price")
    assert answer.exit_code == 1 and "Traceback" not in answer.output
    assert "--keep names a column that no file has: 'nonsense'" in answer.output
    assert run(one, other, "--keep", "grade", "--keep", "price").exit_code == 0


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.csv", "", "a.csv cannot be read: No columns"),
    ("a.csv", "a\n1\n2,3\n", "cannot be read: Error tokenizing"),
    ("a.xlsx", "not a workbook", "a.xlsx: it is not a workbook"),
    ("a.doc", "", "a.doc: it does not have the suffix of a CSV, Excel or Parquet file"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_reported_without_a_traceback(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    answer = run(tmp_path / name)
    assert answer.exit_code == 1 and message in answer.output and "Traceback" not in answer.output


def test_what_is_not_a_file_keeps_no_other_from_being_planned(tmp_path: Path) -> None:
    """A pattern such as *.csv also matches folders, and links that lead nowhere."""
    good, folder = saved(tmp_path, "a.csv"), tmp_path / "folder.csv"
    folder.mkdir()
    others = [folder, tmp_path / "none.csv"]
    reasons = ["folder.csvisadirectory", "none.csvdoesnotexist"]
    answer = run(*others, good)
    assert answer.exit_code == 1
    stderr = "".join(answer.stderr.split())
    assert all(reason in stderr for reason in reasons)
    assert (
        f"Total of {len(others) + 1} files, {len(others)} of them without a plan" in answer.stdout
    )
    assert f"{len(others)}of{len(others) + 1}filescannotbeplanned" in stderr


def test_a_file_in_another_encoding_leads_to_the_option(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("größe,b\n1,é\n".encode("cp1252") * 20)
    answer = run(path)
    assert answer.exit_code == 1
    assert "--encoding names another one, such as cp1252" in " ".join(answer.output.split())
    assert run(path, "--encoding", "cp1252").exit_code == 0


def test_the_other_files_are_planned_if_one_cannot_be_read(tmp_path: Path) -> None:
    good, empty = saved(tmp_path, "a.csv"), tmp_path / "empty.csv"
    empty.write_text("")
    answer = run(empty, good)
    assert answer.exit_code == 1
    done = re.search(r"2/2 .*a\.csv +(\d\.\d KB) → +(\d\.\d KB) +\d\.\d\d×", answer.stdout)
    assert done is not None  # the sizes depend on pandas
    total = f"Total of 2 files, 1 of them without a plan: {done[1]} → {done[2]}"
    assert total in answer.stdout
    stderr = "".join(answer.stderr.split())  # a long path is broken anywhere
    assert "empty.csvcannotberead:Nocolumnstoparsefromfile" in stderr
    assert "1of2filescannotbeplanned" in stderr


@pytest.mark.slow
def test_each_of_many_files_is_a_line_of_eighty_columns_as_soon_as_it_is_planned(
    tmp_path: Path,
) -> None:
    files = [saved(tmp_path, f"{'orders ' * 20}{n}.csv") for n in range(11)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flask_knitperf", "frames", *map(str, files), str(tmp_path / "b.csv")],
        stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    os.mkfifo(tmp_path / "b.csv")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in files]  # while the last file is not complete
    (tmp_path / "b.csv").write_text("a\n1\n", encoding="utf-8")
    rest = process.communicate()[0]
    assert [line.split()[0] for line in lines] == [f"{n}/12" for n in range(1, 12)]
    assert lines[0].startswith(" 1/12  ") and max(map(len, lines)) == 81  # with the line break
    assert "Total of 12 files: " in rest and "12/12" in rest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_a_terminal_shows_the_step_of_the_current_file_until_its_line_is_printed(
    tmp_path: Path,
) -> None:
    import pty

    files = [saved(tmp_path, name) for name in ("a.csv", f"{'long ' * 30}\x1b[31m.csv")]
    main, terminal = pty.openpty()
    printed = subprocess.run(
        [sys.executable, "-m", "flask_knitperf", "frames", *map(str, files)], env=MEASURED,
        check=True, stdout=subprocess.PIPE, stderr=terminal, text=True, encoding="utf-8",
    ).stdout  # fmt: skip
    os.close(terminal)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    steps = shown.split("\r\x1b[K")
    assert "1/2 reading, 100 %: a.csv" in steps and "1/2 planning 200 rows: a.csv" in steps
    assert steps[-1] == "" and max(map(len, steps)) < 80
    assert "\x1b" not in "".join(steps) and max(map(len, printed.splitlines())) == 80


@pytest.mark.parametrize("head", ["", "[\n", "\r\n\r\n[\r\n"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_line_of_json_is_refused_before_pandas_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, suffix: str
) -> None:
    text = (head + ",".join(f'{{"yarn":{n}}}' for n in range(98_711)) + "\n]\n").encode()
    path = tmp_path / f"list.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("it was read"))
    answer = run(path)
    assert answer.exit_code == 1
    assert "98,711 columns" in answer.stderr and "may not be a table" in answer.stderr


def test_more_columns_are_planned_where_the_limit_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{n}" for n in range(7)) + "\n", encoding="utf-8")
    assert "7 columns, and more than 6 are refused" in run(path, "--max-columns", 6).stderr
    assert run(path, "--max-columns", 7).exit_code == 0


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.csv.gz", gzip.compress(FRAME.to_csv().encode() * 9, mtime=0)[:-200]),
        ("damaged.csv.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 90),
        ("damaged.csv.bz2", b"BZh9" + b"\xff" * 90),
        ("damaged.csv.xz", b"\xfd7zXZ\x00" + b"\xff" * 90),
        ("damaged.csv.zip", b"PK\x03\x04" + b"\xff" * 90),
        ("damaged.xlsx", b"PK\x05\x06" + bytes(18)),
        ("nul.csv", bytes(900)),
    ],
)
def test_the_other_files_are_planned_if_one_is_damaged(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    answer = run(tmp_path / name, saved(tmp_path, "a.csv"))
    assert answer.exit_code == (0 if name == "nul.csv" else 1)
    assert "Traceback" not in answer.output
    assert "2/2 " in answer.stdout


def test_options_for_text_files_appear_in_the_printed_code(tmp_path: Path) -> None:
    path = tmp_path / "semi.csv"
    path.write_bytes(("größe;preis\n" + "S;1,5\nL;2,5\n" * 500).encode("latin-1"))
    output = run(path, "--sep", ";", "--decimal", ",", "--encoding", "latin-1").stdout
    assert "1,000 rows × 2 columns" in output
    assert "größe" in output
    assert "level='balanced', sep=';', decimal=',', encoding='latin-1')" in output


def test_a_text_file_with_one_column_gets_a_hint_about_its_separator(tmp_path: Path) -> None:
    path = tmp_path / "semi.csv"
    path.write_text("a;b\n1;2\n")
    output = run(path).stdout
    assert "Is ';' its separator? Use --sep." in output
    assert "read_csv" not in output


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "two.xlsx"
    with pd.ExcelWriter(path) as writer:
        pd.DataFrame({"a": [1]}).to_excel(writer, sheet_name="one", index=False)
        pd.DataFrame({"b": range(7)}).to_excel(writer, sheet_name="two", index=False)
    assert "7 rows × 1 column" in run(path, "--sheet", "two").stdout
    missing = run(path, "--sheet", "three")
    assert missing.exit_code == 1
    assert "Worksheet named 'three' not found" in missing.stderr


def test_read_options_leave_out_ambiguous_labels() -> None:
    frame = pd.DataFrame([[1, 1, 1, "x"]] * 3, columns=["a", "a", 5, "b"])
    assert plan_dataframe(frame, "compact").read_options() == {"dtype": {"b": "category"}}
    assert plan_dataframe(pd.DataFrame({"a": [0.1]})).read_options() == {}
