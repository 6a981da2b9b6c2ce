"""The application that the servers of these tests serve. Its settings come from a JSON file."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from flask import Flask, Response, send_file

from flask_knitperf import KnitPerf

perf = KnitPerf()


def configured(name: str) -> Flask:
    """Return an application with the settings of that file, which the harness can start and count."""
    app = Flask(name, static_folder=None)
    app.config.update(json.loads(Path(os.environ["MILL_CONFIG"]).read_text()))

    @app.after_request
    def signed(response: Response) -> Response:
        response.headers["X-Pid"] = str(os.getpid())
        return response

    app.add_url_rule("/ready", "ready", lambda: "ready")
    app.add_url_rule("/", "index", lambda: "ok")
    return app


def create_app() -> Flask:
    """Return the application, set up by the file that ``MILL_CONFIG`` names."""
    app = configured("mill")
    perf.init_app(app)
    app.add_url_rule("/stuck", "stuck", stuck)
    app.add_url_rule("/rows/<int:count>", "rows", rows)
    app.add_url_rule("/file", "file", file)
    app.add_url_rule("/work", "work", work)
    app.add_url_rule("/thread", "thread", thread)
    app.add_url_rule("/cached/<int:number>", "cached", perf.cache.cached(namespace="knit")(cached))
    app.cli.command("nightly")(nightly)
    return app


def stuck() -> str:
    """Never come back in time."""
    time.sleep(60)
    return "late"


def rows(count: int) -> Response:
    """Send pieces of 64 KiB."""

    def chunks() -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * 65536

    return Response(chunks())


def file() -> Any:
    """Send a file of 300,000 bytes, from disk so that a server may use sendfile."""
    path = Path(os.environ["MILL_CONFIG"]).with_name("cloth.bin")
    if not path.exists():
        return send_file(io.BytesIO(b""), mimetype="application/octet-stream")
    return send_file(path, mimetype="application/octet-stream")


def cached(number: int) -> str:
    """Return a value that is cached by its number."""
    return "x" * number


@click.option("--fail", is_flag=True)
def nightly(fail: bool) -> None:
    """Knit at night."""
    with perf.section("knit"):
        time.sleep(0.005)
    if fail:
        raise RuntimeError("no yarn")


def thread() -> str:
    """Have a thread work after the request."""
    threading.Thread(target=perf.job("thread")(work)).start()
    return "started"


def work() -> str:
    """Take a few milliseconds, some of them in a section."""
    with perf.section("knit"):
        time.sleep(0.005)
    return "done"
