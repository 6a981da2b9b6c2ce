"""Exemption of our pages from the CSRF check of Flask-WTF: their POSTs carry our token.

Without it Flask-WTF responds with 400 to a POST with a Bearer token, which no browser can be made to
send.
"""

from __future__ import annotations

from flask import Blueprint, Flask


def exempt(app: Flask, blueprint: Blueprint) -> None:
    """Exempt a blueprint, which checks its own token, from the application's ``CSRFProtect``, if any."""
    protect = app.extensions.get("csrf")
    if protect is not None and hasattr(protect, "exempt"):
        protect.exempt(blueprint)
