"""Sub-interpreters, real ones, and servers without threads: what reports and errors state there."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import flask_knitperf
from flask_knitperf.core import server_limits

from .subinterpreters import in_subinterpreter


def test_a_sub_interpreter_is_detected_and_the_main_one_is_none() -> None:
    code = "from flask_knitperf.core.server_limits import is_subinterpreter as f\nprint(f())"
    assert in_subinterpreter(code, before=code) == "False\nTrue"


def test_a_python_without_sub_interpreters_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_interpreters", "_xxsubinterpreters"):
        monkeypatch.setitem(sys.modules, name, None)
    assert server_limits.is_subinterpreter.__wrapped__() is False


@pytest.mark.slow
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
    monkeypatch.setattr(server_limits, "is_subinterpreter", lambda: True)
    assert server_limits.explanation(ModuleNotFoundError("No module named 'flask'")) == ""
    assert "WSGIApplicationGroup" in server_limits.explanation(ImportError("x"))


@pytest.mark.parametrize(("has_threads", "limited"), [(0, True), (1, False), (None, False)])
def test_a_uwsgi_without_threads_is_a_limit(
    has_threads: int | None, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("uwsgi")
    if has_threads is not None:
        module.has_threads = has_threads  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    expected = {"server threads": server_limits.THREADS} if limited else {}
    assert server_limits.server_limits() == expected


def test_other_servers_set_no_limit() -> None:
    assert server_limits.server_limits() == {}


def test_a_sub_interpreter_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_limits, "is_subinterpreter", lambda: True)
    assert server_limits.server_limits() == {"interpreter": server_limits.INTERPRETER}
