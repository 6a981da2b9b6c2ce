"""Moments on a page: sent in UTC, and shown in the zone of the viewer once the script has read them."""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup

from ..core.units import NBSP, NONE
from . import wording
from .alerts_text import Dated, short

_TIME = Markup('<time datetime="{}" data-time="{}" data-form="{}"{}>{}</time>')
_ZONE = Markup('{}<span data-zone="{}">UTC</span>')
_SINCE = Markup(' data-since="{}"')
_NOTHING = Markup()


def moment(text: str | None) -> Markup:
    """Return an ISO 8601 moment as :func:`.wording.moment`."""
    if not text:
        return Markup("{}").format(NONE)
    return _time(text, "moment", wording.moment(text)) + _ZONE.format(NBSP, _epoch(text))


def minute(text: str) -> Markup:
    """Return an ISO 8601 moment as date and minute, for a page that names the zone once."""
    return _time(text, "minute", short(text))


def period(begin: str, end: str) -> Markup:
    """Return two ISO 8601 moments as :func:`.wording.period`."""
    first, last = wording.period(begin, end).split(" – ")
    until = _time(end, "until", last, _SINCE.format(_epoch(begin)))
    zone = _ZONE.format(NBSP, f"{_epoch(begin)} {_epoch(end)}")
    return Markup("{} – {}{}").format(_time(begin, "moment", first), until, zone)


def dated(words: Dated) -> Markup:
    """Return words and the moment that follows them."""
    text, at = words
    return Markup("{} {}").format(text, minute(at)) if at else Markup("{}").format(text)


def _time(at: str, form: str, text: str, attributes: Markup = _NOTHING) -> Markup:
    """Return a moment as an element.

    Args:
        at: in ISO 8601.
        form: name of its form in the script.
        text: the moment in UTC, in that form.
        attributes: further ones.
    """
    return _TIME.format(at, _epoch(at), form, attributes, text.removesuffix(f"{NBSP}UTC"))


def _epoch(text: str) -> int:
    """Return an ISO 8601 moment in whole seconds since the epoch."""
    return int(datetime.fromisoformat(text).timestamp())
