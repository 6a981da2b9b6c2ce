"""Cards: every finding is on one of them, and what belongs together is on the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.metrics.stack_trie import NORMAL, StackFrame, Trie
from tests.reports.building import report_of

from .tables import Mill

VIEW = StackFrame("shop/views.py", 10, "view", True)
LOADER = StackFrame("shop/users.py", 7, "load_user", True)
DRIVER = StackFrame("", 0, "Connection.execute", False)


def report(mill: Mill, tries: Any = None) -> Any:
    return report_of(mill, (), tries)


def cards(mill: Mill, tries: Any = None) -> list[Any]:
    return list(report(mill, tries)["cards"])


def stacks(*rows: tuple[list[StackFrame], int]) -> Mapping[str, Trie]:
    trie = Trie()
    for path, ms in rows:
        trie.add(path, ms * 1_000_000, 0, ms)
    return {NORMAL: trie}


def failing(number: int, mill: Mill | None = None, status: str = "500") -> Mill:
    mill = mill or Mill()
    for i in range(number):
        mill.requests(f"fails_{status}_{i:02}", [5] * 20, status=status)
    return mill


# -- failures ------------------------------------------------------------------------------------------


def many_failures() -> Mill:
    mill = failing(3, failing(5, failing(20), "503"), "501")
    for i in range(20):
        mill.error(f"fails_500_{i:02}", "KeyError", "shop/x.py:12", 20)
    return mill


def test_endpoints_that_always_fail_are_one_card_by_status_and_exception() -> None:
    [card] = cards(many_failures())
    assert (card["kind"], card["severity"]) == ("failures", "CRITICAL")
    assert card["title"] == (
        "28 endpoints always fail: 20 × 500 KeyError at shop/x.py:12, 5 × 503, 3 × 501"
    )
    assert len(card["endpoints"]) == 28 and len(card["findings"]) == 28


def test_each_group_of_failures_names_its_first_endpoints_and_what_to_do() -> None:
    [card] = cards(many_failures())
    first = card["points"][0]
    assert first["text"].endswith(
        "shop/x.py:12: Fails 500 00, Fails 500 01, Fails 500 02 and 17 more."
    )
    assert first["recommendation"] == "Fix KeyError at shop/x.py:12."


@pytest.mark.parametrize("status", ["501", "503"])
def test_an_endpoint_that_always_answers_501_or_503_is_information(status: str) -> None:
    [finding] = report(failing(1, status=status))["bottlenecks"]
    assert finding["severity"] == "INFO" and f"all requests fail with {status}" in finding["text"]


def test_endpoints_that_are_unavailable_on_purpose_are_one_card_of_information() -> None:
    [card] = cards(failing(3, status="501"))
    assert card["severity"] == "INFO" and card["title"] == "3 endpoints always fail: 3 × 501"


def test_an_endpoint_that_answers_503_only_now_and_then_is_critical() -> None:
    mill = failing(1, status="503").requests("fails_503_00", [5] * 20)
    assert [row["severity"] for row in report(mill)["bottlenecks"]] == ["CRITICAL"]


def test_slow_endpoints_are_among_the_first_five_beside_27_that_always_fail() -> None:
    mill = failing(27)
    for i in range(4):
        mill.requests(f"slow_{i}", [900] * 20)
    first = [card["endpoints"][0]["endpoint"] for card in cards(mill)[:5]]
    assert {f"slow_{i}" for i in range(4)} <= set(first) and len(cards(mill)) == 5


def test_one_failing_endpoint_is_a_card_with_its_status() -> None:
    mill = failing(1).error("fails_500_00", "KeyError", "shop/x.py:12", 20)
    [card] = cards(mill)
    assert card["kind"] == "endpoint"
    assert card["title"] == "Fails 500 00: all requests fail with 500"
    assert card["points"][0]["text"] == "100 % of the failures: KeyError (shop/x.py:12)."


# -- one endpoint --------------------------------------------------------------------------------------


def slow_and_repeating() -> Mill:
    mill = Mill().requests("orders", [900] * 20)
    mill.counter(
        "file_read", "orders", "GET", "a.csv", "shop/io.py:3", "unchanged", ms=9000, count=19
    )
    mill.counter("part", "orders", "GET", "file_read", ms=9000, count=19)
    return mill


def test_the_findings_of_an_endpoint_are_one_card_with_its_causes_as_one_division() -> None:
    mill = slow_and_repeating()
    [card] = cards(mill)
    assert card["findings"] == [0, 1] and len(report(mill)["bottlenecks"]) == 2
    assert [point["type"] for point in card["points"]] == ["SLOW_RESPONSE", "REPEATED_FILE_READ"]
    assert [(cause["cause"], cause["share"]) for cause in card["causes"]] == [
        ("file_read", 0.5), ("unknown", 0.5),
    ]  # fmt: skip


def test_a_card_has_the_threshold_and_the_number_of_judged_requests() -> None:
    point = cards(Mill().requests("orders", [900] * 20))[0]["points"][0]
    assert (point["threshold"], point["samples"]) == (500, 20)
    assert point["confidence"] == "sure: 20 of 20 requests"


def test_a_card_has_the_line_its_function_and_what_it_calls() -> None:
    mill = Mill().requests("orders", [900] * 20)
    mill.counter("sampled_wall", "orders", "GET", ms=18000, count=20)
    mill.counter("cpu", "orders", "GET", ms=18000, count=20)
    tries = {("orders", "GET"): stacks(([VIEW, LOADER, DRIVER], 90), ([VIEW], 10))}
    source = cards(mill, tries)[0]["source"]
    assert source == {
        "where": "shop/users.py:7", "text": None, "function": "load_user",
        "calls": "Connection.execute", "share": 0.9,
    }  # fmt: skip


def test_an_advice_is_on_a_card_once() -> None:
    card = cards(slow_and_repeating())[0]
    slow, repeated = card["points"]
    assert slow["recommendation"] == "" and repeated["recommendation"].startswith("Cache the file")


def test_collections_of_a_slow_endpoint_have_one_advice() -> None:
    mill = Mill().requests("orders", [900] * 20)
    for meter in ("gc", "gc_own"):
        mill.counter(meter, "orders", "GET", ms=15000, count=20)
    [card] = cards(mill)
    assert [bool(point["recommendation"]) for point in card["points"]] == [False, True]
    assert "flask knitperf gc" in card["points"][1]["recommendation"]


def test_the_statement_of_a_card_does_not_repeat_its_line() -> None:
    mill = Mill().requests("orders", [900] * 20)
    mill.counter("sampled_wall", "orders", "GET", ms=18000, count=20)
    mill.counter("cpu", "orders", "GET", ms=18000, count=20)
    [card] = cards(mill, {("orders", "GET"): stacks(([VIEW], 100))})
    assert card["source"]["where"] == "shop/views.py:10"
    assert card["points"][0]["text"] == "100 % of its time is spent running Python code."


# -- several endpoints ---------------------------------------------------------------------------------


def sharing(*shares: int) -> tuple[Mill, Any]:
    """Return slow endpoints and their samples, by the share of the user loader in percent."""
    mill, tries = Mill(), {}
    for number, share in enumerate(shares):
        name = f"page_{number}"
        mill.requests(name, [900] * 20)
        mill.counter("sampled_wall", name, "GET", ms=18000, count=20)
        mill.counter("cpu", name, "GET", ms=18000, count=20)
        view = StackFrame("shop/views.py", 10 + number, name, True)
        tries[name, "GET"] = stacks(([view, LOADER, DRIVER], share), ([view], 100 - share))
    return mill, tries


def test_one_line_that_costs_several_endpoints_is_one_card_that_names_them() -> None:
    [card] = cards(*sharing(90, 80, 70))
    assert card["kind"] == "line" and card["source"]["where"] == "shop/users.py:7"
    assert [row["endpoint"] for row in card["endpoints"]] == ["page_0", "page_1", "page_2"]
    assert [row["share"] for row in card["endpoints"]] == [0.9, 0.8, 0.7]
    assert card["time_spent_s"] == pytest.approx(18 * 2.4)


def test_an_endpoint_whose_time_goes_mostly_elsewhere_keeps_its_card() -> None:
    kinds = [(card["kind"], len(card["endpoints"])) for card in cards(*sharing(90, 80, 30))]
    assert kinds == [("line", 2), ("endpoint", 1)]


def test_a_line_of_one_endpoint_is_on_the_card_of_that_endpoint() -> None:
    assert [card["kind"] for card in cards(*sharing(90))] == ["endpoint"]


def with_hook(hook_ms: float, *, count: int = 60, part: str = "hook:load_tenant") -> Mill:
    mill = Mill()
    for number in range(3):
        mill.requests(f"page_{number}", [0.5] * count)
        mill.counter("part", f"page_{number}", "GET", part, ms=hook_ms * count, count=count)
    return mill.requests("export", [500] * 3)


def test_a_hook_is_summed_over_all_endpoints() -> None:
    [card] = [card for card in cards(with_hook(0.2)) if card["kind"] == "hook"]
    assert card["title"] == "The hook load_tenant costs 2 % of all request time"
    assert card["severity"] == "INFO" and len(card["endpoints"]) == 3
    assert "200 µs each time" in card["points"][0]["text"]


@pytest.mark.parametrize(
    ("kind", "title", "moment"),
    [
        ("after", "The after_request function sign costs 2 %", "It runs after the view"),
        ("error", "The error handler sign costs 2 %", "It runs after an error"),
        ("teardown", "The teardown function sign costs 2 %", "It runs at the end of a request"),
    ],
)
def test_a_function_that_runs_after_views_is_summed_over_all_endpoints(
    kind: str, title: str, moment: str
) -> None:
    [card] = [card for card in cards(with_hook(0.2, part=f"{kind}:sign")) if card["kind"] == "hook"]
    assert card["title"] == f"{title} of all request time" and len(card["endpoints"]) == 3
    assert card["points"][0]["text"].startswith(moment)


def test_hooks_of_two_kinds_with_one_name_are_two_cards() -> None:
    mill = with_hook(0.1)
    for number in range(3):
        for part in ("after:sign", "hook:sign"):
            mill.counter("part", f"page_{number}", "GET", part, ms=12, count=60)
    titles = [card["title"] for card in cards(mill) if card["kind"] == "hook"]
    assert sorted(title[:9] for title in titles) == ["The after", "The hook "]


@pytest.mark.parametrize("part", ["hook:tenant", "after:audit", "teardown:close", "error:denied"])
def test_endpoints_that_spend_most_of_their_time_in_a_hook_are_one_card_though_it_ran_rarely(
    part: str,
) -> None:
    mill = Mill()
    for name in ("lots", "orders", "yarn"):
        mill.requests(name, [600] * 20).counter("part", name, "GET", part, ms=11000, count=20)
    [card] = cards(mill)
    assert card["kind"] == "hook" and len(card["endpoints"]) == 3
    assert part.partition(":")[2] in card["title"]


@pytest.mark.parametrize("part", ["hook:tenant", "after:audit", "teardown:close", "error:denied"])
def test_what_a_slow_function_around_one_view_costs_has_a_price(part: str) -> None:
    mill = Mill().requests("lots", [600] * 20)
    mill.counter("part", "lots", "GET", part, ms=11000, count=20)
    [card] = cards(mill)
    assert card["saving_s"] == pytest.approx(11, rel=0.001)


@pytest.mark.parametrize("mill", [with_hook(0.1), with_hook(0.2, count=33)])
def test_a_hook_that_costs_little_or_ran_rarely_is_not_reported(mill: Mill) -> None:
    assert [card for card in cards(mill) if card["kind"] == "hook"] == []


def test_endpoints_that_are_slow_for_a_hook_are_on_the_card_of_the_hook() -> None:
    mill = Mill()
    for name in ("a", "b"):
        mill.requests(name, [600] * 60).counter(
            "part", name, "GET", "hook:tenant", ms=33000, count=60
        )
    [card] = cards(mill)
    assert (card["kind"], card["severity"]) == ("hook", "CRITICAL")
    assert card["findings"] == [0, 1]


# -- all of them ---------------------------------------------------------------------------------------


def test_what_saves_most_comes_first_whatever_its_severity() -> None:
    mill = Mill().requests("rare", [900] * 10).requests("often", [300] * 1000)
    for name, n, ms in (("rare", 10, 900), ("often", 1000, 300)):
        mill.counter("part", name, "GET", "sleep", ms=ms * n * 0.9, count=n)
        mill.counter("wait", name, "GET", "sleep", f"{name}.py:1", "request", ms=ms * n * 0.9,
                     count=n)  # fmt: skip
    first, second = cards(mill)
    assert (first["severity"], first["endpoints"][0]["endpoint"]) == ("WARNING", "often")
    assert first["saving_s"] == pytest.approx(270) and not first["at_most"]
    assert second["severity"] == "CRITICAL" and second["saving_s"] == pytest.approx(8.1)


def test_what_fails_comes_before_what_is_slow() -> None:
    mill = failing(1).requests("often", [900] * 1000)
    assert [card["saving_s"] for card in cards(mill)] == [None, None]
    assert cards(mill)[0]["endpoints"][0]["endpoint"] == "fails_500_00"


def test_what_is_unavailable_on_purpose_comes_last() -> None:
    mill = failing(1, status="501").requests("slow", [900] * 10)
    assert [card["endpoints"][0]["endpoint"] for card in cards(mill)] == ["slow", "fails_501_00"]


def test_without_a_known_repair_the_largest_cause_counts_for_the_order() -> None:
    mill = Mill().requests("named", [900] * 10).requests("unknown", [900] * 30)
    mill.counter("part", "named", "GET", "sleep", ms=8000, count=10)
    mill.counter("wait", "named", "GET", "sleep", "a.py:1", "request", ms=8000, count=10)
    assert [card["saving_s"] for card in cards(mill)] == [None, pytest.approx(8)]


def test_findings_of_one_endpoint_never_claim_more_than_its_time() -> None:
    [card] = cards(slow_and_repeating())
    assert [point["saving"] is not None for point in card["points"]] == [False, True]
    assert card["saving_s"] == pytest.approx(9) and card["time_spent_s"] == pytest.approx(18)


@given(
    st.lists(st.tuples(st.sampled_from(["2xx", "500", "501", "5xx"]), st.sampled_from([1, 300, 900]),
                       st.sampled_from(["", "hook:a", "after:b", "sql", "section:x"])), max_size=8)
)  # fmt: skip
def test_every_finding_is_on_exactly_one_card(endpoints: list[tuple[str, int, str]]) -> None:
    mill = Mill()
    for number, (status, ms, part) in enumerate(endpoints):
        mill.requests(f"e{number}", [ms] * 30, status=status)
        if part:
            mill.counter("part", f"e{number}", "GET", part, ms=ms * 25, count=30)
    document = report(mill)
    merged = sorted(number for card in document["cards"] for number in card["findings"])
    assert merged == list(range(len(document["bottlenecks"])))
