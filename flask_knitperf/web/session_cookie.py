"""The cookies of a signed-in browser: how they are created, when they expire, how they are checked.

Sign-in sets two. ``knitperf`` opens the pages and is sent to them alone. ``knitperf_viewer`` is sent
with every request to the application: it shows where the time of any response went, and opens nothing.
Neither is readable by scripts or sent from other sites, and on HTTPS both are Secure. A cookie is a
signed expiry: the server keeps no list of sessions, only those that were signed out before they
expired. Both carry one nonce, so that they end together. A browser that ``KNITPERF_ACCESS`` admits has a
third, ``knitperf_form``: it opens nothing, and ties the forms of the pages to that browser.

The guard may run outside of the middleware that sets the external address, such as ``ProxyFix``. So the
session cookie has no ``Path``: the browser takes the folder of the address that it opened. And HTTPS is
what the browser sees: the origin that it states counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from ..storage.revocations import Revocations
from .signatures import SignedValue, sign, verify

Environ = dict[str, Any]
SESSION_COOKIE = "knitperf"
VIEWER_COOKIE = "knitperf_viewer"
FORM_COOKIE = "knitperf_form"
SESSION_LIFETIME_S = 12 * 3600
_PATH_SAFE = "/~:@!$&'()*+="
"""Characters of a path as browsers send it, without those that would end the attribute."""


class SignedCookie:
    """A cookie whose value is signed for one purpose.

    Args:
        name: of the cookie.
        purpose: of its signature.
        path: below the application's mount point, to which browsers send it; ``None`` for the folder of
            the page that sets it.
        clock: seconds since the epoch.
        revoked: values that were signed out.
    """

    def __init__(
        self, name: str, purpose: str, path: str | None, clock: Callable[[], float],
        revoked: Revocations,
    ) -> None:  # fmt: skip
        self._name = name
        self._purpose = purpose
        self._path = path
        self._clock = clock
        self._revoked = revoked

    def issue(self, environ: Environ, key: bytes, text: str) -> str:
        """Return the ``Set-Cookie`` header of a new session.

        Args:
            environ: of the request.
            key: that signs the session.
            text: of :func:`.signatures.new_text`.
        """
        return self._header(environ, sign(key, self._purpose, text), SESSION_LIFETIME_S)

    def delete(self, environ: Environ) -> str:
        """Return the ``Set-Cookie`` header that removes it from the browser."""
        return self._header(environ, "", 0)

    def valid_value(self, environ: Environ, key: bytes) -> SignedValue | None:
        """Return the value of a request; ``None`` if all are absent, forged, expired or revoked."""
        return next(self._valid_values(environ, key), None)

    def _valid_values(self, environ: Environ, key: bytes) -> Iterator[SignedValue]:
        for cookie in cookie_values(environ, self._name):
            value = verify(key, self._purpose, cookie, self._clock(), SESSION_LIFETIME_S)
            if value is not None and self._revoked.allows(value.origin, value.nonce):
                yield value

    def revoke(self, environ: Environ, key: bytes) -> bool:
        """Revoke the values that a request carries, for all workers.

        Returns:
            ``False`` if a valid one could not be revoked.
        """
        values = list(self._valid_values(environ, key))
        for value in values:
            self._revoked.revoke(value.nonce)
        return not any(self._revoked.allows(value.origin, value.nonce) for value in values)

    def _header(self, environ: Environ, value: str, max_age_s: int) -> str:
        parts = [f"{self._name}={value}"]
        if self._path is not None:
            mount_point = environ.get("SCRIPT_NAME", "").encode("latin-1")
            parts.append(f"Path={quote(mount_point, safe=_PATH_SAFE)}{self._path}")
        parts += [f"Max-Age={max_age_s}", "HttpOnly", "SameSite=Strict"]
        if _is_https(environ):
            parts.append("Secure")
        return "; ".join(parts)


def _is_https(environ: Environ) -> bool:
    """Return whether a browser sees HTTPS; a client that misstates it only affects its own cookies."""
    forwarded = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip().lower()
    origin = environ.get("HTTP_ORIGIN", "").lower()
    return (
        environ.get("wsgi.url_scheme") == "https"
        or forwarded == "https"
        or origin.startswith("https://")
    )


def cookie_values(environ: Environ, wanted: str) -> list[str]:
    """Return the values of all cookies of a name: a sibling domain can set one of the same name."""
    pairs = (pair.strip().partition("=") for pair in environ.get("HTTP_COOKIE", "").split(";"))
    return [value for name, _, value in pairs if name == wanted]
