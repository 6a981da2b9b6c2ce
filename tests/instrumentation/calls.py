"""Calls of an application as a WSGI server makes them."""

from __future__ import annotations

from typing import Any

from tests.conftest import start_wsgi


def start(mill: Any, path: str, method: str = "GET", **environ: Any) -> Any:
    """Call the application, and return its body unread."""
    return start_wsgi(mill.app.wsgi_app, path, method, **environ)[1]


def counts(mill: Any) -> dict[str, int]:
    """Return the number of requests by endpoint."""
    return {row["endpoint"]: row["count"] for row in mill.report()["endpoints"]}


def fail() -> str:
    raise ValueError("no yarn")
