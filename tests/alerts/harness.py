"""A mill on a clock that the test sets: a writer of its history, and evaluators of its alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask_knitperf.alerts.alert_store import AlertStore, Message
from flask_knitperf.alerts.channels import LogChannel, Receiver
from flask_knitperf.alerts.evaluator import AlertKey
from flask_knitperf.alerts.rules import Rule
from flask_knitperf.alerts.watch import AlertWatch, Application
from flask_knitperf.history.databases import Database
from flask_knitperf.history.schema import prepare
from tests.history.harness import Host, Run

FINE_NS, SLOW_NS = 10e6, 900e6
SLOT_S = 10.0


class Mill:
    """A host whose requests are written and evaluated every ten seconds.

    Args:
        database: that holds the history.
        host: its writers.
        rules: the rules.
        receivers: names of the channels.
    """

    def __init__(
        self, database: Database, host: Host, rules: Sequence[Rule],
        receivers: Sequence[Receiver] | None = None,
    ) -> None:  # fmt: skip
        self.database, self.host, self.rules = database, host, list(rules)
        self.receivers = receivers or [Receiver("log", LogChannel(), None)]
        self.writer = host.writer()
        self.application = Application("mill", None, lambda _: 200.0, lambda _: None)
        self.watch = self.evaluator()

    @property
    def run(self) -> Run:
        return self.host.run

    @property
    def alerts(self) -> AlertStore:
        """The tables of alerts."""
        connection = self.database.connection()
        prepare(connection)
        return AlertStore(connection)

    def evaluator(self, holder: str = "first") -> AlertWatch:
        """Return a new evaluator."""
        return AlertWatch(holder, lambda _: list(self.rules), self.receivers, self.application)

    def serve(
        self, seconds: float, *durations: float, evaluate: bool = True, every_s: float = SLOT_S
    ) -> None:
        """Serve requests of these durations in each slot, or less often; write them, and evaluate."""
        for _ in range(round(seconds / every_s)):
            self.run.observe(*durations)
            self.host.now += every_s
            self.writer.tick()
            if evaluate:
                self.watch.tick(self.database.connection(), self.host.now)

    def events(self) -> list[tuple[str, AlertKey]]:
        """Return the kinds and keys of all events."""
        return [(one.kind.value, one.key) for one in self.alerts.events(0, self.host.now + 1e6)]

    def kinds(self) -> list[str]:
        """Return the kinds of all events."""
        return [kind for kind, _ in self.events()]

    def messages(self) -> list[Message]:
        """Return all messages, oldest first."""
        return self.alerts.messages(1000)[::-1]

    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies of all messages, oldest first."""
        return [one.body for one in self.messages()]
