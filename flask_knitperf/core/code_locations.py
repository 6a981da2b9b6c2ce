"""Whose code is it: the application's own, or a library's; and how a place in it is written.

Own is every file that lies neither in the standard library nor where packages are installed, nor in
this package. Time spent in a library belongs to the line of own code that called it.
"""

from __future__ import annotations

import dis
import functools
import os
import site
import sys
import sysconfig
from types import CodeType, FrameType

_DEEP = 200


def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {
        paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths
    }
    found.update(getattr(site, "getsitepackages", list)())
    found.add(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    real = {os.path.realpath(path) for path in found}
    return tuple(sorted(path.rstrip(os.sep) + os.sep for path in found | real if path))


_LIBRARIES = _libraries()
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""Folder of this package, with a separator at its end."""
OURS_ELSEWHERE = "(called by flask_knitperf)"
"""The file of code of this package that has to look as if it lay in a library's folder."""
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_known: dict[int, tuple[bool, CodeType]] = {}  # by id: hashing code is dear
_KNOWN_KEPT = 20_000


def is_own_file(name: str) -> bool:
    """Return whether a source file is the application's own."""
    if name.startswith("<") or not name:
        return False
    name = os.path.abspath(name)
    return not name.startswith(_LIBRARIES) and not any(part in name for part in _INSTALLED)


def is_own(code: CodeType) -> bool:
    """Return whether code is the application's own; what was asked before is remembered."""
    found = _known.get(id(code))
    if found is None:
        found = is_own_file(code.co_filename), code
        if len(_known) >= _KNOWN_KEPT:
            _known.clear()
        _known[id(code)] = found
    return found[0]


def is_ours(code: CodeType) -> bool:
    """Return whether code is of this package."""
    return code.co_filename.startswith(PACKAGE) or code.co_filename.endswith(OURS_ELSEWHERE)


@functools.lru_cache(maxsize=1024)
def loops(code: CodeType) -> tuple[tuple[int, int], ...]:
    """Return the offsets between which code is in a ``for`` loop or a comprehension."""
    steps = list(dis.get_instructions(code))
    heads = {step.offset for step in steps if step.opname == "FOR_ITER"}
    return tuple(
        (step.argval, step.offset)
        for step in steps if "JUMP_BACKWARD" in step.opname and step.argval in heads
    )  # fmt: skip


def short(name: str, line: int) -> str:
    """Return a place as it is shown: the file with its folder, and the line."""
    return f"{'/'.join(name.replace(chr(92), '/').split('/')[-2:])}:{line}"


def line_of(frame: FrameType) -> int:
    """Return the line that runs in a frame, of the source: templates run as code that Jinja wrote."""
    template = frame.f_globals.get("__jinja_template__")
    line = frame.f_lineno or frame.f_code.co_firstlineno
    return line if template is None else int(template.get_corresponding_lineno(line))


_callers: dict[tuple[int, int], tuple[str, CodeType]] = {}  # by id of the code and step in it
_CALLERS_KEPT = 4096


def _learn(frame: FrameType) -> str:
    """Find out where a frame is; looking up a line takes longer the longer its function is."""
    code = frame.f_code
    place = short(code.co_filename, line_of(frame))
    if len(_callers) >= _CALLERS_KEPT:
        _callers.clear()
    _callers[id(code), frame.f_lasti] = place, code
    return place


def caller(depth: int = 1) -> str:
    """Return the innermost place of own code that led here, empty where there is none.

    Args:
        depth: how many callers to leave out.
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    for _ in range(_DEEP):
        if frame is None:
            break
        code = frame.f_code
        found = _callers.get((id(code), frame.f_lasti))
        if found is not None and found[1] is code:
            return found[0]
        if is_own(code):
            return _learn(frame)
        frame = frame.f_back
    return ""


def callers(most: int, depth: int = 1) -> tuple[str, ...]:
    """Return the places of own code that led here with their functions, the innermost first.

    Args:
        most: how many at most.
        depth: how many callers to leave out.
    """
    found: list[str] = []
    frame: FrameType | None = sys._getframe(depth + 1)
    for _ in range(_DEEP):
        if frame is None or len(found) >= most:
            break
        code = frame.f_code
        if is_own(code):
            known = _callers.get((id(code), frame.f_lasti))
            place = known[0] if known is not None and known[1] is code else _learn(frame)
            found.append(f"{place} in {code.co_name}")
        frame = frame.f_back
    return tuple(found)
