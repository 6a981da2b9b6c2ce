"""Endpoints of an application: their thresholds, and which of them were called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.views import MethodView

from flask_knitperf import ConfigurationError, KnitPerf

# -- thresholds ------------------------------------------------------------------------------------


def thresholds(mill: Any, endpoint: str) -> dict[str, float]:
    row: dict[str, Any] = mill.row(endpoint)
    return dict(row["thresholds"])


def test_an_endpoint_has_the_global_thresholds_by_default(quiet: Any) -> None:
    quiet.get("/")
    assert thresholds(quiet, "index") == {"slow_ms": 500, "moderate_ms": 200}


def test_a_decorated_view_has_its_thresholds(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    @quiet.perf.budget(slow_ms=50, moderate_ms=20)
    def it() -> str:
        return "x"

    quiet.get("/it")
    assert thresholds(quiet, "it") == {"slow_ms": 50, "moderate_ms": 20}


def test_a_decorated_view_class_has_its_thresholds(quiet: Any) -> None:
    @quiet.perf.budget(p95_ms=20)
    class It(MethodView):
        def get(self) -> str:
            return "x"

    quiet.app.add_url_rule("/it", view_func=It.as_view("it"))
    quiet.get("/it")
    assert thresholds(quiet, "it")["moderate_ms"] == 20


def test_configuration_takes_precedence_over_code_threshold_by_threshold(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"it": {"slow_ms": 900}})
    mill.app.get("/it", endpoint="it")(mill.perf.budget(slow_ms=50, moderate_ms=20)(lambda: "x"))
    mill.get("/it")
    assert thresholds(mill, "it") == {"slow_ms": 900, "moderate_ms": 20}


@pytest.mark.parametrize(
    "thresholds", [{"p95": 5}, {"slow_ms": "5"}, {"slow_ms": -5}, {"min_success_rate": 95}]
)
def test_an_invalid_budget_is_an_error_at_the_decorator(thresholds: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        KnitPerf().budget(**thresholds)


def test_a_budget_does_not_replace_its_view() -> None:
    def view() -> str:
        return "x"

    assert KnitPerf().budget(slow_ms=5)(view) is view


def test_thresholds_for_an_unknown_endpoint_are_reported(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"indx": {"slow_ms": 900}})
    assert "thresholds are given for 'indx'" in mill.degraded()


def test_a_verdict_uses_the_threshold_of_its_endpoint(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"patient": {"slow_ms": 5000, "p95_ms": 4000}})
    mill.session.recorder.clock = time.clock()
    for name in ("patient", "hasty"):
        mill.app.add_url_rule(f"/{name}", name, lambda: time.pass_(1) or "x")
    for _ in range(20):
        mill.get("/patient"), mill.get("/hasty")
    assert [finding["endpoint"] for finding in mill.report()["bottlenecks"]] == ["hasty"]


# -- coverage --------------------------------------------------------------------------------------


def test_coverage_lists_the_endpoints_that_were_not_called(quiet: Any) -> None:
    quiet.app.get("/a", endpoint="a")(lambda: "a")
    quiet.app.post("/b", endpoint="b")(lambda: "b")
    quiet.get("/"), quiet.get("/nowhere")
    assert quiet.report()["coverage"] == {
        "endpoints_total": 3, "seen": 1, "unseen": ["a", "b"], "judged": 0,
    }  # fmt: skip


def test_coverage_excludes_our_pages(quiet: Any) -> None:
    assert quiet.report()["coverage"]["endpoints_total"] == 1
