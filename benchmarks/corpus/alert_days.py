"""Simulated days of one endpoint, with planted slow-downs and harmless oddities.

A day is one of an office and its mill: a handful of requests per hour at night, peaks when shifts
start, a dip at lunch, weekends with less, about 33,000 requests on average. Arrivals are Poisson;
their intensity wobbles and has short bursts. Response times are a lognormal body, a second mode
(cold caches, large orders) and rare outliers of seconds. Their level wobbles over tens of minutes,
partly with the traffic: by 6 % on even days, by 10 % on odd ones. The true 95th percentile at calm
times is 0.73 of the limit on average, and at most 0.94.

Harmless oddities: a report that a person clicks 3 to 5 times in seconds, stalls of a few seconds,
slow spells of under a minute, about ten slow requests after the nightly restart, single outliers.
Any five minutes of the daytime have at most one click series, stall or spell: two of them at once
could truly put more than 5 % of the requests over the limit.

Of any 1,000 days that begin at a multiple of 1,000, 53 have a doubling, 53 a tripling and 57 a mild
slow-down (factor 1.5); a day has at most one. The author of this module had not seen the detector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LIMIT_MS: float = 500.0
DAY_S = 86_400

# Arrivals
CELL_S = 10
MINUTES_PER_DAY = 1_440
PROFILE_HOURS = (
    0.0, 4.0, 5.0, 5.6, 6.1, 7.0, 8.2, 9.5, 11.4, 12.3, 13.1, 14.1, 16.0, 17.2, 18.5, 21.0,
    22.1, 23.0, 24.0,
)  # fmt: skip
PROFILE_REQUESTS_PER_HOUR = (
    8, 6, 40, 500, 2_000, 2_200, 3_800, 4_100, 3_900, 1_800, 3_400, 3_800, 3_000, 1_700, 900, 600,
    250, 30, 8,
)  # fmt: skip
WEEKDAY_FACTORS = (1.04, 0.97, 0.99, 0.95, 0.88, 0.49, 0.24)  # Monday first
DAY_SPREAD = 0.08  # of the log of a day's traffic
TRAFFIC_SPREAD = 0.18  # of the log of the intensity
TRAFFIC_MEMORY_S = 1_200.0
BURSTS_PER_DAY = 8.0
BURST_S = (30.0, 180.0)
BURST_FACTORS = (2.0, 4.0)

# Response times
BODY_MEDIAN_MS = 158.5
BODY_SPREAD = 0.42  # of the log
SECOND_MODE_SHARE = 0.08
SECOND_MODE_FACTOR = 2.0  # of the median
SECOND_MODE_SPREAD = 0.35
OUTLIER_SHARE = 0.001
OUTLIER_MS = (1_000.0, 15_000.0)
LEVEL_SPREADS = (0.06, 0.10)  # of the log: even days, odd days
LEVEL_MEMORY_S = 1_800.0
LEVEL_BY_TRAFFIC = 0.5  # correlation of the two wobbles
WOBBLE_BOUND = 2.5  # standard deviations

# Harmless oddities
ODDITIES_FROM_S = 19_800.0  # 05:30
ODDITY_SLOTS = 66  # until 22:00
ODDITY_SLOT_S = 900.0
ODDITY_LATEST_S = 540.0  # start within its slot
REPEATS_PER_DAY = 3.0
REPEAT_REQUESTS = (3, 5)
REPEAT_S = (2.0, 8.0)
REPEAT_LIMITS = (1.2, 4.0)  # response time of the report, in limits
STALLS_PER_DAY = 4.0
STALL_S = (1.0, 4.0)
SPELLS_PER_DAY = 2.0
SPELL_S = (10.0, 55.0)
SPELL_FACTORS = (1.3, 2.0)
RESTART_S = (7_200.0, 16_200.0)  # 02:00 to 04:30
COLD_REQUESTS = (8, 12)
COLD_FACTORS = (10.0, 2.5)  # first and last cold request

# Incidents
BLOCK_DAYS = 1_000
INCIDENTS_PER_BLOCK = {2.0: 53, 3.0: 53, 1.5: 57}
INCIDENT_S = (300.0, 3_600.0)
WINDOW_S = 300
MIN_WINDOW_REQUESTS = 30


class Incident(NamedTuple):
    """A slow-down of all requests that arrive in ``[start_s, end_s)``.

    Attributes:
        start_s: seconds from the start of its day.
        end_s: seconds from the start of its day.
        factor: of all response times.
    """

    start_s: float
    end_s: float
    factor: float


class Day(NamedTuple):
    """The requests to one endpoint on one day.

    Attributes:
        index: of the day; multiples of 7 are Mondays.
        times_s: arrivals in seconds from the start of the day, sorted, shape (n,).
        latencies_ms: response times in milliseconds, shape (n,).
        incidents: in order of time; they never overlap.
    """

    index: int  # type: ignore[assignment]  # hides the method of tuples
    times_s: FloatArray
    latencies_ms: FloatArray
    incidents: list[Incident]


def days(seed: int, number: int) -> Iterator[Day]:
    """Generate days in order of their index.

    Args:
        seed: not negative.
        number: of days; it leaves their contents alone.

    Yields:
        The days with the indices 0 to ``number - 1``.
    """
    for index in range(number):
        yield day(seed, index)


def day(seed: int, index: int) -> Day:
    """Generate one day.

    Args:
        seed: not negative.
        index: of the day, not negative.

    Returns:
        The day; the same for the same arguments.
    """
    rng = np.random.default_rng([seed, index])
    traffic = _wobble(rng, TRAFFIC_MEMORY_S)
    own = _wobble(rng, LEVEL_MEMORY_S)
    level = LEVEL_BY_TRAFFIC * traffic + np.sqrt(1 - LEVEL_BY_TRAFFIC**2) * own
    level = LEVEL_SPREADS[index % 2] * np.clip(level, -WOBBLE_BOUND, WOBBLE_BOUND)

    times_s = _arrivals(rng, index, traffic)
    latencies_ms = _calm_latencies(rng, len(times_s))
    latencies_ms *= np.exp(_per_minute(level, times_s))
    _cold_start(rng, times_s, latencies_ms)
    times_s, latencies_ms = _oddities(rng, times_s, latencies_ms)

    incidents = _incidents(rng, times_s, _factor(seed, index))
    for incident in incidents:
        during = (times_s >= incident.start_s) & (times_s < incident.end_s)
        latencies_ms[during] *= incident.factor
    return Day(index, times_s, latencies_ms, incidents)


def _wobble(rng: np.random.Generator, memory_s: float) -> FloatArray:
    """Draw an autoregressive process of unit variance, a value per minute.

    Args:
        rng: source of randomness.
        memory_s: seconds after which the autocorrelation is 1/e.

    Returns:
        Values at the minutes 0 to 1,440, shape (1441,).
    """
    steps = int(5 * memory_s / 60)
    kernel = np.exp(-60.0 / memory_s * np.arange(steps))
    kernel /= np.sqrt(np.sum(kernel**2))
    noise = rng.standard_normal(MINUTES_PER_DAY + steps)
    return np.convolve(noise, kernel, mode="valid")


def _per_minute(values: FloatArray, times_s: FloatArray) -> FloatArray:
    """Interpolate values at full minutes, shape (1441,), to times in seconds, shape (n,)."""
    return np.interp(times_s, 60.0 * np.arange(MINUTES_PER_DAY + 1), values)


def _arrivals(rng: np.random.Generator, index: int, traffic: FloatArray) -> FloatArray:
    """Draw the arrivals of a day.

    Args:
        rng: source of randomness.
        index: of the day.
        traffic: wobble of the intensity per minute, shape (1441,).

    Returns:
        Sorted seconds from the start of the day, shape (n,).
    """
    starts_s = np.arange(0.0, DAY_S, CELL_S)
    middles_s = starts_s + CELL_S / 2
    per_s = np.interp(middles_s / 3_600, PROFILE_HOURS, PROFILE_REQUESTS_PER_HOUR) / 3_600
    per_s *= WEEKDAY_FACTORS[index % 7] * rng.lognormal(0.0, DAY_SPREAD)
    per_s *= np.exp(TRAFFIC_SPREAD * _per_minute(traffic, middles_s) - TRAFFIC_SPREAD**2 / 2)
    for _ in range(rng.poisson(BURSTS_PER_DAY)):
        start_s = rng.uniform(0.0, DAY_S)
        burst = (middles_s >= start_s) & (middles_s < start_s + rng.uniform(*BURST_S))
        per_s[burst] *= rng.uniform(*BURST_FACTORS)
    counts = rng.poisson(per_s * CELL_S)
    times_s = np.repeat(starts_s, counts)
    times_s += CELL_S * rng.random(len(times_s))
    times_s.sort()
    return times_s


def _calm_latencies(rng: np.random.Generator, number: int) -> FloatArray:
    """Draw response times at the mean level, in milliseconds, shape (number,)."""
    latencies_ms = BODY_MEDIAN_MS * np.exp(BODY_SPREAD * rng.standard_normal(number))
    kind = rng.random(number)
    outlier = kind < OUTLIER_SHARE
    second = ~outlier & (kind < OUTLIER_SHARE + SECOND_MODE_SHARE)
    median_ms = BODY_MEDIAN_MS * SECOND_MODE_FACTOR
    latencies_ms[second] = rng.lognormal(np.log(median_ms), SECOND_MODE_SPREAD, second.sum())
    latencies_ms[outlier] = _log_uniform(rng, OUTLIER_MS, int(outlier.sum()))
    return latencies_ms


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float], number: int) -> FloatArray:
    """Draw values whose logarithm is uniform between those of the bounds, shape (number,)."""
    low, high = bounds
    return np.exp(rng.uniform(np.log(low), np.log(high), number))


def _cold_start(rng: np.random.Generator, times_s: FloatArray, latencies_ms: FloatArray) -> None:
    """Slow the first requests after the nightly restart, in place.

    Args:
        rng: source of randomness.
        times_s: sorted arrivals, shape (n,).
        latencies_ms: response times, changed by the call, shape (n,).
    """
    first = int(np.searchsorted(times_s, rng.uniform(*RESTART_S)))
    cold = latencies_ms[first : first + rng.integers(COLD_REQUESTS[0], COLD_REQUESTS[1] + 1)]
    cold *= np.geomspace(*COLD_FACTORS, len(cold))


def _oddities(
    rng: np.random.Generator, times_s: FloatArray, latencies_ms: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Add the click series, stalls and spells of a day, at most one to a slot of time.

    Args:
        rng: source of randomness.
        times_s: sorted arrivals, shape (n,).
        latencies_ms: response times, changed by the call, shape (n,).

    Returns:
        Sorted arrivals in seconds and their response times in milliseconds, both of shape (m,);
        m exceeds n by the requests of the click series.
    """
    numbers = rng.poisson((SPELLS_PER_DAY, STALLS_PER_DAY, REPEATS_PER_DAY))
    starts_s = ODDITIES_FROM_S + ODDITY_SLOT_S * rng.permutation(ODDITY_SLOTS)
    starts_s += rng.uniform(0.0, ODDITY_LATEST_S, ODDITY_SLOTS)
    spells, stalls, repeats, _ = np.split(starts_s, np.cumsum(numbers))

    for start_s in spells:
        end_s = start_s + rng.uniform(*SPELL_S)
        during = slice(*np.searchsorted(times_s, (start_s, end_s)))
        latencies_ms[during] *= rng.uniform(*SPELL_FACTORS)
    for start_s in stalls:
        end_s = start_s + rng.uniform(*STALL_S)
        during = slice(*np.searchsorted(times_s, (start_s, end_s)))
        latencies_ms[during] += 1_000 * (end_s - times_s[during])

    added_s, added_ms = [times_s], [latencies_ms]
    for start_s in repeats:
        number = int(rng.integers(REPEAT_REQUESTS[0], REPEAT_REQUESTS[1] + 1))
        added_s.append(start_s + rng.uniform(*REPEAT_S) * rng.random(number))
        report_ms = LIMIT_MS * rng.uniform(*REPEAT_LIMITS)
        added_ms.append(rng.lognormal(np.log(report_ms), 0.1, number))
    times_s, latencies_ms = np.concatenate(added_s), np.concatenate(added_ms)
    order = np.argsort(times_s, kind="stable")
    return times_s[order], latencies_ms[order]


