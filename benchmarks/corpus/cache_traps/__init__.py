"""Traps for caches of functions: keys, values, errors, recursion, threads, forks, coroutines, expiry.

The traps were written from the issue's text before the cache existed. Each is a function of
``cached``, the cache under test as a decorator factory::

    cached(function, *, ttl=None, key=None, ignore=(), errors=()) -> caching function

``ttl`` is in seconds; ``key`` is a function of the arguments that returns the key; ``ignore`` names
parameters that are not part of the key; ``errors`` are exception classes that are remembered. An
option that a cache does not have raises ``TypeError``. A cache whose clock can be moved has it as
``cached.advance(seconds)``; without it traps of expiry wait, for less than a second.

The right answer is that of the function without a cache. A trap raises ``Wrong``, ``Poisoned``, or
does not return. Traps that a cache that never caches cannot pass are marked: ``counts_loads`` depends
on the number of loads that the issue promises, ``expects_refusal`` on an error that it promises. Where
a trap accepts a refusal, the error has to name the parameter. ``needs`` are the options that a trap
uses, ``seconds`` is its time limit, long where only a bound on waiting ends it.

``run(trap, cached)`` runs one trap in a forked child and returns the verdict. As a script (``python
-m benchmarks.corpus.cache_traps``) the package runs all traps on a cache that never caches, and on
three that are known, and checks what they do.
"""

from . import (
    calls,
    coroutines,
    errors,
    expiry,
    fork,
    key_frames,
    keys,
    recursion,
    threads,
    value_frames,
    values,
)
from .contract import OPTIONS, TRAPS, Poisoned, Trap, Wrong
from .runner import run

__all__ = ["OPTIONS", "TRAPS", "Poisoned", "Trap", "Wrong", "run"]

_MODULES = (
    keys, key_frames, calls, values, value_frames, errors, recursion, threads, fork, coroutines, expiry,
)  # fmt: skip
