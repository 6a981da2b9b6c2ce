"""The whole demo for a newcomer: data, a server, two stages of traffic, and where to look.

The first stage calls every endpoint as often as a verdict needs. The second one goes on while the
pages are being looked at, with cheap requests: memory that grows is only seen over minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_app import serve
from demo_app.mill import generate
from demo_app.plants import Plan, plan
from demo_app.progress import Progress, clock
from demo_app.settings import Settings
from demo_app.traffic import Answer, OnAnswer, Request, drive, requests, table

MINUTES = 15.0
"""Length of the second stage: growth per hour is judged after ten minutes."""
LEAK_VISIBLE_MINUTES = 4
"""Minutes of the second stage within which four workers report the leak; measured: two."""
BACKGROUND_ROLES = ("leak", "ping", "stock", "search", "tracking")
PAUSE_S = 0.04
"""Pause of each sender of the second stage after a response: some 60 requests per second."""
MAX_PER_SECOND = 100


@dataclass(frozen=True)
class Tour:
    """Parameters of one tour.

    Attributes:
        serving: the server.
        listed: requests of the first stage.
        clients: senders.
        seconds: length of the first stage at most, 0 for all its requests.
        minutes: length of the second stage, 0 for none.
        once: whether to end after the traffic.
    """

    serving: serve.Serving
    listed: Sequence[Request]
    clients: int = 4
    seconds: float = 0.0
    minutes: float = MINUTES
    once: bool = False


def run(settings: Settings, tour: Tour) -> None:
    """Serve the demo, send it traffic, and print what happens and where to look.

    Raises:
        DemoError: the server cannot be started, or a setting is wrong.
    """
    serve.end_on_terminate()
    generate_data(settings)
    plan_ = plan(settings.seed)
    env = serve.environment(settings, "gunicorn" if tour.serving.gunicorn else "waitress")
    starting = Progress("server")
    starting.state(f"starting {tour.serving}")
    with serve.server(tour.serving, env, plan_.places["health"].url) as address:
        starting.done(f"{tour.serving}; its pages: {address}/")
        if not settings.bare:
            print_report_address(env, address)
        send("traffic", address, tour.listed, tour.clients, tour.seconds)
        if tour.minutes:
            _second_stage(address, plan_, tour, settings)
        if not tour.once:
            if not settings.bare:
                print_report_address(env, address)
            print("serving until Ctrl-C", flush=True)
            serve.wait_for_end()


def generate_data(settings: Settings) -> Path:
    """Write the mill's tables where they are missing; return their folder."""
    progress = Progress("data")
    progress.state(f"writing the mill's tables to {settings.data}")
    began = time.monotonic()
    folder = generate(settings.data, settings.scale, settings.seed)
    progress.done(f"{folder} ({time.monotonic() - began:.1f} s)")
    return folder


def send(
    label: str, address: str, listed: Sequence[Request], clients: int, seconds: float = 0.0
) -> list[Answer]:
    """Send requests with a bar, and print what their senders saw."""
    progress = Progress(label)
    began = time.monotonic()
    answers = drive(address, listed, clients, seconds, by_count(progress, len(listed)))
    took = time.monotonic() - began
    progress.done(f"{len(answers)} requests in {took:.1f} s\n\n{table(answers)}\n")
    return answers


def by_count(progress: Progress, total: int) -> OnAnswer:
    """Progress by the number of responses, with the endpoint that answered last."""

    def show(number: int, answer: Answer) -> None:
        progress.show(number / total, f"{answer.request.endpoint} {answer.seconds:.2f} s")

    return show


def _second_stage(address: str, plan_: Plan, tour: Tour, settings: Settings) -> None:
    seconds = tour.minutes * 60
    listed = requests(plan_, int(seconds * MAX_PER_SECOND), 1, only=BACKGROUND_ROLES)
    notes = plan_.places["leak"].endpoint
    if not settings.bare and not settings.fixed:
        print(
            f"Now light traffic for {tour.minutes:g} minutes: {notes} keeps its notes, and memory\n"
            f"grows. /perf/memory names it within {LEAK_VISIBLE_MINUTES} minutes, and its"
            " growth after ten.",
            flush=True,
        )
    progress = Progress("memory")
    began = time.monotonic()

    def show(number: int, _: Answer) -> None:
        share = min(1.0, (time.monotonic() - began) / seconds)
        progress.show(share, f"{number} requests, half to {notes}")

    answers = drive(address, listed, tour.clients, seconds, show, PAUSE_S)
    progress.done(f"{len(answers)} requests in {clock(time.monotonic() - began)}")


def print_report_address(env: Mapping[str, str], address: str) -> None:
    """Print where the report is, and how to sign in: now, and later."""
    print(f"report   {address}{serve.report_prefix(env)}/")
    print(f"sign in  {serve.sign_in_url(env, address)}")
    print("         works once, for 5 minutes", end="")
    if os.environ.get("KNITPERF_ACCESS_TOKEN"):
        print("; afterwards use KNITPERF_ACCESS_TOKEN", flush=True)
    else:
        print(f"; afterwards use this access token:\n         {env['KNITPERF_ACCESS_TOKEN']}")
    sys.stdout.flush()
