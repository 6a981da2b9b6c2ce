"""Who may see the pages. Decided in front of routing, for every path under the prefix.

Behind routing it would be too late: a redirect to a trailing slash, a 405 or an ``OPTIONS`` answer
already tells a stranger what is there. Who is not let in meets an application without our pages (see
:mod:`.routing`); only where a token is configured does the sign-in page exist.

Let in, tried in this order (the rows of ``_WAYS``): the Bearer token, a signed-in cookie, the
application's own decision, and debug mode from true loopback. "True" means that the peer itself is
this machine, that no proxy stands between, and that the browser asked for localhost by name (so a
rebound DNS name does not count).

A sign-in link works once and for five minutes. Opening it changes nothing (mail scanners and
browsers fetch links ahead); the button on the page does. Whatever is signed is signed with a key
that is derived from the token, so changing the token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from .one_time_codes import Once, Rate
from .sign_in import page

Environ = dict[str, Any]
COOKIE = "knitperf"
VIEWER = "knitperf_viewer"
"""A cookie for all of the application: its bearer sees the timing of any page, and nothing else."""
SESSION_SECONDS = 12 * 3600
LINK_SECONDS = 300
FORM_BYTES = 4096
_PROXIED = (
    "HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_ORIGINAL", "HTTP_VIA",
    "HTTP_CF_", "HTTP_TRUE_CLIENT_IP", "HTTP_X_CLIENT_IP", "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_FASTLY", "HTTP_X_AMZN", "HTTP_X_ENVOY", "HTTP_X_APPENGINE", "werkzeug.proxy_fix",
)  # fmt: skip
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


class Answer(NamedTuple):
    """A whole response."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Allowed(NamedTuple):
    """Somebody who is let in.

    Attributes:
        how: ``bearer``, ``cookie``, ``access`` or ``debug``.
        csrf: the token that a changing request of theirs must carry; empty for ``bearer``, whose
            header no other site can send.
    """

    how: str
    csrf: str


