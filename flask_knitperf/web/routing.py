"""Where the pages are: addresses that exist only for requests that were let in.

The application's own routing can build our addresses (``url_for``, ``flask routes``) but never matches
one: their rules are ``build_only``. A request that the guard let in is matched against the same rules
in a map of its own. For everybody else there is nothing under the prefix: no redirect to a trailing
slash, no 405, no answer to ``OPTIONS``, and the application's own answer to an unknown address,
whatever that is.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, MapAdapter, Rule

from .guard import Allowed

ALLOWED = "knitperf.allowed"
"""Where the guard's decision stands in the environment of a request that was let in."""


def let_in(environ: dict[str, Any]) -> bool:
    """Return whether the guard let a request in."""
    return isinstance(environ.get(ALLOWED), Allowed)


def reserve(app: Flask, blueprint: str) -> None:
    """Route requests that were let in to the pages of a registered blueprint, if they are for one."""
    ours = Map([
        _matching(rule) for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{blueprint}.")
    ])  # fmt: skip
    adapt = app.create_url_adapter

    def create_url_adapter(request: Any) -> MapAdapter | None:
        if request is None or ALLOWED not in request.environ or not let_in(request.environ):
            return adapt(request)
        adapter = adapt(request)
        if adapter is None:
            return None
        match, match_ours = adapter.match, ours.bind_to_environ(request.environ).match

        def ours_first(*args: Any, **kwargs: Any) -> Any:
            try:
                return match_ours(*args, **kwargs)
            except NotFound:  # a page of the application under the same prefix
                return match(*args, **kwargs)

        adapter.match = ours_first  # type: ignore[method-assign]
        return adapter

    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]


def _matching(rule: Rule) -> Rule:
    """Return the twin of a rule that only builds addresses, which matches them."""
    made = Rule(
        rule.rule, endpoint=rule.endpoint, methods=rule.methods, strict_slashes=rule.strict_slashes
    )
    made.provide_automatic_options = rule.provide_automatic_options  # type: ignore[attr-defined]
    return made
