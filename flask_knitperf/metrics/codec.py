"""A table of columns as the bytes of a file, and back.

A checksum, a header in JSON, what the series are as text, then the arrays as they lie in memory.
What the series are is the larger half and seldom new, so the header names it by a hash, and whoever
has met that name reads no text; a writer keeps the text of the last heads it wrote.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np

from ..core.errors import StateError
from .columns import Columns, Head, Heads, remember
from .instruments import Key, Kind, Merge

FORMAT = 4
_FIELDS = (("count", "<i8"), ("total", "<i8"), ("low", "<f8"), ("high", "<f8"))
_CELLS = (("row", "<i4"), ("bucket", "<i4"), ("weight", "<i8"))
_HEADS_KEPT = 64
_heads_known: dict[str, Heads] = {}
_TEXTS_KEPT = 2  # a worker's own, and that of all workers together
_texts_known: dict[int, tuple[Heads, bytes, str]] = {}


def encode(columns: Columns, about: dict[str, Any]) -> bytes:
    """Return columns as a file: a checksum, three lines of JSON and text, then the arrays."""
    heads, name = _text(columns.heads)
    header = {
        **about, "format": FORMAT, "rows": len(columns.heads), "cells": len(columns.row),
        "heads": name, "gauges": list(columns.gauges.items()),
        "open": [[row, list(begun.items())] for row, begun in columns.under_way.items()],
    }  # fmt: skip
    body = b"\n".join([
        json.dumps(header, separators=(",", ":")).encode(), heads,
        b"".join(getattr(columns, name).astype(kind).tobytes() for name, kind in _FIELDS + _CELLS),
    ])  # fmt: skip
    return b"%08x\n" % zlib.crc32(body) + body


def decode(data: bytes) -> tuple[Columns, dict[str, Any]]:
    """Return what :func:`encode` was given.

    Raises:
        StateError: the bytes are cut off, damaged or of another format.
    """
    if (
        len(data) < 9
        or data[8:9] != b"\n"
        or data[:8] != b"%08x" % zlib.crc32(memoryview(data)[9:])
    ):
        raise StateError("a table is damaged: its checksum does not fit")
    first = data.index(b"\n", 9)
    about = json.loads(data[9:first])
    if about.get("format") != FORMAT:
        raise StateError(f"a table has format {about.get('format')!r}, not {FORMAT}")
    second = data.index(b"\n", first + 1)
    heads = _heads(about["heads"], memoryview(data)[first + 1 : second])
    arrays: list[Any] = []
    place = second + 1
    for fields, size in ((_FIELDS, about["rows"]), (_CELLS, about["cells"])):
        for _, kind in fields:
            arrays.append(np.frombuffer(data, kind, size, place))
            place += size * np.dtype(kind).itemsize
    gauges = dict(about["gauges"])
    begun = {row: {int(token): at for token, at in pairs} for row, pairs in about["open"]}
    made = Columns(heads, *arrays)
    made.gauges, made.under_way = gauges, begun
    return made, about


def _text(heads: Heads) -> tuple[bytes, str]:
    """Return heads as text, and a name that only this text has; the last ones are kept."""
    found = _texts_known.get(id(heads))
    if found is None or found[0] is not heads:
        text = json.dumps(
            [[h.key.meter, h.key.labels, h.kind.value, h.unit, h.merge.value] for h in heads],
            separators=(",", ":"),
        ).encode()
        found = heads, text, hashlib.blake2b(text, digest_size=16).hexdigest()
        remember(_texts_known, id(heads), found, _TEXTS_KEPT)
    return found[1], found[2]


def _heads(name: str, text: memoryview) -> Heads:
    """Return heads; the same text was mostly seen before, since series are seldom new."""
    found = _heads_known.get(name)
    if found is None:
        found = tuple(
            Head(Key(meter, tuple(labels)), Kind(kind), unit, Merge(how))
            for meter, labels, kind, unit, how in json.loads(bytes(text))
        )
        remember(_heads_known, name, found, _HEADS_KEPT)
    return found
