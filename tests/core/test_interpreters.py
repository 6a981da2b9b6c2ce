"""Detection of sub-interpreters, in real ones, and the error that names the remedy."""

from __future__ import annotations

import sys

import pytest

import flask_knitperf
from flask_knitperf.core import interpreters

from .subinterpreters import in_subinterpreter


def test_a_sub_interpreter_is_detected_and_the_main_one_is_none() -> None:
    code = "from flask_knitperf.core.interpreters import is_subinterpreter as f\nprint(f())"
    assert in_subinterpreter(code, before=code) == "False\nTrue"


def test_a_python_without_sub_interpreters_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_interpreters", "_xxsubinterpreters"):
        monkeypatch.setitem(sys.modules, name, None)
    assert interpreters.is_subinterpreter.__wrapped__() is False


def test_an_import_that_the_interpreter_makes_fail_names_the_remedy() -> None:
    code = (
        "sys.modules['numpy'] = None\ntry:\n    from flask_knitperf import KnitPerf\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    assert "WSGIApplicationGroup" not in in_subinterpreter(code)
    code = code.partition("\n")[2].replace("ModuleNotFoundError", "ImportError")
    output = in_subinterpreter(code, before="import numpy")
    # NumPy before 2.0 only warns
    assert output == "" or "set WSGIApplicationGroup %{GLOBAL}, so that" in output


@pytest.mark.parametrize("error", [ImportError("x"), ModuleNotFoundError("x")])
def test_an_import_error_of_the_main_interpreter_passes_as_it_is(
    error: ImportError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", failing)
    with pytest.raises(ImportError) as raised:
        flask_knitperf.KnitPerf  # noqa: B018
    assert raised.value is error


def test_a_package_that_is_missing_is_not_explained_by_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpreters, "is_subinterpreter", lambda: True)
    assert interpreters.explanation(ModuleNotFoundError("No module named 'flask'")) == ""
    assert "WSGIApplicationGroup" in interpreters.explanation(ImportError("x"))
