"""The script of the pages in a real browser: fresh figures, and charts with a cursor."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest

from flask_knitperf.alerts.alert_store import AlertStore, EventKind
from flask_knitperf.alerts.evaluator import AlertKey
from flask_knitperf.alerts.states import Phase, State
from flask_knitperf.core.clock import Clock
from flask_knitperf.history.databases import SQLite, database
from flask_knitperf.history.store import opened
from flask_knitperf.web.pages import Pages
from tests.conftest import Mill, app_maker
from tests.history.harness import Host, Run
from tests.waiting import wait_for

from .browser import CONTRAST, WIDE, Browser
from .conftest import NEEDS_BROWSER
from .local_server import servers

pytestmark = NEEDS_BROWSER
ENDPOINTS = 12
SLOTS = 40
PROBE = """
window.polls = 0; window.pages = 0; window.timers = new Set();
fetch = (real => (...given) => {
  if (String(given[0]).includes('live.json')) polls += 1; else pages += 1;
  return real(...given);
})(fetch);
setTimeout = (real => (...given) => {
  const id = real(...given);
  timers.add(id);
  return id;
})(setTimeout);
clearTimeout = (real => id => { timers.delete(id); real(id); })(clearTimeout);
window.skipped = 0;
performance.now = (real => () => real() + 1000 * skipped)(performance.now.bind(performance));
"""
"""Counts polls and fresh pages, keeps the timers that were not cleared, and can skip seconds."""
POLL = "document.dispatchEvent(new Event('visibilitychange'))"
STATE = "document.querySelector('#live .text').textContent"
POINTS = "document.querySelectorAll('#now .pulse').length"
COUNT = "parseInt(document.querySelector('main > .meta').textContent)"


@dataclass
class Page:
    """A page of an application whose figures are written by the test: it has no housekeeper."""

    browser: Browser
    mill: Mill
    address: str

    def open(self, path: str = "/perf/", width: int = 1280) -> None:
        self.browser.open(self.address + path, width)
        self.browser.evaluate(PROBE)

    def value(self, expression: str) -> Any:
        return self.browser.evaluate(expression)

    def write(self) -> None:
        """Serve a request and write the live figures."""
        self.mill.get("/")
        self.mill.session.live.tick()

    def poll(self, condition: str) -> None:
        """Have the page poll until a condition is true."""
        wait_for(lambda: self.value(f"{POLL}; {condition}"))

    def rest(self) -> None:
        """Wait until the page has polled and does not."""
        polls = self.value("polls")
        self.poll(f"polls > {polls}")
        wait_for(lambda: self.value("timers.size > 0"))

    def step(self) -> None:
        """Write live figures, and have the overview show them."""
        before = self.value(POINTS)
        self.write()
        self.poll(f"{POINTS} > {before}")

    def skip(self, seconds: float) -> None:
        """Let seconds pass for the script of the page."""
        self.value(f"window.skipped = skipped + {seconds}")

    def refresh(self) -> None:
        """Have the page fetch its content again, and wait until it is there."""
        self.value("document.querySelector('main').firstElementChild.id = 'before'")
        self.skip(3600)
        self.write()
        self.poll("document.getElementById('before') === null")


@pytest.fixture(autouse=True)
def silence(browser: Browser) -> Iterator[None]:
    """Fail a test whose page wrote to the console or violated its policy."""
    yield
    texts = [text for text in browser.complaints if "Failed to load resource" not in text]
    assert texts == []


def with_live_figures(mill: Mill) -> Mill:
    """Return an application that has served requests, with live figures and without a housekeeper."""
    for number in range(ENDPOINTS):
        mill.app.add_url_rule(f"/{number}", f"page{number}", lambda: "ok")
    for number in range(ENDPOINTS):
        mill.get(f"/{number}")
    housekeeper = mill.session.recorder._housekeeper
    assert housekeeper is not None
    housekeeper.stop()
    mill.session.live.read()
    for _ in range(3):
        mill.get("/")
        mill.session.live.tick()
    reservoir = mill.session.reservoir
    assert reservoir is not None
    reservoir.tick(at_once=True)
    return mill


def fill_history(mill: Mill, folder: Path) -> str:
    """Write minutes of requests, and a release, into the history of an application.

    Returns:
        The query of a page that shows them.
    """
    began = time.time() // 10 * 10 - 10 * SLOTS
    shared = database(mill.session.settings.history_url)
    assert isinstance(shared, SQLite)
    run = Run(folder, began=began)
    with closing(SQLite(shared.path)) as opened_here:
        host = Host(opened_here, folder, run)
        writer = host.writer(source="another")
        for slot in range(SLOTS):
            host.now = began + 10 * slot + 1
            run.observe(*[10**6 * 2**n * (1 + slot % 7) for n in range(9)], endpoint="index")
            run.gauge(first=(200 + slot) * 2**20)
            writer.tick()
    return f"since={datetime.fromtimestamp(began, UTC):%Y-%m-%dT%H:%M:%S}"


@pytest.fixture
def page(
    browser: Browser, make_app: Callable[..., Mill], serve: Callable[..., str]
) -> Iterator[Page]:
    """Return the open overview of an application with live figures."""
    mill = with_live_figures(make_app(KNITPERF_ACCESS=lambda _: True))
    shown = Page(browser, mill, serve(mill.app))
    shown.open()
    shown.poll(f"{STATE} === 'Live, 1 worker'")
    yield shown
    browser.send("Page.navigate", url="about:blank")


class Charted(NamedTuple):
    """An application with a history; ``query`` is that of pages with charts."""

    address: str
    query: str

    @property
    def overview(self) -> str:
        return self.page("/perf/")

    def page(self, path: str) -> str:
        """Return the address of a page, with charts if it has any."""
        return f"{self.address}{path}{'&' if '?' in path else '?'}{self.query}"


@pytest.fixture(scope="module")
def charted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charted]:
    """Return an application with a history, and with an alert that fires."""
    folder = tmp_path_factory.mktemp("charted")
    with app_maker(folder) as make_app, servers() as start:
        mill = make_app(KNITPERF_ACCESS=lambda _: True, KNITPERF_RELEASE="2.14.0")
        with_live_figures(mill)
        query = fill_history(mill, folder / "another")
        now, key = time.time(), AlertKey("Endpoint became slow", "GET index")
        with opened(database(mill.session.settings.history_url)) as store:
            alerts = AlertStore(store.connection)
            alerts.add_event(now - 900, key, EventKind.FIRING, {"text": "slow"})
            state = State(Phase.FIRING, now, now - 900, now, has_data=True, observed=0.1, events=9)
            alerts.set_states({key: state})
        until = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        yield Charted(start(mill.app), f"{query}&until={until}")


@contextlib.contextmanager
def emulated(browser: Browser, method: str, on: Any, off: Any) -> Iterator[None]:
    """Change the browser for a time."""
    browser.send(f"Emulation.{method}", **on)
    try:
        yield
    finally:
        browser.send(f"Emulation.{method}", **off)


# -- fresh figures ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_overview_of_a_served_application_becomes_live(
    browser: Browser, make_app: Callable[..., Mill], serve: Callable[..., str]
) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True)
    mill.get("/")
    browser.open(serve(mill.app) + "/perf/")
    assert browser.evaluate("document.getElementById('live').hidden") is False

    def is_live() -> bool:
        mill.get("/")
        shown: bool = browser.evaluate(
            f"{POLL}; {STATE} === 'Live, 1 worker' && !now.hidden && {POINTS} > 0"
        )
        return shown

    wait_for(is_live)


def test_the_last_minute_has_its_rate_and_its_percentile(page: Page) -> None:
    page.step()
    shown = page.value("document.getElementById('now').innerText")
    assert "Last minute" in shown and "requests/s" in shown
    assert "p95 " in shown and "in flight" in shown
    edges = "[now, now.querySelector('.value')].map(e => e.getBoundingClientRect().right)"
    card, value = page.value(edges)
    assert value < card - 8


def test_new_requests_are_shown_without_a_reload(page: Page) -> None:
    page.value("window.kept = true")
    before = page.value(COUNT)
    page.refresh()
    assert page.value(COUNT) > before
    assert page.value("window.kept") is True and page.value("!now.hidden") is True


def test_the_content_is_not_replaced_before_it_is_due(page: Page) -> None:
    page.skip(15)
    page.step()
    assert page.value("pages") == 0


@pytest.mark.slow
def test_a_page_that_the_server_takes_long_for_is_replaced_less_often(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Pages.report

    def slow(self: Pages) -> Any:
        ends = time.thread_time() + 0.2
        while time.thread_time() < ends:
            pass
        return real(self)

    monkeypatch.setattr(Pages, "report", slow)
    page.open()
    page.poll(f"{STATE} === 'Live, 1 worker'")
    page.refresh()  # its cost is known from now on
    page.rest()
    assert page.value("pages") == 1
    page.skip(150)
    page.step()
    assert page.value("pages") == 1
    page.skip(3600)
    page.step()
    wait_for(lambda: page.value("pages") == 2)


def test_the_content_is_replaced_at_once_when_an_alert_fires(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page.mill.session.live, "_firing", lambda: 1)
    page.step()
    wait_for(lambda: page.value("pages") == 1)


def test_a_page_of_a_fixed_span_is_not_replaced(page: Page) -> None:
    page.open("/perf/?since=2024-01-01&until=2024-01-02")
    page.poll(f"{STATE} === 'Live, 1 worker'")
    page.skip(3600)
    page.step()
    assert page.value("pages") == 0


def test_a_paused_page_does_not_poll_until_it_goes_on(page: Page) -> None:
    page.rest()
    page.value("document.getElementById('pause').click()")
    assert page.value(STATE) == "Paused" and page.value("document.body.className") == "paused"
    wait_for(lambda: page.value("timers.size === 0"))
    polls = page.value("polls")
    assert page.value(f"{POLL}; polls") == polls
    page.value("document.getElementById('pause').click()")
    wait_for(lambda: page.value("polls") > polls)
    wait_for(lambda: page.value(STATE) == "Live, 1 worker")


def test_two_polls_never_run_at_once(page: Page) -> None:
    page.rest()
    before = page.value("polls")
    assert page.value(f"{POLL}; {POLL}; {POLL}; polls") <= before + 1


def test_a_page_states_that_the_server_does_not_answer_and_recovers(page: Page) -> None:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.send("Network.emulateNetworkConditions", offline=True, **conditions)
    page.skip(20)
    page.poll(f"/^No answer for \\d+ s$/.test({STATE})")
    assert page.value("document.body.className") == "old"
    assert page.value("getComputedStyle(document.querySelector('main')).opacity") == "0.6"
    page.browser.send("Network.emulateNetworkConditions", offline=False, **conditions)
    page.write()
    page.poll(f"{STATE} === 'Live, 1 worker' && document.body.className === ''")


def test_a_poll_without_an_answer_is_given_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Event()
    page.value(
        "AbortSignal.timeout = (real => () => real(20))(AbortSignal.timeout.bind(AbortSignal))"
    )
    page.rest()
    monkeypatch.setattr(page.mill.session.live, "read", lambda _: answer.wait(30) and None)
    try:
        page.poll(f"{STATE}.startsWith('No answer for')")
    finally:
        answer.set()


def test_a_page_states_the_age_of_figures_that_no_worker_writes(page: Page) -> None:
    page.skip(20)
    page.poll(f"/^Figures are [2-9]\\d s old$/.test({STATE})")
    assert page.value("document.body.className") == "old"


def test_figures_of_an_earlier_visit_are_not_shown(page: Page) -> None:
    page.mill.session.recorder.clock = Clock(wall=lambda: time.time() + 60)
    page.open()
    wait_for(lambda: page.value(f"{POLL}; polls") > 1)
    assert page.value(STATE) == "Waiting for figures" and page.value("now.hidden") is True


def test_a_page_that_was_signed_out_states_it_and_stops(
    browser: Browser, make_app: Callable[..., Mill], serve: Callable[..., str]
) -> None:
    admitted = [True]
    mill = with_live_figures(make_app(KNITPERF_ACCESS=lambda _: admitted[0]))
    page = Page(browser, mill, serve(mill.app))
    page.open()
    page.poll(f"{STATE} === 'Live, 1 worker'")
    admitted[0] = False
    page.poll(f"{STATE} === 'Signed out: reload the page'")
    assert page.value("document.body.className") == "old"
    polls = page.value("polls")
    assert page.value(f"{POLL}; polls") == polls


def test_what_is_open_and_focused_and_the_place_survive_a_refresh(page: Page) -> None:
    page.value(
        "window.chosen = [...document.querySelectorAll('.endpoint')]"
        "  .find(one => one.querySelector('code').textContent === 'GET /').id;"
        "document.getElementById(chosen).open = true;"
        "document.querySelector(`#${chosen} summary`).focus(); scrollTo(0, 500)"
    )
    assert page.value("scrollY") == 500
    page.refresh()
    assert page.value("document.getElementById(chosen).open") is True
    assert page.value("document.activeElement.matches(`#${chosen} summary`)") is True
    assert page.value("document.querySelectorAll('.endpoint[open]').length") == 1
    assert page.value("scrollY") == 500


def test_what_a_person_closed_stays_closed(page: Page) -> None:
    page.open("/perf/why?of=index&method=GET")
    page.poll(f"{STATE} === 'Live, 1 worker'")
    assert page.value("document.querySelector('[aria-labelledby=requests] details').open") is True
    page.value("document.querySelector('[aria-labelledby=requests] details').open = false")
    page.refresh()
    assert page.value("document.querySelector('[aria-labelledby=requests] details').open") is False


def test_the_focus_on_a_link_to_a_page_survives_a_refresh(page: Page) -> None:
    page.value("document.querySelector('.side nav a[href$=memory]').focus()")
    page.refresh()
    assert page.value("document.activeElement.textContent") == "Memory"


IN_USE = {
    "types": ("search.focus()", "search.blur()"),
    "has typed": ("search.value = 'x'", "search.value = ''"),
    "has chosen": (
        "document.querySelector('main select').selectedIndex = 2",
        "document.querySelector('main select').selectedIndex = 0",
    ),
    "has marked text": (
        "getSelection().selectAllChildren(document.querySelector('h1'))",
        "getSelection().removeAllRanges()",
    ),
    "has a question open": (
        "document.querySelector('.confirm').open = true",
        "document.querySelector('.confirm').open = false",
    ),
}


@pytest.mark.parametrize("use", IN_USE)
def test_the_content_stays_while_a_person(page: Page, use: str) -> None:
    begin, end = IN_USE[use]
    page.value("window.search = document.querySelector('main input[type=search]')")
    page.value(begin)
    page.skip(3600)
    page.step()
    assert page.value("pages") == 0
    page.value(end)
    page.step()
    wait_for(lambda: page.value("pages") == 1)


def test_the_content_stays_when_a_person_begins_to_type_while_it_is_fetched(page: Page) -> None:
    page.value(
        "const real = fetch; fetch = (url, options) => {"
        "  if (!String(url).includes('live.json'))"
        "    document.querySelector('main input[type=search]').focus();"
        "  return real(url, options); }"
    )
    before = page.value(COUNT)
    page.skip(3600)
    page.step()
    wait_for(lambda: page.value("pages") == 1)
    page.step()
    assert page.value(COUNT) == before
    assert page.value("document.activeElement.type") == "search"


def test_a_refresh_that_fails_leaves_the_page_as_it_is(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.value(
        "const real = fetch; fetch = (url, options) => {"
        "  if (String(url).includes('live.json')) return real(url, options);"
        "  pages += 1; return Promise.reject(new TypeError('refused')); }"
    )
    page.skip(3600)
    page.step()
    assert page.value("pages") == 1
    page.step()
    assert page.value("document.querySelector('h1').textContent") == "Overview"


# -- charts ----------------------------------------------------------------------------------------

CHART = "document.querySelector('figure[data-chart={name}]')"
ROWS = (
    "[...{chart}.querySelectorAll('tbody tr')].map(row => [...row.cells].map(c => c.textContent))"
)


@dataclass
class ChartOnPage:
    """A chart of the open page."""

    browser: Browser
    name: str = "times"

    @property
    def chart(self) -> str:
        return CHART.format(name=self.name)

    @property
    def readout(self) -> str:
        text: str = self.browser.evaluate(f"{self.chart}.querySelector('.readout').textContent")
        return text

    @property
    def rows(self) -> list[list[str]]:
        """The rows of its table, oldest first."""
        rows: list[list[str]] = self.browser.evaluate(ROWS.format(chart=self.chart))
        return rows[::-1]

    def focus(self) -> None:
        self.browser.evaluate(f"{self.chart}.querySelector('svg').focus()")

    def mouse(self, kind: str, share: float, buttons: int = 0) -> None:
        """Move, press or release the mouse at a share of the plot's width."""
        box = self.browser.evaluate(
            f"(() => {{ const f = {self.chart}, s = f.querySelector('svg');"
            "s.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = s.getBoundingClientRect(), k = b.width / s.viewBox.baseVal.width;"
            "return [b.left + k * f.dataset.left, b.left + k * f.dataset.right, b.top + b.height / 2]"
            "})()"
        )
        self.browser.send(
            "Input.dispatchMouseEvent", type=kind, x=box[0] + share * (box[1] - box[0]), y=box[2],
            button="none" if kind == "mouseMoved" else "left", buttons=buttons, clickCount=1,
        )  # fmt: skip


