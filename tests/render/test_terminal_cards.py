"""Cards in the terminal: five of them, within 80 columns."""

from __future__ import annotations

from flask_knitperf.render import terminal
from tests.analysis.tables import Mill
from tests.reports.building import report_of


def slow(number: int) -> Mill:
    mill = Mill()
    for i in range(number):
        mill.requests(f"slow_{i}", [900] * 20)
        mill.counter("part", f"slow_{i}", "GET", "section:a_rather_long_name", ms=12_000, count=20)
    return mill


def first(text: str) -> str:
    return text.partition("SCORECARD")[0]


def test_five_cards_are_shown_and_how_to_see_all() -> None:
    text = first(terminal.report(report_of(slow(7))))
    assert text.count("!! ") == 5 and text.rstrip().endswith(
        "Show all 7: add --all to the command."
    )


def test_all_cards_are_shown_on_demand() -> None:
    text = first(terminal.report(report_of(slow(7)), everything=True))
    assert text.count("!! ") == 7 and "--all" not in text


def test_five_cards_need_no_more() -> None:
    assert "--all" not in terminal.report(report_of(slow(5)))


def test_a_card_has_its_causes_as_one_bar_with_a_legend() -> None:
    lines = first(terminal.report(report_of(slow(1)))).splitlines()
    [bar] = [line for line in lines if "█" in line and "%" not in line]
    assert bar.count("█") == round(40 * 2 / 3) and len(bar) == 43
    assert "   █ 67 % section, ▓ 33 % not measured" in lines


def test_a_card_has_its_threshold_and_the_number_of_judged_requests() -> None:
    assert "Threshold 500 ms, sure: 20 of 20 requests." in terminal.report(report_of(slow(1)))


def test_cards_fit_into_the_width() -> None:
    mill = (
        slow(3).requests("x" * 300, [5] * 20, status="500").error("x" * 300, "E" * 90, "f.py:1", 20)
    )
    mill.requests("y" * 300, [5] * 20, status="500").error("y" * 300, "F" * 90, "f.py:2", 20)
    for width in (40, 80):
        text = first(terminal.report(report_of(mill), width, everything=True))
        assert max(map(len, text.splitlines())) <= width
