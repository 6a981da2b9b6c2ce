"""The guard as a WSGI callable, and the application's own decision about a request.

The gate is called before the application. It sends the guard's own responses (sign-in, 429); for
everything else it stores the decision in the environment, where routing reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from flask import Flask, request

from .guard import Guard, Principal
from .routing import PRINCIPAL

Environ = dict[str, Any]
Gate = Callable[[Environ, Any], Iterable[bytes] | None]


def gate(guard: Guard, route_pages: Callable[[], None]) -> Gate:
    """Return a WSGI callable that sends a response of the guard, or returns ``None`` to go on.

    Args:
        guard: decides on each request.
        route_pages: called before each authorised request.
    """

    def respond(environ: Environ, start_response: Any) -> Iterable[bytes] | None:
        decision = guard.decide(environ)
        environ[PRINCIPAL] = decision  # always set: a copied environment authorises no request
        if decision is None:
            return None
        if isinstance(decision, Principal):
            route_pages()
            return None
        start_response(decision.status, decision.headers)
        return [decision.body]

    return respond


def application_access(
    app: Flask, function: Callable[..., Any] | None
) -> Callable[[Environ], object] | None:
    """Return ``KNITPERF_ACCESS`` as a function of the environment, called in a request context.

    The request there has no body: reading it would take it away from the application.
    """
    if function is None:
        return None

    def decision(environ: Environ) -> object:
        bodiless = {**environ, "CONTENT_LENGTH": "0", "wsgi.input": BytesIO()}
        with app.request_context(bodiless):
            return function(request)

    return decision
