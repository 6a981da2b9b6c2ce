"""Moments on a page can be read without the script, and by it."""

from __future__ import annotations

from flask_knitperf.core.units import plain
from flask_knitperf.render import html_times, wording
from flask_knitperf.render.alerts_text import in_text
from tests.web.reader import Page

AT, LATER = "2026-11-24T23:12:05.5+00:00", "2026-11-25T00:12:05+00:00"


def test_a_moment_has_its_time_as_text_and_as_a_number() -> None:
    shown = Page(html_times.moment(AT))
    assert shown.text == plain(wording.moment(AT)) == "24 Nov 23:12:05 UTC"
    [time] = shown.all("time")
    assert time == {"datetime": AT, "data-time": "1795561925", "data-form": "moment"}


def test_a_moment_that_is_unknown_is_a_dash() -> None:
    assert html_times.moment(None) == html_times.moment("") == "–"


def test_the_end_of_a_period_has_the_start_beside_it() -> None:
    shown = Page(html_times.period(AT, LATER))
    assert shown.text == plain(wording.period(AT, LATER)).replace("\u00a0", " ")
    first, last = shown.all("time")
    assert last["data-since"] == first["data-time"] and last["data-form"] == "until"


def test_words_are_escaped_and_may_have_no_moment() -> None:
    assert html_times.dated(("<b> until", None)) == "&lt;b&gt; until"
    words = ("<b> until", AT)
    assert Page(html_times.dated(words)).text == plain(in_text(words))
