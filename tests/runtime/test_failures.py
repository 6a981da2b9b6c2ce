"""Failures of ours: the application answers as before, and the report states what is degraded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Response


def fail(*_: Any, **__: Any) -> Any:
    """Stand in for a function of ours that has a bug."""
    raise RuntimeError("a bug of ours")


PARTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("the writer", lambda m: m.session.recorder, "emit"),
    ("the start", lambda m: m.session.profile, "prepare"),
    ("the end", lambda m: m.session.profile, "finish"),
    ("evidence", lambda m: m.session.recorder, "note"),
]


@pytest.mark.parametrize(("part", "owner", "name"), PARTS, ids=[row[0] for row in PARTS])
@pytest.mark.parametrize(
    ("path", "body"), [("/", b"ok"), ("/rows", b"ab"), ("/section", b"s"), ("/broken", b"sorry")]
)
def test_a_failure_of_ours_changes_no_response(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, part: str, owner: Callable[[Any], Any], name: str,
    path: str, body: bytes,
) -> None:  # fmt: skip
    def section() -> str:
        with quiet.perf.section("s"):
            return quiet.perf.profile(lambda: "s")()

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    quiet.app.get("/section", endpoint="section")(section)
    quiet.app.get("/broken", endpoint="broken")(lambda: 1 / 0)
    quiet.app.register_error_handler(500, lambda error: ("sorry", 500))
    quiet.get("/")
    monkeypatch.setattr(owner(quiet), name, fail)
    assert [quiet.get(path).body for _ in range(3)] == [body] * 3


def test_a_failure_of_ours_is_counted_and_reported(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.get("/")
    with monkeypatch.context() as patched:
        patched.setattr(quiet.session.profile, "finish", fail)
        for _ in range(3):
            quiet.get("/")
    assert "span failed 3 times" in quiet.degraded()


def test_a_failure_of_ours_is_logged_once_with_its_traceback(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet.get("/")
    monkeypatch.setattr(quiet.session.profile, "finish", fail)
    with caplog.at_level(logging.DEBUG, "flask_knitperf"):
        for _ in range(5):
            quiet.get("/")
    (record,) = [r for r in caplog.records if r.name == "flask_knitperf"]
    assert "the request goes on" in record.message and record.exc_info


def test_an_error_of_the_application_is_not_counted_as_ours(quiet: Any) -> None:
    quiet.app.get("/broken", endpoint="broken")(lambda: 1 / 0)
    quiet.get("/broken")
    assert quiet.degraded() == ""
