"""What the documentation says exists, runs and can be found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flask_knitperf
from flask_knitperf.core import settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    + [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
)
OPTIONS = [settings.PREFIX + option.key for option in settings.OPTIONS]

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.M | re.S)

# Runs an example, and then what it made: its test functions, and every address of its applications.
_RUN = """
import sys
from flask import Flask

space = {"__name__": "example"}
exec(compile(sys.stdin.read(), "example", "exec"), space)
for name, made in list(space.items()):
    if name.startswith("test_"):
        made()
    if name == "create_app":
        made = made()
    if isinstance(made, Flask):
        made.testing = True
        urls = made.url_map.bind("localhost")
        for rule in made.url_map.iter_rules():
            if "GET" in rule.methods and not rule.endpoint.startswith(("knitperf", "static")):
                path = urls.build(rule.endpoint, dict.fromkeys(rule.arguments, "1"))
                answer = made.test_client().get(path)
                assert answer.status_code == 200, (path, answer.status)
        assert made.test_client().get("/perf/").status_code == 404
"""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for tag, body in found if tag == language]


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


def test_the_readme_tells_how_much_smaller_frames_become_as_published() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    published = json.loads((DOCS / "benchmarks" / "frames.json").read_text(encoding="utf-8"))
    means = published["outcome"]["details"]["3"]["means"]
    default, compact = means["balanced"]["chosen"], means["compact"]["chosen"]
    assert f"by default {default['true']:.2f} times smaller over {default['tables']}\n" in text
    pack = means["pack"]["chosen"]
    assert f"{compact['true']:.2f} with `compact` and {pack['true']:.2f} with `pack`" in text


def test_the_founding_claim_is_told_with_the_published_figures() -> None:
    text = (DOCS / "founding-claim.md").read_text(encoding="utf-8")
    published = json.loads((DOCS / "benchmarks" / "frames.json").read_text(encoding="utf-8"))
    details = published["outcome"]["details"]
    assert set(details) == {"2", "3"}
    for each in (details[pandas]["founding"] for pandas in details):
        for key, how in (("deep", "as pandas counts (`deep`)"), ("true", "each text once")):
            before = each["before"][key]
            cells = [each["versions"]["pandas"], how, f"{before / 1e6:.2f} MB"]
            for made in ("lossless", "rounded"):
                less = 100 * (1 - each[made][key] / before)
                cells.append(f"{each[made][key] / 1e6:.2f} MB, {less:.1f} % less")
            assert f"| {' | '.join(cells)} |" in text


@pytest.mark.parametrize("public", flask_knitperf.__all__)
def test_every_public_name_is_on_the_api_page(public: str) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto\w+:: flask_knitperf\.{public}$", text, re.M)


EXAMPLES = [
    pytest.param(body, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, body in enumerate(blocks(page, "python"), 1)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_a_page_run(example: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN],
        input=example,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_show_every_option(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS),
         str(tmp_path / "html"), "-d", str(tmp_path / "doctrees")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "html" / "configuration.html").read_text(encoding="utf-8")
    assert [option for option in OPTIONS if f">{option}<" not in page] == []
