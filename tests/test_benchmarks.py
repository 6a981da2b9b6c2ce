"""The benchmarks: every one is listed, their imports have no circle, and their results are published."""

from __future__ import annotations

import ast
import graphlib
import json
from pathlib import Path

import pytest

from benchmarks import figures, results
from benchmarks.rows import ORDER

ROOT = Path(results.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
}
PUBLISHED = sorted(name for name in ORDER if (results.DOCS / f"{name}.json").is_file())


def imports(name: str) -> set[str]:
    """Return the modules of the benchmarks that a module imports, anywhere in it."""
    package = name.split(".")[:-1]
    modules = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            modules.add(".".join(base))
            modules.update(".".join([*base, alias.name]) for alias in node.names)
    return modules & set(MODULES) - {name}


@pytest.mark.slow
def test_no_two_modules_import_each_other_in_a_circle() -> None:
    graphlib.TopologicalSorter({name: imports(name) for name in MODULES}).prepare()


def test_every_benchmark_is_in_the_order_of_publication() -> None:
    benchmarks = {
        path.stem for path in (ROOT / "rows").glob("*.py")
        if any(isinstance(node, ast.FunctionDef) and node.name == "run"
               and [argument.arg for argument in node.args.args] == ["quick"]
               for node in ast.parse(path.read_text(encoding="utf-8")).body)
    }  # fmt: skip
    assert benchmarks == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_every_benchmark_has_an_idea(name: str) -> None:
    assert results.idea(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_result_holds_what_is_printed_and_nothing_else(name: str) -> None:
    document = results.load(name)
    assert document is not None
    assert set(document) == {"name", "machine", "seconds", "outcome"}
    assert set(document["outcome"]) == {"rows", "tables", "notes", "figures"}
    if document["outcome"]["figures"]:
        assert name in {"overhead", "overhead_paths", "outside", "peers", "servers", "frames",
                        "live_frames"}  # fmt: skip


@pytest.mark.parametrize(
    "value", [{}, [], 1.5, "µ", {"a": [1, 2], "b": {"c": [{"d": []}, [[], {}]]}, "e": [[1], [2]]}]
)
def test_a_result_is_read_as_it_was_written(value: object) -> None:
    assert json.loads(results.dump(value)) == value


def test_a_list_of_values_stands_on_one_line() -> None:
    assert results.dump({"lines": [["a", "b"], ["c"]]}) == (
        '{\n "lines": [\n  ["a", "b"],\n  ["c"]\n ]\n}'
    )


@pytest.fixture
def two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "BLOCKS", {"some": lambda published: "1.5\n\n2.5"})


@pytest.mark.usefixtures("two_lines")
def test_a_block_on_lines_by_itself_keeps_its_indentation() -> None:
    text = "-\n  <!-- figures: some -->\n  old\n  <!-- end -->\n"
    assert figures.render(text) == "-\n  <!-- figures: some -->\n  1.5\n\n  2.5\n  <!-- end -->\n"
    assert figures.render(figures.render(text)) == figures.render(text)


@pytest.mark.usefixtures("two_lines")
def test_a_block_within_a_line_stays_there() -> None:
    text = "adds <!-- figures: some -->old<!-- end --> µs"
    assert figures.render(text) == "adds <!-- figures: some -->1.5\n\n2.5<!-- end --> µs"


def test_a_figure_without_a_result_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "DOCS", tmp_path)
    text = "<!-- figures: frames -->2.00<!-- end -->"
    assert figures.render(text) == "<!-- figures: frames -->not measured<!-- end -->"


def test_a_block_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        figures.render("<!-- figures: nothing --><!-- end -->")
