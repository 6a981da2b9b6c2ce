"""What can go wrong, said so that a person can act: what, which value, what to do."""

from __future__ import annotations


class KnitPerfError(Exception):
    """Any error that this package raises on purpose."""


class ConfigurationError(KnitPerfError):
    """A setting or argument that cannot be used.

    Args:
        key: its name.
        value: what was given.
        allowed: what may be given instead.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key} = {value!r} cannot be used: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


class Stopped(KnitPerfError):  # noqa: N818 (not a fault)
    """A job found that its process records no more; the housekeeper ends."""


class NPlusOneError(KnitPerfError):
    """Requests have asked a database once for each row, where a test forbids it.

    Args:
        found: a sentence for each.
    """

    def __init__(self, found: list[str]) -> None:
        super().__init__("N+1 queries:\n" + "\n".join(f"  {sentence}" for sentence in found))
        self.found = found


class StateError(KnitPerfError):
    """The state directory, or a file in it, cannot be used or read."""
