"""Security headers of every page."""

from __future__ import annotations

from typing import Any

import pytest

from .clients import BEARER

HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cache-Control": "no-store",
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/perf/", "/perf/report", "/perf/memory", "/perf/report?window=x", "/perf/report?format=json",
     "/perf/sign-in"],
)  # fmt: skip
@pytest.mark.parametrize("name", sorted(HEADERS))
def test_every_page_carries_its_security_headers(closed: Any, path: str, name: str) -> None:
    assert closed.get(path, **BEARER).header(name) == HEADERS[name]


def policy(closed: Any, path: str, **headers: str) -> dict[str, str]:
    text = closed.get(path, **headers, **BEARER).header("Content-Security-Policy")
    assert "unsafe" not in text and "http" not in text
    return dict(rule.strip().split(" ", 1) for rule in text.split(";"))


@pytest.mark.parametrize(
    "path", ["/perf/", "/perf/memory", "/perf/style.css", "/perf/pages.js", "/perf/sign-in"]
)
def test_every_response_forbids_scripts_frames_and_other_hosts(closed: Any, path: str) -> None:
    rules = policy(closed, path)
    assert rules["default-src"] == "'none'" and rules["frame-ancestors"] == "'none'"
    assert "script-src" not in rules and "connect-src" not in rules


@pytest.mark.parametrize("path", ["/perf/", "/perf/memory", "/perf/?window=2h"])
def test_a_page_runs_the_script_in_its_file_and_no_other(closed: Any, path: str) -> None:
    rules = policy(closed, path, HTTP_ACCEPT="text/html")
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"


def test_a_page_varies_by_cookie_authorization_and_accept(closed: Any) -> None:
    vary = closed.get("/perf/", **BEARER).header("Vary")
    assert {"Cookie", "Authorization", "Accept"} <= {word.strip() for word in vary.split(",")}
