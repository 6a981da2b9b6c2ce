"""Signed values that expire: HMAC-SHA256 with one key, separate for each purpose.

A signed value is ``expiry.nonce.origin.signature``. One that expires later than a value of now would was
signed while the clock was ahead: it is not valid, so that no value outlives its lifetime. The key is
derived from the secret that opens the pages, so changing that invalidates every session and every link.
By nonce and origin a value can be revoked (:mod:`..storage.revocations`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple


class SignedValue(NamedTuple):
    """A valid signed value: its nonce and its origin, and the text that was signed."""

    text: str
    nonce: str
    origin: str


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


def signature(key: bytes, purpose: str, text: str) -> str:
    """Return the signature of a text for one purpose, in hexadecimal."""
    return hmac.new(key, f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()


def new_text(expiry: float, origin: str = "") -> str:
    """Return a text to be signed: an expiry, a fresh nonce, and an origin.

    Args:
        expiry: in seconds since the epoch.
        origin: of the record in which its value can be revoked; empty for none.
    """
    return f"{int(expiry)}.{secrets.token_urlsafe(16)}.{origin}"


def sign(key: bytes, purpose: str, text: str) -> str:
    """Return a text with its signature.

    Args:
        key: of :func:`derive_key`.
        purpose: such as ``session``; a value for one purpose is invalid for all others.
        text: of :func:`new_text`.
    """
    return f"{text}.{signature(key, purpose, text)}"


def verify(
    key: bytes, purpose: str, value: str, now: float, lifetime_s: float
) -> SignedValue | None:
    """Return a value that was signed for a purpose and is within its lifetime, else ``None``."""
    text, _, seal = value.rpartition(".")
    if not equal(seal, signature(key, purpose, text)):
        return None
    expiry, nonce, origin = text.split(".")
    is_valid = 0 < int(expiry) - now <= lifetime_s + CLOCK_SKEW_S
    return SignedValue(text, nonce, origin) if is_valid else None


def equal(value: str, secret: str) -> bool:
    """Compare a value with a secret in constant time."""
    return hmac.compare_digest(value.encode(), secret.encode())
