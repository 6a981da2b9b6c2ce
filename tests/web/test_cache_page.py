"""The page of the cache: the same figures as its document, in words."""

from __future__ import annotations

from typing import Any

import flask
import pytest

from flask_knitperf.core.units import plain
from flask_knitperf.render.html_cache import cache as values
from flask_knitperf.render.terminal import report as report_text
from flask_knitperf.render.terminal_cache import cache as text_of

from .reader import document, page

PATH = "/perf/cache"


def test_an_unused_cache_is_explained(empty: Any) -> None:
    text = page(empty, PATH).text
    assert "Not used yet Nothing is cached yet. @perf.cache.cached above a function" in text
    assert "Is it worth it?" not in text and "Room" not in text


def test_an_application_that_reuses_reads_waits_for_the_first(make_open: Any) -> None:
    mill = make_open(KNITPERF_REUSE_READS=True)
    assert "No look-up yet. KNITPERF_REUSE_READS is on" in page(mill, PATH).text
    assert "KNITPERF_REUSE_READS is on" in text_of(mill.session.documents.cache())


def test_caches_of_the_application_have_their_rates_and_the_reason_of_misses(
    make_open: Any,
) -> None:
    mill = make_open()
    cache = mill.perf.cache.observe({}, name="yarns")

    @mill.app.get("/yarns")
    def yarns() -> str:
        for number in range(40):
            if cache.get(f"yarn:{number % 8}") is None:
                cache[f"YARN:{number % 8}"] = number
        return "ok"

    assert mill.get("/yarns").code == 200
    text = page(mill, PATH).text
    assert (
        "CACHE_KEY_MISMATCH The cache yarns never hits: it is read as yarn:# and written as" in text
    )
    assert "Use one key for both (web/test_cache_page.py:" in text
    assert "hit rate 0 % at most 80 %" in text
    assert "Its values are written under keys that are never looked up." in text
    assert "Not used yet" not in text and "Room" not in text


def test_it_states_what_the_cache_saves(busy: Any) -> None:
    text = page(busy, PATH).text
    assert "97 % of 154 look-ups were answered from the cache. Loading took" in text
    shown = values(document(busy, PATH))  # type: ignore[arg-type]
    for name, figure in shown["figures"]:
        assert f"{name} {plain(figure)}" in text


def test_every_namespace_reason_and_worker_is_on_it(busy: Any) -> None:
    text, rows = page(busy, PATH).text, document(busy, PATH)
    assert [row["namespace"].rpartition(".")[2] for row in rows["namespaces"]] == [
        "requirements", "prices", "shades",
    ]  # fmt: skip
    for row in rows["namespaces"]:
        assert row["namespace"] in text
    [refusal] = rows["refusals"]
    assert f"{refusal['reason']} 2" in text
    assert "Never cached" in text and "No value was evicted in this window." in text
    assert "64.0 MB" in text


def test_a_read_of_one_users_data_is_on_it_with_its_repair(busy: Any) -> None:
    [row] = document(busy, PATH)["per_user"]
    text = page(busy, PATH).text
    assert row["text"] in text and row["recommendation"] in text
    assert "2 results were not cached" in text
    links = [link["href"] for link in page(busy, PATH).all("a")]
    assert "/perf/why?of=fast&method=GET&window=1h" in links


def test_it_is_linked_from_every_page(busy: Any) -> None:
    for path in ("/perf/", "/perf/queries", "/perf/memory"):
        assert {"href": PATH} in page(busy, path).all("a")


def test_the_terminal_shows_the_same_in_eighty_columns(busy: Any) -> None:
    text = text_of(busy.session.documents.cache())
    assert max(map(len, text.splitlines())) <= 80
    assert "97 % of 154 look-ups were answered from the cache." in " ".join(text.split())
    for heading in ("READS OF ONE USER'S DATA", "BY SAVED TIME", "WHY LOOK-UPS MISSED", "NOT CACHED",
                    "ROOM"):  # fmt: skip
        assert f"\n{heading}\n" in text


def test_namespaces_that_share_a_row_are_explained(make_open: Any) -> None:
    mill = make_open()

    def look_up() -> str:
        for number in range(300):
            mill.perf.cache.get("key", namespace=f"n{number}")
        return ""

    mill.app.add_url_rule("/look-up", "look_up", look_up)
    mill.get("/look-up")
    sentence = "Each worker counts its first 200 namespaces apart, and the others as <other>."
    assert sentence in page(mill, PATH).text
    assert sentence in " ".join(text_of(mill.session.documents.cache()).split())


