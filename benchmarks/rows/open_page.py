"""A page that stays open under traffic: what it shows at the end, and what the other pages show.

The demo mill is served by two workers of gunicorn. It gets its traffic once, and then ten minutes of
light requests, a part of them to the endpoint that retains memory, while the overview is open in a
Chromium that never reloads it. At the end its text is compared with that of the same page opened then,
and its cards and endpoints with the report.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from demo_app import traffic
from demo_app.mill import generate
from demo_app.plants import Plan, plan
from demo_app.settings import Settings
from demo_app.tour import BACKGROUND_ROLES, PAUSE_S
from flask_knitperf.core.units import plain
from tests.web.browser import PROGRAM, Browser
from tests.web.reader import Page, about, figures

from ..harness.demo_mill import ServedMill, served
from ..harness.outcome import Grid, Outcome

WORKERS = 2
MINUTES = 10.0
LATE_S = 240.0
"""Time after the traffic within which the open page must show all of it."""
LIVE = "document.querySelector('#live .text').textContent"
TEXT = "document.querySelector('main').innerText"
_COMPARED = ("p50", "p95", "p99")
_OVERVIEW = "/perf/?window=run"
# Left out is what differs between two moments: bounds of the window, the last minute, alerts.
_STILL = """
(() => {
  const main = document.querySelector('main').cloneNode(true);
  for (const one of main.querySelectorAll('#now, #firing ~ *, figure, .saturation, svg, time'))
    one.remove();
  return main.textContent.split(/\\s+/).join(' ');
})()
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, key = Outcome(), plan(0)
    if PROGRAM is None:
        raise RuntimeError("there is no Chromium; install it, or name it: CHROMIUM=/path")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        settings = Settings(data=folder / "mill", seed=0)
        generate(settings.data, settings.scale, 0)
        with served(folder / "state", settings, key, WORKERS) as mill:
            listed = traffic.requests(key, 60 if quick else traffic.FULL, 0, least=2)
            traffic.drive(mill.address, listed, clients=WORKERS)
            browser = Browser(PROGRAM, folder / "profile")
            try:
                _judge(outcome, mill, browser, key, 0.2 if quick else MINUTES)
            finally:
                browser.close()
    return outcome


def _judge(outcome: Outcome, mill: ServedMill, browser: Browser, key: Plan, minutes: float) -> None:
    bearer = {"Authorization": f"Bearer {mill.token}"}
    browser.send("Network.setExtraHTTPHeaders", headers=bearer)
    browser.open(mill.address + _OVERVIEW)
    began = time.monotonic()
    while not browser.evaluate(LIVE).startswith("Live") and time.monotonic() - began < 10:
        time.sleep(0.5)
    states: list[str] = []
    with _traffic(mill, key, minutes) as driver:
        while driver.is_alive():
            time.sleep(2)
            states.append(browser.evaluate(LIVE))
    took = _wait_for_content(browser, mill)
    stayed, dom = browser.evaluate(_STILL), Page(browser.evaluate("document.body.outerHTML"))
    report, complaints = mill.report(), browser.complaints
    browser.open(mill.address + _OVERVIEW)
    differing = [
        f"the open page has {a!r}, one opened then {b!r}"
        for a, b in zip(stayed.split(), browser.evaluate(_STILL).split(), strict=False) if a != b
    ]  # fmt: skip
    words, differ = len(stayed.split()), len(differing)
    outcome.judge(
        "open_page.text", f"words of an overview after {minutes:g} minutes, against one opened then",
        "equal", f"{words - differ} of {words} equal, {took:.0f} s after the traffic",
        not differ and took < LATE_S,
    )  # fmt: skip
    right, all_ = _equal_figures(dom, report)
    outcome.judge(
        "open_page.figures", "cards, and figures of endpoints, against the report", "equal",
        f"{right} of {all_} equal", right == all_,
    )  # fmt: skip
    live = sum(state.startswith("Live") for state in states)
    outcome.judge(
        "open_page.live", "looks at it, every 2 s, at which its figures were live", "≥ 99 %",
        f"{live} of {len(states)}", live >= 0.99 * len(states),
    )  # fmt: skip
    outcome.judge(
        "open_page.console", "messages in its console, and reports of its policy", "0",
        str(len(complaints)), not complaints,
    )  # fmt: skip
    outcome.notes.extend([*differing[:3], *complaints[:3]])
    _judge_leak(outcome, mill, key, minutes)
    _judge_timelines(outcome, mill, report)


