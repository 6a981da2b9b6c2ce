"""Text of source lines that reports name, from the files of loaded modules.

A report names a line as ``folder/file.py:12`` (:func:`.code_locations.short`). Only the file of a module
that this process has imported is read for it, so that no name in a report opens another file.
"""

from __future__ import annotations

import linecache
import os
import sys

from .code_locations import is_own_file, short
from .host_exceptions import raise_if_of_host

MAX_CHARS = 120  # of a line, which is cut there
_AMBIGUOUS = ""


def source_text(where: str, since: float) -> str | None:
    """Return the text of a source line of the application, without its indentation.

    Args:
        where: ``folder/file.py:12``.
        since: seconds since the epoch; the lines of a file that was changed later may have moved.

    Returns:
        ``None`` where no loaded module, or several, have such a file, and where it was changed.
    """
    name, _, line = where.rpartition(":")
    path = _files().get(name) if line.isdecimal() else None
    if not path:
        return None
    try:
        if os.stat(path).st_mtime > since:
            return None
        text = linecache.getline(path, int(line)).strip()
    except (OSError, ValueError, SyntaxError) as error:
        raise_if_of_host(error)
        return None
    return (text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 2]} …") or None


def _files() -> dict[str, str]:
    """Return the files of the application's modules by their short names, empty where ambiguous."""
    files: dict[str, str] = {}
    for module in list(sys.modules.values()):
        path = vars(module).get("__file__") if hasattr(module, "__dict__") else None
        if isinstance(path, str) and is_own_file(path):
            name = short(path, 0).removesuffix(":0")
            files[name] = path if files.get(name, path) == path else _AMBIGUOUS
    return files
