"""The page on which a rule is written: it reads in words, is tested on the history, and is saved."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.alerts.alert_store import AlertStore
from flask_knitperf.core.units import plain
from flask_knitperf.history.databases import Database, database
from flask_knitperf.history.schema import prepare
from flask_knitperf.metrics.catalogue import REQUEST

from ..history.harness import Host, Run
from .clients import TOKEN

FORM = {"name": "Orders", "metric": "failed", "endpoint": "all", "share": "5", "min_events": "30",
        "window_s": "5", "for_s": "30", "severity": "WARNING"}  # fmt: skip


@pytest.fixture
def mill(make_app: Callable[..., Any]) -> Any:
    return make_app(KNITPERF_ACCESS=lambda _: True)


def shown(mill: Any, **query: Any) -> str:
    response = mill.app.test_client().get(
        "/perf/alerts/rule", query_string=query, headers={"Accept": "text/html"}
    )
    assert response.status_code == 200, response.text
    return plain(response.text)


def act(mill: Any, action: str, csrf: bool = True, **form: Any) -> int:
    client = mill.app.test_client()
    page = client.get("/perf/alerts", headers={"Accept": "text/html"}).text
    token = re.search('name="csrf" value="([^"]+)"', page)
    assert token is not None
    data = {**form, **({"csrf": token[1]} if csrf else {})}
    return int(client.post(f"/perf/alerts/{action}", data=data).status_code)


def rules(mill: Any) -> dict[str, dict[str, Any]]:
    rows = mill.session.documents.alerts()["rules"]
    return {row["name"]: row for row in rows}


def test_a_rule_reads_in_words_before_it_is_saved(mill: Any) -> None:
    assert "More than 5 % of all requests fail, of at least 30 requests in 5 minutes" in shown(
        mill, **FORM
    )
    assert "Orders" not in rules(mill)


def test_a_rule_that_is_not_complete_states_what_is_missing(mill: Any) -> None:
    assert "must be a number" in shown(mill, **{**FORM, "share": "many"})
    assert "Save this rule" not in shown(mill, **{**FORM, "share": "many"})


@pytest.mark.parametrize(
    "metric",
    ["slow", "failed", "killed", "queued", "cache_misses", "memory_mb", "leaks", "silence_s"],
)
def test_every_metric_has_a_form_that_can_be_saved(mill: Any, metric: str) -> None:
    page = shown(mill, metric=metric)
    assert 'name="name"' in page and "It reads" in page
    assert act(mill, "save-rule", metric=metric, name="Mine") == 200
    assert rules(mill)["Mine"]["source"] == "page"


def test_a_default_rule_is_changed_and_put_back(mill: Any) -> None:
    before = rules(mill)["Failures"]["condition"]
    page = shown(mill, edit="Failures")
    assert 'value="Failures"' in page
    assert act(mill, "save-rule", **{**FORM, "name": "Failures", "share": "20"}) == 200
    assert "20 %" in plain(rules(mill)["Failures"]["condition"])
    assert act(mill, "remove-rule", name="Failures") == 200
    assert rules(mill)["Failures"]["condition"] == before


def test_a_rule_that_is_switched_off_is_listed_and_can_be_switched_on(mill: Any) -> None:
    assert act(mill, "switch-off", name="Failures") == 200
    document = mill.session.documents.alerts()
    assert "Failures" not in rules(mill) and document["switched_off"] == ["Failures"]
    assert (
        "Switch on"
        in mill.app.test_client().get("/perf/alerts", headers={"Accept": "text/html"}).text
    )
    assert act(mill, "remove-rule", name="Failures") == 200
    assert "Failures" in rules(mill)


def test_every_change_of_a_rule_is_in_the_audit_list(mill: Any) -> None:
    act(mill, "save-rule", **FORM)
    act(mill, "remove-rule", name="Orders")
    kinds = [row["kind"] for row in mill.session.documents.alerts()["events"]]
    assert kinds == ["rule removed", "rule changed"]


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("save-rule", {**FORM, "share": "x"}), ("save-rule", {**FORM, "channels": "nowhere"}),
        ("save-rule", {**FORM, "name": "a\x00b"}), ("save-rule", {}),
        ("switch-off", {"name": "none"}), ("switch-off", {}), ("remove-rule", {"name": "Failures"}),
        ("remove-rule", {}),
    ],
)  # fmt: skip
def test_what_is_no_rule_changes_nothing(mill: Any, action: str, form: dict[str, str]) -> None:
    before = rules(mill)
    assert act(mill, action, **form) == 400
    assert rules(mill) == before


def test_a_change_needs_the_token_of_a_form(mill: Any) -> None:
    assert act(mill, "save-rule", csrf=False, **FORM) == 403
    assert "Orders" not in rules(mill)


def test_no_token_is_in_an_address(mill: Any) -> None:
    page = shown(mill, **FORM)
    for form in re.findall(r"<form[^>]*>.*?</form>", page, re.S):
        assert ("csrf" in form) == ('method="post"' in form)


@pytest.mark.parametrize(
    "query", [{"metric": "none"}, {"edit": "none"}, {**FORM, "test": "1h"}, {**FORM, "test": "x"}]
)
def test_an_address_that_is_wrong_is_refused(mill: Any, query: dict[str, str]) -> None:
    response = mill.app.test_client().get("/perf/alerts/rule", query_string=query)
    assert response.status_code == 400


@pytest.mark.slow
def test_a_test_shows_when_the_rule_would_have_fired(mill: Any, tmp_path: Path) -> None:
    _fail_for_a_while(database(mill.session.settings.history_url), tmp_path / "other")
    page = shown(mill, **FORM, test="24h")
    assert "It would have fired once in this time." in page and 'class="fired"' in page
    assert "It would have fired never" in shown(mill, **{**FORM, "share": "99"}, test="24h")


def _fail_for_a_while(opened: Database, state: Path) -> None:
    """Write an hour of requests, of which those of ten minutes fail."""
    begins = time.time() - 2 * 3600
    host = Host(opened, state, Run(state, "other", begins))
    writer = host.writer()
    for tick in range(360):
        host.now = begins + 10 * tick
        status = "500" if 120 <= tick < 180 else "2xx"
        host.run._add(REQUEST, ("index", "GET", status, "solo"), (10**6,) * 8)
        writer.tick()
    writer.close()


def test_what_the_history_does_not_have_is_not_tested(mill: Any) -> None:
    assert "cannot be tested" in shown(
        mill, metric="silence_s", name="Mine", limit="90", test="24h"
    )


def test_hostile_names_are_text(mill: Any) -> None:
    name = "<b>\u202e\"'>"
    page = shown(mill, **{**FORM, "name": name, "endpoint": "<i>"})
    assert "<b>" not in page and "<i>" not in page and "\u202e" not in page


def test_the_writer_of_a_rule_is_a_person_of_the_pages(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN=TOKEN)
    client = mill.app.test_client()
    assert client.get("/perf/alerts/rule").status_code == 404
    assert client.post("/perf/alerts/save-rule", data=FORM).status_code == 404
    with closing(database(mill.session.settings.history_url).open()) as connection:
        prepare(connection)
        assert AlertStore(connection).rules() == []
