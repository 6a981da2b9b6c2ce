"""Channels: a message is received as it is, or its channel raises an error without secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pytest

from flask_knitperf.alerts import channels
from flask_knitperf.alerts.channels import (
    AppriseChannel,
    DeliveryError,
    LogChannel,
    MailChannel,
    Receiver,
    WebhookChannel,
    receivers_of,
)
from flask_knitperf.alerts.messages import body, title
from flask_knitperf.alerts.quiet_hours import QuietHours
from flask_knitperf.alerts.states import Event
from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.core.printable import printable

from .receivers import (
    HOSTILE,
    Answer,
    Mail,
    Post,
    Web,
    dripping,
    hanging,
    hostile,
    raw,
    sample,
    status,
)

SECRET = "hunter2"
HOSTILE_TEXTS = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have channels wait for a short time."""
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(channels, "TOTAL_S", 0.5)


def mail_channel(post: Post, *recipients: str, **values: Any) -> MailChannel:
    return MailChannel(
        values.pop("host", "127.0.0.1"), post.port, "Mill <mill@mill.example>",
        recipients or ("a@mill.example",), **{"tls": "none", **values},
    )  # fmt: skip


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "level"),
    [(Event.FIRING, "WARNING"), (Event.REPEAT, "WARNING"), (Event.RESOLVED, "INFO")],
)
def test_the_log_has_the_level_of_the_severity_until_the_alert_is_resolved(
    caplog: pytest.LogCaptureFixture, event: Event, level: str
) -> None:
    caplog.set_level(logging.INFO, "flask_knitperf.alerts")
    LogChannel().send(sample(event=event))
    assert [record.levelname for record in caplog.records] == [level]


def test_a_line_of_the_log_has_the_finding_the_release_and_the_link(
    caplog: pytest.LogCaptureFixture,
) -> None:
    LogChannel().send(sample())
    [line] = caplog.messages
    for part in ("[mill] Warning: Slow: orders", "12 %", "N+1 query", "release 1.4",
                 "https://mill.example/perf/alerts"):  # fmt: skip
        assert part in line


@HOSTILE_TEXTS
def test_a_hostile_name_stays_in_its_line_of_the_log(
    caplog: pytest.LogCaptureFixture, text: str
) -> None:
    LogChannel().send(hostile(text))
    [line] = caplog.messages
    assert printable(text) in line
    assert len(line.splitlines()) == 1 and printable(line) == line


# -- webhooks --------------------------------------------------------------------------------------


def test_a_webhook_receives_the_message_as_json_with_its_key(web: Web) -> None:
    message = sample()
    WebhookChannel(f"{web.url}?room=1").send(message)
    [received] = web.received
    assert received.json == message
    assert received.path == "/hook?room=1"
    assert received.headers["Idempotency-Key"] == message["key"]
    assert received.headers["Content-Type"] == "application/json"


def test_a_webhook_is_sent_to_the_root_where_its_address_has_no_path(web: Web) -> None:
    WebhookChannel(f"http://127.0.0.1:{web.port}?a=b").send(sample())
    assert web.received[0].path == "/?a=b"


def test_a_signature_covers_the_time_and_the_body(web: Web) -> None:
    WebhookChannel(web.url, SECRET, now=lambda: 1234.9).send(sample())
    [received] = web.received
    signed = b"1234." + received.body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert received.headers["X-Knitperf-Timestamp"] == "1234"
    assert received.headers["X-Knitperf-Signature"] == f"sha256={expected}"


def test_every_try_has_the_same_key_and_a_new_signature(web: Web) -> None:
    times = iter((1.0, 2.0))
    channel = WebhookChannel(web.url, SECRET, now=lambda: next(times))
    channel.send(sample()), channel.send(sample())
    first, second = (one.headers for one in web.received)
    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert first["X-Knitperf-Signature"] != second["X-Knitperf-Signature"]


def test_without_a_secret_there_is_no_signature(web: Web) -> None:
    WebhookChannel(web.url).send(sample())
    assert not [name for name in web.received[0].headers if name.startswith("X-Knitperf")]


