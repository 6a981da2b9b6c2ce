"""The blueprint of the pages: their rules, who is admitted, and the headers of each response.

What the pages show is in :mod:`.pages`, and what builds it in :mod:`..reports` and :mod:`..analysis`. A
worker imports that with the first page that it shows: most workers show none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response, abort, make_response, request
from werkzeug.wrappers import Response as AnyResponse

from ..core.clock import NS_PER_MS
from ..core.errors import KnitPerfError
from ..runtime.session import Session
from .guard import GuardResponse, Principal
from .routing import PRINCIPAL, PagesBlueprint, is_authorised

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


PAGE_POLICY = f"{POLICY}; script-src 'self'; connect-src 'self'"
"""Policy of an HTML page, which runs the script of the pages and may poll."""


def create_blueprint(prefix: str, session: Session) -> PagesBlueprint:
    """Return the blueprint of one application's pages.

    Args:
        prefix: path of the first page.
        session: source of the documents that the pages show.
    """
    blueprint = PagesBlueprint("knitperf", __name__, url_prefix=prefix, static_folder=None)
    blueprint.after_request(_add_security_headers)
    blueprint.errorhandler(KnitPerfError)(_error_page)
    page, light = partial(_page, session), partial(_page, session, is_timed=False)
    blueprint.add_url_rule("/", "index", page("report"), strict_slashes=False)
    blueprint.add_url_rule("/report", "report", page("report"))
    blueprint.add_url_rule("/why", "why", page("why"))
    blueprint.add_url_rule("/request", "single", page("single"))
    blueprint.add_url_rule("/stacks", "stacks", page("stacks"))
    blueprint.add_url_rule("/queries", "queries", page("queries"))
    blueprint.add_url_rule("/cache", "cache", page("cache"))
    blueprint.add_url_rule("/compare", "compare", page("compare"))
    blueprint.add_url_rule("/memory", "memory", page("memory"))
    blueprint.add_url_rule("/charts", "charts", page("charts"))
    blueprint.add_url_rule("/live.json", "live", light("live"))
    if session.alerts is not None:
        blueprint.add_url_rule("/alerts", "alerts", page("alerts"))
        blueprint.add_url_rule("/alerts/rule", "rule", page("rule"))
        blueprint.add_url_rule("/alerts/<action>", "alert", page("alert"), methods=["POST"])
    blueprint.add_url_rule("/command/<name>", "command", page("command"), methods=["POST"])
    blueprint.add_url_rule("/style.css", "style", light("style"))
    blueprint.add_url_rule("/pages.js", "script", light("script"))
    blueprint.add_url_rule("/respond", "respond", _respond)
    return blueprint


def _page(session: Session, name: str, *, is_timed: bool = True) -> Callable[..., Any]:
    """Return a view function that calls a method of :class:`.pages.Pages`.

    The view itself refuses a request that did not pass the guard: extensions of Flask expect their
    attributes on each blueprint with a ``before_request`` function.

    Args:
        session: source of the documents.
        name: of the method.
        is_timed: whether to send its time, from which the script derives when it takes a page again.
    """

    def view(**values: Any) -> Any:
        if not is_authorised(request.environ):
            abort(404)
        from .pages import Pages

        show = getattr(Pages(session), name)
        if not is_timed:
            return show(**values)
        began = time.thread_time_ns()
        response = make_response(show(**values))
        took_ms = (time.thread_time_ns() - began) / NS_PER_MS
        response.headers["Server-Timing"] = f"page;dur={took_ms:.1f}"
        return response

    return view


def _respond() -> AnyResponse:
    """Return the guard's response to a client that the application admits."""
    decision = request.environ.get(PRINCIPAL)
    if not isinstance(decision, GuardResponse):
        abort(404)
    return Response(decision.body, decision.status, decision.headers)


def _add_security_headers(response: AnyResponse) -> AnyResponse:
    headers = response.headers
    is_page = response.mimetype == "text/html"
    headers["Content-Security-Policy"] = PAGE_POLICY if is_page else POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers.setdefault("Cache-Control", "no-store")
    principal = request.environ.get(PRINCIPAL)
    if isinstance(principal, Principal) and principal.cookie and is_page:
        headers.add("Set-Cookie", principal.cookie)
    response.vary.update(("Cookie", "Authorization", "Accept"))
    return response


def _error_page(error: KnitPerfError) -> tuple[AnyResponse | str, int]:
    """Return an error of ours as a page or as JSON, with its status."""
    from .pages import error_page

    return error_page(error)
