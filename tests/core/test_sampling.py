"""Choosing one event in many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.sampling import RANGE, is_chosen, position


@pytest.mark.parametrize("every", [2, 3, 7, 8, 64, 200])
@pytest.mark.parametrize("rhythm", [1, 2, 3, 5, 8, 21, 64, 100])
def test_each_beat_of_a_rhythm_is_chosen_about_equally_often(every: int, rhythm: int) -> None:
    beats = [0] * rhythm
    rounds = 2_000 * every // rhythm
    for number in range(rounds * rhythm):
        beats[number % rhythm] += is_chosen(number, every)
    mean = sum(beats) / rhythm
    assert all(abs(beat - mean) <= 0.2 * mean + 3 for beat in beats)


@pytest.mark.slow
@given(every=st.integers(1, 10_000), start=st.integers(0, RANGE))
def test_one_in_many_is_chosen_wherever_counting_begins(every: int, start: int) -> None:
    chosen = sum(is_chosen(number, every) for number in range(start, start + 10 * every))
    assert 7 <= chosen <= 13


@given(number=st.integers(0, 2**62), parts=st.integers(1, 2**31))
def test_an_event_falls_into_one_of_the_parts(number: int, parts: int) -> None:
    assert 0 <= position(number, parts) < parts