def states(chart: ChartOnPage, row: list[str]) -> bool:
    """Return whether the readout has the time and each figure of a row."""
    at, *cells = row
    return chart.readout.startswith(f"{at}: ") and all(cell in chart.readout for cell in cells)


@pytest.mark.slow
def test_an_overview_with_a_history_has_charts_and_one_without_has_none(
    browser: Browser, charted: Charted, make_app: Callable[..., Mill], serve: Callable[..., str]
) -> None:
    names = "[...document.querySelectorAll('figure[data-chart]')].map(f => f.dataset.chart)"
    browser.open(charted.overview)
    assert browser.evaluate(names) == ["times", "heat", "load"]
    mill = with_live_figures(make_app(KNITPERF_ACCESS=lambda _: True))
    browser.open(serve(mill.app) + "/perf/")
    assert browser.evaluate(names) == []


@pytest.mark.parametrize("name", ["times", "heat", "load"])
def test_keys_move_the_cursor_and_its_figures_are_stated(
    browser: Browser, charted: Charted, name: str
) -> None:
    browser.open(charted.overview)
    chart = ChartOnPage(browser, name)
    resting, rows = chart.readout, chart.rows
    assert len(rows) > 10 and resting.startswith("One point is")
    chart.focus()
    browser.evaluate("onkeydown = event => { window.scrolls = !event.defaultPrevented }")
    for key, code, row in (
        ("End", 35, -1), ("ArrowLeft", 37, -2), ("ArrowRight", 39, -1), ("ArrowRight", 39, -1),
        ("Home", 36, 0), ("ArrowLeft", 37, 0), ("ArrowRight", 39, 1),
    ):  # fmt: skip
        browser.press(key, code)
        assert states(chart, rows[row]), (key, chart.readout)
        assert browser.evaluate("scrolls") is False
    browser.press("Escape", 27)
    assert chart.readout == resting


