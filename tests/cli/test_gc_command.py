"""The command that measures what the collector costs an address."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.cli.commands import knitperf
from flask_knitperf.core.settings import HUNT
from flask_knitperf.experiments.gc_trial import Setting, Tried
from flask_knitperf.render import gc_trial
from flask_knitperf.render.gc_trial import Trial, best


def tried(name: str, pause_ms: float, request_ms: float = 30.0, code: str = "gc.freeze()") -> Tried:
    return Tried(Setting(name, code, "freeze" in code, 700), pause_ms, request_ms, 2.0, 5 << 20)


NOW = tried("as it is", 20.0, code="")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv(HUNT, "gc")  # so that it is taken back
    made = Flask("mill")
    KnitPerf(made)
    if "knitperf" not in made.cli.commands:
        made.cli.add_command(knitperf)

    @made.get("/seats")
    def seats() -> str:
        last: list[Any] | None = None
        for _ in range(3_000):
            seat: list[Any] = [last, None]
            if last is not None:
                last[1] = seat
            last = seat
        return "seated"

    yield made
    made.extensions["knitperf"].close()


def run(app: Flask, *words: str) -> Any:
    return app.test_cli_runner().invoke(args=["knitperf", "gc", *words])


def test_each_setting_is_shown_in_eighty_columns(app: Flask) -> None:
    found = run(app, "/seats", "--requests", "5")
    assert found.exit_code == 0, found.output
    assert "The collector stops GET /seats for" in found.output
    assert "frozen once warm" in found.output
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_it_is_json_too(app: Flask) -> None:
    told = json.loads(run(app, "/seats", "--requests", "5", "--json").stdout)
    assert told["settings"][0]["name"] == "as it is"
    assert told["settings"][0]["collections"] > 0
    assert set(told["statuses"]) == {"200"}


def test_the_collector_is_left_as_it_was(app: Flask) -> None:
    before = gc.get_threshold()
    run(app, "/seats", "--requests", "5")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_an_address_that_fails_is_not_measured(app: Flask) -> None:
    found = run(app, "/nowhere")
    assert found.exit_code == 1
    assert "/nowhere is answered with 404" in found.output


def test_what_is_no_address_is_refused(app: Flask) -> None:
    assert run(app, "nowhere").exit_code == 2


def test_the_extension_is_off_meanwhile(app: Flask) -> None:
    run(app, "/seats", "--requests", "5")
    assert not app.extensions["knitperf"].recorder.has_worker


def test_an_application_that_is_loaded_from_now_on_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(HUNT, raising=False)
    monkeypatch.setattr(gc_trial.os, "environ", made := {})
    gc_trial.switch_off()
    assert made == {HUNT: "gc"}


def test_the_setting_that_spares_most_is_advised() -> None:
    assert best([NOW, tried("a", 9.0), tried("b", 4.0), tried("c", 5.0)]) == tried("b", 4.0)


@pytest.mark.parametrize(
    ("now", "then"),
    [(20.0, 19.5), (0.9, 0.0), (2.0, 0.5)],
    ids=["little", "short", "a small share"],
)
def test_what_spares_little_is_not_advised(now: float, then: float) -> None:
    request = 100.0 if now == 2.0 else 30.0
    assert best([tried("as it is", now, request, ""), tried("a", then, request)]) is None


def test_advice_is_said_with_before_and_after_and_its_price() -> None:
    request = gc_trial.Request("/seats")
    said = gc_trial.text(request, Trial([NOW, tried("frozen", 4.0, 14.0)], {200: 9}))
    said = " ".join(said.split())
    assert "stops GET /seats for 20 ms of 30 ms. With gc.freeze() once" in said
    assert "it is 4.0 ms, and up to 5.0 MB of garbage wait." in said
    assert "KNITPERF_GC_FREEZE = True" in said


def test_that_nothing_helps_is_said_too() -> None:
    found = Trial([NOW, tried("a", 19.9)], {200: 9})
    assert "No setting spares" in gc_trial.text(gc_trial.Request("/seats"), found)
    assert gc_trial.document(gc_trial.Request("/seats"), found)["advice"] is None
