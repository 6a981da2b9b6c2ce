"""A value as it is sent to the server: signed, so that only processes with the secret can write one.

::

    signature         HMAC-SHA256 over the name and all of the below
    head              magic and format, lengths of the parts
    facts             JSON
    lengths           of the arrays
    stream            pickle without the arrays
    arrays

The signature covers the name under which the value lies, so it cannot be moved to another one. Nothing
of a message is decoded before its signature was verified, and the stream then by the unpickler of
:mod:`..value_files`, which accepts parts of frames and plain values alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from struct import Struct
from typing import Any

from ...core.errors import KnitPerfError
from ...core.host_exceptions import raise_if_of_host
from ..value_files import Pickled

_MAGIC = b"KNITSRV1"
_HEAD = Struct("<8sIII")  # magic, lengths of facts, table and stream
_LENGTH = Struct("<Q")
SIGNATURE_BYTES = 32


class ForeignValue(KnitPerfError):  # noqa: N818 (not a fault)
    """Bytes on the server that no process with the secret has written under this name."""


def derived(secret: bytes, purpose: str) -> bytes:
    """Return a key of 32 bytes for one purpose."""
    return hmac.digest(secret, f"flask_knitperf cache server: {purpose}".encode(), hashlib.sha256)


def sealed(key: bytes, name: bytes, facts: dict[str, Any], value: Pickled) -> bytes:
    """Return a value as signed bytes.

    Args:
        key: of the signature.
        name: under which it is stored.
        facts: JSON: what a reader has to check.
        value: the value.
    """
    about = json.dumps(facts, separators=(",", ":")).encode()
    table = b"".join(_LENGTH.pack(array.nbytes) for array in value.arrays)
    head = _HEAD.pack(_MAGIC, len(about), len(table), len(value.stream))
    content = b"".join([head, about, table, value.stream, *value.arrays])
    return _signature(key, name, content) + content


def opened(key: bytes, name: bytes, message: bytes) -> tuple[dict[str, Any], Pickled]:
    """Return the facts and the value of signed bytes; its arrays can be written to.

    Raises:
        ForeignValue: the signature is another one, or the format.
    """
    content = memoryview(message)[SIGNATURE_BYTES:]
    if len(content) < _HEAD.size or not hmac.compare_digest(
        _signature(key, name, content), message[:SIGNATURE_BYTES]
    ):
        raise ForeignValue("it is not signed")
    magic, *lengths = _HEAD.unpack(content[: _HEAD.size])
    if magic != _MAGIC or _HEAD.size + sum(lengths) > len(content) or lengths[1] % _LENGTH.size:
        raise ForeignValue("it has another format")
    offset, parts = _HEAD.size, []
    for length in lengths:
        parts.append(bytes(content[offset : offset + length]))
        offset += length
    about, table, stream = parts
    arrays = []
    for (length,) in _LENGTH.iter_unpack(table):
        if offset + length > len(content):
            raise ForeignValue("it has another format")
        arrays.append(memoryview(bytearray(content[offset : offset + length])))
        offset += length
    try:
        facts = json.loads(about)
    except ValueError as error:
        raise_if_of_host(error)
        raise ForeignValue("it has another format") from error
    if not isinstance(facts, dict):
        raise ForeignValue("it has another format")
    return facts, Pickled(stream, arrays)


def _signature(key: bytes, name: bytes, content: bytes | memoryview) -> bytes:
    signature = hmac.new(key, b"%d:%b" % (len(name), name), hashlib.sha256)
    signature.update(content)
    return signature.digest()
