"""Digests of the results of one function, within a share of the function's time.

A stale share needs pairs: the digest of the result that a load stored, and that of a later call. Half of
the time is for loads, the other half and whatever they do not need is for hits, which gives the most
pairs. Both are drawn at random, the more probably the more time is saved up, so the share is unbiased.
Where not all loads are hashed, the hits of one load depend on one another, and count less.

Time is saved up while the function runs, :data:`MAX_HASH_NS` at most. No result is hashed for longer
than that: values and bytes are counted before they are encoded.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import pickle
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from .array_digest import DIGEST_BYTES
from .keys import Encoding

MAX_HASH_NS = 50_000_000
"""Longest time for which a result is hashed, in nanoseconds."""
MIN_HASH_NS = 20_000
"""Time that the first result is expected to take."""
LOAD_SPREAD = 4
"""Number of expected hashes that must be saved up for every load to be hashed."""
MAX_SAVED_LOADS = 16
"""Number of expected hashes that are saved up for loads at most; the rest is for hits."""
HIT_SPREAD = 16
"""The same for every hit. A single one takes little of that, so that a hit is drawn as probably soon
after another one as late after it."""
_REMEMBERED = 4  # hashes of which the expected time is about the mean
_COMPARE_NS = 5_000  # of comparing the digest in all caches
_NS_PER_PART = 700  # of an encoded value
_NS_PER_BYTE = 1  # of text, and of the cells of arrays
_NS_PER_PICKLED_BYTE = 8
_SET, _FROZENSET = pickle.EMPTY_SET, pickle.FROZENSET
_NS_PER_OBJECT = 200  # of a cell that is a Python object


_SCALARS = frozenset({
    decimal.Decimal, uuid.UUID, dt.date, dt.datetime, dt.time, dt.timedelta,
    dt.timezone,
})  # fmt: skip
_NS_BY_TYPE: dict[Any, int] = {
    str: _NS_PER_BYTE, bytes: _NS_PER_BYTE, bytearray: _NS_PER_BYTE, list: _NS_PER_PART,
    tuple: _NS_PER_PART, dict: _NS_PER_PART, set: _NS_PER_PART, frozenset: _NS_PER_PART,
}  # fmt: skip
_TOO_LARGE = "it would take too long to hash"


class TooLargeError(CacheKeyError):
    """A result that would take longer to hash than there is time for."""


class ResultDigests:
    """Hashes results of one function as far as there is time.

    Args:
        share: of the function's time that hashing may take.
        draw: returns random numbers of at least 0 and below 1.
        clock: returns CPU nanoseconds of the thread; the wall clock has the turns of other threads.

    Attributes:
        problem: why results cannot be compared, empty if they can.
        spent_ns: time that hashing took.
    """

    def __init__(
        self, share: float, draw: Callable[[], float] = random.random,
        clock: Callable[[], int] = time.thread_time_ns,
    ) -> None:  # fmt: skip
        self._half, self._draw, self._clock = share / 2, draw, clock
        self.problem = ""
        self.spent_ns = 0
        self._loads = self._unhashed = 0  # since the comparisons were last started
        self._expected_ns = float(MIN_HASH_NS)
        # a function begins with some time, so that its first loads are hashed
        self._for_loads = float(MAX_SAVED_LOADS * MIN_HASH_NS)
        self._for_hits = float(HIT_SPREAD * MIN_HASH_NS)

    def of_load(self, value: Any, took_ns: int) -> bytes | None:
        """Return the digest of a result that a cache would store, ``None`` if it is not hashed.

        Args:
            value: the result.
            took_ns: time of the call.
        """
        half, enough = took_ns * self._half, MAX_SAVED_LOADS * self._expected_ns
        self._loads += 1
        self._for_hits += half
        self._for_loads += half
        if self._for_loads > enough:
            self._for_hits += self._for_loads - enough
            self._for_loads = enough
        if self.problem:
            return None
        expected = self._expected_ns
        if (
            self._for_loads < expected
            or self._draw() * LOAD_SPREAD * expected >= self._for_loads
        ):  # fmt: skip
            self._unhashed += 1
            return None
        spent = self.spent_ns
        digest = self._hashed(value, self._for_loads)
        self._for_loads -= self.spent_ns - spent
        return digest

    def of_hit(self, value: Any, took_ns: int) -> bytes | None:
        """Return the digest of a result that caches would have had, ``None`` if it is not hashed.

        Args:
            value: the result.
            took_ns: time of the call.
        """
        half, expected = took_ns * self._half, self._expected_ns
        if self._for_loads < MAX_SAVED_LOADS * expected:
            self._for_loads += half
            self._for_hits = saved = self._for_hits + half
        else:
            self._for_hits = saved = self._for_hits + 2 * half
        if (
            saved < expected
            or self.problem
            or (saved < HIT_SPREAD * expected and self._draw() * HIT_SPREAD * expected >= saved)
        ):
            return None
        spent = self.spent_ns
        digest = self._hashed(value, saved)
        self._for_hits -= self.spent_ns - spent
        return digest

    def start_comparisons(self) -> None:
        """Begin the share of loads that are not hashed again."""
        self._loads = self._unhashed = 0

    @property
    def unhashed_share(self) -> float:
        """Share of the loads whose results are not hashed."""
        return self._unhashed / self._loads if self._loads else 0.0

    def _hashed(self, value: Any, saved_ns: float) -> bytes | None:
        """Return the digest of a result, ``None`` if the saved time does not suffice."""
        self._for_loads = min(self._for_loads, MAX_HASH_NS)
        self._for_hits = min(self._for_hits, MAX_HASH_NS)
        began, digest = self._clock(), None
        allowed_ns = round(min(saved_ns, MAX_HASH_NS))
        try:
            digest = plain_digest(value, allowed_ns)
            if digest is None:
                encoding = _BoundedEncoding(allowed_ns)
                encoding.add(value)
                digest = encoding.digest()
        except TooLargeError as error:
            raise_if_of_host(error)
            self._expected_ns = min(4 * max(self._expected_ns, saved_ns), 2.0 * MAX_HASH_NS)
        except CacheKeyError as error:
            raise_if_of_host(error)
            self.problem = str(error)
        except Exception as error:  # such as a lack of memory
            raise_if_of_host(error)
            self.problem = f"{error!r}"
        took = self._clock() - began + _COMPARE_NS
        self.spent_ns += took
        if digest is not None:
            self._expected_ns += (took - self._expected_ns) / _REMEMBERED
        if self._expected_ns > MAX_HASH_NS:
            self.problem = "hashing one takes too long"
        return digest


def plain_digest(value: Any, allowed_ns: int) -> bytes | None:
    """Return the digest of a value of plain containers and scalars, ``None`` for any other.

    Pickle writes these in C, several times as fast as :class:`.keys.Encoding`, and calls no method of
    the application. Equal sets may be written in another order, so values with one are not plain.

    Args:
        value: the value.
        allowed_ns: time that it may take.

    Raises:
        TooLargeError: it would take longer.
    """
    if type(value) in _NS_BY_TYPE and len(value) * _NS_PER_PICKLED_BYTE > allowed_ns:
        raise TooLargeError(_TOO_LARGE)
    sink = _Sink(allowed_ns)
    pickler = _PlainPickler(sink)
    try:
        pickler.dump(value)
    except TooLargeError:
        raise
    except Exception as error:  # an object of a class, or a container that contains itself
        raise_if_of_host(error)
        return None
    return None if sink.may_have_sets else sink.total.digest()


class _NotPlainError(Exception):
    """A value that is not of plain containers and scalars."""


class _PlainPickler(pickle.Pickler):
    """Pickler of plain containers and scalars."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, protocol=5)
        self.fast = True  # two references to one object are written like two equal objects

    def reducer_override(self, value: Any) -> Any:
        """Let a scalar, or its class, be written; called for what is not of a builtin type."""
        kind = type(value)
        if kind in _SCALARS or (kind is type and value in _SCALARS):
            return NotImplemented
        raise _NotPlainError


