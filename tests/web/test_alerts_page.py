"""The page of alerts: what fires, the rules, and the acts of people."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from flask_knitperf.alerts.alert_store import AlertStore, DeliveryState, EventKind
from flask_knitperf.alerts.evaluator import AlertKey
from flask_knitperf.alerts.states import Phase, State
from flask_knitperf.core.printable import printable
from flask_knitperf.history.databases import database
from flask_knitperf.history.store import opened
from flask_knitperf.reports.json_schema import json_schema
from tests.conftest import Mill

from .clients import admitted_form, csrf_of, form

KEY = AlertKey("Endpoint became slow", "GET index")
HOSTILE = "GET <b>\u202e\0\ud800" + "x" * 10_000


@pytest.fixture
def mill(make_app: Callable[..., Mill]) -> Mill:
    """An application with an alert that fires, and one whose names are hostile."""
    mill = make_app(KNITPERF_ACCESS=lambda _: True)
    mill.get("/")
    now = time.time()
    with opened(database(mill.session.settings.history_url)) as store:
        alerts = AlertStore(store.connection)
        hostile = AlertKey(KEY.rule, HOSTILE)
        for key in (KEY, hostile):
            alerts.add_event(now - 900, key, EventKind.FIRING, {"text": "slow <i>"})
        alerts.set_states({
            key: State(Phase.FIRING, now, now - 900, now, has_data=True, observed=0.12, events=240)
            for key in (KEY, hostile)
        })  # fmt: skip
        body = {"rule": KEY.rule, "subject": HOSTILE, "event": "firing"}
        alerts.queue("key", "<ops>", body, now, now)
        [message] = alerts.messages(1)
        alerts.tried(message, DeliveryState.QUEUED, "refused <u>", now + 60, now)
    return mill


def page(mill: Mill, query: str = "") -> str:
    response = mill.app.test_client().get(f"/perf/alerts{query}", headers={"Accept": "text/html"})
    assert response.status_code == 200
    return response.text


def document(mill: Mill) -> Any:
    return mill.app.test_client().get("/perf/alerts").get_json()


def act(mill: Mill, action: str, *, accept: str = "", **fields: Any) -> Any:
    """Send the form of an act, as the browser that shows the page."""
    client = mill.app.test_client()
    token = csrf_of(client.get("/perf/alerts", headers={"Accept": "text/html"}).data)
    return client.post(
        f"/perf/alerts/{action}", data={"csrf": token, **fields}, headers={"Accept": accept},
        follow_redirects=True,
    )  # fmt: skip


def test_it_shows_what_fires_with_a_link_to_the_endpoint(mill: Mill) -> None:
    shown = page(mill)
    assert "Endpoint became slow: GET index" in shown.replace("<wbr>", "")
    assert "12\N{NO-BREAK SPACE}%" in shown
    assert "/perf/why?of=index&amp;method=GET" in shown


def test_each_page_shows_how_many_fire(mill: Mill) -> None:
    client = mill.app.test_client()
    for path in ("", "queries", "memory", "compare?window=run&against=run"):
        shown = client.get(f"/perf/{path}", headers={"Accept": "text/html"}).text
        assert "2 firing" in shown
    assert "2 alerts fire." in client.get("/perf/", headers={"Accept": "text/html"}).text.replace(
        "\N{NO-BREAK SPACE}", " "
    )


def test_a_page_opens_where_the_history_cannot_be_read(make_app: Callable[..., Mill]) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True, KNITPERF_HISTORY_URL="/proc/none/h.sqlite")
    shown = mill.app.test_client().get("/perf/", headers={"Accept": "text/html"})
    assert shown.status_code == 200 and " firing" not in shown.text


def test_hostile_names_are_text(mill: Mill) -> None:
    shown = page(mill)
    for markup in ("<b>", "<i>", "<u>", "<ops>", "\u202e", "\0"):
        assert markup not in shown
    assert "\\u202e\\x00\\ud800" in shown.replace("<wbr>", "")


def test_the_document_agrees_with_its_schema(mill: Mill) -> None:
    jsonschema.validate(document(mill), json_schema("alerts"))
    rule = document(mill)["rules"][0]
    assert (rule["fired"], rule["source"]) == (2, "default") and len(document(mill)["rules"]) == 9


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
def test_it_has_three_windows(mill: Mill, window: str) -> None:
    assert f'window={window}" aria-current="true"' in page(mill, f"?window={window}")


@pytest.mark.parametrize("window", ["1h", "", "<b>", "24h\0"])
def test_another_window_is_refused(mill: Mill, window: str) -> None:
    response = mill.app.test_client().get("/perf/alerts", query_string={"window": window})
    assert (
        response.status_code == 400
        and "must be one of 24h, 7d, 30d" in response.get_json()["error"]
    )


def test_a_silence_is_shown_and_can_be_ended(mill: Mill) -> None:
    response = act(mill, "silence", rule=KEY.rule, subject=KEY.subject, **{"for": "8h"})
    assert response.get_json() == {"done": "silence"}
    [silence] = document(mill)["silences"]
    assert (silence["rule"], silence["subject"]) == KEY and "silent until" in page(mill)
    assert act(mill, "end-silence", number=silence["number"]).status_code == 200
    assert document(mill)["silences"] == []
    assert [row["kind"] for row in document(mill)["events"][:2]] == ["unsilenced", "silenced"]


def test_a_browser_returns_to_the_page_with_an_answer(mill: Mill) -> None:
    response = act(mill, "test", accept="text/html")
    assert "A test message goes to each channel" in response.text
    assert [row["event"] for row in document(mill)["deliveries"]] == ["test", "firing"]


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("silence", {"for": "99y"}), ("end-silence", {}), ("end-silence", {"number": "-1"}),
        ("end-silence", {"number": "9" * 400}), ("end-silence", {"number": "²"}), ("other", {}),
    ],
)  # fmt: skip
def test_an_act_that_makes_no_sense_is_refused(
    mill: Mill, action: str, fields: dict[str, str]
) -> None:
    before = document(mill)["events"]
    assert act(mill, action, **fields).status_code == 400
    assert document(mill)["events"] == before


@pytest.mark.parametrize("action", ["silence", "end-silence", "test"])
def test_an_act_needs_the_csrf_token(mill: Mill, action: str) -> None:
    response = mill.send("POST", f"/perf/alerts/{action}", **form(csrf="0" * 64))
    assert response.code == 403 and document(mill)["silences"] == []


def test_an_act_that_another_site_sends_is_refused(mill: Mill) -> None:
    fields = admitted_form(mill)
    assert (
        mill.send("POST", "/perf/alerts/test", HTTP_SEC_FETCH_SITE="cross-site", **fields).code
        == 403
    )


def test_get_changes_nothing(mill: Mill) -> None:
    assert mill.app.test_client().get("/perf/alerts/test").status_code == 405


@pytest.mark.parametrize("setting", ["KNITPERF_ALERTS", "KNITPERF_HISTORY"])
def test_without_alerts_there_is_no_page(make_app: Callable[..., Mill], setting: str) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True, **{setting: False})
    mill.get("/")
    client = mill.app.test_client()
    assert client.get("/perf/alerts").status_code == 404
    assert "/perf/alerts" not in client.get("/perf/", headers={"Accept": "text/html"}).text


def test_in_memory_the_page_states_that_there_are_none(make_app: Callable[..., Mill]) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True, TESTING=True)
    response = mill.app.test_client().get("/perf/alerts")
    assert response.status_code == 409 and "keeps no history" in response.get_json()["error"]


def test_a_history_that_cannot_be_read_is_a_sentence(make_app: Callable[..., Mill]) -> None:
    mill = make_app(
        KNITPERF_ACCESS=lambda _: True, KNITPERF_HISTORY_URL="/proc/none/history.sqlite"
    )
    response = mill.app.test_client().get("/perf/alerts")
    assert response.status_code == 409 and "cannot be used" in response.get_json()["error"]


def test_an_alert_of_a_rule_that_was_removed_is_not_counted(mill: Mill) -> None:
    with opened(database(mill.session.settings.history_url)) as store:
        removed, state = AlertKey("removed", ""), State(Phase.FIRING, 1.0, 1.0)
        AlertStore(store.connection).set_states({removed: state})
    assert mill.session.documents.firing() == len(document(mill)["firing"]) == 2


def test_the_finding_on_an_endpoint_with_a_hostile_name_is_in_its_message(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = mill.session.documents
    method, endpoint = printable(HOSTILE).split(" ", 1)
    finding = {"method": method, "endpoint": endpoint, "text": "slow"}
    monkeypatch.setattr(documents, "report", lambda: {"bottlenecks": [finding]})
    assert documents.worst_finding(HOSTILE) == documents.worst_finding("") == "slow"
    assert documents.worst_finding("GET other") is None
