"""Alerts as text for a terminal, and words that the page shares."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from ..core import units
from ..core.units import NBSP, count, plain
from .wording import SEVERITIES

if TYPE_CHECKING:
    from ..reports.documents import AlertsReport
    from ..reports.documents.alerts import DeliveryRow, FiringRow

Dated = tuple[str, str | None]
"""Words, and the ISO 8601 moment that follows them, if one does."""
DELIVERIES = {"queued": "waits", "sent": "sent", "failed": "given up"}
_WIDTH = 76


def alerts(document: AlertsReport) -> str:
    """Return the alerts that fire, the rules, and the silences, in lines of at most 80 columns."""
    lines = ["ALERTS", ""]
    lines += [line for row in document["firing"] for line in _firing(row)]
    if not document["firing"]:
        lines += ["  Nothing fires.", ""]
    lines += [f"  {'rule':<32}{'fired':>6}   to"]
    for rule in document["rules"]:
        channels = ", ".join(rule["channels"]) or "all channels"
        lines.append(f"  {rule['name'][:31]:<32}{rule['fired']:>6}   {channels[:34]}")
    lines += ["", *(_silence(**row) for row in document["silences"])]
    lines += [
        f"  {in_text(evaluated(document))}.",
        f"  Channels: {', '.join(document['channels']) or 'none'}.",
    ]
    return plain("\n".join(lines) + "\n")


def _firing(row: FiringRow) -> list[str]:
    subject = f": {row['subject']}" if row["subject"] else ""
    notes = [note for note in (in_text(state(row)), f"since {short(row['since'])}") if note]
    return [
        f"  {SEVERITIES[row['severity']]}: {row['rule']}{subject}"[:_WIDTH],
        f"    {row['text']}"[:_WIDTH], f"    {'; '.join(notes)}", "",
    ]  # fmt: skip


def state(row: FiringRow) -> Dated:
    """Return the condition of an alert that fires where it is unusual, else an empty text."""
    if row["silent_until"]:
        return "silent until", row["silent_until"]
    if not row["has_data"]:
        return "no data now", None
    return "good again, not for long enough yet" if row["is_clear"] else "", None


def _silence(number: int, rule: str, subject: str, until: str, reason: str) -> str:
    about = " ".join(part for part in (rule or "all rules", subject) if part)
    because = f": {reason}" if reason else ""
    return f"  Silence {number}: {about} until {short(until)}{because}"[:_WIDTH]


def evaluated(document: AlertsReport) -> Dated:
    """Return when rules were evaluated last."""
    at = document["evaluated_at"]
    return "Not evaluated yet" if at is None else "Evaluated at", at


def in_text(words: Dated) -> str:
    """Return words and the moment that follows them as text."""
    text, at = words
    return f"{text} {short(at)}" if at else text


def short(moment: str) -> str:
    """Return a time as date and minute in UTC."""
    return datetime.fromisoformat(moment).strftime(f"%Y-%m-%d{NBSP}%H:%M")


def delivery(row: DeliveryRow) -> Dated:
    """Return the result of a delivery in words."""
    if row["state"] == "queued" and not row["error"]:
        return "waits until" if row["next_try"] else "waits", row["next_try"]
    if row["state"] == "queued":
        return "failed, next try", row["next_try"] or row["at"]
    tries = f" at try {row['tries']}" if row["tries"] > 1 else ""
    return DELIVERIES[row["state"]] + tries, None


def backtest(
    name: str, condition: str, since: str, fired: Iterable[tuple[str, float, str, str]]
) -> str:
    """Return the result of a backtest in lines of at most 80 columns.

    Args:
        name: of the rule.
        condition: the rule in words.
        since: start of the time that was tested.
        fired: start, minutes, subject and observation of each alert; minutes below 0: still fires.
    """
    rows = list(fired)
    lines = [name.upper(), "", *_wrapped(condition), ""]
    times = "never" if not rows else "once" if len(rows) == 1 else f"{len(rows)} times"
    lines += [f"  Since {short(since)} it would have fired {times}.", ""]
    for begins, minutes, subject, text in rows:
        length = "still firing" if minutes < 0 else units.span(max(1, round(minutes)) * 60)
        lines += [f"  {short(begins)}  {length:<14}{subject}"[:_WIDTH], f"    {text}"[:_WIDTH]]
    return plain("\n".join(lines).rstrip() + "\n")


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def silenced(rule: str, subject: str, seconds: float) -> str:
    """Return the answer to a silence."""
    about = " ".join(part for part in (rule or "All rules", subject) if part)
    return plain(f"{about}: silent for {units.span(round(seconds))}. Alerts are still recorded.")


def tested(results: Iterable[tuple[str, str]]) -> str:
    """Return the results of test messages by channel; an empty error stands for success."""
    rows = list(results)
    lines = [f"  {name:<16}{error or 'sent'}"[:_WIDTH] for name, error in rows]
    failed = sum(1 for _, error in rows if error)
    end = f"{count(failed, 'channel')} failed." if failed else "All channels took it."
    return plain("\n".join([*lines, "", f"  {end}"]) + "\n")
