"""Processes share a value only if the same call would return it in both."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.code_identity import CodeIdentity, NotShareable

SHOP = {
    "shop/__init__.py": "",
    "shop/bom.py": "import prices\nfrom . import parts\n\ndef explode(style):\n    return style\n",
    "shop/parts.py": "SIZE = 1\n",
    "prices.py": "import lazy_rates\n",
    "lazy_rates.py": "RATE = 2\n",
}


class Release:
    """The code of an application in a folder, and the identity that a process finds for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, source in SHOP.items():
            self.write(name, source)

    def write(self, name: str, source: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    def identity(self, *, before: str = "", environment: dict[str, str] | None = None) -> str:
        """Return the identity of ``explode`` in a new process, the reason if it has none."""
        time.sleep(0.05)  # files are older than the process
        code = f"""
            import sys; sys.path.insert(0, {str(self.folder)!r})
            from flask_knitperf.core import process_start
            import shop.bom
            config = {{"SIZE": 1}}
            {before}
            from flask_knitperf.caching.code_identity import CodeIdentity, NotShareable
            try:
                print(CodeIdentity(lambda: config).of(shop.bom.explode).hex())
            except NotShareable as reason:
                print(reason)
        """
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True,
            cwd="/", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        ).stdout.strip()  # fmt: skip


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path / "release")


def test_two_processes_with_the_same_code_have_one_identity(release: Release) -> None:
    assert release.identity() == release.identity()


def test_the_same_code_in_another_folder_has_the_same_identity(
    release: Release, tmp_path: Path
) -> None:
    assert release.identity() == Release(tmp_path / "next").identity()


@pytest.mark.parametrize("name", SHOP)
def test_a_change_of_any_module_that_the_function_can_reach_changes_its_identity(
    name: str, release: Release
) -> None:
    before = release.identity()
    release.write(name, SHOP[name] + "\nCHANGED = 1\n")
    assert release.identity() != before


def test_a_module_in_the_package_that_only_a_name_refers_to_counts_too(release: Release) -> None:
    before = release.identity()
    release.write("shop/plugins/dye.py", "COLOUR = 'red'\n")
    assert release.identity() != before


def test_code_that_was_changed_after_the_process_started_is_not_shared(release: Release) -> None:
    path = release.folder / "lazy_rates.py"
    assert "changed after" in release.identity(before=f"open({str(path)!r}, 'a').write('#')")


@pytest.mark.slow
def test_the_configuration_and_the_environment_count_and_secrets_do_not(release: Release) -> None:
    plain = release.identity()
    assert release.identity(before="config['DATABASE'] = 'other'") != plain
    assert release.identity(environment={"DATABASE_URL": "other"}) != plain
    assert release.identity(before="import os; config['SECRET_KEY'] = os.urandom(8)") == plain
    assert release.identity(environment={"GUNICORN_FD": "7", "INVOCATION_ID": "1"}) == plain


@pytest.mark.slow
@pytest.mark.parametrize(
    "option", ["{'creator': len.__call__, 'schema': %r}", "[print.__call__, (%r,)]"]
)
def test_an_option_whose_content_is_known_in_part_counts_by_that_part(
    option: str, release: Release
) -> None:
    identities = [release.identity(before=f"config['ENGINE'] = {option % name}") for name in "aab"]
    assert identities[0] == identities[1] != identities[2]


def test_another_folder_to_work_in_has_another_identity(release: Release) -> None:
    assert release.identity(before="import os; os.chdir('/tmp')") != release.identity()


