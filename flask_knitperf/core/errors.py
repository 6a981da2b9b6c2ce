"""Exceptions. Each message names what failed, the value, and what to do."""

from __future__ import annotations


class KnitPerfError(Exception):
    """Any error that this package raises on purpose."""


class ConfigurationError(KnitPerfError):
    """A setting or argument that cannot be used.

    Args:
        key: its name.
        value: the rejected value.
        allowed: description of the accepted values.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key} = {value!r} cannot be used: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


class CacheKeyError(KnitPerfError):
    """An argument of a cached function has no content that could be a cache key."""


class Stopped(KnitPerfError):  # noqa: N818 (not a fault)
    """Raised by a job when its process has stopped recording; ends the housekeeper."""


class NPlusOneError(KnitPerfError):
    """Requests ran one query per row where a test forbids it.

    Attributes:
        findings: one sentence per N+1 query.
    """

    def __init__(self, findings: list[str]) -> None:
        super().__init__("N+1 queries:\n" + "\n".join(f"  {sentence}" for sentence in findings))
        self.findings = findings


class StateError(KnitPerfError):
    """The state directory, or a file in it, cannot be used or read."""


class HistoryError(KnitPerfError):
    """The database of the history cannot be used or read."""