@pytest.mark.slow
def test_the_pointer_moves_the_cursor(browser: Browser, charted: Charted) -> None:
    browser.open(charted.overview)
    chart = ChartOnPage(browser)
    resting, rows = chart.readout, chart.rows
    chart.mouse("mouseMoved", 0.999)
    assert states(chart, rows[-1])
    chart.mouse("mouseMoved", 0.001)
    assert states(chart, rows[0])
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert chart.readout == resting


@pytest.mark.slow
def test_a_drag_opens_the_span_that_was_dragged_over(browser: Browser, charted: Charted) -> None:
    browser.open(charted.overview)
    chart = ChartOnPage(browser)
    begins, ends = (
        float(browser.evaluate(f"{chart.chart}.dataset.{key}")) for key in ("begins", "ends")
    )
    chart.mouse("mousePressed", 0.75, 1)
    chart.mouse("mouseMoved", 0.5, 1)
    chart.mouse("mouseReleased", 0.25)
    browser.wait("Page.loadEventFired")
    query = parse_qs(urlsplit(browser.evaluate("location.href")).query)
    since, until = (
        datetime.fromisoformat(query[key][0] + "+00:00").timestamp() for key in ("since", "until")
    )
    assert set(query) == {"since", "until"}
    assert begins < since < until <= ends
    assert until - since == pytest.approx((ends - begins) / 2, rel=0.1)
    assert browser.evaluate("document.querySelector('h1').textContent") == "Overview"


