"""The guard as a WSGI callable.

The gate is called before the application. It sends the guard's own responses (sign-in, 429); for
everything else it stores the decision in the environment, where routing reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .guard import Guard, GuardResponse
from .routing import PRINCIPAL

Environ = dict[str, Any]
Gate = Callable[[Environ, Any], Iterable[bytes] | None]


def gate(guard: Guard, route_pages: Callable[[], None]) -> Gate:
    """Return a WSGI callable that sends a response of the guard, or returns ``None`` to go on.

    Args:
        guard: decides on each request.
        route_pages: called before each request that is, or may become, an authorised one.
    """

    def respond(environ: Environ, start_response: Any) -> Iterable[bytes] | None:
        decision = guard.decide(environ)
        environ[PRINCIPAL] = decision  # always set: a copied environment authorises no request
        if decision is None:
            return None
        if isinstance(decision, GuardResponse):
            start_response(decision.status, decision.headers)
            return [decision.body]
        route_pages()
        return None

    return respond
