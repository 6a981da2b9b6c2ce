"""The sign-in link that a server in debug mode prints, as Jupyter and Werkzeug's debugger do.

The process that the reloader starts prints it at once, with the others of its start. Any other server is
known to be one when its first request comes; its link is printed then.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import weakref
from typing import Any

import click
from flask import Flask

from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.printable import printable
from ..runtime.session import Session
from ..web.credentials import Credentials
from ..web.sign_in import sign_in_link


class DebugLink:
    """Prints the link of one application, once in a process.

    Args:
        app: the application.
        session: its recording session.
        credentials: the secret that opens its pages.
    """

    def __init__(self, app: Flask, session: Session, credentials: Credentials) -> None:
        self._application = weakref.ref(app)  # the application holds this object
        self._session = session
        self._credentials = credentials
        self._printed_by: int | None = None

    def print_at_start(self) -> None:
        """Print the link if this process is a development server under the reloader."""
        if os.environ.get("WERKZEUG_RUN_MAIN") == "true":
            address = _listening_address(os.environ.get("WERKZEUG_SERVER_FD", ""))
            if address is not None:
                self._print(address)

    def print_at_first_request(self, environ: dict[str, Any]) -> None:
        """Print the link if it was not printed at the start.

        With its address only where that is the server's own: others take it from the request, and a
        stranger could have the code sent elsewhere.
        """
        address = ""
        if str(environ.get("SERVER_SOFTWARE", "")).startswith("Werkzeug/"):
            name, port = environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")
            address = f"{environ.get('wsgi.url_scheme', 'http')}://{_bracketed(name)}:{port}"
        self._print(address)

    def _print(self, address: str) -> None:
        app, clock = self._application(), self._session.recorder.clock
        if app is None or not app.debug or app.testing or self._printed_by == clock.pid():
            return
        self._printed_by = clock.pid()
        with SuppressOwn(OSError, ValueError):  # the terminal is gone
            click.echo(
                f" * Performance pages: {address}{self._how_to_sign_in(clock.wall())}", err=True
            )

    def _how_to_sign_in(self, now: float) -> str:
        """Return the path of the sign-in page, and how to sign in there."""
        secret, prefix = self._credentials.read(), self._session.settings.url_prefix
        later = f"code {secret.text}" if secret.is_code else "access token"
        revocations = self._session.revocations
        origin = revocations.origin()
        if revocations.failure is not None:
            alone = " It is valid in this process alone." if secret.is_code else ""
            return (
                f"{prefix}/sign-in\n   (Use the {later}.{alone} A link would not work: "
                f"{printable(revocations.failure)}.)"
            )
        link = sign_in_link(secret.key, prefix, now, origin)
        return f"{link}\n   (The link works once, for five minutes; later use the {later}.)"


def _listening_address(descriptor: str) -> str | None:
    """Return the address of the server's socket, which the reloader hands to the process."""
    try:
        if not stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
            return None
        with socket.socket(fileno=os.dup(int(descriptor))) as server:
            host, port = server.getsockname()[:2]
            everywhere = ipaddress.ip_address(host).is_unspecified
    except (ValueError, OSError) as error:  # no reloader's socket, or one without host and port
        raise_if_of_host(error)
        return None
    return f"http://{_bracketed('127.0.0.1' if everywhere else host)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
