"""Early refresh: a value is loaded again at a random time shortly before it expires.

If every call found a popular value expired at the same moment, all of them would wait for its load. With
XFetch (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015)
each call draws u from (0, 1] and loads the value if ``now - cost * beta * ln(u) >= expiry``, so the more
likely the closer it is to the expiry. A draw for each call would slow down every hit. Solved for the
time, one draw decides in advance from when on that holds: ``expiry - cost * beta * -ln(u)``. The lead
time is then distributed exponentially with mean ``cost * beta``, whatever the rate of calls, and each
process has another one.
"""

from __future__ import annotations

import math


def refresh_time(now: float, expires: float, cost: float, beta: float, draw: float) -> float:
    """Return the time from which one call loads a value again, in seconds of the same clock.

    It is in the second half of the time for which the value is valid: a load that takes longer than that
    would otherwise begin again as soon as it has ended.

    Args:
        now: time at which the value was loaded.
        expires: time at which it expires, which may be infinite.
        cost: seconds that its load took.
        beta: factor of the mean lead time, 0 for none.
        draw: random number of at least 0 and below 1.
    """
    if math.isinf(expires):
        return expires
    return expires - min(-math.log1p(-draw) * cost * beta, (expires - now) / 2)
