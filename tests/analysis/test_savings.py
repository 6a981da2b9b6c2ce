"""Savings: never more than an endpoint's time, and never twice for the same time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.savings import Avoidable, savings

from .tables import LIMITS, Mill

[ROW] = endpoints(Mill().requests("orders", [500] * 20).readings, LIMITS)
CLAIMS = st.builds(
    Avoidable, st.sampled_from(["n_plus_one", "duplicates", "sql", "gc", "time"]), st.floats(0, 1),
    st.booleans(),
)  # fmt: skip


def test_a_saving_is_stated_in_total_per_request_and_as_a_share() -> None:
    [saving] = savings(ROW, [Avoidable("time", 0.4, at_most=True)])
    assert saving == (4.0, 200.0, 0.4, True)


def test_the_first_finding_on_the_same_time_has_it() -> None:
    first, second, other = savings(
        ROW, [Avoidable("sql", 0.5), Avoidable("sql", 0.3), Avoidable("gc", 0.2)]
    )
    assert second is None and first is not None and other is not None
    assert (first.share, other.share) == (0.5, 0.2)


@given(st.lists(st.none() | CLAIMS, max_size=8))
def test_all_savings_of_an_endpoint_are_its_time_at_most(claims: list[Avoidable | None]) -> None:
    known = [saving for saving in savings(ROW, claims) if saving is not None]
    assert sum(saving.share for saving in known) <= 1 + 1e-9
    assert sum(saving.seconds for saving in known) <= ROW.time_spent_s + 1e-9
