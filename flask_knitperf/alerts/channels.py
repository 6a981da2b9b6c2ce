"""Channels: where messages of alerts are sent to.

A channel either returns, and the message was received, or raises :class:`DeliveryError`, and it is sent
again later with the same key. None retries by itself, follows a redirect, or waits for longer than
:data:`TIMEOUT_S` for a reply.

A webhook is signed as Stripe and Slack do it: ``HMAC-SHA256(secret, "{timestamp}.{body}")``, so that a
receiver can refuse a forged message, and an old one that is sent again.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import smtplib
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.errors import ConfigurationError, KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from ..reports.documents.alerts import AlertMessage
from .messages import body, title
from .quiet_hours import QuietHours

log = logging.getLogger("flask_knitperf.alerts")

TIMEOUT_S = 5.0
APPRISE_TIMEOUT_S = 30.0
_MAX_REASON = 200  # characters of a reason
_HOURS = "must be hours such as 22:00-06:00"
_LEVELS = {"CRITICAL": logging.CRITICAL, "WARNING": logging.WARNING, "INFO": logging.INFO}


class DeliveryError(KnitPerfError):
    """A channel has not received a message."""


class Channel(ABC):
    """A place that messages are sent to."""

    @abstractmethod
    def send(self, message: AlertMessage) -> None:
        """Send a message.

        Raises:
            DeliveryError: it was not received, as far as is known.
        """


class LogChannel(Channel):
    """Writes messages to the logger ``flask_knitperf.alerts``."""

    def send(self, message: AlertMessage) -> None:
        """Write a message, at the level of its severity."""
        level = _LEVELS[message["severity"]] if message["event"] != "resolved" else logging.INFO
        log.log(level, "%s: %s", title(message), message["text"])


class WebhookChannel(Channel):
    """Posts messages as JSON.

    Args:
        url: its address.
        secret: key of the signature, ``None`` for none.
        as_text: whether to send ``{"text": …}`` alone, as Slack, Mattermost and Teams take it.
        now: the present, in seconds since the epoch.
    """

    def __init__(
        self, url: str, secret: str | None = None, *, as_text: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._url, self._secret, self._as_text, self._now = urlsplit(url), secret, as_text, now

    def send(self, message: AlertMessage) -> None:
        """Post a message; any status of 200 to 299 means that it was received."""
        content: Any = message
        if self._as_text:
            content = {"text": f"{title(message)}\n{body(message)}"}
        data = json.dumps(content).encode()
        headers = {
            "Content-Type": "application/json", "User-Agent": "flask-knitperf",
            "Idempotency-Key": message["key"], **self._signature(data),
        }  # fmt: skip
        url = self._url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        try:
            connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_S)
            try:
                connection.request("POST", target, data, headers)
                status = connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise_if_of_host(error)
            raise DeliveryError(_reason(error)) from error
        if not 200 <= status < 300:
            raise DeliveryError(f"it answered {status}")

    def _signature(self, data: bytes) -> dict[str, str]:
        if self._secret is None:
            return {}
        at = str(int(self._now()))
        signature = hmac.new(self._secret.encode(), f"{at}.".encode() + data, hashlib.sha256)
        return {
            "X-Knitperf-Timestamp": at,
            "X-Knitperf-Signature": f"sha256={signature.hexdigest()}",
        }


class MailChannel(Channel):
    """Sends messages by SMTP.

    Args:
        host: of the server.
        port: of the server.
        sender: address of the sender.
        recipients: addresses.
        username: to sign in with, ``None`` for none.
        password: to sign in with.
        tls: ``starttls``, ``tls``, or ``none``.
    """

    def __init__(
        self, host: str, port: int, sender: str, recipients: tuple[str, ...],
        username: str | None = None, password: str | None = None, tls: str = "starttls",
    ) -> None:  # fmt: skip
        self._host, self._port, self._sender, self._recipients = host, port, sender, recipients
        self._username, self._password, self._tls = username, password, tls

    def send(self, message: AlertMessage) -> None:
        """Send a message. All tries have one Message-ID, so that mail programs show one of them."""
        mail = EmailMessage()
        mail["Subject"] = title(message).replace("\r", " ").replace("\n", " ")
        mail["From"], mail["To"] = self._sender, ", ".join(self._recipients)
        mail["Date"] = formatdate(localtime=True)
        mail["Message-ID"] = f"<{message['key']}@flask-knitperf>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(body(message))
        try:
            with self._connect() as server:
                if self._tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self._username is not None:
                    server.login(self._username, self._password or "")
                server.send_message(mail, self._sender, list(self._recipients))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise_if_of_host(error)
            raise DeliveryError(_reason(error)) from error

    def _connect(self) -> smtplib.SMTP:
        if self._tls == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=context)
        return smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)


class AppriseChannel(Channel):
    """Sends messages by Apprise, in a child process: its import takes 44 MB, and its calls block.

    Args:
        urls: addresses of Apprise.
    """

    def __init__(self, urls: tuple[str, ...]) -> None:
        self._urls = urls

    def send(self, message: AlertMessage) -> None:
        """Send a message to all addresses."""
        request = {"urls": self._urls, "title": title(message), "body": body(message)}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "flask_knitperf.alerts.apprise_child"],
                input=json.dumps(request).encode(), capture_output=True, check=False,
                timeout=APPRISE_TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise_if_of_host(error)
            raise DeliveryError(_reason(error)) from error
        if done.returncode:
            raise DeliveryError(done.stderr.decode(errors="replace").strip()[-_MAX_REASON:])


def _reason(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())[:_MAX_REASON]
    return text or type(error).__name__


# -- from settings ---------------------------------------------------------------------------------


class _Values:
    """Values of one channel; each is taken once, so that the rest are unknown."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name, self._rest = name, dict(values)
        self._known: list[str] = []

    def refuse(self, key: str, value: Any, allowed: str) -> ConfigurationError:
        hidden = "…" if key in ("secret", "password", "url", "urls") else value
        return ConfigurationError(f"{self.name}[{key!r}]", hidden, allowed)

    def take(
        self, key: str, kind: type | tuple[type, ...], allowed: str, default: Any = ...
    ) -> Any:
        self._known.append(key)
        value = self._rest.pop(key, default)
        if value is ... or (value != default and not isinstance(value, kind)):
            raise self.refuse(key, None if value is ... else value, allowed)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.take(key, (list, tuple), "must be a list of texts")
        if not value or not all(isinstance(one, str) and one for one in value):
            raise self.refuse(key, value, "must be a list of texts")
        return tuple(value)

    def end(self) -> None:
        for key, value in self._rest.items():
            raise self.refuse(key, value, f"keys are {', '.join(self._known)}")


