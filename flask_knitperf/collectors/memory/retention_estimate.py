"""Estimate of the bytes that one request of an endpoint retains, from pairs of readings.

The estimate of an endpoint is the interquartile mean of its pairs, so that neither a cache filled once
nor the housekeeper between two readings moves it. A buffer to which nearly every request adds, and which
one request in forty empties, is not a leak; so the plain mean of all pairs, less twice its standard
error, must be a large part of the estimate, which takes that many pairs. For that test a pair is left
out if the request in between empties such a buffer now and then. Bytes that requests of nearly all
endpoints retain alike belong to the server or to flask_knitperf, not to an endpoint; they are
subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..requests.endpoint_series import EndpointKey
from .allocators import AllocatedBytes

MIN_SURVEY_PAIRS = 6
"""Number of pairs of an endpoint that show whether it retains anything."""
MIN_PAIRS = 160
"""Number of pairs of an endpoint below which there is no estimate. A buffer that one request in forty
empties is seen by then in 99 cases of 100; pandas drops small objects by the hundreds at a time."""
MIN_BYTES = 128
"""Bytes per request below which nothing is reported: a counter that outgrew its last size, and such."""
MIN_LASTING_SHARE = 0.5
"""Share of the estimate that the lower bound of the mean of all pairs must reach."""
JUMP_FACTOR = 8
"""A pair jumps if it differs from its endpoint's estimate by more than this multiple of the estimate
under test."""
_MIN_JUMPS = 2
"""Number of pairs that must jump for an endpoint to count as erratic."""
_ITERATIONS = 8


class Retained(NamedTuple):
    """Bytes retained per request of one endpoint.

    Attributes:
        large: bytes in the C library's heap, 0.0 unless nearly every request retains some.
        small: bytes of small objects, 0.0 unless nearly every request retains some.
        pairs: number of measured requests.
    """

    large: float
    small: float
    pairs: int


class Pair(NamedTuple):
    """Difference between two readings.

    Attributes:
        retained: bytes per request; half the difference where both requests were of one endpoint.
        between: endpoint of the request in between, ``None`` where both were of one endpoint.
    """

    retained: AllocatedBytes
    between: EndpointKey | None


def estimates(
    pairs: Mapping[EndpointKey, Sequence[Pair]], common: AllocatedBytes
) -> dict[EndpointKey, Retained]:
    """Return the retained bytes per request of each endpoint with enough pairs.

    Args:
        pairs: by the endpoint of the first request.
        common: bytes that every request retains.
    """
    large, small = (_first_request_bytes(pairs, heap, common[heap]) for heap in (0, 1))
    return {
        key: Retained(_estimate(key, large, pairs), _estimate(key, small, pairs), len(its_pairs))
        for key, its_pairs in pairs.items()
        if len(its_pairs) >= MIN_PAIRS
    }


def lower_quartile(endpoints: Sequence[Collection[Pair]], heap: int) -> int:
    """Return the lower quartile of the endpoints' medians, in bytes of one heap, at least 0."""
    medians = sorted(
        float(np.median([pair.retained[heap] for pair in list(pairs)])) for pairs in endpoints
    )
    return max(0, round(medians[len(endpoints) // 4]))


def _first_request_bytes(
    pairs: Mapping[EndpointKey, Sequence[Pair]], heap: int, common: int
) -> dict[EndpointKey, list[float]]:
    """Return the bytes retained by the first request of each pair, by endpoint.

    The estimate for the request in between is subtracted from each pair. That estimate is in turn
    computed from pairs, so all are computed by fixed-point iteration.

    Args:
        pairs: by the endpoint of the first request.
        heap: index of the heap.
        common: bytes that every request retains.
    """
    expected: dict[EndpointKey | None, float] = dict.fromkeys((None, *pairs), 0.0)
    own: dict[EndpointKey, list[float]] = {}
    for _ in range(_ITERATIONS):
        own = {
            key: [
                pair.retained[heap] - common - expected.get(pair.between, 0.0) for pair in its_pairs
            ]
            for key, its_pairs in pairs.items()
        }
        for key, values in own.items():
            expected[key] = (expected[key] + max(0.0, _interquartile_mean(values))) / 2
    return own


def _interquartile_mean(values: Sequence[float]) -> float:
    skip = len(values) // 4
    middle = sorted(values)[skip : len(values) - skip]
    return sum(middle) / len(middle)


def _estimate(
    key: EndpointKey,
    own: Mapping[EndpointKey, Sequence[float]],
    pairs: Mapping[EndpointKey, Sequence[Pair]],
) -> float:
    """Return the bytes retained per request of an endpoint.

    Args:
        key: of the endpoint.
        own: bytes retained by the first request of each pair, by endpoint.
        pairs: those pairs.

    Returns:
        0.0 where a quarter of the requests retain next to nothing, or where the mean of all pairs is
        not surely above :data:`MIN_LASTING_SHARE` of the estimate.
    """
    values = own[key]
    if sorted(values)[len(values) // 4] < MIN_BYTES:
        return 0.0
    estimate = _interquartile_mean(values)
    sample = _without_erratic_pairs(key, own, pairs, estimate)
    error = float(np.std(sample, ddof=1)) / math.sqrt(len(sample))
    lasting = float(np.mean(sample)) - 2 * error >= MIN_LASTING_SHARE * estimate
    return estimate if lasting else 0.0


def _without_erratic_pairs(
    key: EndpointKey,
    own: Mapping[EndpointKey, Sequence[float]],
    pairs: Mapping[EndpointKey, Sequence[Pair]],
    estimate: float,
) -> list[float]:
    """Return the bytes retained by an endpoint's requests, as the first of a pair and in between.

    Pairs with a request of an erratic endpoint are left out, unless those are the majority.
    """
    between: list[float] = []
    erratic = set[EndpointKey]()
    for other, values in own.items():
        if other == key:
            continue
        has_key = [pair.between == key for pair in pairs[other]]
        rest = [value for value, has in zip(values, has_key, strict=True) if not has]
        if _is_erratic(rest, JUMP_FACTOR * estimate):
            erratic.add(other)
        elif len(rest) >= MIN_SURVEY_PAIRS:
            middle = _interquartile_mean(rest)
            between += [
                value - middle + estimate for value, has in zip(values, has_key, strict=True) if has
            ]
    first = [
        value
        for value, pair in zip(own[key], pairs[key], strict=True)
        if pair.between not in erratic
    ]
    return [*first, *between] if 2 * len(first) >= len(own[key]) else list(own[key])


def _is_erratic(values: Sequence[float], jump: float) -> bool:
    """Return whether several values are more than ``jump`` away from the interquartile mean."""
    if not values:
        return False
    middle = _interquartile_mean(values)
    return sum(abs(value - middle) > jump for value in values) >= _MIN_JUMPS
