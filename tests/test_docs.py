"""The documentation: options, links and make targets exist, examples run, figures are measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flask_knitperf
from benchmarks import figures, newcomer, results
from flask_knitperf.core import settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    + [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
)
OPTIONS = [settings.PREFIX + option.key for option in settings.OPTIONS]

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.M | re.S)

# Runs an example, then its test functions, and requests every URL of its applications.
_RUN = """
import sys
from flask import Flask

space = {"__name__": "example"}
exec(compile(sys.stdin.read(), "example", "exec"), space)
for name, value in list(space.items()):
    if name.startswith("test_"):
        value()
    if name == "create_app":
        value = value()
    if isinstance(value, Flask):
        value.testing = True
        urls = value.url_map.bind("localhost")
        for rule in value.url_map.iter_rules():
            if "GET" in rule.methods and not rule.endpoint.startswith(("knitperf", "static")):
                path = urls.build(rule.endpoint, dict.fromkeys(rule.arguments, "1"))
                answer = value.test_client().get(path)
                assert answer.status_code == 200, (path, answer.status)
        assert value.test_client().get("/perf/").status_code == 404
"""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    fences = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for tag, body in fences if tag == language]


def anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_option_is_a_row_of_the_settings_table() -> None:
    rows = settings.markdown().splitlines()
    for option in OPTIONS:
        assert any(row.startswith(f"| `{option}` |") for row in rows), option


def test_the_configuration_page_holds_the_settings_table() -> None:
    assert "```{settings-table}" in (DOCS / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"KNITPERF_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8"))
    assert set(named) - {"KNITPERF_PURE_PYTHON"} <= set(OPTIONS)  # that one is the environment's


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M)
    assert set(named) <= targets


# -- figures -----------------------------------------------------------------------------------------

_UNITS = (
    "%|×|[µmn]?s|seconds?|minutes?|hours?|[KMG]i?B|bytes|times (?:smaller|larger|faster|slower)"
)
FIGURE = re.compile(rf"(?<![\w.])\d[\d.,]*(?:\s|\u00a0|\u202f)?(?:{_UNITS})(?!\w)")
"""A number with its unit."""

ALLOWED = {
    "README.md": {"6 hours"},  # a window
    "docs/alerts.md": {  # thresholds, windows, pauses
        "1 s",
        "5 %",
        "40 %",
        "99 %",
        "50 ms",
        "500 MB",
        "10 seconds",
        "30 seconds",
        "5 minutes",
        "24 hours",
    },
    "docs/caching.md": {
        "5 ms",
        "1 second",
        "5 seconds",
        "20 seconds",
        "2.5 seconds",
        "256 KB",
        "30 seconds",
        "64 KB",
        "5 %",
        "95 %",
    },  # bounds, and an example
    "docs/configuration.md": {"95 %", "400 ms", "500 ms", "1000 ms"},  # an example of thresholds
    "docs/design.md": {"5 %", "0.55 %", "16 bytes"},  # tolerated rate, bound by design, format
    "docs/founding-claim.md": {"93.8 %"},  # the claim
    "docs/frames.md": {"93.8 %"},
    "docs/glossary.md": {"5 minutes"},
    "docs/history.md": {
        "10 seconds",
        "1 minute",
        "10 minutes",
        "1 hour",
        "6 hours",
        "0.55 %",
    },  # slots, windows
    "docs/index.md": {"500 ms", "5.6 s", "92 %"},  # an example of a finding
    "docs/leakhunt.md": {"40 seconds", "64 bytes", "256 bytes", "16 KB", "99 %"},  # thresholds
    "docs/memory.md": {"10 ms", "32 MB", "772 bytes"},  # a threshold, and an example
    "docs/queries.md": {"5 %"},  # a threshold
    "docs/reading-the-report.md": {
        "5 %",
        "20 ms",
        "10 ms",
        "95 %",
        "99 %",
        "100 %",
        "0.6 %",
        "1 %",
        "10 %",
    },  # thresholds, bounds
    "docs/schemas.md": {"1024 ×", "1024 bytes"},  # definitions of units
}
"""Figures by page that are not measured: thresholds, configuration values, examples, definitions."""


@pytest.mark.parametrize("page", figures.pages(), ids=name)
def test_every_block_of_figures_is_as_published(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert figures.render(text) == text, "run: python -m benchmarks --publish"


def test_every_block_of_figures_is_on_a_page() -> None:
    texts = [page.read_text(encoding="utf-8") for page in figures.pages()]
    assert figures.names(texts) == set(figures.BLOCKS)


def test_the_page_of_benchmarks_is_as_published() -> None:
    text = (results.DOCS / "index.md").read_text(encoding="utf-8")
    assert results.index() == text, "run: python -m benchmarks --publish"


def test_the_page_on_newcomers_is_as_published() -> None:
    text = (results.DOCS / "newcomer.md").read_text(encoding="utf-8")
    assert newcomer.page() == text, "run: python -m benchmarks --publish"


def test_the_files_that_newcomers_have_to_find_exist() -> None:
    data = newcomer.load()
    moved = data["moved_since"]
    right = [path for answer in data["trees"][-1]["answers"] for path in answer["right"]]
    paths = [moved.get(path, path) for path in right]
    assert [path for path in paths if not (ROOT / "flask_knitperf" / path).is_file()] == []


@pytest.mark.parametrize("page", figures.pages(), ids=name)
def test_no_figure_of_a_page_is_written_by_hand(page: Path) -> None:
    text = _FENCE.sub("", figures.BLOCK.sub("", page.read_text(encoding="utf-8")))
    written = {" ".join(match.split()) for match in FIGURE.findall(text)}
    assert written <= ALLOWED.get(name(page), set()), (
        "measured figures come from `make prove`, see benchmarks/figures.py; "
        "thresholds, configuration values and examples are listed in ALLOWED"
    )


@pytest.mark.parametrize("public", flask_knitperf.__all__)
def test_every_public_name_is_on_the_api_page(public: str) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto\w+:: flask_knitperf\.{public}$", text, re.M)


# Those of docs/contributing belong to several files; tests/test_contributing.py assembles and runs them.
EXAMPLES = [
    pytest.param(body, id=f"{name(page)}-{number}")
    for page in PAGES
    if page.parent.name != "contributing"
    for number, body in enumerate(blocks(page, "python"), 1)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_a_page_run(example: str, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN],
        input=example,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_show_every_option(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    process = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS),
         str(tmp_path / "html"), "-d", str(tmp_path / "doctrees")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    page = (tmp_path / "html" / "configuration.html").read_text(encoding="utf-8")
    assert [option for option in OPTIONS if f">{option}<" not in page] == []