IMPORTS = {
    "after a semicolon": "import os; import tariffs",
    "after a colon": "try: import tariffs\nexcept ImportError: pass",
    "in another line": "import os, \\\n    tariffs",
    "from another line": "from tariffs \\\n    import RATE",
    "by a function": "import importlib\ntariffs = importlib.import_module('tariffs')",
    "by the built-in function": "tariffs = __import__('tariffs')",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_a_module_counts_however_it_is_imported(form: str, release: Release) -> None:
    release.write("shop/parts.py", IMPORTS[form])
    release.write("tariffs.py", "RATE = 1\n")
    before = release.identity()
    release.write("tariffs.py", "RATE = 2\n")
    assert release.identity() != before


def test_a_module_with_the_name_of_a_standard_one_counts(release: Release) -> None:
    release.write("shop/parts.py", "import statistics\n")
    release.write("statistics.py", "RATE = 1\n")
    before = release.identity()
    release.write("statistics.py", "RATE = 2\n")
    assert release.identity() != before


def test_code_behind_a_symbolic_link_counts(release: Release, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "dye.py").write_text("COLOUR = 1\n")
    (release.folder / "shop" / "plugins").symlink_to(plugins)
    (plugins / "again").symlink_to(plugins)
    before = release.identity()
    (plugins / "dye.py").write_text("COLOUR = 2\n")
    assert release.identity() != before


@pytest.mark.slow
def test_the_package_of_a_module_that_is_run_counts(release: Release, tmp_path: Path) -> None:
    release.write("shop/bom.py", textwrap.dedent("""
        from . import parts
        def explode(style):
            return style
        if __name__ == "__main__":
            from flask_knitperf.core import process_start
            from flask_knitperf.caching.code_identity import CodeIdentity
            print(CodeIdentity().of(explode).hex())
    """))  # fmt: skip

    def identity() -> str:
        time.sleep(0.05)
        return subprocess.run(
            [sys.executable, "-B", "-m", "shop.bom"], check=True, capture_output=True, text=True,
            cwd=release.folder,
        ).stdout  # fmt: skip

    before = identity()
    assert identity() == before
    release.write("shop/parts.py", "SIZE = 2\n")
    assert identity() != before


@pytest.mark.slow
def test_code_in_an_archive_counts(release: Release, tmp_path: Path) -> None:
    archive, folder = tmp_path / "shop.zip", release.folder

    def identity() -> str:
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*.py")):
                file.write(path, path.relative_to(folder))
        release.folder = archive
        return release.identity()

    before = identity()
    assert identity() == before
    (folder / "shop" / "parts.py").write_text("SIZE = 2\n")
    assert identity() != before


def test_code_without_its_source_is_not_shared(release: Release) -> None:
    source = release.folder / "shop" / "parts.py"
    py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")))
    source.unlink()
    assert "has no source" in release.identity()


def test_a_process_does_not_take_the_identity_of_a_release_that_a_link_leads_to_later(
    release: Release, tmp_path: Path
) -> None:
    Release(tmp_path / "next").write("prices.py", "RATE = 3\n")
    current = tmp_path / "current"
    current.symlink_to(release.folder)
    release.folder = current
    switch = f"import os; os.unlink({str(current)!r}); os.symlink('next', {str(current)!r})"
    assert "changed after" in release.identity(before=switch)
    assert "changed after" not in release.identity()


def test_a_process_with_a_module_whose_file_was_removed_shares_nothing(release: Release) -> None:
    path = release.folder / "shop" / "parts.py"
    assert "removed after" in release.identity(before=f"import os; os.unlink({str(path)!r})")


def test_a_function_that_is_cached_after_a_change_of_the_code_is_not_shared(
    release: Release,
) -> None:
    path = release.folder / "prices.py"
    change = (
        "from flask_knitperf.caching.code_identity import CodeIdentity; "
        f"CodeIdentity().of(shop.bom.explode); open({str(path)!r}, 'a').write('#')"
    )
    assert "changed after" in release.identity(before=change)


def test_enclosed_values_are_a_part_of_the_identity() -> None:
    def scaled(factor: Any) -> Any:
        def scale(number: int) -> int:
            return int(number * factor)

        return scale

    identity = CodeIdentity()
    two = identity.of(scaled(2))
    assert identity.of(scaled(3)) != two
    assert identity.of(scaled(2)) == two
    with pytest.raises(NotShareable):
        identity.of(scaled(object()))


def test_a_function_without_a_file_is_not_shared() -> None:
    scope: dict[str, Any] = {"__name__": "nowhere"}
    exec("def load(): return 1", scope)
    with pytest.raises(NotShareable):
        CodeIdentity().of(scope["load"])
    with pytest.raises(NotShareable):
        CodeIdentity().of(len)
