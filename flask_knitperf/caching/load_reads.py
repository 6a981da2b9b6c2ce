"""Reads of request data while a value is loaded: what the value may depend on besides its key.

An observer records the reads of a load: each has a source (``session``, ``request``, ``g``) and a name.
A value whose load read something that is not covered by its key would be returned to requests for which
it is wrong, so it is not cached. Reads that ``vary`` and ``key`` functions make themselves are covered.

Routing data is read by many loads whose value does not depend on it (``url_for``, log lines). It becomes
a part of the key of each function that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

MAX_READS = 64
"""Number of different reads that are recorded of one load."""

MAX_NAMED = 4
"""Number of reads that a text lists."""
COLLECTIONS = frozenset({
    ("request", name) for name in (
        "args", "cookies", "headers", "form", "values", "environ", "files", "json", "view_args",
    )
})  # fmt: skip
"""Reads that do not show which of many values was read, so that another read does not cover them."""
Read = tuple[str, str]
"""Source and name, such as ``("session", "user_id")``."""


class LoadReads:
    """Reads of one load, and of the loads within it.

    Attributes:
        call_sites: the first call site of each read.
        ended: whether the load is over.
        absent: names on ``g`` that were looked up and were not there.
        effects: the first call site of each change of the request's state, which a hit would not make.
        routing: names of the routing data that was read.
        written: names on ``g`` that the load has set before it read any value of them.
    """

    __slots__ = ("_outer", "absent", "call_sites", "effects", "ended", "routing", "written")

    def __init__(self, outer: LoadReads | None = None) -> None:
        self._outer = outer
        self.call_sites: dict[Read, str] = {}
        self.ended = False
        self.absent: set[str] = set()
        self.effects: dict[Read, str] = {}
        self.routing: set[str] = set()
        self.written: set[str] = set()

    def add(self, source: str, name: str, call_site: Callable[[], str]) -> None:
        """Record a read here and in the loads around this one."""
        reads: LoadReads | None = self
        while reads is not None:
            if (source, name) not in reads.call_sites:
                full = len(reads.call_sites) >= MAX_READS
                reads.call_sites[(source, "?") if full else (source, name)] = call_site()
            reads = reads._outer

    def add_effect(self, source: str, name: str, call_site: Callable[[], str]) -> None:
        """Record a change of the request's state here and in the loads around this one."""
        reads: LoadReads | None = self
        while reads is not None:
            if (source, name) not in reads.effects and len(reads.effects) < MAX_READS:
                reads.effects[source, name] = call_site()
            reads = reads._outer

    def add_routing(self, name: str) -> None:
        """Record a read of routing data here and in the loads around this one."""
        reads: LoadReads | None = self
        while reads is not None:
            reads.routing.add(name)
            reads = reads._outer

    def write(self, name: str) -> None:
        """Note that a name on ``g`` is set: later reads of it are not reads of the request."""
        reads: LoadReads | None = self
        while reads is not None:
            if ("g", name) not in reads.call_sites or name in reads.absent:
                reads.written.add(name)
            reads = reads._outer

    def uncovered(self, covered: Iterable[Read]) -> dict[Read, str]:
        """Return the call sites of the reads that the key does not cover."""
        known = {read for read in covered if read not in COLLECTIONS}
        known |= {("g", name) for name in self.written}
        return {read: where for read, where in self.call_sites.items() if read not in known}


CURRENT_READS: ContextVar[LoadReads | None] = ContextVar("knitperf_load_reads", default=None)
"""Reads of the load that runs in this context."""


SAFE_METHODS = ("GET", "HEAD")
"""Methods of requests whose responses are cached: they change nothing."""


class CurrentRequest(NamedTuple):
    """The request that runs while a function is called.

    Attributes:
        method: such as ``GET``, ``None`` where no request runs.
        is_view: whether the function is a view: that of the request, or any where no request runs.
    """

    method: str | None = None
    is_view: bool = False

    @property
    def is_unsafe_view(self) -> bool:
        """Whether the function is a view, and the request may change something."""
        return self.is_view and self.method is not None and self.method not in SAFE_METHODS


NO_REQUEST = CurrentRequest()


class RequestCopy(Protocol):
    """A copy of a request, with which code runs after it has ended."""

    def run(self, function: Callable[[], object]) -> None:
        """Call a function in the context of the copy."""


