"""Binary encoding of columns: a checksum, a JSON header, the series descriptors, the arrays.

The descriptors are the larger half and rarely change, so the header identifies them by a hash: a reader
that has this hash in its cache skips parsing them, and a writer caches their text.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np

from ..core.errors import StateError
from .columns import Columns, Descriptor, Descriptors, remember
from .instruments import Key, Kind, Merge

FORMAT = 16
"""Version of everything in a run's directory: logs, tables, names of meters, values of labels, keys of
evidence. Count it up when one of them changes its meaning: a run of another version is refused."""
_FIELDS = (("count", "<i8"), ("total", "<i8"), ("low", "<f8"), ("high", "<f8"))
_CELLS = (("row", "<i4"), ("bucket", "<i4"), ("weight", "<i8"))
_MAX_DESCRIPTORS = 64
_descriptors_by_hash: dict[str, Descriptors] = {}
_MAX_TEXTS = 2  # that of the worker, and that of all workers merged
_text_by_id: dict[int, tuple[Descriptors, bytes, str]] = {}


def encode(columns: Columns, about: dict[str, Any]) -> bytes:
    """Return the bytes of a file with these columns and the header fields ``about``."""
    descriptors, name = _text(columns.descriptors)
    header = {
        **about, "format": FORMAT, "rows": len(columns.descriptors), "cells": len(columns.row),
        "descriptors": name, "gauges": list(columns.gauges.items()),
        "open": [[row, list(begun.items())] for row, begun in columns.in_progress.items()],
    }  # fmt: skip
    body = b"\n".join([
        json.dumps(header, separators=(",", ":")).encode(), descriptors,
        b"".join(getattr(columns, name).astype(kind).tobytes() for name, kind in _FIELDS + _CELLS),
    ])  # fmt: skip
    return b"%08x\n" % zlib.crc32(body) + body


def decode(data: bytes) -> tuple[Columns, dict[str, Any]]:
    """Return the arguments of :func:`encode`.

    Raises:
        StateError: the bytes are truncated, damaged or of another format version.
    """
    if (
        len(data) < 9
        or data[8:9] != b"\n"
        or data[:8] != b"%08x" % zlib.crc32(memoryview(data)[9:])
    ):
        raise StateError("a table is damaged: its checksum does not match")
    first = data.index(b"\n", 9)
    about = json.loads(data[9:first])
    if about.get("format") != FORMAT:
        raise StateError(
            f"the state directory has format {about.get('format')!r} and this version reads {FORMAT}: "
            "it was written by another version of flask_knitperf; remove the directory"
        )
    second = data.index(b"\n", first + 1)
    descriptors = _heads(about["descriptors"], memoryview(data)[first + 1 : second])
    arrays: list[Any] = []
    offset = second + 1
    for fields, size in ((_FIELDS, about["rows"]), (_CELLS, about["cells"])):
        for _, kind in fields:
            arrays.append(np.frombuffer(data, kind, size, offset))
            offset += size * np.dtype(kind).itemsize
    gauges = dict(about["gauges"])
    begun = {row: {int(token): at for token, at in pairs} for row, pairs in about["open"]}
    columns = Columns(descriptors, *arrays)
    columns.gauges, columns.in_progress = gauges, begun
    return columns, about


def _text(descriptors: Descriptors) -> tuple[bytes, str]:
    """Return descriptors as text, and the hash of it; the last ones are cached."""
    entry = _text_by_id.get(id(descriptors))
    if entry is None or entry[0] is not descriptors:
        text = json.dumps(
            [[h.key.meter, h.key.labels, h.kind.value, h.unit, h.merge.value] for h in descriptors],
            separators=(",", ":"),
        ).encode()
        entry = descriptors, text, hashlib.blake2b(text, digest_size=16).hexdigest()
        remember(_text_by_id, id(descriptors), entry, _MAX_TEXTS)
    return entry[1], entry[2]


def _heads(name: str, text: memoryview) -> Descriptors:
    """Return the descriptors with a hash, parsing their text only if they are not cached."""
    descriptors = _descriptors_by_hash.get(name)
    if descriptors is None:
        descriptors = tuple(
            Descriptor(Key(meter, tuple(labels)), Kind(kind), unit, Merge(how))
            for meter, labels, kind, unit, how in json.loads(bytes(text))
        )
        remember(_descriptors_by_hash, name, descriptors, _MAX_DESCRIPTORS)
    return descriptors
