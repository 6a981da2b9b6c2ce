"""Estimate of the bytes that one request of an endpoint retains, from pairs of readings.

A pair is the sum of two requests, and their order is up to the traffic: beside a leak
that takes most requests, every pair of every endpoint retains something. So the bytes of all endpoints
are solved for together. The estimate of an endpoint is the interquartile mean of its pairs, less the
requests in between, so that neither a cache filled once nor the housekeeper between two readings moves
it. A buffer to which nearly every request adds, and which
one request in forty empties, is not a leak; so the plain mean of all pairs, less twice its standard
error, must be a large part of the estimate, which takes that many pairs. For that test a pair is left
out if the request in between empties such a buffer now and then. Bytes that requests of nearly all
endpoints retain alike belong to the server or to flask_knitperf, not to an endpoint; they are
subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

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
_MIN_ENDPOINTS_FOR_COMMON = 4
"""Number of endpoints below which no bytes count as common to all."""
_MAX_ITERATIONS = 40
_CONVERGED_BYTES = 0.5

Array = npt.NDArray[Any]


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


class FirstBytes(NamedTuple):
    """Bytes that the first request of each pair retained, by endpoint.

    Attributes:
        large: in the C library's heap.
        small: of small objects.
    """

    large: Mapping[EndpointKey, Sequence[float]]
    small: Mapping[EndpointKey, Sequence[float]]


def estimates(
    pairs: Mapping[EndpointKey, Sequence[Pair]], first_bytes: FirstBytes
) -> dict[EndpointKey, Retained]:
    """Return the retained bytes per request of each endpoint with enough pairs.

    Args:
        pairs: by the endpoint of the first request.
        first_bytes: bytes of those first requests.
    """
    large, small = first_bytes
    return {
        key: Retained(_estimate(key, large, pairs), _estimate(key, small, pairs), len(its_pairs))
        for key, its_pairs in pairs.items()
        if len(its_pairs) >= MIN_PAIRS
    }


def retaining(first_bytes: FirstBytes) -> set[EndpointKey]:
    """Return the endpoints whose requests seem to retain memory: the median one does, of either heap."""
    return {
        key
        for by_key in first_bytes
        for key, values in by_key.items()
        if len(values) >= MIN_SURVEY_PAIRS and np.median(values) >= MIN_BYTES
    }


def first_request_bytes(pairs: Mapping[EndpointKey, Sequence[Pair]]) -> FirstBytes:
    """Return the bytes that the first request of each pair retained, by heap and endpoint.

    The bytes of the request in between are subtracted, and those that requests of nearly all endpoints
    retain: the lower quartile of the endpoints.

    Args:
        pairs: by the endpoint of the first request.
    """
    return FirstBytes(*(_first_request_bytes(pairs, heap) for heap in (0, 1)))


def _first_request_bytes(
    pairs: Mapping[EndpointKey, Sequence[Pair]], heap: int
) -> dict[EndpointKey, list[float]]:
    keys = list(pairs)
    index = {key: number for number, key in enumerate(keys)}
    none = len(keys)  # a pair without another endpoint in between, or with one that was never first
    values = [np.array([pair.retained[heap] for pair in pairs[key]], float) for key in keys]
    between = [
        np.array([none if p.between is None else index.get(p.between, none) for p in pairs[key]])
        for key in keys
    ]
    per_request = _solve(values, between)
    surveyed = sorted(per_request[n] for n in range(none) if len(values[n]) >= MIN_SURVEY_PAIRS)
    common = 0.0
    if len(surveyed) >= _MIN_ENDPOINTS_FOR_COMMON:
        common = max(0.0, float(surveyed[len(surveyed) // 4]))
    return {
        key: (values[n] - per_request[between[n]] - common).tolist() for n, key in enumerate(keys)
    }


def _solve(values: Sequence[Array], between: Sequence[Array]) -> Array:
    """Return the bytes that a request of each endpoint retains; the last element is 0.

    Each pair is the sum of two requests, so an endpoint's bytes are the interquartile mean of its pairs
    less those of the requests in between. Solved by damped fixed-point iteration (Jacobi), which splits
    in halves what two endpoints retain that always follow each other.

    Args:
        values: of the pairs of each endpoint, in bytes.
        between: number of the endpoint in between, of each pair; that of none is the last.
    """
    per_request = np.zeros(len(values) + 1)
    for _ in range(_MAX_ITERATIONS):
        means = [
            max(0.0, _interquartile_mean(row - per_request[other]))
            for row, other in zip(values, between, strict=True)
        ]
        step = (np.array([*means, 0.0]) - per_request) / 2
        per_request += step
        if np.abs(step).max() < _CONVERGED_BYTES:
            break
    return per_request


def _interquartile_mean(values: Sequence[float] | Array) -> float:
    skip = len(values) // 4
    return float(np.mean(np.sort(values)[skip : len(values) - skip]))


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
