"""The pages, for browsers and for programs: view functions of :mod:`.blueprint`.

Each URL answers both: a browser gets a page that needs no script, every other client the document as
JSON. ``?format=json`` requests JSON in a browser. Imported by the first page that a worker shows.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flask import Response, current_app, jsonify, redirect, request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from ..analysis.hot_lines import whole
from ..core import units
from ..core.errors import ConfigurationError, HistoryError, KnitPerfError, StateError
from ..core.printable import printable
from ..metrics.stack_trie import NORMAL, SLOW
from ..render import (
    Values,
    flame_graph,
    html,
    html_alerts,
    html_cache,
    html_charts,
    html_compare,
    html_memory,
    html_queries,
    html_request,
    wording,
)
from ..render.csv_table import csv_table
from ..render.listing import ENDPOINTS, MAX_LISTED, QUERIES, Listing
from ..reports.references import LAST_WEEK
from ..reports.stack_formats import collapsed, speedscope
from ..runtime.documents import ALERT_WINDOWS
from ..runtime.session import Session
from .guard import Principal
from .routing import PRINCIPAL, page_url
from .signatures import equal

if TYPE_CHECKING:
    from ..reports.documents import Charts, ComparisonReport, Report
    from ..reports.documents.report import EndpointRow

log = logging.getLogger("flask_knitperf")
T = TypeVar("T")

_DONE = {
    "clear": "Statistics were reset: every window begins now, in all workers.",
    "collect": "Each worker collects its garbage after its next response. Then reload the page.",
    "silence": "Silent. Alerts are still recorded.",
    "end-silence": "The silence has ended.",
    "test": "A test message goes to each channel within ten seconds. Then reload the page.",
    "save-rule": "The rule is saved, and judged from the next evaluation on.",
    "remove-rule": "The rule is as before the page changed it.",
    "switch-off": "The rule is switched off.",
    "frames": "Each worker lists its DataFrames within a second. Reload the page to see them.",
}
"""Answers to commands, by name."""
_BREAKS = re.compile(r"(?<=[._:/])(?=\w)")


def _breakable(name: str) -> Markup:
    """Return a name in which lines may break after a dot, an underscore, a colon or a slash."""
    return Markup("<wbr>").join(_BREAKS.split(name))


def _commands(text: str) -> Markup:
    """Return a sentence in which the text between backticks is code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


