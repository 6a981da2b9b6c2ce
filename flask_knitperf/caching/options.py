"""Options of a cached function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .call_keys import KeyOptions
from .code_identity import callable_digest
from .dependencies import Declared


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a cached function.

    Attributes:
        namespace: name under which it is reported and invalidated.
        ttl: seconds until a value expires; infinite where ``auto_ttl`` is set.
        auto_ttl: whether the lifetime of each value is tuned.
        tags: names by which its values are invalidated too.
        keys: what of a call is its key.
        errors: exceptions that are cached like values.
        stale: seconds after the expiry in which the old value is served while one call loads.
        stale_if_error: seconds after the expiry in which the old value is served if loading raises.
        early: factor of the mean time before the expiry at which one call loads a value again, in load
            times; 0 for never.
        share: whether other processes find its values; ``None`` by their size.
        depends: what its values depend on.
        warm: whether values are loaded before a call needs them; a function returns the arguments to
            begin with.
    """

    namespace: str
    ttl: float = math.inf
    auto_ttl: bool = False
    tags: tuple[str, ...] = ()
    keys: KeyOptions = field(default_factory=KeyOptions)
    errors: tuple[type[Exception], ...] = ()
    stale: float = 0.0
    stale_if_error: float = 0.0
    early: float = 0.0
    share: bool | None = None
    depends: Declared = field(default_factory=Declared)
    warm: bool | Callable[[], Iterable[Any]] = False

    @property
    def expires(self) -> bool:
        """Whether its values expire."""
        return self.auto_ttl or math.isfinite(self.ttl)

    def shared(self) -> tuple[Any, ...]:
        """Return those that two caches of one function must have in common to share values.

        Raises:
            NotShareable: a function among them encloses a value without content.
        """
        keys = self.keys
        return (
            self.ttl, self.auto_ttl, self.tags, self.depends, tuple(sorted(keys.ignore)),
            None if keys.key is None else callable_digest(keys.key),
            tuple(map(callable_digest, keys.vary)),
        )  # fmt: skip