def test_a_click_on_a_chart_opens_nothing(browser: Browser, charted: Charted) -> None:
    browser.open(charted.overview)
    chart = ChartOnPage(browser)
    chart.mouse("mousePressed", 0.5, 1)
    chart.mouse("mouseReleased", 0.501)
    assert browser.evaluate("location.search") == f"?{charted.query}"
    assert browser.evaluate("document.querySelectorAll('.zoom[visibility=visible]').length") == 0


def test_times_are_in_the_zone_of_the_viewer(browser: Browser, charted: Charted) -> None:
    zone = "Asia/Kolkata"
    with emulated(browser, "setTimezoneOverride", {"timezoneId": zone}, {"timezoneId": ""}):
        browser.open(charted.overview)
        chart = ChartOnPage(browser)
        at = float(browser.evaluate(f"{chart.chart}.querySelector('tbody tr').dataset.at"))
        assert (
            chart.rows[-1][0] == f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
        )
        assert "GMT+5:30" in chart.readout
        tick = f"{chart.chart}.querySelector('svg [data-time]')"
        at = float(browser.evaluate(f"{tick}.dataset.time"))
        shown = browser.evaluate(f"{tick}.textContent")
        assert shown in [
            f"{datetime.fromtimestamp(at, ZoneInfo(zone)):{form}}" for form in ("%H:%M", "%H:%M:%S")
        ]


