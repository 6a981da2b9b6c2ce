"""Dependencies of a cached value: the files and tables that its load reads, and declared ones.

While a load runs, each read is added to its :class:`LoadDependencies`, with the state from before the
read: by the replaced functions of :mod:`.file_watch`, by the hooks of the SQL collectors, and by the
cached functions that it calls, hits included. A load around another one receives its dependencies too.

A thread that has not inherited the context of a load may work for any load that runs, so its reads are
added to all of them, unless it serves another request.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.errors import KnitPerfError
from ..metrics.catalogue import JOB_METHOD
from ..recording import span
from ..storage.versions import slot
from .file_state import MIN_AGE_S, UNTIMED, FileState, absolute, is_young, paths_below, state_of
from .invalidation import tag_slot

AUTO = "auto"
"""Value of ``depends`` for what a load reads."""
CHECK_S = 1.0
"""Seconds after which the files of a cached value are checked again."""
MAX_FILES = 4096
"""Number of files and folders that one value may depend on."""
_FILE_BYTES = 400
"""Bytes of one path and its state, without the characters of the path."""
_OWN: FileState = (-1,)
"""In place of the former state of a file whose content a load has replaced."""
_WORDS = re.compile(r"[\w$]+")


@dataclass(frozen=True, slots=True)
class File:
    """A file that a cached value depends on, whether or not it exists.

    Args:
        path: relative to the working directory at the time of the load, or absolute.
    """

    path: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a cached value depends on, with all files and folders in it and below.

    Args:
        path: relative to the working directory at the time of the load, or absolute.
    """

    path: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A database table that a cached value depends on.

    Writes through instrumented engines and wrapped connections invalidate the value.

    Args:
        name: of the table; a schema before it is ignored.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that a cached value depends on: ``invalidate(tag=name)`` invalidates the value.

    Args:
        name: of the tag.
    """

    name: str


Dependency = File | Folder | Table | Tag


class Declared(NamedTuple):
    """The option ``depends`` of a cached function.

    Attributes:
        auto: whether what a load reads is added.
        files: paths of files.
        folders: paths of folders.
        tables: names of tables, in lower case.
        tags: names of tags.
        slots: of the versions of the tables and the tags.
    """

    auto: bool = True
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()

    @property
    def is_declared(self) -> bool:
        """Whether it names anything."""
        return bool(self.files or self.folders or self.tables or self.tags)

    def names(self) -> list[str]:
        """Return the tags and folders as texts; files and tables are those of an entry."""
        return [f"tag {tag}" for tag in self.tags] + [f"folder {folder}" for folder in self.folders]


def declared(depends: Any) -> Declared:
    """Return the checked option ``depends``.

    Args:
        depends: ``"auto"``, one dependency, or several of both.

    Raises:
        KnitPerfError: one of them is anything else.
    """
    if isinstance(depends, str | File | Folder | Table | Tag):
        depends = (depends,)
    items = list(depends) if isinstance(depends, Iterable) else [depends]
    for item in items:
        if item != AUTO and not isinstance(item, File | Folder | Table | Tag):
            raise KnitPerfError(
                f"depends holds {item!r}; it can be 'auto', File(path), Folder(path), Table(name), "
                "Tag(name), or a list of these"
            )
    tables = [
        word.lower() for item in items if isinstance(item, Table)
        for word in _WORDS.findall(item.name.rpartition(".")[2])
    ]  # fmt: skip
    tags = [item.name for item in items if isinstance(item, Tag)]
    return Declared(
        AUTO in items,
        tuple(os.fsdecode(item.path) for item in items if isinstance(item, File)),
        tuple(os.fsdecode(item.path) for item in items if isinstance(item, Folder)),
        tuple(tables), tuple(tags), (*map(tag_slot, tags), *map(slot, tables)),
    )  # fmt: skip


class Problem(NamedTuple):
    """Reason why a value is not cached.

    Attributes:
        reason: as a clause, without names of files.
        path: of the file that it is about, if any.
        is_passing: whether the next value may be cached.
    """

    reason: str
    path: str = ""
    is_passing: bool = False

    def __str__(self) -> str:
        """Return the reason with the path."""
        return f"{self.reason}: {self.path}" if self.path else self.reason


CHANGED = "a file was changed while the value was loaded"
YOUNG = f"a file was changed less than {MIN_AGE_S:g} seconds before it was read"


class Sources(NamedTuple):
    """Files and tables that an entry depends on.

    Attributes:
        files: paths of files and folders, with their states before the load.
        tables: names of tables.
    """

    files: tuple[tuple[str, FileState], ...]
    tables: tuple[str, ...]

    @classmethod
    def of_facts(cls, files: Any, tables: Any) -> Sources | None:
        """Return the sources as they were written to the file of a value, ``None`` if there are none.

        Raises:
            TypeError: they are none of ours.
            ValueError: they are none of ours.
        """
        if not files and not tables:
            return None
        return cls(
            tuple((str(path), tuple(map(int, state))) for path, state in files),
            tuple(map(str, tables)),
        )

    def names(self) -> list[str]:
        """Return the files and tables as texts."""
        return [
            *(f"file {path}" for path, _ in self.files), *(f"table {name}" for name in self.tables)
        ]  # fmt: skip

    @property
    def size(self) -> int:
        """Estimated bytes."""
        return _FILE_BYTES * len(self.files) + sum(len(path) for path, _ in self.files)

    def changed_file(self) -> str:
        """Return the path of a file that has another state now, empty if there is none."""
        for path, state in self.files:
            if state_of(path) != state:
                return path
        return ""


class LoadDependencies:
    """Dependencies of one load.

    Args:
        declared: the option ``depends`` of the function.
        outer: loads that receive the dependencies of this one.
        words: versions that the slots refer to.
        slow_path: sends hits to :meth:`.FunctionCache.miss` while it is not empty.
        wall: returns the seconds since the epoch.

    Attributes:
        slow_path: see above.
        receivers: loads to which a read of this one is added.
        has_ended: whether the load is over.
        files: by path, the state before the first read.
        expires: monotonic time in seconds at which the first of the values in it expires.
        slots: of versions, besides those of the function itself.
        tables: names of tables.
        refusal: why the value cannot be cached, empty if it can.
        unsettled: why this value is not cached though the next one may be, ``None`` if it is.
    """

    __slots__ = (
        "_wall", "_words", "_written", "expires", "files", "has_ended", "receivers", "refusal", "slots",
        "slow_path", "tables", "unsettled",
    )  # fmt: skip

    def __init__(
        self, declared: Declared, outer: Sequence[LoadDependencies], words: memoryview,
        slow_path: list[Any], wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.receivers = (self, *outer) if declared.auto else ()
        self.has_ended, self.expires = False, math.inf
        self.files: dict[str, FileState] = {}
        self._written: dict[str, FileState] = {}  # states before the load wrote
        self.slots: set[int] = set()
        self.tables: set[str] = set()
        self.refusal = ""
        self.unsettled: Problem | None = None
        self._words, self.slow_path, self._wall = words, slow_path, wall
        if declared.files or declared.folders or declared.tables:
            for load in (self, *outer):
                load._add_declared(declared)

    def _add_declared(self, declared: Declared) -> None:
        self.tables.update(declared.tables)
        for path in declared.files:
            self._take(absolute(os.path.expanduser(path)))
        for folder in declared.folders:
            self.read_folder(absolute(os.path.expanduser(folder)))

    def read(self, path: str) -> None:
        """Add a file or folder that is about to be read, unless the load has written all of it.

        Args:
            path: absolute.
        """
        if path in self.files:
            return
        before = self._written.get(path)
        if before is None:
            self._take(path)
        elif before is not _OWN:
            self.files[path] = before

    def read_folder(self, folder: str) -> None:
        """Add a folder, and everything in it and below."""
        for path in paths_below(folder):
            self._take(path)
            if self.refusal:
                return

    def write(self, path: str, *, replaces: bool) -> None:
        """Note a file that is about to be written.

        Args:
            path: absolute.
            replaces: whether nothing of the former content stays.
        """
        if path not in self.files and path not in self._written:
            self._written[path] = _OWN if replaces else state_of(path)

    def _take(self, path: str) -> None:
        if path in self.files:
            return
        state = self.files[path] = state_of(path)
        if is_young(state, self._wall()):
            self.unsettled = Problem(YOUNG, path, is_passing=True)
        if len(self.files) > MAX_FILES:
            self.refusal = f"it reads more than {MAX_FILES:,} files"

    def receive(
        self, slots: Iterable[int], sources: Sources | None, words: memoryview, expires: float
    ) -> None:
        """Add the dependencies of another value that is loaded or served for this one.

        Args:
            slots: of its versions.
            sources: its files and tables.
            words: versions that the slots refer to.
            expires: monotonic time in seconds at which it expires.
        """
        self.expires = min(self.expires, expires)
        if words is not self._words:
            self.refusal = "it calls a function of another cache, whose invalidation it would miss"
        self.slots.update(slots)
        if sources is None:
            return
        self.tables.update(sources.tables)
        for path, state in sources.files:
            if self.files.setdefault(path, state) != state:
                self.unsettled = Problem(CHANGED, path, is_passing=True)

    def sources(self) -> Sources | None:
        """Return the files and tables, ``None`` if there are none."""
        if not self.files and not self.tables:
            return None
        return Sources(tuple(self.files.copy().items()), tuple(sorted(self.tables.copy())))


CURRENT: ContextVar[LoadDependencies | None] = ContextVar("knitperf_dependencies", default=None)
"""Dependencies of the innermost load that runs in this context."""
RUNNING: list[LoadDependencies] = []
"""Dependencies of all loads that run and detect what they read."""


def receivers() -> Sequence[LoadDependencies]:
    """Return the loads to which a read of the current code is added."""
    load = CURRENT.get()
    if load is not None and not load.has_ended:
        return load.receivers
    if not RUNNING or _serves_another_request():
        return ()
    return tuple(RUNNING)


def pass_on(
    slots: Iterable[int], sources: Sources | None, words: memoryview, expires: float
) -> None:
    """Add the dependencies of a value that is loaded or served to the current loads.

    Args:
        slots: of its versions.
        sources: its files and tables.
        words: versions that the slots refer to.
        expires: monotonic time in seconds at which it expires; counts for a load whose context the
            current code has, since others are unlikely to use the value.
    """
    load = CURRENT.get()
    if load is None or load.has_ended:
        expires = math.inf
    for receiver in receivers():
        receiver.receive(slots, sources, words, expires)


def _serves_another_request() -> bool:
    """Return whether this thread works for a request outside of any load, or for this package."""
    request = span.current()
    if request is not None and request.environ.get("REQUEST_METHOD") is not JOB_METHOD:
        return True
    return threading.current_thread().name.startswith("flask_knitperf")


def add_read(path: str) -> None:
    """Add a file or folder that is about to be read to the current loads.

    Args:
        path: absolute.
    """
    if not path.startswith(UNTIMED):
        for load in receivers():
            load.read(path)


def add_source(path: str) -> None:
    """Add the file, or all files of the folder, of a table that is about to be read.

    Args:
        path: absolute.
    """
    for load in receivers():
        if os.path.isdir(path):
            load.read_folder(path)
        else:
            load.read(path)


def add_write(path: str, *, replaces: bool) -> None:
    """Note a file that is about to be written by the current loads.

    Args:
        path: absolute.
        replaces: whether nothing of the former content stays.
    """
    for load in receivers():
        load.write(path, replaces=replaces)


def add_tables(words: Iterable[str], tables: Iterable[str]) -> None:
    """Add the tables of a statement to the current loads.

    Args:
        words: names among which the tables are, in lower case.
        tables: the names to be shown.
    """
    slots, tables = {slot(word) for word in words}, tuple(tables)
    for load in receivers():
        load.slots |= slots
        load.tables.update(tables)


def refuse(reason: str) -> None:
    """Have the values of the current loads not cached.

    Args:
        reason: for the log.
    """
    for load in receivers():
        load.refusal = load.refusal or reason


def defer(reason: str) -> None:
    """Have the values of the current loads not cached this time.

    Args:
        reason: for :meth:`.CacheOptimizer.explain`.
    """
    for load in receivers():
        load.unsettled = load.unsettled or Problem(reason, is_passing=True)
