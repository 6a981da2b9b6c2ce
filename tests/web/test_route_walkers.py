"""Whatever walks an application's routes or blueprints finds no page of ours."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import url_for
from werkzeug.routing import BuildError

from .clients import BEARER


def test_the_url_map_of_the_application_holds_no_page(closed: Any) -> None:
    assert closed.get("/perf/report", **BEARER).code == 200
    assert {rule.endpoint for rule in closed.app.url_map.iter_rules()} == {"index"}


def test_no_blueprint_of_ours_has_a_before_request_function(closed: Any) -> None:
    assert not [name for name in closed.app.before_request_funcs if name == "knitperf"]


def test_a_generator_that_reads_attributes_of_guarded_blueprints_works(closed: Any) -> None:
    """APIFlask reads ``enable_openapi`` of each blueprint with a ``before_request`` function."""
    for name in closed.app.blueprints:
        if name in closed.app.before_request_funcs:
            assert closed.app.blueprints[name].enable_openapi


def test_a_generator_that_requests_each_page_without_parameters_succeeds(closed: Any) -> None:
    """Frozen-Flask requests each of these rules, and stops at a 404."""
    rules = [rule for rule in closed.app.url_map.iter_rules() if not rule.arguments]
    assert [closed.get(rule.rule).code for rule in rules] == [200]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "/perf/memory"),
        ({"window": "5m"}, "/perf/memory?window=5m"),
        ({"_anchor": "gc"}, "/perf/memory#gc"),
        ({"_external": True}, "http://localhost/perf/memory"),
        ({"_external": True, "_scheme": "https"}, "https://localhost/perf/memory"),
    ],
)
def test_an_application_builds_the_url_of_a_page(
    closed: Any, options: dict[str, Any], url: str
) -> None:
    with closed.app.test_request_context("/"):
        assert url_for("knitperf.memory", **options) == url


def test_the_url_of_a_page_has_the_script_root(closed: Any) -> None:
    with closed.app.test_request_context("/", environ_overrides={"SCRIPT_NAME": "/mill"}):
        assert url_for("knitperf.command", name="clear") == "/mill/perf/command/clear"


@pytest.mark.parametrize("endpoint", ["knitperf.nosuch", "knitperf.command", "nosuch"])
def test_a_url_that_cannot_be_built_is_the_error_it_always_was(closed: Any, endpoint: str) -> None:
    with closed.app.test_request_context("/"), pytest.raises(BuildError):
        url_for(endpoint)


def test_a_handler_of_the_application_still_builds_its_urls(closed: Any) -> None:
    closed.app.url_build_error_handlers.append(lambda error, endpoint, values: f"/x/{endpoint}")
    with closed.app.test_request_context("/"):
        assert url_for("elsewhere") == "/x/elsewhere"
        assert url_for("knitperf.report") == "/perf/report"


def test_a_view_that_the_guard_did_not_pass_is_not_found(closed: Any) -> None:
    view = closed.app.blueprints["knitperf"].views["knitperf.report"]
    closed.app.add_url_rule("/back-door", view_func=view)
    assert closed.get("/back-door").code == 404


def test_each_view_function_of_the_application_has_a_rule(closed: Any) -> None:
    """Generators of API documentation look up the rule of each view function, such as apispec."""
    for _ in range(2):  # also once pages were shown
        own = dict(closed.app.view_functions.items())
        assert all(closed.app.url_map._rules_by_endpoint[endpoint] for endpoint in own)
        assert closed.get("/perf/report", **BEARER).code == 200
    assert closed.app.view_functions.get("knitperf.report") is None
    with pytest.raises(KeyError, match="nosuch"):
        closed.app.view_functions["nosuch"]


@pytest.mark.parametrize(
    ("script_root", "mount_point"),
    [
        ("//evil.example", "/evil.example"), ("///x/", "/x"), ("/\\evil.example", "/evil.example"),
        ("https://evil.example", "/https://evil.example"), ("mill", "/mill"), ("/", ""),
        ("javascript:alert(1)//", "/javascript:alert(1)"), ("/a b", "/a%20b"),
        ("/Stra\xc3\x9fe", "/Stra%C3%9Fe"), ("/100%", "/100%25"),
    ],
)  # fmt: skip
def test_links_stay_on_the_host_for_any_script_root(
    closed: Any, script_root: str, mount_point: str
) -> None:
    overrides = {"SCRIPT_NAME": script_root, "HTTP_ACCEPT": "text/html", **BEARER}
    page = closed.get("/perf/", **overrides).body.decode()
    links = re.findall(r'(?:href|action)="([^"#?][^"]*)"', page)
    assert len(links) > 5
    assert all(link.startswith((f"{mount_point}/perf/", "data:")) for link in links)
    with closed.app.test_request_context("/", environ_overrides={"SCRIPT_NAME": script_root}):
        assert url_for("knitperf.report") == f"{mount_point}/perf/report"
