"""Caches whose values can be computed again, so they shrink when memory is short."""

from .weak_cache import WeakCache

__all__ = ["WeakCache"]
