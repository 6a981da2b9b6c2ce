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
from functools import cached_property

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

    def read(self) -> Secret:
        """Return the secret as it is now: the access token, else in debug mode the code."""
        if self._token:
            return Secret(self._token, False, self._key_of(self._token))
        if self._debug():
            code = _code(self._random())
            return Secret(code, True, self._key_of(code))
        return Secret(None, False, self._random)

    def _key_of(self, secret: str) -> Callable[[], bytes]:
        return lambda: derive_key(secret, self._name, self._folder)


class Secret:
    """The secret at the time of one request, which reads it once: the code of debug mode is in a file.

    Attributes:
        text: the access token or the code; ``None`` if nothing signs in.
        is_code: whether it is the code of debug mode.
    """

    def __init__(self, text: str | None, is_code: bool, key: Callable[[], bytes]) -> None:
        self.text = text
        self.is_code = is_code
        self._derive = key

    @cached_property
    def key(self) -> bytes:
        """The key that signs links and sessions."""
        return self._derive()

    def accepts(self, value: str) -> bool:
        """Return whether a value is the secret; a code may be written in any case and grouping."""
        if not self.text or not value:
            return False
        return equal(_grouped(value) if self.is_code else value, self.text)


def _code(random: bytes) -> str:
    """Return the code of debug mode, such as ``K7QF-2MXD-AB3E``."""
    digest = hmac.new(random, b"flask_knitperf debug code", hashlib.sha256).digest()
    return _grouped(base64.b32encode(digest).decode()[:_CODE_LENGTH])


def _grouped(text: str) -> str:
    """Return the letters and digits of a code in capitals, in groups of four."""
    plain = re.sub("[^A-Z0-9]", "", text.upper())
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))