class Guard:
    """Decides on requests under one prefix. Knows WSGI, no Flask.

    Args:
        prefix: such as ``/perf``.
        token: the configured secret, ``None`` without one.
        access: the application's own decision, given the WSGI environment.
        debug: whether the application is in debug mode now.
        clock: seconds since the epoch.
        once: remembers which sign-in links were used.
        on_error: told of an exception in ``access``.
    """

    def __init__(
        self,
        prefix: str,
        token: str | None,
        access: Callable[[Environ], bool] | None,
        debug: Callable[[], bool],
        clock: Callable[[], float],
        once: Once,
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self.prefix = prefix
        self._token = token
        self._access = access
        self._debug = debug
        self._clock = clock
        self._once = once
        self._on_error = on_error
        self._derived = derive(token) if token else None
        self._sign_ins = Rate(10, 10 / 60, clock)
        self._views = Rate(60, 10, clock)

    def decide(self, environ: Environ) -> Allowed | Answer | None:
        """Return who is let in, an answer of the guard's own, or ``None`` for a stranger."""
        path = environ.get("PATH_INFO", "")
        if self._token and path == self.prefix + "/sign-in":
            return self._sign_in(environ)
        found = self._who(environ)
        if found is None:
            return None
        if not self._views.take():
            return Answer("429 TOO MANY REQUESTS", [*_PLAIN, ("Retry-After", "5")], b"Too fast.\n")
        if path == self.prefix + "/sign-out" and environ["REQUEST_METHOD"] == "POST":
            return self._sign_out(environ, found)
        return found

    def _who(self, environ: Environ) -> Allowed | None:
        for way in (self._bearer, self._cookie, self._asked, self._local):
            found = way(environ)
            if found is not None:
                return found
        return None

    # -- ways in -------------------------------------------------------------------------------------

    def _bearer(self, environ: Environ) -> Allowed | None:
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if self._token and scheme.lower() == "bearer" and same(given.strip(), self._token):
            return Allowed("bearer", "")
        return None

    def _cookie(self, environ: Environ) -> Allowed | None:
        if not self._token:
            return None
        value = _cookies(environ).get(COOKIE, "")
        return Allowed("cookie", self._csrf(value)) if self._valid("session", value) else None

    def _asked(self, environ: Environ) -> Allowed | None:
        if self._access is None:
            return None
        try:
            let_in = self._access(environ) is True
        except Exception as error:
            self._on_error("KNITPERF_ACCESS", error)
            return None
        return Allowed("access", self._csrf("access")) if let_in else None

    def _local(self, environ: Environ) -> Allowed | None:
        if self._debug() and is_local(environ):
            return Allowed("debug", self._csrf("debug"))
        return None

    def sees_timing(self, environ: Environ) -> bool:
        """Return whether a request for any page comes from somebody who may see where its time went."""
        if self._debug():
            return is_local(environ)
        if self._token is None:
            return False
        given = _cookies(environ).get(VIEWER)
        return given is not None and self._valid("viewer", given)

    # -- signing -------------------------------------------------------------------------------------

    def _seal(self, purpose: str, text: str) -> str:
        return seal(self._derived or self._once.secret(), purpose, text)

    def _valid(self, purpose: str, value: str) -> bool:
        text, _, seal = value.rpartition(".")
        if not same(seal, self._seal(purpose, text)):
            return False
        ends = text.partition(".")[0]
        return ends.isdigit() and self._clock() < int(ends)

    def _signed(self, purpose: str) -> str:
        assert self._derived is not None  # only a token signs anyone in
        return sign(self._derived, purpose, self._clock() + SESSION_SECONDS)

    def _csrf(self, who: str) -> str:
        return self._seal("csrf", who)

    # -- signing in and out ----------------------------------------------------------------------------

    def _sign_in(self, environ: Environ) -> Answer | None:
        method = environ.get("REQUEST_METHOD")
        if method in ("GET", "HEAD"):
            code = parse_qs(environ.get("QUERY_STRING", "")).get("code", [""])[0]
            found = _page(page(code))
            return found if method == "GET" else found._replace(body=b"")
        if method != "POST":
            return None
        if not self._sign_ins.take():
            return _page(page("", "Too many tries. Wait a minute."), "429 TOO MANY REQUESTS")
        form = _form(environ)
        code, token = form.get("code", ""), form.get("token", "")
        good = same(token, self._token or "") if token else False
        if not good and code and self._valid("once", code):
            good = self._once.spend(code.split(".")[1], self._clock(), LINK_SECONDS)
        if not good:
            said = "That link has been used or is too old." if code else "That is not the token."
            return _page(page("", said), "403 FORBIDDEN")
        return Answer(
            "303 SEE OTHER",
            [*_PLAIN, ("Location", self._home(environ)),
             ("Set-Cookie", self._set(environ, self._signed("session"))),
             ("Set-Cookie", self._set_viewer(environ))],
            b"",
        )  # fmt: skip

    def _sign_out(self, environ: Environ, who: Allowed) -> Answer:
        if who.how != "bearer" and not same(_form(environ).get("csrf", ""), who.csrf):
            return Answer("403 FORBIDDEN", list(_PLAIN), b"The form is too old; reload the page.\n")
        gone = self._set(environ, "", 0)
        headers = [*_PLAIN, ("Location", self._home(environ)), ("Set-Cookie", gone),
                   ("Set-Cookie", self._set_viewer(environ, 0))]  # fmt: skip
        return Answer("303 SEE OTHER", headers, b"")

    def _home(self, environ: Environ) -> str:
        root: str = environ.get("SCRIPT_NAME", "")
        return f"{root}{self.prefix}/"

    def _set(self, environ: Environ, value: str, seconds: int = SESSION_SECONDS) -> str:
        return _cookie(
            environ, COOKIE, value, environ.get("SCRIPT_NAME", "") + self.prefix, seconds
        )

    def _set_viewer(self, environ: Environ, seconds: int = SESSION_SECONDS) -> str:
        value = self._signed("viewer") if seconds else ""
        return _cookie(environ, VIEWER, value, environ.get("SCRIPT_NAME", "") + "/", seconds)


_PLAIN = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


def _cookie(environ: Environ, name: str, value: str, path: str, seconds: int) -> str:
    """Return the header that sets a cookie."""
    made = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return made + ("; Secure" if environ.get("wsgi.url_scheme") == "https" else "")


def _cookies(environ: Environ) -> dict[str, str]:
    """Return the cookies of a request; of equal names the first."""
    found: dict[str, str] = {}
    for pair in environ.get("HTTP_COOKIE", "").split(";"):
        name, _, value = pair.strip().partition("=")
        found.setdefault(name, value)
    return found


def derive(token: str) -> bytes:
    """Return the key for signatures that belongs to a token."""
    return hmac.new(token.encode(), b"flask_knitperf signatures", hashlib.sha256).digest()


def seal(key: bytes, purpose: str, text: str) -> str:
    """Return a signature for one purpose, in hexadecimal."""
    return hmac.new(key, f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()


def sign(key: bytes, purpose: str, ends: float) -> str:
    """Return ``moment.nonce.signature``, good until a moment in seconds since the epoch."""
    text = f"{int(ends)}.{secrets.token_urlsafe(16)}"
    return f"{text}.{seal(key, purpose, text)}"


def sign_in_link(token: str, prefix: str, now: float) -> str:
    """Return path and query of a sign-in page that works once, for five minutes.

    Args:
        token: the application's access token.
        prefix: where the pages are.
        now: seconds since the epoch.
    """
    return f"{prefix}/sign-in?code={sign(derive(token), 'once', now + LINK_SECONDS)}"


def same(given: str, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def is_local(environ: Environ) -> bool:
    """Return whether a browser on this machine asks this very server, by the name of localhost."""
    if any(key.startswith(_PROXIED) for key in environ):
        return False
    try:
        peer = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    host = environ.get("HTTP_HOST", "")
    return peer.is_loopback and _LOCAL_HOST.fullmatch(host) is not None


def _page(document: tuple[bytes, str], status: str = "200 OK") -> Answer:
    body, policy = document
    return Answer(
        status,
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body))),
         ("Cache-Control", "no-store"), ("Content-Security-Policy", policy),
         ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff"),
         ("X-Frame-Options", "DENY")],
        body,
    )  # fmt: skip


def _form(environ: Environ) -> dict[str, str]:
    """Return a small form's fields; an oversized or unreadable one has none."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return {}
    if not 0 < length <= FORM_BYTES:
        return {}
    text = environ["wsgi.input"].read(length).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}
