"""Bytes in words."""

from __future__ import annotations

import pytest

from flask_knitperf.core.units import amount


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (310, "310 bytes"), (1_023, "1023 bytes"), (1_024, "1.0 KB"), (2_150, "2.1 KB"),
     (1_048_575, "1.0 MB"), (340 << 20, "340 MB"), (5 << 30, "5.0 GB"), (5 << 42, "20,480 GB"),
     (-310, "-310 bytes"), (-2_150, "-2.1 KB"), (310.4, "310 bytes")],
)  # fmt: skip
def test_bytes_are_said_as_people_say_them(count: float, said: str) -> None:
    assert amount(count) == said
