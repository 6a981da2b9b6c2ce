"""Contract of a trap, and the helpers that traps share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

DEFAULT_SECONDS = 20.0  # time limit of a trap that does not depend on a bound on waiting
BOUND_SECONDS = 120.0  # time limit of a trap that a bound on waiting ends

OPTIONS = ("ttl", "key", "ignore", "errors")  # options of ``cached``

Cached = Callable[..., Callable[..., Any]]


class Wrong(AssertionError):  # noqa: N818 - a verdict
    """An answer or a number of loads that differs from the right one."""


class Poisoned(AssertionError):  # noqa: N818 - a verdict
    """A caller got a value that another caller had changed."""


class Refused(Exception):  # noqa: N818 - a verdict
    """The cache does not support an option or an argument, and raises instead of answering."""


@dataclass(frozen=True)
class Trap:
    """A trap, called with ``cached``; it returns if the cache is right."""

    name: str
    kind: str
    function: Callable[[Cached], None] = field(repr=False)
    counts_loads: bool = False
    expects_refusal: bool = False
    needs: tuple[str, ...] = ()
    seconds: float = DEFAULT_SECONDS

    @property
    def why(self) -> str:
        """The right behaviour, in one line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, cached: Cached) -> None:
        """Spring the trap on a cache."""
        self.function(cached)


TRAPS: list[Trap] = []


def trap(kind: str, **attributes: Any) -> Callable[[Callable[[Cached], None]], Trap]:
    """Decorator that registers a trap of a kind."""

    def register(function: Callable[[Cached], None]) -> Trap:
        entry = Trap(function.__name__, kind, function, **attributes)
        if any(other.name == entry.name for other in TRAPS):
            raise ValueError(f"two traps are named {entry.name}")
        unknown = set(entry.needs) - set(OPTIONS)
        if unknown or not entry.why:
            raise ValueError(f"{entry.name}: unknown needs {unknown}, or a docstring is missing")
        TRAPS.append(entry)
        return entry

    return register


def describe(value: object) -> str:
    """Type and content of a value, as the function under test sees them."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__} {value!r}"


def expect(
    answer: object, expected: object, call: str, error: type[AssertionError] = Wrong
) -> None:
    """Raise unless an answer has the type and the value of the expected one."""
    if type(answer) is not type(expected) or answer != expected:
        raise error(f"{call}: {_short(answer)} instead of {_short(expected)}")


def expect_loads(loads: list[Any], number: int) -> None:
    """Raise unless the function has run exactly that often."""
    if len(loads) != number:
        raise Wrong(f"{len(loads)} loads instead of {number}")


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def compare(cached: Cached, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> None:
    """Call a cached function with each tuple of arguments, twice; answers must be the plain ones."""
    served = cached(function)
    calls = list(calls)
    for turn in (1, 2):
        for number, arguments in enumerate(calls):
            expected = function(*arguments)
            expect(served(*arguments), expected, f"turn {turn}, call {number}")


def compare_values(cached: Cached, values: Iterable[object]) -> None:
    """Each value must be described as itself, not as one that equals it."""

    def describe_value(value: object) -> str:
        return describe(value)

    compare(cached, describe_value, [(value,) for value in values])


def answer_or_refusal(
    served: Callable[..., Any], name: str, expected: object, *arguments: Any, **keywords: Any
) -> bool:
    """Accept the plain answer, or an error that names the argument; return whether it was refused.

    Arguments that have neither content nor a name by which to find them again may be refused, but
    the error must name the parameter: it is all that a reader of the log sees.
    """
    try:
        answer = served(*arguments, **keywords)
    except Exception as error:
        if name in str(error):
            return True
        raise
    expect(answer, expected, f"{name} of type {type(arguments[0]).__name__}")
    return False


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """Run each function in a thread of its kind; list of their results or errors, in order.

    There is no limit on the time: a thread that waits for ever makes the trap hang.
    """
    results: list[Any] = [None] * len(works)

    def target(index: int, work: Callable[[], Any]) -> None:
        try:
            results[index] = work()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=target, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def reraise(results: Iterable[Any]) -> None:
    """Raise the first error among results of threads, assertions first."""
    errors = [result for result in results if isinstance(result, BaseException)]
    errors.sort(key=lambda error: not isinstance(error, AssertionError))
    if errors:
        raise errors[0]


def wait_or_wrong(event: threading.Event, complaint: str, seconds: float = 5.0) -> None:
    """Wait for an event that comes at once in plain code."""
    if not event.wait(seconds):
        raise Wrong(complaint)


def pass_time(cached: Cached, seconds: float) -> None:
    """Move the clock of the cache, or wait."""
    advance: Callable[[float], None] | None = getattr(cached, "advance", None)
    if advance is None:
        time.sleep(seconds)
    else:
        advance(seconds)
