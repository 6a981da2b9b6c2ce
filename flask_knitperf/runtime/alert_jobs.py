"""Housekeeping of alerts: evaluates rules after each write of the history, and delivers messages.

Nothing of it is imported before the first slot of the history has ended.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.clock import Clock
from ..core.errors import ConfigurationError, HistoryError
from ..core.host_exceptions import raise_if_of_host
from ..core.settings import DEFAULT_CHANNELS, Settings

if TYPE_CHECKING:
    from ..alerts.alert_store import AlertStore
    from ..alerts.backtest import Fired
    from ..alerts.channels import Receiver
    from ..alerts.delivery import Delivery
    from ..alerts.rules import Rule, RuleSource
    from ..alerts.watch import AlertWatch
    from ..history.databases import Connection
    from ..reports.documents.alerts import AlertMessage, AlertsReport, FiredStretch

log = logging.getLogger("flask_knitperf")

_COUNT_NS = 3_000_000_000
Failed = Callable[[str, BaseException], None]
Finding = Callable[[str], str | None]


class Backtest(NamedTuple):
    """Result of a backtest.

    Attributes:
        rule: the rule.
        fired: times for which it would have fired, oldest first.
    """

    rule: Rule
    fired: list[Fired]


class AlertJobs:
    """Evaluates the rules of one application.

    Args:
        name: of the application.
        settings: returns the settings, with the thresholds of endpoints.
        finding: returns the most severe finding on a subject in words, ``None`` without one.
        failed: called with a part of this and its error.
        clock: time.
    """

    def __init__(
        self, name: str, settings: Callable[[], Settings], finding: Finding, failed: Failed,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._name, self._settings, self._clock = name, settings, clock
        self._finding, self._failed = finding, failed
        self._counted: tuple[int, int | None] | None = None
        self._parts: tuple[AlertWatch, Delivery] | None = None
        self._pid = 0

    def tick(self, connection: Connection, holder: str, now: float) -> None:
        """Evaluate all rules, and have messages delivered that are due.

        Args:
            connection: to the database of the history.
            holder: identity of this process.
            now: the present, in seconds since the epoch.

        Raises:
            HistoryError: the database cannot be used.
        """
        parts = self._parts
        if parts is None or self._pid != os.getpid():
            parts = self._parts = self._begin(holder)
        watch, delivery = parts
        if watch.tick(connection, now):
            delivery.start()

    def _begin(self, holder: str) -> tuple[AlertWatch, Delivery]:
        from ..alerts.delivery import Delivery
        from ..alerts.watch import AlertWatch, Application
        from ..history.databases import database as another

        receivers = self.receivers()
        application = Application(
            self._name, self._settings().public_url, self.threshold, self._finding_of
        )
        self._pid = os.getpid()
        database = another(self._settings().history_url)
        return (
            AlertWatch(holder, self._rules_of, receivers, application),
            Delivery(database, holder, receivers, self._clock.wall),
        )

    def threshold(self, endpoint: str) -> float:
        """Return the threshold of an endpoint in milliseconds."""
        return self._settings().budget(endpoint).moderate_ms

    def check(self) -> None:
        """Check the settings, where they are not the default ones.

        Raises:
            ConfigurationError: a rule or a channel is wrong.
        """
        settings = self._settings()
        if settings.alert_rules:
            from ..alerts.rules import combined

            for rule, _ in combined(settings.alert_rules, ()).values():
                for name in rule.channels:
                    if name not in settings.alert_channels:
                        raise ConfigurationError(
                            f"KNITPERF_ALERT_RULES, channel of {rule.name!r}", name,
                            f"must be one of {', '.join(settings.alert_channels)}",
                        )  # fmt: skip
        if settings.alert_channels != DEFAULT_CHANNELS:
            self.receivers()

    def rules(self, store: AlertStore) -> Mapping[str, tuple[Rule, RuleSource]]:
        """Return the rules by name, with their source.

        Raises:
            ConfigurationError: a rule of the settings is wrong.
        """
        from ..alerts.rules import combined

        return combined(self._settings().alert_rules, store.rules())

    def receivers(self) -> Sequence[Receiver]:
        """Return the channels that messages are sent to.

        Raises:
            ConfigurationError: a channel of the settings is wrong.
        """
        from ..alerts.channels import receivers_of

        return receivers_of(self._settings().alert_channels)

    # -- for pages and the command line ----------------------------------------------------------------

    @contextmanager
    def _tables(self) -> Iterator[AlertStore]:
        from ..alerts.alert_store import AlertStore
        from ..history.databases import database
        from ..history.store import connected

        with connected(database(self._settings().history_url)) as connection:
            yield AlertStore(connection)

    def report(self, since: float, now: float) -> AlertsReport:
        """Return the report on alerts; see :func:`..alerts.report.alerts_report`.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..alerts.report import alerts_report

        names = list(self._settings().alert_channels)
        with self._tables() as alerts:
            return alerts_report(alerts, self.rules(alerts), names, since, now)

    def firing(self) -> int | None:
        """Return the number of alerts that fire, read at most every few seconds.

        ``None`` where the history cannot be read.
        """
        now = self._clock.monotonic_ns()
        if self._counted is None or now - self._counted[0] > _COUNT_NS:
            self._counted = now, self._count_firing()
        return self._counted[1]

    def _count_firing(self) -> int | None:
        try:
            with self._tables() as alerts:
                states, rules = alerts.states(), self.rules(alerts)
        except (HistoryError, ConfigurationError) as error:
            log.debug("the number of alerts is unknown: %s", error)
            return None
        return sum(state.is_firing for key, state in states.items() if key.rule in rules)

    def silence(self, rule: str, subject: str, seconds: float, reason: str) -> None:
        """Silence alerts of a rule, or one alert; an empty rule or subject stands for all.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..alerts.evaluator import AlertKey

        now = self._clock.wall()
        with self._tables() as alerts:
            alerts.silence(AlertKey(rule, subject), now + seconds, reason, now)

    def end_silence(self, number: int) -> bool:
        """End a silence; return whether there was one.

        Raises:
            HistoryError: the database cannot be used.
        """
        with self._tables() as alerts:
            return alerts.end_silence(number, self._clock.wall())

    def test_message(self) -> AlertMessage:
        """Return a test message."""
        from ..alerts.messages import test_message

        return test_message(self._name, self._settings().public_url, self._clock.wall())

    def queue_test(self) -> int:
        """Queue a test message for each channel; return their number.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..alerts.alert_store import identity

        message, now = self.test_message(), self._clock.wall()
        with self._tables() as alerts:
            for name in self._settings().alert_channels:
                alerts.queue(identity(message["key"], name), name, message, now, now)
        return len(self._settings().alert_channels)

    def backtest(self, name: str, since: float, now: float) -> Backtest:
        """Return when a rule would have fired, from stored rows.

        Raises:
            HistoryError: the database cannot be used.
            ConfigurationError: there is no such rule, or the history does not have what it observes.
        """
        from ..alerts.backtest import can_test

        rule = self.rule(name)
        if not can_test(rule):
            raise ConfigurationError("rule", name, "the history does not have what it observes")
        return self.backtest_of(rule, since, now)

    def backtest_of(self, rule: Rule, since: float, now: float) -> Backtest:
        """Return when a rule would have fired; without data for its metric, never.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..alerts.backtest import backtest, can_test
        from ..history.databases import database
        from ..history.store import opened

        if not can_test(rule):
            return Backtest(rule, [])
        with opened(database(self._settings().history_url)) as store:
            return Backtest(rule, backtest(store, rule, self.threshold, since, now))

    def fired(self, rule: Rule, since: float, now: float) -> list[FiredStretch] | None:
        """Return when a rule would have fired as rows, ``None`` where it cannot be tested.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..alerts.backtest import can_test
        from ..reports.values import moment

        if not can_test(rule):
            return None
        return [
            {"subject": one.subject, "begins": moment(one.begins),
             "ends": None if one.ends is None else moment(one.ends)}
            for one in self.backtest_of(rule, since, now).fired
        ]  # fmt: skip

    def names(self) -> list[str]:
        """Return the names of the rules.

        Raises:
            HistoryError: the database cannot be used.
        """
        with self._tables() as alerts:
            return list(self.rules(alerts))

    def rule(self, name: str) -> Rule:
        """Return a rule.

        Raises:
            HistoryError: the database cannot be used.
            ConfigurationError: there is no such rule.
        """
        with self._tables() as alerts:
            rules = self.rules(alerts)
        if name not in rules:
            raise ConfigurationError("rule", name, f"rules are {', '.join(rules)}")
        return rules[name][0]

    def save_rule(self, values: Mapping[str, Any]) -> None:
        """Store a rule that was written on the page; it replaces that of its name.

        Args:
            values: see :func:`..alerts.rules.rule_of`; ``enabled`` false switches a rule off.

        Raises:
            HistoryError: the database cannot be used.
            ConfigurationError: a value is wrong, or there are too many rules.
        """
        from ..alerts.rules import combined

        channels = self._settings().alert_channels
        for name in values.get("channels", ()):
            if name not in channels:
                raise ConfigurationError("channel", name, f"must be one of {', '.join(channels)}")
        with self._tables() as alerts, alerts.connection.transaction():
            written = [one for one in alerts.rules() if one["name"] != values["name"]]
            combined(self._settings().alert_rules, [*written, values])
            alerts.set_rule(values, self._clock.wall())

    def remove_rule(self, name: str) -> bool:
        """Remove what the page wrote of a rule; return whether there was anything.

        Raises:
            HistoryError: the database cannot be used.
        """
        with self._tables() as alerts, alerts.connection.transaction():
            return alerts.remove_rule(name, self._clock.wall())

    def _rules_of(self, store: AlertStore) -> Sequence[Rule]:
        return [rule for rule, _ in self.rules(store).values()]

    def _finding_of(self, subject: str) -> str | None:
        try:
            return self._finding(subject)
        except Exception as error:
            raise_if_of_host(error)
            self._failed("finding of an alert", error)
            return None

    def close(self, connection: Connection | None) -> None:
        """Let another process evaluate at once; end after the message that is being sent.

        Raises:
            HistoryError: the database cannot be used.
        """
        parts, self._parts = self._parts, None
        if parts is None or self._pid != os.getpid():
            return
        watch, delivery = parts
        delivery.stop()
        if connection is not None:
            watch.close(connection)
