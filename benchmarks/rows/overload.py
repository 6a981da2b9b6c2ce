"""An overloaded machine is reported once, and blamed on no endpoint.

The demo mill under gunicorn, and the endpoints of ``corpus/known_causes.py`` in one process, are served
on a calm machine, beside as many busy processes as there are cores, and beside twice as many. The report
of a busy run must state the lack of cores on one card, above all others, if any endpoint is over its
threshold. An endpoint without a finding when calm must have none, and a slow one must still be reported.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

from demo_app import traffic
from demo_app.mill import generate
from demo_app.plants import plan
from demo_app.settings import Settings
from flask_knitperf import KnitPerf

from ..corpus import known_causes as corpus
from ..harness.busy_machine import CORES, busy_processes
from ..harness.client import impossible
from ..harness.demo_mill import served
from ..harness.outcome import Grid, Outcome
from ..harness.sampled import sampled_report
from ..harness.wsgi import Get

SEED = 0
REQUESTS = 300  # of the mill
QUICK_REQUESTS = 40
QUICK_SCALE = 0.1  # of the mill's tables
LEAST = 6  # requests of each endpoint of the mill
ROUNDS = 12  # requests of each endpoint of the corpus
QUICK_ROUNDS = 8  # fewer would be too few to recognise an overload
_QUICK_STEP = 12
_QUICK_KINDS = ("explosion", "stock")
LOADS = {"calm": 0, "as many as cores": CORES, "twice as many": 2 * CORES}
"""Numbers of busy processes beside."""
_LATENCY = {"SLOW_RESPONSE", "MODERATE_RESPONSE", "HIGH_VARIANCE"}


class Busy(NamedTuple):
    """The report of a busy run, compared with that of the calm one.

    Attributes:
        app: the application.
        load: the number of busy processes, in words.
        over: number of endpoints of which half of the requests or more are over their threshold.
        cards: places of the cards on the machine, the first is 0.
        title: of the first of those.
        blamed: findings on endpoints that have none when calm.
        more: findings of other types on the other endpoints.
        lost: findings on latency of the calm run on endpoints that have none now.
        kept: number of the others.
        wrong: impossible values.
    """

    app: str
    load: str
    over: int
    cards: list[int]
    title: str
    blamed: list[str]
    more: list[str]
    lost: list[str]
    kept: int
    wrong: list[str]

    @property
    def is_reported_once(self) -> bool:
        """Whether the machine is the first card, or no endpoint is over its threshold."""
        return self.cards == [0] or not (self.cards or self.over)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, runs = Outcome(), list[Busy]()
    with tempfile.TemporaryDirectory() as folder:
        cases = corpus.cases()[:: _QUICK_STEP if quick else 1]
        generate(Path(folder) / "data", QUICK_SCALE if quick else 1.0, SEED)
        for app, serve in (("mill", _mill), ("corpus", _corpus)):
            calm: Mapping[str, Any] = {}
            for load, number in LOADS.items():
                if quick and load == "as many as cores":
                    continue
                place = Path(folder) / f"{app}-{number}"
                with busy_processes(number):
                    document = serve(place, cases, quick)
                if number:
                    runs.append(_compare(app, load, calm, document))
                    print("  ", runs[-1], flush=True)
                else:
                    calm = document
                    print(
                        "  ",
                        app,
                        "calm:",
                        _machine_cards(document)[1] or "cores suffice",
                        flush=True,
                    )
    _judge(outcome, runs)
    return outcome


def _judge(outcome: Outcome, runs: Sequence[Busy]) -> None:
    reported, relevant = sum(run.is_reported_once for run in runs), len(runs)
    stated = sum(run.cards == [0] for run in runs)
    outcome.judge("overload.reported", "the lack of cores is the first card, once, if it matters",
                  "in each busy run", f"{reported} of {relevant}, of which {stated} state it",
                  reported == relevant and stated > 0)  # fmt: skip
    blamed = sum(len(run.blamed) for run in runs)
    outcome.judge("overload.blamed", "findings on endpoints that have none when calm", "none",
                  str(blamed), not blamed)  # fmt: skip
    kept, lost = sum(run.kept for run in runs), sum(len(run.lost) for run in runs)
    outcome.judge("overload.kept", "endpoints slow when calm are reported when busy", "each",
                  f"{kept} of {kept + lost}", not lost)  # fmt: skip
    more = sum(len(run.more) for run in runs)
    outcome.judge("overload.more", "other findings than when calm, on endpoints that have some", "–",
                  str(more), None)  # fmt: skip
    values = sum(len(run.wrong) for run in runs)
    outcome.judge("overload.values", "impossible values in these reports", "none", str(values),
                  not values)  # fmt: skip
    lines = tuple(
        (
            run.app,
            run.load,
            str(run.over),
            run.title or "–",
            str(len(run.blamed)),
            str(len(run.lost)),
        )
        for run in runs
    )
    heads = ("application", "busy processes", "endpoints over a threshold", "card on the machine",
             "blamed", "lost")  # fmt: skip
    outcome.grids.append(Grid("Busy runs", heads, lines))
    for run in runs:
        sentences = [*(f"blamed {text}" for text in run.blamed), *(f"also {text}" for text in run.more),
                     *(f"lost {text}" for text in run.lost), *run.wrong]  # fmt: skip
        outcome.notes += [f"{run.app}, {run.load}: {sentence}" for sentence in sentences]


def _mill(state: Path, _: Sequence[corpus.Case], quick: bool) -> Mapping[str, Any]:
    """Serve the demo mill by as many workers as cores, one request at a time; return its report."""
    key = plan(SEED)
    settings = Settings(data=state.parent / "data", seed=SEED, scale=QUICK_SCALE if quick else 1.0)
    with served(state, settings, key, CORES) as mill:
        requests = traffic.requests(
            key, QUICK_REQUESTS if quick else REQUESTS, SEED, least=0 if quick else LEAST,
            only=_QUICK_KINDS if quick else (),
        )  # fmt: skip
        traffic.drive(mill.address, requests, clients=1)
        time.sleep(2.5)
        document: Mapping[str, Any] = mill.report()
    return document


def _corpus(state: Path, cases: Sequence[corpus.Case], quick: bool) -> Mapping[str, Any]:
    """Serve the corpus of known causes in this process; return its report."""
    app = Flask("overload")
    app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_SAMPLER=True)
    for case in cases:
        app.add_url_rule(f"/{case.name}", case.name, case.view)
    KnitPerf(app)
    gets = [Get(app, f"/{case.name}") for case in cases]
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for get in gets:
            get()
    document = sampled_report(app)
    app.extensions["knitperf"].close()
    return document


def _machine_cards(document: Mapping[str, Any]) -> tuple[list[int], str]:
    """Return the places of the cards on the machine, and the title of the first."""
    cards = {
        n: card["title"] for n, card in enumerate(document["cards"]) if card["kind"] == "machine"
    }
    return list(cards), next(iter(cards.values()), "")


def _compare(app: str, load: str, calm: Mapping[str, Any], busy: Mapping[str, Any]) -> Busy:
    before, now = _findings(calm), _findings(busy)
    cards, title = _machine_cards(busy)
    slow = [name for name, types in before.items() if _LATENCY & types.keys()]
    lost = [name for name in slow if not _LATENCY & now.get(name, {}).keys()]
    return Busy(
        app, load, sum(map(_is_over, busy["endpoints"])), cards, title,
        [text for name, types in now.items() if name not in before for text in types.values()],
        [text for name, types in now.items() if name in before
         for kind, text in types.items() if kind not in before[name]],
        [f"{name}: {before[name]}" for name in lost], len(slow) - len(lost),
        impossible(busy),
    )  # fmt: skip


def _is_over(row: Mapping[str, Any]) -> bool:
    return bool((row["p50_ms"] or 0.0) > row["thresholds"]["moderate_ms"])


def _findings(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the texts of findings by endpoint and type."""
    texts: dict[str, dict[str, str]] = {}
    for row in document["bottlenecks"]:
        texts.setdefault(row["endpoint"], {})[row["type"]] = f"{row['type']} {row['text']}"
    return texts
