"""Caches. Their values can be made again, so they give way when memory presses."""

from .weak_cache import WeakCache

__all__ = ["WeakCache"]
