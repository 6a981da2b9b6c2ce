"""The pages: what the report says, for people and for programs.

Each address answers both. A browser gets a page that needs no script; everything else gets the
report as JSON. ``?format=json`` asks for it by hand.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    request,
    url_for,
)
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.wrappers import Response as AnyResponse

from ..analysis.hot_lines import collapsed, speedscope, whole
from ..core.errors import ConfigurationError, KnitPerfError, StateError
from ..metrics.stack_trie import NORMAL, SLOW
from ..render import flame_graph, html, html_queries
from ..runtime.session import Session
from ..storage.windows import NAMES
from .guard import Allowed, same
from .routing import ALLOWED, let_in

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_STYLE = files(__package__).joinpath("static/knitperf.css").read_bytes()
_TEMPLATES = Environment(
    loader=PackageLoader("flask_knitperf.web"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_TEMPLATES.filters["duration"] = html.duration
_STYLE_TAG = hashlib.sha256(_STYLE).hexdigest()[:16]


def create_blueprint(prefix: str, session: Session) -> Blueprint:
    """Return the blueprint of one application's pages.

    Args:
        prefix: where they are.
        session: what they show.
    """
    made = Blueprint("knitperf", __name__, url_prefix=prefix, static_folder=None)
    made.before_request(_only_allowed)
    made.after_request(_sealed)
    made.errorhandler(KnitPerfError)(_explained)
    pages = _Pages(session)
    # let in before routing (see .addresses), so these rules only build addresses
    made.add_url_rule("/", "index", pages.report, strict_slashes=False, build_only=True)
    made.add_url_rule("/report", "report", pages.report, build_only=True)
    made.add_url_rule("/why", "why", pages.why, build_only=True)
    made.add_url_rule("/request", "single", pages.single, build_only=True)
    made.add_url_rule("/stacks", "stacks", pages.stacks, build_only=True)
    made.add_url_rule("/queries", "queries", pages.queries, build_only=True)
    made.add_url_rule("/memory", "memory", pages.memory, build_only=True)
    made.add_url_rule(
        "/command/<name>", "command", pages.command, methods=["POST"], build_only=True
    )
    made.add_url_rule("/style.css", "style", _style, build_only=True)
    return made


class _Pages:
    """The pages of one application; each for people, or as JSON."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def report(self) -> AnyResponse | str:
        """Show all endpoints."""
        window = request.args.get("window", "1h")
        document = self._session.report(window)
        if not _for_people():
            return jsonify(document)
        shown = html.report(document)
        return _render("report.html", **_frame(window), shown=shown, report=document)

    def why(self) -> AnyResponse | str:
        """Show one endpoint."""
        window, endpoint, method = _asked()
        opened = self._session.why(endpoint, method, window, request.args.get("against"))
        document, kinds = opened.document, opened.kinds
        if not _for_people():
            return jsonify(document)
        slow = kinds.get(SLOW) if document["difference"] else None
        now, before = whole(kinds), opened.before
        return _render(
            "why.html", **_frame(window), shown=html.why(document), why=document,
            asked=html_queries.asked(document["row"]["queries"]),
            flames=flame_graph.flame_graph(now),
            slow_flames=None if slow is None else flame_graph.flame_graph(slow, kinds.get(NORMAL)),
            change_flames=None if before is None else flame_graph.flame_graph(now, before, "then"),
        )  # fmt: skip

    def single(self) -> AnyResponse | str:
        """Show one request."""
        window = request.args.get("window", "1h")
        document, stacks = self._session.request(request.args.get("id", ""), window)
        if not _for_people():
            return jsonify(document)
        return _render(
            "request.html", **_frame(window), shown=html.request(document), single=document,
            flames=None if stacks is None else flame_graph.flame_graph(stacks),
            timeline=flame_graph.timeline(document),
        )  # fmt: skip

    def stacks(self) -> AnyResponse:
        """Hand out the sampled stacks of one endpoint."""
        window, endpoint, method = _asked()
        document, kinds, _ = self._session.why(endpoint, method, window)
        trie = whole(kinds)
        if request.args.get("form") == "collapsed":
            return Response(collapsed(trie), mimetype="text/plain")
        made = jsonify(speedscope(trie, f"{document['method']} {endpoint}"))
        made.headers["Content-Disposition"] = "attachment; filename=stacks.speedscope.json"
        return made

    def queries(self) -> AnyResponse | str:
        """Show what databases are asked."""
        window = request.args.get("window", "1h")
        document = self._session.queries(window)
        if not _for_people():
            return jsonify(document)
        shown = html_queries.queries(document)
        return _render("queries.html", **_frame(window), shown=shown, asked=document)

    def memory(self) -> AnyResponse | str:
        """Show the memory of all workers."""
        document = self._session.memory()
        if not _for_people():
            return jsonify(document)
        return _render("memory.html", **_frame(""), shown=html.memory(document), memory=document)

    def command(self, name: str) -> AnyResponse:
        """Ask all workers to do something."""
        who: Allowed = request.environ[ALLOWED]
        if who.how != "bearer" and not same(request.form.get("csrf", ""), who.csrf):
            abort(403, "The form is too old; reload the page.")
        asked = self._session.ask(name)
        if not _for_people():
            return jsonify({"command": name, "id": None if asked is None else asked.id})
        method, _, endpoint = request.form.get("next", "").partition(" ")
        if name == "sample" and endpoint:
            return redirect(url_for("knitperf.why", of=endpoint, method=method), 303)
        back = "knitperf.memory" if name in ("collect", "frames") else "knitperf.index"
        return redirect(url_for(back), 303)


def _style() -> Response:
    made = Response(_STYLE, mimetype="text/css")
    made.set_etag(_STYLE_TAG)
    made.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    made.make_conditional(request.environ)
    return made


def _asked() -> tuple[str, str, str | None]:
    """Return window, endpoint and method that a page is asked for."""
    return (
        request.args.get("window", "1h"),
        request.args.get("of", ""),
        request.args.get("method"),
    )


def _render(name: str, **values: Any) -> str:
    """Render one of our templates, in an environment that no setting of the application reaches."""
    return _TEMPLATES.get_template(name).render(url_for=url_for, request=request, **values)


def _for_people() -> bool:
    """Return whether the client would rather have a page than JSON."""
    if request.args.get("format") == "json":
        return False
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"] and "text/html" in accepted.values()


def _frame(window: str) -> dict[str, Any]:
    """Return what every page needs."""
    who: Allowed = request.environ[ALLOWED]
    return {
        "config_name": current_app.name,
        "csrf": who.csrf,
        "signed_in": who.how == "cookie",
        "windows": NAMES,
        "window": window,
        "style": url_for("knitperf.style", v=_STYLE_TAG),
    }


def _only_allowed() -> None:
    """Refuse what did not come through the guard."""
    if not let_in(request.environ):
        abort(404)


def _sealed(response: AnyResponse) -> AnyResponse:
    headers = response.headers
    headers["Content-Security-Policy"] = POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers.setdefault("Cache-Control", "no-store")
    response.vary.update(("Cookie", "Authorization", "Accept"))
    return response


def _explained(error: KnitPerfError) -> tuple[AnyResponse | str, int]:
    status = 400 if isinstance(error, ConfigurationError) else 409
    if isinstance(error, StateError) and request.args.get("window") == "previous":
        status = 404
    if not _for_people():
        return jsonify({"error": str(error)}), status
    return _render("error.html", **_frame(""), error=str(error)), status