class ReadObserver(Protocol):
    """Records reads of request data into :data:`CURRENT_READS` between its two calls."""

    def begin(self) -> object:
        """Start recording; return an object for :meth:`end`, ``None`` where no request runs."""

    def end(self, token: object) -> None:
        """Stop recording."""

    def routing(self, names: Iterable[str]) -> tuple[Any, ...]:
        """Return routing data of the current request, plain values, ``None`` where no request runs."""

    def request(self, function: Callable[..., Any]) -> CurrentRequest:
        """Return the current request, as it concerns a function that callers use."""

    def endpoint(self) -> tuple[str, str]:
        """Return endpoint and method of the current request, empty where no request runs."""

    def copy_request(self) -> RequestCopy | None:
        """Return a copy of the current request, ``None`` where no request runs."""

    def blank_request(self, application: Any) -> AbstractContextManager[Any]:
        """Return a context with a request of no client, for loads whose reads are to be recorded."""

    def is_view(self, application: Any, function: Callable[..., Any]) -> bool:
        """Return whether a function that callers use is a view of an application."""

    def synchronous(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that returns the result of a function, or of a coroutine function."""


class NoObserver:
    """Records nothing: there are no requests."""

    def begin(self) -> None:
        """Do nothing."""

    def end(self, token: object) -> None:
        """Do nothing."""

    def routing(self, names: Iterable[str]) -> tuple[Any, ...]:
        """Return ``None`` for each name."""
        return tuple(None for _ in names)

    def request(self, function: Callable[..., Any]) -> CurrentRequest:  # noqa: ARG002
        """Return :data:`NO_REQUEST`."""
        return NO_REQUEST

    def endpoint(self) -> tuple[str, str]:
        """Return empty texts."""
        return "", ""

    def copy_request(self) -> None:
        """Return ``None``."""

    def blank_request(self, application: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context that changes nothing."""
        return nullcontext()

    def is_view(self, application: Any, function: Callable[..., Any]) -> bool:  # noqa: ARG002
        """Return ``False``."""
        return False

    def synchronous(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function."""
        return function


NO_OBSERVER = NoObserver()


def description(reads: Mapping[Read, str]) -> str:
    """Return the reads as a text: ``session['user_id'] (shop/bom.py:88) and g.mill``."""
    named = [
        expression(source, name) + (f" ({where})" if where else "")
        for (source, name), where in list(reads.items())[:MAX_NAMED]
    ]
    if len(reads) > MAX_NAMED:
        named.append("more")
    return ", ".join(named[:-1]) + " and " * (len(named) > 1) + named[-1]


def unkeyed(reads: Mapping[Read, str]) -> str:
    """Return reads that a key lacks as a clause: ``reads g.x (bom.py:8), which is not in its key``."""
    return f"reads {description(reads)}, which {'is' if len(reads) == 1 else 'are'} not in its key"


def expression(source: str, name: str) -> str:
    """Return a read as it is written in code: ``session['user_id']``, ``request.args``."""
    if not name:
        return source
    return f"session[{name!r}]" if source == "session" else f"{source}.{name}"


_OF_USER = frozenset({("session", "user_id"), ("session", "_user_id"), ("current_user", "")})
_OF_URL = frozenset({
    ("request", name) for name in ("args", "query_string", "full_path", "view_args")
})  # fmt: skip


def repair(reads: Iterable[Read]) -> str:
    """Return the repair of a load that makes these reads, as a sentence without a full stop."""
    left = set(reads)
    names = [
        name for name, covered in (("user", _OF_USER), ("url", _OF_URL)) if not covered.isdisjoint(left)
    ]  # fmt: skip
    left -= _OF_USER | _OF_URL
    if any(name in ("", "?") or (source, name) in COLLECTIONS for source, name in left):
        return "Pass what it reads as arguments"
    parts = [repr(name) for name in names]
    parts += [f"lambda: {_optional(source, name)}" for source, name in sorted(left)]
    options = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    passed = "it as an argument" if len(parts) == 1 else "them as arguments"
    return f"Add vary={options}, or pass {passed}"


def _optional(source: str, name: str) -> str:
    """Return an expression for a read that may be absent in another request."""
    return expression(source, name) if source == "request" else f"{source}.get({name!r})"
