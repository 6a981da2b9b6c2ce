"""URL space under the prefix: an unauthenticated client meets the application as if it had no pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask, redirect, request, url_for
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_knitperf import KnitPerf
from flask_knitperf.web.guard import Principal

from .clients import BEARER, METHODS, PATHS, TOKEN, decide, form, make_guard
from .reader import PAGES

# Building an application takes much longer than a request, so one serves all methods of a path.


@pytest.mark.parametrize("path", PATHS)
def test_an_unauthenticated_client_gets_the_response_of_a_path_that_does_not_exist(
    closed: Any, path: str
) -> None:
    for method in METHODS:
        assert closed.send(method, path) == closed.send(method, "/nowhere"), method


@pytest.mark.parametrize("path", [*PATHS, "/perf/sign-in", "/perf/sign-in/", "//perf/sign-in"])
def test_without_a_token_there_is_no_sign_in_page_either(quiet: Any, path: str) -> None:
    for method in METHODS:
        assert quiet.send(method, path) == quiet.send(method, "/nowhere"), method


@pytest.mark.parametrize("method", sorted({*METHODS} - {"GET", "HEAD", "POST"}))
def test_the_sign_in_page_answers_to_no_other_method(closed: Any, method: str) -> None:
    assert closed.send(method, "/perf/sign-in") == closed.send(method, "/nowhere")


@pytest.mark.parametrize(
    "path", ["//perf/sign-in", "/perf//sign-in", "/perf/sign-in/", "/perf/Sign-in"]
)
def test_the_sign_in_page_has_one_address_only(closed: Any, path: str) -> None:
    assert closed.get(path) == closed.get("/nowhere")


@pytest.mark.parametrize("path", ["/perf", "/perf/report", "/perf/sign-in", "/perf/sign-in?code=x"])
def test_no_response_to_an_unauthenticated_client_names_the_tool(closed: Any, path: str) -> None:
    response = closed.get(path)
    text = f"{response.headers} {response.body.decode()}".lower()
    assert not re.search("knit|perf|profil|monitor|python|flask", text)


def test_a_head_of_the_sign_in_page_has_no_body(closed: Any) -> None:
    assert closed.send("HEAD", "/perf/sign-in").body == b""


def test_a_head_of_the_sign_in_page_announces_the_length_of_the_page(closed: Any) -> None:
    page, head = closed.get("/perf/sign-in"), closed.send("HEAD", "/perf/sign-in")
    assert head.header("Content-Length") == page.header("Content-Length") == str(len(page.body))


def test_an_unauthenticated_request_is_not_recorded(closed: Any) -> None:
    closed.get("/perf/report")
    assert closed.rows() == {}


def test_a_path_that_only_starts_like_the_prefix_is_recorded(closed: Any) -> None:
    closed.get("/perfect")
    assert closed.row("<unmatched>")["count"] == 1


def test_forged_origin_and_referrer_authenticate_nothing(closed: Any) -> None:
    response = closed.get(
        "/perf/report", HTTP_ORIGIN="http://localhost", HTTP_REFERER="http://localhost/perf/"
    )
    assert response == closed.get("/nowhere")


def test_an_application_key_in_the_environment_cannot_come_from_a_header(closed: Any) -> None:
    forged = {"HTTP_KNITPERF_PRINCIPAL": "1", "HTTP_X_KNITPERF_PRINCIPAL": "1"}
    assert closed.get("/perf/report", **forged).code == 404


def _own_404(mill: Any) -> None:
    mill.app.register_error_handler(404, lambda error: ("lost: " + request.path, 404))


def _single_page(mill: Any) -> None:
    mill.app.add_url_rule("/<path:path>", view_func=lambda path: "page", methods=["GET", "POST"])


def _login(mill: Any) -> None:
    mill.app.before_request(lambda: redirect(url_for("index", then=request.endpoint)))


def _marked(mill: Any) -> None:
    mill.app.after_request(lambda answer: answer.headers.add("X-Mill", "1") or answer)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("habit", [_own_404, _single_page, _login, _marked])
def test_an_unauthenticated_client_meets_the_application_as_it_is_without_the_pages(
    make_closed: Callable[..., Any], habit: Callable[[Any], None], path: str
) -> None:
    with_pages, bare = make_closed(), make_closed(name="bare", KNITPERF_ENABLED=False)
    habit(with_pages), habit(bare)
    for method in METHODS:
        assert with_pages.send(method, path) == bare.send(method, path), method


def test_an_unauthenticated_request_keeps_its_body(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_ACCESS=lambda request: bool(request.form.get("password")))

    @mill.app.post("/perf/<path:rest>")
    def own(rest: str) -> str:
        return f"{rest} {len(request.form['yarn'])}"

    response = mill.send("POST", "/perf/x", **form(yarn="y" * 9000))
    assert response.body == b"x 9000"


def test_an_authenticated_client_gets_our_pages_before_those_of_the_application(
    closed: Any,
) -> None:
    _single_page(closed)
    assert closed.get("/perf/report", **BEARER).body.startswith(b"{")
    assert closed.get("/perf/else", **BEARER).body == b"page"


def test_a_hook_of_the_application_still_builds_urls_for_a_request_to_our_pages(
    closed: Any,
) -> None:
    seen = []
    closed.app.before_request(lambda: seen.append((url_for("index"), url_for("knitperf.report"))))
    assert closed.get("/perf/report", **BEARER).code == 200
    assert seen == [("/", "/perf/report")]


def test_a_copy_of_an_authorised_environment_authorises_no_request(closed: Any) -> None:
    environs: list[Any] = []
    closed.app.before_request(lambda: environs.append(dict(request.environ)))
    closed.get("/perf/report", **BEARER)
    copied = {
        k: v for k, v in environs[0].items() if k not in ("HTTP_AUTHORIZATION", "werkzeug.request")
    }
    assert closed.get("/perf/report", **copied).code == 404


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.text(st.characters(max_codepoint=255))
            for name in ("HTTP_AUTHORIZATION", "HTTP_COOKIE", "QUERY_STRING", "REMOTE_ADDR",
                         "HTTP_HOST", "CONTENT_LENGTH", "SCRIPT_NAME")
        },
    ),
    st.sampled_from(["/perf", "/perf/report", "/perf/sign-in", "/perf/sign-out"]),
    st.sampled_from(METHODS),
)  # fmt: skip
def test_no_header_value_opens_or_breaks_the_guard(
    headers: dict[str, str], path: str, method: str
) -> None:
    guard = make_guard(lambda: 0.0, debug=True, token=None)
    assert not isinstance(decide(guard, path, method, **headers), Principal)


# -- other places, other headers -------------------------------------------------------------------


def test_another_prefix_moves_the_pages(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_URL_PREFIX="/internal/speed")
    paths = ("/internal/speed/report", "/perf/report", "/internal/report")
    assert [mill.get(path, **BEARER).code for path in paths] == [200, 404, 404]


def test_another_prefix_is_closed_too(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_URL_PREFIX="/internal/speed")
    for path in ("/internal/speed", "/internal/speed/", "//internal/speed/report"):
        assert mill.get(path) == mill.get("/nowhere")


def mounted(mill: Any, path: str, method: str = "GET", **environ: Any) -> Any:
    """Call an application that is mounted at /mill."""
    outer = DispatcherMiddleware(lambda e, s: s("404 NOT FOUND", []) and [], {"/mill": mill.app})
    seen = type(mill)(mill.app, mill.perf)
    seen.app = type("Outer", (), {"wsgi_app": staticmethod(outer)})()
    return seen.send(method, path, **environ)


def test_a_mounted_application_is_closed_under_its_mount(closed: Any) -> None:
    assert mounted(closed, "/mill/perf/report") == mounted(closed, "/mill/nowhere")


def test_signing_in_to_a_mounted_application_leads_to_its_pages(closed: Any) -> None:
    response = mounted(closed, "/mill/perf/sign-in", "POST", **form(token=TOKEN))
    assert urljoin("/mill/perf/sign-in", response.header("Location")) == "/mill/perf/"
    assert "Path" not in response.header("Set-Cookie")  # so the browser takes /mill/perf


def test_the_pages_of_a_mounted_application_point_to_its_mount(closed: Any) -> None:
    body = mounted(closed, "/mill/perf/", HTTP_ACCEPT="text/html", **BEARER).body.decode()
    links = re.findall(r'(?:href|action)="(/[^"]*)"', body)
    assert links and all(link.startswith("/mill/perf/") for link in links)


@pytest.mark.parametrize("path", ["/perf/", "/perf/report", "/perf/memory", "/perf/style.css"])
def test_a_request_that_bypassed_the_guard_is_refused(closed: Any, path: str) -> None:
    around = type(closed)(closed.app, closed.perf)
    around.app = type("Around", (), {"wsgi_app": lambda e, s: Flask.wsgi_app(closed.app, e, s)})
    assert around.get(path, **BEARER).code == 404


@pytest.mark.parametrize("host", ["a.test", "x.b.test"])
def test_links_of_pages_are_relative_to_the_host_where_hosts_are_matched(host: str) -> None:
    app = Flask("hosts", host_matching=True, static_host="static.test")
    app.config.update(TESTING=True, KNITPERF_ACCESS_TOKEN=TOKEN)
    KnitPerf(app)
    app.add_url_rule("/", "a", lambda: "a", host="a.test")
    app.add_url_rule("/", "b", lambda tenant: tenant, host="<tenant>.b.test")
    client = app.test_client()
    client.get("/", base_url=f"http://{host}")
    for path in PAGES:
        body = client.get(
            path, base_url=f"http://{host}",
            headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"},
        ).text  # fmt: skip
        links = re.findall(r'(?:href|action)="(?!#|\?|data:)([^"]*)"', body)
        assert len(links) > 3 and all(link.startswith("/perf/") for link in links)
    app.extensions["knitperf"].close()