def test_answers_that_were_out_of_date_are_on_it_and_on_the_page_of_the_endpoint(
    make_open: Any,
) -> None:
    mill = make_open(KNITPERF_CACHE_VERIFY=1)
    mill.perf.cache._verification._began -= 10_000  # so that it may take some time
    stock = [1]
    weight = mill.perf.cache.cached(namespace="stock", depends=())(lambda: str(stock[0]))
    mill.app.add_url_rule("/stock", "stock", weight)
    mill.get("/stock"), mill.get("/stock")
    stock[0] = 2
    for _ in range(3):
        mill.get("/stock")
    text, shown = page(mill, PATH).text, document(mill, PATH)
    [row] = shown["stale_values"]
    assert (row["kind"], row["count"], row["endpoint"]) == ("unexplained", 1, "stock")
    sentence = plain(row["text"])
    assert sentence in text and row["recommendation"] in text and "CACHE_STALE" in text
    share = shown["total"]["stale_share"]
    assert share["low"] < share["share"] == round(1 / row["verified"], 4) < share["high"]
    terminal = " ".join(plain(text_of(mill.session.documents.cache())).split())
    assert "had an old value" in terminal and "were out of date" in terminal
    why = page(mill, "/perf/why?of=stock&window=run").text
    assert sentence in why and "look-ups of cached functions hit" in why


def test_sizes_and_namespaces_that_cost_more_are_on_it(make_open: Any) -> None:
    mill = make_open(KNITPERF_CACHE_MAX_MB=0.2)
    short = mill.perf.cache.cached(namespace="short")(lambda key: "x" * 4000)
    costly = mill.perf.cache.cached(namespace="costly")(lambda key: 1)
    table = list(range(20_000))

    def view() -> str:
        for number in range(500):
            short(number % 90)
        for _ in range(30):
            costly(table)
        return "ok"

    mill.app.add_url_rule("/sizes", "sizes", view)
    for _ in range(4):
        mill.get("/sizes")
        mill.session.cache_publisher._simulation.reset()  # it rests after a long one
        document(mill, PATH)  # publishes, which simulates
    text, shown = page(mill, PATH).text, document(mill, PATH)
    assert [size["factor"] for size in shown["total"]["sizes"]] == [0.5, 2, 4]
    assert shown["total"]["sizes"][2]["hit_rate"] > shown["total"]["hit_rate"]
    assert "4 × the room" in text and "Costs more" in text and "CACHE_COSTS_MORE" in text
    terminal = " ".join(plain(text_of(mill.session.documents.cache())).split())
    assert "By simulation:" in terminal and "costly costs more than it saves" in terminal


@pytest.fixture
def advised(make_open: Any, time: Any) -> Any:
    """Return an application with a function that is worth caching, and one that reads the session."""
    mill = make_open(SECRET_KEY="x" * 16)
    mill.session.recorder.clock = time.clock()

    @mill.perf.profiler.profile_endpoint("explode <b>bom</b>")
    def explode(style: int) -> int:
        time.pass_(0.5)
        return style

    @mill.perf.profiler.profile_endpoint("prices")
    def prices() -> str:
        time.pass_(0.5)
        return str(flask.session.get("user_id"))

    @mill.app.get("/explode")
    def view() -> str:
        for number in range(200):
            explode(number % 4), prices()
        return "ok"

    assert mill.get("/explode").code == 200
    return mill


SENTENCE = (
    "Cache explode <b>bom</b>: 98 % of 200 calls in 3.3 min would have hit with a TTL of 5 min, at most "
    "2 % of them stale; saves 98.0 of 100 s."
)


def test_what_is_worth_caching_is_on_it_with_the_decorator_to_paste(advised: Any) -> None:
    text = page(advised, PATH).text
    assert "Worth caching Nothing is cached: calls of profiled functions were looked up" in text
    assert f"{SENTENCE} @perf.cache.cached(ttl=300) above the function at web/test_cache" in text
    assert "If functions were cached" in text and "5 min recommended 98 % 98.0 s 0 %" in text
    assert "prices is not recommended: it reads session['user_id'] (web/test_cache_page.py:" in text
    assert "Add vary='user', or pass it as an argument." in text


def test_the_overview_has_the_same_recommendation(advised: Any) -> None:
    text = page(advised, "/perf/").text
    assert f"Worth caching {SENTENCE} @perf.cache.cached(ttl=300)" in text
    assert "prices is not recommended" not in text


def test_the_terminal_has_the_recommendation_and_the_reasons(advised: Any) -> None:
    text = text_of(advised.session.documents.cache())
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert (
        f"WORTH CACHING {SENTENCE} @perf.cache.cached(ttl=300) at web/test_cache_page.py:" in words
    )
    assert "NOT RECOMMENDED prices is not recommended: it reads session['user_id']" in words
    report = " ".join(report_text(advised.session.documents.report()).split())
    assert f"WORTH CACHING {SENTENCE}" in report and "prices is not recommended" not in report