def test_moments_in_texts_are_in_the_zone_of_the_viewer(browser: Browser, charted: Charted) -> None:
    zone = "America/St_Johns"
    with emulated(browser, "setTimezoneOverride", {"timezoneId": zone}, {"timezoneId": ""}):
        browser.open(charted.overview)
        at = float(browser.evaluate("document.querySelector('main > .meta time').dataset.time"))
        local = datetime.fromtimestamp(at, ZoneInfo(zone))
        shown = browser.evaluate("document.querySelector('main > .meta').textContent")
        assert f"{local.day} {local:%b %H:%M:%S} – " in shown.replace("\u00a0", " ")
        assert "UTC" not in shown and "GMT-" in shown


@pytest.mark.parametrize("name", ["times", "heat", "load"])
def test_a_chart_can_be_saved_as_a_picture(browser: Browser, charted: Charted, name: str) -> None:
    browser.open(charted.overview)
    browser.evaluate(
        "HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href] }"
    )
    browser.evaluate(f"{CHART.format(name=name)}.querySelector('button').click()")
    wait_for(lambda: browser.evaluate("window.saved !== undefined"))
    file, address = browser.evaluate("saved")
    kind, _, data = address.partition(",")
    picture = base64.b64decode(data)
    size = browser.evaluate(
        f"(b => [b.width, b.height])({CHART.format(name=name)}.querySelector('svg').viewBox.baseVal)"
    )
    assert (file, kind) == (f"{name}.png", "data:image/png;base64")
    assert picture.startswith(b"\x89PNG\r\n") and len(picture) > 4000
    assert struct.unpack(">II", picture[16:24]) == (2 * size[0], 2 * size[1])


