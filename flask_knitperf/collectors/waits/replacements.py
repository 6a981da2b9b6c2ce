"""Replacement of functions and methods that wait, while at least one application needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ...core.code_locations import own_modules
from ...core.locks import create_lock

_ABSENT = object()


class Switch:
    """Whether replacements are in use. Those that others have wrapped stay, without effect."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = True


class Target(NamedTuple):
    """A function or method to replace.

    Attributes:
        owner: module or class.
        name: of the attribute.
        wrap: returns the replacement of the original.
        is_imported: whether modules of the application may hold it under a name (``from … import``).
    """

    owner: Any
    name: str
    wrap: Callable[[Any, Switch], Any]
    is_imported: bool = False


class Replacements:
    """Replaces targets once that is needed, and restores them at the last :meth:`release`.

    Args:
        targets: returns the targets; called once they are needed, so that no import costs a process
            that records nothing.
        is_ready: returns whether there are targets yet: the application may import a library late.
    """

    def __init__(
        self, targets: Callable[[], Iterable[Target]], is_ready: Callable[[], bool] = lambda: True
    ) -> None:
        self._targets, self._is_ready = targets, is_ready
        self._users = 0
        self._lock = create_lock()
        self._switch = Switch()
        self._replaced: list[tuple[Any, str, Any, Any]] = []  # owner, name, original, replacement

    @property
    def installed(self) -> bool:
        """Whether the targets are replaced at present."""
        return bool(self._replaced)

    def acquire(self) -> None:
        """Have :meth:`install_if_ready` replace the targets; each call needs a :meth:`release`."""
        with self._lock:
            self._users += 1

    def install_if_ready(self) -> None:
        """Replace the targets if an application needs that, and it has imported them by now."""
        if self._replaced or not self._is_ready():
            return
        with self._lock:
            if self._users and not self._replaced:
                self._switch = Switch()
                self._install()

    def give_up(self) -> None:
        """Replace no targets any more."""
        self._is_ready = lambda: False

    def release(self) -> None:
        """Undo one :meth:`acquire`; the last one restores the targets."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            self._switch.is_on = False
            replaced, self._replaced = self._replaced, []
            for owner, name, original, replacement in reversed(replaced):
                if vars(owner).get(name) is not replacement:
                    continue  # others have wrapped it
                if original is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)

    def _install(self) -> None:
        imported: dict[int, tuple[Any, Any]] = {}  # original and replacement, by id of the original
        for owner, name, wrap, is_imported in self._targets():
            original = getattr(owner, name, None)
            if original is None:
                continue
            replacement = wrap(original, self._switch)
            self._replaced.append((owner, name, vars(owner).get(name, _ABSENT), replacement))
            setattr(owner, name, replacement)
            if is_imported:
                imported[id(original)] = original, replacement
        for module, _ in own_modules() if imported else ():
            self._replace_in(module, imported)

    def _replace_in(self, module: Any, imported: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(vars(module).items()):
            pair = imported.get(id(value))
            if pair is not None:
                self._replaced.append((module, name, *pair))
                setattr(module, name, pair[1])


class Builtin:
    """A function in the place of one in C: as an attribute of a class it is not a method either.

    Args:
        original: the function.
        call: called in its place.

    Attributes:
        original: the function.
    """

    def __init__(self, original: Any, call: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self.original = original
        self.__self__ = getattr(original, "__self__", None)
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.original)

    def __reduce__(self) -> str:
        return str(self.__qualname__)  # type: ignore[attr-defined]