def test_a_webhook_of_text_receives_title_and_body(web: Web) -> None:
    message = sample()
    WebhookChannel(web.url, as_text=True).send(message)
    assert web.received[0].json == {"text": f"{title(message)}\n{body(message)}"}


@HOSTILE_TEXTS
def test_a_hostile_name_arrives_at_a_webhook_as_text(web: Web, text: str) -> None:
    message = hostile(text)
    WebhookChannel(web.url, SECRET).send(message)
    received = web.received[0].json
    assert received == message
    assert received["subject"] == printable(text) == printable(received["subject"])


@HOSTILE_TEXTS
def test_a_hostile_name_arrives_as_text_at_a_receiver_that_has_commands(
    web: Web, text: str
) -> None:
    WebhookChannel(web.url, as_text=True).send(hostile(text))
    received = web.received[0].json["text"]
    assert "<" not in received and ">" not in received


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_each_status_of_success_means_that_it_was_received(web: Web, code: int) -> None:
    web.answer = status(code)
    WebhookChannel(web.url).send(sample())
    assert len(web.received) == 1


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 304, 400, 401, 404, 429, 500, 503])
def test_any_other_status_is_an_error_and_no_redirect_is_followed(web: Web, code: int) -> None:
    web.answer = status(code, Location="/elsewhere")
    with pytest.raises(DeliveryError, match=f"^it answered {code}$"):
        WebhookChannel(web.url).send(sample())
    assert [one.path for one in web.received] == ["/hook"]


