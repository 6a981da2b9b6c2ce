"""Names for ``vary=`` of cached functions: parts of a request that an answer may depend on.

Outside of a request each of them is ``None``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from flask import current_app, has_request_context, request, session


def user() -> Any:
    """Return the id of the signed-in user: that of Flask-Login, else of the session."""
    if not has_request_context():
        return None
    login = sys.modules.get("flask_login")
    if login is not None and hasattr(current_app, "login_manager"):
        signed_in = login.current_user._get_current_object()
        return None if signed_in is None else signed_in.get_id()
    return session.get("_user_id"), session.get("user_id")


def url() -> Any:
    """Return the address of the current request: script root, path, query, and host if it is routed by.

    They are separate, since a path may contain a question mark, and the query is not decoded: two
    addresses are one key only if each of its parts is the same.
    """
    if not has_request_context():
        return None
    rule = request.url_rule
    is_routed_by_host = rule is not None and bool(rule.subdomain or rule.host)
    address = request.script_root, request.path, request.query_string
    return (*address, request.host) if is_routed_by_host else address


_IN_URL = ("args", "query_string", "full_path", "view_args", "path")
url.covers = {("request", name) for name in _IN_URL}  # type: ignore[attr-defined]


def host() -> Any:
    """Return the host that the current request was sent to."""
    return request.host if has_request_context() else None


VARY: dict[str, Callable[[], Any]] = {"user": user, "url": url, "host": host}