@pytest.mark.slow
def test_the_cursor_of_a_chart_survives_a_refresh(page: Page, tmp_path: Path) -> None:
    page.open(f"/perf/?{fill_history(page.mill, tmp_path / 'another')}")
    page.poll(f"{STATE} === 'Live, 1 worker'")
    chart = ChartOnPage(page.browser, "load")
    chart.focus()
    for _ in range(3):
        page.browser.press("ArrowLeft", 37)
    before = chart.readout
    page.refresh()
    assert chart.readout == before and not before.startswith("One point")
    page.browser.press("ArrowRight", 39)
    assert states(chart, chart.rows[-2])


@pytest.mark.slow
def test_the_place_in_the_numbers_of_a_chart_survives_a_refresh(page: Page, tmp_path: Path) -> None:
    page.open(f"/perf/?{fill_history(page.mill, tmp_path / 'another')}")
    page.poll(f"{STATE} === 'Live, 1 worker'")
    numbers = f"{CHART.format(name='times')}.querySelector('details')"
    page.value(f"{numbers}.open = true; {numbers}.scrollTop = 90")
    page.refresh()
    assert page.value(f"{numbers}.scrollTop") == 90


@pytest.mark.slow
def test_the_content_stays_while_a_person_drags_over_a_chart(page: Page, tmp_path: Path) -> None:
    page.open(f"/perf/?{fill_history(page.mill, tmp_path / 'another')}")
    page.poll(f"{STATE} === 'Live, 1 worker'")
    chart = ChartOnPage(page.browser, "load")
    chart.mouse("mousePressed", 0.5, 1)
    page.skip(3600)
    page.step()
    assert page.value("pages") == 0
    chart.mouse("mouseReleased", 0.5)
    page.step()
    wait_for(lambda: page.value("pages") == 1)


