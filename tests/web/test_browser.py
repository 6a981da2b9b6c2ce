"""The pages in a real browser: no console message, no overflow, enough contrast, keyboard focus."""

from __future__ import annotations

import time as system_time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, session

from ..conftest import app_maker
from .browser import CONTRAST, WIDE, Browser
from .clients import TOKEN, admitting, new_code
from .conftest import NEEDS_BROWSER, opened
from .local_server import servers

pytestmark = NEEDS_BROWSER
PAGES = ("/perf/", "/perf/queries", "/perf/cache", "/perf/memory")
STRICT = "default-src 'none'; style-src 'self'"


@pytest.fixture(scope="module")
def address(shared_busy: Any) -> Iterator[str]:
    """Return the address of an application whose pages are open to all."""
    with servers() as start:
        yield start(admitting(shared_busy.app))


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "Ü" * 200, "w" * 200,
           "\u202eevil", "a.b c_d")  # fmt: skip


@pytest.fixture(scope="module")
def hostile_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an application whose every name is hostile."""
    with app_maker(tmp_path_factory.mktemp("hostile")) as make_app, servers() as start:
        yield start(admitting(make_hostile(opened(make_app))))


def make_hostile(make_open: Callable[..., Any]) -> Flask:
    mill = make_open(name="w" * 90, KNITPERF_RELEASE="r" * 200)
    for number, name in enumerate(HOSTILE):

        def it(name: str = name) -> str:
            mill.perf.cache.cached(namespace=name)(lambda: iter(()))()
            mill.perf.cache.cached(namespace=name * 3)(lambda: session.get(name))()
            with mill.perf.section(name):
                mill.perf.profiler.profile_endpoint(name)(lambda: None)()
            raise ValueError

        mill.app.add_url_rule(f"/{number}/{'x' * 120}", name, it)
    for number in range(len(HOSTILE)):
        for _ in range(8):
            mill.get(f"/{number}/{'x' * 120}")
    app: Flask = mill.app
    return app


# -- console and network ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/perf/?window=2h", "/perf/sign-in"])
def test_the_console_stays_empty(browser: Browser, address: str, path: str) -> None:
    browser.open(address + path)
    complaints = [text for text in browser.complaints if "status of 400" not in text]
    assert complaints == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["/perf/compare?window=run&against=run", "/perf/alerts"])
def test_pages_of_the_history_are_silent_and_fit(
    browser: Browser, serve: Callable[[Flask], str], make_app: Callable[..., Any], path: str,
    width: int,
) -> None:  # fmt: skip
    mill = make_app(KNITPERF_ACCESS=lambda _: True)
    mill.get("/")
    browser.open(serve(mill.app) + path, width)
    assert browser.complaints == []
    assert browser.evaluate("document.querySelector('h1').textContent") in ("Compare", "Alerts")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_that_breaks_its_policy_would_be_noticed(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    app = Flask("bad")
    page = "<p style='color:red'>x</p><script>1</script>"
    app.add_url_rule(
        "/", "bad", lambda: Response(page, headers={"Content-Security-Policy": STRICT})
    )
    browser.open(serve(app))
    assert len(browser.complaints) >= 2


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_itself_its_stylesheet_and_its_script_and_nothing_else(
    browser: Browser, address: str, path: str
) -> None:
    browser.open(address + path)
    requested = [url.removeprefix(address).partition("?")[0] for url in browser.requested]
    loaded = [url for url in requested if not url.startswith("data:")]
    assert loaded == [path, "/perf/style.css", "/perf/pages.js"]


def test_no_hostile_name_runs_or_loads_anything(browser: Browser, hostile_address: str) -> None:
    browser.open(hostile_address + "/perf/")
    requested = [url for url in browser.requested if not url.startswith("data:")]
    assert (browser.complaints, len(requested)) == ([], 3)


# -- overflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("path", [*PAGES, "/perf/?window=2h", "/perf/sign-in"])
def test_no_page_is_wider_than_its_window(
    browser: Browser, address: str, path: str, width: int
) -> None:
    browser.open(address + path, width)
    seen = browser.evaluate(WIDE)
    assert seen["page"] <= width, seen


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_no_name_makes_a_page_wider_than_its_window(
    browser: Browser, hostile_address: str, path: str, width: int
) -> None:
    browser.open(hostile_address + path, width)
    seen = browser.evaluate(WIDE)
    assert seen["page"] <= width, seen


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_has_a_size(browser: Browser, address: str, path: str) -> None:
    browser.open(address + path)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('main svg')].filter(s => s.checkVisibility())"
        ".map(s => s.getBoundingClientRect()).map(b => Math.min(b.width, b.height))"
    )
    assert (path == "/perf/queries") == (not sizes)
    assert all(size >= 4 for size in sizes)


# -- contrast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", [*PAGES, "/perf/sign-in"])
def test_every_word_has_enough_contrast(
    browser: Browser, address: str, path: str, dark: bool
) -> None:
    browser.open(address + path, dark=dark)
    seen = browser.evaluate(CONTRAST)
    assert seen["seen"] > 2 and seen["found"] == []


@pytest.mark.parametrize("path", [*PAGES, "/perf/sign-in"])
def test_the_page_is_dark_where_the_person_prefers_dark(
    browser: Browser, address: str, path: str
) -> None:
    grounds = []
    for dark in (False, True):
        browser.open(address + path, dark=dark)
        colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(int(n) for n in colour.strip("rgb()").split(",")))
    assert grounds[0] > 600 and grounds[1] < 150


# -- keyboard and buttons --------------------------------------------------------------------------

FOCUS = """
(() => {
  const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
  return {tag: e.tagName, text: e.textContent.trim().slice(0, 40), left: box.left, top: box.top,
          ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2};
})()
"""


def test_the_first_tab_leads_to_a_link_that_skips_the_head(browser: Browser, address: str) -> None:
    browser.open(address + "/perf/")
    browser.press("Tab", 9)
    seen = browser.evaluate(FOCUS)
    assert seen["text"] == "Skip to content" and seen["left"] >= 0 and seen["top"] >= 0


@pytest.mark.parametrize("path", PAGES)
def test_the_focused_element_has_a_visible_ring(browser: Browser, address: str, path: str) -> None:
    browser.open(address + path)
    missing = []
    for _ in range(20):
        browser.press("Tab", 9)
        seen = browser.evaluate(FOCUS)
        if not seen["ring"] and seen["tag"] != "BODY":  # past the last one
            missing.append(seen["text"])
    assert missing == []


def test_a_finding_leads_to_the_page_of_its_endpoint(browser: Browser, address: str) -> None:
    browser.open(address + "/perf/")
    browser.click(".finding h3 a")
    assert browser.evaluate("location.pathname + location.search.split('&')[0]") == (
        "/perf/why?of=stuck"
    )
    assert browser.evaluate("document.querySelector('h1').textContent") == "Stuck"


def test_a_person_signs_in_by_link_and_out_again(
    browser: Browser, make_open: Callable[..., Any], serve: Callable[[Flask], str]
) -> None:
    mill = make_open()
    address = serve(mill.app)
    browser.open(address + "/perf/sign-in?code=" + new_code(system_time.time(), mill=mill))
    browser.click("button")
    assert browser.evaluate("location.pathname") == "/perf/"
    assert browser.evaluate("document.cookie") == ""
    browser.click("form[action$=sign-out] button")
    assert browser.evaluate("document.title") == "404 Not Found"


def test_a_person_signs_in_by_token(
    browser: Browser, make_open: Callable[..., Any], serve: Callable[[Flask], str]
) -> None:
    browser.open(serve(make_open().app) + "/perf/sign-in")
    browser.evaluate(f"document.querySelector('#token').value = {TOKEN!r}")
    browser.click("button")
    assert browser.evaluate("document.querySelector('h1').textContent") == "Overview"


@pytest.mark.slow
def test_the_buttons_of_the_pages_work(
    browser: Browser, busy: Any, serve: Callable[[Flask], str]
) -> None:
    address = serve(admitting(busy.app))
    browser.open(address + "/perf/memory")
    browser.click("form[action$=collect] button")
    assert browser.evaluate("location.pathname") == "/perf/memory"
    browser.open(address + "/perf/")
    browser.evaluate("document.querySelector('.confirm').open = true")
    browser.click("form[action$=clear] button")
    assert "Statistics were reset" in browser.evaluate("document.body.textContent")
    assert "No requests recorded" in browser.evaluate("document.body.textContent")


BROKEN = """
(() => {
  const found = [];
  for (const e of document.querySelectorAll('nav a, button, .badge, .mark, td.number')) {
    const range = document.createRange();
    range.selectNodeContents(e);
    const longest = Math.max(...e.innerText.split(/\\s+/).map(word => word.length));
    const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
    if (e.innerText.trim() && longest > 2 && lines > e.innerText.trim().split(/\\s+/).length)
      found.push(e.innerText.trim());
  }
  return found;
})()
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("path", PAGES)
def test_no_short_word_is_broken_on_a_phone(
    browser: Browser, address: str, path: str, width: int
) -> None:
    browser.open(address + "/perf/sign-in", width)
    browser.evaluate(f"document.querySelector('#token').value = {TOKEN!r}")
    browser.click("button")  # a signed-in browser has one more button beside the links
    browser.open(address + path, width)
    assert browser.evaluate(BROKEN) == []


