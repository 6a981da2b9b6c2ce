"""Where the demo meets the extension: the only module that knows it, and none without it.

An application that uses the extension needs these lines and no others: make it, give it the
application, name the services and the caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from demo_app.context import KEY, Demo
from demo_app.settings import DemoError

if TYPE_CHECKING:
    from demo_app.mill.store import Connect


def make_perf() -> Any:
    """A `KnitPerf`, imported here so that a bare demo runs without it.

    Raises:
        DemoError: the extension cannot be imported.
    """
    try:
        from flask_knitperf import KnitPerf
    except ImportError as error:
        raise DemoError(
            f"flask_knitperf cannot be imported ({error}); install it or set DEMO_BARE=1."
        ) from error
    return KnitPerf()


def watch(app: Flask, perf: Any) -> None:
    """Switches everything on: requests, the five services, the caches and the database.

    Caches and queries are watched by later parts of the extension; while those are missing the
    demo runs without them.
    """
    perf.init_app(app)
    demo: Demo = app.extensions[KEY]
    demo.services.profile(perf)
    register = getattr(perf, "register_cache", None)
    if register is not None:
        for cache in (demo.kpis, demo.intelligence):
            register(cache.store, lock=cache.lock, name=cache.name)
    demo.mill.connect = _watched_connect(perf, demo.mill.connect)


def _watched_connect(perf: Any, connect: Connect) -> Connect:
    wrap = getattr(getattr(perf, "queries", None), "wrap_connect", None)
    return connect if wrap is None else wrap(connect)