SHOWN = """
JSON.stringify([
  [...document.querySelectorAll('figure td, figure th, .figures > div:not(#now)')]
    .map(e => e.textContent),
  [...document.querySelectorAll('figure svg path:not(.cursor), .spark path')]
    .map(e => e.getAttribute('d')),
])
"""


@pytest.mark.parametrize("path", ["/perf/", "/perf/why?of=index&method=GET"])
def test_without_scripts_a_page_shows_the_same_charts_and_figures(
    browser: Browser, charted: Charted, path: str
) -> None:
    with emulated(browser, "setTimezoneOverride", {"timezoneId": "UTC"}, {"timezoneId": ""}):
        browser.open(charted.page(path))
        shown = json.loads(browser.evaluate(SHOWN))
        with emulated(browser, "setScriptExecutionDisabled", {"value": True}, {"value": False}):
            browser.open(charted.page(path))
            assert browser.evaluate("document.querySelectorAll('.cursor').length") == 0
            plain = json.loads(browser.evaluate(SHOWN))
    assert len(shown[0]) > 1 and len(shown[1]) > 3
    assert plain == shown


# -- looks -----------------------------------------------------------------------------------------

PAGES = (
    "/perf/", "/perf/why?of=index&method=GET", "/perf/alerts", "/perf/alerts/rule",
    "/perf/compare?against=run",
)  # fmt: skip


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_with_charts_is_wider_than_its_window(
    browser: Browser, charted: Charted, path: str, width: int
) -> None:
    browser.open(charted.page(path), width)
    seen = browser.evaluate(WIDE)
    assert seen["page"] <= width, seen


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_every_word_of_a_page_with_charts_has_enough_contrast(
    browser: Browser, charted: Charted, path: str, dark: bool
) -> None:
    browser.open(charted.page(path), dark=dark)
    seen = browser.evaluate(CONTRAST)
    assert seen["seen"] > 10 and seen["found"] == []


# -- accessibility ---------------------------------------------------------------------------------

AXE = Path(__file__).with_name("script") / "node_modules" / "axe-core" / "axe.min.js"
CHECK = """
document.querySelectorAll('details').forEach(d => d.open = true);
window.violations = null;
axe.run(document, {resultTypes: ['violations']}).then(result => {
  window.violations = result.violations.map(one =>
    one.id + ': ' + one.nodes.slice(0, 3).map(node => node.target.join(' ')).join(', '));
});
"""
EVERY_PAGE = (
    "/perf/", "/perf/why?of=index&method=GET", "/perf/queries", "/perf/cache", "/perf/memory",
    "/perf/alerts", "/perf/alerts/rule?metric=slow", "/perf/compare",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is missing: make lint installs it by npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", EVERY_PAGE)
def test_no_page_violates_a_rule_of_accessibility(
    browser: Browser, charted: Charted, path: str, width: int, dark: bool
) -> None:
    browser.open(charted.page(path), width, dark=dark)
    browser.evaluate(AXE.read_text(encoding="utf-8"))
    browser.evaluate(CHECK)
    wait_for(lambda: browser.evaluate("window.violations !== null"))
    assert browser.evaluate("window.violations") == []
