"""Names of waits: the host or the program alone, never a path, a query, a port or an argument.

Names come from the application, and some from its users. So each kind has a bounded number of them, and
anything that is not the name of a host or a program is ``<other>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import PartKind
from ...metrics.instruments import OTHER

MAX_NAMES = 50  # of each kind in a process; further ones are merged into OTHER
_MAX_CACHED = 1000
_MAX_CACHED_LENGTH = 253  # of a host; a line for a shell may be longer
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?|[0-9a-f:.]{2,45}")  # RFC 1123, IPv6
_PROGRAM = re.compile(r"[\w.+-]{1,60}")
_TEXT_TYPES = (str, bytes)
_SHELL = "sh"  # a line that begins with something else than a program


class PartNames:
    """Names of the parts of one kind.

    Args:
        kind: of the parts.
        parse: returns the name for a value, :data:`OTHER` for one without a name.
    """

    def __init__(self, kind: PartKind, parse: Callable[[Any], str]) -> None:
        self._kind = kind
        self._parse = parse
        self._cached: dict[str | bytes, str] = {}
        self._names: set[str] = set()

    def of(self, value: Any) -> str:
        """Return the name of the part, ``kind:name``.

        Args:
            value: a host or a program, as it is passed to a library.
        """
        is_text = type(value) in _TEXT_TYPES and len(value) <= _MAX_CACHED_LENGTH
        name = self._cached.get(value) if is_text else None
        if name is None:
            name = f"{self._kind.value}:{self._bounded(self._parse(value))}"
            if is_text:
                if len(self._cached) >= _MAX_CACHED:
                    self._cached.clear()
                self._cached[value] = name
        return name

    def _bounded(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= MAX_NAMES:
            return OTHER
        self._names.add(name)
        return name


def host(value: Any) -> str:
    """Return the name of a host in lower case, ``localhost`` for none."""
    if not value:
        return "localhost"
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return OTHER
    value = value.strip("[]").rstrip(".").partition("%")[0].lower()
    if not value.isascii():
        value = _punycode(value)
    return value if _HOST.fullmatch(value) else OTHER


def _punycode(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError as error:
        raise_if_of_host(error)
        return OTHER


def program(args: Any) -> str:
    """Return the name of a program without its folder.

    Args:
        args: of ``subprocess.Popen``: a list, a path, or a line for a shell.
    """
    if isinstance(args, list | tuple):
        args = args[0] if args else ""
    if isinstance(args, os.PathLike):
        args = os.fspath(args)
    if isinstance(args, bytes):
        args = os.fsdecode(args)
    if not isinstance(args, str):
        return OTHER
    if _PROGRAM.fullmatch(name := _last(args)):
        return name
    first = _last((args.split(None, 1) or [""])[0])
    return first if _PROGRAM.fullmatch(first) else _SHELL


def _last(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def library(module: Any) -> str:
    """Return the name of the library that a module belongs to."""
    name = module.partition(".")[0] if isinstance(module, str) else ""
    return name if _PROGRAM.fullmatch(name) else OTHER


HTTP = PartNames(PartKind.HTTP, host)
CONNECT = PartNames(PartKind.CONNECT, host)
DNS = PartNames(PartKind.DNS, host)
SUBPROCESS = PartNames(PartKind.SUBPROCESS, program)
SLEEP = PartNames(PartKind.SLEEP, library)
LOCK = PartNames(PartKind.LOCK, library)
POOL = PartNames(PartKind.POOL, library)
