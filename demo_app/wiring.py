"""Installation of the extension, and sign-in to it: the demo's only module that imports it.

An application that uses the extension needs these lines and no others: make it, give it the
application, name the services and the caches.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Flask

from demo_app.context import APPLICATION, KEY, Demo
from demo_app.settings import DemoError


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
    cache = getattr(perf, "cache", None)
    if cache is not None:
        demo.price_list = cache.cached(vary="user" if demo.fixed else ())(demo.price_list)
        for own in (demo.kpis, demo.intelligence):
            own.store = cache.observe(own.store, name=own.name)
    register = getattr(perf, "register_cache", None)
    if register is not None:
        for own in (demo.kpis, demo.intelligence):
            register(own.store, lock=own.lock, name=own.name)
    queries = getattr(perf, "queries", None)
    if queries is not None:
        demo.mill.connect = queries.wrap_connect(demo.mill.connect)
        if demo.mill.engine is not None:
            queries.instrument(demo.mill.engine)


def sign_in_path(token: str, prefix: str) -> str:
    """Path and query of a sign-in to the report that works once, for five minutes.

    Args:
        token: the application's access token.
        prefix: of the report's pages, "/perf".
    """
    from flask.helpers import get_root_path

    from flask_knitperf.web.sign_in import sign_in_link
    from flask_knitperf.web.signatures import derive_key

    key = derive_key(token, APPLICATION, get_root_path(APPLICATION))
    return sign_in_link(key, prefix, time.time())
