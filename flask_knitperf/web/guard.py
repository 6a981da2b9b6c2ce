"""Access control of the pages, in front of routing, for every path under the prefix.

Behind routing it would be too late: a redirect to a trailing slash, a 405 or an answer to ``OPTIONS``
reveals which pages exist. An unauthenticated client meets the application as if it had no such pages
(see :mod:`.routing`); the sign-in page exists only where there is a secret to sign in with: an access
token, or the code of debug mode (:mod:`.credentials`).

A client is authenticated by the first that holds of: the secret as a Bearer token, the session cookie
(:mod:`.session_cookie`), and the application's ``KNITPERF_ACCESS`` function. That is called later, in
the request context that the application pushes (:mod:`.application_access`). Nothing that can be forged
or shared opens a page: no address, no header, no name of a host. In debug mode a request for the first
page that looks like a browser on this machine is sent to the sign-in page; that is a help, and opens
nothing.

A sign-in link works once and for five minutes. Opening it changes nothing, as mail scanners and
browsers fetch links ahead; the button on the page signs in. A new session ends the browser's former one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from types import CoroutineType
from typing import NamedTuple
from urllib.parse import parse_qs

from ..storage.revocations import Revocations
from .credentials import Credentials, Secret
from .rate_limit import PeerBuckets, TokenBucket
from .session_cookie import (
    FORM_COOKIE,
    SESSION_COOKIE,
    SESSION_LIFETIME_S,
    VIEWER_COOKIE,
    Environ,
    SignedCookie,
)
from .sign_in import CODE_PURPOSE, LINK_LIFETIME_S, page
from .signatures import equal, new_text, signature, verify

MAX_FORM_BYTES = 4096
FAILED_SIGN_IN_BURST = 10
FAILED_SIGN_INS_PER_S = 10 / 60
PAGE_BURST = 60
PAGES_PER_S = 10
LIGHT_BURST = 300
LIGHT_PER_S = 100
"""Requests per second for files and live figures, of which open pages send one every two seconds."""
_LIGHT = ("/live.json", "/style.css", "/pages.js")
_PROXY_HEADERS = (
    "HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_ORIGINAL", "HTTP_VIA",
    "HTTP_CF_", "HTTP_TRUE_CLIENT_IP", "HTTP_X_CLIENT_IP", "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_FASTLY", "HTTP_X_AMZN", "HTTP_X_ENVOY", "HTTP_X_APPENGINE", "werkzeug.proxy_fix",
)  # fmt: skip
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_PLAIN_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


class GuardResponse(NamedTuple):
    """A response that the guard sends itself."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Principal(NamedTuple):
    """An authenticated client.

    Attributes:
        authenticated_by: ``bearer``, ``cookie`` or ``access``.
        csrf: token that a changing request must carry; empty for ``bearer``, whose header no other site
            can send, and for what the application admits to a path without forms.
        cookie: ``Set-Cookie`` header for a page with forms, which ties them to the browser; empty where
            it has one.
    """

    authenticated_by: str
    csrf: str
    cookie: str = ""


class Undecided(NamedTuple):
    """A client about which the application has to decide, in its own request context."""

    secret: Secret


