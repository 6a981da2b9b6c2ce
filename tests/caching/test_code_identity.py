"""Processes share a value only if the same call would return it in both."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
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


def test_the_configuration_and_the_environment_count_and_secrets_do_not(release: Release) -> None:
    plain = release.identity()
    assert release.identity(before="config['DATABASE'] = 'other'") != plain
    assert release.identity(environment={"DATABASE_URL": "other"}) != plain
    assert release.identity(before="import os; config['SECRET_KEY'] = os.urandom(8)") == plain
    assert release.identity(environment={"GUNICORN_FD": "7", "INVOCATION_ID": "1"}) == plain


def test_another_folder_to_work_in_has_another_identity(release: Release) -> None:
    assert release.identity(before="import os; os.chdir('/tmp')") != release.identity()


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