MISBEHAVIOURS = {
    "closes without an answer": raw(b""),
    "answers garbage": raw(b"\x00\xff\x1b[31m garbage\r\n\r\n"),
    "answers garbage without an end": raw(b"\x00" * 100_000),
    "answers a status that is not a number": raw(b"HTTP/1.1 fine\r\n\r\n"),
    "answers a status of a million": raw(b"HTTP/1.1 1000000 x\r\n\r\n"),
    "answers a thousand headers": raw(b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 1_000 + b"\r\n"),
    "closes within the status": raw(b"HTTP/1.1 2"),
    "hangs": hanging,
    "sends a status that never ends": dripping(b"H"),
    "sends headers of an error that never end": dripping(b"HTTP/1.1 500 x\r\na"),
    "has the client go on for ever": dripping(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
@pytest.mark.usefixtures("impatient")
def test_a_server_that_misbehaves_is_an_error_in_time(web: Web, answer: Answer) -> None:
    web.answer = answer
    began = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        WebhookChannel(web.url).send(sample())
    assert time.monotonic() - began < 5
    reason = str(caught.value)
    assert 0 < len(reason) <= channels.MAX_REASON and printable(reason) == reason


@pytest.mark.slow
@pytest.mark.parametrize("more", [b"x", b"\r\n\r\nx", b"\r\na: b\r\n"])
@pytest.mark.usefixtures("impatient")
def test_a_status_of_success_counts_in_time_if_its_answer_never_ends(web: Web, more: bytes) -> None:
    web.answer = dripping(b"HTTP/1.1 200 OK\r\n" + more)
    began = time.monotonic()
    WebhookChannel(web.url).send(sample())
    assert time.monotonic() - began < 5


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_deadline_leaves_no_thread_behind(web: Web) -> None:
    before = threading.active_count()
    web.answer = dripping(b"H")
    with pytest.raises(DeliveryError):
        WebhookChannel(web.url).send(sample())
    assert not [one for one in threading.enumerate() if "deadline" in one.name]
    assert threading.active_count() <= before + 1  # that of the server


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hook", "http://mill.invalid/", "http://a..b/", "http://[::1]:1/"]
)
def test_a_server_that_is_not_there_is_an_error(url: str) -> None:
    with pytest.raises(DeliveryError):
        WebhookChannel(url).send(sample())


def test_a_server_without_tls_is_an_error_for_https(web: Web) -> None:
    with pytest.raises(DeliveryError):
        WebhookChannel(web.url.replace("http:", "https:"), SECRET).send(sample())
    assert web.received == []


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return the addresses that are connected to; every connection is refused."""
    addresses: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: Any, **__: Any) -> None:
        addresses.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("socket.create_connection", refuse)
    return addresses


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_address_of_ipv6_without_a_port_has_that_of_its_scheme(
    refused: list[tuple[str, int]], scheme: str, port: int
) -> None:
    with pytest.raises(DeliveryError):
        WebhookChannel(f"{scheme}://[::1]/hook").send(sample())
    assert refused == [("::1", port)]


@pytest.mark.parametrize("path", [f"/{SECRET} x", f"/{SECRET}\x7f", f"/{SECRET}ü", f":{SECRET}/"])
def test_an_error_about_an_address_does_not_show_it(path: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        WebhookChannel(f"http://127.0.0.1{path}").send(sample())
    assert SECRET not in str(caught.value)


# -- mails -----------------------------------------------------------------------------------------


def test_a_mail_has_the_title_and_the_body_of_the_message(post: Post) -> None:
    message = sample()
    mail_channel(post, "a@mill.example", "B <b@mill.example>").send(message)
    [mail] = post.mails
    assert mail.parsed["Subject"] == title(message)
    assert mail.parsed.get_content().splitlines() == body(message).splitlines()
    assert mail.parsed["From"] == "Mill <mill@mill.example>"
    assert mail.parsed["To"] == "a@mill.example, B <b@mill.example>"
    assert mail.sender.startswith("MAIL FROM:<mill@mill.example>")
    assert mail.recipients == ["RCPT TO:<a@mill.example>", "RCPT TO:<b@mill.example>"]


def test_every_try_of_a_mail_has_one_message_id(post: Post) -> None:
    for _ in range(2):
        mail_channel(post).send(sample())
    assert [mail.parsed["Message-ID"] for mail in post.mails] == [
        f"<{sample()['key']}@flask-knitperf>"
    ] * 2


def test_a_mail_is_marked_as_sent_by_a_program(post: Post) -> None:
    mail_channel(post).send(sample())
    assert post.mails[0].parsed["Auto-Submitted"] == "auto-generated"


@HOSTILE_TEXTS
def test_a_hostile_name_is_text_in_a_mail(post: Post, text: str) -> None:
    message = hostile(text)
    mail_channel(post).send(message)
    [mail] = post.mails
    check_mail(mail)
    assert mail.parsed["Subject"] == title(message)[:500]
    assert printable(text) in mail.parsed.get_content()


@HOSTILE_TEXTS
def test_a_name_that_was_not_escaped_is_text_in_a_mail_too(post: Post, text: str) -> None:
    message = sample()
    message["subject"] = message["finding"] = message["app"] = text
    mail_channel(post).send(message)
    [mail] = post.mails
    check_mail(mail)
    assert printable(text)[:400] in mail.parsed["Subject"]


def check_mail(mail: Mail) -> None:
    """Check that a mail is plain text to one person, and allowed by RFC 5322."""
    parsed = mail.parsed
    assert max(map(len, mail.data.split(b"\r\n"))) <= 998
    assert mail.data.isascii()
    assert parsed.get_content_type() == "text/plain" and not parsed.defects
    assert parsed["Bcc"] is None and len(mail.recipients) == 1
    assert sorted(parsed.keys()) == [
        "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version",
        "Message-ID", "Subject", "To",
    ]  # fmt: skip


def test_a_user_signs_in(post: Post) -> None:
    mail_channel(post, username="mill", password=SECRET).send(sample())
    [sign_in] = [command for command in post.commands if command.startswith("AUTH")]
    assert base64.b64decode(sign_in.split()[-1]) == b"\0mill\0" + SECRET.encode()
    assert len(post.mails) == 1


def test_a_refused_sign_in_is_an_error_without_the_password(post: Post) -> None:
    encoded = base64.b64encode(f"\0mill\0{SECRET}".encode()).decode()
    post.replies["AUTH"] = f"535 unknown command AUTH PLAIN {encoded}"
    with pytest.raises(DeliveryError) as caught:
        mail_channel(post, username="mill", password=SECRET).send(sample())
    reason = str(caught.value)
    assert "535" in reason and encoded not in reason and SECRET not in reason
    assert post.mails == []


def test_a_password_is_never_sent_without_the_encryption_that_was_chosen(post: Post) -> None:
    with pytest.raises(DeliveryError, match="STARTTLS"):
        mail_channel(post, username="mill", password=SECRET, tls="starttls").send(sample())
    assert not [one for one in post.commands if one.startswith(("AUTH", "MAIL"))]


def test_a_mail_that_all_recipients_refuse_is_an_error(post: Post) -> None:
    post.replies["RCPT"] = "550 no such user"
    with pytest.raises(DeliveryError, match="no such user"):
        mail_channel(post).send(sample())
    assert post.mails == []


def test_a_recipient_who_is_refused_is_logged_and_the_others_receive_one_mail(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    post.replies["RCPT TO:<b@mill.example>"] = "550 no such user"
    mail_channel(post, "a@mill.example", "b@mill.example").send(sample())
    assert [mail.recipients for mail in post.mails] == [["RCPT TO:<a@mill.example>"]]
    assert "b@mill.example" in caplog.text and "550" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "replies",
    [
        {"greeting": "554 no service"},
        {"greeting": "hang"},
        {"greeting": "drip"},
        {"greeting": "\0\x1b[31m"},
        {"EHLO": "421 later", "HELO": "421 later"},
        {"EHLO": "drip"},
        {"MAIL": "451 later"},
        {"DATA": "hang"},
        {"received": "451 \0 later"},
        {"received": "554 refused"},
        {"received": "hang"},
        {"received": "drip"},
        {"received": ""},
    ],
    ids=str,
)
def test_a_mail_server_that_misbehaves_is_an_error_in_time(
    post: Post, replies: dict[str, str]
) -> None:
    post.replies.update(replies)
    began = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        mail_channel(post).send(sample())
    assert time.monotonic() - began < 5
    reason = str(caught.value)
    assert 0 < len(reason) <= channels.MAX_REASON and printable(reason) == reason


@pytest.mark.slow
@pytest.mark.parametrize("reply", ["250 bye", "500 unknown", "hang", "drip", "\0"])
@pytest.mark.usefixtures("impatient")
def test_a_mail_is_received_however_the_server_ends_the_dialogue(post: Post, reply: str) -> None:
    post.replies["QUIT"] = reply
    mail_channel(post).send(sample())
    assert len(post.mails) == 1


def test_a_mail_server_that_is_not_there_is_an_error(post: Post) -> None:
    with pytest.raises(DeliveryError):
        MailChannel("127.0.0.1", 1, "a@b.example", ("c@d.example",), tls="none").send(sample())


@pytest.fixture
def encrypted(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    """A mail server with a certificate of localhost that is trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    post.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    post.context.load_cert_chain(certificate, key)
    return post


@pytest.mark.parametrize("tls", ["tls", "starttls"])
def test_a_mail_is_sent_encrypted(encrypted: Post, tls: str) -> None:
    encrypted.tls = tls
    channel = mail_channel(encrypted, host="localhost", tls=tls, username="mill", password=SECRET)
    channel.send(sample())
    assert len(encrypted.mails) == 1


@pytest.mark.parametrize("tls", ["tls", "starttls"])
def test_a_certificate_of_another_host_is_refused(encrypted: Post, tls: str) -> None:
    encrypted.tls = tls
    channel = mail_channel(encrypted, host="127.0.0.1", tls=tls, username="mill", password=SECRET)
    with pytest.raises(DeliveryError, match="certificate"):
        channel.send(sample())
    assert not [one for one in encrypted.commands if one.startswith(("AUTH", "MAIL"))]


# -- Apprise ---------------------------------------------------------------------------------------


def apprise_channel(web: Web, *more: str) -> AppriseChannel:
    return AppriseChannel((f"json://mill:{SECRET}@127.0.0.1:{web.port}/token", *more))


ONE_CHILD = """
import io, sys
from flask_knitperf.alerts.apprise_child import main
for request in sys.stdin:
    sys.stdin = io.StringIO(request)
    main()
    print(flush=True)
    sys.stdin = sys.__stdin__
"""


@pytest.fixture(scope="module")
def one_child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that takes the part of many children: the import of Apprise is most of their time."""
    command = [sys.executable, "-c", ONE_CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield child
        assert child.stdin is not None
        child.stdin.close()


@pytest.fixture
def by_one_child(one_child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the requests of channels be served by the child of this module."""

    def run(command: list[str], *, input: bytes, **_: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        assert command[1:] == ["-m", "flask_knitperf.alerts.apprise_child"] and b"\n" not in input
        assert one_child.stdin is not None and one_child.stdout is not None
        one_child.stdin.write(input + b"\n")
        one_child.stdin.flush()
        lines = [one_child.stdout.readline() for _ in range(3)]
        assert lines[0] == b"\n"  # the result starts with an empty line, and another one follows it
        return subprocess.CompletedProcess(command, 0, b"".join(lines))

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("by_one_child")
@HOSTILE_TEXTS
def test_a_hostile_name_arrives_as_text_by_apprise(web: Web, text: str) -> None:
    message = hostile(text)
    apprise_channel(web).send(message)
    received = web.received[0].json
    assert received["title"] == title(message).strip()
    assert received["message"] == body(message)


@pytest.mark.slow
def test_a_message_arrives_by_a_child_of_its_own(web: Web) -> None:
    apprise_channel(web).send(hostile(HOSTILE["HTML"]))
    assert web.received[0].json["message"] == body(hostile(HOSTILE["HTML"]))


@pytest.mark.slow
def test_apprise_escapes_names_where_it_sends_html(post: Post) -> None:
    url = (
        f"mailto://127.0.0.1:{post.port}?from=a@b.example&to=c@d.example&mode=insecure&format=html"
    )
    AppriseChannel((url,)).send(hostile(HOSTILE["HTML"]))
    [mail] = post.mails
    [part] = [part for part in mail.parsed.walk() if part.get_content_type() == "text/html"]
    assert "<script>" not in part.get_content()
    assert "&lt;script&gt;" in part.get_content()


@pytest.mark.slow
def test_one_address_of_apprise_that_fails_is_an_error_without_its_secrets(web: Web) -> None:
    web.answer = status(500)
    with pytest.raises(DeliveryError) as caught:
        apprise_channel(web).send(sample())
    assert str(caught.value) == "Apprise could not deliver it to all addresses"


@pytest.mark.usefixtures("by_one_child")
@pytest.mark.parametrize(
    "url", [f"jsn://mill:{SECRET}@host", f"slack://{SECRET}", SECRET, "", f"tgram://{SECRET}/1\0"]
)
def test_an_address_that_apprise_does_not_support_is_an_error_without_it(
    web: Web, url: str
) -> None:
    with pytest.raises(DeliveryError) as caught:
        apprise_channel(web, url).send(sample())
    assert str(caught.value) == "Apprise does not support one of the addresses"
    assert web.received == []


def kill_child(signal_number: int) -> Answer:
    """Return an answer that kills the child process that sends the request."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        [child] = [
            one for one in psutil.Process().children()
            if "flask_knitperf.alerts.apprise_child" in one.cmdline()
        ]  # fmt: skip
        child.send_signal(signal_number)
        hanging(handler)

    return answer


@pytest.mark.slow
def test_a_child_that_is_killed_without_a_word_is_an_error_with_a_reason(web: Web) -> None:
    web.answer = kill_child(signal.SIGKILL)
    with pytest.raises(DeliveryError, match="ended with code -9"):
        apprise_channel(web).send(sample())


@pytest.fixture
def children_are_reaped() -> Iterator[None]:
    """Have the system drop the exit codes of children, as some hosts do."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("children_are_reaped")
@pytest.mark.parametrize(("code", "is_received"), [(200, True), (500, False)])
def test_a_host_that_drops_exit_codes_of_children_gets_the_right_result(
    web: Web, code: int, is_received: bool
) -> None:
    web.answer = status(code)
    if is_received:
        apprise_channel(web).send(sample())
    else:
        with pytest.raises(DeliveryError, match="could not deliver"):
            apprise_channel(web).send(sample())
    assert len(web.received) == 1


def test_a_child_that_hangs_is_killed_after_a_time(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "APPRISE_TIMEOUT_S", 0.2)
    before = psutil.Process().children()
    with pytest.raises(DeliveryError, match="timed out"):
        apprise_channel(web).send(sample())
    assert psutil.Process().children() == before


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise ImportError", "pip install 'flask_knitperf[apprise]'"),
        (f"def Apprise(): raise ValueError('{SECRET}')", "Apprise failed: ValueError"),
        (f"print('{SECRET}', flush=True); import os; os._exit(0)", "ended with code 0"),
        (f"import sys; sys.exit('{SECRET}')", "ended with code 1"),
    ],
)
def test_an_apprise_that_fails_otherwise_is_an_error(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, reason: str
) -> None:
    (tmp_path / "apprise.py").write_text(module)
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}")
    with pytest.raises(DeliveryError) as caught:
        apprise_channel(web).send(sample())
    assert reason in str(caught.value) and SECRET not in str(caught.value)