class Guard:
    """Authenticates requests under one prefix. Depends on WSGI, not on Flask.

    Args:
        prefix: such as ``/perf``.
        credentials: the secret that opens the pages.
        access: the application's own decision about a WSGI environment. Only ``True`` grants access: a
            view's decorators return responses, a coroutine is true before it has run.
        clock: seconds since the epoch.
        revocations: links that were used, and sessions that signed out.
        on_error: called with an exception in ``access``, and with one about another result than a bool.
    """

    def __init__(
        self,
        prefix: str,
        credentials: Credentials,
        access: Callable[[Environ], object] | None,
        clock: Callable[[], float],
        revocations: Revocations,
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self.prefix = prefix
        self._credentials = credentials
        self._access = access
        self._clock = clock
        self._on_error = on_error
        self._revocations = revocations
        self._session = SignedCookie(SESSION_COOKIE, "session", None, clock, revocations)
        self._viewer = SignedCookie(VIEWER_COOKIE, "viewer", "/", clock, revocations)
        self._form = SignedCookie(FORM_COOKIE, "form", None, clock, revocations)
        self._failed_sign_ins = PeerBuckets(FAILED_SIGN_IN_BURST, FAILED_SIGN_INS_PER_S, clock)
        self._views = TokenBucket(PAGE_BURST, PAGES_PER_S, clock)
        self._light = TokenBucket(LIGHT_BURST, LIGHT_PER_S, clock)

    def decide(self, environ: Environ) -> Principal | GuardResponse | Undecided | None:
        """Return the principal, a response to send (sign-in, 429), or None if unauthenticated.

        Where neither secret nor session authenticates a client, ``KNITPERF_ACCESS`` may: then it is
        undecided until :meth:`decide_by_application`.
        """
        secret = self._credentials.read()
        if environ.get("PATH_INFO") == self.prefix + "/sign-in" and secret.text:
            return self._sign_in(environ, secret)
        principal = self._by_bearer(environ, secret) or self._by_cookie(environ, secret)
        if principal is not None:
            return self._admit(environ, principal)
        return Undecided(secret) if self._access else self._to_sign_in(environ, secret)

    def decide_by_application(
        self, environ: Environ, undecided: Undecided
    ) -> Principal | GuardResponse | None:
        """Return the decision about an undecided client, in its request context."""
        principal = self._by_application(environ, undecided.secret)
        if principal is None:
            return self._to_sign_in(environ, undecided.secret)
        return self._admit(environ, principal)

    def begin(self) -> None:
        """Learn about the record of revoked values, so that its loss is noticed."""
        if self._credentials.read().text:
            self._revocations.origin()

    def sees_timing(self, environ: Environ) -> bool:
        """Return whether a request for any page comes from a client that may see its timing."""
        secret = self._credentials.read()
        return bool(secret.text) and self._viewer.valid_value(environ, secret.key) is not None

    def _admit(self, environ: Environ, principal: Principal) -> Principal | GuardResponse:
        """Return an authenticated client, or the response to what it may not do."""
        if principal.csrf and _is_from_other_site(environ):
            return GuardResponse("403 FORBIDDEN", list(_PLAIN_TEXT), b"Sent by another site.\n")
        if not (self._light if self._is_light(environ) else self._views).take():
            headers = [*_PLAIN_TEXT, ("Retry-After", "5")]
            return GuardResponse("429 TOO MANY REQUESTS", headers, b"Too many requests.\n")
        signs_out = environ["PATH_INFO"] == self.prefix + "/sign-out"
        if signs_out and environ["REQUEST_METHOD"] == "POST":
            return self._sign_out(environ, principal)
        return principal

    def _is_light(self, environ: Environ) -> bool:
        """Return whether a request is one of those that open pages send often, or for a file."""
        return environ["PATH_INFO"].removeprefix(self.prefix) in _LIGHT

    # -- ways to authenticate ------------------------------------------------------------------------

    def _by_bearer(self, environ: Environ, secret: Secret) -> Principal | None:
        scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and secret.accepts(value.strip()):
            return Principal("bearer", "")
        return None

    def _by_cookie(self, environ: Environ, secret: Secret) -> Principal | None:
        if not secret.text:
            return None
        session = self._session.valid_value(environ, secret.key)
        return None if session is None else Principal("cookie", _csrf(secret.key, session.text))

    def _by_application(self, environ: Environ, secret: Secret) -> Principal | None:
        if self._access is None:
            return None
        try:
            decision = self._access(environ)
            if decision is True and self._is_light(environ):
                return Principal("access", "")  # no form is there
            if decision is True:
                return self._admitted(environ, secret.key)
            if decision is not False and decision is not None:
                raise TypeError(_unusable(decision))
        except Exception as error:
            self._on_error("KNITPERF_ACCESS", error)
        return None

    def _admitted(self, environ: Environ, key: bytes) -> Principal:
        """Return a client that the application admits, with a cookie that ties forms to its browser."""
        value = self._form.valid_value(environ, key)
        if value is not None:
            return Principal("access", _csrf(key, value.text))
        text = new_text(self._clock() + SESSION_LIFETIME_S)
        return Principal("access", _csrf(key, text), self._form.issue(environ, key, text))

    # -- signing in and out --------------------------------------------------------------------------

    def _to_sign_in(self, environ: Environ, secret: Secret) -> GuardResponse | None:
        """Return a redirect to the sign-in page, in debug mode, from the first page, on this machine."""
        path = environ.get("PATH_INFO", "")
        first, method = path.rstrip("/") == self.prefix, environ.get("REQUEST_METHOD")
        if not (first and method == "GET" and secret.is_code and seems_local(environ)):
            return None
        folder = "" if path.endswith("/") else self.prefix.rpartition("/")[2] + "/"
        return _redirect(f"{folder}sign-in")

    def _sign_in(self, environ: Environ, secret: Secret) -> GuardResponse | None:
        method = environ.get("REQUEST_METHOD")
        if method in ("GET", "HEAD"):
            code = parse_qs(environ.get("QUERY_STRING", "")).get("code", [""])[0]
            response = _html(page(code, by_code=secret.is_code))
            return response if method == "GET" else response._replace(body=b"")
        if method != "POST":
            return None
        form = _form(environ)
        code, by_code = form.get("code", ""), secret.is_code
        if not secret.accepts(form.get("token", "")) and not self._uses_link(code, secret):
            # Only failures count, and for their peer: otherwise a stranger could lock the owner out.
            if not self._failed_sign_ins.take(environ.get("REMOTE_ADDR", "")):
                shown = page("", "Too many tries. Wait a minute.", by_code=by_code)
                return _html(shown, "429 TOO MANY REQUESTS")
            wrong = "Wrong code." if by_code else "Wrong access token."
            error = "This link was used already or has expired." if code else wrong
            return _html(page("", error, by_code=by_code), "403 FORBIDDEN")
        return self._begin_session(environ, secret.key)

    def _uses_link(self, code: str, secret: Secret) -> bool:
        """Use up a sign-in link; return whether that was possible."""
        link = verify(secret.key, CODE_PURPOSE, code, self._clock(), LINK_LIFETIME_S)
        if link is None or not self._revocations.allows(link.origin, link.nonce):
            return False
        return self._revocations.revoke(link.nonce)

    def _begin_session(self, environ: Environ, key: bytes) -> GuardResponse:
        """Return the response that signs a browser in, instead of its former session."""
        for cookie in (self._session, self._viewer):
            cookie.revoke(environ, key)
        text = new_text(self._clock() + SESSION_LIFETIME_S, self._revocations.origin())
        cookies = [cookie.issue(environ, key, text) for cookie in (self._session, self._viewer)]
        return self._to_pages(*cookies)

    def _sign_out(self, environ: Environ, principal: Principal) -> GuardResponse:
        bearer, token = principal.authenticated_by == "bearer", principal.csrf
        if not bearer and not (token and equal(_form(environ).get("csrf", ""), token)):
            body = b"This form has expired; reload the page.\n"
            return GuardResponse("403 FORBIDDEN", list(_PLAIN_TEXT), body)
        key = self._credentials.read().key
        revoked = [cookie.revoke(environ, key) for cookie in (self._session, self._viewer)]
        if not all(revoked):
            body = b"This session stays valid: the state directory cannot be written.\n"
            return GuardResponse("500 INTERNAL SERVER ERROR", list(_PLAIN_TEXT), body)
        return self._to_pages(self._session.delete(environ), self._viewer.delete(environ))

    def _to_pages(self, *cookies: str) -> GuardResponse:
        """Return a redirect to the first page that sets cookies.

        It is relative to the page that the browser opened: see :mod:`.session_cookie`.
        """
        return _redirect("./", *cookies)


def _csrf(key: bytes, text: str) -> str:
    """Return the CSRF token that belongs to the text of a signed cookie."""
    return signature(key, "csrf", text)


def _unusable(decision: object) -> str:
    """Return a sentence on a result of ``KNITPERF_ACCESS`` other than a decision."""
    kind = type(decision)  # not isinstance: a proxy of the request context has no class any more
    if issubclass(kind, CoroutineType):
        decision.close()  # type: ignore[attr-defined]  # else it warns that it was never awaited
    return f"it returned a {kind.__module__}.{kind.__qualname__}, not True or False"


def _is_from_other_site(environ: Environ) -> bool:
    """Return whether the browser states that another site sent a changing request."""
    changes = environ.get("REQUEST_METHOD") not in ("GET", "HEAD", "OPTIONS")
    return changes and environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site")


def _redirect(location: str, *cookies: str) -> GuardResponse:
    headers = [*_PLAIN_TEXT, ("Content-Length", "0"), ("Location", location)]
    headers += [("Set-Cookie", cookie) for cookie in cookies]
    return GuardResponse("303 SEE OTHER", headers, b"")


def seems_local(environ: Environ) -> bool:
    """Return whether a request looks like that of a browser on this machine, which proves nothing."""
    if any(key.startswith(_PROXY_HEADERS) for key in environ):
        return False
    try:
        peer = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    host = environ.get("HTTP_HOST", "")
    return peer.is_loopback and _LOCAL_HOST.fullmatch(host) is not None


def _html(document: tuple[bytes, str], status: str = "200 OK") -> GuardResponse:
    body, policy = document
    return GuardResponse(
        status,
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body))),
         ("Cache-Control", "no-store"), ("Content-Security-Policy", policy),
         ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff"),
         ("X-Frame-Options", "DENY")],
        body,
    )  # fmt: skip


def _form(environ: Environ) -> dict[str, str]:
    """Return the fields of a small form; an oversized or unreadable one has none."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return {}
    if not 0 < length <= MAX_FORM_BYTES:
        return {}
    text = environ["wsgi.input"].read(length).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}
