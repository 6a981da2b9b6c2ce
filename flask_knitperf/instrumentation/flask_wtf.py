"""Flask-WTF: our POSTs carry a token of our own, so its CSRF check is told to leave them alone.

Without this it answers 400 to a POST with a Bearer token, which no browser can be made to send.
"""

from __future__ import annotations

from flask import Blueprint, Flask


def exempt(app: Flask, blueprint: Blueprint) -> None:
    """Tell the application's CSRFProtect, if it has one, that the blueprint protects itself."""
    protect = app.extensions.get("csrf")
    if protect is not None and hasattr(protect, "exempt"):
        protect.exempt(blueprint)
