"""The application: every endpoint answers, and the fixed variant answers like the sick one."""

from __future__ import annotations

import inspect

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from demo_app.context import KEY, Demo
from demo_app.plants import plan
from demo_app.traffic import Request, requests
from tests.demo.conftest import MakeApp

STATUS = {"redirect": 301, "leak": 201, "create": 201}


def _send(client: FlaskClient, request: Request) -> TestResponse:
    return client.open(
        request.path,
        method=request.method,
        data=request.body or None,
        content_type=request.content_type or None,
    )


def _demo(app: Flask) -> Demo:
    demo: Demo = app.extensions[KEY]
    return demo


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_endpoint_answers_at_its_planned_address(make_app: MakeApp, seed: int) -> None:
    client = make_app(seed, DEMO_STUCK_S=0).test_client()
    for kind, place in plan(seed).places.items():
        body = {"order": "W1", "style": "10001/1A", "pounds": 2} if kind == "create" else None
        url = place.url if kind != "flaky" else f"{place.rule}?n={_good(seed)}"
        with client.open(url, method=place.method, json=body) as answer:
            assert answer.status_code == STATUS.get(kind, 200), kind
            assert answer.get_data(), kind


def _good(seed: int) -> int:
    return (plan(seed).sizes.flaky_offset + 1) % 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 4, 5, 6])
def test_the_fixed_demo_answers_byte_for_byte_what_the_sick_one_does(
    make_app: MakeApp, seed: int
) -> None:
    sick, fixed = make_app(seed).test_client(), make_app(seed, fixed=True).test_client()
    for request in requests(plan(seed), 120, seed, least=3):
        with _send(sick, request) as before, _send(fixed, request) as after:
            if request.kind == "flaky" and before.status_code == 500:
                assert after.status_code == 200
                continue
            assert before.status_code == after.status_code, request
            assert before.get_data() == after.get_data(), request


def test_the_view_and_hook_carry_their_planned_names_in_their_code(make_app: MakeApp) -> None:
    app = make_app(3)
    for place in plan(3).places.values():
        view = app.view_functions[place.endpoint]
        assert inspect.unwrap(view).__code__.co_name == place.function
    hooks = app.before_request_funcs[plan(3).places["early_hook"].blueprint]
    assert [hook.__code__.co_name for hook in hooks] == [plan(3).sizes.hook]


def test_a_tenth_of_the_quotes_fail_as_json_with_status_500(make_app: MakeApp) -> None:
    client = make_app().test_client()
    path = plan(0).places["flaky"].rule
    answers = [client.get(f"{path}?n={number}") for number in range(40)]
    assert sum(answer.status_code == 500 for answer in answers) == 4
    failed = next(answer for answer in answers if answer.status_code == 500)
    assert failed.get_json() == {"error": "price list not loaded"}


def test_http_errors_pass_the_catch_all_handler(make_app: MakeApp) -> None:
    client = make_app().test_client()
    assert client.get("/nowhere").status_code == 404
    assert client.delete(plan(0).places["health"].url).status_code == 405
    assert client.post(plan(0).places["create"].url, json={"order": 1}).status_code == 400


def test_the_knit_orders_are_smaller_on_the_wire_when_fixed_and_accepted(
    make_app: MakeApp,
) -> None:
    path = plan(0).places["large_json"].url
    accept = {"Accept-Encoding": "gzip"}
    sick = make_app().test_client().get(path, headers=accept)
    fixed = make_app(fixed=True).test_client().get(path, headers=accept)
    assert "Content-Encoding" not in sick.headers
    assert fixed.headers["Content-Encoding"] == "gzip"
    assert len(fixed.get_data()) < len(sick.get_data()) / 3


def test_the_export_streams_its_head_before_the_rest(make_app: MakeApp) -> None:
    answer = make_app().test_client().get(plan(0).places["stream"].url, buffered=False)
    pieces = [bytes(piece) if isinstance(piece, bytes) else b"" for piece in answer.response]
    answer.close()
    assert pieces[0] == b"supplier,yarn,colour,balance_lbs\n"
    assert len(pieces) == plan(0).sizes.export_chunks


def test_a_mismatched_cache_fills_up_and_a_good_one_is_read(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()
    for kind in ("key_mismatch", "good_cache"):
        for _ in range(2):
            client.get(plan(0).places[kind].url)
    scope = "yarn:3"
    assert scope not in _demo(app).intelligence.store
    assert f"{scope}:lbs" in _demo(app).intelligence.store
    assert "kpis" in _demo(app).kpis.store


def test_the_budgets_name_endpoints_and_the_environment_adds_to_them(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNITPERF_ENDPOINTS", '{"health": {"slow_ms": 9}}')
    monkeypatch.setenv("KNITPERF_SLOW_MS", "700")
    monkeypatch.setenv("KNITPERF_RELEASE", "1.10")
    config = make_app().config
    assert config["KNITPERF_ENDPOINTS"]["stock.supplier_export"]["slow_ms"] == 10_000
    assert config["KNITPERF_ENDPOINTS"]["tenant.tenant_settings"]["moderate_ms"] == 5
    assert config["KNITPERF_ENDPOINTS"]["health"] == {"slow_ms": 9}
    assert config["KNITPERF_SLOW_MS"] == 700
    assert config["KNITPERF_RELEASE"] == "1.10"


def test_each_service_has_two_to_five_public_methods(make_app: MakeApp) -> None:
    services = vars(_demo(make_app()).services)
    assert [type(service).__name__ for service in services.values()] == [
        "InventoryAnalyzerService", "SalesForecastingService", "CapacityPlanningService",
        "InventoryManagementPipelineService", "YarnRequirementCalculatorService",
    ]  # fmt: skip
    for service in services.values():
        public = [name for name in vars(type(service)) if not name.startswith("_")]
        assert 2 <= len(public) <= 5


def test_one_call_profiles_all_five_services(make_app: MakeApp) -> None:
    seen: list[object] = []

    class Perf:
        def instrument(self, target: object) -> object:
            seen.append(target)
            return target

    services = _demo(make_app()).services
    services.profile(Perf())
    assert seen == list(vars(services).values())
