"""Evaluates the rules of one history every ten seconds, in one process of all that write to it.

That process holds a lease. In one transaction, which first checks the lease, it stores the states, the
events, and one message for each channel: a change is in the outbox exactly once, whatever happens to the
process. What fails before that is evaluated again from the states of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import HistoryError
from ..core.host_exceptions import SuppressOwn
from ..history.databases import Connection
from ..history.lease import Lease, LeaseLostError, drop, take
from ..history.resolutions import DAY, FINEST, HOUR, HOURS, MINUTES, Stretch, stretches
from ..history.store import Store
from ..history.writer import DEPLOY
from .alert_store import AlertStore, EventKind, Silence, identity
from .evaluator import AlertKey, Change, Evaluator
from .messages import Context, message, observation
from .observations import Observer, Threshold
from .rules import Rule
from .states import Event, State

if TYPE_CHECKING:
    from .channels import Receiver

LEASE = "alerts"
LEASE_S = 45.0
_LATE_S = 30
"""Time for which rows of another host may arrive after those of this one."""
_MAX_GAP_S = 600
"""Time without an evaluation after which all windows are read again."""
_FINE_S = HOUR // 2
"""Time up to which the first evaluation reads slots of ten seconds, as later ones do.

Events at once are those of one such slot; and a minute that later rows replace in part loses the rest.
"""
EXPIRE_S = 7 * DAY
"""Time without data after which an alert is dropped: its endpoint, or its host, is gone."""
MAX_IN_BURST = 5
"""Alerts of one rule that send a message within :data:`BURST_S`; the rest are on the page alone.

