"""Engines with defaults that are safe in production.

A connection is tested before use (pre-ping) and replaced after half an hour, since servers and firewalls
drop idle ones; the connection used last is used next (LIFO), so that spare ones may close; waiting for a
connection, and connecting to a server, time out after ten seconds.
"""

from __future__ import annotations

from typing import Any

from .sqlalchemy import instrument

RECYCLE_S = 1800
"""Seconds after which a connection is replaced."""
TIMEOUT_S = 10
"""Seconds after which waiting for a connection, or connecting, fails."""
_SERVER_DIALECTS = ("postgresql", "mysql", "mariadb")


def create_engine(url: Any, **options: Any) -> Any:
    """Return an instrumented engine.

    Args:
        url: as of ``sqlalchemy.create_engine``.
        options: of ``sqlalchemy.create_engine``; they override the defaults.
    """
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    parsed = sqlalchemy.make_url(url)
    dialect: Any = parsed.get_dialect()
    arguments: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": RECYCLE_S}
    if issubclass(options.get("poolclass") or dialect.get_pool_class(parsed), QueuePool):
        arguments |= {"pool_use_lifo": True, "pool_timeout": TIMEOUT_S}
    arguments |= options
    if dialect.name in _SERVER_DIALECTS:
        timeout = {"connect_timeout": TIMEOUT_S}
        arguments["connect_args"] = {**timeout, **arguments.get("connect_args", {})}
    engine = sqlalchemy.create_engine(parsed, **arguments)
    instrument(engine)
    return engine
