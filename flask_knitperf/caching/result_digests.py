"""Digests of the results of one function, within a share of the function's time.

A stale share needs pairs: the digest of the result that a load stored, and that of a later call. Loads
are rare and serve many hits, so they have precedence; hits are drawn at random, which leaves the share
unbiased, and less often the less time there is. Where even loads cost too much, a part of the
keys is left out, by their hash: the keys of half the part are among those of the whole.

Time is saved up while the function runs, of which :data:`MAX_HASH_NS` at most are kept when a result is
hashed. No result is hashed for longer than that: values and bytes are counted before they are encoded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from ..core.sampling import GOLDEN
from .keys import Encoding

MAX_HASH_NS = 50_000_000
"""Longest time for which a result is hashed, in nanoseconds."""
MIN_HASH_NS = 20_000
"""Time that the first result is expected to take."""
RESERVE = 4
"""Number of expected hashes that must be saved up for a hit, so that loads find time."""
SPREAD = 64
"""Number of expected hashes that must be saved up for every hit to be hashed. A single one takes little
of that, so that a hit is drawn as probably soon after a load as late after it."""
MAX_HALVINGS = 6
"""Number of times that the part of the keys whose results are hashed is halved at most."""
MIN_KEYS = 8
"""Number of hashed keys below which that part is not halved."""
_CREDIT_NS = 200_000  # with which a function begins, so that its first loads are hashed
_COMPARE_NS = 5_000  # of comparing the digest in all caches
_NS_PER_PART = 700  # of an encoded value
_NS_PER_BYTE = 1  # of text, and of the cells of arrays
_NS_PER_OBJECT = 200  # of a cell that is a Python object
_DENIED_LOADS = 8  # loads without time after which the part of the keys is halved


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
        is_partial: whether results of only a part of the keys, or of the loads, are hashed.
        spent_ns: time that hashing took.
    """

    def __init__(
        self, share: float, draw: Callable[[], float] = random.random,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:  # fmt: skip
        self._share, self._draw, self._clock = share, draw, clock
        self.problem = ""
        self.is_partial = False
        self.spent_ns = 0
        self._saved_ns = float(_CREDIT_NS)
        self._expected_ns = float(MIN_HASH_NS)
        self._mask = 0  # a key is hashed if these bits of its number are 0
        self._denied = 0

    def of_load(self, value: Any, key: Hashable, took_ns: int, keys: int) -> bytes | None:
        """Return the digest of a result that a cache would store, ``None`` if it is not hashed.

        Args:
            value: the result.
            key: of the call.
            took_ns: time of the call.
            keys: number of keys so far.
        """
        self._saved_ns += took_ns * self._share
        if self.problem or self._is_left_out(key):
            return None
        return self._hashed(value) if self._may_load(keys) else None

    def of_hit(self, value: Any, key: Hashable, took_ns: int) -> bytes | None:
        """Return the digest of a result that caches would have had, ``None`` if it is not hashed.

        It is drawn: the more time is saved up, the more probably.

        Args:
            value: the result.
            key: of the call.
            took_ns: time of the call.
        """
        self._saved_ns = saved = self._saved_ns + took_ns * self._share
        spare = saved - RESERVE * self._expected_ns
        if (
            spare <= 0
            or self._draw() * SPREAD * self._expected_ns >= spare
            or self.problem
            or self._is_left_out(key)
        ):
            return None
        return self._hashed(value)

    def _is_left_out(self, key: Hashable) -> bool:
        return bool(self._mask and (hash(key) * GOLDEN >> 20) & self._mask)

    def start_comparisons(self) -> None:
        """Note that hits are compared from the start again; which keys are hashed stays as it is."""
        self.is_partial = self._mask > 0

    def _may_load(self, keys: int) -> bool:
        """Return whether there is time for the result of a load; make do with fewer keys if not."""
        if self._saved_ns >= self._expected_ns:
            self._denied = 0
            return True
        self.is_partial = True
        self._denied += 1
        if (
            self._denied >= _DENIED_LOADS
            and self._mask < (1 << MAX_HALVINGS) - 1
            and keys >= 2 * MIN_KEYS * (self._mask + 1)
        ):
            self._denied, self._mask = 0, 2 * self._mask + 1
        return False

    def _hashed(self, value: Any) -> bytes | None:
        began, digest = self._clock(), None
        self._saved_ns = min(self._saved_ns, MAX_HASH_NS)
        encoding = _BoundedEncoding(round(self._saved_ns))
        try:
            encoding.add(value)
            digest = encoding.digest()
        except TooLargeError as error:
            raise_if_of_host(error)
            self._expected_ns = min(4 * max(self._expected_ns, self._saved_ns), 2.0 * MAX_HASH_NS)
        except CacheKeyError as error:
            raise_if_of_host(error)
            self.problem = str(error)
        except Exception as error:  # such as a lack of memory
            raise_if_of_host(error)
            self.problem = f"{error!r}"
        took = self._clock() - began + _COMPARE_NS
        self.spent_ns += took
        self._saved_ns -= took
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
            raise TooLargeError("it would take too long to hash")

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
