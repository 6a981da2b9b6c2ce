"""Settings: one table of options, read once, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.core.settings import OPTIONS, Settings, limits, markdown, read


def given(**options: Any) -> Settings:
    return read({f"KNITPERF_{name}": value for name, value in options.items()})


def test_every_option_has_a_default_that_it_accepts() -> None:
    settings = read({})
    for option in OPTIONS:
        if option.key != "STATE_DIR":
            assert getattr(settings, option.key.lower()) == option.read(option.default)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ENABLED", 1), ("ENABLED", "yes"), ("SLOW_MS", "500"), ("SLOW_MS", 0), ("SLOW_MS", True),
        ("MIN_SUCCESS_RATE", 1.01), ("MIN_SUCCESS_RATE", 95), ("VARIANCE_RATIO", -1),
        ("ENDPOINTS", ["a"]), ("OPENED_FILES", ".csv"), ("OPENED_FILES", ["csv"]),
        ("IGNORE_PATHS", "/health"), ("IGNORE_PATHS", ["health"]),
        ("URL_PREFIX", "perf"), ("URL_PREFIX", "/perf/"), ("URL_PREFIX", "/"), ("URL_PREFIX", "/<x>"),
        ("URL_PREFIX", 7), ("ACCESS_TOKEN", "short"), ("ACCESS_TOKEN", 1234567890123456),
        ("ACCESS", "me"), ("RELEASE", 7), ("RELEASE", ""), ("STATE_DIR", 7), ("RUNS_KEPT", 0),
        ("RUNS_KEPT", 2.5), ("CPU_SAMPLE", True), ("LOG_BYTES", 70_000), ("LOG_BYTES", 4096),
        ("FOLD_INTERVAL_S", 0), ("GC_THRESHOLD_MB", float("nan")), ("GC_THRESHOLD_MB", None),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_what_is_allowed(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"KNITPERF_{key}") as raised:
        given(**{key: value})
    assert raised.value.key == f"KNITPERF_{key}"
    assert "must be" in raised.value.allowed


def test_an_unknown_option_names_its_nearest_neighbour() -> None:
    with pytest.raises(ConfigurationError, match="did you mean KNITPERF_SLOW_MS"):
        given(SLOW_MSEC=500)


def test_the_token_is_in_no_error_and_in_no_representation() -> None:
    with pytest.raises(ConfigurationError) as raised:
        given(ACCESS_TOKEN="secret-short")
    assert "secret-short" not in str(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        given(ACCESS_TOKENS="another-secret-value")
    assert "another-secret" not in str(raised.value)
    assert "a-long-secret-value" not in repr(given(ACCESS_TOKEN="a-long-secret-value"))


def test_a_function_may_decide_on_access() -> None:
    assert callable(given(ACCESS=lambda request: True).access)


def test_keys_of_others_are_left_alone() -> None:
    assert read({"SECRET_KEY": 1, "SQLALCHEMY_URL": None}).slow_ms == 500


def test_a_warning_cannot_come_after_the_alarm() -> None:
    with pytest.raises(ConfigurationError, match="must not exceed KNITPERF_SLOW_MS"):
        given(SLOW_MS=100, MODERATE_MS=200)


def test_a_path_object_is_a_path(tmp_path: Path) -> None:
    assert given(STATE_DIR=tmp_path).state_dir == str(tmp_path)


def test_applications_of_one_user_have_folders_of_their_own() -> None:
    one = read({}, app_root="/srv/a", name="mill").state_dir
    other = read({}, app_root="/srv/b", name="mill").state_dir
    assert one != other
    assert Path(one).name.startswith("flask_knitperf-")


@pytest.mark.parametrize(
    ("own", "slow", "moderate"),
    [
        ({"slow_ms": 4000, "moderate_ms": 2000}, 4000, 2000),
        ({"p95_ms": 100}, 250, 100),
        ({"moderate_ms": 100}, 250, 100),
        ({"slow_ms": 4000}, 4000, 200),
        ({"slow_ms": 100}, 100, 100),
        ({"min_success_rate": 0.5}, 500, 200),
    ],
)
def test_an_endpoint_has_its_own_thresholds(
    own: dict[str, float], slow: float, moderate: float
) -> None:
    budget = given(ENDPOINTS={"e": own}).budget("e")
    assert (budget.slow_ms, budget.moderate_ms) == (slow, moderate)


def test_other_endpoints_keep_the_global_thresholds() -> None:
    settings = given(ENDPOINTS={"e": {"slow_ms": 4000, "variance_ratio": 9}})
    assert settings.budget("other").slow_ms == 500
    assert settings.budget("e").variance_ratio == 9


def test_the_configuration_wins_over_the_code() -> None:
    settings = given(ENDPOINTS={"e": {"slow_ms": 4000}})
    merged = settings.with_budgets({"e": {"slow_ms": 1, "variance_ratio": 5}, "f": {"slow_ms": 7}})
    assert merged.budget("e").slow_ms == 4000
    assert merged.budget("e").variance_ratio == 5
    assert merged.budget("f").slow_ms == 7
    assert settings.with_budgets({}) is settings


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"slow": 1}, "did you mean slow_ms"), ({"zzz": 1}, "thresholds are"),
     ({"slow_ms": -1}, "must be a number"), (7, "must be a mapping")],
)  # fmt: skip
def test_a_wrong_threshold_is_named(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        limits("KNITPERF_ENDPOINTS['e']", wrong)


def test_the_documentation_lists_every_option() -> None:
    text = markdown()
    for option in OPTIONS:
        assert f"`KNITPERF_{option.key}`" in text


def test_windows_users_have_a_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.getuid", raising=False)
    monkeypatch.setenv("USERNAME", "Ann Müller")
    assert "Ann-M-ller" in read({}, name="mill").state_dir
