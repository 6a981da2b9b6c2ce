"""The planted function that is cached for all users and reads one: reported, and repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from demo_app.plants import plan
from tests.demo.conftest import MakeApp


@contextmanager
def served(make_app: MakeApp, seed: int, fixed: bool) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the session of an application that served its price board, and the answers."""
    app = make_app(seed, fixed, DEMO_BARE="0", TESTING=True)
    url = plan(seed).plant("per_user").url.partition("?")[0]
    try:
        client = app.test_client()
        yield (
            app.extensions["knitperf"],
            [client.get(f"{url}?user={number % 3}").get_json() for number in range(12)],
        )
    finally:
        app.extensions["knitperf"].close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_it_is_reported_with_its_line_and_repair(make_app: MakeApp, seed: int) -> None:
    plant = plan(seed).plant("per_user")
    with served(make_app, seed, fixed=False) as (session, answers):
        report, cache = session.documents.report("run"), session.documents.cache("run")
    assert answers[0] != answers[1] and answers[0] == answers[3]
    [finding] = [row for row in report["bottlenecks"] if row["endpoint"] == plant.endpoint]
    assert finding["type"] == "CACHE_PER_USER"
    assert (
        f"price_list reads session['user_id'] ({plant.where[0].removeprefix('demo_app/')}"
        in (finding["text"])
    )
    assert "one user would see another's data" in finding["text"]
    assert finding["recommendation"] == "Add vary='user', or pass it as an argument."
    assert cache["total"]["hits"] == 0 and cache["per_user"][0]["count"] == 12


def test_the_repaired_one_is_cached_by_user_and_reported_no_longer(make_app: MakeApp) -> None:
    with served(make_app, 0, fixed=False) as (_, sick):
        pass
    with served(make_app, 0, fixed=True) as (session, answers):
        report, cache = session.documents.report("run"), session.documents.cache("run")
    assert answers == sick
    assert report["bottlenecks"] == [] and cache["per_user"] == []
    [row] = cache["namespaces"]
    assert (row["namespace"], row["hits"], row["misses"]) == (
        "demo_app.views.sales.price_list", 9, 3,
    )  # fmt: skip