class _DocumentEnvironment(Environment):
    """Templates that read fields of documents; elsewhere in Jinja an attribute goes first.

    A dict has no attribute of a field's name, and the exception that this raises took most of the time
    of a page: it has ten thousand fields.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)


_TEMPLATES = _DocumentEnvironment(
    loader=PackageLoader("flask_knitperf.web"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_TEMPLATES.filters.update({
    "count": units.count, "duration": units.duration, "number": units.number,
    "percent": units.percent, "joined": units.joined, "breakable": _breakable,
    "commands": _commands, "window": wording.window, "window_in_text": wording.window_in_text,
})  # fmt: skip


class _StaticFile:
    """A file that browsers keep for good: its URL changes with it."""

    def __init__(self, name: str, mimetype: str) -> None:
        self._data = files(__package__).joinpath("static", name).read_bytes()
        self._mimetype = mimetype
        self.tag = hashlib.sha256(self._data).hexdigest()[:16]

    def response(self) -> Response:
        """Return the file."""
        response = Response(self._data, mimetype=self._mimetype)
        response.set_etag(self.tag)
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        response.make_conditional(request.environ)
        return response


_STYLE = _StaticFile("knitperf.css", "text/css")
_SCRIPT = _StaticFile("knitperf.js", "text/javascript")


class _Chosen(Generic[T]):
    """The rows of a list that the address of a page selects.

    Args:
        listing: kind of the list.
        rows: all of its rows.

    Attributes:
        query: words that are searched.
        sort: name of the order.
        sorts: names of all orders, with their names for readers.
        rows: those that are shown.
        matching: number of those that match.
        total: number of all.
    """

    def __init__(self, listing: Listing[T], rows: Sequence[T]) -> None:
        self.query = request.args.get("q", "")
        self.sort = request.args.get("sort", listing.default)
        self.sorts, self.total = listing.sorts, len(rows)
        matching = listing.chosen(rows, self.query, self.sort)
        self.matching = len(matching)
        self.rows = matching if "all" in request.args else matching[:MAX_LISTED]


class Pages:
    """View functions of one application's pages; each answers with a page or with JSON."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _frame(self, window: str) -> Values:
        """Return the values that every page needs."""
        documents, in_memory = self._session.documents, self._session.in_memory()
        return {
            **_frame(window, documents.windows), "firing": documents.firing(),
            "is_live": not in_memory, "release": printable(self._session.settings.release),
            "has_alerts": self._session.alerts is not None and not in_memory,
            "has_runs": not in_memory,
        }  # fmt: skip

    def report(self) -> AnyResponse | str:
        """Show all endpoints, and what to fix first."""
        window = _window()
        document = self._session.documents.report(window)
        if not _prefers_html():
            return _data(document, document["endpoints"], "endpoints")
        chosen = _Chosen(ENDPOINTS, document["endpoints"])
        listed = chosen.rows
        over_time, error = self._charts_of(document, listed)
        shown = html.report(document, listed, html_charts.trends(over_time))
        return _render(
            "report.html", **self._frame(window), shown=shown, report=document, chosen=chosen,
            charts=html_charts.charts(over_time), chart_error=error,
            release_changes=html_compare.release_changes(self._release_changes()),
            alerts=self._firing_alerts(),
        )  # fmt: skip

    def _charts_of(
        self, document: Report, listed: Sequence[EndpointRow]
    ) -> tuple[Charts | None, str | None]:
        """Return the charts of a report, or why there are none; the report does not depend on them."""
        documents = self._session.documents
        if not documents.has_history or document["window"]["name"] == "previous":
            return None, None
        carded = [row for card in document["cards"] for row in card["endpoints"]]
        pairs = dict.fromkeys((row["endpoint"], row["method"]) for row in (*carded, *listed))
        try:
            return documents.charts_of(document["window"], list(pairs)), None
        except HistoryError as error:
            return None, printable(str(error))

    def _release_changes(self) -> ComparisonReport | None:
        try:
            return self._session.documents.release_changes()
        except HistoryError as error:
            log.debug("%s", error)  # the charts state it
            return None

    def _firing_alerts(self) -> list[Values]:
        """Return the alerts that fire."""
        documents = self._session.documents
        if not documents.firing():
            return []
        try:
            return html_alerts.firing(documents.alerts())
        except HistoryError as error:
            log.debug("%s", error)
            return []

    def charts(self) -> AnyResponse:
        """Return the application over time."""
        names = [name.partition(" ") for name in request.args.getlist("of")]
        pairs = [(endpoint, method) for method, _, endpoint in names]
        document = self._session.documents.charts(_window(), pairs)
        return _data(document, document["points"], "charts")

    def live(self) -> AnyResponse:
        """Return the figures of the last seconds, for pages that are open."""
        after = request.args.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise ConfigurationError("after", after, "must be a number")
        document = self._session.live.read(int(after[:20]), request.args.get("page", ""))
        if document is None:
            return Response(status=204)
        tag = str(document["sequence"])
        is_known = request.if_none_match.contains_weak(tag)
        response = Response(status=304) if is_known else jsonify(document)
        response.set_etag(tag)
        return response

    def why(self) -> AnyResponse | str:
        """Show one endpoint."""
        window, endpoint, method = _endpoint_args()
        opened = self._session.documents.why(endpoint, method, window, request.args.get("against"))
        document, kinds = opened.document, opened.kinds
        if not _prefers_html():
            return jsonify(document)
        slow = kinds.get(SLOW) if document["difference"] else None
        now, before = whole(kinds), opened.before
        return _render(
            "why.html", **self._frame(window), shown=html.why(document), why=document,
            release_change=html_compare.release_change(document["release_change"]),
            queries=html_queries.endpoint_queries(document["row"]["queries"]),
            flames=flame_graph.flame_graph(now),
            slow_flames=None if slow is None else flame_graph.flame_graph(slow, kinds.get(NORMAL)),
            change_flames=None if before is None else flame_graph.flame_graph(now, before, "then"),
        )  # fmt: skip

    def single(self) -> AnyResponse | str:
        """Show one request."""
        window = _window()
        document, stacks = self._session.documents.request(request.args.get("id", ""), window)
        if not _prefers_html():
            return jsonify(document)
        return _render(
            "request.html", **self._frame(window), shown=html_request.request(document), single=document,
            flames=None if stacks is None else flame_graph.flame_graph(stacks),
            timeline=flame_graph.timeline(document),
        )  # fmt: skip

    def stacks(self) -> AnyResponse:
        """Return the sampled stacks of one endpoint as a file for other tools."""
        window, endpoint, method = _endpoint_args()
        document, kinds, _ = self._session.documents.why(endpoint, method, window)
        trie = whole(kinds)
        if request.args.get("form") == "collapsed":
            return Response(collapsed(trie), mimetype="text/plain")
        name = f"{document['method']} {document['endpoint']}"
        response = jsonify(speedscope(trie, name))
        response.headers["Content-Disposition"] = "attachment; filename=stacks.speedscope.json"
        return response

    def queries(self) -> AnyResponse | str:
        """Show SQL statements by total time, and connection pools."""
        window = _window()
        document = self._session.documents.queries(window)
        if not _prefers_html():
            return _data(document, document["queries"], "queries")
        chosen = _Chosen(QUERIES, document["queries"])
        shown = html_queries.queries(document, chosen.rows)
        return _render("queries.html", **self._frame(window), shown=shown, chosen=chosen)

    def cache(self) -> AnyResponse | str:
        """Show what the cache saves, and what it does not keep."""
        window = _window()
        document = self._session.documents.cache(window)
        if not _prefers_html():
            return jsonify(document)
        return _render(
            "cache.html", **self._frame(window), shown=html_cache.cache(document), cache=document
        )

    def compare(self) -> AnyResponse | str:
        """Show two windows side by side."""
        documents = self._session.documents
        has_history = "24h" in documents.windows
        window = _window("24h" if has_history else "run")
        against = request.args.get("against", LAST_WEEK if has_history else "previous")
        document = documents.compare(window, against)
        if not _prefers_html():
            return _data(document, document["rows"], "comparison")
        shown = html_compare.compare(document)
        references = html_compare.references(document, against, has_history=has_history)
        frame = self._frame(window)
        return _render("compare.html", **frame, shown=shown, against=against, references=references)

    def alerts(self) -> AnyResponse | str:
        """Show what fires, and the rules."""
        window = request.args.get("window", "24h")
        document = self._session.documents.alerts(window)
        if not _prefers_html():
            return jsonify(document)
        frame = {**self._frame(window), "windows": ALERT_WINDOWS}
        return _render("alerts.html", **frame, shown=html_alerts.alerts(document))

    def rule(self) -> AnyResponse | str:
        """Show a rule that is being written, and when it would have fired."""
        document = self._session.documents.rule(
            request.args, request.args.getlist("channels"), request.args.get("test")
        )
        if not _prefers_html():
            return jsonify(document)
        return _render(
            "rule.html", **self._frame(""), shown=html_alerts.rule(document), rule=document
        )

    def alert(self, action: str) -> AnyResponse:
        """Silence alerts, end a silence, send a test message, or change a rule."""
        refused = _refusal()
        if refused is not None:
            return refused
        channels = request.form.getlist("channels")
        done = self._session.documents.act_on_alerts(action, request.form, channels)
        if not _prefers_html():
            return jsonify({"done": done})
        return redirect(page_url("knitperf.alerts", done=done), 303)

    def memory(self) -> AnyResponse | str:
        """Show the memory of all workers."""
        document = self._session.documents.memory()
        if not _prefers_html():
            return jsonify(document)
        return _render(
            "memory.html", **self._frame(""), shown=html_memory.memory(document), memory=document
        )

    def style(self) -> AnyResponse:
        """Return the style sheet."""
        return _STYLE.response()

    def script(self) -> AnyResponse:
        """Return the script."""
        return _SCRIPT.response()

    def command(self, name: str) -> AnyResponse:
        """Send a command to all workers."""
        refused = _refusal()
        if refused is not None:
            return refused
        sent = self._session.commands.submit(name)
        if not _prefers_html():
            return jsonify({"command": name, "id": None if sent is None else sent.id})
        method, _, endpoint = request.form.get("next", "").partition(" ")
        if name == "sample" and endpoint:
            return redirect(page_url("knitperf.why", of=endpoint, method=method), 303)
        back = "knitperf.memory" if name in ("collect", "frames") else "knitperf.index"
        return redirect(page_url(back, done=name), 303)