class Receiver(NamedTuple):
    """A channel with a name.

    Attributes:
        name: its name.
        channel: the channel.
        quiet: hours in which nothing is sent to it, ``None`` without any.
    """

    name: str
    channel: Channel
    quiet: QuietHours | None


def receivers_of(values: Mapping[str, Mapping[str, Any]]) -> list[Receiver]:
    """Return receivers from plain values, such as those of ``KNITPERF_ALERT_CHANNELS``.

    Args:
        values: by name, each with ``kind``, and further ones by kind; ``docs/alerts.md`` lists them.

    Raises:
        ConfigurationError: a value is missing, unknown or wrong.
    """
    return [_receiver(name, one) for name, one in values.items()]


def _receiver(name: str, values: Mapping[str, Any]) -> Receiver:
    reader = _Values(f"KNITPERF_ALERT_CHANNELS[{name!r}]", values)
    kind = reader.take("kind", str, f"must be one of {', '.join(_KINDS)}")
    if kind not in _KINDS:
        raise reader.refuse("kind", kind, f"must be one of {', '.join(_KINDS)}")
    hours = reader.take("quiet_hours", str, _HOURS, None)
    try:
        quiet = None if hours is None else QuietHours.of(hours)
    except ValueError:
        raise reader.refuse("quiet_hours", hours, _HOURS) from None
    channel = _KINDS[kind](reader)
    reader.end()
    return Receiver(name, channel, quiet)


def _log(_: _Values) -> Channel:
    return LogChannel()


def _webhook(values: _Values) -> Channel:
    url = values.take("url", str, "must be an address that starts with https:// or http://")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise values.refuse("url", url, "must be an address that starts with https:// or http://")
    secret = values.take("secret", str, "must be a text", None)
    as_text = values.take("as_text", bool, "must be True or False", False)
    return WebhookChannel(url, secret, as_text=as_text)


def _mail(values: _Values) -> Channel:
    host = values.take("host", str, "must be the name of an SMTP server")
    tls = values.take("tls", str, "must be starttls, tls or none", "starttls")
    if tls not in ("starttls", "tls", "none"):
        raise values.refuse("tls", tls, "must be starttls, tls or none")
    port = values.take("port", int, "must be a number", 465 if tls == "tls" else 587)
    sender = values.take("from", str, "must be an address")
    recipients = values.texts("to")
    username = values.take("username", str, "must be a text", None)
    password = values.take("password", str, "must be a text", None)
    return MailChannel(host, port, sender, recipients, username, password, tls)


def _apprise(values: _Values) -> Channel:
    return AppriseChannel(values.texts("urls"))


_KINDS: dict[str, Callable[[_Values], Channel]] = {
    "log": _log, "webhook": _webhook, "mail": _mail, "apprise": _apprise,
}  # fmt: skip
