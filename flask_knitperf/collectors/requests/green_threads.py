"""Detection of gevent and eventlet, whose threads share one CPU clock."""

from __future__ import annotations

import sys


def is_green() -> bool:
    """Return whether threads of this process are green, so that their CPU time is unknown."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and bool(eventlet.is_monkey_patched("thread"))