The same holds for those that still fire, as at the end of a silence. That one is over is always sent.
"""
BURST_S = 600.0
_TRIM_EVERY = 60  # evaluations


class Application(NamedTuple):
    """Facts about the application.

    Attributes:
        name: its name.
        url: public address of the dashboard, ``None`` where unknown.
        threshold: returns the threshold of an endpoint in milliseconds.
        finding: returns the most severe finding on a subject in words, ``None`` without one.
    """

    name: str
    url: str | None
    threshold: Threshold
    finding: Callable[[str], str | None]


class AlertWatch:
    """Evaluates rules.

    Args:
        holder: identity of this process.
        rules: returns the rules, given those of the page.
        receivers: where messages are sent to.
        application: facts about the application.

    Attributes:
        leads: whether this process evaluated last.
    """

    def __init__(
        self, holder: str, rules: Callable[[AlertStore], Sequence[Rule]],
        receivers: Sequence[Receiver], application: Application,
    ) -> None:  # fmt: skip
        self._holder, self._rules, self._receivers = holder, rules, receivers
        self._application = application
        self._store: Store | None = None
        self._lease: Lease | None = None
        self._evaluator = Evaluator((), {})
        self._observer = Observer((), application.threshold)
        self._current: Sequence[Rule] | None = None
        self._until = self._hours_until = 0
        self._evaluations = 0
        self.leads = False

    def tick(self, connection: Connection, now: float) -> bool:
        """Evaluate what was written since the last time; return whether a message waits.

        Args:
            connection: to a prepared database.
            now: the present, in seconds since the epoch.

        Raises:
            HistoryError: the database cannot be used.
        """
        lease = take(connection, LEASE, self._holder, LEASE_S)
        if lease is None or lease != self._lease:
            self._forget()
        self._lease, self.leads = lease, lease is not None
        if lease is None:
            return False
        if self._store is None or self._store.connection is not connection:
            self._store = Store(connection)
            self._current = None
        try:
            self._evaluate(self._store, lease, now)
        except LeaseLostError:  # this process was suspended meanwhile
            self._forget()
            self._lease, self.leads = None, False
            return False
        except BaseException:
            self._forget()
            self._lease = None
            with SuppressOwn(HistoryError):
                drop(connection, lease)  # another process may be able to
            raise
        due = AlertStore(connection).next_due()
        return due is not None and due <= now

    def close(self, connection: Connection) -> None:
        """Let another process evaluate at once."""
        if self._lease is not None:
            drop(connection, self._lease)
            self._lease = None
        self._forget()

    def _forget(self) -> None:
        """Forget what another process may have changed."""
        self._store, self._current, self.leads = None, None, False

    # -- reading -------------------------------------------------------------------------------------

    def _evaluate(self, store: Store, lease: Lease, now: float) -> None:
        alerts = AlertStore(store.connection)
        rules, silences = self._rules(alerts), alerts.silences(now)
        with store.connection.reading():
            until = self._read(store, alerts, rules, now)
            if until is None:
                return
            values = self._observer.values(store, now)
        changes = self._evaluator.evaluate(now, until, values)
        senders = self._senders(alerts, changes, silences, now) if changes else {}
        context = self._context(store, senders, now) if senders else {}
        with store.connection.transaction():
            lease.check(store.connection)
            expired = self._expire(alerts, now)
            for change in changes:
                if change.key not in expired:
                    some = context.get(change.key.subject) if change.key in senders else None
                    self._publish(alerts, change, some, silences)
            alerts.set_states(self._evaluator.states)
        self._evaluator.forget_ok()
        self._evaluations += 1
        if self._evaluations % _TRIM_EVERY == 1:
            self._drop_removed(alerts, lease, now)
            alerts.trim(now)

    def _read(
        self, store: Store, alerts: AlertStore, rules: Sequence[Rule], now: float
    ) -> int | None:
        """Read new slots; return the time up to which they are complete, ``None`` without any."""
        complete = store.complete()
        if FINEST.seconds not in complete:
            return None
        until = FINEST.slot(min(now, complete[FINEST.seconds]))  # the clock may be set back
        hours = HOURS.slot(min(until, complete[HOURS.seconds]))  # another clock may be ahead
        if rules != self._current or not 0 <= until - self._until <= _MAX_GAP_S:
            self._current = rules
            self._evaluator = Evaluator(rules, alerts.states())
            self._observer = Observer(rules, self._application.threshold)
            begins = until - self._evaluator.window_s
            recent = max(begins, until - _FINE_S)
            chosen = [*stretches(begins, recent, now, complete, MINUTES),
                      Stretch(FINEST, recent, until)]  # fmt: skip
            days = [Stretch(HOURS, HOURS.slot(until - DAY - HOUR), hours)]
        else:
            late = _LATE_S if _writers(store, now) > 1 else FINEST.seconds
            chosen = [Stretch(FINEST, self._until - late, until)]
            days = [Stretch(HOURS, self._hours_until, hours)]
        for slot in self._observer.slots(store, chosen):
            self._evaluator.add(slot)
        for slot in self._observer.slots(store, [one for one in days if one.begins < one.ends]):
            self._evaluator.add_hour(slot)
        self._until, self._hours_until = until, hours
        return until

    # -- writing -------------------------------------------------------------------------------------

    def _senders(
        self, alerts: AlertStore, changes: Iterable[Change], silences: Sequence[Silence], now: float
    ) -> Mapping[AlertKey, Change]:
        """Return the changes that send a message: of one rule few within a while, and news first."""
        senders: dict[AlertKey, Change] = {}
        room: dict[str, int] = {}
        for change in sorted(changes, key=_is_old_news):
            key = change.key
            if any(silence.covers(key, change.at) for silence in silences):
                continue
            if change.event is Event.RESOLVED:
                if change.state.is_informed:
                    senders[key] = change
                continue
            if key.rule not in room:
                room[key.rule] = MAX_IN_BURST - alerts.sent(key.rule, now - BURST_S, now)
            if room[key.rule] > 0:
                room[key.rule] -= 1
                senders[key] = change
        return senders

    def _context(self, store: Store, keys: Iterable[AlertKey], now: float) -> Mapping[str, Context]:
        """Return facts by subject."""
        deploys = [mark for mark in store.marks(now - DAY, now) if mark.kind == DEPLOY]
        release = deploys[-1].about.get("release") if deploys else None
        return {
            subject: Context(
                self._application.name, release, deploys[-1].at if deploys else None,
                self._application.finding(subject), self._application.url,
            )
            for subject in {key.subject for key in keys}
        }  # fmt: skip

    def _publish(
        self, alerts: AlertStore, change: Change, context: Context | None,
        silences: Sequence[Silence],
    ) -> None:  # fmt: skip
        """Store the event of a change, and its messages; without a context it sends none."""
        key, event, state = change.key, change.event, change.state
        rule = self._evaluator.rules[key.rule]
        is_silent = any(silence.covers(key, change.at) for silence in silences)
        sends = context is not None
        if is_silent and event is not Event.RESOLVED:
            self._evaluator.states[key] = state._replace(informed_at=0.0)
        elif event is not Event.RESOLVED:
            self._evaluator.states[key] = state._replace(is_informed=state.is_informed or sends)
        if event is not Event.REPEAT:
            text = observation(rule, change.judged.observed, change.judged.events)
            about = {"text": text, "sent": sends, "since": change.fired_at}
            alerts.add_event(change.at, key, EventKind(event.value), about)
        if context is None:
            return
        body = message(rule, change, change.fired_at, context)
        for name, _, quiet in self._receivers:
            if not rule.channels or name in rule.channels:
                due = change.at if quiet is None else quiet.end_after(change.at)
                alerts.queue(identity(body["key"], name), name, body, change.at, due)

    def _expire(self, alerts: AlertStore, now: float) -> set[AlertKey]:
        """Drop alerts that have had no data for long; return them."""
        expired = {
            key: state.fired_at for key, state in self._evaluator.states.items()
            if state.is_firing and now - state.data_at > EXPIRE_S
        }  # fmt: skip
        for key in self._evaluator.misfits:
            self._evaluator.states[key] = State()
            alerts.add_event(now, key, EventKind.EXPIRED, {"text": "its rule was changed"})
        self._evaluator.misfits.clear()
        for key, since in expired.items():
            self._evaluator.states[key] = State()
            about = {"text": "no data for a week", "since": since}
            alerts.add_event(now, key, EventKind.EXPIRED, about)
        return set(expired)

    def _drop_removed(self, alerts: AlertStore, lease: Lease, now: float) -> None:
        """Drop alerts of rules that no process has had for long."""
        old = [
            key for key, state in alerts.states().items()
            if key.rule not in self._evaluator.rules and now - state.evaluated_at > EXPIRE_S
        ]  # fmt: skip
        if old:
            with alerts.connection.transaction():
                lease.check(alerts.connection)
                alerts.set_states(dict.fromkeys(old, State()))
                for key in old:
                    alerts.add_event(now, key, EventKind.EXPIRED, {"text": "its rule was removed"})


def _is_old_news(change: Change) -> tuple[bool, bool]:
    return change.event is Event.REPEAT, change.state.is_informed


def _writers(store: Store, now: float) -> int:
    """Return the number of hosts that have written within a while."""
    [[number]] = store.connection.execute(
        "SELECT count(DISTINCT source) FROM knitperf_baselines WHERE at > ?", (now - _MAX_GAP_S,)
    )
    return int(number)
