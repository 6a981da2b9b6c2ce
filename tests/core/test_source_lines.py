"""Source lines: those of loaded modules alone, and only where they did not change."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from flask_knitperf.core.source_lines import MAX_CHARS, SourceLines

NOW = 4_000_000_000.0
TEXT = "import json\n\n\ndef view():\n    return json.dumps({})\n"


def source_text(where: str, since: float) -> str | None:
    return SourceLines(since).text(where)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "shop" / "views.py"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    load("shop_views", path)
    yield path
    for name in ("shop_views", "other_views"):
        sys.modules.pop(name, None)


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module


def test_a_line_of_a_loaded_module_is_returned_without_its_indentation(shop: Path) -> None:
    assert source_text("shop/views.py:5", NOW) == "return json.dumps({})"


def test_a_file_that_was_changed_later_has_no_lines(shop: Path) -> None:
    assert source_text("shop/views.py:5", os.stat(shop).st_mtime - 1) is None


def test_two_files_with_the_same_short_name_have_no_lines(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "b" / "shop" / "views.py"
    other.parent.mkdir(parents=True)
    other.write_text("1\n2\n3\n4\n5\n", encoding="utf-8")
    load("other_views", other)
    assert source_text("shop/views.py:5", NOW) is None


def test_a_file_that_no_module_was_loaded_from_is_not_read(shop: Path) -> None:
    (shop.parent / "secret.py").write_text("KEY = 'x'\n", encoding="utf-8")
    for name in ("shop/secret.py:1", "../shop/secret.py:1", f"{shop.parent}/secret.py:1"):
        assert source_text(name, NOW) is None


@pytest.mark.parametrize(
    "where", ["", ":", "shop/views.py", "shop/views.py:", "shop/views.py:x", "shop/views.py:-1",
              "shop/views.py:99", "shop/views.py:2", "shop/views.py:\u00b2", "view"]
)  # fmt: skip
def test_what_names_no_line_has_no_text(shop: Path, where: str) -> None:
    assert source_text(where, NOW) is None


def test_a_file_that_is_gone_has_no_lines(shop: Path) -> None:
    shop.unlink()
    assert source_text("shop/views.py:5", NOW) is None


def test_a_file_that_is_no_text_has_no_lines(shop: Path) -> None:
    shop.write_bytes(b"\xff\xfe\x00" * 9)
    assert not source_text("shop/views.py:1", NOW)


def test_a_long_line_is_cut(shop: Path) -> None:
    shop.write_text("x" * 500, encoding="utf-8")
    text = source_text("shop/views.py:1", NOW)
    assert text is not None and len(text) == MAX_CHARS and text.endswith(" …")


def test_a_module_with_an_odd_file_is_passed_over(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ModuleType("odd")
    odd.__file__ = 5  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "odd", odd)
    monkeypatch.setitem(sys.modules, "none", None)  # type: ignore[arg-type]
    assert source_text("shop/views.py:5", NOW) == "return json.dumps({})"


def test_a_module_that_is_loaded_lazily_is_not_loaded(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "lazy.py"
    path.write_text("raise SystemExit\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("other_views", path)
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    sys.modules["other_views"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert source_text("shop/views.py:5", NOW) == "return json.dumps({})"


def test_an_object_in_the_place_of_a_module_is_passed_over(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        def __getattribute__(self, name: str) -> object:
            raise ValueError(name)

    monkeypatch.setitem(sys.modules, "odd", Odd())  # type: ignore[arg-type]
    assert source_text("shop/views.py:5", NOW) == "return json.dumps({})"
