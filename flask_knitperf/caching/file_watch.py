"""Replaces the functions that open and list files, for the time in which loads run.

A replacement adds the path to the dependencies of the load, in the state before the call, and passes the
call on. It equals the function that it replaces, is an instance of its class, and is not bound when it
is an attribute of a class; warnings name the line of the caller.

The originals return with the end of the last load. Where another tool has replaced a replacement
meanwhile, that stays: the replacement below it passes calls on. One that a tool puts back after the last
load restores the original at its next call.

A module that has bound one of the functions to another name at its import is not covered, except for
those of the standard library that are listed here.
"""

from __future__ import annotations

import functools
import os
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.code_locations import call_from
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_reentrant_lock
from ..core.package_folder import PACKAGE
from .dependencies import (
    RUNNING,
    LoadDependencies,
    Problem,
    add_read,
    add_write,
    defer,
    refuse,
)  # fmt: skip
from .file_state import absolute

_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
_TMPFILE = getattr(os, "O_TMPFILE", 0)
_FD_FOLDER = "/proc/self/fd"
_PAUSED = Problem("its reads were not watched for a moment", is_passing=True)
_PATHLIB = "pathlib"
_FOR_APPLICATION = (
    os.path.join(PACKAGE, "caching", "function_cache.py"),
    os.path.join(PACKAGE, "caching", "verification.py"), os.path.join(PACKAGE, "frames", ""),
)  # fmt: skip
"""Modules of this package that read for the application, or call a function of it (``os.listdir``)."""


def _note_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add the file of a call of ``open``."""
    if kwargs.get("opener", args[7] if len(args) > 7 else None) is not None:
        return  # the opener opens another path, or this one by os.open
    path = _path(args[0] if args else kwargs["file"])
    if path is None:
        return
    mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
    if "w" in mode or "x" in mode:
        add_write(path, replaces=True)
    elif "a" in mode and "+" not in mode:
        add_write(path, replaces=False)
    else:
        add_read(path)


def _note_os_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add the file of a call of ``os.open``."""
    flags = args[1] if len(args) > 1 else kwargs["flags"]
    if _TMPFILE and flags & _TMPFILE == _TMPFILE:
        return  # a file without a name
    path = _path(args[0] if args else kwargs["path"], kwargs.get("dir_fd"))
    if path is None:
        return
    access = flags & _ACCESS
    if flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL):
        add_write(path, replaces=True)
    elif access == os.O_WRONLY:
        add_write(path, replaces=False)
    else:
        add_read(path)


def _note_listing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add the folder of a call of ``os.listdir`` or ``os.scandir``."""
    folder = args[0] if args else kwargs.get("path")
    path = _path("." if folder is None else folder)
    if path is not None:
        add_read(path)


def _note_database(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add the file of a call of ``sqlite3.connect``, and its write-ahead log."""
    database = os.fsdecode(args[0] if args else kwargs["database"])
    if kwargs.get("uri", args[7] if len(args) > 7 else False) and database.startswith("file:"):
        address = urllib.parse.urlsplit(database)
        if "mode=memory" in address.query:
            return
        database = urllib.parse.unquote(address.path)
    if database and database != ":memory:" and not database.startswith("file::memory:"):
        path = absolute(database)
        add_read(path)
        add_read(f"{path}-wal")


def _path(path: Any, folder: int | None = None) -> str | None:
    """Return the absolute path of an argument, ``None`` for a descriptor.

    Args:
        path: of the call.
        folder: descriptor of the folder that it is relative to.
    """
    if isinstance(path, int):
        return None
    name = os.fsdecode(path)
    if folder is None or os.path.isabs(name):
        return absolute(name)
    try:
        return os.path.join(os.readlink(f"{_FD_FOLDER}/{folder}"), name)
    except OSError as error:
        raise_if_of_host(error)
        refuse("it opens a file relative to the descriptor of a folder")
        return None


