"""Messages of the package's errors."""

from __future__ import annotations

from flask_knitperf.core.errors import ConfigurationError, NPlusOneError


def test_a_configuration_error_names_the_value_and_what_is_allowed() -> None:
    error = ConfigurationError("KNITPERF_X", 7, "must be a text")
    assert str(error) == "KNITPERF_X = 7 cannot be used: must be a text"


def test_an_n_plus_one_error_has_one_line_per_finding() -> None:
    error = NPlusOneError(["first", "second"])
    assert str(error).splitlines()[1:] == ["  first", "  second"]
    assert error.findings == ["first", "second"]
