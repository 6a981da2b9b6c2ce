"""``KnitPerf`` in an application: set up once, its settings checked, several applications apart."""

from __future__ import annotations

import json
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_knitperf import ConfigurationError, KnitPerf, KnitPerfError

from .runtime.applications import counts

# -- setting up ------------------------------------------------------------------------------------


def test_initialising_twice_changes_nothing(quiet: Any) -> None:
    before = (quiet.app.wsgi_app, quiet.session, list(quiet.app.url_map.iter_rules()))
    quiet.perf.init_app(quiet.app)
    assert before == (quiet.app.wsgi_app, quiet.session, list(quiet.app.url_map.iter_rules()))


def test_a_second_extension_for_one_application_changes_nothing(quiet: Any) -> None:
    KnitPerf(quiet.app)
    quiet.get("/")
    assert counts(quiet) == {"index": 1}


def test_one_extension_serves_several_applications(make_app: Callable[..., Any]) -> None:
    perf = KnitPerf()
    one, two = (make_app(name=name, perf=perf, TESTING=True) for name in ("one", "two"))
    one.get("/"), two.get("/"), two.get("/")
    assert (counts(one), counts(two)) == ({"index": 1}, {"index": 2})


def test_the_extension_references_no_application(make_app: Callable[..., Any]) -> None:
    perf = KnitPerf()
    mill = make_app(perf=perf, TESTING=True)
    assert not [value for value in vars(perf).values() if value in (mill.app, mill.session)]


def test_blueprints_and_hooks_registered_after_the_extension_are_measured(
    quiet: Any, time: Any
) -> None:
    quiet.session.recorder.clock = time.clock()
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/open", "open", lambda: "x")
    quiet.app.before_request(lambda: time.pass_(0.01))
    quiet.app.register_blueprint(shop, url_prefix="/shop")
    quiet.get("/shop/open")
    assert quiet.row("shop.open")["mean_ms"] == 10 and len(quiet.parts("shop.open")) == 1


def test_middleware_that_is_added_later_works(quiet: Any) -> None:
    inner = quiet.app.wsgi_app
    quiet.app.wsgi_app = inner
    assert quiet.get("/").body == b"ok" and counts(quiet) == {"index": 1}


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"KNITPERF_SLOW_MSEC": 1}, "KNITPERF_SLOW_MSEC.*did you mean KNITPERF_SLOW_MS?"),
    ({"KNITPERF_STATEDIR": "x"}, "did you mean KNITPERF_STATE_DIR?"),
    ({"KNITPERF_": 1}, "there is no such option"),
    ({"KNITPERF_SLOW_MS": "500"}, "KNITPERF_SLOW_MS = '500' cannot be used: must be a number"),
    ({"KNITPERF_SLOW_MS": -1}, "KNITPERF_SLOW_MS = -1 cannot be used"),
    ({"KNITPERF_SLOW_MS": True}, "KNITPERF_SLOW_MS = True"),
    ({"KNITPERF_SLOW_MS": None}, "KNITPERF_SLOW_MS = None"),
    ({"KNITPERF_SLOW_MS": float("nan")}, "KNITPERF_SLOW_MS = nan"),
    ({"KNITPERF_SLOW_MS": 100, "KNITPERF_MODERATE_MS": 200}, "must not exceed KNITPERF_SLOW_MS"),
    ({"KNITPERF_MIN_SUCCESS_RATE": 95}, "must be a number from 0 to 1"),
    ({"KNITPERF_VARIANCE_RATIO": []}, "KNITPERF_VARIANCE_RATIO"),
    ({"KNITPERF_ENABLED": "yes"}, "must be True or False"),
    ({"KNITPERF_ENABLED": 1}, "must be True or False"),
    ({"KNITPERF_ENDPOINTS": []}, "must be a mapping"),
    ({"KNITPERF_ENDPOINTS": {"index": 5}}, r"KNITPERF_ENDPOINTS\['index'\]"),
    ({"KNITPERF_ENDPOINTS": {"index": {"slow": 5}}}, "did you mean slow_ms?"),
    ({"KNITPERF_ENDPOINTS": {"index": {"slow_ms": "5"}}}, "must be a number"),
    ({"KNITPERF_IGNORE_PATHS": "/health"}, "must be a list of paths"),
    ({"KNITPERF_IGNORE_PATHS": ["health"]}, "start with /"),
    ({"KNITPERF_URL_PREFIX": "perf"}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": "/perf/"}, "without a slash at its end"),
    ({"KNITPERF_URL_PREFIX": "/"}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": ""}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": "/<perf>"}, "must be a path such as /perf"),
    ({"KNITPERF_ACCESS": "admin"}, "must be a function"),
    ({"KNITPERF_RELEASE": 7}, "must be a text"),
    ({"KNITPERF_STATE_DIR": 7}, "must be a path"),
    ({"KNITPERF_RUNS_KEPT": 0}, "whole number from 1"),
    ({"KNITPERF_RUNS_KEPT": 2.5}, "whole number"),
    ({"KNITPERF_CPU_SAMPLE": 0}, "whole number from 1"),
    ({"KNITPERF_FOLD_INTERVAL_S": 0}, "must be a number from 0.1"),
    ({"KNITPERF_LOG_BYTES": 70_000}, "multiple of 4096"),
    ({"KNITPERF_CLEANUP_INTERVAL_S": 0}, "must be a number of 1 or more"),
    ({"KNITPERF_GC_THRESHOLD_MB": "500MB"}, "must be a number"),
]


