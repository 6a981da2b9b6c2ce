"""The secret that opens the pages of an application, and the signing key that belongs to it.

With ``KNITPERF_ACCESS_TOKEN`` that token is the secret. Without one, in debug mode, it is a code of
twelve letters and digits that the server prints at its start. All workers and all restarts of an
application have the same code: it is derived from random bytes in the state directory, which only its
user can read. Who runs a server in debug mode reads its terminal; where a request came from proves
nothing, for a proxy or a forwarder on the same machine connects from loopback too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from .signatures import derive_key, equal

_CODE_LENGTH = 12  # characters of base 32: 60 bits


class Credentials:
    """The secret that opens the pages of one application.

    Args:
        name: of the application.
        folder: root path of the application; equal secrets of two applications give different keys.
        token: the configured access token, ``None`` without one.
        debug: returns whether the application is in debug mode now.
        random: returns random bytes that all workers share.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        token: str | None,
        debug: Callable[[], bool],
        random: Callable[[], bytes],
    ) -> None:
        self._name, self._folder = name, folder
        self._token = token
        self._debug = debug
        self._random = random

    @property
    def is_code(self) -> bool:
        """Whether the pages open by the code of debug mode."""
        return not self._token and self._debug()

    def secret(self) -> str | None:
        """Return the access token, or the code of debug mode; ``None`` if nothing signs in."""
        if self._token:
            return self._token
        return _code(self._random()) if self._debug() else None

    def accepts(self, value: str) -> bool:
        """Return whether a value is the secret; a code may be written in any case and grouping."""
        secret = self.secret()
        if not secret or not value:
            return False
        return equal(_grouped(value) if self.is_code else value, secret)

    def key(self) -> bytes:
        """Return the key that signs links and sessions."""
        secret = self.secret()
        return derive_key(secret, self._name, self._folder) if secret else self._random()


def _code(random: bytes) -> str:
    """Return the code of debug mode, such as ``K7QF-2MXD-AB3E``."""
    digest = hmac.new(random, b"flask_knitperf debug code", hashlib.sha256).digest()
    return _grouped(base64.b32encode(digest).decode()[:_CODE_LENGTH])


def _grouped(text: str) -> str:
    """Return the letters and digits of a code in capitals, in groups of four."""
    plain = re.sub("[^A-Z0-9]", "", text.upper())
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))
