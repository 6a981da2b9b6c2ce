"""Packaging: the wheel holds the whole package and nothing else, and no fact is stated twice."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

import flask_knitperf

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flask_knitperf"
WITH_FLASK = {"click", "itsdangerous", "jinja2", "markupsafe"}
"""Flask cannot be installed without these."""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def distribution(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower()


def package_files() -> set[str]:
    """Every file of the package, as it stands here, without what tools built or left in it."""
    files = {path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file()}
    return {
        path.as_posix()
        for path in files
        if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
        and path.suffix not in (".so", ".pyd")
    }


def test_the_version_is_that_of_the_newest_entry_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", text, re.M)
    assert newest is not None
    assert newest[1] == flask_knitperf.__version__


def test_metadata_is_in_pyproject_alone() -> None:
    assert not (ROOT / "setup.py").exists()
    assert not {"metadata", "options"} & {name.split(".")[0] for name in setup_cfg().sections()}


def test_the_version_is_stated_in_the_package_alone() -> None:
    project = pyproject()["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_a_tool_that_reads_setup_cfg_is_configured_there_alone() -> None:
    assert set(pyproject()["tool"]) == {"setuptools", "ruff"}
    for name in ("tox.ini", "pytest.ini", "mypy.ini", ".coveragerc", ".importlinter", "ruff.toml"):
        assert not (ROOT / name).exists(), name


def test_every_dependency_has_a_lower_bound() -> None:
    for requirement in pyproject()["project"]["dependencies"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement


ADAPTERS = {
    "collectors/sql/sqlalchemy.py": {"sqlalchemy"},
    "collectors/sql/engines.py": {"sqlalchemy"},
    "collectors/sql/fetch_strategies.py": {"sqlalchemy"},
    "collectors/sql/pool.py": {"sqlalchemy"},
    "collectors/sql/query_sources.py": {"sqlalchemy"},
    "collectors/sql/cached_sessions.py": {"sqlalchemy"},
    "collectors/sql/compared_columns.py": {"sqlglot"},
    "collectors/sql/explain.py": {"psycopg"},
    "alerts/apprise_child.py": {"apprise"},
    "caching/content_hash.py": {"xxhash"},
    "history/databases.py": {"psycopg"},
    "testing.py": {"pytest"},
}
"""Optional dependencies, by the only module that imports them."""


@pytest.mark.slow
def test_the_package_imports_only_what_it_depends_on() -> None:
    declared = {distribution(line) for line in pyproject()["project"]["dependencies"]}
    allowed = declared | WITH_FLASK | {"flask_knitperf"} | set(sys.stdlib_module_names)
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("instrumentation/"):
            imported = {name_.split(".")[0] for name_ in _imported(path)}
            assert imported <= allowed | ADAPTERS.get(name, set()), (path, imported - allowed)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


@pytest.mark.parametrize("group", sorted(pyproject()["project"].get("entry-points", {})))
def test_every_entry_point_leads_to_something(group: str) -> None:
    for target in pyproject()["project"]["entry-points"][group].values():
        module, _, attribute = target.partition(":")
        imported = importlib.import_module(module)
        assert not attribute or hasattr(imported, attribute)


def test_every_python_that_is_promised_is_in_the_matrix() -> None:
    named = [re.fullmatch(r".*:: (3)\.(\d+)", c) for c in pyproject()["project"]["classifiers"]]
    promised = {f"py{match[1]}{match[2]}" for match in named if match}
    tested = {name.split("-")[0] for name in setup_cfg()["tox:tox"]["env_list"].split()}
    assert promised == tested


def test_ci_calls_the_test_command_of_the_readme_and_then_the_matrix() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^## Develop\n+```\n(.+)\n```", readme, re.M)
    assert command is not None
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^limit (.+)$", script, re.M) == [
        command[1], "make sanitize", "make matrix",
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission")
def test_the_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# -- what is built ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from that."""
    pytest.importorskip("build")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in ROOT.iterdir():
        if path.name in ("flask_knitperf", "tests", "demo_app", "docs", "benchmarks"):
            leave = shutil.ignore_patterns("__pycache__", "_build", "data")
            shutil.copytree(path, source / path.name, ignore=leave)
        elif path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, source)
    ran = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(target), str(source)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return target


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(built: Path) -> None:
    [path] = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    contents = {name for name in names if ".dist-info/" not in name}
    compiled = {name for name in contents if name.endswith((".so", ".pyd"))}
    assert contents - compiled == {
        name for name in package_files() if not name.endswith((".c", ".h"))
    }
    assert sorted(name.partition(".")[0] for name in compiled) == [
        "flask_knitperf/collectors/sql/_speedups", "flask_knitperf/recording/_speedups",
    ]  # fmt: skip
    assert "flask_knitperf/py.typed" in contents


@pytest.mark.slow
def test_without_a_compiler_the_package_is_built_all_the_same(built: Path, tmp_path: Path) -> None:
    [path] = built.glob("*.tar.gz")
    environ = {**os.environ, "CC": "/no/such/compiler"}
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(path)],
        capture_output=True, text=True, check=False, timeout=600, env=environ,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert "flask_knitperf/recording/fastpath.py" in names


@pytest.mark.slow
def test_the_wheel_states_its_version_license_and_every_extra(built: Path) -> None:
    [path] = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        [name] = [entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA")]
        metadata = message_from_string(wheel.read(name).decode())
    project = pyproject()["project"]
    assert metadata["Version"] == flask_knitperf.__version__
    assert metadata["License-Expression"] == project["license"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


@pytest.mark.slow
def test_the_source_distribution_holds_the_package_and_no_tests_or_demo(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as source:
        names = {name.partition("/")[2] for name in source.getnames() if "/" in name}
    assert package_files() | {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= names
    assert {name.split("/")[0] for name in names if "/" in name} == {
        "flask_knitperf", "flask_knitperf.egg-info",
    }  # fmt: skip