def _refusal() -> Response | None:
    """Return the refusal of a request that changes something, ``None`` if a form of ours sent it."""
    principal: Principal = request.environ[PRINCIPAL]
    is_bearer = principal.authenticated_by == "bearer"
    if is_bearer or (principal.csrf and equal(request.form.get("csrf", ""), principal.csrf)):
        return None
    # not abort: the application's error handlers are for its own pages
    return Response("This form has expired; reload the page.\n", 403, mimetype="text/plain")


def _window(default: str = "1h") -> str:
    """Return the name of the window of the URL: ``window``, or the bounds ``since`` and ``until``."""
    since, until = request.args.get("since"), request.args.get("until")
    if since is None and until is None:
        return request.args.get("window", default)
    if until is None:
        until = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{since or ''}/{until}"


def _endpoint_args() -> tuple[str, str, str | None]:
    """Return window, endpoint and method of the URL."""
    return (
        _window(),
        request.args.get("of", ""),
        request.args.get("method"),
    )


def _render(name: str, **values: Any) -> str:
    """Render a template, in an environment that no setting of the application reaches."""
    return _TEMPLATES.get_template(name).render(url_for=page_url, request=request, **values)


def _prefers_html() -> bool:
    """Return whether the client accepts a page more than JSON."""
    if request.args.get("format") in ("json", "csv"):
        return False
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"] and "text/html" in accepted.values()


