"""Digests of the results of one function, within a share of the function's time.

A stale share needs pairs: the digest of the result that a load stored, and that of a later call. Half of
the time is for loads, the other half and whatever they do not need is for hits, which gives the most
pairs. Both are drawn at random, the more probably the more time is saved up, so the share is unbiased.
Where not all loads are hashed, the hits of one load depend on one another, and count less.

Time is saved up while the function runs, :data:`MAX_HASH_NS` at most. No result is hashed for longer
than that: values and bytes are counted before they are encoded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from .keys import Encoding

MAX_HASH_NS = 50_000_000
"""Longest time for which a result is hashed, in nanoseconds."""
MIN_HASH_NS = 20_000
"""Time that the first result is expected to take."""
LOAD_SPREAD = 8
"""Number of expected hashes that must be saved up for every load to be hashed."""
HIT_SPREAD = 64
"""The same for every hit. A single one takes little of that, so that a hit is drawn as probably soon
after another one as late after it."""
_COMPARE_NS = 5_000  # of comparing the digest in all caches
_NS_PER_PART = 700  # of an encoded value
_NS_PER_BYTE = 1  # of text, and of the cells of arrays
_NS_PER_OBJECT = 200  # of a cell that is a Python object


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
        clock: returns nanoseconds.

    Attributes:
        problem: why results cannot be compared, empty if they can.
        is_partial: whether results of only a part of the loads are hashed.
        spent_ns: time that hashing took.
    """

    def __init__(
        self, share: float, draw: Callable[[], float] = random.random,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:  # fmt: skip
        self._half, self._draw, self._clock = share / 2, draw, clock
        self.problem = ""
        self.is_partial = False
        self.spent_ns = 0
        self._expected_ns = float(MIN_HASH_NS)
        # a function begins with some time, so that its first loads are hashed
        self._for_loads = self._for_hits = float(LOAD_SPREAD * MIN_HASH_NS)

    def of_load(self, value: Any, took_ns: int) -> bytes | None:
        """Return the digest of a result that a cache would store, ``None`` if it is not hashed.

        Args:
            value: the result.
            took_ns: time of the call.
        """
        half, enough = took_ns * self._half, LOAD_SPREAD * self._expected_ns
        self._for_hits += half
        self._for_loads += half
        if self._for_loads > enough:
            self._for_hits += self._for_loads - enough
            self._for_loads = enough
        if self.problem:
            return None
        if self._for_loads < self._expected_ns or self._draw() * enough >= self._for_loads:
            self.is_partial = True
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
        half = took_ns * self._half
        self._for_loads += half
        self._for_hits = saved = self._for_hits + half
        expected = self._expected_ns
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
        """Note that hits are compared from the start again."""
        self.is_partial = False

    def _hashed(self, value: Any, saved_ns: float) -> bytes | None:
        """Return the digest of a result, ``None`` if the saved time does not suffice."""
        self._for_loads = min(self._for_loads, MAX_HASH_NS)
        self._for_hits = min(self._for_hits, MAX_HASH_NS)
        began, digest = self._clock(), None
        encoding = _BoundedEncoding(round(min(saved_ns, MAX_HASH_NS)))
        try:
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
        if digest is not None:  # results differ in size
            self._expected_ns = max(took, 0.9 * self._expected_ns, 1.0)
        if self._expected_ns > MAX_HASH_NS:
            self.problem = "hashing one takes too long"
        return digest


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