class _Sink:
    """Hashes what a pickler writes, in pieces of 64 KB.

    Attributes:
        total: the hash.
        may_have_sets: whether the opcode of a set, or an equal byte, was written.
    """

    def __init__(self, allowed_ns: int) -> None:
        self.total = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.may_have_sets = False
        self._left = allowed_ns // _NS_PER_PICKLED_BYTE

    def write(self, data: Any) -> None:
        """Add a piece.

        Raises:
            TooLargeError: there is no time for it.
        """
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError(_TOO_LARGE)
        self.may_have_sets = self.may_have_sets or _SET in data or _FROZENSET in data
        self.total.update(data)


class _BoundedEncoding(Encoding):
    """Encoder that raises for a value which would take longer than a number of nanoseconds.

    Args:
        left_ns: the time.
    """

    __slots__ = ("_left_ns",)

    def __init__(self, left_ns: int) -> None:
        super().__init__()
        self._left_ns = left_ns

    def _take(self, ns: int) -> None:
        self._left_ns -= ns
        if self._left_ns < 0:
            raise TooLargeError(_TOO_LARGE)

    def add(self, value: Any) -> None:
        """Encode a value.

        Raises:
            TooLargeError: there is no time for it.
            CacheKeyError: it, or something in it, has no content that could be encoded.
        """
        ns = _NS_BY_TYPE.get(type(value))
        if ns is not None and len(value) * ns > self._left_ns:  # before the encoder copies it
            raise TooLargeError(_TOO_LARGE)
        super().add(value)

    def text(self, tag: bytes, content: bytes) -> None:
        """Add content of any length.

        Raises:
            TooLargeError: there is no time for it.
        """
        self._take(len(content) * _NS_PER_BYTE)
        super().text(tag, content)

    def items(self, tag: bytes, items: Iterable[Any], count: int) -> None:
        """Add a container's items.

        Raises:
            TooLargeError: there is no time for them.
            CacheKeyError: an item cannot be encoded, or the container is nested too deeply.
        """
        self._take(count * _NS_PER_PART)
        super().items(tag, items, count)

    def unordered(self, tag: bytes, values: Iterable[Any]) -> None:
        """Add the values of a set.

        Raises:
            TooLargeError: there is no time for them.
            CacheKeyError: one of them cannot be encoded.
        """
        values = list(values)
        self._take(2 * len(values) * _NS_PER_PART)
        super().unordered(tag, values)

    def _add_array(self, value: Any) -> None:
        self._take(_array_ns(value))
        super()._add_array(value)


def _array_ns(value: Any) -> int:
    """Return the time that hashing an array, a frame or a scalar of a library takes at most."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") == "O" or getattr(dtype, "hasobject", False) is True:
        return int(value.size) * _NS_PER_OBJECT
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes * _NS_PER_BYTE
    kinds = getattr(value, "dtypes", None)
    if kinds is None:
        return 0
    objects = sum(getattr(kind, "kind", "") == "O" for kind in kinds)
    row_ns = objects * _NS_PER_OBJECT + (len(kinds) - objects) * 8 * _NS_PER_BYTE
    return len(value) * int(row_ns)