def _data(document: Any, rows: Sequence[Mapping[str, Any]], name: str) -> AnyResponse:
    """Return a document as JSON, or with ``?format=csv`` its rows as a file."""
    if request.args.get("format") != "csv":
        return jsonify(document)
    response = Response(csv_table(rows), mimetype="text/csv")
    response.headers["Content-Disposition"] = f"attachment; filename={name}.csv"
    return response


def _frame(window: str, windows: Sequence[str] = ()) -> Values:
    """Return the values that every page needs.

    Args:
        window: that is shown.
        windows: names of all that can be.
    """
    principal: Principal = request.environ[PRINCIPAL]
    return {
        "app_name": printable(current_app.name),
        "csrf": principal.csrf,
        "done": _DONE.get(request.args.get("done", "")),
        "signed_in": principal.authenticated_by == "cookie",
        "windows": windows,
        "has_alerts": False,
        "has_runs": False,
        "firing": None,
        "window": window,
        "is_live": False,
        "release": None,
        "style": page_url("knitperf.style", v=_STYLE.tag),
        "script": page_url("knitperf.script", v=_SCRIPT.tag),
    }


def error_page(error: KnitPerfError) -> tuple[AnyResponse | str, int]:
    """Return an error of ours as a page or as JSON, with its status."""
    status = 400 if isinstance(error, ConfigurationError) else 409
    if isinstance(error, StateError) and request.args.get("window") == "previous":
        status = 404
    sentence = printable(str(error))
    if not _prefers_html():
        return jsonify({"error": sentence}), status
    heading = _error_heading(error)
    return _render("error.html", **_frame(""), heading=heading, error=sentence), status


def _error_heading(error: KnitPerfError) -> str:
    if isinstance(error, ConfigurationError):
        return "Invalid address"
    if isinstance(error, StateError):
        return "Not available"
    pages = {
        "knitperf.why": "No data",
        "knitperf.stacks": "No data",
        "knitperf.single": "Request not found",
    }
    page = pages.get(request.endpoint or "")
    return "Not available" if page is None else page
