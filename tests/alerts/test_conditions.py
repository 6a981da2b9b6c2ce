"""Conditions: a breach is an excess that is not chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.conditions import (
    MAX_P,
    NOTHING,
    PAGE_WINDOWS,
    TICKET_WINDOWS,
    BurnRate,
    CountAbove,
    Judgement,
    ShareAbove,
    Tally,
    TimedTally,
    ValueAbove,
    least_significant,
    without_clusters,
)
from flask_knitperf.metrics.histogram import binomial_tail


@given(st.integers(1, 5000), st.floats(0.001, 0.5))
def test_the_least_significant_number_is_the_first_one_that_is_no_chance(
    total: int, share: float
) -> None:
    least = least_significant(total, share)
    assert least == total + 1 or binomial_tail(least, total, share) < MAX_P
    assert binomial_tail(least - 1, total, share) >= MAX_P


@pytest.mark.parametrize(
    ("tally", "judgement"),
    [
        (Tally(29, 29), Judgement.NO_DATA),
        (Tally(30, 1), Judgement.CLEAR),
        (Tally(30, 2), Judgement.BETWEEN),  # 6.7 % of 30 is often chance
        (Tally(30, 6), Judgement.BETWEEN),
        (Tally(30, 7), Judgement.BREACH),
        (Tally(1000, 50), Judgement.CLEAR),
        (Tally(1000, 60), Judgement.BETWEEN),
        (Tally(1000, 75), Judgement.BREACH),
    ],
)
def test_a_share_above_its_limit_is_a_breach_only_where_it_is_no_chance(
    tally: Tally, judgement: Judgement
) -> None:
    judged = ShareAbove(0.05).judge({300: tally})
    assert judged.judgement is judgement and judged.events == tally.total


def test_a_share_is_clear_only_below_its_resolve_share() -> None:
    condition = ShareAbove(0.05, resolve_share=0.03)
    assert condition.judge({300: Tally(1000, 40)}).judgement is Judgement.BETWEEN
    assert condition.judge({300: Tally(1000, 30)}).judgement is Judgement.CLEAR


def test_a_budget_burns_where_both_windows_of_a_pair_do() -> None:
    condition = BurnRate(0.99)
    fine, burning, slow = Tally(1000, 10), Tally(1000, 150), Tally(1000, 70)

    def judge(hour: Tally, five: Tally, six: Tally = fine, half: Tally = fine) -> Judgement:
        return condition.judge({3600: hour, 300: five, 21600: six, 1800: half}).judgement

    assert judge(burning, burning) is Judgement.BREACH
    assert judge(burning, fine) is Judgement.CLEAR
    assert judge(fine, burning) is Judgement.BETWEEN
    assert judge(fine, fine, slow, slow) is Judgement.BREACH
    assert judge(slow, slow) is Judgement.CLEAR
    assert judge(fine, Tally(5, 5), fine, Tally(10, 10)) is Judgement.NO_DATA
    assert judge(fine, Tally(5, 0)) is Judgement.BETWEEN  # one pair cannot be judged
    assert judge(fine, Tally(5, 5), slow, slow) is Judgement.BREACH


def test_a_burn_rate_is_a_multiple_of_the_rate_that_spends_the_budget_exactly() -> None:
    judged = BurnRate(0.99, TICKET_WINDOWS).judge(
        {3 * 86_400: Tally(1000, 20), 21_600: Tally(100, 3)}
    )
    assert judged.judgement is Judgement.BREACH and judged.observed == pytest.approx(2.0)
    assert BurnRate(0.99, PAGE_WINDOWS).windows == (300, 1800, 3600, 21_600)


def test_no_event_is_good_news_for_a_number() -> None:
    assert CountAbove(0).judge({300: NOTHING}).judgement is Judgement.CLEAR
    assert CountAbove(0).judge({300: Tally(1, 1)}).judgement is Judgement.BREACH
    assert CountAbove(1).judge({300: Tally(1, 1)}).judgement is Judgement.CLEAR


def test_a_value_has_a_limit_for_each_direction() -> None:
    condition = ValueAbove(500, 475)
    judgements = [condition.judge(value).judgement for value in (None, 501.0, 500.0, 475.0)]
    assert judgements == [
        Judgement.NO_DATA, Judgement.BREACH, Judgement.BETWEEN, Judgement.CLEAR,
    ]  # fmt: skip


def test_bad_events_at_once_count_as_many_as_a_slot_has_on_average() -> None:
    calm, clicks = Tally(2, 0), Tally(5, 5)

    def trimmed(tallies: list[Tally], seconds: int = 10) -> Tally:
        return without_clusters([
            TimedTally(number * seconds, seconds, tally) for number, tally in enumerate(tallies)
        ])  # fmt: skip

    assert trimmed([calm] * 20 + [clicks]) == Tally(43, 3)
    assert trimmed([Tally(2, 1)] * 30) == Tally(60, 30)
    assert trimmed([Tally(10, 10)] * 5, 60) == Tally(50, 50)
    assert trimmed([]) == NOTHING
    assert without_clusters([TimedTally(0, 10, calm), TimedTally(290, 10, clicks)]) == Tally(3, 1)