@contextmanager
def _traffic(mill: ServedMill, key: Plan, minutes: float) -> Iterator[threading.Thread]:
    """Send light requests in another thread; the block ends with it."""
    listed = traffic.requests(key, int(minutes * 60 * 100), 1, only=BACKGROUND_ROLES)
    driver = threading.Thread(
        target=traffic.drive, args=(mill.address, listed, WORKERS, minutes * 60, None, PAUSE_S)
    )
    driver.start()
    yield driver
    driver.join()


def _wait_for_content(browser: Browser, mill: ServedMill) -> float:
    """Wait until the open page shows all requests; return the seconds that it took."""
    began = time.monotonic()
    requests = f"{mill.report()['load']['count']:,} request"
    while requests not in plain(browser.evaluate(TEXT)) and time.monotonic() - began < LATE_S:
        time.sleep(1)
    return time.monotonic() - began


def _equal_figures(page: Page, report: Any) -> tuple[int, int]:
    """Return the number of figures of a page that are those of the report, and that of all."""
    titles = [text for path, text in page.texts if "h3" in path]
    pairs = [*zip(titles, [f"{plain(card['title'])}." for card in report["cards"]], strict=True)]
    right = [shown == exact for shown, exact in pairs]
    shown_rows = {row["title"].lower().replace(" ", "_"): row for row in figures(page)}
    for row in report["endpoints"]:
        shown = shown_rows.get(row["endpoint"].lower())
        if shown is None:
            continue  # the page begins with fifty
        right.append(int(shown["requests"].replace(",", "")) == row["count"])
        right.extend(about(shown[name], row[f"{name}_ms"]) for name in _COMPARED)
    return sum(right), len(right)


def _document(mill: ServedMill, path: str, **values: str) -> Any:
    headers = {"Authorization": f"Bearer {mill.token}", "Accept": "application/json"}
    url = f"{mill.address}/perf/{path}?{urlencode(values)}"
    with urlopen(Request(url, headers=headers), timeout=60) as response:
        return json.load(response)


def _judge_leak(outcome: Outcome, mill: ServedMill, key: Plan, minutes: float) -> None:
    """Compare what the page of memory suspects with the endpoint that retains memory."""
    suspects = [row["endpoint"] for row in _document(mill, "memory", window="run")["suspects"]]
    planted = key.places["leak"].endpoint
    outcome.judge(
        "open_page.leak", "endpoints that the page of memory suspects; one retains memory", planted,
        ", ".join(suspects) or "none", suspects == [planted],
    )  # fmt: skip


def _judge_timelines(outcome: Outcome, mill: ServedMill, report: Any) -> None:
    """Compare the requests of each endpoint over time with those of the report."""
    time.sleep(12)  # the history is written every ten seconds
    lines, right = [], 0
    for row in report["endpoints"]:
        document = _document(mill, "why", of=row["endpoint"], method=row["method"], window="6h")
        counted = sum(point["count"] for point in document["timeline"]["points"])
        right += counted == row["count"]
        if counted != row["count"]:
            lines.append((row["endpoint"], str(row["count"]), str(counted)))
    outcome.judge(
        "open_page.timelines", "endpoints whose requests over time are those of the report", "all",
        f"{right} of {len(report['endpoints'])}", right == len(report["endpoints"]),
    )  # fmt: skip
    if lines:
        outcome.grids.append(Grid("Others", ("endpoint", "report", "over time"), tuple(lines)))
