"""Settings: one table of options, read once, with errors that name the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.core.settings import OPTIONS, Settings, limits, markdown, read


def settings_of(**options: Any) -> Settings:
    return read({f"KNITPERF_{name}": value for name, value in options.items()})


def test_every_option_has_a_default_that_it_accepts() -> None:
    settings = read({})
    for option in OPTIONS:
        if option.key not in ("STATE_DIR", "HISTORY_URL"):
            assert getattr(settings, option.key.lower()) == option.read(option.default)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ENABLED", 1), ("ENABLED", "yes"), ("SLOW_MS", "500"), ("SLOW_MS", 0), ("SLOW_MS", True),
        ("MIN_SUCCESS_RATE", 1.01), ("MIN_SUCCESS_RATE", 95), ("VARIANCE_RATIO", -1),
        ("ENDPOINTS", ["a"]), ("OPENED_FILES", ".csv"), ("OPENED_FILES", ["csv"]),
        ("LONG_POLLS", "news"), ("LONG_POLLS", [1]),
        ("ACCESS_TOKEN", "sixteen-and-m\xf6re"), ("ACCESS_TOKEN", "a-long-token-\udcff"),
        ("ACCESS_TOKEN", " with a space at its end "),
        ("IGNORE_PATHS", "/health"), ("IGNORE_PATHS", ["health"]),
        ("URL_PREFIX", "perf"), ("URL_PREFIX", "/perf/"), ("URL_PREFIX", "/"), ("URL_PREFIX", "/<x>"),
        ("URL_PREFIX", 7), ("ACCESS_TOKEN", "short"), ("ACCESS_TOKEN", 1234567890123456),
        ("ACCESS", "me"), ("RELEASE", 7), ("RELEASE", ""), ("STATE_DIR", 7), ("STATE_DIR", "a\0b"),
        ("RUNS_KEPT", 0),
        ("RUNS_KEPT", 2.5), ("CPU_SAMPLE", True), ("LOG_BYTES", 70_000), ("LOG_BYTES", 4096),
        ("FOLD_INTERVAL_S", 0), ("GC_THRESHOLD_MB", float("nan")), ("GC_THRESHOLD_MB", None),
    ],
)  # fmt: skip
def test_an_invalid_value_is_named_with_the_accepted_values(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"KNITPERF_{key}") as raised:
        settings_of(**{key: value})
    assert raised.value.key == f"KNITPERF_{key}"
    assert "must be" in raised.value.allowed


def test_an_unknown_option_names_its_nearest_neighbour() -> None:
    with pytest.raises(ConfigurationError, match="did you mean KNITPERF_SLOW_MS"):
        settings_of(SLOW_MSEC=500)


def test_the_token_never_appears_in_errors_or_repr() -> None:
    with pytest.raises(ConfigurationError) as raised:
        settings_of(ACCESS_TOKEN="secret-short")
    assert "secret-short" not in str(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        settings_of(ACCESS_TOKENS="another-secret-value")
    assert "another-secret" not in str(raised.value)
    assert "a-long-secret-value" not in repr(settings_of(ACCESS_TOKEN="a-long-secret-value"))


def test_a_function_may_decide_on_access() -> None:
    assert callable(settings_of(ACCESS=lambda request: True).access)


def test_other_configuration_keys_are_ignored() -> None:
    assert read({"SECRET_KEY": 1, "SQLALCHEMY_URL": None}).slow_ms == 500


def test_moderate_must_not_exceed_slow() -> None:
    with pytest.raises(ConfigurationError, match="must not exceed KNITPERF_SLOW_MS"):
        settings_of(SLOW_MS=100, MODERATE_MS=200)


def test_a_path_object_is_a_path(tmp_path: Path) -> None:
    assert settings_of(STATE_DIR=tmp_path).state_dir == str(tmp_path)


def test_each_application_of_a_user_has_a_separate_state_directory() -> None:
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
    budget = settings_of(ENDPOINTS={"e": own}).budget("e")
    assert (budget.slow_ms, budget.moderate_ms) == (slow, moderate)


def test_other_endpoints_keep_the_global_thresholds() -> None:
    settings = settings_of(ENDPOINTS={"e": {"slow_ms": 4000, "variance_ratio": 9}})
    assert settings.budget("other").slow_ms == 500
    assert settings.budget("e").variance_ratio == 9


def test_configured_thresholds_win_over_decorators() -> None:
    settings = settings_of(ENDPOINTS={"e": {"slow_ms": 4000}})
    merged = settings.with_budgets({"e": {"slow_ms": 1, "variance_ratio": 5}, "f": {"slow_ms": 7}})
    assert merged.budget("e").slow_ms == 4000
    assert merged.budget("e").variance_ratio == 5
    assert merged.budget("f").slow_ms == 7
    assert settings.with_budgets({}) is settings


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [({"slow": 1}, "did you mean slow_ms"), ({"zzz": 1}, "thresholds are"),
     ({"slow_ms": -1}, "must be a number"), (7, "must be a mapping")],
)  # fmt: skip
def test_a_wrong_threshold_is_named(wrong: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        limits("KNITPERF_ENDPOINTS['e']", wrong)


def test_the_documentation_lists_every_option() -> None:
    text = markdown()
    for option in OPTIONS:
        assert f"`KNITPERF_{option.key}`" in text


def test_windows_users_have_a_default_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.getuid", raising=False)
    monkeypatch.setenv("USERNAME", "Ann Müller")
    assert "Ann-M-ller" in read({}, name="mill").state_dir


@pytest.mark.parametrize(
    ("value", "expected"),
    [("https://erp.example/perf/", "https://erp.example/perf"), ("http://erp:8080", "http://erp:8080"),
     (None, None)],
)  # fmt: skip
def test_the_public_address_has_no_slash_at_its_end(value: Any, expected: Any) -> None:
    assert read({"KNITPERF_PUBLIC_URL": value}).public_url == expected


@pytest.mark.parametrize("value", ["erp.example", "https://", "https://erp/?q=1", "ftp://erp", 5])
def test_a_public_address_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be an address"):
        read({"KNITPERF_PUBLIC_URL": value})


def test_an_error_about_channels_shows_no_secret() -> None:
    with pytest.raises(ConfigurationError, match="<hidden>") as caught:
        read({"KNITPERF_ALERT_CHANNELS": {"ops": "https://hooks.example/secret"}})
    assert "secret" not in str(caught.value)
