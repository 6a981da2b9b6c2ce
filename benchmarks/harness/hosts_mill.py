"""An application on several hosts, whose data are numbers in a file that all of them read and write.

``NUMBERS`` is the file: a number for each key. A request for a key answers with its cached number, and
with the time that it took beyond loading; a write increments the number and invalidates its tag.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from typing import Any

from flask import Flask, jsonify

from flask_knitperf import KnitPerf

from .apps import configured
from .hosts_keys import KEYS, SIZE

LOAD_S = 0.01


def _numbers() -> memoryview:
    with open(os.environ["NUMBERS"], "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), SIZE)).cast("Q")


NUMBERS = _numbers()
_LOADED = threading.local()


def served() -> Flask:
    """Return the application."""
    app = configured("hosts")
    perf = KnitPerf(app)
    numbers = {
        key: perf.cache.cached(namespace=f"numbers.{key}", tags=[f"number {key}"])(_load)
        for key in range(KEYS)
    }  # fmt: skip

    @app.get("/read/<int:key>")
    def read(key: int) -> Any:
        began, _LOADED.seconds = time.perf_counter(), 0.0
        value = numbers[key](key)
        waited = time.perf_counter() - began - _LOADED.seconds
        return jsonify(**value, waited=waited, pid=os.getpid())

    @app.post("/write/<int:key>")
    def write(key: int) -> Any:
        NUMBERS[key] += 1  # one client writes
        number, began = NUMBERS[key], time.perf_counter()
        perf.cache.invalidate(tag=f"number {key}")
        return jsonify(key=key, number=number, waited=time.perf_counter() - began)

    @app.get("/counts")
    def counts() -> Any:
        return jsonify(pid=os.getpid(), **(perf.cache.get_cache_statistics()["server"] or {}))

    return app


def _load(key: int) -> dict[str, Any]:
    began = time.perf_counter()
    number = int(NUMBERS[key])
    time.sleep(LOAD_S)
    _LOADED.seconds = time.perf_counter() - began
    return {"key": key, "number": number}
