"""Receivers of messages: an HTTP server and an SMTP server, which also misbehave."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from flask_knitperf.alerts.conditions import Judged, Judgement, ShareAbove
from flask_knitperf.alerts.evaluator import AlertKey, Change
from flask_knitperf.alerts.messages import Context, message
from flask_knitperf.alerts.rules import Metric, Rule
from flask_knitperf.alerts.states import Event, State
from flask_knitperf.reports.documents.alerts import AlertMessage
from tests.waiting import wait_for

AT = 1_800_000_000.0
RULE = Rule("Slow", Metric.SLOW, ShareAbove(0.05), "orders", limit_ms=200.0)
CONTEXT = Context(
    "mill", "1.4", AT - 300, "N+1 query: 12 × SELECT in each request.", "https://mill.example/perf"
)
HOSTILE = {
    "HTML": "<script>alert(1)</script>&amp;",
    "a command of Slack": "<!channel> <https://evil.example|click>",
    "right to left": "\u202egnp.exe",
    "NUL": "a\0b",
    "half a surrogate": "\ud834 \udce9",
    "a header": "a\r\nBcc: other@evil.example\r\n\r\nbody",
    "separators of lines": "a\u2028b\u2029c\x85d\x0be\x1cf",
    "a terminal": "\x1b[31m\x07\x9b",
    "10 kB": "long" * 2_500,
    "10 kB beyond ASCII": "ü ☂" * 3_000,
    "the end of a mail": "\r\n.\r\nQUIT\r\n",
    "a template": "{{ 7 * 7 }} %s %(x)s {0} $HOME :smile:",
}


def sample(
    subject: str = "orders",
    event: Event = Event.FIRING,
    rule: Rule = RULE,
    context: Context = CONTEXT,
    at: float = AT,
) -> AlertMessage:
    """Return the message of a change."""
    judged = Judged(Judgement.BREACH, 0.12, 400)
    change = Change(AlertKey(rule.name, subject), event, at, State(), judged, at)
    return message(rule, change, at, context)


def hostile(text: str) -> AlertMessage:
    """Return a message with a text in each place that a name can come from."""
    rule = Rule(text, Metric.SLOW, ShareAbove(0.05), text)
    return sample(text, rule=rule, context=Context(text, text, AT - 300, text, f"https://a/{text}"))


class Received(NamedTuple):
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _WebHandler(BaseHTTPRequestHandler):
    server: _WebServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        web = self.server.web
        web.received.append(Received(self.path, dict(self.headers), body))
        web.answer(self)

    def log_message(self, *_: Any) -> None:
        pass


class _WebServer(ThreadingHTTPServer):
    web: Web

    def handle_error(self, *_: Any) -> None:
        """Do nothing: clients of these tests close early."""


Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Answer:
    """Return an answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def raw(data: bytes) -> Answer:
    """Return an answer of some bytes, after which the connection is closed."""
    return lambda handler: handler.wfile.write(data) and None


def dripping(data: bytes, seconds: float = 0.02) -> Answer:
    """Return an answer that never ends."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        while not handler.server.web.released.wait(seconds):  # type: ignore[attr-defined]
            handler.wfile.write(data)

    return answer


def hanging(handler: BaseHTTPRequestHandler) -> None:
    """Answer once the test ends."""
    handler.server.web.released.wait(60)  # type: ignore[attr-defined]


class _Receiver:
    """A server that runs in a thread as long as its context.

    Attributes:
        released: set once the test ends.
    """

    def __init__(self, server: socketserver.BaseServer) -> None:
        self.released = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]


class Web(_Receiver):
    """An HTTP server.

    Attributes:
        received: requests, in order of time.
        answer: answers a request after it was received.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Answer = status(200)
        server = _WebServer(("127.0.0.1", 0), _WebHandler)
        server.web = self
        super().__init__(server)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def keys(self) -> list[str]:
        """Keys of the requests."""
        return [one.headers["Idempotency-Key"] for one in self.received]

    def wait(self, number: int) -> None:
        """Wait for a number of requests."""
        wait_for(lambda: len(self.received) >= number)


class Mail(NamedTuple):
    """A mail as a server receives it."""

    sender: str
    recipients: list[str]
    data: bytes

    @property
    def parsed(self) -> EmailMessage:
        return message_from_bytes(self.data, policy=policy.default)  # type: ignore[return-value]


class _PostHandler(socketserver.StreamRequestHandler):
    server: _PostServer

    def handle(self) -> None:
        post = self.server.post
        if post.tls == "tls":
            self._encrypt()
        self._send(post.replies.get("greeting", "220 post ready"))
        sender, recipients = "", []
        while line := self.rfile.readline():
            verb, space, rest = line.decode("latin-1").strip().partition(" ")
            verb = verb.upper()
            if verb in ("MAIL", "RCPT"):  # versions of smtplib differ in case
                keyword, colon, address = rest.partition(":")
                rest = keyword.upper() + colon + address
            command = verb + space + rest
            post.commands.append(command)
            known = (text for start, text in post.replies.items() if command.startswith(start))
            reply = next(known, self._reply(verb))
            if verb == "DATA" and reply == "250 fine":
                self._send("354 go on")
                post.mails.append(Mail(sender, recipients, self._data()))
                reply = post.replies.get("received", "250 received")
            elif verb == "MAIL":
                sender, recipients = command, []
            elif verb == "RCPT" and reply.startswith("250"):
                recipients.append(command)
            self._send(reply)
            if verb == "QUIT":
                return
            if verb == "STARTTLS" and reply.startswith("220"):
                self._encrypt()

    def _reply(self, verb: str) -> str:
        post = self.server.post
        if verb == "EHLO":
            offers = ["post", "8BITMIME", "AUTH PLAIN"] + ["STARTTLS"] * (post.tls == "starttls")
            return "".join(f"250-{offer}\r\n" for offer in offers) + "250 SIZE 10000000"
        return {"QUIT": "221 bye", "AUTH": "235 welcome", "STARTTLS": "220 go on"}.get(
            verb, "250 fine"
        )

    def _data(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def _send(self, reply: str) -> None:
        if reply == "drip":
            while not self.server.post.released.wait(0.02):
                self.wfile.write(b"220-")
                self.wfile.write(b"x\r\n")
        elif reply == "hang":
            self.server.post.released.wait(60)
        else:
            self.wfile.write(reply.encode() + b"\r\n")

    def _encrypt(self) -> None:
        context = self.server.post.context
        assert context is not None
        self.request = self.connection = context.wrap_socket(self.connection, server_side=True)
        self.setup()

    def finish(self) -> None:
        super().finish()
        self.connection.close()


class _PostServer(socketserver.ThreadingTCPServer):
    post: Post
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Do nothing: clients of these tests close early."""


class Post(_Receiver):
    """An SMTP server.

    Attributes:
        mails: mails that it has received.
        commands: commands that it has received.
        replies: replies by the start of a command, by ``greeting`` and ``received``; ``hang`` and
            ``drip`` never end.
        tls: ``starttls``, ``tls``, or ``none``.
        context: with its certificate.
    """

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.replies: dict[str, str] = {}
        self.tls, self.context = "none", None
        self.context: ssl.SSLContext | None = None
        server = _PostServer(("127.0.0.1", 0), _PostHandler)
        server.post = self
        super().__init__(server)