class _Replacement:
    """A function that adds a path to the dependencies, and then calls the original."""

    def __init__(
        self, original: Any, note: Callable[[tuple[Any, ...], dict[str, Any]], None]
    ) -> None:
        functools.update_wrapper(self, original, updated=())
        self._original, self._note = original, note

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not RUNNING:
            FILE_WATCH.restore_if_idle()
        elif not _is_own_call():
            try:
                self._note(args, kwargs)
            except Exception as error:  # the call has wrong arguments, and raises below
                raise_if_of_host(error)
                defer(f"a path that it opens is unknown: {error!r}")
        return call_from(1, self._original, args, kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance reports the type of the original
        return type(self._original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def __eq__(self, other: object) -> bool:  # os.open is looked up in sets such as os.supports_fd
        return other is self or other == self._original

    def __hash__(self) -> int:
        return hash(self._original)

    def __repr__(self) -> str:
        return repr(self._original)


def _is_own_call() -> bool:
    """Return whether this package opens a file itself, by :mod:`pathlib` too."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") == _PATHLIB and frame.f_back is not None:
        frame = frame.f_back
    file = frame.f_code.co_filename
    return file.startswith(PACKAGE) and not file.startswith(_FOR_APPLICATION)


_TARGETS: dict[tuple[str, str], Callable[[tuple[Any, ...], dict[str, Any]], None]] = {
    ("builtins", "open"): _note_open, ("io", "open"): _note_open, ("os", "open"): _note_os_open,
    ("os", "listdir"): _note_listing, ("os", "scandir"): _note_listing,
    ("bz2", "_builtin_open"): _note_open, ("lzma", "_builtin_open"): _note_open,
    ("tarfile", "bltn_open"): _note_open, ("glob", "_StringGlobber.scandir"): _note_listing,
    ("sqlite3", "connect"): _note_database, ("sqlite3.dbapi2", "connect"): _note_database,
}  # fmt: skip
"""By module and name, what adds the path of a call. From Python 3.13 on ``Path.glob`` calls
``os.scandir`` by the attribute of a class."""


class _StaticMethods:
    """The static methods of a class, in the place of the namespace of a module."""

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def get(self, name: str) -> Any:
        return getattr(self._owner, name, None)

    __getitem__ = get

    def __setitem__(self, name: str, function: Any) -> None:
        setattr(self._owner, name, staticmethod(function))


class _Target:
    """One name of a module or class: its original and its replacement."""

    __slots__ = ("name", "namespace", "note", "original", "replacement")

    def __init__(
        self, namespace: dict[str, Any] | _StaticMethods, name: str, note: Any
    ) -> None:  # fmt: skip
        self.namespace, self.name, self.note = namespace, name, note
        self.original: Any = None
        self.replacement: Any = None


class FileWatch:
    """Counts the loads that run, and replaces the functions while there are any."""

    def __init__(self) -> None:
        self._lock = create_reentrant_lock()  # a signal handler may call a cached function
        self._targets: list[_Target] = []
        self._missing = dict(_TARGETS)  # those of modules that are not imported yet
        self._modules = 0  # number of modules when they were last searched

    def begin(self, load: LoadDependencies) -> None:
        """Watch for a load; it needs an :meth:`end`."""
        with self._lock:
            RUNNING.append(load)
            load.slow_path.append(load)
            self._install()

    def end(self, load: LoadDependencies) -> None:
        """Undo one :meth:`begin`; the last one restores the functions."""
        with self._lock:
            if load in load.slow_path:
                load.slow_path.remove(load)
            if load in RUNNING:
                RUNNING.remove(load)
            if not RUNNING:
                self.restore()
            load.receivers = ()  # it refers to itself

    def misses_databases(self) -> bool:
        """Return whether ``sqlite3`` was imported after the latest load had begun."""
        return "sqlite3" in sys.modules and ("sqlite3", "connect") in self._missing

    def restore(self) -> None:
        """Put the originals back wherever a replacement stands."""
        for target in self._targets:
            current = target.namespace.get(target.name)
            if type(current) is _Replacement:
                target.namespace[target.name] = current._original

    def restore_if_idle(self) -> None:
        """Put the originals back unless a load has begun meanwhile."""
        with self._lock:
            if not RUNNING:
                self.restore()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the originals in place within the block, in which another hook replaces them.

        The loads that run may miss a read, so their values are not cached.
        """
        with self._lock:
            for load in RUNNING:
                load.unsettled = _PAUSED
            self.restore()
            try:
                yield
            finally:
                if RUNNING:
                    self._install()

    def _install(self) -> None:
        if self._missing and len(sys.modules) != self._modules:
            self._find_targets()
        for target in self._targets:
            current = target.namespace[target.name]
            if type(current) is _Replacement:  # of another load, or bound at an import during one
                continue
            if current is not target.original:
                self._adopt(target, current)
            target.namespace[target.name] = target.replacement

    def _find_targets(self) -> None:
        self._modules = len(sys.modules)
        for (module, path), note in list(self._missing.items()):
            owner_name, _, name = path.rpartition(".")
            owner: Any = sys.modules.get(module)
            if owner_name:
                owner = getattr(owner, owner_name, None)
            if owner is not None and hasattr(owner, name):
                del self._missing[module, path]
                namespace = _StaticMethods(owner) if owner_name else vars(owner)
                self._targets.append(_Target(namespace, name, note))

    def _adopt(self, target: _Target, current: Any) -> None:
        """Prepare the replacement of a function; one that has several names has one replacement."""
        known = next((other for other in self._targets if other.original is current), None)
        target.original = current
        target.replacement = (
            _Replacement(current, target.note) if known is None else known.replacement
        )


FILE_WATCH = FileWatch()


def _after_fork() -> None:
    """Stop watching in a child: the loads run in the parent."""
    for load in RUNNING:
        load.refusal = "the process was forked while the value was loaded"
        load.has_ended = True
        if load in load.slow_path:
            load.slow_path.remove(load)
    RUNNING.clear()
    FILE_WATCH.restore()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)
