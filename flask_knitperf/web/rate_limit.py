"""Rate limit of sign-in and of the pages."""

from __future__ import annotations

from collections.abc import Callable

from ..core.locks import Lock


class TokenBucket:
    """A token bucket, for all threads of this process.

    Args:
        burst: requests that may come at once.
        per_second: requests per second in the long run.
        clock: seconds; it may go back.
    """

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._tokens, self._filled_at = float(burst), clock()
        self._lock = Lock()

    def take(self) -> bool:
        """Take one token; return whether one was left."""
        with self._lock:
            now = self._clock()
            gained = max(0.0, now - self._filled_at) * self._per_second
            self._tokens, self._filled_at = min(self._burst, self._tokens + gained), now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
