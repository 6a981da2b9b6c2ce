"""All hooks for functions that wait: of the standard library, and of libraries of the application.

A library is hooked once the application has imported it, whenever that is; importing it is left to the
application. So is asyncio.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

from ...core.host_exceptions import raise_if_of_host
from . import thread_pools, wait_hook
from .replacements import Replacements, Target

log = logging.getLogger("flask_knitperf")


class WaitHooks:
    """Several hooks that are installed for the same applications.

    Args:
        hooks: the hooks.
    """

    def __init__(self, *hooks: Replacements) -> None:
        self._hooks = hooks

    @property
    def installed(self) -> bool:
        """Whether any of them is installed at present."""
        return any(hook.installed for hook in self._hooks)

    def acquire(self) -> None:
        """Install them, or once their libraries are imported; each call needs a :meth:`release`."""
        for hook in self._hooks:
            hook.acquire()
        self.install_imported()

    def release(self) -> None:
        """Undo one :meth:`acquire`; the last one restores the functions."""
        for hook in reversed(self._hooks):
            hook.release()

    def install_imported(self) -> None:
        """Install those of libraries that were imported meanwhile. Never raises."""
        for hook in self._hooks:
            try:
                hook.install_if_ready()
            except Exception as error:  # a version of the library without what is hooked
                raise_if_of_host(error)
                hook.give_up()
                log.warning("flask_knitperf: waits of a library are not named: %r", error)


def _has(name: str, attribute: str) -> Callable[[], bool]:
    """Return a function that returns whether a module is loaded, as far as an attribute of it."""

    def is_loaded() -> bool:
        module = sys.modules.get(name)
        if not issubclass(type(module), ModuleType):
            return False
        # not getattr: a module that is loaded lazily would be loaded by it
        return attribute in object.__getattribute__(module, "__dict__")

    return is_loaded


def _of_standard_library() -> Iterator[Target]:
    yield from wait_hook.targets()
    yield from thread_pools.targets()


def _of_asyncio() -> Iterator[Target]:
    from . import asyncio_hook

    return asyncio_hook.targets()


def _of_httpx() -> Iterator[Target]:
    from . import httpx_hook

    return httpx_hook.targets(sys.modules["httpx"])


def _of_aiohttp() -> Iterator[Target]:
    from . import aiohttp_hook

    return aiohttp_hook.targets(sys.modules["aiohttp"])


WAIT_HOOKS = WaitHooks(
    Replacements(_of_standard_library),
    Replacements(_of_asyncio, _has("asyncio", "BaseEventLoop")),
    Replacements(_of_httpx, _has("httpx", "AsyncHTTPTransport")),
    Replacements(_of_aiohttp, _has("aiohttp", "StreamReader")),
)
