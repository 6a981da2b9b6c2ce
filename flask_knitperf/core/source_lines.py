"""Text of source lines that reports name, from the files of loaded modules.

A report names a line as ``folder/file.py:12`` (:func:`.code_locations.short`). Only the file of a module
that this process has imported is read for it, so that no name in a report opens another file.
"""

from __future__ import annotations

import functools
import linecache
import os

from .code_locations import own_modules, short
from .host_exceptions import raise_if_of_host

MAX_CHARS = 120  # of a line, which is cut there
_AMBIGUOUS = ""


class SourceLines:
    """Source lines of the application; the files of modules are looked up once.

    Args:
        since: seconds since the epoch; the lines of a file that was changed later may have moved.
    """

    def __init__(self, since: float) -> None:
        self._since = since

    def text(self, where: str) -> str | None:
        """Return the text of a source line, without its indentation.

        Args:
            where: ``folder/file.py:12``.

        Returns:
            ``None`` where no loaded module, or several, have such a file, and where it was changed.
        """
        name, _, line = where.rpartition(":")
        path = self._files.get(name) if line.isdecimal() else None
        if not path:
            return None
        try:
            if os.stat(path).st_mtime > self._since:
                return None
            linecache.checkcache(path)
            text = linecache.getline(path, int(line)).strip()
        except (OSError, ValueError, SyntaxError) as error:
            raise_if_of_host(error)
            return None
        return (text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 2]} …") or None

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        """Files of the application's modules by their short names, empty where ambiguous."""
        files: dict[str, str] = {}
        for _, path in own_modules():
            name = short(path, 0).removesuffix(":0")
            files[name] = path if files.get(name, path) == path else _AMBIGUOUS
        return files
