"""Single flight: of several concurrent calls with one key, one loads and the others wait for it.

The first call of a key is its *leader*. Calls that arrive while it loads are followers: they get the
value, or the error. A follower does not wait where that could never end: for itself (a recursive
function with the same arguments), or in a circle (two functions that call each other, each loaded by
another thread). It loads by itself then. After the longest wait one of the followers loads in place of
the leader, which may never return.

An error of the leader goes to those who waited, and to no later call. A leader that is interrupted, by
``KeyboardInterrupt`` or because its task was cancelled, has no answer for the others: one of them leads
next. In a forked child no thread loads any more, so it starts without flights.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from contextvars import ContextVar, Token
from typing import Any

from ..core.host_exceptions import SuppressOwn, is_of_host, raise_if_of_host
from ..core.locks import create_reentrant_lock
from .values import Copier


class Flight:
    """One load that is under way.

    Attributes:
        owner: identity of the thread or task that loads.
        followers: one future for each caller that waits, done once the load has ended.
        outcome: result of the load, ``None`` until it has one.
        error: exception of the load.
    """

    __slots__ = ("error", "followers", "has_ended", "outcome", "owner")

    def __init__(self, owner: Hashable) -> None:
        self.owner = owner
        self.followers: list[Future[None]] = []
        self.has_ended = False
        self.outcome: tuple[Any] | None = None
        self.error: Exception | None = None

    def begin(self) -> Token[tuple[Flight, ...]]:
        """Note that the current code runs within this load; return a token for ``leave``."""
        return _LOADING.set((*_LOADING.get(), self))

    def follow(self) -> Future[None]:
        """Return a future that is done once the load has ended."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a follower that gives up does not cancel it
        self.followers.append(future)
        if self.has_ended:
            self.end()
        return future

    def answer(self) -> tuple[Any] | None:
        """Return the outcome for a follower, ``None`` if the load was interrupted or goes on.

        It is also ``None`` if the error of the load cannot be copied: the follower loads for itself.

        Raises:
            Exception: a copy of that of the load.
        """
        copied = None if self.error is None else copy_of(self.error)
        if copied is None:
            return self.outcome
        try:
            raise copied
        finally:
            del copied  # its traceback refers to this frame

    def end(self) -> None:
        """Wake up the followers."""
        self.has_ended = True
        while self.followers:
            self.followers.pop().set_result(None)


class _Role(enum.Enum):
    LEADER = "loads for all"
    FOLLOWER = "waits for the leader"
    ALONE = "loads for itself, since waiting would never end"


_LOADING: ContextVar[tuple[Flight, ...]] = ContextVar("knitperf_loading", default=())
"""Loads around the current code; tasks and threads that a load starts with its context inherit it."""


def _identity() -> Hashable:
    """Return the identity of the current task, or of the thread where there is none."""
    asyncio = sys.modules.get("asyncio")  # a process that has not imported it has no tasks
    loop = None if asyncio is None else asyncio._get_running_loop()  # raises nothing without one
    task = None if asyncio is None or loop is None else asyncio.current_task(loop)
    return threading.get_ident() if task is None else id(task)


