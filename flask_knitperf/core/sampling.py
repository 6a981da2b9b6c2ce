"""The choice of one event in many, which keeps step with no pattern of the events.

Every n-th event is a poor sample where events follow a rhythm: of slow and fast requests in turn, one
in eight is always slow, or never. Multiples of the golden ratio, taken without their whole part, fall
evenly between 0 and 1, and so do every second, third or n-th of them (Weyl's theorem; the golden ratio
is the number that is hardest to approximate by fractions, so it evens out soonest). An event is chosen
by where the multiple of its number falls. The choice takes one multiplication and needs no state.

Slowest are rhythms whose length is a Fibonacci number F, which evens out after some F squared events.
"""

from __future__ import annotations

GOLDEN = 2_654_435_769  # 2**32 divided by the golden ratio
RANGE = 2**32


def position(number: int, parts: int) -> int:
    """Return in which of ``parts`` equal parts an event falls, from 0.

    Args:
        number: how many events came before it; 0 falls into the first part.
        parts: number of parts, up to 2**31. Each receives an equal share of the events.
    """
    return (number * GOLDEN % RANGE * parts) // RANGE


def is_chosen(number: int, every: int) -> bool:
    """Return whether an event is one of the sample that holds one in ``every``."""
    return position(number, every) == 0