# -- from settings ---------------------------------------------------------------------------------

MAIL = {"kind": "mail", "host": "smtp.mill.example", "from": "a@b.example", "to": ["c@d.example"]}
WEBHOOK = {"kind": "webhook", "url": "https://mill.example/hook"}
APPRISE = {"kind": "apprise", "urls": ["json://mill.example"]}


def test_channels_are_read_by_name_in_their_order() -> None:
    receivers = receivers_of(
        {
            "log": {"kind": "log"},
            "hook": WEBHOOK,
            "post": {**MAIL, "quiet_hours": "22:00-06:30"},
            "phone": APPRISE,
        }
    )
    assert [(one.name, type(one.channel), one.quiet) for one in receivers] == [
        ("log", LogChannel, None),
        ("hook", WebhookChannel, None),
        ("post", MailChannel, QuietHours(22 * 60, 6 * 60 + 30)),
        ("phone", AppriseChannel, None),
    ]


def send(values: Mapping[str, Any]) -> None:
    """Send a message to the channel of some values."""
    [receiver] = receivers_of({"it": values})
    assert isinstance(receiver, Receiver)
    receiver.channel.send(sample())


def test_a_webhook_of_settings_signs_its_texts(web: Web) -> None:
    send({"kind": "webhook", "url": web.url, "secret": SECRET, "as_text": True})
    [received] = web.received
    assert "X-Knitperf-Signature" in received.headers and received.json.keys() == {"text"}