@pytest.mark.parametrize(("config", "message"), INVALID, ids=[str(config) for config, _ in INVALID])
def test_an_invalid_setting_is_an_error_that_names_valid_ones(
    make_app: Callable[..., Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_app(**config)


def test_an_application_with_invalid_settings_is_not_changed(tmp_path: Path) -> None:
    app = Flask("mill")
    app.config["KNITPERF_SLOW_MS"] = "x"
    before = (app.wsgi_app, dict(app.extensions), dict(app.blueprints))
    with pytest.raises(ConfigurationError):
        KnitPerf(app)
    assert before == (app.wsgi_app, dict(app.extensions), dict(app.blueprints))


@pytest.mark.parametrize(
    "config",
    [{"KNITPERF_ACCESS_TOKEN": "hunter2"}, {"KNITPERF_ACCESS_TOKENS": "hunter2-and-more-of-it"},
     {"KNITPERF_TOKEN": "hunter2"}, {"KNITPERF_ACCESS_TOKEN": ["hunter2"]}],
)  # fmt: skip
def test_a_token_never_appears_in_an_error(
    make_app: Callable[..., Any], config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(**config)
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


def test_a_token_never_appears_in_settings_or_report(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS_TOKEN="hunter2-and-more-of-it")
    shown = f"{mill.session.settings} {json.dumps(mill.report())}"
    assert "hunter2" not in shown


@pytest.mark.slow
def test_a_token_is_never_written_to_the_state_directory(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN="hunter2-and-more-of-it")
    mill.get("/")
    mill.session.close()
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files and [path for path in files if b"hunter2" in path.read_bytes()] == []


def test_settings_of_other_extensions_are_ignored(make_app: Callable[..., Any]) -> None:
    assert make_app(TESTING=True, KNITTING=1, MY_KNITPERF_X=2).get("/").code == 200


# -- several applications --------------------------------------------------------------------------


@pytest.fixture
def private_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a separate temporary directory, where default state directories are created."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_applications_of_one_process_have_separate_state_directories(
    make_app: Callable[..., Any], private_temp: Path
) -> None:
    mills = [make_app(name=name, KNITPERF_STATE_DIR=None) for name in ("front", "back")]
    for number, mill in enumerate(mills):
        for _ in range(number + 1):
            mill.get("/")
    assert [counts(mill) for mill in mills] == [{"index": 1}, {"index": 2}]
    assert len(list(private_temp.iterdir())) == 2


def test_the_default_state_directory_is_private_and_below_the_temporary_one(
    make_app: Callable[..., Any], private_temp: Path
) -> None:
    make_app(KNITPERF_STATE_DIR=None).get("/")
    (folder,) = private_temp.iterdir()
    assert folder.name.startswith("flask_knitperf-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_context_the_only_application_is_used(quiet: Any) -> None:
    assert quiet.perf.session() is quiet.session


def test_without_a_context_two_applications_are_ambiguous(make_app: Callable[..., Any]) -> None:
    one = make_app(name="one", TESTING=True)
    make_app(name="two", perf=one.perf, TESTING=True)
    with pytest.raises(KnitPerfError, match="push an application context"):
        one.perf.session()


def test_without_a_context_each_extension_uses_its_application(
    make_app: Callable[..., Any],
) -> None:
    one, two = make_app(name="one", TESTING=True), make_app(name="two", TESTING=True)
    assert (one.perf.session(), two.perf.session()) == (one.session, two.session)


def test_within_a_context_the_current_application_is_used(make_app: Callable[..., Any]) -> None:
    one, two = make_app(name="one", TESTING=True), make_app(name="two", TESTING=True)
    with two.app.app_context():
        assert one.perf.session() is two.session


def test_an_application_without_the_extension_is_an_error(quiet: Any) -> None:
    with Flask("other").app_context(), pytest.raises(KnitPerfError, match="no application"):
        quiet.perf.report()
