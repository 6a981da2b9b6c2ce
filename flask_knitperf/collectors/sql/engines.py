"""Engines with defaults that hold in production.

A connection is asked whether it still lives before it is used, and renewed after half an hour, since
servers and firewalls drop idle ones; the one used last is used next, so that spare ones may close; who
waits ten seconds for one is told so instead of hanging, and so is who connects to a server in vain.
"""

from __future__ import annotations

from typing import Any

from .sqlalchemy import instrument

RECYCLE_S = 1800
"""Seconds after which a connection is replaced."""
WAIT_S = 10
"""Seconds that somebody waits for a connection."""
_SERVERS = ("postgresql", "mysql", "mariadb")


def create_engine(url: Any, **options: Any) -> Any:
    """Return an engine that is watched.

    Args:
        url: as SQLAlchemy takes it.
        options: of ``sqlalchemy.create_engine``; they win over the defaults.
    """
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    parsed = sqlalchemy.make_url(url)
    dialect: Any = parsed.get_dialect()
    made: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": RECYCLE_S}
    if issubclass(options.get("poolclass") or dialect.get_pool_class(parsed), QueuePool):
        made |= {"pool_use_lifo": True, "pool_timeout": WAIT_S}
    made |= options
    if dialect.name in _SERVERS:
        made["connect_args"] = {"connect_timeout": WAIT_S, **made.get("connect_args", {})}
    engine = sqlalchemy.create_engine(parsed, **made)
    instrument(engine)
    return engine
