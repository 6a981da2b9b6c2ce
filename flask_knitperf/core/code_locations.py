"""Classification of code (application or library), and call sites as ``folder/file.py:line``.

Application code is every file outside of the standard library, the folders of installed packages and
this package. Time spent in a library is attributed to the application line that called it.
"""

from __future__ import annotations

import dis
import functools
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from .host_exceptions import raise_if_of_host
from .package_folder import PACKAGE

_MAX_DEPTH = 200  # frames searched for a call site


def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {
        paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths
    }
    folders.update(getattr(site, "getsitepackages", list)())
    folders.add(PACKAGE)
    real = {os.path.realpath(path) for path in folders}
    return tuple(sorted(path.rstrip(os.sep) + os.sep for path in folders | real if path))


_LIBRARIES = _libraries()
# File name of our code objects that must look as if they lay in a library's folder.
OURS_ELSEWHERE = "(called by flask_knitperf)"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_own_by_id: dict[int, tuple[bool, CodeType]] = {}  # by id: hashing a code object is expensive
_MAX_CODE_OBJECTS = 20_000


def is_own_file(name: str) -> bool:
    """Return whether a source file belongs to the application."""
    if name.startswith("<") or not name:
        return False
    name = os.path.abspath(name)
    return not name.startswith(_LIBRARIES) and not any(part in name for part in _INSTALLED)


def own_modules() -> Iterator[tuple[ModuleType, str]]:
    """Yield the loaded modules of the application, each with the name of its file."""
    for module in list(sys.modules.values()):
        if not issubclass(type(module), ModuleType):
            continue
        # not getattr: a module that is loaded lazily would be loaded by it
        file = object.__getattribute__(module, "__dict__").get("__file__")
        if isinstance(file, str) and is_own_file(file):
            yield module, file


def is_own(code: CodeType) -> bool:
    """Return whether code belongs to the application; cached by code object."""
    entry = _own_by_id.get(id(code))
    if entry is None:
        entry = is_own_file(code.co_filename), code
        if len(_own_by_id) >= _MAX_CODE_OBJECTS:
            _own_by_id.clear()
        _own_by_id[id(code)] = entry
    return entry[0]


def is_ours(code: CodeType) -> bool:
    """Return whether code belongs to this package."""
    return code.co_filename.startswith(PACKAGE) or code.co_filename.endswith(OURS_ELSEWHERE)


@functools.lru_cache(maxsize=1024)
def loops(code: CodeType) -> tuple[tuple[int, int], ...]:
    """Return the (first, last) bytecode offsets of the ``for`` loops and comprehensions in code.

    The first one is that of the loop's head. Outer loops come before those in them.
    """
    steps = list(dis.get_instructions(code))
    heads = {step.offset for step in steps if step.opname == "FOR_ITER"}
    last: dict[int, int] = {}
    for step in steps:
        if "JUMP_BACKWARD" in step.opname and step.argval in heads:
            last[step.argval] = step.offset  # of several, e.g. of ``continue``, the last one
    return tuple(sorted(last.items()))


def short(name: str, line: int) -> str:
    """Return ``folder/file.py:line``, the form in which reports show a call site."""
    return f"{'/'.join(name.replace(chr(92), '/').split('/')[-2:])}:{line}"


def line_of(frame: FrameType) -> int:
    """Return the current source line of a frame; of a Jinja frame the line in the template."""
    template = frame.f_globals.get("__jinja_template__")
    line = frame.f_lineno or frame.f_code.co_firstlineno
    return line if template is None else int(template.get_corresponding_lineno(line))


_call_sites: dict[tuple[int, int], tuple[str, CodeType]] = {}  # by id of the code and offset in it
_MAX_CALL_SITES = 4096


def _resolve(frame: FrameType) -> str:
    """Return the call site of a frame and cache it: line look-up is linear in the function's length."""
    code = frame.f_code
    site = short(code.co_filename, line_of(frame))
    if len(_call_sites) >= _MAX_CALL_SITES:
        _call_sites.clear()
    _call_sites[id(code), frame.f_lasti] = site, code
    return site


def call_site(frame: FrameType) -> str:
    """Return the call site of a frame."""
    entry = _call_sites.get((id(frame.f_code), frame.f_lasti))
    return entry[0] if entry is not None and entry[1] is frame.f_code else _resolve(frame)


def caller(depth: int = 1) -> str:
    """Return the innermost call site in application code, empty where there is none.

    Args:
        depth: number of callers to skip.
    """
    try:
        frame: FrameType | None = sys._getframe(depth + 1)
    except ValueError as error:  # a thread that began with a call in C has no frame there
        raise_if_of_host(error)
        return ""
    for _ in range(_MAX_DEPTH):
        if frame is None:
            break
        code = frame.f_code
        entry = _call_sites.get((id(code), frame.f_lasti))
        if entry is not None and entry[1] is code:
            return entry[0]
        if is_own(code):
            return _resolve(frame)
        frame = frame.f_back
    return ""


def callers(most: int, depth: int = 1) -> tuple[str, ...]:
    """Return the call sites in application code with their functions, the innermost first.

    Args:
        most: maximum number of call sites.
        depth: number of callers to skip.
    """
    sites: list[str] = []
    try:
        frame: FrameType | None = sys._getframe(depth + 1)
    except ValueError as error:
        raise_if_of_host(error)
        return ()
    for _ in range(_MAX_DEPTH):
        if frame is None or len(sites) >= most:
            break
        code = frame.f_code
        if is_own(code):
            sites.append(f"{call_site(frame)} in {code.co_name}")
        frame = frame.f_back
    return tuple(sites)


def call_from(
    depth: int, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a method from a frame that has the file, the line and the globals of a caller's.

    Python's warnings name the line of a frame and are filtered by the module in its globals; a frame
    cannot be left out, but the one that calls may pass for that of the application.

    Args:
        depth: number of callers to skip.
        method: what is called.
        args: of the method.
        kwargs: of the method.
    """
    try:
        host = sys._getframe(depth + 1)
    except ValueError as error:
        raise_if_of_host(error)
        return method(*args, **kwargs)
    code = _code_at(host.f_code.co_filename, host.f_lineno or host.f_code.co_firstlineno)
    return FunctionType(code, host.f_globals)(method, args, kwargs)


@functools.lru_cache(maxsize=_MAX_CALL_SITES)
def _code_at(file: str, line: int) -> CodeType:
    """Return code on one line of a file that calls a function."""
    code = (lambda method, args, kwargs: method(*args, **kwargs)).__code__
    return code.replace(co_filename=file, co_firstlineno=line, co_name=OURS_ELSEWHERE)
