"""Channels: where messages of alerts are sent to.

A channel either returns, and the message was received, or raises :class:`DeliveryError`, and it is sent
again later with the same key. None retries by itself, follows a redirect, waits for longer than
:data:`TIMEOUT_S` for a reply, or for longer than :data:`TOTAL_S` for one that never ends. Reasons of
errors are shown on a page: they have no part of a secret.

A webhook is signed as Stripe and Slack do it: ``HMAC-SHA256(secret, "{timestamp}.{body}")``, so that a
receiver can refuse a forged message, and an old one that is sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import html
import http.client
import json
import logging
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.errors import ConfigurationError, KnitPerfError
from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.printable import printable, printable_lines
from ..reports.documents.alerts import AlertMessage
from .apprise_child import RESULT, SENT
from .messages import body, title
from .quiet_hours import QuietHours

log = logging.getLogger("flask_knitperf.alerts")

TIMEOUT_S = 5.0
TOTAL_S = 30.0
"""Time that one try takes at most once it is connected, however slowly a receiver sends its reply."""
APPRISE_TIMEOUT_S = 30.0
MAX_REASON = 200  # characters of a reason
_MAX_SUBJECT = 500  # characters; servers refuse mails with large headers
_HOURS = "must be hours such as 22:00-06:00"
_ADDRESS = "must be an address that starts with https:// or http://"
_PORT = "must be a number from 1 to 65535"
_ASCII = "must be a text of ASCII characters"
_SHOWN = ("kind", "quiet_hours", "as_text", "host", "port", "from", "to", "username", "tls")
"""Keys whose values errors show."""
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
        log.log(level, "%s: %s", title(message), " ".join(body(message).splitlines()))


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
            text = f"{title(message)}\n{body(message)}"
            content = {"text": html.escape(text, quote=False)}  # Slack: <!channel> is a command
        data = json.dumps(content).encode()
        headers = {
            "Content-Type": "application/json", "User-Agent": "flask-knitperf",
            "Idempotency-Key": message["key"], **self._signature(data),
        }  # fmt: skip
        url = self._url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        try:
            port = url.port or kind.default_port  # without one, it is read from an IPv6 address
            connection = kind(url.hostname or "", port, timeout=TIMEOUT_S)
            try:
                with _deadline(lambda: connection.sock):
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
        try:
            mail = self._mail(message)
            server = self._server()
            try:
                with _deadline(lambda: server.sock):
                    self._deliver(server, mail)
            finally:
                server.close()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise_if_of_host(error)
            raise DeliveryError(_reason(error)) from error

    def _mail(self, message: AlertMessage) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = printable(title(message))[:_MAX_SUBJECT]
        mail["From"], mail["To"] = self._sender, ", ".join(self._recipients)
        mail["Date"] = formatdate(localtime=True)
        mail["Message-ID"] = f"<{message['key']}@flask-knitperf>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(printable_lines(body(message)))
        return mail

    def _server(self) -> smtplib.SMTP:
        """Return a server that is not connected yet, so that its greeting has a deadline too."""
        server: smtplib.SMTP
        if self._tls == "tls":
            server = smtplib.SMTP_SSL(timeout=TIMEOUT_S, context=ssl.create_default_context())
        else:
            server = smtplib.SMTP(timeout=TIMEOUT_S)
        server._host = self._host  # type: ignore[attr-defined]  # of its certificate
        return server

    def _deliver(self, server: smtplib.SMTP, mail: EmailMessage) -> None:
        code, reply = server.connect(self._host, self._port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        if self._tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if self._username is not None:
            server.login(self._username, self._password or "")
        refused = server.send_message(mail, self._sender, list(self._recipients))
        if refused:  # sending it again would send it to the others again
            log.warning("the mail server refused a recipient: %s", _text(repr(refused)))
        with SuppressOwn(OSError, smtplib.SMTPException):  # the server has received it
            server.quit()


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
        _, is_result, result = done.stdout.decode(errors="replace").rpartition(RESULT)
        if not is_result:
            raise DeliveryError(f"the process of Apprise ended with code {done.returncode}")
        if result.strip() != SENT:  # the exit code is 0 where the host ignores SIGCHLD
            raise DeliveryError(_text(result))


@contextlib.contextmanager
def _deadline(current: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Shut a connection down after :data:`TOTAL_S`: its own timeout begins again with each byte.

    Args:
        current: returns its socket, ``None`` without one.
    """
    done = threading.Event()

    def shut() -> None:
        seconds = TOTAL_S
        while not done.wait(seconds):
            seconds, one = 0.1, current()
            if one is not None:
                with SuppressOwn(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=shut, name="flask_knitperf deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reason(error: BaseException) -> str:
    """Return an error in one line, without a part of an address or a password."""
    if isinstance(error, smtplib.SMTPAuthenticationError):  # a server may repeat the command
        return f"it refused to sign in, with code {error.smtp_code}"
    is_about_value = isinstance(error, ValueError) and not isinstance(error, OSError)
    if is_about_value or isinstance(error, http.client.InvalidURL):
        return type(error).__name__
    return _text(str(error)) or type(error).__name__


def _text(text: str) -> str:
    """Return a text in one short line that each database stores."""
    return printable(" ".join(text.split()))[:MAX_REASON]


# -- from settings ---------------------------------------------------------------------------------


class _Values:
    """Values of one channel; each is taken once, so that the rest are unknown."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name, self._rest = name, dict(values)
        self._known: list[str] = []

    def refuse(self, key: str, value: Any, allowed: str) -> ConfigurationError:
        is_shown = key in _SHOWN  # another one is a secret, or a secret whose key is misspelled
        return ConfigurationError(f"{self.name}[{key!r}]", value if is_shown else "…", allowed)

    def take(
        self, key: str, kind: type | tuple[type, ...], allowed: str, default: Any = ...
    ) -> Any:
        self._known.append(key)
        value = self._rest.pop(key, default)
        if value is ... or (value != default and not isinstance(value, kind)):
            raise self.refuse(key, None if value is ... else value, allowed)
        return value

    def text(self, key: str, allowed: str, default: Any = ...) -> Any:
        value = self.take(key, str, allowed, default)
        if value is not None and not _is_text(value):
            raise self.refuse(key, value, allowed)
        return value

    def texts(self, key: str, allowed: str, is_right: Callable[[str], bool]) -> tuple[str, ...]:
        value = self.take(key, (list, tuple), allowed)
        if not value or not all(isinstance(one, str) and is_right(one) for one in value):
            raise self.refuse(key, value, allowed)
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
    url = values.text("url", _ADDRESS)
    if not _is_address_of_web(url):
        raise values.refuse("url", url, _ADDRESS)
    secret = values.text("secret", "must be a printable text", None)
    as_text = values.take("as_text", bool, "must be True or False", False)
    return WebhookChannel(url, secret, as_text=as_text)


def _mail(values: _Values) -> Channel:
    host = values.text("host", "must be the name of an SMTP server")
    tls = values.take("tls", str, "must be starttls, tls or none", "starttls")
    if tls not in ("starttls", "tls", "none"):
        raise values.refuse("tls", tls, "must be starttls, tls or none")
    port = values.take("port", int, _PORT, 465 if tls == "tls" else 587)
    if isinstance(port, bool) or not 1 <= port <= 65_535:
        raise values.refuse("port", port, _PORT)
    sender = values.text("from", "must be an address")
    if not _is_address_of_mail(sender):
        raise values.refuse("from", sender, "must be an address")
    recipients = values.texts("to", "must be a list of addresses", _is_address_of_mail)
    username, password = _ascii(values, "username"), _ascii(values, "password")
    return MailChannel(host, port, sender, recipients, username, password, tls)


def _ascii(values: _Values, key: str) -> str | None:
    value: str | None = values.text(key, _ASCII, None)
    if value is not None and not value.isascii():
        raise values.refuse(key, value, _ASCII)
    return value


def _apprise(values: _Values) -> Channel:
    return AppriseChannel(values.texts("urls", "must be a list of texts", _is_text))


def _is_text(text: str) -> bool:
    """Return whether a text has no line break, and can be encoded."""
    return text != "" and text.isprintable()


def _is_address_of_web(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_right = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return is_right and text.isascii() and " " not in text


def _is_address_of_mail(text: str) -> bool:
    """Return whether a text is one address, with or without a name before it."""
    parts = getaddresses([text])
    return _is_text(text) and len(parts) == 1 and "@" in parts[0][1]


_KINDS: dict[str, Callable[[_Values], Channel]] = {
    "log": _log, "webhook": _webhook, "mail": _mail, "apprise": _apprise,
}  # fmt: skip
