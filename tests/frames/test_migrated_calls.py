"""The calls that an ERP makes of its DataFrame optimiser work, with this package's promises."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.core import notices
from flask_knitperf.core.provenance import ORIGINS
from flask_knitperf.frames import (
    FrameError,
    FrameTooLargeError,
    MigrationWarning,
    limit_dataframe_size,
    optimize_dataframe,
)
from flask_knitperf.frames.verify import differences

# values that such optimisers damage: repeated order lines, date strings, cents
BOM = pd.DataFrame({
    "style": ["CT1001", "CT1001", "CT2002"] * 40, "pounds": [5, 5, 7] * 40,
    "price": [19.99, 19.99, 0.1] * 40, "due": ["20250101", "20250101", "20250102"] * 40,
})  # fmt: skip


@pytest.fixture(autouse=True)
def no_warning_issued_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_issued", set())


def test_the_second_argument_is_a_label_that_reports_show() -> None:
    before = BOM.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = optimize_dataframe(BOM, "inventory_data")
    assert differences(before, smaller) == [] and differences(before, BOM) == []
    origin = ORIGINS.of(smaller)
    assert origin is not None and origin.what == "optimize_dataframe inventory_data"
    assert origin.where.startswith("frames/test_migrated_calls.py:")
    again = ORIGINS.of(optimize_dataframe(smaller, "orders"))
    assert again is not None and again.what == "optimize_dataframe orders of " + origin.what
    unlabelled = ORIGINS.of(optimize_dataframe(BOM))
    assert unlabelled is not None and unlabelled.what == "optimize_dataframe"


def test_an_error_names_the_label() -> None:
    with pytest.raises(FrameError, match=r"^inventory_data: a DataFrame is needed, not list$"):
        optimize_dataframe([1], "inventory_data")  # type: ignore[call-overload]
    with pytest.raises(FrameError, match=r"^a DataFrame is needed, not list$"):
        optimize_dataframe([1])  # type: ignore[call-overload]
    with pytest.raises(FrameError, match=r"the label is \['price'\]; it must be a string"):
        optimize_dataframe(BOM, ["price"])  # type: ignore[call-overload]


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        optimize_dataframe(BOM, "orders", "compact")  # type: ignore[call-overload]
    kept = optimize_dataframe(BOM, "orders", level="compact", keep="pounds", float_tolerance=1e-6)
    assert kept["pounds"].dtype == "int64" and kept["price"].dtype == "float32"


def test_a_label_that_names_a_level_warns_once_and_chooses_none() -> None:
    with pytest.warns(MigrationWarning, match="write level='compact'"):
        smaller = optimize_dataframe(BOM, "compact")
    assert smaller.dtypes.equals(optimize_dataframe(BOM).dtypes)


def test_aggressive_is_the_level_compact_without_loss_and_warns_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [optimize_dataframe(BOM, aggressive=True) for _ in range(3)]
    [warning] = caught
    assert warning.category is MigrationWarning and warning.filename == __file__
    assert 'level="compact", which is lossless' in str(warning.message)
    assert results[0].dtypes.equals(optimize_dataframe(BOM, level="compact").dtypes)
    assert differences(BOM, results[0]) == [] and len(results[0]) == len(BOM)
    assert results[0]["due"].tolist() == BOM["due"].tolist()
    assert results[0]["price"].dtype == "float64"


def test_aggressive_contradicts_any_other_level() -> None:
    with pytest.warns(MigrationWarning):
        optimize_dataframe(BOM, aggressive=True, level="compact")
    with pytest.raises(
        FrameError, match="aggressive=True is level=\"compact\", and level is 'safe'"
    ):
        optimize_dataframe(BOM, aggressive=True, level="safe")


@pytest.mark.parametrize("options", [{}, {"label": "orders"}, {"level": "pack"}, {"keep": "price"}])
def test_no_frame_gives_no_frame(options: Any) -> None:
    assert optimize_dataframe(None, **options) is None


# -- limit_dataframe_size ----------------------------------------------------------------------------

LARGE = pd.DataFrame({"n": range(100_001)})


def large() -> pd.DataFrame:
    return LARGE


@pytest.mark.parametrize(
    "decorate", [limit_dataframe_size, limit_dataframe_size()], ids=["bare", "()"]
)
def test_a_decorated_function_may_return_a_hundred_thousand_rows_by_default(decorate: Any) -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        decorate(large)()
    assert str(caught.value) == (
        "large returned 100,001 rows, and max_rows is 100,000; raise max_rows, or choose "
        'on_exceed="warn" (returns all rows) or on_exceed="truncate" (returns the first rows)'
    )
    allowed = LARGE.iloc[1:]
    assert decorate(lambda: allowed)() is allowed


def test_a_decorated_function_may_have_its_own_limit() -> None:
    @limit_dataframe_size(max_rows=5000)
    def stock(count: int) -> pd.DataFrame:
        return LARGE.iloc[:count]

    assert len(stock(5000)) == 5000 and stock.__name__ == "stock"
    with pytest.raises(FrameTooLargeError, match="returned 5,001 rows, and max_rows is 5,000; "):
        stock(5001)


def test_a_frame_is_checked_as_the_first_argument() -> None:
    allowed = LARGE.iloc[1:]
    assert limit_dataframe_size(allowed) is allowed
    assert limit_dataframe_size(LARGE, 200_000) is LARGE
    assert limit_dataframe_size(LARGE, max_rows=200_000) is LARGE
    for limited in (lambda: limit_dataframe_size(LARGE), lambda: limit_dataframe_size(BOM, 119)):
        with pytest.raises(
            FrameTooLargeError, match=r"^the argument has 1.* rows, and max_rows is 1"
        ):
            limited()
