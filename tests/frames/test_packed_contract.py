"""Packed columns in the test suite of pandas for extension arrays."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pandas as pd
import pandas._testing as tm
import pytest
from pandas.tests.extension import base

from flask_knitperf.frames.packed_array import PackedArray, PackedDtype

_ARITHMETIC = [
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__",
    "__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__pow__", "__rpow__",
]  # fmt: skip


pytestmark = [
    pytest.mark.filterwarnings("ignore:matching against an empty string"),  # issued by pandas 2
]

ROWS = 10 if int(pd.__version__.partition(".")[0]) >= 3 else 100
"""Rows that the suite requires."""


def packed(values: Any) -> PackedArray:
    return PackedArray._from_sequence(values, dtype="packed[float64]")


@pytest.fixture
def dtype() -> PackedDtype:
    return PackedDtype()


@pytest.fixture(params=["dictionary", "scaled", "single", "plain", "rare"])
def data(request: pytest.FixtureRequest) -> PackedArray:
    values = {
        "dictionary": [(0.1 + 0.2, 1 / 3, 2 / 3, 5.0)[n % 4] for n in range(ROWS)],
        "scaled": [round(n * 0.37 + 1, 2) for n in range(ROWS)],
        "single": [2.0 ** -(n % 10) + n for n in range(ROWS)],
        "plain": [1 / (n + 3) for n in range(ROWS)],
        "rare": [1 / 3, *[5.0] * (ROWS - 1)],
    }
    return packed(values[request.param])


@pytest.fixture
def data_for_twos() -> PackedArray:
    return packed([2.0] * ROWS)


@pytest.fixture
def data_missing() -> PackedArray:
    return packed([np.nan, 1.5])


@pytest.fixture
def data_for_sorting() -> PackedArray:
    return packed([2.5, 3.5, 1.5])


@pytest.fixture
def data_missing_for_sorting() -> PackedArray:
    return packed([2.5, np.nan, 1.5])


@pytest.fixture
def data_for_grouping() -> PackedArray:
    return packed([2.5, 2.5, np.nan, np.nan, 1.5, 1.5, 2.5, 3.5])


@pytest.fixture
def data_repeated(data: PackedArray) -> Any:
    return lambda count: (data for _ in range(count))


@pytest.fixture
def na_cmp() -> Any:
    return lambda one, other: np.isnan(one) and np.isnan(other)


@pytest.fixture
def na_value() -> float:
    return np.nan


@pytest.fixture
def invalid_scalar() -> object:
    return object()


@pytest.fixture(params=[None, lambda values: values])
def sort_by_key(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["data", "data_missing"])
def all_data(request: pytest.FixtureRequest, data: Any, data_missing: Any) -> Any:
    return data if request.param == "data" else data_missing


def _choices(name: str, values: list[Any]) -> Any:
    def chosen(request: pytest.FixtureRequest) -> Any:
        return request.param

    return pytest.fixture(params=values, name=name)(chosen)


all_arithmetic_operators = _choices("all_arithmetic_operators", _ARITHMETIC)
comparison_op = _choices("comparison_op", [
    operator.eq, operator.ne, operator.gt, operator.ge, operator.lt, operator.le,
])  # fmt: skip
all_compare_operators = _choices("all_compare_operators", [
    "__eq__", "__ne__", "__gt__", "__ge__", "__lt__", "__le__",
])  # fmt: skip
all_numeric_reductions = _choices("all_numeric_reductions", [
    "sum", "max", "min", "mean", "prod", "std", "var", "median", "kurt", "skew", "sem",
])  # fmt: skip
all_boolean_reductions = _choices("all_boolean_reductions", ["all", "any"])
all_numeric_accumulations = _choices(
    "all_numeric_accumulations", ["cumsum", "cumprod", "cummin", "cummax"]
)
all_reductions = _choices("all_reductions", ["sum", "max", "mean", "std", "any"])
using_nan_is_na = _choices("using_nan_is_na", [True])
box_in_series = _choices("box_in_series", [True, False])
as_frame = _choices("as_frame", [True, False])
as_series = _choices("as_series", [True, False])
as_array = _choices("as_array", [True, False])
use_numpy = _choices("use_numpy", [True, False])
skipna = _choices("skipna", [True, False])
fillna_method = _choices("fillna_method", ["ffill", "bfill"])
engine = _choices("engine", ["c", "python"])
nogil = _choices("nogil", [True])
ascending = _choices("ascending", [True, False])
groupby_apply_op = _choices("groupby_apply_op", [
    lambda group: 1, lambda group: [1] * len(group), lambda group: pd.Series([1] * len(group)),
    lambda group: group,
])  # fmt: skip
using_copy_on_write = _choices("using_copy_on_write", [int(pd.__version__.partition(".")[0]) >= 3])
using_infer_string = _choices("using_infer_string", [int(pd.__version__.partition(".")[0]) >= 3])


class TestPacked(
    base.BaseAccumulateTests, base.BaseArithmeticOpsTests, base.BaseCastingTests,
    base.BaseComparisonOpsTests, base.BaseConstructorsTests, base.BaseDtypeTests, base.BaseGetitemTests,
    base.BaseGroupbyTests, base.BaseIndexTests, base.BaseInterfaceTests, base.BaseMethodsTests,
    base.BaseMissingTests, base.BaseParsingTests, base.BasePrintingTests, base.BaseReduceTests,
    base.BaseReshapingTests, base.BaseSetitemTests, base.BaseUnaryOpsTests,
):  # fmt: skip
    """Results of arithmetic are ordinary float64; everything else is as the suite requires."""

    def _get_expected_exception(self, op_name: str, obj: Any, other: Any) -> None:
        return None

    def _cast_pointwise_result(
        self, op_name: str, obj: Any, other: Any, pointwise_result: Any
    ) -> Any:
        if op_name in ("eq", "ne", "gt", "ge", "lt", "le"):
            return pointwise_result
        return pointwise_result.astype("float64")

    def _supports_reduction(self, ser: Any, op_name: str) -> bool:
        return True

    def _supports_accumulation(self, ser: Any, op_name: str) -> bool:
        return True

    def check_reduce_frame(self, ser: Any, op_name: str, skipna: bool) -> None:
        reduce = operator.methodcaller(op_name, skipna=skipna)
        frame = pd.DataFrame({"a": ser})
        tm.assert_series_equal(reduce(frame), reduce(frame.astype("float64")))

    def _honors_copy_keyword(self, data: Any) -> bool:
        return False  # filling encodes again

    @pytest.mark.parametrize("ufunc", [np.positive, np.negative, np.abs])
    def test_unary_ufunc_dunder_equivalence(self, data: Any, ufunc: Any) -> None:
        attr = {np.positive: "__pos__", np.negative: "__neg__", np.abs: "__abs__"}[ufunc]
        np.testing.assert_array_equal(getattr(data, attr)(), ufunc(data.to_numpy()))
        np.testing.assert_array_equal(ufunc(data), ufunc(data.to_numpy()))

    def test_array_interface_copy(self, data: Any) -> None:
        one, other = np.array(data, copy=True), np.array(data, copy=True)
        assert not np.may_share_memory(one, other)
        if int(np.__version__.partition(".")[0]) >= 2:  # which raises if a copy cannot be avoided
            with pytest.raises(ValueError, match="decoded into a new array"):
                np.array(data, copy=False)
