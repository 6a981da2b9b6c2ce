"""Laws and examples of printed sizes, durations, shares, rates and counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_knitperf.core import units
from flask_knitperf.core.units import (
    MB,
    NBSP,
    about,
    count,
    duration,
    joined,
    number,
    percent,
    plain,
    rate,
    ratio,
    size,
)

SMALL = st.floats(-2, 2, allow_nan=False)
LARGE = st.floats(-1e15, 1e15, allow_nan=False)
AMOUNTS = st.one_of(SMALL, LARGE, st.integers(-10_000, 10_000), st.integers(-(10**15), 10**15))
PRINTERS: dict[str, Callable[[float], str]] = {
    "size": size, "duration": duration, "percent": percent, "number": number, "ratio": ratio,
    "count": lambda n: count(n, "request"), "rate": lambda n: rate(n, "request"),
}  # fmt: skip
WORTH = {
    "bytes": 1, "byte": 1, "KB": 1 << 10, "MB": MB, "GB": 1 << 30, "TB": 1 << 40, "ns": 1e-6,
    "µs": 1e-3, "ms": 1, "s": 1e3, "min": 6e4, "h": 3.6e6,
}  # fmt: skip
printers = pytest.mark.parametrize("printer", PRINTERS.values(), ids=PRINTERS)


def parsed(text: str) -> tuple[float, str]:
    """Return the figure and the unit of a printed amount; ``< 1`` is a half."""
    match = re.fullmatch(r"([<>]?)\s?(-?[\d,.]+)\s?(.*)", text)
    assert match is not None, text
    figure = float(match[2].replace(",", ""))
    return figure / 2 if match[1] else figure, match[3]


# -- laws ------------------------------------------------------------------------------------------


@printers
@given(low=AMOUNTS, high=AMOUNTS)
def test_a_larger_value_never_prints_as_smaller_in_the_same_unit(
    printer: Callable[[float], str], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    (first, unit), (second, same) = parsed(printer(low)), parsed(printer(high))
    assert unit.rstrip("s") != same.rstrip("s") or first <= second


@pytest.mark.parametrize("printer", [size, duration], ids=["size", "duration"])
@given(low=AMOUNTS, high=AMOUNTS)
@example(1_023.48, 1_023.49)
@example(599_499.9, 599_500)
@example(7_196_399.9, 7_196_400)
@example(0.994999, 0.995)
def test_a_larger_amount_never_prints_as_smaller_in_another_unit(
    printer: Callable[[float], str], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    (first, unit), (second, other) = parsed(printer(low)), parsed(printer(high))
    tolerance = 1e-12 * abs(second * WORTH[other])
    assert first * WORTH[unit] <= second * WORTH[other] + tolerance


@printers
@given(value=AMOUNTS)
@example(-1e-9)
@example(-0.0)
def test_nothing_prints_as_minus_zero(printer: Callable[[float], str], value: float) -> None:
    assert not re.search(r"-0(?:\.0*)?(?![\d.])", printer(value))


@printers
@given(value=AMOUNTS)
@example(5e-324)
@example(0.04)
def test_only_zero_prints_as_zero(printer: Callable[[float], str], value: float) -> None:
    assert (parsed(printer(value))[0] == 0) == (value == 0)


@printers
@given(value=AMOUNTS)
def test_a_line_never_breaks_within_an_amount(
    printer: Callable[[float], str], value: float
) -> None:
    assert not set(printer(value)) & set(" \t\n")


@given(value=st.floats(0, 1, exclude_max=True))
@example(0.9996)
@example(0.995)
@example(1 - 2**-53)
def test_a_share_below_one_never_prints_as_all(value: float) -> None:
    assert parsed(percent(value))[0] < 100


@given(value=st.floats(0, 1, exclude_min=True))
@example(0.0004)
@example(5e-324)
def test_a_share_above_zero_never_prints_as_none(value: float) -> None:
    assert parsed(percent(value))[0] > 0


@given(value=st.floats(0.0, 1.0))
def test_a_printed_share_is_within_half_a_percent(value: float) -> None:
    assert abs(parsed(percent(value))[0] - 100 * value) <= 0.5 + 1e-9


@given(value=st.one_of(st.floats(0.001, 1e15), st.integers(1, 10**15)))
@example(0.0095)
@example(0.001495)
def test_a_printed_amount_is_within_five_percent_or_half_a_whole_unit(value: float) -> None:
    for text in (size(value), duration(value)):
        figure, unit = parsed(text)
        half = 0.50001 * WORTH[unit] if unit in ("byte", "bytes", "µs", "ns") else 0
        assert text.startswith("<") or abs(figure * WORTH[unit] - value) <= max(
            0.05001 * value, half
        )


@given(n=AMOUNTS)
def test_only_exactly_one_is_singular(n: float) -> None:
    assert count(n, "request").endswith("s") == (n != 1)


@pytest.mark.parametrize("name", sorted(PRINTERS.keys() - {"number", "ratio"}))
def test_a_no_break_space_joins_figure_and_unit(name: str) -> None:
    assert PRINTERS[name](3).count(NBSP) == 1


# -- examples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (0.3, "< 1 byte"), (1, "1 byte"), (1.5, "2 bytes"), (310, "310 bytes"),
     (1_023, "1,023 bytes"), (1_024, "1.0 KB"), (2_150, "2.1 KB"), (1_048_575, "1.0 MB"),
     (340 << 20, "340 MB"), (5 << 30, "5.0 GB"), (5 << 42, "20.0 TB"), (-310, "-310 bytes"),
     (-2_150, "-2.1 KB"), (-0.3, "> -1 byte"), (310.4, "310 bytes"), (None, "–")],
)  # fmt: skip
def test_sizes(n_bytes: float | None, text: str) -> None:
    assert plain(size(n_bytes)) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 ms"), (1e-9, "< 1 ns"), (330e-6, "330 ns"), (0.4, "400 µs"), (0.9951, "1.0 ms"),
     (1.23, "1.2 ms"), (230.2, "230 ms"), (995, "1.0 s"), (5_600, "5.6 s"), (99_949, "99.9 s"),
     (170_000, "170 s"), (599_500, "10 min"), (3_420_000, "57 min"), (7_200_000, "2.0 h"),
     (122_400_000, "34 h"), (-5_600, "-5.6 s"), (None, "–")],
)  # fmt: skip
def test_durations(ms: float | None, text: str) -> None:
    assert plain(duration(ms)) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0, "0 %"), (0.0004, "< 0.1 %"), (0.004, "0.4 %"), (0.0095, "1 %"),
     (0.42, "42 %"), (0.994, "99 %"), (0.995, "99.5 %"), (0.9996, "99.9 %"), (1, "100 %"),
     (1.0, "100 %"), (1.12, "112 %"), (12.5, "1,250 %"), (-0.3, "-30 %"), (-0.0004, "> -0.1 %"),
     (-0.9996, "-99.9 %"), (None, "–")],
)  # fmt: skip
def test_shares(share: float | None, text: str) -> None:
    assert plain(percent(share)) == text


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [(0, "request", "0 requests"), (1, "request", "1 request"), (2, "request", "2 requests"),
     (1_240, "request", "1,240 requests"), (1.0, "request", "1 request"),
     (1.4, "request", "1.4 requests"), (0.04, "request", "< 0.1 requests"),
     (29.46, "query", "29.5 queries"), (1, "query", "1 query"), (3, "key", "3 keys"),
     (2, "process", "2 processes"), (2, "batch", "2 batches"), (123.4, "row", "123 rows")],
)  # fmt: skip
def test_counts(n: float, noun: str, text: str) -> None:
    assert plain(count(n, noun)) == text


def test_an_irregular_plural_is_an_argument() -> None:
    assert plain(count(2, "index", "indices")) == "2 indices"
    assert plain(rate(2, "index", "indices")) == "2 indices/s"


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0 requests/h"), (12.36, "12.4 requests/s"), (1, "1 request/s"),
     (0.05, "3 requests/min"), (0.001, "3.6 requests/h"), (1e-9, "< 0.1 requests/h"), (None, "–")],
)  # fmt: skip
def test_rates(per_second: float | None, text: str) -> None:
    assert plain(rate(per_second, "request")) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00×"), (0.004, "< 0.01×"), (1, "1.00×"), (2.624, "2.62×"), (9.996, "10.0×"),
     (15.32, "15.3×"), (1_200, "1,200×"), (-0.5, "-0.50×"), (None, "–")],
)  # fmt: skip
def test_ratios(value: float | None, text: str) -> None:
    assert plain(ratio(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (42.3, "42"), (12_345, "12,000"), (840_123, "840,000"),
     (994_999, "990,000"), (995_000, "1.0 M"), (2_140_000, "2.1 M"), (12_345_678, "12.3 M")],
)  # fmt: skip
def test_estimates(value: float, text: str) -> None:
    assert plain(about(value)) == text


@given(low=st.floats(0, 1e12), high=st.floats(0, 1e12))
def test_a_larger_estimate_never_prints_as_smaller(low: float, high: float) -> None:
    low, high = sorted((low, high))
    (first, million), (second, millions) = parsed(about(low)), parsed(about(high))
    assert first * (1e6 if million else 1) <= second * (1e6 if millions else 1) + 1e-6


def test_a_change_may_have_a_plus_sign() -> None:
    assert plain(size(3 * MB, signed=True)) == "+3.0 MB"
    assert plain(size(-3 * MB, signed=True)) == "-3.0 MB"
    assert plain(percent(0.12, signed=True)) == "+12 %"
    assert plain(percent(0, signed=True)) == "0 %"
    assert plain(percent(0.0004, signed=True)) == "< 0.1 %"


def test_a_number_that_was_not_measured_is_a_dash() -> None:
    assert number(None) == units.NONE


@printers
@given(value=st.floats(0.01, 1e15))
def test_joining_restores_the_spaces_of_an_amount(
    printer: Callable[[float], str], value: float
) -> None:
    text = printer(value)
    if "request" not in text:
        assert joined(plain(text)) == text


def test_only_numbers_are_joined_with_units() -> None:
    sentence = "41 % of its 5.6 s; 3 minutes, 2 s3 keys, page 7 has"
    assert joined(sentence) == f"41{NBSP}% of its 5.6{NBSP}s; 3 minutes, 2 s3 keys, page 7 has"


def test_plain_text_has_ordinary_spaces() -> None:
    assert plain(f"5.6{NBSP}s of 230{NBSP}ms") == "5.6 s of 230 ms"