def _factor(seed: int, index: int) -> float | None:
    """Return the factor of the incident that a day is due to have, ``None`` without one."""
    block, place = divmod(index, BLOCK_DAYS)
    # The last number keeps this stream apart from that of a day.
    rank = int(np.random.default_rng([seed, block, 1]).permutation(BLOCK_DAYS)[place])
    for factor, number in INCIDENTS_PER_BLOCK.items():
        if rank < number:
            return factor
        rank -= number
    return None


def _incidents(
    rng: np.random.Generator, times_s: FloatArray, factor: float | None
) -> list[Incident]:
    """Place the incident of a day where all windows that end during it have enough requests.

    Durations are log-uniform; one that fits nowhere is halved until it fits.

    Args:
        rng: source of randomness.
        times_s: sorted arrivals in seconds, shape (n,).
        factor: of the incident, ``None`` without one.

    Returns:
        At most one incident; none if even the shortest fits nowhere.
    """
    if not factor:
        return []
    busy = _busy_cells(times_s)
    blocked = np.concatenate(([0], np.cumsum(~busy)))
    length_s = float(_log_uniform(rng, INCIDENT_S, 1)[0])
    while True:
        cells = int(np.ceil(length_s / CELL_S)) + 1  # the start lies within its first cell
        starts = np.flatnonzero(blocked[cells:] == blocked[:-cells])
        if len(starts):
            start_s = float(CELL_S * (rng.choice(starts) + rng.random()))
            return [Incident(start_s, start_s + length_s, factor)]
        if length_s <= INCIDENT_S[0]:
            return []
        length_s = max(length_s / 2, INCIDENT_S[0])


def _busy_cells(times_s: FloatArray) -> BoolArray:
    """Mark the cells in which any five minutes may end: enough requests in all of them.

    Args:
        times_s: sorted arrivals in seconds, shape (n,).

    Returns:
        A mark per cell of 10 s, shape (8640,).
    """
    ends_s = np.arange(0.0, DAY_S, CELL_S)
    # Any five minutes that end in the cell contain this shorter window.
    starts_s = ends_s - (WINDOW_S - CELL_S)
    counts = np.searchsorted(times_s, ends_s) - np.searchsorted(times_s, starts_s)
    return np.asarray(counts >= MIN_WINDOW_REQUESTS)