def test_a_mail_of_settings_is_sent_to_all_recipients(post: Post) -> None:
    send({
        **MAIL, "host": "127.0.0.1", "port": post.port, "tls": "none", "username": "mill",
        "password": SECRET, "to": ["c@d.example", "E <e@f.example>"],
    })  # fmt: skip
    assert post.mails[0].recipients == ["RCPT TO:<c@d.example>", "RCPT TO:<e@f.example>"]


def test_apprise_of_settings_is_sent_to_all_addresses(web: Web) -> None:
    url = f"json://127.0.0.1:{web.port}"
    send({"kind": "apprise", "urls": [f"{url}/a", f"{url}/b"]})
    assert sorted(one.path.rstrip("/") for one in web.received) == ["/a", "/b"]


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 587)])
def test_the_port_of_a_mail_server_is_that_of_its_encryption(
    refused: list[tuple[str, int]], tls: str, port: int
) -> None:
    with pytest.raises(DeliveryError):
        send({**MAIL, "tls": tls})
    assert refused == [("smtp.mill.example", port)]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "kind"),
        ({"kind": None}, "kind"),
        ({"kind": []}, "kind"),
        ({"kind": "pigeon"}, "kind"),
        ({"kind": "log", "level": "INFO"}, "level"),
        ({"kind": "log", "quiet_hours": "22-6"}, "quiet_hours"),
        ({"kind": "log", "quiet_hours": 22}, "quiet_hours"),
        ({"kind": "webhook"}, "url"),
        ({**WEBHOOK, "url": ""}, "url"),
        ({**WEBHOOK, "url": 5}, "url"),
        ({**WEBHOOK, "url": f"ftp://mill.example/{SECRET}"}, "url"),
        ({**WEBHOOK, "url": f"https:///{SECRET}"}, "url"),
        ({**WEBHOOK, "url": f"https://[{SECRET}"}, "url"),
        ({**WEBHOOK, "url": f"https://mill.example:{SECRET}/"}, "url"),
        ({**WEBHOOK, "url": "https://mill.example:0/"}, "url"),
        ({**WEBHOOK, "url": "https://mill.example:65536/"}, "url"),
        ({**WEBHOOK, "url": f"https://mill.example/{SECRET} x"}, "url"),
        ({**WEBHOOK, "url": f"https://mill.example/{SECRET}\n"}, "url"),
        ({**WEBHOOK, "url": f"https://mill.example/{SECRET}ü"}, "url"),
        ({**WEBHOOK, "secret": ""}, "secret"),
        ({**WEBHOOK, "secret": SECRET.encode()}, "secret"),
        ({**WEBHOOK, "secret": f"{SECRET}\n"}, "secret"),
        ({**WEBHOOK, "secret": f"{SECRET}\udcff"}, "secret"),
        ({**WEBHOOK, "secert": SECRET}, "secert"),
        ({**WEBHOOK, "as_text": "yes"}, "as_text"),
        ({**MAIL, "host": ""}, "host"),
        ({**MAIL, "host": None}, "host"),
        ({**MAIL, "port": True}, "port"),
        ({**MAIL, "port": "25"}, "port"),
        ({**MAIL, "port": 0}, "port"),
        ({**MAIL, "port": -1}, "port"),
        ({**MAIL, "port": 65_536}, "port"),
        ({**MAIL, "tls": "ssl"}, "tls"),
        ({**MAIL, "tls": True}, "tls"),
        ({**MAIL, "from": "mill"}, "from"),
        ({**MAIL, "from": "a@b.example\r\nBcc: c@d.example"}, "from"),
        ({**MAIL, "to": "c@d.example"}, "to"),
        ({**MAIL, "to": []}, "to"),
        ({**MAIL, "to": [""]}, "to"),
        ({**MAIL, "to": [5]}, "to"),
        ({**MAIL, "to": ["c@d.example, e@f.example"]}, "to"),
        ({**MAIL, "to": ["Doe, Jane <jane@d.example>"]}, "to"),
        ({**MAIL, "to": ["c@d.example\nBcc: e@f.example"]}, "to"),
        ({**MAIL, "username": ""}, "username"),
        ({**MAIL, "password": SECRET.encode()}, "password"),
        ({**MAIL, "password": f"{SECRET}ü"}, "password"),
        ({**MAIL, "passwort": SECRET}, "passwort"),
        ({"kind": "apprise"}, "urls"),
        ({**APPRISE, "urls": f"json://{SECRET}"}, "urls"),
        ({**APPRISE, "urls": []}, "urls"),
        ({**APPRISE, "urls": [f"json://{SECRET}", ""]}, "urls"),
        ({**APPRISE, "urls": [f"json://{SECRET}", None]}, "urls"),
        ({**APPRISE, "url": f"json://{SECRET}"}, "url"),
        ({**APPRISE, SECRET.upper(): SECRET}, SECRET.upper()),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_key_without_a_secret(
    values: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        receivers_of({"it": values})
    assert caught.value.key == f"KNITPERF_ALERT_CHANNELS['it'][{key!r}]"
    assert SECRET not in f"{caught.value} {caught.value.value!r}"


def test_an_unknown_key_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        ConfigurationError, match="keys are kind, quiet_hours, url, secret, as_text"
    ):
        receivers_of({"it": {**WEBHOOK, "address": "x"}})
