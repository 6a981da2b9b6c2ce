"""Tables of alerts: states, events, messages to deliver, silences, and rules of the page.

Names of rules and subjects are stored as JSON in ASCII, and compared by a hash of both: an endpoint may
have a name that a database refuses, or that is too long for an index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from ..core.printable import printable
from ..history.databases import Connection
from ..history.resolutions import DAY
from .evaluator import AlertKey
from .states import Phase, State

EVENTS_KEPT_S = 400 * DAY
MESSAGES_KEPT_S = 30 * DAY
_TRIMMED = 1000  # rows of a table that one call deletes at most


class EventKind(StrEnum):
    """Kind of an event: what happened to an alert, or what a person did."""

    FIRING = "firing"
    RESOLVED = "resolved"
    REPEAT = "repeat"
    EXPIRED = "expired"  # an alert that has had no data for a week
    SILENCED = "silenced"
    UNSILENCED = "unsilenced"
    RULE_CHANGED = "rule changed"
    RULE_REMOVED = "rule removed"


class DeliveryState(StrEnum):
    """State of a message to one channel."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"  # given up


class EventRow(NamedTuple):
    """An event.

    Attributes:
        number: its number, in order of time.
        at: time, in seconds since the epoch.
        key: the alert.
        kind: what happened.
        about: JSON values.
    """

    number: int
    at: float
    key: AlertKey
    kind: EventKind
    about: dict[str, Any]


class Message(NamedTuple):
    """A message to one channel.

    Attributes:
        number: its number, in order of time.
        key: idempotency key, the same in every try.
        channel: name of the channel.
        body: JSON values (:class:`..reports.documents.alerts.AlertMessage`).
        created: time of the change, in seconds since the epoch.
        due: time of the next try.
        tries: number of tries so far.
        state: whether it was delivered.
        error: reason of the latest failure, empty without one.
        ended: time of its delivery or of the last try, ``None`` before.
    """

    number: int
    key: str
    channel: str
    body: dict[str, Any]
    created: float
    due: float
    tries: int
    state: DeliveryState
    error: str
    ended: float | None


class Silence(NamedTuple):
    """Alerts of a rule that send no message up to a time.

    Attributes:
        number: its number.
        rule: name of the rule, empty for all.
        subject: endpoint or host, empty for all.
        until: its end, in seconds since the epoch.
        reason: a person's words.
    """

    number: int
    rule: str
    subject: str
    until: float
    reason: str

    def covers(self, key: AlertKey, now: float) -> bool:
        """Return whether an alert is silent at a time."""
        rule, subject = printable(self.rule), printable(self.subject)  # as a page shows them
        return (
            self.until > now
            and rule in ("", printable(key.rule))
            and subject in ("", printable(key.subject))
        )