CUT = """
(() => {
  const cut = [];
  for (const row of document.querySelectorAll('.endpoint > summary')) {
    const right = row.getBoundingClientRect().right;
    for (const figure of row.querySelectorAll('.figure')) {
      figure.lastChild.data = '1,234\\u00a0µs';
      const range = document.createRange();
      range.selectNodeContents(figure);
      if (range.getBoundingClientRect().right > right) cut.push(figure.innerText);
    }
  }
  return cut;
})()
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_figure_is_cut_off_at_the_end_of_its_row(
    browser: Browser, address: str, width: int
) -> None:
    browser.open(address + "/perf/sign-in", width)
    browser.evaluate(f"document.querySelector('#token').value = {TOKEN!r}")
    browser.click("button")
    browser.open(f"{address}/perf/", width)
    assert browser.evaluate("document.querySelectorAll('.figure').length") >= 5
    assert browser.evaluate(CUT) == []


SPLIT = r"""
(() => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  let seen = 0;
  for (let node; node = walk.nextNode();) {
    for (const match of node.data.matchAll(/[\d.,]+\u00a0[^\s\u00a0]+/g)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const boxes = [...range.getClientRects()].filter(box => box.width > 0);
      if (!boxes.length) continue;
      seen += 1;
      if (new Set(boxes.map(box => Math.round(box.top))).size > 1) found.push(match[0]);
    }
  }
  return {seen, found};
})()
"""


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_no_line_breaks_between_a_number_and_its_unit(
    browser: Browser, address: str, path: str, width: int
) -> None:
    browser.open(address + path, width)
    result = browser.evaluate(SPLIT)
    assert result["seen"] > 0 and result["found"] == []
