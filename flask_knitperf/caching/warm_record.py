"""The record of the most valuable calls of a run, with which the next one begins: arguments, no values.

Each worker adds its calls to one file of the state directory, once a minute and at its end, so one that
is killed loses a minute. Only functions with ``warm=True`` are in it, and only calls whose arguments are
plain data (:mod:`.warm_calls`). A value is always loaded by the code that runs, so the record stays
useful when the code changes, and cannot bring an old answer back.

A call of former runs keeps its worth for a while: it halves within :data:`HALF_LIFE_S`. So a run that
was too short to learn does not forget.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from ..storage.atomic_files import Disk
from ..storage.state_dir import exclusively

MAX_CALLS = 500
"""Number of calls in the record."""
MAX_BYTES = 256 << 10
"""Bytes of the record."""
HALF_LIFE_S = 24 * 3600.0
"""Time in which the worth of a call halves that no worker renews."""
FILE = "warm-calls.json"
"""Name of the record in the state directory."""
_FORMAT = 1
_MAX_NUMBER = 1e15  # of seconds and bytes; larger ones are none of ours


class Bounds(NamedTuple):
    """Bounds of one round.

    Attributes:
        seconds: of loading.
        bytes: of the values that are loaded.
    """

    seconds: float
    bytes: float

    def share(self, seconds: float, size: float) -> float:
        """Return the shares of both bounds that a load takes, added."""
        return seconds / max(self.seconds, 1e-9) + size / max(self.bytes, 1.0)


class RecordedCall(NamedTuple):
    """A call that was worth its place in the cache.

    Attributes:
        function: its module and name.
        namespace: of the function.
        arguments: as JSON by the names of the parameters.
        saved_s: seconds of loading that its hits saved, decayed, by the probability that it is valid
            at the next one.
        load_s: seconds of its load.
        bytes: of its value.
        at: seconds since the epoch at which it was recorded.
    """

    function: str
    namespace: str
    arguments: dict[str, Any]
    saved_s: float
    load_s: float
    bytes: float
    at: float

    @property
    def identity(self) -> str:
        """Text that calls of one key have in common."""
        return json.dumps((self.function, self.namespace, self.arguments), sort_keys=True)

    def at_time(self, now: float) -> RecordedCall:
        """Return the call with its worth at a time, in seconds since the epoch."""
        age = max(0.0, now - self.at)  # a clock that was set back makes nothing more valuable
        return self._replace(saved_s=self.saved_s * math.exp2(-age / HALF_LIFE_S), at=now)


def rank(row: RecordedCall, bounds: Bounds) -> float:
    """Return the seconds that a call saved, by the share of the bounds that loading it takes."""
    return row.saved_s / max(bounds.share(row.load_s, row.bytes), 1e-12)


def read(folder: Path) -> list[RecordedCall]:
    """Return the calls of the record in a state directory, empty where it cannot be read."""
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            return []
        rows = document["calls"][:MAX_CALLS]
        return [call for row in rows if (call := _call(row)) is not None]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise_if_of_host(error)  # there is none yet, or it is none of ours
        return []


def _call(row: Any) -> RecordedCall | None:
    """Return one call of the record, ``None`` if it is none of ours."""
    if not isinstance(row, list) or len(row) != len(RecordedCall._fields):
        return None
    function, namespace, arguments, *numbers = row
    texts = isinstance(function, str) and isinstance(namespace, str)
    if not texts or not isinstance(arguments, dict):
        return None
    for number in numbers:
        if type(number) not in (int, float) or not 0 <= number <= _MAX_NUMBER:
            return None
    return RecordedCall(*row)


def save(
    folder: Path,
    calls: Iterable[RecordedCall],
    rank: Callable[[RecordedCall], float],
    now: float,
    disk: Disk,
) -> None:
    """Add calls to the record of a state directory, unless another process does at this moment.

    Args:
        folder: the state directory.
        calls: of this process.
        rank: returns the worth of a call; those with the highest stay.
        now: seconds since the epoch.
        disk: file operations.

    Raises:
        OSError: it cannot be written; the former record is unchanged.
    """
    own = list(calls)
    if not own:
        return
    with exclusively(folder / f"{FILE}.lock") as is_held:
        if not is_held:
            return
        by_identity = {call.identity: call.at_time(now) for call in read(folder)}
        for call in own:
            before = by_identity.get(call.identity, call)
            by_identity[call.identity] = call._replace(saved_s=max(call.saved_s, before.saved_s))
        disk.save(folder / FILE, _packed(sorted(by_identity.values(), key=rank, reverse=True)))


def _packed(calls: list[RecordedCall]) -> bytes:
    """Return the first calls as JSON, as many as there is room for."""
    rows, size = [], 40
    for call in calls[:MAX_CALLS]:
        row = json.dumps(call, separators=(",", ":"))
        size += len(row) + 1
        if size > MAX_BYTES:
            break
        rows.append(row)
    return f'{{"format":{_FORMAT},"calls":[{",".join(rows)}]}}'.encode()
