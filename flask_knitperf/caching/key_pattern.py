"""Patterns of cache keys: what keys have in common, without anything that users sent.

A pattern keeps the structure of a key and its types, and of its words those that stand in the source of
functions of the modules that use it: ``f"yarn:{scope}:lbs"`` has the pattern ``yarn:#:lbs`` whatever the
scope. Digits become ``#``, all else but separators ``*``, and objects the name of their type.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeAlias

from ..core.code_locations import is_own

Words: TypeAlias = "tuple[frozenset[str], ...]"
"""Words that stand in the source, by module."""
MAX_PATTERN = 80
"""Number of characters of a pattern; a longer one is cut."""
_MAX_PARTS = 8
"""Number of parts of a key that is a tuple, and of own functions whose modules are searched."""
_MAX_FRAMES = 60
_MAX_TEXT = 200
_MIN_WORD = 2
"""Number of letters of a word; single ones are parts of digests as often."""
_TOKEN = re.compile(
    r"(?P<digits>\d+)|(?P<word>[^\W\d_]+)|(?P<sign>[:/._\-|,;=@# ])|(?P<other>.)", re.DOTALL
)
_MODULES: dict[str, frozenset[str]] = {}  # words by name of the module
_MAX_MODULES = 500


def pattern_of(key: Any, known: Words) -> str:
    """Return the pattern of a key.

    Args:
        key: any object; its own code is not called.
        known: words that stand in the source.
    """
    return _pattern(key, known, 0)[:MAX_PATTERN]


def _pattern(key: Any, known: Words, depth: int) -> str:
    kind = type(key)
    if kind is str:
        return _of_text(key, known) if depth == 0 else f"'{_of_text(key, known)}'"
    if key is None or kind is bool:
        return str(key)
    if kind is int:
        return "#"
    if kind is float:
        return "#.#"
    if issubclass(kind, tuple) and depth < 2:
        parts = [
            _pattern(tuple.__getitem__(key, n), known, depth + 1)
            for n in range(min(tuple.__len__(key), _MAX_PARTS))
        ]
        if tuple.__len__(key) > _MAX_PARTS:
            parts.append("…")
        return f"({', '.join(parts)})"
    return f"<{kind.__name__}>"


def _of_text(text: str, known: Words) -> str:
    parts: list[str] = []
    for token in _TOKEN.finditer(text[:_MAX_TEXT]):
        kind, part = token.lastgroup, token[0]
        if kind == "digits":
            part = "#"
        elif kind == "other" or (kind == "word" and not _is_known(part, known)):
            part = "*"
        if part in ("#", "*") and parts and parts[-1] in ("#", "*"):
            parts[-1] = part if parts[-1] == part else "*"  # such as a digest
        else:
            parts.append(part)
    return "".join(parts)


def _is_known(word: str, known: Words) -> bool:
    return len(word) >= _MIN_WORD and any(word in words for words in known)


def words_in_source(depth: int = 1) -> Words:
    """Return the words of the texts in own modules whose functions are running.

    Args:
        depth: number of callers to skip.
    """
    words: list[frozenset[str]] = []
    frame: FrameType | None = sys._getframe(depth)
    for _ in range(_MAX_FRAMES):
        if frame is None or len(words) >= _MAX_PARTS:
            break
        if is_own(frame.f_code):
            of_module = _words_of_module(frame.f_globals)
            if of_module not in words:
                words.append(of_module)
        frame = frame.f_back
    return tuple(words)


def _words_of_module(namespace: Mapping[str, Any]) -> frozenset[str]:
    """Return the words of the functions of a module."""
    name = namespace.get("__name__")
    if type(name) is not str:
        return frozenset()
    words = _MODULES.get(name)
    if words is None:
        if len(_MODULES) >= _MAX_MODULES:
            _MODULES.clear()
        words = _MODULES[name] = _words_of(_texts_of_module(name, namespace))
    return words


def _texts_of_module(name: str, namespace: Mapping[str, Any]) -> Iterator[str]:
    for value in list(namespace.values()):
        if isinstance(value, FunctionType):
            inner = getattr(value, "__wrapped__", value)
            yield from _texts(
                (inner if isinstance(inner, FunctionType) else value).__code__.co_consts
            )
        elif isinstance(value, type) and value.__module__ == name:
            for method in vars(value).values():
                if isinstance(method, FunctionType):
                    yield from _texts(method.__code__.co_consts)


def _words_of(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(
        token[0] for text in texts for token in _TOKEN.finditer(text) if token.lastgroup == "word"
    )


def _texts(constants: tuple[Any, ...]) -> Iterator[str]:
    for constant in constants:
        if type(constant) is str:
            yield constant[:_MAX_TEXT]
        elif type(constant) is tuple:
            yield from _texts(constant)
        elif type(constant) is CodeType:  # of a comprehension, or an inner function
            yield from _texts(constant.co_consts)
