"""Hostile names on the pages: an endpoint, file or release is only ever text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import cachetools
import pytest
from jinja2 import StrictUndefined

from .clients import BEARER
from .reader import BROWSER, PAGES, Page, page

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'--><svg onload=alert(1)>",
    "{{ 'owned'*2 }}{% raw %}", "\u202eevil\u202c", "ß" * 300, "a&lt;b", "</title></style></textarea>",
    "javascript:alert(1)", "x\x00y",
    "\ud83e\uddf6 yarn".encode("utf-16", "surrogatepass").decode("utf-16"),
)  # fmt: skip


def assert_harmless(shown: Page) -> None:
    """Assert that no name became an element, an attribute or a template."""
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "img", "style", "textarea", "iframe"}
    attributes = {name for _, attrs in shown.elements for name in attrs}
    assert not [name for name in attributes if name.startswith("on")]
    schemes = {urlsplit((a.get("href") or "").strip()).scheme for a in shown.all("a")}
    assert schemes <= {"", "http", "https"}
    assert "ownedowned" not in shown.text


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["endpoint", "section", "function", "cache", "release", "rule"])
def test_a_hostile_name_is_only_text(make_open: Callable[..., Any], kind: str, name: str) -> None:
    mill = make_open(**({"KNITPERF_RELEASE": name} if kind == "release" else {}))
    profiled = mill.perf.profiler.profile_endpoint(name)(lambda: None)

    def it() -> str:
        if kind == "section":
            with mill.perf.section(name):
                return "x"
        if kind == "function":
            profiled()
        return "x"

    mill.app.add_url_rule("/it/x", name if kind == "endpoint" else "it", it)
    if kind == "rule":
        mill.app.add_url_rule("/" + re.sub("[<>]", "", name), "it")
    cache = cachetools.LRUCache(1)
    if kind == "cache":
        mill.session.caches.register(cache, None, name)
    for _ in range(3):
        mill.get("/it/x")
    for path in ("/perf/", "/perf/memory"):
        assert_harmless(page(mill, path))


def test_a_hostile_application_name_is_only_text(make_open: Callable[..., Any]) -> None:
    mill = make_open(name='"><script>alert(1)</script>')
    assert_harmless(page(mill))
    assert "<script>" in page(mill).text


def test_a_hostile_window_is_only_text(empty: Any) -> None:
    response = empty.get(
        "/perf/report?window=%3Cscript%3Ealert(1)%3C/script%3E", HTTP_ACCEPT=BROWSER, **BEARER
    )
    assert_harmless(Page(response.body.decode()))


def test_names_are_escaped_in_an_application_that_escapes_nothing(
    make_open: Callable[..., Any],
) -> None:
    mill = make_open()
    mill.app.jinja_env.autoescape = False
    mill.app.add_url_rule("/it", HOSTILE[0], lambda: "x")
    mill.get("/it")
    assert_harmless(page(mill))


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "busy"])
def test_pages_use_no_undefined_value(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    mill = request.getfixturevalue(which)
    mill.app.jinja_env.undefined = StrictUndefined
    assert page(mill, path).inside("h1")


def test_the_applications_own_context_processors_do_not_change_a_page(busy: Any) -> None:
    before = page(busy).text
    names = ("report", "shown", "window", "windows", "style", "csrf", "app_name", "row")
    processors = busy.app.template_context_processors[None]
    processors.append(lambda: dict.fromkeys(names, "spoilt"))
    assert page(busy).text == before
