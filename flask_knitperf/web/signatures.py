"""Signed values that expire: HMAC-SHA256 with one key, separate for each purpose.

A signed value is ``expiry.nonce.signature``. One that expires later than a value of now would was signed
while the clock was ahead: it is not valid, so that no value outlives its lifetime. The key is derived
from the secret that opens the pages, so changing that invalidates every session and every link.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

CLOCK_SKEW_S = 60.0
"""Seconds by which the clocks of two hosts of one application may differ."""


def derive_key(secret: str, name: str, folder: str) -> bytes:
    """Return the signing key of an application that belongs to a secret.

    Args:
        secret: that opens the pages.
        name: of the application; many are named "app".
        folder: root path of the application.
    """
    purpose = f"flask_knitperf signatures of {name}\n{folder}"
    encoded = purpose.encode("utf-8", "surrogatepass")  # a name outside of UTF-8
    return hmac.new(secret.encode(), encoded, hashlib.sha256).digest()


def nonce(value: str) -> str:
    """Return the random part of a signed value, by which it can be revoked."""
    return value.split(".")[1]


def signature(key: bytes, purpose: str, text: str) -> str:
    """Return the signature of a text for one purpose, in hexadecimal."""
    return hmac.new(key, f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()


def sign(key: bytes, purpose: str, expiry: float) -> str:
    """Return a fresh signed value.

    Args:
        key: of :func:`derive_key`.
        purpose: such as ``session``; a value for one purpose is invalid for all others.
        expiry: in seconds since the epoch.
    """
    text = f"{int(expiry)}.{secrets.token_urlsafe(16)}"
    return f"{text}.{signature(key, purpose, text)}"


def equal(value: str, secret: str) -> bool:
    """Compare a value with a secret in constant time."""
    return hmac.compare_digest(value.encode(), secret.encode())


class Signer:
    """Signs and checks values of one application.

    Args:
        key: returns the signing key.
        clock: seconds since the epoch.
    """

    def __init__(self, key: Callable[[], bytes], clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def sign(self, purpose: str, lifetime_s: float) -> str:
        """Return a fresh signed value that expires after a lifetime."""
        return sign(self._key(), purpose, self._clock() + lifetime_s)

    def signature(self, purpose: str, text: str) -> str:
        """Return the signature of a text for one purpose, in hexadecimal."""
        return signature(self._key(), purpose, text)

    def is_valid(self, purpose: str, value: str, lifetime_s: float) -> bool:
        """Return whether a value was signed for a purpose, within its lifetime."""
        text, _, seal = value.rpartition(".")
        if not equal(seal, self.signature(purpose, text)):
            return False
        expiry = text.partition(".")[0]
        left_s = int(expiry) - self._clock() if expiry.isdigit() else 0.0
        return 0 < left_s <= lifetime_s + CLOCK_SKEW_S
