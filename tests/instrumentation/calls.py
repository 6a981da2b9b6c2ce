"""Calls of an application as a WSGI server makes them."""

from __future__ import annotations

from typing import Any

from werkzeug.test import create_environ


def start(mill: Any, path: str, method: str = "GET", **environ: Any) -> Any:
    """Call the application, and return its body unread."""
    environment = {**create_environ(path, method=method), **environ}
    return mill.app.wsgi_app(environment, lambda *_: None)


def counts(mill: Any) -> dict[str, int]:
    """Return the number of requests by endpoint."""
    return {row["endpoint"]: row["count"] for row in mill.report()["endpoints"]}


def fail() -> str:
    raise ValueError("no yarn")
