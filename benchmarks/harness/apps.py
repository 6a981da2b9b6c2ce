"""The applications under test: one small endpoint for cost, a dozen endpoints for exact counts.

``gunicorn benchmarks.harness.apps:served()`` serves the second one. The environment configures it, so
that a reload applies a changed configuration.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, abort, redirect, request


def small(config: dict[str, Any] | None) -> Flask:
    """Return an application with one endpoint, and the extension if there is a configuration."""
    app = Flask("small")

    @app.get("/api/items/<int:number>")
    def item(number: int) -> dict[str, Any]:
        return {"number": number, "name": "yarn", "weight_kg": 12.5}

    if config is not None:
        from flask_knitperf import KnitPerf

        app.config.update(config)
        KnitPerf(app)
    return app


def configured(name: str) -> Flask:
    """Return an application with the configuration from the JSON file that ``BENCH_CONFIG`` names."""
    app = Flask(name)
    path = os.environ.get("BENCH_CONFIG")
    if path:
        with open(path, encoding="utf-8") as file:
            app.config.update(json.load(file))
    return app


def served() -> Flask:
    """Return the application of the real servers in these benchmarks.

    Its configuration is read at import, so a reload may start another release. ``BENCH_QUIET`` leaves
    out the headers that name worker and release, ``BENCH_BARE`` the extension.
    """
    app = configured("served")
    app.logger.setLevel(logging.CRITICAL)  # /broken is requested a thousand times
    _views(app)
    _bodies(app)
    if not app.config.pop("BENCH_QUIET", False):
        app.after_request(_signature(app))
    if app.config.pop("BENCH_BARE", False) is False:
        from flask_knitperf import KnitPerf

        KnitPerf(app)
    return app


def through_a2wsgi() -> Any:
    """Return that application for an ASGI server, by a2wsgi."""
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(served())


def through_asgiref() -> Any:
    """Return that application for an ASGI server, by asgiref."""
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(served())


def _signature(app: Flask) -> Callable[[Response], Response]:
    """Return a hook that names worker and release in each response."""

    def sign(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        response.headers["X-Release"] = app.config.get("KNITPERF_RELEASE") or ""
        return response

    return sign


def _views(app: Flask) -> None:
    @app.route("/items/<int:number>", methods=["GET", "PUT", "DELETE"])
    def item(number: int) -> dict[str, int]:
        return {"number": number}

    @app.post("/orders")
    def order() -> tuple[dict[str, int], int]:
        return {"bytes": len(request.get_data())}, 201

    @app.get("/old")
    def old() -> Any:
        return redirect("/items/1")

    @app.get("/teapot")
    def teapot() -> str:
        abort(418)

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("planned failure")

    @app.get("/busy")
    def busy() -> dict[str, int]:
        deadline, turns = time.thread_time() + 0.004, 0
        while time.thread_time() < deadline:
            turns += 1
        return {"turns": turns}

    @app.get("/waits")
    def waits() -> str:
        time.sleep(0.01)
        return "waited"


def _bodies(app: Flask) -> None:
    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[str]:
            for number in range(5):
                yield f"line {number}\n"

        return Response(pieces(), mimetype="text/plain")

    @app.get("/empty")
    def empty() -> tuple[str, int]:
        return "", 204