class SingleFlight:
    """The loads of one cache that are under way.

    Args:
        max_wait_s: longest time that a call waits for another one, in seconds.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._flights: dict[Hashable, Flight] = {}
        _ALL.add(self)

    def run(self, key: Hashable, load: Callable[[], Any]) -> tuple[Any, bool]:
        """Return the result of ``load``, and whether this call has loaded it.

        Args:
            key: calls with equal keys share one load.
            load: returns the result.

        Raises:
            BaseException: that of ``load``; a follower gets a copy of an ``Exception``.
        """
        flight, outcome = self.join(key)
        if outcome is not None:
            return outcome[0], False
        if flight is None:
            return load(), True
        token = flight.begin()
        try:
            result = load()
            flight.outcome = (result,)
            return result, True
        except Exception as error:
            flight.error = None if is_of_host(error) else error
            raise
        finally:
            self.leave(key, flight, token)
            flight = None  # the error's traceback refers to this frame, and the flight to the error

    def join(self, key: Hashable) -> tuple[Flight | None, tuple[Any] | None]:
        """Return the flight that the caller leads, or the outcome of another one; neither to load alone.

        A leader calls :meth:`Flight.begin`, loads, sets the outcome or the error, and calls
        :meth:`leave`, whatever happens.

        Raises:
            Exception: a copy of the one that the leader has raised.
        """
        me, overdue = _identity(), None
        while True:
            flight, role = self._board(key, me, overdue)
            if role is _Role.ALONE:
                return None, None
            if role is _Role.LEADER:
                return flight, None
            try:
                flight.follow().result(self._max_wait_s)
                overdue = None
            except TimeoutError:
                overdue = flight
            finally:
                _WAITING.pop(me, None)
            outcome = flight.answer()
            if outcome is not None:
                return None, outcome
            if flight.error is not None:
                return None, None

    def leave(self, key: Hashable, flight: Flight, token: Token[tuple[Flight, ...]]) -> None:
        """End a load, and wake up its followers."""
        with _LOCK:
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.end()
        with SuppressOwn(ValueError):  # the task of an abandoned load ends in another context
            _LOADING.reset(token)

    async def run_async(
        self, key: Hashable, load: Callable[[], Awaitable[Any]]
    ) -> tuple[Any, bool]:
        """Do what :meth:`run` does, for a coroutine function."""
        import asyncio  # most processes have no tasks

        me, overdue = _identity(), None
        while True:
            flight, role = self._board(key, me, overdue)
            if role is _Role.ALONE:
                return await load(), True
            if role is _Role.LEADER:
                token = flight.begin()
                try:
                    result = await load()
                    flight.outcome = (result,)
                    return result, True
                except Exception as error:
                    flight.error = None if is_of_host(error) else error
                    raise
                finally:
                    self.leave(key, flight, token)
                    del flight
            try:
                await asyncio.wait_for(asyncio.wrap_future(flight.follow()), self._max_wait_s)
                overdue = None
            except TimeoutError:
                overdue = flight
            finally:
                _WAITING.pop(me, None)
            outcome = flight.answer()
            if outcome is not None:
                return outcome[0], False
            if flight.error is not None:
                return await load(), True

    def is_loading(self, key: Hashable) -> bool:
        """Return whether a load of a key is under way."""
        return key in self._flights

    def clear(self) -> None:
        """Forget all loads, in a process in which none is under way; after a fork."""
        self._flights.clear()

    def _board(self, key: Hashable, me: Hashable, overdue: Flight | None) -> tuple[Flight, _Role]:
        """Return the load of a key, and what the caller has to do.

        Args:
            key: of the load.
            me: identity of the caller.
            overdue: load that the caller has waited for in vain, to be led by the caller.
        """
        with _LOCK:
            flight = self._flights.get(key)
            if flight is None or flight is overdue:
                flight = self._flights[key] = Flight(me)
                return flight, _Role.LEADER
            if _is_circular(flight, me):
                return flight, _Role.ALONE
            _WAITING[me] = flight
            return flight, _Role.FOLLOWER


_LOCK = create_reentrant_lock()
"""Guards the loads of all caches: a circle may lead through several. A signal handler may call a cached
function in the middle of another call."""
_WAITING: dict[Hashable, Flight] = {}
"""Load that each caller waits for, of all caches, by the caller's identity."""


def _is_circular(flight: Flight, me: Hashable) -> bool:
    """Return whether a load waits, by way of others, for this caller."""
    seen, around = set(), _LOADING.get()
    while flight.owner not in seen:
        if flight.owner == me or flight in around:
            return True
        seen.add(flight.owner)
        ahead = _WAITING.get(flight.owner)
        if ahead is None or ahead.has_ended:
            return False
        flight = ahead
    return False


def copy_of(error: Exception) -> Exception | None:
    """Return an equal exception for another caller, without traceback; ``None`` if it cannot be copied.

    A shared one would grow: each raise adds frames, a context and perhaps notes. And what it refers to
    could be changed by each of its callers.
    """
    try:
        copied = Copier().of(error)
    except Exception as failure:
        raise_if_of_host(failure)
        return None
    return copied if isinstance(copied, Exception) else None


_ALL: weakref.WeakSet[SingleFlight] = weakref.WeakSet()


def _renew() -> None:
    _WAITING.clear()
    for flights in list(_ALL):
        flights.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_renew)
