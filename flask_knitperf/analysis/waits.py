"""Waits of one endpoint for something that has a name: how often, in which order, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..core.clock import NS_PER_MS
from ..core.units import count, plain
from ..metrics.catalogue import WAITS, PartKind, WaitThread
from ..metrics.instruments import OTHER
from ..metrics.readings.rows import EndpointReading
from .parts import Part

MIN_CALLS = 1.5  # per request, from which calls are several


@dataclass(slots=True)
class Wait:
    """Waits of an endpoint's requests for one thing.

    Attributes:
        part: its name as a part, e.g. ``http:rates.example``.
        serial: calls per request, one after another in its own thread.
        pooled: calls per request in threads of a pool.
        concurrent: calls per request in tasks of asyncio, side by side with others of their kind.
        where: ``file:line`` that waits longest, empty where no own code is on the stack.
        ms: mean per request, exclusive.
    """

    part: str
    serial: float = 0.0
    pooled: float = 0.0
    concurrent: float = 0.0
    where: str = ""
    ms: float = 0.0
    _longest: float = field(default=-1.0, repr=False)

    @property
    def kind(self) -> str:
        """Its kind, see :data:`...metrics.catalogue.WAITS`."""
        return kind_of(self.part)

    @property
    def name(self) -> str:
        """Name of the host, the program or the library; empty where there is none."""
        return _name_of(self.part)


def kind_of(part: str) -> str:
    """Return the kind of a part."""
    return part.partition(":")[0]


def _name_of(part: str) -> str:
    return part.partition(":")[2]


def waits(reading: EndpointReading) -> list[Wait]:
    """Return the waits of an endpoint, longest first."""
    requests = reading.requests.every.count
    rows: dict[str, Wait] = {}
    for part, where, thread, time in reading.waits:
        if not time.count or not requests or kind_of(part) not in WAITS:
            continue
        row = rows.setdefault(part, Wait(part))
        calls = time.count / requests
        if thread == WaitThread.POOL:
            row.pooled += calls
        elif thread == WaitThread.TASK:
            row.concurrent += calls
        else:
            row.serial += calls
        row.ms += time.total / requests / NS_PER_MS
        if time.total > row._longest:
            row.where, row._longest = where, time.total
    return sorted(rows.values(), key=lambda row: (-row.ms, row.part))


def locate_waits(parts: Iterable[Part], rows: Iterable[Wait]) -> None:
    """Set the line of each part that waits."""
    lines = {row.part: row.where for row in rows}
    for part in parts:
        if lines.get(part.name):
            part.where = lines[part.name]


_SENTENCES: Mapping[str, tuple[str, str]] = {
    PartKind.HTTP: ("waiting for {name}", "call"),
    PartKind.CONNECT: ("connecting to {name}", "connection"),
    PartKind.DNS: ("looking up the address of {name}", "look-up"),
    PartKind.SUBPROCESS: ("waiting for the program {name}", "run"),
    PartKind.SLEEP: ("sleeping in {name}", "time"),
    PartKind.THREADS: ("waiting for the work of a thread pool", "time"),
    PartKind.LOCK: ("waiting for {name}", "time"),
    PartKind.POOL: ("waiting for a connection of the pool of {name}", "time"),
}
"""Sentence of each kind, and the noun for one wait."""
_WITHOUT_NAME: Mapping[str, str] = {
    PartKind.SLEEP: "sleeping", PartKind.POOL: "waiting for a connection of the pool",
}  # fmt: skip
_LOCKS = frozenset({"queue", "event", "semaphore", "condition", "barrier", "thread"})
"""Objects that a request waits for; other names of locks are those of libraries."""
_UNNAMED: Mapping[str, str] = {
    PartKind.SUBPROCESS: "(one of many)", PartKind.SLEEP: "a library",
}  # fmt: skip


def described(part: str, wait: Wait | None) -> str:
    """Return a part that waits in words: ``waiting for rates.example, 3 calls one after another``."""
    kind, name = kind_of(part), _name_of(part)
    if kind == PartKind.POOL and wait is None:
        return "opening a connection to the database"
    sentence, noun = _SENTENCES[kind]
    text = sentence.format(name=_shown(kind, name))
    if not name:
        text = _WITHOUT_NAME.get(kind, text)
    if wait is None:
        return text
    if wait.serial >= MIN_CALLS:
        order = "" if noun == "time" else " one after another"
        text += f", {plain(count(round(wait.serial), noun))}{order}"
    elif wait.pooled >= MIN_CALLS:
        text += f", {plain(count(round(wait.pooled), noun))} in a thread pool"
    elif wait.concurrent >= MIN_CALLS:
        text += f", {plain(count(round(wait.concurrent), noun))} side by side"
    return text


def _shown(kind: str, name: str) -> str:
    if kind == PartKind.LOCK:
        article = "an" if name == "event" else "a"
        library = "a library" if name == OTHER else name
        return f"{article} {name}" if name in _LOCKS else f"another thread, in {library}"
    return name if name != OTHER else _UNNAMED.get(kind, "other hosts")


def advice(part: str, rows: Iterable[Wait]) -> str:
    """Return the repair of the longest wait of an endpoint.

    Args:
        part: its name as a part.
        rows: all waits of the endpoint.
    """
    kind, name = kind_of(part), _shown(kind_of(part), _name_of(part))
    if kind == PartKind.HTTP:
        return _advise_calls(name, part, list(rows))
    if kind == PartKind.SLEEP:
        if not name:
            return "Remove the sleep; wait for the event itself, or outside of the request."
        return f"Find out why {name} sleeps: it retries or polls. Repair that, or bound it."
    if kind == PartKind.POOL and not any(row.part == part for row in rows):
        return "Keep connections open: create the engine once, with a pool that all requests share."
    if kind == PartKind.LOCK:
        return _advise_lock(_name_of(part))
    if kind == PartKind.SUBPROCESS and _name_of(part) == OTHER:
        name = "that program"
    return _ADVICE[kind].format(name=name)


def _advise_lock(name: str) -> str:
    if name == "semaphore":
        return "Hold the semaphore for less time, or let more threads in at once."
    if name == "queue":
        return "Make the other end of the queue faster, or do not wait for it within the request."
    return "Shorten the work of the thread that it waits for, or do not wait for it within the request."


def _advise_calls(name: str, part: str, rows: list[Wait]) -> str:
    own = sum(row.serial for row in rows if row.part == part)
    every = sum(row.serial for row in rows if row.kind == PartKind.HTTP)
    if own >= MIN_CALLS:
        calls = plain(count(round(own), "call"))
        return f"Run the {calls} to {name} side by side, or cache the answers."
    if every >= MIN_CALLS:
        calls = plain(count(round(every), "call"))
        return f"Run its {calls} to other services side by side, or cache the answers."
    return f"Cache the answers of {name}, or call it outside of the request."


def avoidable_share(part: str, rows: Iterable[Wait], mean_ms: float) -> float:
    """Return the time that the repair of a wait saves, as a share (0 to 1) of the endpoint's time.

    HTTP calls that run side by side take as long as the longest of them, on average; any other repair
    saves the whole wait.

    Args:
        part: its name as a part.
        rows: all waits of the endpoint.
        mean_ms: mean of the endpoint's requests.
    """
    known = list(rows)
    own = next((row for row in known if row.part == part), None)
    if own is None or not mean_ms:
        return 0.0
    saved = own.ms
    if own.kind == PartKind.HTTP:
        calls = [own] if own.serial >= MIN_CALLS else [row for row in known if row.kind == own.kind]
        if sum(row.serial for row in calls) >= MIN_CALLS:
            longest = max(row.ms / max(1.0, row.serial) for row in calls)
            saved = sum(row.ms for row in calls) - longest
    return min(1.0, saved / mean_ms)


_ADVICE: Mapping[str, str] = {
    PartKind.CONNECT: "Keep connections to {name} open: share one session or pool among requests.",
    PartKind.DNS: "Look it up less often: keep connections to {name} open, or cache the answer; and "
    "check the name server.",
    PartKind.SUBPROCESS: "Run {name} outside of the request, or cache its result.",
    PartKind.POOL: "Return connections sooner: end sessions and transactions before slow work; or give "
    "the pool more connections (the page of queries shows the size that a watched pool needs).",
    PartKind.THREADS: "Give the pool more threads, or submit less work; perf.section(...) in the work "
    "shows where its time goes.",
}
