"""The cookies of a signed-in browser: how they are created, when they expire, how they are checked.

Sign-in sets two. ``knitperf`` opens the pages and is sent to them alone. ``knitperf_viewer`` is sent
with every request to the application: it shows where the time of any response went, and opens nothing.
Neither is readable by scripts or sent from other sites, and on HTTPS both are Secure. A cookie is a
signed expiry: the server keeps no list of sessions, only those that were signed out before they
expired.

The guard may run outside of the middleware that sets the external address, such as ``ProxyFix``. So the
session cookie has no ``Path``: the browser takes the folder of the address that it opened. And HTTPS is
what the browser sees: the origin that it states counts too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .revocations import Revocations
from .signatures import Signer, nonce

Environ = dict[str, Any]
SESSION_COOKIE = "knitperf"
VIEWER_COOKIE = "knitperf_viewer"
SESSION_LIFETIME_S = 12 * 3600


class SignedCookie:
    """A cookie whose value is signed for one purpose.

    Args:
        name: of the cookie.
        purpose: of its signature.
        path: below the application's mount point, to which browsers send it; ``None`` for the folder of
            the page that sets it.
        signer: signs and checks its values.
        revoked: values that were signed out.
    """

    def __init__(
        self, name: str, purpose: str, path: str | None, signer: Signer, revoked: Revocations
    ) -> None:
        self._name = name
        self._purpose = purpose
        self._path = path
        self._signer = signer
        self._revoked = revoked

    def issue(self, environ: Environ) -> str:
        """Return the ``Set-Cookie`` header of a new session."""
        value = self._signer.sign(self._purpose, SESSION_LIFETIME_S)
        return self._header(environ, value, SESSION_LIFETIME_S)

    def delete(self, environ: Environ) -> str:
        """Return the ``Set-Cookie`` header that removes it from the browser."""
        return self._header(environ, "", 0)

    def valid_value(self, environ: Environ) -> str | None:
        """Return the value of a request; ``None`` if all are absent, forged, expired or revoked."""
        return next(self._valid_values(environ), None)

    def _valid_values(self, environ: Environ) -> Iterator[str]:
        for value in cookie_values(environ, self._name):
            signed = self._signer.is_valid(self._purpose, value, SESSION_LIFETIME_S)
            if signed and not self._revoked.has(nonce(value)):
                yield value

    def revoke(self, environ: Environ, now: float) -> bool:
        """Revoke the values that a request carries, for all workers.

        Args:
            environ: of the request.
            now: seconds since the epoch.

        Returns:
            ``False`` if a valid one could not be revoked.
        """
        done = True
        for value in list(self._valid_values(environ)):
            revoked = self._revoked.revoke(nonce(value), now) or self._revoked.has(nonce(value))
            done = done and revoked
        return done

    def _header(self, environ: Environ, value: str, max_age_s: int) -> str:
        parts = [f"{self._name}={value}"]
        if self._path is not None:
            parts.append(f"Path={environ.get('SCRIPT_NAME', '')}{self._path}")
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