def identity(*texts: str) -> str:
    """Return a hash of some texts."""
    return hashlib.sha256(_json(texts).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


_MESSAGE = (
    "SELECT id, identity, channel, body, created, due, tries, state, error, ended"
    " FROM knitperf_outbox"
)


class AlertStore:
    """The tables, through one connection.

    Args:
        connection: to a prepared database (:func:`..history.schema.prepare`).
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    # -- states and events ---------------------------------------------------------------------------

    def states(self) -> dict[AlertKey, State]:
        """Return the states of alerts that are not ok."""
        results = self.connection.execute("SELECT rule, subject, state FROM knitperf_alerts")
        return {
            AlertKey(json.loads(rule), json.loads(subject)): _state(state)
            for rule, subject, state in results
        }

    def set_states(self, states: Mapping[AlertKey, State]) -> None:
        """Store states; those that are ok are removed."""
        over = [(identity(*key),) for key, state in states.items() if state.phase is Phase.OK]
        kept = [
            (identity(*key), _json(key.rule), _json(key.subject), _json(state))
            for key, state in states.items() if state.phase is not Phase.OK
        ]  # fmt: skip
        if over:
            self.connection.change_many("DELETE FROM knitperf_alerts WHERE identity = ?", over)
        if kept:
            self.connection.change_many(
                "INSERT INTO knitperf_alerts (identity, rule, subject, state) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (identity) DO UPDATE SET state = excluded.state",
                kept,
            )

    def add_event(
        self, at: float, key: AlertKey, kind: EventKind, about: Mapping[str, Any]
    ) -> None:
        """Add an event."""
        self.connection.execute(
            "INSERT INTO knitperf_events (at, rule, subject, kind, about) VALUES (?, ?, ?, ?, ?)",
            (at, _json(key.rule), _json(key.subject), kind.value, _json(about)),
        )

    def events(self, since: float, until: float, limit: int = 1000) -> list[EventRow]:
        """Return the latest events of a window, oldest first."""
        results = self.connection.execute(
            "SELECT id, at, rule, subject, kind, about FROM knitperf_events WHERE at >= ? AND at < ?"
            " ORDER BY at DESC, id DESC LIMIT ?",
            (since, until, limit),
        )
        return [
            EventRow(number, at, AlertKey(json.loads(rule), json.loads(subject)), EventKind(kind),
                     json.loads(about))
            for number, at, rule, subject, kind, about in reversed(results)
        ]  # fmt: skip

    def sent(self, rule: str, since: float, until: float) -> int:
        """Return the number of messages of a rule about alerts that fire.

        Args:
            rule: its name.
            since: start of the time of the messages, in seconds since the epoch.
            until: its end.
        """
        results = self.connection.execute(
            "SELECT body FROM knitperf_outbox WHERE created > ? AND created <= ?", (since, until)
        )
        bodies = [json.loads(body) for (body,) in results]
        fires = (EventKind.FIRING.value, EventKind.REPEAT.value)
        return len({
            body["key"] for body in bodies
            if body["rule"] == printable(rule) and body["event"] in fires
        })  # fmt: skip

    # -- messages ------------------------------------------------------------------------------------

    def queue(
        self, key: str, channel: str, body: Mapping[str, Any], now: float, due: float
    ) -> None:
        """Add a message, unless it is there.

        Args:
            key: idempotency key.
            channel: name of the channel.
            body: JSON values.
            now: the present, in seconds since the epoch.
            due: time of the first try.
        """
        self.connection.execute(
            "INSERT INTO knitperf_outbox (identity, channel, body, created, due, tries, state, error)"
            " VALUES (?, ?, ?, ?, ?, 0, ?, '') ON CONFLICT (identity) DO NOTHING",
            (key, _json(channel), _json(body), now, due, DeliveryState.QUEUED.value),
        )

    def next_due(self) -> float | None:
        """Return the time of the next try of any message, ``None`` without one."""
        [[due]] = self.connection.execute(
            "SELECT min(due) FROM knitperf_outbox WHERE state = ?", (DeliveryState.QUEUED.value,)
        )
        return None if due is None else float(due)

    def due(self, now: float, limit: int, skipped: Collection[str] = ()) -> list[Message]:
        """Return messages that are due, in order of time.

        Args:
            now: the present, in seconds since the epoch.
            limit: their number at most.
            skipped: channels whose messages are left out.
        """
        others = " AND channel <> ?" * len(skipped)
        return self._messages(
            f" WHERE state = ? AND due <= ?{others} ORDER BY id LIMIT ?",
            (DeliveryState.QUEUED.value, now, *map(_json, skipped), limit),
        )

    def messages(self, limit: int) -> list[Message]:
        """Return the latest messages, the newest first."""
        return self._messages(" ORDER BY id DESC LIMIT ?", (limit,))

    def _messages(self, condition: str, values: tuple[Any, ...]) -> list[Message]:
        return [
            Message(number, key, json.loads(channel), json.loads(body), created, due, tries,
                    DeliveryState(state), error, ended)
            for number, key, channel, body, created, due, tries, state, error, ended
            in self.connection.execute(_MESSAGE + condition, values)
        ]  # fmt: skip

    def tried(
        self, message: Message, state: DeliveryState, error: str, due: float, now: float
    ) -> None:
        """Store the result of a try; a message that another process has delivered stays so."""
        ended = None if state is DeliveryState.QUEUED else now
        self.connection.execute(
            "UPDATE knitperf_outbox SET tries = tries + 1, state = ?, error = ?, due = ?, ended = ?"
            " WHERE id = ? AND state <> ?",
            (state.value, error, due, ended, message.number, DeliveryState.SENT.value),
        )

    # -- silences and rules --------------------------------------------------------------------------

    def silence(self, key: AlertKey, until: float, reason: str, now: float) -> None:
        """Silence alerts of a rule, or one alert; an empty subject or rule stands for all."""
        self.connection.execute(
            "INSERT INTO knitperf_silences (rule, subject, until, reason) VALUES (?, ?, ?, ?)",
            (_json(key.rule), _json(key.subject), until, _json(reason)),
        )
        self.add_event(now, key, EventKind.SILENCED, {"until": until, "reason": reason})

    def silences(self, now: float) -> list[Silence]:
        """Return the silences that have not ended."""
        results = self.connection.execute(
            "SELECT id, rule, subject, until, reason FROM knitperf_silences WHERE until > ?"
            " ORDER BY id",
            (now,),
        )
        return [
            Silence(number, json.loads(rule), json.loads(subject), until, json.loads(reason))
            for number, rule, subject, until, reason in results
        ]

    def end_silence(self, number: int, now: float) -> bool:
        """End a silence; return whether there was one."""
        for silence in self.silences(now):
            if silence.number == number:
                self.connection.execute(
                    "UPDATE knitperf_silences SET until = ? WHERE id = ?", (now, number)
                )
                key = AlertKey(silence.rule, silence.subject)
                self.add_event(now, key, EventKind.UNSILENCED, {"number": number})
                return True
        return False

    def rules(self) -> list[dict[str, Any]]:
        """Return the plain values of the rules that were written on the page, by name."""
        results = self.connection.execute("SELECT name, data FROM knitperf_rules")
        values = {json.loads(name): json.loads(data) for name, data in results}
        return [values[name] for name in sorted(values)]

    def set_rule(self, values: Mapping[str, Any], now: float) -> None:
        """Store the plain values of a rule by its name; see :func:`.rules.rule_of`."""
        name = values["name"]
        self.connection.execute(
            "INSERT INTO knitperf_rules (identity, name, data) VALUES (?, ?, ?)"
            " ON CONFLICT (identity) DO UPDATE SET data = excluded.data",
            (identity(name), _json(name), _json(dict(values))),
        )
        self.add_event(now, AlertKey(name, ""), EventKind.RULE_CHANGED, values)

    def remove_rule(self, name: str, now: float) -> bool:
        """Remove a rule that was written on the page; return whether there was one."""
        there = self.connection.change(
            "DELETE FROM knitperf_rules WHERE identity = ?", (identity(name),)
        )
        if there:
            self.add_event(now, AlertKey(name, ""), EventKind.RULE_REMOVED, {})
        return bool(there)

    # -- retention -----------------------------------------------------------------------------------

    def trim(self, now: float) -> None:
        """Delete some old events, messages and silences."""
        for table, condition, before in (
            ("knitperf_events", "at < ?", now - EVENTS_KEPT_S),
            ("knitperf_outbox", "ended < ?", now - MESSAGES_KEPT_S),
            ("knitperf_silences", "until < ?", now - MESSAGES_KEPT_S),
        ):
            self.connection.execute(
                f"DELETE FROM {table} WHERE id IN"  # noqa: S608
                f" (SELECT id FROM {table} WHERE {condition} ORDER BY id LIMIT {_TRIMMED})",
                (before,),
            )


def _state(text: str) -> State:
    phase, *rest = json.loads(text)
    return State(Phase(phase), *rest)
