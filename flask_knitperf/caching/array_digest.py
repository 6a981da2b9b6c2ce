"""Digest of the content of an array or a frame: every cell, dtype, label, name and attribute.

The content is written by pickle, as a schema and buffers (protocol 5), and both are hashed: the buffers
where they are, without a copy.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from .content_hash import new_hash
from .frame_copies import extra_attributes, is_array
from .immutability import LIBRARIES, SCALARS, is_complete_in_pickle
from .instance_state import is_global_of_library

DIGEST_BYTES = 20
"""Bytes of a digest: two contents share one with a chance of 2 ** -80 among a trillion keys."""


def array_digest(value: Any, content: Callable[[Any], bytes]) -> bytes:
    """Return the digest of an array or a frame: of all cells, dtypes, labels, names and attributes.

    Equal frames with another layout of blocks have another digest.

    Args:
        value: an object of numpy or pandas.
        content: returns the digest of an object that is not of a library, such as a cell.

    Returns:
        :data:`DIGEST_BYTES` bytes.

    Raises:
        CacheKeyError: it holds an object without content, or one that cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    pickler = _ContentPickler(stream, buffers, content)
    try:
        pickler.dump(value)
    except CacheKeyError as error:
        raise CacheKeyError(f"it holds an object without a key: {error}") from error
    except Exception as error:
        raise_if_of_host(error)
        raise CacheKeyError(f"it holds an object that cannot be pickled ({error})") from error
    total = new_hash()
    total.update(b"%d:" % stream.tell() + stream.getvalue())
    for buffer in buffers:
        raw = buffer.raw()
        total.update(b"%d:" % raw.nbytes)
        total.update(raw)
    return bytes(total.digest()[:DIGEST_BYTES].ljust(DIGEST_BYTES, b"\0"))


class _ContentPickler(pickle.Pickler):
    """Pickler of content alone.

    Arrays of numpy have their cells in buffers, whether or not they may be written to; what arrays of
    pandas remember besides their cells is left out.

    Args:
        stream: receives the schema.
        buffers: receives the cells.
        content: returns the digest of an object that is not of a library.
    """

    def __init__(
        self,
        stream: io.BytesIO,
        buffers: list[pickle.PickleBuffer],
        content: Callable[[Any], bytes],
    ) -> None:
        super().__init__(stream, protocol=5, buffer_callback=buffers.append)
        self.fast = True  # two references to one object are written like two equal objects
        self._buffers, self._content = buffers, content

    def reducer_override(self, value: Any) -> Any:
        """Return the reduced form of an array, a dtype or an object that is not of a library.

        A class of the application decides what a pickle of an instance contains, so two that differ may
        have the same.
        """
        kind = type(value)
        if kind in SCALARS:
            return NotImplemented
        if isinstance(value, type | FunctionType):  # a pickle has its name alone
            if is_global_of_library(value, LIBRARIES):
                return NotImplemented
            return bytes, (self._content(value),)
        if not is_complete_in_pickle(value):
            return bytes, (self._content(value),)
        extra = extra_attributes(value)
        if extra:
            raise CacheKeyError(f"it has the attribute {extra[0]!r}")
        if is_array(value) and not value.dtype.hasobject:
            is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            cells = value.ravel(order="A" if is_fortran else "C").view("u1")
            self._buffers.append(pickle.PickleBuffer(cells))
            return tuple, (("F" if is_fortran else "C", value.dtype, value.shape),)
        if not hasattr(kind, "_from_sequence") and not hasattr(kind, "construct_array_type"):
            return NotImplemented
        reduced = value.__reduce_ex__(5)
        if not isinstance(reduced, tuple) or len(reduced) < 3:
            return reduced
        function, args, state, *more = reduced
        parts = state if isinstance(state, tuple) else (state,)
        kept = [part for part in map(_without_memories, parts) if part is not None]
        return function, args, kept, *more


def _without_memories(state: Any) -> Any:
    """Return a part of the state of an array, ``None`` if nothing in it is content."""
    if not isinstance(state, dict):
        return state
    return {name: state[name] for name in state if name not in _MEMORIES} or None


_MEMORIES = ("_cache", "_readonly")
"""Attributes of arrays of pandas that are not content."""
