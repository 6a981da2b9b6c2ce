"""Settings, plan, data and services of the current application, for views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

from cachetools import TTLCache
from flask import current_app, g, request

from demo_app.mill import Mill
from demo_app.plants import Plan
from demo_app.services import ServiceManager
from demo_app.settings import Settings

APPLICATION = KEY = "demo_app"
CACHE_S = 3600.0


@dataclass
class Cache:
    """A cachetools cache and the lock that guards it."""

    name: str
    store: TTLCache[Any, Any] = field(default_factory=lambda: TTLCache(256, CACHE_S))
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Demo:
    """One application's parts.

    Attributes:
        settings: the demo's switches.
        plan: what is planted where.
        mill: the tables.
        services: the five services.
        kpis: the cache of the figures, used well.
        price_list: returns the prices of the user of the request; cached with the extension.
        intelligence: the cache whose keys do not match, unless fixed.
        numbers: stands in for a request's `?n=` where a caller gives none.
    """

    settings: Settings
    plan: Plan
    mill: Mill
    services: ServiceManager
    price_list: Callable[[], Any]
    kpis: Cache = field(default_factory=lambda: Cache("kpis"))
    intelligence: Cache = field(default_factory=lambda: Cache("yarn_intelligence"))
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def fixed(self) -> bool:
        """Whether every planted problem is repaired."""
        return self.settings.fixed

    def seconds(self, value: float) -> float:
        """A planted sleep, shortened by `DEMO_SLEEP_FACTOR`."""
        return value * self.settings.sleep_factor


def demo() -> Demo:
    """The current application's demo."""
    return cast(Demo, current_app.extensions[KEY])


def request_number() -> int:
    """The request's `?n=`, which decides what would be chance; else a counter of the process."""
    number = request.args.get("n", type=int)
    return next(demo().numbers) if number is None else number


def connection() -> Any:
    """This request's database connection, closed when the request ends."""
    if "database" not in g:
        g.database = demo().mill.open_database()
    return g.database


def close_connection(_error: BaseException | None = None) -> None:
    """Closes the request's connection, if it opened one."""
    opened = g.pop("database", None)
    if opened is not None:
        with closing(opened):
            pass
